//! One watch, followed for as long as it takes: lists, changes, errors waited out, and a tick for what must hold a while.

use std::fmt::Debug;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::Resource;
use kube::core::{ApiResource, DynamicResourceScope, GroupVersionKind};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::Sender;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::ingest::watch::Health;
use crate::model::{Kind, Signal};
use crate::observe::motion::Motion;

/// How often what must hold for a while is looked at.
const TICK: Duration = Duration::from_secs(5);
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

/// Where a watch reports.
pub(super) struct Source {
    pub(super) name: &'static str,
    /// Without it firstlook would be deaf; the others make it hear a little more, and may be forbidden.
    pub(super) needed: bool,
    pub(super) health: Health,
    pub(super) motion: Motion,
    pub(super) heard: Sender<Vec<Signal>>,
    pub(super) stop: CancellationToken,
}

/// All objects of a kind, decoded as far as `K` goes.
pub(super) fn api<K>(client: &kube::Client, kind: Kind) -> kube::Api<K>
where
    K: Resource<DynamicType = ApiResource>,
{
    kube::Api::all_with(client.clone(), &resource(kind))
}

/// The objects of a kind in one namespace.
pub(super) fn api_in<K>(client: &kube::Client, kind: Kind, namespace: &str) -> kube::Api<K>
where
    K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
{
    kube::Api::namespaced_with(client.clone(), namespace, &resource(kind))
}

fn resource(kind: Kind) -> ApiResource {
    let (group, version, plural) = kind.resource();
    let kind = GroupVersionKind::gvk(group, version, kind.as_str());
    ApiResource::from_gvk_with_plural(&kind, plural)
}

/// Follows a watch until `stop`; `hear` makes signals of what happens.
pub(super) async fn follow<K>(
    source: Source,
    api: kube::Api<K>,
    config: watcher::Config,
    hear: impl FnMut(Happened<K>) -> Vec<Signal>,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    source.health.begins(source.name, source.needed);
    // Without backoff an error inside the stream would be asked for again at once.
    let stream = std::pin::pin!(watcher(api, config).default_backoff());
    follow_stream(source, stream, hear).await;
}

async fn follow_stream<K: Resource>(
    source: Source,
    mut stream: impl Stream<Item = Result<Event<K>, watcher::Error>> + Unpin,
    mut hear: impl FnMut(Happened<K>) -> Vec<Signal>,
) {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut synced = false;
        let happened = tokio::select! {
            () = source.stop.cancelled() => return,
            _ = tick.tick() => Happened::Tick,
            event = stream.next() => match event {
                None => return,
                Some(Ok(event)) => {
                    synced = !matches!(event, Event::Init | Event::InitApply(_));
                    match event {
                        Event::Init => Happened::Begins,
                        Event::InitApply(object) => Happened::Listed(object),
                        Event::InitDone => Happened::Whole,
                        Event::Apply(object) => Happened::Changed(object),
                        Event::Delete(object) => Happened::Gone(object),
                    }
                }
                Some(Err(error)) => {
                    let error: String = error.to_string().chars().take(ERROR_MAX_CHARS).collect();
                    // One that may be forbidden would say so for ever.
                    if source.health.failed(source.name, error.clone()) || source.needed {
                        tracing::warn!(watch = source.name, error, "a watch failed; it is taken up again");
                    }
                    if source.needed {
                        source.motion.stand(false);
                    }
                    continue;
                }
            },
        };
        if let Happened::Listed(object) | Happened::Changed(object) | Happened::Gone(object) = &happened {
            source.motion.saw(object.meta());
        }
        let signals = hear(happened);
        if !signals.is_empty() {
            tokio::select! {
                () = source.stop.cancelled() => return,
                sent = source.heard.send(signals) => if sent.is_err() { return },
            }
        }
        // Only now: what a list told is on its way to the store.
        if synced {
            source.health.synced(source.name);
            source.motion.stand(source.health.state().is_ok());
        }
    }
}
