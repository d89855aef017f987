//! How bad it is now: by what is broken, not by an alert's label.

use jiff::Timestamp;

use super::backends;
use super::health;
use super::health::Health;
use super::network;
use super::policies;
use super::ports;
use super::recovered;
use super::rollout;
use super::view;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::incident::Severity;
use crate::model::object::Kind;
use crate::model::scene::{Scene, Workload};

/// A workload that was made this recently and never had a ready pod has nobody yet who misses it.
const NEW_SECONDS: i64 = 3600;

/// How bad the state of a scene's subject is: high when nothing serves, medium when it is degraded, low when all that
/// served still serves, none when it is well. One level more where a tier label calls the workload critical.
pub fn severity(scene: &Scene, now: Timestamp) -> Severity {
    let level = match scene.subject.kind {
        Kind::Node => node(scene),
        Kind::Service | Kind::Ingress => {
            if is_well(scene) {
                Severity::None
            } else {
                Severity::High
            }
        }
        _ => match view::workload(scene) {
            Some(job) if matches!(job.object.kind, Kind::Job | Kind::CronJob) => {
                if is_well(scene) {
                    Severity::None
                } else {
                    Severity::Medium
                }
            }
            Some(workload) => of_workload(scene, workload, now),
            None => {
                if is_well(scene) {
                    Severity::None
                } else {
                    Severity::Medium
                }
            }
        },
    };
    let level = level.max(reaches_others(scene, now));
    if level > Severity::None && view::workload(scene).is_some_and(is_critical) { next(level) } else { level }
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

/// A lost node is as bad as what it took along.
fn node(scene: &Scene) -> Severity {
    if is_well(scene) {
        return Severity::None;
    }
    let gone = scene
        .neighbours
        .items()
        .iter()
        .any(|other| other.wanted > 0 && other.ready == 0 && other.object.kind != Kind::Job);
    if gone { Severity::High } else { Severity::Medium }
}

/// A Service or an Ingress in the scene that serves nobody, where that is proved to matter here.
fn reaches_others(scene: &Scene, now: Timestamp) -> Severity {
    let mut found = network::find(scene, now);
    found.extend(backends::find(scene, now));
    found.extend(ports::find(scene, now));
    found.extend(policies::find(scene, now));
    let causes = found.iter().filter(|finding| finding.role == Role::Cause);
    match causes.map(|finding| finding.certainty).max() {
        Some(Certainty::Proved) => Severity::High,
        // How many calls fail is not known from here.
        Some(Certainty::Likely) => Severity::Medium,
        // Its own pods are ready, yet something is the matter: calls that may fail, no more growth, a drain that waits.
        _ if super::find(scene, now).iter().any(is_live) => Severity::Low,
        _ => Severity::None,
    }
}

/// Whether a finding is a cause of something that still is.
fn is_live(finding: &Finding) -> bool {
    finding.role == Role::Cause && finding.rule != recovered::ROLLED_BACK
}

/// Whether a label such as `tier: critical` is on the workload.
fn is_critical(workload: &Workload) -> bool {
    let labels = workload.labels.iter().chain(&workload.template.labels);
    labels.into_iter().any(|(key, value)| {
        let name = key.rsplit('/').next().unwrap_or(key);
        let speaks = matches!(name, "tier" | "criticality" | "priority" | "service-tier");
        speaks && matches!(value.as_str(), "critical" | "0" | "tier0" | "tier-0" | "p0" | "P0")
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
