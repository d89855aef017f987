//! An action that did not help is a new fact: the model is asked once more, knows of it, and its next report replaces the first.

use super::*;
use crate::model::{Approval, ApprovalState, Card, Click, InvestigationState, Pressed, Verification};
use crate::sim::world::APPROVER;

/// A report that proposes this of `pricing`, with a quote of what the scene holds already.
fn report(cause: &str, proposals: Value) -> Value {
    let pricing = json!({"kind": "Deployment", "namespace": "shop", "name": "pricing"});
    let quote = json!({"evidence": "e3", "quote": "\"reason\": \"OOMKilled\""});
    json!({"tool_calls": [{"name": "submit_report", "arguments": {
        "headline": format!("pricing fails: {cause}"), "cause": format!("{cause}."), "certainty": "likely",
        "culprit": pricing, "citations": [quote], "ruled_out": [], "proposals": proposals, "reasoning": []}}]})
}

fn step(tool: &str) -> Value {
    json!({"tool": tool, "kind": "Deployment", "namespace": "shop", "name": "pricing"})
}

/// A town where a restart, which changes nothing about the cause, is proposed; then with these answers to the next look.
async fn restarted(then: &[(&str, Value)]) -> (Town, Card) {
    let first = report("its caches are stale", json!([step("rollout_restart")]));
    let mut scenario = answering(folder("oom-loop"), &[("0001", first)]);
    for (file, answer) in then {
        scenario.files.insert(format!("model/2/{file}.json"), answer.to_string().into_bytes());
    }
    let town = Town::of(scenario).await;
    town.hear(&town.body("alert.json")).await;
    let asked = card(&town).await.approvals.remove(0);
    assert_eq!(asked.state, ApprovalState::Pending, "{}", asked.because);
    let click = Click {
        id: "yes".into(),
        cluster: asked.cluster.clone(),
        user: APPROVER.into(),
        user_name: "".into(),
        channel: "".into(),
        message_ts: "".into(),
        response_url: None,
        heard_at: town.now(),
        what: Pressed::Approve { approval: asked.id },
    };
    town.store.commit(vec![Write::Click(click)], Durability::Durable, None).await.unwrap();
    town.settle().await;
    let card = card(&town).await;
    assert_eq!(card.approvals[0].state, ApprovalState::Executed, "{}", card.approvals[0].because);
    (town, card)
}

async fn card(town: &Town) -> Card {
    let incident = town.incidents().await.pop().unwrap();
    town.store.card(&incident.id).await.unwrap().unwrap()
}

/// Time goes by until the restart has had its time and did not help.
async fn in_vain(town: &Town) -> Approval {
    let mut changes = town.world.cluster.changes();
    for _ in 0..40 {
        // The simulated controllers take their steps beside ours.
        let _ = tokio::time::timeout(Duration::from_millis(200), changes.changed()).await;
        town.pass(60).await;
        let asked = card(town).await.approvals.pop().unwrap();
        if asked.verification.is_judged() {
            assert!(asked.in_vain().is_some(), "{:?}", asked.verification);
            return asked;
        }
    }
    panic!("{:?}", card(town).await.approvals);
}

fn told(town: &Town) -> Vec<String> {
    let requests = town.world.model.requests();
    let opening = |request: &crate::sim::model::ModelRequest| {
        request.body["messages"][1]["content"].as_str().unwrap_or_default().to_owned()
    };
    requests.iter().filter(|request| !request.review).map(opening).collect()
}

#[tokio::test]
async fn what_did_not_help_is_told_to_the_model_once_and_its_next_report_replaces_the_first() {
    let mut back = step("rollout_undo");
    back["to_revision"] = json!(11);
    let (town, before) = restarted(&[("0001", report("its memory limit is too low", json!([back])))]).await;
    assert_eq!((told(&town).len(), before.incident.investigation.again.len()), (1, 0));
    let vain = in_vain(&town).await;
    let after = card(&town).await;
    let asked = told(&town);
    assert_eq!(asked.len(), 2, "{asked:#?}");
    let (_, why) = vain.in_vain().unwrap();
    for says in [
        "What was done already, by what was thought the cause, did not help",
        "rollout_restart of Deployment shop/pricing (restarted)",
        why.as_str(),
        "the report before it said: pricing fails: its caches are stale",
    ] {
        assert!(asked[1].contains(says), "{says}: {}", asked[1]);
        assert!(!asked[0].contains(says), "{says}");
    }
    assert_eq!(after.report.unwrap().cause.as_str(), "its memory limit is too low.");
    assert!(town.shown().contains("memory limit is too low") && !town.shown().contains("caches are stale"));
    let investigation = after.incident.investigation;
    assert_eq!((investigation.state, investigation.turns), (InvestigationState::Done, 4), "two looks, reviewed each");
    assert_eq!(investigation.again.iter().map(|again| again.answered).collect::<Vec<_>>(), [true]);
    // What it proposes needs a new yes, and nothing is asked of the model a third time.
    let states: Vec<ApprovalState> = after.approvals.iter().map(|approval| approval.state).collect();
    assert_eq!(states, [ApprovalState::Pending, ApprovalState::Executed]);
    for _ in 0..5 {
        town.pass(120).await;
    }
    assert_eq!(told(&town).len(), 2, "once for each action that was carried out");
}

#[tokio::test]
async fn while_it_looks_again_the_card_says_so_and_doubts_the_first_cause() {
    let busy = json!({"status": 401, "body": r#"{"error": {"message": "key revoked"}}"#});
    let (town, _) = restarted(&[("0001", busy)]).await;
    in_vain(&town).await;
    let (shown, after) = (town.shown(), card(&town).await);
    assert!(matches!(after.incident.investigation.state, InvestigationState::Failed { .. }));
    assert!(shown.contains("Looked again, without an answer (provider returned 401: key revoked)"), "{shown}");
    assert!(shown.contains("Possible cause") && !shown.contains("Likely cause"), "{shown}");
    town.pass(120).await;
    assert_eq!(told(&town).len(), 2);
}

#[tokio::test]
async fn a_process_that_ends_before_it_looks_again_leaves_that_to_the_next_and_no_turns_left_means_no_look() {
    for (turns, looks) in [(2, 2), (11, 1)] {
        let (mut town, _) = restarted(&[("0001", report("its memory limit is too low", json!([])))]).await;
        // As the store is when the process ended between the outcome and what follows from it.
        let mut stands = card(&town).await;
        let vain = &mut stands.approvals[0];
        vain.verification = Verification::NotBetter { at: town.now(), why: "new pods still fail".into() };
        stands.incident.investigation.turns = turns;
        let (incident, investigation) = (stands.incident.id.clone(), stands.incident.investigation);
        let writes = vec![
            Write::Approval { approval: Box::new(vain.clone()), was: Some(ApprovalState::Executed) },
            Write::Investigation { incident, investigation },
        ];
        town.store.commit(writes, Durability::Durable, None).await.unwrap();
        assert_eq!(told(&town).len(), 1);
        town.restart(60).await;
        assert_eq!(told(&town).len(), looks, "with {turns} turns taken");
        town.restart(60).await;
        assert_eq!(told(&town).len(), looks);
    }
}
