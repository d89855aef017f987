//! The simulated Kubernetes API server: the cluster of a scenario folder, served over the real wire protocol.

mod access;
mod admission;
mod conditions;
mod discovery;
mod events;
mod failure;
mod fault;
mod follow;
mod jobs;
mod kinds;
mod logs;
mod objects;
mod openapi;
mod patch;
mod pods;
mod read;
mod remove;
mod replicas;
mod reviews;
mod revision;
mod rollout;
mod schema;
mod select;
mod serve;
mod sets;
mod shift;
mod show;
mod table;
mod target;
mod template;
mod watch;
mod write;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use axum::http::{HeaderMap, Uri};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch::{Receiver, Sender};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::sim::cluster::access::{Tokens, User};
use crate::sim::cluster::failure::Outcome;
pub use crate::sim::cluster::fault::Fault;
use crate::sim::cluster::fault::Faults;
use crate::sim::cluster::logs::Logs;
use crate::sim::cluster::objects::World;
use crate::sim::cluster::rollout::Rollouts;
pub use crate::sim::cluster::shift::Shift;
use crate::sim::cluster::template::Sick;

/// Requests kept for tests and narration.
const REQUESTS_MAX: usize = 1000;

/// A simulated cluster; clones share it.
///
/// It holds what a scenario's snapshot holds and changes only when somebody writes. Without a bearer token a caller is its admin.
#[derive(Clone)]
pub struct Cluster(Arc<Shared>);

struct Shared {
    clock: Clock,
    epoch: Timestamp,
    version: String,
    world: Mutex<World>,
    /// The latest resourceVersion, for those who wait for changes.
    changed: Sender<u64>,
    tokens: Tokens,
    faults: Faults,
    requests: Mutex<Requests>,
    rollouts: Rollouts,
    /// Templates whose pods fail in the snapshot, and so ever after.
    sick: Vec<Sick>,
}

/// One request that reached the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub at: Timestamp,
    pub method: String,
    /// With its query.
    pub path: String,
    /// As RBAC names the caller (`system:serviceaccount:firstlook:firstlook`); empty when its token was refused.
    pub user: String,
    /// 0 while it has no answer yet.
    pub status: u16,
}

#[derive(Default)]
struct Requests {
    newest: VecDeque<Request>,
    /// How many were logged before the first of `newest`.
    before: u64,
}

impl Cluster {
    /// Loads `cluster.json` and `logs/` of a scenario folder.
    ///
    /// # Errors
    /// Names the file that cannot be read or is no snapshot.
    pub fn load(folder: &Path, clock: Clock, shift: Shift) -> anyhow::Result<Self> {
        let file = folder.join("cluster.json");
        let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let snapshot = serde_json::from_str(&text).with_context(|| format!("parse {}", file.display()))?;
        let mut logs = BTreeMap::new();
        let folder = folder.join("logs");
        if folder.is_dir() {
            read_logs(&folder, "", &mut logs)?;
        }
        Self::from_parts(snapshot, logs, clock, shift)
    }

    /// A cluster from a snapshot (a `v1` List with `x-epoch`) and its logs by `<namespace>/<pod>/<container>[.previous].log`.
    ///
    /// # Errors
    /// When the snapshot has no items, or its `x-epoch` is no instant.
    pub fn from_parts(
        snapshot: Value,
        logs: BTreeMap<String, String>,
        clock: Clock,
        shift: Shift,
    ) -> anyhow::Result<Self> {
        let epoch: Timestamp = match snapshot["x-epoch"].as_str() {
            Some(text) => text.parse().with_context(|| format!("x-epoch {text:?} is no instant"))?,
            None => clock.now(),
        };
        let by = match shift {
            Shift::Keep => SignedDuration::ZERO,
            Shift::ToNow => SignedDuration::from_secs(clock.now().duration_since(epoch).as_secs()),
        };
        let epoch = epoch.checked_add(by)?;
        let version = snapshot["x-kubernetes-version"].as_str().unwrap_or("v1.34.2").to_owned();
        let mut items = match snapshot {
            Value::Object(mut map) => map.remove("items"),
            _ => None,
        }
        .and_then(|items| match items {
            Value::Array(items) => Some(items),
            _ => None,
        })
        .context("the snapshot is no List of objects: it has no items")?;
        let mut logs = logs;
        if !by.is_zero() {
            items.iter_mut().for_each(|item| shift::object(item, by));
            logs.values_mut().for_each(|text| *text = shift::log(text, by));
        }
        let world = World::new(items, admission::installed(), Logs::new(logs), epoch);
        let sick = template::sick_ones(&world, epoch);
        let changed = Sender::new(world.rv());
        Ok(Self(Arc::new(Shared {
            clock,
            epoch,
            version,
            world: Mutex::new(world),
            changed,
            tokens: Tokens::default(),
            faults: Faults::new(),
            requests: Mutex::default(),
            rollouts: Rollouts::default(),
            sick,
        })))
    }

