//! Schedules of CronJobs, in cron's five fields: whether they are due, and when next. Pure, and without time zones.

use cronexpr::{Crontab, MakeTimestamp, parse_crontab};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// A schedule, read as if its clock were UTC.
#[derive(Debug)]
pub struct Schedule(Crontab);

impl Schedule {
    /// Reads `*/5 9-17 * * MON-FRI`, or `@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly`, `@annually`.
    /// None for anything else (`@every 5m`, a time zone before the fields, ranges that are turned round).
    pub fn parse(text: &str) -> Option<Self> {
        let text = match text.trim() {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            other => other,
        };
        // A sixth field would be the time zone.
        let fields = text.split_whitespace().count() == 5;
        fields.then(|| parse_crontab(&format!("{text} UTC")).ok().map(Self)).flatten()
    }

    /// Whether it is due in this minute.
    pub fn is_due(&self, at: DateTime) -> bool {
        instant(at).is_some_and(|at| self.0.matches(at).unwrap_or(false))
    }

    /// The first due minute after `at`; None if it is never due.
    pub fn next_after(&self, at: DateTime) -> Option<DateTime> {
        Some(self.0.find_next(instant(at)?).ok()?.datetime())
    }
}

fn instant(at: DateTime) -> Option<MakeTimestamp> {
    Some(MakeTimestamp(TimeZone::UTC.to_timestamp(at).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn next(schedule: &str, at: &str) -> String {
        let schedule = Schedule::parse(schedule).expect(schedule);
        let next = schedule.next_after(at.parse().unwrap()).unwrap();
        assert!(schedule.is_due(next));
        next.to_string()
    }

    #[test]
    fn the_next_due_time_is_that_of_cron() {
        assert_eq!(next("*/15 * * * *", "2026-03-24T16:45:00"), "2026-03-24T17:00:00");
        assert_eq!(next("0 9 * * MON-FRI", "2026-03-27T09:00:00"), "2026-03-30T09:00:00");
        assert_eq!(next("0 0 1 * *", "2026-03-24T00:00:00"), "2026-04-01T00:00:00");
        assert_eq!(next("0 0 13 * 5", "2026-03-09T00:00:00"), "2026-03-13T00:00:00", "a Friday or a 13th");
        assert_eq!(next("30 2 29 2 *", "2026-03-24T00:00:00"), "2028-02-29T02:30:00");
        assert_eq!(next("0 4 * * 7", "2026-03-24T00:00:00"), "2026-03-29T04:00:00", "7 is Sunday");
        assert_eq!(next("@hourly", "2026-03-24T16:00:00"), "2026-03-24T17:00:00");
        assert_eq!(next("5/20 10-12 * jan,mar *", "2026-03-24T12:45:00"), "2026-03-25T10:05:00");
    }

    #[test]
    fn what_is_no_schedule_is_none() {
        for text in ["", "* * * *", "60 * * * *", "* * * * funday", "*/0 * * * *", "9-5 * * * *", "@every 5m"] {
            assert!(Schedule::parse(text).is_none(), "{text}");
        }
        let never = Schedule::parse("0 0 30 2 *").unwrap();
        assert_eq!(never.next_after("2026-03-24T00:00:00".parse().unwrap()), None);
    }
}
