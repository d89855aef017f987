//! Resolve: which object each new signal is about, and what stands around it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt, stream};

use crate::clock::Clock;
use crate::correlate::root;
use crate::model::{ObjectRef, Scene, SignalBody};
use crate::observe::Reader;
use crate::observe::{scene, subject};
use crate::stages::Ran;
use crate::stages::changed;
use crate::store::{Durability, Store, Write};

/// Signals of one run: Alertmanager's own default groups stay far below.
const BATCH: u32 = 200;
/// Parts of a scene that have not answered by then are marked missing and read again later; the card does not wait.
const SCENE_DEADLINE: Duration = Duration::from_millis(300);
const REPLAY_DEADLINE: Duration = Duration::from_secs(20);
/// Reads of different subjects under way at once: enough to hide the API server's latency, too few to hurt it.
const AT_ONCE: usize = 8;
/// A scene this fresh is not read again for the next signal of the same burst, in milliseconds.
const FRESH_MS: i64 = 1_000;

/// The stage.
pub struct Resolve {
    pub store: Store,
    pub reader: Reader,
    pub clock: Clock,
}

impl Resolve {
    /// Resolves the oldest unresolved signals.
    ///
    /// # Errors
    /// The store's; what cannot be read of the cluster is part of the scene.
    pub async fn run_once(&self) -> anyhow::Result<Ran> {
        let signals = self.store.signals_unresolved(BATCH).await?;
        if signals.is_empty() {
            return Ok(Ran::Idle);
        }
        let subjects = subject::of_all(&self.reader, &signals).await;
        let mut hints: BTreeMap<ObjectRef, BTreeSet<ObjectRef>> = BTreeMap::new();
        for (signal, subject) in signals.iter().zip(&subjects) {
            // An edit brings its own difference, and what it touches is read for the incidents that it joins.
            let edit = matches!(&signal.body, SignalBody::Rollout(rollout) if rollout.is_edit());
            if let Some(object) = subject.object.as_ref().filter(|_| !edit) {
                hints.entry(object.clone()).or_default().extend(subject.near.iter().cloned());
            }
        }
        let mut scenes = self.read(hints).await?;
        // What explains the subject's trouble from outside it (its node, a Service that it calls) is read as well.
        let mut roots: BTreeMap<ObjectRef, BTreeSet<ObjectRef>> = BTreeMap::new();
        for scene in &scenes {
            if let Some(root) = root::of(scene) {
                roots.entry(root.object).or_default().insert(scene.subject.clone());
            }
        }
        roots.retain(|object, _| scenes.iter().all(|scene| scene.subject != *object));
        scenes.extend(self.read(roots).await?);
        let mut writes: Vec<Write> = scenes.into_iter().map(|scene| Write::Scene { scene: Box::new(scene) }).collect();
        writes.extend(signals.into_iter().zip(subjects).map(|(signal, subject)| Write::Resolve {
            signal: signal.id,
            subject: subject.object,
            note: subject.note,
        }));
        self.store.commit(writes, Durability::Soon, None).await?;
        Ok(Ran::Worked)
    }

    /// On a clock that stands still nothing waits for the card, and completeness makes a replay repeatable.
    fn deadline(&self) -> Duration {
        if self.clock.is_manual() { REPLAY_DEADLINE } else { SCENE_DEADLINE }
    }

    async fn read(&self, subjects: BTreeMap<ObjectRef, BTreeSet<ObjectRef>>) -> anyhow::Result<Vec<Scene>> {
        let mut stale = Vec::new();
        for (object, hints) in subjects {
            let stored = self.store.scene(&object).await?;
            let age = stored.map(|scene| self.clock.now_ms() - scene.read_at.as_millisecond());
            if age.is_none_or(|age| self.clock.is_manual() || age > FRESH_MS) {
                stale.push((object, hints.into_iter().collect::<Vec<_>>()));
            }
        }
        let read = stream::iter(stale)
            .map(|(object, hints)| async move { scene::read(&self.reader, &object, &hints, self.deadline()).await });
        let mut scenes: Vec<Scene> = read.buffer_unordered(AT_ONCE).collect().await;
        for scene in &mut scenes {
            changed::add(&self.store, scene, self.clock.now()).await?;
        }
        Ok(scenes)
    }
}
