//! Stories of faults around a workload: each rule where it fires, and one where it must not.

use super::workloads::{fires, says, silent};
use super::*;

/// `cart`, well by itself, which cannot reach Service `prices` (both endpoints ready).
fn calls(line: &str) -> World {
    let mut world = World::cart(1, 1);
    world.revision(3, 9000, 1, template()).pod("cart-h3-a", 3, 9000, running());
    world.log("cart-h3-a", &[(line, 12)]);
    service(&mut world, false, 2);
    world
}

fn prices(world: &mut World) -> &mut Service {
    let Part::Known(services) = &mut world.scene.services else { panic!() };
    &mut services[0]
}

const REFUSED: &str = "ERROR dial tcp prices:80: connect: connection refused";
const TIMEOUT: &str = "ERROR dial tcp prices:80: i/o timeout";

#[test]
fn a_service_that_sends_to_an_undeclared_port_is_likely_to_blame_only_where_somebody_suffers() {
    let mut world = calls(REFUSED);
    let astray = vec![Astray { port: 80, target: r("9090"), declared: vec![r("8080"), r("8081")], all_declare: true }];
    prices(&mut world).astray = astray.clone();
    let found = fires(&world, "service-wrong-port");
    says(&found, &["targetPort 9090", "declare only 8080 and 8081", "2 endpoints count as ready", "since 09:48 UTC"]);
    assert_eq!(found.certainty, Certainty::Likely);
    assert_eq!(world.report().culprit, Some(named(Kind::Service, "prices")));
    assert_eq!(severity(&world.scene, now()), Severity::Medium);

    let mut quiet = calls("listening");
    prices(&mut quiet).astray = astray;
    silent(&quiet, "service-wrong-port");
    assert_eq!(severity(&quiet.scene, now()), Severity::None);
}

