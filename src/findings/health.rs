//! Whether the subject is well now, by its own state alone.

use super::held;
use super::jobs;
use super::nodes;
use super::say;
use super::schedules;
use super::sidecars;
use super::view;
use super::volumes;
use crate::model::object::Kind;
use crate::model::scene::{Scene, State, Workload};
use crate::redact::Redacted;
use crate::text;

/// A Job that runs for longer than this is worth an alert (kubernetes-mixin, KubeJobNotCompleted: 12 h).
const LONG_SECONDS: i64 = 43_200;

/// The health of a scene's subject.
#[derive(Clone, Debug, PartialEq)]
pub enum Health {
    Healthy,
    /// With the reason, as in `2 of 4 pods are ready`.
    Unhealthy {
        why: Redacted,
    },
    /// What would tell it was not read.
    Unknown,
    /// The subject does not exist (any more).
    Gone,
}

/// The subject's health by its own state: a healthy victim of somebody else is healthy.
pub fn health(scene: &Scene) -> Health {
    if scene.not_found.is_some() {
        return Health::Gone;
    }
    match scene.subject.kind {
        Kind::Alert => Health::Unknown,
        Kind::Node => node(scene),
        Kind::PersistentVolumeClaim => claim(scene),
        Kind::PersistentVolume => volume(scene),
        Kind::Service => service(scene),
        Kind::Ingress => ingress(scene),
        _ => workload(scene),
    }
}

fn unhealthy(why: Redacted) -> Health {
    Health::Unhealthy { why }
}

fn workload(scene: &Scene) -> Health {
    let Some(read) = scene.workload.known() else { return Health::Unknown };
    let Some(workload) = read else { return pods_alone(scene) };
    match workload.object.kind {
        Kind::Job => return job(scene, workload),
        Kind::CronJob => return cron_job(scene, workload),
        _ => {}
    }
    let short = |ready: u32| text!("{} of {} pods are ready", ready, workload.wanted);
    if workload.ready < workload.wanted {
        return unhealthy(short(workload.ready));
    }
    let progressing = view::condition(&workload.conditions, "Progressing");
    if progressing.is_some_and(|condition| condition.status.as_str() == "False") {
        return unhealthy("its rollout is stuck".into());
    }
    if workload.wanted > 0 && scene.pods.missing().is_some() {
        return Health::Unknown;
    }
    match view::troubled(scene).next() {
        Some(pod) => unhealthy(text!("pod {} is {}", pod.object.name, trouble(pod))),
        None if workload.observed_generation < workload.generation || !held::is_through(workload) => {
            unhealthy("its rollout is under way".into())
        }
        None => Health::Healthy,
    }
}

/// What is wrong with a pod, in two words.
fn trouble(pod: &crate::model::scene::Pod) -> Redacted {
    let waiting = pod.containers.iter().find_map(|container| match &container.state {
        State::Waiting { reason, .. } if !reason.is_empty() => Some(reason.clone()),
        _ => None,
    });
    waiting.unwrap_or_else(|| if pod.ready { "restarting".into() } else { "not ready".into() })
}

fn pods_alone(scene: &Scene) -> Health {
    if scene.pods.missing().is_some() {
        return Health::Unknown;
    }
    match view::troubled(scene).next() {
        Some(pod) => unhealthy(text!("pod {} is {}", pod.object.name, trouble(pod))),
        None => Health::Healthy,
    }
}

/// A CronJob is well when its last run was: whether one that does not run should, nobody can say from here.
fn cron_job(scene: &Scene, cron_job: &Workload) -> Health {
    let ran = match (cron_job.last_scheduled_at, cron_job.last_succeeded_at) {
        (Some(scheduled), Some(succeeded)) => succeeded >= scheduled,
        (None, _) => true,
        (Some(_), None) => false,
    };
    match pods_alone(scene) {
        Health::Healthy if cron_job.suspended || !ran || schedules::too_hasty(cron_job).is_some() => Health::Unknown,
        health => health,
    }
}

