//! Tables as kubectl prints them: the columns that the real server computes for the everyday kinds.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::sim::cluster::kinds::Kind;
use crate::sim::cluster::objects::name;

/// A `meta.k8s.io/v1` Table of these objects.
pub(crate) fn of(kind: &Kind, metadata: Value, objects: &[&Value], now: Timestamp) -> Value {
    let (columns, cells) = printer(kind);
    let columns: Vec<Value> = columns
        .iter()
        .map(|column| {
            // A column in small letters is shown with `-o wide` only.
            let wide = column.chars().all(|c| !c.is_ascii_uppercase());
            let title = if wide { title(column) } else { (*column).to_owned() };
            let format = if *column == "Name" { "name" } else { "" };
            json!({"name": title, "type": "string", "format": format, "description": "", "priority": u8::from(wide)})
        })
        .collect();
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let shown = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]});
            json!({"cells": cells(object, now), "object": shown})
        })
        .collect();
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": columns, "rows": rows})
}

type Cells = fn(&Value, Timestamp) -> Vec<String>;

fn printer(kind: &Kind) -> (&'static [&'static str], Cells) {
    match kind.kind.as_ref() {
        "Pod" => (&["Name", "Ready", "Status", "Restarts", "Age", "ip", "node"], pod),
        "Deployment" => (&["Name", "Ready", "Up-to-date", "Available", "Age"], |o, now| {
            let ready = format!("{}/{}", count(&o["status"]["readyReplicas"]), count(&o["spec"]["replicas"]));
            let [updated, available] = [&o["status"]["updatedReplicas"], &o["status"]["availableReplicas"]].map(count);
            vec![named(o), ready, updated, available, age(o, now)]
        }),
        "ReplicaSet" => (&["Name", "Desired", "Current", "Ready", "Age"], |o, now| {
            let [desired, current, ready] =
                [&o["spec"]["replicas"], &o["status"]["replicas"], &o["status"]["readyReplicas"]].map(count);
            vec![named(o), desired, current, ready, age(o, now)]
        }),
        "StatefulSet" => (&["Name", "Ready", "Age"], |o, now| {
            let ready = format!("{}/{}", count(&o["status"]["readyReplicas"]), count(&o["spec"]["replicas"]));
            vec![named(o), ready, age(o, now)]
        }),
        "Node" => (&["Name", "Status", "Roles", "Age", "Version"], node),
        "Namespace" => (&["Name", "Status", "Age"], |o, now| vec![named(o), text(&o["status"]["phase"]), age(o, now)]),
        "Service" => (&["Name", "Type", "Cluster-IP", "Port(s)", "Age"], |o, now| {
            let ports = o["spec"]["ports"].as_array().into_iter().flatten();
            let ports: Vec<String> =
                ports.map(|p| format!("{}/{}", count(&p["port"]), p["protocol"].as_str().unwrap_or("TCP"))).collect();
            vec![named(o), text(&o["spec"]["type"]), text(&o["spec"]["clusterIP"]), ports.join(","), age(o, now)]
        }),
        "Event" => (&["Last Seen", "Type", "Reason", "Object", "Message"], event),
        _ => (&["Name", "Age"], |o, now| vec![named(o), age(o, now)]),
    }
}

fn title(column: &str) -> String {
    match column {
        "ip" => "IP".to_owned(),
        other => other.chars().take(1).map(|c| c.to_ascii_uppercase()).chain(other.chars().skip(1)).collect(),
    }
}

fn named(object: &Value) -> String {
    name(object).to_owned()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("<none>").to_owned()
}

fn count(value: &Value) -> String {
    value.as_i64().unwrap_or(0).to_string()
}

fn age(object: &Value, now: Timestamp) -> String {
    since(&object["metadata"]["creationTimestamp"], now)
}

/// The time since an instant, as kubectl says it.
fn since(at: &Value, now: Timestamp) -> String {
    let Some(at) = at.as_str().and_then(|at| at.parse::<Timestamp>().ok()) else { return "<unknown>".to_owned() };
    match now.duration_since(at).as_secs().max(0) {
        s @ 0..120 => format!("{s}s"),
        s @ 120..600 if s % 60 > 0 => format!("{}m{}s", s / 60, s % 60),
        s @ 120..10_800 => format!("{}m", s / 60),
        s @ 10_800..28_800 if s % 3600 >= 60 => format!("{}h{}m", s / 3600, s % 3600 / 60),
        s @ 10_800..172_800 => format!("{}h", s / 3600),
        s @ 172_800..691_200 if s % 86_400 >= 3600 => format!("{}d{}h", s / 86_400, s % 86_400 / 3600),
        s => format!("{}d", s / 86_400),
    }
}

