//! A scenario's metrics behind Prometheus' query API: selectors, comparisons and aggregations of the recorded series, the
//! recorded answers, and the scenario's alerts as rules. What it does not understand matches nothing.

mod query;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Form, Query as UriQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::observe;
use crate::observe::Sources;
use crate::observe::prometheus::PrometheusOptions;
use crate::observe::web::WebOptions;
use crate::redact::Redactor;
use crate::sim::prometheus::query::{Expression, Labels, Sample};

/// The source that reads such a server.
///
/// # Errors
/// When the client cannot be built.
pub(crate) fn source(address: SocketAddr, redactor: &Redactor) -> anyhow::Result<Sources> {
    let options = PrometheusOptions {
        web: WebOptions { url: format!("http://{address}"), ..WebOptions::default() },
        namespace_label: "namespace".into(),
    };
    Ok(Sources { prometheus: Some(observe::Prometheus::new(options, redactor.clone())?), ..Sources::default() })
}

/// More steps than this are refused, as Prometheus does.
const STEPS_MAX: i64 = 11_000;

/// The file; a scenario without it has no Prometheus.
const FILE: &str = "metrics.json";

/// A scenario's Prometheus; clones share it.
#[derive(Clone)]
pub struct Prometheus(Arc<Inner>);

struct Inner {
    clock: Clock,
    series: Vec<Series>,
    /// Recorded answers by their query without white space.
    answers: BTreeMap<String, Value>,
    /// Alerts that were delivered, each as in a webhook's body.
    alerts: Vec<Value>,
    /// Added to every recorded instant.
    shift: SignedDuration,
}

/// One recorded series, its instants as recorded.
#[derive(Clone, Debug, Deserialize)]
struct Series {
    metric: Labels,
    values: Vec<(f64, String)>,
}

#[derive(Deserialize)]
struct File {
    series: Vec<Series>,
    #[serde(default)]
    responses: Vec<Recorded>,
}

#[derive(Deserialize)]
struct Recorded {
    query: String,
    response: Value,
}

impl Prometheus {
    /// Of a scenario's folder; nothing where it has no metrics.
    ///
    /// # Errors
    /// Names the file that is wrong.
    pub fn from_folder(folder: &Path, clock: Clock) -> anyhow::Result<Option<Self>> {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            if name == FILE || is_alert(&name) {
                files.insert(name, std::fs::read(&path).with_context(|| path.display().to_string())?);
            }
        }
        Self::from_files(&files, clock, SignedDuration::ZERO)
    }

    /// Of a scenario's files by their path; nothing where it has no metrics. `shift` is added to every instant.
    ///
    /// # Errors
    /// Names the file that is wrong.
    pub fn from_files(
        files: &BTreeMap<String, Vec<u8>>,
        clock: Clock,
        shift: SignedDuration,
    ) -> anyhow::Result<Option<Self>> {
        let Some(bytes) = files.get(FILE) else { return Ok(None) };
        let file: File = serde_json::from_slice(bytes).context(FILE)?;
        let mut alerts = Vec::new();
        for (name, bytes) in files.iter().filter(|(name, _)| is_alert(name)) {
            let mut body: Value = serde_json::from_slice(bytes).with_context(|| name.clone())?;
            if let Value::Array(all) = body["alerts"].take() {
                alerts.extend(all);
            }
        }
        let answers = file.responses.into_iter().map(|r| (query::bare(&r.query), r.response)).collect();
        Ok(Some(Self(Arc::new(Inner { clock, series: file.series, answers, alerts, shift }))))
    }

    /// Its HTTP API.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/api/v1/query", get(instant_of_uri).post(instant_of_form))
            .route("/api/v1/query_range", get(range_of_uri).post(range_of_form))
            .route("/api/v1/rules", get(rules))
            .route("/api/v1/label/__name__/values", get(names))
            .route("/api/v1/metadata", get(async || success(json!({}))))
            .with_state(self.clone())
    }

    /// The recorded time of an instant that was asked for.
    fn recorded(&self, seconds: f64) -> f64 {
        seconds - self.0.shift.as_secs_f64()
    }

    fn now(&self) -> f64 {
        self.0.clock.now_ms() as f64 / 1_000.0
    }

    /// The samples of a query at one recorded time.
    fn evaluate(&self, expression: &Expression, at: f64) -> Vec<Sample> {
        expression.evaluate(&|matches, window| {
            let of = |series: &Series| {
                let seen = series.values.iter().filter(|(t, _)| *t <= at && *t > at - window);
                let values: Vec<f64> = seen.filter_map(|(_, text)| text.parse().ok()).collect();
                (!values.is_empty() && matches(&series.metric)).then(|| (series.metric.clone(), values))
            };
            self.0.series.iter().filter_map(of).collect()
        })
    }
}

