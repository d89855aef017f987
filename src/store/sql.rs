//! One SQL text for both engines: arguments, rows and connections that hide which of them runs it.

use anyhow::Context as _;
use rusqlite::ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE};
use rusqlite::types::{FromSql, ToSqlOutput, Value};
use rusqlite::{CachedStatement, ErrorCode};
use serde::de::DeserializeOwned;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Postgres, Row as _, SqlSafeStr};

use crate::redact::as_stored;

/// A value bound to `$1`, `$2`, ...; optional ones keep their type, which PostgreSQL wants to know even of a null.
#[derive(Debug)]
pub(super) enum Arg {
    Text(String),
    MaybeText(Option<String>),
    Int(i64),
    MaybeInt(Option<i64>),
}

macro_rules! arg_from {
    ($($from:ty => $variant:ident($value:ident) $convert:expr,)*) => {
        $(impl From<$from> for Arg { fn from($value: $from) -> Self { Arg::$variant($convert) } })*
    };
}
arg_from! {
    &str => Text(value) value.to_owned(),
    String => Text(value) value,
    i64 => Int(value) value,
    u32 => Int(value) i64::from(value),
    Option<String> => MaybeText(value) value,
    Option<&str> => MaybeText(value) value.map(str::to_owned),
    Option<i64> => MaybeInt(value) value,
}

/// The arguments of one statement, in order.
macro_rules! args {
    ($($value:expr),* $(,)?) => { vec![$($crate::store::sql::Arg::from($value)),*] };
}
pub(super) use args;

/// What an engine failed with.
#[derive(Debug, thiserror::Error)]
pub(super) enum SqlError {
    #[error(transparent)]
    Lite(#[from] rusqlite::Error),
    #[error(transparent)]
    Pg(#[from] sqlx::Error),
}

/// A statement's result.
pub(super) type Result<T> = std::result::Result<T, SqlError>;

impl SqlError {
    /// SQLSTATE, where PostgreSQL refused.
    fn state(&self) -> Option<String> {
        match self {
            Self::Lite(_) => None,
            Self::Pg(error) => Some(error.as_database_error()?.code()?.into_owned()),
        }
    }

    /// What kind of refusal it was, where SQLite refused.
    fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Lite(error) => error.sqlite_error_code(),
            Self::Pg(_) => None,
        }
    }

    /// Whether there is no room, or the disk fails; of PostgreSQL disk_full and io_error.
    pub(super) fn is_full(&self) -> bool {
        matches!(self.code(), Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure))
            || matches!(self.state().as_deref(), Some("53100" | "58030"))
    }

    /// Whether a transaction lost to another's locks: serialization_failure and deadlock_detected. SQLite has one writer.
    pub(super) fn is_collision(&self) -> bool {
        matches!(self.state().as_deref(), Some("40001" | "40P01"))
    }

    /// Whether the rest of the transaction is as it was: a constraint of SQLite. (PostgreSQL gives up the whole.)
    pub(super) fn is_its_own(&self) -> bool {
        self.code() == Some(ErrorCode::ConstraintViolation)
    }

    /// Whether a row was refused because another has the same key.
    pub(super) fn is_unique_violation(&self) -> bool {
        match self {
            Self::Lite(error) => error.sqlite_error().is_some_and(|error| {
                matches!(error.extended_code, SQLITE_CONSTRAINT_UNIQUE | SQLITE_CONSTRAINT_PRIMARYKEY)
            }),
            Self::Pg(error) => error.as_database_error().is_some_and(|error| error.is_unique_violation()),
        }
    }
}

/// A connection of either engine. SQLite answers where it is asked, in microseconds and without a wait: its statements
/// never yield.
pub(super) enum Conn<'c> {
    Lite(&'c mut rusqlite::Connection),
    Pg(&'c mut PgConnection),
}

/// The statement with its arguments: `$3` is the third wherever it stands first.
fn bound<'c>(conn: &'c rusqlite::Connection, sql: &str, args: &[Arg]) -> Result<CachedStatement<'c>> {
    let mut statement = conn.prepare_cached(sql)?;
    for at in 1..=statement.parameter_count() {
        let number = statement.parameter_name(at).and_then(|name| name.strip_prefix('$')?.parse::<usize>().ok());
        let arg = number.and_then(|number| args.get(number.checked_sub(1)?));
        let arg = arg.ok_or(rusqlite::Error::InvalidParameterCount(at, args.len()))?;
        statement.raw_bind_parameter(at, arg)?;
    }
    Ok(statement)
}

