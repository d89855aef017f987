//! Watches of the cluster: rollouts, pods and nodes in trouble, and Warning events become signals, each debounced.

mod all;
mod backing;
mod condition;
mod config_maps;
mod edits;
mod events;
mod follow;
mod health;
mod judge;
mod leases;
mod listen;
mod mounts;
mod nodes;
mod pods;
mod rollouts;
mod seen;
mod sights;
mod states;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::ingest::watch::edits::Room;
use crate::ingest::watch::follow::Source;
pub use crate::ingest::watch::health::Health;
use crate::ingest::watch::listen::PAGES_AT_ONCE;
use crate::model::{ClusterName, Kind, Name, Patience, Signal, SignalBody};
use crate::observe::motion::Motion;
use crate::redact::Redactor;
use crate::store::{Durability, Mark, Store, Write};
use crate::telemetry::{Metrics, SignalLabels};

/// Batches of signals that wait for the store; then the watches wait as well.
const WAITING_MAX: usize = 256;
/// Signals of one commit.
const COMMIT_MAX: usize = 500;
/// A store that refuses is asked again after this, doubling up to the next.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What the watches need. `client` is one that does not retry by itself.
pub struct Watch {
    pub client: kube::Client,
    pub store: Store,
    pub cluster: ClusterName,
    pub redactor: Redactor,
    pub clock: Clock,
    pub metrics: Metrics,
    pub health: Health,
    /// Told of every object that a watch sees move.
    pub motion: Motion,
    pub patience: Patience,
    /// Only these namespaces, and nothing that lives in none; empty: the whole cluster.
    pub namespaces: Vec<Name>,
}

/// What makes signals of one cluster's objects.
#[derive(Clone)]
struct Speaker {
    cluster: ClusterName,
    redactor: Redactor,
    clock: Clock,
    /// Trouble in the first lists was there on arrival: never before has a daemon with this store seen the cluster.
    arrival: bool,
    patience: Patience,
}

impl Speaker {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

impl Watch {
    /// Watches until `stop`. Errors of the API server are waited out (0.8 s, doubling to 30 s) and shown in `health`.
    pub async fn run(self, stop: CancellationToken) {
        let speaker = Speaker {
            cluster: self.cluster.clone(),
            redactor: self.redactor.clone(),
            clock: self.clock.clone(),
            arrival: !self.store.is_marked(Mark::WatchesSynced).await.unwrap_or(false),
            patience: self.patience,
        };
        let (heard, waiting) = channel(WAITING_MAX);
        let mark = speaker.arrival.then(|| self.health.clone());
        let commit = commit(self.store.clone(), self.metrics.clone(), waiting, mark, stop.clone());
        let pages = Arc::new(Semaphore::new(PAGES_AT_ONCE));
        let source = |kind: Kind, needed, place: Option<&str>| Source {
            name: match place {
                Some(namespace) => format!("{} in {namespace}", kind.resource().2),
                None => kind.resource().2.to_owned(),
            },
            place: place.map(str::to_owned),
            needed,
            health: self.health.clone(),
            metrics: self.metrics.clone(),
            motion: self.motion.clone(),
            pages: Arc::clone(&pages),
            heard: heard.clone(),
            stop: stop.clone(),
        };
        let each = self.namespaces.iter().map(|name| Some(name.as_str()));
        let places: Vec<Option<&str>> = if self.namespaces.is_empty() { vec![None] } else { each.collect() };
        let room = Room::default();
        let follow = places.iter().map(|place| {
            let source = |kind, needed| source(kind, needed, *place);
            all::follow_all(&self.client, *place, &speaker, room.clone(), source)
        });
        tokio::join!(futures::future::join_all(follow), commit);
    }
}

/// Stores what was heard; a store that refuses is asked until it takes it or `stop` comes: the next start hears of
/// trouble that still is. The first time that every watch is synced (`mark`) this is remembered, after the trouble of
/// the first lists: a daemon that is killed in between arrives once more.
async fn commit(
    store: Store,
    metrics: Metrics,
    mut waiting: Receiver<Vec<Signal>>,
    mut mark: Option<Health>,
    stop: CancellationToken,
) {
    loop {
        // A watch is synced once its first list was sent here, so that all of it is in the channel by now.
        let arrived = mark.as_ref().is_some_and(Health::is_synced);
        let mut signals = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            heard = waiting.recv() => match heard {
                Some(signals) => signals,
                None => return,
            },
            () = std::future::ready(()), if arrived => {
                match store.commit(vec![Write::Mark(Mark::WatchesSynced)], Durability::Durable, None).await {
                    Ok(()) => mark = None,
                    Err(error) => {
                        tracing::warn!(%error, "the first look at the cluster could not be remembered yet");
                        sleep(RETRY_FIRST).await;
                    }
                }
                continue;
            }
            () = until_synced(mark.as_ref()) => continue,
        };
        while signals.len() < COMMIT_MAX
            && let Ok(more) = waiting.try_recv()
        {
            signals.extend(more);
        }
        let mut pause = RETRY_FIRST;
        while let Err(error) = store.commit(vec![Write::Signals(signals.clone())], Durability::Durable, None).await {
            tracing::warn!(%error, signals = signals.len(), "what the watches heard could not be stored yet");
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => pause = (pause * 2).min(RETRY_MAX),
            }
        }
        for signal in &signals {
            let kind = match signal.body {
                SignalBody::Alert(_) => "alert",
                SignalBody::Warning(_) => "warning",
                SignalBody::Rollout(_) => "rollout",
            };
            metrics.signals.get_or_create(&SignalLabels { kind }).inc();
        }
    }
}

/// Never without anything to wait for.
async fn until_synced(health: Option<&Health>) {
    match health {
        Some(health) => health.until_synced().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
