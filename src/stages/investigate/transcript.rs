//! An investigation's transcript: what the model is sent of it, and the marks that say what kind each reply was. Pure.

use serde_json::{Map, Value};

use crate::agent::step::SUBMIT_REPORT;
use crate::agent::turn::Mark;
use crate::model::Investigation;
use crate::store::Turn;

/// The turns of the present look: a further one begins with what is known then.
pub(super) fn present(mut transcript: Vec<Turn>, investigation: &Investigation) -> Vec<Turn> {
    transcript.retain(|turn| turn.number >= investigation.first_turn());
    transcript
}

/// What was said so far, as it is sent: without our marks.
pub(super) fn said(transcript: &[Turn]) -> Vec<Value> {
    let messages = transcript.iter().flat_map(|turn| turn.messages.as_array().cloned().unwrap_or_default());
    messages.map(unmarked).collect()
}

/// Field of a stored reply that says what kind it was; never sent to the model.
const MARK: &str = "firstlook";

pub(super) fn mark(message: &mut Value, what: Mark) {
    if message.is_object() {
        message[MARK] = Value::String(what.as_str().to_owned());
    }
}

/// The report that waits for its review, as the model wrote it: the last reply, where it is one.
pub(super) fn draft(transcript: &[Turn]) -> Option<Map<String, Value>> {
    let messages = transcript.last()?.messages.as_array()?;
    let reply = messages.iter().find(|message| message[MARK] == Mark::Draft.as_str())?;
    let calls = reply["tool_calls"].as_array().into_iter().flatten();
    let mut arguments = calls.filter(|call| call["function"]["name"] == SUBMIT_REPORT);
    arguments.find_map(|call| serde_json::from_str(call["function"]["arguments"].as_str()?).ok())
}

/// The task, as the model was told it first.
pub(super) fn task(transcript: &[Turn]) -> Option<Value> {
    said(transcript).into_iter().find(|message| message["role"] == "user")
}

fn unmarked(mut message: Value) -> Value {
    if let Some(message) = message.as_object_mut() {
        message.remove(MARK);
    }
    message
}

/// Replies with this mark: in a row at the end for `Useless`, all of them for the others.
pub(super) fn marked(transcript: &[Turn], what: Mark) -> u32 {
    let replies = transcript
        .iter()
        .filter_map(|turn| turn.messages.as_array()?.iter().find(|message| message["role"] == "assistant"));
    let holds = |message: &&Value| message[MARK] == what.as_str();
    let count = if what == Mark::Useless {
        replies.collect::<Vec<_>>().into_iter().rev().take_while(holds).count()
    } else {
        replies.filter(holds).count()
    };
    count as u32
}
