//! Deletion and eviction: preconditions, disruption budgets, dependents.

use std::sync::Arc;

use axum::http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::sim::cluster::Cluster;
use crate::sim::cluster::admission::admit;
use crate::sim::cluster::failure::{Failure, Outcome};
use crate::sim::cluster::kinds::Kind;
use crate::sim::cluster::objects::{Key, World, name, stamp, uid_of, version};
use crate::sim::cluster::select::chosen;
use crate::sim::cluster::target::Target;
use crate::sim::cluster::write::{Write, Written, json};

/// DELETE of one object.
pub(crate) fn delete(cluster: &Cluster, write: &Write<'_>) -> Outcome<Written> {
    let Target { kind, ns, name, .. } = *write.target;
    let options = if write.call.body.is_empty() { json!({}) } else { json(&write.call.body)? };
    let dry_run = write.dry_run || options["dryRun"].as_array().is_some_and(|all| all.iter().any(|v| v == "All"));
    cluster.with(|world| {
        let key = world.key(kind, ns, name);
        let before = world.get(&key).ok_or_else(|| Failure::not_found(kind, name))?;
        preconditions(kind, &before, &options["preconditions"])?;
        let mut attempt = write.attempt("DELETE", name, &before, &Value::Null);
        attempt.dry_run = dry_run;
        admit(world, attempt)?;
        if kind.kind == "Pod" {
            let grace =
                options["gracePeriodSeconds"].as_i64().or(before["spec"]["terminationGracePeriodSeconds"].as_i64());
            let mut shown = Value::clone(&before);
            shown["metadata"]["deletionTimestamp"] = json!(stamp(write.now));
            shown["metadata"]["deletionGracePeriodSeconds"] = json!(grace.unwrap_or(30));
            if !dry_run {
                end_pod(cluster, world, &key, &before, grace != Some(0), write.now);
            }
            return Ok(Written::new(StatusCode::OK, shown));
        }
        if !dry_run {
            world.remove(&key);
            if options["propagationPolicy"] != "Orphan" {
                remove_dependents(world, &key.ns, uid_of(&before));
            }
        }
        let details = json!({"name": name, "group": kind.group, "kind": kind.plural, "uid": uid_of(&before)});
        let status =
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
        Ok(Written::new(StatusCode::OK, status))
    })
}

/// POST of `pods/eviction`: a deletion that a disruption budget may refuse for now.
pub(crate) fn evict(cluster: &Cluster, write: &Write<'_>) -> Outcome<Written> {
    let Target { kind, ns, name, .. } = *write.target;
    let eviction = json(&write.call.body)?;
    if let Some(other) = eviction["metadata"]["name"].as_str().filter(|other| *other != name) {
        return Err(Failure::bad_request(format!("name in URL does not match name in Eviction object: {other}")));
    }
    let options = &eviction["deleteOptions"];
    let dry_run = write.dry_run || options["dryRun"].as_array().is_some_and(|all| all.iter().any(|v| v == "All"));
    cluster.with(|world| {
        let key = world.key(kind, ns, name);
        let before = world.get(&key).ok_or_else(|| Failure::not_found(kind, name))?;
        // As the real server: admission's dryRun is the query's, not the body's.
        admit(world, write.attempt("CREATE", name, &Value::Null, &eviction))?;
        preconditions(kind, &before, &options["preconditions"])?;
        let ended = matches!(before["status"]["phase"].as_str(), Some("Succeeded" | "Failed" | "Pending"));
        if !ended {
            spend_budget(world, &key.ns, &before, dry_run)?;
        }
        if !dry_run {
            end_pod(cluster, world, &key, &before, options["gracePeriodSeconds"] != 0, write.now);
        }
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        Ok(Written::new(StatusCode::CREATED, status))
    })
}

fn preconditions(kind: &Kind, object: &Value, wanted: &Value) -> Outcome<()> {
    // The real server names the kind here, not the resource.
    let mut named = kind.clone();
    named.plural = kind.kind.clone();
    let own = uid_of(object);
    if let Some(uid) = wanted["uid"].as_str().filter(|uid| *uid != own) {
        let why = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({own}). \
             The object might have been deleted and then recreated"
        );
        return Err(Failure::conflict(&named, name(object), &why));
    }
    let own = version(object).to_string();
    if let Some(rv) = wanted["resourceVersion"].as_str().filter(|rv| *rv != own) {
        let why = format!(
            "the ResourceVersion in the precondition ({rv}) does not match the ResourceVersion in record ({own}). \
             The object might have been modified"
        );
        return Err(Failure::conflict(&named, name(object), &why));
    }
    Ok(())
}

