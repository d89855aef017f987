//! The proof of the audit chain: whether its entries are what was sealed, and what was seen of it outside. Pure.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::store::cut::{CUT, Cut, Stand};

/// Fewer hex digits are found by trying: 16 are 64 bits.
const ANCHOR_HEX_MIN: usize = 16;

/// A place in the chain: number and hash (hex).
pub(super) type Place = (i64, String);

/// A head of the chain that was written down outside of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    pub number: i64,
    /// Lower case hex: the hash, or its beginning of at least 16 digits.
    pub hash: String,
    /// When it was seen, where that was written down with it.
    pub seen: Option<Timestamp>,
}

impl Anchor {
    /// The head in a line of text, such as a card's footer (`audit 4c1f09d2a37be155 (#18204)`) or an anchor line: the
    /// first number behind a `#` and the first word of 16 to 64 hex digits. None when one of them is missing. An instant in
    /// the line (`2026-11-30T12:00:00Z`) is when it was seen: the last one, for a log may put its own before.
    pub fn parse(line: &str) -> Option<Self> {
        let words = || line.split(|c: char| !c.is_ascii_alphanumeric() && c != '#');
        let number = words().find_map(|word| word.strip_prefix('#')?.parse().ok()).filter(|number| *number > 0)?;
        let is_hash = |word: &&str| {
            (ANCHOR_HEX_MIN..=64).contains(&word.len())
                && word.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let seen = line.split_whitespace().rev().find_map(|word| word.parse().ok());
        Some(Self { number, hash: words().find(is_hash)?.to_owned(), seen })
    }
}

/// What a proof of the whole chain found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditVerdict {
    /// Sealed entries read, all in order up to the first fault.
    pub sealed: u64,
    /// The last entry that was proved: number and hash (hex).
    pub head: Option<(i64, String)>,
    /// Entries that are written but not chained yet: nothing is proved of them.
    pub unsealed: u64,
    /// Where retention cut the chain: all up to its entry is gone, and an entry says so.
    pub cut: Option<Cut>,
    /// Anchors that agree with the chain.
    pub anchored: u64,
    /// Anchors that retention has overtaken: no entry can be compared with them any more.
    pub anchors_before_cut: u64,
    /// Those of them that tell when they were seen: what a cut took was as old then as it says.
    pub anchors_dated: u64,
    /// The first thing that is wrong.
    pub fault: Option<AuditFault>,
}

/// How a chain was found to be broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditFault {
    /// The entry is not what was sealed at this place: it was edited, or entries changed places.
    Changed { number: i64 },
    /// The entry with this number is gone.
    Gone { number: i64 },
    /// The chain does not end at its recorded head, which has this number: entries at its end were changed or added.
    Head { number: i64 },
    /// The chain begins behind this entry, and no entry of it tells that retention cut it there.
    Uncut { number: i64 },
    /// An entry tells of a cut up to this entry that retention cannot have made.
    NoCut { number: i64, why: &'static str },
    /// A cut says that it took only what was old, but this entry was seen outside when it was not.
    Young { number: i64 },
    /// The chain is whole, but is not the one that was seen outside.
    Rewritten { number: i64 },
    /// The chain is whole, but ends before an entry that was seen outside.
    Short { head: i64, anchor: i64 },
}

impl fmt::Display for AuditFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { number } => write!(f, "entry {number} is not what was sealed there"),
            Self::Gone { number } => write!(f, "entry {number} is gone"),
            Self::Head { number } => write!(f, "the chain does not end at its recorded head {number}"),
            Self::Uncut { number } => {
                write!(f, "the chain begins behind entry {number}, and no entry tells that retention cut it there")
            }
            Self::NoCut { number, why } => {
                write!(f, "an entry tells of a cut up to entry {number} that retention cannot have made: {why}")
            }
            Self::Young { number } => {
                write!(f, "entry {number} was seen by an anchor when it was younger than all that a cut says it took")
            }
            Self::Rewritten { number } => {
                write!(f, "entry {number} is not the one that the anchor saw: the database was rewritten")
            }
            Self::Short { head, anchor } => {
                write!(f, "the chain ends at {head}, before the anchor {anchor}: its end was cut off")
            }
        }
    }
}

