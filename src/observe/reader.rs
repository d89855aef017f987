//! The reader: get, list, log and "may I" of one API server, bounded in time and size. There is no verb that writes.

mod items;
mod log;

use std::sync::Arc;
use std::time::Duration;

use futures::AsyncReadExt;
use kube::core::Request;
use kube::core::params::{GetParams, ListParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::model::{ClusterName, Kind, Name, ObjectRef};
use crate::observe::Prometheus;
use crate::observe::json::slim;
use crate::redact::{Redacted, Redactor};
use crate::text;

pub use log::{LOG_TIMEOUT, LogAsk, LogRead};

/// One request: an API server that works answers a page of 500 in far less.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Objects of one page, as kubectl asks for.
const PAGE: u32 = 500;
/// Objects of one list if the caller sets no bound.
const LIST_MAX: usize = 5_000;
/// Bytes of one answer: a page of 500 objects is some 3 MB; etcd's largest object is 1.5 MB.
const BODY_MAX_BYTES: u64 = 16 << 20;
/// Requests in flight: a storm of incidents must not become a storm of reads (API servers allow a client some hundred).
const IN_FLIGHT_MAX: usize = 32;

/// Why something could not be read, by remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It is not there.
    #[error("not found")]
    NotFound,
    /// RBAC says no (or the token is refused): the person who installs has to grant it.
    #[error("forbidden: {0}")]
    Forbidden(Redacted),
    /// No answer in time: try again later.
    #[error("no answer in time")]
    TimedOut,
    /// Nothing answers at its address: is the address right, is the network there?
    #[error("{0}")]
    Unreachable(Redacted),
    /// The API server cannot answer this now (or not with so much data): try again later or ask for less.
    #[error("{0}")]
    Unavailable(Redacted),
    /// The API server refuses what was asked (400, 422; a container without a log): asking again changes nothing.
    #[error("{0}")]
    Refused(Redacted),
}

impl ReadError {
    /// The reason in words, for a card: `could not read pods (<reason>)`.
    pub fn reason(&self) -> Redacted {
        match self {
            ReadError::NotFound => Redacted::literal("not found"),
            ReadError::Forbidden(why) => text!("not allowed: {}", why),
            ReadError::TimedOut => Redacted::literal("no answer in time"),
            ReadError::Unreachable(why) | ReadError::Unavailable(why) | ReadError::Refused(why) => why.clone(),
        }
    }
}

/// Which objects of a kind.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    /// As `kubectl -l`.
    pub labels: Option<String>,
    /// As `kubectl --field-selector`.
    pub fields: Option<String>,
    /// Most objects to read; 0 stands for 5,000.
    pub max: usize,
}

impl Selector {
    /// All of them, up to the default bound.
    pub fn all() -> Self {
        Self::default()
    }

    /// Those with these labels.
    pub fn labels(selector: impl Into<String>) -> Self {
        Self { labels: Some(selector.into()), ..Self::default() }
    }

    /// Those with these fields.
    pub fn fields(selector: impl Into<String>) -> Self {
        Self { fields: Some(selector.into()), ..Self::default() }
    }

    /// At most `max` of them.
    pub fn at_most(self, max: usize) -> Self {
        Self { max, ..self }
    }
}

/// A list, and whether there are more than were read.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    pub items: Vec<Value>,
    pub more: bool,
}

/// Reads one cluster. Clones are cheap and share the bound on requests in flight.
#[derive(Clone)]
pub struct Reader(Arc<Inner>, Option<Prometheus>);

struct Inner {
    client: kube::Client,
    cluster: ClusterName,
    redactor: Redactor,
    clock: Clock,
    slots: Semaphore,
    /// Only these namespaces are read, and nothing that lives in none; empty: the whole cluster.
    within: Vec<Name>,
}

impl Reader {
    /// A reader over `client`, which should neither retry by itself nor wait for ever (see its configuration).
    pub fn new(client: kube::Client, cluster: ClusterName, redactor: Redactor, clock: Clock) -> Self {
        Self::within(client, cluster, redactor, clock, Vec::new())
    }

    /// The same, of these namespaces alone, whatever else the credential may read; of all where there are none.
    pub fn within(
        client: kube::Client,
        cluster: ClusterName,
        redactor: Redactor,
        clock: Clock,
        namespaces: Vec<Name>,
    ) -> Self {
        let slots = Semaphore::new(IN_FLIGHT_MAX);
        Self(Arc::new(Inner { client, cluster, redactor, clock, slots, within: namespaces }), None)
    }

