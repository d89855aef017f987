//! Watch streams: what is there, then every change as it happens, with bookmarks, timeouts and the 410 of a stale start.

use std::collections::VecDeque;
use std::time::Duration;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::sim::cluster::Cluster;
use crate::sim::cluster::failure::{Failure, Outcome};
use crate::sim::cluster::kinds::Kind;
use crate::sim::cluster::objects::{Change, World};
use crate::sim::cluster::select::Selector;
use crate::sim::cluster::serve::Query;
use crate::sim::cluster::show::{Shape, as_kind};
use crate::sim::cluster::table;
use crate::sim::cluster::target::Target;

/// How often a quiet stream gets a bookmark: the real server's minute.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long a watch lasts that sets no `timeoutSeconds`: the real server's least.
const WATCH_SECONDS: u64 = 1800;

struct Watch {
    cluster: Cluster,
    kind: Kind,
    ns: Option<String>,
    path: String,
    selector: Selector,
    shape: Shape,
    /// Everything up to here has been told.
    cursor: u64,
    changed: Receiver<u64>,
    bookmarks: bool,
    next_bookmark: Instant,
    deadline: Instant,
    ready: VecDeque<Value>,
    over: bool,
    stop: CancellationToken,
}

/// Opens a watch on a collection; it ends with `stop`.
pub(crate) fn open(
    cluster: &Cluster,
    target: &Target<'_>,
    path: &str,
    query: &Query,
    shape: Shape,
    stop: CancellationToken,
) -> Outcome<Response> {
    let kind = target.kind;
    let selector = Selector::parse(kind, query.get("labelSelector"), query.get("fieldSelector"))?;
    let asked = query.version()?;
    let seconds = query.get("timeoutSeconds").and_then(|t| t.parse().ok()).filter(|t| *t > 0).unwrap_or(WATCH_SECONDS);
    let now = Instant::now();
    let mut watch = Watch {
        changed: cluster.changes(),
        cluster: cluster.clone(),
        kind: kind.clone(),
        ns: target.within().map(str::to_owned),
        path: path.to_owned(),
        selector,
        shape,
        cursor: asked,
        bookmarks: query.is_true("allowWatchBookmarks"),
        next_bookmark: now + BOOKMARK_EVERY,
        deadline: now + Duration::from_secs(seconds),
        ready: VecDeque::new(),
        over: false,
        stop,
    };
    let initial_end = query.is_true("sendInitialEvents");
    if asked == 0 || initial_end {
        cluster.with(|world| watch.begin(world, initial_end));
    }
    watch.collect();
    let lines = stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        let mut line = event.to_string();
        line.push('\n');
        Some((Ok::<_, std::io::Error>(line), watch))
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from_stream(lines)).into_response())
}

impl Watch {
    /// Tells everything that is there as added.
    fn begin(&mut self, world: &World, say_end: bool) {
        for (_, object) in world.list(&self.kind, self.ns.as_deref()) {
            if self.selector.matches(&as_kind(&self.kind, object)) {
                self.ready.push_back(json!({"type": "ADDED", "object": self.shape.of(&self.kind, object)}));
            }
        }
        self.cursor = world.rv();
        if say_end && self.bookmarks {
            let mut bookmark = self.bookmark();
            bookmark["object"]["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
            self.ready.push_back(bookmark);
        }
    }

    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.over {
                return None;
            }
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = tokio::time::sleep_until(self.deadline) => return None,
                () = tokio::time::sleep_until(self.next_bookmark) => {
                    self.next_bookmark += BOOKMARK_EVERY;
                    if self.bookmarks {
                        return Some(self.bookmark());
                    }
                }
                changed = self.changed.changed() => {
                    changed.ok()?;
                    self.collect();
                }
            }
        }
    }

    /// Takes over what happened since the cursor.
    fn collect(&mut self) {
        if let Some(code) = self.cluster.faults().watch_error(&self.path) {
            let refused = match code {
                410 => Failure::too_old(&self.kind, self.cursor, self.cursor + 1),
                _ => Failure::new(
                    code,
                    "InternalError",
                    "Internal error occurred: the simulated server was told to fail",
                ),
            };
            return self.fail(&refused);
        }
        let cluster = self.cluster.clone();
        cluster.with(|world| match world.since(self.cursor) {
            None => self.fail(&Failure::too_old(&self.kind, self.cursor, world.oldest())),
            Some(changes) => {
                let stored = world.kinds.stored(&self.kind).id;
                for change in changes.filter(|c| c.key.kind == stored) {
                    if self.ns.as_ref().is_none_or(|ns| change.key.ns == *ns)
                        && let Some(event) = self.told(change)
                    {
                        self.ready.push_back(event);
                    }
                }
                self.cursor = self.cursor.max(world.rv());
            }
        });
    }

    /// A change as this watch sees it: an object that leaves its selection is deleted for it, one that enters is added.
    fn told(&self, change: &Change) -> Option<Value> {
        let selected = |object: &Value| self.selector.matches(&as_kind(&self.kind, object));
        let was = change.before.as_ref().is_some_and(|before| selected(before));
        let is = !change.deleted && selected(&change.object);
        let verb = match (was, is) {
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
            (false, false) => return None,
        };
        Some(json!({"type": verb, "object": self.shape.of(&self.kind, &change.object)}))
    }

    fn fail(&mut self, why: &Failure) {
        self.ready.push_back(json!({"type": "ERROR", "object": why.body()}));
        self.over = true;
    }

    fn bookmark(&self) -> Value {
        let object = json!({"kind": self.kind.kind, "apiVersion": self.kind.api_version(),
                            "metadata": {"resourceVersion": self.cursor.to_string()}});
        let mut object = match self.shape {
            // A bookmark has no row.
            Shape::Table(_) => table::of(&self.kind, object["metadata"].clone(), &[], self.cluster.now()),
            shape => shape.of(&self.kind, &object),
        };
        if self.kind.kind == "Pod" && self.shape == Shape::Whole {
            // What Go's encoder makes of an empty Pod; clients with required fields depend on it.
            object["spec"] = json!({"containers": null});
            object["status"] = json!({});
        }
        json!({"type": "BOOKMARK", "object": object})
    }
}
