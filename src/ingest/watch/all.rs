//! Every watch, each with what listens to it.

use kube::core::DynamicObject;
use kube::runtime::watcher;

use crate::ingest::watch::Speaker;
use crate::ingest::watch::backing::{Asleep, Backings};
use crate::ingest::watch::events::Events;
use crate::ingest::watch::follow::{Happened, Source, api, api_in, follow};
use crate::ingest::watch::judge::Watched;
use crate::ingest::watch::leases;
use crate::ingest::watch::leases::Leases;
use crate::ingest::watch::nodes::Nodes;
use crate::ingest::watch::pods::Pods;
use crate::ingest::watch::rollouts::{Daemons, Sets, Statefuls};
use crate::ingest::watch::states::States;
use crate::model::{Kind, Signal};

/// Follows all of them until each has ended. `source` names where one reports, and whether firstlook needs it.
pub(super) async fn follow_all(client: &kube::Client, speaker: &Speaker, source: impl Fn(Kind, bool) -> Source) {
    let (needed, more) = (|kind| source(kind, true), |kind| source(kind, false));
    let all = watcher::Config::default;
    // The list of events is of this hour alone, and only trouble is asked for.
    let warnings = all().fields("type=Warning");
    let events: kube::Api<DynamicObject> = api(client, Kind::Event);
    let asleep = Asleep::default();
    let mut of_sets = Sets::new(speaker.clone());
    let mut of_statefuls = Statefuls::new(speaker.clone(), asleep.clone());
    let mut of_daemons = Daemons::new(speaker.clone());
    let mut of_pods = Pods::new(speaker.clone());
    let mut of_nodes = Nodes::new(speaker.clone());
    let mut of_leases = Leases::new(speaker.clone());
    let mut of_slices = Backings::new(speaker.clone(), asleep.clone());
    let mut of_events = Events::new(speaker.clone());
    let mut of_deployments = States::new(Kind::Deployment, speaker.clone());
    let deployments = |happened: Happened<Watched>| {
        asleep.hear(&happened, |deployment| deployment.spec.replicas);
        of_deployments.hear(happened)
    };
    let leases = api_in(client, Kind::Lease, leases::NAMESPACE);
    tokio::join!(
        follow(needed(Kind::ReplicaSet), api(client, Kind::ReplicaSet), all(), |happened| of_sets.hear(happened)),
        follow(needed(Kind::StatefulSet), api(client, Kind::StatefulSet), all(), |happened| of_statefuls
            .hear(happened)),
        follow(needed(Kind::DaemonSet), api(client, Kind::DaemonSet), all(), |happened| of_daemons.hear(happened)),
        follow(needed(Kind::Pod), api(client, Kind::Pod), all(), |happened| of_pods.hear(happened)),
        follow(needed(Kind::Node), api(client, Kind::Node), all(), |happened| of_nodes.hear(happened)),
        follow(needed(Kind::Deployment), api(client, Kind::Deployment), all(), deployments),
        follow(needed(Kind::Job), api(client, Kind::Job), all(), states(Kind::Job, speaker)),
        follow(
            needed(Kind::PersistentVolumeClaim),
            api(client, Kind::PersistentVolumeClaim),
            all(),
            states(Kind::PersistentVolumeClaim, speaker)
        ),
        follow(
            needed(Kind::HorizontalPodAutoscaler),
            api(client, Kind::HorizontalPodAutoscaler),
            all(),
            states(Kind::HorizontalPodAutoscaler, speaker)
        ),
        follow(needed(Kind::Event), events, warnings, |happened| of_events.hear(happened)),
        follow(more(Kind::CronJob), api(client, Kind::CronJob), all(), states(Kind::CronJob, speaker)),
        follow(more(Kind::Lease), leases, all(), |happened| of_leases.hear(happened)),
        follow(more(Kind::EndpointSlice), api(client, Kind::EndpointSlice), all(), |happened| of_slices.hear(happened)),
    );
}

fn states(kind: Kind, speaker: &Speaker) -> impl FnMut(Happened<Watched>) -> Vec<Signal> {
    let mut states = States::new(kind, speaker.clone());
    move |happened| states.hear(happened)
}
