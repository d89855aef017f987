//! Silences: exactly one alert is silenced in Alertmanager by leave, once, and is heard again by another.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::model::{Alert, AlertStatus, Signal, SignalBody, SignalId};
use crate::observe::{Alertmanager, Sources};
use crate::sim::tests::alertmanager;
use crate::sim::tests::alertmanager::Fake;

pub(super) const PRINT: &str = "66fbcb5d4f2b1d45";

fn web() -> ObjectRef {
    object(Kind::Deployment, "shop", "web")
}

pub(super) fn labels(pod: &str) -> Value {
    json!({"alertname": "KubePodCrashLooping", "namespace": "shop", "pod": pod, "severity": "warning"})
}

/// An alert with these labels and more.
fn with_more(fingerprint: &str, labels: &Value, more: &str) -> Value {
    let mut labels = labels.clone();
    labels[more] = json!("x");
    json!({"fingerprint": fingerprint, "labels": labels})
}

/// A Deployment in trouble, whose alert fires and was heard.
async fn world() -> (World, Fake, CancellationToken) {
    let runs = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u-web"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template("web", "web:1")}});
    let other = json!({"fingerprint": "0123456789abcdef", "labels": labels("other-1")});
    world_of(runs, web(), vec![json!({"fingerprint": PRINT, "labels": labels("web-1")}), other]).await
}

/// An object in trouble, and the alerts that fire; the first one was heard.
async fn world_of(object: Value, subject: ObjectRef, alerts: Vec<Value>) -> (World, Fake, CancellationToken) {
    let fake = Fake::default();
    fake.lock().unwrap().alerts = alerts;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let stop = CancellationToken::new();
    let options = alertmanager::serve(&fake, stop.clone()).await;
    let alertmanager = Some(Alertmanager::new(options, Redactor::default()).unwrap());
    let world =
        Box::pin(World::start_beside(vec![object], subject, Sources { alertmanager, ..Sources::default() })).await;
    let signal = heard(&world.incident.cluster, world.clock.now(), AlertStatus::Firing);
    let place = Write::Place { signal: signal.id.clone(), incident: world.incident.id.clone() };
    world.store.commit(vec![Write::Signals(vec![signal])], Durability::Durable, None).await.unwrap();
    world.store.commit(vec![place], Durability::Durable, None).await.unwrap();
    (world, fake, stop)
}

