//! Writing to a channel: posts, edits, ephemeral answers, modals, within Slack's limits.

use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::api::{Answer, Args, Refusal};
use super::blocks;
use super::state::{Message, Modal, State};
use super::{BOT_USER, Channel, Slack, TEAM_DOMAIN, TEAM_ID};

/// <https://docs.slack.dev/changelog/2018-truncating-really-long-messages>: longer texts are not taken.
const TEXT_MAX: usize = 40_000;
/// A trigger "expires three seconds after you receive it": <https://docs.slack.dev/interactivity/handling-user-interaction>
const TRIGGER_LIFE: Duration = Duration::from_secs(3);

/// What a message is made of, checked.
pub(super) struct Content {
    pub(super) text: Option<String>,
    pub(super) blocks: Option<Vec<Value>>,
    pub(super) metadata: Option<Value>,
}

impl Content {
    /// # Errors
    /// Slack's refusal of what is wrong with it.
    pub(super) fn read(args: &Args, state: &mut State) -> Result<Self, Refusal> {
        let text = args.some_text("text").map(str::to_owned);
        if text.as_ref().is_some_and(|t| t.chars().count() > TEXT_MAX) {
            return Err(Refusal::new("msg_too_long"));
        }
        let blocks = match args.json("blocks", "invalid_blocks_format")? {
            None => None,
            Some(Value::Array(mut list)) => {
                let faults = blocks::faults(&list, blocks::Surface::Message);
                if !faults.is_empty() {
                    return Err(Refusal::with("invalid_blocks", faults));
                }
                blocks::complete(&mut list, &mut || state.next());
                Some(list)
            }
            Some(_) => return Err(Refusal::new("invalid_blocks_format")),
        };
        let metadata = args.json("metadata", "invalid_metadata_format")?;
        if let Some(metadata) = &metadata {
            check_metadata(metadata)?;
        }
        Ok(Self { text, blocks, metadata })
    }

    fn is_empty(&self) -> bool {
        self.text.is_none() && self.blocks.as_ref().is_none_or(Vec::is_empty)
    }
}

/// <https://docs.slack.dev/messaging/message-metadata>: an event type of letters, digits and underscores, and a flat payload.
fn check_metadata(metadata: &Value) -> Result<(), Refusal> {
    let fields = metadata.as_object().ok_or_else(|| Refusal::new("invalid_metadata_format"))?;
    if fields.is_empty() {
        return Ok(());
    }
    let kind = super::text_of(metadata, "event_type");
    let kind_ok = !kind.is_empty() && kind.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !kind_ok || !metadata.get("event_payload").is_some_and(Value::is_object) {
        return Err(Refusal::new("invalid_metadata_format"));
    }
    Ok(())
}

/// <https://docs.slack.dev/reference/methods/chat.postMessage>
pub(super) fn post(slack: &Slack, args: &Args) -> Answer {
    let channel = target(slack, args)?;
    let mut state = slack.state();
    let content = Content::read(args, &mut state)?;
    if content.is_empty() {
        return Err(Refusal::new("no_text"));
    }
    let thread_ts = thread_of(&state, args, channel)?;
    if slack.options().rate_limit
        && let Err(seconds) = state.take_post(&channel.id, Instant::now())
    {
        return Err(Refusal { retry_after: Some(seconds), ..Refusal::new("ratelimited") });
    }
    let message = new_message(&mut state, slack, channel, thread_ts, content);
    let mut wire = message.wire();
    if let Some(metadata) = &message.metadata {
        wire["metadata"] = metadata.clone();
    }
    let body = json!({"channel": channel.id, "ts": message.ts, "message": wire});
    state.push_message(message);
    drop(state);
    slack.changed();
    Ok(body)
}

/// <https://docs.slack.dev/reference/methods/chat.update>: what is not given is kept.
pub(super) fn update(slack: &Slack, args: &Args) -> Answer {
    let channel = target(slack, args)?;
    let now_ms = slack.now_ms();
    let mut state = slack.state();
    let content = Content::read(args, &mut state)?;
    let ts = args.text("ts").to_owned();
    let found = state.message(&ts).filter(|m| m.channel == channel.id && m.ephemeral_to.is_none());
    match found {
        None => return Err(Refusal::new("message_not_found")),
        Some(message) if message.user != BOT_USER => return Err(Refusal::new("cant_update_message")),
        Some(_) if content.text.is_none() && content.blocks.is_none() => return Err(Refusal::new("no_text")),
        Some(_) => {}
    }
    let edited_ts = state.next_ts(now_ms);
    let message = state.message_mut(&ts).ok_or_else(|| Refusal::new("message_not_found"))?;
    if let Some(text) = content.text {
        message.text = text;
    }
    if let Some(blocks) = content.blocks {
        message.blocks = blocks;
    }
    if let Some(metadata) = content.metadata {
        message.metadata = Some(metadata).filter(|m| m.as_object().is_some_and(|fields| !fields.is_empty()));
    }
    message.edited_ts = Some(edited_ts);
    message.edits += 1;
    let body = json!({"channel": channel.id, "ts": ts, "text": message.text, "message": message.wire()});
    drop(state);
    slack.changed();
    Ok(body)
}

