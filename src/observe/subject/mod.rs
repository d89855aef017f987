//! The subject of a signal: from labels, or an event's object, to what a person deploys. Names never match fuzzily.

mod named;

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};
use serde_json::Value;

use crate::model::{Kind, ObjectRef, Signal, SignalBody};
use crate::observe::ReadError;
use crate::observe::Reader;
use crate::observe::Selector;
use crate::observe::json;
use crate::observe::owner::Owners;
use crate::observe::subject::named::Named;
use crate::observe::typed::network::serves;
use crate::observe::typed::workload::selector;
use crate::redact::Redacted;
use crate::text;

/// Ingresses that are looked through for a host.
const INGRESSES_MAX: usize = 2_000;
/// Pods of a Service whose owners are looked up.
const PODS_MAX: usize = 50;
/// Nodes that are looked through for an address.
const NODES_MAX: usize = 5_000;
/// Subjects looked for at once: enough to hide the API server's latency, too few to hurt it.
const AT_ONCE: usize = 8;

/// What a signal is about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Subject {
    /// What a person deploys (or a node, Job, PVC, Service, Ingress); it may no longer exist, or never have existed:
    /// then the scene says so. None: the signal names no object.
    pub object: Option<ObjectRef>,
    /// How it was found, in one sentence.
    pub note: Redacted,
    /// What else the signal names or led through: the pod, its node, a Service that is called. Hints for the scene.
    pub near: Vec<ObjectRef>,
    /// Why the cluster could not be asked: then `object` is the signal's own word, and worth resolving again.
    pub missing: Option<Redacted>,
}

/// Finds the subjects of signals, in their order, by reading the cluster; what several of them name is read once.
pub async fn of_all(reader: &Reader, signals: &[Signal]) -> Vec<Subject> {
    let named: Vec<Named> = signals.iter().map(Named::in_signal).collect();
    let ways: BTreeSet<Vec<Way>> = named.iter().map(|named| named.ways.clone()).collect();
    let followed = stream::iter(ways).map(|ways| async move {
        let subject = first(reader, &ways).await;
        (ways, subject)
    });
    let subjects: BTreeMap<Vec<Way>, Subject> = followed.buffer_unordered(AT_ONCE).collect().await;
    let subject = |(signal, named): (&Signal, &Named)| {
        let mut subject = subjects.get(&named.ways).cloned().unwrap_or_default();
        if let SignalBody::Rollout(rollout) = &signal.body {
            subject.object = Some(rollout.object.clone());
            subject.note = Redacted::literal(if rollout.is_edit() { "it was edited" } else { "it rolled out" });
        }
        subject.near.extend(named.near.iter().cloned());
        subject.near.retain(|object| Some(object) != subject.object.as_ref());
        subject
    };
    signals.iter().zip(&named).map(subject).collect()
}

/// One way from a signal to an object, in the order of preference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Object(ObjectRef),
    /// An object by a label that need not name one.
    IfThere(ObjectRef),
    /// A host name that an Ingress may serve.
    Host(String),
    /// An address of a node.
    Address(String),
    /// The node that this pod runs on (its exporter).
    NodeOf(ObjectRef),
}

async fn first(reader: &Reader, ways: &[Way]) -> Subject {
    let mut missing = None;
    for way in ways {
        match follow(reader, way).await {
            Ok(Some(subject)) => return subject,
            Ok(None) => {}
            Err(error) => missing = Some(error.reason()),
        }
    }
    // Nothing of what is named was found: the first name stands for itself.
    let named = ways.iter().find_map(|way| match way {
        Way::Object(object) => Some(object.clone()),
        _ => None,
    });
    let note = match (&missing, &named) {
        (Some(why), _) => text!("the cluster could not be asked: {}", why),
        (None, Some(object)) => text!("{} does not exist", object),
        (None, None) if ways.is_empty() => Redacted::literal("it names no object"),
        (None, None) => Redacted::literal("nothing in the cluster has the name or address that it gives"),
    };
    Subject { object: named, note, near: Vec::new(), missing }
}

async fn follow(reader: &Reader, way: &Way) -> Result<Option<Subject>, ReadError> {
    match way {
        Way::Object(object) | Way::IfThere(object) => upward(reader, object).await,
        Way::Host(host) => by_host(reader, host).await,
        Way::Address(address) => by_address(reader, address).await,
        Way::NodeOf(pod) => Ok(reader.get(pod).await?.and_then(|pod| {
            let node = node_of(&pod)?;
            Some(found(node.clone(), text!("the alert is about the node that {} reports on", node)))
        })),
    }
}

