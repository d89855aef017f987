//! Socket Mode: clicks over a websocket that firstlook opens itself, so that a cluster needs no way in.
//!
//! ## Why
//!
//! The client library has a listener of its own. This one is used because it acknowledges a click only when it is on
//! disk, limits in time all that it waits for, tells whether it is connected, and keeps the old connection until it is
//! empty when Slack asks for a new one.

use std::time::Duration;

use anyhow::Context as _;
use futures::{SinkExt as _, StreamExt as _};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, interval_at, timeout};
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};
use tokio_util::sync::CancellationToken;

use crate::slack::desk::{Desk, NotTaken};
use crate::slack::interact::BODY_MAX_BYTES;
use crate::telemetry::SlackLabels;

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// From asking for an address to the open websocket.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// We ping so often; Slack pings too.
const PING_EVERY: Duration = Duration::from_secs(20);
/// A connection that is silent for so long is dead: three pings without an answer.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Slack waits three seconds for the acknowledgement; a store that takes longer does not hold up what comes behind.
const TAKE_WITHIN: Duration = Duration::from_millis(2_500);
/// The first wait after a failed connection; each further one is twice as long.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Slack allows few connections a minute.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How long an old connection is served beside its successor.
const DRAIN: Duration = Duration::from_secs(30);

/// Slack lets a connection live for hours. After the first one that is called back sooner, each waits, so that a Slack
/// which calls back every connection is not asked in a loop.
const LIFE_MIN: Duration = Duration::from_secs(10);

/// How a connection ended.
enum End {
    /// Slack asks for another one; this one still works for a while.
    Refresh(Box<Stream>),
    Broken(anyhow::Error),
    Stopped,
}

/// Listens until `stop`. `connected` tells whether a connection is open now. Errors are logged and tried again.
pub async fn run(desk: Desk, app_token: SecretString, connected: watch::Sender<bool>, stop: CancellationToken) {
    let mut wait = RETRY_FIRST;
    let mut early = 0_u32;
    while !stop.is_cancelled() {
        let began_at = Instant::now();
        let end = match timeout(CONNECT_WITHIN, connect(&desk, &app_token)).await {
            Ok(Ok(stream)) => {
                connected.send_replace(true);
                wait = RETRY_FIRST;
                serve(stream, &desk, &stop).await
            }
            Ok(Err(error)) => End::Broken(error),
            Err(_) => End::Broken(anyhow::anyhow!("no connection within {} s", CONNECT_WITHIN.as_secs())),
        };
        match end {
            End::Stopped => break,
            End::Refresh(old) => {
                let (old_desk, old_stop) = (desk.clone(), stop.clone());
                tokio::spawn(async move { timeout(DRAIN, serve(*old, &old_desk, &old_stop)).await.map(drop) });
                early = if began_at.elapsed() < LIFE_MIN { early + 1 } else { 0 };
                if early > 1 {
                    pause(wait, &stop).await;
                }
            }
            End::Broken(error) => {
                connected.send_replace(false);
                tracing::warn!(error = format!("{error:#}"), wait_s = wait.as_secs(), "no Socket Mode connection");
                pause(wait, &stop).await;
                wait = (wait * 2).min(RETRY_MAX);
            }
        }
    }
    connected.send_replace(false);
}

async fn pause(wait: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        () = stop.cancelled() => {}
    }
}

async fn connect(desk: &Desk, app_token: &SecretString) -> anyhow::Result<Stream> {
    let url = desk.slack.open_link(app_token).await.context("asking for a Socket Mode address")?;
    let limits = WebSocketConfig::default().max_message_size(Some(BODY_MAX_BYTES)).max_frame_size(Some(BODY_MAX_BYTES));
    let connector = Connector::Rustls(desk.slack.tls());
    // The URL holds a ticket: it is in no error and no log.
    let (stream, _) = connect_async_tls_with_config(url, Some(limits), true, Some(connector))
        .await
        .map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())
        .map_err(anyhow::Error::msg)
        .context("opening the websocket")?;
    Ok(stream)
}

