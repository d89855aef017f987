//! Findings: facts that code derived from the scene; no model involved.

use serde::{Deserialize, Serialize};

use crate::model::action::Proposal;
use crate::model::evidence::Citation;
use crate::model::object::ObjectRef;
use crate::redact::Redacted;

/// One fact, its place in the causal chain and its evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule that found it: `image-pull`, `oom-killed`, ... (also a metric label and the policy's word).
    pub rule: String,
    pub role: Role,
    pub certainty: Certainty,
    /// The object that is changed or unhealthy.
    pub about: ObjectRef,
    /// One sentence for a person, with names and numbers, that can stand alone.
    pub says: Redacted,
    /// The same in a few words, at most 90 characters, for a headline that has named the subject.
    pub brief: Redacted,
    pub citations: Vec<Citation>,
    /// An action that this fact supports.
    pub proposal: Option<Proposal>,
    /// Advice in words where no action fits.
    pub advice: Option<Redacted>,
    /// What it names that others may name as well and that no subject of theirs is: an image, a host, a missing object.
    /// Equal texts are the same thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<Redacted>,
    /// What does it, where that is not `about`: the quota that refuses its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<ObjectRef>,
    /// The revision that brought it, where it blames one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// It says itself how the container ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ending: bool,
}

impl Finding {
    /// A finding without citations, proposal and advice.
    pub fn new(
        rule: &str,
        role: Role,
        certainty: Certainty,
        about: &ObjectRef,
        says: Redacted,
        brief: Redacted,
    ) -> Self {
        let about = about.clone();
        Self {
            rule: rule.into(),
            role,
            certainty,
            about,
            says,
            brief,
            citations: Vec::new(),
            proposal: None,
            advice: None,
            shared: None,
            through: None,
            revision: None,
            ending: false,
        }
    }
}

/// The cause that explains best: the surest, and of equally sure ones the first, since they stand in the order in which
/// they explain. What the card says and what joins incidents both follow it.
pub fn cause(findings: &[Finding]) -> Option<&Finding> {
    findings
        .iter()
        .filter(|finding| finding.role == Role::Cause)
        .reduce(|best, finding| if finding.certainty > best.certainty { finding } else { best })
}

/// What kind of fault these findings see: the rules of its causes and mechanisms, else of its symptoms. Of two incidents
/// of one kind the story of the older one helps with the newer.
pub fn signature(findings: &[Finding]) -> Option<String> {
    let of = |roles: &[Role]| -> Vec<&str> {
        let mut rules: Vec<&str> =
            findings.iter().filter(|f| roles.contains(&f.role)).map(|f| f.rule.as_str()).collect();
        rules.sort_unstable();
        rules.dedup();
        rules
    };
    let deep = of(&[Role::Cause, Role::Mechanism]);
    let rules = if deep.is_empty() { of(&[Role::Symptom]) } else { deep };
    (!rules.is_empty()).then(|| rules.join("+"))
}

/// The place in the chain symptom <- mechanism <- cause <- change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The change that brought the cause: a revision, an edit.
    Change,
    Cause,
    Mechanism,
    Symptom,
    /// Something that was looked at and is not the cause.
    RuledOut,
    /// True and worth knowing, no link of the chain.
    Context,
}

/// How sure: in the words of the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// `Cause unknown`.
    Unknown,
    /// `Possible cause`.
    Possible,
    /// `Likely cause`.
    Likely,
    /// `Cause`: proved by an object's state.
    Proved,
}
