//! Where the fault of a subject lies when it is not the subject itself: its node, or what it calls.

use crate::model::scene::{Condition, LogLine, Node, Pod, State};
use crate::model::{ObjectRef, Scene};
use crate::redact::Redacted;
use crate::text;

/// Conditions of a node for which its kubelet evicts pods.
const EVICTING: [&str; 3] = ["MemoryPressure", "DiskPressure", "PIDPressure"];
/// A condition is seen up to this long after the shortage began, for which pods may be evicted already: the kubelet
/// reports its status every 10 s, or within 5 min where nothing changes.
const SEEN_LATE_SECONDS: i64 = 300;

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

/// Every pod in trouble stands on one node that is not ready.
fn lost_node(scene: &Scene) -> Option<Root> {
    let broken: Vec<_> = scene.pods.items().iter().filter(|pod| !pod.ready && !is_finished(pod)).collect();
    let mut names = broken.iter().map(|pod| pod.node.as_ref());
    let first = names.next()??;
    if !names.all(|name| name == Some(first)) {
        return None;
    }
    let node = scene.nodes.items().iter().find(|node| node.object.name() == first.as_str())?;
    if node.object == scene.subject || !is_lost(node) {
        return None;
    }
    let count = broken.len();
    Some(Root {
        object: node.object.clone(),
        because: text!("its {} not-ready pod(s) all stand on node {}, which is not ready", count, node.object.name),
    })
}

fn is_lost(node: &Node) -> bool {
    node.ready != Some(true)
}

fn is_finished(pod: &Pod) -> bool {
    matches!(pod.phase.as_str(), "Succeeded" | "Failed")
}

/// The kubelet of one node that is short of something evicted pods of the subject, and nothing else is the matter: what
/// is not ready waits for its turn. A pod that has trouble of its own does not have it from the node that it stands on.
fn pressed_node(scene: &Scene) -> Option<Root> {
    let pods = scene.pods.items();
    let pressed = |pod: &Pod| {
        let node = scene
            .nodes
            .items()
            .iter()
            .find(|node| pod.node.as_ref().is_some_and(|on| on.as_str() == node.object.name()))?;
        let condition = pressure(node).filter(|condition| is_evicted_since(pod, condition))?;
        Some((node, condition))
    };
    let evicted: Vec<(&Node, &Condition)> = pods.iter().filter_map(pressed).collect();
    let (node, condition) = *evicted.first()?;
    let one_node = evicted.iter().all(|(other, _)| other.object == node.object);
    let wait = pods.iter().filter(|pod| !pod.ready && !is_finished(pod)).all(waits);
    if !one_node || !wait || node.object == scene.subject {
        return None;
    }
    let count = evicted.len();
    let because =
        text!("{} of its pods were evicted from node {}, which reports {}", count, node.object.name, condition.kind);
    Some(Root { object: node.object.clone(), because })
}

fn pressure(node: &Node) -> Option<&Condition> {
    node.conditions.iter().find(|c| EVICTING.contains(&c.kind.as_str()) && c.status.as_str() == "True")
}

/// Whether the pod was evicted under this pressure, not an earlier one. Its condition `DisruptionTarget` tells when, in
/// clusters that have it.
fn is_evicted_since(pod: &Pod, pressure: &Condition) -> bool {
    let at = pod.conditions.iter().find(|c| c.kind.as_str() == "DisruptionTarget").and_then(|c| c.changed_at);
    let earlier = match (at, pressure.changed_at) {
        (Some(at), Some(since)) => at.as_second() < since.as_second() - SEEN_LATE_SECONDS,
        _ => false,
    };
    pod.phase.as_str() == "Failed" && pod.reason.as_str() == "Evicted" && !earlier
}

/// Whether a pod that is not ready has not begun yet: no node takes it, or its containers are being made.
fn waits(pod: &Pod) -> bool {
    pod.containers.iter().all(|container| match &container.state {
        State::Waiting { reason, .. } => matches!(reason.as_str(), "" | "ContainerCreating" | "PodInitializing"),
        _ => false,
    })
}

