//! Placing: one signal joins the incident that it belongs to, or opens one, or is ignored, each with a sentence why.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::correlate::{ARRIVAL, Change, Resolved, Rules};
use crate::correlate::{
    alert_severity, apart, began_at, fault, fires_always, named, opens, rank, said_severity, stand_in,
};
use crate::correlate::{changed, root};
use crate::model::scene;
use crate::model::{
    AlertStatus, Cause, Ending, Incident, IncidentState, Investigation, InvestigationState, Kind, Name, ObjectRef,
    Scene, Severity, Signal, SignalBody, WarningSource, Weight, Why,
};
use crate::redact::Redacted;
use crate::text;

/// A plan in the making.
pub(super) struct Plan<'a> {
    /// The incidents as they are after the signals so far.
    pub(super) known: Vec<Incident>,
    pub(super) scenes: &'a BTreeMap<ObjectRef, Arc<Scene>>,
    pub(super) severity: &'a dyn Fn(&Scene) -> Weight,
    pub(super) rules: &'a Rules,
    pub(super) now: Timestamp,
}

/// What a signal is about.
struct About {
    /// What it was heard of.
    heard_of: ObjectRef,
    /// Where the fault lies.
    subject: ObjectRef,
    /// What joins the two, where they differ.
    because: Option<Redacted>,
    /// The CronJob, where it was heard of one of its runs.
    cron_job: Option<ObjectRef>,
}

