//! Alertmanager's API (version 2), only read: the alerts that it holds, and what is silenced.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::model::Raised;
use crate::observe::ReadError;
use crate::observe::json;
use crate::observe::web::{Web, WebOptions};
use crate::redact::Redactor;

/// Where it is, and how its alerts name their namespace.
#[derive(Clone, Debug)]
pub struct AlertmanagerOptions {
    pub web: WebOptions,
    /// The label with an alert's namespace.
    pub namespace_label: String,
}

/// The API. Clones share connections.
#[derive(Clone)]
pub struct Alertmanager {
    web: Web,
    options: AlertmanagerOptions,
}

/// An alert that it holds. Its labels are as they came: what is made of them goes through the redactor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub fingerprint: String,
    pub labels: BTreeMap<String, String>,
    /// Whether people are notified of it: neither silenced nor inhibited.
    pub active: bool,
    /// The silences that cover it.
    pub silenced_by: Vec<String>,
}

/// A silence that holds now or is going to.
#[derive(Clone, Debug, PartialEq)]
pub struct Silence {
    pub id: String,
    pub comment: String,
    pub ends_at: String,
    /// Nothing is silenced by it any more.
    pub ended: bool,
    /// Its matchers, in the order of their labels.
    pub matchers: Vec<Value>,
}

impl Alertmanager {
    /// A client; nothing is asked yet.
    ///
    /// # Errors
    /// When the client cannot be built.
    pub fn new(options: AlertmanagerOptions, redactor: Redactor) -> anyhow::Result<Self> {
        Ok(Self { web: Web::new(options.web.clone(), redactor)?, options })
    }

    /// How it is reached.
    pub fn options(&self) -> &AlertmanagerOptions {
        &self.options
    }

    /// The redactor for what it says.
    pub fn redactor(&self) -> &Redactor {
        self.web.redactor()
    }

    /// The alerts that fire, silenced and inhibited ones too.
    ///
    /// # Errors
    /// By remedy.
    pub async fn alerts(&self) -> Result<Vec<Held>, ReadError> {
        let all = self.list("/api/v2/alerts").await?;
        let held = |alert: &Value| {
            let labels =
                json::pairs(alert, "/labels").filter_map(|(name, value)| Some((name.clone(), value.as_str()?)));
            Held {
                fingerprint: json::text(alert, "/fingerprint").to_owned(),
                labels: labels.map(|(name, value)| (name, value.to_owned())).collect(),
                active: json::text(alert, "/status/state") == "active",
                silenced_by: ids(alert, "/status/silencedBy"),
            }
        };
        Ok(all.iter().map(held).collect())
    }

    /// The silences that have not ended.
    ///
    /// # Errors
    /// By remedy.
    pub async fn silences(&self) -> Result<Vec<Silence>, ReadError> {
        Ok(self.all_silences().await?.into_iter().filter(|silence| !silence.ended).collect())
    }

    /// The silences, with those that have ended, as long as Alertmanager remembers them (5 days by default).
    ///
    /// # Errors
    /// By remedy.
    pub async fn all_silences(&self) -> Result<Vec<Silence>, ReadError> {
        let all = self.list("/api/v2/silences").await?;
        let silence = |silence: &Value| {
            let mut matchers = json::list(silence, "/matchers").to_vec();
            matchers.sort_by(|a, b| json::text(a, "/name").cmp(json::text(b, "/name")));
            Silence {
                id: json::text(silence, "/id").to_owned(),
                comment: json::text(silence, "/comment").to_owned(),
                ends_at: json::text(silence, "/endsAt").to_owned(),
                ended: json::text(silence, "/status/state") == "expired",
                matchers,
            }
        };
        Ok(all.iter().map(silence).collect())
    }

    async fn list(&self, path: &str) -> Result<Vec<Value>, ReadError> {
        match self.web.json(self.web.get(path, &[])).await? {
            Value::Array(all) => Ok(all),
            _ => Err(ReadError::Unavailable("the answer is no list".into())),
        }
    }
}

/// The matchers that hold for this alert, in the order of their labels: each label as it is, and those that it has to be
/// without (the empty value matches what has none).
pub fn matchers(alert: &Raised) -> Vec<Value> {
    let own = alert.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut all: Vec<(&str, &str)> = own.chain(alert.without.iter().map(|name| (name.as_str(), ""))).collect();
    all.sort_unstable();
    all.iter().map(|(name, value)| json!({"name": name, "value": value, "isRegex": false, "isEqual": true})).collect()
}

fn ids(value: &Value, pointer: &str) -> Vec<String> {
    json::list(value, pointer).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}
