//! Schedules in cron's five fields, as CronJobs and freezes are written: when they are due next. Pure, and without time zones.

use jiff::civil::{Date, DateTime};

/// How far ahead a due time is looked for: every schedule that is ever due is due within four years and a day, but for
/// a 29 February across a century.
const DAYS_MAX: u32 = 4 * 366;
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A schedule; each field is a set of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both kinds of days are restricted: then either will do.
    either_day: bool,
}

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
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else { return None };
        let any = |field: &str| field.starts_with(['*', '?']);
        let sundays = field(weekdays, 0, 7, &DAYS, 0)?;
        Some(Self {
            minutes: field(minutes, 0, 59, &[], 0)?,
            hours: field(hours, 0, 23, &[], 0)?,
            days: field(days, 1, 31, &[], 0)?,
            months: field(months, 1, 12, &MONTHS, 1)?,
            // 7 is Sunday too.
            weekdays: sundays | (sundays >> 7),
            either_day: !any(days) && !any(weekdays),
        })
    }

    /// Whether it is due in this minute.
    pub fn is_due(&self, at: DateTime) -> bool {
        self.is_day(at.date()) && has(self.hours, at.hour()) && has(self.minutes, at.minute())
    }

    /// The first due minute after `at`; None if it is never due.
    pub fn next_after(&self, at: DateTime) -> Option<DateTime> {
        let mut date = at.date();
        for _ in 0..=DAYS_MAX {
            if self.is_day(date) {
                let hours = (0..24).filter(|hour| has(self.hours, *hour));
                let mut times = hours.flat_map(|hour| {
                    let minutes = (0..60).filter(|minute| has(self.minutes, *minute));
                    minutes.map(move |minute| date.at(hour, minute, 0, 0))
                });
                if let Some(next) = times.find(|next| *next > at) {
                    return Some(next);
                }
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    fn is_day(&self, date: Date) -> bool {
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        has(self.months, date.month()) && if self.either_day { day || weekday } else { day && weekday }
    }
}

fn has(set: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| set & (1 << value) != 0)
}

/// A field's values: `*`, `5`, `1-5`, `*/15`, `10-50/10`, `MON,WED`.
fn field(text: &str, least: u32, most: u32, names: &[&str], first: u32) -> Option<u64> {
    let value = |text: &str| {
        let named = names.iter().position(|name| text.eq_ignore_ascii_case(name)).map(|at| at as u32 + first);
        named.or_else(|| text.parse().ok()).filter(|value| (least..=most).contains(value))
    };
    let mut set = 0;
    for part in text.split(',') {
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let step: u32 = step.map_or(Some(1), |step| step.parse().ok().filter(|step| *step > 0))?;
        let (from, to) = match range.split_once('-') {
            _ if range == "*" || range == "?" => (least, most),
            Some((from, to)) => (value(from)?, value(to)?),
            // `5/15` runs to the end.
            None if part.contains('/') => (value(range)?, most),
            None => (value(range)?, value(range)?),
        };
        if from > to {
            return None;
        }
        set |= (from..=to).step_by(step as usize).fold(0, |set, value| set | 1 << value);
    }
    Some(set)
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
            assert_eq!(Schedule::parse(text), None, "{text}");
        }
        let never = Schedule::parse("0 0 30 2 *").unwrap();
        assert_eq!(never.next_after("2026-03-24T00:00:00".parse().unwrap()), None);
    }
}
