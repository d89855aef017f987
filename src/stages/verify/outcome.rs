//! What came of one action, as far as the cluster tells now.

use jiff::{SignedDuration, Timestamp};

use crate::act::{again, change};
use crate::correlate::ending::Health;
use crate::model::scene::{Event, Pod, State};
use crate::model::{Action, Approval, Kind, Moved, Name, ObjectRef, Proposal, Scene, Verification};
use crate::observe::reader::Selector;
use crate::observe::typed::Typed;
use crate::observe::{Alertmanager, ReadError, Reader, json};
use crate::redact::Redacted;
use crate::stages::verify::health;
use crate::text;

/// A rollout that is not through by then has not helped: the default progress deadline of Deployments.
const ROLLOUT_MAX: SignedDuration = SignedDuration::from_mins(10);
/// A StatefulSet that is going to replace a broken pod does so at once.
const HELD_UP_AFTER: SignedDuration = SignedDuration::from_secs(10);
/// Alertmanager sees a silence at once, the others of a cluster of them within seconds.
const MUTED_AFTER: SignedDuration = SignedDuration::from_secs(60);
/// Restarts of one container in the new revision that are no start-up hiccup.
const RESTARTS_MAX: u32 = 2;
/// What a container waits for that Kubernetes has tried already and that no time mends.
const STUCK: [&str; 8] = [
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "RegistryUnavailable",
    "ImageInspectError",
    "SignatureValidationFailed",
    "CreateContainerConfigError",
    "CreateContainerError",
];
/// Warnings that keep a new pod from starting, and for how long they must have come: Kubernetes tries again by itself, and
/// a volume that is still held by the pod before, or a quota, is often free within seconds.
const KEEPING: [&str; 4] = ["FailedMount", "FailedAttachVolume", "FailedCreate", "FailedCreatePodSandBox"];
const KEPT_FOR: SignedDuration = SignedDuration::from_secs(30);
/// What has helped is looked at for this long: a leak, or a cache that runs empty, tells only then. What has not may yet
/// come right by then.
pub(super) const FOLLOWED: SignedDuration = SignedDuration::from_mins(10);
/// A pod that is not ready for so long is no hiccup of a probe.
const RELAPSED_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// The object whose scene tells: of an evicted pod its owner.
pub(super) fn watched(action: &Action) -> &ObjectRef {
    if let Action::DeletePod { owner, .. } = action { owner } else { action.object() }
}

/// What came of it; `scene` is that of the watched object.
pub(super) async fn of(
    reader: &Reader,
    approval: &Approval,
    action: &Action,
    scene: &Scene,
    now: Timestamp,
) -> Verification {
    if matches!(approval.verification, Verification::NotBetter { .. } | Verification::Worse { .. }) {
        return mended(approval, scene, now);
    }
    let came = match action {
        _ if matches!(approval.verification, Verification::Better { .. }) => held(approval, scene, now),
        Action::RerunJob { object } => ran(reader, approval, object, now).await,
        Action::DeletePod { object, uid, .. } if !is_gone(reader, object, uid).await => {
            let began = approval.execution.as_ref().map_or(now, |execution| execution.started_at);
            match worse(scene, now, began) {
                Some(why) => Verification::NotBetter { at: now, why },
                None => Verification::Watching { ready: 0, wanted: 1 },
            }
        }
        Action::Drain { object, pods, .. } => drained(reader, approval, object, pods, now).await,
        _ if action.moves_pods() => progress(approval, scene, now),
        _ => stands(reader, approval, action, now).await,
    };
    weighed(approval, scene, came)
}

/// Whether what is known to have helped or not may still turn out otherwise, and is looked at.
pub(super) fn is_provisional(approval: &Approval, now: Timestamp) -> bool {
    let follows =
        |action: &Action| action.rolls() || matches!(action, Action::Scale { .. } | Action::ResumeRollout { .. });
    let since = match &approval.verification {
        Verification::Better { at, .. } => Some(*at),
        // From its end on, however often it was judged: what comes and goes has not helped.
        Verification::NotBetter { .. } | Verification::Worse { .. } => {
            approval.execution.as_ref().and_then(|execution| execution.finished_at)
        }
        _ => None,
    };
    approval.action.as_ref().is_some_and(follows) && since.is_some_and(|since| now.duration_since(since) < FOLLOWED)
}

