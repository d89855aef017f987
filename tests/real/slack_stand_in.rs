//! Serves the Slack stand-in to the real stories: the Web API and the page, and under `/control` what only a story may ask of it.
//!
//! usage: slack_stand_in ADDRESS [INTERACTIVITY_URL]     prints `{"api": ..., "control": ...}` once it listens

use std::io::Write;

use axum::extract::{Json, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Router, serve};
use firstlook::clock::Clock;
use firstlook::sim::slack::{Delivery, Fault, Slack, SlackOptions};
use serde::Deserialize;
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let listener = tokio::net::TcpListener::bind(arguments.first().map_or("127.0.0.1:0", String::as_str)).await?;
    let base = format!("http://{}", listener.local_addr()?);
    let slack = Slack::new(Clock::system(), SlackOptions::default());
    if let Some(url) = arguments.get(1) {
        slack.set_interactivity_url(url);
    }
    let control = Router::new()
        .route("/control/messages", get(messages))
        .route("/control/requests", get(requests))
        .route("/control/modals", get(modals))
        .route("/control/payload", post(payload))
        .route("/control/click", post(click))
        .route("/control/fault", post(fault))
        .route("/control/release", post(release))
        .with_state(slack.clone());
    println!("{}", json!({"api": format!("{base}/api"), "control": format!("{base}/control")}));
    std::io::stdout().flush()?;
    serve(listener, slack.router().merge(slack.page_router()).merge(control)).await?;
    Ok(())
}

/// Every message with its plain text and its buttons, thread replies and ephemeral ones too.
async fn messages(State(slack): State<Slack>) -> Json<Value> {
    let all = slack.messages();
    Json(all.iter().map(|m| json!({"message": m, "plain": m.plain(), "buttons": m.buttons()})).collect())
}

async fn requests(State(slack): State<Slack>) -> Json<Value> {
    let all = slack.requests();
    Json(
        all.iter().map(|r| json!({"method": r.method, "at_ms": r.at_ms, "args": r.args, "answer": r.answer})).collect(),
    )
}

async fn modals(State(slack): State<Slack>) -> Json<Value> {
    Json(json!(slack.modals()))
}

#[derive(Deserialize)]
struct Press {
    ts: String,
    action_id: String,
    user: String,
    /// `auto`, `socket`, `http`.
    #[serde(default)]
    delivery: String,
}

type Refused = (StatusCode, String);

fn refused(error: anyhow::Error) -> Refused {
    (StatusCode::BAD_REQUEST, format!("{error:#}"))
}

/// The payload of a click, for a story that signs and sends it by itself.
async fn payload(State(slack): State<Slack>, Json(press): Json<Press>) -> Result<Json<Value>, Refused> {
    slack.block_actions(&press.ts, &press.action_id, &press.user).map(Json).map_err(refused)
}

async fn click(State(slack): State<Slack>, Json(press): Json<Press>) -> Result<Json<Value>, Refused> {
    let delivery = match press.delivery.as_str() {
        "socket" => Delivery::Socket,
        "http" => Delivery::Http,
        _ => Delivery::Auto,
    };
    let outcome = slack.click(&press.ts, &press.action_id, &press.user, delivery).await.map_err(refused)?;
    Ok(Json(json!({"acked": outcome.acked, "status": outcome.status, "response": outcome.response})))
}

#[derive(Deserialize)]
struct Planned {
    method: String,
    #[serde(flatten)]
    kind: Kind,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    RateLimited(u64),
    Status(u16),
    Error(String),
    /// `html`, `hang`, `drop`, `hold_after_accept`, `drop_after_accept`.
    Fault(String),
}

async fn fault(State(slack): State<Slack>, Json(planned): Json<Planned>) -> Result<(), Refused> {
    let fault = match planned.kind {
        Kind::RateLimited(seconds) => Fault::RateLimited(seconds),
        Kind::Status(status) => Fault::Status(status),
        Kind::Error(error) => Fault::Error(error),
        Kind::Fault(name) => match name.as_str() {
            "html" => Fault::Html,
            "hang" => Fault::Hang,
            "drop" => Fault::Drop,
            "hold_after_accept" => Fault::HoldAfterAccept,
            "drop_after_accept" => Fault::DropAfterAccept,
            _ => return Err((StatusCode::BAD_REQUEST, format!("no fault is called {name}"))),
        },
    };
    slack.fail_next(&planned.method, fault);
    Ok(())
}

async fn release(State(slack): State<Slack>) {
    slack.release_held();
}
