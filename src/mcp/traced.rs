//! A tool server as every client meets it: held to its own schemas, with lines that carry the incident that a call is for.

use rmcp::ErrorData;
use rmcp::RoleServer;
use rmcp::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ListToolsResult, PaginatedRequestParams,
    RequestMetaObject, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use tracing::Instrument as _;

use crate::mcp::answer::{ToolError, result};
use crate::mcp::bounds::within;
use crate::mcp::brief::brief;
use crate::mcp::{checked, tool};
use crate::model::{IncidentId, Tier};
use crate::redact::Redacted;
use crate::telemetry;

/// Key in a request's `_meta`: the incident that the call is for. It names the lines of the log and decides nothing.
const INCIDENT: &str = "firstlook.dev/incident";

/// Says for which incident a call is made.
pub fn belongs_to(request: &mut CallToolRequestParams, incident: &IncidentId) {
    let meta = request.meta.get_or_insert_with(RequestMetaObject::new);
    meta.insert(INCIDENT.to_owned(), incident.as_str().into());
}

/// A server, traced.
pub(super) struct Traced<S>(pub(super) S);

/// The answer to arguments that do not fit, in the form that the tool's own answers have.
fn refused(name: &str, why: Redacted) -> CallToolResult {
    let why = ToolError::Refused(why);
    match tool(name) {
        Some((_, tier)) if tier != Tier::ReadOnly => checked::answer(Err(why)),
        _ => result(Err(why)),
    }
}

impl<S: ServerHandler> ServerHandler for Traced<S> {
    fn get_info(&self) -> ServerConfig {
        self.0.get_info()
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.0.get_tool(name).map(brief)
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let mut listed = self.0.list_tools(request, context).await?;
        listed.tools = listed.tools.into_iter().map(brief).collect();
        Ok(listed)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        mut context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if let (Some(tool), Some(arguments)) = (self.0.get_tool(&request.name), &request.arguments)
            && let Err(why) = within(&tool.input_schema, arguments)
        {
            return Ok(refused(&request.name, why).into());
        }
        // A pipe within the process leaves it where it was put; tools look for it where the wire would bring it.
        let beside = request.meta.iter().flat_map(|meta| meta.iter());
        beside.for_each(|(key, value)| drop(context.meta.insert(key.clone(), value.clone())));
        let incident = context.meta.get(INCIDENT);
        let incident = incident.and_then(|id| IncidentId::parse(id.as_str()?));
        let span = incident.map_or(tracing::Span::none(), |id| telemetry::incident(&id));
        let cancelled = context.ct.clone();
        tokio::select! {
            // Whoever asked is gone, or asks no more: dropping the work ends its requests.
            () = cancelled.cancelled() => Err(ErrorData::internal_error("cancelled", None)),
            answer = self.0.call_tool(request, context).instrument(span) => answer,
        }
    }
}
