//! Services whose selector meets no pod, and Ingresses that no controller serves.

use jiff::Timestamp;

use super::proof;
use super::say;
use super::view;
use crate::model::evidence::Citation;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::object::Kind;
use crate::model::scene::{Ingress, IngressClass, LogLine, LogTail, NearMiss, Neighbour, Scene, Service};
use crate::redact::Redacted;
use crate::text;

pub(super) fn find(scene: &Scene, now: Timestamp) -> Vec<Finding> {
    let mut found = Vec::new();
    for service in scene.services.items().iter().filter(|service| !service.selector.is_empty()) {
        // A selector that fits a workload is right, whether that has pods or not; those of a sister (blue, green) miss it.
        if service.pods_selected == 0 && service.ready_endpoints == 0 && service.behind.is_none() {
            found.extend(selects_nothing(scene, now, service));
        } else if service.ready_endpoints == 0 && service.pods_selected > 0 {
            found.push(not_ready(scene, service));
        }
    }
    for ingress in scene.ingresses.items() {
        found.extend(unserved(scene, now, ingress));
        found.extend(behind(scene, ingress));
    }
    found
}

/// A line of the subject's logs that says that calls to this Service fail.
fn complaint<'a>(scene: &'a Scene, service: &Service) -> Option<(&'a LogTail, &'a LogLine)> {
    let name = service.object.name().to_owned();
    let names_it = move |line: &LogLine| {
        let text = line.text.as_str();
        text.match_indices(name.as_str()).any(|(at, found)| {
            let edge = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
            edge(text[..at].chars().next_back()) && edge(text[at + found.len()..].chars().next())
        })
    };
    let mut lines = scene.logs.items().iter().flat_map(|log| log.lines.iter().rev().map(move |line| (log, line)));
    lines.find(|(_, line)| names_it(line) && view::is_telling(&line.text))
}

/// The selector that meets no pod, and the label that keeps the pods out.
fn selects_nothing(scene: &Scene, now: Timestamp, service: &Service) -> Option<Finding> {
    let complaint = complaint(scene, service);
    let is_subject = scene.subject == service.object;
    let near = service.near.iter().max_by_key(|near| near.pods);
    if near.is_none() && complaint.is_none() && !is_subject {
        return None;
    }
    let name = text!("{}", service.object.name);
    let callers = callers(scene, now, service, complaint);
    let changed = say::changed(service, now);
    let (says, brief) = match near {
        Some(near) => (misses(service, near, &callers, &changed), misses_brief(service, near, is_subject)),
        None => (
            text!(
                "Service {}{} selects {}, which no pod carries, so it has no endpoints{}.{}",
                name,
                say::within(&service.object),
                say::labels(&service.selector),
                callers,
                changed,
            ),
            match is_subject {
                true => "its selector matches no pod".into(),
                false => text!("the selector of Service {} matches no pod: no endpoints", name),
            },
        ),
    };
    let mut citations: Vec<Citation> = near.and_then(|near| selector_quote(scene, service, near)).into_iter().collect();
    citations.extend(near.and_then(|near| pod_quote(scene, near)));
    citations.extend(complaint.and_then(|(log, line)| proof::line(scene, log, line)));
    Some(Finding {
        citations,
        advice: Some(match near {
            Some(near) => text!(
                "Set the selector of Service {} to {}={}, unless pods with {}={} are about to come: its owner decides. The pods need no restart.",
                name,
                near.label,
                near.found,
                near.label,
                near.wanted,
            ),
            None => text!("Correct the selector of Service {} or the labels of its pods.", name),
        }),
        ..Finding::new(
            "service-selects-nothing",
            Role::Cause,
            if is_subject || complaint.is_some() { Certainty::Proved } else { Certainty::Possible },
            &service.object,
            says,
            brief,
        )
    })
}

