//! States of a cluster in which the nearest reading is wrong: nothing is said with certainty that is not so.

use super::workloads::{fires, says, silent};
use super::*;

pub(super) fn condition(kind: &str, status: &str, minutes: i64) -> Condition {
    Condition {
        kind: r(kind),
        status: r(status),
        reason: "MinimumReplicasUnavailable".into(),
        message: "".into(),
        changed_at: Some(ago(minutes)),
        heartbeat_at: None,
    }
}

fn with_image(image: &str) -> Template {
    Template { containers: vec![container(image)], ..template() }
}

/// What this revision changed against the one before it.
fn changed_by(world: &mut World, number: i64, minutes: i64, lines: &[(&str, &str, &str)]) {
    world.changed(lines);
    let Part::Known(changes) = &mut world.scene.changes else { panic!() };
    let change = changes.last_mut().unwrap();
    (change.from_revision, change.to_revision, change.changed_at) = (Some(number - 1), Some(number), ago(minutes));
    changes.sort_by_key(|change| std::cmp::Reverse(change.to_revision));
}

/// Revision 6 ran for days; 7 came 25 minutes ago, 8 came 20 minutes ago and crashes.
fn fixed_forward(serving: u32) -> World {
    let mut world = World::cart(3, serving);
    world.revision(6, 9000, serving, with_image("a:1")).revision(7, 25, 0, with_image("a:2"));
    world.revision(8, 20, 0, with_image("a:3"));
    changed_by(&mut world, 8, 20, &[("image", "a:2", "a:3")]);
    changed_by(&mut world, 7, 25, &[("image", "a:1", "a:2"), ("env POOL", "5", "50")]);
    for n in 0..serving {
        world.pod(&format!("cart-h6-{n}"), 6, 9000, running());
    }
    world.pod("cart-h8-a", 8, 20, crashes("Error", 1));
    world.event(named(Kind::Pod, "cart-h8-a"), "BackOff", "Back-off restarting failed container app", (19, 1));
    world
}

#[test]
fn a_fix_that_fails_too_goes_back_to_the_revision_that_serves_with_all_that_differs_from_it() {
    let world = fixed_forward(2);
    let cause = fires(&world, "bad-revision");
    says(&cause, &["2 pods of revision 6 still serve, which revision 7 did not replace either", "image a:1 → a:3"]);
    says(&cause, &["env POOL 5 → 50"]);
    says(&fires(&world, "revision-change"), &["Revisions 7 to 8 (09:35 UTC", "changed image a:1 → a:3"]);
    assert!(fires(&world, "revision-change").citations.len() > 1, "each line by the change that made it");
    assert_eq!(undo(&world.report()), Some(6));
}

#[test]
fn a_fix_that_fails_too_goes_back_to_what_ran_for_long_and_not_to_what_never_worked() {
    let mut world = fixed_forward(0);
    world.workload().conditions = vec![condition("Available", "False", 24)];
    says(&fires(&world, "bad-revision"), &["revision 6 ran 6 days before revision 7"]);
    assert_eq!(undo(&world.report()), Some(6));

    let unknown = fixed_forward(0);
    silent(&unknown, "bad-revision");
    assert!(unknown.report().proposals.is_empty(), "whether revision 7 ever worked nobody tells");
}

#[test]
fn a_revision_that_somebody_took_back_is_not_offered_when_the_trouble_goes_on() {
    let mut world = World::cart(3, 0);
    // The template of revision 6 under its new number.
    world.revision(5, 20_000, 0, with_image("a:0")).revision(7, 90, 0, with_image("a:2"));
    world.revision(8, 9000, 0, with_image("a:1"));
    changed_by(&mut world, 8, 20, &[("image", "a:2", "a:1")]);
    let Part::Known(revisions) = &mut world.scene.revisions else { panic!() };
    revisions[0].earlier_numbers = vec![6];
    world.workload().conditions = vec![condition("Available", "False", 88)];
    world.pod("cart-h8-a", 8, 20, crashes("Error", 1));
    world.event(named(Kind::Pod, "cart-h8-a"), "BackOff", "Back-off restarting failed container app", (19, 1));
    silent(&world, "bad-revision");
    assert!(world.report().proposals.is_empty());

    // What served until it was taken back is what to go back to.
    world.workload().conditions = vec![condition("Available", "False", 19)];
    assert_eq!(undo(&world.report()), Some(7));
}

