//! One decision: whether a call may run, needs leave, or is refused, by which rule. Pure and total.

use jiff::Timestamp;

use crate::govern::policy::file::{Allow, Approvers, Deny, Policy};
use crate::govern::policy::pattern;
use crate::govern::policy::place::Placed;
use crate::mcp::Labelled;
use crate::model::{Caller, Name, ObjectRef, Severity, Tier, Verdict};
use crate::redact::{Redacted, Redactor};
use crate::text;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    pub tool: &'a str,
    /// The tier as compiled in; the policy may raise it.
    pub tier: Tier,
    /// None for a read that has no single object.
    pub object: Option<&'a ObjectRef>,
    /// Where a read looks, if in one namespace.
    pub namespace: Option<&'a str>,
    /// Other namespaces whose pods the change moves (a drain's) or whose alert it silences; each is judged as the object is.
    pub also: &'a [Name],
    /// The labels of all that the change touches; a rule by labels matches if one of these carries them all.
    pub labels: &'a [Labelled],
    /// The incident's.
    pub severity: Severity,
    pub caller: &'a Caller,
    pub now: Timestamp,
}

/// What has been used before this call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Changes begun within the last hour: in the cluster, and by this tool.
    pub writes_last_hour: u32,
    pub tool_last_hour: u32,
    /// Changes begun for this incident, all and by this tool.
    pub writes_of_incident: u32,
    pub tool_of_incident: u32,
    /// Reads of this incident.
    pub calls_of_incident: u32,
    /// What this outside caller has asked for within the last hour: reads for a read, changes for a change.
    pub caller_last_hour: u32,
}

/// Whether a call may run, needs leave, or is refused.
pub fn decide(policy: &Policy, ask: &Ask<'_>, usage: &Usage) -> Verdict {
    if policy.tier_of(ask.tool, ask.tier) == Tier::ReadOnly {
        return policy.denies_read(ask).or_else(|| policy.bounds_read(ask, usage)).unwrap_or(Verdict::Run);
    }
    let Some(object) = ask.object else {
        return deny("built in".into(), "a change needs one exact object".into());
    };
    let places: Vec<Option<&str>> = std::iter::once(object.namespace.as_ref())
        .chain(ask.also.iter().map(Some))
        .map(|name| name.map(Name::as_str))
        .collect();
    for place in &places {
        let refused = policy.denies(ask, object, *place).or_else(|| policy.disallows(ask, object, *place));
        if let Some(no) = refused.or_else(|| policy.freezes(ask, *place)) {
            return no;
        }
    }
    policy.bounds_write(ask, usage).unwrap_or_else(|| policy.asks(ask, object, &places))
}

/// `approvers[0] (line 3)`.
pub(super) fn named(list: &'static str, index: usize, line: u32) -> Redacted {
    if line == 0 { text!("{}[{}]", list, index) } else { text!("{}[{}] (line {})", list, index, line) }
}

/// A policy's entry as text for the card; its shape was checked when the file was read.
pub(super) fn shown(entry: &str) -> Redacted {
    Redactor::default().redact(entry)
}

fn deny(rule: Redacted, why: Redacted) -> Verdict {
    Verdict::Deny { rule, why }
}

impl Policy {
    /// A read is denied only by a rule that names its tool, and none that asks for labels.
    fn denies_read(&self, ask: &Ask<'_>) -> Option<Verdict> {
        let namespace = ask.namespace.or_else(|| ask.object.map(ObjectRef::namespace)).unwrap_or_default();
        let matches = |rule: &Deny| {
            rule.tools.iter().any(|tool| tool == ask.tool)
                && rule.labels.is_empty()
                && (rule.namespaces.is_empty() || pattern::closest(&rule.namespaces, namespace).is_some())
        };
        let (i, rule) = self.deny.iter().enumerate().find(|(_, rule)| matches(rule))?;
        Some(deny(named("deny", i, rule.line), "the policy forbids this read".into()))
    }

