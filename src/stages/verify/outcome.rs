//! What came of one action, as far as the cluster tells now.

use jiff::{SignedDuration, Timestamp};

use crate::act::{again, change};
use crate::correlate::ending::Health;
use crate::model::scene::Pod;
use crate::model::{Action, Approval, Kind, Moved, ObjectRef, Scene, Verification};
use crate::observe::reader::Selector;
use crate::observe::typed::Typed;
use crate::observe::{Alertmanager, Reader, json};
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
    match action {
        Action::RerunJob { object } => ran(reader, approval, object, now).await,
        Action::DeletePod { object, uid, .. } if !is_gone(reader, object, uid).await => {
            let began = approval.execution.as_ref().map_or(now, |execution| execution.started_at);
            match worse(scene, now, began) {
                Some(why) => Verification::NotBetter { at: now, why },
                None => Verification::Watching { ready: 0, wanted: 1 },
            }
        }
        Action::Drain { object, pods } => drained(reader, approval, object, pods, now).await,
        _ if action.moves_pods() => progress(approval, scene, now),
        _ => stands(reader, approval, action, now).await,
    }
}

/// Whether Alertmanager keeps quiet about the alert, or speaks of it again.
pub(super) async fn muted(from: &Alertmanager, approval: &Approval, action: &Action, now: Timestamp) -> Verification {
    let holds = match action {
        Action::SilenceAlert { alert, .. } => from.alerts().await.map(|held| {
            let print = alert.fingerprint.as_str();
            held.iter().find(|held| held.fingerprint == print).is_none_or(|held| !held.silenced_by.is_empty())
        }),
        Action::ExpireSilence { silence, .. } => {
            from.silences().await.map(|all| all.iter().all(|one| one.id != silence.as_str()))
        }
        _ => return approval.verification.clone(),
    };
    let ended = approval.execution.as_ref().and_then(|execution| execution.finished_at).unwrap_or(now);
    match holds {
        Err(_) => approval.verification.clone(),
        Ok(true) => Verification::Better { at: now, ready: 0, wanted: 0 },
        Ok(false) if now.duration_since(ended) < MUTED_AFTER => Verification::Watching { ready: 0, wanted: 0 },
        Ok(false) => Verification::NotBetter { at: now, why: "Alertmanager does not hold to it".into() },
    }
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
    let alone = scene.pods.items().iter().filter(|pod| !pod.deleting && !pod.ready).count() == 0;
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

/// Why the rollout will not help, if that is plain already.
fn worse(scene: &Scene, now: Timestamp, began: Timestamp) -> Option<Redacted> {
    let newer = scene.pods.items().iter().filter(|pod| pod.created_at >= began && !pod.deleting);
    for pod in newer {
        let failing = pod.containers.iter().find(|c| !c.ready && c.restarts >= RESTARTS_MAX);
        if let Some(container) = failing {
            let times = container.restarts;
            return Some(text!("new pods still fail: container {} restarted {} times", container.name, times));
        }
    }
    let took = now.duration_since(began);
    (took >= ROLLOUT_MAX).then(|| text!("the rollout is not through after {} min", took.as_secs() / 60))
}
