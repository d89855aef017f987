//! The listeners: webhook, slack, mcp, admin; each with its own address and credential.

pub mod admin;
pub mod mcp;
pub mod slack;
pub mod webhook;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

/// A request that has not been answered after this long, the arrival of its body included, is answered 503: within the
/// 3 s that Slack waits for clicks, and far below Alertmanager's flush deadline of 10 s, after which it sends again.
pub const REQUEST_TIMEOUT: Duration = Duration::from_millis(2_500);
/// The head of a request arrives within this; a connection between two requests is kept open for as long. Who has none
/// left opens another.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// At shutdown a connection that has sent no whole head is given this long: one that was just opened sends it at once.
const LAST_HEAD: Duration = Duration::from_millis(250);

/// Serves `router` until `stop`, then lets the requests under way finish.
pub async fn serve(mut listener: TcpListener, router: Router, stop: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            // It rides out what passes: no more files, a peer that is gone already.
            (stream, _) = Listener::accept(&mut listener) => stream,
        };
        connections.spawn(connection(stream, router.clone(), stop.clone()));
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// One connection until it ends; after `stop` no longer than its request takes.
async fn connection(stream: tokio::net::TcpStream, router: Router, stop: CancellationToken) {
    let under_way = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&under_way);
    let service = tower::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (router, counted) = (router.clone(), Arc::clone(&counted));
        async move {
            counted.fetch_add(1, Ordering::Relaxed);
            let answered = router.oneshot(request).await;
            counted.fetch_sub(1, Ordering::Relaxed);
            answered
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)));
    // Whatever ends a connection, its peer knows.
    tokio::select! {
        _ = &mut served => return,
        () = stop.cancelled() => served.as_mut().graceful_shutdown(),
    }
    if tokio::time::timeout(LAST_HEAD, &mut served).await.is_err() && under_way.load(Ordering::Relaxed) > 0 {
        let _ = served.await;
    }
}

/// Routes whose requests are answered within `limit`, with 503 where it takes longer, which `late` is told.
fn bounded(router: Router, limit: Duration, late: impl Fn() + Clone + Send + Sync + 'static) -> Router {
    router.layer(middleware::from_fn(move |request: Request, next: Next| {
        let late = late.clone();
        async move {
            match tokio::time::timeout(limit, next.run(request)).await {
                Ok(response) => response,
                Err(_) => {
                    late();
                    let says = format!("the request did not arrive or was not done within {limit:?}; send again");
                    Error::new(StatusCode::SERVICE_UNAVAILABLE, says).into_response()
                }
            }
        }
    }))
}

/// What a caller must present.
#[derive(Clone, Debug, Default)]
pub struct Credential {
    pub bearer: Option<SecretString>,
    /// User and password.
    pub basic: Option<(String, SecretString)>,
}

impl Credential {
    /// Whether the `Authorization` header fits; without any credential configured everything does (the configuration
    /// allows that on loopback only).
    pub fn admits(&self, authorization: Option<&str>) -> bool {
        use base64::Engine as _;
        if self.bearer.is_none() && self.basic.is_none() {
            return true;
        }
        let Some((scheme, value)) = authorization.and_then(|header| header.split_once(' ')) else { return false };
        let value = value.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return self.bearer.as_ref().is_some_and(|token| same(token.expose_secret(), value));
        }
        let expected = |(user, password): &(String, SecretString)| {
            let pair = format!("{user}:{}", password.expose_secret());
            same(&base64::engine::general_purpose::STANDARD.encode(pair), value)
        };
        scheme.eq_ignore_ascii_case("basic") && self.basic.as_ref().is_some_and(expected)
    }
}

/// Equality whose time does not tell how much was right: digests are compared, not the secrets.
fn same(expected: &str, given: &str) -> bool {
    Sha256::digest(expected.as_bytes()) == Sha256::digest(given.as_bytes())
}

/// An answer that is not a success: one line of text, so that it reads well in Alertmanager's log.
#[derive(Debug)]
pub struct Error {
    pub status: StatusCode,
    pub says: String,
}

