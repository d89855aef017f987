//! What firstlook takes in beside the webhook: the doors for clicks and for MCP clients, who may call there, and files.

use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch::{Sender, channel};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::app;
use crate::config::Config;
use crate::govern::callers::{Callers, token_hash};
use crate::govern::gate::Gate;
use crate::govern::policy::Policy;
use crate::http;
use crate::http::mcp::{Admission, Mcp};
use crate::http::slack::Interactivity;
use crate::sim::tests::Town;
use crate::sim::tests::attacks::case::File;
use crate::slack::desk::Desk;
use crate::slack::interact::Place;
use crate::stages::deliver::Outlet;

/// The caller that reaches the namespace `vault`.
pub(super) const KEEPER: &str = "keeper";

/// The doors as they stand open.
pub(super) struct Doors {
    pub(super) slack_url: String,
    pub(super) mcp_url: String,
    callers: Sender<Callers>,
    _stop: DropGuard,
}

impl Doors {
    /// The callers' file is read again, and holds these beside those that there always are.
    pub(super) fn admit(&self, more: &[Map<String, Value>]) {
        self.callers.send_modify(|known| *known = known.renewed(callers(more)));
    }
}

/// Opens the doors for clicks and for MCP clients.
pub(super) async fn open_doors(town: &Town, more: &[Map<String, Value>]) -> Doors {
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
    let (known, admitted) = channel(callers(more));
    let admission =
        Admission { callers: admitted, without_token: false, allowed_hosts: Vec::new(), allowed_origins: Vec::new() };
    let mcp = Mcp::new(town.stages.gate.clone(), admission, stop.clone());
    let mut urls = Vec::new();
    for (router, path) in [(clicks.router(), "/slack/interactivity"), (mcp.router(), "/mcp")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        urls.push(format!("http://{}{path}", listener.local_addr().unwrap()));
        tokio::spawn(http::serve(listener, router, stop.clone()));
    }
    let (mcp_url, slack_url) = (urls.pop().unwrap(), urls.pop().unwrap());
    Doors { slack_url, mcp_url, callers: known, _stop: stop.drop_guard() }
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
