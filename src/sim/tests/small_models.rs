//! Small models: calls that are malformed, calls that are written as text, rooms that are too small.

use super::review::{submitted, true_quote};
use super::*;
use crate::model::{Card, InvestigationState, Origin, Room};

/// The town after its alert, with these answers of a model of this room.
async fn told(answers: &[(&str, Value)], room: Room) -> (Town, Card) {
    let scenario = answering(folder("oom-loop"), answers);
    let town = Town::with(scenario, |setup| setup.llm.as_mut().unwrap().room = room).await;
    town.hear(&town.body("alert.json")).await;
    let incident = town.incidents().await.pop().unwrap();
    let card = town.store.card(&incident.id).await.unwrap().unwrap();
    (town, card)
}

fn report() -> Value {
    submitted(json!([true_quote()]))
}

/// The texts of the tools' answers in a request, the newest last.
fn answers_in(town: &Town, request: usize) -> Vec<String> {
    let body = &town.world.model.requests()[request].body;
    let messages = body["messages"].as_array().unwrap().iter();
    messages.filter(|m| m["role"] == "tool").map(|m| m["content"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_report_written_as_text_is_a_report() {
    let call = &report()["tool_calls"][0];
    let written = format!("I am sure.\n<tool_call>\n{call}\n</tool_call>");
    let (town, card) = told(&[("0001", json!({"content": written}))], Room::default()).await;
    assert_eq!(card.report.unwrap().origin, Origin::Model);
    assert_eq!(town.paid_turns(), 1);
}

#[tokio::test]
async fn a_malformed_call_is_tried_once_more_with_its_error() {
    let broken =
        json!({"tool_calls": [{"name": "pod_logs", "arguments": "{\"pod\": "}, {"name": "get_logs", "arguments": {}}]});
    let (town, card) = told(&[("0001", broken.clone()), ("0002", report())], Room::default()).await;
    let errors = answers_in(&town, 1);
    assert!(
        errors.iter().any(|e| e.contains("no JSON object: EOF") && e.contains("send this call again")),
        "{errors:?}"
    );
    assert!(errors.iter().any(|e| e.contains("the tools are: ") && e.contains("pod_logs, ")), "{errors:?}");
    assert_eq!(card.report.unwrap().origin, Origin::Model);

    let (town, card) = told(&[("0001", broken.clone()), ("0002", broken)], Room::default()).await;
    assert_eq!(town.paid_turns(), 2, "one retry");
    assert!(matches!(card.incident.investigation.state, InvestigationState::Failed { .. }));
    assert_eq!(card.report.unwrap().origin, Origin::Findings);
}

#[tokio::test]
async fn a_small_model_is_offered_the_most_useful_tools_alone() {
    let room = Room { tools_at_once: Some(3), ..Room::default() };
    let (town, _) = told(&[("0001", report())], room).await;
    let offered = town.world.model.requests()[0].body["tools"].clone();
    let names: Vec<&str> = offered.as_array().unwrap().iter().filter_map(|t| t["function"]["name"].as_str()).collect();
    assert_eq!(names, ["get_workload", "pod_logs", "what_changed", "submit_report"]);
}

#[tokio::test]
async fn what_does_not_fit_is_left_out_by_rule_can_be_read_again_and_is_told_on_the_card() {
    let place = json!({"namespace": "shop", "kind": "Deployment", "name": "pricing"});
    let read = |names: &[&str]| -> Value {
        let calls: Vec<Value> = names.iter().map(|name| json!({"name": name, "arguments": place})).collect();
        json!({"tool_calls": calls})
    };
    let again = json!({"tool_calls": [{"name": "get_evidence", "arguments": {"evidence": "e12"}}]});
    let answers = [
        ("0001", read(&["get_workload"; 4])),
        ("0002", read(&["rollout_history"])),
        ("0003", again),
        ("0004", report()),
    ];
    let room = Room { context_tokens: 12_000, ..Room::default() };
    let (town, card) = told(&answers, room).await;
    let third = answers_in(&town, 2);
    assert!(
        third[0].starts_with("e12 get_workload ") && third[0].ends_with("get_evidence e12 shows them again]"),
        "{third:?}"
    );
    let fourth = answers_in(&town, 3);
    let seen = fourth.last().unwrap();
    assert!(seen.starts_with("e17 get_evidence ") && seen.contains("OOMKilled"), "{seen}");
    assert!(card.incident.investigation.left_out > 0);
    assert!(town.shown().contains("beyond what the model can hold at once"), "{}", town.shown());
    assert_eq!(card.report.unwrap().origin, Origin::Model);
}

#[tokio::test]
async fn the_audit_of_a_turn_names_the_evidence_that_its_calls_became() {
    let place = json!({"namespace": "shop", "kind": "Deployment", "name": "pricing"});
    let call = |name: &str, arguments: &Value| json!({"name": name, "arguments": arguments});
    let absent = json!({"namespace": "shop", "kind": "Deployment", "name": "prising"});
    let refused = json!({"namespace": "kube-system"});
    let read = [call("get_workload", &place), call("get_workload", &absent), call("list_workloads", &refused)];
    let answers = [("0001", json!({"tool_calls": read})), ("0002", report())];
    let (town, card) = told(&answers, Room::default()).await;
    let mut turns = Vec::new();
    let exported = town.store.audit_export(|line| {
        let entry = serde_json::from_str::<Value>(line)?["entry"].take();
        if entry["kind"] == "turn" {
            turns.push(entry["body"].clone());
        }
        Ok(())
    });
    exported.await.unwrap();
    // What was refused was not read; what failed is evidence that something is missing.
    assert_eq!((&turns[0]["evidence"], &turns[0]["tool_calls"]), (&json!(["e12", "e13"]), &json!(3)), "{turns:?}");
    assert_eq!(turns[1]["evidence"], json!([]));
    for id in ["e12", "e13"] {
        let kept = town.store.evidence_one(&card.incident.id, id.parse().unwrap()).await.unwrap();
        assert!(kept.is_some(), "{id} holds the text");
    }
}

#[tokio::test]
async fn a_server_with_less_room_than_said_is_asked_once_more_with_half() {
    let place = json!({"namespace": "shop", "kind": "Deployment", "name": "pricing"});
    let calls: Vec<Value> =
        ["get_workload", "what_changed"].iter().map(|name| json!({"name": name, "arguments": place})).collect();
    let long = json!({"status": 400, "body": r#"{"error": {"message": "maximum context length is 4096", "code": "context_length_exceeded"}}"#});
    let answers = [("0001", json!({"tool_calls": calls})), ("0002", long), ("0003", report())];
    let (town, card) = told(&answers, Room::default()).await;
    let sizes: Vec<usize> = town.world.model.requests().iter().map(|r| r.body["messages"].to_string().len()).collect();
    assert!(sizes[2] < sizes[1], "{sizes:?}");
    assert_eq!(card.report.unwrap().origin, Origin::Model);
    assert_eq!(card.incident.investigation.turns, 3, "the refused request was no turn");
}
