//! `firstlook policy explain`: what a policy says to one request, line by line.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::cli::policy::{ExplainArgs, chosen, read, store_now};
use crate::cli::report::open;
use crate::clock::Clock;
use crate::config;
use crate::config::Config;
use crate::govern::off;
use crate::govern::off::Off;
use crate::govern::policy::{
    Ask, Covering, Groups, LeaveRecord, May, Policy, StandingLeave, Usage, covering, decide, may,
};
use crate::mcp;
use crate::model::{Caller, Kind, ObjectRef, Tier, Verdict};
use crate::store::Suspension;

pub(super) async fn explain(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let policy = read(&chosen(args.policy.as_ref(), &args.config)?)?;
    let suspended = match policy.standing_leave.is_empty() {
        true => Ok(BTreeMap::new()),
        false => suspended(&args.config).await,
    };
    for line in explained(args, &policy, &suspended, &switched(&args.config, &args.tool)?)? {
        println!("{line}");
    }
    Ok(ExitCode::SUCCESS)
}

/// What the configuration says of a tool before any policy is asked: nothing, mostly.
///
/// # Errors
/// When `tools.off` names what there is not.
pub(super) fn switched(file: &Path, tool: &str) -> anyhow::Result<Vec<String>> {
    let environment = config::environment();
    let config = match Config::load(file, &environment) {
        Ok(config) => config,
        Err(error) => return Ok(vec![format!("whether it is switched off here is not known: {error}")]),
    };
    let off = Off::of(&config.tools.off).map_err(anyhow::Error::msg)?;
    let mut lines = Vec::new();
    if let Some(key) = off.by(tool) {
        let place = config.set_at(&key, file, &environment);
        lines.push(format!("switched off here by {} ({place}): nobody is offered it; were it on:", off::KEY));
    }
    let changes = mcp::tool(tool).is_some_and(|(_, tier)| tier > Tier::ReadOnly);
    if changes && !config.kubernetes.writes {
        let place = config.set_at("kubernetes.writes", file, &environment);
        lines.push(format!("nothing is changed here: kubernetes.writes is false ({place}); were it true:"));
    }
    Ok(lines)
}

/// The leaves that a bad outcome has suspended, by what makes each the same.
async fn suspended(config: &Path) -> anyhow::Result<BTreeMap<String, Suspension>> {
    let store = open(&Config::load(config, &config::environment())?, Clock::system()).await?;
    let suspended = store.leaves_suspended().await;
    store.close().await;
    suspended
}

/// What the policy says, line by line, after what the configuration says.
pub(super) fn explained(
    args: &ExplainArgs,
    policy: &Policy,
    suspended: &anyhow::Result<BTreeMap<String, Suspension>>,
    switched: &[String],
) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    let (tool, compiled) = match mcp::tool(&args.tool) {
        Some(ours) => ours,
        None if args.tool.contains(mcp::foreign::BETWEEN) => (args.tool.as_str(), Tier::ReadOnly),
        None => {
            let known: Vec<&str> = mcp::TOOLS.iter().map(|(name, ..)| *name).collect();
            anyhow::bail!("there is no tool {}; the tools: {}", args.tool, known.join(", "));
        }
    };
    // Any name does: policies speak of namespaces, not of objects.
    let kind = if args.namespace.is_some() { Kind::Deployment } else { Kind::Node };
    let object = ObjectRef::new(kind, args.namespace.as_deref(), "any").context("that is no namespace's name")?;
    let tier = policy.tier_of(tool, compiled);
    let raised = if tier > compiled { format!(", raised from {compiled} by tiers.{tool}") } else { String::new() };
    let place = args.namespace.as_ref().map_or("an object without a namespace".to_owned(), |name| format!("`{name}`"));
    lines.push(format!("{tool} in {place}: {tier}{raised}"));
    lines.extend_from_slice(switched);
    let ask = Ask {
        tool,
        tier: compiled,
        object: Some(&object),
        namespace: None,
        also: &[],
        labels: &[],
        severity: args.severity,
        caller: &Caller::Agent,
        now: args.at.unwrap_or_else(store_now),
    };
    match &decide(policy, &ask, &Usage::default()) {
        Verdict::Run => lines.push("runs: reads need no approval".to_owned()),
        Verdict::Deny { rule, why } => lines.push(format!("refused by {rule}: {why}")),
        Verdict::Nobody { missing } => lines.push(format!("refused: nobody may approve; {missing}")),
        Verdict::Ask { rule, people, approvers } => {
            let named: Vec<&str> = approvers.iter().map(|who| who.as_str()).collect();
            lines.push(format!("asks by {rule}: {people} of {}", named.join(", ")));
            if let Some(who) = &args.who {
                lines.push(may_approve(who, &may(approvers, who, &Groups::new())));
            }
            lines.extend(leave(policy, &ask, suspended));
        }
    }
    if tier != Tier::ReadOnly && policy.deny.iter().any(|rule| !rule.labels.is_empty()) {
        lines.push("an object's labels may still deny it: they are read when it is asked for".to_owned());
    }
    Ok(lines)
}

/// What a standing leave says to what has to be asked for.
fn leave(policy: &Policy, ask: &Ask<'_>, suspended: &anyhow::Result<BTreeMap<String, Suspension>>) -> Vec<String> {
    let record = |leave: &StandingLeave| {
        let suspension = suspended.as_ref().ok().and_then(|all| all.get(&leave.key()));
        LeaveRecord { used_last_hour: 0, suspended: suspension.map(|suspension| suspension.why.clone()) }
    };
    match covering(policy, ask, true, record) {
        Covering::None => Vec::new(),
        Covering::Covers { by, rule, .. } => {
            let covers = format!("{rule}: standing leave of {by}, where a finding supports the step");
            let unknown = suspended.as_ref().err();
            let unknown =
                unknown.map(|error| format!("whether a bad outcome has suspended it is not known: {error:#}"));
            std::iter::once(covers).chain(unknown).collect()
        }
        Covering::NotNow { by, rule, why } => vec![format!("{rule}: standing leave of {by} does not count: {why}")],
    }
}

fn may_approve(who: &str, may: &May) -> String {
    match may {
        May::Yes => format!("{who} may approve: named in the rule"),
        May::No => format!("{who} may not approve: not named in the rule, and no group is"),
        May::CannotTell { group } => format!("{who} may approve if Slack says that they are in {group}"),
    }
}
