//! Apply: the one request that changes the cluster, sent with a permit; and what to believe after a crash.

use serde_json::Value;

use crate::act::account::{Account, Trouble};
use crate::act::{Actor, Refusal, Sight, change};
use crate::govern::permit::Permit;
use crate::model::{Action, Approval};
use crate::observe::json;
use crate::redact::Redacted;
use crate::text;

/// What came of a request.
#[derive(Debug)]
pub enum Applied {
    /// Done: the object's generation afterwards.
    Done { generation: i64 },
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
    Done { generation: i64 },
    /// It was not: the object is as it was approved. The same body may be sent again.
    NotDone(Box<Sight>),
    /// Neither: somebody else changed it meanwhile. Never retried blindly.
    Unclear(Redacted),
}

impl Actor {
    /// Performs `action` by sending `body`, which is on disk already, for the object version of `sight`.
    pub async fn apply(&self, permit: Permit, action: &Action, body: &Value, sight: &Sight) -> Applied {
        if *permit.action() != action.hash() {
            return Applied::Failed(Redacted::literal("the permit is for another action"));
        }
        let account = Account::Write(action.tier());
        match self.0.accounts.is_guarded(account).await {
            Ok(true) => {}
            Ok(false) => {
                return Applied::Failed("the admission policy of the writing account is not installed".into());
            }
            Err(why) => return Applied::NotSent(why),
        }
        let patch = change::guarded(body, &sight.object);
        match self.0.accounts.patch(account, action.object(), &patch, false).await {
            Ok(object) => Applied::Done { generation: generation(&object) },
            Err(Trouble::Conflict) => Applied::Conflict,
            Err(Trouble::Refused(why)) => Applied::Failed(text!("the API server refused: {}", why)),
            Err(Trouble::NotSent(why)) => Applied::NotSent(why),
            Err(Trouble::Unknown(why)) => Applied::Unknown(why),
        }
    }

    /// Reads what became of an approval that was executing when the process ended or the answer was lost.
    ///
    /// # Errors
    /// When the object cannot be read now.
    pub async fn recover(&self, action: &Action, approval: &Approval) -> Result<Recovered, Refusal> {
        let sight = match self.look(action).await {
            Ok(sight) => sight,
            Err(Refusal::Refused(why)) => return Ok(Recovered::Unclear(why)),
            Err(later) => return Err(later),
        };
        if change::carries(&sight.object, &approval.id) {
            return Ok(Recovered::Done { generation: generation(&sight.object) });
        }
        let template = sight.object.pointer("/spec/template").map(change::hash);
        let expected = approval.preview.as_ref().and_then(|preview| preview.result_hash.clone());
        if expected.is_some() && template == expected {
            return Ok(Recovered::Done { generation: generation(&sight.object) });
        }
        let Some(bound) = &approval.bound else {
            return Ok(Recovered::Unclear(Redacted::literal("what was approved is not recorded")));
        };
        let differing = change::differing(bound, &sight.bound);
        if differing.is_empty() {
            return Ok(Recovered::NotDone(Box::new(sight)));
        }
        Ok(Recovered::Unclear(text!("somebody changed {} meanwhile", action.object())))
    }
}

fn generation(object: &Value) -> i64 {
    json::number(object, "/metadata/generation").unwrap_or(0)
}
