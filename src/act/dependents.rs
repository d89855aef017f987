//! What depends on the pods that an action touches: the Services that select them, and the Ingresses that lead to those.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use serde_json::Value;

use crate::act::Actor;
use crate::model::approval::{Dependents, Few};
use crate::model::{Action, Kind, ObjectRef, Part};
use crate::observe::json;
use crate::observe::reader::Selector;
use crate::observe::typed::network::backends;
use crate::observe::typed::workload::selects;
use crate::redact::Redacted;
use crate::text;

/// Services, and Ingresses, of a namespace that are looked through: of more it is not known who depends on the pods.
const SEARCHED_MAX: usize = 500;
/// Objects that are named: a person reads them on a phone.
const NAMED_MAX: usize = 3;

/// Labels of the pods, by their namespace.
type Touched = BTreeMap<String, Vec<Value>>;

impl Actor {
    /// What depends on the pods that `action` touches; None when it touches none. What cannot be read is said to be
    /// unknown, and keeps nobody from being asked.
    pub(super) async fn dependents(&self, action: &Action, object: &Value) -> Option<Dependents> {
        let touched = match self.touched(action, object).await {
            Ok(touched) if touched.is_empty() => return None,
            Ok(touched) => touched,
            Err(why) => {
                return Some(Dependents { services: Part::Missing(why.clone()), ingresses: Part::Missing(why) });
            }
        };
        let each = join_all(touched.iter().map(|(namespace, labels)| self.before(namespace, labels))).await;
        let (services, ingresses): (Vec<_>, Vec<_>) = each.into_iter().unzip();
        Some(Dependents { services: few(services), ingresses: few(ingresses) })
    }

    async fn touched(&self, action: &Action, object: &Value) -> Result<Touched, Redacted> {
        let mut touched = Touched::new();
        let mut add = |namespace: &str, labels: Option<&Value>| {
            touched.entry(namespace.to_owned()).or_default().push(labels.cloned().unwrap_or_default());
        };
        let namespace = action.object().namespace();
        match action {
            Action::Drain { object: node, pods, .. } => {
                let on_node = Selector::fields(format!("spec.nodeName={}", node.name()));
                let here = self.0.reader.list(Kind::Pod, None, &on_node).await.map_err(|error| error.reason())?;
                let moves = |pod: &&Value| pods.iter().any(|moved| moved.uid == json::text(pod, "/metadata/uid"));
                for pod in here.iter().filter(moves) {
                    add(json::text(pod, "/metadata/namespace"), pod.pointer("/metadata/labels"));
                }
            }
            Action::DeletePod { .. } => add(namespace, object.pointer("/metadata/labels")),
            _ if action.moves_pods() => {
                let spec = object.pointer("/spec/jobTemplate/spec").or_else(|| object.get("spec"));
                add(namespace, spec.and_then(|spec| spec.pointer("/template/metadata/labels")));
            }
            _ => {}
        }
        Ok(touched)
    }

    /// The Services of one namespace that select pods with any of these labels, and the Ingresses that lead to those.
    async fn before(&self, namespace: &str, labels: &[Value]) -> (Found, Found) {
        let mut services = match self.all_of(Kind::Service, namespace).await {
            Ok(services) => services,
            Err(why) => return (Err(why.clone()), Err(why)),
        };
        services.retain(|service| {
            let wanted = service.pointer("/spec/selector").unwrap_or(&Value::Null);
            labels.iter().any(|labels| selects(wanted, labels))
        });
        if services.is_empty() {
            return (Ok(Vec::new()), Ok(Vec::new()));
        }
        let names: BTreeSet<&str> = services.iter().map(|service| json::text(service, "/metadata/name")).collect();
        let ingresses = self.all_of(Kind::Ingress, namespace).await.map(|mut ingresses| {
            ingresses.retain(|ingress| backends(ingress).iter().any(|name| names.contains(name)));
            references(&ingresses)
        });
        (Ok(references(&services)), ingresses)
    }

    async fn all_of(&self, kind: Kind, namespace: &str) -> Result<Vec<Value>, Redacted> {
        let ask = Selector::all().at_most(SEARCHED_MAX);
        let page = self.0.reader.page(kind, Some(namespace), &ask).await.map_err(|error| error.reason())?;
        if page.more {
            return Err(text!("there are more than {}", SEARCHED_MAX));
        }
        Ok(page.items)
    }
}

type Found = Result<Vec<ObjectRef>, Redacted>;

fn references(objects: &[Value]) -> Vec<ObjectRef> {
    objects.iter().filter_map(json::reference).collect()
}

/// All of them counted and the first ones named; unknown when it is of any namespace.
fn few(found: Vec<Found>) -> Part<Few> {
    match found.into_iter().collect::<Result<Vec<_>, _>>() {
        Ok(found) => {
            let mut named = found.concat();
            let more = u32::try_from(named.len().saturating_sub(NAMED_MAX)).unwrap_or(u32::MAX);
            named.truncate(NAMED_MAX);
            Part::Known(Few { named, more })
        }
        Err(why) => Part::Missing(why),
    }
}
