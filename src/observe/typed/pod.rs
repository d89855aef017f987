//! Pods, the state of their containers, and events.

use serde_json::Value;

use crate::model::scene::{At, ContainerState, Event, Pod, State, Terminated};
use crate::model::{Kind, ObjectRef};
use crate::observe::json;
use crate::observe::typed::{Typed, cpu_milli, memory_bytes};

impl Typed<'_> {
    /// A pod that belongs to `owner`; None if its names are no names.
    pub fn pod(&self, value: &Value, owner: Option<ObjectRef>, at: At) -> Option<Pod> {
        let metadata = value.get("metadata").unwrap_or(&Value::Null);
        let object =
            ObjectRef::new(Kind::Pod, Some(json::text(metadata, "/namespace")), json::text(metadata, "/name"))?;
        let (cpu_milli, memory_bytes) = requests(value);
        let hash = json::pairs(metadata, "/labels").find(|(key, _)| TEMPLATE_LABELS.contains(&key.as_str()));
        Some(Pod {
            object,
            uid: json::text(metadata, "/uid").to_owned(),
            created_at: json::created(value),
            phase: self.text(value, "/status/phase"),
            ready: is_ready(value),
            node: self.some_text(value, "/spec/nodeName"),
            template: hash.and_then(|(_, hash)| hash.as_str()).map(str::to_owned),
            labels: self.map(metadata, "/labels"),
            reason: self.text(value, "/status/reason"),
            message: self.text(value, "/status/message"),
            conditions: self.conditions(value),
            containers: self.containers(value),
            deleting: metadata.get("deletionTimestamp").is_some(),
            ends_at: json::time(metadata, "/deletionTimestamp"),
            finalizers: self.texts(metadata, "/finalizers"),
            owner,
            cpu_milli,
            memory_bytes,
            at,
        })
    }

    /// The state of every container, init ones first; one that has no status yet is unknown.
    fn containers(&self, pod: &Value) -> Vec<ContainerState> {
        let kinds = [("initContainers", "initContainerStatuses", true), ("containers", "containerStatuses", false)];
        let mut states = Vec::new();
        for (specs, statuses, init) in kinds {
            let statuses = json::list(pod, &format!("/status/{statuses}"));
            for spec in json::list(pod, &format!("/spec/{specs}")) {
                let name = json::text(spec, "/name");
                let status = statuses.iter().find(|status| json::text(status, "/name") == name);
                states.push(self.container_state(spec, status.unwrap_or(&Value::Null), init));
            }
        }
        states
    }

    fn container_state(&self, spec: &Value, status: &Value, init: bool) -> ContainerState {
        let image = if json::text(status, "/image").is_empty() { spec } else { status };
        ContainerState {
            name: self.text(spec, "/name"),
            init,
            image: self.text(image, "/image"),
            ready: json::flag(status, "/ready"),
            restarts: json::count(status, "/restartCount"),
            state: self.state(status.get("state").unwrap_or(&Value::Null)),
            last: status.pointer("/lastState/terminated").map(|ended| self.terminated(ended)),
            memory_limit: self.some_text(spec, "/resources/limits/memory"),
        }
    }

    fn state(&self, state: &Value) -> State {
        if let Some(waiting) = state.get("waiting") {
            State::Waiting { reason: self.text(waiting, "/reason"), message: self.text(waiting, "/message") }
        } else if let Some(running) = state.get("running") {
            State::Running { since: json::time(running, "/startedAt") }
        } else if let Some(ended) = state.get("terminated") {
            State::Terminated(self.terminated(ended))
        } else {
            State::Unknown
        }
    }

    fn terminated(&self, ended: &Value) -> Terminated {
        // A container that never started is said to have started in 1970.
        let started = json::time(ended, "/startedAt").filter(|at| at.as_second() > 0);
        Terminated {
            reason: self.text(ended, "/reason"),
            exit_code: json::number(ended, "/exitCode").and_then(|code| i32::try_from(code).ok()).unwrap_or(0),
            message: self.text(ended, "/message"),
            started_at: started,
            finished_at: json::time(ended, "/finishedAt"),
        }
    }

    /// A core/v1 event; those of the scheduler come with `eventTime` and `series` instead of timestamps and a count.
    pub fn event(&self, value: &Value, at: At) -> Option<Event> {
        let about = value.get("involvedObject").unwrap_or(&Value::Null);
        let kind = Kind::named(json::text(about, "/kind"))?;
        let created = json::time(value, "/eventTime").unwrap_or_else(|| json::created(value));
        let first_at = json::time(value, "/firstTimestamp").unwrap_or(created);
        // Which of the two a component fills depends on its client; the other is null, or that of the first time.
        let last_at = json::time(value, "/lastTimestamp").max(json::time(value, "/series/lastObservedTime"));
        let source = self.some_text(value, "/source/component");
        Some(Event {
            object: ObjectRef::new(kind, Some(json::text(about, "/namespace")), json::text(about, "/name"))?,
            warning: json::text(value, "/type") == "Warning",
            reason: self.text(value, "/reason"),
            message: self.text(value, "/message"),
            count: json::count(value, "/count").max(json::count(value, "/series/count")).max(1),
            first_at,
            last_at: last_at.unwrap_or(first_at).max(first_at),
            source: source.unwrap_or_else(|| self.text(value, "/reportingComponent")),
            at,
        })
    }
}

