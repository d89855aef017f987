//! Programs that cannot run where they are: an image built for another architecture, a command that its shell misses.

use std::sync::LazyLock;

use jiff::Timestamp;
use regex::Regex;

use super::proof;
use super::rollout;
use super::say;
use super::view;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::scene::{ContainerState, DiffLine, LogLine, LogTail, Pod, Scene};
use crate::redact::Redacted;
use crate::text;

/// The kernel's answer (ENOEXEC) as runtimes and shells print it.
const NOT_A_PROGRAM: &str = "exec format error";

pub(super) fn find(scene: &Scene, now: Timestamp) -> Vec<Finding> {
    let found = view::failing(scene).find_map(|(pod, container)| {
        let failed =
            view::last_end(container).is_some_and(|end| end.exit_code != 0 && view::ended_by_itself(container));
        let logs = view::logs(scene, pod, &container.name).into_iter();
        let mut lines = logs.flat_map(|log| log.lines.iter().rev().map(move |line| (log, line)));
        let said = lines.find(|(_, line)| line.text.as_str().to_ascii_lowercase().contains(NOT_A_PROGRAM));
        Some(cause(scene, now, pod, container, said.filter(|_| failed)?))
    });
    let found =
        found.or_else(|| view::failing(scene).find_map(|(pod, container)| not_found(scene, now, pod, container)));
    found.into_iter().collect()
}

/// A shell's words for a program that is not in the image: `sh: 1: migrate: not found`.
static NOT_FOUND: LazyLock<Regex> = LazyLock::new(|| {
    view::pattern(r"(?:^|[ /])(?:ba|da|a)?sh: (?:line )?(?:\d+: )?(?P<program>[\w./-]+): (?:command )?not found$")
});

/// A command that a shell did not find (exit code 127 by convention).
fn not_found(scene: &Scene, now: Timestamp, pod: &Pod, container: &ContainerState) -> Option<Finding> {
    let end = view::last_end(container).filter(|end| end.exit_code == 127)?;
    let logs = view::logs(scene, pod, &container.name).into_iter();
    let mut lines = logs.flat_map(|log| log.lines.iter().rev().map(move |line| (log, line)));
    let (log, line) = lines.find(|(_, line)| NOT_FOUND.is_match(line.text.as_str()))?;
    let program = line.text.part(&NOT_FOUND.captures(line.text.as_str())?["program"])?;
    let blame = rollout::blame(scene);
    let brought = |line: &DiffLine| rollout::is_field(line, &["command", "args", "image"]);
    let lines = blame.as_ref().map_or_else(Vec::new, |blame| blame.lines_of(&container.name, brought));
    let came = match (&blame, lines.first()) {
        (Some(blame), Some(_)) => text!(" {}.", blame.came(&lines, now)),
        _ => Redacted::default(),
    };
    let says =
        text!("Container {} exits 127: its shell does not find {} in the image.{}", container.name, program, came);
    let mut citations: Vec<_> = proof::line(scene, log, line).into_iter().collect();
    citations.extend(blame.as_ref().and_then(|blame| blame.citation(scene, lines.first().copied())));
    citations.extend(proof::exit_code(scene, pod, end.exit_code));
    Some(Finding {
        citations,
        ending: true,
        revision: blame.as_ref().filter(|_| !lines.is_empty()).map(|blame| blame.newest.number),
        proposal: blame.as_ref().filter(|_| !lines.is_empty()).and_then(|blame| blame.undo(scene)),
        advice: Some(text!("Correct the command of container {}, or put {} into the image.", container.name, program)),
        ..Finding::new(
            "command-not-found",
            Role::Cause,
            Certainty::Likely,
            &scene.subject,
            says,
            text!("container {} runs {}: not found", container.name, program).cut(90),
        )
    })
}

/// `amd64`, of the node that the pod runs on.
fn architecture(scene: &Scene, pod: &Pod) -> Option<Redacted> {
    let node = pod.node.as_ref()?;
    let node = scene.nodes.items().iter().find(|known| known.object.name() == node.as_str())?;
    node.labels.get("kubernetes.io/arch").cloned()
}

fn cause(
    scene: &Scene,
    now: Timestamp,
    pod: &Pod,
    container: &ContainerState,
    (log, line): (&LogTail, &LogLine),
) -> Finding {
    let blame = rollout::blame(scene);
    let brought = |line: &DiffLine| rollout::is_field(line, &["image", "command"]);
    let lines = blame.as_ref().map_or_else(Vec::new, |blame| blame.lines_of(&container.name, brought));
    let node = architecture(scene, pod).map_or_else(Redacted::default, |is| text!(" ({})", is));
    let came = match (&blame, lines.first()) {
        (Some(blame), Some(_)) => text!("{}. ", blame.came(&lines, now)),
        _ => Redacted::default(),
    };
    let code = view::last_end(container).map_or(0, |end| end.exit_code);
    let says = text!(
        "{}The program in {} is built for another processor architecture than its node's{}, or is no program at all: \"{}\", exit code {}.",
        came,
        container.image,
        node,
        say::line(&line.text),
        code,
    );
    let mut citations: Vec<_> = proof::line(scene, log, line).into_iter().collect();
    citations.extend(blame.as_ref().and_then(|blame| blame.citation(scene, lines.first().copied())));
    citations.extend(proof::exit_code(scene, pod, code));
    let (_, _, tag) = view::image_parts(container.image.as_str());
    let tag = container.image.part(tag).filter(|tag| !tag.is_empty()).unwrap_or_else(|| container.image.clone());
    Finding {
        citations,
        ending: true,
        revision: blame.as_ref().filter(|_| !lines.is_empty()).map(|blame| blame.newest.number),
        proposal: blame.as_ref().filter(|_| !lines.is_empty()).and_then(|blame| blame.undo(scene)),
        advice: Some(text!("Build {} for the nodes' architecture{}, or for several.", container.image, node)),
        ..Finding::new(
            "wrong-architecture",
            Role::Cause,
            Certainty::Likely,
            &scene.subject,
            says,
            text!("image {} is built for another architecture than the node's", tag).cut(90),
        )
    }
}
