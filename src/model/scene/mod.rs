//! The scene: what code read around a subject, as typed values with their evidence. Each part may be missing.

pub mod around;
pub mod pod;
pub mod workload;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::evidence::Evidence;
use crate::model::ids::EvidenceId;
use crate::model::object::ObjectRef;
use crate::redact::Redacted;

pub use around::*;
pub use pod::*;
pub use workload::*;

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
    /// What is measured of the first of them; none where no exporter that is known measures them.
    #[serde(default)]
    pub figures: Part<Vec<Figure>>,
    /// Services that select the subject's pods, that the subject's environment or logs name, or that the alert names.
    pub services: Part<Vec<Service>>,
    pub ingresses: Part<Vec<Ingress>>,
    /// None: no exporter that is known counts what the subject's Services are sent.
    #[serde(default)]
    pub traffic: Part<Option<Traffic>>,
    /// Names of the IngressClasses that exist.
    pub ingress_classes: Part<Vec<IngressClass>>,
    /// ConfigMaps of the namespace (keys only) that the subject references or whose names are near a missing one.
    pub config_maps: Part<Vec<ConfigMap>>,
    pub claims: Part<Vec<Claim>>,
    /// PersistentVolumes that claims which are not bound ask for, or that are held for a claim of that name; the subject.
    #[serde(default)]
    pub volumes: Part<Vec<PersistentVolume>>,
    pub autoscalers: Part<Vec<Autoscaler>>,
    pub budgets: Part<Vec<Budget>>,
    pub quotas: Part<Vec<Quota>>,
    /// Other workloads of the namespace (or on the node), with their health: who else suffers, who does not.
    pub neighbours: Part<Vec<Neighbour>>,
    /// The texts behind all of the above, in the order of `ScenePart`.
    pub evidence: Vec<Evidence>,
}

impl Scene {
    /// A scene of which no part was read, for this reason, and without evidence.
    pub fn unread(subject: ObjectRef, read_at: Timestamp, why: &Redacted) -> Self {
        fn missing<T>(why: &Redacted) -> Part<T> {
            Part::Missing(why.clone())
        }
        Self {
            subject,
            read_at,
            not_found: None,
            workload: missing(why),
            revisions: missing(why),
            changes: missing(why),
            pods: missing(why),
            logs: missing(why),
            events: missing(why),
            nodes: missing(why),
            figures: missing(why),
            services: missing(why),
            ingresses: missing(why),
            traffic: missing(why),
            ingress_classes: missing(why),
            config_maps: missing(why),
            claims: missing(why),
            volumes: missing(why),
            autoscalers: missing(why),
            budgets: missing(why),
            quotas: missing(why),
            neighbours: missing(why),
            evidence: Vec::new(),
        }
    }
}

/// The subject is not there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NotFound {
    pub namespace_exists: bool,
    /// Near names, exact matches of nothing: never acted on.
    pub near: Vec<ObjectRef>,
}