/// The selector beside the labels that the pods carry.
fn misses(service: &Service, near: &NearMiss, callers: &Redacted, changed: &Redacted) -> Redacted {
    let pods = match &near.of {
        Some(owner) => text!("the {} of {} {}", say::count(near.pods, "pod", "pods"), owner, carry(near)),
        None => text!("{} {}", say::count(near.pods, "pod", "pods"), carry(near)),
    };
    text!(
        "Service {}{} selects {}={}, but {} {}={}: the selector matches no pod, so the Service has no endpoints{}.{}",
        service.object.name,
        say::within(&service.object),
        near.label,
        near.wanted,
        pods,
        near.label,
        near.found,
        callers,
        changed,
    )
}

fn misses_brief(service: &Service, near: &NearMiss, is_subject: bool) -> Redacted {
    match is_subject {
        true => text!("it selects {}={}, but its pods carry {}", near.label, near.wanted, near.found),
        false => text!(
            "Service {} selects {}={}, its pods carry {}: no endpoints",
            service.object.name,
            near.label,
            near.wanted,
            near.found,
        ),
    }
}

fn carry(near: &NearMiss) -> &'static str {
    if near.pods == 1 { "carries" } else { "carry" }
}

/// Who calls in vain, since when.
fn callers(scene: &Scene, now: Timestamp, service: &Service, complaint: Option<(&LogTail, &LogLine)>) -> Redacted {
    let Some((log, line)) = complaint else { return Redacted::default() };
    let who = if scene.subject == service.object { caller(scene, log) } else { text!("{}", scene.subject.name) };
    let since = line.first_at.map_or_else(Redacted::default, |at| text!(" since {}", say::at(at, now)));
    match line.text.as_str().contains("refused") {
        true => text!(", and {} gets connection refused{}", who, since),
        false => text!(", and calls of {} fail{}", who, since),
    }
}

/// Whose log it is: the workload whose name, with one or two generated parts behind it, is the pod's; else the pod.
fn caller(scene: &Scene, log: &LogTail) -> Redacted {
    let made_by = |other: &&Neighbour| {
        let rest = log.pod.name().strip_prefix(other.object.name()).and_then(|rest| rest.strip_prefix('-'));
        rest.is_some_and(|rest| rest.split('-').count() <= 2)
    };
    let others = scene.neighbours.items().iter().filter(made_by);
    match others.max_by_key(|other| other.object.name().len()) {
        Some(other) => text!("{}", other.object.name),
        None => text!("pod {}", log.pod.name),
    }
}

/// `"version": "v2"` in the Service's selector.
fn selector_quote(scene: &Scene, service: &Service, near: &NearMiss) -> Option<Citation> {
    proof::quote(scene, service.at, &text!("\"{}\": \"{}\"", near.label, near.wanted))
}

/// The other value, in one of the pods that carry it.
fn pod_quote(scene: &Scene, near: &NearMiss) -> Option<Citation> {
    proof::quote(scene, near.at, &text!("\"{}\": \"{}\"", near.label, near.found))
}

/// A Service that selects pods of which none is ready: what callers notice.
fn not_ready(scene: &Scene, service: &Service) -> Finding {
    let says = text!(
        "Service {} has no ready endpoint: {} it selects {} not ready.",
        service.object.name,
        say::all(service.pods_selected, "pod", "pods"),
        if service.pods_selected == 1 { "is" } else { "are" },
    );
    let about = if scene.subject.kind == Kind::Service { &scene.subject } else { &service.object };
    let brief = text!("Service {} has no ready endpoint", service.object.name);
    Finding::new("service-not-ready", Role::Symptom, Certainty::Proved, about, says, brief)
}

fn there_are(classes: &[Redacted]) -> Redacted {
    match classes {
        [] => "the cluster has no IngressClass at all".into(),
        [only] => text!("the cluster has only {}", only),
        classes => text!("the cluster has {}", say::list(classes, 4)),
    }
}

type Wrong = (Redacted, Redacted, Option<Citation>);

