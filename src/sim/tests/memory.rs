//! What was learned before: incidents like this one, and what people wrote down for its alerts.

use super::review::{submitted, true_quote};
use super::*;
use crate::model::{Ending, Kind, ObjectRef};
use crate::observe::Runbooks;
use crate::redact::Redactor;

#[tokio::test]
async fn an_incident_of_before_and_a_runbook_are_on_the_card_and_before_the_model() {
    let shelf = tempfile::tempdir().unwrap();
    let runbook = "---\nmatch: {namespace: shop}\n---\n# Prices\nAsk Ada before you touch the price list.\n";
    std::fs::write(shelf.path().join("prices.md"), runbook).unwrap();
    let calls = json!([{"name": "similar_incidents", "arguments": {}}, {"name": "find_runbooks", "arguments": {"incident": "i-of-another"}}]);
    let answers = [("0001", json!({"tool_calls": calls})), ("0002", submitted(json!([true_quote()])))];
    let town = Town::with(answering(folder("oom-loop"), &answers), |setup| {
        let url = Some("https://git.example/{file}");
        setup.sources.runbooks = Runbooks::load(shelf.path(), url, &Redactor::default()).unwrap();
    })
    .await;
    let subject = ObjectRef::new(Kind::Deployment, Some("shop"), "pricing").unwrap();
    let before = |hours: i64| town.now().checked_sub(SignedDuration::from_hours(hours)).unwrap();
    let mut past = Incident::opened(town.setup.cluster.clone(), subject, "workload", before(50));
    past.state = IncidentState::Over { at: before(49), how: Ending::Healthy };
    town.store.commit(vec![Write::Incident(Box::new(past))], Durability::Soon, None).await.unwrap();

    town.hear(&town.body("alert.json")).await;
    // The newest card: the incident of before has its own.
    let shown = json!(town.channel().last().unwrap().blocks).to_string();
    let requests = town.world.model.requests();
    assert!(
        shown.contains("*Seen before*  2 days ago") && shown.contains("over after 60 min, firstlook changed nothing"),
        "{shown}"
    );
    assert!(shown.contains("<https://git.example/prices%2Emd|Runbook: Prices>"), "{shown}");
    let task = requests[0].body["messages"][1].to_string();
    assert!(task.contains("Seen before:") && task.contains("over after 60 min"), "{task}");
    let answered = requests[1].body["messages"].to_string();
    assert!(
        answered.contains("e12 similar_incidents") && answered.contains("Deployment shop/pricing, began "),
        "{answered}"
    );
    assert!(answered.contains("Ask Ada before you touch the price list."), "{answered}");
}

#[tokio::test]
async fn without_runbooks_there_is_no_tool_for_them() {
    let town = Town::of(answering(folder("oom-loop"), &[("0001", submitted(json!([true_quote()])))])).await;
    town.hear(&town.body("alert.json")).await;
    let offered = town.world.model.requests()[0].body["tools"].to_string();
    assert!(offered.contains("similar_incidents") && !offered.contains("find_runbooks"), "{offered}");
    assert!(!town.shown().contains("Seen before"));
}
