//! The tool servers over the simulated cluster of a scenario, over the real wire.

use std::path::{Path, PathBuf};

use rmcp::model::{CallToolRequestParams, CallToolResult, object};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::clock::Clock;
use crate::model::{Action, ClusterName, IncidentId, Segment, Tier};
use crate::redact::Redactor;
use crate::sim::cluster::{Cluster, Shift};
use crate::sim::prometheus;
use crate::sim::prometheus::Prometheus;
use crate::telemetry::tests::{Lines, incident_of};

mod cancel;
mod canned;
pub(crate) mod foreign;
mod outside;

/// A server that says something to the log in each call.
struct Talker;

impl ServerHandler for Talker {
    async fn call_tool(
        &self,
        _: CallToolRequestParams,
        _: rmcp::service::RequestContext<RoleServer>,
    ) -> Result<rmcp::model::CallToolResponse, rmcp::ErrorData> {
        tracing::info!("deep within");
        Ok(CallToolResult::success(Vec::new()).into())
    }
}

#[tokio::test]
async fn the_lines_of_a_tool_server_carry_the_incident_of_the_call() {
    let lines = Lines::default();
    let _guard = lines.listen();
    let client = connect(Talker).await.unwrap();
    let mut request = CallToolRequestParams::new("any");
    belongs_to(&mut request, &IncidentId::parse("i7").unwrap());
    client.call_tool(request).await.unwrap();
    let all = lines.all();
    let line = all.iter().find(|line| line["message"] == "deep within").expect("the line");
    assert_eq!(incident_of(line), Some("i7"), "{line}");
}

