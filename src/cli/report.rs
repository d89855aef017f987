//! `firstlook report`: what was asked for and what came of it, for the people who own the policy.

use anyhow::Context as _;

use crate::clock::Clock;
use crate::config::Config;
use crate::store::{Options, Store};

/// `30d`, or plain days.
pub(super) fn days(text: &str) -> Result<u32, String> {
    let digits = text.strip_suffix('d').unwrap_or(text);
    digits.parse().ok().filter(|days| (1..=3650).contains(days)).ok_or_else(|| "write days, such as 30d".to_owned())
}

/// The store of the configuration, to be read beside a running daemon.
pub(super) async fn open(config: &Config, clock: Clock) -> anyhow::Result<Store> {
    let cluster = config.cluster_name().map_err(anyhow::Error::msg)?;
    Store::open_read_only(config.store_url(), clock, Options::new(cluster)).await.context("store.url")
}
