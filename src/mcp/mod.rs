//! MCP servers: layer 2, one file per tool server: arguments -> observe -> evidence.

pub mod alertmanager;
mod answer;
mod arguments;
mod bounds;
mod brief;
mod checked;
pub mod firstlook;
mod folded;
pub mod foreign;
pub mod k8s_logs;
pub mod k8s_metrics;
pub mod k8s_safe_change;
pub mod k8s_safe_restart;
pub mod k8s_workloads;
pub mod loki;
mod near;
pub mod pagerduty;
mod pipe;
mod reach;
mod revisions;
mod traced;

use std::sync::Arc;

use futures::future::try_join_all;
use rmcp::RoleClient;
use rmcp::RoleServer;
use rmcp::ServerHandler;
use rmcp::ServiceExt;
use rmcp::model::{Implementation, ServerCapabilities, ServerConfig};
use rmcp::service::RunningService;

pub use answer::{SEGMENTS_MAX, TEXT_MAX_CHARS, Told};
pub use arguments::forbidden;
pub use bounds::within;
pub use checked::{Checked, Labelled};
pub use pipe::{Pipe, pipe};
pub use reach::Reach;
pub use traced::belongs_to;

use crate::mcp::foreign::{Foreign, Outsider};
use crate::mcp::traced::Traced;
use crate::model::Tier;
use crate::observe::Reader;
use crate::observe::Sources;

/// Every tool: its name, its server, its tier. Policy may raise a tier; nothing lowers it.
pub const TOOLS: &[(&str, &str, Tier)] = &[
    ("list_workloads", k8s_workloads::SERVER, Tier::ReadOnly),
    ("get_workload", k8s_workloads::SERVER, Tier::ReadOnly),
    ("get_object", k8s_workloads::SERVER, Tier::ReadOnly),
    ("list_events", k8s_workloads::SERVER, Tier::ReadOnly),
    ("what_changed", k8s_workloads::SERVER, Tier::ReadOnly),
    ("rollout_history", k8s_workloads::SERVER, Tier::ReadOnly),
    ("pod_logs", k8s_logs::SERVER, Tier::ReadOnly),
    ("search_logs", k8s_logs::SERVER, Tier::ReadOnly),
    ("query_metrics", k8s_metrics::SERVER, Tier::ReadOnly),
    ("query_metrics_range", k8s_metrics::SERVER, Tier::ReadOnly),
    ("list_alerts", k8s_metrics::SERVER, Tier::ReadOnly),
    ("find_metrics", k8s_metrics::SERVER, Tier::ReadOnly),
    ("query_logs", loki::SERVER, Tier::ReadOnly),
    ("list_pagerduty_incidents", pagerduty::SERVER, Tier::ReadOnly),
    ("who_is_on_call", pagerduty::SERVER, Tier::ReadOnly),
    ("rollout_restart", k8s_safe_restart::SERVER, Tier::Reversible),
    ("rollout_undo", k8s_safe_restart::SERVER, Tier::Reversible),
    ("scale", k8s_safe_change::SERVER, Tier::Reversible),
    ("pause_rollout", k8s_safe_change::SERVER, Tier::Reversible),
    ("resume_rollout", k8s_safe_change::SERVER, Tier::Reversible),
    ("set_resources", k8s_safe_change::SERVER, Tier::Reversible),
    ("suspend_cronjob", k8s_safe_change::SERVER, Tier::Reversible),
    ("resume_cronjob", k8s_safe_change::SERVER, Tier::Reversible),
    ("cordon", k8s_safe_change::SERVER, Tier::Reversible),
    ("uncordon", k8s_safe_change::SERVER, Tier::Reversible),
    ("rerun_job", k8s_safe_change::SERVER, Tier::Reversible),
    ("delete_pod", k8s_safe_change::SERVER, Tier::Destructive),
    ("drain", k8s_safe_change::SERVER, Tier::Destructive),
    ("silence_alert", alertmanager::SERVER, Tier::Reversible),
    ("expire_silence", alertmanager::SERVER, Tier::Reversible),
    ("similar_incidents", firstlook::SERVER, Tier::ReadOnly),
    ("find_runbooks", firstlook::SERVER, Tier::ReadOnly),
    ("get_approval", firstlook::SERVER, Tier::ReadOnly),
    ("get_evidence", firstlook::SERVER, Tier::ReadOnly),
];

