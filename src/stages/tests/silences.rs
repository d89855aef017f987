//! Silences: exactly one alert is silenced in Alertmanager by leave, once, and is heard again by another.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::*;
use crate::model::{Alert, AlertStatus, Signal, SignalBody, SignalId};
use crate::observe::alertmanager::AlertmanagerOptions;
use crate::observe::web::WebOptions;
use crate::observe::{Alertmanager, Sources};

const PRINT: &str = "66fbcb5d4f2b1d45";

/// An Alertmanager as far as it is asked here: alerts and silences that match by equality.
#[derive(Default)]
struct Held {
    alerts: Vec<Value>,
    silences: Vec<Value>,
    posts: usize,
    /// The next silence is made, and its answer is not given.
    loses_answer: bool,
}

type Fake = Arc<Mutex<Held>>;

async fn alerts(State(fake): State<Fake>) -> Json<Value> {
    let held = fake.lock().unwrap();
    let told = held.alerts.iter().map(|alert| {
        let covers = |silence: &&Value| {
            let matches = |one: &Value| alert["labels"][one["name"].as_str().unwrap()] == one["value"];
            silence["status"]["state"] == "active" && silence["matchers"].as_array().unwrap().iter().all(matches)
        };
        let by: Vec<&Value> = held.silences.iter().filter(covers).map(|silence| &silence["id"]).collect();
        let state = if by.is_empty() { "active" } else { "suppressed" };
        json!({"fingerprint": alert["fingerprint"], "labels": alert["labels"],
            "status": {"state": state, "silencedBy": by, "inhibitedBy": []}})
    });
    Json(told.collect())
}

async fn silences(State(fake): State<Fake>) -> Json<Value> {
    Json(json!(fake.lock().unwrap().silences))
}

async fn make(State(fake): State<Fake>, Json(mut silence): Json<Value>) -> (StatusCode, Json<Value>) {
    let mut held = fake.lock().unwrap();
    held.posts += 1;
    let id = format!("11111111-2222-4333-8444-{:012}", held.posts);
    silence["id"] = json!(id);
    silence["status"] = json!({"state": "active"});
    held.silences.push(silence);
    if std::mem::take(&mut held.loses_answer) {
        return (StatusCode::GATEWAY_TIMEOUT, Json(Value::Null));
    }
    (StatusCode::OK, Json(json!({"silenceID": id})))
}

async fn end(State(fake): State<Fake>, Path(id): Path<String>) -> StatusCode {
    let mut held = fake.lock().unwrap();
    match held.silences.iter_mut().find(|silence| silence["id"] == id.as_str()) {
        Some(silence) => {
            silence["status"]["state"] = json!("expired");
            StatusCode::OK
        }
        None => StatusCode::NOT_FOUND,
    }
}

fn web() -> ObjectRef {
    object(Kind::Deployment, "shop", "web")
}

fn labels(pod: &str) -> Value {
    json!({"alertname": "KubePodCrashLooping", "namespace": "shop", "pod": pod, "severity": "warning"})
}

