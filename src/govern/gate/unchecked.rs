//! A proposal that could not be judged, because the cluster did not answer: it is asked again later, or given up.

use crate::govern::gate::propose::made;
use crate::govern::gate::{Gate, Suggestion};
use crate::model::Verdict;
use crate::redact::Redacted;
use crate::store::Durability;

/// A proposal could not be judged: its write tool could not read what it is about. It may be asked again later.
#[derive(Debug, thiserror::Error)]
#[error("the check of {tool} could not read: {why}")]
pub struct Unchecked {
    pub tool: &'static str,
    pub why: Redacted,
}

impl Gate {
    /// Stores that a proposal is not asked for, because it could not be judged.
    ///
    /// # Errors
    /// The store's.
    pub async fn give_up(&self, suggestion: Suggestion<'_>, why: Redacted) -> anyhow::Result<()> {
        let _turn = self.turn().await;
        let verdict = Verdict::Deny { rule: "check".into(), why };
        let refused = self.approval(&suggestion, None, &verdict)?;
        let call = self.call(&suggestion, &refused, verdict);
        self.count(&call.tool, &call.verdict);
        let writes = made(call, refused);
        Ok(self.options().store.commit(writes, Durability::Durable, None).await?)
    }
}
