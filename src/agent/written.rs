//! Tool calls that a model wrote as text, as small models and their servers do. Pure.

use serde_json::{Map, Value, json};

use crate::agent::llm::{Reply, ToolCall};
use crate::agent::step::SUBMIT_REPORT;

/// What stands around calls in the formats of Hermes, Qwen, Llama, Mistral, and between Markdown's fences.
const AROUND: [&str; 9] = [
    "<tool_call>",
    "</tool_call>",
    "[TOOL_CALLS]",
    "<|python_tag|>",
    "<|im_end|>",
    "<|eot_id|>",
    "</s>",
    "```json",
    "```",
];

/// One call: the tool's name and its arguments.
type Call = (String, Map<String, Value>);

/// Makes calls of those that the reply's text ends with, where it has none of its own. What is quoted in the middle of
/// a text is talked about, not asked for.
pub(super) fn adopt(reply: &mut Reply, known: &[String]) {
    let Some(content) = reply.content.clone().filter(|_| reply.tool_calls.is_empty()) else { return };
    let Some((begin, calls)) = read(content.as_str(), known) else { return };
    let prose = before(&content.as_str()[..begin]);
    let calls = calls.into_iter().enumerate().map(|(i, (name, arguments))| ToolCall {
        id: format!("written_{i}"),
        name,
        arguments: Ok(arguments),
    });
    reply.tool_calls = calls.collect();
    reply.content = content.part(prose).filter(|prose| !prose.is_empty());
    reply.message["content"] = json!(reply.content);
    reply.message["tool_calls"] = reply.tool_calls.iter().map(ToolCall::message).collect();
}

/// The calls that `text` ends with, and where the first of them begins.
fn read(text: &str, known: &[String]) -> Option<(usize, Vec<Call>)> {
    let (mut calls, mut begin, mut at) = (Vec::new(), 0, 0);
    while let Some(found) = text[at..].find(['{', '[']) {
        let start = at + found;
        if !is_around(&text[at..start]) {
            calls.clear();
        }
        let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Value>();
        let value = values.next().and_then(Result::ok);
        let end = start + values.byte_offset();
        match value.as_ref().map(|value| calls_of(value, known)) {
            Some(Some(found)) => {
                begin = if calls.is_empty() { start } else { begin };
                calls.extend(found);
                at = end;
            }
            Some(None) => {
                calls.clear();
                at = end;
            }
            // No JSON begins here: the next bracket may be one.
            None => {
                let bracket = text[start..].chars().next().map_or(1, char::len_utf8);
                let tag = AROUND.iter().find(|tag| text[start..].starts_with(**tag));
                if tag.is_none() {
                    calls.clear();
                }
                at = start + tag.map_or(bracket, |tag| tag.len());
            }
        }
    }
    (!calls.is_empty() && is_around(&text[at..])).then_some((begin, calls))
}

/// Whether nothing but what formats put around calls stands here.
fn is_around(text: &str) -> bool {
    let bare = AROUND.iter().fold(text.to_owned(), |text, tag| text.replace(tag, ""));
    bare.chars().all(|c| c.is_whitespace() || matches!(c, ',' | ';'))
}

/// What was said before the calls, without the tag that opens them.
fn before(text: &str) -> &str {
    let mut text = text.trim();
    while let Some(shorter) = AROUND.iter().find_map(|tag| text.strip_suffix(tag)) {
        text = shorter.trim_end();
    }
    text
}

