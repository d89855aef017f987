//! Claims: one holder at a time, no commit under a lost one, five failures and no more.

use std::collections::HashSet;
use std::time::Duration;

use crate::model::ApprovalState;
use crate::store::tests::world::{World, on_each_engine, put, try_put};
use crate::store::{CommitError, Write};

const LEASE: Duration = Duration::from_secs(30);
/// A lease that is over at once, on any clock.
const OVER: Duration = Duration::ZERO;

#[tokio::test]
async fn a_lost_claim_cannot_commit() {
    on_each_engine(async |world| {
        let store = world.open().await;
        let first = store.claim("deliver", "i1", OVER).await.unwrap().unwrap();
        let alone = [Write::Signals(vec![world.signal(1)])];
        try_put(&store, alone, Some(&first)).await.unwrap();

        let second = store.claim("deliver", "i1", LEASE).await.unwrap().unwrap();
        assert_eq!((first.attempt, second.attempt), (1, 2));
        assert_eq!(store.claim("deliver", "i1", LEASE).await.unwrap(), None, "it is held");
        let late = try_put(&store, [Write::Signals(vec![world.signal(2)])], Some(&first)).await;
        assert!(matches!(late, Err(CommitError::LostClaim)), "{late:?}");
        assert!(!store.renew(&first, LEASE).await.unwrap());
        assert!(store.renew(&second, LEASE).await.unwrap());
        assert_eq!(store.signals_unresolved(10).await.unwrap().len(), 1);

        put(&store, [Write::Signals(vec![world.signal(3)]), Write::Release(second.clone())]).await;
        let gone = try_put(&store, [Write::Release(second)], None).await;
        assert!(matches!(gone, Err(CommitError::LostClaim)), "{gone:?}");
        let fresh = store.claim("deliver", "i1", LEASE).await.unwrap().unwrap();
        assert_eq!(fresh.attempt, 1, "done units start anew");
        assert!(store.claim("investigate", "i1", LEASE).await.unwrap().is_some(), "another stage is another claim");
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_unit_that_failed_five_times_is_parked() {
    on_each_engine(async |world| {
        let store = world.open().await;
        let incident = world.incident("i1");
        put(&store, [Write::Incident(Box::new(incident.clone()))]).await;
        put(&store, [Write::Delivered { incident: incident.id.clone(), version: 1 }]).await;
        let returned = store.claim("investigate", "i1", LEASE).await.unwrap().unwrap();
        store.postpone(returned, world.now()).await.unwrap();
        for attempt in 1..=5 {
            assert!(store.parked(&incident.id).await.unwrap().is_empty());
            assert_eq!(store.to_investigate(10).await.unwrap().len(), 1);
            let claim = store.claim("investigate", "i1", LEASE).await.unwrap().unwrap();
            assert_eq!(claim.attempt, attempt, "what was postponed is no attempt");
            assert!(store.to_investigate(10).await.unwrap().is_empty(), "held");
            store.fail(claim, world.now()).await.unwrap();
        }
        assert_eq!(store.claim("investigate", "i1", LEASE).await.unwrap(), None);
        let parked = store.parked(&incident.id).await.unwrap();
        assert_eq!((parked.len(), parked[0].stage.as_str()), (1, "investigate"));
        assert!(store.to_investigate(10).await.unwrap().is_empty(), "it keeps no other from its turn");
        assert_eq!(store.undelivered(10).await.unwrap().len(), 1, "its card says so");
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_parked_is_tried_again_after_a_new_signal_or_a_restart() {
    on_each_engine(async |world| {
        let mut store = world.open().await;
        let incident = world.incident("i1");
        put(&store, [Write::Incident(Box::new(incident.clone())), Write::Signals(vec![world.signal(1)])]).await;
        for news in ["signal", "restart"] {
            for _ in 0..5 {
                let claim = store.claim("investigate", "i1", LEASE).await.unwrap().unwrap();
                store.fail(claim, world.now()).await.unwrap();
            }
            assert_eq!(store.card(&incident.id).await.unwrap().unwrap().parked, ["investigate"]);
            assert_eq!(store.parked_count().await.unwrap(), 1);
            let version = store.undelivered(1).await.unwrap().pop().unwrap().version;
            put(&store, [Write::Delivered { incident: incident.id.clone(), version }]).await;
            if news == "signal" {
                put(&store, [Write::Place { signal: world.signal(1).id, incident: incident.id.clone() }]).await;
            } else {
                store.close().await;
                store = world.open().await;
            }
            assert_eq!(store.parked_count().await.unwrap(), 0, "{news}");
            assert_eq!(store.undelivered(10).await.unwrap().len(), 1, "its card does not say so any more");
            let claim = store.claim("investigate", "i1", LEASE).await.unwrap().unwrap();
            assert_eq!(claim.attempt, 1);
            store.release(claim).await.unwrap();
        }
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn eight_units_that_wait_or_are_parked_hide_no_ninth() {
    on_each_engine(async |world| {
        let store = world.open().await;
        let incident = world.incident("i1");
        put(&store, [Write::Incident(Box::new(incident.clone()))]).await;
        let states = [ApprovalState::Approved];
        for n in 1..=9 {
            let approval = world.approval(&format!("a{n}"), &incident.id, ApprovalState::Approved);
            let click = world.click(&format!("U{n}-approve-1700000000.1"));
            put(&store, [Write::Approval { approval: Box::new(approval), was: None }, Write::Click(click)]).await;
        }
        let units: Vec<String> = store.clicks_unhandled(8).await.unwrap().into_iter().map(|click| click.id).collect();
        for (n, unit) in (1..=8).zip(&units) {
            let attempts = if n % 2 == 0 { 5 } else { 1 };
            for (stage, unit) in [("click", unit.clone()), ("execute", format!("a{n}"))] {
                for attempt in 1..=attempts {
                    let claim = store.claim(stage, &unit, LEASE).await.unwrap().unwrap();
                    let until = if attempt == attempts { 60 } else { 0 };
                    store.fail(claim, world.now() + jiff::SignedDuration::from_secs(until)).await.unwrap();
                }
            }
        }
        let ninth = store.clicks_unhandled(8).await.unwrap();
        assert_eq!((ninth.len(), units.contains(&ninth[0].id)), (1, false));
        let free = store.approvals_free("execute", &states, 8).await.unwrap();
        assert_eq!(free.iter().map(|approval| approval.id.as_str()).collect::<Vec<_>>(), ["a9"]);
        assert_eq!(store.approvals_in(&states, 10).await.unwrap().len(), 9);
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_only_keeps_others_out_is_never_parked() {
    on_each_engine(async |world| {
        let mut store = world.open().await;
        for _ in 0..7 {
            let held = store.exclude("correlate", "all", OVER).await.unwrap();
            assert!(held.is_some(), "however often it ended badly");
            store.close().await;
            store = world.open().await;
        }
        let held = store.exclude("correlate", "all", LEASE).await.unwrap().unwrap();
        assert_eq!(store.exclude("correlate", "all", LEASE).await.unwrap(), None);
        assert_eq!(store.parked_count().await.unwrap(), 0);
        store.release(held).await.unwrap();
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_ended_with_its_process_at_the_last_attempt_is_told_on_its_card() {
    on_each_engine(async |world| {
        let store = world.open().await;
        let incident = world.incident("i1");
        let approval = world.approval("a1", &incident.id, ApprovalState::Approved);
        put(&store, [Write::Incident(Box::new(incident.clone()))]).await;
        put(&store, [Write::Approval { approval: Box::new(approval), was: None }]).await;
        let version = store.undelivered(1).await.unwrap().pop().unwrap().version;
        put(&store, [Write::Delivered { incident: incident.id.clone(), version }]).await;
        for _ in 0..4 {
            store.claim("execute", "a1", OVER).await.unwrap().unwrap();
            assert!(!store.bury(OVER).await.unwrap(), "it is tried again");
        }
        store.claim("execute", "a1", OVER).await.unwrap().unwrap();
        assert!(!store.bury(LEASE).await.unwrap(), "its process may be slow");
        assert!(store.undelivered(1).await.unwrap().is_empty());
        assert!(store.bury(OVER).await.unwrap() && !store.bury(OVER).await.unwrap());
        assert_eq!(store.card(&incident.id).await.unwrap().unwrap().parked, ["execute"]);
        assert_eq!(store.undelivered(1).await.unwrap().len(), 1, "its card says so");
        store.close().await;
        // No start gives it another try: it may take down every process.
        let store = world.open().await;
        assert_eq!(store.claim("execute", "a1", LEASE).await.unwrap(), None);
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_took_five_processes_down_is_not_tried_by_a_sixth() {
    let world = World::new(None);
    for _ in 0..5 {
        let store = world.open().await;
        store.claim("investigate", "i1", LEASE).await.unwrap().unwrap();
        store.close().await;
    }
    for _ in 0..2 {
        let store = world.open().await;
        assert_eq!(store.claim("investigate", "i1", LEASE).await.unwrap(), None);
        store.close().await;
    }
}

#[tokio::test]
async fn a_failed_or_postponed_unit_waits_for_its_time() {
    on_each_engine(async |world| {
        let store = world.open().await;
        let later = world.now() + jiff::SignedDuration::from_secs(60);
        for (unit, failed) in [("i1", true), ("i2", false)] {
            let claim = store.claim("deliver", unit, LEASE).await.unwrap().unwrap();
            if failed {
                store.fail(claim, later).await.unwrap();
            } else {
                store.postpone(claim, later).await.unwrap();
            }
            assert_eq!(store.claim("deliver", unit, LEASE).await.unwrap(), None);
        }
        if world.is_lite() {
            world.pass_ms(60_000);
            let again = store.claim("deliver", "i1", LEASE).await.unwrap().unwrap();
            assert_eq!(again.attempt, 2);
            assert_eq!(store.claim("deliver", "i2", LEASE).await.unwrap().unwrap().attempt, 1);
            store.release(again).await.unwrap();
            assert_eq!(store.claim("deliver", "i1", LEASE).await.unwrap().unwrap().attempt, 1, "done, so forgotten");
        }
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn eight_workers_never_hold_the_same_unit() {
    on_each_engine(async |world| {
        let store = world.open().await;
        let worker = async |_: usize| {
            let mut mine = Vec::new();
            for unit in 0..40 {
                if let Some(claim) = store.claim("resolve", &format!("s{unit}"), LEASE).await.unwrap() {
                    mine.push(claim.unit);
                }
            }
            mine
        };
        let held: Vec<String> = futures::future::join_all((0..8).map(worker)).await.into_iter().flatten().collect();
        assert_eq!((held.len(), held.iter().collect::<HashSet<_>>().len()), (40, 40));
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn claims_of_a_process_that_is_gone_are_void_on_sqlite() {
    on_each_engine(async |world| {
        let store = world.open().await;
        let claim = store.claim("execute", "a1", LEASE).await.unwrap().unwrap();
        store.close().await;
        let store = world.open().await;
        let next = store.claim("execute", "a1", LEASE).await.unwrap();
        if world.is_lite() {
            assert_eq!(next.unwrap().attempt, 2, "the attempt still counts");
            let late = try_put(&store, [Write::Signals(vec![world.signal(1)])], Some(&claim)).await;
            assert!(matches!(late, Err(CommitError::LostClaim)));
        } else {
            assert_eq!(next, None, "another process may be at it");
        }
        store.close().await;
    })
    .await;
}
