//! Ingresses that name Services which do not exist.

use jiff::Timestamp;

use super::proof;
use super::say;
use crate::model::evidence::Citation;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::scene::{Change, Ingress, Scene};
use crate::redact::Redacted;
use crate::text;

pub(super) fn find(scene: &Scene, now: Timestamp) -> Vec<Finding> {
    scene.ingresses.items().iter().filter_map(|ingress| absent(scene, now, ingress)).collect()
}

fn absent(scene: &Scene, now: Timestamp, ingress: &Ingress) -> Option<Finding> {
    let (service, near) = ingress.absent.first()?;
    let name = text!("{}", ingress.object.name);
    let hosts = if ingress.hosts.is_empty() { "its paths".into() } else { say::list(&ingress.hosts, 2) };
    let part = if ingress.absent.len() < ingress.services.len() { "a part of " } else { "" };
    let also = match near.as_slice() {
        [] => Redacted::default(),
        names => text!(" (there is {})", say::list(names, 3)),
    };
    let says = text!(
        "Ingress {}{} sends {}{} to Service {}, which does not exist there{}: those requests reach nobody.{}",
        name,
        say::within(&ingress.object),
        part,
        hosts,
        service,
        also,
        changed(scene, now, ingress),
    );
    let advice = match near.as_slice() {
        [only] => text!("If {} is meant, name it as the backend of Ingress {}: its owner decides.", only, name),
        _ => text!("Create Service {}, or correct the backend of Ingress {}: its owner decides.", service, name),
    };
    let citations: Vec<Citation> = proof::field(scene, ingress.at, "name", service).into_iter().collect();
    Some(Finding {
        citations,
        advice: Some(advice),
        ..Finding::new(
            "ingress-backend",
            Role::Cause,
            Certainty::Proved,
            &ingress.object,
            says,
            text!("its backend Service {} does not exist", service).cut(90),
        )
    })
}

/// The newest write to the Ingress, where it is recent.
fn changed(scene: &Scene, now: Timestamp, ingress: &Ingress) -> Redacted {
    let made = |change: &&Change| change.object == ingress.object;
    let Some(change) = scene.changes.items().iter().find(made) else { return Redacted::default() };
    let by = change.by.as_ref().map_or_else(Redacted::default, |by| text!(" by {}", by));
    text!(" It was written at {}{}.", say::at(change.changed_at, now), by)
}
