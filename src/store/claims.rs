//! Claims: a stage's hold on one unit of work, by lease; a commit under a lost claim fails.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock;
use crate::model::{ClusterName, IncidentId};
use crate::store::Store;
use crate::store::operation::{Context, Fault, Operation, Outcome};
use crate::store::sql;
use crate::store::sql::{Conn, args};

/// A unit that failed this often is parked: the fifth failure is hardly chance (design: crash safety).
pub const ATTEMPTS_MAX: u32 = 5;
/// Attempts of a unit whose last one ended with its process: a restart does not try it again, or it could take down every
/// process that follows.
const ATTEMPTS_DEADLY: u32 = ATTEMPTS_MAX + 1;

/// A stage's hold on one unit of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub stage: &'static str,
    /// What is worked on: an incident's, approval's, click's id.
    pub unit: String,
    /// Names this very claim; no other ever has the same.
    pub owner: String,
    /// Counts from 1; also counts attempts that ended with the process.
    pub attempt: u32,
    /// When the lease ends unless renewed; on PostgreSQL by the server's clock.
    pub until: Timestamp,
}

/// A unit that failed too often to be tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    pub stage: String,
    pub unit: String,
}

impl Store {
    /// Takes hold of `unit` for `lease`; None while another holds it, before its retry, and once it is parked.
    pub async fn claim(&self, stage: &'static str, unit: &str, lease: Duration) -> anyhow::Result<Option<Claim>> {
        self.claimed(stage, unit, lease, true).await
    }

    /// Keeps others from doing `what` meanwhile, for `lease`; None while another does it. It is no unit of work that
    /// could be left undone: how often it ended badly does not count, and it is never parked.
    pub async fn exclude(&self, stage: &'static str, what: &str, lease: Duration) -> anyhow::Result<Option<Claim>> {
        self.claimed(stage, what, lease, false).await
    }

    async fn claimed(
        &self,
        stage: &'static str,
        unit: &str,
        lease: Duration,
        counts: bool,
    ) -> anyhow::Result<Option<Claim>> {
        let operation = Operation::Claim { stage, unit: unit.to_owned(), lease_ms: milliseconds(lease), counts };
        match self.operate(operation, false).await? {
            Outcome::Claimed(claim) => Ok(claim),
            other => anyhow::bail!("a claim was answered with {other:?}"),
        }
    }

    /// Prolongs the lease to `lease` from now; false when the claim was lost.
    pub async fn renew(&self, claim: &Claim, lease: Duration) -> anyhow::Result<bool> {
        let operation = Operation::Renew { claim: claim.clone(), lease_ms: milliseconds(lease) };
        Ok(matches!(self.operate(operation, false).await?, Outcome::Held(true)))
    }

    /// Whether the claim is ours and its lease runs.
    pub async fn is_held(&self, claim: &Claim) -> anyhow::Result<bool> {
        const SQL: &str = "SELECT count(*) FROM claim
            WHERE cluster = $1 AND stage = $2 AND unit = $3 AND owner = $4 AND until_ms > $5";
        let mut held = self.held().await?;
        let now_ms = self.context().lease_now_ms(&mut held.conn()).await?;
        let mut args = key(self.context(), claim);
        args.push(now_ms.into());
        Ok(held.conn().number(SQL, args).await? == 1)
    }

    /// Lets go of a unit that is done: its attempts are forgotten. Within a commit: `Write::Release`.
    pub async fn release(&self, claim: Claim) -> anyhow::Result<()> {
        self.operate(Operation::Release { claim }, false).await?;
        Ok(())
    }

    /// Gives an undone unit back, claimable from `until` on, without counting the attempt: a shutdown, or another's
    /// order to wait. It is no failure, so it never parks.
    pub async fn postpone(&self, claim: Claim, until: Timestamp) -> anyhow::Result<()> {
        let wait_ms = until.as_millisecond() - self.clock().now_ms();
        self.operate(Operation::Postpone { claim, wait_ms }, false).await?;
        Ok(())
    }

