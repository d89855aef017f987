//! Prometheus, or what speaks its query API (Thanos, Mimir, VictoriaMetrics): queries, alerts and names, only read.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use crate::observe::ReadError;
use crate::observe::answers;
use crate::observe::answers::Answered;
use crate::observe::json;
use crate::observe::queries;
use crate::observe::queries::Bounds;
use crate::observe::web::{Web, WebOptions};
use crate::redact::{Redacted, Redactor};

/// How long the server may work on one query: less than we wait for its answer.
const SERVER_TIMEOUT: &str = "10s";
/// Alerts, rules and metric names that are kept of one answer.
const ALERTS_MAX: usize = 2_000;
const NAMES_MAX: usize = 20_000;

/// Where it is.
#[derive(Clone, Debug)]
pub struct PrometheusOptions {
    pub web: WebOptions,
    /// The label that holds a series' namespace: `namespace`, or `exported_namespace` where the scrape renames it.
    pub namespace_label: String,
}

/// The server. Clones share connections.
#[derive(Clone)]
pub struct Prometheus {
    web: Web,
    namespace_label: String,
}

/// One alert that a rule raises now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleAlert {
    pub name: Redacted,
    /// Else it is pending: true, but not yet for long enough.
    pub firing: bool,
    pub active_at: Option<Timestamp>,
    /// `name="value"`, without the name and the namespace.
    pub labels: Vec<(String, Redacted)>,
    /// Its `namespace`, where it has one.
    pub namespace: Option<String>,
    /// The `summary`, or else the `description` or the `message`.
    pub says: Redacted,
    pub value: Redacted,
    /// The rule's own query.
    pub query: Redacted,
}

/// What the alert rules say now.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Firing and pending.
    pub raised: Vec<RuleAlert>,
    /// Rules that cannot be evaluated, by name, each with its error.
    pub failing: Vec<(Redacted, Redacted)>,
    /// Names of the rules that raise nothing, each once.
    pub inactive: Vec<Redacted>,
}

/// What a metric is.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// `counter`, `gauge`, ...
    pub kind: Redacted,
    pub help: Redacted,
}

impl Prometheus {
    /// A client; nothing is asked yet.
    ///
    /// # Errors
    /// When the client cannot be built.
    pub fn new(options: PrometheusOptions, redactor: Redactor) -> anyhow::Result<Self> {
        Ok(Self { web: Web::new(options.web, redactor)?, namespace_label: options.namespace_label })
    }

    /// What makes its text `Redacted`.
    pub fn redactor(&self) -> &Redactor {
        self.web.redactor()
    }

    /// The label that holds a series' namespace.
    pub fn namespace_label(&self) -> &str {
        &self.namespace_label
    }

    /// The query held to one namespace, or to what belongs to none; `cluster`: families of the cluster are read besides.
    ///
    /// # Errors
    /// Why it is refused, in words.
    pub fn hold(&self, query: &str, namespace: Option<&str>, cluster: bool) -> Result<String, Redacted> {
        queries::promql(query, Bounds { label: &self.namespace_label, namespace, cluster })
    }

    /// The value of a query at one instant.
    ///
    /// # Errors
    /// By remedy; `Refused` carries Prometheus' own words about the query.
    pub async fn query(&self, query: &str, at: Timestamp) -> Result<Answered, ReadError> {
        let form = [("query", query.to_owned()), ("time", seconds(at)), ("timeout", SERVER_TIMEOUT.to_owned())];
        self.web.stream(self.web.post_form("/api/v1/query", &form), answers::read).await
    }

    /// The course of a query, a sample each `step_seconds`.
    ///
    /// # Errors
    /// As `query`.
    pub async fn query_range(
        &self,
        query: &str,
        start: Timestamp,
        end: Timestamp,
        step_seconds: u32,
    ) -> Result<Answered, ReadError> {
        let form = [
            ("query", query.to_owned()),
            ("start", seconds(start)),
            ("end", seconds(end)),
            ("step", step_seconds.to_string()),
            ("timeout", SERVER_TIMEOUT.to_owned()),
        ];
        self.web.stream(self.web.post_form("/api/v1/query_range", &form), answers::read).await
    }

