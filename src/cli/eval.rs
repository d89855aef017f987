//! `firstlook eval`: replays scenario folders through the whole pipeline and prints what the card says.

use std::io::{IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use serde_json::{Value, json};

use crate::cli::EvalArgs;
use crate::sim::replay;
use crate::sim::replay::Replay;

/// Runs the command: exit 1 only when a scenario could not be run.
pub async fn run(args: EvalArgs) -> anyhow::Result<ExitCode> {
    crate::telemetry::start_logging(false, "error");
    let folders = scenarios(&args.dirs)?;
    anyhow::ensure!(!folders.is_empty(), "no folder with a cluster.json in {}", shown(&args.dirs));
    let mind = args.model.mind();
    let progress = std::io::stderr().is_terminal();
    let mut failed = false;
    for (i, folder) in folders.iter().enumerate() {
        let id = name(folder);
        if progress {
            eprint!("\r\x1b[K[{}/{}] {id}", i + 1, folders.len());
        }
        let began = Instant::now();
        let line = match (Replay { folder: folder.clone(), mind: mind.clone() }).run().await {
            Ok(mut result) => {
                result["id"] = json!(id);
                result["usage"]["wall_ms"] = json!(began.elapsed().as_millis() as u64);
                result
            }
            Err(error) => {
                failed = true;
                json!({"id": id, "error": format!("{error:#}")})
            }
        };
        if progress {
            eprint!("\r\x1b[K");
        }
        let mut out = std::io::stdout().lock();
        if args.json { writeln!(out, "{line}")? } else { writeln!(out, "{}", text(&line))? }
    }
    Ok(if failed { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// The folders that hold a cluster.json: those given, and those one level below them, in order of their names.
fn scenarios(dirs: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for dir in dirs {
        if dir.join(replay::CLUSTER_FILE).is_file() {
            found.push(dir.clone());
            continue;
        }
        let entries = std::fs::read_dir(dir).map_err(|e| anyhow::anyhow!("{}: {e}", dir.display()))?;
        let mut below: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        below.retain(|path| path.join(replay::CLUSTER_FILE).is_file());
        below.sort();
        found.extend(below);
    }
    Ok(found)
}

fn name(folder: &Path) -> String {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    whole.file_name().map_or_else(|| whole.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn shown(dirs: &[PathBuf]) -> String {
    dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// One result as text.
fn text(line: &Value) -> String {
    let id = line["id"].as_str().unwrap_or_default();
    if let Some(error) = line["error"].as_str() {
        return format!("{id}: could not be run: {error}");
    }
    let actions: Vec<&str> =
        line["actions"].as_array().into_iter().flatten().filter_map(|action| action["tool"].as_str()).collect();
    let offered = if actions.is_empty() { "no button".to_owned() } else { actions.join(", ") };
    let root_cause = line["root_cause"].as_str().unwrap_or_default();
    format!(
        "{id}: {} incident(s), {}, {offered}\n  {root_cause}",
        line["incidents"],
        line["severity"].as_str().unwrap_or("-")
    )
}
