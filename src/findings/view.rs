//! Questions about a scene that several rules ask.

use jiff::Timestamp;
use regex::Regex;

use crate::model::ObjectRef;
use crate::model::scene::{
    Condition, Container, ContainerState, Event, LogLine, LogTail, Pod, Scene, State, Template, Terminated, Workload,
};
use crate::redact::Redacted;

/// A pod that restarted this recently is in trouble even if it is ready at the moment (a crash loop's good minute).
const RECENT_SECONDS: i64 = 900;

/// The subject as a workload, if it was read and is one.
pub(super) fn workload(scene: &Scene) -> Option<&Workload> {
    scene.workload.known()?.as_ref()
}

/// The subject's pods that still count: not finished successfully, not replaced and not on their way out.
pub(super) fn pods(scene: &Scene) -> impl Iterator<Item = &Pod> {
    let counts = |pod: &&Pod| pod.phase.as_str() != "Succeeded" && !pod.is_left_over() && !pod.deleting;
    scene.pods.items().iter().filter(counts)
}

/// The pods in trouble: not ready, or restarted again and again just now.
pub(super) fn troubled(scene: &Scene) -> impl Iterator<Item = &Pod> {
    pods(scene).filter(|pod| is_troubled(pod, scene.read_at))
}

/// Whether a pod is in trouble.
pub(super) fn is_troubled(pod: &Pod, now: Timestamp) -> bool {
    let crashing = |container: &ContainerState| {
        let ended = container.last.as_ref().and_then(|last| last.finished_at);
        container.restarts >= 2 && ended.is_some_and(|ended| now.as_second() - ended.as_second() <= RECENT_SECONDS)
    };
    !pod.ready || pod.containers.iter().any(crashing)
}

/// The containers that do not do what they should, each with its pod; those of a pod that its node put out ended with it.
pub(super) fn failing(scene: &Scene) -> impl Iterator<Item = (&Pod, &ContainerState)> {
    let own = troubled(scene).filter(|pod| pod.put_out_at().is_none());
    own.flat_map(|pod| pod.containers.iter().map(move |container| (pod, container))).filter(|(_, container)| {
        match &container.state {
            State::Waiting { reason, .. } => !matches!(reason.as_str(), "PodInitializing" | "ContainerCreating"),
            State::Terminated(end) => !(container.init && end.exit_code == 0),
            State::Running { .. } => container.restarts > 0 || !container.ready,
            State::Unknown => true,
        }
    })
}

/// Why a container waits, with the message; both empty when it does not wait.
pub(super) fn waiting(container: &ContainerState) -> (&str, Option<&Redacted>) {
    match &container.state {
        State::Waiting { reason, message } => (reason.as_str(), Some(message)),
        _ => ("", None),
    }
}

/// How a container ended the last time.
pub(super) fn last_end(container: &ContainerState) -> Option<&Terminated> {
    match &container.state {
        State::Terminated(end) => Some(end),
        _ => container.last.as_ref(),
    }
}

/// A container that has run on for this long since it ended has another trouble now.
const RUNS_AGAIN_SECONDS: i64 = 3600;

/// How a container ended the last time, as far as that is its trouble now.
pub(super) fn present_end<'a>(scene: &Scene, container: &'a ContainerState) -> Option<&'a Terminated> {
    let runs = match &container.state {
        State::Running { since: Some(since) } => scene.read_at.as_second() - since.as_second(),
        _ => 0,
    };
    last_end(container).filter(|_| runs < RUNS_AGAIN_SECONDS)
}

/// Whether a container of the pod has run: then it has its mounts, its claims and its node, and what events said of them
/// before is over.
pub(super) fn has_started(pod: &Pod) -> bool {
    pod.containers.iter().any(|container| {
        let runs = matches!(container.state, State::Running { .. } | State::Terminated(_));
        runs || container.restarts > 0 || container.ready
    })
}

/// Kubelets try to mount again at least every 2 min, and their events of it come at least every 5 (client-go's
/// correlator): what was last said longer ago than this, in seconds, is over.
const MOUNT_OVER_SECONDS: i64 = 900;

/// What is said of a pod's mounts and claims while it waits for them, newest first.
pub(super) fn waits_for<'a>(scene: &'a Scene, pod: &'a Pod) -> impl Iterator<Item = &'a Event> {
    let over = |event: &Event| {
        // What keeps a volume from being attached (Multi-Attach) is said once.
        event.reason.as_str() == "FailedMount"
            && scene.read_at.as_second() - event.last_at.as_second() > MOUNT_OVER_SECONDS
    };
    let started = has_started(pod);
    warnings(scene, &pod.object).filter(move |event| !started && !over(event))
}

/// The template that a pod was made from: its revision's, else the workload's present one.
pub(super) fn template<'a>(scene: &'a Scene, pod: &Pod) -> Option<&'a Template> {
    let revisions = scene.revisions.items();
    let own = pod.template.as_ref().and_then(|hash| revisions.iter().find(|revision| revision.hash == *hash));
    own.map(|revision| &revision.template).or_else(|| workload(scene).map(|workload| &workload.template))
}

/// The container of this name in a template.
pub(super) fn container<'a>(template: &'a Template, name: &Redacted) -> Option<&'a Container> {
    template.containers.iter().find(|container| container.name == *name)
}

/// The condition of this kind.
pub(super) fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.kind.as_str() == kind)
}

/// The Warning events of an object, newest first.
pub(super) fn warnings<'a>(scene: &'a Scene, object: &'a ObjectRef) -> impl Iterator<Item = &'a Event> {
    scene.events.items().iter().filter(move |event| event.warning && event.object == *object)
}

