//! `firstlook policy`: the file's schema, what is wrong with it, what it decides, and what it would have decided.

mod explain;
mod history;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use jiff::Timestamp;

use crate::app::foreign;
use crate::cli::report::{days, open};
use crate::cli::run;
use crate::clock::Clock;
use crate::config;
use crate::config::Config;
use crate::govern::policy::{Policy, Problem};
use crate::govern::record::{Bar, Pair, records};
use crate::model::Severity;
use crate::store::Store;

/// The policy file: who may approve what.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Prints the file's JSON Schema, for editors and reviews.
    #[command(after_help = "Example:\n  firstlook policy schema > policy.schema.json")]
    Schema,
    /// Says what is wrong in a policy file (exit 1), and what in it can hardly be meant.
    #[command(after_help = "Examples:\n  firstlook policy check policy.yaml\n  \
                            firstlook policy check policy.yaml --config firstlook.yaml   also compares leaves with the record")]
    Check(CheckArgs),
    /// Says what a policy decides about one tool in one namespace, by which rule and line.
    #[command(after_help = "Example:\n  firstlook policy explain --tool rollout_undo --namespace shop --as U024BE7LH \
                            --policy policy.yaml")]
    Explain(ExplainArgs),
    /// Replays the stored history against a policy file: what would have run, asked, been refused.
    #[command(after_help = "Example:\n  firstlook policy test changed.yaml --since 30d --config firstlook.yaml")]
    Test(TestArgs),
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The policy file.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The configuration file, for the store with the record and the tools of other MCP servers.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// A tool, such as rollout_undo.
    #[arg(long, value_name = "TOOL")]
    pub tool: String,
    /// The object's namespace; without it an object that has none (a node).
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// A Slack user id (U...): may this person approve?
    #[arg(long = "as", value_name = "WHO")]
    pub who: Option<String>,
    /// The incident's severity, which a freeze may except.
    #[arg(long, value_name = "SEVERITY", default_value = "high", value_parser = severity)]
    pub severity: Severity,
    /// When, as in 2026-12-24T18:00:00Z; default now.
    #[arg(long, value_name = "INSTANT")]
    pub at: Option<Timestamp>,
    /// The policy file; default the configuration's.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "FIRSTLOOK_CONFIG", default_value = "firstlook.yaml")]
    pub config: PathBuf,
}

#[derive(Debug, Args)]
pub struct TestArgs {
    /// The policy file to be tried; default the configuration's.
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How far back, as in 30d.
    #[arg(long, value_name = "DAYS", default_value = "30d", value_parser = days)]
    pub since: u32,
    /// The configuration file, for the store with the history.
    #[arg(long, value_name = "FILE", env = "FIRSTLOOK_CONFIG", default_value = "firstlook.yaml")]
    pub config: PathBuf,
}

/// Runs one of them.
///
/// # Errors
/// What cannot be read; a wrong policy file.
pub async fn run(command: PolicyCommand) -> anyhow::Result<ExitCode> {
    match command {
        PolicyCommand::Schema => {
            println!("{}", serde_json::to_string_pretty(&Policy::schema())?);
            Ok(ExitCode::SUCCESS)
        }
        PolicyCommand::Check(args) => check(args).await,
        PolicyCommand::Explain(args) => explain::explain(&args).await,
        PolicyCommand::Test(args) => test(args).await,
    }
}

fn severity(text: &str) -> Result<Severity, String> {
    let all = [Severity::None, Severity::Low, Severity::Medium, Severity::High, Severity::Critical];
    all.into_iter()
        .find(|severity| severity.as_str() == text)
        .ok_or_else(|| "none, low, medium, high or critical".to_owned())
}

fn read(file: &Path) -> anyhow::Result<Policy> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    Ok(Policy::parse(&text, &file.display().to_string())?)
}

/// The policy file of the command line, else that of the configuration.
fn chosen(file: Option<&PathBuf>, config: &Path) -> anyhow::Result<PathBuf> {
    match file {
        Some(file) => Ok(file.clone()),
        None => Config::load(config, &config::environment())?
            .policy_file
            .context("policy_file: none is configured; name a policy file"),
    }
}

