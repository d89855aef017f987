//! Buttons and their confirm dialogs: written by code from the typed action, never from text of the world or the model.

use slack_morphism::prelude::*;

use crate::model::scene::DiffLine;
use crate::model::{Action, Approval, ApprovalId, Card, ObjectRef, ReasonFor, Tier};
use crate::slack::render::escape;
use crate::slack::render::states;

/// The action ids that firstlook gives to its buttons. Where a message holds several of one sort, all but the first
/// carry a suffix: `approve:2`.
pub const APPROVE: &str = "approve";
pub const REJECT: &str = "reject";
pub const UNDO: &str = "undo";
pub const ASK_AGAIN: &str = "ask_again";
/// Opens the form for a reason; stands in the ephemeral answer to Reject.
pub const REASON: &str = "reject_reason";
/// Whether the cause on the card was right, and the form for what was wrong.
pub const THUMB_UP: &str = "thumb_up";
pub const THUMB_DOWN: &str = "thumb_down";
pub const THUMB_REASON: &str = "thumb_reason";

/// Slack's limit of a button's text.
const BUTTON_MAX: usize = 75;
/// Slack's limit of a confirm dialog's text.
const CONFIRM_MAX: usize = 300;

/// The whole order as plain text of at most `max` units: `Roll back checkout to revision 6`.
pub(super) fn order(action: &Action, max: usize) -> String {
    let words = action.words();
    let (before, after) = (escape::capital(words.order), escape::short(words.after.as_str(), 40));
    let room = max.saturating_sub(before.len() + 1 + after.len());
    format!("{before} {}{after}", escape::short(action.object().name(), room))
}

/// Approve and Reject for a pending approval; `nth` counts the approvals of the message from 1.
pub(super) fn decide(approval: &Approval, action: &Action, nth: usize) -> Vec<SlackActionBlockElement> {
    let yes = approval.presses.iter().filter(|press| press.yes).count();
    let people = match approval.people_needed {
        0 | 1 => String::new(),
        needed => format!(" ({} of {needed})", yes + 1),
    };
    let text = format!("{}{people}", order(action, BUTTON_MAX - people.len()));
    let style = if approval.tier == Tier::Destructive { "danger" } else { "primary" };
    let confirm = SlackBlockConfirmItem::new(
        escape::cut(&format!("{}?", order(action, 90)), 100).into(),
        SlackBlockPlainText::new(effect(approval, action)).into(),
        escape::cut(&escape::capital(action.words().order), 30).into(),
        "Cancel".into(),
    )
    .with_style(style.to_owned());
    let approve = button(APPROVE, nth, text, &approval.id)
        .with_style(if approval.tier == Tier::Destructive {
            SlackBlockButtonStyle::Danger
        } else {
            SlackBlockButtonStyle::Primary
        })
        .with_confirm(confirm);
    let reject = button(REJECT, nth, "Reject".to_owned(), &approval.id).with_confirm(SlackBlockConfirmItem::new(
        "Reject this step?".into(),
        SlackBlockPlainText::new(escape::cut(
            &format!("{} will not be done. Nothing is changed in the cluster.", order(action, 120)),
            CONFIRM_MAX,
        ))
        .into(),
        "Reject".into(),
        "Cancel".into(),
    ));
    vec![approve.into(), reject.into()]
}

/// Undo for an executed action that has an inverse.
pub(super) fn undo(approval: &Approval, action: &Action, nth: usize) -> Option<SlackActionBlockElement> {
    let leads = approval.inverse().and(action.words().undo)?;
    let text = format!("Undo: {}", escape::short(leads.as_str(), BUTTON_MAX - 6));
    Some(button(UNDO, nth, text, &approval.id).into())
}

/// Ask again for an expired approval.
pub(super) fn ask_again(approval: &Approval, nth: usize) -> SlackActionBlockElement {
    button(ASK_AGAIN, nth, "Ask again".to_owned(), &approval.id).into()
}

/// The button that offers a form for a reason.
pub(super) fn reason(of: &ReasonFor) -> SlackActionBlockElement {
    let (id, value) = match of {
        ReasonFor::No(approval) => (REASON, approval.as_str()),
        ReasonFor::ThumbDown(incident) => (THUMB_REASON, incident.as_str()),
    };
    valued(id.to_owned(), "Add a reason".to_owned(), value).into()
}

