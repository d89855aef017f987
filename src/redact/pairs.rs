//! Keys that name a secret, and the value that stands beside them in whatever notation. Pure.

use std::sync::LazyLock;

use regex::Regex;

use crate::redact::keys::{is_secret, may_name_secret};
use crate::redact::rules::{pattern, placeholder};

/// A key and what parts it from its value, as in `KEY=value`, `key: value`, `key => value`, JSON, and JSON in JSON.
static KEY: LazyLock<Regex> = LazyLock::new(|| pattern(r#"([A-Za-z0-9_.-]+)(\\*["']?\]?\s*(?:=>|:=|[:=])[ \t]*)"#));
/// The name that stands before a `value`: `"name": "DB_PASSWORD", "value": `, `Name:DB_PASSWORD Value:`.
static NAMED: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"(?i)(?:name|key)[^A-Za-z0-9_]{1,8}([A-Za-z0-9_.-]+)[^A-Za-z0-9_]{1,40}$"#));
/// What tells, after a comma and the like, that another pair begins there.
static NEXT: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"^[,;&|](?:\s|$|\\*["']?[A-Za-z0-9_.-]+\\*["']?\s*[:=]|\\*["'{\[])"#));

/// Keys that hold a secret although they do not say so.
static COOKIE: LazyLock<Regex> = LazyLock::new(|| pattern("(?i-u:cookie)"));

/// The text with the values of keys that name a secret replaced; None where there is none.
pub(super) fn pairs(text: &str) -> Option<String> {
    if !may_name_secret(text) && !COOKIE.is_match(text) {
        return None;
    }
    let (mut out, mut done, mut at) = (String::new(), 0, 0);
    while let Some(c) = KEY.captures_at(text, at) {
        let (Some(whole), Some(key), Some(between)) = (c.get(0), c.get(1), c.get(2)) else { break };
        at = whole.end();
        let Some(name) = name(key.as_str(), &text[..key.start()]) else { continue };
        let (start, end) = value(text, at, key.as_str());
        let value = &text[start..end];
        if !is_cookie(name) && !is_secret(name, value) {
            continue;
        }
        let words = key.as_str().to_ascii_lowercase().ends_with("authorization") && !is_credential(value);
        let status = value.len() == 3 && value.bytes().all(|byte| byte.is_ascii_digit());
        let path = text[..key.start()].ends_with('/');
        let said = words || (between.as_str().ends_with(": ") && start == at && (is_prose(value) || status || path));
        if value.chars().count() < 3 || is_plain(value) || said {
            continue;
        }
        out.push_str(&text[done..start]);
        out.push_str(&placeholder("value", value));
        (done, at) = (end, end);
    }
    (done > 0).then(|| out + &text[done..])
}

/// The name of the value that stands under `key`, if it may be that of a secret: a `value` has its name before it.
fn name<'a>(key: &'a str, before: &'a str) -> Option<&'a str> {
    if key.eq_ignore_ascii_case("value") {
        // Enough for a name and what stands around it.
        let mut from = before.len().saturating_sub(160);
        while !before.is_char_boundary(from) {
            from += 1;
        }
        return NAMED.captures(&before[from..])?.get(1).map(|name| name.as_str());
    }
    (may_name_secret(key) || is_cookie(key)).then_some(key)
}

fn is_cookie(key: &str) -> bool {
    key.eq_ignore_ascii_case("cookie") || key.eq_ignore_ascii_case("set-cookie")
}

/// Where the value lies that begins at `at`, without its quotes.
fn value(text: &str, at: usize, key: &str) -> (usize, usize) {
    let rest = &text[at..];
    let slashes = rest.bytes().take_while(|byte| *byte == b'\\').count();
    if let Some(quote) = rest[slashes..].chars().next().filter(|c| matches!(c, '"' | '\'' | '`')) {
        let start = at + slashes + 1;
        if let Some(end) = closed(&text[start..], quote, slashes) {
            return (start, start + end);
        }
        return (start, start + bare(&text[start..]));
    }
    // A block of YAML: its first line.
    if rest.starts_with(['|', '>'])
        && let Some(line) = rest.find('\n').filter(|line| *line <= 2)
    {
        let start = at + line + 1 + rest[line + 1..].bytes().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        return (start, start + text[start..].find('\n').unwrap_or(text.len() - start));
    }
    let end = bare(rest);
    let lower = key.to_ascii_lowercase();
    if lower.ends_with("cookie") {
        return (at, at + rest.find(['\n', '"', '\'', '\\']).unwrap_or(rest.len()));
    }
    // `Authorization: ApiKey abc`: the word before the last says how.
    let how = lower.ends_with("authorization") && rest[..end].bytes().all(|byte| byte.is_ascii_alphabetic());
    if how && rest[end..].starts_with(' ') {
        return (at + end + 1, at + end + 1 + bare(&rest[end + 1..]));
    }
    (at, at + end)
}

/// Where a quoted text ends: at a quote with as many backslashes before it as the first one had.
fn closed(text: &str, quote: char, slashes: usize) -> Option<usize> {
    for (at, _) in text.match_indices(quote) {
        let before = text[..at].bytes().rev().take_while(|byte| *byte == b'\\').count();
        if before == slashes {
            return Some(at - slashes);
        }
    }
    None
}

/// Where a text without quotes ends: at white space, a quote, an escape, a bracket that was not opened in it, or where
/// another pair begins.
fn bare(text: &str) -> usize {
    let mut open = 0;
    for (at, c) in text.char_indices() {
        let escaped = || text[at + 1..].starts_with(['n', 'r', 't', '"', '\'', '\\']);
        match c {
            c if c.is_whitespace() || matches!(c, '"' | '\'' | '`') => return at,
            '\\' if escaped() => return at,
            '(' | '[' | '{' => open += 1,
            ')' | ']' | '}' if open == 0 => return at,
            ')' | ']' | '}' => open -= 1,
            ',' | ';' | '&' | '|' if NEXT.is_match(&text[at..]) => return at,
            _ => {}
        }
    }
    text.len()
}

/// What may follow `authorization: ` besides words: credentials hold digits, or are long.
fn is_credential(value: &str) -> bool {
    value.len() >= 24 || value.bytes().any(|byte| byte.is_ascii_digit())
}

/// What stands for a value, or for none.
pub(super) fn is_plain(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let refers = value.starts_with("$(") || value.starts_with("${") || value.starts_with("{{");
    let none = matches!(
        lower.as_str(),
        "true" | "false" | "null" | "none" | "nil" | "<nil>" | "<none>" | "<redacted>" | "<set"
    );
    refers || none || value.starts_with("[redacted") || value.starts_with("[not") || value.chars().all(|c| c == '*')
}

/// Words with which a sentence goes on after `token: `.
pub(super) fn is_prose(value: &str) -> bool {
    const WORDS: [&str; 44] = [
        "a",
        "access",
        "an",
        "argument",
        "bad",
        "cannot",
        "connection",
        "context",
        "could",
        "denied",
        "dial",
        "does",
        "eof",
        "error",
        "expected",
        "expired",
        "failed",
        "failure",
        "forbidden",
        "get",
        "has",
        "http",
        "incorrect",
        "invalid",
        "is",
        "key",
        "lookup",
        "malformed",
        "missing",
        "must",
        "no",
        "not",
        "oauth2",
        "permission",
        "post",
        "provided",
        "required",
        "rpc",
        "signature",
        "specified",
        "the",
        "timeout",
        "unable",
        "unauthorized",
    ];
    const MORE: [&str; 8] = ["unexpected", "unknown", "verification", "was", "x509", "crypto", "secret", "secrets"];
    let word = value.trim_end_matches([':', ',', '.']).to_ascii_lowercase();
    WORDS.contains(&word.as_str()) || MORE.contains(&word.as_str())
}
