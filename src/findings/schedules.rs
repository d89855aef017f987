//! CronJobs that do not run: suspended, waiting for a run that does not end, or refused by their controller.

use jiff::Timestamp;

use super::proof;
use super::say;
use super::view;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::object::Kind;
use crate::model::scene::{Scene, Workload};
use crate::redact::Redacted;
use crate::text;

/// Warnings by which the controller says why it starts nothing (pkg/controller/cronjob).
const REASONS: [&str; 5] =
    ["UnparseableSchedule", "InvalidSchedule", "UnknownTimeZone", "TooManyMissedTimes", "MissSchedule"];
/// Runs that are skipped while one takes a little longer are no fault.
const SKIPPED_MIN: u32 = 3;

pub(super) fn find(scene: &Scene, now: Timestamp) -> Vec<Finding> {
    let Some(cron_job) = view::workload(scene).filter(|workload| workload.object.kind == Kind::CronJob) else {
        return Vec::new();
    };
    let found = suspended(scene, now, cron_job);
    let found = found.or_else(|| refused(scene, now, cron_job)).or_else(|| waits(scene, now, cron_job));
    found.or_else(|| hasty(scene, now, cron_job)).into_iter().collect()
}

/// The CronJob controller looks this often; a run that must start sooner may never start (Kubernetes' documentation of
/// `startingDeadlineSeconds`).
const LOOKS_SECONDS: i64 = 10;

/// Its deadline for a start, where the controller may always come too late for it.
pub(super) fn too_hasty(cron_job: &Workload) -> Option<i64> {
    cron_job.deadline_seconds.filter(|seconds| *seconds < LOOKS_SECONDS)
}

fn hasty(scene: &Scene, now: Timestamp, cron_job: &Workload) -> Option<Finding> {
    let seconds = too_hasty(cron_job)?;
    let says = text!(
        "CronJob {} may start no run: its startingDeadlineSeconds is {}, and its controller looks only every {} s, so that a run may be too late whenever it is seen{}.",
        cron_job.object.name,
        seconds,
        LOOKS_SECONDS,
        last_run(cron_job, now),
    );
    Some(Finding {
        citations: proof::quote(scene, cron_job.at, &text!("\"startingDeadlineSeconds\": {}", seconds))
            .into_iter()
            .collect(),
        advice: Some(text!(
            "Raise startingDeadlineSeconds of {} well above {} s, or ask who set it.",
            cron_job.object.name,
            LOOKS_SECONDS,
        )),
        ..Finding::new(
            "cronjob-hasty",
            Role::Cause,
            // Now and then the controller comes in time.
            Certainty::Possible,
            &cron_job.object,
            says,
            text!("startingDeadlineSeconds {} is shorter than its controller needs", seconds),
        )
    })
}

/// `; its last run started 2026-03-22 05:00 UTC and completed`
fn last_run(cron_job: &Workload, now: Timestamp) -> Redacted {
    let Some(at) = cron_job.last_scheduled_at else { return "; it has not run yet".into() };
    let well = cron_job.last_succeeded_at.is_some_and(|done| done >= at);
    text!("; its last run started {}{}", say::at(at, now), if well { " and completed" } else { "" })
}

fn suspended(scene: &Scene, now: Timestamp, cron_job: &Workload) -> Option<Finding> {
    let name = text!("{}", cron_job.object.name);
    let says = text!("CronJob {} is suspended, so it starts no run{}.", name, last_run(cron_job, now));
    cron_job.suspended.then(|| Finding {
        citations: proof::quote(scene, cron_job.at, &"\"suspend\": true".into()).into_iter().collect(),
        advice: Some(text!(
            "Ask who suspended {} and whether that was meant; it runs again by its schedule once it is resumed.",
            name,
        )),
        ..Finding::new(
            "cronjob-suspended",
            Role::Cause,
            Certainty::Proved,
            &cron_job.object,
            says,
            "it is suspended".into(),
        )
    })
}

fn refused(scene: &Scene, now: Timestamp, cron_job: &Workload) -> Option<Finding> {
    let event = view::warnings(scene, &cron_job.object).find(|event| REASONS.contains(&event.reason.as_str()))?;
    let says = text!(
        "CronJob {} starts no run since {}: {} ({}){}.",
        cron_job.object.name,
        say::at(event.first_at, now),
        say::line(&event.message),
        event.reason,
        last_run(cron_job, now),
    );
    Some(Finding {
        citations: proof::event(scene, event).into_iter().collect(),
        advice: Some("Correct the schedule, its time zone or startingDeadlineSeconds, as the message says.".into()),
        ..Finding::new(
            "cronjob-not-started",
            Role::Cause,
            Certainty::Proved,
            &cron_job.object,
            says,
            text!("its controller says {}", event.reason),
        )
    })
}

fn waits(scene: &Scene, now: Timestamp, cron_job: &Workload) -> Option<Finding> {
    let skips = |event: &&crate::model::scene::Event| {
        event.object == cron_job.object && event.reason.as_str() == "JobAlreadyActive" && event.count >= SKIPPED_MIN
    };
    let event = scene.events.items().iter().find(skips)?;
    let says = text!(
        "CronJob {} skipped {} since {}: the run before still runs, and concurrencyPolicy is Forbid{}.",
        cron_job.object.name,
        say::count(event.count, "run", "runs"),
        say::at(event.first_at, now),
        last_run(cron_job, now),
    );
    Some(Finding {
        citations: proof::event(scene, event).into_iter().collect(),
        advice: Some("Look at the run that does not end and at what it waits for, before anything ends it.".into()),
        ..Finding::new(
            "cronjob-waits",
            Role::Cause,
            // A schedule that is tighter than its runs looks the same.
            Certainty::Likely,
            &cron_job.object,
            says,
            text!("{} runs skipped, one does not end", event.count),
        )
    })
}
