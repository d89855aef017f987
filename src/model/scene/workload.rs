//! A workload of the scene: its template, its revisions and what changed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::object::ObjectRef;
use crate::model::scene::At;
use crate::redact::Redacted;
use crate::text;

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
    /// `RollingUpdate`, `Recreate`, `OnDelete`; empty where the kind has none.
    #[serde(default)]
    pub strategy: Redacted,
    /// Pods of a StatefulSet that a rollout leaves as they are (`partition`).
    #[serde(default)]
    pub partition: u32,
    /// A Job's or CronJob's `suspend`.
    pub suspended: bool,
    /// `Argo CD`, `Flux`: an in-cluster change would be reverted.
    pub gitops: Option<Redacted>,
    /// The field manager of the newest write to the spec and when that was, where managedFields tell.
    pub changed_by: Option<Redacted>,
    #[serde(default)]
    pub written_at: Option<Timestamp>,
    pub backoff_limit: Option<i64>,
    /// A Job's `activeDeadlineSeconds`, a CronJob's `startingDeadlineSeconds`.
    #[serde(default)]
    pub deadline_seconds: Option<i64>,
    /// A CronJob's `lastScheduleTime` and `lastSuccessfulTime`.
    #[serde(default)]
    pub last_scheduled_at: Option<Timestamp>,
    #[serde(default)]
    pub last_succeeded_at: Option<Timestamp>,
    /// The CronJob that made this Job.
    #[serde(default)]
    pub cron_job: Option<ObjectRef>,
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
    /// `key=value:effect`, or `key:effect op=Exists` where any value will do; the key is `*` where any will.
    pub tolerations: Vec<Redacted>,
    /// The affinity as JSON, empty if none.
    pub affinity: Redacted,
    pub service_account: Option<Redacted>,
    pub image_pull_secrets: Vec<Redacted>,
    /// Every other value under its path: `hostNetwork`, `volumes[conf].configMap.items[0].path`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rest: BTreeMap<String, Redacted>,
}

impl Template {
    /// Names of the ConfigMaps that the pods read, each with whether it may be absent.
    pub fn config_maps(&self) -> BTreeMap<&str, bool> {
        let volumes = self.volumes.iter().filter_map(|volume| volume.source.as_ref());
        let containers = self.containers.iter();
        let from = containers.flat_map(|container| container.env_from.iter().chain(container.env_keys.values()));
        let mut names: BTreeMap<&str, bool> = BTreeMap::new();
        for reference in volumes.chain(from).filter(|reference| reference.kind.as_str() == "ConfigMap") {
            *names.entry(reference.name.as_str()).or_insert(true) &= reference.optional;
        }
        names
    }
}

/// A container of a template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Container {
    pub name: Redacted,
    pub init: bool,
    pub image: Redacted,
    pub command: Vec<Redacted>,
    pub args: Vec<Redacted>,
    /// Value, or in words where it comes from: `ConfigMap app-env key LEVEL`, `Secret db key password`.
    pub env: BTreeMap<String, Redacted>,
    /// The objects that these variables take their value from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env_keys: BTreeMap<String, Reference>,
    pub env_from: Vec<Reference>,
    /// `cpu` -> `500m`, ...
    pub requests: BTreeMap<String, Redacted>,
    pub limits: BTreeMap<String, Redacted>,
    pub ports: Vec<u16>,
    /// `liveness`, `readiness`, `startup` -> the probe as JSON.
    pub probes: BTreeMap<String, Redacted>,
    /// Every other value under its path: `securityContext.runAsNonRoot`, `volumeMounts[/etc/app].subPath`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rest: BTreeMap<String, Redacted>,
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
    /// What stands before each key in the names of the variables (`envFrom` alone).
    #[serde(default, skip_serializing_if = "Redacted::is_empty")]
    pub prefix: Redacted,
}

/// One revision of the workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    pub number: i64,
    /// The numbers it had before: going back to a Deployment's earlier template renumbers it.
    #[serde(default)]
    pub earlier_numbers: Vec<i64>,
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

impl Change {
    /// As lines of a diff, for evidence: every value on it is the object's own.
    pub fn as_text(&self) -> Redacted {
        let mut lines = vec![match (self.from_revision, self.to_revision) {
            (Some(from), Some(to)) => text!("revision {} -> {}, {}", from, to, self.changed_at),
            (None, Some(to)) => text!("revision {}, the first, {}", to, self.changed_at),
            _ => text!("{} changed {}", self.object, self.changed_at),
        }];
        for line in &self.lines {
            let field = match &line.container {
                Some(container) => text!("{} {}", container, line.field),
                None => line.field.clone(),
            };
            lines.extend(line.before.as_ref().map(|before| text!("- {}: {}", field, before)));
            lines.extend(line.after.as_ref().map(|after| text!("+ {}: {}", field, after)));
        }
        Redacted::join(&lines, "\n")
    }
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
