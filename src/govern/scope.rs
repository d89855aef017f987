//! Scope: what the calls of one incident may read and change; code widens it, a model cannot. Pure.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::model::{Evidence, Finding, Incident, Kind, Name, ObjectRef, Part, Role, Scene, Source};
use crate::redact::Redacted;
use crate::text;

/// Namespaces that a refusal names.
const NAMED_MAX: usize = 10;

/// What may be read for one incident.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    namespaces: BTreeSet<Name>,
    nodes: BTreeSet<Name>,
}

impl Scope {
    /// The namespaces of the incident's signals and of what the scene reached from its subject, and their nodes.
    pub fn of(incident: &Incident, scene: Option<&Scene>) -> Self {
        let mut scope = Self::default();
        scope.widen(&incident.subject);
        incident.also.iter().for_each(|object| scope.widen(object));
        if let Some(scene) = scene {
            scope.widen_by(scene);
        }
        scope
    }

    /// Takes in an object's namespace, or the node or namespace that it is.
    pub fn widen(&mut self, object: &ObjectRef) {
        match (object.kind, &object.namespace) {
            (_, Some(namespace)) => drop(self.namespaces.insert(namespace.clone())),
            (Kind::Node, None) => drop(self.nodes.insert(object.name.clone())),
            (Kind::Namespace, None) => drop(self.namespaces.insert(object.name.clone())),
            _ => {}
        }
    }

    fn widen_by(&mut self, scene: &Scene) {
        for pod in scene.pods.items() {
            self.widen(&pod.object);
            self.nodes.extend(pod.node.as_ref().and_then(|node| Name::parse(node.as_str())));
        }
        scene.nodes.items().iter().for_each(|node| self.widen(&node.object));
        scene.services.items().iter().for_each(|service| self.widen(&service.object));
        scene.ingresses.items().iter().for_each(|ingress| self.widen(&ingress.object));
        scene.changes.items().iter().for_each(|change| self.widen(&change.object));
        scene.claims.items().iter().for_each(|claim| self.widen(&claim.object));
    }

    /// The namespaces that may be read.
    pub fn namespaces(&self) -> impl Iterator<Item = &Name> {
        self.namespaces.iter()
    }

    /// Whether these arguments of a read stay within, else why not. What names no place is for the tool to refuse.
    pub fn allows(&self, arguments: &Map<String, Value>) -> Result<(), Redacted> {
        let text = |key: &str| arguments.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let kind = text("kind").and_then(Kind::named);
        if arguments.get("namespace").is_some_and(|value| !value.is_string() && !value.is_null()) {
            return Err("`namespace` is one name".into());
        }
        if let Some(namespace) = text("namespace")
            && !self.namespaces.iter().any(|name| name.as_str() == namespace)
        {
            return Err(self.outside(namespace));
        }
        match (kind, text("name")) {
            (Some(Kind::Node), Some(name)) if !self.nodes.iter().any(|node| node.as_str() == name) => {
                Err("this node is not part of the incident".into())
            }
            (Some(Kind::Namespace), Some(name)) if !self.namespaces.iter().any(|own| own.as_str() == name) => {
                Err(self.outside(name))
            }
            _ => Ok(()),
        }
    }

    fn outside(&self, namespace: &str) -> Redacted {
        let own: Vec<Redacted> = self.namespaces.iter().take(NAMED_MAX).map(|name| text!("{}", name)).collect();
        let own = if own.is_empty() { "none".into() } else { Redacted::join(&own, ", ") };
        match Name::parse(namespace) {
            Some(name) => text!("namespace {} is not part of the incident; its namespaces: {}", name, own),
            None => text!("that namespace is not part of the incident; its namespaces: {}", own),
        }
    }
}

/// Whether `object` may be changed for this incident, else why not: its subject, the subject of another that code saw to
/// be one with it, or what an edge of the scene connects to it and a finding names as changed or unhealthy. Neither a
/// citation nor a merge by a model's word widens this.
pub fn may_change(
    incident: &Incident,
    scene: Option<&Scene>,
    findings: &[Finding],
    object: &ObjectRef,
) -> Result<(), Redacted> {
    let took_in = incident.absorbed.iter().any(|merge| !merge.by_model && merge.subject == *object);
    if *object == incident.subject || incident.was.as_ref() == Some(object) || took_in {
        return Ok(());
    }
    let named = findings
        .iter()
        .any(|finding| finding.about == *object && !matches!(finding.role, Role::RuledOut | Role::Context));
    let connected = scene.is_some_and(|scene| connects(scene, object));
    let named = named || scene.is_some_and(|scene| is_unready_pod(scene, object));
    match (connected, named) {
        (true, true) => Ok(()),
        (false, _) => Err(text!("{} is not what this incident is about, nor connected to it", object)),
        (true, false) => Err(text!("no finding says that {} has changed or is unhealthy", object)),
    }
}

/// Whether anything of `object` was read in this incident: what nobody has looked at is not changed on a model's word.
pub fn was_read(scene: Option<&Scene>, evidence: &[Evidence], object: &ObjectRef) -> bool {
    let read = scene.is_some_and(|scene| {
        let subject = scene.subject == *object && matches!(scene.workload, Part::Known(Some(_)));
        subject || scene.subject != *object && connects(scene, object)
    });
    let mut sources = evidence.iter().flat_map(Evidence::segments).map(|segment| &segment.source);
    read || sources.any(|source| match source {
        Source::Object { object: of } | Source::Event { object: of, .. } | Source::Rollout { object: of } => {
            of == object
        }
        Source::Log { .. } | Source::Metric { .. } | Source::Query { .. } | Source::Summary => false,
    })
}

/// Whether it is a pod of the scene that is not ready: its own state says what a finding would.
fn is_unready_pod(scene: &Scene, object: &ObjectRef) -> bool {
    scene.pods.items().iter().any(|pod| pod.object == *object && !pod.ready)
}

fn connects(scene: &Scene, object: &ObjectRef) -> bool {
    let owners = scene.pods.items().iter().filter_map(|pod| pod.owner.as_ref());
    let behind = scene.services.items().iter().flat_map(|service| &service.near).filter_map(|near| near.of.as_ref());
    let changed = scene.changes.items().iter().map(|change| &change.object);
    let services = scene.services.items().iter().map(|service| &service.object);
    let pods = scene.pods.items().iter().map(|pod| &pod.object);
    let nodes = scene.nodes.items().iter().map(|node| &node.object);
    let mut all = owners.chain(behind).chain(changed).chain(services).chain(pods).chain(nodes);
    scene.subject == *object || all.any(|connected| connected == object)
}
