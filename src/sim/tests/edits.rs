//! Stories of edits: what changed on what a subject reads is on its card, and what changed elsewhere is not.

use super::*;
use crate::model::scene::DiffLine;
use crate::model::{Certainty, ClusterName, Kind, ObjectRef, Rollout, SignalBody, SignalId};

/// What the watch says of a ConfigMap whose one setting was changed thirteen minutes ago.
fn edited(town: &Town, name: &str) -> Signal {
    let line = DiffLine {
        container: None,
        field: "key limits.properties".into(),
        before: Some("burst_per_second=250".into()),
        after: Some("burst_per_second=25O".into()),
    };
    let rollout = Rollout {
        object: ObjectRef::new(Kind::ConfigMap, Some("edge-routing"), name).unwrap(),
        revision: None,
        template: "4819200".into(),
        at: "2026-03-24T16:27:10Z".parse().unwrap(),
        by: Some("kubectl-edit".into()),
        lines: vec![line],
    };
    Signal {
        id: SignalId::derive(&["edit", name]),
        cluster: ClusterName::parse("demo").unwrap(),
        heard_at: town.now(),
        body: SignalBody::Rollout(rollout),
    }
}

/// The card says what changed, exactly, and nothing of the other ConfigMap.
async fn tells_the_difference(town: &Town) {
    let incidents = town.incidents().await;
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    let card = town.store.card(&incidents[0].id).await.unwrap().unwrap();
    let report = card.report.unwrap();
    assert_eq!(report.certainty, Certainty::Likely);
    assert!(report.cause.as_str().contains("burst_per_second=250 → burst_per_second=25O"), "{}", report.cause);
    let blocks = Value::Array(town.channel().last().unwrap().blocks.clone()).to_string();
    for said in ["router-limits", "`burst_per_second=250` → `burst_per_second=25O`", "kubectl-edit"] {
        assert!(blocks.contains(said), "{said} is not in {blocks}");
    }
    assert!(!blocks.contains("elsewhere"), "{blocks}");
}

#[tokio::test]
async fn an_edit_before_the_trouble_opens_nothing_and_is_what_changed_with_its_difference() {
    let town = Town::of(without_model(folder("configmap-value-changed"))).await;
    town.notice(vec![edited(&town, "router-limits"), edited(&town, "elsewhere")]).await;
    assert!(town.incidents().await.is_empty(), "an edit alone is no trouble");
    town.hear(&town.body("alert.json")).await;
    tells_the_difference(&town).await;
}

#[tokio::test]
async fn an_edit_heard_later_joins_the_incident_whose_subject_reads_what_was_edited() {
    let town = Town::of(without_model(folder("configmap-value-changed"))).await;
    town.hear(&town.body("alert.json")).await;
    town.pass(5).await;
    town.notice(vec![edited(&town, "router-limits"), edited(&town, "elsewhere")]).await;
    tells_the_difference(&town).await;
    let incidents = town.incidents().await;
    let card = town.store.card(&incidents[0].id).await.unwrap().unwrap();
    assert_eq!(card.heard.rollouts, 1);
    let why = incidents[0].why.last().unwrap().sentence.as_str();
    assert_eq!(why, "edit of ConfigMap edge-routing/router-limits: Deployment edge-routing/rate-router reads it");
}
