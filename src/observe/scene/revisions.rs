//! The revisions of a workload, and what differs between the newest.

use serde_json::Value;

use crate::model::scene::{At, Change, Revision, ScenePart};
use crate::model::{Kind, Source};
use crate::observe::ReadError;
use crate::observe::Selector;
use crate::observe::changes;
use crate::observe::json;
use crate::observe::scene::page::Page;
use crate::observe::scene::{Look, Told};
use crate::observe::typed::workload::{revision, selector};

/// Revisions that a scene holds: the default history of a Deployment.
const REVISIONS_MAX: usize = 10;
/// Revisions that stand as objects in the evidence.
const SHOWN_MAX: usize = 4;

impl Look<'_> {
    /// The revisions, the running one first, then by number, and the changes that they make.
    pub(super) async fn revisions(&self) -> Result<(Told<Vec<Revision>>, Vec<Change>), ReadError> {
        let mut page = Page::new(ScenePart::Changes);
        if self.subject.kind == Kind::Job {
            let changes = self.since_the_last_run(&mut page).await?;
            return Ok((Told { value: Vec::new(), page }, changes));
        }
        let Some(kind) = kind(self.subject.kind) else { return Ok((Told { value: Vec::new(), page }, Vec::new())) };
        let ask = Selector { labels: selector(&self.root), ..Selector::default() };
        let mut sets = self.reader.list(kind, self.namespace(), &ask).await?;
        let uid = json::text(&self.root, "/metadata/uid");
        sets.retain(|set| json::controller(set).is_some_and(|(_, _, owner)| owner == uid));
        let blank = At { evidence: ScenePart::Changes.evidence(), segment: 0 };
        let mut revisions: Vec<(Revision, Value)> =
            sets.into_iter().filter_map(|set| Some((self.typed.revision(&set, blank)?, set))).collect();
        revisions.sort_by_key(|(revision, _)| std::cmp::Reverse(revision.number));
        revisions.truncate(REVISIONS_MAX);
        self.mark_current(&mut revisions);
        let by_number: Vec<Revision> = revisions.iter().map(|(revision, _)| revision.clone()).collect();
        let changes = changes::of_revisions(&self.root, &by_number, self.typed, blank);
        if !changes.is_empty() {
            page.quote(Source::Rollout { object: self.subject.clone() }, changes::as_text(&changes));
        }
        for (revision, value) in revisions.iter_mut().take(SHOWN_MAX) {
            revision.at = page.object(value, self.typed.redactor);
        }
        let mut revisions: Vec<Revision> = revisions.into_iter().map(|(revision, _)| revision).collect();
        revisions.sort_by_key(|revision| !revision.current);
        Ok((Told { value: revisions, page }, changes))
    }

    fn mark_current(&self, revisions: &mut [(Revision, Value)]) {
        let current = match self.subject.kind {
            Kind::Deployment => {
                let number = revision(&self.root);
                revisions.iter().position(|(revision, _)| Some(revision.number) == number)
            }
            Kind::StatefulSet => {
                let name = json::text(&self.root, "/status/updateRevision");
                revisions.iter().position(|(revision, _)| revision.object.name() == name)
            }
            _ => None,
        };
        // Sorted by number: the newest runs, as a DaemonSet has it.
        if let Some((revision, _)) = revisions.get_mut(current.unwrap_or(0)) {
            revision.current = true;
        }
    }
}

fn kind(of: Kind) -> Option<Kind> {
    match of {
        Kind::Deployment => Some(Kind::ReplicaSet),
        Kind::StatefulSet | Kind::DaemonSet => Some(Kind::ControllerRevision),
        _ => None,
    }
}
