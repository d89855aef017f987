//! The application: the only place that builds clients and spawns stages.

pub mod clients;
mod drive;

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::act::Actor;
use crate::act::account::Accounts;
use crate::agent::llm::{Llm, LlmOptions};
use crate::app::drive::drive;
use crate::clock::Clock;
use crate::correlate::Rules;
use crate::govern::gate::{Gate, GateOptions};
use crate::govern::policy::Policy;
use crate::http;
use crate::http::Credential;
use crate::http::admin::{Admin, Condition};
use crate::http::slack::Interactivity;
use crate::http::webhook::Webhook;
use crate::ingest::watch;
use crate::model::ClusterName;
use crate::observe::Reader;
use crate::redact::Redactor;
use crate::slack::desk::{Desk, OnClick};
use crate::slack::interact::Place;
use crate::slack::socket;
use crate::stages::Ran;
use crate::stages::correlate::Correlate;
use crate::stages::deliver::{Deliver, Outlet};
use crate::stages::execute::Execute;
use crate::stages::expire::Expire;
use crate::stages::investigate::Investigate;
use crate::stages::pace::Pace;
use crate::stages::preview::Preview;
use crate::stages::resolve::Resolve;
use crate::stages::seal::Seal;
use crate::stages::verify::Verify;
use crate::store::{Durability, News, Store, Write};
use crate::telemetry::Metrics;

/// Audit entries that come within this are sealed together, with one sync; a click's action waits so long at most.
const SEAL_GATHER: Duration = Duration::from_millis(20);
/// At shutdown units under way may finish for this long; then their leases run out by themselves.
const FINISH_WITHIN: Duration = Duration::from_secs(8);

/// Everything that an application is made of.
pub struct Setup {
    pub cluster: ClusterName,
    pub clock: Clock,
    pub redactor: Redactor,
    pub metrics: Metrics,
    pub store: Store,
    /// How to reach the API server, with the daemon's own credential.
    pub kubernetes: kube::Config,
    /// Namespace and name prefix of firstlook's accounts, and whether actions are possible.
    pub accounts: (String, String, bool),
    pub policy: Policy,
    pub llm: Option<LlmOptions>,
    pub outlet: Outlet,
    pub rules: Rules,
    /// How long what is over is kept, in days.
    pub keep_days: u32,
}

/// The listeners, bound already, each with its credential.
#[derive(Default)]
pub struct Listeners {
    pub webhook: Option<(TcpListener, Credential)>,
    pub slack: Option<(TcpListener, SecretString)>,
    pub admin: Option<(TcpListener, Credential)>,
    /// Socket Mode: the app-level token.
    pub socket: Option<SecretString>,
    /// Whether the cluster is watched (a replay places its triggers itself).
    pub watch: bool,
}

/// Every stage, ready to be stepped.
pub struct Stages {
    resolve: Resolve,
    correlate: Correlate,
    deliver: Deliver,
    investigate: Investigate,
    preview: Preview,
    execute: Execute,
    verify: Verify,
    expire: Expire,
    seal: Seal,
}

/// A running application.
pub struct App {
    stop: CancellationToken,
    tasks: TaskTracker,
    store: Store,
}

