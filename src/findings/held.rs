//! Rollouts that somebody holds: paused, kept at a partition, or left to whoever deletes the pods.

use super::proof;
use super::say;
use super::view;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::scene::{Scene, Workload};
use crate::redact::Redacted;
use crate::text;

/// Whether a rollout is as far as it is meant to go by itself.
pub(super) fn is_through(workload: &Workload) -> bool {
    by(workload).is_some() || workload.updated >= workload.wanted.saturating_sub(workload.partition)
}

/// What holds a rollout that is not to go on by itself, with the words of the object that say so.
fn by(workload: &Workload) -> Option<(Redacted, Redacted)> {
    match workload.strategy.as_str() {
        _ if workload.paused => Some(("it is paused".into(), "\"paused\": true".into())),
        "OnDelete" => Some((
            "by its strategy OnDelete a pod is made anew only when somebody deletes it".into(),
            "\"type\": \"OnDelete\"".into(),
        )),
        _ => None,
    }
}

/// A rollout that stands on purpose: what differs between pods is no trouble by itself.
pub(super) fn find(scene: &Scene) -> Option<Finding> {
    let workload = view::workload(scene).filter(|workload| workload.updated < workload.wanted)?;
    let partition = || {
        let words = text!("\"partition\": {}", workload.partition);
        (workload.partition > 0).then(|| (text!("it is held at partition {}", workload.partition), words))
    };
    let (why, words) = by(workload).or_else(partition)?;
    let says = text!(
        "The rollout of {} stands on purpose: {}, and {} of {} {} of the newest revision.",
        workload.object.name,
        why,
        workload.updated,
        say::count(workload.wanted, "pod", "pods"),
        if workload.updated == 1 { "is" } else { "are" },
    );
    Some(Finding {
        citations: proof::quote(scene, workload.at, &words).into_iter().collect(),
        ..Finding::new(
            "rollout-held",
            Role::Context,
            Certainty::Proved,
            &workload.object,
            says,
            text!("its rollout is held: {}", why).cut(90),
        )
    })
}
