//! Nodes: those of the subject's pods, or all of them, with what is left on each.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use serde_json::Value;

use crate::model::scene::{At, Node, ScenePart};
use crate::model::{Kind, ObjectRef};
use crate::observe::ReadError;
use crate::observe::Selector;
use crate::observe::json;
use crate::observe::scene::figures::Known;
use crate::observe::scene::page::Page;
use crate::observe::scene::{Look, Shared, Told};
use crate::observe::tables::{NODE_COLUMNS, node_row, table};
use crate::observe::typed::pod::{is_finished, is_ready, is_unscheduled, requests};

/// Nodes of a cluster that are read when all are.
const NODES_MAX: usize = 500;
/// Nodes that are read when only those of the pods are, those of pods in trouble first.
const OF_PODS_MAX: usize = 8;
/// Nodes that stand as objects in the evidence.
const SHOWN_MAX: usize = 12;
/// Pods of a cluster whose requests are summed; of more the sums would be wrong, so there are none.
const PODS_MAX: usize = 20_000;
/// Where kubelets keep their leases.
const LEASES: &str = "kube-node-lease";

/// The part, and who holds the capacity.
pub(super) struct Nodes {
    pub(super) told: Told<Vec<Node>>,
    /// Everything that has pods, largest CPU request first; empty where it was not asked for.
    pub(super) holders: Vec<Holder>,
    /// By what their series are told from those of others.
    pub(super) known: Vec<Known>,
}

/// What one workload's pods hold, over all nodes.
#[derive(Clone)]
pub(super) struct Holder {
    pub(super) object: ObjectRef,
    pub(super) cpu_milli: i64,
    pub(super) pods: u32,
    pub(super) ready: u32,
}

#[derive(Default)]
struct Sums {
    cpu_milli: i64,
    memory_bytes: i64,
    pods: u32,
    not_ready: u32,
}

