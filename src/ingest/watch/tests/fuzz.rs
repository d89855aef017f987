//! Objects as watches bring them, damaged: whatever they hold, nothing falls.

use serde::de::DeserializeOwned;

use super::*;
use crate::ingest::watch::leases::Leases;
use crate::ingest::watch::nodes::Nodes;
use crate::ingest::watch::rollouts::Sets;
use crate::sim::tests::fuzz::{one_of_each_kind, try_hard};

/// The object listed, changed, an hour gone by, and the object gone.
fn live<K: DeserializeOwned>(bytes: &[u8], clock: &Clock, mut hear: impl FnMut(Happened<K>) -> Vec<Signal>) {
    let object = || serde_json::from_slice::<K>(bytes).ok();
    let (Some(listed), Some(changed), Some(gone)) = (object(), object(), object()) else { return };
    hear(Happened::Begins);
    hear(Happened::Listed(listed));
    hear(Happened::Whole);
    hear(Happened::Changed(changed));
    pass(clock, 3_600);
    hear(Happened::Tick);
    hear(Happened::Gone(gone));
}

#[test]
fn watched_objects_are_taken_as_far_as_they_go() {
    try_hard("watched object", &one_of_each_kind(), |bytes| {
        let (speaker, clock) = speaker(true);
        let (mut pods, mut events) = (Pods::new(speaker.clone()), Events::new(speaker.clone()));
        let (mut nodes, mut leases) = (Nodes::new(speaker.clone()), Leases::new(speaker.clone()));
        let mut sets = Sets::new(speaker.clone());
        live(bytes, &clock, |happened| pods.hear(happened));
        live(bytes, &clock, |happened| events.hear(happened));
        live(bytes, &clock, |happened| nodes.hear(happened));
        live(bytes, &clock, |happened| leases.hear(happened));
        live(bytes, &clock, |happened| sets.hear(happened));
        for kind in
            [Kind::Deployment, Kind::Job, Kind::CronJob, Kind::HorizontalPodAutoscaler, Kind::PersistentVolumeClaim]
        {
            let mut states = States::new(kind, speaker.clone());
            live(bytes, &clock, |happened| states.hear(happened));
        }
    });
}
