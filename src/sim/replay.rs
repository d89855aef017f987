//! A replay: one scenario folder through the whole pipeline on a clock that jumps, and its result as data.

mod result;
mod triggers;

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::agent::llm::LlmOptions;
use crate::app::{Setup, Stages, Texts};
use crate::clock::Clock;
use crate::correlate::{Openers, Rules};
use crate::govern::off::Off;
use crate::govern::policy::Policy;
use crate::http::Credential;
use crate::http::webhook::Webhook;
use crate::model::{ClusterName, Patience, Room, SignalId};
use crate::observe::Sources;
use crate::redact::Redactor;
use crate::sim::cluster::{Cluster, Shift};
use crate::sim::model::ScriptedModel;
use crate::sim::prometheus;
use crate::sim::prometheus::Prometheus;
use crate::sim::replay::triggers::{Ear, Trigger};
use crate::stages::deliver::Outlet;
use crate::stages::seal::Anchors;
use crate::store::{Options, Store};
use crate::telemetry::Metrics;

/// A folder is a scenario when it holds this file.
pub const CLUSTER_FILE: &str = "cluster.json";
/// The replay's clock ends this long after the snapshot.
const END_AFTER: SignedDuration = SignedDuration::from_mins(30);
/// In a replay everybody may be asked: what matters is what would be offered.
const POLICY: &str =
    "approvers: [{who: [U0REPLAY0], tiers: [reversible, destructive], namespaces: ['*'], cluster: true}]";

/// Who thinks.
#[derive(Clone)]
pub enum Mind {
    /// The findings alone.
    None,
    /// The folder's own answers.
    Scripted,
    Server(LlmOptions),
}

/// A replay under way.
struct Playing {
    epoch: Timestamp,
    ear: Ear,
    clock: Clock,
    store: Store,
    stages: Stages,
    /// Not heard yet.
    triggers: VecDeque<Trigger>,
    /// The signals of the trigger heard last.
    last: Vec<SignalId>,
    _scratch: tempfile::TempDir,
    _ends_with_this: DropGuard,
}

impl Playing {
    /// Lets the next trigger be heard and worked off; false when none is left.
    async fn hear_next(&mut self) -> anyhow::Result<bool> {
        let Some(trigger) = self.triggers.pop_front() else { return Ok(false) };
        self.clock.set(trigger.at);
        self.last = self.ear.hear(&trigger.heard, &self.store, &self.clock).await?;
        self.stages.settle().await?;
        Ok(true)
    }
}

/// One scenario to be replayed.
pub struct Replay {
    pub folder: PathBuf,
    pub mind: Mind,
}

impl Replay {
    /// Runs the scenario and gives its result contract, without id.
    ///
    /// # Errors
    /// When the folder is not a scenario, or something of the pipeline fails.
    pub async fn run(&self) -> anyhow::Result<Value> {
        let mut played = self.begin().await?;
        while played.hear_next().await? {}
        let result = result::result(&played.store, &played.last, &played.clock).await?;
        played.clock.set(played.epoch.checked_add(END_AFTER)?);
        played.stages.settle().await?;
        played.store.close().await;
        Ok(result)
    }

    /// The first request that a model would get for each incident, in the order in which they open.
    ///
    /// # Errors
    /// As `run`.
    pub async fn first_requests(&self) -> anyhow::Result<Vec<Value>> {
        let mut played = self.begin().await?;
        let (mut told, mut requests) = (BTreeSet::new(), Vec::new());
        while played.hear_next().await? {
            for incident in played.store.recent_incidents(Timestamp::UNIX_EPOCH).await? {
                if told.insert(incident.id.clone()) {
                    requests.extend(played.stages.request(&incident.id).await?);
                }
            }
        }
        played.store.close().await;
        Ok(requests)
    }

