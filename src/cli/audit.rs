//! `firstlook audit`: proves the hash chain offline, also against heads that were seen outside, and hands it out.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;

use crate::cli::report;
use crate::clock::Clock;
use crate::config;
use crate::config::Config;
use crate::store::{Anchor, AuditVerdict, Store};

/// The audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Proves the hash chain: no entry was edited, removed or moved; exit 1 where that is not proved.
    ///
    /// The chain alone cannot tell whether its end was cut off or the whole was written anew: give it a head that was
    /// seen outside of the database.
    #[command(after_help = "Examples:\n  firstlook audit verify --config firstlook.yaml\n  \
                            firstlook audit verify --anchor 'audit 4c1f09d2a37be155 (#18204)'   a card's last line\n  \
                            kubectl logs deploy/firstlook | firstlook audit verify --anchor -   lines of audit.anchors")]
    Verify {
        /// The configuration file, for the store's place.
        #[arg(long, value_name = "FILE", env = "FIRSTLOOK_CONFIG", default_value = "firstlook.yaml")]
        config: PathBuf,
        /// A head of the chain, as a card's last line shows it, or a file (- is stdin) with lines that hold some. Can be
        /// given again.
        #[arg(long, value_name = "FILE|HEAD")]
        anchor: Vec<String>,
    },
    /// Prints every entry as one line of JSON, in the order of the chain.
    ///
    /// `hash` is SHA-256 over the hash before it (64 zeros before the first) and the very text of `entry`, in hex.
    #[command(after_help = "Example:\n  firstlook audit export | jq -c 'select(.entry.kind == \"execution\")'")]
    Export {
        /// The configuration file, for the store's place.
        #[arg(long, value_name = "FILE", env = "FIRSTLOOK_CONFIG", default_value = "firstlook.yaml")]
        config: PathBuf,
    },
}

/// Runs one of them; the daemon may run meanwhile.
///
/// # Errors
/// What cannot be read.
pub async fn run(command: AuditCommand) -> anyhow::Result<ExitCode> {
    match command {
        AuditCommand::Verify { config, anchor } => {
            // The anchors first: what is sealed meanwhile lies behind them.
            let mut anchors = Vec::new();
            for given in &anchor {
                anchors.extend(read(given)?);
            }
            let verdict = store(&config).await?.audit_verify(&anchors).await?;
            Ok(tell(&verdict, anchors.len() as u64))
        }
        AuditCommand::Export { config } => {
            let mut out = std::io::BufWriter::new(std::io::stdout().lock());
            let exported = store(&config).await?.audit_export(|line| writeln!(out, "{line}")).await?;
            out.flush()?;
            eprintln!("{exported} entries");
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn store(file: &Path) -> anyhow::Result<Store> {
    report::open(&Config::load(file, &config::environment())?, Clock::system()).await
}

/// The heads in what was given: itself, or the lines of a file that hold one.
fn read(given: &str) -> anyhow::Result<Vec<Anchor>> {
    if let Some(anchor) = Anchor::parse(given) {
        return Ok(vec![anchor]);
    }
    let text = match given {
        "-" => std::io::read_to_string(std::io::stdin()).context("stdin")?,
        file => std::fs::read_to_string(file).with_context(|| {
            format!("--anchor {file}: neither a file nor a head such as `audit 4c1f09d2a37be155 (#18204)`")
        })?,
    };
    let anchors: Vec<Anchor> = text.lines().filter_map(Anchor::parse).collect();
    anyhow::ensure!(!anchors.is_empty(), "--anchor {given}: no line holds a head such as `#18204 4c1f09d2a37be155`");
    Ok(anchors)
}

fn tell(verdict: &AuditVerdict, anchors: u64) -> ExitCode {
    let head = verdict.head.as_ref().map_or("none".to_owned(), |(number, hash)| format!("#{number} {hash}"));
    println!("sealed {}, head {head}, not sealed yet {}", verdict.sealed, verdict.unsealed);
    if let Some(cut) = verdict.cut {
        println!("retention took what was before, up to #{cut}; the chain itself tells it");
    }
    if verdict.anchors_before_cut > 0 {
        println!("{} anchors are older than that: nothing can be compared with them", verdict.anchors_before_cut);
    }
    match &verdict.fault {
        Some(fault) => {
            println!("BROKEN: {fault}");
            ExitCode::from(1)
        }
        None if anchors == 0 => {
            println!(
                "the chain holds; only --anchor, with a card's last line, shows that nothing was cut off its end or \
                 written anew"
            );
            ExitCode::SUCCESS
        }
        None if verdict.anchored == 0 => {
            println!("the chain holds, but NOT PROVED against an anchor: none lies within it");
            ExitCode::from(1)
        }
        None => {
            println!("the chain holds, and agrees with {} anchors", verdict.anchored);
            ExitCode::SUCCESS
        }
    }
}
