//! What is wrong with a pod, read from its status alone. Pure.

use jiff::Timestamp;
use kube::ResourceExt;
use serde::Deserialize;

use crate::ingest::watch::condition::Condition;
use crate::ingest::watch::seen::{Ignored, Seen};
use crate::model::Patience;
use crate::model::patience::seconds;
use crate::model::scene::is_refusal;

/// A pod as far as it is looked at.
pub(super) type Pod = Seen<Ignored, Status>;

/// As much of a pod's status as is looked at.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Status {
    phase: String,
    reason: String,
    message: String,
    conditions: Vec<Condition>,
    init_container_statuses: Vec<Container>,
    container_statuses: Vec<Container>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    name: String,
    restart_count: u32,
    state: State,
    last_state: State,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct State {
    waiting: Option<Waiting>,
    running: Option<Running>,
    terminated: Option<Terminated>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Waiting {
    reason: String,
    message: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Running {
    started_at: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Terminated {
    reason: String,
    exit_code: i32,
    finished_at: Option<Timestamp>,
}

/// Classes of trouble: one signal each, whatever reason the kubelet gives at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Class {
    Crash,
    Memory,
    Image,
    Config,
    Schedule,
    Init,
    Eviction,
    /// The kubelet did not take it.
    Refusal,
    Deletion,
}

impl Class {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Class::Crash => "crash",
            Class::Memory => "memory",
            Class::Image => "image",
            Class::Config => "config",
            Class::Schedule => "schedule",
            Class::Init => "init",
            Class::Eviction => "eviction",
            Class::Refusal => "refusal",
            Class::Deletion => "deletion",
        }
    }

    /// How many seconds it must hold before it is said.
    pub(super) fn holds(self, patience: &Patience) -> u32 {
        match self {
            Class::Schedule => patience.unschedulable_seconds,
            Class::Init => patience.init_seconds,
            Class::Deletion => patience.terminating_seconds,
            Class::Crash | Class::Memory | Class::Image | Class::Config => patience.pod_seconds,
            Class::Eviction | Class::Refusal => patience.pod_seconds,
        }
    }

    fn of(reason: &str) -> Option<Self> {
        match reason {
            "CrashLoopBackOff" | "RunContainerError" | "StartError" => Some(Class::Crash),
            "ImagePullBackOff"
            | "ErrImagePull"
            | "InvalidImageName"
            | "ErrImageNeverPull"
            | "RegistryUnavailable"
            | "ImageInspectError"
            | "SignatureValidationFailed" => Some(Class::Image),
            "CreateContainerConfigError" | "CreateContainerError" => Some(Class::Config),
            _ => None,
        }
    }
}

/// What is wrong with one container, or with the pod (an empty name), now.
pub(super) struct Sight {
    pub(super) class: Class,
    pub(super) container: String,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) restarts: u32,
    /// Since when, where the pod itself says so.
    pub(super) since: Option<Timestamp>,
    /// Needs no time to prove itself.
    pub(super) sure: bool,
    /// Has come back so often that it need not hold in one piece.
    pub(super) repeated: bool,
}

impl Sight {
    fn of_pod(class: Class, reason: &str, message: String) -> Self {
        let (container, reason) = (String::new(), reason.to_owned());
        Self { class, container, reason, message, restarts: 0, since: None, sure: false, repeated: false }
    }
}

/// Everything that is wrong with a pod.
pub(super) fn all(pod: &Pod, patience: &Patience, now: Timestamp) -> Vec<Sight> {
    let status = &pod.status;
    // What else a pod shows on its way out is nobody's trouble.
    if let Some(deleted) = &pod.metadata.deletion_timestamp {
        return vec![deletion(pod, deleted.0)];
    }
    if status.phase == "Succeeded" {
        return Vec::new();
    }
    if status.phase == "Failed" && status.reason == "Evicted" {
        return put_out(Class::Eviction, pod, patience, now).into_iter().collect();
    }
    if status.phase == "Failed" && is_refusal(&status.reason) {
        return put_out(Class::Refusal, pod, patience, now).into_iter().collect();
    }
    let mut found = Vec::new();
    let waits = |c: &&Condition| c.kind == "PodScheduled" && c.status == "False" && c.reason == "Unschedulable";
    if let Some(condition) = status.conditions.iter().find(waits) {
        found.push(Sight::of_pod(Class::Schedule, &condition.reason, condition.message.clone()));
    }
    found.extend(init(status, now));
    for container in status.init_container_statuses.iter().chain(&status.container_statuses) {
        of_container(container, patience, now, &mut found);
    }
    found
}

