//! One attack under way: the embedded world with every door open that the product has, and what is tried at each.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::app::Stages;
use crate::govern::off::Off;
use crate::govern::policy::Policy;
use crate::model::{Approval, Incident};
use crate::sim::cluster::{Fault, Request};
use crate::sim::slack::{Message, SignedRequest, signed_with};
use crate::sim::tests::attacks::Outcome;
use crate::sim::tests::attacks::beside::Beside;
use crate::sim::tests::attacks::case::{Case, Plant, Post, Press, Sent, Step, typed};
use crate::sim::tests::attacks::doors;
use crate::sim::tests::attacks::doors::{Doors, open_doors};
use crate::sim::tests::attacks::patch::merge;
use crate::sim::tests::attacks::world::{place, replies, sow, vault};
use crate::sim::tests::{Town, alert, body, edit, folder, without_model};
use crate::store::{Durability, Write};

/// firstlook's accounts.
pub(super) const ACCOUNTS: [&str; 4] =
    ["firstlook", "firstlook-preview", "firstlook-write", "firstlook-write-destructive"];
/// Errors of the stages in a row, as a store or a Slack that does not answer makes them, after which it is as it is.
const TRIES: u32 = 3;
/// A request that nothing sends for so long will not be sent.
const PATIENCE: Duration = Duration::from_secs(20);

