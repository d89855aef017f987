//! What the gate adds to a read: one tool asked behind it and before it in turn, over the simulated API server, for the
//! benchmark. Prints `{"direct_ms": ..., "gate_ms": ..., "overhead_ms": ..., "calls": ..., "audited": ...}`, medians.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use firstlook::app;
use firstlook::clock::Clock;
use firstlook::govern::callers::{Guest, Rights};
use firstlook::govern::gate::{Gate, GateOptions};
use firstlook::govern::off::Off;
use firstlook::govern::policy::Policy;
use firstlook::mcp;
use firstlook::mcp::Client;
use firstlook::model::{ClusterName, Kind};
use firstlook::observe::{Reader, Selector, Sources};
use firstlook::redact::Redactor;
use firstlook::sim::still::Still;
use firstlook::store;
use firstlook::store::Store;
use firstlook::telemetry::Metrics;
use rmcp::model::CallToolRequestParams;
use serde_json::json;

/// Pairs of calls, after a tenth as many that are not counted: enough for a median that holds still.
const PAIRS: usize = 2_000;
const SERVER: &str = "k8s-logs";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let still = Still::open("bad-image-rollout").await?;
    let folder = tempfile::tempdir()?;
    let cluster = ClusterName::parse("bench").context("a name")?;
    let (clock, redactor, sources) = (Clock::system(), Redactor::default(), Sources::default());
    let url = format!("sqlite:{}", folder.path().join("firstlook.db").display());
    let store = Store::open(&url, clock.clone(), store::Options::new(cluster.clone())).await?;
    let (client, _) = app::clients::tools(&still.kubernetes)?;
    let reader = Reader::new(client, cluster, redactor.clone(), clock.clone());
    let pods = reader.list(Kind::Pod, Some(&still.namespace), &Selector::all()).await?;
    let pod = pods.iter().find_map(|pod| pod.pointer("/metadata/name")?.as_str()).context("the scenario has no pod")?;
    let arguments = json!({"namespace": still.namespace, "pod": pod});
    let arguments = arguments.as_object().cloned().unwrap_or_default();
    let request = CallToolRequestParams::new("pod_logs").with_arguments(arguments);

    let started = mcp::start(&reader, &sources).await?;
    let (_, direct) = started.into_iter().find(|(name, _)| *name == SERVER).context("no such server")?;
    let gate = Gate::start(GateOptions {
        store: store.clone(),
        reader,
        sources,
        foreign: Vec::new(),
        off: Off::default(),
        policy: Policy::default(),
        redactor,
        clock,
        metrics: Metrics::new(),
    })
    .await?;
    let guest = Arc::new(Guest::new(Rights::of_this_machine("bench")));
    let visit = gate.visit(&guest, Some(SERVER)).context("the gate does not let this caller in")?;
    let through = mcp::connect(visit).await?;

    let (mut before, mut behind) = (Vec::with_capacity(PAIRS), Vec::with_capacity(PAIRS));
    for number in 0..PAIRS + PAIRS / 10 {
        let (a, b) = (timed(&direct, &request).await?, timed(&through, &request).await?);
        if number >= PAIRS / 10 {
            before.push(a);
            behind.push(b);
        }
    }
    gate.flush().await;
    let audited = store.audit_head().await?.is_some() || store.seal(1_000).await?.is_some();
    let (direct_ms, gate_ms) = (median(before), median(behind));
    let overhead_ms = gate_ms - direct_ms;
    println!(
        "{}",
        json!({"direct_ms": direct_ms, "gate_ms": gate_ms, "overhead_ms": overhead_ms, "calls": PAIRS, "audited": audited})
    );
    Ok(())
}

/// Milliseconds of one call that must succeed.
async fn timed(client: &Client, request: &CallToolRequestParams) -> anyhow::Result<f64> {
    let began = Instant::now();
    let result = client.call_tool(request.clone()).await?;
    let ms = began.elapsed().as_secs_f64() * 1e3;
    anyhow::ensure!(result.is_error != Some(true), "the call failed: {result:?}");
    Ok(ms)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
