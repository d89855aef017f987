//! What a turn gave, on its way to the store, and the end of the investigation when it is at its end.

use serde_json::Value;

use crate::agent::compact::Sent;
use crate::agent::turn::{Ended, Turned};
use crate::govern::audit;
use crate::govern::budget::Spend;
use crate::model::{Card, Investigation, InvestigationState, Report};
use crate::stages::investigate::Investigate;
use crate::stages::investigate::ask::charged;
use crate::stages::investigate::transcript::mark;
use crate::store::{Claim, Durability, Usage, Write};
use crate::telemetry::{ModelLabels, TokenLabels};

/// What a turn gave and was given, on its way to the store.
pub(super) struct Kept {
    pub(super) investigation: Investigation,
    /// The first messages, on the first turn.
    pub(super) opening: Vec<Value>,
    pub(super) sent: Sent,
    pub(super) turned: Turned,
    pub(super) charge: String,
}

impl Investigate {
    /// Stores what a turn gave, and ends the investigation when it is at its end.
    pub(super) async fn keep(&self, card: &Card, kept: Kept, claim: Claim) -> anyhow::Result<()> {
        let Kept { mut investigation, opening, sent, turned, charge } = kept;
        let sent = turned.resent.unwrap_or(sent);
        let id = card.incident.id.clone();
        self.count("reply", turned.input_tokens, turned.output_tokens);
        let number = investigation.turns;
        investigation.turns += 1;
        investigation.tool_calls += turned.tool_calls;
        investigation.input_tokens += turned.input_tokens;
        investigation.output_tokens += turned.output_tokens;
        investigation.left_out = investigation.left_out.max(sent.left_out);
        let mut messages = opening;
        let from = messages.len();
        messages.extend(turned.messages);
        if let Some(first) = messages.get_mut(from) {
            // Remembered beside the message, and taken off before it is sent again.
            turned.mark.into_iter().for_each(|what| mark(first, what));
        }
        let usage = Usage { input_tokens: turned.input_tokens, output_tokens: turned.output_tokens };
        let model = self.llm.as_ref().map(|llm| llm.model().clone()).unwrap_or_default();
        let facts = audit::TurnFacts {
            incident: &id,
            number,
            model: &model,
            sent: &sent.messages,
            answered: &messages[from..],
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            tool_calls: turned.tool_calls,
        };
        let spent = Spend::of(turned.input_tokens, turned.output_tokens, self.price.as_ref());
        let mut writes = vec![
            Write::Audit(audit::turn(self.clock.now(), &facts)),
            Write::Turn { incident: id.clone(), number, messages: Value::Array(messages), usage },
            charged(&id, &charge, spent),
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

    fn count(&self, outcome: &'static str, input: u64, output: u64) {
        self.metrics.model_turns.get_or_create(&ModelLabels { outcome }).inc();
        self.metrics.model_tokens.get_or_create(&TokenLabels { direction: "input" }).inc_by(input);
        self.metrics.model_tokens.get_or_create(&TokenLabels { direction: "output" }).inc_by(output);
    }
}

/// The card with what the turn changed, as it is on disk by now.
fn with(card: &Card, investigation: Investigation, report: Option<Report>) -> Card {
    let mut next = card.clone();
    next.incident.investigation = investigation;
    next.report = report.or(next.report);
    next
}
