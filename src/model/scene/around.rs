//! What stands around the subject: nodes, network, configuration, storage, limits, neighbours.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::object::ObjectRef;
use crate::model::scene::At;
use crate::model::scene::{Condition, Pod};
use crate::redact::Redacted;
use crate::text;

/// A node, its health and what is left on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    pub object: ObjectRef,
    /// None: the condition is `Unknown`.
    pub ready: Option<bool>,
    pub conditions: Vec<Condition>,
    pub labels: BTreeMap<String, Redacted>,
    /// `key=value:effect` each.
    pub taints: Vec<Redacted>,
    pub unschedulable: bool,
    pub allocatable_cpu_milli: i64,
    pub allocatable_memory_bytes: i64,
    /// What else can be requested of it (`nvidia.com/gpu`), as whole units.
    #[serde(default)]
    pub extended: BTreeMap<String, i64>,
    /// Sums over the pods on it that are not finished; None when the pods could not be listed.
    pub requested_cpu_milli: Option<i64>,
    pub requested_memory_bytes: Option<i64>,
    pub pods: Option<u32>,
    pub pods_not_ready: Option<u32>,
    /// By its kubelet's clock.
    pub lease_renewed_at: Option<Timestamp>,
    /// The same write by the API server's clock, where managedFields tell.
    #[serde(default)]
    pub lease_written_at: Option<Timestamp>,
    pub at: At,
}

/// Conditions of a node that are bad when they are true.
pub const PRESSURES: [&str; 4] = ["MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"];
/// Conditions of a node for which its kubelet puts pods out.
const EVICTING: [&str; 3] = ["MemoryPressure", "DiskPressure", "PIDPressure"];
/// A kubelet puts the first pods out before its node's condition is written: it reports its status every 10 s, and a
/// write may have to be repeated.
const WRITTEN_LATE_SECONDS: i64 = 60;

impl Node {
    /// Whether the pod stands, or stood, on this node.
    pub fn holds(&self, pod: &Pod) -> bool {
        pod.node.as_ref().is_some_and(|name| name.as_str() == self.object.name())
    }

    /// The shortage for which it puts pods out now.
    pub fn pressure(&self) -> Option<&Condition> {
        self.conditions.iter().find(|c| EVICTING.contains(&c.kind.as_str()) && c.status.as_str() == "True")
    }

    /// Whether it put this pod out in the shortage that it has now. Pods of an earlier one stay for show until somebody
    /// deletes them.
    pub fn put_out(&self, pod: &Pod) -> bool {
        let since = self.pressure().and_then(|condition| condition.changed_at);
        let (Some(since), Some(at)) = (since, pod.put_out_at()) else { return false };
        self.holds(pod) && at.as_second() >= since.as_second() - WRITTEN_LATE_SECONDS
    }
}

/// What is measured of a node is measured over so many seconds: as long as a kubelet keeps a condition of pressure after
/// what it is for is over (`evictionPressureTransitionPeriod`).
pub const FIGURE_SECONDS: i64 = 300;

/// What an exporter measured of a node over these seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    pub node: ObjectRef,
    pub of: Measured,
    /// `node_memory_MemAvailable_bytes{instance="n1"}`.
    pub series: Redacted,
    /// The least and the most of it that was available, and how much there is.
    pub least_bytes: i64,
    pub most_bytes: i64,
    pub total_bytes: i64,
    pub at: At,
}

/// What is measured of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measured {
    Memory,
    /// The file system on which its kubelet keeps pods.
    Disk,
}

impl Figure {
    /// A sample as it stands in the evidence.
    pub fn sample(&self, bytes: i64) -> Redacted {
        text!("{} => {}", self.series, bytes)
    }
}

/// A Service and what stands behind it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    pub object: ObjectRef,
    pub created_at: Timestamp,
    /// The newest write to it, where managedFields tell.
    pub changed_at: Option<Timestamp>,
    pub changed_by: Option<Redacted>,
    pub selector: BTreeMap<String, Redacted>,
    /// The host outside for whose name it stands (`ExternalName`).
    #[serde(default)]
    pub external_name: Option<Redacted>,
    /// `port->targetPort` each.
    pub ports: Vec<Redacted>,
    pub ready_endpoints: u32,
    pub not_ready_endpoints: u32,
    pub pods_selected: u32,
    /// Pods that carry all labels of the selector but one: which label, wanted, found, of which workload.
    pub near: Vec<NearMiss>,
    /// The workload whose pods it selects, or would select; read only where another's Service has no ready endpoint.
    #[serde(default)]
    pub behind: Option<Neighbour>,
    /// A pod behind it that is in trouble; read with `behind`.
    #[serde(default)]
    pub failing: Option<Box<Pod>>,
    /// Ports whose target none of the pods that it selects declares.
    #[serde(default)]
    pub astray: Vec<Astray>,
    /// NetworkPolicies that keep the subject's pods from the pods that it selects.
    #[serde(default)]
    pub barred: Option<Barred>,
    /// What joins it to the subject.
    #[serde(default)]
    pub link: ServiceLink,
    /// The same in words: `selects the subject's pods`, `named in the log of ...`, `named by the alert`.
    pub because: Redacted,
    pub at: At,
}

/// What joins a Service to the subject of a scene, the most telling first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceLink {
    /// It is the subject.
    Itself,
    /// It selects the subject's pods.
    Selects,
    /// The subject, an Ingress, leads there.
    LedTo,
    /// What refuses the subject's pods (an admission webhook) names it.
    Refuses,
    /// The subject's log names it.
    Logged,
    /// A signal names it.
    Heard,
    /// The subject's template names it.
    Told,
    /// Its selector misses the subject's pods by one label.
    Misses,
    /// It did not answer the subject, as its log says: the DNS.
    Silent,
    /// Another namespace's, of a name that the subject's log does not find in its own.
    Namesake,
    /// Written by a version that did not note it.
    #[default]
    Unknown,
}

