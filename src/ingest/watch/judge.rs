//! What an object's spec and status say against it: stuck rollouts, Jobs that failed or do not end, CronJobs that miss
//! their schedule, volumes that nobody provides, autoscalers at their maximum. Pure.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde::Deserialize;
use serde_json::Value;

use crate::ingest::watch::condition::Condition;
use crate::ingest::watch::mounts::Reads;
use crate::ingest::watch::seen::{Seen, written};
use crate::model::patience::seconds;
use crate::model::schedule::Schedule;
use crate::model::{Kind, Patience};

/// The scheduler has chosen a node, or a provisioner has been asked: only then a claim that waits is in trouble. One
/// that waits for its first pod is not.
const ASKED_FOR: [&str; 2] = ["volume.kubernetes.io/selected-node", "volume.kubernetes.io/storage-provisioner"];
/// A run that waits for the one before it is what `Forbid` is for; that many in a row are too many.
const WAITS_MAX: usize = 3;

/// An object as far as it is looked at.
pub(super) type Watched = Seen<Spec, Status>;
/// The same with its spec as it is, where each of its fields is compared.
pub(super) type Entire = Seen<Value, Status>;

impl Entire {
    /// As far as it is judged.
    pub(super) fn judged(self) -> Watched {
        let spec = Spec::deserialize(&self.spec).unwrap_or_default();
        Seen { metadata: self.metadata, spec, status: self.status }
    }
}

/// As much of a spec as is looked at, of any of these kinds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    pub(super) replicas: Option<i64>,
    pub(super) template: Reads,
    suspend: bool,
    active_deadline_seconds: Option<i64>,
    schedule: String,
    time_zone: Option<String>,
    concurrency_policy: String,
}

/// As much of a status as is looked at, of any of these kinds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Status {
    phase: String,
    conditions: Vec<Condition>,
    start_time: Option<Timestamp>,
    completion_time: Option<Timestamp>,
    last_schedule_time: Option<Timestamp>,
    /// How many pods of a Job run, or which runs of a CronJob.
    active: Value,
}

/// What is wrong with one object.
pub(super) struct Sight {
    pub(super) reason: String,
    pub(super) message: String,
    /// Since when, where the object itself says so; or from when on.
    pub(super) since: Option<Timestamp>,
    pub(super) holds: SignedDuration,
    /// It is the end of the object: when it is old, it is of the past.
    pub(super) ends: bool,
}

/// What an object says against itself.
pub(super) fn sight(kind: Kind, seen: &Watched, patience: &Patience) -> Option<Sight> {
    let status = &seen.status;
    let condition = |kind: &str, wanted: &str, reason: &str| {
        let fits = |c: &&Condition| c.kind == kind && c.status == wanted && (reason.is_empty() || c.reason == reason);
        status.conditions.iter().find(fits)
    };
    let of = |condition: &Condition, holds: SignedDuration, ends: bool| Sight {
        reason: if condition.reason.is_empty() { condition.kind.clone() } else { condition.reason.clone() },
        message: condition.message.clone(),
        since: condition.last_transition_time,
        holds,
        ends,
    };
    match kind {
        // The Deployment's own deadline has been waited for.
        Kind::Deployment => {
            let stuck = condition("Progressing", "False", "ProgressDeadlineExceeded")?;
            Some(of(stuck, SignedDuration::ZERO, false))
        }
        // Its back-off limit or deadline is reached; nothing comes after that.
        Kind::Job => {
            let failed = condition("Failed", "True", "").map(|failed| of(failed, SignedDuration::ZERO, true));
            failed.or_else(|| endless(seen, patience))
        }
        Kind::CronJob => missed(seen, patience),
        Kind::HorizontalPodAutoscaler => {
            let limited = condition("ScalingLimited", "True", "TooManyReplicas")?;
            Some(of(limited, seconds(patience.autoscaler_seconds), false))
        }
        Kind::PersistentVolumeClaim => {
            let asked = ASKED_FOR.iter().any(|key| seen.annotations().contains_key(*key));
            let (reason, message, holds) = match status.phase.as_str() {
                "Lost" => ("Lost", "its volume no longer exists", SignedDuration::ZERO),
                "Pending" if asked => {
                    ("Pending", "no volume has been provided for it", seconds(patience.claim_seconds))
                }
                _ => return None,
            };
            Some(Sight { reason: reason.into(), message: message.into(), since: None, holds, ends: false })
        }
        _ => None,
    }
}

