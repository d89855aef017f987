//! The tool server `k8s-metrics`: PromQL at an instant or over a range, alerts and metric names, all read-only.

mod lines;
mod read;

use rmcp::ErrorData;
use rmcp::ServerHandler;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolResult, RequestMetaObject, ServerConfig};
use rmcp::{tool, tool_handler, tool_router};

use crate::clock::Clock;
use crate::mcp::answer::{result, schema};
use crate::mcp::arguments::{Find, MaybeNamespace, Query, QueryRange};
use crate::mcp::info;
use crate::mcp::reach::Reach;
use crate::observe::Prometheus;

pub(in crate::mcp) use lines::{Range, course};
pub(in crate::mcp) use read::{is_said, span, tell};

/// The server's name.
pub const SERVER: &str = "k8s-metrics";

/// The server.
#[derive(Clone)]
pub struct K8sMetrics {
    prometheus: Prometheus,
    clock: Clock,
    tool_router: ToolRouter<Self>,
}

#[tool_router]
impl K8sMetrics {
    /// A server over this Prometheus; the clock says what "now" is.
    pub fn new(prometheus: Prometheus, clock: Clock) -> Self {
        Self { prometheus, clock, tool_router: Self::tool_router() }
    }

    #[tool(
        description = "Ask Prometheus for the present value of a query.",
        output_schema = schema(),
        annotations(read_only_hint = true, destructive_hint = false, open_world_hint = false)
    )]
    async fn query_metrics(
        &self,
        Parameters(ask): Parameters<Query>,
        meta: RequestMetaObject,
    ) -> Result<CallToolResult, ErrorData> {
        Ok(result(read::query_metrics(&self.prometheus, &self.clock, &ask, &Reach::of(&meta)).await))
    }

    #[tool(
        description = "Ask Prometheus for the course of a query: first, last, extremes and change of each series.",
        output_schema = schema(),
        annotations(read_only_hint = true, destructive_hint = false, open_world_hint = false)
    )]
    async fn query_metrics_range(
        &self,
        Parameters(ask): Parameters<QueryRange>,
        meta: RequestMetaObject,
    ) -> Result<CallToolResult, ErrorData> {
        Ok(result(read::query_metrics_range(&self.prometheus, &self.clock, &ask, &Reach::of(&meta)).await))
    }

    #[tool(
        description = "List the alerts that fire or are pending, with their queries.",
        output_schema = schema(),
        annotations(read_only_hint = true, destructive_hint = false, open_world_hint = false)
    )]
    async fn list_alerts(
        &self,
        Parameters(ask): Parameters<MaybeNamespace>,
        meta: RequestMetaObject,
    ) -> Result<CallToolResult, ErrorData> {
        Ok(result(read::list_alerts(&self.prometheus, &self.clock, &ask, &Reach::of(&meta)).await))
    }

    #[tool(
        description = "Find metrics by a part of their name.",
        output_schema = schema(),
        annotations(read_only_hint = true, destructive_hint = false, open_world_hint = false)
    )]
    async fn find_metrics(
        &self,
        Parameters(ask): Parameters<Find>,
        meta: RequestMetaObject,
    ) -> Result<CallToolResult, ErrorData> {
        Ok(result(read::find_metrics(&self.prometheus, &self.clock, &ask, &Reach::of(&meta)).await))
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for K8sMetrics {
    fn get_info(&self) -> ServerConfig {
        info(SERVER)
    }
}
