//! Freeze windows: times in which nothing is changed, by cron with a length or by the calendar, each in a time zone.

use std::sync::{Arc, Mutex, PoisonError};

use cronexpr::{Crontab, MakeTimestamp, parse_crontab};
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::govern::policy::file::not_empty;
use crate::govern::policy::pattern;
use crate::model::Severity;

/// A window in which nothing may be changed: `cron` and `for`, or `from` and `until`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// When it begins, again and again: minute, hour, day of month, month, day of week.
    #[serde(default)]
    pub cron: Option<String>,
    /// How long it lasts, in exact hours and minutes: `60h`, `90m`.
    #[serde(default, rename = "for")]
    pub length: Option<String>,
    /// When it begins once: a date, or a date and time (`2026-12-20T18:00`).
    #[serde(default)]
    pub from: Option<String>,
    /// When it ends: a date (that day is still frozen), or a date and time.
    #[serde(default)]
    pub until: Option<String>,
    /// The IANA name of the zone in which these times are meant: `Europe/Paris`, `UTC`.
    pub timezone: String,
    /// Names, or prefixes ending in `*`; without it everything is frozen, objects without a namespace too.
    #[serde(default, deserialize_with = "not_empty")]
    #[schemars(length(min = 1))]
    pub namespaces: Vec<String>,
    /// What the window does not hold.
    #[serde(default)]
    pub except: Option<Except>,
    /// What the times mean; set when the file is checked. Without it the window is never over.
    #[serde(skip)]
    pub(super) window: Option<Window>,
}

/// Incidents that a freeze does not hold.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Except {
    /// This severity and the ones above it.
    pub severity: Severity,
}

/// A window that was understood.
#[derive(Clone, Debug)]
pub(super) enum Window {
    Cron { starts: Box<Starts>, length: SignedDuration, last: Last },
    Once { from: Timestamp, until: Timestamp },
}

/// When windows begin by a cron expression.
#[derive(Clone, Debug)]
pub(super) struct Starts {
    zone: TimeZone,
    in_zone: Crontab,
    /// The same by the clock on the wall, for times that the zone leaves out.
    on_wall: Crontab,
}

/// The stretch of time that was looked at last, and when the freeze in it ends (None: none): the search of a cron
/// expression takes longer than all the rest of a decision.
type Last = Arc<Mutex<Option<(Timestamp, Timestamp, Option<Timestamp>)>>>;

/// A freeze longer than this would be a `deny`.
const LENGTH_MAX: SignedDuration = SignedDuration::from_hours(24 * 366);

impl Freeze {
    /// Whether it holds a change in this namespace (None: an object without one) of an incident this severe; when it
    /// ends. The end is the earliest that is known.
    pub(super) fn holds(
        &self,
        namespace: Option<&str>,
        severity: Severity,
        now: Timestamp,
    ) -> Option<Option<Timestamp>> {
        let here = self.namespaces.is_empty()
            || namespace.is_some_and(|namespace| pattern::closest(&self.namespaces, namespace).is_some());
        if !here || self.except.as_ref().is_some_and(|except| severity >= except.severity) {
            return None;
        }
        match &self.window {
            // Never understood: safe is frozen.
            None => Some(None),
            Some(window) => window.end(now).map(Some),
        }
    }

    /// What its times mean, or the key that is wrong and why.
    pub(super) fn read(&self) -> Result<Window, (&'static str, String)> {
        let zone = TimeZone::get(&self.timezone).map_err(|_| {
            ("timezone", format!("`{}` is no time zone; give an IANA name such as Europe/Paris", self.timezone))
        })?;
        if self.except.as_ref().is_some_and(|except| except.severity == Severity::None) {
            let what = "`severity: none` excepts every incident, so nothing would ever be frozen; name a higher one";
            return Err(("except", what.to_owned()));
        }
        match (&self.cron, &self.length, &self.from, &self.until) {
            (Some(cron), Some(length), None, None) => self.read_cron(cron, length, zone),
            (None, None, Some(from), Some(until)) => {
                let from = instant(from, &zone, false).map_err(|why| ("from", why))?;
                let until = instant(until, &zone, true).map_err(|why| ("until", why))?;
                if until <= from {
                    return Err(("until", "the window ends before it begins".to_owned()));
                }
                Ok(Window::Once { from, until })
            }
            (Some(_), None, ..) => Err(("for", "how long it lasts is missing, such as `for: 60h`".to_owned())),
            _ => Err(("cron", "give `cron` and `for`, or `from` and `until`".to_owned())),
        }
    }

