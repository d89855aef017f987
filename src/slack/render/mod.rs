//! The card as Slack shows it: pure, from the state of an incident to blocks, in the order that its readers need.
//!
//! What is broken, what changed, the likely cause and how sure, proof, the next step with its effect, who did what.
//! Text from outside passes through `escape`; nothing of it ever becomes a button's text or value.

mod buttons;
mod digest;
mod effect;
mod escape;
mod facts;
mod flatten;
mod states;
mod steps;
mod thread;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use slack_morphism::prelude::*;

use crate::model::{Card, IncidentState, ReasonFor};
use crate::redact::Redacted;

pub use buttons::{APPROVE, ASK_AGAIN, REASON, REJECT, THUMB_DOWN, THUMB_REASON, THUMB_UP, UNDO};
pub use digest::{digest, member, moved};
pub use escape::person;
pub use flatten::flatten;
pub use thread::replies;

/// One Slack message: what the notification shows, and the blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The first line of the card, escaped; Slack shows it where blocks cannot be shown.
    pub text: String,
    pub blocks: Vec<SlackBlock>,
}

impl Message {
    /// SHA-256 of the payload, hex: equal messages need no update.
    pub fn digest(&self) -> String {
        hex::encode(Sha256::digest(serde_json::to_string(self).unwrap_or_default().as_bytes()))
    }
}

/// What rendering needs besides the card.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Durations that still run end here.
    pub now: Timestamp,
}

/// Slack's limit of a section's text.
const SECTION_MAX: usize = 3_000;
/// Slack's limit of a message's blocks.
const BLOCKS_MAX: usize = 50;

/// The one message of an incident, in whatever state it is.
pub fn card(card: &Card, options: &Options) -> Message {
    whole(card, options.now, Some("details in the thread"), Tone::Trouble)
}

/// The same as it stands in the thread of a digest, where it has no thread of its own.
pub fn entry(card: &Card, options: &Options) -> Message {
    whole(card, options.now, None, Tone::Trouble)
}

/// The same of an object that was only looked at, behind which no incident is.
pub fn looked(card: &Card, options: &Options, tone: Tone) -> Message {
    whole(card, options.now, None, tone)
}

/// How a card speaks of its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Something is the matter with it.
    Trouble,
    /// Nothing is seen to be the matter: what only trouble has (how bad, since when, that no cause is known) is left out.
    Quiet,
    /// The same, and it is known to be well.
    Well,
}

fn whole(card: &Card, now: Timestamp, details: Option<&str>, tone: Tone) -> Message {
    let header = states::header(card, tone);
    let mut blocks =
        vec![SlackHeaderBlock::new(SlackBlockPlainText::new(header.clone()).with_emoji(true).into()).into()];
    blocks.push(context(vec![facts::line(card, now, tone)]));
    if states::is_arrival(&card.incident) {
        blocks.push(section(&states::arrival_short(card)));
    } else if let Some(which) = states::which_one(card) {
        blocks.push(section(&which));
    } else {
        let changed = facts::changed(card, now).filter(|_| !states::is_already_over(card));
        let told = facts::alert_says(card).filter(|_| !states::is_already_over(card));
        push_lines(&mut blocks, told.into_iter().chain(changed).chain(facts::findings(card)).collect());
        let around = facts::unread(card)
            .into_iter()
            .chain(states::no_answer(card))
            .chain(states::unreviewed(card))
            .chain(facts::seen_before(card));
        // What it was is told with how it ended.
        let cause = if states::is_already_over(card) { Vec::new() } else { facts::cause(card, tone) };
        push_lines(&mut blocks, cause.into_iter().chain(around).collect());
    }
    let others = states::also_hit(card).into_iter().chain(states::took_in(card));
    push_lines(&mut blocks, others.chain(states::gave_up(card)).collect());
    push_steps(&mut blocks, card, now);
    push_lines(&mut blocks, states::ending(card, now).into_iter().collect());
    if let Some(thumbs) = buttons::thumbs(card) {
        blocks.push(SlackActionsBlock::new(thumbs).into());
    }
    blocks.push(context(footer(card, details)));
    Message { text: escape::prose(&header), blocks }
}

/// An answer that only one person sees. Ids of users and groups in it (`U024BE7LH`, `group:S0614TZR7`) are shown by
/// name; that notifies nobody. `offer_reason` adds a button that opens the form for a reason.
pub fn answer(text: &Redacted, offer_reason: Option<&ReasonFor>) -> Message {
    let text = cut_markup(&escape::people(&escape::prose(text.as_str())), SECTION_MAX);
    let mut blocks = vec![section(&text)];
    blocks.extend(offer_reason.map(|of| SlackActionsBlock::new(vec![buttons::reason(of)]).into()));
    Message { text, blocks }
}

/// What `firstlook check --send-card` posts: plainly a test.
pub fn test_card() -> Message {
    let text = "firstlook: this is a test card. Posting works; no incident is behind it.";
    Message { text: text.to_owned(), blocks: vec![section(text)] }
}

