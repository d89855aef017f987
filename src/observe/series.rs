//! Series summarised: extremes, ends, where a level changed, and a sparkline, instead of raw points. Pure.

use jiff::Timestamp;

/// Points of one series that are kept; a longer one is thinned evenly.
const POINTS_MAX: usize = 512;
/// Characters of a sparkline.
const SPARK_CELLS: usize = 16;
/// Fewer points have no level that could change.
const CHANGE_POINTS_MIN: usize = 4;
/// A change of level explains at least this share of what varies, and is this many times what is left to vary: a ramp
/// reaches 3.5 times.
const CHANGE_SHARE_MIN: f64 = 0.6;
const CHANGE_RATIO_MIN: f64 = 4.0;
/// A line that explains this share (as squared correlation) is a trend.
const TREND_SHARE_MIN: f64 = 0.9;

/// One sample: seconds since the epoch, value.
pub type Point = (f64, f64);

/// A series as it is read, bounded whatever comes.
#[derive(Clone, Debug, Default)]
pub struct Track {
    points: Vec<Point>,
    /// Every how many-th sample is kept.
    stride: usize,
    seen: usize,
    last: Option<Point>,
    low: Option<Point>,
    high: Option<Point>,
    not_numbers: usize,
}

/// Where the level of a series changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// The first sample of the new level.
    pub at: f64,
    pub before: f64,
    pub after: f64,
    /// How much of what varies it explains, times how far the levels are apart relative to their size: for ranking.
    pub weight: f64,
}

impl Track {
    /// Takes in the next sample, in order of time.
    pub fn push(&mut self, at: f64, value: f64) {
        let point = (at, value);
        self.last = Some(point);
        if value.is_nan() {
            self.not_numbers += 1;
        } else {
            self.low = self.low.filter(|low| low.1 <= value).or(Some(point));
            self.high = self.high.filter(|high| high.1 >= value).or(Some(point));
        }
        self.stride = self.stride.max(1);
        if self.seen.is_multiple_of(self.stride) {
            self.points.push(point);
            if self.points.len() == POINTS_MAX {
                let mut at = 0;
                self.points.retain(|_| {
                    at += 1;
                    at % 2 == 1
                });
                self.stride *= 2;
            }
        }
        self.seen += 1;
    }

    /// Samples that were taken in.
    pub fn len(&self) -> usize {
        self.seen
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.seen == 0
    }

    pub fn first(&self) -> Option<Point> {
        self.points.first().copied()
    }

    pub fn last(&self) -> Option<Point> {
        self.last
    }

    /// The lowest and the highest sample, the first of equal ones.
    pub fn extremes(&self) -> Option<(Point, Point)> {
        self.low.zip(self.high)
    }

    /// Whether all samples are the same number.
    pub fn is_constant(&self) -> bool {
        self.not_numbers == 0 && self.extremes().is_some_and(|(low, high)| low.1 == high.1)
    }

    /// The split into two levels that explains most, if it explains enough.
    pub fn change(&self) -> Option<Change> {
        let points: Vec<Point> = self.points.iter().copied().filter(|point| point.1.is_finite()).collect();
        if points.len() < CHANGE_POINTS_MIN || self.is_constant() {
            return None;
        }
        let count = points.len() as f64;
        let mean = points.iter().map(|p| p.1).sum::<f64>() / count;
        // Around the mean, so that large numbers lose no digits.
        let total: f64 = points.iter().map(|p| (p.1 - mean).powi(2)).sum();
        let (mut left, mut best) = (0.0, (0.0, 0));
        for (place, point) in points.iter().enumerate().take(points.len() - 1) {
            left += point.1 - mean;
            let (before, after) = ((place + 1) as f64, count - (place + 1) as f64);
            // What the two means take away from the total.
            let explained = left * left / before + left * left / after;
            if explained > best.0 {
                best = (explained, place + 1);
            }
        }
        let (explained, split) = best;
        let level = |part: &[Point]| part.iter().map(|p| p.1).sum::<f64>() / part.len() as f64;
        let (before, after) = (level(&points[..split]), level(&points[split..]));
        let rest = ((total - explained).max(0.0) / count).sqrt();
        let apart = (after - before).abs();
        if explained / total < CHANGE_SHARE_MIN || apart < CHANGE_RATIO_MIN * rest {
            return None;
        }
        let size = before.abs().max(after.abs()).max(f64::MIN_POSITIVE);
        Some(Change { at: points[split].0, before, after, weight: explained / total * apart / size })
    }

    /// Whether it rises (1) or falls (-1) all along.
    pub fn trend(&self) -> Option<i8> {
        let points: Vec<Point> = self.points.iter().copied().filter(|point| point.1.is_finite()).collect();
        if points.len() < CHANGE_POINTS_MIN || self.is_constant() {
            return None;
        }
        let count = points.len() as f64;
        let (x, y) = (points.iter().map(|p| p.0).sum::<f64>() / count, points.iter().map(|p| p.1).sum::<f64>() / count);
        let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
        for point in &points {
            let (dx, dy) = (point.0 - x, point.1 - y);
            (xx, yy, xy) = (xx + dx * dx, yy + dy * dy, xy + dx * dy);
        }
        (xx > 0.0 && yy > 0.0 && xy * xy / (xx * yy) >= TREND_SHARE_MIN).then_some(if xy > 0.0 { 1 } else { -1 })
    }

