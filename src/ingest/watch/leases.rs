//! Leases of nodes: a kubelet renews its own every ten seconds; one that has stopped is dead, or cut off.

use std::collections::HashMap;

use jiff::Timestamp;
use kube::ResourceExt;
use serde::Deserialize;

use crate::ingest::watch::Speaker;
use crate::ingest::watch::follow::Happened;
use crate::ingest::watch::seen::{Ignored, Seen};
use crate::model::patience::seconds;
use crate::model::{Kind, ObjectRef, Signal, SignalBody, SignalId, Warning, WarningSource};

/// The namespace in which kubelets keep their leases.
pub(super) const NAMESPACE: &str = "kube-node-lease";
/// Another lease must have been renewed within this: else it is the watch that is behind, not a node. Two renewals.
const ALIVE_SECONDS: u32 = 20;

/// As much of a Lease's spec as is looked at.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    renew_time: Option<Timestamp>,
}

type Lease = Seen<Spec, Ignored>;

/// The leases of all nodes.
pub(super) struct Leases {
    speaker: Speaker,
    /// By node.
    known: HashMap<String, Known>,
    whole: bool,
}

struct Known {
    /// By the kubelet's clock.
    renewed_at: Timestamp,
    /// By ours, so that clocks which disagree make nobody dead.
    seen_at: Timestamp,
    /// It was renewed since it was first seen.
    renewed: bool,
    listed: bool,
    said: bool,
}

impl Leases {
    pub(super) fn new(speaker: Speaker) -> Self {
        Self { speaker, known: HashMap::new(), whole: false }
    }

    fn see(&mut self, lease: &Lease) {
        let Some(renewed_at) = lease.spec.renew_time else { return };
        let seen_at = self.speaker.now();
        let renewed = match self.known.get_mut(&lease.name_any()) {
            Some(known) if known.renewed_at == renewed_at => {
                known.listed = true;
                return;
            }
            known => known.is_some(),
        };
        let known = Known { renewed_at, seen_at, renewed, listed: true, said: false };
        self.known.insert(lease.name_any(), known);
    }

    fn due(&mut self) -> Vec<Signal> {
        let (now, speaker) = (self.speaker.now(), &self.speaker);
        let alive = |known: &Known| known.renewed && now.duration_since(known.seen_at) <= seconds(ALIVE_SECONDS);
        if !self.known.values().any(alive) {
            return Vec::new();
        }
        let holds = seconds(speaker.patience.lease_seconds);
        let due = |known: &Known| !known.said && now.duration_since(known.seen_at) > holds;
        let late = self.known.iter_mut().filter(|(_, known)| due(known));
        late.filter_map(|(node, known)| {
            known.said = true;
            let renewed = known.renewed_at.as_millisecond().to_string();
            let message = format!("its kubelet has not renewed its lease since {}", known.renewed_at);
            let warning = Warning {
                object: ObjectRef::new(Kind::Node, None, node)?,
                source: WarningSource::NodeState,
                reason: speaker.redactor.redact("LeaseNotRenewed"),
                message: speaker.redactor.redact(&message),
                // A kubelet's clock may be ahead.
                first_at: known.renewed_at.min(now),
                last_at: now,
                count: 1,
                on_arrival: speaker.arrival && !known.renewed,
            };
            Some(Signal {
                id: SignalId::derive(&["lease", speaker.cluster.as_str(), node, &renewed]),
                cluster: speaker.cluster.clone(),
                heard_at: now,
                body: SignalBody::Warning(warning),
            })
        })
        .collect()
    }

    pub(super) fn hear(&mut self, happened: Happened<Lease>) -> Vec<Signal> {
        match happened {
            Happened::Begins => {
                self.known.values_mut().for_each(|known| known.listed = false);
                self.whole = false;
            }
            Happened::Listed(lease) | Happened::Changed(lease) => self.see(&lease),
            Happened::Whole => {
                self.known.retain(|_, known| known.listed);
                self.whole = true;
            }
            Happened::Gone(lease) => {
                self.known.remove(&lease.name_any());
            }
            // Only then: a renewal that is on its way comes first.
            Happened::Tick if self.whole => return self.due(),
            Happened::Tick => {}
        }
        Vec::new()
    }
}
