//! The rollout controller, watched from outside.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{World, rollout_snapshot};

const REVISION: &str = "deployment.kubernetes.io/revision";

/// Waits until the cluster looks as `is` wants it.
async fn until(world: &World, what: &str, is: impl Fn(&World) -> bool) {
    let mut changed = world.cluster.changes();
    let reached = async {
        while !is(world) {
            changed.changed().await.unwrap();
        }
    };
    let deployment = || world.cluster.get("Deployment", "shop", "web");
    assert!(tokio::time::timeout(Duration::from_secs(20), reached).await.is_ok(), "{what}: {:#?}", deployment());
}

fn deployment(world: &World) -> Value {
    world.cluster.get("Deployment", "shop", "web").unwrap()
}

fn progressing(deployment: &Value) -> String {
    let mut conditions = deployment["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .find(|c| c["type"] == "Progressing")
        .map(|c| c["reason"].as_str().unwrap().to_owned())
        .unwrap_or_default()
}

fn rolled_out(deployment: &Value) -> bool {
    let status = &deployment["status"];
    let wanted = &deployment["spec"]["replicas"];
    status["observedGeneration"] == deployment["metadata"]["generation"]
        && [&status["updatedReplicas"], &status["replicas"], &status["availableReplicas"]]
            .into_iter()
            .all(|n| n == wanted)
        && progressing(deployment) == "NewReplicaSetAvailable"
}

#[tokio::test]
async fn an_undo_renumbers_the_old_replica_set_and_becomes_ready() {
    let world = World::start(rollout_snapshot(), &[]).await;
    let before = deployment(&world);
    let old = world.cluster.get("ReplicaSet", "shop", "web-old").unwrap();
    let mut template = old["spec"]["template"].clone();
    template["metadata"]["labels"].as_object_mut().unwrap().remove("pod-template-hash");
    let undo = json!([{"op": "test", "path": "/metadata/uid", "value": before["metadata"]["uid"]},
        {"op": "test", "path": "/metadata/resourceVersion", "value": before["metadata"]["resourceVersion"]},
        {"op": "add", "path": "/metadata/annotations/firstlook.dev~1approval", "value": "ap-1"},
        {"op": "replace", "path": "/spec/template", "value": template}]);
    let request = axum::http::Request::patch("/apis/apps/v1/namespaces/shop/deployments/web?fieldManager=firstlook")
        .header("content-type", "application/json-patch+json")
        .body(undo.to_string().into_bytes())
        .unwrap();
    world.client(Some("firstlook-write")).request::<Deployment>(request).await.unwrap();
    until(&world, "rolled out", |world| rolled_out(&deployment(world))).await;
    let old = world.cluster.get("ReplicaSet", "shop", "web-old").unwrap();
    assert_eq!(old["metadata"]["annotations"][REVISION], "3");
    assert_eq!(old["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"], "1");
    assert_eq!(deployment(&world)["metadata"]["annotations"][REVISION], "3");
    until(&world, "one ReplicaSet's pods", |world| world.cluster.list("Pod", "shop").len() == 3).await;
    let slices = world.cluster.list("EndpointSlice", "shop");
    until(&world, "endpoints follow", |world| {
        let slice = &world.cluster.list("EndpointSlice", "shop")[0];
        let endpoints = slice["endpoints"].as_array().unwrap();
        endpoints.len() == 3 && endpoints.iter().all(|e| e["conditions"]["ready"] == true)
    })
    .await;
    assert_eq!(slices.len(), 1);
    let events = world.cluster.list("Event", "shop");
    assert!(events.iter().any(|e| e["message"] == "Scaled down replica set web-bad from 2 to 0"), "{events:#?}");
}

#[tokio::test]
async fn a_restart_of_a_failing_template_keeps_failing() {
    let logs = [("shop/web-bad-a/app.log", "2026-03-24T16:39:00Z panic: no such table\n")];
    let world = World::start(rollout_snapshot(), &logs).await;
    let api: Api<Deployment> = Api::namespaced(world.client(None), "shop");
    api.restart("web").await.unwrap();
    let failing = |world: &World| {
        let pods = world.cluster.list("Pod", "shop");
        let fresh = pods.iter().filter(|pod| !pod["metadata"]["annotations"].is_null());
        let waiting = |pod: &Value| pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].clone();
        fresh.filter(|pod| waiting(pod) == "CrashLoopBackOff").cloned().collect::<Vec<_>>()
    };
    until(&world, "fails again", |world| !failing(world).is_empty()).await;
    let pod = &failing(&world)[0];
    let name = pod["metadata"]["name"].as_str().unwrap();
    let message = pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"].as_str().unwrap();
    assert!(message.contains(name), "{message}");
    assert_ne!(progressing(&deployment(&world)), "NewReplicaSetAvailable");
    assert_eq!(deployment(&world)["status"]["availableReplicas"], 2);
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(world.client(None), "shop");
    assert_eq!(pods.logs(name, &Default::default()).await.unwrap(), "panic: no such table\n");
}

#[tokio::test]
async fn a_paused_deployment_keeps_its_pods_and_scaling_adds_some() {
    let world = World::start(rollout_snapshot(), &[]).await;
    let api: Api<Deployment> = Api::namespaced(world.client(None), "shop");
    let image = |image: &str| json!({"containers": [{"name": "app", "image": image}]});
    let paused = json!({"spec": {"paused": true, "template": {"spec": image("web:3")}}});
    api.patch("web", &PatchParams::default(), &Patch::Strategic(paused)).await.unwrap();
    until(&world, "paused", |world| progressing(&deployment(world)) == "DeploymentPaused").await;
    assert_eq!(world.cluster.list("ReplicaSet", "shop").len(), 2);
    let resumed = json!({"spec": {"paused": false, "replicas": 4}});
    api.patch("web", &PatchParams::default(), &Patch::Merge(resumed)).await.unwrap();
    until(&world, "rolled out", |world| rolled_out(&deployment(world))).await;
    assert_eq!(deployment(&world)["status"]["availableReplicas"], 4);
    assert_eq!(deployment(&world)["metadata"]["annotations"][REVISION], "3");
}

#[tokio::test]
async fn a_write_that_leaves_the_spec_alone_moves_nothing() {
    let world = World::start(rollout_snapshot(), &[]).await;
    let before = *world.cluster.changes().borrow();
    let api: Api<Deployment> = Api::namespaced(world.client(None), "shop");
    let note = Patch::Merge(json!({"metadata": {"annotations": {"seen": "yes"}}}));
    api.patch("web", &PatchParams::default(), &note).await.unwrap();
    api.patch("web", &PatchParams::default(), &note).await.unwrap();
    api.get("web").await.unwrap();
    assert_eq!(*world.cluster.changes().borrow(), before + 1);
}
