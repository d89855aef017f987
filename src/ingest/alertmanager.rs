//! Alertmanager's webhook body (version 4) becomes signals. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::model::{Alert, AlertStatus, ClusterName, Signal, SignalBody, SignalId};
use crate::redact::{Redacted, Redactor};

/// Alerts of one body. Real bodies of a thousand alerts are 672 KB, so the listener's 4 MiB end long before this.
pub const ALERTS_MAX: usize = 10_000;
/// Labels, and annotations, of one alert: kube-prometheus uses at most 20.
const PAIRS_MAX: usize = 64;
/// A longer label or annotation value is cut: no name, and no sentence for a card, is longer.
const VALUE_MAX_CHARS: usize = 2_048;
/// A longer label name is cut.
const KEY_MAX_CHARS: usize = 128;

/// Why a body can never become signals; the sender's mistake, so it is answered 4xx.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseError {
    /// Truncated, or no JSON at all, or not UTF-8.
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    /// JSON, but a field is not what Alertmanager's webhook version 4 has there.
    #[error("`{field}` should be {expected}")]
    WrongShape { field: String, expected: &'static str },
    #[error("the body holds {0} alerts, more than {ALERTS_MAX}; set max_alerts at the receiver")]
    TooMany(usize),
}

/// The alerts of `body` as signals, in the body's order. The id of each derives from (cluster, receiver, groupKey,
/// fingerprint, startsAt, status), so that a repeat is the same signal. Unknown fields are ignored; absent ones, the
/// list of alerts apart, count as empty. Alerts that always fire by design are not dropped here.
pub fn parse(
    body: &[u8],
    cluster: &ClusterName,
    redactor: &Redactor,
    now: Timestamp,
) -> Result<Vec<Signal>, ParseError> {
    let body: Body<'_> = serde_json::from_slice(body).map_err(|error| explain(body, &error))?;
    if body.alerts.len() > ALERTS_MAX {
        return Err(ParseError::TooMany(body.alerts.len()));
    }
    let text = |raw: Option<&Text<'_>>| redactor.redact(raw.map_or("", |text| &text.0)).cut(VALUE_MAX_CHARS);
    let group = Group {
        cluster,
        redactor,
        now,
        receiver: text(body.receiver.as_ref()),
        group_key: text(body.group_key.as_ref()),
        truncated: body.truncated_alerts.unwrap_or(0),
        status: body.status.as_ref().map_or("firing", |text| &text.0),
    };
    body.alerts.iter().enumerate().map(|(index, raw)| group.signal(index, raw)).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(borrow)]
    receiver: Option<Text<'a>>,
    #[serde(borrow)]
    group_key: Option<Text<'a>>,
    #[serde(borrow)]
    status: Option<Text<'a>>,
    #[serde(borrow)]
    alerts: Vec<Raw<'a>>,
    truncated_alerts: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw<'a> {
    #[serde(borrow)]
    status: Option<Text<'a>>,
    #[serde(borrow)]
    labels: Option<BTreeMap<Text<'a>, Text<'a>>>,
    #[serde(borrow)]
    annotations: Option<BTreeMap<Text<'a>, Text<'a>>>,
    #[serde(borrow)]
    starts_at: Option<Text<'a>>,
    #[serde(borrow)]
    ends_at: Option<Text<'a>>,
    #[serde(borrow, rename = "generatorURL")]
    generator_url: Option<Text<'a>>,
    #[serde(borrow)]
    fingerprint: Option<Text<'a>>,
}

/// Text that borrows from the body where it holds no escape.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// What the alerts of one body share.
struct Group<'a> {
    cluster: &'a ClusterName,
    redactor: &'a Redactor,
    now: Timestamp,
    receiver: Redacted,
    group_key: Redacted,
    truncated: u64,
    status: &'a str,
}

