//! The audit chain: what was sealed cannot be changed, taken out or moved without being seen.

use std::time::Duration;

use crate::store::tests::world::{World, on_each_engine, put};
use crate::store::{Anchor, AuditEntry, AuditFault, AuditVerdict, Store, Write};

fn entry(world: &World, n: u32) -> Write {
    let body = serde_json::json!({"tool": "pod_logs", "n": n});
    Write::Audit(AuditEntry { at: world.now(), kind: "call", incident: Some(world.incident("i1").id), body })
}

async fn sealed(world: &World) -> Store {
    let store = world.open().await;
    put(&store, (0..6).map(|n| entry(world, n))).await;
    assert_eq!(store.seal(4).await.unwrap().unwrap().0, 4);
    let head = store.seal(100).await.unwrap().unwrap();
    assert_eq!(head.0, 6);
    assert_eq!(store.seal(100).await.unwrap(), None);
    put(&store, [entry(world, 6)]).await;
    assert_eq!(store.audit_head().await.unwrap(), Some(head));
    store
}

#[tokio::test]
async fn a_whole_chain_is_proved_and_its_unsealed_tail_told_apart() {
    on_each_engine(async |world| {
        let store = world.open().await;
        let empty = AuditVerdict::default();
        assert_eq!(store.audit_verify(&[]).await.unwrap(), empty);
        store.close().await;
        let store = sealed(world).await;
        let head = store.audit_head().await.unwrap();
        store.close().await;
        let reader = world.open_read_only().await.unwrap();
        let verdict = AuditVerdict { sealed: 6, head, unsealed: 1, ..AuditVerdict::default() };
        assert_eq!(reader.audit_verify(&[]).await.unwrap(), verdict);
        reader.close().await;
    })
    .await;
}

