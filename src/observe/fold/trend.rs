//! Numbers of lines that are folded into one: how the one that moved most did so, which a count alone would hide. Pure.

use std::ops::Range;

/// Characters that end a word beside white space: of JSON and of lists.
const ENDS: [char; 5] = [',', ';', '{', '}', '|'];
/// What may stand between a name and its number, and what may follow the number.
const BEFORE: [char; 6] = ['=', ':', '"', '\'', '(', '['];
const AFTER: [char; 5] = ['"', '\'', ')', ']', '.'];
/// Longest unit (`reqs/s` is none: a unit is of letters).
const UNIT_MAX_BYTES: usize = 5;
/// Numbers of one line that are followed; what a line says of itself stands among its first.
const SLOTS_MAX: usize = 8;
/// Names of numbers that grow or jump without meaning anything.
const NAMES_OF_NONE: [&str; 11] =
    ["id", "pid", "tid", "port", "line", "seq", "ts", "time", "offset", "timestamp", "version"];
/// With fewer lines there is no trend: the first and the last say it all.
const COUNT_MIN: u32 = 3;
/// A number that only rises or only falls must double or halve (epochs and long ids do not), one that jumps move tenfold.
const STEADY_MIN: f64 = 2.0;
const JUMP_MIN: f64 = 10.0;

/// A number in a line, with the name before it.
#[derive(Clone, Debug, PartialEq)]
struct Number {
    name: Range<usize>,
    value: f64,
    unit: Range<usize>,
}

/// The numbers of the lines of one group.
#[derive(Debug, Default)]
pub(super) struct Trend(Vec<Slot>);

#[derive(Debug)]
struct Slot {
    first: f64,
    last: f64,
    least: f64,
    most: f64,
    rises: bool,
    falls: bool,
    /// Each is the one before it and one: a counter.
    counts: bool,
}

impl Trend {
    /// What is followed from the first line of its like on.
    pub(super) fn begun_by(line: &str) -> Self {
        let slot = |number: Number| {
            let at = number.value;
            Slot { first: at, last: at, least: at, most: at, rises: true, falls: true, counts: true }
        };
        Self(numbers(line).into_iter().map(slot).collect())
    }

    /// Takes in another line of its like.
    pub(super) fn push(&mut self, line: &str) {
        if self.0.is_empty() {
            return;
        }
        let numbers = numbers(line);
        if numbers.len() != self.0.len() {
            return self.0.clear();
        }
        for (slot, number) in self.0.iter_mut().zip(numbers) {
            let (before, value) = (slot.last, number.value);
            slot.rises &= value >= before;
            slot.falls &= value <= before;
            slot.counts &= value == before + 1.0;
            (slot.last, slot.least, slot.most) = (value, slot.least.min(value), slot.most.max(value));
        }
    }

    /// How the number that tells most moved, as `name first, last and most`; `line` is the first of its like.
    pub(super) fn told(&self, line: &str, count: u32) -> Option<Told> {
        let numbers = numbers(line);
        let of = |slot: &Slot, number: &Number| (!number.unit.is_empty(), slot.rises || slot.falls, slot.factor());
        let moved = self.0.iter().zip(&numbers).filter(|(slot, _)| count >= COUNT_MIN && slot.has_moved());
        let (slot, number) = moved.max_by(|(a, x), (b, y)| {
            let (a, b) = (of(a, x), of(b, y));
            (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2))
        })?;
        let (name, unit) = (line[number.name.clone()].to_owned(), &line[number.unit.clone()]);
        let [first, last, most] = [slot.first, slot.last, slot.most].map(|value| format!("{value}{unit}"));
        Some(Told { name, first, last, most })
    }
}

/// A number's way through the lines, as it is said.
#[derive(Debug, PartialEq)]
pub(super) struct Told {
    pub(super) name: String,
    pub(super) first: String,
    pub(super) last: String,
    pub(super) most: String,
}

impl Slot {
    fn factor(&self) -> f64 {
        self.most / if self.least > 0.0 { self.least } else { 1.0 }
    }

    fn has_moved(&self) -> bool {
        let steady = (self.rises || self.falls) && self.factor() >= STEADY_MIN;
        !self.counts && (steady || self.factor() > JUMP_MIN)
    }
}

