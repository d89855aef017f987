//! The simulated API server, driven by the real client.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod, Secret, ServiceAccount};
use kube::api::{ListParams, LogParams, PostParams, WatchEvent, WatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Config, ResourceExt};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;

mod captures;
mod rollouts;
mod writes;

/// A cluster on a loopback port; it stops when dropped.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) url: String,
    pub(crate) clock: Clock,
    _stop: DropGuard,
}

impl World {
    pub(crate) async fn start(snapshot: Value, logs: &[(&str, &str)]) -> Self {
        Self::start_at("2026-03-24T16:40:00Z", snapshot, logs).await
    }

    pub(crate) async fn start_at(now: &str, snapshot: Value, logs: &[(&str, &str)]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let logs = logs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>();
        let clock = Clock::manual(now.parse().unwrap());
        let cluster = Cluster::from_parts(snapshot, logs, clock.clone(), Shift::Keep).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let (serving, until) = (cluster.clone(), stop.clone());
        tokio::spawn(async move { serving.serve(listener, until).await });
        Self { cluster, url, clock, _stop: stop.drop_guard() }
    }

    /// A client with the lasting token of an account; the admin's without.
    pub(crate) fn client(&self, account: Option<&str>) -> Client {
        self.client_with(account.map(|account| self.cluster.token_for(account)))
    }

    /// A token of any account that the cluster has.
    pub(crate) async fn token(&self, ns: &str, account: &str) -> String {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(None), ns);
        let asked = json!({"metadata": {}, "spec": {"audiences": [], "expirationSeconds": 3600}});
        let asked = serde_json::from_value(asked).unwrap();
        let minted = accounts.create_token_request(account, &PostParams::default(), &asked).await.unwrap();
        minted.status.unwrap().token
    }

    pub(crate) fn client_with(&self, token: Option<String>) -> Client {
        let mut config = Config::new(self.url.parse().unwrap());
        config.default_retry = false;
        config.auth_info.token = token.map(|token| token.into());
        Client::try_from(config).unwrap()
    }
}

pub(crate) fn snapshot() -> Value {
    json!({"apiVersion": "v1", "kind": "List", "x-epoch": "2026-03-24T16:40:00Z", "x-kubernetes-version": "v1.34.2", "items": [
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "uid": "u-n1", "resourceVersion": "10"},
         "status": {"conditions": [{"type": "Ready", "status": "True"}]}},
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n2", "uid": "u-n2", "resourceVersion": "11"},
         "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}},
        pod("web-1", "n1", json!({"running": {"startedAt": "2026-03-24T16:00:00Z"}}), 12),
        pod("web-2", "n2", json!({"running": {"startedAt": "2026-03-24T16:00:00Z"}}), 13),
        pod("web-3", "n1", json!({"waiting": {"reason": "ImagePullBackOff"}}), 14),
        {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "web-3.1", "namespace": "shop", "uid": "u-e1", "resourceVersion": "15"},
         "involvedObject": {"kind": "Pod", "name": "web-3", "namespace": "shop"}, "reason": "Failed", "type": "Warning",
         "message": "pull failed", "count": 3, "firstTimestamp": "2026-03-24T16:30:00Z", "lastTimestamp": "2026-03-24T16:39:00Z"},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pull", "namespace": "shop", "uid": "u-s", "resourceVersion": "16"},
         "data": {"password": "Y2FuYXJ5"}},
    ]})
}

fn pod(name: &str, node: &str, state: Value, rv: u64) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("u-{name}"), "resourceVersion": rv.to_string(), "labels": {"app": "web"}},
        "spec": {"nodeName": node, "containers": [{"name": "app", "image": "web:1"}]},
        "status": {"phase": "Running", "hostIP": "10.0.0.1", "containerStatuses": [{"name": "app", "ready": state["running"].is_object(),
            "restartCount": 0, "image": "web:1", "imageID": "", "state": state}]}})
}

