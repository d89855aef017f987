//! Verify: what came of each action, how each open incident's subject fares, and how incidents end.

mod again;
mod outcome;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tracing::Instrument as _;

use crate::clock::Clock;
use crate::correlate::Rules;
use crate::correlate::ending;
use crate::correlate::ending::Health;
use crate::correlate::late;
use crate::findings;
use crate::govern::gate::Gate;
use crate::model::{
    ASKED, Action, Approval, ApprovalState, Card, Carried, Ending, Finding, Incident, IncidentId, IncidentState,
    Investigation, InvestigationState, ObjectRef, Origin, Report, Scene, Verification, Weight,
};
use crate::observe::motion::Motion;
use crate::observe::{Alertmanager, Reader, scene};
use crate::stages::Ran;
use crate::stages::absorb;
use crate::stages::changed;
use crate::stages::lease::LEASE;
use crate::stages::listed::Listed;
use crate::stages::pace::{News, Pace};
use crate::store::{AuditEntry, Durability, Store, Write};
use crate::telemetry;
use crate::telemetry::{IncidentLabels, Metrics};

/// Longer than the first card's: here completeness counts.
const SCENE_DEADLINE: Duration = Duration::from_secs(5);
/// An open incident is looked at when there is news of it or its object moves, and this often for what only time brings.
const LOOK_EVERY: SignedDuration = SignedDuration::from_secs(60);
/// A scene that was read less than this ago, when its incident opened or at the last look, tells enough: a flood of alerts
/// joins one incident many times a second.
const LOOKS_APART: SignedDuration = SignedDuration::from_secs(1);
/// A rollout under way, which may be held up, is looked at this often: people watch the card.
const FOLLOW_EVERY: SignedDuration = SignedDuration::from_secs(5);
/// An open incident is looked at this often while the watches do not stand.
const LOOK_ALONE_EVERY: SignedDuration = SignedDuration::from_secs(15);
/// A rollout under way is looked at this often while the watches do not stand.
const FOLLOW_ALONE_EVERY: SignedDuration = SignedDuration::from_secs(1);
/// Executed approvals looked at in one run.
const EXECUTED_MAX: u32 = 50;

/// The stage.
pub struct Verify {
    store: Store,
    gate: Gate,
    reader: Reader,
    clock: Clock,
    metrics: Metrics,
    rules: Rules,
    pace: Pace,
    motion: Motion,
    listed: Listed,
    alertmanager: Option<Alertmanager>,
}

/// What tells the stage of things beside its own reads.
#[derive(Default)]
pub struct Watched {
    /// What the watches see move.
    pub motion: Motion,
    /// The alerts that rules raise.
    pub listed: Listed,
    /// The alerts that are silenced.
    pub alertmanager: Option<Alertmanager>,
}

impl Verify {
    /// The stage, with nothing looked at yet.
    pub fn new(gate: Gate, reader: Reader, clock: Clock, metrics: Metrics, rules: Rules, watched: Watched) -> Self {
        let (store, Watched { motion, listed, alertmanager }) = (gate.store().clone(), watched);
        Self { store, gate, reader, clock, metrics, rules, pace: Pace::default(), motion, listed, alertmanager }
    }