/// Thumbs for a card that shows a cause.
pub(super) fn thumbs(card: &Card) -> Option<Vec<SlackActionBlockElement>> {
    card.report.as_ref().filter(|report| !report.cause.is_empty())?;
    if states::is_arrival(&card.incident) || states::is_already_over(card) || states::which_one(card).is_some() {
        return None;
    }
    let thumb = |id: &str, text: &str| valued(id.to_owned(), text.to_owned(), card.incident.id.as_str()).into();
    Some(vec![thumb(THUMB_UP, "👍 Right"), thumb(THUMB_DOWN, "👎 Wrong")])
}

/// How many people say that the cause was right or wrong.
pub(super) fn thumbs_counted(card: &Card) -> Option<String> {
    let right = card.thumbs.iter().filter(|thumb| thumb.up).count();
    let wrong = card.thumbs.len() - right;
    match (right, wrong) {
        (0, 0) => None,
        (right, 0) => Some(format!("👍 {right}")),
        (0, wrong) => Some(format!("👎 {wrong}")),
        (right, wrong) => Some(format!("👍 {right} 👎 {wrong}")),
    }
}

fn button(id: &str, nth: usize, text: String, approval: &ApprovalId) -> SlackBlockButtonElement {
    let id = if nth > 1 { format!("{id}:{nth}") } else { id.to_owned() };
    valued(id, text, approval.as_str())
}

fn valued(id: String, text: String, value: &str) -> SlackBlockButtonElement {
    SlackBlockButtonElement::new(SlackBlockPlainTextOnly::from(text))
        .with_action_id(id.into())
        .with_value(value.to_owned())
}

/// Cluster, namespace, object and what happens to how many pods, in at most 300 units.
fn effect(approval: &Approval, action: &Action) -> String {
    let cluster = escape::short(approval.cluster.as_str(), 40);
    let target = match action.object() {
        ObjectRef { kind, namespace: Some(namespace), name } => {
            format!("namespace {}, {kind} {}", escape::short(namespace.as_str(), 40), escape::short(name.as_str(), 60))
        }
        ObjectRef { kind, namespace: None, name } => format!("{kind} {}", escape::short(name.as_str(), 60)),
    };
    let what = escape::plain(action.words().then.as_str());
    let pods = match &approval.preview {
        Some(preview) => {
            let pace = escape::cut(&escape::plain(preview.pace.as_str()), 50);
            let pace = if pace.is_empty() { pace } else { format!(", {pace}") };
            format!(" {}{pace}.", escape::capital(&moved(action, preview.pods_touched, true)))
        }
        None => String::new(),
    };
    escape::cut(&format!("Cluster {cluster}, {target}: {what}.{pods}"), CONFIRM_MAX)
}

/// What happens to how many pods: `4 pods are replaced`, or `4 pods replaced` in a list.
pub(super) fn moved(action: &Action, pods: u32, whole: bool) -> String {
    let what = match action {
        Action::Scale { to, from, .. } if to > from => "started",
        Action::Scale { .. } => "ended",
        Action::RerunJob { .. } => "started",
        Action::DeletePod { .. } | Action::Drain { .. } => "evicted",
        _ => "replaced",
    };
    let verb = match (whole, pods) {
        (_, 0) => return "no pod is touched".to_owned(),
        (true, 1) => "is ",
        (true, _) => "are ",
        (false, _) => "",
    };
    format!("{} {verb}{what}", escape::counted(pods, "pod"))
}

/// The lines of a difference as `-` and `+`, at most `max` of them; the number left out after that.
pub(super) fn diff(lines: &[DiffLine], max: usize, value_chars: usize) -> (Vec<String>, usize) {
    let several = lines.iter().any(|line| line.container != lines[0].container);
    let mut all = Vec::new();
    for line in lines {
        let container = match &line.container {
            Some(container) if several => format!("{} ", container.as_str()),
            _ => String::new(),
        };
        let field = escape::cut(&format!("{container}{}", line.field.as_str()), 80);
        for (sign, value) in [("-", &line.before), ("+", &line.after)] {
            if let Some(value) = value {
                all.push(format!("{sign} {field}: {}", escape::cut(value.as_str(), value_chars)));
            }
        }
    }
    let left_out = all.len().saturating_sub(max);
    all.truncate(max);
    (all, left_out)
}
