//! One attack under way: the embedded world with every door open that the product has, and what is tried at each.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::app;
use crate::app::Stages;
use crate::config::Config;
use crate::govern::callers::{Callers, token_hash};
use crate::govern::gate::Gate;
use crate::govern::policy::Policy;
use crate::http;
use crate::http::mcp::{Admission, Mcp};
use crate::http::slack::Interactivity;
use crate::model::{Approval, Incident, Kind};
use crate::sim::cluster::{Fault, Request};
use crate::sim::slack::{SignedRequest, signed_with};
use crate::sim::tests::attacks::case::{Agent, Call, Case, File, Plant, Post, Press, Sent, Step, merge, typed};
use crate::sim::tests::{Town, alert, body, edit, folder, without_model};
use crate::slack::desk::Desk;
use crate::slack::interact::Place;
use crate::stages::deliver::Outlet;
use crate::store::{Durability, Write};

/// What stands in a namespace that no incident and (but for one caller) no token reaches.
pub(super) const VAULT: &str = "keeper-canary-5d1e7a";
/// The caller that reaches it.
pub(super) const KEEPER: &str = "keeper";
/// firstlook's accounts.
pub(super) const ACCOUNTS: [&str; 4] =
    ["firstlook", "firstlook-preview", "firstlook-write", "firstlook-write-destructive"];
/// Errors of the stages in a row, as a store or a Slack that does not answer makes them, after which it is as it is.
const TRIES: u32 = 3;
/// A minute before the scenarios' epoch.
const EVENT_AT: &str = "2026-03-24T16:39:00Z";
/// A request that nothing sends for so long will not be sent.
const PATIENCE: Duration = Duration::from_secs(20);

/// An attack under way.
pub(super) struct Siege {
    pub(super) case: Case,
    pub(super) town: Town,
    /// What the API server was asked by the application, and by those who stole a token.
    pub(super) asked: Vec<Request>,
    pub(super) stolen: Vec<Request>,
    /// What callers were told, by name.
    pub(super) answers: Vec<(String, String)>,
    broken: Vec<String>,
    slack_url: String,
    mcp_url: String,
    /// By token and server.
    sessions: HashMap<(String, String), String>,
    kept: BTreeMap<String, String>,
    last: Option<SignedRequest>,
    seen: u64,
    _doors: DropGuard,
}

impl Siege {
    /// Prepares the world of a case.
    pub(super) async fn lay(case: Case) -> Self {
        let mut scenario = without_model(folder(&case.world));
        if let Some(agent) = &case.agent {
            for (at, reply) in replies(agent).iter().enumerate() {
                let path = format!("model/1/{:04}.json", at + 1);
                scenario.files.insert(path, reply.to_string().into_bytes());
            }
        }
        let (vault, planted) = (vault(), &case.plant);
        for (at, line) in vault.iter().chain(planted).filter_map(Plant::lines) {
            scenario.files.entry(format!("logs/{at}.log")).or_default().extend(format!("{line}\n").into_bytes());
        }
        edit(&mut scenario, |items| vault.iter().chain(planted).for_each(|plant| sow(items, plant)));
        let policy = case.policy.as_ref().map(|text| Policy::parse(text, "policy.yaml").unwrap());
        let town = Town::with(scenario, |setup| {
            if let Some(policy) = policy {
                setup.policy = policy;
            }
        })
        .await;
        let (slack_url, mcp_url, doors) = open_doors(&town, &case.callers).await;
        Self {
            case,
            town,
            asked: Vec::new(),
            stolen: Vec::new(),
            answers: Vec::new(),
            broken: Vec::new(),
            slack_url,
            mcp_url,
            sessions: HashMap::new(),
            kept: BTreeMap::new(),
            last: None,
            seen: 0,
            _doors: doors,
        }
    }

    /// Does all that the case does; what of it was answered otherwise than it must be.
    pub(super) async fn run(&mut self) -> Vec<String> {
        for (at, step) in self.case.steps.clone().into_iter().enumerate() {
            let mut step = step;
            let rests = step.as_object_mut().and_then(|fields| fields.remove("rest")) != Some(json!(false));
            let step: Step = typed(self.filled(step).await, &format!("step {}", at + 1));
            let before = self.broken.len();
            self.take(step).await;
            if rests {
                self.settle().await;
            }
            let new = self.town.world.cluster.requests_after(self.seen);
            self.asked.extend(new.0);
            self.seen = new.1;
            self.broken[before..].iter_mut().for_each(|what| *what = format!("step {}: {what}", at + 1));
        }
        std::mem::take(&mut self.broken)
    }

