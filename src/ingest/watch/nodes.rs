//! Nodes that are not ready, or of which nothing is known any more.

use std::collections::HashMap;

use jiff::Timestamp;
use kube::ResourceExt;
use serde::Deserialize;

use crate::ingest::watch::Speaker;
use crate::ingest::watch::condition::Condition;
use crate::ingest::watch::follow::Happened;
use crate::ingest::watch::seen::{Ignored, Seen};
use crate::model::patience::seconds;
use crate::model::{Kind, ObjectRef, Signal, SignalBody, SignalId, Warning, WarningSource};

/// As much of a node's status as is looked at.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Status {
    #[serde(default)]
    conditions: Vec<Condition>,
}

type Node = Seen<Ignored, Status>;

/// The nodes that are not ready.
pub(super) struct Nodes {
    speaker: Speaker,
    unwell: HashMap<String, Unwell>,
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
        let conditions = &node.status.conditions;
        let unready = conditions.iter().find(|c| c.kind == "Ready" && c.status != "True");
        let name = node.name_any();
        let Some(condition) = unready else {
            self.unwell.remove(&name);
            return;
        };
        let since = condition.last_transition_time.unwrap_or_else(|| self.speaker.now());
        let on_arrival = self.speaker.arrival && !self.whole;
        match self.unwell.get(&name) {
            // Another condition, another trouble.
            Some(known) if known.since == since => {}
            _ => {
                let unwell = Unwell { condition: condition.clone(), since, said: false, on_arrival };
                self.unwell.insert(name, unwell);
            }
        }
    }

    fn due(&mut self) -> Vec<Signal> {
        let (now, speaker) = (self.speaker.now(), &self.speaker);
        let holds = seconds(speaker.patience.node_seconds);
        let due =
            self.unwell.iter_mut().filter(|(_, unwell)| !unwell.said && now.duration_since(unwell.since) >= holds);
        due.filter_map(|(name, unwell)| {
            unwell.said = true;
            let since = unwell.since.as_millisecond().to_string();
            let warning = Warning {
                object: ObjectRef::new(Kind::Node, None, name)?,
                source: WarningSource::NodeState,
                reason: speaker.redactor.redact(match unwell.condition.reason.as_str() {
                    "" => "NodeNotReady",
                    reason => reason,
                }),
                message: speaker.redactor.redact(&unwell.condition.message),
                first_at: unwell.since,
                last_at: now,
                count: 1,
                on_arrival: unwell.on_arrival,
            };
            Some(Signal {
                id: SignalId::derive(&["node", speaker.cluster.as_str(), name, &since]),
                cluster: speaker.cluster.clone(),
                heard_at: now,
                body: SignalBody::Warning(warning),
            })
        })
        .collect()
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
