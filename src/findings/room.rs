//! Room for a pod: what the nodes that could take it have left of what it requests.

use super::closed;
use super::say;
use super::scheduling::{Reason, Waiting};
use super::tolerations::{Taint, tolerates};
use super::view;
use crate::model::scene::{Node, Pod, Scene};
use crate::redact::Redacted;
use crate::text;

/// Whether a node is open to a pod that tolerates so much.
pub(super) fn takes(node: &Node, tolerations: &[Redacted]) -> bool {
    let closing = node.taints.iter().map(|taint| Taint::of_node(taint.as_str())).filter(Taint::closes);
    let mut closing = closing.map(|taint| tolerations.iter().any(|toleration| tolerates(toleration.as_str(), &taint)));
    node.ready == Some(true) && !node.unschedulable && closing.all(|tolerated| tolerated)
}

/// What no node has enough of.
pub(super) struct Lack<'a> {
    /// As the scheduler names it.
    pub(super) resource: Redacted,
    /// How much the pod requests of it; None for what is not counted here.
    amount: Option<i64>,
    /// What is left of it on the nodes that could take the pod, most first.
    left: Vec<(&'a Node, i64)>,
    /// Whether what is left is known of each of them.
    whole: bool,
    /// What the largest of them has in all, where that is less than the pod requests.
    pub(super) too_small: Option<i64>,
    /// Whether the scheduler names other things that no room mends.
    others: bool,
}

impl<'a> Lack<'a> {
    pub(super) fn of(scene: &'a Scene, waiting: &Waiting<'_>) -> Self {
        let lacking = waiting.reasons.iter().filter_map(|(count, reason, _)| match reason {
            Reason::Resource(resource) => Some((*count, resource.clone())),
            _ => None,
        });
        let resource = lacking.max_by_key(|(count, _)| *count).map(|(_, resource)| resource).unwrap_or_default();
        let of_pod = |pod: &&Pod| match resource.as_str() {
            "cpu" => Some(pod.cpu_milli),
            "memory" => Some(pod.memory_bytes),
            _ => None,
        };
        let amount = waiting.pods.first().and_then(of_pod);
        let nodes = open(scene, waiting);
        let mut left: Vec<(&Node, i64)> =
            nodes.iter().filter_map(|node| Some((*node, rest(node, resource.as_str())?))).collect();
        left.sort_by_key(|(_, left)| std::cmp::Reverse(*left));
        let largest = nodes.iter().map(|node| all(node, resource.as_str())).max();
        let too_small = largest.zip(amount).filter(|(largest, asked)| *largest > 0 && asked > largest);
        Self {
            amount,
            whole: !left.is_empty() && left.len() == nodes.len(),
            left,
            too_small: too_small.map(|(largest, _)| largest),
            others: waiting.has(|reason| matches!(reason, Reason::Other(_))),
            resource,
        }
    }

    /// Whether the want of it explains by itself that no node takes the pod: no node that could has enough, as far as
    /// they are known; else the scheduler names nothing but this.
    pub(super) fn is_sure(&self) -> bool {
        let enough = |(_, left): &(&Node, i64)| self.amount.is_some_and(|asked| *left >= asked);
        !self.left.iter().any(enough) && (!self.others || (self.whole && self.amount.is_some()))
    }

    fn in_units(&self, value: i64) -> Redacted {
        if self.resource.as_str() == "cpu" { say::cpu(value) } else { say::bytes(value) }
    }

    /// `500m cpu`.
    pub(super) fn asked(&self) -> Redacted {
        match self.amount {
            Some(amount) => text!("{} {}", self.in_units(amount), self.resource),
            None => self.resource.clone(),
        }
    }

    /// Why no node takes it, and the same in a few words.
    pub(super) fn says(&self, waiting: &Waiting<'_>) -> (Redacted, Redacted) {
        if !self.is_sure() {
            let reasons = say::list(&closed::reasons(waiting), 4);
            return (text!("no node takes it for one reason or another: {}", reasons), ", among other reasons".into());
        }
        let rest: Vec<Redacted> = self
            .left
            .iter()
            .map(|(node, left)| text!("{} has {} left", node.object.name, self.in_units(*left)))
            .collect();
        match (self.too_small, self.left.first()) {
            (Some(largest), _) => (
                text!("the largest node that could take it has {} in all", self.in_units(largest)),
                text!(", the largest node has {}", self.in_units(largest)),
            ),
            (None, Some((_, most))) => (
                text!("the requests of other pods have used up what the nodes can allocate: {}", say::list(&rest, 4)),
                text!(", no node has more than {} left", self.in_units(*most)),
            ),
            (None, None) => ("the scheduler finds that much on no node".into(), Redacted::default()),
        }
    }
}

/// The nodes that could take the pod, by their taints and by its selector.
fn open<'a>(scene: &'a Scene, waiting: &Waiting<'_>) -> Vec<&'a Node> {
    let tolerations = waiting.tolerations(scene);
    let template = waiting.pods.first().and_then(|pod| view::template(scene, pod));
    let wanted = template.map(|template| template.node_selector.clone()).unwrap_or_default();
    let fits = |node: &Node| wanted.iter().all(|(key, value)| node.labels.get(key) == Some(value));
    scene.nodes.items().iter().filter(|node| takes(node, &tolerations) && fits(node)).collect()
}

/// What a node can allocate of a resource in all; 0 where that is not counted here.
fn all(node: &Node, resource: &str) -> i64 {
    match resource {
        "cpu" => node.allocatable_cpu_milli,
        "memory" => node.allocatable_memory_bytes,
        _ => 0,
    }
}

/// What is left of it.
fn rest(node: &Node, resource: &str) -> Option<i64> {
    let requested = match resource {
        "cpu" => node.requested_cpu_milli?,
        "memory" => node.requested_memory_bytes?,
        _ => return None,
    };
    Some(all(node, resource) - requested)
}