/// An attack under way.
pub(super) struct Siege {
    pub(super) case: Case,
    pub(super) town: Town,
    pub(super) beside: Beside,
    /// What the API server was asked by the application, and by those who stole a token.
    pub(super) asked: Vec<Request>,
    pub(super) stolen: Vec<Request>,
    /// What callers were told, by name.
    pub(super) answers: Vec<(String, String)>,
    pub(super) broken: Vec<String>,
    /// Steps that could not be taken at all.
    pub(super) unplayable: Vec<String>,
    pub(super) doors: Doors,
    /// By token and server.
    pub(super) sessions: HashMap<(String, String), String>,
    pub(super) kept: BTreeMap<String, String>,
    last: Option<SignedRequest>,
    seen: u64,
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
        let beside = Beside::start(&case).await;
        let town = Town::with(scenario, |setup| {
            beside.configure(setup);
            if let Some(policy) = policy {
                setup.policy = policy;
            }
            setup.off = Off::of(&case.off).unwrap();
        })
        .await;
        let doors = open_doors(&town, &case.callers).await;
        Self {
            case,
            town,
            beside,
            asked: Vec::new(),
            stolen: Vec::new(),
            answers: Vec::new(),
            broken: Vec::new(),
            unplayable: Vec::new(),
            doors,
            sessions: HashMap::new(),
            kept: BTreeMap::new(),
            last: None,
            seen: 0,
        }
    }

    /// Does all that the case does; what of it was answered otherwise than it must be, or could not be done.
    pub(super) async fn run(&mut self) -> Outcome {
        for (at, step) in self.case.steps.clone().into_iter().enumerate() {
            let mut step = step;
            let rests = step.as_object_mut().and_then(|fields| fields.remove("rest")) != Some(json!(false));
            let step: Step = typed(self.filled(step).await, &format!("step {}", at + 1));
            let (harm, unplayable) = (self.broken.len(), self.unplayable.len());
            self.take(step).await;
            if rests {
                self.settle().await;
            }
            let new = self.town.world.cluster.requests_after(self.seen);
            self.asked.extend(new.0);
            self.seen = new.1;
            let new = self.broken[harm..].iter_mut().chain(&mut self.unplayable[unplayable..]);
            new.for_each(|what| *what = format!("step {}: {what}", at + 1));
        }
        Outcome { harm: std::mem::take(&mut self.broken), unplayable: std::mem::take(&mut self.unplayable) }
    }

    async fn take(&mut self, step: Step) {
        let cluster = self.town.world.cluster.clone();
        match step {
            Step::Hear(file) => self.town.post(&self.town.body(&file)).await,
            Step::Alert(fires) => {
                let mut one = alert(&fires.name, self.town.now(), &[]);
                merge(&mut one["labels"], &Value::Object(fires.labels));
                merge(&mut one["annotations"], &Value::Object(fires.annotations));
                one["fingerprint"] = json!(fires.fingerprint.unwrap_or_else(|| one["labels"].to_string()));
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
            Step::Call(call) => {
                for _ in 0..call.times {
                    self.call(call.clone()).await;
                }
            }
            Step::Change { at, merge } => self.change(&at, &merge),
            Step::Hold { alerts, silences } => {
                let mut held = self.beside.alertmanager.as_ref().expect("no Alertmanager").lock().unwrap();
                held.alerts = alerts.unwrap_or(std::mem::take(&mut held.alerts));
                held.silences = silences.unwrap_or(std::mem::take(&mut held.silences));
            }
            Step::Until { button } => self.until(&button).await,
            Step::Remove(at) => {
                let (kind, namespace, name) = place(&at);
                assert!(cluster.remove(kind, namespace, name), "{at} is not there");
            }
            Step::Race { path, at, merge, after } => self.race(&path, &at, &merge, after).await,
            Step::Pass(seconds) => self.pass(seconds),
            Step::Restart { policy, callers, off } => {
                if let Some(off) = off {
                    self.town.setup.off = Off::of(&off).unwrap();
                }
                self.case.callers = callers.unwrap_or(std::mem::take(&mut self.case.callers));
                if let Some(text) = policy {
                    self.town.setup.policy = Policy::parse(&text, "policy.yaml").unwrap();
                }
                self.town.setup.outlet =
                    self.town.world.outlet(&self.town.setup.redactor, &self.town.setup.metrics).unwrap();
                self.town.stages = Stages::new(&self.town.setup).await.unwrap();
                self.pass(30);
                self.doors = open_doors(&self.town, &self.case.callers).await;
                self.sessions.clear();
            }
            Step::Callers(callers) => self.doors.admit(&callers),
            Step::Send(send) => self.send(send).await,
            Step::File(file) => self.broken.extend(doors::read(&file)),
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

    pub(super) fn expect(&mut self, wanted: Option<u16>, status: u16, who: &str) {
        if wanted.is_some_and(|wanted| wanted != status) {
            self.broken.push(format!("{who} answered {status}"));
        }
    }

    async fn press(&mut self, press: Press) {
        let request = if press.button == "again" {
            self.last.clone().expect("nothing was pressed before")
        } else {
            let Some(card) = self.card_with(&press.button) else {
                self.unplayable.push(format!("no card has the button {}", press.button));
                return;
            };
            let payload = self.town.world.slack.block_actions(&card.ts, &press.button, &press.by).unwrap();
            self.signed(payload, &press.sent)
        };
        for _ in 0..press.times {
            self.deliver(request.clone(), press.status).await;
        }
    }

    /// The newest message with this button.
    fn card_with(&self, button: &str) -> Option<Message> {
        let has = |message: &Message| message.buttons().iter().any(|one| one["action_id"] == button);
        self.town.world.slack.messages().into_iter().rev().find(has)
    }

    async fn until(&mut self, button: &str) {
        let mut changes = self.town.world.cluster.changes();
        while self.card_with(button).is_none() {
            if !matches!(tokio::time::timeout(PATIENCE, changes.changed()).await, Ok(Ok(()))) {
                self.unplayable.push(format!("no card came to have the button {button}"));
                return;
            }
            self.pass(1);
            self.settle().await;
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
            .post(&self.doors.slack_url)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("x-slack-request-timestamp", &request.timestamp)
            .header("x-slack-signature", &request.signature)
            .body(request.body.clone());
        let status = sent.send().await.unwrap().status().as_u16();
        self.last = Some(request);
        self.expect(wanted, status, "the listener for clicks");
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
                cluster.release();
            }
            true
        };
        let (raced, ()) = tokio::join!(meanwhile, self.settle());
        if !raced {
            self.unplayable.push(format!("fewer than {} requests for {path}", after + 1));
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
        let unknown = ["$approval", "$first_approval", "$incident", "$other_incident"];
        if let Some(name) = unknown.into_iter().find(|name| filled.contains(name)) {
            panic!("there is no {name} yet");
        }
        serde_json::from_str(&filled).unwrap()
    }
}
