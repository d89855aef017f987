//! What an approved action does while the API server, or Slack, cannot be asked: it waits, and is never given up unsaid.

use jiff::SignedDuration;

use crate::model::{Approval, ApprovalId, ApprovalState, Execution, Verification};
use crate::redact::Redacted;
use crate::stages::away;
use crate::stages::execute::Execute;
use crate::store::{Claim, CommitError, Durability, Write};
use crate::text;

/// What could not be read or sent is tried again after waits that grow between these two: the outage of one API server
/// instance is over in seconds, an upgrade of the control plane in minutes.
const AWAY_FIRST: SignedDuration = SignedDuration::from_secs(2);
const AWAY_LONGEST: SignedDuration = SignedDuration::from_secs(30);
/// What was begun and can be neither read nor sent for so long is said to be unknown: a person must look, and the object
/// must not be kept from them any longer.
const UNREADABLE_MAX: SignedDuration = SignedDuration::from_mins(10);
/// A wait that is longer is told on the card: a person who said yes looks for what came of it.
const TOLD_AFTER: SignedDuration = SignedDuration::from_secs(15);
/// A pod that its disruption budget holds back is asked for again after this long: another must be ready first.
const HELD_AGAIN: SignedDuration = SignedDuration::from_secs(5);
/// How the card's words for it begin.
const WAITS: &str = "waits: ";

/// Why an approved action did not get to an end now.
pub(super) enum Stall {
    /// Something could not be read: it is no failure of the action, which may have been done.
    Away(Redacted),
    /// What leads to a request could not be asked, or the request not be sent: it was certainly not done.
    Unsent(Redacted),
    /// A disruption budget holds the next of several requests back, which its card says.
    Held,
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Stall {
    fn from(error: E) -> Self {
        Stall::Failed(error.into())
    }
}

impl Execute {
    /// Lets an action wait for what could not be asked: one that is only approved until its time runs out, which is
    /// asked first each time; one that was begun for some minutes, then it has failed if it is known that nothing was
    /// sent, and else its outcome is unknown. False if it ended so.
    pub(super) async fn waits(&self, id: &ApprovalId, stall: Stall, claim: &Claim) -> anyhow::Result<bool> {
        let (why, is_unsent) = match stall {
            Stall::Away(why) => (why, false),
            Stall::Unsent(why) => (why, true),
            Stall::Held => {
                self.away.forget(id.as_str());
                self.store.postpone(claim.clone(), self.clock.now().checked_add(HELD_AGAIN)?).await?;
                return Ok(true);
            }
            Stall::Failed(error) => return Err(error),
        };
        let now = self.clock.now();
        let lasted = self.away.note(id.as_str(), &why, now);
        if lasted >= UNREADABLE_MAX
            && let Some(begun) = self.store.approval(id).await?.filter(|it| it.state == ApprovalState::Executing)
        {
            let (state, why) = match (is_unsent, &begun.verification) {
                (false, _) => {
                    let why = text!("it could not be read for {} min whether it was done: {}", lasted.as_mins(), why);
                    (ApprovalState::OutcomeUnknown, why)
                }
                // Of several requests some were done.
                (true, Verification::Watching { ready, wanted }) => {
                    let (moved, of, mins) = (*ready, *wanted, lasted.as_mins());
                    let why = text!("{} of {} pods moved; not sent for {} min: {}", moved, of, mins, why);
                    (ApprovalState::Failed, why)
                }
                (true, _) => (ApprovalState::Failed, text!("not sent for {} min: {}", lasted.as_mins(), why)),
            };
            // One that was sent before these may come through yet.
            let execution = begun.execution.clone().map(|execution| Execution { astray: is_unsent, ..execution });
            self.end(Approval { execution, ..begun }, state, why, claim).await?;
            return Ok(false);
        }
        if lasted >= TOLD_AFTER {
            self.tell_wait(id, &why, claim).await?;
        }
        let wait = away::again(lasted, AWAY_FIRST, AWAY_LONGEST);
        tracing::warn!(approval = %id, "an approved action waits, next try in {} s: {why}", wait.as_secs());
        self.store.postpone(claim.clone(), now.checked_add(wait)?).await?;
        Ok(true)
    }

    /// Puts on the card that it waits: once, until it goes on or ends, which says something else there.
    async fn tell_wait(&self, id: &ApprovalId, why: &Redacted, claim: &Claim) -> anyhow::Result<()> {
        let Some(waiting) = self.store.approval(id).await? else { return Ok(()) };
        let was = waiting.state;
        let goes_on = matches!(was, ApprovalState::Approved | ApprovalState::Executing);
        if !goes_on || waiting.because.as_str().starts_with(WAITS) {
            return Ok(());
        }
        let told = Approval { because: text!("{}{}", WAITS, why), ..waiting };
        let write = Write::Approval { approval: Box::new(told), was: Some(was) };
        match self.store.commit(vec![write], Durability::Soon, Some(claim)).await {
            // It ended meanwhile, and its card says how.
            Ok(()) | Err(CommitError::Conflict(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
