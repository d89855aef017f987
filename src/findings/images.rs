//! Images that cannot be pulled: what the registry says, what the revision changed, and what still works.

use jiff::Timestamp;

use super::near;
use super::proof;
use super::rollout;
use super::rollout::Blame;
use super::say;
use super::view;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::scene::{ContainerState, DiffLine, Event, Pod, Scene};
use crate::redact::Redacted;
use crate::text;

/// The waiting reasons of a container whose image is not there (kubelet, pkg/kubelet/images/types.go).
const REASONS: [&str; 7] = [
    "ImagePullBackOff",
    "ErrImagePull",
    "InvalidImageName",
    "ErrImageNeverPull",
    "RegistryUnavailable",
    "ImageInspectError",
    "SignatureValidationFailed",
];

/// What runtimes and registries answer, most telling first, and what it means.
const ANSWERS: [(&str, Answer); 17] = [
    ("repository does not exist or may require authorization", Answer::Missing),
    ("repository does not exist", Answer::Missing),
    ("manifest unknown", Answer::Missing),
    ("name unknown", Answer::Missing),
    ("toomanyrequests", Answer::Limited),
    ("Too Many Requests", Answer::Limited),
    ("no such host", Answer::Unreachable),
    ("i/o timeout", Answer::Unreachable),
    ("connection refused", Answer::Unreachable),
    ("x509", Answer::Unreachable),
    ("401 Unauthorized", Answer::Denied),
    ("unauthorized", Answer::Denied),
    ("authorization failed", Answer::Denied),
    ("no basic auth credentials", Answer::Denied),
    ("403 Forbidden", Answer::Denied),
    ("not found", Answer::Missing),
    ("couldn't parse image", Answer::Missing),
];

#[derive(Clone, Copy, PartialEq)]
enum Answer {
    Missing,
    Denied,
    Unreachable,
    Limited,
    Unclear,
}

pub(super) fn find(scene: &Scene, now: Timestamp) -> Vec<Finding> {
    let waits = |pair: &(&Pod, &ContainerState)| REASONS.contains(&view::waiting(pair.1).0);
    let stuck: Vec<(&Pod, &ContainerState)> = view::failing(scene).filter(waits).collect();
    let Some((pod, container)) = stuck.first().copied() else { return Vec::new() };
    let (answer, words) = answer(scene, pod, container);
    let blame = rollout::blame(scene);
    let mut found: Vec<Finding> = no_secret(scene, now, pod, container, (answer, &words)).into_iter().collect();
    let secret = !found.is_empty();
    if secret {
        found.extend(image_runs(scene, container));
    } else {
        found.push(cause(scene, now, pod, container, &words, blame.as_ref(), stuck.len() as u32));
    }
    if matches!(answer, Answer::Missing | Answer::Denied) && !secret {
        found.extend(registry_works(scene, now, container, blame.as_ref()));
    }
    found
}

/// What the registry answered: its meaning, and its own words.
fn answer(scene: &Scene, pod: &Pod, container: &ContainerState) -> (Answer, Redacted) {
    let (reason, message) = view::waiting(container);
    let events = view::warnings(scene, &pod.object).map(|event| &event.message);
    let texts: Vec<&Redacted> = message.into_iter().chain(events).collect();
    for (words, answer) in ANSWERS {
        if let Some(words) = texts.iter().find_map(|text| text.part(words)) {
            return (answer, words);
        }
    }
    (Answer::Unclear, Redacted::join([message.and_then(|m| m.part(reason)).as_ref()].into_iter().flatten(), ""))
}