/// Steps with their buttons, and the advice in words.
fn push_steps(blocks: &mut Vec<SlackBlock>, card: &Card, now: Timestamp) {
    let mut below = Vec::new();
    let mut has_step = false;
    for step in steps::steps(card, now) {
        if !step.text.is_empty() {
            has_step = true;
            blocks.push(section(&step.text));
        }
        blocks.extend(step.diff.map(|diff| section(&diff)));
        if !step.buttons.is_empty() {
            blocks.push(SlackActionsBlock::new(step.buttons).into());
        }
        below.extend(step.below.filter(|line| !below.contains(line)));
    }
    let advice = card.report.as_ref().and_then(|report| report.advice.as_ref()).filter(|advice| !advice.is_empty());
    if let Some(advice) = advice.filter(|_| card.incident.state == IncidentState::Open) {
        let label = if has_step { "By hand" } else { "Next step" };
        let advice = escape::prose(&escape::cut(advice.as_str(), 500));
        // Nothing important stands below the buttons.
        let at = blocks.iter().position(|block| matches!(block, SlackBlock::Actions(_))).unwrap_or(blocks.len());
        blocks.insert(at, section(&format!("*{label}*  {advice}")));
    }
    if !below.is_empty() {
        blocks.push(context(vec![below.join(" · ")]));
    }
}

/// What is going on, where to look further, and what it has cost; the audit chain's head is the outside anchor.
fn footer(card: &Card, details: Option<&str>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut around: Vec<String> = states::looking(card).into_iter().collect();
    around.extend(card.links.iter().take(4).map(escape::link));
    around.extend(details.map(str::to_owned));
    around.extend(buttons::thumbs_counted(card));
    if !around.is_empty() {
        lines.push(around.join(" · "));
    }
    let investigation = &card.incident.investigation;
    let mut cost = vec!["firstlook".to_owned()];
    let tokens = investigation.input_tokens + investigation.output_tokens;
    if investigation.tool_calls > 0 || tokens > 0 {
        let calls = escape::counted(investigation.tool_calls, "call");
        cost.push(format!("{calls}, {} tokens", escape::number(tokens)));
    }
    if investigation.left_out > 0 {
        let readings = escape::counted(investigation.left_out, "reading");
        cost.push(format!("{readings} beyond what the model can hold at once"));
    }
    if let Some(struck) = card.report.as_ref().map(|report| report.struck).filter(|struck| *struck > 0) {
        cost.push(format!("{} struck: not borne out by the evidence", escape::counted(struck, "claim")));
    }
    if let Some((entry, hash)) = &card.audit_head {
        cost.push(format!("audit {} (#{entry})", brief(hash)));
    }
    lines.push(cost.join(" · "));
    lines
}

/// The beginning of a hash: 16 digits are 64 bits, which nobody finds again by trying, so that the footer is an anchor for
/// `firstlook audit verify`.
fn brief(hash: &str) -> String {
    hash.chars().filter(char::is_ascii_hexdigit).take(16).collect()
}

/// Lines as one section, or as several where one would be too long.
fn push_lines(blocks: &mut Vec<SlackBlock>, lines: Vec<String>) {
    let mut joined = String::new();
    for line in lines.iter().filter(|line| !line.is_empty()) {
        if !joined.is_empty() && escape::length(&joined) + escape::length(line) + 1 > SECTION_MAX {
            blocks.push(section(&joined));
            joined.clear();
        }
        if !joined.is_empty() {
            joined.push('\n');
        }
        joined.push_str(line);
    }
    if !joined.is_empty() {
        blocks.push(section(&joined));
    }
}

fn section(text: &str) -> SlackBlock {
    SlackSectionBlock::new().with_text(markup(text).into()).into()
}

fn context(texts: Vec<String>) -> SlackBlock {
    SlackContextBlock::new(texts.iter().map(|text| markup(text).into()).collect()).into()
}

/// `verbatim`: Slack makes no links of bare URLs and channel names.
fn markup(text: &str) -> SlackBlockMarkDownText {
    SlackBlockMarkDownText::new(cut_markup(text, SECTION_MAX)).with_verbatim(true)
}

/// Cuts escaped text without cutting a token, an entity or a code span apart. The parts are bounded one by one, so
/// this is the last resort.
fn cut_markup(text: &str, max: usize) -> String {
    if escape::length(text) <= max {
        return text.to_owned();
    }
    let mut short = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += c.len_utf16();
        if used > max - 6 {
            break;
        }
        short.push(c);
    }
    for (open, close) in [('<', '>'), ('&', ';')] {
        if let Some(at) = short.rfind(open).filter(|at| !short[*at..].contains(close)) {
            short.truncate(at);
        }
    }
    if short.matches("```").count() % 2 == 1 {
        short.push_str("…\n```");
    } else if short.matches('`').count() % 2 == 1 {
        short.push_str("…`");
    } else {
        short.push('…');
    }
    short
}

#[cfg(test)]
pub(crate) mod tests;
