//! The watches over a served cluster: the first list, starts, errors inside a stream.

use super::*;
use crate::model::Name;

/// A world of its own: a served scenario and an empty store.
struct World {
    cluster: Cluster,
    store: Store,
    health: Health,
    stop: CancellationToken,
    clock: Clock,
    address: std::net::SocketAddr,
    _folder: tempfile::TempDir,
}

async fn watched(scenario: &str) -> World {
    watched_in(scenario, &[]).await
}

async fn watched_in(scenario: &str, namespaces: &[&str]) -> World {
    let world = served(scenario).await;
    world.watch_in(namespaces);
    world
}

/// A world that nobody watches yet.
async fn served(scenario: &str) -> World {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let scenario = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/scenarios").join(scenario);
    let (speaker, clock) = speaker(true);
    let cluster = Cluster::load(&scenario, clock.clone(), Shift::Keep).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped, server) = (CancellationToken::new(), CancellationToken::new(), cluster.clone());
    tokio::spawn(async move { server.serve(listener, stopped).await });
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("firstlook.db").display());
    let store = Store::open(&url, clock.clone(), Options::new(speaker.cluster.clone())).await.unwrap();
    let health = Health::default();
    World { cluster, store, health, stop, clock, address, _folder: folder }
}

impl World {
    /// Starts the watches, as each start of the daemon does.
    fn watch(&self) {
        self.watch_in(&[]);
    }

    fn watch_in(&self, namespaces: &[&str]) {
        let config = kube::Config::new(format!("http://{}", self.address).parse().unwrap());
        let watch = Watch {
            client: kube::Client::try_from(config).unwrap(),
            store: self.store.clone(),
            cluster: speaker(true).0.cluster,
            redactor: Redactor::default(),
            clock: self.clock.clone(),
            metrics: Metrics::new(),
            health: self.health.clone(),
            motion: Motion::default(),
            patience: Patience::default(),
            namespaces: namespaces.iter().map(|name| Name::parse(name).unwrap()).collect(),
        };
        tokio::spawn(watch.run(self.stop.clone()));
    }