/// A Job that runs and runs. One with a deadline of its own ends by that.
fn endless(seen: &Watched, patience: &Patience) -> Option<Sight> {
    let (spec, status) = (&seen.spec, &seen.status);
    let ended = status.completion_time.is_some() || status.conditions.iter().any(|c| c.kind == "Complete");
    let runs = status.active.as_i64().is_some_and(|pods| pods > 0);
    let since = status.start_time.filter(|_| runs && !ended)?;
    (!spec.suspend && spec.active_deadline_seconds.is_none()).then(|| Sight {
        reason: "JobNotCompleted".into(),
        message: format!("it runs since {since} and is not complete"),
        since: Some(since),
        holds: seconds(patience.job_seconds),
        ends: false,
    })
}

/// A CronJob that should have started a run after its last one and has not. One that is suspended, or never had a run,
/// is left alone.
///
/// The schedule is of a time zone that is known only to the controller; but the last run was due, and that says how far
/// its clock is from UTC.
fn missed(seen: &Watched, patience: &Patience) -> Option<Sight> {
    let (spec, status) = (&seen.spec, &seen.status);
    let last = status.last_schedule_time.filter(|_| !spec.suspend)?;
    let schedule = Schedule::parse(&spec.schedule)?;
    let offset = QUARTERS.into_iter().map(SignedDuration::from_mins).find(|offset| {
        let local = local(last, *offset);
        local.is_some_and(|local| schedule.is_due(local))
    })?;
    // A schedule that was changed, or resumed, counts from then on.
    let from = written(&seen.metadata).map_or(last, |(at, _)| last.max(at));
    let waits = spec.concurrency_policy == "Forbid" && status.active.as_array().is_some_and(|runs| !runs.is_empty());
    let mut due = local(from, offset)?;
    for _ in 0..if waits { WAITS_MAX } else { 1 } {
        due = schedule.next_after(due)?;
    }
    let since = jiff::tz::TimeZone::UTC.to_timestamp(due).ok()?.checked_sub(offset).ok()?;
    // A zone may change its clock by an hour in between.
    let shift = if spec.time_zone.is_some() || !offset.is_zero() {
        SignedDuration::from_hours(1)
    } else {
        SignedDuration::ZERO
    };
    let message = match waits {
        true => format!("no run since {last}: that one still runs, and concurrencyPolicy is Forbid"),
        false => format!("no run since {last}, though one was due at {since}"),
    };
    let holds = seconds(patience.cronjob_seconds) + shift;
    Some(Sight { reason: "MissedSchedule".into(), message, since: Some(since), holds, ends: false })
}

/// How far clocks are from UTC, in minutes: UTC first, since it is the commonest by far.
const QUARTERS: [i64; 38] = [
    0, 60, -300, -480, 330, 480, 540, -60, 120, -120, 180, -180, -210, 210, 240, -240, 270, 300, 345, -360, 360, 390,
    -420, 420, 525, -540, 570, 600, -600, 630, -570, 660, -660, 720, -720, 765, 780, 840,
];

fn local(at: Timestamp, offset: SignedDuration) -> Option<jiff::civil::DateTime> {
    let local = jiff::tz::TimeZone::UTC.to_datetime(at.checked_add(offset).ok()?);
    local.with().second(0).subsec_nanosecond(0).build().ok()
}
