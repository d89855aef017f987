//! A Slack stand-in on loopback: the real wire protocol (Web API, Socket Mode, signed clicks) with a channel one can read.

mod api;
mod blocks;
mod chat;
mod click;
mod fault;
mod history;
mod people;
mod socket;
mod state;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{OnceCell, watch};

use crate::clock::Clock;
pub use click::{ClickOutcome, Delivery, SignedRequest, signed_with};
pub use fault::Fault;
use state::State;
pub use state::{Message, Modal, Narration, Request};

/// Somebody in the workspace who can click.
#[derive(Clone, Debug, Serialize)]
pub struct User {
    /// As Slack writes it: `U` and at least eight more.
    pub id: String,
    /// Without the `@`.
    pub name: String,
}

/// A user group (`@oncalls`), for approvers given as `group:<id>`.
#[derive(Clone, Debug)]
pub struct Group {
    /// As Slack writes it: `S` and at least eight more.
    pub id: String,
    /// Ids of its users.
    pub users: Vec<String>,
}

/// A channel that the app is a member of.
#[derive(Clone, Debug, Serialize)]
pub struct Channel {
    /// As Slack writes it: `C` and at least eight more.
    pub id: String,
    /// Without the `#`.
    pub name: String,
}

/// The workspace that the stand-in plays. Its tokens open nothing but the stand-in itself.
#[derive(Clone)]
pub struct SlackOptions {
    /// What `Authorization: Bearer` must carry for everything but `apps.connections.open`.
    pub bot_token: String,
    /// What `apps.connections.open` must carry.
    pub app_token: String,
    /// Key of the signature on clicks that come as HTTP requests.
    pub signing_secret: String,
    pub users: Vec<User>,
    pub groups: Vec<Group>,
    /// The first one is what the page shows.
    pub channels: Vec<Channel>,
    /// What the bot token may do; a method whose scope is absent answers `missing_scope`.
    pub scopes: Vec<String>,
    /// Whether more than a small burst of posts, then one a second, in a channel answers 429 as Slack does.
    /// Counted in real time; switch it off where the clock is moved by hand.
    pub rate_limit: bool,
}

impl Default for SlackOptions {
    /// A workspace with @oncall and @lead (both in the group `S0ONCALLS`), @visitor, and #incidents.
    fn default() -> Self {
        let user = |id: &str, name: &str| User { id: id.into(), name: name.into() };
        Self {
            bot_token: "xoxb-stand-in".into(),
            app_token: "xapp-stand-in".into(),
            signing_secret: "stand-in-signing-secret".into(),
            users: vec![user("U0ONCALL1", "oncall"), user("U0LEAD001", "lead"), user("U0VISITOR", "visitor")],
            groups: vec![Group { id: "S0ONCALLS".into(), users: vec!["U0ONCALL1".into(), "U0LEAD001".into()] }],
            channels: vec![Channel { id: "C0INCIDENT".into(), name: "incidents".into() }],
            scopes: api::SCOPES.iter().map(|s| (*s).to_owned()).collect(),
            rate_limit: true,
        }
    }
}

/// The stand-in; clones are the same workspace. It keeps 10,000 messages and 1,000 requests, the oldest go first.
#[derive(Clone)]
pub struct Slack(Arc<Inner>);

struct Inner {
    clock: Clock,
    options: SlackOptions,
    state: Mutex<State>,
    /// Counts the changes of anything a person could see.
    changes: watch::Sender<u64>,
    /// Counts the releases of held answers.
    releases: watch::Sender<u64>,
    /// Where Socket Mode listens; bound when the first client asks for it.
    link: OnceCell<std::net::SocketAddr>,
}

impl Slack {
    /// An empty workspace. `clock` gives the messages their timestamps.
    pub fn new(clock: Clock, options: SlackOptions) -> Self {
        Self(Arc::new(Inner {
            clock,
            options,
            state: Mutex::new(State::default()),
            changes: watch::Sender::new(0),
            releases: watch::Sender::new(0),
            link: OnceCell::new(),
        }))
    }