    /// Looks at what is due.
    ///
    /// # Errors
    /// The store's.
    pub async fn run_once(&self) -> anyhow::Result<Ran> {
        let (mut ran, now) = (Ran::Idle, self.clock.now());
        let executed = self.store.approvals_executed(EXECUTED_MAX).await?;
        let open = self.store.open_incidents().await?;
        self.pace.keep(|unit| {
            open.iter().any(|incident| incident.id.as_str() == unit) || executed.iter().any(|a| a.id.as_str() == unit)
        });
        for approval in executed {
            // What has helped, or has not, is looked at less often, and for a while.
            let followed = match approval.verification {
                Verification::Better { at, .. }
                | Verification::NotBetter { at, .. }
                | Verification::Worse { at, .. } => {
                    outcome::is_provisional(&approval, now).then(|| News { at: Some(at), ..News::default() })
                }
                _ => Some(News::default()),
            };
            let Some(news) = followed else { continue };
            if self.is_due(approval.id.as_str(), approval.action.as_ref().map(Action::object), news)
                && self.follow_within(approval).await?
            {
                ran = Ran::Worked;
            }
        }
        for incident in open {
            if self.is_fresh(&incident) {
                continue;
            }
            let news = News { at: Some(incident.updated_at), reported: is_at_rest(&incident), moved: None };
            if self.is_due(incident.id.as_str(), Some(&incident.subject), news)
                && self.look(&incident).instrument(telemetry::incident(&incident.id)).await?
            {
                ran = Ran::Worked;
            }
        }
        Ok(ran)
    }

    /// Whether its scene was only just read. On a clock that stands still nothing ever grows old.
    fn is_fresh(&self, incident: &Incident) -> bool {
        let read_at = self.pace.looked(incident.id.as_str()).unwrap_or(incident.opened_at);
        let age = self.clock.now().duration_since(read_at);
        // A clock that was set back must not keep anybody from looking.
        !self.clock.is_manual() && !age.is_negative() && age < LOOKS_APART
    }

    /// Whether a unit is due: an incident, with its latest news, or an approval.
    fn is_due(&self, unit: &str, object: Option<&ObjectRef>, news: News) -> bool {
        let moved = object.and_then(|object| self.motion.of(object));
        let every = match (moved, news.at) {
            (Some(_), Some(_)) => LOOK_EVERY,
            (Some(_), None) => FOLLOW_EVERY,
            (None, Some(_)) => LOOK_ALONE_EVERY,
            (None, None) => FOLLOW_ALONE_EVERY,
        };
        self.pace.is_due(unit, every, News { moved, ..news }, self.clock.now())
    }

    async fn follow_within(&self, approval: Approval) -> anyhow::Result<bool> {
        let span = telemetry::incident(&approval.incident);
        self.follow(approval).instrument(span).await
    }

    /// Follows the rollout that an action began; true if the card changes.
    async fn follow(&self, approval: Approval) -> anyhow::Result<bool> {
        let now = self.clock.now();
        let Some(action) = &approval.action else { return Ok(false) };
        let scene = self.read(outcome::watched(action), &[]).await?;
        let verification = match &self.alertmanager {
            Some(from) if action.mutes() => outcome::muted(from, &approval, action, now).await,
            _ => outcome::of(&self.reader, &approval, action, &scene, now).await,
        };
        if verification == approval.verification {
            return Ok(false);
        }
        let approval = Approval { verification, ..approval };
        let mut writes = vec![
            Write::Scene { scene: Box::new(scene) },
            Write::Approval { approval: Box::new(approval.clone()), was: Some(ApprovalState::Executed) },
        ];
        if approval.verification.is_judged() {
            // How its incident stands is looked at now: the card says no more of health than that.
            self.pace.forget(approval.incident.as_str());
            writes.push(Write::Audit(AuditEntry {
                at: now,
                kind: "verified",
                incident: Some(approval.incident.clone()),
                body: json!({"approval": approval.id, "verification": approval.verification}),
            }));
            writes.extend(self.gate.suspensions(&approval).await?);
        }
        self.store.commit(writes, Durability::Durable, None).await?;
        Ok(true)
    }

    async fn read(&self, subject: &ObjectRef, hints: &[ObjectRef]) -> anyhow::Result<Scene> {
        let mut scene = scene::read(&self.reader, subject, hints, SCENE_DEADLINE).await;
        changed::add(&self.store, &mut scene, self.clock.now()).await?;
        Ok(scene)
    }

