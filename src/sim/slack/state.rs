//! What the workspace holds: messages, modals, triggers, response URLs, the bucket of each channel, all bounded.

use std::collections::{HashMap, HashSet, VecDeque};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::fault::Fault;
use super::socket::Outgoing;

/// Enough for a test with thousands of incidents; the page shows far fewer.
const MESSAGES_MAX: usize = 10_000;
/// Each holds a body, so fewer than messages.
const REQUESTS_MAX: usize = 1_000;
/// A person sees one modal at a time; more means that nobody closes them.
const MODALS_MAX: usize = 20;
/// A demo narrates about ten lines an incident.
const NARRATION_MAX: usize = 200;
/// Triggers live 3 s and response URLs 30 min; a person makes far fewer.
const HANDLES_MAX: usize = 1_000;
/// Slack: "about one message per second per channel, short bursts are allowed"; how long the burst may be it does not say.
const POST_BURST: f64 = 5.0;

/// A message as the channel shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Message {
    pub channel: String,
    /// `seconds.micros`, unique and increasing in the workspace.
    pub ts: String,
    /// The thread's first message; absent on messages of the channel itself.
    pub thread_ts: Option<String>,
    /// Author's user id.
    pub user: String,
    /// Whether the app wrote it.
    pub is_app: bool,
    pub text: String,
    /// As Slack gives them back: every block has an id.
    pub blocks: Vec<Value>,
    /// `event_type` and `event_payload`, as posted.
    pub metadata: Option<Value>,
    /// When it was last edited, a `ts`.
    pub edited_ts: Option<String>,
    /// How often it was edited.
    pub edits: u32,
    /// The only user who sees it; absent on messages that everybody sees.
    pub ephemeral_to: Option<String>,
}

impl Message {
    /// All text of the message in reading order, a line per text object: what a test asks for words.
    pub fn plain(&self) -> String {
        let mut lines = Vec::new();
        if self.blocks.is_empty() {
            lines.push(self.text.clone());
        }
        for block in &self.blocks {
            collect_text(block, &mut lines);
        }
        lines.join("\n")
    }

    /// Every button, with its `action_id`, `value`, `text`, `style`, `confirm` as posted.
    pub fn buttons(&self) -> Vec<Value> {
        let mut found = Vec::new();
        for block in &self.blocks {
            collect_buttons(block, &mut found);
        }
        found
    }

    /// As `conversations.history` gives it, without metadata.
    pub(super) fn wire(&self) -> Value {
        let mut value =
            json!({"type": "message", "ts": self.ts, "user": self.user, "team": super::TEAM_ID, "text": self.text});
        if self.is_app {
            value["bot_id"] = json!(super::BOT_ID);
            value["app_id"] = json!(super::APP_ID);
            value["bot_profile"] = json!({"id": super::BOT_ID, "app_id": super::APP_ID, "user_id": super::BOT_USER,
                "name": super::BOT_NAME, "deleted": false, "team_id": super::TEAM_ID});
        }
        if !self.blocks.is_empty() {
            value["blocks"] = json!(self.blocks);
        }
        if let Some(ts) = &self.thread_ts {
            value["thread_ts"] = json!(ts);
        }
        if let Some(ts) = &self.edited_ts {
            value["edited"] = json!({"user": self.user, "ts": ts});
        }
        value
    }
}

/// The text objects below `value` in the order in which they are read.
fn collect_text(value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect_text(item, lines)),
        Value::Object(fields) => match (fields.get("type").and_then(Value::as_str), fields.get("text")) {
            (Some("plain_text" | "mrkdwn" | "text" | "markdown"), Some(Value::String(text))) => {
                lines.push(text.clone())
            }
            (Some("link"), _) => lines.push(super::text_of(value, "url").to_owned()),
            _ => ["title", "text", "fields", "elements", "accessory"]
                .iter()
                .filter_map(|field| fields.get(*field))
                .for_each(|part| collect_text(part, lines)),
        },
        _ => {}
    }
}

fn collect_buttons(value: &Value, found: &mut Vec<Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect_buttons(item, found)),
        Value::Object(fields) if fields.get("type").and_then(Value::as_str) == Some("button") => {
            found.push(value.clone())
        }
        Value::Object(fields) => ["elements", "accessory"]
            .iter()
            .filter_map(|field| fields.get(*field))
            .for_each(|part| collect_buttons(part, found)),
        _ => {}
    }
}

