//! The patch types of the API: JSON patch, merge patch, strategic merge patch, and server-side apply in a simple form.

use serde_json::{Map, Value};

use crate::sim::cluster::failure::{Failure, Outcome};

/// How a PATCH body is to be read, from its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patch {
    Json,
    Merge,
    Strategic,
    /// Without field ownership: what the body names is set, nothing else is touched.
    Apply,
}

impl Patch {
    pub(crate) fn of(content_type: &str) -> Outcome<Self> {
        match content_type.split(';').next().unwrap_or("").trim() {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            _ => Err(Failure::media_type()),
        }
    }

    /// Reads a body.
    pub(crate) fn parse(self, body: &[u8]) -> Outcome<Value> {
        let read: Result<Value, String> = match self {
            Self::Apply => std::str::from_utf8(body)
                .map_err(|e| e.to_string())
                .and_then(|text| serde_saphyr::from_str(text).map_err(|e| e.to_string())),
            _ => serde_json::from_slice(body).map_err(|e| e.to_string()),
        };
        read.map_err(|e| Failure::bad_request(format!("error decoding patch: {e}")))
    }

    /// What becomes of `object`.
    pub(crate) fn apply(self, object: &Value, patch: &Value) -> Outcome<Value> {
        let mut changed = object.clone();
        match self {
            Self::Json => json_patch(&mut changed, patch).ok_or_else(Failure::unprocessable)?,
            Self::Merge => merge(&mut changed, patch),
            Self::Strategic | Self::Apply => strategic(&mut changed, patch),
        }
        Ok(changed)
    }
}

/// RFC 6902; `None` when an operation does not apply or a test fails.
fn json_patch(object: &mut Value, patch: &Value) -> Option<()> {
    for step in patch.as_array()? {
        let path = step["path"].as_str()?;
        match step["op"].as_str()? {
            "add" => add(object, path, step.get("value")?.clone())?,
            "remove" => drop(take(object, path)?),
            "replace" => *object.pointer_mut(path)? = step.get("value")?.clone(),
            "move" => {
                let moved = take(object, step["from"].as_str()?)?;
                add(object, path, moved)?;
            }
            "copy" => {
                let copied = object.pointer(step["from"].as_str()?)?.clone();
                add(object, path, copied)?;
            }
            "test" => {
                let expected = step.get("value").unwrap_or(&Value::Null);
                let found = object.pointer(path).unwrap_or(&Value::Null);
                if found != expected {
                    return None;
                }
            }
            _ => return None,
        }
    }
    Some(())
}

/// The parent of a JSON pointer and its last step, unescaped.
fn parent<'a>(object: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((object.pointer_mut(parent)?, last.replace("~1", "/").replace("~0", "~")))
}

fn add(object: &mut Value, path: &str, value: Value) -> Option<()> {
    if path.is_empty() {
        *object = value;
        return Some(());
    }
    match parent(object, path)? {
        (Value::Object(map), key) => drop(map.insert(key, value)),
        (Value::Array(list), key) => {
            let at = if key == "-" { list.len() } else { key.parse().ok()? };
            if at > list.len() {
                return None;
            }
            list.insert(at, value);
        }
        _ => return None,
    }
    Some(())
}

fn take(object: &mut Value, path: &str) -> Option<Value> {
    match parent(object, path)? {
        (Value::Object(map), key) => map.remove(&key),
        (Value::Array(list), key) => {
            let at: usize = key.parse().ok()?;
            (at < list.len()).then(|| list.remove(at))
        }
        _ => None,
    }
}

/// RFC 7386.
fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *object = patch.clone();
        return;
    };
    let map = as_map(object);
    for (key, value) in patch {
        if value.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("it was just made an object"),
    }
}

/// Kubernetes' own: lists of the API that have a merge key are merged element by element, `$patch` and its like are obeyed.
fn strategic(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *object = patch.clone();
        return;
    };
    if patch.get("$patch").is_some_and(|p| p == "replace") {
        *object = Value::Object(
            patch.iter().filter(|(k, _)| !k.starts_with('$')).map(|(k, v)| (k.clone(), v.clone())).collect(),
        );
        return;
    }
    let map = as_map(object);
    for (key, value) in patch.iter().filter(|(key, _)| !key.starts_with('$')) {
        match value {
            Value::Null => drop(map.remove(key)),
            Value::Object(inner) if inner.get("$patch").is_some_and(|p| p == "delete") => drop(map.remove(key)),
            Value::Object(_) => strategic(map.entry(key.clone()).or_insert(Value::Null), value),
            Value::Array(elements) => {
                let kept = map.entry(key.clone()).or_insert(Value::Null);
                match merge_key(key, elements) {
                    Some(by) => merge_list(kept, elements, by),
                    None if key == "finalizers" => union(kept, elements),
                    None => *kept = value.clone(),
                }
            }
            _ => drop(map.insert(key.clone(), value.clone())),
        }
    }
    for (directive, value) in patch.iter().filter(|(key, _)| key.starts_with('$')) {
        obey(map, directive, value);
    }
}

