//! The listeners, each with its own address and credential.

use std::net::SocketAddr;
use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;

/// Listeners, each with its own address and credential.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listeners {
    pub webhook: WebhookListener,
    /// Signed HTTP for Slack's clicks; not needed with Socket Mode.
    pub slack: Option<SlackListener>,
    /// Other MCP clients.
    pub mcp: Option<McpListener>,
    pub admin: AdminListener,
}

/// `POST /webhook/alertmanager`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookListener {
    pub address: SocketAddr,
    pub bearer_token: Option<SecretString>,
    pub bearer_token_file: Option<PathBuf>,
    pub basic_user: Option<String>,
    pub basic_password: Option<SecretString>,
    pub basic_password_file: Option<PathBuf>,
}

impl Default for WebhookListener {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 8080)),
            bearer_token: None,
            bearer_token_file: None,
            basic_user: None,
            basic_password: None,
            basic_password_file: None,
        }
    }
}

/// `POST /slack/interactivity`; its credential is `slack.signing_secret`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlackListener {
    pub address: SocketAddr,
}

/// `/healthz`, `/readyz`, `/metrics`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminListener {
    pub address: SocketAddr,
    pub metrics_bearer_token: Option<SecretString>,
    pub metrics_bearer_token_file: Option<PathBuf>,
    /// Serve `/metrics` without a token also on a non-loopback address.
    pub metrics_open: bool,
}

impl Default for AdminListener {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 9090)),
            metrics_bearer_token: None,
            metrics_bearer_token_file: None,
            metrics_open: false,
        }
    }
}

/// `/mcp` and `/mcp/SERVER`: the tool servers behind the gate, for any MCP client; absent unless it is configured.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct McpListener {
    pub address: SocketAddr,
    /// Names by which clients reach it besides loopback (`firstlook.ops.svc`); the `Host` header is checked.
    #[serde(default)]
    pub allowed_hosts: Vec<String>,
    /// Pages of browsers that may call besides those of this machine (`https://agents.example:443`).
    #[serde(default)]
    pub allowed_origins: Vec<String>,
    /// On loopback: whoever reaches the port needs no token, and reaches everything.
    #[serde(default)]
    pub without_token: bool,
}

impl Listeners {
    /// Nobody comes in from outside without a credential.
    pub(super) fn check(&self, has_model: bool, has_callers: bool) -> Result<(), String> {
        let (webhook, admin) = (&self.webhook, &self.admin);
        let has_basic = webhook.basic_user.is_some() && webhook.basic_password.is_some();
        if !webhook.address.ip().is_loopback() && webhook.bearer_token.is_none() && !has_basic {
            return Err(exposed("listeners.webhook", webhook.address, "listeners.webhook.bearer_token_file"));
        }
        if webhook.basic_user.is_some() != webhook.basic_password.is_some() {
            return Err("listeners.webhook: basic_user and basic_password_file go together".into());
        }
        // A model spends money on whatever comes in, so whoever may send is known even on loopback.
        if has_model && webhook.bearer_token.is_none() && !has_basic {
            return Err(
                "listeners.webhook.bearer_token_file: needed with a model, since every alert spends tokens".into()
            );
        }
        if !admin.address.ip().is_loopback() && admin.metrics_bearer_token.is_none() && !admin.metrics_open {
            return Err(exposed(
                "listeners.admin",
                admin.address,
                "listeners.admin.metrics_bearer_token_file (or metrics_open: true)",
            ));
        }
        if let Some(mcp) = &self.mcp {
            mcp.check(has_callers)?;
        }
        Ok(())
    }
}

impl McpListener {
    /// What is missing before it may listen, if anything.
    pub(super) fn check(&self, has_callers: bool) -> Result<(), String> {
        if self.without_token && !self.address.ip().is_loopback() {
            return Err(format!("listeners.mcp.without_token: {} is not loopback; use mcp_callers_file", self.address));
        }
        if !has_callers && !self.without_token {
            return Err(
                "listeners.mcp: nobody may call; set mcp_callers_file (an entry is made by `firstlook mcp token`), \
                        or listeners.mcp.without_token on loopback"
                    .into(),
            );
        }
        Ok(())
    }
}

/// A listener that whoever reaches it may use.
pub(super) fn exposed(listener: &str, address: SocketAddr, setting: &str) -> String {
    format!("{listener}: {address} is not loopback and has no credential; set {setting}")
}
