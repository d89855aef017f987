//! The proof of the audit chain: whether its entries are what was sealed, and what was seen of it outside. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The kind of the entry that tells what retention took from the chain's beginning.
pub(super) const CUT: &str = "cut";

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
}

impl Anchor {
    /// The head in a line of text, such as a card's footer (`audit 4c1f09d2a37be155 (#18204)`) or an anchor line: the
    /// first number behind a `#` and the first word of 16 to 64 hex digits. None when one of them is missing.
    pub fn parse(line: &str) -> Option<Self> {
        let words = || line.split(|c: char| !c.is_ascii_alphanumeric() && c != '#');
        let number = words().find_map(|word| word.strip_prefix('#')?.parse().ok()).filter(|number| *number > 0)?;
        let is_hash = |word: &&str| {
            (ANCHOR_HEX_MIN..=64).contains(&word.len())
                && word.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        Some(Self { number, hash: words().find(is_hash)?.to_owned() })
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
    /// Where retention cut the chain: all up to this entry is gone, and an entry says so.
    pub cut: Option<i64>,
    /// Anchors that agree with the chain.
    pub anchored: u64,
    /// Anchors that retention has overtaken: nothing can be compared with them any more.
    pub anchors_before_cut: u64,
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
    /// Where the newest entry of its kind says that retention cut.
    cut: Option<Place>,
    anchors: BTreeMap<i64, Vec<&'a Anchor>>,
    verdict: AuditVerdict,
}

impl<'a> Proof<'a> {
    /// Begins behind `base`, to end at `end`.
    pub(super) fn begin(base: Place, end: Place, anchors: &'a [Anchor]) -> Self {
        let mut by_number: BTreeMap<i64, Vec<&Anchor>> = BTreeMap::new();
        for anchor in anchors {
            by_number.entry(anchor.number).or_default().push(anchor);
        }
        let anchors_before_cut = by_number.range(..base.0).map(|(_, all)| all.len() as u64).sum();
        let verdict = AuditVerdict { anchors_before_cut, ..AuditVerdict::default() };
        let mut proof = Self { at: base.clone(), base, end, cut: None, anchors: by_number, verdict };
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
            self.note_cut(&entry.columns.kind, &entry.body);
            self.compare();
        }
    }

    /// Also looks at an entry that is not sealed yet: a cut counts as told from the moment it is made.
    pub(super) fn note_cut(&mut self, kind: &str, body: &str) {
        if kind == CUT
            && let Ok(entry) = serde_json::from_str::<Value>(body)
            && let (Some(number), Some(hash)) = (entry["body"]["number"].as_i64(), entry["body"]["hash"].as_str())
        {
            self.cut = Some((number, hash.to_owned()));
        }
    }

    /// What was found; the numbers are of entries not sealed, and of those sealed behind the recorded head.
    pub(super) fn end(mut self, unsealed: u64, behind_head: u64) -> AuditVerdict {
        if self.verdict.fault.is_none() {
            self.verdict.fault = self.fault_at_end(behind_head);
        }
        self.verdict.unsealed = unsealed;
        self.verdict.cut = self.cut.filter(|cut| *cut == self.base).map(|(number, _)| number);
        self.verdict.head = (self.at.0 > 0).then_some(self.at);
        self.verdict
    }

    fn fault_at_end(&self, behind_head: u64) -> Option<AuditFault> {
        if self.at.0 < self.end.0 {
            return Some(AuditFault::Gone { number: self.at.0 + 1 });
        }
        if self.at != self.end || behind_head > 0 {
            return Some(AuditFault::Head { number: self.end.0 });
        }
        if self.base.0 > 0 && self.cut.as_ref() != Some(&self.base) {
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

    use super::*;

    /// A chain as the database holds it.
    #[derive(Clone, Debug)]
    struct Chain {
        base: Place,
        end: Place,
        entries: Vec<Entry>,
    }

    fn entry(kind: &str, number: i64, body: &Value) -> Entry {
        let columns = Columns {
            at_ms: 1_800_000_000_000 + number,
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
        let mut at = base.clone();
        let mut entries: Vec<Entry> = Vec::new();
        let bodies = words.iter().map(|word| ("call", serde_json::json!({"tool": word})));
        let told = serde_json::json!({"number": base.0, "hash": base.1, "count": base.0});
        for (kind, body) in bodies.chain((cut > 0).then_some((CUT, told))) {
            let mut next = entry(kind, at.0 + 1, &body);
            at = (next.number, chained(&at.1, &next.body));
            next.hash = Some(at.1.clone());
            entries.push(next);
        }
        Chain { base, end: at, entries }
    }

    fn prove(chain: &Chain, anchors: &[Anchor]) -> AuditVerdict {
        let mut entries: Vec<&Entry> = chain.entries.iter().collect();
        entries.sort_by_key(|entry| entry.number);
        let mut proof = Proof::begin(chain.base.clone(), chain.end.clone(), anchors);
        for entry in entries {
            if !proof.is_over() && entry.number > proof.at() {
                proof.take(entry);
            }
        }
        proof.end(0, 0)
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
            let head = Anchor { number: whole.end.0, hash: whole.end.1[..16].to_owned() };
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
        let anchors = [Anchor { number: 1, hash: "0".repeat(16) }, Anchor { number: 2, hash: whole.base.1.clone() }];
        let verdict = prove(&whole, &anchors);
        assert_eq!((verdict.fault, verdict.cut), (None, Some(2)));
        assert_eq!((verdict.anchored, verdict.anchors_before_cut), (1, 1));
        // What somebody takes from the beginning without telling it is seen, though the rest agrees.
        let mut robbed = chain(&["a".into(), "b".into()], 0);
        let first = robbed.entries.remove(0);
        robbed.base = (first.number, first.hash.unwrap());
        assert_eq!(prove(&robbed, &[]).fault, Some(AuditFault::Uncut { number: 1 }));
    }

    #[test]
    fn an_anchor_is_read_from_a_footer_and_from_a_line_and_not_guessed() {
        let hash = "4c1f09d2a37be155";
        let anchor = Some(Anchor { number: 18_204, hash: hash.into() });
        assert_eq!(Anchor::parse("firstlook · 5 calls, 9,140 tokens · audit 4c1f09d2a37be155 (#18204)"), anchor);
        assert_eq!(Anchor::parse("#18204 4c1f09d2a37be155"), anchor);
        for bad in ["", "#18204", "4c1f09d2a37be155", "#0 4c1f09d2a37be155", "#18204 4c1f…e2", "#-1 4c1f09d2a37be155"]
        {
            assert_eq!(Anchor::parse(bad), None, "{bad}");
        }
    }
}
