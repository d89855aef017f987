//! Every parser of outside input, tried with arbitrary bytes and with valid input that was damaged: an error or a value,
//! never a panic.

use std::cell::Cell;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::header;
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, TestRunner};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::folder;
use crate::agent::llm::{Llm, LlmOptions};
use crate::agent::step::Budget;
use crate::agent::{report, step};
use crate::config::Config;
use crate::govern::callers::{Callers, token_hash};
use crate::govern::gate::Gate;
use crate::govern::policy::Policy;
use crate::http;
use crate::ingest::alertmanager;
use crate::model::scene::At;
use crate::model::schedule::Schedule;
use crate::model::{ApprovalId, ClusterName, EvidenceId, Kind, Name, Room};
use crate::observe::prometheus::PrometheusOptions;
use crate::observe::queries::Bounds;
use crate::observe::typed::Typed;
use crate::observe::web::WebOptions;
use crate::observe::{Prometheus, fold, json as objects, queries};
use crate::redact::Redactor;
use crate::slack::interact;
use crate::slack::interact::Place;

/// How often each parser is tried in an ordinary run.
const TRIES: u32 = 192;
/// `FIRSTLOOK_FUZZ_SECONDS=600` tries each parser for so long instead.
const SECONDS: &str = "FIRSTLOOK_FUZZ_SECONDS";
/// What parsers stumble over.
const WORDS: [&str; 28] = [
    "",
    "\0",
    "null",
    "-1",
    "1e999",
    "18446744073709551616",
    "9223372036854775807",
    "[[[[[[[[[[",
    "{\"a\":",
    "\"",
    "\\u0000",
    "\u{202e}",
    "é",
    "😀",
    "\u{fffd}",
    "\r\n",
    "\t",
    "${x}",
    "%2e%2e%2f",
    "../..",
    "*",
    "&a *a",
    "- ",
    ": ",
    "<!channel>",
    "</data>",
    "password=hunter22",
    "-----BEGIN PRIVATE KEY-----",
];

/// One way to damage an input, by numbers that are taken modulo what there is.
#[derive(Clone, Debug)]
enum Harm {
    Set(usize, u8),
    Cut(usize, usize),
    Twice(usize, usize),
    Word(usize, usize),
    /// Of JSON: another value at one of its places.
    Node(usize, usize),
}

fn harm() -> impl Strategy<Value = Harm> {
    let at = || any::<u32>().prop_map(|at| at as usize);
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Harm::Set(at, byte)),
        (at(), 0_usize..64).prop_map(|(at, length)| Harm::Cut(at, length)),
        (at(), 0_usize..64).prop_map(|(at, length)| Harm::Twice(at, length)),
        (at(), at()).prop_map(|(at, word)| Harm::Word(at, word)),
        (at(), at()).prop_map(|(at, value)| Harm::Node(at, value)),
        (at(), at()).prop_map(|(at, value)| Harm::Node(at, value)),
    ]
}

fn damaged(mut bytes: Vec<u8>, harms: &[Harm]) -> Vec<u8> {
    for harm in harms {
        let place = |at: usize| at % bytes.len().max(1);
        match *harm {
            Harm::Set(at, byte) => {
                let at = place(at);
                bytes.iter_mut().skip(at).take(1).for_each(|old| *old = byte);
            }
            Harm::Cut(at, many) => {
                let from = place(at);
                bytes.drain(from.min(bytes.len())..(from + many).min(bytes.len()));
            }
            Harm::Twice(at, many) => {
                let from = place(at).min(bytes.len());
                let again = bytes[from..(from + many).min(bytes.len())].to_vec();
                bytes.splice(from..from, again);
            }
            Harm::Word(at, word) => {
                let from = place(at).min(bytes.len());
                bytes.splice(from..from, WORDS[word % WORDS.len()].bytes());
            }
            Harm::Node(at, value) => {
                if let Ok(mut whole) = serde_json::from_slice::<Value>(&bytes) {
                    let places = Cell::new(at % count(&whole));
                    put(&mut whole, &places, &odd(value));
                    bytes = whole.to_string().into_bytes();
                }
            }
        }
    }
    bytes
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}

