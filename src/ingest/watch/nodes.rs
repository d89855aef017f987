//! Nodes that are not ready, of which nothing is known any more, or that run short of something.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde::Deserialize;

use crate::ingest::watch::Speaker;
use crate::ingest::watch::condition::Condition;
use crate::ingest::watch::follow::Happened;
use crate::ingest::watch::seen::{Ignored, Seen};
use crate::model::patience::seconds;
use crate::model::scene::PRESSURES;
use crate::model::{Kind, ObjectRef, Signal, SignalBody, SignalId, Warning, WarningSource};

/// As much of a node's status as is looked at.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Status {
    #[serde(default)]
    conditions: Vec<Condition>,
}

type Node = Seen<Ignored, Status>;

/// The condition that is bad when it is anything but true.
const READY: &str = "Ready";

/// The nodes that are not well, and in what.
pub(super) struct Nodes {
    speaker: Speaker,
    /// By node, then by condition.
    unwell: HashMap<String, HashMap<String, Unwell>>,
    listing: bool,
    whole: bool,
}

struct Unwell {
    condition: Condition,
    since: Timestamp,
    said: bool,
    on_arrival: bool,
}

impl Nodes {
    pub(super) fn new(speaker: Speaker) -> Self {
        Self { speaker, unwell: HashMap::new(), listing: false, whole: false }
    }

    fn see(&mut self, node: &Node) {
        let bad = |condition: &&Condition| match condition.kind.as_str() {
            READY => condition.status != "True",
            kind => condition.status == "True" && PRESSURES.contains(&kind),
        };
        let bad: Vec<&Condition> = node.status.conditions.iter().filter(bad).collect();
        let name = node.name_any();
        if bad.is_empty() {
            self.unwell.remove(&name);
            return;
        }
        let on_arrival = self.speaker.arrival && !self.whole;
        let known = self.unwell.entry(name).or_default();
        known.retain(|kind, _| bad.iter().any(|condition| condition.kind == *kind));
        for condition in bad {
            let seen = known.get(&condition.kind);
            let since = condition.last_transition_time;
            let since = since.or(seen.map(|seen| seen.since)).unwrap_or_else(|| self.speaker.now());
            // Another transition, another trouble.
            if seen.is_none_or(|seen| seen.since != since) {
                let unwell = Unwell { condition: condition.clone(), since, said: false, on_arrival };
                known.insert(condition.kind.clone(), unwell);
            }
        }
    }

    fn due(&mut self) -> Vec<Signal> {
        let (now, speaker) = (self.speaker.now(), &self.speaker);
        let all = self.unwell.iter_mut().flat_map(|(name, known)| known.values_mut().map(move |unwell| (name, unwell)));
        let due = all.filter(|(_, unwell)| !unwell.said && now.duration_since(unwell.since) >= unwell.holds(speaker));
        due.filter_map(|(name, unwell)| {
            unwell.said = true;
            unwell.signal(speaker, name, now)
        })
        .collect()
    }
}

impl Unwell {
    fn holds(&self, speaker: &Speaker) -> SignedDuration {
        let patience = &speaker.patience;
        seconds(if self.condition.kind == READY { patience.node_seconds } else { patience.pressure_seconds })
    }

    fn signal(&self, speaker: &Speaker, name: &str, now: Timestamp) -> Option<Signal> {
        let since = self.since.as_millisecond().to_string();
        let kind = self.condition.kind.as_str();
        let reason = match (kind, self.condition.reason.as_str()) {
            (READY, "") => "NodeNotReady",
            (READY, reason) => reason,
            (kind, _) => kind,
        };
        let warning = Warning {
            object: ObjectRef::new(Kind::Node, None, name)?,
            source: WarningSource::NodeState,
            reason: speaker.redactor.redact(reason),
            message: speaker.redactor.redact(&self.condition.message),
            first_at: self.since,
            last_at: now,
            count: 1,
            on_arrival: self.on_arrival,
        };
        let cluster = speaker.cluster.as_str();
        let id = match kind {
            READY => SignalId::derive(&["node", cluster, name, &since]),
            kind => SignalId::derive(&["node", cluster, name, kind, &since]),
        };
        Some(Signal { id, cluster: speaker.cluster.clone(), heard_at: now, body: SignalBody::Warning(warning) })
    }
}

impl Nodes {
    pub(super) fn hear(&mut self, happened: Happened<Node>) -> Vec<Signal> {
        match happened {
            Happened::Begins => {
                self.listing = true;
                return Vec::new();
            }
            Happened::Listed(node) | Happened::Changed(node) => self.see(&node),
            Happened::Whole => {
                self.listing = false;
                self.whole = true;
            }
            Happened::Gone(node) => {
                self.unwell.remove(&node.name_any());
            }
            Happened::Tick => {}
        }
        // A list may end what it has begun to say.
        if self.listing { Vec::new() } else { self.due() }
    }
}
