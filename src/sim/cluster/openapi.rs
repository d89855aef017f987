//! As much of OpenAPI as kubectl asks for before it applies: that every kind takes `fieldValidation` and `dryRun`. No schemas.

use serde_json::{Map, Value, json};

use crate::sim::cluster::kinds::{Kind, Kinds, REVIEW};

/// Answers `/openapi/v3` and the document of a group; `None` for any other path.
pub(crate) fn answer(kinds: &Kinds, path: &str) -> Option<Value> {
    let below = path.strip_prefix("/openapi/v3")?.trim_matches('/');
    if below.is_empty() {
        let groups = kinds.all().iter().map(|kind| {
            let root = root(kind);
            let url = json!({"serverRelativeURL": format!("/openapi/v3/{root}?hash=simulated")});
            (root, url)
        });
        return Some(json!({"paths": Value::Object(groups.collect())}));
    }
    let own = kinds.all().iter().filter(|kind| root(kind) == below && !kind.has(REVIEW));
    let paths: Map<String, Value> = own.map(operations).collect();
    (!paths.is_empty()).then(|| {
        json!({"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "simulated"},
               "paths": Value::Object(paths), "components": {"schemas": {}}})
    })
}

fn root(kind: &Kind) -> String {
    let version = kind.api_version();
    if kind.group.is_empty() { format!("api/{version}") } else { format!("apis/{version}") }
}

fn operations(kind: &Kind) -> (String, Value) {
    let within = if kind.namespaced { "namespaces/{namespace}/" } else { "" };
    let parameters = ["dryRun", "fieldManager", "fieldValidation"]
        .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}}));
    let patch = json!({"operationId": format!("patch{}", kind.kind), "parameters": parameters, "responses": {},
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind": {"group": kind.group, "kind": kind.kind, "version": kind.version}});
    (format!("/{}/{within}{}/{{name}}", root(kind), kind.plural), json!({"patch": patch}))
}
