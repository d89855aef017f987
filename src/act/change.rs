//! The change itself as data: what an action reads and writes, and the exact body that is sent. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::act::{Sight, again};
use crate::model::{Action, ApprovalId, Bound, Resources};
use crate::observe::json;
use crate::observe::typed::Typed;
use crate::redact::{Redacted, Redactor};
use crate::text;

/// The annotation that every write of firstlook sets, so that it can be told from others' and found after a crash.
pub const APPROVAL_ANNOTATION: &str = "firstlook.dev/approval";
/// What `kubectl rollout restart` sets.
const RESTARTED_ANNOTATION: &str = "kubectl.kubernetes.io/restartedAt";
/// The label that the Deployment controller puts into each ReplicaSet's template.
const HASH_LABEL: &str = "pod-template-hash";

/// The pod template of a ReplicaSet or ControllerRevision as its workload holds it.
pub fn template_of(revision: &Value) -> Value {
    // A ControllerRevision keeps it as a patch of the workload, with the directive to replace what is there.
    let place =
        if json::text(revision, "/kind") == "ControllerRevision" { "/data/spec/template" } else { "/spec/template" };
    let mut template = revision.pointer(place).cloned().unwrap_or(Value::Null);
    if let Some(map) = template.as_object_mut() {
        map.remove("$patch");
    }
    for pointer in ["/metadata/labels", "/metadata/annotations"] {
        if let Some(map) = template.pointer_mut(pointer).and_then(Value::as_object_mut) {
            map.remove(HASH_LABEL);
        }
    }
    template
}

/// The fields that an action reads or writes, as paths: the same for an action and its inverse.
pub(crate) fn fields(action: &Action) -> &'static [&'static str] {
    match action {
        Action::RolloutUndo { .. }
        | Action::RolloutRestart { .. }
        | Action::SetResources { .. }
        | Action::PauseRollout { .. }
        | Action::ResumeRollout { .. } => &["spec.template", "spec.paused"],
        Action::Scale { .. } => &["spec.replicas"],
        Action::SuspendCronjob { .. } | Action::ResumeCronjob { .. } => &["spec.suspend"],
        // A drain's pods are part of the action, by their uids.
        Action::Cordon { .. } | Action::Uncordon { .. } | Action::Drain { .. } => &["spec.unschedulable"],
        Action::RerunJob { .. } => &["spec.template", "spec.jobTemplate"],
        // The pod itself, by its uid.
        Action::DeletePod { .. } => &[],
        // No field of the object: what Alertmanager holds.
        Action::SilenceAlert { .. } | Action::ExpireSilence { .. } => &[],
    }
}

/// A field's value, and what its absence stands for.
pub(crate) fn field(object: &Value, path: &str) -> Value {
    let value = object.pointer(&format!("/{}", path.replace('.', "/"))).cloned().unwrap_or(Value::Null);
    match (path, &value) {
        ("spec.replicas", Value::Null) => json!(1),
        ("spec.paused" | "spec.suspend" | "spec.unschedulable", Value::Null) => json!(false),
        _ => value,
    }
}

/// Pods of the workload that are ready, where the action moves them.
pub fn ready(action: &Action, workload: &Value) -> Option<u32> {
    let counts = matches!(workload["kind"].as_str(), Some("Deployment" | "StatefulSet" | "DaemonSet"));
    let place = if workload["kind"] == "DaemonSet" { "/status/numberReady" } else { "/status/readyReplicas" };
    (counts && action.moves_pods()).then(|| json::count(workload, place))
}

/// The object's identity and the fields that `action` reads or writes, hashed.
pub fn bound(action: &Action, object: &Value) -> Bound {
    let fields = fields(action).iter().map(|path| ((*path).to_owned(), hash(&field(object, path))));
    Bound {
        action: action.hash(),
        uid: json::text(object, "/metadata/uid").to_owned(),
        fields: fields.collect::<BTreeMap<_, _>>(),
    }
}

/// The fields of `approved` that differ in `now`, by name; `uid` when the object is another one.
pub fn differing(approved: &Bound, now: &Bound) -> Vec<String> {
    if approved.uid != now.uid {
        return vec!["uid".to_owned()];
    }
    let differs = |(field, hash): &(&String, &String)| now.fields.get(*field) != Some(*hash);
    approved.fields.iter().filter(differs).map(|(field, _)| field.clone()).collect()
}

