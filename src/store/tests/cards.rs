//! Cards and posts: what is due, in which order, and what a card is assembled from.

use std::sync::Arc;

use jiff::SignedDuration;

use crate::model::{ApprovalState, Incident, InvestigationState, Nonce, Post, PostKind, Scene};
use crate::redact::Redacted;
use crate::store::tests::place;
use crate::store::tests::world::{conflict, investigation, on_each_engine, put, try_put};
use crate::store::{Due, Write};

#[tokio::test]
async fn a_card_is_due_until_its_newest_version_is_delivered() {
    on_each_engine(async |world| {
        let store = world.open().await;
        let incident = world.incident("i1");
        put(&store, [Write::Incident(Box::new(incident.clone()))]).await;
        let due = |version, has_card| [Due { incident: incident.id.clone(), version, has_card }];
        assert_eq!(store.undelivered(10).await.unwrap(), due(1, false));
        let delivered = |version| [Write::Delivered { incident: incident.id.clone(), version }];
        put(&store, delivered(1)).await;
        assert!(store.undelivered(10).await.unwrap().is_empty());

        // A commit counts once, however much it changes; a version that is outdated leaves the card due.
        let scene = Box::new(world.scene());
        put(&store, [Write::Scene { scene }, Write::Signals(vec![world.signal(1)]), place(world, 1, &incident)]).await;
        let findings = Write::Findings { incident: incident.id.clone(), findings: vec![] };
        put(&store, [findings]).await;
        let newest = store.undelivered(10).await.unwrap()[0].version;
        put(&store, delivered(newest - 1)).await;
        assert_eq!(store.undelivered(10).await.unwrap(), due(newest, false));
        put(&store, delivered(newest)).await;
        put(&store, delivered(newest - 1)).await;
        assert!(store.undelivered(10).await.unwrap().is_empty());
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_post_does_not_call_for_the_next_one_and_each_kind_stands_once() {
    on_each_engine(async |world| {
        let store = world.open().await;
        let incident = world.incident("i1");
        let delivered = Write::Delivered { incident: incident.id.clone(), version: 1 };
        put(&store, [Write::Incident(Box::new(incident.clone())), Write::Signals(vec![world.signal(1)])]).await;
        put(&store, [delivered]).await;
        let post = Post {
            nonce: Nonce::parse("n1").unwrap(),
            cluster: incident.cluster.clone(),
            incident: incident.id.clone(),
            kind: PostKind::Card,
            channel: "C1".into(),
            posting_at: world.now(),
            absent_reads: 0,
            ts: None,
            rendered: "".into(),
        };
        put(&store, [Write::Post(post.clone())]).await;
        assert!(store.undelivered(10).await.unwrap().is_empty());
        let known = Post { ts: Some("1.2".into()), ..post.clone() };
        put(&store, [Write::Post(known.clone())]).await;
        let other = Post { nonce: Nonce::parse("n2").unwrap(), ..post.clone() };
        let what = conflict(try_put(&store, [Write::Post(other.clone())], None).await);
        assert_eq!(what, "incident i1 has another post of kind card");

        // An incident without any card comes before one whose card is older than its facts.
        put(&store, [place(world, 1, &incident), Write::Incident(Box::new(world.incident("i2")))]).await;
        let waiting: Vec<_> = store.undelivered(10).await.unwrap().into_iter().map(|due| due.has_card).collect();
        assert_eq!(waiting, [false, true]);
        let reply = Post {
            kind: PostKind::Reply { key: "details".into() },
            posting_at: world.now() + SignedDuration::from_secs(1),
            ..other
        };
        put(&store, [Write::Post(reply)]).await;
        assert_eq!(store.posts_of(&incident.id).await.unwrap().len(), 2);
        assert!(store.posts_of(&incident.id).await.unwrap().contains(&known));
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_incident_is_rewritten_without_its_investigation() {
    on_each_engine(async |world| {
        let store = world.open().await;
        let mut incident = world.incident("i1");
        put(&store, [Write::Incident(Box::new(incident.clone()))]).await;
        incident.severity = crate::model::Severity::Critical;
        let running = investigation(InvestigationState::Running);
        let write = Write::Investigation { incident: incident.id.clone(), investigation: running.clone() };
        put(&store, [write, Write::Incident(Box::new(incident.clone()))]).await;
        let stored = store.incident(&incident.id).await.unwrap().unwrap();
        assert_eq!(stored, Incident { investigation: running, ..incident });
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_card_holds_all_that_is_stored_of_its_incident() {
    on_each_engine(async |world| {
        let store = world.open().await;
        let incident = world.incident("i1");
        let signals: Vec<_> = (0..3).map(|n| world.signal(n)).collect();
        put(&store, [Write::Signals(signals), Write::Incident(Box::new(incident.clone()))]).await;
        put(&store, (0..3).map(|n| place(world, n, &incident))).await;
        let approval = world.approval("a1", &incident.id, ApprovalState::Pending);
        let write = Write::Approval { approval: Box::new(approval.clone()), was: None };
        put(&store, [write, Write::Scene { scene: Box::new(world.scene()) }]).await;
        let card = store.card(&incident.id).await.unwrap().unwrap();
        assert_eq!((card.heard.alerts, card.heard.alerts_firing, card.heard.warnings), (3, 3, 0));
        assert_eq!(card.heard.alert_names, [Redacted::literal("PodCrashLooping")]);
        assert_eq!(card.heard.says, Some("checkout restarts".into()));
        assert_eq!(card.links[0].url.as_str(), "https://runbooks.example/crash");
        assert_eq!((card.scene, card.approvals, card.report), (Some(Arc::new(world.scene())), vec![approval], None));
        assert_eq!(store.card(&world.incident("i2").id).await.unwrap(), None);
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_scene_is_decoded_once_until_another_reading_is_stored() {
    on_each_engine(async |world| {
        let (store, scene) = (world.open().await, world.scene());
        put(&store, [Write::Scene { scene: Box::new(scene.clone()) }]).await;
        let first = store.scene(&scene.subject).await.unwrap().unwrap();
        assert!(Arc::ptr_eq(&first, &store.scene(&scene.subject).await.unwrap().unwrap()));
        // Of the same millisecond, as on a clock that stands still.
        let other = Scene { not_found: None, evidence: Vec::new(), ..scene.clone() };
        put(&store, [Write::Scene { scene: Box::new(other.clone()) }]).await;
        assert_eq!(*store.scene(&scene.subject).await.unwrap().unwrap(), other);
        store.close().await;
    })
    .await;
}
