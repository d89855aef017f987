//! Pruning: what is old and over goes, so that the store does not grow for ever; an open incident keeps everything.

use jiff::Timestamp;

use crate::store::audit;
use crate::store::cut::{CUT, Cut, TAKEN_AGE_MIN_MS, Took};
use crate::store::operation::{Context, Fault, Operation, Outcome};
use crate::store::sql::{Conn, args};
use crate::store::{AuditEntry, CommitError, Store};

/// What belongs to an incident and goes with it.
const OF_AN_INCIDENT: [&str; 9] = [
    "DELETE FROM signal WHERE incident = $1",
    "DELETE FROM evidence WHERE incident = $1",
    "DELETE FROM report WHERE incident = $1",
    "DELETE FROM findings WHERE incident = $1",
    "DELETE FROM turn WHERE incident = $1",
    "DELETE FROM approval WHERE incident = $1",
    "DELETE FROM call WHERE incident = $1",
    "DELETE FROM digest WHERE incident = $1",
    "DELETE FROM incident WHERE id = $1",
];
/// A digest outlasts the incident that it goes by, as long as others stand on it.
const POSTS: &str = "DELETE FROM post WHERE cluster = $1 AND incident = $2 AND kind <> 'digest'";

/// What is old by itself, each for cluster $1, before $2 and at most $3 rows.
const OLD: [&str; 5] = [
    "DELETE FROM signal WHERE seq IN
     (SELECT seq FROM signal WHERE cluster = $1 AND state = 'ignored' AND heard_ms < $2 LIMIT $3)",
    "DELETE FROM click WHERE id IN
     (SELECT id FROM click WHERE cluster = $1 AND handled_ms < $2 LIMIT $3)",
    "DELETE FROM scene WHERE cluster = $1 AND subject IN
     (SELECT subject FROM scene WHERE cluster = $1 AND read_ms < $2 AND NOT EXISTS
      (SELECT 1 FROM incident WHERE incident.cluster = scene.cluster AND incident.subject = scene.subject) LIMIT $3)",
    "DELETE FROM post WHERE nonce IN
     (SELECT nonce FROM post WHERE cluster = $1 AND kind = 'digest' AND posting_ms < $2 AND NOT EXISTS
      (SELECT 1 FROM digest WHERE digest.cluster = post.cluster AND digest.digest = post.incident) LIMIT $3)",
    "DELETE FROM claim WHERE cluster = $1 AND owner = '' AND unit IN
     (SELECT unit FROM claim WHERE cluster = $1 AND owner = '' AND until_ms < $2 AND NOT EXISTS
      (SELECT 1 FROM incident WHERE incident.id = claim.unit)
      AND NOT EXISTS (SELECT 1 FROM approval WHERE approval.id = claim.unit) LIMIT $3)",
];

/// What is kept by its own age in days, whatever becomes of its incident: each for cluster $1, before $2.
const BY_AGE: [(&str, i64); 2] = [
    // The budget of 30 days counts them.
    ("DELETE FROM charge WHERE cluster = $1 AND at_ms < $2", 31),
    // A year can be compared with the one before; a few bytes each.
    ("DELETE FROM thumb WHERE cluster = $1 AND at_ms < $2", 800),
];
const DAY_MS: i64 = 86_400_000;

/// Audit entries are small and many: so many go for one incident of the limit.
const ENTRIES_PER_INCIDENT: i64 = 100;

impl Store {
    /// Takes out what ended before `before`: incidents that are over with all that is stored of them, ignored signals,
    /// answered clicks, scenes, and the beginning of the audit chain as far as no open incident is in it. At most
    /// `limit` incidents at a time; 0 when nothing was left to take out.
    pub async fn prune(&self, before: Timestamp, limit: u32) -> Result<u64, CommitError> {
        self.take_out(before, limit, false).await
    }

    /// The same where the bound of size is near: what is taken out is taken for room, not for its age, and the audit's cut
    /// says so. Nothing of the audit goes that is younger than an hour.
    pub async fn make_room(&self, before: Timestamp, limit: u32) -> Result<u64, CommitError> {
        self.take_out(before, limit, true).await
    }