    fn denies<'a>(&'a self, ask: &Ask<'a>, object: &ObjectRef, place: Option<&str>) -> Option<Verdict> {
        let matching = |(i, rule): (usize, &'a Placed<Deny>)| Some((i, rule, rule.matches(ask, place)?));
        let (i, rule, by) = self.deny.iter().enumerate().find_map(matching)?;
        let why = if let By::Label(carries) = by {
            text!("{} carries a label that the policy protects", carries)
        } else if place == object.namespace.as_ref().map(Name::as_str) {
            rule.says(object)
        } else {
            let does = match ask.tool {
                "silence_alert" | "expire_silence" => "change who hears of alerts",
                _ => "move pods",
            };
            text!("it would {} of namespace {}, which the policy forbids", does, shown(place.unwrap_or_default()))
        };
        Some(deny(named("deny", i, rule.line), why))
    }

    fn disallows(&self, ask: &Ask<'_>, object: &ObjectRef, place: Option<&str>) -> Option<Verdict> {
        if self.allow.is_empty() || self.allow.iter().any(|rule| rule.matches(ask, place)) {
            return None;
        }
        let why = match place {
            Some(place) => text!("no `allow` of the policy names {} in namespace {}", ask_tool(ask), shown(place)),
            None => text!("no `allow` of the policy with `cluster: true` names {} for {}", ask_tool(ask), object),
        };
        Some(deny("allow".into(), why))
    }

    fn freezes(&self, ask: &Ask<'_>, place: Option<&str>) -> Option<Verdict> {
        let holds = |(i, rule): (usize, &super::Placed<super::Freeze>)| {
            rule.holds(place, ask.severity, ask.now).map(|until| (i, rule.line, until))
        };
        let (i, line, until) = self.freeze.iter().enumerate().find_map(holds)?;
        let why = match until {
            Some(until) => text!("changes are frozen until {}", until),
            None => "changes are frozen".into(),
        };
        Some(deny(named("freeze", i, line), why))
    }

    /// The limit's rule, with its line where the file sets it.
    fn limit(&self, key: &'static str) -> Redacted {
        match self.limit_lines.get(key) {
            Some(line) => text!("limits.{} (line {})", key, *line),
            None => text!("limits.{} (default)", key),
        }
    }

    fn bounds_read(&self, ask: &Ask<'_>, usage: &Usage) -> Option<Verdict> {
        let limits = &self.limits;
        if usage.calls_of_incident >= limits.tool_calls_per_incident {
            let why = text!("all {} tool calls of this incident are used", limits.tool_calls_per_incident);
            return Some(deny(self.limit("tool_calls_per_incident"), why));
        }
        let Caller::Client { name, .. } = ask.caller else { return None };
        let max = limits.of_caller(name.as_str()).calls_per_hour?;
        let reached = usage.caller_last_hour >= max;
        reached.then(|| {
            deny(self.limit("callers"), text!("{} has made {} calls within the last hour, the limit", name, max))
        })
    }

    fn bounds_write(&self, ask: &Ask<'_>, usage: &Usage) -> Option<Verdict> {
        let limits = &self.limits;
        if usage.writes_last_hour >= limits.writes_per_hour {
            let why = text!("{} changes were made within the last hour, which is the limit", usage.writes_last_hour);
            return Some(deny(self.limit("writes_per_hour"), why));
        }
        if usage.writes_of_incident >= limits.writes_per_incident {
            let why = text!("{} changes were made for this incident, which is the limit", usage.writes_of_incident);
            return Some(deny(self.limit("writes_per_incident"), why));
        }
        if let Some(no) = self.bounds_tool(ask, usage) {
            return Some(no);
        }
        let Caller::Client { name, .. } = ask.caller else { return None };
        let max = limits.of_caller(name.as_str()).writes_per_hour?;
        let why = || text!("{} has asked for {} changes within the last hour, the limit", name, max);
        (usage.caller_last_hour >= max).then(|| deny(self.limit("callers"), why()))
    }

    fn bounds_tool(&self, ask: &Ask<'_>, usage: &Usage) -> Option<Verdict> {
        let limits = self.limits.tools.get(ask.tool)?;
        let reached = |max: Option<u32>, used: u32| max.filter(|max| used >= *max);
        let why = if let Some(max) = reached(limits.per_hour, usage.tool_last_hour) {
            text!("{} changes by {} within the last hour, which is its limit", max, ask_tool(ask))
        } else {
            let max = reached(limits.per_incident, usage.tool_of_incident)?;
            text!("{} changes by {} in this incident, which is its limit", max, ask_tool(ask))
        };
        Some(deny(self.limit("tools"), why))
    }