    /// Gives a unit back after a failure: not claimable before `retry_at`, and never again after the fifth.
    pub async fn fail(&self, claim: Claim, retry_at: Timestamp) -> anyhow::Result<()> {
        let retry_in_ms = retry_at.as_millisecond() - self.clock().now_ms();
        self.operate(Operation::Fail { claim, retry_in_ms }, true).await?;
        Ok(())
    }

    /// Parks what a process held at its fifth attempt when it ended, longer than `silent` ago: its card says so. True if
    /// there was any. (On SQLite the next start does it for all: there is one process.)
    pub async fn bury(&self, silent: Duration) -> anyhow::Result<bool> {
        const SQL: &str = "SELECT count(*) FROM claim
            WHERE cluster = $1 AND owner <> '' AND attempt >= $2 AND until_ms <= $3";
        let silent_ms = milliseconds(silent);
        let mut held = self.held().await?;
        let before_ms = self.context().lease_now_ms(&mut held.conn()).await?.saturating_sub(silent_ms);
        let args = args![self.cluster().as_str(), ATTEMPTS_MAX, before_ms];
        if held.conn().number(SQL, args).await? == 0 {
            return Ok(false);
        }
        drop(held);
        self.operate(Operation::Bury { silent_ms }, true).await?;
        Ok(true)
    }

    /// What is parked of this incident: the incident itself in some stage, or one of its approvals. At most 100.
    pub async fn parked(&self, incident: &IncidentId) -> anyhow::Result<Vec<Parked>> {
        let mut held = self.held().await?;
        parked(&mut held.conn(), self.context(), incident).await
    }

    /// How many units are parked, of all stages.
    pub async fn parked_count(&self) -> anyhow::Result<u64> {
        const SQL: &str = "SELECT count(*) FROM claim
            WHERE cluster = $1 AND attempt >= $2 AND (owner = '' OR until_ms <= $3)";
        let mut held = self.held().await?;
        let now_ms = self.context().lease_now_ms(&mut held.conn()).await?;
        Ok(held.conn().number(SQL, args![self.cluster().as_str(), ATTEMPTS_MAX, now_ms]).await? as u64)
    }
}

pub(super) async fn parked(
    conn: &mut Conn<'_>,
    context: &Context,
    incident: &IncidentId,
) -> anyhow::Result<Vec<Parked>> {
    const SQL: &str = "SELECT stage, unit FROM claim
        WHERE cluster = $1 AND attempt >= $2 AND (owner = '' OR until_ms <= $3)
        AND (unit = $4 OR unit IN (SELECT id FROM approval WHERE incident = $4)) ORDER BY stage, unit LIMIT 100";
    let now_ms = context.lease_now_ms(conn).await?;
    let args = args![context.cluster.as_str(), ATTEMPTS_MAX, now_ms, incident.as_str()];
    let rows = conn.fetch(SQL, args).await?;
    rows.iter().map(|row| Ok(Parked { stage: row.text(0)?, unit: row.text(1)? })).collect()
}

fn milliseconds(lease: Duration) -> i64 {
    i64::try_from(lease.as_millis()).unwrap_or(i64::MAX / 2)
}

pub(super) async fn claim(
    conn: &mut Conn<'_>,
    context: &Context,
    stage: &'static str,
    unit: &str,
    lease_ms: i64,
    counts: bool,
) -> Result<Option<Claim>, Fault> {
    const COUNTS: &str =
        "INSERT INTO claim (cluster, stage, unit, owner, attempt, until_ms) VALUES ($1, $2, $3, $4, 1, $5)
        ON CONFLICT (cluster, stage, unit) DO UPDATE
        SET owner = excluded.owner, attempt = claim.attempt + 1, until_ms = excluded.until_ms
        WHERE claim.until_ms <= $6 AND claim.attempt < $7 RETURNING attempt";
    // Whatever earlier versions counted is forgotten with it.
    const COUNTS_NOT: &str =
        "INSERT INTO claim (cluster, stage, unit, owner, attempt, until_ms) VALUES ($1, $2, $3, $4, 0, $5)
        ON CONFLICT (cluster, stage, unit) DO UPDATE
        SET owner = excluded.owner, attempt = 0, until_ms = excluded.until_ms
        WHERE claim.until_ms <= $6 RETURNING attempt";
    let now_ms = context.lease_now_ms(conn).await?;
    let (owner, until_ms) = (context.fresh_owner(), now_ms.saturating_add(lease_ms));
    let mut args = args![context.cluster.as_str(), stage, unit, owner.as_str(), until_ms, now_ms];
    args.extend(counts.then(|| ATTEMPTS_MAX.into()));
    let Some(row) = conn.first(if counts { COUNTS } else { COUNTS_NOT }, args).await? else {
        return Ok(None);
    };
    let attempt = row.int(0)? as u32;
    Ok(Some(Claim { stage, unit: unit.to_owned(), owner, attempt, until: clock::from_ms(until_ms) }))
}

