//! What follows pods: the EndpointSlices and Endpoints of Services that select them, and disruption budgets.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::sim::cluster::objects::{World, name, uid, uid_of};
use crate::sim::cluster::select::chosen;
use crate::sim::cluster::template::is_ready;

/// Brings everything up to date that selects pods with these labels.
pub(crate) fn pods(world: &mut World, ns: &str, labels: &Value) {
    for service in world.all("Service", ns) {
        let selector = &service["spec"]["selector"];
        if selector.as_object().is_some_and(|map| !map.is_empty()) && chosen(&json!({"matchLabels": selector}), labels)
        {
            endpoints(world, ns, &service);
        }
    }
    for budget in world.all("PodDisruptionBudget", ns) {
        if chosen(&budget["spec"]["selector"], labels) {
            recount(world, ns, &budget);
        }
    }
}

fn endpoints(world: &mut World, ns: &str, service: &Value) {
    let selector = json!({"matchLabels": service["spec"]["selector"]});
    let mut backends = world.all("Pod", ns);
    backends.retain(|pod| {
        let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        chosen(&selector, &pod["metadata"]["labels"]) && pod["status"]["podIP"].is_string() && !ended
    });
    let mut slices = world.all("EndpointSlice", ns);
    slices.retain(|slice| {
        slice["metadata"]["labels"]["kubernetes.io/service-name"] == name(service) && slice["addressType"] != "IPv6"
    });
    if slices.is_empty() {
        slices.push(Arc::new(slice(ns, service, &backends)));
    }
    // Addresses that are there keep their place; what is new goes to the first slice.
    let listed: Vec<Value> = slices
        .iter()
        .flat_map(|s| s["endpoints"].as_array().into_iter().flatten())
        .map(|e| e["targetRef"]["uid"].clone())
        .collect();
    for (at, slice) in slices.iter().enumerate() {
        let there = slice["endpoints"].as_array().into_iter().flatten();
        let kept = there.filter_map(|e| backends.iter().find(|pod| e["targetRef"]["uid"] == uid_of(pod)));
        let new = backends.iter().filter(|pod| at == 0 && !listed.iter().any(|uid| *uid == uid_of(pod)));
        let shown: Vec<Value> = kept.chain(new).map(|pod| endpoint(ns, pod)).collect();
        let mut changed = Value::clone(slice);
        changed["endpoints"] = json!(shown);
        if let Some(key) = world.key_of("EndpointSlice", ns, name(slice))
            && (changed != **slice || world.get(&key).is_none())
        {
            world.put(key, changed);
        }
    }
    old_endpoints(world, ns, service, &backends);
}

fn endpoint(ns: &str, pod: &Value) -> Value {
    let ending = !pod["metadata"]["deletionTimestamp"].is_null();
    let serving = is_ready(pod);
    json!({"addresses": [pod["status"]["podIP"]], "nodeName": pod["spec"]["nodeName"],
        "conditions": {"ready": serving && !ending, "serving": serving, "terminating": ending},
        "targetRef": {"kind": "Pod", "namespace": ns, "name": name(pod), "uid": uid_of(pod)}})
}

fn slice(ns: &str, service: &Value, backends: &[Arc<Value>]) -> Value {
    let called = name(service);
    let ports: Vec<Value> =
        service["spec"]["ports"].as_array().into_iter().flatten().map(|p| port(p, backends)).collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": [], "ports": ports,
        "metadata": {"name": format!("{called}-sim"), "namespace": ns, "uid": uid(), "labels": {
            "kubernetes.io/service-name": called, "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": called, "uid": uid_of(service),
                "controller": true, "blockOwnerDeletion": true}]}})
}

/// A Service's port as its pods know it: a named target is looked up in their containers.
fn port(port: &Value, backends: &[Arc<Value>]) -> Value {
    let target = match &port["targetPort"] {
        Value::String(wanted) => {
            let containers = backends.iter().flat_map(|pod| pod["spec"]["containers"].as_array().into_iter().flatten());
            let mut ports = containers.flat_map(|c| c["ports"].as_array().into_iter().flatten());
            ports.find(|p| p["name"] == *wanted).map(|p| p["containerPort"].clone()).unwrap_or_default()
        }
        Value::Null => port["port"].clone(),
        number => number.clone(),
    };
    json!({"name": port["name"].as_str().unwrap_or(""), "port": target, "protocol": port["protocol"].as_str().unwrap_or("TCP")})
}

/// The older Endpoints object, where the snapshot has one.
fn old_endpoints(world: &mut World, ns: &str, service: &Value, backends: &[Arc<Value>]) {
    let Some(key) = world.key_of("Endpoints", ns, name(service)) else { return };
    let Some(before) = world.get(&key) else { return };
    let ports: Vec<Value> =
        service["spec"]["ports"].as_array().into_iter().flatten().map(|p| port(p, backends)).collect();
    let address = |pod: &Arc<Value>| {
        json!({"ip": pod["status"]["podIP"], "nodeName": pod["spec"]["nodeName"],
               "targetRef": {"kind": "Pod", "namespace": ns, "name": name(pod), "uid": uid_of(pod)}})
    };
    let living = backends.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let (ready, other): (Vec<_>, Vec<_>) = living.partition(|pod| is_ready(pod));
    let mut subset = json!({"ports": ports});
    for (field, pods) in [("addresses", ready), ("notReadyAddresses", other)] {
        if !pods.is_empty() {
            subset[field] = pods.into_iter().map(address).collect();
        }
    }
    let mut changed = Value::clone(&before);
    changed["subsets"] = json!([subset]);
    if changed != *before {
        world.put(key, changed);
    }
}

fn recount(world: &mut World, ns: &str, budget: &Value) {
    let mut covered = world.all("Pod", ns);
    covered.retain(|pod| {
        chosen(&budget["spec"]["selector"], &pod["metadata"]["labels"])
            && pod["metadata"]["deletionTimestamp"].is_null()
    });
    let healthy = covered.iter().filter(|pod| is_ready(pod)).count() as i64;
    let wanted = budget["status"]["desiredHealthy"].as_i64().unwrap_or(0);
    let mut changed = budget.clone();
    changed["status"]["currentHealthy"] = json!(healthy);
    changed["status"]["disruptionsAllowed"] = json!((healthy - wanted).max(0));
    if let Some(key) = world.key_of("PodDisruptionBudget", ns, name(budget))
        && changed != *budget
    {
        world.put(key, changed);
    }
}
