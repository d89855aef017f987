//! The stand-in judged by a real Slack client, and its own rules one by one.

use std::sync::Arc;
use std::sync::Mutex;

use axum::Router;
use axum::routing::post;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use slack_morphism::errors::SlackClientError;
use slack_morphism::prelude::*;
use slack_morphism::signature_verifier::SlackEventSignatureVerifier;
use tokio::net::TcpListener;

use super::blocks::{Surface, faults};
use super::{Delivery, Fault, Slack, SlackOptions};
use crate::clock::Clock;

type Connector = SlackClientHyperConnector<HttpConnector>;
const CHANNEL: &str = "C0INCIDENT";
const ONCALL: &str = "U0ONCALL1";

fn stand_in(rate_limit: bool) -> Slack {
    let _ = rustls::crypto::ring::default_provider().install_default();
    // The client's verifier looks at the machine's clock.
    Slack::new(Clock::system(), SlackOptions { rate_limit, ..SlackOptions::default() })
}

async fn served(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    base
}

async fn client(slack: &Slack) -> Arc<SlackClient<Connector>> {
    let base = served(slack.router()).await;
    let connector = SlackClientHyperConnector::with_connector(HttpConnector::new());
    Arc::new(SlackClient::new(connector.with_slack_api_url(&format!("{base}/api"))))
}

fn bot() -> SlackApiToken {
    SlackApiToken::new("xoxb-stand-in".into())
}

fn card(button: &str) -> SlackMessageContent {
    let blocks: Vec<SlackBlock> = slack_blocks![
        some_into(SlackHeaderBlock::new(pt!("checkout is failing"))),
        some_into(SlackSectionBlock::new().with_text(md!("*Cause*: revision 7"))),
        some_into(
            SlackActionsBlock::new(slack_blocks![some_into(
                SlackBlockButtonElement::new(pt!(button)).with_action_id("approve".into()).with_value("apr-1".into())
            )])
            .with_block_id("next".into())
        )
    ];
    let metadata = SlackMessageMetadata::new("firstlook_card".into())
        .with_event_payload([("nonce".to_owned(), "n1".to_owned())].into());
    SlackMessageContent::new().with_text("checkout is failing".into()).with_blocks(blocks).with_metadata(metadata)
}

async fn posted(client: &SlackClient<Connector>) -> String {
    let token = bot();
    let request = SlackApiChatPostMessageRequest::new(CHANNEL.into(), card("Roll back"));
    client.open_session(&token).chat_post_message(&request).await.unwrap().ts.0
}

/// Calls a method with JSON arguments and the bot's token, past the client's types.
async fn raw(base: &str, method: &str, args: Value) -> (u16, Value) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let call = http.post(format!("{base}/api/{method}")).bearer_auth("xoxb-stand-in").json(&args);
    let response = call.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn a_card_is_posted_edited_and_read_back_with_its_metadata() {
    let slack = stand_in(true);
    let client = client(&slack).await;
    let token = bot();
    let session = client.open_session(&token);
    assert_eq!(session.auth_test().await.unwrap().user_id.0, "U0FIRSTLK");
    let ts = posted(&client).await;
    let update = SlackApiChatUpdateRequest::new(CHANNEL.into(), card("Undo"), ts.clone().into());
    session.chat_update(&update).await.unwrap();
    let reply =
        SlackApiChatPostMessageRequest::new(CHANNEL.into(), SlackMessageContent::new().with_text("timeline".into()))
            .with_thread_ts(ts.clone().into());
    session.chat_post_message(&reply).await.unwrap();

    let asked = SlackApiConversationsHistoryRequest::new().with_channel(CHANNEL.into());
    let plain = session.conversations_history(&asked).await.unwrap();
    assert_eq!(plain.messages.len(), 1, "replies are not in the history");
    assert_eq!(plain.messages[0].content.metadata, None, "metadata comes only when asked for");
    assert_eq!(plain.messages[0].parent.reply_count, Some(1));
    let full = session.conversations_history(&asked.with_include_all_metadata(true)).await.unwrap();
    let payload = full.messages[0].content.metadata.clone().unwrap().event_payload.unwrap();
    assert_eq!(payload["nonce"], "n1");
    let asked = SlackApiConversationsRepliesRequest::new(CHANNEL.into(), ts.clone().into());
    assert_eq!(session.conversations_replies(&asked).await.unwrap().messages.len(), 2);

    let message = slack.message(&ts).unwrap();
    assert_eq!((message.edits, message.buttons()[0]["text"]["text"].as_str()), (1, Some("Undo")));
    assert_eq!(message.plain(), "checkout is failing\n*Cause*: revision 7\nUndo");
}

