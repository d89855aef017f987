//! A tool's answer: bounded text for the model, the segments that stand as evidence, and errors by remedy.

use std::sync::Arc;

use rmcp::model::{CallToolResult, ContentBlock, JsonObject};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::model::{ObjectRef, Segment, Source};
use crate::observe::ReadError;
use crate::redact::Redacted;
use crate::text;

/// Characters of one answer: about 2,000 tokens, so that a dozen fit beside the task.
pub const TEXT_MAX_CHARS: usize = 6_000;
/// Segments of one answer.
pub const SEGMENTS_MAX: usize = 64;
/// Characters of one segment: the longest objects that people write by hand are below.
const SEGMENT_MAX_CHARS: usize = 40_000;

/// What a read tool answers as structured content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// What was asked, in one line.
    pub asked: Redacted,
    pub segments: Vec<Segment>,
}

/// The `outputSchema` of every read tool: [`Told`], or an error by its kind. Kept short: a client holds it once for each
/// tool.
pub(super) fn schema() -> Arc<JsonObject> {
    let schema = json!({"type": "object", "properties": {"segments": {"type": "array"}}});
    match schema {
        Value::Object(schema) => Arc::new(schema),
        _ => Arc::default(),
    }
}

/// An answer as it is put together.
pub(super) struct Answer {
    told: Told,
    shown: Vec<Shown>,
}

struct Shown {
    heading: Redacted,
    body: Body,
}

enum Body {
    /// Without room its end is cut.
    Text(Redacted),
    /// Lines with their worth: without room those of least worth are cut, of equal ones the first.
    Lines(Vec<(u8, Redacted)>),
}

impl Body {
    fn chars(&self) -> usize {
        let chars = |text: &Redacted| text.as_str().chars().count();
        match self {
            Body::Text(text) => chars(text),
            Body::Lines(lines) => lines.iter().map(|(_, line)| chars(line) + 1).sum(),
        }
    }

    fn fit(&self, max: usize) -> Redacted {
        match self {
            Body::Text(text) => fit(text, max),
            Body::Lines(lines) => fit_lines(lines, max),
        }
    }
}

impl Answer {
    pub(super) fn new(asked: Redacted) -> Self {
        Self { told: Told { asked: asked.one_line(), segments: Vec::new() }, shown: Vec::new() }
    }

    /// Words of ours; they cannot be quoted.
    pub(super) fn say(&mut self, heading: Redacted, lines: &[Redacted]) {
        let text = Redacted::join(lines, "\n");
        self.push(Source::Summary, text.clone(), false);
        self.show(heading, text);
    }

    /// The source's own words.
    pub(super) fn quote(&mut self, heading: Redacted, source: Source, text: Redacted) {
        self.push(source, text.clone(), true);
        self.show(heading, text);
    }

    /// The source's own words that are shown in another form (counted, or as one line of a list).
    pub(super) fn quote_unshown(&mut self, source: Source, text: Redacted) {
        self.push(source, text, true);
    }

    /// Lines that belong to segments given before, each with its worth: without room those of least worth go.
    pub(super) fn show_lines(&mut self, heading: Redacted, lines: Vec<(u8, Redacted)>) {
        self.shown.push(Shown { heading, body: Body::Lines(lines) });
    }

    pub(super) fn show(&mut self, heading: Redacted, text: Redacted) {
        self.shown.push(Shown { heading, body: Body::Text(text) });
    }

    fn push(&mut self, source: Source, text: Redacted, verbatim: bool) {
        if self.told.segments.len() < SEGMENTS_MAX {
            self.told.segments.push(Segment { source, text: text.cut(SEGMENT_MAX_CHARS), verbatim });
        }
    }

    /// All sections within `TEXT_MAX_CHARS`: the short ones whole, the long ones share what is left.
    fn text(&self) -> Redacted {
        let headings: usize = self.shown.iter().map(|s| s.heading.as_str().chars().count() + 2).sum();
        let mut room = TEXT_MAX_CHARS.saturating_sub(headings);
        let mut lengths: Vec<usize> = self.shown.iter().map(|shown| shown.body.chars()).collect();
        lengths.sort_unstable();
        let mut share = room;
        for (done, length) in lengths.iter().enumerate() {
            share = room / (lengths.len() - done);
            if *length > share {
                break;
            }
            room -= length;
        }
        let mut parts = Vec::new();
        for shown in &self.shown {
            let text = shown.body.fit(share);
            parts.push(if shown.heading.is_empty() { text } else { text!("{}:\n{}", shown.heading, text) });
        }
        Redacted::join(&parts, "\n")
    }

    fn into_result(self) -> CallToolResult {
        let mut result = CallToolResult::success(vec![ContentBlock::text(self.text().as_str())]);
        result.structured_content = serde_json::to_value(&self.told).ok();
        result
    }
}

