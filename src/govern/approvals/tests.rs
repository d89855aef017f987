//! Presses and permits over the simulated cluster and a SQLite store.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::*;
use crate::govern::gate::tests::{World, deployment, world, world_with};
use crate::model::{Bound, IncidentState};
use crate::model::{Ending, Incident, IncidentId};

const ONE: &str = "U024BE7LH";
const TWO: &str = "U0000000B";
const STRANGER: &str = "U0000000X";

const FOUR_EYES: &str = r#"
approvers:
  - {who: [U024BE7LH, U0000000B], tiers: [reversible], namespaces: [fleet-ops], people: 2}
"#;
const GROUP: &str = r#"
approvers:
  - {who: ["group:S0614TZR7"], tiers: [reversible], namespaces: [fleet-ops]}
"#;

fn click(world: &World, user: &str, what: Pressed) -> Click {
    Click {
        id: format!("{user} {what:?}"),
        cluster: world.incident.cluster.clone(),
        user: crate::redact::Redactor::default().redact(user),
        user_name: "".into(),
        channel: "".into(),
        message_ts: "".into(),
        response_url: None,
        heard_at: world.clock.now(),
        what,
    }
}

fn bound(approval: &Approval) -> Bound {
    let action = approval.action.as_ref().unwrap().hash();
    Bound { action, uid: "u1".into(), fields: BTreeMap::from([("spec.template".to_owned(), "a".to_owned())]) }
}

/// A rollback that waits for an answer, as its preview leaves it.
async fn pending(world: &World) -> Approval {
    let undo = Proposal::RolloutUndo { object: deployment("dispatch-api"), to_revision: None };
    let mut approval = world.propose(&undo).await;
    approval.state = ApprovalState::Pending;
    approval.bound = Some(bound(&approval));
    store(world, &approval, ApprovalState::Proposed).await;
    approval
}

async fn store(world: &World, approval: &Approval, was: ApprovalState) {
    let write = Write::Approval { approval: Box::new(approval.clone()), was: Some(was) };
    world.store.commit(vec![write], Durability::Durable, None).await.unwrap();
}

async fn yes(world: &World, approval: &Approval, user: &str) -> Answered {
    let click = click(world, user, Pressed::Approve { approval: approval.id.clone() });
    world.gate.press(&click, &Groups::new()).await.unwrap()
}

async fn now(world: &World, approval: &Approval) -> Approval {
    world.store.approval(&approval.id).await.unwrap().unwrap()
}

async fn leave(world: &World, approval: &Approval) -> Leave {
    let read = Some(bound(approval));
    let approval = now(world, approval).await;
    world.gate.recheck_and_permit(&approval, &Groups::new(), async { Ok(read) }).await.unwrap()
}

#[track_caller]
fn says(leave: Leave, word: &str) {
    let (Leave::Withdraw { why } | Leave::Refuse { why }) = &leave else { panic!("{leave:?}") };
    assert!(why.as_str().contains(word), "{leave:?}");
}

#[tokio::test]
async fn each_press_is_answered_for_what_it_is() {
    let world = world_with(FOUR_EYES).await;
    let approval = pending(&world).await;
    let answered = yes(&world, &approval, STRANGER).await;
    assert_eq!(answered.outcome, "not_allowed");
    assert!(answered.text.as_str().contains("U024BE7LH, U0000000B"), "{}", answered.text);
    let answered = yes(&world, &approval, ONE).await;
    assert!(answered.text.as_str().starts_with("Your yes counts: 1 of 2."), "{}", answered.text);
    assert_eq!(yes(&world, &approval, ONE).await.outcome, "twice");
    let answered = yes(&world, &approval, TWO).await;
    assert_eq!(answered.outcome, "approved");
    assert!(answered.text.as_str().contains("roll back Deployment fleet-ops/dispatch-api to revision"));
    let answered = yes(&world, &approval, TWO).await;
    assert!(answered.text.as_str().contains("approved already, by U024BE7LH, U0000000B"), "{}", answered.text);
    assert_eq!(now(&world, &approval).await.presses.len(), 2);
}

#[tokio::test]
async fn a_no_counts_at_once_and_its_reason_may_follow() {
    let world = world().await;
    let approval = pending(&world).await;
    let id = approval.id.clone();
    let no = click(&world, ONE, Pressed::Reject { approval: id.clone() });
    let answered = world.gate.press(&no, &Groups::new()).await.unwrap();
    assert_eq!(answered.reason_for, Some(ReasonFor::No(id.clone())));
    let reason =
        |user| click(&world, user, Pressed::RejectReason { approval: id.clone(), reason: "DBA is on it".into() });
    assert_eq!(world.gate.press(&reason(TWO), &Groups::new()).await.unwrap().outcome, "not_allowed");
    world.gate.press(&reason(ONE), &Groups::new()).await.unwrap();
    let after = now(&world, &approval).await;
    assert_eq!((after.state, after.because.as_str()), (ApprovalState::Rejected, "DBA is on it"));
    let answered = yes(&world, &approval, TWO).await;
    assert_eq!(answered.text.as_str(), "Too late: it was rejected by U024BE7LH: DBA is on it.");
}

