//! The audit of what callers from outside read: many entries a second, written together and soon after the answer.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::store::{AuditEntry, Durability, Store, Write};

/// Entries that may wait; whoever calls beyond them waits before the door.
const QUEUE_MAX: usize = 4_096;
/// Entries of one commit.
const BATCH_MAX: usize = 512;
/// Entries are gathered for this long: with the commit they are on disk within the 100 ms that the design gives them.
const GATHER: Duration = Duration::from_millis(20);
/// A store that took nothing is asked again after this long; what waits is kept.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// A call that finds no room for its entry by then is not run.
const ROOM_WITHIN: Duration = Duration::from_secs(5);

enum Message {
    Entry(AuditEntry),
    /// Answered when everything before it is in the store.
    Flush(oneshot::Sender<()>),
}

/// The ledger. Clones are the same one; its task ends with the last.
#[derive(Clone)]
pub(super) struct Ledger(mpsc::Sender<Message>);

/// Room for one entry.
pub(super) struct Room<'a>(mpsc::Permit<'a, Message>);

impl Room<'_> {
    pub(super) fn write(self, entry: AuditEntry) {
        self.0.send(Message::Entry(entry));
    }
}

impl Ledger {
    /// Opens a ledger over this store.
    pub(super) fn open(store: Store) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(keep(store, queue));
        Self(sender)
    }

    /// Room for the entry of a call, before it runs: what could not be recorded is not done.
    pub(super) async fn room(&self) -> Option<Room<'_>> {
        let room = tokio::time::timeout(ROOM_WITHIN, self.0.reserve()).await.ok()?.ok()?;
        Some(Room(room))
    }

    /// Returns when everything that was written before is in the store.
    pub(super) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.0.send(Message::Flush(done)).await.is_ok() {
            let _ = flushed.await;
        }
    }
}

async fn keep(store: Store, mut queue: mpsc::Receiver<Message>) {
    let mut messages = Vec::with_capacity(BATCH_MAX);
    while queue.recv_many(&mut messages, BATCH_MAX).await > 0 {
        if messages.len() < BATCH_MAX && messages.iter().all(|message| matches!(message, Message::Entry(_))) {
            tokio::time::sleep(GATHER).await;
            while messages.len() < BATCH_MAX
                && let Ok(message) = queue.try_recv()
            {
                messages.push(message);
            }
        }
        let (mut writes, mut flushes) = (Vec::new(), Vec::new());
        for message in messages.drain(..) {
            match message {
                Message::Entry(entry) => writes.push(Write::Audit(entry)),
                Message::Flush(done) => flushes.push(done),
            }
        }
        while !writes.is_empty() {
            match store.commit(writes.clone(), Durability::Soon, None).await {
                Ok(()) => writes.clear(),
                Err(error) => {
                    tracing::error!(entries = writes.len(), "calls of callers are not in the audit yet: {error}");
                    // Nobody is left who could write, or wait for it.
                    if queue.is_closed() {
                        return;
                    }
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
        for flushed in flushes {
            let _ = flushed.send(());
        }
    }
}
