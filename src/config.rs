//! Configuration: one YAML file with an environment overlay, checked whole before anything starts.

mod listeners;
mod model;
mod overlay;
mod record;
mod servers;
mod sources;

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

use crate::config::listeners::exposed;
pub use crate::config::listeners::{AdminListener, Listeners, McpListener, SlackListener, WebhookListener};
pub use crate::config::model::Model;
pub use crate::config::overlay::environment;
use crate::config::overlay::{at_fault, inline_secret, line_of, overlay, password, read_secret, unused, variable_of};
pub use crate::config::record::{Audit, Price, Promotion};
pub use crate::config::servers::{McpServer, McpTool, Tools};
pub use crate::config::sources::{PagerDuty, QueryServer, Runbooks};
use crate::model::{ClusterName, Name, Patience};

/// The environment overlay: `FIRSTLOOK_SLACK__CHANNEL=C1` sets `slack.channel`, `FIRSTLOOK_CLUSTER=prod` sets `cluster`.
pub const ENVIRONMENT_PREFIX: &str = "FIRSTLOOK_";

/// The whole configuration. Unknown keys are refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The cluster's name on every card and row.
    pub cluster: String,
    #[serde(default)]
    pub kubernetes: Kubernetes,
    #[serde(default)]
    pub store: StoreConfig,
    #[serde(default)]
    pub listeners: Listeners,
    /// Without it cards go to stdout.
    pub slack: Option<Slack>,
    /// Without it the card is made from the findings alone.
    pub model: Option<Model>,
    /// Metrics: without it there is no tool server `k8s-metrics`.
    pub prometheus: Option<QueryServer>,
    /// Without it the model has no tool for runbooks; what an alert links is on the card all the same.
    pub runbooks: Option<Runbooks>,
    /// Logs that are kept: without it there is no tool server `loki`.
    pub loki: Option<QueryServer>,
    /// Who is on call and what is open there: without it there is no tool server `pagerduty`.
    pub pagerduty: Option<PagerDuty>,
    /// Where silences are asked for: without it there is no tool server `alertmanager`.
    pub alertmanager: Option<QueryServer>,
    /// Which of firstlook's own tools there are.
    #[serde(default)]
    pub tools: Tools,
    /// Other MCP servers, whose listed tools the model may read by.
    #[serde(default)]
    pub mcp_servers: Vec<McpServer>,
    /// The policy file; without it nobody may approve anything.
    pub policy_file: Option<PathBuf>,
    /// Who may call through `listeners.mcp`: a file with the hashes of their tokens.
    pub mcp_callers_file: Option<PathBuf>,
    #[serde(default)]
    pub watch: Patience,
    #[serde(default)]
    pub incidents: Incidents,
    #[serde(default)]
    pub links: Links,
    /// `policy check` warns of a standing leave whose tool has less of a record in its namespace.
    #[serde(default)]
    pub promotion: Promotion,
    #[serde(default)]
    pub audit: Audit,
    /// The file as it was read; it holds no secrets.
    #[serde(skip)]
    pub text: String,
    /// Variables of the environment with firstlook's prefix that set nothing.
    #[serde(skip)]
    pub unused_variables: Vec<String>,
}

/// How the API server is reached.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kubernetes {
    /// Outside a cluster: the kubeconfig file; default `$KUBECONFIG` or `~/.kube/config`. Inside, the ServiceAccount.
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context; default its current one.
    pub context: Option<String>,
    /// Where firstlook's own ServiceAccounts live.
    pub namespace: String,
    /// Prefix of the accounts' names: `firstlook` gives `firstlook-preview` and `firstlook-write`.
    pub account: String,
    /// Only these namespaces are watched and read, by Roles alone (`firstlook rbac --config`); empty: the whole cluster.
    pub namespaces: Vec<Name>,
    /// Whether actions are possible at all; off: nothing is offered or changed, in the cluster and in Alertmanager, and no
    /// token of the writing accounts is ever asked for.
    pub writes: bool,
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            context: None,
            namespace: "firstlook".into(),
            account: "firstlook".into(),
            namespaces: Vec::new(),
            writes: true,
        }
    }
}

