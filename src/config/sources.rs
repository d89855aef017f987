//! Settings of what is read beside the cluster: metrics, logs that are kept elsewhere, who is on call.

use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;

use crate::config::overlay::{password, read_secret};

/// A server beside the cluster: Prometheus, Loki or Alertmanager, or what speaks their API.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryServer {
    /// Before `/api/v1/...`, `/loki/api/v1/...` or `/api/v2/...`: `http://prometheus.monitoring.svc:9090`.
    pub url: String,
    pub bearer_token: Option<SecretString>,
    pub bearer_token_file: Option<PathBuf>,
    pub basic_user: Option<String>,
    pub basic_password: Option<SecretString>,
    pub basic_password_file: Option<PathBuf>,
    /// Authorities to trust beside the system's, as PEM.
    pub ca_file: Option<PathBuf>,
    /// `X-Scope-OrgID`, where the server has several tenants.
    pub tenant: Option<String>,
    /// The label that holds the namespace of a series, stream or alert.
    #[serde(default = "namespace_label")]
    pub namespace_label: String,
}

fn namespace_label() -> String {
    "namespace".into()
}

impl QueryServer {
    pub(super) fn read_secret_files(&mut self, key: &str) -> Result<(), String> {
        read_secret(&format!("{key}.bearer_token"), &mut self.bearer_token, &self.bearer_token_file)?;
        read_secret(&format!("{key}.basic_password"), &mut self.basic_password, &self.basic_password_file)
    }

    pub(super) fn check(&self, key: &str) -> Result<(), String> {
        is_web(&self.url, &format!("{key}.url"))?;
        if self.basic_user.is_some() != self.basic_password.is_some() {
            return Err(format!("{key}: basic_user and basic_password_file go together"));
        }
        let label = &self.namespace_label;
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if label.is_empty() || label.starts_with(|c: char| c.is_ascii_digit()) || !label.chars().all(fits) {
            return Err(format!("{key}.namespace_label: `{label}` is no label's name"));
        }
        Ok(())
    }
}

/// Markdown files with the labels of the alerts that each is for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runbooks {
    pub folder: PathBuf,
    /// Where people read them, with `{file}` for a file's name; a `url` in a file's front matter wins.
    pub url: Option<String>,
}

/// PagerDuty's REST API, with a read-only key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PagerDuty {
    /// `https://api.eu.pagerduty.com` for accounts of the EU region.
    #[serde(default = "pagerduty_url")]
    pub url: String,
    pub token: Option<SecretString>,
    pub token_file: Option<PathBuf>,
    /// Ids of the services that are looked at; empty: all that the key may read.
    #[serde(default)]
    pub services: Vec<String>,
}

fn pagerduty_url() -> String {
    "https://api.pagerduty.com".into()
}

impl PagerDuty {
    pub(super) fn check(&self) -> Result<(), String> {
        is_web(&self.url, "pagerduty.url")?;
        if self.token.is_none() {
            return Err("pagerduty.token_file: a read-only REST API key is needed".into());
        }
        let is_id = |id: &&String| !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric());
        match self.services.iter().find(|id| !is_id(id)) {
            Some(id) => Err(format!("pagerduty.services: `{id}` is no id of a service, such as PIJ90N7")),
            None => Ok(()),
        }
    }
}

/// Whether `url` is one of the web, without a login in it.
pub(super) fn is_web(url: &str, key: &str) -> Result<(), String> {
    if !url.starts_with("https://") && !url.starts_with("http://") {
        return Err(format!("{key}: it is no http(s) URL"));
    }
    // The URL itself is not repeated: it holds a password.
    if password(url).is_some() {
        return Err(format!("{key}: a login does not belong into the URL; use basic_user and basic_password_file"));
    }
    Ok(())
}
