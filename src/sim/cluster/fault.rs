//! Faults on demand, for tests of what happens when the API server misbehaves.

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Faults armed at once; more are dropped.
const ARMED_MAX: usize = 64;

/// Something that goes wrong once, at the next request whose path (without query) starts with `path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request hangs before anything is done, until [`release`](crate::sim::cluster::Cluster::release).
    Hang { path: String },
    /// A PATCH or POST (but for a token) is applied, but its answer is held until [`release`](crate::sim::cluster::Cluster::release).
    HoldAnswer { path: String },
    /// A watch stream, running or next, gets an ERROR event with this code (500, 410) and ends.
    WatchError { path: String, code: u16 },
    /// Every request is answered 503 until [`release`](crate::sim::cluster::Cluster::release); nothing is done.
    Away,
}

#[derive(Clone, Copy, Debug, Default)]
struct Gate {
    releases: u64,
    held: usize,
}

#[derive(Debug)]
pub(crate) struct Faults {
    armed: Mutex<Vec<Fault>>,
    /// Counts releases, and the requests held since the last of them.
    gate: watch::Sender<Gate>,
}

impl Faults {
    pub(crate) fn new() -> Self {
        Self { armed: Mutex::default(), gate: watch::Sender::default() }
    }

    pub(crate) fn arm(&self, fault: Fault) {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        if armed.len() < ARMED_MAX {
            armed.push(fault);
        }
    }

    pub(crate) fn is_away(&self) -> bool {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|fault| matches!(fault, Fault::Away))
    }

    /// Lets every held request go on, and the server come back.
    pub(crate) fn release(&self) {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner).retain(|fault| !matches!(fault, Fault::Away));
        self.gate.send_modify(|gate| *gate = Gate { releases: gate.releases + 1, held: 0 });
    }

    /// Waits until a request is being held that no release has let go.
    pub(crate) async fn holding(&self) {
        // The sender lives in self, so this cannot fail.
        let _ = self.gate.subscribe().wait_for(|gate| gate.held > 0).await;
    }

    fn take(&self, meant: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let at = armed.iter().position(meant)?;
        Some(armed.remove(at))
    }

    pub(crate) fn watch_error(&self, at: &str) -> Option<u16> {
        match self.take(|fault| matches!(fault, Fault::WatchError { path, .. } if at.starts_with(path.as_str())))? {
            Fault::WatchError { code, .. } => Some(code),
            _ => None,
        }
    }

    pub(crate) async fn hang(&self, at: &str, stop: &CancellationToken) {
        if self.take(|fault| matches!(fault, Fault::Hang { path } if at.starts_with(path.as_str()))).is_some() {
            self.hold(stop).await;
        }
    }

    pub(crate) async fn hold_answer(&self, at: &str, stop: &CancellationToken) {
        if self.take(|fault| matches!(fault, Fault::HoldAnswer { path } if at.starts_with(path.as_str()))).is_some() {
            self.hold(stop).await;
        }
    }

    async fn hold(&self, stop: &CancellationToken) {
        struct Held<'a>(&'a watch::Sender<Gate>, u64);
        impl Drop for Held<'_> {
            fn drop(&mut self) {
                self.0.send_if_modified(|gate| {
                    let still = gate.releases == self.1;
                    gate.held -= usize::from(still);
                    still
                });
            }
        }
        let mut releases = 0;
        self.gate.send_modify(|gate| {
            gate.held += 1;
            releases = gate.releases;
        });
        let _held = Held(&self.gate, releases);
        let mut gate = self.gate.subscribe();
        tokio::select! {
            _ = gate.wait_for(|gate| gate.releases != releases) => {}
            () = stop.cancelled() => {}
        }
    }
}