/// The body of the request that performs `action`: a JSON patch, a new Job or an Eviction. It is fixed (and stored) before it is sent; only the resource version that
/// guards it is added at the moment of sending.
pub fn body(action: &Action, approval: &ApprovalId, at: Timestamp, sight: &Sight) -> Value {
    match action {
        Action::RerunJob { object } => return again::job(&sight.object, &again::name(object, approval), approval),
        Action::DeletePod { object, uid, .. } => return again::eviction(object, uid, approval),
        _ => {}
    }
    let mut patch = Vec::new();
    ensure_map(&mut patch, &sight.object, "/metadata/annotations");
    patch.push(json!({"op": "add", "path": pointer("/metadata/annotations", APPROVAL_ANNOTATION), "value": approval}));
    match action {
        // The whole template is replaced: a merge would leave added variables behind.
        Action::RolloutUndo { .. } => {
            patch.push(json!({"op": "replace", "path": "/spec/template", "value": sight.target}));
        }
        Action::RolloutRestart { .. } => {
            ensure_map(&mut patch, &sight.object, "/spec/template/metadata");
            ensure_map(&mut patch, &sight.object, "/spec/template/metadata/annotations");
            let path = pointer("/spec/template/metadata/annotations", RESTARTED_ANNOTATION);
            patch.push(json!({"op": "add", "path": path, "value": at.to_string()}));
        }
        Action::Scale { to, .. } => patch.push(set("/spec/replicas", json!(to))),
        Action::PauseRollout { .. } => patch.push(set("/spec/paused", json!(true))),
        Action::ResumeRollout { .. } => patch.push(set("/spec/paused", json!(false))),
        Action::SetResources { container, to, .. } => patch.extend(resources(&sight.object, container.as_str(), to)),
        Action::SuspendCronjob { .. } => patch.push(set("/spec/suspend", json!(true))),
        Action::ResumeCronjob { .. } => patch.push(set("/spec/suspend", json!(false))),
        Action::Cordon { .. } | Action::Drain { .. } => patch.push(set("/spec/unschedulable", json!(true))),
        Action::Uncordon { .. } => patch.push(set("/spec/unschedulable", json!(false))),
        Action::RerunJob { .. }
        | Action::DeletePod { .. }
        | Action::SilenceAlert { .. }
        | Action::ExpireSilence { .. } => {}
    }
    Value::Array(patch)
}

fn set(path: &str, value: Value) -> Value {
    json!({"op": "add", "path": path, "value": value})
}

/// One container's resources, with what is named changed and all else as it is.
fn resources(object: &Value, container: &str, to: &Resources) -> Option<Value> {
    let containers = json::list(object, "/spec/template/spec/containers");
    let place = containers.iter().position(|one| json::text(one, "/name") == container)?;
    let mut all = containers[place].get("resources").cloned().unwrap_or_else(|| json!({}));
    for (of, what, quantity) in to.named() {
        match quantity.set() {
            Some(text) => all[of][what] = json!(text),
            None => drop(all[of].as_object_mut().and_then(|values| values.remove(what))),
        }
    }
    if let Some(all) = all.as_object_mut() {
        all.retain(|_, values| values.as_object().is_none_or(|values| !values.is_empty()));
    }
    Some(set(&format!("/spec/template/spec/containers/{place}/resources"), all))
}

/// The object as the body leaves it, as far as firstlook can tell by itself.
pub fn applied(object: &Value, body: &Value) -> Value {
    let mut changed = object.clone();
    for step in json::list(body, "") {
        let (path, value) = (json::text(step, "/path"), step.get("value").cloned().unwrap_or(Value::Null));
        let Some((parent, last)) = path.rsplit_once('/') else { continue };
        if let Some(Value::Object(map)) = changed.pointer_mut(parent) {
            map.insert(last.replace("~1", "/").replace("~0", "~"), value);
        }
    }
    changed
}

/// The body with its guard: another version of the object is a conflict. A new Job needs none, its name being the
/// approval's own; an Eviction names the uid.
pub fn guarded(body: &Value, object: &Value) -> Value {
    let Some(mut patch) = body.as_array().cloned() else { return body.clone() };
    let version = json::text(object, "/metadata/resourceVersion");
    patch.push(json!({"op": "replace", "path": "/metadata/resourceVersion", "value": version}));
    Value::Array(patch)
}

