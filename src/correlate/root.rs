//! Where the fault of a subject lies when it is not the subject itself: its node, or what it calls.

use jiff::Timestamp;

use crate::model::scene::{LogLine, Node, Pod, ServiceLink, State};
use crate::model::{ObjectRef, Scene};
use crate::redact::Redacted;
use crate::text;

/// The object at fault, and why it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Root {
    pub object: ObjectRef,
    pub because: Redacted,
}

/// The object that explains the subject's trouble by itself, if the scene shows one.
pub fn of(scene: &Scene) -> Option<Root> {
    lost_node(scene).or_else(|| pressed_node(scene)).or_else(|| empty_service(scene)).or_else(|| down_dependency(scene))
}

/// A replacement of what a node lost is still on its way this long after it was made: its image is pulled, its volume
/// follows. (Kubernetes gives a pod that cannot be stopped 6 min before its volume may follow; most need seconds.)
const ON_ITS_WAY_SECONDS: i64 = 300;

/// Every pod in trouble stands on one node that is not ready, or takes the place of one that does.
fn lost_node(scene: &Scene) -> Option<Root> {
    let broken: Vec<&Pod> = unready(scene).collect();
    let lost = |node: &&Node| {
        let since = node.conditions.iter().find(|c| c.kind.as_str() == "Ready").and_then(|c| c.changed_at);
        let on_it: Vec<&Pod> = broken.iter().copied().filter(|pod| node.holds(pod)).collect();
        let replaces = |pod: &&Pod| since.is_some_and(|since| takes_the_place(scene, pod, &on_it, since));
        node.ready != Some(true) && !on_it.is_empty() && broken.iter().all(|pod| node.holds(pod) || replaces(pod))
    };
    let node = scene.nodes.items().iter().find(lost).filter(|node| node.object != scene.subject)?;
    let (name, on_it) = (&node.object.name, broken.iter().filter(|pod| node.holds(pod)).count());
    let because = match broken.len() - on_it {
        0 => text!("its {} on node {}, which is not ready", stand(on_it), name),
        n => text!("its {} on node {}, which is not ready, and {} more take their place", stand(on_it), name, n),
    };
    Some(Root { object: node.object.clone(), because })
}

/// A node that is short of something put pods of the subject out, and nothing else is the matter: what is not ready takes
/// their place. What has trouble of its own does not have it from the node that it stands on, nor from an eviction that
/// was made good since.
fn pressed_node(scene: &Scene) -> Option<Root> {
    let pods = scene.pods.items();
    let node = scene.nodes.items().iter().find(|node| pods.iter().any(|pod| node.put_out(pod)))?;
    let condition = node.pressure().filter(|_| node.object != scene.subject)?;
    let out: Vec<&Pod> = pods.iter().filter(|pod| node.put_out(pod)).collect();
    let times = || out.iter().filter_map(|pod| pod.put_out_at());
    let (first, last) = (times().min()?, times().max()?);
    let mut rest = unready(scene).peekable();
    let fresh = scene.read_at.as_second() - last.as_second() <= ON_ITS_WAY_SECONDS;
    if rest.peek().is_none() && !fresh || !rest.all(|pod| takes_the_place(scene, pod, &out, first)) {
        return None;
    }
    let count = out.len();
    let evicted = match count {
        1 => "one of its pods was".into(),
        count => text!("{} of its pods were", count),
    };
    let because = text!("{} evicted from node {}, which reports {}", evicted, node.object.name, condition.kind);
    Some(Root { object: node.object.clone(), because })
}

fn stand(unready: usize) -> Redacted {
    match unready {
        1 => "one pod that is not ready stands".into(),
        unready => text!("{} pods that are not ready stand", unready),
    }
}

/// Whether a pod was made to take the place of one of `gone`, and waits for nothing but its turn.
fn takes_the_place(scene: &Scene, pod: &Pod, gone: &[&Pod], since: Timestamp) -> bool {
    let waits = pod.containers.iter().all(|container| match &container.state {
        State::Waiting { reason, .. } => matches!(reason.as_str(), "" | "ContainerCreating" | "PodInitializing"),
        State::Running { .. } => container.restarts == 0,
        State::Unknown => true,
        State::Terminated(_) => false,
    });
    let young = scene.read_at.as_second() - pod.created_at.as_second() <= ON_ITS_WAY_SECONDS;
    // A revision that came later has its own reasons.
    let alike = gone.iter().any(|gone| gone.template == pod.template && gone.owner == pod.owner);
    alike && waits && pod.created_at.as_second() >= since.as_second() && (pod.node.is_none() || young)
}

