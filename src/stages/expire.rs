//! Expire: requests for leave that ran out, or whose world changed, end by themselves and say why.

use std::time::Duration;

use crate::act::{Actor, Refusal, change};
use crate::clock::Clock;
use crate::govern::audit;
use crate::model::{Approval, ApprovalState, Ending, IncidentState};
use crate::redact::Redacted;
use crate::stages::Ran;
use crate::store::{Durability, Store, Write};
use crate::text;

/// Requests for leave that wait at once; more than a team could answer.
const PENDING_MAX: u32 = 100;
const LEASE: Duration = Duration::from_secs(60);

/// The stage.
pub struct Expire {
    pub store: Store,
    pub actor: Actor,
    pub clock: Clock,
}

impl Expire {
    /// Looks at every request for leave that waits.
    ///
    /// # Errors
    /// The store's.
    pub async fn run_once(&self) -> anyhow::Result<Ran> {
        let mut ran = Ran::Idle;
        for approval in self.store.approvals_in(&[ApprovalState::Pending], PENDING_MAX).await? {
            let Some(claim) = self.store.claim("expire", approval.id.as_str(), LEASE).await? else { continue };
            if let Some((state, why)) = self.end(&approval).await? {
                let ended = Approval { state, because: why, ..approval };
                let writes = vec![
                    Write::Audit(audit::approval(self.clock.now(), &ended)),
                    Write::Approval { approval: Box::new(ended), was: Some(ApprovalState::Pending) },
                ];
                // A click may have been quicker: then it stands.
                if let Err(error) = self.store.commit(writes, Durability::Durable, Some(&claim)).await {
                    tracing::info!("request for leave not ended: {error}");
                }
                ran = Ran::Worked;
            }
            self.store.release(claim).await?;
        }
        Ok(ran)
    }

    /// How the request ends now, if it does.
    async fn end(&self, approval: &Approval) -> anyhow::Result<Option<(ApprovalState, Redacted)>> {
        if self.clock.now() >= approval.expires_at {
            return Ok(Some((ApprovalState::Expired, "nobody answered".into())));
        }
        if let Some(incident) = self.store.incident(&approval.incident).await?
            && let IncidentState::Over { how, .. } = incident.state
            // A presumption withdraws nothing: the person may know better.
            && !matches!(how, Ending::Presumed | Ending::ResolveNotSeen)
        {
            let why = match how {
                Ending::Resolved => "alert resolved by itself",
                _ => "the trouble is over",
            };
            return Ok(Some((ApprovalState::Withdrawn, why.into())));
        }
        let (Some(action), Some(bound)) = (&approval.action, &approval.bound) else { return Ok(None) };
        match self.actor.look(action).await {
            Ok(sight) => {
                let changed = change::differing(bound, &sight.bound);
                if changed.is_empty() {
                    return Ok(None);
                }
                let why = change::who_changed(&sight.object, self.actor.reader().redactor());
                Ok(Some((ApprovalState::Withdrawn, text!("someone changed {}{}", action.object(), why))))
            }
            Err(Refusal::Refused(why)) => Ok(Some((ApprovalState::Withdrawn, why))),
            Err(Refusal::Later(_)) => Ok(None),
        }
    }
}
