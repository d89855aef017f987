//! The one message of a storm: how many incidents there are, what most of them have in common, a line for each.

use jiff::Timestamp;
use slack_morphism::prelude::*;

use crate::clock;
use crate::model::scene::{Node, PRESSURES, Scene};
use crate::model::{Bond, BondKind, Card, Digest, DigestLine, IncidentState, Link, Member, Severity};
use crate::redact::Redacted;
use crate::slack::render::Message;
use crate::slack::render::context;
use crate::slack::render::escape;
use crate::slack::render::push_lines;
use crate::slack::render::section;
use crate::slack::render::states;
use crate::slack::render::{Options, Tone};
use crate::text;

/// Lines of a digest: with its head it fits one phone screen and a half. The others are in its thread, worst first here.
const LINES_MAX: usize = 20;
/// Fewer incidents that have something in common are no pattern.
const ALIKE_MIN: usize = 3;

/// What a digest tells of this incident.
pub fn member(card: &Card) -> Member {
    let incident = &card.incident;
    let mut bonds: Vec<Bond> = card.scene.as_deref().map(nodes).unwrap_or_default();
    let named = |what: Redacted| Bond { kind: BondKind::Cause, what, state: Redacted::default(), since: None };
    bonds.extend(incident.cause.as_ref().map(|cause| named(text!("{}", cause.object))));
    bonds.extend(incident.shares.as_ref().map(|shared| named(shared.what.clone())));
    let namespace = incident.subject.namespace.as_ref();
    bonds.extend(namespace.map(|namespace| Bond {
        kind: BondKind::Namespace,
        what: text!("namespace {}", namespace),
        state: Redacted::default(),
        since: None,
    }));
    Member {
        incident: incident.id.clone(),
        opened_at: incident.opened_at,
        severity: incident.severity,
        is_open: incident.state == IncidentState::Open,
        says: escape::prose(&states::header(card, Tone::Trouble)),
        bonds,
    }
}

/// The nodes in trouble on which pods in trouble stand.
fn nodes(scene: &Scene) -> Vec<Bond> {
    let suffers = |node: &Node| {
        let pods = scene.pods.items().iter().filter(|pod| !pod.ready && pod.phase.as_str() != "Succeeded");
        pods.filter_map(|pod| pod.node.as_ref()).any(|on| on.as_str() == node.object.name())
    };
    let bond = |node: &Node, state: Redacted, since: Option<Timestamp>| Bond {
        kind: BondKind::Node,
        what: text!("node {}", node.object.name),
        state,
        since,
    };
    let condition = |node: &Node| -> Option<Bond> {
        let of_kind = |kind: &str| node.conditions.iter().find(|condition| condition.kind.as_str() == kind);
        let is_true = |condition: &&crate::model::scene::Condition| condition.status.as_str() == "True";
        if node.ready != Some(true) {
            return Some(bond(node, "not ready".into(), of_kind("Ready").and_then(|ready| ready.changed_at)));
        }
        let short = PRESSURES.into_iter().find_map(|kind| of_kind(kind).filter(is_true))?;
        Some(bond(node, short.kind.clone(), short.changed_at))
    };
    scene.nodes.items().iter().filter(|node| suffers(node)).filter_map(condition).collect()
}

/// The message of a storm.
pub fn digest(digest: &Digest, options: &Options) -> Message {
    let now = options.now;
    let mut lines: Vec<&DigestLine> = digest.lines.iter().collect();
    // Stable: of equals the one that came first.
    lines.sort_by_key(|line| (!line.member.is_open, std::cmp::Reverse(line.member.severity)));
    let common = common(&lines);
    let header = header(&lines, common.as_ref());
    let mut blocks: Vec<SlackBlock> =
        vec![SlackHeaderBlock::new(SlackBlockPlainText::new(header.clone()).with_emoji(true).into()).into()];
    blocks.push(context(vec![counts(digest, &lines, now)]));
    let mut told: Vec<String> = common.iter().map(|(bond, count)| in_common(bond, *count, lines.len(), now)).collect();
    told.extend(lines.iter().take(LINES_MAX).map(|line| told_of(line)));
    if lines.len() > LINES_MAX {
        told.push(format!("and {} more in the thread", lines.len() - LINES_MAX));
    }
    push_lines(&mut blocks, told);
    blocks.push(context(vec![
        "Each has its card in this thread. One that is critical or asks for leave has a card in the channel as well."
            .to_owned(),
    ]));
    Message { text: escape::prose(&header), blocks }
}

