//! One row or line each: a workload, a condition. Pure.

use crate::model::Kind;
use crate::model::scene::{Condition, Workload};
use crate::redact::Redacted;
use crate::text;

/// Longer messages repeat names.
const MESSAGE_MAX_CHARS: usize = 200;

/// Columns of `workload`.
pub(super) const COLUMNS: [&str; 5] = ["workload", "ready", "revision", "state", "images"];

/// Whether fewer pods are ready than wanted, or pods of a Job failed.
pub(super) fn in_trouble(workload: &Workload) -> bool {
    workload.failed > 0 || (workload.ready < workload.wanted && workload.succeeded < workload.wanted)
}

/// One workload.
pub(super) fn workload(workload: &Workload) -> Vec<Redacted> {
    let none = Redacted::literal("-");
    let ready = match workload.object.kind {
        Kind::CronJob => none.clone(),
        Kind::Job => {
            text!("{} succeeded, {} failed of {}", workload.succeeded, workload.failed, workload.wanted)
        }
        _ => text!("{}/{}", workload.ready, workload.wanted),
    };
    let mut state: Vec<Redacted> = Vec::new();
    state.extend(in_trouble(workload).then(|| "in trouble".into()));
    state.extend(workload.paused.then(|| "paused".into()));
    state.extend(workload.suspended.then(|| "suspended".into()));
    state.extend(workload.gitops.as_ref().map(|by| text!("managed by {}", by)));
    let images = workload.template.containers.iter().map(|container| &container.image);
    vec![
        text!("{} {}", workload.object.kind, workload.object.name),
        ready,
        workload.revision.map_or(none.clone(), |revision| text!("{}", revision)),
        if state.is_empty() { none } else { Redacted::join(&state, ", ") },
        Redacted::join(images, " "),
    ]
}

/// One condition of a status.
pub(super) fn condition(condition: &Condition) -> Redacted {
    let message = condition.message.one_line().cut(MESSAGE_MAX_CHARS);
    text!("condition {} {}: {} {}", condition.kind, condition.status, condition.reason, message)
}
