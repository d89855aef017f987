//! How fast posts may go into one channel. Waits are given back to the caller, never slept here.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// "Apps may post no more than one message per second per channel" with short bursts:
/// <https://docs.slack.dev/apis/web-api/rate-limits>.
const BURST: f64 = 5.0;
const PER_SECOND: f64 = 1.0;
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
    filled_at: Instant,
    /// Slack itself asked to wait until then.
    not_before: Option<Instant>,
}

impl Bucket {
    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.tokens = (self.tokens + passed * PER_SECOND).min(BURST);
        self.filled_at = now;
    }
}

impl Pace {
    /// Takes leave for one post, or says how long to wait for it. A reply waits until the channel has a whole burst: the
    /// first cards of other incidents, which may come any moment, are worth more than the thread of one.
    pub(super) fn take(&mut self, channel: &str, is_reply: bool, now: Instant) -> Result<(), Duration> {
        if self.channels.len() >= CHANNELS_MAX {
            self.channels.retain(|_, bucket| {
                bucket.fill(now);
                bucket.tokens < BURST
            });
        }
        let bucket = self.bucket(channel, now);
        bucket.fill(now);
        if let Some(wait) = bucket.not_before.map(|at| at.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
        {
            return Err(wait);
        }
        let needed = if is_reply { BURST } else { 1.0 };
        if bucket.tokens < needed {
            return Err(Duration::from_secs_f64((needed - bucket.tokens) / PER_SECOND));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }

    /// Slack answered that the channel must rest for `wait`.
    pub(super) fn rest(&mut self, channel: &str, now: Instant, wait: Duration) {
        self.bucket(channel, now).not_before = Some(now + wait);
    }

    fn bucket(&mut self, channel: &str, now: Instant) -> &mut Bucket {
        let full = || Bucket { tokens: BURST, filled_at: now, not_before: None };
        self.channels.entry(channel.to_owned()).or_insert_with(full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_posts_go_at_once_and_then_one_a_second() {
        let mut pace = Pace::default();
        let start = Instant::now();
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
        let start = Instant::now();
        assert!(pace.take("C1", false, start).is_ok());
        assert_eq!(pace.take("C1", true, start).unwrap_err(), Duration::from_secs(1));
        for _ in 0..4 {
            assert!(pace.take("C1", false, start).is_ok(), "the reply that waits took nothing");
        }
        assert!(pace.take("C1", true, start + Duration::from_secs(5)).is_ok());
    }
}