impl Stages {
    /// Builds the clients and the stages.
    ///
    /// # Errors
    /// When a client cannot be built.
    pub async fn new(setup: &Setup) -> anyhow::Result<Self> {
        let Setup { store, clock, redactor, metrics, policy, .. } = setup;
        let (client, server) = clients::tools(&setup.kubernetes)?;
        let reader = Reader::new(client.clone(), setup.cluster.clone(), redactor.clone(), clock.clone());
        let (namespace, prefix, writes) = setup.accounts.clone();
        let accounts = Accounts { daemon: client, server, namespace, prefix, writes, redactor: redactor.clone() };
        let actor = Actor::new(reader.clone(), accounts);
        let gate = Gate::start(GateOptions {
            store: store.clone(),
            reader: reader.clone(),
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
        let (store, clock, metrics, redactor) = (store.clone(), clock.clone(), metrics.clone(), redactor.clone());
        let limits = policy.limits.clone();
        Ok(Self {
            resolve: Resolve { store: store.clone(), reader: reader.clone(), clock: clock.clone() },
            correlate: Correlate {
                store: store.clone(),
                clock: clock.clone(),
                metrics: metrics.clone(),
                rules: setup.rules.clone(),
            },
            deliver: Deliver {
                store: store.clone(),
                outlet: setup.outlet.clone(),
                clock: clock.clone(),
                metrics: metrics.clone(),
            },
            investigate: Investigate {
                store: store.clone(),
                gate: gate.clone(),
                llm,
                clock: clock.clone(),
                redactor,
                metrics: metrics.clone(),
            },
            preview: Preview {
                store: store.clone(),
                actor: actor.clone(),
                clock: clock.clone(),
                approval_minutes: limits.approval_minutes,
            },
            execute: Execute {
                store: store.clone(),
                actor: actor.clone(),
                gate,
                outlet: setup.outlet.clone(),
                clock: clock.clone(),
                metrics: metrics.clone(),
            },
            verify: Verify::new(store.clone(), reader, clock.clone(), metrics),
            expire: Expire {
                store: store.clone(),
                actor,
                clock,
                keep_days: setup.keep_days,
                pruned_at_ms: 0.into(),
                pace: Pace::default(),
            },
            seal: Seal { store },
        })
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

impl App {
    /// Starts the listeners, the watches and the stages.
    ///
    /// # Errors
    /// When something cannot be built.
    pub async fn start(setup: Setup, listeners: Listeners) -> anyhow::Result<Self> {
        let stages = Arc::new(Stages::new(&setup).await?);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let mut conditions: Vec<Condition> = Vec::new();
        if listeners.watch {
            let health = watch::Health::default();
            let shown = health.clone();
            conditions.push(Arc::new(move || ("watches".to_owned(), shown.state())));
            // The watch client keeps kube's own retries: it may wait as long as it takes.
            let client = kube::Client::try_from(setup.kubernetes.clone())?;
            let watch = watch::Watch {
                client,
                store: setup.store.clone(),
                cluster: setup.cluster.clone(),
                redactor: setup.redactor.clone(),
                clock: setup.clock.clone(),
                metrics: setup.metrics.clone(),
                health,
            };
            tasks.spawn(watch.run(stop.child_token()));
        }
        let app = Self { stop, tasks, store: setup.store.clone() };
        app.serve(&setup, listeners, conditions);
        app.drive_all(&stages, &setup.metrics);
        app.tasks.close();
        Ok(app)
    }

    fn serve(&self, setup: &Setup, listeners: Listeners, mut conditions: Vec<Condition>) {
        if let Some((listener, credential)) = listeners.webhook {
            let webhook = Webhook {
                store: setup.store.clone(),
                cluster: setup.cluster.clone(),
                redactor: setup.redactor.clone(),
                clock: setup.clock.clone(),
                metrics: setup.metrics.clone(),
                credential,
            };
            self.tasks.spawn(http::serve(listener, webhook.router(), self.stop.child_token()));
        }
        if let Outlet::Slack { slack, .. } = &setup.outlet {
            let desk = Desk {
                place: Place { cluster: setup.cluster.clone(), redactor: setup.redactor.clone() },
                clock: setup.clock.clone(),
                slack: slack.clone(),
                on_click: on_click(setup.store.clone()),
            };
            if let Some(app_token) = listeners.socket {
                let (connected, seen) = tokio::sync::watch::channel(false);
                conditions.push(Arc::new(move || {
                    let state = if *seen.borrow() { Ok(()) } else { Err("not connected".to_owned()) };
                    ("socket_mode".to_owned(), state)
                }));
                self.tasks.spawn(socket::run(desk.clone(), app_token, connected, self.stop.child_token()));
            }
            if let Some((listener, signing_secret)) = listeners.slack {
                let interactivity =
                    Interactivity { signing_secret, clock: setup.clock.clone(), metrics: setup.metrics.clone(), desk };
                self.tasks.spawn(http::serve(listener, interactivity.router(), self.stop.child_token()));
            }
        }
        if let Some((listener, credential)) = listeners.admin {
            let admin = Admin { store: setup.store.clone(), metrics: setup.metrics.clone(), credential, conditions };
            self.tasks.spawn(http::serve(listener, admin.router(), self.stop.child_token()));
        }
    }

    fn drive_all(&self, stages: &Arc<Stages>, metrics: &Metrics) {
        macro_rules! stage {
            ($name:literal, $field:ident, $news:expr) => {
                stage!($name, $field, $news, None)
            };
            ($name:literal, $field:ident, $news:expr, $gather:expr) => {{
                let stages = Arc::clone(stages);
                let run = move || {
                    let stages = Arc::clone(&stages);
                    async move {
                        if let Some(gather) = $gather {
                            tokio::time::sleep(gather).await;
                        }
                        stages.$field.run_once().await
                    }
                };
                let driven = drive($name, run, self.store.subscribe($news), self.stop.child_token(), metrics.clone());
                self.tasks.spawn(driven);
            }};
        }
        stage!("resolve", resolve, News::HEARD);
        stage!("correlate", correlate, News::RESOLVED);
        stage!("deliver", deliver, News::CARD);
        stage!("preview", preview, News::APPROVAL);
        stage!("execute", execute, News::APPROVAL.and(News::CLICK));
        stage!("verify", verify, News::APPROVAL.and(News::INCIDENT));
        stage!("expire", expire, News::APPROVAL.and(News::INCIDENT));
        stage!("seal", seal, News::AUDIT, Some(SEAL_GATHER));
        let (stages, stop) = (Arc::clone(stages), self.stop.child_token());
        let news = self.store.subscribe(News::INVESTIGATION);
        self.tasks.spawn(drive::investigate(stages, news, stop, metrics.clone(), self.tasks.clone()));
    }

    /// Stops taking work, lets units under way finish, and closes the store.
    pub async fn stop(self) {
        self.stop.cancel();
        if tokio::time::timeout(FINISH_WITHIN, self.tasks.wait()).await.is_err() {
            tracing::warn!("units under way did not finish in time; their leases run out by themselves");
        }
        self.store.close().await;
    }
}

/// A click is on disk before Slack is told that it arrived.
fn on_click(store: Store) -> OnClick {
    Arc::new(move |click| {
        let store = store.clone();
        Box::pin(async move { Ok(store.commit(vec![Write::Click(click)], Durability::Durable, None).await?) })
    })
}
