//! Configuration that is not there: ConfigMaps, Secrets, keys, ServiceAccounts, environment variables.

use std::sync::LazyLock;

use jiff::Timestamp;
use regex::Regex;

use super::near;
use super::proof;
use super::refusals;
use super::rollout;
use super::say;
use super::view;
use crate::model::evidence::Citation;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::scene::{At, ConfigMap, DiffLine, Reference, Scene, Template};
use crate::redact::Redacted;
use crate::text;

pub(super) fn find(scene: &Scene, now: Timestamp) -> Vec<Finding> {
    missing(scene).into_iter().map(|missing| object(scene, now, &missing)).collect()
}

/// Something that the kubelet or a controller looked for in vain.
struct Missing {
    kind: &'static str,
    name: Redacted,
    /// The key in it, where the object itself exists.
    key: Option<Redacted>,
    since: Option<Timestamp>,
    proof: Option<Citation>,
}

/// The wordings of kubelet (`pkg/volume`, `pkg/kubelet/kuberuntime`) and of the admission of pods.
static NOT_FOUND: LazyLock<Regex> = LazyLock::new(|| {
    view::pattern(
        r#"(?i)\b(?P<kind>configmap|secret|serviceaccount) "(?P<name>[^"]+)" not found|couldn't find key (?P<key>\S+) in (?P<key_kind>ConfigMap|Secret) (?P<of>\S+)|references non-existent (?:config|secret) key: (?P<lost>[^\s"]+)"#,
    )
});

/// What is looked for in vain now: by waiting containers, by mounts of pods that never started, by refused pods.
fn missing(scene: &Scene) -> Vec<Missing> {
    let mut found: Vec<Missing> = Vec::new();
    let mut add = |text: &Redacted, since: Option<Timestamp>, at: At| {
        let Some(captures) = NOT_FOUND.captures(text.as_str()) else { return };
        let part = |name: &str| captures.name(name).and_then(|found| text.part(found.as_str()));
        let kind = match part("kind").or_else(|| part("key_kind")) {
            Some(kind) if kind.as_str().eq_ignore_ascii_case("secret") => "Secret",
            Some(kind) if kind.as_str().eq_ignore_ascii_case("serviceaccount") => "ServiceAccount",
            Some(_) => "ConfigMap",
            None if text.as_str().contains("secret key") => "Secret",
            None => "ConfigMap",
        };
        let of =
            part("of").map(|of| of.as_str().rsplit('/').next().and_then(|name| of.part(name)).unwrap_or(of.clone()));
        let key = part("key").or_else(|| part("lost"));
        let Some(name) = part("name").or(of).or_else(|| key.as_ref().map(|_| "mounted by it".into())) else { return };
        if found.iter().any(|known| known.kind == kind && known.name == name && known.key == key) {
            return;
        }
        // It was said before somebody made it.
        if kind == "ConfigMap" && is_there(scene, &name, key.as_ref()) {
            return;
        }
        let whole = captures.get(0).and_then(|whole| text.part(whole.as_str()));
        let proof = proof::quote(scene, at, text).or_else(|| whole.and_then(|whole| proof::quote(scene, at, &whole)));
        found.push(Missing { kind, name, key, since, proof });
    };
    for pod in view::troubled(scene).filter(|pod| pod.phase.as_str() == "Pending" || pod.phase.as_str() == "Running") {
        for event in view::waits_for(scene, pod).filter(|event| event.reason.as_str() != "BackOff") {
            add(&event.message, Some(event.first_at), event.at);
        }
        for container in &pod.containers {
            if let ("CreateContainerConfigError" | "ContainerCreating", Some(message)) = view::waiting(container) {
                add(message, None, pod.at);
            }
        }
    }
    for event in refusals::refused(scene) {
        add(&event.message, Some(event.first_at), event.at);
    }
    found
}

/// Whether the ConfigMap, and the key in it, is there as the scene was read.
fn is_there(scene: &Scene, name: &Redacted, key: Option<&Redacted>) -> bool {
    let mut maps = scene.config_maps.items().iter();
    let own = |map: &&ConfigMap| map.object.name() == name.as_str() && map.object.namespace == scene.subject.namespace;
    maps.find(own).is_some_and(|map| key.is_none_or(|key| map.keys.contains(key)))
}

/// Where a template refers to an object: `mounts` it as a volume, or `takes its environment from` it.
fn reference(template: &Template, kind: &str, name: &Redacted) -> Redacted {
    let is_it = |reference: &Reference| reference.kind.as_str() == kind && reference.name == *name;
    if let Some(volume) = template.volumes.iter().find(|volume| volume.source.as_ref().is_some_and(is_it)) {
        return text!("mounts it as volume {}", volume.name);
    }
    if let Some(container) = template.containers.iter().find(|container| container.env_from.iter().any(is_it)) {
        return text!("takes the environment of container {} from it", container.name);
    }
    "refers to it".into()
}

