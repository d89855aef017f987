//! Drains: pod by pod within budgets, taken back where the cordon is firstlook's own, and stopped by what came meanwhile.

use serde_json::json;

use super::changes::{lines, n1, world};
use super::{object, owners, pod};
use crate::model::{Action, ApprovalState, Kind, Pressed, Proposal, Verification};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_evicts_one_pod_a_turn_and_waits_for_budgets() {
    let world = world(n1()).await;
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}, "status": {"desiredHealthy": 1, "disruptionsAllowed": 1}});
    world.cluster.put(budget).unwrap();
    let asked = world.ask(Proposal::Drain { object: n1() }).await;
    assert_eq!(lines(&asked), ["Pod: shop/web-abc-1 > -", "Pod: shop/web-abc-2 > -"]);
    assert_eq!(asked.preview.as_ref().unwrap().disruptions_allowed, Some(1));
    let held = Box::pin(world.approve(&asked)).await;
    assert_eq!(
        (held.state, &held.verification),
        (ApprovalState::Executing, &Verification::Watching { ready: 1, wanted: 2 })
    );
    assert!(held.because.as_str().contains("disruption budget"), "{}", held.because);
    assert_eq!(world.cluster.get("Node", "", "n1").unwrap()["spec"]["unschedulable"], true);
    // Once the pod that was made in its place is ready, the budget lets the next one go.
    let mut changes = world.cluster.changes();
    let gone_on = async {
        loop {
            world.clock.set(world.clock.now() + jiff::SignedDuration::from_secs(5));
            while Box::pin(world.execute.run_once()).await.unwrap() == crate::stages::Ran::Worked {}
            let now = world.now(&asked).await;
            if now.state != ApprovalState::Executing {
                return now;
            }
            changes.changed().await.unwrap();
        }
    };
    let done = tokio::time::timeout(std::time::Duration::from_secs(20), gone_on).await.unwrap();
    assert_eq!(done.state, ApprovalState::Executed, "{}", done.because);
    let came = world.verified(&done, 1, |came| matches!(came, Verification::Better { .. })).await;
    assert!(matches!(came, Verification::Better { ready: 2, wanted: 2, .. }), "{came:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_is_taken_back_only_where_nobody_had_cordoned_the_node_before() {
    let cordoned = Box::pin(world(n1())).await;
    cordoned.edit(&n1(), |node| node["spec"]["unschedulable"] = json!(true));
    let done = Box::pin(cordoned.approve(&cordoned.ask(Proposal::Drain { object: n1() }).await)).await;
    assert_eq!(done.state, ApprovalState::Executed, "{}", done.because);
    assert_eq!(done.action.as_ref().and_then(Action::inverse), None, "the cordon was somebody else's");
    let world = Box::pin(world(n1())).await;
    let done = Box::pin(world.approve(&world.ask(Proposal::Drain { object: n1() }).await)).await;
    assert_eq!(done.state, ApprovalState::Executed, "{}", done.because);
    // Somebody gives the node back and takes it again: that is no longer the drain's cordon.
    world.edit(&n1(), |node| node["spec"]["unschedulable"] = json!(false));
    world.press(Pressed::Undo { approval: done.id.clone() }).await;
    let refused = world.undoing(&done).await;
    assert_eq!(refused.state, ApprovalState::Refused, "{refused:?}");
}

#[tokio::test]
async fn a_node_that_was_cordoned_after_the_question_is_not_drained() {
    let world = world(n1()).await;
    let asked = world.ask(Proposal::Drain { object: n1() }).await;
    world.edit(&n1(), |node| node["spec"]["unschedulable"] = json!(true));
    let ended = Box::pin(world.approve(&asked)).await;
    assert_eq!(ended.state, ApprovalState::Withdrawn, "{}", ended.because);
    assert_eq!(world.cluster.list("Pod", "shop").len(), 2);
}

#[tokio::test]
async fn a_node_with_a_running_job_or_a_protected_pod_is_not_drained() {
    let world = world(n1()).await;
    let pod = object(Kind::Pod, "shop", "web-abc-1");
    world.edit(&pod, |pod| pod["metadata"]["labels"]["firstlook.dev/protected"] = json!("true"));
    let refused = world.ask(Proposal::Drain { object: n1() }).await;
    assert!(refused.because.as_str().contains("Pod shop/web-abc-1 carries a label"), "{}", refused.because);
    world.edit(&pod, |pod| pod["metadata"]["labels"]["firstlook.dev/protected"] = json!("false"));
    let web = object(Kind::Deployment, "shop", "web");
    world.edit(&web, |web| web["metadata"]["labels"]["firstlook.dev/protected"] = json!("true"));
    let refused = world.ask(Proposal::Drain { object: n1() }).await;
    assert!(refused.because.as_str().contains("Deployment shop/web carries a label"), "{}", refused.because);
    // What the workload's label says does not overrule what the pod's says.
    world.edit(&pod, |pod| pod["metadata"]["labels"]["firstlook.dev/protected"] = json!("true"));
    world.edit(&web, |web| web["metadata"]["labels"]["firstlook.dev/protected"] = json!("false"));
    let refused = world.ask(Proposal::Drain { object: n1() }).await;
    assert!(refused.because.as_str().contains("Pod shop/web-abc-1 carries a label"), "{}", refused.because);
    world.edit(&pod, |pod| pod["metadata"]["ownerReferences"] = owners("Job", "report"));
    let refused = world.ask(Proposal::Drain { object: n1() }).await;
    assert!(refused.because.as_str().contains("pod of a Job"), "{}", refused.because);
}

#[tokio::test]
async fn a_pod_that_came_to_the_node_after_the_yes_stops_its_drain() {
    let world = world(n1()).await;
    let asked = world.ask(Proposal::Drain { object: n1() }).await;
    world.cluster.put(pod(("ReplicaSet", "web-abc"), "web-abc-3", json!({"app": "web"}), "web:1", true)).unwrap();
    let ended = Box::pin(world.approve(&asked)).await;
    assert_eq!(ended.state, ApprovalState::Withdrawn, "{}", ended.because);
    assert_eq!(world.cluster.list("Pod", "shop").len(), 3);
}
