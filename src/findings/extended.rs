//! Pods that no node takes for want of an extended resource (GPUs and the like), which is counted in whole units.

use jiff::Timestamp;

use super::rollout;
use super::rollout::Blame;
use super::scheduling::{Reason, Waiting, pending};
use super::view;
use crate::model::evidence::Citation;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::scene::Scene;
use crate::redact::Redacted;
use crate::text;

pub(super) fn find(scene: &Scene, now: Timestamp, waiting: &Waiting<'_>, blame: Option<&Blame<'_>>) -> Option<Finding> {
    // CPU and memory, which every pod needs, come first.
    let resources = || {
        waiting.reasons.iter().filter_map(|(_, reason, _)| match reason {
            Reason::Resource(resource) => Some(resource),
            _ => None,
        })
    };
    if resources().any(|resource| !resource.as_str().contains('/')) {
        return None;
    }
    let resource = resources().next()?;
    let asked = asked(scene, waiting, resource);
    let most = scene
        .nodes
        .known()
        .map(|nodes| nodes.iter().filter_map(|node| node.extended.get(resource.as_str())).copied().max().unwrap_or(0));
    let (have, impossible) = match (most, asked) {
        (Some(0), _) => (text!("no node has any {}", resource), true),
        (Some(most), Some(asked)) if most < asked => (text!("no node has more than {}", most), true),
        (Some(most), Some(_)) => (text!("a node has at most {}, and what is free of it does not suffice", most), false),
        _ => ("what the nodes have free of it does not suffice".into(), false),
    };
    // A node may have enough of it, and something else against the pod.
    let others = waiting.has(|reason| matches!(reason, Reason::Other(_)));
    let certainty = if others && !impossible { Certainty::Possible } else { Certainty::Proved };
    let wants = asked.map_or_else(|| resource.clone(), |asked| text!("{} {}", asked, resource));
    let mut lines =
        blame.map_or_else(Vec::new, |blame| blame.lines(|line| rollout::is_field(line, &["request", "limit"])));
    lines.retain(|line| line.field.as_str().contains(resource.as_str()));
    let by = match (blame, lines.first()) {
        (Some(blame), Some(line)) => text!(" {}.", blame.came(&[*line], now)),
        _ => Redacted::default(),
    };
    let says = text!("Insufficient {}: {} and wants {}, but {}.{}", resource, pending(waiting), wants, have, by);
    let brief = text!("a pod wants {}, {}", wants, have);
    let own = |reason: &Reason| matches!(reason, Reason::Resource(found) if found == resource);
    let mut citations: Vec<Citation> = waiting.proof(scene, own).into_iter().collect();
    citations.extend(blame.and_then(|blame| blame.citation(scene, lines.first().copied())));
    Some(Finding {
        citations,
        revision: blame.as_ref().filter(|_| !lines.is_empty()).map(|blame| blame.newest.number),
        proposal: blame.filter(|_| !lines.is_empty()).and_then(|blame| blame.undo(scene)),
        advice: Some(match impossible {
            true => {
                text!("Request what one node can give of {}, or add a larger node: waiting does not help.", resource)
            }
            false => {
                text!("Add a node with {}, or let others give theirs back: people decide about capacity.", resource)
            }
        }),
        ..Finding::new("extended-resource", Role::Cause, certainty, &scene.subject, says, brief.cut(90))
    })
}

/// How much of it the pod wants, over its containers.
fn asked(scene: &Scene, waiting: &Waiting<'_>, resource: &Redacted) -> Option<i64> {
    let template = view::template(scene, waiting.pods.first()?)?;
    let containers = template.containers.iter().filter(|container| !container.init);
    let wants =
        containers.filter_map(|container| container.requests.get(resource.as_str())?.as_str().parse::<i64>().ok());
    Some(wants.sum()).filter(|sum| *sum > 0)
}
