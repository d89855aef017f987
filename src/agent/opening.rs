//! What a good on-call would look at first, in lines for a model: heard, changed, found, state, around. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;

use crate::agent::prompt::fence;
use crate::clock::words;
use crate::model::scene::{Change, ContainerState, DiffLine, Event, LogTail, Pod, State, Terminated, Workload};
use crate::model::{Approval, Card, Finding, Kind, Origin, Past, Reading, Role, Scene, Verification};
use crate::redact::Redacted;
use crate::text;

/// Lines of each part and their length: with all parts full the first request stays below 3,500 tokens.
const PART_MAX_LINES: usize = 8;
const LINE_MAX_CHARS: usize = 300;
/// A finding tells the whole mechanism in one sentence, with its quotes behind it.
const FINDING_MAX_CHARS: usize = 420;
/// Of each quote as much as makes it one, word for word.
const QUOTE_MAX_CHARS: usize = 100;
/// Quotes behind one finding.
const QUOTES_MAX: usize = 2;
/// Lines of a log's end: the last words and what led to them.
const LOG_LINES: usize = 5;
/// Of each kind as many as tell a story within the first request's tokens; how many more there are is said.
const CHANGES_MAX: usize = 4;
const DIFF_MAX: usize = 8;
const LOGS_MAX: usize = 3;
const EVENTS_MAX: usize = 4;
const SERVICES_MAX: usize = 2;
const NEIGHBOURS_MAX: usize = 5;

/// One titled list of the task.
#[derive(Debug, Serialize)]
pub(super) struct Part {
    title: &'static str,
    lines: Vec<String>,
}

/// All of them; those without a line are left out.
pub(super) fn parts(card: &Card, now: Timestamp) -> Vec<Part> {
    let scene = card.scene.as_deref();
    let of = |read: fn(&Scene) -> Vec<String>| scene.map(read).unwrap_or_default();
    let found = "Found by rules; `quotes` stand word for word in the evidence named, ready to be cited";
    let parts = [
        ("Heard", heard(card), LINE_MAX_CHARS, "list_events"),
        ("Done already, in vain", tried(card, now), FINDING_MAX_CHARS, ""),
        ("What changed", changes(card, now), LINE_MAX_CHARS, "what_changed"),
        (found, card.findings.iter().filter(|f| f.role != Role::Context).map(finding).collect(), FINDING_MAX_CHARS, ""),
        ("State", of(state), LINE_MAX_CHARS, "get_workload"),
        ("Log ends (lines with the times they came)", of(logs), FINDING_MAX_CHARS, "pod_logs"),
        ("Warning events", of(events), LINE_MAX_CHARS, "list_events"),
        ("Around it", of(around), LINE_MAX_CHARS, "list_workloads"),
        ("Seen before", before(card, now), LINE_MAX_CHARS, "similar_incidents"),
        ("Could not be read", of(missing), LINE_MAX_CHARS, ""),
    ];
    let part = |(title, lines, max_chars, tool): (&'static str, Vec<String>, usize, &'static str)| {
        let cut = more(lines.len(), PART_MAX_LINES, tool);
        let lines = lines.iter().take(PART_MAX_LINES).map(|line| fence(line, max_chars));
        Part { title, lines: lines.chain(cut).collect() }
    };
    parts.into_iter().map(part).filter(|part| !part.lines.is_empty()).collect()
}

/// What to say where of `all` things only so many are shown, and which tool tells the others.
fn more(all: usize, shown: usize, tool: &str) -> Option<String> {
    let by = if tool.is_empty() { String::new() } else { format!(": {tool}") };
    (all > shown).then(|| format!("({} more{by})", all - shown))
}

fn heard(card: &Card) -> Vec<String> {
    let heard = &card.heard;
    let mut lines = Vec::new();
    if heard.alerts > 0 {
        let names: Vec<&str> = heard.alert_names.iter().map(Redacted::as_str).collect();
        lines.push(format!("{} alerts, {} firing: {}", heard.alerts, heard.alerts_firing, names.join(", ")));
    }
    lines.extend(heard.says.iter().map(|says| format!("the newest says: {says}")));
    lines.extend(unnamed(card));
    if heard.warnings + heard.rollouts > 0 {
        lines.push(format!("{} warnings, {} rollouts", heard.warnings, heard.rollouts));
    }
    let others: Vec<String> = card.incident.also.iter().take(5).map(ToString::to_string).collect();
    if !others.is_empty() {
        lines.push(format!("signals are of {} too", others.join(", ")));
    }
    // What many signals have in common is told once.
    let why: BTreeSet<&str> = card.incident.why.iter().map(|why| why.sentence.as_str()).collect();
    lines.extend(why.into_iter().take(3).map(str::to_owned));
    lines
}

