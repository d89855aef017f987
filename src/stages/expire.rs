//! Expire: requests for leave that ran out, or whose world changed, end by themselves and say why.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::SignedDuration;
use tracing::Instrument as _;

use crate::act::{Actor, Refusal, change};
use crate::clock::Clock;
use crate::govern::audit;
use crate::govern::off::{KEY, Off};
use crate::model::{Approval, ApprovalState, Ending, IncidentState, Kind};
use crate::observe::motion::Motion;
use crate::redact::Redacted;
use crate::stages::Ran;
use crate::stages::pace::{News, Pace};
use crate::store::{CommitError, Durability, Store, Write, is_near};
use crate::telemetry;
use crate::text;

/// Requests for leave that wait at once; more than a team could answer.
const PENDING_MAX: u32 = 100;
/// A request for leave is compared with the cluster when its object moves, and this often in case that a watch missed it;
/// at its execution everything is compared again.
const LOOK_EVERY: SignedDuration = SignedDuration::from_secs(30);
/// The same while the watches do not stand.
const LOOK_ALONE_EVERY: SignedDuration = SignedDuration::from_secs(2);
/// Old incidents are looked for once an hour: they come one by one.
const PRUNE_EVERY: SignedDuration = SignedDuration::from_hours(1);
/// Incidents of one prune, so that it never holds the writer for long.
const PRUNE_MAX: u32 = 200;

/// Incidents that go at once where room is needed: few, so that no more goes than must.
const ROOM_MAX: u32 = 20;
/// What ended within the last hour may reopen, and people still look at its card.
const KEEP_LEAST: SignedDuration = SignedDuration::from_hours(1);

/// A process whose last attempt at a unit was not renewed for so long is gone: six times as long as a lease holds.
const SILENT: Duration = Duration::from_secs(60);

/// The stage.
pub struct Expire {
    pub store: Store,
    pub actor: Actor,
    pub clock: Clock,
    /// How long what is over is kept, in days.
    pub keep_days: u32,
    /// Nobody is asked for what is switched off, those least who were asked before it was.
    pub off: Off,
    /// When old incidents were last looked for, in milliseconds since the epoch; 0 before the first time.
    pub pruned_at_ms: AtomicI64,
    pub pace: Pace,
    pub motion: Motion,
}

impl Expire {
    /// Looks at every request for leave that waits, and forgets what is old enough.
    ///
    /// # Errors
    /// The store's.
    pub async fn run_once(&self) -> anyhow::Result<Ran> {
        let (mut ran, now) = (self.prune().await?, self.clock.now());
        if self.store.bury(SILENT).await? {
            ran = Ran::Worked;
        }
        let pending = self.store.approvals_in(&[ApprovalState::Pending], PENDING_MAX).await?;
        self.pace.keep(|unit| pending.iter().any(|approval| approval.id.as_str() == unit));
        for approval in pending {
            let moved = approval.action.as_ref().and_then(|action| self.motion.of(action.object()));
            let every = if moved.is_some() { LOOK_EVERY } else { LOOK_ALONE_EVERY };
            let over = self.clock.now() >= approval.expires_at;
            if !over && !self.pace.is_due(approval.id.as_str(), every, News { moved, ..News::default() }, now) {
                continue;
            }
            let span = telemetry::incident(&approval.incident);
            if self.end(approval).instrument(span).await? {
                ran = Ran::Worked;
            }
        }
        Ok(ran)
    }

    /// Ends a request for leave if it is to end; true if it did.
    async fn end(&self, approval: Approval) -> anyhow::Result<bool> {
        let Some((state, why)) = self.ending(&approval).await? else { return Ok(false) };
        let ended = Approval { state, because: why, ..approval };
        let writes = vec![
            Write::Audit(audit::approval(self.clock.now(), &ended)),
            Write::Approval { approval: Box::new(ended), was: Some(ApprovalState::Pending) },
        ];
        match self.store.commit(writes, Durability::Durable, None).await {
            Ok(()) => Ok(true),
            // A click was quicker: it stands.
            Err(CommitError::Conflict(what)) => {
                tracing::info!("request for leave not ended: {what}");
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn prune(&self) -> anyhow::Result<Ran> {
        let now = self.clock.now();
        if now.as_millisecond() - self.pruned_at_ms.load(Ordering::Relaxed) < PRUNE_EVERY.as_millis() as i64 {
            return Ok(Ran::Idle);
        }
        let before = now.checked_sub(SignedDuration::from_hours(24 * i64::from(self.keep_days)))?;
        if self.store.prune(before, PRUNE_MAX).await? > 0 || self.make_room().await? {
            return Ok(Ran::Worked);
        }
        self.pruned_at_ms.store(now.as_millisecond(), Ordering::Relaxed);
        Ok(Ran::Idle)
    }

    /// Near its bound the store loses what ended first, however young; true if something went.
    async fn make_room(&self) -> anyhow::Result<bool> {
        let (bytes, bytes_max) = (self.store.size_bytes().await?, self.store.size_max_bytes());
        if !is_near(bytes, bytes_max) {
            return Ok(false);
        }
        tracing::warn!(
            bytes,
            bytes_max,
            "the store is nearly full: raise store.size_max_mib, or lower store.keep_days"
        );
        let ended = self.clock.now().checked_sub(KEEP_LEAST)?;
        Ok(self.store.shrinks() && self.store.make_room(ended, ROOM_MAX).await? > 0)
    }

    /// How the request ends now, if it does.
    async fn ending(&self, approval: &Approval) -> anyhow::Result<Option<(ApprovalState, Redacted)>> {
        if self.clock.now() >= approval.expires_at {
            return Ok(Some((ApprovalState::Expired, "nobody answered".into())));
        }
        let tool = approval.proposal.tool();
        if self.off.has(tool) {
            return Ok(Some((ApprovalState::Withdrawn, text!("{} is switched off here ({})", tool, KEY))));
        }
        let incident = self.store.incident(&approval.incident).await?;
        if let (Some(incident), Some(action)) = (&incident, &approval.action)
            && action.object().kind == Kind::Job
            && incident.was.as_ref() == Some(action.object())
        {
            return Ok(Some((ApprovalState::Withdrawn, text!("{} failed since", incident.subject))));
        }
        // What takes a change back is asked for when the trouble is over as well.
        if approval.undoes.is_none()
            && let Some(incident) = incident
            && incident.state.withdraws()
            && let IncidentState::Over { how, .. } = incident.state
        {
            let why = match how {
                Ending::Resolved => "alert resolved by itself",
                Ending::Absorbed => "its incident is part of another",
                _ => "the trouble is over",
            };
            return Ok(Some((ApprovalState::Withdrawn, why.into())));
        }
        let (Some(action), Some(bound)) = (&approval.action, &approval.bound) else { return Ok(None) };
        match self.actor.look(action).await {
            Ok(sight) => {
                let changed = change::differing(bound, &sight.bound);
                if changed.is_empty() {
                    return Ok(None);
                }
                if action.mutes() {
                    return Ok(Some((ApprovalState::Withdrawn, "what Alertmanager holds has changed".into())));
                }
                let why = change::who_changed(&sight.object, self.actor.reader().redactor());
                Ok(Some((ApprovalState::Withdrawn, text!("someone changed {}{}", action.object(), why))))
            }
            Err(Refusal::Refused(why)) => Ok(Some((ApprovalState::Withdrawn, why))),
            Err(Refusal::Later(_)) => Ok(None),
        }
    }
}
