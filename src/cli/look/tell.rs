//! What was seen, in words for a terminal or as data.

use serde_json::{Value, json};

use crate::cli::look::card::Seen;
use crate::cli::look::paint::Paint;
use crate::cli::look::survey::Survey;
use crate::cli::look::{Place, Sight};
use crate::findings::Health;
use crate::model::{InvestigationState, ObjectRef};

/// Names of what is healthy in the last line.
const NAMES_MAX: usize = 8;

impl Place {
    /// Cards, then one line of what is healthy.
    pub(super) fn text(&self, sight: &Sight, paint: Paint) -> String {
        let now = self.clock.now();
        let one = sight.survey.is_none();
        let mut out = String::new();
        for seen in sight.seen.iter().filter(|seen| one || seen.in_trouble) {
            out.push_str(&paint.card(&seen.text(now)));
            out.push('\n');
        }
        if let Some(survey) = &sight.survey {
            for line in self.summary(sight, survey) {
                out.push_str(&paint.dim(&line));
                out.push('\n');
            }
        }
        out
    }

    /// What is healthy, and what was not looked at.
    fn summary(&self, sight: &Sight, survey: &Survey) -> Vec<String> {
        let mut healthy = self.healthy(sight, survey);
        let (count, ill) = (healthy.len(), sight.in_trouble().map(|seen| 1 + seen.hit.len()).sum::<usize>());
        let more = count.saturating_sub(NAMES_MAX);
        healthy.truncate(NAMES_MAX);
        let names: Vec<&str> = healthy.iter().map(ObjectRef::name).collect();
        let names = match (names.is_empty(), more) {
            (true, _) => String::new(),
            (false, 0) => format!(" ({})", names.join(", ")),
            (false, more) => format!(" ({}, and {more} more)", names.join(", ")),
        };
        let namespace = &self.namespace;
        let pods = counted(survey.pods, "pod");
        let well = if count == 0 { String::new() } else { format!(", {} healthy{names}", counted(count, "workload")) };
        let mut lines = vec![match (ill, count) {
            (0, _) if sight.is_blind() => {
                format!("⚪ {namespace}: nothing is seen in trouble{well}, but not all could be read")
            }
            (0, 0) if survey.pods == 0 => format!("⚪ nothing runs in {namespace}"),
            (0, _) => format!("✅ {namespace} is healthy: {}{names}, {pods}", counted(count, "workload")),
            (ill, _) => format!("{namespace}: {} in trouble{well}, {pods}", counted(ill, "object")),
        }];
        lines.extend(sight.unread().map(|(object, why)| format!("{object} could not be read: {why}")));
        if sight.left_out > 0 {
            lines.push(format!(
                "{} more objects in trouble were not looked at: name one with KIND/NAME",
                sight.left_out
            ));
        }
        for (kind, error) in &survey.missing {
            lines.push(format!("{kind}s could not be listed: {}", error.reason()));
        }
        lines
    }

    fn healthy(&self, sight: &Sight, survey: &Survey) -> Vec<ObjectRef> {
        let is =
            |seen: &Seen, object: &ObjectRef| seen.subject() == object || seen.hit.iter().any(|(hit, _)| hit == object);
        let ill = |object: &ObjectRef| sight.in_trouble().any(|seen| is(seen, object));
        let looked = sight.seen.iter().filter(|seen| seen.health == Health::Healthy).map(|seen| seen.subject().clone());
        let mut all: Vec<ObjectRef> = survey.others.iter().cloned().chain(looked).collect();
        all.retain(|object| object.kind.is_workload() && !ill(object));
        all.sort();
        all.dedup();
        all
    }

    /// The reports as data, the same that a daemon would store.
    pub(super) fn json(&self, sight: &Sight) -> Value {
        let one = sight.survey.is_none();
        let told = sight.seen.iter().filter(|seen| one || seen.in_trouble).map(|seen| {
            let incident = &seen.card.incident;
            let hit = seen.hit.iter().map(|(object, because)| json!({"object": object, "because": because}));
            let hit: Vec<Value> = hit.collect();
            let mut object = json!({
                "object": incident.subject,
                "in_trouble": seen.in_trouble,
                "severity": incident.severity,
                "began_at": incident.began_at,
                "report": seen.card.report,
                "hit": hit,
            });
            // The one that a model was asked about.
            if incident.investigation.state != InvestigationState::Off {
                object["investigation"] = json!(incident.investigation);
            }
            object
        });
        let mut value =
            json!({"cluster": self.cluster, "namespace": self.namespace, "objects": told.collect::<Vec<_>>()});
        if let Some(survey) = &sight.survey {
            value["healthy"] = json!(self.healthy(sight, survey));
            value["left_out"] = json!(sight.left_out);
            value["missing"] =
                survey.missing.iter().map(|(kind, error)| json!({"kind": kind, "why": error.reason()})).collect();
        }
        value
    }
}

/// `1 workload`, `3 pods`.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
