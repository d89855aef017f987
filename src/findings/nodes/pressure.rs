//! Nodes that are ready and short of something: memory, disk, processes, the network.

use jiff::Timestamp;

use super::{is_subject, suffering, without_pods};
use crate::findings::proof;
use crate::findings::say;
use crate::findings::view;
use crate::model::evidence::Citation;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::object::ObjectRef;
use crate::model::scene::{Condition, Event, Node, Pod, Scene};
use crate::redact::Redacted;
use crate::text;

/// Workloads that are named of those that a node put pods out of.
const NAMED_MAX: usize = 3;

/// A ready node that is short of something, where it put pods of the scene out, or pods suffer on it, or it is the subject.
pub(super) fn find(scene: &Scene, now: Timestamp, node: &Node) -> Vec<Finding> {
    let networkless = view::condition(&node.conditions, "NetworkUnavailable").filter(|c| c.status.as_str() == "True");
    if let Some(condition) = networkless {
        return network(scene, now, node, condition).into_iter().collect();
    }
    let Some(condition) = node.pressure() else { return Vec::new() };
    let out: Vec<&Pod> = scene.pods.items().iter().filter(|pod| node.put_out(pod)).collect();
    if out.is_empty() && !is_subject(scene, node) && suffering(scene, node).next().is_none() {
        return Vec::new();
    }
    let mut found = vec![shortage(scene, now, node, condition, &out)];
    if is_subject(scene, node) {
        found.extend(without_pods(scene, node));
        found.extend(largest(scene, &out));
    }
    found
}

fn shortage(scene: &Scene, now: Timestamp, node: &Node, condition: &Condition, out: &[&Pod]) -> Finding {
    let (name, since) = (&node.object.name, since(condition, now));
    let mut owners: Vec<Redacted> = out.iter().filter_map(|pod| Some(text!("{}", pod.owner.as_ref()?))).collect();
    owners.sort();
    owners.dedup();
    let pods = say::count(out.len() as u32, "pod was", "pods were");
    let put_out = match (out.len(), owners.len()) {
        (0, _) => Redacted::default(),
        (_, 0) => text!(", and {} evicted from it", pods),
        _ => text!(", and {} evicted from it (of {})", pods, say::list(&owners, NAMED_MAX)),
    };
    // The kubelet's message says the kind again in other words.
    let says = text!("Node {} reports {}{}{}.", name, condition.kind, since, put_out);
    let own = is_subject(scene, node);
    let brief = match (own, out.len()) {
        (true, 0) => text!("it reports {}{}", condition.kind, since),
        (true, _) => text!("{}{}, {} evicted", condition.kind, since, pods),
        (false, _) => text!("node {} reports {}", name, condition.kind),
    };
    let mut citations: Vec<Citation> = proof::field(scene, node.at, "reason", &condition.reason).into_iter().collect();
    citations.extend(out.first().and_then(|pod| proof::quote(scene, pod.at, &pod.message)));
    // Where it put nobody out, that it is short and that a pod on it is not ready may be two things.
    let certainty = if own || !out.is_empty() { Certainty::Proved } else { Certainty::Possible };
    Finding {
        citations,
        advice: Some(text!("Free what node {} is short of, or move load away from it.", name)),
        ..Finding::new("node-pressure", Role::Cause, certainty, &node.object, says, brief)
    }
}

/// ` since 16:22 UTC`, or nothing.
fn since(condition: &Condition, now: Timestamp) -> Redacted {
    condition.changed_at.map_or_else(Redacted::default, |at| text!(" since {}", say::at(at, now)))
}

/// Who used the most of what the node ran out of, of those that it put out: what it says of itself, not what it did.
fn largest(scene: &Scene, out: &[&Pod]) -> Option<Finding> {
    let used = out.iter().filter_map(|pod| Some((used(pod)?, *pod)));
    let (bytes, pod) = used.max_by_key(|(bytes, _)| *bytes).filter(|_| out.len() > 1)?;
    let owner: &ObjectRef = pod.owner.as_ref().unwrap_or(&pod.object);
    let says = text!(
        "Of the pods that were evicted the one of {} used the most, {}: look there first.",
        owner,
        say::bytes(bytes)
    );
    let brief = text!("{} used {}", owner, say::bytes(bytes));
    Some(Finding {
        citations: proof::quote(scene, pod.at, &pod.message).into_iter().collect(),
        ..Finding::new("evicted-largest", Role::Mechanism, Certainty::Proved, owner, says, brief)
    })
}

/// What the kubelet says that a pod's containers used, in bytes: `Container a was using 28Ki, request is 0, ...`.
fn used(pod: &Pod) -> Option<i64> {
    let amounts = pod
        .message
        .as_str()
        .split(" was using ")
        .skip(1)
        .map(|rest| bytes(rest.split([',', ' ']).next().unwrap_or_default()));
    amounts.sum::<Option<i64>>().filter(|sum| *sum > 0)
}

/// An amount as kubelets print what was used: whole, with a binary unit or none.
fn bytes(amount: &str) -> Option<i64> {
    let digits = amount.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &amount[digits.len()..] {
        "" => 0,
        "Ki" => 10,
        "Mi" => 20,
        "Gi" => 30,
        "Ti" => 40,
        _ => return None,
    };
    digits.parse::<i64>().ok()?.checked_mul(1 << shift)
}

/// A node whose network plugin says that it has no network, where pods suffer for it or it is the subject.
fn network(scene: &Scene, now: Timestamp, node: &Node, condition: &Condition) -> Option<Finding> {
    if !is_subject(scene, node) && suffering(scene, node).next().is_none() {
        return None;
    }
    let sandbox = sandboxless(scene, node);
    let says = text!(
        "Node {} reports {}{}: {}. Its kubelet says Ready all the same.",
        node.object.name,
        condition.kind,
        since(condition, now),
        say::line(&condition.message),
    );
    let mut citations: Vec<Citation> = proof::field(scene, node.at, "reason", &condition.reason).into_iter().collect();
    citations.extend(sandbox.and_then(|event| proof::event(scene, event)));
    let certainty = match sandbox {
        _ if is_subject(scene, node) => Certainty::Proved,
        Some(_) => Certainty::Likely,
        None => Certainty::Possible,
    };
    let brief = text!("node {} reports {}", node.object.name, condition.kind);
    Some(Finding {
        citations,
        advice: Some(text!(
            "Look at the network plugin on node {}; cordon the node until it is back, so that no pod lands there.",
            node.object.name,
        )),
        ..Finding::new("node-pressure", Role::Cause, certainty, &node.object, says, brief)
    })
}

/// What says that a pod on this node got no network.
fn sandboxless<'a>(scene: &'a Scene, node: &'a Node) -> Option<&'a Event> {
    let mut events = suffering(scene, node).flat_map(|pod| view::warnings(scene, &pod.object));
    events.find(|event| event.reason.as_str() == "FailedCreatePodSandBox" && event.message.as_str().contains("network"))
}
