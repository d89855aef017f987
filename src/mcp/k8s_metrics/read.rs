//! The reads behind the tools of `k8s-metrics`.

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};

use crate::clock::Clock;
use crate::clock::words;
use crate::mcp::answer::{Answer, ToolError};
use crate::mcp::arguments;
use crate::mcp::arguments::{Find, MINUTES, MaybeNamespace, Query, QueryRange};
use crate::mcp::k8s_metrics::lines;
use crate::mcp::k8s_metrics::lines::Range;
use crate::mcp::reach::Reach;
use crate::model::{ObjectRef, Source};
use crate::observe::Prometheus;
use crate::observe::answers::{Answered, Series};
use crate::observe::prometheus::{RuleAlert, Rules};
use crate::observe::queries::is_cluster_wide;
use crate::redact::{Redacted, Redactor};
use crate::text;

/// Samples of one course, and the shortest distance between two, in seconds: usual scrape intervals are no shorter.
const SAMPLES_MAX: u32 = 120;
const STEP_MIN_SECONDS: u32 = 15;
/// Lines that are shown; the rest is counted.
const SHOWN_MAX: usize = 30;
/// Names of rules that raise nothing: kubernetes-mixin alone has 100, of which these tell that it is there.
const INACTIVE_MAX: usize = 20;
/// Names that are shown, and those whose meaning is asked for.
const NAMES_MAX: usize = 60;
const EXPLAINED_MAX: usize = 12;
/// What has had no sample for this long is no longer of interest, in minutes.
const NAMED_WITHIN_MINUTES: i64 = 60;

pub(super) async fn query_metrics(
    server: &Prometheus,
    clock: &Clock,
    ask: &Query,
    reach: &Reach,
) -> Result<Answer, ToolError> {
    let namespace = arguments::maybe_namespace(ask.namespace.as_deref())?;
    let query = held(server, &ask.query, namespace.as_ref(), reach)?;
    let at = ago(clock.now(), ask.minutes_ago)?;
    let answered = server.query(&query, at).await?;
    let redactor = server.redactor();
    let asked = redactor.redact(&ask.query).one_line();
    let mut answer = Answer::new(text!("{} at {}", asked, at));
    let line = |series: &Series| lines::value(series, &answered.common, redactor);
    tell(&mut answer, &answered, &asked, namespace.as_ref(), redactor, line);
    Ok(answer)
}

pub(super) async fn query_metrics_range(
    server: &Prometheus,
    clock: &Clock,
    ask: &QueryRange,
    reach: &Reach,
) -> Result<Answer, ToolError> {
    let namespace = arguments::maybe_namespace(ask.namespace.as_deref())?;
    let query = held(server, &ask.query, namespace.as_ref(), reach)?;
    let span = span(clock.now(), ask.minutes, ask.minutes_ago)?;
    let Span { start, end, step_seconds } = span;
    let answered = server.query_range(&query, start, end, step_seconds).await?;
    let redactor = server.redactor();
    let asked = redactor.redact(&ask.query).one_line();
    let mut answer = Answer::new(text!("{} from {} to {}, a sample each {} s", asked, start, end, step_seconds));
    let line = |series: &Series| lines::course(series, &answered.common, span.into(), redactor);
    tell(&mut answer, &answered, &asked, namespace.as_ref(), redactor, line);
    Ok(answer)
}

/// A range of time, and how far two samples are apart.
#[derive(Clone, Copy)]
pub(in crate::mcp) struct Span {
    pub(in crate::mcp) start: Timestamp,
    pub(in crate::mcp) end: Timestamp,
    pub(in crate::mcp) step_seconds: u32,
}

impl From<Span> for Range {
    fn from(span: Span) -> Self {
        let (start, end) = (span.start.as_second() as f64, span.end.as_second() as f64);
        Range { start, end, step: f64::from(span.step_seconds) }
    }
}

/// The range that arguments name.
pub(in crate::mcp) fn span(now: Timestamp, minutes: Option<u32>, minutes_ago: Option<u32>) -> Result<Span, ToolError> {
    let minutes = minutes.unwrap_or(MINUTES);
    let end = ago(now, minutes_ago)?;
    let start = ago(end, Some(minutes))?;
    Ok(Span { start, end, step_seconds: (minutes * 60).div_ceil(SAMPLES_MAX).max(STEP_MIN_SECONDS) })
}

