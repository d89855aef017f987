//! Time: every instant that is stored or compared comes from here, so that a test or a replay can set it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

/// A source of instants with millisecond precision; clones share the same time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    /// Milliseconds since the Unix epoch; moves only when told.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `at` until it is set or advanced: for replays and tests.
    pub fn manual(at: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(at.as_millisecond()))))
    }

    /// The present instant, cut to whole milliseconds (what the store keeps).
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => {
                #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the machine")]
                let now = Timestamp::now();
                from_ms(now.as_millisecond())
            }
            Source::Manual(ms) => from_ms(ms.load(Ordering::SeqCst)),
        }
    }

    /// The present instant in milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        self.now().as_millisecond()
    }

    /// Moves a manual clock to `at`, never backwards; a system clock takes no orders.
    pub fn set(&self, at: Timestamp) {
        if let Source::Manual(ms) = &self.0 {
            ms.fetch_max(at.as_millisecond(), Ordering::SeqCst);
        }
    }

    /// Whether this clock moves only when told (then nothing may wait for it in real time).
    pub fn is_manual(&self) -> bool {
        matches!(self.0, Source::Manual(_))
    }
}

/// An instant from stored milliseconds since the Unix epoch; out of jiff's range means the epoch itself.
pub fn from_ms(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A duration as people say it: `40 s`, `4 min`, `2 h`, `9 days`. Negative (clock skew) counts as zero.
pub fn words(seconds: i64) -> String {
    match seconds.max(0) {
        s @ 0..=89 => format!("{s} s"),
        s @ 90..=5399 => format!("{} min", (s + 30) / 60),
        s @ 5400..=172_799 => format!("{} h", (s + 1800) / 3600),
        s => format!("{} days", (s + 43_200) / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_forwards_and_only_when_told() {
        let clock = Clock::manual(from_ms(5_000));
        clock.set(from_ms(9_000));
        clock.set(from_ms(7_000));
        assert_eq!(clock.now_ms(), 9_000);
    }

    #[test]
    fn durations_are_said_in_the_unit_a_person_would_use() {
        let said: Vec<_> = [-3, 40, 240, 7_200, 777_600].into_iter().map(words).collect();
        assert_eq!(said, ["0 s", "40 s", "4 min", "2 h", "9 days"]);
    }
}
