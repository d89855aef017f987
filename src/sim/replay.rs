//! A replay: one scenario folder through the whole pipeline on a clock that jumps, and its result as data.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::agent::llm::LlmOptions;
use crate::app::{Setup, Stages, Texts};
use crate::clock::Clock;
use crate::correlate::{Openers, Rules};
use crate::govern::policy::Policy;
use crate::http::Credential;
use crate::http::webhook::Webhook;
use crate::ingest::alertmanager;
use crate::model::scene::{At, ScenePart};
use crate::model::{
    ApprovalState, Card, Citation, ClusterName, IncidentId, Signal, SignalBody, SignalId, Source, Warning,
    WarningSource,
};
use crate::observe::typed::Typed;
use crate::redact::Redactor;
use crate::sim::cluster::{Cluster, Shift};
use crate::sim::model::ScriptedModel;
use crate::slack::render;
use crate::stages::deliver::Outlet;
use crate::store::{Durability, Options, Store, Write};
use crate::telemetry::Metrics;

/// A folder is a scenario when it holds this file.
pub const CLUSTER_FILE: &str = "cluster.json";
/// The replay's clock ends this long after the snapshot.
const END_AFTER: SignedDuration = SignedDuration::from_mins(30);
/// What the result contract has room for, in characters.
const ROOT_CAUSE_MAX_CHARS: usize = 700;
const MESSAGE_MAX_CHARS: usize = 3_000;
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

/// One scenario to be replayed.
pub struct Replay {
    pub folder: PathBuf,
    pub mind: Mind,
}

/// One trigger: what is heard, and when.
struct Trigger {
    at: Timestamp,
    heard: Heard,
}

enum Heard {
    /// The body of a webhook.
    Body(Vec<u8>),
    Signal(Box<Signal>),
}

impl Replay {
    /// Runs the scenario and gives its result contract, without id.
    ///
    /// # Errors
    /// When the folder is not a scenario, or something of the pipeline fails.
    pub async fn run(&self) -> anyhow::Result<Value> {
        let stop = CancellationToken::new();
        let _ends_with_this = stop.clone().drop_guard();
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let cluster = Cluster::load(&self.folder, clock.clone(), Shift::Keep)?;
        let epoch = cluster.epoch();
        let name = ClusterName::parse("replay").context("a constant name")?;
        let redactor = Redactor::default();
        let triggers = triggers(&self.folder, &cluster, epoch, &name, &redactor)?;
        clock.set(triggers.first().context("the scenario has no trigger")?.at);
        let kubernetes = cluster.at_hand(stop.clone()).await?;
        let scratch = tempfile::tempdir()?;
        let url = format!("sqlite:{}", scratch.path().join("replay.db").display());
        let store = Store::open(&url, clock.clone(), Options::new(name.clone())).await?;
        let openers = openers(&triggers, &name, &redactor)?;
        let setup = Setup {
            cluster: name.clone(),
            clock: clock.clone(),
            redactor: redactor.clone(),
            metrics: Metrics::new(),
            store: store.clone(),
            kubernetes,
            accounts: ("firstlook".into(), "firstlook".into(), true),
            policy: Policy::parse(POLICY, "the replay's policy")?,
            llm: self.llm(stop.clone()).await?,
            outlet: Outlet::Nowhere,
            rules: Rules { openers: Openers::Only(openers), ..Rules::default() },
            keep_days: 30,
            dashboard: None,
            texts: Texts::default(),
        };
        let stages = Stages::new(&setup).await?;
        let webhook = Webhook {
            store: store.clone(),
            cluster: name.clone(),
            redactor: redactor.clone(),
            clock: clock.clone(),
            metrics: setup.metrics.clone(),
            credential: Credential::default(),
        };
        let webhook =
            serve(stop.clone(), |listener, stop| crate::http::serve(listener, webhook.router(), stop)).await?;
        let webhook = format!("http://{webhook}/webhook/alertmanager");
        let mut last = Vec::new();
        for trigger in &triggers {
            clock.set(trigger.at);
            last = hear(&trigger.heard, &webhook, &store, &name, &redactor, &clock).await?;
            stages.settle().await?;
        }
        let result = result(&store, &last, &clock).await?;
        clock.set(epoch.checked_add(END_AFTER)?);
        stages.settle().await?;
        store.close().await;
        Ok(result)
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
                })
            }
        })
    }
}

/// Serves something on a loopback port of its own until `stop`.
async fn serve<F, R>(stop: CancellationToken, with: F) -> anyhow::Result<std::net::SocketAddr>
where
    F: FnOnce(TcpListener, CancellationToken) -> R,
    R: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(with(listener, stop));
    Ok(address)
}

