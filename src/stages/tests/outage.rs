//! An API server that is away while something was approved: nothing is given up, and nothing is done twice.

use jiff::SignedDuration;
use serde_json::Value;

use super::changes::{web, world};
use super::{POLICY, World};
use crate::act::change::APPROVAL_ANNOTATION;
use crate::govern::gate::{Gate, GateOptions};
use crate::govern::policy::{Groups, Policy};
use crate::model::{Approval, ApprovalState, Click, Ending, Incident, IncidentState, Pressed, Proposal};
use crate::observe::Sources;
use crate::redact::Redactor;
use crate::sim::cluster::Fault;
use crate::stages::Ran;
use crate::store::{Durability, Write};
use crate::telemetry::Metrics;

impl World {
    /// Time goes by in steps, and after each the stage does what it can.
    async fn pass(&self, seconds: i64) {
        for _ in 0..seconds {
            self.clock.set(self.clock.now() + SignedDuration::from_secs(1));
            while Box::pin(self.execute.run_once()).await.unwrap() == Ran::Worked {}
        }
    }

    /// A request to scale, which a person said yes to while the API server is away.
    async fn approved_while_away(&self) -> Approval {
        let asked = self.ask(Proposal::Scale { object: web(), replicas: 4 }).await;
        self.press(Pressed::Approve { approval: asked.id.clone() }).await;
        self.cluster.fault(Fault::Away);
        asked
    }

    /// The same, where the API server goes away with the answer to the write.
    async fn written_and_away(&self) -> Approval {
        let asked = self.ask(Proposal::Scale { object: web(), replicas: 4 }).await;
        self.press(Pressed::Approve { approval: asked.id.clone() }).await;
        self.cluster.fault(Fault::HoldAnswer { path: "/apis/apps/v1/namespaces/shop/deployments/web".into() });
        tokio::select! {
            ran = Box::pin(self.execute.run_once()) => panic!("{ran:?}"),
            () = self.cluster.holding() => {}
        }
        self.cluster.release();
        self.cluster.fault(Fault::Away);
        assert_eq!(self.now(&asked).await.state, ApprovalState::Executing);
        asked
    }

    /// The same, where the process ends with the intent on disk and nothing sent yet.
    async fn intended_and_ended(&self) -> Approval {
        let asked = self.ask(Proposal::Scale { object: web(), replicas: 4 }).await;
        self.press(Pressed::Approve { approval: asked.id.clone() }).await;
        self.cluster.fault(no_token());
        tokio::select! {
            ran = Box::pin(self.execute.run_once()) => panic!("{ran:?}"),
            () = self.cluster.holding() => {}
        }
        self.cluster.release();
        assert_eq!((self.now(&asked).await.state, self.writes()), (ApprovalState::Executing, 0));
        // Its claim runs out.
        self.clock.set(self.clock.now() + SignedDuration::from_secs(60));
        asked
    }

    fn replicas(&self) -> Value {
        self.get(&web())["spec"]["replicas"].clone()
    }

    /// Writes that the API server heard of.
    fn writes(&self) -> usize {
        let wrote = |sent: &&crate::sim::cluster::Request| sent.method == "PATCH" && !sent.path.contains("dryRun");
        self.cluster.requests().iter().filter(wrote).count()
    }
}

