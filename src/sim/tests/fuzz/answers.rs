//! Answers of the model and of Prometheus, as a server gives them that says anything.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::header;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{now, try_hard};
use crate::agent::llm::{Llm, LlmOptions};
use crate::agent::step::Budget;
use crate::agent::{report, step};
use crate::http;
use crate::model::Room;
use crate::observe::Prometheus;
use crate::observe::prometheus::PrometheusOptions;
use crate::observe::web::WebOptions;
use crate::redact::Redactor;

/// A server that answers every request with the same bytes.
pub(super) struct Parrot {
    pub(super) says: Arc<Mutex<Vec<u8>>>,
    pub(super) url: String,
    _stop: tokio_util::sync::DropGuard,
}

impl Parrot {
    pub(super) async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let says: Arc<Mutex<Vec<u8>>> = Arc::default();
        let spoken = Arc::clone(&says);
        let answer = move || {
            let bytes = spoken.lock().unwrap().clone();
            async move { ([(header::CONTENT_TYPE, "application/json")], bytes) }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(http::serve(listener, Router::new().fallback(answer), stop.clone()));
        Self { says, url, _stop: stop.drop_guard() }
    }
}

#[test]
fn replies_of_the_model_are_read_or_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let parrot = runtime.block_on(Parrot::start());
    let options = LlmOptions {
        base_url: format!("{}/v1", parrot.url),
        model: "m".into(),
        api_key: None,
        turn_timeout: Duration::from_secs(20),
        room: Room::default(),
    };
    let llm = Llm::new(options, Redactor::default()).unwrap();
    let call = |name: &str, arguments: Value| json!({"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments.to_string()}});
    let reply = |calls: Value| {
        json!({"id": "x", "choices": [{"index": 0, "finish_reason": "tool_calls",
            "message": {"role": "assistant", "content": "I look.", "tool_calls": calls}}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2}})
        .to_string()
        .into_bytes()
    };
    let submitted = json!({"headline": "x is down", "cause": "y", "certainty": "proved",
        "culprit": {"kind": "Deployment", "namespace": "shop", "name": "checkout"}, "citations": [{"evidence": "e1", "quote": "a quote of some length"}],
        "ruled_out": ["z"], "proposals": [{"tool": "rollout_undo", "kind": "Deployment", "namespace": "shop", "name": "checkout", "to_revision": 6}],
        "reasoning": ["r"]});
    let seeds = [
        reply(json!([call("get_workload", json!({"namespace": "shop"}))])),
        reply(json!([call("submit_report", submitted.clone())])),
    ];
    try_hard("model's reply", &seeds, |bytes| {
        *parrot.says.lock().unwrap() = bytes.to_vec();
        let messages = [json!({"role": "user", "content": "x"})];
        if let Ok(reply) = runtime.block_on(llm.complete(&messages, &json!([]))) {
            let budget = Budget { turns_left: 3, calls_left: 3, useless_replies: 0 };
            drop(step::next(&reply, &budget, &["get_workload".to_owned()]));
        }
    });
    try_hard("model's report", &[submitted.to_string().into_bytes()], |bytes| {
        if let Ok(Value::Object(arguments)) = serde_json::from_slice(bytes) {
            drop(report::prove(&arguments, &[], &[], &Redactor::default()));
        }
    });
}

#[test]
fn answers_of_prometheus_are_read_or_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let parrot = runtime.block_on(Parrot::start());
    let web = WebOptions { url: parrot.url.clone(), ..WebOptions::default() };
    let options = PrometheusOptions { web, namespace_label: "namespace".into() };
    let prometheus = Prometheus::new(options, Redactor::default()).unwrap();
    let answer =
        |result: Value| json!({"status": "success", "data": result, "warnings": ["w"]}).to_string().into_bytes();
    let seeds = [
        answer(
            json!({"resultType": "vector", "result": [{"metric": {"__name__": "up", "pod": "a"}, "value": [1774370400.1, "1"]}]}),
        ),
        answer(
            json!({"resultType": "matrix", "result": [{"metric": {"pod": "a"}, "values": [[1774370400, "1"], [1774370460, "NaN"]],
            "histograms": [[1774370400, {"count": "1"}]]}]}),
        ),
        answer(json!({"resultType": "scalar", "result": [1774370400, "+Inf"]})),
        answer(
            json!({"groups": [{"name": "g", "rules": [{"type": "alerting", "name": "A", "query": "up == 0", "alerts": [
            {"labels": {"alertname": "A", "namespace": "shop"}, "annotations": {"summary": "s"}, "state": "firing",
                "activeAt": "2026-03-24T16:00:00Z", "value": "1e+00"}]}]}]}),
        ),
        answer(json!(["up", "http_requests_total"])),
        answer(json!({"up": [{"type": "gauge", "help": "h", "unit": ""}]})),
    ];
    try_hard("Prometheus' answer", &seeds, |bytes| {
        *parrot.says.lock().unwrap() = bytes.to_vec();
        runtime.block_on(async {
            if let Ok(answered) = prometheus.query("up", now()).await {
                answered.series.iter().for_each(|series| drop(series.track.spark(0.0, 1e9)));
            }
            drop(prometheus.rules().await);
            drop(prometheus.about("up").await);
        });
    });
}
