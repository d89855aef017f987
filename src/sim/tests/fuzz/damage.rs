//! Input as it must not be: seeds that are damaged in every way that parsers stumble over, and bytes that are none of it.

use std::cell::Cell;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, TestRunner};
use serde_json::{Value, json};

/// How often each parser is tried in an ordinary run.
const TRIES: u32 = 192;
/// `FIRSTLOOK_FUZZ_SECONDS=600` tries each parser for so long instead.
const SECONDS: &str = "FIRSTLOOK_FUZZ_SECONDS";
/// What parsers stumble over.
const WORDS: [&str; 28] = [
    "",
    "\0",
    "null",
    "-1",
    "1e999",
    "18446744073709551616",
    "9223372036854775807",
    "[[[[[[[[[[",
    "{\"a\":",
    "\"",
    "\\u0000",
    "\u{202e}",
    "é",
    "😀",
    "\u{fffd}",
    "\r\n",
    "\t",
    "${x}",
    "%2e%2e%2f",
    "../..",
    "*",
    "&a *a",
    "- ",
    ": ",
    "<!channel>",
    "</data>",
    "password=hunter22",
    "-----BEGIN PRIVATE KEY-----",
];

/// One way to damage an input, by numbers that are taken modulo what there is.
#[derive(Clone, Debug)]
enum Harm {
    Set(usize, u8),
    Cut(usize, usize),
    Twice(usize, usize),
    Word(usize, usize),
    /// Of JSON: another value at one of its places.
    Node(usize, usize),
}

fn harm() -> impl Strategy<Value = Harm> {
    let at = || any::<u32>().prop_map(|at| at as usize);
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Harm::Set(at, byte)),
        (at(), 0_usize..64).prop_map(|(at, length)| Harm::Cut(at, length)),
        (at(), 0_usize..64).prop_map(|(at, length)| Harm::Twice(at, length)),
        (at(), at()).prop_map(|(at, word)| Harm::Word(at, word)),
        (at(), at()).prop_map(|(at, value)| Harm::Node(at, value)),
        (at(), at()).prop_map(|(at, value)| Harm::Node(at, value)),
    ]
}

fn damaged(mut bytes: Vec<u8>, harms: &[Harm]) -> Vec<u8> {
    for harm in harms {
        let place = |at: usize| at % bytes.len().max(1);
        match *harm {
            Harm::Set(at, byte) => {
                let at = place(at);
                bytes.iter_mut().skip(at).take(1).for_each(|old| *old = byte);
            }
            Harm::Cut(at, many) => {
                let from = place(at);
                bytes.drain(from.min(bytes.len())..(from + many).min(bytes.len()));
            }
            Harm::Twice(at, many) => {
                let from = place(at).min(bytes.len());
                let again = bytes[from..(from + many).min(bytes.len())].to_vec();
                bytes.splice(from..from, again);
            }
            Harm::Word(at, word) => {
                let from = place(at).min(bytes.len());
                bytes.splice(from..from, WORDS[word % WORDS.len()].bytes());
            }
            Harm::Node(at, value) => {
                if let Ok(mut whole) = serde_json::from_slice::<Value>(&bytes) {
                    let places = Cell::new(at % count(&whole));
                    put(&mut whole, &places, &odd(value));
                    bytes = whole.to_string().into_bytes();
                }
            }
        }
    }
    bytes
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}

/// Puts `new` at the n-th place.
fn put(value: &mut Value, nth: &Cell<usize>, new: &Value) {
    let Some(left) = nth.get().checked_sub(1) else {
        *value = new.clone();
        return nth.set(usize::MAX);
    };
    nth.set(left);
    let inner: Vec<&mut Value> = match value {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(fields) => fields.values_mut().collect(),
        _ => return,
    };
    for inner in inner {
        if nth.get() == usize::MAX {
            return;
        }
        put(inner, nth, new);
    }
}

/// A value that does not belong there.
fn odd(which: usize) -> Value {
    let values = [
        json!(null),
        json!(true),
        json!(-1),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1e300),
        json!(0.1),
        json!([]),
        json!({}),
        json!([null]),
        json!([[[[[[]]]]]]),
        json!({"": {"": ""}}),
        json!("0001-01-01T00:00:00Z"),
        json!("9999-12-31T23:59:59Z"),
        json!("2026-13-01T00:00:00Z"),
        json!("k".repeat(3_000)),
        json!("999999999999Gi"),
        json!("-5m"),
        json!("1e400Ei"),
    ];
    let all = values.len() + WORDS.len();
    values.get(which % all).cloned().unwrap_or_else(|| json!(WORDS[which % all - values.len()]))
}

/// Tries a parser with these seeds, whole, damaged, and not at all like them.
pub(crate) fn try_hard(parser: &str, seeds: &[Vec<u8>], parse: impl Fn(&[u8])) {
    seeds.iter().for_each(|seed| parse(seed));
    let seeds = seeds.to_vec();
    let damage = (any::<u32>(), proptest::collection::vec(harm(), 1..6));
    let damage = damage.prop_map(move |(seed, harms)| damaged(seeds[seed as usize % seeds.len()].clone(), &harms));
    let input = prop_oneof![4 => damage, 1 => proptest::collection::vec(any::<u8>(), 0..600)];
    let seconds = std::env::var(SECONDS).ok().and_then(|seconds| seconds.parse().ok());
    let runs = Runs { cases: TRIES, failure_persistence: None, ..Runs::default() };
    let (began, mut tries) = (Instant::now(), 0);
    loop {
        let mut runner = TestRunner::new(runs.clone());
        let tried = runner.run(&input, |bytes| {
            parse(&bytes);
            Ok(())
        });
        if let Err(failure) = tried {
            panic!("{parser}: {failure}");
        }
        tries += TRIES;
        if seconds.is_none_or(|seconds| began.elapsed() >= Duration::from_secs(seconds)) {
            break;
        }
    }
    println!("{parser}: {tries} inputs in {:?}", began.elapsed());
}
