//! Pods that were scheduled to a node whose kubelet did not take them.

use jiff::Timestamp;

use super::proof;
use super::say;
use crate::model::Kind;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::scene::{Pod, Scene};
use crate::text;

/// Refused pods stay for show until somebody deletes them; what was refused longer ago than this (an hour) is told no
/// more.
const RECENT_SECONDS: i64 = 3_600;

pub(super) fn find(scene: &Scene, now: Timestamp) -> Option<Finding> {
    if scene.subject.kind == Kind::Node {
        return None;
    }
    let recent = |pod: &&Pod| pod.was_refused() && say::seconds(pod.created_at, now) <= RECENT_SECONDS;
    let refused: Vec<&Pod> = scene.pods.items().iter().filter(recent).collect();
    let newest = refused.iter().max_by_key(|pod| pod.created_at)?;
    let node = newest.node.clone().unwrap_or_else(|| "unknown".into());
    let says = text!(
        "{} not taken by the kubelet that the scheduler had chosen, last by node {}: {}: {}.",
        say::count(refused.len() as u32, "pod was", "pods were"),
        node,
        newest.reason,
        say::line(&newest.message),
    );
    let (reason, brief) = (newest.reason.as_str(), text!("node {} refuses its pods: {}", node, newest.reason).cut(90));
    let look = match reason {
        "UnexpectedAdmissionError" => {
            "Look at the device plugins of that node: they tell the kubelet what it may give out."
        }
        "NodeAffinity" => "Look whether the labels of that node were changed after the pods were scheduled.",
        _ if reason.starts_with("OutOf") => {
            "Look at what else runs on that node: its kubelet counts pods that the scheduler does not see."
        }
        _ => "Look at the kubelet's log on that node.",
    };
    Some(Finding {
        citations: proof::quote(scene, newest.at, &newest.message).into_iter().collect(),
        advice: Some(look.into()),
        ..Finding::new("kubelet-refuses", Role::Mechanism, Certainty::Proved, &scene.subject, says, brief)
    })
}