struct World {
    cluster: Cluster,
    servers: Vec<(&'static str, Client)>,
    _stop: DropGuard,
}

async fn world(scenario: &str) -> World {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/scenarios").join(scenario);
    let clock = Clock::manual("2026-03-24T16:40:00Z".parse().unwrap());
    let cluster = Cluster::load(&folder, clock.clone(), Shift::Keep).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let (server, stopped) = (cluster.clone(), stop.clone());
    tokio::spawn(async move { server.serve(listener, stopped).await });
    let mut config = kube::Config::new(format!("http://{address}").parse().unwrap());
    config.default_retry = false;
    let client = kube::Client::try_from(config).unwrap();
    let reader = Reader::new(client, ClusterName::parse("test").unwrap(), Redactor::default(), clock);
    let servers = start(&reader, &sources(&folder, reader.clock(), &stop).await).await.unwrap();
    World { cluster, servers, _stop: stop.drop_guard() }
}

/// Every source: Prometheus as the scenario has it.
async fn sources(folder: &Path, clock: &Clock, stop: &CancellationToken) -> Sources {
    let Some(prometheus) = Prometheus::from_folder(folder, clock.clone()).unwrap() else { return Sources::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(crate::http::serve(listener, prometheus.router(), stop.clone()));
    prometheus::source(address, &Redactor::default()).unwrap()
}

impl World {
    async fn call(&self, tool: &'static str, arguments: Value) -> CallToolResult {
        let (_, server, _) = TOOLS.iter().find(|(name, ..)| *name == tool).unwrap();
        let (_, client) = self.servers.iter().find(|(name, _)| name == server).unwrap();
        client.call_tool(CallToolRequestParams::new(tool).with_arguments(object(arguments))).await.unwrap()
    }

    /// The text and the segments of a call that works.
    async fn read(&self, tool: &'static str, arguments: Value) -> (String, Vec<Segment>) {
        let result = self.call(tool, arguments).await;
        let text = text(&result);
        assert_eq!(result.is_error, Some(false), "{text}");
        let told: Told = serde_json::from_value(result.structured_content.unwrap()).unwrap();
        assert!(text.chars().count() <= TEXT_MAX_CHARS + 100, "{}", text.len());
        (text, told.segments)
    }

    async fn error(&self, tool: &'static str, arguments: Value) -> String {
        let result = self.call(tool, arguments).await;
        assert_eq!(result.is_error, Some(true), "{}", text(&result));
        text(&result)
    }
}

fn text(result: &CallToolResult) -> String {
    result.content.iter().filter_map(|c| c.as_text()).map(|t| t.text.clone()).collect()
}

const DEPLOYMENT: (&str, &str) = ("fleet-ops", "dispatch-api");

fn workload() -> Value {
    json!({"namespace": DEPLOYMENT.0, "kind": "Deployment", "name": DEPLOYMENT.1})
}

#[tokio::test]
async fn the_read_tools_tell_the_state_and_quote_the_objects() {
    let world = world("d12-bad-image-rollout").await;
    let (text, _) = world.read("list_workloads", json!({"namespace": "fleet-ops"})).await;
    assert!(text.lines().nth(2).unwrap().contains("in trouble"), "{text}");
    let (text, segments) = world.read("get_workload", workload()).await;
    assert!(text.contains("ImagePullBackOff"), "{text}");
    assert!(segments.iter().any(|s| s.verbatim && s.holds(r#""reason": "ImagePullBackOff""#)));
    let (text, segments) = world.read("list_events", workload()).await;
    assert!(segments.iter().any(|s| s.verbatim && s.text.as_str().contains("pulling image")), "{text}");
    let (text, segments) = world.read("what_changed", workload()).await;
    assert!(text.contains("\n- ") && text.contains("\n+ "), "{text}");
    assert!(segments.iter().any(|s| s.verbatim && s.text.as_str().contains("image: ")));
    let (text, _) = world.read("rollout_history", workload()).await;
    assert!(text.contains("(running)"), "{text}");
    let (text, segments) = world.read("get_object", workload()).await;
    assert!(text.contains(r#""kind": "Deployment""#) && segments[0].verbatim, "{text}");
    let (text, _) = world.read("get_object", json!({"kind": "Node", "name": "tide-eu-west-w1"})).await;
    assert!(text.contains("allocatable"), "{text}");
}

#[tokio::test]
async fn logs_are_folded_and_a_search_reads_all_pods() {
    let world = world("d01-env-var-undefined").await;
    let pod = json!({"namespace": "billing-docs", "pod": "invoice-renderer-mwwpq486b-z7q2h"});
    let (text, segments) = world.read("pod_logs", pod).await;
    assert!(text.contains("run before the last restart"), "{text}");
    assert_eq!(segments.iter().filter(|s| s.verbatim).count(), 2, "{text}");
    let search =
        json!({"namespace": "billing-docs", "kind": "Deployment", "name": "invoice-renderer", "pattern": "deploy_env"});
    let (text, segments) = world.read("search_logs", search).await;
    assert!(text.contains("16:38:10Z Environment variable DEPLOY_ENV"), "each hit with its time: {text}");
    assert!(segments.iter().any(|s| s.verbatim), "{text}");
    let none = json!({"namespace": "billing-docs", "pod": "invoice-renderer-mwwpq486b-z7q2h", "container": "renderr"});
    assert!(world.error("pod_logs", none).await.contains("it has: "));
}

#[tokio::test]
async fn metrics_are_told_in_a_few_numbers_that_can_be_quoted() {
    let world = world("d12-bad-image-rollout").await;
    let query = r#"kube_deployment_status_replicas_available{deployment="dispatch-api"}"#;
    let (text, segments) = world.read("query_metrics", json!({"query": query, "namespace": "fleet-ops"})).await;
    let said = r#"namespace="fleet-ops"} => 3 @[1774370400]"#;
    assert!(segments.iter().any(|s| s.verbatim && s.holds(said)), "{segments:?}");
    assert!(text.contains("1 series") && text.contains("=> 3"), "{text}");
    let ask = json!({"query": "kube_pod_container_status_waiting_reason", "namespace": "fleet-ops", "minutes": 90});
    let (text, _) = world.read("query_metrics_range", ask).await;
    assert!(text.contains("2 series, all ") && text.contains("begins at 2026-03-24T"), "{text}");
    let (text, _) = world.read("query_metrics", json!({"query": query})).await;
    assert!(text.contains("no series of nodes and the cluster (give `namespace`"), "{text}");
    let (text, segments) = world.read("list_alerts", json!({"namespace": "fleet-ops"})).await;
    assert!(text.contains("firing KubePodNotReady") && segments[0].verbatim, "{text}");
    assert!(world.read("list_alerts", json!({})).await.0.contains("none fires"));
    let (text, _) = world.read("find_metrics", json!({"text": "waiting", "namespace": "fleet-ops"})).await;
    assert!(text.starts_with("1 metrics:\nkube_pod_container_status_waiting_reason"), "{text}");
    let said = world.error("query_metrics_range", json!({"query": "up", "minutes": 60 * 24 * 30})).await;
    assert_eq!(said, "minutes: a whole number from 1 to 10080");
    let said = world.error("query_metrics", json!({"query": "up", "minutes_ago": 60 * 24 * 30})).await;
    assert_eq!(said, "minutes_ago: a whole number from 0 to 10080");
    let said = world.error("query_metrics", json!({"query": "sum(up"})).await;
    assert!(said.contains("parse error"), "{said}");
    assert!(world.error("query_metrics", json!({"query": "up # {", "namespace": "a"})).await.contains("comments"));
}

#[tokio::test]
async fn a_source_that_is_not_configured_has_no_tools() {
    let world = world("d02-init-command-typo").await;
    let names: Vec<_> = world.servers.iter().map(|(name, _)| *name).collect();
    assert!(!names.contains(&k8s_metrics::SERVER), "{names:?}");
}

#[tokio::test]
async fn near_names_are_named_and_never_taken() {
    let world = world("d12-bad-image-rollout").await;
    let slip = json!({"namespace": "fleet-op", "kind": "Deployment", "name": "dispatch-api"});
    let said = world.error("get_workload", slip.clone()).await;
    assert_eq!(said, "namespace fleet-op does not exist; near names: Deployment fleet-ops/dispatch-api");
    let said = world.error("rollout_restart", slip).await;
    assert!(said.contains("near names"), "{said}");
    let said = world.error("pod_logs", json!({"namespace": "fleet-ops", "pod": "dispatch-ap"})).await;
    assert!(said.starts_with("Pod fleet-ops/dispatch-ap does not exist"), "{said}");
}

#[tokio::test]
async fn secrets_unknown_fields_and_wrong_types_are_answered_in_words() {
    let world = world("d12-bad-image-rollout").await;
    let secret = json!({"kind": "Secret", "namespace": "fleet-ops", "name": "registry"});
    assert!(world.error("get_object", secret).await.contains("Secrets cannot be read"));
    let unknown = json!({"namespace": "fleet-ops", "token": "x"});
    assert!(world.error("list_workloads", unknown).await.contains("unknown field"));
    world.error("list_workloads", json!({"namespace": 3})).await;
    let asked: Vec<_> = world.cluster.requests().into_iter().filter(|r| r.path.contains("secret")).collect();
    assert!(asked.is_empty(), "{asked:?}");
}

#[tokio::test]
async fn a_write_tool_proposes_an_absolute_target_and_writes_nothing() {
    let world = world("d12-bad-image-rollout").await;
    let result = world.call("rollout_undo", workload()).await;
    let checked: Checked = serde_json::from_value(result.structured_content.unwrap()).unwrap();
    let Checked::Proposal {
        action: Action::RolloutUndo { target_uid, target_hash, to_revision, from_revision, .. },
        ..
    } = checked
    else {
        panic!("{checked:?}")
    };
    let set = world
        .cluster
        .list("ReplicaSet", DEPLOYMENT.0)
        .into_iter()
        .find(|set| set["metadata"]["uid"] == target_uid.as_str())
        .unwrap();
    assert_eq!(set["metadata"]["labels"]["pod-template-hash"], target_hash.as_str());
    assert!(to_revision < from_revision);
    let none = json!({"namespace": DEPLOYMENT.0, "kind": "Deployment", "name": DEPLOYMENT.1, "to_revision": 99});
    assert!(world.error("rollout_undo", none).await.contains("it could go back to: "));
    assert!(world.cluster.requests().iter().all(|request| request.method == "GET"));
}

#[tokio::test]
async fn what_forbids_a_rollout_is_said() {
    let world = world("d12-bad-image-rollout").await;
    let change = |edit: fn(&mut Value)| {
        let mut object = world.cluster.get("Deployment", DEPLOYMENT.0, DEPLOYMENT.1).unwrap();
        edit(&mut object);
        world.cluster.put(object).unwrap();
    };
    change(|object| object["metadata"]["labels"]["argocd.argoproj.io/instance"] = "fleet".into());
    assert!(world.error("rollout_undo", workload()).await.contains("managed by Argo CD application fleet"));
    assert!(world.error("rollout_restart", workload()).await.contains("change it in its repository"));
    change(|object| object["metadata"]["labels"] = json!({}));
    assert_eq!(world.call("rollout_restart", workload()).await.is_error, Some(false));
    change(|object| object["spec"]["paused"] = true.into());
    assert!(world.error("rollout_restart", workload()).await.contains("paused"));
    let pod = json!({"namespace": DEPLOYMENT.0, "kind": "Pod", "name": "x"});
    assert!(world.error("rollout_restart", pod).await.contains("does not exist"));
}

#[tokio::test]
async fn every_tool_has_a_tier_and_says_whether_it_only_reads() {
    let world = world("d12-bad-image-rollout").await;
    let mut seen = 0;
    for (_, client) in &world.servers {
        for offered in client.list_all_tools().await.unwrap() {
            let (_, tier) = tool(&offered.name).unwrap();
            let annotations = offered.annotations.unwrap();
            assert_eq!(annotations.read_only_hint, Some(tier == Tier::ReadOnly), "{}", offered.name);
            assert_eq!(annotations.destructive_hint, Some(tier == Tier::Destructive), "{}", offered.name);
            assert!(offered.output_schema.is_some() || tier != Tier::ReadOnly, "{}", offered.name);
            seen += 1;
        }
    }
    // The gate starts that one, with its store; no scenario has the others.
    let apart = [firstlook::SERVER, loki::SERVER, pagerduty::SERVER, alertmanager::SERVER];
    let apart = TOOLS.iter().filter(|(_, server, _)| apart.contains(server)).count();
    assert_eq!(seen + apart, TOOLS.len());
}

#[tokio::test]
async fn what_a_model_is_offered_stays_small_and_the_same() {
    let world = world("d12-bad-image-rollout").await;
    let mut offered = Vec::new();
    for (_, client) in &world.servers {
        let all = client.list_all_tools().await.unwrap();
        offered.extend(all.into_iter().filter(|one| tool(&one.name).unwrap().1 == Tier::ReadOnly));
    }
    let first = crate::agent::prompt::tools(&offered, None, &crate::govern::off::Off::default());
    offered.reverse();
    assert_eq!(
        first,
        crate::agent::prompt::tools(&offered, None, &crate::govern::off::Off::default()),
        "in whatever order the servers answer"
    );
    let text = serde_json::to_string(&first).unwrap();
    let tokens = tiktoken_rs::o200k_base().unwrap().encode_ordinary(&text).len();
    assert!(tokens <= 1_800, "{tokens} tokens: {text}");
}

/// What of JSON Schema our schemas use: whether `value` holds to `schema`.
pub(crate) fn holds(schema: &Value, value: &Value) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{what}: {value} against {schema}"));
    for key in schema.as_object().unwrap().keys() {
        let known = ["type", "properties", "required", "items", "enum", "description", "additionalProperties"];
        assert!(known.contains(&key.as_str()), "{key} is not checked here: {schema}");
    }
    let fits = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64(),
        _ => true,
    };
    if !fits {
        return wrong("type");
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        if value.get(name.as_str().unwrap()).is_none() {
            return wrong("required");
        }
    }
    if let Some(all) = schema["enum"].as_array()
        && !all.contains(value)
    {
        return wrong("enum");
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(name) {
            holds(inner, value)?;
        }
    }
    let items = value.as_array().into_iter().flatten().filter(|_| schema.get("items").is_some());
    for value in items {
        holds(&schema["items"], value)?;
    }
    Ok(())
}

#[tokio::test]
async fn every_answer_and_every_error_holds_to_the_tools_own_schema() {
    let world = world("d12-bad-image-rollout").await;
    let pod = "dispatch-api-x7ft9mqdn-f7cp9";
    let named = workload();
    let calls = [
        ("list_workloads", json!({"namespace": "fleet-ops"})),
        ("list_workloads", json!({"namespace": "fleet-op"})),
        ("get_workload", named.clone()),
        ("get_workload", json!({"namespace": "fleet-ops", "kind": "Deployment", "name": "dispatch-apo"})),
        ("get_object", json!({"namespace": "fleet-ops", "kind": "Pod", "name": pod, "part": "/status"})),
        ("get_object", json!({"namespace": "fleet-ops", "kind": "Secret", "name": "x"})),
        ("get_object", json!({"namespace": "fleet-ops", "kind": "ConfigMap", "name": "dispatch", "part": "/data"})),
        ("list_events", named.clone()),
        ("what_changed", named.clone()),
        ("rollout_history", named.clone()),
        ("pod_logs", json!({"namespace": "fleet-ops", "pod": pod})),
        ("pod_logs", json!({"namespace": "fleet-ops", "pod": pod, "container": "none"})),
        (
            "search_logs",
            json!({"namespace": "fleet-ops", "kind": "Deployment", "name": "dispatch-api", "pattern": "a"}),
        ),
        (
            "search_logs",
            json!({"namespace": "fleet-ops", "kind": "Deployment", "name": "dispatch-api", "pattern": "("}),
        ),
        ("query_metrics", json!({"query": "up"})),
        ("query_metrics", json!({"query": "sum(up"})),
        ("query_metrics_range", json!({"query": "kube_pod_container_status_waiting_reason", "namespace": "fleet-ops"})),
        ("list_alerts", json!({"namespace": "fleet-ops"})),
        ("find_metrics", json!({"text": "waiting", "namespace": "fleet-ops"})),
        ("rollout_undo", named.clone()),
        ("rollout_restart", json!({"namespace": "fleet-ops", "kind": "Deployment", "name": "dispatch-apo"})),
    ];
    let mut told = std::collections::BTreeSet::new();
    for (name, arguments) in calls {
        let result = world.call(name, arguments.clone()).await;
        let (_, client) = world.servers.iter().find(|(server, _)| Some(*server) == server_of(name)).unwrap();
        let tools = client.list_all_tools().await.unwrap();
        let tool = tools.iter().find(|tool| tool.name == name).unwrap();
        let Some(schema) = &tool.output_schema else { continue };
        let structured = result.structured_content.unwrap_or_else(|| panic!("{name} {arguments} has none"));
        if let Err(why) = holds(&Value::Object((**schema).clone()), &structured) {
            panic!("{name} {arguments}: {why}");
        }
        told.insert((name, result.is_error == Some(true)));
    }
    let read: Vec<_> =
        TOOLS.iter().filter(|(_, server, tier)| server.starts_with("k8s-") && *tier == Tier::ReadOnly).collect();
    assert!(read.iter().all(|(name, ..)| told.contains(&(*name, false))), "{told:?}");
}
