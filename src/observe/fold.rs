//! Logs folded: lines that differ only in numbers, ids and times are one line with a count. Pure.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::model::scene::LogLine;
use crate::redact::{Redacted, Redactor};

/// Distinct lines that are kept, the last ones: a screen or two.
const LINES_MAX: usize = 80;
/// Characters of one line; a stack trace in one line ends here.
const LINE_MAX_CHARS: usize = 1_000;

/// Folds a log whose lines begin with the API server's timestamp. Each distinct line stands where it first occurred,
/// verbatim without the timestamp; the oldest beyond 80 are dropped.
pub fn fold(log: &str, redactor: &Redactor) -> Vec<LogLine> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut lines: Vec<LogLine> = Vec::new();
    for line in log.lines() {
        let (at, text) = stamped(line);
        if text.trim().is_empty() {
            continue;
        }
        match seen.get(&mask(text)) {
            Some(&place) => {
                let line = &mut lines[place];
                line.count += 1;
                line.last_at = at.or(line.last_at);
            }
            None => {
                seen.insert(mask(text), lines.len());
                let text = redactor.redact(text);
                lines.push(LogLine { text: shorten(&text), count: 1, first_at: at, last_at: at });
            }
        }
    }
    // A key that spans lines is masked only as a whole: its armour begins on one line and ends on another.
    if log.contains("PRIVATE KEY-----") {
        lines = without_keys(lines);
    }
    lines.split_off(lines.len().saturating_sub(LINES_MAX))
}

/// The folded lines as text, one per line: what stands as evidence.
pub fn joined(lines: &[LogLine]) -> Redacted {
    Redacted::join(lines.iter().map(|line| &line.text), "\n")
}

/// The timestamp before a line, and the line.
pub fn stamped(line: &str) -> (Option<Timestamp>, &str) {
    match line.split_once(' ') {
        Some((stamp, text)) => match stamp.parse() {
            Ok(at) => (Some(at), text),
            Err(_) => (None, line),
        },
        None => match line.parse() {
            Ok(at) => (Some(at), ""),
            Err(_) => (None, line),
        },
    }
}

/// A beginning of the line, without an ellipsis: it must stay verbatim.
fn shorten(text: &Redacted) -> Redacted {
    match text.as_str().char_indices().nth(LINE_MAX_CHARS) {
        Some((end, _)) => text.part(&text.as_str()[..end]).unwrap_or_default(),
        None => text.clone(),
    }
}

fn without_keys(lines: Vec<LogLine>) -> Vec<LogLine> {
    let mut within = false;
    let keep = |line: &LogLine| {
        let text = line.text.as_str();
        let inside = within;
        if text.contains("-----BEGIN") && text.contains("PRIVATE KEY") || text.contains("[redacted private key") {
            within = true;
        }
        if text.contains("-----END") {
            within = false;
        }
        !inside || text.contains("-----")
    };
    let mut keep = keep;
    lines.into_iter().filter(|line| keep(line)).collect()
}

/// The line with what may differ taken out: equal masks are one line.
fn mask(line: &str) -> String {
    let mut mask = String::with_capacity(line.len());
    let mut before = "";
    for word in line.split_inclusive(char::is_whitespace) {
        let bare = word.trim_end();
        if is_status(before, bare) {
            mask.push_str(word)
        } else {
            mask_word(word, &mut mask)
        }
        before = bare;
    }
    mask
}

/// HTTP status codes tell lines apart: three digits after a path, a quoted request, or a word that announces one.
fn is_status(before: &str, word: &str) -> bool {
    let digits = word.rsplit('=').next().unwrap_or(word).trim_end_matches([',', ';', '"', ')']);
    let code = digits.len() == 3
        && digits.bytes().all(|b| b.is_ascii_digit())
        && (b'1'..=b'5').contains(&digits.as_bytes()[0]);
    let announced = word.starts_with("status=") || word.starts_with("code=");
    let after = before.contains('/') || before.ends_with('"') || {
        let before = before.trim_end_matches([':', '=', '"']).to_ascii_lowercase();
        before.ends_with("status") || before.ends_with("code")
    };
    code && (announced || after)
}