/// The object upward to what a person deploys, if it exists.
async fn upward(reader: &Reader, object: &ObjectRef) -> Result<Option<Subject>, ReadError> {
    let Some(value) = reader.get(object).await? else {
        return if object.kind == Kind::Pod { gone_pod(reader, object).await } else { Ok(None) };
    };
    let up = match object.kind {
        Kind::Pod | Kind::ReplicaSet | Kind::EndpointSlice => Owners::new(reader).of(&value).await?,
        Kind::HorizontalPodAutoscaler => scale_target(&value),
        Kind::Service => behind(reader, &value).await?,
        _ => None,
    };
    let up = up.unwrap_or_else(|| object.clone());
    let note = match up == *object {
        true => text!("it names {}", object),
        false => text!("it names {}, which belongs to {}", object, up),
    };
    let mut subject = found(up, note);
    subject.near.push(object.clone());
    subject.near.extend(node_of(&value).filter(|_| object.kind == Kind::Pod));
    Ok(Some(subject))
}

fn found(object: ObjectRef, note: Redacted) -> Subject {
    Subject { object: Some(object), note, near: Vec::new(), missing: None }
}

fn node_of(pod: &Value) -> Option<ObjectRef> {
    ObjectRef::new(Kind::Node, None, json::text(pod, "/spec/nodeName"))
}

fn scale_target(autoscaler: &Value) -> Option<ObjectRef> {
    let kind = Kind::named(json::text(autoscaler, "/spec/scaleTargetRef/kind"))?;
    let namespace = json::text(autoscaler, "/metadata/namespace");
    ObjectRef::new(kind, Some(namespace), json::text(autoscaler, "/spec/scaleTargetRef/name"))
}

/// The one workload that all pods of a Service belong to, if there is one.
async fn behind(reader: &Reader, service: &Value) -> Result<Option<ObjectRef>, ReadError> {
    let Some(selector) = selector(service) else { return Ok(None) };
    let namespace = json::text(service, "/metadata/namespace");
    let ask = Selector::labels(selector).at_most(PODS_MAX);
    let owners = Owners::new(reader);
    let mut all = BTreeSet::new();
    for pod in reader.list(Kind::Pod, Some(namespace), &ask).await? {
        all.extend(owners.of(&pod).await?);
    }
    Ok(if all.len() == 1 { all.pop_first() } else { None })
}

/// A pod that is gone is still known by its generated name: `<owner>-<5 letters or a number>`. Only an owner that
/// exists under exactly that name counts.
async fn gone_pod(reader: &Reader, pod: &ObjectRef) -> Result<Option<Subject>, ReadError> {
    let Some((owner, end)) = pod.name().rsplit_once('-') else { return Ok(None) };
    let numbered = end.chars().all(|c| c.is_ascii_digit());
    let generated = end.len() == 5 && end.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let mut owners = Vec::new();
    if numbered {
        owners.push((Kind::StatefulSet, owner));
    }
    if generated {
        owners.extend([(Kind::ReplicaSet, owner), (Kind::DaemonSet, owner), (Kind::Job, owner)]);
        // The ReplicaSet may be gone as well.
        if let Some((deployment, hash)) = owner.rsplit_once('-')
            && (6..=10).contains(&hash.len())
        {
            owners.push((Kind::Deployment, deployment));
        }
    }
    for (kind, name) in owners {
        let Some(owner) = ObjectRef::new(kind, Some(pod.namespace()), name) else { continue };
        let Some(value) = reader.get(&owner).await? else { continue };
        let up = match kind {
            Kind::ReplicaSet => Owners::new(reader).of(&value).await?.unwrap_or(owner),
            _ => owner,
        };
        let note = text!("it names {}, which is gone; {} makes pods of such names", pod, up);
        return Ok(Some(found(up, note)));
    }
    Ok(None)
}

async fn by_host(reader: &Reader, host: &str) -> Result<Option<Subject>, ReadError> {
    let all = reader.list(Kind::Ingress, None, &Selector::all().at_most(INGRESSES_MAX)).await?;
    let ingress = all.iter().find(|ingress| serves(ingress, host)).and_then(json::reference);
    let host = reader.redactor().redact(host);
    Ok(ingress.map(|ingress| found(ingress.clone(), text!("it names the host {}, which {} serves", host, ingress))))
}

async fn by_address(reader: &Reader, address: &str) -> Result<Option<Subject>, ReadError> {
    let mut node = None;
    let has = |value: &Value| {
        let addresses = json::list(value, "/status/addresses");
        addresses.iter().any(|one| json::text(one, "/address") == address)
    };
    let look = |value: Value| {
        if node.is_none() && has(&value) {
            node = json::reference(&value);
        }
    };
    reader.each(Kind::Node, None, &Selector::all().at_most(NODES_MAX), look).await?;
    let address = reader.redactor().redact(address);
    Ok(node.map(|node| found(node.clone(), text!("it names the address {}, which is that of {}", address, node))))
}

#[cfg(test)]
mod tests;
