//! ConfigMaps: of all of them the metadata is watched, and those that workloads read are read when they changed.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::core::ObjectMeta;
use serde::Deserialize;
use tokio::sync::mpsc::Sender;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::ingest::watch::Health;
use crate::ingest::watch::edits::Edits;
use crate::ingest::watch::follow::{Happened, TICK, api};
use crate::ingest::watch::mounts::{Mounts, Place};
use crate::ingest::watch::seen::{Brief, light, resource};
use crate::model::{Kind, Signal};
use crate::observe::edits::Content;
use crate::redact::Redactor;

/// One that could not be read is asked for again after this: as long as the longest pause of a watch.
const RETRY: Duration = Duration::from_secs(30);
/// No answer within this is none.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A ConfigMap as far as it is looked at.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigMap {
    #[serde(default, deserialize_with = "light")]
    metadata: ObjectMeta,
    #[serde(default)]
    data: BTreeMap<String, String>,
    #[serde(default)]
    binary_data: BTreeMap<String, String>,
}

resource!([] ConfigMap, false);

/// Follows the metadata of all ConfigMaps.
pub(super) fn hear(mounts: &Mounts, happened: &Happened<Brief>) {
    if let Happened::Listed(map) | Happened::Changed(map) | Happened::Gone(map) = happened {
        mounts.moved(&map.metadata);
    }
}

/// Where reading reports that it has read all of them once.
pub(super) struct Progress {
    pub(super) health: Health,
    /// `mounted configmaps`, `mounted configmaps in shop`.
    pub(super) name: String,
}

impl Progress {
    /// What the first lists of workloads name is due when their watches are synced: then nothing due is all read.
    fn is_through(&self, mounts: &Mounts) -> bool {
        let through = self.health.is_synced() && mounts.is_idle();
        if through {
            self.health.synced(&self.name);
        }
        through
    }
}

/// Reads one after the other what `mounts` names, and tells what changed.
pub(super) async fn read_all(
    client: &kube::Client,
    mounts: &Mounts,
    mut edits: Edits,
    redactor: &Redactor,
    progress: Progress,
    heard: Sender<Vec<Signal>>,
    stop: CancellationToken,
) {
    let mut through = false;
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        through = through || progress.is_through(mounts);
        let signals: Vec<Signal> = tokio::select! {
            () = stop.cancelled() => return,
            () = progress.health.until_synced(), if !through && mounts.is_idle() => Vec::new(),
            _ = tick.tick() => {
                edits.keep_read(|place| mounts.is_read(place));
                edits.tick()
            }
            place = mounts.next() => match read(client, &place).await {
                Ok(Some(map)) => {
                    let content = Content::of_data(&map.data, &map.binary_data, redactor);
                    edits.see(&map.metadata, content).into_iter().collect()
                }
                Ok(None) => edits.gone(&place).into_iter().collect(),
                Err(error) => {
                    tracing::debug!(error, config_map = %format!("{}/{}", place.0, place.1), "could not be read yet");
                    progress.health.failed(&progress.name, error, false);
                    mounts.look_at(place);
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = sleep(RETRY) => {}
                    }
                    Vec::new()
                }
            },
        };
        if !signals.is_empty() {
            tokio::select! {
                () = stop.cancelled() => return,
                sent = heard.send(signals) => if sent.is_err() { return },
            }
        }
    }
}

async fn read(client: &kube::Client, (namespace, name): &Place) -> Result<Option<ConfigMap>, String> {
    let api = api::<ConfigMap>(client, Kind::ConfigMap, Some(namespace));
    match timeout(ANSWER_MAX, api.get_opt(name)).await {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}
