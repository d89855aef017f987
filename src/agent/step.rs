//! What to do with a reply of the model. Pure.

use serde_json::{Map, Value};

use crate::agent::llm::{Reply, ToolCall};

/// The tool that ends the loop.
pub const SUBMIT_REPORT: &str = "submit_report";
/// Calls of one reply that are run; a model that asks for more gets an answer that says so.
pub const CALLS_AT_ONCE_MAX: usize = 8;
/// Replies in a row without a tool call, after which the investigation ends.
pub const SILENT_REPLIES_MAX: u32 = 2;

/// What is left of an investigation's budget.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    pub turns_left: u32,
    pub calls_left: u32,
    /// Replies in a row, before this one, that held no tool call.
    pub silent_replies: u32,
}

/// The next step.
#[derive(Clone, Debug)]
pub enum Step {
    /// Run `calls` side by side; each of `refused` is answered with its reason.
    Call { calls: Vec<ToolCall>, refused: Vec<(ToolCall, &'static str)> },
    /// The report as the model wrote it, with the id of its call.
    Report { call: String, arguments: Map<String, Value> },
    /// Say this and ask again (the key of prompts/report.md).
    Nudge(&'static str),
    /// No report will come.
    Stop(&'static str),
}

/// Decides what a reply leads to.
pub fn next(reply: &Reply, budget: &Budget) -> Step {
    let report = reply.tool_calls.iter().find(|call| call.name == SUBMIT_REPORT);
    if let Some(ToolCall { id, arguments: Ok(arguments), .. }) = report {
        return Step::Report { call: id.clone(), arguments: arguments.clone() };
    }
    if budget.turns_left == 0 {
        return Step::Stop("all turns are used");
    }
    if reply.tool_calls.is_empty() {
        return if budget.silent_replies >= SILENT_REPLIES_MAX {
            Step::Stop("the model stopped calling tools")
        } else {
            Step::Nudge("text")
        };
    }
    let mut calls = Vec::new();
    let mut refused = Vec::new();
    for call in &reply.tool_calls {
        if call.name == SUBMIT_REPORT {
            refused.push((call.clone(), "the report's arguments are no JSON object; send it again"));
        } else if calls.len() >= CALLS_AT_ONCE_MAX {
            refused.push((call.clone(), "too many calls at once; ask again for this one"));
        } else if calls.len() as u32 >= budget.calls_left {
            refused.push((call.clone(), "no tool calls are left; call submit_report with what you know"));
        } else if call.arguments.is_err() {
            refused.push((call.clone(), "the arguments are no JSON object; send them again"));
        } else {
            calls.push(call.clone());
        }
    }
    Step::Call { calls, refused }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reply(calls: &[(&str, bool)]) -> Reply {
        let call = |(i, (name, good)): (usize, &(&str, bool))| ToolCall {
            id: format!("t{i}"),
            name: (*name).to_owned(),
            arguments: if *good { Ok(Map::new()) } else { Err("bad".into()) },
        };
        let tool_calls = calls.iter().enumerate().map(call).collect();
        Reply { content: None, tool_calls, message: json!({}), input_tokens: 0, output_tokens: 0 }
    }

    fn budget(turns_left: u32, calls_left: u32, silent_replies: u32) -> Budget {
        Budget { turns_left, calls_left, silent_replies }
    }

    #[test]
    fn a_report_ends_the_loop_even_beside_other_calls_and_on_the_last_turn() {
        let step = next(&reply(&[("pod_logs", true), ("submit_report", true)]), &budget(0, 0, 0));
        assert!(matches!(step, Step::Report { call, .. } if call == "t1"));
    }

    #[test]
    fn no_reply_can_make_the_loop_endless_or_the_budget_negative() {
        assert!(matches!(next(&reply(&[("pod_logs", true)]), &budget(0, 9, 0)), Step::Stop(_)));
        assert!(matches!(next(&reply(&[]), &budget(3, 9, 0)), Step::Nudge("text")));
        assert!(matches!(next(&reply(&[]), &budget(3, 9, SILENT_REPLIES_MAX)), Step::Stop(_)));
        let many = vec![("pod_logs", true); 12];
        let Step::Call { calls, refused } = next(&reply(&many), &budget(3, 5, 0)) else { panic!("calls") };
        assert_eq!((calls.len(), refused.len()), (5, 7));
        let Step::Call { calls, refused } = next(&reply(&[("submit_report", false), ("x", false)]), &budget(3, 5, 0))
        else {
            panic!("calls")
        };
        assert_eq!((calls.len(), refused.len()), (0, 2));
    }
}
