//! `firstlook audit verify`: proves the hash chain offline.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::clock::Clock;
use crate::config;
use crate::config::Config;
use crate::store::{Options, Store};

/// Reads the whole chain and says whether it holds; the daemon may run meanwhile.
pub async fn verify(file: &Path) -> anyhow::Result<ExitCode> {
    let config = Config::load(file, &config::environment())?;
    let cluster = config.cluster_name().map_err(anyhow::Error::msg)?;
    let store =
        Store::open_read_only(config.store_url(), Clock::system(), Options::new(cluster)).await.context("store.url")?;
    let verdict = store.audit_verify().await?;
    let head = verdict.head.as_ref().map_or("none".to_owned(), |(number, hash)| format!("#{number} {hash}"));
    println!("sealed {}, head {head}, not sealed yet {}", verdict.sealed, verdict.unsealed);
    match verdict.fault {
        None => {
            println!("the chain holds; compare the head with a card's footer to see that nothing was cut off its end");
            Ok(ExitCode::SUCCESS)
        }
        Some(fault) => {
            println!("BROKEN: {fault}");
            Ok(ExitCode::from(1))
        }
    }
}
