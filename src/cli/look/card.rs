//! From a scene to the card that the daemon would post first for it, here without an incident behind it. Pure.

use std::sync::Arc;

use jiff::Timestamp;

use crate::correlate;
use crate::correlate::late;
use crate::findings;
use crate::findings::Health;
use crate::model::finding::{Certainty, Role};
use crate::model::scene::Condition;
use crate::model::{Card, ClusterName, Heard, Incident, Kind, ObjectRef, Origin, Part, Proposal, Scene, Severity};
use crate::redact::Redacted;
use crate::slack::render;
use crate::slack::render::Tone;
use crate::text;

/// One object that was looked at.
pub(super) struct Seen {
    pub(super) card: Card,
    pub(super) health: Health,
    pub(super) in_trouble: bool,
    /// What is in trouble through it, each with why that is thought.
    pub(super) hit: Vec<(ObjectRef, Redacted)>,
}

impl Seen {
    /// What the rules say of a scene.
    pub(super) fn of(scene: Scene, cluster: &ClusterName, now: Timestamp) -> Self {
        let found = findings::find(&scene, now);
        let report = findings::conclude(&scene, found.clone(), now);
        let health = findings::health(&scene);
        let severity = match health {
            // What could not be read is not known to be bad.
            Health::Unknown if report.culprit.is_none() => Severity::None,
            _ => findings::severity(&scene, now),
        };
        let cause = found.iter().any(|finding| finding.role == Role::Cause && finding.certainty >= Certainty::Likely);
        let in_trouble = match health {
            Health::Unhealthy { .. } => true,
            Health::Healthy => severity > Severity::None,
            Health::Unknown => cause,
            Health::Gone => false,
        };
        let began_at = began_at(&scene).unwrap_or(now).min(now);
        let incident = Incident {
            severity,
            // Of two with the same cause the older one stays.
            opened_at: began_at,
            began_at,
            unhealthy_at: in_trouble.then_some(now),
            cause: late::cause(&scene, &found).map(Box::new),
            ..Incident::opened(cluster.clone(), scene.subject.clone(), &correlate::fault(&scene.subject), now)
        };
        let card = Card {
            incident,
            heard: Heard::default(),
            scene: Some(Arc::new(scene)),
            findings: found,
            report: Some(report),
            approvals: Vec::new(),
            links: Vec::new(),
            past: Vec::new(),
            audit_head: None,
            thumbs: Vec::new(),
            parked: Vec::new(),
            off: Vec::new(),
        };
        Self { card, health, in_trouble, hit: Vec::new() }
    }

    pub(super) fn subject(&self) -> &ObjectRef {
        &self.card.incident.subject
    }

    /// The card as lines of text, in the order of the one in Slack; without that one's footer (its thread, its audit).
    pub(super) fn text(&self, now: Timestamp) -> String {
        let mut shown = self.card.clone();
        // Nothing was opened here that could have taken in another.
        shown.incident.absorbed.clear();
        if let Some(report) = &mut shown.report {
            let step = report.proposals.first().and_then(by_hand);
            report.advice = match (step, report.advice.take()) {
                // Beside what a model asks for its advice is what more there is to do.
                (Some(step), Some(advice)) if report.origin == Origin::Model => Some(text!("{}. {}", step, advice)),
                (step, advice) => advice.or(step),
            };
        }
        let tone = match self.health {
            _ if self.in_trouble => Tone::Trouble,
            Health::Healthy => Tone::Well,
            _ => Tone::Quiet,
        };
        let mut message = render::looked(&shown, &render::Options { now }, tone);
        message.blocks.pop();
        // Here is nothing to press.
        message.blocks.retain(|block| serde_json::to_value(block).is_ok_and(|block| block["type"] != "actions"));
        // There is no thread here.
        let text = render::flatten(&message).replace(" more in the thread", " more");
        self.hit_line().map_or(text.clone(), |line| format!("{text}\n{line}"))
    }