/// Room for the remark that something was cut.
const REMARK_CHARS: usize = 60;

/// At most `max` characters of a text, with a remark where something was cut.
fn fit(text: &Redacted, max: usize) -> Redacted {
    let length = text.as_str().chars().count();
    if length <= max {
        return text.clone();
    }
    let kept = max.saturating_sub(REMARK_CHARS);
    let end = text.as_str().char_indices().nth(kept).map_or(text.as_str().len(), |(at, _)| at);
    let start = text.part(&text.as_str()[..end]).unwrap_or_default();
    text!("{}\n[cut: the first {} of {} characters]", start, kept, length)
}

/// Lines within `max` characters in their order, those of least worth left out and counted.
fn fit_lines(lines: &[(u8, Redacted)], max: usize) -> Redacted {
    let mut order: Vec<usize> = (0..lines.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse((lines[at].0, at)));
    let chars = |at: usize| lines[at].1.as_str().chars().count() + 1;
    let all: usize = (0..lines.len()).map(chars).sum();
    let mut room = if all <= max { max } else { max.saturating_sub(REMARK_CHARS) };
    let mut keep = vec![false; lines.len()];
    for at in order {
        if chars(at) <= room {
            room -= chars(at);
            keep[at] = true;
        }
    }
    let cut = keep.iter().filter(|kept| !**kept).count();
    let mut shown: Vec<Redacted> = Vec::new();
    shown.extend((cut > 0).then(|| text!("[cut: {} of {} lines that tell less]", cut, lines.len())));
    shown.extend(lines.iter().zip(&keep).filter(|(_, kept)| **kept).map(|((_, line), _)| line.clone()));
    Redacted::join(&shown, "\n")
}

/// Why a tool has no answer, by remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ToolError {
    /// It is not there; names that nearly match, for the caller to choose from.
    NotFound {
        what: Redacted,
        near: Vec<ObjectRef>,
    },
    /// The arguments name nothing that can be asked.
    Refused(Redacted),
    Read(ReadError),
}

impl From<ReadError> for ToolError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl ToolError {
    fn kind(&self) -> &'static str {
        match self {
            ToolError::NotFound { .. } | ToolError::Read(ReadError::NotFound) => "not_found",
            ToolError::Refused(_) | ToolError::Read(ReadError::Refused(_)) => "refused",
            ToolError::Read(ReadError::Forbidden(_)) => "forbidden",
            ToolError::Read(ReadError::TimedOut) => "timed_out",
            ToolError::Read(ReadError::Unreachable(_) | ReadError::Unavailable(_)) => "unavailable",
        }
    }

    /// The error in words for a model or a person.
    pub(super) fn says(&self) -> Redacted {
        match self {
            ToolError::NotFound { what, near } if near.is_empty() => text!("{} does not exist", what),
            ToolError::NotFound { what, near } => {
                let near: Vec<Redacted> = near.iter().map(|object| text!("{}", object)).collect();
                text!("{} does not exist; near names: {}", what, Redacted::join(&near, ", "))
            }
            ToolError::Refused(why) => why.clone(),
            ToolError::Read(error) => text!("could not be read: {}", error.reason()),
        }
    }

    fn into_result(self) -> CallToolResult {
        let near = match &self {
            ToolError::NotFound { near, .. } => near.as_slice(),
            _ => &[],
        };
        let mut result = CallToolResult::error(vec![ContentBlock::text(self.says().as_str())]);
        result.structured_content = Some(json!({"error": self.kind(), "near": near}));
        result
    }
}

/// The answer or the error as MCP carries it.
pub(super) fn result(answer: Result<Answer, ToolError>) -> CallToolResult {
    match answer {
        Ok(answer) => answer.into_result(),
        Err(error) => error.into_result(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_bounded_and_says_what_was_cut() {
        let mut answer = Answer::new("x".into());
        answer.say("Short".into(), &["one line".into()]);
        let long = |letter: &str| crate::redact::Redactor::default().redact(&format!("{letter} ").repeat(9_000));
        answer.quote("First".into(), Source::Summary, long("a"));
        let line = |n: usize| (u8::from(n == 3), text!("line {} of noise that has a certain length", n));
        answer.show_lines("Last".into(), (0..400).map(line).collect());
        let text = answer.text();
        let length = text.as_str().chars().count();
        assert!((TEXT_MAX_CHARS - 200..=TEXT_MAX_CHARS + 60).contains(&length), "{length}");
        let text = text.as_str();
        assert!(text.contains("one line") && text.contains("[cut: the first"), "{text}");
        assert!(
            text.contains("of 400 lines that tell less]\nline 3 of")
                && text.ends_with("line 399 of noise that has a certain length"),
            "{text}"
        );
    }
}
