//! Arguments of the tools: typed, without unknown fields, and never a name that is nearly right.

use rmcp::schemars;
use rmcp::schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::mcp::answer::ToolError;
use crate::model::{Kind, Name, ObjectRef};
use crate::redact::{Redacted, Redactor};
use crate::text;

/// Kinds whose pods come from a template that can be rolled out.
const ROLLED: [&str; 3] = ["Deployment", "StatefulSet", "DaemonSet"];
/// What people deploy, and what a Deployment keeps of its revisions.
const WORKLOADS: [&str; 6] = ["Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "ReplicaSet"];
const WITH_PODS: [&str; 7] = ["Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "ReplicaSet", "Pod"];
/// How far back one may ask, in minutes: a week, within every usual retention.
pub(super) const MINUTES_MAX: u32 = 7 * 24 * 60;
/// How long a range is that nobody gives a length.
pub(super) const MINUTES: u32 = 60;
/// Lines of a log's end: a file that a kubelet has not rotated yet (10 MiB) holds about as many.
const TAIL_LINES_MAX: u32 = 100_000;
/// Characters of a query: the longest alert rules of kubernetes-mixin are below.
const QUERY_MAX_CHARS: usize = 2_000;
/// Characters of a pattern: a whole log line fits.
const PATTERN_MAX_CHARS: usize = 500;
/// Characters of a quantity, as the change itself takes it.
const QUANTITY_MAX_CHARS: usize = 20;
/// Controllers count revisions one by one.
const REVISION_MAX: i32 = i32::MAX;
/// More pods than this in one step are a slip of the pen rather than a remedy.
const REPLICAS_MAX: u32 = 1_000;
/// The longest silence: about half a shift, so that nobody inherits one that they do not know of.
const HOURS_MAX: u32 = 4;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Workloads {
    pub(super) namespace: String,
    /// Part of a name
    pub(super) text: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OneWorkload {
    pub(super) namespace: String,
    #[schemars(extend("enum" = WORKLOADS))]
    pub(super) kind: String,
    pub(super) name: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OneObject {
    /// Such as Pod, ConfigMap or Node
    pub(super) kind: String,
    /// Leave out for a Node
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    /// Only this part: a JSON pointer such as /status
    pub(super) part: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Events {
    /// Leave out for a Node
    pub(super) namespace: Option<String>,
    /// With name
    pub(super) kind: Option<String>,
    pub(super) name: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OneLog {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) container: Option<String>,
    /// Only the run before the restart; false: only this one
    pub(super) previous: Option<bool>,
    #[schemars(extend("minimum" = 1, "maximum" = TAIL_LINES_MAX))]
    pub(super) tail_lines: Option<u32>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Search {
    pub(super) namespace: String,
    #[schemars(extend("enum" = WITH_PODS))]
    pub(super) kind: String,
    pub(super) name: String,
    #[schemars(extend("maxLength" = PATTERN_MAX_CHARS))]
    pub(super) pattern: String,
    pub(super) regex: Option<bool>,
    #[schemars(extend("minimum" = 1, "maximum" = MINUTES_MAX))]
    pub(super) since_minutes: Option<u32>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    /// PromQL
    #[schemars(extend("maxLength" = QUERY_MAX_CHARS))]
    pub(super) query: String,
    /// Left out: only nodes and the cluster
    pub(super) namespace: Option<String>,
    #[schemars(extend("minimum" = 0, "maximum" = MINUTES_MAX))]
    pub(super) minutes_ago: Option<u32>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct QueryRange {
    #[schemars(extend("maxLength" = QUERY_MAX_CHARS))]
    pub(super) query: String,
    pub(super) namespace: Option<String>,
    #[schemars(extend("minimum" = 1, "maximum" = MINUTES_MAX, "default" = MINUTES))]
    pub(super) minutes: Option<u32>,
    #[schemars(extend("minimum" = 0, "maximum" = MINUTES_MAX))]
    pub(super) minutes_ago: Option<u32>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MaybeNamespace {
    pub(super) namespace: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct QueryLogs {
    /// LogQL, such as {app="web"} |= "error"
    #[schemars(extend("maxLength" = QUERY_MAX_CHARS))]
    pub(super) query: String,
    pub(super) namespace: String,
    #[schemars(extend("minimum" = 1, "maximum" = MINUTES_MAX, "default" = MINUTES))]
    pub(super) minutes: Option<u32>,
    #[schemars(extend("minimum" = 0, "maximum" = MINUTES_MAX))]
    pub(super) minutes_ago: Option<u32>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Narrow {
    /// Filter
    pub(super) text: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Find {
    pub(super) text: String,
    pub(super) namespace: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rolled {
    pub(super) namespace: String,
    #[schemars(extend("enum" = ROLLED))]
    pub(super) kind: String,
    pub(super) name: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Run {
    pub(super) namespace: String,
    #[schemars(extend("enum" = ["Job", "CronJob"]))]
    pub(super) kind: String,
    pub(super) name: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Undo {
    pub(super) namespace: String,
    #[schemars(extend("enum" = ROLLED))]
    pub(super) kind: String,
    pub(super) name: String,
    /// Left out: the one before
    #[schemars(extend("minimum" = 1, "maximum" = REVISION_MAX))]
    pub(super) to_revision: Option<i64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    pub(super) namespace: String,
    pub(super) name: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeName {
    pub(super) name: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Replicas {
    pub(super) namespace: String,
    #[schemars(extend("enum" = ["Deployment", "StatefulSet"]))]
    pub(super) kind: String,
    pub(super) name: String,
    #[schemars(extend("minimum" = 0, "maximum" = REPLICAS_MAX))]
    pub(super) replicas: u32,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ContainerResources {
    pub(super) namespace: String,
    #[schemars(extend("enum" = ROLLED))]
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) container: String,
    /// As 500m; none takes it away
    #[schemars(extend("maxLength" = QUANTITY_MAX_CHARS))]
    pub(super) cpu_request: Option<String>,
    #[schemars(extend("maxLength" = QUANTITY_MAX_CHARS))]
    pub(super) memory_request: Option<String>,
    #[schemars(extend("maxLength" = QUANTITY_MAX_CHARS))]
    pub(super) cpu_limit: Option<String>,
    #[schemars(extend("maxLength" = QUANTITY_MAX_CHARS))]
    pub(super) memory_limit: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Silence {
    pub(super) namespace: Option<String>,
    pub(super) kind: String,
    pub(super) name: String,
    /// Its name or fingerprint
    pub(super) alert: String,
    #[schemars(extend("minimum" = 1, "maximum" = HOURS_MAX))]
    pub(super) hours: u32,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EndSilence {
    pub(super) namespace: Option<String>,
    pub(super) kind: String,
    pub(super) name: String,
    /// Its fingerprint
    pub(super) alert: String,
}

impl From<Rolled> for OneWorkload {
    fn from(Rolled { namespace, kind, name }: Rolled) -> Self {
        Self { namespace, kind, name }
    }
}

/// The object that arguments name.
pub(super) fn object(
    redactor: &Redactor,
    kind: &str,
    namespace: Option<&str>,
    name: &str,
) -> Result<ObjectRef, ToolError> {
    if is_secret_kind(kind) {
        return Err(ToolError::Refused(Redacted::literal(NO_SECRETS)));
    }
    let Some(kind) = Kind::named(kind).filter(|kind| *kind != Kind::Alert) else {
        return Err(ToolError::Refused(text!("kind: `{}` is none that can be read", redactor.redact(kind).cut(40))));
    };
    let namespace = namespace.filter(|namespace| !namespace.is_empty());
    if kind.is_namespaced() && namespace.is_none() {
        return Err(ToolError::Refused(text!("a {} has a namespace: give it", kind)));
    }
    ObjectRef::new(kind, namespace, name).ok_or_else(|| ToolError::Refused(Redacted::literal(NO_NAME)))
}

/// The workload that arguments name.
pub(super) fn workload(redactor: &Redactor, ask: &OneWorkload) -> Result<ObjectRef, ToolError> {
    let object = object(redactor, &ask.kind, Some(&ask.namespace), &ask.name)?;
    if object.kind.is_workload() || object.kind == Kind::ReplicaSet {
        Ok(object)
    } else {
        Err(ToolError::Refused(text!("a {} is no workload: use get_object", object.kind)))
    }
}

/// The namespace that arguments name.
pub(super) fn namespace(name: &str) -> Result<ObjectRef, ToolError> {
    ObjectRef::new(Kind::Namespace, None, name).ok_or_else(|| ToolError::Refused(Redacted::literal(NO_NAME)))
}

/// The namespace that arguments may name.
pub(super) fn maybe_namespace(name: Option<&str>) -> Result<Option<ObjectRef>, ToolError> {
    name.filter(|name| !name.is_empty()).map(namespace).transpose()
}

/// A container's name.
pub(super) fn container(name: &str) -> Result<Name, ToolError> {
    Name::parse(name).ok_or_else(|| ToolError::Refused(Redacted::literal(NO_NAME)))
}

/// `shop/checkout`, or the bare name of a cluster-scoped object.
pub(super) fn path(object: &ObjectRef) -> Redacted {
    match &object.namespace {
        Some(namespace) => text!("{}/{}", namespace, object.name),
        None => text!("{}", object.name),
    }
}

const NO_NAME: &str = "that is no Kubernetes name";
const NO_SECRETS: &str = "Secrets cannot be read, not even their names";

fn is_secret_kind(kind: &str) -> bool {
    let kind = kind.trim().to_ascii_lowercase();
    let kind = kind.rsplit('/').next().unwrap_or(&kind);
    matches!(kind.split('.').next(), Some("secret" | "secrets"))
}

/// Where credentials lie in a cluster: nothing that names these places is asked.
const PLACES: [&str; 6] = [
    "kubeconfig",
    ".kube/config",
    "/serviceaccount/token",
    "/run/secrets/",
    "/etc/kubernetes/",
    "kubernetes.io/serviceaccount",
];

/// Why these arguments of a call are refused whatever the tool: they reach for Secrets, kubeconfigs or tokens. What is
/// looked for in a log may say such words.
pub fn forbidden(arguments: &Map<String, Value>) -> Option<&'static str> {
    if arguments.get("kind").and_then(Value::as_str).is_some_and(is_secret_kind) {
        return Some(NO_SECRETS);
    }
    let mut texts = arguments.iter().filter(|(key, _)| *key != "pattern").filter_map(|(_, value)| value.as_str());
    let reaches = texts.any(|text| {
        let text = text.to_ascii_lowercase();
        PLACES.iter().any(|place| text.contains(place)) || text.starts_with("secret/") || text.starts_with("secrets/")
    });
    reaches.then_some("Secrets, kubeconfigs and tokens cannot be read")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_that_reach_for_credentials_are_forbidden() {
        let asks = |arguments: Value| forbidden(arguments.as_object().unwrap()).is_some();
        assert!(asks(json!({"kind": "Secret", "name": "db"})) && asks(json!({"kind": "v1/secrets", "name": "db"})));
        assert!(asks(json!({"kind": "ConfigMap", "name": "admin-kubeconfig"})));
        assert!(asks(json!({"pod": "x", "container": "/var/run/secrets/kubernetes.io/serviceaccount/token"})));
        assert!(asks(json!({"name": "secret/db"})));
        assert!(!asks(json!({"pattern": "secret \"checkout-tls\" not found", "kind": "Pod", "name": "x"})));
        assert!(!asks(json!({"kind": "Deployment", "name": "secret-rotator"})));
    }

    #[test]
    fn a_secret_is_no_object_and_a_name_is_never_completed() {
        let redactor = Redactor::default();
        let ask = |kind, namespace, name| object(&redactor, kind, namespace, name).map_err(|error| error.says());
        assert_eq!(ask("secrets", Some("shop"), "db").unwrap_err().as_str(), NO_SECRETS);
        assert_eq!(ask("deployment", Some("shop"), "web").unwrap().to_string(), "Deployment shop/web");
        assert!(ask("Deploymnt", Some("shop"), "web").unwrap_err().as_str().starts_with("kind: "));
        assert!(ask("Pod", None, "web").unwrap_err().as_str().contains("namespace"));
        assert!(ask("Pod", Some("shop"), "../secrets").is_err());
    }
}
