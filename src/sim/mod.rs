//! The embedded world for demo, eval and tests: a Slack stand-in, a scripted model, a cluster from a scenario folder.

pub mod cluster;
pub mod model;
pub mod page;
pub mod replay;
pub mod slack;
