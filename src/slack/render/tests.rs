//! The card in every state, as people read it, and every payload against Slack's limits.
