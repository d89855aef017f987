//! NetworkPolicies that keep the subject from a Service that its logs say does not answer.

use jiff::Timestamp;

use super::backing;
use super::proof;
use super::say;
use crate::model::evidence::Citation;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::scene::{Barred, LogLine, Scene, Service};
use crate::redact::Redacted;
use crate::text;

/// A policy that was written this long before the first complaint, or later, may have begun it: logs are read and
/// clocks run apart, and connections that were open before it go on for a while.
const EARLY_SECONDS: i64 = 120;

pub(super) fn find(scene: &Scene, now: Timestamp) -> Vec<Finding> {
    let services = scene.services.items().iter();
    services.filter_map(|service| bars(scene, now, service, service.barred.as_ref()?)).take(1).collect()
}

/// What the objects say is certain; that the network enforces them, only the timeouts tell.
fn bars(scene: &Scene, now: Timestamp, service: &Service, barred: &Barred) -> Option<Finding> {
    let (log, line) = backing::complaint(scene, service)?;
    // Nobody answers where nobody is ready, with or without a policy.
    if service.ready_endpoints == 0 {
        return None;
    }
    let policy = text!("NetworkPolicy {}", barred.policy.name);
    let by = barred.by.as_ref().map_or_else(Redacted::default, |by| text!(" by {}", by));
    let since = line.first_at.map_or_else(Redacted::default, |at| text!(" since {}", say::at(at, now)));
    let says = text!(
        "{} ({}{}) {} and does not allow {}: its connections to {} fail{} (\"{}\"), while {} of that Service {} ready.",
        policy,
        say::at(barred.since, now),
        by,
        limits(service, barred),
        scene.subject,
        service.object.name,
        since,
        say::line(&line.text),
        say::count(service.ready_endpoints, "endpoint", "endpoints"),
        if service.ready_endpoints == 1 { "is" } else { "are" },
    );
    let brief = text!("{} does not let it reach {}", policy, service.object.name);
    let mut citations: Vec<Citation> =
        proof::field(scene, barred.at, "name", &text!("{}", barred.policy.name)).into_iter().collect();
    citations.extend(proof::line(scene, log, line));
    Some(Finding {
        citations,
        advice: Some(text!(
            "Let the owner of {} allow {} in it, or take it back: whether it was meant is theirs to say.",
            policy,
            scene.subject.name,
        )),
        ..Finding::new("policy-bars", Role::Cause, certainty(line, barred), &barred.policy, says, brief.cut(90))
    })
}

/// Likely only where the trouble did not begin before the policy was there, as far as the log goes back.
fn certainty(line: &LogLine, barred: &Barred) -> Certainty {
    match line.first_at {
        Some(first) if first.as_second() + EARLY_SECONDS >= barred.since.as_second() => Certainty::Likely,
        _ => Certainty::Possible,
    }
}

fn limits(service: &Service, barred: &Barred) -> Redacted {
    let whom = match barred.allowed.as_slice() {
        [] => "allows no pod like it".into(),
        labels => text!("allows only pods with {}", say::list(labels, 3)),
    };
    match barred.egress {
        true => text!("limits where its pods may connect ({})", whom),
        false => text!("limits who may connect to the pods of {} ({})", service.object.name, whom),
    }
}
