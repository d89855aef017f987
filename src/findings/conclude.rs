//! From findings to the report: one headline, one cause with its proof, what was ruled out, and the next step.

use jiff::Timestamp;

use super::health;
use super::health::Health;
use super::situation::situation;
use super::view;
use crate::model::evidence::Citation;
use crate::model::finding;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::report::{Origin, Report, Review};
use crate::model::scene::{Part, Scene};
use crate::redact::Redacted;
use crate::text;

/// A headline fits a phone's notification and Slack's header.
const HEADLINE_MAX_CHARS: usize = 150;
/// A cause fits, with its headline, four lines of the card.
const CAUSE_MAX_CHARS: usize = 540;
/// The card shows three quotes, its thread a few more.
const CITATIONS_MAX: usize = 8;
/// More than these are not read in ten seconds.
const RULED_OUT_MAX: usize = 5;
/// The thread's reasoning is five lines at most.
const REASONING_MAX: usize = 5;

/// The report that the rules alone can give. Without a cause it says so (`Certainty::Unknown`), with what was ruled
/// out and what could not be read; it never fills in.
pub fn conclude(scene: &Scene, findings: Vec<Finding>, _now: Timestamp) -> Report {
    let of = |role: Role| findings.iter().filter(move |finding| finding.role == role);
    let cause = finding::cause(&findings);
    let mechanism = of(Role::Mechanism).next();
    let symptom = of(Role::Symptom).next();
    let ruled_out = of(Role::RuledOut).take(RULED_OUT_MAX).map(|finding| finding.brief.clone()).collect();
    let chain: Vec<&Finding> = chain(&findings, cause);
    Report {
        origin: Origin::Findings,
        headline: headline(scene, cause, mechanism.or(symptom)),
        cause: if cause.is_some() { told(&chain) } else { Redacted::default() },
        certainty: cause.map_or(Certainty::Unknown, |cause| cause.certainty),
        culprit: cause.map(|cause| cause.about.clone()),
        citations: citations(cause, mechanism, &findings),
        ruled_out,
        advice: advice(scene, cause),
        proposals: cause.and_then(|cause| cause.proposal.clone()).into_iter().collect(),
        reasoning: reasoning(symptom, mechanism, &chain),
        struck: 0,
        review: Review::NotNeeded,
        about: Some(scene.subject.clone()),
    }
}

/// The cause and what else belongs into its telling, in order; what the cause already tells is left out.
fn chain<'a>(findings: &'a [Finding], cause: Option<&'a Finding>) -> Vec<&'a Finding> {
    let Some(cause) = cause else { return Vec::new() };
    let mut chain = vec![cause];
    for finding in findings {
        let fits = match finding.role {
            Role::Change => cause.revision.is_none() || finding.rule != "revision-change",
            Role::Mechanism => !cause.ending,
            // Other symptoms are in the headline, or follow from the cause.
            Role::Symptom => matches!(finding.rule.as_str(), "node-loss-hurts" | "job-failed"),
            _ => false,
        };
        if fits {
            chain.push(finding);
        }
    }
    chain
}

/// As many whole sentences of the chain as fit.
fn told(chain: &[&Finding]) -> Redacted {
    let mut said = Vec::new();
    let mut chars = 0;
    for finding in chain {
        let length = finding.says.as_str().chars().count() + 1;
        if chars + length > CAUSE_MAX_CHARS && !said.is_empty() {
            continue;
        }
        chars += length;
        said.push(finding.says.clone());
    }
    Redacted::join(&said, " ").cut(CAUSE_MAX_CHARS)
}

/// What is broken and why; the namespace goes first when it gets too long.
fn headline(scene: &Scene, cause: Option<&Finding>, other: Option<&Finding>) -> Redacted {
    let broken = matches!(health::health(scene), Health::Unhealthy { .. } | Health::Unknown);
    let why = match (cause, other) {
        (Some(cause), _) => Some(cause.brief.clone()),
        (None, Some(other)) if broken => Some(text!("{}, cause unknown", other.brief)),
        (None, None) if broken && scene.not_found.is_none() => Some("cause unknown".into()),
        _ => None,
    };
    let with = |place: bool| {
        let what = situation(scene, cause, place);
        match &why {
            Some(why) => text!("{}: {}", what, why),
            None => what,
        }
    };
    let fits = |text: &Redacted| text.as_str().chars().count() <= HEADLINE_MAX_CHARS;
    let short = || why.as_ref().map_or_else(|| with(false), |why| text!("{}: {}", scene.subject.name, why));
    let tries = [with(true), with(false)];
    tries.into_iter().find(fits).unwrap_or_else(short).cut(HEADLINE_MAX_CHARS)
}

