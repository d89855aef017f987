//! The second look: a proved report is reviewed by its own model once, and posted with what is left of it.

use serde_json::{Map, Value};

use crate::agent::compact::Sent;
use crate::agent::llm::Llm;
use crate::agent::report;
use crate::agent::review;
use crate::agent::turn::{Ended, Mark, Turned};
use crate::model::{Card, IncidentState, InvestigationState, Report};
use crate::stages::investigate::keep::Kept;
use crate::stages::investigate::{Investigate, transcript, why};
use crate::store::{Claim, Durability, Turn, Write};

/// A report that waits for its review.
pub(super) struct Draft<'a> {
    /// As the model wrote it.
    pub(super) arguments: Map<String, Value>,
    pub(super) transcript: &'a [Turn],
}

impl Investigate {
    /// Reviews a draft, as a turn of the budget, and ends the investigation. Where no review can be had, the report
    /// stands as one that nobody looked at again.
    pub(super) async fn review(&self, llm: &Llm, card: Card, draft: Draft<'_>, claim: Claim) -> anyhow::Result<()> {
        let evidence = self.store.evidence(&card.incident.id).await?;
        let proved = report::prove(&draft.arguments, &evidence, &card.findings, &self.redactor);
        let (Ok(report), Some(task)) = (proved, transcript::task(draft.transcript)) else {
            let why = "the model's report could not be proved".into();
            return self.conclude(&card, InvestigationState::Failed { why }, claim).await;
        };
        if matches!(card.incident.state, IncidentState::Over { .. }) {
            return self.post(card, review::unreviewed(report, "it was over before".into()), claim).await;
        }
        if card.incident.investigation.turns >= self.gate.policy().limits.model_turns_per_incident {
            return self.post(card, review::unreviewed(report, "all turns are used".into()), claim).await;
        }
        let request = review::messages(&task, &report, &evidence)?;
        let (investigation, charge) = match self.pay(&card, &request, &mut Vec::new(), &claim).await? {
            Ok(paid) => paid,
            Err(why) => return self.post(card, review::unreviewed(report, why), claim).await,
        };
        match llm.complete(&request, &Value::Array(Vec::new())).await {
            Ok(reply) => {
                let sent = Sent { messages: request, left_out: 0 };
                let ended = match review::apply(report, &reply, &card.findings, &self.redactor) {
                    Some(report) => Ended::Report(Box::new(report)),
                    None => Ended::WithoutReport("its report did not stand up to a second look".into()),
                };
                let turned = Turned {
                    resent: None,
                    messages: vec![reply.message],
                    input_tokens: reply.input_tokens,
                    output_tokens: reply.output_tokens,
                    tool_calls: 0,
                    mark: Some(Mark::Review),
                    ended,
                };
                let kept = Kept { investigation, opening: Vec::new(), sent, turned, charge };
                self.keep(&card, kept, claim).await
            }
            Err(error) => match self.again_at(&card, &error, &claim) {
                Some(at) => self.store.fail(claim, at).await,
                None => self.post(card, review::unreviewed(report, why(error)), claim).await,
            },
        }
    }

    /// The report as it is, and the end of the investigation.
    async fn post(&self, mut card: Card, report: Report, claim: Claim) -> anyhow::Result<()> {
        let incident = card.incident.id.clone();
        let write = Write::Report { incident, report: Box::new(report.clone()) };
        self.store.commit(vec![write], Durability::Durable, Some(&claim)).await?;
        card.report = Some(report);
        self.conclude(&card, InvestigationState::Done, claim).await
    }
}