impl Plan<'_> {
    /// What becomes of one signal.
    pub(super) fn place(&mut self, resolved: &Resolved) -> Change {
        let signal = &resolved.signal;
        let ignore = |why: Redacted| Change::Ignore { signal: signal.id.clone(), why };
        if let SignalBody::Alert(alert) = &signal.body
            && let Some(why) = fires_always(alert, self.rules)
        {
            return ignore(why);
        }
        let heard_of = resolved.subject.clone().or_else(|| stand_in(signal));
        let Some(heard_of) = heard_of else { return ignore(Redacted::literal("it names no object")) };
        if let SignalBody::Warning(warning) = &signal.body
            && warning.on_arrival
        {
            return self.arrive(signal, &heard_of);
        }
        let mut about = self.about(heard_of);
        if let Some(at) = self.belongs_to(signal, &mut about) {
            return self.join_at(at, signal, about);
        }
        match opens(signal, self.rules).and_then(|()| self.is_meant(signal, &about)) {
            Ok(()) if resolved.subject.is_none() && is_old(signal) => self.arrive(signal, &about.heard_of),
            Ok(()) => {
                let incident = self.open(signal, about);
                self.known.push(incident.clone());
                Change::Open { incident: Box::new(incident), signal: signal.id.clone() }
            }
            Err(why) => ignore(why),
        }
    }

    /// Refuses a Service without endpoints whose workload is scaled to nothing.
    fn is_meant(&self, signal: &Signal, about: &About) -> Result<(), Redacted> {
        let watched = matches!(&signal.body, SignalBody::Warning(w) if w.source == WarningSource::ObjectState);
        let scene = self.scenes.get(&about.heard_of).filter(|_| watched && about.heard_of.kind == Kind::Service);
        let mut services = scene.into_iter().flat_map(|scene| scene.services.items());
        let own = services.find(|service| service.object == about.heard_of);
        match own.and_then(|service| service.behind.as_ref()).filter(|behind| behind.wanted == 0) {
            Some(behind) => Err(text!("{} behind it is scaled to 0", behind.object)),
            None => Ok(()),
        }
    }

    fn about(&self, heard_of: ObjectRef) -> About {
        let scene = self.scenes.get(&heard_of);
        let workload = scene.and_then(|scene| scene.workload.known()?.as_ref());
        let cron_job = workload.and_then(|workload| workload.cron_job.clone());
        match scene.and_then(|scene| root::of(scene)) {
            Some(root) => About { heard_of, subject: root.object, because: Some(root.because), cron_job },
            None => About { subject: heard_of.clone(), heard_of, because: None, cron_job },
        }
    }

    /// The incident that a signal belongs to, by its place among those known; what joins it where only the scene tells.
    fn belongs_to(&self, signal: &Signal, about: &mut About) -> Option<usize> {
        let is_open = |incident: &Incident| incident.state == IncidentState::Open && incident.fault != ARRIVAL;
        let at_fault = |incident: &Incident| holds(incident, &about.subject) && self.may_join(incident);
        // A cause that is not visible yet: the incident of the signal's own subject takes it.
        let of_its_own = |incident: &Incident| {
            // That an incident may read a namespace makes trouble of the namespace no part of it; nor is one of its
            // objects ill of it that was given a revision since and is not well.
            let own = about.heard_of.kind == Kind::Namespace || self.has_trouble_since(incident, about);
            let also = !own && incident.also.contains(&about.heard_of);
            let took_in = incident.took_in().any(|subject| *subject == about.heard_of);
            (holds(incident, &about.heard_of) || also) && is_open(incident) || took_in && self.may_join(incident)
        };
        let found = self.known.iter().position(at_fault).or_else(|| self.known.iter().position(of_its_own));
        let found = found.or_else(|| self.of_an_earlier_run(about));
        if found.is_some() || !matches!(signal.body, SignalBody::Rollout(_)) {
            return found;
        }
        // What changed is no trouble of its own; it belongs to that of a subject that feels it.
        let felt =
            self.known.iter().enumerate().filter(|(_, incident)| is_open(incident)).find_map(|(at, incident)| {
                let scene = self.scenes.get(&incident.subject)?;
                Some((at, changed::touches(scene, &about.heard_of)?))
            });
        let (at, because) = felt?;
        about.because = Some(because);
        Some(at)
    }

    /// Whether what it was heard of had a rollout after the incident began, has pods that are not ready, and nothing
    /// outside explains them.
    fn has_trouble_since(&self, incident: &Incident, about: &About) -> bool {
        let Some(scene) = self.scenes.get(&about.heard_of).filter(|_| about.because.is_none()) else { return false };
        let since = |change: &scene::Change| {
            change.to_revision.is_some() && change.object == about.heard_of && change.changed_at > incident.began_at
        };
        scene.changes.items().iter().any(since) && scene.pods.items().iter().any(|pod| !pod.ready && !pod.is_finished())
    }

    /// The incident of an earlier run of the same CronJob. Runs that fail further apart than what is taken for flapping
    /// are each news: of a job of every night nobody would hear again while the card of the first stands.
    fn of_an_earlier_run(&self, about: &mut About) -> Option<usize> {
        let cron_job = about.cron_job.as_ref()?;
        let lately = |incident: &Incident| {
            incident.why.last().is_some_and(|why| self.now.duration_since(why.at) <= self.rules.reopen)
        };
        let is_it = |incident: &Incident| {
            incident.subject.kind == Kind::Job && incident.also.contains(cron_job) && self.may_join(incident)
        };
        let at = self.known.iter().position(|incident| is_it(incident) && lately(incident))?;
        about.because = Some(text!("another run of {}, as {}", cron_job, self.known[at].subject));
        Some(at)
    }

    fn may_join(&self, incident: &Incident) -> bool {
        match &incident.state {
            IncidentState::Open => true,
            // Its signals are the other one's now.
            IncidentState::Over { how: Ending::Absorbed, .. } => false,
            IncidentState::Over { at, .. } => self.now.duration_since(*at) <= self.rules.reopen,
        }
    }

    /// Joins an incident, which is opened again where it was over; what speaks of no trouble does not do that.
    fn join_at(&mut self, at: usize, signal: &Signal, about: About) -> Change {
        let mut incident = self.known[at].clone();
        if matches!(incident.state, IncidentState::Over { .. }) {
            let resolved = matches!(&signal.body, SignalBody::Alert(alert) if alert.status == AlertStatus::Resolved);
            if resolved || matches!(signal.body, SignalBody::Rollout(_)) {
                let why = text!("it belongs to incident {}, which is over", incident.id);
                return Change::Ignore { signal: signal.id.clone(), why };
            }
            incident.state = IncidentState::Open;
            incident.healthy_since = None;
        }
        self.join(&mut incident, signal, about);
        self.known[at] = incident.clone();
        Change::Join { incident: Box::new(incident), signal: signal.id.clone() }
    }

    /// Trouble that was there at the first start is one incident, whatever it is about; news about any of it opens
    /// another.
    fn arrive(&mut self, signal: &Signal, heard_of: &ObjectRef) -> Change {
        let signal_id = signal.id.clone();
        if let Some(incident) = self.known.iter_mut().find(|i| i.fault == ARRIVAL && i.state == IncidentState::Open) {
            list(&mut incident.also, heard_of, self.rules);
            incident.updated_at = self.now;
            return Change::Join { incident: Box::new(incident.clone()), signal: signal_id };
        }
        let Some(name) = Name::parse("found-on-arrival") else {
            return Change::Ignore { signal: signal_id, why: Redacted::literal("no name for the arrival") };
        };
        let subject = ObjectRef { kind: Kind::Alert, namespace: None, name };
        let incident = Incident {
            fault: ARRIVAL.to_owned(),
            severity: Severity::Low,
            severity_why: Redacted::default(),
            ..self.open(signal, About { heard_of: heard_of.clone(), subject, because: None, cron_job: None })
        };
        self.known.push(incident.clone());
        Change::Open { incident: Box::new(incident), signal: signal_id }
    }

    fn open(&self, signal: &Signal, about: About) -> Incident {
        let About { heard_of, subject, because, cron_job } = about;
        let scene = self.scenes.get(&subject).or_else(|| self.scenes.get(&heard_of));
        let sentence = match &because {
            Some(because) => text!("{} opened it: {}", named(signal), because),
            None => text!("{} opened it", named(signal)),
        };
        let Weight { severity, why } = scene.map_or_else(|| said_severity(signal), |scene| (self.severity)(scene));
        let mut incident = Incident {
            severity,
            severity_why: why,
            alert_severity: alert_severity(signal),
            began_at: began_at(signal).min(self.now),
            also: Some(heard_of.clone()).filter(|object| *object != subject).into_iter().chain(cron_job).collect(),
            why: vec![Why { signal: signal.id.clone(), at: self.now, sentence, joined: joined(heard_of, because) }],
            investigation: Investigation::unbegun(InvestigationState::Waiting),
            ..Incident::opened(signal.cluster.clone(), subject.clone(), &fault(&subject), self.now)
        };
        list_namespace(&mut incident, signal, self.rules);
        incident
    }

    fn join(&self, incident: &mut Incident, signal: &Signal, about: About) {
        let (heard_of, because, rules) = (about.heard_of, about.because, self.rules);
        // Of the runs of a CronJob the newest is looked at: older ones are deleted.
        let is_run = about.cron_job.is_some_and(|cron_job| incident.also.contains(&cron_job));
        if is_run && incident.subject.kind == Kind::Job && !incident.also.contains(&heard_of) {
            let earlier = std::mem::replace(&mut incident.subject, heard_of.clone());
            list(&mut incident.also, &earlier, rules);
            // What was read and said of it is not of this one.
            incident.was = Some(earlier);
        }
        let apart = apart(began_at(signal), incident.began_at);
        let sentence = match &because {
            Some(because) => text!("{}: {}", named(signal), because),
            None if heard_of == incident.subject => text!("{}: same {}, {} apart", named(signal), heard_of, apart),
            None => text!("{}: {} is part of this incident, {} apart", named(signal), heard_of, apart),
        };
        let edit = matches!(&signal.body, SignalBody::Rollout(rollout) if rollout.is_edit());
        if heard_of != incident.subject && !edit {
            list(&mut incident.also, &heard_of, rules);
        }
        list_namespace(incident, signal, rules);
        if incident.why.len() < rules.listed_max {
            let joined = joined(heard_of, because);
            incident.why.push(Why { signal: signal.id.clone(), at: self.now, sentence, joined });
        }
        if !matches!(signal.body, SignalBody::Rollout(_)) {
            incident.began_at = incident.began_at.min(began_at(signal));
        }
        if let Some(said) = alert_severity(signal)
            && rank(&said) > incident.alert_severity.as_ref().map_or(0, rank)
        {
            incident.alert_severity = Some(said);
        }
        if let Some(scene) = self.scenes.get(&incident.subject) {
            Weight { severity: incident.severity, why: incident.severity_why } = (self.severity)(scene);
        }
        incident.updated_at = self.now;
    }
}