#[tokio::test]
async fn history_comes_in_pages_newest_first_and_within_its_bounds() {
    let slack = stand_in(false);
    let base = served(slack.router()).await;
    for n in 0..5 {
        raw(&base, "chat.postMessage", json!({"channel": CHANNEL, "text": format!("m{n}")})).await;
    }
    let (_, first) = raw(&base, "conversations.history", json!({"channel": CHANNEL, "limit": 3})).await;
    let cursor = first["response_metadata"]["next_cursor"].clone();
    let (_, second) = raw(&base, "conversations.history", json!({"channel": CHANNEL, "cursor": cursor})).await;
    let texts =
        |page: &Value| page["messages"].as_array().unwrap().iter().map(|m| m["text"].clone()).collect::<Vec<_>>();
    assert_eq!(
        (texts(&first), texts(&second)),
        (vec!["m4".into(), "m3".into(), "m2".into()], vec!["m1".into(), "m0".into()])
    );
    let oldest = slack.messages()[3].ts.clone();
    let (_, after) = raw(&base, "conversations.history", json!({"channel": CHANNEL, "oldest": oldest})).await;
    assert_eq!(texts(&after), ["m4"]);
    let (_, from) =
        raw(&base, "conversations.history", json!({"channel": CHANNEL, "oldest": oldest, "inclusive": true})).await;
    assert_eq!(texts(&from), ["m4", "m3"]);
}

#[tokio::test]
async fn wrong_tokens_channels_and_messages_get_slacks_own_words() {
    let slack = stand_in(false);
    let base = served(slack.router()).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let bare: Value = http.post(format!("{base}/api/auth.test")).send().await.unwrap().json().await.unwrap();
    assert_eq!(bare["error"], "not_authed");
    let form = [("token", "xoxb-other")];
    let wrong: Value =
        http.post(format!("{base}/api/auth.test")).form(&form).send().await.unwrap().json().await.unwrap();
    assert_eq!(wrong["error"], "invalid_auth");
    let error = async |method: &str, args: Value| raw(&base, method, args).await.1["error"].clone();
    let text = json!({"channel": "C0ELSEWHERE", "text": "x"});
    assert_eq!(error("chat.postMessage", text).await, "channel_not_found");
    assert_eq!(error("chat.postMessage", json!({"channel": CHANNEL})).await, "no_text");
    let long = "x".repeat(40_001);
    assert_eq!(error("chat.postMessage", json!({"channel": CHANNEL, "text": long})).await, "msg_too_long");
    let nowhere = json!({"channel": CHANNEL, "text": "x", "ts": "1.000001"});
    assert_eq!(error("chat.update", nowhere).await, "message_not_found");
    assert_eq!(error("apps.connections.open", json!({})).await, "not_allowed_token_type");
    assert_eq!(error("views.open", json!({"trigger_id": "1.2.3", "view": {}})).await, "invalid_trigger_id");
}

#[tokio::test]
async fn blocks_come_as_json_or_as_text_in_a_form() {
    let slack = stand_in(false);
    let base = served(slack.router()).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let blocks = r#"[{"type":"divider"}]"#;
    let form = [("token", "xoxb-stand-in"), ("channel", CHANNEL), ("text", "a & b"), ("blocks", blocks)];
    let answer = http.post(format!("{base}/api/chat.postMessage")).form(&form).send().await.unwrap();
    assert!(answer.headers().contains_key("x-oauth-scopes"));
    let answer: Value = answer.json().await.unwrap();
    assert_eq!((answer["ok"].clone(), answer["message"]["text"].clone()), (json!(true), json!("a & b")));
    assert_eq!(slack.messages()[0].blocks[0]["type"], "divider");
    assert_eq!(slack.requests()[0].args.get("token"), None, "tokens are not kept");
}

