//! A scenario's cluster as it stands at its own instant, served for whoever only reads it.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::clock::Clock;
use crate::sim::cluster::{Cluster, Shift};
use crate::sim::world::Scenario;

/// The cluster of one scenario; it is served until this is dropped.
pub struct Still {
    /// The scenario's name.
    pub name: String,
    /// How its API server is reached, as the daemon's own account: what that may not read cannot be read here either.
    pub kubernetes: kube::Config,
    /// Stands at the scenario's instant.
    pub clock: Clock,
    /// The namespace with the most pods, those of the cluster's own left out.
    pub namespace: String,
    _ends_with_this: DropGuard,
}

impl Still {
    /// Opens a scenario by the name under which it ships, or by its folder.
    ///
    /// # Errors
    /// When there is no such scenario, or its cluster.json is no snapshot.
    pub async fn open(name_or_folder: &str) -> anyhow::Result<Self> {
        let scenario = Scenario::find(name_or_folder)?;
        let clock = Clock::manual(jiff::Timestamp::UNIX_EPOCH);
        let snapshot = scenario.json("cluster.json")?;
        let namespace = busiest(&snapshot);
        let cluster = Cluster::from_parts(snapshot, scenario.logs(), clock.clone(), Shift::Keep)?;
        clock.set(cluster.epoch());
        let stop = CancellationToken::new();
        let kubernetes = cluster.at_hand(stop.clone()).await?;
        Ok(Self { name: scenario.name, kubernetes, clock, namespace, _ends_with_this: stop.drop_guard() })
    }
}

fn busiest(snapshot: &Value) -> String {
    let mut pods = BTreeMap::<&str, usize>::new();
    for pod in snapshot["items"].as_array().into_iter().flatten().filter(|item| item["kind"] == "Pod") {
        *pods.entry(pod["metadata"]["namespace"].as_str().unwrap_or_default()).or_default() += 1;
    }
    pods.retain(|namespace, _| !namespace.starts_with("kube-"));
    let most = pods.into_iter().max_by_key(|(_, count)| *count);
    most.map_or("default", |(namespace, _)| namespace).to_owned()
}
