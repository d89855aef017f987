//! The scenes of the scenarios, described compactly; and what no scene may hold.

use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::clock::Clock;
use crate::model::{ClusterName, Evidence, Name, Reading};
use crate::observe::subject;
use crate::observe::tests::{World, world};
use crate::redact::Redactor;

const LONG: Duration = Duration::from_secs(20);

fn object(kind: Kind, namespace: &str, name: &str) -> ObjectRef {
    ObjectRef::new(kind, Some(namespace), name).unwrap()
}

/// The scene of the first alert's subject, or of `named`.
async fn scene_of(world: &World, named: Option<ObjectRef>) -> Scene {
    let (subject, near) = match named {
        Some(named) => (named, Vec::new()),
        None => {
            let found = subject::of_all(&world.reader, &world.alerts()[..1]).await.remove(0);
            (found.object.unwrap(), found.near)
        }
    };
    read(&world.reader, &subject, &near, LONG).await
}

/// The scene as lines, for the snapshots.
fn describe(scene: &Scene) -> String {
    let mut out = format!("{}\n", scene.subject);
    describe_workload(scene, &mut out);
    describe_pods(scene, &mut out);
    describe_nodes(scene, &mut out);
    describe_network(scene, &mut out);
    describe_config(scene, &mut out);
    let sizes: Vec<String> = scene.evidence.iter().map(size).collect();
    let _ = writeln!(out, "evidence {}", sizes.join(" "));
    out
}

fn describe_workload(scene: &Scene, out: &mut String) {
    if let Some(Some(w)) = scene.workload.known() {
        let _ =
            writeln!(out, "workload: {}/{} ready, revision {:?}, gitops {:?}", w.ready, w.wanted, w.revision, w.gitops);
    }
    for r in scene.revisions.items() {
        let _ = writeln!(out, "revision {} {} {}/{} current={}", r.number, r.object.name, r.ready, r.wanted, r.current);
    }
    for c in scene.changes.items() {
        let _ = writeln!(
            out,
            "change {} {} {:?}->{:?} by {:?}",
            c.changed_at, c.object, c.from_revision, c.to_revision, c.by
        );
        for l in &c.lines {
            let _ = writeln!(out, "  {:?} {}: {:?} -> {:?}", l.container, l.field, l.before, l.after);
        }
    }
}

fn describe_pods(scene: &Scene, out: &mut String) {
    for p in scene.pods.items().iter().take(6) {
        let owner = p.owner.as_ref().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(
            out,
            "pod {} {} ready={} on {:?} of {owner} {}m",
            p.object.name, p.phase, p.ready, p.node, p.cpu_milli
        );
        for c in &p.containers {
            let _ =
                writeln!(out, "  {} init={} restarts={} {:?} last={:?}", c.name, c.init, c.restarts, c.state, c.last);
        }
    }
    let _ = writeln!(out, "{} pods", scene.pods.items().len());
    for l in scene.logs.items() {
        let _ = writeln!(out, "log {} {} previous={} missing={:?}", l.pod.name, l.container, l.previous, l.missing);
        for line in &l.lines {
            let _ = writeln!(out, "  x{} {}", line.count, line.text);
        }
    }
    for e in scene.events.items().iter().filter(|e| e.warning).take(8) {
        let _ = writeln!(out, "event {} {} x{} {}", e.object, e.reason, e.count, e.message.cut(120));
    }
    let _ = writeln!(out, "{} events", scene.events.items().len());
}

fn describe_nodes(scene: &Scene, out: &mut String) {
    for n in scene.nodes.items() {
        let _ = writeln!(
            out,
            "node {} ready={:?} cpu {:?}/{} pods {:?} not ready {:?} taints {:?} lease {:?}",
            n.object.name,
            n.ready,
            n.requested_cpu_milli,
            n.allocatable_cpu_milli,
            n.pods,
            n.pods_not_ready,
            n.taints,
            n.lease_renewed_at
        );
    }
}

fn describe_network(scene: &Scene, out: &mut String) {
    for s in scene.services.items() {
        let _ = writeln!(
            out,
            "service {} {:?} endpoints {}+{} selected {} because {}",
            s.object, s.selector, s.ready_endpoints, s.not_ready_endpoints, s.pods_selected, s.because
        );
        for m in &s.near {
            let of = m.of.as_ref().map(ToString::to_string).unwrap_or_default();
            let _ =
                writeln!(out, "  near: {} wanted {} found {} in {} pods of {of}", m.label, m.wanted, m.found, m.pods);
        }
    }
    for i in scene.ingresses.items() {
        let _ = writeln!(
            out,
            "ingress {} class {:?} hosts {:?} -> {:?} address={}",
            i.object, i.class, i.hosts, i.services, i.has_address
        );
    }
    for c in scene.ingress_classes.items() {
        let _ = writeln!(out, "class {}", c.name);
    }
}