/// Where everything is kept.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// `sqlite:FILE`, or `postgres://...`; a URL with a password belongs into `url_file`.
    pub url: Option<SecretString>,
    pub url_file: Option<PathBuf>,
    /// How long closed incidents and their audit are kept.
    pub keep_days: u32,
    /// What the database may take, in MiB. Nearing it is told in `/readyz`, the metrics and the log; a SQLite file then
    /// loses its oldest closed incidents, and never grows beyond it.
    pub size_max_mib: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        // 30 days: the record that policy rehearsal and autonomy look back on.
        // 900 MiB: what fits into a volume of 1 GiB (deploy/), with its log beside it.
        Self { url: None, url_file: None, keep_days: 30, size_max_mib: 900 }
    }
}

/// The Slack app that posts the cards.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slack {
    /// The channel's id (`C0123456789`), not its name.
    pub channel: String,
    pub bot_token: Option<SecretString>,
    pub bot_token_file: Option<PathBuf>,
    /// Socket Mode: the app-level token (`xapp-...`).
    pub app_token: Option<SecretString>,
    pub app_token_file: Option<PathBuf>,
    /// Signed HTTP: the app's signing secret.
    pub signing_secret: Option<SecretString>,
    pub signing_secret_file: Option<PathBuf>,
    #[serde(default = "slack_api")]
    pub api_url: String,
}

fn slack_api() -> String {
    "https://slack.com/api".into()
}

/// How signals become incidents. Nothing here needs to be set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Incidents {
    /// An incident that ended less than this ago is opened again by news of its subject.
    pub reopen_minutes: u32,
    /// Most signals, and most objects, that one incident lists by name.
    pub listed_max: usize,
    /// Alerts that fire always, by design, beside Watchdog, InfoInhibitor and dead man's switches, which are known. Case,
    /// `-` and `_` make no difference.
    pub always_firing: Vec<String>,
}

impl Default for Incidents {
    fn default() -> Self {
        // 30 min: two default group intervals of Alertmanager, within which flapping looks like one trouble.
        // 200: what a person can still look through; a storm has more, which say nothing new.
        Self { reopen_minutes: 30, listed_max: 200, always_firing: Vec::new() }
    }
}

/// Links on the card: URL templates with `{namespace}`, `{kind}`, `{name}`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Links {
    pub dashboard: Option<String>,
}

/// A configuration that cannot be used: which file, line and key, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {what}")]
pub struct ConfigError {
    pub file: String,
    pub what: String,
}

/// A smaller store would be full before its first incident is over: the tables and one burst of alerts.
const SIZE_MIN_MIB: u64 = 16;

impl Config {
    /// Reads `file`, lays `environment` over it, reads the secret files and checks the whole.
    ///
    /// # Errors
    /// The first thing that is wrong, with file, line where there is one, key and remedy.
    pub fn load(file: &Path, environment: &[(String, String)]) -> Result<Self, ConfigError> {
        let shown = file.display().to_string();
        let fail = |what: String| ConfigError { file: shown.clone(), what };
        let text = std::fs::read_to_string(file)
            .map_err(|e| fail(format!("cannot be read ({e}); give the path with --config")))?;
        Self::parse(&text, environment).map_err(fail)
    }