/// Fails with `LostClaim` unless the claim is still ours. A lease that ran out but that nobody took is still ours. On
/// PostgreSQL the row stays locked until the commit, so that nobody takes it meanwhile.
pub(super) async fn fence(conn: &mut Conn<'_>, context: &Context, claim: &Claim) -> Result<(), Fault> {
    const LITE: &str = "SELECT attempt FROM claim WHERE cluster = $1 AND stage = $2 AND unit = $3 AND owner = $4";
    const PG: &str =
        "SELECT attempt FROM claim WHERE cluster = $1 AND stage = $2 AND unit = $3 AND owner = $4 FOR UPDATE";
    let sql = if matches!(conn, Conn::Lite(_)) { LITE } else { PG };
    match conn.first(sql, key(context, claim)).await? {
        Some(_) => Ok(()),
        None => Err(Fault::LostClaim),
    }
}

pub(super) async fn renew(conn: &mut Conn<'_>, context: &Context, claim: &Claim, lease_ms: i64) -> Result<bool, Fault> {
    const SQL: &str = "UPDATE claim SET until_ms = $5 WHERE cluster = $1 AND stage = $2 AND unit = $3 AND owner = $4";
    let until_ms = context.lease_now_ms(conn).await?.saturating_add(lease_ms);
    let mut args = key(context, claim);
    args.push(until_ms.into());
    Ok(conn.execute(SQL, args).await? == 1)
}

/// The unit is done: its row goes, and with it the count of attempts. False when the claim was lost.
pub(super) async fn done(conn: &mut Conn<'_>, context: &Context, claim: &Claim) -> Result<bool, Fault> {
    const SQL: &str = "DELETE FROM claim WHERE cluster = $1 AND stage = $2 AND unit = $3 AND owner = $4";
    Ok(conn.execute(SQL, key(context, claim)).await? == 1)
}

pub(super) async fn postpone(
    conn: &mut Conn<'_>,
    context: &Context,
    claim: &Claim,
    wait_ms: i64,
) -> Result<bool, Fault> {
    const SQL: &str = "UPDATE claim SET owner = '', until_ms = $5, attempt = attempt - 1
        WHERE cluster = $1 AND stage = $2 AND unit = $3 AND owner = $4";
    let until_ms = context.lease_now_ms(conn).await?.saturating_add(wait_ms);
    let mut args = key(context, claim);
    args.push(until_ms.into());
    Ok(conn.execute(SQL, args).await? == 1)
}

pub(super) async fn fail(
    conn: &mut Conn<'_>,
    context: &Context,
    claim: &Claim,
    retry_in_ms: i64,
) -> Result<bool, Fault> {
    const SQL: &str = "UPDATE claim SET owner = '', until_ms = $5
        WHERE cluster = $1 AND stage = $2 AND unit = $3 AND owner = $4";
    let retry_at_ms = context.lease_now_ms(conn).await?.saturating_add(retry_in_ms);
    let mut args = key(context, claim);
    args.push(retry_at_ms.into());
    let held = conn.execute(SQL, args).await? == 1;
    if held && claim.attempt >= ATTEMPTS_MAX {
        // Its card says so.
        const CARD: &str = "UPDATE incident SET version = version + 1
            WHERE id = $1 OR id IN (SELECT incident FROM approval WHERE approval.id = $1)";
        conn.execute(CARD, args![claim.unit.as_str()]).await?;
    }
    Ok(held)
}

