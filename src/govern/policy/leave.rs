//! Standing leave: one person's yes in advance, for one reversible tool in one namespace, until a date. Pure.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::govern::policy::decide::{Ask, named};
use crate::govern::policy::file::Policy;
use crate::model::{Caller, Name, Tier};
use crate::redact::{Redacted, Redactor};
use crate::text;

/// One person's leave, given in advance. It is used only where a finding, and not the model alone, supports the action.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StandingLeave {
    /// The Slack user id (`U...`) of the person in whose name it counts.
    pub by: String,
    /// One reversible tool.
    pub tool: String,
    /// One namespace by its whole name.
    pub namespace: String,
    /// The last day on which it counts, in UTC.
    #[schemars(with = "String", regex(pattern = r"^\d{4}-\d{2}-\d{2}$"))]
    pub until: Date,
    /// How often it may be used within an hour.
    pub per_hour: u32,
}

/// What the store knows of a standing leave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaveRecord {
    pub used_last_hour: u32,
    /// Why it is suspended, if it is.
    pub suspended: Option<Redacted>,
}

/// Whether a standing leave covers what is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Covering {
    /// None is given for this.
    None,
    /// It counts as the yes of this person.
    Covers { by: Redacted, rule: Redacted, key: String },
    /// One is given, but does not count now; why is for the card.
    NotNow { by: Redacted, rule: Redacted, why: Redacted },
}

impl StandingLeave {
    /// What makes it the same leave: whoever gives it again, gives it with another date. That is how a suspension is lifted, and
    /// no better look at the outcome lifts it: a leave is a person's edit of the policy.
    pub fn key(&self) -> String {
        format!("{} {} {} {}", self.by, self.tool, self.namespace, self.until)
    }

    /// When it ends; None when no such instant exists.
    pub fn ends_at(&self) -> Option<Timestamp> {
        let day_after = self.until.tomorrow().ok()?;
        Some(day_after.to_zoned(TimeZone::UTC).ok()?.timestamp())
    }

    /// Whether it is given for this tool in this namespace.
    pub fn is_for(&self, tool: &str, namespace: &str) -> bool {
        self.tool == tool && self.namespace == namespace
    }
}

/// Whether a standing leave counts for this change, which the policy has decided to ask for. `supported`: a finding
/// proposes it. `record` tells what the store knows of a leave.
pub fn covering(
    policy: &Policy,
    ask: &Ask<'_>,
    supported: bool,
    record: impl Fn(&StandingLeave) -> LeaveRecord,
) -> Covering {
    let Some(namespace) = ask.object.and_then(|object| object.namespace.as_ref()).map(Name::as_str) else {
        return Covering::None;
    };
    if policy.tier_of(ask.tool, ask.tier) != Tier::Reversible || !ask.also.is_empty() {
        return Covering::None;
    }
    let given = policy.standing_leave.iter().enumerate().filter(|(_, leave)| leave.is_for(ask.tool, namespace));
    let mut not_now = Covering::None;
    for (i, leave) in given {
        let (by, rule) = (Redactor::default().redact(&leave.by), named("standing_leave", i, leave.line));
        let known = record(leave);
        let why: Redacted = if leave.ends_at().is_none_or(|end| ask.now >= end) {
            "it has ended".into()
        } else if let Some(why) = known.suspended {
            text!("it is suspended because {}; to lift this, give it another `until` in the policy", why)
        } else if matches!(ask.caller, Caller::Client { .. }) {
            "it was asked for from outside: a person decides".into()
        } else if !supported {
            "no finding supports this step, only the model does".into()
        } else if known.used_last_hour >= leave.per_hour {
            text!("it was used {} times within the last hour, its limit", known.used_last_hour)
        } else {
            return Covering::Covers { by, rule, key: leave.key() };
        };
        if not_now == Covering::None {
            not_now = Covering::NotNow { by, rule, why };
        }
    }
    not_now
}
