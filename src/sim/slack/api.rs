//! The Web API's door: arguments in every form that clients send them, tokens, scopes, faults, and which method does what.

use axum::extract::{Path, RawQuery, Request as HttpRequest, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use axum::{Json, Router};
use serde_json::{Map, Value, json};

use super::fault::{self, Fault};
use super::state::Request;
use super::{Slack, chat, click, history, people, socket};

/// Slack's own bound on a request body is not published; a card is far below this.
const BODY_MAX: usize = 4 << 20;

/// Every scope that some method here asks for.
pub(super) const SCOPES: &[&str] =
    &["chat:write", "channels:history", "channels:read", "users:read", "usergroups:read", "reactions:write"];

/// Arguments of a call, whatever way they came.
pub(super) struct Args(pub(super) Map<String, Value>);

/// Slack's answer to a call that it does not carry out.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) error: String,
    /// One line per fault, as in `response_metadata.messages`.
    pub(super) messages: Vec<String>,
    /// Seconds to wait, when the call came too soon.
    pub(super) retry_after: Option<u64>,
}

pub(super) type Answer = Result<Value, Refusal>;

impl Refusal {
    pub(super) fn new(error: &str) -> Self {
        Self { error: error.into(), messages: Vec::new(), retry_after: None }
    }

    pub(super) fn with(error: &str, messages: Vec<String>) -> Self {
        Self { messages, ..Self::new(error) }
    }

    fn body(&self) -> Value {
        let mut body = json!({"ok": false, "error": self.error});
        if !self.messages.is_empty() {
            body["errors"] = json!(self.messages.iter().map(|m| m.trim_start_matches("[ERROR] ")).collect::<Vec<_>>());
            body["response_metadata"] = json!({"messages": self.messages});
        }
        body
    }
}

impl Args {
    /// A text argument; empty when it is absent.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// A text argument that is there and not empty.
    pub(super) fn some_text(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    /// A switch, as JSON or as form text.
    pub(super) fn flag(&self, name: &str) -> bool {
        match self.0.get(name) {
            Some(Value::Bool(flag)) => *flag,
            Some(Value::String(text)) => text == "true" || text == "1",
            Some(Value::Number(number)) => number.as_i64() == Some(1),
            _ => false,
        }
    }

    /// A whole number, as JSON or as form text.
    pub(super) fn number(&self, name: &str) -> Option<usize> {
        match self.0.get(name)? {
            Value::Number(number) => number.as_u64().and_then(|n| usize::try_from(n).ok()),
            Value::String(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// A structured argument: JSON, or JSON in a text as forms carry it.
    ///
    /// # Errors
    /// The refusal `error` when it is a text that is not JSON.
    pub(super) fn json(&self, name: &str, error: &str) -> Result<Option<Value>, Refusal> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => serde_json::from_str(text).map(Some).map_err(|_| Refusal::new(error)),
            Some(value) => Ok(Some(value.clone())),
        }
    }
}

pub(super) fn router(slack: Slack) -> Router {
    Router::new()
        .route("/api/{method}", any(call))
        .route("/actions/{team}/{number}/{id}", post(click::respond))
        .with_state(slack)
}

async fn call(
    State(slack): State<Slack>,
    Path(method): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    request: HttpRequest,
) -> Response {
    slack.learn_base_url(&headers);
    let args = match read_args(query.as_deref(), &headers, request).await {
        Ok(args) => args,
        Err(refusal) => return Json(refusal.body()).into_response(),
    };
    let fault = slack.state().faults.get_mut(&method).and_then(|queue| queue.pop_front());
    if let Some(fault) = fault.clone().filter(|fault| !fault.accepts()) {
        slack.log(&method, &args, fault.name());
        return fault.refuse().await;
    }
    let mut releases = slack.0.releases.subscribe();
    let token = bearer(&headers).unwrap_or_else(|| args.text("token").to_owned());
    let answer = match slack.admit(&method, &token) {
        Ok(()) => slack.answer(&method, &args).await,
        Err(refusal) => Err(refusal),
    };
    let said = match (&fault, &answer) {
        (Some(fault), _) => fault.name(),
        (None, Ok(_)) => "ok".to_owned(),
        (None, Err(refusal)) => refusal.error.clone(),
    };
    slack.log(&method, &args, said);
    match fault {
        Some(Fault::DropAfterAccept) => return fault::broken(),
        Some(_) => _ = releases.changed().await,
        None => {}
    }
    slack.wire(answer)
}

/// Arguments of the query, then of the body, which wins.
async fn read_args(query: Option<&str>, headers: &HeaderMap, request: HttpRequest) -> Result<Args, Refusal> {
    let mut args = query.map(form_fields).unwrap_or_default();
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let body =
        axum::body::to_bytes(request.into_body(), BODY_MAX).await.map_err(|_| Refusal::new("request_timeout"))?;
    if content_type.starts_with("application/json") {
        // An official client sends some calls as JSON with an empty body.
        if !body.is_empty() {
            let fields: Value = serde_json::from_slice(&body).map_err(|_| Refusal::new("invalid_json"))?;
            let Value::Object(fields) = fields else { return Err(Refusal::new("json_not_object")) };
            args.extend(fields);
        }
    } else if content_type.starts_with("application/x-www-form-urlencoded") {
        let text = std::str::from_utf8(&body).map_err(|_| Refusal::new("invalid_form_data"))?;
        args.extend(form_fields(text));
    } else if !body.is_empty() {
        return Err(Refusal::new("invalid_post_type"));
    }
    Ok(Args(args))
}

/// Pairs of a query or form as text values.
fn form_fields(text: &str) -> Map<String, Value> {
    let Ok(mut url) = reqwest::Url::parse("http://form/") else { return Map::new() };
    url.set_query(Some(text));
    url.query_pairs().map(|(name, value)| (name.into_owned(), Value::String(value.into_owned()))).collect()
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").map(str::to_owned)
}

/// The scope that a method asks of the bot token; `None`: none.
fn scope_of(method: &str) -> Option<&'static str> {
    match method {
        "chat.postMessage" | "chat.update" | "chat.postEphemeral" => Some("chat:write"),
        "conversations.history" | "conversations.replies" => Some("channels:history"),
        "conversations.info" => Some("channels:read"),
        "users.info" => Some("users:read"),
        "usergroups.users.list" => Some("usergroups:read"),
        "reactions.add" => Some("reactions:write"),
        _ => None,
    }
}

impl Slack {
    /// Whether this token may call this method.
    fn admit(&self, method: &str, token: &str) -> Result<(), Refusal> {
        let options = self.options();
        let app_level = method == "apps.connections.open";
        let known = [options.bot_token.as_str(), options.app_token.as_str()];
        if token.is_empty() {
            return Err(Refusal::new("not_authed"));
        }
        if !known.contains(&token) {
            return Err(Refusal::new("invalid_auth"));
        }
        if (token == options.app_token) != app_level {
            return Err(Refusal::new("not_allowed_token_type"));
        }
        match scope_of(method) {
            Some(needed) if !options.scopes.iter().any(|s| s == needed) => Err(Refusal::new("missing_scope")),
            _ => Ok(()),
        }
    }

