//! The pods of a subject, whatever kind it is.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::model::scene::{At, Pod, ScenePart, State};
use crate::model::{Kind, ObjectRef};
use crate::observe::ReadError;
use crate::observe::Selector;
use crate::observe::json;
use crate::observe::owner::owner;
use crate::observe::scene::named::near;
use crate::observe::scene::page::Page;
use crate::observe::scene::{Look, Told};
use crate::observe::tables::{POD_COLUMNS, pod_row, table};
use crate::observe::typed::network::backends;
use crate::observe::typed::pod::is_finished;
use crate::observe::typed::workload::selector;
use crate::text;

/// Pods that a scene holds: a node has at most 110 by default, larger workloads are alike.
pub(super) const PODS_MAX: usize = 250;
/// Pods that stand as objects in the evidence, those in trouble first; the others are rows of a table.
const SHOWN_MAX: usize = 20;
/// Runs of a CronJob whose pods are read.
const RUNS_MAX: usize = 3;
/// Pods of a namespace that are looked through for a volume.
const SEARCHED_MAX: usize = 1_000;

impl Look<'_> {
    pub(super) async fn pods(&self) -> Result<(Told<Vec<Pod>>, Vec<Value>), ReadError> {
        let (raw, more) = self.raw_pods().await?;
        let mut owned = Vec::with_capacity(raw.len());
        for value in raw {
            let up = self.owners.of(&value).await?;
            owned.push((value, up));
        }
        if self.subject.kind.is_workload() || self.subject.kind == Kind::ReplicaSet {
            // A sloppy selector also finds what others own; a CronJob's pods belong to its Jobs.
            let mine = |up: &Option<ObjectRef>| up.as_ref() == Some(self.subject) || self.subject.kind == Kind::CronJob;
            owned.retain(|(_, up)| mine(up));
        }
        let mut page = Page::new(ScenePart::Pods);
        let blank = At { evidence: ScenePart::Pods.evidence(), segment: 0 };
        let mut pods: Vec<(Pod, Value)> =
            owned.into_iter().filter_map(|(value, up)| Some((self.typed.pod(&value, up, blank)?, value))).collect();
        pods.sort_by_key(|(pod, _)| (!is_troubled(pod), std::cmp::Reverse(pod.created_at)));
        let now = self.reader.clock().now();
        for (pod, value) in pods.iter_mut().take(SHOWN_MAX) {
            pod.at = page.object(value, self.typed.redactor);
        }
        if pods.len() > SHOWN_MAX || more {
            let rows = pods.iter().skip(SHOWN_MAX).map(|(pod, _)| pod_row(pod, now));
            let rest = table(&POD_COLUMNS, rows);
            let at = page.summary(if more { text!("{}\n(more than {} pods)", rest, PODS_MAX) } else { rest });
            pods.iter_mut().skip(SHOWN_MAX).for_each(|(pod, _)| pod.at = at);
        }
        let (pods, raw) = pods.into_iter().unzip();
        Ok((Told { value: pods, page }, raw))
    }

    async fn raw_pods(&self) -> Result<(Vec<Value>, bool), ReadError> {
        let namespace = self.namespace();
        let list = async |selector: Selector| {
            let listed = self.reader.page(Kind::Pod, namespace, &selector.at_most(PODS_MAX)).await?;
            Ok((listed.items, listed.more))
        };
        match self.subject.kind {
            Kind::Pod => Ok((vec![self.root.clone()], false)),
            Kind::Node => list(Selector::fields(format!("spec.nodeName={}", self.subject.name()))).await,
            Kind::Namespace => {
                let ask = Selector::all().at_most(PODS_MAX);
                let listed = self.reader.page(Kind::Pod, Some(self.subject.name()), &ask).await?;
                Ok((listed.items, listed.more))
            }
            Kind::CronJob => match self.runs().await? {
                jobs if jobs.is_empty() => Ok((Vec::new(), false)),
                jobs => list(Selector::labels(format!("job-name in ({})", jobs.join(",")))).await,
            },
            Kind::Ingress => {
                let mut pods = Vec::new();
                for name in backends(&self.root) {
                    let Some(service) = ObjectRef::new(Kind::Service, namespace, name) else { continue };
                    let service = self.reader.get(&service).await?;
                    if let Some(selector) = service.as_ref().and_then(selector) {
                        pods.extend(list(Selector::labels(selector)).await?.0);
                    }
                }
                pods.truncate(PODS_MAX);
                Ok((pods, false))
            }
            Kind::PersistentVolumeClaim => {
                let ask = Selector::all().at_most(SEARCHED_MAX);
                let mut pods = self.reader.list(Kind::Pod, namespace, &ask).await?;
                pods.retain(|pod| claim_names(pod).contains(self.subject.name()));
                Ok((pods, false))
            }
            _ => {
                let Some(selector) = selector(&self.root) else { return Ok((Vec::new(), false)) };
                let found = list(Selector::labels(selector)).await?;
                if found.0.is_empty() && self.subject.kind == Kind::Service {
                    let all = list(Selector::all()).await?;
                    let wanted = self.root.pointer("/spec/selector").unwrap_or(&Value::Null);
                    let mut pods = all.0;
                    pods.retain(|pod| near_miss(wanted, pod).is_some());
                    return Ok((pods, all.1));
                }
                Ok(found)
            }
        }
    }

    /// Names of a CronJob's newest Jobs.
    async fn runs(&self) -> Result<Vec<String>, ReadError> {
        let mut jobs = self.reader.list(Kind::Job, self.namespace(), &Selector::all()).await?;
        let mine = |job: &Value| {
            json::controller(job).is_some_and(|(kind, name, _)| kind == "CronJob" && name == self.subject.name())
        };
        jobs.retain(mine);
        jobs.sort_by_key(|job| std::cmp::Reverse(json::created(job)));
        Ok(jobs.iter().take(RUNS_MAX).map(|job| json::text(job, "/metadata/name").to_owned()).collect())
    }
}

