//! What a person does: presses a button, sends a modal; and the response URL by which the app answers that person.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, bail};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hmac::{Hmac, KeyInit, Mac};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Map, Value, json};
use tokio::time::{Duration, Instant, timeout};

use super::api::Args;
use super::chat::{self, Content};
use super::state::{Message, Reply, Trigger};
use super::{APP_ID, Slack, TEAM_DOMAIN, TEAM_ID};

/// Slack waits three seconds: <https://docs.slack.dev/interactivity/handling-user-interaction>
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// A response URL works "up to 5 times within 30 minutes", same page.
const REPLIES_MAX: u32 = 5;
const REPLY_LIFE: Duration = Duration::from_secs(30 * 60);
/// The answer to a click is empty or a few bytes; a modal's is at most a view.
const ANSWER_MAX: usize = 1 << 20;

/// The way a click goes to the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Socket Mode where a connection is open, else HTTP, as Slack does.
    Auto,
    Socket,
    Http,
}

/// How the app took a click.
#[derive(Clone, Debug)]
pub struct ClickOutcome {
    /// The way it went, never `Auto`.
    pub via: Delivery,
    /// Whether the app answered well within three seconds; else the person sees a warning sign at the button.
    pub acked: bool,
    /// HTTP status; 0 over Socket Mode and when there was no answer.
    pub status: u16,
    /// What the app answered, `null` where that was nothing or no JSON.
    pub response: Value,
}

/// A click as an HTTP request, so that a test can change it on its way.
#[derive(Clone, Debug)]
pub struct SignedRequest {
    /// `x-slack-request-timestamp`, seconds since the Unix epoch.
    pub timestamp: String,
    /// `x-slack-signature`.
    pub signature: String,
    /// The form `payload=...`.
    pub body: String,
}

impl Slack {
    /// Lets `user` press the button `action_id` of the message `ts` (its first button of that name).
    ///
    /// # Errors
    /// When the user cannot see such a button, or there is no way to the app.
    pub async fn click(&self, ts: &str, action_id: &str, user: &str, delivery: Delivery) -> Result<ClickOutcome> {
        let payload = self.block_actions(ts, action_id, user)?;
        self.deliver(payload, delivery).await
    }

