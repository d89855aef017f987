//! Slack refuses until a person mends something: no card is given up meanwhile.

use super::*;
use crate::model::{Ending, Thumb};
use crate::sim::slack::Fault;
use crate::stages::deliver::Outlet;

#[tokio::test]
async fn a_card_waits_until_somebody_has_mended_the_token() {
    let mut town = Town::of(Scenario::find("bad-image-rollout").unwrap()).await;
    for _ in 0..5 {
        town.world.slack.fail_next("chat.postMessage", Fault::Error("token_revoked".into()));
    }
    let tries =
        |town: &Town| town.world.slack.requests().iter().filter(|request| request.method == "chat.postMessage").count();
    town.hear(&town.body("alert.json")).await;
    let why = town.stages.undelivered().why(town.now()).unwrap();
    assert_eq!(why.as_str(), "token_revoked: check the token");
    // After 0, 10, 20, 30 and 45 s: five refusals, which park whatever fails.
    for expected in [2, 3, 4, 4, 5, 5] {
        town.pass(10).await;
        assert_eq!((tries(&town), town.channel().len()), (expected, 0));
    }
    assert_eq!(town.store.parked_count().await.unwrap(), 0);
    town.restart(20).await;
    assert_eq!(town.channel().len(), 1, "{:#?}", town.channel());
    let metrics = town.setup.metrics.text();
    let told = "firstlook_first_card_seconds_bucket{le=\"+Inf\"} 1\n";
    assert!(
        metrics.contains(told) && metrics.contains("firstlook_first_card_seconds_sum 8"),
        "a slow one is told: {metrics}"
    );
    let refused = "firstlook_slack_errors_total{method=\"chat.postMessage\",kind=\"shut\"} 5\n";
    let timed = "firstlook_slack_seconds_count{method=\"chat.postMessage\"} ";
    assert!(metrics.contains(refused) && metrics.contains(timed), "which call, and why: {metrics}");
    assert!(town.stages.undelivered().why(town.now()).is_none());
}

#[tokio::test]
async fn a_card_in_a_channel_that_was_archived_begins_anew_in_the_one_that_is_set_now() {
    let mut town = Town::of(Scenario::find("bad-image-rollout").unwrap()).await;
    town.hear(&town.body("alert.json")).await;
    town.pass(20).await;
    assert_eq!(town.channel().len(), 1);
    // The same channel under its name: to what is stored it is another one.
    let Outlet::Slack { channel, .. } = &mut town.setup.outlet else { panic!("no Slack") };
    *channel = "incidents".into();
    town.stages = Stages::new(&town.setup).await.unwrap();
    town.world.slack.fail_next("chat.update", Fault::Error("is_archived".into()));
    town.hear(&resolved(town.body("alert.json"), town.now())).await;
    town.pass(20).await;
    assert_eq!(town.channel().len(), 2, "{:#?}", town.channel());
    assert!(town.stages.undelivered().why(town.now()).is_none());
}

#[tokio::test]
async fn a_card_that_somebody_deleted_stands_again_once_while_people_are_asked_for_leave() {
    let town = Town::of(Scenario::find("bad-image-rollout").unwrap()).await;
    town.hear(&town.body("alert.json")).await;
    town.pass(20).await;
    let gone = || town.world.slack.fail_next("chat.update", Fault::Error("message_not_found".into()));
    let changed = async |who: &'static str| {
        let incident = town.open().await.pop().unwrap();
        let thumb = Thumb { user: who.into(), up: true, reason: None, at: town.now() };
        let write = Write::Thumb { incident: incident.id, thumb };
        town.store.commit(vec![write], Durability::Durable, None).await.unwrap();
        town.pass(20).await;
    };
    let thread = |of: usize| {
        let ts = town.channel()[of].ts.clone();
        let all = town.world.slack.messages();
        all.into_iter().filter(|message| message.thread_ts.as_ref() == Some(&ts) && message.ts != ts).count()
    };
    assert_eq!(town.channel().len(), 1);
    assert!(town.shown().contains("\"approve\""), "{}", town.shown());
    gone();
    changed("U1").await;
    assert_eq!(town.channel().len(), 2, "{:#?}", town.channel());
    for _ in 0..thread(0) {
        town.pass(5).await;
    }
    assert!(thread(0) > 0 && thread(1) == thread(0), "its thread stands with it");
    gone();
    changed("U2").await;
    assert_eq!(town.channel().len(), 2, "who deletes it twice does not want it");
    assert_eq!(town.store.parked_count().await.unwrap(), 0);
    assert!(town.store.undelivered(1).await.unwrap().is_empty());
    // The next change is told all the same.
    changed("U3").await;
    assert_ne!(json!(town.channel()[1].blocks).to_string(), town.shown());
}

