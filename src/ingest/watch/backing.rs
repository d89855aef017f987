//! Services without a ready endpoint: lost, or never had. One whose workload was scaled to nothing is meant to have none.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use kube::Resource;
use kube::core::ObjectMeta;
use serde::Deserialize;

use crate::ingest::watch::Speaker;
use crate::ingest::watch::follow::Happened;
use crate::ingest::watch::seen::{light, resource};
use crate::model::patience::seconds;
use crate::model::{Kind, ObjectRef, Signal, SignalBody, SignalId, Warning, WarningSource};

/// The label by which an EndpointSlice names its Service.
const SERVICE: &str = "kubernetes.io/service-name";
/// The label that says who keeps a slice.
const KEEPER: &str = "endpointslice.kubernetes.io/managed-by";
/// Who keeps those of Services with a selector; of the others somebody else decides what stands behind them.
const BY_SELECTOR: &str = "endpointslice-controller.k8s.io";
/// Services that are followed; a cluster with more is watched as far as this.
const SERVICES_MAX: usize = 20_000;
/// Workloads at rest that are remembered.
const ASLEEP_MAX: usize = 20_000;

/// Workloads that are scaled to nothing, by namespace and name. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Asleep(Arc<Mutex<HashSet<(String, String)>>>);

impl Asleep {
    /// Notes how many pods a workload is to have; None is one.
    fn note(&self, metadata: &ObjectMeta, replicas: Option<i64>) {
        let (Some(namespace), Some(name)) = (&metadata.namespace, &metadata.name) else { return };
        let key = (namespace.clone(), name.clone());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if replicas == Some(0) && all.len() < ASLEEP_MAX {
            all.insert(key);
        } else {
            all.remove(&key);
        }
    }

    /// Whether any workload of a namespace is at rest.
    fn in_namespace(&self, namespace: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|(place, _)| place == namespace)
    }

    /// Follows a watch of workloads; `replicas` is how many pods one is to have.
    pub(super) fn hear<K: Resource>(&self, happened: &Happened<K>, replicas: impl Fn(&K) -> Option<i64>) {
        match happened {
            Happened::Listed(object) | Happened::Changed(object) => self.note(object.meta(), replicas(object)),
            Happened::Gone(object) => self.note(object.meta(), None),
            Happened::Begins | Happened::Whole | Happened::Tick => {}
        }
    }

    /// Whether a pod of this name was made by one of them: `<workload>-<number>` or `<workload>-<hash>-<five letters>`.
    fn made(&self, namespace: &str, pod: &str) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is = |name: &str| all.contains(&(namespace.to_owned(), name.to_owned()));
        let mut owners = std::iter::successors(pod.rsplit_once('-'), |(owner, _)| owner.rsplit_once('-'));
        owners.by_ref().take(2).any(|(owner, _)| is(owner))
    }
}

/// A slice of a Service's endpoints, as far as it is looked at.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Slice {
    #[serde(default, deserialize_with = "light")]
    metadata: ObjectMeta,
    #[serde(default)]
    endpoints: Option<Vec<Endpoint>>,
}

