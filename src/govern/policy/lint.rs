//! What in a policy is right and can hardly be meant: rules that never apply, leaves that give nothing, near names.

use jiff::Timestamp;

use crate::govern::policy::check::{Problem, problem};
use crate::govern::policy::file::{Allow, Approvers, Deny, Policy};
use crate::govern::policy::pattern;
use crate::govern::policy::place::Placed;
use crate::mcp;
use crate::model::Tier;

/// The callers that need no entry: whoever sits at the machine itself.
const OF_THIS_MACHINE: [&str; 2] = ["stdio", "loopback"];

impl Policy {
    /// What is right and can hardly be meant: rules that can never apply, leaves that give nothing, near names.
    pub fn warnings(&self, now: Timestamp) -> Vec<Problem> {
        let mut found = Vec::new();
        self.warn_shadowed(&mut found);
        self.warn_leaves(now, &mut found);
        self.warn_past(now, &mut found);
        self.warn_near(&mut found);
        found.sort();
        found
    }

    /// Tools of other MCP servers that are denied and that there are not among `listed`: a slip here denies nothing.
    pub fn unlisted(&self, listed: &[String]) -> Vec<Problem> {
        let mut found = Vec::new();
        for (i, rule) in self.deny.iter().enumerate() {
            let of_others = rule.tools.iter().filter(|tool| mcp::tool(tool).is_none() && !listed.contains(tool));
            for tool in of_others {
                let near = pattern::near(tool, listed.iter().map(String::as_str));
                let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
                let what = format!("`{tool}` is no tool that mcp_servers of the configuration lists{hint}");
                found.push(problem(rule.line, format!("deny[{i}].tools"), what));
            }
        }
        found
    }

    /// Why no person can ever have a change by this tool made, if none can: what it would need is not to be granted.
    /// `on_cluster`: what it changes lives in no namespace.
    pub fn never(&self, tool: &str, compiled: Tier, on_cluster: bool) -> Option<String> {
        let tier = self.tier_of(tool, compiled);
        let named = |tools: &[String]| tools.iter().any(|one| one == tool);
        let here = |namespaces: &[String], cluster: bool| if on_cluster { cluster } else { !namespaces.is_empty() };
        let denied = |rule: &&Placed<Deny>| rule.namespaces.is_empty() && rule.labels.is_empty() && named(&rule.tools);
        let allows = |rule: &Placed<Allow>| {
            here(&rule.namespaces, rule.cluster) && (rule.tools.is_empty() || named(&rule.tools))
        };
        let approves = |rule: &Placed<Approvers>| here(&rule.namespaces, rule.cluster) && rule.tiers.contains(&tier);
        if let Some(rule) = self.deny.iter().find(denied) {
            Some(format!("denied everywhere (line {})", rule.line))
        } else if !self.allow.is_empty() && !self.allow.iter().any(allows) {
            Some("no `allow` reaches it".to_owned())
        } else if !self.approvers.iter().any(approves) {
            let whose = if on_cluster { " with `cluster: true`" } else { "" };
            Some(format!("no approvers for {tier}{whose}"))
        } else {
            None
        }
    }

    /// Bounds of callers that there are not among `callers`: a slip here bounds nobody.
    pub fn uncalled(&self, callers: &[&str]) -> Vec<Problem> {
        let known = |row: &str| row == "*" || OF_THIS_MACHINE.contains(&row) || callers.contains(&row);
        let rows = self.limits.callers.keys().map(String::as_str).filter(|row| !known(row));
        let line = self.limit_lines.get("callers").copied().unwrap_or(1);
        let told = |row: &str| {
            let near = pattern::near(row, callers.iter().copied());
            let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            let what = format!("mcp_callers_file lists no such caller, so this bounds nobody{hint}");
            problem(line, format!("limits.callers.{row}"), what)
        };
        rows.map(told).collect()
    }

    fn warn_shadowed(&self, found: &mut Vec<Problem>) {
        for (i, rule) in self.approvers.iter().enumerate() {
            let wins = |other: &Approvers, earlier: bool| {
                other.people > rule.people || (other.people == rule.people && earlier)
            };
            let covered = |pattern: &String, tier: Tier| {
                let same = |(j, other): (usize, &Placed<Approvers>)| {
                    j != i && wins(other, j < i) && other.tiers.contains(&tier) && other.namespaces.contains(pattern)
                };
                self.approvers.iter().enumerate().any(same)
            };
            let cluster_taken = |tier: Tier| {
                let takes = |(j, other): (usize, &Placed<Approvers>)| {
                    j != i && wins(other, j < i) && other.tiers.contains(&tier) && other.cluster
                };
                self.approvers.iter().enumerate().any(takes)
            };
            let never = rule.tiers.iter().all(|tier| {
                rule.namespaces.iter().all(|pattern| covered(pattern, *tier)) && (!rule.cluster || cluster_taken(*tier))
            });
            if never {
                let what = "never applies: another rule names the same namespaces and tiers, and wins; remove one";
                found.push(problem(rule.line, format!("approvers[{i}]"), what));
            }
            for pattern in &rule.namespaces {
                let denied = self.deny.iter().enumerate().find(|(_, deny)| {
                    deny.labels.is_empty()
                        && deny.tools.is_empty()
                        && deny.namespaces.iter().any(|general| pattern::covers(general, pattern))
                });
                if let Some((d, _)) = denied {
                    let what = format!("`{pattern}` is denied whole by deny[{d}]: nobody can approve there");
                    found.push(problem(rule.line, format!("approvers[{i}].namespaces"), what));
                }
                let allowed = |allow: &Placed<Allow>| {
                    allow.namespaces.iter().any(|a| pattern::covers(a, pattern) || pattern::covers(pattern, a))
                };
                if !self.allow.is_empty() && !self.allow.iter().any(allowed) {
                    let what = format!("no `allow` reaches into `{pattern}`: nobody can approve there");
                    found.push(problem(rule.line, format!("approvers[{i}].namespaces"), what));
                }
            }
        }
        for (i, rule) in self.deny.iter().enumerate() {
            let same = |other: &Placed<Deny>| {
                other.labels == rule.labels && other.tools == rule.tools && other.namespaces == rule.namespaces
            };
            if self.deny[..i].iter().any(same) {
                found.push(problem(rule.line, format!("deny[{i}]"), "says the same as a rule before it; remove one"));
            }
            let reads = |tool: &String| mcp::tool(tool).is_none_or(|(_, tier)| tier == Tier::ReadOnly);
            if !rule.labels.is_empty() && rule.tools.iter().any(reads) {
                let what = "a read is not denied by labels: they are known only of what is changed";
                found.push(problem(rule.line, format!("deny[{i}].labels"), what));
            }
        }
    }

