//! Objects of the API server as JSON: reading fields, and the text that stands as evidence.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use serde_json::{Map, Value, json};

use crate::model::{Kind, ObjectRef};
use crate::redact::{Redacted, Redactor, is_secret_key};

/// The text at a JSON pointer, empty if there is none.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// The number at a JSON pointer.
pub fn number(value: &Value, pointer: &str) -> Option<i64> {
    value.pointer(pointer).and_then(Value::as_i64)
}

/// The count at a JSON pointer; what is absent or negative counts as zero.
pub fn count(value: &Value, pointer: &str) -> u32 {
    number(value, pointer).and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
}

/// The list at a JSON pointer, empty if there is none.
pub fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The pairs of the object at a JSON pointer.
pub fn pairs<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value.pointer(pointer).and_then(Value::as_object).into_iter().flatten()
}

/// The instant at a JSON pointer.
pub fn time(value: &Value, pointer: &str) -> Option<Timestamp> {
    text(value, pointer).parse().ok()
}

/// Whether `true` stands at a JSON pointer.
pub fn flag(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
}

/// When the object was created; the epoch if it does not say.
pub fn created(value: &Value) -> Timestamp {
    time(value, "/metadata/creationTimestamp").unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The reference to an object, from its `kind` and metadata.
pub fn reference(value: &Value) -> Option<ObjectRef> {
    let kind = Kind::named(text(value, "/kind"))?;
    ObjectRef::new(kind, Some(text(value, "/metadata/namespace")), text(value, "/metadata/name"))
}

/// The controlling owner: its `kind`, its name, its uid.
pub fn controller(value: &Value) -> Option<(&str, &str, &str)> {
    let owners = list(value, "/metadata/ownerReferences");
    let owner = owners.iter().find(|owner| flag(owner, "/controller"))?;
    Some((text(owner, "/kind"), text(owner, "/name"), text(owner, "/uid")))
}

/// The newest write that changed what the object does (a workload's template, else the spec): when, and by whom.
pub fn spec_written(value: &Value) -> Option<(Timestamp, &str)> {
    let writes = list(value, "/metadata/managedFields").iter().filter(|write| flag(write, "/spec"));
    writes.filter_map(|write| Some((time(write, "/time")?, text(write, "/manager")))).max_by_key(|(at, _)| *at)
}

/// Gives a list's item its kind (the API server leaves it out), and cuts managedFields down to who wrote the spec when.
pub(crate) fn slim(value: &mut Value, kind: Kind) {
    let Some(object) = value.as_object_mut() else { return };
    let (group, version, _) = kind.resource();
    object.entry("kind").or_insert_with(|| kind.as_str().into());
    object
        .entry("apiVersion")
        .or_insert_with(|| if group.is_empty() { version.into() } else { format!("{group}/{version}").into() });
    let Some(Value::Object(metadata)) = object.get_mut("metadata") else { return };
    if let Some(Value::Array(writes)) = metadata.get_mut("managedFields") {
        for write in writes.iter_mut() {
            let spec = written(kind).iter().any(|at| write.pointer(at).is_some());
            *write = json!({
                "manager": text(write, "/manager"), "time": text(write, "/time"),
                "subresource": text(write, "/subresource"), "spec": spec,
            });
        }
    }
}

/// What a write must touch to have changed what the object does: a workload's template (not its replicas, which
/// autoscalers write), a ConfigMap's data.
fn written(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::CronJob => &["/fieldsV1/f:spec/f:jobTemplate", "/fieldsV1/f:spec/f:schedule"],
        Kind::ConfigMap => &["/fieldsV1/f:data", "/fieldsV1/f:binaryData"],
        kind if kind.is_workload() => &["/fieldsV1/f:spec/f:template"],
        _ => &["/fieldsV1/f:spec"],
    }
}

/// The object as the text of evidence: one line of JSON with `": "` and `", "`, secrets masked by key and by pattern.
/// Left out are managedFields, the values of ConfigMaps, and what every object of its kind says alike.
pub fn evidence(value: &Value, redactor: &Redactor) -> Redacted {
    let mut pruned = value.clone();
    prune(&mut pruned);
    if matches!(text(value, "/kind"), "ConfigMap" | "Secret") {
        for part in ["data", "binaryData", "stringData"] {
            if let Some(Value::Object(values)) = pruned.get_mut(part) {
                values.values_mut().for_each(|value| *value = Value::String("[not read]".into()));
            }
        }
    }
    mask(&mut pruned, redactor);
    redactor.redact(&spaced(&pruned))
}

