//! What a turn asks: the conversation so far or its opening, and the tokens that are charged before it is sent.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::agent::compact;
use crate::agent::compact::Sent;
use crate::agent::llm;
use crate::agent::llm::Llm;
use crate::agent::prompt;
use crate::agent::step::SUBMIT_REPORT;
use crate::findings;
use crate::govern::budget;
use crate::govern::budget::Spend;
use crate::model::{Caller, Card, IncidentId, Investigation, InvestigationState, Origin, Room};
use crate::redact::Redacted;
use crate::stages::investigate::Investigate;
use crate::stages::investigate::transcript;
use crate::store::{Claim, Durability, Turn, Write};
use crate::text;

/// The times over which budgets count; they end now, so that no hour of the day has twice the budget.
const DAY: SignedDuration = SignedDuration::from_hours(24);
const MONTH: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A turn that is paid for and ready to be asked.
pub(super) struct Prepared {
    pub(super) conversation: Sent,
    /// The first messages, on the first turn.
    pub(super) opening: Vec<Value>,
    pub(super) paid: Paid,
}

/// What was put on disk before a request was sent.
pub(super) struct Paid {
    /// As it is with this request under way.
    pub(super) investigation: Investigation,
    /// The key of the charge, to be settled.
    pub(super) charge: String,
}

/// What stands before a turn is paid for.
struct Standing {
    /// Within the model's room.
    conversation: Sent,
    /// The first messages, on the first turn.
    opening: Vec<Value>,
    /// What must be on disk before the model sees it.
    writes: Vec<Write>,
}

impl Investigate {
    /// The next request that a model would get for this incident, byte for byte: its body. Reads only; None when there is
    /// no such incident.
    ///
    /// # Errors
    /// The store's.
    pub async fn request(&self, id: &IncidentId) -> anyhow::Result<Option<Value>> {
        let Some(mut card) = self.store.card(id).await? else { return Ok(None) };
        let transcript = transcript::present(self.store.transcript(id).await?, &card.incident.investigation);
        let standing = self.standing(&mut card, &transcript)?;
        // Without a model the request is told as it would be.
        let model = self.llm.as_ref().map_or_else(|| "none configured".into(), |llm| llm.model().clone());
        Ok(Some(llm::body(&model, &standing.conversation.messages, &self.tools())))
    }

    /// The tools that the model is offered.
    pub(super) fn tools(&self) -> Value {
        prompt::tools(&self.gate.tools_for(&Caller::Agent), self.room().tools_at_once, self.gate.off())
    }

    /// The names of all tools that there are for it.
    pub(super) fn known(&self) -> Vec<String> {
        let tools = self.gate.tools_for(&Caller::Agent);
        tools.iter().map(|tool| tool.name.to_string()).chain([SUBMIT_REPORT.to_owned()]).collect()
    }

    fn room(&self) -> Room {
        self.llm.as_ref().map(Llm::room).unwrap_or_default()
    }

    /// Reads nothing and writes nothing.
    fn standing(&self, card: &mut Card, transcript: &[Turn]) -> anyhow::Result<Standing> {
        let limits = &self.gate.policy().limits;
        let mut conversation = transcript::said(transcript);
        let (mut writes, mut opening) = (Vec::new(), Vec::new());
        if conversation.is_empty() {
            writes = self.take_over_scene(card);
            let mut shown = card.clone();
            shown.incident.investigation.turns_max = limits.model_turns_per_incident;
            opening = prompt::opening(&shown, limits.tool_calls_per_incident, self.clock.now())?;
            conversation.extend(opening.iter().cloned());
        }
        let conversation = compact::within(&conversation, self.room().context_tokens);
        Ok(Standing { conversation, opening, writes })
    }

