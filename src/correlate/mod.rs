//! Correlation: which signals are one fault, each merge with a sentence why. Pure.

pub mod changed;
pub mod ending;
pub mod late;
mod place;
pub mod root;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::correlate::place::Plan;
use crate::model::{
    Alert, AlertStatus, Incident, Kind, Name, ObjectRef, Scene, Severity, Signal, SignalBody, SignalId, Weight,
};
use crate::redact::Redacted;
use crate::text;

/// What correlation goes by; zero configuration gives the defaults.
#[derive(Clone, Debug)]
pub struct Rules {
    /// An incident that ended less than this ago is opened again by a new signal of its subject and fault.
    pub reopen: SignedDuration,
    /// Whether every signal may open an incident, or only these (a replay's triggers).
    pub openers: Openers,
    /// Most signals and objects that one incident lists by name.
    pub listed_max: usize,
    /// Names of further alerts that fire always, by design; compared like those that are known.
    pub always_firing: Vec<String>,
}

impl Default for Rules {
    fn default() -> Self {
        // Half an hour: two default group intervals of Alertmanager, within which flapping looks like one trouble.
        // 200: what a person can still look through; a storm has more, which say nothing new.
        Self {
            reopen: SignedDuration::from_mins(30),
            openers: Openers::All,
            listed_max: 200,
            always_firing: Vec::new(),
        }
    }
}

/// Which signals may open an incident.
#[derive(Clone, Debug)]
pub enum Openers {
    All,
    Only(BTreeSet<SignalId>),
}

/// A signal, and the object that it was found to be about.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub signal: Signal,
    /// None: it names no object.
    pub subject: Option<ObjectRef>,
}

/// What becomes of the signals.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A new incident with its first signal.
    Open {
        incident: Box<Incident>,
        signal: SignalId,
    },
    /// A signal joins; the incident is given whole, as it then is.
    Join {
        incident: Box<Incident>,
        signal: SignalId,
    },
    Ignore {
        signal: SignalId,
        why: Redacted,
    },
}

/// Alerts that fire always, by design, to prove that the pipeline works, or to inhibit others: in small letters, without
/// what people put between the words.
const ALWAYS_FIRING: [&str; 6] =
    ["watchdog", "infoinhibitor", "deadmansswitch", "deadmanswitch", "deadmansnitch", "alwaysfiring"];

/// Places `signals` in order into `incidents` (those open or ended within the reopen window), or opens new ones.
///
/// `scenes` holds what was read around subjects and roots; `severity` is asked for each subject that opens or worsens.
pub fn plan(
    incidents: &[Incident],
    signals: &[Resolved],
    scenes: &BTreeMap<ObjectRef, Arc<Scene>>,
    severity: &dyn Fn(&Scene) -> Weight,
    rules: &Rules,
    now: Timestamp,
) -> Vec<Change> {
    let mut plan = Plan { known: incidents.to_vec(), scenes, severity, rules, now };
    signals.iter().map(|resolved| plan.place(resolved)).collect()
}

/// The fault of the one incident that holds all trouble found at the first start.
pub const ARRIVAL: &str = "arrival";

/// Whether a signal may open an incident, or why not.
fn opens(signal: &Signal, rules: &Rules) -> Result<(), Redacted> {
    if let Openers::Only(ids) = &rules.openers
        && !ids.contains(&signal.id)
    {
        return Err(Redacted::literal("it is no trigger of this replay"));
    }
    match &signal.body {
        SignalBody::Rollout(_) => Err(Redacted::literal("a rollout alone is no trouble")),
        SignalBody::Alert(alert) if alert.status == AlertStatus::Resolved => {
            Err(Redacted::literal("it had resolved before it was heard, and no incident holds it"))
        }
        SignalBody::Alert(_) | SignalBody::Warning(_) => Ok(()),
    }
}