/// An alert that had fired this long when it was first heard was no news to anybody: it was there before firstlook, or
/// fires always without a name that says so. A day, as an alert is presumed over after.
const OLD_HOURS: i64 = 24;

fn is_old(signal: &Signal) -> bool {
    let old = SignedDuration::from_hours(OLD_HOURS);
    matches!(&signal.body, SignalBody::Alert(alert) if signal.heard_at.duration_since(alert.starts_at) > old)
}

fn holds(incident: &Incident, subject: &ObjectRef) -> bool {
    incident.subject == *subject && incident.fault == fault(subject)
}

fn list(also: &mut Vec<ObjectRef>, object: &ObjectRef, rules: &Rules) {
    if !also.contains(object) && also.len() < rules.listed_max {
        also.push(object.clone());
    }
}

/// Of an alert that names no object the namespace that its labels name is where to look.
fn list_namespace(incident: &mut Incident, signal: &Signal, rules: &Rules) {
    let SignalBody::Alert(alert) = &signal.body else { return };
    let namespace = alert.label("namespace").filter(|_| incident.subject.kind == Kind::Alert).and_then(Name::parse);
    if let Some(name) = namespace {
        list(&mut incident.also, &ObjectRef { kind: Kind::Namespace, namespace: None, name }, rules);
    }
}

/// What a signal is about, where that is not where its fault lies.
fn joined(heard_of: ObjectRef, because: Option<Redacted>) -> Option<Cause> {
    because.map(|because| Cause { object: heard_of, because, by_model: false })
}
