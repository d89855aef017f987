//! How bad it is now: by what is broken, not by an alert's label.

use jiff::Timestamp;

use super::backends;
use super::health;
use super::health::Health;
use super::network;
use super::nodes;
use super::policies;
use super::ports;
use super::recovered;
use super::rollout;
use super::say;
use super::view;
use crate::model::finding;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::incident::{Severity, Weight};
use crate::model::object::Kind;
use crate::model::scene::{Ingress, Neighbour, Scene, Service, ServiceLink, Workload};
use crate::redact::Redacted;
use crate::text;

/// A workload that was made this recently and never had a ready pod has nobody yet who misses it.
const NEW_SECONDS: i64 = 3600;
/// The reason stands within one line of the card.
const WHY_MAX: usize = 80;

/// How bad the state of a scene's subject is: high when nothing serves, critical when an Ingress leads there, medium when
/// it is degraded, low when all that served still serves, none when it is well. At least high where much of what it is sent
/// fails, as far as that is counted. One level more where a tier label calls the workload critical.
pub fn severity(scene: &Scene, now: Timestamp) -> Severity {
    weight(scene, now).severity
}

/// The same, with what it is reckoned by.
pub fn weight(scene: &Scene, now: Timestamp) -> Weight {
    let ill = |severity| if is_well(scene) { Severity::None } else { severity };
    let own = match (scene.subject.kind, view::workload(scene)) {
        (Kind::Node, _) => node(scene),
        (Kind::Service | Kind::Ingress, _) => ill(Severity::High),
        (_, Some(job)) if matches!(job.object.kind, Kind::Job | Kind::CronJob) => ill(Severity::Medium),
        (_, Some(workload)) => of_workload(scene, workload, now),
        (_, None) => ill(Severity::Medium),
    };
    let (reach, victims) = reaches_others(scene, now);
    let (level, why) = if reach > own { (reach, victims) } else { (own, state(scene, own)) };
    let (level, why) = match failing(scene).filter(|_| level < Severity::High) {
        Some(failing) => (Severity::High, failing),
        None => (level, why),
    };
    let (level, why) = match exposed(scene).filter(|_| level == Severity::High) {
        Some(ingress) => (Severity::Critical, text!("no endpoint is left behind {}", ingress)),
        None => (level, why),
    };
    match view::workload(scene).and_then(critical_label).filter(|_| level > Severity::None) {
        Some(label) => Weight { severity: next(level), why: say::list(&[why, label], 2).cut(WHY_MAX) },
        None => Weight { severity: level, why: why.cut(WHY_MAX) },
    }
}

/// What of the subject's own state tells how bad it is: endpoints before pods, since they are what callers reach.
fn state(scene: &Scene, level: Severity) -> Redacted {
    if scene.subject.kind == Kind::Node && level == Severity::High {
        let gone = taken_along(scene).count() as u32;
        return text!("{} left without a ready pod", say::count(gone, "workload is", "workloads are"));
    }
    let own = |service: &&Service| service.link == ServiceLink::Selects;
    let short = scene.services.items().iter().filter(own).find(|service| service.not_ready_endpoints > 0);
    if let Some(service) = short {
        let (ready, all) = (service.ready_endpoints, service.ready_endpoints + service.not_ready_endpoints);
        let are = if ready == 1 { "is" } else { "are" };
        return text!("{} of {} {} left", ready, say::count(all, "endpoint", "endpoints"), are);
    }
    match (health::health(scene), view::workload(scene)) {
        (Health::Unhealthy { .. }, Some(workload)) if workload.wanted > 0 && level == Severity::Low => {
            text!("all {} still serve", say::count(workload.ready, "pod", "pods"))
        }
        (Health::Unhealthy { why }, _) => why,
        (Health::Healthy, _) => "its own state is healthy".into(),
        (Health::Gone, _) => "it does not exist".into(),
        (Health::Unknown, _) => "its state could not be read".into(),
    }
}

fn is_well(scene: &Scene) -> bool {
    matches!(health::health(scene), Health::Healthy | Health::Gone)
}

fn of_workload(scene: &Scene, workload: &Workload, now: Timestamp) -> Severity {
    let (wanted, ready) = (workload.wanted, workload.ready);
    if wanted > 0 && ready == 0 {
        let earlier = scene.revisions.items().len() > 1;
        let new = now.as_second() - workload.created_at.as_second() < NEW_SECONDS;
        return if new && !earlier { Severity::Medium } else { Severity::High };
    }
    if ready * 2 < wanted {
        return Severity::High;
    }
    if ready < wanted {
        return Severity::Medium;
    }
    match health::health(scene) {
        Health::Healthy | Health::Gone | Health::Unknown => Severity::None,
        // Enough pods are ready, yet they crash again and again: that serves badly. A stuck rollout serves well.
        Health::Unhealthy { .. } if rollout::blame(scene).is_some_and(|blame| blame.previous.ready >= wanted) => {
            Severity::Low
        }
        Health::Unhealthy { .. } if view::troubled(scene).any(|pod| pod.ready) => Severity::Medium,
        Health::Unhealthy { .. } => Severity::Low,
    }
}

