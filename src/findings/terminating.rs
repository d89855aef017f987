//! Pods that should be gone and are not: kept by a finalizer, or by a kubelet that does not end them.

use jiff::Timestamp;

use super::proof;
use super::say;
use super::view;
use crate::model::evidence::Citation;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::object::Kind;
use crate::model::scene::{Pod, Scene, State};
use crate::redact::Redacted;
use crate::text;

/// A kubelet kills at the end of the grace period and tells so within seconds, a busy one within a minute: twice that.
const OVERDUE_SECONDS: i64 = 120;

/// What keeps a pod.
enum Keeper {
    Finalizers,
    Kubelet,
}

pub(super) fn find(scene: &Scene, now: Timestamp) -> Option<Finding> {
    let overdue = |pod: &&Pod| pod.ends_at.is_some_and(|at| say::seconds(at, scene.read_at) > OVERDUE_SECONDS);
    let kept = |pod: &'_ Pod| keeper(scene, pod);
    let mut pods = scene.pods.items().iter().filter(overdue);
    let (pod, keeper) = pods.find_map(|pod| Some((pod, kept(pod)?)))?;
    let alike = scene.pods.items().iter().filter(overdue).filter_map(kept).count() as u32;
    let others = match alike {
        0 | 1 => Redacted::default(),
        n => text!(" {} more stay likewise.", n - 1),
    };
    let name = &pod.object.name;
    let ended = pod.ends_at.map_or_else(Redacted::default, |at| text!(" since {}", say::at(at, now)));
    let finalizers = say::list(&pod.finalizers, 2);
    let event = view::warnings(scene, &pod.object).find(|event| event.reason.as_str() == "FailedKillPod");
    let failed = event.map_or_else(Redacted::default, |event| text!(" (\"{}\")", say::line(&event.message)));
    let (why, brief, sure, advice) = match keeper {
        Keeper::Finalizers => (
            text!("its containers have ended, but its finalizer {} is not taken off", finalizers),
            text!("pod {} is kept by finalizer {}", name, finalizers),
            Certainty::Proved,
            text!(
                "Find who serves finalizer {} and why it does not finish: taking it off by hand skips that.",
                finalizers
            ),
        ),
        Keeper::Kubelet => (
            text!("its kubelet has not ended its containers{}", failed),
            text!("pod {} does not terminate", name),
            if event.is_some() { Certainty::Likely } else { Certainty::Possible },
            text!(
                "Look at the kubelet and the container runtime of the pod's node. Deleting {} by force may leave its processes running beside those of its successor.",
                name
            ),
        ),
    };
    let blocks = blocks(scene);
    let meanwhile = if blocks { " No pod is made in its place before it is gone." } else { "" };
    let says = text!("Pod {} should be gone{}: {}.{}{}", name, ended, why, meanwhile, others);
    let role = if blocks || scene.subject == pod.object { Role::Cause } else { Role::Context };
    Some(Finding {
        citations: quotes(scene, pod, event.and_then(|event| proof::event(scene, event))),
        advice: Some(advice),
        ..Finding::new("pod-not-gone", role, sure, &scene.subject, says, brief.cut(90))
    })
}

/// What keeps it; a node that is not ready is its own matter, and its pods' too.
fn keeper(scene: &Scene, pod: &Pod) -> Option<Keeper> {
    let runs = pod.containers.iter().any(|container| matches!(container.state, State::Running { .. }));
    let node = scene.nodes.items().iter().find(|node| node.holds(pod));
    match (runs, pod.finalizers.is_empty()) {
        (false, false) => Some(Keeper::Finalizers),
        (true, _) if node.is_some_and(|node| node.ready == Some(true)) => Some(Keeper::Kubelet),
        _ => None,
    }
}

/// Whether the subject is short of pods and makes none in the place of one that is not gone.
fn blocks(scene: &Scene) -> bool {
    view::workload(scene).is_some_and(|workload| {
        let in_place = matches!(workload.object.kind, Kind::StatefulSet | Kind::DaemonSet)
            || workload.strategy.as_str() == "Recreate";
        in_place && workload.ready < workload.wanted
    })
}

fn quotes(scene: &Scene, pod: &Pod, event: Option<Citation>) -> Vec<Citation> {
    let since = pod.ends_at.and_then(|at| proof::quote(scene, pod.at, &text!("\"deletionTimestamp\": \"{}\"", at)));
    let finalizer = pod.finalizers.first().and_then(|name| proof::quote(scene, pod.at, &text!("\"{}\"", name)));
    event.into_iter().chain(since).chain(finalizer).collect()
}
