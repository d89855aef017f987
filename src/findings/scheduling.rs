//! Pods that no node takes: selectors, affinity, taints, and requests against what is left on each node.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::closed;
use super::extended;
use super::proof;
use super::rollout;
use super::rollout::Blame;
use super::room;
use super::room::Lack;
use super::say;
use super::view;
use crate::model::evidence::Citation;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::scene::{At, Autoscaler, DiffLine, Node, Pod, Scene};
use crate::redact::Redacted;
use crate::text;

/// What the scheduler says of a group of nodes, by the wording of its plugins (pkg/scheduler/framework/plugins).
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reason {
    Selector,
    Resource(Redacted),
    Taint(Redacted),
    Cordoned,
    Other(Redacted),
}

/// The pods without a node, and what the scheduler said last.
pub(super) struct Waiting<'a> {
    pub(super) pods: Vec<&'a Pod>,
    message: Redacted,
    /// How many nodes, why, and the clause of the message that says so.
    pub(super) reasons: Vec<(u32, Reason, Redacted)>,
    at: At,
}

impl Waiting<'_> {
    pub(super) fn has(&self, wanted: impl Fn(&Reason) -> bool) -> bool {
        self.reasons.iter().any(|(_, reason, _)| wanted(reason))
    }

    /// What the pods tolerate.
    pub(super) fn tolerations(&self, scene: &Scene) -> Vec<Redacted> {
        let template = self.pods.first().and_then(|pod| view::template(scene, pod));
        template.map(|template| template.tolerations.clone()).unwrap_or_default()
    }

    /// The clause that gives such a reason, quoted; else the whole message.
    pub(super) fn proof(&self, scene: &Scene, wanted: impl Fn(&Reason) -> bool) -> Option<Citation> {
        let clause = self.reasons.iter().find(|(_, reason, _)| wanted(reason)).map(|(.., clause)| clause);
        let clause = clause.and_then(|clause| proof::quote(scene, self.at, clause));
        clause.or_else(|| proof::quote(scene, self.at, &self.message))
    }
}

pub(super) fn find(scene: &Scene, now: Timestamp) -> Vec<Finding> {
    let Some(waiting) = waiting(scene) else { return Vec::new() };
    let mut found: Vec<Finding> = Vec::new();
    let blame = rollout::blame(scene);
    let is_closed = waiting.has(|reason| matches!(reason, Reason::Taint(_) | Reason::Cordoned));
    let fitting = closed::fitting(scene, &waiting);
    // What lacks room was found to fit before.
    let fits = !fitting.is_empty() || waiting.has(|reason| matches!(reason, Reason::Resource(_) | Reason::Other(_)));
    if is_closed && !fitting.is_empty() && fitting.iter().all(|node| !room::takes(node, &waiting.tolerations(scene))) {
        found.push(closed::all_fitting(scene, &waiting, &fitting));
    } else if waiting.has(|reason| *reason == Reason::Selector) && !fits {
        found.push(selector(scene, now, &waiting, blame.as_ref()));
    } else if let Some(finding) = extended::find(scene, now, &waiting, blame.as_ref()) {
        found.push(finding);
    } else if waiting.has(|reason| matches!(reason, Reason::Resource(_))) {
        found.push(resources(scene, now, &waiting, blame.as_ref()));
        found.extend(scaled(scene, now, &waiting).filter(|_| blame.is_none()));
    } else if waiting.has(closed::is_zone) {
        found.push(closed::by_volume(scene, &waiting));
    } else if is_closed {
        found.push(closed::by_taints(scene, now, &waiting, blame.as_ref()));
    } else if !waiting.has(|reason| matches!(reason, Reason::Other(text) if text.as_str().contains("olume")))
        || scene.claims.items().iter().all(|claim| claim.phase.as_str() == "Bound")
    {
        found.push(unclear(scene, &waiting));
    }
    found
}

fn waiting(scene: &Scene) -> Option<Waiting<'_>> {
    let pods: Vec<&Pod> =
        view::pods(scene).filter(|pod| pod.node.is_none() && pod.phase.as_str() == "Pending").collect();
    let first = pods.first()?;
    let event = view::warnings(scene, &first.object).find(|event| event.reason.as_str() == "FailedScheduling");
    let condition = view::condition(&first.conditions, "PodScheduled").filter(|c| c.status.as_str() == "False");
    let event = event.map(|event| (&event.message, event.at));
    let (message, at) = event.or_else(|| condition.map(|condition| (&condition.message, first.at)))?;
    Some(Waiting { reasons: reasons(message, scene.nodes.items()), message: message.clone(), pods, at })
}

