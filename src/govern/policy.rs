//! The policy: a YAML file checked at start; every decision is pure and names its rule.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::model::{Approval, ApprovalState, ObjectRef, Tier, Verdict};
use crate::redact::Redacted;
use crate::text;

/// Who may approve what, and what nobody may. The default: nobody may approve anything.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    pub approvers: Vec<Approvers>,
    pub deny: Vec<Deny>,
    pub limits: Limits,
}

/// These people may approve these tiers in these namespaces.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approvers {
    /// Slack user ids (`U...`) and user groups (`group:S...`).
    pub who: Vec<String>,
    pub tiers: Vec<Tier>,
    /// Names, or prefixes ending in `*`.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// Cluster-scoped objects; `*` never means them.
    #[serde(default)]
    pub cluster: bool,
    /// Different people that must say yes.
    #[serde(default = "one")]
    pub people: u32,
}

fn one() -> u32 {
    1
}

/// Objects that nobody may change through firstlook: all given conditions must match.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deny {
    #[serde(default)]
    pub namespaces: Vec<String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub tools: Vec<String>,
}

/// Bounds; each has a default.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub writes_per_hour: u32,
    pub tool_calls_per_incident: u32,
    pub model_turns_per_incident: u32,
    /// From an investigation's first turn to the last that may begin, by the clock on the wall.
    pub minutes_per_incident: u32,
    pub tokens_per_day: u64,
    /// The share of `tokens_per_day` that only critical and high incidents may use.
    pub reserve_for_critical: f64,
    /// How long a request for leave waits for an answer.
    pub approval_minutes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Six: more than one person approves in an hour with care.
            writes_per_hour: 6,
            // The deepest recorded investigations took 25 calls.
            tool_calls_per_incident: 40,
            model_turns_per_incident: 12,
            // All turns of a slow model (a minute each) and room for retries; later a person has found it, or gone on.
            minutes_per_incident: 15,
            // About 100 investigations of 20,000 tokens.
            tokens_per_day: 2_000_000,
            reserve_for_critical: 0.3,
            // Longer, and the picture that the person was shown is no longer true.
            approval_minutes: 30,
        }
    }
}

/// A policy file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {what}")]
pub struct PolicyError {
    pub file: String,
    pub what: String,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    pub tool: &'a str,
    pub tier: Tier,
    /// None for a read that has no single object.
    pub object: Option<&'a ObjectRef>,
    pub labels: &'a BTreeMap<String, Redacted>,
}

/// What has been used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub writes_last_hour: u32,
    pub calls_of_incident: u32,
}

impl Policy {
    /// Reads and checks a policy file's text; `file` is for the error.
    ///
    /// # Errors
    /// The first thing that is wrong, with line and key.
    pub fn parse(yaml: &str, file: &str) -> Result<Self, PolicyError> {
        let fail = |what: String| PolicyError { file: file.to_owned(), what };
        let policy: Self = serde_saphyr::from_str(yaml).map_err(|e| fail(e.to_string()))?;
        for (i, rule) in policy.approvers.iter().enumerate() {
            let here = format!("approvers[{i}]");
            if rule.who.is_empty() || rule.tiers.is_empty() {
                return Err(fail(format!("{here}: `who` and `tiers` may not be empty")));
            }
            if rule.tiers.contains(&Tier::ReadOnly) {
                return Err(fail(format!("{here}.tiers: read-only needs no approval")));
            }
            if rule.namespaces.is_empty() && !rule.cluster {
                return Err(fail(format!("{here}: give `namespaces` (\"*\" for all) or `cluster: true`")));
            }
            if let Some(who) = rule.who.iter().find(|who| !is_person(who)) {
                return Err(fail(format!("{here}.who: `{who}` is neither a user id (U...) nor a group (group:S...)")));
            }
            if rule.people == 0 || (rule.people as usize > rule.who.len() && rule.who.iter().all(|w| is_user(w))) {
                return Err(fail(format!("{here}.people: {} of {} named people", rule.people, rule.who.len())));
            }
            if let Some(bad) = rule.namespaces.iter().find(|pattern| !is_pattern(pattern)) {
                return Err(fail(format!("{here}.namespaces: `{bad}`: a `*` may stand only at the end")));
            }
        }
        for (i, rule) in policy.deny.iter().enumerate() {
            if rule.namespaces.is_empty() && rule.labels.is_empty() && rule.tools.is_empty() {
                return Err(fail(format!("deny[{i}]: give `namespaces`, `labels` or `tools`")));
            }
            if let Some(bad) = rule.namespaces.iter().find(|pattern| !is_pattern(pattern)) {
                return Err(fail(format!("deny[{i}].namespaces: `{bad}`: a `*` may stand only at the end")));
            }
        }
        if !(0.0..=1.0).contains(&policy.limits.reserve_for_critical) {
            return Err(fail("limits.reserve_for_critical: a share between 0 and 1".into()));
        }
        Ok(policy)
    }
}

fn is_user(who: &str) -> bool {
    who.starts_with(['U', 'W']) && who.len() > 2 && who.chars().all(|c| c.is_ascii_alphanumeric())
}