/// A tool of ours by name: its constant name and its tier.
pub fn tool(name: &str) -> Option<(&'static str, Tier)> {
    TOOLS.iter().find(|(tool, ..)| *tool == name).map(|(tool, _, tier)| (*tool, *tier))
}

/// The server that has this tool.
pub fn server_of(name: &str) -> Option<&'static str> {
    TOOLS.iter().find(|(tool, ..)| *tool == name).map(|(_, server, _)| *server)
}

/// A client of one tool server, which runs as long as the client does.
pub type Client = RunningService<RoleClient, ()>;

/// Starts every tool server over this reader, and those whose source is configured: its name and a client of it.
///
/// # Errors
/// When a server does not answer its client's greeting.
pub async fn start(reader: &Reader, sources: &Sources) -> anyhow::Result<Vec<(&'static str, Client)>> {
    let mut servers = vec![
        (k8s_workloads::SERVER, connect(k8s_workloads::K8sWorkloads::new(reader.clone())).await?),
        (k8s_logs::SERVER, connect(k8s_logs::K8sLogs::new(reader.clone())).await?),
        (k8s_safe_restart::SERVER, connect(k8s_safe_restart::K8sSafeRestart::new(reader.clone())).await?),
        (k8s_safe_change::SERVER, connect(k8s_safe_change::K8sSafeChange::new(reader.clone())).await?),
    ];
    if let Some(prometheus) = &sources.prometheus {
        let server = k8s_metrics::K8sMetrics::new(prometheus.clone(), reader.clock().clone());
        servers.push((k8s_metrics::SERVER, connect(server).await?));
    }
    if let Some(loki) = &sources.loki {
        let server = loki::LokiLogs::new(loki.clone(), reader.clock().clone());
        servers.push((loki::SERVER, connect(server).await?));
    }
    if let Some(pagerduty) = &sources.pagerduty {
        let server = pagerduty::Pager::new(pagerduty.clone(), reader.clock().clone());
        servers.push((pagerduty::SERVER, connect(server).await?));
    }
    if let Some(alertmanager) = &sources.alertmanager {
        let server = alertmanager::Silences::new(reader.clone(), alertmanager.clone());
        servers.push((alertmanager::SERVER, connect(server).await?));
    }
    Ok(servers)
}

/// Starts our servers before those of others, all at once: one that is slow or away holds up none.
///
/// # Errors
/// When one of ours does not answer its client's greeting.
pub async fn before(others: &[Foreign]) -> anyhow::Result<Vec<(Arc<Outsider>, Client)>> {
    let start = |other: &Foreign| {
        let outsider = Arc::new(Outsider::new(other.clone()));
        async move { Ok::<_, anyhow::Error>((Arc::clone(&outsider), connect(outsider).await?)) }
    };
    try_join_all(others.iter().map(start)).await
}

/// A client of `server` over a pipe in this process.
///
/// # Errors
/// When the server does not answer the client's greeting.
pub async fn connect(server: impl ServerHandler) -> anyhow::Result<Client> {
    let (near, far): (Pipe<RoleClient>, Pipe<RoleServer>) = pipe();
    tokio::spawn(async move {
        match Traced(server).serve(far).await {
            // The client going away is how a server ends.
            Ok(running) => drop(running.waiting().await),
            Err(error) => tracing::error!("a tool server did not start: {error}"),
        }
    });
    Ok(().serve(near).await?)
}

/// How a server of ours presents itself.
fn info(server: &'static str) -> ServerConfig {
    ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
        .with_server_info(Implementation::new(server, env!("CARGO_PKG_VERSION")))
}

#[cfg(test)]
pub(crate) mod tests;
