//! The revisions of a workload: its ReplicaSets or ControllerRevisions, newest first, the running one marked.

use serde_json::Value;

use crate::model::Kind;
use crate::model::scene::{At, Revision};
use crate::model::{EvidenceId, ObjectRef};
use crate::observe::ReadError;
use crate::observe::Reader;
use crate::observe::Selector;
use crate::observe::json;
use crate::observe::typed::Typed;
use crate::observe::typed::workload::{revision, selector};

/// Revisions that are read; a Deployment keeps ten by default.
const READ_MAX: usize = 100;

/// A place for values whose evidence has no id yet: the gate gives it.
pub(super) const HERE: At = At { evidence: EvidenceId(0), segment: 0 };

/// The revisions that belong to `workload` (its whole object), newest first.
pub(super) async fn of(reader: &Reader, workload: &Value) -> Result<Vec<Revision>, ReadError> {
    let Some(object) = json::reference(workload) else { return Ok(Vec::new()) };
    let kind = match object.kind {
        Kind::Deployment => Kind::ReplicaSet,
        Kind::StatefulSet | Kind::DaemonSet => Kind::ControllerRevision,
        _ => return Ok(Vec::new()),
    };
    let typed = Typed { redactor: reader.redactor() };
    let uid = json::text(workload, "/metadata/uid");
    let mut revisions: Vec<Revision> = owned(reader, kind, &object, workload, uid)
        .await?
        .iter()
        .filter_map(|value| typed.revision(value, HERE))
        .collect();
    revisions.sort_by_key(|revision| std::cmp::Reverse(revision.number));
    let running = match object.kind {
        Kind::Deployment => revisions.iter().position(|one| Some(one.number) == revision(workload)),
        Kind::StatefulSet => {
            let name = json::text(workload, "/status/updateRevision");
            revisions.iter().position(|one| one.object.name() == name)
        }
        _ => None,
    };
    // The newest runs, as a DaemonSet has it.
    if let Some(running) = revisions.get_mut(running.unwrap_or(0)) {
        running.current = true;
    }
    Ok(revisions)
}

async fn owned(
    reader: &Reader,
    kind: Kind,
    object: &ObjectRef,
    workload: &Value,
    uid: &str,
) -> Result<Vec<Value>, ReadError> {
    let ask = match selector(workload) {
        Some(labels) => Selector::labels(labels),
        None => Selector::all(),
    };
    let mut all = reader.list(kind, Some(object.namespace()), &ask.at_most(READ_MAX)).await?;
    all.retain(|value| json::controller(value).is_some_and(|(_, _, owner)| owner == uid));
    Ok(all)
}
