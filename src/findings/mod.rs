//! The rule-based analyst, pure: scene -> findings -> report, severity and health; no model involved.
//!
//! Each family of faults has a file. A rule says a fact with names and numbers and quotes it where it stands; its role
//! places it in the chain symptom <- mechanism <- cause <- change, along which `conclude` makes the report. A part of
//! the scene that is missing never counts as absence.

mod arguments;
mod backends;
mod backing;
mod budgets;
mod certificates;
mod closed;
mod conclude;
mod config;
mod crashes;
mod denials;
mod dependencies;
mod edits;
mod environment;
mod extended;
mod health;
mod held;
mod images;
mod jobs;
mod lines;
mod memory;
mod names;
mod near;
mod neighbours;
mod network;
mod nodes;
mod outside;
mod platform;
mod policies;
mod ports;
mod privileges;
mod probes;
mod proof;
mod recovered;
mod refusals;
mod registry;
mod rollout;
mod room;
mod say;
mod scaling;
mod schedules;
mod scheduling;
mod severity;
mod sidecars;
mod situation;
mod storage;
mod terminating;
mod tolerations;
mod trust;
mod unadmitted;
mod unseen;
mod view;
mod volumes;
mod worked;

#[cfg(test)]
mod tests;

use jiff::Timestamp;

use crate::model::finding::{Certainty, Finding, Role};
use crate::model::scene::Scene;

pub use conclude::conclude;
pub use health::Health;
pub use health::health;
pub use severity::{severity, weight};

/// More findings than this nobody reads; the deepest causes come first.
const FINDINGS_MAX: usize = 30;

/// Everything that the rules find in a scene, deepest first: change, cause, mechanism, symptom, then what was ruled
/// out. `now` is the present instant (it decides which dates are written out).
pub fn find(scene: &Scene, now: Timestamp) -> Vec<Finding> {
    if scene.not_found.is_some() {
        return Vec::new();
    }
    // Within one role and certainty the order of the families decides: what lies under the pods before the pods, what
    // keeps a pod from starting before what ends it, and the revision as such only when nothing says more.
    let mut found = nodes::find(scene, now);
    found.extend(volumes::find(scene));
    found.extend(storage::find(scene, now));
    found.extend(scheduling::find(scene, now));
    found.extend(unadmitted::find(scene, now));
    found.extend(refusals::find(scene, now));
    found.extend(images::find(scene, now));
    found.extend(config::find(scene, now));
    found.extend(privileges::find(scene, now));
    found.extend(memory::find(scene, now));
    found.extend(certificates::find(scene));
    found.extend(trust::find(scene));
    found.extend(environment::find(scene, now));
    found.extend(arguments::find(scene, now));
    found.extend(platform::find(scene, now));
    found.extend(denials::find(scene, now));
    found.extend(edits::find(scene, now));
    found.extend(network::find(scene, now));
    found.extend(backends::find(scene, now));
    found.extend(ports::find(scene, now));
    found.extend(policies::find(scene, now));
    found.extend(backing::find(scene, now));
    found.extend(dependencies::find(scene));
    found.extend(probes::find(scene, now));
    found.extend(crashes::find(scene, now));
    found.extend(sidecars::find(scene, now));
    found.extend(jobs::find(scene, now));
    found.extend(schedules::find(scene, now));
    found.extend(rollout::find(scene, now));
    found.extend(held::find(scene));
    found.extend(unseen::find(scene, now));
    found.extend(terminating::find(scene, now));
    found.extend(neighbours::find(scene, now));
    found.extend(scaling::find(scene, now));
    found.extend(budgets::find(scene));
    found.extend(recovered::find(scene, now));
    found.extend(edits::behind(scene, &found, now));
    let explained = found.iter().any(|finding| {
        finding.role == Role::Cause && finding.certainty >= Certainty::Likely && finding.rule != rollout::BAD_REVISION
    });
    found.retain(|finding| !explained || finding.rule != rollout::BAD_REVISION);
    found.sort_by_key(|finding| (finding.role, std::cmp::Reverse(finding.certainty)));
    found.truncate(FINDINGS_MAX);
    found
}
