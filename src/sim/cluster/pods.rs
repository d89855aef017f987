//! The lives of pods that the simulated controllers make: created, then ready or failing as their template does.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::sim::cluster::objects::{World, name, namespace, random, stamp, suffix, uid, uid_of};
use crate::sim::cluster::template::{Sick, is_ready};

/// A new pod of the template of `owner` (a ReplicaSet or another that makes pods), scheduled but not yet started: to
/// `node`, where one is given.
pub(crate) fn made(world: &World, owned_by: &Value, node: Option<&str>, sick: Option<&Sick>, at: Timestamp) -> Value {
    let (ns, owner) = (namespace(owned_by), name(owned_by));
    let template = &owned_by["spec"]["template"];
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {
            "name": format!("{owner}-{}", suffixed()), "generateName": format!("{owner}-"), "namespace": ns,
            "uid": uid(), "creationTimestamp": stamp(at), "labels": template["metadata"]["labels"],
            "ownerReferences": [{"apiVersion": owned_by["apiVersion"], "kind": owned_by["kind"], "name": owner,
                "uid": uid_of(owned_by), "controller": true, "blockOwnerDeletion": true}]},
        "spec": template["spec"]});
    if template["metadata"]["annotations"].is_object() {
        pod["metadata"]["annotations"] = template["metadata"]["annotations"].clone();
    }
    let spec = &mut pod["spec"];
    for (field, value) in [("serviceAccountName", "default"), ("serviceAccount", "default")] {
        if spec[field].is_null() {
            spec[field] = json!(value);
        }
    }
    let wait = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    let mut tolerations = spec["tolerations"].as_array().cloned().unwrap_or_default();
    tolerations.extend([wait("node.kubernetes.io/not-ready"), wait("node.kubernetes.io/unreachable")]);
    spec["tolerations"] = json!(tolerations);
    let unschedulable = sick.is_some_and(|sick| sick.pod["spec"]["nodeName"].is_null());
    let mut conditions = Vec::new();
    if !unschedulable {
        spec["nodeName"] = json!(node.map_or_else(|| node_for(world, ns, spec), str::to_owned));
        conditions.push(condition("PodScheduled", true, at));
    }
    let limited = spec["containers"].as_array().into_iter().flatten().any(|c| {
        let asked = |what: &str| c["resources"][what].as_object().is_some_and(|map| !map.is_empty());
        asked("requests") || asked("limits")
    });
    let class = if limited { "Burstable" } else { "BestEffort" };
    pod["status"] = json!({"phase": "Pending", "conditions": conditions, "qosClass": class});
    pod
}

/// Five characters that tell a pod from its siblings.
pub(crate) fn suffixed() -> String {
    suffix(random(), 5)
}

/// The pod with all its containers running and ready.
pub(crate) fn ready(world: &World, pod: &Value, at: Timestamp) -> Value {
    let mut pod = pod.clone();
    let (node, time) = (pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned(), stamp(at));
    let (host, ip) = (host_ip(world, &node), pod_ip(world, &node));
    let container = |c: &Value, state: Value, is_ready: bool| {
        let image = c["image"].as_str().unwrap_or_default();
        json!({"name": c["name"], "image": image, "imageID": format!("{image}@simulated"), "ready": is_ready, "started": is_ready,
               "restartCount": 0, "state": state, "lastState": {}, "containerID": format!("containerd://{}", uid())})
    };
    let done = json!({"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": time, "finishedAt": time}});
    let list = |field: &str, state: Value, is_ready: bool| -> Vec<Value> {
        let all = pod["spec"][field].as_array().into_iter().flatten();
        all.map(|c| container(c, state.clone(), is_ready)).collect()
    };
    let plain = list("containers", json!({"running": {"startedAt": time}}), true);
    let init = list("initContainers", done, true);
    let types = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
    let status = &mut pod["status"];
    status["phase"] = json!("Running");
    status["conditions"] = json!(types.map(|kind| condition(kind, true, at)));
    status["containerStatuses"] = json!(plain);
    if !init.is_empty() {
        status["initContainerStatuses"] = json!(init);
    }
    status["startTime"] = json!(time);
    (status["hostIP"], status["hostIPs"]) = (json!(host), json!([{"ip": host}]));
    (status["podIP"], status["podIPs"]) = (json!(ip), json!([{"ip": ip}]));
    pod
}

