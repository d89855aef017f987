//! Logs folded as they come in: lines that differ only in numbers, ids and times are one with a count. Pure.

mod level;
mod mask;
mod trace;
mod trend;

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;

use crate::model::scene::LogLine;
use crate::observe::fold::trace::Trace;
use crate::observe::fold::trend::{Told, Trend};
use crate::redact::{Redacted, Redactor};

pub use level::Level;

/// Distinct lines that are held while a log comes in; beyond, the least telling half is let go. Most are below 200 bytes.
const HELD_MAX: usize = 2_000;
/// Lines that are kept in the end: a screen or two.
const LINES_MAX: usize = 80;
/// Of these, lines that speak of trouble, however early they came.
const TROUBLE_MAX: usize = 40;
/// Of these, the lines that came most often.
const FREQUENT_MAX: usize = 10;
/// Characters that are kept in the end: what one piece of evidence holds.
const CHARS_MAX: usize = 36_000;
/// Characters of one line.
const LINE_MAX_CHARS: usize = 1_000;
/// Bytes of one line that are held until then.
const HELD_LINE_MAX_BYTES: usize = 4 << 10;
/// Lines of a stack trace that are kept from its head and from its tail; the cause stands at either.
pub const HEAD_MAX: usize = 16;
const TAIL_MAX: usize = 12;
/// A key of 16,384 bits has 200 lines; what claims to be longer is none.
const KEY_LINES_MAX: usize = 250;
/// Times of one group that are kept: with more, its first and its last tell as much.
const TIMES_MAX: usize = 6;

/// A log as it is folded, in bounded memory whatever comes.
pub struct Fold<'a> {
    redactor: &'a Redactor,
    held: HashMap<u64, Held>,
    open: Open,
    mask: String,
    key_lines: Option<usize>,
    lines: u64,
    levels: [u64; Level::Fatal as usize + 1],
    let_go: u64,
}

/// Lines that came together, and how often: one line, or a stack trace.
#[derive(Clone, Debug)]
pub struct Group {
    /// The first of its like, verbatim without timestamps; of a long trace the head, then the tail.
    pub lines: Vec<Redacted>,
    /// Lines of the trace between the head and the tail.
    pub left_out: usize,
    pub count: u32,
    pub first_at: Option<Timestamp>,
    pub last_at: Option<Timestamp>,
    /// When each came, where they are few.
    pub times: Vec<Timestamp>,
    /// How a number in them moved, where it moved much.
    pub trend: Option<Redacted>,
    /// The last one, where it is of one line and differs from the first.
    pub last: Option<Redacted>,
    pub level: Level,
}

/// A whole log, folded.
#[derive(Clone, Debug, Default)]
pub struct Folded {
    /// In the order in which they first came.
    pub groups: Vec<Group>,
    /// Lines that were read, blank ones apart.
    pub lines: u64,
    /// How many lines declare a level, the worst first.
    pub levels: Vec<(Level, u64)>,
    /// Distinct lines that are not among `groups`.
    pub left_out: u64,
}

/// A group while the log comes in: its text and times as they came, since few of them are shown in the end.
struct Held {
    lines: Vec<String>,
    left_out: usize,
    count: u32,
    first_at: String,
    last_at: String,
    times: Vec<String>,
    last: String,
    trend: Trend,
    level: Level,
    declared: Level,
    /// Its place among all, by the first and by the last of its like.
    place: u64,
    last_place: u64,
}

/// The lines that came last, until it is known that no more belong to them.
#[derive(Default)]
struct Open {
    head: Vec<String>,
    tail: VecDeque<String>,
    left_out: usize,
    hash: DefaultHasher,
    at: String,
    place: u64,
    trace: Trace,
}

/// Folds a whole text.
pub fn fold(log: &str, redactor: &Redactor) -> Folded {
    let mut fold = Fold::new(redactor);
    log.lines().for_each(|line| fold.push(line));
    fold.finish()
}

impl<'a> Fold<'a> {
    /// An empty log.
    pub fn new(redactor: &'a Redactor) -> Self {
        Self {
            redactor,
            held: HashMap::new(),
            open: Open::default(),
            mask: String::new(),
            key_lines: None,
            lines: 0,
            levels: Default::default(),
            let_go: 0,
        }
    }

    /// Takes in the next line, with or without the API server's timestamp before it.
    pub fn push(&mut self, line: &str) {
        let (at, text) = parted(line);
        self.push_at(at, text);
    }

    /// Takes in the next line with its timestamp, which may be empty.
    pub fn push_at(&mut self, at: &str, text: &str) {
        if text.trim().is_empty() {
            return;
        }
        self.lines += 1;
        if self.is_in_key(text) {
            return;
        }
        mask::mask(text, &mut self.mask);
        match self.open.trace.goes_on(text).filter(|_| !self.open.head.is_empty()) {
            Some(trace) => self.open.trace = trace,
            None => {
                self.close();
                self.open =
                    Open { at: at.to_owned(), place: self.lines, trace: Trace::begun_by(text), ..Open::default() };
            }
        }
        self.mask.hash(&mut self.open.hash);
        self.open.push(text);
    }

