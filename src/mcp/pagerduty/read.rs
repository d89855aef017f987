//! The reads behind the tools of `pagerduty`.

use jiff::{SignedDuration, Timestamp};

use crate::clock::{Clock, words};
use crate::mcp::answer::{Answer, ToolError};
use crate::mcp::arguments::Narrow;
use crate::model::Source;
use crate::observe::PagerDuty;
use crate::observe::pagerduty::{ChangeEvent, OnCall, Page, Paged};
use crate::observe::tables;
use crate::redact::{Redacted, Redactor};
use crate::text;

/// Rows of one table: a screen.
const ROWS_MAX: usize = 30;
/// How far back changes are told: what broke today seldom began earlier.
const CHANGES_HOURS: i64 = 24;

const INCIDENT_COLUMNS: [&str; 6] = ["incident", "status", "for", "service", "assigned", "title"];
const CHANGE_COLUMNS: [&str; 4] = ["ago", "source", "services", "change"];
const ON_CALL_COLUMNS: [&str; 5] = ["escalation policy", "level", "on call", "schedule", "until"];

pub(super) async fn incidents(server: &PagerDuty, clock: &Clock, ask: &Narrow) -> Result<Answer, ToolError> {
    let now = clock.now();
    let since = now.checked_sub(SignedDuration::from_hours(CHANGES_HOURS)).unwrap_or(now);
    let (open, changes) = tokio::join!(server.incidents(), server.changes(since, now));
    let mut answer = asked("open incidents", ask, server.redactor());
    let incident = |page: &Page| {
        let status =
            Redacted::join([&page.status, &page.urgency, &page.priority].into_iter().filter(|t| !t.is_empty()), ", ");
        vec![
            text!("#{}", page.number),
            status,
            ago(page.created_at, now),
            page.service.clone(),
            Redacted::join(&page.assigned, ", "),
            page.title.clone(),
        ]
    };
    tell(&mut answer, "Open incidents", &INCIDENT_COLUMNS, open?, ask, incident);
    let change = |change: &ChangeEvent| {
        vec![ago(change.at, now), change.source.clone(), Redacted::join(&change.services, ", "), change.summary.clone()]
    };
    match changes {
        Ok(changes) => tell(&mut answer, "Changes of the last day", &CHANGE_COLUMNS, changes, ask, change),
        Err(error) => answer.say("Changes".into(), &[text!("could not be read: {}", error.reason())]),
    }
    Ok(answer)
}

pub(super) async fn on_call(server: &PagerDuty, clock: &Clock, ask: &Narrow) -> Result<Answer, ToolError> {
    let now = clock.now();
    let all = server.on_call().await?;
    let mut answer = asked("on call", ask, server.redactor());
    let row = |entry: &OnCall| {
        let until = entry.until.map_or("-".into(), |at| text!("{} ({})", at, left(at, now)));
        let schedule = entry.schedule.clone().unwrap_or("-".into());
        vec![entry.policy.clone(), text!("{}", entry.level), entry.user.clone(), schedule, until]
    };
    tell(&mut answer, "On call", &ON_CALL_COLUMNS, all, ask, row);
    Ok(answer)
}

fn asked(what: &'static str, ask: &Narrow, redactor: &Redactor) -> Answer {
    match wanted(ask) {
        Some(text) => Answer::new(text!("{} with `{}`", what, redactor.redact(text).one_line().cut(80))),
        None => Answer::new(what.into()),
    }
}

fn wanted(ask: &Narrow) -> Option<&str> {
    ask.text.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

/// Rows that hold the wanted text as a table, which can be quoted, with a count of what is not shown.
fn tell<T>(
    answer: &mut Answer,
    heading: &'static str,
    columns: &[&'static str],
    found: Paged<T>,
    ask: &Narrow,
    row: impl Fn(&T) -> Vec<Redacted>,
) {
    let wanted = wanted(ask).map(str::to_lowercase);
    let holds = |cell: &Redacted| wanted.as_ref().is_none_or(|text| cell.as_str().to_lowercase().contains(text));
    let rows: Vec<Vec<Redacted>> = found.items.iter().map(row).filter(|row| row.iter().any(holds)).collect();
    if rows.is_empty() {
        let more = if found.more { " among those that were read" } else { "" };
        return answer.say(heading.into(), &[text!("none{}", more)]);
    }
    for row in rows.iter().take(ROWS_MAX) {
        let source = Source::Query { server: "PagerDuty".into(), query: heading.into() };
        answer.quote_unshown(source, Redacted::join(row, " | "));
    }
    let cut = rows.len().saturating_sub(ROWS_MAX);
    let mut shown = tables::table(columns, rows.into_iter().take(ROWS_MAX));
    if cut > 0 || found.more {
        let least = if found.more { "at least " } else { "" };
        shown = text!("{}\n({}{} more not shown: give `text`)", shown, least, cut.max(1));
    }
    answer.show(heading.into(), shown);
}

fn ago(at: Option<Timestamp>, now: Timestamp) -> Redacted {
    // Digits and a unit: nothing to redact.
    at.map_or("-".into(), |at| Redactor::default().redact(&words(now.as_second() - at.as_second())))
}

fn left(at: Timestamp, now: Timestamp) -> Redacted {
    text!("{} left", Redactor::default().redact(&words(at.as_second() - now.as_second())))
}