async fn check(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let shown = args.file.display();
    let text = std::fs::read_to_string(&args.file).with_context(|| shown.to_string())?;
    let policy = match Policy::parse(&text, &shown.to_string()) {
        Ok(policy) => policy,
        Err(error) => {
            for problem in &error.problems {
                println!("{shown}:{}", told("error", problem));
            }
            return Ok(ExitCode::from(1));
        }
    };
    let clock = Clock::system();
    let mut warnings = policy.warnings(clock.now());
    if let Some(file) = &args.config {
        let config = Config::load(file, &config::environment())?;
        let unlisted = policy.unlisted(&foreign::names(&config));
        for problem in &unlisted {
            println!("{shown}:{}", told("error", problem));
        }
        if !unlisted.is_empty() {
            return Ok(ExitCode::from(1));
        }
        warnings.extend(run::uncalled(&policy, &config)?);
        let store = open(&config, clock).await?;
        warnings.extend(
            against_record(&policy, &store, Bar { approved: config.promotion.approved, bad: config.promotion.bad })
                .await?,
        );
        store.close().await;
    }
    for problem in &warnings {
        println!("{shown}:{}", told("warning", problem));
    }
    let leaves = policy.standing_leave.len();
    println!(
        "{shown}: ok, {} approver rules, {} denied, {} freezes, {leaves} standing leaves; {} warnings",
        policy.approvers.len(),
        policy.deny.len(),
        policy.freeze.len(),
        warnings.len()
    );
    Ok(ExitCode::SUCCESS)
}

fn told(kind: &str, Problem { line, key, what }: &Problem) -> String {
    if key.is_empty() { format!("{line}: {kind}: {what}") } else { format!("{line}: {kind}: {key}: {what}") }
}

/// What the record of the last 30 days says about the standing leaves.
async fn against_record(policy: &Policy, store: &Store, bar: Bar) -> anyhow::Result<Vec<Problem>> {
    let since = days_ago(store_now(), 30)?;
    let all = records(&store.approvals_made_since(since).await?, &[]);
    let suspended = store.leaves_suspended().await?;
    let mut found = Vec::new();
    for (i, leave) in policy.standing_leave.iter().enumerate() {
        let key = format!("standing_leave[{i}]");
        let pair = Pair { tool: leave.tool.clone(), namespace: leave.namespace.clone() };
        let record = all.get(&pair).cloned().unwrap_or_default();
        if !record.meets(bar) {
            let what = format!(
                "the record of 30 days is below the bar: {} approved (of {}), {} bad (at most {})",
                record.approved,
                bar.approved,
                record.bad(),
                bar.bad
            );
            found.push(Problem { line: leave.line, key: key.clone(), what });
        }
        if let Some(suspension) = suspended.get(&leave.key()) {
            let what = format!(
                "it is suspended since {}: {}; to give it again, give it another `until`",
                suspension.at, suspension.why
            );
            found.push(Problem { line: leave.line, key, what });
        }
    }
    Ok(found)
}

fn store_now() -> Timestamp {
    Clock::system().now()
}

fn days_ago(now: Timestamp, days: u32) -> anyhow::Result<Timestamp> {
    Ok(now.checked_sub(jiff::SignedDuration::from_hours(24 * i64::from(days)))?)
}

