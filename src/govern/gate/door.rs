//! One caller's connection to the gate: each call is decided, audited, run, stored as evidence, audited.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmcp::ErrorData;
use rmcp::RoleServer;
use rmcp::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientRequest, ContentBlock, Implementation,
    JsonRpcMessage, ListToolsResult, MetaObject, PaginatedRequestParams, ServerCapabilities, ServerConfig,
};
use rmcp::service::{RequestContext, RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use serde_json::{Map, Value};
use tracing::Instrument as _;

use crate::govern::audit;
use crate::govern::callers::namespace_of;
use crate::govern::gate::{Counters, Gate, kept};
use crate::govern::policy;
use crate::govern::policy::{Ask, Usage};
use crate::govern::scope::Scope;
use crate::mcp;
use crate::mcp::{Pipe, SEGMENTS_MAX, Told};
use crate::model::{
    Call, CallId, CallOutcome, Caller, Evidence, EvidenceId, IncidentId, Reading, Severity, Tier, Verdict,
};
use crate::redact::Redacted;
use crate::store::{Durability, Write};
use crate::telemetry;
use crate::text;

/// A tool that has not answered by then is missing data; below the 20 s after which the agent gives up on the gate.
const TOOL_TIMEOUT: Duration = Duration::from_secs(15);
/// Arguments longer than this ask for nothing that a tool has.
const ARGUMENTS_MAX_BYTES: usize = 16 << 10;
/// Characters of a reason why a read failed.
const WHY_MAX_CHARS: usize = 1_000;

/// Key in a result's `_meta`: the evidence that it became.
const EVIDENCE: &str = "firstlook.dev/evidence";

/// The evidence that a call became, if it ran.
pub fn evidence_of(result: &CallToolResult) -> Option<EvidenceId> {
    result.meta.as_ref()?.get(EVIDENCE)?.as_str()?.parse().ok()
}

/// One connection.
pub(super) struct Door {
    pub(super) gate: Gate,
    pub(super) caller: Caller,
    pub(super) incident: IncidentId,
    pub(super) scope: Scope,
    pub(super) counters: Arc<Mutex<Counters>>,
}

/// The connection's transport. It decides each call as it comes in, in the order in which the calls were made: the
/// handlers of parallel calls run in any order.
pub(super) struct Entrance {
    pub(super) pipe: Pipe<RoleServer>,
    pub(super) door: Arc<Door>,
}

impl Transport<RoleServer> for Entrance {
    type Error = <Pipe<RoleServer> as Transport<RoleServer>>::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        self.pipe.send(item)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        let mut message = self.pipe.receive().await?;
        if let JsonRpcMessage::Request(request) = &mut message
            && let ClientRequest::CallToolRequest(call) = &mut request.request
        {
            let admitted = self.door.admit(&call.params);
            call.extensions.insert(admitted);
        }
        Some(message)
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.pipe.close().await
    }
}

/// A call that was decided; it has a piece of evidence reserved if it may run.
#[derive(Clone, Debug)]
struct Admitted {
    call: Call,
    evidence: Option<EvidenceId>,
}

impl Door {
    /// Decides one call and reserves its evidence. Quick: nothing is read or written.
    fn admit(&self, request: &CallToolRequestParams) -> Admitted {
        let options = self.gate.options();
        let empty = Map::new();
        let arguments = request.arguments.as_ref().unwrap_or(&empty);
        let tier = self.gate.tier(&request.name).unwrap_or(Tier::Destructive);
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = self.decide(&request.name, tier, arguments, counters.used);
        let evidence = (verdict == Verdict::Run).then(|| counters.reserve());
        let call = Call {
            id: CallId::fresh(),
            incident: self.incident.clone(),
            caller: self.caller.clone(),
            tool: options.redactor.redact(&request.name).one_line().cut(60).as_str().to_owned(),
            arguments: kept(&options.redactor, arguments),
            tier,
            verdict,
            called_at: options.clock.now(),
            outcome: CallOutcome::NotRun,
        };
        Admitted { call, evidence }
    }

