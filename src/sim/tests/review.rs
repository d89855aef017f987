//! Reports are looked at again by their own model before anybody sees them, and can only lose by it.

use super::*;
use crate::model::{Card, Certainty, InvestigationState, Origin, Review};

/// What the model reports at once, with quotes of what the scene holds already.
pub(super) fn submitted(citations: Value) -> Value {
    let pricing = json!({"kind": "Deployment", "namespace": "shop", "name": "pricing"});
    let mut undo = pricing.clone();
    undo["tool"] = json!("rollout_undo");
    json!({"tool_calls": [{"name": "submit_report", "arguments": {
        "headline": "pricing is killed at its memory limit since revision 12",
        "cause": "Revision 12 cut the memory limit. The table index-shard-9 grew as well.",
        "certainty": "proved", "culprit": pricing, "citations": citations, "ruled_out": ["the nodes"],
        "proposals": [undo], "reasoning": ["Every run ends OOMKilled."]}}]})
}

pub(super) fn true_quote() -> Value {
    json!({"evidence": "e3", "quote": "\"reason\": \"OOMKilled\""})
}

/// The town after its alert, with these answers of the model.
async fn told(answers: &[(&str, Value)]) -> (Town, Card) {
    let town = Town::of(answering(folder("oom-loop"), answers)).await;
    town.hear(&town.body("alert.json")).await;
    let incident = town.incidents().await.pop().unwrap();
    let card = town.store.card(&incident.id).await.unwrap().unwrap();
    (town, card)
}

#[tokio::test]
async fn a_report_that_holds_is_posted_after_one_more_request_that_is_paid_for() {
    let (town, card) = told(&[("0001", submitted(json!([true_quote()])))]).await;
    let report = card.report.unwrap();
    assert_eq!((report.origin, report.certainty), (Origin::Model, Certainty::Proved));
    assert!(matches!(report.review, Review::Done { .. }));
    let requests = town.world.model.requests();
    assert_eq!(requests.iter().map(|request| request.review).collect::<Vec<_>>(), [false, true]);
    assert_eq!(card.incident.investigation.turns, 2, "a review is a turn");
    let (spent, _) = town.store.spent_since(Timestamp::UNIX_EPOCH).await.unwrap();
    let counted = card.incident.investigation.input_tokens + card.incident.investigation.output_tokens;
    assert_eq!(spent, counted, "what was reserved is settled");
    assert_eq!(card.approvals.len(), 1);
}

#[tokio::test]
async fn what_the_review_strikes_is_never_shown_and_certainty_falls() {
    let review =
        json!({"content": r#"{"wrong": ["p1"], "against": "The nodes were not looked at.", "certainty": "possible"}"#});
    let (town, card) = told(&[("0001", submitted(json!([true_quote()]))), ("0001.review", review)]).await;
    let report = card.report.unwrap();
    assert_eq!(report.certainty, Certainty::Possible);
    assert!(report.proposals.is_empty() && card.approvals.is_empty(), "no button of a proposal that does not follow");
    assert!(town.shown().contains("Possible cause"));
    town.pass(5).await;
    let thread: String = town.world.slack.messages().iter().map(|message| json!(message.blocks).to_string()).collect();
    assert!(thread.contains("Against it: The nodes were not looked at."));
}

#[tokio::test]
async fn a_false_quote_takes_its_claim_along_before_the_review_sees_it() {
    let cited = json!([true_quote(), {"evidence": "e4", "quote": "index-shard-9 grew to 4 GiB"}]);
    let (town, card) = told(&[("0001", submitted(cited))]).await;
    let report = card.report.unwrap();
    assert_eq!((report.struck, report.cause.as_str()), (1, "Revision 12 cut the memory limit."));
    assert!(!town.world.model.requests()[1].body["messages"][2].to_string().contains("index-shard-9"));
    assert!(!town.shown().contains("index-shard-9"));
}

#[tokio::test]
async fn a_report_that_falls_in_its_review_leaves_the_card_to_the_rules_which_say_so() {
    let review = json!({"content": r#"{"wrong": ["c1"], "certainty": "likely"}"#});
    let (town, card) = told(&[("0001", submitted(json!([true_quote()]))), ("0001.review", review)]).await;
    assert_eq!(card.report.unwrap().origin, Origin::Findings);
    assert!(matches!(card.incident.investigation.state, InvestigationState::Failed { .. }));
    assert!(town.shown().contains("this is from rules alone"), "{}", town.shown());
}

#[tokio::test]
async fn a_model_that_dies_before_its_review_leaves_a_report_that_is_less_sure_and_says_why() {
    let dead = json!({"status": 401, "body": r#"{"error": {"message": "key revoked"}}"#});
    let (town, card) = told(&[("0001", submitted(json!([true_quote()]))), ("0001.review", dead)]).await;
    let report = card.report.unwrap();
    assert_eq!((report.origin, report.certainty), (Origin::Model, Certainty::Likely));
    assert!(
        town.shown().contains("second look at this failed (provider returned 401: key revoked)"),
        "{}",
        town.shown()
    );
    assert_eq!(card.incident.investigation.state, InvestigationState::Done);
}

#[tokio::test]
async fn a_report_of_an_unknown_cause_needs_no_second_look() {
    let mut unknown = submitted(json!([]));
    unknown["tool_calls"][0]["arguments"]["certainty"] = json!("unknown");
    let (town, card) = told(&[("0001", unknown)]).await;
    assert_eq!(town.world.model.requests().len(), 1);
    assert_eq!(card.report.unwrap().review, Review::NotNeeded);
}
