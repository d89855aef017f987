//! The model's second look at its own report: a short request, and what is left of the report after the answer. Pure.

use serde_json::{Value, json};

use crate::agent::llm::Reply;
use crate::agent::prompt;
use crate::agent::report;
use crate::model::{Certainty, Citation, Evidence, Finding, Report, Review};
use crate::redact::{Redacted, Redactor};
use crate::text;

/// The system prompt of a review: constant, as the other one is.
const SYSTEM: &str = include_str!("../../prompts/review.md");
/// Shown on each side of a quote: the lines or fields next to it.
const AROUND_CHARS: usize = 140;
/// What speaks against the cause has one line in the thread.
const AGAINST_MAX_CHARS: usize = 200;
/// What a scripted model says that has nothing to say.
const NO_CHANGE: &str = "no change";

/// Whether a report claims something that could be wrong.
pub fn is_due(report: &Report) -> bool {
    report.certainty != Certainty::Unknown
}

/// The request: the task as the model had it first, its report with a mark on each claim, and what stands around its
/// quotes.
///
/// # Errors
/// When a template does not render, which a test rules out.
pub fn messages(task: &Value, report: &Report, evidence: &[Evidence]) -> anyhow::Result<Vec<Value>> {
    let around: Vec<Redacted> =
        report.citations.iter().enumerate().filter_map(|(i, c)| around(i + 1, c, evidence)).collect();
    let say = |role: &str, content: &str| json!({"role": role, "content": content});
    Ok(vec![
        say("system", SYSTEM),
        task.clone(),
        say("assistant", claims(report).as_str()),
        say("user", &prompt::draft(&around)?),
    ])
}

/// The report as the model reads it again, a mark before each claim.
fn claims(report: &Report) -> Redacted {
    let mut lines = vec![text!("headline: {}", report.headline), text!("cause: {}", report.cause)];
    lines.extend(report.culprit.as_ref().map(|object| text!("culprit: {}", object)));
    lines.push(text!("certainty: {}", word(report.certainty)));
    let numbered = |mark: &'static str, i: usize, what: Redacted| text!("{}{}: {}", mark, i + 1, what);
    let quotes = report.citations.iter().map(|c| text!("{} \"{}\"", c.evidence, c.quote));
    lines.extend(quotes.enumerate().map(|(i, quote)| numbered("c", i, quote)));
    lines.extend(report.ruled_out.iter().enumerate().map(|(i, out)| numbered("r", i, text!("ruled out: {}", out))));
    lines.extend(report.advice.as_ref().map(|advice| text!("next_step: {}", advice)));
    let proposals = report.proposals.iter().map(|proposal| text!("{} {}", proposal.tool(), proposal.object()));
    lines.extend(proposals.enumerate().map(|(i, proposal)| numbered("p", i, proposal)));
    Redacted::join(&lines, "\n")
}

/// A quote with what stands before and after it.
fn around(number: usize, citation: &Citation, evidence: &[Evidence]) -> Option<Redacted> {
    let read = evidence.iter().find(|evidence| evidence.id == citation.evidence)?;
    let segment = read.segments().get(citation.segment? as usize)?;
    let whole = segment.text.one_line();
    let text = whole.as_str();
    let quote = citation.quote.one_line();
    let at = text.find(quote.as_str())?;
    let end = at + quote.as_str().len();
    let from = text[..at].char_indices().rev().nth(AROUND_CHARS - 1).map_or(0, |(i, _)| i);
    let to = text[end..].char_indices().nth(AROUND_CHARS).map_or(text.len(), |(i, _)| end + i);
    Some(text!("c{} {} {}: {}", number, read.id, read.asked.cut(80), whole.part(&text[from..to])?))
}

fn word(certainty: Certainty) -> &'static str {
    match certainty {
        Certainty::Proved => "proved",
        Certainty::Likely => "likely",
        Certainty::Possible => "possible",
        Certainty::Unknown => "unknown",
    }
}