/// The cause's proof, then its change's, then what shows the mechanism; none twice.
fn citations(cause: Option<&Finding>, mechanism: Option<&Finding>, findings: &[Finding]) -> Vec<Citation> {
    let changes = findings.iter().filter(|finding| finding.role == Role::Change);
    let symptoms = findings.iter().filter(|finding| finding.role == Role::Symptom);
    let mut citations: Vec<Citation> = Vec::new();
    for finding in cause.into_iter().chain(changes).chain(mechanism).chain(symptoms) {
        for citation in &finding.citations {
            if !citations.iter().any(|known| known.quote == citation.quote) {
                citations.push(citation.clone());
            }
        }
    }
    citations.truncate(CITATIONS_MAX);
    citations
}

/// The next step in words: the cause's, and where a GitOps tool would undo an undo, that.
fn advice(scene: &Scene, cause: Option<&Finding>) -> Option<Redacted> {
    let unread = unread(scene);
    let Some(cause) = cause else {
        let broken = matches!(health::health(scene), Health::Unhealthy { .. } | Health::Unknown);
        return unread.filter(|_| broken && scene.not_found.is_none());
    };
    let gitops = view::workload(scene).and_then(|workload| workload.gitops.as_ref());
    match gitops {
        Some(tool) if cause.revision.is_some() && by_hand(scene).is_some() => Some(text!(
            "{} manages this workload, yet {} made the change: Git still has what was there before. Sync it again (with its owner), instead of changing anything in Git.",
            tool,
            by_hand(scene).unwrap_or_default(),
        )),
        Some(tool) if cause.revision.is_some() => Some(text!(
            "{} manages this workload: revert the change in Git, a rollback in the cluster would be undone.",
            tool
        )),
        // A button says itself what it does; words beside it would compete with it.
        _ if cause.proposal.is_some() => None,
        _ => cause.advice.clone(),
    }
}

/// Field managers of a person's kubectl (its `apply` is left out: pipelines use it).
const BY_HAND: [&str; 6] =
    ["kubectl-edit", "kubectl-set", "kubectl-patch", "kubectl-scale", "kubectl-replace", "kubectl-label"];

/// Who made the running revision, if that was a person's kubectl.
fn by_hand(scene: &Scene) -> Option<Redacted> {
    let number = scene.revisions.items().iter().find(|revision| revision.current)?.number;
    let mut changes = scene.changes.items().iter().filter(|change| change.object == scene.subject);
    let by = changes.find(|change| change.to_revision == Some(number))?.by.clone()?;
    BY_HAND.contains(&by.as_str()).then_some(by)
}

/// `Could not read logs (timed out)`: what a conclusion had to do without.
fn unread(scene: &Scene) -> Option<Redacted> {
    fn why<T>(name: &'static str, part: &Part<T>) -> Option<Redacted> {
        part.missing().map(|why| text!("{} ({})", name, why))
    }
    let parts = [
        why("the workload", &scene.workload),
        why("its pods", &scene.pods),
        why("logs", &scene.logs),
        why("events", &scene.events),
        why("its revisions", &scene.revisions),
        why("nodes", &scene.nodes),
        why("Services", &scene.services),
        why("ConfigMaps", &scene.config_maps),
    ];
    let missing: Vec<Redacted> = parts.into_iter().flatten().collect();
    (!missing.is_empty()).then(|| text!("Could not read {}.", super::say::list(&missing, 4)))
}

fn reasoning(symptom: Option<&Finding>, mechanism: Option<&Finding>, chain: &[&Finding]) -> Vec<Redacted> {
    let mut lines: Vec<Redacted> = Vec::new();
    for finding in symptom.into_iter().chain(mechanism).chain(chain.iter().copied()) {
        if !lines.contains(&finding.says) {
            lines.push(finding.says.clone());
        }
    }
    lines.truncate(REASONING_MAX);
    lines
}
