//! Containers that end, cannot start or fail their probes: by exit code, last termination and last words.

use std::sync::LazyLock;

use jiff::Timestamp;
use regex::Regex;

use super::near;
use super::proof;
use super::rollout;
use super::say;
use super::view;
use crate::model::evidence::Citation;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::object::Kind;
use crate::model::scene::{ContainerState, DiffLine, Pod, Scene, State, Terminated};
use crate::redact::Redacted;
use crate::text;

/// The runtime's words for a program that it cannot start.
static NO_PROGRAM: LazyLock<Regex> = LazyLock::new(|| {
    let expression = r#"exec: "?(?P<program>[^":\s]+)"?: (?P<why>executable file not found in \$PATH|no such file or directory|permission denied|stat [^:]+: no such file or directory)|exec (?P<path>/\S+): (?P<because>no such file or directory|permission denied|exec format error)"#;
    view::pattern(expression)
});

pub(super) fn find(scene: &Scene, now: Timestamp) -> Vec<Finding> {
    let failing: Vec<(&Pod, &ContainerState)> = view::failing(scene).collect();
    let mut found: Vec<Finding> = Vec::new();
    if let Some(finding) = failing.iter().find_map(|(pod, container)| no_program(scene, now, pod, container)) {
        found.push(finding);
    } else if let Some(finding) = failing.iter().find_map(|(pod, container)| ended(scene, pod, container)) {
        found.push(finding);
    }
    found.extend(evicted(scene));
    found
}

/// A command that does not exist in the image.
fn no_program(scene: &Scene, now: Timestamp, pod: &Pod, container: &ContainerState) -> Option<Finding> {
    let end = view::last_end(container);
    let waits = view::waiting(container).1;
    let events = view::warnings(scene, &pod.object).collect::<Vec<_>>();
    let own = end.map(|end| &end.message).into_iter().chain(waits);
    let text = own.chain(events.iter().map(|event| &event.message)).find(|text| NO_PROGRAM.is_match(text.as_str()))?;
    let captures = NO_PROGRAM.captures(text.as_str())?;
    let part = |name: &str| captures.name(name).and_then(|found| text.part(found.as_str()));
    let (program, why) = (part("program").or_else(|| part("path"))?, part("why").or_else(|| part("because"))?);
    let kind = if container.init { "init container" } else { "container" };
    let blame = rollout::blame(scene);
    let brought = |line: &DiffLine| rollout::is_field(line, &["command", "args", "image"]);
    let lines = blame.as_ref().map_or_else(Vec::new, |blame| blame.lines_of(&container.name, brought));
    let before = blame.as_ref().and_then(|blame| view::container(&blame.previous.template, &container.name));
    let before = before.and_then(|before| before.command.first().or(before.args.first())).filter(|b| **b != program);
    let slip = before.filter(|before| near::near(program.as_str(), before.as_str()).is_some());
    let was = match (before, slip) {
        (Some(before), Some(_)) => text!(" instead of {}, by the look of it a typo", before),
        (Some(before), None) => text!(" instead of {}", before),
        _ => Redacted::default(),
    };
    let says = match &blame {
        Some(blame) if !lines.is_empty() => text!(
            "{} ({}) makes {} {} run {}{}: {}, so it never starts; {}.",
            blame.name(),
            say::at(blame.since(), now),
            kind,
            container.name,
            program,
            was,
            why,
            rollout::earlier(blame),
        ),
        _ => text!("The {} {} is to run {}: {}, so it never starts.", kind, container.name, program, why),
    };
    let brief = match slip {
        Some(before) => text!("{} {} runs {}, not found (was {})", kind, container.name, program, before),
        None => text!("{} {} runs {}: {}", kind, container.name, program, why),
    };
    let mut citations: Vec<Citation> = events
        .iter()
        .filter(|event| NO_PROGRAM.is_match(event.message.as_str()))
        .filter_map(|event| {
            proof::quote(scene, event.at, &text!("exec: \"{}\": {}", program, why))
                .or_else(|| proof::event(scene, event))
        })
        .take(1)
        .collect();
    citations.extend(blame.as_ref().and_then(|blame| blame.citation(scene, lines.first().copied())));
    citations.extend(end.and_then(|end| proof::field(scene, pod.at, "reason", &end.reason)));
    Some(Finding {
        citations,
        revision: blame.as_ref().filter(|_| !lines.is_empty()).map(|blame| blame.newest.number),
        proposal: blame.as_ref().filter(|_| !lines.is_empty()).and_then(|blame| blame.undo(scene)),
        advice: Some(text!("Correct the command of {} {}: no log can exist, since nothing ran.", kind, container.name)),
        ..Finding::new("no-such-program", Role::Cause, Certainty::Proved, &scene.subject, says, brief.cut(90))
    })
}

