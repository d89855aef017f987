//! A language model for the benchmark: reads for as many turns as it is told, then reports "unknown"; as fast as it is told.
//!
//! usage: model_stand_in ROUNDS ADDRESS [LATENCY_MS]     prints `{"api": ..., "control": ...}`; `GET control` tells the microseconds of each
//! conversation from its first request's arrival to its last answer

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::extract::{Json, State};
use axum::routing::{get, post};
use axum::{Router, serve};
use serde_json::{Value, json};

type Seen = (Instant, usize, u128);

#[derive(Clone)]
struct Model {
    rounds: usize,
    /// Before each answer.
    latency: Duration,
    /// First user message -> when it was first seen, and how many turns it had by when.
    seen: Arc<Mutex<HashMap<String, Seen>>>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let rounds = arguments.next().context("how many rounds?")?.parse()?;
    let listener = tokio::net::TcpListener::bind(arguments.next().as_deref().unwrap_or("127.0.0.1:0")).await?;
    let latency = Duration::from_millis(arguments.next().map_or(Ok(0), |ms| ms.parse())?);
    let base = format!("http://{}", listener.local_addr()?);
    let model = Model { rounds, latency, seen: Arc::default() };
    let router = Router::new()
        .route("/v1/chat/completions", post(complete))
        .route(
            "/v1/models",
            get(async || Json(json!({"object": "list", "data": [{"id": "bench", "object": "model"}]}))),
        )
        .route("/control", get(tell))
        .with_state(model);
    println!("{}", json!({"api": format!("{base}/v1"), "control": format!("{base}/control")}));
    std::io::stdout().flush()?;
    serve(listener, router).await?;
    Ok(())
}

async fn complete(State(model): State<Model>, Json(body): Json<Value>) -> Json<Value> {
    let came = Instant::now();
    tokio::time::sleep(model.latency).await;
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let turns = messages.iter().filter(|m| m["role"] == "assistant").count();
    let user = messages.iter().find(|m| m["role"] == "user").map(|m| m["content"].to_string()).unwrap_or_default();
    let namespace =
        user.split("Namespace: ").nth(1).and_then(|t| t.split("\\n").next()).unwrap_or("default").to_owned();
    let (name, arguments) = if turns < model.rounds {
        ("list_events", json!({"namespace": namespace}))
    } else {
        ("submit_report", json!({"headline": "The cause is unknown.", "certainty": "unknown", "citations": []}))
    };
    let answer = json!({"id": "chatcmpl-bench", "object": "chat.completion", "created": 0, "model": "bench",
        "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant", "content": null, "tool_calls": [
            {"id": format!("call_{turns}"), "type": "function", "function": {"name": name, "arguments": arguments.to_string()}}]}}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 20, "total_tokens": 1020}});
    if let Ok(mut seen) = model.seen.lock() {
        let entry = seen.entry(user).or_insert((came, 0, 0));
        entry.1 = turns + 1;
        entry.2 = entry.0.elapsed().as_micros();
    }
    Json(answer)
}

async fn tell(State(model): State<Model>) -> Json<Value> {
    let seen = model
        .seen
        .lock()
        .map(|s| s.values().map(|(_, turns, us)| json!({"turns": turns, "us": us})).collect::<Vec<_>>());
    Json(json!(seen.unwrap_or_default()))
}
