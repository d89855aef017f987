//! Answers of Slack's API, as a server gives them that says anything.

use std::cell::Cell;

use serde_json::json;

use super::answers::Parrot;
use super::{now, try_hard};
use crate::clock::Clock;
use crate::model::{ApprovalId, IncidentId, Nonce, ReasonFor};
use crate::redact::Redactor;
use crate::slack::client::{Slack, SlackOptions};
use crate::slack::render;
use crate::telemetry::Metrics;

#[test]
fn answers_of_slack_are_read_or_refused_and_no_error_holds_the_token() {
    const TOKEN: &str = "xoxb-2043-fuzzed-token";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let parrot = runtime.block_on(Parrot::start());
    let options = || SlackOptions {
        bot_token: TOKEN.to_owned().into(),
        api_url: format!("{}/api", parrot.url),
        redactor: Redactor::new([TOKEN.to_owned()]),
        metrics: Metrics::new(),
        clock: Clock::manual(now()),
    };
    let (incident, nonce) = (IncidentId::parse("i1").unwrap(), Nonce::fresh());
    let message = render::test_card();
    let found = json!({"ok": true, "has_more": true, "response_metadata": {"next_cursor": ""}, "messages": [
        {"ts": "1774370400.000100", "metadata": {"event_type": "firstlook_post",
            "event_payload": {"incident": "i1", "nonce": nonce.as_str()}}}]});
    let seeds = [
        json!({"ok": true, "channel": "C1", "ts": "1774370400.000100", "message": {"text": "x"}}),
        json!({"ok": true, "permalink": "https://x.slack.com/archives/C1/p1", "channel": "C1"}),
        found,
        json!({"ok": true, "users": ["U024BE7LH", "U9"]}),
        json!({"ok": true, "user_id": "U1", "team": "T", "url": "https://x.slack.com/", "bot_id": "B1"}),
        json!({"ok": true, "channel": {"id": "C1", "name": "alerts"}}),
        json!({"ok": true, "url": "wss://wss-primary.slack.com/link/?ticket=x"}),
        json!({"ok": false, "error": "missing_scope", "needed": "usergroups:read", "provided": "chat:write"}),
        json!({"ok": false, "error": "invalid_blocks", "response_metadata": {"messages": [format!("[ERROR] {TOKEN}")]}}),
        json!({"ok": false, "error": "ratelimited"}),
    ]
    .map(|seed| seed.to_string().into_bytes());
    let reason = ReasonFor::No(ApprovalId::parse("a1").unwrap());
    let told = |error: String| assert!(!error.contains(TOKEN), "{error}");
    // Kept from one input to the next, so that what is cached is fuzzed too; a group of its own is read each time.
    let (slack, nth) = (Slack::new(options()).unwrap(), Cell::new(0_u32));
    try_hard("Slack's answer", &seeds, |bytes| {
        *parrot.says.lock().unwrap() = bytes.to_vec();
        nth.set(nth.get() + 1);
        let (channel, group) = (format!("C{}", nth.get()), format!("S{}", nth.get()));
        runtime.block_on(async {
            let posted = slack.post(&channel, None, &message, &incident, &nonce).await;
            assert!(posted.as_ref().is_ok_and(|ts| !ts.contains(TOKEN)) || posted.is_err(), "{posted:?}");
            posted.map(drop).unwrap_or_else(|error| told(error.to_string()));
            slack.update(&channel, "1.1", &message).await.unwrap_or_else(|error| told(error.to_string()));
            slack.permalink(&channel, "1.1").await.map(drop).unwrap_or_else(|error| told(error.to_string()));
            slack.find(&channel, None, &nonce, now()).await.map(drop).unwrap_or_else(|error| told(error.to_string()));
            slack.members(&group).await.map(drop).unwrap_or_else(|error| told(error.to_string()));
            slack.auth_test().await.map(drop).unwrap_or_else(|error| told(error.to_string()));
            slack.channel_name(&channel).await.map(drop).unwrap_or_else(|error| told(error.to_string()));
            slack.open_reason("1.2.3", &reason, None).await.unwrap_or_else(|error| told(error.to_string()));
            slack
                .ephemeral(&format!("{}/actions/x", parrot.url), &message)
                .await
                .unwrap_or_else(|error| told(error.to_string()));
            let app_token = "xapp-1".to_owned().into();
            slack.open_link(&app_token).await.map(drop).unwrap_or_else(|error| told(error.to_string()));
        });
    });
}
