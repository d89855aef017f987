//! The tool server `k8s-safe-restart`: it checks a rollback or a restart by reading, and proposes; it never writes.

use rmcp::ErrorData;
use rmcp::ServerHandler;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolResult, ServerConfig};
use rmcp::{tool, tool_handler, tool_router};

use crate::mcp::answer::ToolError;
use crate::mcp::arguments::{OneWorkload, Rolled, Undo};
use crate::mcp::checked;
use crate::mcp::checked::{Checked, proposal, refuse};
use crate::mcp::info;
use crate::mcp::revisions;
use crate::model::scene::Revision;
use crate::model::{Action, ObjectRef};
use crate::observe::Reader;
use crate::observe::changes;
use crate::redact::Redacted;
use crate::text;

/// The server's name.
pub const SERVER: &str = "k8s-safe-restart";

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
        description = "Ask a person to restart a workload, pod by pod.",
        annotations(
            read_only_hint = false,
            destructive_hint = false,
            idempotent_hint = false,
            open_world_hint = false
        )
    )]
    async fn rollout_restart(&self, Parameters(ask): Parameters<Rolled>) -> Result<CallToolResult, ErrorData> {
        Ok(checked::answer(restart(&self.reader, &ask.into()).await))
    }

    #[tool(
        description = "Ask a person to roll a workload back to an earlier revision.",
        annotations(
            read_only_hint = false,
            destructive_hint = false,
            idempotent_hint = false,
            open_world_hint = false
        )
    )]
    async fn rollout_undo(&self, Parameters(ask): Parameters<Undo>) -> Result<CallToolResult, ErrorData> {
        Ok(checked::answer(undo(&self.reader, &ask).await))
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for K8sSafeRestart {
    fn get_info(&self) -> ServerConfig {
        info(SERVER)
    }
}

async fn restart(reader: &Reader, ask: &OneWorkload) -> Result<Checked, ToolError> {
    let (value, workload) = checked::rollout(reader, ask).await?;
    if workload.wanted == 0 {
        return refuse(text!("{} is scaled to 0: there is no pod to restart", workload.object));
    }
    proposal(reader, &value, Action::RolloutRestart { object: workload.object }).await
}

async fn undo(reader: &Reader, ask: &Undo) -> Result<Checked, ToolError> {
    let one = OneWorkload { namespace: ask.namespace.clone(), kind: ask.kind.clone(), name: ask.name.clone() };
    let (value, workload) = checked::rollout(reader, &one).await?;
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
    proposal(reader, &value, action).await
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