fn is_alert(name: &str) -> bool {
    name.starts_with("alert") && name.ends_with(".json")
}

#[derive(Deserialize)]
struct Instant {
    #[serde(default)]
    query: String,
    time: Option<f64>,
}

#[derive(Deserialize)]
struct Range {
    #[serde(default)]
    query: String,
    start: f64,
    end: f64,
    step: f64,
}

async fn instant_of_uri(server: State<Prometheus>, UriQuery(ask): UriQuery<Instant>) -> Response {
    instant(&server, &ask)
}

async fn instant_of_form(server: State<Prometheus>, Form(ask): Form<Instant>) -> Response {
    instant(&server, &ask)
}

async fn range_of_uri(server: State<Prometheus>, UriQuery(ask): UriQuery<Range>) -> Response {
    range(&server, &ask)
}

async fn range_of_form(server: State<Prometheus>, Form(ask): Form<Range>) -> Response {
    range(&server, &ask)
}

fn instant(server: &Prometheus, ask: &Instant) -> Response {
    if let Some(answer) = server.0.answers.get(&query::bare(&ask.query)) {
        let mut answer = answer.clone();
        if let Some(Value::Array(result)) = answer.pointer_mut("/data/result") {
            result.retain(|one| query::allows(&ask.query, &one["metric"]));
        }
        return axum::Json(answer).into_response();
    }
    let time = ask.time.unwrap_or_else(|| server.now());
    let expression = match query::parse(&ask.query) {
        Ok(expression) => expression,
        Err(why) => return bad_data(&why),
    };
    let samples = server.evaluate(&expression, server.recorded(time));
    let result: Vec<Value> =
        samples.into_iter().map(|(metric, v)| json!({"metric": metric, "value": [time, text(v)]})).collect();
    success(json!({"resultType": "vector", "result": result}))
}

fn range(server: &Prometheus, ask: &Range) -> Response {
    if ask.step <= 0.0 {
        return bad_data("zero or negative query resolution step widths are not accepted. Try a positive integer");
    }
    let steps = ((ask.end - ask.start) / ask.step).floor() as i64;
    if steps < 0 {
        return bad_data("end timestamp must not be before start time");
    }
    if steps > STEPS_MAX {
        return bad_data(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        );
    }
    let expression = match query::parse(&ask.query) {
        Ok(expression) => expression,
        Err(why) => return bad_data(&why),
    };
    let mut courses: BTreeMap<Labels, Vec<(f64, String)>> = BTreeMap::new();
    for step in 0..=steps {
        let time = ask.start + step as f64 * ask.step;
        for (metric, value) in server.evaluate(&expression, server.recorded(time)) {
            courses.entry(metric).or_default().push((time, text(value)));
        }
    }
    let result: Vec<Value> =
        courses.into_iter().map(|(metric, values)| json!({"metric": metric, "values": values})).collect();
    success(json!({"resultType": "matrix", "result": result}))
}

async fn names(State(server): State<Prometheus>) -> Response {
    let mut names: Vec<&str> =
        server.0.series.iter().filter_map(|series| series.metric.get("__name__").map(String::as_str)).collect();
    names.sort_unstable();
    names.dedup();
    success(json!(names))
}

