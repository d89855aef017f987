//! What goes into the audit, kind by kind: ids, counts, hashes and redacted text, nothing else.

use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::model::{Approval, ApprovalState, Call, Caller, Click, Evidence, EvidenceId, IncidentId, Tier, Verdict};
use crate::redact::Redacted;
use crate::store::AuditEntry;

/// One call as it came in and what was decided about it; written before it runs.
pub fn verdict(call: &Call) -> AuditEntry {
    let body = json!({
        "call": call.id, "caller": call.caller, "tool": call.tool, "arguments": call.arguments,
        "tier": call.tier, "verdict": call.verdict,
    });
    AuditEntry { at: call.called_at, kind: "verdict", incident: Some(call.incident.clone()), body }
}

/// What came of a call that ran, with the hash of what was read.
pub fn call(call: &Call, evidence: &Evidence) -> AuditEntry {
    let body = json!({
        "call": call.id, "tool": call.tool, "outcome": call.outcome, "evidence": evidence.id,
        "sha256": sha256(&serde_json::to_vec(&evidence.reading).unwrap_or_default()),
    });
    AuditEntry { at: evidence.read_at, kind: "call", incident: Some(call.incident.clone()), body }
}

/// A call of a caller from outside that belongs to no incident. Of what it read only length and hash are kept.
#[derive(Clone, Debug)]
pub struct Outside<'a> {
    pub caller: &'a Caller,
    pub tool: &'a str,
    pub arguments: &'a Redacted,
    pub tier: Tier,
    pub verdict: &'a Verdict,
    /// `read`, `failed`, `not_run`, `cancelled`, or a write's `refused`.
    pub outcome: &'a str,
    /// The answer's text.
    pub answer: &'a Redacted,
}

/// One such call, as it ended.
pub fn outside(at: Timestamp, facts: &Outside<'_>) -> AuditEntry {
    let answer = facts.answer.as_str();
    let body = json!({
        "caller": facts.caller, "tool": facts.tool, "arguments": facts.arguments, "tier": facts.tier,
        "verdict": facts.verdict, "outcome": facts.outcome, "bytes": answer.len(), "sha256": sha256(answer.as_bytes()),
    });
    AuditEntry { at, kind: "outside", incident: None, body }
}

/// One turn of a model: what was sent and answered, by hash and count; what its calls gave, by the ids of the evidence that
/// holds the text.
#[derive(Clone, Debug)]
pub struct TurnFacts<'a> {
    pub incident: &'a IncidentId,
    pub number: u32,
    pub model: &'a Redacted,
    /// The conversation as sent.
    pub sent: &'a [serde_json::Value],
    /// What the turn appended to it.
    pub answered: &'a [serde_json::Value],
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub tool_calls: u32,
    pub evidence: &'a [EvidenceId],
}

/// A turn of the model.
pub fn turn(at: Timestamp, facts: &TurnFacts<'_>) -> AuditEntry {
    let hash = |messages: &[serde_json::Value]| sha256(&serde_json::to_vec(messages).unwrap_or_default());
    let body = json!({
        "number": facts.number, "model": facts.model, "sent_sha256": hash(facts.sent),
        "answered_sha256": hash(facts.answered), "input_tokens": facts.input_tokens,
        "output_tokens": facts.output_tokens, "tool_calls": facts.tool_calls, "evidence": facts.evidence,
    });
    AuditEntry { at, kind: "turn", incident: Some(facts.incident.clone()), body }
}

/// An approval in its present state: made, answered, withdrawn, expired.
pub fn approval(at: Timestamp, approval: &Approval) -> AuditEntry {
    let body = json!({
        "approval": approval.id, "state": approval.state, "because": approval.because, "asked_by": approval.asked_by,
        "also_asked_by": approval.also_asked_by,
        "proposal": approval.proposal, "action": approval.action,
        "action_sha256": approval.action.as_ref().map(|action| action.hash().0), "tier": approval.tier,
        "rule": approval.rule, "people_needed": approval.people_needed, "approvers": approval.approvers,
        "bound": approval.bound, "standing_leave": approval.standing,
        // What people are shown is the same for as long as they are asked: once is enough.
        "shown": approval.preview.as_ref().filter(|_| approval.state == ApprovalState::Pending),
    });
    AuditEntry { at, kind: "approval", incident: Some(approval.incident.clone()), body }
}

/// A click, and what the person was answered.
pub fn click(at: Timestamp, incident: Option<&IncidentId>, click: &Click, answer: &Redacted) -> AuditEntry {
    let body = json!({"click": click.id, "user": click.user, "what": click.what, "answer": answer});
    AuditEntry { at, kind: "click", incident: incident.cloned(), body }
}

/// An intent to execute (before the request), or what came of it: the approval's state tells.
pub fn execution(at: Timestamp, approval: &Approval) -> AuditEntry {
    let execution = approval.execution.as_ref();
    let body = json!({
        "approval": approval.id, "state": approval.state, "because": approval.because, "action": approval.action,
        "body_sha256": execution.map(|e| sha256(e.body.to_string().as_bytes())),
        "started_at": execution.map(|e| e.started_at), "finished_at": execution.and_then(|e| e.finished_at),
        "verification": approval.verification,
    });
    AuditEntry { at, kind: "execution", incident: Some(approval.incident.clone()), body }
}

/// Keys of a start's body: the hashes at the start before, where they were others.
pub const POLICY_BEFORE: &str = "policy_before_sha256";
pub const CONFIG_BEFORE: &str = "config_before_sha256";
pub const CALLERS_BEFORE: &str = "callers_before_sha256";

/// The daemon begins, with this version, configuration file and policy; `before` is the body of the start before.
pub fn start(
    at: Timestamp,
    config: &str,
    policy: &str,
    callers: Option<&str>,
    before: Option<&serde_json::Value>,
) -> AuditEntry {
    let mut body = json!({
        "version": env!("CARGO_PKG_VERSION"), "config_sha256": sha256(config.as_bytes()),
        "policy_sha256": sha256(policy.as_bytes()),
    });
    if let Some(callers) = callers {
        body["callers_sha256"] = sha256(callers.as_bytes()).into();
    }
    let hashes =
        [("policy_sha256", POLICY_BEFORE), ("config_sha256", CONFIG_BEFORE), ("callers_sha256", CALLERS_BEFORE)];
    for (now, told) in hashes {
        let known = before.map(|before| &before[now]).filter(|before| before.is_string());
        if let Some(before) = known.filter(|before| **before != body[now]) {
            body[told] = before.clone();
        }
    }
    AuditEntry { at, kind: "start", incident: None, body }
}

/// The callers' file was read again and holds something else.
pub fn callers(at: Timestamp, before: &str, now: &str) -> AuditEntry {
    let body = json!({CALLERS_BEFORE: sha256(before.as_bytes()), "callers_sha256": sha256(now.as_bytes())});
    AuditEntry { at, kind: "callers", incident: None, body }
}

/// The daemon stops in good order.
pub fn stop(at: Timestamp) -> AuditEntry {
    AuditEntry { at, kind: "stop", incident: None, body: json!({}) }
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
