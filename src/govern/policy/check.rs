//! Reads a policy file: everything that is wrong with its line, key and remedy, and what is right but can never apply.

use std::fmt;

use crate::govern::policy::file::{Approvers, Limits, Policy};
use crate::govern::policy::pattern;
use crate::mcp;
use crate::mcp::foreign::BETWEEN;
use crate::model::Tier;

/// One thing in the file that is wrong, or that can hardly be meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// From 1.
    pub line: u32,
    /// `approvers[0].who`
    pub key: String,
    /// What, and what to do about it.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, key, what } = self;
        if key.is_empty() { write!(f, "{line}: {what}") } else { write!(f, "{line}: {key}: {what}") }
    }
}

/// A policy file that cannot be used: all that is wrong with it.
#[derive(Debug)]
pub struct PolicyError {
    pub file: String,
    pub problems: Vec<Problem>,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, problem) in self.problems.iter().enumerate() {
            let newline = if nth == 0 { "" } else { "\n" };
            write!(f, "{newline}{}:{problem}", self.file)?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyError {}

/// Slack's ids are far shorter; a longer text is none.
const ID_MAX_CHARS: usize = 40;

impl Policy {
    /// Reads and checks a policy file's text; `file` is for the error.
    ///
    /// # Errors
    /// Everything that is wrong, with line, key and remedy.
    pub fn parse(yaml: &str, file: &str) -> Result<Self, PolicyError> {
        let fail = |problems| PolicyError { file: file.to_owned(), problems };
        let mut policy: Self = serde_saphyr::from_str(yaml).map_err(|error| fail(vec![unread(&error)]))?;
        let mut finder = Finder { yaml, problems: Vec::new() };
        finder.tiers(&policy);
        finder.scopes(&policy);
        for (i, rule) in policy.approvers.iter().enumerate() {
            finder.approvers(i, rule.line, rule);
        }
        finder.freezes(&mut policy);
        finder.leaves(&policy);
        finder.limits(&mut policy);
        finder.problems.sort();
        if finder.problems.is_empty() { Ok(policy) } else { Err(fail(finder.problems)) }
    }
}

pub(super) fn problem(line: u32, key: String, what: impl Into<String>) -> Problem {
    Problem { line, key, what: what.into() }
}

/// What the YAML reader says, without its drawing of the place.
fn unread(error: &serde_saphyr::Error) -> Problem {
    let line = error.location().map_or(1, |location| location.line() as u32);
    let said = error.to_string();
    let said = said.lines().next().unwrap_or_default().trim_start_matches("error: ");
    let said = match said.split_once(": ") {
        Some((place, what)) if place.starts_with("line ") => what,
        _ => said,
    };
    problem(line, String::new(), said)
}

/// Goes through a file that was read, and notes all that is wrong.
struct Finder<'a> {
    yaml: &'a str,
    problems: Vec<Problem>,
}