/// The measures of a line: words that hold one number, after a name or with a unit.
fn numbers(line: &str) -> Vec<Number> {
    let mut numbers = Vec::new();
    let mut before = 0..0;
    for word in line.split(|c: char| c.is_ascii_whitespace() || ENDS.contains(&c)) {
        let from = word.as_ptr() as usize - line.as_ptr() as usize;
        let number = number(word, from, &before);
        numbers.extend(number.filter(|number| !means_none(&line[number.name.clone()])));
        if numbers.len() == SLOTS_MAX {
            break;
        }
        let said = word.trim_matches(|c: char| !c.is_ascii_alphabetic());
        let named = !said.is_empty() && said.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_');
        let at = said.as_ptr() as usize - line.as_ptr() as usize;
        before = if named { at..at + said.len() } else { 0..0 };
    }
    numbers
}

fn number(word: &str, from: usize, before: &Range<usize>) -> Option<Number> {
    let start = word.bytes().position(|b| b.is_ascii_digit())?;
    let (head, rest) = word.split_at(start);
    let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let digits = rest[..digits].trim_end_matches('.').len();
    let value: f64 = rest[..digits].parse().ok()?;
    let tail = rest[digits..].trim_end_matches(AFTER);
    let unit = tail == "%" || tail.bytes().all(|b| b.is_ascii_alphabetic());
    let opened = head.is_empty() || head.ends_with(BEFORE);
    if !opened || !unit || tail.len() > UNIT_MAX_BYTES {
        return None;
    }
    let said = head.trim_matches(BEFORE);
    let name = match said {
        "" => before.clone(),
        said => {
            let at = from + (said.as_ptr() as usize - word.as_ptr() as usize);
            at..at + said.len()
        }
    };
    let unit = from + start + digits..from + start + digits + tail.len();
    (!name.is_empty() || !unit.is_empty()).then_some(Number { name, value, unit })
}

fn means_none(name: &str) -> bool {
    let last = name.rsplit(['_', '.', '-']).next().unwrap_or(name).to_ascii_lowercase();
    name.ends_with("Id") || name.ends_with("ID") || NAMES_OF_NONE.contains(&last.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &[String]) -> Option<Told> {
        let mut trend = Trend::begun_by(&lines[0]);
        lines[1..].iter().for_each(|line| trend.push(line));
        trend.told(&lines[0], lines.len() as u32)
    }

    fn of(write: impl Fn(u64) -> String) -> Option<(String, String, String, String)> {
        let lines: Vec<String> = [12, 700, 9000, 4000].map(&write).into();
        told(&lines).map(|told| (told.name, told.first, told.last, told.most))
    }

    #[test]
    fn the_number_that_moved_is_told_with_its_name_and_unit() {
        for (line, name, unit) in [
            ("GET /items/7 id=3f9a8c71 took=#ms", "took", "ms"),
            ("2026-03-24 16:20:00,123 INFO [main] checkout took #ms at /cart", "took", "ms"),
            (r#"{"ts":1774370400,"level":"info","took_ms":#,"path":"/cart"}"#, "took_ms", ""),
            ("pool (waiting: #) of 10.0.0.7:5432", "waiting", ""),
            ("level=info msg=\"queue length\" depth=\"#\"", "depth", ""),
            ("heap used #%", "used", "%"),
        ] {
            let said = |n: u64| format!("{n}{unit}");
            let expected = Some((name.to_owned(), said(12), said(4000), said(9000)));
            assert_eq!(of(|n| line.replace('#', &n.to_string())), expected, "{line}");
        }
    }

    #[test]
    fn counters_ids_addresses_and_times_are_no_trend() {
        for line in ["user_id=#", "session #-4", "/items/# done", "node-# is up", "10.0.0.#:80 refused", "pid=#", "#"] {
            assert_eq!(of(|n| line.replace('#', &n.to_string())), None, "{line}");
        }
        let counted: Vec<String> = (1..900).map(|n| format!("attempt={n} failed")).collect();
        assert_eq!(told(&counted), None);
        let epochs: Vec<String> = (0..9).map(|n| format!("at={} tick", 1_774_370_400 + n * 7)).collect();
        assert_eq!(told(&epochs), None);
        let calm: Vec<String> = [14, 9, 31, 12].map(|n| format!("took={n}ms")).into();
        assert_eq!(told(&calm), None, "a latency that stays within tenfold is no news");
    }

    #[test]
    fn a_steady_rise_is_told_before_a_larger_jump() {
        let lines: Vec<String> = (1..9).map(|n| format!("rows={} heap={}MB", (n * 37) % 100, 200 + n * 40)).collect();
        let told = told(&lines).unwrap();
        assert_eq!((told.name.as_str(), told.first.as_str(), told.last.as_str()), ("heap", "240MB", "520MB"));
    }
}
