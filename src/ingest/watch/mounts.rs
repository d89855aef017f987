//! Which ConfigMaps workloads read: those alone are read themselves, and again when they change.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use kube::Resource;
use kube::core::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Notify;

use crate::ingest::watch::follow::Happened;
use crate::model::Kind;
use crate::observe::typed::template::config_map_names;

/// References of workloads to ConfigMaps that are remembered; a cluster with more is followed as far as this.
const REFERENCES_MAX: usize = 20_000;

/// Namespace and name of a ConfigMap.
pub(super) type Place = (String, String);

/// A pod template as far as it names ConfigMaps.
#[derive(Clone, Debug, Default)]
pub(super) struct Reads(Vec<Box<str>>);

impl Reads {
    /// Those of a pod template.
    pub(super) fn of(template: &Value) -> Self {
        Self(config_map_names(template).into_iter().map(Into::into).collect())
    }
}

impl<'de> Deserialize<'de> for Reads {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|template| Self::of(&template))
    }
}

/// The ConfigMaps that are read, and which of them have to be looked at. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Mounts(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Default)]
struct State {
    /// What each workload reads, by kind, namespace and name.
    workloads: HashMap<(Kind, String, String), Vec<Box<str>>>,
    /// How many workloads read each ConfigMap.
    readers: HashMap<Place, u32>,
    due: BTreeSet<Place>,
}

impl Mounts {
    /// Follows a watch of workloads; `reads` is what a template reads.
    pub(super) fn hear<K: Resource>(&self, kind: Kind, happened: &Happened<K>, reads: impl Fn(&K) -> Reads) {
        match happened {
            Happened::Listed(object) | Happened::Changed(object) => self.note(kind, object.meta(), reads(object)),
            Happened::Gone(object) => self.note(kind, object.meta(), Reads::default()),
            Happened::Begins | Happened::Whole | Happened::Tick => {}
        }
    }

    fn note(&self, kind: Kind, workload: &ObjectMeta, Reads(names): Reads) {
        let (Some(namespace), Some(name)) = (&workload.namespace, &workload.name) else { return };
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (kind, namespace.clone(), name.clone());
        let before = state.workloads.remove(&key).unwrap_or_default();
        for name in before.iter().filter(|name| !names.contains(name)) {
            let place = (namespace.clone(), name.to_string());
            let last = state.readers.get_mut(&place).is_none_or(|count| {
                *count -= 1;
                *count == 0
            });
            if last {
                state.readers.remove(&place);
            }
        }
        if names.is_empty() || state.readers.len() >= REFERENCES_MAX {
            return;
        }
        for name in names.iter().filter(|name| !before.contains(name)) {
            let place = (namespace.clone(), name.to_string());
            let readers = state.readers.entry(place.clone()).or_default();
            *readers += 1;
            if *readers == 1 {
                state.due.insert(place);
                self.0.news.notify_one();
            }
        }
        state.workloads.insert(key, names);
    }

    /// A ConfigMap appeared, changed or went.
    pub(super) fn moved(&self, map: &ObjectMeta) {
        let (Some(namespace), Some(name)) = (&map.namespace, &map.name) else { return };
        self.look_at((namespace.clone(), name.clone()));
    }

    /// It has to be looked at, if anybody reads it.
    pub(super) fn look_at(&self, place: Place) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.readers.contains_key(&place) {
            state.due.insert(place);
            self.0.news.notify_one();
        }
    }

    /// Whether a workload reads it.
    pub(super) fn is_read(&self, place: &Place) -> bool {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).readers.contains_key(place)
    }

    /// Whether none has to be looked at.
    pub(super) fn is_idle(&self) -> bool {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).due.is_empty()
    }

    /// The next that has to be looked at, once there is one.
    pub(super) async fn next(&self) -> Place {
        loop {
            let due = self.0.state.lock().unwrap_or_else(PoisonError::into_inner).due.pop_first();
            match due {
                Some(place) => return place,
                None => self.0.news.notified().await,
            }
        }
    }
}
