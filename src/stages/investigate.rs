//! Investigate: one turn of one incident's agent run at a time, or the findings alone where there is no model.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tracing::Instrument as _;

use crate::agent::llm::{Llm, LlmError};
use crate::agent::prompt;
use crate::agent::step::Budget;
use crate::agent::turn::{Ended, Turn, Turned};
use crate::clock::Clock;
use crate::correlate::ARRIVAL;
use crate::findings;
use crate::govern::audit;
use crate::govern::gate::{Gate, Suggestion};
use crate::govern::scope::Scope;
use crate::model::{Caller, Card, IncidentState, Investigation, InvestigationState, Origin, Report, Severity};
use crate::redact::{Redacted, Redactor};
use crate::stages::Ran;
use crate::stages::lease;
use crate::stages::lease::LEASE;
use crate::store::{Claim, Durability, Store, Usage, Write};
use crate::telemetry;
use crate::telemetry::{Metrics, ModelLabels, TokenLabels};
use crate::text;

/// An unavailable provider is asked once more after this long; the client has already tried several times by then.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(5);
const UNAVAILABLE_MAX: u32 = 2;
/// Incidents looked at for one that is free: more than are ever held at once.
const CANDIDATES_MAX: u32 = 32;
/// A card with more buttons is a question, not an answer.
const PROPOSALS_MAX: usize = 2;
/// Reserved for an answer before it is asked for, in tokens: what the client allows a reply to take.
const ANSWER_RESERVE_TOKENS: u64 = 4_096;

/// The stage.
pub struct Investigate {
    pub store: Store,
    pub gate: Gate,
    /// None: the findings speak alone.
    pub llm: Option<Llm>,
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
            let Some(claim) = self.store.claim("investigate", incident.id.as_str(), LEASE).await? else { continue };
            match self.store.card(&incident.id).await? {
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
        if card.report.as_ref().is_some_and(|report| report.origin == Origin::Model) {
            return self.conclude(&card, InvestigationState::Done, claim).await;
        }
        // What is over, or was there before us, is not paid for.
        if matches!(card.incident.state, IncidentState::Over { .. }) || card.incident.fault == ARRIVAL {
            return self.conclude(&card, InvestigationState::Off, claim).await;
        }
        let transcript = self.store.transcript(&card.incident.id).await?;
        let prepared = match self.prepare(&mut card, &transcript, &claim).await? {
            Ok(prepared) => prepared,
            Err(why) => return self.conclude(&card, InvestigationState::Failed { why }, claim).await,
        };
        let Prepared { conversation, opening, investigation, charge } = prepared;
        let (id, limits) = (card.incident.id.clone(), &self.gate.policy().limits);
        let scope = Scope::of(&card.incident, card.scene.as_deref());
        let gate = self.gate.connect(Caller::Agent, id.clone(), scope).await?;
        let tools = prompt::tools(&self.gate.tools_for(&Caller::Agent));
        let budget = Budget {
            turns_left: limits.model_turns_per_incident.saturating_sub(investigation.turns + 1),
            calls_left: limits.tool_calls_per_incident.saturating_sub(investigation.tool_calls),
            silent_replies: marked(&transcript, "silent"),
        };
        let evidence = self.store.evidence(&id).await?;
        let turn = Turn {
            llm,
            gate: gate.peer(),
            tools: &tools,
            conversation: &conversation,
            budget,
            unproved: marked(&transcript, "unproved"),
            evidence: &evidence,
            findings: &card.findings,
            redactor: &self.redactor,
        };
        let result = turn.run().await;
        drop(gate);
        match result {
            Ok(turned) => {
                let kept = Kept { investigation, opening, sent: &conversation, turned, charge };
                self.keep(&card, kept, claim).await
            }
            Err(error) => self.failed(&card, error, claim).await,
        }
    }

