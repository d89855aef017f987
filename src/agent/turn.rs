//! One turn of an investigation: ask the model, then run what it asks for side by side through the gate.

use std::time::Duration;

use futures::future::join_all;
use rmcp::RoleClient;
use rmcp::model::CallToolRequestParams;
use rmcp::service::Peer;
use serde_json::{Value, json};

use crate::agent::compact;
use crate::agent::compact::Sent;
use crate::agent::llm::{Llm, LlmError, Reply, ToolCall};
use crate::agent::prompt;
use crate::agent::report;
use crate::agent::review;
use crate::agent::step;
use crate::agent::step::{Budget, Step};
use crate::agent::written;
use crate::govern::gate;
use crate::model::{Evidence, EvidenceId, Finding, Report};
use crate::redact::{Redacted, Redactor};

/// A tool that has not answered by then is missing data.
const TOOL_TIMEOUT: Duration = Duration::from_secs(20);
/// Reports that stood on nothing, after which the findings speak alone.
pub const UNPROVED_MAX: u32 = 1;

/// What a turn is given.
pub struct Turn<'a> {
    pub llm: &'a Llm,
    pub tools: &'a Value,
    /// The names of all tools that there are, offered or not.
    pub known: &'a [String],
    /// As it is sent, within the model's room.
    pub conversation: &'a Sent,
    pub budget: Budget,
    /// Reports refused so far.
    pub unproved: u32,
    pub findings: &'a [Finding],
    pub redactor: &'a Redactor,
}

/// What a turn came to.
#[derive(Debug)]
pub struct Turned {
    /// What was sent, where that was not the conversation as it stood.
    pub resent: Option<Sent>,
    /// To be appended to the conversation.
    pub messages: Vec<Value>,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub tool_calls: u32,
    /// What its calls became, in the order in which they were made.
    pub evidence: Vec<EvidenceId>,
    /// What the reply was, where that counts later.
    pub mark: Option<Mark>,
    pub ended: Ended,
}

/// What kind of reply it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It held no call that could be run.
    Useless,
    /// A report that stood on nothing.
    Unproved,
    /// A proved report, to be reviewed before anybody sees it.
    Draft,
    /// The review.
    Review,
}

impl Mark {
    /// The word for it in a stored transcript.
    pub fn as_str(self) -> &'static str {
        match self {
            Mark::Useless => "useless",
            Mark::Unproved => "unproved",
            Mark::Draft => "draft",
            Mark::Review => "review",
        }
    }
}

/// Whether the investigation goes on.
#[derive(Debug)]
pub enum Ended {
    NotYet,
    Report(Box<Report>),
    /// The findings speak alone, for this reason.
    WithoutReport(Redacted),
}

/// What the model said, and what it leads to.
#[derive(Debug)]
pub struct Asked {
    pub step: Step,
    /// With its message alone so far.
    turned: Turned,
    /// The ids of all calls in it.
    calls: Vec<String>,
}

