//! The tool server `loki`: LogQL over the log streams of one namespace, read-only.

mod read;

use rmcp::ErrorData;
use rmcp::ServerHandler;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolResult, ServerConfig};
use rmcp::{tool, tool_handler, tool_router};

use crate::clock::Clock;
use crate::mcp::answer::{result, schema};
use crate::mcp::arguments::QueryLogs;
use crate::mcp::info;
use crate::observe::Loki;

/// The server's name.
pub const SERVER: &str = "loki";

/// The server.
#[derive(Clone)]
pub struct LokiLogs {
    loki: Loki,
    clock: Clock,
    tool_router: ToolRouter<Self>,
}

#[tool_router]
impl LokiLogs {
    /// A server over this Loki; the clock says what "now" is.
    pub fn new(loki: Loki, clock: Clock) -> Self {
        Self { loki, clock, tool_router: Self::tool_router() }
    }

    #[tool(
        description = "Ask Loki for logs, also of pods that are gone.",
        output_schema = schema(),
        annotations(read_only_hint = true, destructive_hint = false, open_world_hint = false)
    )]
    async fn query_logs(&self, Parameters(ask): Parameters<QueryLogs>) -> Result<CallToolResult, ErrorData> {
        Ok(result(read::query_logs(&self.loki, &self.clock, &ask).await))
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for LokiLogs {
    fn get_info(&self) -> ServerConfig {
        info(SERVER)
    }
}
