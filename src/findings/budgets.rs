//! Disruption budgets in the way of a drain: those that allow none, and those of which a pod has two.

use super::proof;
use super::say;
use super::view;
use crate::model::evidence::Citation;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::scene::{Budget, Node, Pod, Scene, Workload};
use crate::redact::Redacted;
use crate::text;

pub(super) fn find(scene: &Scene) -> Option<Finding> {
    let workload = view::workload(scene)?;
    // What is pending may be evicted whatever a budget says (pkg/registry/core/pod/storage/eviction.go).
    let runs = |pod: &&Pod| pod.phase.as_str() == "Running";
    let cordoned = scene.nodes.items().iter().filter(|node| node.unschedulable);
    let mut held = cordoned.map(|node| {
        let on: Vec<&Pod> = view::pods(scene).filter(|pod| node.holds(pod)).filter(runs).collect();
        (node, on)
    });
    let (node, pods) = held.find(|(_, pods)| !pods.is_empty())?;
    let drain = Drain { scene, workload, node, pods };
    // What is not ready itself keeps a budget shut: then that is the trouble.
    let well = workload.ready >= workload.wanted && workload.wanted > 0;
    let budgets = scene.budgets.items();
    let shut = budgets.iter().find(|budget| budget.disruptions_allowed == 0);
    match (budgets, shut) {
        ([first, second, ..], _) if well => Some(drain.of_two(first, second)),
        (_, Some(budget)) if well => Some(drain.allows_none(budget)),
        (_, Some(budget)) => drain.holds_unready(budget),
        _ => None,
    }
}

/// A node that is cordoned, for a drain by the look of it, and the subject's pods that run there.
struct Drain<'a> {
    scene: &'a Scene,
    workload: &'a Workload,
    node: &'a Node,
    pods: Vec<&'a Pod>,
}

impl Drain<'_> {
    fn pods(&self) -> Redacted {
        say::count(self.pods.len() as u32, "pod", "pods")
    }

    fn quotes(&self, budget: &Budget, words: Redacted) -> Vec<Citation> {
        let budget = proof::quote(self.scene, budget.at, &words);
        budget.into_iter().chain(proof::quote(self.scene, self.node.at, &"\"unschedulable\": true".into())).collect()
    }

    fn allows_none(&self, budget: &Budget) -> Finding {
        let says = text!(
            "PodDisruptionBudget {} allows no disruption{}, so {} of {} on node {}, which is cordoned, cannot be evicted: a drain of it waits. {} of {} pods are ready.",
            budget.object.name,
            why(budget),
            self.pods(),
            self.workload.object.name,
            self.node.object.name,
            self.workload.ready,
            self.workload.wanted,
        );
        Finding {
            citations: self.quotes(budget, "\"disruptionsAllowed\": 0".into()),
            advice: Some(self.advice(budget)),
            ..Finding::new(
                "budget-allows-none",
                Role::Cause,
                // Whether the node is being drained, or only cordoned, no object says.
                Certainty::Likely,
                &budget.object,
                says,
                text!("its budget allows no disruption, node {} is cordoned", self.node.object.name).cut(90),
            )
        }
    }

    fn advice(&self, budget: &Budget) -> Redacted {
        let force = "Forcing pods away breaks what the budget protects.";
        if budget.uncounted.is_some() {
            return text!("Mend what keeps {} from being counted before the drain goes on. {}", budget.object, force);
        }
        // A share of all pods, or none missing, asks for one more with each that is added.
        let helps = budget.demand.as_str().starts_with("minAvailable") && !budget.demand.as_str().contains('%');
        let or = if helps || budget.demand.is_empty() { ", or to add a replica," } else { "" };
        let owner = &self.workload.object.name;
        text!("Ask the owner of {} to allow one pod down{} before the drain goes on. {}", owner, or, force)
    }

    /// The API server evicts no pod that two budgets select, whatever they allow.
    fn of_two(&self, first: &Budget, second: &Budget) -> Finding {
        let (one, other) = (&first.object.name, &second.object.name);
        let says = text!(
            "PodDisruptionBudgets {} and {} both select the pods of {}, and a pod of two budgets is never evicted: {} on node {}, which is cordoned, must stay, and a drain of it waits. {} of {} pods are ready.",
            one,
            other,
            self.workload.object.name,
            self.pods(),
            self.node.object.name,
            self.workload.ready,
            self.workload.wanted,
        );
        let named = |budget: &Budget| text!("\"name\": \"{}\"", budget.object.name);
        let second = proof::quote(self.scene, second.at, &named(second));
        Finding {
            citations: self.quotes(first, named(first)).into_iter().chain(second).collect(),
            advice: Some(text!("Ask their owners which of {} and {} is meant, and delete the other.", one, other)),
            ..Finding::new(
                "two-budgets",
                Role::Cause,
                Certainty::Likely,
                &first.object,
                says,
                text!("two budgets select its pods, node {} is cordoned", self.node.object.name).cut(90),
            )
        }
    }

    /// Pods that are not ready are held too, unless the budget says otherwise: the drain waits for the fault to be mended.
    fn holds_unready(&self, budget: &Budget) -> Option<Finding> {
        let held = self.pods.iter().filter(|pod| !pod.ready).count() as u32;
        if held == 0 || budget.frees_unhealthy || budget.healthy >= budget.desired {
            return None;
        }
        let says = text!(
            "A drain of node {}, which is cordoned, waits too: PodDisruptionBudget {} demands {} ready, {} of {} are, so not even the {} there that {} not ready can be evicted (unhealthyPodEvictionPolicy is not AlwaysAllow).",
            self.node.object.name,
            budget.object.name,
            say::count(budget.desired, "pod", "pods"),
            budget.healthy,
            budget.expected,
            say::count(held, "pod", "pods"),
            if held == 1 { "is" } else { "are" },
        );
        let words = text!("\"currentHealthy\": {}", budget.healthy);
        let brief = text!("its budget holds the drain of node {}", self.node.object.name).cut(90);
        Some(Finding {
            citations: self.quotes(budget, words),
            ..Finding::new("budget-holds-unready", Role::Context, Certainty::Proved, &budget.object, says, brief)
        })
    }
}

/// Why a budget allows none, in brackets, as far as it tells.
fn why(budget: &Budget) -> Redacted {
    match &budget.uncounted {
        Some(message) => text!(" (its controller cannot count its pods: {})", say::line(message)),
        None if budget.demand.is_empty() || budget.expected == 0 => Redacted::default(),
        None if budget.desired >= budget.expected => {
            let pods = say::count(budget.expected, "pod", "pods");
            text!(" ({} of {}: none may be missing)", budget.demand, pods)
        }
        None if budget.healthy < budget.desired => {
            text!(" ({}: {} of the {} pods that it wants ready are)", budget.demand, budget.healthy, budget.desired)
        }
        None => text!(" ({})", budget.demand),
    }
}
