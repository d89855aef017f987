//! What a line of a log says of a host name that was asked for in vain: there is none, or nobody answered.

use std::sync::LazyLock;

use regex::Regex;

use crate::redact::Redacted;

/// A name that was asked for in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// No such name, as far as the asker tells.
    Absent(Redacted),
    /// The DNS server itself did not answer, or failed; which name was asked for, if the line says so.
    Silent(Option<Redacted>),
}

/// A server that did not answer, or said that it cannot: Go, Node, libpq, the resolvers of glibc and musl, curl.
/// With a name first.
static SILENT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r#"(?ix)
          lookup\ (?P<a>[\w.-]+)(?:\ on\ [\d.:\[\]a-f]+)?:\ (?:server\ misbehaving
            | (?:(?:read|write|dial)\ (?:udp|tcp)\ \S+\ )?(?:(?:read|write|connect):\ )?(?:i/o\ timeout|connection\ refused|no\ route\ to\ host))
        | getaddrinfo\ EAI_AGAIN\ (?P<b>[\w.-]+)
        | could\ not\ translate\ host\ name\ "(?P<c>[^"]+)"\ to\ address:\ (?:temporary\ failure|try\ again)
        | (?:resolve|resolving|resolution\ of)\ (?:host\ |hostname\ |name\ )?["'`]?(?P<d>[\w.-]+)["'`]?.{0,40}?temporary\ failure\ in\ name\ resolution
        | resolving\ timed\ out | temporary\ failure\ in\ name\ resolution | \bEAI_AGAIN\b
        "#,
    )
    .ok()
});

/// A host that does not resolve, in the words of curl, Go, glibc, Node, Java, Python and busybox.
static ABSENT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r#"(?ix)
          could\ not\ resolve\ host:?\ (?P<a>[\w.-]+)
        | lookup\ (?P<b>[\w.-]+)(?:\ on\ [\d.:\[\]a-f]+)?:\ no\ such\ host
        | getaddrinfo\ ENOTFOUND\ (?P<c>[\w.-]+)
        | UnknownHostException:\ (?P<d>[\w.-]+)
        | (?:unable\ to\ resolve|cannot\ resolve|failed\ to\ resolve)\ (?:host\ |hostname\ |address\ )?["'`]?(?P<e>[\w-]+(?:\.[\w-]+)+)
        | could\ not\ translate\ host\ name\ "(?P<f>[^"]+)"
        | bad\ address\ '(?P<g>[\w.-]+)'
        "#,
    )
    .ok()
});

impl Lookup {
    /// What a line says of a name that was asked for in vain, if it does.
    pub fn of(line: &Redacted) -> Option<Self> {
        let text = line.as_str();
        let host = |found: regex::Captures<'_>| {
            let host = found.iter().skip(1).flatten().next()?;
            line.part(host.as_str().trim_end_matches('.'))
        };
        if let Some(found) = SILENT.as_ref()?.captures(text) {
            return Some(Self::Silent(host(found)));
        }
        host(ABSENT.as_ref()?.captures(text)?).map(Self::Absent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_there_is_told_in_many_languages() {
        for text in [
            "curl: (6) Could not resolve host: api.partner.example",
            "dial tcp: lookup api.partner.example on 10.96.0.10:53: no such host",
            "Error: getaddrinfo ENOTFOUND api.partner.example",
            "java.net.UnknownHostException: api.partner.example",
            "could not translate host name \"api.partner.example\" to address: Name or service not known",
            "wget: bad address 'api.partner.example'",
        ] {
            assert_eq!(Lookup::of(&text.into()), Some(Lookup::Absent("api.partner.example".into())), "{text}");
        }
    }

    #[test]
    fn a_server_that_does_not_answer_says_nothing_about_the_name() {
        for text in [
            "dial tcp: lookup till.pay.svc on 10.96.0.10:53: server misbehaving",
            "dial tcp: lookup till.pay.svc on 10.96.0.10:53: read udp 10.1.2.3:4711->10.96.0.10:53: i/o timeout",
            "dial tcp: lookup till.pay.svc: i/o timeout",
            "Error: getaddrinfo EAI_AGAIN till.pay.svc",
            "could not translate host name \"till.pay.svc\" to address: Temporary failure in name resolution",
        ] {
            assert_eq!(Lookup::of(&text.into()), Some(Lookup::Silent(Some("till.pay.svc".into()))), "{text}");
        }
        let nameless = "urllib3: [Errno -3] Temporary failure in name resolution";
        assert_eq!(Lookup::of(&nameless.into()), Some(Lookup::Silent(None)));
    }

    #[test]
    fn what_resolves_is_not_looked_for_in_vain() {
        for text in [
            "resolved host quickly",
            "failed to resolve config: request timed out",
            "dial tcp 10.0.0.1:80: i/o timeout",
            "lookup table of 3 rows: done",
        ] {
            assert_eq!(Lookup::of(&text.into()), None, "{text}");
        }
    }
}
