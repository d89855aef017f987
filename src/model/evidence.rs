//! Evidence: the stored, redacted outcome of a read, and the proof that a quote lies in it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::ids::EvidenceId;
use crate::model::object::{Name, ObjectRef};
use crate::redact::Redacted;

/// The outcome of one read of one incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    pub id: EvidenceId,
    /// The tool's name, or `scene` and the part that was read: `scene pods`.
    pub tool: String,
    /// What was asked, in one line.
    pub asked: Redacted,
    pub read_at: Timestamp,
    pub reading: Reading,
}

/// What a read gave. A read that failed is missing data, never evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    Segments(Vec<Segment>),
    /// Why there is nothing.
    Missing(Redacted),
}

/// One text with one source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    pub source: Source,
    /// An object as JSON with `": "` and `", "`, an event's message, folded log lines, a table.
    pub text: Redacted,
    /// Whether the text is the source's own words (a summary or table of ours is not).
    pub verbatim: bool,
}

/// Where a text came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Source {
    Object {
        object: ObjectRef,
    },
    /// An event on `object` (node events have no namespace).
    Event {
        object: ObjectRef,
        reason: Redacted,
    },
    Log {
        namespace: Name,
        pod: Name,
        container: Name,
        previous: bool,
    },
    Metric {
        query: Redacted,
    },
    /// What another system answered: lines of Loki, rows of PagerDuty.
    Query {
        server: Redacted,
        query: Redacted,
    },
    /// The revisions of a workload, compared.
    Rollout {
        object: ObjectRef,
    },
    /// Words of ours: a table, a count.
    Summary,
}

/// A quote and where it is said to stand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Citation {
    pub evidence: EvidenceId,
    /// The segment, once proved.
    pub segment: Option<u32>,
    pub quote: Redacted,
    /// Filled when proved: where the quote stands.
    pub source: Option<Source>,
}

/// Shorter quotes occur anywhere by chance; a whole value is exempt.
pub const QUOTE_MIN_CHARS: usize = 12;

impl Evidence {
    /// The segments, none if the read failed.
    pub fn segments(&self) -> &[Segment] {
        match &self.reading {
            Reading::Segments(segments) => segments,
            Reading::Missing(_) => &[],
        }
    }

    /// The verbatim segment that holds `quote`, if one does.
    pub fn prove(&self, quote: &str) -> Option<(u32, &Segment)> {
        let segments = self.segments().iter().enumerate();
        segments.filter(|(_, segment)| segment.verbatim).find(|(_, s)| s.holds(quote)).map(|(i, s)| (i as u32, s))
    }
}

impl Segment {
    /// Whether `quote` lies in this text: 12 characters or more, or a whole value. Runs of white space count as one
    /// space; nothing else is forgiven.
    pub fn holds(&self, quote: &str) -> bool {
        let quote = collapse(quote);
        if quote.is_empty() {
            return false;
        }
        let text = collapse(self.text.as_str());
        if quote.chars().count() >= QUOTE_MIN_CHARS {
            return text.contains(&quote);
        }
        // A whole value: bounded on both sides by what can bound one, in JSON, `key=value` or a line.
        let bound =
            |c: Option<char>| c.is_none_or(|c| matches!(c, '"' | '\'' | ' ' | ',' | '=' | '[' | ']' | '{' | '}'));
        text.match_indices(&quote)
            .any(|(at, found)| bound(text[..at].chars().next_back()) && bound(text[at + found.len()..].chars().next()))
    }
}

fn collapse(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_is_proved_only_where_it_stands_verbatim() {
        let segment = |text: &'static str, verbatim| Segment { source: Source::Summary, text: text.into(), verbatim };
        let evidence = Evidence {
            id: EvidenceId(1),
            tool: "scene pods".into(),
            asked: "".into(),
            read_at: Timestamp::UNIX_EPOCH,
            reading: Reading::Segments(vec![
                segment("3 of 4 pods crash in a loop", false),
                segment(r#"{"reason": "OOMKilled", "exitCode": 137}"#, true),
            ]),
        };
        assert!(evidence.prove("OOMKilled").is_some(), "a whole value may be short");
        assert!(evidence.prove("MKilled").is_none(), "a piece of a value may not");
        assert!(evidence.prove(r#""reason":  "OOMKilled""#).is_some(), "white space is forgiven");
        assert!(evidence.prove("pods crash in a loop").is_none(), "our own words prove nothing");
        assert!(evidence.prove("oomkilled").is_none() && evidence.prove(" ").is_none());
    }
}
