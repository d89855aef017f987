//! `/healthz`, `/readyz` and `/metrics`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

use crate::http::{Credential, Error};
use crate::store::Store;
use crate::telemetry::Metrics;

/// A condition of its own in `/readyz`'s body: name and whether it holds, with the reason when not.
pub type Condition = Arc<dyn Fn() -> (String, Result<(), String>) + Send + Sync>;

/// What the admin listener needs.
#[derive(Clone)]
pub struct Admin {
    pub store: Store,
    pub metrics: Metrics,
    /// For `/metrics` alone; the probes are bare.
    pub credential: Credential,
    /// Shown in the body of `/readyz`, without making it fail: a daemon whose watches are behind still takes alerts.
    pub conditions: Vec<Condition>,
}

impl Admin {
    /// The listener's routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .with_state(self)
    }
}

/// Ready means: the store answers, and this listener and the others are bound (they are bound before any is served).
async fn ready(State(admin): State<Admin>) -> Response {
    let size = admin.store.size_bytes().await;
    let mut body = serde_json::Map::new();
    for condition in &admin.conditions {
        let (name, state) = condition();
        body.insert(name, json!(state.err().unwrap_or_else(|| "ok".to_owned())));
    }
    let status = match size {
        Ok(bytes) => {
            body.insert("store".into(), json!({"bytes": bytes}));
            StatusCode::OK
        }
        Err(error) => {
            body.insert("store".into(), json!(format!("{error:#}")));
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    (status, axum::Json(serde_json::Value::Object(body))).into_response()
}

async fn metrics(State(admin): State<Admin>, headers: HeaderMap) -> Result<Response, Error> {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if !admin.credential.admits(authorization) {
        return Err(Error::new(StatusCode::UNAUTHORIZED, "wrong or missing bearer token"));
    }
    if let Ok(bytes) = admin.store.size_bytes().await {
        admin.metrics.store_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], admin.metrics.text()).into_response())
}
