//! The client for Slack's Web API: posts that can be found again, edits, answers to one person, groups, forms.

mod error;
mod pace;
mod wire;

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use slack_morphism::prelude::*;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::http::Request;

use crate::clock::Clock;
use crate::model::{IncidentId, Nonce, ReasonFor};
use crate::redact::{Redacted, Redactor};
use crate::slack::render::Message;
use crate::slack::render::{REASON, THUMB_REASON};
use crate::telemetry::{MethodLabels, Metrics, SlackLabels};
use crate::text;

pub use error::SlackError;
pub use wire::API_URL;

/// How long a group's members are believed: a person taken out of it may approve for at most so long.
const GROUP_LIFE: Duration = Duration::from_secs(60);
/// Groups kept; more than a policy names.
const GROUPS_MAX: usize = 200;
/// Messages a page, and pages a search: 20,000 messages in ten minutes are beyond what a channel can take.
const PAGE: &str = "200";
const PAGES_MAX: usize = 100;
/// Marks our messages' metadata.
const EVENT_TYPE: &str = "firstlook_post";
/// A reason is a sentence or two.
const REASON_MAX: u64 = 500;

/// How Slack is reached.
pub struct SlackOptions {
    /// `xoxb-...`
    pub bot_token: SecretString,
    /// [`API_URL`], or a stand-in's.
    pub api_url: String,
    /// Knows our tokens, so that no error text can carry them.
    pub redactor: Redactor,
    pub metrics: Metrics,
    /// By which posts keep their distance.
    pub clock: Clock,
}

/// Slack, for one bot token. Clones share connections, pace and cache.
#[derive(Clone)]
pub struct Slack(Arc<Inner>);

struct Inner {
    client: SlackClient<wire::Connector>,
    raw: hyper_util::client::legacy::Client<
        hyper_rustls::HttpsConnector<hyper_util::client::legacy::connect::HttpConnector>,
        String,
    >,
    tls: Arc<rustls::ClientConfig>,
    token: SlackApiToken,
    secret: SecretString,
    api_url: String,
    redactor: Redactor,
    metrics: Metrics,
    clock: Clock,
    pace: Mutex<pace::Pace>,
    groups: Mutex<HashMap<String, (Instant, BTreeSet<String>)>>,
}

/// An answer to one person goes to a URL of its own, which no metric may name.
const RESPONSE_URL: &str = "response_url";

/// Who the bot token is, and what it may do.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The bot's user id.
    pub user: Redacted,
    pub team: Redacted,
    pub url: Redacted,
    /// As the header `x-oauth-scopes` lists them; empty where it is absent.
    pub scopes: Vec<String>,
}

impl Slack {
    /// A client; nothing is sent yet. Fails where the machine has no root certificates.
    pub fn new(options: SlackOptions) -> anyhow::Result<Self> {
        let tls = wire::tls(&options.api_url)?;
        let connector = wire::Connector::from(wire::connector(&tls)).with_slack_api_url(&options.api_url);
        let executor = hyper_util::rt::TokioExecutor::new();
        Ok(Self(Arc::new(Inner {
            client: SlackClient::new(connector),
            raw: hyper_util::client::legacy::Client::builder(executor).build(wire::connector(&tls)),
            tls,
            token: wire::token(&options.bot_token),
            secret: options.bot_token,
            api_url: options.api_url,
            redactor: options.redactor,
            metrics: options.metrics,
            clock: options.clock,
            pace: Mutex::default(),
            groups: Mutex::default(),
        })))
    }

