//! The states of the whole card: still looking, over, already over, which one, found on arrival.

use jiff::Timestamp;

use crate::clock;
use crate::model::scene::Change;
use crate::model::{
    ASKED, Action, ApprovalState, Card, Ending, Incident, IncidentState, InvestigationState, ObjectRef, Origin, Review,
};
use crate::model::{Severity, Verification};
use crate::redact::Redacted;
use crate::slack::render::Tone;
use crate::slack::render::buttons;
use crate::slack::render::escape;
use crate::slack::render::facts;

/// Slack's limit of a header.
pub(super) const HEADER_MAX: usize = 150;
/// Objects that an arrival card lists; the rest is in the thread.
const ARRIVAL_MAX: usize = 12;
/// Objects that the card names as hit too; the thread has the sentence of each.
const ALSO_HIT_MAX: usize = 3;
/// Incidents taken in that the card tells of: the first show the pattern.
const TOOK_IN_MAX: usize = 3;

/// The first line as plain text: the whole story in at most 150 units, emoji and all.
pub(super) fn header(card: &Card, tone: Tone) -> String {
    let line = if is_arrival(&card.incident) {
        let count = arrived(&card.incident).len() as u32;
        format!("{} Found on arrival: {} already in trouble", emoji(card), escape::counted(count, "workload"))
    } else if card.incident.fault == ASKED {
        asked(card)
    } else {
        let story = facts::story(card);
        let subject = facts::subject_words(card);
        match outcome(card) {
            Outcome::InTrouble if tone == Tone::Well && card.incident.severity == Severity::None => {
                format!("✅ {story}")
            }
            Outcome::InTrouble => format!("{} {story}", emoji(card)),
            Outcome::NotFound => format!("{} {subject} does not exist, but an alert names it", emoji(card)),
            Outcome::AlreadyOver if has_recovered(card) => format!("✅ {subject} had recovered when the alert came"),
            Outcome::AlreadyOver => format!("⚪ {subject} looks healthy: what the alert says is not seen there"),
            Outcome::Better => format!("✅ Healthy again. Was: {story}"),
            Outcome::Worse(action, before, ready) => {
                let order = buttons::order(action, 60);
                format!("🔴 Made worse by “{order}”: {ready} ready, {before} before. {story}")
            }
            Outcome::Done(action) => {
                let words = action.words();
                let after = escape::short(words.done_after.as_str(), 40);
                format!("{} {}{after}. {story}", emoji(card), escape::capital(words.done))
            }
            Outcome::Over(Ending::Resolved | Ending::Healthy) => format!("✅ Over. Was: {story}"),
            Outcome::Over(Ending::Unlisted) => format!("✅ Over, resolve not seen. Was: {story}"),
            Outcome::Over(Ending::Presumed) => format!("✅ Presumed over. Was: {story}"),
            Outcome::Over(Ending::Absorbed) => match &card.incident.absorbed_by {
                Some(merge) => format!("⚪ Part of another incident, {}. Was: {story}", merge.subject),
                None => format!("⚪ Part of another incident. Was: {story}"),
            },
            Outcome::Over(Ending::ResolveNotSeen) => format!("⚪ Closed, resolve not seen. Was: {story}"),
            Outcome::Over(Ending::Answered) => format!("⚪ {story}"),
        }
    };
    // The isolate of right-to-left text must not be cut apart: cut first, then clean.
    let mut room = HEADER_MAX;
    loop {
        let clean = escape::plain(&escape::cut(&line, room));
        if escape::length(&clean) <= HEADER_MAX {
            return clean;
        }
        room -= 1;
    }
}

/// What was asked for from outside, and how it stands.
fn asked(card: &Card) -> String {
    let subject = facts::subject_words(card);
    let Some(approval) = card.approvals.first() else { return format!("⚪ Asked for: a change of {subject}") };
    let stands = match approval.state {
        ApprovalState::Executed => "✅ Done",
        ApprovalState::Rejected => "⚪ Rejected",
        ApprovalState::Expired => "⚪ Not answered in time",
        ApprovalState::Withdrawn => "⚪ Withdrawn",
        ApprovalState::Refused => "⚪ Refused",
        ApprovalState::Failed => "🔴 Failed",
        ApprovalState::OutcomeUnknown => "🔴 Outcome unknown",
        _ => "⚪ Asked for",
    };
    match (&approval.action, &card.incident.subject.namespace) {
        (Some(action), Some(namespace)) => {
            format!("{stands}: {} in {}", buttons::order(action, 80), escape::short(namespace.as_str(), 40))
        }
        (Some(action), None) => format!("{stands}: {}", buttons::order(action, 80)),
        (None, _) => format!("{stands}: a change of {subject}"),
    }
}

