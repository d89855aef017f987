//! What can go wrong between a client and Slack, played on demand.

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::json;

/// More than a test would queue by intention.
pub(super) const QUEUE_MAX: usize = 100;

/// How the next call of a method goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 429 with `Retry-After` of so many seconds; nothing is done.
    RateLimited(u64),
    /// A status such as 500 or 503 with an empty JSON object; nothing is done.
    Status(u16),
    /// 200 with `{"ok": false, "error": ...}`; nothing is done.
    Error(String),
    /// 200 with an HTML page, as a proxy or a maintenance page sends it; nothing is done.
    Html,
    /// No answer at all until the client gives up; nothing is done.
    Hang,
    /// The connection breaks before an answer; nothing is done.
    Drop,
    /// The call is done; its answer is held until [`super::Slack::release_held`].
    HoldAfterAccept,
    /// The call is done; the connection breaks before the answer.
    DropAfterAccept,
}

impl Fault {
    /// Whether the call is carried out although its answer goes wrong.
    pub(super) fn accepts(&self) -> bool {
        matches!(self, Self::HoldAfterAccept | Self::DropAfterAccept)
    }

    pub(super) fn name(&self) -> String {
        format!("fault: {self:?}")
    }

    /// The answer of a call that is not carried out.
    pub(super) async fn refuse(self) -> Response {
        match self {
            Self::RateLimited(seconds) => rate_limited(seconds),
            Self::Status(code) => {
                let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                (status, axum::Json(json!({}))).into_response()
            }
            Self::Error(error) => axum::Json(json!({"ok": false, "error": error})).into_response(),
            Self::Html => {
                let page = "<!doctype html><title>Slack</title><p>Slack is down for maintenance.</p>";
                ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
            }
            Self::Hang | Self::HoldAfterAccept => std::future::pending().await,
            Self::Drop | Self::DropAfterAccept => broken(),
        }
    }
}

/// Slack's answer to a post too many.
pub(super) fn rate_limited(seconds: u64) -> Response {
    let headers = [(header::RETRY_AFTER, seconds.to_string())];
    (StatusCode::TOO_MANY_REQUESTS, headers, axum::Json(json!({"ok": false, "error": "ratelimited"}))).into_response()
}

/// A body that fails at once: the server closes the connection without a whole answer.
pub(super) fn broken() -> Response {
    let torn = stream::once(async { Err::<String, _>(std::io::Error::other("connection broken on demand")) });
    Body::from_stream(torn).into_response()
}