fn is_person(who: &str) -> bool {
    let group = who.strip_prefix("group:S").is_some_and(|id| id.chars().all(|c| c.is_ascii_alphanumeric()));
    is_user(who) || group
}

fn is_pattern(pattern: &str) -> bool {
    !pattern.is_empty() && !pattern[..pattern.len() - 1].contains('*')
}

/// How closely a pattern names a namespace: None if not at all; an exact name is closest, then the longest prefix.
fn closeness(pattern: &str, namespace: &str) -> Option<usize> {
    match pattern.strip_suffix('*') {
        Some(prefix) => namespace.starts_with(prefix).then_some(prefix.len()),
        None => (pattern == namespace).then_some(usize::MAX),
    }
}

/// Whether a call may run, needs leave, or is refused.
pub fn decide(policy: &Policy, ask: &Ask<'_>, usage: &Usage) -> Verdict {
    let limits = &policy.limits;
    if ask.tier == Tier::ReadOnly {
        if usage.calls_of_incident >= limits.tool_calls_per_incident {
            return Verdict::Deny {
                rule: Redacted::literal("limits.tool_calls_per_incident"),
                why: text!("all {} tool calls of this incident are used", limits.tool_calls_per_incident),
            };
        }
        return Verdict::Run;
    }
    let Some(object) = ask.object else {
        let why = Redacted::literal("a change needs one exact object");
        return Verdict::Deny { rule: Redacted::literal("built in"), why };
    };
    if let Some((i, rule)) = policy.deny.iter().enumerate().find(|(_, rule)| rule.matches(ask, object)) {
        return Verdict::Deny { rule: text!("deny[{}]", i), why: rule.says(object) };
    }
    if usage.writes_last_hour >= limits.writes_per_hour {
        return Verdict::Deny {
            rule: Redacted::literal("limits.writes_per_hour"),
            why: text!("{} changes were made within the last hour, which is the limit", usage.writes_last_hour),
        };
    }
    match policy.approvers_for(ask.tier, object) {
        Some((i, rule)) => Verdict::Ask {
            rule: text!("approvers[{}]", i),
            people: rule.people,
            approvers: rule.who.iter().map(|who| person(who)).collect(),
        },
        None => Verdict::Nobody { missing: missing(ask.tier, object) },
    }
}

fn missing(tier: Tier, object: &ObjectRef) -> Redacted {
    match &object.namespace {
        Some(namespace) => text!("add approvers for {} in `{}` in the policy", tier, namespace),
        None => text!("add approvers for {} with `cluster: true` in the policy", tier),
    }
}

/// A policy's entry as text for the card; its shape was checked when the file was read.
fn person(who: &str) -> Redacted {
    crate::redact::Redactor::default().redact(who)
}

impl Policy {
    /// The rule that applies alone: the most specific of those that match, of equals the one with more people.
    fn approvers_for(&self, tier: Tier, object: &ObjectRef) -> Option<(usize, &Approvers)> {
        let fits = |rule: &Approvers| {
            if !rule.tiers.contains(&tier) {
                return None;
            }
            match &object.namespace {
                Some(namespace) => rule.namespaces.iter().filter_map(|p| closeness(p, namespace.as_str())).max(),
                None => rule.cluster.then_some(0),
            }
        };
        let matching =
            self.approvers.iter().enumerate().filter_map(|(i, rule)| Some((fits(rule)?, rule.people, i, rule)));
        // Of full equals the first in the file: `max_by_key` keeps the last, so the index counts backwards.
        let best = matching.max_by_key(|(close, people, i, _)| (*close, *people, usize::MAX - i));
        best.map(|(_, _, i, rule)| (i, rule))
    }
}

impl Deny {
    fn matches(&self, ask: &Ask<'_>, object: &ObjectRef) -> bool {
        let namespace = self.namespaces.is_empty()
            || self.namespaces.iter().any(|pattern| closeness(pattern, object.namespace()).is_some());
        let labels =
            self.labels.iter().all(|(key, value)| ask.labels.get(key).is_some_and(|have| have.as_str() == value));
        let tool = self.tools.is_empty() || self.tools.iter().any(|tool| tool == ask.tool);
        namespace && labels && tool
    }

    fn says(&self, object: &ObjectRef) -> Redacted {
        if !self.labels.is_empty() {
            text!("{} carries a label that the policy protects", object)
        } else if !self.tools.is_empty() {
            text!("the policy forbids this tool for {}", object)
        } else {
            text!("the policy forbids changes to {}", object)
        }
    }
}

/// The members of each user group, or why they are not known (then nobody counts as a member).
pub type Groups = BTreeMap<String, Option<BTreeSet<String>>>;

/// What a press of a button means.
#[derive(Clone, Debug, PartialEq)]
pub enum PressVerdict {
    /// Yes, and more people are needed.
    Counted {
        so_far: u32,
        needed: u32,
    },
    /// Yes, and now it is approved.
    Approved,
    Rejected,
    /// This person already said yes.
    Twice,
    /// The approval no longer waits for an answer.
    Stale(ApprovalState),
    /// Not one of the approvers; who may is named.
    NotAllowed {
        may: Vec<Redacted>,
    },
    /// Slack did not say who is in the group: nobody is let in.
    CannotTell {
        group: Redacted,
    },
}

