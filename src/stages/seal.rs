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
        Ok(if self.store.seal(BATCH).await?.is_some() { Ran::Worked } else { Ran::Idle })
    }
}
