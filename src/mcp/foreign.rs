//! Another's MCP server behind one of ours: the listed tools alone, in our words, its answers redacted and bounded.

pub(crate) mod shape;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use rmcp::ErrorData;
use rmcp::ServerHandler;
use rmcp::handler::client::ClientHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, JsonObject, ListToolsResult, PaginatedRequestParams,
    ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
};
use rmcp::service::{NotificationContext, RequestContext, RunningService};
use rmcp::{RoleClient, RoleServer};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};

use crate::mcp::answer::{Answer, ToolError, result, schema};
use crate::mcp::foreign::shape::{Shape, arguments};
use crate::model::Source;
use crate::redact::{Redacted, Redactor};
use crate::text;

/// What stands between a server's name and its tool's: no tool of ours has it.
pub const BETWEEN: &str = "__";
/// A connection with its greeting: a program may have to start first.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// One call, below the 15 s after which the gate gives a tool up.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(9);
/// At the start, and of a connection that stands, the tools are asked for within this; who is slower at the start is called
/// without their arguments being known.
const LIST_TIMEOUT: Duration = Duration::from_secs(3);
/// A server that says nothing of changes is asked for its tools after so long, before the next call.
const READ_AGAIN: Duration = Duration::from_secs(300);
/// A server that could not be reached is not tried again at once by each call.
const PAUSE: Duration = Duration::from_secs(10);
/// Pages of tools that are read of one server: more than any has.
const PAGES_MAX: usize = 10;
/// Characters of what was asked.
const ASKED_MAX_CHARS: usize = 200;

/// A connection to another's server.
pub type Connection = RunningService<RoleClient, Ear>;
/// Makes a connection; it is called again when one has ended.
pub type Connect = Arc<dyn Fn(Ear) -> BoxFuture<'static, anyhow::Result<Connection>> + Send + Sync>;

/// Counts how often a server says that its tools have changed.
#[derive(Debug, Default)]
pub struct Ear(AtomicU64);

impl ClientHandler for Ear {
    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Another's server, as it was configured.
#[derive(Clone)]
pub struct Foreign {
    pub name: String,
    /// The tools that may be called, and what the model is told of each.
    pub tools: Vec<(String, String)>,
    pub connect: Connect,
    /// One call is given up after this.
    pub answers_within: Duration,
    pub redactor: Redactor,
}

/// Our server before it.
pub struct Outsider {
    foreign: Foreign,
    line: Mutex<Line>,
    /// What it declares of the listed tools.
    known: std::sync::Mutex<BTreeMap<String, Known>>,
}

/// The connection as it stands.
enum Line {
    None,
    /// Its tools were read at this instant, when it had told of so many changes; None: they have to be read.
    Up {
        client: Arc<Connection>,
        read: Option<(Instant, u64)>,
    },
    Down {
        until: Instant,
        why: Redacted,
    },
}

/// A listed tool, as its server declares it.
struct Known {
    /// As it was when it was first heard of: so it was let in.
    shape: Shape,
    arguments: JsonObject,
    is_there: bool,
    /// It was of another shape since. Only a person can tell what it does now.
    has_changed: bool,
}

impl Outsider {
    pub(super) fn new(foreign: Foreign) -> Self {
        Self { foreign, line: Mutex::new(Line::None), known: std::sync::Mutex::default() }
    }

    /// The connection, made where there is none. Of a new one, and of one that says that its tools have changed, they are
    /// read again first.
    async fn client(&self) -> Result<Arc<Connection>, Redacted> {
        let mut line = self.line.lock().await;
        let (client, due, by) = match &*line {
            Line::Up { client, read } if !client.is_transport_closed() => {
                let told = client.service().0.load(Ordering::Relaxed);
                let due = read.is_none_or(|(at, heard)| heard != told || at.elapsed() > READ_AGAIN);
                (Arc::clone(client), due, Instant::now() + LIST_TIMEOUT)
            }
            Line::Down { until, why } if Instant::now() < *until => return Err(why.clone()),
            _ => {
                let by = Instant::now() + CONNECT_TIMEOUT;
                match self.connected(by).await {
                    Ok(client) => (client, true, by),
                    Err(why) => {
                        *line = Line::Down { until: Instant::now() + PAUSE, why: why.clone() };
                        return Err(why);
                    }
                }
            }
        };
        if due {
            let heard = client.service().0.load(Ordering::Relaxed);
            let learned = self.learn(&client, by).await.or_else(|why| self.unread(&why));
            let read = learned.is_ok().then(|| (Instant::now(), heard));
            *line = Line::Up { client: Arc::clone(&client), read };
            learned?;
        }
        Ok(client)
    }

    async fn connected(&self, by: Instant) -> Result<Arc<Connection>, Redacted> {
        match timeout_at(by, (self.foreign.connect)(Ear::default())).await {
            Ok(Ok(client)) => Ok(Arc::new(client)),
            Ok(Err(error)) => Err(text!("{} cannot be reached: {}", self.name(), self.says(&format!("{error:#}")))),
            Err(_) => Err(text!("{} did not greet within {} s", self.name(), CONNECT_TIMEOUT.as_secs())),
        }
    }

    /// Its tools could not be read. Where none was ever known nothing can have changed; else nothing is called until they are.
    fn unread(&self, why: &Redacted) -> Result<(), Redacted> {
        if self.known().is_empty() {
            tracing::warn!(server = %self.name(), "another MCP server does not tell its tools: {why}");
            return Ok(());
        }
        Err(text!("the tools of {} could not be read again: {}", self.name(), why))
    }

