//! Rollouts: which revision brought the trouble, with the exact difference; and which one did not.

use jiff::Timestamp;

use super::lines;
use super::proof;
use super::refusals;
use super::say;
use super::view;
use super::worked;
use crate::model::action::Proposal;
use crate::model::evidence::Citation;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::object::Kind;
use crate::model::scene::{Change, DiffLine, Pod, Revision, Scene};
use crate::redact::Redacted;
use crate::text;

/// The rule that blames a revision as such: the least that can be said of a cause.
pub(super) const BAD_REVISION: &str = "bad-revision";

/// Trouble that begins within this after a rollout began with it: the time to pull, start and fail a few times.
pub(super) const WITH_THE_ROLLOUT_SECONDS: i64 = 600;
/// A revision that ran well this long is not what broke now.
pub(super) const PROVEN_SECONDS: i64 = 3600;

/// The newest revision brought the trouble, or did not end it: all its pods are in trouble, and an earlier one works, or
/// worked until it was replaced.
pub(super) struct Blame<'a> {
    pub(super) newest: &'a Revision,
    /// The newest of the earlier ones that works or worked.
    pub(super) previous: &'a Revision,
    /// Its pods that are ready.
    serving: u32,
    /// What came after it, the first such: the newest one, unless others between them failed too.
    next: &'a Revision,
    /// How long the previous one ran until that came, in seconds.
    ran: i64,
    /// What came since the previous one, newest first: several, where it was to mend what another brought.
    changes: Vec<&'a Change>,
    /// When the first of these came to run: a rollback gives an old template a new number, so its age will not do.
    since: Timestamp,
    /// All that differs from the previous one.
    lines: Vec<DiffLine>,
}

impl<'a> Blame<'a> {
    fn of(scene: &'a Scene, newest: &'a Revision, previous: &'a Revision) -> Self {
        let between = |revision: &&Revision| revision.number > previous.number;
        let next = scene.revisions.items().iter().filter(between).min_by_key(|revision| revision.number);
        let next = next.unwrap_or(newest);
        Self {
            newest,
            previous,
            serving: worked::serving(scene, previous),
            next,
            ran: say::seconds(worked::came_at(scene, previous), worked::came_at(scene, next)),
            changes: changes_since(scene, previous),
            since: worked::came_at(scene, next),
            lines: lines::since(scene, previous, newest),
        }
    }

    /// The differences from the previous revision in fields that `explains` accepts.
    pub(super) fn lines(&self, explains: impl Fn(&DiffLine) -> bool) -> Vec<&DiffLine> {
        self.lines.iter().filter(|line| explains(line)).collect()
    }

    /// Those of them that this container has a part in: its own, and those of the whole pod.
    pub(super) fn lines_of(&self, container: &Redacted, explains: impl Fn(&DiffLine) -> bool) -> Vec<&DiffLine> {
        self.lines(|line| line.container.as_ref().is_none_or(|own| own == container) && explains(line))
    }

    /// Back to the revision before; not where a GitOps tool would revert it.
    pub(super) fn undo(&self, scene: &Scene) -> Option<Proposal> {
        let workload = view::workload(scene)?;
        let possible = matches!(workload.object.kind, Kind::Deployment | Kind::StatefulSet | Kind::DaemonSet)
            && workload.gitops.is_none();
        possible
            .then(|| Proposal::RolloutUndo { object: workload.object.clone(), to_revision: Some(self.previous.number) })
    }

    /// `Revision 7`, to begin a sentence with; `Revisions 7 to 9`, where the differences are not of the newest alone.
    pub(super) fn name(&self) -> Redacted {
        match self.next.number == self.newest.number {
            true => text!("Revision {}", self.newest.number),
            false => text!("Revisions {} to {}", self.next.number, self.newest.number),
        }
    }

    /// When the first of these came to run.
    pub(super) fn since(&self) -> Timestamp {
        self.since
    }

    /// Who brought all of them, as far as that is known; empty otherwise.
    fn by(&self) -> Redacted {
        let mut all = self.changes.iter().map(|change| change.by.as_ref());
        let first = all.next().flatten();
        first.filter(|first| all.all(|by| by == Some(*first))).map_or_else(Redacted::default, |by| text!(", by {}", by))
    }