impl Finder<'_> {
    /// Notes a problem of `key` in the rule `here` that begins at `line`.
    fn note(&mut self, line: u32, here: &str, key: &str, what: impl Into<String>) {
        let at = self.line_of(line, key);
        let key = if key.is_empty() { here.to_owned() } else { format!("{here}.{key}") };
        self.problems.push(problem(at, key, what));
    }

    /// The line of `key` in the rule that begins at `line`: the first one from there on that sets it, before the next
    /// rule of the list.
    fn line_of(&self, line: u32, key: &str) -> u32 {
        if key.is_empty() {
            return line;
        }
        let sets = |text: &str| {
            let mut places = text.match_indices(key);
            places.any(|(at, _)| {
                let before = text[..at].chars().next_back();
                text[at + key.len()..].trim_start().starts_with(':')
                    && before.is_none_or(|c| !c.is_alphanumeric() && c != '_')
            })
        };
        let lines = self.yaml.lines().enumerate().skip(line.saturating_sub(1) as usize);
        for (nth, text) in lines {
            if nth + 1 > line as usize && text.trim_start().starts_with("- ") {
                break;
            }
            if sets(text) {
                return nth as u32 + 1;
            }
        }
        line
    }

    fn tool(&mut self, line: u32, here: &str, key: &str, tool: &str) {
        if mcp::tool(tool).is_some() {
            return;
        }
        if tool.contains(BETWEEN) {
            let what = "is of another MCP server: such tools only read, so `deny` alone can name them";
            return self.note(line, here, key, format!("`{tool}` {what}"));
        }
        let near = pattern::near(tool, mcp::TOOLS.iter().map(|(name, ..)| *name));
        let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        self.note(line, here, key, format!("there is no tool `{tool}`{hint}"));
    }

    fn namespaces(&mut self, line: u32, here: &str, namespaces: &[String]) {
        for pattern in namespaces {
            if let Some(why) = pattern::problem(pattern) {
                self.note(line, here, "namespaces", format!("`{pattern}` {why}"));
            }
        }
    }

    fn tiers(&mut self, policy: &Policy) {
        for (tool, raised) in &policy.tiers {
            self.tool(raised.line, "tiers", tool, tool);
            if let Some((_, compiled)) = mcp::tool(tool).filter(|(_, compiled)| raised.rule < *compiled) {
                let what = format!("{compiled} cannot be lowered to {}; a tier can only be raised", raised.rule);
                self.note(raised.line, "tiers", tool, what);
            }
        }
    }

    fn scopes(&mut self, policy: &Policy) {
        for (i, rule) in policy.allow.iter().enumerate() {
            let here = format!("allow[{i}]");
            self.namespaces(rule.line, &here, &rule.namespaces);
            rule.tools.iter().for_each(|tool| self.tool(rule.line, &here, "tools", tool));
            if rule.namespaces.is_empty() && !rule.cluster {
                self.note(rule.line, &here, "", "give `namespaces` (\"*\" for all) or `cluster: true`");
            }
        }
        for (i, rule) in policy.deny.iter().enumerate() {
            let here = format!("deny[{i}]");
            self.namespaces(rule.line, &here, &rule.namespaces);
            let ours = rule.tools.iter().filter(|tool| !tool.contains(BETWEEN));
            ours.for_each(|tool| self.tool(rule.line, &here, "tools", tool));
            if rule.namespaces.is_empty() && rule.labels.is_empty() && rule.tools.is_empty() {
                self.note(rule.line, &here, "", "give `namespaces`, `labels` or `tools`");
            }
        }
    }

    fn approvers(&mut self, i: usize, line: u32, rule: &Approvers) {
        let here = format!("approvers[{i}]");
        if rule.who.is_empty() {
            self.note(line, &here, "who", "is empty; name Slack user ids (U...) or groups (group:S...)");
        }
        if rule.tiers.is_empty() {
            self.note(line, &here, "tiers", "is empty; name `reversible`, `destructive` or both");
        }
        if rule.tiers.contains(&Tier::ReadOnly) {
            self.note(line, &here, "tiers", "read-only needs no approval; remove it");
        }
        if rule.namespaces.is_empty() && !rule.cluster {
            self.note(line, &here, "", "give `namespaces` (\"*\" for all) or `cluster: true`");
        }
        if let Some(who) = rule.who.iter().find(|who| !is_person(who)) {
            self.note(line, &here, "who", format!("`{who}` is neither a user id (U...) nor a group (group:S...)"));
        }
        let mut different = rule.who.clone();
        different.sort();
        different.dedup();
        let named = different.len();
        if rule.people == 0 || (rule.people as usize > named && different.iter().all(|who| is_user(who))) {
            self.note(
                line,
                &here,
                "people",
                format!("{} of {named} named people; name more, or ask for fewer", rule.people),
            );
        }
        self.namespaces(line, &here, &rule.namespaces);
    }

    fn freezes(&mut self, policy: &mut Policy) {
        for (i, freeze) in policy.freeze.iter_mut().enumerate() {
            let here = format!("freeze[{i}]");
            match freeze.rule.read() {
                Ok(window) => freeze.rule.window = Some(window),
                Err((key, what)) => self.note(freeze.line, &here, key, what),
            }
            self.namespaces(freeze.line, &here, &freeze.rule.namespaces);
        }
    }

    fn leaves(&mut self, policy: &Policy) {
        for (i, leave) in policy.standing_leave.iter().enumerate() {
            let here = format!("standing_leave[{i}]");
            if !is_user(&leave.by) {
                self.note(
                    leave.line,
                    &here,
                    "by",
                    format!("`{}` is no user id (U...): a leave is one person's", leave.by),
                );
            }
            if leave.namespace.ends_with('*') {
                self.note(leave.line, &here, "namespace", "a leave is for one namespace, by its whole name");
            } else if let Some(why) = pattern::problem(&leave.namespace) {
                self.note(leave.line, &here, "namespace", format!("`{}` {why}", leave.namespace));
            }
            if leave.per_hour == 0 {
                self.note(leave.line, &here, "per_hour", "0 gives nothing; remove the leave");
            }
            self.tool(leave.line, &here, "tool", &leave.tool);
            if let Some((_, compiled)) = mcp::tool(&leave.tool) {
                let tier = policy.tier_of(&leave.tool, compiled);
                if tier != Tier::Reversible {
                    self.note(leave.line, &here, "tool", format!("`{}` is {tier}: only reversible tools", leave.tool));
                }
            }
        }
    }

    fn limits(&mut self, policy: &mut Policy) {
        let block = self.yaml.lines().position(|line| line.starts_with("limits:")).map_or(1, |at| at as u32 + 1);
        for key in LIMIT_KEYS {
            let line = self.line_of(block, key);
            let text = self.yaml.lines().nth(line.saturating_sub(1) as usize).unwrap_or_default();
            if text.contains(key) {
                policy.limit_lines.insert((*key).to_owned(), line);
            }
        }
        let Limits { reserve_for_critical, tools, money_per_day, money_per_month, .. } = &policy.limits;
        for (key, money) in [("money_per_day", money_per_day), ("money_per_month", money_per_month)] {
            if money.is_some_and(|money| !(0.0..1e9).contains(&money)) {
                self.note(block, "limits", key, "give an amount of at least 0");
            }
        }
        if !(0.0..=1.0).contains(reserve_for_critical) {
            self.note(block, "limits", "reserve_for_critical", "give a share between 0 and 1");
        }
        for tool in tools.keys() {
            self.tool(block, "limits.tools", tool, tool);
            if mcp::tool(tool).is_some_and(|(_, tier)| tier == Tier::ReadOnly) {
                self.note(block, "limits.tools", tool, "only reads: limits.tool_calls_per_incident bounds all reads");
            }
        }
    }
}

/// The keys of `limits` that a decision may name.
const LIMIT_KEYS: &[&str] = &["writes_per_hour", "writes_per_incident", "tool_calls_per_incident", "tools", "callers"];

pub(in crate::govern) fn is_user(who: &str) -> bool {
    who.starts_with(['U', 'W']) && who.len() > 2 && who.len() <= ID_MAX_CHARS && is_id(who)
}

fn is_person(who: &str) -> bool {
    let group = who.strip_prefix("group:");
    is_user(who) || group.is_some_and(|id| id.starts_with('S') && id.len() > 2 && id.len() <= ID_MAX_CHARS && is_id(id))
}

fn is_id(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
}
