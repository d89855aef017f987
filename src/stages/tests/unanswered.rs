//! The end of an investigation whose model, or whose cluster, gives no answer.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::World;
use super::changes::{web, world};
use crate::agent::llm::{Llm, LlmOptions};
use crate::clock::Clock;
use crate::model::{
    ApprovalState, Certainty, Investigation, InvestigationState, Origin, Proposal, Report, Review, Room,
};
use crate::redact::Redactor;
use crate::sim::cluster::Fault;
use crate::sim::model::ScriptedModel;
use crate::stages::Ran;
use crate::stages::investigate::Investigate;
use crate::store::{Durability, Write};
use crate::telemetry::Metrics;

/// The stage on a clock that runs, so that it may wait, over the incident's investigation that waits.
async fn stage(world: &World, llm: Option<Llm>) -> Investigate {
    let (incident, investigation) = (world.incident.id.clone(), Investigation::unbegun(InvestigationState::Waiting));
    let write = Write::Investigation { incident, investigation };
    world.store.commit(vec![write], Durability::Soon, None).await.unwrap();
    Investigate {
        store: world.store.clone(),
        gate: world.gate.clone(),
        llm,
        price: None,
        purse: tokio::sync::Mutex::default(),
        clock: Clock::system(),
        redactor: Redactor::default(),
        metrics: Metrics::new(),
        away: Default::default(),
    }
}

/// A model that answers this once.
async fn model(answer: Value, stop: &CancellationToken) -> Llm {
    let files = BTreeMap::from([("model/1/0001.json".to_owned(), answer.to_string().into_bytes())]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = LlmOptions {
        base_url: format!("http://{}/v1", listener.local_addr().unwrap()),
        model: "scripted".into(),
        api_key: None,
        turn_timeout: std::time::Duration::from_secs(20),
        room: Room::default(),
    };
    let router = ScriptedModel::from_files(&files).unwrap().router();
    tokio::spawn(crate::http::serve(listener, router, stop.clone()));
    Llm::new(options, Redactor::default()).unwrap()
}

async fn investigation(world: &World) -> Investigation {
    world.store.incident(&world.incident.id).await.unwrap().unwrap().investigation
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_asks_to_wait_an_hour_keeps_nobody_waiting_and_costs_nothing() {
    let (world, stop) = (world(web()).await, CancellationToken::new());
    let limited = json!({"status": 429, "headers": {"retry-after": "3600"}, "body": "slow down"});
    let stage = stage(&world, Some(model(limited, &stop).await)).await;
    assert_eq!(Box::pin(stage.run_once()).await.unwrap(), Ran::Worked);
    let why = "provider asks to wait 3600 s".into();
    assert_eq!(investigation(&world).await.state, InvestigationState::Failed { why });
    let spent = world.store.spent_since(jiff::Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(spent, (0, 0));
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_may_have_been_billed_stays_charged() {
    for (answer, free) in [
        (json!({"status": 401, "body": {"error": "bad key"}}), true),
        (json!({"status": 413, "body": "too long"}), true),
        (json!({"status": 200, "body": "half an answ"}), false),
    ] {
        let (world, stop) = (world(web()).await, CancellationToken::new());
        let stage = stage(&world, Some(model(answer.clone(), &stop).await)).await;
        assert_eq!(Box::pin(stage.run_once()).await.unwrap(), Ran::Worked);
        let (spent, _) = world.store.spent_since(jiff::Timestamp::UNIX_EPOCH).await.unwrap();
        assert_eq!(spent == 0, free, "{answer}: {spent}");
        stop.cancel();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_cannot_be_checked_is_tried_for_minutes_and_then_refused_with_the_reason() {
    let world = world(web()).await;
    let report = Report {
        origin: Origin::Findings,
        headline: "web fails".into(),
        cause: "".into(),
        certainty: Certainty::Likely,
        culprit: None,
        citations: Vec::new(),
        ruled_out: Vec::new(),
        advice: None,
        proposals: vec![Proposal::RolloutRestart { object: web() }],
        reasoning: Vec::new(),
        struck: 0,
        review: Review::NotNeeded,
        about: None,
    };
    let incident = world.incident.id.clone();
    let write = Write::Report { incident: incident.clone(), report: Box::new(report) };
    world.store.commit(vec![write], Durability::Soon, None).await.unwrap();
    let stage = stage(&world, None).await;
    world.cluster.fault(Fault::Away);
    for _ in 0..6 {
        // More often than a unit may fail.
        assert_eq!(Box::pin(stage.run_once()).await.unwrap(), Ran::Worked);
        let waits = investigation(&world).await;
        assert_eq!((waits.state, waits.ending), (InvestigationState::Waiting, Some(InvestigationState::Off)));
        assert!(world.store.approvals_of(&incident).await.unwrap().is_empty());
        // Its time comes by the clock of the store.
        world.clock.set(world.clock.now() + SignedDuration::from_hours(24 * 365 * 30));
    }
    assert_eq!(world.store.parked_count().await.unwrap(), 0);
    let now = stage.clock.now();
    stage.away.forget(incident.as_str());
    stage.away.note(incident.as_str(), &"the API server is away".into(), now - SignedDuration::from_mins(5));
    assert_eq!(Box::pin(stage.run_once()).await.unwrap(), Ran::Worked);
    let ended = investigation(&world).await;
    assert_eq!((ended.state, ended.ending), (InvestigationState::Off, None));
    let approvals = world.store.approvals_of(&incident).await.unwrap();
    assert_eq!(approvals.len(), 1);
    assert_eq!(approvals[0].state, ApprovalState::Refused);
    let why = approvals[0].because.as_str();
    assert!(why.starts_with("it could not be checked: "), "{why}");
}
