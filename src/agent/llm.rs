//! The model: any OpenAI-compatible server, through a client that tolerates what such servers really answer.

mod answer;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use backon::{BackoffBuilder, ExponentialBuilder};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::agent::llm::answer::{classify, parse, unsupported};
use crate::model::Room;
use crate::redact::{Redacted, Redactor};
use crate::text;

/// Establishing a connection takes milliseconds; a server that is not there should be known soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A provider that asks for a longer pause is waited for by the stage, not inside a request.
const WAIT_INSIDE_MAX: Duration = Duration::from_secs(5);
/// What a provider asks for is understood as no more than this: nobody waits so long here.
const HINT_MAX: Duration = Duration::from_secs(24 * 3_600);
/// Answers above this are no chat completion of ours.
const ANSWER_MAX_BYTES: usize = 4 * 1024 * 1024;
/// An answer longer than this says nothing more; a report takes about 800 tokens.
const OUTPUT_TOKENS_MAX: u32 = 4_096;
/// The same where the server counts what the model thinks as output (`max_completion_tokens`): four times as much, or
/// the thought would leave no room for the report.
const THOUGHT_TOKENS_MAX: u32 = 16_384;

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
    dialect: Arc<Mutex<Dialect>>,
}

/// What the server takes of the fields that not all take; learned from its refusals.
#[derive(Clone, Copy, Debug)]
struct Dialect {
    /// By which name the length of the answer is bounded, if by any.
    limit: Option<&'static str>,
    temperature: bool,
}

/// Fields of a request.
const LIMIT: &str = "max_tokens";
const LIMIT_WITH_THOUGHT: &str = "max_completion_tokens";
const TEMPERATURE: &str = "temperature";

impl Dialect {
    /// What most servers take.
    const COMMON: Self = Self { limit: Some(LIMIT), temperature: true };

    /// Tokens that an answer may take; where no limit is taken, what a model thinks at most for a report.
    fn answer_tokens_max(self) -> u32 {
        if self.limit == Some(LIMIT) { OUTPUT_TOKENS_MAX } else { THOUGHT_TOKENS_MAX }
    }

    fn speak(self, body: &mut Value) {
        let Some(fields) = body.as_object_mut() else { return };
        if !self.temperature {
            fields.remove(TEMPERATURE);
        }
        if self.limit != Some(LIMIT) {
            fields.remove(LIMIT);
        }
        if self.limit == Some(LIMIT_WITH_THOUGHT) {
            fields.insert(LIMIT_WITH_THOUGHT.to_owned(), json!(THOUGHT_TOKENS_MAX));
        }
    }

    /// Without the field that the server does not take: under its other name, or not at all.
    fn without(self, field: &str) -> Self {
        match field {
            TEMPERATURE => Self { temperature: false, ..self },
            LIMIT => Self { limit: Some(LIMIT_WITH_THOUGHT), ..self },
            _ => Self { limit: None, ..self },
        }
    }
}

/// The server does not take a field of the request that can go without it.
#[derive(Debug, thiserror::Error)]
#[error("the field {0} is not supported")]
struct Unsupported(&'static str);

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
    /// It may work later, and nothing was done: no connection, 5xx.
    #[error("{0}")]
    Unavailable(Redacted),
    /// It may work later, but an answer may have been made and billed: a timeout, a connection that broke, an answer that
    /// is no completion.
    #[error("{0}")]
    Broken(Redacted),
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
    /// As it stands in an assistant's message: what was understood, since some servers reject their own malformed
    /// arguments.
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
        let dialect = Arc::new(Mutex::new(Dialect::COMMON));
        Ok(Self { client, model, turn_timeout: options.turn_timeout, room: options.room, redactor, dialect })
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
        match tokio::time::timeout(self.turn_timeout, self.ask(body(&self.model, messages, tools))).await {
            Ok(reply) => reply,
            Err(_) => Err(LlmError::Broken(text!("no answer within {} s", self.turn_timeout.as_secs()))),
        }
    }

    /// Tokens that its next answer may take.
    pub fn answer_tokens_max(&self) -> u32 {
        self.dialect.lock().unwrap_or_else(PoisonError::into_inner).answer_tokens_max()
    }

    /// Asks in the server's dialect, once more for each field that it turns out not to take.
    async fn ask(&self, body: Value) -> Result<Reply, LlmError> {
        loop {
            let dialect = *self.dialect.lock().unwrap_or_else(PoisonError::into_inner);
            let mut spoken = body.clone();
            dialect.speak(&mut spoken);
            let error = match self.client.chat().create_byot::<_, Value>(&spoken).await {
                Ok(answer) => return parse(answer, &self.redactor),
                Err(OpenAIError::Boxed(error)) => error,
                // Its text holds the whole body.
                Err(OpenAIError::JSONDeserialize(..)) => {
                    return Err(LlmError::Broken(Redacted::literal("its answer is no JSON")));
                }
                Err(error) => Box::new(error),
            };
            match error.downcast::<Unsupported>() {
                // It was in the request, so each is told once at most.
                Ok(field) if spoken.get(field.0).is_some() => {
                    tracing::info!("the model's server does not take {}: it is asked without", field.0);
                    let mut now = self.dialect.lock().unwrap_or_else(PoisonError::into_inner);
                    *now = now.without(field.0);
                }
                Ok(field) => return Err(LlmError::Refused(text!("provider does not take {}", field.0))),
                Err(error) => return Err(self.remedy(error)),
            }
        }
    }

    fn remedy(&self, error: Box<dyn std::error::Error + Send + Sync>) -> LlmError {
        match error.downcast::<LlmError>() {
            Ok(ours) => *ours,
            Err(other) => LlmError::Broken(self.redactor.redact(&other.to_string()).cut(200)),
        }
    }
}

