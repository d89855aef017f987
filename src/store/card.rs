//! The card's data, assembled from everything that is stored of its incident.

use std::collections::BTreeMap;

use crate::clock;
use crate::model::{Alert, Card, Heard, IncidentId, Link, Signal, SignalBody};
use crate::redact::Redacted;
use crate::redact::Redactor;
use crate::store::Store;
use crate::store::audit;
use crate::store::claims;
use crate::store::read;
use crate::store::record;
use crate::store::sql::{Conn, args};
use crate::text;

/// Alerts of one incident that are counted, the newest: ten times the greatest body that is expected.
const ALERTS_MAX: u32 = 30_000;
/// Names that a card can show.
const NAMES_MAX: usize = 10;

impl Store {
    /// Everything that the card of this incident shows; None when the incident is not stored.
    pub async fn card(&self, id: &IncidentId) -> anyhow::Result<Option<Card>> {
        let mut held = self.held().await?;
        let mut conn = held.conn();
        let Some(incident) = read::incident(&mut conn, id).await? else {
            return Ok(None);
        };
        let newest = newest_signal(&mut conn, id).await?;
        let mut heard = heard(&alerts(&mut conn, id).await?);
        const KINDS: &str = "SELECT count(*) FROM signal WHERE incident = $1 AND kind = $2";
        heard.warnings = conn.number(KINDS, args![id.as_str(), "warning"]).await? as u32;
        heard.rollouts = conn.number(KINDS, args![id.as_str(), "rollout"]).await? as u32;
        heard.says = newest.as_ref().and_then(words);
        Ok(Some(Card {
            heard,
            links: newest.as_ref().map(links).unwrap_or_default(),
            scene: self.scene_over(&mut conn, &incident.subject).await?,
            findings: read::findings(&mut conn, id).await?,
            report: read::report(&mut conn, id).await?,
            approvals: read::approvals_of(&mut conn, id).await?,
            audit_head: audit::head(&mut conn).await?,
            thumbs: record::thumbs_of(&mut conn, incident.cluster.as_str(), id).await?,
            parked: claims::parked(&mut conn, self.context(), id).await?.into_iter().map(|unit| unit.stage).collect(),
            incident,
        }))
    }
}

/// One alert as it was heard once.
struct AlertHeard {
    fingerprint: String,
    name: String,
    firing: bool,
    starts_ms: i64,
    ends_ms: Option<i64>,
}

/// In the order of arrival.
async fn alerts(conn: &mut Conn<'_>, incident: &IncidentId) -> anyhow::Result<Vec<AlertHeard>> {
    const SQL: &str = "SELECT alert, name, status, starts_ms, ends_ms FROM signal
        WHERE incident = $1 AND alert IS NOT NULL ORDER BY seq DESC LIMIT $2";
    let mut alerts = Vec::new();
    for row in conn.fetch(SQL, args![incident.as_str(), ALERTS_MAX]).await?.iter().rev() {
        alerts.push(AlertHeard {
            fingerprint: row.text(0)?,
            name: row.text(1)?,
            firing: row.text(2)? == "firing",
            starts_ms: row.int(3)?,
            ends_ms: row.maybe_int(4)?,
        });
    }
    Ok(alerts)
}

/// Counts alerts by their fingerprint. An alert's state is what its latest start says; of one start a resolve is final,
/// though a second Alertmanager may still repeat that it fires.
fn heard(alerts: &[AlertHeard]) -> Heard {
    let mut latest: BTreeMap<&str, &AlertHeard> = BTreeMap::new();
    let mut names: Vec<&str> = Vec::new();
    for alert in alerts {
        let known = latest.entry(&alert.fingerprint).or_insert(alert);
        if (alert.starts_ms, !alert.firing) >= (known.starts_ms, !known.firing) {
            *known = alert;
        }
        if names.len() < NAMES_MAX && !names.contains(&alert.name.as_str()) {
            names.push(&alert.name);
        }
    }
    let firing = latest.values().filter(|alert| alert.firing).count();
    let all_resolved = firing == 0 && !latest.is_empty();
    let last_end = latest.values().filter_map(|alert| alert.ends_ms).max();
    // Rebuilt from bytes as every stored text is: through the rules again.
    let rules = Redactor::default();
    Heard {
        alerts: latest.len() as u32,
        alerts_firing: firing as u32,
        alert_names: names.into_iter().map(|name| rules.redact(name)).collect(),
        resolved_at: last_end.filter(|_| all_resolved).map(clock::from_ms),
        ..Heard::default()
    }
}

/// The newest alert of an incident, or without any the newest signal.
async fn newest_signal(conn: &mut Conn<'_>, incident: &IncidentId) -> anyhow::Result<Option<Signal>> {
    const ALERT: &str = "SELECT doc FROM signal WHERE incident = $1 AND alert IS NOT NULL ORDER BY seq DESC LIMIT 1";
    const ANY: &str = "SELECT doc FROM signal WHERE incident = $1 ORDER BY seq DESC LIMIT 1";
    let mut row = conn.first(ALERT, args![incident.as_str()]).await?;
    if row.is_none() {
        row = conn.first(ANY, args![incident.as_str()]).await?;
    }
    row.map(|row| row.doc(0)).transpose()
}

/// What a signal says in its own words.
fn words(signal: &Signal) -> Option<Redacted> {
    match &signal.body {
        SignalBody::Alert(alert) => annotation(alert, &["summary", "description", "message"]).cloned(),
        SignalBody::Warning(warning) => Some(text!("{}: {}", warning.reason, warning.message)),
        SignalBody::Rollout(_) => None,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(fingerprint: &str, firing: bool, starts_ms: i64) -> AlertHeard {
        let ends_ms = (!firing).then_some(starts_ms + 60_000);
        AlertHeard { fingerprint: fingerprint.into(), name: format!("Alert{fingerprint}"), firing, starts_ms, ends_ms }
    }

    #[test]
    fn an_alert_counts_once_and_its_resolve_is_final_for_its_start() {
        let twice = heard(&[alert("a", true, 1_000), alert("b", true, 1_000), alert("a", false, 1_000)]);
        assert_eq!((twice.alerts, twice.alerts_firing, twice.resolved_at), (2, 1, None));
        let late = heard(&[alert("a", false, 1_000), alert("a", true, 1_000)]);
        assert_eq!((late.alerts_firing, late.resolved_at), (0, Some(clock::from_ms(61_000))));
        let again = heard(&[alert("a", false, 1_000), alert("a", true, 9_000)]);
        assert_eq!((again.alerts, again.alerts_firing), (1, 1));
        assert_eq!(heard(&[]).resolved_at, None);
    }
}
