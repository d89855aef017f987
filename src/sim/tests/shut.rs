//! Slack refuses until a person mends something: no card is given up meanwhile.

use super::*;
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
    let why = town.stages.undelivered().why().unwrap();
    assert_eq!(why.as_str(), "token_revoked: check the token");
    // After 0, 10, 20, 30 and 45 s: five refusals, which park whatever fails.
    for expected in [2, 3, 4, 4, 5, 5] {
        town.pass(10).await;
        assert_eq!((tries(&town), town.channel().len()), (expected, 0));
    }
    assert_eq!(town.store.parked_count().await.unwrap(), 0);
    town.restart(20).await;
    assert_eq!(town.channel().len(), 1, "{:#?}", town.channel());
    assert!(town.stages.undelivered().why().is_none());
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
    assert!(town.stages.undelivered().why().is_none());
}
