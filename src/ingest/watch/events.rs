//! Warning events, once they are more than a hiccup.

use std::collections::{HashSet, VecDeque};

use kube::core::DynamicObject;
use serde_json::{Value, json};

use crate::ingest::watch::Speaker;
use crate::ingest::watch::follow::Happened;
use crate::model::patience::seconds;
use crate::model::scene::{At, Event, ScenePart};
use crate::model::{Patience, Signal, SignalBody, SignalId, Warning, WarningSource};
use crate::observe::json as read;
use crate::observe::typed::Typed;

/// Events whose signal was sent and that are remembered, so that each next count costs nothing.
const SAID_MAX: usize = 10_000;

/// Reasons that say by themselves that something has ended badly.
const FINAL: [&str; 8] = [
    "BackoffLimitExceeded",
    "DeadlineExceeded",
    "Evicted",
    "NodeNotReady",
    "OOMKilling",
    "SystemOOM",
    "ProvisioningFailed",
    "TaintManagerEviction",
];
/// Reasons that are noise in healthy clusters, or follow from what the pods' and nodes' own states say better.
const NOISE: [&str; 14] = [
    "BackOff",
    "CalculateExpectedPodCountFailed",
    "CheckLimitsForResolvConf",
    "DNSConfigForming",
    "Failed",
    "FailedComputeMetricsReplicas",
    "FailedGetExternalMetric",
    "FailedGetResourceMetric",
    "FailedScheduling",
    "FailedToUpdateEndpoint",
    "FailedToUpdateEndpointSlices",
    "InvalidDiskCapacity",
    "MissingClusterDNS",
    "PolicyViolation",
];

/// What was heard of events.
pub(super) struct Events {
    speaker: Speaker,
    said: HashSet<SignalId>,
    order: VecDeque<SignalId>,
    whole: bool,
}

impl Events {
    pub(super) fn new(speaker: Speaker) -> Self {
        Self { speaker, said: HashSet::new(), order: VecDeque::new(), whole: false }
    }

    fn see(&mut self, object: DynamicObject, listed: bool) -> Option<Signal> {
        let mut value = object.data;
        let (name, uid) = (object.metadata.name?, object.metadata.uid?);
        // An id by the event object: its next count is the same signal.
        let id = SignalId::derive(&["event", &uid]);
        if self.said.contains(&id) {
            return None;
        }
        let created = object.metadata.creation_timestamp.map(|time| time.0.to_string());
        if let Value::Object(fields) = &mut value {
            fields.insert("metadata".into(), json!({"creationTimestamp": created}));
        }
        let at = At { evidence: ScenePart::Events.evidence(), segment: 0 };
        let event = Typed { redactor: &self.speaker.redactor }.event(&value, at)?;
        let now = self.speaker.now();
        let stale = listed && now.duration_since(event.last_at) > seconds(self.speaker.patience.fresh_seconds);
        if stale || read::text(&value, "/type") != "Warning" || !is_trouble(&event, &self.speaker.patience) {
            return None;
        }
        if self.order.len() == SAID_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.said.remove(&oldest);
        }
        self.said.insert(id.clone());
        self.order.push_back(id.clone());
        let warning = Warning {
            object: event.object,
            source: WarningSource::Event { name },
            reason: event.reason,
            message: event.message,
            first_at: event.first_at,
            last_at: event.last_at,
            count: event.count,
            on_arrival: self.speaker.arrival && !self.whole,
        };
        let body = SignalBody::Warning(warning);
        Some(Signal { id, cluster: self.speaker.cluster.clone(), heard_at: now, body })
    }
}

fn is_trouble(event: &Event, patience: &Patience) -> bool {
    let reason = event.reason.as_str();
    if NOISE.contains(&reason) {
        return false;
    }
    let repeated = event.count >= patience.event_count
        && event.last_at.duration_since(event.first_at) >= seconds(patience.event_seconds);
    match reason {
        // A startup probe is there to fail until its container has started; then the kubelet ends it, which is seen.
        "Unhealthy" | "ProbeWarning" => {
            let starting = event.message.as_str().starts_with("Startup probe");
            let lasted = event.last_at.duration_since(event.first_at) >= seconds(patience.probe_seconds);
            !starting && event.count >= patience.probe_count && lasted
        }
        _ => repeated || FINAL.contains(&reason),
    }
}

impl Events {
    pub(super) fn hear(&mut self, happened: Happened<DynamicObject>) -> Vec<Signal> {
        match happened {
            Happened::Listed(event) => self.see(event, true).into_iter().collect(),
            Happened::Changed(event) => self.see(event, false).into_iter().collect(),
            Happened::Whole => {
                self.whole = true;
                Vec::new()
            }
            Happened::Begins | Happened::Gone(_) | Happened::Tick => Vec::new(),
        }
    }
}
