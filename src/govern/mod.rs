//! Layer 4, the gate: policy, limits, audit, approvals and permits between everybody and every tool.

pub mod approvals;
pub mod audit;
pub mod budget;
pub mod callers;
pub mod gate;
mod leaves;
pub mod off;
pub mod permit;
pub mod policy;
pub mod record;
pub mod scope;
