//! The application: the only place that builds clients and spawns stages.

pub mod callers;
pub mod clients;
mod drive;
pub mod foreign;
pub mod mcp;
pub mod sources;
mod stages;

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agent::llm::LlmOptions;
use crate::app::callers::CallersFile;
use crate::app::drive::{Rhythm, drive};
pub use crate::app::stages::Stages;
use crate::clock::Clock;
use crate::correlate::Rules;
use crate::govern::audit;
use crate::govern::budget::Price;
use crate::govern::gate::Gate;
use crate::govern::off::Off;
use crate::govern::policy::Policy;
use crate::http;
use crate::http::Credential;
use crate::http::admin::{Admin, Condition};
use crate::http::mcp::{Admission, Mcp};
use crate::http::slack::Interactivity;
use crate::http::webhook::Webhook;
use crate::ingest::watch;
use crate::mcp::foreign::Foreign;
use crate::model::{ClusterName, Name, Patience};
use crate::observe::Sources;
use crate::redact::Redactor;
use crate::slack::desk::{Desk, OnClick};
use crate::slack::interact::Place;
use crate::slack::socket;
use crate::stages::deliver::Outlet;
use crate::stages::seal::Anchors;
use crate::store::{Durability, News, Store, Write};
use crate::telemetry::Metrics;

/// Signals and audit entries come in floods: stages that take all that waits begin this far apart, so that a flood is a few
/// large batches with a sync each. The first of a flood waits for nothing, a click's action so long at most.
const BATCHES_APART: Duration = Duration::from_millis(20);
/// At shutdown units under way may finish for this long; then their leases run out by themselves.
const FINISH_WITHIN: Duration = Duration::from_secs(8);

/// Entries sealed at once before the end.
const SEAL_BATCH: u32 = 1_000;

/// Everything that an application is made of.
pub struct Setup {
    pub cluster: ClusterName,
    pub clock: Clock,
    pub redactor: Redactor,
    pub metrics: Metrics,
    pub store: Store,
    /// How to reach the API server, with the daemon's own credential.
    pub kubernetes: kube::Config,
    /// What may be read beside the cluster.
    pub sources: Sources,
    /// MCP servers of others.
    pub foreign: Vec<Foreign>,
    /// Tools of firstlook's own that are off.
    pub off: Off,
    /// Namespace and name prefix of firstlook's accounts, and whether actions are possible.
    pub accounts: (String, String, bool),
    pub policy: Policy,
    pub llm: Option<LlmOptions>,
    /// What the model costs, where the configuration says so.
    pub price: Option<Price>,
    pub outlet: Outlet,
    pub rules: Rules,
    pub patience: Patience,
    /// Only these namespaces are watched; empty: the whole cluster.
    pub namespaces: Vec<Name>,
    /// How long what is over is kept, in days.
    pub keep_days: u32,
    /// Where an object's dashboard is: a URL with `{namespace}`, `{kind}` and `{name}`.
    pub dashboard: Option<String>,
    /// Where heads of the audit chain are written down.
    pub anchors: Anchors,
    pub texts: Texts,
}

impl Setup {
    /// What only reads: nobody is told anything, nothing may be changed, and no model is asked.
    pub fn reading(
        cluster: ClusterName,
        clock: Clock,
        redactor: Redactor,
        store: Store,
        kubernetes: kube::Config,
    ) -> Self {
        Self {
            cluster,
            clock,
            redactor,
            metrics: Metrics::new(),
            store,
            kubernetes,
            sources: Sources::default(),
            foreign: Vec::new(),
            off: Off::default(),
            accounts: ("firstlook".into(), "firstlook".into(), false),
            policy: Policy::default(),
            llm: None,
            price: None,
            outlet: Outlet::Nowhere,
            rules: Rules::default(),
            patience: Patience::default(),
            namespaces: Vec::new(),
            keep_days: 30,
            dashboard: None,
            anchors: Anchors::default(),
            texts: Texts::default(),
        }
    }
}

/// What the settings were read from, for the audit.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    pub config: String,
    pub policy: String,
}

/// The listeners, bound already, each with its credential.
#[derive(Default)]
pub struct Listeners {
    pub webhook: Option<(TcpListener, Credential)>,
    pub slack: Option<(TcpListener, SecretString)>,
    pub admin: Option<(TcpListener, Credential)>,
    /// Other MCP clients.
    pub mcp: Option<(TcpListener, Admission)>,
    /// Who they are, looked at as long as they are served.
    pub callers: Option<CallersFile>,
    /// Socket Mode: the app-level token.
    pub socket: Option<SecretString>,
    /// Whether the cluster is watched (a replay places its triggers itself).
    pub watch: bool,
}

/// A running application.
pub struct App {
    stop: CancellationToken,
    tasks: TaskTracker,
    store: Store,
    clock: Clock,
    gate: Gate,
    anchors: Anchors,
}