    /// Whether this line lies within a private key, which is masked only as a whole.
    fn is_in_key(&mut self, text: &str) -> bool {
        match self.key_lines.take() {
            Some(_) if text.contains("-----END") => return true,
            Some(lines) if lines < KEY_LINES_MAX => {
                self.key_lines = Some(lines + 1);
                return true;
            }
            _ => {}
        }
        if text.contains("-----BEGIN") && text.contains("PRIVATE KEY") && !text.contains("-----END") {
            self.key_lines = Some(0);
        }
        false
    }

    /// Puts what is open to its like.
    fn close(&mut self) {
        let open = std::mem::take(&mut self.open);
        let Some(first) = open.head.first() else { return };
        let count = open.head.len() + open.tail.len() + open.left_out;
        if let Some(held) = self.held.get_mut(&open.hash.finish()) {
            held.count += 1;
            held.last_place = open.place;
            if held.times.len() < TIMES_MAX {
                held.times.push(open.at.clone());
            }
            held.last_at = open.at;
            held.last.clear();
            if count == 1 {
                held.last.push_str(first);
                held.trend.push(first);
            }
            self.levels[held.declared as usize] += count as u64;
            return;
        }
        let declared = level::declared(first);
        self.levels[declared as usize] += count as u64;
        let level = if open.trace == Trace::No { level::weight(first) } else { declared.max(Level::Error) };
        let held = Held {
            left_out: open.left_out,
            count: 1,
            first_at: open.at.clone(),
            times: vec![open.at.clone()],
            last_at: open.at,
            last: String::new(),
            trend: if count == 1 { Trend::begun_by(first) } else { Trend::default() },
            level,
            declared,
            place: open.place,
            last_place: open.place,
            lines: open.head.into_iter().chain(open.tail).collect(),
        };
        self.held.insert(open.hash.finish(), held);
        if self.held.len() > HELD_MAX {
            self.let_go();
        }
    }

    /// Lets the least telling half go: what speaks of no trouble and was longest ago; of trouble without end the middle.
    fn let_go(&mut self) {
        let places = |wanted: Level| {
            let of_level = self.held.values().filter(|held| held.level == wanted);
            let mut places: Vec<u64> = of_level.map(|held| held.place).collect();
            places.sort_unstable();
            places
        };
        let (errors, fatal) = (places(Level::Error), places(Level::Fatal));
        let is_kept = |held: &Held| {
            let (places, early, late) = match held.level {
                Level::Fatal => (&fatal, HELD_MAX / 16, HELD_MAX / 16),
                Level::Error => (&errors, HELD_MAX / 5, HELD_MAX / 8),
                _ => return false,
            };
            let at = places.partition_point(|place| *place < held.place);
            at < early || at + late >= places.len()
        };
        let mut order: Vec<(bool, u64, u64)> =
            self.held.iter().map(|(key, held)| (is_kept(held), held.last_place, *key)).collect();
        order.sort_unstable();
        for (_, _, key) in &order[..HELD_MAX / 2] {
            self.held.remove(key);
        }
        self.let_go += (HELD_MAX / 2) as u64;
    }

    /// What tells most of it.
    pub fn finish(mut self) -> Folded {
        self.close();
        let mut held: Vec<Held> = self.held.into_values().collect();
        held.sort_by_key(|held| held.place);
        let all = held.len() as u64 + self.let_go;
        let groups: Vec<Group> = chosen(held).into_iter().map(|held| held.group(self.redactor)).collect();
        let left_out = all - groups.len() as u64;
        let all = [Level::Fatal, Level::Error, Level::Warn, Level::Info, Level::Debug];
        let levels = all.map(|level| (level, self.levels[level as usize]));
        let levels = levels.into_iter().filter(|(_, count)| *count > 0).collect();
        Folded { groups, lines: self.lines, levels, left_out }
    }
}

impl Held {
    fn group(self, redactor: &Redactor) -> Group {
        let clean = |line: &String| shorten(&redactor.redact(line));
        let lines: Vec<Redacted> = self.lines.iter().map(clean).collect();
        let last = clean(&self.last);
        let told = self.lines.first().and_then(|line| self.trend.told(line, self.count));
        let times = self.times.iter().filter(|_| self.count as usize <= TIMES_MAX);
        Group {
            trend: told.and_then(|told| moved(&told, redactor)),
            times: times.filter_map(|at| at.parse().ok()).collect(),
            last: Some(last).filter(|last| !last.is_empty() && Some(last) != lines.first()),
            lines,
            left_out: self.left_out,
            count: self.count,
            first_at: self.first_at.parse().ok(),
            last_at: self.last_at.parse().ok(),
            level: self.level,
        }
    }
}

