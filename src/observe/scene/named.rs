//! Names: Services that texts speak of, and names that are likely slips of one another. Pure.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;
use strsim::osa_distance;

/// A Service that a text names, if one exists under that name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Called {
    /// `name:port`, `http://name/`: in the namespace of who speaks.
    Name(String),
    /// `name.namespace.svc`, `name.namespace:port`.
    Full(String, String),
    /// An address and a port.
    Address(String),
}

/// Services that a text may name.
pub(super) fn called(text: &str) -> BTreeSet<Called> {
    static HOST: LazyLock<Option<Regex>> = LazyLock::new(|| {
        // A DNS name or an IPv4 address, where a URL, a port or `.svc` says that it is one.
        Regex::new(r"(//)?\b([a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*)(:\d{2,5})?\b").ok()
    });
    let Some(host) = HOST.as_ref() else { return BTreeSet::new() };
    let mut found = BTreeSet::new();
    for hit in host.captures_iter(text) {
        let (name, url) = (&hit[2], hit.get(1).is_some() || hit.get(3).is_some());
        let labels: Vec<&str> = name.split('.').collect();
        let is_number = |label: &&str| label.bytes().all(|b| b.is_ascii_digit());
        match labels[..] {
            [a, b, c, d] if url && [a, b, c, d].iter().all(is_number) => found.insert(Called::Address(name.to_owned())),
            [name, namespace, "svc", ..] => found.insert(Called::Full(name.to_owned(), namespace.to_owned())),
            [name, namespace] if url => found.insert(Called::Full(name.to_owned(), namespace.to_owned())),
            [name] if url && !is_number(&name) => found.insert(Called::Name(name.to_owned())),
            _ => false,
        };
    }
    found
}

/// Whether one name is likely a slip of the other: for showing both to a person, never for acting on it.
pub(super) fn near(a: &str, b: &str) -> bool {
    if a == b || a.is_empty() || b.is_empty() {
        return false;
    }
    let shorter = a.len().min(b.len());
    let slip = shorter >= 3 && osa_distance(a, b) <= if shorter < 6 { 1 } else { 2 };
    slip || (shorter >= 4 && (a.starts_with(b) || b.starts_with(a)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_name_services_where_a_port_or_a_url_says_so() {
        let names = |text: &str| called(text).into_iter().map(|c| format!("{c:?}")).collect::<Vec<_>>().join(" ");
        assert_eq!(
            names(r#"Get "http://cart.shop.svc:80/v1": dial tcp 10.20.3.4:80: connect: connection refused"#),
            r#"Full("cart", "shop") Address("10.20.3.4")"#
        );
        assert_eq!(names("append failed: dial tcp journal:7700: refused"), r#"Name("journal")"#);
        assert_eq!(names("DATABASE_URL=postgres://db/app, cache.infra:6379"), r#"Name("db") Full("cache", "infra")"#);
        assert_eq!(names("took 12:30 at version 1.2.3, file app.log, exit 1"), "");
    }

    #[test]
    fn slips_and_cut_names_are_near() {
        for (a, b) in [("monitorng", "monitoring"), ("app-config", "app-configuration"), ("stroage", "storage")] {
            assert!(near(a, b), "{a} {b}");
        }
        for (a, b) in [("web", "api"), ("orders", "billing"), ("same", "same"), ("v1", "v2")] {
            assert!(!near(a, b), "{a} {b}");
        }
    }
}
