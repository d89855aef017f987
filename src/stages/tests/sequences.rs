//! Any sequence of clicks, edits, time, kills and restarts: nothing is done twice, or without the people that it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::SignedDuration;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::changes::{items, job, web};
use super::silences::{PRINT, heard, labels};
use super::{NOW, accounts, incident, object};
use crate::act::Actor;
use crate::act::silence::Silencer;
use crate::clock::Clock;
use crate::correlate::Rules;
use crate::govern::gate::{Gate, GateOptions, Suggestion};
use crate::govern::policy::Policy;
use crate::model::{
    AlertStatus, Approval, ApprovalState, Caller, Certainty, Click, ClusterName, Ending, Finding, Incident,
    IncidentState, Kind, ObjectRef, Pressed, Proposal, Role,
};
use crate::observe::motion::Motion;
use crate::observe::{Alertmanager, Reader, Sources, scene};
use crate::redact::Redactor;
use crate::sim::cluster::{Cluster, Fault, Shift};
use crate::sim::tests::alertmanager;
use crate::sim::tests::alertmanager::Fake;
use crate::stages::deliver::Outlet;
use crate::stages::execute::Execute;
use crate::stages::expire::Expire;
use crate::stages::pace::Pace;
use crate::stages::preview::Preview;
use crate::stages::verify::Verify;
use crate::store::tests::world::on_postgres;
use crate::store::{Durability, Options, Store, Write};
use crate::telemetry::Metrics;

const PEOPLE: [&str; 4] = ["U000000A", "U000000B", "U000000C", "U000000X"];
/// The last of the people is a stranger.
const APPROVERS: usize = 3;
const POLICY: &str = r#"
approvers:
  - {who: [U000000A, U000000B, U000000C], tiers: [reversible, destructive], namespaces: ["*"], people: 2}
limits: {writes_per_hour: 100, writes_per_incident: 100}
"#;
const LEAVE: &str = r#"
standing_leave:
  - {by: U000000A, tool: rollout_restart, namespace: shop, until: 2026-12-31, per_hour: 100}
"#;

/// What is asked for: one of each kind of request that a change is.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// A patch.
    Restart,
    /// An eviction.
    Evict,
    /// A new object.
    Rerun,
    /// A request to Alertmanager.
    Silence,
}

const CHANGES: [Change; 4] = [Change::Restart, Change::Evict, Change::Rerun, Change::Silence];

impl Change {
    /// What the incident is about.
    fn subject(self) -> ObjectRef {
        match self {
            Change::Restart | Change::Silence => web(),
            Change::Evict => object(Kind::Pod, "shop", "web-abc-1"),
            Change::Rerun => object(Kind::Job, "shop", "report"),
        }
    }

    fn proposal(self) -> Proposal {
        let object = self.subject();
        match self {
            Change::Restart => Proposal::RolloutRestart { object },
            Change::Evict => Proposal::DeletePod { object },
            Change::Rerun => Proposal::RerunJob { object },
            Change::Silence => Proposal::SilenceAlert { object, alert: PRINT.into(), hours: 2 },
        }
    }