impl Look<'_> {
    pub(super) async fn nodes(&self, pods: &Shared) -> Result<Nodes, ReadError> {
        if let Some(why) = pods.missing() {
            return Err(ReadError::Unavailable(why.clone()));
        }
        let all = self.subject.kind == Kind::Node || pods.raw.iter().any(is_unscheduled);
        let (values, leases, capacity) = if all {
            let nodes = Selector::all().at_most(NODES_MAX);
            let (nodes, leases, capacity) = tokio::join!(
                self.reader.list(Kind::Node, None, &nodes),
                self.reader.list(Kind::Lease, Some(LEASES), &nodes),
                self.capacity(),
            );
            (nodes?, leases.unwrap_or_default(), capacity.ok().flatten())
        } else {
            let (nodes, leases) = self.of_pods(pods).await?;
            (nodes, leases, None)
        };
        let leases: BTreeMap<&str, &Value> =
            leases.iter().map(|lease| (json::text(lease, "/metadata/name"), lease)).collect();
        let (sums, holders) = capacity.map_or((None, Vec::new()), |(sums, holders)| (Some(sums), holders));
        let blank = At { evidence: ScenePart::Nodes.evidence(), segment: 0 };
        let told = values.iter().filter_map(|value| {
            let lease = leases.get(json::text(value, "/metadata/name")).copied();
            let mut node = self.typed.node(value, lease, blank)?;
            if let Some(sums) = &sums {
                let none = Sums::default();
                let sums = sums.get(node.object.name()).unwrap_or(&none);
                node.requested_cpu_milli = Some(sums.cpu_milli);
                node.requested_memory_bytes = Some(sums.memory_bytes);
                node.pods = Some(sums.pods);
                node.pods_not_ready = Some(sums.not_ready);
            }
            Some((node, value, lease))
        });
        let mut told: Vec<(Node, &Value, Option<&Value>)> = told.collect();
        told.sort_by_key(|(node, _, _)| (node.object != *self.subject, node.ready == Some(true)));
        let mut page = Page::new(ScenePart::Nodes);
        for (node, value, lease) in told.iter_mut().take(SHOWN_MAX) {
            node.at = page.object(value, self.typed.redactor);
            if let Some(lease) = lease.filter(|_| node.ready != Some(true) || node.object == *self.subject) {
                page.object(lease, self.typed.redactor);
            }
        }
        let known = told.iter().take(SHOWN_MAX).map(|(node, value, _)| Known::of(&node.object, value)).collect();
        let mut nodes: Vec<Node> = told.into_iter().map(|(node, _, _)| node).collect();
        if sums.is_some() || nodes.len() > SHOWN_MAX {
            let at = page.summary(table(&NODE_COLUMNS, nodes.iter().map(node_row)));
            nodes.iter_mut().skip(SHOWN_MAX).for_each(|node| node.at = at);
        }
        Ok(Nodes { told: Told { value: nodes, page }, holders, known })
    }

    async fn of_pods(&self, pods: &Shared) -> Result<(Vec<Value>, Vec<Value>), ReadError> {
        // Pods in trouble come first.
        let mut names: Vec<&str> = Vec::new();
        for name in pods.pods().iter().filter_map(|pod| pod.node.as_ref()) {
            if names.len() < OF_PODS_MAX && !names.contains(&name.as_str()) {
                names.push(name.as_str());
            }
        }
        let node = |name: &&str| ObjectRef::new(Kind::Node, None, name);
        let lease = |name: &&str| ObjectRef::new(Kind::Lease, Some(LEASES), name);
        let nodes: Vec<ObjectRef> = names.iter().filter_map(node).collect();
        let leases: Vec<ObjectRef> = names.iter().filter_map(lease).collect();
        let (nodes, leases) = tokio::join!(
            try_join_all(nodes.iter().map(|node| self.reader.get(node))),
            try_join_all(leases.iter().map(|lease| self.reader.get(lease))),
        );
        // Leases say how long a lost node has been silent; without them the conditions still do.
        let leases = leases.unwrap_or_default().into_iter().flatten().collect();
        Ok((nodes?.into_iter().flatten().collect(), leases))
    }

    /// Requests per node and per workload; None when there are too many pods to sum.
    async fn capacity(&self) -> Result<Option<(BTreeMap<String, Sums>, Vec<Holder>)>, ReadError> {
        struct Held {
            pod: Value,
            cpu_milli: i64,
            ready: bool,
        }
        let mut nodes: BTreeMap<String, Sums> = BTreeMap::new();
        let mut held = Vec::new();
        let ask = Selector::all().at_most(PODS_MAX);
        let more = self
            .reader
            .each(Kind::Pod, None, &ask, |mut pod| {
                let node = json::text(&pod, "/spec/nodeName").to_owned();
                if node.is_empty() || is_finished(&pod) {
                    return;
                }
                let (cpu_milli, memory_bytes) = requests(&pod);
                let ready = is_ready(&pod);
                let sums = nodes.entry(node).or_default();
                sums.cpu_milli += cpu_milli;
                sums.memory_bytes += memory_bytes;
                sums.pods += 1;
                sums.not_ready += u32::from(!ready);
                // Whom it belongs to is all that is needed of the rest.
                let metadata = pod.get_mut("metadata").map(Value::take).unwrap_or_default();
                held.push(Held { pod: serde_json::json!({"kind": "Pod", "metadata": metadata}), cpu_milli, ready });
            })
            .await?;
        if more {
            return Ok(None);
        }
        let mut holders: BTreeMap<ObjectRef, Holder> = BTreeMap::new();
        for Held { pod, cpu_milli, ready } in held {
            let Some(object) = self.owners.of(&pod).await? else { continue };
            let holder = holders.entry(object.clone()).or_insert(Holder { object, cpu_milli: 0, pods: 0, ready: 0 });
            holder.cpu_milli += cpu_milli;
            holder.pods += 1;
            holder.ready += u32::from(ready);
        }
        let mut holders: Vec<Holder> = holders.into_values().collect();
        holders.sort_by_key(|holder| std::cmp::Reverse(holder.cpu_milli));
        Ok(Some((nodes, holders)))
    }
}
