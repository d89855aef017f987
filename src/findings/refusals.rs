//! Pods that are refused at their creation: quota, LimitRange, Pod Security, admission webhooks. There is no pod to see.

use std::sync::LazyLock;

use jiff::Timestamp;
use regex::Regex;

use super::jobs;
use super::proof;
use super::rollout;
use super::say;
use super::view;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::object::{Kind, ObjectRef};
use crate::model::scene::{Event, Scene, Service};
use crate::redact::Redacted;
use crate::text;

/// `FailedCreate` events that still hold: pods are wanted that are not there, and none was made since.
pub(super) fn refused(scene: &Scene) -> impl Iterator<Item = &Event> {
    let newest_pod = scene.pods.items().iter().map(|pod| pod.created_at).max();
    let short = is_short(scene);
    let events = scene.events.items().iter();
    events.filter(move |event| {
        short && event.reason.as_str() == "FailedCreate" && newest_pod.is_none_or(|pod| pod <= event.last_at)
    })
}

/// Whether the subject still waits for pods: too few in all, the controller says so, or a revision has none.
fn is_short(scene: &Scene) -> bool {
    let Some(workload) = view::workload(scene) else { return true };
    // Those make pods, or Jobs, until they are done.
    if matches!(workload.object.kind, Kind::Job | Kind::CronJob) {
        return !jobs::is_over(workload);
    }
    let failing = view::condition(&workload.conditions, "ReplicaFailure");
    let has = |hash: &str| scene.pods.items().iter().any(|pod| pod.template.as_deref() == Some(hash));
    let bare =
        scene.revisions.items().iter().any(|revision| revision.current && revision.wanted > 0 && !has(&revision.hash));
    failing.is_some_and(|condition| condition.status.as_str() == "True")
        || (view::pods(scene).count() as u32) < workload.wanted
        || bare
}

pub(super) fn find(scene: &Scene, now: Timestamp) -> Vec<Finding> {
    let Some(newest) = refused(scene).max_by_key(|event| event.last_at) else { return Vec::new() };
    // The same refusal under several names of pods: since when is what the oldest of them says.
    let since = refused(scene).map(|event| event.first_at).min().unwrap_or(newest.first_at);
    let since = say::at(since, now);
    let found = refused(scene).find_map(|event| {
        webhook_unreached(scene, event, &since)
            .or_else(|| quota(scene, event, &since))
            .or_else(|| limit_range(scene, event, &since))
            .or_else(|| denied(scene, event, &since))
    });
    // What the missing ServiceAccount means is the rule for configuration's to say.
    let mut found: Vec<Finding> = found.or_else(|| unclear(scene, newest, &since)).into_iter().collect();
    found.extend(innocent(scene, now).filter(|_| found.iter().any(|finding| finding.proposal.is_none())));
    found
}

/// The message from these words on.
fn from(event: &Event, words: &str) -> Option<Redacted> {
    let text = event.message.as_str();
    event.message.part(&text[text.find(words)?..])
}

/// The quota that refuses: `exceeded quota: team, requested: pods=1`, `failed quota: team: must specify cpu`.
static QUOTA: LazyLock<Regex> = LazyLock::new(|| view::pattern(r"(?:exceeded|failed) quota: ([a-z0-9.-]+)"));

/// New pods that a quota refuses (`pkg/quota` of the API server's admission).
fn quota(scene: &Scene, event: &Event, since: &Redacted) -> Option<Finding> {
    let exceeded = from(event, "exceeded quota");
    let words = exceeded.clone().or_else(|| from(event, "failed quota"))?;
    let says = text!("New pods have been refused since {}: {}.", since, say::line(&words));
    let (advice, brief) = match exceeded {
        Some(_) => (
            "Raise the quota or free what others of the namespace request: people decide about capacity.",
            "new pods are refused: exceeded quota",
        ),
        None => {
            ("Give each container the requests and limits that the quota asks for.", "new pods are refused: the quota")
        }
    };
    let name = QUOTA.captures(words.as_str()).and_then(|captures| captures.get(1));
    let namespace = scene.subject.namespace.as_ref().map(|namespace| namespace.as_str());
    Some(Finding {
        citations: proof::quote(scene, event.at, &words).into_iter().collect(),
        advice: Some(advice.into()),
        through: name.and_then(|name| ObjectRef::new(Kind::ResourceQuota, namespace, name.as_str())),
        ..Finding::new("quota", Role::Cause, Certainty::Proved, &scene.subject, says, brief.into())
    })
}