fn describe_config(scene: &Scene, out: &mut String) {
    for c in scene.config_maps.items() {
        let _ = writeln!(out, "config {} keys {:?} referenced={}", c.object, c.keys, c.referenced);
    }
    for c in scene.claims.items() {
        let _ = writeln!(out, "claim {} {}", c.object, c.phase);
    }
    for a in scene.autoscalers.items() {
        let _ = writeln!(out, "autoscaler {} {}..{} {}->{}", a.object, a.min, a.max, a.current, a.desired);
    }
    for n in scene.neighbours.items().iter().take(8) {
        let _ = writeln!(out, "neighbour {} {}/{} {:?} {}m", n.object, n.ready, n.wanted, n.rolled_out_at, n.cpu_milli);
    }
}

fn size(evidence: &Evidence) -> String {
    match &evidence.reading {
        Reading::Segments(segments) => format!("{}:{}", evidence.id, segments.len()),
        Reading::Missing(why) => format!("{}:{why}", evidence.id),
    }
}

/// Snapshots stand beside the other tests: no scenario's object is named under `src`.
fn check(name: &str, scene: &Scene) {
    insta::with_settings!({snapshot_path => "../../../tests/snapshots", prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!(format!("scene-{name}"), describe(scene));
    });
}

#[tokio::test]
async fn each_scenarios_scene_holds_what_its_cause_needs() {
    let none: Option<ObjectRef> = None;
    let cases = [
        ("d01-env-var-undefined", none.clone()),
        ("d02-init-command-typo", none.clone()),
        ("d03-configmap-name-mismatch", Some(object(Kind::Deployment, "stock-import", "feed-importer"))),
        ("d04-node-selector-no-match", none.clone()),
        ("d05-no-cpu-left", none.clone()),
        ("d06-node-lost-kubelet", Some(object(Kind::Node, "", "tide-eu-west-w2"))),
        ("d08-service-selector-mismatch", none.clone()),
        ("d09-ingress-class-missing", none.clone()),
        ("d10-job-host-unresolvable", none.clone()),
        ("d11-tls-certificate-expired", none.clone()),
        ("d12-bad-image-rollout", none),
    ];
    for (scenario, named) in cases {
        let world = world(scenario).await;
        let scene = scene_of(&world, named).await;
        check(scenario, &scene);
        let ids: Vec<u32> = scene.evidence.iter().map(|evidence| evidence.id.0).collect();
        assert_eq!(ids, (1..=11).collect::<Vec<_>>(), "{scenario}");
        let text = serde_json::to_string(&scene).unwrap();
        assert_eq!(
            serde_json::from_str::<Scene>(&text).unwrap(),
            scene,
            "{scenario}: the store gives back what it took"
        );
        for canary in canaries(scenario) {
            assert!(!text.contains(&canary), "{scenario}: {canary}");
        }
    }
}