/// The alerts that were delivered and had begun by now, as their rules raise them.
async fn rules(State(server): State<Prometheus>) -> Response {
    let now = server.0.clock.now();
    let mut rules: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for alert in &server.0.alerts {
        let began: Option<Timestamp> = alert["startsAt"].as_str().and_then(|at| at.parse().ok());
        let began = began.and_then(|at| at.checked_add(server.0.shift).ok());
        let Some(began) = began.filter(|began| *began <= now && alert["status"] == "firing") else { continue };
        let name = alert["labels"]["alertname"].as_str().unwrap_or_default().to_owned();
        let raised = json!({
            "labels": alert["labels"], "annotations": alert["annotations"], "state": "firing",
            "activeAt": began.to_string(), "value": "1e+00",
        });
        let all = rules.entry(name).or_default();
        // A repeated webhook tells of the same alert.
        if !all.iter().any(|known| known["labels"] == raised["labels"]) {
            all.push(raised);
        }
    }
    let rules: Vec<Value> = rules
        .into_iter()
        .map(|(name, alerts)| {
            json!({"name": name, "query": "", "type": "alerting", "health": "ok", "state": "firing", "alerts": alerts})
        })
        .collect();
    success(json!({"groups": [{"name": "scenario", "file": "scenario", "rules": rules}]}))
}

fn text(value: f64) -> String {
    if value.is_infinite() { if value > 0.0 { "+Inf".into() } else { "-Inf".into() } } else { value.to_string() }
}

fn success(data: Value) -> Response {
    axum::Json(json!({"status": "success", "data": data})).into_response()
}

fn bad_data(why: &str) -> Response {
    let body =
        json!({"status": "error", "errorType": "bad_data", "error": format!("invalid parameter \"query\": {why}")});
    (StatusCode::BAD_REQUEST, axum::Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Prometheus {
        let series = |name: &str, namespace: &str, last: &str| json!({"metric": {"__name__": name, "namespace": namespace}, "values": [[60, "1"], [120, "1"], [180, last]]});
        let file = json!({
            "series": [series("x", "shop", "3"), series("x", "other", "5")],
            "responses": [{"query": "sum by (namespace) (y)", "response": {"status": "success", "data": {"resultType": "vector",
                "result": [{"metric": {"namespace": "shop"}, "value": [1, "7"]}, {"metric": {"namespace": "other"}, "value": [1, "8"]}]}}}],
        });
        let alert =
            json!({"alerts": [{"status": "firing", "labels": {"alertname": "A"}, "startsAt": "1970-01-01T00:01:00Z"}]});
        let files =
            [(FILE, file), ("alert.json", alert)].map(|(name, file)| (name.to_owned(), file.to_string().into_bytes()));
        let clock = Clock::manual("1970-01-01T00:03:10Z".parse().unwrap());
        Prometheus::from_files(&files.into(), clock, SignedDuration::ZERO).unwrap().unwrap()
    }

    async fn body(response: Response) -> Value {
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[tokio::test]
    async fn recorded_series_and_answers_are_told_within_the_namespace_that_is_asked_for() {
        let ask = async |query: &str| {
            body(instant(&server(), &Instant { query: query.to_owned(), time: None })).await["data"]["result"].take()
        };
        assert_eq!(ask(r#"x{namespace=~"shop|"}"#).await[0]["value"][1], "3");
        assert_eq!(ask("x > 4").await[0]["metric"]["namespace"], "other");
        assert_eq!(ask("sum(x)").await[0]["value"][1], "8");
        assert_eq!(ask("max_over_time(x[5m])").await.as_array().unwrap().len(), 2);
        let recorded = ask(r#"sum by (namespace) (y{namespace=~"shop|"})"#).await;
        assert_eq!((recorded.as_array().unwrap().len(), &recorded[0]["value"][1]), (1, &json!("7")));
        assert_eq!(ask("histogram_quantile(0.9, z)").await, json!([]));
        let range = Range { query: "x".into(), start: 60.0, end: 180.0, step: 60.0 };
        let courses = body(range_of_form(State(server()), Form(range)).await).await;
        assert_eq!(courses["data"]["result"][1]["values"], json!([[60.0, "1"], [120.0, "1"], [180.0, "3"]]));
        assert_eq!(instant(&server(), &Instant { query: "x{".into(), time: None }).status(), 400);
        assert_eq!(body(rules(State(server())).await).await["data"]["groups"][0]["rules"][0]["name"], "A");
    }
}
