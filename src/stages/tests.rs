//! Actions from the proposal to their verification, over the simulated cluster and a SQLite store.

mod changes;
mod drains;
mod outage;
mod rollouts;
mod sequences;
mod silences;
mod unanswered;

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::act::Actor;
use crate::act::account::Accounts;
use crate::act::silence::Silencer;
use crate::clock::Clock;
use crate::correlate::Rules;
use crate::govern::gate::{Gate, GateOptions, Suggestion};
use crate::govern::policy::{Groups, Policy};
use crate::model::{
    Approval, ApprovalState, Caller, Click, ClusterName, Incident, IncidentId, Kind, ObjectRef, Pressed, Proposal,
    Severity, Verification,
};
use crate::observe::{Reader, scene};
use crate::redact::Redactor;
use crate::sim::cluster::{Cluster, Fault, Shift};
use crate::stages::Ran;
use crate::stages::deliver::Outlet;
use crate::stages::execute::Execute;
use crate::stages::preview::Preview;
use crate::stages::verify::{Verify, Watched};
use crate::store::{Durability, Options, Store, Write};
use crate::telemetry::Metrics;

const NOW: &str = "2026-03-24T16:40:00Z";
const PERSON: &str = "U024BE7LH";
const POLICY: &str = r#"
approvers:
  - {who: [U024BE7LH], tiers: [reversible, destructive], namespaces: ["*"], cluster: true}
deny:
  - {labels: {firstlook.dev/protected: "true"}}
  - {namespaces: [vault]}
limits: {writes_per_hour: 100}
"#;

/// An incident about one object of a cluster, and the stages that carry an action through.
struct World {
    cluster: Cluster,
    clock: Clock,
    store: Store,
    gate: Gate,
    reader: Reader,
    preview: Preview,
    execute: Execute,
    verify: Verify,
    incident: Incident,
    _folder: tempfile::TempDir,
    _stop: DropGuard,
}

impl World {
    async fn start(items: Vec<Value>, subject: ObjectRef) -> Self {
        Self::start_beside(items, subject, crate::observe::Sources::default()).await
    }

