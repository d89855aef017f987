//! The card's data, assembled from everything that is stored of its incident.

use crate::clock;
use crate::model::{Alert, Card, Heard, IncidentId, Kind, Link, Signal, SignalBody};
use crate::redact::Redacted;
use crate::redact::Redactor;
use crate::store::Store;
use crate::store::audit;
use crate::store::claims;
use crate::store::past;
use crate::store::read;
use crate::store::record;
use crate::store::sql::{Conn, args};
use crate::text;

/// Names that a card can show.
const NAMES_MAX: u32 = 10;
/// Labels of an alert that names no object; rules set about five, exporters about ten.
const LABELS_MAX: usize = 15;
/// What an alert says of itself is a sentence or two; more would fill the thread.
const TOLD_MAX_CHARS: usize = 1_000;

impl Store {
    /// Everything that the card of this incident shows; None when the incident is not stored.
    pub async fn card(&self, id: &IncidentId) -> anyhow::Result<Option<Card>> {
        // One statement for what is one row of each: every statement is a way to the database and back.
        const SQL: &str = "SELECT doc, investigation,
            (SELECT doc FROM findings WHERE findings.incident = incident.id),
            (SELECT doc FROM report WHERE report.incident = incident.id),
            coalesce(
              (SELECT doc FROM signal WHERE incident = incident.id AND alert IS NOT NULL ORDER BY seq DESC LIMIT 1),
              (SELECT doc FROM signal WHERE incident = incident.id ORDER BY seq DESC LIMIT 1)),
            (SELECT count(*) FROM signal WHERE signal.incident = incident.id AND kind = 'warning'),
            (SELECT count(*) FROM signal WHERE signal.incident = incident.id AND kind IN ('rollout', 'edit'))
            FROM incident WHERE id = $1";
        let mut held = self.held().await?;
        let mut conn = held.conn();
        let Some(row) = conn.first(SQL, args![id.as_str()]).await? else { return Ok(None) };
        let incident = read::whole_incident(&row)?;
        let newest: Option<Signal> = row.maybe_doc(4)?;
        let mut heard = heard(&mut conn, id).await?;
        heard.warnings = row.int(5)? as u32;
        heard.rollouts = row.int(6)? as u32;
        heard.says = newest.as_ref().and_then(words);
        heard.alert = newest.as_ref().and_then(Signal::alert).and_then(told);
        if incident.subject.kind == Kind::Alert {
            heard.labels = newest.as_ref().map(labels).unwrap_or_default();
        }
        Ok(Some(Card {
            heard,
            links: newest.as_ref().map(links).unwrap_or_default(),
            scene: self.scene_over(&mut conn, &incident.subject).await?,
            findings: row.maybe_doc(2)?.unwrap_or_default(),
            report: row.maybe_doc(3)?,
            approvals: read::approvals_of(&mut conn, id).await?,
            past: past::past(&mut conn, &incident).await?,
            audit_head: audit::head(&mut conn).await?,
            thumbs: record::thumbs_of(&mut conn, incident.cluster.as_str(), id).await?,
            off: Vec::new(),
            parked: claims::parked(&mut conn, self.context(), id).await?.into_iter().map(|unit| unit.stage).collect(),
            incident,
        }))
    }
}

impl Store {
    /// Brings what an investigation stands on up to date: the incident, its scene, findings and report. The rest of the
    /// card stays as it was read. False when the incident is not stored any more.
    pub async fn refresh(&self, card: &mut Card) -> anyhow::Result<bool> {
        const SQL: &str = "SELECT doc, investigation,
            (SELECT doc FROM findings WHERE findings.incident = incident.id),
            (SELECT doc FROM report WHERE report.incident = incident.id)
            FROM incident WHERE id = $1";
        let mut held = self.held().await?;
        let mut conn = held.conn();
        let Some(row) = conn.first(SQL, args![card.incident.id.as_str()]).await? else { return Ok(false) };
        card.incident = read::whole_incident(&row)?;
        card.scene = self.scene_over(&mut conn, &card.incident.subject).await?;
        card.findings = row.maybe_doc(2)?.unwrap_or_default();
        card.report = row.maybe_doc(3)?;
        Ok(true)
    }
}

