//! A change that a caller from outside asks for: it becomes a request for leave on a card, never a change.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::govern::audit;
use crate::govern::gate::propose::Suggestion;
use crate::govern::gate::visit::{Called, Inside};
use crate::govern::scope;
use crate::mcp;
use crate::model::{
    ASKED, Approval, ApprovalId, ApprovalState, Caller, Finding, Incident, IncidentId, ObjectRef, Proposal, Scene,
    SignalId, Verdict, Why,
};
use crate::redact::Redacted;
use crate::store::{AuditEntry, CommitError, Durability, Write};
use crate::text;

/// Times that a request which changes meanwhile is looked at again: it is made ready once, and then waits.
const TRIES_MAX: u32 = 3;

/// Where a request belongs: an incident, and what is known of it.
struct Home {
    incident: Incident,
    scene: Option<Arc<Scene>>,
    findings: Vec<Finding>,
    /// The writes that make it, where it is new.
    opens: Vec<Write>,
}

impl Inside {
    /// Asks for a change: pending, or refused with the reason. None: the call was cancelled before its answer, and nobody is
    /// asked. Until the request is being stored that ends its reads; then it is taken back.
    pub(super) async fn ask(&self, called: &Called, cancelled: &CancellationToken) -> Option<CallToolResult> {
        let storing = AtomicBool::new(false);
        let mut asking = pin!(self.ask_for(called, &storing));
        let asked = tokio::select! {
            asked = &mut asking => asked,
            () = cancelled.cancelled() => {
                if !storing.load(Ordering::Relaxed) {
                    return None;
                }
                asking.await
            }
        };
        if cancelled.is_cancelled() {
            // What was there before this call is none of its own.
            if let Ok(Ok(approval)) = asked
                && storing.load(Ordering::Relaxed)
            {
                self.take_back(&approval.id).await;
            }
            return None;
        }
        Some(self.asked(called, asked).await)
    }

    async fn asked(&self, called: &Called, asked: anyhow::Result<Result<Approval, Redacted>>) -> CallToolResult {
        match asked {
            Ok(Ok(approval)) if approval.state != ApprovalState::Refused => pending(&approval),
            Ok(Ok(approval)) => {
                let rule = if approval.rule.is_empty() { Redacted::default() } else { text!(" ({})", approval.rule) };
                let why = text!("{}{}", approval.because, rule);
                self.refuse(called, &why).await
            }
            Ok(Err(why)) => self.refuse(called, &why).await,
            Err(error) => {
                let redactor = &self.gate.options().redactor;
                let why = redactor.redact(&format!("it could not be checked now, ask again: {error:#}"));
                self.refuse(called, &why.one_line().cut(500)).await
            }
        }
    }

    /// Withdraws a request whose caller waits for it no more.
    async fn take_back(&self, id: &ApprovalId) {
        for _ in 0..TRIES_MAX {
            match self.withdraw(id).await {
                // Its dry run ended meanwhile: it is withdrawn from there.
                Ok(Err(CommitError::Conflict(_))) => {}
                Ok(Ok(())) => return,
                Ok(Err(error)) => return tracing::error!(approval = %id, "a cancelled request stands: {error}"),
                Err(error) => return tracing::error!(approval = %id, "a cancelled request stands: {error:#}"),
            }
        }
        tracing::warn!(approval = %id, "a cancelled request stands until it expires: it changed all the while");
    }

    async fn withdraw(&self, id: &ApprovalId) -> anyhow::Result<Result<(), CommitError>> {
        let options = self.gate.options();
        // Nobody's answer to it is overwritten.
        let _voting = self.gate.voting().lock().await;
        let Some(approval) = options.store.approval(id).await? else { return Ok(Ok(())) };
        let asks = matches!(approval.state, ApprovalState::Proposed | ApprovalState::Pending);
        // An answer was quicker, or another caller waits for it too: it stands.
        if !asks || !approval.also_asked_by.is_empty() {
            return Ok(Ok(()));
        }
        let was = Some(approval.state);
        let because = "who asked for it cancelled the call".into();
        let ended = Approval { state: ApprovalState::Withdrawn, because, ..approval };
        let audited = Write::Audit(audit::approval(options.clock.now(), &ended));
        let stored = Write::Approval { approval: Box::new(ended), was };
        Ok(options.store.commit(vec![audited, stored], Durability::Durable, None).await)
    }

    async fn ask_for(&self, called: &Called, storing: &AtomicBool) -> anyhow::Result<Result<Approval, Redacted>> {
        let proposal = match self.proposal(called) {
            Ok(proposal) => proposal,
            Err(why) => return Ok(Err(why)),
        };
        // The object that would be changed decides, whatever else the arguments name.
        if !self.guest.rights.has_object(proposal.object()) {
            return Ok(Err(text!("this token does not reach {}", proposal.object())));
        }
        let _turn = self.gate.turn().await;
        let Home { incident, scene, findings, opens } = self.home(&called.caller, proposal.object()).await?;
        let suggestion = Suggestion {
            incident: &incident,
            scene: scene.as_deref(),
            findings: &findings,
            proposal: &proposal,
            caller: called.caller.clone(),
            undoes: None,
        };
        self.gate.propose_in_turn(suggestion, opens, storing).await.map(Ok)
    }

