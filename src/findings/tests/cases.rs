//! That each rule has a story in which it fires and one in which it must not, and those that no other file tells.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use regex::Regex;

use super::certain::condition;
use super::workloads::{fires, says, silent};
use super::*;

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else {
            found.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

fn all(pattern: &str, text: &str) -> BTreeSet<String> {
    Regex::new(pattern).unwrap().captures_iter(text).map(|found| found[1].to_owned()).collect()
}

/// Names of the rules: what is given to `Finding::new` as such, by itself, by a constant, or through a closure.
fn rules(code: &[(PathBuf, String)]) -> BTreeSet<String> {
    let mut rules = BTreeSet::new();
    for (path, text) in code {
        rules.extend(all(r#"(?:Finding::new|ruled_out)\(\s*"([a-z-]+)""#, text));
        for name in all(r"Finding::new\(\s*([A-Z_]+),", text) {
            let value = all(&format!(r#"const {name}: &str =\s*"([a-z-]+)""#), text);
            assert_eq!(value.len(), 1, "{}: {name}", path.display());
            rules.extend(value);
        }
        let others = all(r"Finding::new\(\s*([a-z_]+),", text);
        assert!(others.iter().all(|name| name == "rule" && text.contains("let ruled_out = |rule")), "{others:?}");
    }
    rules
}

/// The rules that a test asks for with `asked`: by name, or by a variable that goes through all that the test names.
fn told(body: &str, asked: &str, rules: &BTreeSet<String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for call in body.split(&format!("{asked}(")).skip(1) {
        let mut depth = 1;
        let inside = |c: &char| {
            depth += i32::from(*c == '(') - i32::from(*c == ')');
            depth > 0
        };
        let arguments: String = call.chars().take_while(inside).collect();
        let last = arguments.trim_end().trim_end_matches(',').rsplit(',').next().unwrap_or_default().trim().to_owned();
        match last.as_str() {
            "rule" => found.extend(all(r#""([a-z-]+)""#, body)),
            name => found.extend([name.trim_matches('"').to_owned()]),
        }
    }
    found.into_iter().filter(|name| rules.contains(name)).collect()
}

#[test]
fn every_rule_has_a_story_in_which_it_fires_and_one_in_which_it_must_not() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/findings");
    let is_test = |path: &Path| path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests");
    let (tests, code): (Vec<_>, Vec<_>) = sources(&folder).into_iter().partition(|(path, _)| is_test(path));
    let rules = rules(&code);
    assert!(rules.len() >= 80 && rules.contains("scaled-up") && rules.contains("bad-revision"), "{rules:?}");
    let (mut fire, mut quiet) = (BTreeSet::new(), BTreeSet::new());
    for (_, text) in &tests {
        for body in text.split("#[test]").skip(1) {
            fire.extend(told(body, "fires", &rules));
            let causes = all(r"causes\(\), \[([^\]]*)\]", body);
            fire.extend(causes.iter().flat_map(|list| all(r#""([a-z-]+)""#, list)));
            quiet.extend(told(body, "silent", &rules));
        }
    }
    let (unheard, unchecked): (Vec<_>, Vec<_>) =
        (rules.difference(&fire).collect(), rules.difference(&quiet).collect());
    assert!(unheard.is_empty() && unchecked.is_empty(), "never fires: {unheard:?}; fires unchecked: {unchecked:?}");
}

/// A pod of the autoscaled cart that finds no room, made so many minutes ago; it was scaled up 9 minutes ago.
fn no_room(minutes: i64) -> World {
    let mut world = World::cart(3, 2);
    world.revision(7, 9000, 2, template()).pod("cart-h7-a", 7, minutes, waits("", ""));
    let pod = world.last_pod();
    (pod.node, pod.phase) = (None, r("Pending"));
    let object = pod.object.clone();
    let full = "0/3 nodes are available: 3 Insufficient cpu. preemption: none";
    world.event(object, "FailedScheduling", full, (8, 1));
    let object = named(Kind::HorizontalPodAutoscaler, "cart");
    let at = world.stands(ScenePart::Limits, Source::Object { object: object.clone() }, "{}");
    world.scene.autoscalers = Part::Known(vec![Autoscaler {
        object,
        min: 2,
        max: 4,
        current: 2,
        desired: 3,
        last_scaled_at: Some(ago(9)),
        metrics: Vec::new(),
        conditions: Vec::new(),
        at,
    }]);
    world
}

#[test]
fn an_autoscaler_is_told_of_the_pods_that_it_asked_for_and_of_no_others() {
    let found = fires(&no_room(9), "scaled-up");
    says(&found, &["asked for 3 pods at 09:51 UTC (between 2 and 4)"]);
    assert_eq!(found.role, Role::Change);
    silent(&no_room(300), "scaled-up");
    silent(&no_room(7), "scaled-up");
    let mut least = no_room(9);
    let Part::Known(autoscalers) = &mut least.scene.autoscalers else { panic!() };
    autoscalers[0].desired = 2;
    silent(&least, "scaled-up");
    let mut rolled_out = after_a_rollout(2, ("request cpu", "500m", "4"), waits("", ""));
    let pod = rolled_out.last_pod();
    (pod.node, pod.phase) = (None, r("Pending"));
    let object = pod.object.clone();
    rolled_out.event(object, "FailedScheduling", "0/3 nodes are available: 3 Insufficient cpu.", (19, 1));
    rolled_out.scene.autoscalers = no_room(9).scene.autoscalers;
    let Part::Known(autoscalers) = &mut rolled_out.scene.autoscalers else { panic!() };
    autoscalers[0].last_scaled_at = Some(ago(20));
    silent(&rolled_out, "scaled-up");
}

/// A pod whose pull is refused for want of its secret, beside one that runs this image.
fn without_its_secret(beside: &str) -> World {
    let image = "hub.example/shop/cart:3.1";
    let mut waiting = waits("ImagePullBackOff", &format!(r#"Back-off pulling image "{image}": 401 Unauthorized"#));
    waiting.image = r(image);
    let mut world = World::cart(2, 1);
    world.revision(7, 9000, 1, template());
    world.pod("cart-h7-a", 7, 9000, ContainerState { image: r(beside), ..running() });
    world.pod("cart-h7-b", 7, 20, waiting);
    let lost = "Unable to retrieve some image pull secrets (hub-login); attempting to pull the image may not succeed.";
    world.event(named(Kind::Pod, "cart-h7-b"), "FailedToRetrieveImagePullSecret", lost, (20, 1));
    world
}

#[test]
fn an_image_that_another_pod_runs_is_ruled_out_and_one_of_another_tag_is_not() {
    let found = fires(&without_its_secret("hub.example/shop/cart:3.1"), "image-runs");
    assert_eq!(found.role, Role::RuledOut);
    silent(&without_its_secret("hub.example/shop/cart:3.0"), "image-runs");
    let mut gone = without_its_secret("hub.example/shop/cart:3.1");
    let Part::Known(pods) = &mut gone.scene.pods else { panic!() };
    pods[0].ready = false;
    silent(&gone, "image-runs");
}

#[test]
fn a_registry_and_a_pull_secret_are_ruled_out_only_by_what_works_with_them() {
    let image = "reg.example/shop/cart:9";
    let secret = |name: &str| Template { image_pull_secrets: vec![r(name)], ..template() };
    let with = |neighbour: &str, ready: u32, before: &str| {
        let mut waiting = waits("ImagePullBackOff", &format!("{image}: not found"));
        waiting.image = r(image);
        let mut world = after_a_rollout(2, ("image", "reg.example/shop/cart:8", image), waiting);
        let Part::Known(revisions) = &mut world.scene.revisions else { panic!() };
        (revisions[0].template, revisions[1].template) = (secret("hub-login"), secret(before));
        world.neighbour("till", 1, ready, 9000, neighbour, 0);
        world
    };
    let world = with("reg.example/shop/till:2", 1, "hub-login");
    says(&fires(&world, "registry-works"), &["Registry reg.example answers: till"]);
    says(&fires(&world, "pull-secret-same"), &["the same as in revision 6", "hub-login"]);
    silent(&with("other.example/shop/till:2", 1, "hub-login"), "registry-works");
    silent(&with("reg.example/shop/till:2", 0, "hub-login"), "registry-works");
    silent(&with("reg.example/shop/till:2", 1, "old-login"), "pull-secret-same");
}

#[test]
fn a_variable_that_is_given_or_that_a_line_only_speaks_of_is_not_missing() {
    let asks = |line: &str, given: &[(&str, &str)]| {
        let mut world = ends_with(line);
        let Part::Known(revisions) = &mut world.scene.revisions else { panic!() };
        revisions[0].template.containers[0].env = map(given);
        world
    };
    let line = "FATAL: REGION_NAME is not set";
    says(&fires(&asks(line, &[]), "env-missing"), &["its template does not set REGION_NAME"]);
    silent(&asks(line, &[("REGION_NAME", "eu")]), "env-missing");
    silent(&asks("FATAL: REGION_NAME is eu, no route table", &[]), "env-missing");
    silent(&asks("FATAL: the region is not set", &[]), "env-missing");
}

#[test]
fn a_dns_that_answers_and_a_container_that_may_start_are_not_blamed() {
    fires(&ends_with("Error: getaddrinfo EAI_AGAIN ledger"), "dns-silent");
    silent(&ends_with("Error: getaddrinfo ENOTFOUND ledger"), "dns-silent");
    silent(&ends_with("resolved ledger to 10.9.0.4 in 3 ms"), "dns-silent");
    let with = |reason: &str, message: &str| {
        let mut world = World::cart(1, 0);
        world.revision(7, 9000, 0, template()).pod("cart-h7-a", 7, 9, waits(reason, message));
        world
    };
    let root = "container has runAsNonRoot and image will run as root";
    fires(&with("CreateContainerConfigError", root), "runs-as-root");
    silent(&with("CreateContainerConfigError", r#"secret "login" not found"#), "runs-as-root");
    silent(&with("ContainerCreating", root), "runs-as-root");
}

#[test]
fn what_ended_what_changed_and_who_else_is_there_is_told() {
    let mut world = after_a_rollout(0, ("image", "a:1", "a:2"), crashes("Error", 3));
    world
        .neighbour("till", 1, 1, 9000, "t:1", 0)
        .neighbour("fresh", 1, 1, 30, "f:1", 0)
        .neighbour("ill", 2, 1, 9000, "i:1", 0);
    world.event(named(Kind::Pod, "cart-h7-a"), "BackOff", "Back-off restarting failed container app", (19, 1));
    fires(&world, "bad-revision");
    world.workload().conditions = vec![Condition {
        kind: "Progressing".into(),
        status: "False".into(),
        reason: "ProgressDeadlineExceeded".into(),
        message: "".into(),
        changed_at: Some(ago(10)),
        heartbeat_at: None,
    }];
    says(&fires(&world, "container-ended"), &["exits with code 3"]);
    says(&fires(&world, "revision-change"), &["Revision 7"]);
    says(&fires(&world, "rollout-stuck"), &["has made no progress since 09:50 UTC"]);
    says(&fires(&world, "neighbours-ready"), &["till is ready"]);
    says(&fires(&world, "neighbours-suffer"), &["ill (1 of 2 ready)"]);
    says(&fires(&world, "neighbour-rollout-ruled-out"), &["Not fresh: rolled out 09:30 UTC"]);

    let mut put_out = World::cart(1, 0);
    put_out.revision(7, 9000, 0, template()).pod("cart-h7-a", 7, 9000, crashes("Error", 137));
    let pod = put_out.last_pod();
    (pod.phase, pod.reason, pod.message) = (r("Failed"), r("Evicted"), r("Usage of EmptyDir volume exceeds its limit"));
    pod.conditions = vec![condition("DisruptionTarget", "True", 5)];
    says(&fires(&put_out, "evicted"), &["1 pod was evicted: Usage of EmptyDir"]);
}

#[test]
fn jobs_nodes_and_services_are_told_by_their_own_state() {
    let object = named(Kind::Job, "settle");
    let mut world = World::cart(1, 0);
    world.scene.subject = object.clone();
    (world.workload().object, world.workload().suspended) = (object, true);
    let done = named(Kind::Job, "archive");
    let text = r#"{"reason": "CompletionsReached"}"#;
    let at = world.stands(ScenePart::Neighbours, Source::Object { object: done.clone() }, text);
    world.neighbour("archive", 1, 0, 90, "a:1", 0);
    let Part::Known(neighbours) = &mut world.scene.neighbours else { panic!() };
    (neighbours[0].object, neighbours[0].at) = (done, at);
    fires(&world, "job-suspended");
    world.workload().suspended = false;
    world.workload().conditions = vec![Condition {
        kind: "Failed".into(),
        status: "True".into(),
        reason: "BackoffLimitExceeded".into(),
        message: "".into(),
        changed_at: Some(ago(9)),
        heartbeat_at: None,
    }];
    says(&fires(&world, "sibling-completed"), &["archive of the same namespace completed"]);
    fires(&world, "job-failed");

    let mut lost = World::of(ObjectRef::new(Kind::Node, None, "n1").unwrap());
    lost.node("n1", false, &[], (4000, 100));
    for owner in ["cart", "till"] {
        lost.pod(&format!("{owner}-a"), 7, 9000, ContainerState { ready: false, ..running() });
        lost.last_pod().owner = Some(named(Kind::Deployment, owner));
    }
    says(&fires(&lost, "workloads-ruled-out"), &["pods of 2 different ones"]);

    let mut calls = World::cart(1, 1);
    calls.revision(7, 9000, 1, template()).pod("cart-h7-a", 7, 9000, running());
    calls.log("cart-h7-a", &[("dial tcp prices.shop.svc:80: connect: connection refused", 5)]);
    service(&mut calls, false, 2);
    let Part::Known(services) = &mut calls.scene.services else { panic!() };
    (services[0].ready_endpoints, services[0].not_ready_endpoints) = (0, 2);
    fires(&calls, "service-not-ready");
}