    async fn answer(&self, method: &str, args: &Args) -> Answer {
        match method {
            "api.test" => Ok(json!({"args": args.0})),
            "auth.test" => Ok(people::auth_test(self)),
            "chat.postMessage" => chat::post(self, args),
            "chat.update" => chat::update(self, args),
            "chat.postEphemeral" => chat::post_ephemeral(self, args),
            "chat.getPermalink" => chat::permalink(self, args),
            "conversations.history" => history::history(self, args),
            "conversations.replies" => history::replies(self, args),
            "conversations.info" => people::conversation(self, args),
            "users.info" => people::user(self, args),
            "usergroups.users.list" => people::group(self, args),
            "views.open" => chat::open_view(self, args),
            "apps.connections.open" => socket::open(self).await,
            _ => Err(Refusal::new("unknown_method")),
        }
    }

    /// The answer as Slack puts it on the wire, with the token's scopes in the header.
    fn wire(&self, answer: Answer) -> Response {
        let body = match answer {
            Ok(mut body) => {
                body["ok"] = json!(true);
                body
            }
            Err(Refusal { retry_after: Some(seconds), .. }) => return fault::rate_limited(seconds),
            Err(refusal) => refusal.body(),
        };
        (StatusCode::OK, [("x-oauth-scopes", self.options().scopes.join(","))], Json(body)).into_response()
    }

    /// Response URLs must lead back here, by the name under which the client reached us.
    fn learn_base_url(&self, headers: &HeaderMap) {
        if let Some(host) = headers.get(header::HOST).and_then(|v| v.to_str().ok()) {
            self.state().base_url = Some(format!("http://{host}"));
        }
    }

    fn log(&self, method: &str, args: &Args, answer: String) {
        let mut fields = args.0.clone();
        fields.remove("token");
        let request = Request { method: method.to_owned(), at_ms: self.now_ms(), args: Value::Object(fields), answer };
        self.state().push_request(request);
    }
}
