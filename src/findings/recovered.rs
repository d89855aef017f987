//! What had been wrong with a subject that is well again: a revision that was rolled back.

use jiff::Timestamp;

use super::health;
use super::health::Health;
use super::say;
use super::view;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::scene::{Change, Scene};
use crate::redact::Redacted;
use crate::text;

/// The rule's name, which `situation` asks for.
pub(super) const ROLLED_BACK: &str = "rolled-back";
/// A rollback that is older than this is no answer to an alert of now.
const RECENT_SECONDS: i64 = 6 * 3600;

/// Only of a subject that is well: an old template that came back under a new number.
pub(super) fn find(scene: &Scene, now: Timestamp) -> Option<Finding> {
    if health::health(scene) != Health::Healthy {
        return None;
    }
    let workload = view::workload(scene)?;
    let revisions = scene.revisions.items();
    let newest = revisions.iter().find(|revision| revision.current)?;
    let before = revisions.iter().filter(|revision| revision.number < newest.number);
    let before = before.max_by_key(|revision| revision.number)?;
    // A ReplicaSet is as old as its template's first use.
    if newest.created_at >= before.created_at {
        return None;
    }
    let made = |change: &&Change| change.object == scene.subject && change.to_revision == Some(newest.number);
    let change = scene.changes.items().iter().find(made)?;
    if say::seconds(change.changed_at, now) > RECENT_SECONDS {
        return None;
    }
    let by = change.by.as_ref().map_or_else(Redacted::default, |by| text!(" by {}", by));
    let what: Vec<Redacted> = change.lines.iter().map(|line| say::diff(line, false)).collect();
    let what = if what.is_empty() { Redacted::default() } else { text!(" ({})", say::list(&what, 2)) };
    let at = say::at(change.changed_at, now);
    let says = text!(
        "Revision {} was taken back at {}{}{}; {} of {} pods of {} are ready since.",
        before.number,
        at,
        by,
        what,
        workload.ready,
        workload.wanted,
        workload.object.name,
    );
    let brief = text!("revision {} was taken back at {}", before.number, at);
    Some(Finding::new(ROLLED_BACK, Role::Cause, Certainty::Possible, &scene.subject, says, brief))
}
