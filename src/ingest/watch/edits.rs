//! Edits of objects that keep no earlier state of themselves: ConfigMaps that workloads read, Services, quotas and the like.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::{SignedDuration, Timestamp};
use kube::core::ObjectMeta;

use crate::ingest::watch::Speaker;
use crate::ingest::watch::follow::Happened;
use crate::ingest::watch::mounts::Place;
use crate::ingest::watch::seen::written;
use crate::model::scene::DiffLine;
use crate::model::{Kind, ObjectRef, Rollout, Signal, SignalBody, SignalId};
use crate::observe::edits::{Content, whole};

/// Objects of one kind whose content is kept; a cluster with more is followed as far as this.
const OBJECTS_MAX: usize = 20_000;
/// What the contents of all kinds may take; beyond it only hashes of the values are kept, which still tell what changed
/// and to what. A fifth of what a daemon may take that watches 5,000 pods; ConfigMaps have 1 to 2 KiB as a rule.
const ROOM_BYTES: usize = 8 * 1024 * 1024;
/// A write this young has the date of its manager; of an older one only the watch knows when.
const YOUNG_SECONDS: i64 = 300;
/// An object that changed is not told of again within this, doubling with each time up to the next: a controller that
/// writes its ConfigMap every second must not fill the store. What happened meanwhile is told in one.
const REST_SECONDS: i64 = 30;
const REST_MAX_SECONDS: i64 = 3_600;
/// An object that was deleted is remembered so long: tools that replace objects delete and make them.
const GONE_KEPT_SECONDS: i64 = 3_600;

/// What is left for contents. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Room(Arc<AtomicUsize>);

impl Room {
    /// The content as far as there is room for it.
    fn keep(&self, content: Content) -> Content {
        let full = self.0.load(Ordering::Relaxed) + content.bytes() > ROOM_BYTES;
        let content = if full { content.hashed() } else { content };
        self.0.fetch_add(content.bytes(), Ordering::Relaxed);
        content
    }

    fn free(&self, content: &Content) {
        self.0.fetch_sub(content.bytes(), Ordering::Relaxed);
    }
}

struct Known {
    /// resourceVersion, in whose order edits are told.
    version: u64,
    /// As it was told last.
    content: Content,
    /// As it is, where that was not told yet.
    later: Option<Write>,
    gone_at: Option<Timestamp>,
    said_at: Option<Timestamp>,
    /// How often in a row it did not rest.
    restless: u32,
}

struct Write {
    content: Content,
    at: Timestamp,
    by: Option<String>,
}

impl Known {
    fn rest(&self) -> SignedDuration {
        SignedDuration::from_secs((REST_SECONDS << self.restless.min(7)).min(REST_MAX_SECONDS))
    }

    fn may_speak(&self, now: Timestamp) -> bool {
        self.said_at.is_none_or(|at| now.duration_since(at) >= self.rest())
    }

    fn spoke(&mut self, now: Timestamp) {
        let calm = self.said_at.is_none_or(|at| now.duration_since(at) >= self.rest() * 2);
        self.restless = if calm { 0 } else { self.restless.saturating_add(1) };
        self.said_at = Some(now);
    }
}

/// The objects of one kind.
pub(super) struct Edits {
    speaker: Speaker,
    kind: Kind,
    room: Room,
    known: HashMap<Place, Known>,
    /// Those of the list that is being read.
    listed: Option<HashSet<Place>>,
    whole: bool,
}

impl Edits {
    pub(super) fn new(kind: Kind, speaker: Speaker, room: Room) -> Self {
        Self { speaker, kind, room, known: HashMap::new(), listed: None, whole: false }
    }

    /// Follows a watch; `content` is what is compared of an object.
    pub(super) fn hear<K: kube::Resource>(
        &mut self,
        happened: &Happened<K>,
        content: impl Fn(&K) -> Content,
    ) -> Vec<Signal> {
        match happened {
            Happened::Begins => self.listed = Some(HashSet::new()),
            Happened::Listed(object) | Happened::Changed(object) => {
                return self.see(object.meta(), content(object)).into_iter().collect();
            }
            Happened::Whole => {
                self.whole = true;
                return self.left_out();
            }
            Happened::Gone(object) => {
                return place(object.meta()).and_then(|place| self.gone(&place)).into_iter().collect();
            }
            Happened::Tick => return self.tick(),
        }
        Vec::new()
    }

