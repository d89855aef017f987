//! What a process could not reach, as its log says it: host names that do not resolve, addresses that refuse.

use std::sync::LazyLock;

use regex::Regex;

use super::names;
use super::names::{Standing, places};
use super::outside;
use super::proof;
use super::rollout;
use super::say;
use super::view;
use crate::model::Lookup;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::scene::{ContainerState, DiffLine, LogLine, LogTail, Pod, Scene, Service};
use crate::redact::Redacted;
use crate::text;

/// An address that refuses or does not answer, in the words of Go, libpq, Node, Python, Java and others.
static UNREACHED: LazyLock<Regex> = LazyLock::new(|| {
    view::pattern(
        r#"(?ix)
          dial\ tcp\ (?P<a>[\w.\[\]:-]+:\d+).{0,40}(?:connection\ refused|i/o\ timeout|no\ route\ to\ host)
        | (?:ECONNREFUSED|ETIMEDOUT|EHOSTUNREACH)\ (?P<b>[\w.-]+:\d+)
        | connection\ to\ (?:server\ at\ )?"?(?P<c>[\w.-]+(?::\d+)?)"?.{0,60}(?:refused|timed\ out)
        | (?:connect|connecting|connection)\ (?:to\ )(?P<d>[\w.-]+:\d+).{0,40}(?:refused|timed\ out|failed)
        | host='(?P<e>[\w.-]+)',\ port=\d+.{0,200}(?:refused|timed\ out)
        "#,
    )
});

pub(super) fn find(scene: &Scene) -> Vec<Finding> {
    let failing: Vec<(&Pod, &ContainerState)> = view::failing(scene).collect();
    for (pod, container) in failing {
        for log in view::logs(scene, pod, &container.name) {
            let found = log.lines.iter().rev().find_map(|line| trouble(scene, Some((pod, container)), log, line));
            if let Some(finding) = found {
                return vec![finding];
            }
        }
    }
    // A subject whose own pods are well may still suffer from others.
    let mut lines = view::lines(scene, |line| view::is_telling(&line.text));
    lines.find_map(|(log, line)| trouble(scene, None, log, line)).into_iter().collect()
}

/// What one line says of a dependency.
fn trouble(
    scene: &Scene,
    container: Option<(&Pod, &ContainerState)>,
    log: &LogTail,
    line: &LogLine,
) -> Option<Finding> {
    let said = Said { container, log, line };
    match Lookup::of(&line.text) {
        Some(Lookup::Absent(host)) => return Some(unresolved(scene, &said, &host)),
        Some(Lookup::Silent(host)) => return Some(names::silent(scene, &said, host.as_ref())),
        None => {}
    }
    let address = named(&UNREACHED, &line.text)?;
    // Where a Service of that name has no endpoints, the network's rule says more. Without a selector it says nothing.
    let host = address.as_str().split([':', '.']).next().unwrap_or("");
    let known = scene.services.items().iter().any(|service| {
        service.ready_endpoints == 0
            && !service.selector.is_empty()
            && (service.object.name() == host || line.text.as_str().contains(service.object.name()))
    });
    (!known).then(|| unreached(scene, &said, &address))
}

fn named(pattern: &Regex, text: &Redacted) -> Option<Redacted> {
    let captures = pattern.captures(text.as_str())?;
    let host = captures.iter().skip(1).flatten().next()?;
    text.part(host.as_str().trim_end_matches('.'))
}

/// A line of a log that complains; `container` is its own, where that is in trouble.
pub(super) struct Said<'a> {
    pub(super) container: Option<(&'a Pod, &'a ContainerState)>,
    pub(super) log: &'a LogTail,
    pub(super) line: &'a LogLine,
}

pub(super) fn ending(
    scene: &Scene,
    container: Option<(&Pod, &ContainerState)>,
) -> (Redacted, Vec<crate::model::Citation>) {
    let Some((pod, container)) = container else { return (Redacted::default(), Vec::new()) };
    let Some(end) = view::last_end(container) else { return (Redacted::default(), Vec::new()) };
    let proof = proof::exit_code(scene, pod, end.exit_code).into_iter().collect();
    (text!(", and container {} ends with exit code {}", container.name, end.exit_code), proof)
}

