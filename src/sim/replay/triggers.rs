//! What a scenario lets be heard, and when: webhooks as files, or one event.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::clock::Clock;
use crate::ingest::alertmanager;
use crate::model::scene::{At, ScenePart};
use crate::model::{ClusterName, Signal, SignalBody, SignalId, Warning, WarningSource};
use crate::observe::typed::Typed;
use crate::redact::Redactor;
use crate::sim::cluster::Cluster;
use crate::store::{Durability, Store, Write};

/// One trigger: what is heard, and when.
pub(super) struct Trigger {
    pub(super) at: Timestamp,
    pub(super) heard: Heard,
}

pub(super) enum Heard {
    /// The body of a webhook.
    Body(Vec<u8>),
    Signal(Box<Signal>),
}

/// Reads `trigger.json`, or the `trigger` key of truth.json and no other.
pub(super) fn triggers(
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
pub(super) fn openers(
    triggers: &[Trigger],
    name: &ClusterName,
    redactor: &Redactor,
) -> anyhow::Result<BTreeSet<SignalId>> {
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

/// Through what triggers are heard.
pub(super) struct Ear {
    /// The webhook's URL.
    pub(super) webhook: String,
    pub(super) name: ClusterName,
    pub(super) redactor: Redactor,
}

impl Ear {
    /// Lets a trigger be heard as it really would be, and gives its signals.
    pub(super) async fn hear(&self, heard: &Heard, store: &Store, clock: &Clock) -> anyhow::Result<Vec<SignalId>> {
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
                let request = http.post(&self.webhook).header("content-type", "application/json");
                let answer = request.body(body.clone()).send().await?;
                let status = answer.status();
                anyhow::ensure!(status.is_success(), "the webhook answered {status}: {}", answer.text().await?);
                let signals = alertmanager::parse(body, &self.name, &self.redactor, clock.now())?;
                Ok(signals.into_iter().map(|signal| signal.id).collect())
            }
        }
    }
}