/// The pods that should be ready and are not.
fn unready(scene: &Scene) -> impl Iterator<Item = &Pod> {
    scene.pods.items().iter().filter(|pod| !pod.ready && !pod.is_finished())
}

/// The subject is healthy itself, and a Service that it was heard calling has no endpoint.
fn empty_service(scene: &Scene) -> Option<Root> {
    let pods = scene.pods.items();
    let healthy = !pods.is_empty() && pods.iter().all(|pod| pod.ready || pod.is_finished());
    // A workload that is short of pods has trouble of its own, even if those it has are ready.
    let short =
        scene.workload.known().and_then(Option::as_ref).is_some_and(|workload| workload.ready < workload.wanted);
    if !healthy || short || !scene.subject.kind.is_workload() {
        return None;
    }
    let own = |service: &crate::model::scene::Service| {
        // What refuses the subject's pods is not called by them.
        service.pods_selected > 0 || matches!(service.link, ServiceLink::Selects | ServiceLink::Refuses)
    };
    let empty = scene
        .services
        .items()
        .iter()
        .find(|s| s.ready_endpoints == 0 && !s.selector.is_empty() && !own(s) && s.object != scene.subject)?;
    Some(Root {
        object: empty.object.clone(),
        because: text!(
            "{} is healthy itself, and {}, {}, has no ready endpoint",
            scene.subject,
            empty.object,
            empty.because
        ),
    })
}

/// Words of a call that got no answer.
const UNANSWERED: [&str; 4] = ["refused", "timed out", "no route to host", "unreachable"];

/// The subject's log says that a Service does not answer, and no pod of the workload behind it is ready: that workload
/// is in trouble by itself. Only where the subject has no trouble that speaks for itself: its containers run, or the
/// complaint is the last that they said.
fn down_dependency(scene: &Scene) -> Option<Root> {
    let mut containers = unready(scene).flat_map(|pod| &pod.containers).filter(|container| !container.init);
    let runs = containers.all(|container| matches!(container.state, State::Running { .. }));
    scene.services.items().iter().find_map(|service| {
        let workload = service.behind.as_ref().filter(|_| service.ready_endpoints == 0 && service.failing.is_some())?;
        if workload.wanted == 0 || workload.ready > 0 || workload.object == scene.subject {
            return None;
        }
        let complains = |line: &LogLine| {
            let text = line.text.as_str();
            holds_name(text, service.object.name()) && UNANSWERED.iter().any(|word| text.contains(word))
        };
        let mut logs = scene.logs.items().iter();
        let heard = logs.any(|log| match runs {
            true => log.lines.iter().any(complains),
            false => log.lines.last().is_some_and(complains),
        });
        heard.then(|| Root {
            object: workload.object.clone(),
            because: text!(
                "{} cannot reach {}, and {} behind it has {} of {} pods ready",
                scene.subject,
                service.object,
                workload.object,
                workload.ready,
                workload.wanted
            ),
        })
    })
}

