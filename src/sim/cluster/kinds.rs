//! The kinds that the simulated API server knows: group, version, plural, scope and what each can do.

use std::borrow::Cow;

use serde_json::Value;

/// Has a `status` subresource: a write to the object itself leaves `status` alone.
pub(crate) const STATUS: u8 = 1;
/// Counts `metadata.generation` up when `spec` changes.
pub(crate) const GENERATION: u8 = 2;
/// Has a `scale` subresource.
pub(crate) const SCALE: u8 = 4;
/// Exists only as the answer to a POST.
pub(crate) const REVIEW: u8 = 8;

const BOTH: u8 = STATUS | GENERATION;

/// One kind of object; the position in [`Kinds`] is its identity.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) id: usize,
    /// API group; empty for core.
    pub(crate) group: Cow<'static, str>,
    pub(crate) version: Cow<'static, str>,
    pub(crate) kind: Cow<'static, str>,
    pub(crate) plural: Cow<'static, str>,
    pub(crate) namespaced: bool,
    pub(crate) short: &'static [&'static str],
    flags: u8,
}

impl Kind {
    /// `v1` or `group/version`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_string() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The resource as error messages name it: `pods`, `deployments.apps`.
    pub(crate) fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.to_string() } else { format!("{}.{}", self.plural, self.group) }
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Core Events as events.k8s.io shows them.
    pub(crate) fn is_new_event(&self) -> bool {
        self.group == "events.k8s.io" && self.kind == "Event"
    }
}

/// All kinds of one cluster: the table below and what a snapshot brought along.
#[derive(Clone, Debug)]
pub(crate) struct Kinds(Vec<Kind>);

type Row = (&'static str, &'static str, &'static str, bool, &'static [&'static str], u8);

/// (group/version, kind, plural, namespaced, short names, flags), as `kubectl api-resources` of Kubernetes 1.34 lists them.
const TABLE: &[Row] = &[
    ("v1", "Pod", "pods", true, &["po"], BOTH),
    ("v1", "Event", "events", true, &["ev"], 0),
    ("v1", "Node", "nodes", false, &["no"], STATUS),
    ("v1", "Namespace", "namespaces", false, &["ns"], STATUS),
    ("v1", "Service", "services", true, &["svc"], STATUS),
    ("v1", "Endpoints", "endpoints", true, &["ep"], 0),
    ("v1", "ConfigMap", "configmaps", true, &["cm"], 0),
    ("v1", "Secret", "secrets", true, &[], 0),
    ("v1", "ServiceAccount", "serviceaccounts", true, &["sa"], 0),
    ("v1", "PersistentVolumeClaim", "persistentvolumeclaims", true, &["pvc"], STATUS),
    ("v1", "PersistentVolume", "persistentvolumes", false, &["pv"], STATUS),
    ("v1", "ResourceQuota", "resourcequotas", true, &["quota"], STATUS),
    ("v1", "LimitRange", "limitranges", true, &["limits"], 0),
    ("v1", "ReplicationController", "replicationcontrollers", true, &["rc"], BOTH | SCALE),
    ("apps/v1", "Deployment", "deployments", true, &["deploy"], BOTH | SCALE),
    ("apps/v1", "ReplicaSet", "replicasets", true, &["rs"], BOTH | SCALE),
    ("apps/v1", "StatefulSet", "statefulsets", true, &["sts"], BOTH | SCALE),
    ("apps/v1", "DaemonSet", "daemonsets", true, &["ds"], BOTH),
    ("apps/v1", "ControllerRevision", "controllerrevisions", true, &[], 0),
    ("batch/v1", "Job", "jobs", true, &[], BOTH),
    ("batch/v1", "CronJob", "cronjobs", true, &["cj"], BOTH),
    ("networking.k8s.io/v1", "Ingress", "ingresses", true, &["ing"], BOTH),
    ("networking.k8s.io/v1", "IngressClass", "ingressclasses", false, &[], GENERATION),
    ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", true, &["netpol"], GENERATION),
    ("discovery.k8s.io/v1", "EndpointSlice", "endpointslices", true, &[], GENERATION),
    ("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", true, &["hpa"], STATUS),
    ("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", true, &["pdb"], BOTH),
    ("storage.k8s.io/v1", "StorageClass", "storageclasses", false, &["sc"], 0),
    ("storage.k8s.io/v1", "VolumeAttachment", "volumeattachments", false, &[], STATUS),
    ("storage.k8s.io/v1", "CSIDriver", "csidrivers", false, &[], 0),
    ("storage.k8s.io/v1", "CSINode", "csinodes", false, &[], 0),
    ("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", false, &["pc"], GENERATION),
    ("coordination.k8s.io/v1", "Lease", "leases", true, &[], 0),
    ("events.k8s.io/v1", "Event", "events", true, &["ev"], 0),
    ("rbac.authorization.k8s.io/v1", "Role", "roles", true, &[], 0),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings", true, &[], 0),
    ("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", false, &[], 0),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", false, &[], 0),
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", false, &[], BOTH),
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
        false,
        &[],
        GENERATION,
    ),
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        false,
        &[],
        GENERATION,
    ),
    (
        "admissionregistration.k8s.io/v1",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        false,
        &[],
        GENERATION,
    ),
    ("authentication.k8s.io/v1", "SelfSubjectReview", "selfsubjectreviews", false, &[], REVIEW),
    ("authorization.k8s.io/v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", false, &[], REVIEW),
    ("authorization.k8s.io/v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews", false, &[], REVIEW),
];

