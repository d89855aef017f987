//! One line of text for each series: what it is, and in a few numbers how it went. Pure.

use crate::observe::answers;
use crate::observe::answers::{Labels, Series};
use crate::observe::series::{Point, instant, number};
use crate::redact::{Redacted, Redactor};
use crate::text;

/// What a range was asked for, in seconds since the epoch.
#[derive(Clone, Copy)]
pub(in crate::mcp) struct Range {
    pub(in crate::mcp) start: f64,
    pub(in crate::mcp) end: f64,
    pub(in crate::mcp) step: f64,
}

/// The samples that tell most in the source's own words, as `promtool query` writes them: `up{job="x"} => 1 @[1774370400]`.
pub(super) fn quoted(series: &Series, redactor: &Redactor) -> Redacted {
    let samples: Vec<String> = match series.is_histogram {
        true => vec!["(histogram)".to_owned()],
        false => answers::telling(series).iter().map(|(at, value)| format!("{value} @[{at}]")).collect(),
    };
    redactor
        .redact(&format!("{} => {}", answers::written(&series.labels, &Labels::new()), samples.join(" ")))
        .one_line()
}

/// One value: its labels without those that all share, and the value as it was written.
pub(super) fn value(series: &Series, common: &Labels, redactor: &Redactor) -> Redacted {
    let labels = redactor.redact(&answers::written(&series.labels, common)).one_line();
    if series.is_histogram {
        return text!("{} => a native histogram: ask for histogram_quantile()", labels);
    }
    text!("{} => {}", labels, redactor.redact(&series.written).cut(40))
}

/// One course.
pub(in crate::mcp) fn course(series: &Series, common: &Labels, range: Range, redactor: &Redactor) -> Redacted {
    let labels = redactor.redact(&answers::written(&series.labels, common)).one_line();
    let track = &series.track;
    let (Some(first), Some(last), Some((low, high))) = (track.first(), track.last(), track.extremes()) else {
        return text!("{} => no numbers: a native histogram asks for histogram_quantile()", labels);
    };
    let mut parts: Vec<Redacted> = Vec::new();
    if track.is_constant() {
        parts.push(text!("{} throughout", number(first.1)));
    } else {
        parts.push(text!("first {}, last {}", number(first.1), number(last.1)));
        parts.push(text!("min {}, max {}", at(low), at(high)));
        match (track.change(), track.trend()) {
            (Some(change), _) => parts.push(text!(
                "changed at {} from {} to {}",
                instant(change.at),
                number(change.before),
                number(change.after)
            )),
            (None, Some(1)) => parts.push("rises all along".into()),
            (None, Some(_)) => parts.push("falls all along".into()),
            (None, None) => {}
        }
    }
    // Two steps: a sample may be missing where the range begins and ends.
    let missing = 2.0 * range.step;
    if first.0 > range.start + missing {
        parts.push(text!("begins at {}", instant(first.0)));
    }
    if last.0 < range.end - missing {
        parts.push(text!("ends at {}", instant(last.0)));
    }
    let spark = redactor.redact(&track.spark(range.start, range.end));
    text!("{} => {} {}", labels, Redacted::join(&parts, "; "), spark)
}

fn at(point: Point) -> Redacted {
    text!("{} at {}", number(point.1), instant(point.0))
}