/// Counts alerts by their fingerprint. An alert's state is what its latest start says; of one start a resolve is final,
/// though a second Alertmanager may still repeat that it fires.
async fn heard(conn: &mut Conn<'_>, incident: &IncidentId) -> anyhow::Result<Heard> {
    // Odd where the latest start has been resolved.
    const COUNTS: &str = "SELECT count(*), CAST(sum(1 - latest % 2) AS BIGINT), max(ends) FROM
        (SELECT max(starts_ms * 2 + CASE WHEN status = 'firing' THEN 0 ELSE 1 END) AS latest, max(ends_ms) AS ends
         FROM signal WHERE incident = $1 AND alert IS NOT NULL GROUP BY alert) AS alerts";
    const NAMES: &str = "SELECT name FROM signal WHERE incident = $1 AND alert IS NOT NULL
        GROUP BY name ORDER BY min(seq) LIMIT $2";
    let Some(counts) = conn.first(COUNTS, args![incident.as_str()]).await? else { return Ok(Heard::default()) };
    let (alerts, firing) = (counts.int(0)? as u32, counts.maybe_int(1)?.unwrap_or(0) as u32);
    if alerts == 0 {
        return Ok(Heard::default());
    }
    let names = conn.fetch(NAMES, args![incident.as_str(), NAMES_MAX]).await?;
    // Rebuilt from bytes as every stored text is: through the rules again.
    let rules = Redactor::default();
    Ok(Heard {
        alerts,
        alerts_firing: firing,
        alert_names: names.iter().map(|row| Ok(rules.redact(&row.text(0)?))).collect::<anyhow::Result<_>>()?,
        resolved_at: counts.maybe_int(2)?.filter(|_| firing == 0).map(clock::from_ms),
        ..Heard::default()
    })
}

/// What a signal says in its own words.
fn words(signal: &Signal) -> Option<Redacted> {
    match &signal.body {
        SignalBody::Alert(alert) => annotation(alert, &["summary", "description", "message"]).cloned(),
        SignalBody::Warning(warning) => Some(text!("{}: {}", warning.reason, warning.message)),
        SignalBody::Rollout(_) => None,
    }
}

/// An alert's name and all that it says of itself: rules put what is always the same into the summary.
fn told(alert: &Alert) -> Option<(Redacted, Redacted)> {
    let said = [annotation(alert, &["summary"]), annotation(alert, &["description", "message"])];
    let mut said: Vec<Redacted> = said.into_iter().flatten().map(Redacted::one_line).collect();
    said.dedup();
    (!said.is_empty()).then(|| (alert.name.clone(), Redacted::join(&said, " · ").cut(TOLD_MAX_CHARS)))
}

/// The labels of an alert, without those that the card shows elsewhere.
fn labels(signal: &Signal) -> Vec<Redacted> {
    let rules = Redactor::default();
    let shown = |key: &str| matches!(key, "alertname" | "severity" | "namespace");
    let told = signal.alert().into_iter().flat_map(|alert| &alert.labels).filter(|(key, _)| !shown(key));
    told.take(LABELS_MAX).map(|(key, value)| rules.redact(&format!("{key}={value}"))).collect()
}

/// Where an alert points: its runbook, its dashboard, the expression in Prometheus.
fn links(signal: &Signal) -> Vec<Link> {
    let SignalBody::Alert(alert) = &signal.body else {
        return Vec::new();
    };
    let places = [
        ("Alert", alert.generator_url.as_ref()),
        ("Runbook", annotation(alert, &["runbook_url", "runbook"])),
        ("Dashboard", annotation(alert, &["dashboard_url", "dashboard"])),
    ];
    let is_url = |url: &&Redacted| url.as_str().starts_with("https://") || url.as_str().starts_with("http://");
    let link = |(label, url): (&'static str, Option<&Redacted>)| {
        url.filter(is_url).map(|url| Link { label: label.into(), url: url.clone() })
    };
    places.into_iter().filter_map(link).collect()
}

fn annotation<'a>(alert: &'a Alert, keys: &[&str]) -> Option<&'a Redacted> {
    keys.iter().find_map(|key| alert.annotations.get(*key).filter(|text| !text.is_empty()))
}
