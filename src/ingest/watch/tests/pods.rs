//! Pods that hang at their beginning or their end, and those that only take their time.

use super::*;

fn seen<K: serde::de::DeserializeOwned>(metadata: Value, status: Value) -> K {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"nodeName": "n1"}, "status": status,
        "metadata": {"name": "web-1", "namespace": "shop", "uid": "u1", "creationTimestamp": "2026-03-24T16:30:00Z"}});
    for (key, value) in metadata.as_object().unwrap() {
        pod["metadata"][key] = value.clone();
    }
    serde_json::from_value(pod).unwrap()
}

fn pods() -> (Pods, Clock) {
    let (speaker, clock) = speaker(false);
    let mut pods = Pods::new(speaker);
    pods.hear(Happened::Whole);
    (pods, clock)
}

#[test]
fn a_pod_that_starts_slowly_says_nothing_at_any_step() {
    let (mut pods, clock) = pods();
    let status = |phase: &str, init: Value, app: Value, ready: &str| {
        json!({"phase": phase, "conditions": [{"type": "Initialized", "status": ready}],
            "initContainerStatuses": [{"name": "migrate", "restartCount": 0, "state": init}],
            "containerStatuses": [{"name": "app", "restartCount": 0, "ready": false, "state": app}]})
    };
    let (idle, done) = (waiting("PodInitializing"), json!({"terminated": {"reason": "Completed", "exitCode": 0}}));
    let migrating = json!({"running": {"startedAt": "2026-03-24T16:40:00Z"}});
    let steps = [
        (status("Pending", waiting("PodInitializing"), idle.clone(), "False"), 20),
        (status("Pending", migrating, idle, "False"), 600),
        (status("Pending", done.clone(), waiting("ContainerCreating"), "True"), 200),
        (status("Pending", done.clone(), waiting("ErrImagePull"), "True"), 15),
        (status("Running", done, json!({"running": {"startedAt": "2026-03-24T16:54:00Z"}}), "True"), 500),
    ];
    for (status, lasts) in steps {
        assert!(pods.hear(Happened::Changed(seen(json!({}), status))).is_empty());
        pass(&clock, lasts);
        assert!(pods.hear(Happened::Tick).is_empty());
    }
}

#[test]
fn an_init_container_that_does_not_end_speaks_and_a_sidecar_that_runs_does_not() {
    let (mut pods, clock) = pods();
    let status = |initialized: &str, phase: &str| {
        json!({"phase": phase, "conditions": [{"type": "Initialized", "status": initialized}], "initContainerStatuses": [
            {"name": "proxy", "restartCount": 0, "state": {"running": {"startedAt": "2026-03-24T16:39:00Z"}}},
            {"name": "migrate", "restartCount": 0, "state": {"running": {"startedAt": "2026-03-24T16:40:00Z"}}}]})
    };
    assert!(pods.hear(Happened::Changed(seen(json!({}), status("False", "Pending")))).is_empty());
    pass(&clock, 901);
    let heard = pods.hear(Happened::Tick);
    let SignalBody::Warning(warning) = &heard[0].body else { panic!() };
    assert!(warning.message.as_str().contains("migrate"), "the last that runs: {}", warning.message);
    assert_eq!(said(heard), ["Pod shop/web-1 InitContainerRunning"]);
    let (mut pods, clock) = self::pods();
    pods.hear(Happened::Changed(seen(json!({}), status("True", "Running"))));
    pass(&clock, 5000);
    assert!(pods.hear(Happened::Tick).is_empty());
}

#[test]
fn a_pod_that_is_still_there_long_after_its_grace_period_speaks() {
    let (mut pods, clock) = pods();
    let running = || json!({"phase": "Running", "containerStatuses": []});
    let deleted = json!({"deletionTimestamp": "2026-03-24T16:40:30Z", "finalizers": ["batch.example/keep"]});
    assert!(pods.hear(Happened::Changed(seen(deleted.clone(), running()))).is_empty());
    pass(&clock, 300);
    assert!(pods.hear(Happened::Tick).is_empty(), "its grace period is part of it");
    pass(&clock, 31);
    let heard = pods.hear(Happened::Tick);
    let SignalBody::Warning(warning) = &heard[0].body else { panic!() };
    assert!(warning.message.as_str().contains("batch.example/keep"), "{}", warning.message);
    assert_eq!(said(heard), ["Pod shop/web-1 StuckTerminating"]);
    let (mut pods, clock) = self::pods();
    pods.hear(Happened::Changed(seen(deleted.clone(), running())));
    pass(&clock, 60);
    pods.hear(Happened::Gone(seen(deleted, running())));
    pass(&clock, 600);
    assert!(pods.hear(Happened::Tick).is_empty(), "it went");
}

#[test]
fn an_eviction_speaks_at_once_and_one_of_the_past_does_not() {
    let (mut pods, _) = pods();
    let evicted = |at: &str| {
        json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory.",
            "conditions": [{"type": "DisruptionTarget", "status": "True", "lastTransitionTime": at}]})
    };
    assert!(pods.hear(Happened::Changed(seen(json!({}), evicted("2026-03-24T12:00:00Z")))).is_empty());
    assert_eq!(said(pods.hear(Happened::Changed(seen(json!({}), evicted(JUST_NOW))))), ["Pod shop/web-1 Evicted"]);
}

#[test]
fn pods_that_a_kubelet_does_not_take_speak_once_for_their_controller_when_there_are_three() {
    let (mut pods, clock) = pods();
    let refused = |nth: u32, owner: &str, at: &str| {
        let owner =
            json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner, "controller": true}]);
        let metadata = json!({"name": format!("web-{nth}"), "uid": format!("u{nth}"), "ownerReferences": owner});
        let status = json!({"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "no devices left",
            "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": at}]});
        Happened::Changed(seen(metadata, status))
    };
    for (nth, owner, at) in
        [(1, "a", JUST_NOW), (2, "b", JUST_NOW), (3, "a", JUST_NOW), (4, "a", "2026-03-24T12:00:00Z")]
    {
        assert!(pods.hear(refused(nth, owner, at)).is_empty(), "two of one controller lately are chance");
    }
    assert_eq!(said(pods.hear(refused(5, "a", JUST_NOW))), ["Pod shop/web-5 UnexpectedAdmissionError"]);
    assert!(pods.hear(refused(6, "a", JUST_NOW)).is_empty(), "it is told");
    pass(&clock, 6000);
    assert!(pods.hear(Happened::Tick).is_empty());
}