/// Puts `new` at the n-th place.
fn put(value: &mut Value, nth: &Cell<usize>, new: &Value) {
    let Some(left) = nth.get().checked_sub(1) else {
        *value = new.clone();
        return nth.set(usize::MAX);
    };
    nth.set(left);
    let inner: Vec<&mut Value> = match value {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(fields) => fields.values_mut().collect(),
        _ => return,
    };
    for inner in inner {
        if nth.get() == usize::MAX {
            return;
        }
        put(inner, nth, new);
    }
}

/// A value that does not belong there.
fn odd(which: usize) -> Value {
    let values = [
        json!(null),
        json!(true),
        json!(-1),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1e300),
        json!(0.1),
        json!([]),
        json!({}),
        json!([null]),
        json!([[[[[[]]]]]]),
        json!({"": {"": ""}}),
        json!("0001-01-01T00:00:00Z"),
        json!("9999-12-31T23:59:59Z"),
        json!("2026-13-01T00:00:00Z"),
        json!("k".repeat(3_000)),
        json!("999999999999Gi"),
        json!("-5m"),
        json!("1e400Ei"),
    ];
    let all = values.len() + WORDS.len();
    values.get(which % all).cloned().unwrap_or_else(|| json!(WORDS[which % all - values.len()]))
}

/// Tries a parser with these seeds, whole, damaged, and not at all like them.
pub(crate) fn try_hard(parser: &str, seeds: &[Vec<u8>], parse: impl Fn(&[u8])) {
    seeds.iter().for_each(|seed| parse(seed));
    let seeds = seeds.to_vec();
    let damage = (any::<u32>(), proptest::collection::vec(harm(), 1..6));
    let damage = damage.prop_map(move |(seed, harms)| damaged(seeds[seed as usize % seeds.len()].clone(), &harms));
    let input = prop_oneof![4 => damage, 1 => proptest::collection::vec(any::<u8>(), 0..600)];
    let seconds = std::env::var(SECONDS).ok().and_then(|seconds| seconds.parse().ok());
    let runs = Runs { cases: TRIES, failure_persistence: None, ..Runs::default() };
    let (began, mut tries) = (Instant::now(), 0);
    loop {
        let mut runner = TestRunner::new(runs.clone());
        let tried = runner.run(&input, |bytes| {
            parse(&bytes);
            Ok(())
        });
        if let Err(failure) = tried {
            panic!("{parser}: {failure}");
        }
        tries += TRIES;
        if seconds.is_none_or(|seconds| began.elapsed() >= Duration::from_secs(seconds)) {
            break;
        }
    }
    println!("{parser}: {tries} inputs in {:?}", began.elapsed());
}

fn now() -> Timestamp {
    "2026-03-24T16:40:00Z".parse().unwrap()
}

fn cluster() -> ClusterName {
    ClusterName::parse("test").unwrap()
}

/// The files below a folder of the package whose names end so.
fn files(at: &str, ending: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(at);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let wanted = paths.iter().filter(|path| path.to_str().unwrap().ends_with(ending));
    wanted.map(|path| std::fs::read(path).unwrap()).collect()
}

/// The objects of a scenario, one of each kind.
pub(crate) fn one_of_each_kind() -> Vec<Vec<u8>> {
    let mut kinds = std::collections::BTreeMap::new();
    for scenario in [
        "bad-image-rollout",
        "d06-node-lost-kubelet",
        "hpa-at-maximum",
        "cronjob-suspended",
        "pvc-storage-class-missing",
    ] {
        let snapshot = folder(scenario).json("cluster.json").unwrap();
        for item in snapshot["items"].as_array().unwrap() {
            kinds.entry(item["kind"].as_str().unwrap().to_owned()).or_insert_with(|| item.to_string().into_bytes());
        }
    }
    kinds.into_values().collect()
}

