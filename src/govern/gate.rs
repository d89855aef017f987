//! The gate: an MCP server in front of every tool server, and the only way to a tool.

mod asked;
mod door;
mod ledger;
mod offered;
mod offers;
mod propose;
mod reach;
mod unchecked;
mod visit;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures::future::try_join_all;
use rmcp::ServiceExt;
use rmcp::model::Tool;
use serde_json::{Map, Value};
use tracing::Instrument as _;

pub use crate::govern::gate::door::evidence_of;
pub(in crate::govern) use crate::govern::gate::propose::CHECK_TIMEOUT;
pub use crate::govern::gate::propose::Suggestion;
pub use crate::govern::gate::unchecked::Unchecked;
pub use crate::govern::gate::visit::Visit;

use crate::clock::Clock;
use crate::govern::gate::door::{Door, Entrance};
use crate::govern::gate::ledger::Ledger;
use crate::govern::off::Off;
use crate::govern::policy::Policy;
use crate::govern::scope::Scope;
use crate::mcp;
use crate::mcp::Client;
use crate::mcp::foreign::{Foreign, Outsider};
use crate::model::{Caller, EvidenceId, IncidentId, Tier, Verdict};
use crate::observe::Reader;
use crate::observe::Sources;
use crate::redact::Redactor;
use crate::store::Store;
use crate::telemetry;
use crate::telemetry::{CallLabels, Metrics};

/// A caller's connection to the gate; it ends when dropped.
pub type Connection = Client;

/// What the gate is built on.
#[derive(Clone)]
pub struct GateOptions {
    pub store: Store,
    pub reader: Reader,
    /// What may be read beside the cluster.
    pub sources: Sources,
    /// Servers of others.
    pub foreign: Vec<Foreign>,
    /// What of firstlook's own there is not.
    pub off: Off,
    pub policy: Policy,
    pub redactor: Redactor,
    pub clock: Clock,
    pub metrics: Metrics,
}

/// The gate. Clones are the same one.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    options: GateOptions,
    /// The tool servers by name; each runs as long as its client is held.
    servers: HashMap<&'static str, Client>,
    /// Every tool of ours that is on, by name.
    tools: Vec<Tool>,
    /// Those of servers of others, each with its server's client.
    foreign: HashMap<String, Arc<Client>>,
    /// Who tells which of those are offered now.
    outsiders: Vec<Arc<Outsider>>,
    counters: Mutex<HashMap<IncidentId, Weak<Mutex<Counters>>>>,
    ledger: Ledger,
    /// Held while an approval is made, so that two of the same cannot pass each other. It may wait for the cluster.
    proposing: tokio::sync::Mutex<()>,
    /// Held while a yes or no is counted, for the same reason. It waits for the store alone.
    voting: tokio::sync::Mutex<()>,
}

/// What the calls of one incident have used, shared by all its connections.
pub(super) struct Counters {
    /// The next piece of evidence.
    next: EvidenceId,
    /// Calls that ran.
    used: u32,
}

impl Counters {
    /// The id for one more call.
    fn reserve(&mut self) -> EvidenceId {
        let id = self.next;
        self.next = EvidenceId(id.0 + 1);
        self.used += 1;
        id
    }
}

impl Gate {
    /// Starts the tool servers and opens the gate before them.
    ///
    /// # Errors
    /// When a tool server does not start or offers a tool that the table of tiers does not know.
    pub async fn start(options: GateOptions) -> anyhow::Result<Self> {
        let mut servers = HashMap::new();
        let mut tools = Vec::new();
        let mut started = mcp::start(&options.reader, &options.sources).await?;
        let own = mcp::firstlook::Firstlook::new(options.store.clone(), options.sources.runbooks.clone());
        started.push((mcp::firstlook::SERVER, mcp::connect(own).await?));
        for (name, client) in started {
            tools.extend(client.list_all_tools().await?);
            servers.insert(name, client);
        }
        for tool in &tools {
            anyhow::ensure!(mcp::tool(&tool.name).is_some(), "the tool {} has no tier", tool.name);
        }
        tools.retain(|tool: &Tool| !options.off.has(&tool.name));
        tools.sort_by(|a, b| a.name.cmp(&b.name));
        let (mut foreign, mut outsiders) = (HashMap::new(), Vec::new());
        let others = mcp::before(&options.foreign).await?.into_iter().map(|(outsider, client)| async move {
            let offered = client.list_all_tools().await?;
            Ok::<_, anyhow::Error>((outsider, Arc::new(client), offered))
        });
        for (outsider, client, offered) in try_join_all(others).await? {
            foreign.extend(offered.iter().map(|tool| (tool.name.to_string(), Arc::clone(&client))));
            outsiders.push(outsider);
        }
        let counters = Mutex::default();
        let (proposing, voting) = (tokio::sync::Mutex::default(), tokio::sync::Mutex::default());
        let ledger = Ledger::open(options.store.clone());
        let inner = Inner { options, servers, tools, foreign, outsiders, counters, ledger, proposing, voting };
        Ok(Self(Arc::new(inner)))
    }