#[tokio::test]
async fn more_than_a_burst_of_posts_is_told_to_come_later() {
    let slack = stand_in(true);
    let base = served(slack.router()).await;
    // At once: one after the other they may take the second in which the bucket gets its next.
    let post = async || raw(&base, "chat.postMessage", json!({"channel": CHANNEL, "text": "x"})).await.0;
    let mut statuses = futures::future::join_all((0..6).map(|_| post())).await;
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429]);
}

#[tokio::test]
async fn a_held_answer_means_that_the_message_is_there_already() {
    let slack = stand_in(false);
    let base = served(slack.router()).await;
    slack.fail_next("chat.postMessage", Fault::HoldAfterAccept);
    let call =
        tokio::spawn(async move { raw(&base, "chat.postMessage", json!({"channel": CHANNEL, "text": "x"})).await });
    slack.wait_for(|messages| (messages.len() == 1).then_some(())).await;
    assert!(!call.is_finished());
    slack.release_held();
    assert_eq!(call.await.unwrap().1["ok"], true);
}

#[tokio::test]
async fn faults_are_played_once_each_and_in_order() {
    let slack = stand_in(false);
    let client = client(&slack).await;
    let token = bot();
    let session = client.open_session(&token);
    for fault in [Fault::Drop, Fault::RateLimited(7), Fault::Status(503), Fault::Html, Fault::DropAfterAccept] {
        slack.fail_next("chat.postMessage", fault);
    }
    let request = SlackApiChatPostMessageRequest::new(CHANNEL.into(), card("Roll back"));
    assert!(matches!(session.chat_post_message(&request).await, Err(SlackClientError::HttpProtocolError(_))));
    let limited = session.chat_post_message(&request).await;
    assert!(matches!(limited, Err(SlackClientError::RateLimitError(e)) if e.retry_after.unwrap().as_secs() == 7));
    assert!(matches!(session.chat_post_message(&request).await, Err(SlackClientError::HttpError(_))));
    assert!(session.chat_post_message(&request).await.is_err());
    assert!(slack.messages().is_empty());
    assert!(session.chat_post_message(&request).await.is_err());
    assert_eq!(slack.messages().len(), 1, "the last one was accepted");
}

#[tokio::test]
async fn a_click_without_a_socket_is_a_signed_request() {
    let slack = stand_in(false);
    let client = client(&slack).await;
    let ts = posted(&client).await;
    assert!(slack.click(&ts, "approve", ONCALL, Delivery::Auto).await.is_err(), "there is no way to the app yet");

    type Seen = Arc<Mutex<Vec<SlackInteractionEvent>>>;
    let seen: Seen = Seen::default();
    let secret: SlackSigningSecret = slack.options().signing_secret.clone().into();
    let kept = seen.clone();
    let verify = move |headers: axum::http::HeaderMap, body: String| async move {
        let header = |name: &str| headers[name].to_str().unwrap().to_owned();
        let verifier = SlackEventSignatureVerifier::new(&secret);
        let (hash, at) = (header("x-slack-signature"), header("x-slack-request-timestamp"));
        verifier.verify(&hash, &body, &at).unwrap();
        let form = reqwest::Url::parse(&format!("http://x/?{body}")).unwrap();
        let payload = form.query_pairs().find(|(name, _)| name == "payload").unwrap().1.into_owned();
        kept.lock().unwrap().push(serde_json::from_str(&payload).unwrap());
    };
    let app = served(Router::new().route("/slack", post(verify))).await;
    slack.set_interactivity_url(format!("{app}/slack"));
    let outcome = slack.click(&ts, "approve", ONCALL, Delivery::Auto).await.unwrap();
    assert_eq!((outcome.via, outcome.status), (Delivery::Http, 200));
    let Some(SlackInteractionEvent::BlockActions(event)) = seen.lock().unwrap().pop() else { panic!("no click") };
    let action = &event.actions.unwrap()[0];
    assert_eq!((action.value.as_deref(), event.user.unwrap().id.0.as_str()), (Some("apr-1"), ONCALL));

    // The response URL leads back: an ephemeral answer for the one who clicked.
    let answer = SlackApiPostWebhookMessageRequest::new(SlackMessageContent::new().with_text("only @lead may".into()));
    client.respond_to_event(&event.response_url.unwrap(), &answer).await.unwrap();
    let last = slack.messages().pop().unwrap();
    assert_eq!((last.text.as_str(), last.ephemeral_to.as_deref()), ("only @lead may", Some(ONCALL)));
}

