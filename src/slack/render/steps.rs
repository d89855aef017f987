//! The part of the card about actions: what may be done next, who said yes or no, and what came of it.

use jiff::Timestamp;
use slack_morphism::prelude::*;

use crate::clock;
use crate::model::{
    Action, Approval, ApprovalState, Caller, Card, IncidentState, Press, Proposal, Standing, Verification,
};
use crate::redact::Redacted;
use crate::slack::render::buttons;
use crate::slack::render::effect::{effect, source};
use crate::slack::render::escape;
use crate::slack::render::facts;

/// What one approval puts on the card: lines, a difference, buttons, and a line below them.
#[derive(Default)]
pub(super) struct Step {
    pub(super) text: String,
    pub(super) diff: Option<String>,
    pub(super) buttons: Vec<SlackActionBlockElement>,
    pub(super) below: Option<String>,
}

/// Approvals on one card; the others are in the thread. What waits for a person is never left out for what does not.
const STEPS_MAX: usize = 3;
/// Approvals that wait on one card: each takes three blocks of the fifty that Slack takes, and the rest of a card about
/// fifteen. More than that are answered from the card as it empties.
const WAITING_MAX: usize = 10;
/// Lines of a difference on the card; the whole is in the thread.
const DIFF_LINES_MAX: usize = 6;

/// The steps in the order in which they were asked, without those that a newer one has replaced. Where there are too
/// many, those go first that were refused, and what waits for a person goes last.
pub(super) fn steps(card: &Card, now: Timestamp) -> Vec<Step> {
    let newest_first = card.approvals.iter().enumerate();
    let mut shown: Vec<(usize, &Approval)> =
        newest_first.filter(|(index, approval)| !is_replaced(approval, &card.approvals[..*index])).collect();
    let waits = |approval: &Approval| approval.state == ApprovalState::Pending;
    shown.sort_by_key(|(_, approval)| match approval.state {
        _ if waits(approval) => 0,
        ApprovalState::Refused => 2,
        _ => 1,
    });
    let waiting = shown.iter().filter(|(_, approval)| waits(approval)).count();
    shown.truncate(waiting.clamp(STEPS_MAX, WAITING_MAX));
    shown.sort_by_key(|(index, _)| std::cmp::Reverse(*index));
    shown.iter().enumerate().map(|(nth, (_, approval))| step(card, approval, nth + 1, now)).collect()
}

/// Whether a newer request about the same object says all that is still true of this one. What was refused replaces
/// nothing but what was refused, and nothing replaces what a person can still answer, or what was done.
fn is_replaced(approval: &Approval, newer: &[Approval]) -> bool {
    use ApprovalState::{Approved, Executed, Executing, OutcomeUnknown, Pending, Refused};
    let stays = matches!(approval.state, Pending | Approved | Executing | Executed | OutcomeUnknown);
    let replaces = |other: &Approval| other.state != Refused || approval.state == Refused;
    let same = |other: &Approval| other.proposal.object() == approval.proposal.object();
    !stays && newer.iter().any(|other| same(other) && replaces(other))
}

