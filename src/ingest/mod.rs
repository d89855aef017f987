//! Ingest: what is heard from outside becomes signals.

pub mod alertmanager;
pub mod watch;
