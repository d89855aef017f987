//! What another's server declares of a tool: its arguments without a word of its own, and whether it is still the same. Pure.

use rmcp::model::{JsonObject, Tool};
use serde_json::Value;

/// Arguments of a tool that are offered, those within others counted, and how deep: every turn pays for each.
const ARGUMENTS_MAX: usize = 30;
const DEPTH_MAX: usize = 3;
/// Characters of an argument's name.
const NAME_MAX_CHARS: usize = 64;
/// Words of a schema, which say nothing of what fits it.
const WORDS: [&str; 3] = ["title", "description", "$comment"];

/// What a tool takes and says of its own harm: all that its server declares of it, but for words.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shape {
    schema: Value,
    hints: [Option<bool>; 4],
}

impl Shape {
    /// As it is declared.
    pub(crate) fn of(tool: &Tool) -> Self {
        let hints = tool
            .annotations
            .as_ref()
            .map(|says| [says.read_only_hint, says.destructive_hint, says.idempotent_hint, says.open_world_hint]);
        Self {
            schema: wordless(&Value::Object(JsonObject::clone(&tool.input_schema))),
            hints: hints.unwrap_or_default(),
        }
    }
}

fn wordless(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let says = |(key, value): &(&String, &Value)| WORDS.contains(&key.as_str()) && value.is_string();
            let kept = fields.iter().filter(|field| !says(field));
            Value::Object(kept.map(|(key, value)| (key.clone(), wordless(value))).collect())
        }
        Value::Array(items) => items.iter().map(wordless).collect(),
        other => other.clone(),
    }
}

/// A tool's arguments without a word of its server: names that are plain identifiers, and types.
pub(crate) fn arguments(schema: &JsonObject) -> JsonObject {
    bare(schema, DEPTH_MAX, &mut ARGUMENTS_MAX.clone())
}

fn bare(schema: &JsonObject, depth: usize, room: &mut usize) -> JsonObject {
    let is_name = |name: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        !name.is_empty() && name.len() <= NAME_MAX_CHARS && name.chars().all(plain)
    };
    let is_type = |kind: &Value| {
        kind.as_str().is_some_and(|kind| {
            matches!(kind, "object" | "array" | "string" | "number" | "integer" | "boolean" | "null")
        })
    };
    let mut kept = JsonObject::new();
    if let Some(kind) = schema.get("type").filter(|kind| is_type(kind)) {
        kept.insert("type".into(), kind.clone());
    }
    if depth == 0 {
        return kept;
    }
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        let named: Vec<_> = properties.iter().filter(|(name, _)| is_name(name)).take(*room).collect();
        *room -= named.len();
        let mut inner = JsonObject::new();
        for (name, value) in named {
            let value = value.as_object().map_or_else(JsonObject::new, |value| bare(value, depth - 1, room));
            inner.insert(name.clone(), Value::Object(value));
        }
        kept.insert("properties".into(), Value::Object(inner));
    }
    if let Some(required) = schema.get("required").and_then(Value::as_array) {
        let names = required.iter().filter(|name| name.as_str().is_some_and(is_name)).take(ARGUMENTS_MAX);
        kept.insert("required".into(), names.cloned().collect());
    }
    if let Some(items) = schema.get("items").and_then(Value::as_object) {
        kept.insert("items".into(), Value::Object(bare(items, depth - 1, room)));
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn tool(schema: Value) -> Tool {
        Tool::new("search", "Search.", Arc::new(schema.as_object().unwrap().clone()))
    }

    #[test]
    fn another_shape_is_other_arguments_or_other_hints_and_never_other_words() {
        let before =
            json!({"type": "object", "title": "a", "properties": {"q": {"type": "string", "description": "a"}}});
        let reworded = json!({"type": "object", "properties": {"q": {"type": "string", "description": "b"}}});
        assert_eq!(Shape::of(&tool(before.clone())), Shape::of(&tool(reworded)));
        let mut declared = tool(before.clone());
        declared.annotations = Some(rmcp::model::ToolAnnotations::new().read_only(false));
        assert_ne!(Shape::of(&tool(before.clone())), Shape::of(&declared));
        for change in [
            json!({"type": "object", "properties": {"q": {"type": "string"}, "delete": {"type": "boolean"}}}),
            json!({"type": "object", "properties": {"q": {"type": "string", "enum": ["drop"]}}}),
            json!({"type": "object", "properties": {"q": {"type": "string"}, "description": {"type": "string"}}}),
            json!({"type": "object", "required": ["q"], "properties": {"q": {"type": "string"}}}),
        ] {
            assert_ne!(Shape::of(&tool(before.clone())), Shape::of(&tool(change.clone())), "{change}");
        }
    }
}