fn step(card: &Card, approval: &Approval, nth: usize, now: Timestamp) -> Step {
    let because = escape::prose(escape::bare(&escape::cut(approval.because.as_str(), 500)));
    let because_or = |other: &str| if because.is_empty() { other.to_owned() } else { because.clone() };
    let text = |text: String| Step { text, ..Step::default() };
    match (approval.state, &approval.action) {
        (ApprovalState::Refused, Some(action)) if approval.rule.is_empty() => Step {
            text: format!("*Next step*  {}\n{}", ordered(action), nobody(approval, &because)),
            ..Step::default()
        },
        (ApprovalState::Refused, Some(action))
            if approval.preview.as_ref().is_some_and(|preview| preview.unguarded.is_some()) =>
        {
            shown(approval, action, &because)
        }
        (ApprovalState::Refused, Some(_)) => text(format!(
            "*No action*  {} ({})",
            because_or("the policy refuses it"),
            escape::code_cut(approval.rule.as_str(), 60)
        )),
        (ApprovalState::Refused, None) => text(format!("*No safe action*  {}", because_or("the check refused it"))),
        (_, None) => Step::default(),
        (ApprovalState::Proposed, Some(action)) => text(format!("*Next step*  {}: dry run under way", ordered(action))),
        (ApprovalState::Pending, Some(action)) => pending(card, approval, action, nth, now),
        (ApprovalState::Approved | ApprovalState::Executing, Some(action)) => {
            let waits = if approval.state == ApprovalState::Approved { "About to run" } else { "Under way" };
            let held = if because.is_empty() { String::new() } else { format!(" ({because})") };
            let progress = progress(action, &approval.verification, waits);
            text(format!("{}. {progress}{held}", approved(approval, action, now)))
        }
        (ApprovalState::Executed, Some(action)) => executed(card, approval, action, nth, now),
        (ApprovalState::Rejected, Some(action)) => text(rejected(approval, action, now)),
        (ApprovalState::Expired, Some(action)) => Step {
            text: format!(
                "*Expired*  {} was not answered by {}",
                ordered(action),
                escape::time(approval.expires_at, now)
            ),
            buttons: (open(card) && !is_off(card, &approval.proposal))
                .then(|| buttons::ask_again(approval, nth))
                .into_iter()
                .collect(),
            ..Step::default()
        },
        (ApprovalState::Withdrawn, Some(action)) => {
            text(format!("*Withdrawn*  {}: {}", ordered(action), because_or("the cluster has changed since")))
        }
        (ApprovalState::Failed, Some(action)) => {
            let why = because_or("the API server refused it");
            text(format!("⚠️ *Failed*  {}: {why}{}", ordered(action), suspended(approval)))
        }
        (ApprovalState::OutcomeUnknown, Some(action)) => text(format!(
            "⚠️ *Outcome unknown*  {}: {}. Check: `{}`{}",
            ordered(action),
            because_or("the connection broke after sending"),
            check(action),
            suspended(approval)
        )),
    }
}

fn open(card: &Card) -> bool {
    card.incident.state == IncidentState::Open
}

/// Roll back `checkout` to revision 6.
pub(super) fn ordered(action: &Action) -> String {
    let words = action.words();
    let after = escape::prose(words.after.as_str());
    format!("{} {}{after}", escape::capital(words.order), escape::name(&action.object().name))
}

/// What firstlook cannot do itself here: with its effect, and no button.
fn shown(approval: &Approval, action: &Action, because: &str) -> Step {
    let Some(preview) = &approval.preview else { return Step::default() };
    let (lines, _) = buttons::diff(&preview.diff, DIFF_LINES_MAX, 100);
    let diff = (!lines.is_empty()).then(|| escape::block(&lines));
    let by_hand = action.by_hand().map(|line| format!(" By hand: {}", escape::code_cut(line.as_str(), 300)));
    let text =
        format!("*No action*  {}: {because}.{} ({})", ordered(action), by_hand.unwrap_or_default(), source(preview));
    Step { text, diff, ..Step::default() }
}

fn nobody(approval: &Approval, because: &str) -> String {
    if !because.is_empty() {
        return format!("Nobody may approve this here: {because}");
    }
    match &approval.proposal.object().namespace {
        Some(namespace) => {
            format!("Nobody may approve this here: add approvers for {} in the policy", escape::name(namespace))
        }
        None => "Nobody may approve this here: add approvers with `cluster: true` in the policy".to_owned(),
    }
}

fn pending(card: &Card, approval: &Approval, action: &Action, nth: usize, now: Timestamp) -> Step {
    let also: String = approval.also_asked_by.iter().map(asked_by).collect();
    let mut text = format!("*Next step*  {}{}{also}", ordered(action), asked_by(&approval.asked_by));
    let mut diff = None;
    if let Some(preview) = &approval.preview {
        text.push_str(&format!(": {}", effect(action, preview)));
        let others = card.approvals.iter().filter(|other| other.state == ApprovalState::Pending).count();
        let (lines, left_out) = buttons::diff(&preview.diff, DIFF_LINES_MAX / others.clamp(1, 3), 100);
        if !lines.is_empty() {
            let more = if left_out > 0 { format!("; {left_out} lines more in the thread") } else { String::new() };
            text.push_str(&format!(" ({}{more})", source(preview)));
            diff = Some(escape::block(&lines));
        }
    }
    if approval.approvers.is_empty() {
        return Step { text: format!("{text}\n{}", nobody(approval, "")), diff, ..Step::default() };
    }
    if let Some(Standing::NotNow { by, why, .. }) = &approval.standing {
        let why = escape::prose(escape::bare(&escape::cut(why.as_str(), 200)));
        text.push_str(&format!("\nThe standing leave of {} does not count: {why}", escape::person(by.as_str())));
    }
    let yes: Vec<String> =
        approval.presses.iter().filter(|press| press.yes).map(|press| yes_of(approval, press)).collect();
    if !yes.is_empty() {
        text.push_str(&format!("\nYes so far: {} ({} of {})", yes.join(", "), yes.len(), approval.people_needed));
    }
    if card.incident.state.withdraws() && approval.undoes.is_none() {
        return Step { text, diff, ..Step::default() };
    }
    let buttons = buttons::decide(approval, action, nth);
    Step { text, diff, buttons, below: Some(format!("expires {}", escape::time(approval.expires_at, now))) }
}

