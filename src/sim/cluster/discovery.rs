//! Discovery: which groups, versions and resources there are, for kubectl and for clients that ask before they use.

use serde_json::{Value, json};

use crate::sim::cluster::kinds::{Kind, Kinds, REVIEW, SCALE, STATUS};

/// Answers `/version`, `/api`, `/apis` and what lies below them; `None` for any other path.
pub(crate) fn answer(kinds: &Kinds, version: &str, path: &str) -> Option<Value> {
    let steps: Vec<&str> = path.split('/').filter(|step| !step.is_empty()).collect();
    match steps[..] {
        ["version"] => Some(self::version(version)),
        ["api"] => Some(json!({"kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1"}]})),
        ["apis"] => {
            let groups: Vec<Value> = groups(kinds).into_iter().map(|(g, v)| group(g, v)).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["apis", name] => groups(kinds).into_iter().find(|(g, _)| *g == name).map(|(g, v)| {
            let mut found = group(g, v);
            found["kind"] = json!("APIGroup");
            found["apiVersion"] = json!("v1");
            found
        }),
        ["api", version] => resources(kinds, "", version),
        ["apis", group, version] => resources(kinds, group, version),
        _ => None,
    }
}

fn version(version: &str) -> Value {
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or("1"), numbers.next().unwrap_or("34"));
    json!({"major": major, "minor": minor, "gitVersion": version, "gitCommit": "", "gitTreeState": "",
           "buildDate": "1970-01-01T00:00:00Z", "goVersion": "go1.24", "compiler": "gc", "platform": "linux/amd64"})
}

fn groups(kinds: &Kinds) -> Vec<(&str, &str)> {
    let mut found: Vec<(&str, &str)> = Vec::new();
    for kind in kinds.all().iter().filter(|k| !k.group.is_empty()) {
        if !found.iter().any(|(group, _)| *group == kind.group) {
            found.push((&kind.group, &kind.version));
        }
    }
    found
}

fn group(name: &str, version: &str) -> Value {
    let version = json!({"groupVersion": format!("{name}/{version}"), "version": version});
    json!({"name": name, "versions": [version], "preferredVersion": version})
}

fn resources(kinds: &Kinds, group: &str, version: &str) -> Option<Value> {
    let mut found = Vec::new();
    for kind in kinds.all().iter().filter(|k| k.group == group && k.version == version) {
        found.push(resource(kind));
        let mut sub = |name: &str, verbs: &[&str], shown: Value| {
            let mut entry = json!({"name": format!("{}/{name}", kind.plural), "singularName": "",
                "namespaced": kind.namespaced, "kind": kind.kind, "verbs": verbs});
            if let (Some(entry), Value::Object(shown)) = (entry.as_object_mut(), shown) {
                entry.extend(shown);
            }
            found.push(entry);
        };
        if kind.has(STATUS) {
            sub("status", &["get", "patch", "update"], json!({}));
        }
        if kind.has(SCALE) {
            let shown = json!({"group": "autoscaling", "version": "v1", "kind": "Scale"});
            sub("scale", &["get", "patch", "update"], shown);
        }
        match kind.kind.as_ref() {
            "Pod" => {
                sub("log", &["get"], json!({}));
                sub("eviction", &["create"], json!({"group": "policy", "version": "v1", "kind": "Eviction"}));
            }
            "ServiceAccount" => {
                let shown = json!({"group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest"});
                sub("token", &["create"], shown);
            }
            _ => {}
        }
    }
    let version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    (!found.is_empty())
        .then(|| json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": found}))
}

fn resource(kind: &Kind) -> Value {
    let verbs: &[&str] = match kind.has(REVIEW) {
        true => &["create"],
        false => &["create", "delete", "get", "list", "patch", "update", "watch"],
    };
    let mut entry = json!({"name": kind.plural, "singularName": kind.kind.to_lowercase(), "namespaced": kind.namespaced,
                           "kind": kind.kind, "verbs": verbs});
    if !kind.short.is_empty() {
        entry["shortNames"] = json!(kind.short);
    }
    let everyday = ["Pod", "Service", "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob"];
    if everyday.contains(&kind.kind.as_ref()) {
        entry["categories"] = json!(["all"]);
    }
    entry
}
