//! Execute: clicks are judged, and what was approved is done once, after everything was asked again.

mod astray;
mod stall;

use jiff::SignedDuration;
use tracing::Instrument as _;

use crate::act::apply::{Applied, Done, Recovered};
use crate::act::{Actor, Refusal, Sight, change, silence};
use crate::clock::Clock;
use crate::govern::approvals::{Leave, groups_of};
use crate::govern::audit;
use crate::govern::gate::Gate;
use crate::govern::policy::Groups;
use crate::model::{Action, Approval, ApprovalId, ApprovalState, Click, Execution, Pressed, Verification};
use crate::redact::Redacted;
use crate::slack::render;
use crate::stages::Ran;
use crate::stages::away::Away;
use crate::stages::deliver::Outlet;
use crate::stages::execute::stall::Stall;
use crate::stages::lease;
use crate::stages::lease::LEASE;
use crate::stages::pace::Pace;
use crate::store::{Claim, CommitError, Durability, Store, Write};
use crate::telemetry;
use crate::telemetry::{ActionLabels, Metrics};
use crate::text;

/// Versions of an object that may pass by before an execution gives up.
const CONFLICTS_MAX: u32 = 5;
/// Units looked at for one that no other process has just taken.
const AT_HAND: u32 = 8;
/// Requests for leave that wait at once; more than a team could answer.
const PENDING_MAX: u32 = 100;
/// What failed is tried again after this long, up to the store's five attempts.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(2);
/// A drain whose pods are held back for longer has stopped: kubectl's users wait about as long.
const HELD_MAX: SignedDuration = SignedDuration::from_mins(30);
/// Entries sealed before a write: its intent is among them.
const SEAL_BATCH: u32 = 1_000;

/// The stage.
pub struct Execute {
    pub store: Store,
    pub actor: Actor,
    pub gate: Gate,
    pub outlet: Outlet,
    pub clock: Clock,
    pub metrics: Metrics,
    /// The approved actions that wait for the API server, or for Slack to say who is in a group.
    pub away: Away,
    /// How often what may still be on its way is looked for.
    pub pace: Pace,
}

impl Execute {
    /// Handles the oldest click, or performs the oldest approved action.
    ///
    /// # Errors
    /// The store's, and what could not be asked now; the unit is tried again.
    pub async fn run_once(&self) -> anyhow::Result<Ran> {
        for click in self.store.clicks_unhandled(AT_HAND).await? {
            let Some(claim) = self.store.claim("click", &click.id, LEASE).await? else { continue };
            let result = lease::hold(&self.store, &claim, Box::pin(self.answer(&click))).await;
            self.give_back(claim, result).await?;
            return Ok(Ran::Worked);
        }
        if self.count_leave().await? {
            return Ok(Ran::Worked);
        }
        let states = [ApprovalState::Approved, ApprovalState::Executing];
        let mut waiting = self.store.approvals_free("execute", &states, AT_HAND).await?;
        // A drain takes many turns: whatever else was approved goes between them.
        waiting.sort_by_key(|approval| matches!(approval.action, Some(Action::Drain { .. })));
        for approval in waiting {
            let Some(claim) = self.store.claim("execute", approval.id.as_str(), LEASE).await? else { continue };
            let span = telemetry::incident(&approval.incident);
            let id = approval.id.clone();
            let act = Box::pin(async {
                Ok(match approval.state {
                    ApprovalState::Executing => self.recover(approval, &claim).await,
                    _ => self.perform(approval, None, &claim).await,
                })
            });
            let result = lease::hold(&self.store, &claim, act).instrument(span.clone()).await;
            let result = match result.unwrap_or_else(|lost| Err(Stall::Failed(lost))) {
                Ok(()) => Ok(()),
                Err(Stall::Failed(error)) => Err(error),
                Err(stall) => match self.waits(&id, stall, &claim).instrument(span).await {
                    Ok(true) => return Ok(Ran::Worked),
                    Ok(false) => Ok(()),
                    Err(error) => Err(error),
                },
            };
            self.away.forget(id.as_str());
            self.give_back(claim, result).await?;
            return Ok(Ran::Worked);
        }
        self.find_astray().await
    }

