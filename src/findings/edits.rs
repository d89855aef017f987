//! Edits of what stands around the subject, ConfigMaps above all: they break pods without any rollout, and a rollback does
//! not help.

use jiff::Timestamp;

use super::proof;
use super::rollout;
use super::say;
use super::scaling;
use super::view;
use crate::model::evidence::Citation;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::object::Kind;
use crate::model::scene::{Change, ConfigMap, DiffLine, LogLine, LogTail, Scene};
use crate::redact::Redacted;
use crate::text;

/// Trouble that begins within this after an edit may have begun with it: a mounted ConfigMap reaches the pods within
/// two minutes (the kubelet's sync period and its cache), and a few failures follow.
const WITH_THE_EDIT_SECONDS: i64 = 600;
/// Keys shorter than this occur by chance in any line.
const KEY_MIN_CHARS: usize = 4;
/// Differences that a sentence has room for.
const LINES_SHOWN: usize = 2;

pub(super) fn find(scene: &Scene, now: Timestamp) -> Vec<Finding> {
    let Some(began) = view::trouble_began(scene) else { return Vec::new() };
    let mut maps = scene.config_maps.items().iter().filter(|map| map.referenced);
    let found = maps.find_map(|map| {
        let edit = edit(scene, map).filter(|edit| edit.changed_at <= began)?;
        let complaint = complaint(scene, &telling(scene, map, edit));
        let close = say::seconds(edit.changed_at, began) <= WITH_THE_EDIT_SECONDS;
        (complaint.is_some() || close).then(|| cause(scene, now, began, map, edit, complaint))
    });
    found.into_iter().collect()
}

/// The edits that made what a rule found to be the cause what it is: of that very object, in a field that the rule is about.
pub(super) fn behind(scene: &Scene, found: &[Finding], now: Timestamp) -> Vec<Finding> {
    let warned = || scene.events.items().iter().filter(|event| event.warning).map(|event| event.first_at).min();
    let began = view::trouble_began(scene).or_else(warned);
    let causes = found.iter().filter(|finding| finding.role == Role::Cause);
    let told = causes.filter_map(|cause| {
        let edits = scene.changes.items().iter().filter(|change| change.to_revision.is_none());
        let mut edits = edits.filter(|change| began.is_none_or(|began| change.changed_at <= began));
        edits.find_map(|edit| behind_one(scene, cause, edit, now))
    });
    told.collect()
}

fn behind_one(scene: &Scene, cause: &Finding, edit: &Change, now: Timestamp) -> Option<Finding> {
    let object = &edit.object;
    let fields = match object.kind {
        Kind::ResourceQuota => "hard ",
        Kind::HorizontalPodAutoscaler if cause.rule == scaling::AT_MAXIMUM => "maxReplicas",
        Kind::HorizontalPodAutoscaler => "metrics",
        Kind::Service | Kind::Ingress | Kind::NetworkPolicy => "",
        _ => return None,
    };
    let same = cause.through.as_ref().unwrap_or(&cause.about) == object;
    let lines: Vec<_> = edit.lines.iter().filter(|line| line.field.as_str().starts_with(fields)).collect();
    let first = lines.first().filter(|_| same)?;
    let by = edit.by.as_ref().map_or_else(Redacted::default, |by| text!(" by {}", by));
    let differences: Vec<Redacted> = lines.iter().map(|line| say::diff(line, false)).collect();
    let when = say::at(edit.changed_at, now);
    let says = text!(
        "{} {} was changed at {}{}: {}.",
        object.kind,
        object.name,
        when,
        by,
        say::list(&differences, LINES_SHOWN)
    );
    let brief = text!("{} {} was changed at {}", object.kind, object.name, when);
    let finding = Finding::new("edit-behind", Role::Change, Certainty::Likely, object, says, brief.cut(90));
    Some(Finding { citations: quoted(scene, edit, first).into_iter().collect(), ..finding })
}

/// A line of an edit as it stands in the evidence.
fn quoted(scene: &Scene, edit: &Change, line: &DiffLine) -> Option<Citation> {
    let side = |sign, value: &Option<Redacted>| Some(text!("{} {}: {}", sign, line.field, value.as_ref()?));
    proof::quote(scene, edit.at, &side("+", &line.after).or_else(|| side("-", &line.before))?)
}

/// The newest write to a ConfigMap after it was made.
fn edit<'a>(scene: &'a Scene, map: &ConfigMap) -> Option<&'a Change> {
    let changes = scene.changes.items().iter().filter(|change| change.object.kind == Kind::ConfigMap);
    changes
        .filter(|change| change.object == map.object && change.changed_at > map.created_at)
        .max_by_key(|c| c.changed_at)
}

/// What a log that complains of the edit would name: the keys and settings that changed, and what they are now; any key
/// where it is not known which of them changed.
fn telling(scene: &Scene, map: &ConfigMap, edit: &Change) -> Vec<Redacted> {
    if edit.lines.is_empty() {
        let variables = map.keys.iter().flat_map(|key| variables(scene, map, key));
        return map.keys.iter().cloned().chain(variables).collect();
    }
    let mut words = Vec::new();
    for line in &edit.lines {
        let key = line.field.as_str().strip_prefix("key ").and_then(|key| line.field.part(key));
        words.extend(key.iter().flat_map(|key| variables(scene, map, key)));
        words.extend(key);
        for value in [&line.before, &line.after].into_iter().flatten() {
            let setting = value.as_str().split_once([':', '=']).and_then(|(name, _)| value.part(name.trim()));
            words.extend(setting.filter(|name| !name.as_str().contains(' ')));
        }
        // A value that is an ordinary word proves nothing by standing in a log.
        let own = |value: &&Redacted| value.as_str().contains(|c: char| c.is_ascii_digit() || "/:@".contains(c));
        words.extend(line.after.as_ref().filter(own).cloned());
    }
    words
}

