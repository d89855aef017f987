//! Autoscalers that may not add more, or that cannot read what they scale by.

use jiff::Timestamp;

use super::health;
use super::health::Health;
use super::proof;
use super::say;
use super::view;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::scene::{Autoscaler, Condition, Scene};
use crate::redact::Redacted;
use crate::text;

/// The rule of an autoscaler that may not add more.
pub(super) const AT_MAXIMUM: &str = "autoscaler-at-maximum";

pub(super) fn find(scene: &Scene, now: Timestamp) -> Vec<Finding> {
    let of = |autoscaler| limited(scene, now, autoscaler).into_iter().chain(blind(scene, now, autoscaler));
    scene.autoscalers.items().iter().flat_map(of).collect()
}

/// Its condition that says so.
fn at_maximum(autoscaler: &Autoscaler) -> Option<&Condition> {
    let condition = view::condition(&autoscaler.conditions, "ScalingLimited")?;
    let wants_more = condition.status.as_str() == "True" && condition.reason.as_str() == "TooManyReplicas";
    // One that is held at one pod is often switched off on purpose; it says nothing about load.
    (wants_more && autoscaler.max > 0 && autoscaler.current >= autoscaler.max).then_some(condition)
}

/// Pods that are in trouble are no matter of their number: then it is worth knowing, and no more.
fn role(scene: &Scene) -> Role {
    if health::health(scene) == Health::Healthy { Role::Cause } else { Role::Context }
}

fn limited(scene: &Scene, now: Timestamp, autoscaler: &Autoscaler) -> Option<Finding> {
    let condition = at_maximum(autoscaler)?;
    let name = text!("{}", autoscaler.object.name);
    let since = condition.changed_at.map_or_else(Redacted::default, |at| text!(" since {}", say::at(at, now)));
    let load = match autoscaler.metrics.as_slice() {
        [] => Redacted::default(),
        metrics => text!(": {}", say::list(metrics, 3)),
    };
    let ready = view::workload(scene).map_or_else(Redacted::default, |workload| {
        text!(" {} of {} pods of {} are ready.", workload.ready, workload.wanted, workload.object.name)
    });
    let says = text!(
        "HorizontalPodAutoscaler {} is at its maximum of {} replicas and wants more{}{}.{}",
        name,
        autoscaler.max,
        since,
        load,
        ready,
    );
    let brief = match autoscaler.metrics.first() {
        Some(metric) => text!("autoscaler at its maximum of {}, {}", autoscaler.max, metric),
        None => text!("autoscaler at its maximum of {}", autoscaler.max),
    };
    Some(Finding {
        citations: proof::field(scene, autoscaler.at, "reason", &condition.reason).into_iter().collect(),
        advice: Some(text!(
            "Find out where the load comes from; raise maxReplicas of {} if it is real and the nodes have room.",
            name
        )),
        ..Finding::new(AT_MAXIMUM, role(scene), Certainty::Likely, &autoscaler.object, says, brief.cut(90))
    })
}

/// An autoscaler that cannot read its metric scales nothing.
fn blind(scene: &Scene, now: Timestamp, autoscaler: &Autoscaler) -> Option<Finding> {
    let condition = view::condition(&autoscaler.conditions, "ScalingActive")?;
    // Scaled to 0 by hand, which switches it off.
    if condition.status.as_str() != "False" || condition.reason.as_str() == "ScalingDisabled" {
        return None;
    }
    let since = condition.changed_at.map_or_else(Redacted::default, |at| text!(" since {}", say::at(at, now)));
    let says = text!(
        "HorizontalPodAutoscaler {} cannot scale{}: {} ({}).",
        autoscaler.object.name,
        since,
        condition.reason,
        say::line(&condition.message),
    );
    Some(Finding {
        citations: proof::field(scene, autoscaler.at, "reason", &condition.reason).into_iter().collect(),
        advice: Some("Look at the metrics that it asks for, and at what serves them.".into()),
        ..Finding::new(
            "autoscaler-blind",
            role(scene),
            Certainty::Possible,
            &autoscaler.object,
            says,
            text!("its autoscaler cannot scale ({})", condition.reason).cut(90),
        )
    })
}
