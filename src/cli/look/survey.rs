//! What is in a namespace, by a few lists: which objects' own status says that a closer look is due.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use serde_json::Value;

use crate::model::scene::{At, ScenePart, Workload};
use crate::model::{Kind, ObjectRef};
use crate::observe::json;
use crate::observe::owner::Owners;
use crate::observe::typed::Typed;
use crate::observe::typed::network::backends;
use crate::observe::typed::pod::{is_finished, is_ready};
use crate::observe::typed::workload::selects;
use crate::observe::{ReadError, Reader, Selector};

/// What is listed, all at once.
const LISTED: [Kind; 11] = [
    Kind::Deployment,
    Kind::StatefulSet,
    Kind::DaemonSet,
    Kind::Job,
    Kind::CronJob,
    Kind::Pod,
    Kind::Service,
    Kind::EndpointSlice,
    Kind::Ingress,
    Kind::PersistentVolumeClaim,
    Kind::HorizontalPodAutoscaler,
];
/// A claim is provided for within this, also in a slow cloud.
const CLAIM_SECONDS: i64 = 120;
/// The annotation by which a claim asks for its volume.
const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// A container that restarted this often, the last time within an hour, crashes.
const RESTARTS_MIN: i64 = 2;
const RECENT_SECONDS: i64 = 3600;

/// A namespace, counted.
#[derive(Default)]
pub(super) struct Survey {
    /// Objects whose status is not that of a healthy one.
    pub(super) suspects: BTreeSet<ObjectRef>,
    /// Workloads whose status is.
    pub(super) others: BTreeSet<ObjectRef>,
    pub(super) pods: usize,
    /// Kinds that could not be listed.
    pub(super) missing: Vec<(Kind, ReadError)>,
}

/// Lists and judges.
///
/// # Errors
/// When nothing at all can be listed: why the first list failed.
pub(super) async fn read(reader: &Reader, namespace: &str) -> Result<Survey, ReadError> {
    let list = |kind: Kind| async move { (kind, reader.list(kind, Some(namespace), &Selector::all()).await) };
    let answers: Vec<_> = stream::iter(LISTED).map(list).buffered(LISTED.len()).collect().await;
    let mut listed = BTreeMap::new();
    let mut missing = Vec::new();
    for (kind, answer) in answers {
        match answer {
            Ok(items) => drop(listed.insert(kind, items)),
            Err(error) => missing.push((kind, error)),
        }
    }
    if let Some((_, error)) = missing.first().filter(|_| listed.is_empty()) {
        return Err(error.clone());
    }
    let of = |kind: Kind| listed.get(&kind).map_or(&[][..], Vec::as_slice);
    let mut survey = Survey { pods: of(Kind::Pod).len(), missing, ..Survey::default() };
    for kind in &LISTED[..5] {
        survey.workloads(reader, *kind, of(*kind));
    }
    survey.pods(reader, of(Kind::Pod)).await;
    survey.runs(of(Kind::Job));
    let known = |kind: Kind| listed.contains_key(&kind);
    if known(Kind::Pod) && known(Kind::EndpointSlice) {
        survey.services(reader, of(Kind::Service), of(Kind::EndpointSlice), of(Kind::Pod)).await;
    }
    if known(Kind::Service) {
        survey.ingresses(of(Kind::Ingress), of(Kind::Service));
    }
    survey.autoscalers(of(Kind::HorizontalPodAutoscaler));
    survey.claims(of(Kind::PersistentVolumeClaim), of(Kind::Pod), reader.clock().now());
    let suspects = &survey.suspects;
    survey.others.retain(|object| !suspects.contains(object));
    Ok(survey)
}

