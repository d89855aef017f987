//! From a proposal to an approval: scope, the write tool's own check and the policy, before anybody is asked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::SignedDuration;
use rmcp::model::CallToolRequestParams;

use crate::govern::audit;
use crate::govern::gate::Gate;
use crate::govern::gate::unchecked::Unchecked;
use crate::govern::off;
use crate::govern::policy;
use crate::govern::policy::{Ask, Usage};
use crate::govern::scope;
use crate::mcp;
use crate::mcp::{Checked, Labelled};
use crate::model::{
    Action, AlertStatus, Approval, ApprovalId, ApprovalState, Call, CallId, CallOutcome, Caller, Finding, Incident,
    Proposal, Scene, Signal, Tier, Verdict, Verification,
};
use crate::redact::Redacted;
use crate::store::{Durability, Write};
use crate::text;

/// A check reads a handful of objects; slower than this and it is asked again later.
pub(in crate::govern) const CHECK_TIMEOUT: Duration = Duration::from_secs(15);
/// The same for a person who has pressed a button: they can press again, and every other click waits behind theirs.
const PRESS_TIMEOUT: Duration = Duration::from_secs(4);
/// Signals of an incident among which an alert is looked for.
const SIGNALS_MAX: u32 = 10_000;
/// Callers that a request names beside the first; the audit has all.
const ALSO_ASKED_MAX: usize = 10;
/// Whoever sets this label to `true` keeps firstlook off, whatever the policy says.
const PROTECTED: &str = "firstlook.dev/protected";
/// Writes are counted over this time.
pub(in crate::govern) const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// A proposal with what it is judged by.
pub struct Suggestion<'a> {
    pub incident: &'a Incident,
    pub scene: Option<&'a Scene>,
    pub findings: &'a [Finding],
    pub proposal: &'a Proposal,
    pub caller: Caller,
    /// The approval whose effect this would take back.
    pub undoes: Option<ApprovalId>,
}

/// What the present policy, scope and cluster say to a proposal.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::govern) struct Judged {
    /// None when the scope or the tool's own check refused it.
    pub(in crate::govern) action: Option<Action>,
    pub(in crate::govern) verdict: Verdict,
}

impl Judged {
    fn no(rule: &'static str, why: Redacted) -> Self {
        Self { action: None, verdict: Verdict::Deny { rule: rule.into(), why } }
    }
}

impl Gate {
    /// Judges a proposal and stores the approval: `Proposed` when a person may be asked, else `Refused` with the reason.
    /// The same proposal is not made twice: while one waits or runs, it is returned.
    ///
    /// # Errors
    /// When the cluster ([`Unchecked`]) or the store could not be asked: nothing is stored, try again later.
    pub async fn propose(&self, suggestion: Suggestion<'_>) -> anyhow::Result<Approval> {
        let _turn = self.turn().await;
        self.propose_in_turn(suggestion, Vec::new(), &AtomicBool::default()).await
    }

