//! Checks a written object against the API's types: fields that do not exist, values of the wrong type, and a few rules.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Node, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::sim::cluster::failure::{Failure, Outcome};
use crate::sim::cluster::kinds::Kind;
use crate::sim::cluster::objects::same;
use crate::sim::cluster::select::chosen;

/// Removes fields that the kind does not have and names their paths; what `before` already held is let be (a snapshot may be of a
/// newer Kubernetes). A value of a wrong type is told in words.
pub(crate) fn prune(kind: &Kind, object: &mut Value, before: &Value) -> Result<Vec<String>, String> {
    let known = match kind.kind.as_ref() {
        "Deployment" => known::<Deployment>(object),
        "ReplicaSet" => known::<ReplicaSet>(object),
        "StatefulSet" => known::<StatefulSet>(object),
        "DaemonSet" => known::<DaemonSet>(object),
        "Pod" => known::<Pod>(object),
        "Node" => known::<Node>(object),
        "Namespace" => known::<Namespace>(object),
        "Service" => known::<Service>(object),
        "ConfigMap" => known::<ConfigMap>(object),
        "Event" if !kind.is_new_event() => known::<Event>(object),
        "Job" => known::<Job>(object),
        "CronJob" => known::<CronJob>(object),
        "PodDisruptionBudget" => known::<PodDisruptionBudget>(object),
        _ => return Ok(Vec::new()),
    }?;
    let mut unknown = Vec::new();
    strip(object, &known, before, "", &mut unknown);
    Ok(unknown)
}

/// The object with only what its type knows.
fn known<T: DeserializeOwned + Serialize>(object: &Value) -> Result<Value, String> {
    let typed: T = serde_json::from_value(object.clone()).map_err(|e| e.to_string())?;
    serde_json::to_value(typed).map_err(|e| e.to_string())
}

fn strip(object: &mut Value, known: &Value, before: &Value, path: &str, unknown: &mut Vec<String>) {
    match (object, known) {
        (Value::Object(map), Value::Object(types)) => map.retain(|key, value| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match types.get(key) {
                Some(types) => strip(value, types, &before[key], &path, unknown),
                None if value.is_null() || !before[key].is_null() => {}
                None => {
                    unknown.push(path);
                    return false;
                }
            }
            true
        }),
        (Value::Array(list), Value::Array(types)) => {
            for (at, (value, types)) in list.iter_mut().zip(types).enumerate() {
                strip(value, types, &before[at], &format!("{path}[{at}]"), unknown);
            }
        }
        _ => {}
    }
}

/// The rules of the real validation that a client here may run into.
pub(crate) fn validate(kind: &Kind, name: &str, object: &Value, before: &Value) -> Outcome<()> {
    let invalid = |reason, field: &str, why: &str| Err(Failure::invalid(kind, name, reason, field, why));
    let spec = &object["spec"];
    if let Some(replicas) = spec["replicas"].as_i64().filter(|n| *n < 0) {
        let why = format!("Invalid value: {replicas}: must be greater than or equal to 0");
        return invalid("FieldValueInvalid", "spec.replicas", &why);
    }
    if !matches!(kind.kind.as_ref(), "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet") {
        return Ok(());
    }
    if before.is_object() && !same(&before["spec"]["selector"], &spec["selector"]) {
        let why = format!("Invalid value: {}: field is immutable", spec["selector"]);
        return invalid("FieldValueInvalid", "spec.selector", &why);
    }
    let labels = &spec["template"]["metadata"]["labels"];
    if !chosen(&spec["selector"], labels) {
        let why = format!("Invalid value: {labels}: `selector` does not match template `labels`");
        return invalid("FieldValueInvalid", "spec.template.metadata.labels", &why);
    }
    let containers = spec["template"]["spec"]["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
    if containers.is_empty() {
        return invalid("FieldValueRequired", "spec.template.spec.containers", "Required value");
    }
    for (at, container) in containers.iter().enumerate() {
        for field in ["name", "image"] {
            if container[field].as_str().is_none_or(str::is_empty) {
                let field = format!("spec.template.spec.containers[{at}].{field}");
                return invalid("FieldValueRequired", &field, "Required value");
            }
        }
    }
    Ok(())
}
