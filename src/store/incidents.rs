//! Incidents and what is written of them: investigation, evidence, report, findings.

use crate::model::finding::signature;
use crate::model::{
    Evidence, Finding, Incident, IncidentId, IncidentState, Investigation, InvestigationState, Origin, Reading, Report,
};
use crate::store::operation::{Context, Fault};
use crate::store::sql::{Conn, args};

pub(super) async fn put_incident(conn: &mut Conn<'_>, incident: &Incident) -> Result<(), Fault> {
    const SQL: &str = "INSERT INTO incident
        (id, cluster, subject, state, severity, opened_ms, updated_ms, over_ms, progress, investigation, doc)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        ON CONFLICT (id) DO UPDATE SET subject = excluded.subject, state = excluded.state,
        severity = excluded.severity, updated_ms = excluded.updated_ms, over_ms = excluded.over_ms, doc = excluded.doc";
    let (state, over_ms) = match &incident.state {
        IncidentState::Open => ("open", None),
        IncidentState::Over { at, .. } => ("over", Some(at.as_millisecond())),
    };
    let args = args![
        incident.id.as_str(),
        incident.cluster.as_str(),
        incident.subject.to_string(),
        state,
        incident.severity as i64,
        incident.opened_at.as_millisecond(),
        incident.updated_at.as_millisecond(),
        over_ms,
        progress(&incident.investigation),
        serde_json::to_string(&incident.investigation)?,
        serde_json::to_string(incident)?,
    ];
    conn.execute(SQL, args).await?;
    Ok(())
}

pub(super) async fn put_investigation(
    conn: &mut Conn<'_>,
    incident: &IncidentId,
    investigation: &Investigation,
) -> Result<(), Fault> {
    const SQL: &str = "UPDATE incident SET progress = $2, investigation = $3 WHERE id = $1";
    let args = args![incident.as_str(), progress(investigation), serde_json::to_string(investigation)?];
    if conn.execute(SQL, args).await? == 0 {
        return Err(Fault::Conflict(format!("incident {incident} is not stored")));
    }
    Ok(())
}

fn progress(investigation: &Investigation) -> &'static str {
    match investigation.state {
        InvestigationState::Off => "off",
        InvestigationState::Waiting => "waiting",
        InvestigationState::Running => "running",
        InvestigationState::Done => "done",
        InvestigationState::Failed { .. } => "failed",
    }
}

pub(super) async fn put_evidence(
    conn: &mut Conn<'_>,
    context: &Context,
    incident: &IncidentId,
    evidence: &Evidence,
    replace: bool,
) -> Result<(), Fault> {
    const KEEP: &str = "INSERT INTO evidence (cluster, incident, number, missing, doc) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (incident, number) DO UPDATE SET missing = excluded.missing, doc = excluded.doc
        WHERE evidence.missing = 1";
    const REPLACE: &str = "INSERT INTO evidence (cluster, incident, number, missing, doc) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (incident, number) DO UPDATE SET missing = excluded.missing, doc = excluded.doc";
    let args = args![
        context.cluster.as_str(),
        incident.as_str(),
        evidence.id.0,
        i64::from(matches!(evidence.reading, Reading::Missing(_))),
        serde_json::to_string(evidence)?,
    ];
    conn.execute(if replace { REPLACE } else { KEEP }, args).await?;
    Ok(())
}

pub(super) async fn put_report(
    conn: &mut Conn<'_>,
    context: &Context,
    incident: &IncidentId,
    report: &Report,
) -> Result<(), Fault> {
    const ANY: &str = "INSERT INTO report (incident, cluster, doc) VALUES ($1, $2, $3)
        ON CONFLICT (incident) DO UPDATE SET doc = excluded.doc";
    // The origin stands first in the document.
    const OF_FINDINGS: &str = "INSERT INTO report (incident, cluster, doc) VALUES ($1, $2, $3)
        ON CONFLICT (incident) DO UPDATE SET doc = excluded.doc WHERE report.doc NOT LIKE '{\"origin\":\"model\"%'";
    let sql = if report.origin == Origin::Findings { OF_FINDINGS } else { ANY };
    put_doc(conn, context, sql, incident, serde_json::to_string(report)?).await
}

/// Remembers what kind of fault an incident is, for those that follow.
pub(super) async fn put_signature(
    conn: &mut Conn<'_>,
    incident: &IncidentId,
    findings: &[Finding],
) -> Result<(), Fault> {
    const SQL: &str = "UPDATE incident SET signature = $2 WHERE id = $1";
    conn.execute(SQL, args![incident.as_str(), signature(findings).as_deref()]).await?;
    Ok(())
}

pub(super) async fn put_doc(
    conn: &mut Conn<'_>,
    context: &Context,
    sql: &'static str,
    incident: &IncidentId,
    doc: String,
) -> Result<(), Fault> {
    conn.execute(sql, args![incident.as_str(), context.cluster.as_str(), doc]).await?;
    Ok(())
}