/// `0/4 nodes are available: 1 node(s) had untolerated taint {...}, 3 Insufficient cpu. preemption: ...`; after the first
/// full stop stands what the scheduler tried to make room.
fn reasons(message: &Redacted, nodes: &[Node]) -> Vec<(u32, Reason, Redacted)> {
    let text = message.as_str();
    let Some((_, rest)) = text.split_once("nodes are available:") else { return Vec::new() };
    let clauses = rest.split(". ").next().unwrap_or(rest).trim_end_matches('.');
    let mut reasons = Vec::new();
    for clause in clauses.split(", ") {
        let clause = clause.trim();
        let (count, what) = clause.split_once(' ').unwrap_or(("", clause));
        let part = |found: &str| message.part(found).unwrap_or_default();
        if what.contains("untolerated taint(s)") {
            reasons.extend(tainted(count.parse().unwrap_or(0), &part(clause), nodes));
            continue;
        }
        let reason = if what.contains("affinity/selector") {
            Reason::Selector
        } else if let Some(resource) = what.strip_prefix("Insufficient ") {
            Reason::Resource(part(resource))
        } else if let Some((_, taint)) = what.split_once("taint {") {
            Reason::Taint(part(taint.trim_end_matches('}').trim_end_matches([':', ' '])))
        } else if what.contains("were unschedulable") {
            Reason::Cordoned
        } else {
            Reason::Other(part(what))
        };
        reasons.push((count.parse().unwrap_or(0), reason, part(clause)));
    }
    reasons
}

/// Since Kubernetes 1.35 the scheduler no longer says which taints it means; the nodes do, where just as many have one.
/// Where a node has several, which of them keeps the pod away is not known here.
fn tainted(count: u32, clause: &Redacted, nodes: &[Node]) -> Vec<(u32, Reason, Redacted)> {
    let closes = |taint: &&Redacted| !taint.as_str().ends_with(":PreferNoSchedule");
    let mut taints: BTreeMap<&Redacted, u32> = BTreeMap::new();
    let mut several = false;
    for node in nodes {
        let mut closing = node.taints.iter().filter(closes);
        if let Some(taint) = closing.next() {
            *taints.entry(taint).or_default() += 1;
            several |= closing.next().is_some();
        }
    }
    if several || taints.values().sum::<u32>() != count {
        return vec![(count, Reason::Taint(Redacted::default()), clause.clone())];
    }
    let told = |taint: &Redacted| {
        let bare = taint.as_str().rsplit_once(':').map_or(taint.as_str(), |(bare, _)| bare);
        let (key, value) = bare.split_once('=').unwrap_or((bare, ""));
        let part = |text: &str| taint.part(text).unwrap_or_default();
        if value.is_empty() { part(key) } else { text!("{}: {}", part(key), part(value)) }
    };
    taints.into_iter().map(|(taint, count)| (count, Reason::Taint(told(taint)), clause.clone())).collect()
}

pub(super) fn pending(waiting: &Waiting<'_>) -> Redacted {
    let pods = waiting.pods.len() as u32;
    text!("{} {} pending", say::count(pods, "pod", "pods"), if pods == 1 { "is" } else { "are" })
}

/// The node selector (or affinity) that no node satisfies, with what the nodes have instead.
fn selector(scene: &Scene, now: Timestamp, waiting: &Waiting<'_>, blame: Option<&Blame<'_>>) -> Finding {
    let template = waiting.pods.first().and_then(|pod| view::template(scene, pod));
    let wanted = template.map(|template| template.node_selector.clone()).unwrap_or_default();
    let nodes = scene.nodes.items();
    let lines =
        blame.map_or_else(Vec::new, |blame| blame.lines(|line| rollout::is_field(line, &["nodeselector", "affinity"])));
    let absent = wanted.iter().find(|(key, value)| !nodes.iter().any(|node| node.labels.get(*key) == Some(*value)));
    let asked = asked(&wanted, absent);
    // Nodes that are closed were not asked for their labels.
    let unasked = wanted.is_empty() && waiting.reasons.len() > 1;
    let found = absent.filter(|_| !nodes.is_empty()).map(|(key, _)| values(nodes, key));
    let have = found.as_ref().map_or_else(Redacted::default, |found| text!(" ({})", found));
    let says = match (blame, lines.first()) {
        (Some(blame), Some(line)) => text!(
            "{} ({}) {}, which matches no node{}, so {}; {}.",
            blame.name(),
            say::at(blame.since(), now),
            blame.did(&[*line]),
            have,
            pending(waiting),
            rollout::earlier(blame),
        ),
        _ if unasked => text!(
            "{} matches no node that is open to it, so {}: {}.",
            asked,
            pending(waiting),
            say::list(&closed::reasons(waiting), 4),
        ),
        _ => text!("{} matches no node{}, so {}.", asked, have, pending(waiting)),
    };
    let brief = match unasked {
        true => text!("{} matches no node that is open to it", asked),
        false => text!("{} matches no node", asked),
    };
    let line = lines.first().copied();
    let citations = selected(scene, waiting, (blame, line), absent.map(|(key, _)| key));
    Finding {
        citations,
        revision: blame.as_ref().filter(|_| !lines.is_empty()).map(|blame| blame.newest.number),
        proposal: blame.filter(|_| !lines.is_empty()).and_then(|blame| blame.undo(scene)),
        advice: Some(
            "Ask for nodes that exist. Labels of nodes say what hardware they have: their owners set them.".into(),
        ),
        ..Finding::new(
            "node-selector",
            Role::Cause,
            match found {
                Some(_) => Certainty::Proved,
                None if unasked => Certainty::Possible,
                None => Certainty::Likely,
            },
            &scene.subject,
            says,
            brief,
        )
    }
}