/// Voids every claim of an earlier process (SQLite: there is only one process, and it is this one). Attempts stay
/// counted, and so do the times of retries.
pub(super) async fn void_all(conn: &mut Conn<'_>) -> sql::Result<()> {
    const CARDS: &str = "UPDATE incident SET version = version + 1
        WHERE id IN (SELECT unit FROM claim WHERE owner <> '' AND attempt >= $1) OR id IN
        (SELECT incident FROM approval WHERE approval.id IN
         (SELECT unit FROM claim WHERE owner <> '' AND attempt >= $1))";
    const VOID: &str = "UPDATE claim SET owner = '', until_ms = 0,
        attempt = CASE WHEN attempt >= $1 THEN $2 ELSE attempt END WHERE owner <> ''";
    conn.execute(CARDS, args![ATTEMPTS_MAX]).await?;
    conn.execute(VOID, args![ATTEMPTS_MAX, ATTEMPTS_DEADLY]).await?;
    Ok(())
}

/// Parks for good what a process held at its last attempt and let go of by its end: it may take down every other one.
pub(super) async fn bury(conn: &mut Conn<'_>, context: &Context, silent_ms: i64) -> sql::Result<()> {
    const CARDS: &str = "UPDATE incident SET version = version + 1 WHERE cluster = $1 AND (id IN
        (SELECT unit FROM claim WHERE cluster = $1 AND owner <> '' AND attempt >= $2 AND until_ms <= $3) OR id IN
        (SELECT incident FROM approval WHERE approval.id IN
         (SELECT unit FROM claim WHERE cluster = $1 AND owner <> '' AND attempt >= $2 AND until_ms <= $3)))";
    const BURY: &str = "UPDATE claim SET owner = '', attempt = $4
        WHERE cluster = $1 AND owner <> '' AND attempt >= $2 AND until_ms <= $3";
    let before_ms = context.lease_now_ms(conn).await?.saturating_sub(silent_ms);
    conn.execute(CARDS, args![context.cluster.as_str(), ATTEMPTS_MAX, before_ms]).await?;
    conn.execute(BURY, args![context.cluster.as_str(), ATTEMPTS_MAX, before_ms, ATTEMPTS_DEADLY]).await?;
    Ok(())
}

/// Gives every unit that is parked another five attempts; on the start of a process, which is what people do once they
/// have mended a cause outside (a token, a right, a network). What took its process down stays parked.
pub(super) async fn unpark(conn: &mut Conn<'_>, cluster: &ClusterName) -> sql::Result<()> {
    const CARDS: &str = "UPDATE incident SET version = version + 1 WHERE cluster = $1 AND (id IN
        (SELECT unit FROM claim WHERE cluster = $1 AND owner = '' AND attempt = $2) OR id IN
        (SELECT incident FROM approval WHERE approval.id IN
         (SELECT unit FROM claim WHERE cluster = $1 AND owner = '' AND attempt = $2)))";
    const FORGET: &str = "DELETE FROM claim WHERE cluster = $1 AND owner = '' AND attempt = $2";
    for sql in [CARDS, FORGET] {
        conn.execute(sql, args![cluster.as_str(), ATTEMPTS_MAX]).await?;
    }
    Ok(())
}

/// Gives what is parked of this incident another five attempts: a new signal is news about its world, and each signal
/// buys five attempts at most. The signal that is placed counts up the card's version.
pub(super) async fn unpark_of(conn: &mut Conn<'_>, context: &Context, incident: &IncidentId) -> sql::Result<()> {
    const SQL: &str = "DELETE FROM claim WHERE cluster = $1 AND attempt >= $2 AND owner = ''
        AND (unit = $3 OR unit IN (SELECT id FROM approval WHERE incident = $3))";
    conn.execute(SQL, args![context.cluster.as_str(), ATTEMPTS_MAX, incident.as_str()]).await?;
    Ok(())
}

fn key(context: &Context, claim: &Claim) -> Vec<crate::store::sql::Arg> {
    args![context.cluster.as_str(), claim.stage, claim.unit.as_str(), claim.owner.as_str()]
}
