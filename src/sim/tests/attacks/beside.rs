//! What stands beside the cluster in an attack: an Alertmanager with its alerts and silences, and sources that say anything.

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::app::Setup;
use crate::http;
use crate::observe::alertmanager::AlertmanagerOptions;
use crate::observe::loki::LokiOptions;
use crate::observe::pagerduty::PagerDutyOptions;
use crate::observe::prometheus::PrometheusOptions;
use crate::observe::web::{Login, WebOptions};
use crate::observe::{Alertmanager, Loki, PagerDuty, Prometheus};
use crate::sim::tests::alertmanager;
use crate::sim::tests::alertmanager::Fake;
use crate::sim::tests::attacks::case::{Case, Muted};

/// The longest silence.
const SILENCE_MAX: SignedDuration = SignedDuration::from_hours(4);

/// The servers of a case; each is there where the case has it.
pub(super) struct Beside {
    pub(super) alertmanager: Option<Fake>,
    reached: Option<AlertmanagerOptions>,
    loki: Option<WebOptions>,
    pagerduty: Option<WebOptions>,
    prometheus: Option<WebOptions>,
    _ends_with_this: DropGuard,
}

impl Beside {
    /// Starts them.
    pub(super) async fn start(case: &Case) -> Self {
        let stop = CancellationToken::new();
        let alertmanager = case.alertmanager.as_ref().map(|held| {
            let fake = Fake::default();
            fake.lock().unwrap().alerts = held.alerts.clone();
            fake.lock().unwrap().silences = held.silences.clone();
            fake
        });
        let reached = match &alertmanager {
            Some(fake) => Some(alertmanager::serve(fake, stop.clone()).await),
            None => None,
        };
        let (loki, pagerduty) = (&case.loki, &case.pagerduty);
        Self {
            alertmanager,
            reached,
            loki: says(loki.as_ref(), &stop).await,
            pagerduty: says(pagerduty.as_ref(), &stop).await,
            prometheus: says(case.prometheus.as_ref(), &stop).await,
            _ends_with_this: stop.drop_guard(),
        }
    }

    /// Configures them.
    pub(super) fn configure(&self, setup: &mut Setup) {
        let redactor = || setup.redactor.clone();
        let sources = &mut setup.sources;
        if let Some(options) = &self.reached {
            sources.alertmanager = Some(Alertmanager::new(options.clone(), redactor()).unwrap());
        }
        if let Some(web) = &self.loki {
            let options = LokiOptions { web: web.clone(), namespace_label: "namespace".into() };
            sources.loki = Some(Loki::new(options, redactor()).unwrap());
        }
        if let Some(web) = &self.prometheus {
            let options = PrometheusOptions { web: web.clone(), namespace_label: "namespace".into() };
            sources.prometheus = Some(Prometheus::new(options, redactor()).unwrap());
        }
        if let Some(web) = &self.pagerduty {
            let web = WebOptions { login: Login::Token("a-key-that-only-reads".into()), ..web.clone() };
            let options = PagerDutyOptions { web, services: Vec::new() };
            sources.pagerduty = Some(PagerDuty::new(options, redactor()).unwrap());
        }
    }

    /// What Alertmanager holds that it must not, or does not hold that it must.
    pub(super) fn judge(&self, must: &Muted) -> Vec<String> {
        let Some(fake) = &self.alertmanager else { return Vec::new() };
        let held = fake.lock().unwrap();
        let mut found = Vec::new();
        if (held.made, held.ended) != (must.made, must.ended) {
            found.push(format!(
                "{} silences made and {} ended instead of {} and {}",
                held.made, held.ended, must.made, must.ended
            ));
        }
        if held.silenced() != must.silenced {
            found.push(format!("nobody is notified of {:?} instead of {:?}", held.silenced(), must.silenced));
        }
        for silence in held.silences.iter().filter(|silence| silence["id"].as_str().unwrap().starts_with("11111111")) {
            let at = |field: &str| silence[field].as_str().unwrap().parse::<Timestamp>().unwrap();
            let long = at("endsAt").duration_since(at("startsAt"));
            let by = silence["createdBy"].as_str().unwrap();
            let exact = |one: &Value| one["isRegex"] == false && one["isEqual"] == true;
            if long > SILENCE_MAX || by != must.by || !silence["matchers"].as_array().unwrap().iter().all(exact) {
                found.push(format!("a silence of {long} by {by}: {silence}"));
            }
        }
        for id in &must.standing {
            let stands = |silence: &&Value| silence["id"] == id.as_str() && silence["status"]["state"] == "active";
            if !held.silences.iter().any(|silence| stands(&silence)) {
                found.push(format!("the silence {id} does not stand any more"));
            }
        }
        found
    }
}

/// A server that answers what the case says: by the longest part that fits of what is asked.
async fn says(answers: Option<&Map<String, Value>>, stop: &CancellationToken) -> Option<WebOptions> {
    let answers = answers?.clone();
    let answer = async move |request: Request| -> Response {
        let uri = request.uri().to_string();
        // Prometheus is asked by a form.
        let form = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap_or_default();
        let asked = format!("{uri} {}", String::from_utf8_lossy(&form));
        match answers.iter().filter(|(part, _)| asked.contains(part.as_str())).max_by_key(|(part, _)| part.len()) {
            Some((_, answer)) => axum::Json(answer.clone()).into_response(),
            None => (StatusCode::NOT_FOUND, axum::Json(json!({}))).into_response(),
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(http::serve(listener, Router::new().fallback(answer), stop.clone()));
    Some(WebOptions { url, ..WebOptions::default() })
}