/// Judges one press by `user`. Whoever may approve may reject; a reject counts at once.
pub fn press(approval: &Approval, user: &str, yes: bool, groups: &Groups) -> PressVerdict {
    if approval.state != ApprovalState::Pending {
        return PressVerdict::Stale(approval.state);
    }
    let mut unknown = None;
    let mut allowed = false;
    for who in &approval.approvers {
        match who.as_str().strip_prefix("group:") {
            None => allowed |= who.as_str() == user,
            Some(group) => match groups.get(group) {
                Some(Some(members)) => allowed |= members.contains(user),
                Some(None) | None => unknown = Some(who.clone()),
            },
        }
    }
    if !allowed {
        return match unknown {
            Some(group) => PressVerdict::CannotTell { group },
            None => PressVerdict::NotAllowed { may: approval.approvers.clone() },
        };
    }
    if !yes {
        return PressVerdict::Rejected;
    }
    if approval.presses.iter().any(|press| press.yes && press.user.as_str() == user) {
        return PressVerdict::Twice;
    }
    let so_far = approval.presses.iter().filter(|press| press.yes).count() as u32 + 1;
    if so_far >= approval.people_needed {
        PressVerdict::Approved
    } else {
        PressVerdict::Counted { so_far, needed: approval.people_needed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    const POLICY: &str = r#"
approvers:
  - {who: [U024BE7LH, "group:S0614TZR7"], tiers: [reversible], namespaces: ["shop-*"]}
  - {who: ["group:S0614TZR7"], tiers: [reversible, destructive], namespaces: ["*"], people: 2}
  - {who: [U0000000A], tiers: [reversible], namespaces: [shop-eu]}
deny:
  - {namespaces: [kube-system, firstlook]}
  - {labels: {firstlook.dev/protected: "true"}}
limits: {writes_per_hour: 2}
"#;

    fn ask_for(namespace: Option<&str>, labels: &[(&str, &'static str)], writes: u32) -> Verdict {
        let policy = Policy::parse(POLICY, "policy.yaml").unwrap();
        let kind = if namespace.is_some() { Kind::Deployment } else { Kind::Node };
        let object = ObjectRef::new(kind, namespace, "checkout").unwrap();
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), Redacted::literal(value))).collect();
        let ask = Ask { tool: "rollout_undo", tier: Tier::Reversible, object: Some(&object), labels: &labels };
        decide(&policy, &ask, &Usage { writes_last_hour: writes, calls_of_incident: 0 })
    }

    #[track_caller]
    fn check(verdict: Verdict, word: &str, said: &str) {
        assert_eq!(verdict.as_str(), word, "{verdict:?}");
        assert!(format!("{verdict:?}").contains(said), "{verdict:?}");
    }

    #[test]
    fn the_most_specific_rule_applies_alone() {
        check(ask_for(Some("shop-de"), &[], 0), "ask", "approvers[0]");
        check(ask_for(Some("billing"), &[], 0), "ask", "people: 2");
        check(ask_for(Some("shop-eu"), &[], 0), "ask", "approvers[2]");
    }

    #[test]
    fn a_deny_wins_however_general_the_leave() {
        check(ask_for(Some("kube-system"), &[], 0), "deny", "deny[0]");
        check(ask_for(Some("shop-de"), &[("firstlook.dev/protected", "true")], 0), "deny", "deny[1]");
        check(ask_for(Some("shop-de"), &[], 2), "deny", "limits.writes_per_hour");
        check(ask_for(None, &[], 0), "nobody", "cluster: true");
    }

    #[test]
    fn without_a_policy_nobody_may_approve() {
        let object = ObjectRef::new(Kind::Deployment, Some("shop"), "checkout").unwrap();
        let labels = BTreeMap::new();
        let ask = Ask { tool: "rollout_undo", tier: Tier::Reversible, object: Some(&object), labels: &labels };
        check(decide(&Policy::default(), &ask, &Usage::default()), "nobody", "shop");
    }

    #[test]
    fn a_wrong_policy_is_refused_with_its_place() {
        for (yaml, said) in [
            ("approvers:\n  - {who: [bob], tiers: [reversible], namespaces: [a]}", "`bob`"),
            ("approvers:\n  - {who: [U024BE7LH], tiers: [reversible]}", "approvers[0]"),
            ("approvers:\n  - {who: [U024BE7LH], tiers: [read-only], namespaces: [a]}", "read-only"),
            ("approvers:\n  - {who: [U024BE7LH], tiers: [reversible], namespaces: ['*-eu']}", "`*-eu`"),
            ("approvers:\n  - {who: [U024BE7LH], tiers: [reversible], namespaces: [a], people: 2}", "people"),
            ("freezes: []", "freezes"),
            ("deny: [{}]", "deny[0]"),
        ] {
            let error = Policy::parse(yaml, "policy.yaml").unwrap_err().to_string();
            assert!(error.starts_with("policy.yaml: ") && error.contains(said), "{error}");
        }
    }
}