#[tokio::test]
async fn a_group_that_cannot_be_read_lets_nobody_in() {
    let world = world_with(GROUP).await;
    let approval = pending(&world).await;
    assert_eq!(groups_of(&world.gate, &approval).into_iter().collect::<Vec<_>>(), ["S0614TZR7"]);
    let answered = yes(&world, &approval, ONE).await;
    assert!(answered.text.as_str().contains("did not say who is in group:S0614TZR7"), "{}", answered.text);
    let groups = Groups::from([("S0614TZR7".to_owned(), Some([ONE.to_owned()].into()))]);
    let click = click(&world, ONE, Pressed::Approve { approval: approval.id.clone() });
    assert_eq!(world.gate.press(&click, &groups).await.unwrap().outcome, "approved");
    let approved = now(&world, &approval).await;
    let fresh = || async { Ok(Some(bound(&approval))) };
    assert!(world.gate.recheck_and_permit(&approved, &Groups::new(), fresh()).await.is_err(), "unknown: ask again");
    let left = Groups::from([("S0614TZR7".to_owned(), Some(Default::default()))]);
    says(world.gate.recheck_and_permit(&approved, &left, fresh()).await.unwrap(), "present policy");
    let leave = world.gate.recheck_and_permit(&approved, &groups, fresh()).await.unwrap();
    assert!(matches!(leave, Leave::Permit(_)), "{leave:?}");
}

#[tokio::test]
async fn a_permit_comes_only_after_everything_was_asked_again() {
    let world = world().await;
    let approval = pending(&world).await;
    says(leave(&world, &approval).await, "not approved");
    yes(&world, &approval, ONE).await;
    let Leave::Permit(permit) = leave(&world, &approval).await else { panic!("leave") };
    assert_eq!((permit.approval(), permit.action()), (&approval.id, &approval.action.as_ref().unwrap().hash()));
    let approved = now(&world, &approval).await;
    let with = async |bound: Option<Bound>| {
        world.gate.recheck_and_permit(&approved, &Groups::new(), async { Ok(bound) }).await.unwrap()
    };
    says(with(None).await, "is gone");
    says(with(Some(Bound { uid: "u2".into(), ..bound(&approval) })).await, "replaced");
    says(with(Some(Bound { fields: BTreeMap::new(), ..bound(&approval) })).await, "someone changed");
    world.edit(|object| object["metadata"]["labels"]["firstlook.dev/protected"] = "true".into());
    says(leave(&world, &approval).await, "label");
    world.edit(|object| object["metadata"]["labels"]["argocd.argoproj.io/instance"] = "fleet".into());
    says(leave(&world, &approval).await, "Argo CD");
}

#[tokio::test]
async fn time_and_the_end_of_the_incident_withdraw_an_approval() {
    let world = world().await;
    let approval = pending(&world).await;
    yes(&world, &approval, ONE).await;
    let mut over = world.incident.clone();
    over.state = IncidentState::Over { at: world.clock.now(), how: Ending::Resolved };
    world.store.commit(vec![Write::Incident(Box::new(over))], Durability::Durable, None).await.unwrap();
    says(leave(&world, &approval).await, "incident is over");
    world
        .store
        .commit(vec![Write::Incident(Box::new(world.incident.clone()))], Durability::Durable, None)
        .await
        .unwrap();
    world.clock.set(world.clock.now() + SignedDuration::from_mins(31));
    says(leave(&world, &approval).await, "time ran out");
}

#[tokio::test]
async fn what_expired_can_be_asked_again_by_who_may_approve() {
    let world = world().await;
    let mut approval = pending(&world).await;
    approval.state = ApprovalState::Expired;
    store(&world, &approval, ApprovalState::Pending).await;
    assert_eq!(yes(&world, &approval, ONE).await.outcome, "stale");
    let again = |user| click(&world, user, Pressed::AskAgain { approval: approval.id.clone() });
    assert_eq!(world.gate.press(&again(STRANGER), &Groups::new()).await.unwrap().outcome, "not_allowed");
    assert_eq!(world.gate.press(&again(ONE), &Groups::new()).await.unwrap().outcome, "proposed");
    let all = world.store.approvals_of(&world.incident.id).await.unwrap();
    assert_eq!(all.len(), 2);
    let new = all.iter().find(|other| other.id != approval.id).unwrap();
    assert_eq!((new.state, new.presses.len()), (ApprovalState::Proposed, 0));
    assert!(matches!(&new.asked_by, Caller::Person { user } if user.as_str() == ONE));
}

