//! The fields of an object that are compared, each with the container that it is of, its name, and its value.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::redact::Redactor;

/// (container, field) -> value.
pub(super) type Fields = BTreeMap<(String, String), String>;

/// Fields of one object; what an attacker or an accident adds beyond is not compared.
const FIELDS_MAX: usize = 500;
/// A longer value is compared by its hash: no card shows it, and 16 KiB hold any settings that people write by hand.
const VALUE_MAX_BYTES: usize = 16 * 1024;

/// What the API server or a controller fills in.
const FILLED_IN: [&str; 5] = ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort"];
/// Annotations that repeat the object, or that controllers write as they please.
const NOISY_ANNOTATIONS: [&str; 2] = ["kubectl.kubernetes.io/last-applied-configuration", "field.cattle.io/"];
/// Levels of a manifest that say nothing about what a field is.
const STRUCTURE: [&str; 4] = ["spec", "jobTemplate", "template", "resources"];

/// Those of a ConfigMap.
pub(super) fn of_data<'a>(
    data: impl Iterator<Item = (&'a String, &'a String)>,
    binary: impl Iterator<Item = (&'a String, &'a String)>,
    redactor: &Redactor,
) -> Fields {
    let mut walk = Walk { redactor, fields: Fields::new() };
    data.for_each(|(key, value)| walk.put("", format!("key {key}"), key, value));
    binary.for_each(|(key, value)| walk.put("", format!("key {key}"), key, &hash(value, "of base64")));
    walk.fields
}

/// Those of a spec, and of the annotations that are compared.
pub(super) fn of_spec(spec: &Value, annotations: Option<&BTreeMap<String, String>>, redactor: &Redactor) -> Fields {
    let mut walk = Walk { redactor, fields: Fields::new() };
    walk.all(spec, "", &mut Vec::new());
    for (key, value) in annotations.into_iter().flatten() {
        if !NOISY_ANNOTATIONS.iter().any(|noise| key.starts_with(noise)) {
            walk.put("", format!("annotation {key}"), key, value);
        }
    }
    walk.fields
}

struct Walk<'a> {
    redactor: &'a Redactor,
    fields: Fields,
}

impl Walk<'_> {
    fn all(&mut self, value: &Value, container: &str, path: &mut Vec<String>) {
        match value {
            Value::Object(map) if map.is_empty() => self.leaf(container, path, "{}"),
            Value::Array(items) if items.is_empty() => self.leaf(container, path, "[]"),
            Value::Object(map) => self.object(map, container, path),
            Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
                let text = items.iter().map(plain).collect::<Vec<_>>().join(" ");
                self.leaf(container, path, &text);
            }
            Value::Array(items) => self.items(items, container, path),
            Value::Null => {}
            value => self.leaf(container, path, &plain(value)),
        }
    }

    fn object(&mut self, map: &Map<String, Value>, container: &str, path: &mut Vec<String>) {
        for (key, value) in map.iter().filter(|(key, _)| !FILLED_IN.contains(&key.as_str())) {
            let named = !STRUCTURE.contains(&key.as_str());
            if named {
                path.push(key.clone());
            }
            self.all(value, container, path);
            if named {
                path.pop();
            }
        }
    }

    /// An item is known by its name, host or path, so that one more item moves no other.
    fn items(&mut self, items: &[Value], container: &str, path: &mut Vec<String>) {
        let containers = path.last().is_some_and(|last| last == "containers" || last == "initContainers");
        for (place, item) in items.iter().enumerate() {
            let own = ["name", "host", "path"].into_iter().find_map(|key| Some((key, item.get(key)?.as_str()?)));
            let label = own.map_or_else(|| place.to_string(), |(_, label)| label.to_owned());
            let mut rest = item.as_object().cloned().unwrap_or_default();
            own.map(|(key, _)| rest.remove(key));
            if containers {
                self.object(&rest, &label, &mut Vec::new());
            } else {
                path.push(label);
                self.object(&rest, container, path);
                path.pop();
            }
        }
    }

    fn leaf(&mut self, container: &str, path: &[String], value: &str) {
        if path.is_empty() {
            return;
        }
        let words: Vec<&str> = path.iter().map(String::as_str).collect();
        let (field, key) = match words.as_slice() {
            ["env", name, "value"] => (format!("env {name}"), *name),
            ["env", name, rest @ ..] => (format!("env {name} {}", rest.join(".")), ""),
            ["limits", name] => (format!("limit {name}"), ""),
            ["requests", name] => (format!("request {name}"), ""),
            ["hard", name] => (format!("hard {name}"), ""),
            words => (words.join("."), words.last().copied().unwrap_or_default()),
        };
        self.put(container, field, key, value);
    }

    fn put(&mut self, container: &str, field: String, key: &str, value: &str) {
        if self.fields.len() >= FIELDS_MAX {
            return;
        }
        let value = match value.len() > VALUE_MAX_BYTES {
            true => hash(value, "of text"),
            false => self.redactor.redact_value(key, value).as_str().to_owned(),
        };
        let value = value.replace(|c: char| c.is_control() && c != '\n' && c != '\t', "");
        let field = field.replace(char::is_control, "");
        self.fields.insert((container.replace(char::is_control, ""), field), value);
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn hash(value: &str, what: &str) -> String {
    format!("{} bytes {what}, sha256 {}", value.len(), hex::encode(&Sha256::digest(value)[..6]))
}
