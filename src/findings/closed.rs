//! Pods that no node takes because nodes are closed to them: by taints, cordoned, or by where a volume is.

use jiff::Timestamp;

use super::rollout;
use super::rollout::Blame;
use super::say;
use super::scheduling::{Reason, Waiting, pending};
use super::tolerations::{Taint, tolerates};
use super::view;
use crate::model::evidence::Citation;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::scene::{DiffLine, Node, Scene};
use crate::redact::Redacted;
use crate::text;

/// Taints that the cluster itself puts on a node for its condition: the node's own finding says more.
const OWN_TAINTS: &str = "node.kubernetes.io/";
/// Taints of control planes, which hardly any workload is meant to tolerate.
const CONTROL_PLANE: [&str; 2] = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

/// The nodes that satisfy the pod's selector, if the scheduler blames the selector for others; empty where there is
/// no selector, or no node satisfies it.
pub(super) fn fitting<'a>(scene: &'a Scene, waiting: &Waiting<'_>) -> Vec<&'a Node> {
    let template = waiting.pods.first().and_then(|pod| view::template(scene, pod));
    let wanted = template.map(|template| &template.node_selector).filter(|wanted| !wanted.is_empty());
    let Some(wanted) = wanted.filter(|_| waiting.has(|reason| *reason == Reason::Selector)) else { return Vec::new() };
    let fits = |node: &&Node| wanted.iter().all(|(key, value)| node.labels.get(key) == Some(value));
    scene.nodes.items().iter().filter(fits).collect()
}

/// The selector is right, but each node that satisfies it is closed.
pub(super) fn all_fitting(scene: &Scene, waiting: &Waiting<'_>, nodes: &[&Node]) -> Finding {
    let said: Vec<Redacted> = nodes
        .iter()
        .map(|node| match node.taints.first() {
            Some(taint) => text!("{} (taint {})", node.object.name, taint),
            None if node.unschedulable => text!("{} (cordoned)", node.object.name),
            None => text!("{}", node.object.name),
        })
        .collect();
    let by_itself = nodes.iter().flat_map(|node| &node.taints).any(|taint| taint.as_str().starts_with(OWN_TAINTS));
    let says = text!("Its nodeSelector is met only by {}, so {}.", say::list(&said, 3), pending(waiting));
    Finding {
        citations: waiting.proof(scene, is_closed).into_iter().collect(),
        advice: Some(ADVICE.into()),
        ..Finding::new(
            "fitting-nodes-closed",
            if by_itself { Role::Mechanism } else { Role::Cause },
            Certainty::Likely,
            &scene.subject,
            says,
            text!("its nodes are closed: {}", say::list(&said, 2)).cut(90),
        )
    }
}

const ADVICE: &str = "Check why these nodes are closed before opening one: taints and cordons are set on purpose.";

fn is_closed(reason: &Reason) -> bool {
    matches!(reason, Reason::Taint(_) | Reason::Cordoned)
}

/// Nodes that are closed to the pod, and the revision that took its toleration away, if one did.
pub(super) fn by_taints(scene: &Scene, now: Timestamp, waiting: &Waiting<'_>, blame: Option<&Blame<'_>>) -> Finding {
    let said = reasons(waiting);
    let lines = blame.map_or_else(Vec::new, |blame| blame.lines(|line| rollout::is_field(line, &["toleration"])));
    let lost = lost(scene, waiting, &lines);
    let (says, brief) = match (blame, &lost) {
        (Some(blame), Some(lost)) => (
            text!(
                "{} ({}) {}: it no longer tolerates taint {}, which {} carry, so {}; {}.",
                blame.name(),
                say::at(blame.since(), now),
                blame.did(&[lost.line]),
                lost.taint,
                say::count(lost.nodes, "node", "nodes"),
                pending(waiting),
                rollout::earlier(blame),
            ),
            text!("revision {} does not tolerate taint {} any more", blame.newest.number, lost.taint),
        ),
        _ => (
            text!("No node may take the pod, so {}: {}.", pending(waiting), say::list(&said, 4)),
            text!("no node may take the pod: {}", say::list(&said, 2)),
        ),
    };
    let taint = |reason: &Reason| match (&lost, reason) {
        (Some(lost), Reason::Taint(taint)) => *taint == lost.taint,
        (Some(_), _) => false,
        (None, reason) => is_closed(reason),
    };
    let mut citations: Vec<Citation> = waiting.proof(scene, taint).into_iter().collect();
    let line = lost.as_ref().map(|lost| lost.line).or(lines.first().copied());
    citations.extend(blame.and_then(|blame| blame.citation(scene, line)));
    Finding {
        citations,
        revision: blame.as_ref().filter(|_| lost.is_some()).map(|blame| blame.newest.number),
        proposal: blame.filter(|_| lost.is_some()).and_then(|blame| blame.undo(scene)),
        advice: Some(ADVICE.into()),
        ..Finding::new(
            "nodes-closed",
            Role::Cause,
            if lost.is_some() { Certainty::Proved } else { Certainty::Likely },
            &scene.subject,
            says,
            brief.cut(90),
        )
    }
}

