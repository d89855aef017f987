//! Stories of a shared cause: several subjects whose trouble is one fault, and what stands beside them.

use super::grouping::deployment;
use super::*;
use crate::model::ObjectRef;

/// The scenario with a second set of the objects whose names begin with `name`, under the name `twin`; `kept` keeps its
/// name in both.
pub(super) fn with_twin(scenario: &str, name: &str, twin: &str, kept: &[&str]) -> Scenario {
    let mut scenario = without_model(folder(scenario));
    let renamed = |text: &str| {
        let text = text.replace(name, twin);
        kept.iter().fold(text, |text, kept| text.replace(&kept.replace(name, twin), kept))
    };
    let logs: Vec<(String, Vec<u8>)> = scenario
        .files
        .iter()
        .filter(|(path, _)| path.starts_with("logs/") && path.contains(name))
        .map(|(path, bytes)| (path.replace(name, twin), renamed(&String::from_utf8_lossy(bytes)).into_bytes()))
        .collect();
    scenario.files.extend(logs);
    edit(&mut scenario, |items| {
        let of_name = |item: &&Value| item["metadata"]["name"].as_str().is_some_and(|own| own.starts_with(name));
        let own: Vec<&Value> = items.iter().filter(of_name).collect();
        let uids: Vec<&str> = own.iter().filter_map(|item| item["metadata"]["uid"].as_str()).collect();
        let copy = |item: &&Value| -> Value {
            let text = renamed(&item.to_string());
            let text = uids.iter().fold(text, |text, uid| text.replace(uid, &format!("f{}", &uid[1..])));
            serde_json::from_str(&text).unwrap()
        };
        let copies: Vec<Value> = own.iter().map(copy).filter(|copy| !items.contains(copy)).collect();
        items.extend(copies);
    });
    scenario
}

/// An alert on a Deployment.
pub(super) fn of_deployment(name: &str, town: &Town, namespace: &str, workload: &str) -> Value {
    alert(name, town.now(), &[("namespace", namespace), ("deployment", workload)])
}

/// The one incident that is left, after the looks that show it.
async fn one_left(town: &Town) -> Incident {
    town.pass(20).await;
    town.pass(20).await;
    let open = town.open().await;
    let [incident] = &open[..] else {
        panic!("{:#?}", open.iter().map(|i| (&i.subject, &i.shares)).collect::<Vec<_>>())
    };
    incident.clone()
}

#[tokio::test]
async fn two_workloads_that_cannot_pull_one_image_are_one_incident_with_a_step_for_each() {
    let town = Town::of(with_twin("bad-image-rollout", "checkout", "orders", &["shop/checkout:"])).await;
    for workload in ["checkout", "orders"] {
        town.hear(&body(&[of_deployment("KubeDeploymentRolloutStuck", &town, "shop", workload)])).await;
    }
    let incident = one_left(&town).await;
    let because = incident.absorbed[0].because.as_str();
    assert!(because.starts_with("same cause, image registry.harbour.example/shop/checkout:v2.4.0"), "{because}");
    let card = town.store.card(&incident.id).await.unwrap().unwrap();
    let mut asked: Vec<&ObjectRef> = card.approvals.iter().map(|approval| approval.proposal.object()).collect();
    asked.sort();
    assert_eq!(asked, [&deployment("shop", "checkout"), &deployment("shop", "orders")]);
    assert_eq!(incident.waits_for, None, "its own subject is in trouble still");
    let shown: Vec<String> = town.channel().iter().map(Message::plain).collect();
    assert!(shown.iter().any(|card| card.contains("Took in 1 incident")), "{shown:#?}");
    assert!(shown.iter().any(|card| card.contains("Taken in")), "{shown:#?}");
}

#[tokio::test]
async fn two_workloads_that_read_one_changed_config_map_are_one_incident() {
    let scenario = with_twin("configmap-value-changed", "rate-router", "rate-limiter", &[]);
    let town = Town::of(scenario).await;
    for workload in ["rate-router", "rate-limiter"] {
        town.hear(&body(&[of_deployment("KubePodCrashLooping", &town, "edge-routing", workload)])).await;
    }
    let incident = one_left(&town).await;
    let because = incident.absorbed[0].because.as_str();
    assert!(because.starts_with("same cause, ConfigMap edge-routing/router-limits"), "{because}");
}

#[tokio::test]
async fn two_workloads_whose_logs_name_one_host_that_does_not_answer_are_one_incident() {
    let town = Town::of(with_twin("external-dependency-down", "charge-gateway", "refund-gateway", &[])).await;
    for workload in ["charge-gateway", "refund-gateway"] {
        let name = "KubeDeploymentReplicasMismatch";
        town.hear(&body(&[of_deployment(name, &town, "billing-uk", workload)])).await;
    }
    let incident = one_left(&town).await;
    assert!(incident.absorbed[0].because.as_str().contains("203.0.113.40:443"), "{:?}", incident.absorbed);
}

#[tokio::test]
async fn alerts_on_victims_of_one_service_that_is_down_join_the_incident_of_what_stands_behind_it() {
    let twin = with_twin("dependency-down-innocent-rollout", "order-intake", "order-export", &[]);
    let town = Town::of(twin).await;
    for workload in ["order-intake", "order-export"] {
        let name = "KubeDeploymentReplicasMismatch";
        town.hear(&body(&[of_deployment(name, &town, "orders-eu", workload)])).await;
    }
    let open = town.open().await;
    assert_eq!(open.len(), 1, "{open:#?}");
    assert_eq!(open[0].subject, deployment("orders-eu", "session-cache"));
    let card = town.channel()[0].plain();
    assert!(card.contains("Also hit") && card.contains("order-intake") && card.contains("order-export"), "{card}");
    assert!(card.contains("cannot reach Service orders-eu/session-cache"), "with what joins them: {card}");
}

#[tokio::test]
async fn workloads_that_a_node_under_pressure_evicted_are_one_incident_of_the_node_and_what_limps_beside_them_is_another()
 {
    let mut scenario = with_twin("node-disk-pressure-eviction", "thumb-cache", "thumb-index", &[]);
    edit(&mut scenario, |items| {
        items.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "depot", "uid": "u-depot"}}));
        let mut beside = super::storm::limping("crane", 2, &json!({}));
        for item in &mut beside {
            if item["kind"] == "Pod" {
                item["spec"]["nodeName"] = json!("ruff-w2");
            }
        }
        items.extend(beside);
    });
    let town = Town::of(scenario).await;
    for (namespace, workload) in [("thumbs", "thumb-cache"), ("depot", "crane"), ("thumbs", "thumb-index")] {
        let name = "KubeDeploymentReplicasMismatch";
        town.hear(&body(&[of_deployment(name, &town, namespace, workload)])).await;
    }
    let mut subjects: Vec<String> = town.open().await.iter().map(|incident| incident.subject.to_string()).collect();
    subjects.sort();
    assert_eq!(subjects, ["Deployment depot/crane", "Node ruff-w2"], "at once, before any look");
    let shown: Vec<String> = town.channel().iter().map(Message::plain).collect();
    let [card] = &shown.iter().filter(|card| card.contains("Node ruff-w2 is under pressure")).collect::<Vec<_>>()[..]
    else {
        panic!("{shown:#?}")
    };
    for part in ["5 pods were evicted", "Also hit", "thumb-cache", "thumb-index", "nightly-dump used the most, 55Gi"] {
        assert!(card.contains(part), "{part}: {card}");
    }
    assert!(!card.contains("crane"), "it limps for reasons of its own: {card}");
}