async fn on_interaction(
    event: SlackInteractionEvent,
    _: Arc<SlackClient<Connector>>,
    state: SlackClientEventsUserState,
) -> UserCallbackResult<SlackInteractionResponse> {
    let seen = state.read().await.get_user_state::<Arc<Mutex<Vec<SlackInteractionEvent>>>>().unwrap().clone();
    seen.lock().unwrap().push(event);
    Ok(SlackInteractionResponse::Empty)
}

#[tokio::test]
async fn a_click_over_socket_mode_is_acknowledged_by_the_client_also_after_a_refresh() {
    let slack = stand_in(false);
    let client = client(&slack).await;
    let ts = posted(&client).await;
    let seen: Arc<Mutex<Vec<SlackInteractionEvent>>> = Arc::default();
    let environment = SlackClientEventsListenerEnvironment::new(client.clone()).with_user_state(seen.clone());
    let callbacks = SlackSocketModeListenerCallbacks::new().with_interaction_events(on_interaction);
    let config = SlackClientSocketModeConfig::new().with_max_connections_count(1).with_reconnect_timeout_in_seconds(1);
    let listener = SlackClientSocketModeListener::new(&config, Arc::new(environment), callbacks);
    listener.listen_for(&SlackApiToken::new("xapp-stand-in".into())).await.unwrap();
    listener.start().await;

    let mut changes = slack.changes();
    while slack.connections() == 0 {
        changes.changed().await.unwrap();
    }
    let outcome = slack.click(&ts, "approve", ONCALL, Delivery::Auto).await.unwrap();
    assert!(outcome.acked && outcome.via == Delivery::Socket);

    slack.refresh_connections();
    while slack.connections() > 0 {
        changes.changed().await.unwrap();
    }
    while slack.connections() == 0 {
        changes.changed().await.unwrap();
    }
    assert!(slack.click(&ts, "approve", ONCALL, Delivery::Socket).await.unwrap().acked);
    assert_eq!(seen.lock().unwrap().len(), 2);
    listener.shutdown().await;
}

#[tokio::test]
async fn a_modal_opens_for_the_one_who_clicked_and_closes_when_it_was_taken() {
    let slack = stand_in(false);
    let client = client(&slack).await;
    let ts = posted(&client).await;
    let payload = slack.block_actions(&ts, "approve", ONCALL).unwrap();
    let reason = SlackBlockPlainTextInputElement::new().with_action_id("reason".into());
    let view = SlackView::Modal(
        SlackModalView::new(
            pt!("Why?"),
            slack_blocks![some_into(SlackInputBlock::new(pt!("Reason"), reason.into()).with_block_id("why".into()))],
        )
        .with_submit(pt!("Send")),
    );
    let token = bot();
    let open = SlackApiViewsOpenRequest::new(payload["trigger_id"].as_str().unwrap().into(), view);
    let opened = client.open_session(&token).views_open(&open).await.unwrap();
    let id = opened.view.state_params.id.0;
    assert_eq!(slack.modals()[0].user, ONCALL);

    let app =
        served(Router::new().route("/slack", post(async || axum::Json(json!({"response_action": "clear"}))))).await;
    slack.set_interactivity_url(format!("{app}/slack"));
    let empty = Default::default();
    assert!(slack.submit(&id, ONCALL, &empty, Delivery::Auto).await.is_err(), "the field is required");
    let values = [("why".to_owned(), [("reason".to_owned(), "DBA raises the limit".to_owned())].into())].into();
    assert!(slack.submit(&id, ONCALL, &values, Delivery::Auto).await.unwrap().acked);
    assert!(slack.modals().is_empty());
}

/// The one fault of these blocks, without its place.
#[track_caller]
fn only_fault(blocks: Value) -> String {
    let found = faults(blocks.as_array().unwrap(), Surface::Message);
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].trim_start_matches("[ERROR] ").to_owned()
}