/// Refuses a query that asks for nothing.
pub(in crate::mcp) fn is_said(query: &str) -> Result<(), ToolError> {
    if query.trim().is_empty() { Err(ToolError::Refused("query: it is empty".into())) } else { Ok(()) }
}

/// The query as it may be asked.
fn held(server: &Prometheus, query: &str, namespace: Option<&ObjectRef>, reach: &Reach) -> Result<String, ToolError> {
    is_said(query)?;
    server.hold(query, namespace.map(ObjectRef::name), reach.cluster).map_err(ToolError::Refused)
}

fn ago(from: Timestamp, minutes: Option<u32>) -> Result<Timestamp, ToolError> {
    let back = SignedDuration::from_mins(i64::from(minutes.unwrap_or(0)));
    from.checked_sub(back).map_err(|_| ToolError::Refused("there is no such time".into()))
}

/// Series as lines, and the samples of those that are shown as what can be quoted.
pub(in crate::mcp) fn tell(
    answer: &mut Answer,
    answered: &Answered,
    asked: &Redacted,
    namespace: Option<&ObjectRef>,
    redactor: &Redactor,
    line: impl Fn(&Series) -> Redacted,
) {
    let source = Source::Metric { query: asked.clone() };
    if let Some(scalar) = &answered.scalar {
        return answer.quote("Value".into(), source, redactor.redact(scalar));
    }
    if answered.total == 0 {
        let nowhere = "of nodes and the cluster (give `namespace` to read one)".into();
        let of = namespace.map_or(nowhere, |namespace| text!("of {}", namespace));
        let says = text!("no series {} matches; find_metrics tells which metrics there are", of);
        return answer.say("Nothing".into(), &[says]);
    }
    let shown = &answered.series;
    let quoted: Vec<Redacted> = shown.iter().map(|series| lines::quoted(series, redactor)).collect();
    answer.quote_unshown(source, Redacted::join(&quoted, "\n"));
    let mut heading = text!("{} series", answered.total);
    if !answered.common.is_empty() {
        let common = crate::observe::answers::written(&answered.common, &Default::default());
        let all = if answered.total > 1 { "all " } else { "" };
        heading = text!("{}, {}{}", heading, all, redactor.redact(&common).one_line().cut(300));
    }
    // Where there is no room for all, those go that tell least.
    let mut all: Vec<(u8, Redacted)> = shown.iter().map(|series| (series.track.weight() as u8, line(series))).collect();
    let more = answered.total - shown.len();
    if more > 0 {
        let says = "these tell most: narrow the labels, or ask for topk(10, ...) or sum by (...) (...)";
        all.push((u8::MAX, text!("({} more series not shown, {})", more, says)));
    }
    let warned = |said: &String| text!("Prometheus warns: {}", redactor.redact(said).one_line().cut(200));
    all.extend(answered.warnings.iter().map(|said| (u8::MAX, warned(said))));
    answer.show_lines(heading, all);
}

pub(super) async fn list_alerts(
    server: &Prometheus,
    clock: &Clock,
    ask: &MaybeNamespace,
    reach: &Reach,
) -> Result<Answer, ToolError> {
    let namespace = arguments::maybe_namespace(ask.namespace.as_deref())?;
    let Rules { raised: mut alerts, mut failing, mut inactive } = server.rules().await?;
    // Those of other namespaces are not this incident's to read, and those of none speak of the cluster.
    let own = |alert: &RuleAlert| match &alert.namespace {
        None => reach.cluster,
        Some(of) => Some(of.as_str()) == namespace.as_ref().map(ObjectRef::name),
    };
    alerts.retain(own);
    if !reach.cluster {
        failing.clear();
        inactive.clear();
    }
    alerts.sort_by(|a, b| b.firing.cmp(&a.firing).then(b.active_at.cmp(&a.active_at)));
    let none = if reach.cluster { " and of none" } else { "" };
    let where_ = namespace.as_ref().map_or("of no namespace".into(), |namespace| text!("of {}{}", namespace, none));
    let mut answer = Answer::new(text!("alerts {}", where_));
    let now = clock.now();
    let mut lines: Vec<Redacted> = alerts.iter().take(SHOWN_MAX).map(|alert| line(alert, now)).collect();
    if alerts.is_empty() {
        lines.push("none fires and none is pending".into());
    }
    for alert in alerts.iter().take(SHOWN_MAX) {
        let source = Source::Metric { query: alert.query.clone() };
        answer.quote_unshown(source, text!("{} => {}\n{}", alert.query, alert.value, alert.says));
    }
    if alerts.len() > SHOWN_MAX {
        lines.push(text!("({} more not shown)", alerts.len() - SHOWN_MAX));
    }
    if !failing.is_empty() {
        let few: Vec<Redacted> = failing.iter().take(3).map(|(name, error)| text!("{}: {}", name, error)).collect();
        lines.push(text!("{} rules cannot be evaluated, such as {}", failing.len(), Redacted::join(&few, "; ")));
    }
    lines.extend(quiet(&inactive));
    if alerts.is_empty() {
        answer.say("Alerts".into(), &lines);
        return Ok(answer);
    }
    let firing = alerts.iter().filter(|alert| alert.firing).count();
    answer.show(text!("{} firing, {} pending", firing, alerts.len() - firing), Redacted::join(&lines, "\n"));
    Ok(answer)
}

