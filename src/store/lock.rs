//! Where a store lives (its URL), and the lock that keeps a second daemon from a SQLite file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::store::OpenError;

/// A command that only looks holds the lock for an instant: who does so for longer is a daemon.
const PROBED_FOR: Duration = Duration::from_millis(200);

/// A parsed store URL.
pub(super) enum Place {
    Sqlite(PathBuf),
    /// The URL as it stands: it may hold a password, so it is never shown.
    Postgres(String),
}

impl Place {
    /// Parses `sqlite:PATH` (or `sqlite://PATH`) and `postgres://...` (or `postgresql://...`).
    pub(super) fn parse(url: &str) -> Result<Self, OpenError> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Place::Postgres(url.to_owned()));
        }
        let path = url.strip_prefix("sqlite:").map(|rest| rest.strip_prefix("//").unwrap_or(rest));
        match path {
            Some("" | ":memory:") | None => Err(OpenError::Url),
            Some(path) => Ok(Place::Sqlite(PathBuf::from(path))),
        }
    }
}

/// An exclusive lock on `<database>.lock`, held until dropped; the kernel drops it when the process dies.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, or says who holds it.
    pub(super) fn take(database: &Path) -> Result<Self, OpenError> {
        let path = beside(database);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = opened.map_err(|error| unopened(&path, &error))?;
        let mut tried = file.try_lock();
        let until = Instant::now() + PROBED_FOR;
        while matches!(tried, Err(TryLockError::WouldBlock)) && Instant::now() < until {
            std::thread::sleep(PROBED_FOR / 20);
            tried = file.try_lock();
        }
        locked(tried, &file, database)?;
        // Who holds it is only a help for the reader of the refusal: a disk that is full must not keep a daemon down.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "firstlook, process {}", std::process::id()));
        Ok(Self { _file: file })
    }

    /// Whether nobody holds the lock. Nothing is made, written or kept: a daemon may start meanwhile.
    pub(super) fn probe(database: &Path) -> Result<(), OpenError> {
        let path = beside(database);
        match File::open(&path) {
            // Shared, which a file that is opened for reading allows everywhere.
            Ok(file) => locked(file.try_lock_shared(), &file, database),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(unopened(&path, &error)),
        }
    }
}

fn beside(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

/// What came of trying the lock: who holds it is read from `file`.
fn locked(tried: Result<(), TryLockError>, file: &File, database: &Path) -> Result<(), OpenError> {
    match tried {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let mut by = String::new();
            let _ = file.take(200).read_to_string(&mut by);
            let by = if by.is_empty() { "another process".to_owned() } else { by.trim().to_owned() };
            Err(OpenError::Locked { path: database.to_owned(), by })
        }
        Err(TryLockError::Error(error)) => Err(unopened(&beside(database), &error)),
    }
}

fn unopened(path: &Path, error: &std::io::Error) -> OpenError {
    OpenError::Unopened(anyhow::anyhow!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_looks_keeps_no_daemon_down() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("firstlook.db");
        let file = File::create(beside(&database)).unwrap();
        file.lock_shared().unwrap();
        let (started, starts) = std::sync::mpsc::channel();
        let taking = std::thread::spawn(move || {
            started.send(()).unwrap();
            Lock::take(&database).is_ok()
        });
        starts.recv().unwrap();
        drop(file);
        assert!(taking.join().unwrap());
    }

    #[test]
    fn a_url_names_a_file_or_a_server_and_nothing_else() {
        let path = |url| match Place::parse(url) {
            Ok(Place::Sqlite(path)) => path.display().to_string(),
            Ok(Place::Postgres(_)) => "server".to_owned(),
            Err(_) => "refused".to_owned(),
        };
        assert_eq!(path("sqlite:/data/firstlook.db"), "/data/firstlook.db");
        assert_eq!(path("sqlite://data/firstlook.db"), "data/firstlook.db");
        assert_eq!(path("postgres://u:p@db/firstlook"), "server");
        assert_eq!([path("mysql://db"), path("sqlite::memory:"), path("sqlite:"), path("")], ["refused"; 4]);
    }
}
