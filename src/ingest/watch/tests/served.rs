//! The watches over a served cluster: the first list, starts, errors inside a stream.

use super::*;

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
    let world = World { cluster, store, health, stop, clock, address, _folder: folder };
    world.watch();
    world
}

impl World {
    /// Starts the watches, as each start of the daemon does.
    fn watch(&self) {
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
    while !world.health.is_synced() {
        tokio::task::yield_now().await;
    }
    let mut set = world.cluster.get("ReplicaSet", "fleet-ops", "dispatch-api-x7ft9mqdn").unwrap();
    set["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "11".into();
    world.cluster.put(set).unwrap();
    let heard = world.heard(4).await;
    assert!(heard.contains(&"Deployment fleet-ops/dispatch-api Some(11)".to_owned()), "{heard:?}");
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

#[tokio::test]
async fn an_error_inside_a_watch_shows_in_its_health_and_does_not_spin() {
    let world = watched("d07-watchdog").await;
    let settled = async |wanted: bool| {
        let look = async {
            while world.health.state().is_ok() != wanted {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), look).await.expect("the watches settled")
    };
    settled(true).await;
    let asked = || world.cluster.requests().iter().filter(|request| request.path.starts_with("/api/v1/nodes")).count();
    let before = asked();
    world.cluster.fault(Fault::WatchError { path: "/api/v1/nodes".into(), code: 500 });
    settled(false).await;
    assert!(world.health.state().unwrap_err().contains("nodes"));
    assert!(asked() <= before + 1, "it waits before it asks again");
}
