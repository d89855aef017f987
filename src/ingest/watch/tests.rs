//! Watches over a simulated cluster, and the states that debounce them.

mod edits;
mod fuzz;
mod pods;
mod served;
mod states;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::clock::from_ms;
use crate::ingest::watch::events::Events;
use crate::ingest::watch::follow::Happened;
use crate::ingest::watch::pods::Pods;
use crate::ingest::watch::states::States;
use crate::model::Warning;
use crate::sim::cluster::{Cluster, Fault, Shift};
use crate::store::News;
use crate::store::Options;

const START_MS: i64 = 1_774_370_400_000;

fn speaker(arrival: bool) -> (Speaker, Clock) {
    let clock = Clock::manual(from_ms(START_MS));
    let cluster = ClusterName::parse("test").unwrap();
    (
        Speaker {
            cluster,
            redactor: Redactor::default(),
            clock: clock.clone(),
            arrival,
            patience: Patience::default(),
        },
        clock,
    )
}

fn pass(clock: &Clock, seconds: i64) {
    clock.set(from_ms(clock.now_ms() + seconds * 1000));
}

fn said(signals: Vec<Signal>) -> Vec<String> {
    let one = |signal: Signal| match signal.body {
        SignalBody::Warning(Warning { object, reason, on_arrival, .. }) => {
            format!("{object} {reason}{}", if on_arrival { " on arrival" } else { "" })
        }
        SignalBody::Rollout(rollout) => format!("{} {:?}", rollout.object, rollout.revision),
        SignalBody::Alert(alert) => alert.name.as_str().to_owned(),
    };
    signals.into_iter().map(one).collect()
}

fn pod<K: serde::de::DeserializeOwned>(state: Value, restarts: u32) -> K {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-1", "namespace": "shop", "uid": "u1", "creationTimestamp": "2026-03-24T16:00:00Z"},
        "spec": {"nodeName": "n1"},
        "status": {"phase": "Running", "containerStatuses": [{"name": "app", "restartCount": restarts, "state": state}]},
    }))
    .unwrap()
}

fn waiting(reason: &str) -> Value {
    json!({"waiting": {"reason": reason, "message": "m"}})
}

#[test]
fn a_failed_pull_must_hold_and_a_healed_one_says_nothing() {
    let (speaker, clock) = speaker(false);
    let mut pods = Pods::new(speaker);
    assert!(pods.hear(Happened::Whole).is_empty());
    assert!(pods.hear(Happened::Changed(pod(waiting("ErrImagePull"), 0))).is_empty());
    pass(&clock, 20);
    assert!(pods.hear(Happened::Changed(pod(json!({"running": {}}), 0))).is_empty());
    pass(&clock, 20);
    assert!(pods.hear(Happened::Tick).is_empty(), "it healed");
    assert!(pods.hear(Happened::Changed(pod(waiting("ErrImagePull"), 0))).is_empty());
    pass(&clock, 20);
    assert!(pods.hear(Happened::Changed(pod(waiting("ImagePullBackOff"), 0))).is_empty());
    pass(&clock, 11);
    assert_eq!(said(pods.hear(Happened::Tick)), ["Pod shop/web-1 ImagePullBackOff"]);
    assert!(pods.hear(Happened::Changed(pod(waiting("ErrImagePull"), 0))).is_empty(), "once is enough");
}

#[test]
fn a_crash_loop_is_one_signal_until_it_has_been_over() {
    let (speaker, clock) = speaker(false);
    let mut pods = Pods::new(speaker.clone());
    pods.hear(Happened::Whole);
    let crash = || pod(waiting("CrashLoopBackOff"), 2);
    assert!(pods.hear(Happened::Changed(crash())).is_empty());
    pass(&clock, 31);
    let first = pods.hear(Happened::Tick);
    assert_eq!(said(first.clone()), ["Pod shop/web-1 CrashLoopBackOff"]);
    for _ in 0..6 {
        pass(&clock, 200);
        assert!(pods.hear(Happened::Changed(pod(json!({"running": {}}), 3))).is_empty());
        assert!(pods.hear(Happened::Changed(crash())).is_empty());
    }
    let mut restarted = Pods::new(speaker);
    pods.hear(Happened::Changed(pod(json!({"running": {}}), 3)));
    pass(&clock, 700);
    pods.hear(Happened::Changed(crash()));
    pass(&clock, 31);
    let again = pods.hear(Happened::Tick);
    assert_ne!(again[0].id, first[0].id, "a relapse is a new signal");
    clock.set(from_ms(START_MS));
    restarted.hear(Happened::Begins);
    restarted.hear(Happened::Listed(crash()));
    let same_hour = clock.now_ms() / 3_600_000 == START_MS / 3_600_000;
    let repeated = restarted.hear(Happened::Whole);
    assert_eq!(repeated[0].id == first[0].id, same_hour, "a restart within the hour repeats nothing");
}

