//! One SQL text for both engines: arguments, rows and connections that hide which of them runs it.

use anyhow::Context as _;
use serde::de::DeserializeOwned;
use sqlx::{PgConnection, Postgres, Row as _, SqlSafeStr, Sqlite, SqliteConnection};

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

/// A connection of either engine.
pub(super) enum Conn<'c> {
    Lite(&'c mut SqliteConnection),
    Pg(&'c mut PgConnection),
}

macro_rules! bound {
    ($engine:ty, $sql:expr, $args:expr, $text:expr) => {{
        let mut query = sqlx::query::<$engine>($sql);
        for arg in $args {
            query = match arg {
                Arg::Text(value) => query.bind($text(value)),
                Arg::MaybeText(value) => query.bind(value.map($text)),
                Arg::Int(value) => query.bind(value),
                Arg::MaybeInt(value) => query.bind(value),
            };
        }
        query
    }};
}

/// PostgreSQL takes every character in a text but NUL.
fn without_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

impl Conn<'_> {
    /// Runs a statement; how many rows it changed.
    pub(super) async fn execute(&mut self, sql: impl SqlSafeStr, args: Vec<Arg>) -> sqlx::Result<u64> {
        Ok(match self {
            Conn::Lite(conn) => {
                bound!(Sqlite, sql, args, std::convert::identity).execute(&mut **conn).await?.rows_affected()
            }
            Conn::Pg(conn) => bound!(Postgres, sql, args, without_nul).execute(&mut **conn).await?.rows_affected(),
        })
    }

    /// Runs a query (or a statement with RETURNING); all its rows.
    pub(super) async fn fetch(&mut self, sql: impl SqlSafeStr, args: Vec<Arg>) -> sqlx::Result<Vec<Row>> {
        Ok(match self {
            Conn::Lite(conn) => {
                let rows = bound!(Sqlite, sql, args, std::convert::identity).fetch_all(&mut **conn).await?;
                rows.into_iter().map(Row::Lite).collect()
            }
            Conn::Pg(conn) => {
                let rows = bound!(Postgres, sql, args, without_nul).fetch_all(&mut **conn).await?;
                rows.into_iter().map(Row::Pg).collect()
            }
        })
    }

    /// The first row, if there is one.
    pub(super) async fn first(&mut self, sql: impl SqlSafeStr, args: Vec<Arg>) -> sqlx::Result<Option<Row>> {
        Ok(self.fetch(sql, args).await?.into_iter().next())
    }

    /// The number in the first row, 0 without one.
    pub(super) async fn number(&mut self, sql: impl SqlSafeStr, args: Vec<Arg>) -> sqlx::Result<i64> {
        match self.first(sql, args).await? {
            Some(row) => Ok(row.maybe_int(0)?.unwrap_or(0)),
            None => Ok(0),
        }
    }
}

/// A row of either engine. Columns go by position.
pub(super) enum Row {
    Lite(sqlx::sqlite::SqliteRow),
    Pg(sqlx::postgres::PgRow),
}

macro_rules! column {
    ($($name:ident -> $type:ty,)*) => {
        $(pub(super) fn $name(&self, column: usize) -> sqlx::Result<$type> {
            match self {
                Row::Lite(row) => row.try_get(column),
                Row::Pg(row) => row.try_get(column),
            }
        })*
    };
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

/// Whether a row was refused because another has the same key.
pub(super) fn is_unique_violation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.is_unique_violation())
}