impl Group<'_> {
    fn signal(&self, index: usize, raw: &Raw<'_>) -> Result<Signal, ParseError> {
        let at = |field: &str| format!("alerts[{index}].{field}");
        let status = match raw.status.as_ref().map_or(self.status, |text| &text.0) {
            "firing" => AlertStatus::Firing,
            "resolved" => AlertStatus::Resolved,
            _ => return Err(ParseError::WrongShape { field: at("status"), expected: "`firing` or `resolved`" }),
        };
        let starts_at = instant(raw.starts_at.as_ref(), || at("startsAt"))?;
        let ends_at = instant(raw.ends_at.as_ref(), || at("endsAt"))?;
        let fingerprint = match &raw.fingerprint {
            Some(text) if !text.0.is_empty() => self.redactor.redact(&text.0).cut(KEY_MAX_CHARS),
            _ => self.redactor.redact(&fingerprint(raw.labels.as_ref())),
        };
        let labels = self.pairs(raw.labels.as_ref());
        let started = starts_at.map_or_else(String::new, |at| at.as_millisecond().to_string());
        let id = SignalId::derive(&[
            self.cluster.as_str(),
            self.receiver.as_str(),
            self.group_key.as_str(),
            fingerprint.as_str(),
            &started,
            if status == AlertStatus::Firing { "firing" } else { "resolved" },
        ]);
        let named = labels.get("alertname").filter(|name| !name.is_empty());
        let alert = Alert {
            receiver: self.receiver.clone(),
            group_key: self.group_key.clone(),
            fingerprint,
            name: named.cloned().unwrap_or(Redacted::literal("unnamed alert")),
            status,
            labels,
            annotations: self.pairs(raw.annotations.as_ref()),
            starts_at: starts_at.unwrap_or(self.now),
            ends_at: ends_at.filter(|_| status == AlertStatus::Resolved),
            generator_url: raw.generator_url.as_ref().map(|url| self.redactor.redact(&url.0).cut(VALUE_MAX_CHARS)),
            truncated: self.truncated,
        };
        Ok(Signal { id, cluster: self.cluster.clone(), heard_at: self.now, body: SignalBody::Alert(alert) })
    }

    fn pairs(&self, raw: Option<&BTreeMap<Text<'_>, Text<'_>>>) -> BTreeMap<String, Redacted> {
        let redact = |(key, value): (&Text<'_>, &Text<'_>)| {
            // kube-state-metrics writes the name of a Secret under `secret`.
            let value = match &*key.0 {
                "secret" => self.redactor.redact(&value.0),
                key => self.redactor.redact_value(key, &value.0),
            };
            (plain(&key.0), value.cut(VALUE_MAX_CHARS))
        };
        raw.into_iter().flatten().take(PAIRS_MAX).map(redact).collect()
    }
}

/// A label's name is text from outside that nothing redacts, so only what a name may hold is kept of it.
fn plain(key: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ':') { c } else { '_' };
    key.chars().take(KEY_MAX_CHARS).map(keep).collect()
}

/// None for Go's zero time (year 1) and for anything before 1970, which no sender means.
fn instant(text: Option<&Text<'_>>, field: impl Fn() -> String) -> Result<Option<Timestamp>, ParseError> {
    let Some(text) = text.filter(|text| !text.0.is_empty()) else { return Ok(None) };
    let at: Timestamp = text
        .0
        .parse()
        .map_err(|_| ParseError::WrongShape { field: field(), expected: "an instant such as 2026-03-24T16:40:00Z" })?;
    Ok((at > Timestamp::UNIX_EPOCH).then_some(at))
}

/// For senders that leave the fingerprint out: 16 hex digits over the labels, as long as Alertmanager's own.
fn fingerprint(labels: Option<&BTreeMap<Text<'_>, Text<'_>>>) -> String {
    let mut digest = Sha256::new();
    for (key, value) in labels.into_iter().flatten() {
        for text in [&key.0, &value.0] {
            digest.update((text.len() as u64).to_be_bytes());
            digest.update(text.as_bytes());
        }
    }
    hex::encode(&digest.finalize()[..8])
}

/// Which field is wrong: serde's own message names only a place, so the body is read again, loosely.
fn explain(body: &[u8], error: &serde_json::Error) -> ParseError {
    let not_json = || ParseError::NotJson(format!("line {} column {}", error.line(), error.column()));
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return not_json() };
    let wrong = |field: String, expected| ParseError::WrongShape { field, expected };
    if !body.is_object() {
        return wrong("body".into(), "an object");
    }
    let texts = |object: &Value, names: &[&str]| {
        let wrong = |name: &&&str| !matches!(object.get(**name), None | Some(Value::Null | Value::String(_)));
        names.iter().find(wrong).map(|name| (*name).to_owned())
    };
    if let Some(name) = texts(&body, &["receiver", "groupKey", "status"]) {
        return wrong(name, "a text");
    }
    if body.get("truncatedAlerts").is_some_and(|count| !count.is_null() && !count.is_u64()) {
        return wrong("truncatedAlerts".into(), "a count");
    }
    let Some(alerts) = body.get("alerts").and_then(Value::as_array) else {
        return wrong("alerts".into(), "a list");
    };
    for (index, alert) in alerts.iter().enumerate() {
        let at = format!("alerts[{index}]");
        if !alert.is_object() {
            return wrong(at, "an object");
        }
        if let Some(name) = texts(alert, &["status", "startsAt", "endsAt", "generatorURL", "fingerprint"]) {
            return wrong(format!("{at}.{name}"), "a text");
        }
        for name in ["labels", "annotations"] {
            match alert.get(name) {
                None | Some(Value::Null) => {}
                Some(Value::Object(pairs)) => {
                    if let Some((key, _)) = pairs.iter().find(|(_, value)| !value.is_string()) {
                        return wrong(format!("{at}.{name}.{}", plain(key)), "a text");
                    }
                }
                Some(_) => return wrong(format!("{at}.{name}"), "an object"),
            }
        }
    }
    // Doubled fields and the like: rare enough to be named together.
    wrong("body".into(), "a body of Alertmanager's webhook version 4")
}

#[cfg(test)]
mod tests;
