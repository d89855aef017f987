//! What tames an account that may write: its admission policy and the binding, as a cluster holds them. Pure.

use serde_json::Value;

use crate::observe::json;

/// What decides about a request, by the names that the API gives it. What a refusal says, and what is written to the API
/// server's audit, changes nothing for the request.
const DECIDING: [&str; 6] =
    ["failurePolicy", "paramKind", "matchConstraints", "matchConditions", "variables", "validations"];

/// One account's guard; each part is None where the cluster has none.
#[derive(Clone, Debug)]
pub struct Guard {
    pub name: String,
    pub policy: Option<Value>,
    pub binding: Option<Value>,
}

impl Guard {
    /// Why it does not stand before every request of its account, whatever its policy says; None when it does.
    pub fn loose(&self) -> Option<String> {
        if self.policy.is_none() {
            return Some("is missing".to_owned());
        }
        let Some(binding) = &self.binding else { return Some("is not bound".to_owned()) };
        if json::text(binding, "/spec/policyName") != self.name {
            return Some("is not bound: the binding of its name binds another policy".to_owned());
        }
        let actions = json::list(binding, "/spec/validationActions");
        if !actions.iter().any(|action| action == "Deny") {
            let actions: Vec<&str> = actions.iter().filter_map(Value::as_str).collect();
            return Some(format!("is bound with {}, not with Deny: it refuses nothing", actions.join(" and ")));
        }
        let within = binding.pointer("/spec/matchResources").map(decided).unwrap_or_default();
        (!is_empty(&within)).then(|| "is bound for some objects only (matchResources)".to_owned())
    }

    /// The parts of its policy that decide other than those of `wanted` do.
    pub fn differing(&self, wanted: &Value) -> Vec<&'static str> {
        let part = |policy: &Value, part: &str| decided(&policy["spec"][part]);
        let policy = self.policy.as_ref().unwrap_or(&Value::Null);
        DECIDING.into_iter().filter(|name| part(policy, name) != part(wanted, name)).collect()
    }
}

/// A part without what the API server fills in, and without what is only said.
fn decided(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let filled = |key: &str, value: &Value| match key {
                "message" | "messageExpression" | "reason" => true,
                "scope" => value == "*",
                "matchPolicy" => value == "Equivalent",
                _ => is_empty(value),
            };
            let kept = fields.iter().map(|(key, value)| (key, decided(value)));
            kept.filter(|(key, value)| !filled(key, value)).map(|(key, value)| (key.clone(), value)).collect()
        }
        Value::Array(items) => items.iter().map(decided).collect(),
        other => other.clone(),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}
