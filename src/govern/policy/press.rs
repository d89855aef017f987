//! What a press of a button means: who may say yes or no, and how many different people are needed.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Approval, ApprovalState};
use crate::redact::Redacted;

/// The members of each user group, or why they are not known (then nobody counts as a member).
pub type Groups = BTreeMap<String, Option<BTreeSet<String>>>;

/// What a press of a button means.
#[derive(Clone, Debug, PartialEq)]
pub enum PressVerdict {
    /// Yes, and more people are needed.
    Counted {
        so_far: u32,
        needed: u32,
    },
    /// Yes, and now it is approved.
    Approved,
    Rejected,
    /// This person already said yes.
    Twice,
    /// The approval no longer waits for an answer.
    Stale(ApprovalState),
    /// Not one of the approvers; who may is named.
    NotAllowed {
        may: Vec<Redacted>,
    },
    /// Slack did not say who is in the group: nobody is let in.
    CannotTell {
        group: Redacted,
    },
}

/// Whether a person is among the approvers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum May {
    Yes,
    No,
    /// Slack did not say who is in this group.
    CannotTell {
        group: Redacted,
    },
}

/// Whether `user` is among `approvers` (`U...`, `group:S...`): by id, or as a member of a group that could be read.
pub fn may(approvers: &[Redacted], user: &str, groups: &Groups) -> May {
    let mut unknown = None;
    for who in approvers {
        match who.as_str().strip_prefix("group:") {
            None if who.as_str() == user => return May::Yes,
            None => {}
            Some(group) => match groups.get(group) {
                Some(Some(members)) if members.contains(user) => return May::Yes,
                Some(Some(_)) => {}
                Some(None) | None => unknown = Some(who.clone()),
            },
        }
    }
    unknown.map_or(May::No, |group| May::CannotTell { group })
}

/// Judges one press by `user`. Whoever may approve may reject; a reject counts at once.
pub fn press(approval: &Approval, user: &str, yes: bool, groups: &Groups) -> PressVerdict {
    if approval.state != ApprovalState::Pending {
        return PressVerdict::Stale(approval.state);
    }
    match may(&approval.approvers, user, groups) {
        May::CannotTell { group } => return PressVerdict::CannotTell { group },
        May::No => return PressVerdict::NotAllowed { may: approval.approvers.clone() },
        May::Yes => {}
    }
    if !yes {
        return PressVerdict::Rejected;
    }
    if approval.presses.iter().any(|press| press.yes && press.user.as_str() == user) {
        return PressVerdict::Twice;
    }
    let so_far = approval.presses.iter().filter(|press| press.yes).count() as u32 + 1;
    if so_far >= approval.people_needed {
        PressVerdict::Approved
    } else {
        PressVerdict::Counted { so_far, needed: approval.people_needed }
    }
}
