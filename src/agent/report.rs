//! The model's report: read tolerantly, and every quote proved before anything of it is posted. Pure.

use serde_json::{Map, Value, json};

use crate::agent::claims;
use crate::agent::claims::Struck;
use crate::govern::off::Off;
use crate::model::{
    Certainty, Citation, Evidence, EvidenceId, Finding, Kind, ObjectRef, Origin, Proposal, Report, Review, Role, Source,
};
use crate::redact::{Redacted, Redactor};

/// Bounds of the texts, in characters: what the card has room for.
const HEADLINE_MAX_CHARS: usize = 150;
const CAUSE_MAX_CHARS: usize = 550;
const LINE_MAX_CHARS: usize = 200;
const QUOTE_MAX_CHARS: usize = 300;
/// Items of each list: more is not read at night.
const LIST_MAX: usize = 8;

/// Actions that a report may propose: a model keeps nobody from being notified.
const ACTIONS: [&str; 13] = [
    "rollout_undo",
    "rollout_restart",
    "scale",
    "pause_rollout",
    "resume_rollout",
    "set_resources",
    "suspend_cronjob",
    "resume_cronjob",
    "rerun_job",
    "cordon",
    "uncordon",
    "delete_pod",
    "drain",
];

/// The tool's definition, as offered to the model, without the actions that are off.
pub fn definition(off: &Off) -> Value {
    let mut definition = whole(off);
    let properties = &mut definition["function"]["parameters"]["properties"];
    // A choice of nothing is no schema that every provider takes.
    if properties["proposals"]["items"]["properties"]["tool"]["enum"].as_array().is_some_and(Vec::is_empty)
        && let Some(properties) = properties.as_object_mut()
    {
        properties.remove("proposals");
    }
    definition
}

fn whole(off: &Off) -> Value {
    let actions: Vec<&str> = ACTIONS.into_iter().filter(|action| !off.has(action)).collect();
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
                    "tool": {"type": "string", "enum": actions},
                    "kind": {"type": "string"}, "namespace": {"type": "string"}, "name": {"type": "string"},
                    "to_revision": {"type": "integer"}, "replicas": {"type": "integer"},
                    "container": {"type": "string"}, "memory_limit": {"type": "string"},
                    "memory_request": {"type": "string"}, "cpu_limit": {"type": "string"},
                    "cpu_request": {"type": "string"}}}},
            "reasoning": {"type": "array", "description": "At most five lines", "items": {"type": "string"}}}}}})
}

/// The model's report with only what is proved: quotes that no verbatim segment holds are struck, and the claims that
/// stood on them; high certainty without an object's state, an event or an agreeing finding is lowered.
///
/// # Errors
/// When nothing is left to stand on.
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
    let unproved = |says: &'static str| Unproved { struck: struck.len() as u32, says };
    let report = Report {
        origin: Origin::Model,
        headline: text("headline", HEADLINE_MAX_CHARS),
        cause: text("cause", CAUSE_MAX_CHARS),
        certainty: arguments.get("certainty").and_then(Value::as_str).map_or(Certainty::Possible, certainty),
        culprit: arguments.get("culprit").and_then(object),
        citations,
        ruled_out: lines("ruled_out"),
        advice: Some(text("next_step", CAUSE_MAX_CHARS)).filter(|advice| !advice.is_empty()),
        proposals: proposals(arguments),
        reasoning: lines("reasoning").into_iter().take(5).collect(),
        struck: 0,
        review: Review::NotNeeded,
        about: None,
    };
    if report.headline.is_empty() {
        return Err(unproved("the headline is missing."));
    }
    if report.citations.is_empty() && report.certainty != Certainty::Unknown {
        return Err(unproved("none of its quotes stands in the evidence named."));
    }
    settle(report, &struck, findings).ok_or(unproved("its claims stand on quotes that are not in the evidence named."))
}

