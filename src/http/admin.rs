//! `/healthz`, `/readyz` and `/metrics`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

use crate::http;
use crate::http::{Credential, Error};
use crate::store::{Depth, Store, is_near};
use crate::telemetry::{Metrics, StageLabels};

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
        let routes = Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .with_state(self);
        http::bounded(routes, http::REQUEST_TIMEOUT, || tracing::warn!("the store does not answer the admin listener"))
    }

    /// Sets the metrics that are counted in the store. Only when somebody asks: a count reads an index of its table.
    async fn measure(&self) {
        let metrics = &self.metrics;
        let clamp = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        if let Ok(bytes) = self.store.size_bytes().await {
            metrics.store_bytes.set(clamp(bytes));
        }
        metrics.store_bytes_max.set(clamp(self.store.size_max_bytes().unwrap_or(0)));
        for Depth { stage, waiting } in self.store.depths().await.unwrap_or_default() {
            metrics.queue_depth.get_or_create(&StageLabels { stage }).set(clamp(waiting));
        }
        if let Ok(parked) = self.store.parked_count().await {
            metrics.parked.set(clamp(parked));
        }
    }
}

/// The store's size as `/readyz` tells it, with its bound and whether that is near.
fn told(bytes: u64, bytes_max: Option<u64>) -> serde_json::Value {
    let Some(bytes_max) = bytes_max else { return json!({"bytes": bytes}) };
    let mut body = json!({"bytes": bytes, "bytes_max": bytes_max});
    if is_near(bytes, Some(bytes_max)) {
        body["warning"] = "nearly full: raise store.size_max_mib, or lower store.keep_days".into();
    }
    body
}

/// A store whose writer does not answer within this takes no alert in time either.
const WRITER_TIMEOUT: Duration = Duration::from_secs(2);

/// How much the store holds, if it can be read and its writer lives.
async fn store_answers(store: &Store) -> anyhow::Result<u64> {
    let bytes = store.size_bytes().await?;
    match tokio::time::timeout(WRITER_TIMEOUT, store.answers()).await {
        Ok(answered) => Ok(answered.map(|()| bytes)?),
        Err(_) => anyhow::bail!("its writer does not answer within {} s", WRITER_TIMEOUT.as_secs()),
    }
}

/// Ready means: the store answers, to a read and a write, and this listener and the others are bound (they are bound before
/// any is served).
async fn ready(State(admin): State<Admin>) -> Response {
    let size = store_answers(&admin.store).await;
    let mut body = serde_json::Map::new();
    for condition in &admin.conditions {
        let (name, state) = condition();
        body.insert(name, json!(state.err().unwrap_or_else(|| "ok".to_owned())));
    }
    let status = match size {
        Ok(bytes) => {
            body.insert("store".into(), told(bytes, admin.store.size_max_bytes()));
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
    admin.measure().await;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], admin.metrics.text()).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, from_ms};
    use crate::model::ClusterName;
    use crate::store::{Durability, Options, Write};
    use axum::extract::State;

    async fn admin(folder: &tempfile::TempDir, size_max_bytes: u64) -> Admin {
        let url = format!("sqlite:{}", folder.path().join("firstlook.db").display());
        let options =
            Options { size_max_bytes: Some(size_max_bytes), ..Options::new(ClusterName::parse("prod").unwrap()) };
        let store = Store::open(&url, Clock::manual(from_ms(1_800_000_000_000)), options).await.unwrap();
        Admin { store, metrics: Metrics::new(), credential: Credential::default(), conditions: Vec::new() }
    }

    #[tokio::test]
    async fn the_metrics_count_what_waits_for_each_stage_and_what_was_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let admin = admin(&folder, 1 << 30).await;
        for _ in 0..5 {
            let claim = admin.store.claim("preview", "a1", std::time::Duration::from_secs(9)).await.unwrap().unwrap();
            admin.store.fail(claim, from_ms(0)).await.unwrap();
        }
        let entry = crate::store::AuditEntry { at: from_ms(0), kind: "call", incident: None, body: json!({}) };
        admin.store.commit(vec![Write::Audit(entry)], Durability::Soon, None).await.unwrap();
        metrics(State(admin.clone()), HeaderMap::new()).await.ok().unwrap();
        let text = admin.metrics.text();
        for line in [
            "firstlook_queue_depth{stage=\"seal\"} 1",
            "firstlook_queue_depth{stage=\"resolve\"} 0",
            "firstlook_parked_units 1",
            "firstlook_store_bytes_max 1073741824",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        admin.store.close().await;
    }

    #[tokio::test]
    async fn a_store_near_its_bound_says_so_in_readyz() {
        for (size_max_bytes, is_told) in [(1 << 30, false), (300 << 10, true)] {
            let folder = tempfile::tempdir().unwrap();
            let admin = admin(&folder, size_max_bytes).await;
            let response = ready(State(admin.clone())).await;
            assert_eq!(response.status(), StatusCode::OK, "a full store still answers");
            let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["store"]["bytes_max"], size_max_bytes, "{body}");
            assert_eq!(body["store"]["warning"].is_string(), is_told, "{body}");
            admin.store.close().await;
        }
    }

    #[tokio::test]
    async fn a_store_that_can_be_read_but_not_written_is_not_ready() {
        let folder = tempfile::tempdir().unwrap();
        let admin = admin(&folder, 1 << 30).await;
        assert_eq!(ready(State(admin.clone())).await.status(), StatusCode::OK);
        admin.store.close().await;
        // Its reads work; it has no writer.
        let url = format!("sqlite:{}", folder.path().join("firstlook.db").display());
        let options = Options::new(ClusterName::parse("prod").unwrap());
        let store = Store::open_read_only(&url, Clock::manual(from_ms(0)), options).await.unwrap();
        let condition: Condition = Arc::new(|| ("slack".to_owned(), Err("not_in_channel: invite the app".to_owned())));
        let response = ready(State(Admin { store, conditions: vec![condition], ..admin })).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert!(body["store"].as_str().unwrap().contains("reading only"), "{body}");
        assert_eq!(body["slack"], "not_in_channel: invite the app");
    }
}
