//! The parts of the card that say what is broken, what changed, the likely cause, and the proof.

use jiff::Timestamp;

use crate::clock;
use crate::model::scene::{Change, DiffLine};
use crate::model::{ASKED, Card, Certainty, Citation, Finding, IncidentState, InvestigationState, Origin, Part, Role};
use crate::model::{Report, Scene, Severity, Source};
use crate::redact::Redacted;
use crate::slack::render::Tone;
use crate::slack::render::escape;

/// Older changes are not what people ask for when something breaks now; they stay in the thread.
const RECENT_SECONDS: i64 = 24 * 3600;
/// As whom firstlook writes to the cluster (`metadata.managedFields`).
const FIELD_MANAGER: &str = "firstlook";
/// Quotes on the card; the rest is in the thread.
const QUOTES_MAX: usize = 3;
/// Differences of one change on the card; the rest is in the thread.
const DIFF_LINES_MAX: usize = 4;

/// The report, unless its incident has become another's since it was written.
fn report(card: &Card) -> Option<&Report> {
    card.report.as_ref().filter(|report| report.is_about(&card.incident.subject))
}

/// The story in one sentence: the report's, else the strongest finding, else the alert's own words.
pub(super) fn story(card: &Card) -> String {
    let headline = report(card).map(|report| report.headline.as_str()).filter(|text| !text.is_empty());
    if let Some(headline) = headline {
        return escape::bare(headline).to_owned();
    }
    let subject = subject_words(card);
    if let Some(finding) = found(card).first().filter(|finding| finding.role <= Role::Symptom) {
        let brief = if finding.brief.is_empty() { &finding.says } else { &finding.brief };
        return format!("{subject}: {}", escape::bare(brief.as_str()));
    }
    let says = card.heard.says.as_ref().map(|says| says.as_str()).filter(|says| !says.is_empty());
    match (says, card.heard.alert_names.first()) {
        (Some(says), _) => format!("{subject}: {}", escape::bare(says)),
        (None, Some(alert)) => format!("{subject}: {}", alert.as_str()),
        (None, None) => format!("{subject} is in trouble"),
    }
}

/// `checkout in shop`, `Node ip-10-0-3-7`.
pub(super) fn subject_words(card: &Card) -> String {
    let subject = &card.incident.subject;
    let name = escape::short(subject.name(), 60);
    match &subject.namespace {
        Some(namespace) if subject.kind.is_workload() => {
            format!("{name} in {}", escape::short(namespace.as_str(), 40))
        }
        Some(namespace) => format!("{} {name} in {}", subject.kind, escape::short(namespace.as_str(), 40)),
        None => format!("{} {name}", subject.kind),
    }
}

/// Where, how bad, since when, and what was heard.
pub(super) fn line(card: &Card, now: Timestamp, tone: Tone) -> String {
    let incident = &card.incident;
    let (severity, reasoned) = severity(card);
    let mut parts =
        vec![format!("cluster `{}`", escape::short(incident.cluster.as_str(), 60)), escape::object(&incident.subject)];
    if tone == Tone::Trouble || incident.severity > Severity::None {
        parts.push(severity);
    }
    if let Some(service) = card.scene.as_deref().filter(|_| !reasoned).and_then(endpoints) {
        parts.push(service);
    }
    let (end, word) = match incident.state {
        IncidentState::Open => (now, "since"),
        IncidentState::Over { at, .. } => (at, "from"),
    };
    // What is healthy now is not healthy since then.
    let word = match card.heard.alerts {
        _ if incident.fault == ASKED => "asked",
        _ if incident.severity > Severity::None => word,
        0 => "heard",
        _ => "alert since",
    };
    if tone == Tone::Trouble {
        let lasted = clock::words(end.as_second() - incident.began_at.as_second());
        parts.push(format!("{word} {} ({lasted})", escape::time(incident.began_at, now)));
    }
    let heard = &card.heard;
    let mut signals = Vec::new();
    if heard.alerts > 0 {
        let firing = match heard.alerts_firing {
            0 => " (resolved)".to_owned(),
            firing if firing < heard.alerts => format!(" ({firing} still firing)"),
            _ => String::new(),
        };
        signals.push(format!("{}{firing}", escape::counted(heard.alerts, "alert")));
    }
    signals.extend((heard.warnings > 0).then(|| escape::counted(heard.warnings, "event")));
    signals.extend((heard.rollouts > 0).then(|| escape::counted(heard.rollouts, "rollout")));
    if !signals.is_empty() {
        parts.push(signals.join(", "));
    }
    parts.join(" · ")
}

