//! The tool server `k8s-safe-restart`: it checks a rollback or a restart by reading, and proposes; it never writes.

use std::collections::BTreeMap;

use rmcp::ErrorData;
use rmcp::ServerHandler;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolResult, ContentBlock, ServerConfig};
use rmcp::{tool, tool_handler, tool_router};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::mcp::answer::ToolError;
use crate::mcp::arguments;
use crate::mcp::arguments::{OneWorkload, Undo};
use crate::mcp::info;
use crate::mcp::near;
use crate::mcp::revisions;
use crate::mcp::revisions::HERE;
use crate::model::scene::{Revision, Workload};
use crate::model::{Action, Kind, ObjectRef};
use crate::observe::Reader;
use crate::observe::changes;
use crate::observe::json;
use crate::observe::typed::Typed;
use crate::redact::Redacted;
use crate::text;

/// The server's name.
pub const SERVER: &str = "k8s-safe-restart";

/// What a write tool answers as structured content: the typed action, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checked {
    Proposal {
        action: Action,
        /// The object's labels, for the policy.
        labels: BTreeMap<String, Redacted>,
    },
    Refusal {
        why: Redacted,
        /// Names that nearly match one that does not exist.
        near: Vec<ObjectRef>,
    },
    /// The check itself could not read: ask again later.
    Unread { why: Redacted },
}

/// The server.
#[derive(Clone)]
pub struct K8sSafeRestart {
    reader: Reader,
    tool_router: ToolRouter<Self>,
}

#[tool_router]
impl K8sSafeRestart {
    /// A server over this reader.
    pub fn new(reader: Reader) -> Self {
        Self { reader, tool_router: Self::tool_router() }
    }

    #[tool(
        description = "Propose to restart a workload: its pods are replaced one by one. It only asks; a person decides.",
        annotations(
            read_only_hint = false,
            destructive_hint = false,
            idempotent_hint = false,
            open_world_hint = false
        )
    )]
    async fn rollout_restart(&self, Parameters(ask): Parameters<OneWorkload>) -> Result<CallToolResult, ErrorData> {
        Ok(answer(restart(&self.reader, &ask).await))
    }

    #[tool(
        description = "Propose to roll a workload back to an earlier revision. It only asks; a person decides.",
        annotations(
            read_only_hint = false,
            destructive_hint = false,
            idempotent_hint = false,
            open_world_hint = false
        )
    )]
    async fn rollout_undo(&self, Parameters(ask): Parameters<Undo>) -> Result<CallToolResult, ErrorData> {
        Ok(answer(undo(&self.reader, &ask).await))
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for K8sSafeRestart {
    fn get_info(&self) -> ServerConfig {
        info(SERVER)
    }
}

fn answer(checked: Result<Checked, ToolError>) -> CallToolResult {
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

fn refuse<T>(why: Redacted) -> Result<T, ToolError> {
    Err(ToolError::Refused(why))
}

async fn restart(reader: &Reader, ask: &OneWorkload) -> Result<Checked, ToolError> {
    let (_, workload) = target(reader, &ask.kind, &ask.namespace, &ask.name).await?;
    if workload.wanted == 0 {
        return refuse(text!("{} is scaled to 0: there is no pod to restart", workload.object));
    }
    Ok(Checked::Proposal { action: Action::RolloutRestart { object: workload.object }, labels: workload.labels })
}

async fn undo(reader: &Reader, ask: &Undo) -> Result<Checked, ToolError> {
    let (value, workload) = target(reader, &ask.kind, &ask.namespace, &ask.name).await?;
    if let Some(by) = &workload.gitops {
        return refuse(text!(
            "{} is managed by {}, which would put its own version back: revert the change in its repository",
            workload.object,
            by
        ));
    }
    let revisions = revisions::of(reader, &value).await?;
    let (present, earlier) = choose(&workload.object, &revisions, ask.to_revision)?;
    let differs = changes::compare(&earlier.template, &present.template, reader.redactor());
    // A restart's mark is no difference in what runs.
    if differs.iter().all(|line| line.field.as_str() == "restart") {
        return refuse(text!(
            "revision {} of {} runs the same template as the present one: a rollback would change nothing",
            earlier.number,
            workload.object
        ));
    }
    let action = Action::RolloutUndo {
        object: workload.object,
        target_uid: earlier.uid.clone(),
        target_hash: earlier.hash.clone(),
        to_revision: earlier.number,
        from_revision: present.number,
    };
    Ok(Checked::Proposal { action, labels: workload.labels })
}

/// The running revision and the one to go back to.
fn choose<'a>(
    object: &ObjectRef,
    revisions: &'a [Revision],
    wanted: Option<i64>,
) -> Result<(&'a Revision, &'a Revision), ToolError> {
    let Some(present) = revisions.iter().find(|revision| revision.current) else {
        return refuse(text!("no revision of {} is kept", object));
    };
    let others = revisions.iter().filter(|revision| !revision.current);
    let earlier = match wanted {
        Some(number) if number == present.number => {
            return refuse(text!("{} runs revision {} already", object, number));
        }
        Some(number) => others.clone().find(|revision| revision.number == number),
        None => others.clone().max_by_key(|revision| revision.number),
    };
    earlier.map(|earlier| (present, earlier)).map_or_else(
        || {
            let kept: Vec<Redacted> = others.map(|revision| text!("{}", revision.number)).collect();
            match wanted {
                Some(number) if !kept.is_empty() => {
                    let kept = Redacted::join(&kept, ", ");
                    refuse(text!("{} has no revision {}; it could go back to: {}", object, number, kept))
                }
                _ => refuse(text!("{} has no earlier revision to go back to", object)),
            }
        },
        Ok,
    )
}

/// The workload that is meant, if nothing about it forbids a rollout.
async fn target(reader: &Reader, kind: &str, namespace: &str, name: &str) -> Result<(Value, Workload), ToolError> {
    let object = arguments::object(reader.redactor(), kind, Some(namespace), name)?;
    let Some(value) = reader.get(&object).await? else { return Err(near::not_found(reader, &object).await) };
    let typed = Typed { redactor: reader.redactor() };
    let workload = typed.workload(&value, HERE);
    let workload = match (object.kind, workload) {
        (Kind::Deployment | Kind::StatefulSet | Kind::DaemonSet, Some(workload)) => workload,
        (Kind::Job, Some(job)) => return refuse(batch(&job)),
        (kind, _) => {
            return refuse(text!("{} is a {}, which has no rollout", object, kind));
        }
    };
    if json::text(&value, "/spec/updateStrategy/type") == "OnDelete" {
        return refuse(text!(
            "{} replaces a pod only when somebody deletes it (updateStrategy OnDelete): a change would reach none",
            object
        ));
    }
    if value.pointer("/metadata/deletionTimestamp").is_some() {
        return refuse(text!("{} is being deleted", object));
    }
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
