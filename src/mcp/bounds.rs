//! Whether arguments keep to the types and bounds that their tool's own schema tells: one check for every tool. Pure.

use rmcp::model::JsonObject;
use serde_json::Value;

use crate::redact::{Redacted, Redactor};
use crate::text;

/// The first argument that does not, by its name, with what it may be. Which kinds a tool takes it says itself: it knows
/// why not the others.
///
/// # Errors
/// When there is one.
pub fn within(schema: &JsonObject, arguments: &JsonObject) -> Result<(), Redacted> {
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, of) in properties.into_iter().flatten() {
        let given = arguments.get(name).filter(|value| !value.is_null());
        if let Some(what) = given.and_then(|value| misfit(of, value)) {
            return Err(text!("{}: {}", Redactor::default().redact(name), what));
        }
    }
    Ok(())
}

fn misfit(of: &Value, value: &Value) -> Option<Redacted> {
    let bound = |key: &str| of.get(key).and_then(Value::as_i64);
    match kind(of)? {
        "string" => {
            let Some(text) = value.as_str() else { return Some("a text is expected".into()) };
            let max = bound("maxLength")?;
            (text.chars().count() as i64 > max).then(|| text!("at most {} characters", max))
        }
        "integer" => {
            let (min, max) = (bound("minimum"), bound("maximum"));
            let within = |number: i64| min.is_none_or(|min| number >= min) && max.is_none_or(|max| number <= max);
            let fits = value.as_i64().is_some_and(within);
            (!fits).then(|| match (min, max) {
                (Some(min), Some(max)) => text!("a whole number from {} to {}", min, max),
                (Some(min), None) => text!("a whole number from {}", min),
                _ => "a whole number that fits".into(),
            })
        }
        "boolean" => (!value.is_boolean()).then(|| "true or false is expected".into()),
        _ => None,
    }
}

/// The type, whether or not its absence may be told as null.
fn kind(of: &Value) -> Option<&str> {
    match of.get("type")? {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null"),
        kind => kind.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_out_of_bounds_is_told_by_its_name() {
        let schema = json!({"properties": {
            "hours": {"type": "integer", "minimum": 1, "maximum": 4}, "query": {"type": "string", "maxLength": 3},
            "lines": {"type": ["integer", "null"], "minimum": 1, "maximum": 9}, "regex": {"type": "boolean"}}});
        let asked = |arguments: Value| within(schema.as_object().unwrap(), arguments.as_object().unwrap());
        for fits in [json!({}), json!({"hours": 4, "query": "äöü", "lines": null, "regex": true, "other": 1})] {
            assert_eq!(asked(fits), Ok(()));
        }
        for (arguments, says) in [
            (json!({"hours": 5}), "hours: a whole number from 1 to 4"),
            (json!({"hours": -1}), "hours: a whole number from 1 to 4"),
            (json!({"hours": 1.5}), "hours: a whole number from 1 to 4"),
            (json!({"hours": u64::MAX}), "hours: a whole number from 1 to 4"),
            (json!({"lines": 0}), "lines: a whole number from 1 to 9"),
            (json!({"query": "four"}), "query: at most 3 characters"),
            (json!({"query": 3}), "query: a text is expected"),
            (json!({"regex": "yes"}), "regex: true or false is expected"),
        ] {
            assert_eq!(asked(arguments).unwrap_err().as_str(), says);
        }
    }
}
