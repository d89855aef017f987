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
use crate::store::{Anchor, AuditVerdict, Cut, Store};

/// The audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Proves the hash chain: no entry was edited, removed or moved; exit 1 where that is not proved.
    ///
    /// The chain alone cannot tell whether its end was cut off or the whole was written anew: give it a head that was
    /// seen outside of the database. Nor can it tell what was in the entries that retention took: that a cut took only what
    /// was old is proved by heads from before it that are written down with their time, as `audit.anchors` does.
    #[command(after_help = "Examples:\n  firstlook audit verify --config firstlook.yaml\n  \
                            firstlook audit verify --anchor 'audit 4c1f09d2a37be155 (#18204)'   a card's last line\n  \
                            kubectl -n firstlook logs deploy/firstlook | kubectl -n firstlook exec -i deploy/firstlook -- \
                            /firstlook audit verify --config /etc/firstlook/firstlook.yaml --anchor -   lines of audit.anchors")]
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
            let config = Config::load(&config, &config::environment())?;
            let verdict = report::open(&config, Clock::system()).await?.audit_verify(&anchors).await?;
            let (lines, proved) = told(&verdict, anchors.len() as u64, config.store.keep_days);
            println!("{}", lines.join("\n"));
            Ok(if proved { ExitCode::SUCCESS } else { ExitCode::from(1) })
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

/// What was found, and whether that is a proof.
fn told(verdict: &AuditVerdict, anchors: u64, keep_days: u32) -> (Vec<String>, bool) {
    let head = verdict.head.as_ref().map_or("none".to_owned(), |(number, hash)| format!("#{number} {hash}"));
    let mut lines = vec![format!("sealed {}, head {head}, not sealed yet {}", verdict.sealed, verdict.unsealed)];
    if let Some(fault) = &verdict.fault {
        lines.push(format!("BROKEN: {fault}"));
        return (lines, false);
    }
    let mut proved = true;
    if let Some(cut) = &verdict.cut {
        let (says, is_ours) = cut_told(cut, keep_days);
        lines.push(says);
        proved &= is_ours;
        let (before, dated) = (verdict.anchors_before_cut, verdict.anchors_dated);
        lines.push(match (before, dated) {
            (_, 0) => {
                "not provable here: that this was retention, and not somebody who took more. Anchors from before the \
                       cut would show it, with their times (the lines of audit.anchors have them)"
                    .to_owned()
            }
            _ => format!(
                "{dated} of {before} anchors from before the cut tell their time: all were as old as the cut says"
            ),
        });
    }
    lines.push(match (anchors, verdict.anchored) {
        (0, _) => "the chain holds; only --anchor, with a card's last line, shows that nothing was cut off its end or \
                   written anew"
            .to_owned(),
        (_, 0) => {
            proved = false;
            "the chain holds, but NOT PROVED against an anchor: none lies within it".to_owned()
        }
        (_, agreed) => format!("the chain holds, and agrees with {agreed} anchors"),
    });
    (lines, proved)
}

/// What retention took, and whether it can have, by the present configuration.
fn cut_told(cut: &Cut, keep_days: u32) -> (String, bool) {
    let Cut { number, count, at, .. } = cut;
    let (Some(took), Some(days)) = (cut.took, cut.age_days()) else {
        let why = "its entry does not tell how old that was (an earlier version wrote it; the next cut will)";
        return (format!("retention took what was before, up to #{number}, on {at}; NOT PROVED: {why}"), false);
    };
    let says =
        format!("retention took {count} entries, up to #{number}, on {at}: what was older than {}", took.before());
    if took.room {
        return (format!("{says}, to make room (store.size_max_mib)"), true);
    }
    if days < i64::from(keep_days) {
        let why = "store.keep_days was less then, or the cut is none of retention's";
        return (format!("{says}; NOT PROVED: that is {days} days, and store.keep_days is {keep_days}: {why}"), false);
    }
    (format!("{says}, {days} days"), true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::AuditFault;

    #[test]
    fn what_is_not_proved_is_said_and_is_no_success() {
        let told_of = |verdict: &AuditVerdict, anchors: u64| {
            let (lines, proved) = told(verdict, anchors, 30);
            (lines.join("\n"), proved)
        };
        let whole = AuditVerdict { sealed: 6, head: Some((6, "ab".repeat(32))), ..AuditVerdict::default() };
        let (says, proved) = told_of(&whole, 0);
        assert!(proved && says.contains("only --anchor"), "{says}");
        let (says, proved) = told_of(&whole, 2);
        assert!(!proved && says.contains("NOT PROVED against an anchor"), "{says}");
        let anchored = AuditVerdict { anchored: 2, ..whole.clone() };
        assert!(told_of(&anchored, 2).1);
        let fault = Some(AuditFault::NoCut { number: 2, why: "it took what was too young" });
        let (says, proved) = told_of(&AuditVerdict { fault, ..anchored.clone() }, 2);
        assert!(!proved && says.ends_with("retention cannot have made: it took what was too young"), "{says}");

        let at = "2026-11-30T12:00:00Z".parse().unwrap();
        let cut = Cut { number: 2, hash: "ab".repeat(32), count: 2, at, took: None };
        let with = |took: Option<serde_json::Value>| {
            let took = took.map(|took| serde_json::from_value(took).unwrap());
            told_of(&AuditVerdict { cut: Some(Cut { took, ..cut.clone() }), ..anchored.clone() }, 2)
        };
        let days = |days: i64, room: bool| {
            let before_ms = at.as_millisecond() - days * 86_400_000;
            Some(serde_json::json!({"from": 0, "before_ms": before_ms, "newest_ms": before_ms - 1, "room": room}))
        };
        for (took, is_proved, part) in [
            (days(30, false), true, "what was older than 2026-10-31T12:00:00Z, 30 days"),
            (days(29, false), false, "NOT PROVED: that is 29 days, and store.keep_days is 30"),
            (days(1, true), true, "to make room"),
            (None, false, "does not tell how old"),
        ] {
            let (says, proved) = with(took);
            assert!(proved == is_proved && says.contains(part) && says.contains("not provable here"), "{says}");
        }
        let dated = AuditVerdict { cut: Some(cut), anchors_before_cut: 3, anchors_dated: 2, ..anchored };
        assert!(told_of(&dated, 5).0.contains("2 of 3 anchors from before the cut tell their time"));
    }
}
