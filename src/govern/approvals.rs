//! Approvals: what a person's press means, and the one place where an approved action gets its permit.

mod recheck;

use std::collections::BTreeSet;

use jiff::SignedDuration;
pub use recheck::Leave;

use crate::govern::audit;
use crate::govern::gate::{Gate, Suggestion, Unchecked};
use crate::govern::policy;
use crate::govern::policy::{Groups, PressVerdict};
use crate::model::{
    Approval, ApprovalId, ApprovalState, Caller, Click, IncidentId, Press, Pressed, Proposal, ReasonFor, Standing,
    Thumb,
};
use crate::redact::Redacted;
use crate::store::{CommitError, Durability, Write};
use crate::telemetry::ClickLabels;
use crate::text;

/// Times that an approval is read again because another process changed it meanwhile.
const TRIES_MAX: u32 = 3;

/// A press that asks for something new counts for so long: who pressed a button before an outage has gone on since. A yes
/// ends with its request.
const PRESS_LASTS: SignedDuration = SignedDuration::from_mins(10);

/// What came of a click.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// For the person alone.
    pub text: Redacted,
    /// `counted`, `approved`, `rejected`, `proposed`, `thumb`, `twice`, `stale`, `not_allowed`, `unread`, `unknown`: also
    /// the metric's label.
    pub outcome: &'static str,
    /// What a reason may be added to.
    pub reason_for: Option<ReasonFor>,
}

impl Answered {
    fn new(outcome: &'static str, text: Redacted) -> Self {
        Self { text, outcome, reason_for: None }
    }
}

/// The ids of the user groups that decide about this approval now: those it names and those of the present policy.
/// Their members are read when the click comes.
pub fn groups_of(gate: &Gate, approval: &Approval) -> BTreeSet<String> {
    let asked = approval.approvers.iter().map(Redacted::as_str);
    let now = gate.policy().approvers.iter().flat_map(|rule| &rule.who).map(String::as_str);
    asked.chain(now).filter_map(|who| who.strip_prefix("group:")).map(str::to_owned).collect()
}