    /// Builds the conversation and charges the turn: durable before the request, so that a crash loop cannot spend
    /// without limit. The inner error says why no more may be spent.
    async fn prepare(
        &self,
        card: &mut Card,
        transcript: &[crate::store::Turn],
        claim: &Claim,
    ) -> anyhow::Result<Result<Prepared, Redacted>> {
        let limits = &self.gate.policy().limits;
        let said = transcript.iter().flat_map(|turn| turn.messages.as_array().cloned().unwrap_or_default());
        let mut conversation: Vec<Value> = said.map(unmarked).collect();
        let (mut writes, mut opening) = (Vec::new(), Vec::new());
        if conversation.is_empty() {
            writes = self.take_over_scene(card);
            let mut shown = card.clone();
            shown.incident.investigation.turns_max = limits.model_turns_per_incident;
            opening = prompt::opening(&shown, limits.tool_calls_per_incident, self.clock.now())?;
            conversation.extend(opening.iter().cloned());
        }
        // Bytes over three overestimates the tokens of most text, which is the safe side of a reservation.
        let reserved = conversation.iter().map(|m| m.to_string().len() as u64).sum::<u64>() / 3 + ANSWER_RESERVE_TOKENS;
        let mut investigation = card.incident.investigation.clone();
        let started_at = *investigation.started_at.get_or_insert(self.clock.now());
        let late = time_spent(started_at, self.clock.now(), limits.minutes_per_incident);
        if let Some(why) = late.or(self.budget_spent(card, reserved).await?) {
            return Ok(Err(why));
        }
        let charge = format!("turn-{}-{}", investigation.turns, claim.attempt);
        investigation.state = InvestigationState::Running;
        investigation.turns_max = limits.model_turns_per_incident;
        let id = card.incident.id.clone();
        writes.push(Write::Charge { incident: id.clone(), key: charge.clone(), tokens: reserved });
        writes.push(Write::Investigation { incident: id, investigation: investigation.clone() });
        self.store.commit(writes, Durability::Durable, Some(claim)).await?;
        Ok(Ok(Prepared { conversation, opening, investigation, charge }))
    }

    /// The scene may have been read again since the incident was opened. What the model is shown is what its quotes are
    /// proved against, so the incident's evidence and findings become those of the scene that stands in the task.
    fn take_over_scene(&self, card: &mut Card) -> Vec<Write> {
        let Some(scene) = &card.scene else { return Vec::new() };
        let id = &card.incident.id;
        let evidence = scene.evidence.iter().cloned();
        let mut writes: Vec<Write> =
            evidence.map(|evidence| Write::Evidence { incident: id.clone(), evidence, replace: true }).collect();
        let found = findings::find(scene, self.clock.now());
        if found != card.findings {
            let report = findings::conclude(scene, found.clone(), self.clock.now());
            writes.push(Write::Report { incident: id.clone(), report: Box::new(report.clone()) });
            writes.push(Write::Findings { incident: id.clone(), findings: found.clone() });
            card.report = Some(report);
            card.findings = found;
        }
        writes
    }

