//! The callers' file, read again when it changes: a token that is taken out is refused without a restart.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::govern::audit;
use crate::govern::callers::Callers;
use crate::govern::gate::Gate;
use crate::store::{Durability, Store, Write};

/// The file is looked at this often: whoever takes a token out waits no longer for it. A mounted Secret itself takes up
/// to a minute to change.
const EVERY: Duration = Duration::from_secs(2);

/// The file, as it was read last.
pub struct CallersFile {
    file: PathBuf,
    /// Servers of others, which an entry may name beside firstlook's own.
    others: Vec<String>,
    text: String,
    /// As it was seen last. A change counts when two looks in turn see the same: nothing half written is taken.
    seen: String,
    /// Why it could not be taken the last time, said once.
    broken: String,
    to: watch::Sender<Callers>,
}

impl CallersFile {
    /// Reads and checks it; who is in it is told through the receiver, also after it has changed.
    ///
    /// # Errors
    /// The file's, with its place.
    pub fn open(file: &Path, others: Vec<String>) -> anyhow::Result<(Self, watch::Receiver<Callers>)> {
        let (text, known) = read(file, &others)?;
        anyhow::ensure!(!known.is_empty(), "{}: it lists nobody", file.display());
        let (to, callers) = watch::channel(known);
        Ok((Self { file: file.to_owned(), others, seen: text.clone(), text, broken: String::new(), to }, callers))
    }

    /// What it holds, for the audit.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Looks at it until `stop`.
    pub(super) async fn follow(mut self, store: Store, clock: Clock, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            self.look(&store, &clock).await;
        }
    }

    /// Takes what has changed. A file with a mistake, or one that cannot be read, changes nothing, and the log says so; one
    /// that lists nobody, or is gone, lets nobody in.
    async fn look(&mut self, store: &Store, clock: &Clock) {
        let text = match tokio::fs::read_to_string(&self.file).await {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return self.keep(&error.to_string()),
        };
        let settled = text == self.seen;
        if !settled {
            self.seen.clone_from(&text);
        }
        if text == self.text {
            return self.broken.clear();
        }
        if !settled {
            return;
        }
        match parse(&text, &self.file, &self.others) {
            Ok(callers) => self.take(callers, text, store, clock).await,
            Err(error) => self.keep(&format!("{error:#}")),
        }
    }

    fn keep(&mut self, why: &str) {
        if why != self.broken {
            tracing::error!("mcp_callers_file cannot be taken, those of before still hold: {why}");
            why.clone_into(&mut self.broken);
        }
    }

    async fn take(&mut self, callers: Callers, text: String, store: &Store, clock: &Clock) {
        let entry = audit::callers(clock.now(), &self.text, &text);
        let names = callers.names();
        // Whoever is out is out before anything else, also when the store cannot take it down.
        self.to.send_modify(|known| *known = known.renewed(callers));
        tracing::warn!(now = %entry.body["callers_sha256"], "the callers' file has changed; it lists {names}");
        if let Err(error) = store.commit(vec![Write::Audit(entry)], Durability::Durable, None).await {
            tracing::error!("the change of the callers' file is not in the audit: {error:#}");
        }
        self.text = text;
        self.broken.clear();
    }
}

/// What the file holds now, as text and as who is in it; `others` are the servers of others by name.
///
/// # Errors
/// The file's, with its place.
pub fn read(file: &Path, others: &[String]) -> anyhow::Result<(String, Callers)> {
    let text = std::fs::read_to_string(file).with_context(|| format!("mcp_callers_file: {}", file.display()))?;
    let known = parse(&text, file, others)?;
    Ok((text, known))
}

/// Who is listed. An empty file lists nobody.
fn parse(text: &str, file: &Path, others: &[String]) -> anyhow::Result<Callers> {
    if text.trim().is_empty() {
        return Ok(Callers::default());
    }
    let servers: Vec<&str> = Gate::servers().into_iter().chain(others.iter().map(String::as_str)).collect();
    Ok(Callers::parse(text, &file.display().to_string(), &servers)?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::from_ms;
    use crate::govern::callers::token_hash;
    use crate::model::ClusterName;
    use crate::store::Options;

    fn yaml(names: &[&str]) -> String {
        let entry =
            |name: &&str| format!("  - {{name: {name}, token_sha256: {}, namespaces: [shop]}}\n", token_hash(name));
        format!("callers:\n{}", names.iter().map(entry).collect::<String>())
    }

    #[tokio::test]
    async fn whoever_is_taken_out_of_the_file_is_out_without_a_restart_and_the_audit_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(from_ms(1_800_000_000_000));
        let url = format!("sqlite:{}", folder.path().join("firstlook.db").display());
        let store = Store::open(&url, clock.clone(), Options::new(ClusterName::parse("prod").unwrap())).await.unwrap();
        let path = folder.path().join("callers.yaml");
        std::fs::write(&path, yaml(&["ada", "bob"])).unwrap();
        let (mut file, callers) = CallersFile::open(&path, Vec::new()).unwrap();
        let ada = callers.borrow().find("ada").unwrap().clone();
        file.look(&store, &clock).await;
        assert!(store.audit_last("callers").await.unwrap().is_none(), "nothing has changed");

        std::fs::write(&path, "callers: [").unwrap();
        file.look(&store, &clock).await;
        assert!(callers.borrow().find("bob").is_some(), "a mistake in the file locks nobody out");

        std::fs::write(&path, yaml(&["ada"])).unwrap();
        file.look(&store, &clock).await;
        assert!(callers.borrow().find("bob").is_some(), "seen once, it may be half written");
        std::fs::write(&path, yaml(&["ada", "eve"])).unwrap();
        file.look(&store, &clock).await;
        file.look(&store, &clock).await;
        assert!(callers.borrow().find("bob").is_none() && callers.borrow().find("eve").is_some());
        assert!(Arc::ptr_eq(&ada, callers.borrow().find("ada").unwrap()), "what she has used still counts");
        let told = store.audit_last("callers").await.unwrap().unwrap();
        assert!(
            told["callers_sha256"].is_string() && told["callers_before_sha256"] != told["callers_sha256"],
            "{told}"
        );

        std::fs::remove_file(&path).unwrap();
        file.look(&store, &clock).await;
        file.look(&store, &clock).await;
        assert!(callers.borrow().find("ada").is_none(), "without a file nobody is let in");
    }
}