impl Survey {
    /// By their own counts and conditions.
    fn workloads(&mut self, reader: &Reader, kind: Kind, items: &[Value]) {
        let typed = Typed { redactor: reader.redactor() };
        let blank = At { evidence: ScenePart::Subject.evidence(), segment: 0 };
        let newest = newest_runs(items);
        for value in items {
            let Some(workload) = typed.workload(value, blank) else { continue };
            // An older run of a CronJob is history.
            if kind == Kind::Job
                && json::controller(value).is_some_and(|(.., uid)| newest.get(uid) != Some(&json::created(value)))
            {
                continue;
            }
            let object = workload.object.clone();
            if is_well(&workload) {
                self.others.insert(object)
            } else {
                self.suspects.insert(object)
            };
        }
    }

    /// What owns pods that are not ready, or that crash again and again.
    async fn pods(&mut self, reader: &Reader, pods: &[Value]) {
        let owners = Owners::new(reader);
        let now = reader.clock().now();
        for pod in pods.iter().filter(|pod| is_ill(pod, now)) {
            let owner = owners.of(pod).await.ok().flatten();
            // A mirror pod belongs to its node, which is not of this namespace.
            let owner = owner.filter(|owner| owner.kind != Kind::Node).or_else(|| json::reference(pod));
            self.suspects.extend(owner.filter(|owner| owner.kind != Kind::Job || self.knows(owner)));
        }
    }

    fn knows(&self, object: &ObjectRef) -> bool {
        self.suspects.contains(object) || self.others.contains(object)
    }

    /// A CronJob is told by its newest run, where that is the one to look at.
    fn runs(&mut self, jobs: &[Value]) {
        for job in jobs {
            let Some(object) = json::reference(job).filter(|object| self.suspects.contains(object)) else { continue };
            let Some(("CronJob", name, _)) = json::controller(job) else { continue };
            if let Some(cron_job) = ObjectRef::new(Kind::CronJob, Some(object.namespace()), name) {
                self.suspects.remove(&cron_job);
            }
        }
    }

    /// Services that select something and have no ready endpoint, unless what they select is looked at already.
    async fn services(&mut self, reader: &Reader, services: &[Value], slices: &[Value], pods: &[Value]) {
        let owners = Owners::new(reader);
        for service in services {
            let Some(object) = json::reference(service) else { continue };
            let selector = service.pointer("/spec/selector").unwrap_or(&Value::Null);
            let mine = |slice: &&Value| {
                let label = slice.pointer("/metadata/labels").and_then(|all| all.get("kubernetes.io/service-name"));
                label.and_then(Value::as_str) == Some(object.name())
            };
            let mut endpoints = slices.iter().filter(mine).flat_map(|slice| json::list(slice, "/endpoints"));
            let ready = |e: &Value| e.pointer("/conditions/ready").and_then(Value::as_bool).unwrap_or(true);
            if json::pairs(selector, "").next().is_none() || endpoints.any(ready) {
                continue;
            }
            let mut covered = false;
            for pod in pods {
                let labels = pod.pointer("/metadata/labels").unwrap_or(&Value::Null);
                if selects(selector, labels) {
                    let owner = owners.of(pod).await.ok().flatten();
                    covered |= owner.is_some_and(|owner| self.suspects.contains(&owner));
                }
            }
            if !covered {
                self.suspects.insert(object);
            }
        }
    }

    /// Ingresses that nothing serves, or whose Service does not exist.
    fn ingresses(&mut self, ingresses: &[Value], services: &[Value]) {
        let names: BTreeSet<&str> = services.iter().map(|service| json::text(service, "/metadata/name")).collect();
        for ingress in ingresses {
            let served = !json::list(ingress, "/status/loadBalancer/ingress").is_empty();
            if !served || backends(ingress).iter().any(|name| !names.contains(name)) {
                self.suspects.extend(json::reference(ingress));
            }
        }
    }
}

