//! Every watch, each with what listens to it.

use std::pin::Pin;

use kube::Resource;
use kube::core::{ApiResource, DynamicObject, DynamicResourceScope};
use serde_json::Value;

use crate::ingest::watch::Speaker;
use crate::ingest::watch::backing::{Asleep, Backings};
use crate::ingest::watch::config_maps;
use crate::ingest::watch::config_maps::Progress;
use crate::ingest::watch::edits::{Edits, Room, annotations};
use crate::ingest::watch::events::Events;
use crate::ingest::watch::follow::{Happened, Source, api, follow};
use crate::ingest::watch::judge::{Entire, Watched};
use crate::ingest::watch::leases;
use crate::ingest::watch::leases::Leases;
use crate::ingest::watch::mounts::{Mounts, Reads};
use crate::ingest::watch::nodes::Nodes;
use crate::ingest::watch::pods::Pods;
use crate::ingest::watch::rollouts::{Daemons, Sets, Statefuls};
use crate::ingest::watch::seen::{Ignored, Seen};
use crate::ingest::watch::states::States;
use crate::model::{Kind, Signal};
use crate::observe::edits::Content;

/// An object whose spec is compared field by field.
type Plain = Seen<Value, Ignored>;

/// Kinds of which only edits are heard. They may be forbidden: then what changed is told without its difference.
const EDITED: [Kind; 5] = [Kind::Service, Kind::Ingress, Kind::NetworkPolicy, Kind::ResourceQuota, Kind::LimitRange];

/// A watch under way.
type Followed<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Where is watched, and what several watches tell each other.
struct Place<'a> {
    client: &'a kube::Client,
    /// One namespace, or all with what lives in none.
    namespace: Option<&'a str>,
    speaker: &'a Speaker,
    asleep: Asleep,
    mounts: Mounts,
    /// Shared by all places: it is a bound of memory.
    room: Room,
}

/// Follows all of them until each has ended: those of one namespace, or of all with what lives in none. `source` names
/// where one reports, and whether firstlook needs it.
pub(super) async fn follow_all(
    client: &kube::Client,
    namespace: Option<&str>,
    speaker: &Speaker,
    room: Room,
    source: impl Fn(Kind, bool) -> Source,
) {
    let (needed, more) = (|kind| source(kind, true), |kind| source(kind, false));
    let (asleep, mounts) = (Asleep::default(), Mounts::default());
    let place = Place { client, namespace, speaker, asleep, mounts, room };
    let mut all = place.rolled_out(&needed);
    all.extend(place.in_state(&needed));
    all.extend(place.beside(&more));
    all.extend(place.maps(more(Kind::ConfigMap)));
    if namespace.is_none() {
        all.extend(place.nodes(&source));
    }
    for kind in EDITED {
        all.push(Box::pin(follow(more(kind), place.api(kind), None, edits(kind, speaker, &place.room))));
    }
    futures::future::join_all(all).await;
}