/// JSON with a space after `:` and `,`, on one line.
pub fn spaced(value: &impl Serialize) -> String {
    let mut bytes = Vec::new();
    if value.serialize(&mut Serializer::with_formatter(&mut bytes, Spaced)).is_err() {
        return String::new();
    }
    String::from_utf8(bytes).unwrap_or_default()
}

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, w: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, w: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, w: &mut W) -> std::io::Result<()> {
        w.write_all(b": ")
    }
}

/// Fields that are the same everywhere, or of no use to anybody who asks what broke.
const NOISE: [&str; 20] = [
    "managedFields",
    "resourceVersion",
    "selfLink",
    "generateName",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "dnsPolicy",
    "schedulerName",
    "enableServiceLinks",
    "preemptionPolicy",
    "blockOwnerDeletion",
    "lastProbeTime",
    "podIPs",
    "hostIPs",
    "nodeInfo",
    "images",
    "daemonEndpoints",
    "clusterIPs",
    "ipFamilies",
    "uncountedTerminatedPods",
];
/// Annotations that repeat the object, with whatever secrets its author put in it.
const NOISY_ANNOTATIONS: [&str; 1] = ["kubectl.kubernetes.io/last-applied-configuration"];

fn prune(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, value| {
                let noise = NOISE.contains(&key.as_str()) || NOISY_ANNOTATIONS.contains(&key.as_str());
                let empty = key == "securityContext" && value.as_object().is_some_and(Map::is_empty);
                !(value.is_null() || noise || empty)
            });
            fields.values_mut().for_each(prune);
        }
        Value::Array(items) => {
            items.retain(|item| !is_injected(item));
            items.iter_mut().for_each(prune);
        }
        _ => {}
    }
}

/// The token volume and the tolerations that every pod gets.
fn is_injected(item: &Value) -> bool {
    let default_toleration = number(item, "/tolerationSeconds") == Some(300)
        && matches!(text(item, "/key"), "node.kubernetes.io/not-ready" | "node.kubernetes.io/unreachable");
    default_toleration || text(item, "/name").starts_with("kube-api-access-")
}

/// Masks values by their key's name, also where the key is itself a value (`{"name": "DB_PASSWORD", "value": ...}`).
fn mask(value: &mut Value, redactor: &Redactor) {
    match value {
        Value::Object(fields) => {
            let named = fields.get("name").and_then(Value::as_str).map(str::to_owned);
            for (key, value) in fields.iter_mut() {
                let key = if key == "value" { named.as_deref().unwrap_or(key) } else { key.as_str() };
                match value {
                    Value::String(text) => *text = redactor.redact_value(key, text).as_str().to_owned(),
                    Value::Number(_) if is_secret_key(key) => {
                        *value = redactor.redact_value(key, &value.to_string()).as_str().into();
                    }
                    _ => mask(value, redactor),
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                match item {
                    Value::String(text) => *text = redactor.redact(text).as_str().to_owned(),
                    _ => mask(item, redactor),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_reads_as_pythons_json_and_holds_no_secret() {
        let pod = json!({
            "kind": "Pod",
            "metadata": {"name": "a", "managedFields": [{"manager": "x"}], "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "{\"password\":\"hunter22\"}"}},
            "spec": {
                "containers": [{"name": "app", "env": [{"name": "DB_PASSWORD", "value": "hunter22"}, {"name": "A", "value": "b"}],
                    "command": ["run", "--token=hunter22"],
                    "volumeMounts": [{"name": "kube-api-access-x", "mountPath": "/var"}]}],
                "tolerations": [{"key": "node.kubernetes.io/not-ready", "tolerationSeconds": 300}],
                "securityContext": {}},
        });
        let text = evidence(&pod, &Redactor::default());
        assert!(!text.as_str().contains("hunter22"), "{text}");
        assert!(text.as_str().contains(r#"{"name": "A", "value": "b"}"#), "{text}");
        for gone in ["managedFields", "last-applied", "kube-api-access", "tolerationSeconds", "securityContext"] {
            assert!(!text.as_str().contains(gone), "{gone}");
        }
    }

    #[test]
    fn the_values_of_a_config_map_are_never_read() {
        let map = json!({"kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"key.pem": "secret stuff"}});
        let text = evidence(&map, &Redactor::default());
        assert_eq!(
            text.as_str(),
            r#"{"data": {"key.pem": "[not read]"}, "kind": "ConfigMap", "metadata": {"name": "a"}}"#
        );
    }
}