/// What is wrong with the class of an Ingress, at length and in brief, and where it stands.
fn wrong_class(
    scene: &Scene,
    now: Timestamp,
    ingress: &Ingress,
    (classes, names): (&[IngressClass], &[Redacted]),
) -> Option<Wrong> {
    let name = text!("{}", ingress.object.name);
    let others = there_are(names);
    let hosts = if ingress.hosts.is_empty() { "its paths".into() } else { say::list(&ingress.hosts, 2) };
    let made = text!("created {}", say::at(ingress.created_at, now));
    Some(match (&ingress.class, &ingress.annotated) {
        (Some(class), _) if !names.contains(class) => (
            text!(
                "Ingress {}{} ({}) names IngressClass {}, which does not exist: {}. So {} {}{}.",
                name,
                say::within(&ingress.object),
                made,
                class,
                others,
                if ingress.has_address { "perhaps no controller serves" } else { "no controller serves" },
                hosts,
                address(ingress),
            ),
            text!("IngressClass {} does not exist", class),
            proof::field(scene, ingress.at, "ingressClassName", class),
        ),
        // A controller may heed the annotation without such an object; one that gave an address does.
        (None, Some(class)) if !names.contains(class) && !ingress.has_address => (
            text!(
                "Ingress {}{} ({}) asks for the class {} by the old annotation, and no IngressClass has that name: {}. Perhaps no controller serves {}{}.",
                name,
                say::within(&ingress.object),
                made,
                class,
                others,
                hosts,
                address(ingress),
            ),
            text!("perhaps no controller serves the class {}", class),
            proof::field(scene, ingress.at, "kubernetes.io/ingress.class", class),
        ),
        (None, None) if !classes.iter().any(|class| class.default) && !ingress.has_address => (
            text!(
                "Ingress {}{} ({}) names no IngressClass and none is the default ({}), so no controller serves {}{}.",
                name,
                say::within(&ingress.object),
                made,
                others,
                hosts,
                address(ingress),
            ),
            text!("Ingress {} names no IngressClass and none is the default", name),
            None,
        ),
        _ => return None,
    })
}

/// An Ingress whose class does not exist, or that has none where none is the default.
fn unserved(scene: &Scene, now: Timestamp, ingress: &Ingress) -> Option<Finding> {
    let classes = scene.ingress_classes.known()?;
    let names: Vec<Redacted> = classes.iter().map(|class| class.name.clone()).collect();
    let name = text!("{}", ingress.object.name);
    let (says, brief, quote) = wrong_class(scene, now, ingress, (classes, &names))?;
    let mut citations: Vec<Citation> = quote.into_iter().collect();
    citations.extend(classes.first().and_then(|class| proof::field(scene, class.at, "name", &class.name)));
    let certainty = match (&ingress.class, &ingress.annotated) {
        (Some(_), _) if !ingress.has_address => Certainty::Proved,
        (Some(_), _) | (None, Some(_)) => Certainty::Possible,
        (None, None) => Certainty::Likely,
    };
    Some(Finding {
        citations,
        advice: Some(match names.as_slice() {
            [only] => text!(
                "Set ingressClassName of Ingress {} to {}, or install the class it names: its owner decides.",
                name,
                only
            ),
            _ => text!(
                "Set ingressClassName of Ingress {} to a class that exists, or install the one it names: its owner decides.",
                name
            ),
        }),
        ..Finding::new("ingress-class", Role::Cause, certainty, &ingress.object, says, brief)
    })
}

fn address(ingress: &Ingress) -> &'static str {
    if ingress.has_address { ", though it has an address, of now or of before" } else { " and it has no address" }
}

/// The Services behind an Ingress, where they have ready endpoints: ruled out.
fn behind(scene: &Scene, ingress: &Ingress) -> Option<Finding> {
    let mut services = scene.services.items().iter();
    let service = services.find(|service| {
        let named = ingress.services.iter().any(|name| name.as_str() == service.object.name());
        named && service.object.namespace == ingress.object.namespace && service.ready_endpoints > 0
    })?;
    let says = text!(
        "Not the pods behind it: Service {} has {}.",
        service.object.name,
        say::count(service.ready_endpoints, "ready endpoint", "ready endpoints"),
    );
    let brief = text!(
        "the pods behind it (Service {} has {})",
        service.object.name,
        say::count(service.ready_endpoints, "ready endpoint", "ready endpoints")
    );
    Some(Finding::new("backend-ready", Role::RuledOut, Certainty::Proved, &ingress.object, says, brief))
}
