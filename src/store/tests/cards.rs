//! Cards and posts: what is due, in which order, and what a card is assembled from.

use std::sync::Arc;

use jiff::SignedDuration;

use crate::clock::from_ms;
use crate::model::{
    AlertStatus, ApprovalState, Ending, Heard, Incident, IncidentState, InvestigationState, Member, Nonce, Post,
    PostKind, Scene, SignalBody, SignalId,
};
use crate::redact::Redacted;
use crate::store::tests::place;
use crate::store::tests::world::{World, conflict, investigation, on_each_engine, put, try_put};
use crate::store::{Crowd, Due, Store, Write};
use crate::text;

#[tokio::test]
async fn a_card_is_due_until_its_newest_version_is_delivered() {
    on_each_engine(async |world| {
        let store = world.open().await;
        let incident = world.incident("i1");
        put(&store, [Write::Incident(Box::new(incident.clone()))]).await;
        let due = |version, has_card| [Due { incident: incident.id.clone(), version, has_card, is_running: false }];
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
        assert_eq!(store.undelivered(10).await.unwrap(), due(newest, true));
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
            link: None,
            anew: false,
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
        assert_eq!(card.heard.alert, Some(("PodCrashLooping".into(), "checkout restarts".into())));
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

#[tokio::test]
async fn an_alert_counts_once_and_its_resolve_is_final_for_its_start() {
    /// An alert as it is heard: its fingerprint, whether it fires, when it began.
    async fn hear(store: &Store, world: &World, incident: &Incident, heard: &[(u32, bool, i64)]) -> Heard {
        for (n, firing, starts_ms) in heard {
            let mut signal = world.signal(*n);
            let SignalBody::Alert(alert) = &mut signal.body else { panic!() };
            alert.starts_at = from_ms(*starts_ms);
            if !firing {
                alert.status = AlertStatus::Resolved;
                alert.ends_at = Some(from_ms(starts_ms + 60_000));
            }
            signal.id = SignalId::derive(&[&incident.id.to_string(), &format!("{n} {firing} {starts_ms}")]);
            let place = Write::Place { signal: signal.id.clone(), incident: incident.id.clone() };
            put(store, [Write::Signals(vec![signal])]).await;
            put(store, [place]).await;
        }
        store.card(&incident.id).await.unwrap().unwrap().heard
    }
    on_each_engine(async |world| {
        let store = world.open().await;
        let incidents = ["i1", "i2", "i3"].map(|id| world.incident(id));
        put(&store, incidents.clone().map(|incident| Write::Incident(Box::new(incident)))).await;
        let [twice, late, again] = &incidents;
        let heard = hear(&store, world, twice, &[(1, true, 1_000), (2, true, 1_000), (1, false, 1_000)]).await;
        assert_eq!((heard.alerts, heard.alerts_firing, heard.resolved_at), (2, 1, None));
        let heard = hear(&store, world, late, &[(1, false, 1_000), (1, true, 1_000)]).await;
        assert_eq!((heard.alerts_firing, heard.resolved_at), (0, Some(from_ms(61_000))));
        let heard = hear(&store, world, again, &[(1, false, 1_000), (1, true, 9_000)]).await;
        assert_eq!((heard.alerts, heard.alerts_firing), (1, 1));
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_digest_keeps_its_incidents_in_order_and_outlasts_the_first_of_them() {
    on_each_engine(async |world| {
        let store = world.open().await;
        let began = world.now();
        let post = |incident: &Incident, kind: PostKind, nonce: &str| Post {
            nonce: Nonce::parse(nonce).unwrap(),
            cluster: incident.cluster.clone(),
            incident: incident.id.clone(),
            kind,
            channel: "C1".into(),
            posting_at: world.now(),
            absent_reads: 0,
            ts: Some(format!("1.{nonce}")),
            rendered: "".into(),
            link: Some(text!("https://chat.example/{}", incident.id)),
            anew: false,
        };
        let member = |incident: &Incident, says: &str| Member {
            incident: incident.id.clone(),
            opened_at: incident.opened_at,
            severity: incident.severity,
            is_open: true,
            says: says.to_owned(),
            bonds: Vec::new(),
        };
        let [first, second] = ["i1", "i2"].map(|id| world.incident(id));
        let joins = |incident: &Incident, digest: &Incident, says: &str| Write::OnDigest {
            digest: digest.id.clone(),
            member: Box::new(member(incident, says)),
        };
        assert_eq!(store.crowd(began, began, 9).await.unwrap(), Crowd { messages: 0, digest: None });
        put(&store, [&first, &second].map(|incident| Write::Incident(Box::new(incident.clone())))).await;
        put(&store, [joins(&first, &first, "one"), Write::Post(post(&first, PostKind::Digest, "n1"))]).await;
        world.pass_ms(1_000);
        put(&store, [joins(&second, &first, "two"), Write::Post(post(&second, PostKind::Entry, "n2"))]).await;
        // Whoever is on a digest stays there.
        put(&store, [joins(&second, &second, "two again"), Write::Post(post(&second, PostKind::Card, "n3"))]).await;
        assert_eq!(store.digest_of(&second.id).await.unwrap(), Some(first.id.clone()));
        let digest = store.digest(&first.id).await.unwrap();
        let told: Vec<_> = digest.lines.iter().map(|line| (line.member.says.as_str(), line.has_own_card)).collect();
        assert_eq!(told, [("one", false), ("two again", true)]);
        assert_eq!(digest.lines[1].link, Some("https://chat.example/i2".into()));

        let crowd = |since, members_max| store.crowd(since, began, members_max);
        let joined = |messages| Crowd { messages, digest: Some(first.id.clone()) };
        assert_eq!(crowd(began, 3).await.unwrap(), joined(2), "the card in its thread takes no room in the channel");
        assert_eq!(crowd(world.now(), 3).await.unwrap(), joined(1), "of the last second");
        assert_eq!(crowd(began, 2).await.unwrap().digest, None, "it is full");
        assert_eq!(store.crowd(began, world.now(), 9).await.unwrap().digest, None, "it began too long ago");

        for (over, digest_stands) in [(&first, true), (&second, false)] {
            let at = world.now();
            let ended = IncidentState::Over { at, how: Ending::Healthy };
            put(&store, [Write::Incident(Box::new(Incident { state: ended, ..over.clone() }))]).await;
            world.pass_ms(1_000);
            store.prune(world.now(), 9).await.unwrap();
            assert_eq!(store.posts_of(&first.id).await.unwrap().len(), usize::from(digest_stands));
        }
        store.close().await;
    })
    .await;
}