    /// Reads what it declares of the listed tools now.
    async fn learn(&self, client: &Connection, by: Instant) -> Result<(), Redacted> {
        let read = timeout_at(by, async {
            let (mut tools, mut cursor) = (Vec::new(), None);
            for _ in 0..PAGES_MAX {
                let ask = PaginatedRequestParams::default().with_cursor(cursor);
                let page = client.list_tools(Some(ask)).await.map_err(|error| self.says(&error.to_string()))?;
                let listed = |tool: &Tool| self.foreign.tools.iter().any(|(name, _)| *name == tool.name);
                tools.extend(page.tools.into_iter().filter(listed));
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            Ok::<_, Redacted>(tools)
        });
        let tools = read.await.map_err(|_| Redacted::literal("no answer in time"))??;
        let mut known = self.known();
        known.values_mut().for_each(|tool| tool.is_there = false);
        for tool in tools {
            let shape = Shape::of(&tool);
            let first = || Known {
                shape: shape.clone(),
                arguments: arguments(&tool.input_schema),
                is_there: true,
                has_changed: false,
            };
            let of = known.entry(tool.name.to_string()).or_insert_with(first);
            of.is_there = true;
            if of.shape != shape && !of.has_changed {
                of.has_changed = true;
                let (server, tool) = (self.name(), self.says(&tool.name));
                tracing::warn!(%server, %tool, "another MCP server has changed a tool: it is out until the next start");
            }
        }
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why a listed tool is not called now, if it is not.
    fn barred(&self, tool: &str) -> Option<Redacted> {
        let known = self.known();
        let of = known.get(tool)?;
        if of.has_changed {
            return Some(text!(
                "{} declares {} otherwise than when it was let in: it is out until somebody has looked and starts firstlook again",
                self.name(),
                self.says(tool)
            ));
        }
        (!of.is_there).then(|| text!("{} does not offer {} any more", self.name(), self.says(tool)))
    }

    /// The server's name.
    pub fn server(&self) -> &str {
        &self.foreign.name
    }

    /// The listed tools that may be called, as far as is known, with the arguments that they take.
    pub fn offered(&self) -> Vec<Tool> {
        let tool = |(name, about): &(String, String)| {
            let known = self.known().get(name).map(|known| known.arguments.clone());
            let input = known.unwrap_or_else(|| json!({"type": "object"}).as_object().cloned().unwrap_or_default());
            let mut tool = Tool::new(format!("{}{BETWEEN}{name}", self.foreign.name), about.clone(), input);
            tool.output_schema = Some(schema());
            tool.annotations = Some(ToolAnnotations::new().read_only(true).open_world(true));
            tool
        };
        self.foreign.tools.iter().filter(|(name, _)| self.barred(name).is_none()).map(tool).collect()
    }

    /// What the listed tool answers.
    async fn ask(&self, tool: &str, arguments: Map<String, Value>) -> Result<Answer, ToolError> {
        let kept = self.says(&crate::observe::json::spaced(&arguments)).cut(ASKED_MAX_CHARS);
        let asked = text!("{}: {} {}", self.name(), self.says(tool), kept);
        let client = self.client().await.map_err(ToolError::Refused)?;
        if let Some(why) = self.barred(tool) {
            return Err(ToolError::Refused(why));
        }
        let request = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        let answered = match timeout(self.foreign.answers_within, client.call_tool(request)).await {
            Ok(answered) => answered,
            Err(_) => {
                // Whatever it still does, the next call speaks to a fresh one.
                *self.line.lock().await = Line::None;
                return Err(ToolError::Refused(text!(
                    "{} did not answer within {} s",
                    self.name(),
                    self.foreign.answers_within.as_secs()
                )));
            }
        };
        let answered = answered.map_err(|error| ToolError::Refused(self.says(&error.to_string())))?;
        let said = self.foreign.redactor.redact(&words(&answered));
        if answered.is_error == Some(true) {
            return Err(ToolError::Refused(said.one_line()));
        }
        let mut answer = Answer::new(asked.clone());
        let source = Source::Query { server: self.name(), query: asked.clone() };
        answer.quote(asked, source, said);
        Ok(answer)
    }

    fn name(&self) -> Redacted {
        self.foreign.redactor.redact(&self.foreign.name)
    }

    fn says(&self, text: &str) -> Redacted {
        self.foreign.redactor.redact(text).one_line().cut(300)
    }
}

/// The text of an answer, or what it holds besides.
fn words(answered: &CallToolResult) -> String {
    let texts: Vec<&str> = answered.content.iter().filter_map(|part| part.as_text()).map(|t| t.text.as_str()).collect();
    match &answered.structured_content {
        Some(value) if texts.is_empty() => value.to_string(),
        _ => texts.join("\n"),
    }
}

impl ServerHandler for Outsider {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        if let Err(why) = timeout(LIST_TIMEOUT, self.client()).await.unwrap_or_else(|_| Err("no answer in time".into()))
        {
            tracing::warn!(server = %self.name(), "another MCP server does not tell its tools: {why}");
        }
        Ok(ListToolsResult::with_all_items(self.offered()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let named = request.name.split_once(BETWEEN).filter(|(server, _)| *server == self.foreign.name);
        let listed = named.and_then(|(_, tool)| self.foreign.tools.iter().find(|(name, _)| name == tool));
        let Some((tool, _)) = listed else {
            return Err(ErrorData::invalid_params("there is no tool of this name", None));
        };
        Ok(result(self.ask(tool, request.arguments.unwrap_or_default()).await).into())
    }
}
