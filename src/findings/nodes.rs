//! Nodes: lost, not ready, under pressure; and whether all that fails stands on them.

use jiff::Timestamp;

use super::proof;
use super::say;
use super::view;
use crate::model::evidence::{Citation, Source};
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::object::Kind;
use crate::model::scene::{At, Condition, Event, Neighbour, Node, Pod, Scene};
use crate::redact::{Redacted, Redactor};
use crate::text;

/// Conditions that are bad when they are true.
const PRESSURES: [&str; 4] = ["MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"];

/// What kubelets promise for their leases (`leaseDurationSeconds`), which they renew four times as often.
const LEASE_SECONDS: i64 = 40;

pub(super) fn find(scene: &Scene, now: Timestamp) -> Vec<Finding> {
    let mut found = Vec::new();
    for node in scene.nodes.items() {
        if node.ready != Some(true) {
            found.extend(not_ready(scene, now, node));
        } else {
            found.extend(pressure(scene, now, node));
            found.extend(lease_overdue(scene, node).map(|renewed| silent(scene, now, node, renewed)));
        }
    }
    found
}

/// The pods of the scene on a node that are not ready, those on their way out included.
fn suffering<'a>(scene: &'a Scene, node: &'a Node) -> impl Iterator<Item = &'a Pod> {
    all_suffering(scene).filter(move |pod| is_on(pod, node))
}

fn all_suffering(scene: &Scene) -> impl Iterator<Item = &Pod> {
    scene.pods.items().iter().filter(|pod| !pod.ready && !matches!(pod.phase.as_str(), "Succeeded" | "Failed"))
}

fn is_on(pod: &Pod, node: &Node) -> bool {
    pod.node.as_ref().is_some_and(|name| name.as_str() == node.object.name())
}

fn is_subject(scene: &Scene, node: &Node) -> bool {
    scene.subject == node.object
}

fn not_ready(scene: &Scene, now: Timestamp, node: &Node) -> Vec<Finding> {
    let suffer = suffering(scene, node).count() as u32;
    if suffer == 0 && !is_subject(scene, node) {
        return Vec::new();
    }
    let condition = view::condition(&node.conditions, "Ready");
    let mut found = vec![cause(scene, now, node, condition, suffer)];
    found.extend(without_pods(scene, node));
    found.extend(not_the_workloads(scene, node));
    found.extend(other_nodes(scene, node));
    found
}

/// When the subject, a node that still counts as ready, renewed its lease last, if that is overdue beside the leases of the
/// other nodes: by this process's own clock alone, all of them would be late where that clock is ahead.
pub(super) fn lease_overdue(scene: &Scene, node: &Node) -> Option<Timestamp> {
    let renewed = node.lease_renewed_at.filter(|_| node.ready == Some(true) && is_subject(scene, node))?;
    let others = scene.nodes.items().iter().filter(|other| other.object != node.object);
    let newest = others.filter_map(|other| other.lease_renewed_at).max()?;
    (say::seconds(renewed, newest.min(scene.read_at)) > LEASE_SECONDS).then_some(renewed)
}

/// A kubelet that has fallen silent, before the node controller says so.
fn silent(scene: &Scene, now: Timestamp, node: &Node, renewed: Timestamp) -> Finding {
    let (name, since) = (text!("{}", node.object.name), say::at(renewed, now));
    let says = text!(
        "The kubelet on node {} has not renewed its lease since {} ({} before this was read), though its condition Ready is still True: it has died or is cut off, and the node controller has not given it up yet.",
        name,
        since,
        say::span(say::seconds(renewed, scene.read_at)),
    );
    let brief = text!("its kubelet has not renewed its lease since {}", since);
    Finding {
        citations: lease(scene, node)
            .and_then(|at| proof::quote(scene, at, &renew_time(renewed)))
            .into_iter()
            .collect(),
        advice: Some(text!(
            "Look at the kubelet of {} from outside the cluster. Do not drain it or force pods away: without a kubelet nothing confirms that the old processes have ended.",
            name,
        )),
        ..Finding::new("lease-not-renewed", Role::Cause, Certainty::Likely, &node.object, says, brief)
    }
}

/// Where the node's lease stands as it was read.
fn lease(scene: &Scene, node: &Node) -> Option<At> {
    let evidence = scene.evidence.iter().find(|evidence| evidence.id == node.at.evidence)?;
    let is_its = |source: &Source| matches!(source, Source::Object { object } if object.kind == Kind::Lease && object.name == node.object.name);
    let segment = evidence.segments().iter().position(|segment| is_its(&segment.source))?;
    Some(At { evidence: node.at.evidence, segment: u32::try_from(segment).ok()? })
}

