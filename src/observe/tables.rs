//! Text tables of what was read: one line each, columns apart by ` | `, with a count of what was cut. For evidence and tools.

use jiff::Timestamp;

use crate::clock::words;
use crate::model::scene::{Event, Neighbour, Node, Pod, Revision, State};
use crate::redact::{Redacted, Redactor};
use crate::text;

/// Columns of `pod_row`.
pub const POD_COLUMNS: [&str; 7] = ["pod", "phase", "ready", "restarts", "age", "node", "state"];
/// Columns of `event_row`.
pub const EVENT_COLUMNS: [&str; 6] = ["last seen", "type", "reason", "object", "count", "message"];
/// Columns of `neighbour_row`.
pub const WORKLOAD_COLUMNS: [&str; 4] = ["workload", "ready", "rolled out", "images"];
/// Columns of `node_row`.
pub const NODE_COLUMNS: [&str; 6] = ["node", "ready", "cpu requested/allocatable", "pods", "not ready", "taints"];
/// Columns of `revision_row`.
pub const REVISION_COLUMNS: [&str; 5] = ["revision", "created", "pods", "images", "object"];

/// A header and rows.
pub fn table(columns: &[&'static str], rows: impl IntoIterator<Item = Vec<Redacted>>) -> Redacted {
    let header: Vec<Redacted> = columns.iter().copied().map(Redacted::literal).collect();
    let lines: Vec<Redacted> = std::iter::once(header).chain(rows).map(|row| Redacted::join(&row, " | ")).collect();
    Redacted::join(&lines, "\n")
}

/// The same with at most `max` rows and a last line that counts the rest.
pub fn table_of(columns: &[&'static str], rows: Vec<Vec<Redacted>>, max: usize) -> Redacted {
    let cut = rows.len().saturating_sub(max);
    let text = table(columns, rows.into_iter().take(max));
    if cut == 0 { text } else { text!("{}\n({} more not shown)", text, cut) }
}

/// One pod.
pub fn pod_row(pod: &Pod, now: Timestamp) -> Vec<Redacted> {
    let restarts: u32 = pod.containers.iter().map(|container| container.restarts).sum();
    let ready = pod.containers.iter().filter(|container| container.ready && !container.init).count();
    let main = pod.containers.iter().filter(|container| !container.init).count();
    vec![
        match &pod.object.namespace {
            Some(namespace) => text!("{}/{}", namespace, pod.object.name),
            None => text!("{}", pod.object.name),
        },
        if pod.deleting { text!("{} (deleting)", pod.phase) } else { pod.phase.clone() },
        text!("{}/{}", ready, main),
        text!("{}", restarts),
        age(pod.created_at, now),
        pod.node.clone().unwrap_or(Redacted::literal("-")),
        pod_state(pod),
    ]
}

/// What the pod's containers wait for or ended with, as kubectl's STATUS says it, or the pod's own reason.
fn pod_state(pod: &Pod) -> Redacted {
    let trouble = pod.containers.iter().find_map(|container| match &container.state {
        State::Waiting { reason, .. } => Some(text!("{} {}", container.name, reason)),
        State::Terminated(end) if end.exit_code != 0 => {
            Some(text!("{} {} (exit {})", container.name, end.reason, end.exit_code))
        }
        _ => None,
    });
    let unscheduled = pod.conditions.iter().find(|c| c.kind.as_str() == "PodScheduled" && c.status.as_str() == "False");
    match (&pod.reason, unscheduled, trouble) {
        (reason, _, _) if !reason.is_empty() => reason.clone(),
        (_, Some(condition), _) => condition.reason.clone(),
        (_, _, Some(trouble)) => trouble,
        _ if pod.ready => Redacted::literal("running"),
        _ => Redacted::literal("not ready"),
    }
}

/// One event.
pub fn event_row(event: &Event, now: Timestamp) -> Vec<Redacted> {
    vec![
        age(event.last_at, now),
        Redacted::literal(if event.warning { "Warning" } else { "Normal" }),
        event.reason.clone(),
        text!("{}", event.object),
        text!("{}", event.count),
        event.message.one_line(),
    ]
}

/// One workload.
pub fn neighbour_row(workload: &Neighbour, now: Timestamp) -> Vec<Redacted> {
    vec![
        text!("{}", workload.object),
        text!("{}/{}", workload.ready, workload.wanted),
        workload.rolled_out_at.map_or(Redacted::literal("-"), |at| text!("{} ago", age(at, now))),
        Redacted::join(&workload.images, " "),
    ]
}

/// One node.
pub fn node_row(node: &Node) -> Vec<Redacted> {
    let count = |value: Option<u32>| value.map_or(Redacted::literal("?"), |n| text!("{}", n));
    vec![
        text!("{}", node.object.name),
        Redacted::literal(match node.ready {
            Some(true) => "yes",
            Some(false) => "no",
            None => "unknown",
        }),
        match node.requested_cpu_milli {
            Some(cpu) => text!("{}m/{}m", cpu, node.allocatable_cpu_milli),
            None => text!("?/{}m", node.allocatable_cpu_milli),
        },
        count(node.pods),
        count(node.pods_not_ready),
        Redacted::join(&node.taints, " "),
    ]
}

/// One revision.
pub fn revision_row(revision: &Revision, now: Timestamp) -> Vec<Redacted> {
    let images: Vec<Redacted> = revision.template.containers.iter().map(|container| container.image.clone()).collect();
    vec![
        if revision.current { text!("{} (running)", revision.number) } else { text!("{}", revision.number) },
        text!("{} ago", age(revision.created_at, now)),
        text!("{}/{}", revision.ready, revision.wanted),
        Redacted::join(&images, " "),
        text!("{}", revision.object),
    ]
}

/// How long ago, in words.
fn age(at: Timestamp, now: Timestamp) -> Redacted {
    // Digits and a unit: nothing to redact.
    Redactor::default().redact(&words(now.as_second() - at.as_second()))
}
