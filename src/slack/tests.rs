//! The client, the desk and Socket Mode against the stand-in, over the real wire protocol.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::model::{ApprovalId, Click, ClusterName, IncidentId, Nonce, Pressed, ReasonFor};
use crate::redact::Redactor;
use crate::sim::slack::{Delivery, Fault, Slack as StandIn, SlackOptions as Workspace};
use crate::slack::client::{Slack, SlackError, SlackOptions};
use crate::slack::desk::Desk;
use crate::slack::interact::Place;
use crate::slack::render;
use crate::slack::render::Message;
use crate::slack::render::tests::with_button;
use crate::slack::socket;
use crate::telemetry::Metrics;

const CHANNEL: &str = "C0INCIDENT";
const ONCALL: &str = "U0ONCALL1";

struct World {
    stand_in: StandIn,
    slack: Slack,
    clock: Clock,
    api_url: String,
}

async fn world() -> World {
    let clock = Clock::system();
    let stand_in = StandIn::new(clock.clone(), Workspace { rate_limit: false, ..Workspace::default() });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api_url = format!("http://{}/api", listener.local_addr().unwrap());
    let router = stand_in.router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    World { stand_in, slack: client(&api_url), clock, api_url }
}

fn client(api_url: &str) -> Slack {
    let options = SlackOptions {
        bot_token: "xoxb-stand-in".to_owned().into(),
        api_url: api_url.to_owned(),
        redactor: Redactor::default(),
        metrics: Metrics::new(),
        clock: Clock::system(),
    };
    Slack::new(options).unwrap()
}

impl World {
    async fn post(&self, thread: Option<&str>, message: &Message, nonce: &str) -> Result<String, SlackError> {
        let incident = IncidentId::parse("i1").unwrap();
        self.slack.post(CHANNEL, thread, message, &incident, &Nonce::parse(nonce).unwrap()).await
    }

    async fn find(&self, thread: Option<&str>, nonce: &str) -> Option<String> {
        let oldest = self.clock.now() - SignedDuration::from_mins(10);
        self.slack.find(CHANNEL, thread, &Nonce::parse(nonce).unwrap(), oldest).await.unwrap()
    }
}

fn card() -> Message {
    let now = Clock::system().now();
    render::card(&with_button(), &render::Options { now })
}

#[tokio::test]
async fn a_post_whose_answer_was_lost_is_found_by_its_nonce_in_channel_and_thread() {
    let mut world = world().await;
    let root = world.post(None, &card(), "n1").await.unwrap();
    assert_eq!(world.find(None, "n1").await, Some(root.clone()));
    assert_eq!(world.find(None, "n2").await, None);
    // After a start the channel has its whole burst, which a reply waits for.
    world.slack = client(&world.api_url);
    world.stand_in.fail_next("chat.postMessage", Fault::DropAfterAccept);
    assert!(matches!(world.post(Some(&root), &card(), "n2").await, Err(SlackError::Unknown(_))));
    let reply = world.find(Some(&root), "n2").await.expect("it was posted");
    assert!(reply > root);
    assert_eq!(world.stand_in.messages().len(), 2);
}

#[tokio::test]
async fn every_page_is_read_before_a_message_counts_as_absent() {
    let world = world().await;
    world.post(None, &card(), "n0").await.unwrap();
    let other = world.post(None, &render::answer(&"x".into(), None), "n1").await.unwrap();
    let raw = serde_json::json!({"channel": CHANNEL, "text": "noise"});
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/chat.postMessage", world.api_url);
    for _ in 0..201 {
        http.post(&url).bearer_auth("xoxb-stand-in").json(&raw).send().await.unwrap();
    }
    assert_eq!(world.find(None, "n1").await, Some(other));
    assert_eq!(world.find(None, "n9").await, None);
    let pages = world.stand_in.requests().iter().filter(|call| call.method == "conversations.history").count();
    assert_eq!(pages, 4, "two each");
}