#[tokio::test]
async fn a_thumb_is_one_persons_last_word_and_down_may_have_a_reason() {
    let world = world().await;
    let id = world.incident.id.clone();
    let press = async |user, what| {
        let answered = world.gate.press(&click(&world, user, what), &Groups::new()).await.unwrap();
        (answered.outcome, answered.reason_for)
    };
    let thumb = |up| Pressed::Thumb { incident: id.clone(), up };
    assert_eq!(press(STRANGER, thumb(true)).await, ("thumb", None), "whoever reads the card may say so");
    assert_eq!(press(ONE, thumb(true)).await, ("thumb", None));
    assert_eq!(press(ONE, thumb(false)).await, ("thumb", Some(ReasonFor::ThumbDown(id.clone()))));
    let reason = Pressed::ThumbReason { incident: id.clone(), reason: "it was the node".into() };
    assert_eq!(press(ONE, reason).await, ("thumb", None));
    let card = world.store.card(&id).await.unwrap().unwrap();
    let said: Vec<_> =
        card.thumbs.iter().map(|t| (t.user.as_str(), t.up, t.reason.as_ref().map(Redacted::as_str))).collect();
    assert_eq!(said, [(STRANGER, true, None), (ONE, false, Some("it was the node"))]);
    let nothing = Pressed::Thumb { incident: IncidentId::parse("i404").unwrap(), up: true };
    assert_eq!(press(ONE, nothing).await.0, "unknown");
}

#[tokio::test]
async fn buttons_of_nothing_are_answered_and_audited() {
    let world = world().await;
    let nothing = Pressed::Approve { approval: ApprovalId::fresh() };
    for what in [nothing, Pressed::Unknown { action_id: "x".into() }] {
        let click = click(&world, ONE, what);
        world.store.commit(vec![Write::Click(click.clone())], Durability::Durable, None).await.unwrap();
        assert_eq!(world.gate.press(&click, &Groups::new()).await.unwrap().outcome, "unknown");
    }
    assert!(world.store.clicks_unhandled(10).await.unwrap().is_empty());
    assert!(world.store.audit_tail().await.unwrap() >= 2);
    assert!(world.store.incident(&IncidentId::parse("i1").unwrap()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_presumed_end_withdraws_nothing_that_people_have_approved() {
    use Ending::{Absorbed, Answered, Healthy, Presumed, ResolveNotSeen, Resolved, Unlisted};
    let world = world().await;
    let approval = pending(&world).await;
    yes(&world, &approval, ONE).await;
    for (how, withdraws) in [
        (Presumed, false),
        (Unlisted, false),
        (ResolveNotSeen, false),
        (Resolved, true),
        (Healthy, true),
        (Absorbed, true),
        (Answered, true),
    ] {
        let over = Incident { state: IncidentState::Over { at: world.clock.now(), how }, ..world.incident.clone() };
        world.store.commit(vec![Write::Incident(Box::new(over))], Durability::Durable, None).await.unwrap();
        let leave = leave(&world, &approval).await;
        assert_eq!(matches!(&leave, Leave::Withdraw { .. }), withdraws, "{how:?}: {leave:?}");
        assert_eq!(matches!(leave, Leave::Permit(_)), !withdraws, "{how:?}");
    }
}

#[tokio::test]
async fn what_a_caller_asks_for_after_a_yes_takes_it_not_back() {
    let policy = "approvers: [{who: [U024BE7LH], tiers: [reversible], namespaces: [fleet-ops]}]\n\
                  limits: {callers: {laptop: {writes_per_hour: 1}}}";
    let world = world_with(policy).await;
    let caller = Caller::Client { name: "laptop".into(), person: None, program: None };
    let object = deployment("dispatch-api");
    let undo = Proposal::RolloutUndo { object: object.clone(), to_revision: None };
    let mut approval = world.propose_as(&undo, caller.clone()).await;
    assert_eq!(approval.state, ApprovalState::Proposed, "{}", approval.because);
    approval.state = ApprovalState::Pending;
    approval.bound = Some(bound(&approval));
    store(&world, &approval, ApprovalState::Proposed).await;
    yes(&world, &approval, ONE).await;
    world.clock.set(world.clock.now() + SignedDuration::from_secs(1));
    let more = world.propose_as(&Proposal::RolloutRestart { object }, caller).await;
    assert!(more.state == ApprovalState::Refused && more.because.as_str().contains("the limit"), "{}", more.because);
    let leave = leave(&world, &approval).await;
    assert!(matches!(leave, Leave::Permit(_)), "{leave:?}");
}