/// `patchMergeKey` of the list fields that have one, from the API's Go types.
fn merge_key(field: &str, elements: &[Value]) -> Option<&'static str> {
    match field {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "volumes"
        | "env"
        | "imagePullSecrets"
        | "secrets" => Some("name"),
        "ports" if elements.iter().any(|e| !e["containerPort"].is_null()) => Some("containerPort"),
        "ports" => Some("port"),
        "volumeMounts" => Some("mountPath"),
        "volumeDevices" => Some("devicePath"),
        "conditions" | "addresses" => Some("type"),
        "taints" => Some("key"),
        "topologySpreadConstraints" => Some("topologyKey"),
        "hostAliases" | "podIPs" | "hostIPs" => Some("ip"),
        "ownerReferences" => Some("uid"),
        _ => None,
    }
}

fn merge_list(kept: &mut Value, elements: &[Value], by: &str) {
    let mut list = match std::mem::take(kept) {
        Value::Array(list) => list,
        _ => Vec::new(),
    };
    if elements.iter().any(|e| e["$patch"] == "replace") {
        list.clear();
    }
    for element in elements {
        let at = list.iter().position(|there| there[by] == element[by]);
        match (element["$patch"].as_str(), at) {
            (Some("delete"), Some(at)) => drop(list.remove(at)),
            (Some("delete" | "replace"), _) => {}
            (_, Some(at)) => strategic(&mut list[at], element),
            (_, None) => {
                let mut made = Value::Null;
                strategic(&mut made, element);
                list.push(made);
            }
        }
    }
    *kept = Value::Array(list);
}

fn union(kept: &mut Value, elements: &[Value]) {
    let mut list = kept.as_array().cloned().unwrap_or_default();
    list.extend(elements.iter().filter(|e| !kept.as_array().is_some_and(|k| k.contains(e))).cloned());
    *kept = Value::Array(list);
}

fn obey(map: &mut Map<String, Value>, directive: &str, value: &Value) {
    let wanted = value.as_array().map(Vec::as_slice).unwrap_or_default();
    if directive == "$retainKeys" {
        map.retain(|key, _| wanted.iter().any(|w| w == key));
    } else if let Some(field) = directive.strip_prefix("$deleteFromPrimitiveList/") {
        if let Some(Value::Array(list)) = map.get_mut(field) {
            list.retain(|entry| !wanted.contains(entry));
        }
    } else if let Some(field) = directive.strip_prefix("$setElementOrder/")
        && let Some(Value::Array(list)) = map.get_mut(field)
    {
        let by = merge_key(field, list);
        let place = |entry: &Value| {
            let same = |w: &Value| by.map_or(w == entry, |by| w[by] == entry[by]);
            wanted.iter().position(same).unwrap_or(usize::MAX)
        };
        list.sort_by_key(place);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object() -> Value {
        json!({"metadata": {"annotations": {"a/b": "1"}}, "spec": {"containers": [
            {"name": "app", "image": "web:1", "env": [{"name": "A", "value": "1"}]}, {"name": "side", "image": "side:1"}]}})
    }

    #[test]
    fn a_json_patch_applies_whole_or_not_at_all() {
        let patch = json!([{"op": "test", "path": "/metadata/annotations/a~1b", "value": "1"},
            {"op": "replace", "path": "/spec/containers/0/image", "value": "web:2"},
            {"op": "add", "path": "/spec/containers/-", "value": {"name": "new"}}, {"op": "remove", "path": "/spec/containers/1"}]);
        let patched = Patch::Json.apply(&object(), &patch).unwrap();
        assert_eq!(patched["spec"]["containers"][0]["image"], "web:2");
        assert_eq!(patched["spec"]["containers"][1], json!({"name": "new"}));
        let failing = json!([{"op": "test", "path": "/metadata/annotations/a~1b", "value": "2"}]);
        assert_eq!(Patch::Json.apply(&object(), &failing).unwrap_err().code, 422);
    }

    #[test]
    fn a_strategic_patch_merges_lists_by_their_key() {
        let patch = json!({"spec": {"containers": [{"name": "app", "image": "web:2", "env": [{"name": "B", "value": "2"}]},
            {"name": "side", "$patch": "delete"}]}, "metadata": {"annotations": {"a/b": null, "c": "3"}}});
        let patched = Patch::Strategic.apply(&object(), &patch).unwrap();
        let app = json!([{"name": "app", "image": "web:2", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}]);
        assert_eq!(patched["spec"]["containers"], app);
        assert_eq!(patched["metadata"]["annotations"], json!({"c": "3"}));
        let merged = Patch::Merge.apply(&object(), &json!({"spec": {"containers": []}})).unwrap();
        assert_eq!(merged["spec"]["containers"], json!([]));
    }
}
