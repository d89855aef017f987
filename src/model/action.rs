//! Actions: the closed list of changes that a person can approve, and the proposals that may become one.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::object::ObjectRef;
use crate::redact::Safe;

/// How far a tool reaches. Compiled into each tool; policy may raise it, nothing lowers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    ReadOnly,
    Reversible,
    Destructive,
}

impl Tier {
    /// The word used in policy, card and audit.
    pub fn as_str(self) -> &'static str {
        match self {
            Tier::ReadOnly => "read-only",
            Tier::Reversible => "reversible",
            Tier::Destructive => "destructive",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Safe for Tier {}

/// An action that somebody suggests, by names alone. Governance turns it into an `Action` or refuses it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "tool", rename_all = "snake_case")]
pub enum Proposal {
    /// Back to an earlier revision: `to_revision` as now numbered; None is the one before the present one.
    RolloutUndo {
        object: ObjectRef,
        to_revision: Option<i64>,
    },
    RolloutRestart {
        object: ObjectRef,
    },
}

impl Proposal {
    /// The canonical verb, as kubectl names it.
    pub fn tool(&self) -> &'static str {
        match self {
            Proposal::RolloutUndo { .. } => "rollout_undo",
            Proposal::RolloutRestart { .. } => "rollout_restart",
        }
    }

    /// What would be changed.
    pub fn object(&self) -> &ObjectRef {
        match self {
            Proposal::RolloutUndo { object, .. } | Proposal::RolloutRestart { object } => object,
        }
    }
}

/// A typed change with an absolute target, checked by reading. The same value always means the same change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "tool", rename_all = "snake_case")]
pub enum Action {
    /// The workload runs the template of this ReplicaSet (or ControllerRevision) again.
    RolloutUndo {
        object: ObjectRef,
        /// uid of the ReplicaSet or ControllerRevision: the target itself.
        target_uid: String,
        /// `pod-template-hash` of the target.
        target_hash: String,
        /// Only shown: an undo renumbers revisions.
        to_revision: i64,
        /// Only shown.
        from_revision: i64,
    },
    /// Every pod is replaced, one by one as the workload's strategy says.
    RolloutRestart { object: ObjectRef },
}

impl Action {
    /// The canonical verb.
    pub fn tool(&self) -> &'static str {
        match self {
            Action::RolloutUndo { .. } => "rollout_undo",
            Action::RolloutRestart { .. } => "rollout_restart",
        }
    }

    /// What is changed.
    pub fn object(&self) -> &ObjectRef {
        match self {
            Action::RolloutUndo { object, .. } | Action::RolloutRestart { object } => object,
        }
    }

    /// The tier, as compiled in.
    pub fn tier(&self) -> Tier {
        match self {
            Action::RolloutUndo { .. } | Action::RolloutRestart { .. } => Tier::Reversible,
        }
    }

    /// Hash of the whole action: what a person approved is what runs.
    pub fn hash(&self) -> ActionHash {
        let text = serde_json::to_string(self).unwrap_or_default();
        ActionHash(hex::encode(Sha256::digest(text.as_bytes())))
    }
}

/// SHA-256 of an action's JSON, hex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionHash(pub String);
