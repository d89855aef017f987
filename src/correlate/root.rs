//! Where the fault of a subject lies when it is not the subject itself: its node, or what it calls.

use crate::model::scene::{LogLine, Node, State};
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
    lost_node(scene).or_else(|| empty_service(scene)).or_else(|| down_dependency(scene))
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

fn is_finished(pod: &crate::model::scene::Pod) -> bool {
    matches!(pod.phase.as_str(), "Succeeded" | "Failed")
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

    #[test]
    fn a_subject_with_trouble_of_its_own_keeps_its_incident() {
        assert_eq!(of(&scene(crashed(), &[REFUSED, "FATAL bad configuration"], 0)), None);
        assert_eq!(of(&scene(State::Running { since: None }, &["connected to prices:80"], 0)), None, "no complaint");
        assert_eq!(of(&scene(State::Running { since: None }, &["refused by prices-eu:80"], 0)), None, "another name");
        assert_eq!(of(&scene(State::Running { since: None }, &[REFUSED], 1)), None, "it answers again");
    }
}