/// Whether the workload is as the action left it.
fn is_own(approval: &Approval, scene: &Scene) -> bool {
    let workload = scene.workload.known().and_then(Option::as_ref);
    let left = approval.execution.as_ref().and_then(|execution| execution.generation);
    workload.is_some_and(|workload| Some(workload.generation) == left)
}

/// Whether what had not helped has come right: a new pod may fail twice, and then stay. What somebody changed since is no
/// longer this action's.
fn mended(approval: &Approval, scene: &Scene, now: Timestamp) -> Verification {
    match progress(approval, scene, now) {
        better @ Verification::Better { .. } if is_own(approval, scene) => better,
        _ => approval.verification.clone(),
    }
}

/// Whether what has helped still does. What somebody changed since is no longer this action's.
fn held(approval: &Approval, scene: &Scene, now: Timestamp) -> Verification {
    let (Verification::Better { at, .. }, Some(execution)) = (&approval.verification, &approval.execution) else {
        return approval.verification.clone();
    };
    let failing = || {
        let pod = scene.pods.items().iter().find(|pod| !pod.deleting && is_down(pod, now))?;
        Some(text!("pod {} is not ready any more", pod.object.name))
    };
    match stuck(scene, execution.started_at).or_else(failing).filter(|_| is_own(approval, scene)) {
        Some(why) => {
            let held = now.duration_since(*at).as_mins();
            Verification::NotBetter { at: now, why: text!("it held for {} min only: {}", held, why) }
        }
        None => approval.verification.clone(),
    }
}

/// Whether a pod has not been ready for longer than a probe's hiccup.
fn is_down(pod: &Pod, now: Timestamp) -> bool {
    let turned = pod.conditions.iter().find(|one| one.kind.as_str() == "Ready" && one.status.as_str() != "True");
    let since = turned.and_then(|condition| condition.changed_at);
    !pod.ready && !pod.is_left_over() && since.is_some_and(|since| now.duration_since(since) >= RELAPSED_AFTER)
}

/// What did not help, said as worse where fewer pods are ready than before (of those that are wanted now).
fn weighed(approval: &Approval, scene: &Scene, came: Verification) -> Verification {
    let before = approval.execution.as_ref().and_then(|execution| execution.ready_before);
    match (came, before, scene.workload.known().and_then(Option::as_ref)) {
        (Verification::NotBetter { at, why }, Some(before), Some(workload))
            if workload.ready < before.min(workload.wanted) =>
        {
            Verification::Worse { at, why, before: before.min(workload.wanted), ready: workload.ready }
        }
        (came, ..) => came,
    }
}

/// Whether Alertmanager keeps quiet about the alert, or speaks of it again.
pub(super) async fn muted(from: &Alertmanager, approval: &Approval, action: &Action, now: Timestamp) -> Verification {
    let holds = match action {
        Action::SilenceAlert { alert, .. } => from.alerts().await.map(|held| {
            let print = alert.fingerprint.as_str();
            held.iter().find(|held| held.fingerprint == print).is_none_or(|held| !held.silenced_by.is_empty())
        }),
        Action::ExpireSilence { silence, .. } => is_heard(from, approval, silence).await,
        _ => return approval.verification.clone(),
    };
    let ended = approval.execution.as_ref().and_then(|execution| execution.finished_at).unwrap_or(now);
    match holds {
        Err(_) => approval.verification.clone(),
        Ok(true) => Verification::Better { at: now, ready: 0, wanted: 0 },
        Ok(false) if now.duration_since(ended) < MUTED_AFTER => Verification::Watching { ready: 0, wanted: 0 },
        Ok(false) if matches!(action, Action::ExpireSilence { .. }) => {
            Verification::NotBetter { at: now, why: "the alert is still silenced".into() }
        }
        Ok(false) => Verification::NotBetter { at: now, why: "Alertmanager does not hold to it".into() },
    }
}

