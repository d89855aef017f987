//! What a caller from outside reaches, where a tool server itself must know: the gate says it beside each of its calls.

use std::collections::BTreeMap;

use rmcp::model::{CallToolRequestParams, RequestMetaObject};
use serde::{Deserialize, Serialize};

use crate::model::IncidentId;

/// Key in a request's `_meta`. The gate makes each request anew: nothing that a caller sends comes so far.
const REACH: &str = "firstlook.dev/reach";

/// What is reached beyond the namespace that the arguments name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reach {
    /// What lives in no namespace.
    pub cluster: bool,
    /// The incidents of before that may be told, each with whether its words may be; None: all, with their words.
    pub past: Option<BTreeMap<IncidentId, bool>>,
}

impl Reach {
    /// All that the scope of an incident leaves: the agent's.
    const OF_AGENT: Self = Self { cluster: true, past: None };

    /// What was said beside a request. Without a word it is the agent's; a word that cannot be read is nothing.
    pub(super) fn of(meta: &RequestMetaObject) -> Self {
        match meta.get(REACH) {
            None => Self::OF_AGENT,
            Some(said) => {
                serde_json::from_value(said.clone()).unwrap_or(Self { cluster: false, past: Some(BTreeMap::new()) })
            }
        }
    }

    /// Whether an incident of before may be told at all, and with its words.
    pub(super) fn tells(&self, incident: &IncidentId) -> Option<bool> {
        self.past.as_ref().map_or(Some(true), |past| past.get(incident).copied())
    }

    /// Says it beside a request.
    pub fn put(&self, request: &mut CallToolRequestParams) {
        let meta = request.meta.get_or_insert_with(RequestMetaObject::new);
        meta.insert(REACH.to_owned(), serde_json::json!(self));
    }
}
