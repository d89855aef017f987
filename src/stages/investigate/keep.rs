//! What a turn gave, on its way to the store, and the end of the investigation when it is at its end.

use serde_json::Value;

use crate::agent::turn::{Ended, Turned};
use crate::govern::audit;
use crate::govern::budget::Spend;
use crate::model::InvestigationState;
use crate::stages::investigate::ask::{Paid, Prepared, charged};
use crate::stages::investigate::transcript::mark;
use crate::stages::investigate::{Investigate, Run};
use crate::store;
use crate::store::{Durability, Usage, Write};
use crate::telemetry::{ModelLabels, TokenLabels};

impl Investigate {
    /// Stores what a turn gave, and ends the investigation when it is at its end; gives it back where another turn is to
    /// follow.
    pub(super) async fn keep(&self, run: Run, prepared: Prepared, turned: Turned) -> anyhow::Result<Option<Run>> {
        let Prepared { conversation, opening, paid: Paid { mut investigation, charge } } = prepared;
        let sent = turned.resent.unwrap_or(conversation);
        let id = run.card.incident.id.clone();
        self.count("reply", turned.input_tokens, turned.output_tokens);
        let (number, about) = (investigation.turns, investigation.about.clone());
        investigation.turns += 1;
        investigation.tool_calls += turned.tool_calls;
        investigation.input_tokens += turned.input_tokens;
        investigation.output_tokens += turned.output_tokens;
        investigation.left_out = investigation.left_out.max(sent.left_out);
        if matches!(turned.ended, Ended::Report(_)) {
            investigation.answer();
        }
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
            evidence: &turned.evidence,
        };
        let at = self.clock.now();
        let spent = Spend::of(turned.input_tokens, turned.output_tokens, self.price.as_ref());
        let audited = audit::turn(at, &facts);
        let turn = store::Turn { number, at, messages: Value::Array(messages), usage };
        let mut writes = vec![
            Write::Audit(audited),
            Write::Turn { incident: id.clone(), number, messages: turn.messages.clone(), usage },
            charged(&id, &charge, spent),
            Write::Investigation { incident: id.clone(), investigation },
        ];
        let state = match turned.ended {
            Ended::NotYet => return self.go_on(run, turn, writes).await,
            Ended::Report(mut report) => {
                report.about.clone_from(&about);
                writes.push(Write::Report { incident: id.clone(), report });
                InvestigationState::Done
            }
            Ended::WithoutReport(why) => InvestigationState::Failed { why },
        };
        // The report is on disk before anything is proposed: a crash in between goes on from here.
        self.store.commit(writes, Durability::Durable, Some(&run.claim)).await?;
        self.conclude(&id, state, &run.claim).await.map(|()| None)
    }

    /// Stores a turn that another is to follow.
    async fn go_on(&self, mut run: Run, turn: store::Turn, mut writes: Vec<Write>) -> anyhow::Result<Option<Run>> {
        if run.claim.attempt > 1 {
            // Claimed anew, so that the attempts of this turn do not count against the next.
            writes.push(Write::Release(run.claim.clone()));
            return Ok(self.store.commit(writes, Durability::Soon, Some(&run.claim)).await.map(|()| None)?);
        }
        self.store.commit(writes, Durability::Soon, Some(&run.claim)).await?;
        // While the turn ran signals came, and code may have found more.
        if !self.store.refresh(&mut run.card).await? {
            return self.store.release(run.claim).await.map(|()| None);
        }
        run.transcript.push(turn);
        Ok(Some(run))
    }

    fn count(&self, outcome: &'static str, input: u64, output: u64) {
        self.metrics.model_turns.get_or_create(&ModelLabels { outcome }).inc();
        self.metrics.model_tokens.get_or_create(&TokenLabels { direction: "input" }).inc_by(input);
        self.metrics.model_tokens.get_or_create(&TokenLabels { direction: "output" }).inc_by(output);
    }
}