/// A Deployment in mid-rollout: two of three pods of revision 1 serve, two pods of revision 2 crash.
pub(crate) fn rollout_snapshot() -> Value {
    let node = |name: &str, subnet: u8| {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": format!("u-{name}")},
        "spec": {"podCIDR": format!("10.77.{subnet}.0/24")},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}})
    };
    let template = |image: &str, hash: Option<&str>| {
        let mut labels = json!({"app": "web"});
        if let Some(hash) = hash {
            labels["pod-template-hash"] = json!(hash);
        }
        json!({"metadata": {"creationTimestamp": null, "labels": labels}, "spec": {"containers": [{"name": "app", "image": image}]}})
    };
    let owner = |kind: &str, name: &str| json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": format!("u-{name}"), "controller": true}]);
    let replicas = |name: &str, image: &str, hash: &str, revision: &str, count: u32| {
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("u-{name}"), "generation": 1, "creationTimestamp": format!("2026-03-24T1{revision}:00:00Z"),
            "labels": {"app": "web", "pod-template-hash": hash}, "annotations": {"deployment.kubernetes.io/revision": revision},
            "ownerReferences": owner("Deployment", "web")},
        "spec": {"replicas": count, "selector": {"matchLabels": {"app": "web", "pod-template-hash": hash}}, "template": template(image, Some(hash))},
        "status": {"replicas": count, "observedGeneration": 1}})
    };
    let pod = |name: &str, owned_by: &str, image: &str, hash: &str, is_ready: bool| {
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": format!("back-off restarting failed container=app pod={name}_shop(u-{name})")}});
        let state = if is_ready { json!({"running": {"startedAt": "2026-03-24T16:00:00Z"}}) } else { waiting };
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop", "uid": format!("u-{name}"),
                "creationTimestamp": "2026-03-24T16:00:00Z", "labels": {"app": "web", "pod-template-hash": hash}, "ownerReferences": owner("ReplicaSet", owned_by)},
            "spec": {"nodeName": "n1", "containers": [{"name": "app", "image": image}]},
            "status": {"phase": "Running", "podIP": format!("10.77.1.{}", name.len() + usize::from(name.as_bytes()[name.len() - 1])),
                "conditions": [{"type": "Ready", "status": if is_ready { "True" } else { "False" }}],
                "containerStatuses": [{"name": "app", "image": image, "imageID": "", "ready": is_ready, "restartCount": if is_ready { 0 } else { 6 }, "state": state}]}})
    };
    json!({"x-epoch": "2026-03-24T16:40:00Z", "items": [node("n1", 1), node("n2", 2),
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop", "uid": "u-web", "resourceVersion": "20",
            "generation": 3, "annotations": {"deployment.kubernetes.io/revision": "2"}},
         "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template("web:2", None),
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "34%", "maxSurge": "25%"}}, "progressDeadlineSeconds": 600},
         "status": {"observedGeneration": 3, "replicas": 4, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2}},
        replicas("web-old", "web:1", "old", "1", 2), replicas("web-bad", "web:2", "bad", "2", 2),
        pod("web-old-a", "web-old", "web:1", "old", true), pod("web-old-b", "web-old", "web:1", "old", true),
        pod("web-bad-a", "web-bad", "web:2", "bad", false), pod("web-bad-b", "web-bad", "web:2", "bad", false),
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop", "uid": "u-svc"},
         "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}}]})
}

fn code(error: kube::Error) -> (u16, String) {
    match error {
        kube::Error::Api(status) => (status.code, status.message.clone()),
        other => panic!("no answer from the server: {other}"),
    }
}

