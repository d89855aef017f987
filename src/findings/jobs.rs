//! Jobs: why one failed, and what was in its way before but no longer is.

use jiff::Timestamp;

use super::proof;
use super::say;
use super::sidecars;
use super::view;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::object::Kind;
use crate::model::scene::{Event, Scene, Workload};
use crate::redact::Redacted;
use crate::text;

pub(super) fn find(scene: &Scene, now: Timestamp) -> Vec<Finding> {
    let Some(job) = view::workload(scene).filter(|workload| workload.object.kind == Kind::Job) else {
        return Vec::new();
    };
    let mut found: Vec<Finding> = failed(scene, now, job).into_iter().collect();
    found.extend(never_started(scene, now, job));
    found.extend(blocks(scene, now, job));
    found.extend(over(scene));
    found.extend(suspended(scene, job));
    found.extend(sibling(scene));
    found
}

/// Fewer skipped runs than this are those of a Job that takes a little longer than its schedule allows.
const SKIPPED_MIN: u32 = 3;

/// Whether a Job has ended, well or not.
pub(super) fn is_over(job: &Workload) -> bool {
    let ended = ["Complete", "Failed"].into_iter().filter_map(|kind| view::condition(&job.conditions, kind));
    ended.into_iter().any(|condition| condition.status.as_str() == "True")
}

/// The event of a CronJob whose later runs wait for this Job to end (pkg/controller/cronjob), where the Job looks
/// stuck: runs were skipped again and again, and its log has been silent for half of its time.
pub(super) fn waited_for<'a>(scene: &'a Scene, job: &Workload) -> Option<&'a Event> {
    let skips = |event: &&Event| event.object.kind == Kind::CronJob && event.reason.as_str() == "JobAlreadyActive";
    let event = scene.events.items().iter().find(skips).filter(|event| event.count >= SKIPPED_MIN && !is_over(job))?;
    let ran = say::seconds(job.created_at, scene.read_at);
    let lines = scene.logs.items().iter().flat_map(|log| &log.lines);
    let silent = lines.filter_map(|line| line.last_at).max().map(|last| say::seconds(last, scene.read_at));
    silent.is_none_or(|silent| silent * 2 >= ran).then_some(event)
}

/// A Job that does not end, and keeps its CronJob from starting later runs.
fn blocks(scene: &Scene, now: Timestamp, job: &Workload) -> Option<Finding> {
    let event = waited_for(scene, job)?;
    let ran = say::span(say::seconds(job.created_at, now));
    let last = scene.logs.items().iter().filter_map(|log| Some((log, log.lines.last()?))).next();
    let said = last.map_or_else(Redacted::default, |(_, line)| {
        let since = line.first_at.map_or_else(Redacted::default, |at| text!(" since {}", say::at(at, now)));
        text!(" Its log has stood{} at \"{}\".", since, say::line(&line.text))
    });
    let says = text!(
        "Job {} still runs, {} after its start, and {} starts no new run before it ends (concurrencyPolicy Forbid): {} skipped since {}.{}",
        job.object.name,
        ran,
        event.object,
        say::count(event.count, "run", "runs"),
        say::at(event.first_at, now),
        said,
    );
    let mut citations: Vec<_> = proof::event(scene, event).into_iter().collect();
    citations.extend(last.and_then(|(log, line)| proof::line(scene, log, line)));
    Some(Finding {
        citations,
        advice: Some(text!(
            "Find out what {} waits for before anything ends it: deleting it deletes its log. {} goes on by itself afterwards; an activeDeadlineSeconds would bound the next hang.",
            job.object.name,
            event.object.name,
        )),
        ..Finding::new(
            "job-blocks-schedule",
            // What keeps the Job itself from ending lies deeper.
            if sidecars::held(scene, job).is_some_and(|held| held.serves) { Role::Symptom } else { Role::Cause },
            Certainty::Proved,
            &job.object,
            says,
            text!("{} runs of {} skipped meanwhile", event.count, event.object.name).cut(90),
        )
    })
}

fn failed(scene: &Scene, now: Timestamp, job: &Workload) -> Option<Finding> {
    let condition =
        view::condition(&job.conditions, "Failed").filter(|condition| condition.status.as_str() == "True")?;
    let since = condition.changed_at.map_or_else(Redacted::default, |at| text!(" at {}", say::at(at, now)));
    let limit = job.backoff_limit.map_or_else(Redacted::default, |limit| text!(", backoffLimit {}", limit));
    let late = condition.reason.as_str() == "DeadlineExceeded";
    let allowed = job.deadline_seconds.filter(|_| late);
    let after = allowed.map_or_else(Redacted::default, |seconds| {
        text!(" after the {} s that its activeDeadlineSeconds allows", seconds)
    });
    let says = text!(
        "Job {} failed{}: {}{} ({} failed{}).",
        job.object.name,
        since,
        condition.reason,
        after,
        say::count(job.failed, "pod", "pods"),
        limit,
    );
    let said = |event: &&Event| event.object == job.object && event.reason == condition.reason;
    let event = scene.events.items().iter().find(said);
    let mut citations: Vec<_> = event.and_then(|event| proof::event(scene, event)).into_iter().collect();
    citations.extend(proof::field(scene, job.at, "reason", &condition.reason));
    let waited = if late { unstarted(scene) } else { None };
    let (role, brief) = if late && waited.is_none() {
        let brief = allowed.map_or_else(
            || "it ran longer than its deadline allows".into(),
            |seconds| text!("it ran longer than its deadline of {} s allows", seconds),
        );
        (Role::Cause, brief)
    } else {
        (Role::Symptom, text!("it failed ({})", condition.reason))
    };
    citations.extend(
        allowed.and_then(|seconds| proof::quote(scene, job.at, &text!("\"activeDeadlineSeconds\": {}", seconds))),
    );
    Some(Finding {
        citations,
        advice: (role == Role::Cause).then(|| {
            text!(
                "See how long earlier runs of {} took and what its deadline was then. Its pods went with it: their logs are left only where logs are kept.",
                job.object.name,
            )
        }),
        ..Finding::new("job-failed", role, Certainty::Proved, &job.object, says, brief)
    })
}