/// Takes one disruption from the budget that covers the pod.
fn spend_budget(world: &mut World, ns: &str, pod: &Value, dry_run: bool) -> Outcome<()> {
    let covers = |budget: &Arc<Value>| chosen(&budget["spec"]["selector"], &pod["metadata"]["labels"]);
    let budgets: Vec<Arc<Value>> = world.all("PodDisruptionBudget", ns).into_iter().filter(covers).collect();
    let [budget] = &budgets[..] else {
        if budgets.is_empty() {
            return Ok(());
        }
        let said = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        return Err(Failure::new(500, "InternalError", said));
    };
    let left = budget["status"]["disruptionsAllowed"].as_i64().unwrap_or(0);
    if left <= 0 {
        let (wanted, has) = (&budget["status"]["desiredHealthy"], &budget["status"]["currentHealthy"]);
        let why = format!("The disruption budget {} needs {wanted} healthy pods and has {has} currently", name(budget));
        let said = "Cannot evict pod as it would violate the pod's disruption budget.";
        let cause = json!([{"reason": "DisruptionBudget", "message": why}]);
        return Err(Failure::new(429, "TooManyRequests", said).because(cause));
    }
    if !dry_run && let Some(key) = world.key_of("PodDisruptionBudget", ns, name(budget)) {
        let mut spent = Value::clone(budget);
        spent["status"]["disruptionsAllowed"] = json!(left - 1);
        world.put(key, spent);
    }
    Ok(())
}

/// Ends a pod. One whose node has no kubelet stays terminating, as in reality, unless it is forced.
fn end_pod(cluster: &Cluster, world: &mut World, key: &Key, pod: &Value, gracefully: bool, now: Timestamp) {
    let node = pod["spec"]["nodeName"].as_str().and_then(|node| world.get(&world.key_of("Node", "", node)?));
    let lost = node.is_some_and(|node| {
        let mut conditions = node["status"]["conditions"].as_array().into_iter().flatten();
        conditions.any(|c| c["type"] == "Ready" && c["status"] != "True")
    });
    if lost && gracefully {
        let mut ending = pod.clone();
        ending["metadata"]["deletionTimestamp"] = json!(stamp(now));
        world.put(key.clone(), ending);
    } else {
        world.remove(key);
        world.logs.forget(&key.ns, &key.name);
    }
    if let Some(workload) = workload_of(world, &key.ns, pod) {
        cluster.rollouts().touch(workload);
    }
}

/// The workload with a rollout that a pod belongs to: a Deployment through its ReplicaSet.
fn workload_of(world: &World, ns: &str, pod: &Value) -> Option<Key> {
    let owner = |object: &Value, kind: &str| {
        let mut owners = object["metadata"]["ownerReferences"].as_array()?.iter();
        owners.find(|o| o["kind"] == kind && o["controller"] == true)?["name"].as_str().map(str::to_owned)
    };
    for set in ["StatefulSet", "DaemonSet"] {
        if let Some(name) = owner(pod, set) {
            return world.key_of(set, ns, &name);
        }
    }
    let replicas = world.get(&world.key_of("ReplicaSet", ns, &owner(pod, "ReplicaSet")?)?)?;
    world.key_of("Deployment", ns, &owner(&replicas, "Deployment")?)
}

/// Removes what the removed object owned, and what that owned.
fn remove_dependents(world: &mut World, ns: &str, uid: &str) {
    let kinds = world.kinds.clone();
    let owned: Vec<Key> = kinds
        .all()
        .iter()
        .filter(|kind| kind.namespaced && !kind.is_new_event())
        .flat_map(|kind| world.list(kind, Some(ns)))
        .filter(|(_, object)| {
            let mut owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
            owners.any(|owner| owner["uid"] == uid)
        })
        .map(|(key, _)| key.clone())
        .collect();
    for key in owned {
        if let Some(last) = world.remove(&key) {
            world.logs.forget(&key.ns, &key.name);
            remove_dependents(world, &key.ns, uid_of(&last));
        }
    }
}
