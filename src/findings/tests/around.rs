//! Stories of nodes, Services, Jobs, certificates and volumes, and of what is not known.

use super::workloads::fires;
use super::*;

#[test]
fn a_lost_node_explains_its_pods_and_no_revision_is_blamed() {
    let mut world = after_a_rollout(0, ("image", "a:1", "a:2"), running());
    world.scene.workload = Part::Known(None);
    world.last_pod().ready = false;
    world.node("n1", false, &[], (4000, 100)).node("n2", true, &[], (4000, 100));
    let report = world.report();
    assert_eq!(report.culprit.as_ref().map(ObjectRef::to_string).as_deref(), Some("Node n1"));
    fires(&world, "other-nodes-ready");
    assert!(report.headline.as_str().contains("stopped posting status"), "{}", report.headline);
    assert!(report.proposals.is_empty() && report.advice.unwrap().as_str().starts_with("Cordon n1"));
}

#[test]
fn a_node_whose_lease_is_overdue_is_silent_though_its_condition_says_ready() {
    let mut world = World::cart(2, 2);
    world.scene.workload = Part::Known(None);
    world.node("n1", true, &[], (4000, 100)).node("n2", true, &[], (4000, 100));
    world.scene.subject = ObjectRef::new(Kind::Node, None, "n1").unwrap();
    assert!(world.causes().is_empty(), "where all are late it is a clock that is wrong");
    let Part::Known(nodes) = &mut world.scene.nodes else { panic!() };
    (nodes[1].lease_renewed_at, nodes[1].lease_written_at) = (Some(now()), Some(now()));
    let report = world.report();
    let headline = report.headline.as_str();
    assert!(headline.starts_with("Node n1 is silent: its kubelet has not renewed its lease since"), "{headline}");
    assert!(report.cause.as_str().contains("condition Ready is still True"), "{}", report.cause);
    assert_eq!(world.causes(), ["lease-not-renewed"], "and not of the other node, about which nobody asked");
    assert!(report.proposals.is_empty());
    let Part::Known(nodes) = &mut world.scene.nodes else { panic!() };
    nodes[0].lease_written_at = Some(now());
    assert_eq!(health(&world.scene), Health::Healthy, "the API server took it just now, whatever its own clock says");
    assert!(world.causes().is_empty());
}

#[test]
fn where_only_the_kubelets_clocks_tell_a_late_lease_is_doubted() {
    let mut world = World::cart(2, 2);
    world.scene.workload = Part::Known(None);
    world.node("n1", true, &[], (4000, 100)).node("n2", true, &[], (4000, 100));
    world.scene.subject = ObjectRef::new(Kind::Node, None, "n1").unwrap();
    let Part::Known(nodes) = &mut world.scene.nodes else { panic!() };
    nodes.iter_mut().for_each(|node| node.lease_written_at = None);
    nodes[1].lease_renewed_at = Some(now());
    let report = world.report();
    assert_eq!(report.certainty, Certainty::Possible);
    assert!(report.cause.as_str().contains("or its clock is behind"), "{}", report.cause);
    assert_eq!(health(&world.scene), Health::Unknown);
}

#[test]
fn a_service_whose_selector_meets_no_pod_is_the_culprit_and_its_victim_is_not() {
    let mut world = World::cart(2, 2);
    world.revision(6, 9000, 0, template()).revision(7, 40, 2, template());
    world.pod("cart-h7-a", 7, 40, running()).pod("cart-h7-b", 7, 40, running());
    let refused = "price lookup: dial tcp prices.shop.svc:80: connect: connection refused";
    world.log("cart-h7-a", &[("listening", 40), (refused, 13)]);
    service(&mut world, true, 0);
    let report = world.report();
    assert_eq!(
        report.headline.as_str(),
        "calls of cart in shop fail, its own 2 pods are ready: Service prices selects track=blue, its pods carry green: no endpoints"
    );
    assert_eq!(report.culprit.as_ref().map(ObjectRef::to_string).as_deref(), Some("Service shop/prices"));
    fires(&world, "service-selects-nothing");
    assert!(report.cause.as_str().contains("gets connection refused since 09:47 UTC"), "{}", report.cause);
    assert!(report.proposals.is_empty());
    assert!(report.ruled_out[0].as_str().contains("revision 7 had run 27 min"), "{:?}", report.ruled_out);
    assert_eq!(severity(&world.scene, now()), Severity::High);
    assert_eq!(health(&world.scene), Health::Healthy, "the victim itself is well");

    service(&mut world, true, 2);
    assert_eq!(world.causes(), ["dependency-unreachable"], "a Service with endpoints is not to blame");
}