#[tokio::test]
async fn lists_select_and_page() {
    let world = World::start(snapshot(), &[]).await;
    let pods: Api<Pod> = Api::namespaced(world.client(Some("firstlook")), "shop");
    let all = pods.list(&ListParams::default().labels("app in (web,api)")).await.unwrap();
    assert_eq!(all.items.len(), 3);
    assert_eq!(all.metadata.resource_version.as_deref(), Some("15"));
    let one = pods.list(&ListParams::default().fields("spec.nodeName=n2")).await.unwrap();
    assert_eq!(one.items[0].name_any(), "web-2");
    let first = pods.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!((first.items.len(), first.metadata.remaining_item_count), (2, Some(1)));
    let token = first.metadata.continue_.unwrap();
    let rest = pods.list(&ListParams::default().limit(2).continue_token(&token)).await.unwrap();
    assert_eq!(rest.items[0].name_any(), "web-3");
    let meta: Api<PartialObjectMeta<Pod>> = Api::all(world.client(Some("firstlook")));
    assert_eq!(meta.list(&ListParams::default()).await.unwrap().items.len(), 3);
}

#[tokio::test]
async fn events_are_the_same_objects_through_both_apis() {
    let world = World::start(snapshot(), &[]).await;
    let client = world.client(Some("firstlook"));
    let core: Api<Event> = Api::namespaced(client.clone(), "shop");
    let by_object = ListParams::default().fields("involvedObject.name=web-3,type=Warning");
    assert_eq!(core.list(&by_object).await.unwrap().items[0].message.as_deref(), Some("pull failed"));
    let new: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(client, "shop");
    let by_object = ListParams::default().fields("regarding.name=web-3");
    let found = &new.list(&by_object).await.unwrap().items[0];
    assert_eq!((found.note.as_deref(), found.deprecated_count), (Some("pull failed"), Some(3)));
}

#[tokio::test]
async fn a_watch_replays_then_follows_and_a_stale_one_is_told_so() {
    let world = World::start(snapshot(), &[]).await;
    let maps: Api<ConfigMap> = Api::namespaced(world.client(Some("firstlook")), "shop");
    let rv = maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let mut stream = maps.watch(&WatchParams::default(), &rv).await.unwrap().boxed();
    let map = |n: u32| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "shop"}, "data": {"n": n.to_string()}});
    world.cluster.put(map(1)).unwrap();
    world.cluster.put(map(2)).unwrap();
    assert!(matches!(stream.try_next().await.unwrap(), Some(WatchEvent::Added(_))));
    assert!(
        matches!(stream.try_next().await.unwrap(), Some(WatchEvent::Modified(m)) if m.data.as_ref().unwrap()["n"] == "2")
    );
    world.cluster.remove("ConfigMap", "shop", "m");
    assert!(matches!(stream.try_next().await.unwrap(), Some(WatchEvent::Deleted(_))));
    world.cluster.fault(Fault::WatchError { path: "/api/v1/namespaces/shop/configmaps".into(), code: 500 });
    assert!(matches!(stream.try_next().await.unwrap(), Some(WatchEvent::Error(e)) if e.code == 500));
    let mut stale = maps.watch(&WatchParams::default(), "5").await.unwrap().boxed();
    let Some(WatchEvent::Error(gone)) = stale.try_next().await.unwrap() else { panic!("not told") };
    assert_eq!((gone.code, gone.message.as_str()), (410, "too old resource version: 5 (15)"));
}

#[tokio::test]
async fn nobody_reads_secrets() {
    let world = World::start(snapshot(), &[]).await;
    for (account, user) in
        [(Some("firstlook"), "system:serviceaccount:firstlook:firstlook"), (None, "kubernetes-admin")]
    {
        let secrets: Api<Secret> = Api::namespaced(world.client(account), "shop");
        let (list, said) = code(secrets.list(&ListParams::default()).await.unwrap_err());
        let refused = "resource \"secrets\" in API group \"\" in the namespace \"shop\"";
        assert_eq!((list, said), (403, format!("secrets is forbidden: User \"{user}\" cannot list {refused}")));
        let (get, said) = code(secrets.get("pull").await.unwrap_err());
        assert_eq!((get, said), (403, format!("secrets \"pull\" is forbidden: User \"{user}\" cannot get {refused}")));
    }
    assert!(world.cluster.get("Secret", "shop", "pull").is_none());
}

