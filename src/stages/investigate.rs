//! Investigate: one turn of one incident's agent run at a time, or the findings alone where there is no model.

mod ask;
mod keep;
mod review;
mod transcript;

use jiff::{SignedDuration, Timestamp};
use tracing::Instrument as _;

use crate::agent::llm::{Llm, LlmError};
use crate::agent::step::Budget;
use crate::agent::turn::{Mark, Turn};
use crate::clock::Clock;
use crate::correlate::ARRIVAL;
use crate::correlate::late;
use crate::govern::budget::Price;
use crate::govern::gate::{Gate, Suggestion};
use crate::govern::scope::Scope;
use crate::model::{ApprovalState, Caller, Card, Carried, Incident, IncidentState, Investigation, InvestigationState};
use crate::model::{Origin, Proposal};
use crate::redact::{Redacted, Redactor};
use crate::stages::Ran;
use crate::stages::investigate::ask::Prepared;
use crate::stages::investigate::keep::Kept;
use crate::stages::investigate::review::Draft;
use crate::stages::investigate::transcript::marked;
use crate::stages::lease;
use crate::stages::lease::LEASE;
use crate::store::{Claim, Durability, Store, Write};
use crate::telemetry;
use crate::telemetry::{Metrics, ModelLabels};
use crate::text;

/// An unavailable provider is asked once more after this long; the client has already tried several times by then.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(5);
const UNAVAILABLE_MAX: u32 = 2;
/// Incidents looked at for one that is free: more than are ever held at once.
const CANDIDATES_MAX: u32 = 32;
/// A card with more buttons is a question, not an answer.
const PROPOSALS_MAX: usize = 2;
/// The stage.
pub struct Investigate {
    pub store: Store,
    pub gate: Gate,
    /// None: the findings speak alone.
    pub llm: Option<Llm>,
    /// What the model costs, where the configuration says so.
    pub price: Option<Price>,
    /// Held while a turn is paid for.
    pub purse: tokio::sync::Mutex<()>,
    pub clock: Clock,
    pub redactor: Redactor,
    pub metrics: Metrics,
}

impl Investigate {
    /// Takes the next turn that waits.
    ///
    /// # Errors
    /// The store's; a model that fails is said on the card.
    pub async fn run_once(&self) -> anyhow::Result<Ran> {
        match self.next().await? {
            Some((card, claim)) => self.take_turn(card, claim).await.map(|()| Ran::Worked),
            None => Ok(Ran::Idle),
        }
    }

    /// Claims the incident that has waited longest and that no other worker holds.
    ///
    /// # Errors
    /// The store's.
    pub async fn next(&self) -> anyhow::Result<Option<(Card, Claim)>> {
        for incident in self.store.to_investigate(CANDIDATES_MAX).await? {
            let Some(claim) = self.store.claim("investigate", incident.as_str(), LEASE).await? else { continue };
            match self.store.card(&incident).await? {
                Some(card) => return Ok(Some((card, claim))),
                None => self.store.release(claim).await?,
            }
        }
        Ok(None)
    }

    /// Takes one turn of a claimed incident.
    ///
    /// # Errors
    /// The store's.
    pub async fn take_turn(&self, card: Card, claim: Claim) -> anyhow::Result<()> {
        let span = telemetry::incident(&card.incident.id);
        let turn = self.turn(card, claim.clone());
        let result = lease::hold(&self.store, &claim, turn).instrument(span).await;
        if result.is_err() {
            let now = self.clock.now();
            // Done already where the turn itself gave the claim back.
            self.store.fail(claim, now.checked_add(RETRY_AFTER).unwrap_or(now)).await?;
        }
        result
    }

    async fn turn(&self, mut card: Card, claim: Claim) -> anyhow::Result<()> {
        let Some(llm) = &self.llm else {
            return self.conclude(&card, InvestigationState::Off, claim).await;
        };
        let spoken = card.report.as_ref().is_some_and(|report| report.origin == Origin::Model);
        if spoken || late::is_settled(&card.incident, card.report.as_ref()) {
            return self.conclude(&card, InvestigationState::Done, claim).await;
        }
        let transcript = self.store.transcript(&card.incident.id).await?;
        if let Some(draft) = transcript::draft(&transcript) {
            return self.review(llm, card, Draft { arguments: draft, transcript: &transcript }, claim).await;
        }
        // What is over, or was there before us, is not paid for.
        if matches!(card.incident.state, IncidentState::Over { .. }) || card.incident.fault == ARRIVAL {
            return self.conclude(&card, InvestigationState::Off, claim).await;
        }
        let prepared = match self.prepare(&mut card, &transcript, &claim).await? {
            Ok(prepared) => prepared,
            Err(why) => return self.conclude(&card, InvestigationState::Failed { why }, claim).await,
        };
        let Prepared { conversation, opening, investigation, charge } = prepared;
        let (id, limits) = (card.incident.id.clone(), &self.gate.policy().limits);
        let scope = Scope::of(&card.incident, card.scene.as_deref());
        let gate = self.gate.connect(Caller::Agent, id.clone(), scope).await?;
        let (tools, known) = (self.tools(), self.known());
        let budget = Budget {
            turns_left: limits.model_turns_per_incident.saturating_sub(investigation.turns + 1),
            calls_left: limits.tool_calls_per_incident.saturating_sub(investigation.tool_calls),
            useless_replies: marked(&transcript, Mark::Useless),
        };
        let evidence = self.store.evidence(&id).await?;
        let turn = Turn {
            llm,
            gate: gate.peer(),
            tools: &tools,
            known: &known,
            conversation: &conversation,
            budget,
            unproved: marked(&transcript, Mark::Unproved),
            evidence: &evidence,
            findings: &card.findings,
            redactor: &self.redactor,
        };
        let result = turn.run().await;
        drop(gate);
        match result {
            Ok(turned) => {
                let kept = Kept { investigation, opening, sent: conversation, turned, charge };
                self.keep(&card, kept, claim).await
            }
            Err(error) => self.failed(&card, error, claim).await,
        }
    }

