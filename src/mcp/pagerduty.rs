//! The tool server `pagerduty`: open incidents with recent changes, and who is on call, read-only.

mod read;

use rmcp::ErrorData;
use rmcp::ServerHandler;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolResult, ServerConfig};
use rmcp::{tool, tool_handler, tool_router};

use crate::clock::Clock;
use crate::mcp::answer::{result, schema};
use crate::mcp::arguments::Narrow;
use crate::mcp::info;
use crate::observe::PagerDuty;

/// The server's name.
pub const SERVER: &str = "pagerduty";

/// The server.
#[derive(Clone)]
pub struct Pager {
    pagerduty: PagerDuty,
    clock: Clock,
    tool_router: ToolRouter<Self>,
}

#[tool_router]
impl Pager {
    /// A server over this PagerDuty; the clock says what "now" is.
    pub fn new(pagerduty: PagerDuty, clock: Clock) -> Self {
        Self { pagerduty, clock, tool_router: Self::tool_router() }
    }

    #[tool(
        description = "List PagerDuty's open incidents and the last day's changes.",
        output_schema = schema(),
        annotations(read_only_hint = true, destructive_hint = false, open_world_hint = false)
    )]
    async fn list_pagerduty_incidents(&self, Parameters(ask): Parameters<Narrow>) -> Result<CallToolResult, ErrorData> {
        Ok(result(read::incidents(&self.pagerduty, &self.clock, &ask).await))
    }

    #[tool(
        description = "Tell who is on call, by escalation policy and level.",
        output_schema = schema(),
        annotations(read_only_hint = true, destructive_hint = false, open_world_hint = false)
    )]
    async fn who_is_on_call(&self, Parameters(ask): Parameters<Narrow>) -> Result<CallToolResult, ErrorData> {
        Ok(result(read::on_call(&self.pagerduty, &self.clock, &ask).await))
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Pager {
    fn get_info(&self) -> ServerConfig {
        info(SERVER)
    }
}
