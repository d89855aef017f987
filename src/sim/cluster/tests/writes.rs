//! Writes: who may, what is refused, what is stored.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::{Fault, World, code, rollout_snapshot};

const APPROVAL: &str = "firstlook.dev/approval";

fn restart() -> Value {
    json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "2026-03-24T16:40:00Z"}}}}})
}

fn dry() -> PatchParams {
    PatchParams { dry_run: true, ..PatchParams::default() }
}

async fn deployments(world: &World, account: Option<&str>) -> Api<Deployment> {
    Api::namespaced(world.client(account), "shop")
}

#[tokio::test]
async fn the_daemon_changes_nothing() {
    let world = World::start(rollout_snapshot(), &[]).await;
    let api = deployments(&world, Some("firstlook")).await;
    let refused = code(api.patch("web", &PatchParams::default(), &Patch::Merge(restart())).await.unwrap_err());
    let said = "deployments.apps \"web\" is forbidden: User \"system:serviceaccount:firstlook:firstlook\" cannot patch resource \
                \"deployments\" in API group \"apps\" in the namespace \"shop\"";
    assert_eq!(refused, (403, said.to_owned()));
    assert_eq!(code(api.patch("web", &dry(), &Patch::Merge(restart())).await.unwrap_err()).0, 403);
}

#[tokio::test]
async fn the_preview_account_only_rehearses() {
    let world = World::start(rollout_snapshot(), &[]).await;
    let api = deployments(&world, Some("firstlook-preview")).await;
    let before = world.cluster.get("Deployment", "shop", "web").unwrap();
    let would_be = api.patch("web", &dry(), &Patch::Strategic(restart())).await.unwrap();
    assert_eq!(would_be.metadata.generation, Some(4));
    assert_eq!(would_be.resource_version().unwrap(), before["metadata"]["resourceVersion"]);
    let (status, said) =
        code(api.patch("web", &PatchParams::default(), &Patch::Strategic(restart())).await.unwrap_err());
    assert_eq!(status, 403);
    assert!(
        said.contains("ValidatingAdmissionPolicy 'firstlook-preview' with binding 'firstlook-preview' denied request"),
        "{said}"
    );
    assert_eq!(world.cluster.get("Deployment", "shop", "web").unwrap(), before);
    // Without the policy RBAC alone would let it through: the policy is what stands there.
    world.cluster.remove("ValidatingAdmissionPolicyBinding", "", "firstlook-preview");
    assert!(api.patch("web", &PatchParams::default(), &Patch::Strategic(restart())).await.is_ok());
}

#[tokio::test]
async fn every_write_names_a_new_approval() {
    let world = World::start(rollout_snapshot(), &[]).await;
    let api = deployments(&world, Some("firstlook-write")).await;
    let approved = |id: &str| {
        let mut patch = restart();
        patch["metadata"] = json!({"annotations": {APPROVAL: id}});
        Patch::Merge(patch)
    };
    let refused = api.patch("web", &PatchParams::default(), &Patch::Merge(restart())).await.unwrap_err();
    assert!(code(refused).1.contains("carries no annotation firstlook.dev/approval"));
    assert!(api.patch("web", &PatchParams::default(), &approved("ap-1")).await.is_ok());
    let again = code(api.patch("web", &PatchParams::default(), &approved("ap-1")).await.unwrap_err());
    assert!(again.1.contains("an approval is spent by one change"), "{}", again.1);
    assert!(api.patch("web", &PatchParams::default(), &approved("ap-2")).await.is_ok());
    let pods: Api<Pod> = Api::namespaced(world.client(Some("firstlook-write")), "shop");
    assert_eq!(code(pods.delete("web-old-a", &DeleteParams::default()).await.unwrap_err()).0, 403);
}

#[tokio::test]
async fn tokens_are_minted_for_the_named_accounts_alone() {
    let world = World::start(rollout_snapshot(), &[]).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client(Some("firstlook")), "firstlook");
    let asked = |seconds: i64| -> TokenRequest {
        serde_json::from_value(json!({"metadata": {}, "spec": {"audiences": [], "expirationSeconds": seconds}}))
            .unwrap()
    };
    let mint = async |name: &str, seconds: i64| {
        accounts.create_token_request(name, &PostParams::default(), &asked(seconds)).await
    };
    assert_eq!(code(mint("firstlook-write", 60).await.unwrap_err()).0, 422);
    let own = code(mint("firstlook", 600).await.unwrap_err());
    assert!(own.1.contains("cannot create resource \"serviceaccounts/token\""), "{}", own.1);
    let minted = mint("firstlook-preview", 600).await.unwrap().status.unwrap();
    assert_eq!(minted.expiration_timestamp.0.to_string(), "2026-03-24T16:50:00Z");
    let api: Api<Deployment> = Api::namespaced(world.client_with(Some(minted.token)), "shop");
    assert!(api.patch("web", &dry(), &Patch::Merge(restart())).await.is_ok());
    world.clock.set("2026-03-24T16:50:01Z".parse().unwrap());
    assert_eq!(code(api.patch("web", &dry(), &Patch::Merge(restart())).await.unwrap_err()).0, 401);
}

