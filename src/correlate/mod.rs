//! Correlation: which signals are one fault, each merge with a sentence why. Pure.

pub mod changed;
pub mod ending;
pub mod late;
pub mod root;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::model::{
    Alert, AlertStatus, Cause, Ending, Incident, IncidentState, Investigation, InvestigationState, Kind, Name,
    ObjectRef, Scene, Severity, Signal, SignalBody, SignalId, Weight, Why,
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
    let mut known: Vec<Incident> = incidents.to_vec();
    let mut changes = Vec::with_capacity(signals.len());
    for resolved in signals {
        changes.push(place(&mut known, resolved, scenes, severity, rules, now));
    }
    changes
}

fn place(
    known: &mut Vec<Incident>,
    resolved: &Resolved,
    scenes: &BTreeMap<ObjectRef, Arc<Scene>>,
    severity: &dyn Fn(&Scene) -> Weight,
    rules: &Rules,
    now: Timestamp,
) -> Change {
    let signal = &resolved.signal;
    let ignore = |why: Redacted| Change::Ignore { signal: signal.id.clone(), why };
    if let SignalBody::Alert(alert) = &signal.body
        && let Some(why) = fires_always(alert, rules)
    {
        return ignore(why);
    }
    let heard_of = resolved.subject.clone().or_else(|| stand_in(signal));
    let Some(heard_of) = heard_of else { return ignore(Redacted::literal("it names no object")) };
    if let SignalBody::Warning(warning) = &signal.body
        && warning.on_arrival
    {
        return arrive(known, signal, &heard_of, rules, now);
    }
    let root = scenes.get(&heard_of).and_then(|scene| root::of(scene));
    let (subject, mut because) = match &root {
        Some(root) => (root.object.clone(), Some(root.because.clone())),
        None => (heard_of.clone(), None),
    };
    let mut found = known.iter_mut().find(|incident| holds(incident, &subject) && may_join(incident, rules, now));
    // A cause that is not visible yet: the incident of the signal's own subject takes it.
    if found.is_none() {
        found = known.iter_mut().find(|incident| {
            let lists = holds(incident, &heard_of) || incident.also.contains(&heard_of);
            let took_in = incident.absorbed.iter().any(|merge| merge.subject == heard_of);
            let open = incident.state == IncidentState::Open && incident.fault != ARRIVAL;
            lists && open || took_in && may_join(incident, rules, now)
        });
    }
    // What changed is no trouble of its own; it belongs to that of a subject that feels it.
    if found.is_none() && matches!(signal.body, SignalBody::Rollout(_)) {
        found = known.iter_mut().find(|incident| {
            let open = incident.state == IncidentState::Open && incident.fault != ARRIVAL;
            let felt = scenes.get(&incident.subject).filter(|_| open);
            because = felt.and_then(|scene| changed::touches(scene, &heard_of));
            because.is_some()
        });
    }
    if let Some(incident) = found {
        let speaks_of_trouble = !matches!(&signal.body, SignalBody::Alert(a) if a.status == AlertStatus::Resolved);
        if matches!(incident.state, IncidentState::Over { .. }) {
            if !speaks_of_trouble || matches!(signal.body, SignalBody::Rollout(_)) {
                return ignore(text!("it belongs to incident {}, which is over", incident.id));
            }
            incident.state = IncidentState::Open;
            incident.healthy_since = None;
        }
        join(incident, resolved, &heard_of, because, scenes, severity, rules, now);
        return Change::Join { incident: Box::new(incident.clone()), signal: signal.id.clone() };
    }
    match opens(signal, rules) {
        Ok(()) => {
            let incident = open(signal, &subject, &heard_of, because, scenes, severity, now);
            known.push(incident.clone());
            Change::Open { incident: Box::new(incident), signal: signal.id.clone() }
        }
        Err(why) => ignore(why),
    }
}

/// The fault of the one incident that holds all trouble found at the first start.
pub const ARRIVAL: &str = "arrival";

