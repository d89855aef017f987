//! Workloads and their revisions, whichever kind makes the pods.

use serde_json::Value;

use crate::model::scene::{At, Neighbour, Revision, Workload};
use crate::model::{Kind, ObjectRef};
use crate::observe::json;
use crate::observe::typed::Typed;

/// The annotation that numbers a Deployment's revisions.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// The annotation that keeps the numbers which a revision had before.
const HISTORY: &str = "deployment.kubernetes.io/revision-history";

impl Typed<'_> {
    /// A workload (or a ReplicaSet that none of ours owns); None for objects that make no pods.
    pub fn workload(&self, value: &Value, at: At) -> Option<Workload> {
        let object = json::reference(value)?;
        if !object.kind.is_workload() && object.kind != Kind::ReplicaSet {
            return None;
        }
        let counts = counts(object.kind, value);
        let template = if object.kind == Kind::CronJob { "/spec/jobTemplate/spec/template" } else { "/spec/template" };
        Some(Workload {
            uid: json::text(value, "/metadata/uid").to_owned(),
            created_at: json::created(value),
            generation: json::number(value, "/metadata/generation").unwrap_or(0),
            observed_generation: json::number(value, "/status/observedGeneration").unwrap_or(0),
            wanted: counts.wanted,
            ready: counts.ready,
            updated: counts.updated,
            available: counts.available,
            failed: json::count(value, "/status/failed"),
            succeeded: json::count(value, "/status/succeeded"),
            conditions: self.conditions(value),
            revision: revision(value),
            template: self.template(value.pointer(template).unwrap_or(&Value::Null)),
            labels: self.map(value, "/metadata/labels"),
            selector: self.map(value, "/spec/selector/matchLabels"),
            paused: json::flag(value, "/spec/paused"),
            strategy: self
                .some_text(value, "/spec/strategy/type")
                .or_else(|| self.some_text(value, "/spec/updateStrategy/type"))
                .unwrap_or_default(),
            partition: json::count(value, "/spec/updateStrategy/rollingUpdate/partition"),
            suspended: json::flag(value, "/spec/suspend"),
            gitops: self.gitops(value),
            written_at: json::spec_written(value).map(|(at, _)| at),
            changed_by: json::spec_written(value).map(|(_, by)| self.redactor.redact(by)),
            backoff_limit: json::number(value, "/spec/backoffLimit"),
            deadline_seconds: json::number(value, "/spec/activeDeadlineSeconds")
                .or_else(|| json::number(value, "/spec/startingDeadlineSeconds")),
            last_scheduled_at: json::time(value, "/status/lastScheduleTime"),
            last_succeeded_at: json::time(value, "/status/lastSuccessfulTime"),
            cron_job: json::controller(value)
                .filter(|(kind, _, _)| *kind == "CronJob")
                .and_then(|(_, name, _)| ObjectRef::new(Kind::CronJob, Some(object.namespace()), name)),
            object,
            at,
        })
    }

    /// A revision of a workload: its ReplicaSet or ControllerRevision. `current` is for the caller to say.
    pub fn revision(&self, value: &Value, at: At) -> Option<Revision> {
        let object = json::reference(value)?;
        let of_set = object.kind == Kind::ControllerRevision;
        let (number, hash, template) = match of_set {
            true => (
                json::number(value, "/revision"),
                json::pairs(value, "/metadata/labels").find(|(key, _)| *key == "controller-revision-hash"),
                "/data/spec/template",
            ),
            false => (
                revision(value),
                json::pairs(value, "/metadata/labels").find(|(key, _)| *key == "pod-template-hash"),
                "/spec/template",
            ),
        };
        let hash = hash.and_then(|(_, hash)| hash.as_str()).unwrap_or(object.name()).to_owned();
        Some(Revision {
            number: number.unwrap_or(0),
            earlier_numbers: earlier(value),
            uid: json::text(value, "/metadata/uid").to_owned(),
            hash,
            created_at: json::created(value),
            wanted: json::count(value, "/spec/replicas"),
            ready: json::count(value, "/status/readyReplicas"),
            current: false,
            template: self.template(value.pointer(template).unwrap_or(&Value::Null)),
            object,
            at,
        })
    }

    /// Another workload, as a neighbour of the subject.
    pub fn neighbour(&self, value: &Value, at: At) -> Option<Neighbour> {
        let object = json::reference(value)?;
        let counts = counts(object.kind, value);
        let progressing = json::list(value, "/status/conditions").iter().find(|condition| {
            json::text(condition, "/type") == "Progressing" && !json::text(condition, "/reason").is_empty()
        });
        let images = json::list(value, "/spec/template/spec/containers").iter().map(|c| self.text(c, "/image"));
        Some(Neighbour {
            wanted: counts.wanted,
            // Of a Job the pods that succeeded count as well.
            ready: counts.ready + if object.kind == Kind::Job { json::count(value, "/status/succeeded") } else { 0 },
            rolled_out_at: progressing.and_then(|condition| json::time(condition, "/lastUpdateTime")),
            images: images.collect(),
            cpu_milli: 0,
            object,
            at,
        })
    }
}