    /// Stores what a turn gave, and ends the investigation when it is at its end.
    async fn keep(&self, card: &Card, kept: Kept<'_>, claim: Claim) -> anyhow::Result<()> {
        let Kept { mut investigation, opening, sent, turned, charge } = kept;
        let id = card.incident.id.clone();
        self.count("reply", turned.input_tokens, turned.output_tokens);
        let number = investigation.turns;
        investigation.turns += 1;
        investigation.tool_calls += turned.tool_calls;
        investigation.input_tokens += turned.input_tokens;
        investigation.output_tokens += turned.output_tokens;
        let mut messages = opening;
        let from = messages.len();
        messages.extend(turned.messages);
        if let Some(first) = messages.get_mut(from) {
            // Remembered beside the message and ignored by servers: what kind of reply it was.
            mark(first, "silent", turned.silent);
            mark(first, "unproved", turned.unproved);
        }
        let usage = Usage { input_tokens: turned.input_tokens, output_tokens: turned.output_tokens };
        let model = self.llm.as_ref().map(|llm| llm.model().clone()).unwrap_or_default();
        let facts = audit::TurnFacts {
            incident: &id,
            number,
            model: &model,
            sent,
            answered: &messages[from..],
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            tool_calls: turned.tool_calls,
        };
        let spent = turned.input_tokens + turned.output_tokens;
        let mut writes = vec![
            Write::Audit(audit::turn(self.clock.now(), &facts)),
            Write::Turn { incident: id.clone(), number, messages: Value::Array(messages), usage },
            Write::Charge { incident: id.clone(), key: charge, tokens: spent },
        ];
        match turned.ended {
            Ended::NotYet => {
                writes.push(Write::Investigation { incident: id, investigation });
                writes.push(Write::Release(claim.clone()));
                Ok(self.store.commit(writes, Durability::Soon, Some(&claim)).await?)
            }
            Ended::Report(report) => {
                writes.push(Write::Report { incident: id.clone(), report: report.clone() });
                writes.push(Write::Investigation { incident: id, investigation: investigation.clone() });
                // The report is on disk before anything is proposed: a crash in between goes on from here.
                self.store.commit(writes, Durability::Durable, Some(&claim)).await?;
                let card = with(card, investigation, Some(*report));
                self.conclude(&card, InvestigationState::Done, claim).await
            }
            Ended::WithoutReport(why) => {
                writes.push(Write::Investigation { incident: id, investigation: investigation.clone() });
                self.store.commit(writes, Durability::Durable, Some(&claim)).await?;
                let card = with(card, investigation, None);
                self.conclude(&card, InvestigationState::Failed { why }, claim).await
            }
        }
    }

    async fn failed(&self, card: &Card, error: LlmError, claim: Claim) -> anyhow::Result<()> {
        let outcome = match &error {
            LlmError::Wait(_) => "wait",
            LlmError::TooLong => "too_long",
            LlmError::Refused(_) => "refused",
            LlmError::Unavailable(_) => "unavailable",
        };
        self.metrics.model_turns.get_or_create(&ModelLabels { outcome }).inc();
        tracing::warn!(incident = %card.incident.id, "no answer of the model: {error}");
        let now = self.clock.now();
        match error {
            // A clock that stands still brings no later.
            LlmError::Wait(wait) if claim.attempt < UNAVAILABLE_MAX && !self.clock.is_manual() => {
                let at = now.checked_add(SignedDuration::try_from(wait).unwrap_or(RETRY_AFTER)).unwrap_or(now);
                self.store.fail(claim, at).await
            }
            LlmError::Unavailable(_) if claim.attempt < UNAVAILABLE_MAX && !self.clock.is_manual() => {
                self.store.fail(claim, now.checked_add(RETRY_AFTER).unwrap_or(now)).await
            }
            LlmError::Wait(wait) => {
                let why = text!("provider asks to wait {} s", wait.as_secs());
                self.conclude(card, InvestigationState::Failed { why }, claim).await
            }
            LlmError::TooLong => {
                let why = "the investigation grew beyond the model's context".into();
                self.conclude(card, InvestigationState::Failed { why }, claim).await
            }
            LlmError::Refused(why) | LlmError::Unavailable(why) => {
                self.conclude(card, InvestigationState::Failed { why }, claim).await
            }
        }
    }

