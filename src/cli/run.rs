//! `firstlook run`: the daemon.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use jiff::SignedDuration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::agent::llm::LlmOptions;
use crate::app::callers;
use crate::app::callers::CallersFile;
use crate::app::clients;
use crate::app::foreign;
use crate::app::sources;
use crate::app::{App, Listeners, Setup, Texts};
use crate::cli::RunArgs;
use crate::clock::Clock;
use crate::config;
use crate::config::{Config, ENVIRONMENT_PREFIX};
use crate::correlate::{Openers, Rules};
use crate::govern::budget::Price;
use crate::govern::callers::Callers;
use crate::govern::off::Off;
use crate::govern::policy::{Policy, Problem};
use crate::http::Credential;
use crate::http::mcp::Admission;
use crate::model::{ClusterName, Room};
use crate::redact::Redactor;
use crate::slack::client::{Slack, SlackOptions};
use crate::stages::deliver::Outlet;
use crate::stages::seal::Anchors;
use crate::store::{Options, Store};
use crate::telemetry::Metrics;

/// Runs the daemon until SIGTERM or SIGINT.
pub async fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    crate::telemetry::start_logging(true, "info");
    let config = Config::load(&args.config, &config::environment())?;
    for name in &config.unused_variables {
        tracing::warn!("{name} fits no setting and is not read: {ENVIRONMENT_PREFIX}SECTION__KEY sets a key");
    }
    // Heard from now on, or one that comes early is lost: as the first process of a container there is no other handler.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stopped = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let mut stopped = std::pin::pin!(stopped);
    let app = tokio::select! {
        app = Box::pin(start(&config)) => app?,
        () = &mut stopped => return Ok(ExitCode::SUCCESS),
    };
    stopped.await;
    tracing::info!("stopping: no new work is taken");
    app.stop().await;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

async fn start(config: &Config) -> anyhow::Result<App> {
    let setup = setup(config).await?;
    let listeners = listeners(config).await?;
    let addresses = addresses(&listeners);
    let app = App::start(setup, listeners).await?;
    tracing::info!(cluster = config.cluster, "ready: {addresses}");
    Ok(app)
}

/// Everything that the configuration describes.
///
/// # Errors
/// What cannot be opened, read or built, and which key says so.
pub async fn setup(config: &Config) -> anyhow::Result<Setup> {
    let clock = Clock::system();
    let options = Options { size_max_bytes: Some(config.store.size_max_mib << 20), ..Options::new(cluster(config)?) };
    let store = Store::open(config.store_url(), clock.clone(), options).await.context("store.url")?;
    setup_over(config, store, clock).await
}

fn cluster(config: &Config) -> anyhow::Result<ClusterName> {
    config.cluster_name().map_err(anyhow::Error::msg)
}

/// Everything that the configuration describes, over a store of one's own: one that is open for reading only will do for
/// what only reads.
///
/// # Errors
/// As `setup`.
pub async fn setup_over(config: &Config, store: Store, clock: Clock) -> anyhow::Result<Setup> {
    let cluster = cluster(config)?;
    let redactor = Redactor::new(config.secrets());
    let metrics = Metrics::new();
    let outlet = match &config.slack {
        None => Outlet::Stdout,
        Some(slack) => {
            Outlet::Slack { slack: slack_client(slack, &redactor, &metrics)?, channel: slack.channel.clone() }
        }
    };
    let policy = policy(config)?;
    let price = price(config.model.as_ref());
    anyhow::ensure!(
        price.is_some() || config.model.is_none() || !policy.limits.counts_money(),
        "model.prices: the policy limits money, but there is no price for `{}`",
        config.model.as_ref().map_or("", |model| &model.name)
    );
    Ok(Setup {
        cluster,
        price,
        clock,
        kubernetes: clients::kubernetes(&config.kubernetes).await?,
        sources: sources::from(config, &redactor)?,
        foreign: foreign::from(config, &redactor)?,
        off: Off::of(&config.tools.off).map_err(anyhow::Error::msg)?,
        accounts: (config.kubernetes.namespace.clone(), config.kubernetes.account.clone(), config.kubernetes.writes),
        policy,
        dashboard: config.links.dashboard.clone(),
        anchors: anchors(config.audit.anchors.as_deref())?,
        texts: Texts { config: config.text.clone(), policy: policy_text(config.policy_file.as_deref())? },
        llm: config.model.as_ref().map(|model| LlmOptions {
            base_url: model.base_url.clone(),
            model: model.name.clone(),
            api_key: model.api_key.clone(),
            turn_timeout: model.turn_timeout(),
            room: Room { context_tokens: model.context_tokens, tools_at_once: model.tools_at_once },
        }),
        redactor,
        metrics,
        store,
        outlet,
        rules: rules(&config.incidents),
        patience: config.watch,
        namespaces: config.kubernetes.namespaces.clone(),
        keep_days: config.store.keep_days,
    })
}

/// What the configured model costs, where a price is given for it.
pub fn price(model: Option<&config::Model>) -> Option<Price> {
    let model = model?;
    let price = model.prices.get(&model.name)?;
    Some(Price { input: price.input, output: price.output, currency: Redactor::default().redact(&price.currency) })
}

