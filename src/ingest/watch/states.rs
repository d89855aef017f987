//! Objects whose own status says that they are in trouble: stuck rollouts, failed Jobs, volumes that nobody provides,
//! autoscalers at their maximum. Of each only the status is decoded.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde::Deserialize;

use crate::ingest::watch::Speaker;
use crate::ingest::watch::condition::Condition;
use crate::ingest::watch::follow::Happened;
use crate::ingest::watch::seen::{Ignored, Seen};
use crate::model::patience::seconds;
use crate::model::{Kind, ObjectRef, Patience, Signal, SignalBody, SignalId, Warning, WarningSource};

/// Troubles that are remembered; a cluster with more has one cause that others tell.
const TROUBLES_MAX: usize = 5_000;
/// The scheduler has chosen a node, or a provisioner has been asked: only then a claim that waits is in trouble. One
/// that waits for its first pod is not.
const ASKED_FOR: [&str; 2] = ["volume.kubernetes.io/selected-node", "volume.kubernetes.io/storage-provisioner"];

/// As much of a status as is looked at, of any of these kinds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    phase: String,
    conditions: Vec<Condition>,
}

type Watched = Seen<Ignored, Status>;

/// What is wrong with one object now.
struct Sight {
    reason: String,
    message: String,
    since: Option<Timestamp>,
    holds: SignedDuration,
    /// It is the end of the object: when it is old, it is of the past.
    ends: bool,
}

struct Trouble {
    object: ObjectRef,
    sight: Sight,
    since: Timestamp,
    said: bool,
    on_arrival: bool,
}

/// The objects of one kind that are in trouble.
pub(super) struct States {
    speaker: Speaker,
    kind: Kind,
    /// By uid.
    troubles: HashMap<String, Trouble>,
    /// uids of the list that is being read.
    listed: Option<HashSet<String>>,
    whole: bool,
}

impl States {
    pub(super) fn new(kind: Kind, speaker: Speaker) -> Self {
        Self { speaker, kind, troubles: HashMap::new(), listed: None, whole: false }
    }

    fn see(&mut self, seen: &Watched) {
        let Some(uid) = seen.uid() else { return };
        let now = self.speaker.now();
        let sight = if seen.metadata.deletion_timestamp.is_some() {
            None
        } else {
            sight(self.kind, seen, &self.speaker.patience)
        };
        let fresh = seconds(self.speaker.patience.fresh_seconds);
        let old = |sight: &Sight| sight.ends && sight.since.is_some_and(|since| now.duration_since(since) > fresh);
        let known = self.troubles.contains_key(&uid);
        let Some(sight) = sight.filter(|sight| known || !old(sight)) else {
            self.troubles.remove(&uid);
            return;
        };
        if let Some(listed) = &mut self.listed {
            listed.insert(uid.clone());
        }
        if let Some(trouble) = self.troubles.get_mut(&uid).filter(|trouble| trouble.sight.reason == sight.reason) {
            trouble.sight = sight;
            return;
        }
        let object = ObjectRef::new(self.kind, seen.namespace().as_deref(), &seen.name_any());
        if let Some(object) = object.filter(|_| known || self.troubles.len() < TROUBLES_MAX) {
            let on_arrival = self.speaker.arrival && !self.whole;
            let since = sight.since.unwrap_or(now);
            self.troubles.insert(uid, Trouble { object, sight, since, said: false, on_arrival });
        }
    }

    fn due(&mut self) -> Vec<Signal> {
        let (now, speaker) = (self.speaker.now(), &self.speaker);
        let due = |trouble: &Trouble| !trouble.said && now.duration_since(trouble.since) >= trouble.sight.holds;
        let mut signals: Vec<Signal> = Vec::new();
        for (uid, trouble) in self.troubles.iter_mut().filter(|(_, trouble)| due(trouble)) {
            trouble.said = true;
            let (sight, since) = (&trouble.sight, trouble.since.as_millisecond().to_string());
            // By when it began, which the object itself says: a restart of firstlook repeats nothing.
            let id = SignalId::derive(&["state", speaker.cluster.as_str(), uid, &sight.reason, &since]);
            let warning = Warning {
                object: trouble.object.clone(),
                source: WarningSource::ObjectState,
                reason: speaker.redactor.redact(&sight.reason),
                message: speaker.redactor.redact(&sight.message),
                first_at: trouble.since,
                last_at: now,
                count: 1,
                on_arrival: trouble.on_arrival,
            };
            let body = SignalBody::Warning(warning);
            signals.push(Signal { id, cluster: speaker.cluster.clone(), heard_at: now, body });
        }
        signals.sort_by(|a, b| a.id.cmp(&b.id));
        signals
    }

    pub(super) fn hear(&mut self, happened: Happened<Watched>) -> Vec<Signal> {
        match happened {
            Happened::Begins => self.listed = Some(HashSet::new()),
            Happened::Listed(seen) | Happened::Changed(seen) => self.see(&seen),
            Happened::Whole => {
                if let Some(listed) = self.listed.take() {
                    self.troubles.retain(|uid, _| listed.contains(uid));
                }
                self.whole = true;
            }
            Happened::Gone(seen) => {
                if let Some(uid) = seen.uid() {
                    self.troubles.remove(&uid);
                }
            }
            Happened::Tick => {}
        }
        // A list may end what it has begun to say.
        if self.listed.is_some() { Vec::new() } else { self.due() }
    }
}

/// What an object's status says against it.
fn sight(kind: Kind, seen: &Watched, patience: &Patience) -> Option<Sight> {
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
        Kind::Job => condition("Failed", "True", "").map(|failed| of(failed, SignedDuration::ZERO, true)),
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
