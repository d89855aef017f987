//! What is done to an attack's file once it is read: long words grow, and patches are laid over it.

use serde_json::{Map, Value, json};

/// Puts in place what is too long to stand in a file.
pub(super) fn grow(value: &mut Value) {
    match value {
        Value::String(text) if text == "$hundred_calls" => {
            let call = json!({"name": "list_workloads", "arguments": {"namespace": "shop"}});
            *value = Value::Array(vec![call; 100]);
        }
        Value::String(text) if text == "$alerts" => {
            let alert = json!({"status": "firing", "labels": {"alertname": "A"}, "startsAt": "2026-03-24T16:30:00Z"});
            *text = json!({"version": "4", "alerts": vec![alert; 20_001]}).to_string();
        }
        Value::String(text) if text == "$hundred_proposals" => {
            let target = |nth: usize| {
                json!({"tool": "rollout_restart", "kind": "Deployment", "namespace": "shop",
                "name": format!("w{nth}")})
            };
            *value = Value::Array((0..100).map(target).collect());
        }
        Value::String(text) if text.contains('$') => {
            let long = |length: usize| "k".repeat(length);
            let nested = || format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
            let words: [(&str, &dyn Fn() -> String); 5] = [
                ("$hundred_kilobytes", &|| long(100 << 10)),
                ("$nine_megabytes", &|| long(9 << 20)),
                ("$megabyte", &|| long(1 << 20)),
                ("$kilobytes", &|| long(20_000)),
                ("$nested", &nested),
            ];
            for (word, grown) in words.iter().filter(|(word, _)| text.contains(word)).collect::<Vec<_>>() {
                *text = text.replace(word, &grown());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(grow),
        Value::Object(fields) => fields.values_mut().for_each(grow),
        _ => {}
    }
}

/// RFC 7386, but a list is changed in place by an object with its numbers as keys; the number after its last adds one.
pub(super) fn merge(value: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *value = patch.clone();
        return;
    };
    if let Value::Array(items) = value
        && patch.keys().all(|key| key.parse::<usize>().is_ok_and(|at| at <= items.len()))
    {
        for (key, change) in patch {
            let at: usize = key.parse().unwrap();
            if at == items.len() {
                items.push(Value::Null);
            }
            merge(&mut items[at], change);
        }
        return;
    }
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let Value::Object(fields) = value else { return };
    for (key, change) in patch {
        if change.is_null() {
            fields.remove(key);
        } else {
            merge(fields.entry(key.clone()).or_insert(Value::Null), change);
        }
    }
}
