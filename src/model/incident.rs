//! Incidents: the signals of one fault, and how far its investigation is.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::action::Proposal;
use crate::model::ids::{ApprovalId, ClusterName, IncidentId, SignalId};
use crate::model::object::ObjectRef;
use crate::redact::{Redacted, Safe};

/// The fault of an incident that nothing was heard of: a caller from outside asked for a change of its subject.
pub const ASKED: &str = "asked";

/// The signals of one fault. Its identity is subject and fault, not an alert's name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    pub id: IncidentId,
    pub cluster: ClusterName,
    pub subject: ObjectRef,
    /// The class of fault: `workload`, `node`, `job`, `service`, `ingress`, `arrival`, ...
    pub fault: String,
    pub severity: Severity,
    /// What the severity is reckoned by.
    #[serde(default)]
    pub severity_why: Redacted,
    /// What the alert's own label says, where it says something.
    pub alert_severity: Option<Redacted>,
    pub state: IncidentState,
    /// When firstlook opened it.
    pub opened_at: Timestamp,
    /// When the trouble began, by the earliest signal.
    pub began_at: Timestamp,
    pub updated_at: Timestamp,
    /// When the subject was first seen unhealthy in this incident, and since when it has been healthy again.
    pub unhealthy_at: Option<Timestamp>,
    pub healthy_since: Option<Timestamp>,
    /// What the alert rules say of its alerts, once they were seen to raise one.
    #[serde(default)]
    pub listed: Option<Listed>,
    pub why: Vec<Why>,
    /// Other objects that signals of this incident are about (pods, nodes), at most 200.
    pub also: Vec<ObjectRef>,
    /// The object at fault, where that is not the subject itself, as it was last seen.
    #[serde(default)]
    pub cause: Option<Box<Cause>>,
    /// What it has its cause in that no incident is of: an image, a host, a ConfigMap.
    #[serde(default)]
    pub shares: Option<Box<Shared>>,
    /// The subject that it was opened for, where it and another turned out to have their fault in the present one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<ObjectRef>,
    /// The subject of one that it took in which is still in trouble when its own is not.
    #[serde(default)]
    pub waits_for: Option<ObjectRef>,
    /// Where it went, once it was seen to be the fault of another incident.
    #[serde(default)]
    pub absorbed_by: Option<Box<Merge>>,
    /// The incidents that it took in, at most 50.
    #[serde(default)]
    pub absorbed: Vec<Merge>,
    pub investigation: Investigation,
}

impl Incident {
    /// The subjects whose incidents it has become beside that of its own: what it was opened for, and what it took in.
    pub fn took_in(&self) -> impl DoubleEndedIterator<Item = &ObjectRef> {
        self.was.iter().chain(self.absorbed.iter().map(|merge| &merge.subject))
    }

    /// One that begins now, of which nothing but its subject and fault is known.
    pub fn opened(cluster: ClusterName, subject: ObjectRef, fault: &str, now: Timestamp) -> Self {
        Self {
            id: IncidentId::fresh(),
            cluster,
            subject,
            fault: fault.to_owned(),
            severity: Severity::None,
            severity_why: Redacted::default(),
            alert_severity: None,
            state: IncidentState::Open,
            opened_at: now,
            began_at: now,
            updated_at: now,
            unhealthy_at: None,
            healthy_since: None,
            listed: None,
            why: Vec::new(),
            also: Vec::new(),
            cause: None,
            shares: None,
            was: None,
            waits_for: None,
            absorbed_by: None,
            absorbed: Vec::new(),
            investigation: Investigation::unbegun(InvestigationState::Off),
        }
    }
}

/// An object that explains the trouble of another, with the sentence why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    pub object: ObjectRef,
    pub because: Redacted,
    /// A model says so; else an edge of the scene or a finding does.
    #[serde(default)]
    pub by_model: bool,
}

/// A cause that others may have too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shared {
    /// Equal texts are the same thing.
    pub what: Redacted,
    pub because: Redacted,
}

/// How bad an incident is, and what that is reckoned by.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    pub severity: Severity,
    /// `1 of 4 pods ready`, in at most 80 characters.
    pub why: Redacted,
}

/// An incident's alerts in the list of those that rules raise now.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    /// When one of them was first seen there.
    pub since: Timestamp,
    /// Since when none is.
    pub gone_since: Option<Timestamp>,
}

