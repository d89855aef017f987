//! The reads: what the stages, the gate, the card and the commands ask, each with a bound.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use sqlx::AssertSqlSafe;

use crate::clock;
use crate::model::scene::ScenePart;
use crate::model::{
    Approval, ApprovalId, ApprovalState, Call, Click, Evidence, EvidenceId, Finding, Incident, IncidentId, Post, Report,
};
use crate::store::claims::ATTEMPTS_MAX;
use crate::store::sql::{Arg, Conn, Row, args};
use crate::store::write::{Mark, Usage};
use crate::store::{Engine, Store};

/// Incidents that one read returns at most; a cluster with more open ones has one cause behind them.
const INCIDENTS_MAX: u32 = 2_000;
/// Rows of one incident (evidence, turns, approvals, posts, calls) that one read returns at most; its budget is far
/// below.
const ROWS_MAX: u32 = 1_000;

/// One turn of a transcript.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    pub number: u32,
    pub at: Timestamp,
    pub messages: serde_json::Value,
    pub usage: Usage,
}

/// A card that is not up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    pub incident: IncidentId,
    /// The version that is to be shown.
    pub version: i64,
    /// Whether anything was shown of it before.
    pub has_card: bool,
    /// Whether its investigation runs, so that more is to come soon.
    pub is_running: bool,
}

impl Due {
    /// The unit of stage `thread`: while it is postponed, this version waits for nothing but its thread.
    pub fn thread(&self) -> String {
        format!("{}:{}", self.incident, self.version)
    }
}

/// Units that wait for a stage, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    pub stage: &'static str,
    pub waiting: u64,
}

impl Store {
    /// Incidents that are not over, oldest first; the newest 2,000.
    pub async fn open_incidents(&self) -> anyhow::Result<Vec<Incident>> {
        const SQL: &str = "SELECT doc, investigation FROM incident WHERE cluster = $1 AND state = 'open'
            ORDER BY opened_ms DESC, id DESC LIMIT $2";
        let mut incidents = self.incidents(SQL, args![self.cluster().as_str(), INCIDENTS_MAX]).await?;
        incidents.reverse();
        Ok(incidents)
    }

    /// Incidents that are open, or ended at `since` or later, oldest first; the newest 2,000.
    pub async fn recent_incidents(&self, since: Timestamp) -> anyhow::Result<Vec<Incident>> {
        const SQL: &str = "SELECT doc, investigation FROM incident
            WHERE cluster = $1 AND (state = 'open' OR (state = 'over' AND over_ms >= $2))
            ORDER BY opened_ms DESC, id DESC LIMIT $3";
        let args = args![self.cluster().as_str(), since.as_millisecond(), INCIDENTS_MAX];
        let mut incidents = self.incidents(SQL, args).await?;
        incidents.reverse();
        Ok(incidents)
    }

    pub async fn incident(&self, id: &IncidentId) -> anyhow::Result<Option<Incident>> {
        incident(&mut self.held().await?.conn(), id).await
    }

    /// Incidents whose investigation waits or runs and that nobody holds, the most severe first, then the oldest; at
    /// most `limit`.
    pub async fn to_investigate(&self, limit: u32) -> anyhow::Result<Vec<IncidentId>> {
        const SQL: &str = "SELECT id FROM incident
            WHERE cluster = $1 AND progress IN ('waiting', 'running') AND NOT EXISTS
            (SELECT 1 FROM claim WHERE claim.cluster = incident.cluster AND claim.stage = 'investigate'
             AND claim.unit = incident.id AND (claim.until_ms > $2 OR claim.attempt >= $3))
            ORDER BY severity DESC, opened_ms, id LIMIT $4";
        let mut held = self.held().await?;
        let now_ms = self.context().lease_now_ms(&mut held.conn()).await?;
        let args = args![self.cluster().as_str(), now_ms, ATTEMPTS_MAX, limit];
        let rows = held.conn().fetch(SQL, args).await?;
        rows.iter().map(|row| incident_id(row, 0)).collect()
    }