/// Of an alert that names no object: what its labels say, and where to look.
fn unnamed(card: &Card) -> Vec<String> {
    if card.incident.subject.kind != Kind::Alert {
        return Vec::new();
    }
    let also = card.incident.also.iter();
    let namespaces: Vec<&str> = also.filter(|o| o.kind == Kind::Namespace).map(|o| o.name()).collect();
    let labels: Vec<&str> = card.heard.labels.iter().map(Redacted::as_str).collect();
    let mut lines = Vec::new();
    if !labels.is_empty() {
        lines.push(format!("its labels: {}", labels.join(", ")));
    }
    lines.push(match namespaces[..] {
        [] => "no object and no namespace is named: no workload can be read here; what cannot be known is unknown".into(),
        _ => format!(
            "no object is named: list_workloads of namespace {} shows what is in trouble there; what is healthy is not the cause",
            namespaces.join(", ")
        ),
    });
    lines
}

/// What was carried out and did not help, first to last, and the model's report that stood before it.
fn tried(card: &Card, now: Timestamp) -> Vec<String> {
    let mut lines: Vec<String> = card.approvals.iter().rev().filter_map(|approval| in_vain(approval, now)).collect();
    let in_doubt = card.incident.investigation.is_in_doubt();
    let before = card.report.as_ref().filter(|report| in_doubt && report.origin == Origin::Model);
    lines.extend(before.map(|report| format!("the report before it said: {}; {}", report.headline, report.cause)));
    lines
}

fn in_vain(approval: &Approval, now: Timestamp) -> Option<String> {
    let (at, why) = approval.in_vain()?;
    let action = approval.action.as_ref()?;
    let finished = approval.execution.as_ref().and_then(|execution| execution.finished_at);
    let ago = words(now.duration_since(finished.unwrap_or(at)).as_secs());
    let came = match &approval.verification {
        Verification::Worse { before, ready, .. } => format!("it made things worse, {ready} ready, {before} before"),
        _ => "it did not help".to_owned(),
    };
    let (tool, done) = (action.tool(), action.words());
    Some(format!("{tool} of {} ({}{}), {ago} ago: {came}: {why}", action.object(), done.done, done.done_after))
}

fn changes(card: &Card, now: Timestamp) -> Vec<String> {
    let changes = card.scene.as_ref().map(|scene| scene.changes.items()).unwrap_or_default();
    let told = changes.iter().take(CHANGES_MAX).map(|change| change_line(change, now));
    told.chain(more(changes.len(), CHANGES_MAX, "what_changed")).collect()
}

fn change_line(change: &Change, now: Timestamp) -> String {
    let ago = words(now.duration_since(change.changed_at).as_secs());
    let revision = change.to_revision.map(|number| format!(" revision {number}")).unwrap_or_default();
    let by = change.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    let lines = change.lines.iter().take(DIFF_MAX).map(|line| diff_line(line).to_string());
    let lines: Vec<String> = lines.chain(more(change.lines.len(), DIFF_MAX, "what_changed")).collect();
    let what = if lines.is_empty() { "changed".to_owned() } else { lines.join("; ") };
    format!("{}{revision}, {ago} ago{by} [{}]: {what}", change.object, change.at.evidence)
}

fn diff_line(line: &DiffLine) -> Redacted {
    let none = Redacted::literal("(none)");
    text!(
        "{}: {} -> {}",
        line.field,
        line.before.as_ref().unwrap_or(&none).cut(80),
        line.after.as_ref().unwrap_or(&none).cut(80)
    )
}

