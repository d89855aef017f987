//! The embedded world: a scenario's cluster, a scripted model and a Slack stand-in on loopback ports of their own, and an
//! application that lives in it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::agent::llm::LlmOptions;
use crate::app::{App, Listeners, Setup, Texts};
use crate::clock::Clock;
use crate::correlate::Rules;
use crate::govern::off::Off;
use crate::govern::policy::Policy;
use crate::http;
use crate::http::Credential;
use crate::model::{ClusterName, Patience, Room};
use crate::observe::Sources;
use crate::redact::Redactor;
use crate::sim::cluster::{Cluster, Shift};
use crate::sim::model::ScriptedModel;
use crate::sim::prometheus;
use crate::sim::prometheus::Prometheus;
use crate::sim::shipped::SHIPPED;
use crate::sim::slack::{Slack, SlackOptions};
use crate::slack::client;
use crate::stages::deliver::Outlet;
use crate::stages::seal::Anchors;
use crate::store::{Options, Store};
use crate::telemetry::Metrics;

/// Who may approve in the embedded world, as the policy names this person.
pub const APPROVER: &str = "U0ONCALL1";
/// The policy of the embedded world: one person may approve what can be taken back.
const POLICY: &str = "approvers: [{who: [U0ONCALL1], tiers: [reversible], namespaces: ['*']}]";
/// What the cards call the cluster: nobody shall take it for a real one.
const CLUSTER: &str = "demo";
/// The bearer token of the webhook: it guards a loopback port for as long as the demo runs.
const WEBHOOK_TOKEN: &str = "embedded-world-webhook";
/// Far longer than the scripted model ever waits.
const TURN_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest scenarios hold some dozens of files and half a megabyte.
const FILES_MAX: usize = 2_000;
const FILE_MAX_BYTES: u64 = 32 << 20;

/// A scenario's files, by their path within its folder.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: String,
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Scenario {
    /// The scenario that ships under this name, or else the one in this folder.
    ///
    /// # Errors
    /// When there is neither; the names that ship are listed.
    pub fn find(name_or_folder: &str) -> anyhow::Result<Self> {
        if let Some((name, files)) = SHIPPED.iter().find(|(name, _)| *name == name_or_folder) {
            let files = files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec())).collect();
            return Ok(Self { name: (*name).to_owned(), files });
        }
        let folder = Path::new(name_or_folder);
        let names: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
        anyhow::ensure!(
            folder.join("cluster.json").is_file(),
            "--scenario {name_or_folder}: neither a scenario that ships ({}) nor a folder with a cluster.json",
            names.join(", ")
        );
        Self::from_folder(folder)
    }

    /// Reads a folder: at most 2,000 files of 32 MiB each.
    ///
    /// # Errors
    /// Names the file that cannot be read, or the bound.
    pub fn from_folder(folder: &Path) -> anyhow::Result<Self> {
        let whole = folder.canonicalize().with_context(|| folder.display().to_string())?;
        let name = whole.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let mut files = BTreeMap::new();
        let mut folders = vec![whole.clone()];
        while let Some(at) = folders.pop() {
            for entry in std::fs::read_dir(&at).with_context(|| at.display().to_string())? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let size = path.metadata().with_context(|| path.display().to_string())?.len();
                anyhow::ensure!(size <= FILE_MAX_BYTES, "{}: over 32 MiB", path.display());
                anyhow::ensure!(files.len() < FILES_MAX, "{}: over {FILES_MAX} files", whole.display());
                let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
                let within = path.strip_prefix(&whole).unwrap_or(&path).to_string_lossy().replace('\\', "/");
                files.insert(within, bytes);
            }
        }
        Ok(Self { name, files })
    }

    /// One JSON file.
    ///
    /// # Errors
    /// When it is not there, or is no JSON; it is named.
    pub fn json(&self, path: &str) -> anyhow::Result<serde_json::Value> {
        let bytes = self.files.get(path).with_context(|| format!("{}: no {path}", self.name))?;
        serde_json::from_slice(bytes).with_context(|| format!("{}: {path}", self.name))
    }

    pub(super) fn logs(&self) -> BTreeMap<String, String> {
        let logs = self.files.iter().filter_map(|(path, bytes)| Some((path.strip_prefix("logs/")?, bytes)));
        logs.map(|(path, bytes)| (path.to_owned(), String::from_utf8_lossy(bytes).into_owned())).collect()
    }
}

/// The world around an application; it ends when this is dropped.
pub struct World {
    pub scenario: Scenario,
    pub clock: Clock,
    pub cluster: Cluster,
    pub slack: Slack,
    pub model: ScriptedModel,
    pub(super) cluster_at: SocketAddr,
    slack_at: SocketAddr,
    model_at: SocketAddr,
    sources: Sources,
    stop: CancellationToken,
    _ends_with_this: DropGuard,
}

/// An application that lives in a world, with its database in a temporary folder.
pub struct Living {
    pub app: App,
    pub store: Store,
    /// `http://…/webhook/alertmanager`.
    pub webhook_url: String,
    pub webhook_token: SecretString,
    scratch: TempDir,
}