/// Where the incident stands, as the first line tells it.
enum Outcome<'a> {
    InTrouble,
    NotFound,
    AlreadyOver,
    Better,
    /// An action left fewer pods ready than there were.
    Worse(&'a Action, u32, u32),
    /// An action did what it should, which says nothing of health.
    Done(&'a Action),
    Over(Ending),
}

fn outcome(card: &Card) -> Outcome<'_> {
    if let IncidentState::Over { how, .. } = card.incident.state {
        return if was_over(card) && how != Ending::Absorbed { Outcome::AlreadyOver } else { Outcome::Over(how) };
    }
    if card.scene.as_ref().is_some_and(|scene| scene.not_found.is_some()) {
        return Outcome::NotFound;
    }
    if was_over(card) && card.incident.severity == Severity::None {
        return Outcome::AlreadyOver;
    }
    acted(card).unwrap_or(Outcome::InTrouble)
}

/// What the newest action that was carried out has come to. That its own pods are ready is not yet that all is well: the
/// incident's own health says that.
fn acted(card: &Card) -> Option<Outcome<'_>> {
    let newest = card.approvals.iter().find(|approval| approval.state == ApprovalState::Executed)?;
    let action = newest.action.as_ref()?;
    let healthy = card.incident.healthy_since.is_some();
    match newest.verification {
        Verification::Better { .. } if action.moves_pods() => healthy.then_some(Outcome::Better),
        Verification::Better { .. } => Some(Outcome::Done(action)),
        Verification::Worse { before, ready, .. } if !healthy => Some(Outcome::Worse(action, before, ready)),
        _ => None,
    }
}

/// Whether the card says that nothing was wrong any more when it was first looked at.
pub(super) fn is_already_over(card: &Card) -> bool {
    matches!(outcome(card), Outcome::AlreadyOver)
}

/// Whether the subject was healthy from the first look on.
fn was_over(card: &Card) -> bool {
    card.incident.unhealthy_at.is_none() && card.incident.healthy_since.is_some() && card.approvals.is_empty()
}

/// Whether anything shows that the subject had been ill: its alerts resolved, or it was changed, or its state turned,
/// after the incident began. A subject that was healthy all along has not recovered.
fn has_recovered(card: &Card) -> bool {
    let began = card.incident.began_at;
    let Some(scene) = &card.scene else { return false };
    let resolved = card.heard.alerts > 0 && card.heard.alerts_firing == 0;
    let changed = scene.changes.items().iter().any(|change| change.changed_at >= began);
    let workload = scene.workload.known().and_then(Option::as_ref);
    let turned = workload.is_some_and(|workload| {
        workload.conditions.iter().filter_map(|condition| condition.changed_at).any(|at| at >= began)
    });
    resolved || changed || turned
}

fn emoji(card: &Card) -> &'static str {
    match card.incident.severity {
        Severity::Critical | Severity::High => "🔴",
        Severity::Medium => "🟠",
        Severity::Low => "🟡",
        Severity::None => "⚪",
    }
}

