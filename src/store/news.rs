//! News: who waits for what kind of change is woken by it, and by nothing else.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;

use crate::store::Store;
use crate::store::operation::{Operation, Outcome};
use crate::store::write::Write;

/// A set of kinds of change, each named by what somebody may now find.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News(u16);

impl News {
    /// Signals whose subject is not known.
    pub const HEARD: Self = Self(1);
    /// Signals that belong to no incident yet, or a turn to place them.
    pub const RESOLVED: Self = Self(1 << 1);
    /// Incidents that were opened, joined or ended.
    pub const INCIDENT: Self = Self(1 << 2);
    /// Investigations that began, went on or ended.
    pub const INVESTIGATION: Self = Self(1 << 3);
    /// Something that a card shows.
    pub const CARD: Self = Self(1 << 4);
    /// Approvals that were made or changed their state.
    pub const APPROVAL: Self = Self(1 << 5);
    /// Clicks that nobody has answered.
    pub const CLICK: Self = Self(1 << 6);
    /// Entries of the audit that are not sealed.
    pub const AUDIT: Self = Self(1 << 7);
    /// A sealed head.
    pub const SEALED: Self = Self(1 << 8);
    const NONE: Self = Self(0);

    /// Both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// What an operation and its outcome are news of.
    pub(super) fn of(operation: &Operation, outcome: &Outcome) -> Self {
        match (operation, outcome) {
            (Operation::Commit { writes, .. }, _) => writes.iter().map(Self::of_write).fold(Self::NONE, Self::and),
            (Operation::Release { claim }, _) => Self::of_release(claim.stage),
            // The fifth failure shows on the card.
            (Operation::Fail { .. }, _) => Self::CARD,
            (Operation::Seal { .. }, Outcome::Sealed(Some(_))) => Self::SEALED,
            _ => Self::NONE,
        }
    }

    fn of_write(write: &Write) -> Self {
        match write {
            Write::Signals(_) => Self::HEARD,
            Write::Resolve { .. } => Self::RESOLVED,
            Write::Incident(_) => Self::INCIDENT.and(Self::INVESTIGATION).and(Self::CARD),
            Write::Investigation { .. } => Self::INVESTIGATION.and(Self::CARD),
            Write::Place { .. } | Write::Scene { .. } | Write::Report { .. } | Write::Findings { .. } => Self::CARD,
            Write::Thumb { .. } => Self::CARD,
            Write::Approval { .. } => Self::APPROVAL.and(Self::CARD),
            Write::Click(_) => Self::CLICK,
            Write::Audit(_) => Self::AUDIT,
            Write::Release(claim) => Self::of_release(claim.stage),
            Write::Ignore { .. }
            | Write::Evidence { .. }
            | Write::Turn { .. }
            | Write::Charge { .. }
            | Write::SuspendLeave { .. }
            | Write::ClickDone { .. }
            | Write::Post(_)
            | Write::ForgetCard { .. }
            | Write::OnDigest { .. }
            | Write::Delivered { .. }
            | Write::Call(_)
            | Write::Mark(_) => Self::NONE,
        }
    }

    /// Only the claim on placing signals is waited for by another stage; a stage's own units are found by its sweep.
    fn of_release(stage: &str) -> Self {
        if stage == "correlate" { Self::RESOLVED } else { Self::NONE }
    }
}

/// Everybody who waits, and for what. Bounded by the tasks of this process.
#[derive(Default)]
pub(super) struct Waiters(Mutex<Vec<(News, Weak<Notify>)>>);

impl Waiters {
    /// Wakes whoever waits for any of this.
    pub(super) fn tell(&self, news: News) {
        if news == News::NONE {
            return;
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(wanted, waiter)| {
            let Some(waiter) = waiter.upgrade() else { return false };
            if wanted.meets(news) {
                waiter.notify_one();
            }
            true
        });
    }
}

/// Waits for news of some kinds. What came since the last wait is not lost: the next wait returns at once.
pub struct Subscription(Arc<Notify>);

impl Subscription {
    /// Returns when there is news. May also return when what it announced was already seen.
    pub async fn changed(&self) {
        self.0.notified().await;
    }
}

impl Store {
    /// A wait for these kinds of commits of this process. It misses what other processes commit (PostgreSQL).
    pub fn subscribe(&self, wanted: News) -> Subscription {
        let waiter = Arc::new(Notify::new());
        let mut waiters = self.0.waiters.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiters.push((wanted, Arc::downgrade(&waiter)));
        Subscription(waiter)
    }
}