#[test]
fn kills_for_memory_are_read_from_the_last_termination() {
    let (speaker, _) = speaker(false);
    let mut pods = Pods::new(speaker);
    pods.hear(Happened::Whole);
    let killed = |restarts: u32, at: &str| {
        let mut value: Value = json!({"metadata": {"name": "web-1", "namespace": "shop", "uid": "u1"}, "spec": {}});
        value["status"] = json!({"phase": "Running", "containerStatuses": [{"name": "app", "restartCount": restarts,
            "state": {"running": {}}, "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137, "finishedAt": at}}}]});
        value["apiVersion"] = "v1".into();
        value["kind"] = "Pod".into();
        serde_json::from_value(value).unwrap()
    };
    assert!(pods.hear(Happened::Changed(killed(5, "2026-03-24T12:00:00Z"))).is_empty(), "of the past");
    assert!(pods.hear(Happened::Changed(killed(1, "2026-03-24T16:39:00Z"))).is_empty(), "once may be a freak");
    assert_eq!(said(pods.hear(Happened::Changed(killed(2, "2026-03-24T16:39:00Z")))), ["Pod shop/web-1 OOMKilled"]);
}

#[test]
fn trouble_of_the_first_list_is_marked_and_a_pod_that_left_the_list_is_forgotten() {
    let (speaker, clock) = speaker(true);
    let mut pods = Pods::new(speaker);
    pods.hear(Happened::Begins);
    assert!(pods.hear(Happened::Listed(pod(waiting("ImagePullBackOff"), 0))).is_empty());
    assert_eq!(said(pods.hear(Happened::Whole)), ["Pod shop/web-1 ImagePullBackOff on arrival"]);
    pods.hear(Happened::Begins);
    pods.hear(Happened::Whole);
    pass(&clock, 60);
    pods.hear(Happened::Changed(pod(waiting("ImagePullBackOff"), 0)));
    pass(&clock, 31);
    assert_eq!(said(pods.hear(Happened::Tick)), ["Pod shop/web-1 ImagePullBackOff"]);
}

#[test]
fn a_rollout_that_crashes_until_its_dependency_is_there_says_nothing_and_one_that_goes_on_is_a_loop() {
    let (speaker, clock) = speaker(false);
    let mut pods = Pods::new(speaker.clone());
    pods.hear(Happened::Whole);
    let running = |restarts| pod(json!({"running": {}}), restarts);
    let crash = |restarts| pod(waiting("CrashLoopBackOff"), restarts);
    // 10 s and 20 s of back-off, as the kubelet has them.
    for (state, lasts) in [(crash(1), 10), (running(1), 3), (crash(2), 15), (running(2), 600)] {
        assert!(pods.hear(Happened::Changed(state)).is_empty());
        pass(&clock, lasts);
        assert!(pods.hear(Happened::Tick).is_empty());
    }
    let mut pods = Pods::new(speaker);
    pods.hear(Happened::Whole);
    for (state, lasts) in [(crash(1), 10), (running(1), 5), (crash(2), 20), (running(2), 5)] {
        pods.hear(Happened::Changed(state));
        pass(&clock, lasts);
    }
    assert_eq!(said(pods.hear(Happened::Changed(crash(3)))), ["Pod shop/web-1 CrashLoopBackOff"]);
}

fn event(reason: &str, count: u32, last: &str) -> kube::core::DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": format!("e-{reason}"), "namespace": "shop", "uid": format!("u-{reason}")},
        "involvedObject": {"kind": "Job", "namespace": "shop", "name": "import"},
        "type": "Warning", "reason": reason, "message": "m", "count": count,
        "firstTimestamp": "2026-03-24T16:30:00Z", "lastTimestamp": last,
    }))
    .unwrap()
}

