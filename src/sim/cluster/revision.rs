//! Which ReplicaSet a Deployment's template means, and how revisions are numbered.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::sim::cluster::objects::{Key, World, name, namespace, uid_of};
use crate::sim::cluster::replicas::Replicas;
use crate::sim::cluster::template::{HASH_LABEL, bare, hash};

const REVISION: &str = "deployment.kubernetes.io/revision";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";

/// Finds the ReplicaSet of the Deployment's template, or creates it (empty) when `may_create`. It gets the highest revision, and
/// so does the Deployment: going back to an old template renumbers it.
pub(crate) fn current(
    world: &mut World,
    key: &Key,
    deployment: &Value,
    may_create: bool,
    at: Timestamp,
) -> Option<Key> {
    let all = Replicas::of(world, deployment);
    let template = bare(&deployment["spec"]["template"]);
    let found = all.iter().find(|r| bare(&r.object["spec"]["template"]) == template);
    let others = all.iter().filter(|r| found.is_none_or(|f| f.key != r.key));
    let highest = others.map(|r| number(&r.object)).max().unwrap_or(0);
    let replicas = match found {
        Some(found) => {
            if number(&found.object) <= highest {
                let mut object = Value::clone(&found.object);
                let notes = &mut object["metadata"]["annotations"];
                let past = [notes[HISTORY].as_str(), notes[REVISION].as_str()];
                let past: Vec<&str> = past.into_iter().flatten().filter(|text| !text.is_empty()).collect();
                notes[HISTORY] = json!(past.join(","));
                notes[REVISION] = json!((highest + 1).to_string());
                world.put(found.key.clone(), object);
            }
            found.key.clone()
        }
        None if may_create => create(world, deployment, &template, highest + 1, at)?,
        None => return None,
    };
    let revision = world.get(&replicas).map(|r| r["metadata"]["annotations"][REVISION].clone())?;
    if deployment["metadata"]["annotations"][REVISION] != revision {
        let mut object = Value::clone(&*world.get(key)?);
        object["metadata"]["annotations"][REVISION] = revision;
        world.put(key.clone(), object);
    }
    Some(replicas)
}

fn number(replicas: &Value) -> u64 {
    replicas["metadata"]["annotations"][REVISION].as_str().and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn create(world: &mut World, deployment: &Value, template: &Value, revision: u64, at: Timestamp) -> Option<Key> {
    let hash = hash(template);
    let (ns, owner) = (namespace(deployment), name(deployment));
    let called = format!("{owner}-{hash}");
    let mut template = template.clone();
    template["metadata"]["labels"][HASH_LABEL] = json!(hash);
    let mut selector = deployment["spec"]["selector"].clone();
    selector["matchLabels"][HASH_LABEL] = json!(hash);
    let mut notes = deployment["metadata"]["annotations"].clone();
    if let Some(notes) = notes.as_object_mut() {
        // What the real controller does not copy.
        notes.retain(|key, _| {
            !key.contains("last-applied-configuration") && !key.starts_with("deployment.kubernetes.io/")
        });
    }
    notes[REVISION] = json!(revision.to_string());
    let object = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": called, "namespace": ns, "labels": template["metadata"]["labels"], "annotations": notes,
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": owner, "uid": uid_of(deployment),
                "controller": true, "blockOwnerDeletion": true}]},
        "spec": {"replicas": 0, "selector": selector, "template": template}, "status": {"replicas": 0}});
    let key = world.key_of("ReplicaSet", ns, &called)?;
    world.add(key.clone(), object, at);
    Some(key)
}
