//! Stories: the whole application in the embedded world, step by step on a clock that stands still.

mod again;
pub(crate) mod alertmanager;
mod attacks;
mod edits;
pub(crate) mod fuzz;
mod grouping;
mod injection;
mod memory;
mod review;
mod shared;
mod shuffled;
mod shut;
mod small_models;
mod spent;
mod storm;
mod unnamed;

use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::app::{Setup, Stages};
use crate::clock::Clock;
use crate::http;
use crate::http::Credential;
use crate::http::webhook::Webhook;
use crate::model::{Incident, IncidentState, Signal};
use crate::sim::slack::{Message, Slack, SlackOptions};
use crate::sim::world::{Scenario, World};
use crate::store::{Durability, Store, Write};

/// A world with the stages of an application in it and its webhook on a loopback port.
struct Town {
    world: World,
    setup: Setup,
    store: Store,
    stages: Stages,
    webhook_url: String,
    http: reqwest::Client,
    _ends_with_this: DropGuard,
    _scratch: TempDir,
}

/// A folder of fixtures/scenarios.
fn folder(name: &str) -> Scenario {
    Scenario::from_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/scenarios").join(name)).unwrap()
}

/// The same without the model's answers: the findings speak alone.
fn without_model(mut scenario: Scenario) -> Scenario {
    scenario.files.retain(|path, _| !path.starts_with("model/"));
    scenario
}

/// The same with these answers of the model to its first incident, by the names of their files.
fn answering(scenario: Scenario, answers: &[(&str, Value)]) -> Scenario {
    let mut scenario = without_model(scenario);
    for (file, answer) in answers {
        scenario.files.insert(format!("model/1/{file}.json"), answer.to_string().into_bytes());
    }
    scenario
}

/// Changes the objects of a scenario's snapshot.
fn edit(scenario: &mut Scenario, change: impl FnOnce(&mut Vec<Value>)) {
    let mut snapshot = scenario.json("cluster.json").unwrap();
    change(snapshot["items"].as_array_mut().unwrap());
    scenario.files.insert("cluster.json".into(), serde_json::to_vec(&snapshot).unwrap());
}

/// A webhook body of one group with these alerts.
fn body(alerts: &[Value]) -> Value {
    json!({
        "version": "4", "receiver": "firstlook", "status": "firing", "groupKey": "{}:{}", "truncatedAlerts": 0,
        "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://alertmanager.example",
        "alerts": alerts,
    })
}

/// One firing alert.
fn alert(name: &str, started: Timestamp, labels: &[(&str, &str)]) -> Value {
    let mut all = json!({"alertname": name, "severity": "warning"});
    for (label, value) in labels {
        all[*label] = json!(value);
    }
    json!({
        "status": "firing", "labels": all, "annotations": {}, "startsAt": started.to_string(),
        "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "", "fingerprint": format!("{name}{labels:?}"),
    })
}

/// The same alerts as resolved at `now`.
fn resolved(mut body: Value, now: Timestamp) -> Value {
    body["status"] = json!("resolved");
    for alert in body["alerts"].as_array_mut().unwrap() {
        alert["status"] = json!("resolved");
        alert["endsAt"] = json!(now.to_string());
    }
    body
}

impl Town {
    /// Lives in this scenario at the moment of its snapshot.
    async fn of(scenario: Scenario) -> Self {
        Self::with(scenario, |_| {}).await
    }

    /// The same, set up in another way.
    async fn with(scenario: Scenario, change: impl FnOnce(&mut Setup)) -> Self {
        Self::over(scenario, None, change).await
    }

    /// The same over this store, or over a new file.
    async fn over(scenario: Scenario, store_url: Option<&str>, change: impl FnOnce(&mut Setup)) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let snapshot = scenario.json("cluster.json").unwrap();
        let clock = Clock::manual(snapshot["x-epoch"].as_str().unwrap().parse().unwrap());
        let options = SlackOptions { rate_limit: false, ..SlackOptions::default() };
        let slack = Slack::new(clock.clone(), options);
        let world = World::start(scenario, clock.clone(), slack, Duration::ZERO).await.unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let file = format!("sqlite:{}", scratch.path().join("firstlook.db").display());
        let mut setup = world.setup(store_url.unwrap_or(&file)).await.unwrap();
        change(&mut setup);
        let webhook = Webhook {
            store: setup.store.clone(),
            cluster: setup.cluster.clone(),
            redactor: setup.redactor.clone(),
            clock,
            metrics: setup.metrics.clone(),
            credential: Credential::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let webhook_url = format!("http://{}/webhook/alertmanager", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(http::serve(listener, webhook.router(), stop.clone()));
        Self {
            store: setup.store.clone(),
            stages: Stages::new(&setup).await.unwrap(),
            setup,
            world,
            webhook_url,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            _ends_with_this: stop.drop_guard(),
            _scratch: scratch,
        }
    }

    fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    /// A webhook body of the scenario's folder.
    fn body(&self, file: &str) -> Value {
        self.world.scenario.json(file).unwrap()
    }

    /// Posts a body to the webhook, which must take it.
    async fn post(&self, body: &Value) {
        let answer = self.http.post(&self.webhook_url).json(body).send().await.unwrap();
        assert!(answer.status().is_success(), "the webhook answered {}", answer.status());
    }

    /// Posts a body and lets the stages come to rest.
    async fn hear(&self, body: &Value) {
        self.post(body).await;
        self.settle().await;
    }

    /// Lets the stages come to rest. Boxed: all of them together are more than a test's stack holds.
    async fn settle(&self) {
        Box::pin(self.stages.settle()).await.unwrap();
    }

    /// Hears what a watch would put on disk.
    async fn notice(&self, signals: Vec<Signal>) {
        self.store.commit(vec![Write::Signals(signals)], Durability::Durable, None).await.unwrap();
        self.settle().await;
    }

    /// Lets time go by and the stages come to rest.
    async fn pass(&self, seconds: i64) {
        self.world.clock.set(self.now().checked_add(SignedDuration::from_secs(seconds)).unwrap());
        self.settle().await;
    }

    /// The process ends and another one begins on the same store, some seconds later: also as many posts to Slack as
    /// one may send at once are free again.
    async fn restart(&mut self, seconds: i64) {
        self.setup.outlet = self.world.outlet(&self.setup.redactor, &self.setup.metrics).unwrap();
        self.stages = Stages::new(&self.setup).await.unwrap();
        self.pass(seconds).await;
    }

    /// Every incident there ever was, oldest first.
    async fn incidents(&self) -> Vec<Incident> {
        self.store.recent_incidents(Timestamp::UNIX_EPOCH).await.unwrap()
    }

    /// Those that are open.
    async fn open(&self) -> Vec<Incident> {
        let all = self.incidents().await;
        all.into_iter().filter(|incident| incident.state == IncidentState::Open).collect()
    }

    /// The first card, as it was sent.
    fn shown(&self) -> String {
        json!(self.channel()[0].blocks).to_string()
    }

    /// What stands in the channel itself, threads left out.
    fn channel(&self) -> Vec<Message> {
        self.world.slack.messages().into_iter().filter(|message| message.thread_ts.is_none()).collect()
    }

    /// Turns that the model was asked for, its reviews left out.
    fn paid_turns(&self) -> usize {
        self.world.model.requests().iter().filter(|request| !request.review).count()
    }
}