#[tokio::test]
async fn a_stale_resource_version_is_a_conflict() {
    let world = World::start(rollout_snapshot(), &[]).await;
    let api = deployments(&world, None).await;
    let stale = json!({"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 4}});
    let refused = code(api.patch("web", &PatchParams::default(), &Patch::Merge(stale)).await.unwrap_err());
    let said = "Operation cannot be fulfilled on deployments.apps \"web\": the object has been modified; please apply your changes \
                to the latest version and try again";
    assert_eq!(refused, (409, said.to_owned()));
    let mut read = api.get("web").await.unwrap();
    read.labels_mut().insert("seen".into(), "yes".into());
    let stored = api.replace("web", &PostParams::default(), &read).await.unwrap();
    assert_ne!(stored.resource_version(), read.resource_version());
    assert_eq!(stored.metadata.generation, Some(3));
    assert_eq!(code(api.replace("web", &PostParams::default(), &read).await.unwrap_err()).0, 409);
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_field() {
    let world = World::start(rollout_snapshot(), &[]).await;
    let api = deployments(&world, None).await;
    let negative = Patch::Merge(json!({"spec": {"replicas": -1}}));
    let (status, said) = code(api.patch("web", &PatchParams::default(), &negative).await.unwrap_err());
    assert_eq!(status, 422);
    assert_eq!(
        said,
        "Deployment.apps \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"
    );
    let strict =
        PatchParams { field_validation: Some(kube::api::ValidationDirective::Strict), ..PatchParams::default() };
    let unknown = Patch::Merge(json!({"spec": {"replicaz": 1}}));
    let (status, said) = code(api.patch("web", &strict, &unknown).await.unwrap_err());
    assert!(status == 422 && said.ends_with("strict decoding error: unknown field \"spec.replicaz\""), "{said}");
    let kept = api.patch("web", &PatchParams::default(), &unknown).await.unwrap();
    assert_eq!(kept.metadata.generation, Some(3));
    let pods: Api<Pod> = Api::namespaced(world.client(None), "shop");
    let other =
        DeleteParams::default().preconditions(Preconditions { uid: Some("other".into()), resource_version: None });
    assert_eq!(code(pods.delete("web-old-a", &other).await.unwrap_err()).0, 409);
}

#[tokio::test]
async fn an_eviction_respects_the_disruption_budget() {
    let world = World::start(rollout_snapshot(), &[]).await;
    let budget = |allowed: i64| {
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}},
        "status": {"desiredHealthy": 2, "currentHealthy": 2 + allowed, "disruptionsAllowed": allowed, "expectedPods": 3}})
    };
    world.cluster.put(budget(0)).unwrap();
    let pods: Api<Pod> = Api::namespaced(world.client(None), "shop");
    let (status, said) = code(pods.evict("web-old-a", &Default::default()).await.unwrap_err());
    assert_eq!((status, said.as_str()), (429, "Cannot evict pod as it would violate the pod's disruption budget."));
    world.cluster.put(budget(1)).unwrap();
    assert!(pods.evict("web-old-a", &Default::default()).await.is_ok());
    assert!(world.cluster.get("Pod", "shop", "web-old-a").is_none());
}

#[tokio::test]
async fn a_held_answer_was_applied_before() {
    let world = World::start(rollout_snapshot(), &[]).await;
    let api = deployments(&world, None).await;
    world.cluster.fault(Fault::HoldAnswer { path: "/apis/apps/v1/namespaces/shop/deployments/web".into() });
    let waiting =
        tokio::spawn(async move { api.patch("web", &PatchParams::default(), &Patch::Merge(restart())).await });
    tokio::time::timeout(Duration::from_secs(20), world.cluster.holding()).await.unwrap();
    assert!(!waiting.is_finished());
    assert_eq!(world.cluster.get("Deployment", "shop", "web").unwrap()["metadata"]["generation"], 4);
    world.cluster.release();
    assert!(waiting.await.unwrap().is_ok());
}