/// The label that keeps a pod out of a Service: it carries all labels of the selector but this one. Of a selector with
/// one label alone, only a value that is nearly the wanted one counts. Gives the label, wanted, found.
pub(super) fn near_miss<'a>(selector: &'a Value, pod: &'a Value) -> Option<(&'a str, &'a str, &'a str)> {
    let labels = pod.pointer("/metadata/labels").unwrap_or(&Value::Null);
    let value = |key: &str| labels.get(key).and_then(Value::as_str).unwrap_or("");
    let pairs = || json::pairs(selector, "").filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
    let mut off = pairs().filter(|(key, wanted)| value(key) != *wanted);
    let (key, wanted) = off.next()?;
    let alone = off.next().is_none();
    let close = pairs().count() > 1 || near(value(key), wanted);
    (alone && close && !is_finished(pod)).then(|| (key, wanted, value(key)))
}

/// Names of the PersistentVolumeClaims that a pod mounts.
pub(super) fn claim_names(pod: &Value) -> BTreeSet<&str> {
    let volumes = json::list(pod, "/spec/volumes").iter();
    volumes.map(|v| json::text(v, "/persistentVolumeClaim/claimName")).filter(|name| !name.is_empty()).collect()
}

/// Whether a pod does not do what it should: not ready though it should be, or on its way out and stuck.
pub(super) fn is_troubled(pod: &Pod) -> bool {
    if pod.phase.as_str() == "Succeeded" || pod.is_left_over() {
        return false;
    }
    let loops = |state: &State| matches!(state, State::Waiting { .. });
    !pod.ready || pod.containers.iter().any(|container| loops(&container.state))
}

/// The ReplicaSet (or other direct controller) of a pod.
pub(super) fn direct(pod: &Value) -> Option<ObjectRef> {
    owner(pod)
}