    /// `/api/{method}` and the response URLs, to be served on loopback.
    pub fn router(&self) -> Router {
        api::router(self.clone())
    }

    /// Where clicks go as signed HTTP requests when no Socket Mode connection is open (`http://` on loopback).
    pub fn set_interactivity_url(&self, url: impl Into<String>) {
        self.state().interactivity_url = Some(url.into());
    }

    /// All messages in the order of their posting, thread replies and ephemeral ones among them.
    pub fn messages(&self) -> Vec<Message> {
        self.state().messages.iter().cloned().collect()
    }

    /// The message with this timestamp, as it stands now.
    pub fn message(&self, ts: &str) -> Option<Message> {
        self.state().message(ts).cloned()
    }

    /// What opened modals show, oldest first; at most 20.
    pub fn modals(&self) -> Vec<Modal> {
        self.state().modals.clone()
    }

    /// The API calls that came in, oldest first, with what they were answered; at most 1,000.
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.iter().cloned().collect()
    }

    /// Changes whenever something that a person could see has changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Waits until `wanted` gives something for the messages there are.
    pub async fn wait_for<T>(&self, mut wanted: impl FnMut(&[Message]) -> Option<T>) -> T {
        let mut changes = self.changes();
        loop {
            changes.borrow_and_update();
            if let Some(found) = wanted(&self.messages()) {
                return found;
            }
            // The sender lives as long as `self`, so this only ever ends with a change.
            let _ = changes.changed().await;
        }
    }

    /// Lets the next call of `method` (such as `chat.postMessage`) go wrong; calls queue up, at most 100 a method.
    pub fn fail_next(&self, method: &str, fault: Fault) {
        let mut state = self.state();
        let queue = state.faults.entry(method.to_owned()).or_default();
        if queue.len() < fault::QUEUE_MAX {
            queue.push_back(fault);
        }
    }

    /// Lets every answer go that a [`Fault::HoldAfterAccept`] holds.
    pub fn release_held(&self) {
        self.0.releases.send_modify(|n| *n += 1);
    }

    /// Says on the page what the daemon is doing, beside the time since the first such line.
    pub fn narrate(&self, text: impl Into<String>) {
        let at_ms = self.0.clock.now_ms();
        self.state().narrate(at_ms, text.into());
        self.changed();
    }

    /// What was narrated, oldest first; at most 200 lines.
    pub fn narration(&self) -> Vec<Narration> {
        self.state().narration.iter().cloned().collect()
    }

    /// The workspace as it was set up.
    pub fn options(&self) -> &SlackOptions {
        &self.0.options
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.0.clock.now_ms()
    }

    fn changed(&self) {
        self.0.changes.send_modify(|n| *n += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change under this lock is whole when it panics, so a poisoned lock is still good.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The user's name, or the id where nobody has it.
    fn user_name(&self, id: &str) -> String {
        self.0.options.users.iter().find(|u| u.id == id).map_or_else(|| id.to_owned(), |u| u.name.clone())
    }

    fn channel(&self, id_or_name: &str) -> Option<&Channel> {
        let name = id_or_name.trim_start_matches('#');
        self.0.options.channels.iter().find(|c| c.id == id_or_name || c.name == name)
    }
}

/// The app's and the workspace's fixed identities, in Slack's shape.
const TEAM_ID: &str = "T0STANDIN";
const TEAM_NAME: &str = "Stand-in";
const TEAM_DOMAIN: &str = "stand-in";
const APP_ID: &str = "A0FIRSTLK";
const BOT_ID: &str = "B0FIRSTLK";
const BOT_USER: &str = "U0FIRSTLK";
const BOT_NAME: &str = "firstlook";

/// The text of a JSON value's field, empty when it is absent or no text.
fn text_of<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}