impl World {
    /// Starts the parts of a world whose time begins now. The model thinks for `model_delay` before each answer.
    ///
    /// # Errors
    /// When a file of the scenario is wrong, or no loopback port is free.
    pub async fn start(scenario: Scenario, clock: Clock, slack: Slack, model_delay: Duration) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let cluster =
            Cluster::from_parts(scenario.json("cluster.json")?, scenario.logs(), clock.clone(), Shift::ToNow)?;
        let model = ScriptedModel::from_files(&scenario.files)?.with_delay(model_delay);
        let (listener, cluster_at) = loopback().await?;
        let (served, token) = (cluster.clone(), stop.clone());
        tokio::spawn(async move { served.serve(listener, token).await });
        let (listener, slack_at) = loopback().await?;
        tokio::spawn(http::serve(listener, slack.router(), stop.clone()));
        let (listener, model_at) = loopback().await?;
        tokio::spawn(http::serve(listener, model.router(), stop.clone()));
        let sources = sources(&scenario, &clock, stop.clone()).await?;
        let guard = stop.clone().drop_guard();
        Ok(Self {
            scenario,
            clock,
            cluster,
            slack,
            model,
            cluster_at,
            slack_at,
            model_at,
            sources,
            stop,
            _ends_with_this: guard,
        })
    }

    /// Serves the page with the channel on this listener, as long as the world lasts.
    pub fn serve_page(&self, listener: TcpListener) {
        tokio::spawn(http::serve(listener, self.slack.page_router(), self.stop.clone()));
    }

    /// Starts an application in this world: webhook with a bearer token, clicks by Socket Mode and by signed HTTP.
    ///
    /// # Errors
    /// When a part cannot be built or no loopback port is free.
    pub async fn inhabit(&self) -> anyhow::Result<Living> {
        let scratch = tempfile::Builder::new().prefix("firstlook-demo-").tempdir().context("a temporary folder")?;
        let url = format!("sqlite:{}", scratch.path().join("firstlook.db").display());
        let setup = self.setup(&url).await?;
        let store = setup.store.clone();
        let (webhook, webhook_at) = loopback().await?;
        let (clicks, clicks_at) = loopback().await?;
        let options = self.slack.options();
        let webhook_token: SecretString = WEBHOOK_TOKEN.into();
        let credential = Credential { bearer: Some(webhook_token.clone()), basic: None };
        let listeners = Listeners {
            webhook: Some((webhook, credential)),
            slack: Some((clicks, options.signing_secret.clone().into())),
            socket: Some(options.app_token.clone().into()),
            ..Listeners::default()
        };
        self.slack.set_interactivity_url(format!("http://{clicks_at}/slack/interactivity"));
        let app = App::start(setup, listeners).await?;
        let webhook_url = format!("http://{webhook_at}/webhook/alertmanager");
        Ok(Living { app, store, webhook_url, webhook_token, scratch })
    }

    pub(super) async fn setup(&self, store_url: &str) -> anyhow::Result<Setup> {
        let cluster = ClusterName::parse(CLUSTER).context("a constant name")?;
        let options: &SlackOptions = self.slack.options();
        let own = [&options.bot_token, &options.app_token, &options.signing_secret].map(|secret| secret.clone());
        let redactor = Redactor::new(own.into_iter().chain([WEBHOOK_TOKEN.to_owned()]));
        let metrics = Metrics::new();
        let store = Store::open(store_url, self.clock.clone(), Options::new(cluster.clone())).await?;
        let mut kubernetes = kube::Config::new(format!("http://{}", self.cluster_at).parse()?);
        kubernetes.auth_info.token = Some(self.cluster.token_for("firstlook").into());
        let outlet = self.outlet(&redactor, &metrics)?;
        let llm = LlmOptions {
            base_url: format!("http://{}/v1", self.model_at),
            model: "scripted".into(),
            api_key: None,
            turn_timeout: TURN_TIMEOUT,
            room: Room::default(),
        };
        Ok(Setup {
            cluster,
            clock: self.clock.clone(),
            redactor,
            metrics,
            store,
            kubernetes,
            sources: self.sources.clone(),
            foreign: Vec::new(),
            off: Off::default(),
            accounts: ("firstlook".into(), "firstlook".into(), true),
            policy: Policy::parse(POLICY, "the embedded world's policy")?,
            // A scenario without answers is shown as firstlook works without a model.
            llm: Some(llm).filter(|_| !self.model.is_empty()),
            outlet,
            rules: Rules::default(),
            patience: Patience::default(),
            namespaces: Vec::new(),
            keep_days: 30,
            dashboard: None,
            price: None,
            anchors: Anchors::default(),
            texts: Texts::default(),
        })
    }

    /// The first channel of the workspace, by a client of its own.
    pub(super) fn outlet(&self, redactor: &Redactor, metrics: &Metrics) -> anyhow::Result<Outlet> {
        let options: &SlackOptions = self.slack.options();
        let slack = client::Slack::new(client::SlackOptions {
            bot_token: options.bot_token.clone().into(),
            api_url: format!("http://{}/api", self.slack_at),
            redactor: redactor.clone(),
            metrics: metrics.clone(),
            clock: self.clock.clone(),
        })?;
        let channel = options.channels.first().map(|channel| channel.id.clone()).context("a channel")?;
        Ok(Outlet::Slack { slack, channel })
    }
}

impl Living {
    /// Stops the application and removes its database.
    pub async fn end(self) {
        self.app.stop().await;
        // Only a folder that is left behind, which the system's own cleaning takes.
        let _ = self.scratch.close();
    }
}

/// What a real installation would read beside the cluster, where the scenario has it; its time ends now as well.
async fn sources(scenario: &Scenario, clock: &Clock, stop: CancellationToken) -> anyhow::Result<Sources> {
    let epoch: Option<Timestamp> = scenario.json("cluster.json")?["x-epoch"].as_str().and_then(|at| at.parse().ok());
    let shift = epoch.map_or(SignedDuration::ZERO, |epoch| clock.now().duration_since(epoch));
    let Some(prometheus) = Prometheus::from_files(&scenario.files, clock.clone(), shift)? else {
        return Ok(Sources::default());
    };
    let (listener, address) = loopback().await?;
    tokio::spawn(http::serve(listener, prometheus.router(), stop));
    prometheus::source(address, &Redactor::default())
}

async fn loopback() -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("no loopback port is free")?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