fn pod(pod: &Value, now: Timestamp) -> Vec<String> {
    let statuses: Vec<&Value> = pod["status"]["containerStatuses"].as_array().into_iter().flatten().collect();
    let ready = statuses.iter().filter(|s| s["ready"] == true).count();
    let all = pod["spec"]["containers"].as_array().map_or(0, Vec::len);
    let restarts: i64 = statuses.iter().filter_map(|s| s["restartCount"].as_i64()).sum();
    let last = statuses.iter().filter_map(|s| s["lastState"]["terminated"]["finishedAt"].as_str()).max();
    let restarts = match last {
        Some(last) if restarts > 0 => format!("{restarts} ({} ago)", since(&json!(last), now)),
        _ => restarts.to_string(),
    };
    let (ip, node) = (text(&pod["status"]["podIP"]), text(&pod["spec"]["nodeName"]));
    vec![named(pod), format!("{ready}/{all}"), state(pod), restarts, age(pod, now), ip, node]
}

/// The one word for a pod's state: that of its worst container, or its phase.
fn state(pod: &Value) -> String {
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return "Terminating".to_owned();
    }
    let reason = |status: &Value| {
        let state = &status["state"];
        let code = state["terminated"]["exitCode"].as_i64().map(|code| format!("ExitCode:{code}"));
        let word = [&state["waiting"]["reason"], &state["terminated"]["reason"]].into_iter().find_map(Value::as_str);
        word.map(str::to_owned).or(code)
    };
    let init = pod["status"]["initContainerStatuses"].as_array().into_iter().flatten();
    let stuck = init.filter(|s| s["state"]["terminated"]["exitCode"] != 0 && s["started"] != true).find_map(reason);
    if let Some(stuck) = stuck {
        return format!("Init:{stuck}");
    }
    let plain = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    let own = plain.filter_map(reason).next_back();
    own.or(pod["status"]["reason"].as_str().map(str::to_owned)).unwrap_or_else(|| text(&pod["status"]["phase"]))
}

fn node(node: &Value, now: Timestamp) -> Vec<String> {
    let mut conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions.find(|c| c["type"] == "Ready").map_or("Unknown", |c| match c["status"].as_str() {
        Some("True") => "Ready",
        _ => "NotReady",
    });
    let cordoned = if node["spec"]["unschedulable"] == true { ",SchedulingDisabled" } else { "" };
    let labels = node["metadata"]["labels"].as_object().into_iter().flatten();
    let roles: Vec<&str> = labels.filter_map(|(k, _)| k.strip_prefix("node-role.kubernetes.io/")).collect();
    let roles = if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") };
    let version = text(&node["status"]["nodeInfo"]["kubeletVersion"]);
    vec![named(node), format!("{ready}{cordoned}"), roles, age(node, now), version]
}

/// An Event, through either of its APIs.
fn event(event: &Value, now: Timestamp) -> Vec<String> {
    let either = |core: &str, new: &str| if event[core].is_null() { event[new].clone() } else { event[core].clone() };
    let last = [either("lastTimestamp", "deprecatedLastTimestamp"), event["series"]["lastObservedTime"].clone()];
    let last = last.into_iter().chain([event["eventTime"].clone()]).find(Value::is_string).unwrap_or_default();
    let about = either("involvedObject", "regarding");
    let object = format!("{}/{}", text(&about["kind"]).to_lowercase(), text(&about["name"]));
    let message = text(&either("message", "note")).trim_end().to_owned();
    vec![since(&last, now), text(&event["type"]), text(&event["reason"]), object, message]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::cluster::kinds::Kinds;

    #[test]
    fn a_pod_is_told_as_kubectl_tells_it() {
        let pod = json!({"metadata": {"name": "web", "creationTimestamp": "2026-03-24T15:40:00Z"},
            "spec": {"containers": [{"name": "a"}, {"name": "b"}], "nodeName": "n1"},
            "status": {"phase": "Running", "containerStatuses": [{"ready": true, "restartCount": 0, "state": {"running": {}}},
                {"ready": false, "restartCount": 7, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                 "lastState": {"terminated": {"finishedAt": "2026-03-24T16:35:20Z"}}}]}});
        let kinds = Kinds::new();
        let now = "2026-03-24T16:40:00Z".parse().unwrap();
        let table = of(kinds.by_kind("Pod").unwrap(), json!({}), &[&pod], now);
        let row = json!(["web", "1/2", "CrashLoopBackOff", "7 (4m40s ago)", "60m", "<none>", "n1"]);
        assert_eq!(table["rows"][0]["cells"], row);
    }
}