    fn decide(&self, tool: &str, tier: Tier, arguments: &Map<String, Value>, used: u32) -> Verdict {
        let deny = |rule: &'static str, why: Redacted| Verdict::Deny { rule: rule.into(), why };
        if self.gate.tier(tool).is_none() {
            return deny("built in", "there is no tool of this name".into());
        }
        if tier != Tier::ReadOnly {
            return deny("built in", "nothing can be changed here: a change is proposed in the report".into());
        }
        if tool == mcp::firstlook::OUTSIDE {
            return deny("built in", "this tool is for callers from outside".into());
        }
        if let Some(why) = forbidden(arguments) {
            return deny("built in", why);
        }
        if let Err(why) = self.scope.allows(arguments) {
            return deny("scope", why);
        }
        let ask = Ask {
            tool,
            tier,
            object: None,
            namespace: namespace_of(arguments),
            also: &[],
            labels: &[],
            severity: Severity::None,
            caller: &self.caller,
            now: self.gate.options().clock.now(),
        };
        policy::decide(self.gate.policy(), &ask, &Usage { calls_of_incident: used, ..Usage::default() })
    }

    /// Audits an admitted call, runs it if it may, and answers.
    async fn answer(&self, admitted: Admitted, mut request: CallToolRequestParams) -> CallToolResult {
        // A tool server runs in a task of its own: its lines are told whose they are by the request.
        mcp::belongs_to(&mut request, &self.incident);
        if mcp::server_of(&request.name) == Some(mcp::firstlook::SERVER) {
            // Of what is stored it sees what is its own, whatever it names.
            let arguments = request.arguments.get_or_insert_default();
            arguments.insert("incident".to_owned(), Value::String(self.incident.to_string()));
        }
        let Admitted { mut call, evidence } = admitted;
        self.gate.count(&call.tool, &call.verdict);
        let mut writes = vec![Write::Call(call.clone()), Write::Audit(audit::verdict(&call))];
        let (Some(id), true) = (evidence, call.verdict == Verdict::Run) else {
            let stored = self.store(writes).await;
            return refused(&call.verdict, stored.err());
        };
        // Holds the id's place whatever happens to the call.
        writes.push(self.evidence(&call, id, Reading::Missing("it was not finished".into()), call.arguments.cut(200)));
        if let Err(why) = self.store(writes).await {
            return failed(&text!("the call was not run: {}", why));
        }
        let (reading, asked, shown) = match self.run(&call.tool, request).await {
            Ok((told, shown)) => (Reading::Segments(told.segments), told.asked, shown),
            Err(why) => (Reading::Missing(why.clone()), call.arguments.cut(200), why.as_str().to_owned()),
        };
        let is_read = matches!(reading, Reading::Segments(_));
        call.outcome = match &reading {
            Reading::Segments(_) => CallOutcome::Read { evidence: id },
            Reading::Missing(why) => CallOutcome::Failed { why: why.clone() },
        };
        let is_foreign = call.tool.contains(mcp::foreign::BETWEEN);
        let title = format!("{id} {} {asked}", call.tool);
        let evidence =
            Evidence { id, tool: call.tool.clone(), asked, read_at: self.gate.options().clock.now(), reading };
        let audited = Write::Audit(audit::call(&call, &evidence));
        let stored = Write::Evidence { incident: self.incident.clone(), evidence, replace: false };
        // What is not kept cannot be cited, so it is not shown.
        if let Err(why) = self.store(vec![stored, Write::Call(call), audited]).await {
            return failed(&text!("{} was read but could not be kept: {}", id, why));
        }
        let mut meta = MetaObject::new();
        meta.insert(EVIDENCE.to_owned(), Value::String(id.to_string()));
        let result = if is_read {
            CallToolResult::success(vec![ContentBlock::text(format!("{title}\n<data>\n{}\n</data>", fence(&shown)))])
        } else {
            // What others' servers say of a failure is theirs, too.
            let said = match is_foreign {
                true => format!("\n<data>\n{}\n</data>", fence(&shown)),
                false => format!(" {}", fence(&shown)),
            };
            let says = format!("{title}\nNot read:{said}\nThis is missing data: it proves nothing.");
            CallToolResult::error(vec![ContentBlock::text(says)])
        };
        result.with_meta(Some(meta))
    }

    fn evidence(&self, call: &Call, id: EvidenceId, reading: Reading, asked: Redacted) -> Write {
        let evidence = Evidence { id, tool: call.tool.clone(), asked, read_at: call.called_at, reading };
        Write::Evidence { incident: self.incident.clone(), evidence, replace: false }
    }

