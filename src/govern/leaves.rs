//! Standing leaves in use: one counts as its person's yes to what a finding supports, and a bad outcome suspends it at once.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::govern::audit;
use crate::govern::gate::{CHECK_TIMEOUT, Gate, Unchecked};
use crate::govern::policy;
use crate::govern::policy::{Ask, Covering, Groups, LeaveRecord, PressVerdict, StandingLeave, covering};
use crate::govern::record;
use crate::mcp;
use crate::mcp::Checked;
use crate::model::{Action, Approval, ApprovalState, Press, Role, Standing, Tier};
use crate::redact::Redacted;
use crate::store::{AuditEntry, CommitError, Durability, Suspension, Write};
use crate::text;

const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// A leave counts when its request has been rehearsed, seconds or a few tries after it was made: what was used within the
/// last hour was asked for within the last two.
const ASKED_WITHIN: SignedDuration = SignedDuration::from_hours(2);

impl Gate {
    /// Whether the policy gives a leave for what this request asks that has not been looked at yet.
    pub fn has_leave_to_count(&self, approval: &Approval) -> bool {
        approval.state == ApprovalState::Pending
            && approval.standing.is_none()
            && approval.undoes.is_none()
            && self.leaves_for(approval).next().is_some()
    }

    /// The policy's leaves for the tool and the namespace of this approval.
    fn leaves_for<'a>(&'a self, approval: &'a Approval) -> impl Iterator<Item = &'a StandingLeave> {
        let (tool, namespace) = (approval.proposal.tool(), approval.proposal.object().namespace());
        self.policy().standing_leave.iter().map(|leave| &leave.rule).filter(move |leave| leave.is_for(tool, namespace))
    }