/// The lease's own words up to the second: its fraction has as many digits as its writer likes.
fn renew_time(at: Timestamp) -> Redacted {
    // Digits alone: nothing to redact.
    Redactor::default().redact(&format!("\"renewTime\": \"{}", at.strftime("%Y-%m-%dT%H:%M:%S")))
}

/// Whether the kubelet fell silent, or says itself that the node is not ready.
fn is_silent(node: &Node, condition: Option<&Condition>) -> bool {
    let unknown = condition.is_some_and(|condition| {
        condition.reason.as_str() == "NodeStatusUnknown" || condition.message.as_str().contains("stopped posting")
    });
    node.ready.is_none() || unknown
}

fn cause(scene: &Scene, now: Timestamp, node: &Node, condition: Option<&Condition>, suffer: u32) -> Finding {
    let name = text!("{}", node.object.name);
    let since = condition.and_then(|c| c.heartbeat_at.filter(|_| is_silent(node, Some(c))).or(c.changed_at));
    let at = since.map_or_else(Redacted::default, |at| text!(" since {}", say::at(at, now)));
    let where_ = which_pods(scene, node, suffer);
    let lease = match node.lease_renewed_at {
        Some(renewed) => text!(", its lease was last renewed {}", say::at(renewed, now)),
        None => Redacted::default(),
    };
    let kubelet = if is_subject(scene, node) { "its kubelet".into() } else { text!("the kubelet of node {}", name) };
    let (what, short) = if is_silent(node, condition) {
        let says = text!(
            "The kubelet on node {} has stopped posting its status{} (condition Ready is Unknown{})",
            name,
            at,
            lease
        );
        (says, text!("{} stopped posting status{}", kubelet, at))
    } else {
        let reason = condition.map_or_else(Redacted::default, |c| text!(": {}, {}", c.reason, say::line(&c.message)));
        (text!("Node {} is not ready{}{}", name, at, reason), text!("node {} is not ready", name))
    };
    let mut citations: Vec<Citation> = Vec::new();
    if let Some(condition) = condition {
        citations.extend(proof::field(scene, node.at, "reason", &condition.reason));
        citations.extend(proof::quote(scene, node.at, &condition.message));
    }
    let said = |event: &&Event| event.object == node.object && event.reason.as_str() == "NodeNotReady";
    let event = scene.events.items().iter().find(said);
    citations.extend(event.and_then(|event| proof::event(scene, event)));
    Finding {
        citations,
        advice: Some(text!(
            "Cordon {} so that nothing lands on it when it comes back, and look at its kubelet from outside the cluster. Do not drain it or force pods away: without a kubelet nothing confirms that the old processes have ended.",
            name,
        )),
        ..Finding::new(
            "node-not-ready",
            Role::Cause,
            Certainty::Proved,
            &node.object,
            text!("{}; {}.", what, where_),
            if suffer == 0 { short } else { text!("{}; {}", short, where_).cut(110) },
        )
    }
}

/// `all 40 not-ready pods are on it`.
fn which_pods(scene: &Scene, node: &Node, suffer: u32) -> Redacted {
    let elsewhere = all_suffering(scene).filter(|pod| !is_on(pod, node)).count() as u32;
    let on_others: u32 =
        scene.nodes.items().iter().filter(|n| n.object != node.object).filter_map(|n| n.pods_not_ready).sum();
    match (suffer, elsewhere.max(if is_subject(scene, node) { on_others } else { 0 })) {
        (0, _) => "none of its pods was read as not ready".into(),
        (1, 0) => "the one pod that is not ready is on it".into(),
        (n, 0) => text!("all {} not-ready pods are on it", n),
        (n, rest) => text!("{} of {} not-ready pods are on it", n, n + rest),
    }
}

/// Workloads that the loss hurts most: nothing of them is ready, or less than wanted.
fn without_pods(scene: &Scene, node: &Node) -> Option<Finding> {
    let others = scene.neighbours.items().iter().filter(|other| other.object.kind != Kind::Job);
    let (gone, fewer): (Vec<&Neighbour>, Vec<&Neighbour>) =
        others.filter(|other| other.ready < other.wanted).partition(|other| other.ready == 0);
    if gone.is_empty() && fewer.is_empty() {
        return None;
    }
    let named = |others: &[&Neighbour]| {
        let names: Vec<Redacted> = others.iter().map(|other| text!("{}", other.object)).collect();
        say::list(&names, 3)
    };
    let mut said = Vec::new();
    if !gone.is_empty() {
        said.push(text!("no pod is left ready of {}", named(&gone)));
    }
    if !fewer.is_empty() {
        said.push(text!("fewer than wanted of {}", named(&fewer)));
    }
    let deleting = suffering(scene, node).filter(|pod| pod.deleting).count() as u32;
    if deleting > 0 {
        said.push(text!(
            "{} marked for deletion, which no kubelet confirms",
            say::count(deleting, "pod is", "pods are")
        ));
    }
    let says = text!("What suffers: {}.", Redacted::join(&said, "; "));
    let brief = if gone.is_empty() {
        "workloads are short of pods".into()
    } else {
        text!("no pod ready of {}", gone[0].object)
    };
    let citations =
        gone.iter().take(2).filter_map(|other| proof::quote(scene, other.at, &text!("{}", other.object.name)));
    Some(Finding {
        citations: citations.collect(),
        ..Finding::new("node-loss-hurts", Role::Symptom, Certainty::Proved, &node.object, says, brief)
    })
}