/// Two open incidents that became one, as one of them remembers it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Merge {
    /// The other one.
    pub incident: IncidentId,
    pub subject: ObjectRef,
    pub at: Timestamp,
    pub because: Redacted,
    /// A model says that they are one; else an edge of the scene or a finding does.
    #[serde(default)]
    pub by_model: bool,
    /// Steps that were asked for, or about to be, in the one that went; the one that stays asks for them.
    #[serde(default)]
    pub carried: Vec<Carried>,
    /// A model was paid for the one that went, and not for the one that stays.
    #[serde(default)]
    pub paid: bool,
}

/// A step of an incident that went into another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Carried {
    pub proposal: Proposal,
    /// Whose idea it was: the model's, or a rule's.
    pub by_model: bool,
}

/// Why one signal belongs to the incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Why {
    pub signal: SignalId,
    pub at: Timestamp,
    pub sentence: Redacted,
    /// What it is about, where that is not the incident's subject, and what joins the two.
    #[serde(default)]
    pub joined: Option<Cause>,
}

/// Open or over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum IncidentState {
    Open,
    Over { at: Timestamp, how: Ending },
}

impl IncidentState {
    /// Whether what was asked for in the incident ends with it. A presumption withdraws nothing: the person may know
    /// better.
    pub fn withdraws(&self) -> bool {
        match self {
            Self::Open => false,
            Self::Over { how: Ending::Presumed | Ending::Unlisted | Ending::ResolveNotSeen, .. } => false,
            Self::Over { how: Ending::Resolved | Ending::Healthy | Ending::Absorbed | Ending::Answered, .. } => true,
        }
    }
}

/// How an incident ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Its alerts resolved and its subject is healthy.
    Resolved,
    /// Its subject is healthy, or gone, and no alert spoke of it.
    Healthy,
    /// The alert's resolve never came, but its subject has been healthy long enough.
    Presumed,
    /// The alert reached its greatest age without a resolve.
    ResolveNotSeen,
    /// The alert's resolve never came, but the rules that raised it do not any more.
    Unlisted,
    /// It was seen to be the fault of another incident, which took it in.
    Absorbed,
    /// What was asked for was answered, and done where the answer was yes.
    Answered,
}

/// How bad it is, by firstlook's own reckoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    None,
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    /// The word on the card.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::None => "none",
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Safe for Severity {}

/// One agent run for one incident, within a budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Investigation {
    pub state: InvestigationState,
    pub turns: u32,
    pub turns_max: u32,
    pub tool_calls: u32,
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// Readings that a request had no room for, at the most. The model could ask for each again.
    #[serde(default)]
    pub left_out: u32,
    /// When the first turn of its present look began.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// What made it look again, first to last: each action that was carried out and did not help, once.
    #[serde(default)]
    pub again: Vec<Again>,
    /// What it came to, while its steps cannot be checked yet; then that is its state.
    #[serde(default)]
    pub ending: Option<InvestigationState>,
    /// The subject that the model was first asked about.
    #[serde(default)]
    pub about: Option<ObjectRef>,
}

/// A further look of an investigation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Again {
    /// The approval of the action that did not help.
    pub after: ApprovalId,
    /// Its first turn: what was said before is not said again.
    pub from_turn: u32,
    /// A model has reported since.
    #[serde(default)]
    pub answered: bool,
}

impl Investigation {
    /// One of which no turn was taken yet.
    pub fn unbegun(state: InvestigationState) -> Self {
        Self {
            state,
            turns: 0,
            turns_max: 0,
            tool_calls: 0,
            input_tokens: 0,
            output_tokens: 0,
            left_out: 0,
            started_at: None,
            again: Vec::new(),
            ending: None,
            about: None,
        }
    }

    /// The first turn of its present look.
    pub fn first_turn(&self) -> u32 {
        self.again.last().map_or(0, |again| again.from_turn)
    }

    /// Whether something did not help since a model reported: what the report says is in doubt.
    pub fn is_in_doubt(&self) -> bool {
        self.again.iter().any(|again| !again.answered)
    }

    /// A model has reported, knowing all that did not help.
    pub fn answer(&mut self) {
        self.again.iter_mut().for_each(|again| again.answered = true);
    }
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvestigationState {
    /// No model is configured, or the incident needs none (already over).
    Off,
    Waiting,
    Running,
    Done,
    /// No answer: the provider's error, the budget that is spent.
    Failed {
        why: Redacted,
    },
}
