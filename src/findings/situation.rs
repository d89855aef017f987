//! What is broken now, in a few words: the first half of a headline.

use super::health;
use super::health::Health;
use super::jobs;
use super::nodes;
use super::recovered;
use super::rollout;
use super::say;
use super::view;
use crate::model::finding::Finding;
use crate::model::object::Kind;
use crate::model::scene::{Scene, Workload};
use crate::redact::Redacted;
use crate::text;

/// The subject and what is broken of it; `with_place` names the namespace too.
pub(super) fn situation(scene: &Scene, cause: Option<&Finding>, with_place: bool) -> Redacted {
    let place = |object: &crate::model::ObjectRef| if with_place { say::within(object) } else { Redacted::default() };
    let subject = &scene.subject;
    let name = text!("{}{}", subject.name, place(subject));
    if let Some(not_found) = &scene.not_found {
        return match not_found.namespace_exists {
            true => text!("{} {} does not exist", subject.kind, name),
            false => text!("{} {}: there is no such namespace", subject.kind, name),
        };
    }
    let unhealthy = matches!(health::health(scene), Health::Unhealthy { .. });
    match subject.kind {
        Kind::Node if unhealthy => {
            let node = scene.nodes.items().iter().find(|node| node.object == *subject);
            let is = match node.filter(|node| node.ready == Some(true)) {
                Some(node) if node.pressure().is_none() && nodes::lease_overdue(scene, node).is_some() => "silent",
                Some(_) => "under pressure",
                None => "not ready",
            };
            text!("Node {} is {}", subject.name, is)
        }
        Kind::Job if unhealthy => match view::workload(scene).is_some_and(jobs::is_over) {
            false => text!("Job {} does not end", name),
            true => text!("Job {} failed", name),
        },
        Kind::Service if unhealthy => text!("Service {} has no endpoints", name),
        Kind::Ingress if unhealthy => text!("Ingress {} is not served", name),
        Kind::PersistentVolume if unhealthy => text!("PersistentVolume {} is Failed", name),
        Kind::PersistentVolumeClaim if unhealthy => text!("PersistentVolumeClaim {} is not bound", name),
        Kind::CronJob if unhealthy => text!("a run of CronJob {} fails", name),
        Kind::CronJob if cause.is_some() => text!("CronJob {} does not run", name),
        _ if unhealthy => match view::workload(scene) {
            Some(workload) => broken(scene, workload, name),
            None => text!("{} is in trouble", name),
        },
        _ => match cause {
            Some(cause) if cause.about.kind == Kind::Ingress => {
                text!("Ingress {}{} is not served", cause.about.name, place(&cause.about))
            }
            Some(cause) if cause.rule == recovered::ROLLED_BACK => well(scene, name),
            Some(cause) if cause.about.kind == Kind::PodDisruptionBudget => well(scene, name),
            Some(cause) if cause.about.kind == Kind::HorizontalPodAutoscaler => match view::workload(scene) {
                Some(workload) => text!("{} is not scaled further, its {} ready", name, pods(workload.ready)),
                None => well(scene, name),
            },
            Some(_) => match view::workload(scene) {
                Some(workload) => text!("calls of {} fail, its own {} ready", name, pods(workload.ready)),
                None => text!("{} is in trouble", name),
            },
            None => well(scene, name),
        },
    }
}

fn pods(number: u32) -> Redacted {
    text!("{} {}", say::count(number, "pod", "pods"), if number == 1 { "is" } else { "are" })
}

/// A workload that is short of pods, or whose newest revision does not come up.
fn broken(scene: &Scene, workload: &Workload, name: Redacted) -> Redacted {
    let (ready, wanted) = (workload.ready, workload.wanted);
    let old = rollout::blame(scene).filter(|blame| blame.previous.ready > 0).or_else(|| rollout::unborn(scene));
    if let Some(blame) = old {
        return text!(
            "{} is stuck at revision {} ({} of {} pods still serve)",
            name,
            blame.newest.number,
            ready,
            wanted
        );
    }
    let never = scene.revisions.known().is_some_and(|revisions| revisions.len() == 1)
        && view::pods(scene).all(|pod| pod.phase.as_str() == "Pending");
    match ready {
        0 if wanted > 0 && never => text!("{} cannot start (0 of {} pods ready)", name, wanted),
        0 if wanted > 0 => text!("{} is down (0 of {} pods ready)", name, wanted),
        _ if ready < wanted => text!("{} has {} of {} pods ready", name, ready, wanted),
        _ => text!("{} is in trouble ({} of {} pods ready)", name, ready, wanted),
    }
}

fn well(scene: &Scene, name: Redacted) -> Redacted {
    if let Some(job) = view::workload(scene).filter(|job| job.object.kind == Kind::Job && !jobs::is_over(job)) {
        let ran = say::span(say::seconds(job.created_at, scene.read_at));
        return text!("Job {} still runs, {} after its start", name, ran);
    }
    if health::health(scene) == Health::Unknown && scene.subject.kind == Kind::CronJob {
        return text!("CronJob {} has no completed run since its last start", name);
    }
    if health::health(scene) == Health::Unknown {
        return text!("{} {} could not be read", scene.subject.kind, name);
    }
    match view::workload(scene).filter(|workload| !matches!(workload.object.kind, Kind::Job | Kind::CronJob)) {
        Some(workload) => text!("{} is healthy ({} of {} pods ready)", name, workload.ready, workload.wanted),
        None => text!("{} {} is healthy", scene.subject.kind, name),
    }
}