#[test]
fn webhook_bodies_are_read_or_refused() {
    let captured = files("fixtures/captures/alertmanager", ".json");
    let mut seeds: Vec<Vec<u8>> = captured
        .iter()
        .filter_map(|capture| serde_json::from_slice::<Value>(capture).ok())
        .map(|capture| if capture["alerts"].is_array() { capture } else { capture["body"].clone() })
        .map(|body| body.to_string().into_bytes())
        .collect();
    seeds.push(folder("bad-image-rollout").files["alert.json"].clone());
    try_hard("webhook body", &seeds, |bytes| {
        if let Ok(signals) = alertmanager::parse(bytes, &cluster(), &Redactor::default(), now()) {
            serde_json::to_string(&signals).unwrap();
        }
    });
}

#[test]
fn clicks_are_read_or_refused() {
    let place = Place { cluster: cluster(), redactor: Redactor::default() };
    let payloads = [
        json!({"type": "block_actions", "user": {"id": "U9", "username": "bob", "team_id": "T1"}, "trigger_id": "1.2.3",
            "container": {"type": "message", "message_ts": "1.1", "channel_id": "C1"}, "response_url": "https://hooks.slack.com/x",
            "actions": [{"type": "button", "action_id": "approve", "value": "a1", "action_ts": "1.1"}]}),
        json!({"type": "view_submission", "user": {"id": "U9", "name": "bob"}, "view": {"id": "V1", "callback_id": "reject_reason",
            "private_metadata": "{\"approval\": \"a1\"}",
            "state": {"values": {"reject_reason": {"reject_reason": {"value": "no"}}}}}}),
    ];
    let plain: Vec<Vec<u8>> = payloads.iter().map(|payload| payload.to_string().into_bytes()).collect();
    try_hard("click", &plain, |bytes| drop(interact::parse(&String::from_utf8_lossy(bytes), &place, now())));
    let forms: Vec<Vec<u8>> = payloads
        .iter()
        .map(|payload| crate::sim::slack::signed_with("s", &payload.to_string(), 1).body.into_bytes())
        .collect();
    let secret = "s".to_owned().into();
    try_hard("click's form", &forms, |bytes| {
        drop(interact::payload_of(bytes));
        let (timestamp, signature) = bytes.split_at(bytes.len() / 2);
        let text = |part| String::from_utf8_lossy(part).into_owned();
        let taken = interact::verify(&secret, &text(timestamp), &format!("v0={}", text(signature)), bytes, now());
        assert!(taken.is_err(), "nobody guesses a signature");
    });
}

#[test]
fn files_of_settings_are_read_or_refused() {
    let policies = [
        files("deploy", "policy.yaml"),
        vec![
            br#"
tiers: {rollout_restart: destructive}
approvers: [{who: [U024BE7LH, "group:S0614TZR7"], tiers: [reversible], namespaces: ["shop-*"], people: 2}]
deny: [{labels: {a: "true"}, namespaces: [kube-system], tools: [rollout_undo]}]
freeze: [{cron: "0 18 * * FRI", for: 60h, timezone: Europe/Paris, except: {severity: critical}}]
limits: {writes_per_hour: 6, tools: {rollout_undo: {per_hour: 1}}, callers: {"*": {}}}
"#
            .to_vec(),
        ],
    ]
    .concat();
    try_hard("policy", &policies, |bytes| drop(Policy::parse(&String::from_utf8_lossy(bytes), "policy.yaml")));
    let callers = format!(
        "callers:\n  - {{name: kimi, for: U024BE7LH, token_sha256: {}, namespaces: [shop], tiers: [read-only]}}\n",
        token_hash("t")
    );
    let servers = Gate::servers();
    try_hard("callers", &[callers.into_bytes()], |bytes| {
        drop(Callers::parse(&String::from_utf8_lossy(bytes), "callers.yaml", &servers));
    });
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("firstlook.yaml");
    try_hard("configuration", &files("deploy", "firstlook.yaml"), |bytes| {
        std::fs::write(&path, bytes).unwrap();
        drop(Config::load(&path, &[]));
    });
}

