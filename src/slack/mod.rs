//! Slack: the card as blocks, the client that posts it, and the clicks that come back.

pub mod render;