/// What an exit code means by convention (POSIX shells, Docker; 128 + signal).
fn meaning(code: i32) -> &'static str {
    match code {
        0 => " (no failure by itself, but it is meant to run on)",
        126 => " (the command cannot be executed)",
        127 => " (command not found)",
        134 => " (aborted, SIGABRT)",
        137 => " (killed, SIGKILL)",
        139 => " (segmentation fault, SIGSEGV)",
        143 => " (asked to end, SIGTERM)",
        _ => "",
    }
}

/// A container that ended, with its last words.
fn ended(scene: &Scene, pod: &Pod, container: &ContainerState) -> Option<Finding> {
    let end = view::present_end(scene, container).filter(|end| end.reason.as_str() != "OOMKilled")?;
    let once = container.restarts == 0 && matches!(container.state, State::Terminated(_));
    // A Job's pod that ended well is done; anything else that ended with 0 is meant to run on.
    if end.exit_code == 0 && (once || scene.subject.kind == Kind::Job) {
        return None;
    }
    let words = view::last_words(scene, pod, &container.name);
    let said =
        words.map_or_else(Redacted::default, |(_, line)| text!("; its log ends with \"{}\"", say::line(&line.text)));
    let restarts = match container.restarts {
        0 => Redacted::default(),
        n => text!(", {} so far", say::count(n, "restart", "restarts")),
    };
    let says = text!(
        "Container {} of pod {} exits with code {}{}{}{}{}.",
        container.name,
        pod.object.name,
        end.exit_code,
        meaning(end.exit_code),
        lasted(end),
        restarts,
        said,
    );
    let brief = match words.filter(|(_, line)| view::is_telling(&line.text)) {
        Some((_, line)) => {
            text!("container {} exits {}: \"{}\"", container.name, end.exit_code, say::line(&line.text)).cut(90)
        }
        None => text!("container {} exits with code {}", container.name, end.exit_code),
    };
    let mut citations: Vec<Citation> =
        words.and_then(|(log, line)| proof::line(scene, log, line)).into_iter().collect();
    citations.extend(proof::exit_code(scene, pod, end.exit_code));
    let back_off = view::warnings(scene, &pod.object).find(|event| event.reason.as_str() == "BackOff");
    citations.extend(back_off.and_then(|event| proof::event(scene, event)));
    Some(Finding {
        citations,
        ..Finding::new("container-ended", Role::Mechanism, Certainty::Proved, &scene.subject, says, brief)
    })
}

/// How long the last run took. Runtimes write 1970 for a container that never started.
fn lasted(end: &Terminated) -> Redacted {
    match (end.started_at, end.finished_at) {
        (Some(start), Some(finish)) if start.as_second() > 0 => {
            text!(" after {}", say::span(say::seconds(start, finish)))
        }
        _ => Redacted::default(),
    }
}

/// An eviction of so long ago is not what is wrong now: another pod has taken its place.
const EVICTED_RECENTLY_SECONDS: i64 = 3600;

/// Pods of a workload that a node put out lately; of a node its shortage says so.
fn evicted(scene: &Scene) -> Option<Finding> {
    if scene.subject.kind == Kind::Node {
        return None;
    }
    let lately = |pod: &&Pod| say::seconds(evicted_at(scene, pod), scene.read_at) <= EVICTED_RECENTLY_SECONDS;
    let evicted = scene.pods.items().iter().filter(|pod| pod.reason.as_str() == "Evicted");
    let evicted: Vec<&Pod> = evicted.filter(lately).collect();
    let pod = evicted.first()?;
    let says =
        text!("{} evicted: {}.", say::count(evicted.len() as u32, "pod was", "pods were"), say::line(&pod.message));
    Some(Finding {
        citations: proof::quote(scene, pod.at, &pod.message).into_iter().collect(),
        ..Finding::new("evicted", Role::Mechanism, Certainty::Proved, &scene.subject, says, "pods were evicted".into())
    })
}

/// When a pod was put out; where nobody tells, not before it was made.
fn evicted_at(scene: &Scene, pod: &Pod) -> Timestamp {
    let turned = ["DisruptionTarget", "Ready"].into_iter().filter_map(|kind| view::condition(&pod.conditions, kind));
    let said = view::warnings(scene, &pod.object).find(|event| event.reason.as_str() == "Evicted");
    let told = turned.filter_map(|condition| condition.changed_at).next();
    told.or_else(|| said.map(|event| event.last_at)).unwrap_or(pod.created_at)
}
