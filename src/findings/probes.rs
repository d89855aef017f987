//! Probes: containers that do not answer them, and containers that the kubelet kills because of that.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::Timestamp;
use regex::Regex;
use serde_json::Value;

use super::proof;
use super::rollout;
use super::say;
use super::view;
use crate::model::evidence::Citation;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::scene::{ContainerState, DiffLine, Event, Pod, Scene};
use crate::redact::Redacted;
use crate::text;

/// `Container api failed liveness probe, will be restarted` (pkg/kubelet/kuberuntime).
static KILLED: LazyLock<Regex> =
    LazyLock::new(|| view::pattern(r"Container (?P<container>\S+) failed (?P<kind>liveness|startup) probe"));
/// Where a program says that it listens: `listening on :8080`, `server started on port 8080`.
static LISTENS: LazyLock<Regex> = LazyLock::new(|| {
    view::pattern(
        r"(?i)(?:\b(?:listening|listens|serving)\b|\bserver (?:is )?(?:started|running)\b).{0,40}?(?::|port[ =:]+)(?P<port>\d{2,5})\b",
    )
});
/// The port that a probe was refused at.
static REFUSED: LazyLock<Regex> =
    LazyLock::new(|| view::pattern(r"dial tcp [^ ]*:(?P<port>\d{2,5}): connect: connection refused"));

pub(super) fn find(scene: &Scene, now: Timestamp) -> Vec<Finding> {
    let killed = view::troubled(scene).find_map(|pod| {
        let mut events = scene.events.items().iter().filter(|event| event.object == pod.object);
        events.find_map(|event| killed(pod, event))
    });
    let failing = killed.as_ref().map_or_else(|| unhealthy(scene, None), |killed| unhealthy(scene, Some(killed)));
    let Some((event, kind)) = failing else { return Vec::new() };
    match (changed(scene, now, event, kind), killed) {
        (Some(finding), _) => vec![finding],
        (None, Some(killed)) => vec![kills(scene, now, &killed, event)],
        (None, None) => vec![fails(scene, now, event, kind)],
    }
}

/// From the decision to kill to the end: the grace period, 30 s unless a template says more, and some to spare.
const GRACE_SECONDS: i64 = 180;

/// A container that the kubelet kills for a probe.
struct Killed<'a> {
    pod: &'a Pod,
    container: &'a ContainerState,
    event: &'a Event,
    kind: &'static str,
}

fn killed<'a>(pod: &'a Pod, event: &'a Event) -> Option<Killed<'a>> {
    let captures = KILLED.captures(event.message.as_str()).filter(|_| event.reason.as_str() == "Killing")?;
    let container = pod.containers.iter().find(|container| container.name.as_str() == &captures["container"])?;
    // The last end must be this kill's: one of before says nothing about it.
    if let Some(end) = view::last_end(container) {
        let followed =
            end.finished_at.is_none_or(|at| say::seconds(event.last_at, at) <= GRACE_SECONDS && at >= event.last_at);
        (followed && view::ended_by_itself(container)).then_some(())?;
    }
    Some(Killed { pod, container, event, kind: if &captures["kind"] == "startup" { "Startup" } else { "Liveness" } })
}

/// The probe failure that matters, and its kind: the one that kills, else the newest.
fn unhealthy<'a>(scene: &'a Scene, killed: Option<&Killed<'_>>) -> Option<(&'a Event, &'static str)> {
    let mut found = view::troubled(scene).flat_map(|pod| view::warnings(scene, &pod.object)).filter_map(|event| {
        let kinds = ["Liveness", "Readiness", "Startup"].into_iter();
        let kind = kinds.into_iter().find(|kind| event.message.as_str().contains(kind));
        kind.filter(|_| event.reason.as_str() == "Unhealthy").map(|kind| (event, kind))
    });
    match killed {
        Some(killed) => found.find(|(event, kind)| *kind == killed.kind && event.object == killed.pod.object),
        None => found.next(),
    }
}

/// The containers whose probe it may be that an event speaks of: those of its pod that are not ready, or were killed.
fn failing<'a>(scene: &'a Scene, event: &Event) -> Vec<&'a Redacted> {
    let pod = scene.pods.items().iter().find(|pod| pod.object == event.object);
    let containers = pod.map_or(&[][..], |pod| &pod.containers).iter();
    containers.filter(|container| !container.ready || container.restarts > 0).map(|container| &container.name).collect()
}