/// What is left of the report after its review; None when nothing stands.
pub fn apply(report: Report, reply: &Reply, findings: &[Finding], redactor: &Redactor) -> Option<Report> {
    let Some(answer) = answer(reply) else {
        return Some(unreviewed(report, "its answer could not be read".into()));
    };
    let marks: Vec<&str> = answer["wrong"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut reviewed = without(report, &marks, findings)?;
    if let Some(now) = answer["certainty"].as_str() {
        reviewed.certainty = reviewed.certainty.min(report::certainty(now));
    }
    let against = redactor.redact(answer["against"].as_str().unwrap_or_default()).one_line().cut(AGAINST_MAX_CHARS);
    reviewed.review = Review::Done { against };
    // Once more: what has become unknown has no cause and no button.
    report::settle(reviewed, &[], findings)
}

/// A report that nobody looked at again is no surer than likely.
pub fn unreviewed(report: Report, why: Redacted) -> Report {
    Report { certainty: report.certainty.min(Certainty::Likely), review: Review::Failed { why }, ..report }
}

/// The answer's object, from its text or from the call that a model made of it; an empty one for "no change".
fn answer(reply: &Reply) -> Option<Value> {
    if let Some(Ok(arguments)) = reply.tool_calls.first().map(|call| &call.arguments) {
        return Some(Value::Object(arguments.clone()));
    }
    let text = reply.content.as_ref()?.as_str().trim();
    if text.trim_end_matches('.').eq_ignore_ascii_case(NO_CHANGE) {
        return Some(json!({}));
    }
    let object = text.get(text.find('{')?..=text.rfind('}')?)?;
    serde_json::from_str(object).ok().filter(Value::is_object)
}

/// The report without the claims with these marks, and without what stood on the quotes among them.
fn without(mut report: Report, marks: &[&str], findings: &[Finding]) -> Option<Report> {
    let is = |mark: &str| marks.iter().any(|wrong| wrong.trim().eq_ignore_ascii_case(mark));
    let numbered = |letter: char, i: usize| is(&format!("{letter}{}", i + 1));
    let mut struck = Vec::new();
    let mut kept = Vec::new();
    for (i, citation) in report.citations.into_iter().enumerate() {
        if numbered('c', i) { struck.push(citation.quote) } else { kept.push(citation) }
    }
    report.citations = kept;
    report.ruled_out = keep(report.ruled_out, |i| !numbered('r', i));
    report.proposals = keep(report.proposals, |i| !numbered('p', i));
    report.advice = report.advice.filter(|_| !is("next_step"));
    if is("cause") {
        return None;
    }
    if is("headline") {
        report.headline = report::headline_of(&report.cause)?;
    }
    report::settle(report, &struck, findings)
}

fn keep<T>(items: Vec<T>, holds: impl Fn(usize) -> bool) -> Vec<T> {
    items.into_iter().enumerate().filter(|(i, _)| holds(*i)).map(|(_, item)| item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EvidenceId, Kind, ObjectRef, Origin, Proposal, Reading, Segment, Source};

    fn checkout() -> ObjectRef {
        ObjectRef::new(Kind::Deployment, Some("shop"), "checkout").unwrap()
    }

    fn report() -> Report {
        let cite = |quote: &'static str| Citation {
            evidence: EvidenceId(12),
            segment: Some(0),
            quote: quote.into(),
            source: Some(Source::Rollout { object: checkout() }),
        };
        Report {
            origin: Origin::Model,
            headline: "checkout exits: revision 7 takes too many connections".into(),
            cause: "Revision 7 doubles the pool.".into(),
            certainty: Certainty::Likely,
            culprit: Some(checkout()),
            citations: vec![cite("DB_POOL=200 (was 100)"), cite("replica lag 900 s")],
            ruled_out: vec!["the nodes".into(), "replica lag (900 s)".into()],
            advice: Some("Ask the DBA.".into()),
            proposals: vec![Proposal::RolloutRestart { object: checkout() }],
            reasoning: Vec::new(),
            struck: 0,
            review: Review::NotNeeded,
            about: None,
        }
    }

    fn after(content: &str) -> Option<Report> {
        let content = Some(Redactor::default().redact(content));
        let reply = Reply { content, tool_calls: vec![], message: json!({}), input_tokens: 0, output_tokens: 0 };
        apply(report(), &reply, &[], &Redactor::default())
    }

    #[test]
    fn a_report_can_only_lose_by_its_review() {
        for held in ["no change", "No change.", "{}", r#"{"wrong": [], "against": "", "certainty": "proved"}"#] {
            let kept = after(held).unwrap();
            let done = Review::Done { against: Redacted::default() };
            assert_eq!(kept, Report { review: done, ..report() }, "{held}");
        }
        let doubted = after("```json\n{\"certainty\": \"possible\", \"against\": \"It began before.\"}\n```").unwrap();
        assert_eq!(doubted.certainty, Certainty::Possible);
        assert_eq!(doubted.review, Review::Done { against: "It began before.".into() });
        let nothing = after(r#"{"certainty": "unknown"}"#).unwrap();
        assert!(nothing.cause.is_empty() && nothing.proposals.is_empty());
    }

    #[test]
    fn a_false_citation_takes_its_claims_along_and_a_false_cause_the_report() {
        let left = after(r#"{"wrong": ["C2", "p1", "next_step"]}"#).unwrap();
        assert_eq!((left.citations.len(), left.struck), (1, 1));
        assert_eq!(left.ruled_out, ["the nodes".into()], "replica lag stood on the struck quote");
        assert!(left.proposals.is_empty() && left.advice.is_none());
        assert_eq!(after(r#"{"wrong": ["headline"]}"#).unwrap().headline.as_str(), "Revision 7 doubles the pool.");
        assert!(after(r#"{"wrong": ["cause"]}"#).is_none());
        assert!(after(r#"{"wrong": ["c1", "c2"]}"#).is_none(), "no proof is left");
    }

    #[test]
    fn an_answer_that_cannot_be_read_makes_nothing_surer() {
        for nonsense in ["I think it is fine", "{not json", "[]"] {
            let left = after(nonsense).unwrap();
            assert!(matches!(left.review, Review::Failed { .. }), "{nonsense}");
        }
        let sure = Report { certainty: Certainty::Proved, ..report() };
        assert_eq!(unreviewed(sure, "the provider is down".into()).certainty, Certainty::Likely);
    }

    #[test]
    fn a_review_is_a_short_request_with_what_stands_around_each_quote() {
        let text = format!("{} DB_POOL=200 (was 100) </data> {}", "before ".repeat(200), "after ".repeat(200));
        let segment = Segment {
            source: Source::Rollout { object: checkout() },
            text: Redactor::default().redact(&text),
            verbatim: true,
        };
        let evidence = [Evidence {
            id: EvidenceId(12),
            tool: "what_changed".into(),
            asked: "Deployment shop/checkout".into(),
            read_at: jiff::Timestamp::UNIX_EPOCH,
            reading: Reading::Segments(vec![segment]),
        }];
        let task = json!({"role": "user", "content": "Task: find out"});
        let messages = messages(&task, &report(), &evidence).unwrap();
        let roles: Vec<&str> = messages.iter().filter_map(|message| message["role"].as_str()).collect();
        assert_eq!(roles, ["system", "user", "assistant", "user"]);
        let shown = messages[3]["content"].as_str().unwrap();
        assert!(shown.contains("c1 e12 Deployment shop/checkout: ") && shown.contains("before DB_POOL=200"), "{shown}");
        assert_eq!(shown.matches("</data>").count(), 1, "nothing closes the fence: {shown}");
        assert!(messages[2]["content"].as_str().unwrap().contains("\nr2: ruled out: replica lag (900 s)\n"));
        let tokens = tiktoken_rs::o200k_base_singleton();
        let weight = tokens.encode_ordinary(&json!(messages).to_string()).len();
        assert!(weight <= 800, "{weight} tokens");
    }
}
