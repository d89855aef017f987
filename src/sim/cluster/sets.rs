//! The simulated controllers of StatefulSets and DaemonSets: ControllerRevisions, and pods replaced one at a time.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::sim::cluster::objects::{Key, World, name, namespace, uid_of};
use crate::sim::cluster::replicas::{Now, START, Timers, alive, end, live};
use crate::sim::cluster::template::{
    REVISION_LABEL, Sick, bare, hash, is_ready, owned, recorded, revision_of, sickness,
};
use crate::sim::cluster::{follow, pods};

/// One step of one StatefulSet or DaemonSet; None when it is gone.
pub(crate) fn step(world: &mut World, key: &Key, timers: &mut Timers, sick: &[Sick], now: Now) -> Option<()> {
    let set = world.get(key)?;
    let revision = current(world, &set, now)?;
    let revisions = owned(world, "ControllerRevision", &key.ns, uid_of(&set));
    for pod in owned(world, "Pod", &key.ns, uid_of(&set)) {
        let own = revisions.iter().find(|one| pod["metadata"]["labels"][REVISION_LABEL] == *revision_of(one));
        let template = own.map_or_else(|| set["spec"]["template"].clone(), |one| recorded(one));
        live(world, &pod, timers, sickness(sick, &template), now);
    }
    let turn = Turn { set: &set, revision: &revision, sick: sickness(sick, &set["spec"]["template"]), now };
    let outdated = |pod: &Value| pod["metadata"]["labels"][REVISION_LABEL] != *revision_of(&revision);
    if set["kind"] == "DaemonSet" {
        turn.daemons(world, timers, outdated);
    } else {
        turn.ordinals(world, timers, outdated);
    }
    tell(world, key, &revision, outdated);
    follow::pods(world, &key.ns, &set["spec"]["template"]["metadata"]["labels"]);
    Some(())
}

/// Finds the ControllerRevision of the set's template, or creates it; going back to an old template renumbers it.
fn current(world: &mut World, set: &Value, now: Now) -> Option<Value> {
    let template = bare(&set["spec"]["template"]);
    let all = owned(world, "ControllerRevision", namespace(set), uid_of(set));
    let number = |one: &Value| one["revision"].as_i64().unwrap_or(0);
    let found = all.iter().find(|one| bare(&recorded(one)) == template);
    let highest = all.iter().filter(|one| found.is_none_or(|f| name(f) != name(one))).map(|one| number(one)).max();
    let highest = highest.unwrap_or(0);
    if let Some(found) = found {
        let mut object = Value::clone(found);
        if number(found) <= highest {
            object["revision"] = json!(highest + 1);
            let key = world.key_of("ControllerRevision", namespace(set), name(found))?;
            world.put(key, object.clone());
        }
        return Some(object);
    }
    let hash = hash(&template);
    let called = format!("{}-{hash}", name(set));
    let mut labels = template["metadata"]["labels"].clone();
    let label = if set["kind"] == "DaemonSet" { REVISION_LABEL } else { "controller.kubernetes.io/hash" };
    labels[label] = json!(hash);
    let mut kept = template;
    kept["$patch"] = json!("replace");
    let object = json!({"apiVersion": "apps/v1", "kind": "ControllerRevision",
        "metadata": {"name": called, "namespace": namespace(set), "labels": labels, "ownerReferences": [{"apiVersion": "apps/v1",
            "kind": set["kind"], "name": name(set), "uid": uid_of(set), "controller": true, "blockOwnerDeletion": true}]},
        "data": {"spec": {"template": kept}}, "revision": highest + 1});
    let key = world.key_of("ControllerRevision", namespace(set), &called)?;
    world.add(key, object.clone(), now.at);
    Some(object)
}

struct Turn<'a> {
    set: &'a Value,
    revision: &'a Value,
    sick: Option<&'a Sick>,
    now: Now,
}

