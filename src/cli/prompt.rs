//! `firstlook prompt`: the exact redacted request that a model would get, for anyone who asks what leaves the cluster.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::Value;

use crate::app::Stages;
use crate::cli::model::tokens;
use crate::cli::{PromptArgs, run};
use crate::clock::Clock;
use crate::config;
use crate::config::Config;
use crate::model::IncidentId;
use crate::sim::replay::{Mind, Replay};
use crate::store::{Options, Store};

/// Incidents named to somebody who gives an unknown one: a screen's worth.
const LISTED_MAX: usize = 10;

/// Prints the request, and with text what it weighs. Nothing is sent to anybody.
pub async fn run(args: PromptArgs) -> anyhow::Result<ExitCode> {
    crate::telemetry::start_logging(false, "error");
    let requests = match (&args.scenario, &args.incident) {
        (Some(folder), _) => Replay { folder: folder.clone(), mind: Mind::None }.first_requests().await?,
        (None, Some(incident)) => vec![of_incident(incident, &args.config).await?],
        (None, None) => anyhow::bail!("give --scenario or --incident"),
    };
    if requests.is_empty() {
        eprintln!("no incident, so no model is asked");
    }
    for request in &requests {
        if args.json {
            println!("{request}");
        } else {
            print!("{}", readable(request));
        }
        eprintln!("{}", weight(request));
    }
    Ok(ExitCode::SUCCESS)
}

/// The next request of a stored incident; the daemon may run meanwhile.
async fn of_incident(incident: &str, file: &Path) -> anyhow::Result<Value> {
    let config = Config::load(file, &config::environment())?;
    let cluster = config.cluster_name().map_err(anyhow::Error::msg)?;
    let clock = Clock::system();
    let opened = Store::open_read_only(config.store_url(), clock.clone(), Options::new(cluster)).await;
    let store = opened.context("store.url")?;
    let setup = run::setup_over(&config, store.clone(), clock).await?;
    let id = IncidentId::parse(incident);
    let request = match &id {
        Some(id) => Stages::new(&setup).await?.request(id).await?,
        None => None,
    };
    match request {
        Some(request) => Ok(request),
        None => anyhow::bail!("there is no incident `{incident}` in this store; {}", stored(&store).await?),
    }
}

/// The newest incidents, for choosing.
async fn stored(store: &Store) -> anyhow::Result<String> {
    let all = store.recent_incidents(jiff::Timestamp::UNIX_EPOCH).await?;
    let newest = all.iter().rev().take(LISTED_MAX).map(|incident| format!("{} ({})", incident.id, incident.subject));
    let newest: Vec<String> = newest.collect();
    Ok(if newest.is_empty() { "it holds none".to_owned() } else { format!("the newest: {}", newest.join(", ")) })
}

/// The request for people: every message and tool with nothing left out, line breaks as they are.
fn readable(request: &Value) -> String {
    let mut text = String::new();
    for message in request["messages"].as_array().into_iter().flatten() {
        text.push_str(&format!("=== {}\n", message["role"].as_str().unwrap_or_default()));
        if let Some(content) = message["content"].as_str() {
            text.push_str(content.trim_end());
            text.push('\n');
        }
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            let function = &call["function"];
            let (name, arguments) = (function["name"].as_str(), function["arguments"].as_str());
            text.push_str(&format!("{} {}\n", name.unwrap_or_default(), arguments.unwrap_or_default()));
        }
    }
    let tools: Vec<String> = request["tools"].as_array().into_iter().flatten().map(tool).collect();
    if !tools.is_empty() {
        text.push_str(&format!("=== tools\n{}\n", tools.join("\n")));
    }
    text
}

fn tool(tool: &Value) -> String {
    let function = &tool["function"];
    let name = function["name"].as_str().unwrap_or_default();
    format!("{name}: {}\n  {}", function["description"].as_str().unwrap_or_default(), function["parameters"])
}

/// What it weighs.
fn weight(request: &Value) -> String {
    let part = |key: &str| request.get(key).map_or(0, |value| value.to_string().len());
    let (messages, tools, whole) = (part("messages"), part("tools"), request.to_string().len());
    format!(
        "about {} tokens (messages {}, tools {}), {whole} bytes; nothing was sent",
        tokens(whole),
        tokens(messages),
        tokens(tools)
    )
}
