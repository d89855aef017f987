//! What stands behind a Service that does not answer: the workload whose pods it selects, and one of them in trouble.

use futures::future::try_join_all;
use serde_json::Value;

use crate::model::Kind;
use crate::model::scene::{LogTail, Service};
use crate::observe::Selector;
use crate::observe::json;
use crate::observe::scene::Look;
use crate::observe::scene::page::Page;
use crate::observe::scene::pods::is_troubled;
use crate::observe::typed::workload::selects;

/// Workloads of each kind that are looked through in another namespace.
const SEARCHED_MAX: usize = 200;

/// Texts that may name other Services.
pub(super) struct Said<'a> {
    pub(super) logs: &'a [LogTail],
    /// Messages of events that say why pods are refused.
    pub(super) refusals: Vec<String>,
}

/// As the API server has them.
#[derive(Default)]
pub(super) struct Backing {
    workload: Option<Value>,
    pod: Option<Value>,
}

impl Look<'_> {
    /// Read only for a Service that has no ready endpoint and is not in front of the subject itself. What cannot be read is left out: it is not
    /// worth losing the Service for.
    pub(super) async fn backing(&self, service: &Value, slices: &[Value], pods: &[Value], around: &[Value]) -> Backing {
        let wanted = service.pointer("/spec/selector").unwrap_or(&Value::Null);
        let own = self.root.pointer("/spec/template/metadata/labels").unwrap_or(&Value::Null);
        if selects(wanted, own) || slices.iter().any(serves) {
            return Backing::default();
        }
        let namespace = json::text(service, "/metadata/namespace");
        let elsewhere;
        let workloads = if Some(namespace) == self.namespace() {
            around
        } else {
            let ask = Selector::all().at_most(SEARCHED_MAX);
            let kinds = [Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet];
            let lists = kinds.map(|kind| self.reader.list(kind, Some(namespace), &ask));
            elsewhere = try_join_all(lists).await.unwrap_or_default().concat();
            &elsewhere
        };
        let made = |workload: &&Value| {
            let labels = workload.pointer("/spec/template/metadata/labels");
            labels.is_some_and(|labels| selects(wanted, labels))
        };
        let blank = crate::model::scene::At { evidence: crate::model::EvidenceId(0), segment: 0 };
        let troubled = |pod: &&Value| self.typed.pod(pod, None, blank).is_some_and(|pod| is_troubled(&pod));
        Backing { workload: workloads.iter().find(made).cloned(), pod: pods.iter().find(troubled).cloned() }
    }

    pub(super) fn tell_backing(&self, backing: Backing, service: &mut Service, page: &mut Page) {
        if let Some(workload) = &backing.workload {
            let at = page.object(workload, self.typed.redactor);
            service.behind = self.typed.neighbour(workload, at);
        }
        if let Some(pod) = &backing.pod {
            let at = page.object(pod, self.typed.redactor);
            service.failing = self.typed.pod(pod, None, at).map(Box::new);
        }
    }
}

/// Whether a slice has an endpoint that is ready; one that says nothing is, as kube-proxy has it.
fn serves(slice: &Value) -> bool {
    let ready = |endpoint: &Value| endpoint.pointer("/conditions/ready").and_then(Value::as_bool).unwrap_or(true);
    json::list(slice, "/endpoints").iter().any(ready)
}