    /// The differences in one phrase, at most three of them.
    pub(super) fn say(&self, lines: &[&DiffLine]) -> Redacted {
        let several = self.newest.template.containers.len() > 1;
        let said: Vec<Redacted> = lines.iter().map(|line| say::diff(line, several)).collect();
        say::list(&said, 3)
    }

    /// What the lines did to it: `changed image a → b`, or `added env POOL (200)`.
    pub(super) fn did(&self, lines: &[&DiffLine]) -> Redacted {
        let one_sided = lines.first().is_some_and(|line| line.before.is_none() != line.after.is_none());
        if one_sided { self.say(lines) } else { text!("changed {}", self.say(lines)) }
    }

    /// `Revision 7 (14:02 UTC) changed image a → b; ` and what became of the revision before. No full stop.
    pub(super) fn came(&self, lines: &[&DiffLine], now: Timestamp) -> Redacted {
        text!("{} ({}) {}; {}", self.name(), say::at(self.since(), now), self.did(lines), earlier(self))
    }

    /// The difference, quoted: with its field, where that stands beside it.
    pub(super) fn citation(&self, scene: &Scene, line: Option<&DiffLine>) -> Option<Citation> {
        let line = line?;
        let values = [&line.after, &line.before].into_iter().flatten();
        let quotes: Vec<Redacted> =
            values.flat_map(|value| [text!("{}: {}", line.field, value), value.clone()]).collect();
        self.changes.iter().find_map(|change| proof::first(scene, change.at, &quotes))
    }
}

/// The newest revision, if the trouble provably began with it, or with one that it was to mend.
pub(super) fn blame(scene: &Scene) -> Option<Blame<'_>> {
    let newest = running(scene)?;
    let of_newest = |pod: &&Pod| pod.template.as_deref() == Some(newest.hash.as_str());
    let troubled = view::troubled(scene).count();
    let only_newest = troubled > 0 && view::troubled(scene).all(|pod| of_newest(&pod));
    let all_newest = view::pods(scene).filter(of_newest).all(|pod| view::is_troubled(pod, scene.read_at));
    if !(only_newest && all_newest) {
        return None;
    }
    let previous = worked::still_serving(scene, newest).or_else(|| worked::worked(scene, newest))?;
    Some(Blame::of(scene, newest, previous))
}

/// The newest revision, if it has no pod because each is refused at its creation, while an earlier one still serves.
pub(super) fn unborn(scene: &Scene) -> Option<Blame<'_>> {
    let newest = running(scene)?;
    let none = scene.pods.known()?.iter().all(|pod| pod.template.as_deref() != Some(newest.hash.as_str()));
    let refused = refusals::refused(scene).any(|event| event.object == newest.object);
    let previous = worked::still_serving(scene, newest).filter(|_| none && refused && newest.wanted > 0)?;
    Some(Blame::of(scene, newest, previous))
}

/// The revision that the workload's present template is.
fn running(scene: &Scene) -> Option<&Revision> {
    scene.revisions.items().iter().find(|revision| revision.current)
}

/// The changes of the subject's template since this revision, newest first.
fn changes_since<'a>(scene: &'a Scene, previous: &Revision) -> Vec<&'a Change> {
    let changes = scene.changes.items().iter().filter(|change| change.object == scene.subject);
    let mut since: Vec<&Change> = changes.filter(|c| c.to_revision.is_some_and(|to| to > previous.number)).collect();
    since.sort_by_key(|change| std::cmp::Reverse(change.to_revision));
    since
}

/// The change of the subject's template that made this revision.
pub(super) fn change_to<'a>(scene: &'a Scene, revision: &Revision) -> Option<&'a Change> {
    let changes = scene.changes.items().iter();
    changes.filter(|change| change.object == scene.subject).find(|change| change.to_revision == Some(revision.number))
}

/// Whether a difference is in this field of a template (`image`, `env DB_POOL`, `limits memory`).
pub(super) fn is_field(line: &DiffLine, names: &[&str]) -> bool {
    let field = line.field.as_str().to_ascii_lowercase();
    names.iter().any(|name| field == *name || field.split([' ', '.', '/', '[']).next() == Some(name))
}