    /// What the arguments propose. A name that the tool does not have is a slip that could change what is meant.
    fn proposal(&self, called: &Called) -> Result<Proposal, Redacted> {
        let redactor = &self.gate.options().redactor;
        let tool = self.gate.0.tools.iter().find(|tool| tool.name == called.tool.as_str());
        let properties = tool.and_then(|tool| tool.input_schema.get("properties")?.as_object());
        let known = |key: &str| properties.is_some_and(|properties| properties.contains_key(key));
        if let Some(unknown) = called.arguments.keys().find(|key| !known(key)) {
            return Err(text!("{} has no argument `{}`", called.tool, redactor.redact(unknown).cut(40)));
        }
        if let Some(tool) = tool {
            mcp::within(&tool.input_schema, &called.arguments)?;
        }
        Proposal::of(called.tool.as_str(), &called.arguments)
            .map_err(|why| redactor.redact(&format!("the arguments of {} do not fit: {why}", called.tool)).cut(300))
    }

    /// The open incident that this object is part of, or a new one with that object alone.
    async fn home(&self, caller: &Caller, object: &ObjectRef) -> anyhow::Result<Home> {
        let store = &self.gate.options().store;
        let mut open = store.open_incidents().await?;
        open.sort_by_key(|incident| incident.subject != *object);
        for incident in open {
            let near = incident.subject == *object || incident.subject.namespace == object.namespace;
            if !near {
                continue;
            }
            let scene = store.scene(&incident.subject).await?;
            let findings = store.findings(&incident.id).await?;
            if scope::may_change(&incident, scene.as_deref(), &findings, object).is_ok() {
                return Ok(Home { incident, scene, findings, opens: Vec::new() });
            }
        }
        let incident = self.opened(caller, object);
        let entry = AuditEntry {
            at: incident.opened_at,
            kind: "incident_opened",
            incident: Some(incident.id.clone()),
            body: json!({"subject": object.to_string(), "severity": incident.severity, "asked_by": caller}),
        };
        let opens = vec![Write::Audit(entry), Write::Incident(Box::new(incident.clone()))];
        Ok(Home { incident, scene: None, findings: Vec::new(), opens })
    }

    fn opened(&self, caller: &Caller, object: &ObjectRef) -> Incident {
        let options = self.gate.options();
        let now = options.clock.now();
        let id = IncidentId::fresh();
        let why = Why {
            signal: SignalId::derive(&["asked", id.as_str()]),
            at: now,
            sentence: asked_by(caller),
            joined: None,
        };
        Incident {
            id,
            why: vec![why],
            ..Incident::opened(options.reader.cluster().clone(), object.clone(), ASKED, now)
        }
    }

    /// A refusal, in the audit before it is told.
    async fn refuse(&self, called: &Called, why: &Redacted) -> CallToolResult {
        if let Some(room) = self.gate.0.ledger.room().await {
            let verdict = Verdict::Deny { rule: "asked".into(), why: why.clone() };
            self.record(room, called, &verdict, "refused", why);
        }
        refused(why, &text!("refused: {}", why))
    }
}

/// No, for programs and in words.
fn refused(why: &Redacted, says: &Redacted) -> CallToolResult {
    answer(json!({"status": "refused", "reason": why}), says)
}

/// The same where nothing was even looked at: an error of whoever asks.
pub(super) fn denied(why: &Redacted, says: &Redacted) -> CallToolResult {
    let mut result = refused(why, says);
    result.is_error = Some(true);
    result
}

/// `asked by U024BE7LH through kimi-code (token kimi)`.
fn asked_by(caller: &Caller) -> Redacted {
    let Caller::Client { name, person, program } = caller else { return "asked from outside".into() };
    let by = person.as_ref().map_or_else(|| "nobody in particular".into(), Redacted::clone);
    match program {
        Some(program) => text!("asked by {} through {} (token {})", by, program, name),
        None => text!("asked by {} (token {})", by, name),
    }
}

fn pending(approval: &Approval) -> CallToolResult {
    let says = text!(
        "pending_approval {}: a person decides in Slack until {}. Nothing has changed yet; ask get_approval later.",
        approval.id,
        approval.expires_at
    );
    let expires_at = approval.expires_at.to_string();
    answer(json!({"status": "pending_approval", "approval_id": approval.id, "expires_at": expires_at}), &says)
}

fn answer(structured: Value, says: &Redacted) -> CallToolResult {
    let mut result = CallToolResult::success(vec![ContentBlock::text(says.as_str())]);
    result.structured_content = Some(structured);
    result
}