    async fn failed(&self, card: &Card, error: LlmError, claim: Claim) -> anyhow::Result<()> {
        match self.again_at(card, &error, &claim) {
            Some(at) => self.store.fail(claim, at).await,
            None => self.conclude(card, InvestigationState::Failed { why: why(error) }, claim).await,
        }
    }

    /// When a request that failed is to be made again, if it is.
    fn again_at(&self, card: &Card, error: &LlmError, claim: &Claim) -> Option<Timestamp> {
        let (outcome, wait) = match error {
            LlmError::Wait(wait) => ("wait", SignedDuration::try_from(*wait).ok().or(Some(RETRY_AFTER))),
            LlmError::TooLong => ("too_long", None),
            LlmError::Refused(_) => ("refused", None),
            LlmError::Unavailable(_) => ("unavailable", Some(RETRY_AFTER)),
        };
        self.metrics.model_turns.get_or_create(&ModelLabels { outcome }).inc();
        tracing::warn!(incident = %card.incident.id, "no answer of the model: {error}");
        // A clock that stands still brings no later.
        let wait = wait.filter(|_| claim.attempt < UNAVAILABLE_MAX && !self.clock.is_manual())?;
        self.clock.now().checked_add(wait).ok()
    }

    /// Ends the investigation: what the report proposes goes through the gate (which makes nothing twice).
    async fn conclude(&self, card: &Card, state: InvestigationState, claim: Claim) -> anyhow::Result<()> {
        let id = card.incident.id.clone();
        // Read again: it may have taken in another meanwhile, whose steps it asks for, or be part of one.
        let incident = self.store.incident(&id).await?.unwrap_or_else(|| card.incident.clone());
        for step in steps(card, &incident) {
            let suggestion = Suggestion {
                incident: &incident,
                scene: card.scene.as_deref(),
                findings: &card.findings,
                proposal: &step.proposal,
                caller: if step.by_model { Caller::Agent } else { Caller::Findings },
                undoes: None,
            };
            if let Err(error) = self.gate.propose(suggestion).await {
                let now = self.clock.now();
                if claim.attempt < UNAVAILABLE_MAX && !self.clock.is_manual() {
                    tracing::warn!(incident = %id, "not proposed yet: {error:#}");
                    return self.store.fail(claim, now.checked_add(RETRY_AFTER).unwrap_or(now)).await;
                }
                tracing::error!(incident = %id, "no button: {error:#}");
            }
        }
        let investigation = Investigation { state, ..card.incident.investigation.clone() };
        let writes = vec![Write::Investigation { incident: id, investigation }, Write::Release(claim.clone())];
        Ok(self.store.commit(writes, Durability::Durable, Some(&claim)).await?)
    }
}

/// Why the model gave no answer, for the card.
fn why(error: LlmError) -> Redacted {
    match error {
        LlmError::Wait(wait) => text!("provider asks to wait {} s", wait.as_secs()),
        LlmError::TooLong => "the investigation grew beyond the model's context".into(),
        LlmError::Refused(why) | LlmError::Unavailable(why) => why,
    }
}

/// What is to be asked for: the report's own steps, then those of incidents that it took in. What was answered, ran out
/// or was done is not asked for again by itself.
fn steps(card: &Card, incident: &Incident) -> Vec<Carried> {
    if incident.state != IncidentState::Open {
        return Vec::new();
    }
    let answered = |step: &Proposal| {
        card.approvals.iter().any(|approval| {
            let again = matches!(approval.state, ApprovalState::Withdrawn | ApprovalState::Refused);
            approval.state.is_final() && !again && approval.proposal == *step
        })
    };
    let report = card.report.iter().flat_map(|report| {
        let own = |step: &Proposal| Carried { proposal: step.clone(), by_model: report.origin == Origin::Model };
        report.proposals.iter().take(PROPOSALS_MAX).map(own)
    });
    let carried = incident.absorbed.iter().flat_map(|merge| &merge.carried).take(PROPOSALS_MAX).cloned();
    let mut steps: Vec<Carried> = Vec::new();
    for step in report.chain(carried) {
        if !answered(&step.proposal) && steps.iter().all(|known| known.proposal != step.proposal) {
            steps.push(step);
        }
    }
    steps
}
