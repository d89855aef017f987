//! Storage: claims without a volume, claims that do not exist, volumes that cannot be attached or mounted, full disks.

use std::sync::LazyLock;

use jiff::Timestamp;
use regex::Regex;

use super::near;
use super::proof;
use super::say;
use super::view;
use super::volumes;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::object::Kind;
use crate::model::scene::{Claim, Event, LogLine, Scene};
use crate::redact::Redacted;
use crate::text;

/// The scheduler's and the kubelet's words for a claim that is not there.
static NOT_FOUND: LazyLock<Regex> = LazyLock::new(|| view::pattern(r#"(?i)persistentvolumeclaim "([^"]+)" not found"#));

/// Reasons of events by which a volume plugin says that attaching or mounting fails.
const ATTACH: [&str; 3] = ["FailedAttachVolume", "FailedMount", "VolumeFailedDelete"];

pub(super) fn find(scene: &Scene, now: Timestamp) -> Vec<Finding> {
    let mut found: Vec<Finding> = scene.claims.items().iter().filter_map(|claim| unbound(scene, now, claim)).collect();
    found.extend(absent(scene));
    found.extend(attach(scene, now));
    found.extend(mount(scene, now));
    found.extend(full(scene));
    found
}

/// A claim that has no volume, though somebody waits for it.
fn unbound(scene: &Scene, now: Timestamp, claim: &Claim) -> Option<Finding> {
    let is_lost = claim.phase.as_str() == "Lost";
    if claim.phase.as_str() != "Pending" && !is_lost {
        return None;
    }
    let events: Vec<&Event> = scene.events.items().iter().filter(|event| event.object == claim.object).collect();
    let trouble = events.iter().find(|event| event.warning);
    // A claim that waits for its first consumer is as it should be, until a pod waits for it in turn.
    let waits = events.iter().any(|event| event.reason.as_str() == "WaitForFirstConsumer") && trouble.is_none();
    if waits && view::troubled(scene).next().is_none() {
        return None;
    }
    let class =
        claim.storage_class.as_ref().map_or_else(Redacted::default, |class| text!(" (storage class {})", class));
    let why = trouble.map_or_else(Redacted::default, |event| {
        text!(": {} (since {})", say::line(&event.message), say::at(event.first_at, now))
    });
    let (classless, class_advice) = absent_class(claim);
    let state = if is_lost { "has lost its volume" } else { "has no volume" };
    let name = text!("{}", claim.object.name);
    let mut citations: Vec<_> = trouble.and_then(|event| proof::event(scene, event)).into_iter().collect();
    citations.extend(proof::field(scene, claim.at, "phase", &claim.phase));
    Some(Finding {
        citations,
        advice: Some(class_advice.unwrap_or_else(|| {
            text!("Check storage class and provisioner of claim {}. Deleting the claim would delete its data.", name)
        })),
        ..Finding::new(
            "claim-unbound",
            // Why it has none is the volume's to say.
            if volumes::kept_from(scene, claim).is_some() { Role::Mechanism } else { Role::Cause },
            if trouble.is_some() || is_lost { Certainty::Proved } else { Certainty::Likely },
            &claim.object,
            text!(
                "PersistentVolumeClaim {}{} {}{}{}.{}",
                name,
                say::within(&claim.object),
                state,
                class,
                why,
                classless
            ),
            text!("PersistentVolumeClaim {} {}", name, state),
        )
    })
}

/// What is said of a claim whose class does not exist, and what to do then.
fn absent_class(claim: &Claim) -> (Redacted, Option<Redacted>) {
    let (Some(class), Some(known)) = (&claim.storage_class, &claim.classes) else { return (Redacted::default(), None) };
    // The empty class asks for a volume that somebody made by hand.
    if class.is_empty() || known.contains(class) {
        return (Redacted::default(), None);
    }
    let others = match known.as_slice() {
        [] => "the cluster has none".into(),
        names => text!("the cluster has {}", say::list(names, 4)),
    };
    let says = text!(" StorageClass {} does not exist: {}.", class, others);
    let advice = text!(
        "Create StorageClass {}, or make claim {} again with one that exists: the class of a claim cannot be changed.",
        class,
        claim.object.name,
    );
    (says, Some(advice))
}

/// What is said now of the mounts and claims of pods in trouble that have not run yet.
fn waited_for(scene: &Scene) -> impl Iterator<Item = &Event> {
    view::troubled(scene).flat_map(|pod| view::waits_for(scene, pod))
}

/// A claim that a pod names and that does not exist.
fn absent(scene: &Scene) -> Option<Finding> {
    let claims = scene.claims.items();
    let (event, name) = waited_for(scene)
        .filter_map(|event| {
            let name = NOT_FOUND.captures(event.message.as_str())?.get(1)?;
            Some((event, event.message.part(name.as_str())?))
        })
        .find(|(_, name)| !claims.iter().any(|claim| claim.object.name() == name.as_str()))?;
    let near = claims.iter().find(|claim| near::near(name.as_str(), claim.object.name()).is_some());
    let also = near.map_or_else(Redacted::default, |claim| text!("; {} does exist there", claim.object.name));
    let says = text!(
        "PersistentVolumeClaim {} does not exist{}, but {} needs it{}.",
        name,
        say::within(&scene.subject),
        scene.subject,
        also
    );
    Some(Finding {
        citations: proof::event(scene, event).into_iter().collect(),
        advice: Some(text!("Create claim {}, or correct its name in the workload.", name)),
        ..Finding::new(
            "claim-missing",
            Role::Cause,
            Certainty::Proved,
            &scene.subject,
            says,
            text!("PersistentVolumeClaim {} does not exist", name),
        )
    })
}

/// What a mount or a volume plugin answers, and what it means.
const MOUNT: [(&str, &str); 9] = [
    ("fsck", "its file system is damaged (fsck found errors that it did not repair)"),
    ("access denied by server", "the file server denies this node"),
    ("Permission denied", "permission is denied"),
    ("permission denied", "permission is denied"),
    ("No such file or directory", "the path is not there"),
    ("wrong fs type", "its file system is another one than the volume says, or is damaged"),
    ("Connection timed out", "the storage does not answer"),
    ("DeadlineExceeded", "the storage driver does not answer"),
    ("driver name", "the storage driver is not registered on the node"),
];

/// A volume that is attached but cannot be mounted; what is missing (a ConfigMap, a Secret, a claim) others tell.
fn mount(scene: &Scene, now: Timestamp) -> Option<Finding> {
    let fails = |event: &&Event| {
        let text = event.message.as_str();
        let step = text.contains("MountVolume.SetUp failed") || text.contains("MountVolume.MountDevice failed");
        event.reason.as_str() == "FailedMount" && step && !is_missing_object(text)
    };
    let event = waited_for(scene).find(fails)?;
    let text = event.message.as_str();
    let known = MOUNT.iter().find(|(words, _)| text.contains(words));
    let why = known.map_or("mounting fails", |(_, why)| *why);
    let volume = text.split_once("for volume \"").and_then(|(_, rest)| rest.split_once('"'));
    let volume = volume.and_then(|(name, _)| event.message.part(name));
    let named = volume.as_ref().map_or_else(|| "a volume".into(), |name| text!("volume {}", name));
    let says = text!(
        "{} of {} cannot be mounted on its node since {}, {}: {}.",
        volume.as_ref().map_or_else(|| "A volume".into(), |name| text!("Volume {}", name)),
        scene.subject,
        say::at(event.first_at, now),
        why,
        say::line(&event.message),
    );
    Some(Finding {
        citations: proof::event(scene, event).into_iter().collect(),
        advice: Some(text!(
            "Look at {} and at what serves it, from the node. A restart mounts it no better, and deleting the claim would delete its data.",
            named,
        )),
        ..Finding::new(
            "volume-mount",
            Role::Cause,
            if known.is_some() { Certainty::Proved } else { Certainty::Likely },
            &scene.subject,
            says,
            text!("{} cannot be mounted: {}", named, why).cut(90),
        )
    })
}

fn is_missing_object(text: &str) -> bool {
    let missing = ["configmap \"", "secret \"", "references non-existent", "not registered", "failed to sync"];
    missing.iter().any(|words| text.contains(words)) && !text.contains("driver name")
}

/// A process that ends because its disk is full, as its log says.
fn full(scene: &Scene) -> Option<Finding> {
    const WORDS: [&str; 3] = ["no space left on device", "enospc", "disk quota exceeded"];
    // The kernel says the same where another table of its own is full: no disk is.
    const TABLES: [&str; 4] = ["watch", "inotify", "semaphore", "shared memory"];
    let said = |line: &LogLine| {
        let text = line.text.as_str().to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
        says(&WORDS) && !says(&TABLES)
    };
    let (pod, container, log, line) = view::failing(scene).find_map(|(pod, container)| {
        let logs = view::logs(scene, pod, &container.name);
        let (log, line) = logs.iter().find_map(|log| Some((*log, log.lines.iter().rev().find(|line| said(line))?)))?;
        Some((pod, container, log, line))
    })?;
    let last = view::is_last_word(scene, pod, container, line);
    let says = text!(
        "Container {} of {} finds no space left on its disk: \"{}\".",
        container.name,
        scene.subject,
        say::line(&line.text),
    );
    Some(Finding {
        citations: proof::line(scene, log, line).into_iter().collect(),
        advice: Some(
            "Find out which file system is full (a volume, or the node's own disk) and what fills it; a restart frees no volume.".into(),
        ),
        ..Finding::new(
            "disk-full",
            Role::Cause,
            if last { Certainty::Likely } else { Certainty::Possible },
            &scene.subject,
            says,
            "no space is left on its disk".into(),
        )
    })
}

/// A volume that cannot be attached: most often it is still attached to another node.
fn attach(scene: &Scene, now: Timestamp) -> Option<Finding> {
    let fails = |event: &&Event| {
        let text = event.message.as_str();
        ATTACH.contains(&event.reason.as_str()) && (text.contains("Multi-Attach") || text.contains("AttachVolume"))
    };
    let event = waited_for(scene).find(fails)?;
    let elsewhere = event.message.as_str().contains("Multi-Attach");
    let why = if elsewhere { "it is still attached to another node" } else { "attaching fails" };
    let says = text!(
        "A volume of {} cannot be attached since {}, {}: {}.",
        scene.subject,
        say::at(event.first_at, now),
        why,
        say::line(&event.message)
    );
    let about = event.object.kind;
    Some(Finding {
        citations: proof::event(scene, event).into_iter().collect(),
        advice: (about == Kind::Pod && elsewhere).then(|| {
            "Find the pod or node that still holds the volume; never force it off while a process may write to it."
                .into()
        }),
        ..Finding::new(
            "volume-attach",
            Role::Cause,
            Certainty::Likely,
            &scene.subject,
            says,
            text!("a volume cannot be attached: {}", why),
        )
    })
}
