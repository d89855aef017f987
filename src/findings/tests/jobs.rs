//! Stories of Jobs and CronJobs: each rule where it fires, and one where it must not.

use super::workloads::{fires, says, silent};
use super::*;

fn job(condition: Option<&str>) -> World {
    let subject = named(Kind::Job, "report-1");
    let mut world = World::cart(1, 0);
    world.scene.subject = subject.clone();
    let job = world.workload();
    (job.object, job.created_at) = (subject, ago(300));
    let condition = condition.map(|kind| Condition {
        kind: r(kind),
        status: "True".into(),
        reason: "Done".into(),
        message: "".into(),
        changed_at: Some(ago(5)),
        heartbeat_at: None,
    });
    job.conditions = condition.into_iter().collect();
    world.pod("cart-h1-a", 1, 300, running());
    world.log("cart-h1-a", &[("waiting for the lock of report-0", 299)]);
    let skipped = "Not starting job because prior execution is running and concurrency policy is Forbid";
    world.event(named(Kind::CronJob, "report"), "JobAlreadyActive", skipped, (240, 10));
    world
}

#[test]
fn a_job_that_does_not_end_is_unhealthy_when_later_runs_wait_for_it() {
    let world = job(None);
    let finding = fires(&world, "job-blocks-schedule");
    says(&finding, &["still runs, 5 h after its start", "4 runs skipped", "waiting for the lock of report-0"]);
    assert!(matches!(health(&world.scene), Health::Unhealthy { .. }));
    assert!(
        world.report().headline.as_str().starts_with("Job report-1 in shop does not end: 4 runs of report skipped")
    );

    let world = job(Some("Complete"));
    silent(&world, "job-blocks-schedule");
    assert_eq!(health(&world.scene), Health::Healthy);
}

#[test]
fn a_job_that_works_or_runs_a_little_late_is_no_fault() {
    let mut world = job(None);
    world.log("cart-h1-a", &[("row 40000 of 90000", 1)]);
    silent(&world, "job-blocks-schedule");
    assert_eq!(health(&world.scene), Health::Healthy);
    world.workload().created_at = ago(800);
    assert_eq!(health(&world.scene), Health::Unknown, "after 13 h nobody can say");
    let headline = world.report().headline;
    assert!(headline.as_str().starts_with("Job report-1 in shop still runs, 13 h after its start"), "{headline}");
}

fn cron_job() -> World {
    let subject = named(Kind::CronJob, "report");
    let mut world = World::cart(0, 0);
    world.scene.subject = subject.clone();
    let cron_job = world.workload();
    (cron_job.object, cron_job.last_scheduled_at, cron_job.last_succeeded_at) =
        (subject, Some(ago(2900)), Some(ago(2890)));
    world
}

#[test]
fn a_suspended_cron_job_is_told_and_never_taken_for_recovered() {
    let mut world = cron_job();
    assert_eq!(health(&world.scene), Health::Healthy);
    silent(&world, "cronjob-suspended");
    world.workload().suspended = true;
    let finding = fires(&world, "cronjob-suspended");
    says(&finding, &["is suspended, so it starts no run", "its last run started", "and completed"]);
    assert_eq!(health(&world.scene), Health::Unknown);
    assert_eq!(world.report().headline.as_str(), "CronJob report in shop does not run: it is suspended");
}

#[test]
fn a_cron_job_whose_last_run_did_not_complete_is_not_called_healthy() {
    let mut world = cron_job();
    world.workload().last_scheduled_at = Some(ago(5));
    assert_eq!(health(&world.scene), Health::Unknown);
    world.event(named(Kind::CronJob, "report"), "TooManyMissedTimes", "too many missed start times (>100)", (50, 1));
    says(&fires(&world, "cronjob-not-started"), &["too many missed start times"]);

    let mut world = cron_job();
    let skipped = "Not starting job because prior execution is running and concurrency policy is Forbid";
    world.event(named(Kind::CronJob, "report"), "JobAlreadyActive", skipped, (240, 10));
    assert_eq!(fires(&world, "cronjob-waits").certainty, Certainty::Likely);
}

/// A Job whose work ended so many minutes ago, with this exit code, while `relay` runs on beside it.
fn lingers(minutes: i64, exit_code: i32, ports: &[u16]) -> World {
    let mut world = World::cart(1, 0);
    let subject = named(Kind::Job, "report-1");
    world.scene.subject = subject.clone();
    let job = world.workload();
    (job.object, job.created_at) = (subject, ago(300));
    let work = Container { ports: Vec::new(), ..container("w:1") };
    let relay = Container { name: "relay".into(), ports: ports.to_vec(), ..container("relay:1") };
    job.template = Template { containers: vec![work, relay], ..template() };
    let end = Terminated {
        reason: "Completed".into(),
        exit_code,
        message: "".into(),
        started_at: Some(ago(299)),
        finished_at: Some(ago(minutes)),
    };
    world.pod("report-1-a", 1, 300, state(State::Terminated(end), None, 0));
    let pod = world.last_pod();
    pod.phase = r("Running");
    pod.containers.push(ContainerState { name: "relay".into(), ..running() });
    world
}

#[test]
fn a_job_whose_work_is_done_and_whose_helper_serves_on_does_not_end() {
    let mut world = lingers(30, 0, &[4191]);
    let found = fires(&world, "job-held-by-sidecar");
    says(
        &found,
        &[
            "Container app of pod report-1-a ended with exit code 0 at 09:30 UTC, but relay runs on",
            "Job report-1 does not",
        ],
    );
    assert_eq!((found.role, found.certainty, found.citations.len()), (Role::Cause, Certainty::Likely, 1));
    assert!(matches!(health(&world.scene), Health::Unhealthy { .. }));
    let headline = world.report().headline;
    assert_eq!(headline.as_str(), "Job report-1 in shop does not end: app has ended well, but relay runs on");

    let skipped = "Not starting job because prior execution is running and concurrency policy is Forbid";
    world.event(named(Kind::CronJob, "report"), "JobAlreadyActive", skipped, (240, 10));
    says(&fires(&world, "job-held-by-sidecar"), &["CronJob shop/report skipped 4 runs meanwhile."]);
    assert_eq!(fires(&world, "job-blocks-schedule").role, Role::Symptom);

    let two_workers = lingers(30, 0, &[]);
    let found = fires(&two_workers, "job-held-by-sidecar");
    assert_eq!((found.role, found.certainty), (Role::Mechanism, Certainty::Possible), "it may be at work");
    assert_eq!(health(&two_workers.scene), Health::Healthy);
}

#[test]
fn a_job_is_not_held_by_a_native_sidecar_a_failure_a_moment_or_once_it_is_over() {
    silent(&lingers(3, 0, &[4191]), "job-held-by-sidecar");
    silent(&lingers(30, 1, &[4191]), "job-held-by-sidecar");
    let mut native = lingers(30, 0, &[4191]);
    native.last_pod().containers[1].init = true;
    silent(&native, "job-held-by-sidecar");
    let mut starting = lingers(30, 0, &[4191]);
    starting.last_pod().containers.push(ContainerState { name: "third".into(), ..waits("ContainerCreating", "") });
    silent(&starting, "job-held-by-sidecar");
    let mut over = lingers(30, 0, &[4191]);
    over.workload().conditions = job(Some("Complete")).workload().conditions.clone();
    silent(&over, "job-held-by-sidecar");
    let mut serves_itself = lingers(30, 0, &[4191]);
    serves_itself.workload().template.containers[0].ports = vec![8080];
    assert_eq!(fires(&serves_itself, "job-held-by-sidecar").role, Role::Mechanism, "neither is known to be the helper");
}