#[test]
fn an_event_speaks_once_it_is_more_than_a_hiccup() {
    let (speaker, _) = speaker(false);
    let mut events = Events::new(speaker);
    let now = "2026-03-24T16:39:00Z";
    assert!(events.hear(Happened::Listed(event("FailedCreate", 9, "2026-03-24T16:10:00Z"))).is_empty(), "long ago");
    assert!(events.hear(Happened::Changed(event("FailedMount", 2, now))).is_empty());
    assert_eq!(said(events.hear(Happened::Changed(event("FailedMount", 3, now)))), ["Job shop/import FailedMount"]);
    assert!(events.hear(Happened::Changed(event("FailedMount", 4, now))).is_empty(), "said already");
    assert!(events.hear(Happened::Changed(event("BackOff", 40, now))).is_empty(), "the pod's own state says it");
    assert_eq!(said(events.hear(Happened::Changed(event("BackoffLimitExceeded", 1, now)))).len(), 1);
}

#[test]
fn probes_that_fail_while_a_container_starts_and_a_pod_that_waits_for_a_new_node_are_no_trouble_yet() {
    let (speaker, _) = speaker(false);
    let mut events = Events::new(speaker);
    let probed = |message: &str, count: u32, last: &str| {
        let mut event = event("Unhealthy", count, last);
        event.data["message"] = message.into();
        event
    };
    let readiness = "Readiness probe failed: HTTP probe failed with statuscode: 503";
    // Every second for two minutes, or for four by a startup probe, which is there for that.
    assert!(events.hear(Happened::Changed(probed(readiness, 120, "2026-03-24T16:32:00Z"))).is_empty());
    let startup = "Startup probe failed: Get \"http://10.0.0.9:80/up\": connection refused";
    assert!(events.hear(Happened::Changed(probed(startup, 240, "2026-03-24T16:34:00Z"))).is_empty());
    assert!(events.hear(Happened::Changed(event("FailedScheduling", 9, "2026-03-24T16:31:00Z"))).is_empty());
    let heard = events.hear(Happened::Changed(probed(readiness, 181, "2026-03-24T16:33:01Z")));
    assert_eq!(said(heard), ["Job shop/import Unhealthy"]);
}

/// As core/v1 shows what was recorded through events.k8s.io: without the old timestamps, the count in a series.
fn in_series(reason: &str, count: u32, last: &str) -> kube::core::DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": reason, "namespace": "shop", "uid": reason, "creationTimestamp": "2026-03-24T16:30:01Z"},
        "involvedObject": {"kind": "Job", "namespace": "shop", "name": "import"},
        "type": "Warning", "reason": reason, "message": "m", "source": {}, "reportingComponent": "c",
        "firstTimestamp": null, "lastTimestamp": null, "eventTime": "2026-03-24T16:30:00.123456Z",
        "series": {"count": count, "lastObservedTime": last},
    }))
    .unwrap()
}

#[test]
fn an_event_in_a_series_is_counted_and_dated_by_it() {
    let (speaker, _) = speaker(false);
    let mut events = Events::new(speaker);
    let old = in_series("FailedMount", 9, "2026-03-24T16:29:00.000000Z");
    assert!(events.hear(Happened::Listed(old)).is_empty(), "last seen long ago");
    assert!(events.hear(Happened::Changed(in_series("FailedSync", 2, "2026-03-24T16:39:00.5Z"))).is_empty());
    let heard = events.hear(Happened::Changed(in_series("FailedSync", 3, "2026-03-24T16:39:30.500000Z")));
    let SignalBody::Warning(warning) = &heard[0].body else { panic!() };
    assert_eq!((warning.count, warning.last_at), (3, "2026-03-24T16:39:30.5Z".parse().unwrap()));
    assert_eq!(warning.first_at, "2026-03-24T16:30:00.123456Z".parse().unwrap());
}

