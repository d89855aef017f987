//! Rollouts: a workload has a new template. The first list only says what there is.

use std::collections::HashMap;

use jiff::Timestamp;
use kube::ResourceExt;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::ingest::watch::Speaker;
use crate::ingest::watch::backing::Asleep;
use crate::ingest::watch::follow::Happened;
use crate::ingest::watch::mounts::{Mounts, Reads};
use crate::ingest::watch::seen::{Brief, Ignored, Seen};
use crate::model::{Kind, ObjectRef, Rollout, Signal, SignalBody, SignalId};
use crate::observe::typed::workload::REVISION;

/// A ReplicaSet this young was made by the rollout itself; an older one came back, and only the watch knows when.
const YOUNG_SECONDS: i64 = 300;

/// The newest template of each workload.
struct Newest {
    speaker: Speaker,
    known: HashMap<ObjectRef, Known>,
    /// The first list has been read.
    whole: bool,
}

/// What a workload was last seen to be made from.
struct Known {
    /// The workload's own: one that was deleted and made anew under its name is another.
    uid: String,
    number: i64,
    template: String,
    at: Timestamp,
}

impl Newest {
    fn new(speaker: Speaker) -> Self {
        Self { speaker, known: HashMap::new(), whole: false }
    }

    /// A signal if the template is new. `number` orders templates where it is known, else any other one is new.
    fn see(&mut self, seen: Template) -> Option<Signal> {
        let Template { workload: object, uid, number, generation, template, at } = seen;
        let is_new = self.known.get(&object).is_none_or(|known| match number {
            // What is left of one that was deleted may still speak.
            _ if known.uid != uid => at > known.at,
            Some(number) => number > known.number,
            None => template != known.template,
        });
        if !is_new {
            return None;
        }
        let known = Known { uid: uid.clone(), number: number.unwrap_or(0), template: template.clone(), at };
        self.known.insert(object.clone(), known);
        if !self.whole {
            return None;
        }
        let now = self.speaker.now();
        // A template that comes back without a number of its own is another rollout of another generation.
        let said = number.or(generation).map_or_else(String::new, |number| number.to_string());
        let cluster = &self.speaker.cluster;
        let id = SignalId::derive(&["rollout", cluster.as_str(), &object.to_string(), &uid, &said, &template]);
        let at = if (now.as_second() - at.as_second()).abs() <= YOUNG_SECONDS { at } else { now };
        let body = SignalBody::Rollout(Rollout { object, revision: number, template, at, by: None, lines: Vec::new() });
        Some(Signal { id, cluster: cluster.clone(), heard_at: now, body })
    }

    fn hear<K>(&mut self, happened: Happened<K>, read: impl Fn(&K) -> Option<Template>) -> Vec<Signal> {
        match happened {
            Happened::Listed(object) | Happened::Changed(object) => {
                read(&object).and_then(|seen| self.see(seen)).into_iter().collect()
            }
            Happened::Whole => {
                self.whole = true;
                Vec::new()
            }
            // A ReplicaSet that is gone says nothing: old ones are cleaned away. A workload that comes back is new
            // only by its template.
            Happened::Gone(_) | Happened::Begins | Happened::Tick => Vec::new(),
        }
    }
}

/// A template as an object shows it.
struct Template {
    workload: ObjectRef,
    uid: String,
    number: Option<i64>,
    generation: Option<i64>,
    template: String,
    at: Timestamp,
}

fn created(object: &impl ResourceExt) -> Timestamp {
    object.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// Deployments, by the revision of their ReplicaSets: their metadata says it all.
pub(super) struct Sets(Newest);

impl Sets {
    pub(super) fn new(speaker: Speaker) -> Self {
        Self(Newest::new(speaker))
    }
}

impl Sets {
    pub(super) fn hear(&mut self, happened: Happened<Brief>) -> Vec<Signal> {
        self.0.hear(happened, |set| {
            let owner = set.owner_references().iter().find(|owner| owner.controller == Some(true))?;
            if owner.kind != Kind::Deployment.as_str() {
                return None;
            }
            let number = set.annotations().get(REVISION)?.parse().ok()?;
            Some(Template {
                workload: ObjectRef::new(Kind::Deployment, set.namespace().as_deref(), &owner.name)?,
                uid: owner.uid.clone(),
                number: Some(number),
                generation: None,
                template: set.labels().get("pod-template-hash").cloned().unwrap_or_else(|| set.name_any()),
                at: created(set),
            })
        })
    }
}

/// What a StatefulSet's status says of its template.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UpdateRevision {
    update_revision: Option<String>,
}

/// As much of a StatefulSet's spec as is looked at.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Replicas {
    replicas: Option<i64>,
    template: Reads,
}

/// StatefulSets, by their status's `updateRevision`.
pub(super) struct Statefuls(Newest, Asleep, Mounts);

impl Statefuls {
    pub(super) fn new(speaker: Speaker, asleep: Asleep, mounts: Mounts) -> Self {
        Self(Newest::new(speaker), asleep, mounts)
    }
}

impl Statefuls {
    pub(super) fn hear(&mut self, happened: Happened<Seen<Replicas, UpdateRevision>>) -> Vec<Signal> {
        self.1.hear(&happened, |set| set.spec.replicas);
        self.2.hear(Kind::StatefulSet, &happened, |set| set.spec.template.clone());
        self.0.hear(happened, |set| {
            Some(Template {
                workload: ObjectRef::new(Kind::StatefulSet, set.namespace().as_deref(), &set.name_any())?,
                uid: set.uid().unwrap_or_default(),
                number: None,
                generation: set.metadata.generation,
                template: set.status.update_revision.clone()?,
                at: created(set),
            })
        })
    }
}

/// The template of a DaemonSet, whose status does not name it.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct WithTemplate {
    template: Value,
}

/// DaemonSets, by a hash of their template.
pub(super) struct Daemons(Newest, Mounts);

impl Daemons {
    pub(super) fn new(speaker: Speaker, mounts: Mounts) -> Self {
        Self(Newest::new(speaker), mounts)
    }
}

impl Daemons {
    pub(super) fn hear(&mut self, happened: Happened<Seen<WithTemplate, Ignored>>) -> Vec<Signal> {
        self.1.hear(Kind::DaemonSet, &happened, |set| Reads::of(&set.spec.template));
        self.0.hear(happened, |set| {
            Some(Template {
                workload: ObjectRef::new(Kind::DaemonSet, set.namespace().as_deref(), &set.name_any())?,
                uid: set.uid().unwrap_or_default(),
                number: None,
                generation: set.metadata.generation,
                // Ten hex digits tell the few templates of one DaemonSet apart.
                template: hex::encode(&Sha256::digest(set.spec.template.to_string())[..5]),
                at: created(set),
            })
        })
    }
}
