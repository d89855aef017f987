//! Which earlier revision works or worked: the one to go back to.

use jiff::Timestamp;

use super::rollout;
use super::say;
use super::view;
use crate::model::object::Kind;
use crate::model::scene::{Revision, Scene};

/// Those before it, newest first.
fn earlier_than<'a>(scene: &'a Scene, newest: &Revision) -> Vec<&'a Revision> {
    let earlier = scene.revisions.items().iter().filter(|revision| revision.number < newest.number);
    let mut earlier: Vec<&Revision> = earlier.collect();
    earlier.sort_by_key(|revision| std::cmp::Reverse(revision.number));
    earlier
}

/// How many pods of a revision are ready: a ControllerRevision does not count them itself.
pub(super) fn serving(scene: &Scene, revision: &Revision) -> u32 {
    let own = view::pods(scene).filter(|pod| pod.template.as_deref() == Some(revision.hash.as_str()));
    revision.ready.max(own.filter(|pod| !view::is_troubled(pod, scene.read_at)).count() as u32)
}

/// The newest earlier revision that has ready pods.
pub(super) fn still_serving<'a>(scene: &'a Scene, newest: &Revision) -> Option<&'a Revision> {
    earlier_than(scene, newest).into_iter().find(|revision| serving(scene, revision) > 0)
}

/// When a revision came to run: a rollback gives an old template a new number, so its age will not do.
pub(super) fn came_at(scene: &Scene, revision: &Revision) -> Timestamp {
    rollout::change_to(scene, revision).map_or(revision.created_at, |change| change.changed_at)
}

/// When the Deployment turned unavailable, if it is.
pub(super) fn turned_at(scene: &Scene) -> Option<Timestamp> {
    let available = view::condition(&view::workload(scene)?.conditions, "Available")?;
    available.changed_at.filter(|_| available.status.as_str() == "False")
}

/// A Deployment with strategy Recreate takes its old pods down before the new revision is made: they have 30 s to end,
/// unless their template says more.
const TAKEN_DOWN_SECONDS: i64 = 120;

/// Whether the trouble was there before this revision came.
pub(super) fn is_older(scene: &Scene, began: Timestamp, revision: &Revision) -> bool {
    let recreate = view::workload(scene).is_some_and(|workload| workload.strategy.as_str() == "Recreate");
    let early = if recreate { TAKEN_DOWN_SECONDS } else { 0 };
    began.as_second() + early < came_at(scene, revision).as_second()
}

/// Whether a later revision is an older template that somebody went back to.
fn is_left(scene: &Scene, revision: &Revision) -> bool {
    let back = |later: &Revision| later.earlier_numbers.iter().any(|number| *number < revision.number);
    scene.revisions.items().iter().any(|later| later.number > revision.number && back(later))
}

/// The earlier revision that ran well until what came next brought the trouble. With the newest one none of whose pods
/// ever was ready, those that came shortly before it and did not last are passed over.
pub(super) fn worked<'a>(scene: &'a Scene, newest: &'a Revision) -> Option<&'a Revision> {
    // Its controller replaces pods that are not ready first: that only the newest pods are left tells nothing.
    if scene.subject.kind == Kind::DaemonSet {
        return None;
    }
    let turned = turned_at(scene);
    let mut next = newest;
    for revision in earlier_than(scene, newest) {
        let (came, newest_came) = (came_at(scene, next), came_at(scene, newest));
        if say::seconds(came, newest_came) > rollout::PROVEN_SECONDS {
            return None;
        }
        // Pods of the newest revision cannot tell of trouble before it.
        let began = turned.or_else(|| view::trouble_began(scene).filter(|_| next.number == newest.number))?;
        let with_it = !is_older(scene, began, next) && say::seconds(came, began) <= rollout::WITH_THE_ROLLOUT_SECONDS;
        let lived = say::seconds(came_at(scene, revision), came);
        // A Deployment that stayed available for so long under it says so itself.
        let proven =
            lived >= rollout::PROVEN_SECONDS || (turned.is_some() && lived > rollout::WITH_THE_ROLLOUT_SECONDS);
        let left = is_left(scene, revision);
        if with_it && proven && (!left || turned.is_some()) {
            return Some(revision);
        }
        // After a rollback the numbers do not tell any more what ran after what.
        if left {
            return None;
        }
        next = revision;
    }
    None
}
