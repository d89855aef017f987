//! What the write side of the store can do, each within one transaction, the same on both engines.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Clock;
use crate::model::{ClusterName, IncidentId};
use crate::store::audit;
use crate::store::claims;
use crate::store::claims::Claim;
use crate::store::prune;
use crate::store::sql;
use crate::store::sql::{Conn, SqlError};
use crate::store::write;
use crate::store::write::Write;

/// What every operation may ask for.
pub(super) struct Context {
    pub(super) cluster: ClusterName,
    pub(super) clock: Clock,
    /// Tells this process's claims from those of others.
    pub(super) process: String,
    pub(super) claims_made: AtomicU64,
}

impl Context {
    /// A claim's owner: never the same twice.
    pub(super) fn fresh_owner(&self) -> String {
        format!("{}-{}", self.process, self.claims_made.fetch_add(1, Ordering::Relaxed))
    }

    /// Now in ms, for leases: by the clock on SQLite, by the server on PostgreSQL (its processes share no clock).
    pub(super) async fn lease_now_ms(&self, conn: &mut Conn<'_>) -> sql::Result<i64> {
        match conn {
            Conn::Lite(_) => Ok(self.clock.now_ms()),
            Conn::Pg(_) => {
                conn.number("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)", vec![]).await
            }
        }
    }
}

/// A change of the SQLite file that nothing reads: there must be one for a commit to be synced.
pub(super) const BEAT: &str = "UPDATE pulse SET beats = beats + 1";

/// One thing to do in one transaction.
#[derive(Debug)]
pub(super) enum Operation {
    Commit {
        writes: Vec<Write>,
        claim: Option<Claim>,
    },
    Claim {
        stage: &'static str,
        unit: String,
        lease_ms: i64,
        /// Whether the attempt counts.
        counts: bool,
    },
    Renew {
        claim: Claim,
        lease_ms: i64,
    },
    Release {
        claim: Claim,
    },
    Postpone {
        claim: Claim,
        wait_ms: i64,
    },
    Fail {
        claim: Claim,
        retry_in_ms: i64,
    },
    Bury {
        silent_ms: i64,
    },
    Seal {
        limit: u32,
    },
    /// Changes nothing that is read.
    Beat,
    Prune {
        before_ms: i64,
        limit: u32,
        /// To make room, not for age.
        room: bool,
    },
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Outcome {
    Done,
    Claimed(Option<Claim>),
    /// Whether the claim is still ours.
    Held(bool),
    Sealed(Option<(i64, String)>),
    /// Rows taken out.
    Pruned(u64),
}

/// Why an operation changed nothing. The transaction is to be rolled back.
#[derive(Debug)]
pub(super) enum Fault {
    LostClaim,
    Conflict(String),
    Sql(SqlError),
    Other(anyhow::Error),
}

impl From<SqlError> for Fault {
    fn from(error: SqlError) -> Self {
        Fault::Sql(error)
    }
}

impl From<anyhow::Error> for Fault {
    fn from(error: anyhow::Error) -> Self {
        Fault::Other(error)
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Fault::Other(error.into())
    }
}

impl Operation {
    /// Does it. An error means that the transaction must not be committed.
    pub(super) async fn run(&self, conn: &mut Conn<'_>, context: &Context) -> Result<Outcome, Fault> {
        match self {
            Operation::Commit { writes, claim } => {
                if let Some(claim) = claim {
                    claims::fence(conn, context, claim).await?;
                }
                let mut touched = BTreeSet::new();
                write::apply(conn, context, writes, &mut touched).await?;
                bump(conn, &touched).await?;
                Ok(Outcome::Done)
            }
            Operation::Claim { stage, unit, lease_ms, counts } => {
                Ok(Outcome::Claimed(claims::claim(conn, context, stage, unit, *lease_ms, *counts).await?))
            }
            Operation::Renew { claim, lease_ms } => {
                Ok(Outcome::Held(claims::renew(conn, context, claim, *lease_ms).await?))
            }
            Operation::Release { claim } => Ok(Outcome::Held(claims::done(conn, context, claim).await?)),
            Operation::Postpone { claim, wait_ms } => {
                Ok(Outcome::Held(claims::postpone(conn, context, claim, *wait_ms).await?))
            }
            Operation::Fail { claim, retry_in_ms } => {
                Ok(Outcome::Held(claims::fail(conn, context, claim, *retry_in_ms).await?))
            }
            Operation::Bury { silent_ms } => {
                claims::bury(conn, context, *silent_ms).await?;
                Ok(Outcome::Done)
            }
            Operation::Prune { before_ms, limit, room } => {
                Ok(Outcome::Pruned(prune::prune(conn, context, *before_ms, *limit, *room).await?))
            }
            Operation::Beat => {
                let sql = match conn {
                    Conn::Lite(_) => BEAT,
                    // A server that only stands by refuses it.
                    Conn::Pg(_) => "SELECT pg_current_xact_id()",
                };
                conn.fetch(sql, vec![]).await?;
                Ok(Outcome::Done)
            }
            Operation::Seal { limit } => Ok(Outcome::Sealed(audit::seal(conn, *limit).await?)),
        }
    }
}

/// Counts up the version of each touched incident, in the order of their ids (two commits then never wait for each
/// other in a circle).
pub(super) async fn bump(conn: &mut Conn<'_>, touched: &BTreeSet<IncidentId>) -> sql::Result<()> {
    for incident in touched {
        let args = crate::store::sql::args![incident.as_str()];
        conn.execute("UPDATE incident SET version = version + 1 WHERE id = $1", args).await?;
    }
    Ok(())
}
