//! The second look: a proved report is reviewed by its own model once, and posted with what is left of it.

use serde_json::{Map, Value};

use crate::agent::compact::Sent;
use crate::agent::llm::Llm;
use crate::agent::report;
use crate::agent::review;
use crate::agent::turn::{Ended, Mark, Turned};
use crate::model::{IncidentState, InvestigationState, Report};
use crate::stages::investigate::ask::Prepared;
use crate::stages::investigate::failed::why;
use crate::stages::investigate::{Investigate, Run, transcript};
use crate::store::{Durability, Write};

impl Investigate {
    /// Reviews a draft, as a turn of the budget, and ends the investigation. Where no review can be had, the report
    /// stands as one that nobody looked at again.
    pub(super) async fn review(&self, llm: &Llm, run: Run, draft: Map<String, Value>) -> anyhow::Result<Option<Run>> {
        let Run { card, claim, .. } = &run;
        let evidence = self.store.evidence(&card.incident.id).await?;
        let proved = report::prove(&draft, &evidence, &card.findings, &self.redactor);
        let (Ok(report), Some(task)) = (proved, transcript::task(&run.transcript)) else {
            let why = "the model's report could not be proved".into();
            return self.conclude(&card.incident.id, InvestigationState::Failed { why }, claim).await.map(|()| None);
        };
        if matches!(card.incident.state, IncidentState::Over { .. }) {
            return self.post(&run, review::unreviewed(report, "it was over before".into())).await;
        }
        if card.incident.investigation.turns >= self.gate.policy().limits.model_turns_per_incident {
            return self.post(&run, review::unreviewed(report, "all turns are used".into())).await;
        }
        let request = review::messages(&task, &report, &evidence)?;
        let paid = match self.pay(card, &request, &mut Vec::new(), claim).await? {
            Ok(paid) => paid,
            Err(why) => return self.post(&run, review::unreviewed(report, why)).await,
        };
        match llm.complete(&request, &Value::Array(Vec::new())).await {
            Ok(reply) => {
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
                    evidence: Vec::new(),
                    mark: Some(Mark::Review),
                    ended,
                };
                let conversation = Sent { messages: request, left_out: 0 };
                let prepared = Prepared { conversation, opening: Vec::new(), paid };
                self.keep(run, prepared, turned).await
            }
            Err(error) if self.asks_again(&card.incident.id, &paid, &error, claim).await? => Ok(None),
            Err(error) => self.post(&run, review::unreviewed(report, why(error))).await,
        }
    }

    /// The report as it is, and the end of the investigation.
    async fn post(&self, run: &Run, report: Report) -> anyhow::Result<Option<Run>> {
        let incident = run.card.incident.id.clone();
        let mut investigation = run.card.incident.investigation.clone();
        investigation.answer();
        let about = investigation.about.clone();
        let writes = vec![
            Write::Report { incident: incident.clone(), report: Box::new(Report { about, ..report }) },
            Write::Investigation { incident: incident.clone(), investigation },
        ];
        self.store.commit(writes, Durability::Durable, Some(&run.claim)).await?;
        self.conclude(&incident, InvestigationState::Done, &run.claim).await.map(|()| None)
    }
}