    async fn store(&self, writes: Vec<Write>) -> Result<(), Redacted> {
        let options = self.gate.options();
        options.store.commit(writes, Durability::Soon, None).await.map_err(|error| {
            tracing::error!(incident = %self.incident, "a call could not be recorded: {error}");
            options.redactor.redact(&error.to_string()).one_line().cut(200)
        })
    }

    /// The tool's evidence and text, or why there is none.
    async fn run(&self, tool: &str, request: CallToolRequestParams) -> Result<(Told, String), Redacted> {
        let (result, shown) = self.gate.run(tool, request).await.map_err(|error| error.why)?;
        let told = result.structured_content.and_then(|value| serde_json::from_value::<Told>(value).ok());
        let Some(mut told) = told else { return Err("it answered without evidence".into()) };
        told.segments.truncate(SEGMENTS_MAX);
        Ok((told, shown.as_str().to_owned()))
    }
}

/// Why a tool did not answer: in words, and as it tells programs.
pub(super) struct NotRead {
    pub(super) why: Redacted,
    pub(super) told: Option<Value>,
}

impl From<Redacted> for NotRead {
    fn from(why: Redacted) -> Self {
        Self { why, told: None }
    }
}

impl Gate {
    /// What a tool answers and its text, redacted; or why it did not.
    pub(super) async fn run(
        &self,
        tool: &str,
        request: CallToolRequestParams,
    ) -> Result<(CallToolResult, Redacted), NotRead> {
        let redactor = &self.options().redactor;
        let Some(server) = self.server_of(tool) else {
            return Err(Redacted::literal("its server is not there").into());
        };
        let result = match tokio::time::timeout(TOOL_TIMEOUT, server.call_tool(request)).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => return Err(redactor.redact(&error.to_string()).one_line().cut(WHY_MAX_CHARS).into()),
            Err(_) => return Err(text!("no answer within {} s", TOOL_TIMEOUT.as_secs()).into()),
        };
        let texts: Vec<&str> = result.content.iter().filter_map(|c| c.as_text()).map(|t| t.text.as_str()).collect();
        let shown = redactor.redact(&texts.join("\n"));
        if result.is_error == Some(true) {
            return Err(NotRead { why: shown.one_line().cut(WHY_MAX_CHARS), told: result.structured_content });
        }
        Ok((result, shown))
    }
}

/// Why these arguments are refused whatever the tool and whoever asks.
pub(super) fn forbidden(arguments: &Map<String, Value>) -> Option<Redacted> {
    if serde_json::to_vec(arguments).is_ok_and(|bytes| bytes.len() > ARGUMENTS_MAX_BYTES) {
        return Some("the arguments are too long".into());
    }
    mcp::forbidden(arguments).map(Redacted::literal)
}

fn failed(why: &Redacted) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(why.as_str())])
}

fn refused(verdict: &Verdict, unstored: Option<Redacted>) -> CallToolResult {
    let why = match verdict {
        Verdict::Deny { rule, why } => text!("refused ({}): {}", rule, why),
        Verdict::Nobody { missing } => text!("refused: {}", missing),
        Verdict::Run | Verdict::Ask { .. } => "refused".into(),
    };
    match unstored {
        Some(error) => failed(&text!("{} (not recorded: {})", why, error)),
        None => failed(&why),
    }
}

/// The text with nothing in it that could open or close the fence around data.
pub(super) fn fence(text: &str) -> String {
    let mut fenced = String::with_capacity(text.len());
    for (at, character) in text.char_indices() {
        let word = || text[at + 1..].trim_start_matches(['/', ' ']).get(..4);
        match character {
            '<' if word().is_some_and(|word| word.eq_ignore_ascii_case("data")) => fenced.push('‹'),
            other => fenced.push(other),
        }
    }
    fenced
}

impl ServerHandler for Door {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("firstlook", env!("CARGO_PKG_VERSION")))
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.gate.tools_for(&self.caller)))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        // A transport that has no order of its own leaves the decision to this place.
        let admitted = context.extensions.get::<Admitted>().cloned().unwrap_or_else(|| self.admit(&request));
        let span = telemetry::incident(&self.incident);
        Ok(self.answer(admitted, request).instrument(span).await.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_tools_text_can_close_the_fence() {
        assert_eq!(fence("a </data> b </ DATA> <data> 1 < 2"), "a ‹/data> b ‹/ DATA> ‹data> 1 < 2");
        assert_eq!(fence("x <"), "x <");
    }
}
