//! Stories of nodes that are short of something, and of pods that only stand there.

use super::workloads::{fires, says, silent};
use super::*;

const LOW: &str = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 80Mi. ";

/// The node `n1` as a subject, with memory pressure for so many minutes, beside a well one.
fn short(minutes: i64) -> World {
    let mut world = World::of(ObjectRef::new(Kind::Node, None, "n1").unwrap());
    world.node("n1", true, &[], (4000, 100)).node("n2", true, &[], (4000, 100));
    let Part::Known(nodes) = &mut world.scene.nodes else { panic!() };
    let condition = Condition {
        kind: "MemoryPressure".into(),
        status: "True".into(),
        reason: "KubeletHasInsufficientMemory".into(),
        message: "kubelet has insufficient memory available".into(),
        changed_at: Some(ago(minutes)),
        heartbeat_at: None,
    };
    nodes[0].conditions.push(condition);
    world
}

/// A pod of this Deployment that `n1` put out so many minutes ago, with what the kubelet says that it used.
fn put_out(world: &mut World, owner: &str, used: &str, minutes: i64) {
    let end = crashes("Error", 137).last.unwrap();
    world.pod(&format!("{owner}-{minutes}"), 7, 900, state(State::Terminated(end), None, 0));
    let message = format!("{LOW}Container app was using {used}, request is 0, has larger consumption of memory. ");
    let object = world.last_pod().object.clone();
    let at = world.stands(ScenePart::Pods, Source::Object { object }, &message);
    let pod = world.last_pod();
    (pod.phase, pod.reason, pod.message, pod.at) = (r("Failed"), r("Evicted"), r(&message), at);
    pod.owner = Some(named(Kind::Deployment, owner));
    pod.conditions = vec![Condition {
        kind: "DisruptionTarget".into(),
        status: "True".into(),
        reason: "TerminationByKubelet".into(),
        message: r(&message),
        changed_at: Some(ago(minutes)),
        heartbeat_at: None,
    }];
}

#[test]
fn a_node_that_put_pods_out_names_its_shortage_whom_it_hurt_and_who_used_the_most() {
    let mut world = short(20);
    put_out(&mut world, "search", "28Ki", 19);
    put_out(&mut world, "report", "3Gi", 18);
    world.neighbour("search", 2, 0, 9000, "s:1", 0);
    let report = world.report();
    assert_eq!(
        report.headline.as_str(),
        "Node n1 is under pressure: MemoryPressure since 09:40 UTC, 2 pods were evicted"
    );
    let cause = report.cause.as_str();
    for part in ["Deployment shop/report and Deployment shop/search", "no pod is left ready of Deployment shop/search"]
    {
        assert!(cause.contains(part), "{part}: {cause}");
    }
    fires(&world, "node-loss-hurts");
    says(&fires(&world, "evicted-largest"), &["the one of Deployment shop/report used the most, 3Gi"]);
    assert_eq!(
        (report.culprit.map(|node| node.to_string()).as_deref(), report.certainty),
        (Some("Node n1"), Certainty::Proved)
    );
    assert!(report.proposals.is_empty());
    assert_eq!(severity(&world.scene, now()), Severity::High, "nothing is left of one of them");
}

#[test]
fn what_a_node_put_out_in_an_earlier_shortage_is_not_counted() {
    let mut world = short(20);
    put_out(&mut world, "search", "28Ki", 300);
    put_out(&mut world, "report", "3Gi", 301);
    let report = world.report();
    assert!(report.headline.as_str().ends_with("it reports MemoryPressure since 09:40 UTC"), "{}", report.headline);
    silent(&world, "evicted-largest");
    silent(&world, "node-loss-hurts");
}

#[test]
fn one_evicted_pod_is_not_compared_with_others() {
    let mut world = short(20);
    put_out(&mut world, "search", "28Ki", 19);
    silent(&world, "evicted-largest");
}

#[test]
fn a_pod_that_crashes_on_a_node_under_pressure_is_not_the_nodes() {
    let mut world = World::cart(1, 0);
    world.revision(7, 9000, 0, template()).pod("cart-h7-a", 7, 9000, crashes("Error", 3));
    world.log("cart-h7-a", &[("FATAL no route table for region eu", 1)]);
    world.scene.nodes = short(20).scene.nodes;
    for node in world.scene.nodes.items() {
        assert_eq!(node.at.evidence, ScenePart::Nodes.evidence());
    }
    let found = fires(&world, "node-pressure");
    assert_eq!(found.certainty, Certainty::Possible, "two things may be the matter");
    world.last_pod().ready = true;
    silent(&world, "node-pressure");
}

