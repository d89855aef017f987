//! What a caller from outside reaches: tools of firstlook's own, and those of others where its token names their server.

use std::sync::Arc;

use rmcp::model::Tool;

use crate::govern::callers::Guest;
use crate::govern::gate::visit::{Inside, Visit};
use crate::govern::gate::{Gate, offered};
use crate::mcp;
use crate::mcp::foreign::{BETWEEN, Outsider};
use crate::model::Tier;

impl Gate {
    /// A connection for a caller from outside, to all its servers or to one alone. None where there is no such server,
    /// or the caller does not reach it.
    pub fn visit(&self, guest: &Arc<Guest>, server: Option<&str>) -> Option<Visit> {
        let own = |name: &str| self.0.tools.iter().any(|tool| mcp::server_of(&tool.name) == Some(name));
        let foreign = |name: &str| self.0.outsiders.iter().any(|outsider| outsider.server() == name);
        let rights = &guest.rights;
        let reaches = |name| own(name) && rights.has_server(name) || foreign(name) && rights.reads_foreign(name);
        if server.is_some_and(|name| !reaches(name)) {
            return None;
        }
        let reached = |tool: &&Tool| {
            let of = mcp::server_of(&tool.name);
            let here = of.is_some_and(|of| guest.rights.has_server(of) && server.is_none_or(|server| server == of));
            let tier = mcp::tool(&tool.name).map(|(name, tier)| self.policy().tier_of(name, tier));
            here && tier.is_some_and(|tier| guest.rights.tiers.contains(&tier))
        };
        let short = |tool: &Tool| offered::offered(tool.clone(), self.tier(&tool.name).unwrap_or(Tier::Destructive));
        let tools = self.0.tools.iter().filter(reached).map(short).collect();
        let server = server.map(str::to_owned);
        Some(Visit(Arc::new(Inside { gate: self.clone(), guest: Arc::clone(guest), server, tools })))
    }

    /// The names of the tool servers.
    pub fn servers() -> Vec<&'static str> {
        let mut names: Vec<_> = mcp::TOOLS.iter().map(|(_, server, _)| *server).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Returns when the audit of every call that was answered is in the store.
    pub async fn flush(&self) {
        self.0.ledger.flush().await;
    }
}

impl Inside {
    pub(super) fn has_schema(&self, tool: &str) -> bool {
        mcp::tool(tool).is_none() || self.own(tool).is_some_and(|offered| offered.output_schema.is_some())
    }

    /// A tool of firstlook's own that this caller is offered here.
    pub(super) fn own(&self, tool: &str) -> Option<&Tool> {
        self.tools.iter().find(|offered| offered.name == tool)
    }

    /// The tools of servers of others that this caller is offered here now: they come and go.
    pub(super) fn of_others(&self) -> impl Iterator<Item = Tool> {
        let here = |name: &str| self.server.as_deref().is_none_or(|server| server == name);
        let outsiders = self.gate.0.outsiders.iter().map(Arc::as_ref);
        let reached = outsiders.filter(move |of| here(of.server()) && self.guest.rights.reads_foreign(of.server()));
        reached.flat_map(Outsider::offered).map(|tool| offered::offered(tool, Tier::ReadOnly))
    }

    pub(super) fn reaches(&self, tool: &str) -> bool {
        self.own(tool).is_some() || tool.contains(BETWEEN) && self.of_others().any(|offered| offered.name == tool)
    }
}
