//! The demo's page: the stand-in's channel as Slack's web client shows it, with working buttons.

use std::collections::BTreeMap;
use std::convert::Infallible;

use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::Stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Duration, sleep};

use crate::sim::slack::{ClickOutcome, Delivery, Slack};

/// A screen shows a handful; a person scrolls through some dozens.
const SHOWN_MAX: usize = 300;
/// Many changes within one frame of a screen are sent as one.
const FRAME: Duration = Duration::from_millis(30);
/// Nothing but the page's own files, and no script or style within the markup: a message cannot become code.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

impl Slack {
    /// `/` and what it needs: `/events` (the whole state at each change), `/click`, `/submit`, `/close`.
    pub fn page_router(&self) -> Router {
        Router::new()
            .route("/", get(async || file("text/html; charset=utf-8", include_str!("index.html"))))
            .route("/page.css", get(async || file("text/css; charset=utf-8", include_str!("page.css"))))
            .route("/page.js", get(async || file("text/javascript; charset=utf-8", include_str!("page.js"))))
            .route("/blocks.js", get(async || file("text/javascript; charset=utf-8", include_str!("blocks.js"))))
            .route("/mark.svg", get(async || file("image/svg+xml", include_str!("mark.svg"))))
            .route("/events", get(events))
            .route("/click", post(click))
            .route("/submit", post(submit))
            .route("/close", post(close))
            .with_state(self.clone())
    }

    /// What the page shows, as one value.
    fn picture(&self) -> Value {
        let options = self.options();
        let channel = options.channels.first();
        let messages = self.messages();
        let shown: Vec<_> = messages.iter().filter(|m| channel.is_some_and(|c| c.id == m.channel)).collect();
        let shown = &shown[shown.len().saturating_sub(SHOWN_MAX)..];
        json!({"channel": channel, "users": options.users, "messages": shown, "modals": self.modals(),
            "narration": self.narration()})
    }
}

fn file(content_type: &'static str, text: &'static str) -> Response {
    let headers: [(HeaderName, &str); 5] = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}

async fn events(State(slack): State<Slack>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let mut changes = slack.changes();
    changes.mark_changed();
    let stream = futures::stream::unfold((slack, changes), |(slack, mut changes)| async move {
        changes.changed().await.ok()?;
        sleep(FRAME).await;
        changes.mark_unchanged();
        let event = Event::default().data(slack.picture().to_string());
        Some((Ok(event), (slack, changes)))
    });
    Sse::new(stream).keep_alive(KeepAlive::default())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Click {
    ts: String,
    action_id: String,
    user: String,
}

/// JSON alone is taken, which another site's page cannot send here without being asked first.
async fn click(State(slack): State<Slack>, Json(click): Json<Click>) -> Response {
    told(slack.click(&click.ts, &click.action_id, &click.user, Delivery::Auto).await)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Submit {
    view: String,
    user: String,
    /// Texts by block id and action id.
    values: BTreeMap<String, BTreeMap<String, String>>,
}

async fn submit(State(slack): State<Slack>, Json(submit): Json<Submit>) -> Response {
    told(slack.submit(&submit.view, &submit.user, &submit.values, Delivery::Auto).await)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Close {
    view: String,
}

async fn close(State(slack): State<Slack>, Json(close): Json<Close>) -> Response {
    slack.close_modal(&close.view);
    Json(json!({"ok": true})).into_response()
}

/// What the page tells the person who clicked.
fn told(outcome: anyhow::Result<ClickOutcome>) -> Response {
    match outcome {
        Ok(outcome) => Json(json!({"ok": outcome.acked, "response": outcome.response})).into_response(),
        Err(error) => (StatusCode::CONFLICT, Json(json!({"ok": false, "error": format!("{error:#}")}))).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use tower::ServiceExt;

    use super::*;
    use crate::clock::Clock;
    use crate::sim::slack::SlackOptions;

    fn page() -> (Slack, Router) {
        let slack = Slack::new(Clock::system(), SlackOptions::default());
        let router = slack.page_router();
        (slack, router)
    }

    async fn answer(router: &Router, request: axum::http::request::Builder, body: &str) -> Response {
        router.clone().oneshot(request.body(axum::body::Body::from(body.to_owned())).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn the_page_may_run_its_own_files_and_nothing_else() {
        let (_, router) = page();
        for path in ["/", "/page.js", "/blocks.js", "/page.css", "/mark.svg"] {
            let found = answer(&router, axum::http::Request::get(path), "").await;
            assert_eq!(found.status(), StatusCode::OK);
            let policy = found.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(
                policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"),
                "{policy}"
            );
        }
        for file in [include_str!("page.js"), include_str!("blocks.js")] {
            let unsafe_ways = ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("];
            assert!(!unsafe_ways.iter().any(|way| file.contains(way)), "texts must stay texts");
        }
        assert!(!include_str!("index.html").contains(" style=") && !include_str!("index.html").contains("<script>"));
    }

    #[tokio::test]
    async fn a_viewer_gets_the_whole_state_at_once_and_at_each_change() {
        let (slack, router) = page();
        let mut events = answer(&router, axum::http::Request::get("/events"), "").await.into_body().into_data_stream();
        let mut next = async || {
            let bytes = events.next().await.unwrap().unwrap();
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            serde_json::from_str::<Value>(text.trim().strip_prefix("data: ").unwrap()).unwrap()
        };
        assert_eq!(next().await["users"][1]["name"], "lead");
        slack.narrate("first card posted");
        assert_eq!(next().await["narration"][0]["text"], "first card posted");
    }

    #[tokio::test]
    async fn a_click_that_another_site_could_send_is_refused() {
        let (_, router) = page();
        let form = axum::http::Request::post("/click").header(header::CONTENT_TYPE, "text/plain");
        let body = r#"{"ts": "1.0", "action_id": "approve", "user": "U0ONCALL1"}"#;
        assert_eq!(answer(&router, form, body).await.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let json = axum::http::Request::post("/click").header(header::CONTENT_TYPE, "application/json");
        assert_eq!(answer(&router, json, body).await.status(), StatusCode::CONFLICT, "there is no such message");
    }
}
