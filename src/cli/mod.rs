//! The command line: what each command is called and how it ends.

pub mod audit;
pub mod check;
pub mod demo;
pub mod eval;
pub mod look;
pub mod mcp;
pub mod model;
pub mod policy;
pub mod prompt;
pub mod rbac;
pub mod report;
pub mod run;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::cli::model::ModelArgs;

/// Takes the first look at an incident.
#[derive(Debug, Parser)]
#[command(
    name = "firstlook",
    version,
    about = "Takes the first look at an incident: one Slack card with the cause, the proof and a button",
    after_help = "Examples:\n  firstlook demo                          try it in a browser: no cluster, no key\n  \
                  firstlook look -n shop                  what is in trouble in a namespace, here and now\n  \
                  firstlook check --config firstlook.yaml what is missing before it can run\n  \
                  firstlook run --config firstlook.yaml   the daemon\n\nExit codes: 0 done, 1 failed, 2 wrong usage; look: 3 in trouble."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Look(LookArgs),
    Run(RunArgs),
    Demo(DemoArgs),
    Eval(EvalArgs),
    Prompt(PromptArgs),
    Check(CheckArgs),
    Mcp(McpArgs),
    #[command(subcommand, after_help = "Example:\n  firstlook policy check policy.yaml")]
    Policy(policy::PolicyCommand),
    Rbac(rbac::RbacArgs),
    Report(report::ReportArgs),
    #[command(subcommand, after_help = "Example:\n  firstlook audit verify --config firstlook.yaml")]
    Audit(audit::AuditCommand),
}

/// A first look at your own cluster: the card of one object, or of all that is in trouble in a namespace.
///
/// It only reads, with the kubeconfig's rights: nothing is installed, stored, changed, or sent to anybody but the model of
/// --model, which is asked about the worst of what is in trouble.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  firstlook look                            the context's namespace, worst first\n  \
                        firstlook look deploy/checkout -n shop    one object; a pod leads to what made it\n  \
                        firstlook look node/ip-10-0-3-7\n  \
                        firstlook look -n shop --json | jq '.objects[].report.headline'\n  \
                        firstlook look deploy/checkout --model http://127.0.0.1:11434/v1 --model-name qwen3\n  \
                        firstlook look --scenario oom-loop        a simulated cluster: needs none of your own\n\n\
                        Exit codes: 0 healthy, 3 in trouble, 1 failed, 2 wrong usage."
)]
pub struct LookArgs {
    /// One object, as in deployment/checkout; kubectl's short names do. Without it: the whole namespace.
    #[arg(value_name = "KIND/NAME")]
    pub object: Option<String>,
    /// The namespace; default the context's own.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// The kubeconfig's context; default its current one.
    #[arg(long, value_name = "CONTEXT", conflicts_with = "scenario")]
    pub context: Option<String>,
    /// Looks at the simulated cluster of a scenario instead: by name, or a folder that holds one.
    #[arg(long, value_name = "NAME|DIR")]
    pub scenario: Option<String>,
    /// The reports as one JSON object, instead of text.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub model: ModelArgs,
}

/// The daemon: hears of trouble, investigates, posts cards, acts when a person said yes.
///
/// Inside a cluster it uses its ServiceAccount, outside the kubeconfig. SIGTERM ends it within 10 s.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  firstlook run --config /etc/firstlook/firstlook.yaml")]
pub struct RunArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "FIRSTLOOK_CONFIG", default_value = "firstlook.yaml")]
    pub config: PathBuf,
}

/// The whole thing in an embedded world: a simulated cluster, a scripted model, a Slack stand-in with its page.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  firstlook demo\n  firstlook demo --scenario oom-loop --listen 127.0.0.1:9000\n  \
                        firstlook demo --once        plays it through in the terminal, clicks included")]
pub struct DemoArgs {
    /// Where the page is served.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8484")]
    pub listen: SocketAddr,
    /// A scenario by name, or a folder that holds one.
    #[arg(long, value_name = "NAME|DIR", default_value = "bad-image-rollout")]
    pub scenario: String,
    /// Needs no browser: plays the scenario, clicks Approve, and ends when the action is verified.
    #[arg(long)]
    pub once: bool,
}

/// Replays scenario folders through the whole pipeline and prints what the card says.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  firstlook eval fixtures/scenarios\n  firstlook eval --json --model \
                        http://127.0.0.1:11434/v1 --model-name qwen3 fixtures/scenarios/d01-env-var-undefined")]
pub struct EvalArgs {
    /// One JSON line for each scenario, instead of text.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub model: ModelArgs,
    /// Scenario folders, or folders of them.
    #[arg(required = true, value_name = "DIR")]
    pub dirs: Vec<PathBuf>,
}

/// The exact redacted request that a model would get: what leaves the cluster, and nothing else does. Sends nothing.
///
/// Of a scenario: the first request of each incident. Of a stored incident: the next one, which holds all before it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  firstlook prompt --scenario fixtures/scenarios/oom-loop\n  firstlook prompt \
                        --incident i4f9a01c2d7e8 --config firstlook.yaml\n  firstlook prompt --scenario DIR --json | jq .messages")]
