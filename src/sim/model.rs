//! A scripted model: a chat-completions server that answers from a scenario's `model/<incident>/NNNN.json`.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::time::{Duration, sleep};

/// Prompts are bounded far below this by the agent's own budget.
const BODY_MAX_BYTES: usize = 16 << 20;
/// Each holds a whole prompt; a test looks at some dozens.
const REQUESTS_MAX: usize = 1_000;
/// A scenario has a few incidents of at most some dozens of turns.
const FILES_MAX: usize = 1_000;
/// `created` of every completion: a replay must not depend on the day (2026-03-24T16:40:00Z, the scenarios' epoch).
const CREATED: i64 = 1_774_370_400;
/// The name under which the model is listed.
const NAME: &str = "scripted";

/// Where an answer stands: incident and number, both from 1, and whether it answers a review.
type Place = (usize, u32, bool);

/// The server; clones are the same model.
///
/// Requests with the same first user message are of one incident; the first new one is incident 1. The n-th request of an
/// incident is answered by its file NNNN, which holds `{"tool_calls": [{"name", "arguments"}], "content"}`, a whole
/// completion (`choices`), or `{"status", "headers", "body"}`. A request without tools is
/// for a review and does not count: it is answered by the `NNNN.review.json` of the answer before it, or else with "no
/// change".
/// Any other request without a file is HTTP 500 naming the file, and comes to [`ScriptedModel::missing`].
#[derive(Clone)]
pub struct ScriptedModel(Arc<Inner>);

struct Inner {
    answers: BTreeMap<Place, Value>,
    delay: Duration,
    state: Mutex<Asked>,
}

#[derive(Default)]
struct Asked {
    incidents: Vec<Incident>,
    requests: VecDeque<ModelRequest>,
    missing: Vec<String>,
}

struct Incident {
    first_user_message: Value,
    answered: u32,
}

/// A request that came in.
#[derive(Clone, Debug)]
pub struct ModelRequest {
    /// From 1, in the order of first appearance; 0 when a review named none that is known.
    pub incident: usize,
    pub review: bool,
    pub body: Value,
    /// The file that answered it, `no change`, or `missing: <file>`.
    pub answer: String,
}

impl ScriptedModel {
    /// The answers of a scenario's folder; a folder without `model/` gives a model that knows no answer.
    ///
    /// # Errors
    /// When a file cannot be read or is no answer; it is named.
    pub fn from_folder(scenario: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        let root = scenario.join("model");
        for incident in entries(&root)? {
            for file in entries(&incident)? {
                let bytes = std::fs::read(&file).with_context(|| format!("{}", file.display()))?;
                let name = file.strip_prefix(scenario).unwrap_or(&file).to_string_lossy().into_owned();
                files.insert(name, bytes);
            }
        }
        Self::from_files(&files)
    }

    /// The answers among a scenario's files, by their path within it; other files are passed over.
    ///
    /// # Errors
    /// When a file of `model/` is no answer; it is named.
    pub fn from_files(files: &BTreeMap<String, Vec<u8>>) -> Result<Self> {
        let mut answers = BTreeMap::new();
        for (path, bytes) in files.iter().filter(|(path, _)| path.starts_with("model/")) {
            let place = place_of(path).with_context(|| format!("{path}: not model/<incident>/NNNN[.review].json"))?;
            let answer: Value = serde_json::from_slice(bytes).with_context(|| path.clone())?;
            let known = ["choices", "status", "tool_calls", "content"];
            if !known.iter().any(|field| answer.get(field).is_some()) {
                bail!("{path}: holds none of {}", known.join(", "));
            }
            answers.insert(place, answer);
        }
        if answers.len() > FILES_MAX {
            bail!("{} model files, more than {FILES_MAX}", answers.len());
        }
        Ok(Self(Arc::new(Inner { answers, delay: Duration::ZERO, state: Mutex::default() })))
    }

    /// The same answers, not yet asked for, each after `delay`: so that a person can follow a demo.
    #[must_use]
    pub fn with_delay(self, delay: Duration) -> Self {
        Self(Arc::new(Inner { answers: self.0.answers.clone(), delay, state: Mutex::default() }))
    }

    /// Whether the scenario holds no answer at all.
    pub fn is_empty(&self) -> bool {
        self.0.answers.is_empty()
    }

