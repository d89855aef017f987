//! Standing leaves over the simulated cluster and a SQLite store.

use std::collections::BTreeMap;

use super::*;
use crate::govern::approvals::Leave;
use crate::govern::gate::tests::{World, deployment, world_with};
use crate::model::{Bound, Caller, Certainty, Finding, Proposal, Verification};

const BY: &str = "U024BE7LH";
const POLICY: &str = r#"
approvers:
  - {who: [U024BE7LH, U0000000B], tiers: [reversible], namespaces: [fleet-ops]}
standing_leave:
  - {by: U024BE7LH, tool: rollout_undo, namespace: fleet-ops, until: 2026-12-31, per_hour: 1}
"#;

fn undo(to_revision: Option<i64>) -> Proposal {
    Proposal::RolloutUndo { object: deployment("dispatch-api"), to_revision }
}

async fn world(policy: &str, proposed: Option<Proposal>) -> World {
    let mut world = world_with(policy).await;
    let about = deployment("dispatch-api");
    let finding =
        Finding::new("image-pull", Role::Change, Certainty::Proved, &about, "it fails".into(), "it fails".into());
    world.findings = vec![Finding { proposal: proposed, ..finding }];
    let findings = Write::Findings { incident: world.incident.id.clone(), findings: world.findings.clone() };
    world.store.commit(vec![findings], Durability::Durable, None).await.unwrap();
    world
}

/// A proposal that waits for an answer, as its preview leaves it.
async fn pending(world: &World, proposal: Proposal, by: Caller) -> Approval {
    let mut approval = world.propose_as(&proposal, by).await;
    approval.state = ApprovalState::Pending;
    let action = approval.action.as_ref().unwrap().hash();
    approval.bound = Some(Bound { action, uid: "u1".into(), fields: BTreeMap::new() });
    store(world, &approval, ApprovalState::Proposed).await;
    approval
}

async fn store(world: &World, approval: &Approval, was: ApprovalState) {
    let write = Write::Approval { approval: Box::new(approval.clone()), was: Some(was) };
    world.store.commit(vec![write], Durability::Durable, None).await.unwrap();
}

async fn counted(world: &World, approval: &Approval) -> Approval {
    world.gate.count_leave(approval, &Groups::new()).await.unwrap();
    world.store.approval(&approval.id).await.unwrap().unwrap()
}

async fn permit(world: &World, approval: &Approval) -> Leave {
    let read = approval.bound.clone();
    world.gate.recheck_and_permit(approval, &Groups::new(), async { Ok(read) }).await.unwrap()
}

#[track_caller]
fn not_now(approval: &Approval, part: &str) {
    assert_eq!((approval.state, approval.presses.len()), (ApprovalState::Pending, 0));
    let Some(Standing::NotNow { why, .. }) = &approval.standing else { panic!("{:?}", approval.standing) };
    assert!(why.as_str().contains(part), "{why}");
}

#[tokio::test]
async fn a_leave_counts_as_its_persons_yes_to_what_a_finding_supports() {
    let world = world(POLICY, Some(undo(None))).await;
    let approval = counted(&world, &pending(&world, undo(None), Caller::Agent).await).await;
    assert_eq!(approval.state, ApprovalState::Approved);
    assert_eq!(approval.presses[0].user.as_str(), BY);
    let Some(Standing::Counted { rule, .. }) = &approval.standing else { panic!("{:?}", approval.standing) };
    assert_eq!(rule.as_str(), "standing_leave[0] (line 5)");
    assert!(matches!(permit(&world, &approval).await, Leave::Permit(_)));
    let audited = world.store.audit_last("approval").await.unwrap().unwrap();
    assert_eq!(audited["standing_leave"]["counted"]["by"], BY, "{audited}");
}

#[tokio::test]
async fn without_a_finding_that_says_the_same_people_are_asked() {
    let world = world(POLICY, None).await;
    not_now(&counted(&world, &pending(&world, undo(None), Caller::Agent).await).await, "no finding supports");
    // The model names a revision that no finding leads to.
    let world = self::world(POLICY, Some(undo(None))).await;
    not_now(&counted(&world, &pending(&world, undo(Some(8)), Caller::Agent).await).await, "no finding supports");
    // In other words it is the same: 9 is the one before.
    let same = counted(&world, &pending(&world, undo(Some(9)), Caller::Agent).await).await;
    assert_eq!(same.state, ApprovalState::Approved);
}

#[tokio::test]
async fn what_is_asked_from_outside_waits_for_a_person() {
    let world = world(POLICY, Some(undo(None))).await;
    let caller = Caller::Client { name: "ci".into(), person: Some(BY.into()), program: None };
    not_now(&counted(&world, &pending(&world, undo(None), caller).await).await, "from outside");
}