/// Whether this silence has ended, and no other one covers its alert.
async fn is_heard(from: &Alertmanager, approval: &Approval, silence: &Name) -> Result<bool, ReadError> {
    if from.silences().await?.iter().any(|one| one.id == silence.as_str()) {
        return Ok(false);
    }
    // The proposal names the alert by its fingerprint, the action only as it is shown.
    let Proposal::ExpireSilence { alert, .. } = &approval.proposal else { return Ok(true) };
    let held = from.alerts().await?;
    Ok(held.iter().all(|one| one.fingerprint != alert.as_str() || one.silenced_by.is_empty()))
}

/// Whether what an action set without moving a pod still stands.
async fn stands(reader: &Reader, approval: &Approval, action: &Action, now: Timestamp) -> Verification {
    let Ok(read) = reader.get(action.object()).await else { return approval.verification.clone() };
    let left = approval.execution.as_ref().and_then(|execution| execution.left.as_ref());
    match (read, left) {
        (None, _) => Verification::NotBetter { at: now, why: text!("{} is gone", action.object()) },
        (Some(object), Some(left)) if !change::differing(left, &change::bound(action, &object)).is_empty() => {
            let why = change::who_changed(&object, reader.redactor());
            Verification::NotBetter { at: now, why: text!("someone changed it again{}", why) }
        }
        (Some(_), _) => Verification::Better { at: now, ready: 0, wanted: 0 },
    }
}

/// How the Job that was started again fares.
async fn ran(reader: &Reader, approval: &Approval, object: &ObjectRef, now: Timestamp) -> Verification {
    let Some(job) = again::made(object, &approval.id) else { return approval.verification.clone() };
    let Ok(read) = reader.get(&job).await else { return approval.verification.clone() };
    let Some(read) = read else { return Verification::NotBetter { at: now, why: "its Job is gone".into() } };
    let wanted = json::number(&read, "/spec/completions").map_or(1, |n| u32::try_from(n).unwrap_or(1));
    let ready = json::count(&read, "/status/succeeded");
    let conditions = Typed { redactor: reader.redactor() }.conditions(&read);
    let turned = |kind: &str| conditions.iter().find(|one| one.kind.as_str() == kind && one.status.as_str() == "True");
    match (turned("Complete"), turned("Failed")) {
        (Some(_), _) => Verification::Better { at: now, ready, wanted },
        (None, Some(failed)) => Verification::NotBetter { at: now, why: text!("it failed ({})", failed.reason) },
        (None, None) => Verification::Watching { ready, wanted },
    }
}

/// How many of a drain's pods are gone.
async fn drained(
    reader: &Reader,
    approval: &Approval,
    node: &ObjectRef,
    pods: &[Moved],
    now: Timestamp,
) -> Verification {
    let on_node = Selector::fields(format!("spec.nodeName={}", node.name()));
    let Ok(here) = reader.list(Kind::Pod, None, &on_node).await else { return approval.verification.clone() };
    let stays = |moved: &&Moved| here.iter().any(|pod| json::text(pod, "/metadata/uid") == moved.uid);
    let (left, wanted) = (pods.iter().filter(stays).count() as u32, pods.len() as u32);
    let ended = approval.execution.as_ref().and_then(|execution| execution.finished_at).unwrap_or(now);
    match left {
        0 => Verification::Better { at: now, ready: wanted, wanted },
        _ if now.duration_since(ended) >= ROLLOUT_MAX => {
            Verification::NotBetter { at: now, why: text!("{} of {} pods are still ending", left, wanted) }
        }
        _ => Verification::Watching { ready: wanted - left, wanted },
    }
}

/// Whether this very pod is gone; what cannot be read is not taken for gone.
async fn is_gone(reader: &Reader, pod: &ObjectRef, uid: &str) -> bool {
    match reader.get(pod).await {
        Ok(read) => read.is_none_or(|read| json::text(&read, "/metadata/uid") != uid),
        Err(_) => false,
    }
}