    /// Ends the investigation: what the report proposes goes through the gate (which makes nothing twice).
    async fn conclude(&self, card: &Card, state: InvestigationState, claim: Claim) -> anyhow::Result<()> {
        let id = card.incident.id.clone();
        let report = card.report.as_ref().filter(|_| card.incident.state == IncidentState::Open);
        for proposal in report.iter().flat_map(|report| report.proposals.iter().take(PROPOSALS_MAX)) {
            let by_model = report.is_some_and(|report| report.origin == Origin::Model);
            let suggestion = Suggestion {
                incident: &card.incident,
                scene: card.scene.as_deref(),
                findings: &card.findings,
                proposal,
                caller: if by_model { Caller::Agent } else { Caller::Findings },
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

    /// Why no more tokens may be spent today, if so. A share is kept for high and critical incidents.
    async fn budget_spent(&self, card: &Card, reserved: u64) -> anyhow::Result<Option<Redacted>> {
        let limits = &self.gate.policy().limits;
        let day = self.clock.now().checked_sub(SignedDuration::from_hours(24)).unwrap_or(Timestamp::UNIX_EPOCH);
        let spent = self.store.tokens_since(day).await?;
        let share = if card.incident.severity >= Severity::High { 1.0 } else { 1.0 - limits.reserve_for_critical };
        // Precision is lost only above 2^52 tokens.
        let allowed = (limits.tokens_per_day as f64 * share) as u64;
        Ok((spent + reserved > allowed).then(|| text!("today's {} tokens are spent", allowed)))
    }

    fn count(&self, outcome: &'static str, input: u64, output: u64) {
        self.metrics.model_turns.get_or_create(&ModelLabels { outcome }).inc();
        self.metrics.model_tokens.get_or_create(&TokenLabels { direction: "input" }).inc_by(input);
        self.metrics.model_tokens.get_or_create(&TokenLabels { direction: "output" }).inc_by(output);
    }
}

/// Why no further turn begins, if the investigation's time is over. A turn under way ends by its own limit.
fn time_spent(started_at: Timestamp, now: Timestamp, minutes_max: u32) -> Option<Redacted> {
    let over = now.duration_since(started_at) >= SignedDuration::from_mins(i64::from(minutes_max));
    over.then(|| text!("no report within {} min, the limit", minutes_max))
}

/// A turn that is paid for and ready to be asked.
struct Prepared {
    conversation: Vec<Value>,
    /// The first messages, on the first turn.
    opening: Vec<Value>,
    investigation: Investigation,
    charge: String,
}

/// What a turn gave and was given, on its way to the store.
struct Kept<'a> {
    investigation: Investigation,
    /// The first messages, on the first turn.
    opening: Vec<Value>,
    sent: &'a [Value],
    turned: Turned,
    charge: String,
}

/// The card with what the turn changed, as it is on disk by now.
fn with(card: &Card, investigation: Investigation, report: Option<Report>) -> Card {
    let mut next = card.clone();
    next.incident.investigation = investigation;
    next.report = report.or(next.report);
    next
}

/// Field of a stored reply that says what kind it was; never sent to the model.
const MARK: &str = "firstlook";

fn mark(message: &mut Value, what: &str, holds: bool) {
    if holds && message.is_object() {
        message[MARK] = Value::String(what.to_owned());
    }
}

fn unmarked(mut message: Value) -> Value {
    if let Some(message) = message.as_object_mut() {
        message.remove(MARK);
    }
    message
}

/// Replies with this mark: in a row at the end for `silent`, all of them for `unproved`.
fn marked(transcript: &[crate::store::Turn], what: &str) -> u32 {
    let replies = transcript
        .iter()
        .filter_map(|turn| turn.messages.as_array()?.iter().find(|message| message["role"] == "assistant"));
    let holds = |message: &&Value| message[MARK] == what;
    let count = if what == "silent" {
        replies.collect::<Vec<_>>().into_iter().rev().take_while(holds).count()
    } else {
        replies.filter(holds).count()
    };
    count as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;

    #[test]
    fn an_investigation_ends_when_its_minutes_are_over() {
        let at = |minutes: i64| from_ms(minutes * 60_000);
        assert_eq!(time_spent(at(0), at(14), 15), None);
        let why = time_spent(at(0), at(15), 15).unwrap();
        assert_eq!(why.as_str(), "no report within 15 min, the limit");
    }
}
