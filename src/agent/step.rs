//! What to do with a reply of the model. Pure.

use serde_json::{Map, Value};

use crate::agent::llm::{Reply, ToolCall};
use crate::redact::Redacted;
use crate::text;

/// The tool that ends the loop.
pub const SUBMIT_REPORT: &str = "submit_report";
/// Calls of one reply that are run; a model that asks for more gets an answer that says so.
pub const CALLS_AT_ONCE_MAX: usize = 8;
/// Replies in a row without a call that can be run, after the first, before the investigation ends: one retry, with the
/// error.
pub const RETRIES_MAX: u32 = 1;

/// What is left of an investigation's budget.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    pub turns_left: u32,
    pub calls_left: u32,
    /// Replies in a row, before this one, that held no call that could be run.
    pub useless_replies: u32,
}

/// The next step.
#[derive(Clone, Debug)]
pub enum Step {
    /// Run `calls` side by side; each of `refused` is answered with its reason. `useless`: none of them can give anything.
    Call { calls: Vec<ToolCall>, refused: Vec<(ToolCall, Redacted)>, useless: bool },
    /// The report as the model wrote it, with the id of its call.
    Report { call: String, arguments: Map<String, Value> },
    /// Say this and ask again (the key of prompts/report.md).
    Nudge(&'static str),
    /// No report will come.
    Stop(&'static str),
}

/// Decides what a reply leads to. `known` are the names of the tools that there are.
pub fn next(reply: &Reply, budget: &Budget, known: &[String]) -> Step {
    let report = reply.tool_calls.iter().find(|call| call.name == SUBMIT_REPORT);
    if let Some(ToolCall { id, arguments: Ok(arguments), .. }) = report {
        return Step::Report { call: id.clone(), arguments: arguments.clone() };
    }
    if budget.turns_left == 0 {
        return Step::Stop("all turns are used");
    }
    if reply.tool_calls.is_empty() {
        return if budget.useless_replies >= RETRIES_MAX {
            Step::Stop("the model stopped calling tools")
        } else {
            Step::Nudge("text")
        };
    }
    let mut calls = Vec::new();
    let mut refused = Vec::new();
    for call in &reply.tool_calls {
        let why = match &call.arguments {
            Err(why) => text!("{}; send this call again, with one JSON object as its arguments", why),
            Ok(_) if calls.len() >= CALLS_AT_ONCE_MAX => "too many calls at once; ask again for this one".into(),
            Ok(_) if calls.len() as u32 >= budget.calls_left => {
                "no tool calls are left; call submit_report with what you know".into()
            }
            Ok(_) => {
                calls.push(call.clone());
                continue;
            }
        };
        refused.push((call.clone(), why));
    }
    // A tool that does not exist is still asked for at the gate, which records it.
    let useless = !calls.iter().any(|call| known.contains(&call.name)) && budget.calls_left > 0;
    if useless && budget.useless_replies >= RETRIES_MAX {
        return Step::Stop("the model's calls could not be understood");
    }
    Step::Call { calls, refused, useless }
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

    fn budget(turns_left: u32, calls_left: u32, useless_replies: u32) -> Budget {
        Budget { turns_left, calls_left, useless_replies }
    }

    fn step(calls: &[(&str, bool)], budget: Budget) -> Step {
        next(&reply(calls), &budget, &["pod_logs".to_owned()])
    }

    #[test]
    fn a_report_ends_the_loop_even_beside_other_calls_and_on_the_last_turn() {
        let step = step(&[("pod_logs", true), ("submit_report", true)], budget(0, 0, 0));
        assert!(matches!(step, Step::Report { call, .. } if call == "t1"));
    }

    #[test]
    fn no_reply_can_make_the_loop_endless_or_the_budget_negative() {
        assert!(matches!(step(&[("pod_logs", true)], budget(0, 9, 0)), Step::Stop(_)));
        assert!(matches!(step(&[], budget(3, 9, 0)), Step::Nudge("text")));
        assert!(matches!(step(&[], budget(3, 9, RETRIES_MAX)), Step::Stop(_)));
        let Step::Call { calls, refused, .. } = step(&[("pod_logs", true); 12], budget(3, 5, 0)) else { panic!() };
        assert_eq!((calls.len(), refused.len()), (5, 7));
    }

    #[test]
    fn calls_that_cannot_be_run_are_tried_once_more_with_the_error() {
        let broken = [("submit_report", false), ("x", false), ("no_such_tool", true)];
        let Step::Call { calls, refused, useless } = step(&broken, budget(3, 5, 0)) else { panic!() };
        assert_eq!((calls.len(), refused.len(), useless), (1, 2, true));
        assert!(refused[0].1.as_str().starts_with("bad; send this call again"));
        assert!(matches!(step(&broken, budget(3, 5, RETRIES_MAX)), Step::Stop(_)));
        let Step::Call { useless, .. } = step(&[("pod_logs", true), ("x", false)], budget(3, 5, RETRIES_MAX)) else {
            panic!()
        };
        assert!(!useless, "one good call is a step on");
    }
}
