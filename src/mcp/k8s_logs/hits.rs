//! A search as it goes through one log. Pure.

use regex::Regex;

use crate::observe::fold;
use crate::redact::Redactor;

/// The search. A line must match both as written and as shown: what was redacted cannot be found
/// out by asking for it.
pub(super) struct Hits<'a> {
    pattern: &'a Regex,
    redactor: &'a Redactor,
    inside: bool,
}

impl<'a> Hits<'a> {
    pub(super) fn new(pattern: &'a Regex, redactor: &'a Redactor) -> Self {
        Self { pattern, redactor, inside: false }
    }

    /// Whether this line, the next one of the log, is a hit; within a private key none is.
    pub(super) fn is_hit(&mut self, line: &str) -> bool {
        self.inside |= line.contains("-----BEGIN") && line.contains("PRIVATE KEY");
        let (_, text) = fold::parted(line);
        let hit =
            !self.inside && self.pattern.is_match(text) && self.pattern.is_match(self.redactor.redact(text).as_str());
        self.inside &= !line.contains("-----END");
        hit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_finds_what_is_shown_and_nothing_that_was_redacted() {
        let log = "2026-03-24T16:20:00Z login password=hunter22 failed\n2026-03-24T16:20:01Z Timeout after 3 s\n\
                   -----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqh\n-----END PRIVATE KEY-----\n";
        let redactor = Redactor::default();
        let find = |pattern: &str| {
            let pattern = regex::RegexBuilder::new(pattern).case_insensitive(true).build().unwrap();
            let mut hits = Hits::new(&pattern, &redactor);
            log.lines().filter(|line| hits.is_hit(line)).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(find("timeout"), "2026-03-24T16:20:01Z Timeout after 3 s");
        assert!(find("failed").contains("password="), "it is redacted when it is folded");
        assert_eq!(find("password=h.*2"), "");
        assert_eq!(find("MIIE"), "");
        assert_eq!(find("3 s").lines().count(), 1);
    }
}
