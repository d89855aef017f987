//! Changed: the edits that the watches heard, put into a scene that was read.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::correlate::changed;
use crate::model::{ObjectRef, Scene};
use crate::store::Store;

/// As far back as a scene tells changes of objects that have no history of their own.
const LOOK_BACK: SignedDuration = SignedDuration::from_hours(24);
/// Edits of one namespace; in one with more, the newest say what changed.
const EDITS_MAX: u32 = 100;

/// Puts what was heard into `scene`: of its subject's namespace, and of those of the Services that it calls.
pub(super) async fn add(store: &Store, scene: &mut Scene, now: Timestamp) -> anyhow::Result<()> {
    let since = now.checked_sub(LOOK_BACK).unwrap_or(now);
    let services = scene.services.items().iter().map(|service| &service.object);
    let namespaces = services.chain([&scene.subject]).map(ObjectRef::namespace).filter(|name| !name.is_empty());
    let mut heard = Vec::new();
    for namespace in namespaces.collect::<BTreeSet<_>>() {
        heard.extend(store.edits_in(namespace, since, EDITS_MAX).await?);
    }
    changed::add(scene, &heard);
    Ok(())
}
