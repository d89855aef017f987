//! `POST /webhook/alertmanager`: authenticate, parse, put the signals on disk, answer.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest as _, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::http;
use crate::http::{Credential, Error};
use crate::ingest::alertmanager;
use crate::model::{ClusterName, Signal};
use crate::redact::Redactor;
use crate::store::{CommitError, Durability, Store, Write};
use crate::telemetry::{Metrics, SignalLabels, WebhookLabels};

/// A thousand alerts are 672 KB; six thousand fit.
pub const BODY_MAX_BYTES: usize = 4 * 1024 * 1024;

/// Bodies under way take as much as sixteen of the longest, or thousands of those that Alertmanager sends for one group;
/// the daemon runs within some hundred MiB.
const BODIES_MAX_KIB: usize = 16 * ((BODY_MAX_BYTES >> 10) + 1);
/// Where alerts are posted.
const PATH: &str = "/webhook/alertmanager";
/// Half of what Alertmanager waits: a thousand alerts may take a slow disk seconds, and what is answered later is sent
/// again.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What the webhook needs.
#[derive(Clone)]
pub struct Webhook {
    pub store: Store,
    pub cluster: ClusterName,
    pub redactor: Redactor,
    pub clock: Clock,
    pub metrics: Metrics,
    pub credential: Credential,
}

impl Webhook {
    /// The listener's routes.
    pub fn router(self) -> Router {
        let late = self.clone();
        let room = Arc::new(Semaphore::new(BODIES_MAX_KIB));
        let receive = move |webhook: State<Webhook>, request: Request| receive(webhook, Arc::clone(&room), request);
        let routes = Router::new()
            .route(PATH, post(receive))
            .fallback(nowhere)
            .method_not_allowed_fallback(wrong_method)
            .layer(DefaultBodyLimit::max(BODY_MAX_BYTES)) // not tower's layer: its refusal would come uncounted
            .with_state(self);
        http::bounded(routes, ANSWER_WITHIN, move || {
            late.count("not_stored");
            tracing::error!("a webhook was not taken in time, Alertmanager will send it again");
        })
    }

    fn count(&self, outcome: &'static str) {
        self.metrics.webhooks.get_or_create(&WebhookLabels { outcome }).inc();
    }

    /// Alertmanager never repeats a request that got a 4xx, so each such loss is counted and logged here.
    fn refuse(&self, outcome: &'static str, status: StatusCode, says: &str) -> Error {
        self.count(outcome);
        tracing::error!(outcome, status = status.as_u16(), "webhook refused, its alerts are not taken: {says}");
        Error::new(status, says)
    }
}

async fn nowhere(State(webhook): State<Webhook>) -> Error {
    let says = format!("no such path: the url of the receiver ends with {PATH}");
    webhook.refuse("not_found", StatusCode::NOT_FOUND, &says)
}

async fn wrong_method(State(webhook): State<Webhook>) -> Error {
    webhook.refuse("wrong_method", StatusCode::METHOD_NOT_ALLOWED, "alerts come by POST")
}

/// Nothing of a body is read before its sender is known, and before there is room for it.
async fn receive(State(webhook): State<Webhook>, room: Arc<Semaphore>, request: Request) -> Result<Response, Error> {
    let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if !webhook.credential.admits(authorization) {
        let says =
            "wrong or missing credential: set http_config of the receiver to the token or user of listeners.webhook";
        return Err(webhook.refuse("unauthorized", StatusCode::UNAUTHORIZED, says));
    }
    let Ok(_held) = room.try_acquire_many(kib(request.headers())) else {
        webhook.count("not_stored");
        tracing::error!("too many alerts come at once, Alertmanager will send these again");
        return Err(Error::new(StatusCode::SERVICE_UNAVAILABLE, "too many bodies at once; send again"));
    };
    let body = match Bytes::from_request(request, &()).await {
        Ok(body) => body,
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let says = format!("the body is over {BODY_MAX_BYTES} bytes: set max_alerts of the receiver");
            return Err(webhook.refuse("too_large", StatusCode::PAYLOAD_TOO_LARGE, &says));
        }
        // The connection broke: a 5xx makes Alertmanager send again.
        Err(rejection) => return Err(Error::new(StatusCode::SERVICE_UNAVAILABLE, rejection.body_text())),
    };
    let now = webhook.clock.now();
    let signals = match alertmanager::parse(&body, &webhook.cluster, &webhook.redactor, now) {
        Ok(signals) => signals,
        Err(error) => return Err(webhook.refuse("bad_request", StatusCode::BAD_REQUEST, &error.to_string())),
    };
    webhook.put(signals).await?;
    webhook.count("stored");
    Ok(StatusCode::OK.into_response())
}

/// The room that a body needs: what its head says, or as much as any may take.
fn kib(headers: &HeaderMap) -> u32 {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    // At least one: an empty body is a request as well.
    (length.unwrap_or(BODY_MAX_BYTES).min(BODY_MAX_BYTES) >> 10) as u32 + 1
}

