//! A SQLite file: how it is opened, brought to this version's tables, and read beside its writer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};
use sqlx::migrate::{MigrateError, Migration, Migrator};
use tokio::sync::{Mutex, OwnedMappedMutexGuard, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use crate::store::OpenError;
use crate::store::sql;

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations/sqlite");

/// Somebody else may look into the file for a moment (a backup, a command).
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// A read takes microseconds and holds a thread meanwhile: more readers than threads would only hold memory.
const READERS_MAX: usize = 4;
/// The writer's page cache, 8 MiB (negative: KiB): a batch of signals touches a page of the index each, and a cache that
/// is smaller than what one transaction changes is written twice. Memory is taken only as it is used.
const CACHE_KIB: i64 = -8_192;
/// Pages (16 MiB) in the log before they are copied into the file: an index page that many commits change is then copied
/// once.
const CHECKPOINT_PAGES: i64 = 4_000;
/// Every statement stays prepared; there are about 80.
const STATEMENTS: usize = 200;
/// Bytes of a page: SQLite's default.
const PAGE_BYTES: u64 = 4_096;

/// Opens the file for its writer, and creates or migrates its tables.
pub(super) fn open(path: &Path, size_max_bytes: Option<u64>) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let mut conn = connect(path, flags).map_err(unopened(path))?;
    let prepare = |conn: &Connection| -> rusqlite::Result<()> {
        conn.pragma_update(None, "journal_mode", "WAL")?;
        conn.pragma_update(None, "synchronous", "FULL")?;
        conn.pragma_update(None, "cache_size", CACHE_KIB)?;
        conn.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        let pages = size_max_bytes.map(|bytes| i64::try_from(bytes / PAGE_BYTES).unwrap_or(i64::MAX).max(1));
        pages.map_or(Ok(()), |pages| conn.pragma_update(None, "max_page_count", pages))
    };
    prepare(&conn).map_err(unopened(path))?;
    migrate(&mut conn)?;
    Ok(conn)
}

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    // Each connection is used by one thread at a time.
    let conn = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(BUSY_WAIT)?;
    conn.pragma_update(None, "foreign_keys", true)?;
    // A plan that looks at bound values (a LIMIT is enough) would be made anew at each execution.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(conn)
}

fn unopened(path: &Path) -> impl Fn(rusqlite::Error) -> OpenError {
    move |error| OpenError::Unopened(anyhow::anyhow!("{}: {error}", path.display()))
}

/// Applies what this file has not seen yet, each in a transaction of its own. The book of it has the shape that sqlx
/// keeps, as on PostgreSQL.
fn migrate(conn: &mut Connection) -> Result<(), OpenError> {
    const BOOK: &str = "CREATE TABLE IF NOT EXISTS _sqlx_migrations (
        version BIGINT PRIMARY KEY, description TEXT NOT NULL, installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
        success BOOLEAN NOT NULL, checksum BLOB NOT NULL, execution_time BIGINT NOT NULL)";
    const NEWEST: &str = "SELECT max(version) FROM _sqlx_migrations";
    let sql = |error: rusqlite::Error| OpenError::Unopened(error.into());
    conn.execute_batch(BOOK).map_err(sql)?;
    let newest: Option<i64> = conn.query_row(NEWEST, [], |row| row.get(0)).map_err(sql)?;
    if let Some(newest) = newest.filter(|newest| MIGRATIONS.iter().all(|migration| migration.version != *newest)) {
        return Err(OpenError::Newer(newest));
    }
    for migration in MIGRATIONS.iter() {
        apply(conn, migration)?;
    }
    Ok(())
}

fn apply(conn: &mut Connection, migration: &Migration) -> Result<(), OpenError> {
    const SEEN: &str = "SELECT checksum FROM _sqlx_migrations WHERE version = $1";
    const NOTE: &str = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        VALUES (?1, ?2, TRUE, ?3, 0)";
    let sql = |error: rusqlite::Error| OpenError::Unopened(error.into());
    let seen: Option<Vec<u8>> = conn.query_row(SEEN, [migration.version], |row| row.get(0)).optional().map_err(sql)?;
    match seen {
        Some(seen) if *seen == *migration.checksum => Ok(()),
        Some(_) => Err(MigrateError::VersionMismatch(migration.version).into()),
        None => {
            let transaction = conn.transaction().map_err(sql)?;
            transaction.execute_batch(migration.sql.as_str()).map_err(sql)?;
            let note = (migration.version, &*migration.description, &*migration.checksum);
            transaction.execute(NOTE, note).map_err(sql)?;
            transaction.commit().map_err(sql)
        }
    }
}

/// Connections that read only, each opened when first needed.
pub(super) struct Readers {
    path: PathBuf,
    /// One for each that is not lent.
    permits: Arc<Semaphore>,
    slots: [Arc<Mutex<Option<Connection>>>; READERS_MAX],
}

/// A connection that is lent until dropped; its place first, then its permit.
pub(super) struct Reader {
    pub(super) conn: OwnedMappedMutexGuard<Option<Connection>, Connection>,
    _permit: OwnedSemaphorePermit,
}

impl Readers {
    pub(super) fn new(path: &Path) -> Self {
        let slots = std::array::from_fn(|_| Arc::default());
        Self { path: path.to_owned(), permits: Arc::new(Semaphore::new(READERS_MAX)), slots }
    }

    /// Waits while all are lent.
    pub(super) async fn acquire(&self) -> sql::Result<Reader> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?;
        let free = self.slots.iter().find_map(|slot| Arc::clone(slot).try_lock_owned().ok());
        let mut slot = free.ok_or(sqlx::Error::PoolTimedOut)?;
        if slot.is_none() {
            *slot = Some(connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?);
        }
        let conn = OwnedMutexGuard::try_map(slot, Option::as_mut).map_err(|_| sqlx::Error::PoolClosed)?;
        Ok(Reader { conn, _permit: permit })
    }

    /// Waits for those that are lent and closes all; later calls fail.
    pub(super) async fn close(&self) {
        let all = self.permits.acquire_many(READERS_MAX as u32).await;
        self.permits.close();
        drop(all);
        for slot in &self.slots {
            drop(slot.lock().await.take());
        }
    }
}