    fn parse(text: &str, environment: &[(String, String)]) -> Result<Self, String> {
        let mut value: Value = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
        if let Some(key) = inline_secret(&value, "") {
            // No shell sets a variable for one entry of a list.
            let variable = match key.contains('[') {
                true => String::new(),
                false => format!(" or {ENVIRONMENT_PREFIX}{}", key.replace('.', "__").to_uppercase()),
            };
            let line = line_of(text, &key).unwrap_or(1);
            return Err(format!(
                "line {line}: {key}: a secret does not belong into this file; use {key}_file{variable}"
            ));
        }
        // Only the file's own text is looked at: the environment and `url_file` may hold a password.
        if value["store"]["url"].as_str().is_some_and(|url| password(url).is_some()) {
            let variable = format!("{ENVIRONMENT_PREFIX}STORE__URL");
            return Err(format!(
                "line {}: store.url: a URL with a password does not belong into this file; put it into a file and name \
                 that in store.url_file, or use {variable}",
                line_of(text, "store.url").unwrap_or(1)
            ));
        }
        let bare = value.clone();
        overlay(&mut value, environment);
        let mut config: Self = match serde_json::from_value(value) {
            Ok(config) => config,
            // The typed error of the text itself knows line and column.
            Err(error) => {
                return Err(match (serde_saphyr::from_str::<Config>(text), at_fault(&bare, environment)) {
                    (_, Some(name)) => format!("{name}: {error}; correct it or unset it"),
                    (Err(located), None) => located.to_string(),
                    (Ok(_), None) => {
                        format!("with the variables {ENVIRONMENT_PREFIX}...: {error}; correct or unset them")
                    }
                });
            }
        };
        config.read_secret_files().and_then(|()| config.check()).map_err(|what| {
            let key = what.split(": ").next().unwrap_or_default();
            let line = line_of(text, key);
            match (variable_of(environment, key, line.is_none()), line) {
                (Some(name), _) => format!("{name}: {what}; correct it or unset it"),
                (None, Some(line)) => format!("line {line}: {what}"),
                // It stands nowhere: what is missing is named.
                (None, None) => what,
            }
        })?;
        config.text = text.to_owned();
        config.unused_variables = unused(environment);
        Ok(config)
    }

    /// Where this key is set (`tools.off[0]`): the line of the file, or the environment's variable.
    pub fn set_at(&self, key: &str, file: &Path, environment: &[(String, String)]) -> String {
        let line = line_of(&self.text, key);
        match (variable_of(environment, key, line.is_none()), line) {
            (Some(name), _) => name.to_owned(),
            (None, Some(line)) => format!("{}:{line}", file.display()),
            (None, None) => file.display().to_string(),
        }
    }

    /// The cluster's name as an id; `check` has made sure that it is one.
    pub fn cluster_name(&self) -> Result<ClusterName, String> {
        ClusterName::parse(&self.cluster)
            .ok_or_else(|| format!("cluster: `{}` may hold only letters, digits, `-`, `_` and `.`", self.cluster))
    }

    /// The store's URL; the default is a file in the working folder.
    pub fn store_url(&self) -> &str {
        self.store.url.as_ref().map_or("sqlite:firstlook.db", |url| url.expose_secret())
    }

    /// Every secret that firstlook holds, for the redactor.
    pub fn secrets(&self) -> Vec<String> {
        let webhook = &self.listeners.webhook;
        let mut all = vec![&webhook.bearer_token, &webhook.basic_password, &self.listeners.admin.metrics_bearer_token];
        if let Some(slack) = &self.slack {
            all.extend([&slack.bot_token, &slack.app_token, &slack.signing_secret]);
        }
        if let Some(model) = &self.model {
            all.push(&model.api_key);
        }
        all.extend(self.pagerduty.iter().map(|pagerduty| &pagerduty.token));
        all.extend(self.mcp_servers.iter().map(|server| &server.token));
        all.extend(self.query_servers().flat_map(|(_, server)| [&server.bearer_token, &server.basic_password]));
        let store = self.store.url.as_ref().and_then(|url| password(url.expose_secret()));
        let given = self.mcp_servers.iter().flat_map(McpServer::given_secrets);
        all.into_iter().flatten().map(|secret| secret.expose_secret().to_owned()).chain(store).chain(given).collect()
    }