#[test]
fn a_rollout_into_an_outage_did_not_begin_it() {
    let mut world = World::cart(3, 0);
    world.revision(7, 9000, 0, with_image("a:1")).revision(8, 15, 0, with_image("a:2"));
    world.changed(&[("image", "a:1", "a:2")]);
    world.workload().conditions = vec![condition("Available", "False", 20)];
    world.pod("cart-h8-a", 8, 15, crashes("Error", 1));
    world.event(named(Kind::Pod, "cart-h8-a"), "BackOff", "Back-off restarting failed container app", (14, 1));
    silent(&world, "bad-revision");
    silent(&world, "revision-change");
    says(&fires(&world, "revision-ruled-out"), &["was not available since 09:40 UTC already, 5 min before it came"]);
    assert!(world.report().proposals.is_empty());

    // With strategy Recreate the old pods go first.
    world.workload().conditions = vec![condition("Available", "False", 16)];
    silent(&world, "bad-revision");
    world.workload().strategy = "Recreate".into();
    assert_eq!(undo(&world.report()), Some(7));
}

#[test]
fn a_statefulsets_earlier_revision_serves_by_its_pods_and_a_daemonsets_last_pods_prove_nothing() {
    let of = |kind: Kind, old: bool| {
        let mut world = World::cart(2, u32::from(old));
        world.scene.subject = named(kind, "cart");
        world.workload().object = named(kind, "cart");
        world.revision(6, 9000, 0, with_image("a:1")).revision(7, 20, 0, with_image("a:2"));
        world.changed(&[("image", "a:1", "a:2")]);
        if old {
            world.pod("cart-0", 6, 9000, running());
        }
        world.pod("cart-1", 7, 20, crashes("Error", 1));
        world.event(named(Kind::Pod, "cart-1"), "BackOff", "Back-off restarting failed container app", (19, 1));
        world
    };
    for kind in [Kind::StatefulSet, Kind::DaemonSet] {
        let world = of(kind, true);
        says(&fires(&world, "bad-revision"), &["1 pod of revision 6 still serves"]);
        assert_eq!(undo(&world.report()), Some(6));
    }
    assert_eq!(
        undo(&of(Kind::StatefulSet, false).report()),
        Some(6),
        "it never replaces a pod before the next is ready"
    );
    silent(&of(Kind::DaemonSet, false), "bad-revision");
}

/// A pod that its node put out so many minutes ago; it is still shown.
fn evicted(world: &mut World, minutes: i64) {
    world.pod("cart-h7-old", 7, minutes + 60, state(State::Unknown, None, 0));
    let message = "The node was low on resource: ephemeral-storage. ";
    let object = world.last_pod().object.clone();
    let at = world.stands(ScenePart::Pods, Source::Object { object }, message);
    let pod = world.last_pod();
    (pod.phase, pod.reason, pod.message, pod.ready, pod.at) = (r("Failed"), r("Evicted"), r(message), false, at);
    pod.conditions = vec![condition("DisruptionTarget", "True", minutes)];
}