impl Webhook {
    async fn put(&self, signals: Vec<Signal>) -> Result<(), Error> {
        let heard = signals.len() as u64;
        match self.store.commit(vec![Write::Signals(signals)], Durability::Durable, None).await {
            Ok(()) => {
                self.metrics.signals.get_or_create(&SignalLabels { kind: "alert" }).inc_by(heard);
                Ok(())
            }
            Err(error) => {
                self.count("not_stored");
                let full = matches!(error, CommitError::Full(_));
                let error = anyhow::Error::from(error);
                tracing::error!("signals not stored, Alertmanager will send them again: {error:#}");
                let says = if full { "the disk is full" } else { "the store does not take signals now" };
                Err(Error::new(StatusCode::SERVICE_UNAVAILABLE, format!("{says}; send again")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;
    use crate::store::Options;

    /// Sends a head, and gives what is answered to it.
    async fn head(address: std::net::SocketAddr, head: &str) -> (tokio::net::TcpStream, String) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = format!("POST {PATH} HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut said = [0; 1_024];
        let read = tokio::time::timeout(Duration::from_secs(3), stream.read(&mut said)).await;
        let read = read.expect("the answer does not wait for the body").unwrap();
        (stream, String::from_utf8_lossy(&said[..read]).into_owned())
    }

    #[tokio::test]
    async fn no_body_is_read_of_a_stranger_nor_beyond_what_there_is_room_for() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("firstlook.db").display());
        let (cluster, clock) = (ClusterName::parse("prod").unwrap(), Clock::manual(from_ms(1_800_000_000_000)));
        let store = Store::open(&url, clock.clone(), Options::new(cluster.clone())).await.unwrap();
        let credential = Credential { bearer: Some("s3cret".into()), basic: None };
        let (redactor, metrics) = (Redactor::default(), Metrics::new());
        let webhook = Webhook { store, cluster, redactor, clock, metrics, credential };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = tokio_util::sync::CancellationToken::new();
        tokio::spawn(http::serve(listener, webhook.router(), stop.clone()));
        let (_, said) = head(address, "content-length: 4194304").await;
        assert!(said.starts_with("HTTP/1.1 401 "), "{said}");
        let ours = "authorization: Bearer s3cret\r\nexpect: 100-continue\r\ncontent-length: 4194304";
        let mut held = Vec::new();
        for _ in 0..16 {
            let (stream, said) = head(address, ours).await;
            assert!(said.starts_with("HTTP/1.1 100 "), "{said}");
            held.push(stream);
        }
        let (_, said) = head(address, ours).await;
        assert!(said.starts_with("HTTP/1.1 503 ") && said.contains("send again"), "{said}");
        stop.cancel();
    }

    #[tokio::test]
    async fn alerts_that_miss_the_door_are_counted_and_logged_by_what_was_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("firstlook.db").display());
        let (cluster, clock) = (ClusterName::parse("prod").unwrap(), Clock::manual(from_ms(1_800_000_000_000)));
        let store = Store::open(&url, clock.clone(), Options::new(cluster.clone())).await.unwrap();
        let webhook = Webhook {
            store,
            cluster,
            redactor: Redactor::default(),
            clock,
            metrics: Metrics::new(),
            credential: Credential::default(),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let stop = tokio_util::sync::CancellationToken::new();
        let lines = crate::telemetry::tests::Lines::default();
        let _guard = lines.listen();
        tokio::spawn(http::serve(listener, webhook.clone().router(), stop.clone()));
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let alert = r#"{"version": "4", "alerts": [{"status": "firing", "labels": {"alertname": "A"},
            "startsAt": "2026-03-24T16:00:00Z", "fingerprint": "f1"}]}"#;
        for (request, status) in [
            (client.post(format!("{base}/webhook/alertmanager/")), 404),
            (client.post(format!("{base}/")), 404),
            (client.put(format!("{base}/webhook/alertmanager")), 405),
            (client.post(format!("{base}/webhook/alertmanager")), 200),
        ] {
            let answer = request.body(alert).send().await.unwrap();
            assert_eq!(answer.status().as_u16(), status);
            let says = answer.text().await.unwrap();
            assert!(status != 404 || says.contains("ends with /webhook/alertmanager"), "{says}");
        }
        let text = webhook.metrics.text();
        for line in [
            "firstlook_webhook_requests_total{outcome=\"not_found\"} 2",
            "firstlook_webhook_requests_total{outcome=\"wrong_method\"} 1",
            "firstlook_webhook_requests_total{outcome=\"stored\"} 1",
            "firstlook_signals_total{kind=\"alert\"} 1",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        let refused = lines.all().iter().filter(|line| line["level"] == "ERROR").count();
        assert_eq!(refused, 3, "{:?}", lines.all());
        webhook.store.close().await;
        // What is not on disk was not heard.
        let answer = client.post(format!("{base}/webhook/alertmanager")).body(alert).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 503);
        assert!(webhook.metrics.text().contains("firstlook_signals_total{kind=\"alert\"} 1"));
        stop.cancel();
    }
}
