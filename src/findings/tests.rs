//! Stories of the rules over hand-built scenes: where each fires, and where it must not.

mod admission;
mod around;
mod cases;
mod certain;
mod edits;
mod jobs;
mod lingering;
mod lookups;
mod nodes;
mod pulls;
mod quiet;
mod refused;
mod silent;
mod surroundings;
mod volumes;
mod workloads;
mod world;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::model::evidence::{Evidence, Reading, Segment, Source};
use crate::model::incident::Severity;
use crate::model::object::{Kind, Name, ObjectRef};
use crate::model::report::Report;
use crate::model::scene::*;
use crate::model::{Certainty, Proposal};
use crate::redact::{Redacted, Redactor};
use workloads::fires;
use world::World;

const NOW: &str = "2026-05-04T10:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn ago(minutes: i64) -> Timestamp {
    now() - SignedDuration::from_mins(minutes)
}

fn r(text: &str) -> Redacted {
    Redactor::default().redact(text)
}

fn named(kind: Kind, name: &str) -> ObjectRef {
    ObjectRef::new(kind, Some("shop"), name).unwrap()
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, Redacted> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), r(value))).collect()
}

fn template() -> Template {
    Template { containers: vec![container("reg.example/shop/cart:1.0")], ..Template::default() }
}

fn container(image: &str) -> Container {
    Container {
        name: "app".into(),
        init: false,
        image: r(image),
        command: Vec::new(),
        args: Vec::new(),
        env: BTreeMap::new(),
        env_keys: BTreeMap::new(),
        env_from: Vec::new(),
        requests: map(&[("cpu", "500m")]),
        limits: map(&[("memory", "256Mi")]),
        ports: vec![8080],
        probes: BTreeMap::new(),
        rest: BTreeMap::new(),
    }
}

fn state(state: State, last: Option<Terminated>, restarts: u32) -> ContainerState {
    let ready = matches!(state, State::Running { .. });
    ContainerState {
        name: "app".into(),
        init: false,
        image: r("reg.example/shop/cart:1.0"),
        ready,
        restarts,
        state,
        last,
        memory_limit: Some(r("256Mi")),
    }
}

fn running() -> ContainerState {
    state(State::Running { since: Some(ago(5000)) }, None, 0)
}

fn waits(reason: &str, message: &str) -> ContainerState {
    state(State::Waiting { reason: r(reason), message: r(message) }, None, 0)
}

fn crashes(reason: &str, exit_code: i32) -> ContainerState {
    let end = Terminated {
        reason: r(reason),
        exit_code,
        message: "".into(),
        started_at: Some(ago(2)),
        finished_at: Some(ago(1)),
    };
    state(State::Waiting { reason: "CrashLoopBackOff".into(), message: "back-off 5m0s".into() }, Some(end), 6)
}

fn undo(report: &Report) -> Option<i64> {
    match report.proposals.first() {
        Some(Proposal::RolloutUndo { to_revision, .. }) => *to_revision,
        _ => None,
    }
}

/// Two revisions of which the newest was made 20 min ago; `ready` pods of the old one still run.
fn after_a_rollout(ready: u32, line: (&str, &str, &str), pod: ContainerState) -> World {
    let mut world = World::cart(4, ready);
    world.revision(6, 9000, ready, template()).revision(7, 20, 0, template());
    world.changed(&[line]);
    for n in 0..ready {
        world.pod(&format!("cart-h6-{n}"), 6, 9000, running());
    }
    world.pod("cart-h7-a", 7, 20, pod);
    world
}

