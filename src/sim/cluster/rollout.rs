//! The simulated controllers of workloads: after a write they roll pods over step by step, as Kubernetes does, and then are still again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::sim::cluster::events::{Said, record};
use crate::sim::cluster::objects::{Key, World};
use crate::sim::cluster::replicas::{Now, Replicas, Timers};
use crate::sim::cluster::template::Sick;
use crate::sim::cluster::{Cluster, conditions, follow, jobs, replicas, revision, sets};

/// Between two steps of a rollout.
const STEP: Duration = Duration::from_millis(100);

/// Whether objects of this kind have a rollout that is played.
pub(crate) fn rolls(kind: &str) -> bool {
    matches!(kind, "Deployment" | "StatefulSet" | "DaemonSet" | "Job")
}

/// Workloads that were written to and wait for their controller.
#[derive(Debug, Default)]
pub(crate) struct Rollouts {
    touched: Mutex<BTreeSet<Key>>,
    wake: Notify,
}

impl Rollouts {
    /// Tells the controller that a workload, or a pod of it, was changed.
    pub(crate) fn touch(&self, workload: Key) {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner).insert(workload);
        self.wake.notify_one();
    }

    fn take(&self) -> BTreeSet<Key> {
        std::mem::take(&mut *self.touched.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A rollout under way.
struct Progress {
    timers: Timers,
    /// When anything last moved.
    moved: Instant,
    next: Instant,
}

/// Runs the controller until `stop`.
pub(crate) async fn run(cluster: Cluster, stop: CancellationToken) {
    let mut running: BTreeMap<Key, Progress> = BTreeMap::new();
    loop {
        let next = running.values().map(|progress| progress.next).min();
        let timer = async {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = cluster.rollouts().wake.notified() => {}
            () = timer => {}
        }
        let now = Now { at: cluster.now(), instant: Instant::now() };
        for key in cluster.rollouts().take() {
            let fresh = Progress { timers: Timers::new(), moved: now.instant, next: now.instant };
            running.entry(key).or_insert(fresh).next = now.instant;
        }
        running.retain(|key, progress| {
            if progress.next > now.instant {
                return true;
            }
            match cluster.with(|world| step(world, key, progress, cluster.sick(), now)) {
                Some(next) => progress.next = next,
                None => return false,
            }
            true
        });
    }
}

/// One step of one workload; says when the next is due, or that all is done.
fn step(world: &mut World, key: &Key, progress: &mut Progress, sick: &[Sick], now: Now) -> Option<Instant> {
    let before = world.rv();
    if world.kinds.all()[key.kind].kind == "Job" {
        return jobs::step(world, key, &mut progress.timers, now);
    }
    if world.kinds.all()[key.kind].kind != "Deployment" {
        sets::step(world, key, &mut progress.timers, sick, now)?;
        if world.rv() != before {
            return Some(now.instant + STEP);
        }
        progress.timers.retain(|_, due| *due > now.instant);
        return progress.timers.values().min().copied();
    }
    let deployment = world.get(key)?;
    let paused = deployment["spec"]["paused"] == true;
    let new = revision::current(world, key, &deployment, !paused, now.at);
    let deployment = world.get(key)?;
    let all = Replicas::of(world, &deployment);
    scale(world, &deployment, &all, new.as_ref(), now);
    for replicas in Replicas::of(world, &deployment) {
        replicas::step(world, &replicas.key, &mut progress.timers, sick, now);
    }
    let seconds = deployment["spec"]["progressDeadlineSeconds"].as_u64().unwrap_or(600);
    let deadline = progress.moved + Duration::from_secs(seconds);
    let all = Replicas::of(world, &deployment);
    let done = conditions::tell(world, key, &all, new.as_ref(), now.instant >= deadline, now.at);
    follow::pods(world, &key.ns, &deployment["spec"]["template"]["metadata"]["labels"]);
    if world.rv() != before {
        if now.instant < deadline {
            progress.moved = now.instant;
        }
        return Some(now.instant + STEP);
    }
    // A timer that is past now belonged to a pod that somebody else removed.
    progress.timers.retain(|_, due| *due > now.instant);
    let waiting = progress.timers.values().min().copied();
    waiting.or((!done && !paused && now.instant < deadline).then_some(deadline))
}

/// One scaling decision: the new ReplicaSet up first, then old ones down, within surge and unavailability.
fn scale(world: &mut World, deployment: &Value, all: &[Replicas], new: Option<&Key>, now: Now) {
    let wanted = deployment["spec"]["replicas"].as_i64().unwrap_or(1);
    let (surge, unavailable) = bounds(deployment, wanted);
    let mut set = |replicas: &Replicas, to: i64| {
        if to != replicas.wanted() {
            resize(world, deployment, replicas, to, wanted + surge, now);
        }
    };
    let Some(new) = all.iter().find(|r| new == Some(&r.key)) else {
        // Paused in mid-change: the youngest that runs takes the whole number.
        if let Some(active) = all.iter().rev().find(|r| r.wanted() > 0) {
            set(active, wanted);
        }
        return;
    };
    let old: Vec<&Replicas> = all.iter().filter(|r| r.key != new.key).collect();
    if deployment["spec"]["paused"] == true {
        if old.iter().all(|r| r.wanted() == 0) {
            set(new, wanted);
        }
        return;
    }
    if deployment["spec"]["strategy"]["type"] == "Recreate" {
        match old.iter().all(|r| r.wanted() == 0 && r.pods.is_empty()) {
            true => set(new, wanted),
            false => old.iter().for_each(|r| set(r, 0)),
        }
        return;
    }
    let total: i64 = all.iter().map(Replicas::wanted).sum();
    if new.wanted() > wanted {
        return set(new, wanted);
    }
    let room = (wanted + surge - total).min(wanted - new.wanted());
    if room > 0 {
        return set(new, new.wanted() + room);
    }
    scale_down(&old, new, total, wanted - unavailable, &mut set);
}

/// Takes old pods away: first those that do not work anyway, then working ones as far as new ones are available.
fn scale_down(
    old: &[&Replicas],
    new: &Replicas,
    total: i64,
    least_available: i64,
    set: &mut impl FnMut(&Replicas, i64),
) {
    let mut budget = total - least_available - (new.wanted() - new.available()).max(0);
    let available: i64 = old.iter().map(|r| r.available()).sum::<i64>() + new.available();
    let mut spare = available - least_available;
    for replicas in old {
        let broken = (replicas.wanted() - replicas.available()).clamp(0, budget.max(0));
        let working = (replicas.wanted() - broken).min(spare.max(0)).min((budget - broken).max(0));
        budget -= broken + working;
        spare -= working;
        set(replicas, replicas.wanted() - broken - working);
    }
}

/// maxSurge (rounded up) and maxUnavailable (rounded down), never both zero.
pub(crate) fn bounds(deployment: &Value, wanted: i64) -> (i64, i64) {
    let rolling = &deployment["spec"]["strategy"]["rollingUpdate"];
    let number = |field: &str, round_up: i64| -> i64 {
        let given = &rolling[field];
        let percent = given.as_str().unwrap_or("25%").trim_end_matches('%').parse::<i64>().unwrap_or(25);
        given.as_i64().unwrap_or((wanted * percent + round_up) / 100)
    };
    match (number("maxSurge", 99), number("maxUnavailable", 0)) {
        (0, 0) => (0, 1),
        both => both,
    }
}

fn resize(world: &mut World, deployment: &Value, replicas: &Replicas, to: i64, most: i64, now: Now) {
    let from = replicas.wanted();
    let mut object = Value::clone(&replicas.object);
    object["spec"]["replicas"] = json!(to);
    object["metadata"]["generation"] = json!(object["metadata"]["generation"].as_u64().unwrap_or(1) + 1);
    let notes = &mut object["metadata"]["annotations"];
    notes["deployment.kubernetes.io/desired-replicas"] = json!(deployment["spec"]["replicas"].to_string());
    notes["deployment.kubernetes.io/max-replicas"] = json!(most.to_string());
    world.put(replicas.key.clone(), object);
    let way = if to > from { "up" } else { "down" };
    let message = format!("Scaled {way} replica set {} from {from} to {to}", replicas.key.name);
    let said =
        Said { kind: "Normal", reason: "ScalingReplicaSet", message: &message, component: "deployment-controller" };
    record(world, deployment, &said, now.at);
}
