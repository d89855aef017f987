//! The simulated Job controller: a new Job runs for a moment and completes; its pods are not shown.

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::sim::cluster::objects::{Key, World, stamp, uid_of};
use crate::sim::cluster::replicas::{Now, START, Timers};

/// One step of one Job; when the next is due.
pub(crate) fn step(world: &mut World, key: &Key, timers: &mut Timers, now: Now) -> Option<Instant> {
    let job = world.get(key)?;
    let over = job["status"]["conditions"].as_array().is_some_and(|conditions| !conditions.is_empty());
    if over || job["spec"]["suspend"] == true {
        return None;
    }
    let uid = uid_of(&job).to_owned();
    let mut told = Value::clone(&job);
    match timers.get(&uid).copied() {
        None => {
            timers.insert(uid, now.instant + START);
            let pods = job["spec"]["parallelism"].as_u64().unwrap_or(1);
            told["status"] = json!({"active": pods, "ready": pods, "startTime": stamp(now.at)});
            world.put(key.clone(), told);
            Some(now.instant + START)
        }
        Some(due) if now.instant < due => Some(due),
        Some(_) => {
            let complete = json!({"type": "Complete", "status": "True", "lastTransitionTime": stamp(now.at)});
            told["status"] = json!({"succeeded": job["spec"]["completions"].as_u64().unwrap_or(1), "conditions": [complete],
                "startTime": job["status"]["startTime"], "completionTime": stamp(now.at)});
            world.put(key.clone(), told);
            None
        }
    }
}
