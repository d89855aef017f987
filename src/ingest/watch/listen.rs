//! One collection of the API server, listed and then watched for as long as it takes; what goes wrong is told and waited out.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::{Stream, StreamExt};
use kube::Resource;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::Status;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep, timeout};

/// Objects of one page: a page is in memory whole, thrice as text and once decoded, and real pods have 7 to 10 KB.
const PAGE: u32 = 100;
/// Pages that are read at once, of all watches together: what they take is never given back to the system.
pub(super) const PAGES_AT_ONCE: usize = 2;
/// A page that is not there by then would hold up the lists of all others.
const PAGE_WITHIN: Duration = Duration::from_secs(60);
/// The API server ends a watch after this; one that says nothing for a little longer is dead.
const WATCH_SECONDS: u32 = 290;
const IDLE_MAX: Duration = Duration::from_secs(295);
/// An API server that answers a watch with an error does so at once: one that says nothing for this long stands.
const QUIET: Duration = Duration::from_secs(1);
/// The first pause after something went wrong, doubling up to the next.
const PAUSE_FIRST: Duration = Duration::from_millis(800);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// An API server in front of an old etcd (before 3.4.31 and 3.5.13) answers every watch that asks for bookmarks with one
/// error 500 inside the stream. After so many in a row they are not asked for.
const REFUSED_MAX: u32 = 2;

/// What is told of a collection.
pub(super) enum Told<K> {
    /// A list begins: what is not in it is gone.
    Begins,
    Listed(K),
    /// The list is whole.
    Whole,
    Changed(K),
    Gone(K),
    /// The watch stands, and there is no news.
    Stands,
    /// It was lost, for this reason, and is taken up again.
    Failed {
        why: String,
        /// It may not be read, or is not there.
        barred: bool,
    },
}

/// Why a list or a watch does not go on.
enum Halt {
    /// It ended as all watches do.
    Over,
    /// Its start is too old: only a new list helps.
    TooOld,
    /// The API server, or the way to it, failed; it may have said how long to wait.
    Failed { why: String, wait: Option<Duration>, barred: bool },
    /// Nobody listens any more.
    Unheard,
}

impl Halt {
    fn late() -> Self {
        Self::Failed { why: "no answer in time".to_owned(), wait: None, barred: false }
    }
}

impl From<kube::Error> for Halt {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => (*status).into(),
            other => Self::Failed { why: other.to_string(), wait: None, barred: false },
        }
    }
}

impl From<Status> for Halt {
    fn from(status: Status) -> Self {
        if status.code == 410 {
            return Self::TooOld;
        }
        let wait = status.details.map(|details| Duration::from_secs(details.retry_after_seconds.into()));
        let barred = matches!(status.code, 403 | 404);
        Self::Failed { why: format!("{} ({})", status.message, status.code), wait, barred }
    }
}

/// Tells of every object that `api` shows and `fields` selects, until nobody listens.
pub(super) async fn listen<K>(
    api: kube::Api<K>,
    fields: Option<&'static str>,
    pages: Arc<Semaphore>,
    told: Sender<Told<K>>,
) where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let fields = fields.map(str::to_owned);
    let mut listener = Listener { api, fields, pages, told, bookmarks: true, refused: 0, pause: pause() };
    loop {
        let halt = match listener.list().await {
            Ok(version) => listener.follow(version).await,
            Err(halt) => halt,
        };
        match halt {
            Halt::Unheard => return,
            Halt::Failed { why, wait, barred } => {
                if listener.failed(why, barred, wait).await.is_err() {
                    return;
                }
            }
            // A list that is too old before it is whole would be begun without end.
            Halt::TooOld | Halt::Over => listener.rest(None).await,
        }
    }
}

fn pause() -> ExponentialBackoff {
    let builder = ExponentialBuilder::default().with_min_delay(PAUSE_FIRST).with_max_delay(PAUSE_MAX);
    builder.without_max_times().with_jitter().build()
}

struct Listener<K> {
    api: kube::Api<K>,
    fields: Option<String>,
    pages: Arc<Semaphore>,
    told: Sender<Told<K>>,
    bookmarks: bool,
    /// Watches in a row that were answered with an error 500 alone.
    refused: u32,
    pause: ExponentialBackoff,
}