/// `minimum memory usage per Container is 64Mi, but request is 32Mi` (plugin/pkg/admission/limitranger).
static LIMIT_RANGE: LazyLock<Regex> = LazyLock::new(|| {
    view::pattern(
        r"(?:minimum|maximum) [\w./-]+ usage per (?:Container|Pod) is [^,]+, but (?:request|limit) is [\w.]+|[\w./-]+ max limit to request ratio per Container is [^.]+\.?",
    )
});

fn limit_range(scene: &Scene, event: &Event, since: &Redacted) -> Option<Finding> {
    let words = event.message.part(LIMIT_RANGE.find(event.message.as_str())?.as_str())?;
    let blame = rollout::unborn(scene);
    let lines = blame.as_ref().map_or_else(Vec::new, |blame| {
        blame.lines(|line| rollout::is_field(line, &["limit", "limits", "request", "requests"]))
    });
    let by = match (&blame, lines.first()) {
        (Some(blame), Some(_)) => text!(" {} {}.", blame.name(), blame.did(&lines)),
        _ => Redacted::default(),
    };
    let says =
        text!("New pods have been refused since {} by the namespace's LimitRange: {}.{}", since, say::line(&words), by);
    let mut citations: Vec<_> = proof::quote(scene, event.at, &words).into_iter().collect();
    citations.extend(blame.as_ref().and_then(|blame| blame.citation(scene, lines.first().copied())));
    Some(Finding {
        citations,
        revision: blame.as_ref().filter(|_| !lines.is_empty()).map(|blame| blame.newest.number),
        proposal: blame.as_ref().filter(|_| !lines.is_empty()).and_then(|blame| blame.undo(scene)),
        advice: Some(
            "Bring the container's requests and limits within the LimitRange, or change that with its owner.".into(),
        ),
        ..Finding::new(
            "limit-range",
            Role::Cause,
            Certainty::Proved,
            &scene.subject,
            says,
            "new pods are refused: outside the LimitRange".into(),
        )
    })
}

/// An answer that says no: an admission webhook, a policy, or Pod Security.
static DENIED: LazyLock<Regex> = LazyLock::new(|| {
    view::pattern(
        r#"admission webhook "(?P<webhook>[^"]+)" denied the request(?:: (?P<why>.+))?|violates PodSecurity "(?P<level>[^"]+)": (?P<what>.+)|ValidatingAdmissionPolicy '(?P<policy>[^']+)'.* denied request: (?P<because>.+)"#,
    )
});

fn denied(scene: &Scene, event: &Event, since: &Redacted) -> Option<Finding> {
    let captures = DENIED.captures(event.message.as_str())?;
    let part = |name: &str| captures.name(name).and_then(|found| event.message.part(found.as_str()));
    let by = part("webhook")
        .map(|name| text!("admission webhook {}", name))
        .or_else(|| part("level").map(|level| text!("Pod Security {}", level)))
        .or_else(|| part("policy").map(|policy| text!("admission policy {}", policy)))?;
    let why = part("why").or_else(|| part("what")).or_else(|| part("because"));
    let why = why.map_or_else(Redacted::default, |why| text!(": {}", say::line(&why)));
    let says = text!("New pods have been refused since {} by {}{}.", since, by, why);
    let whole = captures.get(0).and_then(|found| event.message.part(found.as_str()));
    Some(Finding {
        citations: whole.and_then(|whole| proof::quote(scene, event.at, &whole)).into_iter().collect(),
        advice: Some(
            "Change the pod template so that the policy admits it; the policy's owner can say what it asks for.".into(),
        ),
        ..Finding::new(
            "admission-denied",
            Role::Cause,
            Certainty::Proved,
            &scene.subject,
            says,
            text!("new pods are refused by {}", by).cut(90),
        )
    })
}