    /// Lets a standing leave count for a request that waits, where the policy gives one; true if one was looked at.
    async fn count_leave(&self) -> anyhow::Result<bool> {
        if self.gate.policy().standing_leave.is_empty() {
            return Ok(false);
        }
        for approval in self.store.approvals_in(&[ApprovalState::Pending], PENDING_MAX).await? {
            if !self.gate.has_leave_to_count(&approval) {
                continue;
            }
            let Some(claim) = self.store.claim("leave", approval.id.as_str(), LEASE).await? else { continue };
            let groups = self.groups(&approval).await;
            let counted = self.gate.count_leave(&approval, &groups);
            let counted = counted.instrument(telemetry::incident(&approval.incident)).await;
            self.give_back(claim, counted.as_ref().map(drop).map_err(|error| anyhow::anyhow!("{error:#}"))).await?;
            if counted? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn give_back(&self, claim: Claim, result: anyhow::Result<()>) -> anyhow::Result<()> {
        match result {
            Ok(()) => self.store.release(claim).await,
            Err(error) => {
                let now = self.clock.now();
                self.store.fail(claim, now.checked_add(RETRY_AFTER).unwrap_or(now)).await?;
                Err(error)
            }
        }
    }

    /// Judges a click and answers the person.
    async fn answer(&self, click: &Click) -> anyhow::Result<()> {
        let approval = match approval_of(&click.what) {
            Some(id) => self.store.approval(id).await?,
            None => None,
        };
        let span = approval.as_ref().map_or(tracing::Span::none(), |approval| telemetry::incident(&approval.incident));
        self.judge(click, approval.as_ref()).instrument(span).await
    }

    async fn judge(&self, click: &Click, approval: Option<&Approval>) -> anyhow::Result<()> {
        let groups = match approval {
            Some(approval) => self.groups(approval).await,
            None => Groups::new(),
        };
        let answered = self.gate.press(click, &groups).await?;
        tracing::info!(user = %click.user, outcome = answered.outcome, "click answered: {}", answered.text);
        if let (Outlet::Slack { slack, .. }, Some(url)) = (&self.outlet, &click.response_url) {
            let message = render::answer(&answered.text, answered.reason_for.as_ref());
            // The press counts whether or not the person sees the answer; the card shows it as well.
            if let Err(error) = slack.ephemeral(url, &message).await {
                tracing::warn!("the answer to a click did not reach the person: {error}");
            }
        }
        Ok(())
    }

    /// The members of every group that decides; a group that cannot be read lets nobody in.
    async fn groups(&self, approval: &Approval) -> Groups {
        let mut groups = Groups::new();
        for group in groups_of(&self.gate, approval) {
            let members = match &self.outlet {
                Outlet::Slack { slack, .. } => slack.members(&group).await.ok(),
                Outlet::Stdout | Outlet::Nowhere => None,
            };
            groups.insert(group, members);
        }
        groups
    }

    /// Performs an approved action, or goes on with one whose `sent` execution certainly did not happen.
    async fn perform(&self, approval: Approval, sent: Option<Execution>, claim: &Claim) -> Result<(), Stall> {
        let Some(action) = approval.action.clone() else {
            return Ok(self.end(approval, ApprovalState::Failed, "it was never checked".into(), claim).await?);
        };
        // What is asked again is the approval as the people left it, also when its execution was begun before.
        let mut asked = Approval { state: ApprovalState::Approved, ..approval.clone() };
        let under_way = sent.is_some() && matches!(action, Action::Drain { .. });
        if under_way {
            // What was begun in time goes on.
            asked.expires_at = jiff::Timestamp::MAX;
        }
        let groups = self.groups(&approval).await;
        let mut current = approval;
        let repeats = sent.is_some();
        let mut execution = sent;
        for _ in 0..CONFLICTS_MAX {
            let mut sight: Option<Sight> = None;
            let leave = Box::pin(self.gate.recheck_and_permit(&asked, &groups, async {
                Ok(match self.actor.look(&action).await {
                    Ok(seen) => Some(sight.insert(seen).bound.clone()),
                    Err(Refusal::Refused(_)) => None,
                    Err(Refusal::Later(why)) => anyhow::bail!("{why}"),
                })
            }));
            // Whatever could not be asked: nothing was sent for it.
            let redactor = self.actor.reader().redactor();
            let leave = leave.await.map_err(|error| Stall::Unsent(redactor.redact(&format!("{error:#}")).cut(300)))?;
            let permit = match leave {
                Leave::Permit(permit) => permit,
                Leave::Withdraw { why } | Leave::Refuse { why } => {
                    return Box::pin(self.stop(current, &action, why, under_way, claim)).await;
                }
            };
            let Some(sight) = sight else { return Err(anyhow::anyhow!("the object was not read").into()) };
            let execution = match &execution {
                Some(execution) => execution.clone(),
                None => {
                    current = self.intend(&current, &action, &sight, claim).await?;
                    execution.insert(current.execution.clone().unwrap_or_else(|| unsent(self.clock.now()))).clone()
                }
            };
            match Box::pin(self.actor.apply(permit, &action, &execution.body, &sight)).await {
                Applied::Done(done) => return Ok(self.done(current, done, claim).await?),
                Applied::Going { moved, of, held } => return self.go_on(current, (moved, of), held, claim).await,
                Applied::Conflict => {}
                Applied::Failed(why) => {
                    return Ok(self.end(strayed(current, repeats), ApprovalState::Failed, why, claim).await?);
                }
                Applied::NotSent(why) => return Err(Stall::Unsent(why)),
                // The object tells, next time.
                Applied::Unknown(why) => return Err(Stall::Away(text!("the answer to the write was lost: {}", why))),
            }
        }
        let why = "the object kept changing while it was tried".into();
        Ok(self.end(strayed(current, repeats), ApprovalState::Failed, why, claim).await?)
    }

    /// Puts the intent on disk and seals it, before anything is sent. The body is fixed from here on.
    async fn intend(
        &self,
        approval: &Approval,
        action: &Action,
        sight: &Sight,
        claim: &Claim,
    ) -> anyhow::Result<Approval> {
        let now = self.clock.now();
        let body = match action.mutes() {
            true => silence::body(action, approval, now),
            false => change::body(action, &approval.id, now, sight),
        };
        let ready_before = change::ready(action, &sight.object);
        let execution = Execution { body, ready_before, ..unsent(now) };
        let (state, because) = (ApprovalState::Executing, Redacted::default());
        let executing = Approval { state, because, execution: Some(execution), ..approval.clone() };
        let writes = vec![
            Write::Audit(audit::execution(now, &executing)),
            Write::Approval { approval: Box::new(executing.clone()), was: Some(ApprovalState::Approved) },
        ];
        self.store.commit(writes, Durability::Durable, Some(claim)).await?;
        self.store.seal(SEAL_BATCH).await?;
        Ok(executing)
    }

    /// An execution that was under way when its process ended or its answer was lost: the object tells.
    async fn recover(&self, approval: Approval, claim: &Claim) -> Result<(), Stall> {
        let Some(action) = &approval.action else {
            return Ok(self.end(approval, ApprovalState::Failed, "it was never checked".into(), claim).await?);
        };
        match self.actor.recover(action, &approval).await {
            Ok(Recovered::Done(done)) => Ok(self.done(approval, done, claim).await?),
            Ok(Recovered::NotDone) => {
                let sent = approval.execution.clone();
                Box::pin(self.perform(approval, sent, claim)).await
            }
            Ok(Recovered::Unclear(why)) | Err(Refusal::Refused(why)) => {
                Ok(self.end(approval, ApprovalState::OutcomeUnknown, why, claim).await?)
            }
            Err(Refusal::Later(why)) => Err(Stall::Away(why)),
        }
    }

    async fn done(&self, approval: Approval, done: Done, claim: &Claim) -> anyhow::Result<()> {
        self.end(finished(approval, done, self.clock.now()), ApprovalState::Executed, Redacted::default(), claim).await
    }

    /// One request of several was done: the card counts, and the next one is another turn's.
    async fn go_on(
        &self,
        approval: Approval,
        (moved, of): (u32, u32),
        held: Option<Redacted>,
        claim: &Claim,
    ) -> Result<(), Stall> {
        let now = self.clock.now();
        let execution = approval.execution.clone().unwrap_or_else(|| unsent(now));
        if let Some(why) = &held
            && now.duration_since(execution.started_at) >= HELD_MAX
        {
            let why = text!("{} of {} pods moved; {}", moved, of, why);
            return Ok(self.end(approval, ApprovalState::Failed, why, claim).await?);
        }
        let is_held = held.is_some();
        let going = Approval {
            verification: Verification::Watching { ready: moved, wanted: of },
            because: held.unwrap_or_default(),
            execution: Some(execution),
            ..approval
        };
        let writes = vec![
            Write::Audit(audit::execution(now, &going)),
            Write::Approval { approval: Box::new(going), was: Some(ApprovalState::Executing) },
        ];
        self.store.commit(writes, Durability::Durable, Some(claim)).await?;
        if is_held { Err(Stall::Held) } else { Ok(()) }
    }

    async fn end(
        &self,
        approval: Approval,
        state: ApprovalState,
        because: Redacted,
        claim: &Claim,
    ) -> anyhow::Result<()> {
        let was = approval.state;
        let ended = Approval { state, because, ..approval };
        tracing::info!(incident = %ended.incident, approval = %ended.id, state = state.as_str(), "{}", ended.because);
        let mut writes = vec![
            Write::Audit(audit::execution(self.clock.now(), &ended)),
            Write::Approval { approval: Box::new(ended.clone()), was: Some(was) },
        ];
        writes.extend(self.gate.suspensions(&ended).await?);
        match self.store.commit(writes, Durability::Durable, Some(claim)).await {
            Ok(()) => {}
            // Another worker was quicker with the same.
            Err(CommitError::Conflict(what)) => tracing::info!(approval = %ended.id, "already ended: {what}"),
            Err(error) => return Err(error.into()),
        }
        let tool = ended.action.as_ref().map_or("none", Action::tool);
        self.metrics.actions.get_or_create(&ActionLabels { tool, state: state.as_str() }).inc();
        Ok(())
    }
}

fn approval_of(what: &Pressed) -> Option<&ApprovalId> {
    match what {
        Pressed::Approve { approval }
        | Pressed::Reject { approval }
        | Pressed::RejectReason { approval, .. }
        | Pressed::AskAgain { approval }
        | Pressed::Undo { approval } => Some(approval),
        Pressed::Thumb { .. } | Pressed::ThumbReason { .. } | Pressed::Unknown { .. } => None,
    }
}

/// The approval with what its action left behind, from which on it is followed.
fn finished(approval: Approval, done: Done, now: jiff::Timestamp) -> Approval {
    let execution = approval.execution.clone().unwrap_or_else(|| unsent(now));
    let (finished_at, generation) = (Some(now), Some(done.generation));
    let execution = Execution { finished_at, generation, left: done.left, ..execution };
    Approval { execution: Some(execution), verification: Verification::NotStarted, ..approval }
}

/// One whose request before this one was lost may come through yet, whatever was answered now: it is looked for.
fn strayed(approval: Approval, repeats: bool) -> Approval {
    let execution = approval.execution.clone().map(|sent| Execution { astray: sent.astray || repeats, ..sent });
    Approval { execution, ..approval }
}

fn unsent(now: jiff::Timestamp) -> Execution {
    Execution {
        started_at: now,
        body: serde_json::Value::Null,
        finished_at: None,
        generation: None,
        left: None,
        ready_before: None,
        astray: false,
    }
}