/// What the subject's own Services were sent lately, as an exporter counted it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// What Prometheus was asked.
    pub query: Redacted,
    /// Requests in a thousand seconds, and how many of them are known to have been answered with a server's error.
    pub requests_milli: u64,
    pub failed_milli: u64,
    pub at: At,
}

/// A port of a Service that leads to one on which no container says to listen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Astray {
    pub port: u32,
    /// Number or name, as the Service has it.
    pub target: Redacted,
    /// The ports that containers behind it declare, as numbers; never empty.
    pub declared: Vec<Redacted>,
    /// Whether each container behind it declares ports: one that declares none may listen anywhere.
    #[serde(default)]
    pub all_declare: bool,
}

/// A NetworkPolicy under which the subject's pods may not connect to a Service's, no other allowing it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Barred {
    /// The newest of the policies that apply.
    pub policy: ObjectRef,
    /// Whether it limits what leaves the subject's pods; else what reaches the others.
    pub egress: bool,
    /// Labels of pods that it does allow (`app=admin` each); empty: it allows none, or says it in another way.
    pub allowed: Vec<Redacted>,
    /// The newest write to it.
    pub since: Timestamp,
    pub by: Option<Redacted>,
    pub at: At,
}

/// A label that keeps pods out of a Service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NearMiss {
    pub label: Redacted,
    pub wanted: Redacted,
    pub found: Redacted,
    pub pods: u32,
    pub of: Option<ObjectRef>,
    /// One of these pods, as an object.
    pub at: At,
}

/// An Ingress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ingress {
    pub object: ObjectRef,
    pub created_at: Timestamp,
    /// `spec.ingressClassName`.
    pub class: Option<Redacted>,
    /// The class by the annotation that was there before the field: a controller may heed it without an IngressClass.
    #[serde(default)]
    pub annotated: Option<Redacted>,
    pub hosts: Vec<Redacted>,
    /// Names of the Services behind it.
    pub services: Vec<Redacted>,
    /// Those of them that do not exist, each with near names that do; empty also when Services could not be listed.
    #[serde(default)]
    pub absent: Vec<(Redacted, Vec<Redacted>)>,
    pub has_address: bool,
    pub at: At,
}

/// An IngressClass.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IngressClass {
    pub name: Redacted,
    pub default: bool,
    pub at: At,
}

/// A ConfigMap: its keys, never its values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigMap {
    pub object: ObjectRef,
    pub created_at: Timestamp,
    pub keys: Vec<Redacted>,
    pub referenced: bool,
    pub at: At,
}

/// A PersistentVolumeClaim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    pub object: ObjectRef,
    #[serde(default)]
    pub uid: String,
    /// `Bound`, `Pending`, `Lost`.
    pub phase: Redacted,
    pub storage_class: Option<Redacted>,
    pub volume: Option<Redacted>,
    pub access_modes: Vec<Redacted>,
    /// Names of the StorageClasses that exist; read only where a claim is not bound.
    #[serde(default)]
    pub classes: Option<Vec<Redacted>>,
    pub at: At,
}

/// A PersistentVolume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PersistentVolume {
    pub object: ObjectRef,
    /// `Available`, `Bound`, `Released`, `Failed`.
    pub phase: Redacted,
    /// What its storage said last, where it failed.
    pub message: Redacted,
    /// The claim that it is held for, and that one's uid: a claim of the same name may be another.
    pub claim: Option<ObjectRef>,
    pub claim_uid: String,
    /// `Retain`, `Delete`: what becomes of it once its claim is deleted.
    pub policy: Redacted,
    pub at: At,
}

/// A HorizontalPodAutoscaler of the subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Autoscaler {
    pub object: ObjectRef,
    pub min: u32,
    pub max: u32,
    pub current: u32,
    pub desired: u32,
    pub last_scaled_at: Option<Timestamp>,
    /// `cpu 187% of the requests (target 70%)` each, for metrics that have a present value.
    #[serde(default)]
    pub metrics: Vec<Redacted>,
    pub conditions: Vec<Condition>,
    pub at: At,
}

/// A PodDisruptionBudget that covers the subject's pods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    pub object: ObjectRef,
    pub disruptions_allowed: u32,
    /// Its one demand as written: `minAvailable 2`, `maxUnavailable 25%`; empty where it has none.
    #[serde(default)]
    pub demand: Redacted,
    /// The pods that it counts, those of them that are ready, and how many must be.
    #[serde(default)]
    pub expected: u32,
    #[serde(default)]
    pub healthy: u32,
    #[serde(default)]
    pub desired: u32,
    /// Whether it lets pods that are not ready go in any case (`unhealthyPodEvictionPolicy: AlwaysAllow`).
    #[serde(default)]
    pub frees_unhealthy: bool,
    /// Why its controller cannot count them, if it cannot.
    #[serde(default)]
    pub uncounted: Option<Redacted>,
    pub at: At,
}

/// A ResourceQuota: `requests.cpu` -> (used, hard).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quota {
    pub object: ObjectRef,
    pub used: BTreeMap<String, (Redacted, Redacted)>,
    pub at: At,
}

/// Another workload near the subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Neighbour {
    pub object: ObjectRef,
    pub wanted: u32,
    pub ready: u32,
    /// When its newest revision was made.
    pub rolled_out_at: Option<Timestamp>,
    pub images: Vec<Redacted>,
    /// CPU requests of its pods on the nodes in question, in milli-cores (who holds the capacity).
    pub cpu_milli: i64,
    pub at: At,
}
