//! Edits that were heard: which of them touch a subject, and its scene with their differences.

use crate::model::scene::{At, Change, ConfigMap, Part, Scene, ScenePart};
use crate::model::{Evidence, Kind, ObjectRef, Reading, Rollout, Segment, Signal, SignalBody, Source};
use crate::redact::Redacted;
use crate::text;

/// A line of the scene's own about the same object may be this much newer, in seconds: managedFields have no fractions.
const SAME_SECONDS: i64 = 1;

/// Why a change of `object` may be felt by the scene's subject; None where no edge of the scene leads to it.
pub fn touches(scene: &Scene, object: &ObjectRef) -> Option<Redacted> {
    let subject = &scene.subject;
    let same_namespace = object.namespace == subject.namespace;
    match object.kind {
        Kind::ConfigMap => {
            let known = |map: &&ConfigMap| map.object == *object && map.referenced;
            let workload = scene.workload.known().and_then(Option::as_ref);
            let reads = workload
                .is_some_and(|workload| same_namespace && workload.template.config_maps().contains_key(object.name()));
            (reads || scene.config_maps.items().iter().any(|map| known(&map))).then(|| text!("{} reads it", subject))
        }
        Kind::Service => {
            let service = scene.services.items().iter().find(|service| service.object == *object)?;
            Some(text!("it is {}", service.because)).filter(|_| !service.because.is_empty())
        }
        Kind::Ingress => {
            let leads = scene.ingresses.items().iter().any(|ingress| ingress.object == *object);
            leads.then(|| text!("it leads to {}", subject))
        }
        Kind::HorizontalPodAutoscaler => {
            let scales = scene.autoscalers.items().iter().any(|scaler| scaler.object == *object);
            scales.then(|| text!("it scales {}", subject))
        }
        Kind::NetworkPolicy => {
            let bars = |service: &&crate::model::scene::Service| {
                service.barred.as_ref().is_some_and(|barred| barred.policy == *object)
            };
            let service = scene.services.items().iter().find(bars)?;
            Some(text!("it keeps {} from {}", subject, service.object))
        }
        Kind::ResourceQuota | Kind::LimitRange => {
            let bounds = same_namespace && (subject.kind.is_workload() || subject.kind == Kind::Pod);
            bounds.then(|| text!("it bounds what {} may ask for", subject))
        }
        _ => (object == subject).then(|| text!("same {}", subject)),
    }
}

/// Puts the differences of the edits that touch a scene into it, in the order of their resourceVersions, each with its
/// lines as evidence.
pub fn add(scene: &mut Scene, heard: &[Signal]) {
    let mut edits: Vec<&Rollout> = heard
        .iter()
        .filter_map(|signal| match &signal.body {
            SignalBody::Rollout(rollout) if rollout.is_edit() => Some(rollout),
            _ => None,
        })
        .filter(|edit| touches(scene, &edit.object).is_some())
        .collect();
    if edits.is_empty() {
        return;
    }
    edits
        .sort_by_key(|edit| (edit.at, edit.template.split(' ').next().and_then(|version| version.parse::<u64>().ok())));
    let mut changes = scene.changes.items().to_vec();
    for edit in edits {
        // The object's own dates said that it changed, not how.
        let told = |change: &Change| {
            change.object == edit.object
                && change.lines.is_empty()
                && change.changed_at.as_second() <= edit.at.as_second() + SAME_SECONDS
        };
        changes.retain(|change| !told(change));
        let mut change = Change {
            object: edit.object.clone(),
            changed_at: edit.at,
            by: edit.by.clone(),
            from_revision: None,
            to_revision: None,
            lines: edit.lines.clone(),
            at: At { evidence: ScenePart::Changes.evidence(), segment: 0 },
        };
        let Some(segment) = prove(&mut scene.evidence, &change) else { continue };
        change.at.segment = segment;
        changes.insert(0, change);
    }
    // Stable: of one second the one that was made last stands first.
    changes.sort_by_key(|change| std::cmp::Reverse(change.changed_at));
    scene.changes = Part::Known(changes);
}

/// Puts the lines of a change into the evidence of the scene's changes; the segment.
fn prove(evidence: &mut [Evidence], change: &Change) -> Option<u32> {
    let page = evidence.iter_mut().find(|evidence| evidence.id == ScenePart::Changes.evidence())?;
    if let Reading::Missing(why) = &page.reading {
        let said = Segment { source: Source::Summary, text: text!("could not be read: {}", why), verbatim: false };
        page.reading = Reading::Segments(vec![said]);
    }
    let Reading::Segments(segments) = &mut page.reading else { return None };
    let source = Source::Object { object: change.object.clone() };
    segments.push(Segment { source, text: change.as_text(), verbatim: true });
    u32::try_from(segments.len() - 1).ok()
}
