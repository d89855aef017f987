//! What else a pod template holds, leaf by leaf: whatever field it is, two revisions can be compared by it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::observe::typed::Typed;
use crate::redact::Redacted;

/// Leaves of one pod or container: real ones have some tens.
const LEAVES_MAX: usize = 300;

/// Fields of a pod's spec that a template tells by themselves; `serviceAccount` is the old name of one.
pub(super) const OF_POD: [&str; 10] = [
    "containers",
    "initContainers",
    "ephemeralContainers",
    "nodeSelector",
    "tolerations",
    "affinity",
    "serviceAccountName",
    "serviceAccount",
    "imagePullSecrets",
    "nodeName",
];
/// The same of a container.
pub(super) const OF_CONTAINER: [&str; 9] =
    ["name", "image", "command", "args", "env", "envFrom", "livenessProbe", "readinessProbe", "startupProbe"];
/// Leaves within the others that are told by themselves too: resources, ports, and what a volume refers to.
const WITHIN: [(&str, &str); 8] = [
    ("resources.requests", ""),
    ("resources.limits", ""),
    ("ports[", ".containerPort"),
    ("volumes[", ".configMap.name"),
    ("volumes[", ".secret.secretName"),
    ("volumes[", ".secret.name"),
    ("volumes[", ".persistentVolumeClaim.claimName"),
    ("volumes[", ".hostPath.path"),
];
/// By what the items of a list are told apart, where they have it: so a new one does not shift the others.
const NAMES: [&str; 6] = ["mountPath", "devicePath", "containerPort", "topologyKey", "name", "ip"];

impl Typed<'_> {
    /// Every value of an object under its path (`securityContext.runAsNonRoot`), but for the fields in `told`.
    pub(super) fn rest(&self, value: &Value, told: &[&str]) -> BTreeMap<String, Redacted> {
        let mut found = BTreeMap::new();
        for (name, value) in value.as_object().into_iter().flatten() {
            if !told.contains(&name.as_str()) {
                self.leaf(name, name, value, &mut found);
            }
        }
        found.retain(|path, _| !WITHIN.iter().any(|(start, end)| path.starts_with(start) && path.ends_with(end)));
        found
    }

    fn leaf(&self, path: &str, key: &str, value: &Value, found: &mut BTreeMap<String, Redacted>) {
        if found.len() >= LEAVES_MAX {
            return;
        }
        match value {
            Value::Null => {}
            Value::Object(fields) => self.fields(path, key, fields, found),
            Value::Array(items) if items.iter().any(Value::is_object) => {
                for (place, item) in items.iter().enumerate() {
                    let name = NAMES.iter().find_map(|name| item.get(name).map(plain));
                    let name = name.unwrap_or_else(|| place.to_string());
                    self.leaf(&format!("{path}[{name}]"), &name, item, found);
                }
            }
            Value::Array(items) => {
                let words: Vec<Redacted> = items.iter().map(|item| self.redactor.redact(&plain(item))).collect();
                // Once more as a whole: a password may be the word after the one that names it.
                let words = Redacted::join(&words, ", ");
                found.insert(path.to_owned(), self.redactor.redact_value(key, words.as_str()));
            }
            value => drop(found.insert(path.to_owned(), self.redactor.redact_value(key, &plain(value)))),
        }
    }

    /// `key` names the object itself: a `value` in it stands under that name.
    fn fields(&self, path: &str, key: &str, fields: &Map<String, Value>, found: &mut BTreeMap<String, Redacted>) {
        for (name, value) in fields {
            let key = if name == "value" { key } else { name };
            self.leaf(&format!("{path}.{name}"), key, value, found);
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
