//! A drain, one request after another: the node is cordoned, then each of its pods is evicted by its uid.

use serde_json::Value;

use crate::act::account::{Account, Trouble};
use crate::act::apply::{Applied, Done};
use crate::act::{Actor, Refusal, Sight, again, change};
use crate::model::{Action, ApprovalId, Kind, Moved, ObjectRef};
use crate::observe::json;
use crate::observe::reader::Selector;
use crate::redact::Redacted;
use crate::text;

impl Actor {
    /// Of a drain's pods those that are still on the node and do not end yet.
    ///
    /// # Errors
    /// When they cannot be read now.
    pub async fn remaining(&self, node: &ObjectRef, pods: &[Moved]) -> Result<Vec<Moved>, Refusal> {
        let on_node = Selector::fields(format!("spec.nodeName={}", node.name()));
        let here = self.0.reader.list(Kind::Pod, None, &on_node).await?;
        let stays = |moved: &&Moved| {
            let same = |pod: &&Value| json::text(pod, "/metadata/uid") == moved.uid;
            here.iter().find(same).is_some_and(|pod| pod.pointer("/metadata/deletionTimestamp").is_none())
        };
        Ok(pods.iter().filter(stays).cloned().collect())
    }

    /// The next request of a drain: the cordon, or one eviction that no budget holds back.
    pub(super) async fn drain(&self, approval: &ApprovalId, action: &Action, body: &Value, sight: &Sight) -> Applied {
        let Action::Drain { object, pods, .. } = action else {
            return Applied::Failed(Redacted::literal("it is no drain"));
        };
        let (account, of) = (Account::Write(action.tier()), pods.len());
        let remaining = match self.remaining(object, pods).await {
            Ok(remaining) => remaining,
            Err(Refusal::Refused(why) | Refusal::Later(why)) => return Applied::NotSent(why),
        };
        let moved = of - remaining.len();
        let going = |moved: usize, held| Applied::Going { moved: moved as u32, of: of as u32, held };
        if !change::carries(&sight.object, approval) {
            let patch = change::guarded(body, &sight.object);
            return match self.0.accounts.send(account, action, &patch, false).await {
                Ok(_) => going(moved, None),
                Err(trouble) => Applied::from(trouble),
            };
        }
        if remaining.is_empty() {
            return Applied::Done(Done::of(action, &sight.object));
        }
        let mut held = Redacted::default();
        for next in &remaining {
            match self.0.accounts.evict(account, next, &again::eviction(&next.pod, &next.uid, approval)).await {
                Ok(_) => return going(moved + 1, None),
                // It is gone, or another has its name: the next look counts it.
                Err(Trouble::Conflict) => return going(moved, None),
                Err(Trouble::Held(why)) => held = text!("{}: {}", next.pod, why),
                Err(Trouble::Refused(why)) => {
                    return Applied::Failed(text!("{} of {} pods moved; {} was refused: {}", moved, of, next.pod, why));
                }
                // An eviction by uid can be asked twice.
                Err(Trouble::NotSent(why) | Trouble::Unknown(why)) => return Applied::NotSent(why),
            }
        }
        going(moved, Some(held))
    }
}