impl Error {
    fn new(status: StatusCode, says: impl Into<String>) -> Self {
        Self { status, says: says.into() }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        (self.status, format!("{}\n", self.says)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_credential_is_admitted() {
        let bearer = Credential { bearer: Some("s3cret-token".into()), basic: None };
        assert!(bearer.admits(Some("Bearer s3cret-token")) && bearer.admits(Some("bearer s3cret-token")));
        assert!(!bearer.admits(Some("Bearer s3cret")) && !bearer.admits(None) && !bearer.admits(Some("Basic czNj")));
        let basic = Credential { bearer: None, basic: Some(("am".into(), "pw".into())) };
        assert!(basic.admits(Some("Basic YW06cHc=")) && !basic.admits(Some("Basic YW06cHg=")));
        assert!(Credential::default().admits(None));
    }

    /// As long as anything may take that happens; shorter than `HEAD_TIMEOUT`, for which a connection without a request
    /// would hold a shutdown.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// A server that answers what it was sent, once that has come, and how it is told to stop.
    async fn echo(limit: Duration) -> (std::net::SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let routes = Router::new().route("/", axum::routing::post(|body: String| async move { body }));
        let serving = tokio::spawn(serve(listener, bounded(routes, limit, || {}), stop.clone()));
        (addr, stop, serving)
    }

    async fn said(stream: &mut tokio::net::TcpStream) -> String {
        use tokio::io::AsyncReadExt as _;
        let mut said = String::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut said)).await;
        read.expect("the connection ends").unwrap();
        said
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_answered() {
        use tokio::io::AsyncWriteExt as _;
        // Nobody waits for it.
        let (addr, stop, serving) = echo(Duration::from_millis(50)).await;
        let mut half = tokio::net::TcpStream::connect(addr).await.unwrap();
        half.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhi").await.unwrap();
        let answer = said(&mut half).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("send again"), "{answer}");
        stop.cancel();
        tokio::time::timeout(PATIENCE, serving).await.expect("it holds no shutdown").unwrap();
    }

    #[tokio::test]
    async fn no_connection_without_a_request_holds_a_shutdown() {
        use tokio::io::AsyncWriteExt as _;
        let (addr, stop, serving) = echo(Duration::from_secs(60)).await;
        let mut whole = tokio::net::TcpStream::connect(addr).await.unwrap();
        whole
            .write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi")
            .await
            .unwrap();
        assert!(said(&mut whole).await.ends_with("\r\n\r\nhi"));
        // One whose head is half there, one that said nothing, and one between two requests.
        let mut head = tokio::net::TcpStream::connect(addr).await.unwrap();
        head.write_all(b"POST / HT").await.unwrap();
        let mut silent = tokio::net::TcpStream::connect(addr).await.unwrap();
        let mut idle = tokio::net::TcpStream::connect(addr).await.unwrap();
        idle.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi").await.unwrap();
        idle.readable().await.unwrap();
        stop.cancel();
        tokio::time::timeout(PATIENCE, serving).await.expect("the shutdown waits for nobody").unwrap();
        assert_eq!((said(&mut head).await, said(&mut silent).await), (String::new(), String::new()));
        assert!(said(&mut idle).await.starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test]
    async fn a_request_under_way_is_answered_after_the_stop() {
        use tokio::io::AsyncWriteExt as _;
        let (addr, stop, serving) = echo(Duration::from_secs(60)).await;
        let mut slow = tokio::net::TcpStream::connect(addr).await.unwrap();
        slow.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n")
            .await
            .unwrap();
        // The handler has begun to read.
        slow.readable().await.unwrap();
        stop.cancel();
        let mut later = slow;
        later.write_all(b"late").await.unwrap();
        let said = said(&mut later).await;
        assert!(said.contains("HTTP/1.1 200 ") && said.ends_with("late"), "{said}");
        serving.await.unwrap();
    }
}
