//! Nodes: lost, silent, not ready; and whether all that fails stands on them.

mod contradicted;
mod measured;
mod pressure;

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

/// What kubelets promise for their leases (`leaseDurationSeconds`), which they renew four times as often.
const LEASE_SECONDS: i64 = 40;

pub(super) fn find(scene: &Scene, now: Timestamp) -> Vec<Finding> {
    let mut found = Vec::new();
    for node in scene.nodes.items() {
        if node.ready != Some(true) {
            found.extend(not_ready(scene, now, node));
        } else {
            let short = pressure::find(scene, now, node);
            found.extend(contradicted::find(scene, now, node).filter(|_| short.is_empty()));
            found.extend(measured::plenty(scene, now, node).filter(|_| !short.is_empty()));
            found.extend(short);
            found.extend(lease_overdue(scene, node).map(|overdue| silent(scene, now, node, &overdue)));
        }
    }
    found
}

/// The pods of the scene on a node that are not ready, those on their way out included.
fn suffering<'a>(scene: &'a Scene, node: &'a Node) -> impl Iterator<Item = &'a Pod> {
    all_suffering(scene).filter(move |pod| node.holds(pod))
}

fn all_suffering(scene: &Scene) -> impl Iterator<Item = &Pod> {
    scene.pods.items().iter().filter(|pod| !pod.ready && !pod.is_finished())
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
    let cause = cause(scene, now, node, condition, suffer);
    let unexplained = if is_subject(scene, node) { 0 } else { unexplained(scene) };
    if unexplained > 0 {
        // Others have their trouble elsewhere: what most of them have in common may still be the node.
        let role = if suffer > unexplained { Role::Cause } else { Role::Context };
        return vec![Finding { role, certainty: Certainty::Possible, ..cause }];
    }
    let mut found = vec![cause];
    found.extend(without_pods(scene, node));
    found.extend(not_the_workloads(scene, node));
    found.extend(other_nodes(scene, node));
    found
}

/// Pods that are not ready, though they neither stand on a node that is lost nor were made in place of such a pod and
/// wait for their turn.
fn unexplained(scene: &Scene) -> u32 {
    let lost: Vec<&Node> = scene.nodes.items().iter().filter(|node| node.ready != Some(true)).collect();
    let since = |node: &&Node| view::condition(&node.conditions, "Ready")?.changed_at;
    let since = lost.iter().filter_map(since).min();
    let replaces = |pod: &Pod| {
        let later = since.is_some_and(|since| pod.created_at >= since);
        // What waits with a reason of its own (an image, a ConfigMap) would wait on any node.
        let own = pod
            .containers
            .iter()
            .any(|container| !matches!(view::waiting(container).0, "" | "ContainerCreating" | "PodInitializing"));
        later && !view::has_started(pod) && !own
    };
    all_suffering(scene).filter(|pod| !lost.iter().any(|node| node.holds(pod)) && !replaces(pod)).count() as u32
}

/// A lease that was not renewed when it should have been.
pub(super) struct Overdue {
    renewed_at: Timestamp,
    since: Timestamp,
    /// How long before the newest of the others.
    seconds: i64,
    /// By the API server's clock; else by those of the kubelets, of which one may be behind.
    pub(super) sure: bool,
}

/// Whether the subject, a node that still counts as ready, is late with its lease beside the other nodes, whose leases
/// passed through the same API server: no clock of a node and none of ours makes a node late by this.
pub(super) fn lease_overdue(scene: &Scene, node: &Node) -> Option<Overdue> {
    let renewed_at = node.lease_renewed_at.filter(|_| node.ready == Some(true) && is_subject(scene, node))?;
    let others = || scene.nodes.items().iter().filter(|other| other.object != node.object);
    let (since, newest, sure) = match (node.lease_written_at, others().filter_map(|o| o.lease_written_at).max()) {
        (Some(written), Some(newest)) => (written, newest, true),
        _ => {
            let newest = others().filter_map(|other| other.lease_renewed_at).max()?;
            // A clock that is ahead makes the others late.
            (renewed_at, newest.min(scene.read_at), false)
        }
    };
    let seconds = say::seconds(since, newest);
    (seconds > LEASE_SECONDS).then_some(Overdue { renewed_at, since, seconds, sure })
}

