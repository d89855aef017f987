//! The card's thread: timeline, whole differences, every quote, the reasoning, and one reply for each action.

use jiff::Timestamp;
use slack_morphism::prelude::*;

use crate::model::{ASKED, Approval, ApprovalState, Card, Citation, IncidentState, Report, Review, Verification};
use crate::slack::render::BLOCKS_MAX;
use crate::slack::render::Message;
use crate::slack::render::Options;
use crate::slack::render::SECTION_MAX;
use crate::slack::render::buttons;
use crate::slack::render::effect;
use crate::slack::render::escape;
use crate::slack::render::facts;
use crate::slack::render::push_lines;
use crate::slack::render::section;
use crate::slack::render::states;
use crate::slack::render::steps;

/// Lines of the timeline; more would hide the others.
const TIMELINE_MAX: usize = 30;
/// Sentences of why signals belong together.
const WHY_MAX: usize = 15;
/// Quotes in the thread.
const QUOTES_MAX: usize = 20;
/// Objects of an arrival list.
const ARRIVAL_MAX: usize = 100;
/// Lines of a difference in the thread.
const DIFF_LINES_MAX: usize = 100;

/// The replies in the card's thread by key: `details`, and `outcome-<approval>` for each action that was carried out.
pub fn replies(card: &Card, options: &Options) -> Vec<(String, Message)> {
    let mut replies = vec![("details".to_owned(), details(card, options.now))];
    for approval in card.approvals.iter().rev().filter(|approval| has_outcome(approval)) {
        replies.push((format!("outcome-{}", approval.id), outcome(approval, options.now)));
    }
    replies
}

/// Whether all that can be said about an action is known.
fn has_outcome(approval: &Approval) -> bool {
    match approval.state {
        ApprovalState::Failed | ApprovalState::OutcomeUnknown => true,
        ApprovalState::Executed => approval.verification.is_judged(),
        _ => false,
    }
}

fn details(card: &Card, now: Timestamp) -> Message {
    let mut blocks = Vec::new();
    if states::is_arrival(&card.incident) {
        let list = states::arrival(card, ARRIVAL_MAX);
        push_lines(&mut blocks, list.lines().map(str::to_owned).collect());
    }
    push_lines(&mut blocks, timeline(card, now));
    if let Some((name, text)) = &card.heard.alert {
        blocks.push(section(&facts::alert_quote(name, text, 1_000)));
    }
    let quotes = quotes(card);
    if !quotes.is_empty() {
        push_lines(&mut blocks, std::iter::once("*Evidence*".to_owned()).chain(quotes).collect());
    }
    for approval in &card.approvals {
        push_difference(&mut blocks, approval);
    }
    let reasoning = card.report.as_ref().map(reasoning).unwrap_or_default();
    if !reasoning.is_empty() {
        push_lines(&mut blocks, std::iter::once("*Reasoning*".to_owned()).chain(reasoning).collect());
    }
    let why = why(card);
    if !why.is_empty() {
        push_lines(
            &mut blocks,
            std::iter::once("*Why these signals are one incident*".to_owned()).chain(why).collect(),
        );
    }
    message("Details", blocks)
}

/// The author's reasoning, and what a second look said against it.
fn reasoning(report: &Report) -> Vec<String> {
    let lines = report.reasoning.iter().take(5).map(|line| escape::prose(&escape::cut(line.as_str(), 500)));
    let against = match &report.review {
        Review::Done { against } if !against.is_empty() => {
            Some(format!("Against it: {}", escape::prose(against.as_str())))
        }
        _ => None,
    };
    lines.chain(against).collect()
}

/// The message with at most as many blocks as Slack takes; what does not fit is said.
fn message(text: &str, mut blocks: Vec<SlackBlock>) -> Message {
    if blocks.is_empty() {
        blocks.push(section("Nothing more is known yet."));
    }
    if blocks.len() > BLOCKS_MAX {
        blocks.truncate(BLOCKS_MAX - 1);
        blocks.push(section("More than one message can hold was left out."));
    }
    Message { text: text.to_owned(), blocks }
}

/// What happened when, oldest first.
fn timeline(card: &Card, now: Timestamp) -> Vec<String> {
    let began = match &card.incident {
        incident if incident.fault == ASKED => "asked for",
        _ if states::is_already_over(card) => "the alert began",
        _ => "the trouble began",
    };
    let mut events: Vec<(Timestamp, String)> = vec![(card.incident.began_at, began.to_owned())];
    if card.incident.opened_at != card.incident.began_at {
        events.push((card.incident.opened_at, "firstlook opened the incident".to_owned()));
    }
    if let Some(scene) = &card.scene {
        let changes = scene.changes.items().iter().take(10);
        events.extend(changes.map(|change| (change.changed_at, facts::change_text(change, card, ""))));
    }
    events.extend(card.heard.resolved_at.map(|at| (at, "all alerts resolved".to_owned())));
    for approval in &card.approvals {
        events.extend(approval_events(approval, now));
    }
    if let IncidentState::Over { at, .. } = card.incident.state {
        events.push((at, "over".to_owned()));
    }
    events.sort_by_key(|(at, _)| *at);
    let left_out = events.len().saturating_sub(TIMELINE_MAX);
    let mut lines = vec!["*Timeline*".to_owned()];
    if left_out > 0 {
        lines.push(format!("({left_out} earlier entries left out)"));
    }
    lines.extend(events.into_iter().skip(left_out).map(|(at, what)| format!("{}  {what}", escape::time(at, now))));
    lines
}