impl Gate {
    /// Takes one click: judges it, changes the approval, audits, and marks the click as done, all in one commit.
    ///
    /// # Errors
    /// When the store could not be asked: the click stays to be handled.
    pub async fn press(&self, click: &Click, groups: &Groups) -> anyhow::Result<Answered> {
        let asks = matches!(click.what, Pressed::AskAgain { .. } | Pressed::Undo { .. });
        let _turn = if asks { None } else { Some(self.voting().lock().await) };
        let mut tries = 0;
        loop {
            let (incident, answered, mut writes) = self.judge_press(click, groups).await?;
            writes.extend(self.done(click, incident.as_ref(), &answered.text));
            match self.options().store.commit(writes, Durability::Durable, None).await {
                Ok(()) => {
                    let outcome = answered.outcome;
                    self.options().metrics.clicks.get_or_create(&ClickLabels { outcome }).inc();
                    return Ok(answered);
                }
                // Another process answered it meanwhile: judge again.
                Err(CommitError::Conflict(_)) if tries < TRIES_MAX => tries += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn judge_press(
        &self,
        click: &Click,
        groups: &Groups,
    ) -> anyhow::Result<(Option<IncidentId>, Answered, Vec<Write>)> {
        if let Pressed::Thumb { incident, .. } | Pressed::ThumbReason { incident, .. } = &click.what {
            let (answered, writes) = self.thumb(click, incident).await?;
            return Ok((Some(incident.clone()), answered, writes));
        }
        let (Pressed::Approve { approval: id }
        | Pressed::Reject { approval: id }
        | Pressed::RejectReason { approval: id, .. }
        | Pressed::AskAgain { approval: id }
        | Pressed::Undo { approval: id }) = &click.what
        else {
            let text = "This version of firstlook does not know that button.".into();
            return Ok((None, Answered::new("unknown", text), Vec::new()));
        };
        let Some(approval) = self.options().store.approval(id).await? else {
            let text = "firstlook knows no such request any more; nothing was done.".into();
            return Ok((None, Answered::new("unknown", text), Vec::new()));
        };
        let (answered, writes) = match &click.what {
            Pressed::AskAgain { .. } => (self.ask_again(click, &approval, groups).await?, Vec::new()),
            Pressed::Undo { .. } => (self.undo(click, &approval, groups).await?, Vec::new()),
            Pressed::RejectReason { reason, .. } => self.vote(click, &approval, groups, false, Some(reason)),
            Pressed::Approve { .. } => self.vote(click, &approval, groups, true, None),
            _ => self.vote(click, &approval, groups, false, None),
        };
        Ok((Some(approval.incident), answered, writes))
    }

    /// One person's word on a card; the last counts.
    async fn thumb(&self, click: &Click, incident: &IncidentId) -> anyhow::Result<(Answered, Vec<Write>)> {
        if self.options().store.incident(incident).await?.is_none() {
            return Ok((Answered::new("unknown", "firstlook knows no such incident any more.".into()), Vec::new()));
        }
        let (up, reason) = match &click.what {
            Pressed::Thumb { up, .. } => (*up, None),
            Pressed::ThumbReason { reason, .. } => (false, Some(reason.clone())),
            _ => return Ok((Answered::new("unknown", Redacted::default()), Vec::new())),
        };
        let text = match (up, &reason) {
            (true, _) => "Thank you: counted as right.",
            (false, Some(_)) => "Thank you: counted as wrong, with your reason.",
            (false, None) => "Thank you: counted as wrong. What was wrong helps most.",
        };
        let reason_for = (!up && reason.is_none()).then(|| ReasonFor::ThumbDown(incident.clone()));
        let thumb = Thumb { user: click.user.clone(), up, reason, at: self.options().clock.now() };
        let answered = Answered { reason_for, ..Answered::new("thumb", text.into()) };
        Ok((answered, vec![Write::Thumb { incident: incident.clone(), thumb }]))
    }

    fn done(&self, click: &Click, incident: Option<&IncidentId>, answer: &Redacted) -> [Write; 2] {
        let now = self.options().clock.now();
        [
            Write::Audit(audit::click(now, incident, click, answer)),
            Write::ClickDone { id: click.id.clone(), answer: answer.clone() },
        ]
    }

    /// A yes or a no.
    fn vote(
        &self,
        click: &Click,
        approval: &Approval,
        groups: &Groups,
        yes: bool,
        reason: Option<&Redacted>,
    ) -> (Answered, Vec<Write>) {
        if let Some(reason) = reason
            && approval.state == ApprovalState::Rejected
        {
            return self.give_reason(click, approval, reason);
        }
        let mut changed = approval.clone();
        let (state, answered) = match self.judge_vote(click, approval, groups, yes) {
            (Some(state), answered) => (state, answered),
            (None, answered) => return (answered, Vec::new()),
        };
        let now = self.options().clock.now();
        changed.presses.push(Press { user: click.user.clone(), yes, at: now, reason: reason.cloned() });
        changed.state = state;
        if state == ApprovalState::Rejected {
            changed.because = reason.cloned().unwrap_or_default();
        }
        let audited = Write::Audit(audit::approval(now, &changed));
        (answered, vec![Write::Approval { approval: Box::new(changed), was: Some(ApprovalState::Pending) }, audited])
    }

    /// The state that a vote leads to (none: it does not count) and the answer to the person.
    fn judge_vote(
        &self,
        click: &Click,
        approval: &Approval,
        groups: &Groups,
        yes: bool,
    ) -> (Option<ApprovalState>, Answered) {
        if approval.state == ApprovalState::Pending && approval.expires_at <= self.options().clock.now() {
            return (None, Answered::new("stale", "Too late: the time to answer is over. Nothing was done.".into()));
        }
        match policy::press(approval, click.user.as_str(), yes, groups) {
            PressVerdict::Counted { so_far, needed } => {
                let text = text!(
                    "Your yes counts: {} of {}. Still needed: {} more of {}.",
                    so_far,
                    needed,
                    needed - so_far,
                    who(&approval.approvers)
                );
                (Some(ApprovalState::Pending), Answered::new("counted", text))
            }
            PressVerdict::Approved => {
                let text = text!("Approved: {}. It runs once everything has been checked again.", said(approval));
                (Some(ApprovalState::Approved), Answered::new("approved", text))
            }
            PressVerdict::Rejected => {
                let text = text!("Rejected: {}. Nothing will be changed.", said(approval));
                let reason_for = Some(ReasonFor::No(approval.id.clone()));
                (Some(ApprovalState::Rejected), Answered { reason_for, ..Answered::new("rejected", text) })
            }
            PressVerdict::Twice if said_by_leave(approval, &click.user) => {
                let text = text!(
                    "Your standing leave has said yes for you; {} different people are needed. Others who may: {}.",
                    approval.people_needed,
                    who(&approval.approvers)
                );
                (None, Answered::new("twice", text))
            }
            PressVerdict::Twice => {
                let text = text!(
                    "You have said yes already; {} different people are needed. Others who may: {}.",
                    approval.people_needed,
                    who(&approval.approvers)
                );
                (None, Answered::new("twice", text))
            }
            PressVerdict::Stale(state) => (None, Answered::new("stale", stale(approval, state))),
            PressVerdict::NotAllowed { may } => (None, not_allowed(&may)),
            PressVerdict::CannotTell { group } => (None, cannot_tell(&group)),
        }
    }

    /// The reason that follows a no, from the person who said it.
    fn give_reason(&self, click: &Click, approval: &Approval, reason: &Redacted) -> (Answered, Vec<Write>) {
        let mut changed = approval.clone();
        let Some(press) = changed.presses.iter_mut().find(|press| !press.yes && press.user == click.user) else {
            return (Answered::new("not_allowed", "The reason can be given by who rejected it.".into()), Vec::new());
        };
        press.reason = Some(reason.clone());
        changed.because = reason.clone();
        let audited = Write::Audit(audit::approval(self.options().clock.now(), &changed));
        let stored = Write::Approval { approval: Box::new(changed), was: Some(ApprovalState::Rejected) };
        (Answered::new("rejected", "Thank you: the card shows your reason.".into()), vec![stored, audited])
    }

    /// A new request for what expired.
    async fn ask_again(&self, click: &Click, approval: &Approval, groups: &Groups) -> anyhow::Result<Answered> {
        if approval.state != ApprovalState::Expired {
            return Ok(Answered::new("stale", stale(approval, approval.state)));
        }
        let again = self.propose_by(click, approval, groups, approval.proposal.clone(), approval.undoes.clone());
        Box::pin(again).await
    }

    /// A new request that would take back what was done.
    async fn undo(&self, click: &Click, approval: &Approval, groups: &Groups) -> anyhow::Result<Answered> {
        if approval.state != ApprovalState::Executed {
            return Ok(Answered::new("stale", stale(approval, approval.state)));
        }
        let Some(proposal) = approval.inverse() else {
            return Ok(Answered::new("stale", "That cannot be taken back.".into()));
        };
        Box::pin(self.propose_by(click, approval, groups, proposal, Some(approval.id.clone()))).await
    }

    /// A proposal by a person, who must be one of the approvers.
    async fn propose_by(
        &self,
        click: &Click,
        approval: &Approval,
        groups: &Groups,
        proposal: Proposal,
        undoes: Option<ApprovalId>,
    ) -> anyhow::Result<Answered> {
        if self.options().clock.now().duration_since(click.heard_at) >= PRESS_LASTS {
            let text = "Too late: your click could not be looked at in time. Nothing was asked or done: press again.";
            return Ok(Answered::new("stale", text.into()));
        }
        let as_if_pending = Approval { state: ApprovalState::Pending, presses: Vec::new(), ..approval.clone() };
        match policy::press(&as_if_pending, click.user.as_str(), true, groups) {
            PressVerdict::NotAllowed { may } => return Ok(not_allowed(&may)),
            PressVerdict::CannotTell { group } => return Ok(cannot_tell(&group)),
            _ => {}
        }
        let store = &self.options().store;
        let Some(incident) = store.incident(&approval.incident).await? else {
            return Ok(Answered::new("unknown", "firstlook knows no such incident any more.".into()));
        };
        let scene = store.scene(&incident.subject).await?;
        let findings = store.findings(&incident.id).await?;
        let caller = Caller::Person { user: click.user.clone() };
        let (incident, scene, findings) = (&incident, scene.as_deref(), findings.as_slice());
        let suggestion = Suggestion { incident, scene, findings, proposal: &proposal, caller, undoes };
        let made = match self.propose(suggestion).await {
            Ok(made) => made,
            Err(error) => match error.downcast::<Unchecked>() {
                Ok(unchecked) => {
                    tracing::warn!(incident = %incident.id, "a request by a person was not made: {unchecked}");
                    let text = "It cannot be checked now, because the cluster does not answer. Nothing was asked or done: press again in a minute.";
                    return Ok(Answered::new("unread", text.into()));
                }
                Err(error) => return Err(error),
            },
        };
        Ok(match made.state {
            ApprovalState::Refused => Answered::new("stale", text!("Not possible now: {}.", made.because)),
            _ => Answered::new("proposed", "Asked: the card shows it with buttons after a new dry run.".into()),
        })
    }
}

fn not_allowed(may: &[Redacted]) -> Answered {
    Answered::new("not_allowed", text!("You may not answer this. Who may: {}.", who(may)))
}

fn cannot_tell(group: &Redacted) -> Answered {
    let text = text!("Slack did not say who is in {}, so nobody of it is let in. Try again in a minute.", group);
    Answered::new("not_allowed", text)
}

fn who(approvers: &[Redacted]) -> Redacted {
    if approvers.is_empty() { "nobody".into() } else { Redacted::join(approvers, ", ") }
}

/// Whether the yes of this person came from a standing leave.
fn said_by_leave(approval: &Approval, user: &Redacted) -> bool {
    matches!(&approval.standing, Some(Standing::Counted { by, .. }) if by == user)
}

/// What the approval is about, in an order's words.
fn said(approval: &Approval) -> Redacted {
    match &approval.action {
        Some(action) => {
            let words = action.words();
            text!("{} {}{}", words.order, action.object(), words.after)
        }
        None => text!("{} of {}", approval.proposal.tool(), approval.proposal.object()),
    }
}

/// Why an approval takes no answer any more.
fn stale(approval: &Approval, state: ApprovalState) -> Redacted {
    let by = |yes: bool| {
        let all = approval.presses.iter().filter(|press| press.yes == yes).map(|press| {
            let by_leave = yes && said_by_leave(approval, &press.user);
            if by_leave { text!("standing leave of {}", press.user) } else { press.user.clone() }
        });
        Redacted::join(&all.collect::<Vec<Redacted>>(), ", ")
    };
    let because = if approval.because.is_empty() { Redacted::default() } else { text!(": {}", approval.because) };
    match state {
        ApprovalState::Proposed => "Not yet: its dry run is under way.".into(),
        ApprovalState::Pending => "It waits for an answer.".into(),
        ApprovalState::Approved => text!("Too late: it is approved already, by {}.", by(true)),
        ApprovalState::Executing => text!("Too late: it is under way, approved by {}.", by(true)),
        ApprovalState::Executed => text!("Too late: it is done, approved by {}.", by(true)),
        ApprovalState::Rejected => text!("Too late: it was rejected by {}{}.", by(false), because),
        ApprovalState::Expired => "Too late: it expired unanswered. Nothing was done.".into(),
        ApprovalState::Withdrawn => text!("It was withdrawn{}. Nothing was done.", because),
        ApprovalState::Refused => text!("It was refused{}. Nothing was done.", because),
        ApprovalState::Failed => text!("It was tried and failed{}.", because),
        ApprovalState::OutcomeUnknown => text!("It was tried and its outcome is unknown{}.", because),
    }
}

#[cfg(test)]
mod tests;
