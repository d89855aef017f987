//! The checks of `k8s-safe-change`: what each change would be exactly, or why it would be wrong.

use serde_json::Value;

use crate::mcp::answer::ToolError;
use crate::mcp::arguments;
use crate::mcp::arguments::{ContainerResources, Named, NodeName, OneWorkload, Replicas};
use crate::mcp::checked;
use crate::mcp::checked::{Checked, proposal, refuse};
use crate::model::{Action, Kind, ObjectRef, Quantity, Resources};
use crate::observe::reader::Selector;
use crate::observe::typed::{cpu_milli, memory_bytes};
use crate::observe::{Reader, json};
use crate::redact::Redacted;
use crate::text;

pub(super) async fn scale(reader: &Reader, ask: &Replicas) -> Result<Checked, ToolError> {
    let one = OneWorkload { namespace: ask.namespace.clone(), kind: ask.kind.clone(), name: ask.name.clone() };
    let (value, workload) = checked::workload(reader, &one).await?;
    let object = workload.object;
    if object.kind == Kind::DaemonSet {
        return refuse(text!("{} runs one pod on each of its nodes: it has no number to set", object));
    }
    let (from, to) = (workload.wanted, ask.replicas);
    if from == to {
        return refuse(text!("{} is set to {} pods already", object, to));
    }
    let scalers = reader.list(Kind::HorizontalPodAutoscaler, Some(object.namespace()), &Selector::all()).await?;
    if let Some(scaler) = scalers.iter().find(|scaler| scales(scaler, &object)).and_then(json::reference) {
        return refuse(text!(
            "{} sets the number of pods of {} and would put its own back: change its bounds instead",
            scaler,
            object
        ));
    }
    let retained = json::text(&value, "/spec/persistentVolumeClaimRetentionPolicy/whenScaled") != "Delete";
    if to < from && !retained {
        return refuse(text!(
            "{} deletes the volumes of the pods that it scales away (whenScaled: Delete): that cannot be taken back",
            object
        ));
    }
    proposal(reader, &value, Action::Scale { object, to, from }).await
}

fn scales(scaler: &Value, object: &ObjectRef) -> bool {
    json::text(scaler, "/spec/scaleTargetRef/kind") == object.kind.as_str()
        && json::text(scaler, "/spec/scaleTargetRef/name") == object.name()
}

/// Pauses a rollout, or lets it go on.
pub(super) async fn pause(reader: &Reader, ask: &Named, pause: bool) -> Result<Checked, ToolError> {
    let kind = Kind::Deployment.as_str().to_owned();
    let one = OneWorkload { namespace: ask.namespace.clone(), kind, name: ask.name.clone() };
    let (value, workload) = checked::workload(reader, &one).await?;
    let object = workload.object;
    let action = match (pause, workload.paused) {
        (true, true) => return refuse(text!("the rollout of {} is paused already", object)),
        (false, false) => return refuse(text!("the rollout of {} is not paused", object)),
        (true, false) => Action::PauseRollout { object },
        (false, true) => Action::ResumeRollout { object },
    };
    proposal(reader, &value, action).await
}