/// Runs of letters and digits: `#` for what looks like an id (hex of seven or more, digits and letters mixed), `#` for
/// each run of digits in the rest.
fn mask_word(word: &str, mask: &mut String) {
    let mut rest = word;
    while let Some(first) = rest.chars().next() {
        let alnum = first.is_ascii_alphanumeric();
        let end = rest.find(|c: char| c.is_ascii_alphanumeric() != alnum).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        if alnum && is_id(run) {
            mask.push('#');
        } else if alnum {
            let mut in_digits = false;
            for c in run.chars() {
                if !c.is_ascii_digit() {
                    mask.push(c);
                } else if !in_digits {
                    mask.push('#');
                }
                in_digits = c.is_ascii_digit();
            }
        } else {
            mask.push_str(run);
        }
        rest = after;
    }
}

fn is_id(run: &str) -> bool {
    let bytes = run.as_bytes();
    if !bytes.iter().any(u8::is_ascii_digit) {
        return false;
    }
    let turns = bytes.windows(2).filter(|pair| pair[0].is_ascii_digit() != pair[1].is_ascii_digit()).count();
    turns >= 2 || (bytes.len() >= 7 && bytes.iter().all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(log: &str) -> Vec<(String, u32)> {
        let lines = fold(log, &Redactor::default());
        lines.into_iter().map(|line| (line.text.as_str().to_owned(), line.count)).collect()
    }

    #[test]
    fn lines_that_differ_in_numbers_and_ids_are_one_and_status_codes_are_not() {
        let log = "2026-03-24T16:20:00.01Z GET /items/17 200 14ms id=3f9a8c71\n\
                   2026-03-24T16:21:00.02Z GET /items/18 200 9ms id=aa01b2c3\n\
                   2026-03-24T16:22:00.03Z GET /items/18 503 9ms id=aa01b2c4\n\
                   2026-03-24T16:23:00.04Z dial tcp 10.0.0.7:80: connect: connection refused\n\
                   2026-03-24T16:24:00.05Z dial tcp 10.0.0.9:80: connect: connection refused\n";
        assert_eq!(
            folded(log),
            [
                ("GET /items/17 200 14ms id=3f9a8c71".to_owned(), 2),
                ("GET /items/18 503 9ms id=aa01b2c4".to_owned(), 1),
                ("dial tcp 10.0.0.7:80: connect: connection refused".to_owned(), 2),
            ]
        );
        let lines = fold(log, &Redactor::default());
        assert_eq!(lines[0].last_at.unwrap().to_string(), "2026-03-24T16:21:00.02Z");
    }

    #[test]
    fn the_last_lines_are_kept_and_long_ones_cut_verbatim() {
        let name = |n: usize| -> String { n.to_string().bytes().map(|digit| char::from(digit + 49)).collect() };
        let log: Vec<String> = (0..200).map(|n| format!("step {} {}", name(n), "y ".repeat(2_000))).collect();
        let lines = folded(&log.join("\n"));
        assert_eq!(lines.len(), LINES_MAX);
        assert!(lines[79].0.starts_with(&format!("step {}", name(199))));
        assert!(lines.iter().all(|(line, _)| line.chars().count() == LINE_MAX_CHARS));
    }

    #[test]
    fn a_private_key_over_several_lines_is_gone() {
        let log =
            "loading\n-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqh\nkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----\ndone";
        let text: Vec<String> = folded(log).into_iter().map(|(line, _)| line).collect();
        assert!(!text.iter().any(|line| line.contains("MIIE") || line.contains("kiG9")), "{text:?}");
        assert_eq!(text.last().unwrap(), "done");
    }
}
