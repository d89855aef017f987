//! Callers from outside: what they are offered, what they may read, and what comes of a change that they ask for.

mod fuzz;
mod schemas;

use rmcp::model::{CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, Implementation, object};
use rmcp::{ClientHandler, RoleClient, ServiceExt, service::RunningService};
use serde_json::{Value, json};

use super::*;
use crate::govern::callers::{Callers, Guest, token_hash};
use crate::govern::gate::visit::Called;
use crate::model::{ASKED, ApprovalId, Severity};
use crate::store::tests::world::hold;

/// A program that says its name.
#[derive(Clone)]
pub(super) struct Kimi;

impl ClientHandler for Kimi {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(ClientCapabilities::default(), Implementation::new("kimi-code", "2.1.0"))
    }
}

pub(super) type Connection = RunningService<RoleClient, Kimi>;

pub(super) fn guest(rest: &str) -> Arc<Guest> {
    let yaml = format!("callers:\n  - {{name: laptop, for: U024BE7LH, token_sha256: {}, {rest}}}", token_hash("t"));
    let servers: Vec<&str> = Gate::servers().into_iter().chain(["wiki"]).collect();
    let callers = Callers::parse(&yaml, "callers.yaml", &servers).unwrap();
    Arc::clone(callers.find("t").unwrap())
}

pub(super) const ALL: &str = "namespaces: [fleet-ops], tiers: [read-only, reversible]";

pub(super) async fn connect(world: &World, guest: &Arc<Guest>, server: Option<&str>) -> Connection {
    let visit = world.gate.visit(guest, server).unwrap();
    let (near, far) = mcp::pipe();
    tokio::spawn(async move { drop(visit.serve(far).await.unwrap().waiting().await) });
    Kimi.serve(near).await.unwrap()
}

pub(super) async fn ask(client: &Connection, tool: &'static str, arguments: Value) -> (bool, String, Value) {
    let request = CallToolRequestParams::new(tool).with_arguments(object(arguments));
    let result: CallToolResult = client.call_tool(request).await.unwrap();
    let text = result.content.iter().filter_map(|c| c.as_text()).map(|t| t.text.clone()).collect();
    (result.is_error == Some(true), text, result.structured_content.unwrap_or_default())
}

pub(super) async fn names(client: &Connection) -> Vec<String> {
    client.list_all_tools().await.unwrap().into_iter().map(|tool| tool.name.to_string()).collect()
}

/// Another Deployment than the incident's.
fn other() -> Value {
    json!({"namespace": "fleet-ops", "kind": "Deployment", "name": "driver-sync"})
}

#[tokio::test]
async fn a_caller_is_offered_what_its_token_reaches() {
    let world = world().await;
    let all = connect(&world, &guest(ALL), None).await;
    let offered = names(&all).await;
    for tool in ["pod_logs", "rollout_restart", "get_approval"] {
        assert!(offered.contains(&tool.to_owned()), "{offered:?}");
    }
    let one = connect(&world, &guest(ALL), Some("k8s-logs")).await;
    assert_eq!(names(&one).await, ["pod_logs", "search_logs"]);
    let reads = guest("namespaces: [fleet-ops], servers: [k8s-workloads, k8s-safe-restart]");
    assert!(names(&connect(&world, &reads, None).await).await.iter().all(|name| !name.starts_with("rollout_re")));
    assert!(world.gate.visit(&reads, Some("k8s-logs")).is_none(), "a server that the token does not reach");
    assert!(world.gate.visit(&reads, Some("k8s-nothing")).is_none());
    let (failed, text, _) = ask(&connect(&world, &reads, None).await, "rollout_restart", workload()).await;
    assert!(failed && text.contains("does not reach rollout_restart"), "{text}");
}

