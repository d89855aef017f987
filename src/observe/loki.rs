//! Loki, or what speaks its query API: lines of log streams and metrics of them, only read.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use jiff::Timestamp;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::observe::ReadError;
use crate::observe::answers;
use crate::observe::answers::{Answered, Labels};
use crate::observe::queries;
use crate::observe::web::{Web, WebOptions};
use crate::redact::{Redacted, Redactor};

/// Lines of one answer: Loki's own default bound.
const LINES_MAX: u32 = 5_000;
/// Bytes of one line that are held; folded, 1,000 characters of it are shown.
const LINE_MAX_BYTES: usize = 4 << 10;
/// Streams that are looked at to tell which labels there are.
const STREAMS_MAX: usize = 1_000;

/// Where it is.
#[derive(Clone, Debug)]
pub struct LokiOptions {
    pub web: WebOptions,
    /// The label that holds a stream's namespace.
    pub namespace_label: String,
}

/// The server. Clones share connections.
#[derive(Clone)]
pub struct Loki {
    web: Web,
    namespace_label: String,
}

/// One line of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub at: Timestamp,
    pub text: String,
    /// Its place in `Lines::streams`.
    pub stream: usize,
}

/// The last lines that a query finds.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// By time.
    pub lines: Vec<Line>,
    /// The labels of their streams.
    pub streams: Vec<Labels>,
    /// Whether there may be more, before these.
    pub more: bool,
}

impl Loki {
    /// A client; nothing is asked yet.
    ///
    /// # Errors
    /// When the client cannot be built.
    pub fn new(options: LokiOptions, redactor: Redactor) -> anyhow::Result<Self> {
        Ok(Self { web: Web::new(options.web, redactor)?, namespace_label: options.namespace_label })
    }

    /// What makes its text `Redacted`.
    pub fn redactor(&self) -> &Redactor {
        self.web.redactor()
    }

    /// The query held to one namespace.
    ///
    /// # Errors
    /// Why it is refused, in words.
    pub fn hold(&self, query: &str, namespace: &str) -> Result<String, Redacted> {
        queries::logql(query, &self.namespace_label, namespace)
    }

    /// The last lines of a log query between two instants.
    ///
    /// # Errors
    /// By remedy; `Refused` carries Loki's own words about the query.
    pub async fn lines(&self, query: &str, start: Timestamp, end: Timestamp) -> Result<Lines, ReadError> {
        match self.lines_of(query, start, end, LINES_MAX).await {
            // A server with a lower bound says which.
            Err(ReadError::Refused(why)) => match bound(why.as_str()) {
                Some(max) => self.lines_of(query, start, end, max).await,
                None => Err(ReadError::Refused(why)),
            },
            other => other,
        }
    }

    async fn lines_of(&self, query: &str, start: Timestamp, end: Timestamp, max: u32) -> Result<Lines, ReadError> {
        let asked = [
            ("query", query.to_owned()),
            ("start", nanoseconds(start)),
            ("end", nanoseconds(end)),
            ("limit", max.to_string()),
            ("direction", "backward".to_owned()),
        ];
        let request = self.web.get("/loki/api/v1/query_range", &asked);
        let mut lines = self.web.stream(request, read).await?;
        lines.more = lines.lines.len() >= max as usize;
        Ok(lines)
    }

    /// The course of a metric query, a sample each `step_seconds`.
    ///
    /// # Errors
    /// As `lines`.
    pub async fn course(
        &self,
        query: &str,
        start: Timestamp,
        end: Timestamp,
        step_seconds: u32,
    ) -> Result<Answered, ReadError> {
        let asked = [
            ("query", query.to_owned()),
            ("start", nanoseconds(start)),
            ("end", nanoseconds(end)),
            ("step", step_seconds.to_string()),
        ];
        self.web.stream(self.web.get("/loki/api/v1/query_range", &asked), answers::read).await
    }

    /// The labels of a namespace's streams, each with its values.
    ///
    /// # Errors
    /// By remedy.
    pub async fn labels(
        &self,
        namespace: &str,
        start: Timestamp,
        end: Timestamp,
    ) -> Result<BTreeMap<String, Vec<String>>, ReadError> {
        let own = self.hold("{}", namespace).map_err(ReadError::Refused)?;
        let asked = [("match[]", own), ("start", nanoseconds(start)), ("end", nanoseconds(end))];
        let answer = self.web.json(self.web.get("/loki/api/v1/series", &asked)).await?;
        let Some(streams) = answer.get("data").and_then(Value::as_array) else {
            return Err(ReadError::Unavailable("the answer is no list of streams".into()));
        };
        let mut labels: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in streams.iter().take(STREAMS_MAX).filter_map(Value::as_object).flatten() {
            let Some(value) = value.as_str().filter(|_| *name != self.namespace_label) else { continue };
            let values = labels.entry(name.clone()).or_default();
            if !values.iter().any(|known| known == value) {
                values.push(value.to_owned());
            }
        }
        Ok(labels)
    }