    /// Serves plain HTTP until `stop`.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) -> std::io::Result<()> {
        serve::run(self.clone(), listener, stop).await
    }

    /// Serves on a loopback port of its own until `stop`; how it is reached there as the daemon's account.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn at_hand(&self, stop: CancellationToken) -> anyhow::Result<kube::Config> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut config = kube::Config::new(format!("http://{}", listener.local_addr()?).parse()?);
        config.auth_info.token = Some(self.token_for("firstlook").into());
        let served = self.clone();
        tokio::spawn(async move { served.serve(listener, stop).await });
        Ok(config)
    }

    /// The moment of the snapshot.
    pub fn epoch(&self) -> Timestamp {
        self.0.epoch
    }

    /// A bearer token of one of firstlook's accounts (`firstlook`: the daemon) that lasts as long as the cluster.
    pub fn token_for(&self, account: &str) -> String {
        self.0.tokens.lasting(account)
    }

    /// The newest requests (at most 1000), oldest first.
    pub fn requests(&self) -> Vec<Request> {
        let log = self.0.requests.lock().unwrap_or_else(PoisonError::into_inner);
        log.newest.iter().cloned().collect()
    }

    /// The answered requests after the first `seen` ones, oldest first, and how many were seen with them. One that is
    /// still being answered holds up those behind it; what was dropped meanwhile (beyond 1000) is passed over.
    pub fn requests_after(&self, seen: u64) -> (Vec<Request>, u64) {
        let log = self.0.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let from = seen.max(log.before);
        let skip = usize::try_from(from - log.before).unwrap_or(usize::MAX);
        let new: Vec<Request> = log.newest.iter().skip(skip).take_while(|r| r.status != 0).cloned().collect();
        let seen = from + new.len() as u64;
        (new, seen)
    }

    /// An object as it is now; `ns` is empty for a cluster-scoped one.
    pub fn get(&self, kind: &str, ns: &str, name: &str) -> Option<Value> {
        self.with(|world| world.get(&world.key_of(kind, ns, name)?).map(|object| Value::clone(&object)))
    }

    /// All objects of a kind in a namespace.
    pub fn list(&self, kind: &str, ns: &str) -> Vec<Value> {
        self.with(|world| world.all(kind, ns).iter().map(|object| Value::clone(object)).collect())
    }

    /// Stores an object by hand, whole and unchecked: it gets a new resourceVersion, watches hear of it, no controller does.
    ///
    /// # Errors
    /// When it has no kind that the server knows, or no name.
    pub fn put(&self, mut object: Value) -> anyhow::Result<()> {
        let now = self.now();
        self.with(|world| {
            let (api, kind) = (object["apiVersion"].as_str().unwrap_or(""), object["kind"].as_str().unwrap_or(""));
            let kinds = world.kinds.clone();
            let kind = kinds.by_api(api, kind).with_context(|| format!("no kind {kind:?} in {api:?}"))?;
            let key = world.key(kind, objects::namespace(&object), objects::name(&object));
            anyhow::ensure!(!key.name.is_empty(), "an object needs a name");
            objects::born(kind, &mut object, now);
            world.put(key, object);
            Ok(())
        })
    }

    /// Removes an object by hand; watches hear of it. Says whether it was there.
    pub fn remove(&self, kind: &str, ns: &str, name: &str) -> bool {
        self.with(|world| world.key_of(kind, ns, name).and_then(|key| world.remove(&key)).is_some())
    }

    /// Arms a fault (at most 64 at once).
    pub fn fault(&self, fault: Fault) {
        self.0.faults.arm(fault);
        // Running watches look for a fault of theirs.
        self.0.changed.send_modify(|_| {});
    }

    /// Lets every request go on that a fault holds.
    pub fn release(&self) {
        self.0.faults.release();
    }

    /// Waits until a fault holds a request.
    pub async fn holding(&self) {
        self.0.faults.holding().await;
    }

    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    fn version(&self) -> &str {
        &self.0.version
    }

    fn faults(&self) -> &Faults {
        &self.0.faults
    }

    fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    fn rollouts(&self) -> &Rollouts {
        &self.0.rollouts
    }

    fn sick(&self) -> &[Sick] {
        &self.0.sick
    }

    /// The latest resourceVersion, and word of each new one.
    pub fn changes(&self) -> Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Runs `work` on the world, then wakes the watches if it changed anything.
    fn with<T>(&self, work: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.0.world.lock().unwrap_or_else(PoisonError::into_inner);
        let before = world.rv();
        let done = work(&mut world);
        let rv = world.rv();
        if rv != before {
            self.0.changed.send_replace(rv);
        }
        done
    }

    fn identify(&self, headers: &HeaderMap) -> Outcome<User> {
        self.0.tokens.identify(headers, self.now())
    }

    fn log_request(&self, method: &str, uri: &Uri, user: &str) -> u64 {
        let path = uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        let entry = Request { at: self.now(), method: method.into(), path, user: user.into(), status: 0 };
        let mut log = self.0.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if log.newest.len() == REQUESTS_MAX {
            log.newest.pop_front();
            log.before += 1;
        }
        log.newest.push_back(entry);
        log.before + log.newest.len() as u64 - 1
    }

    fn log_status(&self, entry: u64, status: u16) {
        let mut log = self.0.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let at = entry.checked_sub(log.before).and_then(|at| usize::try_from(at).ok());
        if let Some(request) = at.and_then(|at| log.newest.get_mut(at)) {
            request.status = status;
        }
    }
}

/// Reads every file below a folder (three levels at most: namespace, pod, container).
fn read_logs(folder: &Path, prefix: &str, found: &mut BTreeMap<String, String>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let below = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
        if path.is_dir() && below.matches('/').count() < 2 {
            read_logs(&path, &below, found)?;
        } else if path.is_file() {
            let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            found.insert(below, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