/// What a pod asks of its node's labels, by the one that none has where there is one.
fn asked(wanted: &BTreeMap<String, Redacted>, absent: Option<(&String, &Redacted)>) -> Redacted {
    match absent {
        Some((key, value)) => text!("nodeSelector {}={}", say::key(key), value),
        None if !wanted.is_empty() => text!("nodeSelector {}", say::labels(wanted)),
        None => "the node affinity".into(),
    }
}

/// What shows that no node fits: the scheduler's word, the revision that asks for it, and what another node has instead.
fn selected(
    scene: &Scene,
    waiting: &Waiting<'_>,
    (blame, line): (Option<&Blame<'_>>, Option<&DiffLine>),
    absent: Option<&String>,
) -> Vec<Citation> {
    let mut citations: Vec<Citation> = waiting.proof(scene, |reason| *reason == Reason::Selector).into_iter().collect();
    citations.extend(blame.and_then(|blame| blame.citation(scene, line)));
    if let Some(key) = absent {
        let other = scene.nodes.items().iter().find_map(|node| Some((node, node.labels.get(key)?)));
        let quote =
            |(node, value): (&Node, _)| proof::quote(scene, node.at, &text!("\"{}\": \"{}\"", say::key(key), value));
        citations.extend(other.and_then(quote));
    }
    citations
}

/// What nodes have under a label's key: `2 nodes have ssd, 1 has hdd, 1 has none`.
fn values(nodes: &[Node], key: &str) -> Redacted {
    let mut counts: BTreeMap<Option<&Redacted>, u32> = BTreeMap::new();
    for node in nodes {
        *counts.entry(node.labels.get(key)).or_default() += 1;
    }
    let mut counts: Vec<(Option<&Redacted>, u32)> = counts.into_iter().collect();
    counts.sort_by_key(|(value, count)| (value.is_none(), std::cmp::Reverse(*count)));
    let said: Vec<Redacted> = counts
        .into_iter()
        .map(|(value, count)| {
            let has = if count == 1 { "node has" } else { "nodes have" };
            text!("{} {} {}", count, has, value.cloned().unwrap_or_else(|| "none".into()))
        })
        .collect();
    say::list(&said, 3)
}

/// Requests that are more than any node has left.
fn resources(scene: &Scene, now: Timestamp, waiting: &Waiting<'_>, blame: Option<&Blame<'_>>) -> Finding {
    let lack = Lack::of(scene, waiting);
    let resource = &lack.resource;
    let lines = blame.map_or_else(Vec::new, |blame| blame.lines(|line| rollout::is_field(line, &["request"])));
    let lines = if lack.is_sure() { lines } else { Vec::new() };
    let by = match (blame, lines.first()) {
        (Some(blame), Some(line)) => {
            text!(" {} ({}) {}.", blame.name(), say::at(blame.since(), now), blame.did(&[*line]))
        }
        _ => Redacted::default(),
    };
    let holder = holder(scene, resource.as_str()).filter(|_| lack.too_small.is_none() && lack.is_sure());
    let holds = holder.as_ref().map_or_else(Redacted::default, |(name, cpu)| {
        text!(" The largest holder of requests there is {} with {}.", name, say::cpu(*cpu))
    });
    let (why, most) = lack.says(waiting);
    let says = text!(
        "Insufficient {}: {} and {} {}, but {}.{}{}",
        resource,
        pending(waiting),
        if waiting.pods.len() == 1 { "requests" } else { "each requests" },
        lack.asked(),
        why,
        by,
        holds,
    );
    let brief = text!("Insufficient {}: a pod requests {}{}", resource, lack.asked(), most);
    let mut citations: Vec<Citation> =
        waiting.proof(scene, |reason| matches!(reason, Reason::Resource(_))).into_iter().collect();
    citations.extend(request_quote(scene, waiting, resource.as_str()));
    citations.extend(blame.and_then(|blame| blame.citation(scene, lines.first().copied())));
    Finding {
        citations,
        revision: blame.as_ref().filter(|_| !lines.is_empty()).map(|blame| blame.newest.number),
        proposal: blame.filter(|_| !lines.is_empty()).and_then(|blame| blame.undo(scene)),
        advice: Some(match holder {
            _ if !lack.is_sure() => {
                "Look at each of the reasons that the scheduler gives: room alone may not be what is missing.".into()
            }
            None if lack.too_small.is_some() => "Request less, or add a node that is as large.".into(),
            Some((name, _)) => text!(
                "Add a node, or ask the owner of {} to request less: people decide about capacity. Restarting frees nothing.",
                name
            ),
            None => "Add a node, or request less: people decide about capacity. Restarting frees nothing.".into(),
        }),
        ..Finding::new(
            "resources",
            Role::Cause,
            if lack.is_sure() { Certainty::Proved } else { Certainty::Possible },
            &scene.subject,
            says,
            brief,
        )
    }
}

/// The request as written in the pod: `"cpu": "500m"`.
fn request_quote(scene: &Scene, waiting: &Waiting<'_>, resource: &str) -> Option<Citation> {
    let pod = waiting.pods.first()?;
    let containers = &view::template(scene, pod)?.containers;
    let value =
        containers.iter().filter(|container| !container.init).find_map(|container| container.requests.get(resource))?;
    let name = if resource == "cpu" { "cpu" } else { "memory" };
    proof::field(scene, pod.at, name, value)
}

/// The other workload that holds most CPU requests on the nodes in question.
fn holder(scene: &Scene, resource: &str) -> Option<(Redacted, i64)> {
    let others = scene.neighbours.items().iter().filter(|other| other.object != scene.subject && other.cpu_milli > 0);
    let largest = others.max_by_key(|other| other.cpu_milli).filter(|_| resource == "cpu")?;
    Some((text!("{}", largest.object), largest.cpu_milli))
}

/// The pods of a scaled workload are made within this: two controllers act in turn, each within seconds.
const SCALED_WITHIN_SECONDS: i64 = 60;

/// The autoscaler that asked for a pod that waits.
fn scaled(scene: &Scene, now: Timestamp, waiting: &Waiting<'_>) -> Option<Finding> {
    let asked = |hpa: &Autoscaler| {
        let at = hpa.last_scaled_at.filter(|_| hpa.desired > hpa.min)?;
        let after = |pod: &&Pod| pod.created_at.as_second() - at.as_second();
        waiting.pods.iter().any(|pod| (0..=SCALED_WITHIN_SECONDS).contains(&after(pod))).then_some(at)
    };
    let (autoscaler, at) = scene.autoscalers.items().iter().find_map(|hpa| Some((hpa, asked(hpa)?)))?;
    let at = say::at(at, now);
    let says = text!(
        "Its autoscaler asked for {} pods at {} (between {} and {}); no rollout is involved.",
        autoscaler.desired,
        at,
        autoscaler.min,
        autoscaler.max,
    );
    let event = scene.events.items().iter().find(|event| event.reason.as_str() == "SuccessfulRescale");
    Some(Finding {
        citations: event.and_then(|event| proof::event(scene, event)).into_iter().collect(),
        ..Finding::new(
            "scaled-up",
            Role::Change,
            Certainty::Proved,
            &autoscaler.object,
            says,
            "its autoscaler asked for more pods".into(),
        )
    })
}

/// A scheduler's message that no rule here understands.
fn unclear(scene: &Scene, waiting: &Waiting<'_>) -> Finding {
    let message = say::line(&waiting.message);
    Finding {
        citations: waiting.proof(scene, |_| false).into_iter().collect(),
        ..Finding::new(
            "unschedulable",
            Role::Mechanism,
            Certainty::Proved,
            &scene.subject,
            text!("{}; the scheduler says: {}.", pending(waiting), message),
            "the scheduler finds no node".into(),
        )
    }
}