    /// Whether it is there and ready.
    ///
    /// # Errors
    /// By remedy.
    pub async fn ready(&self, now: Timestamp) -> Result<(), ReadError> {
        let asked = [("start", nanoseconds(now)), ("end", nanoseconds(now))];
        self.web.json(self.web.get("/loki/api/v1/labels", &asked)).await.map(drop)
    }
}

/// The bound in `max entries limit per query exceeded, limit > max_entries_limit_per_query (5000 > 1000)`.
fn bound(why: &str) -> Option<u32> {
    why.starts_with("max entries limit").then_some(())?;
    why.rsplit_once("> ")?.1.trim_end_matches(')').parse().ok().filter(|max| *max > 0)
}

fn nanoseconds(at: Timestamp) -> String {
    at.as_nanosecond().to_string()
}

#[derive(Deserialize)]
struct Whole {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Stream>,
}

#[derive(Deserialize)]
struct Stream {
    stream: Labels,
    values: Vec<Entry>,
}

/// `[nanoseconds, line]`, and what newer servers add.
struct Entry(Timestamp, String);

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pair;
        impl<'de> Visitor<'de> for Pair {
            type Value = Entry;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time and a line")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Entry, A::Error> {
                let at: String = seq.next_element()?.unwrap_or_default();
                let mut line: String = seq.next_element()?.unwrap_or_default();
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                shorten(&mut line);
                let at = at.parse().ok().and_then(|at| Timestamp::from_nanosecond(at).ok());
                Ok(Entry(at.unwrap_or(Timestamp::UNIX_EPOCH), line))
            }
        }
        deserializer.deserialize_seq(Pair)
    }
}

/// Cuts a long line between two words, so that nothing that must be redacted as a whole is cut in two.
fn shorten(line: &mut String) {
    if line.len() <= LINE_MAX_BYTES {
        return;
    }
    let mut end = LINE_MAX_BYTES;
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    end = line[..end].rfind([' ', '\t', ',', '"']).filter(|at| *at > 0).unwrap_or(end);
    line.truncate(end);
    line.shrink_to_fit();
}

/// Reads an answer's streams and puts their lines in order.
///
/// # Errors
/// What is no such answer.
fn read(from: &mut dyn Read) -> serde_json::Result<Lines> {
    let whole = Whole::deserialize(&mut serde_json::Deserializer::from_reader(from))?;
    let mut lines = Lines::default();
    for stream in whole.data.result {
        let place = lines.streams.len();
        lines.streams.push(stream.stream);
        lines.lines.extend(stream.values.into_iter().map(|Entry(at, text)| Line { at, text, stream: place }));
    }
    // Streams come newest first. Reversed before a stable sort, lines of one instant keep their order.
    lines.lines.reverse();
    lines.lines.sort_by_key(|line| line.at);
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_own_bound_is_taken_from_its_refusal() {
        let said = "max entries limit per query exceeded, limit > max_entries_limit_per_query (50000 > 5000)";
        assert_eq!((bound(said), bound("parse error at line 1 (3 > 2)")), (Some(5_000), None));
    }

    #[test]
    fn lines_of_all_streams_come_in_order_and_long_ones_end_between_words() {
        let long = format!("start {} password=hunter22", "x".repeat(LINE_MAX_BYTES - 12));
        let body = serde_json::json!({"status": "success", "data": {"resultType": "streams", "result": [
            {"stream": {"pod": "a"}, "values": [["3000000000", "third"], ["1000000000", "first", {"extra": "x"}]]},
            {"stream": {"pod": "b"}, "values": [["2000000000", long]]},
        ], "stats": {}}});
        let lines = read(&mut body.to_string().as_bytes()).unwrap();
        let texts: Vec<&str> = lines.lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!((texts[0], texts[2]), ("first", "third"));
        assert!(texts[1].starts_with("start xxx") && !texts[1].contains("hunter"), "{}", texts[1].len());
        assert!(read(&mut "nothing".as_bytes()).is_err());
    }
}