    /// While this is held nothing new is proposed in this process: whoever ends an incident sees all that it was asked.
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.proposing.lock().await
    }

    /// The same for whoever holds the turn. `opens` are the writes that make its incident, where there is none yet: they
    /// are made together with the approval, and not at all where it is refused. `storing` is set when something new is about to
    /// be stored: whoever gives up from then on finds it stored.
    pub(super) async fn propose_in_turn(
        &self,
        suggestion: Suggestion<'_>,
        opens: Vec<Write>,
        storing: &AtomicBool,
    ) -> anyhow::Result<Approval> {
        let options = self.options();
        let known = options.store.approvals_of(&suggestion.incident.id).await?;
        let same = |other: &&Approval| other.proposal == *suggestion.proposal;
        if let Some(open) = known.iter().find(|other| same(other) && !other.state.is_final()) {
            return self.asked_again(&suggestion, open).await;
        }
        let mut judged = Box::pin(self.judge(&suggestion, None)).await?;
        let takes_back = |action: &Action| takes_back(suggestion.proposal, action, &known);
        if suggestion.undoes.is_none() && judged.action.as_ref().is_some_and(takes_back) {
            judged = Judged::no("check", "it would bring back what was changed in this incident".into());
        }
        let Judged { action, verdict } = judged;
        // Another name for the same change ("the one before" and its number).
        let open = |other: &&Approval| !other.state.is_final() && other.action.is_some() && other.action == action;
        if let Some(open) = known.iter().find(open) {
            return self.asked_again(&suggestion, open).await;
        }
        let approval = self.approval(&suggestion, action, &verdict)?;
        let told = |other: &&Approval| {
            other.state == ApprovalState::Refused && approval.state == other.state && approval.because == other.because
        };
        if let Some(told) = known.iter().find(|other| same(other) && told(other)) {
            return Ok(told.clone());
        }
        let call = self.call(&suggestion, &approval, verdict);
        self.count(&call.tool, &call.verdict);
        if !opens.is_empty() && approval.state == ApprovalState::Refused {
            return Ok(approval);
        }
        let mut writes = opens;
        writes.extend(made(call, approval.clone()));
        storing.store(true, Ordering::Relaxed);
        options.store.commit(writes, Durability::Durable, None).await?;
        Ok(approval)
    }

    /// What is asked for already is not asked twice. A caller from outside is noted in the audit, and on the request for
    /// as long as people look at it.
    async fn asked_again(&self, suggestion: &Suggestion<'_>, open: &Approval) -> anyhow::Result<Approval> {
        let caller = &suggestion.caller;
        if !matches!(caller, Caller::Client { .. }) {
            return Ok(open.clone());
        }
        // Nobody's answer to it is overwritten.
        let _voting = self.voting().lock().await;
        let options = self.options();
        let mut approval = options.store.approval(&open.id).await?.unwrap_or_else(|| open.clone());
        let (rule, people, approvers) = (approval.rule.clone(), approval.people_needed, approval.approvers.clone());
        let verdict = Verdict::Ask { rule, people, approvers };
        let call = Call { called_at: options.clock.now(), ..self.call(suggestion, &approval, verdict) };
        self.count(&call.tool, &call.verdict);
        let mut writes = vec![Write::Audit(audit::verdict(&call)), Write::Call(call)];
        let noted =
            std::iter::once(&approval.asked_by).chain(&approval.also_asked_by).any(|other| other.is_same(caller));
        let asks = matches!(approval.state, ApprovalState::Proposed | ApprovalState::Pending);
        if asks && !noted && approval.also_asked_by.len() < ALSO_ASKED_MAX {
            approval.also_asked_by.push(caller.clone());
            let was = Some(approval.state);
            writes.push(Write::Approval { approval: Box::new(approval.clone()), was });
        }
        options.store.commit(writes, Durability::Durable, None).await?;
        Ok(approval)
    }

    /// What scope, check and policy say now. `own` is the approval that this is about, if it is made already: what it
    /// has used itself does not count against it, nor what its caller has asked for since.
    pub(in crate::govern) async fn judge(
        &self,
        suggestion: &Suggestion<'_>,
        own: Option<&Approval>,
    ) -> anyhow::Result<Judged> {
        let Suggestion { incident, scene, findings, proposal, .. } = suggestion;
        if self.off().has(proposal.tool()) {
            return Ok(Judged::no(off::KEY, text!("{} is switched off here", proposal.tool())));
        }
        if let Err(why) = scope::may_change(incident, *scene, findings, proposal.object()) {
            return Ok(Judged::no("scope", why));
        }
        if suggestion.caller == Caller::Agent {
            let evidence = self.options().store.evidence(&incident.id).await?;
            if !scope::was_read(*scene, &evidence, proposal.object()) {
                return Ok(Judged::no("scope", text!("nothing of {} was read in this incident", proposal.object())));
            }
        }
        // A person waits for the answer, and others behind them.
        let by_person = matches!(suggestion.caller, Caller::Person { .. }) && own.is_none();
        let within = if by_person { PRESS_TIMEOUT } else { CHECK_TIMEOUT };
        let (action, labels, also) = match self.check(proposal, within).await {
            Checked::Proposal { action, labels, also } => (action, labels, also),
            Checked::Refusal { why, .. } => return Ok(Judged::no("check", why)),
            Checked::Unread { why } => return Err(Unchecked { tool: proposal.tool(), why }.into()),
        };
        if let Some(why) = self.mutes_others(suggestion, &action).await? {
            return Ok(Judged::no("scope", why));
        }
        let usage = self.usage(suggestion, own).await?;
        let ask = Ask { also: &also, ..self.ask(suggestion, &action, &labels) };
        let mut verdict = policy::decide(self.policy(), &ask, &usage);
        // Whoever writes `yes` means no less than who writes `true`.
        let is_protected = |one: &&Labelled| one.labels.get(PROTECTED).is_some_and(|value| value.as_str() != "false");
        if let Some(one) = labels.iter().find(is_protected).filter(|_| !matches!(verdict, Verdict::Deny { .. })) {
            let why = text!("{} carries the label {}: it is not to be touched", one.object, PROTECTED);
            verdict = Verdict::Deny { rule: "built in".into(), why };
        }
        Ok(Judged { verdict, action: Some(action) })
    }

    /// Why an alert may not be silenced for this incident, or a silence ended: it is none of its own, or a model alone asks.
    async fn mutes_others(&self, suggestion: &Suggestion<'_>, action: &Action) -> anyhow::Result<Option<Redacted>> {
        let (store, incident) = (&self.options().store, &suggestion.incident.id);
        let own = match action {
            _ if action.mutes() && suggestion.caller == Caller::Agent => {
                return Ok(Some("a model keeps nobody from being notified".into()));
            }
            Action::SilenceAlert { alert, .. } => {
                let heard = store.signals_of(incident, SIGNALS_MAX).await?;
                let mut heard = heard.iter().rev().filter_map(Signal::alert);
                let last = heard.find(|one| one.fingerprint.as_str() == alert.fingerprint.as_str());
                last.is_some_and(|last| last.status == AlertStatus::Firing)
            }
            // Whoever writes a silence by hand can write any comment: what was made is known by its id.
            Action::ExpireSilence { silence, made_by, .. } => {
                let left =
                    |one: &Approval| one.execution.as_ref()?.left.as_ref().map(|left| left.uid == silence.as_str());
                let made = |one: &Approval| one.id == *made_by && left(one) == Some(true);
                if store.approvals_of(incident).await?.iter().any(made) {
                    return Ok(None);
                }
                return Ok(Some("firstlook did not make that silence for this incident".into()));
            }
            _ => true,
        };
        Ok((!own).then(|| "no alert of this incident that fires is meant".into()))
    }

    fn ask<'a>(&self, suggestion: &'a Suggestion<'_>, action: &'a Action, labels: &'a [Labelled]) -> Ask<'a> {
        let compiled = mcp::tool(action.tool()).map_or(Tier::Destructive, |(_, tier)| tier);
        Ask {
            tool: action.tool(),
            tier: compiled.max(action.tier()),
            object: Some(action.object()),
            namespace: None,
            also: &[],
            labels,
            severity: suggestion.incident.severity,
            caller: &suggestion.caller,
            now: self.options().clock.now(),
        }
    }

    /// What was used before this change. What takes another change back is not bounded by its incident.
    async fn usage(&self, suggestion: &Suggestion<'_>, own: Option<&Approval>) -> anyhow::Result<Usage> {
        let options = self.options();
        let since = options.clock.now().checked_sub(HOUR)?;
        let tool = suggestion.proposal.tool();
        let others = |approval: &&Approval| own.is_none_or(|own| own.id != approval.id);
        let begun = options.store.approvals_begun_since(since).await?;
        let begun: Vec<&Approval> = begun.iter().filter(others).collect();
        let count = |approvals: &[&Approval]| approvals.len() as u32;
        let by_tool = |approvals: &[&Approval]| approvals.iter().filter(|a| a.proposal.tool() == tool).count() as u32;
        let mut usage = Usage { writes_last_hour: count(&begun), tool_last_hour: by_tool(&begun), ..Usage::default() };
        if suggestion.undoes.is_none() {
            let all = options.store.approvals_of(&suggestion.incident.id).await?;
            let begun: Vec<&Approval> = all.iter().filter(others).filter(|a| a.execution.is_some()).collect();
            usage.writes_of_incident = count(&begun);
            usage.tool_of_incident = by_tool(&begun);
        }
        if let Caller::Client { .. } = &suggestion.caller {
            let asked = options.store.approvals_made_since(since).await?;
            let same = |approval: &&Approval| approval.asked_by.is_same(&suggestion.caller);
            // What people have said yes to is not taken back by what its caller asks for after it, or was refused.
            let before = |approval: &&Approval| {
                own.is_none_or(|own| approval.created_at < own.created_at && approval.state != ApprovalState::Refused)
            };
            usage.caller_last_hour = asked.iter().filter(others).filter(same).filter(before).count() as u32;
        }
        Ok(usage)
    }

    /// The write tool's own check, through its server; one that has not answered within this time has not read.
    pub(in crate::govern) async fn check(&self, proposal: &Proposal, within: Duration) -> Checked {
        let tool = proposal.tool();
        let Some(server) = self.server_of(tool) else {
            return Checked::Refusal { why: text!("no server has the tool {}", tool), near: Vec::new() };
        };
        let request = CallToolRequestParams::new(tool).with_arguments(proposal.arguments());
        let Ok(answer) = tokio::time::timeout(within, server.call_tool(request)).await else {
            return Checked::Unread { why: text!("no answer within {} s", within.as_secs()) };
        };
        let content = answer.ok().and_then(|answer| answer.structured_content);
        let checked = content.and_then(|value| serde_json::from_value(value).ok());
        checked.unwrap_or_else(|| Checked::Unread { why: text!("{} answered without a proposal", tool) })
    }

    pub(super) fn approval(
        &self,
        suggestion: &Suggestion<'_>,
        action: Option<Action>,
        verdict: &Verdict,
    ) -> anyhow::Result<Approval> {
        let now = self.options().clock.now();
        let minutes = i64::from(self.policy().limits.approval_minutes);
        let compiled = mcp::tool(suggestion.proposal.tool()).map_or(Tier::Destructive, |(_, tier)| tier);
        let tier = self.policy().tier_of(suggestion.proposal.tool(), compiled);
        let mut approval = Approval {
            id: ApprovalId::fresh(),
            cluster: suggestion.incident.cluster.clone(),
            incident: suggestion.incident.id.clone(),
            asked_by: suggestion.caller.clone(),
            also_asked_by: Vec::new(),
            proposal: suggestion.proposal.clone(),
            action,
            tier,
            state: ApprovalState::Refused,
            because: Redacted::default(),
            created_at: now,
            expires_at: now.checked_add(SignedDuration::from_mins(minutes))?,
            rule: Redacted::default(),
            people_needed: 0,
            approvers: Vec::new(),
            presses: Vec::new(),
            preview: None,
            bound: None,
            execution: None,
            verification: Verification::NotStarted,
            undoes: suggestion.undoes.clone(),
            standing: None,
        };
        match verdict {
            Verdict::Ask { rule, people, approvers } => {
                approval.state = ApprovalState::Proposed;
                approval.rule = rule.clone();
                approval.people_needed = *people;
                approval.approvers = approvers.clone();
            }
            Verdict::Deny { rule, why } => {
                approval.rule = rule.clone();
                approval.because = why.clone();
            }
            // Without a rule: the card says which setting is missing.
            Verdict::Nobody { missing } => approval.because = missing.clone(),
            Verdict::Run => approval.because = "a change never runs without leave".into(),
        }
        Ok(approval)
    }

    pub(super) fn call(&self, suggestion: &Suggestion<'_>, approval: &Approval, verdict: Verdict) -> Call {
        let outcome = match approval.state {
            ApprovalState::Refused => CallOutcome::Failed { why: approval.because.clone() },
            _ => CallOutcome::NotRun,
        };
        Call {
            id: CallId::fresh(),
            incident: suggestion.incident.id.clone(),
            caller: suggestion.caller.clone(),
            tool: suggestion.proposal.tool().to_owned(),
            arguments: arguments_text(suggestion.proposal),
            tier: approval.tier,
            verdict,
            called_at: approval.created_at,
            outcome,
        }
    }
}

