//! Preview: what an accepted proposal would do, before anybody is asked.

use jiff::SignedDuration;
use tracing::Instrument as _;

use crate::act::{Actor, Refusal, change};
use crate::clock::Clock;
use crate::govern::audit;
use crate::model::{Approval, ApprovalState, Bound};
use crate::redact::Redacted;
use crate::stages::Ran;
use crate::stages::lease;
use crate::stages::lease::LEASE;
use crate::store::{Claim, Durability, Store, Write};
use crate::telemetry;
use crate::text;

/// An API server that cannot answer now is asked again after this long, up to the store's five attempts.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(2);
/// Requests looked at for one that no other process has just taken.
const AT_HAND: u32 = 8;
/// The attempt after which nobody is asked: the store parks a unit at the fifth.
const ATTEMPTS_MAX: u32 = 4;

/// The stage.
pub struct Preview {
    pub store: Store,
    pub actor: Actor,
    pub clock: Clock,
    /// How long the request waits for an answer.
    pub approval_minutes: u32,
}

impl Preview {
    /// Previews the oldest accepted proposal.
    ///
    /// # Errors
    /// The store's; what the API server says is on the card.
    pub async fn run_once(&self) -> anyhow::Result<Ran> {
        for approval in self.store.approvals_free("preview", &[ApprovalState::Proposed], AT_HAND).await? {
            let Some(claim) = self.store.claim("preview", approval.id.as_str(), LEASE).await? else { continue };
            let span = telemetry::incident(&approval.incident);
            let preview = self.preview(approval, claim.clone());
            if let Err(error) = lease::hold(&self.store, &claim, preview).instrument(span).await {
                let now = self.clock.now();
                self.store.fail(claim, now.checked_add(RETRY_AFTER).unwrap_or(now)).await?;
                return Err(error);
            }
            return Ok(Ran::Worked);
        }
        Ok(Ran::Idle)
    }

    async fn preview(&self, mut approval: Approval, claim: Claim) -> anyhow::Result<()> {
        let now = self.clock.now();
        let Some(action) = approval.action.clone() else {
            return self.refuse(approval, "it was never checked".into(), claim).await;
        };
        match Box::pin(self.actor.preview(&action, &approval.id, now)).await {
            Ok((preview, bound)) => {
                if let Some(gitops) = &preview.gitops {
                    let why = text!("{} manages {}: an in-cluster change would be reverted", gitops, action.object());
                    return self.refuse(approval, why, claim).await;
                }
                if let Some(why) = &preview.unguarded {
                    let why = why.clone();
                    return self.refuse(Approval { preview: Some(preview), ..approval }, why, claim).await;
                }
                if let Some(changed) = self.changed_since(&approval, &bound).await? {
                    let why = text!("someone changed {} since ({})", action.object(), changed);
                    return self.refuse(approval, why, claim).await;
                }
                approval.preview = Some(preview);
                approval.bound = Some(bound);
                approval.state = ApprovalState::Pending;
                // The person's time starts when they can be asked.
                let wait = SignedDuration::from_mins(i64::from(self.approval_minutes));
                approval.expires_at = now.checked_add(wait).unwrap_or(now);
                self.put(approval, claim).await
            }
            Err(Refusal::Refused(why)) => self.refuse(approval, why, claim).await,
            Err(Refusal::Later(why)) if claim.attempt >= ATTEMPTS_MAX || self.clock.is_manual() => {
                self.refuse(approval, text!("it could not be previewed: {}", why), claim).await
            }
            Err(Refusal::Later(why)) => {
                tracing::warn!(incident = %approval.incident, approval = %approval.id, "not previewed yet: {why}");
                self.store.fail(claim, now.checked_add(RETRY_AFTER).unwrap_or(now)).await
            }
        }
    }

    /// What differs from what the action that would be taken back had left; None where nothing does.
    async fn changed_since(&self, approval: &Approval, now: &Bound) -> anyhow::Result<Option<Redacted>> {
        let Some(id) = &approval.undoes else { return Ok(None) };
        let undone = self.store.approval(id).await?;
        // Of one that an earlier version carried out it is not known.
        let Some(left) = undone.and_then(|undone| undone.execution?.left) else { return Ok(None) };
        let fields = change::differing(&left, now);
        let named: Vec<Redacted> = fields.iter().map(|field| self.actor.reader().redactor().redact(field)).collect();
        Ok((!named.is_empty()).then(|| Redacted::join(&named, ", ")))
    }

    async fn refuse(&self, mut approval: Approval, why: Redacted, claim: Claim) -> anyhow::Result<()> {
        approval.state = ApprovalState::Refused;
        approval.because = why;
        self.put(approval, claim).await
    }

    async fn put(&self, mut approval: Approval, claim: Claim) -> anyhow::Result<()> {
        // Others may have asked for the same while it was rehearsed.
        if let Some(now) = self.store.approval(&approval.id).await? {
            approval.also_asked_by = now.also_asked_by;
        }
        let writes = vec![
            Write::Audit(audit::approval(self.clock.now(), &approval)),
            Write::Approval { approval: Box::new(approval), was: Some(ApprovalState::Proposed) },
            Write::Release(claim.clone()),
        ];
        Ok(self.store.commit(writes, Durability::Durable, Some(&claim)).await?)
    }
}
