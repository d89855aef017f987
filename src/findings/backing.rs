//! A dependency that is down: the log says that it refuses, and what stands behind its Service is not ready.

use std::sync::LazyLock;

use jiff::Timestamp;
use regex::Regex;

use super::proof;
use super::say;
use super::view;
use crate::model::evidence::Citation;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::object::ObjectRef;
use crate::model::scene::{LogLine, LogTail, Neighbour, Scene, Service, ServiceLink, State};
use crate::redact::Redacted;
use crate::text;

/// Words of a call that got no answer.
const UNANSWERED: [&str; 9] = [
    "refused",
    "timed out",
    "timeout",
    "unreachable",
    "no route to host",
    "unavailable",
    "connection reset",
    "no endpoints",
    "503",
];

pub(super) fn find(scene: &Scene, now: Timestamp) -> Vec<Finding> {
    if let Some(finding) = no_pods(scene) {
        return vec![finding];
    }
    let down = scene.services.items().iter().filter(|service| is_down(scene, service));
    let mut found = down.filter_map(|service| Some((service, complaint(scene, service)?)));
    found.next().map(|(service, (log, line))| cause(scene, now, service, log, line)).into_iter().collect()
}

/// The subject is a Service whose workload has no pod: it is scaled to 0, or cannot make any.
fn no_pods(scene: &Scene) -> Option<Finding> {
    let service = scene.services.items().iter().find(|service| service.object == scene.subject)?;
    let empty = service.ready_endpoints == 0 && service.pods_selected == 0;
    let workload = service.behind.as_ref().filter(|_| empty)?;
    let (state, certainty, advice) = match workload.wanted {
        0 => (
            "is scaled to 0".into(),
            Certainty::Proved,
            text!("Scale {} up again, unless its owner means it to be off.", workload.object),
        ),
        wanted => (
            text!("has no pod, {} wanted", wanted),
            Certainty::Likely,
            text!("Look at {}: why its pods are not made is said there.", workload.object),
        ),
    };
    let says = text!("{} behind Service {} {}, so it has no endpoints.", workload.object, service.object.name, state);
    Some(Finding {
        citations: proof::quote(scene, workload.at, &text!("\"replicas\": {}", workload.wanted)).into_iter().collect(),
        advice: Some(advice),
        ..Finding::new(
            "no-pods-behind",
            Role::Cause,
            certainty,
            &workload.object,
            says,
            text!("{} behind it {}", workload.object.name, state).cut(90),
        )
    })
}

/// Somebody else's Service without a ready endpoint, whose workload or pods are known.
fn is_down(scene: &Scene, service: &Service) -> bool {
    let known = service.behind.is_some() || service.pods_selected > 0;
    service.ready_endpoints == 0 && known && service.object != scene.subject && !is_own(scene, service)
}

/// Whether a Service selects the subject's own pods.
fn is_own(scene: &Scene, service: &Service) -> bool {
    let Some(workload) = view::workload(scene) else { return false };
    let labels = &workload.template.labels;
    service.link == ServiceLink::Selects
        || (!service.selector.is_empty() && service.selector.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

/// The last line of the subject's logs that says that a call to this Service got no answer: it names the Service, or
/// an address of the kind by which the scene found the Service in this log.
pub(super) fn complaint<'a>(scene: &'a Scene, service: &Service) -> Option<(&'a LogTail, &'a LogLine)> {
    let name = service.object.name();
    let by_log = service.link == ServiceLink::Logged;
    let lines = || scene.logs.items().iter().flat_map(|log| log.lines.iter().rev().map(move |line| (log, line)));
    let unanswered = |line: &LogLine| {
        let text = line.text.as_str().to_ascii_lowercase();
        UNANSWERED.iter().any(|word| names(&text, word))
    };
    let named = lines().find(|(_, line)| unanswered(line) && names(line.text.as_str(), name));
    named.or_else(|| lines().find(|(_, line)| by_log && unanswered(line) && ADDRESS.is_match(line.text.as_str())))
}

/// An address and a port that a call went to.
static ADDRESS: LazyLock<Regex> = LazyLock::new(|| view::pattern(r"\b(?:\d{1,3}\.){3}\d{1,3}:\d{2,5}\b"));

/// Whether a text holds this name or word, and no longer one that holds it.
fn names(text: &str, name: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
    text.match_indices(name)
        .any(|(at, found)| edge(text[..at].chars().next_back()) && edge(text[at + found.len()..].chars().next()))
}

fn cause(scene: &Scene, now: Timestamp, service: &Service, log: &LogTail, line: &LogLine) -> Finding {
    let about: &ObjectRef = service.behind.as_ref().map_or(&service.object, |workload| &workload.object);
    let state = service.behind.as_ref().map_or_else(Redacted::default, |workload| behind(workload, now));
    let (pod, pod_proof) = failing(scene, service);
    let says = text!(
        "{} cannot reach {}, which has no ready endpoint: \"{}\".{}{}",
        scene.subject.name,
        service.object,
        say::line(&line.text),
        state,
        pod,
    );
    let brief = match &service.behind {
        Some(workload) if workload.wanted == 0 => text!("{} that it needs is scaled to 0", about.name),
        Some(workload) => {
            text!("{} that it needs is down ({} of {} ready)", about.name, workload.ready, workload.wanted)
        }
        None => text!("Service {} that it needs has no ready endpoint", about.name),
    };
    let mut citations: Vec<Citation> = proof::line(scene, log, line).into_iter().collect();
    citations.extend(pod_proof);
    Finding {
        citations,
        advice: Some(text!(
            "Look at {} first: {} recovers when that answers again, and restarting it does not help.",
            about,
            scene.subject.name,
        )),
        ..Finding::new(
            "dependency-down",
            Role::Cause,
            // By its address alone, the Service is likely but not certain to be the one.
            if names(line.text.as_str(), service.object.name()) { Certainty::Likely } else { Certainty::Possible },
            about,
            says,
            brief.cut(90),
        )
    }
}

fn behind(workload: &Neighbour, now: Timestamp) -> Redacted {
    if workload.wanted == 0 {
        return text!(" {} behind it is scaled to 0.", workload.object);
    }
    let since =
        workload.rolled_out_at.map_or_else(Redacted::default, |at| text!(", last rolled out {}", say::at(at, now)));
    text!(" {} behind it has {} of {} pods ready{}.", workload.object, workload.ready, workload.wanted, since)
}

/// What the pod behind the Service does, with its proof.
fn failing(scene: &Scene, service: &Service) -> (Redacted, Option<Citation>) {
    let Some(pod) = &service.failing else { return (Redacted::default(), None) };
    let container = pod.containers.iter().find(|container| !container.ready && !container.init);
    let Some(container) = container.or_else(|| pod.containers.first()) else { return (Redacted::default(), None) };
    let state = match &container.state {
        State::Waiting { reason, .. } if !reason.is_empty() => text!(" is in {}", reason),
        _ => " is not ready".into(),
    };
    match view::last_end(container) {
        Some(end) => (
            text!(" Its pod {}{}, exit code {}.", pod.object.name, state, end.exit_code),
            proof::exit_code(scene, pod, end.exit_code),
        ),
        None => {
            let proof = match &container.state {
                State::Waiting { reason, .. } => proof::field(scene, pod.at, "reason", reason),
                _ => None,
            };
            (text!(" Its pod {}{}.", pod.object.name, state), proof)
        }
    }
}