/// Trouble that was there at the first start is one incident, whatever it is about; news about any of it opens another.
fn arrive(known: &mut Vec<Incident>, signal: &Signal, heard_of: &ObjectRef, rules: &Rules, now: Timestamp) -> Change {
    let signal_id = signal.id.clone();
    if let Some(incident) = known.iter_mut().find(|i| i.fault == ARRIVAL && i.state == IncidentState::Open) {
        if !incident.also.contains(heard_of) && incident.also.len() < rules.listed_max {
            incident.also.push(heard_of.clone());
        }
        incident.updated_at = now;
        return Change::Join { incident: Box::new(incident.clone()), signal: signal_id };
    }
    let Some(name) = Name::parse("found-on-arrival") else {
        return Change::Ignore { signal: signal_id, why: Redacted::literal("no name for the arrival") };
    };
    let subject = ObjectRef { kind: Kind::Alert, namespace: None, name };
    let nothing = BTreeMap::new();
    let low = |_: &Scene| Weight { severity: Severity::Low, why: Redacted::default() };
    let mut incident = open(signal, &subject, heard_of, None, &nothing, &low, now);
    incident.fault = ARRIVAL.to_owned();
    incident.severity = Severity::Low;
    known.push(incident.clone());
    Change::Open { incident: Box::new(incident), signal: signal_id }
}

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

fn holds(incident: &Incident, subject: &ObjectRef) -> bool {
    incident.subject == *subject && incident.fault == fault(subject)
}

fn may_join(incident: &Incident, rules: &Rules, now: Timestamp) -> bool {
    match &incident.state {
        IncidentState::Open => true,
        // Its signals are the other one's now.
        IncidentState::Over { how: Ending::Absorbed, .. } => false,
        IncidentState::Over { at, .. } => now.duration_since(*at) <= rules.reopen,
    }
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

fn open(
    signal: &Signal,
    subject: &ObjectRef,
    heard_of: &ObjectRef,
    because: Option<Redacted>,
    scenes: &BTreeMap<ObjectRef, Arc<Scene>>,
    severity: &dyn Fn(&Scene) -> Weight,
    now: Timestamp,
) -> Incident {
    let scene = scenes.get(subject).or_else(|| scenes.get(heard_of));
    let sentence = match &because {
        Some(because) => text!("{} opened it: {}", named(signal), because),
        None => text!("{} opened it", named(signal)),
    };
    let Weight { severity, why } = scene.map_or_else(|| said_severity(signal), |scene| severity(scene));
    Incident {
        severity,
        severity_why: why,
        alert_severity: alert_severity(signal),
        began_at: began_at(signal).min(now),
        why: vec![Why { signal: signal.id.clone(), at: now, sentence, joined: joined(heard_of, because) }],
        also: if heard_of == subject { Vec::new() } else { vec![heard_of.clone()] },
        investigation: Investigation::unbegun(InvestigationState::Waiting),
        ..Incident::opened(signal.cluster.clone(), subject.clone(), &fault(subject), now)
    }
}

#[expect(clippy::too_many_arguments, reason = "one step of place, which holds all of these")]
fn join(
    incident: &mut Incident,
    resolved: &Resolved,
    heard_of: &ObjectRef,
    because: Option<Redacted>,
    scenes: &BTreeMap<ObjectRef, Arc<Scene>>,
    severity: &dyn Fn(&Scene) -> Weight,
    rules: &Rules,
    now: Timestamp,
) {
    let signal = &resolved.signal;
    let apart = apart(began_at(signal), incident.began_at);
    let sentence = match &because {
        Some(because) => text!("{}: {}", named(signal), because),
        None if *heard_of == incident.subject => text!("{}: same {}, {} apart", named(signal), heard_of, apart),
        None => text!("{}: {} is part of this incident, {} apart", named(signal), heard_of, apart),
    };
    if incident.why.len() < rules.listed_max {
        incident.why.push(Why { signal: signal.id.clone(), at: now, sentence, joined: joined(heard_of, because) });
    }
    let edit = matches!(&signal.body, SignalBody::Rollout(rollout) if rollout.is_edit());
    if *heard_of != incident.subject
        && !edit
        && !incident.also.contains(heard_of)
        && incident.also.len() < rules.listed_max
    {
        incident.also.push(heard_of.clone());
    }
    if !matches!(signal.body, SignalBody::Rollout(_)) {
        incident.began_at = incident.began_at.min(began_at(signal));
    }
    if let Some(said) = alert_severity(signal)
        && rank(&said) > incident.alert_severity.as_ref().map_or(0, rank)
    {
        incident.alert_severity = Some(said);
    }
    if let Some(scene) = scenes.get(&incident.subject) {
        Weight { severity: incident.severity, why: incident.severity_why } = severity(scene);
    }
    incident.updated_at = now;
}

/// What a signal is about, where that is not where its fault lies.
fn joined(heard_of: &ObjectRef, because: Option<Redacted>) -> Option<Cause> {
    because.map(|because| Cause { object: heard_of.clone(), because, by_model: false })
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