/// Labels that say which template a pod was made from: a ReplicaSet's, a StatefulSet's or DaemonSet's.
const TEMPLATE_LABELS: [&str; 2] = ["pod-template-hash", "controller-revision-hash"];

/// Whether the pod's condition Ready holds.
pub fn is_ready(pod: &Value) -> bool {
    let conditions = json::list(pod, "/status/conditions");
    conditions.iter().any(|c| json::text(c, "/type") == "Ready" && json::text(c, "/status") == "True")
}

/// Whether the pod has ended, well or not, and so holds no capacity.
pub fn is_finished(pod: &Value) -> bool {
    matches!(json::text(pod, "/status/phase"), "Succeeded" | "Failed")
}

/// Whether the scheduler has found no node for the pod.
pub fn is_unscheduled(pod: &Value) -> bool {
    let conditions = json::list(pod, "/status/conditions");
    let says = |c: &Value| json::text(c, "/type") == "PodScheduled" && json::text(c, "/status") == "False";
    json::text(pod, "/spec/nodeName").is_empty() && conditions.iter().any(says)
}

/// What the pod asks for, as the scheduler counts it: CPU in milli-cores, memory in bytes.
pub fn requests(pod: &Value) -> (i64, i64) {
    let of = |container: &Value| {
        let requests = container.pointer("/resources/requests").unwrap_or(&Value::Null);
        (cpu_milli(json::text(requests, "/cpu")), memory_bytes(json::text(requests, "/memory")))
    };
    let add = |a: (i64, i64), b: (i64, i64)| (a.0 + b.0, a.1 + b.1);
    let mut running = json::list(pod, "/spec/containers").iter().map(of).fold((0, 0), add);
    // Init containers run one after another, but those that restart always (sidecars) stay.
    let mut peak = (0, 0);
    let mut sidecars = (0, 0);
    for init in json::list(pod, "/spec/initContainers") {
        let need = add(of(init), sidecars);
        if json::text(init, "/restartPolicy") == "Always" {
            sidecars = need;
        }
        peak = (peak.0.max(need.0), peak.1.max(need.1));
    }
    running = add(running, sidecars);
    let overhead = pod.pointer("/spec/overhead").unwrap_or(&Value::Null);
    let overhead = (cpu_milli(json::text(overhead, "/cpu")), memory_bytes(json::text(overhead, "/memory")));
    add((running.0.max(peak.0), running.1.max(peak.1)), overhead)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::EvidenceId;
    use crate::redact::Redactor;

    #[test]
    fn a_pods_requests_are_counted_as_the_scheduler_does() {
        let with = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = with("50m");
        sidecar["restartPolicy"] = "Always".into();
        let pod = json!({"spec": {"containers": [with("100m"), with("0.2")], "initContainers": [sidecar, with("1")],
            "overhead": {"cpu": "10m"}}});
        assert_eq!(requests(&pod).0, 1060, "the init container beside the sidecar needs the most");
    }

    #[test]
    fn a_schedulers_event_is_dated_by_its_series() {
        let event = json!({
            "involvedObject": {"kind": "Pod", "namespace": "a", "name": "b"}, "type": "Warning", "reason": "FailedScheduling",
            "firstTimestamp": null, "lastTimestamp": null, "eventTime": "2026-03-24T16:20:00.000000Z",
            "series": {"count": 4, "lastObservedTime": "2026-03-24T16:30:00.000000Z"},
            "reportingComponent": "default-scheduler", "source": {}});
        let redactor = Redactor::default();
        let at = At { evidence: EvidenceId(5), segment: 0 };
        let event = Typed { redactor: &redactor }.event(&event, at).unwrap();
        assert_eq!((event.count, event.source.as_str()), (4, "default-scheduler"));
        assert_eq!(event.last_at.duration_since(event.first_at).as_mins(), 10);
    }
}