/// Reads `trigger.json`, or the `trigger` key of truth.json and no other.
fn triggers(
    folder: &Path,
    cluster: &Cluster,
    epoch: Timestamp,
    name: &ClusterName,
    redactor: &Redactor,
) -> anyhow::Result<Vec<Trigger>> {
    let trigger: Value = match std::fs::read(folder.join("trigger.json")) {
        Ok(text) => serde_json::from_slice(&text)?,
        Err(_) => {
            let text = std::fs::read(folder.join("truth.json")).context("neither trigger.json nor truth.json")?;
            serde_json::from_slice::<Value>(&text)?["trigger"].take()
        }
    };
    let body = |file: &Value| -> anyhow::Result<Heard> {
        let file = folder.join(file.as_str().context("trigger: no file name")?);
        Ok(Heard::Body(std::fs::read(&file).with_context(|| file.display().to_string())?))
    };
    match trigger["type"].as_str() {
        Some("alertmanager") if trigger["sequence"].is_array() => {
            let sequence = trigger["sequence"].as_array().into_iter().flatten();
            sequence.map(|step| Ok(Trigger { at: at(epoch, &step["at"])?, heard: body(&step["file"])? })).collect()
        }
        Some("alertmanager") => Ok(vec![Trigger { at: at(epoch, &trigger["at"])?, heard: body(&trigger["file"])? }]),
        Some("k8s_event") => {
            let (namespace, event) = (&trigger["event"]["namespace"], &trigger["event"]["name"]);
            let (namespace, event) =
                (namespace.as_str().unwrap_or("default"), event.as_str().context("no event name")?);
            let object = cluster.get("Event", namespace, event).context("the trigger's event is not in the cluster")?;
            let signal = warning(&object, name, redactor, epoch).context("the trigger's event is no warning")?;
            Ok(vec![Trigger { at: at(epoch, &trigger["at"])?, heard: Heard::Signal(Box::new(signal)) }])
        }
        other => anyhow::bail!("trigger type {other:?} is not known"),
    }
}

/// The event as the watch would hear it.
fn warning(object: &Value, name: &ClusterName, redactor: &Redactor, now: Timestamp) -> Option<Signal> {
    let at = At { evidence: ScenePart::Events.evidence(), segment: 0 };
    let event = Typed { redactor }.event(object, at).filter(|event| event.warning)?;
    let source = WarningSource::Event { name: object["metadata"]["name"].as_str()?.to_owned() };
    let id = SignalId::derive(&["event", object["metadata"]["uid"].as_str()?]);
    let warning = Warning {
        object: event.object,
        source,
        reason: event.reason,
        message: event.message,
        first_at: event.first_at,
        last_at: event.last_at,
        count: event.count,
        on_arrival: false,
    };
    Some(Signal { id, cluster: name.clone(), heard_at: now, body: SignalBody::Warning(warning) })
}

/// An instant relative to the epoch, such as `-10m10s`.
fn at(epoch: Timestamp, offset: &Value) -> anyhow::Result<Timestamp> {
    let Some(text) = offset.as_str() else { return Ok(epoch) };
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let span: SignedDuration = digits.parse().with_context(|| format!("trigger: `{text}` is no duration"))?;
    Ok(epoch.checked_add(span * sign)?)
}

/// The signals that may open incidents: those of the triggers.
fn openers(triggers: &[Trigger], name: &ClusterName, redactor: &Redactor) -> anyhow::Result<BTreeSet<SignalId>> {
    let mut ids = BTreeSet::new();
    for trigger in triggers {
        match &trigger.heard {
            Heard::Signal(signal) => {
                ids.insert(signal.id.clone());
            }
            Heard::Body(body) => {
                let signals = alertmanager::parse(body, name, redactor, trigger.at)?;
                ids.extend(signals.into_iter().map(|signal| signal.id));
            }
        }
    }
    Ok(ids)
}

/// Lets a trigger be heard as it really would be, and gives its signals.
async fn hear(
    heard: &Heard,
    webhook: &str,
    store: &Store,
    name: &ClusterName,
    redactor: &Redactor,
    clock: &Clock,
) -> anyhow::Result<Vec<SignalId>> {
    match heard {
        Heard::Signal(signal) => {
            let mut signal = (**signal).clone();
            signal.heard_at = clock.now();
            let id = signal.id.clone();
            store.commit(vec![Write::Signals(vec![signal])], Durability::Durable, None).await?;
            Ok(vec![id])
        }
        Heard::Body(body) => {
            let http = reqwest::Client::builder().build()?;
            let answer =
                http.post(webhook).header("content-type", "application/json").body(body.clone()).send().await?;
            let status = answer.status();
            anyhow::ensure!(status.is_success(), "the webhook answered {status}: {}", answer.text().await?);
            let signals = alertmanager::parse(body, name, redactor, clock.now())?;
            Ok(signals.into_iter().map(|signal| signal.id).collect())
        }
    }
}