pub(super) async fn resources(reader: &Reader, ask: &ContainerResources) -> Result<Checked, ToolError> {
    let one = OneWorkload { namespace: ask.namespace.clone(), kind: ask.kind.clone(), name: ask.name.clone() };
    let (value, workload) = checked::rollout(reader, &one).await?;
    let object = workload.object;
    let name = arguments::container(&ask.container)?;
    let containers = json::list(&value, "/spec/template/spec/containers");
    let Some(container) = containers.iter().find(|one| json::text(one, "/name") == name.as_str()) else {
        let names: Vec<Redacted> =
            containers.iter().map(|one| reader.redactor().redact(json::text(one, "/name"))).collect();
        return refuse(text!("{} has no container {}; it has: {}", object, name, Redacted::join(&names, ", ")));
    };
    let to = wanted(ask)?;
    let now = |of: &str, what: &str| present(container, of, what);
    // What is the same already is no part of the change.
    let to = Resources {
        cpu_request: to.cpu_request.filter(|to| differs("cpu", to, &now("requests", "cpu"))),
        memory_request: to.memory_request.filter(|to| differs("memory", to, &now("requests", "memory"))),
        cpu_limit: to.cpu_limit.filter(|to| differs("cpu", to, &now("limits", "cpu"))),
        memory_limit: to.memory_limit.filter(|to| differs("memory", to, &now("limits", "memory"))),
    };
    if to.named().next().is_none() {
        return refuse(text!("container {} of {} has these requests and limits already", name, object));
    }
    for (what, request, limit) in
        [("cpu", &to.cpu_request, &to.cpu_limit), ("memory", &to.memory_request, &to.memory_limit)]
    {
        let request = request.clone().unwrap_or_else(|| now("requests", what));
        let limit = limit.clone().unwrap_or_else(|| now("limits", what));
        if let (Some(least), Some(most)) = (request.set(), limit.set())
            && amount(what, least) > amount(what, most)
        {
            return refuse(text!("a {} request of {} is more than its limit of {}", what, request, limit));
        }
    }
    let (from, to) = (Box::new(to.map(now)), Box::new(to));
    proposal(reader, &value, Action::SetResources { object, container: name, to, from }).await
}

/// The quantities that are asked for.
fn wanted(ask: &ContainerResources) -> Result<Resources, ToolError> {
    let quantity = |text: &Option<String>| match text.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => match Quantity::parse(text) {
            Some(quantity) => Ok(Some(quantity)),
            None => refuse("a quantity is written as 500m, 1.5 or 512Mi, or none to take it away".into()),
        },
    };
    Ok(Resources {
        cpu_request: quantity(&ask.cpu_request)?,
        memory_request: quantity(&ask.memory_request)?,
        cpu_limit: quantity(&ask.cpu_limit)?,
        memory_limit: quantity(&ask.memory_limit)?,
    })
}

fn present(container: &Value, of: &str, what: &str) -> Quantity {
    let value = container.pointer(&format!("/resources/{of}/{what}"));
    let text = value.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    text.and_then(|text| Quantity::parse(&text)).unwrap_or_else(Quantity::none)
}

fn differs(what: &str, to: &Quantity, now: &Quantity) -> bool {
    to.set().map(|text| amount(what, text)) != now.set().map(|text| amount(what, text))
}

fn amount(what: &str, text: &str) -> i64 {
    if what == "cpu" { cpu_milli(text) } else { memory_bytes(text) }
}

/// Suspends a CronJob, or resumes it.
pub(super) async fn suspend(reader: &Reader, ask: &Named, suspend: bool) -> Result<Checked, ToolError> {
    let kind = Kind::CronJob.as_str();
    let object = arguments::object(reader.redactor(), kind, Some(&ask.namespace), &ask.name)?;
    let value = checked::object(reader, &object).await?;
    let action = match (suspend, json::flag(&value, "/spec/suspend")) {
        (true, true) => return refuse(text!("{} is suspended already", object)),
        (false, false) => return refuse(text!("{} is not suspended", object)),
        (true, false) => Action::SuspendCronjob { object },
        (false, true) => Action::ResumeCronjob { object },
    };
    proposal(reader, &value, action).await
}

/// Cordons a node, or uncordons it.
pub(super) async fn cordon(reader: &Reader, ask: &NodeName, cordon: bool) -> Result<Checked, ToolError> {
    let object = arguments::object(reader.redactor(), Kind::Node.as_str(), None, &ask.name)?;
    let value = checked::object(reader, &object).await?;
    let action = match (cordon, json::flag(&value, "/spec/unschedulable")) {
        (true, true) => return refuse(text!("{} is cordoned already", object)),
        (false, false) => return refuse(text!("{} is not cordoned", object)),
        (true, false) => Action::Cordon { object },
        (false, true) => Action::Uncordon { object },
    };
    proposal(reader, &value, action).await
}
