//! The HTTP side: identifies the caller, asks RBAC, and leads each request to what answers it.

use std::collections::HashMap;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Query as UriQuery, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::sim::cluster::Cluster;
use crate::sim::cluster::access::User;
use crate::sim::cluster::failure::{Failure, Outcome};
use crate::sim::cluster::kinds::REVIEW;
use crate::sim::cluster::show::Shape;
use crate::sim::cluster::target::{Place, Target, place};
use crate::sim::cluster::{discovery, logs, openapi, read, reviews, rollout, watch, write};

/// Larger bodies get 413: the real server's limit for a resource.
const BODY_MAX_BYTES: usize = 3 << 20;

/// The query of a request; of a parameter that is given twice the last counts.
#[derive(Debug, Default)]
pub(crate) struct Query(HashMap<String, String>);

impl Query {
    fn of(uri: &Uri) -> Self {
        Self(UriQuery::try_from_uri(uri).map(|UriQuery(map)| map).unwrap_or_default())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn is_true(&self, name: &str) -> bool {
        matches!(self.get(name), Some("true" | "1" | ""))
    }

    /// `resourceVersion`; absent or empty is 0.
    pub(crate) fn version(&self) -> Outcome<u64> {
        match self.get("resourceVersion").unwrap_or("") {
            "" => Ok(0),
            text => text.parse().map_err(|_| {
                Failure::bad_request(format!("resourceVersion: Invalid value: {text:?}: must be a number"))
            }),
        }
    }

    pub(crate) fn dry_run(&self) -> Outcome<bool> {
        match self.get("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => {
                Err(Failure::bad_request(format!("dryRun: Unsupported value: {other:?}: supported values: \"All\"")))
            }
        }
    }
}

/// One request after authentication.
pub(crate) struct Call<'a> {
    pub(crate) user: &'a User,
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) query: Query,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: Bytes,
}

#[derive(Clone)]
struct Server {
    cluster: Cluster,
    stop: CancellationToken,
}

/// Serves until `stop`; running watches end then too.
pub(crate) async fn run(cluster: Cluster, listener: TcpListener, stop: CancellationToken) -> std::io::Result<()> {
    let controller = tokio::spawn(rollout::run(cluster.clone(), stop.clone()));
    let server = Server { cluster, stop: stop.clone() };
    let app = Router::new().fallback(answer).with_state(server);
    // A watch event is a small write after another: without this the kernel may hold it back for 40 ms.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let served = axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await;
    controller.abort();
    served
}

async fn answer(State(Server { cluster, stop }): State<Server>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let user = cluster.identify(&parts.headers);
    let name = user.as_ref().map(|user| user.name.as_str()).unwrap_or("");
    let entry = cluster.log_request(parts.method.as_str(), &parts.uri, name);
    let answered = match (user, read_body(body).await) {
        _ if cluster.faults().is_away() => Err(Failure::new(503, "ServiceUnavailable", "the server is away")),
        (Ok(user), Ok(body)) => {
            cluster.faults().hang(path, &stop).await;
            let (method, query) = (&parts.method, Query::of(&parts.uri));
            let call = Call { user: &user, method, path, query, headers: &parts.headers, body };
            route(&cluster, &call, &stop)
        }
        (Err(refused), _) | (_, Err(refused)) => Err(refused),
    };
    let response = answered.unwrap_or_else(Failure::into_response);
    let writes = [Method::PATCH, Method::POST].contains(&parts.method) && !path.ends_with("/token");
    if writes && response.status().is_success() {
        cluster.faults().hold_answer(path, &stop).await;
    }
    cluster.log_status(entry, response.status().as_u16());
    response
}

async fn read_body(body: Body) -> Outcome<Bytes> {
    to_bytes(body, BODY_MAX_BYTES).await.map_err(|_| {
        let said = format!("Request entity too large: limit is {BODY_MAX_BYTES}");
        Failure::new(413, "RequestEntityTooLarge", said)
    })
}

fn route(cluster: &Cluster, call: &Call<'_>, stop: &CancellationToken) -> Outcome<Response> {
    let healthy = ["/healthz", "/readyz", "/livez"];
    if healthy.iter().any(|at| call.path == *at || call.path.strip_prefix(at).is_some_and(|rest| rest.starts_with('/')))
    {
        return Ok("ok".into_response());
    }
    let kinds = cluster.with(|world| world.kinds.clone());
    if call.method == Method::GET
        && let Some(found) =
            discovery::answer(&kinds, cluster.version(), call.path).or_else(|| openapi::answer(&kinds, call.path))
    {
        return Ok(axum::Json(found).into_response());
    }
    let target = match place(&kinds, call.path) {
        Place::Resource(target) => target,
        Place::NoResource => return Err(Failure::no_such_resource()),
        Place::Nothing => {
            let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
            return Ok((StatusCode::NOT_FOUND, plain, "404 page not found\n").into_response());
        }
    };
    call.user.must(target.kind, target.ask(verb(call, &target)?))?;
    match *call.method {
        Method::GET => look(cluster, call, &target, stop),
        Method::POST if target.kind.has(REVIEW) => {
            let made = reviews::answer(call.user, target.kind, &write::json(&call.body)?, cluster.now())?;
            Ok((StatusCode::CREATED, axum::Json(made)).into_response())
        }
        _ if target.kind.has(REVIEW) => Err(Failure::method()),
        _ => write::answer(cluster, call, &target),
    }
}

/// The verb that RBAC knows the request by.
fn verb(call: &Call<'_>, target: &Target<'_>) -> Outcome<&'static str> {
    Ok(match (call.method.as_str(), target.name.is_empty()) {
        ("GET", true) if call.query.is_true("watch") => "watch",
        ("GET", true) => "list",
        ("GET", false) => "get",
        ("POST", _) => "create",
        ("PUT", false) => "update",
        ("PATCH", false) => "patch",
        ("DELETE", false) => "delete",
        ("DELETE", true) => "deletecollection",
        _ => return Err(Failure::method()),
    })
}

fn look(cluster: &Cluster, call: &Call<'_>, target: &Target<'_>, stop: &CancellationToken) -> Outcome<Response> {
    let (kind, query) = (target.kind, &call.query);
    let shape = Shape::accepted(call.headers, cluster.now());
    if kind.has(REVIEW) {
        return Err(Failure::method());
    }
    if target.name.is_empty() {
        return match query.is_true("watch") {
            true => watch::open(cluster, target, call.path, query, shape, stop.clone()),
            false => {
                let found = cluster.with(|world| read::list(world, kind, target.within(), query, shape))?;
                Ok(axum::Json(found).into_response())
            }
        };
    }
    let now = cluster.now();
    cluster.with(|world| {
        let key = world.key(kind, target.ns, target.name);
        match target.sub {
            "" | "status" => Ok(axum::Json(read::get(world, kind, &key, shape)?).into_response()),
            "scale" => {
                Ok(axum::Json(write::scale_of(kind, &read::get(world, kind, &key, Shape::Whole)?)?).into_response())
            }
            "log" if kind.kind == "Pod" => Ok(match logs::read(world, &key, query, now)? {
                Some(text) => text.into_response(),
                None => StatusCode::NO_CONTENT.into_response(),
            }),
            _ => Err(Failure::no_such_resource()),
        }
    })
}
