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
    /// Quotes taken out, with the claims that stood on them: not found in the evidence, or not borne out by it.
    pub struck: u32,
    /// What the model's second look at it came to.
    #[serde(default)]
    pub review: Review,
    /// The subject that its incident had when it was written; None in those of before this was kept.
    #[serde(default)]
    pub about: Option<ObjectRef>,
}

impl Report {
    /// Whether it is about this one: an incident may have become another's since.
    pub fn is_about(&self, subject: &ObjectRef) -> bool {
        self.about.as_ref().is_none_or(|about| about == subject)
    }
}

/// A report is looked at once more by the model that wrote it, before anybody sees it. It may only lose by that.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Review {
    /// It claims nothing that could be wrong, or rules wrote it.
    #[default]
    NotNeeded,
    /// What speaks against the cause, in the model's words; empty where nothing does.
    Done { against: Redacted },
    /// No answer, for this reason: it is believed less.
    Failed { why: Redacted },
}

/// Who wrote a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    Findings,
    Model,
}