/// An entry as it is stored, with the columns beside its text.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) number: i64,
    pub(super) hash: Option<String>,
    pub(super) columns: Columns,
    /// The canonical text.
    pub(super) body: String,
}

/// What an entry's text must agree with.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(super) struct Columns {
    pub(super) at_ms: i64,
    pub(super) cluster: String,
    pub(super) kind: String,
    pub(super) incident: Option<String>,
}

/// Hash of an entry at its place: SHA-256 over the previous hash (hex) and the stored text, hex.
pub(super) fn chained(previous: &str, body: &str) -> String {
    let mut digest = Sha256::new();
    digest.update(previous.as_bytes());
    digest.update(body.as_bytes());
    hex::encode(digest.finalize())
}

/// A proof under way, entry by entry; its memory does not grow with the chain.
pub(super) struct Proof<'a> {
    base: Place,
    at: Place,
    end: Place,
    /// The newest cut that was told of.
    cut: Option<Cut>,
    /// The instant of the last entry, and whether that tells of a cut.
    at_ms: Option<i64>,
    is_behind_cut: bool,
    /// Whether the engine ever makes room.
    shrinks: bool,
    anchors: BTreeMap<i64, Vec<&'a Anchor>>,
    verdict: AuditVerdict,
}

impl<'a> Proof<'a> {
    /// Begins behind `base`, to end at `end`; `shrinks`: the engine may have made room.
    pub(super) fn begin(base: Place, end: Place, anchors: &'a [Anchor], shrinks: bool) -> Self {
        let mut by_number: BTreeMap<i64, Vec<&Anchor>> = BTreeMap::new();
        for anchor in anchors {
            by_number.entry(anchor.number).or_default().push(anchor);
        }
        let anchors_before_cut = by_number.range(..base.0).map(|(_, all)| all.len() as u64).sum();
        let verdict = AuditVerdict { anchors_before_cut, ..AuditVerdict::default() };
        let at = base.clone();
        let (cut, at_ms, is_behind_cut) = (None, None, false);
        let mut proof = Self { base, at, end, cut, at_ms, is_behind_cut, shrinks, anchors: by_number, verdict };
        proof.compare();
        proof
    }

    /// Where it has come to; entries behind it are next.
    pub(super) fn at(&self) -> i64 {
        self.at.0
    }

    /// Whether nothing more is to be read: the end is reached, or something is wrong.
    pub(super) fn is_over(&self) -> bool {
        self.at.0 >= self.end.0 || self.verdict.fault.is_some()
    }

    /// Takes the next entry, by number.
    pub(super) fn take(&mut self, entry: &Entry) {
        let number = self.at.0 + 1;
        let hash = chained(&self.at.1, &entry.body);
        let in_text: Option<Columns> = serde_json::from_str(&entry.body).ok();
        if entry.number != number {
            self.verdict.fault = Some(AuditFault::Gone { number });
        } else if entry.hash.as_ref() != Some(&hash) || in_text.as_ref() != Some(&entry.columns) {
            self.verdict.fault = Some(AuditFault::Changed { number });
        } else {
            self.at = (number, hash);
            self.verdict.sealed += 1;
            self.follow(Some(number), &entry.columns, &entry.body);
            self.compare();
        }
    }

    /// Also looks at an entry that is not sealed yet: a cut counts as told from the moment it is made.
    pub(super) fn note_cut(&mut self, columns: &Columns, body: &str) {
        if self.verdict.fault.is_none() {
            self.follow(None, columns, body);
        }
    }