/// What kept a Job's pods from starting, as their last warning says, where no container of it is known to have run.
/// What its controller deleted with the Job still speaks by its events.
fn unstarted(scene: &Scene) -> Option<&Event> {
    let of_pod = |event: &&Event| event.object.kind == Kind::Pod;
    let events = || scene.events.items().iter().filter(of_pod);
    let ran = scene.pods.items().iter().any(view::has_started)
        || events().any(|event| event.reason.as_str() == "Started")
        || scene.logs.items().iter().any(|log| !log.lines.is_empty());
    events().find(|event| event.warning).filter(|_| !ran)
}

/// A Job whose time ran out before a container of it started: what its pods waited for is why.
fn never_started(scene: &Scene, now: Timestamp, job: &Workload) -> Option<Finding> {
    let failed = view::condition(&job.conditions, "Failed").filter(|condition| condition.status.as_str() == "True")?;
    let event = unstarted(scene).filter(|_| failed.reason.as_str() == "DeadlineExceeded")?;
    let says = text!(
        "No container of Job {} is known to have started within its deadline: {} (\"{}\", {} times since {}).",
        job.object.name,
        event.reason,
        say::line(&event.message),
        event.count,
        say::at(event.first_at, now),
    );
    Some(Finding {
        citations: proof::event(scene, event).into_iter().collect(),
        advice: Some(text!(
            "Mend what pod {} waited for, then run {} again: a longer deadline alone does not help.",
            event.object.name,
            job.object.name,
        )),
        ..Finding::new(
            "job-never-started",
            Role::Cause,
            Certainty::Likely,
            &job.object,
            says,
            text!("its pods did not start in time: {}", event.reason).cut(90),
        )
    })
}

/// Refused creations that ended: a pod was created after them, so they are not why it failed.
fn over(scene: &Scene) -> Option<Finding> {
    let made = scene.pods.items().iter().map(|pod| pod.created_at).max()?;
    let mut events = scene.events.items().iter().filter(|event| event.reason.as_str() == "FailedCreate");
    let event = events.find(|event| event.last_at < made)?;
    let ended = say::span(say::seconds(event.last_at, made));
    let says = text!(
        "Not the {} earlier FailedCreate warnings (\"{}\"): they ended {} before the pod was created.",
        event.count,
        cause_of(&event.message),
        ended,
    );
    let brief = text!("the earlier FailedCreate warnings (they ended {} before the pod was created)", ended);
    Some(Finding {
        citations: proof::event(scene, event).into_iter().collect(),
        ..Finding::new("failed-create-over", Role::RuledOut, Certainty::Proved, &event.object, says, brief)
    })
}

/// The last clause of a message that wraps others: `... : serviceaccount "x" not found`.
fn cause_of(message: &Redacted) -> Redacted {
    let last = message.as_str().rsplit(": ").next().unwrap_or(message.as_str());
    message.part(last).map_or_else(|| say::line(message), |last| say::line(&last))
}

/// Another Job of the namespace that completed: what both need is there.
fn sibling(scene: &Scene) -> Option<Finding> {
    let jobs = scene.neighbours.items().iter().filter(|other| other.object.kind == Kind::Job);
    let done = |at| proof::quote(scene, at, &"\"reason\": \"CompletionsReached\"".into());
    let (job, proof) = jobs.filter_map(|job| Some((job, done(job.at)?))).next()?;
    let says = text!("Not a fault of all Jobs: {} of the same namespace completed.", job.object.name);
    let brief = text!("a fault of all Jobs ({} completed)", job.object.name);
    Some(Finding {
        citations: vec![proof],
        ..Finding::new("sibling-completed", Role::RuledOut, Certainty::Likely, &scene.subject, says, brief)
    })
}

fn suspended(scene: &Scene, job: &Workload) -> Option<Finding> {
    let says = text!("Job {} is suspended.", job.object.name);
    (job.suspended).then(|| Finding {
        citations: proof::quote(scene, job.at, &"\"suspend\": true".into()).into_iter().collect(),
        ..Finding::new("job-suspended", Role::Context, Certainty::Proved, &job.object, says, "it is suspended".into())
    })
}
