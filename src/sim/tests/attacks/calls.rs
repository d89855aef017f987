//! What a caller from outside does: its session, its calls, and what it is told.

use serde_json::{Map, Value, json};

use crate::sim::tests::attacks::case::Call;
use crate::sim::tests::attacks::siege::Siege;

impl Siege {
    /// One call of a tool, or one request of the protocol, by a caller from outside.
    pub(super) async fn call(&mut self, call: Call) {
        let token = call.token.clone().unwrap_or_else(|| format!("flk_{}", call.caller));
        let server = call.server.clone().unwrap_or_default();
        let session = match &call.session_of {
            Some(other) => self.session(&format!("flk_{other}"), &server, &call.headers).await.1,
            None => match self.session(&token, &server, &call.headers).await {
                (200, Some(session)) => Some(session),
                (status, _) => {
                    match call.status {
                        Some(_) => self.expect(call.status, status, "the MCP listener"),
                        None => self.unplayable.push(format!("{} got no session: {status}", call.caller)),
                    }
                    return;
                }
            },
        };
        let method = call.method.clone().unwrap_or_else(|| "tools/call".to_owned());
        let nested = (0..call.nested).fold(call.arguments.clone(), |inner, _| json!({"x": inner}));
        let params = if call.method.is_some() { nested } else { json!({"name": call.tool, "arguments": nested}) };
        let request = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
        let (status, text, _) = self.ask(&token, &server, session.as_deref(), &call.headers, &request).await;
        self.expect(call.status, status, "the MCP listener");
        if let Some(says) = &call.says
            && !text.contains(says.as_str())
        {
            self.broken.push(format!("{} answered without {says:?}: {text}", call.tool));
        }
        let is_refused =
            ["\"isError\":true", "\"error\":", "\"status\":\"refused\""].iter().any(|word| text.contains(word));
        if call.refused && !is_refused && status < 400 {
            self.broken.push(format!("{} was not refused: {text}", call.tool));
        }
        if let Some(name) = &call.keep {
            // The answer may come as an event of a stream.
            let id = text.split_once("\"approval_id\":\"").and_then(|(_, rest)| rest.split_once('"'));
            match id {
                Some((id, _)) => drop(self.kept.insert(name.clone(), id.to_owned())),
                None => self.unplayable.push(format!("{} answered without an approval: {text}", call.tool)),
            }
        }
        self.answers.push((call.caller, text));
    }

    /// The session of a token, which is begun where there is none.
    async fn session(&mut self, token: &str, server: &str, headers: &Map<String, Value>) -> (u16, Option<String>) {
        let key = (token.to_owned(), server.to_owned());
        if let Some(session) = self.sessions.get(&key) {
            return (200, Some(session.clone()));
        }
        let greeting = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25",
            "capabilities": {}, "clientInfo": {"name": "siege", "version": "1"}}});
        let (status, text, session) = self.ask(token, server, None, headers, &greeting).await;
        self.answers.push((token.trim_start_matches("flk_").to_owned(), text));
        if let Some(session) = &session {
            self.sessions.insert(key, session.clone());
            let done = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
            self.ask(token, server, Some(session), headers, &done).await;
        }
        (status, session)
    }

    async fn ask(
        &self,
        token: &str,
        server: &str,
        session: Option<&str>,
        headers: &Map<String, Value>,
        body: &Value,
    ) -> (u16, String, Option<String>) {
        let path = if server.is_empty() { String::new() } else { format!("/{server}") };
        let mut request = self
            .town
            .http
            .post(format!("{}{path}", self.doors.mcp_url))
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2025-11-25")
            .json(body);
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if let Some(session) = session {
            request = request.header("mcp-session-id", session);
        }
        for (name, value) in headers {
            request = request.header(name, value.as_str().unwrap());
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let session = answer.headers().get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned());
        (status, answer.text().await.unwrap(), session)
    }
}