    /// Builds the conversation and charges the turn: durable before the request, so that a crash loop cannot spend
    /// without limit. The inner error says why no more may be spent.
    pub(super) async fn prepare(
        &self,
        card: &mut Card,
        transcript: &[Turn],
        claim: &Claim,
    ) -> anyhow::Result<Result<Prepared, Redacted>> {
        let Standing { conversation, opening, mut writes } = self.standing(card, transcript)?;
        let paid = self.pay(card, &conversation.messages, &mut writes, claim).await?;
        Ok(paid.map(|paid| Prepared { conversation, opening, paid }))
    }

    /// Charges a request before it is sent, with `writes`. The inner error says why no more may be spent.
    pub(super) async fn pay(
        &self,
        card: &Card,
        request: &[Value],
        writes: &mut Vec<Write>,
        claim: &Claim,
    ) -> anyhow::Result<Result<Paid, Redacted>> {
        let limits = &self.gate.policy().limits;
        // What the client allows the answer to take is reserved before it is asked for.
        let answer = self.llm.as_ref().map_or(0, Llm::answer_tokens_max);
        let reserved = Spend::of(compact::tokens(request), u64::from(answer), self.price.as_ref());
        let mut investigation = card.incident.investigation.clone();
        let started_at = *investigation.started_at.get_or_insert(self.clock.now());
        investigation.about.get_or_insert_with(|| card.incident.subject.clone());
        let late = time_spent(started_at, self.clock.now(), limits.minutes_per_incident);
        // Turns run side by side: what one reserves the next one must see.
        let _purse = self.purse.lock().await;
        if let Some(why) = late.or(self.budget_spent(card, reserved).await?) {
            return Ok(Err(why));
        }
        // An owner is never the same twice: what was cut off stays charged beside what is asked again.
        let charge = format!("turn-{}-{}", investigation.turns, claim.owner);
        investigation.state = InvestigationState::Running;
        investigation.turns_max = limits.model_turns_per_incident;
        let id = card.incident.id.clone();
        writes.push(charged(&id, &charge, reserved));
        writes.push(Write::Investigation { incident: id, investigation: investigation.clone() });
        self.store.commit(std::mem::take(writes), Durability::Durable, Some(claim)).await?;
        Ok(Ok(Paid { investigation, charge }))
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
            // A model's report of before stands until its next one.
            if card.report.as_ref().is_none_or(|known| known.origin == Origin::Findings) {
                card.report = Some(report.clone());
            }
            writes.push(Write::Report { incident: id.clone(), report: Box::new(report) });
            writes.push(Write::Findings { incident: id.clone(), findings: found.clone() });
            card.findings = found;
        }
        writes
    }

    /// Why this turn may not be paid for, if it may not.
    async fn budget_spent(&self, card: &Card, reserved: Spend) -> anyhow::Result<Option<Redacted>> {
        let day = self.spent_within(DAY).await?;
        let month = self.spent_within(MONTH).await?;
        Ok(budget::spent_out(&self.gate.policy().limits, card.incident.severity, day, month, reserved))
    }

    async fn spent_within(&self, time: SignedDuration) -> anyhow::Result<Spend> {
        let since = self.clock.now().checked_sub(time).unwrap_or(Timestamp::UNIX_EPOCH);
        let (tokens, micros) = self.store.spent_since(since).await?;
        Ok(Spend { tokens, micros })
    }
}

/// The charge of one turn, reserved or settled.
pub(super) fn charged(incident: &IncidentId, key: &str, spend: Spend) -> Write {
    Write::Charge { incident: incident.clone(), key: key.to_owned(), tokens: spend.tokens, micros: spend.micros }
}

/// Why no further turn begins, if the investigation's time is over. A turn under way ends by its own limit.
fn time_spent(started_at: Timestamp, now: Timestamp, minutes_max: u32) -> Option<Redacted> {
    let over = now.duration_since(started_at) >= SignedDuration::from_mins(i64::from(minutes_max));
    over.then(|| text!("no report within {} min, the limit", minutes_max))
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