#[tokio::test]
async fn what_a_caller_reads_is_audited_with_its_name_and_kept_as_hash_and_length() {
    let world = world().await;
    let client = connect(&world, &guest(ALL), None).await;
    let (failed, text, _) = ask(&client, "get_workload", workload()).await;
    assert!(!failed && text.starts_with("get_workload\n<data>\n") && text.contains("ImagePullBackOff"), "{text}");
    let (failed, text, _) = ask(&client, "list_workloads", json!({"namespace": "kube-system"})).await;
    assert!(failed && text.contains("does not reach namespace kube-system"), "{text}");
    world.gate.flush().await;
    let last = world.store.audit_last("outside").await.unwrap().unwrap();
    let caller = &last["caller"]["client"];
    assert_eq!(
        (&caller["name"], &caller["person"], &caller["program"]),
        (&json!("laptop"), &json!("U024BE7LH"), &json!("kimi-code"))
    );
    assert_eq!((last["outcome"].as_str(), last["tool"].as_str()), (Some("not_run"), Some("list_workloads")));
    assert!(last["sha256"].is_string() && world.audited().await.is_empty(), "it belongs to no incident");
    assert!(client.call_tool(CallToolRequestParams::new("exec")).await.is_err(), "a protocol error");
    world.gate.flush().await;
    let last = world.store.audit_last("outside").await.unwrap().unwrap();
    assert_eq!((last["outcome"].as_str(), last["tool"].as_str()), (Some("not_run"), Some("exec")), "who tries is seen");
}

#[tokio::test]
async fn a_change_that_is_asked_for_waits_for_a_person_and_get_approval_tells_how_it_stands() {
    let world = world().await;
    let client = connect(&world, &guest(ALL), None).await;
    let (failed, text, told) = ask(&client, "rollout_restart", other()).await;
    assert!(!failed && text.starts_with("pending_approval a"), "{text}");
    assert_eq!(told["status"], "pending_approval");
    let id = ApprovalId::parse(told["approval_id"].as_str().unwrap()).unwrap();
    let approval = world.store.approval(&id).await.unwrap().unwrap();
    assert_eq!(approval.state, ApprovalState::Proposed);
    let incident = world.store.incident(&approval.incident).await.unwrap().unwrap();
    assert_eq!(
        (incident.fault.as_str(), incident.severity, &incident.subject),
        (ASKED, Severity::None, &deployment("driver-sync"))
    );
    assert_eq!(incident.why[0].sentence.as_str(), "asked by U024BE7LH through kimi-code (token laptop)");
    let (_, again, _) = ask(&client, "rollout_restart", other()).await;
    assert_eq!(again, text, "the same request is one");
    let (_, _, told) = ask(&client, "get_approval", json!({"approval_id": id})).await;
    assert_eq!(told["state"], "proposed");
    let elsewhere = connect(&world, &guest("namespaces: [shop]"), None).await;
    let (failed, text, _) = ask(&elsewhere, "get_approval", json!({"approval_id": id})).await;
    assert!(failed && text.contains("there is no such approval"), "{text}");
    assert!(world.cluster.requests().iter().all(|request| request.method == "GET"), "nothing was written");
}

