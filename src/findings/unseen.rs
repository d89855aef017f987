//! Workloads whose newest spec their controller has not looked at.

use jiff::Timestamp;

use super::proof;
use super::say;
use super::view;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::object::Kind;
use crate::model::scene::Scene;
use crate::text;

/// A controller looks at what was written within seconds, one with much to do within a minute or two.
const UNSEEN_SECONDS: i64 = 300;

pub(super) fn find(scene: &Scene, now: Timestamp) -> Option<Finding> {
    let workload = view::workload(scene).filter(|workload| workload.observed_generation < workload.generation)?;
    // Jobs and CronJobs keep no such number.
    let counts = !matches!(workload.object.kind, Kind::Job | Kind::CronJob);
    let written = workload.written_at.filter(|_| counts)?;
    let waits = say::seconds(written, scene.read_at);
    let by = workload.changed_by.as_ref().map_or_else(Default::default, |by| text!(" by {}", by));
    let seen = match workload.observed_generation {
        0 => "none yet".into(),
        observed => text!("no newer one than generation {}", observed),
    };
    let says = text!(
        "The spec of {} was written at {}{} (generation {}), and {} later its controller has seen {}: nothing of it is carried out.",
        workload.object,
        say::at(written, now),
        by,
        workload.generation,
        say::span(waits),
        seen,
    );
    let quote = |name: &'static str, number| proof::quote(scene, workload.at, &text!("\"{}\": {}", name, number));
    let citations =
        [quote("observedGeneration", workload.observed_generation), quote("generation", workload.generation)];
    (waits >= UNSEEN_SECONDS).then(|| Finding {
        citations: citations.into_iter().flatten().collect(),
        advice: Some(
            "Look at kube-controller-manager: whether it runs, holds its lease in kube-system, and what its log says of this object.".into(),
        ),
        ..Finding::new(
            "spec-not-observed",
            Role::Cause,
            Certainty::Likely,
            &workload.object,
            says,
            text!("its controller has not seen its spec of {}", say::at(written, now)).cut(90),
        )
    })
}
