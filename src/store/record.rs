//! What people think of the cards, and which standing leaves are suspended: what earned autonomy is judged by.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::clock;
use crate::model::{ApprovalId, IncidentId, Thumb};
use crate::redact::{Redacted, Redactor};
use crate::store::Store;
use crate::store::operation::{Context, Fault};
use crate::store::sql::{Conn, Row, args};

/// Thumbs that one read returns at most; a team gives some dozens a day.
const THUMBS_MAX: u32 = 10_000;
/// Cards that one read looks at; more than a busy cluster has in a month.
const CARDS_MAX: u32 = 10_000;
/// Suspensions that one read returns at most; there is one for a leave, and a policy has few.
const SUSPENDED_MAX: u32 = 1_000;

/// A standing leave that does not count until it is given again.
#[derive(Clone, Debug, PartialEq)]
pub struct Suspension {
    /// The approval whose outcome was bad.
    pub approval: ApprovalId,
    pub why: Redacted,
    pub at: Timestamp,
}

impl Store {
    /// Every thumb given at `since` or later, with its incident; at most 10,000.
    pub async fn thumbs_since(&self, since: Timestamp) -> anyhow::Result<Vec<(IncidentId, Thumb)>> {
        const SQL: &str = "SELECT person, up, reason, at_ms, incident FROM thumb WHERE cluster = $1 AND at_ms >= $2
            ORDER BY at_ms LIMIT $3";
        let rows = self.fetch(SQL, args![self.cluster().as_str(), since.as_millisecond(), THUMBS_MAX]).await?;
        let mut all = Vec::new();
        for row in &rows {
            if let Some(incident) = IncidentId::parse(&row.text(4)?) {
                all.push((incident, thumb(row)?));
            }
        }
        Ok(all)
    }

    /// What was charged at `since` or later, settled or still reserved by turns under way: tokens, and what they cost in
    /// millionths of the currency of the prices.
    pub async fn spent_since(&self, since: Timestamp) -> anyhow::Result<(u64, u64)> {
        const SQL: &str = "SELECT CAST(sum(tokens) AS BIGINT), CAST(sum(micros) AS BIGINT) FROM charge
            WHERE cluster = $1 AND at_ms >= $2";
        let rows = self.fetch(SQL, args![self.cluster().as_str(), since.as_millisecond()]).await?;
        let Some(row) = rows.first() else { return Ok((0, 0)) };
        Ok((row.maybe_int(0)?.unwrap_or(0) as u64, row.maybe_int(1)?.unwrap_or(0) as u64))
    }

    /// The same by incident; at most 10,000, those that cost most.
    pub async fn spent_by_incident(&self, since: Timestamp) -> anyhow::Result<Vec<(IncidentId, u64, u64)>> {
        const SQL: &str = "SELECT incident, CAST(sum(tokens) AS BIGINT), CAST(sum(micros) AS BIGINT) FROM charge
            WHERE cluster = $1 AND at_ms >= $2 GROUP BY incident ORDER BY 2 DESC, incident LIMIT $3";
        let rows = self.fetch(SQL, args![self.cluster().as_str(), since.as_millisecond(), CARDS_MAX]).await?;
        let mut all = Vec::new();
        for row in &rows {
            if let Some(incident) = IncidentId::parse(&row.text(0)?) {
                all.push((incident, row.maybe_int(1)?.unwrap_or(0) as u64, row.maybe_int(2)?.unwrap_or(0) as u64));
            }
        }
        Ok(all)
    }

    /// Of each card that was posted at `since` or later: its incident, and how long it took, in ms, from the first signal to
    /// the request that posted it; at most 10,000.
    pub async fn times_to_card(&self, since: Timestamp) -> anyhow::Result<Vec<(IncidentId, u64)>> {
        const SQL: &str =
            "SELECT posting_ms - (SELECT min(heard_ms) FROM signal WHERE signal.incident = post.incident),
            incident FROM post WHERE cluster = $1 AND kind = 'card' AND ts IS NOT NULL AND posting_ms >= $2 LIMIT $3";
        let rows = self.fetch(SQL, args![self.cluster().as_str(), since.as_millisecond(), CARDS_MAX]).await?;
        let mut all = Vec::new();
        for row in &rows {
            // None: asked for from outside, without a signal.
            if let (Some(ms), Some(incident)) = (row.maybe_int(0)?, IncidentId::parse(&row.text(1)?)) {
                all.push((incident, ms.max(0) as u64));
            }
        }
        Ok(all)
    }

