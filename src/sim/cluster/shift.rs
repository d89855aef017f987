//! Moves a scenario's instants, so that its fixed "now" becomes the present.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// What happens to the instants of a scenario when it is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shift {
    /// They stay as they are written (a replay, whose clock follows the scenario).
    Keep,
    /// `x-epoch` becomes the clock's present; every timestamp moves by as much (the demo).
    ToNow,
}

/// Moves every timestamp of an object; texts (messages, ConfigMap data) stay.
pub(crate) fn object(value: &mut Value, by: SignedDuration) {
    match value {
        Value::Object(map) => {
            for (field, inner) in map.iter_mut() {
                match inner {
                    Value::String(text) if holds_time(field) => {
                        if let Some(moved) = moved(text, by) {
                            *text = moved;
                        }
                    }
                    _ if field == "data" || field == "binaryData" => {}
                    _ => object(inner, by),
                }
            }
        }
        Value::Array(all) => all.iter_mut().for_each(|inner| object(inner, by)),
        _ => {}
    }
}

/// Moves the time in front of every line of a log.
pub(crate) fn log(text: &str, by: SignedDuration) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let end = line.find([' ', '\n']).unwrap_or(line.len());
        match moved(&line[..end], by) {
            Some(time) => out.extend([time.as_str(), &line[end..]]),
            None => out.push_str(line),
        }
    }
    out
}

/// Fields of the API that hold an instant end so (`creationTimestamp`, `startTime`, `finishedAt`, the annotation `restartedAt`).
fn holds_time(field: &str) -> bool {
    field.ends_with("Timestamp") || field.ends_with("Time") || field.ends_with("At") || field == "time"
}

/// `2026-03-24T16:40:00.123Z` moved by whole seconds, its fraction kept as written; `None` when it is no UTC instant.
fn moved(text: &str, by: SignedDuration) -> Option<String> {
    const SECONDS: usize = "2026-03-24T16:40:00".len();
    let fraction = text.get(SECONDS..).filter(|rest| rest.ends_with('Z'))?;
    let at: Timestamp = text.parse().ok()?;
    let at = at.checked_add(SignedDuration::from_secs(by.as_secs())).ok()?;
    Some(format!("{}{fraction}", at.strftime("%Y-%m-%dT%H:%M:%S")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn instants_move_and_texts_stay() {
        let mut event = json!({"firstTimestamp": null, "eventTime": "2026-03-24T16:40:00.000100Z", "count": 3,
            "message": "2026-03-24T16:40:00Z", "metadata": {"creationTimestamp": "2026-03-24T16:39:59Z"},
            "data": {"builtAt": "2026-03-24T16:40:00Z"}});
        object(&mut event, SignedDuration::from_hours(24));
        assert_eq!(event["eventTime"], "2026-03-25T16:40:00.000100Z");
        assert_eq!(event["metadata"]["creationTimestamp"], "2026-03-25T16:39:59Z");
        assert_eq!(event["message"], "2026-03-24T16:40:00Z");
        assert_eq!(event["data"]["builtAt"], "2026-03-24T16:40:00Z");
        let moved = log("2026-03-24T16:40:00.5Z at 2026-03-24T16:40:00Z\nno time\n", SignedDuration::from_secs(1));
        assert_eq!(moved, "2026-03-24T16:40:01.5Z at 2026-03-24T16:40:00Z\nno time\n");
    }
}
