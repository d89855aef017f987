//! The tool server `firstlook`: what the store knows. The gate checks whose it is before.

use rmcp::ErrorData;
use rmcp::Json;
use rmcp::ServerHandler;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolResult, RequestMetaObject, ServerConfig};
use rmcp::schemars;
use rmcp::schemars::JsonSchema;
use rmcp::{tool, tool_handler, tool_router};
use serde::{Deserialize, Serialize};

use crate::mcp::answer::{Answer, ToolError, result, schema};
use crate::mcp::info;
use crate::mcp::reach::Reach;
use crate::model::{Approval, ApprovalId, Evidence, EvidenceId, IncidentId, Reading, Signal, Verification};
use crate::observe::{ReadError, Runbooks};
use crate::redact::Redacted;
use crate::store::Store;
use crate::text;

/// Signals whose labels are looked at; an incident with more repeats itself.
const SIGNALS_MAX: u32 = 200;

/// The server's name.
pub const SERVER: &str = "firstlook";
/// The tool that only a caller from outside is offered: the agent proposes in its report.
pub const OUTSIDE: &str = "get_approval";

/// The server.
#[derive(Clone)]
pub struct Firstlook {
    store: Store,
    runbooks: Runbooks,
    tool_router: ToolRouter<Self>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OneApproval {
    approval_id: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OneIncident {
    incident: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OneEvidence {
    incident: String,
    /// Such as e12
    evidence: String,
}

/// How far a request for leave is.
#[derive(Debug, Serialize, JsonSchema)]
struct ApprovalTold {
    approval_id: String,
    state: &'static str,
    what: Redacted,
    reason: Redacted,
    outcome: Redacted,
}

#[tool_router]
impl Firstlook {
    /// A server over this store and these runbooks; without any there is no tool for them.
    pub fn new(store: Store, runbooks: Runbooks) -> Self {
        let mut tool_router = Self::tool_router();
        if runbooks.is_empty() {
            tool_router.remove_route("find_runbooks");
        }
        Self { store, runbooks, tool_router }
    }

    #[tool(
        description = "Tell of past incidents like this one: their causes, and what helped.",
        output_schema = schema(),
        annotations(read_only_hint = true, destructive_hint = false, open_world_hint = false)
    )]
    async fn similar_incidents(
        &self,
        Parameters(ask): Parameters<OneIncident>,
        meta: RequestMetaObject,
    ) -> Result<CallToolResult, ErrorData> {
        Ok(result(self.similar(&ask, &Reach::of(&meta)).await))
    }

    #[tool(
        description = "Read the runbooks that match the incident's alerts.",
        output_schema = schema(),
        annotations(read_only_hint = true, destructive_hint = false, open_world_hint = false)
    )]
    async fn find_runbooks(&self, Parameters(ask): Parameters<OneIncident>) -> Result<CallToolResult, ErrorData> {
        Ok(result(self.matching(&ask).await))
    }

    async fn similar(&self, ask: &OneIncident, reach: &Reach) -> Result<Answer, ToolError> {
        let mut past = self.store.past(&ask.id()?).await.map_err(|error| unread(&error))?;
        past.retain(|past| reach.tells(&past.incident.id).is_some());
        let mut answer = Answer::new("incidents of before".into());
        for past in &past {
            let incident = &past.incident;
            let report = past.report.as_ref().filter(|_| reach.tells(&incident.id) == Some(true));
            let mut lines: Vec<Redacted> = report.into_iter().map(|report| report.headline.clone()).collect();
            lines.extend(report.map(|report| report.cause.clone()).filter(|cause| !cause.is_empty()));
            lines.push(past.ended());
            lines
                .extend(report.and_then(|report| report.advice.clone()).map(|advice| text!("advice then: {}", advice)));
            answer.say(text!("{}, began {}", incident.subject, incident.began_at), &lines);
        }
        if past.is_empty() {
            answer.say(Redacted::default(), &["none is stored".into()]);
        }
        Ok(answer)
    }

    async fn matching(&self, ask: &OneIncident) -> Result<Answer, ToolError> {
        let id = ask.id()?;
        let incident = self.store.incident(&id).await.map_err(|error| unread(&error))?;
        let incident = incident.ok_or(ToolError::Refused("there is no such incident".into()))?;
        let signals = self.store.signals_of(&id, SIGNALS_MAX).await.map_err(|error| unread(&error))?;
        let found = self.runbooks.matching(&incident, signals.iter().filter_map(Signal::alert));
        let mut answer = Answer::new("runbooks for the incident's alerts".into());
        for runbook in &found {
            // What people once wrote proves nothing of this incident.
            answer.say(text!("{} ({})", runbook.title, runbook.file), std::slice::from_ref(&runbook.text));
        }
        if found.is_empty() {
            answer.say(Redacted::default(), &["none matches".into()]);
        }
        Ok(answer)
    }

    #[tool(
        description = "Tell how far a change is that was asked for, or why it was refused.",
        annotations(read_only_hint = true, destructive_hint = false, open_world_hint = false)
    )]
    async fn get_approval(&self, Parameters(ask): Parameters<OneApproval>) -> Result<Json<ApprovalTold>, String> {
        let id = ApprovalId::parse(&ask.approval_id).ok_or("that is no approval id")?;
        match self.store.approval(&id).await {
            Ok(Some(approval)) => Ok(Json(approval_told(&approval))),
            Ok(None) => Err("there is no such approval".to_owned()),
            Err(error) => Err(format!("the store could not be read: {error:#}")),
        }
    }

    #[tool(
        description = "Read one piece of an incident's evidence again, by its id.",
        output_schema = schema(),
        annotations(read_only_hint = true, destructive_hint = false, open_world_hint = false)
    )]
    async fn get_evidence(&self, Parameters(ask): Parameters<OneEvidence>) -> Result<CallToolResult, ErrorData> {
        Ok(result(self.evidence(&ask).await))
    }

    async fn evidence(&self, ask: &OneEvidence) -> Result<Answer, ToolError> {
        let incident = IncidentId::parse(&ask.incident).ok_or(ToolError::Refused("that is no incident id".into()))?;
        let id: EvidenceId =
            ask.evidence.parse().map_err(|_| ToolError::Refused("that is no evidence id such as e1".into()))?;
        let stored = self.store.evidence_one(&incident, id).await;
        let evidence = stored.map_err(|error| unread(&error))?;
        again(&evidence.ok_or(ToolError::Refused("there is no such evidence".into()))?)
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Firstlook {
    fn get_info(&self) -> ServerConfig {
        info(SERVER)
    }
}

fn approval_told(approval: &Approval) -> ApprovalTold {
    let outcome = match &approval.verification {
        Verification::NotStarted => Redacted::default(),
        Verification::Watching { ready, wanted } => text!("rolling out: {} of {} ready", *ready, *wanted),
        Verification::WaitsFor { pod, ready, wanted } => {
            text!("rolling out: {} of {} ready, waits for {} to be deleted", *ready, *wanted, pod)
        }
        Verification::Better { ready, wanted, .. } => {
            approval.action.as_ref().map(|action| action.came(*ready, *wanted)).unwrap_or_default()
        }
        Verification::NotBetter { why, .. } => text!("it did not help: {}", why),
        Verification::Worse { why, before, ready, .. } => {
            text!("it made things worse, {} ready in place of {}: {}", *ready, *before, why)
        }
    };
    let proposal = &approval.proposal;
    ApprovalTold {
        approval_id: approval.id.to_string(),
        state: approval.state.as_str(),
        what: text!("{} of {}", proposal.tool(), proposal.object()),
        reason: approval.because.clone(),
        outcome,
    }
}

impl OneIncident {
    fn id(&self) -> Result<IncidentId, ToolError> {
        IncidentId::parse(&self.incident).ok_or(ToolError::Refused("that is no incident id".into()))
    }
}

fn unread(error: &anyhow::Error) -> ToolError {
    tracing::error!("the store could not be read: {error:#}");
    ToolError::Read(ReadError::Unavailable("the store does not answer".into()))
}

/// A stored reading, with what of it is word for word as it was.
fn again(evidence: &Evidence) -> Result<Answer, ToolError> {
    let segments = match &evidence.reading {
        Reading::Segments(segments) => segments,
        Reading::Missing(why) => return Err(ToolError::Refused(text!("{} was not read: {}", evidence.id, why))),
    };
    let asked = text!("{} of {}: {}", evidence.id, evidence.read_at, evidence.asked);
    let mut answer = Answer::new(asked);
    for segment in segments {
        if segment.verbatim {
            answer.quote(Redacted::default(), segment.source.clone(), segment.text.clone());
        } else {
            answer.say(Redacted::default(), std::slice::from_ref(&segment.text));
        }
    }
    Ok(answer)
}
