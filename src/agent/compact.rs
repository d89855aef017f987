//! A conversation that has outgrown its room is sent with old readings left out, each named with the way to see it again. Pure.

use serde_json::{Value, json};

use crate::model::EvidenceId;

/// What the tools and an answer take of a model's context beside the conversation, in tokens: the bounds of both.
const BESIDE_TOKENS: u64 = 6_000;
/// Beyond its room a conversation is brought down to this share, so that not every turn begins with other words.
const AIM: f64 = 0.6;
/// Where even the newest readings do not fit, each keeps at least this much: its heading and what stands first.
const KEPT_MIN_CHARS: usize = 600;

/// What a shortened reading has beside its text: the message around it, its heading and the remark.
const HEADING_BYTES: usize = 250;

/// A conversation as it is sent.
#[derive(Clone, Debug)]
pub struct Sent {
    pub messages: Vec<Value>,
    /// Readings that are not whole in it.
    pub left_out: u32,
}

/// The conversation within a model's context of so many tokens.
pub fn within(conversation: &[Value], context_tokens: u64) -> Sent {
    fit(conversation, context_tokens.saturating_sub(BESIDE_TOKENS))
}

/// The conversation in half the room that it takes.
pub fn to_half(conversation: &[Value]) -> Sent {
    fit(conversation, tokens(conversation) / 2)
}

fn fit(conversation: &[Value], room: u64) -> Sent {
    let mut sent = Sent { messages: conversation.to_vec(), left_out: 0 };
    if tokens(&sent.messages) <= room {
        return sent;
    }
    let aim = (room as f64 * AIM) as u64;
    // What the model has not answered to yet is the last to go.
    let newest = conversation.iter().rposition(|message| message["role"] == "assistant").unwrap_or(0);
    for at in 0..newest {
        if tokens(&sent.messages) <= aim {
            return sent;
        }
        sent.shorten(at, 0);
    }
    if tokens(&sent.messages) > room {
        let count = (newest..conversation.len()).filter(|at| readable(&conversation[*at]).is_some()).count();
        let others: u64 = sent.messages.iter().filter(|message| readable(message).is_none()).map(weight).sum();
        let share = (room.saturating_sub(others) as usize * 3 / count.max(1)).saturating_sub(HEADING_BYTES);
        (newest..conversation.len()).for_each(|at| sent.shorten(at, share.max(KEPT_MIN_CHARS)));
    }
    sent
}

/// What messages weigh: bytes over three overestimates the tokens of most text.
pub fn tokens(messages: &[Value]) -> u64 {
    messages.iter().map(weight).sum()
}

fn weight(message: &Value) -> u64 {
    message.to_string().len() as u64 / 3
}

/// The id and the text of a tool's answer that can be read again.
fn readable(message: &Value) -> Option<(EvidenceId, &str)> {
    let text = message["content"].as_str().filter(|_| message["role"] == "tool")?;
    Some((text.split_whitespace().next()?.parse().ok()?, text))
}

impl Sent {
    /// Leaves out a reading beyond its heading and `kept` characters.
    fn shorten(&mut self, at: usize, kept: usize) {
        let Some((id, text)) = readable(&self.messages[at]) else { return };
        let heading = text.lines().next().unwrap_or_default();
        let rest = text[heading.len()..].trim_start_matches("\n<data>").trim_end_matches("</data>").trim();
        let length = rest.chars().count();
        let remark = format!(
            "[{} characters left out to save room; get_evidence {id} shows them again]",
            length - length.min(kept)
        );
        if length <= kept + remark.len() {
            return;
        }
        let shown: String = rest.chars().take(kept).collect();
        let short = match kept {
            0 => format!("{heading}\n{remark}"),
            _ => format!("{heading}\n<data>\n{shown}\n</data>\n{remark}"),
        };
        self.messages[at]["content"] = json!(short);
        self.left_out += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(number: u32, chars: usize) -> [Value; 2] {
        let text = format!("e{number} pod_logs shop/a\n<data>\nbegin-{number} {}\n</data>", "x".repeat(chars));
        [json!({"role": "assistant", "tool_calls": []}), json!({"role": "tool", "tool_call_id": "c", "content": text})]
    }

    fn conversation(turns: u32, chars: usize) -> Vec<Value> {
        let opening = [json!({"role": "system", "content": "s"}), json!({"role": "user", "content": "task"})];
        opening.into_iter().chain((0..turns).flat_map(|n| turn(12 + n, chars))).collect()
    }

    #[test]
    fn what_fits_is_sent_as_it_is() {
        let all = conversation(3, 3_000);
        let sent = within(&all, 32_000);
        assert_eq!((sent.messages, sent.left_out), (all, 0));
    }

    #[test]
    fn old_readings_go_first_and_say_how_they_are_seen_again() {
        let all = conversation(6, 6_000);
        let sent = within(&all, 6_000 + 10_000);
        assert_eq!((sent.messages.len(), sent.left_out), (all.len(), 4));
        assert!(tokens(&sent.messages) <= 6_000);
        let oldest = sent.messages[3]["content"].as_str().unwrap();
        let said = "e12 pod_logs shop/a\n[6009 characters left out to save room; get_evidence e12 shows them again]";
        assert_eq!(oldest, said);
        assert_eq!(sent.messages.last(), all.last(), "the newest is whole");
        assert_eq!(within(&sent.messages, 16_000).left_out, 0, "done once it is done");
    }

    #[test]
    fn many_readings_of_one_turn_share_what_room_there_is() {
        let mut all = conversation(1, 6_000);
        all.extend((13..20).map(|n| turn(n, 6_000)[1].clone()));
        let sent = within(&all, 6_000 + 4_000);
        assert_eq!(sent.left_out, 8);
        assert!(tokens(&sent.messages) <= 4_200, "{}", tokens(&sent.messages));
        for message in &sent.messages[3..] {
            let text = message["content"].as_str().unwrap();
            assert!(text.contains("\n<data>\nbegin-") && text.contains("</data>\n["), "{text}");
        }
    }
}