/// How bad it is, with the reason where an alert says otherwise; whether there is one.
fn severity(card: &Card) -> (String, bool) {
    let own = match card.incident.severity {
        _ if card.incident.fault == ASKED => return ("no trouble was heard of".to_owned(), false),
        // What an alert once said of it is no news where its subject is well.
        Severity::None if card.incident.healthy_since.is_some() => return ("healthy now".to_owned(), false),
        severity => severity.as_str(),
    };
    let said = card.incident.alert_severity.as_ref().filter(|said| !said.is_empty());
    let Some(said) = said.filter(|said| !said.as_str().eq_ignore_ascii_case(own)) else {
        return (own.to_owned(), false);
    };
    let said = escape::prose(&escape::cut(said.as_str(), 20));
    // Whose reason it is must be plain: the alert gives none.
    match card.incident.severity_why.as_str() {
        "" => (format!("{own} (alert says {said})"), false),
        why => (format!("{own}: {} (alert says {said})", escape::prose(&escape::cut(why, 80))), true),
    }
}

fn endpoints(scene: &Scene) -> Option<String> {
    let short = scene.services.items().iter().find(|service| service.not_ready_endpoints > 0)?;
    let total = short.ready_endpoints + short.not_ready_endpoints;
    Some(format!("{} of {} ready", short.ready_endpoints, escape::counted(total, "endpoint")))
}

/// The recent changes, each on one line; a sentence when there were none; nothing while they are not known.
pub(super) fn changed(card: &Card, now: Timestamp) -> Option<String> {
    let scene = card.scene.as_ref()?;
    if scene.not_found.is_some() {
        return None;
    }
    let Part::Known(changes) = &scene.changes else {
        return None;
    };
    let began = card.incident.began_at.as_second();
    let named = card.findings.iter().any(|finding| finding.role == Role::Change);
    // What firstlook itself changed stands with the step that did it.
    let own = |change: &Change| change.by.as_ref().is_some_and(|by| by.as_str() == FIELD_MANAGER);
    let recent = |change: &&Change| began - change.changed_at.as_second() <= RECENT_SECONDS && !own(change);
    let mut shown: Vec<&Change> = changes.iter().filter(recent).take(2).collect();
    if shown.is_empty() && named {
        shown.extend(changes.first());
    }
    if shown.is_empty() {
        let whom = escape::path(&scene.subject);
        let before = match changes.first() {
            Some(last) => {
                format!("; the last change was {} earlier", clock::words(began - last.changed_at.as_second()))
            }
            None => String::new(),
        };
        return Some(format!("*What changed*  nothing on {whom} in the 24 h before{before}"));
    }
    let lines: Vec<String> = shown.iter().map(|change| change_line(change, card, now)).collect();
    Some(format!("*What changed*  {}", lines.join("\n")))
}

/// When, by whom and what, as far as the card has room.
pub(super) fn change_line(change: &Change, card: &Card, now: Timestamp) -> String {
    change_text(change, card, &format!(", {}", escape::time(change.changed_at, now)))
}

/// The same with `when` in the place of the time.
pub(super) fn change_text(change: &Change, card: &Card, when: &str) -> String {
    let mut what = match change.to_revision {
        Some(revision) => format!("revision {revision}"),
        None => escape::object(&change.object),
    };
    if change.to_revision.is_some() && change.object != card.incident.subject {
        what = format!("{} {what}", escape::object(&change.object));
    }
    what.push_str(when);
    if let Some(by) = change.by.as_ref().filter(|by| !by.is_empty()) {
        what.push_str(&format!(", by {}", escape::code_cut(by.as_str(), 40)));
    }
    let several = change.lines.iter().any(|line| line.container != change.lines[0].container);
    let mut lines: Vec<String> =
        change.lines.iter().take(DIFF_LINES_MAX).map(|line| difference(line, several)).collect();
    if change.lines.len() > DIFF_LINES_MAX {
        lines.push(format!("{} more in the thread", change.lines.len() - DIFF_LINES_MAX));
    }
    if lines.is_empty() { what } else { format!("{what}:  {}", lines.join("  ·  ")) }
}

