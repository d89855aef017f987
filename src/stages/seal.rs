//! Seal: numbers and chains what the audit has gathered, in batches.

use crate::stages::Ran;
use crate::store::Store;

/// Entries of one batch: far more than come within the 100 ms between two.
const BATCH: u32 = 1_000;

/// The stage.
pub struct Seal {
    pub store: Store,
}

impl Seal {
    /// Seals what waits.
    ///
    /// # Errors
    /// The store's.
    pub async fn run_once(&self) -> anyhow::Result<Ran> {
        // One batch takes all that waits.
        self.store.seal(BATCH).await?;
        Ok(Ran::Idle)
    }
}