    /// Judges the cut that an entry tells of, and with what comes next when it was made. Without a number: not sealed yet.
    fn follow(&mut self, number: Option<i64>, columns: &Columns, body: &str) {
        let is_behind_cut = std::mem::replace(&mut self.is_behind_cut, columns.kind == CUT);
        if let Some(cut) = self.cut.as_ref().filter(|cut| is_behind_cut && cut.is_postdated(columns.at_ms)) {
            let why = "it says that it was made after what stands after it";
            self.verdict.fault = Some(AuditFault::NoCut { number: cut.number, why });
        } else if columns.kind == CUT {
            self.verdict.fault = self.judge(number, body);
        }
        self.at_ms = Some(columns.at_ms);
    }

    fn judge(&mut self, number: Option<i64>, body: &str) -> Option<AuditFault> {
        let Some(cut) = Cut::read(body) else {
            return Some(AuditFault::NoCut { number: 0, why: "it does not say which" });
        };
        let stand = Stand { number, after_ms: self.at_ms, last: self.cut.as_ref(), shrinks: self.shrinks };
        if let Some(why) = cut.fault(&stand) {
            return Some(AuditFault::NoCut { number: cut.number, why });
        }
        let from = self.cut.as_ref().map_or(0, |last| last.number);
        for anchor in self.anchors.range(from + 1..=cut.number).flat_map(|(_, all)| all) {
            if anchor.number == cut.number && !cut.hash.starts_with(&anchor.hash) {
                return Some(AuditFault::Rewritten { number: cut.number });
            }
            if anchor.seen.is_some_and(|seen| cut.is_belied(anchor.number, seen)) {
                return Some(AuditFault::Young { number: anchor.number });
            }
        }
        self.cut = Some(cut);
        None
    }

    /// What was found; the numbers are of entries not sealed, and of those sealed behind the recorded head.
    pub(super) fn end(mut self, unsealed: u64, behind_head: u64, now: Timestamp) -> AuditVerdict {
        if self.verdict.fault.is_none() {
            self.verdict.fault = self.fault_at_end(behind_head, now);
        }
        self.verdict.unsealed = unsealed;
        self.verdict.cut = self.cut.filter(|cut| (cut.number, &cut.hash) == (self.base.0, &self.base.1));
        if self.verdict.cut.as_ref().is_some_and(|cut| cut.took.is_some()) {
            let before = self.anchors.range(..self.base.0).flat_map(|(_, all)| all);
            self.verdict.anchors_dated = before.filter(|anchor| anchor.seen.is_some()).count() as u64;
        }
        self.verdict.head = (self.at.0 > 0).then_some(self.at);
        self.verdict
    }

    fn fault_at_end(&self, behind_head: u64, now: Timestamp) -> Option<AuditFault> {
        if self.at.0 < self.end.0 {
            return Some(AuditFault::Gone { number: self.at.0 + 1 });
        }
        if self.at != self.end || behind_head > 0 {
            return Some(AuditFault::Head { number: self.end.0 });
        }
        if let Some(cut) = self.cut.as_ref() {
            let no = |why| Some(AuditFault::NoCut { number: cut.number, why });
            if cut.number > self.base.0 {
                return no("what it says that it took is there");
            }
            if cut.is_postdated(now.as_millisecond()) {
                return no("it says that it was made after now");
            }
        }
        if self.base.0 > 0 && self.cut.as_ref().map(|cut| (cut.number, &cut.hash)) != Some((self.base.0, &self.base.1))
        {
            return Some(AuditFault::Uncut { number: self.base.0 });
        }
        let beyond = self.anchors.range(self.end.0 + 1..).next();
        beyond.map(|(anchor, _)| AuditFault::Short { head: self.end.0, anchor: *anchor })
    }

