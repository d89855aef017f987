//! Refusals of the Kubernetes API that a container's log tells: its service account lacks a permission.

use std::sync::LazyLock;

use jiff::Timestamp;
use regex::Regex;

use super::proof;
use super::rollout;
use super::rollout::Blame;
use super::say;
use super::view;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::scene::{ContainerState, DiffLine, LogLine, LogTail, Pod, Scene};
use crate::redact::Redacted;
use crate::text;

/// The API server's own words (`pkg/endpoints/handlers/responsewriters`), whatever a program writes before them.
static FORBIDDEN: LazyLock<Regex> = LazyLock::new(|| {
    view::pattern(
        r#"User \\?"system:serviceaccount:(?P<namespace>[^":\\]+):(?P<account>[^"\\]+)\\?" cannot (?P<verb>\w+) resource \\?"(?P<resource>[^"\\]+)\\?"(?: in API group \\?"(?P<group>[^"\\]*)\\?")?(?: in the namespace \\?"(?P<scope>[^"\\]+)| at the cluster scope)?"#,
    )
});

pub(super) fn find(scene: &Scene, now: Timestamp) -> Vec<Finding> {
    let found =
        view::failing(scene).filter(|(_, container)| view::ended_by_itself(container)).find_map(|(pod, container)| {
            let logs = view::logs(scene, pod, &container.name).into_iter();
            let mut lines = logs.flat_map(|log| log.lines.iter().rev().map(move |line| (log, line)));
            let (log, line) = lines.find(|(_, line)| FORBIDDEN.is_match(line.text.as_str()))?;
            cause(scene, now, pod, container, (log, line))
        });
    found.into_iter().collect()
}

/// What a line says was refused.
struct Refused {
    namespace: Redacted,
    account: Redacted,
    verb: Redacted,
    resource: Redacted,
    /// `in namespace x`.
    place: Redacted,
    /// The API server's own words.
    whole: Redacted,
}

impl Refused {
    fn in_line(line: &LogLine) -> Option<Self> {
        let captures = FORBIDDEN.captures(line.text.as_str())?;
        let part = |name: &str| captures.name(name).and_then(|found| line.text.part(found.as_str()));
        let place = match part("scope") {
            Some(scope) => text!("in namespace {}", scope),
            None => "at the cluster scope".into(),
        };
        Some(Self {
            namespace: part("namespace")?,
            account: part("account")?,
            verb: part("verb")?,
            resource: part("resource")?,
            place,
            whole: line.text.part(&captures[0])?,
        })
    }
}

/// With what the refusals began, as far as it shows.
fn began(scene: &Scene, blame: Option<&Blame<'_>>, lines: &[&DiffLine], now: Timestamp) -> Redacted {
    match blame.filter(|_| !lines.is_empty()) {
        Some(blame) => {
            let (number, at) = (blame.newest.number, say::at(blame.since(), now));
            text!(" It began with revision {} ({}): {}.", number, at, blame.say(lines))
        }
        // The template that is refused now ran before: the permission is what changed.
        None if ran_well(scene, now) => {
            " The template ran before with this account, so a role or its binding was probably changed or taken away (firstlook reads neither).".into()
        }
        None => " Either a role or its binding was taken away, or it was never given.".into(),
    }
}

fn cause(
    scene: &Scene,
    now: Timestamp,
    pod: &Pod,
    container: &ContainerState,
    (log, line): (&LogTail, &LogLine),
) -> Option<Finding> {
    let Refused { namespace, account, verb, resource, place, whole } = Refused::in_line(line)?;
    let ends = view::last_end(container).map_or_else(Redacted::default, |end| {
        text!(", and container {} exits with code {}", container.name, end.exit_code)
    });
    let blame = rollout::blame(scene);
    let lines = blame.as_ref().map_or_else(Vec::new, |blame| {
        let fields = ["serviceaccount", "image", "args", "command", "env"];
        blame.lines_of(&container.name, |line| rollout::is_field(line, &fields))
    });
    let by = began(scene, blame.as_ref(), &lines, now);
    let says = text!(
        "The API server refuses service account {}/{}: it may not {} {} {} (forbidden){}.{}",
        namespace,
        account,
        verb,
        resource,
        place,
        ends,
        by,
    );
    let mut citations: Vec<_> =
        proof::line(scene, log, line).or_else(|| proof::quote(scene, log.at, &whole)).into_iter().collect();
    citations.extend(view::last_end(container).and_then(|end| proof::exit_code(scene, pod, end.exit_code)));
    let advice = text!(
        "Compare the roles and bindings of service account {}/{} with what it needs ({} {} {}); the API server's audit log, where it is on, says who changed them.",
        namespace,
        account,
        verb,
        resource,
        place,
    );
    Some(Finding {
        citations,
        revision: blame.as_ref().filter(|_| !lines.is_empty()).map(|blame| blame.newest.number),
        proposal: blame.as_ref().filter(|_| !lines.is_empty()).and_then(|blame| blame.undo(scene)),
        ending: view::last_end(container).is_some(),
        advice: Some(advice),
        ..Finding::new(
            "api-forbidden",
            Role::Cause,
            // A program may live with a refusal that it logs on the way.
            if view::is_last_word(scene, pod, container, line) { Certainty::Likely } else { Certainty::Possible },
            &scene.subject,
            says,
            text!("service account {} may not {} {}", account, verb, resource).cut(90),
        )
    })
}

/// A template that ran this long before the trouble ran well with the permissions of then, in seconds (an hour).
const RAN_WELL_SECONDS: i64 = 3600;

fn ran_well(scene: &Scene, now: Timestamp) -> bool {
    let newest = scene.revisions.items().iter().find(|revision| revision.current);
    let began = view::trouble_began(scene).unwrap_or(now);
    newest.is_some_and(|newest| say::seconds(newest.created_at, began) >= RAN_WELL_SECONDS)
}