    /// The payload of such a click, with a fresh trigger and response URL.
    ///
    /// # Errors
    /// When the user cannot see such a button.
    pub fn block_actions(&self, ts: &str, action_id: &str, user: &str) -> Result<Value> {
        let now_ms = self.now_ms();
        let user_name = self.user_name(user);
        let mut state = self.state();
        let message = state.message(ts).cloned().with_context(|| format!("no message {ts}"))?;
        if message.ephemeral_to.as_deref().is_some_and(|only| only != user) {
            bail!("{user} does not see the message {ts}");
        }
        let mut action =
            button(&message, action_id).with_context(|| format!("message {ts} has no button {action_id}"))?;
        action["action_ts"] = json!(state.next_ts(now_ms));
        let number = state.next();
        let trigger_id = format!("{number}.1.{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let born = Instant::now();
        state.push_trigger(Trigger { id: trigger_id.clone(), user: user.to_owned(), born, used: false });
        let id = format!("r{number:012x}");
        let base = state.base_url.clone().unwrap_or_else(|| "http://127.0.0.1:9".to_owned());
        state.push_reply(Reply {
            id: id.clone(),
            channel: message.channel.clone(),
            ts: ts.to_owned(),
            thread_ts: message.thread_ts.clone(),
            user: user.to_owned(),
            born,
            uses: 0,
        });
        let ephemeral = message.ephemeral_to.is_some();
        let channel = self.channel(&message.channel).map(|c| c.name.clone()).unwrap_or_default();
        let mut container =
            json!({"type": "message", "message_ts": ts, "channel_id": message.channel, "is_ephemeral": ephemeral});
        if let Some(thread) = &message.thread_ts {
            container["thread_ts"] = json!(thread);
        }
        Ok(json!({"type": "block_actions", "user": person(user, &user_name), "api_app_id": APP_ID, "token": "stand-in",
            "container": container, "trigger_id": trigger_id, "team": {"id": TEAM_ID, "domain": TEAM_DOMAIN},
            "enterprise": null, "is_enterprise_install": false, "channel": {"id": message.channel, "name": channel},
            "message": message.wire(), "state": {"values": {}},
            "response_url": format!("{base}/actions/{TEAM_ID}/{number}/{id}"), "actions": [action]}))
    }

    /// Sends what the user typed into the modal `view_id`: texts by block id and action id.
    ///
    /// # Errors
    /// When the user does not see that modal, a field that is not optional is empty, or there is no way to the app.
    pub async fn submit(
        &self,
        view_id: &str,
        user: &str,
        values: &BTreeMap<String, BTreeMap<String, String>>,
        delivery: Delivery,
    ) -> Result<ClickOutcome> {
        let user_name = self.user_name(user);
        let (mut view, number) = {
            let mut state = self.state();
            let modal = state.modals.iter().find(|m| m.id == view_id && m.user == user);
            let view = modal.map(|m| m.view.clone()).with_context(|| format!("{user} sees no modal {view_id}"))?;
            (view, state.next())
        };
        view["state"] = json!({"values": typed(&view, values)?});
        let payload = json!({"type": "view_submission", "team": {"id": TEAM_ID, "domain": TEAM_DOMAIN},
            "user": person(user, &user_name), "api_app_id": APP_ID, "token": "stand-in", "trigger_id": format!("{number}.1.submit"),
            "view": view, "response_urls": [], "is_enterprise_install": false, "enterprise": null});
        let outcome = self.deliver(payload, delivery).await?;
        if outcome.acked {
            self.after_submit(view_id, &outcome.response);
        }
        Ok(outcome)
    }

    /// Closes a modal without sending it.
    pub fn close_modal(&self, view_id: &str) {
        self.state().modals.retain(|m| m.id != view_id);
        self.changed();
    }

    /// What the app's answer makes of the modal: it stays for errors, changes for a new view, and closes else.
    fn after_submit(&self, view_id: &str, response: &Value) {
        let mut state = self.state();
        match (super::text_of(response, "response_action"), response.get("view")) {
            ("errors", _) => {}
            ("update" | "push", Some(view)) => {
                let view = chat::complete_view(view.clone(), &mut state);
                if let Some(modal) = state.modals.iter_mut().find(|m| m.id == view_id) {
                    modal.id = super::text_of(&view, "id").to_owned();
                    modal.view = view;
                }
            }
            _ => state.modals.retain(|m| m.id != view_id),
        }
        drop(state);
        self.changed();
    }

    /// Brings any interactive payload to the app, also an old or a made-up one.
    ///
    /// # Errors
    /// When there is no way to the app. A bad answer or none is an outcome, not an error.
    pub async fn deliver(&self, payload: Value, delivery: Delivery) -> Result<ClickOutcome> {
        let connected = self.connections() > 0;
        match delivery {
            Delivery::Socket | Delivery::Auto if connected => Ok(self.deliver_by_socket(payload).await),
            Delivery::Socket => bail!("no socket mode connection is open"),
            Delivery::Auto | Delivery::Http => self.deliver_by_http(&payload).await,
        }
    }

    async fn deliver_by_http(&self, payload: &Value) -> Result<ClickOutcome> {
        let url = self.state().interactivity_url.clone();
        let url = url.context("neither a socket mode connection nor an interactivity url: the click goes nowhere")?;
        let signed = self.signed(payload, self.now_ms() / 1000);
        let request = axum::http::Request::builder()
            .method(Method::POST)
            .uri(&url)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::USER_AGENT, "Slackbot 1.0 (+https://api.slack.com/robots)")
            .header("x-slack-request-timestamp", &signed.timestamp)
            .header("x-slack-signature", &signed.signature)
            .body(Body::from(signed.body))
            .with_context(|| format!("interactivity url {url}"))?;
        let client: Client<HttpConnector, Body> = Client::builder(TokioExecutor::new()).build_http();
        let exchange = async {
            let response = client.request(request).await?;
            let status = response.status();
            let body = axum::body::to_bytes(Body::new(response.into_body()), ANSWER_MAX).await?;
            anyhow::Ok((status, body))
        };
        let (status, body) = match timeout(ANSWER_WITHIN, exchange).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => return Ok(outcome(Delivery::Http, false, 0, Value::Null)),
        };
        let response = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Ok(outcome(Delivery::Http, status.is_success(), status.as_u16(), response))
    }

    /// The payload as the signed form that Slack would post at `at_s` (seconds since the Unix epoch).
    pub fn signed(&self, payload: &Value, at_s: i64) -> SignedRequest {
        signed_with(&self.options().signing_secret, &payload.to_string(), at_s)
    }
}

/// The same form of any payload, signed with any secret.
pub fn signed_with(secret: &str, payload: &str, at_s: i64) -> SignedRequest {
    let body = form_payload(payload);
    let timestamp = at_s.to_string();
    let signature = sign(secret, &timestamp, &body);
    SignedRequest { timestamp, signature, body }
}

pub(super) fn outcome(via: Delivery, acked: bool, status: u16, response: Value) -> ClickOutcome {
    ClickOutcome { via, acked, status, response }
}

/// <https://docs.slack.dev/authentication/verifying-requests-from-slack>: `v0=` and the HMAC-SHA256 of `v0:time:body`.
fn sign(secret: &str, timestamp: &str, body: &str) -> String {
    // HMAC takes keys of every length, so there is nothing to refuse.
    let Ok(mut mac) = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(format!("v0:{timestamp}:{body}").as_bytes());
    format!("v0={}", hex::encode(mac.finalize().into_bytes()))
}

