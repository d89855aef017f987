//! The whole way in process: a caller, the gate, the tool servers, a simulated cluster, a SQLite store.

mod foreign;
mod outside;

use std::path::PathBuf;
use std::time::Duration;

use futures::future::join_all;
use rmcp::model::{CallToolRequestParams, CallToolResult, object};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::clock::from_ms;
use crate::model::{
    Action, Approval, ApprovalState, CallOutcome, ClusterName, Execution, Finding, Incident, Investigation,
    InvestigationState, Kind, ObjectRef, Proposal, Reading, Scene, Severity,
};
use crate::observe::alertmanager::AlertmanagerOptions;
use crate::observe::loki::LokiOptions;
use crate::observe::pagerduty::PagerDutyOptions;
use crate::observe::prometheus::PrometheusOptions;
use crate::observe::scene;
use crate::observe::web::WebOptions;
use crate::observe::{Alertmanager, Loki, PagerDuty, Prometheus, Runbooks, Sources};
use crate::sim::cluster::{Cluster, Fault, Shift};
use crate::store::{Durability, Options, Write};

/// Approvers for the scenario's namespace, and a label that protects.
const POLICY: &str = r#"
approvers:
  - {who: [U024BE7LH, U0000000B], tiers: [reversible], namespaces: [fleet-ops]}
deny:
  - {labels: {firstlook.dev/protected: "true"}}
"#;

pub(in crate::govern) struct World {
    pub(in crate::govern) gate: Gate,
    pub(in crate::govern) store: Store,
    pub(in crate::govern) cluster: Cluster,
    pub(in crate::govern) clock: Clock,
    pub(in crate::govern) incident: Incident,
    pub(in crate::govern) scene: Scene,
    pub(in crate::govern) findings: Vec<Finding>,
    options: GateOptions,
    _folder: tempfile::TempDir,
    _stop: DropGuard,
}

pub(in crate::govern) async fn world() -> World {
    world_with(POLICY).await
}

pub(in crate::govern) async fn world_with(policy: &str) -> World {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let scenario = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/scenarios/d12-bad-image-rollout");
    let clock = Clock::manual("2026-03-24T16:40:00Z".parse().unwrap());
    let cluster = Cluster::load(&scenario, clock.clone(), Shift::Keep).unwrap();
    let stop = CancellationToken::new();
    let mut config = cluster.at_hand(stop.clone()).await.unwrap();
    config.default_retry = false;
    let client = kube::Client::try_from(config).unwrap();
    let name = ClusterName::parse("test").unwrap();
    let reader = Reader::new(client, name.clone(), Redactor::default(), clock.clone());
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("firstlook.db").display());
    let store = Store::open(&url, clock.clone(), Options::new(name)).await.unwrap();
    let incident = incident(&clock);
    let scene = scene::read(&reader, &incident.subject, &[], Duration::from_secs(20)).await;
    let writes = vec![Write::Incident(Box::new(incident.clone())), Write::Scene { scene: Box::new(scene.clone()) }];
    store.commit(writes, Durability::Soon, None).await.unwrap();
    let options = GateOptions {
        store: store.clone(),
        reader,
        sources: Sources::default(),
        foreign: Vec::new(),
        off: Off::default(),
        policy: Policy::parse(policy, "policy.yaml").unwrap(),
        redactor: Redactor::new(["own-secret-value".to_owned()]),
        clock: clock.clone(),
        metrics: Metrics::new(),
    };
    let gate = Gate::start(options.clone()).await.unwrap();
    let (findings, _stop) = (Vec::new(), stop.drop_guard());
    World { gate, store, cluster, clock, incident, scene, findings, options, _folder: folder, _stop }
}

fn incident(clock: &Clock) -> Incident {
    Incident {
        id: IncidentId::parse("i1").unwrap(),
        severity: Severity::High,
        investigation: Investigation { turns_max: 12, ..Investigation::unbegun(InvestigationState::Waiting) },
        ..Incident::opened(ClusterName::parse("test").unwrap(), deployment("dispatch-api"), "workload", clock.now())
    }
}

