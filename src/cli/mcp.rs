//! `firstlook mcp`: the tool servers behind the gate over stdin and stdout, and tokens for those who come over HTTP.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use secrecy::SecretString;
use tokio::net::TcpListener;

use crate::app::mcp;
use crate::cli::{McpArgs, TokenArgs};
use crate::clock::Clock;
use crate::config;
use crate::config::Config;
use crate::govern::callers::{Callers, TOKEN_CHARS, TOKEN_PREFIX, token_hash};
use crate::govern::gate::Gate;
use crate::sim::slack::{Slack, SlackOptions};
use crate::sim::world::{Scenario, World};

/// Where the bridge finds its token.
const TOKEN_VARIABLE: &str = "FIRSTLOOK_MCP_TOKEN";
/// The scripted model answers at once: nobody watches it here.
const MODEL_DELAY: Duration = Duration::ZERO;

/// Runs the command until stdin ends.
///
/// # Errors
/// What cannot be started or reached.
pub async fn run(args: McpArgs) -> anyhow::Result<ExitCode> {
    crate::telemetry::start_logging(false, "error");
    let server = args.server.as_deref();
    match &args.scenario {
        Some(scenario) => embedded(Scenario::find(scenario)?, server).await?,
        None => bridge(&args, server).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The embedded world. Its Slack page has the buttons for what is asked.
async fn embedded(scenario: Scenario, server: Option<&str>) -> anyhow::Result<()> {
    let slack = Slack::new(Clock::system(), SlackOptions::default());
    let world = World::start(scenario, Clock::system(), slack, MODEL_DELAY).await?;
    let page = TcpListener::bind("127.0.0.1:0").await.context("no loopback port is free")?;
    eprintln!("firstlook: cards and their buttons at http://{}", page.local_addr()?);
    world.serve_page(page);
    let living = world.inhabit().await?;
    let served = mcp::serve_stdio(living.app.gate(), server).await;
    living.end().await;
    served
}

/// A bridge to the daemon that runs with this configuration.
async fn bridge(args: &McpArgs, server: Option<&str>) -> anyhow::Result<()> {
    let config = Config::load(&args.config, &config::environment())?;
    let listener = config
        .listeners
        .mcp
        .as_ref()
        .with_context(|| format!("{}: listeners.mcp: missing; the daemon serves no /mcp", args.config.display()))?;
    let token = match (&args.token_file, std::env::var(TOKEN_VARIABLE)) {
        (Some(file), _) => {
            let text = std::fs::read_to_string(file).with_context(|| format!("--token-file: {}", file.display()))?;
            Some(SecretString::from(text.trim_end_matches(['\n', '\r'])))
        }
        (None, Ok(token)) if !token.is_empty() => Some(SecretString::from(token)),
        _ => None,
    };
    anyhow::ensure!(
        token.is_some() || listener.without_token,
        "no token: give --token-file, or set {TOKEN_VARIABLE} (`firstlook mcp token` makes one)"
    );
    mcp::bridge(reachable(listener.address), server, token.as_ref()).await
}

/// Where a listener on every address is reached from the same machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port())
    } else {
        address
    }
}

/// Makes a token: prints it, and the entry for the callers' file, which holds only its hash.
///
/// # Errors
/// When the entry would be refused by the daemon.
pub fn token(args: &TokenArgs) -> anyhow::Result<ExitCode> {
    let token = fresh_token()?;
    let entry = entry(args, &token);
    let whole = format!("callers:\n{entry}");
    let own = Gate::servers();
    let others = args.servers.iter().map(String::as_str).filter(|name| *name != "*" && !own.contains(name));
    let others: Vec<&str> = others.collect();
    if !others.is_empty() {
        eprintln!("# not firstlook's own, so the daemon must have them in mcp_servers: {}", others.join(", "));
    }
    Callers::parse(&whole, "entry", &own.into_iter().chain(others).collect::<Vec<_>>())?;
    eprintln!("# the token, shown once:");
    println!("{token}");
    eprintln!("# the entry for mcp_callers_file, below `callers:`");
    print!("{entry}");
    Ok(ExitCode::SUCCESS)
}

fn entry(args: &TokenArgs, token: &str) -> String {
    let list = |items: &[String]| {
        let quoted: Vec<String> = items.iter().map(|item| format!("\"{item}\"")).collect();
        format!("[{}]", quoted.join(", "))
    };
    let mut lines = vec![format!("  - name: {}", args.name), format!("    token_sha256: {}", token_hash(token))];
    lines.extend(args.person.as_ref().map(|person| format!("    for: {person}")));
    lines.push(format!("    servers: {}", list(&args.servers)));
    lines.push(format!("    namespaces: {}", list(&args.namespaces)));
    if args.cluster {
        lines.push("    cluster: true".to_owned());
    }
    lines.push(format!("    tiers: {}", list(&args.tiers)));
    lines.push(format!("    calls_per_minute: {}", args.calls_per_minute));
    lines.push(format!("    asks_per_hour: {}\n", args.asks_per_hour));
    lines.join("\n")
}

/// Letters and digits alone: any scanner for secrets sees it as one.
fn fresh_token() -> anyhow::Result<String> {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let random = rustls::crypto::ring::default_provider().secure_random;
    let mut token = TOKEN_PREFIX.to_owned();
    while token.len() < TOKEN_PREFIX.len() + TOKEN_CHARS {
        let mut bytes = [0_u8; 64];
        random.fill(&mut bytes).map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
        // Four times the alphabet: a byte beyond it would favour some letters.
        let fair = bytes.iter().filter(|byte| **byte < 248).map(|byte| char::from(ALPHABET[usize::from(byte % 62)]));
        token.extend(fair.take(TOKEN_PREFIX.len() + TOKEN_CHARS - token.len()));
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::Redactor;

    #[test]
    fn a_token_is_found_by_its_entry_alone_and_never_shown_in_a_log() {
        let token = fresh_token().unwrap();
        let args = TokenArgs {
            name: "kimi".into(),
            person: Some("U024BE7LH".into()),
            servers: vec!["*".into()],
            namespaces: vec!["shop-*".into()],
            cluster: false,
            tiers: vec!["read-only".into(), "reversible".into()],
            calls_per_minute: 60,
            asks_per_hour: 5,
        };
        let entry = format!("callers:\n{}", entry(&args, &token));
        let callers = Callers::parse(&entry, "x", &Gate::servers()).unwrap();
        assert!(callers.find(&token).is_some() && !entry.contains(&token));
        assert_eq!(token.len(), TOKEN_PREFIX.len() + TOKEN_CHARS);
        assert!(!Redactor::default().redact(&format!("using {token} now")).as_str().contains(&token));
    }
}