fn anchors(place: Option<&Path>) -> anyhow::Result<Anchors> {
    Ok(match place {
        None => Anchors::default(),
        Some(place) if place == "stdout" => Anchors::to(std::io::stdout()),
        Some(file) => {
            let opened = std::fs::OpenOptions::new().append(true).create(true).open(file);
            Anchors::to(opened.with_context(|| format!("audit.anchors: {}", file.display()))?)
        }
    })
}

fn rules(incidents: &config::Incidents) -> Rules {
    Rules {
        reopen: SignedDuration::from_mins(i64::from(incidents.reopen_minutes)),
        openers: Openers::All,
        listed_max: incidents.listed_max,
        always_firing: incidents.always_firing.clone(),
    }
}

/// The client for Slack.
///
/// # Errors
/// When it cannot be built.
pub fn slack_client(slack: &config::Slack, redactor: &Redactor, metrics: &Metrics) -> anyhow::Result<Slack> {
    let bot_token = slack.bot_token.clone().context("slack.bot_token_file: missing")?;
    Slack::new(SlackOptions {
        api_url: slack.api_url.clone(),
        bot_token,
        redactor: redactor.clone(),
        metrics: metrics.clone(),
        clock: Clock::system(),
    })
}

/// The policy; without a file nobody may approve anything.
///
/// # Errors
/// The file's, with its place.
pub fn policy(config: &Config) -> anyhow::Result<Policy> {
    let Some(file) = config.policy_file.as_deref() else { return Ok(Policy::default()) };
    let shown = file.display().to_string();
    let policy = Policy::parse(&policy_text(Some(file))?, &shown)?;
    if let Some(Problem { line, key, what }) = policy.unlisted(&foreign::names(config)).first() {
        anyhow::bail!("{shown}:{line}: {key}: {what}");
    }
    for Problem { line, key, what } in uncalled(&policy, config)? {
        tracing::warn!("{shown}:{line}: {key}: {what}");
    }
    Ok(policy)
}

/// Bounds of callers that the callers' file does not list.
///
/// # Errors
/// That file's.
pub fn uncalled(policy: &Policy, config: &Config) -> anyhow::Result<Vec<Problem>> {
    let file = config.mcp_callers_file.as_ref().filter(|_| config.listeners.mcp.is_some());
    let Some(file) = file else { return Ok(policy.uncalled(&[])) };
    Ok(policy.uncalled(&callers::read(file, &foreign::servers(config))?.1.list()))
}

fn policy_text(file: Option<&Path>) -> anyhow::Result<String> {
    let Some(file) = file else { return Ok(String::new()) };
    std::fs::read_to_string(file).with_context(|| format!("policy_file: {}", file.display()))
}

async fn listeners(config: &Config) -> anyhow::Result<Listeners> {
    let webhook = &config.listeners.webhook;
    let basic = webhook.basic_user.clone().zip(webhook.basic_password.clone());
    let credential = Credential { bearer: webhook.bearer_token.clone(), basic };
    let admin = &config.listeners.admin;
    let metrics =
        Credential { bearer: admin.metrics_bearer_token.clone().filter(|_| !admin.metrics_open), basic: None };
    let bind = async |key: &str, address: std::net::SocketAddr| {
        TcpListener::bind(address).await.with_context(|| format!("listeners.{key}.address: {address}"))
    };
    let slack = match (&config.listeners.slack, config.slack.as_ref().and_then(|slack| slack.signing_secret.clone())) {
        (Some(listener), Some(secret)) => Some((bind("slack", listener.address).await?, secret)),
        _ => None,
    };
    let (callers_file, callers) = match &config.mcp_callers_file {
        Some(file) if config.listeners.mcp.is_some() => {
            let (file, callers) = CallersFile::open(file, foreign::servers(config))?;
            (Some(file), callers)
        }
        _ => (None, tokio::sync::watch::channel(Callers::default()).1),
    };
    let mcp = match &config.listeners.mcp {
        Some(listener) => {
            let admission = Admission {
                callers,
                without_token: listener.without_token,
                allowed_hosts: listener.allowed_hosts.clone(),
                allowed_origins: listener.allowed_origins.clone(),
            };
            Some((bind("mcp", listener.address).await?, admission))
        }
        None => None,
    };
    Ok(Listeners {
        mcp,
        callers: callers_file,
        webhook: Some((bind("webhook", webhook.address).await?, credential)),
        slack,
        admin: Some((bind("admin", admin.address).await?, metrics)),
        socket: config.slack.as_ref().and_then(|slack| slack.app_token.clone()),
        watch: true,
    })
}

fn addresses(listeners: &Listeners) -> String {
    let address = |listener: &TcpListener| listener.local_addr().map(|a| a.to_string()).unwrap_or_default();
    let mut shown = Vec::new();
    if let Some((listener, _)) = &listeners.webhook {
        shown.push(format!("webhook http://{}/webhook/alertmanager", address(listener)));
    }
    if let Some((listener, _)) = &listeners.slack {
        shown.push(format!("slack http://{}/slack/interactivity", address(listener)));
    }
    if let Some((listener, _)) = &listeners.mcp {
        shown.push(format!("mcp http://{}/mcp", address(listener)));
    }
    if let Some((listener, _)) = &listeners.admin {
        shown.push(format!("admin http://{}", address(listener)));
    }
    if listeners.socket.is_some() {
        shown.push("slack by Socket Mode".to_owned());
    }
    shown.join(", ")
}