    /// What the alert rules say now.
    ///
    /// # Errors
    /// By remedy.
    pub async fn rules(&self) -> Result<Rules, ReadError> {
        let answer = self.web.json(self.web.get("/api/v1/rules", &[("type", "alert".to_owned())])).await?;
        let Some(groups) = answer.pointer("/data/groups").and_then(Value::as_array) else {
            return Err(ReadError::Unavailable("the answer is no list of rules".into()));
        };
        let mut said = Rules::default();
        let mut inactive: BTreeSet<&str> = BTreeSet::new();
        for rule in groups.iter().flat_map(|group| json::list(group, "/rules")) {
            let (name, alerts) = (json::text(rule, "/name"), json::list(rule, "/alerts"));
            if json::text(rule, "/health") == "err" {
                if said.failing.len() < ALERTS_MAX {
                    let error = self.redactor().redact(json::text(rule, "/lastError")).one_line().cut(200);
                    said.failing.push((self.name(name), error));
                }
            } else if alerts.is_empty() {
                inactive.insert(name);
            }
            let raised = alerts.iter().map(|alert| self.alert(rule, alert));
            said.raised.extend(raised.take(ALERTS_MAX - said.raised.len()));
        }
        said.inactive = inactive.into_iter().take(ALERTS_MAX).map(|name| self.name(name)).collect();
        Ok(said)
    }

    fn name(&self, name: &str) -> Redacted {
        self.redactor().redact(name).one_line().cut(120)
    }

    fn alert(&self, rule: &Value, alert: &Value) -> RuleAlert {
        let redact = |text: &str, max| self.redactor().redact(text).one_line().cut(max);
        let annotation = |name: &str| json::text(alert, &format!("/annotations/{name}"));
        let says = ["summary", "description", "message"].map(annotation).into_iter().find(|text| !text.is_empty());
        let labels = json::pairs(alert, "/labels").filter_map(|(name, value)| Some((name, value.as_str()?)));
        let namespace = json::text(alert, "/labels/namespace");
        RuleAlert {
            name: self.name(json::text(rule, "/name")),
            firing: json::text(alert, "/state") == "firing",
            active_at: json::time(alert, "/activeAt"),
            labels: labels
                .filter(|(name, _)| !matches!(name.as_str(), "alertname" | "namespace"))
                .map(|(name, value)| (name.clone(), self.redactor().redact_value(name, value).one_line().cut(120)))
                .collect(),
            namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
            says: redact(says.unwrap_or_default(), 300),
            value: redact(json::text(alert, "/value"), 40),
            query: redact(json::text(rule, "/query"), 400),
        }
    }

    /// Names of the metrics that a namespace has (or that belong to none), and of those about nodes and the cluster.
    ///
    /// # Errors
    /// By remedy.
    pub async fn names(
        &self,
        namespace: Option<&str>,
        cluster: bool,
        start: Timestamp,
        end: Timestamp,
    ) -> Result<Vec<String>, ReadError> {
        let own = self.hold("{__name__!=\"\"}", namespace, cluster).map_err(ReadError::Refused)?;
        let mut asked = vec![("match[]", own), ("start", seconds(start)), ("end", seconds(end))];
        if cluster {
            asked.push(("match[]", format!("{{__name__=~\"{}\"}}", queries::cluster_wide_names())));
        }
        let answer = self.web.json(self.web.get("/api/v1/label/__name__/values", &asked)).await?;
        let Some(names) = answer.pointer("/data").and_then(Value::as_array) else {
            return Err(ReadError::Unavailable("the answer is no list of names".into()));
        };
        Ok(names.iter().filter_map(Value::as_str).take(NAMES_MAX).map(str::to_owned).collect())
    }

    /// What its exporter says that a metric is; nothing where it says nothing.
    ///
    /// # Errors
    /// By remedy.
    pub async fn about(&self, metric: &str) -> Result<About, ReadError> {
        let asked = [("metric", metric.to_owned()), ("limit", "1".to_owned())];
        let answer = self.web.json(self.web.get("/api/v1/metadata", &asked)).await?;
        let Some(first) = answer.get("data").and_then(|data| data.get(metric)?.as_array()?.first()) else {
            return Ok(About::default());
        };
        let redact = |text: &str, max| self.redactor().redact(text).one_line().cut(max);
        Ok(About { kind: redact(json::text(first, "/type"), 20), help: redact(json::text(first, "/help"), 160) })
    }
}

/// Seconds since the epoch, as the API takes them.
fn seconds(at: Timestamp) -> String {
    format!("{:.3}", at.as_millisecond() as f64 / 1_000.0)
}
