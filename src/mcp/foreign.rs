//! Another's MCP server behind one of ours: the listed tools alone, in our words, its answers redacted and bounded.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rmcp::ErrorData;
use rmcp::RoleServer;
use rmcp::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, JsonObject, ListToolsResult, PaginatedRequestParams,
    ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
};
use rmcp::service::RequestContext;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::mcp::Client;
use crate::mcp::answer::{Answer, ToolError, result, schema};
use crate::model::Source;
use crate::redact::{Redacted, Redactor};
use crate::text;

/// What stands between a server's name and its tool's: no tool of ours has it.
pub const BETWEEN: &str = "__";
/// A connection with its greeting: a program may have to start first.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// One call, below the 15 s after which the gate gives a tool up.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(9);
/// At the start the tools are asked for within this; who is slower is called without their arguments being known.
const LIST_TIMEOUT: Duration = Duration::from_secs(3);
/// A server that could not be reached is not tried again at once by each call.
const PAUSE: Duration = Duration::from_secs(10);
/// Arguments of a tool that are offered, those within others counted, and how deep: every turn pays for each.
const ARGUMENTS_MAX: usize = 30;
const DEPTH_MAX: usize = 3;
/// Pages of tools that are read of one server: more than any has.
const PAGES_MAX: usize = 10;
/// Characters of an argument's name.
const NAME_MAX_CHARS: usize = 64;
/// Characters of what was asked.
const ASKED_MAX_CHARS: usize = 200;

/// Makes a connection; it is called again when one has ended.
pub type Connect = Arc<dyn Fn() -> BoxFuture<'static, anyhow::Result<Client>> + Send + Sync>;

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
pub(super) struct Outsider {
    foreign: Foreign,
    line: Mutex<Line>,
}

/// The connection as it stands.
enum Line {
    None,
    Up(Arc<Client>),
    Down { until: Instant, why: Redacted },
}

impl Outsider {
    pub(super) fn new(foreign: Foreign) -> Self {
        Self { foreign, line: Mutex::new(Line::None) }
    }

    /// The connection, made where there is none.
    async fn client(&self) -> Result<Arc<Client>, Redacted> {
        let mut line = self.line.lock().await;
        match &*line {
            Line::Up(client) if !client.is_transport_closed() => return Ok(Arc::clone(client)),
            Line::Down { until, why } if Instant::now() < *until => return Err(why.clone()),
            _ => {}
        }
        let made = match timeout(CONNECT_TIMEOUT, (self.foreign.connect)()).await {
            Ok(Ok(client)) => Ok(Arc::new(client)),
            Ok(Err(error)) => Err(text!("{} cannot be reached: {}", self.name(), self.says(&format!("{error:#}")))),
            Err(_) => Err(text!("{} did not greet within {} s", self.name(), CONNECT_TIMEOUT.as_secs())),
        };
        *line = match &made {
            Ok(client) => Line::Up(Arc::clone(client)),
            Err(why) => Line::Down { until: Instant::now() + PAUSE, why: why.clone() },
        };
        made
    }

    /// What the listed tool answers.
    async fn ask(&self, tool: &str, arguments: Map<String, Value>) -> Result<Answer, ToolError> {
        let kept = self.says(&crate::observe::json::spaced(&arguments)).cut(ASKED_MAX_CHARS);
        let asked = text!("{}: {} {}", self.name(), self.says(tool), kept);
        let client = self.client().await.map_err(ToolError::Refused)?;
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

    /// What arguments its tools take, as far as it says so in time.
    async fn schemas(&self) -> Vec<(String, JsonObject)> {
        let listed = timeout(LIST_TIMEOUT, async {
            let client = self.client().await?;
            let (mut known, mut cursor) = (Vec::new(), None);
            for _ in 0..PAGES_MAX {
                let ask = PaginatedRequestParams::default().with_cursor(cursor);
                let page = client.list_tools(Some(ask)).await.map_err(|error| self.says(&error.to_string()))?;
                let listed = |tool: &Tool| self.foreign.tools.iter().any(|(name, _)| *name == tool.name);
                let tools = page.tools.into_iter().filter(listed);
                known.extend(tools.map(|tool| (tool.name.to_string(), arguments(&tool.input_schema))));
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            Ok::<_, Redacted>(known)
        });
        match listed.await {
            Ok(Ok(known)) => known,
            Ok(Err(why)) => self.silent(&why),
            Err(_) => self.silent(&"no answer in time".into()),
        }
    }

    fn silent(&self, why: &Redacted) -> Vec<(String, JsonObject)> {
        tracing::warn!(server = %self.name(), "another MCP server does not tell its tools: {why}");
        Vec::new()
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

/// A tool's arguments without a word of its server: names that are plain identifiers, and types.
fn arguments(schema: &JsonObject) -> JsonObject {
    bare(schema, DEPTH_MAX, &mut ARGUMENTS_MAX.clone())
}

fn bare(schema: &JsonObject, depth: usize, room: &mut usize) -> JsonObject {
    let is_name = |name: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        !name.is_empty() && name.len() <= NAME_MAX_CHARS && name.chars().all(plain)
    };
    let is_type = |kind: &Value| {
        kind.as_str().is_some_and(|kind| {
            matches!(kind, "object" | "array" | "string" | "number" | "integer" | "boolean" | "null")
        })
    };
    let mut kept = JsonObject::new();
    if let Some(kind) = schema.get("type").filter(|kind| is_type(kind)) {
        kept.insert("type".into(), kind.clone());
    }
    if depth == 0 {
        return kept;
    }
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        let named: Vec<_> = properties.iter().filter(|(name, _)| is_name(name)).take(*room).collect();
        *room -= named.len();
        let mut inner = JsonObject::new();
        for (name, value) in named {
            let value = value.as_object().map_or_else(JsonObject::new, |value| bare(value, depth - 1, room));
            inner.insert(name.clone(), Value::Object(value));
        }
        kept.insert("properties".into(), Value::Object(inner));
    }
    if let Some(required) = schema.get("required").and_then(Value::as_array) {
        let names = required.iter().filter(|name| name.as_str().is_some_and(is_name)).take(ARGUMENTS_MAX);
        kept.insert("required".into(), names.cloned().collect());
    }
    if let Some(items) = schema.get("items").and_then(Value::as_object) {
        kept.insert("items".into(), Value::Object(bare(items, depth - 1, room)));
    }
    kept
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
        let schemas = self.schemas().await;
        let tool = |(name, about): &(String, String)| {
            let known = schemas.iter().find(|(of, _)| of == name).map(|(_, schema)| schema.clone());
            let input = known.unwrap_or_else(|| json!({"type": "object"}).as_object().cloned().unwrap_or_default());
            let mut tool = Tool::new(format!("{}{BETWEEN}{name}", self.foreign.name), about.clone(), input);
            tool.output_schema = Some(schema());
            tool.annotations = Some(ToolAnnotations::new().read_only(true).open_world(true));
            tool
        };
        Ok(ListToolsResult::with_all_items(self.foreign.tools.iter().map(tool).collect()))
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
