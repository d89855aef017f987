//! Nodes whose conditions say one thing, and what happens on them another: then the conditions are not the last word.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{is_subject, measured, suffering};
use crate::findings::proof;
use crate::findings::say;
use crate::findings::view;
use crate::model::evidence::Citation;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::scene::{Condition, Event, Node, Pod, Scene};
use crate::redact::Redacted;
use crate::text;

/// A condition that says of what a node is short, and how kubelets call that elsewhere.
const SHORTAGES: [(&str, &[&str]); 3] = [
    ("MemoryPressure", &["memory"]),
    ("DiskPressure", &["ephemeral-storage", "inodes", "nodefs", "imagefs"]),
    ("PIDPressure", &["pids"]),
];
/// A kubelet writes its conditions within this of what it does: every 10 s, and a write may have to be repeated.
const WRITTEN_LATE_SECONDS: i64 = 60;
/// What was seen longer ago than this says nothing of now: pods that were put out stay for show.
const FRESH_SECONDS: i64 = 3600;
/// Workloads whose pods get no sandbox at once: one alone may have asked for what no node gives.
const OWNERS_MIN: usize = 2;

/// What speaks against a condition.
struct Witness {
    /// As the second half of a sentence.
    says: Redacted,
    brief: Redacted,
    citation: Option<Citation>,
    certainty: Certainty,
}

/// A ready node with a condition that what happens on it contradicts.
pub(super) fn find(scene: &Scene, now: Timestamp, node: &Node) -> Option<Finding> {
    let (condition, witness) = SHORTAGES
        .iter()
        .find_map(|shortage| short(scene, now, node, shortage))
        .or_else(|| starts_none(scene, now, node))?;
    let since = condition.changed_at.map_or_else(Redacted::default, |at| text!(" since {}", say::at(at, now)));
    let says = text!(
        "Node {} reports {} {}{}, but {}: its conditions do not tell all.",
        node.object.name,
        condition.kind,
        condition.status,
        since,
        witness.says,
    );
    Some(Finding {
        citations: witness
            .citation
            .into_iter()
            .chain(proof::field(scene, node.at, "reason", &condition.reason))
            .collect(),
        advice: Some(text!(
            "Measure on node {} itself what its condition {} should show, and look at its kubelet's log.",
            node.object.name,
            condition.kind,
        )),
        ..Finding::new(
            "node-contradicted",
            Role::Cause,
            witness.certainty,
            &node.object,
            says,
            text!("{} is {}, yet {}", condition.kind, condition.status, witness.brief).cut(90),
        )
    })
}

/// A shortage that the node denies, though its kubelet acted on it, or the kernel did.
fn short<'a>(
    scene: &Scene,
    now: Timestamp,
    node: &'a Node,
    (kind, resources): &(&str, &[&str]),
) -> Option<(&'a Condition, Witness)> {
    let condition = view::condition(&node.conditions, kind).filter(|condition| condition.status.as_str() == "False")?;
    let since = condition.changed_at?;
    // It has not been written since, though there was time to.
    let unsaid =
        |at: Timestamp| at > since && (WRITTEN_LATE_SECONDS..=FRESH_SECONDS).contains(&say::seconds(at, scene.read_at));
    let is_of = |message: &Redacted, lead: &str| {
        let what = message.as_str().split_once(lead).map_or("", |(_, what)| what);
        resources.iter().any(|resource| what.starts_with(resource))
    };
    let out = |pod: &&Pod| {
        let put_out = pod.put_out_at().is_some_and(unsaid) && is_of(&pod.message, "low on resource: ");
        node.holds(pod) && put_out
    };
    let out: Vec<&Pod> = scene.pods.items().iter().filter(out).collect();
    let hurts =
        is_subject(scene, node) || view::workload(scene).is_some_and(|workload| workload.ready < workload.wanted);
    if let Some(pod) = out.first().filter(|_| hurts) {
        let pods = say::count(out.len() as u32, "pod was", "pods were");
        let witness = Witness {
            says: text!("{} evicted from it all the same: \"{}\"", pods, say::line(&pod.message)),
            brief: text!("{} evicted", pods),
            citation: proof::quote(scene, pod.at, &pod.message),
            certainty: Certainty::Likely,
        };
        return Some((condition, witness));
    }
    let told = |event: &&Event| {
        let message = &event.message;
        let of = match event.reason.as_str() {
            "SystemOOM" => *kind == "MemoryPressure",
            "EvictionThresholdMet" => is_of(message, "Attempting to reclaim "),
            _ => false,
        };
        of && event.object == node.object && unsaid(event.last_at)
    };
    if let Some(event) = scene.events.items().iter().find(told) {
        return Some((condition, by_event(scene, now, event, text!("its kubelet reports {}", event.reason))));
    }
    measured_short(scene, node, condition).map(|witness| (condition, witness))
}

/// A shortage that the node denies and its exporter measures. Whether pods that are not ready on it are so for that, the
/// figure does not say.
fn measured_short(scene: &Scene, node: &Node, condition: &Condition) -> Option<Witness> {
    let own = is_subject(scene, node);
    let (says, brief, citation) = measured::short(scene, node, condition)?;
    let certainty = if own { Certainty::Likely } else { Certainty::Possible };
    (own || suffering(scene, node).next().is_some()).then_some(Witness { says, brief, citation, certainty })
}

/// A node that is ready by its condition, and on which the pods of several workloads are not even begun.
fn starts_none<'a>(scene: &'a Scene, now: Timestamp, node: &'a Node) -> Option<(&'a Condition, Witness)> {
    let condition = view::condition(&node.conditions, "Ready").filter(|_| is_subject(scene, node))?;
    let fails = |event: &&Event| {
        event.reason.as_str() == "FailedCreatePodSandBox" && say::seconds(event.last_at, scene.read_at) <= FRESH_SECONDS
    };
    let refused = |pod: &'a Pod| -> Option<(&'a Pod, &'a Event)> {
        let event = view::warnings(scene, &pod.object).find(fails)?;
        (!view::has_started(pod)).then_some((pod, event))
    };
    let refused: Vec<(&Pod, &Event)> = suffering(scene, node).filter_map(refused).collect();
    let owners: BTreeSet<_> = refused.iter().filter_map(|(pod, _)| pod.owner.as_ref()).collect();
    let (_, event) = refused.first().filter(|_| owners.len() >= OWNERS_MIN)?;
    let brief = text!("pods of {} workloads cannot be begun on it", owners.len());
    Some((condition, by_event(scene, now, event, brief)))
}

fn by_event(scene: &Scene, now: Timestamp, event: &Event, brief: Redacted) -> Witness {
    let says = text!("{} ({}: \"{}\")", brief, say::at(event.last_at, now), say::line(&event.message));
    Witness { says, brief, citation: proof::event(scene, event), certainty: Certainty::Likely }
}
