//! Containers that their own security context forbids to start.

use jiff::Timestamp;

use super::proof;
use super::rollout;
use super::view;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::scene::{ContainerState, DiffLine, Pod, Scene};
use crate::redact::Redacted;
use crate::text;

/// What the kubelet checks before it creates a container (pkg/kubelet/kuberuntime/security_context.go).
const DEMANDED: &str = "runAsNonRoot";

pub(super) fn find(scene: &Scene, now: Timestamp) -> Vec<Finding> {
    let refused = view::failing(scene).find_map(|(pod, container)| {
        let (reason, message) = view::waiting(container);
        let message = message.filter(|message| message.as_str().contains(DEMANDED))?;
        (reason == "CreateContainerConfigError").then_some((pod, container, message))
    });
    refused.map(|(pod, container, message)| root(scene, now, pod, container, message)).into_iter().collect()
}

fn root(scene: &Scene, now: Timestamp, pod: &Pod, container: &ContainerState, message: &Redacted) -> Finding {
    let user = message.as_str().split_once("non-numeric user (").and_then(|(_, rest)| rest.split_once(')'));
    let user = user.and_then(|(user, _)| message.part(user));
    let why = match &user {
        Some(user) => text!("has the user {}, of which the kubelet cannot tell that it is not root", user),
        None => "would run as root".into(),
    };
    let blame = rollout::blame(scene);
    let brought = |line: &DiffLine| rollout::is_field(line, &["securitycontext", "image"]);
    let lines = blame.as_ref().map_or_else(Vec::new, |blame| blame.lines_of(&container.name, brought));
    let by = match &blame {
        Some(blame) if !lines.is_empty() => text!(" {}.", blame.came(&lines, now)),
        _ => Redacted::default(),
    };
    let says = text!(
        "Container {} of pod {} may not start: its security context demands {}, and image {} {}.{}",
        container.name,
        pod.object.name,
        DEMANDED,
        container.image,
        why,
        by,
    );
    let mut citations: Vec<_> = proof::quote(scene, pod.at, message).into_iter().collect();
    let said = |event: &&crate::model::scene::Event| event.message.as_str().contains(DEMANDED);
    let event = view::warnings(scene, &pod.object).find(said);
    citations.extend(event.and_then(|event| proof::event(scene, event)));
    citations.extend(blame.as_ref().and_then(|blame| blame.citation(scene, lines.first().copied())));
    Finding {
        citations,
        revision: blame.as_ref().filter(|_| !lines.is_empty()).map(|blame| blame.newest.number),
        proposal: blame.as_ref().filter(|_| !lines.is_empty()).and_then(|blame| blame.undo(scene)),
        advice: Some(text!(
            "Set runAsUser to a number other than 0 for container {}, if its image can run so, or build {} with a numeric USER.",
            container.name,
            container.image,
        )),
        ..Finding::new(
            "runs-as-root",
            Role::Cause,
            Certainty::Proved,
            &scene.subject,
            says,
            match user {
                Some(user) => text!("{} is demanded, but the image's user is {}", DEMANDED, user).cut(90),
                None => text!("{} is demanded, but the image runs as root", DEMANDED),
            },
        )
    }
}
