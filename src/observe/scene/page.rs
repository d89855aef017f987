//! The evidence of one part of a scene while it is being written: segments, each with its place.

use jiff::Timestamp;
use serde_json::Value;

use crate::model::scene::{At, ScenePart};
use crate::model::{Evidence, ObjectRef, Reading, Segment, Source};
use crate::observe::json;
use crate::redact::{Redacted, Redactor};

/// One part's evidence.
pub(super) struct Page {
    part: ScenePart,
    segments: Vec<Segment>,
}

impl Page {
    pub(super) fn new(part: ScenePart) -> Self {
        Self { part, segments: Vec::new() }
    }

    fn add(&mut self, source: Source, text: Redacted, verbatim: bool) -> At {
        let segment = u32::try_from(self.segments.len()).unwrap_or(u32::MAX);
        self.segments.push(Segment { source, text, verbatim });
        At { evidence: self.part.evidence(), segment }
    }

    /// An object as JSON; its reference is known already where its kind is.
    pub(super) fn object(&mut self, value: &Value, redactor: &Redactor) -> At {
        let source = json::reference(value).map_or(Source::Summary, |object| Source::Object { object });
        self.add(source, json::evidence(value, redactor), true)
    }

    /// An event's message.
    pub(super) fn event(&mut self, object: ObjectRef, reason: Redacted, message: Redacted) -> At {
        self.add(Source::Event { object, reason }, message, true)
    }

    /// Lines of a log, or the differences of revisions: text of the source's own.
    pub(super) fn quote(&mut self, source: Source, text: Redacted) -> At {
        self.add(source, text, true)
    }

    /// Words of ours.
    pub(super) fn summary(&mut self, text: Redacted) -> At {
        self.add(Source::Summary, text, false)
    }

    /// The finished evidence. `missing` are the reasons of what could not be read: with nothing read at all the whole
    /// part is missing.
    pub(super) fn finish(mut self, asked: &ObjectRef, read_at: Timestamp, missing: &[Redacted]) -> Evidence {
        let reading = if !missing.is_empty() && self.segments.is_empty() {
            Reading::Missing(Redacted::join(missing, "; "))
        } else {
            for why in missing {
                self.summary(crate::text!("could not be read: {}", why));
            }
            if self.segments.is_empty() {
                self.summary(Redacted::literal("nothing of this kind is there"));
            }
            Reading::Segments(self.segments)
        };
        Evidence {
            id: self.part.evidence(),
            tool: format!("scene {}", name(self.part)),
            asked: crate::text!("{} of {}", name(self.part), asked),
            read_at,
            reading,
        }
    }
}

fn name(part: ScenePart) -> &'static str {
    match part {
        ScenePart::Subject => "subject",
        ScenePart::Changes => "changes",
        ScenePart::Pods => "pods",
        ScenePart::Logs => "logs",
        ScenePart::Events => "events",
        ScenePart::Nodes => "nodes",
        ScenePart::Network => "network",
        ScenePart::Config => "config",
        ScenePart::Storage => "storage",
        ScenePart::Limits => "limits",
        ScenePart::Neighbours => "neighbours",
    }
}