fn job(scene: &Scene, job: &Workload) -> Health {
    match view::condition(&job.conditions, "Failed").filter(|condition| condition.status.as_str() == "True") {
        Some(condition) => unhealthy(text!("it failed ({})", condition.reason)),
        None if jobs::waited_for(scene, job).is_some() => {
            unhealthy("it does not end, and later runs wait for it".into())
        }
        None if sidecars::held(scene, job).is_some_and(|held| held.serves) => {
            unhealthy("its work is done, and it does not end".into())
        }
        // Whether a Job that has run for this long does well, nobody can say from here.
        None if !jobs::is_over(job) && say::seconds(job.created_at, scene.read_at) >= LONG_SECONDS => Health::Unknown,
        None => Health::Healthy,
    }
}

fn node(scene: &Scene) -> Health {
    let Some(nodes) = scene.nodes.known() else { return Health::Unknown };
    let Some(node) = nodes.iter().find(|node| node.object == scene.subject) else { return Health::Unknown };
    if node.ready != Some(true) {
        return unhealthy("it is not ready".into());
    }
    let bad = |condition: &&crate::model::scene::Condition| {
        condition.kind.as_str() != "Ready" && condition.status.as_str() == "True"
    };
    match (node.conditions.iter().find(bad), nodes::lease_overdue(scene, node)) {
        (Some(condition), _) => unhealthy(text!("it reports {}", condition.kind)),
        (None, Some(overdue)) if overdue.sure => unhealthy("its kubelet does not renew its lease".into()),
        (None, Some(_)) => Health::Unknown,
        (None, None) => Health::Healthy,
    }
}

fn claim(scene: &Scene) -> Health {
    let Some(claims) = scene.claims.known() else { return Health::Unknown };
    match claims.iter().find(|claim| claim.object == scene.subject) {
        Some(claim) if claim.phase.as_str() == "Bound" => Health::Healthy,
        Some(claim) => unhealthy(text!("it is {}", claim.phase)),
        None => Health::Unknown,
    }
}

fn volume(scene: &Scene) -> Health {
    let Some(volumes) = scene.volumes.known() else { return Health::Unknown };
    match volumes.iter().find(|volume| volume.object == scene.subject) {
        Some(volume) if volumes::has_failed(volume) => unhealthy("it is Failed".into()),
        Some(_) => Health::Healthy,
        None => Health::Unknown,
    }
}

fn service(scene: &Scene) -> Health {
    let Some(services) = scene.services.known() else { return Health::Unknown };
    match services.iter().find(|service| service.object == scene.subject) {
        // Without a selector somebody else keeps the endpoints (or an external name stands for them).
        Some(service) if service.ready_endpoints > 0 || service.selector.is_empty() => Health::Healthy,
        Some(service) => {
            let pods = say::count(service.pods_selected, "pod", "pods");
            unhealthy(text!("it has no ready endpoint ({} selected)", pods))
        }
        None => Health::Unknown,
    }
}

fn ingress(scene: &Scene) -> Health {
    let (Some(ingresses), Some(classes)) = (scene.ingresses.known(), scene.ingress_classes.known()) else {
        return Health::Unknown;
    };
    let Some(ingress) = ingresses.iter().find(|ingress| ingress.object == scene.subject) else {
        return Health::Unknown;
    };
    let exists = |class: &Redacted| classes.iter().any(|known| known.name == *class);
    let served = match (&ingress.class, &ingress.annotated) {
        // A controller may heed a class without an object of that name; an address may be left from before.
        (Some(class), _) => exists(class).then_some(true).or(if ingress.has_address { None } else { Some(false) }),
        (None, Some(class)) => (ingress.has_address || exists(class)).then_some(true),
        (None, None) => Some(ingress.has_address || classes.iter().any(|known| known.default)),
    };
    if let Some((service, _)) = ingress.absent.first() {
        return unhealthy(text!("its backend Service {} does not exist", service));
    }
    match served {
        Some(true) => Health::Healthy,
        Some(false) => unhealthy("no controller serves it".into()),
        None => Health::Unknown,
    }
}