/// What a key of a ConfigMap is called as a variable where the subject takes it by `envFrom` with a prefix.
fn variables(scene: &Scene, map: &ConfigMap, key: &Redacted) -> Vec<Redacted> {
    let containers = view::workload(scene).map_or(&[][..], |workload| &workload.template.containers);
    let sources = containers.iter().flat_map(|container| &container.env_from);
    let own = sources.filter(|source| source.kind.as_str() == "ConfigMap" && source.name.as_str() == map.object.name());
    own.filter(|source| !source.prefix.is_empty()).map(|source| text!("{}{}", source.prefix, key)).collect()
}

/// The last words of a failing container, if they name one of these.
fn complaint<'a>(scene: &'a Scene, words: &[Redacted]) -> Option<(&'a LogTail, &'a LogLine, Redacted)> {
    view::failing(scene).filter(|(_, container)| view::ended_by_itself(container)).find_map(|(pod, container)| {
        let logs = view::logs(scene, pod, &container.name).into_iter();
        let mut lines = logs.flat_map(|log| log.lines.iter().rev().map(move |line| (log, line)));
        lines.find_map(|(log, line)| {
            let named =
                |key: &&Redacted| key.as_str().len() >= KEY_MIN_CHARS && has_word(line.text.as_str(), key.as_str());
            let key = words.iter().find(named)?.clone();
            (view::is_telling(&line.text) && view::is_last_word(scene, pod, container, line)).then_some(())?;
            Some((log, line, key))
        })
    })
}

/// Whether a text holds a word that nothing of its kind continues.
fn has_word(text: &str, word: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
    text.match_indices(word)
        .any(|(at, found)| edge(text[..at].chars().next_back()) && edge(text[at + found.len()..].chars().next()))
}

fn cause(
    scene: &Scene,
    now: Timestamp,
    began: Timestamp,
    map: &ConfigMap,
    edit: &Change,
    complaint: Option<(&LogTail, &LogLine, Redacted)>,
) -> Finding {
    let by = edit.by.as_ref().map_or_else(Redacted::default, |by| text!(" by {}", by));
    let when = text!("{}{}", say::at(edit.changed_at, now), by);
    let after = say::span(say::seconds(edit.changed_at, began));
    let said = match &complaint {
        Some((_, line, key)) if edit.lines.is_empty() && map.keys.contains(key) => {
            text!(": its pods exit, and the log names its key {}: \"{}\"", key, say::line(&line.text))
        }
        Some((_, line, key)) => {
            text!(": its pods exit, and the log names {}: \"{}\"", key, say::line(&line.text))
        }
        None => Redacted::default(),
    };
    let differences: Vec<Redacted> = edit.lines.iter().map(|line| say::diff(line, false)).collect();
    let what = match differences.is_empty() {
        true => Redacted::default(),
        false => text!(" ({})", say::list(&differences, LINES_SHOWN)),
    };
    let says = text!(
        "ConfigMap {}, which {} reads, was changed at {}{}; the trouble began {} later{}.",
        map.object.name,
        scene.subject.name,
        when,
        what,
        after,
        said,
    );
    let blamed = rollout::blame(scene).is_some();
    let mut citations: Vec<_> =
        complaint.as_ref().and_then(|(log, line, _)| proof::line(scene, log, line)).into_iter().collect();
    let changed = edit.lines.first().and_then(|line| quoted(scene, edit, line));
    citations.extend(changed.or_else(|| proof::field(scene, map.at, "name", &text!("{}", map.object.name))));
    let brief = match &complaint {
        Some((_, _, key)) => text!("ConfigMap {} ({}) was changed at {}", map.object.name, key, when),
        None => text!("ConfigMap {} was changed {} before", map.object.name, after),
    };
    Finding {
        citations,
        ending: complaint.is_some(),
        shared: Some(text!("{}", map.object)),
        advice: Some(advice(scene, map, edit, &by)),
        ..Finding::new(
            "config-edited",
            Role::Cause,
            // Two changes at once: either may be it.
            if complaint.is_some() && !blamed { Certainty::Likely } else { Certainty::Possible },
            &map.object,
            says,
            brief.cut(90),
        )
    }
}

fn advice(scene: &Scene, map: &ConfigMap, edit: &Change, by: &Redacted) -> Redacted {
    let (name, subject) = (&map.object.name, &scene.subject.name);
    if edit.lines.is_empty() {
        return text!(
            "Look at the last edit of ConfigMap {}{} and set the value right with its owner: the cluster keeps no earlier one, and a rollback of {} does not touch it.",
            name,
            by,
            subject,
        );
    }
    text!(
        "Set ConfigMap {} back with the owner of that edit{}, or correct it: a rollback of {} does not touch it.",
        name,
        by,
        subject
    )
}