/// The numbers that a ReplicaSet's revision had before, as the Deployment controller keeps them: `1,3`.
fn earlier(value: &Value) -> Vec<i64> {
    let kept = value.pointer("/metadata/annotations").and_then(|notes| notes.get(HISTORY)).and_then(Value::as_str);
    kept.unwrap_or_default().split(',').filter_map(|number| number.trim().parse().ok()).collect()
}

/// The number of a Deployment's or ReplicaSet's revision.
pub fn revision(value: &Value) -> Option<i64> {
    value.pointer("/metadata/annotations")?.get(REVISION)?.as_str()?.parse().ok()
}

struct Counts {
    wanted: u32,
    ready: u32,
    updated: u32,
    available: u32,
}

fn counts(kind: Kind, value: &Value) -> Counts {
    let count = |pointer: &str| json::count(value, pointer);
    match kind {
        Kind::DaemonSet => Counts {
            wanted: count("/status/desiredNumberScheduled"),
            ready: count("/status/numberReady"),
            updated: count("/status/updatedNumberScheduled"),
            available: count("/status/numberAvailable"),
        },
        Kind::Job => Counts {
            wanted: json::number(value, "/spec/completions").map_or(1, |n| u32::try_from(n).unwrap_or(0)),
            ready: count("/status/ready"),
            updated: 0,
            available: 0,
        },
        Kind::CronJob => Counts { wanted: 0, ready: 0, updated: 0, available: 0 },
        _ => Counts {
            wanted: json::number(value, "/spec/replicas").map_or(1, |n| u32::try_from(n).unwrap_or(0)),
            ready: count("/status/readyReplicas"),
            updated: count("/status/updatedReplicas"),
            available: count("/status/availableReplicas"),
        },
    }
}

/// `spec.selector` of a workload as the API server's label selector.
pub fn selector(value: &Value) -> Option<String> {
    let selector = value.pointer("/spec/selector")?;
    // A Service's selector is a plain map.
    let plain = selector.get("matchLabels").is_none() && selector.get("matchExpressions").is_none();
    let labels = if plain { json::pairs(selector, "") } else { json::pairs(selector, "/matchLabels") };
    let mut parts: Vec<String> = labels.filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?))).collect();
    for rule in json::list(selector, "/matchExpressions") {
        let (key, values) = (json::text(rule, "/key"), json::list(rule, "/values"));
        let values: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
        parts.push(match json::text(rule, "/operator") {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return None,
        });
    }
    (!parts.is_empty()).then(|| parts.join(","))
}

/// Whether `labels` satisfy a plain selector (a Service's); an empty one selects nothing.
pub fn selects(selector: &Value, labels: &Value) -> bool {
    let mut wanted = json::pairs(selector, "").peekable();
    wanted.peek().is_some() && wanted.all(|(key, value)| labels.get(key) == Some(value))
}

/// The owner of a ReplicaSet with this name, by the rule that a Deployment names its ReplicaSets after itself and
/// their template's hash: exact, not a guess, where the pod carries that hash.
pub fn deployment_of(pod: &Value) -> Option<ObjectRef> {
    let (kind, name, _) = json::controller(pod)?;
    let hash = pod.pointer("/metadata/labels")?.get("pod-template-hash")?.as_str()?;
    let deployment = name.strip_suffix(hash)?.strip_suffix('-')?;
    let namespace = Some(json::text(pod, "/metadata/namespace"));
    (kind == "ReplicaSet").then(|| ObjectRef::new(Kind::Deployment, namespace, deployment))?
}