#[test]
fn an_ingress_class_that_does_not_exist_is_stated_as_a_fact() {
    let object = named(Kind::Ingress, "front");
    let mut world = World::of(object.clone());
    let at =
        world.stands(ScenePart::Network, Source::Object { object: object.clone() }, r#"{"ingressClassName": "edge"}"#);
    let ingress = Ingress {
        object,
        created_at: ago(14),
        class: Some(r("edge")),
        annotated: None,
        hosts: vec![r("front.example.org")],
        services: vec![r("front")],
        absent: Vec::new(),
        has_address: false,
        at,
    };
    world.scene.ingresses = Part::Known(vec![ingress]);
    world.scene.ingress_classes = Part::Known(vec![IngressClass { name: r("traefik"), default: false, at }]);
    let report = world.report();
    assert_eq!(report.headline.as_str(), "Ingress front in shop is not served: IngressClass edge does not exist");
    fires(&world, "ingress-class");
    assert!(report.cause.as_str().contains("the cluster has only traefik"), "{}", report.cause);
    assert_eq!(severity(&world.scene, now()), Severity::High);

    world.scene.ingress_classes = Part::Missing("forbidden".into());
    assert_eq!(world.causes(), Vec::<String>::new(), "a list that was not read says nothing of absence");
}

#[test]
fn a_failed_job_is_told_by_its_last_words_and_not_by_warnings_that_ended() {
    let job = named(Kind::Job, "import");
    let mut world = World::cart(1, 0);
    world.scene.subject = job.clone();
    world.workload().object = job.clone();
    let failed = |reason: &str| Condition {
        kind: "Failed".into(),
        status: "True".into(),
        reason: r(reason),
        message: "".into(),
        changed_at: Some(ago(19)),
        heartbeat_at: None,
    };
    world.workload().conditions = vec![failed("BackoffLimitExceeded")];
    world.workload().failed = 1;
    let end = crashes("Error", 6).last.unwrap();
    world.pod("import-a", 0, 20, state(State::Terminated(end), None, 0));
    world.last_pod().phase = r("Failed");
    world.log("import-a", &[("curl: (6) Could not resolve host: feeds.partner.example", 20)]);
    let refused = r#"Error creating: pods "import-" is forbidden: error looking up service account shop/import: serviceaccount "import" not found"#;
    world.event(job, "FailedCreate", refused, (22, 21));
    let report = world.report();
    assert!(
        report.headline.as_str().ends_with("host feeds.partner.example could not be resolved"),
        "{}",
        report.headline
    );
    assert!(report.cause.as_str().contains("exit code 6"), "{}", report.cause);
    assert_eq!(world.causes(), ["host-unresolved"]);
    fires(&world, "failed-create-over");
    assert!(report.ruled_out[0].as_str().contains("FailedCreate"), "{:?}", report.ruled_out);
    assert_eq!(severity(&world.scene, now()), Severity::Medium);
}

#[test]
fn an_expired_certificate_is_told_with_the_config_map_that_holds_it_and_never_rolled_back() {
    let mut world = World::cart(1, 0);
    let source = Reference { kind: "ConfigMap".into(), name: r("cart-files"), optional: false, prefix: "".into() };
    let with = Template { volumes: vec![Volume { name: r("files"), source: Some(source) }], ..template() };
    world.revision(6, 90_000, 0, with.clone()).revision(7, 30_000, 0, with);
    world.changed(&[("image", "a:1", "a:2")]);
    world.pod("cart-h7-a", 7, 30_000, crashes("Error", 1));
    world.event(named(Kind::Pod, "cart-h7-a"), "BackOff", "Back-off restarting failed container app", (17, 1));
    world.log("cart-h7-a", &[("Running on 8080", 3), ("TLS error: certificate expired on 2026-05-04 09:40:00", 1)]);
    let object = named(Kind::ConfigMap, "cart-files");
    let at = world.stands(ScenePart::Config, Source::Object { object: object.clone() }, r#"{"name": "cart-files"}"#);
    world.scene.config_maps =
        Part::Known(vec![ConfigMap { object, created_at: ago(90), keys: vec![r("tls.crt")], referenced: true, at }]);
    let report = world.report();
    assert!(
        report.headline.as_str().ends_with("the TLS certificate in ConfigMap cart-files expired on 2026-05-04 09:40"),
        "{}",
        report.headline
    );
    assert!(report.proposals.is_empty());
    assert!(report.cause.as_str().contains("exits with code 1"), "{}", report.cause);
}

#[test]
fn a_crash_that_began_with_a_rollout_is_blamed_on_it_and_one_that_did_not_is_unknown() {
    let mut world = after_a_rollout(3, ("image", "a:1", "a:2"), crashes("Error", 1));
    world.log("cart-h7-a", &[("FATAL: too many connections for role", 1)]);
    let report = world.report();
    assert_eq!((world.causes(), undo(&report)), (vec!["bad-revision".to_owned()], Some(6)));
    assert_eq!(report.certainty, Certainty::Likely);

    world.workload().gitops = Some("Argo CD".into());
    let report = world.report();
    assert!(report.proposals.is_empty() && report.advice.unwrap().as_str().contains("revert the change in Git"));

    // The same crash, but a pod of the new revision is well: the revision is not proved to be at fault.
    world.pod("cart-h7-b", 7, 20, running());
    let report = world.report();
    assert_eq!((report.certainty, report.culprit, report.cause.as_str()), (Certainty::Unknown, None, ""));
    assert!(report.headline.as_str().ends_with("cause unknown"), "{}", report.headline);
}

#[test]
fn what_could_not_be_read_is_said_and_never_counts_as_absence() {
    let mut world = World::cart(2, 0);
    world.scene.pods = Part::Missing("timed out".into());
    world.scene.nodes = Part::Missing("forbidden".into());
    let report = world.report();
    assert_eq!(report.certainty, Certainty::Unknown);
    assert_eq!(report.advice.unwrap().as_str(), "Could not read its pods (timed out) and nodes (forbidden).");
    world.scene.workload = Part::Missing("timed out".into());
    assert_eq!(health(&world.scene), Health::Unknown);
}

#[test]
fn a_healthy_subject_has_no_cause_and_no_severity() {
    let mut world = World::cart(1, 1);
    world.revision(1, 9000, 1, template());
    world.pod("cart-h1-a", 1, 9000, running());
    let report = world.report();
    assert_eq!(report.headline.as_str(), "cart in shop is healthy (1 of 1 pods ready)");
    assert_eq!((health(&world.scene), severity(&world.scene, now())), (Health::Healthy, Severity::None));
    assert!(report.proposals.is_empty() && report.cause.is_empty());
}

#[test]
fn a_name_that_does_not_exist_is_gone_and_nothing_is_concluded() {
    let mut world = World::of(named(Kind::Deployment, "crat"));
    world.scene.not_found = Some(NotFound { namespace_exists: true, near: vec![named(Kind::Deployment, "cart")] });
    assert_eq!(health(&world.scene), Health::Gone);
    assert_eq!(world.report().headline.as_str(), "Deployment crat in shop does not exist");
}

#[test]
fn a_claim_without_a_volume_is_told_with_its_events_words() {
    let mut world = World::cart(1, 0);
    world.revision(1, 30, 0, template());
    world.pod("cart-h1-a", 1, 30, waits("", ""));
    world.last_pod().node = None;
    let message = "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption: none.";
    world.event(named(Kind::Pod, "cart-h1-a"), "FailedScheduling", message, (30, 1));
    let object = named(Kind::PersistentVolumeClaim, "cart-data");
    let at = world.stands(ScenePart::Storage, Source::Object { object: object.clone() }, r#"{"phase": "Pending"}"#);
    world.event(object.clone(), "ProvisioningFailed", r#"storageclass.storage.k8s.io "fast" not found"#, (30, 1));
    world.scene.claims = Part::Known(vec![Claim {
        object,
        phase: r("Pending"),
        uid: "c1".into(),
        storage_class: Some(r("fast")),
        volume: None,
        access_modes: Vec::new(),
        classes: None,
        at,
    }]);
    let report = world.report();
    assert_eq!(world.causes(), ["claim-unbound"]);
    assert!(report.cause.as_str().contains(r#"storageclass.storage.k8s.io "fast" not found"#), "{}", report.cause);
}

#[test]
fn a_missing_config_map_may_be_meant_by_one_that_holds_the_file_that_is_asked_for() {
    let mut world = World::cart(1, 0);
    let mut with = template();
    with.containers[0].args = vec![r("--config"), r("/etc/cart/cart.ini")];
    world.revision(1, 7, 0, with);
    world.pod("cart-h1-a", 1, 7, waits("CreateContainerConfigError", r#"configmap "bobabu" not found"#));
    let map = |name: &str, key: &str, at| ConfigMap {
        object: named(Kind::ConfigMap, name),
        created_at: ago(9),
        keys: vec![r(key)],
        referenced: false,
        at,
    };
    let at = world.stands(ScenePart::Config, Source::Summary, r#"{"name": "zuzuzu"}"#);
    world.scene.config_maps = Part::Known(vec![map("kukuku", "other.ini", at), map("zuzuzu", "cart.ini", at)]);
    let report = world.report();
    assert!(report.headline.as_str().ends_with("ConfigMap bobabu does not exist (zuzuzu does)"), "{}", report.headline);
    assert!(report.cause.as_str().contains("holds cart.ini, which the container's arguments name"), "{}", report.cause);
}

#[test]
fn nothing_ready_behind_an_ingress_is_worse_than_nothing_ready_alone() {
    let mut world = World::cart(2, 0);
    world.revision(6, 9000, 0, template()).revision(7, 40, 0, template());
    world.pod("cart-h7-a", 7, 40, crashes("Error", 1));
    assert_eq!(severity(&world.scene, now()), Severity::High);

    service(&mut world, false, 0);
    let at = world.stands(ScenePart::Network, Source::Object { object: named(Kind::Ingress, "front") }, "{}");
    let Part::Known(services) = &mut world.scene.services else { panic!() };
    services[0].object = named(Kind::Service, "cart");
    services[0].link = ServiceLink::Selects;
    assert_eq!(severity(&world.scene, now()), Severity::High);
    let mut leads_to = |name: &str| {
        let ingress = Ingress {
            object: named(Kind::Ingress, "front"),
            created_at: ago(9000),
            class: Some(r("edge")),
            annotated: None,
            hosts: vec![r("front.example.org")],
            services: vec![r(name)],
            absent: Vec::new(),
            has_address: true,
            at,
        };
        world.scene.ingresses = Part::Known(vec![ingress]);
        crate::findings::weight(&world.scene, now())
    };
    let exposed = leads_to("cart");
    assert_eq!(exposed.severity, Severity::Critical);
    assert_eq!(exposed.why.as_str(), "no endpoint is left behind Ingress shop/front");
    assert_eq!(leads_to("prices").severity, Severity::High, "it leads elsewhere");
}

#[test]
fn requests_that_fail_make_it_high_and_what_is_not_counted_or_too_little_changes_nothing() {
    let with = |traffic: Part<Option<(u64, u64)>>| {
        let mut world = World::cart(2, 2);
        world.revision(7, 9000, 2, template());
        world.pod("cart-h7-a", 7, 9000, running()).pod("cart-h7-b", 7, 9000, running());
        let at = world.stands(ScenePart::Network, Source::Metric { query: "q".into() }, "{} => 12.5");
        let of = |(requests_milli, failed_milli)| Traffic { query: "q".into(), requests_milli, failed_milli, at };
        world.scene.traffic = match traffic {
            Part::Known(traffic) => Part::Known(traffic.map(of)),
            Part::Missing(why) => Part::Missing(why),
        };
        weight(&world.scene, now())
    };
    let failing = with(Part::Known(Some((12_400, 4_700))));
    assert_eq!(
        (failing.severity, failing.why.as_str()),
        (Severity::High, "more than a fifth of the requests to its Services fail")
    );
    for quiet in [Some((12_400, 2_400)), Some((99, 99)), Some((0, 0)), None] {
        assert_eq!(with(Part::Known(quiet)).severity, Severity::None, "{quiet:?}");
    }
    assert_eq!(with(Part::Missing("no answer in time".into())).severity, Severity::None);
}
