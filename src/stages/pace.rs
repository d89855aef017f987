//! How often a stage looks again at what it only watches, so that looking is not polling.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

/// When each unit was last looked at, and its news then. Bounded by what `keep` leaves: the units that are still watched.
#[derive(Debug, Default)]
pub struct Pace(Mutex<BTreeMap<String, (Timestamp, News)>>);

/// What makes a unit due before its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// When it was last changed.
    pub at: Option<Timestamp>,
    /// Whether its investigation has ended.
    pub reported: bool,
    /// How often its object moved.
    pub moved: Option<u64>,
}

impl Pace {
    /// Whether `unit` is due: never looked at, not for `every`, or with other news than last time (not later news: two
    /// signals may be placed within one millisecond). If so it counts as looked at.
    pub fn is_due(&self, unit: &str, every: SignedDuration, news: News, now: Timestamp) -> bool {
        let mut looked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = looked.get(unit).is_none_or(|(last, seen)| now.duration_since(*last) >= every || *seen != news);
        if due {
            looked.insert(unit.to_owned(), (now, news));
        }
        due
    }

    /// When a unit was last looked at.
    pub fn looked(&self, unit: &str) -> Option<Timestamp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(unit).map(|(at, _)| *at)
    }

    /// Makes a unit due again.
    pub fn forget(&self, unit: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(unit);
    }

    /// Forgets every unit that is not watched any more.
    pub fn keep(&self, is_watched: impl Fn(&str) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|unit, _| is_watched(unit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;

    #[test]
    fn a_unit_is_looked_at_once_in_a_while_and_at_once_when_there_is_news() {
        let (pace, every) = (Pace::default(), SignedDuration::from_secs(5));
        let due = |news: Option<i64>, now: i64| {
            let news = News { at: news.map(from_ms), ..News::default() };
            pace.is_due("a", every, news, from_ms(now))
        };
        assert!(due(None, 1_000));
        assert!(!due(None, 1_500) && due(Some(900), 2_000) && !due(Some(900), 2_000));
        assert!(due(Some(900), 7_000));
        pace.keep(|_| false);
        assert!(due(Some(900), 7_001));
    }
}