fn canaries(scenario: &str) -> Vec<String> {
    let file = format!("{}/fixtures/scenarios/{scenario}/truth.json", env!("CARGO_MANIFEST_DIR"));
    let truth: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    json::list(&truth, "/must_not_leak").iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_subject_that_is_not_there_is_told_with_names_that_are_near() {
    let world = world("d12-bad-image-rollout").await;
    let scene = scene_of(&world, Some(object(Kind::Deployment, "fleet-op", "dispatch-api"))).await;
    let found = scene.not_found.unwrap();
    assert!(!found.namespace_exists);
    assert_eq!(found.near, [object(Kind::Deployment, "fleet-ops", "dispatch-api")]);
    let scene = scene_of(&world, Some(object(Kind::Deployment, "fleet-ops", "dispatch-apo"))).await;
    assert_eq!(scene.not_found.unwrap().near, [object(Kind::Deployment, "fleet-ops", "dispatch-api")]);
    assert_eq!(scene.evidence.len(), 11);
}

#[tokio::test]
async fn a_namespace_that_is_not_read_itself_is_there_where_it_is_listed_and_unknown_elsewhere() {
    let world = world("d12-bad-image-rollout").await;
    let subject = object(Kind::Deployment, "fleet-ops", "dispatch-apo");
    let mut config = world.cluster.at_hand(tokio_util::sync::CancellationToken::new()).await.unwrap();
    let reader = |config: &kube::Config, namespaces: Vec<Name>| {
        let client = kube::Client::try_from(config.clone()).unwrap();
        Reader::within(client, ClusterName::parse("test").unwrap(), Redactor::default(), Clock::system(), namespaces)
    };
    let narrow = reader(&config, vec![Name::parse("fleet-ops").unwrap()]);
    let found = absent::not_found(&narrow, &subject).await.unwrap();
    assert_eq!(
        (found.namespace_exists, found.near),
        (true, vec![object(Kind::Deployment, "fleet-ops", "dispatch-api")])
    );
    // This account only rehearses: it may read no namespace.
    config.auth_info.token = Some(world.cluster.token_for("firstlook-preview").into());
    let barred = absent::not_found(&reader(&config, Vec::new()), &subject).await;
    assert!(matches!(barred, Err(crate::observe::ReadError::Forbidden(_))), "{barred:?}");
    let last = world.cluster.requests().pop().unwrap();
    assert!(last.path.contains("/namespaces/fleet-ops") && last.status == 403, "nothing is read in it: {last:?}");
}

#[tokio::test]
async fn what_was_not_read_in_time_is_missing_and_says_so() {
    // A server that takes connections and never answers: even no time at all is enough for a quick one.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = kube::Config::new(format!("http://{}", silent.local_addr().unwrap()).parse().unwrap());
    let client = kube::Client::try_from(config).unwrap();
    let reader = Reader::new(client, ClusterName::parse("test").unwrap(), Redactor::default(), Clock::system());
    let subject = object(Kind::Deployment, "fleet-ops", "dispatch-api");
    let scene = read(&reader, &subject, &[], Duration::ZERO).await;
    assert_eq!(scene.pods.missing().unwrap().as_str(), "no answer in time");
    assert!(scene.not_found.is_none() && scene.evidence.len() == 11);
    assert!(scene.evidence.iter().all(|evidence| matches!(evidence.reading, Reading::Missing(_))));
}

#[tokio::test]
async fn the_scene_of_a_service_holds_what_nearly_stands_behind_it_and_what_its_callers_say() {
    let world = world("d08-service-selector-mismatch").await;
    let service = object(Kind::Service, "tracking", "eta");
    let caller = object(Kind::Deployment, "tracking", "route-planner");
    let scene = read(&world.reader, &service, &[caller], LONG).await;
    check("d08-service", &scene);
    assert!(scene.pods.items().iter().all(|pod| pod.ready));
}

/// A Prometheus that answers a query about this counter as one does, and any other with no series.
async fn prometheus(counter: &'static str, failing: bool) -> (crate::observe::Prometheus, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let kept = asked.clone();
    let answer = move |form: axum::Form<Vec<(String, String)>>| async move {
        let query = form.0.iter().find(|(name, _)| name == "query").map(|(_, query)| query.clone()).unwrap();
        let series =
            |share: &str, value: &str| json!({"metric": {"firstlook_share": share}, "value": [1774370400, value]});
        let mut result = Vec::new();
        if query.contains(counter) {
            result.push(series("all", "12.5"));
            result.extend(failing.then(|| series("failed", "5")));
        }
        kept.lock().unwrap().push(query);
        axum::Json(json!({"status": "success", "data": {"resultType": "vector", "result": result}}))
    };
    let router = axum::Router::new().route("/api/v1/query", axum::routing::post(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(crate::http::serve(listener, router, tokio_util::sync::CancellationToken::new()));
    let web = crate::observe::web::WebOptions { url, ..Default::default() };
    let options = crate::observe::prometheus::PrometheusOptions { web, namespace_label: "namespace".into() };
    (crate::observe::Prometheus::new(options, Redactor::default()).unwrap(), asked)
}

#[tokio::test]
async fn what_the_subjects_services_are_sent_is_read_where_it_is_counted_and_unknown_elsewhere() {
    let world = world("d12-bad-image-rollout").await;
    let subject = object(Kind::Deployment, "fleet-ops", "dispatch-api");
    let read = |reader: Reader| {
        let subject = subject.clone();
        async move { read(&reader, &subject, &[], LONG).await }
    };
    assert!(read(world.reader.clone()).await.traffic.missing().is_some(), "no Prometheus is set");
    let (counts, asked) = prometheus("nginx_ingress_controller_requests{exported", true).await;
    let scene = read(world.reader.clone().with_prometheus(Some(counts))).await;
    let traffic = scene.traffic.known().unwrap().as_ref().unwrap();
    assert_eq!((traffic.requests_milli, traffic.failed_milli), (12_500, 5_000));
    let evidence = scene.evidence.iter().find(|evidence| evidence.id == traffic.at.evidence).unwrap();
    assert!(evidence.segments()[traffic.at.segment as usize].holds("=> 12.5"));
    let asked = asked.lock().unwrap().clone();
    assert!(asked.iter().all(|query| query.contains("fleet-ops") && query.contains("dispatch-api")), "{asked:#?}");
    let (well, _) = prometheus("istio_requests_total", false).await;
    let scene = read(world.reader.clone().with_prometheus(Some(well))).await;
    assert_eq!(scene.traffic.known().unwrap().as_ref().unwrap().failed_milli, 0, "no series of failures: none");
    let (other, _) = prometheus("of_nobody", true).await;
    let scene = read(world.reader.clone().with_prometheus(Some(other))).await;
    assert_eq!(scene.traffic.known(), Some(&None), "nobody counts them");
    let network = scene.evidence.iter().find(|evidence| evidence.id == ScenePart::Network.evidence()).unwrap();
    assert!(network.segments().iter().any(|segment| segment.text.as_str().contains("requests it gets is unknown")));
}

/// The simulated Prometheus with these series of node-exporter: name, instance, mount point, value, for ten minutes.
async fn measures(label: &str, series: &[(&str, &str, &str, &str)]) -> crate::observe::Prometheus {
    let one = |(name, whose, mount, value): &(&str, &str, &str, &str)| {
        let values: Vec<_> = (0..10).map(|minute| json!([1_774_370_400 - 60 * minute, value])).rev().collect();
        let mut metric = json!({"__name__": name, "job": "node-exporter"});
        metric[label] = json!(whose);
        if !mount.is_empty() {
            metric["mountpoint"] = json!(mount);
        }
        json!({"metric": metric, "values": values})
    };
    let file = json!({"series": series.iter().map(one).collect::<Vec<_>>()}).to_string().into_bytes();
    let clock = Clock::manual("2026-03-24T16:40:00Z".parse().unwrap());
    let files = [("metrics.json".to_owned(), file)].into();
    let server =
        crate::sim::prometheus::Prometheus::from_files(&files, clock, jiff::SignedDuration::ZERO).unwrap().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(crate::http::serve(listener, server.router(), tokio_util::sync::CancellationToken::new()));
    crate::sim::prometheus::source(address, &Redactor::default()).unwrap().prometheus.unwrap()
}

#[tokio::test]
async fn what_is_measured_of_the_nodes_is_read_by_their_name_or_address_and_only_where_the_size_is_theirs() {
    use crate::model::scene::Figure;
    let world = world("d06-node-lost-kubelet").await;
    let node = ObjectRef::new(Kind::Node, None, "tide-eu-west-w1").unwrap();
    let figures = async |prometheus| {
        let scene = read(&world.reader.clone().with_prometheus(prometheus), &node, &[], LONG).await;
        let text = |figure: &Figure| {
            let evidence = scene.evidence.iter().find(|evidence| evidence.id == figure.at.evidence).unwrap();
            assert!(evidence.segments()[figure.at.segment as usize].holds(figure.sample(figure.most_bytes).as_str()));
            format!("{} {:?} {}", figure.node.name, figure.of, figure.sample(figure.least_bytes))
        };
        scene.figures.known().map(|figures| figures.iter().map(text).collect::<Vec<_>>())
    };
    assert_eq!(figures(None).await, None, "no Prometheus is set");
    // 32778240Ki and 104845292Ki, as the node has them.
    let (memory, disk) = ("33564917760", "107361579008");
    let own = "10.30.0.21:9100";
    let all = [
        ("node_memory_MemAvailable_bytes", own, "", "52428800"),
        ("node_memory_MemTotal_bytes", own, "", memory),
        ("node_filesystem_avail_bytes", own, "/", "9000"),
        ("node_filesystem_size_bytes", own, "/", "53680789504"),
        ("node_filesystem_avail_bytes", own, "/var/lib", "2147483648"),
        ("node_filesystem_size_bytes", own, "/var/lib", disk),
    ];
    let told = [
        r#"tide-eu-west-w1 Memory node_memory_MemAvailable_bytes{instance="10.30.0.21:9100"} => 52428800"#,
        r#"tide-eu-west-w1 Disk node_filesystem_avail_bytes{instance="10.30.0.21:9100",mountpoint="/var/lib"} => 2147483648"#,
    ];
    assert_eq!(figures(Some(measures("instance", &all).await)).await.unwrap(), told);
    let by_name = [
        ("node_memory_MemAvailable_bytes", "tide-eu-west-w1", "", "52428800"),
        ("node_memory_MemTotal_bytes", "tide-eu-west-w1", "", memory),
    ];
    let told = figures(Some(measures("node", &by_name).await)).await.unwrap();
    assert_eq!(told, [r#"tide-eu-west-w1 Memory node_memory_MemAvailable_bytes{node="tide-eu-west-w1"} => 52428800"#]);
    let of_another_cluster = [by_name[0], ("node_memory_MemTotal_bytes", "tide-eu-west-w1", "", "16782458880")];
    assert!(figures(Some(measures("node", &of_another_cluster).await)).await.unwrap().is_empty());
    assert!(
        figures(Some(measures("node", &by_name[..1]).await)).await.unwrap().is_empty(),
        "of a size that is unknown"
    );
    let near = [("node_memory_MemAvailable_bytes", "tide-eu-west-w11", "", "1"), by_name[1]];
    assert!(figures(Some(measures("node", &near).await)).await.unwrap().is_empty());
}
