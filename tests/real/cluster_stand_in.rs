//! Serves the simulated cluster of a scenario folder to the real stories: for kubectl, and for a daemon without a control plane.
//!
//! usage: cluster_stand_in FOLDER ADDRESS     prints `{"api": ..., "token": ...}` (of the daemon's account) once it listens

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use firstlook::clock::Clock;
use firstlook::sim::cluster::{Cluster, Shift};
use serde_json::json;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().context("which scenario folder?")?;
    let listener = tokio::net::TcpListener::bind(arguments.next().as_deref().unwrap_or("127.0.0.1:0")).await?;
    let cluster = Cluster::load(Path::new(&folder), Clock::system(), Shift::ToNow)?;
    let api = format!("http://{}", listener.local_addr()?);
    println!("{}", json!({"api": api, "token": cluster.token_for("firstlook")}));
    std::io::stdout().flush()?;
    cluster.serve(listener, CancellationToken::new()).await?;
    Ok(())
}
