//! Approvals: a request for leave to perform one action, and the clicks that answer it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::action::{Action, ActionHash, Proposal};
use crate::model::call::Caller;
use crate::model::ids::{ApprovalId, ClusterName, IncidentId};
use crate::model::object::ObjectRef;
use crate::model::scene::{DiffLine, Part};
use crate::model::tier::Tier;
use crate::redact::Redacted;

/// One request for leave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    pub id: ApprovalId,
    pub cluster: ClusterName,
    pub incident: IncidentId,
    pub asked_by: Caller,
    /// Callers from outside that asked for the same while people were asked.
    #[serde(default)]
    pub also_asked_by: Vec<Caller>,
    pub proposal: Proposal,
    /// The checked action; None when the check refused it (then `state` is `Refused`).
    pub action: Option<Action>,
    pub tier: Tier,
    pub state: ApprovalState,
    /// Why it is in this state, for the card: who changed what, what the API server said.
    pub because: Redacted,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    /// The policy rule that decides, by its place in the file: `approvers[1]`.
    pub rule: Redacted,
    /// Different people that must say yes.
    pub people_needed: u32,
    /// Who may answer, as the policy names them: `U…`, `group:S…`.
    pub approvers: Vec<Redacted>,
    pub presses: Vec<Press>,
    pub preview: Option<Preview>,
    /// What the action reads or writes, as it was when the person was asked.
    pub bound: Option<Bound>,
    pub execution: Option<Execution>,
    /// What came of it, once known.
    pub verification: Verification,
    /// The approval whose effect this one takes back.
    pub undoes: Option<ApprovalId>,
    /// The standing leave that is given for this, if one is, once it was looked at.
    #[serde(default)]
    pub standing: Option<Standing>,
}

impl Approval {
    /// What would take back what it did; None where nothing does, or where it is not known what would be taken back: a
    /// silence is told from another by what was read of it when it was made.
    pub fn inverse(&self) -> Option<Proposal> {
        let action = self.action.as_ref()?;
        let left = self.execution.as_ref().and_then(|execution| execution.left.as_ref());
        action.inverse().filter(|_| left.is_some() || !action.mutes())
    }

    /// Since when and why it is known not to have helped, where it was carried out to help: what takes a change back, or
    /// keeps an alert quiet, mends nothing.
    pub fn in_vain(&self) -> Option<(Timestamp, &Redacted)> {
        let mends = self.undoes.is_none() && self.action.as_ref().is_some_and(|action| !action.mutes());
        match &self.verification {
            Verification::NotBetter { at, why } | Verification::Worse { at, why, .. }
                if mends && self.state == ApprovalState::Executed =>
            {
                Some((*at, why))
            }
            _ => None,
        }
    }
}

/// A standing leave, as it was found when people were asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It has counted as its person's yes.
    Counted {
        /// Slack's user id of the person who gave it.
        by: Redacted,
        /// Its place in the policy: `standing_leave[0] (line 12)`.
        rule: Redacted,
        /// What makes it the same leave: person, tool, namespace, last day.
        key: String,
        at: Timestamp,
    },
    /// It did not count.
    NotNow { by: Redacted, rule: Redacted, why: Redacted },
}

/// The life of an approval. Timing out is `Expired`, a changed world is `Withdrawn`; neither is ever `Rejected`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// Waits for its preview; nobody has been asked.
    Proposed,
    /// Refused before anybody was asked.
    Refused,
    Pending,
    Approved,
    Rejected,
    Expired,
    Withdrawn,
    Executing,
    Executed,
    Failed,
    OutcomeUnknown,
}

impl ApprovalState {
    /// Whether nothing more will happen by itself (verification apart).
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Proposed | Self::Pending | Self::Approved | Self::Executing)
    }

    /// The word used in the store, audit and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Refused => "refused",
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
            Self::Executing => "executing",
            Self::Executed => "executed",
            Self::Failed => "failed",
            Self::OutcomeUnknown => "outcome_unknown",
        }
    }
}

/// One counted answer of one person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Press {
    /// Slack's user id.
    pub user: Redacted,
    pub yes: bool,
    pub at: Timestamp,
    /// A reason for a no.
    pub reason: Option<Redacted>,
}

