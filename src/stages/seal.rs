//! Seal: numbers and chains what the audit has gathered, in batches, and writes heads of the chain down outside.

use std::io;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use crate::clock::Clock;
use crate::stages::Ran;
use crate::store::Store;

/// Entries of one batch: far more than come within the 100 ms between two.
const BATCH: u32 = 1_000;
/// A head stands for every entry before it: under load one line a second says as much as fifty.
const ANCHOR_EVERY_MS: i64 = 1_000;

/// Where heads of the chain are written down, so that who can write the database cannot change what was seen of it.
/// Clones are the same place.
#[derive(Clone, Default)]
pub struct Anchors(Option<Arc<Mutex<Sink>>>);

struct Sink {
    out: Box<dyn Write + Send>,
    /// The last head that was written down, and when.
    number: i64,
    at_ms: i64,
}

impl Anchors {
    /// Lines go to `out`.
    pub fn to(out: impl Write + Send + 'static) -> Self {
        Self(Some(Arc::new(Mutex::new(Sink { out: Box::new(out), number: 0, at_ms: 0 }))))
    }

    /// Writes this head down, if it is a new one; not so soon after the last one, unless it is the `last` of all.
    ///
    /// # Errors
    /// When it could not be written; the next head stands for this one as well.
    pub fn note(&self, head: &(i64, String), now: Timestamp, last: bool) -> io::Result<()> {
        let Some(sink) = &self.0 else { return Ok(()) };
        let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = now.as_millisecond();
        if head.0 == sink.number || (!last && now_ms - sink.at_ms < ANCHOR_EVERY_MS) {
            return Ok(());
        }
        writeln!(sink.out, "firstlook audit #{} {} {now}", head.0, head.1)?;
        sink.out.flush()?;
        (sink.number, sink.at_ms) = (head.0, now_ms);
        Ok(())
    }

    fn are_kept(&self) -> bool {
        self.0.is_some()
    }
}

/// The stage.
pub struct Seal {
    pub store: Store,
    pub clock: Clock,
    pub anchors: Anchors,
}

impl Seal {
    /// Seals what waits.
    ///
    /// # Errors
    /// The store's; an anchor that could not be written.
    pub async fn run_once(&self) -> anyhow::Result<Ran> {
        // One batch takes all that waits.
        self.store.seal(BATCH).await?;
        // Another stage may have sealed: what counts is the chain's head, which is synced.
        if self.anchors.are_kept()
            && let Some(head) = self.store.audit_head().await?
        {
            self.anchors.note(&head, self.clock.now(), false)?;
        }
        Ok(Ran::Idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_head_is_written_down_once_one_a_second_and_the_last_in_any_case() {
        let page = Page::default();
        let anchors = Anchors::to(page.clone());
        for (number, at_ms, last) in
            [(1, 5_000, false), (1, 9_000, false), (2, 9_000, false), (3, 9_400, false), (4, 9_500, true)]
        {
            anchors.note(&(number, format!("{number:064x}")), from_ms(at_ms), last).unwrap();
        }
        let written = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        let seen: Vec<_> =
            written.lines().filter_map(crate::store::Anchor::parse).map(|anchor| anchor.number).collect();
        assert_eq!(seen, [1, 2, 4], "{written}");
    }
}