/// How it ended and through whom, once it has; that it was over before, where it was.
pub(super) fn ending(card: &Card, now: Timestamp) -> Option<String> {
    if is_already_over(card) && !has_recovered(card) {
        return Some(
            "Its own state is healthy. The alert may be stale, or speak of something that this state does not show."
                .to_owned(),
        );
    }
    if is_already_over(card) {
        let since = |change: &&Change| change.changed_at >= card.incident.began_at;
        let change = card.scene.as_ref().and_then(|scene| scene.changes.items().iter().find(since));
        let change = change.map(|change| facts::change_line(change, card, now));
        let change = change.map(|line| format!(". Changed since the trouble began: {line}")).unwrap_or_default();
        return Some(format!("*Already recovered* when the alert came{change}"));
    }
    let IncidentState::Over { at, how } = card.incident.state else {
        return None;
    };
    let acts = [ApprovalState::Executed, ApprovalState::Executing, ApprovalState::OutcomeUnknown];
    let acted = card.approvals.iter().any(|approval| acts.contains(&approval.state));
    let who = if acted { "" } else { ", nothing was done through firstlook" };
    let since = card.incident.healthy_since.map(|since| at.as_second() - since.as_second());
    let at = escape::time(at, now);
    Some(match how {
        Ending::Resolved => {
            format!("✅ *Over* at {at}{who}: alerts resolved, {} is healthy", escape::path(&card.incident.subject))
        }
        Ending::Healthy => {
            format!("✅ *Over* at {at}{who}: {} is healthy, or gone", escape::path(&card.incident.subject))
        }
        Ending::Presumed => {
            let since = since.map(|seconds| format!(" for {}", clock::words(seconds))).unwrap_or_default();
            format!("✅ *Presumed over* at {at}{who}: healthy{since}, but the alert's resolve never came")
        }
        Ending::Unlisted => {
            format!(
                "✅ *Over* at {at}{who}: resolve not seen, but Prometheus does not list the alert as firing any more"
            )
        }
        Ending::Absorbed => {
            let merge = card.incident.absorbed_by.as_ref()?;
            let (into, because) = (escape::object(&merge.subject), sentence(&merge.because));
            format!("*Taken in* at {at} by the incident of {into}: {because}. What follows is told there.")
        }
        // The step tells it all.
        Ending::Answered => return None,
        Ending::ResolveNotSeen => {
            format!("*Closed* at {at}{who}: resolve not seen; the alert is too old to wait for it")
        }
    })
}

/// The incidents that this one took in, with the sentence why; the first few, and how many more.
pub(super) fn took_in(card: &Card) -> Option<String> {
    let merges = &card.incident.absorbed;
    let first = merges.iter().take(TOOK_IN_MAX);
    let mut told: Vec<String> =
        first.map(|merge| format!("{} ({})", escape::object(&merge.subject), sentence(&merge.because))).collect();
    if merges.len() > TOOK_IN_MAX {
        told.push(format!("and {} more", merges.len() - TOOK_IN_MAX));
    }
    let count = escape::counted(merges.len() as u32, "incident");
    let open = card.incident.state == IncidentState::Open;
    let ill = card.incident.waits_for.as_ref().filter(|_| open);
    let ill = ill.map(|ill| format!(". Not over: {} is still in trouble", escape::object(ill))).unwrap_or_default();
    (!told.is_empty()).then(|| format!("*Took in {count}*  {}{ill}", told.join(", ")))
}

/// The objects whose signals were joined to this incident by more than their name, with what joins the first of them.
pub(super) fn also_hit(card: &Card) -> Option<String> {
    let mut hit: Vec<(&ObjectRef, &Redacted)> = Vec::new();
    for joined in card.incident.why.iter().filter_map(|why| why.joined.as_ref()) {
        if joined.object != card.incident.subject && hit.iter().all(|(known, _)| *known != &joined.object) {
            hit.push((&joined.object, &joined.because));
        }
    }
    let (_, because) = hit.first()?;
    let mut named: Vec<String> = hit.iter().take(ALSO_HIT_MAX).map(|(object, _)| escape::object(object)).collect();
    if hit.len() > ALSO_HIT_MAX {
        named.push(format!("{} more", hit.len() - ALSO_HIT_MAX));
    }
    Some(format!("*Also hit*  {}: {}", named.join(", "), sentence(because)))
}

/// A sentence within another: cut, escaped, without its full stop.
fn sentence(text: &Redacted) -> String {
    escape::prose(escape::bare(&escape::cut(text.as_str(), 160)))
}

/// How far the model is, while it looks.
pub(super) fn looking(card: &Card) -> Option<String> {
    let investigation = &card.incident.investigation;
    let turns = match investigation.turns {
        0 => String::new(),
        turns => format!(" ({turns} of {} turns)", investigation.turns_max),
    };
    facts::is_looking(card).then(|| format!("Looking further…{turns}"))
}

