//! Calls: one tool call, who asked, what the gate decided, what came of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::ids::{CallId, EvidenceId, IncidentId};
use crate::model::tier::Tier;
use crate::redact::Redacted;

/// One tool call; always audited.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    pub id: CallId,
    pub incident: IncidentId,
    pub caller: Caller,
    pub tool: String,
    /// The arguments as JSON.
    pub arguments: Redacted,
    pub tier: Tier,
    pub verdict: Verdict,
    pub called_at: Timestamp,
    pub outcome: CallOutcome,
}

/// Who asks. It belongs to the connection, never to a field of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Caller {
    /// The investigation's own agent.
    Agent,
    /// A proposal made by the findings, without a model.
    Findings,
    /// A person pressed a button (Undo, Ask again).
    Person { user: Redacted },
    /// An outside MCP client's token, by name.
    Client {
        name: Redacted,
        /// Slack's id of the person that the token stands for.
        #[serde(default)]
        person: Option<Redacted>,
        /// What the program calls itself (`clientInfo`): shown, never trusted.
        #[serde(default)]
        program: Option<Redacted>,
    },
}

impl Caller {
    /// Whether both are the same caller: of a token its name alone counts, whatever program used it.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Client { name, .. }, Self::Client { name: same, .. }) => name == same,
            _ => self == other,
        }
    }
}

/// What the gate decided, with the rule that decided it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// May run now (reads only).
    Run,
    /// Needs leave from a person.
    Ask {
        rule: Redacted,
        people: u32,
        approvers: Vec<Redacted>,
    },
    /// Nobody may approve it: no rule matches.
    Nobody {
        missing: Redacted,
    },
    Deny {
        rule: Redacted,
        why: Redacted,
    },
}

impl Verdict {
    /// The word used in metrics and audit.
    pub fn as_str(&self) -> &'static str {
        match self {
            Verdict::Run => "run",
            Verdict::Ask { .. } => "ask",
            Verdict::Nobody { .. } => "nobody",
            Verdict::Deny { .. } => "deny",
        }
    }
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallOutcome {
    Read { evidence: EvidenceId },
    Failed { why: Redacted },
    NotRun,
}