#[tokio::test]
async fn each_way_of_tampering_is_seen() {
    let ways: [(&'static str, AuditFault); 8] = [
        (
            "UPDATE audit SET body = replace(body, '\"n\":2', '\"n\":9') WHERE number = 3",
            AuditFault::Changed { number: 3 },
        ),
        ("UPDATE audit SET kind = 'click' WHERE number = 3", AuditFault::Changed { number: 3 }),
        ("UPDATE audit SET incident = NULL WHERE number = 3", AuditFault::Changed { number: 3 }),
        ("UPDATE audit SET at_ms = 5 WHERE number = 6", AuditFault::Changed { number: 6 }),
        ("DELETE FROM audit WHERE number = 1", AuditFault::Gone { number: 1 }),
        ("DELETE FROM audit WHERE number = 5", AuditFault::Gone { number: 5 }),
        ("DELETE FROM audit WHERE number = 6", AuditFault::Gone { number: 6 }),
        ("UPDATE audit SET number = NULL, hash = NULL WHERE number = 6", AuditFault::Gone { number: 6 }),
    ];
    on_each_engine(async |world| {
        sealed(world).await.close().await;
        for (tampering, fault) in &ways {
            world.tamper("CREATE TABLE untouched AS SELECT * FROM audit").await;
            assert_eq!(world.tamper(tampering).await, 1, "{tampering}");
            let reader = world.open_read_only().await.unwrap();
            let verdict = reader.audit_verify(&[]).await.unwrap();
            assert_eq!(verdict.fault.as_ref(), Some(fault), "{tampering}");
            reader.close().await;
            world.tamper("DELETE FROM audit").await;
            let back = if world.is_lite() {
                "INSERT INTO audit SELECT * FROM untouched"
            } else {
                "INSERT INTO audit OVERRIDING SYSTEM VALUE SELECT * FROM untouched"
            };
            world.tamper(back).await;
            world.tamper("DROP TABLE untouched").await;
        }
    })
    .await;
}

#[tokio::test]
async fn entries_that_change_places_are_seen() {
    on_each_engine(async |world| {
        sealed(world).await.close().await;
        world.tamper("UPDATE audit SET number = 100 WHERE number = 2").await;
        world.tamper("UPDATE audit SET number = 2 WHERE number = 4").await;
        world.tamper("UPDATE audit SET number = 4 WHERE number = 100").await;
        let reader = world.open_read_only().await.unwrap();
        let verdict = reader.audit_verify(&[]).await.unwrap();
        assert_eq!((verdict.sealed, verdict.fault), (1, Some(AuditFault::Changed { number: 2 })));
        reader.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_chain_that_was_cut_or_prolonged_behind_its_head_is_seen() {
    on_each_engine(async |world| {
        sealed(world).await.close().await;
        world.tamper("UPDATE chain SET hash = 'x'").await;
        let reader = world.open_read_only().await.unwrap();
        assert_eq!(reader.audit_verify(&[]).await.unwrap().fault, Some(AuditFault::Head { number: 6 }));
        reader.close().await;
    })
    .await;
    on_each_engine(async |world| {
        sealed(world).await.close().await;
        world.tamper("UPDATE chain SET number = 5, hash = (SELECT hash FROM audit WHERE number = 5)").await;
        let reader = world.open_read_only().await.unwrap();
        assert_eq!(
            reader.audit_verify(&[]).await.unwrap().fault,
            Some(AuditFault::Head { number: 5 }),
            "one behind it"
        );
        reader.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_anchor_from_outside_sees_an_end_that_was_cut_off() {
    on_each_engine(async |world| {
        let store = sealed(world).await;
        let (number, hash) = store.audit_head().await.unwrap().unwrap();
        let anchor = Anchor { number, hash: hash[..16].to_owned(), seen: None };
        let verdict = store.audit_verify(std::slice::from_ref(&anchor)).await.unwrap();
        assert_eq!((verdict.anchored, verdict.fault), (1, None));
        store.close().await;
        world.tamper("DELETE FROM audit WHERE number = 6").await;
        world.tamper("UPDATE chain SET number = 5, hash = (SELECT hash FROM audit WHERE number = 5)").await;
        let reader = world.open_read_only().await.unwrap();
        assert_eq!(reader.audit_verify(&[]).await.unwrap().fault, None, "alone the chain cannot tell");
        let short = AuditFault::Short { head: 5, anchor: 6 };
        assert_eq!(reader.audit_verify(&[anchor]).await.unwrap().fault, Some(short));
        reader.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_export_holds_the_very_texts_that_were_hashed() {
    use sha2::{Digest as _, Sha256};

    on_each_engine(async |world| {
        let store = sealed(world).await;
        let mut lines = Vec::new();
        let told = store.audit_export(|line| {
            lines.push(line.to_owned());
            Ok(())
        });
        assert_eq!(told.await.unwrap(), 7);
        let mut hash = "0".repeat(64);
        for line in &lines[..6] {
            let (before, text) = line.split_once(r#","entry":"#).unwrap();
            hash = hex::encode(Sha256::digest(format!("{hash}{}", text.strip_suffix('}').unwrap())));
            assert!(before.ends_with(&format!(r#""hash":"{hash}""#)), "{line}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(line).unwrap()["entry"]["kind"], "call");
        }
        assert!(lines[6].starts_with(r#"{"number":null"#), "{}", lines[6]);
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_write_can_wait_until_its_intent_is_sealed() {
    on_each_engine(async |world| {
        let store = sealed(world).await;
        let tail = store.audit_tail().await.unwrap();
        assert!(!store.is_sealed(tail).await.unwrap());
        assert!(!store.wait_sealed(tail, Duration::ZERO).await.unwrap());
        let (waited, head) = tokio::join!(store.wait_sealed(tail, Duration::from_secs(10)), store.seal(100));
        assert!(waited.unwrap());
        assert_eq!(head.unwrap().unwrap().0, 7);
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_cut_that_somebody_forged_in_the_database_is_seen() {
    on_each_engine(async |world| {
        sealed(world).await.close().await;
        // The head is taken, and an entry inserted as retention writes it; the daemon seals it like any other.
        world.tamper("UPDATE chain SET base_number = 2, base_hash = (SELECT hash FROM audit WHERE number = 2)").await;
        world.tamper("DELETE FROM audit WHERE number <= 2").await;
        world
            .tamper(
                "INSERT INTO audit (cluster, at_ms, kind, body) SELECT 'prod', 1800000000000, 'cut',
                 '{\"at_ms\":1800000000000,\"cluster\":\"prod\",\"kind\":\"cut\",\"incident\":null,\"body\":{\"number\":2,\"hash\":\"'
                 || base_hash || '\",\"count\":2,\"from\":0,\"before_ms\":1799999990000,\"newest_ms\":1799999980000,\"room\":false}}'
                 FROM chain",
            )
            .await;
        let fault = Some(AuditFault::NoCut { number: 2, why: "it took what was too young" });
        let store = world.open().await;
        assert_eq!(store.audit_verify(&[]).await.unwrap().fault, fault, "before it is sealed");
        store.seal(100).await.unwrap();
        assert_eq!(store.audit_verify(&[]).await.unwrap().fault, fault);
        store.close().await;
    })
    .await;
}