resource!([] Slice, false);

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Endpoint {
    conditions: Conditions,
    target_ref: Option<Target>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Conditions {
    /// None is to be read as ready.
    ready: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Target {
    name: String,
}

/// What stands behind one Service.
#[derive(Default)]
struct Backing {
    /// Ready endpoints, and all, of each slice.
    slices: HashMap<String, (u32, u32)>,
    /// A pod that was ready last.
    last: Option<Box<str>>,
    /// Since when it has no ready endpoint, as far as that was watched.
    empty_since: Option<Timestamp>,
    /// It has a selector and was never seen with a ready endpoint; when it was made.
    never: Option<Timestamp>,
    on_arrival: bool,
    said: bool,
}

/// The Services and what stands behind them.
pub(super) struct Backings {
    speaker: Speaker,
    asleep: Asleep,
    /// By namespace and name.
    known: HashMap<(String, String), Backing>,
    /// Slices of the list that is being read.
    listed: Option<HashSet<(String, String)>>,
    /// The first list has been read.
    whole: bool,
}

impl Backings {
    pub(super) fn new(speaker: Speaker, asleep: Asleep) -> Self {
        Self { speaker, asleep, known: HashMap::new(), listed: None, whole: false }
    }

    fn see(&mut self, slice: Slice) {
        let Some((key, name)) = key(&slice.metadata) else { return };
        if let Some(listed) = &mut self.listed {
            listed.insert((key.0.clone(), name.clone()));
        }
        if !self.known.contains_key(&key) && self.known.len() >= SERVICES_MAX {
            return;
        }
        let endpoints = slice.endpoints.unwrap_or_default();
        let ready = endpoints.iter().filter(|endpoint| endpoint.conditions.ready != Some(false));
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let counts = (count(ready.clone().count()), count(endpoints.len()));
        let last = ready.filter_map(|endpoint| endpoint.target_ref.as_ref()).next().map(|target| target.name.as_str());
        let by_selector = slice.metadata.labels.as_ref().and_then(|labels| labels.get(KEEPER));
        let by_selector = by_selector.is_some_and(|keeper| keeper == BY_SELECTOR);
        let now = self.speaker.now();
        let on_arrival = self.speaker.arrival && !self.whole;
        let backing = self.known.entry(key).or_insert_with(|| Backing {
            empty_since: by_selector.then_some(now),
            never: by_selector.then(|| slice.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0)),
            on_arrival,
            ..Backing::default()
        });
        if let Some(last) = last {
            backing.last = Some(last.into());
        }
        let had = backing.ready();
        backing.slices.insert(name, counts);
        backing.settle(had, now);
    }

    fn gone(&mut self, metadata: &ObjectMeta) {
        let Some((key, name)) = key(metadata) else { return };
        if let Some(backing) = self.known.get_mut(&key) {
            let had = backing.ready();
            backing.slices.remove(&name);
            // Without any slice there is no Service either.
            if backing.slices.is_empty() {
                self.known.remove(&key);
            } else {
                backing.settle(had, self.speaker.now());
            }
        }
    }

    fn due(&mut self) -> Vec<Signal> {
        let (now, speaker, asleep) = (self.speaker.now(), &self.speaker, &self.asleep);
        let mut signals = Vec::new();
        for ((namespace, name), backing) in self.known.iter_mut().filter(|(_, backing)| !backing.said) {
            let Some(since) = backing.empty_since else { continue };
            let patience = &speaker.patience;
            let holds = if backing.never.is_some() { patience.service_seconds } else { patience.endpoints_seconds };
            let is_due = now.duration_since(since) >= seconds(holds);
            let at_rest = match &backing.last {
                Some(pod) => asleep.made(namespace, pod),
                // What it selects is not seen here. Of those found on arrival nothing else is read; of the others the
                // scene tells whether their workload rests.
                None => is_due && backing.on_arrival && asleep.in_namespace(namespace),
            };
            if at_rest {
                // Its time begins when the workload is woken.
                backing.empty_since = Some(now);
                continue;
            }
            let Some(object) = ObjectRef::new(Kind::Service, Some(namespace), name).filter(|_| is_due) else {
                continue;
            };
            backing.said = true;
            // One that is empty from the beginning is the same trouble after a restart of this process.
            let started = match backing.never {
                Some(made) => format!("never since {}", made.as_millisecond()),
                None => since.as_millisecond().to_string(),
            };
            let warning = Warning {
                source: WarningSource::ObjectState,
                reason: speaker.redactor.redact("NoReadyEndpoints"),
                message: speaker.redactor.redact(&backing.says()),
                first_at: since,
                last_at: now,
                count: 1,
                on_arrival: backing.on_arrival && backing.never.is_some(),
                object,
            };
            signals.push(Signal {
                id: SignalId::derive(&["endpoints", speaker.cluster.as_str(), namespace, name, &started]),
                cluster: speaker.cluster.clone(),
                heard_at: now,
                body: SignalBody::Warning(warning),
            });
        }
        signals
    }

    pub(super) fn hear(&mut self, happened: Happened<Slice>) -> Vec<Signal> {
        match happened {
            Happened::Begins => self.listed = Some(HashSet::new()),
            Happened::Listed(slice) | Happened::Changed(slice) => self.see(slice),
            Happened::Whole => {
                self.whole = true;
                let listed = self.listed.take().unwrap_or_default();
                self.known.retain(|(namespace, _), backing| {
                    backing.slices.retain(|name, _| listed.contains(&(namespace.clone(), name.clone())));
                    !backing.slices.is_empty()
                });
            }
            Happened::Gone(slice) => self.gone(&slice.metadata),
            Happened::Tick if self.listed.is_none() => return self.due(),
            Happened::Tick => {}
        }
        Vec::new()
    }
}

impl Backing {
    fn ready(&self) -> u32 {
        self.slices.values().map(|(ready, _)| ready).sum()
    }

    fn says(&self) -> String {
        let all: u32 = self.slices.values().map(|(_, all)| all).sum();
        match (all, &self.last, self.never) {
            (0, _, Some(_)) => "its selector meets no pod".to_owned(),
            (all, _, Some(_)) => format!("none of its {all} endpoints has become ready"),
            (0, Some(pod), None) => format!("it has no endpoint any more; one of the last was {pod}"),
            (0, None, None) => "it has no endpoint any more".to_owned(),
            (all, _, None) => format!("none of its {all} endpoints is ready"),
        }
    }

    fn settle(&mut self, had: u32, now: Timestamp) {
        if self.ready() > 0 {
            (self.empty_since, self.never, self.said) = (None, None, false);
        } else if had > 0 {
            self.empty_since = Some(now);
        }
    }
}

/// The Service of a slice, by namespace and name, and the slice's own name.
fn key(metadata: &ObjectMeta) -> Option<((String, String), String)> {
    let service = metadata.labels.as_ref()?.get(SERVICE)?.clone();
    Some(((metadata.namespace.clone()?, service), metadata.name.clone()?))
}
