//! The checks of what runs a Job again or ends a pod: nothing that is at work is lost, and somebody makes it anew.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::mcp::answer::ToolError;
use crate::mcp::arguments;
use crate::mcp::arguments::{Named, NodeName, Run};
use crate::mcp::checked;
use crate::mcp::checked::{Checked, proposal, refuse};
use crate::model::{Action, Kind, Moved, Name, ObjectRef};
use crate::observe::reader::Selector;
use crate::observe::typed::workload::deployment_of;
use crate::observe::{Reader, json};
use crate::text;

/// A kubelet runs 110 pods unless somebody raised that.
const PODS_MAX: usize = 250;

/// A Job that has ended, or a CronJob, once more.
pub(super) async fn rerun(reader: &Reader, ask: &Run) -> Result<Checked, ToolError> {
    let object = arguments::object(reader.redactor(), &ask.kind, Some(&ask.namespace), &ask.name)?;
    let value = checked::object(reader, &object).await?;
    match object.kind {
        Kind::Job if !has_ended(&value) => {
            return refuse(text!("{} is under way: a second run beside it could spoil its work", object));
        }
        Kind::CronJob if !json::list(&value, "/status/active").is_empty() && forbids(&value) => {
            return refuse(text!("a run of {} is under way, and it allows only one (concurrencyPolicy)", object));
        }
        Kind::Job | Kind::CronJob => {}
        kind => return refuse(text!("{} is a {}: only Jobs and CronJobs run once more", object, kind)),
    }
    proposal(reader, &value, Action::RerunJob { object }).await
}

/// Replace would end the run that is under way.
fn forbids(cron_job: &Value) -> bool {
    matches!(json::text(cron_job, "/spec/concurrencyPolicy"), "Forbid" | "Replace")
}

fn has_ended(job: &Value) -> bool {
    let ended = |condition: &Value| {
        matches!(json::text(condition, "/type"), "Complete" | "Failed") && json::text(condition, "/status") == "True"
    };
    json::list(job, "/status/conditions").iter().any(ended)
}

/// The eviction of one pod whose owner makes another.
pub(super) async fn delete_pod(reader: &Reader, ask: &Named) -> Result<Checked, ToolError> {
    let object = arguments::object(reader.redactor(), Kind::Pod.as_str(), Some(&ask.namespace), &ask.name)?;
    let value = checked::object(reader, &object).await?;
    if value.pointer("/metadata/annotations").is_some_and(|notes| notes.get("kubernetes.io/config.mirror").is_some()) {
        return refuse(text!("{} belongs to its node's kubelet, which no eviction reaches", object));
    }
    let owner = owner(&value, &object)?;
    let Some(owning) = reader.get(&owner).await? else {
        return refuse(text!("{} belongs to {}, which is gone: nobody would make another", object, owner));
    };
    let uid = json::text(&value, "/metadata/uid").to_owned();
    // Whoever protects the workload protects its pods.
    let mut labels = checked::labels(reader, &object, &value);
    labels.extend(checked::labels(reader, &owner, &owning));
    Ok(Checked::Proposal { action: Action::DeletePod { object, uid, owner }, labels, also: Vec::new() })
}

/// A node without new pods, and the eviction of each pod that somebody makes again elsewhere.
pub(super) async fn drain(reader: &Reader, ask: &NodeName) -> Result<Checked, ToolError> {
    let object = arguments::object(reader.redactor(), Kind::Node.as_str(), None, &ask.name)?;
    let value = checked::object(reader, &object).await?;
    let on_node = Selector::fields(format!("spec.nodeName={}", object.name())).at_most(PODS_MAX + 1);
    let here = reader.list(Kind::Pod, None, &on_node).await?;
    if here.len() > PODS_MAX {
        return refuse(text!("{} has more than {} pods: drain it by hand", object, PODS_MAX));
    }
    let mut labels = checked::labels(reader, &object, &value);
    let (mut pods, mut owners) = (Vec::new(), BTreeSet::new());
    for pod in here.iter().filter(|pod| moves(pod)) {
        let Some(named) = json::reference(pod) else { continue };
        owners.insert(owner(pod, &named)?);
        labels.extend(checked::labels(reader, &named, pod));
        pods.push(Moved { uid: json::text(pod, "/metadata/uid").to_owned(), pod: named });
    }
    if pods.is_empty() {
        return refuse(text!("no pod of {} would move: cordon it", object));
    }
    for owner in &owners {
        if let Some(owning) = reader.get(owner).await? {
            labels.extend(checked::labels(reader, owner, &owning));
        }
    }
    pods.sort_by(|a, b| a.pod.cmp(&b.pod));
    let mut also: Vec<Name> = pods.iter().filter_map(|moved| moved.pod.namespace.clone()).collect();
    also.dedup();
    let was_cordoned = value.pointer("/spec/unschedulable").and_then(Value::as_bool) == Some(true);
    Ok(Checked::Proposal { action: Action::Drain { object, pods, was_cordoned }, labels, also })
}

/// Whether a drain moves it: not what has ended or ends, nor what belongs to the node itself.
fn moves(pod: &Value) -> bool {
    let over = matches!(json::text(pod, "/status/phase"), "Succeeded" | "Failed");
    let ends = pod.pointer("/metadata/deletionTimestamp").is_some();
    let of_node = json::controller(pod).is_some_and(|(kind, ..)| kind == "DaemonSet" || kind == "Node");
    !over && !ends && !of_node
}

/// Who makes another: never a Job, whose work would be lost, and never nobody.
fn owner(pod: &Value, object: &ObjectRef) -> Result<ObjectRef, ToolError> {
    let Some((kind, name, _)) = json::controller(pod) else {
        return refuse(text!("{} has no owner: nobody would make another", object));
    };
    if kind == Kind::Job.as_str() {
        return refuse(text!("{} is a pod of a Job: evicting it would lose its work", object));
    }
    let owner = deployment_of(pod).or_else(|| {
        let kind =
            Kind::named(kind).filter(|kind| matches!(kind, Kind::ReplicaSet | Kind::StatefulSet | Kind::DaemonSet))?;
        ObjectRef::new(kind, Some(object.namespace()), name)
    });
    match owner {
        Some(owner) => Ok(owner),
        None => refuse(text!("{} belongs to a kind that firstlook does not know: it may not make another", object)),
    }
}