#[test]
fn a_pod_that_failed_weeks_ago_and_was_replaced_makes_nothing_ill() {
    let mut world = World::cart(1, 1);
    world.revision(7, 90_000, 1, template()).pod("cart-h7-a", 7, 90_000, running());
    evicted(&mut world, 30_000);
    assert_eq!(health(&world.scene), Health::Healthy);
    silent(&world, "evicted");

    let mut lately = after_a_rollout(0, ("image", "a:1", "a:2"), crashes("Error", 1));
    lately.event(named(Kind::Pod, "cart-h7-a"), "BackOff", "Back-off restarting failed container app", (19, 1));
    lately.pod("cart-h6-old", 6, 9000, state(State::Unknown, None, 0));
    (lately.last_pod().phase, lately.last_pod().ready) = (r("Failed"), false);
    assert_eq!(undo(&lately.report()), Some(6), "what is left of an earlier revision is not in trouble now");
    evicted(&mut lately, 10);
    fires(&lately, "evicted");

    // Nobody replaces a pod of a Job, and its failure is what there is to see.
    world.last_pod().owner = Some(named(Kind::Job, "cart"));
    assert!(matches!(health(&world.scene), Health::Unhealthy { .. }));
}

#[test]
fn an_ingress_class_by_annotation_needs_no_object_and_an_address_speaks_for_a_controller() {
    let with = |class: Option<&str>, annotated: Option<&str>, has_address: bool| {
        let object = named(Kind::Ingress, "till");
        let mut world = World::of(object.clone());
        let text = r#"{"kubernetes.io/ingress.class": "gce", "ingressClassName": "gce"}"#;
        let at = world.stands(ScenePart::Network, Source::Object { object: object.clone() }, text);
        world.scene.ingresses = Part::Known(vec![Ingress {
            object,
            created_at: ago(14),
            class: class.map(r),
            annotated: annotated.map(r),
            hosts: vec![r("till.example.org")],
            services: vec![r("prices")],
            absent: Vec::new(),
            has_address,
            at,
        }]);
        world
    };
    let served = with(None, Some("gce"), true);
    silent(&served, "ingress-class");
    assert_eq!(health(&served.scene), Health::Healthy);

    let annotated = with(None, Some("gce"), false);
    let found = fires(&annotated, "ingress-class");
    says(&found, &["asks for the class gce by the old annotation", "Perhaps no controller"]);
    assert_eq!((found.certainty, health(&annotated.scene)), (Certainty::Possible, Health::Unknown));

    let addressed = with(Some("gce"), None, true);
    let found = fires(&addressed, "ingress-class");
    assert_eq!((found.certainty, health(&addressed.scene)), (Certainty::Possible, Health::Unknown));

    let field = with(Some("gce"), None, false);
    assert_eq!(fires(&field, "ingress-class").certainty, Certainty::Proved);
    assert!(matches!(health(&field.scene), Health::Unhealthy { .. }));
}

const NO_CONFIG: &str = r#"MountVolume.SetUp failed for volume "conf" : configmap "app-config" not found"#;
const NO_CLAIM: &str = r#"0/2 nodes are available: persistentvolumeclaim "data" not found. not found"#;

/// A pod that is so far, and of which this was said when it was made.
fn said_at_first(pod: ContainerState, reason: &str, message: &str, minutes: i64) -> World {
    let mut world = World::cart(1, 0);
    world.revision(1, 40, 0, template()).pod("cart-h1-a", 1, 40, pod);
    world.event(named(Kind::Pod, "cart-h1-a"), reason, message, (39, minutes));
    world
}

