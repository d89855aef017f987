//! The reads behind the tools of `k8s-logs`.

use futures::StreamExt;
use futures::future::join_all;
use futures::stream;
use regex::{Regex, RegexBuilder};
use serde_json::Value;

use crate::mcp::answer::{Answer, ToolError};
use crate::mcp::arguments;
use crate::mcp::arguments::{OneLog, Search, path};
use crate::mcp::near;
use crate::model::scene::LogLine;
use crate::model::{Kind, Name, ObjectRef, Source};
use crate::observe::LogAsk;
use crate::observe::ReadError;
use crate::observe::Reader;
use crate::observe::Selector;
use crate::observe::fold;
use crate::observe::json;
use crate::observe::typed::workload::selector;
use crate::redact::{Redacted, Redactor};
use crate::text;

/// Lines from the end that are read if the caller does not say, and at most.
const TAIL_LINES: u32 = 500;
const TAIL_LINES_MAX: u32 = 5_000;
/// Containers of one pod that are read: a pod with more has sidecars that repeat each other.
const CONTAINERS_MAX: usize = 6;
/// Pods and lines of each that one search reads: with more the answer would not come in time.
const PODS_MAX: usize = 20;
const SEARCHED_LINES: u32 = 5_000;
/// Logs that are read at the same time.
const AT_ONCE_MAX: usize = 8;
/// A pattern, and what it may compile to (a regular expression of nested counts can grow without bound).
const PATTERN_MAX_CHARS: usize = 500;
const PATTERN_MAX_BYTES: usize = 1 << 20;

/// One run of one container.
#[derive(Clone)]
struct Run {
    pod: ObjectRef,
    container: Name,
    previous: bool,
}

impl Run {
    fn source(&self) -> Option<Source> {
        let (container, previous) = (self.container.clone(), self.previous);
        Some(Source::Log { namespace: self.pod.namespace.clone()?, pod: self.pod.name.clone(), container, previous })
    }

    fn title(&self) -> Redacted {
        let previous = if self.previous { ", run before the last restart" } else { "" };
        text!("{} container {}{}", path(&self.pod), self.container, previous)
    }

    async fn read(&self, reader: &Reader, tail_lines: u32, since_seconds: Option<i64>) -> Result<String, ReadError> {
        let container = Some(self.container.as_str());
        let ask = LogAsk { pod: &self.pod, container, previous: self.previous, tail_lines, since_seconds };
        reader.log(&ask).await
    }
}

/// The runs of a pod's containers that have or had a log: init ones first, the last run before the present one.
fn runs(pod: &ObjectRef, value: &Value, container: Option<&Name>, previous: Option<bool>) -> Vec<Run> {
    let mut runs = Vec::new();
    for (specs, statuses) in [("initContainers", "initContainerStatuses"), ("containers", "containerStatuses")] {
        let statuses = json::list(value, &format!("/status/{statuses}"));
        for spec in json::list(value, &format!("/spec/{specs}")) {
            let Some(name) = Name::parse(json::text(spec, "/name")) else { continue };
            let status = statuses.iter().find(|status| json::text(status, "/name") == name.as_str());
            let ended_well = status.is_some_and(|s| json::number(s, "/state/terminated/exitCode") == Some(0));
            let chosen = match container {
                Some(wanted) => *wanted == name,
                // Init containers that did their work say nothing about what broke after them.
                None => !(specs == "initContainers" && ended_well),
            };
            if !chosen {
                continue;
            }
            let restarted = status.is_some_and(|status| json::count(status, "/restartCount") > 0);
            if previous == Some(true) || (previous.is_none() && restarted) {
                runs.push(Run { pod: pod.clone(), container: name.clone(), previous: true });
            }
            if previous != Some(true) {
                runs.push(Run { pod: pod.clone(), container: name, previous: false });
            }
        }
    }
    runs.truncate(CONTAINERS_MAX * 2);
    runs
}

pub(super) async fn pod_logs(reader: &Reader, ask: &OneLog) -> Result<Answer, ToolError> {
    let pod = arguments::object(reader.redactor(), "Pod", Some(&ask.namespace), &ask.pod)?;
    let container = ask.container.as_deref().filter(|name| !name.is_empty()).map(arguments::container).transpose()?;
    let Some(value) = reader.get(&pod).await? else { return Err(near::not_found(reader, &pod).await) };
    let runs = runs(&pod, &value, container.as_ref(), ask.previous);
    if runs.is_empty() {
        return Err(no_container(&pod, &value));
    }
    let tail = ask.tail_lines.unwrap_or(TAIL_LINES).clamp(1, TAIL_LINES_MAX);
    let logs = join_all(runs.iter().map(|run| run.read(reader, tail, None))).await;
    let mut answer = Answer::new(path(&pod));
    let mut error = None;
    let mut read = 0;
    for (run, log) in runs.iter().zip(logs) {
        let log = match log {
            Ok(log) => log,
            Err(why) => {
                answer.say(run.title(), &[text!("could not be read: {}", why.reason())]);
                error = Some(why);
                continue;
            }
        };
        read += 1;
        let lines = fold::fold(&log, reader.redactor());
        if lines.is_empty() {
            answer.say(run.title(), &["it wrote nothing".into()]);
            continue;
        }
        if let Some(source) = run.source() {
            answer.quote_unshown(source, fold::joined(&lines));
        }
        let all = log.lines().count();
        let title = text!("{}, the last {} lines folded to {}", run.title(), all, lines.len());
        answer.show_tail(title, counted(&lines));
    }
    match error {
        Some(error) if read == 0 => Err(error.into()),
        _ => Ok(answer),
    }
}

