//! The reads behind the tools of `k8s-logs`.

use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use regex::{Regex, RegexBuilder};
use serde_json::Value;
use tokio::time::Instant;

use crate::mcp::answer::{Answer, ToolError};
use crate::mcp::arguments;
use crate::mcp::arguments::{OneLog, Search, path};
use crate::mcp::folded;
use crate::mcp::k8s_logs::hits::Hits;
use crate::mcp::k8s_logs::runs::{Got, Run, Span, runs};
use crate::mcp::near;
use crate::model::{Kind, Name, ObjectRef};
use crate::observe::ReadError;
use crate::observe::Reader;
use crate::observe::Selector;
use crate::observe::fold::{Fold, Folded};
use crate::observe::json;
use crate::observe::typed::workload::selector;
use crate::redact::Redacted;
use crate::text;

/// All logs of one call: below the 15 s after which the gate gives a tool up.
const READ_WITHIN: Duration = Duration::from_secs(12);
/// Runs of one pod that are read: more would leave each too little of the answer. Those in trouble come first.
const RUNS_MAX: usize = 12;
/// Pods that one search reads: with more the answer would not come in time.
const PODS_MAX: usize = 20;
/// Logs that are read at the same time.
const AT_ONCE_MAX: usize = 8;
/// What a pattern may compile to: a regular expression of nested counts can grow without bound.
const PATTERN_MAX_BYTES: usize = 1 << 20;
/// Logs of one search of which it is said that they could not be read, or not whole.
const REMARKS_MAX: usize = 8;

pub(super) async fn pod_logs(reader: &Reader, ask: &OneLog) -> Result<Answer, ToolError> {
    let pod = arguments::object(reader.redactor(), "Pod", Some(&ask.namespace), &ask.pod)?;
    let container = ask.container.as_deref().filter(|name| !name.is_empty()).map(arguments::container).transpose()?;
    let Some(value) = reader.get(&pod).await? else { return Err(near::not_found(reader, &pod).await) };
    let mut runs = runs(&pod, &value, container.as_ref(), ask.previous);
    if runs.is_empty() {
        return Err(no_container(&pod, &value));
    }
    let unread = runs.len().saturating_sub(RUNS_MAX);
    runs.truncate(RUNS_MAX);
    let tail_lines = ask.tail_lines;
    let span = Span { tail_lines, since_seconds: None, by: Instant::now() + READ_WITHIN };
    let logs = read_all(reader, runs, span, |_| |_: &str| true).await;
    let mut answer = Answer::new(path(&pod));
    if unread > 0 {
        let says = text!("{} more runs of containers, none in worse state, are not read: give `container`", unread);
        answer.say("Not read".into(), &[says]);
    }
    let mut error = None;
    let mut read = 0;
    for (run, log) in logs {
        let (folded, got) = match log {
            Ok(log) => log,
            Err(why) => {
                answer.say(run.title(), &[text!("could not be read: {}", why.reason())]);
                error = Some(why);
                continue;
            }
        };
        read += 1;
        if folded.groups.is_empty() {
            answer.say(run.title(), &["it wrote nothing".into()]);
            continue;
        }
        let part = if tail_lines.is_some() { ", its last" } else { "," };
        let title = text!("{}{} {}{}", run.title(), part, folded::heading(&folded), gap(&got));
        tell(&mut answer, &run, &folded, title);
    }
    match error {
        Some(error) if read == 0 => Err(error.into()),
        _ => Ok(answer),
    }
}

/// Each run with its log folded, or why it could not be read; `wanted` makes for each run what chooses its lines.
async fn read_all<W: FnMut(&str) -> bool>(
    reader: &Reader,
    runs: Vec<Run>,
    span: Span,
    wanted: impl Fn(&Run) -> W,
) -> Vec<(Run, Result<(Folded, Got), ReadError>)> {
    let read = stream::iter(runs.into_iter().enumerate()).map(|(place, run)| {
        let mut wanted = wanted(&run);
        async move {
            let mut fold = Fold::new(reader.redactor());
            let take = |line: &str| {
                if wanted(line) {
                    fold.push(line)
                }
            };
            let got = run.read(reader, span, take).await;
            (place, run, got.map(|got| (fold.finish(), got)))
        }
    });
    // As they end, so that a long log keeps no short one waiting.
    let mut read: Vec<_> = read.buffer_unordered(AT_ONCE_MAX).collect().await;
    read.sort_by_key(|(place, ..)| *place);
    read.into_iter().map(|(_, run, log)| (run, log)).collect()
}

