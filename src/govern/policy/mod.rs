//! The policy: a YAML file checked at start; every decision is pure and names its rule and the line of it.

mod check;
mod decide;
mod file;
mod freeze;
mod leave;
mod lint;
pub(in crate::govern) mod pattern;
mod place;
mod press;
pub mod rehearse;

pub(in crate::govern) use check::is_user;
pub use check::{PolicyError, Problem};
pub use decide::{Ask, Usage, decide};
pub use file::{Allow, Approvers, CallerLimits, Deny, Limits, Policy, ToolLimits};
pub use freeze::{Except, Freeze};
pub use leave::{Covering, LeaveRecord, StandingLeave, covering};
pub use place::Placed;
pub use press::{Groups, May, PressVerdict, may, press};
pub use rehearse::Rehearsed;

#[cfg(test)]
pub(in crate::govern) mod tests;
