//! `POST /slack/interactivity`: verify Slack's signature, put the click on disk, answer within 3 s.

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use secrecy::SecretString;
use tower_http::limit::RequestBodyLimitLayer;

use crate::clock::Clock;
use crate::http;
use crate::http::Error;
use crate::slack::desk::{Desk, NotTaken};
use crate::slack::interact;
use crate::telemetry::{ClickLabels, Metrics};

/// Slack's own payloads with a full card in them are below 200 KB.
const BODY_MAX_BYTES: usize = 1024 * 1024;

/// What the listener needs.
#[derive(Clone)]
pub struct Interactivity {
    pub signing_secret: SecretString,
    pub clock: Clock,
    pub metrics: Metrics,
    /// Takes a verified payload: the same for signed HTTP and Socket Mode.
    pub desk: Desk,
}

impl Interactivity {
    /// The listener's routes.
    pub fn router(self) -> Router {
        let routes = Router::new()
            .route("/slack/interactivity", post(receive))
            .layer(DefaultBodyLimit::disable())
            .layer(RequestBodyLimitLayer::new(BODY_MAX_BYTES))
            .with_state(self);
        // Slack shows the person that it failed, and they press again.
        http::bounded(routes, http::REQUEST_TIMEOUT, || tracing::error!("a click was not taken in time"))
    }

    fn count(&self, outcome: &'static str) {
        self.metrics.clicks.get_or_create(&ClickLabels { outcome }).inc();
    }
}

async fn receive(
    State(state): State<Interactivity>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Error> {
    let body = body.map_err(|rejection| Error::new(rejection.status(), "the body cannot be read"))?;
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (timestamp, signature) = (header("x-slack-request-timestamp"), header("x-slack-signature"));
    if let Err(refusal) = interact::verify(&state.signing_secret, timestamp, signature, &body, state.clock.now()) {
        state.count("forged");
        tracing::warn!("click refused: {refusal}");
        return Err(Error::new(StatusCode::UNAUTHORIZED, refusal.to_string()));
    }
    let payload =
        interact::payload_of(&body).map_err(|refusal| Error::new(StatusCode::BAD_REQUEST, refusal.to_string()))?;
    match state.desk.take(&payload).await {
        Ok(()) => Ok(StatusCode::OK.into_response()),
        Err(NotTaken::Refused(refusal)) => {
            state.count("unknown");
            tracing::warn!("click not understood: {refusal}");
            Err(Error::new(StatusCode::BAD_REQUEST, refusal.to_string()))
        }
        // Slack shows the person that it failed, and they press again.
        Err(NotTaken::NotStored(error)) => {
            tracing::error!("click not stored: {error:#}");
            Err(Error::new(StatusCode::SERVICE_UNAVAILABLE, "the click could not be stored; press again"))
        }
    }
}