/// A finding with the quotes that prove it: what is cited need not be read again.
fn finding(finding: &Finding) -> String {
    let mut quotes: Vec<String> = Vec::new();
    for citation in &finding.citations {
        let quote: String = citation.quote.as_str().chars().take(QUOTE_MAX_CHARS).collect();
        let told = format!("{} `{quote}`", citation.evidence);
        if !quotes.contains(&told) && quotes.len() < QUOTES_MAX {
            quotes.push(told);
        }
    }
    let proof = if quotes.is_empty() { String::new() } else { format!(" [{}]", quotes.join(" ")) };
    // The quotes have their room: a sentence cut in the middle can be read again, they could not.
    let room = FINDING_MAX_CHARS.saturating_sub(proof.chars().count() + 12);
    format!("{}: {}{proof}", role(finding.role), finding.says.cut(room))
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Change => "change",
        Role::Cause => "cause",
        Role::Mechanism => "mechanism",
        Role::Symptom => "symptom",
        Role::RuledOut => "ruled out",
        Role::Context => "context",
    }
}

fn state(scene: &Scene) -> Vec<String> {
    let mut lines: Vec<String> = scene.workload.known().and_then(Option::as_ref).map(workload).into_iter().collect();
    let unwell: Vec<&Pod> = scene.pods.items().iter().filter(|pod| !pod.ready && !pod.deleting).collect();
    lines.extend(unwell.iter().take(2).map(|one| pod(one)));
    if unwell.len() > 2 {
        lines.push(format!("{} more pods are not ready: get_workload", unwell.len() - 2));
    }
    lines
}

fn workload(workload: &Workload) -> String {
    let mut line = format!("{}: {} of {} pods ready", workload.object, workload.ready, workload.wanted);
    line.extend(workload.revision.map(|number| format!(", revision {number}")));
    line.extend(workload.gitops.as_ref().map(|tool| format!(", managed by {tool}")));
    line.push_str(if workload.paused { ", paused" } else { "" });
    line.push_str(if workload.suspended { ", suspended" } else { "" });
    let failed = |condition: &&crate::model::scene::Condition| condition.status.as_str() == "False";
    line.extend(
        workload.conditions.iter().filter(failed).take(2).map(|c| format!(", {} is False ({})", c.kind, c.reason)),
    );
    format!("{line} [{}]", workload.at.evidence)
}

fn pod(pod: &Pod) -> String {
    let mut told = vec![pod.phase.to_string()];
    told.extend(Some(&pod.reason).filter(|reason| !reason.is_empty()).map(ToString::to_string));
    told.extend(pod.containers.iter().filter(|container| !container.ready).take(3).map(container));
    let on = pod.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
    format!("{}{on}: {} [{}]", pod.object, told.join("; "), pod.at.evidence)
}

fn container(container: &ContainerState) -> String {
    let now = match &container.state {
        // Of a back-off the message only repeats the pod's name.
        State::Waiting { reason, .. } if reason.as_str() == "CrashLoopBackOff" => format!("waits ({reason})"),
        State::Waiting { reason, message } => format!("waits ({reason}) {}", message.cut(100)),
        State::Running { .. } => "runs, not ready".to_owned(),
        State::Terminated(end) => ended(end),
        State::Unknown => "in an unknown state".to_owned(),
    };
    let before = container.last.as_ref().map(|end| format!(", before that it {}", ended(end))).unwrap_or_default();
    let limit = container.memory_limit.as_ref().map(|limit| format!(", memory limit {limit}")).unwrap_or_default();
    let init = if container.init { "init container " } else { "" };
    format!("{init}{} {}{before}, {} restarts{limit}", container.name, now.trim_end(), container.restarts)
}

fn ended(end: &Terminated) -> String {
    let ran = match (end.started_at, end.finished_at) {
        (Some(from), Some(to)) => format!(" after {}", words(to.duration_since(from).as_secs())),
        _ => String::new(),
    };
    format!("ended {} (exit code {}){ran}", end.reason, end.exit_code)
}

/// The ends of logs that say different things: pods of one kind mostly say the same.
fn logs(scene: &Scene) -> Vec<String> {
    let mut said = BTreeSet::new();
    let mut lines = Vec::new();
    for log in
        scene.logs.items().iter().filter(|log| log.lines.last().is_some_and(|last| said.insert(last.text.as_str())))
    {
        lines.push(log_line(log));
    }
    let cut = more(lines.len(), LOGS_MAX, "pod_logs");
    lines.truncate(LOGS_MAX);
    lines.extend(cut);
    lines
}

