//! The model: any OpenAI-compatible server, through a client that tolerates what such servers really answer.

use std::time::Duration;

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use backon::{BackoffBuilder, ExponentialBuilder};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::model::Room;
use crate::redact::{Redacted, Redactor};
use crate::text;

/// Establishing a connection takes milliseconds; a server that is not there should be known soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A provider that asks for a longer pause is waited for by the stage, not inside a request.
const WAIT_INSIDE_MAX: Duration = Duration::from_secs(5);
/// Answers above this are no chat completion of ours.
const ANSWER_MAX_BYTES: usize = 4 * 1024 * 1024;
/// An answer longer than this says nothing more; a report takes about 800 tokens.
const OUTPUT_TOKENS_MAX: u32 = 4_096;

/// Where the model is.
#[derive(Clone, Debug)]
pub struct LlmOptions {
    /// With `/v1`.
    pub base_url: String,
    pub model: String,
    pub api_key: Option<SecretString>,
    /// For one answer, retries within included.
    pub turn_timeout: Duration,
    pub room: Room,
}

/// A client of the model's server; clones share its connections.
#[derive(Clone)]
pub struct Llm {
    client: Client<OpenAIConfig>,
    model: Redacted,
    turn_timeout: Duration,
    room: Room,
    redactor: Redactor,
}

/// Why the model gave no reply, by what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum LlmError {
    #[error("the provider asks to wait {0:?}")]
    Wait(Duration),
    #[error("the request is too long for the model")]
    TooLong,
    /// Asking again would give the same: wrong key, unknown model, spent quota.
    #[error("the provider refused: {0}")]
    Refused(Redacted),
    /// It may work later: no connection, a timeout, 5xx, an answer that is no completion.
    #[error("{0}")]
    Unavailable(Redacted),
}

/// One answer of the model.
#[derive(Clone, Debug)]
pub struct Reply {
    pub content: Option<Redacted>,
    pub tool_calls: Vec<ToolCall>,
    /// The assistant message to send back, with the fields of the vendor that must be echoed.
    pub message: Value,
    pub input_tokens: u64,
    pub output_tokens: u64,
}

/// One tool call that the model asks for.
#[derive(Clone, Debug)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    /// The arguments, if they are a JSON object.
    pub arguments: Result<serde_json::Map<String, Value>, Redacted>,
}

impl ToolCall {
    /// As it stands in an assistant's message.
    pub(super) fn message(&self) -> Value {
        let arguments = self.arguments.as_ref().map_or_else(|_| "{}".to_owned(), |map| json!(map).to_string());
        json!({"id": self.id, "type": "function", "function": {"name": self.name, "arguments": arguments}})
    }
}

impl Llm {
    /// A client for the server of `options`.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(options: LlmOptions, redactor: Redactor) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(options.turn_timeout)
            // A redirect would carry the key elsewhere.
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let key = options.api_key.as_ref().map_or("", |key| key.expose_secret());
        let base = options.base_url.trim_end_matches('/');
        let config = OpenAIConfig::new().with_api_base(base).with_api_key(key);
        let service = {
            let (http, redactor) = (http.clone(), redactor.clone());
            tower::service_fn(move |request: HttpRequestFactory| call(http.clone(), redactor.clone(), request))
        };
        let client = Client::build(http, config).with_http_service(service);
        let model = redactor.redact(&options.model);
        Ok(Self { client, model, turn_timeout: options.turn_timeout, room: options.room, redactor })
    }

    /// The model's name, as configured.
    pub fn model(&self) -> &Redacted {
        &self.model
    }

    /// How much it takes in at once.
    pub fn room(&self) -> Room {
        self.room
    }

    /// Asks for the next message of a conversation, with `tools` offered as they are.
    ///
    /// # Errors
    /// By what to do about it.
    pub async fn complete(&self, messages: &[Value], tools: &Value) -> Result<Reply, LlmError> {
        let body = body(&self.model, messages, tools);
        let chat = self.client.chat();
        let answer = tokio::time::timeout(self.turn_timeout, chat.create_byot::<_, Value>(body)).await;
        match answer {
            Err(_) => Err(LlmError::Unavailable(text!("no answer within {} s", self.turn_timeout.as_secs()))),
            Ok(Ok(answer)) => parse(answer, &self.redactor),
            Ok(Err(OpenAIError::Boxed(error))) => Err(match error.downcast::<LlmError>() {
                Ok(ours) => *ours,
                Err(other) => LlmError::Unavailable(self.redactor.redact(&other.to_string()).cut(200)),
            }),
            // Its text holds the whole body.
            Ok(Err(OpenAIError::JSONDeserialize(..))) => {
                Err(LlmError::Unavailable(Redacted::literal("its answer is no JSON")))
            }
            Ok(Err(error)) => Err(LlmError::Unavailable(self.redactor.redact(&error.to_string()).cut(200))),
        }
    }
}

