//! Just before execution: everything that could have refused is asked again, and only then the permit is minted.

use std::future::Future;

use crate::govern::gate::{Gate, Suggestion};
use crate::govern::permit::Permit;
use crate::govern::policy;
use crate::govern::policy::{Groups, PressVerdict};
use crate::model::{Action, Approval, ApprovalState, Bound, Verdict};
use crate::observe::json;
use crate::redact::Redacted;
use crate::text;

/// Whether an approved action may run now.
#[derive(Debug)]
pub enum Leave {
    /// Spend it at once: it stands for the object as it was just read.
    Permit(Permit),
    /// The world has changed since the person said yes.
    Withdraw { why: Redacted },
    /// The policy, a limit, the scope or the tool's own check says no now.
    Refuse { why: Redacted },
}

impl Gate {
    /// Asks everything again with the present policy, time and objects: state and time, the incident, scope, GitOps,
    /// pause and labels, limits, the approvers' right (`groups` as read now), a standing leave that counted, and at last
    /// the bound fields on a fresh read, which `fresh` does (None: the object is gone). For an approval that undoes
    /// another the incident may be over.
    ///
    /// # Errors
    /// When something could not be read, or Slack did not say who is in a group: ask again later.
    pub async fn recheck_and_permit(
        &self,
        approval: &Approval,
        groups: &Groups,
        fresh: impl Future<Output = anyhow::Result<Option<Bound>>> + Send,
    ) -> anyhow::Result<Leave> {
        let withdraw = |why: Redacted| Ok(Leave::Withdraw { why });
        let refuse = |why: Redacted| Ok(Leave::Refuse { why });
        let (Some(action), ApprovalState::Approved) = (&approval.action, approval.state) else {
            return refuse("it is not approved".into());
        };
        if approval.expires_at <= self.options().clock.now() {
            return withdraw("time ran out before it could run".into());
        }
        let store = &self.options().store;
        let Some(incident) = store.incident(&approval.incident).await? else {
            return withdraw("its incident is gone".into());
        };
        if approval.undoes.is_none() && incident.state.withdraws() {
            return withdraw("the incident is over".into());
        }
        let scene = store.scene(&incident.subject).await?;
        let findings = store.findings(&incident.id).await?;
        let suggestion = Suggestion {
            incident: &incident,
            scene: scene.as_deref(),
            findings: &findings,
            proposal: &approval.proposal,
            caller: approval.asked_by.clone(),
            undoes: approval.undoes.clone(),
        };
        let judged = Box::pin(self.judge(&suggestion, Some(approval))).await?;
        let verdict = match (judged.action, judged.verdict) {
            (Some(now), verdict) if action.allows(&now) => verdict,
            (Some(_), _) => return withdraw(self.changed(action).await),
            (None, Verdict::Deny { why, .. }) => return refuse(why),
            (None, _) => return refuse("the check refused it".into()),
        };
        let (people, approvers) = match verdict {
            Verdict::Ask { people, approvers, .. } => (people, approvers),
            Verdict::Deny { rule, why } => return refuse(text!("{} ({})", why, rule)),
            Verdict::Nobody { missing } => return refuse(missing),
            Verdict::Run => return refuse("a change never runs without leave".into()),
        };
        if !still_enough(approval, people, approvers, groups)? {
            return refuse("those who said yes may not approve it under the present policy".into());
        }
        if let Some(why) = self.leave_fails(approval).await? {
            return refuse(why);
        }
        let Some(bound) = &approval.bound else { return refuse("it was never previewed".into()) };
        self.compared(approval, action, bound, fresh.await?).await
    }

    /// The permit, if the object is still what was approved.
    async fn compared(
        &self,
        approval: &Approval,
        action: &Action,
        bound: &Bound,
        now: Option<Bound>,
    ) -> anyhow::Result<Leave> {
        let withdraw = |why: Redacted| Ok(Leave::Withdraw { why });
        let is_drain = matches!(action, Action::Drain { .. });
        match now {
            None => withdraw(text!("{} is gone", action.object())),
            Some(now) if now.uid != bound.uid => {
                withdraw(text!("{} was replaced by another of the same name", action.object()))
            }
            Some(now) if now.action != bound.action || bound.action != action.hash() => {
                Ok(Leave::Refuse { why: "what was approved is not what would run".into() })
            }
            // A drain under way has cordoned the node itself.
            Some(now) if now.fields != bound.fields && !(is_drain && approval.execution.is_some()) => {
                withdraw(self.changed(action).await)
            }
            Some(_) => Ok(Leave::Permit(Permit::mint(approval.id.clone(), action.hash()))),
        }
    }

    /// Who changed the object, and when, where its managed fields tell.
    async fn changed(&self, action: &Action) -> Redacted {
        if action.mutes() {
            return "what Alertmanager holds has changed".into();
        }
        let object = action.object();
        let read = self.options().reader.get(object).await.ok().flatten();
        match read.as_ref().and_then(json::spec_written) {
            Some((at, by)) => {
                text!("someone changed {} at {} by {}", object, at, self.options().redactor.redact(by).cut(80))
            }
            None => text!("someone changed {}", object),
        }
    }
}

/// Whether the people who said yes are enough under the rule that applies now.
fn still_enough(approval: &Approval, people: u32, approvers: Vec<Redacted>, groups: &Groups) -> anyhow::Result<bool> {
    let state = ApprovalState::Pending;
    let mut now = Approval { state, people_needed: people, approvers, presses: Vec::new(), ..approval.clone() };
    for press in approval.presses.iter().filter(|press| press.yes) {
        match policy::press(&now, press.user.as_str(), true, groups) {
            PressVerdict::Approved => return Ok(true),
            PressVerdict::Counted { .. } => now.presses.push(press.clone()),
            PressVerdict::CannotTell { group } => anyhow::bail!("Slack did not say who is in {group}"),
            _ => {}
        }
    }
    Ok(false)
}