impl App {
    /// Starts the listeners, the watches and the stages.
    ///
    /// # Errors
    /// When something cannot be built.
    pub async fn start(setup: Setup, listeners: Listeners) -> anyhow::Result<Self> {
        let stages = Arc::new(Stages::new(&setup).await?);
        begin(&setup, listeners.callers.as_ref()).await;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let mut conditions: Vec<Condition> = Vec::new();
        if listeners.watch {
            let health = watch::Health::default();
            let shown = health.clone();
            conditions.push(Arc::new(move || ("watches".to_owned(), shown.state())));
            let shown = health.clone();
            conditions.push(Arc::new(move || ("namespaces".to_owned(), shown.places())));
            let shown = health.clone();
            conditions.push(Arc::new(move || ("config_maps".to_owned(), shown.config_maps())));
            // The watches wait by themselves, and say so: kube's own retries would hide it for many minutes.
            let mut config = setup.kubernetes.clone();
            config.default_retry = false;
            let client = kube::Client::try_from(config)?;
            let watch = watch::Watch {
                client,
                store: setup.store.clone(),
                cluster: setup.cluster.clone(),
                redactor: setup.redactor.clone(),
                clock: setup.clock.clone(),
                metrics: setup.metrics.clone(),
                health,
                motion: stages.motion(),
                patience: setup.patience,
                namespaces: setup.namespaces.clone(),
            };
            tasks.spawn(watch.run(stop.child_token()));
        }
        if matches!(setup.outlet, Outlet::Slack { .. }) {
            let (away, clock) = (stages.undelivered(), setup.clock.clone());
            conditions.push(Arc::new(move || {
                let state = away.why(clock.now()).map_or(Ok(()), |why| Err(why.as_str().to_owned()));
                ("slack".to_owned(), state)
            }));
        }
        let (store, clock, gate) = (setup.store.clone(), setup.clock.clone(), stages.gate.clone());
        let app = Self { stop, tasks, store, clock, gate, anchors: setup.anchors.clone() };
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
        if let Some((listener, admission)) = listeners.mcp {
            let mcp = Mcp::new(self.gate.clone(), admission, self.stop.child_token());
            self.tasks.spawn(http::serve(listener, mcp.router(), self.stop.child_token()));
        }
        if let Some(file) = listeners.callers {
            self.tasks.spawn(file.follow(self.store.clone(), self.clock.clone(), self.stop.child_token()));
        }
        if let Some((listener, credential)) = listeners.admin {
            let admin = Admin { store: setup.store.clone(), metrics: setup.metrics.clone(), credential, conditions };
            self.tasks.spawn(http::serve(listener, admin.router(), self.stop.child_token()));
        }
    }

    fn drive_all(&self, stages: &Arc<Stages>, metrics: &Metrics) {
        macro_rules! stage {
            ($name:literal, $field:ident, $news:expr) => {
                stage!($name, $field, $news, Duration::ZERO)
            };
            ($name:literal, $field:ident, $news:expr, $apart:expr) => {{
                let stages = Arc::clone(stages);
                let run = move || {
                    let stages = Arc::clone(&stages);
                    async move { stages.$field.run_once().await }
                };
                let rhythm = Rhythm { name: $name, apart: $apart };
                let driven = drive(rhythm, run, self.store.subscribe($news), self.stop.child_token(), metrics.clone());
                self.tasks.spawn(driven);
            }};
        }
        stage!("resolve", resolve, News::HEARD, BATCHES_APART);
        stage!("correlate", correlate, News::RESOLVED, BATCHES_APART);
        stage!("deliver", deliver, News::CARD);
        stage!("preview", preview, News::APPROVAL);
        stage!("execute", execute, News::APPROVAL.and(News::CLICK));
        stage!("verify", verify, News::APPROVAL.and(News::INCIDENT));
        stage!("expire", expire, News::APPROVAL.and(News::INCIDENT));
        stage!("seal", seal, News::AUDIT, BATCHES_APART);
        let (stages, stop) = (Arc::clone(stages), self.stop.child_token());
        let news = self.store.subscribe(News::INVESTIGATION);
        self.tasks.spawn(drive::investigate(stages, news, stop, metrics.clone(), self.tasks.clone()));
    }

    /// Puts the stop into the audit, seals all that waits and writes the last head down.
    async fn end(&self) -> anyhow::Result<()> {
        let Self { store, clock, .. } = self;
        store.commit(vec![Write::Audit(audit::stop(clock.now()))], Durability::Durable, None).await?;
        while store.seal(SEAL_BATCH).await?.is_some() {}
        if let Some(head) = store.audit_head().await? {
            self.anchors.note(&head, clock.now(), true)?;
        }
        Ok(())
    }

    /// The gate, for callers from outside.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Stops taking work, lets units under way finish, seals the audit with the stop in it, and closes the store.
    pub async fn stop(self) {
        self.stop.cancel();
        if tokio::time::timeout(FINISH_WITHIN, self.tasks.wait()).await.is_err() {
            tracing::warn!("units under way did not finish in time; their leases run out by themselves");
        }
        self.gate.flush().await;
        if let Err(error) = self.end().await {
            tracing::error!("the stop is not in the audit: {error:#}");
        }
        self.store.close().await;
    }
}