    /// Incidents whose card does not show their version yet and that nobody delivers now: those that must have a card in
    /// the channel and have none (critical, or people are asked for leave), then those without any, then those whose
    /// investigation is at rest, then the oldest change; at most `limit`. Deliver what `card` then returns and write
    /// `Delivered` with this version.
    pub async fn undelivered(&self, limit: u32) -> anyhow::Result<Vec<Due>> {
        const SQL: &str = "SELECT id, version, CAST(CASE WHEN delivered_version > 0 OR EXISTS (SELECT 1 FROM post
             WHERE post.cluster = incident.cluster AND post.incident = incident.id AND post.ts IS NOT NULL
             AND post.kind <> 'digest') THEN 1 ELSE 0 END AS BIGINT),
             CAST(CASE WHEN progress = 'running' THEN 1 ELSE 0 END AS BIGINT),
             CAST(CASE WHEN (severity = 4 OR EXISTS (SELECT 1 FROM approval
              WHERE approval.incident = incident.id AND approval.state IN ('pending', 'approved', 'executing')))
              AND NOT EXISTS (SELECT 1 FROM post WHERE post.cluster = incident.cluster
              AND post.incident = incident.id AND post.kind = 'card' AND post.ts IS NOT NULL)
              THEN 0 ELSE 1 END AS BIGINT)
            FROM incident WHERE cluster = $1 AND version > delivered_version AND NOT EXISTS
            (SELECT 1 FROM claim WHERE claim.cluster = incident.cluster AND claim.stage = 'deliver'
             AND claim.unit = incident.id AND (claim.until_ms > $2 OR claim.attempt >= $3)) AND NOT EXISTS
            (SELECT 1 FROM claim WHERE claim.cluster = incident.cluster AND claim.stage = 'thread'
             AND claim.unit = incident.id || ':' || CAST(version AS TEXT) AND claim.until_ms > $2)
            ORDER BY 5, 3, 4, updated_ms, id LIMIT $4";
        let mut held = self.held().await?;
        let now_ms = self.context().lease_now_ms(&mut held.conn()).await?;
        let args = args![self.cluster().as_str(), now_ms, ATTEMPTS_MAX, limit];
        let rows = held.conn().fetch(SQL, args).await?;
        let due = |row: &Row| {
            let (has_card, is_running) = (row.int(2)? > 0, row.int(3)? > 0);
            Ok(Due { incident: incident_id(row, 0)?, version: row.int(1)?, has_card, is_running })
        };
        rows.iter().map(due).collect()
    }

    /// All evidence of an incident, e1 first; at most 1,000.
    pub async fn evidence(&self, incident: &IncidentId) -> anyhow::Result<Vec<Evidence>> {
        const SQL: &str = "SELECT doc FROM evidence WHERE incident = $1 ORDER BY number LIMIT $2";
        self.docs(SQL, args![incident.as_str(), ROWS_MAX]).await
    }

    /// One piece of evidence.
    pub async fn evidence_one(&self, incident: &IncidentId, id: EvidenceId) -> anyhow::Result<Option<Evidence>> {
        const SQL: &str = "SELECT doc FROM evidence WHERE incident = $1 AND number = $2";
        Ok(self.docs(SQL, args![incident.as_str(), id.0]).await?.pop())
    }

    /// The id after the last one given in this incident; the scene's e1 to e11 count as given.
    pub async fn next_evidence_id(&self, incident: &IncidentId) -> anyhow::Result<EvidenceId> {
        const SQL: &str = "SELECT max(number) FROM evidence WHERE incident = $1";
        let last = self.held().await?.conn().number(SQL, args![incident.as_str()]).await?;
        Ok(EvidenceId((last as u32).max(ScenePart::ALL.len() as u32) + 1))
    }

    /// The findings last written, none before.
    pub async fn findings(&self, incident: &IncidentId) -> anyhow::Result<Vec<Finding>> {
        const SQL: &str = "SELECT doc FROM findings WHERE incident = $1";
        Ok(self.docs(SQL, args![incident.as_str()]).await?.pop().unwrap_or_default())
    }

    /// The report last written.
    pub async fn report(&self, incident: &IncidentId) -> anyhow::Result<Option<Report>> {
        Ok(self.docs("SELECT doc FROM report WHERE incident = $1", args![incident.as_str()]).await?.pop())
    }

    /// The turns of an incident's investigation, first to last; at most 1,000.
    pub async fn transcript(&self, incident: &IncidentId) -> anyhow::Result<Vec<Turn>> {
        const SQL: &str = "SELECT number, at_ms, input_tokens, output_tokens, messages FROM turn
            WHERE incident = $1 ORDER BY number LIMIT $2";
        let rows = self.fetch(SQL, args![incident.as_str(), ROWS_MAX]).await?;
        let turn = |row: &Row| {
            let usage = Usage { input_tokens: row.int(2)? as u64, output_tokens: row.int(3)? as u64 };
            Ok(Turn { number: row.int(0)? as u32, at: clock::from_ms(row.int(1)?), messages: row.doc(4)?, usage })
        };
        rows.iter().map(turn).collect()
    }

    /// The approvals of an incident, newest first; at most 1,000.
    pub async fn approvals_of(&self, incident: &IncidentId) -> anyhow::Result<Vec<Approval>> {
        approvals_of(&mut self.held().await?.conn(), incident).await
    }

    pub async fn approval(&self, id: &ApprovalId) -> anyhow::Result<Option<Approval>> {
        Ok(self.docs("SELECT doc FROM approval WHERE id = $1", args![id.as_str()]).await?.pop())
    }

    /// The same that this stage may take up: nobody holds them in it, none waits for its time or is parked.
    pub async fn approvals_free(
        &self,
        stage: &'static str,
        states: &[ApprovalState],
        limit: u32,
    ) -> anyhow::Result<Vec<Approval>> {
        let sql = format!(
            "SELECT doc FROM approval WHERE cluster = $1 AND state IN ({}) AND NOT EXISTS
            (SELECT 1 FROM claim WHERE claim.cluster = approval.cluster AND claim.stage = $2
             AND claim.unit = approval.id AND (claim.until_ms > $3 OR claim.attempt >= $4))
            ORDER BY created_ms, id LIMIT $5",
            listed(states)
        );
        let mut held = self.held().await?;
        let now_ms = self.context().lease_now_ms(&mut held.conn()).await?;
        let args = args![self.cluster().as_str(), stage, now_ms, ATTEMPTS_MAX, limit];
        let rows = held.conn().fetch(AssertSqlSafe(sql), args).await?;
        rows.iter().map(|row| row.doc(0)).collect()
    }

    /// Approvals in any of these states, oldest first; at most `limit`.
    pub async fn approvals_in(&self, states: &[ApprovalState], limit: u32) -> anyhow::Result<Vec<Approval>> {
        let sql = format!(
            "SELECT doc FROM approval WHERE cluster = $1 AND state IN ({}) ORDER BY created_ms, id LIMIT $2",
            listed(states)
        );
        let mut held = self.held().await?;
        let rows = held.conn().fetch(AssertSqlSafe(sql), args![self.cluster().as_str(), limit]).await?;
        rows.iter().map(|row| row.doc(0)).collect()
    }

    /// What was executed last, oldest first; at most `limit`. Older ones are settled, or never will be.
    pub async fn approvals_executed(&self, limit: u32) -> anyhow::Result<Vec<Approval>> {
        const SQL: &str =
            "SELECT doc FROM approval WHERE cluster = $1 AND state = 'executed' AND started_ms IS NOT NULL
            ORDER BY started_ms DESC, id DESC LIMIT $2";
        let mut approvals = self.docs(SQL, args![self.cluster().as_str(), limit]).await?;
        approvals.reverse();
        Ok(approvals)
    }

    /// Clicks that are not answered yet and that may be taken up: nobody holds them, none waits for its time or is
    /// parked. Oldest first; at most `limit`.
    pub async fn clicks_unhandled(&self, limit: u32) -> anyhow::Result<Vec<Click>> {
        const SQL: &str = "SELECT doc FROM click WHERE cluster = $1 AND handled_ms IS NULL AND NOT EXISTS
            (SELECT 1 FROM claim WHERE claim.cluster = click.cluster AND claim.stage = 'click'
             AND claim.unit = click.id AND (claim.until_ms > $2 OR claim.attempt >= $3))
            ORDER BY heard_ms, id LIMIT $4";
        let mut held = self.held().await?;
        let now_ms = self.context().lease_now_ms(&mut held.conn()).await?;
        let args = args![self.cluster().as_str(), now_ms, ATTEMPTS_MAX, limit];
        held.conn().fetch(SQL, args).await?.iter().map(|row| row.doc(0)).collect()
    }

    /// The posts of an incident, first to last; at most 1,000.
    pub async fn posts_of(&self, incident: &IncidentId) -> anyhow::Result<Vec<Post>> {
        const SQL: &str = "SELECT doc FROM post WHERE cluster = $1 AND incident = $2
            ORDER BY posting_ms, nonce LIMIT $3";
        self.docs(SQL, args![self.cluster().as_str(), incident.as_str(), ROWS_MAX]).await
    }

    /// The calls of an incident, first to last; at most 1,000.
    pub async fn calls_of(&self, incident: &IncidentId) -> anyhow::Result<Vec<Call>> {
        const SQL: &str = "SELECT doc FROM call WHERE incident = $1 ORDER BY called_ms, id LIMIT $2";
        self.docs(SQL, args![incident.as_str(), ROWS_MAX]).await
    }

    /// Approvals whose execution began at `since` or later, whatever came of them; the newest 1,000.
    pub async fn approvals_begun_since(&self, since: Timestamp) -> anyhow::Result<Vec<Approval>> {
        const SQL: &str = "SELECT doc FROM approval WHERE cluster = $1 AND started_ms >= $2
            ORDER BY started_ms DESC LIMIT $3";
        self.docs(SQL, args![self.cluster().as_str(), since.as_millisecond(), ROWS_MAX]).await
    }

    /// Approvals that were made at `since` or later, whatever came of them; the newest 1,000.
    pub async fn approvals_made_since(&self, since: Timestamp) -> anyhow::Result<Vec<Approval>> {
        const SQL: &str = "SELECT doc FROM approval WHERE cluster = $1 AND created_ms >= $2
            ORDER BY created_ms DESC LIMIT $3";
        self.docs(SQL, args![self.cluster().as_str(), since.as_millisecond(), ROWS_MAX]).await
    }

    /// Whether this happened, in this life of the store or an earlier one.
    pub async fn is_marked(&self, mark: Mark) -> anyhow::Result<bool> {
        const SQL: &str = "SELECT count(*) FROM mark WHERE cluster = $1 AND name = $2";
        let args = args![self.cluster().as_str(), mark.as_str()];
        Ok(self.held().await?.conn().number(SQL, args).await? > 0)
    }

    /// Bytes that the database takes, without what is free inside it.
    pub async fn size_bytes(&self) -> anyhow::Result<u64> {
        const LITE: &str = "SELECT (page_count - freelist_count) * page_size
            FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()";
        const PG: &str = "SELECT CAST(pg_database_size(current_database()) AS BIGINT)";
        let sql = if matches!(self.0.engine, Engine::Lite { .. }) { LITE } else { PG };
        Ok(self.held().await?.conn().number(sql, vec![]).await? as u64)
    }

    /// How many units wait for each stage.
    pub async fn depths(&self) -> anyhow::Result<Vec<Depth>> {
        const COUNTS: [(&str, &str); 8] = [
            ("resolve", "SELECT count(*) FROM signal WHERE cluster = $1 AND state = 'new'"),
            ("correlate", "SELECT count(*) FROM signal WHERE cluster = $1 AND state = 'resolved'"),
            ("investigate", "SELECT count(*) FROM incident WHERE cluster = $1 AND progress IN ('waiting', 'running')"),
            ("deliver", "SELECT count(*) FROM incident WHERE cluster = $1 AND version > delivered_version"),
            ("click", "SELECT count(*) FROM click WHERE cluster = $1 AND handled_ms IS NULL"),
            ("preview", "SELECT count(*) FROM approval WHERE cluster = $1 AND state = 'proposed'"),
            ("execute", "SELECT count(*) FROM approval WHERE cluster = $1 AND state IN ('approved', 'executing')"),
            ("seal", "SELECT count(*) FROM audit WHERE number IS NULL AND cluster = $1"),
        ];
        let mut held = self.held().await?;
        let mut depths = Vec::new();
        for (stage, sql) in COUNTS {
            let waiting = held.conn().number(sql, args![self.cluster().as_str()]).await? as u64;
            depths.push(Depth { stage, waiting });
        }
        Ok(depths)
    }

    /// All rows of a query.
    pub(super) async fn fetch(&self, sql: &'static str, args: Vec<Arg>) -> anyhow::Result<Vec<Row>> {
        Ok(self.held().await?.conn().fetch(sql, args).await?)
    }

    /// The documents in the first column of a query.
    pub(super) async fn docs<T: DeserializeOwned>(&self, sql: &'static str, args: Vec<Arg>) -> anyhow::Result<Vec<T>> {
        self.fetch(sql, args).await?.iter().map(|row| row.doc(0)).collect()
    }

    async fn incidents(&self, sql: &'static str, args: Vec<Arg>) -> anyhow::Result<Vec<Incident>> {
        self.fetch(sql, args).await?.iter().map(whole_incident).collect()
    }
}