/// How far the rollout of an executed approval is, and whether it helped.
fn progress(approval: &Approval, scene: &Scene, now: Timestamp) -> Verification {
    let Some(workload) = scene.workload.known().and_then(Option::as_ref) else {
        return approval.verification.clone();
    };
    let execution = approval.execution.as_ref();
    let generation = execution.and_then(|execution| execution.generation).unwrap_or(0);
    let began = execution.map_or(now, |execution| execution.started_at);
    let (ready, wanted) = (workload.ready.min(workload.updated), workload.wanted);
    let seen = workload.observed_generation >= generation;
    let through = seen && workload.updated >= wanted && workload.available >= wanted && workload.ready >= wanted;
    let alone = !scene.pods.items().iter().any(|pod| !pod.deleting && !pod.ready && !pod.is_left_over());
    if through && alone && health(scene) == Health::Healthy {
        return Verification::Better { at: now, ready: workload.ready, wanted };
    }
    if seen && let Some(pod) = held_up(scene, now, began) {
        return Verification::WaitsFor { pod, ready, wanted };
    }
    if seen && let Some(why) = worse(scene, now, began) {
        return Verification::NotBetter { at: now, why };
    }
    Verification::Watching { ready, wanted }
}

/// The broken pod that an OrderedReady StatefulSet waits for: it is of another template, and nobody takes it away.
fn held_up(scene: &Scene, now: Timestamp, began: Timestamp) -> Option<ObjectRef> {
    let present = scene.revisions.items().iter().find(|revision| revision.current)?;
    if scene.subject.kind != Kind::StatefulSet || now.duration_since(began) < HELD_UP_AFTER {
        return None;
    }
    let pods = scene.pods.items();
    let moving = pods.iter().any(|pod| pod.deleting);
    let old = |pod: &&Pod| !pod.ready && pod.created_at < began && pod.template.as_ref() != Some(&present.hash);
    pods.iter().find(old).filter(|_| !moving).map(|pod| pod.object.clone())
}

/// Why the new pods do not start, or do not stay, if that is plain.
fn stuck(scene: &Scene, began: Timestamp) -> Option<Redacted> {
    let newer = || scene.pods.items().iter().filter(|pod| pod.created_at >= began && !pod.deleting);
    for container in newer().flat_map(|pod| &pod.containers).filter(|container| !container.ready) {
        let (name, times) = (&container.name, container.restarts);
        if times >= RESTARTS_MAX {
            return Some(text!("new pods still fail: container {} restarted {} times", name, times));
        }
        if let State::Waiting { reason, .. } = &container.state
            && STUCK.contains(&reason.as_str())
        {
            return Some(text!("new pods do not start: container {} waits ({})", name, reason));
        }
    }
    let of_new = |event: &Event| {
        let object = &event.object;
        let own = *object == scene.subject || object.kind == Kind::ReplicaSet;
        own || newer().any(|pod| !pod.ready && pod.object == *object)
    };
    let keeps = |event: &&Event| {
        event.warning
            && KEEPING.contains(&event.reason.as_str())
            && event.first_at >= began
            && event.last_at.duration_since(event.first_at) >= KEPT_FOR
            && of_new(event)
    };
    let event = scene.events.items().iter().find(keeps)?;
    Some(text!("new pods do not start: {}, {}", event.reason, event.message.one_line().cut(160)))
}

