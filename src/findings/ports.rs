//! Services that send to a port on which no container behind them says to listen.

use jiff::Timestamp;

use super::backing;
use super::proof;
use super::say;
use crate::model::evidence::Citation;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::scene::{Astray, LogLine, LogTail, Scene, Service};
use crate::redact::Redacted;
use crate::text;

pub(super) fn find(scene: &Scene, now: Timestamp) -> Vec<Finding> {
    let services = scene.services.items().iter().filter(|service| !service.astray.is_empty());
    services.filter_map(|service| wrong_port(scene, now, service)).collect()
}

/// Only where somebody suffers: what containers declare does not bind them.
fn wrong_port(scene: &Scene, now: Timestamp, service: &Service) -> Option<Finding> {
    let complaint = backing::complaint(scene, service);
    let is_subject = service.object == scene.subject;
    if complaint.is_none() && !is_subject {
        return None;
    }
    let astray = service.astray.first()?;
    let name = text!("{}", service.object.name);
    let says = text!(
        "Service {}{} sends its port {} to targetPort {}, but the containers behind it declare only {}{}.{}{}",
        name,
        say::within(&service.object),
        astray.port,
        astray.target,
        declared(astray),
        ready(service),
        callers(scene, now, complaint),
        say::changed(service, now),
    );
    let brief = text!("Service {} sends to port {}, its containers declare {}", name, astray.target, declared(astray));
    let mut citations: Vec<Citation> = target(scene, service, astray).into_iter().collect();
    citations.extend(complaint.and_then(|(log, line)| proof::line(scene, log, line)));
    Some(Finding {
        citations,
        advice: Some(text!(
            "Set the targetPort of Service {} to a port on which its containers listen ({} by what they declare). The pods need no restart.",
            name,
            declared(astray),
        )),
        ..Finding::new(
            "service-wrong-port",
            Role::Cause,
            match complaint {
                Some((_, line)) if astray.all_declare || with(service, line) => Certainty::Likely,
                _ => Certainty::Possible,
            },
            &service.object,
            says,
            brief.cut(90),
        )
    })
}

/// Connections that were open go on for a while after a Service was changed, and clocks run apart.
const WITH_SECONDS: i64 = 600;

/// Whether the Service was changed when the complaints began.
fn with(service: &Service, line: &LogLine) -> bool {
    let changed = service.changed_at.filter(|at| *at > service.created_at);
    let (Some(changed), Some(first)) = (changed, line.first_at) else { return false };
    (first.as_second() - changed.as_second()).abs() <= WITH_SECONDS
}

fn declared(astray: &Astray) -> Redacted {
    say::list(&astray.declared, 4)
}

fn ready(service: &Service) -> Redacted {
    match service.ready_endpoints {
        0 => Redacted::default(),
        1 => ", though its endpoint counts as ready".into(),
        n => text!(", though its {} endpoints count as ready", n),
    }
}

fn callers(scene: &Scene, now: Timestamp, complaint: Option<(&LogTail, &LogLine)>) -> Redacted {
    let Some((_, line)) = complaint else { return Redacted::default() };
    let since = line.first_at.map_or_else(Redacted::default, |at| text!(" since {}", say::at(at, now)));
    let what = if line.text.as_str().contains("refused") { "connection refused" } else { "no answer" };
    text!(" {} gets {}{}.", scene.subject.name, what, since)
}

/// The target port as the Service has it: a number, or a name.
fn target(scene: &Scene, service: &Service, astray: &Astray) -> Option<Citation> {
    let ways = [text!("\"targetPort\": {}", astray.target), text!("\"targetPort\": \"{}\"", astray.target)];
    proof::first(scene, service.at, &ways)
}
