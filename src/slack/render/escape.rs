//! Text from outside made harmless for Slack: it can neither mention, nor link, nor format.
//!
//! Every function here returns text that may be put into a `mrkdwn` object as it is; `plain` alone is for
//! `plain_text` objects, in which Slack interprets nothing.

use jiff::Timestamp;

use crate::model::{Link, Name, ObjectRef};

/// Parts a formatting character from its neighbours without being seen (word joiner). Slack takes `*_~` and backticks
/// for formatting only at the edge of a word.
pub(super) const JOINER: char = '\u{2060}';

/// The length as Slack counts it. Its documents say characters; UTF-16 units are never fewer.
pub(super) fn length(text: &str) -> usize {
    text.encode_utf16().count()
}

/// A sentence that may hold code spans of its own: they stay when each backtick has its partner, all else is escaped.
pub(super) fn prose(text: &str) -> String {
    let text = visible(text);
    let backticks = text.matches('`').count();
    if backticks % 2 == 1 || text.contains("``") {
        return isolated(escape(&text));
    }
    let mut out = String::with_capacity(text.len() + 16);
    for (index, piece) in text.split('`').enumerate() {
        if index % 2 == 1 {
            out.push_str(&format!("`{}`", entities(piece)));
        } else {
            out.push_str(&escape(piece));
        }
    }
    isolated(out)
}

/// One value in code style, on one line.
pub(super) fn code(text: &str) -> String {
    let text = visible(text).replace('`', "ˋ");
    let text = text.trim();
    if text.is_empty() { "`(empty)`".to_owned() } else { isolated(format!("`{}`", entities(text))) }
}

/// One value in code style of at most `max_chars` characters.
pub(super) fn code_cut(text: &str, max_chars: usize) -> String {
    code(&cut(text, max_chars))
}

/// Several lines in a preformatted block.
pub(super) fn block(lines: &[String]) -> String {
    let clean: Vec<String> = lines.iter().map(|line| isolated(entities(&visible(line).replace('`', "ˋ")))).collect();
    format!("```\n{}\n```", clean.join("\n"))
}

/// For `plain_text`: no control or direction characters, no backticks, nothing that looks like a token.
pub(super) fn plain(text: &str) -> String {
    let text: String = visible(text).chars().filter(|c| *c != '`').collect();
    isolated(text.replace('<', "‹").replace('>', "›"))
}

/// The object's path in code style: `shop/checkout`.
pub(super) fn path(object: &ObjectRef) -> String {
    match &object.namespace {
        Some(namespace) => format!("`{}/{}`", short(namespace.as_str(), 60), short(object.name(), 60)),
        None => format!("`{}`", short(object.name(), 60)),
    }
}

/// Kind and path: Deployment `shop/checkout`.
pub(super) fn object(object: &ObjectRef) -> String {
    format!("{} {}", object.kind, path(object))
}

/// The name alone in code style.
pub(super) fn name(name: &Name) -> String {
    format!("`{}`", short(name.as_str(), 60))
}

/// A name of at most `max_chars` characters: what is too much is taken out of the middle, for both ends tell names
/// apart.
pub(super) fn short(name: &str, max_chars: usize) -> String {
    let count = name.chars().count();
    if count <= max_chars {
        return name.to_owned();
    }
    let tail = max_chars / 3;
    let head = max_chars - tail - 1;
    let start: String = name.chars().take(head).collect();
    let end: String = name.chars().skip(count - tail).collect();
    format!("{start}…{end}")
}