pub(super) fn heard(cluster: &ClusterName, at: jiff::Timestamp, status: AlertStatus) -> Signal {
    let alert = Alert {
        receiver: "r".into(),
        group_key: "g".into(),
        fingerprint: PRINT.into(),
        name: "KubePodCrashLooping".into(),
        status,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        starts_at: at,
        ends_at: None,
        generator_url: None,
        truncated: 0,
    };
    let id = SignalId::derive(&["alert", &format!("{status:?}")]);
    Signal { id, cluster: cluster.clone(), heard_at: at, body: SignalBody::Alert(alert) }
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
    assert_eq!(fake.lock().unwrap().made, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_with_the_same_labels_and_more_is_heard_as_before() {
    let (world, fake, _stop) = Box::pin(world()).await;
    let more = ["container", "endpoint"].map(|more| with_more(more, &labels("web-1"), more));
    fake.lock().unwrap().alerts.extend(more);
    let done = Box::pin(world.carry_out(silence(PRINT, 2))).await;
    let then = done.preview.unwrap().then.unwrap();
    assert_eq!(then, "1 alert is silenced, 2 with its labels and more are heard as before".into());
    let held = fake.lock().unwrap();
    let matchers = held.silences[0]["matchers"].as_array().unwrap();
    let names: Vec<&str> = matchers.iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["alertname", "container", "endpoint", "namespace", "pod", "severity"]);
    drop(held);
    assert_eq!(fake.lock().unwrap().silenced(), [PRINT]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_silence_more_than_one_alert_is_not_asked_for_and_not_done() {
    let (world, fake, _stop) = Box::pin(world()).await;
    fake.lock().unwrap().alerts.push(with_more("beef", &labels("web-1"), "größe"));
    let refused = world.ask(silence(PRINT, 2)).await;
    assert!(
        refused.because.as_str().contains("silence 1 more as well, which no label tells apart (beef)"),
        "{}",
        refused.because
    );
    fake.lock().unwrap().alerts.pop();
    let asked = world.ask(silence(PRINT, 3)).await;
    fake.lock().unwrap().alerts.push(with_more("beef", &labels("web-1"), "container"));
    let ended = Box::pin(world.approve(&asked)).await;
    assert_eq!((ended.state, fake.lock().unwrap().made), (ApprovalState::Withdrawn, 0), "{}", ended.because);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_node_the_namespace_of_its_alert_is_judged_too() {
    let node = ObjectRef::new(Kind::Node, None, "n1").unwrap();
    for (namespace, state) in [("vault", ApprovalState::Refused), ("shop", ApprovalState::Pending)] {
        let fires = json!({"alertname": "NodeFull", "node": "n1", "namespace": namespace});
        let alerts = vec![json!({"fingerprint": PRINT, "labels": fires})];
        let (world, _fake, _stop) = Box::pin(world_of(super::node("n1"), node.clone(), alerts)).await;
        let asked = world.ask(Proposal::SilenceAlert { object: node.clone(), alert: PRINT.into(), hours: 1 }).await;
        assert_eq!(asked.state, state, "{}", asked.because);
        if state == ApprovalState::Refused {
            assert!(asked.because.as_str().contains("hears of alerts of namespace vault"), "{}", asked.because);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silence_that_could_not_be_read_is_looked_for_again_and_one_that_is_unknown_has_no_undo() {
    let (world, fake, _stop) = Box::pin(world()).await;
    let asked = world.ask(silence(PRINT, 1)).await;
    fake.lock().unwrap().loses_lists = 1;
    let done = Box::pin(world.approve(&asked)).await;
    assert_eq!((done.state, fake.lock().unwrap().made), (ApprovalState::Executed, 1));
    assert!(done.inverse().is_some(), "it was looked for again: {:?}", done.execution);

    for (hours, loses_lists, is_behind) in [(2, 3, false), (3, 0, true)] {
        fake.lock().unwrap().silences.clear();
        let asked = world.ask(silence(PRINT, hours)).await;
        {
            let mut held = fake.lock().unwrap();
            (held.loses_lists, held.is_behind) = (loses_lists, is_behind);
        }
        let done = Box::pin(world.approve(&asked)).await;
        assert_eq!((done.state, done.inverse()), (ApprovalState::Executed, None));
        assert_eq!(fake.lock().unwrap().made as u32, hours, "none was made twice");
        assert_eq!(world.press(Pressed::Undo { approval: done.id.clone() }).await, "That cannot be taken back.");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_that_another_silence_covers_is_not_heard_again() {
    let (world, fake, _stop) = Box::pin(world()).await;
    let done = Box::pin(world.carry_out(silence(PRINT, 2))).await;
    let mut twice = fake.lock().unwrap().silences[0].clone();
    twice["id"] = json!("made-twice");
    fake.lock().unwrap().silences.push(twice);
    world.press(Pressed::Undo { approval: done.id.clone() }).await;
    let undone = Box::pin(world.approve(&world.undoing(&done).await)).await;
    assert_eq!(undone.state, ApprovalState::Executed, "{}", undone.because);
    world.verified(&undone, 61, |came| matches!(came, Verification::NotBetter { .. })).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silence_that_somebody_else_made_is_not_ended_whatever_its_comment_says() {
    let (world, fake, _stop) = Box::pin(world()).await;
    Box::pin(world.carry_out(silence(PRINT, 2))).await;
    let mut forged = fake.lock().unwrap().silences[0].clone();
    forged["id"] = json!("by-hand");
    fake.lock().unwrap().silences = vec![forged];
    let refused = world.ask(Proposal::ExpireSilence { object: web(), alert: PRINT.into() }).await;
    assert!(refused.because.as_str().contains("did not make that silence"), "{}", refused.because);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_writes_are_off_nobody_is_asked_for_anything() {
    let (mut world, fake, _stop) = Box::pin(world()).await;
    let config = world.cluster.at_hand(CancellationToken::new()).await.unwrap();
    let daemon = kube::Client::try_from(config.clone()).unwrap();
    let off = Accounts { writes: false, ..accounts(daemon, config) };
    world.preview.actor = Actor::new(world.reader.clone(), off, None);
    for proposal in [silence(PRINT, 1), Proposal::Scale { object: web(), replicas: 3 }] {
        let refused = world.ask(proposal).await;
        assert_eq!((refused.state, fake.lock().unwrap().made), (ApprovalState::Refused, 0));
        assert_eq!(refused.because, "writes are off (kubernetes.writes: false)".into());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silence_whose_answer_was_lost_is_found_by_its_comment_and_not_made_twice() {
    let (world, fake, _stop) = Box::pin(world()).await;
    let asked = world.ask(silence(PRINT, 1)).await;
    fake.lock().unwrap().loses_answer = true;
    world.press(Pressed::Approve { approval: asked.id.clone() }).await;
    Box::pin(world.execute.run_once()).await.unwrap();
    assert_eq!(world.now(&asked).await.state, ApprovalState::Executing);
    world.clock.set(world.clock.now() + SignedDuration::from_secs(60));
    while Box::pin(world.execute.run_once()).await.unwrap() == Ran::Worked {}
    assert_eq!((world.now(&asked).await.state, fake.lock().unwrap().made), (ApprovalState::Executed, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_an_alert_of_the_incident_that_fires_is_silenced_for_some_hours_and_by_no_model() {
    let (world, fake, _stop) = Box::pin(world()).await;
    for (proposal, why) in [
        (silence("0123456789abcdef", 1), "no alert of this incident"),
        (silence(PRINT, 5), "from 1 to 4"),
        (silence(PRINT, 0), "from 1 to 4"),
        (silence("KubePodCrashLoopin", 1), "holds no alert"),
        (silence("KubePodCrashLooping", 1), "2 alerts have this name"),
        (Proposal::ExpireSilence { object: web(), alert: PRINT.into() }, "no silence of firstlook's"),
    ] {
        let refused = world.ask(proposal.clone()).await;
        assert_eq!(refused.state, ApprovalState::Refused, "{proposal:?}");
        assert!(refused.because.as_str().contains(why), "{}", refused.because);
    }
    let scene = scene::read(&world.reader, &web(), &[], Duration::from_secs(20)).await;
    let (incident, scene, proposal) = (&world.incident, Some(&scene), &silence(PRINT, 1));
    let by_model = Suggestion { incident, scene, findings: &[], proposal, caller: Caller::Agent, undoes: None };
    let refused = Box::pin(world.gate.propose(by_model)).await.unwrap();
    assert!(refused.because.as_str().contains("a model keeps nobody"), "{}", refused.because);
    fake.lock().unwrap().alerts[0]["labels"]["token"] = json!("x");
    let masked = world.ask(silence(PRINT, 2)).await;
    assert!(masked.because.as_str().contains("cannot be matched exactly"), "{}", masked.because);
    assert_eq!(fake.lock().unwrap().made, 0);
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
    assert_eq!((ended.state, fake.lock().unwrap().made), (ApprovalState::Withdrawn, 0), "{}", ended.because);
}
