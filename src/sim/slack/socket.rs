//! Socket Mode: a websocket per client, envelopes that must be acknowledged, refreshes, pings.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, interval, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

use super::api::{Answer, Refusal};
use super::click::{ANSWER_WITHIN, ClickOutcome, Delivery, outcome};
use super::state::Link;
use super::{APP_ID, Inner, Slack};

/// A person clicks a few times a second at most.
const WAITING_MAX: usize = 100;
/// A client asks for one ticket a connection; more unused ones than this are somebody's mistake.
const TICKETS_MAX: usize = 100;
/// Slack pings every few seconds and closes the connection of a client that is silent.
const PING_EVERY: Duration = Duration::from_secs(5);
const SILENT_PINGS_MAX: u32 = 6;

/// What goes to one client.
pub(super) enum Outgoing {
    /// An envelope; whoever sent it hears of the client's acknowledgement by dropping or getting `ack`.
    Envelope { id: String, body: Value, ack: oneshot::Sender<Value> },
    /// The client shall open another connection; this one is closed.
    Disconnect(&'static str),
}

/// <https://docs.slack.dev/reference/methods/apps.connections.open>: an address that works once.
pub(super) async fn open(slack: &Slack) -> Answer {
    let addr = slack.listen().await.map_err(|_| Refusal::new("internal_error"))?;
    let mut state = slack.state();
    if state.tickets.len() >= TICKETS_MAX {
        state.tickets.clear();
    }
    let ticket = format!("{:032x}", u128::from(state.next()) << 64 | 0x51ac);
    state.tickets.insert(ticket.clone());
    Ok(json!({"url": format!("ws://{addr}/link/?ticket={ticket}&app_id={APP_ID}")}))
}

impl Slack {
    /// How many Socket Mode connections are open.
    pub fn connections(&self) -> usize {
        self.state().links.len()
    }

    /// Asks every client to reconnect, as Slack does every few hours.
    pub fn refresh_connections(&self) {
        for link in &self.state().links {
            // A client that does not even read its queue is gone anyway.
            let _ = link.out.try_send(Outgoing::Disconnect("refresh_requested"));
        }
    }

    /// The listener of the websockets, bound to loopback when it is first asked for.
    async fn listen(&self) -> std::io::Result<SocketAddr> {
        let bind = || async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let addr = listener.local_addr()?;
            tokio::spawn(accept(listener, Arc::downgrade(&self.0)));
            Ok(addr)
        };
        self.0.link.get_or_try_init(bind).await.copied()
    }

    /// One envelope to the newest connection; once more, on what is open then, when it is not acknowledged in time.
    pub(super) async fn deliver_by_socket(&self, payload: Value) -> ClickOutcome {
        let id = format!("env-{:08x}", self.state().next());
        for retry in 0..2 {
            let body = json!({"type": "interactive", "envelope_id": id, "accepts_response_payload": true, "payload": payload,
                "retry_attempt": retry, "retry_reason": if retry == 0 { "" } else { "timeout" }});
            let Ok(out) = timeout(ANSWER_WITHIN, self.newest_link()).await else { break };
            let (ack, acked) = oneshot::channel();
            if out.try_send(Outgoing::Envelope { id: id.clone(), body, ack }).is_err() {
                continue;
            }
            if let Ok(Ok(response)) = timeout(ANSWER_WITHIN, acked).await {
                return outcome(Delivery::Socket, true, 0, response);
            }
        }
        outcome(Delivery::Socket, false, 0, Value::Null)
    }
}

impl Slack {
    /// The newest connection, as soon as there is one: a client that was cut off comes back.
    async fn newest_link(&self) -> mpsc::Sender<Outgoing> {
        let mut changes = self.changes();
        loop {
            if let Some(link) = self.state().links.last() {
                return link.out.clone();
            }
            let _ = changes.changed().await;
        }
    }
}