/// The report without what stood on `struck` quotes, and no surer than what is left allows; None when its cause, its
/// headline or all of its proof went with them.
pub(super) fn settle(mut report: Report, struck: &[Redacted], findings: &[Finding]) -> Option<Report> {
    report.struck += struck.len() as u32;
    if !struck.is_empty() {
        let proved = report.citations.iter().map(|citation| &citation.quote);
        let gone = Struck::new(struck, proved.chain(findings.iter().map(|finding| &finding.says)));
        let cause = gone.without(&report.cause);
        if cause.is_empty() && !report.cause.is_empty() {
            return None;
        }
        report.cause = cause;
        report.ruled_out.retain(|claim| !gone.carries(claim.as_str()));
        report.reasoning.retain(|claim| !gone.carries(claim.as_str()));
        report.advice = report.advice.filter(|advice| !gone.carries(advice.as_str()));
        if gone.carries(report.headline.as_str()) {
            report.headline = headline_of(&report.cause)?;
        }
        // Who quotes what is not there is believed less in the rest, too.
        report.certainty = report.certainty.min(Certainty::Likely);
    }
    if report.citations.is_empty() && report.certainty != Certainty::Unknown {
        return None;
    }
    report.certainty = report.certainty.min(ceiling(&report.citations, report.culprit.as_ref(), findings));
    if report.certainty == Certainty::Unknown {
        // What nobody knows the cause of is not mended by a guess.
        report.cause = Redacted::default();
        report.proposals.clear();
    }
    Some(report)
}

/// The cause's first sentence, where the headline fell and the cause stands.
pub(super) fn headline_of(cause: &Redacted) -> Option<Redacted> {
    let first = claims::sentences(cause.as_str()).next()?;
    Some(cause.part(first)?.cut(HEADLINE_MAX_CHARS))
}

/// A report that stands on nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unproved {
    pub struck: u32,
    /// For the model, as a sentence.
    pub says: &'static str,
}

/// The quotes that stand where they are said to, and those that do not.
fn citations(
    arguments: &Map<String, Value>,
    evidence: &[Evidence],
    redactor: &Redactor,
) -> (Vec<Citation>, Vec<Redacted>) {
    let mut proved = Vec::new();
    let mut struck = Vec::new();
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
            _ => struck.push(quote),
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

pub(super) fn certainty(word: &str) -> Certainty {
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
    let read = |item: &Value| Proposal::of(item["tool"].as_str()?, item.as_object()?).ok();
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
            "proposals": [{"tool": "delete_namespace", "kind": "Pod", "namespace": "shop", "name": "x"},
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
    fn what_is_claimed_on_a_false_quote_goes_with_it() {
        let claimed = |cause: &str| {
            let cited = json!([{"evidence": "e2", "quote": "FATAL: too many connections"},
                               {"evidence": "e2", "quote": "volume db-data is full"}]);
            let mut all = arguments(cited);
            all.insert("cause".into(), json!(cause));
            all.insert("ruled_out".into(), json!(["the volume db-data-0", "the volume db-data", "the network"]));
            prove(&all, &evidence(), &[], &Redactor::default())
        };
        let report = claimed("The role allows too few connections. The volume db-data fills up.").unwrap();
        assert_eq!(report.cause.as_str(), "The role allows too few connections.");
        assert_eq!(report.ruled_out.len(), 2, "{:?}", report.ruled_out);
        let fallen = claimed("The volume db-data is full.").unwrap_err();
        assert_eq!((fallen.struck, fallen.says.contains("not in the evidence")), (1, true));
    }

    #[test]
    fn an_unknown_cause_brings_no_button() {
        let mut all = arguments(json!([{"evidence": "e1", "quote": "CrashLoopBackOff"}]));
        all.insert("certainty".into(), json!("unknown"));
        let report = prove(&all, &evidence(), &[], &Redactor::default()).unwrap();
        assert!(report.cause.is_empty() && report.proposals.is_empty());
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
            shared: None,
            through: None,
            revision: None,
            ending: false,
        };
        let alone = prove(&arguments(cited.clone()), &evidence(), &[], &Redactor::default()).unwrap();
        let agreed = prove(&arguments(cited), &evidence(), &[finding], &Redactor::default()).unwrap();
        assert_eq!((alone.certainty, agreed.certainty), (Certainty::Likely, Certainty::Proved));
    }
}