impl Group {
    /// The last of its like where it tells more than the first: lines of trouble that differ, and numbers that moved.
    pub fn shown_last(&self) -> Option<&Redacted> {
        self.last.as_ref().filter(|_| self.level >= Level::Error || self.trend.is_some())
    }
}

impl Open {
    fn push(&mut self, text: &str) {
        let text = beginning(text).to_owned();
        if self.head.len() < HEAD_MAX {
            return self.head.push(text);
        }
        self.tail.push_back(text);
        if self.tail.len() > TAIL_MAX {
            self.tail.pop_front();
            self.left_out += 1;
        }
    }
}

impl Folded {
    /// The lines alone, for a scene.
    pub fn into_lines(self) -> Vec<LogLine> {
        let lines = |group: Group| {
            let (count, first_at, last_at) = (group.count, group.first_at, group.last_at);
            group.lines.into_iter().map(move |text| LogLine { text, count, first_at, last_at })
        };
        self.groups.into_iter().flat_map(lines).collect()
    }

    /// The lines as text, what the evidence holds; with the last of its like where it is shown.
    pub fn joined(&self) -> Redacted {
        let last = |group: &'_ Group| group.shown_last().cloned();
        let lines = self.groups.iter().flat_map(|group| group.lines.iter().cloned().chain(last(group)));
        Redacted::join(&lines.collect::<Vec<_>>(), "\n")
    }
}

/// How a number moved, in words; nothing where any of it is to be hidden.
fn moved(told: &Told, redactor: &Redactor) -> Option<Redacted> {
    let Told { name, first, last, most } = told;
    let shown = |value: &str| redactor.redact(&format!("{name}={value}")).as_str() == format!("{name}={value}");
    let words = format!("{name} {first} first, {last} last, {most} at most");
    let clear = [first, last, most].into_iter().all(|value| shown(value));
    clear.then(|| redactor.redact(words.trim_start()))
}

/// The folded lines as text, one per line: what stands as evidence.
pub fn joined(lines: &[LogLine]) -> Redacted {
    Redacted::join(lines.iter().map(|line| &line.text), "\n")
}

/// The timestamp before a line as it stands there, by its shape alone, and the line.
pub fn parted(line: &str) -> (&str, &str) {
    let (stamp, text) = line.split_once(' ').unwrap_or((line, ""));
    let bytes = stamp.as_bytes();
    let dated = (20..=40).contains(&bytes.len()) && bytes[4] == b'-' && bytes[10] == b'T' && bytes[13] == b':';
    if dated { (stamp, text) } else { ("", line) }
}

/// The part of a line that is held: longer than what is shown, so that a secret is seldom parted before it is redacted.
fn beginning(line: &str) -> &str {
    let mut end = line.len().min(HELD_LINE_MAX_BYTES);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    &line[..end]
}

/// A beginning of the line, without an ellipsis: it must stay verbatim.
fn shorten(text: &Redacted) -> Redacted {
    match text.as_str().char_indices().nth(LINE_MAX_CHARS) {
        Some((end, _)) => text.part(&text.as_str()[..end]).unwrap_or_default(),
        None => text.clone(),
    }
}

/// Those that are kept, within the bounds, in their order: trouble first, then what came most often, then the last ones.
fn chosen(held: Vec<Held>) -> Vec<Held> {
    let most = |among: &[usize]| {
        let mut order = among.to_vec();
        order.sort_by_key(|&at| std::cmp::Reverse(held[at].count));
        order
    };
    let all: Vec<usize> = (0..held.len()).collect();
    let trouble: Vec<usize> = all.iter().copied().filter(|&at| held[at].level >= Level::Error).collect();
    // In turn the most frequent, the first and the last: each says something that the others do not.
    let often: HashMap<usize, usize> = most(&trouble).into_iter().enumerate().map(|(rank, at)| (at, rank)).collect();
    let mut worth: Vec<(bool, usize, usize)> = Vec::new();
    for (n, &at) in trouble.iter().enumerate() {
        let rank = n.min(trouble.len() - 1 - n).min(often[&at]);
        worth.push((held[at].level != Level::Fatal, rank, at));
    }
    worth.sort_unstable();
    let mut order: Vec<usize> = worth.into_iter().map(|(_, _, at)| at).take(TROUBLE_MAX).collect();
    order.extend(most(&all).into_iter().take(FREQUENT_MAX).filter(|&at| held[at].count > 1));
    order.extend(all.iter().rev());
    let mut keep = vec![false; held.len()];
    let (mut lines, mut chars) = (0, 0);
    for at in order {
        let group = &held[at];
        let length: usize = group.lines.iter().map(|line| line.chars().count().min(LINE_MAX_CHARS) + 1).sum();
        let fits = lines + group.lines.len() <= LINES_MAX && chars + length <= CHARS_MAX;
        if !keep[at] && fits {
            keep[at] = true;
            lines += group.lines.len();
            chars += length;
        }
    }
    held.into_iter().zip(keep).filter_map(|(held, keep)| keep.then_some(held)).collect()
}

#[cfg(test)]
mod tests;