/// Fields that can make a process that ran before end or fail its probes.
const RUNNING: [&str; 18] = [
    "image",
    "command",
    "args",
    "env",
    "envfrom",
    "volume",
    "volumes",
    "volumemounts",
    "workingdir",
    "probe",
    "port",
    "limit",
    "serviceaccount",
    "securitycontext",
    "lifecycle",
    "hostnetwork",
    "dnspolicy",
    "hostaliases",
];

pub(super) fn find(scene: &Scene, now: Timestamp) -> Vec<Finding> {
    let mut found = Vec::new();
    match blame(scene) {
        Some(blame) => found.extend(brought(scene, now, &blame)),
        None => found.extend(not_this(scene, now)),
    }
    found.extend(stuck(scene, now));
    found
}

/// The change itself, and, where its pods run and fail, the revision as the likely cause.
fn brought(scene: &Scene, now: Timestamp, blame: &Blame<'_>) -> Vec<Finding> {
    let lines = blame.lines(|_| true);
    let by = blame.by();
    let since = say::at(blame.since(), now);
    let did = if lines.is_empty() { "changed the pod template".into() } else { blame.did(&lines) };
    let before = earlier(blame);
    let says = text!("{} ({}{}) {}; {}.", blame.name(), since, by, did, before);
    let brief = text!("since revision {}", blame.next.number);
    let citations: Vec<Citation> = lines.iter().filter_map(|line| blame.citation(scene, Some(line))).take(2).collect();
    let mut found = vec![Finding {
        citations: citations.clone(),
        ..Finding::new("revision-change", Role::Change, Certainty::Proved, &scene.subject, says, brief)
    }];
    let ran = view::failing(scene).any(|(_, container)| view::last_end(container).is_some() || container.restarts > 0);
    let explaining = blame.lines(|line| is_field(line, &RUNNING) && !lines::is_raise(line));
    if ran && !explaining.is_empty() {
        let said = blame.say(&explaining);
        let number = blame.newest.number;
        let did = blame.did(&explaining);
        let says = match blame.next.number == number {
            true => text!("The trouble began with revision {} ({}), which {}; {}.", number, since, did, before),
            false => text!("{} ({}) {}, and the pods fail; {}.", blame.name(), since, did, before),
        };
        let brief = text!("since revision {} ({})", number, said).cut(90);
        // The one change is another image: whoever took the same one may fail for the same reason.
        let image = lines.first().filter(|line| lines.len() == 1 && is_field(line, &["image"]));
        found.push(Finding {
            citations,
            shared: image.and_then(|line| line.after.as_ref()).map(|image| text!("image {}", image)),
            revision: Some(blame.newest.number),
            proposal: blame.undo(scene),
            ..Finding::new(BAD_REVISION, Role::Cause, Certainty::Likely, &scene.subject, says, brief)
        });
    }
    found
}

/// What speaks for the revision before: its pods serve, or ran until it was replaced.
pub(super) fn earlier(blame: &Blame<'_>) -> Redacted {
    let (previous, next) = (blame.previous, blame.next.number);
    let at_once = next == blame.newest.number;
    if blame.serving > 0 {
        let pods = say::count(blame.serving, "pod", "pods");
        let serves = if blame.serving == 1 { "serves" } else { "serve" };
        let failed = match at_once {
            true => Redacted::default(),
            false => text!(", which revision {} did not replace either", next),
        };
        return text!("{} of revision {} still {}{}", pods, previous.number, serves, failed);
    }
    let ran = say::span(blame.ran);
    match at_once {
        true => text!("revision {} ran {} before it", previous.number, ran),
        false => text!("revision {} ran {} before revision {}", previous.number, ran, next),
    }
}

