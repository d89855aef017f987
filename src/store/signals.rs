//! Signals: stored once each in the order of arrival, then resolved, placed or ignored.

use std::sync::LazyLock;

use jiff::Timestamp;
use sqlx::AssertSqlSafe;

use crate::model::{AlertStatus, IncidentId, ObjectRef, Signal, SignalBody};
use crate::redact::Redacted;
use crate::store::Store;
use crate::store::operation::Fault;
use crate::store::sql::{Arg, Conn, Row, args};
use crate::store::write::Write;

const COLUMNS: usize = 10;

/// Any number of rows is written with at most seven prepared statements of a kind.
const ROWS: [usize; 7] = [64, 32, 16, 8, 4, 2, 1];

static INSERTS: LazyLock<[(usize, &'static str); 7]> = LazyLock::new(|| {
    ROWS.map(|rows| {
        let sql = format!(
            "INSERT INTO signal (id, cluster, kind, heard_ms, alert, name, status, starts_ms, ends_ms, doc)
            VALUES {} ON CONFLICT (id) DO NOTHING",
            places(rows, COLUMNS)
        );
        (rows, &*sql.leak())
    })
});

/// Inserts signals in their order; those whose id is known are ignored.
pub(super) async fn insert(conn: &mut Conn<'_>, mut signals: &[&Signal]) -> Result<(), Fault> {
    while !signals.is_empty() {
        let (rows, sql) = fitting(&INSERTS, signals.len());
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
        SignalBody::Rollout(rollout) if rollout.is_edit() => {
            head("edit");
            let namespace = Some(rollout.object.namespace());
            args.extend(args![None::<&str>, namespace, None::<&str>, None::<i64>, None::<i64>]);
        }
        other => {
            head(if matches!(other, SignalBody::Warning(_)) { "warning" } else { "rollout" });
            args.extend(args![None::<&str>, None::<&str>, None::<&str>, None::<i64>, None::<i64>]);
        }
    }
    args.push(doc.into());
    Ok(())
}

/// How signals are settled: by rows of an id and up to two texts.
struct Settle {
    columns: usize,
    statements: [(usize, &'static str); 7],
}

impl Settle {
    fn new(names: &str, set: &str) -> Self {
        let columns = names.split(',').count();
        let statement = |rows: usize| {
            let sql = format!(
                "WITH given ({names}) AS (VALUES {}) UPDATE signal SET {set} FROM given WHERE signal.id = given.id",
                places(rows, columns)
            );
            (rows, &*sql.leak())
        };
        Self { columns, statements: ROWS.map(statement) }
    }
}

static RESOLVE: LazyLock<Settle> = LazyLock::new(|| {
    let state = "CASE WHEN signal.state = 'new' THEN 'resolved' ELSE signal.state END";
    Settle::new("id, subject, note", &format!("subject = given.subject, note = given.note, state = {state}"))
});
static PLACE: LazyLock<Settle> =
    LazyLock::new(|| Settle::new("id, incident", "state = 'placed', incident = given.incident"));
static IGNORE: LazyLock<Settle> = LazyLock::new(|| Settle::new("id, why", "state = 'ignored', why = given.why"));

/// Resolves, places or ignores signals: writes of one of these kinds, each signal once.
pub(super) async fn settle(conn: &mut Conn<'_>, mut alike: &[Write]) -> Result<(), Fault> {
    let how = match alike {
        [Write::Resolve { .. }, ..] => &*RESOLVE,
        [Write::Place { .. }, ..] => &*PLACE,
        _ => &*IGNORE,
    };
    while !alike.is_empty() {
        let (rows, sql) = fitting(&how.statements, alike.len());
        let (now, later) = alike.split_at(rows);
        let mut args = Vec::with_capacity(rows * how.columns);
        for write in now {
            match write {
                Write::Resolve { signal, subject, note } => {
                    let subject = subject.as_ref().map(serde_json::to_string).transpose()?;
                    args.extend(args![signal.as_str(), subject, note.as_str()]);
                }
                Write::Place { signal, incident } => args.extend(args![signal.as_str(), incident.as_str()]),
                Write::Ignore { signal, why } => args.extend(args![signal.as_str(), why.as_str()]),
                _ => return Err(Fault::Other(anyhow::anyhow!("only signals are settled"))),
            }
        }
        let changed = conn.execute(AssertSqlSafe(sql), args).await?;
        if changed != rows as u64 {
            return Err(Fault::Conflict(format!("{changed} of {rows} signals are stored")));
        }
        alike = later;
    }
    Ok(())
}

/// The statement for the most rows that are no more than `waiting`.
fn fitting(statements: &[(usize, &'static str); 7], waiting: usize) -> (usize, &'static str) {
    statements.iter().find(|(rows, _)| *rows <= waiting).copied().unwrap_or(statements[6])
}

/// `($1, $2), ($3, $4)` for two rows of two columns.
fn places(rows: usize, columns: usize) -> String {
    let row = |at: usize| {
        let places: Vec<String> = (1..=columns).map(|column| format!("${}", at * columns + column)).collect();
        format!("({})", places.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
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

    /// The newest edits of objects of a namespace that were heard since an instant; at most `limit`.
    pub async fn edits_in(&self, namespace: &str, since: Timestamp, limit: u32) -> anyhow::Result<Vec<Signal>> {
        const SQL: &str = "SELECT doc FROM signal WHERE kind = 'edit' AND cluster = $1 AND name = $2
            AND heard_ms >= $3 ORDER BY heard_ms DESC, seq DESC LIMIT $4";
        self.docs(SQL, args![self.cluster().as_str(), namespace, since.as_millisecond(), limit]).await
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