fn no_container(pod: &ObjectRef, value: &Value) -> ToolError {
    let specs = json::list(value, "/spec/initContainers").iter().chain(json::list(value, "/spec/containers"));
    let names: Vec<Redacted> =
        specs.filter_map(|spec| Name::parse(json::text(spec, "/name"))).map(|name| text!("{}", name)).collect();
    ToolError::Refused(text!("{} has no such container; it has: {}", pod, Redacted::join(&names, ", ")))
}

/// The folded lines, each with how often it came where that is more than once.
fn counted(lines: &[LogLine]) -> Redacted {
    let line = |line: &LogLine| match line.count {
        1 => line.text.clone(),
        count => text!("x{}: {}", count, line.text),
    };
    Redacted::join(&lines.iter().map(line).collect::<Vec<_>>(), "\n")
}

pub(super) async fn search_logs(reader: &Reader, ask: &Search) -> Result<Answer, ToolError> {
    let object = arguments::object(reader.redactor(), &ask.kind, Some(&ask.namespace), &ask.name)?;
    let pattern = pattern(&ask.pattern, ask.regex.unwrap_or(false))?;
    let Some(value) = reader.get(&object).await? else { return Err(near::not_found(reader, &object).await) };
    let (pods, more) = pods(reader, &object, value).await?;
    let mut all = Vec::new();
    for value in &pods {
        if let Some(pod) = json::reference(value) {
            all.extend(runs(&pod, value, None, None));
        }
    }
    let since = ask.since_minutes.map(|minutes| i64::from(minutes.max(1)) * 60);
    let read = stream::iter(all).map(|run| async move {
        let log = run.read(reader, SEARCHED_LINES, since).await;
        (run, log)
    });
    let logs: Vec<(Run, Result<String, ReadError>)> = read.buffered(AT_ONCE_MAX).collect().await;
    let shown_pattern = reader.redactor().redact(&ask.pattern).one_line().cut(80);
    let mut answer = Answer::new(text!("`{}` in {}", shown_pattern, object));
    let mut remarks = Vec::new();
    let (mut lines_read, mut found) = (0, 0);
    for (run, log) in &logs {
        let log = match log {
            Ok(log) => log,
            Err(why) => {
                remarks.push(text!("{} could not be read: {}", run.title(), why.reason()));
                continue;
            }
        };
        lines_read += log.lines().count();
        let hits = matching(log, &pattern, reader.redactor());
        let lines = fold::fold(&hits, reader.redactor());
        if lines.is_empty() {
            continue;
        }
        let count = hits.lines().count();
        found += count;
        if let Some(source) = run.source() {
            answer.quote_unshown(source, fold::joined(&lines));
        }
        answer.show_tail(text!("{}, {} lines", run.title(), count), counted(&lines));
    }
    let mut state = vec![text!("{} of {} lines of {} pods match", found, lines_read, pods.len())];
    state.extend(more.then(|| text!("only the first {} pods were read", PODS_MAX)));
    state.extend(remarks);
    answer.say("Searched".into(), &state);
    Ok(answer)
}

async fn pods(reader: &Reader, object: &ObjectRef, value: Value) -> Result<(Vec<Value>, bool), ToolError> {
    if object.kind == Kind::Pod {
        return Ok((vec![value], false));
    }
    let Some(labels) = selector(&value) else {
        return Err(ToolError::Refused(text!("a {} selects no pods", object.kind)));
    };
    let ask = Selector::labels(labels).at_most(PODS_MAX);
    let listed = reader.page(Kind::Pod, Some(object.namespace()), &ask).await?;
    Ok((listed.items, listed.more))
}

fn pattern(text: &str, is_regex: bool) -> Result<Regex, ToolError> {
    if text.is_empty() || text.chars().count() > PATTERN_MAX_CHARS {
        return Err(ToolError::Refused(text!("a pattern has 1 to {} characters", PATTERN_MAX_CHARS)));
    }
    let expression = if is_regex { text.to_owned() } else { regex::escape(text) };
    let built = RegexBuilder::new(&expression).case_insensitive(true).size_limit(PATTERN_MAX_BYTES).build();
    built.map_err(|_| ToolError::Refused("that is no regular expression (or too large a one)".into()))
}

/// The lines that match both as written and as shown: what was redacted cannot be found out by asking for it. Lines
/// inside a private key never match.
fn matching(log: &str, pattern: &Regex, redactor: &Redactor) -> String {
    let mut inside = false;
    let mut hits = String::new();
    for line in log.lines() {
        inside |= line.contains("-----BEGIN") && line.contains("PRIVATE KEY");
        let (_, text) = fold::stamped(line);
        if !inside && pattern.is_match(text) && pattern.is_match(redactor.redact(text).as_str()) {
            hits.push_str(line);
            hits.push('\n');
        }
        inside &= !line.contains("-----END");
    }
    hits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_finds_what_is_shown_and_nothing_that_was_redacted() {
        let log = "2026-03-24T16:20:00Z login password=hunter22 failed\n2026-03-24T16:20:01Z Timeout after 3 s\n\
                   -----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqh\n-----END PRIVATE KEY-----\n";
        let find = |text: &str, regex| matching(log, &pattern(text, regex).unwrap(), &Redactor::default());
        assert_eq!(find("timeout", false), "2026-03-24T16:20:01Z Timeout after 3 s\n");
        assert!(find("failed", false).contains("password="), "it is redacted when it is folded");
        assert_eq!(find("password=h.*2", true), "");
        assert_eq!(find("MIIE", false), "");
        assert_eq!(find("3 s", false).lines().count(), 1);
        assert!(pattern("(", true).is_err() && pattern("", false).is_err());
        assert!(pattern(r"(\w{900}){900}", true).is_err());
    }
}
