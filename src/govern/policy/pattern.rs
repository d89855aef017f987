//! Patterns of namespaces: a name, or the beginning of one with `*` at its end.

use strsim::osa_distance;

/// Kubernetes: a namespace is a DNS label (RFC 1123).
const NAMESPACE_MAX_CHARS: usize = 63;

/// How closely a pattern names a namespace: None if not at all; an exact name is closest, then the longest prefix.
pub(in crate::govern) fn closeness(pattern: &str, namespace: &str) -> Option<usize> {
    match pattern.strip_suffix('*') {
        Some(prefix) => namespace.starts_with(prefix).then_some(prefix.len()),
        None => (pattern == namespace).then_some(usize::MAX),
    }
}

/// The closest of several patterns.
pub(super) fn closest(patterns: &[String], namespace: &str) -> Option<usize> {
    patterns.iter().filter_map(|pattern| closeness(pattern, namespace)).max()
}

/// Whether every namespace that `special` can mean is one that `general` means.
pub(super) fn covers(general: &str, special: &str) -> bool {
    match (general.strip_suffix('*'), special.strip_suffix('*')) {
        (Some(general), Some(special)) => special.starts_with(general),
        (Some(general), None) => special.starts_with(general),
        (None, Some(_)) => false,
        (None, None) => general == special,
    }
}

/// Why a text is no pattern of namespaces, if it is none.
pub(in crate::govern) fn problem(pattern: &str) -> Option<&'static str> {
    let name = pattern.strip_suffix('*').unwrap_or(pattern);
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if pattern.is_empty() {
        Some("is empty; `*` means every namespace")
    } else if name.contains('*') {
        Some("a `*` may stand only at the end")
    } else if !name.chars().all(plain) || name.starts_with('-') || (name == pattern && name.ends_with('-')) {
        Some("can be no namespace: those have lower-case letters, digits and `-` within")
    } else if name.len() > NAMESPACE_MAX_CHARS {
        Some("is longer than any namespace (63 characters)")
    } else {
        None
    }
}

/// The one of `known` that differs from `name` by one or two keystrokes, for a hint; never for acting on it.
pub(in crate::govern) fn near<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = if name.len() > 5 { 2 } else { 1 };
    let scored = known.into_iter().filter(|other| *other != name).map(|other| (osa_distance(name, other), other));
    scored.filter(|(distance, _)| *distance <= allowed).min().map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_a_hint_and_never_a_match() {
        assert_eq!(closeness("monitoring", "monitorng"), None);
        assert_eq!(near("monitorng", ["monitoring", "shop"]), Some("monitoring"));
        assert_eq!(near("drian", ["drain", "scale"]), Some("drain"));
        assert_eq!(near("shop", ["checkout"]), None);
    }

    #[test]
    fn a_general_pattern_covers_a_special_one() {
        assert!(covers("*", "shop") && covers("shop-*", "shop-eu*") && covers("shop", "shop"));
        assert!(!covers("shop", "shop*") && !covers("shop-*", "shop"));
    }

    #[test]
    fn what_can_be_no_namespace_is_no_pattern() {
        for wrong in ["", "*-eu", "a*b", "Shop", "shop_eu", "-a", "shop-", "shоp"] {
            assert!(problem(wrong).is_some(), "{wrong}");
        }
        for right in ["*", "shop", "shop-*", "a1"] {
            assert_eq!(problem(right), None, "{right}");
        }
    }
}