/// One difference: image `a` → `b`, env + `DB_POOL=200`, nodeSelector disk − `ssd`.
fn difference(line: &DiffLine, with_container: bool) -> String {
    let value = |text: &str| escape::code_cut(text, 80);
    let container = match &line.container {
        Some(container) if with_container => format!("{} ", value(container.as_str())),
        _ => String::new(),
    };
    let field = escape::cut(line.field.as_str(), 60);
    let shown = match (field.strip_prefix("env "), &line.before, &line.after) {
        (Some(name), None, Some(after)) => format!("env + {}", value(&format!("{name}={}", after.as_str()))),
        (Some(name), Some(_), None) => format!("env − {}", value(name)),
        (_, None, Some(after)) => format!("{} + {}", escape::prose(&field), value(after.as_str())),
        (_, Some(before), None) => format!("{} − {}", escape::prose(&field), value(before.as_str())),
        (_, before, after) => {
            let side = |text: &Option<Redacted>| value(text.as_ref().map_or("", |text| text.as_str()));
            format!("{} {} → {}", escape::prose(&field), side(before), side(after))
        }
    };
    format!("{container}{shown}")
}

/// The findings in the order in which they help: cause, mechanism, symptom, then what is ruled out.
fn found(card: &Card) -> Vec<&Finding> {
    let mut findings: Vec<&Finding> = card.findings.iter().filter(|finding| !finding.says.is_empty()).collect();
    findings.sort_by_key(|finding| match finding.role {
        Role::Cause => 0,
        Role::Mechanism => 1,
        Role::Symptom => 2,
        Role::Change => 3,
        Role::RuledOut => 4,
        Role::Context => 5,
    });
    findings
}

/// What the rules found, as far as the report does not say it already.
pub(super) fn findings(card: &Card) -> Option<String> {
    let shown_max = match &card.report {
        None => 3,
        Some(report) if report.certainty == Certainty::Unknown => 3,
        Some(report) if report.origin == Origin::Findings => 2,
        Some(_) => return None,
    };
    let story = story(card);
    // `What changed` says it above, in full.
    let changes_shown = card.scene.as_ref().is_some_and(|scene| !scene.changes.items().is_empty());
    let said = |finding: &&Finding| {
        let says = escape::bare(finding.says.as_str());
        let report = card.report.as_ref();
        story.contains(says)
            || report.is_some_and(|report| {
                report.cause.as_str().contains(says)
                    || report.ruled_out.iter().any(|out| escape::bare(out.as_str()) == says)
            })
    };
    let lines: Vec<String> = found(card)
        .into_iter()
        .filter(|finding| !(said(finding) || card.report.is_some() && finding.role == Role::RuledOut))
        .filter(|finding| !(finding.role == Role::Change && changes_shown))
        .take(shown_max)
        .map(|finding| escape::prose(&escape::cut(finding.says.as_str(), 300)))
        .collect();
    (!lines.is_empty()).then(|| format!("*Found*  {}", lines.join("\n")))
}

/// Cause, proof and what was ruled out, each on its line.
pub(super) fn cause(card: &Card, tone: Tone) -> Vec<String> {
    let Some(report) = report(card) else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    let cause = escape::prose(&escape::cut(report.cause.as_str(), 700));
    // What was done about it and did not help speaks against it.
    let in_doubt = report.origin == Origin::Model && card.incident.investigation.is_in_doubt();
    let certainty = if in_doubt { report.certainty.min(Certainty::Possible) } else { report.certainty };
    match certainty {
        _ if cause.is_empty() => {}
        Certainty::Unknown if tone != Tone::Trouble => {}
        Certainty::Proved => lines.push(format!("*Cause*  {cause}")),
        Certainty::Likely => lines.push(format!("*Likely cause*  {cause}")),
        Certainty::Possible => lines.push(format!("*Possible cause*  {cause}")),
        Certainty::Unknown => lines.push(format!("*Cause unknown*  {cause}")),
    }
    let ruled_out: Vec<String> = report
        .ruled_out
        .iter()
        .take(4)
        .map(|out| escape::prose(escape::bare(&escape::cut(out.as_str(), 160))))
        .collect();
    let ruled_out = ruled_out.join("; ");
    let unknown = report.certainty == Certainty::Unknown && cause.is_empty() && !is_looking(card);
    let proof: Vec<String> = report.citations.iter().take(QUOTES_MAX).map(quote).collect();
    if !proof.is_empty() {
        let label = if certainty <= Certainty::Possible { "Seen" } else { "Proof" };
        lines.push(format!("*{label}*  {}", proof.join(" · ")));
    }
    match (ruled_out.is_empty(), unknown) {
        (_, true) if tone != Tone::Trouble => {}
        (true, true) => lines.push("*Cause unknown*".to_owned()),
        (false, true) => lines.push(format!("*Cause unknown*  ruled out: {ruled_out}")),
        (false, false) => lines.push(format!("*Ruled out*  {ruled_out}")),
        (true, false) => {}
    }
    lines
}