    /// What is in trouble through this one: several by name, a single one with the reason.
    fn hit_line(&self) -> Option<String> {
        let (object, because) = self.hit.first()?;
        if self.hit.len() == 1 {
            let (object, because) = (object.to_string(), because.as_str());
            let named = because.contains(object.as_str());
            return Some(format!(
                "*Hit by it*  {}",
                if named { because.to_owned() } else { format!("{object}: {because}") }
            ));
        }
        let mut names: Vec<String> = self.hit.iter().take(HIT_MAX).map(|(object, _)| object.to_string()).collect();
        if self.hit.len() > HIT_MAX {
            names.push(format!("and {} more", self.hit.len() - HIT_MAX));
        }
        Some(format!("*Hit by it*  {}", names.join(", ")))
    }
}

/// Objects that are named as hit by another.
const HIT_MAX: usize = 8;

/// The proposal as a person would carry it out: here nothing offers a button.
fn by_hand(proposal: &Proposal) -> Option<Redacted> {
    let object = proposal.object();
    let kind = match object.kind {
        Kind::Deployment => "deployment",
        Kind::StatefulSet => "statefulset",
        Kind::DaemonSet => "daemonset",
        Kind::CronJob => "cronjob",
        Kind::Pod => "pod",
        Kind::Node => "node",
        _ => return None,
    };
    let target = match &object.namespace {
        Some(namespace) => text!("{}/{} -n {}", kind, object.name, namespace),
        None => text!("{}/{}", kind, object.name),
    };
    Some(match proposal {
        Proposal::RolloutUndo { to_revision: Some(revision), .. } => {
            text!("Roll back: kubectl rollout undo {} --to-revision={}", target, *revision)
        }
        Proposal::RolloutUndo { to_revision: None, .. } => text!("Roll back: kubectl rollout undo {}", target),
        Proposal::RolloutRestart { .. } => text!("Restart: kubectl rollout restart {}", target),
        Proposal::Scale { replicas, .. } => text!("Scale: kubectl scale {} --replicas={}", target, *replicas),
        Proposal::PauseRollout { .. } => text!("Pause the rollout: kubectl rollout pause {}", target),
        Proposal::ResumeRollout { .. } => text!("Resume the rollout: kubectl rollout resume {}", target),
        Proposal::SuspendCronjob { .. } => {
            text!("Suspend it: kubectl patch {} -p '{{\"spec\":{{\"suspend\":true}}}}'", target)
        }
        Proposal::ResumeCronjob { .. } => {
            text!("Resume it: kubectl patch {} -p '{{\"spec\":{{\"suspend\":false}}}}'", target)
        }
        Proposal::Cordon { .. } => text!("Cordon it: kubectl cordon {}", object.name),
        Proposal::Uncordon { .. } => text!("Uncordon it: kubectl uncordon {}", object.name),
        Proposal::DeletePod { .. } => text!("Delete the pod: kubectl delete {}", target),
        Proposal::Drain { .. } => text!("Drain it: kubectl drain {} --ignore-daemonsets", object.name),
        // What no one command does is left to the report's own words.
        _ => return None,
    })
}

/// Since when the subject is in trouble, by its own conditions, else by those of its pods.
fn began_at(scene: &Scene) -> Option<Timestamp> {
    let turned = |conditions: &[Condition], kinds: &[&str], status: &str| {
        let ill = conditions.iter().filter(|one| kinds.contains(&one.kind.as_str()) && one.status.as_str() == status);
        ill.filter_map(|condition| condition.changed_at).min()
    };
    if scene.subject.kind == Kind::Node {
        let node = scene.nodes.items().iter().find(|node| node.object == scene.subject)?;
        return turned(&node.conditions, &["Ready"], "Unknown").or(turned(&node.conditions, &["Ready"], "False"));
    }
    let workload = scene.workload.known().and_then(Option::as_ref);
    let own = workload.and_then(|workload| {
        let failed = turned(&workload.conditions, &["Failed", "ReplicaFailure"], "True");
        failed.or(turned(&workload.conditions, &["Available"], "False"))
    });
    let pods = match &scene.pods {
        Part::Known(pods) => pods.iter().filter(|pod| !pod.ready && pod.phase.as_str() != "Succeeded"),
        Part::Missing(_) => return own,
    };
    own.or_else(|| pods.filter_map(|pod| turned(&pod.conditions, &["Ready", "PodScheduled"], "False")).min())
}