/// The deletion timestamp is when the grace period ends: what is there after it is held by its node or by finalizers.
fn deletion(pod: &Pod, deadline: Timestamp) -> Sight {
    let mut message = "it should have been gone by the end of its grace period".to_owned();
    if !pod.finalizers().is_empty() {
        message.push_str(&format!("; finalizers hold it: {}", pod.finalizers().join(", ")));
    }
    Sight { since: Some(deadline), ..Sight::of_pod(Class::Deletion, "StuckTerminating", message) }
}

/// Pods that a kubelet put out or did not take stay for show until somebody deletes them: only a new one is news.
fn put_out(class: Class, pod: &Pod, patience: &Patience, now: Timestamp) -> Option<Sight> {
    let status = &pod.status;
    let said = |kind: &str| status.conditions.iter().find(|condition| condition.kind == kind)?.last_transition_time;
    let at = said("DisruptionTarget").or_else(|| said("Ready"));
    let at = at.or_else(|| pod.creation_timestamp().map(|time| time.0))?;
    let fresh = now.duration_since(at) <= seconds(patience.fresh_seconds);
    let sight = Sight::of_pod(class, &status.reason, status.message.clone());
    fresh.then_some(Sight { since: Some(at), sure: true, ..sight })
}

/// Init containers run one after the other: the last that runs is the one that the others wait for. One that keeps
/// running beside the others (a sidecar) is waited for as well, until it has started.
fn init(status: &Status, now: Timestamp) -> Option<Sight> {
    let initialized = status.conditions.iter().any(|c| c.kind == "Initialized" && c.status == "True");
    if initialized || status.phase != "Pending" {
        return None;
    }
    let container = status.init_container_statuses.iter().rev().find(|container| container.state.running.is_some())?;
    let since = container.state.running.as_ref()?.started_at?;
    let minutes = now.duration_since(since).as_secs() / 60;
    let message = format!("init container {} has run for {minutes} min and has not ended", container.name);
    let sight = Sight::of_pod(Class::Init, "InitContainerRunning", message);
    Some(Sight { container: container.name.clone(), restarts: container.restart_count, since: Some(since), ..sight })
}

fn of_container(container: &Container, patience: &Patience, now: Timestamp, found: &mut Vec<Sight>) {
    let restarts = container.restart_count;
    let sight = |class, reason: &str, message: String, sure| Sight {
        class,
        container: container.name.clone(),
        reason: reason.to_owned(),
        message,
        restarts,
        since: None,
        sure,
        repeated: class == Class::Crash && restarts >= patience.pod_restarts,
    };
    if let Some(waiting) = &container.state.waiting
        && let Some(class) = Class::of(&waiting.reason)
    {
        found.push(sight(class, &waiting.reason, waiting.message.clone(), false));
    }
    let ended = [&container.state.terminated, &container.last_state.terminated].into_iter().flatten();
    let memory = seconds(patience.memory_seconds);
    let fresh = |end: &&Terminated| end.finished_at.is_some_and(|at| now.duration_since(at) <= memory);
    if let Some(end) = ended.filter(fresh).find(|end| end.reason == "OOMKilled") {
        let message = format!(
            "container {} was killed for memory (exit code {}), {restarts} restarts",
            container.name, end.exit_code
        );
        // Once may be a freak; a container that is not started again has had its only chance.
        if restarts >= patience.pod_restarts || container.state.terminated.is_some() {
            found.push(sight(Class::Memory, "OOMKilled", message, true));
        }
    }
}
