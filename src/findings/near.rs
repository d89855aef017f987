//! Whether one name is likely a slip of another: for saying so to a person, never for acting on it.

use strsim::osa_distance;

/// What sets a wanted name apart from one that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Near {
    /// One or two letters differ, are missing, added or swapped.
    Slip,
    /// One is the beginning of the other.
    Cut,
}

/// How near two different names are, if they are near at all.
pub(super) fn near(wanted: &str, found: &str) -> Option<Near> {
    if wanted == found || wanted.is_empty() || found.is_empty() {
        return None;
    }
    let shorter = wanted.chars().count().min(found.chars().count());
    // In a name of two letters every other is one slip away: `v1` and `v2` are two things.
    if shorter >= 3 && osa_distance(wanted, found) <= if shorter < 6 { 1 } else { 2 } {
        return Some(Near::Slip);
    }
    let cut = shorter >= 4 && (wanted.starts_with(found) || found.starts_with(wanted));
    cut.then_some(Near::Cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_near_and_different_names_are_not() {
        assert_eq!(near("curll", "curl"), Some(Near::Slip));
        assert_eq!(near("stroage/api", "storage/api"), Some(Near::Slip));
        assert_eq!(near("app-config", "app-configuration"), Some(Near::Cut));
        assert_eq!(near("cart", "card"), Some(Near::Slip));
        assert_eq!(near("api", "app"), Some(Near::Slip));
        for (a, b) in [("web", "api"), ("orders", "billing"), ("same", "same"), ("", "x"), ("v1", "v2")] {
            assert_eq!(near(a, b), None, "{a} {b}");
        }
    }
}