/// The node `n1` as a subject, ready, with this condition since so many minutes ago, beside a well one.
fn denies(kind: &'static str, minutes: i64) -> World {
    let mut world = short(minutes);
    let Part::Known(nodes) = &mut world.scene.nodes else { panic!() };
    let condition = nodes[0].conditions.last_mut().unwrap();
    (condition.kind, condition.status, condition.reason) = (r(kind), r("False"), r("KubeletIsFine"));
    world
}

fn node() -> ObjectRef {
    ObjectRef::new(Kind::Node, None, "n1").unwrap()
}

#[test]
fn a_node_that_denies_a_shortage_on_which_its_kubelet_acted_is_contradicted() {
    let mut world = denies("MemoryPressure", 900);
    put_out(&mut world, "search", "28Ki", 19);
    let found = fires(&world, "node-contradicted");
    says(
        &found,
        &["Node n1 reports MemoryPressure False since", "1 pod was evicted from it all the same: \"The node was low"],
    );
    assert_eq!((found.certainty, found.citations.len()), (Certainty::Likely, 1));
    let report = world.report();
    assert_eq!(report.culprit.map(|node| node.to_string()).as_deref(), Some("Node n1"));

    let mut killed = denies("MemoryPressure", 900);
    killed.event(node(), "SystemOOM", "System OOM encountered, victim process: java, pid: 4711", (19, 9));
    says(&fires(&killed, "node-contradicted"), &["its kubelet reports SystemOOM (09:51 UTC: \"System OOM encountered"]);
    let mut full = denies("DiskPressure", 900);
    full.event(node(), "EvictionThresholdMet", "Attempting to reclaim ephemeral-storage", (19, 9));
    fires(&full, "node-contradicted");

    let mut victim = World::cart(2, 1);
    victim.revision(7, 9000, 1, template());
    victim.scene.nodes = denies("MemoryPressure", 900).scene.nodes;
    put_out(&mut victim, "cart", "28Ki", 19);
    assert_eq!(fires(&victim, "node-contradicted").about, node());
    victim.workload().ready = 2;
    silent(&victim, "node-contradicted");
}

#[test]
fn a_shortage_that_is_over_that_is_not_written_yet_or_that_is_of_something_else_contradicts_no_node() {
    for (since, out) in [(15, 19), (900, 0), (900, 90)] {
        let mut world = denies("MemoryPressure", since);
        put_out(&mut world, "search", "28Ki", out);
        silent(&world, "node-contradicted");
    }
    let mut other = denies("DiskPressure", 900);
    put_out(&mut other, "search", "28Ki", 19);
    other.event(node(), "SystemOOM", "System OOM encountered, victim process: java, pid: 4711", (19, 9));
    other.event(node(), "EvictionThresholdMet", "Attempting to reclaim memory", (19, 9));
    silent(&other, "node-contradicted");
    let mut elsewhere = denies("MemoryPressure", 900);
    elsewhere.event(ObjectRef::new(Kind::Node, None, "n2").unwrap(), "SystemOOM", "System OOM encountered", (19, 9));
    silent(&elsewhere, "node-contradicted");
    let mut said = short(20);
    put_out(&mut said, "search", "28Ki", 19);
    silent(&said, "node-contradicted");
}

#[test]
fn a_ready_node_on_which_pods_of_several_workloads_are_not_begun_is_contradicted_and_one_pod_is_its_own_matter() {
    let refuses = |owners: &[&str]| {
        let mut world = denies("MemoryPressure", 900);
        for owner in owners {
            let name = format!("{owner}-a");
            world.pod(&name, 7, 30, waits("ContainerCreating", ""));
            world.last_pod().owner = Some(named(Kind::Deployment, owner));
            let message =
                "Failed to create pod sandbox: rpc error: code = DeadlineExceeded desc = context deadline exceeded";
            world.event(named(Kind::Pod, &name), "FailedCreatePodSandBox", message, (29, 1));
        }
        world
    };
    let found = fires(&refuses(&["search", "report"]), "node-contradicted");
    says(&found, &["Node n1 reports Ready True", "pods of 2 workloads cannot be begun on it", "DeadlineExceeded"]);
    silent(&refuses(&["search"]), "node-contradicted");
    silent(&refuses(&["search", "search"]), "node-contradicted");
}

