//! A day's budget that is spent: critical incidents still get their investigation from what is kept for them, the others say so once.

use super::review::{submitted, true_quote};
use super::*;
use crate::govern::policy::Policy;
use crate::model::{Card, IncidentId, InvestigationState, Origin, Severity};

/// A reserved turn is some tens of thousands of tokens: what is kept is enough for one incident, what is left below it for none.
const POLICY: &str = r#"
approvers:
  - {who: [U0ONCALL1], tiers: [reversible], namespaces: ["*"]}
limits: {tokens_per_day: 1000000, reserve_for_critical: 0.3}
"#;
/// What others have spent within the day: all but what is kept.
const SPENT: u64 = 699_900;

/// The scenario's town on a day that is spent, after its alert; with so many of its pods ready, and its tier label.
async fn town(ready: u32, tier: &str) -> (Town, Card) {
    let mut scenario = answering(folder("oom-loop"), &[("0001", submitted(json!([true_quote()])))]);
    edit(&mut scenario, |items| {
        let is_it = |item: &&mut Value| item["kind"] == "Deployment" && item["metadata"]["name"] == "pricing";
        let pricing = items.iter_mut().find(is_it).unwrap();
        pricing["metadata"]["labels"]["tier"] = json!(tier);
        let all = pricing["spec"]["replicas"].as_u64().unwrap() as u32;
        let missing = all.saturating_sub(ready);
        for (field, count) in [("readyReplicas", ready), ("availableReplicas", ready), ("unavailableReplicas", missing)]
        {
            pricing["status"][field] = json!(count);
        }
    });
    let policy = Policy::parse(POLICY, "policy.yaml").unwrap();
    let town = Town::with(scenario, |setup| setup.policy = policy).await;
    let other = IncidentId::parse("i900").unwrap();
    let charge = Write::Charge { incident: other, key: "turn-1-1".into(), tokens: SPENT, micros: 0 };
    town.store.commit(vec![charge], Durability::Durable, None).await.unwrap();
    town.hear(&town.body("alert.json")).await;
    let incident = town.incidents().await.pop().unwrap();
    let card = town.store.card(&incident.id).await.unwrap().unwrap();
    (town, card)
}

#[tokio::test]
async fn a_critical_incident_is_still_investigated_when_others_have_spent_the_day() {
    let (town, card) = town(0, "critical").await;
    assert_eq!(card.incident.severity, Severity::Critical);
    assert_eq!(card.report.unwrap().origin, Origin::Model);
    assert_eq!(card.incident.investigation.state, InvestigationState::Done);
    assert!(!town.shown().contains("tokens are spent"), "{}", town.shown());
}

#[tokio::test]
async fn one_that_is_only_high_has_its_card_from_rules_which_says_once_what_is_spent() {
    let (town, card) = town(0, "front").await;
    assert_eq!(card.incident.severity, Severity::High);
    assert_eq!(town.world.model.requests().len(), 0, "nothing is paid for");
    assert_eq!(card.report.unwrap().origin, Origin::Findings);
    let says = "699900 of 700000 tokens are spent, the rest is kept for critical incidents";
    let everything: String =
        town.world.slack.messages().iter().map(|message| json!(message.blocks).to_string()).collect();
    assert_eq!(everything.matches(says).count(), 1, "{everything}");
    // It comes again, and time goes by: nothing is said twice, and nothing is tried that may not be paid for.
    town.hear(&town.body("alert.json")).await;
    town.pass(600).await;
    let everything: String =
        town.world.slack.messages().iter().map(|message| json!(message.blocks).to_string()).collect();
    assert_eq!((everything.matches(says).count(), town.world.model.requests().len()), (1, 0));
}

#[tokio::test]
async fn what_was_spent_is_spent_for_the_next_daemon_too() {
    let folder_of_store = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder_of_store.path().join("firstlook.db").display());
    let scenario = || answering(folder("oom-loop"), &[("0001", submitted(json!([true_quote()])))]);
    let few = "limits: {tokens_per_day: 20000, reserve_for_critical: 0}";
    let policy = || Policy::parse(few, "policy.yaml").unwrap();
    let town = Town::over(scenario(), Some(&url), |setup| setup.policy = policy()).await;
    let charge = |key: &str, tokens| {
        let other = IncidentId::parse("i900").unwrap();
        vec![Write::Charge { incident: other, key: key.into(), tokens, micros: 0 }]
    };
    town.store.commit(charge("turn-1-1", 19_900), Durability::Durable, None).await.unwrap();
    town.store.close().await;
    // Another process on the same file.
    let town = Town::over(scenario(), Some(&url), |setup| setup.policy = policy()).await;
    town.hear(&town.body("alert.json")).await;
    assert_eq!(town.world.model.requests().len(), 0, "the day's tokens are spent");
    assert!(town.shown().contains("19900 of 20000 tokens are spent"), "{}", town.shown());
    town.store.close().await;
}
