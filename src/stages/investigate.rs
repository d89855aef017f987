//! Investigate: one turn of one incident's agent run at a time, or the findings alone where there is no model.

mod ask;
mod failed;
mod keep;
mod review;
mod transcript;

use jiff::SignedDuration;
use tracing::Instrument as _;

use crate::agent::llm::{Llm, LlmError};
use crate::agent::step::{Budget, Step};
use crate::agent::turn::{Mark, Turn, Turned};
use crate::clock::Clock;
use crate::correlate::ARRIVAL;
use crate::correlate::late;
use crate::govern::budget::Price;
use crate::govern::gate::{Connection, Gate, Suggestion, Unchecked};
use crate::govern::scope::Scope;
use crate::model::{
    ApprovalState, Caller, Card, Carried, IncidentId, IncidentState, Investigation, InvestigationState,
};
use crate::model::{Origin, Proposal};
use crate::redact::Redactor;
use crate::stages::Ran;
use crate::stages::away::Away;
use crate::stages::investigate::ask::Prepared;
use crate::stages::investigate::transcript::marked;
use crate::stages::lease;
use crate::stages::lease::LEASE;
use crate::store;
use crate::store::{Claim, Durability, Store, Write};
use crate::telemetry;
use crate::telemetry::Metrics;
use crate::text;

/// What failed is tried again after this long, up to the store's five attempts.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(5);
/// Incidents looked at for one that is free: more than are ever held at once.
const CANDIDATES_MAX: u32 = 32;
/// A card with more buttons is a question, not an answer.
const PROPOSALS_MAX: usize = 2;

/// An investigation whose claim is held, with what was read for it: kept from turn to turn, and read anew by whoever
/// claims it next.
pub struct Run {
    claim: Claim,
    card: Card,
    transcript: Vec<store::Turn>,
    /// The agent's connection to the gate, and what it lets through.
    door: Option<(Scope, Connection)>,
}

impl Run {
    /// The claim under which it runs.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }
}

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
    /// The investigations at their end whose steps wait for the cluster to be readable.
    pub away: Away,
}

impl Investigate {
    /// Takes the next turn that waits.
    ///
    /// # Errors
    /// The store's; a model that fails is said on the card.
    pub async fn run_once(&self) -> anyhow::Result<Ran> {
        let Some(run) = self.next().await? else { return Ok(Ran::Idle) };
        if let Some(run) = self.take_turn(run).await? {
            self.store.release(run.claim).await?;
        }
        Ok(Ran::Worked)
    }

    /// Claims the incident that has waited longest and that no other worker holds.
    ///
    /// # Errors
    /// The store's.
    pub async fn next(&self) -> anyhow::Result<Option<Run>> {
        for incident in self.store.to_investigate(CANDIDATES_MAX).await? {
            let Some(claim) = self.store.claim("investigate", incident.as_str(), LEASE).await? else { continue };
            match self.store.card(&incident).await? {
                Some(card) => {
                    let transcript = self.store.transcript(&incident).await?;
                    let transcript = transcript::present(transcript, &card.incident.investigation);
                    return Ok(Some(Run { claim, card, transcript, door: None }));
                }
                None => self.store.release(claim).await?,
            }
        }
        Ok(None)
    }

    /// Takes one turn of a claimed incident; gives the run back, still claimed, where another turn follows.
    ///
    /// # Errors
    /// The store's.
    pub async fn take_turn(&self, run: Run) -> anyhow::Result<Option<Run>> {
        let (claim, span) = (run.claim.clone(), telemetry::incident(&run.card.incident.id));
        // Boxed: with everything that it may lead to it is more than the stacks of debug builds hold.
        let turn = Box::pin(self.turn(run));
        let result = lease::hold(&self.store, &claim, turn).instrument(span).await;
        if result.is_err() {
            let now = self.clock.now();
            // Done already where the turn itself gave the claim back.
            self.store.fail(claim, now.checked_add(RETRY_AFTER).unwrap_or(now)).await?;
        }
        result
    }

    /// Whether a more severe incident waits to be investigated.
    ///
    /// # Errors
    /// The store's.
    pub async fn is_outranked(&self, run: &Run) -> anyhow::Result<bool> {
        let Some(first) = self.store.to_investigate(1).await?.pop() else { return Ok(false) };
        let first = self.store.incident(&first).await?;
        Ok(first.is_some_and(|first| first.severity > run.card.incident.severity))
    }

    /// Gives an investigation back undone, for whoever claims it next; no attempt is counted.
    ///
    /// # Errors
    /// The store's.
    pub async fn hand_back(&self, claim: Claim) -> anyhow::Result<()> {
        self.store.postpone(claim, self.clock.now()).await
    }

