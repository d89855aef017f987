//! The scene: what code read around a subject, as typed values with their evidence. Each part may be missing.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::evidence::Evidence;
use crate::model::ids::EvidenceId;
use crate::model::object::ObjectRef;
use crate::redact::Redacted;

/// A part of the scene.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part<T> {
    Known(T),
    /// Could not be read, or not in time, with the reason. Never evidence of absence.
    Missing(Redacted),
}

impl<T> Part<T> {
    /// The value, if it was read.
    pub fn known(&self) -> Option<&T> {
        match self {
            Part::Known(value) => Some(value),
            Part::Missing(_) => None,
        }
    }

    /// Why it is missing, if it is.
    pub fn missing(&self) -> Option<&Redacted> {
        match self {
            Part::Known(_) => None,
            Part::Missing(why) => Some(why),
        }
    }
}

impl<T> Part<Vec<T>> {
    /// The items; none when the part is missing (ask `missing` before concluding absence).
    pub fn items(&self) -> &[T] {
        self.known().map_or(&[], Vec::as_slice)
    }
}

impl<T> Default for Part<T> {
    fn default() -> Self {
        Part::Missing(Redacted::literal("not read yet"))
    }
}

/// Where a value's text stands: a segment of a piece of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    pub evidence: EvidenceId,
    pub segment: u32,
}

/// The parts of a scene in their fixed order; part n is evidence `e<n>` of the incident, read or missing, so that a
/// recorded answer can cite it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ScenePart {
    Subject = 1,
    Changes,
    Pods,
    Logs,
    Events,
    Nodes,
    Network,
    Config,
    Storage,
    Limits,
    Neighbours,
}

impl ScenePart {
    /// Every part, in order.
    pub const ALL: [ScenePart; 11] = [
        ScenePart::Subject,
        ScenePart::Changes,
        ScenePart::Pods,
        ScenePart::Logs,
        ScenePart::Events,
        ScenePart::Nodes,
        ScenePart::Network,
        ScenePart::Config,
        ScenePart::Storage,
        ScenePart::Limits,
        ScenePart::Neighbours,
    ];

    /// The evidence id that this part always has.
    pub fn evidence(self) -> EvidenceId {
        EvidenceId(self as u32)
    }
}

/// What was read around `subject`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scene {
    /// What people deploy (or the node, Job, PVC, Service, Ingress) that the signals are about.
    pub subject: ObjectRef,
    pub read_at: Timestamp,
    /// The subject does not exist: names of the same kind (or namespaces) that nearly match, for a person to choose.
    pub not_found: Option<NotFound>,
    pub workload: Part<Option<Workload>>,
    /// Newest first, the running one first of all.
    pub revisions: Part<Vec<Revision>>,
    /// What changed on the subject and on what it mounts, newest first.
    pub changes: Part<Vec<Change>>,
    /// The subject's pods; for a node the pods on it; for a Service those it selects or nearly selects.
    pub pods: Part<Vec<Pod>>,
    /// Tails of the containers in trouble, current and previous.
    pub logs: Part<Vec<LogTail>>,
    /// Events of the subject, its ReplicaSets and its pods, newest first.
    pub events: Part<Vec<Event>>,
    /// The nodes of the subject's pods; all nodes when a pod cannot be scheduled or the subject is a node.
    pub nodes: Part<Vec<Node>>,
    /// Services that select the subject's pods, that the subject's environment or logs name, or that the alert names.
    pub services: Part<Vec<Service>>,
    pub ingresses: Part<Vec<Ingress>>,
    /// Names of the IngressClasses that exist.
    pub ingress_classes: Part<Vec<IngressClass>>,
    /// ConfigMaps of the namespace (keys only) that the subject references or whose names are near a missing one.
    pub config_maps: Part<Vec<ConfigMap>>,
    pub claims: Part<Vec<Claim>>,
    pub autoscalers: Part<Vec<Autoscaler>>,
    pub budgets: Part<Vec<Budget>>,
    pub quotas: Part<Vec<Quota>>,
    /// Other workloads of the namespace (or on the node), with their health: who else suffers, who does not.
    pub neighbours: Part<Vec<Neighbour>>,
    /// The texts behind all of the above, in the order of `ScenePart`.
    pub evidence: Vec<Evidence>,
}

/// The subject is not there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NotFound {
    pub namespace_exists: bool,
    /// Near names, exact matches of nothing: never acted on.
    pub near: Vec<ObjectRef>,
}

/// A workload and its state. Also a Job, CronJob, StatefulSet, DaemonSet; counts that a kind lacks are zero.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    pub object: ObjectRef,
    pub uid: String,
    pub created_at: Timestamp,
    pub generation: i64,
    pub observed_generation: i64,
    /// Pods wanted (`spec.replicas`, `desiredNumberScheduled`, a Job's `completions`).
    pub wanted: u32,
    pub ready: u32,
    pub updated: u32,
    pub available: u32,
    /// A Job's failed and succeeded pods.
    pub failed: u32,
    pub succeeded: u32,
    pub conditions: Vec<Condition>,
    /// `deployment.kubernetes.io/revision`.
    pub revision: Option<i64>,
    pub template: Template,
    pub labels: BTreeMap<String, Redacted>,
    pub selector: BTreeMap<String, Redacted>,
    pub paused: bool,
    /// A Job's or CronJob's `suspend`.
    pub suspended: bool,
    /// `Argo CD`, `Flux`: an in-cluster change would be reverted.
    pub gitops: Option<Redacted>,
    /// The field manager of the newest write to the spec, where managedFields tell.
    pub changed_by: Option<Redacted>,
    pub backoff_limit: Option<i64>,
    pub at: At,
}

