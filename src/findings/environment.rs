//! Environment variables that a process asks for in its log and its template no longer gives.

use std::sync::LazyLock;

use jiff::Timestamp;
use regex::Regex;

use super::proof;
use super::rollout;
use super::rollout::Blame;
use super::say;
use super::view;
use crate::model::evidence::Citation;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::object::Kind;
use crate::model::scene::{Container, ContainerState, LogLine, LogTail, Pod, Reference, Scene};
use crate::redact::Redacted;
use crate::text;

/// A variable's name as programs print it: two words joined by `_`, or one after "environment variable".
static VARIABLE: LazyLock<Regex> = LazyLock::new(|| {
    let expression = r#"\b([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)\b|(?i:env(?:ironment)?[ _]var(?:iable)?)s?:? ['"`$]*([A-Z][A-Z0-9]{2,})\b"#;
    view::pattern(expression)
});

/// What a line says of a variable that is not there.
const ABSENT: [&str; 14] = [
    "undefined",
    "not defined",
    "not set",
    "unset",
    "is required",
    "required",
    "missing",
    "must be set",
    "must be provided",
    "not provided",
    "not found",
    "is empty",
    "keyerror",
    "no value",
];

pub(super) fn find(scene: &Scene, now: Timestamp) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for (pod, container) in view::failing(scene) {
        let Some((log, line, variable)) = asked_for(scene, pod, &container.name) else { continue };
        let Some(template) = view::template(scene, pod).and_then(|template| view::container(template, &container.name))
        else {
            continue;
        };
        if found.is_empty() && !gives(scene, template, &variable).unwrap_or(false) {
            found.push(cause(scene, now, container, template, &variable, (log, line)));
        }
    }
    found
}

/// The last line of a container's log that says that a variable is not there, and the variable.
fn asked_for<'a>(
    scene: &'a Scene,
    pod: &'a Pod,
    container: &'a Redacted,
) -> Option<(&'a LogTail, &'a LogLine, Redacted)> {
    for log in view::logs(scene, pod, container) {
        for line in log.lines.iter().rev() {
            let lower = line.text.as_str().to_ascii_lowercase();
            if !ABSENT.iter().any(|word| lower.contains(word)) {
                continue;
            }
            let name = VARIABLE.captures(line.text.as_str()).and_then(|found| found.get(1).or(found.get(2)));
            if let Some(variable) = name.and_then(|name| line.text.part(name.as_str())) {
                return Some((log, line, variable));
            }
        }
    }
    None
}

/// Whether a container of a template gives this variable; None when a source's keys are not known.
fn gives(scene: &Scene, container: &Container, variable: &Redacted) -> Option<bool> {
    if container.env.contains_key(variable.as_str()) {
        return Some(true);
    }
    let held: Vec<Option<bool>> = container.env_from.iter().map(|source| holds(scene, source, variable)).collect();
    if held.contains(&Some(true)) {
        return Some(true);
    }
    if held.contains(&None) { None } else { Some(false) }
}

/// Whether a source of environment gives this variable, under its prefix if it has one; None when its keys are not known
/// (Secrets never are).
fn holds(scene: &Scene, source: &Reference, variable: &Redacted) -> Option<bool> {
    let Some(key) = variable.as_str().strip_prefix(source.prefix.as_str()) else { return Some(false) };
    let maps = scene.config_maps.items().iter();
    let mut named = maps.filter(|map| map.object.kind == Kind::ConfigMap && map.object.name() == source.name.as_str());
    let map = named.next().filter(|_| source.kind.as_str() == "ConfigMap")?;
    Some(map.keys.iter().any(|known| known.as_str() == key))
}

/// A source that holds what is asked for, and gives it another name by its prefix: what it is called there.
fn misnamed(scene: &Scene, container: &Container, variable: &Redacted) -> Option<Redacted> {
    let bare = |source: &Reference| Reference { prefix: Redacted::default(), ..source.clone() };
    let mut prefixed = container.env_from.iter().filter(|source| !source.prefix.is_empty());
    let source = prefixed.find(|source| holds(scene, &bare(source), variable) == Some(true))?;
    Some(text!(
        " {} {} holds it, but envFrom gives it as {}{} (prefix {}).",
        source.kind,
        source.name,
        source.prefix,
        variable,
        source.prefix,
    ))
}

