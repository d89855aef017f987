//! Settings of tools: which of firstlook's own are off, and other MCP servers whose tools are read by.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;

use crate::config::overlay::read_secret;
use crate::config::sources::is_web;
use crate::redact::is_secret_key;

/// Servers: each takes a connection, and a process where it is one.
const SERVERS_MAX: usize = 10;
/// Tools of all of them: a model that is offered more chooses badly.
const TOOLS_MAX: usize = 30;
/// Characters of a server's name, and of a tool's: together with `__` at most the 64 that models' servers take.
const SERVER_MAX_CHARS: usize = 20;
const TOOL_MAX_CHARS: usize = 42;
/// Characters of what a tool is for: as long as those of firstlook's own.
const ABOUT_MAX_CHARS: usize = 200;

/// firstlook's own tools.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tools {
    /// Tools, actions and whole servers that there are not, for nobody: neither the model nor other MCP clients are offered
    /// them, no card has a button of them, and `firstlook rbac` grants nothing for them.
    pub off: Vec<String>,
}

/// Another MCP server: a program that is spoken to over stdin and stdout, or a URL.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct McpServer {
    /// Its tools are offered as `NAME__TOOL`.
    pub name: String,
    /// Streamable HTTP: `https://grafana-mcp.monitoring.svc:8000/mcp`.
    pub url: Option<String>,
    /// The bearer token for the URL.
    pub token: Option<SecretString>,
    pub token_file: Option<PathBuf>,
    /// The program with its arguments.
    #[serde(default)]
    pub command: Vec<String>,
    /// The program's environment, beside `PATH`: it gets nothing of firstlook's own.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The tools that may be called; no other is.
    pub tools: Vec<McpTool>,
}

/// One tool that may be called.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct McpTool {
    /// As its server calls it.
    pub name: String,
    /// What the model is told of it. What the server says of itself reaches no model.
    pub about: String,
    /// Whoever runs firstlook says so: what the server says of its own tools is not believed.
    #[serde(default)]
    pub read_only: bool,
}

impl McpServer {
    pub(super) fn read_secret_files(&mut self) -> Result<(), String> {
        read_secret(&format!("mcp_servers.{}.token", self.name), &mut self.token, &self.token_file)
    }

    /// What the program is given in its environment under names that tell a secret: mostly a token of its own.
    pub(super) fn given_secrets(&self) -> impl Iterator<Item = String> {
        let secret = self.environment.iter().filter(|(name, _)| is_secret_key(name));
        secret.map(|(_, value)| value.clone())
    }

    /// Checks all of them.
    pub(super) fn check(servers: &[Self]) -> Result<(), String> {
        let tools: usize = servers.iter().map(|server| server.tools.len()).sum();
        if servers.len() > SERVERS_MAX || tools > TOOLS_MAX {
            return Err(format!("mcp_servers: at most {SERVERS_MAX} servers and {TOOLS_MAX} tools"));
        }
        let mut names = BTreeSet::new();
        for (i, server) in servers.iter().enumerate() {
            server.check_one().map_err(|what| format!("mcp_servers[{i}].{what}"))?;
            if !names.insert(&server.name) {
                return Err(format!("mcp_servers[{i}].name: `{}` is taken", server.name));
            }
        }
        Ok(())
    }

    fn check_one(&self) -> Result<(), String> {
        if !is_name(&self.name, SERVER_MAX_CHARS, "-") {
            return Err(format!("name: 1 to {SERVER_MAX_CHARS} letters, digits and `-`"));
        }
        match (&self.url, self.command.first()) {
            (Some(url), None) => is_web(url, "url")?,
            (None, Some(program)) if !program.is_empty() => {}
            _ => return Err("url, command: exactly one of them".into()),
        }
        if self.url.is_none() && self.token.is_some() {
            return Err("token_file: goes with `url`; a program reads its own credentials".into());
        }
        let mut names = BTreeSet::new();
        for (i, tool) in self.tools.iter().enumerate() {
            tool.check().map_err(|what| format!("tools[{i}].{what}"))?;
            if !names.insert(&tool.name) {
                return Err(format!("tools[{i}].name: `{}` is listed twice", tool.name));
            }
        }
        if self.tools.is_empty() { Err("tools: none is listed, so none could be called".into()) } else { Ok(()) }
    }
}

impl McpTool {
    fn check(&self) -> Result<(), String> {
        if !is_name(&self.name, TOOL_MAX_CHARS, "-_") {
            return Err(format!("name: 1 to {TOOL_MAX_CHARS} letters, digits, `-`, `_`"));
        }
        if self.about.trim().is_empty() || self.about.chars().count() > ABOUT_MAX_CHARS {
            return Err(format!("about: what it is for, in at most {ABOUT_MAX_CHARS} characters: the model reads it"));
        }
        if !self.read_only {
            return Err(format!(
                "read_only: `{}` is not declared to read only. What may change something counts as reversible at least, \
                 and firstlook has no check, rehearsal, verification or Undo for a tool that is not its own: leave it out",
                self.name
            ));
        }
        Ok(())
    }
}

fn is_name(name: &str, max_chars: usize, beside: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || beside.contains(c);
    !name.is_empty() && name.len() <= max_chars && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(yaml: &str) -> Result<(), String> {
        McpServer::check(&serde_saphyr::from_str::<Vec<McpServer>>(yaml).map_err(|error| error.to_string())?)
    }

    #[test]
    fn only_tools_that_are_declared_to_read_are_taken_and_each_mistake_names_its_key() {
        let tools = "tools: [{name: query, about: Ask it, read_only: true}]";
        assert_eq!(check(&format!("[{{name: grafana, url: 'https://x/mcp', {tools}}}]")), Ok(()));
        assert_eq!(check(&format!("[{{name: grafana, command: [grafana-mcp, --stdio], {tools}}}]")), Ok(()));
        for (yaml, says) in [
            (
                "[{name: g, url: 'https://x', tools: [{name: wipe, about: Wipes}]}]".to_owned(),
                "not declared to read only",
            ),
            ("[{name: g, url: 'https://x', tools: []}]".to_owned(), "none is listed"),
            (format!("[{{name: g, {tools}}}]"), "exactly one of them"),
            (format!("[{{name: g, url: 'https://x', command: [x], {tools}}}]"), "exactly one of them"),
            (format!("[{{name: g__x, url: 'https://x', {tools}}}]"), "mcp_servers[0].name"),
            (format!("[{{name: g, command: [x], token: t, {tools}}}]"), "goes with `url`"),
            (format!("[{{name: g, url: 'https://x', {tools}}}, {{name: g, command: [x], {tools}}}]"), "is taken"),
            (
                "[{name: g, url: 'https://x', tools: [{name: q, about: '', read_only: true}]}]".to_owned(),
                "tools[0].about",
            ),
        ] {
            let error = check(&yaml).unwrap_err();
            assert!(error.contains(says), "{yaml}: {error}");
        }
    }
}
