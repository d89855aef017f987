//! The store: the one place that remembers, and the queue of every stage; SQLite by default, PostgreSQL by URL.

mod approvals;
mod audit;
mod card;
mod claims;
mod cut;
mod digests;
mod examine;
mod incidents;
mod lite;
mod lock;
mod news;
mod operation;
mod past;
mod postgres;
mod proof;
mod prune;
mod read;
mod record;
mod scenes;
mod signals;
mod sql;
mod write;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use sqlx::migrate::MigrateError;
use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};
use tokio::sync::mpsc;

pub use audit::AuditEntry;
pub use claims::{ATTEMPTS_MAX, Claim, Parked};
pub use cut::{Cut, Took};
pub use digests::Crowd;
pub use examine::Examined;
pub use news::{News, Subscription};
pub use proof::{Anchor, AuditFault, AuditVerdict};
pub use read::{Depth, Due, Turn};
pub use record::Suspension;
pub use write::{Mark, Usage, Write};

use crate::clock::Clock;
use crate::model::ClusterName;
use crate::store::lite::{Reader, Readers};
use crate::store::lock::Place;
use crate::store::news::Waiters;
use crate::store::operation::{Context, Fault, Operation, Outcome};
use crate::store::scenes::Scenes;
use crate::store::sql::{Conn, SqlError};
use crate::store::writer::Message;

/// What a store needs to know besides its URL.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cluster whose rows this process reads and writes; others may share the database.
    pub cluster: ClusterName,
    /// SQLite: the file never grows beyond this, as if the disk were full there; PostgreSQL: what is told as its bound.
    /// None: the disk is the bound.
    pub size_max_bytes: Option<u64>,
}

impl Options {
    /// The options for this cluster, without a bound of size.
    pub fn new(cluster: ClusterName) -> Self {
        Self { cluster, size_max_bytes: None }
    }
}

/// Whether a store of this size nears its bound: four fifths, which leaves days to act at the usual growth.
pub fn is_near(bytes: u64, bytes_max: Option<u64>) -> bool {
    bytes_max.is_some_and(|bytes_max| bytes.saturating_mul(5) >= bytes_max.saturating_mul(4))
}

/// When a commit must survive a power failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Synced before the answer.
    Durable,
    /// Synced within 100 ms. Survives the death of the process at once.
    Soon,
}

/// Why a store could not be opened, by remedy.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("a store is `sqlite:PATH` or `postgres://USER@HOST/DATABASE`")]
    Url,
    #[error("{} is in use by {by}; two daemons cannot share one SQLite file", path.display())]
    Locked { path: PathBuf, by: String },
    #[error("the store was written by a newer firstlook (its schema {0} is unknown here); run that version")]
    Newer(i64),
    #[error("cannot open the store: {0:#}")]
    Unopened(anyhow::Error),
}

impl<E: Into<SqlError>> From<E> for OpenError {
    fn from(error: E) -> Self {
        Self::Unopened(error.into().into())
    }
}

impl From<MigrateError> for OpenError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::VersionMissing(version) => Self::Newer(version),
            other => Self::Unopened(other.into()),
        }
    }
}

/// Why a commit changed nothing, by remedy.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Stop: another works on it.
    #[error("the claim was lost")]
    LostClaim,
    /// Read again and decide again.
    #[error("{0}")]
    Conflict(String),
    /// Try again later: the disk is full or fails.
    #[error("no room to write: {0}")]
    Full(String),
    #[error("the store failed: {0:#}")]
    Store(anyhow::Error),
}

impl From<Fault> for CommitError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::LostClaim => Self::LostClaim,
            Fault::Conflict(what) => Self::Conflict(what),
            Fault::Sql(error) if error.is_full() => Self::Full(error.to_string()),
            Fault::Sql(error) => Self::Store(error.into()),
            Fault::Other(error) => Self::Store(error),
        }
    }
}

/// A synced commit shows for so long that the next one would go through: a probe every few seconds then costs no sync of
/// its own, and a disk that fills up while nothing is written is told within this.
const SHOWN_FOR_MS: i64 = 30_000;
/// No commit went through yet, or the last one failed.
const NEVER_MS: i64 = i64::MIN;

/// The store. Clones share it.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    engine: Engine,
    context: Arc<Context>,
    waiters: Arc<Waiters>,
    scenes: Scenes,
    size_max_bytes: Option<u64>,
    /// When a synced commit went through last.
    synced_at_ms: AtomicI64,
}

impl Inner {
    fn new(engine: Engine, context: Arc<Context>, waiters: Arc<Waiters>, options: &Options) -> Self {
        let (scenes, synced_at_ms) = (Scenes::default(), AtomicI64::new(NEVER_MS));
        Self { engine, context, waiters, scenes, size_max_bytes: options.size_max_bytes, synced_at_ms }
    }
}

enum Engine {
    /// Writes go to the one writer; none when opened to read only.
    Lite {
        writer: Option<mpsc::Sender<Message>>,
        readers: Readers,
    },
    Pg {
        pool: PgPool,
    },
}

impl Store {
    /// Opens `sqlite:PATH` or `postgres://...`, creates or migrates its tables, voids claims of the past (SQLite).
    pub async fn open(url: &str, clock: Clock, options: Options) -> Result<Self, OpenError> {
        let waiters = Arc::new(Waiters::default());
        let context = Arc::new(new_context(clock, &options));
        let engine = match Place::parse(url)? {
            Place::Sqlite(path) => {
                let writer = writer::start(&path, &options, context.clone(), waiters.clone()).await?;
                Engine::Lite { writer: Some(writer), readers: Readers::new(&path) }
            }
            Place::Postgres(url) => {
                let pool = postgres::open(&url, false).await?;
                claims::unpark(&mut Conn::Pg(&mut *pool.acquire().await?), &context.cluster).await?;
                Engine::Pg { pool }
            }
        };
        Ok(Self(Arc::new(Inner::new(engine, context, waiters, &options))))
    }

