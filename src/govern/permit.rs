//! The permit: minted by governance alone and spent once; without it nothing changes the cluster.

use crate::model::{ActionHash, ApprovalId};

/// Leave to perform one action, once. Only `govern` can mint it, and `act::apply` consumes it.
///
/// Nobody else can make one:
///
/// ```compile_fail
/// let permit = firstlook::govern::permit::Permit { approval: panic!(), action: panic!() };
/// ```
///
/// ```compile_fail
/// let permit = firstlook::govern::permit::Permit::mint(panic!(), panic!());
/// ```
#[must_use = "a permit that is not spent should be dropped on purpose"]
#[derive(Debug)]
pub struct Permit {
    approval: ApprovalId,
    action: ActionHash,
}

impl Permit {
    /// Called in one place: after everything that could have refused was asked again.
    pub(super) fn mint(approval: ApprovalId, action: ActionHash) -> Self {
        Self { approval, action }
    }

    /// The approval that it stands for.
    pub fn approval(&self) -> &ApprovalId {
        &self.approval
    }

    /// The one action that it allows.
    pub fn action(&self) -> &ActionHash {
        &self.action
    }
}
