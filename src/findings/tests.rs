//! Stories of the rules over hand-built scenes: where each fires, and where it must not.

mod surroundings;
mod workloads;

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

/// A scene under construction: the Deployment `shop/cart`, or what `of` names; every part known and empty.
struct World {
    scene: Scene,
}

impl World {
    fn of(subject: ObjectRef) -> Self {
        let evidence = ScenePart::ALL.iter().map(|part| Evidence {
            id: part.evidence(),
            tool: "scene".into(),
            asked: "".into(),
            read_at: now(),
            reading: Reading::Segments(Vec::new()),
        });
        Self {
            scene: Scene {
                subject,
                read_at: now(),
                not_found: None,
                workload: Part::Known(None),
                revisions: Part::Known(Vec::new()),
                changes: Part::Known(Vec::new()),
                pods: Part::Known(Vec::new()),
                logs: Part::Known(Vec::new()),
                events: Part::Known(Vec::new()),
                nodes: Part::Known(Vec::new()),
                services: Part::Known(Vec::new()),
                ingresses: Part::Known(Vec::new()),
                ingress_classes: Part::Known(Vec::new()),
                config_maps: Part::Known(Vec::new()),
                claims: Part::Known(Vec::new()),
                autoscalers: Part::Known(Vec::new()),
                budgets: Part::Known(Vec::new()),
                quotas: Part::Known(Vec::new()),
                neighbours: Part::Known(Vec::new()),
                evidence: evidence.collect(),
            },
        }
    }

