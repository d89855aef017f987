//! The cut: what retention tells of the beginning of the audit chain that it took, and whether retention could have made it. Pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock;

/// The kind of the entry that tells of a cut.
pub(super) const CUT: &str = "cut";
/// Nothing younger is ever taken, by age or to make room: people still look at its card.
pub(super) const TAKEN_AGE_MIN_MS: i64 = 3_600_000;
/// Entries are chained within moments of what they record, and clocks differ by less: whatever stands further from its
/// neighbours was put there at another time.
const APART_MAX_MS: i64 = 3_600_000;

/// What retention took from the beginning of the chain, as its own entry tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The last entry that it took.
    pub number: i64,
    /// The hash of that entry (hex).
    pub hash: String,
    /// Entries that it took.
    pub count: i64,
    /// When it was made.
    pub at: Timestamp,
    /// None in an entry of an earlier version.
    pub took: Option<Took>,
}

/// What was taken, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Took {
    /// Where the chain began before: the cut before this one, or 0.
    from: i64,
    /// Whatever is not older than this was kept.
    before_ms: i64,
    /// The instant of the newest entry taken.
    newest_ms: i64,
    /// Taken to make room, however young; else by age alone.
    pub room: bool,
}

impl Took {
    pub(super) fn new(from: i64, before_ms: i64, newest_ms: i64, room: bool) -> Self {
        Self { from, before_ms, newest_ms, room }
    }

    /// Whatever is not older than this was kept.
    pub fn before(&self) -> Timestamp {
        clock::from_ms(self.before_ms)
    }
}

/// Where a cut's entry stands.
pub(super) struct Stand<'a> {
    /// Its own number; None: it is not sealed yet.
    pub(super) number: Option<i64>,
    /// The instant of the entry before it, if that is still there.
    pub(super) after_ms: Option<i64>,
    /// The cut before it, if the chain still tells of it.
    pub(super) last: Option<&'a Cut>,
    /// Whether this engine ever makes room.
    pub(super) shrinks: bool,
}

impl Cut {
    /// The cut that an entry's text tells of, if it does.
    pub(super) fn read(text: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Text {
            at_ms: i64,
            kind: String,
            body: Value,
        }
        let Text { at_ms, body, .. } = serde_json::from_str(text).ok().filter(|text: &Text| text.kind == CUT)?;
        Some(Self {
            number: body["number"].as_i64()?,
            hash: body["hash"].as_str()?.to_owned(),
            count: body["count"].as_i64()?,
            at: clock::from_ms(at_ms),
            took: serde_json::from_value(body).ok(),
        })
    }

    /// What its entry says, but for when.
    pub(super) fn body(number: i64, hash: &str, count: u64, took: Took) -> Value {
        serde_json::json!({
            "number": number, "hash": hash, "count": count, "from": took.from, "before_ms": took.before_ms,
            "newest_ms": took.newest_ms, "room": took.room,
        })
    }

    /// Why retention cannot have made it, if it cannot.
    pub(super) fn fault(&self, stand: &Stand<'_>) -> Option<&'static str> {
        let from = self.took.map(|took| took.from).or_else(|| stand.last.map(|last| last.number));
        if self.number < 1 || self.hash.len() != 64 || from.is_some_and(|from| from < 0) {
            return Some("it names no place of the chain");
        }
        if from.is_some_and(|from| self.count != self.number - from) || self.count < 1 {
            return Some("it counts other entries than there were");
        }
        if stand.number.is_some_and(|own| own <= self.number) {
            return Some("it would have taken itself");
        }
        if stand.last.is_some_and(|last| from != Some(last.number)) {
            return Some("it does not go on where the cut before it ended");
        }
        if stand.after_ms.is_some_and(|after_ms| self.at.as_millisecond() < after_ms - APART_MAX_MS) {
            return Some("it says that it was made before the entry that stands before it");
        }
        let Took { before_ms, newest_ms, room, .. } = self.took?;
        if newest_ms >= before_ms || before_ms > self.at.as_millisecond() - TAKEN_AGE_MIN_MS {
            return Some("it took what was too young");
        }
        (room && !stand.shrinks).then_some("it was made to make room, which is never done on this engine")
    }

    /// Whether it says that it was made after what follows it, or after now.
    pub(super) fn is_postdated(&self, next_ms: i64) -> bool {
        next_ms < self.at.as_millisecond() - APART_MAX_MS
    }

    /// Whether an entry that it took was seen too late to have been old enough. What a daemon that died had left was sealed,
    /// and seen, together with the next start.
    pub(super) fn is_belied(&self, number: i64, seen: Timestamp) -> bool {
        number <= self.number
            && self.took.is_some_and(|took| seen.as_millisecond() > took.before_ms.saturating_add(APART_MAX_MS))
    }

    /// How old, in days, what it took was at least.
    pub fn age_days(&self) -> Option<i64> {
        const DAY_MS: i64 = 86_400_000;
        self.took.map(|took| (self.at.as_millisecond() - took.before_ms) / DAY_MS)
    }
}
