//! The report: an answer as data, from the model or from the findings alone.

use serde::{Deserialize, Serialize};

use crate::model::action::Proposal;
use crate::model::evidence::Citation;
use crate::model::finding::Certainty;
use crate::model::object::ObjectRef;
use crate::redact::Redacted;

/// What is believed about an incident. Every citation in it has been proved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub origin: Origin,
    /// What is broken and why, one sentence of at most 150 characters, without severity.
    pub headline: Redacted,
    /// The cause in one or two sentences; empty when unknown.
    pub cause: Redacted,
    pub certainty: Certainty,
    pub culprit: Option<ObjectRef>,
    /// Strongest first.
    pub citations: Vec<Citation>,
    pub ruled_out: Vec<Redacted>,
    /// The next step in words, where no action fits or beside it.
    pub advice: Option<Redacted>,
    pub proposals: Vec<Proposal>,
    /// At most five lines, for the thread.
    pub reasoning: Vec<Redacted>,
    /// Claims taken out because their quote was not found in the evidence.
    pub struck: u32,
}

/// Who wrote a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    Findings,
    Model,
}
