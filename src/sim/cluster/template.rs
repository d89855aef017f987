//! Pod templates: which are the same, what their hash is, and which of them make pods that fail.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::sim::cluster::objects::{World, drop_nulls, name, namespace, suffix, uid_of};

/// The label by which a ReplicaSet tells its pods from those of its siblings.
pub(crate) const HASH_LABEL: &str = "pod-template-hash";
/// The label by which pods of StatefulSets and DaemonSets tell their revision.
pub(crate) const REVISION_LABEL: &str = "controller-revision-hash";
/// A pod that restarted so often, the last time within an hour, fails even while it happens to be ready (an OOM loop).
const RESTARTS_OF_A_LOOP: i64 = 3;
const LOOP_SECONDS: i64 = 3600;

/// A template without what differs between a Deployment and its ReplicaSet: the hash label, and fields that are null.
pub(crate) fn bare(template: &Value) -> Value {
    let mut bare = template.clone();
    if let Some(labels) = bare["metadata"]["labels"].as_object_mut() {
        labels.remove(HASH_LABEL);
    }
    drop_nulls(&mut bare);
    bare
}

/// What decides whether a template's pods work: all but the marks that restarts and approvals leave.
fn nature(template: &Value) -> Value {
    let mut nature = bare(template);
    if let Some(meta) = nature["metadata"].as_object_mut() {
        if let Some(notes) = meta.get_mut("annotations").and_then(Value::as_object_mut) {
            notes.retain(|key, _| !key.ends_with("/restartedAt") && !key.starts_with("firstlook.dev/"));
        }
        meta.retain(|_, value| value.as_object().is_none_or(|map| !map.is_empty()));
    }
    nature
}

/// A short name of a template, stable for its content.
pub(crate) fn hash(template: &Value) -> String {
    // FNV-1a, as the real controller; its exact input (Go's dump of the struct) cannot be had here.
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in bare(template).to_string().bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    suffix(hash, 10)
}

/// A template whose pods fail in the snapshot, with one of them as the pattern for those to come.
#[derive(Debug)]
pub(crate) struct Sick {
    nature: Value,
    pub(crate) pod: Arc<Value>,
    /// Its log files: name, text.
    pub(crate) logs: Vec<(String, Arc<str>)>,
    /// The newest Warning about it.
    pub(crate) warning: Option<Arc<Value>>,
}

/// The sick template that `template` is of a kind with, if any.
pub(crate) fn sickness<'a>(all: &'a [Sick], template: &Value) -> Option<&'a Sick> {
    let nature = nature(template);
    all.iter().find(|sick| sick.nature == nature)
}

/// Finds the templates of a snapshot of which no pod works; a pod on a lost node says nothing about its template.
pub(crate) fn sick_ones(world: &World, epoch: Timestamp) -> Vec<Sick> {
    let mut found = Vec::new();
    for (template, pods) in templates(world) {
        let here = pods.iter().filter(|pod| !on_lost_node(world, pod));
        let (well, ill): (Vec<_>, Vec<_>) = here.partition(|pod| is_ready(pod));
        let looping = well.iter().find(|pod| loops(pod, epoch));
        if let Some(pod) = looping.or(ill.first().filter(|_| well.is_empty())) {
            found.push(Sick {
                nature: nature(&template),
                pod: Arc::clone(pod),
                logs: world.logs.of_pod(namespace(pod), name(pod)),
                warning: newest_warning(world, pod),
            });
        }
    }
    found
}

/// Every revision's template that has pods, with them.
fn templates(world: &World) -> Vec<(Value, Vec<Arc<Value>>)> {
    let mut all = Vec::new();
    if let Some(kind) = world.kinds.by_kind("ReplicaSet") {
        let sets = world.list(kind, None);
        all.extend(sets.map(|(key, set)| (set["spec"]["template"].clone(), owned(world, "Pod", &key.ns, uid_of(set)))));
    }
    if let Some(kind) = world.kinds.by_kind("ControllerRevision") {
        for (key, revision) in world.list(kind, None) {
            let Some(owner) = revision["metadata"]["ownerReferences"][0]["uid"].as_str() else { continue };
            let mut pods = owned(world, "Pod", &key.ns, owner);
            pods.retain(|pod| pod["metadata"]["labels"][REVISION_LABEL] == *revision_of(revision));
            all.push((recorded(revision), pods));
        }
    }
    all
}

/// The template that a ControllerRevision keeps.
pub(crate) fn recorded(revision: &Value) -> Value {
    let mut template = revision["data"]["spec"]["template"].clone();
    if let Some(map) = template.as_object_mut() {
        map.remove("$patch");
    }
    template
}

/// By what the pods of a ControllerRevision are labelled: a DaemonSet's by its hash, a StatefulSet's by its name.
pub(crate) fn revision_of(revision: &Value) -> &str {
    revision["metadata"]["labels"][REVISION_LABEL].as_str().unwrap_or_else(|| name(revision))
}

/// Objects of a kind whose controller is `uid`.
pub(crate) fn owned(world: &World, kind: &str, ns: &str, uid: &str) -> Vec<Arc<Value>> {
    let mut all = world.all(kind, ns);
    all.retain(|object| {
        let mut owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        owners.any(|owner| owner["uid"] == uid && owner["controller"] == true)
    });
    all
}

pub(crate) fn is_ready(pod: &Value) -> bool {
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|c| c["type"] == "Ready" && c["status"] == "True")
}

pub(crate) fn on_lost_node(world: &World, pod: &Value) -> bool {
    let node = pod["spec"]["nodeName"].as_str().and_then(|node| world.get(&world.key_of("Node", "", node)?));
    node.is_some_and(|node| !is_ready(&node))
}

fn loops(pod: &Value, epoch: Timestamp) -> bool {
    pod["status"]["containerStatuses"].as_array().into_iter().flatten().any(|status| {
        let ended =
            status["lastState"]["terminated"]["finishedAt"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
        let recent = ended.is_some_and(|at| epoch.duration_since(at).as_secs() < LOOP_SECONDS);
        recent && status["restartCount"].as_i64().unwrap_or(0) >= RESTARTS_OF_A_LOOP
    })
}

fn newest_warning(world: &World, pod: &Value) -> Option<Arc<Value>> {
    let mut events = world.all("Event", namespace(pod));
    events.retain(|e| e["type"] == "Warning" && e["involvedObject"]["uid"] == uid_of(pod));
    let when = |event: &Value| {
        let times = [&event["lastTimestamp"], &event["series"]["lastObservedTime"], &event["eventTime"]];
        times.into_iter().find_map(Value::as_str).unwrap_or_default().to_owned()
    };
    events.into_iter().max_by_key(|event| when(event))
}
