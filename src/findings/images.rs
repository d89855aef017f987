//! Images that cannot be pulled: what the registry says, what the revision changed, and what still works.

use jiff::Timestamp;

use super::near;
use super::proof;
use super::registry;
use super::registry::{Answer, Part};
use super::rollout;
use super::rollout::Blame;
use super::say;
use super::view;
use crate::model::evidence::Citation;
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

pub(super) fn find(scene: &Scene, now: Timestamp) -> Vec<Finding> {
    let waits = |pair: &(&Pod, &ContainerState)| REASONS.contains(&view::waiting(pair.1).0);
    let stuck: Vec<(&Pod, &ContainerState)> = view::failing(scene).filter(waits).collect();
    let Some((pod, container)) = stuck.first().copied() else { return Vec::new() };
    let (answer, words) = registry::answer(scene, pod, container);
    let blame = rollout::blame(scene);
    let mut found: Vec<Finding> = no_secret(scene, now, pod, container, (answer, &words)).into_iter().collect();
    let secret = !found.is_empty();
    if secret {
        found.extend(image_runs(scene, container));
    } else {
        let told = Told { pod, container, answer, words: &words, stuck: stuck.len() as u32 };
        found.push(cause(scene, now, &told, blame.as_ref()));
    }
    if matches!(answer, Answer::Missing | Answer::Hidden | Answer::Denied) && !secret {
        found.extend(registry_works(scene, now, container, blame.as_ref()));
    }
    found
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
        revision: blame.as_ref().filter(|_| !lines.is_empty()).map(|blame| blame.newest.number),
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

/// An image that waits to be pulled, and what was answered.
struct Told<'a> {
    pod: &'a Pod,
    container: &'a ContainerState,
    answer: Answer,
    words: &'a Redacted,
    /// Containers that wait like this one.
    stuck: u32,
}

impl Told<'_> {
    /// What was answered, the line of the revision's difference that `change` quotes, and the state of the container.
    fn citations(&self, scene: &Scene, change: Option<Citation>) -> Vec<Citation> {
        let Told { pod, container, words, .. } = *self;
        let event = view::warnings(scene, &pod.object)
            .find(|event| words.is_empty() || event.message.part(words.as_str()).is_some());
        let said = event.and_then(|event| proof::quote(scene, event.at, &clause(&event.message, words)));
        let (reason, message) = view::waiting(container);
        let state = message.and_then(|message| message.part(reason));
        let state = state.and_then(|reason| proof::quote(scene, pod.at, &reason));
        [said, change, state].into_iter().flatten().collect()
    }
}

fn cause(scene: &Scene, now: Timestamp, told: &Told<'_>, blame: Option<&Blame<'_>>) -> Finding {
    let Told { container, answer, words, stuck, .. } = *told;
    let image = &container.image;
    let (host, repository, tag) = view::image_parts(image.as_str());
    let [host, repository, tag] = [host, repository, tag].map(|part| image.part(part).unwrap_or_default());
    let pull_says = if words.is_empty() { Redacted::default() } else { text!(" ({})", words) };
    let lines = blame.map_or_else(Vec::new, |blame| {
        blame.lines(|line| rollout::is_field(line, &["image"]) && line.after.as_ref() == Some(image))
    });
    let waiting = text!("{} of {}", say::all(stuck, "new pod", "new pods"), scene.subject.name);
    let difference = lines.first().map(|line| difference(image, line.before.as_ref()));
    let blamed = blame.zip(difference.as_ref()).filter(|(_, difference)| answer.blames(difference.part));
    let (says, brief, proposal, change) = match blamed {
        Some((blame, difference)) => {
            let says = text!(
                "{} ({}) {}, which cannot be pulled{}, so {} wait{} for it; {}.",
                blame.name(),
                say::at(blame.since(), now),
                difference.says,
                pull_says,
                waiting,
                if stuck == 1 { "s" } else { "" },
                rollout::earlier(blame),
            );
            let of_the_image = matches!(answer, Answer::Missing | Answer::Hidden | Answer::Unclear);
            let brief = difference.brief.clone().filter(|_| of_the_image);
            let brief = brief.unwrap_or_else(|| answer.brief(&host, &repository, &tag).cut(90));
            (says, brief, blame.undo(scene), blame.citation(scene, lines.first().copied()))
        }
        None => {
            let says = match answer.says(&host, words) {
                Some(why) => text!("{}, so image {} of container {} cannot be pulled.", why, image, container.name),
                None => text!("Image {} of container {} cannot be pulled{}.", image, container.name, pull_says),
            };
            let brief = match answer {
                Answer::Missing | Answer::Unclear => text!("cannot pull image {}", image),
                _ => answer.brief(&host, &repository, &tag).cut(90),
            };
            (says, brief, None, None)
        }
    };
    // Who else pulls from a registry that is down has the same cause, whatever image.
    let of_the_registry = matches!(answer, Answer::Unreachable | Answer::Untrusted | Answer::Limited);
    Finding {
        citations: told.citations(scene, change),
        revision: blamed.map(|(blame, _)| blame.newest.number),
        advice: proposal.is_none().then(|| answer.advice(&host, image)),
        proposal,
        shared: Some(if of_the_registry { registry::name(&host) } else { text!("image {}", image) }),
        ..Finding::new(
            "image-pull",
            Role::Cause,
            answer.certainty(difference.map(|difference| difference.part)),
            &scene.subject,
            says,
            brief,
        )
    }
}

/// What a revision changed about an image.
struct Difference {
    part: Part,
    /// In a sentence that the revision begins.
    says: Redacted,
    /// In a few words, where they say more than that it cannot be pulled.
    brief: Option<Redacted>,
}

fn difference(image: &Redacted, before: Option<&Redacted>) -> Difference {
    let whole = || text!("changed the image to {}", image);
    let Some(before) = before else {
        return Difference { part: Part::Whole, says: whole(), brief: Some(text!("cannot pull image {}", image)) };
    };
    let (old_host, old_repository, _) = view::image_parts(before.as_str());
    let (host, repository, _) = view::image_parts(image.as_str());
    let (Some(old_path), Some(path)) = (before.part(old_repository), image.part(repository)) else {
        return Difference { part: Part::Whole, says: whole(), brief: Some(text!("cannot pull image {}", image)) };
    };
    if old_host != host && old_repository == repository {
        let says = text!("changed the image's registry: {} → {}", before, image);
        return Difference { part: Part::Registry, says, brief: Some(text!("cannot pull image {}", image)) };
    }
    if old_repository != repository {
        let slip = slip(old_repository, repository).and_then(|was| before.part(was));
        let hint = if slip.is_some() { ", by the look of it a typo" } else { "" };
        let says = text!("changed the image repository from {} to {}{}", before, image, hint);
        let brief = match slip {
            Some(was) => text!("cannot pull image {} (\"{}\" misspelt?)", path, was),
            None => text!("cannot pull image {} (was {})", path, old_path),
        };
        let part = if old_host == host { Part::Repository } else { Part::Registry };
        return Difference { part, says, brief: Some(brief) };
    }
    Difference { part: Part::Tag, says: text!("changed the image from {} to {}", before, image), brief: None }
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
