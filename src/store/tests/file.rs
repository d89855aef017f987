//! The SQLite file: one daemon at a time, readers beside it, a disk that is full; and what is pruned on each engine.

use crate::clock::from_ms;
use crate::model::{ApprovalState, Ending, IncidentState};
use crate::store::tests::world::{World, on_each_engine, put, try_put};
use crate::store::{Anchor, AuditEntry, AuditFault, CommitError, Durability, OpenError, Store, Write};

#[tokio::test]
async fn what_is_old_and_over_goes_and_an_open_incident_keeps_everything() {
    on_each_engine(async |world| {
        let store = world.open().await;
        let audit = |id: &str| {
            let incident = Some(world.incident(id).id);
            Write::Audit(AuditEntry { at: world.now(), kind: "call", incident, body: serde_json::json!({}) })
        };
        for (n, id) in ["i1", "i2"].into_iter().enumerate() {
            let (signal, incident) = (world.signal(n as u32), world.incident(id));
            let approval = world.approval(&format!("a{n}"), &incident.id, ApprovalState::Expired);
            let place = Write::Place { signal: signal.id.clone(), incident: incident.id.clone() };
            let evidence =
                Write::Evidence { incident: incident.id.clone(), evidence: world.evidence(1, None), replace: false };
            let approval = Write::Approval { approval: Box::new(approval), was: None };
            put(&store, [Write::Signals(vec![signal]), Write::Incident(Box::new(incident)), place, evidence, approval])
                .await;
        }
        put(&store, ["i1", "i1", "i2", "i1"].map(audit)).await;
        let head = store.seal(100).await.unwrap();
        let mut over = world.incident("i1");
        over.state = IncidentState::Over { at: world.now(), how: Ending::Resolved };
        put(&store, [Write::Incident(Box::new(over.clone()))]).await;
        assert_eq!(store.prune(world.now(), 10).await.unwrap(), 0, "nothing is that old");

        let open = world.incident("i2");
        let soon = from_ms(world.clock.now_ms() + 1);
        assert_eq!(store.prune(soon, 10).await.unwrap(), 4, "signal, evidence, approval, incident");
        assert_eq!(store.prune(soon, 10).await.unwrap(), 0, "of the audit nothing goes within its first hour");
        let seen = head.clone().map(|(_, hash)| Anchor { number: 1, hash, seen: Some(world.now()) }).unwrap();
        world.pass_ms(3_600_001);
        let later = world.now();
        assert_eq!(store.prune(later, 10).await.unwrap(), 2, "two entries");
        assert_eq!(store.prune(later, 10).await.unwrap(), 0);
        assert_eq!(store.incident(&over.id).await.unwrap(), None);
        assert!(store.signals_of(&over.id, 10).await.unwrap().is_empty());
        assert_eq!(store.open_incidents().await.unwrap(), std::slice::from_ref(&open));
        assert_eq!(store.evidence(&open.id).await.unwrap().len(), 1);
        let verdict = store.audit_verify(&[]).await.unwrap();
        assert_eq!((verdict.sealed, verdict.head, verdict.fault), (2, head, None), "the rest of the chain is proved");
        let cut = verdict.cut.unwrap();
        assert_eq!((cut.number, cut.count, verdict.unsealed), (2, 2, 1), "a cut counts as told before it is sealed");
        assert_eq!((cut.at, cut.took.map(|took| (took.room, took.before()))), (later, Some((false, soon))));
        store.seal(100).await.unwrap();
        let verdict = store.audit_verify(std::slice::from_ref(&seen)).await.unwrap();
        assert_eq!((verdict.sealed, verdict.cut, verdict.fault), (3, Some(cut), None));
        assert_eq!((verdict.anchors_before_cut, verdict.anchors_dated), (1, 1));
        // An anchor that saw what was taken at a time when it cannot have been old.
        let young = Anchor { seen: Some(from_ms(later.as_millisecond() + 1)), ..seen };
        assert_eq!(store.audit_verify(&[young]).await.unwrap().fault, Some(AuditFault::Young { number: 1 }));
        // Who only takes the entry away that tells of it is seen like everybody else.
        world.tamper("UPDATE chain SET base_number = 3, base_hash = (SELECT hash FROM audit WHERE number = 3)").await;
        let fault = store.audit_verify(&[]).await.unwrap().fault;
        assert_eq!(fault, Some(AuditFault::Uncut { number: 3 }));
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_second_daemon_on_the_same_file_is_refused_by_name() {
    let world = World::new(None);
    let store = world.open().await;
    put(&store, [Write::Signals(vec![world.signal(1)])]).await;
    match world.try_open().await {
        Err(error @ OpenError::Locked { .. }) => {
            let said = error.to_string();
            assert!(said.contains("firstlook.db is in use by firstlook, process"), "{said}");
        }
        other => panic!("expected a refusal, not {:?}", other.err()),
    }
    // Commands that only read need no lock, and see what is committed.
    let reader = world.open_read_only().await.unwrap();
    assert_eq!(reader.signals_unresolved(10).await.unwrap().len(), 1);
    assert!(try_put(&reader, [Write::Signals(vec![world.signal(2)])], None).await.is_err());
    reader.close().await;
    store.close().await;
    let reader = world.open_read_only().await.unwrap();
    assert_eq!(reader.signals_unresolved(10).await.unwrap().len(), 1, "also without a daemon");
    reader.close().await;
    world.open().await.close().await;
}

#[tokio::test]
async fn a_full_disk_refuses_the_write_loses_nothing_and_is_got_over() {
    let mut world = World::new(None);
    world.options.size_max_bytes = Some(600_000);
    let store = world.open().await;
    let mut stored = 0;
    let refused = loop {
        let next: Vec<_> = (stored..stored + 50).map(|n| world.signal(n)).collect();
        match try_put(&store, [Write::Signals(next)], None).await {
            Ok(()) => stored += 50,
            Err(error) => break error,
        }
        assert!(stored < 5_000, "the bound was never reached");
    };
    assert!(matches!(refused, CommitError::Full(_)), "{refused:?}");
    assert_eq!(store.signals_unresolved(10_000).await.unwrap().len(), stored as usize);
    world.tamper("DELETE FROM signal WHERE seq > 100").await;
    put(&store, [Write::Signals(vec![world.signal(stored)])]).await;
    assert_eq!(store.signals_unresolved(10_000).await.unwrap().len(), 101);
    store.close().await;
}

#[tokio::test]
async fn a_probe_commits_only_what_no_other_commit_has_shown_lately() {
    let mut world = World::new(None);
    world.options.size_max_bytes = Some(600_000);
    let store = world.open().await;
    let beaten = async |sql: &'static str| world.tamper(sql).await == 1;
    for _ in 0..20 {
        store.answers().await.unwrap();
    }
    assert!(beaten("UPDATE pulse SET beats = beats WHERE beats = 1").await, "the first alone");
    world.pass_ms(29_000);
    put(&store, [Write::Signals(vec![world.signal(0)])]).await;
    world.pass_ms(29_000);
    store.answers().await.unwrap();
    assert!(beaten("UPDATE pulse SET beats = beats WHERE beats = 1").await, "a signal shows as much");
    world.pass_ms(1_000);
    store.answers().await.unwrap();
    assert!(beaten("UPDATE pulse SET beats = beats WHERE beats = 2").await, "nothing was written for long");
    // What was refused for want of room is not made good by what went through before it.
    let many = |n: u32| Write::Signals((n..n + 50).map(|n| world.signal(n)).collect());
    let mut from = 1;
    while try_put(&store, [many(from)], None).await.is_ok() {
        from += 50;
    }
    store.answers().await.unwrap();
    assert!(beaten("UPDATE pulse SET beats = beats WHERE beats = 3").await, "asked anew");
    world.tamper("DROP TABLE pulse").await;
    store.answers().await.unwrap();
    world.pass_ms(30_000);
    assert!(store.answers().await.is_err(), "red while nothing can be written");
    assert!(store.answers().await.is_err());
    world.tamper("CREATE TABLE pulse AS SELECT 1 AS one, 0 AS beats").await;
    store.answers().await.unwrap();
    store.close().await;
    assert!(store.answers().await.is_err(), "its writer is gone");
}

/// Futures of the store go into spawned tasks.
#[test]
fn the_store_can_be_used_from_any_task() {
    fn is_send<T: Send>(_: &T) {}
    fn ask(store: &Store) {
        is_send(&store.commit(vec![], Durability::Soon, None));
        is_send(&store.open_incidents());
        is_send(&store.seal(1));
    }
    let _ = ask;
    let _ = AuditEntry { at: from_ms(0), kind: "call", incident: None, body: serde_json::Value::Null };
}
