//! Whether what a log line calls in vain is outside the cluster, by its name and by its address.

use std::net::Ipv4Addr;
use std::sync::LazyLock;

use regex::Regex;

use super::view;
use crate::model::scene::LogLine;
use crate::redact::Redacted;
use crate::text;

/// The host of a URL.
static URL: LazyLock<Regex> = LazyLock::new(|| view::pattern(r"(?i)\b[a-z][a-z0-9+.-]*://(?:[^/@\s]*@)?([a-z0-9.-]+)"));

/// Somebody that no object of the cluster stands for.
pub(super) struct Outside {
    /// The host, or the address where no host is told.
    pub(super) name: Redacted,
    /// Both its name and its address say so.
    pub(super) certain: bool,
}

impl Outside {
    /// `api.example.com (198.51.100.7:443), which is outside the cluster`.
    pub(super) fn says(&self, address: &Redacted) -> Redacted {
        let is = if self.certain { "is" } else { "seems to be" };
        match self.name == *address {
            true => text!("{}, which {} outside the cluster", address, is),
            false => text!("{} ({}), which {} outside the cluster", self.name, address, is),
        }
    }
}

/// Whom a line calls at `address` (`host:port`), if that is outside the cluster.
pub(super) fn of(line: &LogLine, address: &Redacted) -> Option<Outside> {
    let host = address.as_str().rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
    let ip: Option<Ipv4Addr> = host.parse().ok();
    let url = URL.captures(line.text.as_str()).and_then(|found| line.text.part(found.get(1)?.as_str()));
    let named = match ip {
        None => line.text.part(host).filter(|host| is_foreign(host.as_str())),
        Some(_) => url.filter(|host| is_foreign(host.as_str())),
    };
    match (named, ip) {
        // A foreign name with a private address: a way that the cluster's own network keeps.
        (Some(_), Some(ip)) if !is_public(ip) => None,
        (Some(name), ip) => Some(Outside { name, certain: ip.is_some() }),
        (None, Some(ip)) if is_public(ip) => Some(Outside { name: address.clone(), certain: false }),
        (None, _) => None,
    }
}

/// Whether a host is no name that the cluster's DNS keeps: three labels or more, not of a Service, a pod or a node.
fn is_foreign(host: &str) -> bool {
    let labels: Vec<&str> = host.trim_end_matches('.').split('.').collect();
    let own = ["svc", "pod"].iter().any(|part| labels.get(1..).is_some_and(|rest| rest.contains(part)));
    let local = labels.last().is_some_and(|last| matches!(*last, "local" | "internal" | "localdomain"));
    let number = labels.iter().all(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    labels.len() >= 3 && !own && !local && !number
}

/// Whether an address is none of those that clusters give to pods, Services and nodes.
fn is_public(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    // Carriers' addresses, which some providers give to pods.
    let shared = first == 100 && (64..128).contains(&second);
    !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &'static str, address: &'static str) -> Option<(String, bool)> {
        let line = LogLine { text: text.into(), count: 1, first_at: None, last_at: None };
        of(&line, &address.into()).map(|found| (found.name.as_str().to_owned(), found.certain))
    }

    #[test]
    fn what_is_outside_shows_by_name_and_address() {
        let line = "Post \"https://api.pay.example/v1\": dial tcp 198.51.100.7:443: i/o timeout";
        assert_eq!(found(line, "198.51.100.7:443"), Some(("api.pay.example".into(), true)));
        assert_eq!(
            found("dial tcp 198.51.100.7:443: i/o timeout", "198.51.100.7:443"),
            Some(("198.51.100.7:443".into(), false))
        );
        assert_eq!(
            found("connect ETIMEDOUT smtp.mail.example:587", "smtp.mail.example:587"),
            Some(("smtp.mail.example".into(), false))
        );
    }

    #[test]
    fn what_the_cluster_keeps_is_not_called_outside() {
        for (line, address) in [
            ("Get \"http://cart.shop.svc:80\": dial tcp 10.0.3.4:80: refused", "10.0.3.4:80"),
            ("dial tcp cart.shop.svc.cluster.local:80: refused", "cart.shop.svc.cluster.local:80"),
            ("dial tcp cart.shop:80: refused", "cart.shop:80"),
            ("dial tcp db:5432: refused", "db:5432"),
            ("Get \"https://git.corp.example\": dial tcp 100.70.0.9:443: i/o timeout", "100.70.0.9:443"),
        ] {
            assert_eq!(found(line, address), None, "{line}");
        }
    }
}