/// Why the model said nothing, where it should have.
pub(super) fn no_answer(card: &Card) -> Option<String> {
    match &card.incident.investigation.state {
        InvestigationState::Failed { why } => {
            let why = escape::prose(escape::bare(&escape::cut(why.as_str(), 200)));
            let of_before = card.report.as_ref().is_some_and(|report| report.origin == Origin::Model);
            Some(match of_before {
                true => format!("Looked again, without an answer ({why}); this was said before that."),
                false => format!("No model answer ({why}); this is from rules alone."),
            })
        }
        _ => None,
    }
}

/// Why nobody looked at the model's report again, where somebody should have.
pub(super) fn unreviewed(card: &Card) -> Option<String> {
    match &card.report.as_ref()?.review {
        Review::Failed { why } => {
            let why = escape::prose(escape::bare(&escape::cut(why.as_str(), 120)));
            Some(format!("The model's second look at this failed ({why}), so it counts as less sure."))
        }
        Review::NotNeeded | Review::Done { .. } => None,
    }
}

/// What firstlook gave up on after five failures, and what makes it try again.
pub(super) fn gave_up(card: &Card) -> Option<String> {
    let mut what: Vec<&str> = card
        .parked
        .iter()
        .map(|stage| match stage.as_str() {
            "investigate" => "the investigation",
            "preview" => "the rehearsal of the next step",
            "execute" => "carrying out the approved step",
            _ => "part of the work on this incident",
        })
        .collect();
    what.dedup();
    let what = what.join(" and ");
    (!what.is_empty()).then(|| {
        format!(
            "⚠️ *Gave up* on {what} after five failures (firstlook's log says why). It tries again at the next signal of \
             this incident, or when firstlook is restarted."
        )
    })
}

/// The candidates where the subject does not exist.
pub(super) fn which_one(card: &Card) -> Option<String> {
    let scene = card.scene.as_ref()?;
    let not_found = scene.not_found.as_ref()?;
    let named = escape::object(&scene.subject);
    let lacks = match (&scene.subject.namespace, not_found.namespace_exists) {
        (Some(namespace), false) => format!("there is no namespace {}", escape::name(namespace)),
        (Some(namespace), true) => format!("{} has no such {}", escape::name(namespace), scene.subject.kind),
        (None, _) => format!("there is no such {}", scene.subject.kind),
    };
    if not_found.near.is_empty() {
        return Some(format!(
            "The alert names {named}, but {lacks}, and no name comes near. Nothing can be read or done."
        ));
    }
    let near: Vec<String> = not_found.near.iter().take(5).map(escape::object).collect();
    let exist = if near.len() == 1 { "exists" } else { "exist" };
    let near = near.join(" or ");
    Some(format!(
        "*Which one?*  {near} {exist}; the alert names {named}, but {lacks}. Nothing is proposed until it is clear which one is meant."
    ))
}

/// Whether this is the one card for what was in trouble before firstlook first started.
pub(super) fn is_arrival(incident: &Incident) -> bool {
    incident.fault == "arrival"
}

fn arrived(incident: &Incident) -> Vec<&ObjectRef> {
    let mut objects: Vec<&ObjectRef> = incident.also.iter().collect();
    if !objects.contains(&&incident.subject) && incident.subject.kind.is_workload() {
        objects.insert(0, &incident.subject);
    }
    objects
}

/// The list of what was found on arrival, each with what a finding says of it.
pub(super) fn arrival(card: &Card, shown_max: usize) -> String {
    let objects = arrived(&card.incident);
    let mut lines: Vec<String> = objects
        .iter()
        .take(shown_max)
        .map(|object| {
            let finding = card.findings.iter().find(|finding| finding.about == **object);
            let says = finding.map(|finding| format!(": {}", escape::prose(&escape::cut(finding.says.as_str(), 120))));
            format!("• {}{}", escape::object(object), says.unwrap_or_default())
        })
        .collect();
    if objects.len() > shown_max {
        lines.push(format!("and {} more", objects.len() - shown_max));
    }
    lines.join("\n")
}

/// The arrival list as it stands on the card.
pub(super) fn arrival_short(card: &Card) -> String {
    arrival(card, ARRIVAL_MAX)
}