/// States as literals: compared with a bound value SQLite would plan the statement anew at each binding, for the sake of
/// the partial index over executing ones. As many texts as callers, so that they stay prepared.
fn listed(states: &[ApprovalState]) -> String {
    states.iter().map(|state| format!("'{}'", state.as_str())).collect::<Vec<_>>().join(", ")
}

/// An incident from its document and, beside it, its investigation.
pub(super) fn whole_incident(row: &Row) -> anyhow::Result<Incident> {
    let mut incident: Incident = row.doc(0)?;
    incident.investigation = row.doc(1)?;
    Ok(incident)
}

fn incident_id(row: &Row, column: usize) -> anyhow::Result<IncidentId> {
    let text = row.text(column)?;
    IncidentId::parse(&text).ok_or_else(|| anyhow::anyhow!("a stored incident has no readable id"))
}

pub(super) async fn incident(conn: &mut Conn<'_>, id: &IncidentId) -> anyhow::Result<Option<Incident>> {
    const SQL: &str = "SELECT doc, investigation FROM incident WHERE id = $1";
    conn.first(SQL, args![id.as_str()]).await?.as_ref().map(whole_incident).transpose()
}

pub(super) async fn approvals_of(conn: &mut Conn<'_>, incident: &IncidentId) -> anyhow::Result<Vec<Approval>> {
    const SQL: &str = "SELECT doc FROM approval WHERE incident = $1 ORDER BY created_ms DESC, id DESC LIMIT $2";
    conn.fetch(SQL, args![incident.as_str(), ROWS_MAX]).await?.iter().map(|row| row.doc(0)).collect()
}
