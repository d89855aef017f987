//! An answer of Prometheus' query API, read series by series: the few that tell most are kept, the rest is counted.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::observe::series::{Point, Track};

/// Series that are kept of one answer: a screen.
pub const SERIES_MAX: usize = 30;
/// Labels of one series, and characters of a label's value: hostile exporters write whatever they like.
const LABELS_MAX: usize = 40;
const VALUE_MAX_CHARS: usize = 200;

/// The labels of a series by name.
pub type Labels = BTreeMap<String, String>;

/// One series.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Its place in the answer.
    pub place: usize,
    pub labels: Labels,
    pub track: Track,
    /// The last value as it was written.
    pub written: String,
    /// A native histogram, which has no single value.
    pub is_histogram: bool,
}

/// What was answered.
#[derive(Clone, Debug, Default)]
pub struct Answered {
    /// At most `SERIES_MAX`, in the order of the answer.
    pub series: Vec<Series>,
    /// How many there were.
    pub total: usize,
    /// Labels that all of them have.
    pub common: Labels,
    /// A number or a text instead of series.
    pub scalar: Option<String>,
    pub warnings: Vec<String>,
}

/// Reads an answer while it comes in.
///
/// # Errors
/// What is no such answer.
pub fn read(from: &mut dyn Read) -> serde_json::Result<Answered> {
    let mut answered = Answered::default();
    let mut reader = serde_json::Deserializer::from_reader(from);
    Whole(&mut answered).deserialize(&mut reader)?;
    answered.series.sort_by_key(|series| series.place);
    Ok(answered)
}

impl Answered {
    fn take(&mut self, mut series: Series) {
        series.place = self.total;
        if self.total == 0 {
            self.common = series.labels.clone();
        } else {
            self.common.retain(|name, value| series.labels.get(name) == Some(value));
        }
        self.total += 1;
        self.series.push(series);
        // Now and then, so that the ranking costs little.
        if self.series.len() >= 4 * SERIES_MAX {
            self.prune();
        }
    }

    /// Keeps what tells most: of courses those that change, of single values the highest and the lowest.
    fn prune(&mut self) {
        if self.series.len() <= SERIES_MAX {
            return;
        }
        let single = self.series.iter().all(|series| series.track.len() <= 1);
        let value = |series: &Series| series.track.last().map_or(f64::NEG_INFINITY, |last| last.1);
        if single {
            self.series.sort_by(|a, b| value(b).total_cmp(&value(a)).then(a.place.cmp(&b.place)));
            self.series.drain(SERIES_MAX / 2..self.series.len() - SERIES_MAX / 2);
        } else {
            let mut weighed: Vec<(f64, Series)> = self.series.drain(..).map(|s| (s.track.weight(), s)).collect();
            weighed.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.place.cmp(&b.1.place)));
            weighed.truncate(SERIES_MAX);
            self.series = weighed.into_iter().map(|(_, series)| series).collect();
        }
    }
}

/// `{"status": ..., "data": {"resultType": ..., "result": [...]}, "warnings": [...]}`
struct Whole<'a>(&'a mut Answered);

impl<'de> DeserializeSeed<'de> for Whole<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an answer of the query API")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut found = false;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "data" => map.next_value_seed(Whole(self.0)).map(|()| found = true)?,
                "result" => map.next_value_seed(Result_(self.0)).map(|()| found = true)?,
                "warnings" | "infos" => {
                    let said: Vec<String> = map.next_value()?;
                    self.0.warnings.extend(said.into_iter().take(4));
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if found { Ok(()) } else { Err(A::Error::custom("no result")) }
    }
}

/// A list of series, or `[time, "value"]`.
struct Result_<'a>(&'a mut Answered);

impl<'de> DeserializeSeed<'de> for Result_<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Result_<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of series")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(element) = seq.next_element::<Element>()? {
            match element {
                Element::Series(series) => self.0.take(*series),
                Element::Time => {}
                Element::Scalar(text) => self.0.scalar = Some(text),
            }
        }
        self.0.prune();
        Ok(())
    }
}

enum Element {
    Series(Box<Series>),
    Time,
    Scalar(String),
}