/// A kubelet that has fallen silent, before the node controller says so.
fn silent(scene: &Scene, now: Timestamp, node: &Node, overdue: &Overdue) -> Finding {
    let (name, since) = (text!("{}", node.object.name), say::at(overdue.since, now));
    let what = match overdue.sure {
        true => "it has died or is cut off, and the node controller has not given it up yet.",
        false => {
            "either it has died or is cut off, or its clock is behind: when the API server took the lease is not known."
        }
    };
    let says = text!(
        "The kubelet on node {} has not renewed its lease since {} ({} before the other nodes), though its condition Ready is still True: {}",
        name,
        since,
        say::span(overdue.seconds),
        what,
    );
    let brief = match overdue.sure {
        true => text!("its kubelet has not renewed its lease since {}", since),
        false => text!("its lease says {}: a dead kubelet, or a clock that is behind", since),
    };
    Finding {
        citations: lease(scene, node)
            .and_then(|at| proof::quote(scene, at, &renew_time(overdue.renewed_at)))
            .into_iter()
            .collect(),
        advice: Some(text!(
            "Look at the kubelet of {} from outside the cluster. Do not drain it or force pods away: without a kubelet nothing confirms that the old processes have ended.",
            name,
        )),
        ..Finding::new(
            "lease-not-renewed",
            Role::Cause,
            if overdue.sure { Certainty::Likely } else { Certainty::Possible },
            &node.object,
            says,
            brief,
        )
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
    let when = since.map_or_else(Redacted::default, |at| text!(" at {}", say::at(at, now)));
    let where_ = which_pods(scene, node, suffer);
    let lease = match node.lease_renewed_at {
        Some(renewed) => text!(", its lease was last renewed {}", say::at(renewed, now)),
        None => Redacted::default(),
    };
    let kubelet = if is_subject(scene, node) { "its kubelet".into() } else { text!("the kubelet of node {}", name) };
    let (what, short) = if is_silent(node, condition) {
        let says = text!(
            "The kubelet on node {} stopped posting its status{} (condition Ready is Unknown{})",
            name,
            when,
            lease
        );
        (says, text!("{} stopped posting status{}", kubelet, when))
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
    let elsewhere = all_suffering(scene).filter(|pod| !node.holds(pod)).count() as u32;
    let on_others: u32 =
        scene.nodes.items().iter().filter(|n| n.object != node.object).filter_map(|n| n.pods_not_ready).sum();
    match (suffer, elsewhere.max(if is_subject(scene, node) { on_others } else { 0 })) {
        (0, _) => "none of its pods was read as not ready".into(),
        (1, 0) => "the one pod that is not ready is on it".into(),
        (n, 0) => text!("all {} not-ready pods are on it", n),
        (n, rest) => text!("{} of {} not-ready pods are on it", n, n + rest),
    }
}

/// Whether a workload suffers through this node, which has its pods: a node that serves hurts those alone whose pods it
/// put out.
pub(super) fn is_hit(scene: &Scene, node: &Node, other: &Neighbour) -> bool {
    let own = |pod: &Pod| pod.owner.as_ref() == Some(&other.object) && node.put_out(pod);
    other.object.kind != Kind::Job && (node.ready != Some(true) || scene.pods.items().iter().any(own))
}

/// Workloads that the loss hurts most: nothing of them is ready, or less than wanted.
fn without_pods(scene: &Scene, node: &Node) -> Option<Finding> {
    let others = scene.neighbours.items().iter().filter(|other| is_hit(scene, node, other));
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
    let deleting = suffering(scene, node).filter(|pod| pod.deleting && node.ready != Some(true)).count() as u32;
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
