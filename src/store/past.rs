//! Incidents of before: of the same subject, or of the same kind of fault in its namespace.

use crate::model::{ASKED, Approval, Ending, Incident, IncidentId, IncidentState, Past};
use crate::store::Store;
use crate::store::read;
use crate::store::sql::{Conn, Row, args};

/// More tell nothing new.
const PAST_MAX: usize = 5;
/// Looked through for those of the same namespace.
const CANDIDATES_MAX: u32 = 40;
/// What was there before firstlook is many faults in one incident.
const ARRIVAL: &str = "arrival";

impl Store {
    /// Incidents that are over and like this one, those of its own subject first, then the newest; at most five.
    pub async fn past(&self, id: &IncidentId) -> anyhow::Result<Vec<Past>> {
        let mut held = self.held().await?;
        let mut conn = held.conn();
        match read::incident(&mut conn, id).await? {
            Some(incident) => past(&mut conn, &incident).await,
            None => Ok(Vec::new()),
        }
    }
}

/// The same on a connection that is held.
pub(super) async fn past(conn: &mut Conn<'_>, present: &Incident) -> anyhow::Result<Vec<Past>> {
    const SQL: &str = "SELECT doc, investigation,
        (SELECT doc FROM report WHERE report.incident = incident.id),
        (SELECT doc FROM approval WHERE approval.incident = incident.id AND approval.state = 'executed'
         ORDER BY created_ms DESC LIMIT 1)
        FROM incident WHERE cluster = $1 AND state = 'over' AND id <> $2
        AND (subject = $3 OR signature = (SELECT signature FROM incident WHERE id = $2))
        ORDER BY CASE WHEN subject = $3 THEN 0 ELSE 1 END, over_ms DESC LIMIT $4";
    let subject = present.subject.to_string();
    let args = args![present.cluster.as_str(), present.id.as_str(), subject, CANDIDATES_MAX];
    let rows = conn.fetch(SQL, args).await?;
    let all = rows.iter().map(one).collect::<anyhow::Result<Vec<Past>>>()?;
    let alike = |past: &Past| {
        let IncidentState::Over { how, .. } = past.incident.state else { return false };
        let a_fault = how != Ending::Absorbed && ![ARRIVAL, ASKED].contains(&past.incident.fault.as_str());
        a_fault && past.incident.subject.namespace == present.subject.namespace
    };
    Ok(all.into_iter().filter(alike).take(PAST_MAX).collect())
}

fn one(row: &Row) -> anyhow::Result<Past> {
    let approval: Option<Approval> = row.maybe_doc(3)?;
    let action = approval.and_then(|approval| Some((approval.action?, approval.verification)));
    Ok(Past { incident: read::whole_incident(row)?, report: row.maybe_doc(2)?, action })
}