/// A new approval, with the call that led to it.
pub(super) fn made(call: Call, approval: Approval) -> Vec<Write> {
    vec![
        Write::Audit(audit::verdict(&call)),
        Write::Call(call),
        Write::Audit(audit::approval(approval.created_at, &approval)),
        Write::Approval { approval: Box::new(approval), was: None },
    ]
}

/// Whether a proposal takes back what was done in this incident, and was not taken back before. A rollback leads to what
/// an earlier one led away from: after it, "the one before" is that.
fn takes_back(proposal: &Proposal, action: &Action, known: &[Approval]) -> bool {
    let done = || known.iter().filter(|done| done.state == ApprovalState::Executed);
    let stands = |one: &&Approval| !done().any(|undo| undo.undoes.as_ref() == Some(&one.id));
    done().filter(stands).filter_map(|done| done.action.as_ref()).any(|done| match (done, action) {
        (Action::RolloutUndo { object: same, from_revision, .. }, Action::RolloutUndo { object, to_revision, .. }) => {
            same == object && from_revision == to_revision
        }
        _ => done.inverse().as_ref() == Some(proposal),
    })
}

fn arguments_text(proposal: &Proposal) -> Redacted {
    match proposal {
        Proposal::RolloutUndo { object, to_revision: Some(number) } => text!("{} to revision {}", object, *number),
        Proposal::RolloutUndo { object, to_revision: None } => text!("{} to the revision before", object),
        Proposal::Scale { object, replicas } => text!("{} to {}", object, *replicas),
        Proposal::SetResources { object, container, resources } => {
            let named = resources.named().map(|(of, what, value)| text!("{} {} {}", of, what, value));
            text!("{}, container {}: {}", object, container, Redacted::join(&named.collect::<Vec<_>>(), ", "))
        }
        Proposal::SilenceAlert { object, alert, hours } => text!("{} of {} for {} h", alert, object, *hours),
        Proposal::ExpireSilence { object, alert } => text!("{} of {}", alert, object),
        other => text!("{}", other.object()),
    }
}