    fn read_secret_files(&mut self) -> Result<(), String> {
        let webhook = &mut self.listeners.webhook;
        read_secret("listeners.webhook.bearer_token", &mut webhook.bearer_token, &webhook.bearer_token_file)?;
        read_secret("listeners.webhook.basic_password", &mut webhook.basic_password, &webhook.basic_password_file)?;
        let admin = &mut self.listeners.admin;
        read_secret(
            "listeners.admin.metrics_bearer_token",
            &mut admin.metrics_bearer_token,
            &admin.metrics_bearer_token_file,
        )?;
        read_secret("store.url", &mut self.store.url, &self.store.url_file)?;
        if let Some(slack) = &mut self.slack {
            read_secret("slack.bot_token", &mut slack.bot_token, &slack.bot_token_file)?;
            read_secret("slack.app_token", &mut slack.app_token, &slack.app_token_file)?;
            read_secret("slack.signing_secret", &mut slack.signing_secret, &slack.signing_secret_file)?;
        }
        if let Some(model) = &mut self.model {
            read_secret("model.api_key", &mut model.api_key, &model.api_key_file)?;
        }
        if let Some(server) = &mut self.prometheus {
            server.read_secret_files("prometheus")?;
        }
        if let Some(server) = &mut self.loki {
            server.read_secret_files("loki")?;
        }
        if let Some(server) = &mut self.alertmanager {
            server.read_secret_files("alertmanager")?;
        }
        self.mcp_servers.iter_mut().try_for_each(McpServer::read_secret_files)?;
        if let Some(pagerduty) = &mut self.pagerduty {
            read_secret("pagerduty.token", &mut pagerduty.token, &pagerduty.token_file)?;
        }
        Ok(())
    }

    /// The servers that are asked by a query language, with their keys.
    fn query_servers(&self) -> impl Iterator<Item = (&'static str, &QueryServer)> {
        [("prometheus", &self.prometheus), ("loki", &self.loki), ("alertmanager", &self.alertmanager)]
            .into_iter()
            .filter_map(|(key, server)| Some((key, server.as_ref()?)))
    }

    fn check(&self) -> Result<(), String> {
        self.cluster_name()?;
        for (key, server) in self.query_servers() {
            server.check(key)?;
        }
        if let Some(url) = self.runbooks.as_ref().and_then(|runbooks| runbooks.url.as_ref()) {
            sources::is_web(url, "runbooks.url")?;
        }
        McpServer::check(&self.mcp_servers)?;
        self.model.as_ref().map_or(Ok(()), Model::check)?;
        if let Some(pagerduty) = &self.pagerduty {
            pagerduty.check()?;
        }
        if self.store.size_max_mib < SIZE_MIN_MIB {
            return Err(format!("store.size_max_mib: at least {SIZE_MIN_MIB}"));
        }
        let prices = self.model.iter().flat_map(|model| &model.prices);
        for (name, price) in prices {
            price.check().map_err(|what| format!("model.prices.{name}: {what}"))?;
        }
        if let Some(url) = &self.links.dashboard
            && !url.starts_with("https://")
            && !url.starts_with("http://")
        {
            return Err(format!("links.dashboard: `{url}` is no http(s) URL"));
        }
        self.listeners.check(self.model.is_some(), self.mcp_callers_file.is_some())?;
        self.check_slack()
    }

