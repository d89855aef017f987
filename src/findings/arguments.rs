//! Arguments that a program does not know, as its log says, held against what its template passes.

use std::sync::LazyLock;

use jiff::Timestamp;
use regex::Regex;

use super::near;
use super::proof;
use super::rollout;
use super::say;
use super::view;
use crate::model::evidence::Citation;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::object::Kind;
use crate::model::scene::{Change, Container, ContainerState, DiffLine, LogLine, LogTail, Pod, Scene};
use crate::redact::Redacted;
use crate::text;

/// The words of pflag, Go's flag, getopt, argparse, clap, click, Node, the JVM and others.
static UNKNOWN: LazyLock<Regex> = LazyLock::new(|| {
    view::pattern(
        r#"(?ix)
          unknown\ (?:long\ |shorthand\ )?(?:flag|option|argument|parameter|switch|command\ line\ (?:flag|option|argument))s?:?\ *["'`]?(?P<a>-{0,2}[\w][\w.-]*)
        | flag\ provided\ but\ not\ defined:\ *(?P<b>-[\w.-]+)
        | (?:unrecognized|invalid|illegal|bad|unsupported)\ (?:option|argument|flag|parameter)s?:?\ *(?:--\ )?["'`]?(?P<c>-{0,2}[\w][\w.-]*)
        | (?:unexpected|unknown)\ argument\ ["'`](?P<d>[^"'`=\s]+)
        | no\ such\ option:?\ *(?P<e>-{1,2}[\w.-]+)
        | unrecognized\ VM\ option\ '(?P<f>[^']+)'
        "#,
    )
});

pub(super) fn find(scene: &Scene, now: Timestamp) -> Vec<Finding> {
    let found = view::failing(scene).find_map(|(pod, container)| {
        let failed =
            view::last_end(container).is_some_and(|end| end.exit_code != 0 && view::ended_by_itself(container));
        let (log, line, word) = rejected(scene, pod, container).filter(|_| failed)?;
        Some(cause(scene, now, pod, container, (log, line), &word))
    });
    found.into_iter().collect()
}

/// The last line of a container's log that rejects an argument, and the argument.
fn rejected<'a>(
    scene: &'a Scene,
    pod: &'a Pod,
    container: &'a ContainerState,
) -> Option<(&'a LogTail, &'a LogLine, Redacted)> {
    view::logs(scene, pod, &container.name).into_iter().find_map(|log| {
        log.lines.iter().rev().find_map(|line| {
            let captures = UNKNOWN.captures(line.text.as_str())?;
            let word = captures.iter().skip(1).flatten().next()?;
            Some((log, line, line.text.part(word.as_str().trim_end_matches('.'))?))
        })
    })
}

/// The word of a command that carries this argument (`--listen=:80` for `--listen`).
fn given<'a>(container: &'a Container, word: &Redacted) -> Option<&'a Redacted> {
    let bare = |text: &str| text.trim_start_matches('-').split('=').next().unwrap_or("").to_owned();
    let wanted = bare(word.as_str());
    container.command.iter().chain(&container.args).find(|passed| bare(passed.as_str()) == wanted)
}

/// The word of the earlier command that may have been meant.
fn meant<'a>(before: &'a Container, word: &Redacted) -> Option<&'a Redacted> {
    let bare = |text: &str| text.trim_start_matches('-').split('=').next().unwrap_or("").to_owned();
    let wanted = bare(word.as_str());
    let words = before.command.iter().chain(&before.args);
    words.into_iter().find(|was| near::near(&wanted, &bare(was.as_str())).is_some())
}

/// The change of the CronJob since its last good run, where the subject is one of its Jobs.
fn since_last_run<'a>(scene: &'a Scene, word: &Redacted) -> Option<(&'a Change, &'a DiffLine)> {
    let changes = scene.changes.items().iter().filter(|change| change.object.kind == Kind::CronJob);
    changes.flat_map(|change| change.lines.iter().map(move |line| (change, line))).find(|(_, line)| names(line, word))
}

/// Whether a difference of command or arguments brings this argument.
fn names(line: &DiffLine, word: &Redacted) -> bool {
    let brings = line.after.as_ref().is_some_and(|after| after.as_str().contains(word.as_str()));
    rollout::is_field(line, &["args", "command"]) && brings
}

/// How a Job's CronJob changed since its last good run.
fn came_with(change: &Change, line: &DiffLine, now: Timestamp) -> Redacted {
    let by = change.by.as_ref().map_or_else(Redacted::default, |by| text!(" by {}", by));
    let (at, diff) = (say::at(change.changed_at, now), say::diff(line, false));
    text!(" Its {} was changed{} at {}: {}; the run before completed.", change.object.kind, by, at, diff)
}

