//! Which runs of which containers of a pod have a log worth reading, and its reading in bounded time.

use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use crate::mcp::arguments::path;
use crate::model::{Name, ObjectRef, Source};
use crate::observe::{LogAsk, LogRead, ReadError, Reader, fold, json};
use crate::redact::Redacted;
use crate::text;

/// What is read again from its end where a log was too long or too slow to be read whole.
const END_LINES: u32 = 2_000;

/// One run of one container.
#[derive(Clone)]
pub(super) struct Run {
    pod: ObjectRef,
    container: Name,
    previous: bool,
    /// Least is read first: whose container waits or ended badly, was restarted, is not ready, and the others.
    rank: u8,
}

/// Which part of a run's log.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) tail_lines: Option<u32>,
    pub(super) since_seconds: Option<i64>,
    /// Until when it may be read.
    pub(super) by: Instant,
}

/// What was read of a log.
pub(super) struct Got {
    pub(super) lines: u64,
    pub(super) bytes: u64,
    /// Between which instants nothing was read.
    pub(super) gap: Option<(Timestamp, Option<Timestamp>)>,
}

impl Run {
    pub(super) fn source(&self) -> Option<Source> {
        let (container, previous) = (self.container.clone(), self.previous);
        Some(Source::Log { namespace: self.pod.namespace.clone()?, pod: self.pod.name.clone(), container, previous })
    }

    pub(super) fn title(&self) -> Redacted {
        let previous = if self.previous { ", run before the last restart" } else { "" };
        text!("{} container {}{}", path(&self.pod), self.container, previous)
    }

    /// Hands each line to `take`; of a log that cannot be read whole in time, the beginning and the end.
    pub(super) async fn read(&self, reader: &Reader, span: Span, mut take: impl FnMut(&str)) -> Result<Got, ReadError> {
        let (container, previous) = (Some(self.container.as_str()), self.previous);
        let ask =
            |tail_lines| LogAsk { pod: &self.pod, container, previous, tail_lines, since_seconds: span.since_seconds };
        // A third of the time is left for the end.
        let left = span.by.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ReadError::TimedOut);
        }
        let mut last = String::new();
        let from_start = ask(span.tail_lines);
        let first = reader.log(&from_start, left * 2 / 3, |line| {
            let (at, _) = fold::parted(line);
            if !at.is_empty() {
                last.clear();
                last.push_str(at);
            }
            take(line);
        });
        let LogRead { mut lines, mut bytes, whole } = first.await?;
        let mut gap = None;
        if !whole && let Ok(until) = last.parse::<Timestamp>() {
            let mut resumes = None;
            let left = span.by.saturating_duration_since(Instant::now());
            let late = |line: &str| {
                if let Ok(at) = fold::parted(line).0.parse::<Timestamp>()
                    && at > until
                {
                    resumes.get_or_insert(at);
                    take(line);
                }
            };
            if let Ok(end) = reader.log(&ask(Some(END_LINES)), left, late).await {
                (lines, bytes) = (lines + end.lines, bytes + end.bytes);
            }
            gap = Some((until, resumes));
        }
        Ok(Got { lines, bytes, gap })
    }
}

/// The runs of a pod's containers that have or had a log: those in trouble first, in the order of the pod, the last run
/// before the present one.
pub(super) fn runs(pod: &ObjectRef, value: &Value, container: Option<&Name>, previous: Option<bool>) -> Vec<Run> {
    let mut runs = Vec::new();
    for (specs, statuses) in [("initContainers", "initContainerStatuses"), ("containers", "containerStatuses")] {
        let init = specs == "initContainers";
        let statuses = json::list(value, &format!("/status/{statuses}"));
        for spec in json::list(value, &format!("/spec/{specs}")) {
            let Some(name) = Name::parse(json::text(spec, "/name")) else { continue };
            let status = statuses.iter().find(|status| json::text(status, "/name") == name.as_str());
            let ended_well = status.is_some_and(|s| json::number(s, "/state/terminated/exitCode") == Some(0));
            let chosen = match container {
                Some(wanted) => *wanted == name,
                // Init containers that did their work say nothing about what broke after them.
                None => !(init && ended_well),
            };
            if !chosen {
                continue;
            }
            let restarted = status.is_some_and(|status| json::count(status, "/restartCount") > 0);
            let rank = status.map_or(0, |status| rank(status, ended_well, restarted));
            let run = |previous| Run { pod: pod.clone(), container: name.clone(), previous, rank };
            if previous == Some(true) || (previous.is_none() && restarted) {
                runs.push(run(true));
            }
            if previous != Some(true) {
                runs.push(run(false));
            }
        }
    }
    runs.sort_by_key(|run| run.rank);
    runs
}

fn rank(status: &Value, ended_well: bool, restarted: bool) -> u8 {
    let running = status.pointer("/state/running").is_some();
    match status.get("ready").and_then(Value::as_bool) {
        _ if !running && !ended_well => 0,
        _ if restarted => 1,
        Some(false) => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;
    use serde_json::json;

    #[test]
    fn of_two_hundred_containers_those_in_trouble_are_read_first() {
        let specs: Vec<Value> = (0..200).map(|n| json!({"name": format!("c{n}")})).collect();
        let status = |n: usize| match n {
            150 => json!({"name": "c150", "ready": false, "restartCount": 3, "state": {"waiting": {}}}),
            170 => json!({"name": "c170", "ready": true, "restartCount": 1, "state": {"running": {}}}),
            n => json!({"name": format!("c{n}"), "ready": true, "restartCount": 0, "state": {"running": {}}}),
        };
        let statuses: Vec<Value> = (0..200).map(status).collect();
        let pod = json!({"spec": {"containers": specs}, "status": {"containerStatuses": statuses}});
        let object = ObjectRef::new(Kind::Pod, Some("shop"), "cart-0").unwrap();
        let runs = runs(&object, &pod, None, None);
        let first: Vec<(&str, bool)> = runs.iter().take(5).map(|run| (run.container.as_str(), run.previous)).collect();
        assert_eq!(first, [("c150", true), ("c150", false), ("c170", true), ("c170", false), ("c0", false)]);
        assert_eq!(runs.len(), 202);
    }
}