fn unresolved(scene: &Scene, said: &Said<'_>, host: &Redacted) -> Finding {
    let Said { container, log, line } = *said;
    let (ends, more) = ending(scene, container);
    let standing = names::standing(scene, host);
    let open = names::open(scene, host, standing.as_ref());
    let last = container.is_some_and(|(pod, container)| view::is_last_word(scene, pod, container, line));
    // A revision that brought the very name is what to take back.
    let blame = container.and_then(|_| rollout::blame(scene));
    let names = |line: &DiffLine| line.after.as_ref().is_some_and(|after| holds(after.as_str(), host.as_str()));
    let lines = blame.as_ref().map_or_else(Vec::new, |blame| blame.lines(names));
    let brought = blame.as_ref().filter(|_| !lines.is_empty());
    let by = brought.map_or_else(Redacted::default, |blame| {
        text!(" {} brought that name: {}; {}.", blame.name(), blame.say(&lines), rollout::earlier(blame))
    });
    let says =
        text!("{} {} could not resolve host {}{}. {}{}", scene.subject.kind, scene.subject.name, host, ends, open, by);
    let mut citations: Vec<_> = proof::line(scene, log, line).into_iter().collect();
    citations.extend(brought.and_then(|blame| blame.citation(scene, lines.first().copied())));
    citations.extend(more);
    Finding {
        citations,
        revision: brought.map(|blame| blame.newest.number),
        proposal: brought.and_then(|blame| blame.undo(scene)),
        ending: !ends.is_empty(),
        shared: shared(scene, host),
        advice: Some(names::advice(host, standing.as_ref())),
        ..Finding::new(
            "host-unresolved",
            Role::Cause,
            match standing {
                // The name is right and the Service stands: what kept it from being found is not seen.
                Some(Standing::Here(_)) => Certainty::Possible,
                _ if last => Certainty::Likely,
                _ => Certainty::Possible,
            },
            &scene.subject,
            says,
            match (brought, &standing) {
                (Some(blame), _) => {
                    text!("host {} could not be resolved, since revision {}", host, blame.newest.number)
                }
                (None, Some(Standing::Elsewhere(services))) => {
                    text!("host {} could not be resolved: that Service is in {}", host, places(services))
                }
                _ => text!("host {} could not be resolved", host),
            }
            .cut(90),
        )
    }
}

/// The host or address as others may name it too: a short name means another host in each namespace, and each pod's own
/// address another pod.
fn shared(scene: &Scene, address: &Redacted) -> Option<Redacted> {
    let host = address.as_str().rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
    if host == "localhost" || host.starts_with("127.") || host.contains("::1") {
        return None;
    }
    match &scene.subject.namespace {
        Some(namespace) if !host.contains('.') => Some(text!("{} as named in {}", address, namespace)),
        _ => Some(address.clone()),
    }
}

/// Whether a value holds this host name, and no longer one.
fn holds(value: &str, host: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '.'));
    let mut places = value.match_indices(host);
    places.any(|(at, _)| edge(value[..at].chars().next_back()) && edge(value[at + host.len()..].chars().next()))
}

/// What a Service of that name stands for, where it selects no pod of the cluster.
fn stands_for(scene: &Scene, address: &Redacted) -> Redacted {
    let mut labels = address.as_str().split(':').next().unwrap_or_default().split('.');
    let (name, namespace) = (labels.next().unwrap_or_default(), labels.next());
    let own = scene.subject.namespace.as_ref().map(|namespace| namespace.as_str());
    let meant = |service: &&Service| {
        let place = service.object.namespace.as_ref().map(|namespace| namespace.as_str());
        service.selector.is_empty() && service.object.name() == name && place == namespace.or(own)
    };
    match scene.services.items().iter().find(meant) {
        Some(Service { external_name: Some(host), .. }) => {
            text!(" (by its Service that is {}, outside the cluster)", host)
        }
        Some(_) => " (whose Service selects no pod: somebody else keeps its endpoints)".into(),
        None => Redacted::default(),
    }
}

fn unreached(scene: &Scene, said: &Said<'_>, address: &Redacted) -> Finding {
    let Said { container, log, line } = *said;
    let (ends, more) = ending(scene, container);
    let last = container.is_some_and(|(pod, container)| view::is_last_word(scene, pod, container, line));
    let outside = outside::of(line, address);
    let stands = stands_for(scene, address);
    let whom = outside.as_ref().map_or_else(|| text!("{}{}", address, stands), |found| found.says(address));
    let says = text!(
        "{} {} cannot reach {}: \"{}\"{}.",
        scene.subject.kind,
        scene.subject.name,
        whom,
        say::line(&line.text),
        ends
    );
    let mut citations: Vec<_> = proof::line(scene, log, line).into_iter().collect();
    citations.extend(more);
    Finding {
        citations,
        ending: !ends.is_empty(),
        shared: shared(scene, address),
        advice: Some(match &outside {
            Some(found) => text!(
                "Ask who runs {}, and check the way out of the cluster (egress rules, NAT, proxy): a restart or a rollback here does not help if it is down.",
                found.name,
            ),
            None => {
                text!("Look at what should answer at {}: it is not this workload that has to be restarted.", address)
            }
        }),
        ..Finding::new(
            "dependency-unreachable",
            Role::Cause,
            // Name and address agree, and pods are not ready: what they wait for is likely this.
            match &outside {
                Some(found) if found.certain && last => Certainty::Likely,
                _ => Certainty::Possible,
            },
            &scene.subject,
            says,
            match &outside {
                Some(found) => text!("{} outside the cluster does not answer", found.name).cut(90),
                None => text!("{} does not answer", address),
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_many_languages() {
        let address = |text: &'static str| named(&UNREACHED, &text.into()).map(|found| found.as_str().to_owned());
        for text in [
            "dial tcp db:5432: connect: connection refused",
            "Error: connect ECONNREFUSED db:5432",
            "error connecting to db:5432: Connection refused",
        ] {
            assert_eq!(address(text).as_deref(), Some("db:5432"), "{text}");
        }
    }
}