/// A condition of any object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    pub kind: Redacted,
    /// `True`, `False`, `Unknown`.
    pub status: Redacted,
    pub reason: Redacted,
    pub message: Redacted,
    pub changed_at: Option<Timestamp>,
    pub heartbeat_at: Option<Timestamp>,
}

/// A pod template, as far as it can break something.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Template {
    pub labels: BTreeMap<String, Redacted>,
    pub annotations: BTreeMap<String, Redacted>,
    pub containers: Vec<Container>,
    pub volumes: Vec<Volume>,
    pub node_selector: BTreeMap<String, Redacted>,
    /// `key=value:effect` each.
    pub tolerations: Vec<Redacted>,
    /// The affinity as JSON, empty if none.
    pub affinity: Redacted,
    pub service_account: Option<Redacted>,
    pub image_pull_secrets: Vec<Redacted>,
}

/// A container of a template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Container {
    pub name: Redacted,
    pub init: bool,
    pub image: Redacted,
    pub command: Vec<Redacted>,
    pub args: Vec<Redacted>,
    /// Value, or where it comes from: `ConfigMap app-env key LEVEL`, `Secret db key password`.
    pub env: BTreeMap<String, Redacted>,
    pub env_from: Vec<Reference>,
    /// `cpu` -> `500m`, ...
    pub requests: BTreeMap<String, Redacted>,
    pub limits: BTreeMap<String, Redacted>,
    pub ports: Vec<u16>,
    /// `liveness`, `readiness`, `startup` -> the probe as JSON.
    pub probes: BTreeMap<String, Redacted>,
}

/// A volume of a template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    pub name: Redacted,
    pub source: Option<Reference>,
}

/// Something that a template refers to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// `ConfigMap`, `Secret`, `PersistentVolumeClaim`, `ServiceAccount`, or another volume type.
    pub kind: Redacted,
    pub name: Redacted,
    pub optional: bool,
}

/// One revision of the workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    pub number: i64,
    /// The ReplicaSet (or ControllerRevision).
    pub object: ObjectRef,
    pub uid: String,
    /// `pod-template-hash`.
    pub hash: String,
    pub created_at: Timestamp,
    pub wanted: u32,
    pub ready: u32,
    /// The workload's present template is this one.
    pub current: bool,
    pub template: Template,
    pub at: At,
}

/// One change of one object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub object: ObjectRef,
    pub changed_at: Timestamp,
    /// The field manager, where known.
    pub by: Option<Redacted>,
    pub from_revision: Option<i64>,
    pub to_revision: Option<i64>,
    pub lines: Vec<DiffLine>,
    pub at: At,
}

/// One difference: `image`, `env DB_POOL`, `nodeSelector disk`, ... None means absent on that side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiffLine {
    /// The container, where the template has several or the field is a container's.
    pub container: Option<Redacted>,
    pub field: Redacted,
    pub before: Option<Redacted>,
    pub after: Option<Redacted>,
}

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
    /// What the pod belongs to, resolved upward (`Deployment`, `Job`, ...).
    pub owner: Option<ObjectRef>,
    /// Sum of requests: CPU in milli-cores, memory in bytes.
    pub cpu_milli: i64,
    pub memory_bytes: i64,
    pub at: At,
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
    /// Sums over the pods on it that are not finished; None when the pods could not be listed.
    pub requested_cpu_milli: Option<i64>,
    pub requested_memory_bytes: Option<i64>,
    pub pods: Option<u32>,
    pub pods_not_ready: Option<u32>,
    pub lease_renewed_at: Option<Timestamp>,
    pub at: At,
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
    /// `port->targetPort` each.
    pub ports: Vec<Redacted>,
    pub ready_endpoints: u32,
    pub not_ready_endpoints: u32,
    pub pods_selected: u32,
    /// Pods that carry all labels of the selector but one: which label, wanted, found, of which workload.
    pub near: Vec<NearMiss>,
    /// Why this Service is in the scene: `selects the subject's pods`, `named in the log of ...`, `named by the alert`.
    pub because: Redacted,
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
}

/// An Ingress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ingress {
    pub object: ObjectRef,
    pub created_at: Timestamp,
    pub class: Option<Redacted>,
    pub hosts: Vec<Redacted>,
    /// Names of the Services behind it.
    pub services: Vec<Redacted>,
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
    /// `Bound`, `Pending`, `Lost`.
    pub phase: Redacted,
    pub storage_class: Option<Redacted>,
    pub volume: Option<Redacted>,
    pub access_modes: Vec<Redacted>,
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
    pub conditions: Vec<Condition>,
    pub at: At,
}

/// A PodDisruptionBudget that covers the subject's pods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    pub object: ObjectRef,
    pub disruptions_allowed: u32,
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