/// The body of a request, as it leaves: everything that a model is told.
pub fn body(model: &Redacted, messages: &[Value], tools: &Value) -> Value {
    let mut body = json!({"model": model, "messages": messages, TEMPERATURE: 0, LIMIT: OUTPUT_TOKENS_MAX});
    if tools.as_array().is_some_and(|tools| !tools.is_empty()) {
        body["tools"] = tools.clone();
        body["tool_choice"] = json!("auto");
    }
    body
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
    let mut broke = false;
    loop {
        let (error, hint) = match http.execute(request.build().await?).await {
            // A broken answer is not asked for again here: it was paid for.
            Ok(response) if response.status().is_success() => return whole(response, &redactor).await,
            Ok(mut response) => {
                let status = response.status().as_u16();
                let hint = retry_after(response.headers());
                // What came of it tells enough.
                let mut body = Vec::new();
                let _ = read(&mut response, &mut body).await;
                if let Some(field) = unsupported(status, &body) {
                    return Err(OpenAIError::Boxed(Box::new(Unsupported(field))));
                }
                (classify(status, hint, &body, &redactor), hint)
            }
            Err(error) if error.is_connect() => {
                (LlmError::Unavailable(Redacted::literal("the provider cannot be reached")), None)
            }
            Err(error) => {
                let why = redactor.redact(&error.without_url().to_string()).cut(200);
                (LlmError::Broken(why), None)
            }
        };
        // One that broke may have been billed, whatever became of those after it.
        broke |= matches!(error, LlmError::Broken(_));
        let error = match error {
            LlmError::Unavailable(why) | LlmError::Refused(why) if broke => LlmError::Broken(why),
            LlmError::Wait(wait) if broke && hint.is_some_and(|wait| wait > WAIT_INSIDE_MAX) => {
                LlmError::Broken(text!("provider asks to wait {} s", wait.as_secs()))
            }
            error => error,
        };
        let passing = matches!(error, LlmError::Wait(_) | LlmError::Unavailable(_) | LlmError::Broken(_));
        if !passing || hint.is_some_and(|wait| wait > WAIT_INSIDE_MAX) {
            return Err(OpenAIError::Boxed(Box::new(error)));
        }
        match delays.next() {
            Some(delay) => tokio::time::sleep(hint.unwrap_or(delay)).await,
            None => return Err(OpenAIError::Boxed(Box::new(error))),
        }
    }
}

/// The answer with its whole body in memory, if that is no longer than an answer can be.
async fn whole(mut response: reqwest::Response, redactor: &Redactor) -> Result<reqwest::Response, OpenAIError> {
    let mut body = Vec::new();
    if let Err(why) = read(&mut response, &mut body).await {
        let why = why.map_or_else(
            || text!("its answer is longer than {} MiB", ANSWER_MAX_BYTES >> 20),
            |error| redactor.redact(&error.without_url().to_string()).cut(200),
        );
        return Err(OpenAIError::Boxed(Box::new(LlmError::Broken(why))));
    }
    Ok(hyper::http::Response::new(body).into())
}