/// The revision changed the probe or the port: that is the cause.
fn changed(scene: &Scene, now: Timestamp, event: &Event, kind: &'static str) -> Option<Finding> {
    let blame = rollout::blame(scene)?;
    let own = |line: &DiffLine| line.field.as_str().eq_ignore_ascii_case(&format!("probe {kind}"));
    let lines = blame.lines(|line| own(line) || rollout::is_field(line, &["port"]));
    let failing = failing(scene, event);
    let of_failing = |line: &&&DiffLine| line.container.as_ref().is_none_or(|name| failing.contains(&name));
    let line = lines.iter().find(of_failing).copied()?;
    let parts = differences(line);
    let what = if parts.is_empty() { blame.say(&[line]) } else { text!("its {}", say::list(&parts, 3)) };
    let says = text!("{} {} changed {}.", said(event, kind, now), blame.name(), what);
    let brief = match parts.first() {
        Some(part) => text!("{} probe fails since revision {} changed {}", kind, blame.newest.number, part).cut(90),
        None => text!("{} probes fail", kind),
    };
    let mut citations: Vec<Citation> = proof::event(scene, event).into_iter().collect();
    citations.extend(blame.citation(scene, Some(line)));
    Some(Finding {
        citations,
        revision: Some(blame.newest.number),
        proposal: blame.undo(scene),
        ..Finding::new("probe-fails", Role::Cause, Certainty::Likely, &scene.subject, says, brief)
    })
}

/// The fields in which two probes differ: `httpGet.port 8080 → 9090`.
fn differences(line: &DiffLine) -> Vec<Redacted> {
    let (Some(before), Some(after)) = (&line.before, &line.after) else { return Vec::new() };
    let leaves = |text: &Redacted| {
        let mut found = BTreeMap::new();
        leaves(&serde_json::from_str(text.as_str()).unwrap_or_default(), "", &mut found);
        found
    };
    let (old, new) = (leaves(before), leaves(after));
    let changed = new.iter().filter_map(|(path, value)| {
        let was = old.get(path).filter(|was| *was != value)?;
        Some(text!("{} {} → {}", say::key(path), before.part(was)?, after.part(value)?))
    });
    changed.collect()
}

/// Every value of a JSON document under its path.
fn leaves(value: &Value, path: &str, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves(value, &path, found);
            }
        }
        Value::String(text) => {
            found.insert(path.to_owned(), text.clone());
        }
        Value::Null | Value::Array(_) => {}
        other => {
            found.insert(path.to_owned(), other.to_string());
        }
    }
}

fn said(event: &Event, kind: &'static str, now: Timestamp) -> Redacted {
    let since = say::at(event.first_at, now);
    text!("{} probes fail since {} ({} times): {}.", kind, since, event.count, say::line(&event.message))
}

/// Probes that fail for a reason that is not known.
fn fails(scene: &Scene, now: Timestamp, event: &Event, kind: &'static str) -> Finding {
    let (says, brief) = (said(event, kind, now), text!("{} probes fail", kind));
    Finding {
        citations: proof::event(scene, event).into_iter().collect(),
        ..Finding::new("probe-fails", Role::Mechanism, Certainty::Proved, &scene.subject, says, brief)
    }
}

/// The kubelet kills the container: why it does not answer decides what is to be done.
fn kills(scene: &Scene, now: Timestamp, killed: &Killed<'_>, event: &Event) -> Finding {
    let Killed { pod, container, kind, .. } = killed;
    let words = view::last_words(scene, pod, &container.name);
    let Silence { why, brief, certainty, advice } = silence(scene, killed, event);
    let ends = view::last_end(container).map_or_else(Redacted::default, |end| match end.exit_code {
        137 => " (exit code 137 is the kubelet's SIGKILL)".into(),
        code => text!(" (exit code {})", code),
    });
    let says = text!(
        "The kubelet kills container {} for its {} probe since {}{}: {}.",
        container.name,
        if *kind == "Startup" { "startup" } else { "liveness" },
        say::at(killed.event.first_at, now),
        ends,
        why,
    );
    let mut citations: Vec<Citation> = proof::event(scene, killed.event).into_iter().collect();
    citations.extend(proof::event(scene, event));
    citations.extend(words.and_then(|(log, line)| proof::line(scene, log, line)));
    Finding {
        citations,
        ending: !ends.is_empty(),
        advice: Some(advice),
        ..Finding::new("probe-kills", Role::Cause, certainty, &scene.subject, says, brief)
    }
}

/// Why a container does not answer its probe.
struct Silence {
    why: Redacted,
    brief: Redacted,
    certainty: Certainty,
    advice: Redacted,
}