fn approval_events(approval: &Approval, now: Timestamp) -> Vec<(Timestamp, String)> {
    let Some(action) = &approval.action else {
        return Vec::new();
    };
    let what = steps::ordered(action);
    let mut events = Vec::new();
    if approval.preview.is_some() {
        events.push((approval.created_at, format!("asked: {what}")));
    }
    for press in &approval.presses {
        let said = if press.yes {
            format!("yes from {}", steps::yes_of(approval, press))
        } else {
            format!("no from {}", escape::person(press.user.as_str()))
        };
        events.push((press.at, format!("{said}: {what}")));
    }
    if let Some(execution) = &approval.execution {
        events.push((execution.started_at, format!("sent: {what}")));
    }
    match &approval.verification {
        Verification::Better { at, ready, wanted } => {
            events.push((*at, escape::prose(action.came(*ready, *wanted).as_str())));
        }
        Verification::NotBetter { at, why } => {
            events.push((*at, format!("not better: {}", escape::prose(&escape::cut(why.as_str(), 200)))));
        }
        Verification::Worse { at, why, before, ready } => {
            let why = escape::prose(&escape::cut(why.as_str(), 200));
            events.push((*at, format!("worse, {ready} ready, {before} before: {why}")));
        }
        Verification::NotStarted | Verification::Watching { .. } | Verification::WaitsFor { .. } => {}
    }
    if approval.state == ApprovalState::Expired {
        events.push((approval.expires_at, format!("expired: {what}")));
    }
    events.retain(|(at, _)| *at <= now);
    events
}

/// Every quote of the report and of the findings, each once.
fn quotes(card: &Card) -> Vec<String> {
    let report = card.report.iter().flat_map(|report| &report.citations);
    let findings = card.findings.iter().flat_map(|finding| &finding.citations);
    let mut seen: Vec<&Citation> = Vec::new();
    for citation in report.chain(findings) {
        if !seen.iter().any(|known| known.quote == citation.quote && known.source == citation.source) {
            seen.push(citation);
        }
    }
    let left_out = seen.len().saturating_sub(QUOTES_MAX);
    let mut lines: Vec<String> = seen
        .iter()
        .take(QUOTES_MAX)
        .map(|citation| format!("{} {}", citation.evidence, facts::quote(citation)))
        .collect();
    if left_out > 0 {
        lines.push(format!("and {left_out} more"));
    }
    lines
}

fn push_difference(blocks: &mut Vec<SlackBlock>, approval: &Approval) {
    let (Some(action), Some(preview)) = (&approval.action, &approval.preview) else {
        return;
    };
    let (lines, left_out) = buttons::diff(&preview.diff, DIFF_LINES_MAX, 300);
    if lines.is_empty() {
        return;
    }
    let exactly = effect::exactly(approval, preview);
    blocks.push(section(&format!("*{}* ({}){exactly}", steps::ordered(action), effect::source(preview))));
    let mut part: Vec<String> = Vec::new();
    for line in lines {
        part.push(line);
        if escape::length(&escape::block(&part)) > SECTION_MAX {
            let last = part.pop();
            blocks.push(section(&escape::block(&part)));
            part = last.into_iter().collect();
        }
    }
    blocks.push(section(&escape::block(&part)));
    if left_out > 0 {
        blocks.push(section(&format!("{left_out} lines more")));
    }
}

fn why(card: &Card) -> Vec<String> {
    let mut sentences: Vec<String> = Vec::new();
    for why in &card.incident.why {
        let sentence = escape::prose(&escape::cut(why.sentence.as_str(), 200));
        if !sentence.is_empty() && !sentences.contains(&sentence) {
            sentences.push(sentence);
        }
    }
    let left_out = sentences.len().saturating_sub(WHY_MAX);
    sentences.truncate(WHY_MAX);
    if left_out > 0 {
        sentences.push(format!("and {left_out} more"));
    }
    sentences
}

/// One action: what was done, by whom, the difference, and what came of it.
fn outcome(approval: &Approval, now: Timestamp) -> Message {
    let mut blocks = Vec::new();
    let because = escape::prose(escape::bare(&escape::cut(approval.because.as_str(), 1_000)));
    let what = approval.action.as_ref().map(steps::ordered).unwrap_or_default();
    let came = match (&approval.state, &approval.verification) {
        (ApprovalState::Failed, _) => format!("⚠️ failed: {because}"),
        (ApprovalState::OutcomeUnknown, _) => format!("⚠️ outcome unknown: {because}"),
        (_, Verification::Better { at, ready, wanted }) => {
            let came = approval.action.as_ref().map(|action| action.came(*ready, *wanted)).unwrap_or_default();
            format!("✅ {} at {}", escape::prose(came.as_str()), escape::time(*at, now))
        }
        (_, Verification::NotBetter { at, why }) => {
            let why = escape::prose(escape::bare(&escape::cut(why.as_str(), 500)));
            format!("⚠️ not better at {}: {why}", escape::time(*at, now))
        }
        (_, Verification::Worse { at, why, before, ready }) => {
            let why = escape::prose(escape::bare(&escape::cut(why.as_str(), 500)));
            format!("🔴 worse at {}, {ready} ready, {before} before: {why}", escape::time(*at, now))
        }
        _ => "under way".to_owned(),
    };
    let mut lines = vec![format!("*{what}*: {came}")];
    lines.extend(
        approval_events(approval, now).into_iter().map(|(at, what)| format!("{}  {what}", escape::time(at, now))),
    );
    lines.push(format!("approval `{}`", approval.id));
    push_lines(&mut blocks, lines);
    push_difference(&mut blocks, approval);
    message("Outcome", blocks)
}