/// Reads a body. The error is none where it is longer than an answer can be.
async fn read(response: &mut reqwest::Response, body: &mut Vec<u8>) -> Result<(), Option<reqwest::Error>> {
    while let Some(chunk) = response.chunk().await.map_err(Some)? {
        if body.len() + chunk.len() > ANSWER_MAX_BYTES {
            return Err(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(())
}

fn retry_after(headers: &reqwest::header::HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(HINT_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server of one connection a request: it hears the request's body and answers what `answer` says.
    async fn server(answer: impl Fn(&Value) -> (u16, Vec<u8>) + Send + 'static) -> (Llm, Arc<Mutex<Vec<Value>>>) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = LlmOptions {
            base_url: format!("http://{}/v1", listener.local_addr().unwrap()),
            model: "gpt-5-mini".into(),
            api_key: None,
            turn_timeout: Duration::from_secs(20),
            room: Room::default(),
        };
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut sent = Vec::new();
                let request: Value = loop {
                    let mut chunk = [0; 4_096];
                    let n = stream.read(&mut chunk).await.unwrap();
                    sent.extend_from_slice(&chunk[..n]);
                    let text = String::from_utf8_lossy(&sent);
                    let body = text.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str(body).ok());
                    if let Some(body) = body {
                        break body;
                    }
                };
                let (status, body) = answer(&request);
                hears.lock().unwrap().push(request);
                let head =
                    format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
                // Who has read enough hangs up.
                let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
            }
        });
        (Llm::new(options, Redactor::default()).unwrap(), heard)
    }

    #[tokio::test]
    async fn fields_that_a_server_does_not_take_are_left_out_from_then_on() {
        // As OpenAI answers for its gpt-5 models.
        const NO_LIMIT: &str = r#"{"error": {"message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
            "type": "invalid_request_error", "param": "max_tokens", "code": "unsupported_parameter"}}"#;
        const NO_TEMPERATURE: &str = r#"{"error": {"message": "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported.",
            "type": "invalid_request_error", "param": "temperature", "code": "unsupported_value"}}"#;
        let (llm, heard) = server(|asked| match (asked.get("max_tokens"), asked.get("temperature")) {
            (Some(_), _) => (400, NO_LIMIT.into()),
            (_, Some(_)) => (400, NO_TEMPERATURE.into()),
            _ => (200, br#"{"choices": [{"message": {"content": "fine"}}]}"#.to_vec()),
        })
        .await;
        for requests in [3, 4] {
            let reply = llm.complete(&[json!({"role": "user", "content": "hello"})], &json!([])).await.unwrap();
            assert_eq!(reply.content.unwrap().as_str(), "fine");
            let heard = heard.lock().unwrap();
            assert_eq!(heard.len(), requests, "learned once: {heard:?}");
            assert_eq!(heard.last().unwrap()["max_completion_tokens"], THOUGHT_TOKENS_MAX);
        }
        // As LiteLLM says it, in words alone; and what is no such thing.
        let said = |message: &str| unsupported(400, json!({"error": {"message": message}}).to_string().as_bytes());
        assert_eq!(
            said("litellm.UnsupportedParamsError: gpt-5 models don't support temperature=0."),
            Some("temperature")
        );
        assert_eq!(said("max_tokens is not supported, use max_completion_tokens"), Some("max_tokens"));
        assert_eq!(said("max_tokens is too large: 4096. This model supports at most 2048 completion tokens"), None);
        assert_eq!(said("tools are not supported by this model"), None);
        let (llm, heard) = server(|_| (400, NO_TEMPERATURE.into())).await;
        assert!(
            matches!(llm.complete(&[], &json!([])).await, Err(LlmError::Refused(_))),
            "it says so whatever is sent"
        );
        assert_eq!(heard.lock().unwrap().len(), 2);
    }

    #[tokio::test]
    async fn an_answer_is_read_within_bounds() {
        let (llm, heard) = server(|_| (200, vec![b' '; ANSWER_MAX_BYTES + 1])).await;
        let error = llm.complete(&[], &json!([])).await.unwrap_err();
        assert_eq!(error.to_string(), "its answer is longer than 4 MiB");
        assert_eq!(heard.lock().unwrap().len(), 1, "it is not paid for twice");
    }
}
