//! Rules where they must not fire: old news, what went well since, and what only sounds like their fault.

use super::workloads::{fires, silent};
use super::*;

/// One pod that crashes with these last words, six times by now.
fn crashing(lines: &[(&str, i64)]) -> World {
    let mut world = World::cart(1, 0);
    world.revision(7, 9000, 0, template()).pod("cart-h7-a", 7, 60, crashes("Error", 3));
    world.log("cart-h7-a", lines);
    world
}

#[test]
fn what_kept_a_pod_from_starting_is_over_once_its_containers_have_run() {
    let told = [
        ("FailedScheduling", r#"0/3 nodes are available: persistentvolumeclaim "ledger" not found."#, "claim-missing"),
        (
            "FailedAttachVolume",
            r#"Multi-Attach error for volume "pvc-1" Volume is already exclusively attached to one node"#,
            "volume-attach",
        ),
        (
            "FailedMount",
            r#"MountVolume.SetUp failed for volume "conf" : configmap "ledger" not found"#,
            "config-missing",
        ),
    ];
    for (reason, message, rule) in told {
        let mut world = crashing(&[("FATAL ledger is corrupt at page 12", 1)]);
        world.event(named(Kind::Pod, "cart-h7-a"), reason, message, (59, 1));
        silent(&world, rule);
        world.last_pod().containers = vec![waits("ContainerCreating", "")];
        world.last_pod().phase = r("Pending");
        fires(&world, rule);
    }
}

#[test]
fn a_certificate_that_is_said_not_to_have_expired_or_is_not_the_last_word_is_no_likely_cause() {
    silent(
        &crashing(&[("tls: certificate checked, has not expired", 2), ("FATAL no route table", 1)]),
        "certificate-expired",
    );
    silent(&crashing(&[("WARN the certificate is not yet expired, 20 days left", 1)]), "certificate-expired");

    let mounts = Volume {
        name: r("tls"),
        source: Some(Reference { kind: "Secret".into(), name: r("edge-tls"), optional: false, prefix: "".into() }),
    };
    let with = |lines: &[(&str, i64)]| {
        let mut world = crashing(lines);
        world.workload().template.volumes = vec![mounts.clone()];
        let Part::Known(revisions) = &mut world.scene.revisions else { panic!() };
        revisions[0].template.volumes = vec![mounts.clone()];
        world
    };
    let ended = with(&[("FATAL certificate has expired", 1)]);
    assert_eq!(fires(&ended, "certificate-expired").certainty, Certainty::Likely);
    let lived_on = with(&[("WARN certificate has expired, going on", 2), ("FATAL no route table", 1)]);
    assert_eq!(fires(&lived_on, "certificate-expired").certainty, Certainty::Possible);
}

#[test]
fn a_host_that_was_not_found_on_the_way_is_not_why_the_container_ended() {
    let last = crashing(&[("curl: (6) Could not resolve host: feeds.partner.example", 1)]);
    assert_eq!(fires(&last, "host-unresolved").certainty, Certainty::Likely);
    let lived_on = [("WARN Could not resolve host: feeds.partner.example", 2), ("FATAL no route table", 1)];
    assert_eq!(fires(&crashing(&lived_on), "host-unresolved").certainty, Certainty::Possible);
    silent(&crashing(&[("resolved host feeds.partner.example to 192.0.2.7", 1)]), "host-unresolved");
    silent(&crashing(&[("connected to feeds.partner.example:443", 1)]), "dependency-unreachable");
}

#[test]
fn an_end_long_before_the_present_run_is_not_the_trouble_of_now() {
    for (reason, code) in [("OOMKilled", 137), ("Error", 1)] {
        let mut world = World::cart(1, 0);
        let mut end = crashes(reason, code).last.unwrap();
        (end.started_at, end.finished_at) = (Some(ago(7000)), Some(ago(6000)));
        let container =
            ContainerState { ready: false, ..state(State::Running { since: Some(ago(5999)) }, Some(end), 1) };
        world.revision(7, 9000, 0, template()).pod("cart-h7-a", 7, 9000, container);
        for rule in ["oom-killed", "memory-limit", "container-ended"] {
            silent(&world, rule);
        }
    }
}

#[test]
fn a_file_that_a_program_does_not_find_is_no_missing_program() {
    let world = crashing(&[("open /etc/cart/rates.csv: no such file or directory", 1)]);
    silent(&world, "no-such-program");
    silent(&world, "command-not-found");
    let mut failed = crashing(&[("bye", 1)]);
    failed.last_pod().phase = r("Failed");
    failed.last_pod().reason = r("NodeAffinity");
    silent(&failed, "evicted");
}

fn job(name: &str) -> World {
    let object = named(Kind::Job, name);
    let mut world = World::cart(1, 0);
    world.scene.subject = object.clone();
    world.workload().object = object;
    world
}

#[test]
fn a_job_that_runs_has_not_failed_is_not_suspended_and_is_like_no_other() {
    let mut world = job("settle");
    world.pod("settle-a", 0, 20, running());
    world.event(named(Kind::Job, "settle"), "FailedCreate", "Error creating: quota", (15, 10));
    let at = world.stands(ScenePart::Neighbours, Source::Object { object: named(Kind::Job, "archive") }, "{}");
    world.scene.neighbours = Part::Known(vec![Neighbour {
        object: named(Kind::Job, "archive"),
        wanted: 1,
        ready: 0,
        rolled_out_at: None,
        images: Vec::new(),
        cpu_milli: 0,
        at,
    }]);
    // The refusal came after its pod was made: it may hold still.
    for rule in ["job-failed", "job-suspended", "sibling-completed", "failed-create-over"] {
        silent(&world, rule);
    }
}

#[test]
fn jobs_and_what_is_scaled_to_nothing_or_lives_elsewhere_are_no_neighbours_to_compare_with() {
    let mut world = crashing(&[("FATAL no route table", 1)]);
    world.neighbour("idle", 0, 0, 9000, "a:1", 0).neighbour("far", 2, 0, 30, "a:1", 0);
    let Part::Known(neighbours) = &mut world.scene.neighbours else { panic!() };
    neighbours[1].object = ObjectRef::new(Kind::Deployment, Some("stall"), "far").unwrap();
    let mut done = neighbours[0].clone();
    (done.object, done.wanted) = (named(Kind::Job, "done"), 1);
    neighbours.push(done);
    for rule in ["neighbours-ready", "neighbours-suffer", "neighbour-rollout-ruled-out"] {
        silent(&world, rule);
    }
}

#[test]
fn an_ingress_that_some_controller_serves_lacks_no_class() {
    let with = |class: Option<&str>, default: bool, has_address: bool| {
        let object = named(Kind::Ingress, "till");
        let mut world = World::of(object.clone());
        let at = world.stands(ScenePart::Network, Source::Object { object: object.clone() }, "{}");
        world.scene.ingresses = Part::Known(vec![Ingress {
            object,
            created_at: ago(14),
            class: class.map(r),
            annotated: None,
            hosts: vec![r("till.example.org")],
            services: vec![r("prices")],
            absent: Vec::new(),
            has_address,
            at,
        }]);
        world.scene.ingress_classes = Part::Known(vec![IngressClass { name: r("traefik"), default, at }]);
        world
    };
    for world in [with(Some("traefik"), false, false), with(None, true, false), with(None, false, true)] {
        silent(&world, "ingress-class");
    }
    let mut world = with(Some("traefik"), false, true);
    service(&mut world, false, 0);
    silent(&world, "backend-ready");
    let Part::Known(services) = &mut world.scene.services else { panic!() };
    (services[0].pods_selected, services[0].ready_endpoints) = (2, 1);
    silent(&world, "service-not-ready");
    fires(&world, "backend-ready");
}

#[test]
fn a_lost_node_on_which_nothing_of_it_stands_is_not_its_trouble() {
    let mut world = crashing(&[("FATAL no route table", 1)]);
    world.node("n1", true, &[], (4000, 100)).node("n2", false, &[], (4000, 100)).node("n3", false, &[], (4000, 100));
    for rule in ["node-not-ready", "node-loss-hurts", "workloads-ruled-out", "other-nodes-ready", "lease-not-renewed"] {
        silent(&world, rule);
    }
    world.last_pod().node = Some(r("n2"));
    fires(&world, "node-not-ready");
    silent(&world, "workloads-ruled-out");
    silent(&world, "other-nodes-ready");
}

#[test]
fn refusals_that_ended_before_the_newest_pod_was_made_are_over() {
    let quota = r#"Error creating: pods "cart-x" is forbidden: exceeded quota: small, requested: pods=1, used: pods=4, limited: pods=4"#;
    let range = r#"Error creating: pods "cart-x" is forbidden: minimum memory usage per Container is 64Mi, but request is 32Mi"#;
    let denied = r#"Error creating: admission webhook "labels.example" denied the request: no owner"#;
    let unreached = r#"Error creating: Internal error occurred: failed calling webhook "labels.example": failed to call webhook: Post "https://labels.shop.svc:443/?timeout=10s": no endpoints available for service "labels""#;
    let told =
        [("quota", quota), ("limit-range", range), ("admission-denied", denied), ("webhook-unreachable", unreached)];
    for (rule, message) in told {
        let with = |last: i64| {
            let mut world = World::cart(2, 1);
            world.revision(7, 9000, 1, template()).pod("cart-h7-a", 7, 30, running());
            let of = world.scene.revisions.items()[0].object.clone();
            world.event(of, "FailedCreate", message, (90, last));
            world
        };
        silent(&with(40), rule);
        fires(&with(1), rule);
    }
}

#[test]
fn a_rollout_that_goes_well_and_trouble_that_the_old_pods_share_blame_no_revision() {
    let mut world = World::cart(2, 2);
    world.revision(6, 9000, 1, template()).revision(7, 5, 1, template());
    world.changed(&[("image", "a:1", "a:2")]);
    world.pod("cart-h6-a", 6, 9000, running()).pod("cart-h7-a", 7, 5, running());
    let condition = Condition {
        kind: "Progressing".into(),
        status: "True".into(),
        reason: "ReplicaSetUpdated".into(),
        message: "".into(),
        changed_at: Some(ago(5)),
        heartbeat_at: None,
    };
    world.workload().conditions = vec![condition];
    for rule in ["revision-change", "bad-revision", "revision-ruled-out", "rollout-stuck"] {
        silent(&world, rule);
    }
    let mut both = World::cart(2, 0);
    both.revision(6, 9000, 0, template()).revision(7, 5, 0, template());
    both.changed(&[("image", "a:1", "a:2")]);
    both.pod("cart-h6-a", 6, 9000, crashes("Error", 1)).pod("cart-h7-a", 7, 5, crashes("Error", 1));
    silent(&both, "revision-change");
    silent(&both, "bad-revision");
}

#[test]
fn a_claim_that_waits_for_its_first_pod_lacks_nothing() {
    let object = named(Kind::PersistentVolumeClaim, "ledger");
    let mut world = World::of(object.clone());
    let at = world.stands(ScenePart::Storage, Source::Object { object: object.clone() }, r#"{"phase": "Pending"}"#);
    world.scene.claims = Part::Known(vec![Claim {
        object: object.clone(),
        phase: "Pending".into(),
        uid: "c1".into(),
        storage_class: Some(r("fast")),
        volume: None,
        access_modes: vec![r("ReadWriteOnce")],
        classes: Some(vec![r("fast")]),
        at,
    }]);
    world.event(object, "WaitForFirstConsumer", "waiting for first consumer to be created before binding", (9, 1));
    let Part::Known(events) = &mut world.scene.events else { panic!() };
    events[0].warning = false;
    silent(&world, "claim-unbound");
}

#[test]
fn an_edit_that_came_after_the_trouble_or_is_of_another_object_is_not_behind_it() {
    let message = r#"Error creating: pods "cart-x" is forbidden: exceeded quota: small, requested: pods=1, used: pods=4, limited: pods=4"#;
    let with = |quota: &str, minutes: i64| {
        let mut world = World::cart(2, 1);
        world.revision(7, 9000, 1, template()).pod("cart-h7-a", 7, 3000, running());
        let of = world.scene.revisions.items()[0].object.clone();
        world.event(of, "FailedCreate", message, (90, 1));
        let object = named(Kind::ResourceQuota, quota);
        let at = world.stands(ScenePart::Changes, Source::Object { object: object.clone() }, "hard pods: 10 -> 4");
        let line = DiffLine { container: None, field: r("hard pods"), before: Some(r("10")), after: Some(r("4")) };
        world.scene.changes = Part::Known(vec![Change {
            object,
            changed_at: ago(minutes),
            by: None,
            from_revision: None,
            to_revision: None,
            lines: vec![line],
            at,
        }]);
        world
    };
    fires(&with("small", 95), "edit-behind");
    silent(&with("small", 20), "edit-behind");
    silent(&with("smaller", 95), "edit-behind");
}

#[test]
fn a_job_that_ran_into_its_deadline_names_it_and_one_that_failed_otherwise_does_not() {
    let with = |reason: &'static str| {
        let mut world = job("settle");
        let object = world.scene.subject.clone();
        let at = world.stands(ScenePart::Subject, Source::Object { object }, r#"{"activeDeadlineSeconds": 900}"#);
        let job = world.workload();
        (job.deadline_seconds, job.failed, job.at) = (Some(900), 1, at);
        job.conditions = vec![Condition {
            kind: "Failed".into(),
            status: "True".into(),
            reason: reason.into(),
            message: "".into(),
            changed_at: Some(ago(19)),
            heartbeat_at: None,
        }];
        world
    };
    let late = with("DeadlineExceeded");
    let report = late.report();
    assert!(
        report.headline.as_str().ends_with("it ran longer than its deadline of 900 s allows"),
        "{}",
        report.headline
    );
    assert!(report.citations.iter().any(|c| c.quote.as_str() == "\"activeDeadlineSeconds\": 900"));
    let failed = fires(&with("BackoffLimitExceeded"), "job-failed");
    assert!(failed.role == Role::Symptom && !failed.says.as_str().contains("900"), "{}", failed.says);
}

#[test]
fn a_cron_job_whose_start_may_not_wait_ten_seconds_may_never_start() {
    let with = |deadline: Option<i64>| {
        let object = named(Kind::CronJob, "tally");
        let mut world = World::cart(0, 0);
        world.scene.subject = object.clone();
        let job = world.workload();
        (job.object, job.deadline_seconds) = (object, deadline);
        (job.last_scheduled_at, job.last_succeeded_at) = (Some(ago(3000)), Some(ago(2990)));
        world
    };
    let hasty = with(Some(3));
    assert_eq!(fires(&hasty, "cronjob-hasty").certainty, Certainty::Possible);
    assert_eq!(health(&hasty.scene), Health::Unknown);
    for deadline in [None, Some(10), Some(200)] {
        let world = with(deadline);
        silent(&world, "cronjob-hasty");
        assert_eq!(health(&world.scene), Health::Healthy);
    }
    let mut suspended = with(Some(3));
    suspended.workload().suspended = true;
    silent(&suspended, "cronjob-hasty");
}