    /// A client of the gate for this caller in this incident, over a pipe in this process. The caller belongs to the
    /// connection: nothing in a request can change it.
    ///
    /// # Errors
    /// When the store cannot say what the incident has used.
    pub async fn connect(&self, caller: Caller, incident: IncidentId, scope: Scope) -> anyhow::Result<Connection> {
        let counters = self.counters(&incident).await?;
        let door = Arc::new(Door { gate: self.clone(), caller, incident, scope, counters });
        let (near, far) = mcp::pipe();
        let span = telemetry::incident(&door.incident);
        let serve = async move {
            match door.clone().serve(Entrance { pipe: far, door }).await {
                Ok(running) => drop(running.waiting().await),
                Err(error) => tracing::error!("a connection to the gate failed: {error}"),
            }
        };
        tokio::spawn(serve.instrument(span));
        Ok(().serve(near).await?)
    }

    /// The store behind it.
    pub fn store(&self) -> &Store {
        &self.0.options.store
    }

    /// What is off.
    pub fn off(&self) -> &Off {
        &self.0.options.off
    }

    /// The present policy.
    pub fn policy(&self) -> &Policy {
        &self.0.options.policy
    }

    /// The tools that a caller is offered, by name: an agent proposes in its report alone, so it sees no write tool.
    pub fn tools_for(&self, caller: &Caller) -> Vec<Tool> {
        let offered = |tool: &&Tool| match caller {
            Caller::Agent | Caller::Findings => {
                tool.name != mcp::firstlook::OUTSIDE && self.tier(&tool.name) == Some(Tier::ReadOnly)
            }
            Caller::Person { .. } | Caller::Client { .. } => true,
        };
        let of_others = self.0.outsiders.iter().flat_map(|outsider| outsider.offered());
        let mut tools: Vec<Tool> = self.0.tools.iter().filter(offered).cloned().chain(of_others).collect();
        tools.sort_by(|a, b| a.name.cmp(&b.name));
        tools
    }

    pub(super) fn options(&self) -> &GateOptions {
        &self.0.options
    }

    pub(super) fn voting(&self) -> &tokio::sync::Mutex<()> {
        &self.0.voting
    }

    /// The client of the server that has this tool.
    fn server_of(&self, tool: &str) -> Option<&Client> {
        match mcp::server_of(tool) {
            Some(server) => self.0.servers.get(server),
            None => self.0.foreign.get(tool).map(Arc::as_ref),
        }
    }

    /// The tier of a tool that there is, and is on. Of others only what was declared to read is taken: their word counts for nothing.
    fn tier(&self, tool: &str) -> Option<Tier> {
        let own = mcp::tool(tool).filter(|(name, _)| !self.off().has(name)).map(|(_, tier)| tier);
        own.or_else(|| self.0.foreign.contains_key(tool).then_some(Tier::ReadOnly))
    }

    async fn counters(&self, incident: &IncidentId) -> anyhow::Result<Arc<Mutex<Counters>>> {
        if let Some(counters) = self.known_counters(incident) {
            return Ok(counters);
        }
        let store = &self.0.options.store;
        let next = store.next_evidence_id(incident).await?;
        let ran = |call: &&crate::model::Call| call.verdict == Verdict::Run;
        let used = store.calls_of(incident).await?.iter().filter(ran).count() as u32;
        let mut all = self.0.counters.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, counters| counters.strong_count() > 0);
        // Another connection may have counted meanwhile.
        if let Some(counters) = all.get(incident).and_then(Weak::upgrade) {
            return Ok(counters);
        }
        let counters = Arc::new(Mutex::new(Counters { next, used }));
        all.insert(incident.clone(), Arc::downgrade(&counters));
        Ok(counters)
    }

    fn known_counters(&self, incident: &IncidentId) -> Option<Arc<Mutex<Counters>>> {
        self.0.counters.lock().unwrap_or_else(PoisonError::into_inner).get(incident)?.upgrade()
    }

    fn count(&self, tool: &str, verdict: &Verdict) {
        // What others call their tools is theirs to choose: a metric's labels are not.
        let other = if self.0.foreign.contains_key(tool) { "foreign" } else { "unknown" };
        let tool = mcp::tool(tool).map_or(other, |(name, _)| name);
        self.0.options.metrics.calls.get_or_create(&CallLabels { tool, verdict: verdict.as_str() }).inc();
    }
}

/// Arguments of a call as they are kept: redacted, at most this many characters.
const ARGUMENTS_MAX_CHARS: usize = 2_000;

fn kept(redactor: &Redactor, arguments: &Map<String, Value>) -> crate::redact::Redacted {
    redactor.redact(&crate::observe::json::spaced(arguments)).cut(ARGUMENTS_MAX_CHARS)
}

#[cfg(test)]
pub(super) mod tests;