fn object(scene: &Scene, now: Timestamp, missing: &Missing) -> Finding {
    let subject = &scene.subject;
    let since = missing.since.map_or_else(Redacted::default, |at| text!("; it has waited since {}", say::at(at, now)));
    let blame = rollout::blame(scene).or_else(|| rollout::unborn(scene));
    let lines = blame.as_ref().map_or_else(Vec::new, |blame| blame.lines(|line| touches(line, &missing.name)));
    let by = match (&blame, lines.first()) {
        (Some(blame), Some(line)) => text!(" {} brought it: {}.", blame.name(), blame.say(&[*line])),
        _ => Redacted::default(),
    };
    let what = text!("{} {}", missing.kind, missing.name);
    let (says, brief) = match &missing.key {
        Some(key) => (
            text!("{}{} has no key {}, which {} needs{}.", what, say::within(subject), key, subject, since),
            text!("{} has no key {}", what, key),
        ),
        None => {
            let how = view::workload(scene).map(|workload| reference(&workload.template, missing.kind, &missing.name));
            let how = how.unwrap_or_else(|| "refers to it".into());
            let says = text!("{} does not exist{}, but {} {}{}.", what, say::within(subject), subject, how, since);
            (says, text!("{} does not exist", what))
        }
    };
    let near = meant(scene, missing);
    let (also, brief) = match &near {
        Some((map, why)) => (
            text!(" ConfigMap {} does exist there{}, so one of the two names is wrong.", map.object.name, why),
            text!("{} ({} does)", brief, map.object.name),
        ),
        None => (Redacted::default(), brief),
    };
    let near = near.map(|(map, _)| map);
    let mut citations: Vec<Citation> = missing.proof.iter().cloned().collect();
    citations
        .extend(view::workload(scene).and_then(|workload| proof::field(scene, workload.at, "name", &missing.name)));
    citations.extend(near.and_then(|map| proof::field(scene, map.at, "name", &text!("{}", map.object.name))));
    Finding {
        citations,
        advice: Some(advice(&what, near)),
        revision: blame.as_ref().filter(|_| !lines.is_empty()).map(|blame| blame.newest.number),
        proposal: blame.as_ref().filter(|_| !lines.is_empty()).and_then(|blame| blame.undo(scene)),
        shared: subject.namespace.as_ref().map(|namespace| text!("{} {}/{}", missing.kind, namespace, missing.name)),
        ..Finding::new(
            "config-missing",
            Role::Cause,
            Certainty::Proved,
            subject,
            text!("{}{}{}", says, also, by),
            brief,
        )
    }
}

/// Whether a difference names this object.
fn touches(line: &DiffLine, name: &Redacted) -> bool {
    let texts = [&line.before, &line.after].into_iter().flatten().chain([&line.field]);
    !name.is_empty() && texts.into_iter().any(|text| text.as_str().contains(name.as_str()))
}

/// The ConfigMap of the namespace that may be meant, and what speaks for it: its name is near the missing one, or the
/// workload nowhere refers to it and yet names a key that it holds.
fn meant<'a>(scene: &'a Scene, missing: &Missing) -> Option<(&'a ConfigMap, Redacted)> {
    let maps = scene.config_maps.items().iter().filter(|map| map.object.namespace == scene.subject.namespace);
    let maps: Vec<&ConfigMap> = maps.filter(|_| missing.kind == "ConfigMap" && missing.key.is_none()).collect();
    let mut near: Vec<(near::Near, &ConfigMap)> =
        maps.iter().filter_map(|map| Some((near::near(missing.name.as_str(), map.object.name())?, *map))).collect();
    near.sort_by_key(|(near, _)| *near == near::Near::Cut);
    if let Some((_, map)) = near.first() {
        return Some((map, keys(map)));
    }
    let mut others = maps.into_iter().filter(|map| !map.referenced);
    others.find_map(|map| {
        let key = map.keys.iter().find(|key| names_file(scene, key))?;
        Some((map, text!(" and holds {}, which the container's arguments name", key)))
    })
}

fn keys(map: &ConfigMap) -> Redacted {
    match map.keys.as_slice() {
        [] => Redacted::default(),
        [key] => text!(" (key {})", key),
        keys => text!(" (keys {})", say::list(keys, 3)),
    }
}

/// Whether a command or an argument of the workload names a file of this name.
fn names_file(scene: &Scene, key: &Redacted) -> bool {
    let Some(workload) = view::workload(scene) else { return false };
    let mut containers = workload.template.containers.iter();
    containers.any(|container| {
        let mut words = container.command.iter().chain(&container.args);
        words.any(|word| word.as_str().split(['/', '=', ' ']).any(|part| part == key.as_str()))
    })
}

fn advice(what: &Redacted, near: Option<&ConfigMap>) -> Redacted {
    match near {
        Some(map) => text!(
            "Its owner decides which name is right: let the workload use {}, or create {} with the same keys. A copy from another namespace may hold that environment's addresses.",
            map.object.name,
            what,
        ),
        None => text!("Create {} with the values that its owner names, or correct the reference to it.", what),
    }
}