    /// What was heard, once it is `count` signals.
    async fn heard(&self, count: usize) -> Vec<String> {
        let heard = self.store.subscribe(News::HEARD);
        let enough = async {
            loop {
                let signals = self.store.signals_unresolved(100).await.unwrap();
                if signals.len() >= count {
                    return said(signals);
                }
                heard.changed().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), enough).await.expect("the signals came")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn the_first_list_tells_trouble_and_no_rollouts_and_a_new_revision_is_a_rollout() {
    let world = watched("d12-bad-image-rollout").await;
    let mut heard = world.heard(3).await;
    heard.sort();
    let pods = ["bktdv", "d5j6m"]
        .map(|end| format!("Pod fleet-ops/dispatch-api-xzvmtldvgs-{end} ImagePullBackOff on arrival"));
    assert_eq!(heard[0], "Deployment fleet-ops/dispatch-api ProgressDeadlineExceeded on arrival");
    assert_eq!(heard[1..], pods);
    world.settled(true).await;
    let mut set = world.cluster.get("ReplicaSet", "fleet-ops", "dispatch-api-x7ft9mqdn").unwrap();
    set["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "11".into();
    world.cluster.put(set).unwrap();
    let heard = world.heard(4).await;
    assert!(heard.contains(&"Deployment fleet-ops/dispatch-api Some(11)".to_owned()), "{heard:?}");
}

#[tokio::test]
async fn in_listed_namespaces_nothing_else_is_asked_for() {
    let world = watched_in("d12-bad-image-rollout", &["fleet-ops", "elsewhere"]).await;
    let heard = world.heard(3).await;
    assert!(heard.iter().all(|said| said.contains("fleet-ops/")), "{heard:?}");
    world.settled(true).await;
    let asked = world.cluster.requests();
    let within = |path: &str| path.contains("/namespaces/fleet-ops/") || path.contains("/namespaces/elsewhere/");
    assert!(asked.iter().all(|request| within(&request.path)), "{asked:?}");
    assert!(asked.iter().any(|request| request.path.contains("/namespaces/elsewhere/pods")), "{asked:?}");
}

#[tokio::test]
async fn only_the_first_start_arrives() {
    let mut world = watched("d12-bad-image-rollout").await;
    assert!(world.heard(3).await.iter().all(|said| said.ends_with("on arrival")));
    let marked = async {
        while !world.store.is_marked(Mark::WatchesSynced).await.unwrap() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), marked).await.expect("it is remembered");
    world.stop.cancel();
    world.stop = CancellationToken::new();
    // Within the hour the same trouble would be the same signal.
    world.clock.set(world.clock.now() + jiff::SignedDuration::from_hours(1));
    world.watch();
    let heard = world.heard(5).await;
    assert_eq!(heard.iter().filter(|said| said.ends_with("on arrival")).count(), 3, "{heard:?}");
}

impl World {
    /// Waits until the watches are well, or not.
    async fn settled(&self, well: bool) {
        let look = async {
            while self.health.state().is_ok() != well {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), look).await.expect("the watches settled")
    }

    /// Requests for nodes so far whose query holds this.
    fn asked(&self, query: &str) -> usize {
        let nodes = |path: &str| path.starts_with("/api/v1/nodes") && path.contains(query);
        self.cluster.requests().iter().filter(|request| nodes(&request.path)).count()
    }

    /// Waits until there were more than `before` requests for nodes whose query holds this.
    async fn asked_again(&self, query: &str, before: usize) {
        let look = async {
            while self.asked(query) <= before {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), look).await.expect("it was asked again")
    }

    fn fail_nodes(&self, code: u16) {
        self.cluster.fault(Fault::WatchError { path: "/api/v1/nodes".into(), code });
    }
}

#[tokio::test]
async fn an_error_inside_a_watch_shows_until_it_stands_again_and_does_not_spin() {
    let world = watched("d07-watchdog").await;
    world.settled(true).await;
    let before = world.asked("");
    world.fail_nodes(500);
    world.settled(false).await;
    assert!(world.health.state().unwrap_err().contains("nodes"));
    assert!(world.asked("") <= before + 1, "it waits before it asks again");
    // No node changes meanwhile.
    world.settled(true).await;
    assert_eq!(world.asked("limit="), 1, "one list was enough");
}

#[tokio::test]
async fn a_watch_that_is_too_old_lists_again_and_is_no_error() {
    let world = watched("d07-watchdog").await;
    world.settled(true).await;
    world.fail_nodes(410);
    world.asked_again("limit=", 1).await;
    world.settled(true).await;
}

#[tokio::test]
async fn bookmarks_that_only_bring_errors_are_not_asked_for_any_more() {
    let world = watched("d07-watchdog").await;
    world.settled(true).await;
    let plain = || {
        world.cluster.requests().iter().any(|request| {
            let path = &request.path;
            path.starts_with("/api/v1/nodes") && path.contains("watch=") && !path.contains("allowWatchBookmarks=true")
        })
    };
    assert!(!plain());
    // The watch that runs had stood; the two after it are answered with nothing else.
    (0..3).for_each(|_| world.fail_nodes(500));
    world.settled(false).await;
    world.settled(true).await;
    assert!(plain());
    assert_eq!(world.asked("limit="), 1, "what it knows is not read again");
}

#[tokio::test]
async fn what_mounted_config_maps_hold_is_known_once_each_of_them_was_read() {
    let world = served("d12-bad-image-rollout").await;
    let mut set = world.cluster.get("Deployment", "fleet-ops", "dispatch-api").unwrap();
    set["spec"]["template"]["spec"]["volumes"] = json!([{"name": "settings", "configMap": {"name": "settings"}}]);
    world.cluster.put(set).unwrap();
    world.cluster.fault(Fault::Hang { path: "/api/v1/namespaces/fleet-ops/configmaps/settings".into() });
    world.watch();
    world.settled(true).await;
    tokio::time::timeout(Duration::from_secs(20), world.cluster.holding()).await.expect("it is asked for");
    assert_eq!(world.health.config_maps(), Err("mounted configmaps: not read yet".to_owned()));
    world.cluster.release();
    let read = async {
        while world.health.config_maps().is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("it was read");
}

#[tokio::test]
async fn a_config_map_is_read_only_if_a_workload_reads_it_and_its_edit_tells_what_changed() {
    let world = watched("d12-bad-image-rollout").await;
    let map = |name: &str, level: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "fleet-ops"},
            "data": {"LEVEL": level, "API_TOKEN": format!("of {level}")}})
    };
    world.settled(true).await;
    let mut set = world.cluster.get("Deployment", "fleet-ops", "dispatch-api").unwrap();
    let volume = json!([{"name": "settings", "configMap": {"name": "settings"}}]);
    set["spec"]["template"]["spec"]["volumes"] = volume;
    world.cluster.put(map("settings", "info")).unwrap();
    world.cluster.put(map("nobodys", "info")).unwrap();
    world.cluster.put(set).unwrap();
    let reads = || world.cluster.requests().into_iter().filter(|r| r.path.contains("configmaps/") && r.status == 200);
    let read = async {
        while reads().count() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("it was read");
    for name in ["nobodys", "settings"] {
        world.cluster.put(map(name, "debug")).unwrap();
    }
    let edit = async {
        loop {
            let signals = world.store.signals_unresolved(100).await.unwrap();
            let lines = signals.into_iter().find_map(|signal| match signal.body {
                SignalBody::Rollout(rollout) if rollout.is_edit() => Some(rollout.lines),
                _ => None,
            });
            match lines {
                Some(lines) => return lines,
                None => tokio::task::yield_now().await,
            }
        }
    };
    let lines = tokio::time::timeout(Duration::from_secs(20), edit).await.expect("it was told");
    let token = lines.iter().find(|line| line.field.as_str() == "key API_TOKEN").unwrap();
    assert!(token.before.as_ref().unwrap().as_str().starts_with("[redacted value"), "{token:?}");
    let level = lines.iter().find(|line| line.field.as_str() == "key LEVEL").unwrap();
    assert_eq!((level.before.as_ref().unwrap().as_str(), level.after.as_ref().unwrap().as_str()), ("info", "debug"));
    assert!(reads().all(|request| request.path.contains("settings")), "nobody reads the other");
}
