//! The change itself as data: what an action reads and writes, and the exact body that is sent. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::act::Sight;
use crate::model::{Action, ApprovalId, Bound};
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

/// The object's identity and the fields that `action` reads or writes, hashed.
pub fn bound(action: &Action, object: &Value) -> Bound {
    let fields = ["spec.template", "spec.paused"].into_iter().map(|field| {
        let pointer = format!("/{}", field.replace('.', "/"));
        let value = object.pointer(&pointer).unwrap_or(&Value::Null);
        // Absent and false are the same to Kubernetes.
        let value = if field == "spec.paused" { json!(value.as_bool().unwrap_or(false)) } else { value.clone() };
        (field.to_owned(), hash(&value))
    });
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

/// The JSON patch that performs `action`. It is fixed (and stored) before it is sent; only the resource version that
/// guards it is added at the moment of sending.
pub fn body(action: &Action, approval: &ApprovalId, at: Timestamp, sight: &Sight) -> Value {
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
    }
    Value::Array(patch)
}

/// The body with its guard: another version of the object is a conflict.
pub fn guarded(body: &Value, object: &Value) -> Value {
    let mut patch = body.as_array().cloned().unwrap_or_default();
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
