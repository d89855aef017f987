//! PostgreSQL: a pool, and each operation as one transaction of its own.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, PgPool};

use crate::store::operation::{Context, Fault, Operation, Outcome};
use crate::store::sql::{Conn, SqlError};
use crate::store::{CommitError, OpenError};

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations/postgres");

/// Connections of one process: its stages work one unit each at a time.
const CONNECTIONS_MAX: u32 = 8;
/// A server that does not answer within this is down.
const ACQUIRE_WAIT: Duration = Duration::from_secs(10);
/// A transaction that lost to another's locks is done again; so often in a row is not chance.
const TRIES: u32 = 5;

/// Connects; unless it may only read, creates or migrates the tables.
pub(super) async fn open(url: &str, read_only: bool) -> Result<PgPool, OpenError> {
    // The error would repeat the URL, and with it a password.
    let options = PgConnectOptions::from_str(url).map_err(|_| OpenError::Url)?.disable_statement_logging();
    let options = if read_only { options.options([("default_transaction_read_only", "on")]) } else { options };
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .acquire_timeout(ACQUIRE_WAIT)
        .connect_with(options)
        .await?;
    if !read_only {
        MIGRATIONS.run(&pool).await?;
    }
    Ok(pool)
}

/// Does one operation in one transaction; again when it met another's locks in a circle.
pub(super) async fn operate(
    pool: &PgPool,
    context: &Context,
    operation: &Operation,
    durable: bool,
) -> Result<Outcome, CommitError> {
    let mut tries = 1;
    loop {
        match once(pool, context, operation, durable).await {
            Err(Fault::Sql(error)) if error.is_collision() && tries < TRIES => tries += 1,
            result => return Ok(result?),
        }
    }
}

async fn once(pool: &PgPool, context: &Context, operation: &Operation, durable: bool) -> Result<Outcome, Fault> {
    let mut transaction = pool.begin().await.map_err(SqlError::Pg)?;
    if !durable {
        Conn::Pg(&mut transaction).execute("SET LOCAL synchronous_commit = off", vec![]).await?;
    }
    // An error drops the transaction, which rolls it back.
    let outcome = operation.run(&mut Conn::Pg(&mut transaction), context).await?;
    transaction.commit().await.map_err(SqlError::Pg)?;
    Ok(outcome)
}
