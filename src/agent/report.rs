//! The model's report: read tolerantly, and every quote proved before anything of it is posted. Pure.

use serde_json::{Map, Value, json};

use crate::model::{
    Certainty, Citation, Evidence, EvidenceId, Finding, Kind, ObjectRef, Origin, Proposal, Report, Role, Source,
};
use crate::redact::{Redacted, Redactor};

/// Bounds of the texts, in characters: what the card has room for.
const HEADLINE_MAX_CHARS: usize = 150;
const CAUSE_MAX_CHARS: usize = 550;
const LINE_MAX_CHARS: usize = 200;
const QUOTE_MAX_CHARS: usize = 300;
/// Items of each list: more is not read at night.
const LIST_MAX: usize = 8;

/// The tool's definition, as offered to the model.
pub fn definition() -> Value {
    let text = |about: &str| json!({"type": "string", "description": about});
    json!({"type": "function", "function": {
        "name": "submit_report",
        "description": "End the investigation with your report.",
        "parameters": {"type": "object", "required": ["headline", "certainty", "citations"], "properties": {
            "headline": text("One sentence: what is broken and why, at most 150 characters, no severity"),
            "cause": text("The cause in one or two sentences; empty if unknown"),
            "certainty": {"type": "string", "enum": ["proved", "likely", "possible", "unknown"]},
            "culprit": {"type": "object", "description": "The object at fault", "properties": {
                "kind": {"type": "string"}, "namespace": {"type": "string"}, "name": {"type": "string"}}},
            "citations": {"type": "array", "description": "Strongest first", "items": {
                "type": "object", "required": ["evidence", "quote"], "properties": {
                    "evidence": text("Evidence id such as e3"),
                    "quote": text("Word for word, 12 characters or more")}}},
            "ruled_out": {"type": "array", "items": {"type": "string"}},
            "next_step": text("What a person should do, if no proposal fits"),
            "proposals": {"type": "array", "items": {
                "type": "object", "required": ["tool", "kind", "namespace", "name"], "properties": {
                    "tool": {"type": "string", "enum": ["rollout_undo", "rollout_restart"]},
                    "kind": {"type": "string"}, "namespace": {"type": "string"}, "name": {"type": "string"},
                    "to_revision": {"type": "integer"}}}},
            "reasoning": {"type": "array", "description": "At most five lines", "items": {"type": "string"}}}}}})
}

/// The model's report with only what is proved: quotes that no verbatim segment holds are struck, high certainty
/// without an object's state, an event or an agreeing finding is lowered. None if no quote is left to stand on.
pub fn prove(
    arguments: &Map<String, Value>,
    evidence: &[Evidence],
    findings: &[Finding],
    redactor: &Redactor,
) -> Result<Report, Unproved> {
    let text = |key: &str, max: usize| {
        let raw = arguments.get(key).and_then(Value::as_str).unwrap_or_default();
        redactor.redact(raw).one_line().cut(max)
    };
    let lines = |key: &str| -> Vec<Redacted> {
        let items = arguments.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let items = items.iter().filter_map(Value::as_str).take(LIST_MAX);
        items.map(|line| redactor.redact(line).one_line().cut(LINE_MAX_CHARS)).filter(|l| !l.is_empty()).collect()
    };
    let (citations, struck) = citations(arguments, evidence, redactor);
    let headline = text("headline", HEADLINE_MAX_CHARS);
    let claimed = arguments.get("certainty").and_then(Value::as_str).map_or(Certainty::Possible, certainty);
    if headline.is_empty() {
        return Err(Unproved { struck, says: "the headline is missing." });
    }
    if citations.is_empty() && claimed != Certainty::Unknown {
        return Err(Unproved { struck, says: "none of its quotes stands in the evidence named." });
    }
    let culprit = arguments.get("culprit").and_then(object);
    let certainty = claimed.min(ceiling(&citations, culprit.as_ref(), findings));
    Ok(Report {
        origin: Origin::Model,
        headline,
        cause: if certainty == Certainty::Unknown { Redacted::default() } else { text("cause", CAUSE_MAX_CHARS) },
        certainty,
        culprit,
        citations,
        ruled_out: lines("ruled_out"),
        advice: Some(text("next_step", CAUSE_MAX_CHARS)).filter(|advice| !advice.is_empty()),
        proposals: proposals(arguments),
        reasoning: lines("reasoning").into_iter().take(5).collect(),
        struck,
    })
}

/// A report that stands on nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unproved {
    pub struck: u32,
    /// For the model, as a sentence.
    pub says: &'static str,
}

fn citations(arguments: &Map<String, Value>, evidence: &[Evidence], redactor: &Redactor) -> (Vec<Citation>, u32) {
    let mut proved = Vec::new();
    let mut struck = 0;
    let items = arguments.get("citations").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for item in items.iter().take(LIST_MAX) {
        let quote = redactor.redact(item["quote"].as_str().unwrap_or_default()).one_line();
        let id: Option<EvidenceId> = item["evidence"].as_str().and_then(|id| id.parse().ok());
        let found =
            id.and_then(|id| evidence.iter().find(|e| e.id == id)).and_then(|e| Some((e.id, e.prove(quote.as_str())?)));
        match found {
            Some((id, (segment, text))) if quote.as_str().chars().count() <= QUOTE_MAX_CHARS => {
                let source = Some(text.source.clone());
                proved.push(Citation { evidence: id, segment: Some(segment), quote, source });
            }
            _ => struck += 1,
        }
    }
    (proved, struck)
}

