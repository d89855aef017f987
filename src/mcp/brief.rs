//! Schemas as short as they can be told: every client holds all of them for as long as it runs. Pure.

use std::sync::Arc;

use rmcp::model::{JsonObject, Tool};
use serde_json::Value;

/// The tool with its schemas shortened.
pub(super) fn brief(mut tool: Tool) -> Tool {
    tool.input_schema = shorter(&tool.input_schema);
    tool.output_schema = tool.output_schema.as_ref().map(shorter);
    tool
}

fn shorter(schema: &Arc<JsonObject>) -> Arc<JsonObject> {
    let mut schema = (**schema).clone();
    shorten(&mut schema);
    Arc::new(schema)
}

/// Leaves out titles, formats, that an optional field may be null (which its absence says as well), and that others are
/// refused (which a server says when it is asked).
fn shorten(schema: &mut JsonObject) {
    for key in ["$schema", "title", "format", "additionalProperties"] {
        schema.remove(key);
    }
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    for (key, value) in schema.iter_mut() {
        match value {
            // The keys below are names of fields, whatever they are called.
            Value::Object(fields) if matches!(key.as_str(), "properties" | "$defs") => {
                fields.values_mut().filter_map(Value::as_object_mut).for_each(shorten);
            }
            Value::Object(inner) => shorten(inner),
            Value::Array(all) => all.iter_mut().filter_map(Value::as_object_mut).for_each(shorten),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_schema_says_the_same_in_fewer_words() {
        let long = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "OneLog", "type": "object", "additionalProperties": false,
            "properties": {"title": {"type": "string"}, "tail_lines": {"description": "All", "type": ["integer", "null"], "format": "uint32", "minimum": 1}},
            "required": ["title"],
        });
        let mut schema = long.as_object().unwrap().clone();
        shorten(&mut schema);
        let short = json!({
            "type": "object",
            "properties": {"title": {"type": "string"}, "tail_lines": {"description": "All", "type": "integer", "minimum": 1}}, "required": ["title"],
        });
        assert_eq!(Value::Object(schema), short);
    }
}
