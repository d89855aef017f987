//! The policy file's shape: what may be written in it, as serde and its JSON Schema know it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::govern::policy::freeze::Freeze;
use crate::govern::policy::leave::StandingLeave;
use crate::govern::policy::place::Placed;
use crate::model::Tier;

/// Who may approve what, and what nobody may. The default: nobody may approve anything.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "firstlook's policy")]
pub struct Policy {
    /// Raises the tier of a tool; none can be lowered. It says who is asked; the account that writes stays the tool's own.
    pub tiers: BTreeMap<String, Placed<Tier>>,
    /// Where changes are possible at all; without the key wherever nothing denies them.
    #[serde(deserialize_with = "not_empty")]
    #[schemars(length(min = 1))]
    pub allow: Vec<Placed<Allow>>,
    /// Who may approve which tiers where. The most specific rule that matches applies alone; of equals the one that
    /// wants more people.
    pub approvers: Vec<Placed<Approvers>>,
    /// What nobody may change through firstlook. Any match wins, however general.
    pub deny: Vec<Placed<Deny>>,
    /// When nothing is changed. Any match wins.
    pub freeze: Vec<Placed<Freeze>>,
    /// Leave given in advance by one person; it counts as that person's approval.
    pub standing_leave: Vec<Placed<StandingLeave>>,
    pub limits: Limits,
    /// The line of each key under `limits` that the file sets.
    #[serde(skip)]
    pub(super) limit_lines: BTreeMap<String, u32>,
}

/// Objects that may be changed; all given conditions must match.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Allow {
    /// Names, or prefixes ending in `*`.
    #[serde(default, deserialize_with = "not_empty")]
    #[schemars(length(min = 1))]
    pub namespaces: Vec<String>,
    /// Objects without a namespace (nodes); `*` never means them.
    #[serde(default)]
    pub cluster: bool,
    /// These tools alone; without the key all of them.
    #[serde(default, deserialize_with = "not_empty")]
    #[schemars(length(min = 1))]
    pub tools: Vec<String>,
}

/// These people may approve these tiers in these namespaces.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
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

/// A list that is written down and empty says the opposite of what it looks like: without the key there is no condition.
pub(super) fn not_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let list = Vec::deserialize(deserializer)?;
    if list.is_empty() {
        return Err(D::Error::custom("an empty list; name something, or remove the key"));
    }
    Ok(list)
}

fn one() -> u32 {
    1
}

/// What nobody may do through firstlook: all given conditions must match. A read is denied only by a rule that names
/// its tool.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deny {
    /// Names, or prefixes ending in `*`.
    #[serde(default, deserialize_with = "not_empty")]
    #[schemars(length(min = 1))]
    pub namespaces: Vec<String>,
    /// Labels that an object carries.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "not_empty")]
    #[schemars(length(min = 1))]
    pub tools: Vec<String>,
}

/// Bounds; each has a default, is counted in the store and survives a restart (but a caller's reads are counted by the
/// daemon alone).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Changes begun within an hour, in the whole cluster.
    pub writes_per_hour: u32,
    /// Changes begun for one incident.
    pub writes_per_incident: u32,
    pub tool_calls_per_incident: u32,
    pub model_turns_per_incident: u32,
    /// From an investigation's first turn to the last that may begin, by the clock on the wall.
    pub minutes_per_incident: u32,
    /// Within 24 hours, as all that is per day; input and output together.
    pub tokens_per_day: u64,
    /// Within 30 days, as all that is per month.
    pub tokens_per_month: Option<u64>,
    /// In the currency of `model.prices` in the configuration, where it has a price for the model.
    pub money_per_day: Option<f64>,
    pub money_per_month: Option<f64>,
    /// The share of each of these that only critical incidents may use.
    pub reserve_for_critical: f64,
    /// How long a request for leave waits for an answer.
    pub approval_minutes: u32,
    /// Bounds of single tools that change something, by name; `tool_calls_per_incident` bounds what only reads.
    pub tools: BTreeMap<String, ToolLimits>,
    /// Bounds of outside callers, by the name of their token; `*` is for each one what its own row does not say.
    pub callers: BTreeMap<String, CallerLimits>,
}

/// Bounds of one tool that changes something: of its runs.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ToolLimits {
    pub per_hour: Option<u32>,
    pub per_incident: Option<u32>,
}

/// Bounds of one outside caller.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CallerLimits {
    /// Reads within an hour.
    pub calls_per_hour: Option<u32>,
    /// Changes asked for within an hour.
    pub writes_per_hour: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Six: more than one person approves in an hour with care.
            writes_per_hour: 6,
            // A fault that four changes have not mended is not understood.
            writes_per_incident: 4,
            // The deepest recorded investigations took 25 calls.
            tool_calls_per_incident: 40,
            model_turns_per_incident: 12,
            // All turns of a slow model (a minute each) and room for retries; later a person has found it, or gone on.
            minutes_per_incident: 15,
            // About 100 investigations of 20,000 tokens.
            tokens_per_day: 2_000_000,
            // A month of such days is no budget of its own; money wants prices.
            tokens_per_month: None,
            money_per_day: None,
            money_per_month: None,
            reserve_for_critical: 0.3,
            // Longer, and the picture that the person was shown is no longer true.
            approval_minutes: 30,
            tools: BTreeMap::new(),
            callers: BTreeMap::new(),
        }
    }
}

impl Limits {
    /// Whether a budget counts money, which wants prices.
    pub fn counts_money(&self) -> bool {
        self.money_per_day.is_some() || self.money_per_month.is_some()
    }

    /// The bounds of an outside caller by its name: those of its own row, and of `*` what that does not say.
    pub fn of_caller(&self, name: &str) -> CallerLimits {
        let (own, all) = (self.callers.get(name), self.callers.get("*"));
        let bound = |of: fn(&CallerLimits) -> Option<u32>| own.and_then(of).or_else(|| all.and_then(of));
        CallerLimits {
            calls_per_hour: bound(|row| row.calls_per_hour),
            writes_per_hour: bound(|row| row.writes_per_hour),
        }
    }
}

impl Policy {
    /// Whether an approver is a group, whose members Slack must tell.
    pub fn names_groups(&self) -> bool {
        self.approvers.iter().any(|rule| rule.who.iter().any(|who| who.starts_with("group:")))
    }

    /// The file's JSON Schema.
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Policy).to_value()
    }

    /// The tier of a tool whose compiled one is `compiled`: the file may raise it, nothing lowers it.
    pub fn tier_of(&self, tool: &str, compiled: Tier) -> Tier {
        self.tiers.get(tool).map_or(compiled, |raised| raised.rule.max(compiled))
    }
}
