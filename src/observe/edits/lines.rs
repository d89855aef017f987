//! Which lines of a text changed: what stands on one side alone, each beside the line that took its place.

use std::collections::BTreeMap;

/// One changed line: as it was, as it is.
pub(super) type Pair<'a> = (Option<&'a str>, Option<&'a str>);

/// The lines that differ. A line that only moved is no change: settings are read by name.
pub(super) fn changed<'a>(before: &'a str, after: &'a str) -> Vec<Pair<'a>> {
    let mut left: BTreeMap<&str, i64> = BTreeMap::new();
    before.lines().for_each(|line| *left.entry(line).or_default() += 1);
    after.lines().for_each(|line| *left.entry(line).or_default() -= 1);
    let surplus = |text: &'a str, sign: i64| -> Vec<&'a str> {
        let mut left = left.clone();
        let mut only = Vec::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let count = left.entry(line).or_default();
            if *count * sign > 0 {
                *count -= sign;
                only.push(line);
            }
        }
        only
    };
    let (gone, mut new) = (surplus(before, 1), surplus(after, -1));
    let mut pairs: Vec<Pair<'a>> = Vec::new();
    for line in gone {
        // The same setting, whatever its value is now.
        let twin = new.iter().position(|other| name(other) == name(line) && !name(line).is_empty());
        pairs.push((Some(line), twin.map(|place| new.remove(place))));
    }
    pairs.extend(new.into_iter().map(|line| (None, Some(line))));
    pairs
}

/// What stands before the value of `name: value` or `name = value`.
fn name(line: &str) -> &str {
    line.split_once([':', '=']).map_or("", |(name, _)| name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(before: &str, after: &str, expected: &[Pair<'_>]) {
        assert_eq!(changed(before, after), expected);
    }

    #[test]
    fn a_changed_setting_stands_beside_what_it_was() {
        check("a: 1\nb: 2\nc: 3", "a: 1\nb: 9\nd: 4\nc: 3", &[(Some("b: 2"), Some("b: 9")), (None, Some("d: 4"))]);
        check("x = 1\nx = 1", "x = 1", &[(Some("x = 1"), None)]);
        check("one\ntwo", "one\nthree", &[(Some("two"), None), (None, Some("three"))]);
    }

    #[test]
    fn lines_that_moved_and_empty_lines_are_no_change() {
        check("a: 1\n\nb: 2", "b: 2\na: 1\n\n\n", &[]);
    }
}
