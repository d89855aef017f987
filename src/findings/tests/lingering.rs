//! Stories of what does not come or go as it should: pods that stay, and specs that no controller looks at.

use super::workloads::{fires, says, silent};
use super::*;

/// A StatefulSet's pod on the ready node `n1` that should have been gone so many minutes ago.
fn stays(minutes: i64, container: ContainerState, finalizers: &[&str]) -> World {
    let mut world = World::cart(2, 1);
    let subject = named(Kind::StatefulSet, "cart");
    world.scene.subject = subject.clone();
    world.workload().object = subject;
    world.node("n1", true, &[], (4000, 100)).pod("cart-0", 1, 9000, container);
    let at = ago(minutes);
    let text = format!(r#"{{"deletionTimestamp": "{at}", "finalizers": ["{}"]}}"#, finalizers.join(r#"", ""#));
    let place = world.stands(ScenePart::Pods, Source::Object { object: named(Kind::Pod, "cart-0") }, &text);
    let pod = world.last_pod();
    (pod.deleting, pod.ends_at, pod.at) = (true, Some(at), place);
    pod.finalizers = finalizers.iter().map(|name| r(name)).collect();
    world
}

fn ended() -> ContainerState {
    let end = crashes("Completed", 0).last.unwrap();
    state(State::Terminated(end), None, 0)
}

#[test]
fn a_pod_that_a_finalizer_keeps_is_told_with_it_and_that_nothing_comes_in_its_place() {
    let world = stays(20, ended(), &["example.com/release-address"]);
    let found = fires(&world, "pod-not-gone");
    says(
        &found,
        &[
            "Pod cart-0 should be gone since 09:40 UTC: its containers have ended, but its finalizer example.com/release-address",
            "No pod is made in its place before it is gone.",
        ],
    );
    assert_eq!((found.role, found.certainty, found.citations.len()), (Role::Cause, Certainty::Proved, 2));
    let mut deployment = stays(20, ended(), &["example.com/release-address"]);
    deployment.workload().object = named(Kind::Deployment, "cart");
    assert_eq!(fires(&deployment, "pod-not-gone").role, Role::Context, "its ReplicaSet has made another");
    silent(&stays(1, ended(), &["example.com/release-address"]), "pod-not-gone");
    silent(&stays(20, ended(), &[]), "pod-not-gone");
}

#[test]
fn a_pod_that_its_kubelet_does_not_end_is_told_and_that_of_a_lost_node_is_the_nodes_matter() {
    let mut world = stays(20, running(), &[]);
    assert_eq!(fires(&world, "pod-not-gone").certainty, Certainty::Possible);
    world.event(named(Kind::Pod, "cart-0"), "FailedKillPod", "error killing pod: context deadline exceeded", (19, 1));
    let found = fires(&world, "pod-not-gone");
    says(&found, &["its kubelet has not ended its containers (\"error killing pod: context deadline exceeded\")"]);
    assert_eq!(found.certainty, Certainty::Likely);
    let Part::Known(nodes) = &mut world.scene.nodes else { panic!() };
    nodes[0].ready = None;
    silent(&world, "pod-not-gone");
    world.scene.nodes = Part::Missing(r("forbidden"));
    silent(&world, "pod-not-gone");
}

#[test]
fn a_spec_that_no_controller_has_seen_is_told_after_a_while_and_not_where_nobody_counts() {
    let unseen = |minutes: Option<i64>, (generation, observed): (i64, i64)| {
        let mut world = World::cart(1, 1);
        world.revision(1, 9000, 1, template()).pod("cart-h1-a", 1, 9000, running());
        let text = format!(r#"{{"generation": {generation}, "observedGeneration": {observed}}}"#);
        let object = world.scene.subject.clone();
        let at = world.stands(ScenePart::Subject, Source::Object { object }, &text);
        let workload = world.workload();
        (workload.generation, workload.observed_generation, workload.at) = (generation, observed, at);
        workload.written_at = minutes.map(ago);
        world
    };
    let world = unseen(Some(20), (8, 7));
    let found = fires(&world, "spec-not-observed");
    says(&found, &["was written at 09:40 UTC (generation 8), and 20 min later", "no newer one than generation 7"]);
    assert_eq!(found.citations.len(), 2);
    let headline = world.report().headline;
    assert!(headline.as_str().ends_with("its controller has not seen its spec of 09:40 UTC"), "{headline}");
    for (minutes, generations) in [(Some(2), (8, 7)), (Some(20), (8, 8)), (None, (8, 7))] {
        silent(&unseen(minutes, generations), "spec-not-observed");
    }
    let mut first = unseen(Some(20), (1, 0));
    says(&fires(&first, "spec-not-observed"), &["its controller has seen none yet"]);
    first.workload().object = named(Kind::Job, "cart");
    silent(&first, "spec-not-observed");
}
