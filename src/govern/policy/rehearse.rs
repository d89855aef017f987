//! Rehearsal: what another policy would have said to the changes and reads of the past. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::govern::callers::namespace_of;
use crate::govern::policy::decide::{Ask, Usage, decide};
use crate::govern::policy::file::Policy;
use crate::govern::policy::leave::{Covering, LeaveRecord, StandingLeave, covering};
use crate::govern::policy::press::{Groups, May, may};
use crate::govern::record;
use crate::mcp;
use crate::model::{Action, Approval, ApprovalState, Call, Incident, IncidentId, Name, Severity, Tier, Verdict};
use crate::redact::Redacted;
use crate::text;

/// What is known of the past. Labels of objects are not stored: rules by label do not match here.
pub struct Past<'a> {
    /// Oldest first.
    pub approvals: &'a [Approval],
    /// Oldest first.
    pub reads: &'a [Call],
    pub incidents: &'a BTreeMap<IncidentId, Incident>,
    /// Approvals whose action a finding supports.
    pub supported: &'a dyn Fn(&Approval) -> bool,
}

/// What a policy would say to one change of the past.
#[derive(Clone, Debug, PartialEq)]
pub struct Rehearsed<'a> {
    pub approval: &'a Approval,
    pub verdict: Verdict,
    pub leave: Covering,
}

/// A read of the past that the policy would refuse.
#[derive(Clone, Debug, PartialEq)]
pub struct RefusedRead<'a> {
    pub call: &'a Call,
    pub rule: Redacted,
    pub why: Redacted,
}

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// Judges every change that was proposed, in the order of time, with what would have been used by then.
pub fn changes<'a>(policy: &Policy, past: &Past<'a>) -> Vec<Rehearsed<'a>> {
    let mut judged: Vec<Rehearsed<'a>> = Vec::new();
    for approval in past.approvals {
        let compiled = mcp::tool(approval.proposal.tool()).map_or(Tier::Destructive, |(_, tier)| tier);
        let also = moved(approval);
        let ask = Ask {
            tool: approval.proposal.tool(),
            tier: compiled,
            object: Some(approval.proposal.object()),
            namespace: None,
            also: &also,
            labels: &[],
            severity: past.incidents.get(&approval.incident).map_or(Severity::None, |incident| incident.severity),
            caller: &approval.asked_by,
            now: approval.created_at,
        };
        let verdict = decide(policy, &ask, &used(&judged, approval));
        let leave = match &verdict {
            // What takes another change back is for people alone.
            Verdict::Ask { approvers, .. } if approval.undoes.is_none() => {
                let covering = covering(policy, &ask, (past.supported)(approval), |leave| LeaveRecord {
                    used_last_hour: uses(&judged, leave, approval.created_at),
                    suspended: suspended(past.approvals, leave, approval.created_at),
                });
                among(covering, approvers)
            }
            _ => Covering::None,
        };
        judged.push(Rehearsed { approval, verdict, leave });
    }
    judged
}

/// A leave counts only as the yes of one of the approvers.
fn among(covering: Covering, approvers: &[Redacted]) -> Covering {
    let Covering::Covers { by, rule, key } = covering else { return covering };
    match may(approvers, by.as_str(), &Groups::new()) {
        May::Yes => Covering::Covers { by, rule, key },
        May::No => Covering::NotNow { by, rule, why: "its person is not one of those who may approve this".into() },
        May::CannotTell { group } => {
            Covering::NotNow { by, rule, why: text!("only Slack can say whether its person is in {}", group) }
        }
    }
}

/// Why a leave would have been suspended by then: the first bad outcome of its tool in its namespace.
fn suspended(approvals: &[Approval], leave: &StandingLeave, now: Timestamp) -> Option<Redacted> {
    let meant = |approval: &Approval| leave.is_for(approval.proposal.tool(), approval.proposal.object().namespace());
    let bad = approvals.iter().filter(|approval| approval.undoes.is_none() && meant(approval));
    let bad = bad.filter_map(|approval| Some((record::known_at(approval)?, record::bad(approval)?)));
    let undone = approvals.iter().filter(|undo| undo.state == ApprovalState::Executed).filter_map(|undo| {
        let done = approvals.iter().find(|done| Some(&done.id) == undo.undoes.as_ref() && meant(done))?;
        let why = text!("{} of {} was undone", done.proposal.tool(), done.proposal.object());
        Some((record::known_at(undo)?, why))
    });
    bad.chain(undone).filter(|(at, _)| *at <= now).min_by_key(|(at, _)| *at).map(|(_, why)| why)
}

/// The namespaces whose pods a drain moves.
fn moved(approval: &Approval) -> Vec<Name> {
    let Some(Action::Drain { pods, .. }) = &approval.action else { return Vec::new() };
    let mut namespaces: Vec<Name> = pods.iter().filter_map(|moved| moved.pod.namespace.clone()).collect();
    namespaces.sort();
    namespaces.dedup();
    namespaces
}

/// What had been used before this change, as far as the policy would have let it happen.
fn used(judged: &[Rehearsed<'_>], approval: &Approval) -> Usage {
    let since = approval.created_at.checked_sub(HOUR).unwrap_or(Timestamp::UNIX_EPOCH);
    let mut usage = Usage::default();
    for other in judged.iter().filter(|other| matches!(other.verdict, Verdict::Ask { .. })) {
        let same_tool = u32::from(other.approval.proposal.tool() == approval.proposal.tool());
        if let Some(execution) = other.approval.execution.as_ref().filter(|sent| sent.started_at < approval.created_at)
        {
            if execution.started_at >= since {
                usage.writes_last_hour += 1;
                usage.tool_last_hour += same_tool;
            }
            if other.approval.incident == approval.incident && approval.undoes.is_none() {
                usage.writes_of_incident += 1;
                usage.tool_of_incident += same_tool;
            }
        }
        let same_caller = other.approval.asked_by == approval.asked_by && other.approval.created_at >= since;
        usage.caller_last_hour += u32::from(same_caller);
    }
    usage
}

fn uses(judged: &[Rehearsed<'_>], leave: &StandingLeave, now: Timestamp) -> u32 {
    let since = now.checked_sub(HOUR).unwrap_or(Timestamp::UNIX_EPOCH);
    let same = |other: &&Rehearsed<'_>| {
        other.approval.created_at >= since
            && matches!(&other.leave, Covering::Covers { key, .. } if *key == leave.key())
    };
    judged.iter().filter(same).count() as u32
}

/// The reads that ran and that the policy would have refused.
pub fn reads<'a>(policy: &Policy, past: &Past<'a>) -> Vec<RefusedRead<'a>> {
    let mut of_incident: BTreeMap<&IncidentId, u32> = BTreeMap::new();
    let mut refused = Vec::new();
    for call in past.reads.iter().filter(|call| call.tier == Tier::ReadOnly && call.verdict == Verdict::Run) {
        let arguments = serde_json::from_str(call.arguments.as_str()).unwrap_or_default();
        let all = of_incident.entry(&call.incident).or_default();
        let ask = Ask {
            tool: &call.tool,
            tier: Tier::ReadOnly,
            object: None,
            namespace: namespace_of(&arguments),
            also: &[],
            labels: &[],
            severity: Severity::None,
            caller: &call.caller,
            now: call.called_at,
        };
        let usage = Usage { calls_of_incident: *all, ..Usage::default() };
        match decide(policy, &ask, &usage) {
            Verdict::Deny { rule, why } => refused.push(RefusedRead { call, rule, why }),
            _ => *all += 1,
        }
    }
    refused
}