fn advice(scene: &Scene, container: &ContainerState, word: &Redacted) -> Redacted {
    match scene.subject.kind {
        Kind::Job => {
            text!("Correct the argument {} where the Job is made, then start a new run: this one fails again.", word)
        }
        _ => text!("Correct the argument {} of container {}.", word, container.name),
    }
}

fn cause(
    scene: &Scene,
    now: Timestamp,
    pod: &Pod,
    container: &ContainerState,
    (log, line): (&LogTail, &LogLine),
    word: &Redacted,
) -> Finding {
    let template = view::template(scene, pod).and_then(|template| view::container(template, &container.name));
    let passed = template.and_then(|template| given(template, word));
    let blame = rollout::blame(scene);
    let lines = blame.as_ref().map_or_else(Vec::new, |blame| {
        let own = blame.lines_of(&container.name, |line| names(line, word));
        // A flag that was always passed may be one that the new program no longer knows.
        let image = |line: &DiffLine| rollout::is_field(line, &["image"]);
        if own.is_empty() { blame.lines_of(&container.name, image) } else { own }
    });
    let run = since_last_run(scene, word);
    let before = blame.as_ref().and_then(|blame| view::container(&blame.previous.template, &container.name));
    let slip = before.and_then(|before| meant(before, word)).filter(|was| Some(*was) != passed);
    let came = match (&blame, lines.first(), run) {
        (Some(blame), Some(_), _) => text!(" {}.", blame.came(&lines, now)),
        (_, _, Some((change, line))) => came_with(change, line, now),
        _ => Redacted::default(),
    };
    let where_from = match passed {
        Some(passed) => text!("which its template passes ({})", passed.cut(60)),
        None => "which its template does not pass: it comes from the image or the environment".into(),
    };
    let ends = view::last_end(container).map_or_else(Redacted::default, |end| text!(" exits {}: it", end.exit_code));
    let says =
        text!("Container {}{} does not know the argument {}, {}.{}", container.name, ends, word, where_from, came);
    let brief = match slip {
        Some(was) => text!("unknown argument {} (was {})", word, was.cut(30)),
        None => text!("container {} rejects the argument {}", container.name, word),
    };
    let mut citations: Vec<Citation> = proof::line(scene, log, line).into_iter().collect();
    let at = view::workload(scene).map(|workload| workload.at);
    citations.extend(passed.zip(at).and_then(|(passed, at)| proof::quote(scene, at, passed)));
    citations.extend(blame.as_ref().and_then(|blame| blame.citation(scene, lines.first().copied())));
    citations.extend(view::last_end(container).and_then(|end| proof::exit_code(scene, pod, end.exit_code)));
    Finding {
        citations,
        revision: blame.as_ref().filter(|_| !lines.is_empty()).map(|blame| blame.newest.number),
        proposal: blame.as_ref().filter(|_| !lines.is_empty()).and_then(|blame| blame.undo(scene)),
        ending: view::last_end(container).is_some(),
        advice: Some(advice(scene, container, word)),
        ..Finding::new(
            "unknown-argument",
            Role::Cause,
            certainty(container, passed.is_some()),
            &scene.subject,
            says,
            brief.cut(90),
        )
    }
}

/// A program looks at its arguments first: a run that took longer than this many seconds ended for another reason, or
/// the line is about something else.
const PARSED_SECONDS: i64 = 60;

fn certainty(container: &ContainerState, passed: bool) -> Certainty {
    match (view::ran_seconds(container).is_none_or(|ran| ran <= PARSED_SECONDS), passed) {
        // The program and its template say the same.
        (true, true) => Certainty::Proved,
        (true, false) => Certainty::Likely,
        (false, _) => Certainty::Possible,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_arguments_are_read_from_many_parsers() {
        for (text, wanted) in [
            ("Error: unknown flag: --colour", "--colour"),
            ("flag provided but not defined: -colour", "-colour"),
            ("app: unrecognized option '--colour'", "--colour"),
            ("app: error: unrecognized arguments: --colour", "--colour"),
            ("error: unexpected argument '--colour' found", "--colour"),
            ("Error: No such option: --colour", "--colour"),
            ("node: bad option: --colour", "--colour"),
            ("Unrecognized VM option 'UseColour'", "UseColour"),
        ] {
            let line = Redacted::literal(text);
            let captures = UNKNOWN.captures(line.as_str());
            let word = captures.as_ref().and_then(|found| found.iter().skip(1).flatten().next());
            assert_eq!(word.map(|word| word.as_str()), Some(wanted), "{text}");
        }
        for text in ["parsed all flags", "option --colour is unknown to nobody", "unknown host db"] {
            assert!(!UNKNOWN.is_match(text), "{text}");
        }
    }
}
