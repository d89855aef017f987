//! The tool server `k8s-logs`: one pod's log, and a search over the pods of a workload, bounded and folded.

mod hits;
mod read;
mod runs;

use rmcp::ErrorData;
use rmcp::ServerHandler;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolResult, ServerConfig};
use rmcp::{tool, tool_handler, tool_router};

use crate::mcp::answer::{result, schema};
use crate::mcp::arguments::{OneLog, Search};
use crate::mcp::info;
use crate::observe::Reader;

/// The server's name.
pub const SERVER: &str = "k8s-logs";

/// The server.
#[derive(Clone)]
pub struct K8sLogs {
    reader: Reader,
    tool_router: ToolRouter<Self>,
}

#[tool_router]
impl K8sLogs {
    /// A server over this reader.
    pub fn new(reader: Reader) -> Self {
        Self { reader, tool_router: Self::tool_router() }
    }

    #[tool(
        description = "Read a pod's log, of this run and of the one before a restart. Like lines are one (x12).",
        output_schema = schema(),
        annotations(read_only_hint = true, destructive_hint = false, open_world_hint = false)
    )]
    async fn pod_logs(&self, Parameters(ask): Parameters<OneLog>) -> Result<CallToolResult, ErrorData> {
        Ok(result(read::pod_logs(&self.reader, &ask).await))
    }

    #[tool(
        description = "Find a text (in any case) or regular expression in the logs of a workload's pods.",
        output_schema = schema(),
        annotations(read_only_hint = true, destructive_hint = false, open_world_hint = false)
    )]
    async fn search_logs(&self, Parameters(ask): Parameters<Search>) -> Result<CallToolResult, ErrorData> {
        Ok(result(read::search_logs(&self.reader, &ask).await))
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for K8sLogs {
    fn get_info(&self) -> ServerConfig {
        info(SERVER)
    }
}