    /// Who is to be asked: for several places those who may approve in each of them, and the greatest number of people.
    fn asks(&self, ask: &Ask<'_>, object: &ObjectRef, places: &[Option<&str>]) -> Verdict {
        let tier = self.tier_of(ask.tool, ask.tier);
        let mut all: Option<(Redacted, u32, Vec<String>)> = None;
        for place in places {
            let Some((i, rule)) = self.approvers_for(tier, *place) else {
                return Verdict::Nobody { missing: missing(tier, *place) };
            };
            all = Some(match all {
                None => (named("approvers", i, rule.line), rule.people, rule.who.clone()),
                Some((named_by, people, who)) => {
                    let both = who.into_iter().filter(|who| rule.who.contains(who)).collect();
                    (named_by, people.max(rule.people), both)
                }
            });
        }
        match all {
            Some((rule, people, who)) if !who.is_empty() => {
                Verdict::Ask { rule, people, approvers: who.iter().map(|who| shown(who)).collect() }
            }
            _ => Verdict::Nobody {
                missing: text!("no one approver stands in the rules of all namespaces that {} touches", object),
            },
        }
    }

    /// The rule that applies alone: the most specific of those that match, of equals the one with more people.
    pub(super) fn approvers_for(&self, tier: Tier, place: Option<&str>) -> Option<(usize, &super::Placed<Approvers>)> {
        let fits = |rule: &Approvers| {
            if !rule.tiers.contains(&tier) {
                return None;
            }
            match place {
                Some(namespace) => pattern::closest(&rule.namespaces, namespace),
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

fn ask_tool(ask: &Ask<'_>) -> Redacted {
    shown(ask.tool).one_line().cut(60)
}

fn missing(tier: Tier, place: Option<&str>) -> Redacted {
    match place {
        Some(namespace) => text!("add approvers for {} in `{}` in the policy", tier, shown(namespace)),
        None => text!("add approvers for {} with `cluster: true` in the policy", tier),
    }
}

/// What of a change a rule matches.
enum By<'a> {
    Place,
    /// The object that carries its labels.
    Label(&'a ObjectRef),
}

impl Deny {
    fn matches<'a>(&self, ask: &Ask<'a>, place: Option<&str>) -> Option<By<'a>> {
        let namespace = self.namespaces.is_empty()
            || place.is_some_and(|place| pattern::closest(&self.namespaces, place).is_some());
        let tool = self.tools.is_empty() || self.tools.iter().any(|tool| tool == ask.tool);
        if !namespace || !tool {
            return None;
        }
        if self.labels.is_empty() {
            return Some(By::Place);
        }
        let here = |one: &&Labelled| one.object.namespace.as_ref().map(Name::as_str) == place;
        let carries = |one: &&Labelled| self.labels.iter().all(|(key, value)| has_label(one, key, value));
        ask.labels.iter().filter(here).find(carries).map(|one| By::Label(&one.object))
    }

    fn says(&self, object: &ObjectRef) -> Redacted {
        if !self.tools.is_empty() {
            text!("the policy forbids this tool for {}", object)
        } else {
            text!("the policy forbids changes to {}", object)
        }
    }
}

impl Allow {
    fn matches(&self, ask: &Ask<'_>, place: Option<&str>) -> bool {
        let here = match place {
            Some(namespace) => pattern::closest(&self.namespaces, namespace).is_some(),
            None => self.cluster,
        };
        here && (self.tools.is_empty() || self.tools.iter().any(|tool| tool == ask.tool))
    }
}

/// Whether an object carries a label. What was read of the object was masked where its key or value looks like a secret;
/// what stands in the policy is masked likewise before the two are held to be different.
fn has_label(one: &Labelled, key: &str, value: &str) -> bool {
    one.labels
        .get(key)
        .is_some_and(|have| have.as_str() == value || *have == Redactor::default().redact_value(key, value))
}