/// Whether this approval's write is in the object.
pub fn carries(object: &Value, approval: &ApprovalId) -> bool {
    let annotation = object.pointer(&pointer("/metadata/annotations", APPROVAL_ANNOTATION));
    annotation.and_then(Value::as_str) == Some(approval.as_str())
}

/// ` (revision 8, by kubectl-edit)`, as far as the object tells; empty if it does not.
pub fn who_changed(object: &Value, redactor: &Redactor) -> Redacted {
    let typed = Typed { redactor };
    let revision = typed.some_text(object, "/metadata/annotations/deployment.kubernetes.io~1revision");
    let by = json::spec_written(object).map(|(_, manager)| redactor.redact(manager));
    match (revision, by) {
        (Some(revision), Some(by)) => text!(" (revision {}, by {})", revision, by),
        (Some(revision), None) => text!(" (revision {})", revision),
        (None, Some(by)) => text!(" (by {})", by),
        (None, None) => Redacted::default(),
    }
}

/// SHA-256 of a value's JSON with sorted keys, hex.
pub fn hash(value: &Value) -> String {
    let mut text = String::new();
    canonical(value, &mut text);
    hex::encode(Sha256::digest(text.as_bytes()))
}

fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            out.push('{');
            for key in keys {
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                canonical(&map[key.as_str()], out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

fn ensure_map(patch: &mut Vec<Value>, object: &Value, path: &str) {
    if !object.pointer(path).is_some_and(Value::is_object) {
        patch.push(json!({"op": "add", "path": path, "value": {}}));
    }
}

/// A JSON pointer to `key` below `path`.
fn pointer(path: &str, key: &str) -> String {
    format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Kind, ObjectRef};

    fn sight(object: Value) -> (Action, Sight) {
        let action = Action::RolloutUndo {
            object: ObjectRef::new(Kind::Deployment, Some("shop"), "checkout").unwrap(),
            target_uid: "u6".into(),
            target_hash: "6".into(),
            to_revision: 6,
            from_revision: 7,
        };
        let set = json!({"spec": {"template": {"metadata": {"labels": {"app": "checkout", "pod-template-hash": "6"}}, "spec": {"x": 1}}}});
        let bound = bound(&action, &object);
        (action.clone(), Sight { object, target: Some(template_of(&set)), bound })
    }

    #[test]
    fn an_undo_replaces_the_whole_template_and_marks_its_approval() {
        let (action, sight) =
            sight(json!({"metadata": {"uid": "u", "resourceVersion": "9"}, "spec": {"template": {}}}));
        let approval = ApprovalId::parse("a1").unwrap();
        let body = body(&action, &approval, Timestamp::UNIX_EPOCH, &sight);
        insta::assert_json_snapshot!(guarded(&body, &sight.object), @r#"
        [
          {
            "op": "add",
            "path": "/metadata/annotations",
            "value": {}
          },
          {
            "op": "add",
            "path": "/metadata/annotations/firstlook.dev~1approval",
            "value": "a1"
          },
          {
            "op": "replace",
            "path": "/spec/template",
            "value": {
              "metadata": {
                "labels": {
                  "app": "checkout"
                }
              },
              "spec": {
                "x": 1
              }
            }
          },
          {
            "op": "replace",
            "path": "/metadata/resourceVersion",
            "value": "9"
          }
        ]
        "#);
    }

    #[test]
    fn what_an_approval_is_bound_to_is_what_the_action_touches() {
        let object = json!({"metadata": {"uid": "u"}, "spec": {"replicas": 4, "template": {"a": 1, "b": 2}}});
        let (action, sight) = sight(object.clone());
        let differs = |object: Value| differing(&sight.bound, &bound(&action, &object));
        assert!(differs(object).is_empty());
        assert!(differs(json!({"metadata": {"uid": "u"}, "spec": {"replicas": 9, "paused": false, "template": {"b": 2, "a": 1}}})).is_empty());
        assert_eq!(
            differs(json!({"metadata": {"uid": "u"}, "spec": {"template": {"a": 2, "b": 2}}})),
            ["spec.template"]
        );
        assert_eq!(differs(json!({"metadata": {"uid": "v"}, "spec": {}})), ["uid"]);
    }
}
