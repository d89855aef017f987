//! The store's promises, each shown on every engine.

mod audit;
mod cards;
mod claims;
mod file;
mod past;
pub(crate) mod world;

use jiff::SignedDuration;

use self::world::{World, checkout, conflict, investigation, on_each_engine, put, try_put};
use crate::clock::from_ms;
use crate::model::{
    ApprovalState, Call, CallId, CallOutcome, Caller, Certainty, Ending, EvidenceId, Incident, IncidentState,
    InvestigationState, Origin, Report, Review, Tier, Verdict,
};
use crate::redact::Redacted;
use crate::store::{CommitError, Durability, News, Usage, Write};

fn place(world: &World, n: u32, incident: &Incident) -> Write {
    Write::Place { signal: world.signal(n).id, incident: incident.id.clone() }
}

#[tokio::test]
async fn a_repeated_signal_is_stored_once_and_keeps_its_place_in_the_queue() {
    on_each_engine(async |world| {
        let store = world.open().await;
        let (one, two) = (world.signal(1), world.signal(2));
        put(&store, [Write::Signals(vec![one.clone(), two.clone(), one.clone()])]).await;
        put(&store, [Write::Signals(vec![two.clone(), one.clone()])]).await;
        assert_eq!(store.signals_unresolved(10).await.unwrap(), [one.clone(), two.clone()]);
        assert_eq!(store.signals_unresolved(1).await.unwrap().len(), 1, "a read keeps its bound");

        let note = Redacted::literal("owner of the pod");
        let resolve = Write::Resolve { signal: one.id.clone(), subject: Some(checkout()), note: note.clone() };
        put(&store, [resolve]).await;
        put(&store, [Write::Signals(vec![one.clone()])]).await;
        assert_eq!(store.signals_unresolved(10).await.unwrap(), std::slice::from_ref(&two));
        assert_eq!(store.signals_unplaced(10).await.unwrap(), [(one.clone(), Some(checkout()), note)]);

        let incident = world.incident("i1");
        put(&store, [Write::Incident(Box::new(incident.clone())), place(world, 1, &incident)]).await;
        put(&store, [Write::Ignore { signal: two.id, why: "always fires".into() }]).await;
        assert!(store.signals_unplaced(10).await.unwrap().is_empty());
        assert!(store.signals_unresolved(10).await.unwrap().is_empty());
        assert_eq!(store.signals_of(&incident.id, 10).await.unwrap(), [one]);
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_a_model_proved_is_not_replaced_by_what_the_rules_found() {
    on_each_engine(async |world| {
        let store = world.open().await;
        let incident = world.incident("i1");
        let id = incident.id.clone();
        put(&store, [Write::Incident(Box::new(incident))]).await;
        let says = async |origin, headline| {
            let report = Report {
                origin,
                headline: Redacted::literal(headline),
                cause: "".into(),
                certainty: Certainty::Likely,
                culprit: None,
                citations: Vec::new(),
                ruled_out: Vec::new(),
                advice: None,
                proposals: Vec::new(),
                reasoning: Vec::new(),
                struck: 0,
                review: Review::NotNeeded,
                about: None,
            };
            put(&store, [Write::Report { incident: id.clone(), report: Box::new(report) }]).await;
            store.report(&id).await.unwrap().unwrap().headline.to_string()
        };
        let quoting = r#"says {"origin":"model"} in its text"#;
        assert_eq!(says(Origin::Findings, quoting).await, quoting);
        assert_eq!(says(Origin::Findings, "second").await, "second");
        assert_eq!(says(Origin::Model, "proved").await, "proved");
        assert_eq!(says(Origin::Findings, "third").await, "proved");
        assert_eq!(says(Origin::Model, "proved again").await, "proved again");
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn many_signals_in_one_commit_arrive_in_their_order() {
    on_each_engine(async |world| {
        let store = world.open().await;
        let all: Vec<_> = (0..203).map(|n| world.signal(n)).collect();
        put(&store, [Write::Signals(all.clone())]).await;
        assert_eq!(store.signals_unresolved(1_000).await.unwrap(), all);
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_commit_is_all_or_nothing() {
    on_each_engine(async |world| {
        let store = world.open().await;
        let incident = world.incident("i1");
        let pending = world.approval("a1", &incident.id, ApprovalState::Pending);
        let writes = [
            Write::Signals(vec![world.signal(1)]),
            Write::Incident(Box::new(incident.clone())),
            Write::Approval { approval: Box::new(pending), was: Some(ApprovalState::Proposed) },
        ];
        assert_eq!(conflict(try_put(&store, writes, None).await), "approval a1 is not stored");
        assert!(store.signals_unresolved(10).await.unwrap().is_empty());
        assert_eq!(store.incident(&incident.id).await.unwrap(), None);
        let placed = try_put(&store, [place(world, 1, &incident)], None).await;
        assert_eq!(conflict(placed), "0 of 1 signals are stored");
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn one_conflict_among_many_waiting_commits_fails_alone() {
    on_each_engine(async |world| {
        let store = world.open().await;
        let incident = world.incident("i1");
        put(&store, [Write::Incident(Box::new(incident.clone()))]).await;
        let commits = (0..40).map(|n| {
            let turn = Write::Turn {
                incident: incident.id.clone(),
                number: n / 2,
                messages: serde_json::json!([]),
                usage: Usage::default(),
            };
            let store = store.clone();
            let signals = Write::Signals(vec![world.signal(n)]);
            async move { try_put(&store, [signals, turn], None).await.is_ok() }
        });
        let stored = futures::future::join_all(commits).await.into_iter().filter(|ok| *ok).count();
        assert_eq!(stored, 20, "of two turns with one number one is written");
        assert_eq!(store.transcript(&incident.id).await.unwrap().len(), 20);
        assert_eq!(store.signals_unresolved(100).await.unwrap().len(), 20, "and its signal with it");
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_approval_changes_only_from_the_state_that_was_seen() {
    on_each_engine(async |world| {
        let store = world.open().await;
        let incident = world.incident("i1");
        let approval = |state| Box::new(world.approval("a1", &incident.id, state));
        put(&store, [Write::Approval { approval: approval(ApprovalState::Pending), was: None }]).await;
        let again = [Write::Approval { approval: approval(ApprovalState::Pending), was: None }];
        assert_eq!(conflict(try_put(&store, again, None).await), "approval a1 is stored already, pending");

        let approve =
            || [Write::Approval { approval: approval(ApprovalState::Approved), was: Some(ApprovalState::Pending) }];
        put(&store, approve()).await;
        assert_eq!(conflict(try_put(&store, approve(), None).await), "approval a1 is approved, not pending");
        let stored = store.approval(&approval(ApprovalState::Pending).id).await.unwrap().unwrap();
        assert_eq!(stored.state, ApprovalState::Approved);
        let states = [ApprovalState::Pending, ApprovalState::Approved];
        assert_eq!(store.approvals_in(&states, 10).await.unwrap(), [stored]);
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn one_approval_executes_per_object_at_a_time() {
    on_each_engine(async |world| {
        let store = world.open().await;
        let incident = world.incident("i1");
        let write =
            |id, state, was| Write::Approval { approval: Box::new(world.approval(id, &incident.id, state)), was };
        for id in ["a1", "a2"] {
            put(&store, [write(id, ApprovalState::Approved, None)]).await;
        }
        let before = world.now();
        put(&store, [write("a1", ApprovalState::Executing, Some(ApprovalState::Approved))]).await;
        let second = [write("a2", ApprovalState::Executing, Some(ApprovalState::Approved))];
        let what = conflict(try_put(&store, second.clone(), None).await);
        assert_eq!(what, "another approval is executing on Deployment shop/checkout");
        put(&store, [write("a1", ApprovalState::Executed, Some(ApprovalState::Executing))]).await;
        put(&store, second).await;
        assert_eq!(store.approvals_begun_since(before).await.unwrap().len(), 2);
        assert!(store.approvals_begun_since(from_ms(before.as_millisecond() + 1)).await.unwrap().is_empty());
        assert_eq!(store.approvals_of(&incident.id).await.unwrap().len(), 2);
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn evidence_that_was_read_is_not_overwritten() {
    on_each_engine(async |world| {
        let store = world.open().await;
        let incident = world.incident("i1").id;
        let write = |number, words, replace| Write::Evidence {
            incident: incident.clone(),
            evidence: world.evidence(number, words),
            replace,
        };
        assert_eq!(store.next_evidence_id(&incident).await.unwrap(), EvidenceId(12), "e1 to e11 are the scene's");
        put(&store, [write(12, None, false)]).await;
        assert_eq!(store.next_evidence_id(&incident).await.unwrap(), EvidenceId(13));
        put(&store, [write(12, Some("first words"), false)]).await;
        put(&store, [write(12, Some("other words"), false)]).await;
        put(&store, [write(12, None, false)]).await;
        let stored = store.evidence_one(&incident, EvidenceId(12)).await.unwrap().unwrap();
        assert_eq!(stored, world.evidence(12, Some("first words")));
        put(&store, [write(12, Some("newer words"), true), write(2, None, false)]).await;
        let all = store.evidence(&incident).await.unwrap();
        assert_eq!(all, [world.evidence(2, None), world.evidence(12, Some("newer words"))]);
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn incidents_are_found_by_what_is_still_to_do_with_them() {
    on_each_engine(async |world| {
        let store = world.open().await;
        let low = Incident { severity: crate::model::Severity::Low, ..world.incident("i1") };
        let high = world.incident("i2");
        let mut over = world.incident("i3");
        over.investigation = investigation(InvestigationState::Done);
        put(&store, [low.clone(), high.clone(), over.clone()].map(|one| Write::Incident(Box::new(one)))).await;
        world.pass_ms(60_000);
        over.state = IncidentState::Over { at: world.now(), how: Ending::Resolved };
        put(&store, [Write::Incident(Box::new(over.clone()))]).await;
        let ids = |incidents: Vec<Incident>| incidents.iter().map(|i| i.id.to_string()).collect::<Vec<_>>();
        assert_eq!(ids(store.open_incidents().await.unwrap()), ["i1", "i2"]);
        assert_eq!(ids(store.recent_incidents(world.now()).await.unwrap()), ["i1", "i2", "i3"]);
        let later = world.now() + SignedDuration::from_millis(1);
        assert_eq!(ids(store.recent_incidents(later).await.unwrap()), ["i1", "i2"]);
        let waiting = store.to_investigate(10).await.unwrap();
        assert_eq!(waiting, [high.id, low.id], "the most severe first");
        let depths = store.depths().await.unwrap();
        let of = |stage| depths.iter().find(|depth| depth.stage == stage).unwrap().waiting;
        assert_eq!((of("investigate"), of("deliver"), of("resolve")), (2, 3, 0));
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn tokens_are_charged_once_per_key() {
    on_each_engine(async |world| {
        let store = world.open().await;
        let incident = world.incident("i1").id;
        let charge = |key: &str, tokens| Write::Charge {
            incident: incident.clone(),
            key: key.into(),
            tokens,
            micros: tokens * 3,
        };
        let before = world.now();
        put(&store, [charge("turn 1", 8_000)]).await;
        assert_eq!(store.spent_since(before).await.unwrap(), (8_000, 24_000), "reserved");
        put(&store, [charge("turn 1", 1_200), charge("turn 2", 8_000)]).await;
        assert_eq!(store.spent_since(before).await.unwrap(), (9_200, 27_600), "one settled, one reserved");
        assert_eq!(store.spent_since(before + SignedDuration::from_secs(1)).await.unwrap(), (0, 0));
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_click_is_kept_once_until_it_is_answered() {
    on_each_engine(async |world| {
        let store = world.open().await;
        let click = world.click("U1-approve-1700000000.1");
        put(&store, [Write::Click(click.clone()), Write::Click(click.clone())]).await;
        assert_eq!(store.clicks_unhandled(10).await.unwrap(), std::slice::from_ref(&click));
        put(&store, [Write::ClickDone { id: click.id.clone(), answer: "unknown\0 button".into() }]).await;
        put(&store, [Write::Click(click)]).await;
        assert!(store.clicks_unhandled(10).await.unwrap().is_empty());
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_reopened_store_shows_everything() {
    on_each_engine(async |world| {
        let store = world.open().await;
        let incident = world.incident("i1");
        let call = Call {
            id: CallId::parse("c1").unwrap(),
            incident: incident.id.clone(),
            caller: Caller::Agent,
            tool: "pod_logs".into(),
            arguments: "{}".into(),
            tier: Tier::ReadOnly,
            verdict: Verdict::Run,
            called_at: world.now(),
            outcome: CallOutcome::NotRun,
        };
        let read = Call { outcome: CallOutcome::Read { evidence: EvidenceId(12) }, ..call.clone() };
        put(&store, [Write::Signals(vec![world.signal(1)]), Write::Incident(Box::new(incident.clone()))]).await;
        let soon = vec![Write::Call(call), Write::Call(read.clone())];
        store.commit(soon, Durability::Soon, None).await.unwrap();
        store.close().await;
        let closed = try_put(&store, [Write::Signals(vec![world.signal(2)])], None).await;
        assert!(matches!(closed, Err(CommitError::Store(_))), "{closed:?}");

        let store = world.open().await;
        assert_eq!(store.signals_unresolved(10).await.unwrap(), [world.signal(1)]);
        assert_eq!(store.incident(&incident.id).await.unwrap(), Some(incident.clone()));
        assert_eq!(store.calls_of(&incident.id).await.unwrap(), [read]);
        assert!(store.size_bytes().await.unwrap() > 10_000);
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn rows_of_another_cluster_are_none_of_ours() {
    on_each_engine(async |world| {
        let ours = world.open().await;
        let (signal, incident) = (world.signal(1), world.incident("i1"));
        put(&ours, [Write::Signals(vec![signal]), Write::Incident(Box::new(incident))]).await;
        ours.close().await;
        let mut options = world.options.clone();
        options.cluster = crate::model::ClusterName::parse("staging").unwrap();
        let theirs = world.open_with(options).await.unwrap();
        assert!(theirs.signals_unresolved(10).await.unwrap().is_empty());
        assert!(theirs.open_incidents().await.unwrap().is_empty());
        assert!(theirs.undelivered(10).await.unwrap().is_empty());
        theirs.close().await;
    })
    .await;
}

#[tokio::test]
async fn whoever_waits_for_news_is_woken_after_the_commit_and_nobody_else() {
    on_each_engine(async |world| {
        let store = world.open().await;
        let (heard, clicked) = (store.subscribe(News::HEARD), store.subscribe(News::CLICK));
        let waits = async {
            heard.changed().await;
            store.signals_unresolved(10).await.unwrap().len()
        };
        let (seen, ()) = tokio::join!(waits, put(&store, [Write::Signals(vec![world.signal(1)])]));
        assert_eq!(seen, 1);
        assert!(futures::FutureExt::now_or_never(clicked.changed()).is_none(), "it is no news for others");
        store.close().await;
    })
    .await;
}
