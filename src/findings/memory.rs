//! Memory: containers killed at their limit, and what changed the limit or the need.

use jiff::Timestamp;

use super::lines;
use super::proof;
use super::rollout;
use super::rollout::Blame;
use super::say;
use super::view;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::scene::{ContainerState, DiffLine, Pod, Scene, Terminated};
use crate::redact::Redacted;
use crate::text;

pub(super) fn find(scene: &Scene, now: Timestamp) -> Vec<Finding> {
    let killed = |pair: &(&Pod, &ContainerState)| end(scene, pair.1).is_some();
    let killed: Vec<(&Pod, &ContainerState)> = view::failing(scene).filter(killed).collect();
    let Some((pod, container)) = killed.first().copied() else { return Vec::new() };
    let Some(end) = end(scene, container) else { return Vec::new() };
    let mechanism = mechanism(scene, pod, container, end, killed.len() as u32);
    let cause = cause(scene, now, container, &mechanism);
    vec![mechanism, cause]
}

/// How the kernel killed a container, from its present or its last state.
fn end<'a>(scene: &Scene, container: &'a ContainerState) -> Option<&'a Terminated> {
    view::present_end(scene, container).filter(|end| end.reason.as_str() == "OOMKilled")
}

fn limit(container: &ContainerState) -> Redacted {
    match &container.memory_limit {
        Some(limit) => text!("its memory limit of {}", limit),
        None => "the memory that its node could give (it has no limit)".into(),
    }
}

fn mechanism(scene: &Scene, pod: &Pod, container: &ContainerState, end: &Terminated, pods: u32) -> Finding {
    let mut citations: Vec<_> = proof::field(scene, pod.at, "reason", &end.reason).into_iter().collect();
    citations.extend(container.memory_limit.as_ref().and_then(|limit| proof::field(scene, pod.at, "memory", limit)));
    let says = text!(
        "Container {} of {} was killed when it reached {} (OOMKilled, exit code {}, {}).",
        container.name,
        say::count(pods, "pod", "pods"),
        limit(container),
        end.exit_code,
        say::count(container.restarts, "restart", "restarts"),
    );
    let brief = text!("OOMKilled at {}", limit(container));
    Finding { citations, ..Finding::new("oom-killed", Role::Mechanism, Certainty::Proved, &scene.subject, says, brief) }
}

/// A container that reaches its limit at once needs more to start; one that takes this long, in seconds, grew.
const GREW_SECONDS: i64 = 600;

/// How long the run took that reached the limit, where that tells something.
fn slowly(container: &ContainerState) -> Redacted {
    let ran = view::ran_seconds(container).filter(|ran| *ran >= GREW_SECONDS);
    ran.map_or_else(Redacted::default, |ran| text!(" after {} of running", say::span(ran)))
}

/// Whether this difference is of the memory limit.
fn is_limit(line: &DiffLine) -> bool {
    let field = line.field.as_str().to_ascii_lowercase();
    field.starts_with("limit") && field.contains("memory")
}

/// A limit that a revision raised: it did not suffice, and the revision is not why.
fn raised(blame: &Blame<'_>, container: &ContainerState) -> Redacted {
    let raised = blame.lines_of(&container.name, |line| is_limit(line) && lines::is_raise(line));
    match raised.as_slice() {
        [] => Redacted::default(),
        raised => text!(" {} ({}) does not suffice.", blame.name(), blame.say(raised)),
    }
}

fn cause(scene: &Scene, now: Timestamp, container: &ContainerState, mechanism: &Finding) -> Finding {
    let base = Finding {
        rule: "memory-limit".into(),
        role: Role::Cause,
        citations: mechanism.citations.clone(),
        advice: Some(text!(
            "Look at the memory use of container {} over time: raise the limit if the load grew, look for a leak if not.",
            container.name,
        )),
        ..mechanism.clone()
    };
    let Some(blame) = rollout::blame(scene) else {
        return Finding {
            certainty: Certainty::Possible,
            says: text!(
                "Container {} needs more than {}{}, and no change of the workload explains it: more load, or a leak.",
                container.name,
                limit(container),
                slowly(container),
            ),
            brief: text!("OOMKilled at {}, no rollout explains it", limit(container)),
            ..base
        };
    };
    let limits = blame.lines_of(&container.name, |line| is_limit(line) && !lines::is_raise(line));
    let fields = ["image", "args", "command", "env", "envfrom"];
    let others = blame.lines_of(&container.name, |line| rollout::is_field(line, &fields));
    let (lines, certainty) = match (limits.is_empty(), others.is_empty()) {
        (false, _) => (limits, Certainty::Proved),
        (true, false) => (others, Certainty::Likely),
        (true, true) => {
            let says = text!("{}{}", base.says, raised(&blame, container));
            return Finding { certainty: Certainty::Possible, ending: true, says, ..base };
        }
    };
    let mut citations: Vec<_> = mechanism.citations.clone();
    citations.extend(blame.citation(scene, lines.first().copied()));
    Finding {
        certainty,
        says: text!(
            "{} ({}) {}, and since then container {} reaches {} and is killed (OOMKilled); {}.",
            blame.name(),
            say::at(blame.since(), now),
            blame.did(&lines),
            container.name,
            limit(container),
            rollout::earlier(&blame),
        ),
        brief: text!("OOMKilled since revision {}: {}", blame.newest.number, blame.say(&lines)).cut(90),
        citations,
        ending: true,
        revision: Some(blame.newest.number),
        proposal: blame.undo(scene),
        ..base
    }
}
