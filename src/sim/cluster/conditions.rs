//! A Deployment's status: its counts and the conditions Available and Progressing.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::sim::cluster::objects::{Key, World, stamp};
use crate::sim::cluster::replicas::Replicas;
use crate::sim::cluster::rollout::bounds;

/// Brings the status up to date; says whether the rollout is complete.
pub(crate) fn tell(
    world: &mut World,
    key: &Key,
    all: &[Replicas],
    new: Option<&Key>,
    late: bool,
    at: Timestamp,
) -> bool {
    let Some(object) = world.get(key) else { return true };
    let wanted = object["spec"]["replicas"].as_i64().unwrap_or(1);
    let pods: i64 = all.iter().map(|r| r.pods.len() as i64).sum();
    let available: i64 = all.iter().map(Replicas::available).sum();
    let asked: i64 = all.iter().map(Replicas::wanted).sum();
    let updated = all.iter().find(|r| new == Some(&r.key)).map_or(0, |r| r.pods.len() as i64);
    let complete = updated == wanted && pods == wanted && available == wanted;

    let mut status = object["status"].clone();
    if !status.is_object() {
        status = json!({});
    }
    status["observedGeneration"] = object["metadata"]["generation"].clone();
    let counts = [
        ("replicas", pods),
        ("updatedReplicas", updated),
        ("readyReplicas", available),
        ("availableReplicas", available),
        ("unavailableReplicas", asked - available),
    ];
    for (field, count) in counts {
        match status.as_object_mut() {
            Some(status) if count <= 0 => drop(status.remove(field)),
            _ => status[field] = json!(count),
        }
    }
    let called = new.map(|key| key.name.as_str()).unwrap_or_default();
    let mut conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    for (kind, state, reason, message) in [enough(&object, wanted, available), moving(&object, complete, late, called)]
    {
        let mut condition = json!({"type": kind, "status": state, "reason": reason, "message": message,
                                   "lastUpdateTime": stamp(at), "lastTransitionTime": stamp(at)});
        match conditions.iter_mut().find(|c| c["type"] == kind) {
            Some(old) if old["status"] == state && old["reason"] == reason && old["message"] == message => {}
            Some(old) => {
                if old["status"] == state {
                    condition["lastTransitionTime"] = old["lastTransitionTime"].clone();
                }
                *old = condition;
            }
            None => conditions.push(condition),
        }
    }
    status["conditions"] = json!(conditions);
    if object["status"] != status {
        let mut told = Value::clone(&object);
        told["status"] = status;
        world.put(key.clone(), told);
    }
    complete
}

type Condition = (&'static str, &'static str, &'static str, String);

fn enough(deployment: &Value, wanted: i64, available: i64) -> Condition {
    let (_, unavailable) = bounds(deployment, wanted);
    match available >= wanted - unavailable {
        true => ("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.".into()),
        false => (
            "Available",
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.".into(),
        ),
    }
}

fn moving(deployment: &Value, complete: bool, late: bool, new: &str) -> Condition {
    let kind = "Progressing";
    if deployment["spec"]["paused"] == true {
        (kind, "Unknown", "DeploymentPaused", "Deployment is paused".into())
    } else if complete {
        (kind, "True", "NewReplicaSetAvailable", format!("ReplicaSet \"{new}\" has successfully progressed."))
    } else if late {
        (kind, "False", "ProgressDeadlineExceeded", format!("ReplicaSet \"{new}\" has timed out progressing."))
    } else {
        (kind, "True", "ReplicaSetUpdated", format!("ReplicaSet \"{new}\" is progressing."))
    }
}
