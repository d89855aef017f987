//! The tool server `firstlook`: what the store knows, for callers from outside. The gate checks whose it is before.

use rmcp::Json;
use rmcp::ServerHandler;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::ServerConfig;
use rmcp::schemars;
use rmcp::schemars::JsonSchema;
use rmcp::{tool, tool_handler, tool_router};
use serde::{Deserialize, Serialize};

use crate::mcp::{TEXT_MAX_CHARS, info};
use crate::model::{Approval, ApprovalId, Evidence, EvidenceId, IncidentId, Reading, Verification};
use crate::redact::Redacted;
use crate::store::Store;
use crate::text;

/// The server's name.
pub const SERVER: &str = "firstlook";
/// Tools that only a caller from outside is offered: the agent has its evidence, and proposes in its report.
pub const OUTSIDE: [&str; 2] = ["get_approval", "get_evidence"];

/// The server.
#[derive(Clone)]
pub struct Firstlook {
    store: Store,
    tool_router: ToolRouter<Self>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OneApproval {
    approval_id: String,
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

/// One stored reading.
#[derive(Debug, Serialize, JsonSchema)]
struct EvidenceTold {
    evidence: String,
    asked: Redacted,
    read_at: String,
    text: Redacted,
}

#[tool_router]
impl Firstlook {
    /// A server over this store.
    pub fn new(store: Store) -> Self {
        Self { store, tool_router: Self::tool_router() }
    }

    #[tool(
        description = "Tell how far a change is that was asked for: pending, approved, executed, or why not.",
        annotations(read_only_hint = true, destructive_hint = false, idempotent_hint = true, open_world_hint = false)
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
        annotations(read_only_hint = true, destructive_hint = false, idempotent_hint = true, open_world_hint = false)
    )]
    async fn get_evidence(&self, Parameters(ask): Parameters<OneEvidence>) -> Result<Json<EvidenceTold>, String> {
        let incident = IncidentId::parse(&ask.incident).ok_or("that is no incident id")?;
        let id: EvidenceId = ask.evidence.parse()?;
        match self.store.evidence_one(&incident, id).await {
            Ok(Some(evidence)) => Ok(Json(evidence_told(&evidence))),
            Ok(None) => Err("there is no such evidence".to_owned()),
            Err(error) => Err(format!("the store could not be read: {error:#}")),
        }
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
        Verification::Better { ready, wanted, .. } => text!("healthy: {} of {} ready", *ready, *wanted),
        Verification::NotBetter { why, .. } => text!("it did not help: {}", why),
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

fn evidence_told(evidence: &Evidence) -> EvidenceTold {
    let text = match &evidence.reading {
        Reading::Segments(segments) => Redacted::join(segments.iter().map(|segment| &segment.text), "\n"),
        Reading::Missing(why) => text!("not read: {}", why),
    };
    EvidenceTold {
        evidence: evidence.id.to_string(),
        asked: evidence.asked.clone(),
        read_at: evidence.read_at.to_string(),
        text: text.cut(TEXT_MAX_CHARS),
    }
}