fn barred(world: &mut World, minutes: i64) {
    let policy = named(Kind::NetworkPolicy, "closed");
    let at = world.stands(ScenePart::Network, Source::Object { object: policy.clone() }, r#"{"name": "closed"}"#);
    let allowed = vec![r("app=admin")];
    prices(world).barred = Some(Barred { policy, egress: false, allowed, since: ago(minutes), by: None, at });
}

#[test]
fn a_policy_that_bars_the_caller_explains_timeouts_that_began_with_it() {
    let mut world = calls(TIMEOUT);
    barred(&mut world, 13);
    let found = fires(&world, "policy-bars");
    says(&found, &["NetworkPolicy closed", "only pods with app=admin", "2 endpoints of that Service are ready"]);
    assert_eq!(found.certainty, Certainty::Likely);
    assert_eq!(world.report().culprit, Some(named(Kind::NetworkPolicy, "closed")));

    let mut later = calls(TIMEOUT);
    barred(&mut later, 5);
    assert_eq!(fires(&later, "policy-bars").certainty, Certainty::Possible, "the trouble was there before it");

    let mut well = calls("listening");
    barred(&mut well, 13);
    silent(&well, "policy-bars");
    let mut nobody = calls(TIMEOUT);
    barred(&mut nobody, 13);
    prices(&mut nobody).ready_endpoints = 0;
    silent(&nobody, "policy-bars");
}

fn ingress(absent: Vec<(Redacted, Vec<Redacted>)>) -> World {
    let object = named(Kind::Ingress, "front");
    let mut world = World::of(object.clone());
    let at = world.stands(ScenePart::Network, Source::Object { object: object.clone() }, r#"{"name": "wbe"}"#);
    let ingress = Ingress {
        object,
        created_at: ago(9000),
        class: Some(r("edge")),
        annotated: None,
        hosts: vec![r("a.example.org")],
        services: vec![r("wbe")],
        absent,
        has_address: true,
        at,
    };
    world.scene.ingresses = Part::Known(vec![ingress]);
    world.scene.ingress_classes = Part::Known(vec![IngressClass { name: r("edge"), default: false, at }]);
    world
}

#[test]
fn an_ingress_to_a_service_that_does_not_exist_is_told_with_the_near_name() {
    let world = ingress(vec![(r("wbe"), vec![r("web")])]);
    says(&fires(&world, "ingress-backend"), &["a.example.org to Service wbe, which does not exist", "there is web"]);
    assert!(matches!(health(&world.scene), Health::Unhealthy { .. }));
    assert_eq!(severity(&world.scene, now()), Severity::High);

    let well = ingress(Vec::new());
    silent(&well, "ingress-backend");
    assert_eq!(health(&well.scene), Health::Healthy);
}

fn autoscaler(world: &mut World, kind: &str, status: &str, reason: &str) {
    let object = named(Kind::HorizontalPodAutoscaler, "cart");
    let text = format!(r#"{{"reason": "{reason}"}}"#);
    let at = world.stands(ScenePart::Limits, Source::Object { object: object.clone() }, &text);
    let condition = Condition {
        kind: r(kind),
        status: r(status),
        reason: r(reason),
        message: "".into(),
        changed_at: Some(ago(20)),
        heartbeat_at: None,
    };
    world.scene.autoscalers = Part::Known(vec![Autoscaler {
        object,
        min: 2,
        max: 4,
        current: 4,
        desired: 4,
        last_scaled_at: Some(ago(20)),
        metrics: vec![r("cpu 140% of the requests (target 80%)")],
        conditions: vec![condition],
        at,
    }]);
}

#[test]
fn an_autoscaler_at_its_maximum_is_low_while_its_pods_are_well_and_no_cause_of_their_trouble() {
    let mut world = World::cart(1, 1);
    world.revision(3, 9000, 1, template()).pod("cart-h3-a", 3, 9000, running());
    autoscaler(&mut world, "ScalingLimited", "True", "TooManyReplicas");
    let found = fires(&world, "autoscaler-at-maximum");
    says(&found, &["maximum of 4 replicas", "cpu 140% of the requests"]);
    assert_eq!((found.role, severity(&world.scene, now())), (Role::Cause, Severity::Low));

    autoscaler(&mut world, "ScalingLimited", "True", "TooFewReplicas");
    silent(&world, "autoscaler-at-maximum");
    assert_eq!(severity(&world.scene, now()), Severity::None);
    autoscaler(&mut world, "ScalingActive", "False", "FailedGetResourceMetric");
    says(&fires(&world, "autoscaler-blind"), &["cannot scale", "FailedGetResourceMetric"]);
    autoscaler(&mut world, "ScalingActive", "False", "ScalingDisabled");
    silent(&world, "autoscaler-blind");

    let mut ill = after_a_rollout(0, ("image", "app:1", "app:2"), crashes("Error", 1));
    autoscaler(&mut ill, "ScalingLimited", "True", "TooManyReplicas");
    assert_eq!(fires(&ill, "autoscaler-at-maximum").role, Role::Context);
}

/// `cart` with a pod that no node takes, after revision 8 changed `line`.
fn unscheduled(line: (&str, &str, &str), message: &str) -> World {
    let mut world = after_a_rollout(1, line, waits("ContainerCreating", ""));
    let pod = world.last_pod();
    (pod.node, pod.phase) = (None, r("Pending"));
    let object = pod.object.clone();
    world.event(object, "FailedScheduling", message, (9, 1));
    world
}

#[test]
fn a_lost_toleration_is_rolled_back_and_other_taints_are_only_told() {
    let message = "0/4 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, 3 node(s) had untolerated taint {team: red}. preemption: none";
    let world = unscheduled(("toleration", "team=red:NoSchedule", ""), message);
    let found = fires(&world, "nodes-closed");
    says(&found, &["no longer tolerates taint team: red, which 3 nodes carry"]);
    assert!(found.proposal.is_some());
    assert_eq!(found.certainty, Certainty::Proved);

    let other = unscheduled(("toleration", "team=blue:NoSchedule", ""), message);
    let found = fires(&other, "nodes-closed");
    says(&found, &["No node may take the pod", "3 nodes with taint team: red and 1 node with taint node-role"]);
    assert!(found.proposal.is_none());
}

#[test]
fn taints_that_the_scheduler_does_not_name_are_read_from_the_nodes() {
    // As Kubernetes 1.36 words it.
    let message = "0/3 nodes are available: 3 node(s) had untolerated taint(s). no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.";
    let mut world = unscheduled(("toleration", "team=red:NoSchedule", ""), message);
    let found = fires(&world, "nodes-closed");
    says(&found, &["No node may take the pod", "3 nodes with a taint that it does not tolerate"]);
    world.node("n1", true, &[], (4000, 100)).node("n2", true, &[], (4000, 100)).node("n3", true, &[], (4000, 100));
    let Part::Known(nodes) = &mut world.scene.nodes else { panic!() };
    for (node, taint) in
        nodes.iter_mut().zip(["control-plane:NoSchedule", "team=red:NoSchedule", "team=red:NoSchedule"])
    {
        node.taints = vec![r(taint)];
    }
    let found = fires(&world, "nodes-closed");
    says(&found, &["no longer tolerates taint team: red, which 2 nodes carry"]);
}

#[test]
fn a_selector_that_a_closed_node_meets_is_not_said_to_match_none() {
    let message = "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated taint {node.kubernetes.io/disk-pressure: }.";
    let mut world = unscheduled(("image", "app:1", "app:2"), message);
    let Part::Known(revisions) = &mut world.scene.revisions else { panic!() };
    revisions.iter_mut().for_each(|revision| revision.template.node_selector = map(&[("disk", "ssd")]));
    world.node("n1", true, &[("disk", "hdd")], (4000, 100)).node("n2", true, &[("disk", "ssd")], (4000, 100));
    let Part::Known(nodes) = &mut world.scene.nodes else { panic!() };
    nodes[1].taints = vec![r("node.kubernetes.io/disk-pressure:NoSchedule")];
    let found = fires(&world, "fitting-nodes-closed");
    says(&found, &["met only by n2 (taint node.kubernetes.io/disk-pressure:NoSchedule)"]);
    assert_eq!(found.role, Role::Mechanism, "the node's own condition is the cause");
    silent(&world, "node-selector");
}

#[test]
fn a_class_that_does_not_exist_is_told_with_those_that_do() {
    let object = named(Kind::PersistentVolumeClaim, "data");
    let mut world = World::of(object.clone());
    let at = world.stands(ScenePart::Storage, Source::Object { object: object.clone() }, r#"{"phase": "Pending"}"#);
    let claim = |class: &str| Claim {
        object: object.clone(),
        phase: r("Pending"),
        uid: "c1".into(),
        storage_class: Some(r(class)),
        volume: None,
        access_modes: Vec::new(),
        classes: Some(vec![r("gp3"), r("io2")]),
        at,
    };
    world.scene.claims = Part::Known(vec![claim("gp33")]);
    says(&fires(&world, "claim-unbound"), &["StorageClass gp33 does not exist: the cluster has gp3 and io2"]);
    for class in ["gp3", ""] {
        world.scene.claims = Part::Known(vec![claim(class)]);
        let found = fires(&world, "claim-unbound");
        assert!(!found.says.as_str().contains("does not exist"), "{}", found.says);
    }
}

#[test]
fn a_name_that_a_revision_brought_and_nobody_answers_to_is_rolled_back() {
    let line = "FATAL lookup ledger on 10.96.0.10:53: no such host";
    let mut world = after_a_rollout(1, ("env LEDGER", "ledger.books:80", "ledger:80"), crashes("Error", 1));
    world.log("cart-h7-a", &[(line, 3)]);
    let found = fires(&world, "host-unresolved");
    says(&found, &["could not resolve host ledger", "brought that name"]);
    assert!(found.proposal.is_some());

    let mut other = after_a_rollout(1, ("env LEDGER", "ledger-a:80", "ledger-b:80"), crashes("Error", 1));
    other.log("cart-h7-a", &[(line, 3)]);
    assert!(fires(&other, "host-unresolved").proposal.is_none(), "another name than the one that fails");
}

#[test]
fn a_dependency_outside_the_cluster_is_said_to_be_so() {
    let line = "ERROR Post \"https://api.pay.example/v1\": dial tcp 198.51.100.7:443: i/o timeout";
    let mut world = World::cart(1, 0);
    world.revision(3, 9000, 0, template());
    world.pod("cart-h3-a", 3, 9000, ContainerState { ready: false, ..running() });
    world.log("cart-h3-a", &[(line, 12)]);
    let found = fires(&world, "dependency-unreachable");
    says(&found, &["api.pay.example (198.51.100.7:443), which is outside the cluster"]);
    assert_eq!(found.certainty, Certainty::Likely);

    let inside = calls("ERROR dial tcp ledger:80: i/o timeout");
    let found = fires(&inside, "dependency-unreachable");
    assert!(!found.says.as_str().contains("outside"), "{}", found.says);
}

#[test]
fn a_revision_that_was_taken_back_is_told_of_a_subject_that_is_well_again() {
    let mut world = World::cart(1, 1);
    world.revision(8, 50, 0, template()).revision(9, 9000, 1, template()).changed(&[("image", "app:2", "app:1")]);
    let Part::Known(changes) = &mut world.scene.changes else { panic!() };
    changes[0].changed_at = ago(20);
    world.pod("cart-h9-a", 9, 20, running());
    says(&fires(&world, "rolled-back"), &["Revision 8 was taken back at 09:40 UTC by helm", "image app:2"]);
    let report = world.report();
    assert!(report.headline.as_str().starts_with("cart in shop is healthy (1 of 1 pods ready)"), "{}", report.headline);
    assert_eq!(severity(&world.scene, now()), Severity::None);

    let mut forward = World::cart(1, 1);
    forward.revision(8, 9000, 0, template()).revision(9, 20, 1, template()).changed(&[("image", "app:1", "app:2")]);
    forward.pod("cart-h9-a", 9, 20, running());
    silent(&forward, "rolled-back");
}

#[test]
fn a_gpu_request_that_no_node_can_meet_is_rolled_back_and_one_that_is_in_use_blames_nobody() {
    let message = "0/2 nodes are available: 2 Insufficient vendor.example/gpu. preemption: none";
    let mut world = unscheduled(("request vendor.example/gpu", "1", "4"), message);
    let Part::Known(revisions) = &mut world.scene.revisions else { panic!() };
    revisions[0].template.containers[0].requests = map(&[("vendor.example/gpu", "4")]);
    world.node("n1", true, &[], (4000, 100));
    let gpus = |world: &mut World, number| {
        let Part::Known(nodes) = &mut world.scene.nodes else { panic!() };
        nodes[0].extended = BTreeMap::from([("vendor.example/gpu".to_owned(), number)]);
    };
    gpus(&mut world, 2);
    let found = fires(&world, "extended-resource");
    says(&found, &["wants 4 vendor.example/gpu, but no node has more than 2", "Revision 7"]);
    assert!(found.proposal.is_some());
    gpus(&mut world, 8);
    says(&fires(&world, "extended-resource"), &["a node has at most 8, and what is free"]);
    let cpu = unscheduled(("request cpu", "1", "4"), "0/2 nodes are available: 2 Insufficient cpu. preemption: none");
    silent(&cpu, "extended-resource");
}

/// A cart on the cordoned node `n1`, all ready, and what its budget asks for.
fn drained(demand: &str, (expected, healthy, desired): (u32, u32, u32)) -> World {
    let mut world = World::cart(1, 1);
    world.revision(3, 9000, 1, template()).pod("cart-h3-a", 3, 9000, running()).node("n1", true, &[], (4000, 100));
    budget(&mut world, "cart", demand, (expected, healthy, desired));
    let Part::Known(nodes) = &mut world.scene.nodes else { panic!() };
    nodes[0].unschedulable = true;
    world
}

fn budget(world: &mut World, name: &str, demand: &str, (expected, healthy, desired): (u32, u32, u32)) {
    let object = named(Kind::PodDisruptionBudget, name);
    let text = format!(r#"{{"name": "{name}", "currentHealthy": {healthy}, "disruptionsAllowed": 0}}"#);
    let at = world.stands(ScenePart::Limits, Source::Object { object: object.clone() }, &text);
    let (frees_unhealthy, uncounted) = (false, None);
    let demand = r(demand);
    let disruptions_allowed = 0;
    let budget =
        Budget { object, disruptions_allowed, demand, expected, healthy, desired, frees_unhealthy, uncounted, at };
    let Part::Known(budgets) = &mut world.scene.budgets else { panic!() };
    budgets.push(budget);
}

fn of_budget(world: &mut World, change: impl Fn(&mut Budget)) {
    let Part::Known(budgets) = &mut world.scene.budgets else { panic!() };
    change(&mut budgets[0]);
}

#[test]
fn a_budget_that_allows_none_is_told_only_beside_a_cordoned_node() {
    let mut world = drained("minAvailable 1", (1, 1, 1));
    let Part::Known(nodes) = &mut world.scene.nodes else { panic!() };
    nodes[0].unschedulable = false;
    silent(&world, "budget-allows-none");
    assert_eq!(severity(&world.scene, now()), Severity::None);
    let world = drained("minAvailable 1", (1, 1, 1));
    says(&fires(&world, "budget-allows-none"), &["allows no disruption", "on node n1, which is cordoned"]);
    assert_eq!(severity(&world.scene, now()), Severity::Low);
    let mut elsewhere = drained("minAvailable 1", (1, 1, 1));
    elsewhere.last_pod().node = Some(r("n2"));
    silent(&elsewhere, "budget-allows-none");
    let mut open = drained("minAvailable 1", (1, 1, 1));
    of_budget(&mut open, |budget| budget.disruptions_allowed = 1);
    silent(&open, "budget-allows-none");
}

#[test]
fn why_a_budget_allows_none_is_told_with_what_would_help() {
    let told = |world: &World, part: &str, advice: &str| {
        let found = fires(world, "budget-allows-none");
        says(&found, &[part]);
        let given = found.advice.unwrap();
        assert!(given.as_str().contains(advice), "{given}");
    };
    let most = drained("maxUnavailable 0", (3, 3, 3));
    told(&most, "(maxUnavailable 0 of 3 pods: none may be missing)", "allow one pod down before the drain");
    told(&drained("minAvailable 3", (3, 3, 3)), "(minAvailable 3 of 3 pods: none", "or to add a replica");
    told(&drained("minAvailable 100%", (3, 3, 3)), "(minAvailable 100% of 3", "allow one pod down before the drain");
    let others = drained("minAvailable 3", (4, 2, 3));
    told(&others, "(minAvailable 3: 2 of the 3 pods that it wants ready are)", "to add a replica");
    let mut lost = drained("maxUnavailable 1", (0, 0, 0));
    of_budget(&mut lost, |budget| budget.uncounted = Some(r("found no controllers for pod \"cart-h3-a\"")));
    told(&lost, "its controller cannot count its pods: found no controllers", "Mend what keeps");
}

#[test]
fn pods_of_two_budgets_are_told_as_held_by_both_and_those_of_one_that_allows_a_disruption_are_not_held() {
    let mut world = drained("minAvailable 1", (2, 2, 1));
    of_budget(&mut world, |budget| budget.disruptions_allowed = 1);
    silent(&world, "two-budgets");
    silent(&world, "budget-allows-none");
    budget(&mut world, "cart-too", "maxUnavailable 1", (2, 2, 1));
    let found = fires(&world, "two-budgets");
    says(&found, &["PodDisruptionBudgets cart and cart-too both select the pods of cart", "1 pod on node n1"]);
    assert_eq!(found.citations.len(), 2, "each budget by its name");
}

#[test]
fn a_pod_that_is_not_ready_is_held_by_its_budget_too_unless_that_lets_such_pods_go() {
    let ill = || {
        let mut world = drained("minAvailable 2", (2, 1, 2));
        (world.workload().wanted, world.workload().ready) = (2, 1);
        world.pod("cart-h3-b", 3, 9000, crashes("Error", 1));
        world
    };
    let found = fires(&ill(), "budget-holds-unready");
    says(&found, &["demands 2 pods ready, 1 of 2 are, so not even the 1 pod there that is not ready can be evicted"]);
    assert_eq!(found.role, Role::Context);
    silent(&ill(), "budget-allows-none");
    let mut frees = ill();
    of_budget(&mut frees, |budget| budget.frees_unhealthy = true);
    silent(&frees, "budget-holds-unready");
    let mut pending = ill();
    pending.last_pod().phase = r("Pending");
    silent(&pending, "budget-holds-unready");
    let mut enough = ill();
    of_budget(&mut enough, |budget| budget.desired = 1);
    silent(&enough, "budget-holds-unready");
}

#[test]
fn a_toleration_of_any_value_effect_or_key_is_missed_by_what_it_tolerated_and_by_nothing_else() {
    let message = |taint: &str| {
        format!(
            "0/4 nodes are available: 1 node(s) had untolerated taint {{node-role.kubernetes.io/control-plane: }}, 3 node(s) had untolerated taint {{{taint}}}. preemption: none"
        )
    };
    let lost = |toleration: &str, taint: &str| unscheduled(("toleration", toleration, ""), &message(taint));
    for (toleration, taint, told) in [
        ("team:NoSchedule op=Exists", "team: red", "removed toleration (was team:NoSchedule op=Exists)"),
        ("team op=Exists", "team: red", "no longer tolerates taint team: red, which 3 nodes carry"),
        ("team=red", "team: red", "removed toleration (was team=red)"),
        ("* op=Exists", "team: red", "no longer tolerates taint team: red, which 3 nodes carry"),
        ("dedicated:NoSchedule", "dedicated: ", "no longer tolerates taint dedicated, which 3 nodes carry"),
        ("team=red:NoExecute for 60s", "team: red", "no longer tolerates taint team: red"),
    ] {
        let found = fires(&lost(toleration, taint), "nodes-closed");
        says(&found, &[told]);
        assert!(found.proposal.is_some() && found.citations.iter().any(|c| c.quote.as_str().contains(toleration)));
    }
    for (toleration, taint) in
        [("team:NoSchedule", "team: red"), ("crew op=Exists", "team: red"), ("team=red:PreferNoSchedule", "team: red")]
    {
        let found = fires(&lost(toleration, taint), "nodes-closed");
        says(&found, &["No node may take the pod"]);
        assert!(found.proposal.is_none(), "{toleration} never tolerated {taint}");
    }
}

#[test]
fn a_toleration_of_another_effect_than_the_nodes_taint_has_was_none_of_it_and_one_that_was_replaced_is_lost() {
    let message = "0/1 nodes are available: 1 node(s) had untolerated taint {team: red}. preemption: none";
    let lost = |before: &str, after: &str, taint: &str| {
        let mut world = unscheduled(("toleration", before, after), message);
        world.node("n1", true, &[], (4000, 100));
        let Part::Known(nodes) = &mut world.scene.nodes else { panic!() };
        nodes[0].taints = vec![r(taint)];
        fires(&world, "nodes-closed")
    };
    says(&lost("team=red:NoExecute", "", "team=red:NoExecute"), &["no longer tolerates taint team: red"]);
    assert!(lost("team=red:NoExecute", "", "team=red:NoSchedule").proposal.is_none());
    let replaced = lost("team=red:NoSchedule", "team=rde:NoSchedule", "team=red:NoSchedule");
    says(&replaced, &["changed toleration team=red:NoSchedule → team=rde:NoSchedule: it no longer tolerates"]);
    assert!(replaced.proposal.is_some());
}