#[test]
fn texts_are_redacted_folded_and_bounded() {
    let own = "own-credential-9f2";
    let redactor = Redactor::new([own.to_owned()]);
    let logs: Vec<Vec<u8>> = folder("bad-image-rollout")
        .files
        .iter()
        .filter(|(path, _)| path.ends_with(".log"))
        .map(|(_, log)| log.clone())
        .collect();
    let secrets = format!(
        "2026-03-24T16:40:00Z DB_PASSWORD=hunter22 Bearer abcdefgh12345678 {own} postgres://a:b@c/d xoxb-1-a eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc"
    );
    let seeds = [logs, vec![secrets.into_bytes()]].concat();
    try_hard("log", &seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        text.lines().for_each(|line| assert!(line.ends_with(fold::parted(line).1)));
        let joined = fold::fold(&text, &redactor).joined();
        assert!(!joined.as_str().contains(own), "{joined}");
    });
    try_hard("text", &seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let clean = redactor.redact(&text);
        assert!(!clean.as_str().contains(own), "{clean}");
        drop((clean.one_line(), clean.cut(7), redactor.redact_value("password", &text)));
    });
    let names = [
        b"checkout-7d9f".to_vec(),
        b"0 3 * * 1-5".to_vec(),
        b"e12".to_vec(),
        b"a0123".to_vec(),
        b"1500m".to_vec(),
        b"2Gi".to_vec(),
    ];
    try_hard("name", &names, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Some(name) = Name::parse(&text) {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
            assert!(name.as_str().chars().all(plain) && ![".", ".."].contains(&name.as_str()), "{name}");
        }
        drop((ApprovalId::parse(&text), Kind::named(&text), text.parse::<EvidenceId>(), text.parse::<Timestamp>()));
        if let Some(schedule) = Schedule::parse(&text) {
            schedule.next_after(now().to_zoned(jiff::tz::TimeZone::UTC).datetime());
        }
        crate::observe::typed::cpu_milli(&text);
        crate::observe::typed::memory_bytes(&text);
    });
    let queries = [
        br#"sum by (pod) (rate(http_requests_total{namespace="x", code=~"5.."}[5m] offset 1h)) / on(pod) group_left up"#.to_vec(),
        br#"histogram_quantile(0.9, sum(rate(a_bucket[5m])) by (le)) > bool 1 or vector(0) @ end()"#.to_vec(),
    ];
    try_hard("query", &queries, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        drop(queries::promql(&text, Bounds { label: "namespace", namespace: Some("shop") }));
        drop(queries::promql(&text, Bounds { label: "namespace", namespace: None }));
        drop(queries::logql(&text, "namespace", "shop"));
    });
}

#[test]
fn objects_of_the_cluster_are_read_as_far_as_they_go() {
    let redactor = Redactor::default();
    let typed = Typed { redactor: &redactor };
    let at = || At { evidence: EvidenceId(1), segment: 0 };
    try_hard("object", &one_of_each_kind(), |bytes| {
        let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return };
        drop((typed.pod(&value, None, at()), typed.event(&value, at()), typed.workload(&value, at())));
        drop((typed.revision(&value, at()), typed.neighbour(&value, at()), typed.node(&value, Some(&value), at())));
        drop((typed.config_map(&value, true, at()), typed.claim(&value, at()), typed.autoscaler(&value, at())));
        drop((typed.budget(&value, at()), typed.quota(&value, at()), typed.gitops(&value), typed.template(&value)));
        drop((typed.service(&value, std::slice::from_ref(&value), "".into(), at()), typed.ingress(&value, at())));
        drop((objects::reference(&value), objects::created(&value), objects::spec_written(&value)));
        drop(objects::evidence(&value, &redactor));
    });
}

/// A server that answers every request with the same bytes.
struct Parrot {
    says: Arc<Mutex<Vec<u8>>>,
    url: String,
    _stop: tokio_util::sync::DropGuard,
}

impl Parrot {
    async fn start() -> Self {
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
            drop(prometheus.alerts().await);
            drop(prometheus.about("up").await);
        });
    });
}