    async fn take_out(&self, before: Timestamp, limit: u32, room: bool) -> Result<u64, CommitError> {
        let operation = Operation::Prune { before_ms: before.as_millisecond(), limit, room };
        match self.operate(operation, false).await? {
            Outcome::Pruned(rows) => Ok(rows),
            other => Err(CommitError::Store(anyhow::anyhow!("a prune was answered with {other:?}"))),
        }
    }
}

pub(super) async fn prune(
    conn: &mut Conn<'_>,
    context: &Context,
    before_ms: i64,
    limit: u32,
    room: bool,
) -> Result<u64, Fault> {
    const OVER: &str = "SELECT id FROM incident WHERE cluster = $1 AND state = 'over' AND over_ms < $2
        ORDER BY over_ms LIMIT $3";
    let cluster = context.cluster.as_str();
    let mut rows = 0;
    for row in conn.fetch(OVER, args![cluster, before_ms, limit]).await? {
        let incident = row.text(0)?;
        rows += conn.execute(POSTS, args![cluster, incident.as_str()]).await?;
        for sql in OF_AN_INCIDENT {
            rows += conn.execute(sql, args![incident.as_str()]).await?;
        }
    }
    for sql in OLD {
        rows += conn.execute(sql, args![cluster, before_ms, limit]).await?;
    }
    for (sql, days) in BY_AGE {
        let oldest_ms = before_ms.min(context.clock.now_ms() - days * DAY_MS);
        rows += conn.execute(sql, args![cluster, oldest_ms]).await?;
    }
    // A cut that takes younger ones is none of retention's: `audit verify` would say so.
    let before_ms = before_ms.min(context.clock.now_ms() - TAKEN_AGE_MIN_MS);
    Ok(rows + prune_audit(conn, context, before_ms, limit, room).await?)
}

/// Takes entries from the beginning of the chain and remembers where it begins now, so that the rest can be proved; an
/// entry of its own tells it.
async fn prune_audit(
    conn: &mut Conn<'_>,
    context: &Context,
    before_ms: i64,
    limit: u32,
    room: bool,
) -> Result<u64, Fault> {
    const CHAIN: &str = "UPDATE chain SET base_number = base_number WHERE one = 1 RETURNING base_number, number";
    const KEPT: &str = "SELECT number FROM audit WHERE number > $1 AND number <= $2
        AND (at_ms >= $3 OR incident IN (SELECT id FROM incident WHERE state = 'open')) ORDER BY number LIMIT 1";
    const OTHERS: &str = "SELECT count(*) FROM audit WHERE number > $1 AND number <= $2 AND kind <> $3";
    let Some(chain) = conn.first(CHAIN, vec![]).await? else {
        return Ok(0);
    };
    let (base, head) = (chain.int(0)?, chain.int(1)?);
    let reach = head.min(base + i64::from(limit) * ENTRIES_PER_INCIDENT);
    let kept = conn.first(KEPT, args![base, reach, before_ms]).await?.map(|row| row.int(0)).transpose()?;
    let last = kept.map_or(reach, |number| number - 1);
    // What tells of earlier cuts goes with the next cut, and makes none by itself: it would never end.
    if conn.number(OTHERS, args![base, last, CUT]).await? == 0 {
        return Ok(0);
    }
    let Some(row) = conn.first("SELECT hash FROM audit WHERE number = $1", args![last]).await? else {
        return Ok(0);
    };
    let hash = row.text(0)?;
    let newest_ms = conn.number("SELECT max(at_ms) FROM audit WHERE number <= $1", args![last]).await?;
    let count = conn.execute("DELETE FROM audit WHERE number <= $1", args![last]).await?;
    let body = Cut::body(last, &hash, count, Took::new(base, before_ms, newest_ms, room));
    conn.execute("UPDATE chain SET base_number = $1, base_hash = $2 WHERE one = 1", args![last, hash]).await?;
    let entry = AuditEntry { at: context.clock.now(), kind: CUT, incident: None, body };
    audit::insert(conn, context, &entry).await?;
    Ok(count)
}
