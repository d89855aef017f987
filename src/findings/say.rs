//! How findings say things: instants, durations, quantities, lists and differences, all as redacted text.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::Offset;

use crate::model::object::ObjectRef;
use crate::model::scene::{DiffLine, Service};
use crate::redact::Redacted;
use crate::redact::Redactor;
use crate::text;

/// `16:23 UTC`, with the date before it when that is not the day of `now`. Absolute, since a card is read later.
pub(super) fn at(instant: Timestamp, now: Timestamp) -> Redacted {
    let (then, today) = (Offset::UTC.to_datetime(instant), Offset::UTC.to_datetime(now));
    let (hour, minute) = (then.hour() as i32, then.minute() as i32);
    if then.date() == today.date() {
        return text!("{:02}:{:02} UTC", hour, minute);
    }
    let (year, month, day) = (then.year() as i32, then.month() as i32, then.day() as i32);
    text!("{:04}-{:02}-{:02} {:02}:{:02} UTC", year, month, day, hour, minute)
}

/// The seconds from `from` to `to`, at least zero (clocks may be skewed).
pub(super) fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    (to.as_second() - from.as_second()).max(0)
}

/// A duration as people say it: `40 s`, `4 min`, `2 h`, `9 days`.
pub(super) fn span(seconds: i64) -> Redacted {
    match seconds.max(0) {
        s @ 0..=89 => text!("{} s", s),
        s @ 90..=5399 => text!("{} min", (s + 30) / 60),
        s @ 5400..=172_799 => text!("{} h", (s + 1800) / 3600),
        s => text!("{} days", (s + 43_200) / 86_400),
    }
}

/// `1 pod`, `3 pods`.
pub(super) fn count(number: u32, one: &'static str, many: &'static str) -> Redacted {
    text!("{} {}", number, if number == 1 { one } else { many })
}

/// `both 2 pods`, `all 40 pods`, `the pod`: all of `number` things.
pub(super) fn all(number: u32, one: &'static str, many: &'static str) -> Redacted {
    match number {
        1 => text!("the {}", one),
        2 => text!("both {}", many),
        n => text!("all {} {}", n, many),
    }
}

/// `a, b and 3 more`: at most `shown` of the items, the rest counted.
pub(super) fn list(items: &[Redacted], shown: usize) -> Redacted {
    let rest = items.len().saturating_sub(shown);
    let first = Redacted::join(items.iter().take(shown), ", ");
    match (rest, items) {
        (0, [_, .., last]) => {
            let before = Redacted::join(&items[..items.len() - 1], ", ");
            text!("{} and {}", before, last)
        }
        (0, _) => first,
        _ => text!("{} and {} more", first, rest),
    }
}

/// Milli-cores as Kubernetes writes them.
pub(super) fn cpu(milli: i64) -> Redacted {
    text!("{}m", milli)
}

/// Bytes in the largest binary unit that leaves at least 2 of it.
pub(super) fn bytes(bytes: i64) -> Redacted {
    match bytes {
        b if b >= 2 << 30 => text!("{}Gi", b >> 30),
        b => text!("{}Mi", b >> 20),
    }
}

/// ` in shop`, or nothing for a cluster-scoped object: to follow a name.
pub(super) fn within(object: &ObjectRef) -> Redacted {
    object.namespace.as_ref().map_or_else(Redacted::default, |namespace| text!(" in {}", namespace))
}

/// ` It was changed at 16:23 UTC by helm.`, if a Service was written since it was made; else nothing.
pub(super) fn changed(service: &Service, now: Timestamp) -> Redacted {
    match (service.changed_at.filter(|at| *at > service.created_at), &service.changed_by) {
        (Some(written), Some(by)) => text!(" It was changed at {} by {}.", at(written, now), by),
        (Some(written), None) => text!(" It was changed at {}.", at(written, now)),
        _ => Redacted::default(),
    }
}

/// A label's or an environment variable's key.
pub(super) fn key(key: &str) -> Redacted {
    Redactor::default().redact(key)
}

/// `tier=web, version=v2`.
pub(super) fn labels(labels: &BTreeMap<String, Redacted>) -> Redacted {
    let pairs: Vec<Redacted> = labels.iter().map(|(name, value)| text!("{}={}", key(name), value)).collect();
    Redacted::join(&pairs, ", ")
}

/// The longest value of a difference that is shown whole, in characters: an image with registry and tag fits.
const VALUE_MAX_CHARS: usize = 90;

/// One difference of two templates: `image a → b`, `added env DB_POOL (200)`, `removed envFrom (was ConfigMap a)`.
/// The container is named where there are several.
pub(super) fn diff(line: &DiffLine, several: bool) -> Redacted {
    let field = match &line.container {
        Some(container) if several => text!("{} of container {}", line.field, container),
        _ => line.field.clone(),
    };
    let short = |value: &Redacted| value.one_line().cut(VALUE_MAX_CHARS);
    match (&line.before, &line.after) {
        (Some(before), Some(after)) => text!("{} {} → {}", field, short(before), short(after)),
        (None, Some(after)) if is_flag(after) => text!("added {}", field),
        (None, Some(after)) => text!("added {} ({})", field, short(after)),
        (Some(before), None) if is_flag(before) => text!("removed {}", field),
        (Some(before), None) => text!("removed {} (was {})", field, short(before)),
        (None, None) => field,
    }
}

/// A value that says no more than that the field is there.
fn is_flag(value: &Redacted) -> bool {
    matches!(value.as_str(), "" | "true" | "present" | "yes")
}

/// A line of a log, short enough to stand inside a sentence, without what would end one.
pub(super) fn line(text: &Redacted) -> Redacted {
    let short = text.one_line().cut(140);
    let bare = short.as_str().trim_end_matches(['.', '!']);
    short.part(bare).unwrap_or(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_of_another_day_carries_its_date() {
        let now: Timestamp = "2026-03-24T16:40:00Z".parse().unwrap();
        let at = |text: &str| super::at(text.parse().unwrap(), now).as_str().to_owned();
        assert_eq!(at("2026-03-24T06:05:10Z"), "06:05 UTC");
        assert_eq!(at("2026-03-12T16:40:00Z"), "2026-03-12 16:40 UTC");
    }

    #[test]
    fn lists_are_cut_with_a_count_of_what_was_cut() {
        let items: Vec<Redacted> = ["a", "b", "c"].into_iter().map(Redacted::literal).collect();
        assert_eq!(list(&items, 3).as_str(), "a, b and c");
        assert_eq!(list(&items, 2).as_str(), "a, b and 1 more");
        assert_eq!(list(&items[..1], 2).as_str(), "a");
        assert_eq!(list(&[], 2).as_str(), "");
    }
}
