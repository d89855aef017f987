//! Certificates that are refused, though they have not expired: by whom they are signed, for whom, and from when on.

use std::sync::LazyLock;

use regex::Regex;

use super::proof;
use super::say;
use super::view;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::scene::{LogLine, Scene};
use crate::text;

/// Signed by nobody whom the process trusts, as Go, OpenSSL, Node, Python and Java say it.
static UNTRUSTED: LazyLock<Regex> = LazyLock::new(|| {
    view::pattern(
        r"(?i)signed by unknown authority|unable to get local issuer certificate|self[- ]signed certificate|UNABLE_TO_VERIFY_LEAF_SIGNATURE|PKIX path building failed|unknown ca\b|UnknownIssuer",
    )
});

/// The alert by which the other side says that it knows no authority of ours, as OpenSSL, Java, rustls and Erlang report it.
static BY_PEER: LazyLock<Regex> = LazyLock::new(|| {
    view::pattern(r"(?i)\balert unknown ca\b|received [a-z ]{1,20}alert:? (?:fatal - )?unknown[_ ]?ca\b")
});

/// Made out for other names than the one that was called.
static MISNAMED: LazyLock<Regex> = LazyLock::new(|| {
    view::pattern(
        r"(?i)certificate is (?:not )?valid for .{1,200}, not |doesn't contain any IP SANs|hostname .{0,80}(?:doesn't|does not) match|hostname mismatch|ERR_TLS_CERT_ALTNAME_INVALID|No subject alternative (?:DNS )?names? (?:matching|present)|NotValidForName",
    )
});

/// Of which the validity begins later.
static EARLY: LazyLock<Regex> = LazyLock::new(|| {
    view::pattern(
        r"(?i)certificate is not yet valid|CertificateNotYetValidException|current time \S+ is before|NotValidYet",
    )
});

pub(super) fn find(scene: &Scene) -> Vec<Finding> {
    for (pod, container) in view::failing(scene) {
        for log in view::logs(scene, pod, &container.name) {
            let Some((line, what)) = log.lines.iter().rev().find_map(|line| Some((line, refused(line)?))) else {
                continue;
            };
            let last = view::is_last_word(scene, pod, container, line);
            let exit = view::last_end(container).and_then(|end| proof::exit_code(scene, pod, end.exit_code));
            let (subject, quote) = (text!("{} {}", scene.subject.kind, scene.subject.name), say::line(&line.text));
            let (says, brief) = match what.by_peer {
                true => (
                    text!("The other side does not trust the certificate of {}: \"{}\".", subject, quote),
                    "the other side does not trust its certificate".into(),
                ),
                false => (
                    text!("{} refuses a TLS certificate: {}: \"{}\".", subject, what.says, quote),
                    text!("a TLS certificate is refused: {}", what.says),
                ),
            };
            let certainty = if last { Certainty::Likely } else { Certainty::Possible };
            return vec![Finding {
                citations: proof::line(scene, log, line).into_iter().chain(exit).collect(),
                advice: Some(what.advice.into()),
                ..Finding::new("certificate-refused", Role::Cause, certainty, &scene.subject, says, brief)
            }];
        }
    }
    Vec::new()
}

/// Whether a line says that a certificate is not valid yet: Go says in one breath that it has expired or is not yet valid.
pub(super) fn is_early(line: &LogLine) -> bool {
    EARLY.is_match(line.text.as_str())
}

/// Why a certificate is refused, and what helps.
struct Refused {
    says: &'static str,
    advice: &'static str,
    /// It is the process's own certificate, and the other side refuses it.
    by_peer: bool,
}

fn refused(line: &LogLine) -> Option<Refused> {
    let text = line.text.as_str();
    if BY_PEER.is_match(text) {
        return Some(Refused {
            says: "the other side does not trust it",
            advice: "Have the certificate that the process shows issued by an authority that the other side trusts, with its whole chain, or give the other side that authority's certificate.",
            by_peer: true,
        });
    }
    if UNTRUSTED.is_match(text) {
        return Some(Refused {
            says: "its authority is not trusted",
            advice: "Give the process the authority's certificate (its bundle may be old, or the other side changed its issuer). Do not switch verification off.",
            by_peer: false,
        });
    }
    if MISNAMED.is_match(text) {
        return Some(Refused {
            says: "it is made out for another name",
            advice: "Call the server by a name that its certificate holds, or have the certificate made out for the name that is called.",
            by_peer: false,
        });
    }
    is_early(line).then_some(Refused {
        says: "it is not valid yet",
        advice: "Compare the clocks of both sides with the begin of the certificate's validity; if they are right, it was issued too early.",
        by_peer: false,
    })
}