    /// Compares the place that was reached with the anchors that saw it.
    fn compare(&mut self) {
        let Some(anchors) = self.anchors.get(&self.at.0) else { return };
        if anchors.iter().all(|anchor| self.at.1.starts_with(&anchor.hash)) {
            self.verdict.anchored += anchors.len() as u64;
        } else {
            self.verdict.fault = Some(AuditFault::Rewritten { number: self.at.0 });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::clock::from_ms;
    use crate::store::cut::Took;

    /// Of the first entries; those of a chain follow each other by a millisecond.
    const AT_MS: i64 = 1_800_000_000_000;
    const DAY_MS: i64 = 86_400_000;

    /// A chain as the database holds it.
    #[derive(Clone, Debug)]
    struct Chain {
        base: Place,
        end: Place,
        entries: Vec<Entry>,
    }

    fn entry(kind: &str, number: i64, at_ms: i64, body: &Value) -> Entry {
        let columns = Columns {
            at_ms,
            cluster: "prod".to_owned(),
            kind: kind.to_owned(),
            incident: (number % 2 == 0).then(|| "i1".to_owned()),
        };
        let Columns { at_ms, cluster, kind, incident } = &columns;
        let body = serde_json::json!({
            "at_ms": at_ms, "cluster": cluster, "kind": kind, "incident": incident, "body": body
        });
        Entry { number, hash: None, columns, body: body.to_string() }
    }

    /// A chain of these words; where `cut` is not 0, one whose beginning retention took, with the entry that tells it.
    fn chain(words: &[String], cut: i64) -> Chain {
        let base = (cut, chained("", "before"));
        let base = if cut == 0 { (0, "0".repeat(64)) } else { base };
        let mut chain = Chain { end: base.clone(), base, entries: Vec::new() };
        for word in words {
            append(&mut chain, "call", &serde_json::json!({"tool": word}));
        }
        if cut > 0 {
            let told = Cut::body(cut, &chain.base.1, cut as u64, taken(0, 30));
            append(&mut chain, CUT, &told);
        }
        chain
    }

    fn append(chain: &mut Chain, kind: &str, body: &Value) {
        append_at(chain, kind, body, AT_MS + chain.end.0 + 1);
    }

    fn append_at(chain: &mut Chain, kind: &str, body: &Value, at_ms: i64) {
        let mut next = entry(kind, chain.end.0 + 1, at_ms, body);
        chain.end = (next.number, chained(&chain.end.1, &next.body));
        next.hash = Some(chain.end.1.clone());
        chain.entries.push(next);
    }

    /// Taken by age: what was older than so many days.
    fn taken(from: i64, days: i64) -> Took {
        Took::new(from, AT_MS - days * DAY_MS, AT_MS - days * DAY_MS - 1, false)
    }

    fn anchor(number: i64, hash: &str) -> Anchor {
        Anchor { number, hash: hash.to_owned(), seen: None }
    }

    fn prove(chain: &Chain, anchors: &[Anchor]) -> AuditVerdict {
        let mut entries: Vec<&Entry> = chain.entries.iter().collect();
        entries.sort_by_key(|entry| entry.number);
        let mut proof = Proof::begin(chain.base.clone(), chain.end.clone(), anchors, true);
        for entry in entries {
            if !proof.is_over() && entry.number > proof.at() {
                proof.take(entry);
            }
        }
        proof.end(0, 0, from_ms(AT_MS + DAY_MS))
    }

    /// Every text of the chain in which a byte can be changed.
    fn texts(chain: &mut Chain) -> Vec<&mut String> {
        let mut all = vec![&mut chain.end.1];
        for entry in &mut chain.entries {
            all.extend([&mut entry.body, &mut entry.columns.kind, &mut entry.columns.cluster]);
            all.extend(entry.hash.as_mut());
            all.extend(entry.columns.incident.as_mut());
        }
        all
    }

    fn words() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::vec("[ -~]{0,12}", 1..5)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn every_single_byte_that_is_changed_is_seen(words in words(), cut in 0_i64..3, bit in 0_u32..7) {
            let whole = chain(&words, cut);
            prop_assert_eq!(prove(&whole, &[]).fault, None);
            let lengths: Vec<usize> = texts(&mut whole.clone()).iter().map(|text| text.len()).collect();
            for (text, length) in lengths.into_iter().enumerate() {
                for at in 0..length {
                    let mut changed = whole.clone();
                    let place = &mut *texts(&mut changed)[text];
                    // The texts are ASCII, and stay so: seven bits.
                    let bytes: Vec<u8> = place.bytes().enumerate().map(|(i, b)| if i == at { b ^ (1 << bit) } else { b }).collect();
                    *place = String::from_utf8(bytes).unwrap();
                    prop_assert!(prove(&changed, &[]).fault.is_some(), "text {} byte {}", text, at);
                }
            }
            for at in 0..whole.entries.len() {
                for bit in 0..63 {
                    let mut changed = whole.clone();
                    changed.entries[at].number ^= 1 << bit;
                    prop_assert!(prove(&changed, &[]).fault.is_some(), "number of {} bit {}", at, bit);
                    let mut changed = whole.clone();
                    changed.entries[at].columns.at_ms ^= 1 << bit;
                    prop_assert!(prove(&changed, &[]).fault.is_some(), "instant of {} bit {}", at, bit);
                }
            }
            for bit in 0..63 {
                let mut changed = whole.clone();
                changed.end.0 ^= 1 << bit;
                prop_assert!(prove(&changed, &[]).fault.is_some(), "head, bit {}", bit);
                let mut changed = whole.clone();
                changed.base.0 ^= 1 << bit;
                prop_assert!(prove(&changed, &[]).fault.is_some(), "beginning, bit {}", bit);
            }
        }

        #[test]
        fn every_removal_and_exchange_is_seen(words in words(), cut in 0_i64..3, from in 0_usize..5, to in 0_usize..5) {
            let whole = chain(&words, cut);
            let (from, to) = (from % whole.entries.len(), to % whole.entries.len());
            let (first, last) = (from.min(to), from.max(to));
            let mut without = whole.clone();
            without.entries.drain(first..=last);
            prop_assert!(prove(&without, &[]).fault.is_some());
            if first != last {
                let mut moved = whole.clone();
                let (a, b) = (moved.entries[first].clone(), moved.entries[last].clone());
                moved.entries[first] = Entry { number: a.number, hash: a.hash, ..b.clone() };
                moved.entries[last] = Entry { number: b.number, hash: b.hash, ..a };
                // Two entries that say the same at another instant still differ.
                prop_assert!(prove(&moved, &[]).fault.is_some());
            }
        }

        #[test]
        fn an_anchor_sees_what_the_chain_alone_cannot(words in words(), cut in 0_i64..3, keep in 0_usize..5) {
            let whole = chain(&words, cut);
            let head = anchor(whole.end.0, &whole.end.1[..16]);
            let verdict = prove(&whole, std::slice::from_ref(&head));
            prop_assert_eq!((verdict.anchored, verdict.fault), (1, None));
            // Rewritten from the beginning: whole in itself.
            let rewritten: Vec<String> = words.iter().map(|word| format!("{word}!")).collect();
            let rewritten = chain(&rewritten, cut);
            prop_assert_eq!(prove(&rewritten, &[]).fault, None);
            prop_assert_eq!(prove(&rewritten, std::slice::from_ref(&head)).fault, Some(AuditFault::Rewritten { number: head.number }));
            // Cut off at its end, its recorded head set back: likewise.
            let keep = keep % whole.entries.len();
            let mut short = chain(&words, 0);
            short.entries.truncate(keep);
            short.end = short.entries.last().map_or(short.base.clone(), |entry| (entry.number, entry.hash.clone().unwrap()));
            prop_assert_eq!(prove(&short, &[]).fault, None);
            let far = Anchor { number: short.end.0 + 1, ..head };
            prop_assert_eq!(prove(&short, std::slice::from_ref(&far)).fault, Some(AuditFault::Short { head: short.end.0, anchor: far.number }));
        }
    }

    #[test]
    fn a_cut_must_be_told_by_an_entry_and_old_anchors_are_said_to_be_old() {
        let whole = chain(&["a".into(), "b".into()], 2);
        let anchors = [anchor(1, &"0".repeat(16)), anchor(2, &whole.base.1)];
        let verdict = prove(&whole, &anchors);
        assert_eq!((verdict.fault, verdict.cut.map(|cut| cut.number)), (None, Some(2)));
        assert_eq!((verdict.anchored, verdict.anchors_before_cut, verdict.anchors_dated), (1, 1, 0));
        // What somebody takes from the beginning without telling it is seen, though the rest agrees.
        let mut robbed = chain(&["a".into(), "b".into()], 0);
        let first = robbed.entries.remove(0);
        robbed.base = (first.number, first.hash.unwrap());
        assert_eq!(prove(&robbed, &[]).fault, Some(AuditFault::Uncut { number: 1 }));
    }

    /// A chain of four whose first two somebody took, without an entry that tells of it, and the hash of the second.
    fn robbed() -> (Chain, String) {
        let mut robbed = chain(&["a".into(), "b".into(), "c".into(), "d".into()], 0);
        let hash = robbed.entries.remove(1).hash.unwrap();
        robbed.entries.remove(0);
        robbed.base = (2, hash.clone());
        (robbed, hash)
    }

    #[track_caller]
    fn no_cut(chain: &Chain, says: &str) {
        match prove(chain, &[]).fault {
            Some(AuditFault::NoCut { why, .. }) if why.contains(says) => {}
            other => panic!("expected `{says}`, not {other:?}"),
        }
    }

    #[test]
    fn a_cut_that_retention_cannot_have_made_is_seen_without_an_anchor() {
        let told = |body: &dyn Fn(&str) -> Value, at_ms: i64| {
            let (mut robbed, hash) = robbed();
            append_at(&mut robbed, CUT, &body(&hash), at_ms);
            robbed
        };
        let good = |hash: &str| Cut::body(2, hash, 2, taken(0, 30));
        assert_eq!(prove(&told(&good, AT_MS + 5), &[]).fault, None, "as retention tells it");
        no_cut(&told(&|hash| Cut::body(2, hash, 1, taken(0, 30)), AT_MS + 5), "counts other entries");
        no_cut(&told(&|hash| Cut::body(2, hash, 2, taken(0, 0)), AT_MS + 5), "too young");
        let newest = Took::new(0, AT_MS - DAY_MS, AT_MS - DAY_MS, false);
        no_cut(&told(&|hash| Cut::body(2, hash, 2, newest), AT_MS + 5), "too young");
        no_cut(&told(&|hash| Cut::body(5, hash, 5, taken(0, 30)), AT_MS + 5), "taken itself");
        no_cut(&told(&|hash| Cut::body(4, hash, 4, taken(0, 30)), AT_MS + 5), "is there");
        no_cut(&told(&|_| Cut::body(2, "x", 2, taken(0, 30)), AT_MS + 5), "names no place");
        // To be old enough it is dated later, or earlier.
        no_cut(&told(&good, AT_MS + 40 * DAY_MS), "after now");
        no_cut(&told(&good, AT_MS - 40 * DAY_MS), "before the entry that stands before it");
        let mut followed = told(&good, AT_MS + DAY_MS);
        append_at(&mut followed, "call", &serde_json::json!({}), AT_MS + 6);
        no_cut(&followed, "after what stands after it");
    }

    #[test]
    fn room_is_made_only_on_an_engine_that_makes_it() {
        let (mut robbed, hash) = robbed();
        append(&mut robbed, CUT, &Cut::body(2, &hash, 2, Took::new(0, AT_MS - DAY_MS, AT_MS - 2 * DAY_MS, true)));
        let verdict = prove(&robbed, &[]);
        assert_eq!((verdict.fault, verdict.cut.unwrap().age_days()), (None, Some(1)));
        let mut proof = Proof::begin(robbed.base.clone(), robbed.end.clone(), &[], false);
        robbed.entries.iter().for_each(|entry| proof.take(entry));
        let fault = proof.end(0, 0, from_ms(AT_MS + DAY_MS)).fault;
        assert!(matches!(fault, Some(AuditFault::NoCut { number: 2, .. })), "{fault:?}");
    }

    #[test]
    fn an_anchor_from_before_a_cut_belies_it_where_it_saw_what_was_young() {
        let (mut robbed, hash) = robbed();
        append(&mut robbed, CUT, &Cut::body(2, &hash, 2, taken(0, 30)));
        let seen = |number: i64, days: i64| {
            let seen = Some(from_ms(AT_MS - days * DAY_MS));
            Anchor { seen, ..anchor(number, if number == 2 { &hash } else { "0123456789abcdef" }) }
        };
        let verdict = prove(&robbed, &[seen(1, 31), anchor(1, "0123456789abcdef")]);
        assert_eq!((verdict.fault, verdict.anchors_before_cut, verdict.anchors_dated), (None, 2, 1));
        for young in [seen(1, 1), seen(2, 1)] {
            let fault = prove(&robbed, std::slice::from_ref(&young)).fault;
            assert_eq!(fault, Some(AuditFault::Young { number: young.number }));
        }
        // What lies behind the cut must be there, with its hash: an entry put in between would change it.
        let head = anchor(robbed.end.0, &robbed.end.1);
        append(&mut robbed, "call", &serde_json::json!({}));
        assert_eq!(prove(&robbed, std::slice::from_ref(&head)).anchored, 1);
        let mut again = robbed.clone();
        (again.entries, again.end) = (Vec::new(), again.base.clone());
        append(&mut again, CUT, &Cut::body(2, &hash, 2, taken(0, 30)));
        for word in ["c", "d", "e"] {
            append(&mut again, "call", &serde_json::json!({"tool": word}));
        }
        assert_eq!(prove(&again, &[]).fault, None, "alone the chain cannot tell");
        assert_eq!(prove(&again, &[head]).fault, Some(AuditFault::Rewritten { number: 5 }));
    }

    #[test]
    fn cuts_go_on_from_each_other_and_what_an_earlier_version_told_is_taken_without_an_age() {
        let (mut robbed, hash) = robbed();
        append(&mut robbed, CUT, &serde_json::json!({"number": 2, "hash": hash, "count": 2}));
        let verdict = prove(&robbed, &[]);
        assert_eq!((verdict.fault, verdict.cut.unwrap().age_days()), (None, None));
        let next = |from: i64, count: u64| {
            let mut next = robbed.clone();
            let taken_next = next.entries.remove(0);
            next.base = (3, taken_next.hash.unwrap());
            let told = Cut::body(3, &next.base.1, count, taken(from, 30));
            append(&mut next, CUT, &told);
            next
        };
        assert_eq!(prove(&next(2, 1), &[]).fault, None);
        no_cut(&next(0, 3), "go on where");
    }

    #[test]
    fn an_anchor_is_read_from_a_footer_and_from_a_line_and_not_guessed() {
        let hash = "4c1f09d2a37be155";
        let read = Some(anchor(18_204, hash));
        assert_eq!(Anchor::parse("firstlook · 5 calls, 9,140 tokens · audit 4c1f09d2a37be155 (#18204)"), read);
        assert_eq!(Anchor::parse("#18204 4c1f09d2a37be155"), read);
        let line = "2026-12-01T00:00:09Z stdout F firstlook audit #18204 4c1f09d2a37be155 2026-11-30T12:00:00.5Z";
        let seen = Some("2026-11-30T12:00:00.5Z".parse().unwrap());
        assert_eq!(Anchor::parse(line), Some(Anchor { seen, ..anchor(18_204, hash) }));
        for bad in ["", "#18204", "4c1f09d2a37be155", "#0 4c1f09d2a37be155", "#18204 4c1f…e2", "#-1 4c1f09d2a37be155"]
        {
            assert_eq!(Anchor::parse(bad), None, "{bad}");
        }
    }
}