impl<K> Listener<K>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    /// Reads all pages; the version of the list.
    async fn list(&mut self) -> Result<String, Halt> {
        self.tell(Told::Begins).await?;
        let field_selector = self.fields.clone();
        let mut ask = ListParams { field_selector, limit: Some(PAGE), ..ListParams::default() };
        loop {
            let turn = Arc::clone(&self.pages).acquire_owned().await;
            let page = timeout(PAGE_WITHIN, self.api.list(&ask)).await.map_err(|_| Halt::late())??;
            for object in page.items {
                self.tell(Told::Listed(object)).await?;
            }
            drop(turn);
            ask.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if ask.continue_token.is_none() {
                self.tell(Told::Whole).await?;
                return Ok(page.metadata.resource_version.unwrap_or_default());
            }
        }
    }

    /// Watches from `version` on, again and again; why a new list is needed.
    async fn follow(&mut self, mut version: String) -> Halt {
        loop {
            let began = Instant::now();
            let ask = WatchParams {
                field_selector: self.fields.clone(),
                bookmarks: self.bookmarks,
                timeout: Some(WATCH_SECONDS),
                ..WatchParams::default()
            };
            let halt = match self.api.watch(&ask, &version).await {
                Ok(stream) => self.hear(Box::pin(stream), &mut version).await,
                Err(error) => error.into(),
            };
            match halt {
                Halt::Failed { why, wait, barred } => {
                    if let Err(halt) = self.failed(why, barred, wait).await {
                        return halt;
                    }
                }
                // One that ends all watches at once would be asked without end.
                Halt::Over if began.elapsed() < QUIET => self.rest(None).await,
                Halt::Over => {}
                Halt::TooOld | Halt::Unheard => return halt,
            }
        }
    }

    /// Hears one watch to its end.
    async fn hear(
        &mut self,
        mut stream: impl Stream<Item = kube::Result<WatchEvent<K>>> + Unpin,
        version: &mut String,
    ) -> Halt {
        let mut stands = false;
        loop {
            let event = match timeout(if stands { IDLE_MAX } else { QUIET }, stream.next()).await {
                Ok(Some(Ok(event))) => Some(event),
                Ok(Some(Err(error))) => return error.into(),
                Err(_) if !stands => None,
                Ok(None) | Err(_) => return Halt::Over,
            };
            let told = match event {
                Some(WatchEvent::Error(status)) => {
                    self.refused = if status.code == 500 && !stands { self.refused + 1 } else { 0 };
                    self.bookmarks &= self.refused < REFUSED_MAX;
                    return (*status).into();
                }
                Some(WatchEvent::Added(object) | WatchEvent::Modified(object)) => Told::Changed(object),
                Some(WatchEvent::Deleted(object)) => Told::Gone(object),
                Some(WatchEvent::Bookmark(bookmark)) => {
                    *version = bookmark.metadata.resource_version;
                    Told::Stands
                }
                None => Told::Stands,
            };
            if let Told::Changed(object) | Told::Gone(object) = &told
                && let Some(newer) = &object.meta().resource_version
            {
                version.clone_from(newer);
            }
            if !stands {
                (stands, self.refused, self.pause) = (true, 0, pause());
            }
            if let Err(halt) = self.tell(told).await {
                return halt;
            }
        }
    }

    async fn tell(&self, told: Told<K>) -> Result<(), Halt> {
        self.told.send(told).await.map_err(|_| Halt::Unheard)
    }

    async fn failed(&mut self, why: String, barred: bool, wait: Option<Duration>) -> Result<(), Halt> {
        self.tell(Told::Failed { why, barred }).await?;
        self.rest(wait).await;
        Ok(())
    }

    /// Waits for longer each time, and at least as long as the API server asked for, within bounds.
    async fn rest(&mut self, wait: Option<Duration>) {
        let pause = self.pause.next().unwrap_or(PAUSE_MAX);
        sleep(wait.map_or(pause, |wait| wait.clamp(pause, PAUSE_MAX.max(pause)))).await;
    }
}
