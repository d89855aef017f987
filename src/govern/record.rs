//! The record: what came of each change that was asked for, by tool and namespace; what autonomy is earned by. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::model::{Approval, ApprovalId, ApprovalState, IncidentId, Thumb, Verification};
use crate::redact::Redacted;
use crate::text;

/// One tool in one namespace; `(cluster)` stands for objects without one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    pub tool: String,
    pub namespace: String,
}

/// What came of the requests of one pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub asked: u32,
    /// Approved, whatever came of it.
    pub approved: u32,
    pub rejected: u32,
    /// The reasons people gave, newest last, at most 5.
    pub reasons: Vec<Redacted>,
    pub expired: u32,
    pub withdrawn: u32,
    pub refused: u32,
    /// Executed, and verified as better.
    pub verified: u32,
    /// Executed, and not better; failed; unknown.
    pub not_better: u32,
    /// Executed, and fewer pods were ready than before.
    pub worse: u32,
    pub failed: u32,
    pub unknown: u32,
    /// Executed and taken back by a person.
    pub undone: u32,
    /// Thumbs on the cards of its incidents: whether the cause was right.
    pub right: u32,
    pub wrong: u32,
}

/// What a pair needs before a standing leave is suggested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    pub approved: u32,
    pub bad: u32,
}

/// Reasons that are kept of a pair.
const REASONS_MAX: usize = 5;

impl Record {
    /// Outcomes that a person would not want again without being asked.
    pub fn bad(&self) -> u32 {
        self.not_better + self.worse + self.failed + self.unknown + self.undone
    }

    /// Whether it is good enough for a standing leave.
    pub fn meets(&self, bar: Bar) -> bool {
        self.approved >= bar.approved && self.bad() <= bar.bad
    }
}

impl Pair {
    /// The pair of an approval.
    pub fn of(approval: &Approval) -> Self {
        let namespace = approval.proposal.object().namespace.as_ref();
        let namespace = namespace.map_or("(cluster)", |name| name.as_str());
        Self { tool: approval.proposal.tool().to_owned(), namespace: namespace.to_owned() }
    }
}

/// Why the outcome of an approval is bad, if it is, by itself: what was taken back is known only from the others.
pub fn bad(approval: &Approval) -> Option<Redacted> {
    let what = || text!("{} of {}", approval.proposal.tool(), approval.proposal.object());
    match (approval.state, &approval.verification) {
        (ApprovalState::Failed, _) => Some(text!("{} failed", what())),
        (ApprovalState::OutcomeUnknown, _) => Some(text!("the outcome of {} is unknown", what())),
        (ApprovalState::Executed, Verification::NotBetter { .. }) => Some(text!("{} did not help", what())),
        (ApprovalState::Executed, Verification::Worse { .. }) => Some(text!("{} made it worse", what())),
        _ => None,
    }
}

/// When what came of an approval's execution was known, if it was executed and is known.
pub fn known_at(approval: &Approval) -> Option<Timestamp> {
    let sent = approval.execution.as_ref()?;
    match (approval.state, &approval.verification) {
        (
            ApprovalState::Executed,
            Verification::Better { at, .. } | Verification::NotBetter { at, .. } | Verification::Worse { at, .. },
        ) => Some(*at),
        _ => Some(sent.finished_at.unwrap_or(sent.started_at)),
    }
}

/// The records of all pairs among these approvals, with the thumbs on their incidents' cards.
pub fn records(approvals: &[Approval], thumbs: &[(IncidentId, Thumb)]) -> BTreeMap<Pair, Record> {
    let undone: BTreeSet<&ApprovalId> = approvals
        .iter()
        .filter(|approval| approval.state == ApprovalState::Executed)
        .filter_map(|approval| approval.undoes.as_ref())
        .collect();
    let mut all: BTreeMap<Pair, Record> = BTreeMap::new();
    // What takes another change back says nothing of its own tool.
    for approval in approvals.iter().filter(|approval| approval.undoes.is_none()) {
        let record = all.entry(Pair::of(approval)).or_default();
        count(record, approval);
        record.undone += u32::from(undone.contains(&approval.id));
    }
    for (pair, record) in &mut all {
        let of_pair = |approval: &&Approval| approval.undoes.is_none() && Pair::of(approval) == *pair;
        let incidents: BTreeSet<_> = approvals.iter().filter(of_pair).map(|approval| &approval.incident).collect();
        let here = thumbs.iter().filter(|(incident, _)| incidents.contains(incident));
        (record.right, record.wrong) = counted(here.map(|(_, thumb)| thumb));
    }
    all
}

