//! What each action needs of the API server, verb by verb: RBAC is printed from this, and nothing else is granted.

use crate::model::{Kind, Tier};

/// One verb on one resource.
#[derive(Clone, Copy, Debug)]
pub struct Right {
    /// The actions that use it.
    pub tools: &'static [&'static str],
    /// Whose account has it; the account that rehearses has all of them.
    pub tier: Tier,
    pub kind: Kind,
    /// `eviction` of `pods/eviction`; empty for the object itself.
    pub subresource: &'static str,
    pub verb: &'static str,
    /// What the request does.
    pub why: &'static str,
}

const fn patch(kind: Kind, tools: &'static [&'static str], why: &'static str) -> Right {
    Right { tools, tier: Tier::Reversible, kind, subresource: "", verb: "patch", why }
}

/// Every right of the accounts that rehearse and change. What must be known before is read by the daemon's own account.
pub const RIGHTS: &[Right] = &[
    patch(
        Kind::Deployment,
        &["rollout_undo", "rollout_restart", "scale", "pause_rollout", "resume_rollout", "set_resources"],
        "sets the template, the replicas or the pause of a Deployment",
    ),
    patch(
        Kind::StatefulSet,
        &["rollout_undo", "rollout_restart", "scale", "set_resources"],
        "sets the template or the replicas of a StatefulSet",
    ),
    patch(Kind::DaemonSet, &["rollout_undo", "rollout_restart", "set_resources"], "sets the template of a DaemonSet"),
    patch(Kind::CronJob, &["suspend_cronjob", "resume_cronjob"], "suspends a CronJob or resumes it"),
    Right {
        tools: &["rerun_job"],
        tier: Tier::Reversible,
        kind: Kind::Job,
        subresource: "",
        verb: "create",
        why: "makes a new Job like one that has ended",
    },
    Right {
        tools: &["delete_pod", "drain"],
        tier: Tier::Destructive,
        kind: Kind::Pod,
        subresource: "eviction",
        verb: "create",
        why: "asks for the end of one pod, which its disruption budget may refuse",
    },
    Right {
        tier: Tier::Destructive,
        ..patch(Kind::Node, &["drain"], "keeps new pods off a node before its pods are evicted")
    },
    patch(Kind::Node, &["cordon", "uncordon"], "keeps new pods off a node or lets them come again"),
];