async fn test(args: TestArgs) -> anyhow::Result<ExitCode> {
    let file = chosen(args.file.as_ref(), &args.config)?;
    let policy = read(&file)?;
    let config = Config::load(&args.config, &config::environment())?;
    let clock = Clock::system();
    let since = days_ago(clock.now(), args.since)?;
    let store = open(&config, clock).await?;
    let lines = history::rehearsed(&store, &policy, since).await;
    store.close().await;
    println!(
        "{} against the {} days since {since}; labels of objects are not stored: rules by label do not match",
        file.display(),
        args.since
    );
    println!("{}", lines?.join("\n"));
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::explain::{explained, switched};
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::ApprovalId;
    use crate::store::{Durability, Options, Suspension, Write};

    const POLICY: &str = r#"
approvers:
  - {who: [U024BE7LH], tiers: [reversible], namespaces: ["*"]}
standing_leave:
  - {by: U024BE7LH, tool: rollout_restart, namespace: shop, until: 2027-03-31, per_hour: 2}
"#;

    fn asked(tool: &str) -> ExplainArgs {
        ExplainArgs {
            tool: tool.to_owned(),
            namespace: Some("shop".to_owned()),
            who: Some("U024BE7LH".to_owned()),
            severity: Severity::High,
            at: Some("2026-11-30T12:00:00Z".parse().unwrap()),
            policy: None,
            config: PathBuf::new(),
        }
    }

    #[test]
    fn a_suspended_leave_is_explained_as_one_that_does_not_count() {
        let policy = Policy::parse(POLICY, "policy.yaml").unwrap();
        let says = |suspended: &anyhow::Result<BTreeMap<String, Suspension>>| {
            explained(&asked("rollout_restart"), &policy, suspended, &[]).unwrap().join("\n")
        };
        let given = says(&Ok(BTreeMap::new()));
        assert!(
            given.contains("U024BE7LH may approve") && given.contains("standing leave of U024BE7LH, where"),
            "{given}"
        );
        let suspension = Suspension {
            approval: ApprovalId::parse("a1").unwrap(),
            why: "rollout_restart made it worse".into(),
            at: Timestamp::UNIX_EPOCH,
        };
        let suspended = says(&Ok([(policy.standing_leave[0].key(), suspension)].into()));
        assert!(
            suspended.contains("does not count: it is suspended because rollout_restart made it worse"),
            "{suspended}"
        );
        let unread = says(&Err(anyhow::anyhow!("no such file")));
        assert!(unread.contains("has suspended it is not known: no such file"), "{unread}");
        assert!(explained(&asked("rollout_restat"), &policy, &Ok(BTreeMap::new()), &[]).is_err());
    }

    #[test]
    fn a_tool_that_is_switched_off_is_explained_by_the_line_that_does_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("firstlook.yaml");
        std::fs::write(
            &file,
            "cluster: a\ntools:\n  off:\n    - k8s-logs\n    - rollout_restart\nkubernetes:\n  writes: false\n",
        )
        .unwrap();
        let says = |tool: &str| switched(&file, tool).unwrap().join("\n");
        let off = says("rollout_restart");
        assert!(off.contains("switched off here by tools.off (") && off.contains("firstlook.yaml:5)"), "{off}");
        assert!(off.contains("kubernetes.writes is false (") && off.contains("firstlook.yaml:7)"), "{off}");
        assert!(says("pod_logs").contains("firstlook.yaml:4)") && !says("pod_logs").contains("writes"));
        assert!(!says("scale").contains("switched off") && says("get_workload").is_empty());
        let policy = Policy::parse(POLICY, "policy.yaml").unwrap();
        let lines = explained(&asked("rollout_restart"), &policy, &Ok(BTreeMap::new()), &[off]).unwrap();
        assert!(lines[1].starts_with("switched off here"), "{lines:?}");
        std::fs::write(&file, "cluster: a\ntools: {off: [restart]}\n").unwrap();
        assert!(switched(&file, "scale").is_err());
        let unread = switched(&folder.path().join("none.yaml"), "scale").unwrap();
        assert!(unread[0].starts_with("whether it is switched off here is not known"), "{unread:?}");
    }

    #[tokio::test]
    async fn a_check_fails_on_a_wrong_file_and_compares_leaves_with_the_record() {
        let folder = tempfile::tempdir().unwrap();
        let check = async |text: &str| {
            let file = folder.path().join("policy.yaml");
            std::fs::write(&file, text).unwrap();
            format!("{:?}", run(PolicyCommand::Check(CheckArgs { file, config: None })).await.unwrap())
        };
        assert_eq!(check(POLICY).await, format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(check("approver: []").await, format!("{:?}", ExitCode::from(1)));
        let url = format!("sqlite:{}", folder.path().join("firstlook.db").display());
        let options = Options::new(crate::model::ClusterName::parse("test").unwrap());
        let store = Store::open(&url, Clock::system(), options).await.unwrap();
        let policy = Policy::parse(POLICY, "policy.yaml").unwrap();
        let found = against_record(&policy, &store, Bar { approved: 20, bad: 0 }).await.unwrap();
        assert_eq!((found.len(), found[0].line), (1, 5));
        assert!(found[0].what.contains("below the bar: 0 approved (of 20)"), "{}", found[0].what);
        assert!(against_record(&policy, &store, Bar { approved: 0, bad: 0 }).await.unwrap().is_empty());
        let approval = ApprovalId::parse("a1").unwrap();
        let suspension = Suspension { approval, why: "it made it worse".into(), at: Timestamp::UNIX_EPOCH };
        let suspend = Write::SuspendLeave { leave: policy.standing_leave[0].key(), suspension };
        store.commit(vec![suspend], Durability::Durable, None).await.unwrap();
        let found = against_record(&policy, &store, Bar { approved: 0, bad: 0 }).await.unwrap();
        assert!(found[0].what.contains("it made it worse; to give it again, give it another `until`"), "{found:?}");
        let again = Policy::parse(&POLICY.replace("2027-03-31", "2027-04-30"), "policy.yaml").unwrap();
        assert!(against_record(&again, &store, Bar { approved: 0, bad: 0 }).await.unwrap().is_empty(), "it is lifted");
        store.close().await;
    }
}
