//! How fast posts may go into one channel. Waits are given back to the caller, never slept here.

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// "Apps may post no more than one message per second per channel" with short bursts:
/// <https://docs.slack.dev/apis/web-api/rate-limits>.
const BURST: f64 = 5.0;
const PER_SECOND: f64 = 1.0;
const DAY: SignedDuration = SignedDuration::from_hours(24);
/// More channels than one configuration names; beyond it the full buckets are dropped.
const CHANNELS_MAX: usize = 1_000;

/// One bucket a channel.
#[derive(Debug, Default)]
pub(super) struct Pace {
    channels: HashMap<String, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled_at: Timestamp,
    /// Slack itself asked to wait for so long, then. A clock that was set back makes no longer wait of it.
    rest: Option<(Timestamp, SignedDuration)>,
}

impl Bucket {
    fn fill(&mut self, now: Timestamp) {
        let passed = now.duration_since(self.filled_at).as_secs_f64().max(0.0);
        self.tokens = (self.tokens + passed * PER_SECOND).min(BURST);
        self.filled_at = now;
    }
}

impl Pace {
    /// Takes leave for one post, or says how long to wait for it. A reply waits until the channel has a whole burst: the
    /// first cards of other incidents, which may come any moment, are worth more than the thread of one.
    pub(super) fn take(&mut self, channel: &str, is_reply: bool, now: Timestamp) -> Result<(), Duration> {
        if self.channels.len() >= CHANNELS_MAX {
            self.channels.retain(|_, bucket| {
                bucket.fill(now);
                bucket.tokens < BURST
            });
        }
        let bucket = self.bucket(channel, now);
        bucket.fill(now);
        let rest = bucket.rest.map(|(since, rest)| (rest - now.duration_since(since)).min(rest));
        if let Some(wait) = rest.filter(|wait| wait.is_positive()) {
            return Err(wait.unsigned_abs());
        }
        let needed = if is_reply { BURST } else { 1.0 };
        if bucket.tokens < needed {
            return Err(Duration::from_secs_f64((needed - bucket.tokens) / PER_SECOND));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }

    /// Slack answered that the channel must rest for `wait`.
    pub(super) fn rest(&mut self, channel: &str, now: Timestamp, wait: Duration) {
        // More than a day is no answer of Slack's.
        let rest = SignedDuration::try_from(wait).unwrap_or(DAY).min(DAY);
        self.bucket(channel, now).rest = Some((now, rest));
    }

    fn bucket(&mut self, channel: &str, now: Timestamp) -> &mut Bucket {
        let full = || Bucket { tokens: BURST, filled_at: now, rest: None };
        self.channels.entry(channel.to_owned()).or_insert_with(full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_posts_go_at_once_and_then_one_a_second() {
        let mut pace = Pace::default();
        let start = crate::clock::from_ms(0);
        for _ in 0..5 {
            assert!(pace.take("C1", false, start).is_ok());
        }
        let wait = pace.take("C1", false, start).unwrap_err();
        assert!(wait <= Duration::from_secs(1) && wait > Duration::from_millis(900));
        assert!(pace.take("C2", false, start).is_ok(), "channels do not slow each other");
        assert!(pace.take("C1", false, start + Duration::from_millis(1_001)).is_ok());
        pace.rest("C2", start, Duration::from_secs(7));
        assert_eq!(pace.take("C2", false, start + Duration::from_secs(2)).unwrap_err(), Duration::from_secs(5));
    }

    #[test]
    fn a_reply_leaves_the_burst_to_first_cards() {
        let mut pace = Pace::default();
        let start = crate::clock::from_ms(0);
        assert!(pace.take("C1", false, start).is_ok());
        assert_eq!(pace.take("C1", true, start).unwrap_err(), Duration::from_secs(1));
        for _ in 0..4 {
            assert!(pace.take("C1", false, start).is_ok(), "the reply that waits took nothing");
        }
        assert!(pace.take("C1", true, start + Duration::from_secs(5)).is_ok());
    }
}