    /// Ends an incident that a caller from outside asked for, once it has its answer; true if it has.
    async fn close_answered(&self, incident: &Incident) -> anyhow::Result<bool> {
        let now = self.clock.now();
        // What is asked meanwhile comes before the end, or finds it ended and opens another.
        let _turn = self.gate.turn().await;
        if !ending::is_answered(&self.store.approvals_of(&incident.id).await?, now) {
            return Ok(false);
        }
        let mut ended = Incident { updated_at: now, ..incident.clone() };
        let entry = self.end(&mut ended, Ending::Answered, now);
        self.store.commit(vec![entry, Write::Incident(Box::new(ended))], Durability::Durable, None).await?;
        Ok(true)
    }

    /// Ends an incident; what tells it to the audit.
    fn end(&self, incident: &mut Incident, how: Ending, now: Timestamp) -> Write {
        incident.state = IncidentState::Over { at: now, how };
        self.metrics.incidents.get_or_create(&IncidentLabels { event: "over" }).inc();
        let body = json!({"how": how});
        Write::Audit(AuditEntry { at: now, kind: "incident_over", incident: Some(incident.id.clone()), body })
    }

    /// Looks how the subject of an open incident fares; true if the incident changed.
    async fn look(&self, incident: &Incident) -> anyhow::Result<bool> {
        if incident.fault == ASKED {
            return self.close_answered(incident).await;
        }
        let scene = self.read(&incident.subject, &incident.also).await?;
        let waits_for = absorb::still_ill(&self.reader, incident).await;
        // Correlate writes incidents too: while its claim is held here nothing that it wrote is overwritten.
        let Some(claim) = self.store.exclude("correlate", "all", LEASE).await? else {
            self.pace.forget(incident.id.as_str());
            return Ok(false);
        };
        let noted = self.note(&incident.id, scene, waits_for).await;
        match noted {
            Ok((mut writes, changed)) if !writes.is_empty() => {
                writes.push(Write::Release(claim.clone()));
                if let Err(error) = self.store.commit(writes, Durability::Durable, Some(&claim)).await {
                    self.store.release(claim).await?;
                    return Err(error.into());
                }
                Ok(changed)
            }
            noted => {
                self.store.release(claim).await?;
                noted.map(|_| false)
            }
        }
    }

    /// What a look at the subject changes about its incident as it is stored now; whether the incident changes.
    async fn note(
        &self,
        id: &IncidentId,
        scene: Scene,
        waits_for: Option<ObjectRef>,
    ) -> anyhow::Result<(Vec<Write>, bool)> {
        let now = self.clock.now();
        let health = health(&scene);
        let Some(card) = self.store.card(id).await? else { return Ok((Vec::new(), false)) };
        let incident = &card.incident;
        if incident.state != IncidentState::Open {
            return Ok((Vec::new(), false));
        }
        let mut next = incident.clone();
        let mut changed = ending::note_health(&mut next, health, now);
        let mut writes = Vec::new();
        let found = findings::find(&scene, now);
        changed |= explain(&mut next, &card, &scene, (&found, health));
        changed |= waits_for != next.waits_for;
        next.waits_for = waits_for;
        if ending::asks_list(&next, &card.heard)
            && let Some(raised) = self.listed.of(&self.store, id, now).await?
        {
            changed |= ending::note_listed(&mut next, raised, now);
        }
        let turns_max = self.gate.policy().limits.model_turns_per_incident;
        match again::taken_up(&card, turns_max).filter(|_| health != Health::Healthy) {
            Some(investigation) => {
                writes.push(Write::Investigation { incident: id.clone(), investigation });
                changed = true;
            }
            None => writes.extend(asks_again(&card)),
        }
        if health == Health::Unhealthy {
            let Weight { severity, why } = findings::weight(&scene, now);
            changed |= severity != next.severity || why != next.severity_why;
            (next.severity, next.severity_why) = (severity, why);
            writes.extend(self.refresh(&card, &scene, found, now));
        }
        if let Some(how) = ending::of(&next, &card.heard, now) {
            changed = true;
            writes.push(self.end(&mut next, how, now));
        }
        let merged = absorb::merge(&self.store, &next, &self.rules, now).await?;
        if !changed && writes.is_empty() && merged.is_empty() {
            return Ok((writes, false));
        }
        if !merged.is_empty() {
            self.metrics.incidents.get_or_create(&IncidentLabels { event: "absorbed" }).inc();
            changed = true;
            writes.extend(merged);
        } else if changed {
            writes.push(Write::Incident(Box::new(next)));
        }
        writes.push(Write::Scene { scene: Box::new(scene) });
        Ok((writes, changed))
    }