    /// The namespace of each of these incidents' subjects, empty for a subject without one; those that are not stored any more
    /// are left out.
    pub async fn namespaces_of(
        &self,
        incidents: &BTreeSet<IncidentId>,
    ) -> anyhow::Result<BTreeMap<IncidentId, String>> {
        const SQL: &str = "SELECT subject FROM incident WHERE id = $1";
        let mut held = self.held().await?;
        let mut all = BTreeMap::new();
        for incident in incidents {
            if let Some(row) = held.conn().first(SQL, args![incident.as_str()]).await? {
                // `Deployment shop/checkout`: neither a kind nor a name holds a space or a slash.
                let subject = row.text(0)?;
                let path = subject.split_once(' ').map_or("", |(_, path)| path);
                all.insert(incident.clone(), path.split_once('/').map_or("", |(namespace, _)| namespace).to_owned());
            }
        }
        Ok(all)
    }

    /// The standing leaves that are suspended, by their key.
    pub async fn leaves_suspended(&self) -> anyhow::Result<BTreeMap<String, Suspension>> {
        const SQL: &str = "SELECT leave, approval, why, at_ms FROM leave_suspended WHERE cluster = $1 LIMIT $2";
        let rules = Redactor::default();
        let mut all = BTreeMap::new();
        for row in self.fetch(SQL, args![self.cluster().as_str(), SUSPENDED_MAX]).await? {
            let Some(approval) = ApprovalId::parse(&row.text(1)?) else { continue };
            let suspension = Suspension { approval, why: rules.redact(&row.text(2)?), at: clock::from_ms(row.int(3)?) };
            all.insert(row.text(0)?, suspension);
        }
        Ok(all)
    }
}

pub(super) async fn thumbs_of(conn: &mut Conn<'_>, cluster: &str, incident: &IncidentId) -> anyhow::Result<Vec<Thumb>> {
    const SQL: &str = "SELECT person, up, reason, at_ms FROM thumb WHERE cluster = $1 AND incident = $2
        ORDER BY at_ms LIMIT $3";
    conn.fetch(SQL, args![cluster, incident.as_str(), THUMBS_MAX]).await?.iter().map(thumb).collect()
}

/// Rebuilt from bytes as every stored text is: through the rules again.
fn thumb(row: &Row) -> anyhow::Result<Thumb> {
    let rules = Redactor::default();
    Ok(Thumb {
        user: rules.redact(&row.text(0)?),
        up: row.int(1)? > 0,
        reason: row.maybe_text(2)?.map(|reason| rules.redact(&reason)),
        at: clock::from_ms(row.int(3)?),
    })
}

pub(super) async fn put_thumb(
    conn: &mut Conn<'_>,
    context: &Context,
    incident: &IncidentId,
    thumb: &Thumb,
) -> Result<(), Fault> {
    const SQL: &str = "INSERT INTO thumb (cluster, incident, person, up, reason, at_ms) VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (cluster, incident, person)
        DO UPDATE SET up = excluded.up, reason = excluded.reason, at_ms = excluded.at_ms";
    let args = args![
        context.cluster.as_str(),
        incident.as_str(),
        thumb.user.as_str(),
        i64::from(thumb.up),
        thumb.reason.as_ref().map(Redacted::as_str),
        thumb.at.as_millisecond(),
    ];
    conn.execute(SQL, args).await?;
    Ok(())
}

/// The first reason stands.
pub(super) async fn suspend(
    conn: &mut Conn<'_>,
    context: &Context,
    leave: &str,
    suspension: &Suspension,
) -> Result<(), Fault> {
    const SQL: &str = "INSERT INTO leave_suspended (cluster, leave, approval, why, at_ms) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (cluster, leave) DO NOTHING";
    let args = args![
        context.cluster.as_str(),
        leave,
        suspension.approval.as_str(),
        suspension.why.as_str(),
        suspension.at.as_millisecond(),
    ];
    conn.execute(SQL, args).await?;
    Ok(())
}