#[test]
fn what_a_pod_waited_for_before_it_ran_is_not_missing_now() {
    let mut runs = running();
    runs.ready = false;
    let ended = State::Terminated(crashes("Error", 1).last.unwrap());
    for pod in [runs, state(ended, None, 0)] {
        silent(&said_at_first(pod.clone(), "FailedMount", NO_CONFIG, 39), "config-missing");
        silent(&said_at_first(pod.clone(), "FailedScheduling", NO_CLAIM, 39), "claim-missing");
        let attach = r#"AttachVolume.Attach failed for volume "pv-1": timed out"#;
        silent(&said_at_first(pod.clone(), "FailedAttachVolume", attach, 39), "volume-attach");
        let mount = r#"MountVolume.SetUp failed for volume "pv-1" : mount failed: Connection timed out"#;
        silent(&said_at_first(pod, "FailedMount", mount, 39), "volume-mount");
    }
    let waits = || waits("ContainerCreating", "");
    fires(&said_at_first(waits(), "FailedMount", NO_CONFIG, 1), "config-missing");
    silent(&said_at_first(waits(), "FailedMount", NO_CONFIG, 30), "config-missing");
    fires(&said_at_first(waits(), "FailedScheduling", NO_CLAIM, 30), "claim-missing");

    let mut there = said_at_first(waits(), "FailedMount", NO_CONFIG, 1);
    let (object, at) = (named(Kind::ConfigMap, "app-config"), there.last_pod().at);
    there.scene.config_maps =
        Part::Known(vec![ConfigMap { object, created_at: ago(1), keys: Vec::new(), referenced: true, at }]);
    silent(&there, "config-missing");
}

/// A pod that wants nodes of the pool `big` and 500m of cpu, and these nodes: name, pool, cpu that is requested of 4000m.
fn pending(message: &str, selector: bool, nodes: &[(&str, &str, i64)]) -> World {
    let mut world = World::cart(1, 0);
    let wanted = if selector { map(&[("pool", "big")]) } else { BTreeMap::new() };
    world.revision(1, 40, 0, Template { node_selector: wanted, ..template() });
    world.pod("cart-h1-a", 1, 40, waits("", ""));
    world.last_pod().node = None;
    world.event(named(Kind::Pod, "cart-h1-a"), "FailedScheduling", message, (39, 1));
    for (name, pool, used) in nodes {
        world.node(name, true, &[("pool", *pool)], (4000, *used));
    }
    world
}

#[test]
fn a_selector_that_full_nodes_satisfy_is_not_said_to_match_none() {
    let nodes = [("big-1", "big", 3900), ("n1", "small", 0), ("n2", "small", 0), ("n3", "small", 0)];
    let full = "0/4 nodes are available: 1 Insufficient cpu, 3 node(s) didn't match Pod's node affinity/selector.";
    let world = pending(full, true, &nodes);
    assert_eq!(world.causes(), ["resources"]);
    let found = fires(&world, "resources");
    says(&found, &["big-1 has 100m left"]);
    assert!(!found.says.as_str().contains("n1 has"), "a node of another pool has no say: {}", found.says);
    assert_eq!(found.certainty, Certainty::Proved);

    let closed = "0/5 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, 3 node(s) didn't match Pod's node affinity/selector.";
    let mut world = pending(closed, true, &nodes);
    world.node("c1", true, &[], (4000, 0));
    let Part::Known(nodes) = &mut world.scene.nodes else { panic!() };
    nodes[4].taints = vec![r("node-role.kubernetes.io/control-plane:NoSchedule")];
    silent(&world, "fitting-nodes-closed");
    assert_eq!(fires(&world, "resources").certainty, Certainty::Proved);

    let Part::Known(nodes) = &mut world.scene.nodes else { panic!() };
    nodes[0].unschedulable = true;
    says(&fires(&world, "fitting-nodes-closed"), &["big-1 (cordoned)"]);
}

#[test]
fn room_that_other_rules_keep_from_a_pod_is_not_said_to_be_used_up() {
    let message =
        "0/4 nodes are available: 1 Insufficient cpu, 3 node(s) didn't match pod topology spread constraints.";
    let nodes = [("n0", "a", 3900), ("n1", "a", 0), ("n2", "a", 0), ("n3", "a", 0)];
    let found = fires(&pending(message, false, &nodes), "resources");
    assert_eq!(found.certainty, Certainty::Possible);
    says(&found, &["1 node without enough cpu and 3 nodes (node(s) didn't match pod topology spread constraints)"]);
    assert!(!found.says.as_str().contains("used up"), "{}", found.says);
}