/// A folded log as evidence, and as lines to show.
fn tell(answer: &mut Answer, run: &Run, folded: &Folded, title: Redacted) {
    if let Some(source) = run.source() {
        answer.quote_unshown(source, folded.joined());
    }
    answer.show_lines(title, folded::counted(folded));
}

/// What of a log was not read, in words.
fn gap(got: &Got) -> Redacted {
    let size = got.bytes >> 20;
    match got.gap {
        None => Redacted::default(),
        Some((from, Some(to))) => {
            text!("; too long to be read whole ({} MiB were): nothing between {} and {}", size, from, to)
        }
        Some((from, None)) => text!("; too long to be read whole ({} MiB were): nothing after {}", size, from),
    }
}

fn no_container(pod: &ObjectRef, value: &Value) -> ToolError {
    let specs = json::list(value, "/spec/initContainers").iter().chain(json::list(value, "/spec/containers"));
    let names: Vec<Redacted> =
        specs.filter_map(|spec| Name::parse(json::text(spec, "/name"))).map(|name| text!("{}", name)).collect();
    ToolError::Refused(text!("{} has no such container; it has: {}", pod, Redacted::join(&names, ", ")))
}

pub(super) async fn search_logs(reader: &Reader, ask: &Search) -> Result<Answer, ToolError> {
    let object = arguments::object(reader.redactor(), &ask.kind, Some(&ask.namespace), &ask.name)?;
    if !(object.kind.is_workload() || matches!(object.kind, Kind::Pod | Kind::ReplicaSet)) {
        return Err(ToolError::Refused(text!("kind: a {} is no workload, and no Pod", object.kind)));
    }
    let pattern = pattern(&ask.pattern, ask.regex.unwrap_or(false))?;
    let Some(value) = reader.get(&object).await? else { return Err(near::not_found(reader, &object).await) };
    let (pods, more) = pods(reader, &object, value).await?;
    let mut all = Vec::new();
    for value in &pods {
        if let Some(pod) = json::reference(value) {
            all.extend(runs(&pod, value, None, None));
        }
    }
    let since_seconds = ask.since_minutes.map(|minutes| i64::from(minutes) * 60);
    let span = Span { tail_lines: None, since_seconds, by: Instant::now() + READ_WITHIN };
    let hits = |_: &Run| {
        let mut hits = Hits::new(&pattern, reader.redactor());
        move |line: &str| hits.is_hit(line)
    };
    let logs = read_all(reader, all, span, hits).await;
    let shown_pattern = reader.redactor().redact(&ask.pattern).one_line().cut(80);
    let mut answer = Answer::new(text!("`{}` in {}", shown_pattern, object));
    let mut remarks = Vec::new();
    let (mut lines_read, mut found) = (0, 0);
    for (run, log) in &logs {
        let (folded, got) = match log {
            Ok(log) => log,
            Err(why) => {
                remarks.push(text!("{} could not be read: {}", run.title(), why.reason()));
                continue;
            }
        };
        lines_read += got.lines;
        remarks.extend(got.gap.map(|_| text!("{}{}", run.title(), gap(got))));
        found += folded.lines;
        if !folded.groups.is_empty() {
            tell(&mut answer, run, folded, text!("{}, {}", run.title(), folded::heading(folded)));
        }
    }
    let mut state = vec![text!("{} of {} lines of {} pods match", found, lines_read, pods.len())];
    state.extend(more.then(|| text!("only the first {} pods were read: search one Pod for others", PODS_MAX)));
    let unsaid = remarks.len().saturating_sub(REMARKS_MAX);
    state.extend(remarks.into_iter().take(REMARKS_MAX));
    state.extend((unsaid > 0).then(|| text!("({} more logs likewise)", unsaid)));
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
    if text.is_empty() {
        return Err(ToolError::Refused("pattern: it is empty".into()));
    }
    let expression = if is_regex { text.to_owned() } else { regex::escape(text) };
    let built = RegexBuilder::new(&expression).case_insensitive(true).size_limit(PATTERN_MAX_BYTES).build();
    built.map_err(|_| ToolError::Refused("pattern: that is no regular expression (or too large a one)".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_bounded() {
        assert!(pattern("(", true).is_err() && pattern("", false).is_err());
        assert!(pattern(r"(\w{900}){900}", true).is_err());
        assert!(pattern("timeout", false).unwrap().is_match("TimeOut"));
    }
}