    /// While no model has spoken, the findings follow the scene: parts that were missing at first are there now.
    fn refresh(&self, card: &Card, scene: &Scene, found: Vec<Finding>, now: Timestamp) -> Vec<Write> {
        let by_model = |report: &&Report| report.origin == Origin::Model && report.is_about(&card.incident.subject);
        let spoken = card.report.as_ref().is_some_and(|report| by_model(&report));
        let busy = card.incident.investigation.state == InvestigationState::Running;
        let incident = card.incident.id.clone();
        if spoken || busy || found == card.findings {
            return Vec::new();
        }
        let report = findings::conclude(scene, found.clone(), now);
        // What was read around the subject that it was opened for is no evidence of the one that it has.
        let moved = card.incident.was.is_some();
        let mut writes: Vec<Write> = scene
            .evidence
            .iter()
            .cloned()
            .map(|evidence| Write::Evidence { incident: incident.clone(), evidence, replace: moved })
            .collect();
        // Without a model nobody else would propose what is seen only now.
        let ended = card.incident.investigation.state == InvestigationState::Off;
        if ended && card.approvals.is_empty() && !report.proposals.is_empty() {
            let state = InvestigationState::Waiting;
            let investigation = Investigation { state, ..card.incident.investigation.clone() };
            writes.push(Write::Investigation { incident: incident.clone(), investigation });
        }
        writes.push(Write::Report { incident: incident.clone(), report: Box::new(report) });
        writes.push(Write::Findings { incident, findings: found });
        writes
    }
}

/// Begins the end of an investigation anew where the incident took in another whose steps nobody has asked for yet.
fn asks_again(card: &Card) -> Option<Write> {
    let incident = &card.incident;
    let ended = matches!(incident.investigation.state, InvestigationState::Off | InvestigationState::Done);
    let mut carried = incident.absorbed.iter().flat_map(|merge| &merge.carried);
    let asked = |step: &Carried| card.approvals.iter().any(|approval| approval.proposal == step.proposal);
    (ended && carried.any(|step| !asked(step))).then(|| {
        let investigation = Investigation { state: InvestigationState::Waiting, ..incident.investigation.clone() };
        Write::Investigation { incident: incident.id.clone(), investigation }
    })
}

/// Whether nobody investigates it any more: what was found out may show a cause elsewhere.
fn is_at_rest(incident: &Incident) -> bool {
    !matches!(incident.investigation.state, InvestigationState::Waiting | InvestigationState::Running)
}

fn health(scene: &Scene) -> Health {
    match findings::health(scene) {
        findings::Health::Healthy => Health::Healthy,
        findings::Health::Unhealthy { .. } => Health::Unhealthy,
        findings::Health::Unknown => Health::Unknown,
        findings::Health::Gone => Health::Gone,
    }
}

/// Keeps what its incident is explained by as it is seen now; what could not be read leaves it as it was told. Whether it
/// is another.
fn explain(next: &mut Incident, card: &Card, scene: &Scene, (found, health): (&[Finding], Health)) -> bool {
    let unread = matches!(health, Health::Gone | Health::Unknown);
    let seen = if unread { None } else { late::cause(scene, found) };
    let told = || card.report.as_ref().and_then(|report| late::told(scene, report));
    let cause = seen.or_else(told).map(Box::new);
    if cause.is_none() && unread {
        return false;
    }
    let shares = late::shared(found).map(Box::new);
    let is_other = cause != next.cause || shares != next.shares;
    (next.cause, next.shares) = (cause, shares);
    is_other
}