/// The result contract, of the incident that holds the last trigger.
async fn result(store: &Store, last: &[SignalId], clock: &Clock) -> anyhow::Result<Value> {
    let incidents = store.recent_incidents(Timestamp::UNIX_EPOCH).await?;
    let count = incidents.len();
    let mut holder = None;
    for incident in &incidents {
        let signals = store.signals_of(&incident.id, 10_000).await?;
        if signals.iter().any(|signal| last.contains(&signal.id)) {
            holder = Some(incident.id.clone());
        }
    }
    let Some(id) = holder.or_else(|| incidents.first().map(|incident| incident.id.clone())) else {
        return Ok(json!({
            "incidents": 0, "severity": "none", "root_cause": "", "message": "", "culprit": null,
            "citations": [], "actions": [], "executed": [],
            "usage": {"tool_calls": 0, "input_tokens": 0, "output_tokens": 0},
        }));
    };
    describe(store, &id, count, clock).await
}

async fn describe(store: &Store, id: &IncidentId, count: usize, clock: &Clock) -> anyhow::Result<Value> {
    let card = store.card(id).await?.context("the incident has no card")?;
    let options = render::Options { now: clock.now() };
    let message = render::flatten(&render::card(&card, &options));
    let report = card.report.as_ref();
    let root_cause = report.map(|report| {
        let headline = report.headline.as_str().trim_end_matches('.');
        if report.cause.is_empty() { headline.to_owned() } else { format!("{headline}. {}", report.cause) }
    });
    let culprit = report
        .and_then(|report| report.culprit.as_ref())
        .map(|object| json!({"kind": object.kind, "namespace": object.namespace, "name": object.name}));
    let citations: Vec<Value> =
        report.map(|report| report.citations.iter().filter_map(cited).collect()).unwrap_or_default();
    let investigation = &card.incident.investigation;
    Ok(json!({
        "incidents": count,
        "severity": card.incident.severity,
        "root_cause": cut(&root_cause.unwrap_or_default(), ROOT_CAUSE_MAX_CHARS),
        "message": cut(&message, MESSAGE_MAX_CHARS),
        "culprit": culprit,
        "citations": citations,
        "actions": actions(&card),
        "executed": [],
        "usage": {
            "tool_calls": investigation.tool_calls,
            "input_tokens": investigation.input_tokens,
            "output_tokens": investigation.output_tokens,
        },
    }))
}

/// Every action that was offered as a button.
fn actions(card: &Card) -> Vec<Value> {
    let offered =
        card.approvals.iter().filter(|a| !matches!(a.state, ApprovalState::Proposed | ApprovalState::Refused));
    let one = |approval: &crate::model::Approval| {
        let action = approval.action.as_ref()?;
        let object = action.object();
        let mut args = json!({"kind": object.kind, "namespace": object.namespace, "name": object.name});
        if let crate::model::Action::RolloutUndo { to_revision, .. } = action {
            args["to_revision"] = json!(to_revision);
        }
        Some(json!({"tool": action.tool(), "args": args, "tier": approval.tier}))
    };
    offered.filter_map(one).collect()
}

fn cited(citation: &Citation) -> Option<Value> {
    // Where redaction replaced a part the text is no longer the source's own.
    let quote = Some(citation.quote.as_str()).filter(|quote| !quote.contains("[redacted"));
    let mut value = match citation.source.as_ref()? {
        Source::Object { object } => {
            json!({"type": "object", "kind": object.kind, "namespace": object.namespace, "name": object.name})
        }
        Source::Event { object, reason } => {
            json!({"type": "event", "namespace": object.namespace, "object": object.name, "reason": reason})
        }
        Source::Log { namespace, pod, container, previous } => {
            let previous = if *previous { ".previous" } else { "" };
            json!({"type": "log", "path": format!("logs/{namespace}/{pod}/{container}{previous}.log")})
        }
        Source::Metric { query } => json!({"type": "metric", "query": query}),
        Source::Rollout { object } => {
            return Some(json!({"type": "rollout", "namespace": object.namespace, "deployment": object.name}));
        }
        Source::Summary => return None,
    };
    if let Some(quote) = quote {
        value["quote"] = json!(quote);
    }
    Some(value)
}

fn cut(text: &str, max_chars: usize) -> String {
    text.chars().take(max_chars).collect()
}
