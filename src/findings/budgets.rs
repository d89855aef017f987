//! Disruption budgets that allow none while somebody drains a node.

use super::proof;
use super::say;
use super::view;
use crate::model::evidence::Citation;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::scene::{Budget, Node, Pod, Scene};
use crate::text;

pub(super) fn find(scene: &Scene) -> Option<Finding> {
    // What is not ready itself keeps a budget shut: then that is the trouble.
    let workload = view::workload(scene).filter(|workload| workload.ready >= workload.wanted && workload.wanted > 0)?;
    let budget = scene.budgets.items().iter().find(|budget| budget.disruptions_allowed == 0)?;
    let on = |node: &Node| {
        let here = |pod: &&Pod| pod.node.as_ref().is_some_and(|name| name.as_str() == node.object.name());
        view::pods(scene).filter(here).count() as u32
    };
    let node = scene.nodes.items().iter().find(|node| node.unschedulable && on(node) > 0)?;
    let pods = on(node);
    let says = text!(
        "PodDisruptionBudget {} allows no disruption, so {} of {} on node {}, which is cordoned, cannot be evicted: a drain of it waits. {} of {} pods are ready.",
        budget.object.name,
        say::count(pods, "pod", "pods"),
        workload.object.name,
        node.object.name,
        workload.ready,
        workload.wanted,
    );
    Some(Finding {
        citations: quotes(scene, budget, node),
        advice: Some(text!(
            "Ask the owner of {} to allow one pod down, or to add a replica, before the drain goes on. Forcing pods away breaks what the budget protects.",
            workload.object.name,
        )),
        ..Finding::new(
            "budget-allows-none",
            Role::Cause,
            // Whether the node is being drained, or only cordoned, no object says.
            Certainty::Likely,
            &budget.object,
            says,
            text!("its budget allows no disruption, node {} is cordoned", node.object.name).cut(90),
        )
    })
}

fn quotes(scene: &Scene, budget: &Budget, node: &Node) -> Vec<Citation> {
    let budget = proof::quote(scene, budget.at, &"\"disruptionsAllowed\": 0".into());
    budget.into_iter().chain(proof::quote(scene, node.at, &"\"unschedulable\": true".into())).collect()
}