impl<'de> serde::Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One;
        impl<'de> Visitor<'de> for One {
            type Value = Element;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a series, a time or a value")
            }
            fn visit_f64<E>(self, _: f64) -> Result<Element, E> {
                Ok(Element::Time)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Element, E> {
                Ok(Element::Time)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Element, E> {
                Ok(Element::Time)
            }
            fn visit_str<E>(self, text: &str) -> Result<Element, E> {
                Ok(Element::Scalar(text.chars().take(VALUE_MAX_CHARS).collect()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Element, A::Error> {
                series(map).map(|series| Element::Series(Box::new(series)))
            }
        }
        deserializer.deserialize_any(One)
    }
}

fn series<'de, A: MapAccess<'de>>(mut map: A) -> Result<Series, A::Error> {
    let mut series = Series::default();
    while let Some(key) = map.next_key::<String>()? {
        match key.as_str() {
            "metric" => {
                let labels: Labels = map.next_value()?;
                let cut = |value: String| match value.char_indices().nth(VALUE_MAX_CHARS) {
                    Some((end, _)) => value[..end].to_owned(),
                    None => value,
                };
                series.labels = labels.into_iter().take(LABELS_MAX).map(|(name, value)| (name, cut(value))).collect();
            }
            "value" => {
                let (at, text): (f64, String) = map.next_value()?;
                series.track.push(at, parse(&text));
                series.written = text;
            }
            "values" => map.next_value_seed(Values(&mut series))?,
            "histogram" | "histograms" => {
                map.next_value::<IgnoredAny>()?;
                series.is_histogram = true;
            }
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
    }
    Ok(series)
}

struct Values<'a>(&'a mut Series);

impl<'de> DeserializeSeed<'de> for Values<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Values<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("samples")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some((at, text)) = seq.next_element::<(f64, String)>()? {
            self.0.track.push(at, parse(&text));
            self.0.written = text;
        }
        Ok(())
    }
}

fn parse(text: &str) -> f64 {
    text.parse().unwrap_or(f64::NAN)
}

/// A series as Prometheus writes it: `up{job="kubelet"}`; without the labels of `without` (its name stays).
pub fn written(labels: &Labels, without: &Labels) -> String {
    let shown = labels.iter().filter(|(name, _)| *name != "__name__" && !without.contains_key(*name));
    let pairs: Vec<String> = shown.map(|(name, value)| format!("{name}={value:?}")).collect();
    let name = labels.get("__name__").map_or("", String::as_str);
    if pairs.is_empty() && !name.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", pairs.join(", ")) }
}

/// Samples worth quoting, in order of time, each once: the first, the extremes, around a change, the last.
pub fn telling(series: &Series) -> Vec<Point> {
    let track = &series.track;
    let mut points: Vec<Point> = track.first().into_iter().chain(track.last()).collect();
    points.extend(track.extremes().into_iter().flat_map(|(low, high)| [low, high]));
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points.dedup_by(|a, b| a.0 == b.0);
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_series_are_read_and_the_one_that_changed_is_kept() {
        let mut body = br#"{"status":"success","data":{"resultType":"matrix","result":["#.to_vec();
        for n in 0..10_000 {
            let value = |at: usize| if n == 7_777 && at > 20 { 900 } else { 5 + (n + at * 7) % 3 };
            let values: Vec<String> = (0..30).map(|at| format!("[{}, \"{}\"]", 1_000 + at * 60, value(at))).collect();
            let comma = if n == 0 { "" } else { "," };
            let metric = format!(r#"{{"__name__":"x","pod":"p{n}","job":"a"}}"#);
            body.extend(format!(r#"{comma}{{"metric":{metric},"values":[{}]}}"#, values.join(",")).bytes());
        }
        body.extend(br#"]},"warnings":["slow"]}"#);
        let answered = read(&mut body.as_slice()).unwrap();
        assert_eq!((answered.total, answered.series.len()), (10_000, SERIES_MAX));
        let changed = answered.series.iter().find(|series| series.labels["pod"] == "p7777").expect("kept");
        assert_eq!(changed.track.change().unwrap().at, 1_000.0 + 21.0 * 60.0);
        assert_eq!(answered.common.keys().collect::<Vec<_>>(), ["__name__", "job"]);
        assert_eq!(answered.warnings, ["slow"]);
        assert_eq!(written(&changed.labels, &answered.common), r#"x{pod="p7777"}"#);
    }

    #[test]
    fn single_values_scalars_and_histograms_are_read_and_what_is_no_answer_is_not() {
        let read = |text: &str| read(&mut text.as_bytes());
        let vector = read(r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1.5,"+Inf"]},{"metric":{"a":"b"},"histogram":[1,{}]}]}}"#).unwrap();
        assert_eq!((vector.series[0].written.as_str(), vector.series[1].is_histogram), ("+Inf", true));
        let scalar =
            read(r#"{"status":"success","data":{"resultType":"scalar","result":[1774370400.1,"42"]}}"#).unwrap();
        assert_eq!(scalar.scalar.as_deref(), Some("42"));
        assert!(read("<html>").is_err() && read(r#"{"status":"success"}"#).is_err());
        let up = |n: usize| format!(r#"{{"metric":{{"i":"{n}"}},"value":[1,"{}"]}}"#, u8::from(n != 500));
        let ups: Vec<String> = (0..1_000).map(up).collect();
        let many = read(&format!(r#"{{"data":{{"result":[{}]}}}}"#, ups.join(","))).unwrap();
        assert!(many.series.iter().any(|series| series.written == "0"), "the one that is down is kept");
    }
}
