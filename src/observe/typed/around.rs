//! What stands around a workload: nodes, ConfigMaps, claims, autoscalers, budgets, quotas.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::scene::{At, Autoscaler, Budget, Claim, Condition, ConfigMap, Node, PersistentVolume, Quota};
use crate::model::{Kind, ObjectRef};
use crate::observe::json;
use crate::observe::typed::{Typed, cpu_milli, memory_bytes};
use crate::redact::Redacted;
use crate::text;

impl Typed<'_> {
    /// A node; what its pods ask for is for the caller to add.
    pub fn node(&self, value: &Value, lease: Option<&Value>, at: At) -> Option<Node> {
        let ready = json::list(value, "/status/conditions").iter().find(|c| json::text(c, "/type") == "Ready");
        Some(Node {
            object: json::reference(value)?,
            ready: match ready.map(|condition| json::text(condition, "/status")) {
                Some("True") => Some(true),
                Some("False") => Some(false),
                _ => None,
            },
            conditions: self.conditions(value),
            labels: self.map(value, "/metadata/labels"),
            taints: json::list(value, "/spec/taints").iter().map(|taint| self.taint(taint)).collect(),
            unschedulable: json::flag(value, "/spec/unschedulable"),
            allocatable_cpu_milli: cpu_milli(json::text(value, "/status/allocatable/cpu")),
            allocatable_memory_bytes: memory_bytes(json::text(value, "/status/allocatable/memory")),
            extended: extended(value),
            requested_cpu_milli: None,
            requested_memory_bytes: None,
            pods: None,
            pods_not_ready: None,
            lease_renewed_at: lease.and_then(|lease| json::time(lease, "/spec/renewTime")),
            lease_written_at: lease.and_then(json::spec_written).map(|(at, _)| at),
            at,
        })
    }

    /// A ConfigMap: its keys alone.
    pub fn config_map(&self, value: &Value, referenced: bool, at: At) -> Option<ConfigMap> {
        let keys = json::pairs(value, "/data").chain(json::pairs(value, "/binaryData"));
        Some(ConfigMap {
            object: json::reference(value)?,
            created_at: json::created(value),
            keys: keys.map(|(key, _)| self.redactor.redact(key)).collect(),
            referenced,
            at,
        })
    }

    /// A PersistentVolumeClaim.
    pub fn claim(&self, value: &Value, at: At) -> Option<Claim> {
        Some(Claim {
            object: json::reference(value)?,
            uid: json::text(value, "/metadata/uid").to_owned(),
            phase: self.text(value, "/status/phase"),
            storage_class: self.some_text(value, "/spec/storageClassName"),
            volume: self.some_text(value, "/spec/volumeName"),
            access_modes: self.texts(value, "/spec/accessModes"),
            classes: None,
            at,
        })
    }

    /// A PersistentVolume.
    pub fn persistent_volume(&self, value: &Value, at: At) -> Option<PersistentVolume> {
        let held = |field: &str| json::text(value, &format!("/spec/claimRef/{field}"));
        Some(PersistentVolume {
            object: json::reference(value)?,
            phase: self.text(value, "/status/phase"),
            message: self.text(value, "/status/message"),
            claim: ObjectRef::new(Kind::PersistentVolumeClaim, Some(held("namespace")), held("name")),
            claim_uid: held("uid").to_owned(),
            policy: self.text(value, "/spec/persistentVolumeReclaimPolicy"),
            at,
        })
    }

    /// A HorizontalPodAutoscaler.
    pub fn autoscaler(&self, value: &Value, at: At) -> Option<Autoscaler> {
        Some(Autoscaler {
            object: json::reference(value)?,
            // The API server's default.
            min: json::number(value, "/spec/minReplicas").map_or(1, |n| u32::try_from(n).unwrap_or(1)),
            max: json::count(value, "/spec/maxReplicas"),
            current: json::count(value, "/status/currentReplicas"),
            desired: json::count(value, "/status/desiredReplicas"),
            last_scaled_at: json::time(value, "/status/lastScaleTime"),
            metrics: self.metrics(value),
            conditions: self.conditions(value),
            at,
        })
    }

    /// Present values beside their targets, of metrics that are a share of the requests.
    fn metrics(&self, autoscaler: &Value) -> Vec<Redacted> {
        let targets = json::list(autoscaler, "/spec/metrics");
        let now = json::list(autoscaler, "/status/currentMetrics").iter().filter_map(|metric| {
            let name = json::text(metric, "/resource/name");
            let share = json::number(metric, "/resource/current/averageUtilization")?;
            let own = targets.iter().find(|target| json::text(target, "/resource/name") == name)?;
            let wanted = json::number(own, "/resource/target/averageUtilization")?;
            Some(text!("{} {}% of the requests (target {}%)", self.redactor.redact(name), share, wanted))
        });
        now.collect()
    }

    /// A PodDisruptionBudget.
    pub fn budget(&self, value: &Value, at: At) -> Option<Budget> {
        let demand = ["minAvailable", "maxUnavailable"].into_iter().find_map(|name| {
            let demand = value.get("spec")?.get(name)?;
            let demand = demand.as_str().map_or_else(|| demand.to_string(), str::to_owned);
            Some(text!("{} {}", name, self.redactor.redact(&demand)))
        });
        let failed = |condition: &Condition| {
            condition.kind.as_str() == "DisruptionAllowed" && condition.reason.as_str() == "SyncFailed"
        };
        Some(Budget {
            object: json::reference(value)?,
            disruptions_allowed: json::count(value, "/status/disruptionsAllowed"),
            demand: demand.unwrap_or_default(),
            expected: json::count(value, "/status/expectedPods"),
            healthy: json::count(value, "/status/currentHealthy"),
            desired: json::count(value, "/status/desiredHealthy"),
            frees_unhealthy: json::text(value, "/spec/unhealthyPodEvictionPolicy") == "AlwaysAllow",
            uncounted: self.conditions(value).into_iter().find(failed).map(|condition| condition.message),
            at,
        })
    }

    /// A ResourceQuota.
    pub fn quota(&self, value: &Value, at: At) -> Option<Quota> {
        let used = self.map(value, "/status/used");
        let both = self.map(value, "/status/hard").into_iter().map(|(resource, hard)| {
            let used = used.get(&resource).cloned().unwrap_or_default();
            (resource, (used, hard))
        });
        Some(Quota { object: json::reference(value)?, used: both.collect::<BTreeMap<_, _>>(), at })
    }
}

/// Allocatable extended resources: named with their vendor's domain, counted in whole units.
fn extended(node: &Value) -> BTreeMap<String, i64> {
    let all = json::pairs(node, "/status/allocatable").filter(|(name, _)| name.contains('/'));
    all.filter_map(|(name, count)| Some((name.clone(), count.as_str()?.parse().ok()?))).collect()
}
