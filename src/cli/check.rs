//! `firstlook check`: tries everything that the daemon needs, and says of each what to do.

mod guards;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::act::account::{Account, Accounts};
use crate::agent::llm::{Llm, LlmOptions};
use crate::app;
use crate::app::clients;
use crate::cli::{CheckArgs, rbac, run};
use crate::clock::Clock;
use crate::config;
use crate::config::Config;
use crate::govern::off::Off;
use crate::model::{IncidentId, Name, Nonce, Room, Tier};
use crate::observe::Reader;
use crate::observe::access;
use crate::redact::Redactor;
use crate::slack::client::Slack;
use crate::slack::render;
use crate::store::{Examined, OpenError, Options, Store};
use crate::telemetry::Metrics;

/// One answer of the model is enough to see that it is there; local models need a while to load.
const MODEL_TIMEOUT: Duration = Duration::from_secs(60);
/// What finds a card again in a private channel.
pub(super) const PRIVATE_HISTORY: &str = "groups:history";
/// Only where the policy names a group.
const GROUPS_SCOPE: &str = "usergroups:read";
/// What the bot token must be allowed to do, and what for.
pub(super) const SCOPES: [(&str, &str); 3] = [
    ("chat:write", "to post and edit cards"),
    ("channels:history", "to find a card again whose post was cut off (groups:history for a private channel)"),
    (GROUPS_SCOPE, "to read the members of groups that the policy names"),
];

/// The accounts that act; each name follows the prefix.
const ACCOUNTS: [(Account, &str); 3] = [
    (Account::Preview, "preview"),
    (Account::Write(Tier::Reversible), "write"),
    (Account::Write(Tier::Destructive), "write-destructive"),
];

struct Report {
    failed: bool,
}

impl Report {
    fn passed(&self, what: &str, says: impl std::fmt::Display) {
        println!("ok    {what}: {says}");
    }

    fn failed(&mut self, what: &str, says: impl std::fmt::Display) {
        self.failed = true;
        println!("FAIL  {what}: {says}");
    }

    fn skipped(&self, what: &str, says: &str) {
        println!("-     {what}: {says}");
    }
}