    /// Where its request goes.
    fn path(self) -> &'static str {
        match self {
            Change::Restart | Change::Silence => "/apis/apps/v1/namespaces/shop/deployments/web",
            Change::Evict => "/api/v1/namespaces/shop/pods/web-abc-1/eviction",
            Change::Rerun => "/apis/batch/v1/namespaces/shop/jobs",
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Somebody, a press, and of which request; a press may come again as the same click.
    Press {
        who: usize,
        what: &'static str,
        of: usize,
        again: bool,
    },
    Minutes(i64),
    /// Somebody changes the object, or what Alertmanager holds.
    Edit,
    /// The incident ends, or opens again.
    Over(bool),
    Propose,
    Run(&'static str),
    /// The next change is sent, and the process killed before it hears the answer.
    KillAtWrite,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let what = select(vec!["approve", "approve", "approve", "reject", "again", "undo"]);
    let press = (0..PEOPLE.len(), what, 0_usize..3, any::<bool>());
    prop_oneof![
        8 => press.prop_map(|(who, what, of, again)| Step::Press { who, what, of, again }),
        1 => (1_i64..40).prop_map(Step::Minutes),
        1 => Just(Step::Edit),
        1 => any::<bool>().prop_map(Step::Over),
        2 => Just(Step::Propose),
        12 => select(vec!["preview", "execute", "execute", "execute", "expire", "verify"]).prop_map(Step::Run),
        1 => Just(Step::KillAtWrite),
        1 => Just(Step::Restart),
    ]
}

/// The stages of one process over a store.
struct Process {
    store: Store,
    gate: Gate,
    preview: Preview,
    execute: Execute,
    expire: Expire,
    verify: Verify,
}

struct Story {
    change: Change,
    cluster: Cluster,
    alerts: Fake,
    clock: Clock,
    url: String,
    policy: Policy,
    reader: Reader,
    sources: Sources,
    actor: Actor,
    incident: Incident,
    process: Process,
    clicks: Vec<Click>,
    _stop: DropGuard,
}

/// A Deployment one of whose pods is not ready, and a Job that has failed.
fn world() -> Vec<Value> {
    let mut all = items();
    for pod in all.iter_mut().filter(|object| object["metadata"]["name"] == "web-abc-1") {
        pod["status"]["conditions"][0]["status"] = json!("False");
    }
    all.push(job("report", true));
    all
}

impl Story {
    async fn begin(change: Change, policy: &str, url: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let clock = Clock::manual(NOW.parse().unwrap());
        let snapshot = json!({"x-epoch": NOW, "items": world()});
        let cluster = Cluster::from_parts(snapshot, Default::default(), clock.clone(), Shift::Keep).unwrap();
        let stop = CancellationToken::new();
        let mut config = cluster.at_hand(stop.clone()).await.unwrap();
        config.default_retry = false;
        let daemon = kube::Client::try_from(config.clone()).unwrap();
        config.auth_info = Default::default();
        let name = ClusterName::parse("test").unwrap();
        let reader = Reader::new(daemon.clone(), name.clone(), Redactor::default(), clock.clone());
        let alerts = Fake::default();
        alerts.lock().unwrap().alerts = vec![json!({"fingerprint": PRINT, "labels": labels("web-1")})];
        let from = alertmanager::serve(&alerts, stop.clone()).await;
        let from = Alertmanager::new(from, Redactor::default()).unwrap();
        let silencer = Silencer::new(from.clone()).unwrap();
        let sources = Sources { alertmanager: Some(from), ..Sources::default() };
        let actor = Actor::new(reader.clone(), accounts(daemon, config), Some(silencer));
        let policy = Policy::parse(policy, "policy.yaml").unwrap();
        let process = process(url, &policy, &reader, &sources, &actor).await;
        let incident = incident(change.subject(), &clock);
        let says = "it hangs".into();
        let finding = Finding::new("stuck", Role::Cause, Certainty::Likely, &change.subject(), says, "it hangs".into());
        let findings = vec![Finding { proposal: Some(change.proposal()), ..finding }];
        let signal = heard(&name, clock.now(), AlertStatus::Firing);
        let writes = vec![
            Write::Incident(Box::new(incident.clone())),
            Write::Findings { incident: incident.id.clone(), findings },
            Write::Signals(vec![signal.clone()]),
            Write::Place { signal: signal.id, incident: incident.id.clone() },
        ];
        process.store.commit(writes, Durability::Durable, None).await.unwrap();
        let (clicks, url, _stop) = (Vec::new(), url.to_owned(), stop.drop_guard());
        Self { change, cluster, alerts, clock, url, policy, reader, sources, actor, incident, process, clicks, _stop }
    }

    /// Another process over the same store; what the one before held is void.
    async fn restart(&mut self) {
        self.process.store.close().await;
        self.process = process(&self.url, &self.policy, &self.reader, &self.sources, &self.actor).await;
    }

    async fn approvals(&self) -> Vec<Approval> {
        self.process.store.approvals_of(&self.incident.id).await.unwrap()
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Restart => return self.restart().await,
            Step::Minutes(minutes) => return self.clock.set(self.clock.now() + SignedDuration::from_mins(minutes)),
            Step::KillAtWrite => {
                self.alerts.lock().unwrap().loses_answer = true;
                return self.cluster.fault(Fault::HoldAnswer { path: self.change.path().into() });
            }
            Step::Edit => return self.edit(),
            Step::Over(over) => {
                let state = IncidentState::Over { at: self.clock.now(), how: Ending::Resolved };
                let state = if over { state } else { IncidentState::Open };
                let incident = Incident { state, ..self.incident.clone() };
                let write = Write::Incident(Box::new(incident));
                return self.process.store.commit(vec![write], Durability::Durable, None).await.unwrap();
            }
            Step::Press { who, what, of, again } => return self.press(who, what, of, again).await,
            Step::Propose | Step::Run(_) => {}
        }
        // A process that is killed while its request is under way: whatever it was about to do next is not done.
        let killed = tokio::select! {
            () = self.run(&step) => false,
            () = self.cluster.holding() => true,
        };
        if killed {
            self.restart().await;
            self.cluster.release();
        }
    }

    /// Somebody else changes what the request for leave is bound to.
    fn edit(&self) {
        let subject = self.change.subject();
        let Some(mut now) = self.cluster.get(subject.kind.as_str(), "shop", subject.name()) else { return };
        match self.change {
            Change::Restart | Change::Rerun => {
                let edits = now["spec"]["template"]["metadata"]["annotations"].as_object().map_or(0, |all| all.len());
                now["spec"]["template"]["metadata"]["annotations"][format!("edit-{edits}")] = json!("x");
            }
            Change::Evict => now["metadata"]["uid"] = json!(format!("{}-again", now["metadata"]["uid"])),
            Change::Silence => {
                let by_hand = json!({"id": "by-hand", "status": {"state": "active"}, "comment": "me", "endsAt": "",
                    "matchers": [{"name": "namespace", "value": "shop"}]});
                return self.alerts.lock().unwrap().silences.push(by_hand);
            }
        }
        self.cluster.put(now).unwrap();
    }

    /// A stage that fails says so in its log, and runs again.
    async fn run(&self, step: &Step) {
        let Process { gate, preview, execute, expire, verify, .. } = &self.process;
        let _ = match step {
            Step::Run("preview") => Box::pin(preview.run_once()).await,
            Step::Run("execute") => Box::pin(execute.run_once()).await,
            Step::Run("expire") => Box::pin(expire.run_once()).await,
            Step::Run(_) => Box::pin(verify.run_once()).await,
            _ => {
                let subject = self.change.subject();
                let scene = scene::read(&self.reader, &subject, &[], Duration::from_secs(20)).await;
                let (incident, scene, proposal) = (&self.incident, Some(&scene), &self.change.proposal());
                let suggestion =
                    Suggestion { incident, scene, findings: &[], proposal, caller: Caller::Findings, undoes: None };
                Box::pin(gate.propose(suggestion)).await.unwrap();
                return;
            }
        };
    }

    async fn press(&mut self, who: usize, what: &str, of: usize, again: bool) {
        let approvals = self.approvals().await;
        let Some(approval) = approvals.get(of).map(|approval| approval.id.clone()) else { return };
        let what = match what {
            "approve" => Pressed::Approve { approval },
            "reject" => Pressed::Reject { approval },
            "again" => Pressed::AskAgain { approval },
            _ => Pressed::Undo { approval },
        };
        let fresh = Click {
            id: format!("{} {} {what:?}", self.clicks.len(), PEOPLE[who]),
            cluster: self.incident.cluster.clone(),
            user: PEOPLE[who].into(),
            user_name: "".into(),
            channel: "".into(),
            message_ts: "".into(),
            response_url: None,
            heard_at: self.clock.now(),
            what,
        };
        let click = self.clicks.last().filter(|_| again).cloned().unwrap_or(fresh);
        self.clicks.push(click.clone());
        self.process.store.commit(vec![Write::Click(click)], Durability::Durable, None).await.unwrap();
    }

    /// Changes that the API server took from the account that writes, by its own log, no dry run among them; and those
    /// that Alertmanager took.
    fn written(&self) -> usize {
        let changes = self.cluster.requests().into_iter().filter(|request| {
            let is_change = matches!(request.method.as_str(), "PATCH" | "PUT" | "POST" | "DELETE");
            let was_taken = request.status == 0 || (200..300).contains(&request.status);
            let is_object = request.path.contains("/namespaces/shop/");
            is_change && was_taken && is_object && !request.path.contains("dryRun=All")
        });
        let alerts = self.alerts.lock().unwrap();
        changes.count() + alerts.made + alerts.ended
    }

    async fn check(&self) {
        let approvals = self.approvals().await;
        let sent = approvals.iter().filter(|approval| approval.execution.is_some()).count();
        assert!(self.written() <= sent, "{} changes for {sent} approvals that were begun", self.written());
        for approval in &approvals {
            let yes: BTreeSet<&str> =
                approval.presses.iter().filter(|press| press.yes).map(|press| press.user.as_str()).collect();
            let may = yes.iter().all(|user| PEOPLE[..APPROVERS].contains(user));
            let begun = approval.execution.is_some() || approval.state == ApprovalState::Approved;
            assert!(may && (!begun || yes.len() >= 2), "{:?} by {yes:?}", approval.state);
            assert!(!begun || approval.presses.iter().all(|press| press.yes), "a no among {:?}", approval.presses);
        }
    }
}

async fn process(url: &str, policy: &Policy, reader: &Reader, sources: &Sources, actor: &Actor) -> Process {
    let clock = reader.clock();
    let store = Store::open(url, clock.clone(), Options::new(ClusterName::parse("test").unwrap())).await.unwrap();
    let (metrics, motion) = (Metrics::new(), Motion::default());
    let alertmanager = sources.alertmanager.clone();
    let watched = crate::stages::verify::Watched { motion: motion.clone(), alertmanager, ..Default::default() };
    let options = GateOptions {
        store: store.clone(),
        reader: reader.clone(),
        sources: sources.clone(),
        foreign: Vec::new(),
        off: crate::govern::off::Off::default(),
        policy: policy.clone(),
        redactor: Redactor::default(),
        clock: clock.clone(),
        metrics: metrics.clone(),
    };
    let gate = Gate::start(options).await.unwrap();
    Process {
        preview: Preview { store: store.clone(), actor: actor.clone(), clock: clock.clone(), approval_minutes: 30 },
        execute: Execute {
            store: store.clone(),
            actor: actor.clone(),
            gate: gate.clone(),
            outlet: Outlet::Nowhere,
            clock: clock.clone(),
            metrics: metrics.clone(),
            away: Default::default(),
            pace: Default::default(),
        },
        expire: Expire {
            store: store.clone(),
            actor: actor.clone(),
            clock: clock.clone(),
            keep_days: 30,
            off: crate::govern::off::Off::default(),
            pruned_at_ms: 0.into(),
            pace: Pace::default(),
            motion: motion.clone(),
        },
        verify: Verify::new(gate.clone(), reader.clone(), clock.clone(), metrics, Rules::default(), watched),
        gate,
        store,
    }
}

/// On a thread of its own: what a debug build keeps on the stack is more than a test's thread has.
fn now<T: Send, F: Future<Output = T>>(work: impl FnOnce() -> F + Send) -> T {
    let work = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work());
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(16 << 20).spawn_scoped(scope, work).unwrap();
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// What a sequence comes to on SQLite.
fn tell(change: Change, policy: &str, steps: Vec<Step>) -> BTreeMap<&'static str, usize> {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("firstlook.db").display());
    now(|| tell_over(&url, change, policy, steps))
}

