//! The forms in which an object is shown: whole, metadata alone, or an Event through its other API.

use axum::http::{HeaderMap, header};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::sim::cluster::kinds::Kind;
use crate::sim::cluster::table;

/// What the caller's `Accept` header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Whole,
    /// `PartialObjectMetadata` of meta.k8s.io/v1.
    Metadata,
    /// A Table for people, with ages as of this instant.
    Table(Timestamp),
}

impl Shape {
    pub(crate) fn accepted(headers: &HeaderMap, now: Timestamp) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
        let first = accept.split(',').next().unwrap_or("");
        if first.contains("as=PartialObjectMetadata") {
            Self::Metadata
        } else if first.contains("as=Table") {
            Self::Table(now)
        } else {
            Self::Whole
        }
    }

    /// One object as `kind` shows it in this form.
    pub(crate) fn of(self, kind: &Kind, object: &Value) -> Value {
        match self {
            Self::Metadata => json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                                     "metadata": object["metadata"]}),
            Self::Whole => as_kind(kind, object),
            Self::Table(now) => {
                let version = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                table::of(kind, version, &[object], now)
            }
        }
    }

    /// A list in this form. Items of typed lists carry no kind, as from the real server.
    pub(crate) fn list(self, kind: &Kind, metadata: Value, objects: &[&Value]) -> Value {
        let items: Vec<Value> = match self {
            Self::Table(now) => return table::of(kind, metadata, objects, now),
            _ => objects.iter().map(|object| self.of(kind, object)).collect(),
        };
        if self == Self::Metadata {
            return json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                          "metadata": metadata, "items": items});
        }
        let mut items = items;
        for item in items.iter_mut().filter_map(Value::as_object_mut) {
            item.remove("kind");
            item.remove("apiVersion");
        }
        json!({"kind": format!("{}List", kind.kind), "apiVersion": kind.api_version(), "metadata": metadata, "items": items})
    }
}

/// (core v1, events.k8s.io/v1) names of the fields that differ.
const RENAMED: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// The stored object as `kind` shows it.
pub(crate) fn as_kind(kind: &Kind, object: &Value) -> Value {
    if !kind.is_new_event() {
        return object.clone();
    }
    let mut shown = renamed(object, |field| RENAMED.iter().find(|(core, _)| *core == field).map(|(_, new)| *new));
    shown["apiVersion"] = json!(kind.api_version());
    if let Some(fields) = shown.as_object_mut()
        && fields.get("reportingInstance").is_some_and(|instance| instance == "")
    {
        fields.remove("reportingInstance");
    }
    shown
}

/// What was sent as `kind`, as it is stored.
pub(crate) fn as_stored(kind: &Kind, object: &Value) -> Value {
    if !kind.is_new_event() {
        return object.clone();
    }
    let mut stored = renamed(object, |field| RENAMED.iter().find(|(_, new)| *new == field).map(|(core, _)| *core));
    stored["apiVersion"] = json!("v1");
    stored
}

fn renamed(object: &Value, name: impl Fn(&str) -> Option<&'static str>) -> Value {
    let fields = object.as_object().into_iter().flatten();
    let renamed: Map<String, Value> =
        fields.map(|(field, value)| (name(field).unwrap_or(field).to_owned(), value.clone())).collect();
    Value::Object(renamed)
}