/// Why the rollout will not help, if that is plain already.
fn worse(scene: &Scene, now: Timestamp, began: Timestamp) -> Option<Redacted> {
    if let Some(why) = stuck(scene, began) {
        return Some(why);
    }
    let took = now.duration_since(began);
    (took >= ROLLOUT_MAX).then(|| text!("the rollout is not through after {} min", took.as_secs() / 60))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const BEGAN: &str = "2026-03-24T16:40:00Z";

    /// A Deployment whose one new pod is as given, with these events.
    fn scene(container: &Value, events: &[Value]) -> Scene {
        let object = |kind: &str, name: &str| json!({"kind": kind, "namespace": "shop", "name": name});
        let at = json!({"evidence": "e1", "segment": 0});
        let pod = json!({
            "object": object("Pod", "web-2"), "uid": "u", "created_at": "2026-03-24T16:40:05Z", "phase": "Pending",
            "ready": false, "node": null, "template": "2", "labels": {}, "reason": "", "message": "", "conditions": [],
            "containers": [container], "deleting": false, "owner": null, "cpu_milli": 0, "memory_bytes": 0, "at": at,
        });
        let events: Vec<Value> = events
            .iter()
            .map(|event| {
                let mut whole =
                    json!({"object": object("Pod", "web-2"), "warning": true, "count": 4, "source": "", "at": at});
                whole.as_object_mut().unwrap().extend(event.as_object().unwrap().clone());
                whole
            })
            .collect();
        let known = |value: Value| json!({"known": value});
        let mut scene =
            json!({"subject": object("Deployment", "web"), "read_at": BEGAN, "not_found": null, "evidence": []});
        for part in [
            "workload",
            "revisions",
            "changes",
            "pods",
            "logs",
            "events",
            "nodes",
            "services",
            "ingresses",
            "ingress_classes",
            "config_maps",
            "claims",
            "autoscalers",
            "budgets",
            "quotas",
            "neighbours",
        ] {
            scene[part] = known(json!([]));
        }
        (scene["workload"], scene["pods"], scene["events"]) =
            (known(Value::Null), known(json!([pod])), known(json!(events)));
        serde_json::from_value(scene).unwrap()
    }

    fn container(restarts: u32, waiting: &str) -> Value {
        json!({"name": "app", "init": false, "image": "web:2", "ready": false, "restarts": restarts, "last": null,
            "memory_limit": null, "state": {"waiting": {"reason": waiting, "message": ""}}})
    }

    fn says(scene: &Scene) -> Option<String> {
        stuck(scene, BEGAN.parse().unwrap()).map(|why| why.to_string())
    }

    #[test]
    fn a_new_pod_that_cannot_start_is_told_without_waiting_for_the_deadline() {
        for reason in ["ImagePullBackOff", "CreateContainerConfigError", "InvalidImageName", "ImageInspectError"] {
            let why = format!("new pods do not start: container app waits ({reason})");
            assert_eq!(says(&scene(&container(0, reason), &[])), Some(why));
        }
        for reason in ["ContainerCreating", "PodInitializing", "ErrImagePull"] {
            assert_eq!(says(&scene(&container(0, reason), &[])), None, "{reason} may pass");
        }
        assert!(says(&scene(&container(2, "CrashLoopBackOff"), &[])).unwrap().contains("restarted 2 times"));
    }

    #[test]
    fn new_warnings_that_keep_a_pod_from_starting_are_told_once_they_last() {
        let event = |reason: &str, first: u32, last: u32| {
            json!({"reason": reason, "message": "secret \"db\" not found",
                "first_at": format!("2026-03-24T16:40:{first:02}Z"), "last_at": format!("2026-03-24T16:40:{last:02}Z")})
        };
        let starting = container(0, "ContainerCreating");
        let why = "new pods do not start: FailedMount, secret \"db\" not found".to_owned();
        assert_eq!(says(&scene(&starting, &[event("FailedMount", 10, 45)])), Some(why));
        assert_eq!(says(&scene(&starting, &[event("FailedMount", 10, 20)])), None, "a volume is often free soon");
        assert_eq!(says(&scene(&starting, &[event("Unhealthy", 10, 59)])), None, "a slow start is none");
        let mut old = event("FailedCreate", 10, 59);
        old["object"] = json!({"kind": "Deployment", "namespace": "shop", "name": "web"});
        assert!(says(&scene(&starting, &[old.clone()])).is_some());
        old["first_at"] = json!("2026-03-24T16:39:00Z");
        assert_eq!(says(&scene(&starting, &[old])), None, "it came before the action");
    }
}