async fn tell_over(url: &str, change: Change, policy: &str, steps: Vec<Step>) -> BTreeMap<&'static str, usize> {
    let mut story = Story::begin(change, policy, url).await;
    for step in [Step::Propose, Step::Run("preview")].into_iter().chain(steps) {
        story.take(step).await;
        story.check().await;
    }
    let mut states = BTreeMap::new();
    for approval in story.approvals().await {
        *states.entry(approval.state.as_str()).or_default() += 1;
    }
    *states.entry("written").or_default() += story.written();
    story.process.store.close().await;
    states
}

proptest! {
    // A case takes about a quarter of a second: a whole world, and some forty reads and writes.
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_done_twice_or_without_two_people(change in select(CHANGES.to_vec()), steps in vec(step(), 1..24)) {
        tell(change, POLICY, steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_standing_leave_is_one_of_the_two_people_and_no_more(steps in vec(step(), 1..24)) {
        tell(Change::Restart, &format!("{POLICY}{LEAVE}"), steps);
    }
}

proptest! {
    // Each case makes its schema anew.
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 16, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_done_twice_or_without_two_people_over_postgres(
        change in select(CHANGES.to_vec()), steps in vec(step(), 1..24)
    ) {
        now(|| on_postgres(async |engine| {
            tell_over(&engine.url, change, POLICY, steps.clone()).await;
        }));
    }
}

#[test]
fn a_sequence_that_should_end_in_a_change_does() {
    let press = |who, what| Step::Press { who, what, of: 0, again: false };
    let run = || Step::Run("execute");
    let yes = || [press(0, "approve"), run(), press(1, "approve"), run()];
    let once = BTreeMap::from([("executed", 1), ("written", 1)]);
    for change in CHANGES {
        let plain: Vec<Step> = yes().into_iter().chain([run(), run()]).collect();
        assert_eq!(tell(change, POLICY, plain), once, "{change:?}");
        // Killed after the request was sent, or its answer lost: the next one finds that it was done.
        let killed = [Step::KillAtWrite, run(), Step::Minutes(1), run(), run()];
        let killed: Vec<Step> = yes().into_iter().chain(killed).collect();
        assert_eq!(tell(change, POLICY, killed), once, "{change:?}");
        // What it was asked for was changed before the second yes.
        let edited = [press(0, "approve"), run(), Step::Edit, press(1, "approve"), run(), run(), run()];
        assert_eq!(tell(change, POLICY, edited.into())["written"], 0, "{change:?}");
    }
    // The leave of the first of them and the press of the second.
    let leave = vec![run(), press(1, "approve"), run(), run(), run()];
    assert_eq!(tell(Change::Restart, &format!("{POLICY}{LEAVE}"), leave), once);
    let alone = vec![run(), press(0, "approve"), run(), run(), run()];
    let waits = BTreeMap::from([("pending", 1), ("written", 0)]);
    assert_eq!(tell(Change::Restart, &format!("{POLICY}{LEAVE}"), alone), waits);
}