    /// `/v1/chat/completions` and `/v1/models`.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/v1/chat/completions", post(complete))
            .route("/v1/models", get(models))
            .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
            .with_state(self.clone())
    }

    /// The requests that came in, oldest first; at most 1,000.
    pub fn requests(&self) -> Vec<ModelRequest> {
        self.asked().requests.iter().cloned().collect()
    }

    /// The files that were asked for and are not there, each once.
    pub fn missing(&self) -> Vec<String> {
        self.asked().missing.clone()
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        // Every change under this lock is whole when it panics, so a poisoned lock is still good.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to this request with the name of its file, or the name of the file that is missing.
    fn answer(&self, body: &Value) -> Result<(String, Value), String> {
        let review = is_review(body);
        let mut asked = self.asked();
        let incident = asked.incident_of(body, review);
        let last = incident.checked_sub(1).map_or(0, |index| asked.incidents[index].answered);
        let answers = &self.0.answers;
        let found = if review {
            // A script may also count the review as the next request; then no other answer has that number.
            let counted = !answers.contains_key(&(incident, last + 1, false));
            let numbers = [last].into_iter().chain(counted.then_some(last + 1));
            numbers.map(|n| (incident, n, true)).find_map(|place| Some((place, answers.get(&place)?)))
        } else {
            let place = (incident, last + 1, false);
            answers.get(&place).map(|answer| (place, answer))
        };
        let result = match found {
            Some((place, answer)) => Ok((path_of(place), answer.clone())),
            None if review => Ok(("no change".to_owned(), json!({"content": "no change"}))),
            None => Err(path_of((incident, last + 1, false))),
        };
        match &result {
            Ok(_) if !review || found.is_some_and(|((_, number, _), _)| number > last) => {
                if let Some(incident) = incident.checked_sub(1) {
                    asked.incidents[incident].answered += 1;
                }
            }
            Err(file) if !asked.missing.contains(file) && asked.missing.len() < FILES_MAX => {
                asked.missing.push(file.clone())
            }
            _ => {}
        }
        let said = result.as_ref().map_or_else(|file| format!("missing: {file}"), |(file, _)| file.clone());
        if asked.requests.len() == REQUESTS_MAX {
            asked.requests.pop_front();
        }
        asked.requests.push_back(ModelRequest { incident, review, body: body.clone(), answer: said });
        result
    }
}

impl Asked {
    /// The incident's number. A review that begins otherwise is of the incident that asked last (0: nobody did).
    fn incident_of(&mut self, body: &Value, review: bool) -> usize {
        let messages = body.get("messages").and_then(Value::as_array).into_iter().flatten();
        let first = messages.clone().find(|m| m.get("role").and_then(Value::as_str) == Some("user"));
        let first = first.and_then(|m| m.get("content")).cloned().unwrap_or(Value::Null);
        if let Some(index) = self.incidents.iter().position(|i| i.first_user_message == first) {
            return index + 1;
        }
        if review {
            return self.requests.back().map_or(0, |request| request.incident);
        }
        self.incidents.push(Incident { first_user_message: first, answered: 0 });
        self.incidents.len()
    }
}

/// The files of a folder in the order of their names; none where there is no such folder.
fn entries(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let found = std::fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
    let mut paths: Vec<_> = found.map(|entry| entry.map(|e| e.path())).collect::<std::io::Result<_>>()?;
    paths.sort();
    Ok(paths)
}

/// `model/2/0007.review.json` -> (2, 7, true).
fn place_of(path: &str) -> Option<Place> {
    let (incident, file) = path.strip_prefix("model/")?.split_once('/')?;
    let name = file.strip_suffix(".json")?;
    let (number, review) = name.strip_suffix(".review").map_or((name, false), |number| (number, true));
    Some((incident.parse().ok()?, number.parse().ok()?, review))
}

fn path_of((incident, number, review): Place) -> String {
    format!("model/{incident}/{number:04}{}.json", if review { ".review" } else { "" })
}

fn is_review(body: &Value) -> bool {
    body.get("tools").and_then(Value::as_array).is_none_or(Vec::is_empty)
}

async fn models() -> Json<Value> {
    let model = json!({"id": NAME, "object": "model", "created": CREATED, "owned_by": "firstlook"});
    Json(json!({"object": "list", "data": [model]}))
}

async fn complete(State(model): State<ScriptedModel>, body: Bytes) -> Response {
    let Ok(request) = serde_json::from_slice::<Value>(&body) else {
        return error(StatusCode::BAD_REQUEST, "the request is not JSON", "invalid_request_error");
    };
    let answer = model.answer(&request);
    sleep(model.0.delay).await;
    match answer {
        Err(file) => {
            let message = format!("the scripted model has no answer: {file} is missing");
            error(StatusCode::INTERNAL_SERVER_ERROR, &message, "missing_script")
        }
        Ok((_, answer)) if answer.get("status").is_some() => bare(&answer),
        Ok((file, answer)) => {
            let full = completion(&request, &answer, &file);
            let streamed = request.get("stream").and_then(Value::as_bool) == Some(true);
            if streamed { stream(&full) } else { Json(full).into_response() }
        }
    }
}

