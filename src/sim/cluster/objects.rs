//! The objects of the simulated cluster, their resourceVersions, and the changes that watches replay.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::sim::cluster::kinds::{GENERATION, Kind, Kinds};
use crate::sim::cluster::logs::Logs;

/// Changes kept for watches that start in the past; an older watch gets 410 as from a compacted etcd.
const HISTORY_MAX: usize = 4096;

/// Where an object lives; the namespace of a cluster-scoped one is empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) kind: usize,
    pub(crate) ns: String,
    pub(crate) name: String,
}

/// One change: the object after it (for a deletion: as it last was) and before it.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) rv: u64,
    pub(crate) key: Key,
    pub(crate) deleted: bool,
    pub(crate) object: Arc<Value>,
    pub(crate) before: Option<Arc<Value>>,
}

/// Everything that the API server holds.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) kinds: Arc<Kinds>,
    pub(crate) logs: Logs,
    objects: BTreeMap<Key, Arc<Value>>,
    rv: u64,
    history: VecDeque<Change>,
    /// Watches may start at this resourceVersion or later.
    oldest: u64,
}

impl World {
    /// Takes the objects of a snapshot as they are, and those of `defaults` that it lacks, as old as `now`.
    /// Secrets are dropped, since nobody can ever read them here.
    pub(crate) fn new(items: Vec<Value>, defaults: Vec<Value>, logs: Logs, now: Timestamp) -> Self {
        let mut kinds = Kinds::new();
        let mut objects = BTreeMap::new();
        let mut rv = 1;
        for mut item in items.into_iter().chain(defaults) {
            let Some(kind) = kinds.learn(&item) else { continue };
            let kind = &kinds.all()[kind];
            if kind.kind == "Secret" {
                continue;
            }
            rv = rv.max(version(&item));
            born(kind, &mut item, now);
            let kind = kinds.stored(kind).id;
            let key = Key { kind, ns: namespace(&item).into(), name: name(&item).into() };
            objects.entry(key).or_insert_with(|| Arc::new(item));
        }
        Self { kinds: Arc::new(kinds), logs, objects, rv, history: VecDeque::new(), oldest: rv }
    }

    /// The resourceVersion of the latest change.
    pub(crate) fn rv(&self) -> u64 {
        self.rv
    }

    /// The resourceVersion from which on every change is still kept.
    pub(crate) fn oldest(&self) -> u64 {
        self.oldest
    }

    /// The address of an object of `kind` (either Event API means the same object).
    pub(crate) fn key(&self, kind: &Kind, ns: &str, name: &str) -> Key {
        let ns = if kind.namespaced { ns } else { "" };
        Key { kind: self.kinds.stored(kind).id, ns: ns.into(), name: name.into() }
    }

    /// The address of an object of a kind that is in the table.
    pub(crate) fn key_of(&self, kind: &str, ns: &str, name: &str) -> Option<Key> {
        self.kinds.by_kind(kind).map(|kind| self.key(kind, ns, name))
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Value>> {
        self.objects.get(key).cloned()
    }

    /// Objects of `kind` in a namespace, or in all, ordered by namespace and name.
    pub(crate) fn list(&self, kind: &Kind, ns: Option<&str>) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        let kind = self.kinds.stored(kind).id;
        let from = Key { kind, ns: ns.unwrap_or_default().into(), name: String::new() };
        let ns = ns.map(str::to_owned);
        self.objects
            .range(from..)
            .take_while(move |(key, _)| key.kind == kind && ns.as_ref().is_none_or(|ns| key.ns == *ns))
    }

    /// Objects of a kind in one namespace.
    pub(crate) fn all(&self, kind: &str, ns: &str) -> Vec<Arc<Value>> {
        let Some(kind) = self.kinds.by_kind(kind) else { return Vec::new() };
        self.list(kind, Some(ns)).map(|(_, object)| object.clone()).collect()
    }

    /// Stores `object` under `key` with the next resourceVersion and tells the watches.
    pub(crate) fn put(&mut self, key: Key, mut object: Value) -> Arc<Value> {
        self.rv += 1;
        object["metadata"]["resourceVersion"] = json!(self.rv.to_string());
        let object = Arc::new(object);
        let before = self.objects.insert(key.clone(), object.clone());
        self.remember(Change { rv: self.rv, key, deleted: false, object: object.clone(), before });
        object
    }

    /// Like [`World::put`], for an object that is not there yet: gives it uid, creation time and first generation.
    pub(crate) fn add(&mut self, key: Key, mut object: Value, now: Timestamp) -> Arc<Value> {
        born(&self.kinds.all()[key.kind], &mut object, now);
        self.put(key, object)
    }

    pub(crate) fn remove(&mut self, key: &Key) -> Option<Arc<Value>> {
        let before = self.objects.remove(key)?;
        self.rv += 1;
        let mut last = Value::clone(&before);
        last["metadata"]["resourceVersion"] = json!(self.rv.to_string());
        let object = Arc::new(last);
        let key = key.clone();
        self.remember(Change { rv: self.rv, key, deleted: true, object: object.clone(), before: Some(before) });
        Some(object)
    }

    /// The changes after `rv`, oldest first; `None` when some of them are no longer kept.
    pub(crate) fn since(&self, rv: u64) -> Option<impl Iterator<Item = &Change>> {
        (rv >= self.oldest).then(|| {
            let from = self.history.partition_point(|change| change.rv <= rv);
            self.history.range(from..)
        })
    }

    fn remember(&mut self, change: Change) {
        if self.history.len() == HISTORY_MAX
            && let Some(forgotten) = self.history.pop_front()
        {
            self.oldest = forgotten.rv;
        }
        self.history.push_back(change);
    }
}

/// Whether two values are the same to the server, for which a field that is null is absent.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    let bare = |value: &Value| {
        let mut bare = value.clone();
        drop_nulls(&mut bare);
        bare
    };
    a == b || bare(a) == bare(b)
}

pub(crate) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, inner| !inner.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Fills what the server gives a new object.
pub(crate) fn born(kind: &Kind, object: &mut Value, now: Timestamp) {
    let meta = &mut object["metadata"];
    if !meta["uid"].is_string() {
        meta["uid"] = json!(uid());
    }
    if !meta["resourceVersion"].is_string() {
        meta["resourceVersion"] = json!("1");
    }
    if !meta["creationTimestamp"].is_string() {
        meta["creationTimestamp"] = json!(stamp(now));
    }
    if kind.has(GENERATION) && !meta["generation"].is_number() {
        meta["generation"] = json!(1);
    }
}

pub(crate) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

pub(crate) fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

pub(crate) fn uid_of(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

/// The resourceVersion as a number; 0 where there is none.
pub(crate) fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// An instant as metav1.Time writes it: whole seconds.
pub(crate) fn stamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Randomness for names and uids: the standard library seeds every `RandomState` anew.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(0u8)
}

/// A random uid in the form of a UUID.
pub(crate) fn uid() -> String {
    let bytes = u128::from(random()) << 64 | u128::from(random());
    uuid::Builder::from_random_bytes(bytes.to_be_bytes()).into_uuid().to_string()
}

/// `length` characters of the alphabet that Kubernetes uses for generated names: no vowels, nothing that looks like another.
pub(crate) fn suffix(mut seed: u64, length: usize) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let base = ALPHABET.len() as u64;
    let mut made = String::with_capacity(length);
    for _ in 0..length {
        made.push(char::from(ALPHABET[(seed % base) as usize]));
        seed = (seed / base) ^ seed.rotate_left(23);
    }
    made
}