/// An opened modal, seen by one user.
#[derive(Clone, Debug, Serialize)]
pub struct Modal {
    pub id: String,
    pub user: String,
    /// The view with `id`, `hash`, `team_id`, as Slack gives it back.
    pub view: Value,
}

/// One line of what the daemon is doing.
#[derive(Clone, Debug, Serialize)]
pub struct Narration {
    /// Milliseconds since the Unix epoch.
    pub at_ms: i64,
    pub text: String,
}

/// An API call that came in.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub at_ms: i64,
    /// The arguments, whatever way they came, without the token.
    pub args: Value,
    /// `ok`, Slack's error word, or the name of the fault that was played.
    pub answer: String,
}

pub(super) struct Trigger {
    pub(super) id: String,
    pub(super) user: String,
    pub(super) born: Instant,
    pub(super) used: bool,
}

/// What a response URL leads to.
#[derive(Clone)]
pub(super) struct Reply {
    pub(super) id: String,
    pub(super) channel: String,
    pub(super) ts: String,
    pub(super) thread_ts: Option<String>,
    pub(super) user: String,
    pub(super) born: Instant,
    pub(super) uses: u32,
}

/// An open Socket Mode connection.
pub(super) struct Link {
    pub(super) id: u64,
    pub(super) out: mpsc::Sender<Outgoing>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) messages: VecDeque<Message>,
    pub(super) modals: Vec<Modal>,
    pub(super) narration: VecDeque<Narration>,
    pub(super) requests: VecDeque<Request>,
    pub(super) faults: HashMap<String, VecDeque<Fault>>,
    pub(super) triggers: VecDeque<Trigger>,
    pub(super) replies: VecDeque<Reply>,
    pub(super) tickets: HashSet<String>,
    pub(super) links: Vec<Link>,
    pub(super) interactivity_url: Option<String>,
    /// `http://host:port` under which the stand-in was last called: response URLs begin with it.
    pub(super) base_url: Option<String>,
    last_ts_us: i64,
    counter: u64,
    buckets: HashMap<String, (f64, Instant)>,
}

impl State {
    pub(super) fn message(&self, ts: &str) -> Option<&Message> {
        self.messages.iter().find(|m| m.ts == ts)
    }

    pub(super) fn message_mut(&mut self, ts: &str) -> Option<&mut Message> {
        self.messages.iter_mut().find(|m| m.ts == ts)
    }

    pub(super) fn push_message(&mut self, message: Message) {
        push_bounded(&mut self.messages, message, MESSAGES_MAX);
    }

    pub(super) fn push_request(&mut self, request: Request) {
        push_bounded(&mut self.requests, request, REQUESTS_MAX);
    }

    pub(super) fn push_modal(&mut self, modal: Modal) {
        if self.modals.len() == MODALS_MAX {
            self.modals.remove(0);
        }
        self.modals.push(modal);
    }

    pub(super) fn push_trigger(&mut self, trigger: Trigger) {
        push_bounded(&mut self.triggers, trigger, HANDLES_MAX);
    }

    pub(super) fn push_reply(&mut self, reply: Reply) {
        push_bounded(&mut self.replies, reply, HANDLES_MAX);
    }

    pub(super) fn narrate(&mut self, at_ms: i64, text: String) {
        push_bounded(&mut self.narration, Narration { at_ms, text }, NARRATION_MAX);
    }

    /// A number never given before in this workspace.
    pub(super) fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// A timestamp later than all before it, `now_ms` where that is possible.
    pub(super) fn next_ts(&mut self, now_ms: i64) -> String {
        self.last_ts_us = (now_ms * 1000).max(self.last_ts_us + 1);
        format!("{}.{:06}", self.last_ts_us / 1_000_000, self.last_ts_us % 1_000_000)
    }

    /// Takes one post from the channel's bucket, or says in how many seconds to come again.
    pub(super) fn take_post(&mut self, channel: &str, now: Instant) -> Result<(), u64> {
        let (left, since) = self.buckets.entry(channel.to_owned()).or_insert((POST_BURST, now));
        *left = (*left + now.duration_since(*since).as_secs_f64()).min(POST_BURST);
        *since = now;
        if *left < 1.0 {
            return Err(1);
        }
        *left -= 1.0;
        Ok(())
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    if queue.len() == most {
        queue.pop_front();
    }
    queue.push_back(item);
}