    /// Opens an existing store for reading, beside a running daemon; every commit fails.
    pub async fn open_read_only(url: &str, clock: Clock, options: Options) -> Result<Self, OpenError> {
        let engine = match Place::parse(url)? {
            Place::Sqlite(path) => {
                require_file(&path)?;
                let readers = Readers::new(&path);
                readers.acquire().await?;
                Engine::Lite { writer: None, readers }
            }
            Place::Postgres(url) => Engine::Pg { pool: postgres::open(&url, true).await? },
        };
        let context = Arc::new(new_context(clock, &options));
        Ok(Self(Arc::new(Inner::new(engine, context, Arc::default(), &options))))
    }

    /// Writes all of `writes` or nothing. `Durable` answers after a sync. Under a claim that was lost it fails. Waits
    /// while 1,024 others wait.
    pub async fn commit(
        &self,
        writes: Vec<Write>,
        durability: Durability,
        claim: Option<&Claim>,
    ) -> Result<(), CommitError> {
        if writes.is_empty() && claim.is_none() {
            return Ok(());
        }
        let operation = Operation::Commit { writes, claim: claim.cloned() };
        self.operate(operation, durability == Durability::Durable).await.map(|_| ())
    }

    /// Whether a commit would go through now. A synced one that went through of late shows it, where the writer still
    /// answers; else, and after one that failed, what means nothing is written and synced.
    ///
    /// # Errors
    /// Those of a commit.
    pub async fn answers(&self) -> Result<(), CommitError> {
        let age_ms = self.clock().now_ms().saturating_sub(self.0.synced_at_ms.load(Ordering::Relaxed));
        // A clock that was set back shows nothing.
        if !(0..SHOWN_FOR_MS).contains(&age_ms) {
            return self.operate(Operation::Beat, true).await.map(|_| ());
        }
        match &self.0.engine {
            Engine::Lite { writer: Some(writer), .. } => writer::ask(writer).await,
            _ => Ok(()),
        }
    }

    /// What the database may take, in bytes.
    pub fn size_max_bytes(&self) -> Option<u64> {
        self.0.size_max_bytes
    }

    /// Whether taking rows out makes room that `size_bytes` shows: PostgreSQL keeps it until its own vacuum.
    pub fn shrinks(&self) -> bool {
        matches!(self.0.engine, Engine::Lite { .. })
    }

    /// Waits for what is being written, syncs it and closes the database; later calls fail.
    pub async fn close(&self) {
        match &self.0.engine {
            Engine::Lite { writer, readers } => {
                readers.close().await;
                if let Some(writer) = writer {
                    writer::stop(writer).await;
                }
            }
            Engine::Pg { pool } => pool.close().await,
        }
    }

    /// Does one operation on the write side.
    async fn operate(&self, operation: Operation, durable: bool) -> Result<Outcome, CommitError> {
        let done = match &self.0.engine {
            Engine::Lite { writer: Some(writer), .. } => writer::operate(writer, operation, durable).await,
            Engine::Lite { writer: None, .. } => {
                Err(CommitError::Store(anyhow::anyhow!("the store was opened for reading only")))
            }
            Engine::Pg { pool } => {
                let done = postgres::operate(pool, &self.0.context, &operation, durable).await;
                done.inspect(|outcome| self.0.waiters.tell(News::of(&operation, outcome)))
            }
        };
        match &done {
            Ok(_) if durable => self.0.synced_at_ms.store(self.clock().now_ms(), Ordering::Relaxed),
            Err(CommitError::Full(_) | CommitError::Store(_)) => {
                self.0.synced_at_ms.store(NEVER_MS, Ordering::Relaxed);
            }
            // A conflict says nothing of the disk.
            _ => {}
        }
        done
    }

    /// A connection for reading.
    async fn held(&self) -> sql::Result<Held> {
        Ok(match &self.0.engine {
            Engine::Lite { readers, .. } => Held::Lite(readers.acquire().await?),
            Engine::Pg { pool } => Held::Pg(pool.acquire().await?),
        })
    }

    fn context(&self) -> &Context {
        &self.0.context
    }

    fn cluster(&self) -> &ClusterName {
        &self.0.context.cluster
    }

    fn clock(&self) -> &Clock {
        &self.0.context.clock
    }
}

/// A connection lent by a pool.
enum Held {
    Lite(Reader),
    Pg(PoolConnection<Postgres>),
}

impl Held {
    fn conn(&mut self) -> Conn<'_> {
        match self {
            Held::Lite(reader) => Conn::Lite(&mut reader.conn),
            Held::Pg(conn) => Conn::Pg(conn),
        }
    }
}

fn new_context(clock: Clock, options: &Options) -> Context {
    Context {
        cluster: options.cluster.clone(),
        clock,
        process: uuid::Uuid::now_v7().simple().to_string(),
        claims_made: AtomicU64::new(0),
    }
}

fn require_file(path: &Path) -> Result<(), OpenError> {
    match std::fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(error) => Err(OpenError::Unopened(anyhow::anyhow!("{}: {error}", path.display()))),
    }
}

#[cfg(test)]
pub(crate) mod tests;