    fn warn_leaves(&self, now: Timestamp, found: &mut Vec<Problem>) {
        for (i, leave) in self.standing_leave.iter().enumerate() {
            let mut warn = |key: &str, what: String| {
                found.push(problem(leave.line, format!("standing_leave[{i}]{key}"), what));
            };
            if leave.ends_at().is_none_or(|end| now >= end) {
                warn(".until", "has ended; remove it, or give it again with a later date".to_owned());
            }
            let tier = self.tier_of(&leave.tool, mcp::tool(&leave.tool).map_or(Tier::Destructive, |(_, tier)| tier));
            match self.approvers_for(tier, Some(&leave.namespace)) {
                None => warn("", format!("gives nothing: no approvers for {tier} in `{}`", leave.namespace)),
                Some((a, rule)) if !rule.who.contains(&leave.by) => {
                    let groups: Vec<&str> =
                        rule.who.iter().filter(|who| who.starts_with("group:")).map(String::as_str).collect();
                    if groups.is_empty() {
                        warn(
                            ".by",
                            format!("gives nothing: {} is not among the approvers of approvers[{a}]", leave.by),
                        );
                    } else {
                        let groups = groups.join(", ");
                        warn(".by", format!("counts only while {} is in {groups} (approvers[{a}])", leave.by));
                    }
                }
                Some((a, rule)) if rule.people > 1 => {
                    let more = rule.people - 1;
                    warn(
                        "",
                        format!("counts as one of {} people (approvers[{a}]): {more} more must press", rule.people),
                    );
                }
                Some(_) => {}
            }
            let denied = self.deny.iter().position(|deny| {
                deny.labels.is_empty()
                    && (deny.tools.is_empty() || deny.tools.contains(&leave.tool))
                    && (deny.namespaces.is_empty() || pattern::closest(&deny.namespaces, &leave.namespace).is_some())
            });
            if let Some(d) = denied {
                warn("", format!("gives nothing: deny[{d}] forbids it"));
            }
            if self.standing_leave[..i].iter().any(|other| other.is_for(&leave.tool, &leave.namespace)) {
                warn("", "another leave for the same tool and namespace stands before it".to_owned());
            }
        }
    }

    fn warn_past(&self, now: Timestamp, found: &mut Vec<Problem>) {
        for (i, freeze) in self.freeze.iter().enumerate() {
            if freeze.window.as_ref().is_some_and(|window| window.is_past(now)) {
                found.push(problem(freeze.line, format!("freeze[{i}].until"), "this window is over; remove it"));
            }
        }
    }

    /// Whole names that differ by a keystroke or two within one file are rarely two namespaces.
    fn warn_near(&self, found: &mut Vec<Problem>) {
        let mut named: Vec<(&str, u32, String)> = Vec::new();
        for (i, rule) in self.approvers.iter().enumerate() {
            named.extend(whole(&rule.namespaces, rule.line, format!("approvers[{i}].namespaces")));
        }
        for (i, rule) in self.deny.iter().enumerate() {
            named.extend(whole(&rule.namespaces, rule.line, format!("deny[{i}].namespaces")));
        }
        for (i, rule) in self.allow.iter().enumerate() {
            named.extend(whole(&rule.namespaces, rule.line, format!("allow[{i}].namespaces")));
        }
        for (i, freeze) in self.freeze.iter().enumerate() {
            named.extend(whole(&freeze.namespaces, freeze.line, format!("freeze[{i}].namespaces")));
        }
        for (i, leave) in self.standing_leave.iter().enumerate() {
            named.push((&leave.namespace, leave.line, format!("standing_leave[{i}].namespace")));
        }
        for (name, line, key) in &named {
            if let Some(near) = pattern::near(name, named.iter().map(|(other, ..)| *other)) {
                found.push(problem(
                    *line,
                    key.clone(),
                    format!("`{name}` and `{near}` both stand here; is one a slip?"),
                ));
            }
        }
    }
}

fn whole(namespaces: &[String], line: u32, key: String) -> impl Iterator<Item = (&str, u32, String)> {
    namespaces.iter().filter(|name| !name.ends_with('*')).map(move |name| (name.as_str(), line, key.clone()))
}