    /// How much it tells, for the choice of what is shown: a new level first, then a trend, then what varies.
    pub fn weight(&self) -> f64 {
        let Some((low, high)) = self.extremes() else { return 0.0 };
        let spread = (high.1 - low.1) / high.1.abs().max(low.1.abs()).max(f64::MIN_POSITIVE);
        match (self.change(), self.trend()) {
            (Some(change), _) => 2.0 + change.weight,
            (None, Some(_)) => 1.0 + spread.min(1.0),
            (None, None) => spread.clamp(0.0, 1.0),
        }
    }

    /// The course between `start` and `end` (seconds), one character a cell; `·` where there is nothing.
    pub fn spark(&self, start: f64, end: f64) -> String {
        const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let Some((low, high)) = self.extremes() else { return String::new() };
        let (low, span) = (low.1, high.1 - low.1);
        let mut cells = [(0.0, 0u32); SPARK_CELLS];
        for point in self.points.iter().filter(|point| point.1.is_finite()) {
            let share = ((point.0 - start) / (end - start).max(1.0)).clamp(0.0, 1.0);
            let cell = &mut cells[((share * SPARK_CELLS as f64) as usize).min(SPARK_CELLS - 1)];
            *cell = (cell.0 + point.1, cell.1 + 1);
        }
        let draw = |&(sum, count): &(f64, u32)| match count {
            0 => '·',
            _ if span <= 0.0 || !span.is_finite() => LEVELS[0],
            count => LEVELS[(((sum / f64::from(count) - low) / span * 7.0).round() as usize).min(7)],
        };
        cells.iter().map(draw).collect()
    }
}

/// A value with at most four significant digits, whole numbers whole.
pub fn number(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() || (value.fract() == 0.0 && value.abs() < 1e15) {
        return value;
    }
    let scale = 10f64.powi(3 - value.abs().log10().floor() as i32);
    if scale.is_finite() && scale > 0.0 { (value * scale).round() / scale } else { value }
}

/// An instant from seconds, whole.
pub fn instant(seconds: f64) -> Timestamp {
    Timestamp::from_second(seconds as i64).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(values: impl IntoIterator<Item = f64>) -> Track {
        let mut track = Track::default();
        values.into_iter().enumerate().for_each(|(at, value)| track.push(1_000.0 + 60.0 * at as f64, value));
        track
    }

    #[test]
    fn a_step_is_dated_and_noise_a_ramp_and_a_flat_line_are_none() {
        let noise = |n: usize| (n * 7919 % 13) as f64 / 13.0;
        let step = track((0..60).map(|n| if n < 40 { 10.0 + noise(n) } else { 40.0 + noise(n) }));
        let change = step.change().unwrap();
        assert_eq!(change.at, 1_000.0 + 60.0 * 40.0);
        assert!((10.0..11.0).contains(&change.before) && (40.0..41.0).contains(&change.after), "{change:?}");
        assert_eq!(track((0..60).map(noise)).change(), None);
        let ramp = track((0..60).map(f64::from));
        assert_eq!((ramp.change(), ramp.trend()), (None, Some(1)));
        assert!(track([3.0; 60]).change().is_none() && track([3.0; 60]).is_constant());
        let end = track((0..60).map(|n| if n == 59 { 0.0 } else { 1.0 }));
        assert_eq!(end.change().unwrap().at, 1_000.0 + 60.0 * 59.0, "also at the last sample");
        assert!(step.weight() > ramp.weight() && ramp.weight() > track((0..60).map(noise)).weight());
    }

    #[test]
    fn a_series_of_any_length_is_held_in_bounds_with_its_true_ends_and_extremes() {
        let long = track((0..200_000).map(|n| if n == 123_457 { 9e9 } else { 1.0 }));
        assert!(long.points.len() < POINTS_MAX && long.len() == 200_000);
        assert_eq!(long.extremes().unwrap().1, (1_000.0 + 60.0 * 123_457.0, 9e9));
        assert_eq!(long.last().unwrap().0, 1_000.0 + 60.0 * 199_999.0);
    }

    #[test]
    fn a_sparkline_shows_the_course_and_its_gaps() {
        let half = track((0..30).map(|n| if n < 15 { 0.0 } else { 8.0 }));
        assert_eq!(half.spark(1_000.0, 1_000.0 + 59.0 * 60.0), "▁▁▁▁████········");
        assert_eq!(track([]).spark(0.0, 1.0), "");
    }

    #[test]
    fn numbers_are_shown_with_what_matters() {
        let shown: Vec<String> = [0.0, 3.0, 1_234_567.0, 1_234_567.891, 0.000_123_456, -2.5, f64::INFINITY]
            .map(|v| number(v).to_string())
            .into();
        assert_eq!(shown, ["0", "3", "1234567", "1235000", "0.0001235", "-2.5", "inf"]);
    }
}
