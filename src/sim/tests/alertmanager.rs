//! An Alertmanager as far as firstlook asks it: alerts, and silences that match by equality.

use std::sync::{Arc, Mutex};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::http;
use crate::observe::alertmanager::AlertmanagerOptions;
use crate::observe::web::WebOptions;

/// What it holds, and how it fails.
#[derive(Default)]
pub(crate) struct Held {
    pub(crate) alerts: Vec<Value>,
    pub(crate) silences: Vec<Value>,
    /// Silences that were made, and ended, by a request.
    pub(crate) made: usize,
    pub(crate) ended: usize,
    /// The next silence is made, and its answer is not given.
    pub(crate) loses_answer: bool,
    /// So many of the next lists of silences are not given.
    pub(crate) loses_lists: u32,
    /// Silences are listed by another of its replicas, which has not heard of them.
    pub(crate) is_behind: bool,
}

pub(crate) type Fake = Arc<Mutex<Held>>;

impl Held {
    /// The ids of the silences that cover an alert.
    fn covering(&self, alert: &Value) -> Vec<&Value> {
        let covers = |silence: &&Value| {
            let has = |one: &Value| alert["labels"][one["name"].as_str().unwrap()].as_str().unwrap_or("");
            let matches = |one: &Value| one["isRegex"] != true && has(one) == one["value"];
            silence["status"]["state"] == "active" && silence["matchers"].as_array().unwrap().iter().all(matches)
        };
        self.silences.iter().filter(covers).map(|silence| &silence["id"]).collect()
    }

    /// The fingerprints of the alerts of which nobody is notified.
    pub(crate) fn silenced(&self) -> Vec<&str> {
        let muted = self.alerts.iter().filter(|alert| !self.covering(alert).is_empty());
        muted.filter_map(|alert| alert["fingerprint"].as_str()).collect()
    }
}

/// Serves it until `stop`; how it is reached.
pub(crate) async fn serve(fake: &Fake, stop: CancellationToken) -> AlertmanagerOptions {
    let router = Router::new()
        .route("/api/v2/alerts", get(alerts))
        .route("/api/v2/silences", get(silences).post(make))
        .route("/api/v2/silence/{id}", delete(end))
        .with_state(Arc::clone(fake));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let web = WebOptions { url: format!("http://{}", listener.local_addr().unwrap()), ..WebOptions::default() };
    tokio::spawn(http::serve(listener, router, stop));
    AlertmanagerOptions { web, namespace_label: "namespace".into() }
}

async fn alerts(State(fake): State<Fake>) -> Json<Value> {
    let held = fake.lock().unwrap();
    let told = held.alerts.iter().map(|alert| {
        let by = held.covering(alert);
        let state = if by.is_empty() { "active" } else { "suppressed" };
        json!({"fingerprint": alert["fingerprint"], "labels": alert["labels"],
            "status": {"state": state, "silencedBy": by, "inhibitedBy": []}})
    });
    Json(told.collect())
}

async fn silences(State(fake): State<Fake>) -> (StatusCode, Json<Value>) {
    let mut held = fake.lock().unwrap();
    if held.loses_lists > 0 {
        held.loses_lists -= 1;
        return (StatusCode::BAD_GATEWAY, Json(Value::Null));
    }
    (StatusCode::OK, Json(if held.is_behind { json!([]) } else { json!(held.silences) }))
}

async fn make(State(fake): State<Fake>, Json(mut silence): Json<Value>) -> (StatusCode, Json<Value>) {
    let mut held = fake.lock().unwrap();
    held.made += 1;
    let id = format!("11111111-2222-4333-8444-{:012}", held.made);
    silence["id"] = json!(id);
    silence["status"] = json!({"state": "active"});
    held.silences.push(silence);
    if std::mem::take(&mut held.loses_answer) {
        return (StatusCode::GATEWAY_TIMEOUT, Json(Value::Null));
    }
    (StatusCode::OK, Json(json!({"silenceID": id})))
}

async fn end(State(fake): State<Fake>, Path(id): Path<String>) -> StatusCode {
    let mut held = fake.lock().unwrap();
    held.ended += 1;
    match held.silences.iter_mut().find(|silence| silence["id"] == id.as_str()) {
        Some(silence) => {
            silence["status"]["state"] = json!("expired");
            StatusCode::OK
        }
        None => StatusCode::NOT_FOUND,
    }
}