/// Serves one connection to its end.
async fn serve(mut stream: Stream, desk: &Desk, stop: &CancellationToken) -> End {
    let mut heard_at = Instant::now();
    let mut ping = interval_at(heard_at + PING_EVERY, PING_EVERY);
    loop {
        let frame = tokio::select! {
            () = stop.cancelled() => {
                // Polite, and no loss where it fails: what is not acknowledged comes again.
                let _ = timeout(Duration::from_secs(1), stream.close(None)).await;
                return End::Stopped;
            }
            frame = stream.next() => frame,
            _ = ping.tick() => {
                if heard_at.elapsed() > SILENCE_MAX {
                    return End::Broken(anyhow::anyhow!("silent for {} s", SILENCE_MAX.as_secs()));
                }
                match stream.send(Frame::Ping(Default::default())).await {
                    Ok(()) => continue,
                    Err(error) => return End::Broken(error.into()),
                }
            }
        };
        heard_at = Instant::now();
        let text = match frame {
            Some(Ok(Frame::Text(text))) => text,
            Some(Ok(Frame::Close(_))) | None => return End::Broken(anyhow::anyhow!("closed by Slack")),
            Some(Ok(_)) => continue,
            Some(Err(error)) => return End::Broken(error.into()),
        };
        match take(&text, desk).await {
            Taken::Ack(envelope) => {
                let ack = Frame::text(json!({"envelope_id": envelope}).to_string());
                if let Err(error) = stream.send(ack).await {
                    return End::Broken(error.into());
                }
            }
            Taken::Refresh => return End::Refresh(Box::new(stream)),
            Taken::Nothing => {}
        }
    }
}

/// What to do after a frame.
enum Taken {
    Ack(String),
    Refresh,
    Nothing,
}

async fn take(frame: &str, desk: &Desk) -> Taken {
    let envelope: Value = serde_json::from_str(frame).unwrap_or_default();
    let id = envelope["envelope_id"].as_str().map(str::to_owned);
    let ack = || id.clone().map_or(Taken::Nothing, Taken::Ack);
    match envelope["type"].as_str() {
        Some("hello") => {
            tracing::info!("Socket Mode is connected");
            Taken::Nothing
        }
        // `warning` comes ten seconds ahead, `refresh_requested` at the end of a connection's life.
        Some("disconnect") => {
            let reason = desk.place.redactor.redact(envelope["reason"].as_str().unwrap_or_default()).cut(80);
            tracing::info!(%reason, "Slack asks for a new Socket Mode connection");
            Taken::Refresh
        }
        Some("interactive") => match timeout(TAKE_WITHIN, desk.take(&envelope["payload"].to_string())).await {
            Err(_) => {
                tracing::error!("a click was not stored in time and is not acknowledged");
                Taken::Nothing
            }
            Ok(taken) => match taken {
                Ok(()) => ack(),
                Err(NotTaken::Refused(refusal)) => {
                    unparsed(desk, frame, &refusal.to_string());
                    // It would not be understood the second time either.
                    ack()
                }
                Err(NotTaken::NotStored(error)) => {
                    tracing::error!(
                        error = format!("{error:#}"),
                        "a click could not be stored and is not acknowledged"
                    );
                    Taken::Nothing
                }
            },
        },
        // Commands and events that the app does not ask for.
        Some(_) => ack(),
        None => {
            unparsed(desk, frame, "no frame of Socket Mode");
            ack()
        }
    }
}