fn form_payload(payload: &str) -> String {
    let Ok(mut url) = reqwest::Url::parse("http://form/") else { return String::new() };
    url.query_pairs_mut().append_pair("payload", payload);
    url.query().unwrap_or_default().to_owned()
}

fn person(id: &str, name: &str) -> Value {
    json!({"id": id, "username": name, "name": name, "team_id": TEAM_ID})
}

/// The button as the payload's `actions[0]`, with the id of its block.
fn button(message: &Message, action_id: &str) -> Option<Value> {
    message.blocks.iter().find_map(|block| {
        let elements = block.get("elements").and_then(Value::as_array).into_iter().flatten();
        let mut all = elements.chain(block.get("accessory"));
        let found =
            all.find(|e| super::text_of(e, "type") == "button" && super::text_of(e, "action_id") == action_id)?;
        let mut action = Map::new();
        for field in ["type", "action_id", "text", "value", "style", "confirm"] {
            found.get(field).and_then(|value| action.insert(field.to_owned(), value.clone()));
        }
        action.insert("block_id".into(), block.get("block_id").cloned().unwrap_or_default());
        Some(Value::Object(action))
    })
}

/// The typed texts in the shape of `view.state.values`.
fn typed(view: &Value, values: &BTreeMap<String, BTreeMap<String, String>>) -> Result<Value> {
    let mut state = json!({});
    for block in view.get("blocks").and_then(Value::as_array).into_iter().flatten() {
        let Some(element) = block.get("element") else { continue };
        let (block_id, action_id) = (super::text_of(block, "block_id"), super::text_of(element, "action_id"));
        let text = values.get(block_id).and_then(|actions| actions.get(action_id)).filter(|text| !text.is_empty());
        let optional = block.get("optional").and_then(Value::as_bool).unwrap_or(false);
        if text.is_none() && !optional {
            return Err(anyhow!("please complete this required field: {block_id}"));
        }
        state[block_id][action_id] = json!({"type": element.get("type"), "value": text});
    }
    Ok(state)
}

/// A post to a response URL: an ephemeral answer, or a change of the message that was clicked.
pub(super) async fn respond(
    State(slack): State<Slack>,
    Path((_, _, id)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: String,
) -> Response {
    let refuse =
        |status: StatusCode, error: &str| (status, axum::Json(json!({"ok": false, "error": error}))).into_response();
    let json_body = headers.get(header::CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/json"));
    let Some(Value::Object(fields)) = serde_json::from_str(&body).ok().filter(|_| json_body) else {
        return refuse(StatusCode::BAD_REQUEST, "invalid_payload");
    };
    let reply = {
        let mut state = slack.state();
        let Some(reply) = state.replies.iter_mut().find(|r| r.id == id) else {
            return refuse(StatusCode::NOT_FOUND, "no_service");
        };
        reply.uses += 1;
        reply.clone()
    };
    if reply.uses > REPLIES_MAX || reply.born.elapsed() > REPLY_LIFE {
        return refuse(StatusCode::NOT_FOUND, if reply.uses > REPLIES_MAX { "used_url" } else { "expired_url" });
    }
    match slack.apply_reply(&reply, &Args(fields)) {
        Ok(()) => axum::Json(json!({"ok": true})).into_response(),
        Err(error) => refuse(StatusCode::BAD_REQUEST, &error),
    }
}

impl Slack {
    /// # Errors
    /// Slack's word for what is wrong with the answer.
    fn apply_reply(&self, reply: &Reply, args: &Args) -> Result<(), String> {
        let now_ms = self.now_ms();
        let channel = self.channel(&reply.channel).ok_or("channel_not_found")?;
        let mut state = self.state();
        if args.flag("delete_original") {
            state.messages.retain(|m| m.ts != reply.ts);
            drop(state);
            self.changed();
            return Ok(());
        }
        let content = Content::read(args, &mut state).map_err(|refusal| refusal.error)?;
        let edited_ts = state.next_ts(now_ms);
        match state.message_mut(&reply.ts).filter(|_| args.flag("replace_original")) {
            Some(message) => {
                message.text = content.text.unwrap_or_default();
                message.blocks = content.blocks.unwrap_or_default();
                message.edited_ts = Some(edited_ts);
                message.edits += 1;
            }
            None => {
                let in_thread = args.some_text("thread_ts").map(str::to_owned).or_else(|| reply.thread_ts.clone());
                let mut message = chat::new_message(&mut state, self, channel, in_thread, content);
                message.ephemeral_to = (args.text("response_type") != "in_channel").then(|| reply.user.clone());
                state.push_message(message);
            }
        }
        drop(state);
        self.changed();
        Ok(())
    }
}