    /// An object as it is now.
    pub(super) fn see(&mut self, meta: &ObjectMeta, content: Content) -> Option<Signal> {
        let place = place(meta)?;
        let version = meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0);
        if let Some(listed) = &mut self.listed {
            listed.insert(place.clone());
        }
        let now = self.speaker.now();
        let write = written(meta);
        let at = write.map(|(at, _)| at).filter(|at| now.duration_since(*at).abs().as_secs() <= YOUNG_SECONDS);
        let write = Write { content, at: at.unwrap_or(now), by: write.map(|(_, by)| by.to_owned()) };
        let Some(known) = self.known.get_mut(&place) else { return self.first(place, version, write) };
        // Not in order, or seen already.
        if version <= known.version && version != 0 {
            return None;
        }
        known.version = version;
        known.later = Some(write);
        self.speak(&place, now)
    }

    /// An object that was not known: it is news where objects of its kind forbid something by being there.
    fn first(&mut self, place: Place, version: u64, write: Write) -> Option<Signal> {
        if self.known.len() >= OBJECTS_MAX {
            return None;
        }
        let news = self.whole && matches!(self.kind, Kind::NetworkPolicy | Kind::ResourceQuota | Kind::LimitRange);
        let lines = vec![whole(self.kind, &place.1, true, &self.speaker.redactor)];
        let signal =
            news.then(|| self.signal(&place, &version.to_string(), lines, write.at, write.by.as_deref())).flatten();
        let content = self.room.keep(write.content);
        let known = Known { version, content, later: None, gone_at: None, said_at: None, restless: 0 };
        self.known.insert(place, known);
        signal
    }

    /// Says what is different from what was said last.
    fn speak(&mut self, place: &Place, now: Timestamp) -> Option<Signal> {
        let known = self.known.get_mut(place).filter(|known| known.may_speak(now))?;
        let write = known.later.take()?;
        let mut lines = known.content.difference(&write.content, &self.speaker.redactor);
        if known.gone_at.take().is_some() {
            lines.insert(0, whole(self.kind, &place.1, true, &self.speaker.redactor));
        }
        if lines.is_empty() {
            return None;
        }
        known.spoke(now);
        let version = known.version.to_string();
        self.room.free(&known.content);
        known.content = self.room.keep(write.content);
        self.signal(place, &version, lines, write.at, write.by.as_deref())
    }

    /// An object that is not there any more.
    pub(super) fn gone(&mut self, place: &Place) -> Option<Signal> {
        let now = self.speaker.now();
        let known = self.known.get_mut(place).filter(|known| known.gone_at.is_none())?;
        (known.gone_at, known.later) = (Some(now), None);
        let version = format!("{} gone", known.version);
        let lines = vec![whole(self.kind, &place.1, false, &self.speaker.redactor)];
        self.signal(place, &version, lines, now, None)
    }

    /// Those that a new list does not hold went while nobody watched.
    fn left_out(&mut self) -> Vec<Signal> {
        let listed = self.listed.take().unwrap_or_default();
        let gone: Vec<Place> = self.known.keys().filter(|place| !listed.contains(*place)).cloned().collect();
        gone.iter().filter_map(|place| self.gone(place)).collect()
    }

    pub(super) fn tick(&mut self) -> Vec<Signal> {
        let now = self.speaker.now();
        self.keep(|_, known| known.gone_at.is_none_or(|at| now.duration_since(at).as_secs() < GONE_KEPT_SECONDS));
        let waiting = self.known.iter().filter(|(_, known)| known.later.is_some() && known.may_speak(now));
        let mut waiting: Vec<Place> = waiting.map(|(place, _)| place.clone()).collect();
        waiting.sort_by_key(|place| self.known.get(place).map_or(0, |known| known.version));
        waiting.iter().filter_map(|place| self.speak(place, now)).collect()
    }

    /// Forgets what nobody reads.
    pub(super) fn keep_read(&mut self, is_read: impl Fn(&Place) -> bool) {
        self.keep(|place, _| is_read(place));
    }

    fn keep(&mut self, wanted: impl Fn(&Place, &Known) -> bool) {
        let room = &self.room;
        self.known.retain(|place, known| {
            let keep = wanted(place, known);
            if !keep {
                room.free(&known.content);
            }
            keep
        });
    }

    fn signal(
        &self,
        (namespace, name): &Place,
        version: &str,
        lines: Vec<DiffLine>,
        at: Timestamp,
        by: Option<&str>,
    ) -> Option<Signal> {
        let speaker = &self.speaker;
        let object = ObjectRef::new(self.kind, Some(namespace), name)?;
        let id = SignalId::derive(&["edit", speaker.cluster.as_str(), &object.to_string(), version]);
        let by = by.filter(|by| !by.is_empty()).map(|by| speaker.redactor.redact(by));
        let rollout = Rollout { object, revision: None, template: version.to_owned(), at, by, lines };
        let body = SignalBody::Rollout(rollout);
        Some(Signal { id, cluster: speaker.cluster.clone(), heard_at: speaker.now(), body })
    }
}

/// Controllers of Ingresses obey annotations; elsewhere they are notes.
pub(super) fn annotations(kind: Kind, meta: &ObjectMeta) -> Option<&BTreeMap<String, String>> {
    meta.annotations.as_ref().filter(|_| kind == Kind::Ingress)
}

fn place(meta: &ObjectMeta) -> Option<Place> {
    Some((meta.namespace.clone()?, meta.name.clone()?))
}