fn silence(scene: &Scene, killed: &Killed<'_>, event: &Event) -> Silence {
    let Killed { pod, container, kind, .. } = killed;
    let port = REFUSED.captures(event.message.as_str()).and_then(|found| event.message.part(&found["port"]));
    let listens = listens(scene, pod, container);
    match (&port, listens.as_slice()) {
        (Some(port), [own, ..]) if !listens.contains(port) => Silence {
            why: text!("the probe asks port {}, and its log says that it listens on {}", port, own),
            brief: text!("{} probe asks port {}, it listens on {}", kind, port, own),
            certainty: Certainty::Likely,
            advice: text!("Set the probe of container {} to the port that it listens on.", container.name),
        },
        (Some(port), []) => slowness(scene, killed, port).unwrap_or_else(|| unexplained(killed, event)),
        _ => unexplained(killed, event),
    }
}

fn unexplained(killed: &Killed<'_>, event: &Event) -> Silence {
    Silence {
        why: text!("it does not answer as the probe wants: {}", say::line(&event.message)),
        brief: text!("{} probe kills it again and again", killed.kind),
        certainty: Certainty::Possible,
        advice: text!(
            "Find out why container {} does not answer its probe: overload, a dependency, or a wrong path.",
            killed.container.name
        ),
    }
}

/// It has not started by the end of what the probe allows, and the port still refuses. None if it was up once.
fn slowness(scene: &Scene, killed: &Killed<'_>, port: &Redacted) -> Option<Silence> {
    let Killed { pod, container, kind, .. } = killed;
    let probe = view::template(scene, pod).and_then(|template| view::container(template, &container.name));
    let startup = probe.is_some_and(|container| container.probes.contains_key("startup"));
    let json = probe.and_then(|container| container.probes.get(&kind.to_ascii_lowercase()));
    let probe = json.and_then(|probe| serde_json::from_str::<Value>(probe.as_str()).ok()).unwrap_or_default();
    let allowed = allowed_seconds(&probe);
    let words = view::last_words(scene, pod, &container.name);
    let complains = words.is_some_and(|(_, line)| view::is_telling(&line.text));
    // A run that outlived what the probe allows at its start was up once.
    if view::ran_seconds(container).is_some_and(|ran| ran > allowed + GRACE_SECONDS) {
        return None;
    }
    // Of lines that differ only in numbers the first stands for all.
    let still = words.map_or_else(Redacted::default, |(_, line)| match line.count {
        0 | 1 => text!(" (its log is still at \"{}\")", say::line(&line.text)),
        n => text!(" (its log is still at lines like \"{}\", {} of them)", say::line(&line.text), n),
    });
    let guard = if startup { "" } else { " (there is no startup probe)" };
    Some(Silence {
        why: text!(
            "it is not up within the {} that the probe allows{}, port {} still refuses connections{}",
            say::span(allowed),
            guard,
            port,
            still,
        ),
        brief: text!("{} probe kills it before it has started", kind),
        // An error in its log speaks for another reason than slowness, and without a log the port may be wrong.
        certainty: if complains || words.is_none() { Certainty::Possible } else { Certainty::Likely },
        advice: text!(
            "Give container {} a startupProbe (or a longer initialDelaySeconds) that fits how long it takes to start; find out why it takes so long.",
            container.name,
        ),
    })
}

/// How long a probe lets a container be without an answer, in seconds; the API server's defaults where it is silent.
fn allowed_seconds(probe: &Value) -> i64 {
    let number = |name: &str, default: i64| probe.get(name).and_then(Value::as_i64).unwrap_or(default);
    number("initialDelaySeconds", 0) + number("periodSeconds", 10) * number("failureThreshold", 3)
}

/// The ports that a container says it listens on.
fn listens(scene: &Scene, pod: &Pod, container: &ContainerState) -> Vec<Redacted> {
    let logs = view::logs(scene, pod, &container.name).into_iter();
    let lines = logs.flat_map(|log| log.lines.iter());
    lines.filter_map(|line| line.text.part(&LISTENS.captures(line.text.as_str())?["port"])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_allows_its_delay_and_its_failures() {
        let probe = serde_json::json!({"initialDelaySeconds": 20, "periodSeconds": 10, "failureThreshold": 3});
        assert_eq!(allowed_seconds(&probe), 50);
        assert_eq!(allowed_seconds(&Value::Null), 30);
    }

    #[test]
    fn the_port_that_a_program_listens_on_is_read_from_its_log() {
        let port = |text: &str| LISTENS.captures(text).map(|found| found["port"].to_owned());
        assert_eq!(port("listening on :8080").as_deref(), Some("8080"));
        assert_eq!(port("Tomcat started on port(s): 8080 (http)"), None, "an unknown form is no port");
        assert_eq!(port("Server running at http://0.0.0.0:3000").as_deref(), Some("3000"));
        assert_eq!(port("loading segment 12 of 80"), None);
        assert_eq!(port("running migrations on db:5432"), None, "what it connects to is no port of its own");
    }
}
