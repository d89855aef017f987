//! A reader over the simulated cluster of a scenario, over the real wire.

use std::path::PathBuf;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::model::{ClusterName, Signal};
use crate::observe::Reader;
use crate::redact::Redactor;
use crate::sim::cluster::{Cluster, Shift};

/// A scenario that is being served, until it is dropped.
pub(super) struct World {
    pub(super) reader: Reader,
    pub(super) cluster: Cluster,
    folder: PathBuf,
    stop: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(super) async fn world(name: &str) -> World {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/scenarios").join(name);
    let clock = Clock::manual("2026-03-24T16:40:00Z".parse().unwrap());
    let cluster = Cluster::load(&folder, clock.clone(), Shift::Keep).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let (server, stopped) = (cluster.clone(), stop.clone());
    tokio::spawn(async move { server.serve(listener, stopped).await });
    let mut config = kube::Config::new(format!("http://{address}").parse().unwrap());
    config.default_retry = false;
    let client = kube::Client::try_from(config).unwrap();
    let reader = Reader::new(client, ClusterName::parse("test").unwrap(), Redactor::default(), clock);
    World { reader, cluster, folder, stop }
}

impl World {
    /// The scenario's alerts, in order.
    pub(super) fn alerts(&self) -> Vec<Signal> {
        let mut files: Vec<_> = std::fs::read_dir(&self.folder)
            .unwrap()
            .map(|file| file.unwrap().path())
            .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("alert"))
            .collect();
        // `alert.json` is the first.
        files.sort_by_key(|path| path.file_stem().unwrap().to_owned());
        let read = |path: &PathBuf| {
            let body = std::fs::read(path).unwrap();
            let now = self.reader.clock().now();
            crate::ingest::alertmanager::parse(&body, self.reader.cluster(), &Redactor::default(), now).unwrap()
        };
        files.iter().flat_map(read).collect()
    }
}
