//! What a model's server answers, read as servers really write it. Pure.

use std::time::Duration;

use serde_json::{Value, json};

use crate::agent::llm::{LIMIT, LIMIT_WITH_THOUGHT, LlmError, Reply, TEMPERATURE, ToolCall};
use crate::redact::{Redacted, Redactor};
use crate::text;

/// Ids of calls are some 30 characters; they only pair a call with its answer.
const CALL_ID_MAX: usize = 128;
/// Fields of vendors that they want back before they go on: the thoughts of DeepSeek and Kimi, and of others through
/// OpenRouter.
const ECHOED: [&str; 3] = ["reasoning_content", "reasoning", "reasoning_details"];

/// Reads a completion as servers really write it: missing ids, arguments as objects, content in parts.
pub(super) fn parse(mut answer: Value, redactor: &Redactor) -> Result<Reply, LlmError> {
    let usage = &answer["usage"];
    let input_tokens = usage["prompt_tokens"].as_u64().unwrap_or(0);
    let output_tokens = usage["completion_tokens"].as_u64().unwrap_or(0);
    let message = answer.pointer_mut("/choices/0/message").map(Value::take).filter(Value::is_object);
    let Some(message) = message else {
        return Err(LlmError::Broken(Redacted::literal("its answer holds no message")));
    };
    let content = match &message["content"] {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            Some(parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n"))
        }
        _ => None,
    };
    let content = content.filter(|text| !text.trim().is_empty()).map(|text| redactor.redact(&text));
    // Nothing of the answer is kept but what is known, redacted.
    let mut kept = json!({"role": "assistant", "content": content.as_ref().map(Redacted::as_str)});
    for field in ECHOED {
        if !message[field].is_null() {
            kept[field] = redact_values(message[field].clone(), redactor);
        }
    }
    let (mut tool_calls, mut echoed) = (Vec::new(), Vec::new());
    let calls = message["tool_calls"].as_array().into_iter().flatten().filter(|call| call["function"].is_object());
    for (i, call) in calls.enumerate() {
        let understood = tool_call(i, call, redactor);
        let mut echo = understood.message();
        if let Some(signature) = signature(call) {
            echo["extra_content"] = json!({"google": {"thought_signature": signature}});
        }
        echoed.push(echo);
        tool_calls.push(understood);
    }
    if !echoed.is_empty() {
        kept["tool_calls"] = json!(echoed);
    }
    Ok(Reply { content, tool_calls, message: kept, input_tokens, output_tokens })
}

fn tool_call(i: usize, call: &Value, redactor: &Redactor) -> ToolCall {
    // An id that holds a secret, or is none, pairs as well under another name.
    let fits = |id: &&str| (1..=CALL_ID_MAX).contains(&id.len()) && redactor.redact(id).as_str() == *id;
    let id = call["id"].as_str().filter(fits).map_or_else(|| format!("call_{i}"), str::to_owned);
    let arguments = match &call["function"]["arguments"] {
        Value::String(text) if text.trim().is_empty() => Ok(serde_json::Map::new()),
        Value::String(text) => {
            serde_json::from_str(text).map_err(|e| redactor.redact(&format!("the arguments are no JSON object: {e}")))
        }
        Value::Object(arguments) => Ok(arguments.clone()),
        Value::Null => Ok(serde_json::Map::new()),
        _ => Err(Redacted::literal("the arguments are no JSON object")),
    };
    let arguments = arguments.map(|map| redact_values(Value::Object(map), redactor)).map(|value| match value {
        Value::Object(map) => map,
        _ => serde_json::Map::new(),
    });
    let name = redactor.redact(call["function"]["name"].as_str().unwrap_or_default());
    ToolCall { id, name: name.cut(64).as_str().to_owned(), arguments }
}

/// Gemini's thought signature of a call: a cipher that it alone reads, and refuses to go on without. So it is kept as it
/// is, where it is nothing but that.
fn signature(call: &Value) -> Option<&str> {
    let signature = call.pointer("/extra_content/google/thought_signature")?.as_str()?;
    let is_opaque = |b: u8| b.is_ascii_alphanumeric() || b"+/=-_".contains(&b);
    signature.bytes().all(is_opaque).then_some(signature)
}