/// The rules that raise nothing: that one is there and silent tells something.
fn quiet(inactive: &[Redacted]) -> Option<Redacted> {
    let more = inactive.len().saturating_sub(INACTIVE_MAX);
    let names = Redacted::join(inactive.iter().take(INACTIVE_MAX), ", ");
    match more {
        0 if inactive.is_empty() => None,
        0 => Some(text!("{} rules raise nothing: {}", inactive.len(), names)),
        more => Some(text!("{} rules raise nothing: {} ({} more not shown)", inactive.len(), names, more)),
    }
}

fn line(alert: &RuleAlert, now: Timestamp) -> Redacted {
    let since = alert.active_at.map_or(Redacted::default(), |at| {
        // Digits and a unit: nothing to redact.
        text!(" for {}", Redactor::default().redact(&words(now.as_second() - at.as_second())))
    });
    let redactor = Redactor::default();
    let labels: Vec<Redacted> =
        alert.labels.iter().map(|(name, value)| text!("{}={}", redactor.redact(name).cut(60), value)).collect();
    text!(
        "{} {}{} {{{}}} {} | rule: {} | value {}",
        if alert.firing { "firing" } else { "pending" },
        alert.name,
        since,
        Redacted::join(&labels, ", "),
        alert.says,
        alert.query,
        alert.value
    )
}

pub(super) async fn find_metrics(
    server: &Prometheus,
    clock: &Clock,
    ask: &Find,
    reach: &Reach,
) -> Result<Answer, ToolError> {
    let namespace = arguments::maybe_namespace(ask.namespace.as_deref())?;
    let wanted = ask.text.trim().to_ascii_lowercase();
    if wanted.is_empty() || wanted.chars().count() > 100 {
        return Err(ToolError::Refused("give a part of a metric's name, such as `memory`".into()));
    }
    let now = clock.now();
    let start = now.checked_sub(SignedDuration::from_mins(NAMED_WITHIN_MINUTES)).unwrap_or(now);
    let names = server.names(namespace.as_ref().map(ObjectRef::name), reach.cluster, start, now).await?;
    let all = names.len();
    let mut found: Vec<String> = names.into_iter().filter(|name| name.to_ascii_lowercase().contains(&wanted)).collect();
    // The shortest are the plainest; those of the namespace go before those of the cluster.
    found.sort_by_key(|name| (is_cluster_wide(name), name.len()));
    let redactor = server.redactor();
    let mut answer = Answer::new(text!("metrics like `{}`", redactor.redact(&wanted).one_line()));
    let explained = join_all(found.iter().take(EXPLAINED_MAX).map(|name| server.about(name))).await;
    let mut lines: Vec<Redacted> = Vec::new();
    for (place, name) in found.iter().take(NAMES_MAX).enumerate() {
        let name = redactor.redact(name).one_line().cut(200);
        match explained.get(place) {
            Some(Ok(about)) if !about.kind.is_empty() => lines.push(text!("{} ({}): {}", name, about.kind, about.help)),
            _ => lines.push(name),
        }
    }
    if found.is_empty() {
        lines.push(text!("none of {} metrics has it in its name", all));
    }
    if found.len() > NAMES_MAX {
        lines.push(text!("({} more not shown: give more of the name)", found.len() - NAMES_MAX));
    }
    answer.say(text!("{} metrics", found.len()), &lines);
    Ok(answer)
}