fn unparsed(desk: &Desk, frame: &str, why: &str) {
    desk.slack.metrics().slack_errors.get_or_create(&SlackLabels { method: "socket", kind: "unparsed" }).inc();
    let begin = desk.place.redactor.redact(frame).one_line().cut(200);
    tracing::warn!(why, bytes = frame.len(), %begin, "a frame from Slack is not understood");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Clock;
    use crate::model::ClusterName;
    use crate::redact::Redactor;
    use crate::slack::client::{Slack, SlackOptions};
    use crate::slack::interact::Place;
    use crate::telemetry::Metrics;

    fn desk(stores: bool) -> Desk {
        let options = SlackOptions {
            bot_token: "xoxb-x".to_owned().into(),
            api_url: "http://127.0.0.1:9/api".into(),
            redactor: Redactor::default(),
            metrics: Metrics::new(),
            clock: Clock::system(),
        };
        Desk {
            place: Place { cluster: ClusterName::parse("prod").unwrap(), redactor: Redactor::default() },
            clock: Clock::system(),
            slack: Slack::new(options).unwrap(),
            on_click: Arc::new(move |_| {
                Box::pin(async move { if stores { Ok(()) } else { Err(anyhow::anyhow!("disk full")) } })
            }),
        }
    }

    #[tokio::test]
    async fn a_click_is_acknowledged_only_when_it_is_stored() {
        let click = json!({"type": "interactive", "envelope_id": "e1", "payload": {"type": "block_actions",
            "user": {"id": "U9"}, "actions": [{"action_id": "approve", "value": "a1", "action_ts": "1.1"}]}});
        let click = click.to_string();
        assert!(matches!(take(&click, &desk(true)).await, Taken::Ack(id) if id == "e1"));
        assert!(matches!(take(&click, &desk(false)).await, Taken::Nothing));
    }

    #[tokio::test]
    async fn what_is_not_understood_is_counted_and_does_not_come_again() {
        let desk = desk(true);
        for frame in ["nonsense", "[1]", "{\"envelope_id\":\"e2\",\"type\":\"interactive\",\"payload\":{}}"] {
            let taken = take(frame, &desk).await;
            assert_eq!(matches!(taken, Taken::Ack(_)), frame.contains("e2"));
        }
        assert!(desk.slack.metrics().text().contains("kind=\"unparsed\"} 3"), "{}", desk.slack.metrics().text());
    }

    #[test]
    fn frames_of_slack_are_taken_or_counted() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let desk = desk(true);
        let click = json!({"type": "block_actions", "user": {"id": "U9", "team_id": "T1"}, "trigger_id": "1.2.3",
            "container": {"message_ts": "1.1", "channel_id": "C1"}, "response_url": "https://hooks.slack.com/x",
            "actions": [{"action_id": "approve", "value": "a1", "action_ts": "1.1"}]});
        let form = json!({"type": "view_submission", "user": {"id": "U9"}, "view": {"callback_id": "reject_reason",
            "private_metadata": "{\"approval\": \"a1\"}",
            "state": {"values": {"reject_reason": {"reject_reason": {"value": "no"}}}}}});
        let seeds = [
            json!({"type": "hello", "num_connections": 1, "connection_info": {"app_id": "A1"}}),
            json!({"type": "disconnect", "reason": "warning", "debug_info": {"host": "x"}}),
            json!({"type": "interactive", "envelope_id": "e1", "accepts_response_payload": true, "payload": click}),
            json!({"type": "interactive", "envelope_id": "e2", "payload": form}),
            json!({"type": "events_api", "envelope_id": "e3", "payload": {"event": {"type": "message"}}}),
        ]
        .map(|seed| seed.to_string().into_bytes());
        crate::sim::tests::fuzz::try_hard("Slack's frame", &seeds, |bytes| {
            let frame = String::from_utf8_lossy(bytes);
            let named = |id: &str| serde_json::from_str::<Value>(&frame).is_ok_and(|it| it["envelope_id"] == id);
            match runtime.block_on(take(&frame, &desk)) {
                Taken::Ack(envelope) => assert!(named(&envelope), "what is acknowledged came: {envelope} of {frame}"),
                Taken::Refresh | Taken::Nothing => {}
            }
        });
    }
}
