//! Layer 4, the gate: policy, limits, audit, approvals and permits between everybody and every tool.

pub mod permit;
pub mod policy;