#[test]
fn a_misspelt_image_repository_is_named_with_what_it_was_and_who_still_serves() {
    let bad = "reg.example/shpo/cart:1.1";
    let message = format!(
        r#"Back-off pulling image "{bad}": pull access denied, repository does not exist or may require authorization"#
    );
    let mut waiting = waits("ImagePullBackOff", &message);
    waiting.image = r(bad);
    let mut world = after_a_rollout(3, ("image", "reg.example/shop/cart:1.0", bad), waiting);
    world.event(named(Kind::Pod, "cart-h7-a"), "Failed", &message, (20, 1));
    world.neighbour("till", 1, 1, 40, "reg.example/shop/till:2", 0);
    let report = world.report();
    assert_eq!(
        report.headline.as_str(),
        "cart in shop is stuck at revision 7 (3 of 4 pods still serve): cannot pull image shpo/cart (\"shop\" misspelt?)"
    );
    assert!(report.cause.as_str().contains("repository does not exist"), "{}", report.cause);
    assert_eq!((undo(&report), report.certainty), (Some(6), Certainty::Proved));
    assert!(report.ruled_out.iter().any(|line| line.as_str().contains("till")), "{:?}", report.ruled_out);
    fires(&world, "registry-works");
    assert_eq!(severity(&world.scene, now()), Severity::Medium);
}

#[test]
fn an_image_that_never_worked_is_named_without_a_rollback() {
    let mut world = World::cart(1, 0);
    world.revision(1, 10, 0, template());
    world.pod("cart-h1-a", 1, 10, waits("ErrImagePull", "manifest unknown"));
    let report = world.report();
    assert_eq!(world.causes(), ["image-pull"]);
    assert!(report.proposals.is_empty() && report.advice.is_some());
}

#[test]
fn a_program_that_does_not_exist_is_told_with_the_one_that_did() {
    let why = r#"unable to start container process: exec: "migrat": executable file not found in $PATH: unknown"#;
    let mut pod = crashes("StartError", 128);
    pod.last.as_mut().unwrap().message = r(why);
    pod.init = true;
    let mut world = after_a_rollout(4, ("command", "migrate --up", "migrat --up"), pod);
    let Part::Known(revisions) = &mut world.scene.revisions else { panic!() };
    revisions[1].template.containers[0].command = vec![r("migrate"), r("--up")];
    world.event(named(Kind::Pod, "cart-h7-a"), "Failed", why, (20, 1));
    let report = world.report();
    assert_eq!(world.causes(), ["no-such-program"]);
    assert!(
        report.cause.as_str().contains("run migrat instead of migrate, by the look of it a typo"),
        "{}",
        report.cause
    );
    assert_eq!(undo(&report), Some(6));
    assert_eq!(severity(&world.scene, now()), Severity::Low, "all that served still serves");
}

#[test]
fn a_variable_that_a_rollout_took_away_explains_even_an_exit_code_of_zero() {
    let mut world = after_a_rollout(0, ("envFrom", "ConfigMap cart-env", ""), crashes("Completed", 0));
    let Part::Known(revisions) = &mut world.scene.revisions else { panic!() };
    let source = Reference { kind: "ConfigMap".into(), name: r("cart-env"), optional: false, prefix: "".into() };
    revisions[1].template.containers[0].env_from = vec![source];
    world.log("cart-h7-a", &[("starting", 2), ("REGION_NAME is not set, nothing to do", 1)]);
    world.event(named(Kind::Pod, "cart-h7-a"), "BackOff", "Back-off restarting failed container app", (19, 1));
    let report = world.report();
    assert_eq!(report.certainty, Certainty::Likely, "the keys of the ConfigMap were not read");
    assert!(report.cause.as_str().contains("removed envFrom ConfigMap cart-env"), "{}", report.cause);
    assert!(report.cause.as_str().contains("exits with code 0"), "{}", report.cause);
    assert_eq!(fires(&world, "env-missing").certainty, report.certainty);
    assert_eq!(undo(&report), Some(6));
    assert_eq!(severity(&world.scene, now()), Severity::High);
}