/// What an exporter measured of `n1`: the least and the most that was available, in MiB, of so many.
fn measured(world: &mut World, of: Measured, (least, most, total): (i64, i64, i64)) {
    let figure = Figure {
        node: node(),
        of,
        series: r(r#"node_of_n1_bytes{instance="n1"}"#),
        least_bytes: least << 20,
        most_bytes: most << 20,
        total_bytes: total << 20,
        at: At { evidence: ScenePart::Nodes.evidence(), segment: 0 },
    };
    let text = format!("{}\n{}", figure.sample(figure.least_bytes), figure.sample(figure.most_bytes));
    let at = world.stands(ScenePart::Nodes, Source::Metric { query: r("q") }, &text);
    let Part::Known(figures) = &mut world.scene.figures else { panic!() };
    figures.push(Figure { at, ..figure });
}

#[test]
fn a_node_that_denies_a_shortage_that_is_measured_all_along_is_contradicted() {
    let mut world = denies("MemoryPressure", 900);
    measured(&mut world, Measured::Memory, (50, 60, 16_000));
    let found = fires(&world, "node-contradicted");
    says(
        &found,
        &["reports MemoryPressure False since", "at most 60Mi of its 15Gi memory was available by its exporter"],
    );
    assert_eq!((found.certainty, found.citations.len()), (Certainty::Likely, 1));
    assert_eq!(found.citations[0].quote.as_str(), r#"node_of_n1_bytes{instance="n1"} => 62914560"#);
    let mut disk = denies("DiskPressure", 900);
    measured(&mut disk, Measured::Disk, (2000, 2100, 100_000));
    says(&fires(&disk, "node-contradicted"), &["at most 2% of the file system of its pods (2Gi of 97Gi)"]);

    let mut of_pod = World::cart(2, 1);
    of_pod.revision(7, 9000, 1, template()).pod("cart-h7-a", 7, 9000, ContainerState { ready: false, ..running() });
    of_pod.scene.nodes = world.scene.nodes.clone();
    measured(&mut of_pod, Measured::Memory, (50, 60, 16_000));
    assert_eq!(fires(&of_pod, "node-contradicted").certainty, Certainty::Possible, "the pod may have another trouble");
    of_pod.last_pod().ready = true;
    silent(&of_pod, "node-contradicted");
}

#[test]
fn a_figure_of_a_moment_of_another_node_or_of_another_thing_contradicts_no_node_and_none_is_no_figure() {
    let with = |kind: &'static str, minutes, of, figures| {
        let mut world = denies(kind, minutes);
        measured(&mut world, of, figures);
        world
    };
    silent(&with("MemoryPressure", 900, Measured::Memory, (50, 160, 16_000)), "node-contradicted");
    silent(&with("MemoryPressure", 3, Measured::Memory, (50, 60, 16_000)), "node-contradicted");
    silent(&with("MemoryPressure", 900, Measured::Disk, (50, 60, 16_000)), "node-contradicted");
    silent(&with("DiskPressure", 900, Measured::Disk, (7000, 8000, 100_000)), "node-contradicted");
    let mut other = with("MemoryPressure", 900, Measured::Memory, (50, 60, 16_000));
    let Part::Known(figures) = &mut other.scene.figures else { panic!() };
    figures[0].node = ObjectRef::new(Kind::Node, None, "n2").unwrap();
    silent(&other, "node-contradicted");
    let mut unknown = denies("MemoryPressure", 900);
    unknown.scene.figures = Part::Missing(r("no Prometheus is set"));
    silent(&unknown, "node-contradicted");
}

#[test]
fn plenty_that_is_measured_on_a_node_under_pressure_is_told_beside_it_and_blames_nobody() {
    let with = |minutes, figures| {
        let mut world = short(minutes);
        measured(&mut world, Measured::Memory, figures);
        world
    };
    let world = with(20, (9000, 9100, 16_000));
    let found = fires(&world, "pressure-not-measured");
    says(&found, &["reports MemoryPressure since 09:40 UTC, yet", "at least 8Gi of its 15Gi memory was available"]);
    assert_eq!((found.role, found.citations.len()), (Role::Context, 1));
    assert_eq!(fires(&world, "node-pressure").certainty, Certainty::Proved);
    silent(&with(20, (3000, 9100, 16_000)), "pressure-not-measured");
    silent(&with(3, (9000, 9100, 16_000)), "pressure-not-measured");
    let mut denied = denies("MemoryPressure", 900);
    measured(&mut denied, Measured::Memory, (9000, 9100, 16_000));
    silent(&denied, "pressure-not-measured");
}