fn with_button(fields: Value) -> Value {
    let mut button = json!({"type": "button", "action_id": "a", "text": {"type": "plain_text", "text": "Go"}});
    button.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!([{"type": "actions", "elements": [button]}])
}

#[test]
fn every_limit_of_block_kit_is_held_also_those_that_client_libraries_miss() {
    let text = |kind: &str, n: usize| json!({"type": kind, "text": "x".repeat(n)});
    let section = |t: Value| json!([{"type": "section", "text": t}]);
    let divider = json!({"type": "divider"});
    let confirm = |title: usize, body: usize, yes: usize| {
        json!({"confirm": {"title": text("plain_text", title), "text": text("mrkdwn", body), "confirm": text("plain_text", yes),
            "deny": text("plain_text", 2)}})
    };
    let button = json!({"type": "button", "action_id": "a", "text": text("plain_text", 2)});
    let cases = [
        (json!(vec![divider.clone(); 51]), "no more than 50 items allowed"),
        (section(text("mrkdwn", 3001)), "must be less than 3001 characters"),
        (section(text("mrkdwn", 0)), "must be more than 0 characters"),
        (json!([{"type": "section", "fields": [text("mrkdwn", 2001)]}]), "must be less than 2001 characters"),
        (json!([{"type": "section", "fields": vec![text("mrkdwn", 1); 11]}]), "no more than 10 items allowed"),
        (json!([{"type": "section"}]), "missing required field: text or fields"),
        (json!([{"type": "header", "text": text("plain_text", 151)}]), "must be less than 151 characters"),
        (json!([{"type": "header", "text": text("mrkdwn", 5)}]), "must be plain_text"),
        (json!([{"type": "context", "elements": vec![text("mrkdwn", 5); 11]}]), "no more than 10 items allowed"),
        (json!([{"type": "actions", "elements": []}]), "no fewer than 1 items allowed"),
        (json!([{"type": "actions", "elements": [button, button]}]), "`action_id` a already exists"),
        (with_button(json!({"text": text("plain_text", 76)})), "must be less than 76 characters"),
        (with_button(json!({"text": text("mrkdwn", 5)})), "must be plain_text"),
        (with_button(json!({"value": "x".repeat(2001)})), "must be less than 2001 characters"),
        (with_button(json!({"action_id": "x".repeat(256)})), "must be less than 256 characters"),
        (with_button(json!({"style": "warning"})), "must be one of: primary, danger"),
        (with_button(json!({"colour": "red"})), "invalid additional property: colour"),
        (with_button(confirm(101, 5, 5)), "must be less than 101 characters"),
        (with_button(confirm(5, 301, 5)), "must be less than 301 characters"),
        (with_button(confirm(5, 5, 31)), "must be less than 31 characters"),
        (
            json!([{"type": "divider", "block_id": "b"}, {"type": "divider", "block_id": "b"}]),
            "`block_id` b already exists",
        ),
        (json!([{"type": "carousel_of_doom"}]), "unsupported type: carousel_of_doom"),
    ];
    for (blocks, expected) in cases {
        let fault = only_fault(blocks);
        assert!(fault.starts_with(expected), "{fault} instead of {expected}");
    }
    for fine in [section(text("mrkdwn", 3000)), with_button(confirm(100, 300, 30)), json!(vec![divider; 50])] {
        assert_eq!(faults(fine.as_array().unwrap(), Surface::Message), Vec::<String>::new());
    }
}

#[tokio::test]
async fn bad_blocks_are_refused_with_the_place_of_each_fault() {
    let slack = stand_in(false);
    let base = served(slack.router()).await;
    let blocks = json!([{"type": "header", "text": {"type": "plain_text", "text": ""}}]);
    let (_, answer) = raw(&base, "chat.postMessage", json!({"channel": CHANNEL, "text": "x", "blocks": blocks})).await;
    assert_eq!(answer["error"], "invalid_blocks");
    let told = "[ERROR] must be more than 0 characters [json-pointer:/blocks/0/text/text]";
    assert_eq!(answer["response_metadata"]["messages"], json!([told]));
}
