//! The tool servers of what is read outside of the cluster, against recorded answers.

use rmcp::model::{CallToolRequestParams, object};
use serde_json::json;

use super::canned::Canned;
use super::*;
use crate::model::Source;
use crate::observe::loki::LokiOptions;
use crate::observe::pagerduty::PagerDutyOptions;
use crate::observe::prometheus::PrometheusOptions;
use crate::observe::web::{Login, WebOptions};
use crate::observe::{Loki, PagerDuty, Prometheus};

fn web(server: &Canned, login: Login) -> WebOptions {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let headers = vec![("X-Scope-OrgID", "shop-team".to_owned())];
    WebOptions { url: server.url.clone(), login, headers, ca_file: None }
}

async fn ask(client: &Client, tool: &'static str, arguments: Value) -> (bool, String, Vec<Segment>) {
    let result = client.call_tool(CallToolRequestParams::new(tool).with_arguments(object(arguments))).await.unwrap();
    let told: Option<Told> = serde_json::from_value(result.structured_content.clone().unwrap()).ok();
    (result.is_error == Some(true), text(&result), told.map(|told| told.segments).unwrap_or_default())
}

/// What a Loki of version 3 answers, by what its query holds.
async fn loki() -> (Canned, Client) {
    let server = Canned::start(&[
        ("/series?", "loki/series.json"),
        (r#"app=~".*"}"#, "loki/empty-matcher-400.json"),
        ("sum by (pod)", "loki/query_range-matrix.json"),
        ("| json", "loki/query_range-json-error-label.json"),
        ("nowhere", "loki/empty-result.json"),
        ("|~", "loki/query_range-streams.json"),
        ("limit=5000", "loki/limit-too-big-400.json"),
    ])
    .await;
    let options = LokiOptions { web: web(&server, Login::Bearer("abc".into())), namespace_label: "namespace".into() };
    let clock = Clock::manual("2026-11-22T15:00:00Z".parse().unwrap());
    let loki = Loki::new(options, Redactor::default()).unwrap();
    let client = connect(loki::LokiLogs::new(loki, clock)).await.unwrap();
    (server, client)
}

#[tokio::test]
async fn logs_of_loki_are_folded_and_held_to_the_namespace() {
    let (server, client) = loki().await;
    let query = json!({"query": r#"{app="checkout"} |~ "(?i)error|panic""#, "namespace": "shop"});
    let (failed, text, segments) = ask(&client, "query_logs", query).await;
    assert!(!failed, "{text}");
    assert!(text.contains("panic: runtime error: index out of range") && text.contains("x3 "), "{text}");
    assert!(
        text.contains(r#"3 lines of {container="app""#) || text.contains(r#"3 lines of {pod="checkout-1"}"#),
        "{text}"
    );
    let quoted = segments.iter().find(|segment| segment.verbatim).expect("lines can be quoted");
    assert!(quoted.holds(r#"msg="db timeout" err="context deadline exceeded""#), "{quoted:?}");
    assert!(matches!(quoted.source, Source::Query { .. }), "two pods: no one log");
    let asked = server.asked().remove(0);
    assert!(asked.contains(r#"{namespace="shop",app="checkout"}"#), "{asked}");
    assert!(asked.contains("authorization: Bearer abc") && asked.contains("x-scope-orgid: shop-team"), "{asked}");
}

#[tokio::test]
async fn metrics_of_logs_nothing_and_refusals_are_told() {
    let (server, client) = loki().await;
    let ask = |query: &str| {
        let arguments = json!({"query": query, "namespace": "shop", "minutes": 60});
        let client = &client;
        async move { ask(client, "query_logs", arguments).await }
    };
    let (failed, text, _) = ask(r#"sum by (pod) (count_over_time({app="checkout"}[1m]))"#).await;
    assert!(!failed && text.contains(r#"{pod="checkout-0"} => 3 throughout"#), "{text}");
    let (failed, text, _) = ask(r#"{app="checkout"} | json"#).await;
    assert!(!failed && text.contains("they carry __error__"), "{text}");
    let (failed, text, _) = ask(r#"{app="nowhere"}"#).await;
    assert!(!failed && text.contains("no line matches") && text.contains("pod=(checkout-0, checkout-1)"), "{text}");
    let (failed, text, _) = ask(r#"{app=~".*"}"#).await;
    assert!(failed && text.contains("at least one regexp or equality matcher"), "{text}");
    let (failed, text, _) = ask(r#"{app="x"} # {"#).await;
    assert!(failed && text.contains("comments"), "{text}");
    let (failed, _, _) = ask(r#"{app="checkout"}"#).await;
    let asked: Vec<String> = server
        .asked()
        .into_iter()
        .filter(|head| head.contains("limit=5000 ") || head.contains("limit=5000&"))
        .collect();
    assert!(failed && asked.len() >= 2, "a bound that the server names is tried: {asked:?}");
}

async fn pagerduty(services: &[&str], answers: &'static [(&'static str, &'static str)]) -> (Canned, Client) {
    let server = Canned::start(answers).await;
    let services = services.iter().map(|id| (*id).to_owned()).collect();
    let options = PagerDutyOptions { web: web(&server, Login::Token("y_NbAkKc66ryYTWUXYEu".into())), services };
    let clock = Clock::manual("2026-03-24T16:40:42Z".parse().unwrap());
    let pagerduty = PagerDuty::new(options, Redactor::default()).unwrap();
    let client = connect(pagerduty::Pager::new(pagerduty, clock)).await.unwrap();
    (server, client)
}

const PAGERDUTY: &[(&str, &str)] = &[
    ("/incidents?", "pagerduty/incidents.json"),
    ("/change_events?", "pagerduty/change_events.json"),
    ("/services/PIJ90N7", "pagerduty/service.json"),
    ("/oncalls?", "pagerduty/oncalls.json"),
];

#[tokio::test]
async fn open_incidents_and_changes_of_pagerduty_are_tables_that_can_be_quoted() {
    let (server, client) = pagerduty(&["PIJ90N7"], PAGERDUTY).await;
    let (failed, text, segments) = ask(&client, "list_pagerduty_incidents", json!({})).await;
    assert!(!failed, "{text}");
    assert!(
        text.contains("#1235 | triggered, high, P2 | 10 min | Shop API | Earline Greenholt | Checkout errors above 5%"),
        "{text}"
    );
    assert!(text.contains("58 min | acme-build-pipeline | Shop API | Build Success"), "{text}");
    assert!(!text.contains("hunter22x"), "{text}");
    assert!(segments.iter().any(|s| s.verbatim && s.holds("Increase snapshot create timeout to 30 seconds")));
    let asked = server.asked().join("\n");
    for part in [
        "statuses[]=triggered",
        "service_ids[]=PIJ90N7",
        "authorization: Token token=y_NbAk",
        "accept: application/vnd.pagerduty json;version=2",
    ] {
        assert!(asked.contains(part), "{part} in {asked}");
    }
    let (_, text, _) = ask(&client, "list_pagerduty_incidents", json!({"text": "warehouse"})).await;
    assert!(
        text.contains("#1234") && !text.contains("#1235") && text.contains("Changes of the last day:\nnone"),
        "{text}"
    );
}

#[tokio::test]
async fn who_is_on_call_is_told_by_policy_and_level() {
    let (server, client) = pagerduty(&["PIJ90N7"], PAGERDUTY).await;
    let (failed, text, _) = ask(&client, "who_is_on_call", json!({})).await;
    assert!(!failed, "{text}");
    let rows: Vec<&str> = text.lines().skip(2).collect();
    assert_eq!(rows[0], "Shop Escalation Policy | 1 | Earline Greenholt | - | -");
    assert!(
        rows[1]
            .starts_with("Shop Escalation Policy | 2 | Tim Wright | Daily Engineering Rotation | 2026-03-25T09:00:00Z"),
        "{text}"
    );
    assert!(server.asked().iter().any(|head| head.contains("escalation_policy_ids[]=PT20YPA")));
}

#[tokio::test]
async fn what_pagerduty_refuses_is_an_error_by_remedy() {
    let (_server, client) = pagerduty(&[], &[("/incidents?", "pagerduty/unauthorized-401.json")]).await;
    let (failed, text, _) = ask(&client, "list_pagerduty_incidents", json!({})).await;
    assert!(failed && text.contains("not allowed: Unauthorized"), "{text}");
    let (_server, client) = pagerduty(&[], &[("/incidents?", "pagerduty/rate-limit-429.json")]).await;
    let (failed, text, _) = ask(&client, "list_pagerduty_incidents", json!({})).await;
    assert!(failed && text.contains("it asks to wait: Rate Limit Exceeded"), "{text}");
}

#[tokio::test]
async fn rules_that_raise_nothing_are_counted_and_named_and_those_that_fail_are_none_of_them() {
    let server = Canned::start(&[("/api/v1/rules", "prometheus/rules.json")]).await;
    let options =
        PrometheusOptions { web: web(&server, Login::Bearer("abc".into())), namespace_label: "namespace".into() };
    let clock = Clock::manual("2026-11-30T22:46:10Z".parse().unwrap());
    let prometheus = Prometheus::new(options, Redactor::default()).unwrap();
    let client = connect(k8s_metrics::K8sMetrics::new(prometheus, clock)).await.unwrap();
    let (failed, text, _) = ask(&client, "list_alerts", json!({})).await;
    assert!(!failed && text.contains("1 firing, 0 pending"), "{text}");
    let (said, shown) = text.split_once("25 rules raise nothing: ").expect("of 27 one fires and one fails");
    assert!(shown.contains("CartSlow02, CartSlow03") && shown.contains("TargetAbsent") == shown.contains("CartSlow25"));
    assert!(shown.contains("(5 more not shown)"), "{shown}");
    assert!(said.contains("1 rules cannot be evaluated, such as ScrapeBroken: found duplicate series"), "{said}");
    assert!(!shown.contains("TargetDown") && !shown.contains("ScrapeBroken"), "{shown}");
}
