//! One watch, followed for as long as it takes: lists, changes, errors waited out, and a tick for what must hold a while.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use kube::Resource;
use kube::core::{ApiResource, DynamicResourceScope, GroupVersionKind};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::ingest::watch::Health;
use crate::ingest::watch::listen::{Told, listen};
use crate::model::{Kind, Signal};
use crate::observe::motion::Motion;
use crate::telemetry::Metrics;

/// How often what must hold for a while is looked at.
pub(super) const TICK: Duration = Duration::from_secs(5);
/// Longest error text that is shown.
const ERROR_MAX_CHARS: usize = 200;

/// What happened to an object of a watch.
pub(super) enum Happened<K> {
    /// A list begins: what is not in it is gone.
    Begins,
    /// It is in the list.
    Listed(K),
    /// The list is whole.
    Whole,
    Changed(K),
    Gone(K),
    /// Time has passed.
    Tick,
}

impl<K> Happened<K> {
    /// The same of the object as `change` makes it.
    pub(super) fn map<L>(self, change: impl FnOnce(K) -> L) -> Happened<L> {
        match self {
            Self::Begins => Happened::Begins,
            Self::Listed(object) => Happened::Listed(change(object)),
            Self::Whole => Happened::Whole,
            Self::Changed(object) => Happened::Changed(change(object)),
            Self::Gone(object) => Happened::Gone(change(object)),
            Self::Tick => Happened::Tick,
        }
    }
}

/// Where a watch reports.
pub(super) struct Source {
    /// `pods`, `pods in shop`.
    pub(super) name: String,
    /// The namespace; None for all.
    pub(super) place: Option<String>,
    /// Without it firstlook would be deaf; the others make it hear a little more, and may be forbidden.
    pub(super) needed: bool,
    pub(super) health: Health,
    pub(super) metrics: Metrics,
    pub(super) motion: Motion,
    /// How many pages may be read at once, of all watches.
    pub(super) pages: Arc<Semaphore>,
    pub(super) heard: Sender<Vec<Signal>>,
    pub(super) stop: CancellationToken,
}

/// The objects of a kind in one namespace, or in all, decoded as far as `K` goes.
pub(super) fn api<K>(client: &kube::Client, kind: Kind, place: Option<&str>) -> kube::Api<K>
where
    K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
{
    match place {
        Some(namespace) => kube::Api::namespaced_with(client.clone(), namespace, &resource(kind)),
        None => kube::Api::all_with(client.clone(), &resource(kind)),
    }
}

fn resource(kind: Kind) -> ApiResource {
    let (group, version, plural) = kind.resource();
    let kind = GroupVersionKind::gvk(group, version, kind.as_str());
    ApiResource::from_gvk_with_plural(&kind, plural)
}

/// Follows a watch of the objects that `fields` selects until `stop`; `hear` makes signals of what happens.
pub(super) async fn follow<K>(
    source: Source,
    api: kube::Api<K>,
    fields: Option<&'static str>,
    hear: impl FnMut(Happened<K>) -> Vec<Signal>,
) where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    source.health.begins(&source.name, source.place.as_deref(), source.needed);
    // One at a time: what is not heard yet is not read.
    let (tell, told) = channel(1);
    tokio::select! {
        () = listen(api, fields, Arc::clone(&source.pages), tell) => {}
        () = hear_all(source, told, hear) => {}
    }
}

async fn hear_all<K: Resource>(
    source: Source,
    mut told: Receiver<Told<K>>,
    mut hear: impl FnMut(Happened<K>) -> Vec<Signal>,
) {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let told = tokio::select! {
            () = source.stop.cancelled() => return,
            _ = tick.tick() => None,
            told = told.recv() => match told {
                None => return,
                told => told,
            },
        };
        let synced = matches!(&told, Some(Told::Whole | Told::Changed(_) | Told::Gone(_) | Told::Stands));
        let happened = match told {
            None => Some(Happened::Tick),
            Some(Told::Begins) => Some(Happened::Begins),
            Some(Told::Listed(object)) => Some(Happened::Listed(object)),
            Some(Told::Whole) => Some(Happened::Whole),
            Some(Told::Changed(object)) => Some(Happened::Changed(object)),
            Some(Told::Gone(object)) => Some(Happened::Gone(object)),
            Some(Told::Stands) => None,
            Some(Told::Failed { why, barred }) => {
                lost(&source, &why, barred);
                None
            }
        };
        if let Some(Happened::Listed(object) | Happened::Changed(object) | Happened::Gone(object)) = &happened {
            source.motion.saw(object.meta());
        }
        let signals = happened.map(&mut hear).unwrap_or_default();
        if !signals.is_empty() {
            tokio::select! {
                () = source.stop.cancelled() => return,
                sent = source.heard.send(signals) => if sent.is_err() { return },
            }
        }
        // Only now: what a list told is on its way to the store.
        if synced {
            if source.health.synced(&source.name) {
                count_away(&source);
            }
            source.motion.stand(source.health.state().is_ok());
        }
    }
}

fn lost(source: &Source, error: &str, barred: bool) {
    let error: String = error.chars().take(ERROR_MAX_CHARS).collect();
    // One that may be forbidden would say so for ever.
    if source.health.failed(&source.name, error.clone(), barred) || (source.needed && !barred) {
        tracing::warn!(watch = %source.name, error, "a watch failed; it is taken up again");
    }
    if source.needed {
        source.motion.stand(source.health.state().is_ok());
        count_away(source);
    }
}

fn count_away(source: &Source) {
    source.metrics.namespaces_away.set(i64::try_from(source.health.count_away()).unwrap_or(i64::MAX));
}