    /// The same, with what is configured beside the cluster.
    async fn start_beside(items: Vec<Value>, subject: ObjectRef, sources: crate::observe::Sources) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let clock = Clock::manual(NOW.parse().unwrap());
        let snapshot = json!({"x-epoch": NOW, "items": items});
        let cluster = Cluster::from_parts(snapshot, Default::default(), clock.clone(), Shift::Keep).unwrap();
        let stop = CancellationToken::new();
        let mut config = cluster.at_hand(stop.clone()).await.unwrap();
        config.default_retry = false;
        let daemon = kube::Client::try_from(config.clone()).unwrap();
        config.auth_info = Default::default();
        let (name, redactor) = (ClusterName::parse("test").unwrap(), Redactor::default());
        let reader = Reader::new(daemon.clone(), name.clone(), redactor.clone(), clock.clone());
        let actor = Actor::new(
            reader.clone(),
            accounts(daemon, config),
            sources.alertmanager.clone().map(|from| Silencer::new(from).unwrap()),
        );
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("firstlook.db").display());
        let store = Store::open(&url, clock.clone(), Options::new(name)).await.unwrap();
        let incident = incident(subject, &clock);
        store.commit(vec![Write::Incident(Box::new(incident.clone()))], Durability::Soon, None).await.unwrap();
        let metrics = Metrics::new();
        let gate = gate(&store, &reader, &sources, &metrics).await;
        Self {
            preview: Preview { store: store.clone(), actor: actor.clone(), clock: clock.clone(), approval_minutes: 30 },
            execute: Execute {
                store: store.clone(),
                actor,
                gate: gate.clone(),
                outlet: Outlet::Nowhere,
                clock: clock.clone(),
                metrics: metrics.clone(),
                away: Default::default(),
                pace: Default::default(),
            },
            verify: Verify::new(
                gate.clone(),
                reader.clone(),
                clock.clone(),
                metrics,
                Rules::default(),
                Watched { alertmanager: sources.alertmanager.clone(), ..Watched::default() },
            ),
            cluster,
            clock,
            store,
            gate,
            reader,
            incident,
            _folder: folder,
            _stop: stop.drop_guard(),
        }
    }

    /// Proposes, and previews what is accepted.
    async fn ask(&self, proposal: Proposal) -> Approval {
        let scene = scene::read(&self.reader, &self.incident.subject, &[], Duration::from_secs(20)).await;
        let (incident, scene, proposal) = (&self.incident, Some(&scene), &proposal);
        let suggestion =
            Suggestion { incident, scene, findings: &[], proposal, caller: Caller::Findings, undoes: None };
        let made = Box::pin(self.gate.propose(suggestion)).await.unwrap();
        self.previewed(made).await
    }

    async fn previewed(&self, made: Approval) -> Approval {
        while Box::pin(self.preview.run_once()).await.unwrap() == Ran::Worked {}
        self.now(&made).await
    }

    async fn now(&self, approval: &Approval) -> Approval {
        self.store.approval(&approval.id).await.unwrap().unwrap()
    }

    async fn press(&self, what: Pressed) -> String {
        let click = self.click(what);
        Box::pin(self.gate.press(&click, &Groups::new())).await.unwrap().text.as_str().to_owned()
    }

    fn click(&self, what: Pressed) -> Click {
        Click {
            id: format!("{what:?} {}", self.clock.now()),
            cluster: self.incident.cluster.clone(),
            user: PERSON.into(),
            user_name: "".into(),
            channel: "".into(),
            message_ts: "".into(),
            response_url: None,
            heard_at: self.clock.now(),
            what,
        }
    }

    /// A person says yes, and the action is carried out or ends otherwise.
    async fn approve(&self, approval: &Approval) -> Approval {
        assert_eq!(approval.state, ApprovalState::Pending, "{}", approval.because);
        self.press(Pressed::Approve { approval: approval.id.clone() }).await;
        while Box::pin(self.execute.run_once()).await.unwrap() == Ran::Worked {}
        self.now(approval).await
    }

    /// The same, with the process ending while the API server's answer to the change is under way, and starting again.
    async fn approve_and_lose_the_answer(&self, approval: &Approval) -> Approval {
        self.press(Pressed::Approve { approval: approval.id.clone() }).await;
        self.cluster.fault(Fault::HoldAnswer { path: "/api".into() });
        tokio::select! {
            ran = Box::pin(self.execute.run_once()) => panic!("{ran:?}"),
            () = self.cluster.holding() => {}
        }
        assert_eq!(self.now(approval).await.state, ApprovalState::Executing);
        self.cluster.release();
        // The claim of the process that is gone runs out.
        self.clock.set(self.clock.now() + SignedDuration::from_secs(60));
        while Box::pin(self.execute.run_once()).await.unwrap() == Ran::Worked {}
        self.now(approval).await
    }

    /// The request to take `done` back, once it is previewed.
    async fn undoing(&self, done: &Approval) -> Approval {
        let all = self.store.approvals_of(&self.incident.id).await.unwrap();
        let undo = all.into_iter().find(|approval| approval.undoes.as_ref() == Some(&done.id)).unwrap();
        self.previewed(undo).await
    }

    /// Looks after each change of the cluster until it is known what came of an action. A look comes `pace` seconds
    /// after the one before.
    async fn verified(&self, approval: &Approval, pace_s: i64, is: impl Fn(&Verification) -> bool) -> Verification {
        let mut changes = self.cluster.changes();
        let known = async {
            loop {
                self.clock.set(self.clock.now() + SignedDuration::from_secs(pace_s));
                Box::pin(self.verify.run_once()).await.unwrap();
                let verification = self.now(approval).await.verification;
                if is(&verification) {
                    return verification;
                }
                changes.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(Duration::from_secs(20), known).await {
            Ok(verification) => verification,
            Err(_) => panic!("{:?}", self.now(approval).await.verification),
        }
    }

    /// Carries an action out to its end: it is executed and did what it should.
    async fn carry_out(&self, proposal: Proposal) -> Approval {
        let asked = self.ask(proposal).await;
        let done = self.approve(&asked).await;
        assert_eq!(done.state, ApprovalState::Executed, "{}", done.because);
        self.verified(&done, 1, |came| matches!(came, Verification::Better { .. })).await;
        self.now(&done).await
    }

    /// A client of somebody who may do everything.
    async fn admin(&self) -> kube::Client {
        let mut config = self.cluster.at_hand(CancellationToken::new()).await.unwrap();
        config.auth_info = Default::default();
        kube::Client::try_from(config).unwrap()
    }

    fn get(&self, object: &ObjectRef) -> Value {
        self.cluster.get(object.kind.as_str(), object.namespace(), object.name()).unwrap()
    }

    fn edit(&self, object: &ObjectRef, edit: impl FnOnce(&mut Value)) {
        let mut value = self.get(object);
        edit(&mut value);
        self.cluster.put(value).unwrap();
    }
}

/// A gate with the policy of these tests.
async fn gate(store: &Store, reader: &Reader, sources: &crate::observe::Sources, metrics: &Metrics) -> Gate {
    let options = GateOptions {
        store: store.clone(),
        reader: reader.clone(),
        sources: sources.clone(),
        foreign: Vec::new(),
        off: crate::govern::off::Off::default(),
        policy: Policy::parse(POLICY, "policy.yaml").unwrap(),
        redactor: Redactor::default(),
        clock: reader.clock().clone(),
        metrics: metrics.clone(),
    };
    Gate::start(options).await.unwrap()
}

fn accounts(daemon: kube::Client, server: kube::Config) -> Accounts {
    let (namespace, prefix, redactor) = ("firstlook".into(), "firstlook".into(), Redactor::default());
    Accounts { daemon, server, namespace, prefix, writes: true, redactor }
}

fn incident(subject: ObjectRef, clock: &Clock) -> Incident {
    Incident {
        id: IncidentId::parse("i1").unwrap(),
        severity: Severity::High,
        ..Incident::opened(ClusterName::parse("test").unwrap(), subject, "workload", clock.now())
    }
}

fn object(kind: Kind, namespace: &str, name: &str) -> ObjectRef {
    ObjectRef::new(kind, Some(namespace), name).unwrap()
}

fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": format!("u-{name}")}, "spec": {},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"cpu": "4", "memory": "8Gi"}}})
}

fn template(app: &str, image: &str) -> Value {
    json!({"metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "app", "image": image}]}})
}

fn owners(kind: &str, name: &str) -> Value {
    json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": format!("u-{name}"), "controller": true}])
}

/// A pod that is ready, or whose container crashes.
fn pod(owner: (&str, &str), name: &str, labels: Value, image: &str, is_ready: bool) -> Value {
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}});
    let state = if is_ready { json!({"running": {"startedAt": NOW}}) } else { waiting };
    let mut all = json!({"app": owner.1});
    all.as_object_mut().unwrap().extend(labels.as_object().unwrap().clone());
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop", "uid": format!("u-{name}"),
            "creationTimestamp": "2026-03-24T16:30:00Z", "labels": all, "ownerReferences": owners(owner.0, owner.1)},
        "spec": {"nodeName": "n1", "containers": [{"name": "app", "image": image}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": if is_ready { "True" } else { "False" }}],
            "containerStatuses": [{"name": "app", "image": image, "imageID": "", "ready": is_ready,
                "restartCount": if is_ready { 0 } else { 6 }, "state": state}]}})
}