/// The registry refuses the login, and the kubelet says that a pull secret could not be had.
fn no_secret(
    scene: &Scene,
    now: Timestamp,
    pod: &Pod,
    container: &ContainerState,
    (answer, words): (Answer, &Redacted),
) -> Option<Finding> {
    let lost = |event: &&Event| event.reason.as_str() == "FailedToRetrieveImagePullSecret";
    let event = view::warnings(scene, &pod.object).find(lost).filter(|_| answer == Answer::Denied)?;
    let text = event.message.as_str();
    let names = text.split_once('(').and_then(|(_, rest)| rest.split_once(')'))?.0;
    let names = event.message.part(names)?;
    let blame = rollout::blame(scene);
    let brought = |line: &DiffLine| rollout::is_field(line, &["imagepullsecret"]);
    let lines = blame.as_ref().map_or_else(Vec::new, |blame| blame.lines(brought));
    let by = match (&blame, lines.first()) {
        (Some(blame), Some(_)) => text!(" {} {}.", blame.name(), blame.did(&lines)),
        _ => Redacted::default(),
    };
    let wanted = view::template(scene, pod).map_or(0, |template| template.image_pull_secrets.len());
    let others = wanted > names.as_str().split(", ").count();
    let says = text!(
        "Pull secret {} of pod {} cannot be retrieved since {} (it is missing{}, or may not be read), so the kubelet asks with{} and the registry refuses ({}).{}",
        names,
        pod.object.name,
        say::at(event.first_at, now),
        say::within(&pod.object),
        if others { " the others alone" } else { "out credentials" },
        words,
        by,
    );
    let mut citations: Vec<_> = proof::event(scene, event).into_iter().collect();
    let refusal = view::warnings(scene, &pod.object).find(|event| event.message.part(words.as_str()).is_some());
    citations.extend(refusal.and_then(|event| proof::quote(scene, event.at, &clause(&event.message, words))));
    Some(Finding {
        citations,
        proposal: blame.as_ref().filter(|_| !lines.is_empty()).and_then(|blame| blame.undo(scene)),
        advice: Some(text!(
            "Put Secret {} back{}. Do not restart the pods that run: a new one could not pull {}.",
            names,
            say::within(&pod.object),
            container.image,
        )),
        ..Finding::new(
            "pull-secret-missing",
            Role::Cause,
            if others { Certainty::Likely } else { Certainty::Proved },
            &scene.subject,
            says,
            text!("pull secret {} cannot be retrieved ({})", names, words).cut(90),
        )
    })
}

/// The image as ruled out: other pods run it.
fn image_runs(scene: &Scene, container: &ContainerState) -> Option<Finding> {
    let runs =
        |pod: &&Pod| pod.ready && pod.containers.iter().any(|other| other.image == container.image && other.ready);
    let pods = view::pods(scene).filter(runs).count() as u32;
    let brief = text!("the image ({} it)", if pods == 1 { "another pod runs" } else { "other pods run" });
    let says = text!(
        "Image {} exists: {} with it {} ready.",
        container.image,
        say::count(pods, "pod", "pods"),
        if pods == 1 { "is" } else { "are" }
    );
    (pods > 0).then(|| Finding::new("image-runs", Role::RuledOut, Certainty::Proved, &scene.subject, says, brief))
}

fn cause(
    scene: &Scene,
    now: Timestamp,
    pod: &Pod,
    container: &ContainerState,
    words: &Redacted,
    blame: Option<&Blame<'_>>,
    stuck: u32,
) -> Finding {
    let image = &container.image;
    let pull_says = if words.is_empty() { Redacted::default() } else { text!(" ({})", words) };
    let lines = blame.map_or_else(Vec::new, |blame| {
        blame.lines(|line| rollout::is_field(line, &["image"]) && line.after.as_ref() == Some(image))
    });
    let waiting = text!("{} of {}", say::all(stuck, "new pod", "new pods"), scene.subject.name);
    let (says, brief, proposal, change) = match (blame, lines.first()) {
        (Some(blame), Some(line)) => {
            let (what, short) = difference(image, line.before.as_ref());
            let says = text!(
                "{} ({}) {}, which cannot be pulled{}, so {} wait{} for it; {}.",
                blame.name(),
                say::at(blame.since(), now),
                what,
                pull_says,
                waiting,
                if stuck == 1 { "s" } else { "" },
                rollout::earlier(blame),
            );
            (says, short, blame.undo(scene), blame.citation(scene, Some(line)))
        }
        _ => {
            let says = text!("Image {} of container {} cannot be pulled{}.", image, container.name, pull_says);
            (says, text!("cannot pull image {}", image), None, None)
        }
    };
    let event = view::warnings(scene, &pod.object)
        .find(|event| words.is_empty() || event.message.part(words.as_str()).is_some());
    let said = event.and_then(|event| proof::quote(scene, event.at, &clause(&event.message, words)));
    let mut citations: Vec<_> = said.into_iter().collect();
    citations.extend(change);
    let (reason, _) = view::waiting(container);
    let state = view::waiting(container).1.and_then(|message| message.part(reason));
    citations.extend(state.and_then(|reason| proof::quote(scene, pod.at, &reason)));
    let advice = text!("Check that {} exists in its registry and that the pods may pull it.", image);
    Finding {
        citations,
        advice: proposal.is_none().then_some(advice),
        proposal,
        shared: Some(text!("image {}", image)),
        ..Finding::new("image-pull", Role::Cause, Certainty::Proved, &scene.subject, says, brief)
    }
}

