//! An investigation's transcript: what the model is sent of it, and the marks that say what kind each reply was. Pure.

use serde_json::Value;

use crate::store::Turn;

/// What was said so far, as it is sent: without our marks.
pub(super) fn said(transcript: &[Turn]) -> Vec<Value> {
    let messages = transcript.iter().flat_map(|turn| turn.messages.as_array().cloned().unwrap_or_default());
    messages.map(unmarked).collect()
}

/// Field of a stored reply that says what kind it was; never sent to the model.
const MARK: &str = "firstlook";

pub(super) fn mark(message: &mut Value, what: &str, holds: bool) {
    if holds && message.is_object() {
        message[MARK] = Value::String(what.to_owned());
    }
}

fn unmarked(mut message: Value) -> Value {
    if let Some(message) = message.as_object_mut() {
        message.remove(MARK);
    }
    message
}

/// Replies with this mark: in a row at the end for `silent`, all of them for `unproved`.
pub(super) fn marked(transcript: &[Turn], what: &str) -> u32 {
    let replies = transcript
        .iter()
        .filter_map(|turn| turn.messages.as_array()?.iter().find(|message| message["role"] == "assistant"));
    let holds = |message: &&Value| message[MARK] == what;
    let count = if what == "silent" {
        replies.collect::<Vec<_>>().into_iter().rev().take_while(holds).count()
    } else {
        replies.filter(holds).count()
    };
    count as u32
}