    /// Lets a standing leave count for a request that waits, once, as the yes of its person, who must be one of the
    /// approvers; or notes why it does not count. True if the request changed.
    ///
    /// # Errors
    /// When the cluster or the store could not be asked: people can answer all the while.
    pub async fn count_leave(&self, approval: &Approval, groups: &Groups) -> anyhow::Result<bool> {
        let _turn = self.voting().lock().await;
        let options = self.options();
        let now = options.clock.now();
        let Some(mut approval) = options.store.approval(&approval.id).await? else { return Ok(false) };
        if !self.has_leave_to_count(&approval) || approval.expires_at <= now {
            return Ok(false);
        }
        let standing = match self.covering_now(&approval).await? {
            Covering::None => return Ok(false),
            Covering::NotNow { by, rule, why } => Standing::NotNow { by, rule, why },
            Covering::Covers { by, rule, key } => {
                let why = match policy::press(&approval, by.as_str(), true, groups) {
                    PressVerdict::Approved => {
                        approval.state = ApprovalState::Approved;
                        None
                    }
                    PressVerdict::Counted { .. } => None,
                    PressVerdict::CannotTell { group } => Some(text!("Slack did not say who is in {}", group)),
                    PressVerdict::Twice => Some("its person has said yes already".into()),
                    _ => Some("its person is not one of those who may approve this".into()),
                };
                match why {
                    Some(why) => Standing::NotNow { by, rule, why },
                    None => {
                        approval.presses.push(Press { user: by.clone(), yes: true, at: now, reason: None });
                        Standing::Counted { by, rule, key, at: now }
                    }
                }
            }
        };
        match &standing {
            Standing::Counted { by, rule, .. } => {
                tracing::info!(approval = %approval.id, "{rule} counts as the yes of {by}")
            }
            Standing::NotNow { rule, why, .. } => {
                tracing::info!(approval = %approval.id, "{rule} does not count: {why}")
            }
        }
        approval.standing = Some(standing);
        let audited = Write::Audit(audit::approval(now, &approval));
        let stored = Write::Approval { approval: Box::new(approval), was: Some(ApprovalState::Pending) };
        match options.store.commit(vec![stored, audited], Durability::Durable, None).await {
            Ok(()) => Ok(true),
            // Somebody's answer was quicker, or its time was over: it stands.
            Err(CommitError::Conflict(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Why the leave that counted for this approval may not count any more, if one did and may not.
    pub(in crate::govern) async fn leave_fails(&self, approval: &Approval) -> anyhow::Result<Option<Redacted>> {
        let Some(Standing::Counted { by, key, .. }) = &approval.standing else { return Ok(None) };
        Ok(match self.covering_now(approval).await? {
            Covering::Covers { key: same, .. } if same == *key => None,
            Covering::NotNow { why, .. } => {
                Some(text!("the standing leave of {} does not count any more: {}", by, why))
            }
            _ => Some(text!("the standing leave of {} is not given any more", by)),
        })
    }

    /// Whether a leave covers this request by the present policy, record and findings.
    async fn covering_now(&self, approval: &Approval) -> anyhow::Result<Covering> {
        let (options, Some(action)) = (self.options(), &approval.action) else { return Ok(Covering::None) };
        let Some(incident) = options.store.incident(&approval.incident).await? else { return Ok(Covering::None) };
        let supported = self.is_supported(approval, action).await?;
        let now = options.clock.now();
        let asked = options.store.approvals_made_since(now.checked_sub(ASKED_WITHIN)?).await?;
        let suspended = options.store.leaves_suspended().await?;
        let compiled = mcp::tool(action.tool()).map_or(Tier::Destructive, |(_, tier)| tier);
        let ask = Ask {
            tool: action.tool(),
            tier: compiled.max(action.tier()),
            object: Some(action.object()),
            namespace: None,
            also: &[],
            // No leave looks at them; the decision itself, which does, is made anew at the execution.
            labels: &[],
            severity: incident.severity,
            caller: &approval.asked_by,
            now,
        };
        let since = now.checked_sub(HOUR)?;
        let others: Vec<&Approval> = asked.iter().filter(|other| other.id != approval.id).collect();
        Ok(covering(self.policy(), &ask, supported, |leave| LeaveRecord {
            used_last_hour: uses(&others, &leave.key(), since),
            suspended: suspended.get(&leave.key()).map(|suspension| suspension.why.clone()),
        }))
    }

    /// Whether a finding, and not the model alone, proposes this very action.
    async fn is_supported(&self, approval: &Approval, action: &Action) -> anyhow::Result<bool> {
        let findings = self.options().store.findings(&approval.incident).await?;
        let proposed =
            findings.iter().filter(|finding| finding.role != Role::RuledOut).filter_map(|f| f.proposal.as_ref());
        for proposal in proposed.filter(|p| p.tool() == action.tool() && p.object() == action.object()) {
            // In other words ("the one before" and its number) it may be the same.
            match self.check(proposal, CHECK_TIMEOUT).await {
                Checked::Proposal { action: same, .. } if same.hash() == action.hash() => return Ok(true),
                // Not known is not "no": it is asked again.
                Checked::Unread { why } => return Err(Unchecked { tool: proposal.tool(), why }.into()),
                _ => {}
            }
        }
        Ok(false)
    }

    /// What is written together with a bad outcome of this approval, if it is one: every leave for its tool in its
    /// namespace is suspended. It stays so though a later look finds it better: what is given in advance must go well at once.
    ///
    /// # Errors
    /// The store's.
    pub async fn suspensions(&self, approval: &Approval) -> anyhow::Result<Vec<Write>> {
        match record::bad(approval).filter(|_| approval.undoes.is_none()) {
            Some(why) => self.suspend(approval, &why).await,
            None => self.suspensions_by_undo(approval).await,
        }
    }

    /// What a person took back was not wanted.
    async fn suspensions_by_undo(&self, undo: &Approval) -> anyhow::Result<Vec<Write>> {
        let (ApprovalState::Executed, Some(id)) = (undo.state, &undo.undoes) else { return Ok(Vec::new()) };
        let Some(undone) = self.options().store.approval(id).await? else { return Ok(Vec::new()) };
        let why = text!("{} of {} was undone", undone.proposal.tool(), undone.proposal.object());
        self.suspend(&undone, &why).await
    }

    async fn suspend(&self, approval: &Approval, why: &Redacted) -> anyhow::Result<Vec<Write>> {
        let (store, at) = (&self.options().store, self.options().clock.now());
        let suspended = store.leaves_suspended().await?;
        let mut writes = Vec::new();
        for leave in self.leaves_for(approval).filter(|leave| !suspended.contains_key(&leave.key())) {
            tracing::warn!(
                leave = leave.key(),
                "the standing leave is suspended, until the policy gives it with another date: {why}"
            );
            writes.push(Write::Audit(suspension(at, approval, leave, why)));
            let suspension = Suspension { approval: approval.id.clone(), why: why.clone(), at };
            writes.push(Write::SuspendLeave { leave: leave.key(), suspension });
        }
        Ok(writes)
    }
}

fn suspension(at: Timestamp, approval: &Approval, leave: &StandingLeave, why: &Redacted) -> AuditEntry {
    let body = json!({"leave": leave.key(), "approval": approval.id, "why": why});
    AuditEntry { at, kind: "leave_suspended", incident: Some(approval.incident.clone()), body }
}

/// How often a leave has counted since then.
fn uses(approvals: &[&Approval], key: &str, since: Timestamp) -> u32 {
    let counted = |approval: &&&Approval| match &approval.standing {
        Some(Standing::Counted { key: same, at, .. }) => same == key && *at >= since,
        _ => false,
    };
    approvals.iter().filter(counted).count() as u32
}

#[cfg(test)]
mod tests;