#[tokio::test]
async fn logs_come_as_asked_and_their_absence_has_a_reason() {
    let text = "2026-03-24T16:00:00.5Z one\n2026-03-24T16:39:30Z two\n2026-03-24T16:39:50Z three\n";
    let world = World::start(snapshot(), &[("logs/shop/web-1/app.log", text)]).await;
    let pods: Api<Pod> = Api::namespaced(world.client(Some("firstlook")), "shop");
    let tail = LogParams { tail_lines: Some(2), ..LogParams::default() };
    assert_eq!(pods.logs("web-1", &tail).await.unwrap(), "two\nthree\n");
    let since = LogParams { since_seconds: Some(15), timestamps: true, ..LogParams::default() };
    assert_eq!(pods.logs("web-1", &since).await.unwrap(), "2026-03-24T16:39:50Z three\n");
    let bytes = LogParams { limit_bytes: Some(5), ..LogParams::default() };
    assert_eq!(pods.logs("web-1", &bytes).await.unwrap(), "one\nt");
    let previous = LogParams { previous: true, ..LogParams::default() };
    assert_eq!(code(pods.logs("web-1", &previous).await.unwrap_err()).0, 400);
    assert_eq!(code(pods.logs("web-2", &LogParams::default()).await.unwrap_err()).0, 500);
    let (waiting, said) = code(pods.logs("web-3", &LogParams::default()).await.unwrap_err());
    assert_eq!(waiting, 400);
    assert_eq!(said, "container \"app\" in pod \"web-3\" is waiting to start: trying and failing to pull image");
    assert_eq!(code(pods.logs("web-9", &LogParams::default()).await.unwrap_err()).0, 404);
}

#[tokio::test]
async fn reviews_answer_what_the_account_may_do() {
    let world = World::start(snapshot(), &[]).await;
    let may = async |account: Option<&str>, verb: &str, resource: &str| {
        let reviews: Api<SelfSubjectAccessReview> = Api::all(world.client(account));
        let asked = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {
            "resourceAttributes": {"namespace": "shop", "verb": verb, "group": "apps", "resource": resource}}});
        let asked = serde_json::from_value(asked).unwrap();
        reviews.create(&PostParams::default(), &asked).await.unwrap().status.unwrap().allowed
    };
    assert!(may(Some("firstlook"), "get", "deployments").await);
    assert!(!may(Some("firstlook"), "patch", "deployments").await);
    assert!(may(Some("firstlook-write"), "patch", "deployments").await);
    assert!(!may(Some("firstlook-write"), "delete", "deployments").await);
    assert!(may(None, "delete", "deployments").await);
}

#[tokio::test]
async fn an_unknown_token_is_nobody() {
    let world = World::start(snapshot(), &[]).await;
    let pods: Api<Pod> = Api::namespaced(world.client_with(Some("stolen".into())), "shop");
    assert_eq!(code(pods.list(&ListParams::default()).await.unwrap_err()), (401, "Unauthorized".into()));
    let seen = world.cluster.requests();
    assert_eq!((seen[0].user.as_str(), seen[0].status), ("", 401));
}

#[tokio::test]
async fn a_hung_request_goes_on_when_released() {
    let world = World::start(snapshot(), &[]).await;
    let pods: Api<Pod> = Api::namespaced(world.client(None), "shop");
    world.cluster.fault(Fault::Hang { path: "/api/v1/namespaces/shop/pods".into() });
    let waiting = tokio::spawn(async move { pods.list(&ListParams::default()).await.map(|l| l.items.len()) });
    tokio::time::timeout(Duration::from_secs(20), world.cluster.holding()).await.unwrap();
    assert!(!waiting.is_finished());
    world.cluster.release();
    assert_eq!(waiting.await.unwrap().unwrap(), 3);
}