fn error(status: StatusCode, message: &str, kind: &str) -> Response {
    (status, Json(json!({"error": {"message": message, "type": kind, "code": null, "param": null}}))).into_response()
}

/// `{"status": 429, "headers": {"retry-after": "1"}, "body": "..."}` as it stands.
fn bare(answer: &Value) -> Response {
    let code = answer.get("status").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    let status = code.and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = match answer.get("body") {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    for (name, value) in answer.get("headers").and_then(Value::as_object).into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// The short form as a full chat completion. Token usage is estimated as bytes / 3.
fn completion(request: &Value, short: &Value, file: &str) -> Value {
    if short.get("choices").is_some() {
        return short.clone();
    }
    let id: String = file.chars().filter(char::is_ascii_digit).collect();
    let calls: Vec<Value> = (short.get("tool_calls").and_then(Value::as_array).into_iter().flatten().enumerate())
        .map(|(index, call)| {
            let arguments = match call.get("arguments") {
                Some(Value::String(text)) => text.clone(),
                Some(value) => value.to_string(),
                None => "{}".to_owned(),
            };
            let function = json!({"name": call.get("name"), "arguments": arguments});
            json!({"id": format!("call_{id}_{index}"), "type": "function", "function": function})
        })
        .collect();
    let mut message = json!({"role": "assistant", "content": short.get("content")});
    let finish = if calls.is_empty() { "stop" } else { "tool_calls" };
    if !calls.is_empty() {
        message["tool_calls"] = json!(calls);
    }
    let (prompt, answer) = (request.to_string().len() / 3, short.to_string().len() / 3);
    json!({"id": format!("chatcmpl-{id}"), "object": "chat.completion", "created": CREATED,
        "model": request.get("model").cloned().unwrap_or_else(|| json!(NAME)),
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}})
}

/// The completion as server-sent events: the message in one piece, its end, the usage.
fn stream(full: &Value) -> Response {
    let choice = &full["choices"][0];
    let mut delta = choice["message"].clone();
    for (index, call) in delta.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten().enumerate() {
        call["index"] = json!(index);
    }
    let parts = [
        json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]}),
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]}),
        json!({"choices": [], "usage": full["usage"]}),
    ];
    let mut text = String::new();
    for mut part in parts {
        part["object"] = json!("chat.completion.chunk");
        for field in ["id", "created", "model"] {
            part[field] = full[field].clone();
        }
        text.push_str(&format!("data: {part}\n\n"));
    }
    text.push_str("data: [DONE]\n\n");
    ([(header::CONTENT_TYPE, "text/event-stream")], text).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    fn model(files: &[(&str, Value)]) -> ScriptedModel {
        let files = files.iter().map(|(path, answer)| ((*path).to_owned(), answer.to_string().into_bytes())).collect();
        ScriptedModel::from_files(&files).unwrap()
    }

    fn request(incident: &str) -> Value {
        json!({"model": "m", "tools": [{}], "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": incident}]})
    }

    fn review(incident: &str) -> Value {
        json!({"messages": [{"role": "user", "content": incident}]})
    }

    async fn ask(model: &ScriptedModel, body: Value) -> (StatusCode, axum::http::HeaderMap, String) {
        let call = Request::post("/v1/chat/completions").body(Body::from(body.to_string())).unwrap();
        let response = model.router().oneshot(call).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        (parts.status, parts.headers, String::from_utf8(bytes.to_vec()).unwrap())
    }

    async fn content(model: &ScriptedModel, body: Value) -> String {
        let (_, _, text) = ask(model, body).await;
        let full: Value = serde_json::from_str(&text).unwrap();
        full["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn each_incident_gets_its_own_answers_in_order() {
        let model = model(&[
            ("model/1/0001.json", json!({"content": "a1"})),
            ("model/1/0002.json", json!({"content": "a2"})),
            ("model/2/0001.json", json!({"content": "b1"})),
        ]);
        let said = [
            content(&model, request("x")).await,
            content(&model, request("y")).await,
            content(&model, request("x")).await,
        ];
        assert_eq!(said, ["a1", "b1", "a2"]);
    }

    #[tokio::test]
    async fn a_request_without_a_file_is_an_error_that_names_it_every_time() {
        let model = model(&[("model/1/0001.json", json!({"content": "a1"}))]);
        content(&model, request("x")).await;
        for _ in 0..2 {
            let (status, _, text) = ask(&model, request("x")).await;
            assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
            assert!(text.contains("model/1/0002.json is missing"), "{text}");
        }
        assert_eq!(model.missing(), ["model/1/0002.json"]);
        assert_eq!(model.requests().len(), 3);
    }

    #[tokio::test]
    async fn a_review_takes_no_turn_and_changes_nothing_unless_the_script_says_so() {
        let model = model(&[
            ("model/1/0001.json", json!({"content": "a1"})),
            ("model/1/0002.json", json!({"content": "a2"})),
            ("model/1/0002.review.json", json!({"content": "lower the certainty"})),
        ]);
        content(&model, request("x")).await;
        assert_eq!(content(&model, review("x")).await, "no change");
        assert_eq!(content(&model, request("x")).await, "a2");
        assert_eq!(content(&model, review("other words")).await, "lower the certainty");
        let silent = self::model(&[("model/1/0001.json", json!({"content": "a1"}))]);
        content(&silent, request("x")).await;
        assert_eq!(content(&silent, review("x")).await, "no change");
    }

    #[tokio::test]
    async fn a_script_may_count_the_review_as_the_next_request() {
        let file = |path, said: &str| (path, json!({"content": said}));
        let model = model(&[
            file("model/1/0001.json", "a1"),
            file("model/1/0002.review.json", "no"),
            file("model/1/0003.json", "a3"),
        ]);
        let said = [
            content(&model, request("x")).await,
            content(&model, review("x")).await,
            content(&model, request("x")).await,
        ];
        assert_eq!(said, ["a1", "no", "a3"]);
    }

    #[tokio::test]
    async fn short_calls_bare_statuses_and_whole_completions_are_answers() {
        let call = json!({"tool_calls": [{"name": "pod_logs", "arguments": {"pod": "p"}}]});
        let limited = json!({"status": 429, "headers": {"retry-after": "1"}, "body": "slow down"});
        let whole = json!({"choices": [{"message": {"role": "assistant", "content": "whole"}}]});
        let model = model(&[("model/1/0001.json", call), ("model/1/0002.json", limited), ("model/1/0003.json", whole)]);
        let (_, _, text) = ask(&model, request("x")).await;
        let full: Value = serde_json::from_str(&text).unwrap();
        let choice = &full["choices"][0];
        assert_eq!(
            choice["message"]["tool_calls"][0]["function"],
            json!({"name": "pod_logs", "arguments": "{\"pod\":\"p\"}"})
        );
        assert_eq!(choice["finish_reason"], "tool_calls");
        let (status, headers, text) = ask(&model, request("x")).await;
        assert_eq!((status.as_u16(), headers["retry-after"].to_str().unwrap(), text.as_str()), (429, "1", "slow down"));
        assert_eq!(content(&model, request("x")).await, "whole");
    }

    #[tokio::test]
    async fn a_stream_carries_the_same_message() {
        let model = model(&[("model/1/0001.json", json!({"tool_calls": [{"name": "f", "arguments": "{}"}]}))]);
        let mut body = request("x");
        body["stream"] = json!(true);
        let (_, headers, text) = ask(&model, body).await;
        assert_eq!(headers[header::CONTENT_TYPE], "text/event-stream");
        assert!(text.contains(r#""index":0,"#) && text.ends_with("data: [DONE]\n\n"), "{text}");
    }

    #[test]
    fn a_file_that_is_no_answer_is_named_at_once() {
        for (path, bytes) in
            [("model/1/0001.json", "{}"), ("model/1/first.json", "{}"), ("model/1/0002.json", "nonsense")]
        {
            let files = [(path.to_owned(), bytes.as_bytes().to_vec())].into();
            let told = format!("{:#}", ScriptedModel::from_files(&files).err().unwrap());
            assert!(told.starts_with(path), "{told}");
        }
        let folder = tempfile::tempdir().unwrap();
        assert!(ScriptedModel::from_folder(folder.path()).unwrap().is_empty());
        std::fs::create_dir_all(folder.path().join("model/1")).unwrap();
        std::fs::write(folder.path().join("model/1/0001.json"), r#"{"content": "a"}"#).unwrap();
        assert!(!ScriptedModel::from_folder(folder.path()).unwrap().is_empty());
    }
}