/// <https://docs.slack.dev/reference/methods/chat.postEphemeral>
pub(super) fn post_ephemeral(slack: &Slack, args: &Args) -> Answer {
    let channel = target(slack, args)?;
    let user = args.text("user").to_owned();
    if !slack.options().users.iter().any(|u| u.id == user) {
        return Err(Refusal::new("user_not_in_channel"));
    }
    let mut state = slack.state();
    let content = Content::read(args, &mut state)?;
    if content.is_empty() {
        return Err(Refusal::new("no_text"));
    }
    let thread_ts = thread_of(&state, args, channel)?;
    let message = Message { ephemeral_to: Some(user), ..new_message(&mut state, slack, channel, thread_ts, content) };
    let body = json!({"message_ts": message.ts});
    state.push_message(message);
    drop(state);
    slack.changed();
    Ok(body)
}

/// <https://docs.slack.dev/reference/methods/chat.getPermalink>
pub(super) fn permalink(slack: &Slack, args: &Args) -> Answer {
    let channel = target(slack, args)?;
    let ts = args.text("message_ts");
    let state = slack.state();
    let message = state.message(ts).filter(|m| m.channel == channel.id && m.ephemeral_to.is_none());
    let message = message.ok_or_else(|| Refusal::new("message_not_found"))?;
    let digits = ts.replace('.', "");
    let mut link = format!("https://{TEAM_DOMAIN}.slack.com/archives/{}/p{digits}", channel.id);
    if let Some(thread) = &message.thread_ts {
        link.push_str(&format!("?thread_ts={thread}&cid={}", channel.id));
    }
    Ok(json!({"channel": channel.id, "permalink": link}))
}

/// <https://docs.slack.dev/reference/methods/views.open>: a modal for the user whose click made the trigger.
pub(super) fn open_view(slack: &Slack, args: &Args) -> Answer {
    let view = args.json("view", "invalid_arguments")?.ok_or_else(|| Refusal::new("invalid_arguments"))?;
    let mut state = slack.state();
    let trigger_id = args.text("trigger_id");
    let trigger = state.triggers.iter().position(|t| t.id == trigger_id);
    let index = trigger.ok_or_else(|| Refusal::new("invalid_trigger_id"))?;
    let trigger = &state.triggers[index];
    if trigger.used {
        return Err(Refusal::new("exchanged_trigger_id"));
    }
    if trigger.born.elapsed() > TRIGGER_LIFE {
        return Err(Refusal::new("expired_trigger_id"));
    }
    let faults = blocks::view_faults(&view);
    if !faults.is_empty() {
        return Err(Refusal::with("invalid_arguments", faults));
    }
    let user = trigger.user.clone();
    state.triggers[index].used = true;
    let view = complete_view(view, &mut state);
    state.push_modal(Modal { id: super::text_of(&view, "id").to_owned(), user, view: view.clone() });
    drop(state);
    slack.changed();
    Ok(json!({"view": view}))
}

/// The view as Slack gives it back.
pub(super) fn complete_view(mut view: Value, state: &mut State) -> Value {
    if let Some(Value::Array(list)) = view.get_mut("blocks") {
        blocks::complete(list, &mut || state.next());
    }
    let id = format!("V0{:08}", state.next());
    for (field, value) in [
        ("id", json!(id)),
        ("root_view_id", json!(id)),
        ("team_id", json!(TEAM_ID)),
        ("app_id", json!(super::APP_ID)),
        ("bot_id", json!(super::BOT_ID)),
        ("hash", json!(format!("{}.{}", state.next(), id))),
        ("state", json!({"values": {}})),
    ] {
        view[field] = value;
    }
    view
}

fn target<'a>(slack: &'a Slack, args: &Args) -> Result<&'a Channel, Refusal> {
    slack.channel(args.text("channel")).ok_or_else(|| Refusal::new("channel_not_found"))
}

/// The thread's first message, also when a reply of it was named.
fn thread_of(state: &State, args: &Args, channel: &Channel) -> Result<Option<String>, Refusal> {
    let Some(ts) = args.some_text("thread_ts") else { return Ok(None) };
    let parent = state.message(ts).filter(|m| m.channel == channel.id && m.ephemeral_to.is_none());
    let parent = parent.ok_or_else(|| Refusal::new("thread_not_found"))?;
    Ok(Some(parent.thread_ts.clone().unwrap_or_else(|| parent.ts.clone())))
}

/// A message of the app that nobody has seen yet.
pub(super) fn new_message(
    state: &mut State,
    slack: &Slack,
    channel: &Channel,
    thread_ts: Option<String>,
    content: Content,
) -> Message {
    Message {
        channel: channel.id.clone(),
        ts: state.next_ts(slack.now_ms()),
        thread_ts,
        user: BOT_USER.to_owned(),
        is_app: true,
        text: content.text.unwrap_or_default(),
        blocks: content.blocks.unwrap_or_default(),
        metadata: content.metadata,
        edited_ts: None,
        edits: 0,
        ephemeral_to: None,
    }
}