/// What stands in the thread in place of a card that stands in the channel.
pub fn moved(card: &Card, link: Option<&Redacted>) -> Message {
    let text = escape::prose(&states::header(card, Tone::Trouble));
    let place = link.map(|link| format!(": {}", link_to("card", link))).unwrap_or_default();
    let blocks = vec![section(&format!("{text}\nIt has a card of its own in the channel{place}"))];
    Message { text, blocks }
}

/// What most of them have in common, and how many do: the most telling kind that more than half share.
fn common(lines: &[&DigestLine]) -> Option<(Bond, usize)> {
    let bonds = || lines.iter().flat_map(|line| &line.member.bonds);
    let count = |bond: &Bond| {
        let holds = |line: &&&DigestLine| line.member.bonds.iter().any(|own| own.what == bond.what);
        lines.iter().filter(holds).count()
    };
    let mut kinds = [BondKind::Node, BondKind::Cause, BondKind::Namespace].into_iter();
    kinds.find_map(|kind| {
        let counted = bonds().filter(|bond| bond.kind == kind).map(|bond| (bond, count(bond)));
        // Of equals the first.
        let (bond, count) = counted.reduce(|best, next| if next.1 > best.1 { next } else { best })?;
        (count >= ALIKE_MIN && count * 2 > lines.len()).then(|| (bond.clone(), count))
    })
}

fn header(lines: &[&DigestLine], common: Option<&(Bond, usize)>) -> String {
    let opened = || lines.iter().map(|line| line.member.opened_at.as_second());
    let span = opened().max().unwrap_or_default() - opened().min().unwrap_or_default();
    // Words for less than a minute and a half are seconds; nobody counts a storm in those.
    let span = if span < 90 { "1 min".to_owned() } else { clock::words(span) };
    let count = escape::counted(lines.len() as u32, "more incident");
    let worst = lines.iter().filter(|line| line.member.is_open).map(|line| line.member.severity).max();
    let mut said = match worst {
        Some(worst) => format!("{} {count} in {span}", emoji(worst)),
        None => format!("✅ All over: {count} in {span}"),
    };
    if let Some((bond, alike)) = common {
        let what = escape::short(bond.what.as_str(), 60);
        let state = if bond.state.is_empty() { String::new() } else { format!(" ({})", bond.state) };
        let share = if bond.kind == BondKind::Namespace { "are in" } else { "share" };
        said.push_str(&format!("; {alike} {share} {what}{state}"));
    }
    escape::plain(&escape::cut(&said, states::HEADER_MAX - 2))
}

fn emoji(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "🔴",
        Severity::Medium => "🟠",
        Severity::Low => "🟡",
        Severity::None => "⚪",
    }
}

fn counts(digest: &Digest, lines: &[&DigestLine], now: Timestamp) -> String {
    let open = lines.iter().filter(|line| line.member.is_open).count();
    let mut parts = vec![format!("cluster `{}`", escape::short(digest.cluster.as_str(), 60))];
    parts.push(format!("{open} open, {} over", lines.len() - open));
    let first = lines.iter().map(|line| line.member.opened_at).min();
    parts.extend(first.map(|at| format!("since {}", escape::time(at, now))));
    parts.join(" · ")
}

fn in_common(bond: &Bond, count: usize, all: usize, now: Timestamp) -> String {
    let what = escape::prose(&escape::cut(bond.what.as_str(), 120));
    let state = if bond.state.is_empty() { String::new() } else { format!(", {}", escape::prose(bond.state.as_str())) };
    let since = bond.since.map(|at| format!(" since {}", escape::time(at, now))).unwrap_or_default();
    format!("*In common*  {count} of {all}: {what}{state}{since}")
}

fn told_of(line: &DigestLine) -> String {
    let label = if line.has_own_card { "own card" } else { "card" };
    let link = line.link.as_ref().map(|link| format!(" · {}", link_to(label, link))).unwrap_or_default();
    format!("{}{link}", line.member.says)
}

fn link_to(label: &'static str, url: &Redacted) -> String {
    escape::link(&Link { label: label.into(), url: url.clone() })
}
