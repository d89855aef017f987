//! A tool as callers from outside are offered it: the same in fewer words, for every model pays for each of them.

use std::sync::Arc;

use rmcp::model::{Tool, ToolAnnotations};
use serde_json::json;

use crate::model::Tier;

/// The tool, with its annotations in short: what MCP takes for granted is not said (`readOnlyHint` false, `idempotentHint`
/// false, `openWorldHint` true: what is read may hold words from anywhere, and what is asked for goes to people). One that
/// changes something answers how far the request for leave is.
pub(super) fn offered(mut tool: Tool, tier: Tier) -> Tool {
    let is_true = |hint: Option<bool>| hint.filter(|hint| *hint);
    let declared = tool.annotations.take().unwrap_or_default();
    if tier == Tier::ReadOnly {
        // Of a tool that only reads the others mean nothing (MCP: "only when readOnlyHint is false").
        tool.annotations = Some(ToolAnnotations::new().read_only(true));
        // What is always there is promised; the fields beside it are told in the answers themselves.
        tool.output_schema = tool.output_schema.map(|schema| {
            let promised = schema.iter().filter(|(key, _)| matches!(key.as_str(), "type" | "required"));
            Arc::new(promised.map(|(key, value)| (key.clone(), value.clone())).collect())
        });
        return tool;
    }
    let mut hints = ToolAnnotations::new().destructive(declared.destructive_hint != Some(false));
    hints.idempotent_hint = is_true(declared.idempotent_hint);
    tool.annotations = Some(hints);
    let status = json!({"enum": ["pending_approval", "refused"]});
    let schema = json!({"type": "object", "required": ["status"], "properties": {"status": status}});
    tool.output_schema = schema.as_object().cloned().map(Arc::new);
    tool
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_changes_something_says_whether_it_destroys_and_never_that_it_only_reads() {
        let tool = |hints: ToolAnnotations| {
            let mut tool = Tool::new("x", "X.", json!({"type": "object"}).as_object().cloned().unwrap_or_default());
            tool.annotations = Some(hints);
            tool
        };
        let told = |tier, hints| json!(offered(tool(hints), tier).annotations);
        let lies = ToolAnnotations::new().read_only(true);
        assert_eq!(told(Tier::Destructive, lies), json!({"destructiveHint": true}), "what is not said is the worst");
        let reversible = ToolAnnotations::new().read_only(false).destructive(false).idempotent(true).open_world(false);
        assert_eq!(
            told(Tier::Reversible, reversible.clone()),
            json!({"destructiveHint": false, "idempotentHint": true})
        );
        assert_eq!(told(Tier::ReadOnly, reversible), json!({"readOnlyHint": true}));
    }
}