/// The running revision as ruled out, when it has run well for long, or other pods of it are healthy.
fn not_this(scene: &Scene, now: Timestamp) -> Option<Finding> {
    let newest = running(scene)?;
    if let Some(finding) = older_than(scene, now, newest) {
        return Some(finding);
    }
    let began = view::trouble_began(scene);
    let until = began.or_else(|| first_complaint(scene))?;
    let since = worked::came_at(scene, newest);
    let ran = say::seconds(since, until);
    let healthy = view::pods(scene)
        .filter(|pod| pod.template.as_deref() == Some(newest.hash.as_str()))
        .filter(|pod| !view::is_troubled(pod, scene.read_at))
        .count() as u32;
    let proven = ran >= PROVEN_SECONDS || (ran > WITH_THE_ROLLOUT_SECONDS && healthy > 0);
    if !proven {
        return None;
    }
    let others = match healthy {
        0 => Redacted::default(),
        n => text!(", and {} of it {} ready", say::count(n, "pod", "pods"), if n == 1 { "is" } else { "are" }),
    };
    let says = text!(
        "Not a rollout: revision {} has run since {}, {} before the trouble began{}.",
        newest.number,
        say::at(since, now),
        say::span(ran),
        others,
    );
    let brief = match idle(scene, newest) {
        Some(what) => text!(
            "a rollout (revision {} changed only {}, and had run {} when the trouble began)",
            newest.number,
            what,
            say::span(ran),
        ),
        None => text!("a rollout (revision {} had run {} when the trouble began)", newest.number, say::span(ran)),
    };
    Some(Finding::new("revision-ruled-out", Role::RuledOut, Certainty::Proved, &scene.subject, says, brief))
}

/// A revision that came while the Deployment was unavailable already. The one before may have brought that.
fn older_than(scene: &Scene, now: Timestamp, newest: &Revision) -> Option<Finding> {
    let turned = worked::turned_at(scene).filter(|turned| worked::is_older(scene, *turned, newest))?;
    let available = view::condition(&view::workload(scene)?.conditions, "Available")?;
    let came = worked::came_at(scene, newest);
    let says = text!(
        "Not revision {} ({}): {} was not available since {} already, {} before it came.",
        newest.number,
        say::at(came, now),
        scene.subject,
        say::at(turned, now),
        say::span(say::seconds(turned, came)),
    );
    let brief =
        text!("revision {} (it came {} into the trouble)", newest.number, say::span(say::seconds(turned, came)));
    Some(Finding {
        citations: proof::field(scene, view::workload(scene)?.at, "reason", &available.reason).into_iter().collect(),
        // Unavailable may mean one pod of many: the rest may fail only since.
        ..Finding::new("revision-ruled-out", Role::RuledOut, Certainty::Likely, &scene.subject, says, brief)
    })
}

/// What a revision changed, if that is nothing a program notices: labels, annotations, a restart.
fn idle(scene: &Scene, newest: &Revision) -> Option<Redacted> {
    let lines = &change_to(scene, newest)?.lines;
    let harmless = lines.iter().all(|line| is_field(line, &["label", "annotation", "restart"]));
    let fields: Vec<Redacted> = lines.iter().map(|line| line.field.clone()).collect();
    (harmless && !fields.is_empty()).then(|| say::list(&fields, 2))
}

/// When the logs of a subject whose pods are ready first speak of trouble.
fn first_complaint(scene: &Scene) -> Option<Timestamp> {
    view::lines(scene, |line| view::is_telling(&line.text)).filter_map(|(_, line)| line.first_at).min()
}

/// A rollout that the cluster itself calls stuck.
fn stuck(scene: &Scene, now: Timestamp) -> Option<Finding> {
    let workload = view::workload(scene)?;
    let progressing = view::condition(&workload.conditions, "Progressing")?;
    if progressing.reason.as_str() != "ProgressDeadlineExceeded" || progressing.status.as_str() != "False" {
        return None;
    }
    let since = progressing.changed_at.map_or_else(Redacted::default, |at| text!(" since {}", say::at(at, now)));
    let says = text!(
        "The rollout of {} has made no progress{}: {} of {} pods are updated, {} ready.",
        workload.object.name,
        since,
        workload.updated,
        workload.wanted,
        workload.ready,
    );
    let brief = "the rollout is stuck".into();
    Some(Finding {
        citations: proof::field(scene, workload.at, "reason", &progressing.reason).into_iter().collect(),
        ..Finding::new("rollout-stuck", Role::Symptom, Certainty::Proved, &workload.object, says, brief)
    })
}