/// The body of a request, as it leaves: everything that a model is told.
pub fn body(model: &Redacted, messages: &[Value], tools: &Value) -> Value {
    let mut body = json!({"model": model, "messages": messages, "temperature": 0, "max_tokens": OUTPUT_TOKENS_MAX});
    if tools.as_array().is_some_and(|tools| !tools.is_empty()) {
        body["tools"] = tools.clone();
        body["tool_choice"] = json!("auto");
    }
    body
}

/// Reads a completion as servers really write it: missing ids, arguments as objects, content in parts.
fn parse(mut answer: Value, redactor: &Redactor) -> Result<Reply, LlmError> {
    let usage = &answer["usage"];
    let input_tokens = usage["prompt_tokens"].as_u64().unwrap_or(0);
    let output_tokens = usage["completion_tokens"].as_u64().unwrap_or(0);
    let message = answer.pointer_mut("/choices/0/message").map(Value::take).filter(Value::is_object);
    let Some(mut message) = message else {
        return Err(LlmError::Unavailable(Redacted::literal("its answer holds no message")));
    };
    message["role"] = json!("assistant");
    let content = match &message["content"] {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            Some(parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n"))
        }
        _ => None,
    };
    let content = content.filter(|text| !text.trim().is_empty()).map(|text| redactor.redact(&text));
    message["content"] = content.as_ref().map_or(Value::Null, |text| json!(text.as_str()));
    let mut tool_calls = Vec::new();
    if let Some(calls) = message.get_mut("tool_calls").and_then(Value::as_array_mut) {
        calls.retain(|call| call["function"].is_object());
        for (i, call) in calls.iter_mut().enumerate() {
            tool_calls.push(tool_call(i, call, redactor));
        }
    }
    if tool_calls.is_empty()
        && let Some(message) = message.as_object_mut()
    {
        message.remove("tool_calls");
    }
    Ok(Reply { content, tool_calls, message, input_tokens, output_tokens })
}

fn tool_call(i: usize, call: &mut Value, redactor: &Redactor) -> ToolCall {
    if call["id"].as_str().is_none_or(str::is_empty) {
        call["id"] = json!(format!("call_{i}"));
    }
    call["type"] = json!("function");
    let arguments = match call["function"]["arguments"].take() {
        Value::String(text) if text.trim().is_empty() => Ok(serde_json::Map::new()),
        Value::String(text) => {
            serde_json::from_str(&text).map_err(|e| redactor.redact(&format!("the arguments are no JSON object: {e}")))
        }
        Value::Object(arguments) => Ok(arguments),
        Value::Null => Ok(serde_json::Map::new()),
        _ => Err(Redacted::literal("the arguments are no JSON object")),
    };
    let arguments = arguments.map(|map| redact_values(Value::Object(map), redactor)).map(|value| match value {
        Value::Object(map) => map,
        _ => serde_json::Map::new(),
    });
    // What is sent back is what was understood: some servers reject their own malformed arguments.
    let echoed = arguments.as_ref().map_or_else(|_| "{}".to_owned(), |map| Value::Object(map.clone()).to_string());
    call["function"]["arguments"] = json!(echoed);
    ToolCall {
        id: call["id"].as_str().unwrap_or_default().to_owned(),
        name: call["function"]["name"].as_str().unwrap_or_default().chars().take(64).collect(),
        arguments,
    }
}

fn redact_values(value: Value, redactor: &Redactor) -> Value {
    match value {
        Value::String(text) => json!(redactor.redact(&text).as_str()),
        Value::Array(items) => items.into_iter().map(|item| redact_values(item, redactor)).collect(),
        Value::Object(map) => map.into_iter().map(|(key, item)| (key, redact_values(item, redactor))).collect(),
        plain => plain,
    }
}

/// Sends one request; passing troubles are tried again here, everything else is told apart by remedy.
async fn call(
    http: reqwest::Client,
    redactor: Redactor,
    request: HttpRequestFactory,
) -> Result<reqwest::Response, OpenAIError> {
    let mut delays = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(5))
        .with_max_times(3)
        .with_jitter()
        .build();
    loop {
        let (error, hint) = match http.execute(request.build().await?).await {
            Ok(response) if response.status().is_success() => return Ok(response),
            Ok(response) => {
                let status = response.status().as_u16();
                let hint = retry_after(response.headers());
                (classify(status, hint, &body_of(response).await, &redactor), hint)
            }
            Err(error) if error.is_connect() => {
                (LlmError::Unavailable(Redacted::literal("the provider cannot be reached")), None)
            }
            Err(error) => {
                let why = redactor.redact(&error.without_url().to_string()).cut(200);
                (LlmError::Unavailable(why), None)
            }
        };
        let passing = matches!(error, LlmError::Wait(_) | LlmError::Unavailable(_));
        if !passing || hint.is_some_and(|wait| wait > WAIT_INSIDE_MAX) {
            return Err(OpenAIError::Boxed(Box::new(error)));
        }
        match delays.next() {
            Some(delay) => tokio::time::sleep(hint.unwrap_or(delay)).await,
            None => return Err(OpenAIError::Boxed(Box::new(error))),
        }
    }
}

