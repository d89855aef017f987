//! ReplicaSets and their pods: creates and ends pods until there are as many as wanted, and moves each along its life.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::sim::cluster::events::{Said, echo, record};
use crate::sim::cluster::objects::{Key, World, name, stamp, uid_of};
use crate::sim::cluster::template::{Sick, is_ready, on_lost_node, owned, sickness};
use crate::sim::cluster::{objects, pods};

/// From a pod's creation to its being ready, or failing.
pub(crate) const START: Duration = Duration::from_secs(2);
/// From a pod's deletion to its being gone.
const END: Duration = Duration::from_millis(300);

/// What the controllers remember between two steps: when something is next to happen to a pod, by uid.
pub(crate) type Timers = HashMap<String, Instant>;

/// The time of one step: what objects record, and what timers run by.
#[derive(Clone, Copy)]
pub(crate) struct Now {
    pub(crate) at: Timestamp,
    pub(crate) instant: Instant,
}

/// A ReplicaSet and the pods that it has.
#[derive(Clone)]
pub(crate) struct Replicas {
    pub(crate) key: Key,
    pub(crate) object: Arc<Value>,
    /// Not being deleted.
    pub(crate) pods: Vec<Arc<Value>>,
}

impl Replicas {
    /// The ReplicaSets of a Deployment, eldest first.
    pub(crate) fn of(world: &World, deployment: &Value) -> Vec<Self> {
        let ns = objects::namespace(deployment);
        let mut all: Vec<Self> = owned(world, "ReplicaSet", ns, uid_of(deployment))
            .into_iter()
            .filter_map(|object| {
                let key = world.key_of("ReplicaSet", ns, name(&object))?;
                Some(Self { key, pods: alive(world, ns, &object), object })
            })
            .collect();
        let age =
            |r: &Self| (r.object["metadata"]["creationTimestamp"].as_str().map(str::to_owned), r.key.name.clone());
        all.sort_by_key(age);
        all
    }

    pub(crate) fn wanted(&self) -> i64 {
        self.object["spec"]["replicas"].as_i64().unwrap_or(1)
    }

    pub(crate) fn available(&self) -> i64 {
        self.pods.iter().filter(|pod| is_ready(pod)).count() as i64
    }
}

pub(crate) fn alive(world: &World, ns: &str, replicas: &Value) -> Vec<Arc<Value>> {
    let mut pods = owned(world, "Pod", ns, uid_of(replicas));
    pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    pods
}

/// One step for one ReplicaSet.
pub(crate) fn step(world: &mut World, key: &Key, timers: &mut Timers, sick: &[Sick], now: Now) {
    let Some(object) = world.get(key) else { return };
    let sick = sickness(sick, &object["spec"]["template"]);
    for pod in owned(world, "Pod", &key.ns, uid_of(&object)) {
        live(world, &pod, timers, sick, now);
    }
    let mut pods = alive(world, &key.ns, &object);
    let wanted = object["spec"]["replicas"].as_i64().unwrap_or(1).max(0) as usize;
    for _ in pods.len()..wanted {
        let pod = pods::made(world, &object, None, sick, now.at);
        timers.insert(uid_of(&pod).to_owned(), now.instant + START);
        let called = name(&pod).to_owned();
        if let Some(key) = world.key_of("Pod", &key.ns, &called) {
            world.add(key, pod, now.at);
        }
        say(world, &object, "SuccessfulCreate", &format!("Created pod: {called}"), now.at);
    }
    // As the real one chooses: what is not ready goes first, then the youngest.
    pods.sort_by_key(|pod| {
        (is_ready(pod), std::cmp::Reverse(pod["metadata"]["creationTimestamp"].as_str().map(str::to_owned)))
    });
    let surplus = pods.len().saturating_sub(wanted);
    for pod in pods.into_iter().take(surplus) {
        let called = name(&pod).to_owned();
        let Some(pod_key) = world.key_of("Pod", &key.ns, &called) else { continue };
        end(world, pod_key, &pod, timers, now);
        say(world, &object, "SuccessfulDelete", &format!("Deleted pod: {called}"), now.at);
    }
    tell(world, key);
}

/// Begins the end of a pod, which is gone after its grace period.
pub(crate) fn end(world: &mut World, key: Key, pod: &Value, timers: &mut Timers, now: Now) {
    let mut ending = pod.clone();
    ending["metadata"]["deletionTimestamp"] = json!(stamp(now.at));
    ending["metadata"]["deletionGracePeriodSeconds"] = json!(30);
    timers.insert(uid_of(pod).to_owned(), now.instant + END);
    world.put(key, ending);
}

fn say(world: &mut World, replicas: &Value, reason: &str, message: &str, at: Timestamp) {
    record(world, replicas, &Said { kind: "Normal", reason, message, component: "replicaset-controller" }, at);
}

/// Moves one pod along: a deleted one goes, a young one becomes ready or shows its template's failure.
pub(crate) fn live(world: &mut World, pod: &Arc<Value>, timers: &mut Timers, sick: Option<&Sick>, now: Now) {
    let (ns, uid) = (objects::namespace(pod), uid_of(pod).to_owned());
    let Some(key) = world.key_of("Pod", ns, name(pod)) else { return };
    let ending = !pod["metadata"]["deletionTimestamp"].is_null();
    let young = pod["status"]["phase"] == "Pending" && pod["status"]["containerStatuses"].is_null();
    let Some(due) = timers.get(&uid).copied() else {
        // A server that was stopped and serves again has no timers left.
        if ending && !on_lost_node(world, pod) {
            timers.insert(uid, now.instant + END);
        } else if young && !ending && sick.is_none() && !pod["spec"]["nodeName"].is_null() {
            timers.insert(uid, now.instant + START);
        }
        return;
    };
    if now.instant < due {
        return;
    }
    timers.remove(&uid);
    if ending {
        world.remove(&key);
        world.logs.forget(ns, name(pod));
        return;
    }
    match sick {
        None => {
            let ready = pods::ready(world, pod, now.at);
            for container in ready["spec"]["containers"].as_array().into_iter().flatten() {
                let file = format!("{}.log", container["name"].as_str().unwrap_or_default());
                world.logs.put(ns, name(pod), &file, "".into());
            }
            world.put(key, ready);
        }
        Some(sick) => {
            let failing = pods::failing(world, pod, sick, now.at);
            for (file, text) in &sick.logs {
                world.logs.put(ns, name(pod), file, text.clone());
            }
            let failing = world.put(key, failing);
            if let Some(warning) = &sick.warning {
                echo(world, warning, &sick.pod, &failing, now.at);
            }
        }
    }
}

/// Brings a ReplicaSet's status up to date.
fn tell(world: &mut World, key: &Key) {
    let Some(object) = world.get(key) else { return };
    let pods = alive(world, &key.ns, &object);
    let ready = pods.iter().filter(|pod| is_ready(pod)).count();
    let mut status = json!({"replicas": pods.len(), "observedGeneration": object["metadata"]["generation"]});
    for (field, count) in [("fullyLabeledReplicas", pods.len()), ("readyReplicas", ready), ("availableReplicas", ready)]
    {
        if count > 0 {
            status[field] = json!(count);
        }
    }
    if object["status"] != status {
        let mut told = Value::clone(&object);
        told["status"] = status;
        world.put(key.clone(), told);
    }
}
