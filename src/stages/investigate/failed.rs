//! What an investigation does when the model, or the cluster that its steps are checked on, gives no answer.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::agent::llm::LlmError;
use crate::govern::budget::Spend;
use crate::govern::gate::Unchecked;
use crate::model::{Card, IncidentId, Investigation, InvestigationState};
use crate::redact::Redacted;
use crate::stages::away;
use crate::stages::investigate::ask::{Paid, charged};
use crate::stages::investigate::{Investigate, RETRY_AFTER};
use crate::store::{ATTEMPTS_MAX, Claim, Durability, Write};
use crate::telemetry::ModelLabels;
use crate::text;

/// Attempts of a turn that an unavailable provider gets; the client has already tried several times by then.
const UNAVAILABLE_MAX: u32 = 2;
/// Attempts of a turn that the provider may order to wait: the last that the store gives a unit is not spent on waiting.
const WAITS_MAX: u32 = ATTEMPTS_MAX - 1;
/// A longer wait is not obeyed: the buttons of the rules, and a report that is proved already, wait with the model. The
/// windows of most rate limits are a minute.
const WAIT_MAX: SignedDuration = SignedDuration::from_mins(2);
/// Steps that cannot be checked are tried again after waits that grow between these two, like what was approved.
const CHECK_FIRST: SignedDuration = SignedDuration::from_secs(5);
const CHECK_LONGEST: SignedDuration = SignedDuration::from_secs(30);
/// For so long: an upgrade of the control plane is over by then. Then the card says that there is no button, and why.
const CHECK_MAX: SignedDuration = SignedDuration::from_mins(5);

impl Investigate {
    pub(super) async fn failed(
        &self,
        id: &IncidentId,
        paid: &Paid,
        error: LlmError,
        claim: &Claim,
    ) -> anyhow::Result<()> {
        if self.asks_again(id, paid, &error, claim).await? {
            return Ok(());
        }
        self.conclude(id, InvestigationState::Failed { why: why(error) }, claim).await
    }

    /// Whether a request that failed is to be made again, later: then the claim is given back until then. One that
    /// certainly got no answer costs nothing.
    pub(super) async fn asks_again(
        &self,
        id: &IncidentId,
        paid: &Paid,
        error: &LlmError,
        claim: &Claim,
    ) -> anyhow::Result<bool> {
        let now = self.clock.now();
        let (outcome, wait) = match error {
            LlmError::Wait(wait) => {
                let ends = self.ends(paid.investigation.started_at.unwrap_or(now));
                ("wait", bearable(*wait, now, ends).filter(|_| claim.attempt < WAITS_MAX))
            }
            LlmError::TooLong => ("too_long", None),
            LlmError::Refused(_) => ("refused", None),
            LlmError::Unavailable(_) | LlmError::Broken(_) => {
                ("unavailable", Some(RETRY_AFTER).filter(|_| claim.attempt < UNAVAILABLE_MAX))
            }
        };
        self.metrics.model_turns.get_or_create(&ModelLabels { outcome }).inc();
        tracing::warn!(incident = %id, "no answer of the model: {error}");
        if !matches!(error, LlmError::Broken(_)) {
            let settled = charged(id, &paid.charge, Spend::default());
            self.store.commit(vec![settled], Durability::Soon, Some(claim)).await?;
        }
        // A clock that stands still brings no later.
        let Some(wait) = wait.filter(|_| !self.clock.is_manual()) else { return Ok(false) };
        self.store.fail(claim.clone(), now.checked_add(wait)?).await.map(|()| true)
    }

    /// When an investigation that began then must be at its end.
    fn ends(&self, started_at: Timestamp) -> Timestamp {
        let minutes = SignedDuration::from_mins(i64::from(self.gate.policy().limits.minutes_per_incident));
        started_at.checked_add(minutes).unwrap_or(Timestamp::MAX)
    }

    /// Whether an investigation at its end, in `state`, waits because its steps could not be checked. The model is not
    /// asked for more meanwhile.
    pub(super) async fn waits_for_check(
        &self,
        card: &Card,
        state: &InvestigationState,
        unchecked: &Unchecked,
        claim: &Claim,
    ) -> anyhow::Result<bool> {
        let (id, now) = (&card.incident.id, self.clock.now());
        let lasted = self.away.note(id.as_str(), &unchecked.why, now);
        if self.clock.is_manual() || lasted >= CHECK_MAX {
            tracing::error!(incident = %id, "no button: {unchecked}");
            return Ok(false);
        }
        let wait = away::again(lasted, CHECK_FIRST, CHECK_LONGEST);
        tracing::warn!(incident = %id, "not proposed yet, next try in {} s: {unchecked}", wait.as_secs());
        let ending = Some(state.clone());
        if card.incident.investigation.ending != ending {
            let investigation = Investigation { ending, ..card.incident.investigation.clone() };
            let write = Write::Investigation { incident: id.clone(), investigation };
            self.store.commit(vec![write], Durability::Durable, Some(claim)).await?;
        }
        self.store.postpone(claim.clone(), now.checked_add(wait)?).await.map(|()| true)
    }
}

/// The wait that a provider orders, where it is worth its while for an investigation that must end then.
fn bearable(wait: Duration, now: Timestamp, ends: Timestamp) -> Option<SignedDuration> {
    let wait = SignedDuration::try_from(wait).ok().filter(|wait| *wait <= WAIT_MAX)?;
    (now.checked_add(wait).ok()? < ends).then_some(wait)
}

/// Why the model gave no answer, for the card.
pub(super) fn why(error: LlmError) -> Redacted {
    match error {
        LlmError::Wait(wait) => text!("provider asks to wait {} s", wait.as_secs()),
        LlmError::TooLong => "the investigation grew beyond the model's context".into(),
        LlmError::Refused(why) | LlmError::Unavailable(why) | LlmError::Broken(why) => why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;

    #[test]
    fn a_wait_is_borne_while_it_is_short_and_the_investigation_lasts() {
        let at = |seconds: i64| from_ms(seconds * 1_000);
        let borne = |wait: u64, ends: i64| bearable(Duration::from_secs(wait), at(0), at(ends)).map(|w| w.as_secs());
        assert_eq!([borne(60, 900), borne(120, 900)], [Some(60), Some(120)]);
        assert_eq!([borne(121, 900), borne(3_600, 900), borne(u64::MAX, 900), borne(60, 59)], [None; 4]);
    }
}