#[test]
fn an_event_without_any_time_is_of_when_it_was_made() {
    let (speaker, _) = speaker(false);
    let mut events = Events::new(speaker);
    let mut bare = in_series("BackoffLimitExceeded", 0, "");
    bare.data["eventTime"] = Value::Null;
    bare.data["series"] = Value::Null;
    let heard = events.hear(Happened::Changed(bare));
    let SignalBody::Warning(warning) = &heard[0].body else { panic!() };
    assert_eq!((warning.count, warning.first_at), (1, "2026-03-24T16:30:01Z".parse().unwrap()));
}

fn object<K: serde::de::DeserializeOwned>(kind: Kind, annotation: &str, status: Value) -> K {
    let (group, version, _) = kind.resource();
    let group = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    serde_json::from_value(json!({
        "apiVersion": group, "kind": kind.as_str(), "spec": {}, "status": status,
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "annotations": {annotation: "x"}},
    }))
    .unwrap()
}

fn condition(kind: &str, status: &str, reason: &str, at: &str) -> Value {
    json!({"conditions": [{"type": kind, "status": status, "reason": reason, "message": "m", "lastTransitionTime": at}]})
}

/// 40 s before the clocks of these tests begin.
const JUST_NOW: &str = "2026-03-24T16:39:20Z";

/// A DaemonSet of this generation, by its image.
fn daemon<K: serde::de::DeserializeOwned>(generation: u32, image: &str) -> K {
    serde_json::from_value(json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "agent", "namespace": "shop", "uid": "d1", "generation": generation},
        "spec": {"template": {"spec": {"containers": [{"name": "app", "image": image}]}}},
    }))
    .unwrap()
}

#[test]
fn a_template_that_comes_back_is_another_rollout_and_one_that_only_grows_older_is_none() {
    let mut daemons = rollouts::Daemons::new(speaker(false).0, mounts::Mounts::default());
    daemons.hear(Happened::Listed(daemon(1, "a")));
    daemons.hear(Happened::Whole);
    let mut ids = std::collections::HashSet::new();
    for (generation, image) in [(2, "b"), (3, "a"), (4, "b")] {
        let heard = daemons.hear(Happened::Changed(daemon(generation, image)));
        assert_eq!(heard.len(), 1, "{image}");
        assert!(ids.insert(heard[0].id.clone()), "generation {generation} is told under an id of its own");
    }
    assert!(daemons.hear(Happened::Changed(daemon(5, "b"))).is_empty());
}

/// The ReplicaSet of this revision of the Deployment `web` with this uid, made at this minute.
fn set<K: serde::de::DeserializeOwned>(uid: &str, revision: u32, minute: u32) -> K {
    serde_json::from_value(json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": format!("web-{uid}-h{revision}"), "namespace": "shop", "uid": format!("{uid}-{revision}"),
            "creationTimestamp": format!("2026-03-24T16:{minute:02}:00Z"), "labels": {"pod-template-hash": format!("h{revision}")},
            "annotations": {"deployment.kubernetes.io/revision": revision.to_string()},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": uid, "controller": true}]},
    }))
    .unwrap()
}

#[test]
fn a_workload_that_was_made_anew_under_its_name_has_rollouts_of_its_own() {
    let mut sets = rollouts::Sets::new(speaker(false).0);
    sets.hear(Happened::Listed(set("d1", 1, 10)));
    sets.hear(Happened::Whole);
    let first = sets.hear(Happened::Changed(set("d1", 2, 20)));
    assert_eq!(said(first.clone()), ["Deployment shop/web Some(2)"]);
    sets.hear(Happened::Gone(set("d1", 2, 20)));
    let anew = sets.hear(Happened::Changed(set("d2", 1, 30)));
    assert_eq!(said(anew), ["Deployment shop/web Some(1)"], "its revisions begin again");
    let second = sets.hear(Happened::Changed(set("d2", 2, 35)));
    assert_eq!(said(second.clone()), ["Deployment shop/web Some(2)"]);
    assert_ne!(first[0].id, second[0].id, "the same number and template, and yet another rollout");
    assert!(sets.hear(Happened::Changed(set("d1", 2, 20))).is_empty(), "what is left of the old one is cleaned away");
    assert!(sets.hear(Happened::Changed(set("d2", 2, 35))).is_empty(), "told already");
}