/// The subject is healthy itself, and a Service that it was heard calling has no endpoint.
fn empty_service(scene: &Scene) -> Option<Root> {
    let pods = scene.pods.items();
    let healthy = !pods.is_empty() && pods.iter().all(|pod| pod.ready || is_finished(pod));
    // A workload that is short of pods has trouble of its own, even if those it has are ready.
    let short =
        scene.workload.known().and_then(Option::as_ref).is_some_and(|workload| workload.ready < workload.wanted);
    if !healthy || short || !scene.subject.kind.is_workload() {
        return None;
    }
    let own = |service: &crate::model::scene::Service| {
        // What refuses the subject's pods is not called by them.
        let because = service.because.as_str();
        service.pods_selected > 0 || because.contains("selects the subject") || because.contains("refuses the subject")
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
    let troubled = scene.pods.items().iter().filter(|pod| !pod.ready && !is_finished(pod));
    let mut containers = troubled.flat_map(|pod| &pod.containers).filter(|container| !container.init);
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
    use jiff::Timestamp;

    use super::*;
    use crate::model::scene::{At, ContainerState, LogTail, Neighbour, Part, Pod, Service, Terminated};
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

    /// The Deployment `shop/cart` with these pods, on the node `n1` that reports memory pressure since 1,000 s.
    fn pressed(pods: Vec<Pod>) -> Scene {
        let condition = Condition {
            kind: "MemoryPressure".into(),
            status: "True".into(),
            reason: "".into(),
            message: "".into(),
            changed_at: Some(Timestamp::from_second(1_000).unwrap()),
            heartbeat_at: None,
        };
        let node = Node {
            object: ObjectRef::new(Kind::Node, None, "n1").unwrap(),
            ready: Some(true),
            conditions: vec![condition],
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
            at: AT,
        };
        Scene {
            workload: Part::Known(None),
            pods: Part::Known(pods),
            nodes: Part::Known(vec![node]),
            ..Scene::unread(named(Kind::Deployment, "cart"), Timestamp::UNIX_EPOCH, &"not read yet".into())
        }
    }

    fn evicted(name: &str, at_s: i64) -> Pod {
        let condition = Condition {
            kind: "DisruptionTarget".into(),
            status: "True".into(),
            reason: "TerminationByKubelet".into(),
            message: "".into(),
            changed_at: Some(Timestamp::from_second(at_s).unwrap()),
            heartbeat_at: None,
        };
        Pod {
            phase: "Failed".into(),
            reason: "Evicted".into(),
            node: Some("n1".into()),
            conditions: vec![condition],
            containers: Vec::new(),
            ..pod(name, crashed())
        }
    }

    #[test]
    fn pods_that_a_node_under_pressure_evicted_have_their_fault_there() {
        let waits = Pod { containers: Vec::new(), ..pod("cart-2", crashed()) };
        let root = of(&pressed(vec![evicted("cart-1", 990), waits])).unwrap();
        assert_eq!(root.object, ObjectRef::new(Kind::Node, None, "n1").unwrap());
        assert_eq!(root.because.as_str(), "1 of its pods were evicted from node n1, which reports MemoryPressure");
    }

    #[test]
    fn pods_that_only_stand_on_a_node_under_pressure_are_not_dragged_in() {
        let on_node = |pod: Pod| Pod { node: Some("n1".into()), ..pod };
        let crashes = || on_node(pod("cart-1", crashed()));
        assert_eq!(of(&pressed(vec![crashes()])), None, "it crashes by itself");
        assert_eq!(of(&pressed(vec![evicted("cart-0", 990), crashes()])), None, "it has trouble of its own as well");
        assert_eq!(of(&pressed(vec![evicted("cart-0", 500)])), None, "it was evicted under an earlier pressure");
        let mut scene = pressed(vec![evicted("cart-0", 990)]);
        let Part::Known(nodes) = &mut scene.nodes else { panic!() };
        nodes[0].conditions[0].status = "False".into();
        assert_eq!(of(&scene), None, "the node is well again");
    }

    #[test]
    fn a_subject_with_trouble_of_its_own_keeps_its_incident() {
        assert_eq!(of(&scene(crashed(), &[REFUSED, "FATAL bad configuration"], 0)), None);
        assert_eq!(of(&scene(State::Running { since: None }, &["connected to prices:80"], 0)), None, "no complaint");
        assert_eq!(of(&scene(State::Running { since: None }, &["refused by prices-eu:80"], 0)), None, "another name");
        assert_eq!(of(&scene(State::Running { since: None }, &[REFUSED], 1)), None, "it answers again");
    }
}
