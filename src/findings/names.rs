//! Names that were asked for in vain: whether their Service stands, here or elsewhere, and whether the DNS answers at all.

use super::dependencies::{Said, ending};
use super::proof;
use super::say;
use super::view;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::scene::{Scene, Service};
use crate::redact::Redacted;
use crate::text;

/// The Service that every distribution keeps for its DNS, whatever answers behind it.
const DNS: (&str, &str) = ("kube-system", "kube-dns");

/// Services of the name that was asked for.
pub(super) enum Standing<'a> {
    /// The very one that the name means.
    Here(&'a Service),
    /// Of that name, but in other namespaces.
    Elsewhere(Vec<&'a Service>),
}

/// Whether a name is one that the cluster's own DNS keeps.
fn is_inside(host: &str) -> bool {
    !host.contains('.') || host.ends_with(".svc") || host.contains(".svc.")
}

/// The Services of the scene that bear this name.
pub(super) fn standing<'a>(scene: &'a Scene, host: &Redacted) -> Option<Standing<'a>> {
    let mut labels = host.as_str().split('.');
    let (name, namespace) = (labels.next()?, labels.next());
    let inside = is_inside(host.as_str()) || host.as_str().split('.').count() == 2;
    let services: Vec<&Service> =
        scene.services.items().iter().filter(|service| inside && service.object.name() == name).collect();
    let own = scene.subject.namespace.as_ref().map(|namespace| namespace.as_str());
    let meant = namespace.or(own);
    let place = |service: &Service| service.object.namespace.as_ref().map(|namespace| namespace.as_str().to_owned());
    if let Some(here) = services.iter().find(|service| place(service).as_deref() == meant) {
        return Some(Standing::Here(here));
    }
    // A longer name says itself where it is looked for.
    (namespace.is_none() && !services.is_empty()).then_some(Standing::Elsewhere(services))
}

/// `pricing`, or `pricing and billing`.
pub(super) fn places(services: &[&Service]) -> Redacted {
    let places = services.iter().filter_map(|service| service.object.namespace.as_ref());
    say::list(&places.map(|place| text!("{}", place)).collect::<Vec<_>>(), 3)
}

/// What is known of the name beside that it did not resolve.
pub(super) fn open(scene: &Scene, host: &Redacted, standing: Option<&Standing<'_>>) -> Redacted {
    match standing {
        Some(Standing::Here(service)) => text!(
            "Yet {} stands, with {}: the name is right, and what kept it from being found (the pod's dnsPolicy, the DNS itself) is not seen.",
            service.object,
            say::count(service.ready_endpoints, "ready endpoint", "ready endpoints"),
        ),
        Some(Standing::Elsewhere(services)) => text!(
            "There is no Service of that name in {}, but in {}: a short name is looked up in the pod's own namespace alone.",
            scene.subject.namespace.as_ref().map_or_else(|| "its namespace".into(), |own| text!("{}", own)),
            places(services),
        ),
        None if is_inside(host.as_str()) && scene.services.known().is_some() => {
            "No Service answers to that name from here.".into()
        }
        None if is_inside(host.as_str()) => "Whether a Service has that name could not be read.".into(),
        None => "Whether the name is wrong or its record is gone cannot be seen from inside the cluster.".into(),
    }
}

pub(super) fn advice(host: &Redacted, standing: Option<&Standing<'_>>) -> Redacted {
    match standing {
        Some(Standing::Here(_)) => text!(
            "Ask for {} from another pod of the namespace: if it resolves there, look at this pod's dnsPolicy and at when it asked; if not, at the cluster's DNS.",
            host,
        ),
        Some(Standing::Elsewhere(services)) => {
            text!("Call it {}.{}, if that is the one that is meant.", host, places(&services[..1]))
        }
        None => text!(
            "Check the name {} with its owner (wrong name, expired domain or missing record), then run it again. Keep the failed pod until then: its log is the evidence.",
            host,
        ),
    }
}

/// The DNS did not answer: nothing is known of the name.
pub(super) fn silent(scene: &Scene, said: &Said<'_>, host: Option<&Redacted>) -> Finding {
    let (ends, more) = ending(scene, said.container);
    let last = said.container.is_some_and(|(pod, container)| view::is_last_word(scene, pod, container, said.line));
    let asked = host.map_or_else(Redacted::default, |host| text!(" for {}", host));
    let dns = scene.services.items().iter().find(|service| {
        service.object.name() == DNS.1 && service.object.namespace.as_ref().is_some_and(|place| place.as_str() == DNS.0)
    });
    let down = dns.filter(|dns| dns.ready_endpoints == 0);
    let behind = match (down, dns) {
        (Some(dns), _) => text!("{} has no ready endpoint, so no name can be resolved in the cluster.", dns.object),
        (None, Some(dns)) => text!(
            "{} has {}: whether the way to it, or the server that it asks in turn, fails is not seen.",
            dns.object,
            say::count(dns.ready_endpoints, "ready endpoint", "ready endpoints"),
        ),
        (None, None) => "The cluster's DNS itself was not read.".into(),
    };
    let says = text!(
        "DNS did not answer when {} {} asked{}{}. {}",
        scene.subject.kind,
        scene.subject.name,
        asked,
        ends,
        behind,
    );
    let mut citations: Vec<_> = proof::line(scene, said.log, said.line).into_iter().collect();
    citations.extend(more);
    Finding {
        citations,
        shared: match host.filter(|host| !is_inside(host.as_str())) {
            // Of a foreign name another server may be the one that is silent.
            Some(host) => Some(host.clone()),
            None => Some("the cluster's DNS".into()),
        },
        advice: Some("Look at the pods behind kube-dns and at the NetworkPolicies on the way to port 53. A restart of this workload does not help while no name resolves.".into()),
        ..Finding::new(
            "dns-silent",
            Role::Cause,
            // What a process lived on after is not what ended it.
            if down.is_some() || last { Certainty::Likely } else { Certainty::Possible },
            down.map_or(&scene.subject, |dns| &dns.object),
            says,
            match down {
                Some(dns) => text!("DNS did not answer: Service {} has no ready endpoint", dns.object.name),
                None => text!("DNS did not answer{}", asked).cut(90),
            },
        )
    }
}