/// The logs of a container that hold lines: the present one first, then that of its previous run.
pub(super) fn logs<'a>(scene: &'a Scene, pod: &'a Pod, container: &'a Redacted) -> Vec<&'a LogTail> {
    let of_it = |log: &&LogTail| log.pod == pod.object && log.container == *container && !log.lines.is_empty();
    let mut logs: Vec<&LogTail> = scene.logs.items().iter().filter(of_it).collect();
    logs.sort_by_key(|log| log.previous);
    logs
}

/// Words in a line that say that something went wrong.
const TELLING: [&str; 24] = [
    "error",
    "fatal",
    "panic",
    "exception",
    "fail",
    "cannot",
    "can't",
    "could not",
    "couldn't",
    "unable",
    "denied",
    "refused",
    "not found",
    "no such",
    "undefined",
    "missing",
    "required",
    "must be",
    "invalid",
    "expired",
    "timed out",
    "timeout",
    "not set",
    "unresolved",
];

/// Whether a line says that something went wrong.
pub(super) fn is_telling(text: &Redacted) -> bool {
    let text = text.as_str().to_ascii_lowercase();
    TELLING.iter().any(|word| text.contains(word))
}

/// The line that best says why a container ended: the last one that speaks of trouble, else the very last.
pub(super) fn last_words<'a>(
    scene: &'a Scene,
    pod: &'a Pod,
    container: &'a Redacted,
) -> Option<(&'a LogTail, &'a LogLine)> {
    let mut logs = logs(scene, pod, container);
    let state = pod.containers.iter().find(|state| state.name == *container);
    // What runs again has not ended yet: the words are those of the run before.
    if state.is_some_and(|state| matches!(state.state, State::Running { .. }) && state.last.is_some()) {
        logs.sort_by_key(|log| !log.previous);
    }
    let telling = |log: &&'a LogTail| {
        let line = log.lines.iter().rev().find(|line| is_telling(&line.text));
        line.map(|line| (*log, line))
    };
    let last = |log: &&'a LogTail| log.lines.last().map(|line| (*log, line));
    logs.iter().find_map(telling).or_else(|| logs.iter().find_map(last))
}

/// Whether this line is what a container ended with, as `last_words` has it.
pub(super) fn is_last_word(scene: &Scene, pod: &Pod, container: &ContainerState, line: &LogLine) -> bool {
    last_words(scene, pod, &container.name).is_some_and(|(_, last)| last.text == line.text)
}

/// Whether a container's end may be explained by what its log says: the kernel's kill for memory is not.
pub(super) fn ended_by_itself(container: &ContainerState) -> bool {
    last_end(container).is_none_or(|end| end.reason.as_str() != "OOMKilled")
}

/// How long the last run of a container took, in seconds, where that is known. Runtimes write 1970 for a container
/// that never started.
pub(super) fn ran_seconds(container: &ContainerState) -> Option<i64> {
    let end = last_end(container)?;
    let start = end.started_at.filter(|start| start.as_second() > 0)?;
    end.finished_at.map(|finish| finish.as_second() - start.as_second())
}

/// Every line of the logs of the scene that satisfies `wanted`, the last ones of each log first.
pub(super) fn lines<'a>(
    scene: &'a Scene,
    wanted: impl Fn(&LogLine) -> bool + Copy + 'a,
) -> impl Iterator<Item = (&'a LogTail, &'a LogLine)> {
    let logs = scene.logs.items().iter();
    logs.flat_map(move |log| log.lines.iter().rev().filter(move |line| wanted(line)).map(move |line| (log, line)))
}

/// When the trouble of the subject's pods began, as far as events, conditions and pods tell.
pub(super) fn trouble_began(scene: &Scene) -> Option<Timestamp> {
    let mut instants: Vec<Timestamp> = Vec::new();
    for pod in troubled(scene) {
        instants.extend(warnings(scene, &pod.object).map(|event| event.first_at));
        // A pod that never ran a container to readiness has been in trouble from its beginning.
        if pod.phase.as_str() == "Pending" {
            instants.push(pod.created_at);
        }
    }
    // The condition tells less: it may be false since long ago for want of one pod of many.
    instants.into_iter().min().or_else(|| {
        let available = condition(&workload(scene)?.conditions, "Available")?;
        available.changed_at.filter(|_| available.status.as_str() == "False")
    })
}

/// A constant pattern of a rule.
pub(super) fn pattern(expression: &'static str) -> Regex {
    #[expect(clippy::expect_used, reason = "constant patterns; a test compiles each")]
    Regex::new(expression).expect("a constant pattern compiles")
}

/// The registry host, the repository and the tag, the digest or both, of an image.
pub(super) fn image_parts(image: &str) -> (&str, &str, &str) {
    // A colon before the last slash belongs to the registry's port.
    let name = image.rfind('/').map_or(0, |slash| slash + 1);
    let (rest, tag) = match image[name..].find([':', '@']) {
        Some(end) => (&image[..name + end], &image[name + end + 1..]),
        None => (image, ""),
    };
    match rest.split_once('/') {
        Some((host, repository)) if host.contains(['.', ':']) || host == "localhost" => (host, repository, tag),
        _ => ("", rest, tag),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_come_apart_as_the_runtime_reads_them() {
        for (image, parts) in [
            ("nginx", ("", "nginx", "")),
            ("library/nginx:1.27", ("", "library/nginx", "1.27")),
            ("reg.example:5000/a/b", ("reg.example:5000", "a/b", "")),
            ("reg.example:5000/a/b:2", ("reg.example:5000", "a/b", "2")),
            ("reg.example/a@sha256:0f", ("reg.example", "a", "sha256:0f")),
            ("reg.example:5000/a/b:1.2@sha256:0f", ("reg.example:5000", "a/b", "1.2@sha256:0f")),
        ] {
            assert_eq!(image_parts(image), parts, "{image}");
        }
    }
}