/// Thumbs up and down.
pub fn counted<'a>(thumbs: impl Iterator<Item = &'a Thumb>) -> (u32, u32) {
    thumbs.fold((0, 0), |(right, wrong), thumb| if thumb.up { (right + 1, wrong) } else { (right, wrong + 1) })
}

fn count(record: &mut Record, approval: &Approval) {
    record.asked += 1;
    let approved = matches!(
        approval.state,
        ApprovalState::Approved
            | ApprovalState::Executing
            | ApprovalState::Executed
            | ApprovalState::Failed
            | ApprovalState::OutcomeUnknown
    );
    record.approved += u32::from(approved);
    match approval.state {
        ApprovalState::Rejected => {
            record.rejected += 1;
            let reasons = approval.presses.iter().filter(|press| !press.yes).filter_map(|press| press.reason.clone());
            record.reasons.extend(reasons.filter(|reason| !reason.is_empty()));
            let extra = record.reasons.len().saturating_sub(REASONS_MAX);
            record.reasons.drain(..extra);
        }
        ApprovalState::Expired => record.expired += 1,
        ApprovalState::Withdrawn => record.withdrawn += 1,
        ApprovalState::Refused => record.refused += 1,
        ApprovalState::Failed => record.failed += 1,
        ApprovalState::OutcomeUnknown => record.unknown += 1,
        ApprovalState::Executed => match approval.verification {
            Verification::Better { .. } => record.verified += 1,
            Verification::NotBetter { .. } => record.not_better += 1,
            Verification::Worse { .. } => record.worse += 1,
            _ => {}
        },
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::govern::policy::tests::approval;

    #[test]
    fn a_record_counts_what_came_of_each_pair_and_what_was_undone() {
        const AT: &str = "2026-11-23T10:00:00Z";
        let mut all: Vec<Approval> = (0..3).map(|_| approval("shop", ApprovalState::Executed, AT)).collect();
        all[0].verification = Verification::Better { at: all[0].created_at, ready: 1, wanted: 1 };
        all[1].verification = Verification::NotBetter { at: all[0].created_at, why: "pods crash".into() };
        all.push(approval("shop", ApprovalState::Expired, AT));
        all.push(approval("billing", ApprovalState::Rejected, AT));
        let undo = Approval { undoes: Some(all[2].id.clone()), ..approval("shop", ApprovalState::Executed, AT) };
        all.push(undo);
        let thumb = |user, up| {
            let thumb = Thumb { user, up, reason: None, at: all[0].created_at };
            (all[0].incident.clone(), thumb)
        };
        let elsewhere = (IncidentId::fresh(), thumb("U3".into(), false).1);
        let records = records(&all, &[thumb("U1".into(), true), thumb("U2".into(), false), elsewhere]);
        assert_eq!(records.len(), 2);
        let shop = &records[&Pair::of(&all[0])];
        assert_eq!((shop.asked, shop.approved, shop.verified, shop.not_better, shop.undone), (4, 3, 1, 1, 1));
        assert_eq!((shop.right, shop.wrong), (1, 1), "thumbs on other incidents' cards say nothing of it");
        assert_eq!(shop.bad(), 2);
        assert!(shop.meets(Bar { approved: 3, bad: 2 }) && !shop.meets(Bar { approved: 3, bad: 1 }));
        assert!(bad(&all[1]).is_some() && bad(&all[0]).is_none() && bad(&all[2]).is_none());
    }
}