/// Who asked, where it was neither the report nor the rules.
fn asked_by(caller: &Caller) -> String {
    match caller {
        Caller::Agent | Caller::Findings => String::new(),
        Caller::Person { user } => format!(", asked by {}", escape::person(user.as_str())),
        Caller::Client { name, person, program } => {
            let token = format!("token {}", escape::code_cut(name.as_str(), 40));
            let through =
                program.as_ref().map(|program| format!("through {}, ", escape::code_cut(program.as_str(), 40)));
            let by = person.as_ref().map(|person| format!("by {}, ", escape::person(person.as_str())));
            format!(", asked {}{}{token}", by.unwrap_or_default(), through.unwrap_or_default())
        }
    }
}

/// The people who said yes, and when the last of them did.
fn people(approval: &Approval) -> (String, Option<Timestamp>) {
    let yes: Vec<_> = approval.presses.iter().filter(|press| press.yes).collect();
    let names: Vec<String> = yes.iter().map(|press| yes_of(approval, press)).collect();
    (names.join(" and "), yes.last().map(|press| press.at))
}

/// Whose yes it is: a person's, or a standing leave's that the person gave, with its place in the policy.
pub(super) fn yes_of(approval: &Approval, press: &Press) -> String {
    let person = escape::person(press.user.as_str());
    match &approval.standing {
        Some(Standing::Counted { by, rule, .. }) if *by == press.user => {
            format!("standing leave of {person} ({})", escape::code_cut(rule.as_str(), 60))
        }
        _ => person,
    }
}

/// What becomes of the standing leave by which it was done, when it went badly.
fn suspended(approval: &Approval) -> String {
    match &approval.standing {
        Some(Standing::Counted { .. }) => {
            "\nThe standing leave is suspended: people are asked until it is given again in the policy, with another `until`."
                .to_owned()
        }
        _ => String::new(),
    }
}

fn approved(approval: &Approval, action: &Action, now: Timestamp) -> String {
    let who = match people(approval) {
        (names, Some(at)) => format!(" by {names}, {}", escape::time(at, now)),
        (_, None) => String::new(),
    };
    format!("*Approved*{who}: {}", ordered(action))
}

fn progress(action: &Action, verification: &Verification, other: &str) -> String {
    match verification {
        Verification::Watching { .. } if action.mutes() => other.to_owned(),
        Verification::Watching { ready, wanted } if matches!(action, Action::RerunJob { .. }) => {
            format!("Running: {ready} of {wanted} done")
        }
        Verification::Watching { ready, wanted } if matches!(action, Action::Drain { .. }) => {
            format!("Draining: {ready} of {wanted} pods moved")
        }
        Verification::Watching { ready: 0, wanted: 1 } if matches!(action, Action::DeletePod { .. }) => {
            "The pod is ending".to_owned()
        }
        Verification::Watching { ready, wanted } => format!("Rolling out: {ready} of {wanted} ready"),
        Verification::WaitsFor { pod, ready, wanted } => {
            let (name, namespace) = (escape::name(&pod.name), pod.namespace());
            let by_hand = format!("kubectl -n {namespace} delete pod {}", pod.name());
            format!(
                "⚠️ {ready} of {wanted} ready: the StatefulSet waits for {name}, which keeps its old template until \
                 somebody deletes it: `{by_hand}`"
            )
        }
        _ => other.to_owned(),
    }
}