#[test]
fn an_affinity_is_not_said_to_match_none_of_nodes_that_were_not_asked() {
    let message = "0/5 nodes are available: 2 node(s) had untolerated taint {gpu: yes}, 3 node(s) didn't match Pod's node affinity/selector.";
    let found = fires(&pending(message, false, &[]), "node-selector");
    says(&found, &["matches no node that is open to it", "2 nodes with taint gpu: yes"]);
    assert_eq!(found.certainty, Certainty::Possible);
}

#[test]
fn a_volume_of_another_zone_is_told_though_its_claim_is_bound() {
    let message = "0/3 nodes are available: 3 node(s) had volume node affinity conflict.";
    let world = pending(message, false, &[("n1", "a", 0)]);
    assert_eq!(world.causes(), ["volume-zone"]);
    let count = "0/3 nodes are available: 3 node(s) exceed max volume count.";
    let full = pending(count, false, &[("n1", "a", 0)]);
    fires(&full, "unschedulable");
    silent(&full, "volume-zone");
}

#[test]
fn a_limit_that_was_raised_or_is_another_containers_did_not_bring_the_kill() {
    let raised = after_a_rollout(3, ("limit memory", "256Mi", "512Mi"), crashes("OOMKilled", 137));
    assert_eq!(raised.report().certainty, Certainty::Possible);
    assert!(raised.report().proposals.is_empty());
    silent(&raised, "bad-revision");
    says(&fires(&raised, "memory-limit"), &["limit memory 256Mi → 512Mi) does not suffice"]);

    let mut sidecars = after_a_rollout(3, ("limit memory", "512Mi", "256Mi"), crashes("OOMKilled", 137));
    let Part::Known(changes) = &mut sidecars.scene.changes else { panic!() };
    changes[0].lines[0].container = Some(r("proxy"));
    assert_eq!(fires(&sidecars, "memory-limit").certainty, Certainty::Possible);
    assert_eq!(fires(&sidecars, "memory-limit").proposal, None);
}

#[test]
fn a_node_that_is_lost_explains_its_own_pods_and_those_that_replace_them() {
    let mut world = fixed_forward(0);
    world.workload().conditions = vec![condition("Available", "False", 24)];
    world.node("n1", true, &[], (4000, 0)).node("n2", false, &[], (4000, 0));
    world.pod("cart-h8-b", 8, 19, waits("ContainerCreating", ""));
    world.last_pod().node = Some(r("n2"));
    let found = fires(&world, "node-not-ready");
    assert_eq!(found.role, Role::Context, "another pod crashes on a node that is well");
    assert_eq!(undo(&world.report()), Some(6));

    let mut lost = World::cart(2, 0);
    lost.revision(1, 9000, 0, template()).node("n1", true, &[], (4000, 0)).node("n2", false, &[], (4000, 0));
    lost.pod("cart-h1-a", 1, 9000, running());
    (lost.last_pod().node, lost.last_pod().ready) = (Some(r("n2")), false);
    lost.pod("cart-h1-b", 1, 5, waits("ContainerCreating", ""));
    let found = fires(&lost, "node-not-ready");
    assert_eq!((found.role, found.certainty), (Role::Cause, Certainty::Proved));
}

#[test]
fn a_canary_that_is_held_on_purpose_is_well() {
    let held = |change: fn(&mut Workload)| {
        let mut world = World::cart(4, 4);
        world.workload().updated = 1;
        world.revision(6, 9000, 3, template()).revision(7, 90, 1, template());
        world.pod("cart-h6-a", 6, 9000, running()).pod("cart-h7-a", 7, 90, running());
        change(world.workload());
        world
    };
    assert!(matches!(health(&held(|_| ()).scene), Health::Unhealthy { .. }), "its rollout is under way");
    silent(&held(|_| ()), "rollout-held");
    for (change, word) in [
        ((|workload| workload.paused = true) as fn(&mut Workload), "it is paused"),
        (|workload| workload.partition = 3, "held at partition 3"),
        (|workload| workload.strategy = "OnDelete".into(), "OnDelete"),
    ] {
        let world = held(change);
        assert_eq!(health(&world.scene), Health::Healthy, "{word}");
        let found = fires(&world, "rollout-held");
        says(&found, &[word, "1 of 4 pods is of the newest revision"]);
        assert_eq!(found.role, Role::Context);
    }
    let mut moving = held(|workload| workload.partition = 2);
    assert!(matches!(health(&moving.scene), Health::Unhealthy { .. }), "one more is to be updated");
    moving.workload().updated = 2;
    assert_eq!(health(&moving.scene), Health::Healthy);
}