/// Runs every check: exit 1 if one failed.
pub async fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    crate::telemetry::start_logging(false, "error");
    let mut report = Report { failed: false };
    let config = match Config::load(&args.config, &config::environment()) {
        Ok(config) => config,
        Err(error) => {
            report.failed("config", error);
            return Ok(ExitCode::from(1));
        }
    };
    report.passed("config", args.config.display());
    for name in &config.unused_variables {
        report.failed("config", format!("{name} fits no setting and is not read: correct it or unset it"));
    }
    let mut groups = false;
    match run::policy(&config) {
        Ok(policy) if policy.approvers.is_empty() => {
            let remedy = match &config.policy_file {
                Some(file) => format!("name people under approvers in {}", file.display()),
                None => "set policy_file".to_owned(),
            };
            report.skipped("policy", &format!("nobody may approve anything: {remedy} to offer buttons"));
        }
        Ok(policy) => {
            groups = policy.names_groups();
            report.passed("policy", format!("{} approver rule(s)", policy.approvers.len()));
        }
        Err(error) => report.failed("policy", format!("{error:#}")),
    }
    match Off::of(&config.tools.off) {
        Ok(off) if off.is_empty() => report.passed("tools", "all are on"),
        Ok(off) => report.passed("tools", format!("all are on but {}", by_what(&off, &config, &args.config))),
        Err(error) => report.failed("tools", error),
    }
    let redactor = Redactor::new(config.secrets());
    store(&config, &mut report).await;
    kubernetes(&config, &redactor, &mut report).await;
    sources(&config, &redactor, &mut report).await;
    slack(&config, &redactor, groups, args.send_card, &mut report).await;
    model(&config, &redactor, &mut report).await;
    Ok(if report.failed { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// What is off, each with where that is set.
fn by_what(off: &Off, config: &Config, file: &Path) -> String {
    let set_at = |tool| config.set_at(&off.by(tool).unwrap_or_default(), file, &config::environment());
    off.tools().map(|tool| format!("{tool} ({})", set_at(tool))).collect::<Vec<_>>().join(", ")
}

async fn store(config: &Config, report: &mut Report) {
    let Ok(cluster) = config.cluster_name() else { return };
    match Store::examine(config.store_url(), Clock::system(), Options::new(cluster)).await {
        Ok(Examined::New) => report.passed("store", "can be written; `run` makes its tables"),
        Ok(Examined::Current) => report.passed("store", "can be written, its schema is this version's"),
        Ok(Examined::Older { steps }) => {
            report.passed("store", format!("can be written; `run` migrates its schema by {steps} step(s)"));
        }
        // The usual case inside the pod: the daemon itself holds the file.
        Err(OpenError::Locked { by, .. }) => report.passed("store", format!("in use by {by}")),
        Err(error) => report.failed("store", format!("{error}; see store.url")),
    }
}

async fn kubernetes(config: &Config, redactor: &Redactor, report: &mut Report) {
    let reached = match clients::kubernetes(&config.kubernetes).await {
        Ok(kubernetes) => clients::tools(&kubernetes),
        Err(error) => Err(error),
    };
    let (client, server) = match reached {
        Ok(both) => both,
        Err(error) => return report.failed("kubernetes", format!("{error:#}")),
    };
    let Ok(cluster) = config.cluster_name() else { return };
    let reader = Reader::new(client.clone(), cluster, redactor.clone(), Clock::system());
    match reader.version().await {
        Ok(version) => report.passed("kubernetes", format!("API server {version}")),
        Err(error) => return report.failed("kubernetes", format!("{error}; is the kubeconfig's server reachable?")),
    }
    access(&reader, &config.kubernetes.namespaces, report).await;
    if !config.kubernetes.writes {
        return report.skipped("actions", "off (kubernetes.writes: false)");
    }
    let accounts = Accounts {
        daemon: client,
        server,
        namespace: config.kubernetes.namespace.clone(),
        prefix: config.kubernetes.account.clone(),
        writes: true,
        redactor: redactor.clone(),
    };
    // A policy or setting that cannot be read is told above: all are looked at then.
    let used = rbac::accounts(config).ok();
    for (account, suffix) in ACCOUNTS {
        let name = format!("{}-{suffix}", config.kubernetes.account);
        if used.as_ref().is_some_and(|used| !used.contains(&name)) {
            report.skipped("account", &format!("{name} is not needed: nothing of its tier is on and may be approved"));
            continue;
        }
        match guards::told(&accounts, account).await {
            Ok(says) => report.passed("admission policy", says),
            Err(says) => report.failed("admission policy", says),
        }
        match accounts.can_speak_as(account).await {
            Ok(()) => report.passed("account", &name),
            Err(error) => report.failed("account", format!("{name}: {error}; apply deploy/")),
        }
    }
}

/// Most of what is watched must be readable; the rest makes firstlook hear less, or the cards poorer, when it is not.
async fn access(reader: &Reader, namespaces: &[Name], report: &mut Report) {
    for access in access::all(reader, namespaces).await {
        let what = access.what;
        match access.missing {
            Ok(missing) if missing.is_empty() => report.passed("access", what),
            Ok(missing) if access.needed => {
                report.failed("access", format!("{what}: {} not allowed; apply deploy/", missing.join(", ")));
            }
            Ok(missing) => {
                report.skipped("access", &format!("{what}: {} not allowed; cards will say so", missing.join(", ")));
            }
            Err(error) => report.failed("access", format!("{what}: {error}")),
        }
    }
}

/// What is read beside the cluster: one line each.
async fn sources(config: &Config, redactor: &Redactor, report: &mut Report) {
    let sources = match app::sources::from(config, redactor) {
        Ok(sources) => sources,
        Err(error) => return report.failed("sources", format!("{error:#}")),
    };
    let now = Clock::system().now();
    match &sources.prometheus {
        None => report.skipped("prometheus", "not configured: no metrics are read"),
        Some(prometheus) => match prometheus.query("vector(1)", now).await {
            Ok(_) => report.passed("prometheus", "it answers queries"),
            Err(error) => report.failed("prometheus", format!("{error}; see prometheus.url and its token")),
        },
    }
    match &sources.alertmanager {
        None => report.skipped("alertmanager", "not configured: no alert can be silenced"),
        Some(alertmanager) => match alertmanager.silences().await {
            Ok(_) => report.passed("alertmanager", "it tells its silences"),
            Err(error) => report.failed("alertmanager", format!("{error}; see alertmanager.url and its token")),
        },
    }
    match &sources.loki {
        None => report.skipped("loki", "not configured: only logs of pods that are there are read"),
        Some(loki) => match loki.ready(now).await {
            Ok(()) => report.passed("loki", "it answers"),
            Err(error) => report.failed("loki", format!("{error}; see loki.url, its token and tenant")),
        },
    }
    match &sources.pagerduty {
        None => report.skipped("pagerduty", "not configured: nobody is asked who is on call"),
        Some(pagerduty) => match pagerduty.incidents().await {
            Ok(open) => report.passed("pagerduty", format!("it answers: {} open incidents", open.items.len())),
            Err(error) => report.failed("pagerduty", format!("{error}; see pagerduty.url and its token")),
        },
    }
}

async fn slack(config: &Config, redactor: &Redactor, groups: bool, send_card: bool, report: &mut Report) {
    let Some(settings) = &config.slack else {
        return report.skipped("slack", "not configured: cards go to stdout");
    };
    let client = match run::slack_client(settings, redactor, &Metrics::new()) {
        Ok(client) => client,
        Err(error) => return report.failed("slack", format!("{error:#}")),
    };
    match client.auth_test().await {
        Ok(identity) => {
            report.passed("slack", format!("{} in {}", identity.user, identity.team));
            for (scope, purpose) in SCOPES {
                let has = |scope: &str| identity.scopes.iter().any(|s| s.as_str() == scope);
                if has(scope) || (scope == "channels:history" && has(PRIVATE_HISTORY)) {
                    report.passed("slack scope", scope);
                } else if scope == GROUPS_SCOPE && !groups {
                    report.skipped("slack scope", &format!("{scope} is not needed: the policy names no group"));
                } else {
                    report.failed("slack scope", format!("{scope} is missing: add it to the app, {purpose}"));
                }
            }
        }
        Err(error) => return report.failed("slack", format!("{error}; see slack.bot_token_file")),
    }
    if let Some(app_token) = &settings.app_token {
        match client.open_link(app_token).await {
            Ok(_) => report.passed("slack socket mode", "a connection may be opened"),
            Err(error) => {
                let remedy = "it wants Socket Mode on and an app-level token with connections:write";
                report.failed("slack socket mode", format!("{error}; see slack.app_token_file: {remedy}"));
            }
        }
    }
    if send_card {
        test_card(&client, &settings.channel, report).await;
    }
}

async fn test_card(client: &Slack, channel: &str, report: &mut Report) {
    let message = render::test_card();
    let Some(incident) = IncidentId::parse("check") else { return };
    match client.post(channel, None, &message, &incident, &Nonce::fresh()).await {
        Ok(_) => report.passed("slack channel", format!("a test card stands in {channel}")),
        Err(error) => report.failed("slack channel", format!("{error}; invite the app to {channel}")),
    }
}

async fn model(config: &Config, redactor: &Redactor, report: &mut Report) {
    let Some(model) = &config.model else {
        return report.skipped("model", "not configured: cards are made from rules alone");
    };
    let options = LlmOptions {
        base_url: model.base_url.clone(),
        model: model.name.clone(),
        api_key: model.api_key.clone(),
        turn_timeout: MODEL_TIMEOUT,
        room: Room::default(),
    };
    let llm = match Llm::new(options, redactor.clone()) {
        Ok(llm) => llm,
        Err(error) => return report.failed("model", format!("{error:#}")),
    };
    let question = serde_json::json!({"role": "user", "content": "Answer with the one word: ready"});
    match llm.complete(&[question], &serde_json::Value::Array(Vec::new())).await {
        Ok(_) => report.passed("model", format!("{} answers", model.name)),
        Err(error) => report.failed("model", format!("{error}; see model.base_url, name and api_key_file")),
    }
}