    fn read_cron(&self, cron: &str, length: &str, zone: TimeZone) -> Result<Window, (&'static str, String)> {
        let length: SignedDuration = length
            .parse()
            .map_err(|_| ("for", format!("`{length}` is no length; write hours and minutes, such as 60h or 90m")))?;
        if length <= SignedDuration::ZERO || length > LENGTH_MAX {
            return Err(("for", "a window lasts more than no time and at most a year".to_owned()));
        }
        if cron.split_ascii_whitespace().count() != 5 {
            return Err(("cron", format!("`{cron}`: five fields, minute hour day month weekday")));
        }
        let parse = |timezone: &str| {
            parse_crontab(&format!("{cron} {timezone}")).map_err(|error| {
                let reason = error.to_string();
                let reason = reason.lines().last().unwrap_or_default().trim().trim_start_matches("^ ").to_owned();
                ("cron", format!("`{cron}`: {reason}"))
            })
        };
        let starts = Starts { zone, in_zone: parse(&self.timezone)?, on_wall: parse("UTC")? };
        Ok(Window::Cron { starts: Box::new(starts), length, last: Last::default() })
    }
}

impl Window {
    /// When the freeze that holds now ends, if one does.
    fn end(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Window::Once { from, until } => (*from <= now && now < *until).then_some(*until),
            Window::Cron { starts, length, last } => {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((from, to, end)) = *last
                    && from <= now
                    && now < to
                {
                    return end;
                }
                let looked_at = look(starts, *length, now);
                *last = looked_at;
                match looked_at {
                    Some((_, _, end)) => end,
                    // The expression has no time that can be found: it begins never.
                    None => None,
                }
            }
        }
    }

    /// Whether it is over for good.
    pub(super) fn is_past(&self, now: Timestamp) -> bool {
        matches!(self, Window::Once { until, .. } if *until <= now)
    }
}

/// A freeze holds now if one began within the last `length`: the stretch around `now` for which that answer is true.
fn look(starts: &Starts, length: SignedDuration, now: Timestamp) -> Option<(Timestamp, Timestamp, Option<Timestamp>)> {
    let before = now.checked_sub(length).ok()?;
    let first = starts.after(before)?;
    if first <= now {
        let end = first.checked_add(length).ok()?;
        Some((first, end, Some(end)))
    } else {
        Some((now, first, None))
    }
}

impl Starts {
    /// The first start after `time`. One that the clocks leap over, as they do in spring, is when they have leapt.
    fn after(&self, time: Timestamp) -> Option<Timestamp> {
        let next = self.in_zone.find_next(MakeTimestamp(time)).ok()?.timestamp();
        let leaps = self.zone.following(time).take_while(|leap| leap.timestamp() < next);
        let leapt = leaps.map(|leap| leap.timestamp()).find(|leap| self.is_leapt_over(*leap));
        Some(leapt.unwrap_or(next))
    }

    /// Whether a start lies within the time on the wall that is left out at this instant.
    fn is_leapt_over(&self, leap: Timestamp) -> bool {
        let Ok(just_before) = leap.checked_sub(SignedDuration::from_secs(1)) else { return false };
        let on_wall = |time: Timestamp, of: Timestamp| {
            let offset = self.zone.to_offset(of);
            time.checked_add(SignedDuration::from_secs(i64::from(offset.seconds()))).ok()
        };
        let (Some(from), Some(to)) = (on_wall(just_before, just_before), on_wall(leap, leap)) else { return false };
        self.on_wall.find_next(MakeTimestamp(from)).is_ok_and(|start| start.timestamp() < to)
    }
}

