//! Reading a channel back: its history and its threads, in pages, with metadata only when asked for.

use serde_json::{Value, json};

use super::api::{Answer, Args, Refusal};
use super::state::{Message, State};
use super::{Channel, Slack};

/// What Slack gives when no limit is asked for, and the most that it gives.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 999;

/// <https://docs.slack.dev/reference/methods/conversations.history>: newest first, without thread replies.
pub(super) fn history(slack: &Slack, args: &Args) -> Answer {
    let channel = channel_of(slack, args)?;
    let state = slack.state();
    let mut found: Vec<&Message> = (state.messages.iter().rev())
        .filter(|m| m.channel == channel.id && m.ephemeral_to.is_none() && m.thread_ts.is_none())
        .filter(|m| within(&m.ts, args))
        .collect();
    if let Some(last) = cursor(args)? {
        found.retain(|m| m.ts < last);
    }
    Ok(page(&state, &found, args))
}

/// <https://docs.slack.dev/reference/methods/conversations.replies>: oldest first, the thread's parent before all.
pub(super) fn replies(slack: &Slack, args: &Args) -> Answer {
    let channel = channel_of(slack, args)?;
    let state = slack.state();
    let asked = state.message(args.text("ts")).filter(|m| m.channel == channel.id && m.ephemeral_to.is_none());
    let asked = asked.ok_or_else(|| Refusal::new("thread_not_found"))?;
    let root = asked.thread_ts.as_deref().unwrap_or(&asked.ts);
    let mut found: Vec<&Message> = (state.messages.iter())
        .filter(|m| m.channel == channel.id && m.ephemeral_to.is_none())
        .filter(|m| m.ts == root || (m.thread_ts.as_deref() == Some(root) && within(&m.ts, args)))
        .collect();
    if let Some(last) = cursor(args)? {
        found.retain(|m| m.ts > last);
    }
    Ok(page(&state, &found, args))
}

fn channel_of<'a>(slack: &'a Slack, args: &Args) -> Result<&'a Channel, Refusal> {
    let id = args.text("channel");
    // Reads take ids only, unlike posts.
    slack.channel(id).filter(|c| c.id == id).ok_or_else(|| Refusal::new("channel_not_found"))
}

/// Timestamps have one width, so that text order is time order.
fn within(ts: &str, args: &Args) -> bool {
    let inclusive = args.flag("inclusive");
    let after = args.some_text("oldest").is_none_or(|oldest| later(ts, oldest) || (inclusive && same(ts, oldest)));
    let before = args.some_text("latest").is_none_or(|latest| later(latest, ts) || (inclusive && same(ts, latest)));
    after && before
}

fn later(a: &str, b: &str) -> bool {
    micros(a) > micros(b)
}

fn same(a: &str, b: &str) -> bool {
    micros(a) == micros(b)
}

/// Microseconds of a `ts`; clients may leave out or shorten the fraction.
fn micros(ts: &str) -> i64 {
    let (seconds, fraction) = ts.split_once('.').unwrap_or((ts, ""));
    let fraction: String = fraction.chars().chain(std::iter::repeat('0')).take(6).collect();
    seconds.parse::<i64>().unwrap_or(0) * 1_000_000 + fraction.parse::<i64>().unwrap_or(0)
}

/// The `ts` of the last message on the page before.
fn cursor(args: &Args) -> Result<Option<String>, Refusal> {
    let Some(text) = args.some_text("cursor") else { return Ok(None) };
    let last = text.strip_prefix("next_ts:").ok_or_else(|| Refusal::new("invalid_cursor"))?;
    Ok(Some(last.to_owned()))
}

fn page(state: &State, found: &[&Message], args: &Args) -> Value {
    let limit = args.number("limit").unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX);
    let shown = &found[..found.len().min(limit)];
    let metadata = args.flag("include_all_metadata");
    let messages: Vec<Value> = shown.iter().map(|m| with_thread(state, m, metadata)).collect();
    let has_more = found.len() > limit;
    let mut body = json!({"messages": messages, "has_more": has_more, "pin_count": 0});
    if let (true, Some(last)) = (has_more, shown.last()) {
        body["response_metadata"] = json!({"next_cursor": format!("next_ts:{}", last.ts)});
    }
    body
}

/// The message with what its thread is like.
fn with_thread(state: &State, message: &Message, metadata: bool) -> Value {
    let mut value = message.wire();
    if metadata && let Some(metadata) = &message.metadata {
        value["metadata"] = metadata.clone();
    }
    let replies: Vec<&Message> = (state.messages.iter())
        .filter(|m| m.thread_ts.as_ref() == Some(&message.ts) && m.ephemeral_to.is_none())
        .collect();
    if let Some(last) = replies.last() {
        let mut users: Vec<&str> = replies.iter().map(|m| m.user.as_str()).collect();
        users.sort_unstable();
        users.dedup();
        value["thread_ts"] = json!(message.ts);
        value["reply_count"] = json!(replies.len());
        value["reply_users_count"] = json!(users.len());
        value["reply_users"] = json!(users);
        value["latest_reply"] = json!(last.ts);
        value["subscribed"] = json!(false);
    }
    if let Some(parent) = message.thread_ts.as_deref().and_then(|ts| state.message(ts)) {
        value["parent_user_id"] = json!(parent.user);
    }
    value
}
