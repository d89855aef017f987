//! Approvals and the clicks that answer them: changed only from the state that was seen, one executing per object.

use crate::model::{Approval, ApprovalId, ApprovalState, Click};
use crate::redact::Redacted;
use crate::store::operation::{Context, Fault};
use crate::store::sql;
use crate::store::sql::{Conn, args};

pub(super) async fn put(conn: &mut Conn<'_>, approval: &Approval, was: Option<ApprovalState>) -> Result<(), Fault> {
    const INSERT: &str = "INSERT INTO approval (id, cluster, incident, object, state, created_ms, started_ms, doc)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING";
    const CHANGE: &str = "UPDATE approval SET object = $4, state = $5, started_ms = $7, doc = $8
        WHERE id = $1 AND cluster = $2 AND incident = $3 AND created_ms = $6 AND state = $9";
    let object = approval.action.as_ref().map_or_else(|| approval.proposal.object(), |action| action.object());
    let mut args = args![
        approval.id.as_str(),
        approval.cluster.as_str(),
        approval.incident.as_str(),
        object.to_string(),
        approval.state.as_str(),
        approval.created_at.as_millisecond(),
        approval.execution.as_ref().map(|execution| execution.started_at.as_millisecond()),
        serde_json::to_string(approval)?,
    ];
    args.extend(was.map(|state| state.as_str().into()));
    let changed = match conn.execute(if was.is_some() { CHANGE } else { INSERT }, args).await {
        Err(error) if error.is_unique_violation() => {
            return Err(Fault::Conflict(format!("another approval is executing on {object}")));
        }
        changed => changed?,
    };
    if changed == 1 { Ok(()) } else { Err(Fault::Conflict(state_conflict(conn, &approval.id, was).await?)) }
}

/// In words, why an approval could not be written.
async fn state_conflict(conn: &mut Conn<'_>, id: &ApprovalId, was: Option<ApprovalState>) -> sql::Result<String> {
    let row = conn.first("SELECT state FROM approval WHERE id = $1", args![id.as_str()]).await?;
    let stored = row.map(|row| row.text(0)).transpose()?;
    Ok(match (stored, was) {
        (None, _) => format!("approval {id} is not stored"),
        (Some(state), None) => format!("approval {id} is stored already, {state}"),
        (Some(state), Some(was)) if state == was.as_str() => format!("approval {id} was made for something else"),
        (Some(state), Some(was)) => format!("approval {id} is {state}, not {}", was.as_str()),
    })
}

/// A click is answered.
pub(super) async fn click_done(
    conn: &mut Conn<'_>,
    context: &Context,
    id: &str,
    answer: &Redacted,
) -> Result<(), Fault> {
    const SQL: &str = "UPDATE click SET handled_ms = $2, answer = $3 WHERE id = $1";
    conn.execute(SQL, args![id, context.clock.now_ms(), answer.as_str()]).await?;
    Ok(())
}

pub(super) async fn put_click(conn: &mut Conn<'_>, click: &Click) -> Result<(), Fault> {
    const SQL: &str =
        "INSERT INTO click (id, cluster, heard_ms, doc) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING";
    let args = args![
        click.id.as_str(),
        click.cluster.as_str(),
        click.heard_at.as_millisecond(),
        serde_json::to_string(click)?,
    ];
    conn.execute(SQL, args).await?;
    Ok(())
}
