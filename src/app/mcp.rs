//! MCP over stdin and stdout: the gate of this process, or a bridge to that of a running daemon.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rmcp::RoleServer;
use rmcp::ServiceExt;
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{IntoTransport, StreamableHttpClientTransport, Transport};
use secrecy::{ExposeSecret, SecretString};

use crate::govern::callers::{Guest, Rights};
use crate::govern::gate::Gate;

/// A daemon on this machine or in this cluster answers the connection at once, or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves the gate, or one server behind it, until stdin ends. The caller is whoever sits at this machine.
///
/// # Errors
/// When there is no such server, or the client does not greet.
pub async fn serve_stdio(gate: &Gate, server: Option<&str>) -> anyhow::Result<()> {
    let guest = Arc::new(Guest::new(Rights::of_this_machine("stdio")));
    let visit = gate.visit(&guest, server).with_context(|| no_such_server(server))?;
    let running = visit.serve(rmcp::transport::stdio()).await.context("the client's greeting")?;
    running.waiting().await?;
    Ok(())
}

/// What there is, where a server was named that is not.
fn no_such_server(server: Option<&str>) -> String {
    format!("--server {}: there are {}", server.unwrap_or_default(), Gate::servers().join(", "))
}

/// Carries messages between stdio and the `/mcp` of a running daemon until either ends.
///
/// # Errors
/// When the daemon cannot be reached, or refuses.
pub async fn bridge(address: SocketAddr, server: Option<&str>, token: Option<&SecretString>) -> anyhow::Result<()> {
    let path = server.map(|server| format!("/{server}")).unwrap_or_default();
    let url = format!("http://{address}/mcp{path}");
    let http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).no_proxy().build()?;
    let mut config = StreamableHttpClientTransportConfig::with_uri(url.as_str());
    config.custom_headers = HashMap::new();
    if let Some(token) = token {
        config = config.auth_header(token.expose_secret());
    }
    let mut daemon = StreamableHttpClientTransport::with_client(http, config);
    let (stdin, stdout) = rmcp::transport::stdio();
    let mut client = IntoTransport::<RoleServer, _, _>::into_transport((stdin, stdout));
    loop {
        tokio::select! {
            message = client.receive() => {
                let message: Option<RxJsonRpcMessage<RoleServer>> = message;
                let Some(message) = message else { break };
                daemon.send(message).await.with_context(|| url.clone())?;
            }
            message = daemon.receive() => {
                let message: Option<TxJsonRpcMessage<RoleServer>> = message;
                let Some(message) = message else { anyhow::bail!("{url}: the daemon ended the connection") };
                client.send(message).await.context("stdout")?;
            }
        }
    }
    daemon.close().await.context("the end of the session")?;
    Ok(())
}
