//! What a replay came to, as data: the result contract.

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::model::{ApprovalState, Card, Citation, IncidentId, SignalId, Source};
use crate::slack::render;
use crate::store::Store;

/// What the result contract has room for, in characters.
const ROOT_CAUSE_MAX_CHARS: usize = 700;
const MESSAGE_MAX_CHARS: usize = 3_000;
/// The result contract, of the incident that holds the last trigger.
pub(super) async fn result(store: &Store, last: &[SignalId], clock: &Clock) -> anyhow::Result<Value> {
    let incidents = store.recent_incidents(Timestamp::UNIX_EPOCH).await?;
    let count = incidents.len();
    let mut holder = None;
    for incident in &incidents {
        let signals = store.signals_of(&incident.id, 10_000).await?;
        if signals.iter().any(|signal| last.contains(&signal.id)) {
            holder = Some(incident.id.clone());
        }
    }
    let Some(id) = holder.or_else(|| incidents.first().map(|incident| incident.id.clone())) else {
        return Ok(json!({
            "incidents": 0, "severity": "none", "root_cause": "", "message": "", "culprit": null,
            "citations": [], "actions": [], "executed": [],
            "usage": {"tool_calls": 0, "input_tokens": 0, "output_tokens": 0},
        }));
    };
    describe(store, &id, count, clock).await
}

async fn describe(store: &Store, id: &IncidentId, count: usize, clock: &Clock) -> anyhow::Result<Value> {
    let card = store.card(id).await?.context("the incident has no card")?;
    let options = render::Options { now: clock.now() };
    let message = render::flatten(&render::card(&card, &options));
    let report = card.report.as_ref();
    let root_cause = report.map(|report| {
        let headline = report.headline.as_str().trim_end_matches('.');
        if report.cause.is_empty() { headline.to_owned() } else { format!("{headline}. {}", report.cause) }
    });
    let culprit = report
        .and_then(|report| report.culprit.as_ref())
        .map(|object| json!({"kind": object.kind, "namespace": object.namespace, "name": object.name}));
    let citations: Vec<Value> =
        report.map(|report| report.citations.iter().filter_map(cited).collect()).unwrap_or_default();
    let investigation = &card.incident.investigation;
    Ok(json!({
        "incidents": count,
        "severity": card.incident.severity,
        "root_cause": cut(&root_cause.unwrap_or_default(), ROOT_CAUSE_MAX_CHARS),
        "message": cut(&message, MESSAGE_MAX_CHARS),
        "culprit": culprit,
        "citations": citations,
        "actions": actions(&card),
        "executed": [],
        "usage": {
            "tool_calls": investigation.tool_calls,
            "input_tokens": investigation.input_tokens,
            "output_tokens": investigation.output_tokens,
        },
    }))
}

/// Every action that was offered as a button.
fn actions(card: &Card) -> Vec<Value> {
    let offered =
        card.approvals.iter().filter(|a| !matches!(a.state, ApprovalState::Proposed | ApprovalState::Refused));
    let one = |approval: &crate::model::Approval| {
        let action = approval.action.as_ref()?;
        let object = action.object();
        let mut args = json!({"kind": object.kind, "namespace": object.namespace, "name": object.name});
        if let crate::model::Action::RolloutUndo { to_revision, .. } = action {
            args["to_revision"] = json!(to_revision);
        }
        Some(json!({"tool": action.tool(), "args": args, "tier": approval.tier}))
    };
    offered.filter_map(one).collect()
}

fn cited(citation: &Citation) -> Option<Value> {
    // Where redaction replaced a part the text is no longer the source's own.
    let quote = Some(citation.quote.as_str()).filter(|quote| !quote.contains("[redacted"));
    let mut value = match citation.source.as_ref()? {
        Source::Object { object } => {
            json!({"type": "object", "kind": object.kind, "namespace": object.namespace, "name": object.name})
        }
        Source::Event { object, reason } => {
            json!({"type": "event", "namespace": object.namespace, "object": object.name, "reason": reason})
        }
        Source::Log { namespace, pod, container, previous } => {
            let previous = if *previous { ".previous" } else { "" };
            json!({"type": "log", "path": format!("logs/{namespace}/{pod}/{container}{previous}.log")})
        }
        Source::Metric { query } => json!({"type": "metric", "query": query}),
        Source::Query { .. } => return None,
        Source::Rollout { object } => {
            return Some(json!({"type": "rollout", "namespace": object.namespace, "deployment": object.name}));
        }
        Source::Summary => return None,
    };
    if let Some(quote) = quote {
        value["quote"] = json!(quote);
    }
    Some(value)
}

fn cut(text: &str, max_chars: usize) -> String {
    text.chars().take(max_chars).collect()
}