/// Puts the start into the audit. A store that cannot take it says so to every webhook as well, and they are repeated:
/// the daemon runs on.
async fn begin(setup: &Setup, callers: Option<&CallersFile>) {
    let began = async {
        let before = setup.store.audit_last("start").await?;
        let (texts, callers) = (&setup.texts, callers.map(CallersFile::text));
        let entry = audit::start(setup.clock.now(), &texts.config, &texts.policy, callers, before.as_ref());
        if let Some(callers) = entry.body.get(audit::CALLERS_BEFORE) {
            tracing::warn!(before = %callers, now = %entry.body["callers_sha256"], "the callers' file has changed since the last start");
        }
        if let Some(policy) = entry.body.get(audit::POLICY_BEFORE) {
            tracing::warn!(before = %policy, now = %entry.body["policy_sha256"], "the policy has changed since the last start");
        }
        if let Some(config) = entry.body.get(audit::CONFIG_BEFORE) {
            tracing::warn!(before = %config, now = %entry.body["config_sha256"], "the configuration has changed since the last start");
        }
        Ok::<_, anyhow::Error>(setup.store.commit(vec![Write::Audit(entry)], Durability::Durable, None).await?)
    };
    if let Err(error) = began.await {
        tracing::error!("the start is not in the audit: {error:#}");
    }
}

/// A click is on disk before Slack is told that it arrived.
pub(crate) fn on_click(store: Store) -> OnClick {
    Arc::new(move |click| {
        let store = store.clone();
        Box::pin(async move { Ok(store.commit(vec![Write::Click(click)], Durability::Durable, None).await?) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;
    use crate::store::{Anchor, Options};

    fn setup(store: &Store, config: &str, policy: &str) -> Setup {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let cluster = ClusterName::parse("prod").unwrap();
        let clock = Clock::manual(from_ms(1_800_000_000_000));
        // Nothing listens there, and nothing is asked.
        let kubernetes = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        Setup {
            texts: Texts { config: config.into(), policy: policy.into() },
            ..Setup::reading(cluster, clock, Redactor::default(), store.clone(), kubernetes)
        }
    }

    #[tokio::test]
    async fn starts_and_stops_are_audited_and_sealed_and_a_changed_policy_or_configuration_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("firstlook.db").display());
        let anchors = folder.path().join("anchors");
        let open = async || {
            let options = Options::new(ClusterName::parse("prod").unwrap());
            Store::open(&url, Clock::manual(from_ms(1_800_000_000_000)), options).await.unwrap()
        };
        let texts = [
            ("cluster: prod", "approvers: []"),
            ("cluster: prod", "approvers: []"),
            ("cluster: prod", "deny: []"),
            ("cluster: prod # b", "deny: []"),
        ];
        for (start, (config, policy)) in texts.into_iter().enumerate() {
            let store = open().await;
            let lines = std::fs::OpenOptions::new().append(true).create(true).open(&anchors).unwrap();
            let setup = Setup { anchors: Anchors::to(lines), ..setup(&store, config, policy) };
            let callers = folder.path().join("callers.yaml");
            let namespace = if start == 2 { "cart" } else { "shop" };
            let hash = crate::govern::callers::token_hash("t");
            std::fs::write(
                &callers,
                format!("callers: [{{name: a, token_sha256: {hash}, namespaces: [{namespace}]}}]"),
            )
            .unwrap();
            // At the first start nobody may call yet.
            let callers = (start > 0).then(|| CallersFile::open(&callers, Vec::new()).unwrap().0);
            let app = App::start(setup, Listeners { callers, ..Listeners::default() }).await.unwrap();
            let began = store.audit_last("start").await.unwrap().unwrap();
            assert_eq!(began["callers_sha256"].is_string(), start > 0, "{began}");
            assert_eq!(began[audit::CALLERS_BEFORE].is_string(), start >= 2, "{began}");
            assert_eq!(began["version"], env!("CARGO_PKG_VERSION"));
            assert!(began["config_sha256"].is_string() && began["policy_sha256"].is_string(), "{began}");
            assert_eq!(began[audit::POLICY_BEFORE].is_string(), start == 2, "{began}");
            assert_eq!(began[audit::CONFIG_BEFORE].is_string(), start == 3, "{began}");
            app.stop().await;
            let store = open().await;
            // The last head that was written down has the stop in it.
            let written = std::fs::read_to_string(&anchors).unwrap();
            let heads: Vec<Anchor> = written.lines().filter_map(Anchor::parse).collect();
            assert_eq!(heads.last().map(|head| head.number), Some(2 * (start as i64 + 1)), "{written}");
            let verdict = store.audit_verify(&heads).await.unwrap();
            assert_eq!(verdict.anchored, heads.len() as u64);
            assert_eq!((verdict.sealed, verdict.unsealed, verdict.fault), (2 * (start as u64 + 1), 0, None));
            assert!(store.audit_last("stop").await.unwrap().is_some());
            store.close().await;
        }
    }
}