#[tokio::test]
async fn what_changes_on_a_card_does_not_wait_for_its_thread() {
    let town = Town::of(Scenario::find("bad-image-rollout").unwrap()).await;
    // No time passes: the channel has not its whole burst back, which the thread waits for.
    town.hear(&town.body("alert.json")).await;
    let replies = || town.world.slack.messages().into_iter().filter(|message| message.thread_ts.is_some()).count();
    assert!(town.shown().contains("\"approve\"") && replies() == 0, "{}", town.shown());
    let incident = town.open().await.pop().unwrap();
    let (id, before) = (incident.id.clone(), town.shown());
    let over = Incident { state: IncidentState::Over { at: town.now(), how: Ending::Resolved }, ..incident };
    town.store.commit(vec![Write::Incident(Box::new(over))], Durability::Durable, None).await.unwrap();
    town.settle().await;
    assert_ne!(town.shown(), before, "it is shown at once");
    assert_eq!((replies(), town.store.undelivered(1).await.unwrap().len()), (0, 0), "its thread is not due yet");
    town.pass(5).await;
    assert!(replies() > 0);
    for _ in 0..5 {
        town.pass(5).await;
    }
    assert_eq!(town.store.parked(&id).await.unwrap(), []);
}

#[tokio::test]
async fn a_thread_that_was_locked_is_tried_again_by_itself_now_and_then_and_nothing_stands_there_twice() {
    let town = Town::of(Scenario::find("bad-image-rollout").unwrap()).await;
    // No time passes: the card stands, its thread waits for the channel's whole burst.
    town.hear(&town.body("alert.json")).await;
    let locked = || {
        let fault = Fault::Error("restricted_action_thread_locked".into());
        town.world.slack.fail_next("chat.postMessage", fault);
    };
    let replies = || -> Vec<String> {
        let all = town.world.slack.messages();
        all.iter()
            .filter(|message| message.thread_ts.is_some())
            .map(|message| json!(message.blocks).to_string())
            .collect()
    };
    let tries = || town.world.slack.requests().iter().filter(|request| request.method == "chat.postMessage").count();
    locked();
    locked();
    let before = tries();
    town.pass(5).await;
    assert_eq!((tries() - before, replies().len()), (1, 0), "it is refused");
    for _ in 0..9 {
        town.pass(30).await;
    }
    assert_eq!((tries() - before, town.store.undelivered(1).await.unwrap().len()), (1, 0), "and not asked again soon");
    town.pass(60).await;
    assert_eq!((tries() - before, replies().len()), (2, 0), "but later it is");
    // The next one is taken, and its answer lost.
    town.world.slack.fail_next("chat.postMessage", Fault::DropAfterAccept);
    for _ in 0..20 {
        town.pass(60).await;
    }
    assert_eq!((tries() - before, replies().len()), (3, 1), "it is found, and not posted again: {:#?}", replies());
    assert!(town.store.undelivered(1).await.unwrap().is_empty());
    assert_eq!(town.store.parked_count().await.unwrap(), 0);
}