/// What a person is shown before being asked: computed by code.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Preview {
    /// The difference the action makes.
    pub diff: Vec<DiffLine>,
    /// Whether the API server computed it (dry run), or firstlook did (why: see `note`).
    pub by_api_server: bool,
    pub note: Option<Redacted>,
    /// Why firstlook could not carry it out here, whoever said yes.
    #[serde(default)]
    pub unguarded: Option<Redacted>,
    /// Pods that are replaced, started or ended by it.
    pub pods_touched: u32,
    /// Of these, how many may be down at once when all goes as badly as its strategy lets it.
    #[serde(default)]
    pub down_at_worst: u32,
    /// What the object belongs to, and might undo the change.
    #[serde(default)]
    pub owner: Option<Redacted>,
    /// Disruptions that the budget allows now; None when no budget covers the pods.
    pub disruptions_allowed: Option<u32>,
    /// `max unavailable 1`, `one at a time`.
    pub pace: Redacted,
    pub autoscaler: Option<Redacted>,
    pub gitops: Option<Redacted>,
    /// What sends requests to these pods; None where none is touched, or nobody looked.
    #[serde(default)]
    pub dependents: Option<Dependents>,
    /// What follows the action and is easily missed: what must be done by hand, what then starts by itself.
    #[serde(default)]
    pub then: Option<Redacted>,
    /// Hash of the template that the dry run returned, to recognise the result after a crash.
    pub result_hash: Option<String>,
}

/// What depends on the pods that an action touches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dependents {
    /// Services that select them.
    pub services: Part<Few>,
    /// Ingresses that lead to these Services.
    pub ingresses: Part<Few>,
}

/// Some objects by name, and how many there are besides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Few {
    pub named: Vec<ObjectRef>,
    pub more: u32,
}

/// What an approval is bound to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    pub action: ActionHash,
    pub uid: String,
    /// Each field that the action reads or writes -> SHA-256 of its JSON (`spec.template`, `spec.paused`, ...).
    pub fields: BTreeMap<String, String>,
}

/// What was sent: durable before the request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Execution {
    pub started_at: Timestamp,
    /// The exact patch body.
    pub body: serde_json::Value,
    pub finished_at: Option<Timestamp>,
    /// The object's generation after the change, to follow its rollout.
    pub generation: Option<i64>,
    /// Pods of the workload that were ready just before, where the action moves them.
    #[serde(default)]
    pub ready_before: Option<u32>,
    /// The object as the change left it: it is taken back only while that still stands.
    #[serde(default)]
    pub left: Option<Bound>,
    /// Its request may still have been on its way when its approval ended otherwise.
    #[serde(default)]
    pub astray: bool,
}

/// Whether the action helped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verification {
    #[default]
    NotStarted,
    /// Rolling out: ready of wanted.
    Watching { ready: u32, wanted: u32 },
    /// The rollout waits for this broken pod, which keeps its old template until somebody deletes it.
    WaitsFor { pod: ObjectRef, ready: u32, wanted: u32 },
    /// The rollout is complete and the subject healthy.
    Better { at: Timestamp, ready: u32, wanted: u32 },
    /// Done, but the trouble is still there.
    NotBetter { at: Timestamp, why: Redacted },
    /// Done, and fewer pods are ready than before it.
    Worse { at: Timestamp, why: Redacted, before: u32, ready: u32 },
}

impl Verification {
    /// Whether it is known if the action helped.
    pub fn is_judged(&self) -> bool {
        matches!(self, Self::Better { .. } | Self::NotBetter { .. } | Self::Worse { .. })
    }
}

/// A verified click from Slack, as stored before it is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Click {
    /// Derived from user, action and Slack's own time of the click, so that a redelivery is the same click.
    pub id: String,
    pub cluster: ClusterName,
    pub user: Redacted,
    pub user_name: Redacted,
    pub channel: Redacted,
    pub message_ts: Redacted,
    /// Where an ephemeral answer goes.
    pub response_url: Option<String>,
    pub heard_at: Timestamp,
    pub what: Pressed,
}

/// What a click means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Pressed {
    Approve {
        approval: ApprovalId,
    },
    Reject {
        approval: ApprovalId,
    },
    /// The reason modal was sent.
    RejectReason {
        approval: ApprovalId,
        reason: Redacted,
    },
    /// Ask again after an expiry; makes a new approval after a new preview.
    AskAgain {
        approval: ApprovalId,
    },
    /// Take back what was done: an approval of its own.
    Undo {
        approval: ApprovalId,
    },
    /// A thumb on the card: its cause was right, or wrong.
    Thumb {
        incident: IncidentId,
        up: bool,
    },
    /// What was wrong with the card, after a thumb down.
    ThumbReason {
        incident: IncidentId,
        reason: Redacted,
    },
    /// An action id that this version does not know.
    Unknown {
        action_id: Redacted,
    },
}

/// What a person may add a reason to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReasonFor {
    /// Their no.
    No(ApprovalId),
    /// Their thumb down on this incident's card.
    ThumbDown(IncidentId),
}