/// An instant in the zone; a date alone means its beginning, or with `through` its end.
fn instant(text: &str, zone: &TimeZone, through: bool) -> Result<Timestamp, String> {
    let wrong = || format!("`{text}` is no date (2026-12-20) and no date with a time (2026-12-20T18:00)");
    // An offset or a zone would be read and forgotten.
    if !text.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | ':' | '.' | 'T' | ' ')) {
        return Err(format!("`{text}`: leave out what comes after the time; `timezone` says where it is meant"));
    }
    let at: DateTime = match text.parse::<Date>() {
        Ok(date) if !text.contains(['T', ' ']) => {
            let date = if through { date.tomorrow().map_err(|_| wrong())? } else { date };
            date.to_datetime(Time::midnight())
        }
        _ => {
            let text = text.replace(' ', "T");
            let time = text.split_once('T').map_or("", |(_, time)| time);
            if time.contains('-') {
                return Err(format!("`{text}`: leave out the offset; `timezone` says where it is meant"));
            }
            text.parse().map_err(|_| wrong())?
        }
    };
    Ok(zone.to_zoned(at).map_err(|_| wrong())?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn freeze(yaml: &str) -> Freeze {
        let mut freeze: Freeze = serde_saphyr::from_str(yaml).unwrap();
        freeze.window = Some(freeze.read().unwrap());
        freeze
    }

    #[track_caller]
    fn check(freeze: &Freeze, severity: Severity, at: &str, holds: bool) {
        assert_eq!(freeze.holds(Some("shop"), severity, at.parse().unwrap()).is_some(), holds, "{at}");
    }

    #[test]
    fn a_weekend_is_frozen_from_friday_evening_on_in_its_zone() {
        let weekend = freeze("{cron: '0 18 * * FRI', for: 60h, timezone: Europe/Paris, except: {severity: critical}}");
        // Friday 27 November 2026, 18:00 in Paris is 17:00 UTC.
        check(&weekend, Severity::High, "2026-11-27T16:59:59Z", false);
        check(&weekend, Severity::High, "2026-11-27T17:00:00Z", true);
        check(&weekend, Severity::High, "2026-11-30T04:59:59Z", true);
        check(&weekend, Severity::High, "2026-11-30T05:00:00Z", false);
        check(&weekend, Severity::Critical, "2026-11-28T12:00:00Z", false);
        // In summer the same evening begins an hour earlier in UTC.
        check(&weekend, Severity::High, "2026-07-03T15:59:59Z", false);
        check(&weekend, Severity::High, "2026-07-03T16:00:00Z", true);
        let end = weekend.holds(None, Severity::Low, "2026-11-28T12:00:00Z".parse().unwrap());
        assert_eq!(end, Some(Some("2026-11-30T05:00:00Z".parse().unwrap())));
    }

    #[test]
    fn a_date_freezes_its_whole_day() {
        let holidays =
            freeze("{from: 2026-12-24, until: 2026-12-26, timezone: America/New_York, namespaces: ['shop*']}");
        check(&holidays, Severity::Critical, "2026-12-24T04:59:59Z", false);
        check(&holidays, Severity::Critical, "2026-12-24T05:00:00Z", true);
        check(&holidays, Severity::Critical, "2026-12-27T04:59:59Z", true);
        check(&holidays, Severity::Critical, "2026-12-27T05:00:00Z", false);
        let at = "2026-12-25T12:00:00Z".parse().unwrap();
        assert_eq!(holidays.holds(Some("billing"), Severity::Low, at), None);
        assert_eq!(holidays.holds(None, Severity::Low, at), None, "a pattern never means what has no namespace");
    }

    #[test]
    fn a_window_that_begins_while_the_clocks_leap_begins_when_they_have_leapt() {
        // On 29 March 2026 there is no 02:00 in Paris: after 01:59:59, which is 00:59:59 UTC, comes 03:00.
        let night = freeze("{cron: '0 2 * * SUN', for: 4h, timezone: Europe/Paris}");
        for (at, holds) in [
            ("2026-03-22T00:59:59Z", false),
            ("2026-03-22T01:00:00Z", true),
            ("2026-03-29T00:59:59Z", false),
            ("2026-03-29T01:00:00Z", true),
            ("2026-03-29T04:59:59Z", true),
            ("2026-03-29T05:00:00Z", false),
            ("2026-04-04T23:59:59Z", false),
            ("2026-04-05T00:00:00Z", true),
        ] {
            check(&night, Severity::High, at, holds);
        }
        // What begins at the leap itself begins once, and in autumn nothing is left out.
        let after = freeze("{cron: '0 3 * * *', for: 1h, timezone: Europe/Paris}");
        check(&after, Severity::High, "2026-03-29T01:59:59Z", true);
        check(&after, Severity::High, "2026-03-29T02:00:00Z", false);
        check(&night, Severity::High, "2026-10-25T04:00:00Z", true);
        // The answer does not hang on what was asked before.
        check(&night, Severity::High, "2026-03-29T02:00:00Z", true);
    }

    #[test]
    fn windows_that_overlap_freeze_without_a_gap_over_both_changes_of_the_clocks() {
        // Each lasts longer than until the next begins, by the clock on the wall: all time is frozen, in the night of 23
        // hours and in that of 25. Asked each ten minutes, forwards and in leaps back.
        let hourly = freeze("{cron: '0 */2 * * *', for: 190m, timezone: Europe/Paris}");
        let daily = freeze("{cron: '30 2 * * *', for: 25h, timezone: Europe/Paris}");
        let gaps = freeze("{cron: '30 2 * * *', for: 24h, timezone: Europe/Paris}");
        let begin: [Timestamp; 2] = ["2026-03-28T12:00:00Z", "2026-10-24T12:00:00Z"].map(|at| at.parse().unwrap());
        let mut open = [0, 0];
        for (season, begin) in begin.into_iter().enumerate() {
            for step in (0..288).map(|step| step * 7 % 288) {
                let at = begin.checked_add(SignedDuration::from_mins(10 * step)).unwrap();
                for freeze in [&hourly, &daily] {
                    let end = freeze.holds(Some("shop"), Severity::High, at);
                    assert!(end.flatten().is_some_and(|end| end > at), "{at}: {end:?}");
                }
                open[season] += i32::from(gaps.holds(Some("shop"), Severity::High, at).is_none());
            }
        }
        // In autumn 25 hours lie between 02:30 and 02:30, or 24 where it comes twice; in spring 23 and a half.
        assert_eq!(open[0], 0, "in spring a day of 24 h leaves nothing open");
        assert!(open[1] <= 6, "in autumn at most the hour that comes twice: {} steps", open[1]);
    }

    #[test]
    fn what_was_never_understood_is_frozen() {
        let broken: Freeze = serde_saphyr::from_str("{cron: nonsense, for: 1h, timezone: UTC}").unwrap();
        check(&broken, Severity::Critical, "2026-12-24T04:59:59Z", true);
    }

    #[test]
    fn the_key_that_is_wrong_is_named() {
        for (yaml, key) in [
            ("{cron: '0 18 * *', for: 1h, timezone: UTC}", "cron"),
            ("{cron: '0 18 * * FRIX', for: 1h, timezone: UTC}", "cron"),
            ("{cron: '0 18 * * FRI', timezone: UTC}", "for"),
            ("{cron: '0 18 * * FRI', for: two days, timezone: UTC}", "for"),
            ("{cron: '0 18 * * FRI', for: 1h, timezone: Europe/Pariss}", "timezone"),
            ("{from: 2026-12-24, until: 2026-12-23, timezone: UTC}", "until"),
            ("{from: 24.12.2026, until: 2026-12-26, timezone: UTC}", "from"),
            ("{timezone: UTC}", "cron"),
            ("{from: '2026-12-20T18:00+02:00', until: 2026-12-26, timezone: UTC}", "from"),
            ("{from: 2026-12-20, until: '2026-12-26T18:00[Europe/Paris]', timezone: UTC}", "until"),
            ("{from: 2026-12-20, until: '2026-12-26T18:00Z', timezone: UTC}", "until"),
            ("{cron: '0 18 * * FRI', for: 1h, timezone: UTC, except: {severity: none}}", "except"),
        ] {
            let freeze: Freeze = serde_saphyr::from_str(yaml).unwrap();
            assert_eq!(freeze.read().unwrap_err().0, key, "{yaml}");
        }
    }
}