/// A share of the requests, in percent, of which the failing hurt whoever calls: retries and a single bad path hide less.
const FAILING_PERCENT: u64 = 20;
/// Fewer requests than this, in a thousand seconds, are too few to reckon a share of: 30 in five minutes.
const REQUESTS_MIN_MILLI: u64 = 100;

/// That much of what the subject's Services are sent fails, where that is counted. That nothing is sent says nothing: what is
/// down is not called, and what nobody counts may be called all the same.
fn failing(scene: &Scene) -> Option<Redacted> {
    let traffic = scene.traffic.known()?.as_ref().filter(|traffic| traffic.requests_milli >= REQUESTS_MIN_MILLI)?;
    let percent = traffic.failed_milli.saturating_mul(100) / traffic.requests_milli;
    // In steps: a card is not told anew at each look.
    let share = match percent {
        90.. => "nearly all",
        50.. => "more than half",
        FAILING_PERCENT.. => "more than a fifth",
        _ => return None,
    };
    Some(text!("{} of the requests to its Services fail", share))
}

/// The Ingress that leads to the subject while nothing answers behind it: people outside the cluster see that.
fn exposed(scene: &Scene) -> Option<Redacted> {
    let leads_here = |service: &&Service| {
        let leads = matches!(service.link, ServiceLink::Selects | ServiceLink::Itself);
        service.ready_endpoints == 0 && !service.selector.is_empty() && leads
    };
    let silent: Vec<&Service> = scene.services.items().iter().filter(leads_here).collect();
    let leads = |ingress: &&Ingress| {
        let named = |service: &Service| ingress.services.iter().any(|name| name.as_str() == service.object.name());
        silent.iter().any(|service| service.object.namespace == ingress.object.namespace && named(service))
    };
    scene.ingresses.items().iter().find(leads).map(|ingress| text!("{}", ingress.object))
}

/// A lost node is as bad as what it took along.
fn node(scene: &Scene) -> Severity {
    if is_well(scene) {
        return Severity::None;
    }
    if taken_along(scene).next().is_some() { Severity::High } else { Severity::Medium }
}

/// Workloads of which the subject, a node, left no pod ready.
fn taken_along(scene: &Scene) -> impl Iterator<Item = &Neighbour> {
    let node = scene.nodes.items().iter().find(|node| node.object == scene.subject);
    let gone = scene.neighbours.items().iter().filter(|other| other.wanted > 0 && other.ready == 0);
    gone.filter(move |other| node.is_some_and(|node| nodes::is_hit(scene, node, other)))
}

/// A Service or an Ingress in the scene that serves nobody, where that is proved to matter here, in a few words.
fn reaches_others(scene: &Scene, now: Timestamp) -> (Severity, Redacted) {
    let mut found = network::find(scene, now);
    found.extend(backends::find(scene, now));
    found.extend(ports::find(scene, now));
    found.extend(policies::find(scene, now));
    match finding::cause(&found) {
        Some(cause) if cause.certainty == Certainty::Proved => (Severity::High, cause.brief.clone()),
        // How many calls fail is not known from here.
        Some(cause) if cause.certainty == Certainty::Likely => (Severity::Medium, cause.brief.clone()),
        // Its own pods are ready, yet something is the matter: calls that may fail, no more growth, a drain that waits.
        _ => match super::find(scene, now).into_iter().find(is_live) {
            Some(cause) => (Severity::Low, cause.brief),
            None => (Severity::None, Redacted::default()),
        },
    }
}

/// Whether a finding is a cause of something that still is.
fn is_live(finding: &Finding) -> bool {
    finding.role == Role::Cause && finding.rule != recovered::ROLLED_BACK
}

/// The label that calls the workload critical, such as `tier: critical`.
fn critical_label(workload: &Workload) -> Option<Redacted> {
    const NAMES: [&str; 4] = ["tier", "criticality", "priority", "service-tier"];
    let mut labels = workload.labels.iter().chain(&workload.template.labels);
    labels.find_map(|(key, value)| {
        let name = NAMES.into_iter().find(|name| key.rsplit('/').next() == Some(name))?;
        let speaks = matches!(value.as_str(), "critical" | "0" | "tier0" | "tier-0" | "p0" | "P0");
        speaks.then(|| text!("label {}={}", name, value))
    })
}

fn next(level: Severity) -> Severity {
    match level {
        Severity::None => Severity::None,
        Severity::Low => Severity::Medium,
        Severity::Medium => Severity::High,
        Severity::High | Severity::Critical => Severity::Critical,
    }
}