/// A quote proves that something was said, not that it is the cause: more than `likely` needs an object's state or an
/// event; more than `possible` needs one of these, or a finding that names the same culprit.
fn ceiling(citations: &[Citation], culprit: Option<&ObjectRef>, findings: &[Finding]) -> Certainty {
    let state = citations.iter().any(|citation| {
        matches!(citation.source, Some(Source::Object { .. } | Source::Event { .. } | Source::Rollout { .. }))
    });
    let agrees = findings.iter().any(|finding| {
        let links = matches!(finding.role, Role::Change | Role::Cause | Role::Mechanism);
        links && culprit == Some(&finding.about)
    });
    match (state, agrees) {
        (true, true) => Certainty::Proved,
        (true, false) | (false, true) => Certainty::Likely,
        (false, false) => Certainty::Possible,
    }
}

fn certainty(word: &str) -> Certainty {
    match word {
        "proved" => Certainty::Proved,
        "likely" => Certainty::Likely,
        "unknown" => Certainty::Unknown,
        _ => Certainty::Possible,
    }
}

fn object(value: &Value) -> Option<ObjectRef> {
    let kind: Kind = value["kind"].as_str()?.parse().ok()?;
    ObjectRef::new(kind, value["namespace"].as_str().filter(|n| !n.is_empty()), value["name"].as_str()?)
}

/// Proposals with exact names; anything else is dropped, since a button needs one object.
fn proposals(arguments: &Map<String, Value>) -> Vec<Proposal> {
    let items = arguments.get("proposals").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let read = |item: &Value| {
        let object = object(item)?;
        match item["tool"].as_str()? {
            "rollout_undo" => Some(Proposal::RolloutUndo { object, to_revision: item["to_revision"].as_i64() }),
            "rollout_restart" => Some(Proposal::RolloutRestart { object }),
            _ => None,
        }
    };
    // Two: a card with more buttons is a question, not an answer.
    items.iter().filter_map(read).take(2).collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::{Name, Reading, Segment};

    fn evidence() -> Vec<Evidence> {
        let object = ObjectRef::new(Kind::Pod, Some("shop"), "checkout-x").unwrap();
        let log = Source::Log {
            namespace: Name::parse("shop").unwrap(),
            pod: Name::parse("checkout-x").unwrap(),
            container: Name::parse("api").unwrap(),
            previous: false,
        };
        let one = |id, source, text: &'static str| Evidence {
            id: EvidenceId(id),
            tool: "x".into(),
            asked: "".into(),
            read_at: Timestamp::UNIX_EPOCH,
            reading: Reading::Segments(vec![Segment { source, text: text.into(), verbatim: true }]),
        };
        vec![
            one(1, Source::Object { object }, r#"{"reason": "CrashLoopBackOff"}"#),
            one(2, log, "FATAL: too many connections for role"),
        ]
    }

    fn arguments(citations: Value) -> Map<String, Value> {
        let all = json!({"headline": "checkout crashes", "cause": "the role's limit", "certainty": "proved",
            "culprit": {"kind": "Deployment", "namespace": "shop", "name": "checkout"}, "citations": citations,
            "proposals": [{"tool": "delete_pod", "kind": "Pod", "namespace": "shop", "name": "x"},
                          {"tool": "rollout_undo", "kind": "deployment", "namespace": "shop", "name": "checkout"}]});
        all.as_object().unwrap().clone()
    }

    #[test]
    fn a_false_quote_is_struck_and_a_report_that_stands_on_nothing_is_refused() {
        let cited = json!([{"evidence": "e2", "quote": "FATAL: too many connections"}, {"evidence": "e2", "quote": "disk is full today"},
                           {"evidence": "e9", "quote": "FATAL: too many connections"}]);
        let report = prove(&arguments(cited), &evidence(), &[], &Redactor::default()).unwrap();
        assert_eq!((report.citations.len(), report.struck), (1, 2));
        assert_eq!(report.certainty, Certainty::Possible, "a log line alone proves that it was said");
        assert_eq!(report.proposals.len(), 1, "only known tools");
        let none = prove(
            &arguments(json!([{"evidence": "e1", "quote": "never said anywhere"}])),
            &evidence(),
            &[],
            &Redactor::default(),
        );
        assert_eq!(none.unwrap_err().struck, 1);
    }

    #[test]
    fn certainty_rises_only_with_state_and_an_agreeing_finding() {
        let cited = json!([{"evidence": "e1", "quote": "CrashLoopBackOff"}]);
        let finding = Finding {
            rule: "r".into(),
            role: Role::Cause,
            certainty: Certainty::Proved,
            about: ObjectRef::new(Kind::Deployment, Some("shop"), "checkout").unwrap(),
            says: "".into(),
            brief: "".into(),
            citations: Vec::new(),
            proposal: None,
            advice: None,
        };
        let alone = prove(&arguments(cited.clone()), &evidence(), &[], &Redactor::default()).unwrap();
        let agreed = prove(&arguments(cited), &evidence(), &[finding], &Redactor::default()).unwrap();
        assert_eq!((alone.certainty, agreed.certainty), (Certainty::Likely, Certainty::Proved));
    }
}