impl Turn<'_> {
    /// A StatefulSet: pods are made in order and replaced from the highest number down. Unless its policy is Parallel,
    /// each waits until the one before it is ready; one that never is holds up everything, its own replacement too.
    fn ordinals(&self, world: &mut World, timers: &mut Timers, outdated: impl Fn(&Value) -> bool) {
        let ns = namespace(self.set);
        let wanted = self.set["spec"]["replicas"].as_i64().unwrap_or(1).max(0);
        let ordered = self.set["spec"]["podManagementPolicy"] != "Parallel";
        let there = |world: &World, ordinal: i64| {
            let called = format!("{}-{ordinal}", name(self.set));
            world.key_of("Pod", ns, &called).and_then(|key| Some((world.get(&key)?, key)))
        };
        for ordinal in 0..wanted {
            match there(world, ordinal) {
                None => {
                    let called = format!("{}-{ordinal}", name(self.set));
                    self.make(world, timers, &called, None);
                    if ordered {
                        return;
                    }
                }
                Some((pod, _)) if ordered && (!is_ready(&pod) || is_ending(&pod)) => return,
                Some(_) => {}
            }
        }
        let surplus = alive(world, ns, self.set).into_iter().filter(|pod| ordinal_of(pod) >= wanted);
        if let Some(pod) = surplus.max_by_key(|pod| ordinal_of(pod)) {
            if let Some(key) = world.key_of("Pod", ns, name(&pod)) {
                end(world, key, &pod, timers, self.now);
            }
            return;
        }
        let from = self.set["spec"]["updateStrategy"]["rollingUpdate"]["partition"].as_i64().unwrap_or(0);
        for ordinal in (from..wanted).rev() {
            let Some((pod, key)) = there(world, ordinal) else { return };
            if is_ending(&pod) {
                return;
            }
            if outdated(&pod) {
                return end(world, key, &pod, timers, self.now);
            }
            if !is_ready(&pod) {
                return;
            }
        }
    }

    /// A DaemonSet: a pod on each node that takes it, and one node at a time without a pod that works.
    fn daemons(&self, world: &mut World, timers: &mut Timers, outdated: impl Fn(&Value) -> bool) {
        let ns = namespace(self.set);
        let mut all = owned(world, "Pod", ns, uid_of(self.set));
        let on = |pod: &Value, node: &Value| pod["spec"]["nodeName"] == *name(node);
        for node in world.all("Node", "") {
            let takes = is_ready(&node) && fits(&node, &self.set["spec"]["template"]["spec"]);
            if takes && !all.iter().any(|pod| on(pod, &node)) {
                let called = format!("{}-{}", name(self.set), pods::suffixed());
                self.make(world, timers, &called, Some(name(&node)));
            }
        }
        all = owned(world, "Pod", ns, uid_of(self.set));
        // What does not work anyway makes room at once.
        let broken = |pod: &&Arc<Value>| outdated(pod) && !is_ready(pod) && !is_ending(pod);
        for pod in all.iter().filter(broken) {
            if let Some(key) = world.key_of("Pod", ns, name(pod)) {
                end(world, key, pod, timers, self.now);
            }
        }
        if all.iter().any(|pod| !is_ready(pod) || is_ending(pod)) {
            return;
        }
        if let Some(pod) = all.iter().find(|pod| outdated(pod))
            && let Some(key) = world.key_of("Pod", ns, name(pod))
        {
            end(world, key, pod, timers, self.now);
        }
    }

    fn make(&self, world: &mut World, timers: &mut Timers, called: &str, node: Option<&str>) {
        let mut pod = pods::made(world, self.set, node, self.sick, self.now.at);
        pod["metadata"]["name"] = json!(called);
        pod["metadata"]["labels"][REVISION_LABEL] = json!(revision_of(self.revision));
        if self.set["kind"] == "StatefulSet" {
            pod["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] = json!(called);
        }
        timers.insert(uid_of(&pod).to_owned(), self.now.instant + START);
        if let Some(key) = world.key_of("Pod", namespace(self.set), called) {
            world.add(key, pod, self.now.at);
        }
    }
}

fn is_ending(pod: &Value) -> bool {
    !pod["metadata"]["deletionTimestamp"].is_null()
}

fn ordinal_of(pod: &Value) -> i64 {
    name(pod).rsplit_once('-').and_then(|(_, ordinal)| ordinal.parse().ok()).unwrap_or(0)
}

/// Whether a node takes the pods of a template: its labels fit, and each of its taints is tolerated.
fn fits(node: &Value, spec: &Value) -> bool {
    let labels = &node["metadata"]["labels"];
    let wanted =
        spec["nodeSelector"].as_object().is_none_or(|map| map.iter().all(|(key, value)| labels[key] == *value));
    let tolerates = |taint: &Value| {
        let mut all = spec["tolerations"].as_array().into_iter().flatten();
        taint["effect"] == "PreferNoSchedule" || all.any(|one| one["key"].is_null() || one["key"] == taint["key"])
    };
    wanted && node["spec"]["taints"].as_array().into_iter().flatten().all(tolerates)
}

/// Brings the set's status up to date.
fn tell(world: &mut World, key: &Key, revision: &Value, outdated: impl Fn(&Value) -> bool) {
    let Some(object) = world.get(key) else { return };
    let pods = alive(world, &key.ns, &object);
    let ready = pods.iter().filter(|pod| is_ready(pod)).count();
    let updated = pods.iter().filter(|pod| !outdated(pod)).count();
    let mut status = object["status"].clone();
    status["observedGeneration"] = object["metadata"]["generation"].clone();
    if object["kind"] == "DaemonSet" {
        let wanted = status["desiredNumberScheduled"].as_u64().unwrap_or(0).max(pods.len() as u64);
        status["desiredNumberScheduled"] = json!(wanted);
        status["currentNumberScheduled"] = json!(pods.len());
        status["numberReady"] = json!(ready);
        status["numberAvailable"] = json!(ready);
        status["numberUnavailable"] = json!(wanted.saturating_sub(ready as u64));
        status["updatedNumberScheduled"] = json!(updated);
    } else {
        status["replicas"] = json!(pods.len());
        status["readyReplicas"] = json!(ready);
        status["availableReplicas"] = json!(ready);
        status["updatedReplicas"] = json!(updated);
        status["updateRevision"] = json!(name(revision));
        if updated == pods.len() {
            status["currentRevision"] = json!(name(revision));
        }
    }
    if object["status"] != status {
        let mut told = Value::clone(&object);
        told["status"] = status;
        world.put(key.clone(), told);
    }
}