    async fn begin(&self) -> anyhow::Result<Playing> {
        let stop = CancellationToken::new();
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let cluster = Cluster::load(&self.folder, clock.clone(), Shift::Keep)?;
        let epoch = cluster.epoch();
        let name = ClusterName::parse("replay").context("a constant name")?;
        let redactor = Redactor::default();
        let triggers = triggers::triggers(&self.folder, &cluster, epoch, &name, &redactor)?;
        clock.set(triggers.first().context("the scenario has no trigger")?.at);
        let kubernetes = cluster.at_hand(stop.clone()).await?;
        let scratch = tempfile::tempdir()?;
        let url = format!("sqlite:{}", scratch.path().join("replay.db").display());
        let store = Store::open(&url, clock.clone(), Options::new(name.clone())).await?;
        let openers = triggers::openers(&triggers, &name, &redactor)?;
        let sources = self.sources(&clock, stop.clone()).await?;
        let setup = Setup {
            cluster: name.clone(),
            clock: clock.clone(),
            redactor: redactor.clone(),
            metrics: Metrics::new(),
            store: store.clone(),
            kubernetes,
            sources,
            foreign: Vec::new(),
            off: Off::default(),
            accounts: ("firstlook".into(), "firstlook".into(), true),
            policy: Policy::parse(POLICY, "the replay's policy")?,
            llm: self.llm(stop.clone()).await?,
            outlet: Outlet::Nowhere,
            rules: Rules { openers: Openers::Only(openers), ..Rules::default() },
            patience: Patience::default(),
            namespaces: Vec::new(),
            keep_days: 30,
            dashboard: None,
            price: None,
            anchors: Anchors::default(),
            texts: Texts::default(),
        };
        let stages = Stages::new(&setup).await?;
        let webhook = hears(&setup, stop.clone()).await?;
        Ok(Playing {
            epoch,
            ear: Ear { webhook: format!("http://{webhook}/webhook/alertmanager"), name, redactor },
            clock,
            store,
            stages,
            triggers: triggers.into(),
            last: Vec::new(),
            _scratch: scratch,
            _ends_with_this: stop.drop_guard(),
        })
    }

    /// What a real installation would read beside the cluster, where the scenario has it.
    async fn sources(&self, clock: &Clock, stop: CancellationToken) -> anyhow::Result<Sources> {
        let Some(prometheus) = Prometheus::from_folder(&self.folder, clock.clone())? else {
            return Ok(Sources::default());
        };
        let router = prometheus.router();
        let address = serve(stop, |listener, stop| crate::http::serve(listener, router, stop)).await?;
        prometheus::source(address, &Redactor::default())
    }

    async fn llm(&self, stop: CancellationToken) -> anyhow::Result<Option<LlmOptions>> {
        Ok(match &self.mind {
            Mind::None => None,
            Mind::Server(options) => Some(options.clone()),
            Mind::Scripted => {
                let model = ScriptedModel::from_folder(&self.folder)?;
                let router = model.router();
                let address = serve(stop, |listener, stop| crate::http::serve(listener, router, stop)).await?;
                Some(LlmOptions {
                    base_url: format!("http://{address}/v1"),
                    model: "scripted".into(),
                    api_key: None,
                    turn_timeout: std::time::Duration::from_secs(10),
                    room: Room::default(),
                })
            }
        })
    }
}

/// Serves something on a loopback port of its own until `stop`.
async fn serve<F, R>(stop: CancellationToken, with: F) -> anyhow::Result<std::net::SocketAddr>
where
    F: FnOnce(TcpListener, CancellationToken) -> R,
    R: Future + Send + 'static,
    R::Output: Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(with(listener, stop));
    Ok(address)
}

/// Where the webhook of a daemon that is set up so is heard.
async fn hears(setup: &Setup, stop: CancellationToken) -> anyhow::Result<SocketAddr> {
    let webhook = Webhook {
        store: setup.store.clone(),
        cluster: setup.cluster.clone(),
        redactor: setup.redactor.clone(),
        clock: setup.clock.clone(),
        metrics: setup.metrics.clone(),
        credential: Credential::default(),
    };
    serve(stop, |listener, stop| crate::http::serve(listener, webhook.router(), stop)).await
}

#[cfg(test)]
mod tests;