fn cause(
    scene: &Scene,
    now: Timestamp,
    container: &ContainerState,
    template: &Container,
    variable: &Redacted,
    (log, line): (&LogTail, &LogLine),
) -> Finding {
    let blame = rollout::blame(scene);
    let taken = blame.as_ref().and_then(|blame| taken(scene, blame, container, variable));
    let logs = text!("ontainer {} logs \"{}\"", container.name, say::line(&line.text));
    let ends = match view::last_end(container) {
        Some(end) => text!(" and exits with code {}", end.exit_code),
        None => Redacted::default(),
    };
    let mut citations: Vec<_> = proof::line(scene, log, line).into_iter().collect();
    let (says, brief, certainty) = match (&blame, &taken) {
        (Some(blame), Some(taken)) => {
            citations.extend(taken.citations(scene, blame));
            let since = say::at(blame.since(), now);
            (
                text!(
                    "{} ({}) removed {}; c{}{}, since {} is not set any more; {}.",
                    blame.name(),
                    since,
                    taken.what,
                    logs,
                    ends,
                    variable,
                    rollout::earlier(blame),
                ),
                text!("{} is not set since revision {} removed {}", variable, blame.newest.number, taken.short),
                taken.certainty,
            )
        }
        _ => {
            // A complaint that the process lived on after, or a source that nobody may read, proves less.
            let last = log.lines.last().is_some_and(|last| last.text == line.text);
            let sure = last && gives(scene, template, variable).is_some();
            let certainty = if sure { Certainty::Likely } else { Certainty::Possible };
            let misnamed = misnamed(scene, template, variable).unwrap_or_default();
            (
                text!("C{}{}: its template does not set {}.{}", logs, ends, variable, misnamed),
                text!("environment variable {} is not set", variable),
                certainty,
            )
        }
    };
    let proposal = blame.as_ref().filter(|_| taken.is_some()).and_then(|blame| blame.undo(scene));
    let revision = blame.as_ref().filter(|_| taken.is_some()).map(|blame| blame.newest.number);
    let advice = text!("Set {} for container {} again.", variable, container.name);
    Finding {
        citations,
        revision,
        ending: view::last_end(container).is_some(),
        proposal,
        advice: Some(advice),
        ..Finding::new("env-missing", Role::Cause, certainty, &scene.subject, says, brief)
    }
}

/// What the newest revision took away that gave the variable.
struct Taken {
    what: Redacted,
    short: Redacted,
    /// The variable, or the source that held it.
    name: Redacted,
    certainty: Certainty,
}

impl Taken {
    /// The lines of the revision's difference by which it went.
    fn citations(&self, scene: &Scene, blame: &Blame<'_>) -> Vec<Citation> {
        let said = |text: &Redacted| text.as_str().contains(self.name.as_str());
        let changed = blame.lines(|line| {
            rollout::is_field(line, &["env", "envfrom"])
                && (said(&line.field) || line.before.as_ref().is_some_and(said))
        });
        changed.iter().filter_map(|line| blame.citation(scene, Some(line))).collect()
    }
}

fn taken(scene: &Scene, blame: &Blame<'_>, container: &ContainerState, variable: &Redacted) -> Option<Taken> {
    let before = view::container(&blame.previous.template, &container.name)?;
    let after = view::container(&blame.newest.template, &container.name)?;
    if before.env.contains_key(variable.as_str()) && !after.env.contains_key(variable.as_str()) {
        let what = text!("env {}", variable);
        return Some(Taken { short: "it".into(), what, name: variable.clone(), certainty: Certainty::Proved });
    }
    let gone = before.env_from.iter().filter(|source| !after.env_from.contains(source));
    let mut gone: Vec<(&Reference, Option<bool>)> =
        gone.map(|source| (source, holds(scene, source, variable))).collect();
    gone.retain(|(_, holds)| *holds != Some(false));
    gone.sort_by_key(|(_, holds)| holds.is_none());
    let (source, holds) = gone.first()?;
    // What the container still reads under another prefix is not gone itself.
    let same = |other: &Reference| (&other.kind, &other.name) == (&source.kind, &source.name);
    let prefix = match (source.prefix.is_empty(), after.env_from.iter().any(same)) {
        (false, _) => text!(" (prefix {})", source.prefix),
        (true, true) => " (without a prefix)".into(),
        (true, false) => Redacted::default(),
    };
    let short = text!("envFrom {} {}{}", source.kind, source.name, prefix);
    let (what, certainty) = match holds {
        Some(_) if source.prefix.is_empty() => (text!("{}, which holds {}", short, variable), Certainty::Proved),
        Some(_) => (text!("{}, which gives {}", short, variable), Certainty::Proved),
        None => (short.clone(), Certainty::Likely),
    };
    Some(Taken { what, short, name: source.name.clone(), certainty })
}
