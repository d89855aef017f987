//! What is measured of a node against what its conditions say of it.

use jiff::Timestamp;

use crate::findings::proof;
use crate::findings::say;
use crate::model::evidence::Citation;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::scene::{Condition, FIGURE_SECONDS, Figure, Measured, Node, Scene};
use crate::redact::Redacted;
use crate::text;

/// Below this a kubelet reports MemoryPressure unless it is told otherwise (`memory.available<100Mi`). It counts less as
/// available than the kernel does: what the kernel does not have, it has not either.
const MEMORY_SHORT_BYTES: i64 = 100 << 20;
/// Half of what a kubelet is content with unless it is told otherwise (`nodefs.available<10%`); distributions that set
/// another limit set this one.
const DISK_SHORT_PERCENT: i64 = 5;
/// A node with this much left is short by no limit that is in use.
const PLENTY_PERCENT: i64 = 25;

/// The figure that belongs to a condition, where that has stood for as long as was measured.
fn figure<'a>(scene: &'a Scene, node: &Node, condition: &Condition) -> Option<&'a Figure> {
    let of = match condition.kind.as_str() {
        "MemoryPressure" => Measured::Memory,
        "DiskPressure" => Measured::Disk,
        _ => return None,
    };
    let stood = say::seconds(condition.changed_at?, scene.read_at) >= FIGURE_SECONDS;
    let mut own = scene.figures.items().iter().filter(|figure| figure.node == node.object && figure.of == of);
    own.next().filter(|_| stood)
}

fn percent(figure: &Figure, bytes: i64) -> i64 {
    (i128::from(bytes) * 100 / i128::from(figure.total_bytes.max(1))) as i64
}

/// `60Mi of its 16Gi memory`, `3% of the file system of its pods (3Gi of 100Gi)`.
fn amount(figure: &Figure, bytes: i64) -> Redacted {
    let (left, all) = (say::bytes(bytes), say::bytes(figure.total_bytes));
    match figure.of {
        Measured::Memory => text!("{} of its {} memory", left, all),
        Measured::Disk => {
            text!("{}% of the file system of its pods ({} of {})", percent(figure, bytes), left, all)
        }
    }
}

/// That a node is short of what a condition says it is not, all along: as the second half of a sentence, the same in
/// brief, and the proof.
pub(super) fn short(
    scene: &Scene,
    node: &Node,
    condition: &Condition,
) -> Option<(Redacted, Redacted, Option<Citation>)> {
    let figure = figure(scene, node, condition)?;
    let (is_short, limit) = match figure.of {
        Measured::Memory => (figure.most_bytes < MEMORY_SHORT_BYTES, "below 100Mi"),
        Measured::Disk => (percent(figure, figure.most_bytes) < DISK_SHORT_PERCENT, "below 10%"),
    };
    let amount = amount(figure, figure.most_bytes);
    let says = text!(
        "in {} before, at most {} was available by its exporter (a kubelet reports it {} unless told otherwise)",
        say::span(FIGURE_SECONDS),
        amount,
        limit,
    );
    let brief = text!("at most {} is available", amount);
    is_short.then(|| (says, brief, proof::quote(scene, figure.at, &figure.sample(figure.most_bytes))))
}

/// That a node has plenty of what it says it is short of: no cause, and no proof that it is wrong.
pub(super) fn plenty(scene: &Scene, now: Timestamp, node: &Node) -> Option<Finding> {
    let condition = node.pressure()?;
    let figure = figure(scene, node, condition).filter(|f| percent(f, f.least_bytes) > PLENTY_PERCENT)?;
    let or = match figure.of {
        Measured::Memory => "Its kubelet counts the page cache in use as taken, has another limit, or does not look",
        Measured::Disk => "It may be short of inodes or on the file system of images, have another limit, or not look",
    };
    let says = text!(
        "Node {} reports {} since {}, yet in {} before, at least {} was available by its exporter. {}.",
        node.object.name,
        condition.kind,
        condition.changed_at.map_or_else(Redacted::default, |at| say::at(at, now)),
        say::span(FIGURE_SECONDS),
        amount(figure, figure.least_bytes),
        or,
    );
    let reason = proof::field(scene, node.at, "reason", &condition.reason);
    let quote = proof::quote(scene, figure.at, &figure.sample(figure.least_bytes));
    let brief = text!("at least {} is available", amount(figure, figure.least_bytes)).cut(90);
    Some(Finding {
        citations: quote.into_iter().chain(reason).collect(),
        ..Finding::new("pressure-not-measured", Role::Context, Certainty::Likely, &node.object, says, brief)
    })
}
