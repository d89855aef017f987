//! A message as lines of text, for a terminal and for grading: what a person would read, in reading order.

use slack_morphism::prelude::*;

use crate::slack::render::Message;
use crate::slack::render::escape;

/// The texts of the blocks in reading order, one text object after the other, buttons as `[ text ]`. Dates appear as
/// their fallback, links as `label (url)`, and what escaping put in is taken out again.
pub fn flatten(message: &Message) -> String {
    let mut lines = Vec::new();
    for block in &message.blocks {
        match block {
            SlackBlock::Header(header) => lines.push(shown(&SlackBlockText::from(header.text.clone()))),
            SlackBlock::Section(section) => {
                lines.extend(section.text.iter().map(shown));
                lines.extend(section.fields.iter().flatten().map(shown));
            }
            SlackBlock::Context(context) => lines.extend(context.elements.iter().filter_map(|element| match element {
                SlackContextBlockElement::Plain(text) => Some(text.text.clone()),
                SlackContextBlockElement::MarkDown(text) => Some(readable(&text.text)),
                SlackContextBlockElement::Image(_) => None,
            })),
            SlackBlock::Actions(actions) => {
                let buttons: Vec<String> = actions.elements.iter().filter_map(button).collect();
                lines.push(buttons.join("  "));
            }
            _ => {}
        }
    }
    lines.retain(|line| !line.is_empty());
    lines.join("\n")
}

fn shown(text: &SlackBlockText) -> String {
    match text {
        SlackBlockText::Plain(text) => text.text.clone(),
        SlackBlockText::MarkDown(text) => readable(&text.text),
    }
}

fn button(element: &SlackActionBlockElement) -> Option<String> {
    match element {
        SlackActionBlockElement::Button(button) => {
            Some(format!("[ {} ]", shown(&SlackBlockText::from(button.text.clone()))))
        }
        _ => None,
    }
}

/// Tokens as a reader sees them, entities decoded, joiners taken out.
fn readable(markup: &str) -> String {
    let mut out = String::with_capacity(markup.len());
    let mut rest = markup;
    while let Some(start) = rest.find('<') {
        out.push_str(&rest[..start]);
        let Some(end) = rest[start..].find('>') else {
            rest = &rest[start..];
            break;
        };
        out.push_str(&token(&rest[start + 1..start + end]));
        rest = &rest[start + end + 1..];
    }
    out.push_str(rest);
    out.retain(|c| c != escape::JOINER);
    out.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

fn token(token: &str) -> String {
    if let Some(user) = token.strip_prefix('@') {
        return format!("@{user}");
    }
    if let Some(group) = token.strip_prefix("!subteam^") {
        return format!("@{group}");
    }
    match token.split_once('|') {
        Some((date, fallback)) if date.starts_with("!date^") => fallback.to_owned(),
        Some((url, label)) => format!("{label} ({url})"),
        None => token.to_owned(),
    }
}
