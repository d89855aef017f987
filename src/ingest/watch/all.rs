//! Every watch, each with what listens to it.

use std::pin::Pin;

use kube::core::DynamicObject;
use serde_json::Value;

use crate::ingest::watch::Speaker;
use crate::ingest::watch::backing::{Asleep, Backings};
use crate::ingest::watch::config_maps;
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

/// Follows all of them until each has ended: those of one namespace, or of all with what lives in none. `source` names
/// where one reports, and whether firstlook needs it.
pub(super) async fn follow_all(
    client: &kube::Client,
    place: Option<&str>,
    speaker: &Speaker,
    room: Room,
    source: impl Fn(Kind, bool) -> Source,
) {
    let (needed, more) = (|kind| source(kind, true), |kind| source(kind, false));
    // The list of events is of this hour alone, and only trouble is asked for.
    let warnings = Some("type=Warning");
    let events: kube::Api<DynamicObject> = api(client, Kind::Event, place);
    let leases = api(client, Kind::Lease, Some(leases::NAMESPACE));
    let (asleep, mounts) = (Asleep::default(), Mounts::default());
    let mut of_sets = Sets::new(speaker.clone());
    let mut of_statefuls = Statefuls::new(speaker.clone(), asleep.clone(), mounts.clone());
    let mut of_daemons = Daemons::new(speaker.clone(), mounts.clone());
    let mut of_pods = Pods::new(speaker.clone());
    let mut of_nodes = Nodes::new(speaker.clone());
    let mut of_leases = Leases::new(speaker.clone());
    let mut of_slices = Backings::new(speaker.clone(), asleep.clone());
    let mut of_events = Events::new(speaker.clone());
    let mut of_deployments = States::new(Kind::Deployment, speaker.clone());
    let deployments = |happened: Happened<Watched>| {
        asleep.hear(&happened, |deployment| deployment.spec.replicas);
        mounts.hear(Kind::Deployment, &happened, |deployment| deployment.spec.template.clone());
        of_deployments.hear(happened)
    };
    let mut of_jobs = States::new(Kind::Job, speaker.clone());
    let jobs = |happened: Happened<Watched>| {
        mounts.hear(Kind::Job, &happened, |job| job.spec.template.clone());
        of_jobs.hear(happened)
    };
    let mut of_cron_jobs = both(Kind::CronJob, speaker, &room);
    let cron_jobs = |happened: Happened<Entire>| {
        mounts.hear(Kind::CronJob, &happened, |cron_job| {
            Reads::of(cron_job.spec.pointer("/jobTemplate/spec/template").unwrap_or(&Value::Null))
        });
        of_cron_jobs(happened)
    };
    let claims = states(Kind::PersistentVolumeClaim, speaker);
    let scalers = both(Kind::HorizontalPodAutoscaler, speaker, &room);
    let maps = more(Kind::ConfigMap);
    let (heard, stop) = (maps.heard.clone(), maps.stop.clone());
    let of_maps = Edits::new(Kind::ConfigMap, speaker.clone(), room.clone());
    let mut all: Vec<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = vec![
        Box::pin(follow(needed(Kind::ReplicaSet), api(client, Kind::ReplicaSet, place), None, |it| of_sets.hear(it))),
        Box::pin(follow(needed(Kind::StatefulSet), api(client, Kind::StatefulSet, place), None, |it| {
            of_statefuls.hear(it)
        })),
        Box::pin(follow(needed(Kind::DaemonSet), api(client, Kind::DaemonSet, place), None, |it| of_daemons.hear(it))),
        Box::pin(follow(needed(Kind::Pod), api(client, Kind::Pod, place), None, |it| of_pods.hear(it))),
        Box::pin(follow(needed(Kind::Deployment), api(client, Kind::Deployment, place), None, deployments)),
        Box::pin(follow(needed(Kind::Job), api(client, Kind::Job, place), None, jobs)),
        Box::pin(follow(
            needed(Kind::PersistentVolumeClaim),
            api(client, Kind::PersistentVolumeClaim, place),
            None,
            claims,
        )),
        Box::pin(follow(
            needed(Kind::HorizontalPodAutoscaler),
            api(client, Kind::HorizontalPodAutoscaler, place),
            None,
            scalers,
        )),
        Box::pin(follow(needed(Kind::Event), events, warnings, |it| of_events.hear(it))),
        Box::pin(follow(more(Kind::CronJob), api(client, Kind::CronJob, place), None, cron_jobs)),
        Box::pin(follow(more(Kind::EndpointSlice), api(client, Kind::EndpointSlice, place), None, |it| {
            of_slices.hear(it)
        })),
        Box::pin(follow(maps, api(client, Kind::ConfigMap, place), None, |it| {
            config_maps::hear(&mounts, &it);
            Vec::new()
        })),
        Box::pin(config_maps::read_all(client, &mounts, of_maps, &speaker.redactor, heard, stop)),
    ];
    if place.is_none() {
        let nodes = api(client, Kind::Node, None);
        all.push(Box::pin(follow(needed(Kind::Node), nodes, None, |it| of_nodes.hear(it))));
        all.push(Box::pin(follow(more(Kind::Lease), leases, None, |it| of_leases.hear(it))));
    }
    for kind in EDITED {
        all.push(Box::pin(follow(more(kind), api(client, kind, place), None, edits(kind, speaker, &room))));
    }
    futures::future::join_all(all).await;
}

fn states(kind: Kind, speaker: &Speaker) -> impl FnMut(Happened<Watched>) -> Vec<Signal> {
    let mut states = States::new(kind, speaker.clone());
    move |happened| states.hear(happened)
}

fn edits(kind: Kind, speaker: &Speaker, room: &Room) -> impl FnMut(Happened<Plain>) -> Vec<Signal> {
    let mut edits = Edits::new(kind, speaker.clone(), room.clone());
    let redactor = speaker.redactor.clone();
    move |happened| edits.hear(&happened, |it| Content::of_spec(&it.spec, annotations(kind, &it.metadata), &redactor))
}

/// What an object says against itself, and how its spec was edited.
fn both(kind: Kind, speaker: &Speaker, room: &Room) -> impl FnMut(Happened<Entire>) -> Vec<Signal> {
    let mut states = states(kind, speaker);
    let mut edits = Edits::new(kind, speaker.clone(), room.clone());
    let redactor = speaker.redactor.clone();
    move |happened| {
        let mut signals = edits.hear(&happened, |it| Content::of_spec(&it.spec, None, &redactor));
        signals.extend(states(happened.map(Entire::judged)));
        signals
    }
}