/// The next request for a token, which comes before each write, hangs.
fn no_token() -> Fault {
    Fault::Hang { path: "/api/v1/namespaces/firstlook/serviceaccounts".into() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_approved_waits_for_the_api_server_and_is_then_done() {
    let world = world(web()).await;
    let asked = world.approved_while_away().await;
    world.pass(10).await;
    assert_eq!(world.now(&asked).await.because.as_str(), "", "what is over in seconds is not told");
    world.pass(80).await;
    let waits = world.now(&asked).await;
    assert_eq!(waits.state, ApprovalState::Approved);
    assert!(waits.because.as_str().starts_with("waits: "), "{}", waits.because);
    assert_eq!(world.store.parked_count().await.unwrap(), 0);
    assert!(world.execute.away.why(world.clock.now()).is_some());
    world.cluster.release();
    world.pass(31).await;
    let done = world.now(&asked).await;
    assert_eq!((done.state, world.replicas(), world.writes()), (ApprovalState::Executed, 4.into(), 1));
    assert!(world.execute.away.why(world.clock.now()).is_none());
    assert_eq!(done.because.as_str(), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_approved_is_not_done_after_its_time() {
    let world = world(web()).await;
    let asked = world.approved_while_away().await;
    world.clock.set(world.now(&asked).await.expires_at);
    world.pass(31).await;
    let ended = world.now(&asked).await;
    assert_eq!(ended.state, ApprovalState::Withdrawn);
    assert!(ended.because.as_str().contains("time ran out"), "{}", ended.because);
    world.cluster.release();
    world.pass(31).await;
    assert_eq!((world.now(&asked).await.state, world.writes()), (ApprovalState::Withdrawn, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_as_the_api_server_went_away_is_found_done_when_it_is_back() {
    let world = world(web()).await;
    let asked = world.written_and_away().await;
    world.pass(90).await;
    assert_eq!(world.now(&asked).await.state, ApprovalState::Executing);
    assert_eq!(world.store.parked_count().await.unwrap(), 0);
    world.cluster.release();
    world.pass(31).await;
    let done = world.now(&asked).await;
    assert_eq!((done.state, world.replicas(), world.writes()), (ApprovalState::Executed, 4.into(), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_for_minutes_is_told_as_unknown_and_blocks_nothing() {
    let world = world(web()).await;
    let asked = world.written_and_away().await;
    world.pass(670).await;
    let ended = world.now(&asked).await;
    assert_eq!(ended.state, ApprovalState::OutcomeUnknown, "{}", ended.because);
    assert!(ended.because.as_str().contains("could not be read for 10 min"), "{}", ended.because);
    world.cluster.release();
    world.pass(31).await;
    assert_eq!((world.now(&asked).await.state, world.writes()), (ApprovalState::OutcomeUnknown, 1));
    // The object is free again.
    let next = world.ask(Proposal::Scale { object: web(), replicas: 2 }).await;
    assert_eq!(world.approve(&next).await.state, ApprovalState::Executed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_comes_through_after_it_was_looked_for_is_found_done() {
    let world = world(web()).await;
    let asked = world.intended_and_ended().await;
    world.cluster.fault(no_token());
    let comes_through = async {
        world.cluster.holding().await;
        world.edit(&web(), |web| {
            web["spec"]["replicas"] = 4.into();
            web["metadata"]["annotations"][APPROVAL_ANNOTATION] = asked.id.as_str().into();
        });
        world.cluster.release();
    };
    let (ran, ()) = tokio::join!(Box::pin(world.execute.run_once()), comes_through);
    assert_eq!(ran.unwrap(), Ran::Worked);
    let done = world.now(&asked).await;
    assert_eq!((done.state, world.writes()), (ApprovalState::Executed, 1), "{}", done.because);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_sent_for_minutes_is_told_as_failed_for_it_is_known_not_to_be_done() {
    let mut world = world(web()).await;
    let asked = world.intended_and_ended().await;
    // From now on a group decides, and nobody says who is in it.
    let options = GateOptions {
        store: world.store.clone(),
        reader: world.reader.clone(),
        sources: Sources::default(),
        foreign: Vec::new(),
        off: crate::govern::off::Off::default(),
        policy: Policy::parse(&POLICY.replace("[U024BE7LH]", "[\"group:S0614TZR7\"]"), "policy.yaml").unwrap(),
        redactor: Redactor::default(),
        clock: world.clock.clone(),
        metrics: Metrics::new(),
    };
    world.execute.gate = Gate::start(options).await.unwrap();
    world.pass(670).await;
    let ended = world.now(&asked).await;
    assert_eq!((ended.state, world.writes()), (ApprovalState::Failed, 0), "{}", ended.because);
    assert!(ended.because.as_str().starts_with("not sent for 10 min: "), "{}", ended.because);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_comes_through_after_its_approval_was_withdrawn_is_told_as_late_and_not_as_undone() {
    let world = world(web()).await;
    let asked = world.intended_and_ended().await;
    let over = IncidentState::Over { at: world.clock.now(), how: Ending::Resolved };
    let over = Incident { state: over, ..world.incident.clone() };
    world.store.commit(vec![Write::Incident(Box::new(over))], Durability::Durable, None).await.unwrap();
    while Box::pin(world.execute.run_once()).await.unwrap() == Ran::Worked {}
    let withdrawn = world.now(&asked).await;
    assert_eq!(withdrawn.state, ApprovalState::Withdrawn);
    let so_far = "a request for it may still be on its way, and has not come through so far";
    assert!(withdrawn.because.as_str().contains(so_far), "{}", withdrawn.because);
    // Somebody does the same by hand: that is not the request.
    world.edit(&web(), |web| web["spec"]["replicas"] = 4.into());
    world.pass(20).await;
    assert_eq!(world.now(&asked).await.state, ApprovalState::Withdrawn);
    world.edit(&web(), |web| web["metadata"]["annotations"][APPROVAL_ANNOTATION] = asked.id.as_str().into());
    world.pass(20).await;
    let late = world.now(&asked).await;
    assert_eq!((late.state, world.writes()), (ApprovalState::Executed, 0), "{}", late.because);
    assert!(late.because.as_str().starts_with("it took effect late"), "{}", late.because);
    assert!(late.inverse().is_some() && late.execution.unwrap().left.is_some(), "it can be taken back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_click_that_needs_an_api_server_which_is_away_is_answered_and_blocks_no_other() {
    let world = world(web()).await;
    let done = Box::pin(world.carry_out(Proposal::Scale { object: web(), replicas: 4 })).await;
    let asked = world.ask(Proposal::RolloutRestart { object: web() }).await;
    world.cluster.fault(Fault::Away);
    let undo = Pressed::Undo { approval: done.id.clone() };
    let mut clicks: Vec<Click> =
        (0..8).map(|n| Click { id: format!("0-undo-{n}"), ..world.click(undo.clone()) }).collect();
    clicks.push(world.click(Pressed::Approve { approval: asked.id.clone() }));
    world.store.commit(clicks.into_iter().map(Write::Click).collect(), Durability::Durable, None).await.unwrap();
    // Nine clicks, and what they lead to.
    for _ in 0..10 {
        Box::pin(world.execute.run_once()).await.unwrap();
    }
    assert!(world.store.clicks_unhandled(10).await.unwrap().is_empty());
    assert_eq!(world.store.parked_count().await.unwrap(), 0);
    assert_eq!(world.now(&asked).await.state, ApprovalState::Approved, "the ninth counts");
    let said = world.press(undo.clone()).await;
    assert!(said.starts_with("It cannot be checked now"), "{said}");
    world.cluster.release();
    assert!(world.press(undo).await.starts_with("Asked: "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_press_of_long_ago_asks_for_nothing() {
    let world = world(web()).await;
    let done = Box::pin(world.carry_out(Proposal::Scale { object: web(), replicas: 4 })).await;
    let undo = world.click(Pressed::Undo { approval: done.id.clone() });
    world.clock.set(world.clock.now() + SignedDuration::from_mins(11));
    let said = Box::pin(world.gate.press(&undo, &Groups::new())).await.unwrap();
    assert!(said.text.as_str().starts_with("Too late: your click"), "{}", said.text);
    assert_eq!(world.store.approvals_of(&world.incident.id).await.unwrap().len(), 1);
}
