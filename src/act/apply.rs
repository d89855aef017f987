//! Apply: the one request that changes the cluster, sent with a permit; and what to believe after a crash.

use serde_json::Value;

use crate::act::account::{Account, Trouble};
use crate::act::{Actor, Refusal, Sight, again, change};
use crate::govern::permit::Permit;
use crate::model::{Action, Approval, Bound};
use crate::observe::json;
use crate::redact::Redacted;
use crate::text;

/// The object after the change.
#[derive(Debug)]
pub struct Done {
    pub generation: i64,
    /// The fields of the action as they are now, where it has changed fields.
    pub left: Option<Bound>,
}

impl From<Trouble> for Applied {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Conflict => Self::Conflict,
            Trouble::Refused(why) | Trouble::Held(why) => Self::Failed(text!("the API server refused: {}", why)),
            Trouble::NotSent(why) => Self::NotSent(why),
            Trouble::Unknown(why) => Self::Unknown(why),
        }
    }
}

impl Done {
    pub(super) fn of(action: &Action, object: &Value) -> Self {
        let generation = json::number(object, "/metadata/generation").unwrap_or(0);
        let changes = !matches!(action, Action::RerunJob { .. } | Action::DeletePod { .. });
        Self { generation, left: changes.then(|| change::bound(action, object)) }
    }
}

/// What came of a request.
#[derive(Debug)]
pub enum Applied {
    /// It was done.
    Done(Done),
    /// One request of several was done: so many pods have moved, and what holds the others back.
    Going { moved: u32, of: u32, held: Option<Redacted> },
    /// The object has another version than the one looked at: everything is asked again.
    Conflict,
    /// Nothing changed, and trying again changes nothing.
    Failed(Redacted),
    /// Nothing was sent: try again later.
    NotSent(Redacted),
    /// It was sent and its answer is lost: recover by reading.
    Unknown(Redacted),
}

/// What the object tells about a request that may have been sent.
#[derive(Debug)]
pub enum Recovered {
    /// It was done.
    Done(Done),
    /// It was not: the object is as it was approved. The same body may be sent again.
    NotDone,
    /// Neither: somebody else changed it meanwhile. Never retried blindly.
    Unclear(Redacted),
}

impl Actor {
    /// Performs `action` by sending `body`, which is on disk already, for the object version of `sight`.
    pub async fn apply(&self, permit: Permit, action: &Action, body: &Value, sight: &Sight) -> Applied {
        if *permit.action() != action.hash() {
            return Applied::Failed(Redacted::literal("the permit is for another action"));
        }
        if action.mutes() {
            return self.mute(action, body).await;
        }
        let account = Account::Write(action.tier());
        match self.0.accounts.is_guarded(account).await {
            Ok(true) => {}
            Ok(false) => {
                return Applied::Failed("the admission policy of the writing account is not installed".into());
            }
            Err(why) => return Applied::NotSent(why),
        }
        if let Action::Drain { .. } = action {
            return Box::pin(self.drain(permit.approval(), action, body, sight)).await;
        }
        let patch = change::guarded(body, &sight.object);
        match self.0.accounts.send(account, action, &patch, false).await {
            Ok(object) => Applied::Done(Done::of(action, &object)),
            // The name is the approval's own: an earlier request of it came through.
            Err(Trouble::Conflict) if matches!(action, Action::RerunJob { .. }) => {
                Applied::Unknown("a Job of this approval's name exists already".into())
            }
            Err(trouble) => Applied::from(trouble),
        }
    }

    /// Reads what became of an approval that was executing when the process ended or the answer was lost.
    ///
    /// # Errors
    /// When the object cannot be read now.
    pub async fn recover(&self, action: &Action, approval: &Approval) -> Result<Recovered, Refusal> {
        if let Some(done) = self.recover_other(action, approval).await? {
            return Ok(done);
        }
        let sight = match self.look(action).await {
            Ok(sight) => sight,
            Err(Refusal::Refused(why)) => return Ok(Recovered::Unclear(why)),
            Err(later) => return Err(later),
        };
        if change::carries(&sight.object, &approval.id) {
            return Ok(Recovered::Done(Done::of(action, &sight.object)));
        }
        let template = sight.object.pointer("/spec/template").map(change::hash);
        let expected = approval.preview.as_ref().and_then(|preview| preview.result_hash.clone());
        if expected.is_some() && template == expected {
            return Ok(Recovered::Done(Done::of(action, &sight.object)));
        }
        let Some(bound) = &approval.bound else {
            return Ok(Recovered::Unclear(Redacted::literal("what was approved is not recorded")));
        };
        let differing = change::differing(bound, &sight.bound);
        if differing.is_empty() {
            return Ok(Recovered::NotDone);
        }
        Ok(Recovered::Unclear(text!("somebody changed {} meanwhile", action.object())))
    }

    /// Whether a request came through whose approval has ended: by its own mark alone, since anybody may have done the
    /// same. What leaves none (an eviction, a silence that ends) and what takes many requests is not told.
    ///
    /// # Errors
    /// When it cannot be read now.
    pub async fn came_through(&self, action: &Action, approval: &Approval) -> Result<Option<Done>, Refusal> {
        match action {
            Action::DeletePod { .. } | Action::Drain { .. } | Action::ExpireSilence { .. } => Ok(None),
            Action::RerunJob { .. } | Action::SilenceAlert { .. } => {
                match self.recover_other(action, approval).await? {
                    Some(Recovered::Done(done)) => Ok(Some(done)),
                    _ => Ok(None),
                }
            }
            _ => {
                let object = self.0.reader.get(action.object()).await?;
                let own = object.filter(|object| change::carries(object, &approval.id));
                Ok(own.map(|object| Done::of(action, &object)))
            }
        }
    }

    /// The same of what leaves its mark elsewhere than in the object: a new Job, and pods that go.
    async fn recover_other(&self, action: &Action, approval: &Approval) -> Result<Option<Recovered>, Refusal> {
        match action {
            Action::SilenceAlert { .. } | Action::ExpireSilence { .. } => {
                self.recover_silence(action, approval).await.map(Some)
            }
            Action::RerunJob { object } => {
                let Some(job) = again::made(object, &approval.id) else { return Ok(None) };
                Ok(match self.0.reader.get(&job).await? {
                    None => None,
                    Some(made) if change::carries(&made, &approval.id) => {
                        Some(Recovered::Done(Done::of(action, &made)))
                    }
                    Some(_) => Some(Recovered::Unclear(text!("somebody else made {}", job))),
                })
            }
            Action::Drain { object, pods, .. } => {
                let sight = self.look(action).await?;
                let over =
                    change::carries(&sight.object, &approval.id) && self.remaining(object, pods).await?.is_empty();
                Ok(Some(if over { Recovered::Done(Done::of(action, &sight.object)) } else { Recovered::NotDone }))
            }
            Action::DeletePod { object, uid, .. } => {
                let pod = self.0.reader.get(object).await?;
                let stays = pod.as_ref().is_some_and(|pod| {
                    json::text(pod, "/metadata/uid") == uid && pod.pointer("/metadata/deletionTimestamp").is_none()
                });
                Ok((!stays).then(|| Recovered::Done(Done::of(action, &Value::Null))))
            }
            _ => Ok(None),
        }
    }
}
