//! Looks at a store without changing it: for `firstlook check`, beside a daemon or before there is one.

use std::path::Path;

use sqlx::migrate::Migrator;

use crate::clock::Clock;
use crate::store::lock::{Lock, Place};
use crate::store::sql::{Conn, args};
use crate::store::{OpenError, Options, Store, lite, postgres};

/// What a store is that could be opened and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Examined {
    /// It has no tables yet.
    New,
    /// Its schema is this version's.
    Current,
    /// Its schema is that of an earlier version: so many migrations follow at the next start.
    Older { steps: usize },
}

impl Store {
    /// Looks at the store of `url`. Nothing is created, migrated or given another try.
    ///
    /// # Errors
    /// Those of opening it: a SQLite file that a daemon holds is `Locked`.
    pub async fn examine(url: &str, clock: Clock, options: Options) -> Result<Examined, OpenError> {
        if let Place::Sqlite(path) = Place::parse(url)? {
            if !path.exists() {
                return takes_files(&path).map(|()| Examined::New);
            }
            Lock::probe(&path)?;
            std::fs::OpenOptions::new().append(true).open(&path).map_err(|error| unopened(&path, &error))?;
        }
        let store = Self::open_read_only(url, clock, options).await?;
        let examined = store.schema().await;
        store.close().await;
        examined
    }

    async fn schema(&self) -> Result<Examined, OpenError> {
        let mut held = self.held().await?;
        let conn = &mut held.conn();
        if matches!(conn, Conn::Lite(_)) {
            const KNOWN: &str = "SELECT count(*) FROM sqlite_master WHERE name = '_sqlx_migrations'";
            return schema(conn, KNOWN, &lite::MIGRATIONS).await;
        }
        const STANDBY: &str = "SELECT CAST(CAST(pg_is_in_recovery() AS INTEGER) AS BIGINT)";
        if conn.number(STANDBY, args![]).await? != 0 {
            return Err(OpenError::Unopened(anyhow::anyhow!("the server is a standby: it takes no writes")));
        }
        const KNOWN: &str = "SELECT count(*) FROM information_schema.tables
            WHERE table_name = '_sqlx_migrations' AND table_schema = current_schema()";
        schema(conn, KNOWN, &postgres::MIGRATIONS).await
    }
}

/// How far the migrations of `migrator` have gone; `known` counts the table that tells.
async fn schema(conn: &mut Conn<'_>, known: &'static str, migrator: &Migrator) -> Result<Examined, OpenError> {
    if conn.number(known, args![]).await? == 0 {
        return Ok(Examined::New);
    }
    let last = conn.number("SELECT COALESCE(max(version), 0) FROM _sqlx_migrations", args![]).await?;
    let steps = migrator.iter().filter(|step| step.version > last).count();
    match migrator.iter().map(|step| step.version).max() {
        Some(ours) if last > ours => Err(OpenError::Newer(last)),
        _ if steps > 0 => Ok(Examined::Older { steps }),
        _ => Ok(Examined::Current),
    }
}

/// Whether a file could be made there.
fn takes_files(path: &Path) -> Result<(), OpenError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::tempfile_in(folder).map(drop).map_err(|error| unopened(folder, &error))
}

fn unopened(path: &Path, error: &std::io::Error) -> OpenError {
    OpenError::Unopened(anyhow::anyhow!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ClusterName;
    use crate::store::ATTEMPTS_MAX;
    use crate::store::tests::world::on_each_engine;

    #[tokio::test]
    async fn looking_at_a_store_makes_migrates_and_unparks_nothing() {
        on_each_engine(async |world| {
            let look = || {
                Store::examine(
                    &world.url,
                    Clock::manual(crate::clock::from_ms(0)),
                    Options::new(ClusterName::parse("prod").unwrap()),
                )
            };
            assert_eq!(look().await.unwrap(), Examined::New);
            assert_eq!(look().await.unwrap(), Examined::New, "it was left as it was");
            let store = world.open().await;
            for _ in 0..ATTEMPTS_MAX {
                let claim = store.claim("deliver", "i1", std::time::Duration::from_secs(9)).await.unwrap().unwrap();
                store.fail(claim, crate::clock::from_ms(0)).await.unwrap();
            }
            if world.is_lite() {
                assert!(matches!(look().await, Err(OpenError::Locked { .. })));
            } else {
                assert_eq!(look().await.unwrap(), Examined::Current);
                assert_eq!(store.parked_count().await.unwrap(), 1, "it stays parked");
            }
            store.close().await;
            assert_eq!(look().await.unwrap(), Examined::Current);
            let lock = format!("{}.lock", world.url.trim_start_matches("sqlite:"));
            let _ = std::fs::remove_file(&lock);
            assert_eq!(look().await.unwrap(), Examined::Current);
            assert!(!Path::new(&lock).exists(), "no lock is made");
            world
                .tamper("DELETE FROM _sqlx_migrations WHERE version = (SELECT max(version) FROM _sqlx_migrations)")
                .await;
            assert_eq!(look().await.unwrap(), Examined::Older { steps: 1 });
            world.tamper("UPDATE _sqlx_migrations SET version = 9999 WHERE version = 1").await;
            assert!(matches!(look().await, Err(OpenError::Newer(9999))));
        })
        .await;
    }
}