/// Pods of several workloads fail on one node: then none of the workloads is to blame.
fn not_the_workloads(scene: &Scene, node: &Node) -> Option<Finding> {
    let mut owners: Vec<_> = suffering(scene, node).filter_map(|pod| pod.owner.as_ref()).collect();
    owners.sort();
    owners.dedup();
    let says = text!(
        "Not the workloads or their rollouts: pods of {} different ones fail together, and only on this node.",
        owners.len(),
    );
    (owners.len() >= 2).then(|| {
        let brief = text!("the workloads (pods of {} different ones fail together)", owners.len());
        Finding::new("workloads-ruled-out", Role::RuledOut, Certainty::Likely, &node.object, says, brief)
    })
}

fn other_nodes(scene: &Scene, node: &Node) -> Option<Finding> {
    let others = scene.nodes.items().iter().filter(|other| other.object != node.object);
    let (ready, unready): (Vec<&Node>, Vec<&Node>) = others.partition(|other| other.ready == Some(true));
    if ready.is_empty() || !unready.is_empty() {
        return None;
    }
    let says = text!("Not the cluster: {} ready.", say::count(ready.len() as u32, "other node is", "other nodes are"));
    let brief = text!("the cluster ({} ready)", say::count(ready.len() as u32, "other node is", "other nodes are"));
    Some(Finding::new("other-nodes-ready", Role::RuledOut, Certainty::Proved, &node.object, says, brief))
}

/// What says that a pod on this node got no network.
fn sandboxless<'a>(scene: &'a Scene, node: &'a Node) -> Option<&'a Event> {
    let mut events = suffering(scene, node).flat_map(|pod| view::warnings(scene, &pod.object));
    events.find(|event| event.reason.as_str() == "FailedCreatePodSandBox" && event.message.as_str().contains("network"))
}

/// A ready node that is short of something, where pods were evicted from it or it is the subject.
fn pressure(scene: &Scene, now: Timestamp, node: &Node) -> Option<Finding> {
    let short =
        |condition: &&Condition| PRESSURES.contains(&condition.kind.as_str()) && condition.status.as_str() == "True";
    let condition = node.conditions.iter().find(short)?;
    let evicted =
        scene.pods.items().iter().filter(|pod| pod.reason.as_str() == "Evicted" && is_on(pod, node)).count() as u32;
    if evicted == 0 && !is_subject(scene, node) && suffering(scene, node).next().is_none() {
        return None;
    }
    let since = condition.changed_at.map_or_else(Redacted::default, |at| text!(" since {}", say::at(at, now)));
    let pods = if evicted == 0 {
        Redacted::default()
    } else {
        text!(", and {} evicted from it", say::count(evicted, "pod was", "pods were"))
    };
    let says = text!(
        "Node {} reports {}{}{}: {}.",
        node.object.name,
        condition.kind,
        since,
        pods,
        say::line(&condition.message)
    );
    let networkless = condition.kind.as_str() == "NetworkUnavailable";
    let sandbox = networkless.then(|| sandboxless(scene, node)).flatten();
    let says = match networkless {
        true => text!("{} Its kubelet says Ready all the same.", says),
        false => says,
    };
    let mut citations: Vec<Citation> = proof::field(scene, node.at, "reason", &condition.reason).into_iter().collect();
    citations.extend(sandbox.and_then(|event| proof::event(scene, event)));
    Some(Finding {
        citations,
        advice: Some(match networkless {
            true => text!(
                "Look at the network plugin on node {}; cordon the node until it is back, so that no pod lands there.",
                node.object.name,
            ),
            false => text!("Free what node {} is short of, or move load away from it.", node.object.name),
        }),
        ..Finding::new(
            "node-pressure",
            Role::Cause,
            match sandbox {
                _ if evicted > 0 || is_subject(scene, node) => Certainty::Proved,
                Some(_) => Certainty::Likely,
                None => Certainty::Possible,
            },
            &node.object,
            says,
            text!("node {} reports {}", node.object.name, condition.kind),
        )
    })
}
