//! Citations of the scene's own evidence: a quote is made only where it stands verbatim.

use crate::model::evidence::Citation;
use crate::model::scene::{At, Event, LogLine, LogTail, Pod, Scene};
use crate::redact::Redacted;
use crate::text;

/// The longest quote: it must fit two lines on a phone.
const QUOTE_MAX_CHARS: usize = 200;

/// A quote from the segment at `at`, if it stands there verbatim.
pub(super) fn quote(scene: &Scene, at: At, words: &Redacted) -> Option<Citation> {
    let evidence = scene.evidence.iter().find(|evidence| evidence.id == at.evidence)?;
    let segment = evidence.segments().get(at.segment as usize).filter(|segment| segment.verbatim)?;
    let words = head(words);
    segment.holds(words.as_str()).then(|| Citation {
        evidence: at.evidence,
        segment: Some(at.segment),
        quote: words,
        source: Some(segment.source.clone()),
    })
}

/// The first of several wordings that stands there: where a value's place in the JSON is not known exactly.
pub(super) fn first(scene: &Scene, at: At, words: &[Redacted]) -> Option<Citation> {
    words.iter().find_map(|words| quote(scene, at, words))
}

/// `"name": "value"` as it stands in an object's JSON.
pub(super) fn field(scene: &Scene, at: At, name: &'static str, value: &Redacted) -> Option<Citation> {
    quote(scene, at, &text!("\"{}\": \"{}\"", name, value))
}

/// An event's message.
pub(super) fn event(scene: &Scene, event: &Event) -> Option<Citation> {
    quote(scene, event.at, &event.message)
}

/// A line of a log.
pub(super) fn line(scene: &Scene, log: &LogTail, line: &LogLine) -> Option<Citation> {
    quote(scene, log.at, &line.text)
}

/// A container's exit code.
pub(super) fn exit_code(scene: &Scene, pod: &Pod, code: i32) -> Option<Citation> {
    quote(scene, pod.at, &text!("\"exitCode\": {}", code))
}

/// The beginning of a text that is too long to quote whole, cut at a word and without an ellipsis.
fn head(words: &Redacted) -> Redacted {
    let text = words.as_str();
    let Some((end, _)) = text.char_indices().nth(QUOTE_MAX_CHARS) else { return words.clone() };
    let end = text[..end].rfind(' ').unwrap_or(end);
    words.part(&text[..end]).unwrap_or_else(|| words.clone())
}