#[test]
fn a_dns_that_a_process_lived_on_without_is_a_possible_cause_at_most() {
    let line = "lookup ledger on 10.9.0.10:53: server misbehaving";
    let mut world = ends_with("FATAL: cannot open /data/index");
    world.scene.logs = Part::Known(Vec::new());
    world.log("cart-h3-a", &[(line, 50), ("FATAL: cannot open /data/index", 1)]);
    assert_eq!(fires(&world, "dns-silent").certainty, Certainty::Possible);
}

#[test]
fn a_service_without_a_selector_does_not_silence_what_it_stands_for() {
    let mut world = ends_with("dial tcp db:5432: connect: connection refused");
    let object = named(Kind::Service, "db");
    let at = world.stands(ScenePart::Network, Source::Object { object: object.clone() }, "{}");
    let mut service = logged(object, &[], 0, at);
    service.external_name = Some(r("db.prod.example.com"));
    world.scene.services = Part::Known(vec![service]);
    let found = fires(&world, "dependency-unreachable");
    says(&found, &["db:5432 (by its Service that is db.prod.example.com, outside the cluster)"]);
}

#[test]
fn a_blue_service_whose_workload_is_scaled_down_is_not_to_select_the_green_pods() {
    let mut world = World::of(named(Kind::Service, "prices"));
    service(&mut world, true, 0);
    let Part::Known(services) = &mut world.scene.services else { panic!() };
    let at = services[0].at;
    services[0].behind = workloads::workload_behind("prices-blue", 0, 0, at);
    silent(&world, "service-selects-nothing");
    assert_eq!(world.causes(), ["no-pods-behind"]);
}

#[test]
fn a_jobs_deadline_is_not_the_cause_where_nothing_of_it_ever_started() {
    let mut world = World::cart(1, 0);
    world.scene.subject = named(Kind::Job, "load");
    let mut failed = condition("Failed", "True", 5);
    failed.reason = "DeadlineExceeded".into();
    let job = world.workload();
    (job.object, job.conditions, job.deadline_seconds) = (named(Kind::Job, "load"), vec![failed], Some(600));
    assert_eq!(fires(&world, "job-failed").role, Role::Cause);
    let pull = r#"Failed to pull image "r.example/load:9": manifest unknown"#;
    world.event(named(Kind::Pod, "load-x7k2p"), "Failed", pull, (14, 6));
    assert_eq!(fires(&world, "job-failed").role, Role::Symptom);
    says(&fires(&world, "job-never-started"), &["manifest unknown"]);
    world.event(named(Kind::Pod, "load-x7k2p"), "Started", "Started container app", (6, 6));
    silent(&world, "job-never-started");
    assert_eq!(fires(&world, "job-failed").role, Role::Cause);
}

#[test]
fn an_image_that_may_not_be_pulled_is_not_looked_for_in_its_registry() {
    let mut world = World::cart(1, 0);
    world.revision(1, 10, 0, template());
    let message = r#"Container image "shop/cart:1.0" is not present with pull policy of Never"#;
    world.pod("cart-h1-a", 1, 10, waits("ErrImageNeverPull", message));
    let report = world.report();
    assert!(report.headline.as_str().contains("is not on the node"), "{}", report.headline);
    assert!(report.advice.unwrap().as_str().starts_with("Load "));
}