#[test]
fn an_oom_kill_is_told_with_the_limit_and_what_lowered_it() {
    let world = after_a_rollout(3, ("limit memory", "512Mi", "256Mi"), crashes("OOMKilled", 137));
    let report = world.report();
    fires(&world, "oom-killed");
    assert!(
        report.headline.as_str().ends_with("OOMKilled since revision 7: limit memory 512Mi → 256Mi"),
        "{}",
        report.headline
    );
    assert_eq!((undo(&report), report.certainty), (Some(6), Certainty::Proved));

    let mut world = World::cart(1, 0);
    world.revision(6, 9000, 0, template()).revision(7, 5000, 0, template());
    world.pod("cart-h7-a", 7, 5000, crashes("OOMKilled", 137));
    world.event(named(Kind::Pod, "cart-h7-a"), "BackOff", "Back-off restarting failed container app", (9, 1));
    let report = world.report();
    assert!(report.proposals.is_empty(), "the revision ran for days");
    assert_eq!(report.certainty, Certainty::Possible);
    assert!(report.ruled_out[0].as_str().contains("a rollout"), "{:?}", report.ruled_out);
    fires(&world, "revision-ruled-out");
}

#[test]
fn a_missing_config_map_is_told_with_the_near_name_and_no_button() {
    let mut world = World::cart(1, 0);
    let volume = Volume {
        name: r("conf"),
        source: Some(Reference { kind: "ConfigMap".into(), name: r("cart-conf"), optional: false, prefix: "".into() }),
    };
    world.revision(1, 7, 0, Template { volumes: vec![volume], ..template() });
    world.pod("cart-h1-a", 1, 7, waits("ContainerCreating", ""));
    let message = r#"MountVolume.SetUp failed for volume "conf" : configmap "cart-conf" not found"#;
    world.event(named(Kind::Pod, "cart-h1-a"), "FailedMount", message, (6, 1));
    let object = named(Kind::ConfigMap, "cart-config");
    let at = world.stands(ScenePart::Config, Source::Object { object: object.clone() }, r#"{"name": "cart-config"}"#);
    world.scene.config_maps =
        Part::Known(vec![ConfigMap { object, created_at: ago(9), keys: vec![r("cart.ini")], referenced: false, at }]);
    let report = world.report();
    assert_eq!(
        report.headline.as_str(),
        "cart in shop cannot start (0 of 1 pods ready): ConfigMap cart-conf does not exist (cart-config does)"
    );
    assert!(report.cause.as_str().contains("mounts it as volume conf"), "{}", report.cause);
    assert!(report.proposals.is_empty());

    // Once a container has run, its mounts are there: the old event says nothing of now.
    world.last_pod().containers[0] = crashes("Error", 1);
    assert_eq!(world.causes(), Vec::<String>::new());
}

#[test]
fn a_node_selector_that_meets_no_node_is_told_with_what_the_nodes_have() {
    let mut world = World::cart(2, 2);
    let gpu = |value: &str| Template { node_selector: map(&[("example.org/zone", value)]), ..template() };
    world.revision(6, 9000, 2, gpu("a")).revision(7, 20, 0, gpu("z"));
    world.changed(&[("nodeSelector example.org/zone", "a", "z")]);
    world.pod("cart-h6-a", 6, 9000, running()).pod("cart-h6-b", 6, 9000, running());
    world.pod("cart-h7-a", 7, 20, waits("", ""));
    world.last_pod().node = None;
    let message = "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector. preemption: none.";
    world.event(named(Kind::Pod, "cart-h7-a"), "FailedScheduling", message, (20, 1));
    world.node("n1", true, &[("example.org/zone", "a")], (4000, 100));
    world.node("n2", true, &[("example.org/zone", "a")], (4000, 100)).node("n3", true, &[], (4000, 100));
    fires(&world, "node-selector");
    let report = world.report();
    assert!(
        report.cause.as_str().contains("which matches no node (2 nodes have a and 1 node has none)"),
        "{}",
        report.cause
    );
    assert_eq!((undo(&report), report.certainty), (Some(6), Certainty::Proved));
    assert_eq!(severity(&world.scene, now()), Severity::Low);
}

#[test]
fn requests_that_fit_nowhere_are_told_with_what_is_left_and_no_rollback() {
    let mut world = World::cart(3, 2);
    world.revision(6, 90_000, 0, template()).revision(7, 9000, 2, template());
    world.changed(&[("image", "a:1", "a:2")]);
    world.pod("cart-h7-a", 7, 9000, running()).pod("cart-h7-b", 7, 9000, running());
    world.pod("cart-h7-c", 7, 16, waits("", ""));
    world.last_pod().node = None;
    let message = "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available.";
    world.event(named(Kind::Pod, "cart-h7-c"), "FailedScheduling", message, (16, 1));
    world.node("n1", true, &[], (4000, 3900)).node("n2", true, &[], (4000, 3950));
    world.neighbour("batch", 4, 4, 200, "b:1", 6000);
    let report = world.report();
    assert!(report.cause.as_str().contains("n1 has 100m left and n2 has 50m left"), "{}", report.cause);
    assert!(report.cause.as_str().contains("Deployment shop/batch with 6000m"), "{}", report.cause);
    assert!(report.proposals.is_empty());
    assert!(report.ruled_out[0].as_str().contains("a rollout (revision 7"), "{:?}", report.ruled_out);
    assert_eq!(severity(&world.scene, now()), Severity::Medium);
}

#[test]
fn a_request_that_no_node_could_ever_meet_is_not_blamed_on_other_pods() {
    let mut world = World::cart(3, 2);
    world.revision(6, 90_000, 2, template()).revision(7, 9000, 0, template());
    world.changed(&[("request cpu", "", "64")]);
    world.pod("cart-h7-a", 7, 16, waits("", ""));
    world.last_pod().node = None;
    world.last_pod().cpu_milli = 64_000;
    // As Kubernetes 1.36 words it.
    let message = "0/2 nodes are available: 2 Insufficient cpu. no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.";
    world.event(named(Kind::Pod, "cart-h7-a"), "FailedScheduling", message, (16, 1));
    world.node("n1", true, &[], (4000, 100)).node("n2", true, &[], (8000, 200));
    world.neighbour("batch", 4, 4, 200, "b:1", 6000);
    let report = world.report();
    let cause = report.cause.as_str();
    assert!(cause.contains("requests 64000m cpu, but the largest node that could take it has 8000m in all"), "{cause}");
    assert!(cause.contains("added request cpu (64)") && !cause.contains("batch"), "{cause}");
    assert_eq!(undo(&report), Some(6));
}

fn service(world: &mut World, near: bool, selected: u32) {
    let object = named(Kind::Service, "prices");
    let at = world.stands(
        ScenePart::Network,
        Source::Object { object: object.clone() },
        r#"{"selector": {"app": "prices", "track": "blue"}}"#,
    );
    let miss = NearMiss {
        label: r("track"),
        wanted: r("blue"),
        found: r("green"),
        pods: 2,
        of: Some(named(Kind::Deployment, "prices-api")),
        at,
    };
    let near = if near { vec![miss] } else { Vec::new() };
    let service = logged(object, &[("app", "prices"), ("track", "blue")], selected, at);
    world.scene.services = Part::Known(vec![Service { near, ..service }]);
}

/// A Service that the log names, with so many pods, all of them ready.
fn logged(object: ObjectRef, selector: &[(&str, &str)], pods: u32, at: At) -> Service {
    Service {
        object,
        created_at: ago(90_000),
        changed_at: None,
        changed_by: None,
        selector: map(selector),
        external_name: None,
        ports: vec![r("80->8080")],
        ready_endpoints: pods,
        not_ready_endpoints: 0,
        pods_selected: pods,
        near: Vec::new(),
        behind: None,
        failing: None,
        astray: Vec::new(),
        barred: None,
        link: ServiceLink::Logged,
        because: "named in the log".into(),
        at,
    }
}

/// A pod that ends with this line.
fn ends_with(line: &str) -> World {
    let mut world = World::cart(1, 0);
    world.revision(3, 9000, 0, template());
    world.pod("cart-h3-a", 3, 9000, crashes("Error", 1));
    world.log("cart-h3-a", &[("starting", 3), (line, 1)]);
    world
}
