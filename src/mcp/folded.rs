//! Folded log lines as a model reads them. Pure.

use jiff::Timestamp;

use crate::observe::fold;
use crate::observe::fold::{Folded, Group, Level};
use crate::redact::{Redacted, Redactor};
use crate::text;

/// Characters of one shown line: what stands later seldom tells more. The evidence holds more of it.
const SHOWN_MAX_CHARS: usize = 400;
/// Seconds after which a time alone no longer says which day it was.
const DAY_SECONDS: i64 = 20 * 3_600;

/// Each folded line with its worth, how often it came, when first and when last.
pub(super) fn counted(folded: &Folded) -> Vec<(u8, Redacted)> {
    let newest = folded.groups.iter().filter_map(|group| group.last_at).max();
    let end = folded.groups.len().saturating_sub(1);
    let mut lines = Vec::new();
    for (at, group) in folded.groups.iter().enumerate() {
        // What a program said last is as good as trouble.
        let worth = if at == end { Level::Error.max(group.level) as u8 } else { group.level as u8 };
        lines.push((worth, shown(group, newest)));
    }
    lines
}

fn shown(group: &Group, newest: Option<Timestamp>) -> Redacted {
    let first = group.lines.first().cloned().unwrap_or_default();
    let times = match (group.first_at, group.last_at) {
        // Few are told one by one: of two, first and last are all.
        _ if group.times.len() > 2 => {
            let times: Vec<Redacted> = group.times.iter().map(|at| time(*at, newest)).collect();
            Redacted::join(&times, ", ")
        }
        (Some(first), Some(last)) if group.count > 1 => text!("{}..{}", time(first, newest), time(last, newest)),
        (Some(at), _) => time(at, newest),
        _ => Redacted::default(),
    };
    // Most programs write the time themselves.
    let said = group.count == 1 && !times.is_empty() && first.as_str().contains(times.as_str().trim_end_matches('Z'));
    let mut lines = vec![match (group.count, times.is_empty() || said) {
        (1, true) => first.cut(SHOWN_MAX_CHARS),
        (1, false) => text!("{} {}", times, first.cut(SHOWN_MAX_CHARS)),
        (count, true) => text!("x{}: {}", count, first.cut(SHOWN_MAX_CHARS)),
        (count, false) => text!("x{} {}: {}", count, times, first.cut(SHOWN_MAX_CHARS)),
    }];
    for (at, line) in group.lines.iter().enumerate().skip(1) {
        if at == fold::HEAD_MAX && group.left_out > 0 {
            lines.push(text!("  [{} lines of it left out]", group.left_out));
        }
        lines.push(line.cut(SHOWN_MAX_CHARS));
    }
    lines.extend(group.trend.as_ref().map(|trend| text!("  {}", trend)));
    if let Some(last) = group.shown_last() {
        lines.push(text!("  the last: {}", last.cut(SHOWN_MAX_CHARS)));
    }
    Redacted::join(&lines, "\n")
}

/// The time of day, with its date where it may be another day.
pub(super) fn time(at: Timestamp, newest: Option<Timestamp>) -> Redacted {
    let far = newest.is_some_and(|newest| newest.as_second() - at.as_second() > DAY_SECONDS);
    let format = if far { "%Y-%m-%dT%H:%M:%SZ" } else { "%H:%M:%SZ" };
    // Digits alone: nothing to redact.
    Redactor::default().redact(&at.strftime(format).to_string())
}

/// How many lines there were, of which levels, and what is not shown.
pub(super) fn heading(folded: &Folded) -> Redacted {
    let levels = folded.levels.iter().map(|(level, count)| text!("{} {}", *count, level.as_str()));
    let levels: Vec<Redacted> = levels.collect();
    let mut heading = text!("{} lines folded to {}", folded.lines, folded.groups.len() as u64 + folded.left_out);
    if !levels.is_empty() {
        heading = text!("{} ({})", heading, Redacted::join(&levels, ", "));
    }
    if folded.left_out > 0 {
        heading = text!("{}, {} of little worth left out: search_logs finds them", heading, folded.left_out);
    }
    heading
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::fold::fold;

    #[test]
    fn lines_are_shown_with_count_times_and_what_differs() {
        let log = "2026-03-23T16:20:00Z 16:20:00 start\n\
                   2026-03-24T16:21:00Z ERROR no connection to 10.0.0.1\n2026-03-24T16:24:00Z ERROR no connection to 10.0.0.9\n\
                   2026-03-24T16:25:00Z 16:25:00 bye\n";
        let folded = fold(log, &Redactor::default());
        let shown: Vec<String> = counted(&folded).into_iter().map(|(worth, line)| format!("{worth} {line}")).collect();
        let error = Level::Error as u8;
        assert_eq!(
            shown,
            [
                format!("{} 2026-03-23T16:20:00Z 16:20:00 start", Level::None as u8),
                format!(
                    "{error} x2 16:21:00Z..16:24:00Z: ERROR no connection to 10.0.0.1\n  the last: ERROR no connection to 10.0.0.9"
                ),
                format!("{error} 16:25:00 bye"),
            ]
        );
        assert_eq!(heading(&folded).as_str(), "4 lines folded to 3 (2 error)");
    }

    #[test]
    fn few_times_are_told_one_by_one_and_a_number_that_moved_is_told() {
        let at = |second: u32, line: &str| format!("2026-03-24T16:20:{second:02}Z {line}\n");
        let slow: String = [(1, 12), (2, 90), (9, 9000)].map(|(s, n)| at(s, &format!("GET /a took={n}ms"))).concat();
        let calm: String = (10..20).map(|s| at(s, &format!("beat {s} ok"))).collect();
        let secret: String = [1, 50, 900].map(|n| at(30, &format!("login password={n} ok"))).concat();
        let folded = fold(&format!("{slow}{calm}{secret}"), &Redactor::default());
        let shown: Vec<String> = counted(&folded).into_iter().map(|(_, line)| line.as_str().to_owned()).collect();
        assert_eq!(
            shown[..2],
            [
                "x3 16:20:01Z, 16:20:02Z, 16:20:09Z: GET /a took=12ms\n  took 12ms first, 9000ms last, 9000ms at most\n  \
                 the last: GET /a took=9000ms",
                "x10 16:20:10Z..16:20:19Z: beat 10 ok",
            ]
        );
        assert!(shown.len() == 3 && !shown[2].contains("900") && !shown[2].contains("first"), "{shown:?}");
        assert!(folded.joined().as_str().contains("took=9000ms"), "what is shown can be quoted");
    }
}