    /// None: the investigation is at its end, or waits.
    async fn turn(&self, mut run: Run) -> anyhow::Result<Option<Run>> {
        let (id, claim) = (run.card.incident.id.clone(), run.claim.clone());
        let ended = async |state| self.conclude(&id, state, &claim).await.map(|()| None);
        let card = &mut run.card;
        if let Some(state) = card.incident.investigation.ending.take() {
            return ended(state).await;
        }
        let Some(llm) = &self.llm else { return ended(InvestigationState::Off).await };
        let spoken = card.report.as_ref().is_some_and(|report| report.origin == Origin::Model);
        let settled = spoken || late::is_settled(&card.incident, card.report.as_ref());
        if settled && !card.incident.investigation.is_in_doubt() {
            return ended(InvestigationState::Done).await;
        }
        if let Some(draft) = transcript::draft(&run.transcript) {
            return self.review(llm, run, draft).await;
        }
        // What is over, or was there before us, is not paid for.
        if matches!(card.incident.state, IncidentState::Over { .. }) || card.incident.fault == ARRIVAL {
            return ended(InvestigationState::Off).await;
        }
        let prepared = match self.prepare(card, &run.transcript, &claim).await? {
            Ok(prepared) => prepared,
            Err(why) => return ended(InvestigationState::Failed { why }).await,
        };
        match self.ask(llm, &mut run, &prepared).await? {
            Ok(turned) => self.keep(run, prepared, turned).await,
            Err(error) => self.failed(&id, &prepared.paid, error, &claim).await.map(|()| None),
        }
    }

    /// Asks the model, and does what it asks for. The inner error is the model's.
    async fn ask(&self, llm: &Llm, run: &mut Run, prepared: &Prepared) -> anyhow::Result<Result<Turned, LlmError>> {
        let limits = &self.gate.policy().limits;
        let (tools, known) = (self.tools(), self.known());
        let id = run.card.incident.id.clone();
        let turn = Turn {
            llm,
            tools: &tools,
            known: &known,
            conversation: &prepared.conversation,
            budget: Budget {
                turns_left: limits.model_turns_per_incident.saturating_sub(prepared.paid.investigation.turns + 1),
                calls_left: limits.tool_calls_per_incident.saturating_sub(prepared.paid.investigation.tool_calls),
                useless_replies: marked(&run.transcript, Mark::Useless),
            },
            unproved: marked(&run.transcript, Mark::Unproved),
            findings: &run.card.findings,
            redactor: &self.redactor,
        };
        let asked = match turn.ask().await {
            Ok(asked) => asked,
            Err(error) => return Ok(Err(error)),
        };
        if matches!(asked.step, Step::Report { .. }) {
            return Ok(Ok(turn.prove(asked, &self.store.evidence(&id).await?)));
        }
        // The connection is kept while it lets through the same.
        let scope = Scope::of(&run.card.incident, run.card.scene.as_deref());
        let door = match run.door.take().filter(|(known, _)| *known == scope) {
            Some(door) => door,
            None => (scope.clone(), self.gate.connect(Caller::Agent, id, scope).await?),
        };
        let (_, gate) = run.door.insert(door);
        Ok(Ok(turn.run(asked, gate.peer()).await))
    }

    /// Ends the investigation: what the report proposes goes through the gate (which makes nothing twice).
    async fn conclude(&self, id: &IncidentId, state: InvestigationState, claim: &Claim) -> anyhow::Result<()> {
        // Read again: it may have taken in another meanwhile, whose steps it asks for, or be part of one.
        let Some(card) = self.store.card(id).await? else { return self.store.release(claim.clone()).await };
        let steps = steps(&card);
        let mut unchecked: Vec<(&Carried, Unchecked)> = Vec::new();
        for step in &steps {
            if let Err(error) = self.gate.propose(suggestion(&card, step)).await {
                unchecked.push((step, error.downcast()?));
            }
        }
        if let Some((_, why)) = unchecked.first()
            && self.waits_for_check(&card, &state, why, claim).await?
        {
            return Ok(());
        }
        for (step, Unchecked { why, .. }) in unchecked {
            self.gate.give_up(suggestion(&card, step), text!("it could not be checked: {}", why)).await?;
        }
        self.away.forget(id.as_str());
        let investigation = Investigation { state, ending: None, ..card.incident.investigation };
        let writes = vec![Write::Investigation { incident: id.clone(), investigation }, Write::Release(claim.clone())];
        Ok(self.store.commit(writes, Durability::Durable, Some(claim)).await?)
    }
}

fn suggestion<'a>(card: &'a Card, step: &'a Carried) -> Suggestion<'a> {
    Suggestion {
        incident: &card.incident,
        scene: card.scene.as_deref(),
        findings: &card.findings,
        proposal: &step.proposal,
        caller: if step.by_model { Caller::Agent } else { Caller::Findings },
        undoes: None,
    }
}

/// What is to be asked for: the report's own steps, then those of incidents that it took in. What was answered, ran out
/// or was done is not asked for again by itself.
fn steps(card: &Card) -> Vec<Carried> {
    let incident = &card.incident;
    if incident.state != IncidentState::Open {
        return Vec::new();
    }
    let answered = |step: &Proposal| {
        card.approvals.iter().any(|approval| {
            let again = matches!(approval.state, ApprovalState::Withdrawn | ApprovalState::Refused);
            approval.state.is_final() && !again && approval.proposal == *step
        })
    };
    // What was said of the one that it was opened for is no step of the one that it has become.
    let report = card.report.iter().filter(|report| report.is_about(&incident.subject)).flat_map(|report| {
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