#[test]
fn a_stuck_rollout_speaks_and_one_that_only_takes_its_time_does_not() {
    let (speaker, clock) = speaker(false);
    let mut states = States::new(Kind::Deployment, speaker);
    states.hear(Happened::Whole);
    let rolling = condition("Progressing", "True", "ReplicaSetUpdated", JUST_NOW);
    assert!(states.hear(Happened::Changed(object(Kind::Deployment, "a", rolling))).is_empty());
    pass(&clock, 500);
    let stuck =
        || object(Kind::Deployment, "a", condition("Progressing", "False", "ProgressDeadlineExceeded", JUST_NOW));
    assert_eq!(said(states.hear(Happened::Changed(stuck()))), ["Deployment shop/web ProgressDeadlineExceeded"]);
    assert!(states.hear(Happened::Changed(stuck())).is_empty(), "once is enough");
}

#[test]
fn a_job_that_failed_speaks_and_one_of_the_history_does_not() {
    let (speaker, _) = speaker(false);
    let mut states = States::new(Kind::Job, speaker);
    let failed = |at| object(Kind::Job, "a", condition("Failed", "True", "BackoffLimitExceeded", at));
    states.hear(Happened::Begins);
    states.hear(Happened::Listed(failed("2026-03-24T12:00:00Z")));
    assert!(states.hear(Happened::Whole).is_empty(), "it failed hours ago");
    assert_eq!(said(states.hear(Happened::Changed(failed(JUST_NOW)))), ["Job shop/web BackoffLimitExceeded"]);
}

#[test]
fn a_claim_that_waits_for_its_first_pod_is_well_and_one_that_nobody_provides_is_not() {
    let (speaker, clock) = speaker(false);
    let mut states = States::new(Kind::PersistentVolumeClaim, speaker);
    states.hear(Happened::Whole);
    let pending = |annotation| object(Kind::PersistentVolumeClaim, annotation, json!({"phase": "Pending"}));
    states.hear(Happened::Changed(pending("a")));
    pass(&clock, 600);
    assert!(states.hear(Happened::Tick).is_empty(), "nobody has asked for it");
    states.hear(Happened::Changed(pending("volume.kubernetes.io/selected-node")));
    assert!(states.hear(Happened::Tick).is_empty());
    pass(&clock, 121);
    assert_eq!(said(states.hear(Happened::Tick)), ["PersistentVolumeClaim shop/web Pending"]);
}

#[test]
fn an_autoscaler_at_its_maximum_speaks_when_it_stays_there() {
    let (speaker, clock) = speaker(false);
    let mut states = States::new(Kind::HorizontalPodAutoscaler, speaker);
    states.hear(Happened::Whole);
    let limited = |status| condition("ScalingLimited", status, "TooManyReplicas", JUST_NOW);
    let kind = Kind::HorizontalPodAutoscaler;
    assert!(states.hear(Happened::Changed(object(kind, "a", limited("True")))).is_empty(), "a peak");
    states.hear(Happened::Changed(object(kind, "a", limited("False"))));
    pass(&clock, 1000);
    assert!(states.hear(Happened::Tick).is_empty(), "it came down");
    assert_eq!(
        said(states.hear(Happened::Changed(object(kind, "a", limited("True"))))),
        ["HorizontalPodAutoscaler shop/web TooManyReplicas"]
    );
}

#[test]
fn a_pod_without_a_node_speaks_after_an_autoscaler_had_its_time() {
    let (speaker, clock) = speaker(false);
    let mut pods = Pods::new(speaker);
    pods.hear(Happened::Whole);
    let status = json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}]});
    assert!(pods.hear(Happened::Changed(object(Kind::Pod, "a", status))).is_empty());
    pass(&clock, 100);
    assert!(pods.hear(Happened::Tick).is_empty());
    pass(&clock, 81);
    assert_eq!(said(pods.hear(Happened::Tick)), ["Pod shop/web Unschedulable"]);
}