#[tokio::test]
async fn each_failure_says_what_to_do_about_it() {
    let world = world().await;
    let ts = world.post(None, &card(), "n1").await.unwrap();
    type Expected = fn(&SlackError) -> bool;
    let cases: [(Fault, Expected); 8] = [
        (Fault::Status(503), |e| matches!(e, SlackError::Unknown(_))),
        (Fault::Html, |e| matches!(e, SlackError::Unknown(_))),
        (Fault::Drop, |e| matches!(e, SlackError::Unknown(_))),
        (Fault::Error("not_in_channel".into()), |e| e.to_string().contains("invite the app")),
        (Fault::Error("is_archived".into()), |e| matches!(e, SlackError::Shut(_))),
        (Fault::Error("token_revoked".into()), |e| matches!(e, SlackError::Shut(_))),
        (Fault::Error("msg_too_long".into()), |e| matches!(e, SlackError::Refused(_))),
        (Fault::Error("fatal_error".into()), |e| matches!(e, SlackError::Unknown(_))),
    ];
    for (fault, expected) in cases {
        world.stand_in.fail_next("chat.update", fault.clone());
        let error = world.slack.update(CHANNEL, &ts, &card()).await.unwrap_err();
        assert!(expected(&error), "{fault:?}: {error}");
    }
    world.stand_in.fail_next("chat.postMessage", Fault::RateLimited(7));
    let limited = world.post(None, &card(), "n2").await;
    assert!(matches!(limited, Err(SlackError::Wait(wait)) if wait == Duration::from_secs(7)), "{limited:?}");
    assert!(matches!(world.post(None, &card(), "n9").await, Err(SlackError::Wait(_))), "the channel rests");
    let gone = world.slack.update(CHANNEL, "1.1", &card()).await;
    assert!(matches!(gone, Err(SlackError::Gone(_))), "{gone:?}");
}

#[tokio::test]
async fn nobody_listening_is_a_wait_and_no_lost_answer() {
    let options = SlackOptions {
        bot_token: "xoxb-x".to_owned().into(),
        api_url: "http://127.0.0.1:9/api".into(),
        redactor: Redactor::default(),
        metrics: Metrics::new(),
        clock: Clock::system(),
    };
    let slack = Slack::new(options).unwrap();
    let answer = slack.update(CHANNEL, "1.1", &card()).await;
    assert!(matches!(answer, Err(SlackError::Wait(_))), "{answer:?}");
}

#[tokio::test]
async fn a_card_is_edited_in_place_and_keeps_its_mark() {
    let world = world().await;
    let ts = world.post(None, &card(), "n1").await.unwrap();
    world.slack.update(CHANNEL, &ts, &render::answer(&"over".into(), None)).await.unwrap();
    assert_eq!(world.stand_in.message(&ts).unwrap().plain(), "over");
    assert_eq!(world.find(None, "n1").await, Some(ts));
}

#[tokio::test]
async fn groups_fail_closed_and_are_asked_once_a_minute() {
    let world = world().await;
    let members = world.slack.members("S0ONCALLS").await.unwrap();
    assert!(members.contains(ONCALL) && !members.contains("U0VISITOR"));
    world.slack.members("S0ONCALLS").await.unwrap();
    assert_eq!(world.stand_in.requests().iter().filter(|call| call.method == "usergroups.users.list").count(), 1);
    assert!(world.slack.members("S0NOBODY").await.is_err());
    world.stand_in.fail_next("usergroups.users.list", Fault::Status(500));
    assert!(world.slack.members("S0NOBODY").await.is_err());
}

#[tokio::test]
async fn the_token_says_who_it_is_and_what_it_may() {
    let identity = world().await.slack.auth_test().await.unwrap();
    assert_eq!(identity.user.as_str(), "U0FIRSTLK");
    assert!(identity.scopes.iter().any(|scope| scope == "chat:write"), "{:?}", identity.scopes);
}

