//! Signals: stored once each in the order of arrival, then resolved, placed or ignored.

use std::sync::LazyLock;

use sqlx::AssertSqlSafe;

use crate::model::{AlertStatus, IncidentId, ObjectRef, Signal, SignalBody, SignalId};
use crate::redact::Redacted;
use crate::store::Store;
use crate::store::operation::Fault;
use crate::store::sql::{Arg, Conn, Row, args};

const COLUMNS: usize = 10;

/// Inserts of 64, 32, ... 1 rows: any number of signals is written with at most seven prepared statements.
static INSERTS: LazyLock<Vec<(usize, &'static str)>> = LazyLock::new(|| {
    let insert = |rows: usize| {
        let row = |at: usize| {
            let columns: Vec<String> = (1..=COLUMNS).map(|column| format!("${}", at * COLUMNS + column)).collect();
            format!("({})", columns.join(", "))
        };
        let rows_text: Vec<String> = (0..rows).map(row).collect();
        let sql = format!(
            "INSERT INTO signal (id, cluster, kind, heard_ms, alert, name, status, starts_ms, ends_ms, doc)
            VALUES {} ON CONFLICT (id) DO NOTHING",
            rows_text.join(", ")
        );
        (rows, &*sql.leak())
    };
    [64, 32, 16, 8, 4, 2, 1].map(insert).into()
});

/// Inserts signals in their order; those whose id is known are ignored.
pub(super) async fn insert(conn: &mut Conn<'_>, mut signals: &[&Signal]) -> Result<(), Fault> {
    while !signals.is_empty() {
        let fits = INSERTS.iter().find(|(rows, _)| *rows <= signals.len());
        let (rows, sql) = fits.copied().unwrap_or(INSERTS[INSERTS.len() - 1]);
        let (now, later) = signals.split_at(rows);
        let mut args = Vec::with_capacity(rows * COLUMNS);
        for signal in now {
            columns(signal, &mut args)?;
        }
        conn.execute(AssertSqlSafe(sql), args).await?;
        signals = later;
    }
    Ok(())
}

fn columns(signal: &Signal, args: &mut Vec<Arg>) -> Result<(), Fault> {
    let doc = serde_json::to_string(signal)?;
    let mut head = |kind: &'static str| {
        args.extend(args![signal.id.as_str(), signal.cluster.as_str(), kind, signal.heard_at.as_millisecond()]);
    };
    match &signal.body {
        SignalBody::Alert(alert) => {
            head("alert");
            let status = match alert.status {
                AlertStatus::Firing => "firing",
                AlertStatus::Resolved => "resolved",
            };
            args.extend(args![
                Some(alert.fingerprint.as_str()),
                Some(alert.name.as_str()),
                Some(status),
                Some(alert.starts_at.as_millisecond()),
                alert.ends_at.map(|at| at.as_millisecond()),
            ]);
        }
        other => {
            head(if matches!(other, SignalBody::Warning(_)) { "warning" } else { "rollout" });
            args.extend(args![None::<&str>, None::<&str>, None::<&str>, None::<i64>, None::<i64>]);
        }
    }
    args.push(doc.into());
    Ok(())
}

pub(super) async fn resolve(
    conn: &mut Conn<'_>,
    signal: &SignalId,
    subject: Option<&ObjectRef>,
    note: &Redacted,
) -> Result<(), Fault> {
    const SQL: &str = "UPDATE signal SET subject = $2, note = $3,
        state = CASE WHEN state = 'new' THEN 'resolved' ELSE state END WHERE id = $1";
    let subject = subject.map(serde_json::to_string).transpose()?;
    found(conn.execute(SQL, args![signal.as_str(), subject, note.as_str()]).await?, signal)
}

pub(super) async fn place(conn: &mut Conn<'_>, signal: &SignalId, incident: &IncidentId) -> Result<(), Fault> {
    const SQL: &str = "UPDATE signal SET state = 'placed', incident = $2 WHERE id = $1";
    found(conn.execute(SQL, args![signal.as_str(), incident.as_str()]).await?, signal)
}

pub(super) async fn ignore(conn: &mut Conn<'_>, signal: &SignalId, why: &Redacted) -> Result<(), Fault> {
    const SQL: &str = "UPDATE signal SET state = 'ignored', why = $2 WHERE id = $1";
    found(conn.execute(SQL, args![signal.as_str(), why.as_str()]).await?, signal)
}

fn found(changed: u64, signal: &SignalId) -> Result<(), Fault> {
    if changed == 1 { Ok(()) } else { Err(Fault::Conflict(format!("signal {signal} is not stored"))) }
}

impl Store {
    /// Signals whose subject is not known yet, oldest first; at most `limit`.
    pub async fn signals_unresolved(&self, limit: u32) -> anyhow::Result<Vec<Signal>> {
        const SQL: &str = "SELECT doc FROM signal WHERE cluster = $1 AND state = 'new' ORDER BY seq LIMIT $2";
        self.docs(SQL, args![self.cluster().as_str(), limit]).await
    }

    /// Signals that belong to no incident yet, with their subject and the remark on it, oldest first; at most `limit`.
    pub async fn signals_unplaced(&self, limit: u32) -> anyhow::Result<Vec<(Signal, Option<ObjectRef>, Redacted)>> {
        const SQL: &str = "SELECT doc, subject, note FROM signal WHERE cluster = $1 AND state = 'resolved'
            ORDER BY seq LIMIT $2";
        let rows = self.fetch(SQL, args![self.cluster().as_str(), limit]).await?;
        rows.iter().map(|row| Ok((row.doc(0)?, subject(row, 1)?, note(row, 2)?))).collect()
    }

    /// The newest signals of an incident, in the order of arrival; at most `limit`.
    pub async fn signals_of(&self, incident: &IncidentId, limit: u32) -> anyhow::Result<Vec<Signal>> {
        const SQL: &str = "SELECT doc FROM signal WHERE incident = $1 ORDER BY seq DESC LIMIT $2";
        let mut signals = self.docs(SQL, args![incident.as_str(), limit]).await?;
        signals.reverse();
        Ok(signals)
    }
}

fn subject(row: &Row, column: usize) -> anyhow::Result<Option<ObjectRef>> {
    row.maybe_text(column)?.map(|text| crate::store::sql::from_json(&text)).transpose()
}

/// Rebuilt from bytes as every stored text is: through the rules again.
fn note(row: &Row, column: usize) -> anyhow::Result<Redacted> {
    Ok(crate::redact::Redactor::default().redact(&row.text(column)?))
}
