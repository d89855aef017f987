//! Certificates that expired, as logs say it, and what carries them into the pod.

use std::sync::LazyLock;

use regex::Regex;

use super::proof;
use super::say;
use super::trust;
use super::view;
use crate::model::evidence::Citation;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::object::{Kind, ObjectRef};
use crate::model::scene::{ConfigMap, LogLine, LogTail, Reference, Scene};
use crate::redact::Redacted;
use crate::text;

/// How TLS libraries say it (Go, OpenSSL, Java, Node), and programs in words of their own.
static EXPIRED: LazyLock<Regex> = LazyLock::new(|| {
    view::pattern(
        r"(?i)certificate (?:has |is |was )?expired|expired certificate|cert(?:ificate)?[ _-]?(?:has[ _])?expired|CertificateExpiredException|certificate verify failed: certificate has expired|\bcert\w*\b.{0,40}\bexpired\b",
    )
});

/// The same with a `not` before it.
static NOT_EXPIRED: LazyLock<Regex> =
    LazyLock::new(|| view::pattern(r"(?i)\b(?:not|never|\w+n't)\b(?: yet)?(?: been)? expired"));

/// The instant of expiry beside it.
static WHEN: LazyLock<Regex> = LazyLock::new(|| {
    view::pattern(
        r"(?i)(?:expired (?:on|at)|is after|notAfter[=:]?|valid until)\s*:?\s*(\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d)?)",
    )
});

/// Signs that the certificate belongs to somebody who is called.
static OF_A_PEER: LazyLock<Regex> = LazyLock::new(|| {
    view::pattern(r#"(?i)failed to verify|verify failed|remote error|https?://[^\s"']+|peer|upstream"#)
});

pub(super) fn find(scene: &Scene) -> Vec<Finding> {
    let failing: Vec<_> = view::failing(scene).collect();
    for (pod, container) in failing {
        let logs = view::logs(scene, pod, &container.name);
        let said: Vec<(&LogTail, &LogLine)> = logs
            .iter()
            .flat_map(|log| log.lines.iter().filter(|line| is_expired(line)).map(|line| (*log, line)))
            .collect();
        if said.is_empty() {
            continue;
        }
        let exit = view::last_end(container).map(|end| end.exit_code);
        let last = said.iter().any(|(_, line)| view::is_last_word(scene, pod, container, line));
        let mut finding = cause(scene, &said, last);
        finding.citations.extend(exit.and_then(|code| proof::exit_code(scene, pod, code)));
        return vec![finding];
    }
    Vec::new()
}

fn is_expired(line: &LogLine) -> bool {
    let text = line.text.as_str();
    EXPIRED.is_match(text) && !NOT_EXPIRED.is_match(text) && !trust::is_early(line)
}

/// `last`: it is what the container ended with, not what it lived on after.
fn cause(scene: &Scene, said: &[(&LogTail, &LogLine)], last: bool) -> Finding {
    let when = said.iter().find_map(|(_, line)| {
        let found = WHEN.captures(line.text.as_str())?.get(1)?;
        line.text.part(found.as_str())
    });
    let expired = when.as_ref().map_or_else(|| "has expired".into(), |when| text!("expired on {}", when));
    let of_a_peer = said.iter().all(|(_, line)| OF_A_PEER.is_match(line.text.as_str()));
    let carriers = if of_a_peer { Vec::new() } else { carriers(scene) };
    let (about, says, brief) = match carriers.as_slice() {
        [carrier] => {
            let name = text!("{} {}", carrier.kind, carrier.name);
            let says = text!(
                "The TLS certificate in {} {}: {} mounts it and says so in its log.",
                name,
                expired,
                scene.subject.name
            );
            (object(scene, carrier), says, text!("the TLS certificate in {} {}", name, expired))
        }
        [] if of_a_peer => {
            let says = text!(
                "The TLS certificate of a server that {} calls {}, as its log says.",
                scene.subject.name,
                expired
            );
            (None, says, text!("a TLS certificate that it meets {}", expired))
        }
        several => {
            let names: Vec<Redacted> =
                several.iter().map(|carrier| text!("{} {}", carrier.kind, carrier.name)).collect();
            let from =
                if names.is_empty() { Redacted::default() } else { text!(" (it mounts {})", say::list(&names, 3)) };
            let says = text!("A TLS certificate of {} {}, as its log says{}.", scene.subject.name, expired, from);
            (None, says, text!("its TLS certificate {}", expired))
        }
    };
    // The present run's last words first.
    let mut quoted: Vec<&(&LogTail, &LogLine)> = said.iter().rev().collect();
    quoted.sort_by_key(|(log, _)| log.previous);
    let mut citations: Vec<Citation> =
        quoted.into_iter().filter_map(|(log, line)| proof::line(scene, log, line)).take(2).collect();
    citations.extend(
        map(scene, about.as_ref()).and_then(|map| proof::field(scene, map.at, "name", &text!("{}", map.object.name))),
    );
    let certainty = if carriers.len() == 1 && last { Certainty::Likely } else { Certainty::Possible };
    Finding {
        citations,
        advice: Some(text!(
            "The owner of the certificate renews it; then the pods are started anew (a file mounted by subPath is not refreshed). Neither a restart nor an earlier revision helps before that.",
        )),
        ..Finding::new(
            "certificate-expired",
            Role::Cause,
            certainty,
            about.as_ref().unwrap_or(&scene.subject),
            says,
            brief,
        )
    }
}

/// Whether a name or a key speaks of certificates.
fn is_certificate(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["cert", "tls", "ssl", ".pem", ".crt", "x509", "pki"].iter().any(|word| text.contains(word))
}

/// The ConfigMaps and Secrets that the pods mount and that hold certificates, by their keys or else by their names.
fn carriers(scene: &Scene) -> Vec<Reference> {
    let Some(workload) = view::workload(scene) else { return Vec::new() };
    let mounted = workload.template.volumes.iter().filter_map(|volume| Some((volume, volume.source.as_ref()?)));
    let mounted: Vec<_> =
        mounted.filter(|(_, source)| matches!(source.kind.as_str(), "ConfigMap" | "Secret")).collect();
    let by_key = |source: &Reference| {
        let maps = scene.config_maps.items().iter();
        let mut own =
            maps.filter(|map| source.kind.as_str() == "ConfigMap" && map.object.name() == source.name.as_str());
        own.any(|map| map.keys.iter().any(|key| is_certificate(key.as_str()) && key.as_str() != "ca.crt"))
    };
    let keyed: Vec<Reference> =
        mounted.iter().filter(|(_, source)| by_key(source)).map(|(_, s)| (*s).clone()).collect();
    if !keyed.is_empty() {
        return keyed;
    }
    let named = mounted
        .iter()
        .filter(|(volume, source)| is_certificate(source.name.as_str()) || is_certificate(volume.name.as_str()));
    named.map(|(_, source)| (*source).clone()).collect()
}

/// The ConfigMap itself; a Secret is never named as an object, since it is never read.
fn object(scene: &Scene, carrier: &Reference) -> Option<ObjectRef> {
    let kind = (carrier.kind.as_str() == "ConfigMap").then_some(Kind::ConfigMap)?;
    ObjectRef::new(kind, Some(scene.subject.namespace()), carrier.name.as_str())
}

fn map<'a>(scene: &'a Scene, object: Option<&ObjectRef>) -> Option<&'a ConfigMap> {
    scene.config_maps.items().iter().find(|map| Some(&map.object) == object)
}
