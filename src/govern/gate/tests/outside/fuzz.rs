//! Arguments of every tool, damaged: each is answered, nothing is written, and the connection lives.

use std::time::Duration;

use super::*;
use crate::sim::tests::fuzz::try_hard;

/// A call that has no answer by then has none.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn arguments_of_tools_are_answered_whatever_they_are() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (world, client) = runtime.block_on(async {
        let world = world().await;
        let often = format!("{ALL}, cluster: true, calls_per_minute: 4294967295, asks_per_hour: 4294967295");
        let client = connect(&world, &guest(&often), None).await;
        (world, client)
    });
    let (pod, workload) = ("dispatch-api-0", workload());
    let calls = [
        ("get_workload", workload.clone()),
        ("rollout_history", workload.clone()),
        ("list_events", workload.clone()),
        ("rollout_restart", workload.clone()),
        (
            "rollout_undo",
            json!({"namespace": "fleet-ops", "kind": "Deployment", "name": "dispatch-api", "to_revision": 3}),
        ),
        (
            "pod_logs",
            json!({"namespace": "fleet-ops", "pod": pod, "container": "app", "previous": true, "tail_lines": 5}),
        ),
        (
            "search_logs",
            json!({"namespace": "fleet-ops", "kind": "Deployment", "name": "dispatch-api", "pattern": "a+",
            "regex": true, "since_minutes": 5}),
        ),
        ("query_metrics", json!({"query": "up", "namespace": "fleet-ops", "minutes_ago": 3})),
        ("get_evidence", json!({"incident": "i1", "evidence": "e1"})),
        ("get_approval", json!({"approval_id": "a1"})),
    ];
    let seeds: Vec<Vec<u8>> =
        calls.iter().map(|(tool, arguments)| json!([tool, arguments]).to_string().into_bytes()).collect();
    try_hard("tool's arguments", &seeds, |bytes| {
        let Ok((tool, arguments)) = serde_json::from_slice::<(String, serde_json::Map<String, Value>)>(bytes) else {
            return;
        };
        let request = CallToolRequestParams::new(tool).with_arguments(arguments);
        let answer = runtime.block_on(async { tokio::time::timeout(PATIENCE, client.call_tool(request)).await });
        assert!(answer.is_ok(), "it was never answered");
    });
    assert!(runtime.block_on(client.list_all_tools()).is_ok(), "the connection lives");
    let only_reads = |request: &crate::sim::cluster::Request| request.method == "GET";
    assert!(world.cluster.requests().iter().all(only_reads), "nothing was written");
}