/// Serves clients until the workspace is gone.
async fn accept(listener: TcpListener, slack: Weak<Inner>) {
    while let Ok((stream, _)) = listener.accept().await {
        let Some(inner) = slack.upgrade() else { return };
        tokio::spawn(serve(stream, Slack(inner)));
    }
}

async fn serve(stream: TcpStream, slack: Slack) {
    let Some(client) = shake_hands(stream, &slack).await else { return };
    let (out, queue) = mpsc::channel(WAITING_MAX);
    let (id, open) = {
        let mut state = slack.state();
        let id = state.next();
        state.links.push(Link { id, out });
        (id, state.links.len())
    };
    slack.changed();
    converse(client, queue, open).await;
    slack.state().links.retain(|link| link.id != id);
    slack.changed();
}

async fn shake_hands(stream: TcpStream, slack: &Slack) -> Option<WebSocketStream<TcpStream>> {
    #[expect(clippy::result_large_err, reason = "the shape of tungstenite's callback")]
    let check = |request: &Request, response: Response| {
        let query = request.uri().query().unwrap_or_default();
        let ticket = query.split('&').find_map(|pair| pair.strip_prefix("ticket=")).unwrap_or_default();
        if slack.state().tickets.remove(ticket) {
            return Ok(response);
        }
        let mut refusal = ErrorResponse::new(Some("invalid ticket".to_owned()));
        *refusal.status_mut() = axum::http::StatusCode::UNAUTHORIZED;
        Err(refusal)
    };
    tokio_tungstenite::accept_hdr_async(stream, check).await.ok()
}

/// Talks with one client until it goes, is silent for too long, or is told to reconnect.
async fn converse(mut client: WebSocketStream<TcpStream>, mut queue: mpsc::Receiver<Outgoing>, open: usize) {
    let hello = json!({"type": "hello", "num_connections": open, "connection_info": {"app_id": APP_ID},
        "debug_info": {"host": "stand-in", "build_number": 1, "approximate_connection_time": 18060}});
    if client.send(text(&hello)).await.is_err() {
        return;
    }
    let mut waiting: HashMap<String, oneshot::Sender<Value>> = HashMap::new();
    let mut pings = interval(PING_EVERY);
    pings.tick().await;
    let mut silent = 0;
    loop {
        tokio::select! {
            out = queue.recv() => match out {
                Some(Outgoing::Envelope { id, body, ack }) => {
                    waiting.retain(|_, ack| !ack.is_closed());
                    waiting.insert(id, ack);
                    if client.send(text(&body)).await.is_err() { return; }
                }
                Some(Outgoing::Disconnect(reason)) => {
                    let body = json!({"type": "disconnect", "reason": reason, "debug_info": {"host": "stand-in"}});
                    // Whether or not the client still hears it, the connection ends here.
                    let _ = client.send(text(&body)).await;
                    let _ = client.close(None).await;
                    return;
                }
                None => return,
            },
            frame = client.next() => match frame {
                Some(Ok(Frame::Text(body))) => { silent = 0; acknowledge(&mut waiting, body.as_str()); }
                Some(Ok(Frame::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => silent = 0,
            },
            _ = pings.tick() => {
                silent += 1;
                if silent > SILENT_PINGS_MAX || client.send(Frame::Ping("Ping from applink".into())).await.is_err() { return; }
            }
        }
    }
}

/// An acknowledgement is `{"envelope_id": ...}`, with or without a `payload`.
fn acknowledge(waiting: &mut HashMap<String, oneshot::Sender<Value>>, body: &str) {
    let Ok(body) = serde_json::from_str::<Value>(body) else { return };
    if let Some(ack) = waiting.remove(super::text_of(&body, "envelope_id")) {
        // The one who waited may have given up; then the envelope goes out again.
        let _ = ack.send(body.get("payload").cloned().unwrap_or(Value::Null));
    }
}

fn text(body: &Value) -> Frame {
    Frame::text(body.to_string())
}