fn log_line(log: &LogTail) -> String {
    let from = log.lines.len().saturating_sub(LOG_LINES);
    let told: Vec<String> = log.lines[from..].iter().map(|l| format!("x{} `{}`", l.count, l.text.cut(140))).collect();
    let run = if log.previous { ", its run before" } else { "" };
    // The last words count most: where there is no room, what led to them goes.
    let room = FINDING_MAX_CHARS - 120;
    let mut first = 0;
    while first + 1 < told.len() && told[first..].iter().map(|line| line.chars().count() + 2).sum::<usize>() > room {
        first += 1;
    }
    format!("{} {}{run} [{}]: {}", log.pod.name, log.container, log.at.evidence, told[first..].join("  "))
}

/// Warnings by reason, the newest message of each: ten pods that say the same are one line.
fn events(scene: &Scene) -> Vec<String> {
    let mut groups: Vec<(&Event, u32, BTreeSet<&str>)> = Vec::new();
    for event in scene.events.items().iter().filter(|event| event.warning) {
        match groups
            .iter_mut()
            .find(|(first, ..)| first.reason == event.reason && first.object.kind == event.object.kind)
        {
            Some((_, count, objects)) => {
                *count += event.count;
                objects.insert(event.object.name());
            }
            None => groups.push((event, event.count, BTreeSet::from([event.object.name()]))),
        }
    }
    let line = |(event, count, objects): &(&Event, u32, BTreeSet<&str>)| {
        let others = if objects.len() > 1 { format!(" and {} others", objects.len() - 1) } else { String::new() };
        format!(
            "{}{others} {} x{count} [{}]: `{}`",
            event.object,
            event.reason,
            event.at.evidence,
            event.message.cut(160)
        )
    };
    groups.iter().take(EVENTS_MAX).map(line).chain(more(groups.len(), EVENTS_MAX, "list_events")).collect()
}

/// Who else suffers, and who does not.
fn around(scene: &Scene) -> Vec<String> {
    let mut lines = Vec::new();
    let services = scene.services.items();
    for service in services.iter().take(SERVICES_MAX) {
        let all = service.ready_endpoints + service.not_ready_endpoints;
        lines.push(format!(
            "{}: {} of {all} endpoints ready ({})",
            service.object, service.ready_endpoints, service.because
        ));
    }
    lines.extend(more(services.len(), SERVICES_MAX, "get_object Service"));
    let others = scene.neighbours.items();
    let told = others.iter().take(NEIGHBOURS_MAX);
    let told = told.map(|other| format!("{} {} of {} ready", other.object.name(), other.ready, other.wanted));
    let others: Vec<String> = told.chain(more(others.len(), NEIGHBOURS_MAX, "list_workloads")).collect();
    if !others.is_empty() {
        lines.push(format!("other workloads: {}", others.join(", ")));
    }
    let sick = scene.nodes.items().iter().filter(|node| node.ready != Some(true) || node.unschedulable);
    lines.extend(sick.take(2).map(|node| {
        let ready = if node.ready == Some(true) { "ready" } else { "not ready" };
        let cordoned = if node.unschedulable { ", cordoned" } else { "" };
        format!("{}: {ready}{cordoned} [{}]", node.object, node.at.evidence)
    }));
    lines
}

/// The incidents of before that are like this one; the tool tells more of each.
fn before(card: &Card, now: Timestamp) -> Vec<String> {
    let line = |past: &Past| {
        let ago = words(now.duration_since(past.incident.began_at).as_secs());
        let story = past.report.as_ref().map(|report| report.headline.clone()).unwrap_or_default();
        format!("{}, {ago} ago: {}; {}", past.incident.subject, story.cut(120), past.ended())
    };
    if card.past.is_empty() {
        return vec!["nothing like it is stored".to_owned()];
    }
    card.past.iter().take(2).map(line).collect()
}

fn missing(scene: &Scene) -> Vec<String> {
    let missing = scene.evidence.iter().filter_map(|evidence| match &evidence.reading {
        Reading::Missing(why) => Some(format!("{}: {why}", evidence.tool)),
        Reading::Segments(_) => None,
    });
    missing.collect()
}
