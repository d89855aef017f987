//! Away: what cannot go on because the world outside does not take it, since when, and when it is tried again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::redact::Redacted;

/// A unit that was not refused again for so long is somebody else's by now, or over: three times the longest wait.
const FORGET_AFTER: SignedDuration = SignedDuration::from_mins(15);

/// The units that wait for somebody to mend the world outside. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Away(Arc<Mutex<BTreeMap<String, Refusal>>>);

#[derive(Debug)]
struct Refusal {
    since: Timestamp,
    last: Timestamp,
    why: Redacted,
}

impl Away {
    /// Notes that `unit` could not go on, and tells for how long this has been so.
    pub fn note(&self, unit: &str, why: &Redacted, now: Timestamp) -> SignedDuration {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, refusal| now.duration_since(refusal.last) < FORGET_AFTER);
        let since = all.get(unit).map_or(now, |refusal| refusal.since);
        all.insert(unit.to_owned(), Refusal { since, last: now, why: why.clone() });
        now.duration_since(since)
    }

    /// It went on.
    pub fn forget(&self, unit: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(unit);
    }

    /// Why something waits, as it was told last; none where nothing does.
    pub fn why(&self, now: Timestamp) -> Option<Redacted> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, refusal| now.duration_since(refusal.last) < FORGET_AFTER);
        all.values().max_by_key(|refusal| refusal.last).map(|refusal| refusal.why.clone())
    }
}

/// When to try again after `lasted`: half as long again, within these bounds.
pub fn again(lasted: SignedDuration, first: SignedDuration, longest: SignedDuration) -> SignedDuration {
    (lasted / 2).clamp(first, longest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;

    #[test]
    fn the_waits_grow_with_the_trouble_and_end_with_it() {
        let (away, why) = (Away::default(), Redacted::literal("not_in_channel"));
        let at = |seconds: i64| from_ms(1_000 * seconds);
        let wait = |seconds: i64| {
            let lasted = away.note("i1", &why, at(seconds));
            again(lasted, SignedDuration::from_secs(10), SignedDuration::from_mins(5)).as_secs()
        };
        assert_eq!([wait(0), wait(10), wait(60), wait(300), wait(1_100)], [10, 10, 30, 150, 300]);
        assert_eq!(away.why(at(1_100)), Some(why.clone()));
        away.forget("i1");
        assert_eq!((away.why(at(2_000)), wait(2_000)), (None, 10));
        away.note("i2", &"is_archived".into(), at(2_900));
        assert_eq!(away.why(at(2_900)), Some("is_archived".into()), "i1 was forgotten, and this is the last word");
        assert_eq!(away.why(at(3_800)), None, "what nobody has refused since is somebody else's by now, or over");
    }
}