/// The pod in the state in which the pattern of its template was in the snapshot, all its times set to now.
pub(crate) fn failing(world: &World, pod: &Value, sick: &Sick, at: Timestamp) -> Value {
    // Messages of the kubelet name the pod and its uid.
    let text = sick.pod["status"].to_string();
    let text = text.replace(name(&sick.pod), name(pod)).replace(uid_of(&sick.pod), uid_of(pod));
    let mut status: Value = serde_json::from_str(&text).unwrap_or_default();
    set_times(&mut status, &stamp(at));
    if status["podIP"].is_string() {
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        let (host, ip) = (host_ip(world, node), pod_ip(world, node));
        (status["hostIP"], status["hostIPs"]) = (json!(host), json!([{"ip": host}]));
        (status["podIP"], status["podIPs"]) = (json!(ip), json!([{"ip": ip}]));
    }
    for list in ["containerStatuses", "initContainerStatuses"] {
        for container in status[list].as_array_mut().into_iter().flatten() {
            // It is young: one restart shows that it fails.
            container["restartCount"] = json!(container["restartCount"].as_i64().unwrap_or(0).min(1));
        }
    }
    let mut pod = pod.clone();
    pod["status"] = status;
    pod
}

fn set_times(value: &mut Value, time: &str) {
    match value {
        Value::Object(map) => {
            for (field, inner) in map.iter_mut() {
                let instant = field.ends_with("Time") || field.ends_with("At");
                match inner {
                    Value::String(text) if instant => *text = time.to_owned(),
                    _ => set_times(inner, time),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| set_times(inner, time)),
        _ => {}
    }
}

fn condition(kind: &str, is: bool, at: Timestamp) -> Value {
    let status = if is { "True" } else { "False" };
    json!({"type": kind, "status": status, "lastProbeTime": null, "lastTransitionTime": stamp(at)})
}

/// The ready, untainted node that fits the selector and has the fewest pods of the namespace.
fn node_for(world: &World, ns: &str, spec: &Value) -> String {
    let pods = world.all("Pod", ns);
    let wanted =
        |labels: &Value| spec["nodeSelector"].as_object().is_none_or(|m| m.iter().all(|(k, v)| labels[k] == *v));
    let tainted = |node: &Value| {
        let mut taints = node["spec"]["taints"].as_array().into_iter().flatten();
        taints.any(|t| t["effect"] != "PreferNoSchedule")
    };
    let mut nodes = world.all("Node", "");
    nodes.retain(|node| {
        is_ready(node) && !tainted(node) && node["spec"]["unschedulable"] != true && wanted(&node["metadata"]["labels"])
    });
    let load = |node: &Value| pods.iter().filter(|pod| pod["spec"]["nodeName"] == node["metadata"]["name"]).count();
    let best = nodes.iter().min_by_key(|node| load(node)).map(|node| name(node).to_owned());
    best.unwrap_or_else(|| "simulated-node".to_owned())
}

fn host_ip(world: &World, node: &str) -> String {
    let node = world.key_of("Node", "", node).and_then(|key| world.get(&key));
    let found = node.as_ref().and_then(|node| {
        let mut addresses = node["status"]["addresses"].as_array()?.iter();
        addresses.find(|a| a["type"] == "InternalIP")?["address"].as_str()
    });
    found.unwrap_or("192.0.2.1").to_owned()
}

/// A free address of the node's pod network.
fn pod_ip(world: &World, node: &str) -> String {
    let node = world.key_of("Node", "", node).and_then(|key| world.get(&key));
    let network = node.as_ref().and_then(|node| node["spec"]["podCIDR"].as_str()).unwrap_or("10.244.0.0/24");
    let prefix = network.rsplit_once('.').map(|(prefix, _)| prefix).unwrap_or("10.244.0");
    let Some(kind) = world.kinds.by_kind("Pod") else { return format!("{prefix}.2") };
    let taken: BTreeSet<String> =
        world.list(kind, None).filter_map(|(_, pod)| pod["status"]["podIP"].as_str()).map(str::to_owned).collect();
    let mut free = (2..255).map(|n| format!("{prefix}.{n}")).filter(|ip| !taken.contains(ip));
    free.next().unwrap_or_else(|| format!("{prefix}.254"))
}