impl Kinds {
    pub(crate) fn new() -> Self {
        let all = TABLE.iter().enumerate().map(|(id, &(api, kind, plural, namespaced, short, flags))| {
            let (group, version) = api.split_once('/').unwrap_or(("", api));
            let (group, version) = (Cow::Borrowed(group), Cow::Borrowed(version));
            Kind { id, group, version, kind: kind.into(), plural: plural.into(), namespaced, short, flags }
        });
        Self(all.collect())
    }

    /// Every kind, in the table's order.
    pub(crate) fn all(&self) -> &[Kind] {
        &self.0
    }

    pub(crate) fn by_plural(&self, group: &str, version: &str, plural: &str) -> Option<&Kind> {
        self.0.iter().find(|k| k.plural == plural && k.group == group && k.version == version)
    }

    /// The first kind of that name: core before the other groups.
    pub(crate) fn by_kind(&self, kind: &str) -> Option<&Kind> {
        self.0.iter().find(|k| k.kind == kind)
    }

    pub(crate) fn by_api(&self, api_version: &str, kind: &str) -> Option<&Kind> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.0.iter().find(|k| k.kind == kind && k.group == group && k.version == version)
    }

    /// The kind under which objects of `kind` are kept: both Event APIs show the same objects.
    pub(crate) fn stored<'a>(&'a self, kind: &'a Kind) -> &'a Kind {
        if kind.is_new_event() { self.by_api("v1", "Event").unwrap_or(kind) } else { kind }
    }

    /// The kind of `object`; one that is not in the table (a custom resource of a snapshot) is added as its name suggests.
    pub(crate) fn learn(&mut self, object: &Value) -> Option<usize> {
        let (api, kind) = (object["apiVersion"].as_str()?, object["kind"].as_str()?);
        if let Some(known) = self.by_api(api, kind) {
            return Some(known.id);
        }
        let (group, version) = api.split_once('/').unwrap_or(("", api));
        let lower = kind.to_lowercase();
        let plural = match lower.strip_suffix('y') {
            Some(stem) => format!("{stem}ies"),
            None if lower.ends_with('s') => format!("{lower}es"),
            None => format!("{lower}s"),
        };
        let id = self.0.len();
        self.0.push(Kind {
            id,
            group: group.to_owned().into(),
            version: version.to_owned().into(),
            kind: kind.to_owned().into(),
            plural: plural.into(),
            namespaced: object["metadata"]["namespace"].is_string(),
            short: &[],
            flags: BOTH,
        });
        Some(id)
    }
}
