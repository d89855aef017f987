//! Rules where they must not fire: what looks like their fault and is none.

use super::workloads::{fires, says, silent};
use super::*;

fn cron_job() -> World {
    let subject = named(Kind::CronJob, "rollup");
    let mut world = World::cart(0, 0);
    world.scene.subject = subject.clone();
    let cron_job = world.workload();
    (cron_job.object, cron_job.last_scheduled_at, cron_job.last_succeeded_at) = (subject, Some(ago(60)), Some(ago(55)));
    world
}

#[test]
fn a_run_that_makes_one_or_two_others_wait_and_another_cron_jobs_events_are_no_fault() {
    let skipped = "Not starting job because prior execution is running and concurrency policy is Forbid";
    let mut world = cron_job();
    world.event(named(Kind::CronJob, "rollup"), "JobAlreadyActive", skipped, (20, 10));
    let Part::Known(events) = &mut world.scene.events else { panic!() };
    events[0].count = 2;
    silent(&world, "cronjob-waits");

    let mut world = cron_job();
    world.event(named(Kind::CronJob, "rollup-eu"), "JobAlreadyActive", skipped, (240, 10));
    world.event(named(Kind::CronJob, "rollup-eu"), "TooManyMissedTimes", "too many missed start times (>100)", (50, 1));
    silent(&world, "cronjob-waits");
    silent(&world, "cronjob-not-started");
}

#[test]
fn a_cron_job_that_starts_its_runs_is_not_said_to_start_none() {
    let mut world = cron_job();
    world.event(named(Kind::CronJob, "rollup"), "FailedCreate", "Error creating job: jobs.batch is forbidden", (50, 1));
    world.event(
        named(Kind::CronJob, "rollup"),
        "UnexpectedJob",
        "Saw a job that the controller did not create",
        (50, 1),
    );
    silent(&world, "cronjob-not-started");
    silent(&world, "cronjob-suspended");
}

#[test]
fn probes_that_failed_while_a_pod_that_is_ready_now_started_are_no_cause() {
    let failed = "Readiness probe failed: HTTP probe failed with statuscode: 503";
    let mut world = World::cart(1, 1);
    world.revision(7, 30, 1, template()).pod("cart-h7-a", 7, 30, running());
    world.event(named(Kind::Pod, "cart-h7-a"), "Unhealthy", failed, (29, 28));
    silent(&world, "probe-fails");
    assert!(world.causes().is_empty(), "{:?}", world.causes());

    // It does not answer, but why it does not is its log's to say.
    let mut world = World::cart(1, 0);
    world.revision(7, 9000, 0, template()).pod("cart-h7-a", 7, 9000, ContainerState { ready: false, ..running() });
    world.event(named(Kind::Pod, "cart-h7-a"), "Unhealthy", failed, (20, 1));
    assert_eq!(fires(&world, "probe-fails").role, Role::Mechanism);
}

/// A pod without a node, and why in the scheduler's words.
fn waiting(message: &str) -> World {
    let mut world = World::cart(1, 0);
    world.revision(7, 9000, 0, template()).pod("cart-h7-a", 7, 20, waits("ContainerCreating", ""));
    let pod = world.last_pod();
    (pod.node, pod.phase) = (None, r("Pending"));
    let object = pod.object.clone();
    world.event(object, "FailedScheduling", message, (19, 1));
    world
}

#[test]
fn a_spread_that_no_node_meets_blames_no_taint_no_selector_and_no_lack_of_room() {
    let world = waiting(
        "0/3 nodes are available: 3 node(s) didn't match pod topology spread constraints. preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod.",
    );
    for rule in ["nodes-closed", "fitting-nodes-closed", "node-selector", "resources"] {
        silent(&world, rule);
    }
    fires(&world, "unschedulable");

    let world = waiting("0/3 nodes are available: 3 Insufficient cpu. preemption: none");
    silent(&world, "unschedulable");
    fires(&world, "resources");
}

#[test]
fn a_network_that_is_there_or_hurts_nobody_is_no_pressure() {
    let with = |status: &'static str, ready: bool| {
        let mut world = World::cart(1, u32::from(ready));
        world.revision(7, 9000, u32::from(ready), template());
        world.pod("cart-h7-a", 7, 9000, ContainerState { ready, ..running() });
        world.node("n1", true, &[], (4000, 100));
        let Part::Known(nodes) = &mut world.scene.nodes else { panic!() };
        let condition =
            Condition { kind: "NetworkUnavailable".into(), status: status.into(), ..nodes[0].conditions[0].clone() };
        nodes[0].conditions.push(condition);
        world
    };
    silent(&with("False", false), "node-pressure");
    silent(&with("Unknown", false), "node-pressure");
    silent(&with("True", true), "node-pressure");
}

/// A pod of `shop/cart` that the kubelet of `n1` did not take so many minutes ago.
fn refused(reason: &str, message: &str, minutes: i64) -> World {
    let mut world = World::cart(2, 1);
    world.pod("cart-2", 7, minutes, state(State::Unknown, None, 0));
    let object = world.last_pod().object.clone();
    let at = world.stands(ScenePart::Pods, Source::Object { object }, message);
    let pod = world.last_pod();
    (pod.phase, pod.reason, pod.message, pod.at) = (r("Failed"), r(reason), r(message), at);
    world
}

#[test]
fn what_a_kubelet_does_not_take_is_named_and_what_it_evicts_or_refused_long_ago_is_not_that() {
    const SAID: &str =
        "Allocate failed due to no healthy devices present; cannot allocate unhealthy devices, which is unexpected";
    let found = fires(&refused("UnexpectedAdmissionError", SAID, 5), "kubelet-refuses");
    says(&found, &["1 pod was not taken by the kubelet", "node n1", "no healthy devices present"]);
    assert!(found.advice.is_some_and(|advice| advice.as_str().contains("device plugins")));
    silent(&refused("UnexpectedAdmissionError", SAID, 300), "kubelet-refuses");
    silent(&refused("Evicted", "The node was low on resource: memory. ", 5), "kubelet-refuses");
}