pub(in crate::govern) fn deployment(name: &str) -> ObjectRef {
    ObjectRef::new(Kind::Deployment, Some("fleet-ops"), name).unwrap()
}

impl World {
    async fn agent(&self) -> Client {
        let scope = Scope::of(&self.incident, Some(&self.scene));
        self.gate.connect(Caller::Agent, self.incident.id.clone(), scope).await.unwrap()
    }

    pub(in crate::govern) async fn propose(&self, proposal: &Proposal) -> Approval {
        self.propose_as(proposal, Caller::Findings).await
    }

    pub(in crate::govern) async fn propose_as(&self, proposal: &Proposal, caller: Caller) -> Approval {
        let (incident, scene, findings) = (&self.incident, Some(&self.scene), self.findings.as_slice());
        let suggestion = Suggestion { incident, scene, findings, proposal, caller, undoes: None };
        self.gate.propose(suggestion).await.unwrap()
    }

    /// Another process, that has counted nothing itself, over the same store, with this policy.
    pub(in crate::govern) async fn start_again(&mut self, policy: &str) {
        self.store.close().await;
        let url = format!("sqlite:{}", self._folder.path().join("firstlook.db").display());
        let options = Options::new(ClusterName::parse("test").unwrap());
        self.store = Store::open(&url, self.clock.clone(), options).await.unwrap();
        self.options.store = self.store.clone();
        self.options.policy = Policy::parse(policy, "policy.yaml").unwrap();
        self.gate = Gate::start(self.options.clone()).await.unwrap();
    }

    async fn audited(&self) -> Vec<String> {
        let calls = self.store.calls_of(&self.incident.id).await.unwrap();
        calls.iter().map(|call| format!("{} {}", call.tool, call.verdict.as_str())).collect()
    }

    pub(in crate::govern) fn edit(&self, edit: impl FnOnce(&mut Value)) {
        let mut object = self.cluster.get("Deployment", "fleet-ops", "dispatch-api").unwrap();
        edit(&mut object);
        self.cluster.put(object).unwrap();
    }
}

async fn call(client: &Client, tool: &'static str, arguments: Value) -> (bool, String) {
    let request = CallToolRequestParams::new(tool).with_arguments(object(arguments));
    let result: CallToolResult = client.call_tool(request).await.unwrap();
    let text = result.content.iter().filter_map(|c| c.as_text()).map(|t| t.text.clone()).collect();
    (result.is_error == Some(true), text)
}

fn workload() -> Value {
    json!({"namespace": "fleet-ops", "kind": "Deployment", "name": "dispatch-api"})
}

