//! Correlate: the unplaced signals become incidents or join them, in one transaction with their first report.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::clock::Clock;
use crate::correlate;
use crate::correlate::{Change, Resolved, Rules};
use crate::findings;
use crate::model::{Incident, ObjectRef, Scene, Signal, Weight};
use crate::redact::Redacted;
use crate::stages::Ran;
use crate::stages::lease;
use crate::stages::lease::LEASE;
use crate::store::{AuditEntry, Claim, Durability, Store, Write};
use crate::telemetry::{IncidentLabels, Metrics};

/// Signals of one transaction.
const BATCH: u32 = 500;
/// What could not be placed is tried again after this long; for ever, since all signals share this one unit.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(1);

/// A signal, what it is about, and a remark where that is not plain.
type Unplaced = (Signal, Option<ObjectRef>, Redacted);

/// The stage.
pub struct Correlate {
    pub store: Store,
    pub clock: Clock,
    pub metrics: Metrics,
    pub rules: Rules,
}

impl Correlate {
    /// Places the oldest unplaced signals.
    ///
    /// # Errors
    /// The store's.
    pub async fn run_once(&self) -> anyhow::Result<Ran> {
        let unplaced = self.store.signals_unplaced(BATCH).await?;
        if unplaced.is_empty() {
            return Ok(Ran::Idle);
        }
        let Some(claim) = self.store.exclude("correlate", "all", LEASE).await? else { return Ok(Ran::Idle) };
        if let Err(error) = lease::hold(&self.store, &claim, self.place(unplaced, &claim)).await {
            let now = self.clock.now();
            self.store.postpone(claim, now.checked_add(RETRY_AFTER).unwrap_or(now)).await?;
            return Err(error);
        }
        Ok(Ran::Worked)
    }

    async fn place(&self, unplaced: Vec<Unplaced>, claim: &Claim) -> anyhow::Result<()> {
        let now = self.clock.now();
        let since = now.checked_sub(self.rules.reopen).unwrap_or(now);
        let incidents = self.store.recent_incidents(since).await?;
        let signals: Vec<Resolved> =
            unplaced.into_iter().map(|(signal, subject, _)| Resolved { signal, subject }).collect();
        let scenes = self.scenes(&signals, &incidents).await?;
        let changes = self.planned(&incidents, &signals, &scenes, now);
        let mut writes = self.writes(changes, &scenes).await?;
        writes.push(Write::Release(claim.clone()));
        Ok(self.store.commit(writes, Durability::Durable, Some(claim)).await?)
    }

    /// The plan, in which each scene is weighed once, however many signals are about it.
    fn planned(
        &self,
        incidents: &[Incident],
        signals: &[Resolved],
        scenes: &BTreeMap<ObjectRef, Arc<Scene>>,
        now: Timestamp,
    ) -> Vec<Change> {
        let weighed: RefCell<BTreeMap<ObjectRef, Weight>> = RefCell::default();
        let severity = |scene: &Scene| {
            let mut weighed = weighed.borrow_mut();
            weighed.entry(scene.subject.clone()).or_insert_with(|| findings::weight(scene, now)).clone()
        };
        correlate::plan(incidents, signals, scenes, &severity, &self.rules, now)
    }

    /// The scenes of everything that the plan may look at.
    async fn scenes(
        &self,
        signals: &[Resolved],
        incidents: &[Incident],
    ) -> anyhow::Result<BTreeMap<ObjectRef, Arc<Scene>>> {
        let mut scenes = BTreeMap::new();
        let named = signals.iter().filter_map(|signal| signal.subject.clone());
        let mut wanted: Vec<ObjectRef> = named.chain(incidents.iter().map(|i| i.subject.clone())).collect();
        while let Some(object) = wanted.pop() {
            if scenes.contains_key(&object) {
                continue;
            }
            if let Some(scene) = self.store.scene(&object).await? {
                wanted.extend(correlate::root::of(&scene).map(|root| root.object));
                scenes.insert(object, scene);
            }
        }
        Ok(scenes)
    }

    async fn writes(
        &self,
        changes: Vec<Change>,
        scenes: &BTreeMap<ObjectRef, Arc<Scene>>,
    ) -> anyhow::Result<Vec<Write>> {
        let mut writes = Vec::new();
        // Of an incident that several signals touch only the last state is written.
        let mut touched: BTreeMap<String, (Incident, bool)> = BTreeMap::new();
        let mut placed = Vec::new();
        for change in changes {
            match change {
                Change::Ignore { signal, why } => writes.push(Write::Ignore { signal, why }),
                Change::Open { incident, signal } => {
                    placed.push(Write::Place { signal, incident: incident.id.clone() });
                    touched.insert(incident.id.to_string(), (*incident, true));
                }
                Change::Join { incident, signal } => {
                    placed.push(Write::Place { signal, incident: incident.id.clone() });
                    let opened = touched.get(incident.id.as_str()).is_some_and(|(_, opened)| *opened);
                    touched.insert(incident.id.to_string(), (*incident, opened));
                }
            }
        }
        for (incident, opened) in touched.into_values() {
            let scene = scenes.get(&incident.subject);
            if opened {
                self.metrics.incidents.get_or_create(&IncidentLabels { event: "opened" }).inc();
                writes.push(Write::Audit(AuditEntry {
                    at: incident.opened_at,
                    kind: "incident_opened",
                    incident: Some(incident.id.clone()),
                    body: json!({"subject": incident.subject.to_string(), "severity": incident.severity}),
                }));
            }
            let id = incident.id.clone();
            writes.push(Write::Incident(Box::new(incident)));
            if let Some(scene) = scene {
                let found = findings::find(scene, self.clock.now());
                let report = findings::conclude(scene, found.clone(), self.clock.now());
                for evidence in &scene.evidence {
                    let evidence = evidence.clone();
                    writes.push(Write::Evidence { incident: id.clone(), evidence, replace: false });
                }
                // A subject that is well again does not rewrite what it had; what the model proved the store keeps.
                if opened || matches!(findings::health(scene), findings::Health::Unhealthy { .. }) {
                    writes.push(Write::Findings { incident: id.clone(), findings: found });
                    writes.push(Write::Report { incident: id, report: Box::new(report) });
                }
            }
        }
        writes.extend(placed);
        Ok(writes)
    }
}
