//! Alerts of the scenarios lead to what a person deploys.

use std::collections::BTreeMap;

use super::*;
use crate::model::Signal;
use crate::observe::tests::world;

async fn subjects(scenario: &str) -> BTreeMap<String, usize> {
    let world = world(scenario).await;
    let mut found = BTreeMap::new();
    for signal in world.alerts() {
        let subject = of(&world.reader, &signal).await;
        assert_eq!(subject.missing, None);
        let name = subject.object.map_or("nothing".to_owned(), |object| object.to_string());
        *found.entry(name).or_insert(0) += 1;
    }
    found
}

async fn of(reader: &Reader, signal: &Signal) -> Subject {
    of_all(reader, std::slice::from_ref(signal)).await.remove(0)
}

#[tokio::test]
async fn alerts_lead_to_what_a_person_deploys() {
    let cases = [
        ("d01-env-var-undefined", "Deployment billing-docs/invoice-renderer"),
        ("d04-node-selector-no-match", "Deployment fraud-models/risk-scorer"),
        ("d07-watchdog", "nothing"),
        ("d08-service-selector-mismatch", "Deployment tracking/route-planner"),
        ("d09-ingress-class-missing", "Ingress clinic-portal/portal"),
        ("d10-job-host-unresolvable", "Job integrations/tariff-import"),
        ("d12-bad-image-rollout", "Deployment fleet-ops/dispatch-api"),
    ];
    for (scenario, subject) in cases {
        let found = subjects(scenario).await;
        assert_eq!(found.keys().collect::<Vec<_>>(), [subject], "{scenario}");
    }
}

#[tokio::test]
async fn alerts_of_a_lost_node_lead_to_the_node_and_what_ran_on_it() {
    let found = subjects("d06-node-lost-kubelet").await;
    assert_eq!(found.values().sum::<usize>(), 48);
    assert_eq!(found["Node tide-eu-west-w2"], 2);
    assert!(found.keys().all(|name| !name.starts_with("Pod") && !name.starts_with("ReplicaSet")), "{found:?}");
    assert!(found.contains_key("StatefulSet parcels/event-journal"));
}

#[tokio::test]
async fn what_is_on_the_way_is_kept_as_a_hint() {
    let world = world("d12-bad-image-rollout").await;
    let subject = of(&world.reader, &world.alerts()[0]).await;
    let near: Vec<String> = subject.near.iter().map(ToString::to_string).collect();
    assert_eq!(near, ["Pod fleet-ops/dispatch-api-xzvmtldvgs-bktdv", "Node tide-eu-west-w1"]);
}

fn warning(object: ObjectRef) -> Signal {
    let at = jiff::Timestamp::UNIX_EPOCH;
    Signal {
        id: crate::model::SignalId::derive(&["a"]),
        cluster: crate::model::ClusterName::parse("test").unwrap(),
        heard_at: at,
        body: SignalBody::Warning(crate::model::Warning {
            object,
            source: crate::model::WarningSource::PodState,
            reason: "BackOff".into(),
            message: "".into(),
            first_at: at,
            last_at: at,
            count: 1,
            on_arrival: false,
        }),
    }
}

#[tokio::test]
async fn a_pod_that_is_gone_is_known_by_an_owner_that_exists() {
    let world = world("d12-bad-image-rollout").await;
    let ask = async |name: &str| {
        let pod = ObjectRef::new(Kind::Pod, Some("fleet-ops"), name).unwrap();
        of(&world.reader, &warning(pod)).await.object.map(|object| object.to_string())
    };
    let deployment = Some("Deployment fleet-ops/dispatch-api".to_owned());
    assert_eq!(ask("dispatch-api-x7ft9mqdn-zzzzz").await, deployment, "its ReplicaSet is there");
    assert_eq!(ask("dispatch-api-abcdef1234-zzzzz").await, deployment, "its ReplicaSet is gone");
    assert_eq!(ask("dispatch-ap-x7ft9mqdn-zzzzz").await.unwrap(), "Pod fleet-ops/dispatch-ap-x7ft9mqdn-zzzzz");
}

#[tokio::test]
async fn what_does_not_exist_keeps_the_name_it_was_given() {
    let world = world("d12-bad-image-rollout").await;
    let named = ObjectRef::new(Kind::Deployment, Some("fleet-op"), "dispatch-api").unwrap();
    let subject = of(&world.reader, &warning(named.clone())).await;
    assert_eq!(subject.object, Some(named));
    assert_eq!(subject.note.as_str(), "Deployment fleet-op/dispatch-api does not exist");
}