/// A webhook that could not be called, and the Service that it stands behind.
static UNREACHED: LazyLock<Regex> = LazyLock::new(|| {
    view::pattern(
        r#"failed calling webhook "(?P<webhook>[^"]+)":.*?https://(?P<service>[a-z0-9-]+)\.(?P<namespace>[a-z0-9-]+)\.svc[^"]*"?: (?P<why>.+)"#,
    )
});

fn webhook_unreached(scene: &Scene, event: &Event, since: &Redacted) -> Option<Finding> {
    let captures = UNREACHED.captures(event.message.as_str())?;
    let part = |name: &str| captures.name(name).and_then(|found| event.message.part(found.as_str()));
    let (webhook, why) = (part("webhook")?, part("why")?);
    let object = ObjectRef::new(Kind::Service, captures.name("namespace").map(|n| n.as_str()), &captures["service"])?;
    let service = scene.services.items().iter().find(|service| service.object == object);
    let (state, about) = match service {
        Some(service) => behind(service),
        None => (Redacted::default(), object.clone()),
    };
    let says = text!(
        "New pods have been refused since {}: the API server cannot call admission webhook {}, which stands behind {} ({}).{} {} itself is not at fault.",
        since,
        webhook,
        object,
        say::line(&why),
        state,
        scene.subject.name,
    );
    let brief = text!("no new pods: webhook of {} cannot be called", object.name).cut(90);
    let mut citations: Vec<_> = part("webhook").and_then(|_| proof::quote(scene, event.at, &why)).into_iter().collect();
    let wanted = service.and_then(|service| service.behind.as_ref());
    let zero = wanted.filter(|workload| workload.wanted == 0);
    citations.extend(zero.and_then(|workload| proof::quote(scene, workload.at, &"\"replicas\": 0".into())));
    let advice = match zero {
        Some(workload) => text!(
            "Scale {} up again with its owner. Do not restart {} meanwhile: a pod that ends now does not come back.",
            workload.object,
            scene.subject.name,
        ),
        None => text!(
            "Bring {} back first. Do not restart {} meanwhile: a pod that ends now does not come back.",
            about,
            scene.subject.name,
        ),
    };
    Some(Finding {
        citations,
        advice: Some(advice),
        ..Finding::new("webhook-unreachable", Role::Cause, Certainty::Proved, &about, says, brief)
    })
}

/// What stands behind a Service, as a sentence, and the object that has to be looked at.
fn behind(service: &Service) -> (Redacted, ObjectRef) {
    let Some(workload) = &service.behind else {
        let none = text!(" The Service has {} ready endpoints.", service.ready_endpoints);
        return (none, service.object.clone());
    };
    let state = match workload.wanted {
        0 => text!(" {} behind it is scaled to 0, so there are no endpoints.", workload.object),
        wanted => text!(" {} behind it has {} of {} pods ready.", workload.object, workload.ready, wanted),
    };
    (state, workload.object.clone())
}

/// Refused for a reason that no rule knows: better told than left out.
fn unclear(scene: &Scene, event: &Event, since: &Redacted) -> Option<Finding> {
    if event.message.as_str().contains("serviceaccount") {
        return None;
    }
    let says = text!("New pods have been refused since {}: {}.", since, say::line(&event.message));
    Some(Finding {
        citations: proof::event(scene, event).into_iter().collect(),
        ..Finding::new(
            "pods-refused",
            Role::Mechanism,
            Certainty::Proved,
            &scene.subject,
            says,
            "new pods are refused at creation".into(),
        )
    })
}

/// The newest revision as ruled out: none of its pods ever ran.
fn innocent(scene: &Scene, now: Timestamp) -> Option<Finding> {
    let blame = rollout::unborn(scene)?;
    let number = blame.newest.number;
    let says = text!(
        "Not the program of revision {} ({}): none of its pods was ever created.",
        number,
        say::at(blame.since(), now),
    );
    let brief = text!("the program of revision {} (none of its pods was ever created)", number);
    Some(Finding::new("revision-never-ran", Role::RuledOut, Certainty::Proved, &scene.subject, says, brief))
}