/// At most `max_chars` characters; the last is `…` where something was cut.
pub(super) fn cut(text: &str, max_chars: usize) -> String {
    if text.chars().count() <= max_chars {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(max_chars.saturating_sub(1)).collect();
    short.truncate(short.trim_end().len());
    short.push('…');
    short
}

/// `at` as each reader's own clock shows it; the day too when it is not within 20 hours of `now`.
pub(super) fn time(at: Timestamp, now: Timestamp) -> String {
    let seconds = at.as_second();
    if (now.as_second() - seconds).abs() < 20 * 3600 {
        format!("<!date^{seconds}^{{time}}|{}>", at.strftime("%H:%M UTC"))
    } else {
        format!("<!date^{seconds}^{{date_short_pretty}} {{time}}|{}>", at.strftime("%Y-%m-%d %H:%M UTC"))
    }
}

/// A person or group as the policy and Slack name them: `U…` and `group:S…` become what Slack shows by name.
pub fn person(who: &str) -> String {
    let id = |text: &str, first: &[char]| {
        text.starts_with(first)
            && (2..=20).contains(&text.len())
            && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
    };
    if id(who, &['U', 'W']) {
        return format!("<@{who}>");
    }
    match who.strip_prefix("group:") {
        Some(group) if id(group, &['S']) => format!("<!subteam^{group}>"),
        _ => prose(&cut(who, 60)),
    }
}

/// Escaped text in which the ids of users and groups became what Slack shows by name. An id holds a digit, so that no
/// shouted word is taken for one.
pub(super) fn people(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut word = String::new();
    for c in text.chars().map(Some).chain([None]) {
        match c {
            Some(c) if c.is_ascii_alphanumeric() || c == ':' => word.push(c),
            other => {
                let is_id = word.len() >= 9 && word.chars().any(|c| c.is_ascii_digit());
                let shown = if is_id { person(&word) } else { word.clone() };
                out.push_str(if shown.starts_with('<') { &shown } else { &word });
                out.extend(other);
                word.clear();
            }
        }
    }
    out
}

/// A link, if it is one to the web; else the label alone.
pub(super) fn link(link: &Link) -> String {
    let label = isolated(escape(&cut(&visible(link.label.as_str()), 40)).replace('|', "¦"));
    let url = link.url.as_str();
    let web = url.starts_with("https://") || url.starts_with("http://");
    let printable = url.len() <= 1_000 && url.chars().all(|c| c.is_ascii_graphic());
    if !web || !printable {
        return label;
    }
    let url = url.replace('&', "&amp;").replace('<', "%3C").replace('>', "%3E").replace('|', "%7C");
    format!("<{url}|{label}>")
}

/// A whole number with separators: `9,140`.
pub(super) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 alert`, `4 alerts`.
pub(super) fn counted(count: u32, noun: &str) -> String {
    format!("{} {noun}{}", number(count.into()), if count == 1 { "" } else { "s" })
}

/// The text with its first letter as a capital, for the begin of a sentence.
pub(super) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// The text without its full stop, to put it into a sentence of ours.
pub(super) fn bare(text: &str) -> &str {
    text.trim().trim_end_matches('.')
}

/// Everything on one line, without characters that are invisible or turn the direction of what follows.
fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // Direction marks, embeddings, overrides and isolates; other format characters; tags.
            '\u{61C}' | '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' => {}
            '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}' => {}
            c if c.is_whitespace() || c.is_control() => {
                if !out.ends_with(' ') {
                    out.push(' ');
                }
            }
            c => out.push(c),
        }
    }
    out
}

/// The text closed in an isolate where it holds right-to-left letters, so that they cannot reorder what stands around.
fn isolated(text: String) -> String {
    let right_to_left = |c: char| matches!(c, '\u{590}'..='\u{8FF}' | '\u{FB1D}'..='\u{FDFF}' | '\u{FE70}'..='\u{FEFC}' | '\u{10800}'..='\u{10FFF}' | '\u{1E800}'..='\u{1EFFF}');
    if text.chars().any(right_to_left) { format!("\u{2068}{text}\u{2069}") } else { text }
}

fn entities(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Entities, and formatting characters at the edge of a word kept from formatting.
fn escape(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len() + 8);
    for (index, &c) in chars.iter().enumerate() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '`' => out.push('ˋ'),
            '*' | '_' | '~' => {
                let inside = |at: Option<usize>| at.and_then(|at| chars.get(at)).is_some_and(|c| c.is_alphanumeric());
                if !(inside(index.checked_sub(1)) && inside(Some(index + 1))) {
                    out.push(JOINER);
                    out.push(c);
                    out.push(JOINER);
                } else {
                    out.push(c);
                }
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_can_neither_mention_nor_link_nor_format() {
        assert_eq!(prose("<!channel> & <@U1>"), "&lt;!channel&gt; &amp; &lt;@U1&gt;");
        assert_eq!(prose("*bold* DB_POOL"), "\u{2060}*\u{2060}bold\u{2060}*\u{2060} DB_POOL");
        assert_eq!(prose("a ` b"), "a ˋ b");
        assert_eq!(prose("x ```rm``` y"), "x ˋˋˋrmˋˋˋ y");
        assert_eq!(prose("set `A_B=<x>` now"), "set `A_B=&lt;x&gt;` now");
        assert_eq!(code("a`b\n<c>"), "`aˋb &lt;c&gt;`");
        assert_eq!(code(" \n"), "`(empty)`");
        assert_eq!(plain("`a` <!here>"), "a ‹!here›");
    }

    #[test]
    fn direction_overrides_vanish_and_right_to_left_text_stays_in_its_place() {
        assert_eq!(prose("abc\u{202E}def\u{2066}"), "abcdef");
        assert_eq!(code("שלום"), "\u{2068}`שלום`\u{2069}");
        assert_eq!(prose("👩\u{200D}💻 up"), "👩\u{200D}💻 up");
    }

    #[test]
    fn only_links_to_the_web_become_links() {
        let make = |label: &'static str, url: &'static str| Link { label: label.into(), url: url.into() };
        assert_eq!(
            link(&make("Run|book", "https://x.example/?a=1&b=<|>")),
            "<https://x.example/?a=1&amp;b=%3C%7C%3E|Run¦book>"
        );
        assert_eq!(link(&make("Runbook", "javascript:alert(1)")), "Runbook");
        assert_eq!(link(&make("Runbook", "https://x.example/a b")), "Runbook");
    }

    #[test]
    fn people_are_named_only_by_ids() {
        assert_eq!(person("U024BE7LH"), "<@U024BE7LH>");
        assert_eq!(person("group:S0614TZR7"), "<!subteam^S0614TZR7>");
        assert_eq!(person("<!channel>"), "&lt;!channel&gt;");
        assert_eq!(
            people("only U024BE7LH, group:S0614TZR7 or UNAVAILABLE may (&lt;W)"),
            "only <@U024BE7LH>, <!subteam^S0614TZR7> or UNAVAILABLE may (&lt;W)"
        );
    }

    #[test]
    fn long_names_keep_both_ends() {
        assert_eq!(short("abcdefghijklmnop", 10), "abcdef…nop");
        assert_eq!(number(1_234_567), "1,234,567");
        assert_eq!(number(40), "40");
    }
}
