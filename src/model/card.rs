//! The card as data: everything that its one Slack message shows, and the posts that carry it.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::approval::{Approval, ApprovalState};
use crate::model::finding::Finding;
use crate::model::ids::{ClusterName, IncidentId, Nonce};
use crate::model::incident::{Incident, Severity};
use crate::model::past::Past;
use crate::model::report::Report;
use crate::model::scene::Scene;
use crate::redact::Redacted;

/// The whole state of one incident's message. `slack::render` makes blocks of it, and nothing else does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Card {
    pub incident: Incident,
    pub heard: Heard,
    /// Shared: it is the biggest part by far, and many look at one card.
    pub scene: Option<Arc<Scene>>,
    pub findings: Vec<Finding>,
    /// From the model if there is one, else from the findings.
    pub report: Option<Report>,
    /// Newest first.
    pub approvals: Vec<Approval>,
    pub links: Vec<Link>,
    /// Incidents of before that are like this one.
    #[serde(default)]
    pub past: Vec<Past>,
    /// The newest sealed entry of the audit chain: number and hash (hex).
    pub audit_head: Option<(i64, String)>,
    /// What people think of it, first to last.
    #[serde(default)]
    pub thumbs: Vec<Thumb>,
    /// Stages that gave up on a unit of this incident after five failures, by name.
    #[serde(default)]
    pub parked: Vec<String>,
    /// Tools that are switched off here: no button leads to one.
    #[serde(default)]
    pub off: Vec<String>,
}

impl Card {
    /// Whether it must stand in the channel itself, however many others come at once: it is critical, or people were
    /// asked for leave, which is never to be looked for in a thread.
    pub fn stands_alone(&self) -> bool {
        let asked = |approval: &Approval| !matches!(approval.state, ApprovalState::Proposed | ApprovalState::Refused);
        self.incident.severity == Severity::Critical || self.approvals.iter().any(asked)
    }
}

/// The one message for the incidents of a storm: they stand in its thread, and it has a line for each.
#[derive(Clone, Debug, PartialEq)]
pub struct Digest {
    pub cluster: ClusterName,
    /// In the order in which they joined it.
    pub lines: Vec<DigestLine>,
}

/// One incident on a digest.
#[derive(Clone, Debug, PartialEq)]
pub struct DigestLine {
    pub member: Member,
    /// Where its card is.
    pub link: Option<Redacted>,
    /// Whether its card stands in the channel too.
    pub has_own_card: bool,
}

/// What a digest tells of one incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    pub incident: IncidentId,
    pub opened_at: Timestamp,
    pub severity: Severity,
    pub is_open: bool,
    /// The first line of its card, as Slack gets it.
    pub says: String,
    /// What others may have in common with it.
    pub bonds: Vec<Bond>,
}

/// What several incidents may have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bond {
    pub kind: BondKind,
    /// Equal texts are the same thing.
    pub what: Redacted,
    /// How it is, where that is known: `not ready`.
    pub state: Redacted,
    pub since: Option<Timestamp>,
}

/// The kinds of what is common, the most telling first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BondKind {
    /// A node in trouble on which pods in trouble stand.
    Node,
    /// The object at fault, or what several have their cause in.
    Cause,
    Namespace,
}

/// One person's word on a card: whether its cause was right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thumb {
    /// Slack's user id.
    pub user: Redacted,
    pub up: bool,
    /// What was wrong, where somebody said so.
    pub reason: Option<Redacted>,
    pub at: Timestamp,
}

/// What was heard of the incident, counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Heard {
    pub alerts: u32,
    pub alerts_firing: u32,
    /// Names of the alerts, at most 10.
    pub alert_names: Vec<Redacted>,
    pub warnings: u32,
    pub rollouts: u32,
    /// When the last alert resolved, once all have.
    pub resolved_at: Option<Timestamp>,
    /// The newest alert's own words (summary or description), for an incident without a scene.
    pub says: Option<Redacted>,
    /// The newest alert by its name, with its summary and description, at most 1,000 characters.
    #[serde(default)]
    pub alert: Option<(Redacted, Redacted)>,
    /// Labels of an alert that names no object, `key=value` each, at most 15.
    #[serde(default)]
    pub labels: Vec<Redacted>,
}

/// A link of the card: `Runbook`, `Alert`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    pub label: Redacted,
    pub url: Redacted,
}

/// One Slack message of ours: durable before it is sent, so that it is sent once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Post {
    pub nonce: Nonce,
    pub cluster: ClusterName,
    pub incident: IncidentId,
    pub kind: PostKind,
    pub channel: String,
    /// When the (last) attempt to post began; part of crash recovery (design: settle by nonce).
    pub posting_at: Timestamp,
    /// Reads of the channel that did not show the message, and when the newest was.
    pub absent_reads: u32,
    /// Slack's id of the message, once known.
    pub ts: Option<String>,
    /// Hash of the payload that Slack last confirmed.
    pub rendered: String,
    /// Slack's link to the message, for those that others point to.
    #[serde(default)]
    pub link: Option<Redacted>,
    /// Whether it stands for one that somebody deleted: it does so once.
    #[serde(default)]
    pub anew: bool,
}

/// What kind of message.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PostKind {
    Card,
    /// A reply in the card's thread; `key` says which (`details`, `outcome-<approval>`), one each.
    Reply {
        key: String,
    },
    /// The message of a storm; it goes by the first incident on it.
    Digest,
    /// The card of an incident in the thread of its digest.
    Entry,
}

impl PostKind {
    /// The word used in the store.
    pub fn to_text(&self) -> String {
        match self {
            Self::Card => "card".to_owned(),
            Self::Reply { key } => format!("reply:{key}"),
            Self::Digest => "digest".to_owned(),
            Self::Entry => "entry".to_owned(),
        }
    }
}
