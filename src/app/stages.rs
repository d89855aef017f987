//! The stages with the clients that they share, built once.

use crate::act::Actor;
use crate::act::account::Accounts;
use crate::act::silence::Silencer;
use crate::agent::llm::Llm;
use crate::app::{Setup, clients};
use crate::govern::gate::{Gate, GateOptions};
use crate::model::IncidentId;
use crate::observe::Reader;
use crate::observe::motion::Motion;
use crate::stages::Ran;
use crate::stages::away::Away;
use crate::stages::correlate::Correlate;
use crate::stages::deliver::{Deliver, Edits};
use crate::stages::execute::Execute;
use crate::stages::expire::Expire;
use crate::stages::investigate::Investigate;
use crate::stages::listed::Listed;
use crate::stages::pace::Pace;
use crate::stages::preview::Preview;
use crate::stages::resolve::Resolve;
use crate::stages::seal::Seal;
use crate::stages::verify::{Verify, Watched};

/// Every stage, ready to be stepped.
pub struct Stages {
    pub(super) resolve: Resolve,
    pub(super) correlate: Correlate,
    pub(super) deliver: Deliver,
    pub(super) investigate: Investigate,
    pub(super) preview: Preview,
    pub(super) execute: Execute,
    pub(super) verify: Verify,
    pub(super) expire: Expire,
    pub(super) seal: Seal,
    motion: Motion,
    /// The gate that they share, for callers from outside.
    pub(crate) gate: Gate,
}

/// What several stages go through to the world.
struct Clients {
    reader: Reader,
    actor: Actor,
    gate: Gate,
    llm: Option<Llm>,
}

impl Clients {
    async fn new(setup: &Setup) -> anyhow::Result<Self> {
        let Setup { store, clock, redactor, metrics, policy, .. } = setup;
        let (client, server) = clients::tools(&setup.kubernetes)?;
        let (cluster, places) = (setup.cluster.clone(), setup.namespaces.clone());
        let reader = Reader::within(client.clone(), cluster, redactor.clone(), clock.clone(), places)
            .with_prometheus(setup.sources.prometheus.clone());
        let (namespace, prefix, writes) = setup.accounts.clone();
        let accounts = Accounts { daemon: client, server, namespace, prefix, writes, redactor: redactor.clone() };
        let silencer = setup.sources.alertmanager.clone().map(Silencer::new).transpose()?;
        let actor = Actor::new(reader.clone(), accounts, silencer);
        let gate = Gate::start(GateOptions {
            store: store.clone(),
            reader: reader.clone(),
            sources: setup.sources.clone(),
            foreign: setup.foreign.clone(),
            off: setup.off.clone(),
            policy: policy.clone(),
            redactor: redactor.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
        })
        .await?;
        let llm = match &setup.llm {
            Some(options) => Some(Llm::new(options.clone(), redactor.clone())?),
            None => None,
        };
        Ok(Self { reader, actor, gate, llm })
    }
}

impl Stages {
    /// Builds the clients and the stages.
    ///
    /// # Errors
    /// When a client cannot be built.
    pub async fn new(setup: &Setup) -> anyhow::Result<Self> {
        let Clients { reader, actor, gate, llm } = Clients::new(setup).await?;
        // Every clone of these is the same one.
        let store = || setup.store.clone();
        let clock = || setup.clock.clone();
        let metrics = || setup.metrics.clone();
        let motion = Motion::default();
        let listed = Listed::new(setup.sources.prometheus.clone());
        let alertmanager = setup.sources.alertmanager.clone();
        let watched = Watched { motion: motion.clone(), listed, alertmanager };
        Ok(Self {
            resolve: Resolve { store: store(), reader: reader.clone(), clock: clock() },
            correlate: Correlate { store: store(), clock: clock(), metrics: metrics(), rules: setup.rules.clone() },
            deliver: Deliver {
                store: store(),
                outlet: setup.outlet.clone(),
                clock: clock(),
                metrics: metrics(),
                dashboard: setup.dashboard.clone(),
                runbooks: setup.sources.runbooks.clone(),
                redactor: setup.redactor.clone(),
                off: setup.off.clone(),
                edits: Edits::default(),
                away: Away::default(),
            },
            investigate: investigate(setup, gate.clone(), llm),
            preview: Preview {
                store: store(),
                actor: actor.clone(),
                clock: clock(),
                approval_minutes: setup.policy.limits.approval_minutes,
            },
            execute: Execute {
                store: store(),
                actor: actor.clone(),
                gate: gate.clone(),
                outlet: setup.outlet.clone(),
                clock: clock(),
                metrics: metrics(),
                away: Away::default(),
                pace: Pace::default(),
            },
            verify: Verify::new(gate.clone(), reader, clock(), metrics(), setup.rules.clone(), watched),
            expire: Expire {
                store: store(),
                actor,
                clock: clock(),
                keep_days: setup.keep_days,
                off: setup.off.clone(),
                pruned_at_ms: 0.into(),
                pace: Pace::default(),
                motion: motion.clone(),
            },
            seal: Seal { store: store(), clock: clock(), anchors: setup.anchors.clone() },
            motion,
            gate,
        })
    }

    /// What the watches tell of motion; until they do, the stages that stand on it look by themselves.
    pub fn motion(&self) -> Motion {
        self.motion.clone()
    }

    /// The cards that wait for a person to mend something in Slack.
    pub(crate) fn undelivered(&self) -> Away {
        self.deliver.away.clone()
    }

    /// The next request that a model would get for this incident, as `Investigate::request` tells it.
    ///
    /// # Errors
    /// The store's.
    pub async fn request(&self, incident: &IncidentId) -> anyhow::Result<Option<serde_json::Value>> {
        self.investigate.request(incident).await
    }

    /// Takes the next turn of an investigation that waits, and steps no other stage.
    ///
    /// # Errors
    /// The store's.
    pub async fn investigate(&self) -> anyhow::Result<Ran> {
        // Boxed: with everything that a turn may lead to it is more than the stacks of debug builds hold.
        Box::pin(self.investigate.run_once()).await
    }

    /// Steps every stage until none has work, for replays and tests.
    ///
    /// # Errors
    /// The first stage's that fails.
    pub async fn settle(&self) -> anyhow::Result<()> {
        // Far more steps than any replay takes: an endless one is a bug that shows as an error.
        for _ in 0..10_000 {
            let mut ran = Ran::Idle;
            for step in [
                self.resolve.run_once().await?,
                self.correlate.run_once().await?,
                self.deliver.run_once().await?,
                self.investigate.run_once().await?,
                self.preview.run_once().await?,
                self.execute.run_once().await?,
                self.verify.run_once().await?,
                self.expire.run_once().await?,
                self.seal.run_once().await?,
            ] {
                if step == Ran::Worked {
                    ran = Ran::Worked;
                }
            }
            if ran == Ran::Idle {
                return Ok(());
            }
        }
        anyhow::bail!("the stages did not come to rest")
    }
}

fn investigate(setup: &Setup, gate: Gate, llm: Option<Llm>) -> Investigate {
    Investigate {
        store: setup.store.clone(),
        gate,
        llm,
        price: setup.price.clone(),
        purse: tokio::sync::Mutex::default(),
        clock: setup.clock.clone(),
        redactor: setup.redactor.clone(),
        metrics: setup.metrics.clone(),
        away: Away::default(),
    }
}