    /// The same, which knows where what the cluster does is measured.
    pub fn with_prometheus(self, prometheus: Option<Prometheus>) -> Self {
        Self(self.0, prometheus)
    }

    /// Where what the cluster does is measured, if anywhere.
    pub fn prometheus(&self) -> Option<&Prometheus> {
        self.1.as_ref()
    }

    /// The configured name of the cluster that is read.
    pub fn cluster(&self) -> &ClusterName {
        &self.0.cluster
    }

    /// What makes this cluster's text `Redacted`.
    pub fn redactor(&self) -> &Redactor {
        &self.0.redactor
    }

    /// The clock that dates what is read.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// The object, or None if it is not there. managedFields are reduced to who wrote what part when.
    pub async fn get(&self, object: &ObjectRef) -> Result<Option<Value>, ReadError> {
        let Some(path) = self.path(object.kind, Some(object.namespace()))? else { return Ok(None) };
        match self.json(path, Ask::Get(object.name())).await {
            Ok(mut value) => {
                slim(&mut value, object.kind);
                Ok(Some(value))
            }
            Err(ReadError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Objects of a kind, in one namespace or in all, at most `selector.max`.
    pub async fn list(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        selector: &Selector,
    ) -> Result<Vec<Value>, ReadError> {
        self.page(kind, namespace, selector).await.map(|listed| listed.items)
    }

    /// The same, and whether there are more.
    pub async fn page(&self, kind: Kind, namespace: Option<&str>, selector: &Selector) -> Result<Listed, ReadError> {
        let mut items = Vec::new();
        let more = self.each(kind, namespace, selector, |value| items.push(value)).await?;
        Ok(Listed { items, more })
    }

    /// Hands each object to `take` as its page comes in, so that a long list need not be held; true if there are more.
    pub async fn each(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        selector: &Selector,
        mut take: impl FnMut(Value),
    ) -> Result<bool, ReadError> {
        let Some(path) = self.path(kind, namespace)? else { return Ok(false) };
        let max = if selector.max == 0 { LIST_MAX } else { selector.max };
        let mut ask = ListParams {
            label_selector: selector.labels.clone(),
            field_selector: selector.fields.clone(),
            limit: Some(PAGE.min(max as u32)),
            ..ListParams::default()
        };
        let mut room = max;
        loop {
            let bytes = self.bytes(path.clone(), Ask::List(&ask), BODY_MAX_BYTES).await?;
            let page = items::each(&bytes, room, &mut |mut item| {
                room -= 1;
                slim(&mut item, kind);
                take(item);
            });
            let page = page.map_err(|_| ReadError::Unavailable(Redacted::literal("the answer is no list")))?;
            match page.next {
                _ if page.left > 0 => return Ok(true),
                Some(_) if room == 0 => return Ok(true),
                Some(token) => ask.continue_token = Some(token),
                None => return Ok(false),
            }
        }
    }

    /// Names of a kind's objects in a namespace, without their content (metadata only); at most `max`.
    pub async fn names(&self, kind: Kind, namespace: Option<&str>, max: u32) -> Result<Vec<Name>, ReadError> {
        let Some(path) = self.path(kind, namespace)? else { return Ok(Vec::new()) };
        let ask = ListParams { limit: Some(max), ..ListParams::default() };
        let page = self.json(path, Ask::Names(&ask)).await?;
        let items = page.get("items").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let name = |item: &Value| item.pointer("/metadata/name").and_then(Value::as_str).and_then(Name::parse);
        Ok(items.iter().filter_map(name).collect())
    }

    /// Whether this client may use `verb` on objects of `kind` (`pods/log` is asked as sub-resource `log`).
    pub async fn may(
        &self,
        verb: &str,
        kind: Kind,
        subresource: Option<&str>,
        namespace: Option<&str>,
    ) -> Result<bool, ReadError> {
        let (group, _, plural) = kind.resource();
        let attributes = json!({
            "verb": verb, "group": group, "resource": plural, "subresource": subresource, "namespace": namespace,
        });
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned();
        let answer = self.json(path, Ask::May(&review)).await?;
        Ok(answer.pointer("/status/allowed").and_then(Value::as_bool).unwrap_or(false))
    }

    /// The server's version, as in `v1.34.2`.
    pub async fn version(&self) -> Result<Redacted, ReadError> {
        // `/version` is no list, but asked for like one.
        let answer = self.json("/version".to_owned(), Ask::List(&ListParams::default())).await?;
        Ok(self.0.redactor.redact(answer.get("gitVersion").and_then(Value::as_str).unwrap_or("")))
    }

    /// Whether only some namespaces are read, and nothing that lives in none.
    pub fn is_narrow(&self) -> bool {
        !self.0.within.is_empty()
    }

    /// The path of a kind's objects where they may be read; None for a kind that no API has.
    fn path(&self, kind: Kind, namespace: Option<&str>) -> Result<Option<String>, ReadError> {
        let listed = |namespace: &str| self.0.within.iter().any(|name| name.as_str() == namespace);
        let inside = kind.is_namespaced() && namespace.is_some_and(listed);
        if self.0.within.is_empty() || inside {
            return Ok(path(kind, namespace));
        }
        Err(ReadError::Forbidden("only what lies in kubernetes.namespaces is read".into()))
    }

    async fn json(&self, path: String, ask: Ask<'_>) -> Result<Value, ReadError> {
        let bytes = self.bytes(path, ask, BODY_MAX_BYTES).await?;
        serde_json::from_slice(&bytes).map_err(|_| ReadError::Unavailable(Redacted::literal("the answer is no JSON")))
    }

    async fn bytes(&self, path: String, ask: Ask<'_>, max: u64) -> Result<Vec<u8>, ReadError> {
        let request = Request::new(path);
        let request = match ask {
            Ask::Get(name) => request.get(name, &GetParams::default()),
            Ask::List(params) => request.list(params),
            Ask::Names(params) => request.list_metadata(params),
            Ask::May(review) => request.create(&PostParams::default(), review.to_string().into_bytes()),
        };
        let request = request.map_err(|_| no_request())?;
        let answer = async {
            let _slot = self.0.slots.acquire().await;
            let body = self.0.client.request_stream(request).await.map_err(|error| self.why(&error))?;
            let (mut body, mut bytes) = (std::pin::pin!(body.take(max + 1)), Vec::new());
            body.read_to_end(&mut bytes).await.map_err(broken)?;
            Ok(bytes)
        };
        let bytes = timeout(REQUEST_TIMEOUT, answer).await.unwrap_or(Err(ReadError::TimedOut))?;
        if bytes.len() as u64 > max {
            return Err(ReadError::Unavailable(text!("the answer is longer than {} MiB", max >> 20)));
        }
        Ok(bytes)
    }

    fn why(&self, error: &kube::Error) -> ReadError {
        let kube::Error::Api(status) = error else {
            return ReadError::Unreachable(Redacted::literal("the API server cannot be reached"));
        };
        // Longer messages repeat the whole object.
        let message = self.0.redactor.redact(&status.message).one_line().cut(300);
        match status.code {
            404 => ReadError::NotFound,
            401 | 403 => ReadError::Forbidden(message),
            408 | 504 => ReadError::TimedOut,
            400..=499 if status.code != 429 && status.code != 410 => ReadError::Refused(message),
            _ => ReadError::Unavailable(message),
        }
    }
}

fn no_request() -> ReadError {
    ReadError::Refused(Redacted::literal("no such request can be made"))
}

fn broken(_: std::io::Error) -> ReadError {
    ReadError::Unavailable(Redacted::literal("the answer broke off"))
}

/// What is asked of a path.
#[derive(Clone, Copy)]
enum Ask<'a> {
    Get(&'a str),
    List(&'a ListParams),
    Names(&'a ListParams),
    /// A review of one's own rights: a POST that changes nothing.
    May(&'a Value),
}

/// The path of a kind's objects, in one namespace or in all; None for a kind that no API has.
fn path(kind: Kind, namespace: Option<&str>) -> Option<String> {
    let (group, version, plural) = kind.resource();
    if version.is_empty() {
        return None;
    }
    let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
    Some(match namespace.filter(|namespace| kind.is_namespaced() && !namespace.is_empty()) {
        Some(namespace) => format!("{root}/namespaces/{namespace}/{plural}"),
        None => format!("{root}/{plural}"),
    })
}
