//! Neighbours: who else suffers, and who does not although it changed too.

use jiff::Timestamp;

use super::say;
use super::view;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::object::Kind;
use crate::model::scene::{Neighbour, Scene};
use crate::redact::Redacted;
use crate::text;

/// A neighbour that changed this long before now could be suspected, and so is worth ruling out.
const SUSPECT_SECONDS: i64 = 7200;

pub(super) fn find(scene: &Scene, now: Timestamp) -> Vec<Finding> {
    // On a node the neighbours are what runs there: the node's own rule speaks of them.
    if scene.subject.kind == Kind::Node {
        return Vec::new();
    }
    let others: Vec<&Neighbour> = scene
        .neighbours
        .items()
        .iter()
        .filter(|other| other.object != scene.subject && other.object.namespace == scene.subject.namespace)
        // A Job's pods are not ready once it is done.
        .filter(|other| other.wanted > 0 && !matches!(other.object.kind, Kind::Job | Kind::CronJob))
        .collect();
    let (well, unwell): (Vec<&Neighbour>, Vec<&Neighbour>) =
        others.into_iter().partition(|other| other.ready >= other.wanted);
    let recent = |other: &&Neighbour| other.rolled_out_at.is_some_and(|at| say::seconds(at, now) <= SUSPECT_SECONDS);
    let (recent, well): (Vec<&Neighbour>, Vec<&Neighbour>) = well.into_iter().partition(recent);
    let mut found: Vec<Finding> = recent.iter().take(2).map(|other| rolled_out_well(scene, now, other)).collect();
    if view::troubled(scene).next().is_some() {
        found.extend(healthy(scene, &well));
    }
    found.extend(others_suffer(scene, &unwell));
    found
}

fn rolled_out_well(scene: &Scene, now: Timestamp, other: &Neighbour) -> Finding {
    let at = other.rolled_out_at.map_or_else(Redacted::default, |at| say::at(at, now));
    let says = text!("Not {}: rolled out {}, {} of {} ready.", other.object.name, at, other.ready, other.wanted);
    let brief = text!("{} (rolled out {}, {} of {} ready)", other.object.name, at, other.ready, other.wanted);
    Finding::new("neighbour-rollout-ruled-out", Role::RuledOut, Certainty::Likely, &scene.subject, says, brief)
}

/// The namespace's other workloads are well: the fault is this one's own.
fn healthy(scene: &Scene, well: &[&Neighbour]) -> Option<Finding> {
    let names: Vec<Redacted> = well.iter().map(|other| text!("{}", other.object.name)).collect();
    let says = text!("Not a wider fault: {} ready in the same namespace.", plural(&names));
    (!names.is_empty()).then(|| {
        let brief = text!("a wider fault ({} ready)", plural(&names));
        Finding::new("neighbours-ready", Role::RuledOut, Certainty::Proved, &scene.subject, says, brief)
    })
}

fn plural(names: &[Redacted]) -> Redacted {
    text!("{} {}", say::list(names, 3), if names.len() == 1 { "is" } else { "are" })
}

fn others_suffer(scene: &Scene, unwell: &[&Neighbour]) -> Option<Finding> {
    let names: Vec<Redacted> =
        unwell.iter().map(|o| text!("{} ({} of {} ready)", o.object.name, o.ready, o.wanted)).collect();
    let says = text!("Also short of pods in the namespace: {}.", say::list(&names, 3));
    (!names.is_empty()).then(|| {
        let brief = "others of the namespace suffer too".into();
        Finding::new("neighbours-suffer", Role::Context, Certainty::Proved, &scene.subject, says, brief)
    })
}