#[command(group = clap::ArgGroup::new("what").required(true).args(["scenario", "incident"]))]
pub struct PromptArgs {
    /// A scenario's folder, not its name.
    #[arg(long, value_name = "DIR")]
    pub scenario: Option<PathBuf>,
    /// A stored incident, by its id; one that is unknown is answered with the newest that are stored.
    #[arg(long, value_name = "ID")]
    pub incident: Option<String>,
    /// The configuration file, for the store's place; the store is only read, also beside a running daemon.
    #[arg(long, value_name = "FILE", env = "FIRSTLOOK_CONFIG", default_value = "firstlook.yaml")]
    pub config: PathBuf,
    /// The body as it would be sent, one line of JSON for each request.
    #[arg(long)]
    pub json: bool,
}

/// Tries everything that the daemon needs, and says of each what to do.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  firstlook check --config firstlook.yaml --send-card")]
pub struct CheckArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "FIRSTLOOK_CONFIG", default_value = "firstlook.yaml")]
    pub config: PathBuf,
    /// Also post a card, marked as a test, to the configured channel.
    #[arg(long)]
    pub send_card: bool,
}

/// The tools for any MCP client, over stdin and stdout: of a simulated cluster, or of the running daemon.
///
/// Every call goes through the gate. A tool that changes something only asks: a person decides in Slack.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  firstlook mcp --scenario bad-image-rollout            try it without a cluster\n  \
                  firstlook mcp --config firstlook.yaml --server k8s-logs\n  \
                  firstlook mcp token --name kimi --for U024BE7LH --namespaces 'shop-*' --tiers read-only,reversible"
)]
pub struct McpArgs {
    #[command(subcommand)]
    pub command: Option<McpCommand>,
    /// A simulated cluster: a scenario by name, or a folder that holds one.
    #[arg(long, value_name = "NAME|DIR", conflicts_with = "config")]
    pub scenario: Option<String>,
    /// The configuration file of the running daemon.
    #[arg(long, value_name = "FILE", env = "FIRSTLOOK_CONFIG", default_value = "firstlook.yaml")]
    pub config: PathBuf,
    /// The file with the token; default the variable FIRSTLOOK_MCP_TOKEN.
    #[arg(long, value_name = "FILE", conflicts_with = "scenario")]
    pub token_file: Option<PathBuf>,
    /// One tool server alone, such as k8s-logs.
    #[arg(long, value_name = "NAME")]
    pub server: Option<String>,
}

/// What belongs to `firstlook mcp`.
#[derive(Debug, Subcommand)]
pub enum McpCommand {
    Token(TokenArgs),
}

/// Makes a token for a caller of `/mcp`, and prints the entry for mcp_callers_file, which holds only its hash.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  firstlook mcp token --name kimi --for U024BE7LH --namespaces 'shop-*' --tiers read-only,reversible"
)]
pub struct TokenArgs {
    /// What the audit and the cards call the caller.
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// The person that it stands for: a Slack user id. Needed for anything but reading.
    #[arg(long = "for", value_name = "U...")]
    pub person: Option<String>,
    /// Tool servers; * is all of firstlook's own, those of mcp_servers are named one by one.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', default_value = "*")]
    pub servers: Vec<String>,
    /// Namespaces, or prefixes ending in *.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// Also what lives in no namespace: nodes, metrics, on-call.
    #[arg(long)]
    pub cluster: bool,
    /// read-only, reversible, destructive.
    #[arg(long, value_name = "TIER,...", value_delimiter = ',', default_value = "read-only")]
    pub tiers: Vec<String>,
    #[arg(long, value_name = "N", default_value_t = 120)]
    pub calls_per_minute: u32,
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub asks_per_hour: u32,
}

/// Runs the command line and says how it ended.
pub fn main() -> ExitCode {
    // Whatever client is built first needs it; a second install (kube, Slack) changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("firstlook: the runtime cannot start: {error}");
            return ExitCode::from(1);
        }
    };
    let result = runtime.block_on(async {
        match cli.command {
            Command::Look(args) => look::run(args).await,
            Command::Run(args) => run::run(args).await,
            Command::Demo(args) => demo::run(args).await,
            Command::Eval(args) => eval::run(args).await,
            Command::Prompt(args) => prompt::run(args).await,
            Command::Check(args) => check::run(args).await,
            Command::Mcp(McpArgs { command: Some(McpCommand::Token(args)), .. }) => mcp::token(&args),
            Command::Mcp(args) => mcp::run(args).await,
            Command::Policy(command) => policy::run(command).await,
            Command::Rbac(args) => rbac::run(args),
            Command::Report(args) => report::run(args).await,
            Command::Audit(command) => audit::run(command).await,
        }
    });
    // A read that hangs must not keep the process: what is durable is on disk.
    runtime.shutdown_timeout(Duration::from_millis(500));
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("firstlook: {error:#}");
            ExitCode::from(1)
        }
    }
}

#[cfg(test)]
mod tests;
