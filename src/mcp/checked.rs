//! What every write tool checks before it proposes, and how it answers: typed, near names named, nothing written.

use std::collections::BTreeMap;

use rmcp::model::{CallToolResult, ContentBlock};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::mcp::answer::ToolError;
use crate::mcp::arguments;
use crate::mcp::arguments::OneWorkload;
use crate::mcp::near;
use crate::mcp::revisions::HERE;
use crate::model::scene::Workload;
use crate::model::{Action, Kind, Name, ObjectRef};
use crate::observe::Reader;
use crate::observe::json;
use crate::observe::reader::Selector;
use crate::observe::typed::Typed;
use crate::observe::typed::workload::selector;
use crate::redact::Redacted;
use crate::text;

/// An object that a change touches, with labels that it carries or gives to what is made from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Labelled {
    pub object: ObjectRef,
    pub labels: BTreeMap<String, Redacted>,
}

/// What a write tool answers as structured content: the typed action, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checked {
    Proposal {
        action: Action,
        /// The labels of all that the change touches, for the policy.
        labels: Vec<Labelled>,
        /// Other namespaces whose pods it moves, or whose alert it silences.
        #[serde(default)]
        also: Vec<Name>,
    },
    Refusal {
        why: Redacted,
        /// Names that nearly match one that does not exist.
        near: Vec<ObjectRef>,
    },
    /// The check itself could not read: ask again later.
    Unread { why: Redacted },
}

/// The answer as MCP carries it.
pub(super) fn answer(checked: Result<Checked, ToolError>) -> CallToolResult {
    let checked = checked.unwrap_or_else(|error| match error {
        ToolError::Read(_) => Checked::Unread { why: error.says() },
        ToolError::NotFound { ref near, .. } => Checked::Refusal { why: error.says(), near: near.clone() },
        ToolError::Refused(why) => Checked::Refusal { why, near: Vec::new() },
    });
    let (text, refused) = match &checked {
        Checked::Proposal { action, .. } => (text!("{} of {} can be asked for", action.tool(), action.object()), false),
        Checked::Refusal { why, .. } | Checked::Unread { why } => (why.clone(), true),
    };
    let mut result = CallToolResult::success(vec![ContentBlock::text(text.as_str())]);
    result.is_error = Some(refused);
    result.structured_content = serde_json::to_value(&checked).ok();
    result
}

/// No, and why.
pub(super) fn refuse<T>(why: Redacted) -> Result<T, ToolError> {
    Err(ToolError::Refused(why))
}

/// The object that is meant, if nothing about it forbids every change.
pub(super) async fn object(reader: &Reader, object: &ObjectRef) -> Result<Value, ToolError> {
    let Some(value) = reader.get(object).await? else { return Err(near::not_found(reader, object).await) };
    if value.pointer("/metadata/deletionTimestamp").is_some() {
        return refuse(text!("{} is being deleted", object));
    }
    let typed = Typed { redactor: reader.redactor() };
    if let Some(by) = typed.gitops(&value) {
        return refuse(text!(
            "{} is managed by {}, which would put its own version back: change it in its repository",
            object,
            by
        ));
    }
    Ok(value)
}

/// A proposal of `action` on this object.
pub(super) async fn proposal(reader: &Reader, value: &Value, action: Action) -> Result<Checked, ToolError> {
    let object = action.object();
    let mut labels = labels(reader, object, value);
    // Somebody may have marked one of the pods that would go, and not what makes them.
    let ends_pods = match action {
        Action::RerunJob { .. } => false,
        Action::Scale { to, from, .. } => to < from,
        _ => action.moves_pods(),
    };
    if let Some(selector) = selector(value).filter(|_| ends_pods) {
        for pod in &reader.list(Kind::Pod, Some(object.namespace()), &Selector::labels(selector)).await? {
            let Some(named) = json::reference(pod) else { continue };
            labels.extend(self::labels(reader, &named, pod));
        }
    }
    Ok(Checked::Proposal { action, labels, also: Vec::new() })
}

/// Where an object has labels: its own, and those of the pods and Jobs that are made from it.
const LABELS: [&str; 4] = [
    "/metadata/labels",
    "/spec/template/metadata/labels",
    "/spec/jobTemplate/metadata/labels",
    "/spec/jobTemplate/spec/template/metadata/labels",
];

/// The labels of an object and of what is made from it: whoever protects the pods protects them from a change of what
/// makes them too.
pub(super) fn labels(reader: &Reader, object: &ObjectRef, value: &Value) -> Vec<Labelled> {
    let typed = Typed { redactor: reader.redactor() };
    let at = |pointer| Labelled { object: object.clone(), labels: typed.map(value, pointer) };
    LABELS.into_iter().map(at).filter(|one| !one.labels.is_empty()).collect()
}

/// The workload that is meant, if it is one whose pods come from a template and nothing forbids to change it.
pub(super) async fn workload(reader: &Reader, ask: &OneWorkload) -> Result<(Value, Workload), ToolError> {
    let object = arguments::object(reader.redactor(), &ask.kind, Some(&ask.namespace), &ask.name)?;
    let value = self::object(reader, &object).await?;
    let typed = Typed { redactor: reader.redactor() };
    let workload = match (object.kind, typed.workload(&value, HERE)) {
        (Kind::Deployment | Kind::StatefulSet | Kind::DaemonSet, Some(workload)) => workload,
        (Kind::Job, Some(job)) => return refuse(batch(&job)),
        (kind, _) => {
            return refuse(text!("{} is a {}, which has no rollout", object, kind));
        }
    };
    if let Some((kind, owner, _)) = json::controller(&value) {
        let redactor = reader.redactor();
        let (kind, owner) = (redactor.redact(kind).cut(60), redactor.redact(owner).cut(100));
        return refuse(text!(
            "{} belongs to {} {}, which would undo a change: change that instead",
            object,
            kind,
            owner
        ));
    }
    Ok((value, workload))
}

/// The same, if a change of its template would reach its pods.
pub(super) async fn rollout(reader: &Reader, ask: &OneWorkload) -> Result<(Value, Workload), ToolError> {
    let (value, workload) = self::workload(reader, ask).await?;
    let object = &workload.object;
    if json::text(&value, "/spec/updateStrategy/type") == "OnDelete" {
        return refuse(text!(
            "{} replaces a pod only when somebody deletes it (updateStrategy OnDelete): a change would reach none",
            object
        ));
    }
    if workload.paused {
        return refuse(text!("the rollout of {} is paused: a change would not roll out until it is resumed", object));
    }
    Ok((value, workload))
}

fn batch(job: &Workload) -> Redacted {
    if job.succeeded < job.wanted && !job.suspended {
        text!(
            "{} is a running Job ({} of {} done): restarting it would lose its work",
            job.object,
            job.succeeded,
            job.wanted
        )
    } else {
        text!("{} is a Job: it runs once and has no rollout", job.object)
    }
}
