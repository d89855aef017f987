//! The audit: entries inserted with what they record, then numbered and chained by hash, proved and handed out.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::model::IncidentId;
use crate::store::cut::CUT;
use crate::store::operation::{Context, Fault, Operation, Outcome};
use crate::store::proof::{Anchor, AuditVerdict, Columns, Entry, Place, Proof, chained};
use crate::store::sql::{Conn, Row, args};
use crate::store::{CommitError, News, Store};

/// One thing worth proving later: a call, a verdict, a model turn, an approval, a click, an execution.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    pub at: Timestamp,
    /// `call`, `verdict`, `turn`, `approval`, `click`, `execution`, ...
    pub kind: &'static str,
    pub incident: Option<IncidentId>,
    pub body: serde_json::Value,
}

/// An entry as it is hashed: the stored text is exactly this as JSON.
#[derive(Serialize)]
struct Canonical<'a> {
    at_ms: i64,
    cluster: &'a str,
    kind: &'a str,
    incident: Option<&'a str>,
    body: &'a serde_json::Value,
}

/// Entries read at a time while proving: some hundred KB.
const PAGE: u32 = 1_000;

/// While other processes may seal (PostgreSQL), nobody wakes us: look again this often.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl Store {
    /// Numbers and chains up to `limit` entries, synced; the new head, or None when nothing waited.
    pub async fn seal(&self, limit: u32) -> Result<Option<(i64, String)>, CommitError> {
        match self.operate(Operation::Seal { limit }, true).await? {
            Outcome::Sealed(head) => Ok(head),
            other => Err(CommitError::Store(anyhow::anyhow!("a seal was answered with {other:?}"))),
        }
    }

    /// The newest sealed entry: number and hash (hex).
    pub async fn audit_head(&self) -> anyhow::Result<Option<(i64, String)>> {
        head(&mut self.held().await?.conn()).await
    }

    /// The body of the newest entry of a kind, sealed or not. Reads backwards, so it is for what is not far behind.
    pub async fn audit_last(&self, kind: &str) -> anyhow::Result<Option<serde_json::Value>> {
        const SQL: &str = "SELECT body FROM audit WHERE cluster = $1 AND kind = $2 ORDER BY seq DESC LIMIT 1";
        let last: Option<serde_json::Value> = self.docs(SQL, args![self.cluster().as_str(), kind]).await?.pop();
        Ok(last.map(|mut entry| entry["body"].take()))
    }

    /// The provisional id of the newest entry that is written, 0 without any: what `wait_sealed` takes.
    pub async fn audit_tail(&self) -> anyhow::Result<i64> {
        Ok(self.held().await?.conn().number("SELECT max(seq) FROM audit", vec![]).await?)
    }

    /// Whether every entry up to this provisional id is sealed.
    pub async fn is_sealed(&self, upto: i64) -> anyhow::Result<bool> {
        const SQL: &str = "SELECT seq FROM audit WHERE number IS NULL AND seq <= $1 LIMIT 1";
        Ok(self.fetch(SQL, args![upto]).await?.is_empty())
    }

    /// Waits until every entry up to this provisional id is sealed; false when `patience` ended first.
    pub async fn wait_sealed(&self, upto: i64, patience: Duration) -> anyhow::Result<bool> {
        let sealed = self.subscribe(News::SEALED);
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            if self.is_sealed(upto).await? {
                return Ok(true);
            }
            let now = tokio::time::Instant::now();
            if now >= deadline {
                return Ok(false);
            }
            let until = deadline.min(now + LOOK_AGAIN);
            let _ = tokio::time::timeout_at(until, sealed.changed()).await;
        }
    }

    /// Recomputes the whole chain from what is stored, and compares it with heads that were seen outside. Reads only; its
    /// memory does not grow with the chain.
    pub async fn audit_verify(&self, anchors: &[Anchor]) -> anyhow::Result<AuditVerdict> {
        loop {
            let (base, verdict) = self.prove(anchors).await?;
            // Retention may have cut the chain while it was read; then it is read again.
            if verdict.fault.is_none() || ends(&mut self.held().await?.conn()).await?.0 == base {
                return Ok(verdict);
            }
        }
    }

    async fn prove(&self, anchors: &[Anchor]) -> anyhow::Result<(Place, AuditVerdict)> {
        const ENTRIES: &str = "SELECT number, hash, cluster, at_ms, kind, incident, body FROM audit
            WHERE number > $1 ORDER BY number LIMIT $2";
        const BEHIND: &str = "SELECT count(*) FROM audit WHERE number > (SELECT number FROM chain)";
        const CUTS: &str = "SELECT seq, hash, cluster, at_ms, kind, incident, body FROM audit
            WHERE number IS NULL AND kind = $1 ORDER BY seq";
        let mut held = self.held().await?;
        let mut conn = held.conn();
        // The head first: what is sealed meanwhile lies behind it and is left out.
        let (base, end) = ends(&mut conn).await?;
        let unsealed = conn.number("SELECT count(*) FROM audit WHERE number IS NULL", vec![]).await? as u64;
        let cuts = conn.fetch(CUTS, args![CUT]).await?;
        let mut proof = Proof::begin(base.clone(), end, anchors, self.shrinks());
        while !proof.is_over() {
            let rows = conn.fetch(ENTRIES, args![proof.at(), PAGE]).await?;
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                if !proof.is_over() {
                    proof.take(&entry(row)?);
                }
            }
        }
        for row in &cuts {
            let Entry { columns, body, .. } = entry(row)?;
            proof.note_cut(&columns, &body);
        }
        let behind = conn.number(BEHIND, vec![]).await? as u64;
        Ok((base, proof.end(unsealed, behind, self.clock().now())))
    }

    /// Hands out every entry as one line of JSON, in the order of the chain, those not sealed last; how many there were.
    /// `entry` is the very text that was hashed: `hash` is SHA-256 over the hash before it and this text. A chain whose
    /// beginning was cut starts with the place of the cut.
    pub async fn audit_export(&self, mut line: impl FnMut(&str) -> std::io::Result<()>) -> anyhow::Result<u64> {
        const SEALED: &str = "SELECT number, body, hash FROM audit WHERE number > $1 ORDER BY number LIMIT $2";
        const UNSEALED: &str = "SELECT seq, body FROM audit WHERE number IS NULL AND seq > $1 ORDER BY seq LIMIT $2";
        let mut held = self.held().await?;
        let mut conn = held.conn();
        let (mut at, _) = ends(&mut conn).await?;
        if at.0 > 0 {
            line(&serde_json::json!({"cut": {"number": at.0, "hash": at.1}}).to_string())?;
        }
        let mut count = 0;
        loop {
            let rows = conn.fetch(SEALED, args![at.0, PAGE]).await?;
            for row in &rows {
                at.0 = row.int(0)?;
                line(&format!(r#"{{"number":{},"hash":"{}","entry":{}}}"#, at.0, row.text(2)?, row.text(1)?))?;
                count += 1;
            }
            if rows.is_empty() {
                break;
            }
        }
        let mut seq = 0;
        loop {
            let rows = conn.fetch(UNSEALED, args![seq, PAGE]).await?;
            for row in &rows {
                seq = row.int(0)?;
                line(&format!(r#"{{"number":null,"hash":null,"entry":{}}}"#, row.text(1)?))?;
                count += 1;
            }
            if rows.is_empty() {
                return Ok(count);
            }
        }
    }
}

fn entry(row: &Row) -> anyhow::Result<Entry> {
    let columns =
        Columns { cluster: row.text(2)?, at_ms: row.int(3)?, kind: row.text(4)?, incident: row.maybe_text(5)? };
    Ok(Entry { number: row.int(0)?, hash: row.maybe_text(1)?, columns, body: row.text(6)? })
}

/// Where the chain begins and where it ends: number and hash each.
async fn ends(conn: &mut Conn<'_>) -> anyhow::Result<(Place, Place)> {
    let row = conn.first("SELECT base_number, base_hash, number, hash FROM chain", vec![]).await?;
    let row = row.ok_or_else(|| anyhow::anyhow!("the audit chain's head is gone from the database"))?;
    Ok(((row.int(0)?, row.text(1)?), (row.int(2)?, row.text(3)?)))
}

pub(super) async fn head(conn: &mut Conn<'_>) -> anyhow::Result<Option<(i64, String)>> {
    let (_, head) = ends(conn).await?;
    Ok((head.0 > 0).then_some(head))
}

pub(super) async fn insert(conn: &mut Conn<'_>, context: &Context, entry: &AuditEntry) -> Result<(), Fault> {
    const SQL: &str = "INSERT INTO audit (cluster, at_ms, kind, incident, body) VALUES ($1, $2, $3, $4, $5)";
    let cluster = context.cluster.as_str();
    let at_ms = entry.at.as_millisecond();
    let incident = entry.incident.as_ref().map(IncidentId::as_str);
    let canonical = Canonical { at_ms, cluster, kind: entry.kind, incident, body: &entry.body };
    conn.execute(SQL, args![cluster, at_ms, entry.kind, incident, serde_json::to_string(&canonical)?]).await?;
    Ok(())
}

/// Chains the next entries. The head's row is written first, so that two processes never chain at once.
pub(super) async fn seal(conn: &mut Conn<'_>, limit: u32) -> Result<Option<(i64, String)>, Fault> {
    const WAITING: &str = "SELECT seq, body FROM audit WHERE number IS NULL ORDER BY seq LIMIT $1";
    const LOCK: &str = "UPDATE chain SET number = number WHERE one = 1";
    conn.execute(LOCK, vec![]).await?;
    let waiting = conn.fetch(WAITING, args![limit]).await?;
    if waiting.is_empty() {
        return Ok(None);
    }
    let (_, (mut number, mut hash)) = ends(conn).await?;
    for row in &waiting {
        number += 1;
        hash = chained(&hash, &row.text(1)?);
        const SEAL: &str = "UPDATE audit SET number = $2, hash = $3 WHERE seq = $1";
        conn.execute(SEAL, args![row.int(0)?, number, hash.as_str()]).await?;
    }
    conn.execute("UPDATE chain SET number = $1, hash = $2 WHERE one = 1", args![number, hash.as_str()]).await?;
    Ok(Some((number, hash)))
}