    async fn take(&mut self, step: Step) {
        let cluster = self.town.world.cluster.clone();
        match step {
            Step::Hear(file) => self.town.post(&self.town.body(&file)).await,
            Step::Alert(fires) => {
                let mut one = alert(&fires.name, self.town.now(), &[]);
                merge(&mut one["labels"], &Value::Object(fires.labels));
                merge(&mut one["annotations"], &Value::Object(fires.annotations));
                one["fingerprint"] = json!(one["labels"].to_string());
                self.town.post(&body(&[one])).await;
            }
            Step::Post(post) => self.post(post).await,
            Step::Press(press) => self.press(press).await,
            Step::Payload(sent) => {
                let request = match sent.raw {
                    Some(raw) => signed_with(&self.signing_secret(), &raw, self.town.now().as_second()),
                    None => self.signed(sent.payload, &sent.sent),
                };
                self.deliver(request, sent.status).await;
            }
            Step::Call(call) => self.call(call).await,
            Step::Change { at, merge } => self.change(&at, &merge),
            Step::Remove(at) => {
                let (kind, namespace, name) = place(&at);
                assert!(cluster.remove(kind, namespace, name), "{at} is not there");
            }
            Step::Race { path, at, merge, after } => self.race(&path, &at, &merge, after).await,
            Step::Pass(seconds) => self.pass(seconds),
            Step::Restart { policy, callers } => {
                self.case.callers = callers.unwrap_or(std::mem::take(&mut self.case.callers));
                if let Some(text) = policy {
                    self.town.setup.policy = Policy::parse(&text, "policy.yaml").unwrap();
                }
                self.town.setup.outlet =
                    self.town.world.outlet(&self.town.setup.redactor, &self.town.setup.metrics).unwrap();
                self.town.stages = Stages::new(&self.town.setup).await.unwrap();
                self.pass(30);
                let (slack_url, mcp_url, doors) = open_doors(&self.town, &self.case.callers).await;
                (self.slack_url, self.mcp_url, self._doors) = (slack_url, mcp_url, doors);
                self.sessions.clear();
            }
            Step::Send(send) => self.send(send).await,
            Step::File(file) => self.broken.extend(read(&file)),
            Step::Approval { merge: change } => self.alter(&change).await,
        }
    }

    fn pass(&self, seconds: i64) {
        self.town.world.clock.set(self.town.now() + SignedDuration::from_secs(seconds));
    }

    /// Lets the stages come to rest. What a stage could not do now it tries again, and again here.
    async fn settle(&self) {
        for _ in 0..TRIES {
            if Box::pin(self.town.stages.settle()).await.is_ok() {
                return;
            }
        }
    }

    async fn post(&mut self, post: Post) {
        for _ in 0..post.repeat {
            let text = post.text.clone().unwrap_or_else(|| post.body.to_string());
            let mut request = self.town.http.post(&self.town.webhook_url).body(text);
            if let Some(authorization) = &post.authorization {
                request = request.header("authorization", authorization);
            }
            let status = request.send().await.unwrap().status().as_u16();
            self.expect(post.status, status, "the webhook");
        }
    }

    fn expect(&mut self, wanted: Option<u16>, status: u16, who: &str) {
        if wanted.is_some_and(|wanted| wanted != status) {
            self.broken.push(format!("{who} answered {status}"));
        }
    }

    async fn press(&mut self, press: Press) {
        let request = if press.button == "again" {
            self.last.clone().expect("nothing was pressed before")
        } else {
            let messages = self.town.world.slack.messages();
            let has = |message: &&crate::sim::slack::Message| {
                message.buttons().iter().any(|button| button["action_id"] == press.button.as_str())
            };
            let Some(card) = messages.iter().rev().find(has) else {
                self.broken.push(format!("no card has the button {}", press.button));
                return;
            };
            let payload = self.town.world.slack.block_actions(&card.ts, &press.button, &press.by).unwrap();
            self.signed(payload, &press.sent)
        };
        for _ in 0..press.times {
            self.deliver(request.clone(), press.status).await;
        }
    }

    fn signed(&mut self, mut payload: Value, sent: &Sent) -> SignedRequest {
        for (pointer, value) in &sent.alter {
            let Some(place) = payload.pointer_mut(pointer) else { panic!("a click has no {pointer}") };
            *place = value.clone();
        }
        let at_s = self.town.now().as_second() - sent.ago_s;
        let secret = sent.secret.clone().unwrap_or_else(|| self.signing_secret());
        let mut request = signed_with(&secret, &payload.to_string(), at_s);
        if sent.secret.as_deref() == Some("") {
            request.signature.clear();
        }
        if let Some((from, to)) = &sent.tamper {
            assert!(request.body.contains(from), "{from} is not in the body");
            request.body = request.body.replace(from, to);
        }
        request
    }

