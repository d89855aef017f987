//! `/mcp` and `/mcp/SERVER`: the gate for other MCP clients, over streamable HTTP.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::govern::callers::{Callers, Guest, Rights};
use crate::govern::gate::{Gate, Visit};

/// The longest arguments are 16 KiB; a request has little beside them.
const BODY_MAX_BYTES: usize = 256 << 10;
/// Sessions of one caller at once, of clients that keep one (protocol 2025-11-25 and before). Each ends by itself after
/// five minutes without a request.
const SESSIONS_MAX: usize = 64;
/// Pages that this machine itself serves: an inspector in the browser of whoever sits at it.
const LOCAL_PAGES: [&str; 3] = ["http://localhost:*", "http://127.0.0.1:*", "http://[::1]:*"];
const SESSION_HEADER: &str = "mcp-session-id";

type Service = StreamableHttpService<Visit, LocalSessionManager>;
/// A caller by name, and the one server that it came to (none: all).
type Door = (String, Option<String>);

/// Whose door it is, and what serves there.
type Behind = (Arc<Guest>, Service, Arc<LocalSessionManager>);

/// What the listener needs.
#[derive(Clone)]
pub struct Mcp(Arc<Inner>);

struct Inner {
    gate: Gate,
    callers: watch::Receiver<Callers>,
    /// Who calls without a token, where the configuration lets it.
    open: Option<Arc<Guest>>,
    config: StreamableHttpServerConfig,
    /// The connections by door: a session of one caller cannot be found by another.
    doors: Mutex<HashMap<Door, Behind>>,
}

/// Who may call, and from where.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Who has a token, as their file now stands.
    pub callers: watch::Receiver<Callers>,
    /// Calls without a token are let in (loopback alone: the configuration sees to it).
    pub without_token: bool,
    /// `Host` values besides loopback.
    pub allowed_hosts: Vec<String>,
    /// `Origin` values besides loopback; any other is refused.
    pub allowed_origins: Vec<String>,
}

impl Mcp {
    /// The listener's part before the gate; its streams end with `stop`.
    pub fn new(gate: Gate, admission: Admission, stop: CancellationToken) -> Self {
        let hosts = ["localhost", "127.0.0.1", "::1"].into_iter().map(str::to_owned).chain(admission.allowed_hosts);
        let config = StreamableHttpServerConfig::default()
            .with_json_response(true)
            .with_allowed_hosts(hosts)
            .with_allowed_origins(LOCAL_PAGES.into_iter().map(str::to_owned).chain(admission.allowed_origins))
            .enforce_origin_validation()
            .with_max_request_body_bytes(BODY_MAX_BYTES)
            .with_cancellation_token(stop);
        let open = admission.without_token.then(|| Arc::new(Guest::new(Rights::of_this_machine("loopback"))));
        Self(Arc::new(Inner { gate, callers: admission.callers, open, config, doors: Mutex::default() }))
    }

    /// The listener's routes.
    pub fn router(self) -> Router {
        Router::new().route("/mcp", any(all)).route("/mcp/{server}", any(one)).with_state(self)
    }

    /// Who calls: by its token, or without one where that is allowed. A wrong token is never let in as nobody.
    fn guest(&self, request: &Request) -> Option<Arc<Guest>> {
        let Some(header) = request.headers().get(header::AUTHORIZATION) else { return self.0.open.clone() };
        let (scheme, token) = header.to_str().ok()?.split_once(' ')?;
        let token = Some(token.trim()).filter(|_| scheme.eq_ignore_ascii_case("bearer"))?;
        self.0.callers.borrow().find(token).cloned()
    }

    fn door(&self, guest: &Arc<Guest>, server: Option<String>) -> Option<(Service, Arc<LocalSessionManager>)> {
        let mut doors = self.0.doors.lock().unwrap_or_else(PoisonError::into_inner);
        // Where the file changed, the doors of those who are out or have other rights are shut, with their sessions.
        let (callers, open) = (self.0.callers.borrow().clone(), self.0.open.as_ref());
        doors.retain(|_, (of, ..)| callers.has(of) || open.is_some_and(|open| Arc::ptr_eq(open, of)));
        let key = (guest.rights.name.clone(), server);
        if let Some((of, service, sessions)) = doors.get(&key)
            && Arc::ptr_eq(of, guest)
        {
            return Some((service.clone(), Arc::clone(sessions)));
        }
        let visit = self.0.gate.visit(guest, key.1.as_deref())?;
        let sessions = Arc::new(LocalSessionManager::default());
        let service =
            StreamableHttpService::new(move || Ok(visit.clone()), Arc::clone(&sessions), self.0.config.clone());
        doors.insert(key, (Arc::clone(guest), service.clone(), Arc::clone(&sessions)));
        Some((service, sessions))
    }

    async fn handle(&self, server: Option<String>, request: Request) -> Response {
        let Some(guest) = self.guest(&request) else {
            let says = "wrong or missing token: an entry of mcp_callers_file is made by `firstlook mcp token`\n";
            let realm = [(header::WWW_AUTHENTICATE, "Bearer realm=\"firstlook\"")];
            return (StatusCode::UNAUTHORIZED, realm, says).into_response();
        };
        let Some((service, sessions)) = self.door(&guest, server) else {
            return (StatusCode::NOT_FOUND, "this token reaches no such server\n").into_response();
        };
        let begins = request.method() == Method::POST && !request.headers().contains_key(SESSION_HEADER);
        if begins && sessions.sessions.read().await.len() >= SESSIONS_MAX {
            let says = "too many open sessions: end some, or wait until they run out\n";
            return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "60")], says).into_response();
        }
        service.handle(request).await.map(Body::new).into_response()
    }
}

async fn all(State(mcp): State<Mcp>, request: Request) -> Response {
    mcp.handle(None, request).await
}

async fn one(State(mcp): State<Mcp>, Path(server): Path<String>, request: Request) -> Response {
    mcp.handle(Some(server), request).await
}
