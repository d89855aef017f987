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
            let says = text!(
                "{} {} refuses a TLS certificate: {}: \"{}\".",
                scene.subject.kind,
                scene.subject.name,
                what.says,
                say::line(&line.text),
            );
            let certainty = if last { Certainty::Likely } else { Certainty::Possible };
            return vec![Finding {
                citations: proof::line(scene, log, line).into_iter().chain(exit).collect(),
                advice: Some(what.advice.into()),
                ..Finding::new(
                    "certificate-refused",
                    Role::Cause,
                    certainty,
                    &scene.subject,
                    says,
                    text!("a TLS certificate is refused: {}", what.says),
                )
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
}

fn refused(line: &LogLine) -> Option<Refused> {
    let text = line.text.as_str();
    if UNTRUSTED.is_match(text) {
        return Some(Refused {
            says: "its authority is not trusted",
            advice: "Give the process the authority's certificate (its bundle may be old, or the other side changed its issuer). Do not switch verification off.",
        });
    }
    if MISNAMED.is_match(text) {
        return Some(Refused {
            says: "it is made out for another name",
            advice: "Call the server by a name that its certificate holds, or have the certificate made out for the name that is called.",
        });
    }
    is_early(line).then_some(Refused {
        says: "it is not valid yet",
        advice: "Compare the clocks of both sides with the begin of the certificate's validity; if they are right, it was issued too early.",
    })
}