/// The calls that a value stands for; None where it is anything else.
fn calls_of(value: &Value, known: &[String]) -> Option<Vec<Call>> {
    let many = |items: &Vec<Value>| {
        let calls: Option<Vec<Vec<Call>>> = items.iter().map(|item| calls_of(item, known)).collect();
        calls.map(|calls| calls.concat()).filter(|calls| !calls.is_empty())
    };
    match value {
        Value::Array(items) => many(items),
        Value::Object(map) => {
            if let Some(Value::Array(items)) = map.get("tool_calls") {
                return many(items);
            }
            if map.contains_key("headline") && map.contains_key("citations") {
                return Some(vec![(SUBMIT_REPORT.to_owned(), map.clone())]);
            }
            let inner = map.get("function").filter(|inner| inner.is_object()).and_then(Value::as_object).unwrap_or(map);
            let name = ["name", "tool", "function"].iter().find_map(|key| inner.get(*key)?.as_str())?;
            let name = known.iter().find(|known| *known == name)?;
            let arguments = ["arguments", "parameters", "args"].iter().find_map(|key| inner.get(*key));
            let arguments = match arguments {
                Some(Value::Object(arguments)) => arguments.clone(),
                Some(Value::String(text)) => serde_json::from_str(text).ok()?,
                None => Map::new(),
                Some(_) => return None,
            };
            Some(vec![(name.clone(), arguments)])
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let known = ["pod_logs".to_owned(), "list_events".to_owned(), SUBMIT_REPORT.to_owned()];
        let calls = read(text, &known).map(|(_, calls)| calls).unwrap_or_default();
        calls.into_iter().map(|(name, arguments)| format!("{name} {}", json!(arguments))).collect()
    }

    #[test]
    fn calls_written_in_the_formats_of_small_models_are_understood() {
        let asked = [r#"pod_logs {"pod":"a"}"#];
        for text in [
            r#"{"name": "pod_logs", "arguments": {"pod": "a"}}"#,
            r#"I look at the log. <tool_call>{"name": "pod_logs", "arguments": {"pod": "a"}}</tool_call>"#,
            r#"<|python_tag|>{"name": "pod_logs", "parameters": {"pod": "a"}}<|eot_id|>"#,
            r#"[TOOL_CALLS] [{"name": "pod_logs", "arguments": {"pod": "a"}}]</s>"#,
            "Next:\n```json\n{\"tool\": \"pod_logs\", \"args\": \"{\\\"pod\\\": \\\"a\\\"}\"}\n```",
            r#"{"tool_calls": [{"type": "function", "function": {"name": "pod_logs", "arguments": {"pod": "a"}}}]}"#,
            r#"The state {"ready": false} is bad [1]. {"name": "pod_logs", "arguments": {"pod": "a"}}"#,
        ] {
            assert_eq!(names(text), asked, "{text}");
        }
        let two =
            "<tool_call>\n{\"name\": \"pod_logs\"}\n</tool_call>\n<tool_call>{\"name\": \"list_events\"}</tool_call>";
        assert_eq!(names(two), ["pod_logs {}", "list_events {}"]);
        assert!(names(r#"{"headline": "x", "citations": []}"#)[0].starts_with(SUBMIT_REPORT));
    }

    #[test]
    fn what_a_text_only_talks_about_is_no_call() {
        for text in [
            r#"The log asks me to run {"name": "pod_logs", "arguments": {}}, which I do not do."#,
            r#"{"name": "delete_everything", "arguments": {}}"#,
            r#"{"name": "pod_logs", "arguments": 3}"#,
            r#"{"name": "pod_logs", "arguments": {"pod": "#,
            "[] {} [[[",
            "It is DNS.",
        ] {
            assert_eq!(names(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn an_adopted_call_is_sent_back_as_a_call() {
        let text =
            crate::redact::Redactor::default().redact("I look.\n<tool_call>{\"name\": \"pod_logs\"}</tool_call>");
        let message = json!({"role": "assistant", "content": text});
        let content = Some(text);
        let mut reply = Reply { content, tool_calls: vec![], message, input_tokens: 0, output_tokens: 0 };
        adopt(&mut reply, &["pod_logs".to_owned()]);
        assert_eq!(reply.message["content"], "I look.");
        assert_eq!(reply.message["tool_calls"][0]["function"], json!({"name": "pod_logs", "arguments": "{}"}));
        assert_eq!(reply.message["tool_calls"][0]["id"], "written_0");
    }
}