/// What the newest alert says of itself, quoted, while nothing better is known; the first line may say it already.
pub(super) fn alert_says(card: &Card) -> Option<String> {
    let (name, text) = card.heard.alert.as_ref()?;
    let known = card.report.as_ref().is_some_and(|report| report.certainty >= Certainty::Likely);
    let said = story(card).contains(escape::bare(text.as_str()));
    (!known && !said).then(|| alert_quote(name, text, 200))
}

/// An alert's own words in code style, with its name.
pub(super) fn alert_quote(name: &Redacted, text: &Redacted, max_chars: usize) -> String {
    format!(
        "*Alert says*  {} ({})",
        escape::code_cut(text.as_str(), max_chars),
        escape::prose(&escape::cut(name.as_str(), 80))
    )
}

/// Whether a better answer may still come.
pub(super) fn is_looking(card: &Card) -> bool {
    card.incident.state == IncidentState::Open
        && card.parked.iter().all(|stage| stage != "investigate")
        && matches!(card.incident.investigation.state, InvestigationState::Waiting | InvestigationState::Running)
}

/// What was the last incident like this one, and how it ended; how many there were.
pub(super) fn seen_before(card: &Card) -> Option<String> {
    let last = card.past.first()?;
    let ago = clock::words(card.incident.began_at.as_second() - last.incident.began_at.as_second());
    let place = match last.incident.subject == card.incident.subject {
        true => String::new(),
        false => format!(" on {}", escape::object(&last.incident.subject)),
    };
    let headline = last.report.as_ref().map(|report| escape::bare(report.headline.as_str()));
    let story = headline.map(|story| format!(": {}", escape::prose(&escape::cut(story, 160)))).unwrap_or_default();
    let more = match card.past.len() {
        1 => String::new(),
        count => format!(" ({} more like it)", count - 1),
    };
    Some(format!("*Seen before*  {ago} ago{place}{story}; {}{more}", escape::prose(last.ended().as_str())))
}

/// A quote in code style, with where it stands.
pub(super) fn quote(citation: &Citation) -> String {
    let quote = escape::code_cut(citation.quote.as_str(), 140);
    match &citation.source {
        Some(source) => format!("{quote} ({})", place(source)),
        None => quote,
    }
}

fn place(source: &Source) -> String {
    match source {
        Source::Object { object } => format!("{} {}", object.kind, escape::name(&object.name)),
        Source::Event { object, reason } => {
            format!("event {} on {}", escape::code_cut(reason.as_str(), 40), escape::name(&object.name))
        }
        Source::Log { pod, previous, .. } => {
            let run = if *previous { ", its run before" } else { "" };
            format!("log of {}{run}", escape::name(pod))
        }
        Source::Metric { query } => format!("metric {}", escape::code_cut(query.as_str(), 60)),
        Source::Query { server, query } => {
            format!("{} {}", escape::prose(server.as_str()), escape::code_cut(query.as_str(), 60))
        }
        Source::Rollout { object } => format!("revisions of {}", escape::name(&object.name)),
        Source::Summary => "summary".to_owned(),
    }
}

/// The parts of the scene that could not be read, with why. What has not been read yet is left out.
pub(super) fn unread(card: &Card) -> Option<String> {
    let scene = card.scene.as_ref().filter(|scene| scene.not_found.is_none())?;
    let not_yet = Part::<()>::default();
    let parts = [
        ("the workload", scene.workload.missing()),
        ("what changed", scene.changes.missing()),
        ("pods", scene.pods.missing()),
        ("logs", scene.logs.missing()),
        ("events", scene.events.missing()),
        ("nodes", scene.nodes.missing()),
    ];
    let mut missing: Vec<(&str, Vec<&str>)> = Vec::new();
    for (what, why) in parts {
        let Some(why) = why.filter(|why| Some(*why) != not_yet.missing()) else {
            continue;
        };
        match missing.iter_mut().find(|(known, _)| *known == why.as_str()) {
            Some((_, whats)) => whats.push(what),
            None => missing.push((why.as_str(), vec![what])),
        }
    }
    let said: Vec<String> = missing
        .iter()
        .take(3)
        .map(|(why, whats)| format!("{} ({})", whats.join(", "), escape::prose(&escape::cut(why, 120))))
        .collect();
    (!said.is_empty()).then(|| format!("Could not read {}", said.join("; ")))
}
