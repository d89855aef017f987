//! Where the fault of a subject lies when it is not the subject itself: its node, or a Service that it calls.

use crate::model::scene::Node;
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
    lost_node(scene).or_else(|| empty_service(scene))
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
