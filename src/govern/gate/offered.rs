//! A tool as callers from outside are offered it: the same in fewer words, for every model pays for each of them.

use std::sync::Arc;

use rmcp::model::Tool;
use serde_json::{Map, Value, json};

use crate::mcp;
use crate::model::Tier;

/// What says nothing that MCP does not say already (2020-12 is its dialect), or that a refusal says in words (an unknown
/// argument, a number out of range).
const UNSAID: [&str; 4] = ["$schema", "format", "title", "additionalProperties"];

/// The tool, with its schemas and annotations in short. One that changes something answers how far the request for leave
/// is.
pub(super) fn offered(mut tool: Tool) -> Tool {
    let reads = mcp::tool(&tool.name).is_some_and(|(_, tier)| tier == Tier::ReadOnly);
    if !reads {
        let schema = json!({"type": "object", "required": ["status"]});
        tool.output_schema = schema.as_object().cloned().map(Arc::new);
    }
    tool.input_schema = Arc::new(short(&tool.input_schema));
    // What is always there is promised; the fields beside it are told in the answers themselves.
    tool.output_schema = tool.output_schema.map(|schema| {
        let promised = schema.iter().filter(|(key, _)| matches!(key.as_str(), "type" | "required"));
        Arc::new(promised.map(|(key, value)| (key.clone(), value.clone())).collect())
    });
    if let Some(hints) = &mut tool.annotations
        && reads
    {
        // Of a tool that only reads the two others mean nothing (MCP: "only when readOnlyHint is false"). What is read
        // may hold words from anywhere, which is what MCP takes a tool for that does not say.
        (hints.destructive_hint, hints.idempotent_hint, hints.open_world_hint) = (None, None, None);
    }
    tool
}

/// A schema in short. `null` for a missing argument is taken as before, but not offered.
fn short(schema: &Map<String, Value>) -> Map<String, Value> {
    let mut kept = Map::new();
    for (key, value) in schema {
        let is_zero = key == "minimum" && value.as_f64() == Some(0.0);
        if is_zero || UNSAID.contains(&key.as_str()) && !value.is_object() {
            continue;
        }
        let value = match value {
            Value::Object(inner) => Value::Object(short(inner)),
            Value::Array(types) if key == "type" => {
                let real: Vec<&Value> = types.iter().filter(|name| *name != "null").collect();
                if let [one] = real[..] { one.clone() } else { value.clone() }
            }
            Value::Array(all) => Value::Array(all.iter().map(short_value).collect()),
            other => other.clone(),
        };
        kept.insert(key.clone(), value);
    }
    kept
}

fn short_value(value: &Value) -> Value {
    value.as_object().map_or_else(|| value.clone(), |inner| Value::Object(short(inner)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_schema_says_the_same() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
            "properties": {"title": {"type": "string"}, "n": {"type": ["integer", "null"], "format": "uint32", "minimum": 0}},
            "required": ["title"], "additionalProperties": false,
        });
        let expected = json!({
            "type": "object", "properties": {"title": {"type": "string"}, "n": {"type": "integer"}},
            "required": ["title"],
        });
        assert_eq!(Value::Object(short(schema.as_object().unwrap())), expected);
    }
}
