//! The ways to other MCP servers, as configured: a program of our own making, or a URL; each bounded in what it may send.

use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use futures::FutureExt as _;
use rmcp::RoleClient;
use rmcp::ServiceExt as _;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use secrecy::ExposeSecret as _;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::process::{Child, ChildStdout, Command};

use crate::config::{Config, McpServer};
use crate::govern::gate::Gate;
use crate::mcp::foreign::{BETWEEN, CALL_TIMEOUT, Connect, Connection, Ear, Foreign};
use crate::redact::Redactor;

/// Bytes of one message: a hundred times what a model is shown of it.
const MESSAGE_MAX_BYTES: usize = 1 << 20;
/// Establishing a connection takes milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Everything that the configuration names; nothing is started yet.
///
/// # Errors
/// When a client cannot be built.
pub fn from(config: &Config, redactor: &Redactor) -> anyhow::Result<Vec<Foreign>> {
    config.mcp_servers.iter().map(|server| one(server, redactor)).collect()
}

/// The names of the configured servers.
pub fn servers(config: &Config) -> Vec<String> {
    config.mcp_servers.iter().map(|server| server.name.clone()).collect()
}

/// The names under which the configured tools of others are offered.
pub fn names(config: &Config) -> Vec<String> {
    let of = |server: &McpServer| {
        let name = server.name.clone();
        server.tools.iter().map(move |tool| format!("{name}{BETWEEN}{}", tool.name)).collect::<Vec<_>>()
    };
    config.mcp_servers.iter().flat_map(of).collect()
}

fn one(server: &McpServer, redactor: &Redactor) -> anyhow::Result<Foreign> {
    let name = &server.name;
    anyhow::ensure!(
        !Gate::servers().contains(&name.as_str()),
        "mcp_servers: a server of firstlook's own is called `{name}`"
    );
    let connect = match &server.url {
        Some(url) => by_url(url, server).with_context(|| format!("mcp_servers.{}", server.name))?,
        None => by_program(server),
    };
    let tools = server.tools.iter().map(|tool| (tool.name.clone(), tool.about.trim().to_owned())).collect();
    Ok(Foreign { name: server.name.clone(), tools, connect, answers_within: CALL_TIMEOUT, redactor: redactor.clone() })
}

fn by_url(url: &str, server: &McpServer) -> anyhow::Result<Connect> {
    // A redirect would carry the token elsewhere.
    let http = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let mut config = StreamableHttpClientTransportConfig::with_uri(url)
        .max_json_response_size(MESSAGE_MAX_BYTES)
        .max_sse_event_size(MESSAGE_MAX_BYTES);
    if let Some(token) = &server.token {
        config = config.auth_header(token.expose_secret());
    }
    Ok(Arc::new(move |ear| {
        let transport = StreamableHttpClientTransport::with_client(http.clone(), config.clone());
        async move { Ok::<_, anyhow::Error>(ear.serve(transport).await?) }.boxed()
    }))
}

fn by_program(server: &McpServer) -> Connect {
    let (words, environment) = (server.command.clone(), server.environment.clone());
    Arc::new(move |ear| {
        let started = start(&words, &environment, ear);
        async move { started?.await }.boxed()
    })
}

/// Starts the program with nothing of firstlook's environment but `PATH`.
fn start(
    words: &[String],
    environment: &std::collections::BTreeMap<String, String>,
    ear: Ear,
) -> anyhow::Result<impl Future<Output = anyhow::Result<Connection>> + use<>> {
    let (program, arguments) = words.split_first().context("command: empty")?;
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .envs(environment)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| program.clone())?;
    let stdin = child.stdin.take().context("no stdin")?;
    let stdout = child.stdout.take().context("no stdout")?;
    let out = Output { stdout, _child: child };
    let transport = AsyncRwTransport::<RoleClient, _, _>::new(out, stdin).with_max_line_length(MESSAGE_MAX_BYTES);
    Ok(async move { Ok(ear.serve(transport).await?) })
}

/// What the program writes. It ends with whoever reads it.
struct Output {
    stdout: ChildStdout,
    _child: Child,
}

impl AsyncRead for Output {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stdout).poll_read(cx, buf)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A server in a few lines of another language, one that every machine has.
    const PROGRAM: &str = r#"
while read -r line; do
  id=${line#*'"id":'} id=${id%%[!0-9]*}
  case $line in
    *'"method":"initialize"'*) said='"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"x","version":"1"}}' ;;
    *'"method":"tools/call"'*) said="\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"$(env | cut -d= -f1 | tr '\n' ' ')\"}]}" ;;
    *'"id":'*) said='"error":{"code":-32601,"message":"no such method"}' ;;
    *) continue ;;
  esac
  printf '{"jsonrpc":"2.0","id":%s,%s}\n' "$id" "$said"
done
"#;

    #[tokio::test]
    async fn a_program_is_spoken_to_over_stdio_and_sees_nothing_of_our_environment() {
        let command = ["sh", "-c", PROGRAM].map(str::to_owned);
        let environment = BTreeMap::from([("OWN".to_owned(), "1".to_owned())]);
        let client = start(&command, &environment, Ear::default()).unwrap().await.unwrap();
        let answer = client.call_tool(rmcp::model::CallToolRequestParams::new("env")).await.unwrap();
        let text = answer.content[0].as_text().unwrap().text.clone();
        let seen: Vec<&str> = text.split_whitespace().collect();
        let ours = ["HOME", "CARGO_MANIFEST_DIR", "USER"];
        assert!(seen.contains(&"OWN") && !seen.iter().any(|name| ours.contains(name)), "{text}");
        assert!(start(&["/nowhere/at-all".to_owned()], &BTreeMap::new(), Ear::default()).is_err());
    }
}