impl Survey {
    /// Workloads whose autoscaler wants more than it may, or cannot read what it scales by.
    fn autoscalers(&mut self, autoscalers: &[Value]) {
        for autoscaler in autoscalers {
            let conditions = json::list(autoscaler, "/status/conditions");
            let reason = |kind: &str, status: &str| {
                let is = |one: &&Value| json::text(one, "/type") == kind && json::text(one, "/status") == status;
                conditions.iter().find(is).map(|one| json::text(one, "/reason"))
            };
            let limited = reason("ScalingLimited", "True") == Some("TooManyReplicas");
            // Scaled to nothing by hand, which switches it off.
            let blind = reason("ScalingActive", "False").is_some_and(|reason| reason != "ScalingDisabled");
            let target = Kind::named(json::text(autoscaler, "/spec/scaleTargetRef/kind")).and_then(|kind| {
                let namespace = json::text(autoscaler, "/metadata/namespace");
                ObjectRef::new(kind, Some(namespace), json::text(autoscaler, "/spec/scaleTargetRef/name"))
            });
            let target = target.filter(|target| (limited || blind) && self.knows(target));
            self.suspects.extend(target);
        }
    }

    /// Claims that have lost their volume, or wait for one though a pod or a provisioner has been at it.
    fn claims(&mut self, claims: &[Value], pods: &[Value], now: Timestamp) {
        let volumes = pods.iter().flat_map(|pod| json::list(pod, "/spec/volumes"));
        let mounted: BTreeSet<&str> =
            volumes.map(|volume| json::text(volume, "/persistentVolumeClaim/claimName")).collect();
        for claim in claims {
            let annotations = claim.pointer("/metadata/annotations");
            let asked = annotations.is_some_and(|all| all.get(PROVISIONER).is_some());
            let waited_for = asked || mounted.contains(json::text(claim, "/metadata/name"));
            let age = now.as_second() - json::created(claim).as_second();
            let ill = match json::text(claim, "/status/phase") {
                "Lost" => true,
                "Pending" => waited_for && age > CLAIM_SECONDS,
                _ => false,
            };
            self.suspects.extend(json::reference(claim).filter(|_| ill));
        }
    }
}

/// When the newest Job of each owner was made, by the owner's uid.
fn newest_runs(jobs: &[Value]) -> BTreeMap<&str, Timestamp> {
    let mut newest = BTreeMap::new();
    for job in jobs {
        let Some((.., uid)) = json::controller(job) else { continue };
        let at = newest.entry(uid).or_insert(Timestamp::UNIX_EPOCH);
        *at = json::created(job).max(*at);
    }
    newest
}

/// Whether a workload's own status leaves nothing to ask.
fn is_well(workload: &Workload) -> bool {
    let says = |kind: &str, status: &str| {
        workload.conditions.iter().any(|one| one.kind.as_str() == kind && one.status.as_str() == status)
    };
    match workload.object.kind {
        // One that runs is looked at: it may wait for ever.
        Kind::Job => says("Complete", "True"),
        Kind::CronJob => match (workload.last_scheduled_at, workload.last_succeeded_at) {
            (Some(scheduled), Some(succeeded)) => workload.suspended || succeeded >= scheduled,
            (scheduled, _) => workload.suspended || scheduled.is_none(),
        },
        _ => {
            workload.ready >= workload.wanted
                && workload.updated >= workload.wanted
                && workload.observed_generation >= workload.generation
                && !says("Progressing", "False")
                && !says("ReplicaFailure", "True")
        }
    }
}

fn is_ill(pod: &Value, now: Timestamp) -> bool {
    let crashing = |container: &Value| {
        let ended = json::time(container, "/lastState/terminated/finishedAt");
        json::number(container, "/restartCount").unwrap_or(0) >= RESTARTS_MIN
            && ended.is_some_and(|ended| now.as_second() - ended.as_second() <= RECENT_SECONDS)
    };
    let deleting = pod.pointer("/metadata/deletionTimestamp").is_some();
    !is_finished(pod)
        && !deleting
        && (!is_ready(pod) || json::list(pod, "/status/containerStatuses").iter().any(crashing))
}
