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