impl Place<'_> {
    /// What rolls out, and the pods under it.
    fn rolled_out<'f>(&self, needed: &impl Fn(Kind) -> Source) -> Vec<Followed<'f>> {
        let speaker = self.speaker;
        let (asleep, mounts) = (&self.asleep, &self.mounts);
        let mut sets = Sets::new(speaker.clone());
        let mut statefuls = Statefuls::new(speaker.clone(), asleep.clone(), mounts.clone());
        let mut daemons = Daemons::new(speaker.clone(), mounts.clone());
        let mut pods = Pods::new(speaker.clone());
        vec![
            Box::pin(follow(needed(Kind::ReplicaSet), self.api(Kind::ReplicaSet), None, move |it| sets.hear(it))),
            Box::pin(follow(needed(Kind::StatefulSet), self.api(Kind::StatefulSet), None, move |it| {
                statefuls.hear(it)
            })),
            Box::pin(follow(needed(Kind::DaemonSet), self.api(Kind::DaemonSet), None, move |it| daemons.hear(it))),
            Box::pin(follow(needed(Kind::Pod), self.api(Kind::Pod), None, move |it| pods.hear(it))),
        ]
    }

    /// What says by its own state, or by an event, that it is in trouble.
    fn in_state<'f>(&self, needed: &impl Fn(Kind) -> Source) -> Vec<Followed<'f>> {
        let speaker = self.speaker;
        let (asleep, mounts) = (self.asleep.clone(), self.mounts.clone());
        let mut of_deployments = States::new(Kind::Deployment, speaker.clone());
        let deployments = move |happened: Happened<Watched>| {
            asleep.hear(&happened, |deployment| deployment.spec.replicas);
            mounts.hear(Kind::Deployment, &happened, |deployment| deployment.spec.template.clone());
            of_deployments.hear(happened)
        };
        let mounts = self.mounts.clone();
        let mut of_jobs = States::new(Kind::Job, speaker.clone());
        let jobs = move |happened: Happened<Watched>| {
            mounts.hear(Kind::Job, &happened, |job| job.spec.template.clone());
            of_jobs.hear(happened)
        };
        let claims = states(Kind::PersistentVolumeClaim, speaker);
        let scalers = both(Kind::HorizontalPodAutoscaler, speaker, &self.room);
        // The list of events is of this hour alone, and only trouble is asked for.
        let warnings = Some("type=Warning");
        let events: kube::Api<DynamicObject> = self.api(Kind::Event);
        let mut of_events = Events::new(speaker.clone());
        vec![
            Box::pin(follow(needed(Kind::Deployment), self.api(Kind::Deployment), None, deployments)),
            Box::pin(follow(needed(Kind::Job), self.api(Kind::Job), None, jobs)),
            Box::pin(follow(needed(Kind::PersistentVolumeClaim), self.api(Kind::PersistentVolumeClaim), None, claims)),
            Box::pin(follow(
                needed(Kind::HorizontalPodAutoscaler),
                self.api(Kind::HorizontalPodAutoscaler),
                None,
                scalers,
            )),
            Box::pin(follow(needed(Kind::Event), events, warnings, move |it| of_events.hear(it))),
        ]
    }

    /// What helps where it may be read, and is not needed.
    fn beside<'f>(&self, more: &impl Fn(Kind) -> Source) -> Vec<Followed<'f>> {
        let speaker = self.speaker;
        let mounts = self.mounts.clone();
        let mut of_cron_jobs = both(Kind::CronJob, speaker, &self.room);
        let cron_jobs = move |happened: Happened<Entire>| {
            mounts.hear(Kind::CronJob, &happened, |cron_job| {
                Reads::of(cron_job.spec.pointer("/jobTemplate/spec/template").unwrap_or(&Value::Null))
            });
            of_cron_jobs(happened)
        };
        let mut slices = Backings::new(speaker.clone(), self.asleep.clone());
        vec![
            Box::pin(follow(more(Kind::CronJob), self.api(Kind::CronJob), None, cron_jobs)),
            Box::pin(follow(more(Kind::EndpointSlice), self.api(Kind::EndpointSlice), None, move |it| slices.hear(it))),
        ]
    }

    /// ConfigMaps: that one moved is heard of all, and those that are mounted are read.
    fn maps(&self, source: Source) -> Vec<Followed<'_>> {
        let speaker = self.speaker;
        let (heard, stop) = (source.heard.clone(), source.stop.clone());
        let edits = Edits::new(Kind::ConfigMap, speaker.clone(), self.room.clone());
        let progress = Progress { health: source.health.clone(), name: format!("mounted {}", source.name) };
        progress.health.begins_to_read(&progress.name, self.namespace);
        vec![
            Box::pin(follow(source, self.api(Kind::ConfigMap), None, |it| {
                config_maps::hear(&self.mounts, &it);
                Vec::new()
            })),
            Box::pin(config_maps::read_all(self.client, &self.mounts, edits, &speaker.redactor, progress, heard, stop)),
        ]
    }

    /// Nodes and their leases, which live in no namespace that is listed.
    fn nodes<'f>(&self, source: &impl Fn(Kind, bool) -> Source) -> Vec<Followed<'f>> {
        let (mut nodes, mut leases) = (Nodes::new(self.speaker.clone()), Leases::new(self.speaker.clone()));
        let of_kubelets = api(self.client, Kind::Lease, Some(leases::NAMESPACE));
        vec![
            Box::pin(follow(source(Kind::Node, true), self.api(Kind::Node), None, move |it| nodes.hear(it))),
            Box::pin(follow(source(Kind::Lease, false), of_kubelets, None, move |it| leases.hear(it))),
        ]
    }

    fn api<K>(&self, kind: Kind) -> kube::Api<K>
    where
        K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
    {
        api(self.client, kind, self.namespace)
    }
}

fn states(kind: Kind, speaker: &Speaker) -> impl FnMut(Happened<Watched>) -> Vec<Signal> + use<> {
    let mut states = States::new(kind, speaker.clone());
    move |happened| states.hear(happened)
}

fn edits(kind: Kind, speaker: &Speaker, room: &Room) -> impl FnMut(Happened<Plain>) -> Vec<Signal> + use<> {
    let mut edits = Edits::new(kind, speaker.clone(), room.clone());
    let redactor = speaker.redactor.clone();
    move |happened| edits.hear(&happened, |it| Content::of_spec(&it.spec, annotations(kind, &it.metadata), &redactor))
}

/// What an object says against itself, and how its spec was edited.
fn both(kind: Kind, speaker: &Speaker, room: &Room) -> impl FnMut(Happened<Entire>) -> Vec<Signal> + use<> {
    let mut states = states(kind, speaker);
    let mut edits = Edits::new(kind, speaker.clone(), room.clone());
    let redactor = speaker.redactor.clone();
    move |happened| {
        let mut signals = edits.hear(&happened, |it| Content::of_spec(&it.spec, None, &redactor));
        signals.extend(states(happened.map(Entire::judged)));
        signals
    }
}
