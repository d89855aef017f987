//! The callers' file, read again when it changes: a token that is taken out is refused without a restart.

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
    text: String,
    /// Why it could not be taken the last time, said once.
    broken: String,
    to: watch::Sender<Callers>,
}

impl CallersFile {
    /// Reads and checks it; who is in it is told through the receiver, also after it has changed.
    ///
    /// # Errors
    /// The file's, with its place.
    pub fn open(file: &Path) -> anyhow::Result<(Self, watch::Receiver<Callers>)> {
        let text = std::fs::read_to_string(file).with_context(|| format!("mcp_callers_file: {}", file.display()))?;
        let (to, callers) = watch::channel(parse(&text, file)?);
        Ok((Self { file: file.to_owned(), text, broken: String::new(), to }, callers))
    }

    /// Looks at it until `stop`.
    pub(super) async fn follow(mut self, store: Store, clock: Clock, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            self.look(&store, &clock).await;
        }
    }

    /// Takes what has changed. A file that cannot be read or has a mistake changes nothing, and the log says so.
    async fn look(&mut self, store: &Store, clock: &Clock) {
        let read = tokio::fs::read_to_string(&self.file).await.map_err(anyhow::Error::from);
        let now = match read.and_then(|text| Ok((parse(&text, &self.file)?, text))) {
            Ok((_, text)) if text == self.text => return self.broken.clear(),
            Ok(now) => now,
            Err(error) => {
                let says = format!("{error:#}");
                if says != self.broken {
                    tracing::error!("mcp_callers_file cannot be taken, those of before still hold: {says}");
                }
                self.broken = says;
                return;
            }
        };
        let (callers, text) = now;
        let entry = audit::callers(clock.now(), &self.text, &text);
        tracing::warn!(before = %entry.body["callers_before_sha256"], now = %entry.body["callers_sha256"], "the callers' file has changed");
        // Whoever is out is out also when the store cannot take it down: then no call is let through at all.
        if let Err(error) = store.commit(vec![Write::Audit(entry)], Durability::Durable, None).await {
            tracing::error!("the change of the callers' file is not in the audit: {error:#}");
        }
        self.to.send_modify(|known| *known = known.renewed(callers));
        self.text = text;
        self.broken.clear();
    }
}

fn parse(text: &str, file: &Path) -> anyhow::Result<Callers> {
    let callers = Callers::parse(text, &file.display().to_string(), &Gate::servers())?;
    anyhow::ensure!(!callers.is_empty(), "{}: it lists nobody", file.display());
    Ok(callers)
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
        let (mut file, callers) = CallersFile::open(&path).unwrap();
        let ada = callers.borrow().find("ada").unwrap().clone();
        file.look(&store, &clock).await;
        assert!(store.audit_last("callers").await.unwrap().is_none(), "nothing has changed");

        std::fs::write(&path, "callers: [").unwrap();
        file.look(&store, &clock).await;
        assert!(callers.borrow().find("bob").is_some(), "a mistake in the file locks nobody out");

        std::fs::write(&path, yaml(&["ada", "eve"])).unwrap();
        file.look(&store, &clock).await;
        assert!(callers.borrow().find("bob").is_none() && callers.borrow().find("eve").is_some());
        assert!(Arc::ptr_eq(&ada, callers.borrow().find("ada").unwrap()), "what she has used still counts");
        let told = store.audit_last("callers").await.unwrap().unwrap();
        assert!(
            told["callers_sha256"].is_string() && told["callers_before_sha256"] != told["callers_sha256"],
            "{told}"
        );
    }
}