#[tokio::test]
async fn a_call_becomes_evidence_that_can_be_cited() {
    let world = world().await;
    let agent = world.agent().await;
    let (failed, text) = call(&agent, "get_workload", workload()).await;
    assert!(!failed && text.starts_with("e12 get_workload Deployment fleet-ops/dispatch-api\n<data>\n"), "{text}");
    let evidence = world.store.evidence_one(&world.incident.id, EvidenceId(12)).await.unwrap().unwrap();
    assert!(evidence.prove(r#""reason": "ImagePullBackOff""#).is_some());
    let calls = world.store.calls_of(&world.incident.id).await.unwrap();
    assert_eq!(calls[0].outcome, CallOutcome::Read { evidence: EvidenceId(12) });
    assert!(world.options.metrics.text().contains(r#"tool="get_workload",verdict="run"} 1"#));
}

#[tokio::test]
async fn an_agent_is_offered_the_tools_that_read_and_no_other() {
    let world = world().await;
    let agent = world.agent().await;
    let names: Vec<_> = agent.list_all_tools().await.unwrap().into_iter().map(|tool| tool.name.to_string()).collect();
    let expected = [
        "get_evidence",
        "get_object",
        "get_workload",
        "list_events",
        "list_workloads",
        "pod_logs",
        "rollout_history",
        "search_logs",
        "similar_incidents",
        "what_changed",
    ];
    assert_eq!(names, expected);
    let (failed, text) = call(&agent, "rollout_restart", workload()).await;
    assert!(failed && text.contains("proposed in the report"), "{text}");
    assert!(world.cluster.requests().iter().all(|request| request.method == "GET"));
    assert_eq!(world.audited().await, ["rollout_restart deny"]);
}

/// A gate over everything that can be configured; nothing of it is there.
async fn with_every_source(world: &World) -> Gate {
    let (redactor, folder) = (Redactor::default(), tempfile::tempdir().unwrap());
    std::fs::write(folder.path().join("a.md"), "---\nmatch: {alertname: A}\n---\n# A\n").unwrap();
    let web = || WebOptions { url: "http://127.0.0.1:9".into(), ..WebOptions::default() };
    let label = || "namespace".to_owned();
    let metrics = PrometheusOptions { web: web(), namespace_label: label() };
    let alerts = AlertmanagerOptions { web: web(), namespace_label: label() };
    let logs = LokiOptions { web: web(), namespace_label: label() };
    let sources = Sources {
        prometheus: Some(Prometheus::new(metrics, redactor.clone()).unwrap()),
        loki: Some(Loki::new(logs, redactor.clone()).unwrap()),
        pagerduty: Some(
            PagerDuty::new(PagerDutyOptions { web: web(), services: Vec::new() }, redactor.clone()).unwrap(),
        ),
        runbooks: Runbooks::load(folder.path(), None, &redactor).unwrap(),
        alertmanager: Some(Alertmanager::new(alerts, redactor.clone()).unwrap()),
    };
    Gate::start(GateOptions { sources, ..world.options.clone() }).await.unwrap()
}

#[tokio::test]
async fn with_every_source_configured_the_agents_tools_cost_at_most_1800_tokens() {
    let world = world().await;
    let gate = with_every_source(&world).await;
    let scope = Scope::of(&world.incident, Some(&world.scene));
    let agent = gate.connect(Caller::Agent, world.incident.id.clone(), scope).await.unwrap();
    let offered = agent.list_all_tools().await.unwrap();
    for name in ["query_metrics_range", "query_logs", "who_is_on_call", "find_runbooks", "get_evidence"] {
        assert!(offered.iter().any(|tool| tool.name == name), "{name} is not offered");
    }
    let tools = crate::agent::prompt::tools(&offered, None, &Off::default());
    let nulls = tools.as_array().unwrap().iter().filter(|tool| tool["function"]["parameters"]["required"].is_null());
    assert!(nulls.clone().all(|tool| tool["function"]["parameters"].get("required").is_none()), "no JSON schema");
    let text = tools.to_string();
    let tokens = tiktoken_rs::o200k_base().unwrap().encode_ordinary(&text).len();
    println!("{} tools, {tokens} tokens", offered.len());
    assert!(tokens <= 1_800, "{tokens} tokens: {text}");
}

#[tokio::test]
async fn what_is_switched_off_is_offered_to_nobody_and_asked_for_by_nobody() {
    let mut world = world().await;
    let off = Off::of(&["k8s-logs".to_owned(), "rollout_restart".to_owned()]).unwrap();
    world.gate = Gate::start(GateOptions { off: off.clone(), ..world.options.clone() }).await.unwrap();
    let agent = world.agent().await;
    let offered = agent.list_all_tools().await.unwrap();
    assert!(
        offered.iter().all(|tool| tool.name != "pod_logs") && offered.iter().any(|tool| tool.name == "get_workload")
    );
    let (failed, text) = call(&agent, "pod_logs", json!({"namespace": "fleet-ops", "pod": "x"})).await;
    assert!(failed && text.contains("no tool of this name"), "{text}");
    let told = crate::agent::prompt::tools(&offered, None, world.gate.off()).to_string();
    assert!(
        !told.contains("\"rollout_restart\"") && told.contains("\"rollout_undo\""),
        "what the report may propose: {told}"
    );
    let refused = world.propose(&Proposal::RolloutRestart { object: deployment("dispatch-api") }).await;
    assert_eq!((refused.state, refused.rule.as_str()), (ApprovalState::Refused, "tools.off"));
    assert_eq!(refused.because.as_str(), "rollout_restart is switched off here");
    let undo = Proposal::RolloutUndo { object: deployment("dispatch-api"), to_revision: None };
    assert_eq!(world.propose(&undo).await.state, ApprovalState::Proposed);

    let guest = outside::guest(outside::ALL);
    assert!(world.gate.visit(&guest, Some("k8s-logs")).is_none() && world.gate.visit(&guest, None).is_some());
    let visitor = outside::connect(&world, &guest, None).await;
    let names = outside::names(&visitor).await;
    assert!(names.iter().all(|name| name != "search_logs" && name != "rollout_restart"), "{names:?}");
    let (failed, text, _) = outside::ask(&visitor, "rollout_restart", workload()).await;
    assert!(failed && text.contains("refused"), "{text}");
    assert!(world.cluster.requests().iter().all(|request| request.method == "GET"));
}

#[tokio::test]
async fn what_may_not_be_read_is_refused_audited_and_takes_no_evidence_id() {
    let world = world().await;
    let agent = world.agent().await;
    let refused = [
        (
            "get_object",
            json!({"kind": "Secret", "namespace": "fleet-ops", "name": "registry"}),
            "Secrets cannot be read",
        ),
        ("get_object", json!({"kind": "ConfigMap", "namespace": "fleet-ops", "name": "kubeconfig"}), "kubeconfigs"),
        ("list_workloads", json!({"namespace": "kube-system"}), "its namespaces: fleet-ops"),
        ("get_object", json!({"kind": "Node", "name": "elsewhere"}), "not part of the incident"),
        ("list_workloads", json!({"namespace": "x".repeat(20_000)}), "too long"),
        ("exec", json!({"command": "password=hunter22"}), "no tool of this name"),
    ];
    for (tool, arguments, says) in refused {
        let (failed, text) = call(&agent, tool, arguments).await;
        assert!(failed && text.contains(says), "{tool}: {text}");
    }
    assert_eq!(world.audited().await.len(), 6);
    assert!(world.audited().await.iter().all(|call| call.ends_with("deny")));
    let calls = world.store.calls_of(&world.incident.id).await.unwrap();
    assert!(!calls[5].arguments.as_str().contains("hunter22"), "{}", calls[5].arguments);
    assert!(call(&agent, "what_changed", workload()).await.1.starts_with("e12 "));
}

#[tokio::test]
async fn a_tool_that_fails_is_missing_data() {
    let world = world().await;
    let agent = world.agent().await;
    let absent = json!({"namespace": "fleet-ops", "kind": "Deployment", "name": "dispatch-apo"});
    let (failed, text) = call(&agent, "get_workload", absent).await;
    assert!(failed && text.starts_with("e12 ") && text.contains("missing data"), "{text}");
    assert!(text.contains("near names: Deployment fleet-ops/dispatch-api"), "{text}");
    let evidence = world.store.evidence_one(&world.incident.id, EvidenceId(12)).await.unwrap().unwrap();
    assert!(matches!(evidence.reading, Reading::Missing(_)));
    let (failed, text) = call(&agent, "get_workload", json!({"namespace": "fleet-ops", "nme": "x"})).await;
    assert!(failed && text.contains("unknown field"), "{text}");
}

#[tokio::test]
async fn calls_beyond_the_limit_are_refused_also_after_a_restart() {
    let world = world_with("limits: {tool_calls_per_incident: 3}").await;
    let agent = world.agent().await;
    for number in 12..15 {
        assert!(call(&agent, "rollout_history", workload()).await.1.starts_with(&format!("e{number} ")));
    }
    let (failed, text) = call(&agent, "rollout_history", workload()).await;
    assert!(failed && text.contains("limits.tool_calls_per_incident"), "{text}");
    drop(agent);
    let again = Gate::start(world.options.clone()).await.unwrap();
    let scope = Scope::of(&world.incident, None);
    let agent = again.connect(Caller::Agent, world.incident.id.clone(), scope).await.unwrap();
    assert!(call(&agent, "rollout_history", workload()).await.0);
}

#[tokio::test]
async fn changes_within_the_hour_are_counted_over_a_restart() {
    let policy = format!("{POLICY}limits:\n  writes_per_hour: 1\n");
    let mut world = world_with(&policy).await;
    let undo = Proposal::RolloutUndo { object: deployment("dispatch-api"), to_revision: None };
    let mut done = world.propose(&undo).await;
    done.state = ApprovalState::Executed;
    done.execution = Some(Execution {
        started_at: world.clock.now(),
        body: json!({}),
        finished_at: None,
        generation: None,
        left: None,
        ready_before: None,
        astray: false,
    });
    let write = Write::Approval { approval: Box::new(done), was: Some(ApprovalState::Proposed) };
    world.store.commit(vec![write], Durability::Durable, None).await.unwrap();
    world.start_again(&policy).await;
    let restart = Proposal::RolloutRestart { object: deployment("dispatch-api") };
    let refused = world.propose(&restart).await;
    assert_eq!((refused.state, refused.rule.as_str()), (ApprovalState::Refused, "limits.writes_per_hour (line 7)"));
    world.clock.set(world.clock.now() + jiff::SignedDuration::from_secs(3_601));
    assert_eq!(world.propose(&restart).await.state, ApprovalState::Proposed, "an hour later it is one of this hour");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_calls_get_their_ids_in_the_order_in_which_they_were_made() {
    let world = world().await;
    let agent = world.agent().await;
    // The first call is answered last.
    world.cluster.fault(Fault::Hang { path: "/apis/apps/v1/namespaces/fleet-ops/deployments/dispatch-api".into() });
    let first = call(&agent, "get_workload", workload());
    let names = ["fleet-ops"; 6].map(|namespace| call(&agent, "list_workloads", json!({"namespace": namespace})));
    let rest = async {
        let all = join_all(names).await;
        world.cluster.release();
        all
    };
    let (first, rest) = futures::join!(first, rest);
    assert!(first.1.starts_with("e12 get_workload"), "{}", first.1);
    for (place, (_, text)) in rest.iter().enumerate() {
        assert!(text.starts_with(&format!("e{} list_workloads", 13 + place)), "{text}");
    }
    let stored: Vec<u32> = world.store.evidence(&world.incident.id).await.unwrap().iter().map(|e| e.id.0).collect();
    assert_eq!(stored, (12..19).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_undo_is_proposed_with_an_absolute_target_and_only_once() {
    let world = world().await;
    let undo = Proposal::RolloutUndo { object: deployment("dispatch-api"), to_revision: None };
    let approval = world.propose(&undo).await;
    assert_eq!((approval.state, approval.people_needed), (ApprovalState::Proposed, 1), "{}", approval.because);
    let Some(Action::RolloutUndo { target_uid, target_hash, to_revision, .. }) = &approval.action else { panic!() };
    assert!(!target_uid.is_empty() && !target_hash.is_empty());
    assert_eq!(approval.rule.as_str(), "approvers[0] (line 3)");
    assert_eq!(approval.expires_at, from_ms(world.clock.now_ms() + 30 * 60_000));
    assert_eq!(world.propose(&undo).await.id, approval.id);
    let numbered = Proposal::RolloutUndo { object: deployment("dispatch-api"), to_revision: Some(*to_revision) };
    assert_eq!(world.propose(&numbered).await.id, approval.id, "another name for the same change");
    assert_eq!(world.store.approvals_of(&world.incident.id).await.unwrap().len(), 1);
    assert!(world.cluster.requests().iter().all(|request| request.method == "GET"), "nothing was written");
}

#[tokio::test]
async fn what_is_refused_before_asking_says_why() {
    let world = world().await;
    let restart = |name| Proposal::RolloutRestart { object: deployment(name) };
    let other = world.propose(&restart("driver-sync")).await;
    assert_eq!(other.state, ApprovalState::Refused);
    assert!(other.because.as_str().contains("not what this incident is about"), "{}", other.because);
    world.edit(|object| object["metadata"]["labels"]["firstlook.dev/protected"] = "true".into());
    let protected = world.propose(&restart("dispatch-api")).await;
    assert_eq!((protected.state, protected.rule.as_str()), (ApprovalState::Refused, "deny[0] (line 5)"));
    assert!(protected.action.is_some() && protected.because.as_str().contains("label"));
    assert_eq!(world.propose(&restart("dispatch-api")).await.id, protected.id, "told once");
    world.edit(|object| object["spec"]["paused"] = true.into());
    let paused = world.propose(&restart("dispatch-api")).await;
    assert!(paused.action.is_none() && paused.because.as_str().contains("paused"), "{}", paused.because);
}

#[tokio::test]
async fn without_a_policy_nobody_may_approve_and_the_setting_is_named() {
    let world = world_with("deny: []").await;
    let approval = world.propose(&Proposal::RolloutRestart { object: deployment("dispatch-api") }).await;
    assert_eq!(approval.state, ApprovalState::Refused);
    assert!(approval.rule.is_empty() && approval.action.is_some());
    assert!(approval.because.as_str().contains("add approvers for reversible in `fleet-ops`"), "{}", approval.because);
}

#[tokio::test]
async fn a_second_rollback_never_brings_the_broken_revision_back() {
    let world = world().await;
    let undo = Proposal::RolloutUndo { object: deployment("dispatch-api"), to_revision: None };
    let mut done = world.propose(&undo).await;
    // As after the rollback: what is "before" now is what was rolled back.
    if let Some(Action::RolloutUndo { to_revision, from_revision, .. }) = &mut done.action {
        std::mem::swap(to_revision, from_revision);
    }
    done.state = ApprovalState::Executed;
    let write = Write::Approval { approval: Box::new(done.clone()), was: Some(ApprovalState::Proposed) };
    world.store.commit(vec![write], Durability::Durable, None).await.unwrap();
    let again = world.propose(&undo).await;
    assert_eq!(again.state, ApprovalState::Refused);
    assert!(again.because.as_str().contains("bring back"), "{}", again.because);
    let (incident, scene, proposal) = (&world.incident, Some(&world.scene), &undo);
    let caller = Caller::Person { user: "U024BE7LH".into() };
    let asked = Suggestion { incident, scene, findings: &[], proposal, caller, undoes: Some(done.id) };
    assert_eq!(world.gate.propose(asked).await.unwrap().state, ApprovalState::Proposed, "a person may ask for it");
}

#[tokio::test]
async fn what_was_never_read_is_not_proposed_on_a_models_word() {
    let world = world().await;
    let proposal = Proposal::RolloutRestart { object: deployment("dispatch-api") };
    let unread = Scene::unread(world.incident.subject.clone(), world.clock.now(), &"no answer in time".into());
    let suggest = |scene, caller| {
        let (incident, findings, proposal) = (&world.incident, &world.findings[..], &proposal);
        world.gate.propose(Suggestion { incident, scene: Some(scene), findings, proposal, caller, undoes: None })
    };
    let refused = suggest(&unread, Caller::Agent).await.unwrap();
    assert_eq!(refused.state, ApprovalState::Refused);
    assert!(
        refused.because.as_str().starts_with("nothing of Deployment fleet-ops/dispatch-api was read"),
        "{}",
        refused.because
    );
    assert_eq!(suggest(&world.scene, Caller::Agent).await.unwrap().state, ApprovalState::Proposed);
}

#[tokio::test]
async fn an_agent_reads_its_own_evidence_again_and_nobody_elses() {
    let world = world().await;
    let agent = world.agent().await;
    call(&agent, "get_workload", workload()).await;
    for arguments in [json!({"evidence": "e12"}), json!({"evidence": "e12", "incident": "i2"})] {
        let (failed, text) = call(&agent, "get_evidence", arguments).await;
        assert!(!failed && text.contains("ImagePullBackOff"), "{text}");
    }
    let again = world.store.evidence_one(&world.incident.id, EvidenceId(13)).await.unwrap().unwrap();
    assert!(again.prove(r#""reason": "ImagePullBackOff""#).is_some(), "it can be cited by either id");
    let (failed, text) = call(&agent, "get_evidence", json!({"evidence": "e99"})).await;
    assert!(failed && text.contains("there is no such evidence"), "{text}");
}
