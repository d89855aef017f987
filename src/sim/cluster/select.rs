//! Label and field selectors of lists and watches.

use serde_json::Value;

use crate::sim::cluster::failure::{Failure, Outcome};
use crate::sim::cluster::kinds::Kind;

/// What a list or watch is narrowed to; empty lets everything through.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    labels: Vec<Label>,
    /// (path, wanted value, equal or not)
    fields: Vec<(String, String, bool)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Label {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Has(String),
    HasNot(String),
}

impl Selector {
    /// Reads the query parameters `labelSelector` and `fieldSelector`; a field that `kind` cannot be selected by is refused.
    pub(crate) fn parse(kind: &Kind, labels: Option<&str>, fields: Option<&str>) -> Outcome<Self> {
        let labels = parse_labels(labels.unwrap_or("")).ok_or_else(|| {
            Failure::bad_request(format!(
                "unable to parse requirement: {:?} is no label selector",
                labels.unwrap_or("")
            ))
        })?;
        let asked = fields.unwrap_or("");
        let mut parsed = Vec::new();
        for term in asked.split(',').map(str::trim).filter(|t| !t.is_empty()) {
            let (path, value, equal) = term
                .split_once("!=")
                .map(|(k, v)| (k, v, false))
                .or_else(|| term.split_once("==").map(|(k, v)| (k, v, true)))
                .or_else(|| term.split_once('=').map(|(k, v)| (k, v, true)))
                .ok_or_else(|| {
                    Failure::bad_request(format!("invalid selector: '{asked}'; can't understand '{term}'"))
                })?;
            if !selectable(kind, path) {
                let said = format!(
                    "Unable to find {:?} that match label selector \"\", field selector {asked:?}: field label not supported: {path}",
                    format!("{}, Resource={}", kind.api_version(), kind.plural)
                );
                return Err(Failure::bad_request(said));
            }
            parsed.push((path.to_owned(), value.to_owned(), equal));
        }
        Ok(Self { labels, fields: parsed })
    }

    /// Whether `object`, in the form in which `kind` shows it, is meant.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.labels.iter().all(|l| l.matches(&object["metadata"]["labels"]))
            && self.fields.iter().all(|(path, wanted, equal)| (field(object, path) == *wanted) == *equal)
    }
}

impl Label {
    fn matches(&self, labels: &Value) -> bool {
        match self {
            Self::In(key, values) => labels[key].as_str().is_some_and(|v| values.iter().any(|w| w == v)),
            Self::NotIn(key, values) => !labels[key].as_str().is_some_and(|v| values.iter().any(|w| w == v)),
            Self::Has(key) => labels[key].is_string(),
            Self::HasNot(key) => !labels[key].is_string(),
        }
    }
}

/// Whether an object with these labels is chosen by a `spec.selector` of a workload (`matchLabels`, `matchExpressions`).
pub(crate) fn chosen(selector: &Value, labels: &Value) -> bool {
    let equal = selector["matchLabels"].as_object().is_none_or(|m| m.iter().all(|(k, v)| labels[k] == *v));
    let expressions = selector["matchExpressions"].as_array().is_none_or(|all| {
        all.iter().all(|e| {
            let key = e["key"].as_str().unwrap_or_default().to_owned();
            let values = e["values"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
            match e["operator"].as_str() {
                Some("In") => Label::In(key, values.collect()).matches(labels),
                Some("NotIn") => Label::NotIn(key, values.collect()).matches(labels),
                Some("Exists") => Label::Has(key).matches(labels),
                Some("DoesNotExist") => Label::HasNot(key).matches(labels),
                _ => false,
            }
        })
    });
    selector.is_object() && equal && expressions
}

fn parse_labels(text: &str) -> Option<Vec<Label>> {
    let mut found = Vec::new();
    for term in split_outside_parentheses(text) {
        let term = term.trim();
        let set = |word: &str| -> Option<(String, Vec<String>)> {
            let (key, rest) = term.split_once(word)?;
            let inner = rest.trim().strip_prefix('(')?.strip_suffix(')')?;
            Some((key.trim().to_owned(), inner.split(',').map(|v| v.trim().to_owned()).collect()))
        };
        found.push(if term.is_empty() {
            continue;
        } else if let Some((key, values)) = set(" notin ") {
            Label::NotIn(key, values)
        } else if let Some((key, values)) = set(" in ") {
            Label::In(key, values)
        } else if let Some((key, value)) = term.split_once("!=") {
            Label::NotIn(key.trim().to_owned(), vec![value.trim().to_owned()])
        } else if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
            Label::In(key.trim().to_owned(), vec![value.trim().to_owned()])
        } else if let Some(key) = term.strip_prefix('!') {
            Label::HasNot(key.trim().to_owned())
        } else if term.contains([' ', '(', ')']) {
            return None;
        } else {
            Label::Has(term.to_owned())
        });
    }
    Some(found)
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0usize, 0usize, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Fields by which the real server selects, from the conversion functions of each API group.
fn selectable(kind: &Kind, path: &str) -> bool {
    let own: &[&str] = match kind.kind.as_ref() {
        "Pod" => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        "Event" if kind.is_new_event() => &["reason", "reportingController", "type"],
        "Event" => &["reason", "reportingComponent", "source", "type"],
        "Node" => &["spec.unschedulable"],
        "Namespace" => &["status.phase"],
        "Job" => &["status.successful"],
        "ReplicaSet" => &["status.replicas"],
        "Service" => &["spec.clusterIP", "spec.type"],
        _ => &[],
    };
    let object = match kind.kind.as_ref() {
        "Event" if kind.is_new_event() => path.strip_prefix("regarding."),
        "Event" => path.strip_prefix("involvedObject."),
        _ => None,
    };
    let of_object = ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"];
    matches!(path, "metadata.name" | "metadata.namespace")
        || own.contains(&path)
        || object.is_some_and(|field| of_object.contains(&field))
}

fn field(object: &Value, path: &str) -> String {
    let found = path.split('.').fold(object, |at, step| &at[step]);
    match found {
        Value::String(text) => text.clone(),
        Value::Null if matches!(path, "spec.unschedulable" | "spec.hostNetwork") => "false".to_owned(),
        Value::Object(map) => map.get("component").and_then(Value::as_str).unwrap_or_default().to_owned(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sim::cluster::kinds::Kinds;

    fn pods() -> Kind {
        Kinds::new().by_kind("Pod").unwrap().clone()
    }

    #[test]
    fn label_selectors_know_every_operator() {
        let pod = json!({"metadata": {"labels": {"app": "web", "tier": "front"}}});
        let hit = |text: &str| Selector::parse(&pods(), Some(text), None).unwrap().matches(&pod);
        for text in [
            "app=web",
            "app==web",
            "app!=db",
            "app in (db, web)",
            "app notin (db)",
            "tier,!gone",
            "app=web,tier in (front)",
        ] {
            assert!(hit(text), "{text}");
        }
        for text in ["app=db", "app!=web", "app in (db)", "app notin (web)", "!tier", "gone", "app=web,gone"] {
            assert!(!hit(text), "{text}");
        }
    }

    #[test]
    fn a_field_that_the_kind_has_no_index_for_is_refused() {
        let refused = Selector::parse(&pods(), None, Some("spec.colour=red")).unwrap_err();
        assert!(refused.message.ends_with("field label not supported: spec.colour"), "{}", refused.message);
        let pod = json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n1"}, "status": {"phase": "Running"}});
        let chosen = Selector::parse(&pods(), None, Some("spec.nodeName=n1,status.phase!=Failed")).unwrap();
        assert!(chosen.matches(&pod));
    }
}
