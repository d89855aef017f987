//! Slack: the card as blocks, the client that posts it, and the clicks that come back.

pub mod client;
pub mod desk;
pub mod interact;
pub mod render;
pub mod socket;

#[cfg(test)]
mod tests;