    /// The Deployment `shop/cart`.
    fn cart(wanted: u32, ready: u32) -> Self {
        let subject = named(Kind::Deployment, "cart");
        let mut world = Self::of(subject.clone());
        let at = world.stands(ScenePart::Subject, Source::Object { object: subject.clone() }, r#"{"name": "cart"}"#);
        world.scene.workload = Part::Known(Some(Workload {
            object: subject,
            uid: "u".into(),
            created_at: ago(100_000),
            generation: 1,
            observed_generation: 1,
            wanted,
            ready,
            updated: wanted,
            available: ready,
            failed: 0,
            succeeded: 0,
            conditions: Vec::new(),
            revision: Some(1),
            template: template(),
            labels: BTreeMap::new(),
            selector: map(&[("app", "cart")]),
            paused: false,
            suspended: false,
            gitops: None,
            changed_by: None,
            backoff_limit: None,
            last_scheduled_at: None,
            last_succeeded_at: None,
            at,
        }));
        world
    }

    fn workload(&mut self) -> &mut Workload {
        match &mut self.scene.workload {
            Part::Known(Some(workload)) => workload,
            _ => panic!("no workload"),
        }
    }

    /// Puts a verbatim text into a part's evidence.
    fn stands(&mut self, part: ScenePart, source: Source, text: &str) -> At {
        let evidence = &mut self.scene.evidence[part as usize - 1];
        let Reading::Segments(segments) = &mut evidence.reading else { panic!("missing") };
        segments.push(Segment { source, text: r(text), verbatim: true });
        At { evidence: evidence.id, segment: segments.len() as u32 - 1 }
    }

    /// Revision `number`, made so many minutes ago, from this template; the last added is the running one.
    fn revision(&mut self, number: i64, minutes: i64, ready: u32, template: Template) -> &mut Self {
        let object = named(Kind::ReplicaSet, &format!("cart-h{number}"));
        let at = self.stands(ScenePart::Changes, Source::Object { object: object.clone() }, "{}");
        let Part::Known(revisions) = &mut self.scene.revisions else { panic!() };
        for revision in revisions.iter_mut() {
            revision.current = false;
        }
        let hash = format!("h{number}");
        let revision = Revision {
            number,
            earlier_numbers: Vec::new(),
            object,
            uid: hash.clone(),
            hash,
            created_at: ago(minutes),
            wanted: 1,
            ready,
            current: true,
            template: template.clone(),
            at,
        };
        revisions.insert(0, revision);
        self.workload().template = template;
        self
    }

    /// What the running revision changed: field, before, after (empty for absent).
    fn changed(&mut self, lines: &[(&str, &str, &str)]) -> &mut Self {
        let said = lines.iter().map(|(field, before, after)| format!("{field}: {before} -> {after}"));
        let text = said.collect::<Vec<_>>().join("\n");
        let object = self.scene.subject.clone();
        let at = self.stands(ScenePart::Changes, Source::Rollout { object: object.clone() }, &text);
        let number = self.scene.revisions.items()[0].number;
        let some = |text: &str| (!text.is_empty()).then(|| r(text));
        let lines = lines.iter().map(|(field, before, after)| DiffLine {
            container: None,
            field: r(field),
            before: some(before),
            after: some(after),
        });
        let change = Change {
            object,
            changed_at: self.scene.revisions.items()[0].created_at,
            by: Some(r("helm")),
            from_revision: Some(number - 1),
            to_revision: Some(number),
            lines: lines.collect(),
            at,
        };
        let Part::Known(changes) = &mut self.scene.changes else { panic!() };
        changes.push(change);
        self
    }

    fn pod(&mut self, name: &str, revision: i64, minutes: i64, container: ContainerState) -> &mut Self {
        let object = named(Kind::Pod, name);
        let text = match view::last_end(&container) {
            Some(end) => format!(r#"{{"exitCode": {}, "reason": "{}"}}"#, end.exit_code, end.reason),
            None => match &container.state {
                State::Waiting { reason, .. } => format!(r#"{{"reason": "{reason}"}}"#),
                _ => "{}".into(),
            },
        };
        let at = self.stands(ScenePart::Pods, Source::Object { object: object.clone() }, &text);
        let ready = container.ready;
        let waiting =
            matches!(&container.state, State::Waiting { reason, .. } if reason.as_str() != "CrashLoopBackOff");
        let pod = Pod {
            object,
            uid: name.into(),
            created_at: ago(minutes),
            phase: r(if waiting { "Pending" } else { "Running" }),
            ready,
            node: Some(r("n1")),
            template: Some(format!("h{revision}")),
            labels: map(&[("app", "cart")]),
            reason: "".into(),
            message: "".into(),
            conditions: Vec::new(),
            containers: vec![container],
            deleting: false,
            owner: Some(self.scene.subject.clone()),
            cpu_milli: 500,
            memory_bytes: 1 << 28,
            at,
        };
        let Part::Known(pods) = &mut self.scene.pods else { panic!() };
        pods.push(pod);
        self
    }

    fn last_pod(&mut self) -> &mut Pod {
        let Part::Known(pods) = &mut self.scene.pods else { panic!() };
        pods.last_mut().unwrap()
    }

    fn log(&mut self, pod: &str, lines: &[(&str, i64)]) -> &mut Self {
        let text = lines.iter().map(|(line, _)| *line).collect::<Vec<_>>().join("\n");
        let name = |text: &str| Name::parse(text).unwrap();
        let source = Source::Log { namespace: name("shop"), pod: name(pod), container: name("app"), previous: false };
        let at = self.stands(ScenePart::Logs, source, &text);
        let lines = lines.iter().map(|(line, minutes)| LogLine {
            text: r(line),
            count: 1,
            first_at: Some(ago(*minutes)),
            last_at: Some(ago(*minutes)),
        });
        let log = LogTail {
            pod: named(Kind::Pod, pod),
            container: r("app"),
            previous: false,
            lines: lines.collect(),
            missing: None,
            at,
        };
        let Part::Known(logs) = &mut self.scene.logs else { panic!() };
        logs.push(log);
        self
    }

    fn event(&mut self, object: ObjectRef, reason: &str, message: &str, minutes: (i64, i64)) -> &mut Self {
        let source = Source::Event { object: object.clone(), reason: r(reason) };
        let at = self.stands(ScenePart::Events, source, message);
        let event = Event {
            object,
            warning: true,
            reason: r(reason),
            message: r(message),
            count: 4,
            first_at: ago(minutes.0),
            last_at: ago(minutes.1),
            source: "kubelet".into(),
            at,
        };
        let Part::Known(events) = &mut self.scene.events else { panic!() };
        events.push(event);
        self
    }

    fn node(&mut self, name: &str, ready: bool, labels: &[(&str, &str)], cpu: (i64, i64)) -> &mut Self {
        let object = ObjectRef::new(Kind::Node, None, name).unwrap();
        let text = r#"{"reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status."}"#;
        let at = self.stands(ScenePart::Nodes, Source::Object { object: object.clone() }, text);
        let condition = Condition {
            kind: "Ready".into(),
            status: if ready { "True" } else { "Unknown" }.into(),
            reason: if ready { "KubeletReady" } else { "NodeStatusUnknown" }.into(),
            message: if ready { "" } else { "Kubelet stopped posting node status." }.into(),
            changed_at: Some(ago(20)),
            heartbeat_at: Some(ago(21)),
        };
        let node = Node {
            object,
            ready: if ready { Some(true) } else { None },
            conditions: vec![condition],
            labels: map(labels),
            taints: Vec::new(),
            unschedulable: false,
            allocatable_cpu_milli: cpu.0,
            allocatable_memory_bytes: 1 << 34,
            extended: BTreeMap::new(),
            requested_cpu_milli: Some(cpu.1),
            requested_memory_bytes: Some(1 << 30),
            pods: Some(3),
            pods_not_ready: Some(0),
            lease_renewed_at: Some(ago(21)),
            at,
        };
        let Part::Known(nodes) = &mut self.scene.nodes else { panic!() };
        nodes.push(node);
        self
    }

    fn neighbour(&mut self, name: &str, wanted: u32, ready: u32, minutes: i64, image: &str, cpu: i64) -> &mut Self {
        let object = named(Kind::Deployment, name);
        let at = self.stands(ScenePart::Neighbours, Source::Object { object: object.clone() }, "{}");
        let neighbour = Neighbour {
            object,
            wanted,
            ready,
            rolled_out_at: Some(ago(minutes)),
            images: vec![r(image)],
            cpu_milli: cpu,
            at,
        };
        let Part::Known(neighbours) = &mut self.scene.neighbours else { panic!() };
        neighbours.push(neighbour);
        self
    }

    fn report(&self) -> Report {
        let report = conclude(&self.scene, find(&self.scene, now()), now());
        let (headline, cause) = (report.headline.as_str(), report.cause.as_str());
        assert!(headline.chars().count() <= 150, "{headline}");
        assert!(cause.chars().count() <= 550, "{cause}");
        for citation in &report.citations {
            let evidence = self.scene.evidence.iter().find(|evidence| evidence.id == citation.evidence).unwrap();
            assert!(evidence.prove(citation.quote.as_str()).is_some(), "unproved: {}", citation.quote);
        }
        report
    }

    /// The rules that fire as causes, surest first.
    fn causes(&self) -> Vec<String> {
        let found = find(&self.scene, now()).into_iter();
        found.filter(|finding| finding.role == Role::Cause).map(|finding| finding.rule).collect()
    }
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
        env_from: Vec::new(),
        requests: map(&[("cpu", "500m")]),
        limits: map(&[("memory", "256Mi")]),
        ports: vec![8080],
        probes: BTreeMap::new(),
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
    let source = Reference { kind: "ConfigMap".into(), name: r("cart-env"), optional: false };
    revisions[1].template.containers[0].env_from = vec![source];
    world.log("cart-h7-a", &[("starting", 2), ("REGION_NAME is not set, nothing to do", 1)]);
    world.event(named(Kind::Pod, "cart-h7-a"), "BackOff", "Back-off restarting failed container app", (19, 1));
    let report = world.report();
    assert_eq!(report.certainty, Certainty::Likely, "the keys of the ConfigMap were not read");
    assert!(report.cause.as_str().contains("removed envFrom ConfigMap cart-env"), "{}", report.cause);
    assert!(report.cause.as_str().contains("exits with code 0"), "{}", report.cause);
    assert_eq!(undo(&report), Some(6));
    assert_eq!(severity(&world.scene, now()), Severity::High);
}

#[test]
fn an_oom_kill_is_told_with_the_limit_and_what_lowered_it() {
    let world = after_a_rollout(3, ("limit memory", "512Mi", "256Mi"), crashes("OOMKilled", 137));
    let report = world.report();
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
}

#[test]
fn a_missing_config_map_is_told_with_the_near_name_and_no_button() {
    let mut world = World::cart(1, 0);
    let volume = Volume {
        name: r("conf"),
        source: Some(Reference { kind: "ConfigMap".into(), name: r("cart-conf"), optional: false }),
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
fn a_lost_node_explains_its_pods_and_no_revision_is_blamed() {
    let mut world = after_a_rollout(0, ("image", "a:1", "a:2"), running());
    world.scene.workload = Part::Known(None);
    world.last_pod().ready = false;
    world.node("n1", false, &[], (4000, 100)).node("n2", true, &[], (4000, 100));
    let report = world.report();
    assert_eq!(report.culprit.as_ref().map(ObjectRef::to_string).as_deref(), Some("Node n1"));
    assert!(report.headline.as_str().contains("stopped posting status"), "{}", report.headline);
    assert!(report.proposals.is_empty() && report.advice.unwrap().as_str().starts_with("Cordon n1"));
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
    world.scene.services = Part::Known(vec![Service {
        object,
        created_at: ago(90_000),
        changed_at: None,
        changed_by: None,
        selector: map(&[("app", "prices"), ("track", "blue")]),
        ports: vec![r("80->8080")],
        ready_endpoints: selected,
        not_ready_endpoints: 0,
        pods_selected: selected,
        near: if near { vec![miss] } else { Vec::new() },
        behind: None,
        failing: None,
        astray: Vec::new(),
        barred: None,
        because: "named in the log".into(),
        at,
    }]);
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
    assert!(report.cause.as_str().contains("gets connection refused since 09:47 UTC"), "{}", report.cause);
    assert!(report.proposals.is_empty());
    assert!(report.ruled_out[0].as_str().contains("revision 7 ran 27 min"), "{:?}", report.ruled_out);
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
    assert!(report.ruled_out[0].as_str().contains("FailedCreate"), "{:?}", report.ruled_out);
    assert_eq!(severity(&world.scene, now()), Severity::Medium);
}

#[test]
fn an_expired_certificate_is_told_with_the_config_map_that_holds_it_and_never_rolled_back() {
    let mut world = World::cart(1, 0);
    let source = Reference { kind: "ConfigMap".into(), name: r("cart-files"), optional: false };
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