impl rusqlite::ToSql for Arg {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Arg::Text(value) => value.to_sql(),
            Arg::MaybeText(value) => value.to_sql(),
            Arg::Int(value) => value.to_sql(),
            Arg::MaybeInt(value) => value.to_sql(),
        }
    }
}

fn for_postgres(
    sql: impl SqlSafeStr,
    args: Vec<Arg>,
) -> sqlx::query::Query<'static, Postgres, sqlx::postgres::PgArguments> {
    let mut query = sqlx::query::<Postgres>(sql);
    for arg in args {
        query = match arg {
            Arg::Text(value) => query.bind(without_nul(value)),
            Arg::MaybeText(value) => query.bind(value.map(without_nul)),
            Arg::Int(value) => query.bind(value),
            Arg::MaybeInt(value) => query.bind(value),
        };
    }
    query
}

/// PostgreSQL takes every character in a text but NUL.
fn without_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

impl Conn<'_> {
    /// Runs a statement; how many rows it changed.
    pub(super) async fn execute(&mut self, sql: impl SqlSafeStr, args: Vec<Arg>) -> Result<u64> {
        match self {
            Conn::Lite(conn) => Ok(bound(conn, sql.into_sql_str().as_str(), &args)?.raw_execute()? as u64),
            Conn::Pg(conn) => Ok(for_postgres(sql, args).execute(&mut **conn).await?.rows_affected()),
        }
    }

    /// Runs a query (or a statement with RETURNING); all its rows.
    pub(super) async fn fetch(&mut self, sql: impl SqlSafeStr, args: Vec<Arg>) -> Result<Vec<Row>> {
        match self {
            Conn::Lite(conn) => {
                let mut statement = bound(conn, sql.into_sql_str().as_str(), &args)?;
                let columns = statement.column_count();
                let mut rows = statement.raw_query();
                let mut all = Vec::new();
                while let Some(row) = rows.next()? {
                    let row = (0..columns).map(|column| row.get(column)).collect::<rusqlite::Result<_>>()?;
                    all.push(Row::Lite(row));
                }
                Ok(all)
            }
            Conn::Pg(conn) => {
                let rows = for_postgres(sql, args).fetch_all(&mut **conn).await?;
                Ok(rows.into_iter().map(Row::Pg).collect())
            }
        }
    }

    /// The first row, if there is one.
    pub(super) async fn first(&mut self, sql: impl SqlSafeStr, args: Vec<Arg>) -> Result<Option<Row>> {
        Ok(self.fetch(sql, args).await?.into_iter().next())
    }

    /// The number in the first row, 0 without one.
    pub(super) async fn number(&mut self, sql: impl SqlSafeStr, args: Vec<Arg>) -> Result<i64> {
        match self.first(sql, args).await? {
            Some(row) => Ok(row.maybe_int(0)?.unwrap_or(0)),
            None => Ok(0),
        }
    }
}

/// A row of either engine. Columns go by position.
pub(super) enum Row {
    Lite(Vec<Value>),
    Pg(PgRow),
}

macro_rules! column {
    ($($name:ident -> $type:ty,)*) => {
        $(pub(super) fn $name(&self, column: usize) -> Result<$type> {
            match self {
                Row::Lite(row) => value(row, column),
                Row::Pg(row) => Ok(row.try_get(column)?),
            }
        })*
    };
}

fn value<T: FromSql>(row: &[Value], column: usize) -> Result<T> {
    let value = row.get(column).ok_or(rusqlite::Error::InvalidColumnIndex(column))?;
    let wrong = |error| rusqlite::Error::FromSqlConversionFailure(column, value.data_type(), Box::new(error));
    Ok(T::column_result(value.into()).map_err(wrong)?)
}

impl Row {
    column! {
        text -> String,
        maybe_text -> Option<String>,
        int -> i64,
        maybe_int -> Option<i64>,
    }

    /// The document in this column.
    pub(super) fn doc<T: DeserializeOwned>(&self, column: usize) -> anyhow::Result<T> {
        from_json(&self.text(column)?)
    }

    /// The document in this column, if there is one.
    pub(super) fn maybe_doc<T: DeserializeOwned>(&self, column: usize) -> anyhow::Result<Option<T>> {
        self.maybe_text(column)?.map(|text| from_json(&text)).transpose()
    }
}

/// A stored document; fails where this version does not know its shape.
pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> anyhow::Result<T> {
    as_stored(|| serde_json::from_str(text))
        .with_context(|| format!("a stored {} is not readable", std::any::type_name::<T>()))
}
