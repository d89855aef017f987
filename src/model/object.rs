//! Kubernetes objects by name: which kinds firstlook knows, and a reference that is safe to print.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::redact::Safe;

macro_rules! kinds {
    ($($name:ident $group:literal $version:literal $plural:literal $namespaced:literal,)*) => {
        /// The kinds of object that firstlook reads. There is no Secret among them, so none can be asked for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        pub enum Kind { $(#[doc = concat!("`", $plural, "`")] $name,)* }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Kind] = &[$(Kind::$name,)*];

            /// The name as in a manifest's `kind`.
            pub fn as_str(self) -> &'static str {
                match self { $(Kind::$name => stringify!($name),)* }
            }

            /// API group (empty for core), version, plural resource name.
            pub fn resource(self) -> (&'static str, &'static str, &'static str) {
                match self { $(Kind::$name => ($group, $version, $plural),)* }
            }

            /// Whether its objects live in a namespace.
            pub fn is_namespaced(self) -> bool {
                match self { $(Kind::$name => $namespaced,)* }
            }
        }
    };
}

kinds! {
    Pod "" "v1" "pods" true,
    Deployment "apps" "v1" "deployments" true,
    ReplicaSet "apps" "v1" "replicasets" true,
    StatefulSet "apps" "v1" "statefulsets" true,
    DaemonSet "apps" "v1" "daemonsets" true,
    ControllerRevision "apps" "v1" "controllerrevisions" true,
    Job "batch" "v1" "jobs" true,
    CronJob "batch" "v1" "cronjobs" true,
    Node "" "v1" "nodes" false,
    Namespace "" "v1" "namespaces" false,
    Service "" "v1" "services" true,
    EndpointSlice "discovery.k8s.io" "v1" "endpointslices" true,
    Ingress "networking.k8s.io" "v1" "ingresses" true,
    IngressClass "networking.k8s.io" "v1" "ingressclasses" false,
    NetworkPolicy "networking.k8s.io" "v1" "networkpolicies" true,
    ConfigMap "" "v1" "configmaps" true,
    ServiceAccount "" "v1" "serviceaccounts" true,
    PersistentVolumeClaim "" "v1" "persistentvolumeclaims" true,
    PersistentVolume "" "v1" "persistentvolumes" false,
    StorageClass "storage.k8s.io" "v1" "storageclasses" false,
    HorizontalPodAutoscaler "autoscaling" "v2" "horizontalpodautoscalers" true,
    PodDisruptionBudget "policy" "v1" "poddisruptionbudgets" true,
    ResourceQuota "" "v1" "resourcequotas" true,
    LimitRange "" "v1" "limitranges" true,
    Lease "coordination.k8s.io" "v1" "leases" true,
    Event "" "v1" "events" true,
    // No object of Kubernetes: an alert that names none. It has no version, so nothing can be read of it.
    Alert "" "" "alerts" false,
}

impl Kind {
    /// The kind with this name (`Deployment`, `deployment`, `deployments`); exact otherwise, never fuzzy.
    pub fn named(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        Self::ALL.iter().copied().find(|kind| kind.as_str().to_ascii_lowercase() == lower || kind.resource().2 == lower)
    }

    /// Whether people deploy this kind and its pods come from a template in it.
    pub fn is_workload(self) -> bool {
        matches!(self, Kind::Deployment | Kind::StatefulSet | Kind::DaemonSet | Kind::Job | Kind::CronJob)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Safe for Kind {}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::named(text).ok_or_else(|| format!("`{text}` is no kind that firstlook reads"))
    }
}

/// A name as Kubernetes allows it in a path: at most 253 of `a-z 0-9 - . :`, plus upper case and `_`, which some
/// kinds allow, but not `.` and `..`, which a proxy would take for a step. Nothing in it can format, mention or link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Name(String);

impl Name {
    /// The name, unless it breaks the rule above.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':' | '_');
        let is_step = matches!(text, "." | "..");
        (!text.is_empty() && text.len() <= 253 && !is_step && text.chars().all(plain)).then(|| Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("no Kubernetes name"))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Safe for Name {}

/// One object: kind, namespace (none for cluster-scoped kinds), name. Prints as `Deployment shop/checkout`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectRef {
    pub kind: Kind,
    pub namespace: Option<Name>,
    pub name: Name,
}

impl ObjectRef {
    /// The reference, if both names are names and the namespace is there exactly when the kind has one.
    pub fn new(kind: Kind, namespace: Option<&str>, name: &str) -> Option<Self> {
        let namespace = namespace.filter(|_| kind.is_namespaced());
        if kind.is_namespaced() && namespace.is_none() {
            return None;
        }
        let namespace = match namespace {
            Some(text) => Some(Name::parse(text)?),
            None => None,
        };
        Some(Self { kind, namespace, name: Name::parse(name)? })
    }

    /// The namespace, or an empty text for a cluster-scoped object.
    pub fn namespace(&self) -> &str {
        self.namespace.as_ref().map_or("", Name::as_str)
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// `shop/checkout`, or just the name for a cluster-scoped object.
    pub fn path(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.name),
            None => self.name.to_string(),
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.path())
    }
}

impl Safe for ObjectRef {}