/// A Deployment in trouble, whose alert fires and was heard.
async fn world() -> (World, Fake, CancellationToken) {
    let fake = Fake::default();
    let other = json!({"fingerprint": "0123456789abcdef", "labels": labels("other-1")});
    fake.lock().unwrap().alerts = vec![json!({"fingerprint": PRINT, "labels": labels("web-1")}), other];
    let router = Router::new()
        .route("/api/v2/alerts", get(alerts))
        .route("/api/v2/silences", get(silences).post(make))
        .route("/api/v2/silence/{id}", delete(end))
        .with_state(fake.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let web = WebOptions { url: format!("http://{}", listener.local_addr().unwrap()), ..WebOptions::default() };
    let stop = CancellationToken::new();
    tokio::spawn(crate::http::serve(listener, router, stop.clone()));
    let options = AlertmanagerOptions { web, namespace_label: "namespace".into() };
    let alertmanager = Some(Alertmanager::new(options, Redactor::default()).unwrap());
    let runs = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u-web"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template("web", "web:1")}});
    let world =
        Box::pin(World::start_beside(vec![runs], self::web(), Sources { alertmanager, ..Sources::default() })).await;
    let signal = heard(&world, AlertStatus::Firing);
    let place = Write::Place { signal: signal.id.clone(), incident: world.incident.id.clone() };
    world.store.commit(vec![Write::Signals(vec![signal])], Durability::Durable, None).await.unwrap();
    world.store.commit(vec![place], Durability::Durable, None).await.unwrap();
    (world, fake, stop)
}

fn heard(world: &World, status: AlertStatus) -> Signal {
    let alert = Alert {
        receiver: "r".into(),
        group_key: "g".into(),
        fingerprint: PRINT.into(),
        name: "KubePodCrashLooping".into(),
        status,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        starts_at: world.clock.now(),
        ends_at: None,
        generator_url: None,
        truncated: 0,
    };
    let id = SignalId::derive(&["alert", &format!("{status:?}")]);
    Signal { id, cluster: world.incident.cluster.clone(), heard_at: world.clock.now(), body: SignalBody::Alert(alert) }
}

fn silence(alert: &'static str, hours: u32) -> Proposal {
    Proposal::SilenceAlert { object: web(), alert: alert.into(), hours }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_one_alert_is_silenced_in_the_approvers_name_and_heard_again_by_an_undo() {
    let (world, fake, _stop) = Box::pin(world()).await;
    let done = Box::pin(world.carry_out(silence(PRINT, 2))).await;
    let made = fake.lock().unwrap().silences[0].clone();
    let expected = ["alertname", "namespace", "pod", "severity"]
        .map(|name| json!({"name": name, "value": labels("web-1")[name], "isRegex": false, "isEqual": true}));
    assert_eq!(made["matchers"], json!(expected));
    assert_eq!((&made["createdBy"], &made["startsAt"]), (&json!(PERSON), &json!(NOW)));
    assert_eq!(made["endsAt"], "2026-03-24T18:40:00Z");
    assert!(made["comment"].as_str().unwrap().contains(done.id.as_str()), "{made}");
    let again = world.ask(silence(PRINT, 1)).await;
    assert!(again.because.as_str().contains("covers it already"), "{}", again.because);

    world.press(Pressed::Undo { approval: done.id.clone() }).await;
    let asked = world.undoing(&done).await;
    let undone = Box::pin(world.approve(&asked)).await;
    assert_eq!(undone.state, ApprovalState::Executed, "{}", undone.because);
    assert_eq!(fake.lock().unwrap().silences[0]["status"]["state"], "expired");
    world.verified(&undone, 1, |came| matches!(came, Verification::Better { .. })).await;
    assert_eq!(fake.lock().unwrap().posts, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silence_whose_answer_was_lost_is_found_by_its_comment_and_not_made_twice() {
    let (world, fake, _stop) = Box::pin(world()).await;
    let asked = world.ask(silence(PRINT, 1)).await;
    fake.lock().unwrap().loses_answer = true;
    world.press(Pressed::Approve { approval: asked.id.clone() }).await;
    assert!(Box::pin(world.execute.run_once()).await.is_err());
    assert_eq!(world.now(&asked).await.state, ApprovalState::Executing);
    world.clock.set(world.clock.now() + SignedDuration::from_secs(60));
    while Box::pin(world.execute.run_once()).await.unwrap() == Ran::Worked {}
    assert_eq!((world.now(&asked).await.state, fake.lock().unwrap().posts), (ApprovalState::Executed, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_an_alert_of_the_incident_that_fires_is_silenced_for_some_hours_and_by_no_model() {
    let (world, fake, _stop) = Box::pin(world()).await;
    for (proposal, why) in [
        (silence("0123456789abcdef", 1), "no alert of this incident"),
        (silence(PRINT, 5), "1 to 4 hours"),
        (silence(PRINT, 0), "1 to 4 hours"),
        (silence("KubePodCrashLoopin", 1), "holds no alert"),
        (silence("KubePodCrashLooping", 1), "2 alerts have this name"),
        (Proposal::ExpireSilence { object: web(), alert: PRINT.into() }, "no silence of firstlook's"),
    ] {
        let refused = world.ask(proposal.clone()).await;
        assert_eq!(refused.state, ApprovalState::Refused, "{proposal:?}");
        assert!(refused.because.as_str().contains(why), "{}", refused.because);
    }
    let scene = scene::read(&world.reader, &web(), &[], Duration::from_secs(5)).await;
    let (incident, scene, proposal) = (&world.incident, Some(&scene), &silence(PRINT, 1));
    let by_model = Suggestion { incident, scene, findings: &[], proposal, caller: Caller::Agent, undoes: None };
    let refused = Box::pin(world.gate.propose(by_model)).await.unwrap();
    assert!(refused.because.as_str().contains("a model keeps nobody"), "{}", refused.because);
    fake.lock().unwrap().alerts[0]["labels"]["token"] = json!("x");
    let masked = world.ask(silence(PRINT, 2)).await;
    assert!(masked.because.as_str().contains("cannot be matched exactly"), "{}", masked.because);
    assert_eq!(fake.lock().unwrap().posts, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_that_resolved_or_that_somebody_silenced_meanwhile_is_not_silenced() {
    let (world, fake, _stop) = Box::pin(world()).await;
    let asked = world.ask(silence(PRINT, 1)).await;
    let by_hand = json!({"id": "by-hand", "status": {"state": "active"}, "comment": "me", "endsAt": "",
        "matchers": [{"name": "namespace", "value": "shop"}]});
    fake.lock().unwrap().silences.push(by_hand);
    let ended = Box::pin(world.approve(&asked)).await;
    assert_eq!(ended.state, ApprovalState::Withdrawn, "{}", ended.because);
    fake.lock().unwrap().silences.clear();
    let asked = world.ask(silence(PRINT, 3)).await;
    fake.lock().unwrap().alerts.clear();
    let ended = Box::pin(world.approve(&asked)).await;
    assert_eq!((ended.state, fake.lock().unwrap().posts), (ApprovalState::Withdrawn, 0), "{}", ended.because);
}
