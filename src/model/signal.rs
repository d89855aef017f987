//! Signals: one thing heard from outside, as it came in.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::ids::{ClusterName, SignalId};
use crate::model::object::ObjectRef;
use crate::model::scene::DiffLine;
use crate::redact::Redacted;

/// One thing heard from outside. The id is derived from the body's identity, so a repeat is the same signal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    pub id: SignalId,
    pub cluster: ClusterName,
    /// When firstlook heard it.
    pub heard_at: Timestamp,
    pub body: SignalBody,
}

impl Signal {
    /// The alert, if it is one.
    pub fn alert(&self) -> Option<&Alert> {
        match &self.body {
            SignalBody::Alert(alert) => Some(alert),
            SignalBody::Warning(_) | SignalBody::Rollout(_) => None,
        }
    }
}

/// What kind of thing was heard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SignalBody {
    Alert(Alert),
    Warning(Warning),
    Rollout(Rollout),
}

/// One alert of an Alertmanager webhook body (version 4).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    pub receiver: Redacted,
    pub group_key: Redacted,
    /// 16 hex digits over the labels, as Alertmanager computes them.
    pub fingerprint: Redacted,
    /// The label `alertname`, or `unnamed alert`.
    pub name: Redacted,
    pub status: AlertStatus,
    pub labels: BTreeMap<String, Redacted>,
    pub annotations: BTreeMap<String, Redacted>,
    pub starts_at: Timestamp,
    /// None while it fires (Alertmanager then sends year 1).
    pub ends_at: Option<Timestamp>,
    pub generator_url: Option<Redacted>,
    /// Alerts of the same group that Alertmanager left out of the body (`truncatedAlerts`).
    pub truncated: u64,
}

impl Alert {
    /// A label's value, if it is there and not empty.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(Redacted::as_str).filter(|value| !value.is_empty())
    }
}

/// Whether an alert still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertStatus {
    Firing,
    Resolved,
}

/// A Kubernetes Warning event, or a pod or node state that is trouble by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Warning {
    /// The object that the event or state is of (a Pod, mostly).
    pub object: ObjectRef,
    pub source: WarningSource,
    /// `BackOff`, `FailedScheduling`, `CrashLoopBackOff`, `OOMKilled`, `ImagePullBackOff`, ...
    pub reason: Redacted,
    pub message: Redacted,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    /// How often it was seen (an event's count or series).
    pub count: u32,
    /// It was there already when firstlook started for the first time, with an empty store.
    #[serde(default)]
    pub on_arrival: bool,
}

/// Where a warning came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WarningSource {
    /// An event object with this name.
    Event { name: String },
    /// The status of the pod itself.
    PodState,
    /// A condition of the node itself.
    NodeState,
    /// The status of another object: a Deployment, a Job, a claim, an autoscaler.
    ObjectState,
}

/// A workload or its configuration changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    pub object: ObjectRef,
    /// The revision as `kubectl rollout history` counts it, where known. An undo renumbers revisions.
    pub revision: Option<i64>,
    /// Identifies the pod template: `pod-template-hash` or the ControllerRevision's name; of an edit the resourceVersion.
    pub template: String,
    pub at: Timestamp,
    /// Who changed it, where managedFields tell and nothing else of the cluster does.
    #[serde(default)]
    pub by: Option<Redacted>,
    /// What changed of an object that keeps no earlier state of itself (a ConfigMap, a Service): an edit has some.
    #[serde(default)]
    pub lines: Vec<DiffLine>,
}

impl Rollout {
    /// Whether it tells its own difference: a change of an object that is no workload's template, and opens no question
    /// that only the cluster could answer.
    pub fn is_edit(&self) -> bool {
        !self.lines.is_empty()
    }
}
