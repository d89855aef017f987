//! The pods of the scene, their logs and events.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::object::{Kind, ObjectRef};
use crate::model::scene::At;
use crate::model::scene::Condition;
use crate::redact::Redacted;

/// A pod and its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pod {
    pub object: ObjectRef,
    pub uid: String,
    pub created_at: Timestamp,
    /// `Pending`, `Running`, `Succeeded`, `Failed`, `Unknown`.
    pub phase: Redacted,
    pub ready: bool,
    pub node: Option<Redacted>,
    /// `pod-template-hash`, to tell revisions apart.
    pub template: Option<String>,
    pub labels: BTreeMap<String, Redacted>,
    /// The pod's own status reason and message (`Evicted`, `NodeLost`).
    pub reason: Redacted,
    pub message: Redacted,
    pub conditions: Vec<Condition>,
    pub containers: Vec<ContainerState>,
    pub deleting: bool,
    /// When it should be gone, its grace period included, and what must let go of it first.
    #[serde(default)]
    pub ends_at: Option<Timestamp>,
    #[serde(default)]
    pub finalizers: Vec<Redacted>,
    /// What the pod belongs to, resolved upward (`Deployment`, `Job`, ...).
    pub owner: Option<ObjectRef>,
    /// Sum of requests: CPU in milli-cores, memory in bytes.
    pub cpu_milli: i64,
    pub memory_bytes: i64,
    pub at: At,
}

/// What a kubelet writes of a pod that it put out because its node was short of something; of one that used more than its
/// own limits it writes another.
const NODE_SHORT: [&str; 2] = ["The node was low on resource", "The node had condition"];

impl Pod {
    /// Whether it has ended, well or not.
    pub fn is_finished(&self) -> bool {
        matches!(self.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Whether the kubelet did not take it, though it was scheduled there.
    pub fn was_refused(&self) -> bool {
        self.phase.as_str() == "Failed" && is_refusal(self.reason.as_str())
    }

    /// Whether it failed and its controller made another for it: it stays for show until somebody deletes it, for weeks
    /// if nobody does.
    pub fn is_left_over(&self) -> bool {
        let replaced = [Kind::Deployment, Kind::ReplicaSet, Kind::StatefulSet, Kind::DaemonSet];
        let owner = self.owner.as_ref().is_some_and(|owner| replaced.contains(&owner.kind));
        owner && self.phase.as_str() == "Failed"
    }

    /// When it was put out because its node was short of something, as far as the pod itself tells.
    pub fn put_out_at(&self) -> Option<Timestamp> {
        let by_node = NODE_SHORT.iter().any(|short| self.message.as_str().starts_with(short));
        if self.phase.as_str() != "Failed" || self.reason.as_str() != "Evicted" || !by_node {
            return None;
        }
        let changed = |kind: &str| self.conditions.iter().find(|c| c.kind.as_str() == kind)?.changed_at;
        changed("DisruptionTarget").or_else(|| changed("Ready"))
    }
}

/// Whether a failed pod's reason is one with which a kubelet refuses what was scheduled to its node: `OutOfcpu`,
/// `OutOfpods` and the like, and these (pkg/kubelet/lifecycle/predicate.go, pkg/kubelet/cm/topologymanager).
pub fn is_refusal(reason: &str) -> bool {
    const OTHERS: [&str; 9] = [
        "UnexpectedAdmissionError",
        "TopologyAffinityError",
        "SMTAlignmentError",
        "NodeAffinity",
        "NodePorts",
        "TaintToleration",
        "InvalidNodeInfo",
        "PodOSSelectorNodeLabelDoesNotMatch",
        "PodOSNotSupported",
    ];
    reason.starts_with("OutOf") || OTHERS.contains(&reason)
}

/// A container's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerState {
    pub name: Redacted,
    pub init: bool,
    pub image: Redacted,
    pub ready: bool,
    pub restarts: u32,
    pub state: State,
    /// How it ended the last time, while it waits or runs again.
    pub last: Option<Terminated>,
    /// `memory` limit as written, if any.
    pub memory_limit: Option<Redacted>,
}

/// What a container does now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Waiting { reason: Redacted, message: Redacted },
    Running { since: Option<Timestamp> },
    Terminated(Terminated),
    Unknown,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Terminated {
    /// `OOMKilled`, `Error`, `Completed`, `StartError`, ...
    pub reason: Redacted,
    pub exit_code: i32,
    pub message: Redacted,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

/// The folded tail of one container's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogTail {
    pub pod: ObjectRef,
    pub container: Redacted,
    pub previous: bool,
    /// Distinct lines in order of their first occurrence; the last ones matter most.
    pub lines: Vec<LogLine>,
    /// Why there is no log, if there is none.
    pub missing: Option<Redacted>,
    pub at: At,
}

/// One line, and how often it (or one that differs only in numbers and ids) came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// The first of its like, verbatim without the timestamp.
    pub text: Redacted,
    pub count: u32,
    pub first_at: Option<Timestamp>,
    pub last_at: Option<Timestamp>,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub object: ObjectRef,
    pub warning: bool,
    pub reason: Redacted,
    pub message: Redacted,
    pub count: u32,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    /// `kubelet`, `default-scheduler`, ...
    pub source: Redacted,
    pub at: At,
}
