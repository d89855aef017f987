//! The tool server `k8s-safe-change`: it checks a small change of one object by reading, and proposes; it never writes.

mod check;
mod end;

use rmcp::ErrorData;
use rmcp::ServerHandler;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolResult, ServerConfig};
use rmcp::{tool, tool_handler, tool_router};

use crate::mcp::arguments::{ContainerResources, Named, NodeName, Replicas, Run};
use crate::mcp::checked;
use crate::mcp::info;
use crate::observe::Reader;

/// The server's name.
pub const SERVER: &str = "k8s-safe-change";

/// The server.
#[derive(Clone)]
pub struct K8sSafeChange {
    reader: Reader,
    tool_router: ToolRouter<Self>,
}

#[tool_router]
impl K8sSafeChange {
    /// A server over this reader.
    pub fn new(reader: Reader) -> Self {
        Self { reader, tool_router: Self::tool_router() }
    }

    #[tool(
        description = "Ask a person to scale a workload.",
        annotations(read_only_hint = false, destructive_hint = false, idempotent_hint = true, open_world_hint = false)
    )]
    async fn scale(&self, Parameters(ask): Parameters<Replicas>) -> Result<CallToolResult, ErrorData> {
        Ok(checked::answer(check::scale(&self.reader, &ask).await))
    }

    #[tool(
        description = "Ask a person to pause the rollout of a Deployment.",
        annotations(read_only_hint = false, destructive_hint = false, idempotent_hint = true, open_world_hint = false)
    )]
    async fn pause_rollout(&self, Parameters(ask): Parameters<Named>) -> Result<CallToolResult, ErrorData> {
        Ok(checked::answer(check::pause(&self.reader, &ask, true).await))
    }

    #[tool(
        description = "Ask a person to resume the paused rollout of a Deployment.",
        annotations(read_only_hint = false, destructive_hint = false, idempotent_hint = true, open_world_hint = false)
    )]
    async fn resume_rollout(&self, Parameters(ask): Parameters<Named>) -> Result<CallToolResult, ErrorData> {
        Ok(checked::answer(check::pause(&self.reader, &ask, false).await))
    }

    #[tool(
        description = "Ask a person to set the requests or limits of one container.",
        annotations(read_only_hint = false, destructive_hint = false, idempotent_hint = true, open_world_hint = false)
    )]
    async fn set_resources(
        &self,
        Parameters(ask): Parameters<ContainerResources>,
    ) -> Result<CallToolResult, ErrorData> {
        Ok(checked::answer(check::resources(&self.reader, &ask).await))
    }

    #[tool(
        description = "Ask a person to suspend a CronJob.",
        annotations(read_only_hint = false, destructive_hint = false, idempotent_hint = true, open_world_hint = false)
    )]
    async fn suspend_cronjob(&self, Parameters(ask): Parameters<Named>) -> Result<CallToolResult, ErrorData> {
        Ok(checked::answer(check::suspend(&self.reader, &ask, true).await))
    }

    #[tool(
        description = "Ask a person to resume a suspended CronJob.",
        annotations(read_only_hint = false, destructive_hint = false, idempotent_hint = true, open_world_hint = false)
    )]
    async fn resume_cronjob(&self, Parameters(ask): Parameters<Named>) -> Result<CallToolResult, ErrorData> {
        Ok(checked::answer(check::suspend(&self.reader, &ask, false).await))
    }

    #[tool(
        description = "Ask a person to run an ended Job once more, or a CronJob now.",
        annotations(
            read_only_hint = false,
            destructive_hint = false,
            idempotent_hint = false,
            open_world_hint = false
        )
    )]
    async fn rerun_job(&self, Parameters(ask): Parameters<Run>) -> Result<CallToolResult, ErrorData> {
        Ok(checked::answer(end::rerun(&self.reader, &ask).await))
    }

    #[tool(
        description = "Ask a person to evict one pod; its workload makes another.",
        annotations(read_only_hint = false, destructive_hint = true, idempotent_hint = true, open_world_hint = false)
    )]
    async fn delete_pod(&self, Parameters(ask): Parameters<Named>) -> Result<CallToolResult, ErrorData> {
        Ok(checked::answer(end::delete_pod(&self.reader, &ask).await))
    }

    #[tool(
        description = "Ask a person to cordon a node and evict its pods one by one.",
        annotations(read_only_hint = false, destructive_hint = true, idempotent_hint = true, open_world_hint = false)
    )]
    async fn drain(&self, Parameters(ask): Parameters<NodeName>) -> Result<CallToolResult, ErrorData> {
        Ok(checked::answer(end::drain(&self.reader, &ask).await))
    }

    #[tool(
        description = "Ask a person to keep new pods off a node.",
        annotations(read_only_hint = false, destructive_hint = false, idempotent_hint = true, open_world_hint = false)
    )]
    async fn cordon(&self, Parameters(ask): Parameters<NodeName>) -> Result<CallToolResult, ErrorData> {
        Ok(checked::answer(check::cordon(&self.reader, &ask, true).await))
    }

    #[tool(
        description = "Ask a person to let a cordoned node take new pods again.",
        annotations(read_only_hint = false, destructive_hint = false, idempotent_hint = true, open_world_hint = false)
    )]
    async fn uncordon(&self, Parameters(ask): Parameters<NodeName>) -> Result<CallToolResult, ErrorData> {
        Ok(checked::answer(check::cordon(&self.reader, &ask, false).await))
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for K8sSafeChange {
    fn get_info(&self) -> ServerConfig {
        info(SERVER)
    }
}