async fn body_of(mut response: reqwest::Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        if body.len() + chunk.len() > ANSWER_MAX_BYTES {
            break;
        }
        body.extend_from_slice(&chunk);
    }
    body
}

fn retry_after(headers: &reqwest::header::HeaderMap) -> Option<Duration> {
    headers.get("retry-after")?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// What an error answer means. Shapes seen: OpenAI's, vLLM's (integer `code`, or bare), LiteLLM's, plain text, HTML.
fn classify(status: u16, hint: Option<Duration>, body: &[u8], redactor: &Redactor) -> LlmError {
    let value: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let error = if value["error"].is_object() { &value["error"] } else { &value };
    let code = error["code"].as_str().or(error["type"].as_str()).unwrap_or_default();
    let message = match error["message"].as_str().or(value["error"].as_str()).or(value["detail"].as_str()) {
        Some(message) => redactor.redact(message).one_line().cut(200),
        // HTML or plain text of a proxy: its first words are noise on a card.
        None => Redacted::default(),
    };
    let lower = message.as_str().to_ascii_lowercase();
    let too_long =
        ["maximum context length", "context length exceeded", "exceeds the available context", "too many tokens"];
    if code == "context_length_exceeded" || status == 413 || too_long.iter().any(|words| lower.contains(words)) {
        return LlmError::TooLong;
    }
    let said = if message.is_empty() {
        text!("provider returned {}", status)
    } else {
        text!("provider returned {}: {}", status, message)
    };
    match status {
        429 if code == "insufficient_quota" => LlmError::Refused(said),
        // Without a hint a minute: the window of most rate limits.
        429 => LlmError::Wait(hint.unwrap_or(Duration::from_secs(60))),
        500.. => LlmError::Unavailable(said),
        _ => LlmError::Refused(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, body: &str, expected: &str) {
        let error = classify(status, None, body.as_bytes(), &Redactor::default());
        assert!(format!("{error:?}").starts_with(expected), "{error:?}");
    }

    #[test]
    fn errors_of_every_server_are_told_apart_by_remedy() {
        check(429, r#"{"error":{"message":"slow down","type":"rate_limit_error"}}"#, "Wait(60s)");
        check(429, "slow down", "Wait");
        check(429, r#"{"error":{"message":"pay","code":"insufficient_quota"}}"#, "Refused");
        check(400, r#"{"error":{"message":"This model's maximum context length is 4096","code":400}}"#, "TooLong");
        check(400, r#"{"object":"error","message":"maximum context length","code":400}"#, "TooLong");
        check(401, r#"{"error":"bad key"}"#, "Refused(\"provider returned 401: bad key\")");
        check(502, "<html>bad gateway</html>", "Unavailable(\"provider returned 502\")");
    }

    #[test]
    fn an_answer_is_understood_as_servers_really_write_it() {
        let answer = json!({"choices": [{"finish_reason": "", "message": {
        "content": [{"type": "text", "text": "looking"}], "reasoning_content": "hmm",
        "tool_calls": [
            {"function": {"name": "pod_logs", "arguments": {"namespace": "shop"}}},
            {"id": "t2", "type": "function", "function": {"name": "x", "arguments": "{not json"},
             "extra_content": {"google": {"thought_signature": "abc"}}},
        ]}}]});
        let reply = parse(answer, &Redactor::default()).unwrap();
        assert_eq!(reply.content.unwrap().as_str(), "looking");
        assert_eq!(reply.tool_calls[0].id, "call_0");
        assert_eq!(reply.tool_calls[0].arguments.as_ref().unwrap()["namespace"], "shop");
        assert!(reply.tool_calls[1].arguments.is_err());
        assert_eq!(reply.message["tool_calls"][1]["extra_content"]["google"]["thought_signature"], "abc");
        assert_eq!(reply.message["tool_calls"][1]["function"]["arguments"], "{}");
        for nonsense in [json!({"choices": []}), json!("hello"), json!({"choices": [{"message": "hi"}]}), json!(null)] {
            assert!(parse(nonsense, &Redactor::default()).is_err());
        }
        let odd = json!({"choices": [{"message": {"tool_calls": ["x", {"function": 3}, {"id": 7, "function": {}}]}}]});
        assert_eq!(parse(odd, &Redactor::default()).unwrap().tool_calls.len(), 1);
    }
}