    /// Posts into `channel`, or into the thread of `thread`. Gives the message's timestamp, which is its id. The nonce
    /// goes along as metadata, so that `find` tells after a lost answer whether the post happened.
    pub async fn post(
        &self,
        channel: &str,
        thread: Option<&str>,
        message: &Message,
        incident: &IncidentId,
        nonce: &Nonce,
    ) -> Result<String, SlackError> {
        let now = self.0.clock.now();
        self.pace().take(channel, thread.is_some(), now).map_err(SlackError::Wait)?;
        let payload = [("incident", incident.as_str()), ("nonce", nonce.as_str())];
        let payload = payload.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let metadata = SlackMessageMetadata::new(EVENT_TYPE.to_owned()).with_event_payload(payload);
        let request = SlackApiChatPostMessageRequest::new(channel.into(), content(message).with_metadata(metadata))
            .opt_thread_ts(thread.map(Into::into))
            .with_parse("none".to_owned())
            .with_unfurl_links(false)
            .with_unfurl_media(false);
        let answer = self.send("chat.postMessage", &request).await;
        if let Err(SlackError::Wait(wait)) = &answer {
            self.pace().rest(channel, now, *wait);
        }
        match answer?["ts"].as_str() {
            Some(ts) => Ok(self.0.redactor.redact(ts).as_str().to_owned()),
            None => Err(self.counted("chat.postMessage", SlackError::Unknown("an answer without a timestamp".into()))),
        }
    }

    /// Puts `message` in the place of the one with this timestamp. Repeating it is harmless.
    pub async fn update(&self, channel: &str, ts: &str, message: &Message) -> Result<(), SlackError> {
        let request =
            SlackApiChatUpdateRequest::new(channel.into(), content(message), ts.into()).with_parse("none".to_owned());
        self.send("chat.update", &request).await.map(drop)
    }

    /// Slack's link to the message with this timestamp.
    pub async fn permalink(&self, channel: &str, ts: &str) -> Result<Redacted, SlackError> {
        let answer = self.read("chat.getPermalink", &[("channel", Some(channel)), ("message_ts", Some(ts))]).await?;
        match answer["permalink"].as_str() {
            Some(link) => Ok(self.0.redactor.redact(link)),
            None => Err(self.counted("chat.getPermalink", SlackError::Unknown("an answer without a link".into()))),
        }
    }

