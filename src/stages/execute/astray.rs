//! A request whose answer was lost may come through after its approval has ended: that is said, looked for, and told.

use jiff::SignedDuration;
use tracing::Instrument as _;

use crate::act::Refusal;
use crate::act::apply::Recovered;
use crate::model::{Action, Approval, ApprovalState, Execution};
use crate::redact::Redacted;
use crate::stages::Ran;
use crate::stages::execute::stall::Stall;
use crate::stages::execute::{Execute, finished};
use crate::stages::lease::LEASE;
use crate::stages::pace::News;
use crate::store::Claim;
use crate::telemetry;
use crate::text;

/// So long after it was begun it is looked for: API servers give a request up after a minute, what stands before them may
/// keep it for some more, and it may have been sent again for ten minutes.
const LOOKED_FOR: SignedDuration = SignedDuration::from_mins(30);
/// One read each time.
const LOOK_EVERY: SignedDuration = SignedDuration::from_secs(10);
/// What the card and a caller are told once it came.
const LATE: &str = "it took effect late: its request was still on its way when its approval had ended";

impl Execute {
    /// Ends what has no leave any more. A request that hung when it was looked for may have come through since, or may do
    /// so yet: what was done in our name is never said to be withdrawn, and what may still be done not to be past.
    pub(super) async fn stop(
        &self,
        approval: Approval,
        action: &Action,
        why: Redacted,
        under_way: bool,
        claim: &Claim,
    ) -> Result<(), Stall> {
        let Some(execution) = approval.execution.clone() else {
            return Ok(self.end(approval, ApprovalState::Withdrawn, why, claim).await?);
        };
        match self.actor.recover(action, &approval).await {
            Ok(Recovered::Done(done)) => return Ok(self.done(approval, done, claim).await?),
            Ok(Recovered::NotDone | Recovered::Unclear(_)) | Err(Refusal::Refused(_)) => {}
            Err(Refusal::Later(why)) => return Err(Stall::Away(why)),
        }
        if under_way {
            let why = text!("it was stopped on its way: {}", why);
            return Ok(self.end(approval, ApprovalState::Failed, why, claim).await?);
        }
        let why = text!("{}; a request for it may still be on its way, and has not come through so far", why);
        let approval = Approval { execution: Some(Execution { astray: true, ..execution }), ..approval };
        Ok(self.end(approval, ApprovalState::Withdrawn, why, claim).await?)
    }

    /// Looks for what may have come through after its approval had ended, and tells of it: then it is as executed, and
    /// followed and taken back like anything else.
    pub(super) async fn find_astray(&self) -> anyhow::Result<Ran> {
        let now = self.clock.now();
        let mut astray = self.store.approvals_begun_since(now.checked_sub(LOOKED_FOR)?).await?;
        astray.retain(|approval| {
            let ended = matches!(approval.state, ApprovalState::Withdrawn | ApprovalState::Failed);
            ended && approval.execution.as_ref().is_some_and(|execution| execution.astray)
        });
        self.pace.keep(|unit| astray.iter().any(|approval| approval.id.as_str() == unit));
        for approval in astray {
            let Some(action) = &approval.action else { continue };
            if !self.pace.is_due(approval.id.as_str(), LOOK_EVERY, News::default(), now) {
                continue;
            }
            let span = telemetry::incident(&approval.incident);
            // What cannot be read now is looked for again.
            let Ok(Some(done)) = self.actor.came_through(action, &approval).instrument(span).await else { continue };
            let Some(claim) = self.store.claim("execute", approval.id.as_str(), LEASE).await? else { continue };
            let late = finished(approval, done, now);
            let result = self.end(late, ApprovalState::Executed, LATE.into(), &claim).await;
            self.give_back(claim, result).await?;
            return Ok(Ran::Worked);
        }
        Ok(Ran::Idle)
    }
}