/// A desk whose clicks come out of the channel, connected by Socket Mode.
async fn connected(world: &World) -> (mpsc::Receiver<Click>, watch::Receiver<bool>, CancellationToken) {
    let (sender, clicks) = mpsc::channel(8);
    let desk = Desk {
        place: Place { cluster: ClusterName::parse("prod").unwrap(), redactor: Redactor::default() },
        clock: world.clock.clone(),
        slack: world.slack.clone(),
        on_click: Arc::new(move |click| {
            let sender = sender.clone();
            Box::pin(async move { Ok(sender.send(click).await?) })
        }),
    };
    let (tell, mut open) = watch::channel(false);
    let stop = CancellationToken::new();
    tokio::spawn(socket::run(desk, "xapp-stand-in".to_owned().into(), tell, stop.clone()));
    open.wait_for(|open| *open).await.unwrap();
    (clicks, open, stop)
}

#[tokio::test]
async fn a_click_comes_by_socket_mode_and_its_person_is_answered() {
    let world = world().await;
    let (mut clicks, mut open, stop) = connected(&world).await;
    let ts = world.post(None, &card(), "n1").await.unwrap();
    let outcome = world.stand_in.click(&ts, "approve", ONCALL, Delivery::Socket).await.unwrap();
    assert!(outcome.acked);
    let click = clicks.recv().await.unwrap();
    assert_eq!((click.user.as_str(), click.user_name.as_str()), (ONCALL, "oncall"));
    assert!(matches!(&click.what, Pressed::Approve { .. }), "{click:?}");
    let answer = render::answer(&"only <@U0LEAD001> may".into(), None);
    world.slack.ephemeral(click.response_url.as_deref().unwrap(), &answer).await.unwrap();
    let seen = world.stand_in.messages().pop().unwrap();
    assert_eq!(seen.ephemeral_to.as_deref(), Some(ONCALL));
    let elsewhere = world.slack.ephemeral("https://evil.example/actions/x", &answer).await;
    assert!(matches!(elsewhere, Err(SlackError::Refused(_))));
    stop.cancel();
    open.wait_for(|open| !*open).await.unwrap();
}

#[tokio::test]
async fn a_no_counts_at_once_and_its_reason_follows_by_a_form() {
    let world = world().await;
    let (mut clicks, _open, _stop) = connected(&world).await;
    let ts = world.post(None, &card(), "n1").await.unwrap();
    world.stand_in.click(&ts, "reject", ONCALL, Delivery::Socket).await.unwrap();
    let no = clicks.recv().await.unwrap();
    let Pressed::Reject { approval } = &no.what else { panic!("{no:?}") };
    let answer = render::answer(&"rejected".into(), Some(&ReasonFor::No(approval.clone())));
    world.slack.ephemeral(no.response_url.as_deref().unwrap(), &answer).await.unwrap();
    let offered = world.stand_in.messages().pop().unwrap();
    let mut changes = world.stand_in.changes();
    world.stand_in.click(&offered.ts, "reject_reason", ONCALL, Delivery::Socket).await.unwrap();
    while world.stand_in.modals().is_empty() {
        changes.changed().await.unwrap();
    }
    let typed = BTreeMap::from([("reject_reason".to_owned(), "DBA raises the limit".to_owned())]);
    let values = BTreeMap::from([("reject_reason".to_owned(), typed)]);
    let form = world.stand_in.modals().pop().unwrap().id;
    assert!(world.stand_in.submit(&form, ONCALL, &values, Delivery::Socket).await.unwrap().acked);
    let reason = clicks.recv().await.unwrap();
    assert_eq!(
        reason.what,
        Pressed::RejectReason {
            approval: ApprovalId::parse(approval.as_str()).unwrap(),
            reason: "DBA raises the limit".into()
        }
    );
    assert!(reason.response_url.is_some(), "the person can be answered again");
}

#[tokio::test]
async fn a_connection_that_slack_calls_back_is_replaced() {
    let world = world().await;
    let (mut clicks, _open, _stop) = connected(&world).await;
    let ts = world.post(None, &card(), "n1").await.unwrap();
    world.stand_in.refresh_connections();
    assert!(world.stand_in.click(&ts, "approve", ONCALL, Delivery::Socket).await.unwrap().acked);
    assert!(clicks.recv().await.is_some());
}
