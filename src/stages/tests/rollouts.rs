//! Rollbacks and restarts of StatefulSets and DaemonSets, and the broken pod that one of them waits for.

use serde_json::{Value, json};

use super::{World, node, object, owners, pod, template};
use crate::model::{Action, ApprovalState, Kind, ObjectRef, Proposal, Verification};

/// A StatefulSet or DaemonSet of 2 revisions: the second image is broken, and the last of its pods runs it.
fn set(kind: &str, pods: &[(&str, &str, bool)]) -> Vec<Value> {
    let revision = |number: u64| {
        let mut kept = template("web", &format!("web:{number}"));
        kept["$patch"] = json!("replace");
        let label = if kind == "DaemonSet" { "controller-revision-hash" } else { "controller.kubernetes.io/hash" };
        json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": format!("web-r{number}"), "namespace": "shop",
                "uid": format!("u-r{number}"), "labels": {"app": "web", label: format!("r{number}")}, "ownerReferences": owners(kind, "web"),
                "creationTimestamp": format!("2026-03-24T1{number}:00:00Z")},
            "data": {"spec": {"template": kept}}, "revision": number})
    };
    let ready = pods.iter().filter(|(_, _, ready)| *ready).count();
    let updated = pods.iter().filter(|(_, revision, _)| *revision == "2").count();
    let mut set = json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web", "namespace": "shop", "uid": "u-web", "generation": 2},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template("web", "web:2"), "updateStrategy": {"type": "RollingUpdate"}}});
    if kind == "StatefulSet" {
        set["spec"]["replicas"] = json!(pods.len());
        set["spec"]["podManagementPolicy"] = json!("OrderedReady");
        set["status"] = json!({"observedGeneration": 2, "replicas": pods.len(), "readyReplicas": ready, "availableReplicas": ready,
            "updatedReplicas": updated, "currentRevision": "web-r1", "updateRevision": "web-r2"});
    } else {
        set["status"] = json!({"observedGeneration": 2, "desiredNumberScheduled": pods.len(), "currentNumberScheduled": pods.len(),
            "numberReady": ready, "numberAvailable": ready, "updatedNumberScheduled": updated});
    }
    let mut all = vec![node("n1"), node("n2"), revision(1), revision(2), set];
    for (at, (name, number, is_ready)) in pods.iter().enumerate() {
        let label = if kind == "DaemonSet" { format!("r{number}") } else { format!("web-r{number}") };
        let mut one =
            pod((kind, "web"), name, json!({"controller-revision-hash": label}), &format!("web:{number}"), *is_ready);
        one["spec"]["nodeName"] = json!(format!("n{}", at % 2 + 1));
        all.push(one);
    }
    all
}

fn web(kind: Kind) -> ObjectRef {
    object(kind, "shop", "web")
}

fn undo(kind: Kind) -> Proposal {
    Proposal::RolloutUndo { object: web(kind), to_revision: None }
}

fn image(object: &Value) -> &str {
    object["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolled_back_stateful_set_waits_for_its_broken_pod_and_says_so() {
    let items = set("StatefulSet", &[("web-0", "1", true), ("web-1", "1", true), ("web-2", "2", false)]);
    let world = World::start(items, web(Kind::StatefulSet)).await;
    let asked = world.ask(undo(Kind::StatefulSet)).await;
    let preview = asked.preview.clone().unwrap();
    assert!(preview.by_api_server && preview.pods_touched == 3, "{preview:?}");
    assert!(preview.then.unwrap().as_str().starts_with("web-2 must be deleted afterwards"));
    assert!(preview.pace.as_str().starts_with("one at a time"), "{}", preview.pace);
    let Some(Action::RolloutUndo { target_uid, target_hash, to_revision: 1, from_revision: 2, .. }) = &asked.action
    else {
        panic!("{:?}", asked.action)
    };
    assert_eq!((target_uid.as_str(), target_hash.as_str()), ("u-r1", "web-r1"));
    let done = world.approve(&asked).await;
    assert_eq!(done.state, ApprovalState::Executed, "{}", done.because);
    let waits = world
        .verified(&done, 11, |came| !matches!(came, Verification::NotStarted | Verification::Watching { .. }))
        .await;
    let broken = object(Kind::Pod, "shop", "web-2");
    assert_eq!(waits, Verification::WaitsFor { pod: broken.clone(), ready: 2, wanted: 3 });
    let now = world.get(&web(Kind::StatefulSet));
    assert_eq!(image(&now), "web:1");
    assert!(now["spec"]["template"].get("$patch").is_none());
    assert_eq!(world.cluster.get("ControllerRevision", "shop", "web-r1").unwrap()["revision"], 3, "renumbered");
    // Somebody deletes the pod, as the card says: the rest follows by itself.
    let evict = kube::api::EvictParams::default();
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::namespaced(world.admin().await, "shop");
    pods.evict("web-2", &evict).await.unwrap();
    let better = world.verified(&done, 1, |came| matches!(came, Verification::Better { .. })).await;
    assert!(matches!(better, Verification::Better { ready: 3, wanted: 3, .. }), "{better:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_set_is_rolled_back_node_by_node() {
    let world =
        World::start(set("DaemonSet", &[("web-a", "1", true), ("web-b", "2", false)]), web(Kind::DaemonSet)).await;
    let done = world.carry_out(undo(Kind::DaemonSet)).await;
    let preview = done.preview.unwrap();
    assert_eq!((preview.pods_touched, preview.then), (2, None));
    assert_eq!(preview.pace.as_str(), "node by node, at most 1 down at a time");
    let pods = world.cluster.list("Pod", "shop");
    assert!(pods.iter().all(|pod| pod["spec"]["containers"][0]["image"] == "web:1"), "{pods:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stateful_set_is_restarted_from_its_highest_number_down() {
    let items = set("StatefulSet", &[("web-0", "2", true), ("web-1", "2", true)]);
    let world = World::start(items, web(Kind::StatefulSet)).await;
    world.carry_out(Proposal::RolloutRestart { object: web(Kind::StatefulSet) }).await;
    let pods = world.cluster.list("Pod", "shop");
    assert_eq!(pods.len(), 2);
    assert!(pods.iter().all(|pod| pod["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"].is_string()));
}

#[tokio::test]
async fn a_set_whose_pods_only_a_person_replaces_is_not_rolled() {
    let world = World::start(set("DaemonSet", &[("web-a", "2", true)]), web(Kind::DaemonSet)).await;
    world.edit(&web(Kind::DaemonSet), |set| set["spec"]["updateStrategy"] = json!({"type": "OnDelete"}));
    for proposal in [undo(Kind::DaemonSet), Proposal::RolloutRestart { object: web(Kind::DaemonSet) }] {
        let refused = world.ask(proposal).await;
        assert_eq!(refused.state, ApprovalState::Refused);
        assert!(refused.because.as_str().contains("OnDelete"), "{}", refused.because);
    }
}