/// What the revision changed about the image: in a sentence, and in a few words.
fn difference(image: &Redacted, before: Option<&Redacted>) -> (Redacted, Redacted) {
    let whole = text!("changed the image to {}", image);
    let Some(before) = before else { return (whole, text!("cannot pull image {}", image)) };
    let (old_host, old_repository, _) = view::image_parts(before.as_str());
    let (host, repository, tag) = view::image_parts(image.as_str());
    let (Some(old_path), Some(path)) = (before.part(old_repository), image.part(repository)) else {
        return (whole, text!("cannot pull image {}", image));
    };
    if old_repository != repository {
        let slip = slip(old_repository, repository).and_then(|was| before.part(was));
        let hint = if slip.is_some() { ", by the look of it a typo" } else { "" };
        let says = text!("changed the image repository from {} to {}{}", before, image, hint);
        let brief = match slip {
            Some(was) => text!("cannot pull image {} (\"{}\" misspelt?)", path, was),
            None => text!("cannot pull image {} (was {})", path, old_path),
        };
        return (says, brief);
    }
    if old_host != host {
        return (text!("changed the image's registry: {} → {}", before, image), text!("cannot pull image {}", image));
    }
    let tag = image.part(tag).unwrap_or_default();
    (text!("changed the image from {} to {}", before, image), text!("cannot pull image {}, no tag {}", path, tag))
}

/// The one segment in which two repositories differ, as it was before, if they differ there by a slip.
fn slip<'a>(before: &'a str, after: &str) -> Option<&'a str> {
    let (before, after): (Vec<&str>, Vec<&str>) = (before.split('/').collect(), after.split('/').collect());
    let differing: Vec<(&str, &str)> =
        before.iter().copied().zip(after.iter().copied()).filter(|(a, b)| a != b).collect();
    match differing[..] {
        [(was, is)] if before.len() == after.len() && near::near(is, was) == Some(near::Near::Slip) => Some(was),
        _ => None,
    }
}

/// The clause of a message in which these words stand: runtimes wrap one error into another with `: `.
fn clause(message: &Redacted, words: &Redacted) -> Redacted {
    let clause = message.as_str().split(": ").find(|clause| clause.contains(words.as_str()));
    clause.and_then(|clause| message.part(clause)).unwrap_or_else(|| message.clone())
}

/// The registry and the login as ruled out: somebody else pulls from there, and the pull secrets are the same.
fn registry_works(
    scene: &Scene,
    now: Timestamp,
    container: &ContainerState,
    blame: Option<&Blame<'_>>,
) -> Vec<Finding> {
    let (host, _, _) = view::image_parts(container.image.as_str());
    let Some(registry) = container.image.part(host).filter(|host| !host.is_empty()) else { return Vec::new() };
    let same_host = |image: &Redacted| view::image_parts(image.as_str()).0 == host;
    let neighbour = scene.neighbours.items().iter().filter(|other| other.ready > 0 && other.ready >= other.wanted);
    let neighbour =
        neighbour.filter(|other| other.images.iter().any(same_host)).max_by_key(|other| other.rolled_out_at);
    let ruled_out = |rule: &str, says: Redacted, brief: Redacted| {
        Finding::new(rule, Role::RuledOut, Certainty::Likely, &scene.subject, says, brief)
    };
    let mut found = Vec::new();
    if let Some(other) = neighbour {
        let when = other.rolled_out_at.map_or_else(Redacted::default, |at| text!(", rolled out {},", say::at(at, now)));
        let says = text!("Registry {} answers: {}{} runs an image from it.", registry, other.object.name, when);
        found.push(ruled_out(
            "registry-works",
            says,
            text!("the registry ({}{} runs from it)", other.object.name, when),
        ));
    }
    if let Some(blame) = blame {
        let (new, old) = (&blame.newest.template.image_pull_secrets, &blame.previous.template.image_pull_secrets);
        if !new.is_empty() && new == old && blame.previous.ready > 0 {
            let says = text!(
                "The pull secret is the same as in revision {}, whose pods run: {}.",
                blame.previous.number,
                say::list(new, 2),
            );
            found.push(ruled_out(
                "pull-secret-same",
                says,
                text!("the pull secret (the same as in revision {})", blame.previous.number),
            ));
        }
    }
    found
}