/// Whether a text holds this name, and no longer one that holds it.
fn holds_name(text: &str, name: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
    text.match_indices(name)
        .any(|(at, found)| edge(text[..at].chars().next_back()) && edge(text[at + found.len()..].chars().next()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::scene::{At, Condition, ContainerState, LogTail, Neighbour, Part, Service, Terminated};
    use crate::model::{EvidenceId, Kind};

    const AT: At = At { evidence: EvidenceId(1), segment: 0 };

    fn named(kind: Kind, name: &str) -> ObjectRef {
        ObjectRef::new(kind, Some("shop"), name).unwrap()
    }

    fn pod(name: &str, state: State) -> Pod {
        let container = ContainerState {
            name: "app".into(),
            init: false,
            image: "".into(),
            ready: false,
            restarts: 0,
            state,
            last: None,
            memory_limit: None,
        };
        Pod {
            object: named(Kind::Pod, name),
            uid: name.into(),
            created_at: Timestamp::UNIX_EPOCH,
            phase: "Running".into(),
            ready: false,
            node: None,
            template: None,
            labels: Default::default(),
            reason: "".into(),
            message: "".into(),
            conditions: Vec::new(),
            containers: vec![container],
            deleting: false,
            ends_at: None,
            finalizers: Vec::new(),
            owner: None,
            cpu_milli: 0,
            memory_bytes: 0,
            at: AT,
        }
    }

    /// The Deployment `shop/cart` with one pod in this state, whose log says these lines; `shop/prices` behind the
    /// Service of that name has so many of 1 pods ready.
    fn scene(state: State, lines: &[&'static str], ready: u32) -> Scene {
        let line = |text: &&'static str| LogLine { text: (*text).into(), count: 1, first_at: None, last_at: None };
        let log = LogTail {
            pod: named(Kind::Pod, "cart-1"),
            container: "app".into(),
            previous: false,
            lines: lines.iter().map(line).collect(),
            missing: None,
            at: AT,
        };
        let behind = Neighbour {
            object: named(Kind::Deployment, "prices"),
            wanted: 1,
            ready,
            rolled_out_at: None,
            images: Vec::new(),
            cpu_milli: 0,
            at: AT,
        };
        let service = Service {
            object: named(Kind::Service, "prices"),
            created_at: Timestamp::UNIX_EPOCH,
            changed_at: None,
            changed_by: None,
            selector: [("app".to_owned(), "prices".into())].into(),
            ports: Vec::new(),
            ready_endpoints: ready,
            not_ready_endpoints: 1 - ready,
            pods_selected: 1,
            near: Vec::new(),
            behind: Some(behind),
            failing: Some(Box::new(pod("prices-1", crashed()))),
            astray: Vec::new(),
            barred: None,
            external_name: None,
            link: ServiceLink::Logged,
            because: "named in the log of Pod shop/cart-1".into(),
            at: AT,
        };
        Scene {
            workload: Part::Known(None),
            pods: Part::Known(vec![pod("cart-1", state)]),
            logs: Part::Known(vec![log]),
            services: Part::Known(vec![service]),
            ..Scene::unread(named(Kind::Deployment, "cart"), Timestamp::UNIX_EPOCH, &"not read yet".into())
        }
    }

    fn crashed() -> State {
        State::Terminated(Terminated {
            reason: "Error".into(),
            exit_code: 1,
            message: "".into(),
            started_at: None,
            finished_at: None,
        })
    }

    const REFUSED: &str = "dial tcp: connection refused (prices:80)";

    #[test]
    fn a_dependency_that_is_down_is_where_the_fault_lies() {
        let root = of(&scene(State::Running { since: None }, &[REFUSED, "GET /basket 503"], 0)).unwrap();
        assert_eq!(root.object, named(Kind::Deployment, "prices"));
        assert!(root.because.as_str().contains("cannot reach Service shop/prices"), "{}", root.because);
        assert!(of(&scene(crashed(), &["starting", REFUSED], 0)).is_some(), "it was the last that it said");
    }

    #[test]
    fn a_subject_with_trouble_of_its_own_keeps_its_incident() {
        assert_eq!(of(&scene(crashed(), &[REFUSED, "FATAL bad configuration"], 0)), None);
        assert_eq!(of(&scene(State::Running { since: None }, &["connected to prices:80"], 0)), None, "no complaint");
        assert_eq!(of(&scene(State::Running { since: None }, &["refused by prices-eu:80"], 0)), None, "another name");
        assert_eq!(of(&scene(State::Running { since: None }, &[REFUSED], 1)), None, "it answers again");
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn condition(kind: &'static str, status: &'static str, since: i64) -> Condition {
        let (kind, status, changed_at) = (kind.into(), status.into(), Some(at(since)));
        Condition { kind, status, reason: "".into(), message: "".into(), changed_at, heartbeat_at: None }
    }

    /// The Deployment `shop/cart` with these pods at 2,000 s, on the node `n1`, which has this condition since 1,000 s.
    fn on_node(pods: Vec<Pod>, kind: &'static str, status: &'static str) -> Scene {
        let node = Node {
            object: ObjectRef::new(Kind::Node, None, "n1").unwrap(),
            ready: Some(kind != "Ready" || status == "True"),
            conditions: vec![condition(kind, status, 1_000)],
            labels: Default::default(),
            taints: Vec::new(),
            unschedulable: false,
            allocatable_cpu_milli: 0,
            allocatable_memory_bytes: 0,
            extended: Default::default(),
            requested_cpu_milli: None,
            requested_memory_bytes: None,
            pods: None,
            pods_not_ready: None,
            lease_renewed_at: None,
            lease_written_at: None,
            at: AT,
        };
        Scene {
            workload: Part::Known(None),
            pods: Part::Known(pods),
            nodes: Part::Known(vec![node]),
            ..Scene::unread(named(Kind::Deployment, "cart"), at(2_000), &"not read yet".into())
        }
    }

    /// A pod of one template that was made at this second and has not begun.
    fn young(name: &str, made: i64) -> Pod {
        let waiting = State::Waiting { reason: "ContainerCreating".into(), message: "".into() };
        Pod { created_at: at(made), template: Some("h7".into()), ..pod(name, waiting) }
    }

    fn evicted(second: i64, message: &'static str) -> Pod {
        Pod {
            phase: "Failed".into(),
            reason: "Evicted".into(),
            message: message.into(),
            node: Some("n1".into()),
            conditions: vec![condition("DisruptionTarget", "True", second)],
            ..young("cart-out", 10)
        }
    }

    const LOW: &str = "The node was low on resource: memory. Container app was using 2Gi, request is 0.";

    #[test]
    fn what_a_node_under_pressure_put_out_has_its_fault_there() {
        let pressed = |pods| of(&on_node(pods, "MemoryPressure", "True"));
        let root = pressed(vec![evicted(1_010, LOW), young("cart-new", 1_011)]).unwrap();
        assert_eq!(root.object.to_string(), "Node n1");
        assert_eq!(root.because.as_str(), "one of its pods was evicted from node n1, which reports MemoryPressure");
        assert!(pressed(vec![evicted(1_990, LOW)]).is_some(), "its place is taken already, a moment ago");
    }

    #[test]
    fn an_eviction_draws_no_other_fault_to_the_node() {
        let pressed = |pods| of(&on_node(pods, "MemoryPressure", "True"));
        let out = || evicted(1_010, LOW);
        assert_eq!(pressed(vec![evicted(100, LOW), young("cart-new", 1_500)]), None, "an earlier pressure");
        assert_eq!(pressed(vec![out()]), None, "it was made good since");
        let over = "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi.";
        assert_eq!(pressed(vec![evicted(1_010, over), young("cart-new", 1_011)]), None, "by its own limit");
        let newer = Pod { template: Some("h8".into()), ..young("cart-new", 1_500) };
        assert_eq!(pressed(vec![out(), newer]), None, "another revision has its own reasons");
        let stuck = Pod { node: Some("n2".into()), ..young("cart-new", 1_011) };
        assert_eq!(pressed(vec![out(), stuck]), None, "something else keeps it from starting");
        let crashing = Pod { node: Some("n1".into()), ..pod("cart-old", crashed()) };
        assert_eq!(pressed(vec![out(), crashing.clone()]), None, "it crashes, wherever it stands");
        assert_eq!(pressed(vec![crashing]), None);
        assert_eq!(of(&on_node(vec![out(), young("cart-new", 1_011)], "MemoryPressure", "False")), None);
    }

    #[test]
    fn what_takes_the_place_of_pods_on_a_lost_node_belongs_to_it() {
        let lost = |pods| of(&on_node(pods, "Ready", "Unknown"));
        let there = || Pod { node: Some("n1".into()), template: Some("h7".into()), ..pod("cart-1", running()) };
        let root = lost(vec![there(), young("cart-2", 1_300)]).unwrap();
        assert_eq!(root.object.to_string(), "Node n1");
        assert!(root.because.as_str().ends_with("and 1 more take their place"), "{}", root.because);
        let pulled = State::Waiting { reason: "ImagePullBackOff".into(), message: "".into() };
        let other = Pod { template: Some("h7".into()), created_at: at(1_300), ..pod("cart-2", pulled) };
        assert_eq!(lost(vec![there(), other]), None, "it has trouble of its own");
        assert_eq!(lost(vec![young("cart-2", 1_300)]), None, "nothing of it stands there");
        let well = Pod { node: Some("n1".into()), ..pod("cart-1", crashed()) };
        assert_eq!(of(&on_node(vec![well], "Ready", "True")), None, "a node that is well is only where it crashes");
    }

    fn running() -> State {
        State::Running { since: None }
    }
}
