//! Differences of templates: what several revisions changed together, and in which direction a limit went.

use super::rollout;
use crate::model::scene::{Change, DiffLine, Revision, Scene};
use crate::redact::Redacted;

/// What differs between two revisions: the newest one's own change where what came between is not known.
pub(super) fn since(scene: &Scene, previous: &Revision, newest: &Revision) -> Vec<DiffLine> {
    let own = |change: &&Change| change.object == scene.subject;
    let made = |number: i64| scene.changes.items().iter().filter(own).find(|c| c.to_revision == Some(number));
    let between = scene.revisions.items().iter().map(|revision| revision.number);
    let mut between: Vec<i64> =
        between.filter(|number| (previous.number + 1..newest.number).contains(number)).collect();
    between.sort_unstable_by_key(|number| std::cmp::Reverse(*number));
    let Some(newest) = made(newest.number) else { return Vec::new() };
    let Some(older) = between.into_iter().map(made).collect::<Option<Vec<_>>>() else { return newest.lines.clone() };
    older.into_iter().fold(newest.lines.clone(), |lines, change| joined(&change.lines, lines))
}

/// Two changes, one after the other, as one.
fn joined(first: &[DiffLine], mut second: Vec<DiffLine>) -> Vec<DiffLine> {
    for line in first {
        let goes_on = |later: &DiffLine| {
            later.field == line.field && later.container == line.container && later.before == line.after
        };
        match second.iter().position(goes_on) {
            Some(place) if second[place].after == line.before => drop(second.remove(place)),
            Some(place) => second[place].before = line.before.clone(),
            None => second.push(line.clone()),
        }
    }
    second
}

/// Whether a difference gives a container more of what it is limited to: no container fails for that.
pub(super) fn is_raise(line: &DiffLine) -> bool {
    if !rollout::is_field(line, &["limit", "limits"]) {
        return false;
    }
    let number = |side: &Option<Redacted>| side.as_ref().map(|side| quantity(side.as_str()));
    match (number(&line.before), number(&line.after)) {
        (Some(_), None) => true,
        (Some(Some(before)), Some(Some(after))) => after >= before,
        _ => false,
    }
}

/// A quantity as Kubernetes writes it; None for what is none.
fn quantity(text: &str) -> Option<f64> {
    const UNITS: [(&str, f64); 14] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    let unit = UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (number, factor) = unit.unwrap_or((text, 1.0));
    number.parse::<f64>().ok().map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(field: &'static str, before: &'static str, after: &'static str) -> DiffLine {
        let side = |text: &'static str| (!text.is_empty()).then(|| Redacted::literal(text));
        DiffLine { container: None, field: field.into(), before: side(before), after: side(after) }
    }

    #[test]
    fn changes_that_follow_each_other_are_told_as_one() {
        let first = [line("image", "a", "b"), line("env A", "", "1"), line("args", "x", "y")];
        let second = vec![line("image", "b", "c"), line("env A", "1", ""), line("env B", "2", "3")];
        let together = joined(&first, second);
        assert_eq!(together, [line("image", "a", "c"), line("env B", "2", "3"), line("args", "x", "y")]);
    }

    #[test]
    fn a_limit_that_went_up_or_away_is_a_raise() {
        assert!(is_raise(&line("limit memory", "256Mi", "1Gi")) && is_raise(&line("limit memory", "900M", "1Gi")));
        assert!(is_raise(&line("limit memory", "256Mi", "")) && is_raise(&line("limit cpu", "500m", "1")));
        assert!(!is_raise(&line("limit memory", "1Gi", "256Mi")) && !is_raise(&line("limit memory", "", "256Mi")));
        assert!(!is_raise(&line("request memory", "256Mi", "1Gi")) && !is_raise(&line("image", "1", "2")));
    }
}
