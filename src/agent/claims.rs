//! Which claims of a report go with a quote that was struck. Pure.

use std::collections::BTreeSet;

use crate::redact::Redacted;

/// Plain words that a claim shares with a struck quote before it is taken to stand on it: one alone occurs by chance.
const SHARED_MIN: usize = 2;
/// Shorter words are particles.
const WORD_MIN_CHARS: usize = 4;
/// Codes and versions are shorter: `137`, `1.4`.
const CODE_MIN_CHARS: usize = 3;

/// The words of struck quotes, without those that are known from elsewhere.
#[derive(Debug, Default)]
pub(super) struct Struck(Vec<BTreeSet<String>>);

impl Struck {
    /// `known` is what is proved without the struck quotes: the other quotes, the findings.
    pub(super) fn new<'a>(
        quotes: impl IntoIterator<Item = &'a Redacted>,
        known: impl IntoIterator<Item = &'a Redacted>,
    ) -> Self {
        let known: BTreeSet<String> = known.into_iter().flat_map(|text| words(text.as_str())).collect();
        let left = |quote: &Redacted| words(quote.as_str()).filter(|word| !known.contains(word)).collect();
        Self(quotes.into_iter().map(left).collect())
    }

    /// Whether a claim stands on one of the struck quotes: it shares a name or number with it, or several words.
    pub(super) fn carries(&self, claim: &str) -> bool {
        let claim: BTreeSet<String> = words(claim).collect();
        self.0.iter().any(|quote| {
            let mut shared = claim.intersection(quote).peekable();
            shared.clone().any(|word| identifies(word)) || shared.by_ref().count() >= SHARED_MIN
        })
    }

    /// The sentences of `text` that stand on none of the struck quotes.
    pub(super) fn without(&self, text: &Redacted) -> Redacted {
        let sentences = sentences(text.as_str());
        let kept: Vec<Redacted> = sentences.filter(|s| !self.carries(s)).filter_map(|s| text.part(s)).collect();
        Redacted::join(&kept, " ")
    }
}

/// The sentences of a text, without the space between them.
pub(super) fn sentences(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(". ").map(str::trim).filter(|sentence| !sentence.is_empty())
}

fn words(text: &str) -> impl Iterator<Item = String> {
    let inside = |c: char| c.is_alphanumeric() || "-_./:=%".contains(c);
    let pieces = text.split(move |c: char| !inside(c)).map(|word| word.trim_matches(|c| ".:-/=".contains(c)));
    let long = |word: &&str| {
        let length = word.chars().count();
        length >= WORD_MIN_CHARS || length >= CODE_MIN_CHARS && identifies(word)
    };
    pieces.filter(long).map(str::to_lowercase)
}

/// A name or number of something, not a word of the language.
fn identifies(word: &str) -> bool {
    word.chars().any(|c| c.is_ascii_digit() || "-_./:=".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_goes_with_the_quote_it_stands_on_and_no_other_claim_does() {
        let struck = Struck::new(
            [&"connect: db-main:5432 connection refused".into(), &"disk is full".into()],
            [&"connection pool exhausted".into()],
        );
        assert!(struck.carries("The database db-main:5432 does not answer."));
        assert!(struck.carries("Every write fails since the disk was full."));
        assert!(!struck.carries("The connection pool is exhausted, and the disk holds."), "known, and one word alone");
        let told = struck.without(&"Revision 7 doubles the pool. It waits for db-main:5432. Pods exit.".into());
        assert_eq!(told.as_str(), "Revision 7 doubles the pool. Pods exit.");
        assert!(!Struck::default().carries("anything at all"));
    }
}
