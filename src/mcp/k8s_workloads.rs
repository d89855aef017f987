//! The tool server `k8s-workloads`: workloads, objects, events and what changed, all read-only.

mod lines;
mod read;

use rmcp::ErrorData;
use rmcp::ServerHandler;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolResult, ServerConfig};
use rmcp::{tool, tool_handler, tool_router};

use crate::mcp::answer::{result, schema};
use crate::mcp::arguments::{Events, OneObject, OneWorkload, Rolled, Workloads};
use crate::mcp::info;
use crate::observe::Reader;

/// The server's name.
pub const SERVER: &str = "k8s-workloads";

/// The server.
#[derive(Clone)]
pub struct K8sWorkloads {
    reader: Reader,
    tool_router: ToolRouter<Self>,
}

#[tool_router]
impl K8sWorkloads {
    /// A server over this reader.
    pub fn new(reader: Reader) -> Self {
        Self { reader, tool_router: Self::tool_router() }
    }

    #[tool(
        description = "List the workloads of a namespace with ready pods, revision and images.",
        output_schema = schema(),
        annotations(read_only_hint = true, destructive_hint = false, open_world_hint = false)
    )]
    async fn list_workloads(&self, Parameters(ask): Parameters<Workloads>) -> Result<CallToolResult, ErrorData> {
        Ok(result(read::list_workloads(&self.reader, &ask).await))
    }

    #[tool(
        description = "Read one workload: its conditions, its pods, and why they wait, restart or ended.",
        output_schema = schema(),
        annotations(read_only_hint = true, destructive_hint = false, open_world_hint = false)
    )]
    async fn get_workload(&self, Parameters(ask): Parameters<OneWorkload>) -> Result<CallToolResult, ErrorData> {
        Ok(result(read::get_workload(&self.reader, &ask).await))
    }

    #[tool(
        description = "Read one object of any kind as JSON. Secrets cannot be read; a ConfigMap shows its keys.",
        output_schema = schema(),
        annotations(read_only_hint = true, destructive_hint = false, open_world_hint = false)
    )]
    async fn get_object(&self, Parameters(ask): Parameters<OneObject>) -> Result<CallToolResult, ErrorData> {
        Ok(result(read::get_object(&self.reader, &ask).await))
    }

    #[tool(
        description = "List events of a namespace, or of one object and the pods it owns, newest first.",
        output_schema = schema(),
        annotations(read_only_hint = true, destructive_hint = false, open_world_hint = false)
    )]
    async fn list_events(&self, Parameters(ask): Parameters<Events>) -> Result<CallToolResult, ErrorData> {
        Ok(result(read::list_events(&self.reader, &ask).await))
    }

    #[tool(
        description = "Show what changed in a workload: a diff of its last revisions and its ConfigMaps.",
        output_schema = schema(),
        annotations(read_only_hint = true, destructive_hint = false, open_world_hint = false)
    )]
    async fn what_changed(&self, Parameters(ask): Parameters<OneWorkload>) -> Result<CallToolResult, ErrorData> {
        Ok(result(read::what_changed(&self.reader, &ask).await))
    }

    #[tool(
        description = "List a workload's revisions with age, images and pods; the running one is marked.",
        output_schema = schema(),
        annotations(read_only_hint = true, destructive_hint = false, open_world_hint = false)
    )]
    async fn rollout_history(&self, Parameters(ask): Parameters<Rolled>) -> Result<CallToolResult, ErrorData> {
        Ok(result(read::rollout_history(&self.reader, &ask.into()).await))
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for K8sWorkloads {
    fn get_info(&self) -> ServerConfig {
        info(SERVER)
    }
}