#[tokio::test]
async fn a_change_of_what_an_incident_is_about_is_asked_for_on_its_card() {
    let world = world().await;
    let client = connect(&world, &guest(ALL), None).await;
    let (_, _, told) = ask(&client, "rollout_undo", workload()).await;
    let id = ApprovalId::parse(told["approval_id"].as_str().unwrap()).unwrap();
    assert_eq!(world.store.approval(&id).await.unwrap().unwrap().incident, world.incident.id);
    assert_eq!(world.store.open_incidents().await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_refused_opens_no_incident_and_is_audited() {
    let world = world().await;
    let client = connect(&world, &guest(ALL), None).await;
    let near = json!({"namespace": "fleet-ops", "kind": "Deployment", "name": "driver-syncs"});
    let slip = json!({"namespace": "fleet-ops", "kind": "Deployment", "name": "driver-sync", "force": true});
    let refused = [
        (near, "near names: Deployment fleet-ops/driver-sync"),
        (slip, "has no argument `force`"),
        (json!({"namespace": "shop", "kind": "Deployment", "name": "web"}), "does not reach namespace shop"),
        (json!({"namespace": "fleet-ops", "kind": "Secret", "name": "db"}), "Secrets cannot be read"),
    ];
    for (arguments, says) in refused {
        let (_, text, _) = ask(&client, "rollout_restart", arguments).await;
        assert!(text.contains(says), "{text}");
    }
    assert_eq!(world.store.open_incidents().await.unwrap().len(), 1);
    world.gate.flush().await;
    assert!(world.store.audit_last("outside").await.unwrap().is_some());
    let few = guest(&format!("{ALL}, asks_per_hour: 1"));
    let client = connect(&world, &few, None).await;
    assert!(ask(&client, "rollout_restart", other()).await.1.starts_with("pending_approval"));
    assert!(ask(&client, "rollout_restart", other()).await.1.contains("asks_per_hour"));
}

#[tokio::test]
async fn a_cancelled_call_stops_its_work_and_is_audited_as_that() {
    use rmcp::model::{ClientRequest, Request};
    use rmcp::service::PeerRequestOptions;
    let world = world().await;
    let client = connect(&world, &guest(ALL), None).await;
    world.cluster.fault(Fault::Hang { path: "/apis/apps/v1/namespaces/fleet-ops/deployments/dispatch-api".into() });
    let request = CallToolRequestParams::new("get_workload").with_arguments(object(workload()));
    let request = ClientRequest::CallToolRequest(Request::new(request));
    let call = client.send_cancellable_request(request, PeerRequestOptions::no_options()).await.unwrap();
    let last = async {
        world.cluster.holding().await;
        call.cancel(None).await.unwrap();
        loop {
            world.gate.flush().await;
            if let Some(last) = world.store.audit_last("outside").await.unwrap() {
                return last;
            }
        }
    };
    let last = tokio::time::timeout(std::time::Duration::from_secs(20), last).await.expect("it is audited");
    assert_eq!(last["outcome"], "cancelled");
}

/// A program that shows how far its calls are.
#[derive(Clone)]
struct Patient(tokio::sync::mpsc::UnboundedSender<rmcp::model::ProgressNotificationParam>);

impl ClientHandler for Patient {
    async fn on_progress(
        &self,
        progress: rmcp::model::ProgressNotificationParam,
        _: rmcp::service::NotificationContext<RoleClient>,
    ) {
        let _ = self.0.send(progress);
    }
}

#[tokio::test]
async fn a_client_that_asks_for_progress_is_told_while_a_read_lasts() {
    let world = world().await;
    let visit = world.gate.visit(&guest(ALL), None).unwrap();
    let (near, far) = mcp::pipe();
    tokio::spawn(async move { drop(visit.serve(far).await.unwrap().waiting().await) });
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    let client = Patient(sender).serve(near).await.unwrap();
    let pod = world.cluster.list("Pod", "fleet-ops")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    world.cluster.fault(Fault::Hang { path: format!("/api/v1/namespaces/fleet-ops/pods/{pod}/log") });
    let request = CallToolRequestParams::new("pod_logs");
    let request = request.with_arguments(object(json!({"namespace": "fleet-ops", "pod": pod})));
    let call = tokio::spawn(async move { client.call_tool(request).await });
    while world.cluster.requests().iter().all(|request| !request.path.contains("/log?")) {
        tokio::task::yield_now().await;
    }
    let progress = told.recv().await.unwrap();
    assert_eq!((progress.progress, progress.message.as_deref()), (1.0, Some("still reading, 2 s")));
    call.abort();
}

#[tokio::test]
async fn a_request_that_is_cancelled_while_its_object_is_read_asks_nobody() {
    use rmcp::model::{ClientRequest, Request};
    use rmcp::service::PeerRequestOptions;
    let world = world().await;
    let client = connect(&world, &guest(ALL), None).await;
    world.cluster.fault(Fault::Hang { path: "/apis/apps/v1/namespaces/fleet-ops/deployments/driver-sync".into() });
    let request = CallToolRequestParams::new("rollout_restart").with_arguments(object(other()));
    let request = ClientRequest::CallToolRequest(Request::new(request));
    let call = client.send_cancellable_request(request, PeerRequestOptions::no_options()).await.unwrap();
    while world.cluster.requests().iter().all(|request| !request.path.ends_with("driver-sync")) {
        tokio::task::yield_now().await;
    }
    call.cancel(None).await.unwrap();
    loop {
        world.gate.flush().await;
        if let Some(last) = world.store.audit_last("outside").await.unwrap() {
            assert_eq!((&last["outcome"], &last["tool"]), (&json!("cancelled"), &json!("rollout_restart")));
            break;
        }
    }
    world.cluster.release();
    assert_eq!(world.store.open_incidents().await.unwrap().len(), 1, "none was opened for it");
    let since = from_ms(0);
    assert!(world.store.approvals_made_since(since).await.unwrap().is_empty(), "no card has a button for it");
    // The same request, asked again, is a new one.
    assert!(ask(&client, "rollout_restart", other()).await.1.starts_with("pending_approval a"));
}

#[tokio::test]
async fn a_request_that_is_cancelled_while_it_is_stored_is_withdrawn() {
    let world = world().await;
    // So that it can be asked later whether the writer answers.
    world.store.answers().await.unwrap();
    let visit = world.gate.visit(&guest(ALL), None).unwrap();
    let called = || Called {
        caller: Caller::Client { name: "laptop".into(), person: Some("U024BE7LH".into()), program: None },
        tool: "rollout_restart".into(),
        tier: Tier::Reversible,
        arguments: object(other()),
        kept: "".into(),
    };
    let (first, cancelled) = (called(), CancellationToken::new());
    let held = hold(&world._folder.path().join("firstlook.db"));
    let cancel = async {
        // The request is with the writer, which waits for the file.
        while tokio::time::timeout(Duration::from_millis(20), world.store.answers()).await.is_ok() {
            tokio::task::yield_now().await;
        }
        cancelled.cancel();
        tokio::task::yield_now().await;
        drop(held);
    };
    let (answer, ()) = tokio::join!(Box::pin(visit.0.ask(&first, &cancelled)), cancel);
    assert!(answer.is_none());
    let made = world.store.approvals_made_since(from_ms(0)).await.unwrap();
    assert_eq!((made.len(), made[0].state), (1, ApprovalState::Withdrawn));
    assert_eq!(made[0].because.as_str(), "who asked for it cancelled the call");
    let told = world.store.audit_last("approval").await.unwrap().unwrap();
    assert_eq!(told["state"], "withdrawn");
    // What an earlier call asked for stands when a later one for the same is cancelled.
    let (second, third) = (called(), called());
    Box::pin(visit.0.ask(&second, &CancellationToken::new())).await.unwrap();
    let cancelled = CancellationToken::new();
    cancelled.cancel();
    assert!(Box::pin(visit.0.ask(&third, &cancelled)).await.is_none());
    let made = world.store.approvals_in(&[ApprovalState::Proposed], 10).await.unwrap();
    assert_eq!(made.len(), 1);
}

#[tokio::test]
async fn resources_are_closed_to_whom_the_tools_of_their_server_are() {
    use rmcp::model::ReadResourceRequestParams;
    let mut world = world().await;
    let evidence = "firstlook://incident/i1/evidence/e12";
    let read = async |client: &Connection, uri: &str| client.read_resource(ReadResourceRequestParams::new(uri)).await;
    call(&world.agent().await, "list_events", json!({"namespace": "fleet-ops"})).await;
    let whole = connect(&world, &guest(ALL), None).await;
    assert!(read(&whole, evidence).await.is_ok() && whole.list_all_resources().await.unwrap().len() == 1);
    let logs = guest("namespaces: [fleet-ops], servers: [k8s-logs]");
    let writes = guest("namespaces: [fleet-ops], tiers: [reversible]");
    for client in [
        connect(&world, &logs, None).await,
        connect(&world, &guest(ALL), Some("k8s-logs")).await,
        connect(&world, &writes, None).await,
    ] {
        for uri in [evidence, "firstlook://incident/i1", "firstlook://incident/i1/report"] {
            assert!(read(&client, uri).await.unwrap_err().to_string().contains("no such resource"), "{uri}");
        }
        assert!(client.list_all_resources().await.unwrap().is_empty());
    }
    let off = Off::of(&["get_evidence".to_owned()]).unwrap();
    let gate = Gate::start(GateOptions { off, ..world.options.clone() }).await.unwrap();
    let policy = Policy::parse("deny: [{tools: [get_evidence]}]", "policy.yaml").unwrap();
    let denying = Gate::start(GateOptions { policy, ..world.options.clone() }).await.unwrap();
    let limits = "limits: {callers: {laptop: {calls_per_hour: 1}}}";
    let policy = Policy::parse(limits, "policy.yaml").unwrap();
    let bounding = Gate::start(GateOptions { policy, ..world.options.clone() }).await.unwrap();
    for (gate, closes) in [(gate, "the tool is off"), (denying, "the policy denies it")] {
        world.gate = gate;
        let client = connect(&world, &guest(ALL), None).await;
        assert!(read(&client, evidence).await.is_err(), "{closes}");
        assert!(read(&client, "firstlook://incident/i1").await.is_ok(), "{closes}, and closes no more");
    }
    world.gate = bounding;
    let client = connect(&world, &guest(ALL), None).await;
    assert!(read(&client, evidence).await.is_ok());
    assert!(read(&client, evidence).await.is_err(), "a resource is a call of the hour too");
}

#[tokio::test]
async fn incidents_reports_and_evidence_are_resources_of_those_who_reach_their_namespace() {
    use rmcp::model::{GetPromptRequestParams, ReadResourceRequestParams};
    let world = world().await;
    let agent = world.agent().await;
    call(&agent, "get_workload", workload()).await;
    let client = connect(&world, &guest(ALL), None).await;
    let listed = client.list_all_resources().await.unwrap();
    assert_eq!(listed[0].uri, "firstlook://incident/i1");
    let read = async |client: &Connection, uri: &str| {
        let result = client.read_resource(ReadResourceRequestParams::new(uri)).await?;
        Ok::<_, rmcp::ServiceError>(serde_json::to_string(&result.contents).unwrap())
    };
    assert!(read(&client, "firstlook://incident/i1").await.unwrap().contains("dispatch-api"));
    assert!(read(&client, "firstlook://incident/i1/evidence/e12").await.unwrap().contains("ImagePullBackOff"));
    assert!(read(&client, "firstlook://incident/i1/evidence/e99").await.is_err());
    let elsewhere = connect(&world, &guest("namespaces: [shop]"), None).await;
    assert!(elsewhere.list_all_resources().await.unwrap().is_empty());
    assert!(read(&elsewhere, "firstlook://incident/i1").await.is_err());
    let form = object(json!({"namespace": "fleet-ops", "task": "why is dispatch-api down"}));
    let prompt = client.get_prompt(GetPromptRequestParams::new("first_look").with_arguments(form)).await.unwrap();
    let text = serde_json::to_string(&prompt.messages).unwrap();
    assert!(text.contains("Cluster: test\\nNamespace: fleet-ops\\nTask: why") && text.contains("Constraints: Only"));
}

#[tokio::test]
async fn who_asks_for_what_is_asked_for_already_is_named_and_audited() {
    let world = world().await;
    let approval =
        world.propose(&Proposal::RolloutUndo { object: deployment("dispatch-api"), to_revision: None }).await;
    let client = connect(&world, &guest(ALL), None).await;
    let (_, _, told) = ask(&client, "rollout_undo", workload()).await;
    assert_eq!(told["approval_id"], json!(approval.id));
    assert_eq!(world.audited().await, ["rollout_undo ask", "rollout_undo ask"], "the same request, asked for by two");
    ask(&client, "rollout_undo", workload()).await;
    assert_eq!(world.audited().await.len(), 3);
    let named = world.store.approval(&approval.id).await.unwrap().unwrap().also_asked_by;
    assert!(matches!(&named[..], [Caller::Client { name, .. }] if name.as_str() == "laptop"), "once: {named:?}");
}

#[tokio::test]
async fn a_tier_that_the_policy_raises_binds_tokens_too() {
    let policy = format!("{POLICY}tiers: {{rollout_restart: destructive}}\n");
    let world = world_with(&policy).await;
    let client = connect(&world, &guest(ALL), None).await;
    assert!(!names(&client).await.contains(&"rollout_restart".to_owned()));
    let (failed, text, _) = ask(&client, "rollout_restart", other()).await;
    assert!(failed && text.contains("does not reach rollout_restart"), "{text}");
    let more = guest("namespaces: [fleet-ops], tiers: [read-only, reversible, destructive]");
    assert!(names(&connect(&world, &more, None).await).await.contains(&"rollout_restart".to_owned()));
}

#[tokio::test]
async fn listing_is_counted_and_audited_as_calling_is() {
    use rmcp::model::GetPromptRequestParams;
    let world = world().await;
    let client = connect(&world, &guest(&format!("{ALL}, calls_per_minute: 3")), None).await;
    client.list_tools(None).await.unwrap();
    client.list_resources(None).await.unwrap();
    let form = object(json!({"namespace": "fleet-ops", "task": "look"}));
    let filled = || client.get_prompt(GetPromptRequestParams::new("first_look").with_arguments(form.clone()));
    filled().await.unwrap();
    world.gate.flush().await;
    let last = world.store.audit_last("outside").await.unwrap().unwrap();
    assert_eq!(
        (last["tool"].as_str(), last["caller"]["client"]["name"].as_str()),
        (Some("prompts/get"), Some("laptop"))
    );
    let error = filled().await.unwrap_err().to_string();
    assert!(error.contains("all 3 calls of this minute"), "{error}");
}

#[tokio::test]
async fn what_was_asked_for_is_counted_over_a_restart() {
    let world = world().await;
    let few = format!("{ALL}, asks_per_hour: 1");
    let client = connect(&world, &guest(&few), None).await;
    assert!(ask(&client, "rollout_restart", other()).await.1.starts_with("pending_approval"));
    let again = connect(&world, &guest(&few), None).await;
    assert!(ask(&again, "rollout_restart", other()).await.1.contains("asks_per_hour"), "the store remembers");
}

#[tokio::test]
async fn a_report_is_told_without_what_the_token_does_not_reach() {
    use crate::model::{Certainty, Citation, Ending, IncidentState, Origin, Report, Review, Source};
    use rmcp::model::ReadResourceRequestParams;
    let world = world().await;
    let citation = |namespace: &str, quote: &'static str| Citation {
        evidence: "e1".parse().unwrap(),
        segment: Some(0),
        quote: quote.into(),
        source: Some(Source::Object { object: ObjectRef::new(Kind::Deployment, Some(namespace), "db").unwrap() }),
    };
    let report = Report {
        origin: Origin::Model,
        headline: "the vault is shut".into(),
        cause: "somebody shut the vault".into(),
        certainty: Certainty::Likely,
        culprit: None,
        citations: vec![citation("fleet-ops", "seen in fleet-ops"), citation("vault", "seen in the vault")],
        ruled_out: Vec::new(),
        advice: None,
        proposals: Vec::new(),
        reasoning: Vec::new(),
        struck: 0,
        review: Review::NotNeeded,
        about: None,
    };
    let read = async |report: Report, rights: &str| {
        let write = Write::Report { incident: world.incident.id.clone(), report: Box::new(report) };
        world.store.commit(vec![write], Durability::Soon, None).await.unwrap();
        let client = connect(&world, &guest(rights), None).await;
        let told =
            client.read_resource(ReadResourceRequestParams::new("firstlook://incident/i1/report")).await.unwrap();
        serde_json::to_string(&told.contents).unwrap()
    };
    let few = read(report.clone(), ALL).await;
    assert!(few.contains("seen in fleet-ops") && few.contains("does not reach") && !few.contains("vault"), "{few}");
    let all = read(report.clone(), "namespaces: [fleet-ops, vault]").await;
    assert!(all.contains("seen in the vault") && all.contains("the vault is shut"), "{all}");
    let before = Incident {
        id: IncidentId::parse("i0").unwrap(),
        state: IncidentState::Over { at: world.clock.now(), how: Ending::Resolved },
        ..world.incident.clone()
    };
    let writes = vec![
        Write::Incident(Box::new(before.clone())),
        Write::Report { incident: before.id, report: Box::new(report.clone()) },
    ];
    world.store.commit(writes, Durability::Soon, None).await.unwrap();
    let similar = async |rights: &str| {
        let client = connect(&world, &guest(rights), None).await;
        ask(&client, "similar_incidents", json!({"incident": "i1"})).await.1
    };
    assert!(similar("namespaces: [fleet-ops, vault]").await.contains("the vault is shut"));
    let few = similar(ALL).await;
    assert!(!few.contains("vault") && few.contains("firstlook changed nothing"), "{few}");
    assert!(similar("namespaces: [vault]").await.contains("there is no such incident"));
    let own = Report { citations: vec![citation("fleet-ops", "seen in fleet-ops")], ..report };
    assert!(read(own, ALL).await.contains("the vault is shut"), "its words rest on what the token reaches");
}