    /// The timestamp of the message that carries `nonce`, in the channel or in the thread of `thread`, no older than
    /// `oldest`; none only after every page was read.
    pub async fn find(
        &self,
        channel: &str,
        thread: Option<&str>,
        nonce: &Nonce,
        oldest: Timestamp,
    ) -> Result<Option<String>, SlackError> {
        let method = if thread.is_some() { "conversations.replies" } else { "conversations.history" };
        let oldest = format!("{}.000000", oldest.as_second());
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut asked = vec![
                ("channel", Some(channel)),
                ("include_all_metadata", Some("true")),
                ("limit", Some(PAGE)),
                ("oldest", Some(oldest.as_str())),
            ];
            asked.push(("ts", thread));
            asked.push(("cursor", cursor.as_deref()));
            let page = self.read(method, &asked).await?;
            let Some(messages) = page["messages"].as_array() else {
                return Err(self.counted(method, SlackError::Unknown("a page without messages".into())));
            };
            let ours = |message: &&Value| message["metadata"]["event_payload"]["nonce"] == nonce.as_str();
            if let Some(ts) = messages.iter().find(ours).and_then(|message| message["ts"].as_str()) {
                return Ok(Some(ts.to_owned()));
            }
            let next = page["response_metadata"]["next_cursor"].as_str().filter(|next| !next.is_empty());
            match next {
                Some(next) => cursor = Some(next.to_owned()),
                None => return Ok(None),
            }
        }
        Err(self.counted(method, SlackError::Unknown("more messages than can be searched".into())))
    }

    /// Answers one person through the `response_url` of their click (30 minutes, five times).
    pub async fn ephemeral(&self, response_url: &str, message: &Message) -> Result<(), SlackError> {
        let Some(url) = self.response_url(response_url) else {
            return Err(self.counted(RESPONSE_URL, SlackError::Refused("a response url that is not Slack's".into())));
        };
        let body = json!({"response_type": "ephemeral", "replace_original": false, "text": message.text,
            "blocks": message.blocks});
        let span = tracing::debug_span!("slack response url");
        // No token: the URL is the credential.
        let context = SlackClientApiCallContext {
            rate_control_params: None,
            token: None,
            tracing_span: &span,
            is_sensitive_url: true,
        };
        let call = self.0.client.http_api.connector.http_post_uri::<Value, Value>(url.0, &body, context);
        self.within(RESPONSE_URL, call).await.map(drop)
    }

    /// The user ids of a group (`S...`), at most 60 s old. An error means that nobody is known to be in it.
    pub async fn members(&self, group: &str) -> Result<BTreeSet<String>, SlackError> {
        let now = Instant::now();
        let known = self.groups().get(group).filter(|(at, _)| now.duration_since(*at) < GROUP_LIFE).cloned();
        if let Some((_, users)) = known {
            return Ok(users);
        }
        let answer = self.read("usergroups.users.list", &[("usergroup", Some(group))]).await?;
        let Some(users) = answer["users"].as_array() else {
            return Err(self.counted("usergroups.users.list", SlackError::Unknown("a group without users".into())));
        };
        let users: BTreeSet<String> = users.iter().filter_map(|user| user.as_str().map(str::to_owned)).collect();
        let mut groups = self.groups();
        groups.retain(|_, (at, _)| now.duration_since(*at) < GROUP_LIFE);
        if groups.len() < GROUPS_MAX {
            groups.insert(group.to_owned(), (now, users.clone()));
        }
        Ok(users)
    }

    /// Who we are and what we may do: for `firstlook check`.
    pub async fn auth_test(&self) -> Result<Identity, SlackError> {
        let answer = self.read("auth.test", &[]).await?;
        let text = |name: &str| self.0.redactor.redact(answer[name].as_str().unwrap_or_default()).cut(200);
        let (user, team, url) = (text("user_id"), text("team"), text("url"));
        Ok(Identity { user, team, url, scopes: self.scopes().await? })
    }

    /// Whether the app can see `channel`, and its name.
    pub async fn channel_name(&self, channel: &str) -> Result<Redacted, SlackError> {
        let answer = self.read("conversations.info", &[("channel", Some(channel))]).await?;
        Ok(self.0.redactor.redact(answer["channel"]["name"].as_str().unwrap_or_default()).cut(80))
    }

    /// Opens the form for a reason. The trigger lives three seconds.
    pub async fn open_reason(
        &self,
        trigger: &str,
        of: &ReasonFor,
        response_url: Option<&str>,
    ) -> Result<(), SlackError> {
        let input = SlackBlockPlainTextInputElement::new()
            .with_action_id(REASON.into())
            .with_multiline(true)
            .with_max_length(REASON_MAX);
        let (question, sort, carried) = match of {
            ReasonFor::No(approval) => {
                ("Why not?", REASON, json!({"approval": approval, "response_url": response_url}))
            }
            ReasonFor::ThumbDown(incident) => {
                ("What was wrong?", THUMB_REASON, json!({"incident": incident, "response_url": response_url}))
            }
        };
        let block = SlackInputBlock::new(question.into(), input.into()).with_block_id(REASON.into());
        let view = SlackModalView::new("Reason".into(), vec![block.into()])
            .with_submit("Send".into())
            .with_close("Cancel".into())
            .with_callback_id(sort.into())
            .with_private_metadata(carried.to_string());
        let request = SlackApiViewsOpenRequest::new(trigger.into(), SlackView::Modal(view));
        self.send("views.open", &request).await.map(drop)
    }

    /// An address for one Socket Mode connection; `app_token` is `xapp-...`.
    pub(crate) async fn open_link(&self, app_token: &SecretString) -> Result<String, SlackError> {
        let token = wire::token(app_token);
        let session = self.0.client.open_session(&token);
        let request = json!({});
        let call = session.http_session_api.http_post::<Value, Value>("apps.connections.open", &request, None);
        let answer = self.within("apps.connections.open", call).await?;
        match answer["url"].as_str() {
            Some(url) => Ok(url.to_owned()),
            None => {
                Err(self.counted("apps.connections.open", SlackError::Unknown("no address for a connection".into())))
            }
        }
    }

    pub(crate) fn tls(&self) -> Arc<rustls::ClientConfig> {
        self.0.tls.clone()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    async fn send<R: serde::Serialize + Send + Sync>(
        &self,
        method: &'static str,
        request: &R,
    ) -> Result<Value, SlackError> {
        let session = self.0.client.open_session(&self.0.token);
        let answer = self.within(method, session.http_session_api.http_post::<R, Value>(method, request, None)).await?;
        self.said_ok(method, answer)
    }

    async fn read(&self, method: &'static str, asked: &[(&str, Option<&str>)]) -> Result<Value, SlackError> {
        let session = self.0.client.open_session(&self.0.token);
        let asked = asked.to_vec();
        let answer =
            self.within(method, session.http_session_api.http_get::<Value, _, _>(method, &asked, None)).await?;
        self.said_ok(method, answer)
    }

    /// A page of HTML with status 200 comes out of the client as an empty object: no success.
    fn said_ok(&self, method: &'static str, answer: Value) -> Result<Value, SlackError> {
        if answer["ok"] == true {
            return Ok(answer);
        }
        Err(self.counted(method, SlackError::Unknown("an answer that is not Slack's JSON".into())))
    }

    async fn within(
        &self,
        method: &'static str,
        call: impl Future<Output = ClientResult<Value>>,
    ) -> Result<Value, SlackError> {
        let began = Instant::now();
        let answer = match timeout(wire::CALL_TIMEOUT, call).await {
            Ok(answer) => answer.map_err(|error| error::remedy(error, &self.0.redactor)),
            Err(_) => Err(SlackError::Unknown(text!("no answer within {} s", wire::CALL_TIMEOUT.as_secs()))),
        };
        let took = self.0.metrics.slack_seconds.get_or_create(&MethodLabels { method });
        took.observe(began.elapsed().as_secs_f64());
        drop(took);
        answer.map_err(|error| self.counted(method, error))
    }

    fn counted(&self, method: &'static str, error: SlackError) -> SlackError {
        self.0.metrics.slack_errors.get_or_create(&SlackLabels { method, kind: error.as_str() }).inc();
        error
    }

    /// The scopes come in a header, which the typed client does not hand out.
    async fn scopes(&self) -> Result<Vec<String>, SlackError> {
        let request = Request::post(format!("{}/auth.test", self.0.api_url))
            .header("authorization", format!("Bearer {}", self.0.secret.expose_secret()))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(String::new());
        let lost = |why: &'static str| self.counted("auth.test", SlackError::Unknown(why.into()));
        let request = request.map_err(|_| lost("an api url that is none"))?;
        let answer = timeout(wire::CALL_TIMEOUT, self.0.raw.request(request)).await;
        let answer = answer.map_err(|_| lost("no answer in time"))?.map_err(|_| lost("the connection broke"))?;
        let scopes = answer.headers().get("x-oauth-scopes").and_then(|scopes| scopes.to_str().ok()).unwrap_or_default();
        Ok(scopes.split(',').map(|scope| scope.trim().to_owned()).filter(|scope| !scope.is_empty()).collect())
    }

    /// The URL, if it is Slack's own or the stand-in's: a click must not make us call anybody else.
    fn response_url(&self, url: &str) -> Option<SlackResponseUrl> {
        let allowed = |base: &str| url.strip_prefix(base).is_some_and(|rest| rest.starts_with('/'));
        let stand_in = self.0.api_url.strip_suffix("/api").filter(|base| base.starts_with("http://"));
        if !allowed("https://hooks.slack.com") && !stand_in.is_some_and(allowed) {
            return None;
        }
        serde_json::from_value(Value::String(url.to_owned())).ok()
    }

    fn pace(&self) -> MutexGuard<'_, pace::Pace> {
        self.0.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn groups(&self) -> MutexGuard<'_, HashMap<String, (Instant, BTreeSet<String>)>> {
        self.0.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn content(message: &Message) -> SlackMessageContent {
    SlackMessageContent::new().with_text(message.text.clone()).with_blocks(message.blocks.clone())
}