fn fires_always(alert: &Alert, rules: &Rules) -> Option<Redacted> {
    // `Watchdog`, `watchdog`, `Dead_Mans-Switch`: one alert by whatever hand.
    let plain = |name: &str| name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let name = plain(alert.name.as_str());
    let by_name = ALWAYS_FIRING.contains(&name.as_str()) || rules.always_firing.iter().any(|own| plain(own) == name);
    let by_severity = alert.label("severity").is_some_and(|s| s.eq_ignore_ascii_case("none"));
    (by_name || by_severity).then(|| text!("alert {} fires always, by design", alert.name))
}

/// An alert that names no object is its own subject: one incident for each alert name and namespace.
fn stand_in(signal: &Signal) -> Option<ObjectRef> {
    let SignalBody::Alert(alert) = &signal.body else { return None };
    let plain = |text: &str| -> String {
        text.chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' })
            .take(120)
            .collect()
    };
    let name = match alert.label("namespace") {
        Some(namespace) => format!("{}.{}", plain(namespace), plain(alert.name.as_str())),
        None => plain(alert.name.as_str()),
    };
    Name::parse(&name).map(|name| ObjectRef { kind: Kind::Alert, namespace: None, name })
}

/// The class of fault that a subject of this kind has.
pub fn fault(subject: &ObjectRef) -> String {
    let class = match subject.kind {
        Kind::Node => "node",
        Kind::Job | Kind::CronJob => "job",
        Kind::Service | Kind::EndpointSlice => "service",
        Kind::Ingress | Kind::IngressClass => "ingress",
        Kind::PersistentVolumeClaim | Kind::PersistentVolume | Kind::StorageClass => "storage",
        Kind::Alert => "alert",
        _ => "workload",
    };
    class.to_owned()
}

/// The signal in words.
fn named(signal: &Signal) -> Redacted {
    match &signal.body {
        SignalBody::Alert(alert) => text!("alert {}", alert.name),
        SignalBody::Warning(warning) => text!("{} of {}", warning.reason, warning.object),
        SignalBody::Rollout(rollout) => match rollout.revision {
            Some(revision) => text!("revision {} of {}", revision, rollout.object),
            None if rollout.is_edit() => text!("edit of {}", rollout.object),
            None => text!("rollout of {}", rollout.object),
        },
    }
}

fn began_at(signal: &Signal) -> Timestamp {
    match &signal.body {
        SignalBody::Alert(alert) => alert.starts_at,
        SignalBody::Warning(warning) => warning.first_at,
        SignalBody::Rollout(rollout) => rollout.at,
    }
}

fn apart(a: Timestamp, b: Timestamp) -> Redacted {
    match a.duration_since(b).abs().as_secs() {
        seconds @ 0..=89 => text!("{} s", seconds),
        seconds @ 90..=5399 => text!("{} min", (seconds + 30) / 60),
        seconds => text!("{} h", (seconds + 1800) / 3600),
    }
}

fn alert_severity(signal: &Signal) -> Option<Redacted> {
    match &signal.body {
        SignalBody::Alert(alert) => alert.labels.get("severity").filter(|value| !value.is_empty()).cloned(),
        SignalBody::Warning(_) | SignalBody::Rollout(_) => None,
    }
}

/// An order of the severities that alert rules commonly use.
fn rank(severity: &Redacted) -> u8 {
    match severity.as_str().to_ascii_lowercase().as_str() {
        "critical" | "page" => 4,
        "error" | "high" => 3,
        "warning" => 2,
        "info" => 1,
        _ => 0,
    }
}

/// Without a scene the alert's own word is all there is.
fn said_severity(signal: &Signal) -> Weight {
    let severity = match alert_severity(signal).as_ref().map_or(2, rank) {
        4 => Severity::High,
        3 | 2 => Severity::Medium,
        _ => Severity::Low,
    };
    Weight { severity, why: "nothing that it names could be read".into() }
}

#[cfg(test)]
mod tests;