fn redact_values(value: Value, redactor: &Redactor) -> Value {
    match value {
        Value::String(text) => json!(redactor.redact(&text).as_str()),
        Value::Array(items) => items.into_iter().map(|item| redact_values(item, redactor)).collect(),
        Value::Object(map) => map.into_iter().map(|(key, item)| (key, redact_values(item, redactor))).collect(),
        plain => plain,
    }
}

/// The field that a server says it does not take, if it is one that a request can go without. Seen: OpenAI's and Azure's
/// (`param` and a code), LiteLLM's (words alone).
pub(super) fn unsupported(status: u16, body: &[u8]) -> Option<&'static str> {
    let value: Value = serde_json::from_slice(body).ok().filter(|_| matches!(status, 400 | 422))?;
    let error = if value["error"].is_object() { &value["error"] } else { &value };
    let said = error["message"].as_str().or(value["detail"].as_str()).unwrap_or_default().to_ascii_lowercase();
    let code = error["code"].as_str().unwrap_or_default();
    let words = ["unsupported", "not supported", "not support", "don't support", "unrecognized"];
    if !code.starts_with("unsupported") && !words.iter().any(|word| said.contains(word)) {
        return None;
    }
    let fields = [TEMPERATURE, LIMIT, LIMIT_WITH_THOUGHT];
    let named = fields.into_iter().find(|field| error["param"] == **field);
    // The first one named: the second is what it wants in its place.
    let first = || fields.into_iter().filter_map(|field| Some((said.find(field)?, field))).min();
    named.or_else(|| first().map(|(_, field)| field))
}

/// What an error answer means. Shapes seen: OpenAI's, vLLM's (integer `code`, or bare), LiteLLM's, plain text, HTML.
pub(super) fn classify(status: u16, hint: Option<Duration>, body: &[u8], redactor: &Redactor) -> LlmError {
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
        // A proxy stopped waiting (524 is Cloudflare's): the model behind it may have gone on.
        504 | 524 => LlmError::Broken(said),
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
        check(504, "<html>gateway timeout</html>", "Broken(\"provider returned 504\")");
    }

    #[test]
    fn an_answer_is_understood_as_servers_really_write_it() {
        let answer = json!({"choices": [{"finish_reason": "", "message": {
        "content": [{"type": "text", "text": "looking"}], "reasoning_content": "hmm, password=hunter22x",
        "annotations": [{"text": "password=hunter22x"}],
        "tool_calls": [
            {"function": {"name": "pod_logs", "arguments": {"namespace": "shop"}}},
            {"id": "t2", "type": "function", "function": {"name": "x", "arguments": "{not json"},
             "extra_content": {"google": {"thought_signature": "abc"}, "note": "password=hunter22x"}},
        ]}}]});
        let reply = parse(answer, &Redactor::default()).unwrap();
        assert_eq!(reply.content.unwrap().as_str(), "looking");
        assert_eq!(reply.tool_calls[0].id, "call_0");
        assert_eq!(reply.tool_calls[0].arguments.as_ref().unwrap()["namespace"], "shop");
        assert!(reply.tool_calls[1].arguments.is_err());
        assert_eq!(reply.message["tool_calls"][1]["extra_content"]["google"]["thought_signature"], "abc");
        assert_eq!(reply.message["tool_calls"][1]["function"]["arguments"], "{}");
        let kept = reply.message.to_string();
        assert!(
            kept.contains("hmm, password=") && !kept.contains("hunter22x") && !kept.contains("annotations"),
            "{kept}"
        );
        for nonsense in [json!({"choices": []}), json!("hello"), json!({"choices": [{"message": "hi"}]}), json!(null)] {
            assert!(parse(nonsense, &Redactor::default()).is_err());
        }
        let odd = json!({"choices": [{"message": {"tool_calls": ["x", {"function": 3}, {"id": 7, "function": {}}]}}]});
        assert_eq!(parse(odd, &Redactor::default()).unwrap().tool_calls.len(), 1);
    }
}