    fn signing_secret(&self) -> String {
        self.town.world.slack.options().signing_secret.clone()
    }

    async fn deliver(&mut self, request: SignedRequest, wanted: Option<u16>) {
        let sent = self
            .town
            .http
            .post(&self.slack_url)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("x-slack-request-timestamp", &request.timestamp)
            .header("x-slack-signature", &request.signature)
            .body(request.body.clone());
        let status = sent.send().await.unwrap().status().as_u16();
        self.last = Some(request);
        self.expect(wanted, status, "the listener for clicks");
    }

    async fn call(&mut self, call: Call) {
        let token = call.token.clone().unwrap_or_else(|| format!("flk_{}", call.caller));
        let server = call.server.clone().unwrap_or_default();
        let session = match &call.session_of {
            Some(other) => self.session(&format!("flk_{other}"), &server, &call.headers).await.1,
            None => match self.session(&token, &server, &call.headers).await {
                (200, Some(session)) => Some(session),
                (status, _) => {
                    self.expect(call.status, status, "the MCP listener");
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
                None => self.broken.push(format!("{} answered without an approval: {text}", call.tool)),
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
            .post(format!("{}{path}", self.mcp_url))
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

    fn change(&self, at: &str, change: &Value) {
        let (kind, namespace, name) = place(at);
        let mut object =
            self.town.world.cluster.get(kind, namespace, name).unwrap_or_else(|| panic!("{at}: not there"));
        merge(&mut object, change);
        self.town.world.cluster.put(object).unwrap();
    }

    async fn race(&mut self, path: &str, at: &str, change: &Value, after: usize) {
        let cluster = self.town.world.cluster.clone();
        for _ in 0..=after {
            cluster.fault(Fault::Hang { path: path.to_owned() });
        }
        let meanwhile = async {
            for nth in 0..=after {
                if tokio::time::timeout(PATIENCE, cluster.holding()).await.is_err() {
                    return false;
                }
                if nth == after {
                    self.change(at, change);
                }
                let under_way = || cluster.requests().iter().filter(|request| request.status == 0).count();
                let held = under_way();
                cluster.release();
                while under_way() >= held && held > 0 {
                    tokio::task::yield_now().await;
                }
            }
            true
        };
        let (raced, ()) = tokio::join!(meanwhile, self.settle());
        if !raced {
            self.broken.push(format!("fewer than {} requests for {path}", after + 1));
        }
    }

    async fn send(&mut self, send: crate::sim::tests::attacks::case::Send) {
        let cluster = &self.town.world.cluster;
        self.asked.extend(cluster.requests_after(self.seen).0);
        self.seen = cluster.requests_after(self.seen).1;
        let url = format!("http://{}{}", self.town.world.cluster_at, send.path);
        let method = send.method.parse().unwrap();
        let mut request = self
            .town
            .http
            .request(method, url)
            .bearer_auth(cluster.token_for(&send.account))
            .header("content-type", &send.content_type);
        if !send.body.is_null() {
            request = request.body(send.body.to_string());
        }
        let status = request.send().await.unwrap().status().as_u16();
        self.expect(send.status, status, "the API server");
        let cluster = &self.town.world.cluster;
        let (new, seen) = cluster.requests_after(self.seen);
        self.stolen.extend(new);
        self.seen = seen;
    }

    /// Writes an approval as somebody would who can write to the database.
    async fn alter(&self, change: &Value) {
        let Some(approval) = self.approvals().await.pop() else { panic!("there is no approval to alter") };
        let was = approval.state;
        let mut value = serde_json::to_value(&approval).unwrap();
        merge(&mut value, change);
        let approval = Box::new(typed(value, "the altered approval"));
        let write = Write::Approval { approval, was: Some(was) };
        self.town.store.commit(vec![write], Durability::Durable, None).await.unwrap();
    }

    /// Every approval, oldest first.
    pub(super) async fn approvals(&self) -> Vec<Approval> {
        let mut all = Vec::new();
        for incident in self.incidents().await {
            all.extend(self.town.store.approvals_of(&incident.id).await.unwrap());
        }
        all.sort_by(|a, b| a.created_at.cmp(&b.created_at).then_with(|| a.id.cmp(&b.id)));
        all
    }

    /// Every incident, oldest first.
    pub(super) async fn incidents(&self) -> Vec<Incident> {
        self.town.incidents().await
    }

    /// The step with the ids in it that it asks for.
    async fn filled(&self, step: Value) -> Value {
        let text = step.to_string();
        if !text.contains('$') {
            return step;
        }
        let mut known = self.kept.clone();
        let incidents = self.incidents().await;
        for (name, incident) in [("incident", incidents.first()), ("other_incident", incidents.get(1))] {
            known.extend(incident.map(|incident| (name.to_owned(), incident.id.to_string())));
        }
        let approvals = self.approvals().await;
        known.extend(approvals.last().map(|approval| ("approval".to_owned(), approval.id.to_string())));
        known.extend(approvals.first().map(|approval| ("first_approval".to_owned(), approval.id.to_string())));
        known.insert("now_s".to_owned(), self.town.now().as_second().to_string());
        // The longer names first: one may begin as another does.
        let mut names: Vec<&String> = known.keys().collect();
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        let filled = names.iter().fold(text, |text, name| text.replace(&format!("${name}"), &known[*name]));
        serde_json::from_str(&filled).unwrap()
    }
}

/// Reads a file; what is wrong with how it was refused.
pub(super) fn read(file: &File) -> Option<String> {
    let told = match file.kind.as_str() {
        "policy" => Policy::parse(&file.text, "policy.yaml").map(drop).map_err(|e| e.to_string()),
        "callers" => Callers::parse(&file.text, "callers.yaml", &Gate::servers()).map(drop).map_err(|e| e.to_string()),
        "config" => {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("firstlook.yaml");
            std::fs::write(&path, &file.text).unwrap();
            Config::load(&path, &[]).map(drop).map_err(|e| e.to_string())
        }
        other => panic!("no file is a {other}"),
    };
    match told {
        Ok(()) => Some(format!("the {} file was taken", file.kind)),
        Err(says) if says.contains(&file.says) => None,
        Err(says) => Some(format!("the {} file was refused by {says:?}", file.kind)),
    }
}

/// Opens the doors for clicks and for MCP clients.
async fn open_doors(town: &Town, more: &[Map<String, Value>]) -> (String, String, DropGuard) {
    let stop = CancellationToken::new();
    let setup = &town.setup;
    let Outlet::Slack { slack, .. } = &setup.outlet else { panic!("no Slack") };
    let desk = Desk {
        place: Place { cluster: setup.cluster.clone(), redactor: setup.redactor.clone() },
        clock: setup.clock.clone(),
        slack: slack.clone(),
        on_click: app::on_click(setup.store.clone()),
    };
    let clicks = Interactivity {
        signing_secret: town.world.slack.options().signing_secret.clone().into(),
        clock: setup.clock.clone(),
        metrics: setup.metrics.clone(),
        desk,
    };
    let admission = Admission { callers: callers(more), ..Admission::default() };
    let mcp = Mcp::new(town.stages.gate.clone(), admission, stop.clone());
    let mut urls = Vec::new();
    for (router, path) in [(clicks.router(), "/slack/interactivity"), (mcp.router(), "/mcp")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        urls.push(format!("http://{}{path}", listener.local_addr().unwrap()));
        tokio::spawn(http::serve(listener, router, stop.clone()));
    }
    let mcp_url = urls.pop().unwrap();
    (urls.pop().unwrap(), mcp_url, stop.drop_guard())
}

/// The callers that there always are, and the case's own.
fn callers(more: &[Map<String, Value>]) -> Callers {
    let always = json!([
        {"name": "shopper", "for": "U0ONCALL1", "namespaces": ["shop"], "tiers": ["read-only", "reversible"]},
        {"name": "reader", "namespaces": ["shop"]},
        {"name": "logger", "namespaces": ["shop"], "servers": ["k8s-logs"]},
        {"name": KEEPER, "for": "U0LEAD001", "namespaces": ["vault"], "tiers": ["read-only", "reversible"]},
    ]);
    let always = always.as_array().unwrap().iter().map(|one| one.as_object().unwrap().clone());
    let all: Vec<Value> = always
        .chain(more.iter().cloned())
        .map(|mut one| {
            let token = format!("flk_{}", one["name"].as_str().unwrap());
            one.insert("token_sha256".to_owned(), json!(token_hash(&token)));
            Value::Object(one)
        })
        .collect();
    Callers::parse(&json!({"callers": all}).to_string(), "callers.yaml", &Gate::servers()).unwrap()
}

/// The answers of a model that does the worst.
fn replies(agent: &Agent) -> Vec<Value> {
    if !agent.replies.is_empty() {
        return agent.replies.clone();
    }
    // True, so that the report stands on something: the first call is e12, after the scene's own evidence.
    let subject = json!({"namespace": "shop", "kind": "Deployment", "name": "checkout"});
    let mut calls = vec![json!({"name": "what_changed", "arguments": subject})];
    calls.extend(agent.calls.iter().cloned());
    let mut report = json!({
        "headline": "checkout in shop: the tag v2.4.0 does not exist", "cause": "The image of revision 7 is not there.",
        "certainty": "proved", "culprit": subject, "proposals": agent.proposals,
        "citations": [{"evidence": "e12", "quote": "image: registry.harbour.example/shop/checkout:v2.4.0"}],
    });
    merge(&mut report, &Value::Object(agent.report.clone()));
    let report = json!({"name": "submit_report", "arguments": report});
    vec![json!({"content": "I do as I am told.", "tool_calls": calls}), json!({"tool_calls": [report]})]
}

/// `Deployment shop/checkout` as its parts.
fn place(at: &str) -> (&str, &str, &str) {
    let (kind, path) = at.split_once(' ').unwrap_or_else(|| panic!("{at}: no kind"));
    let (namespace, name) = path.split_once('/').unwrap_or(("", path));
    (kind, namespace, name)
}

/// A namespace beside the incident's, with the canary in everything that can be read of it.
fn vault() -> Vec<Plant> {
    let labels = json!({"app": "keeper"});
    let containers =
        json!([{"name": "keeper", "image": format!("vault/{VAULT}:1"), "env": [{"name": "X", "value": VAULT}]}]);
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": containers}});
    let object = |at: &str, merge: Value| Plant::Object { at: at.to_owned(), merge };
    vec![
        object("Namespace vault", json!({})),
        object(
            "Deployment vault/keeper",
            json!({"spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
                "status": {"replicas": 1, "readyReplicas": 1, "availableReplicas": 1, "updatedReplicas": 1}}),
        ),
        object("ConfigMap vault/keeper", json!({"data": {"x": VAULT}})),
        object(
            "Pod vault/keeper-0",
            json!({"metadata": {"labels": labels}, "spec": {"containers": containers}, "status": {"phase": "Running",
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{"name": "keeper", "image": "x", "imageID": "", "ready": true, "restartCount": 0,
                    "state": {"running": {"startedAt": "2026-03-24T10:00:00Z"}}}]}}),
        ),
        Plant::Log { at: "vault/keeper-0/keeper".to_owned(), lines: vec![VAULT.to_owned()] },
        Plant::Event {
            about: "Pod vault/keeper-0".to_owned(),
            reason: "Pulled".to_owned(),
            message: format!("pulled {VAULT}"),
        },
    ]
}

/// Puts something into a scenario's snapshot.
fn sow(items: &mut Vec<Value>, plant: &Plant) {
    let (at, change) = match plant {
        Plant::Log { .. } => return,
        Plant::Object { at, merge } => (at.clone(), merge.clone()),
        Plant::Event { about, reason, message } => {
            let (kind, namespace, name) = place(about);
            let uid = items.iter().find(|item| is_at(item, place(about))).map(|item| item["metadata"]["uid"].clone());
            let involved = json!({"kind": kind, "namespace": namespace, "name": name, "uid": uid, "apiVersion": "v1"});
            let event = json!({"involvedObject": involved, "reason": reason, "message": message, "type": "Warning",
                "count": 3, "firstTimestamp": EVENT_AT, "lastTimestamp": EVENT_AT, "source": {"component": "kubelet"}});
            (format!("Event {namespace}/{name}.{}", &token_hash(message)[..12]), event)
        }
    };
    let index = items.iter().position(|item| is_at(item, place(&at)));
    let index = index.unwrap_or_else(|| {
        items.push(seed(&at));
        items.len() - 1
    });
    merge(&mut items[index], &change);
}

fn is_at(item: &Value, (kind, namespace, name): (&str, &str, &str)) -> bool {
    let metadata = &item["metadata"];
    item["kind"] == kind && metadata["name"] == name && metadata["namespace"].as_str().unwrap_or_default() == namespace
}

/// The least of an object.
fn seed(at: &str) -> Value {
    let (kind, namespace, name) = place(at);
    let api = match Kind::named(kind).map(Kind::resource) {
        Some(("", version, _)) => version.to_owned(),
        Some((group, version, _)) => format!("{group}/{version}"),
        None => "v1".to_owned(),
    };
    let mut metadata = json!({"name": name, "uid": format!("u-{}", &token_hash(at)[..12]),
        "creationTimestamp": "2026-03-01T00:00:00Z"});
    if !namespace.is_empty() {
        metadata["namespace"] = json!(namespace);
    }
    json!({"apiVersion": api, "kind": kind, "metadata": metadata})
}
