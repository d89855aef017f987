//! `POST /webhook/alertmanager`: authenticate, parse, put the signals on disk, answer.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;

use crate::clock::Clock;
use crate::http::{Credential, Error};
use crate::ingest::alertmanager;
use crate::model::{ClusterName, Signal, SignalBody};
use crate::redact::Redactor;
use crate::store::{CommitError, Durability, Store, Write};
use crate::telemetry::{Metrics, SignalLabels, WebhookLabels};

/// A thousand alerts are 672 KB; six thousand fit.
pub const BODY_MAX_BYTES: usize = 4 * 1024 * 1024;

/// What the webhook needs.
#[derive(Clone)]
pub struct Webhook {
    pub store: Store,
    pub cluster: ClusterName,
    pub redactor: Redactor,
    pub clock: Clock,
    pub metrics: Metrics,
    pub credential: Credential,
}

impl Webhook {
    /// The listener's routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/webhook/alertmanager", post(receive))
            .layer(DefaultBodyLimit::max(BODY_MAX_BYTES)) // not tower's layer: its refusal would come uncounted
            .with_state(self)
    }

    fn count(&self, outcome: &'static str) {
        self.metrics.webhooks.get_or_create(&WebhookLabels { outcome }).inc();
    }

    /// Alertmanager never repeats a request that got a 4xx, so each such loss is counted and logged here.
    fn refuse(&self, outcome: &'static str, status: StatusCode, says: &str) -> Error {
        self.count(outcome);
        tracing::error!(outcome, status = status.as_u16(), "webhook refused, its alerts are not taken: {says}");
        Error::new(status, says)
    }
}

async fn receive(
    State(webhook): State<Webhook>,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Response, Error> {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if !webhook.credential.admits(authorization) {
        let says =
            "wrong or missing credential: set http_config of the receiver to the token or user of listeners.webhook";
        return Err(webhook.refuse("unauthorized", StatusCode::UNAUTHORIZED, says));
    }
    let body = match body {
        Ok(body) => body,
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let says = format!("the body is over {BODY_MAX_BYTES} bytes: set max_alerts of the receiver");
            return Err(webhook.refuse("too_large", StatusCode::PAYLOAD_TOO_LARGE, &says));
        }
        // The connection broke: a 5xx makes Alertmanager send again.
        Err(rejection) => return Err(Error::new(StatusCode::SERVICE_UNAVAILABLE, rejection.body_text())),
    };
    let now = webhook.clock.now();
    let signals = match alertmanager::parse(&body, &webhook.cluster, &webhook.redactor, now) {
        Ok(signals) => signals,
        Err(error) => return Err(webhook.refuse("bad_request", StatusCode::BAD_REQUEST, &error.to_string())),
    };
    webhook.put(signals).await?;
    webhook.count("stored");
    Ok(StatusCode::OK.into_response())
}

impl Webhook {
    async fn put(&self, signals: Vec<Signal>) -> Result<(), Error> {
        for signal in &signals {
            let kind = match signal.body {
                SignalBody::Alert(_) => "alert",
                SignalBody::Warning(_) => "warning",
                SignalBody::Rollout(_) => "rollout",
            };
            self.metrics.signals.get_or_create(&SignalLabels { kind }).inc();
        }
        match self.store.commit(vec![Write::Signals(signals)], Durability::Durable, None).await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.count("not_stored");
                let full = matches!(error, CommitError::Full(_));
                let error = anyhow::Error::from(error);
                tracing::error!("signals not stored, Alertmanager will send them again: {error:#}");
                let says = if full { "the disk is full" } else { "the store does not take signals now" };
                Err(Error::new(StatusCode::SERVICE_UNAVAILABLE, format!("{says}; send again")))
            }
        }
    }
}
