//! The read behind the tool of `loki`.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::clock::Clock;
use crate::mcp::answer::{Answer, ToolError};
use crate::mcp::arguments;
use crate::mcp::arguments::QueryLogs;
use crate::mcp::folded;
use crate::mcp::k8s_metrics;
use crate::mcp::k8s_metrics::Range;
use crate::model::{Name, Source};
use crate::observe::Loki;
use crate::observe::answers::Labels;
use crate::observe::fold::Fold;
use crate::observe::loki::Lines;
use crate::redact::{Redacted, Redactor};
use crate::text;

/// Values of one label, and pods, that are named.
const NAMED_MAX: usize = 12;
/// What Loki adds by itself: it tells streams apart that are one log.
const ADDED: [&str; 3] = ["detected_level", "__error__", "__error_details__"];

pub(super) async fn query_logs(server: &Loki, clock: &Clock, ask: &QueryLogs) -> Result<Answer, ToolError> {
    let namespace = arguments::namespace(&ask.namespace)?;
    k8s_metrics::is_said(&ask.query)?;
    let query = server.hold(&ask.query, namespace.name()).map_err(ToolError::Refused)?;
    let redactor = server.redactor();
    let asked = redactor.redact(&ask.query).one_line();
    let span = k8s_metrics::span(clock.now(), ask.minutes, ask.minutes_ago)?;
    let mut answer = Answer::new(text!("{} in {} from {} to {}", asked, namespace, span.start, span.end));
    if !is_of_lines(&ask.query) {
        let answered = server.course(&query, span.start, span.end, span.step_seconds).await?;
        let line = |series: &_| k8s_metrics::course(series, &answered.common, Range::from(span), redactor);
        k8s_metrics::tell(&mut answer, &answered, &asked, Some(&namespace), redactor, line);
        return Ok(answer);
    }
    let found = server.lines(&query, span.start, span.end).await?;
    if found.lines.is_empty() {
        let mut says = vec![text!("no line matches between {} and {}", span.start, span.end)];
        says.push(match server.labels(namespace.name(), span.start, span.end).await {
            Ok(labels) => known(&labels, redactor),
            Err(error) => text!("which labels there are could not be read: {}", error.reason()),
        });
        answer.say("Nothing".into(), &says);
        return Ok(answer);
    }
    let mut fold = Fold::new(redactor);
    found.lines.iter().for_each(|line| fold.push_at(&line.at.to_string(), &line.text));
    let folded = fold.finish();
    answer.quote_unshown(source(&found, namespace.name(), &asked), folded.joined());
    answer.say("Streams".into(), &streams(&found, redactor));
    answer.show_lines(folded::heading(&folded), folded::counted(&folded));
    Ok(answer)
}

/// Whether a query asks for lines: those of metrics begin with the name of a function.
fn is_of_lines(query: &str) -> bool {
    query.trim_start_matches(|c: char| c.is_whitespace() || c == '(').starts_with('{')
}

/// One container's log where all lines are of one, else the query.
fn source(found: &Lines, namespace: &str, asked: &Redacted) -> Source {
    let one = |label: &str| {
        let mut values = found.streams.iter().map(|labels| labels.get(label));
        let first = values.next().flatten()?;
        values.all(|other| other == Some(first)).then(|| Name::parse(first)).flatten()
    };
    match (Name::parse(namespace), one("pod"), one("container")) {
        (Some(namespace), Some(pod), Some(container)) => Source::Log { namespace, pod, container, previous: false },
        _ => Source::Query { server: "Loki".into(), query: asked.clone() },
    }
}

/// What all streams share, how many lines each pod (or else each stream) has, and what could not be told.
fn streams(found: &Lines, redactor: &Redactor) -> Vec<Redacted> {
    let mut common: Labels = found.streams.first().cloned().unwrap_or_default();
    common.retain(|name, value| found.streams.iter().all(|labels| labels.get(name) == Some(value)));
    let shown = |labels: &Labels| {
        let without: Labels = labels
            .iter()
            .filter(|(name, _)| ADDED.contains(&name.as_str()))
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        redactor.redact(&crate::observe::answers::written(labels, &without)).one_line().cut(300)
    };
    let mut says = vec![text!("all {}", shown(&common))];
    let mut counts: BTreeMap<Labels, (u32, Option<Timestamp>)> = BTreeMap::new();
    for line in &found.lines {
        let mut own = found.streams.get(line.stream).cloned().unwrap_or_default();
        own.retain(|name, _| !common.contains_key(name) && !ADDED.contains(&name.as_str()));
        let count = counts.entry(own).or_default();
        *count = (count.0 + 1, Some(line.at));
    }
    if counts.len() > 1 {
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        let all = counts.len();
        for (labels, (count, last)) in counts.into_iter().take(NAMED_MAX) {
            let last = last.map_or(Redacted::default(), |at| text!(", the last at {}", folded::time(at, None)));
            says.push(text!("{} lines of {}{}", count, shown(&labels), last));
        }
        says.extend((all > NAMED_MAX).then(|| text!("({} more streams)", all - NAMED_MAX)));
    }
    if found.streams.iter().any(|labels| labels.contains_key("__error__")) {
        says.push("some lines are not of the format that the query parses: they carry __error__".into());
    }
    if found.more {
        let first = found.lines.first().map_or(Redacted::default(), |line| text!(" {}", line.at));
        says.push(text!(
            "only the last {} lines; there may be more before{}: narrow by |= or time",
            found.lines.len(),
            first
        ));
    }
    says
}

/// Which labels the namespace's streams have.
fn known(labels: &BTreeMap<String, Vec<String>>, redactor: &Redactor) -> Redacted {
    if labels.is_empty() {
        return "the namespace has no streams in this time".into();
    }
    let one = |(name, values): (&String, &Vec<String>)| {
        let more = if values.len() > NAMED_MAX { ", ..." } else { "" };
        format!("{name}=({}{more})", values.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", "))
    };
    let all: Vec<String> = labels.iter().map(one).collect();
    text!("its streams have {}", redactor.redact(&all.join(" ")).one_line().cut(1_500))
}
