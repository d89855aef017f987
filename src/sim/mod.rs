//! The embedded world for demo, eval and tests: a Slack stand-in, a scripted model, a cluster from a scenario folder.

pub mod alerts;
pub mod cluster;
pub mod model;
pub mod narrator;
pub mod page;
pub mod prometheus;
pub mod replay;
mod shipped;
pub mod slack;
pub mod still;
pub mod world;

#[cfg(test)]
pub(crate) mod tests;