fn executed(card: &Card, approval: &Approval, action: &Action, nth: usize, now: Timestamp) -> Step {
    let (names, pressed_at) = people(approval);
    let at = approval.execution.as_ref().and_then(|execution| execution.finished_at).or(pressed_at);
    let words = action.words();
    let mut done = format!("*{}*{}", escape::capital(words.done), escape::prose(words.done_after.as_str()));
    if !names.is_empty() {
        done.push_str(&format!(" by {names}"));
    }
    if let Some(at) = at {
        done.push_str(&format!(" at {}", escape::time(at, now)));
    }
    let text = match &approval.verification {
        Verification::NotStarted | Verification::Watching { .. } | Verification::WaitsFor { .. } => {
            format!(
                "{}. {}",
                approved(approval, action, now),
                progress(action, &approval.verification, if action.rolls() { "Done; rolling out" } else { "Done" })
            )
        }
        Verification::Better { ready, wanted, .. } => {
            let came = escape::prose(action.came(*ready, *wanted).as_str());
            format!("✅ {done}. {came}{}", alert_after(card, now))
        }
        Verification::NotBetter { why, .. } => {
            format!("⚠️ {done}, but {}", bad(card, approval, why))
        }
        Verification::Worse { why, before, ready, .. } => {
            format!("🔴 *Made worse*  {ready} ready, {before} before: {done}, but {}", bad(card, approval, why))
        }
    };
    let judged = approval.verification.is_judged();
    let undone = card.approvals.iter().any(|other| {
        other.undoes.as_ref() == Some(&approval.id)
            && !matches!(other.state, ApprovalState::Expired | ApprovalState::Rejected | ApprovalState::Withdrawn)
    });
    let taken_back = card
        .approvals
        .iter()
        .any(|other| other.undoes.as_ref() == Some(&approval.id) && other.state == ApprovalState::Executed);
    let text = if taken_back { text + &suspended(approval) } else { text };
    // That it took effect late, after it had been told otherwise.
    let because = escape::prose(escape::bare(&escape::cut(approval.because.as_str(), 300)));
    let text = if because.is_empty() { text } else { format!("{text}\n{}.", escape::capital(&because)) };
    let undoes = judged && !undone && !approval.inverse().is_some_and(|back| is_off(card, &back));
    let buttons = if undoes { buttons::undo(approval, action, nth) } else { None };
    Step { text, buttons: buttons.into_iter().collect(), ..Step::default() }
}

/// Whether the proposal is of a tool that is switched off here: a button for it would be refused.
fn is_off(card: &Card, proposal: &Proposal) -> bool {
    card.off.iter().any(|tool| tool == proposal.tool())
}

/// Why it did not help, and what follows.
fn bad(card: &Card, approval: &Approval, why: &Redacted) -> String {
    let why = escape::prose(escape::bare(&escape::cut(why.as_str(), 300)));
    let next = if facts::is_looking(card) { " Looking again." } else { "" };
    format!("{why}.{next}{}", suspended(approval))
}

/// When the alert resolved, counted from the begin of the trouble.
fn alert_after(card: &Card, now: Timestamp) -> String {
    match card.heard.resolved_at {
        Some(at) => {
            let after = clock::words(at.as_second() - card.incident.began_at.as_second());
            format!(", alert resolved {} ({after} after it began)", escape::time(at, now))
        }
        None if card.heard.alerts_firing > 0 && open(card) => ", alert not resolved yet".to_owned(),
        None => String::new(),
    }
}

fn rejected(approval: &Approval, action: &Action, now: Timestamp) -> String {
    let Some(no) = approval.presses.iter().rev().find(|press| !press.yes) else {
        return format!("*Rejected*  {}", ordered(action));
    };
    let who = escape::person(no.user.as_str());
    let reason = match &no.reason {
        Some(reason) if !reason.is_empty() => {
            format!(": “{}”", escape::prose(&escape::cut(reason.as_str(), 300)))
        }
        _ => String::new(),
    };
    format!("*Rejected* by {who}, {}: {}{reason}", escape::time(no.at, now), ordered(action))
}

/// The command with which a person looks for themselves.
fn check(action: &Action) -> String {
    let object = action.object();
    let (kind, name) = (object.kind.as_str().to_ascii_lowercase(), object.name());
    match &object.namespace {
        _ if action.mutes() => "amtool silence query".to_owned(),
        Some(namespace) if action.rolls() => format!("kubectl -n {namespace} rollout history {kind}/{name}"),
        Some(namespace) => format!("kubectl -n {namespace} get {kind}/{name} -o yaml"),
        None => format!("kubectl get {kind}/{name} -o yaml"),
    }
}