impl Turn<'_> {
    /// Asks the model.
    ///
    /// # Errors
    /// The model's, by remedy.
    pub async fn ask(&self) -> Result<Asked, LlmError> {
        let (mut reply, resent) = self.complete().await?;
        written::adopt(&mut reply, self.known);
        let step = step::next(&reply, &self.budget, self.known);
        let turned = Turned {
            resent,
            messages: vec![reply.message],
            input_tokens: reply.input_tokens,
            output_tokens: reply.output_tokens,
            tool_calls: 0,
            evidence: Vec::new(),
            mark: reply.tool_calls.is_empty().then_some(Mark::Useless),
            ended: Ended::NotYet,
        };
        Ok(Asked { step, turned, calls: reply.tool_calls.into_iter().map(|call| call.id).collect() })
    }

    /// What a report comes to, proved over all evidence of the incident.
    pub fn prove(&self, asked: Asked, evidence: &[Evidence]) -> Turned {
        let Asked { step, mut turned, calls } = asked;
        let Step::Report { call, arguments } = step else { return turned };
        match report::prove(&arguments, evidence, self.findings, self.redactor) {
            Ok(report) if review::is_due(&report) => turned.mark = Some(Mark::Draft),
            Ok(report) => turned.ended = Ended::Report(Box::new(report)),
            Err(_) if self.unproved >= UNPROVED_MAX || self.budget.turns_left == 0 => {
                turned.ended = Ended::WithoutReport("the model's report could not be proved".into());
            }
            Err(unproved) => {
                turned.mark = Some(Mark::Unproved);
                // Every call of a message must be answered, or servers refuse the conversation.
                for other in &calls {
                    let says = if *other == call { "not accepted" } else { "not run" };
                    turned.messages.push(answer(other, says));
                }
                turned.messages.extend(nudge("proof", unproved.says));
            }
        }
        turned
    }

    /// Does whatever else it leads to; calls run side by side through the gate, as this investigation's own caller. Tools
    /// never fail a turn.
    pub async fn run(&self, asked: Asked, gate: &Peer<RoleClient>) -> Turned {
        let Asked { step, mut turned, .. } = asked;
        match step {
            Step::Stop(why) => turned.ended = Ended::WithoutReport(why.into()),
            Step::Nudge(reason) => turned.messages.extend(nudge(reason, "")),
            Step::Report { .. } => {}
            Step::Call { calls, refused, useless } => {
                turned.mark = useless.then_some(Mark::Useless);
                let results = join_all(calls.iter().map(|call| self.call(gate, call))).await;
                turned.tool_calls = calls.len() as u32;
                turned.messages.extend(calls.iter().zip(&results).map(|(call, (text, _))| answer(&call.id, text)));
                turned.evidence = results.into_iter().filter_map(|(_, evidence)| evidence).collect();
                turned.messages.extend(refused.iter().map(|(call, why)| answer(&call.id, why.as_str())));
                // One is left for the report, and one for its review.
                if self.budget.turns_left <= 2 {
                    turned.messages.extend(nudge("last_turn", ""));
                }
            }
        }
        turned
    }

    /// The model's answer. Where its server finds the request too long, its room is smaller than it was said to be: it is
    /// asked once more with half of it, and what was sent then is told.
    async fn complete(&self) -> Result<(Reply, Option<Sent>), LlmError> {
        let sent = self.conversation;
        match self.llm.complete(&sent.messages, self.tools).await {
            Err(LlmError::TooLong) => {
                let less = compact::to_half(&sent.messages);
                if less.left_out == 0 {
                    return Err(LlmError::TooLong);
                }
                Ok((self.llm.complete(&less.messages, self.tools).await?, Some(less)))
            }
            other => Ok((other?, None)),
        }
    }

    /// One call through the gate, always answered with a text for the model, and the evidence that it became.
    async fn call(&self, peer: &Peer<RoleClient>, call: &ToolCall) -> (String, Option<EvidenceId>) {
        let Ok(arguments) = &call.arguments else { return ("the arguments are no JSON object".to_owned(), None) };
        let request = CallToolRequestParams::new(call.name.clone()).with_arguments(arguments.clone());
        match tokio::time::timeout(TOOL_TIMEOUT, peer.call_tool(request)).await {
            Ok(Ok(result)) => {
                let texts: Vec<&str> =
                    result.content.iter().filter_map(|c| c.as_text()).map(|t| t.text.as_str()).collect();
                let text = texts.join("\n");
                let text = match result.is_error {
                    Some(true) if self.known.contains(&call.name) => format!("error: {text}"),
                    Some(true) => format!("error: {text}; the tools are: {}", self.known.join(", ")),
                    _ => text,
                };
                (text, gate::evidence_of(&result))
            }
            // An unknown tool is a protocol error: the model can repair it.
            Ok(Err(error)) => (format!("error: {}", self.redactor.redact(&error.to_string()).cut(300)), None),
            Err(_) => (format!("error: {} did not answer within {} s", call.name, TOOL_TIMEOUT.as_secs()), None),
        }
    }
}

fn answer(call: &str, text: &str) -> Value {
    json!({"role": "tool", "tool_call_id": call, "content": text})
}

fn nudge(reason: &str, detail: &str) -> Option<Value> {
    // A template that does not render is a bug that a test shows; the conversation goes on without the nudge.
    prompt::nudge(reason, detail).inspect_err(|error| tracing::error!("prompt: {error:#}")).ok()
}
