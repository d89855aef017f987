//! The only writer: previews an action by dry run, and applies it with a permit.

pub mod account;
pub mod again;
pub mod apply;
pub mod change;
mod dependents;
mod drain;
pub mod guard;
pub mod preview;
pub mod rights;
pub mod silence;

use std::sync::Arc;

use serde_json::Value;

use crate::act::account::Accounts;
use crate::act::silence::Silencer;
use crate::model::{Action, Bound, Kind};
use crate::observe::reader::Selector;
use crate::observe::{ReadError, Reader, json};
use crate::redact::Redacted;
use crate::text;

/// Performs actions in one cluster. Clones share it.
#[derive(Clone)]
pub struct Actor(Arc<Inner>);

struct Inner {
    reader: Reader,
    accounts: Accounts,
    /// The way to Alertmanager, where it is configured.
    silencer: Option<Silencer>,
}

/// What an action looks at, read just now.
#[derive(Clone, Debug)]
pub struct Sight {
    /// The object, as the API server returned it.
    pub object: Value,
    /// For an undo: the target's pod template, without the controller's own label.
    pub target: Option<Value>,
    /// The fields that the action reads or writes, as they are now.
    pub bound: Bound,
}

/// Why an action cannot be done or shown, by what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It would be wrong or is impossible: the person is told why, and no button is offered.
    #[error("{0}")]
    Refused(Redacted),
    /// It may work later.
    #[error("{0}")]
    Later(Redacted),
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::TimedOut | ReadError::Unreachable(_) | ReadError::Unavailable(_) => Self::Later(error.reason()),
            ReadError::NotFound | ReadError::Forbidden(_) | ReadError::Refused(_) => Self::Refused(error.reason()),
        }
    }
}

impl Actor {
    /// An actor that reads through `reader` and writes through `accounts`, and silences through `silencer`.
    pub fn new(reader: Reader, accounts: Accounts, silencer: Option<Silencer>) -> Self {
        Self(Arc::new(Inner { reader, accounts, silencer }))
    }

    /// Reads what `action` reads or writes.
    ///
    /// # Errors
    /// When the object or the target of an undo is gone, or cannot be read.
    pub async fn look(&self, action: &Action) -> Result<Sight, Refusal> {
        if action.mutes() {
            return self.look_at_alert(action).await;
        }
        let subject = action.object();
        let object = self.0.reader.get(subject).await?;
        let object = object.ok_or_else(|| Refusal::Refused(text!("{} is gone", subject)))?;
        let target = match action {
            Action::RolloutUndo { target_uid, to_revision, .. } => {
                let kind = if subject.kind == Kind::Deployment { Kind::ReplicaSet } else { Kind::ControllerRevision };
                let kept = self.0.reader.list(kind, Some(subject.namespace()), &Selector::all()).await?;
                let target = kept.into_iter().find(|one| json::text(one, "/metadata/uid") == target_uid);
                let gone = || Refusal::Refused(text!("the {} of revision {} is gone", kind, *to_revision));
                Some(change::template_of(&target.ok_or_else(gone)?))
            }
            _ => None,
        };
        let bound = change::bound(action, &object);
        Ok(Sight { object, target, bound })
    }

    /// The reader that the actor sees with.
    pub fn reader(&self) -> &Reader {
        &self.0.reader
    }
}
