//! Writes.

use axum::body::Bytes;
use axum::response::Response;
use serde_json::{Value, json};

use crate::sim::cluster::Cluster;
use crate::sim::cluster::failure::{Failure, Outcome};
use crate::sim::cluster::kinds::{Kind, SCALE};
use crate::sim::cluster::serve::Call;
use crate::sim::cluster::target::Target;

pub(crate) fn answer(_cluster: &Cluster, _call: &Call<'_>, _target: &Target<'_>) -> Outcome<Response> {
    Err(Failure::method())
}

/// A body as JSON.
pub(crate) fn json(body: &Bytes) -> Outcome<Value> {
    serde_json::from_slice(body).map_err(|e| Failure::bad_request(format!("error decoding body: {e}")))
}

/// The `scale` subresource of a workload.
pub(crate) fn scale_of(kind: &Kind, object: &Value) -> Outcome<Value> {
    if !kind.has(SCALE) {
        return Err(Failure::no_such_resource());
    }
    let meta = &object["metadata"];
    let labels = object["spec"]["selector"]["matchLabels"].as_object().into_iter().flatten();
    let selector: Vec<String> = labels.map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
    Ok(json!({"kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {"name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"],
            "resourceVersion": meta["resourceVersion"], "creationTimestamp": meta["creationTimestamp"]},
        "spec": {"replicas": object["spec"]["replicas"].as_u64().unwrap_or(1)},
        "status": {"replicas": object["status"]["replicas"].as_u64().unwrap_or(0), "selector": selector.join(",")}}))
}