/// Groups of nodes with what closes them; control planes last, since they are hardly ever meant.
pub(super) fn reasons(waiting: &Waiting<'_>) -> Vec<Redacted> {
    let mut reasons: Vec<_> = waiting.reasons.iter().collect();
    reasons.sort_by_key(|(_, reason, _)| is_control_plane(reason));
    let say = |(count, reason, _): &&(u32, Reason, Redacted)| {
        let nodes = say::count(*count, "node", "nodes");
        match reason {
            Reason::Taint(taint) if taint.is_empty() => text!("{} with a taint that it does not tolerate", nodes),
            Reason::Taint(taint) => text!("{} with taint {}", nodes, taint),
            Reason::Cordoned => text!("{} cordoned", nodes),
            Reason::Resource(resource) => text!("{} without enough {}", nodes, resource),
            Reason::Selector => text!("{} that its node affinity or selector does not match", nodes),
            Reason::Other(text) => text!("{} ({})", nodes, text),
        }
    };
    reasons.iter().map(say).collect()
}

/// A volume that another zone, or one node alone, has.
pub(super) fn is_zone(reason: &Reason) -> bool {
    matches!(reason, Reason::Other(text) if text.as_str().contains("volume node affinity conflict"))
}

/// Nodes that could take the pod but for its volume, which cannot be used there.
pub(super) fn by_volume(scene: &Scene, waiting: &Waiting<'_>) -> Finding {
    let claims: Vec<Redacted> = scene
        .claims
        .items()
        .iter()
        .filter(|claim| claim.phase.as_str() == "Bound")
        .map(|claim| text!("{}", claim.object.name))
        .collect();
    let whose = match claims.as_slice() {
        [] => "a volume of it".into(),
        [claim] => text!("the volume of claim {}", claim),
        claims => text!("a volume of it (claims {})", say::list(claims, 3)),
    };
    let says = text!(
        "No node that may take the pod can use {}, which belongs to another zone or node, so {}: {}.",
        whose,
        pending(waiting),
        say::list(&reasons(waiting), 4),
    );
    Finding {
        citations: waiting.proof(scene, is_zone).into_iter().collect(),
        advice: Some(
            "Find the zone (or node) of the volume, and bring a node up there or open one. Deleting the claim would delete its data.".into(),
        ),
        ..Finding::new(
            "volume-zone",
            Role::Cause,
            Certainty::Likely,
            &scene.subject,
            says,
            text!("no open node can use {}", whose).cut(90),
        )
    }
}

fn is_control_plane(reason: &Reason) -> bool {
    matches!(reason, Reason::Taint(taint) if CONTROL_PLANE.iter().any(|own| taint.as_str().starts_with(own)))
}

/// A toleration that a revision removed, or made another.
struct Lost<'a> {
    line: &'a DiffLine,
    /// The taint that it tolerated, and how many nodes carry that.
    taint: Redacted,
    nodes: u32,
}

/// The toleration that went and tolerated what now closes nodes to the pod. The scheduler does not name a taint's
/// effect: the nodes that carry it do.
fn lost<'a>(scene: &Scene, waiting: &Waiting<'_>, lines: &[&'a DiffLine]) -> Option<Lost<'a>> {
    let on_nodes = scene.nodes.items().iter().flat_map(|node| &node.taints);
    let on_nodes: Vec<Taint<'_>> = on_nodes.map(|taint| Taint::of_node(taint.as_str())).filter(Taint::closes).collect();
    let tolerated = |toleration: &Redacted, taint: &Redacted| {
        let named = Taint::named(taint.as_str());
        let mut like = on_nodes.iter().filter(|on_node| on_node.is_like(&named)).peekable();
        match like.peek() {
            Some(_) => like.any(|taint| tolerates(toleration.as_str(), taint)),
            None => tolerates(toleration.as_str(), &named),
        }
    };
    let mut reasons: Vec<_> = waiting.reasons.iter().collect();
    reasons.sort_by_key(|(_, reason, _)| is_control_plane(reason));
    reasons.into_iter().find_map(|(nodes, reason, _)| {
        let Reason::Taint(taint) = reason else { return None };
        let mut gone = lines.iter().filter(|_| !taint.is_empty());
        let line = gone.find(|line| line.before.as_ref().is_some_and(|before| tolerated(before, taint)))?;
        Some(Lost { line, taint: taint.clone(), nodes: *nodes })
    })
}