    /// Slack's buttons have a way back.
    fn check_slack(&self) -> Result<(), String> {
        if let Some(listener) = &self.listeners.slack
            && self.slack.as_ref().is_none_or(|slack| slack.signing_secret.is_none())
        {
            return Err(exposed("listeners.slack", listener.address, "slack.signing_secret_file"));
        }
        if let Some(slack) = &self.slack {
            if slack.bot_token.is_none() {
                return Err("slack.bot_token_file: missing; the app's bot token (xoxb-...) posts the cards".into());
            }
            if slack.app_token.is_none() && self.listeners.slack.is_none() {
                return Err(
                    "slack.app_token_file: missing; without it (Socket Mode) or listeners.slack (signed HTTP) no \
                            button would work"
                        .into(),
                );
            }
            if !slack.channel.starts_with(['C', 'G', 'D']) {
                return Err(format!("slack.channel: `{}` is no channel id such as C0123456789", slack.channel));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, environment: &[(&str, &str)], said: &[&str]) {
        let environment: Vec<_> = environment.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let error = Config::parse(text, &environment).expect_err("refused");
        for part in said {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_wrong_key_is_named_with_its_line() {
        refused("cluster: a\nmodel:\n  base_urll: x\n  name: m\n", &[], &["base_urll", "3"]);
        refused("cluster: a\nlisteners:\n  webhook:\n    address: nonsense\n", &[], &["4"]);
        let model = |more: &str| format!("cluster: a\nmodel: {{base_url: x, name: m, {more}}}");
        refused(&model("context_tokens: 4096"), &[], &["line 2: model.context_tokens", "8000"]);
        refused(&model("tools_at_once: 1"), &[], &["model.tools_at_once", "3"]);
        refused("cluster: a b\n", &[], &["line 1: cluster", "letters"]);
    }

    #[test]
    fn whatever_is_wrong_is_told_with_its_own_line() {
        let text = "cluster: a\nprometheus:\n  url: http://fine\nloki:\n  # where it is\n  url: loki:3100\n";
        refused(text, &[], &["line 6: loki.url"]);
        refused("cluster: a\nstore:\n  size_max_mib: 1\n", &[], &["line 3: store.size_max_mib"]);
        refused("cluster: a\nlisteners:\n  webhook:\n    address: '0.0.0.0:1'\n", &[], &["line 3: listeners.webhook"]);
        let slack = "cluster: a\nmodel:\n  base_url: x\n  name: m\nslack:\n  channel: general\n";
        let tokens = [
            ("FIRSTLOOK_SLACK__BOT_TOKEN", "xoxb-1"),
            ("FIRSTLOOK_SLACK__APP_TOKEN", "xapp-1"),
            ("FIRSTLOOK_LISTENERS__WEBHOOK__BEARER_TOKEN", "t"),
        ];
        refused(slack, &tokens, &["line 6: slack.channel", "C0123456789"]);
        let price = format!("{slack}  # nothing\n")
            .replace("  name: m\n", "  name: m\n  prices:\n    m: {input: -1, output: 1, currency: USD}\n");
        refused(&price, &tokens, &["line 6: model.prices.m"]);
        refused(
            "cluster: a\nslack:\n  channel: C1\n  bot_token_file: /no/such\n",
            &[],
            &["line 4: slack.bot_token_file"],
        );
        refused("cluster: a\nmodel:\n  - x\n", &[], &["line"]);
    }

    #[test]
    fn what_is_read_outside_needs_its_key_and_plain_urls() {
        refused("cluster: a\nloki: {url: 'loki:3100'}", &[], &["loki.url", "http(s)"]);
        refused("cluster: a\nloki: {url: 'http://loki', namespace_label: 'a b'}", &[], &["loki.namespace_label"]);
        refused("cluster: a\npagerduty: {}", &[], &["pagerduty.token_file", "read-only"]);
        let key = [("FIRSTLOOK_PAGERDUTY__TOKEN", "y_NbAkKc66ryYTWUXYEu")];
        refused("cluster: a\npagerduty: {services: ['shop api']}", &key, &["pagerduty.services", "PIJ90N7"]);
        let key = [(key[0].0.to_owned(), key[0].1.to_owned())];
        let config = Config::parse("cluster: a\npagerduty: {services: [PIJ90N7]}", &key).unwrap();
        assert_eq!(config.secrets(), [key[0].1.as_str()], "the redactor knows it");
    }

    #[test]
    fn a_secret_in_the_file_is_refused_and_never_repeated() {
        let text = "cluster: a\nslack:\n  channel: C1\n  bot_token: xoxb-very-secret\n";
        refused(text, &[], &["slack.bot_token", "bot_token_file", "FIRSTLOOK_SLACK__BOT_TOKEN"]);
        assert!(!Config::parse(text, &[]).unwrap_err().contains("very-secret"));
    }

    #[test]
    fn a_store_url_with_a_password_belongs_into_a_file() {
        for url in
            ["postgres://firstlook:hunter2pass@db.example/x", "postgres://db.example/x?user=a&password=hunter2pass"]
        {
            let text = format!("cluster: a\nstore:\n  # hello\n  url: {url}\n");
            refused(&text, &[], &["line 4", "store.url", "store.url_file"]);
            assert!(!Config::parse(&text, &[]).unwrap_err().contains("hunter2"));
            let environment = [("FIRSTLOOK_STORE__URL".to_owned(), url.to_owned())];
            let config = Config::parse("cluster: a", &environment).unwrap();
            assert_eq!(config.secrets(), ["hunter2pass"], "the redactor knows it");
        }
        assert!(Config::parse("cluster: a\nstore: {url: 'postgres://firstlook@db.example/x'}", &[]).is_ok());
    }

    #[test]
    fn a_listener_in_the_open_needs_its_credential() {
        refused("cluster: a\nlisteners: {webhook: {address: '0.0.0.0:8080'}}", &[], &["webhook", "bearer_token_file"]);
        refused("cluster: a\nlisteners: {admin: {address: '0.0.0.0:9090'}}", &[], &["admin", "metrics_open"]);
        refused("cluster: a\nlisteners: {slack: {address: '127.0.0.1:1'}}", &[], &["signing_secret_file"]);
        refused("cluster: a\nlisteners: {mcp: {address: '0.0.0.0:1'}}", &[], &["mcp_callers_file"]);
        let open = "cluster: a\nlisteners: {mcp: {address: '0.0.0.0:1', without_token: true}}";
        refused(open, &[], &["without_token", "not loopback"]);
        assert!(Config::parse(&open.replace("0.0.0.0", "127.0.0.1"), &[]).is_ok());
    }

    #[test]
    fn the_environment_wins_and_its_errors_name_the_variable() {
        let environment = vec![
            ("FIRSTLOOK_LISTENERS__WEBHOOK__BEARER_TOKEN".to_owned(), "12345".to_owned()),
            ("FIRSTLOOK_STORE__KEEP_DAYS".to_owned(), "7".to_owned()),
        ];
        let config = Config::parse("cluster: a", &environment).unwrap();
        assert_eq!(config.store.keep_days, 7);
        assert_eq!(config.listeners.webhook.bearer_token.unwrap().expose_secret(), "12345");
        let said = ["FIRSTLOOK_STORE__KEEP_DAYZ: ", "keep_dayz", "unset it"];
        refused("cluster: a", &[("FIRSTLOOK_CLUSTER", "b"), ("FIRSTLOOK_STORE__KEEP_DAYZ", "7")], &said);
        // Wrong by its value, and over a file that is right.
        refused("cluster: a", &[("FIRSTLOOK_CLUSTER", "b c")], &["FIRSTLOOK_CLUSTER: cluster", "letters", "unset it"]);
        let config = Config::parse("cluster: a", &[("FIRSTLOOK_CLUSTER".into(), "b".into())]).unwrap();
        assert_eq!(config.cluster, "b");
        let config = Config::parse("cluster: a", &[("FIRSTLOOK_CLUSTR".into(), "b".into())]).unwrap();
        assert_eq!(
            (config.cluster.as_str(), &config.unused_variables[..]),
            ("a", &["FIRSTLOOK_CLUSTR".to_owned()][..])
        );
    }
}