#[tokio::test]
async fn a_leave_is_one_persons_yes_and_only_an_approvers() {
    let four_eyes = POLICY.replace("namespaces: [fleet-ops]}", "namespaces: [fleet-ops], people: 2}");
    let world = world(&four_eyes, Some(undo(None))).await;
    let approval = counted(&world, &pending(&world, undo(None), Caller::Agent).await).await;
    assert_eq!((approval.state, approval.presses.len()), (ApprovalState::Pending, 1));
    assert!(!world.gate.has_leave_to_count(&approval), "once");
    let stranger = POLICY.replace("who: [U024BE7LH, U0000000B]", "who: [U0000000B]");
    let world = self::world(&stranger, Some(undo(None))).await;
    not_now(&counted(&world, &pending(&world, undo(None), Caller::Agent).await).await, "not one of those who may");
}

#[tokio::test]
async fn a_leave_is_used_so_often_within_an_hour_and_not_after_its_end() {
    let world = world(POLICY, Some(undo(None))).await;
    let first = counted(&world, &pending(&world, undo(None), Caller::Agent).await).await;
    store(&world, &Approval { state: ApprovalState::Withdrawn, ..first }, ApprovalState::Approved).await;
    let second = counted(&world, &pending(&world, undo(None), Caller::Agent).await).await;
    not_now(&second, "used 1 times within the last hour");
    let ended = POLICY.replace("2026-12-31", "2026-03-01");
    let world = self::world(&ended, Some(undo(None))).await;
    not_now(&counted(&world, &pending(&world, undo(None), Caller::Agent).await).await, "it has ended");
}

#[tokio::test]
async fn a_bad_outcome_suspends_the_leave_at_once_even_before_it_runs_again() {
    let world = world(POLICY, Some(undo(None))).await;
    let approval = counted(&world, &pending(&world, undo(None), Caller::Agent).await).await;
    let why = Verification::NotBetter { at: world.clock.now(), why: "pods crash".into() };
    let bad = Approval { state: ApprovalState::Executed, verification: why, ..approval.clone() };
    let writes = world.gate.suspensions(&bad).await.unwrap();
    assert_eq!(writes.len(), 2, "the suspension and its audit");
    world.store.commit(writes, Durability::Durable, None).await.unwrap();
    assert!(world.gate.suspensions(&bad).await.unwrap().is_empty(), "the first reason stands");
    // What it had already approved does not run any more.
    let Leave::Refuse { why } = permit(&world, &approval).await else { panic!("a permit") };
    assert!(
        why.as_str().contains("suspended because rollout_undo of Deployment fleet-ops/dispatch-api did not help"),
        "{why}"
    );
}

#[tokio::test]
async fn a_suspension_is_lifted_by_giving_the_leave_again_and_by_nothing_else() {
    let mut world = world(POLICY, Some(undo(None))).await;
    let first = counted(&world, &pending(&world, undo(None), Caller::Agent).await).await;
    let at = world.clock.now();
    let worse = Verification::Worse { at, why: "pods crash".into(), ready: 0, before: 1 };
    let bad = Approval { state: ApprovalState::Executed, verification: worse, ..first };
    store(&world, &bad, ApprovalState::Approved).await;
    let writes = world.gate.suspensions(&bad).await.unwrap();
    world.store.commit(writes, Durability::Durable, None).await.unwrap();
    // A second look finds it better: the person is asked all the same, and told how the leave comes back.
    let better = Approval { verification: Verification::Better { at, ready: 1, wanted: 1 }, ..bad };
    store(&world, &better, ApprovalState::Executed).await;
    assert!(world.gate.suspensions(&better).await.unwrap().is_empty());
    world.clock.set(at + jiff::SignedDuration::from_hours(3));
    let asked = counted(&world, &pending(&world, undo(None), Caller::Agent).await).await;
    not_now(&asked, "to lift this, give it another `until` in the policy");
    store(&world, &Approval { state: ApprovalState::Withdrawn, ..asked }, ApprovalState::Pending).await;
    // A restart lifts nothing; the same leave with another date does.
    world.start_again(POLICY).await;
    let asked = counted(&world, &pending(&world, undo(None), Caller::Agent).await).await;
    not_now(&asked, "it is suspended because rollout_undo of Deployment fleet-ops/dispatch-api made it worse");
    store(&world, &Approval { state: ApprovalState::Withdrawn, ..asked }, ApprovalState::Pending).await;
    world.start_again(&POLICY.replace("2026-12-31", "2027-01-31")).await;
    let lifted = counted(&world, &pending(&world, undo(None), Caller::Agent).await).await;
    assert_eq!(lifted.state, ApprovalState::Approved, "{:?}", lifted.standing);
}

#[tokio::test]
async fn what_a_person_took_back_suspends_the_leave_as_well() {
    let world = world(POLICY, Some(undo(None))).await;
    let done = counted(&world, &pending(&world, undo(None), Caller::Agent).await).await;
    let done_id = done.id.clone();
    store(&world, &Approval { state: ApprovalState::Executed, ..done.clone() }, ApprovalState::Approved).await;
    let back = Approval { undoes: Some(done_id), standing: None, state: ApprovalState::Executed, ..done };
    assert_eq!(world.gate.suspensions(&back).await.unwrap().len(), 2);
}
