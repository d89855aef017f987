//! Small changes of one object: each is asked for, done, verified and taken back, and refused where it would be wrong.

use serde_json::{Value, json};

use super::{World, node, object, owners, pod, template};
use crate::model::approval::Few;
use crate::model::{
    Action, Approval, ApprovalState, Ending, Incident, IncidentState, Kind, Name, ObjectRef, Part, Pressed, Proposal,
    Quantity, Resources, Verification,
};
use crate::observe::motion::Motion;
use crate::stages::expire::Expire;
use crate::stages::pace::Pace;
use crate::store::{Durability, Write};

pub(super) fn web() -> ObjectRef {
    object(Kind::Deployment, "shop", "web")
}

pub(super) fn n1() -> ObjectRef {
    ObjectRef::new(Kind::Node, None, "n1").unwrap()
}

/// A Deployment of two ready pods, a CronJob, and two nodes.
pub(super) fn items() -> Vec<Value> {
    let hash = json!({"app": "web", "pod-template-hash": "abc"});
    let mut runs = template("web", "web:1");
    runs["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "128Mi", "cpu": "1"}});
    let mut kept = runs.clone();
    kept["metadata"]["labels"] = hash.clone();
    let selector = json!({"matchLabels": {"app": "web"}});
    let status = json!({"observedGeneration": 1, "replicas": 2, "readyReplicas": 2, "availableReplicas": 2, "updatedReplicas": 2});
    let revision = json!({"deployment.kubernetes.io/revision": "1"});
    let mut all = vec![
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop", "uid": "u-web",
                "generation": 1, "annotations": revision},
            "spec": {"replicas": 2, "selector": selector, "template": runs}, "status": status}),
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "web-abc", "namespace": "shop", "uid": "u-web-abc",
                "generation": 1, "annotations": revision, "labels": hash, "ownerReferences": owners("Deployment", "web")},
            "spec": {"replicas": 2, "selector": {"matchLabels": hash}, "template": kept}, "status": status}),
    ];
    all.extend(
        ["web-abc-1", "web-abc-2"].map(|name| pod(("ReplicaSet", "web-abc"), name, hash.clone(), "web:1", true)),
    );
    all.push(json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly", "namespace": "shop",
            "uid": "u-nightly", "creationTimestamp": "2026-03-20T00:00:00Z"},
        "spec": {"schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": template("nightly", "job:1")}}}}));
    all.extend([node("n1"), node("n2")]);
    all
}

pub(super) async fn world(subject: ObjectRef) -> World {
    World::start(items(), subject).await
}

/// Presses Undo and carries out what is asked then.
async fn take_back(world: &World, done: &Approval) -> Approval {
    world.press(Pressed::Undo { approval: done.id.clone() }).await;
    let asked = world.undoing(done).await;
    let undone = Box::pin(world.approve(&asked)).await;
    assert_eq!(undone.state, ApprovalState::Executed, "{}", undone.because);
    undone
}

pub(super) fn lines(approval: &Approval) -> Vec<String> {
    let preview = approval.preview.as_ref().unwrap();
    let side = |side: &Option<crate::redact::Redacted>| side.as_ref().map_or("-".to_owned(), ToString::to_string);
    preview.diff.iter().map(|line| format!("{}: {} > {}", line.field, side(&line.before), side(&line.after))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_is_scaled_and_scaled_back() {
    let world = world(web()).await;
    let done = Box::pin(world.carry_out(Proposal::Scale { object: web(), replicas: 4 })).await;
    assert_eq!(lines(&done), ["replicas: 2 > 4"]);
    let preview = done.preview.clone().unwrap();
    assert!(preview.by_api_server && preview.pods_touched == 2, "{preview:?}");
    assert_eq!(world.cluster.list("Pod", "shop").len(), 4);
    let undone = Box::pin(take_back(&world, &done)).await;
    assert_eq!(undone.action, Some(Action::Scale { object: web(), to: 2, from: 4 }));
    assert_eq!(world.get(&web())["spec"]["replicas"], 2);
}

#[tokio::test]
async fn what_an_autoscaler_sets_is_not_scaled_by_hand() {
    let world = world(web()).await;
    let scaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u-hpa"},
        "spec": {"maxReplicas": 9, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}});
    world.cluster.put(scaler).unwrap();
    let refused = world.ask(Proposal::Scale { object: web(), replicas: 4 }).await;
    assert_eq!(refused.state, ApprovalState::Refused);
    assert!(refused.because.as_str().starts_with("HorizontalPodAutoscaler shop/web sets"), "{}", refused.because);
}

#[tokio::test]
async fn an_autoscaler_that_came_after_the_yes_stops_the_change() {
    let world = world(web()).await;
    let asked = world.ask(Proposal::Scale { object: web(), replicas: 4 }).await;
    let scaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u-hpa"},
        "spec": {"maxReplicas": 9, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}});
    world.cluster.put(scaler).unwrap();
    let ended = world.approve(&asked).await;
    assert_eq!((ended.state, &world.get(&web())["spec"]["replicas"]), (ApprovalState::Withdrawn, &json!(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_is_paused_and_resumed() {
    let world = world(web()).await;
    let done = Box::pin(world.carry_out(Proposal::PauseRollout { object: web() })).await;
    assert_eq!(lines(&done), ["paused: false > true"]);
    assert_eq!(world.get(&web())["spec"]["paused"], true);
    let again = world.ask(Proposal::PauseRollout { object: web() }).await;
    assert!(again.because.as_str().contains("paused already"), "{}", again.because);
    let undone = Box::pin(take_back(&world, &done)).await;
    assert_eq!(undone.action, Some(Action::ResumeRollout { object: web() }));
    assert_eq!(world.get(&web())["spec"]["paused"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_resources_of_one_container_change_and_come_back_exactly() {
    let world = world(web()).await;
    let container = Name::parse("app").unwrap();
    let resources = Resources {
        memory_limit: Quantity::parse("512Mi"),
        memory_request: Quantity::parse("256Mi"),
        ..Resources::default()
    };
    let before = world.get(&web())["spec"]["template"].clone();
    let set = Proposal::SetResources { object: web(), container: container.clone(), resources };
    let done = Box::pin(world.carry_out(set)).await;
    assert_eq!(lines(&done), ["request memory: - > 256Mi", "limit memory: 128Mi > 512Mi"]);
    let now = world.get(&web())["spec"]["template"]["spec"]["containers"][0]["resources"].clone();
    assert_eq!(now, json!({"limits": {"memory": "512Mi", "cpu": "1"}, "requests": {"memory": "256Mi"}}));
    Box::pin(take_back(&world, &done)).await;
    let after = world.get(&web())["spec"]["template"].clone();
    assert_eq!(after["spec"]["containers"], before["spec"]["containers"]);
    let small = Resources { memory_request: Quantity::parse("1Gi"), ..Resources::default() };
    let refused = world.ask(Proposal::SetResources { object: web(), container, resources: small }).await;
    assert!(refused.because.as_str().contains("more than its limit of 128Mi"), "{}", refused.because);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cronjob_is_suspended_and_resumed() {
    let nightly = object(Kind::CronJob, "shop", "nightly");
    let world = world(nightly.clone()).await;
    let done = Box::pin(world.carry_out(Proposal::SuspendCronjob { object: nightly.clone() })).await;
    assert_eq!(
        (lines(&done), done.preview.as_ref().unwrap().pods_touched),
        (vec!["suspend: false > true".to_owned()], 0)
    );
    assert_eq!(world.get(&nightly)["spec"]["suspend"], true);
    let undone = Box::pin(take_back(&world, &done)).await;
    let then = undone.preview.unwrap().then.unwrap();
    assert!(then.as_str().contains("missed meanwhile starts at once"), "{then}");
    assert_eq!(world.get(&nightly)["spec"]["suspend"], false);
}

pub(super) fn job(name: &str, ended: bool) -> Value {
    let conditions =
        if ended { json!([{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]) } else { json!([]) };
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": "shop", "uid": format!("u-{name}")},
        "spec": {"completions": 3, "parallelism": 1, "template": template(name, "job:1")}, "status": {"conditions": conditions}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_failed_runs_once_more_and_one_under_way_does_not() {
    let report = object(Kind::Job, "shop", "report");
    let world = world(report.clone()).await;
    world.cluster.put(job("report", true)).unwrap();
    let done = Box::pin(world.carry_out(Proposal::RerunJob { object: report.clone() })).await;
    assert!(matches!(done.verification, Verification::Better { ready: 3, wanted: 3, .. }), "{:?}", done.verification);
    let made = format!("report-rerun-{}", done.id);
    assert_eq!(lines(&done), [format!("Job: - > {made}")]);
    assert_eq!(world.cluster.get("Job", "shop", &made).unwrap()["status"]["succeeded"], 3);
    world.cluster.put(job("report", false)).unwrap();
    let refused = world.ask(Proposal::RerunJob { object: report }).await;
    assert!(refused.because.as_str().contains("under way"), "{}", refused.because);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_started_again_is_started_once_even_if_the_answer_was_lost() {
    let report = object(Kind::Job, "shop", "report");
    let world = world(report.clone()).await;
    world.cluster.put(job("report", true)).unwrap();
    let asked = world.ask(Proposal::RerunJob { object: report }).await;
    let done = world.approve_and_lose_the_answer(&asked).await;
    assert_eq!(done.state, ApprovalState::Executed, "{}", done.because);
    assert_eq!(world.cluster.list("Job", "shop").len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_evicted_by_its_uid_and_its_owner_makes_another() {
    let pod = object(Kind::Pod, "shop", "web-abc-1");
    let world = world(pod.clone()).await;
    world.edit(&pod, |pod| pod["status"]["conditions"][0]["status"] = json!("False"));
    let evict = Proposal::DeletePod { object: object(Kind::Pod, "shop", "web-abc-1") };
    let asked = world.ask(evict).await;
    assert_eq!(asked.tier, crate::model::Tier::Destructive);
    let done = world.approve_and_lose_the_answer(&asked).await;
    assert_eq!(done.state, ApprovalState::Executed, "{}", done.because);
    let came = world.verified(&done, 1, |came| matches!(came, Verification::Better { .. })).await;
    assert!(matches!(came, Verification::Better { ready: 2, wanted: 2, .. }), "{came:?}");
    assert!(world.cluster.get("Pod", "shop", "web-abc-1").is_none());
}

#[tokio::test]
async fn a_pod_of_a_job_or_of_nobody_and_one_that_its_budget_keeps_is_not_evicted() {
    let pod = object(Kind::Pod, "shop", "web-abc-1");
    let world = world(pod.clone()).await;
    world.edit(&pod, |pod| pod["status"]["conditions"][0]["status"] = json!("False"));
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}}, "status": {"disruptionsAllowed": 0}});
    world.cluster.put(budget).unwrap();
    let refused = world.ask(Proposal::DeletePod { object: pod.clone() }).await;
    assert!(refused.because.as_str().contains("disruption budget"), "{}", refused.because);
    world.edit(&pod, |pod| pod["metadata"]["ownerReferences"] = owners("Job", "report"));
    let refused = world.ask(Proposal::DeletePod { object: pod.clone() }).await;
    assert!(refused.because.as_str().contains("pod of a Job"), "{}", refused.because);
    world.edit(&pod, |pod| pod["metadata"]["ownerReferences"] = json!([]));
    let refused = world.ask(Proposal::DeletePod { object: pod }).await;
    assert!(refused.because.as_str().contains("no owner"), "{}", refused.because);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_cordoned_and_uncordoned() {
    let n2 = ObjectRef::new(Kind::Node, None, "n2").unwrap();
    let world = world(n2.clone()).await;
    let done = Box::pin(world.carry_out(Proposal::Cordon { object: n2.clone() })).await;
    assert_eq!(lines(&done), ["unschedulable: false > true"]);
    assert!(matches!(done.verification, Verification::Better { .. }));
    Box::pin(take_back(&world, &done)).await;
    assert_eq!(world.cluster.get("Node", "", "n2").unwrap()["spec"]["unschedulable"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_changed_since_is_not_taken_back() {
    let world = world(web()).await;
    let done = Box::pin(world.carry_out(Proposal::Scale { object: web(), replicas: 4 })).await;
    world.edit(&web(), |web| web["spec"]["replicas"] = json!(7));
    world.press(Pressed::Undo { approval: done.id.clone() }).await;
    let refused = world.undoing(&done).await;
    assert_eq!(refused.state, ApprovalState::Refused, "{refused:?}");
    assert!(refused.because.as_str().contains("changed Deployment shop/web since"), "{}", refused.because);
}

#[tokio::test]
async fn a_protecting_label_keeps_every_change_away() {
    let world = world(web()).await;
    let asked = world.ask(Proposal::Scale { object: web(), replicas: 4 }).await;
    world.edit(&web(), |web| web["metadata"]["labels"] = json!({"firstlook.dev/protected": "true"}));
    let ended = world.approve(&asked).await;
    assert_eq!(ended.state, ApprovalState::Withdrawn);
    let refused = world.ask(Proposal::PauseRollout { object: web() }).await;
    assert!(refused.because.as_str().contains("label"), "{}", refused.because);
    // Whoever protects the pods protects them from what makes them.
    world.edit(&web(), |web| {
        web["metadata"]["labels"] = json!({});
        web["spec"]["template"]["metadata"]["labels"]["firstlook.dev/protected"] = json!("true");
    });
    let refused = world.ask(Proposal::Scale { object: web(), replicas: 1 }).await;
    assert!(refused.because.as_str().contains("carries a label"), "{}", refused.because);
    // One pod alone is kept, too, from all that would end it; whoever wrote `yes` meant it.
    world.edit(&web(), |web| web["spec"]["template"]["metadata"]["labels"]["firstlook.dev/protected"] = json!("false"));
    world.edit(&object(Kind::Pod, "shop", "web-abc-1"), |pod| {
        pod["metadata"]["labels"]["firstlook.dev/protected"] = json!("yes");
    });
    for proposal in [Proposal::Scale { object: web(), replicas: 1 }, Proposal::RolloutRestart { object: web() }] {
        let refused = world.ask(proposal).await;
        assert!(refused.because.as_str().contains("Pod shop/web-abc-1 carries"), "{}", refused.because);
    }
    let more = world.ask(Proposal::Scale { object: web(), replicas: 4 }).await;
    assert_eq!(more.state, ApprovalState::Pending, "it ends no pod: {}", more.because);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_answer_was_lost_is_found_done_and_not_sent_again() {
    let nightly = object(Kind::CronJob, "shop", "nightly");
    for (subject, proposal) in [
        (web(), Proposal::Scale { object: web(), replicas: 4 }),
        (web(), Proposal::PauseRollout { object: web() }),
        (nightly.clone(), Proposal::SuspendCronjob { object: nightly }),
    ] {
        let world = world(subject).await;
        let asked = world.ask(proposal).await;
        let done = world.approve_and_lose_the_answer(&asked).await;
        assert_eq!(done.state, ApprovalState::Executed, "{}", done.because);
        let patches = world.cluster.requests();
        let writes = patches.iter().filter(|sent| sent.method == "PATCH" && !sent.path.contains("dryRun")).count();
        assert_eq!(writes, 1, "{patches:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_helped_and_did_not_last_is_said_and_so_is_that_it_came_right() {
    let world = world(web()).await;
    let done = Box::pin(world.carry_out(Proposal::Scale { object: web(), replicas: 4 })).await;
    assert_eq!(done.execution.as_ref().unwrap().ready_before, Some(2));
    let one = object(Kind::Pod, "shop", "web-abc-1");
    let [well, stood] = [&one, &web()].map(|object| world.get(object)["status"].clone());
    let fails = |pod: &mut Value| {
        pod["status"]["conditions"] =
            json!([{"type": "Ready", "status": "False", "lastTransitionTime": world.clock.now().to_string()}]);
        pod["status"]["containerStatuses"][0]["ready"] = json!(false);
    };
    world.edit(&one, fails);
    world.edit(&web(), |web| web["status"]["readyReplicas"] = json!(1));
    let came = world.verified(&done, 61, |came| !matches!(came, Verification::Better { .. })).await;
    let (Verification::Worse { why, .. } | Verification::NotBetter { why, .. }) = came else { panic!("{came:?}") };
    assert!(why.as_str().starts_with("it held for 1 min only: pod web-"), "{why}");
    world.edit(&one, |pod| pod["status"] = well);
    world.edit(&web(), |web| web["status"] = stood);
    world.verified(&done, 61, |came| matches!(came, Verification::Better { .. })).await;
}

#[tokio::test]
async fn where_no_policy_binds_the_writer_nobody_is_asked() {
    let world = world(web()).await;
    for account in ["firstlook-write", "firstlook-preview"] {
        assert!(world.cluster.remove("ValidatingAdmissionPolicy", "", account));
    }
    let refused = world.ask(Proposal::Scale { object: web(), replicas: 4 }).await;
    assert_eq!(refused.state, ApprovalState::Refused, "{refused:?}");
    assert!(refused.because.as_str().contains("no admission policy binds"), "{}", refused.because);
    let preview = refused.preview.unwrap();
    assert!(!preview.by_api_server && preview.note.is_some(), "{preview:?}");
    assert_eq!(preview.diff.len(), 1, "the difference is computed all the same");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_can_be_taken_back_when_the_trouble_is_over() {
    let world = world(web()).await;
    let done = Box::pin(world.carry_out(Proposal::Scale { object: web(), replicas: 4 })).await;
    let state = IncidentState::Over { at: world.clock.now(), how: Ending::Resolved };
    let over = Incident { state, ..world.incident.clone() };
    world.store.commit(vec![Write::Incident(Box::new(over))], Durability::Durable, None).await.unwrap();
    world.press(Pressed::Undo { approval: done.id.clone() }).await;
    let asked = world.undoing(&done).await;
    let expire = Expire {
        store: world.store.clone(),
        actor: world.execute.actor.clone(),
        clock: world.clock.clone(),
        keep_days: 30,
        off: crate::govern::off::Off::default(),
        pruned_at_ms: 0.into(),
        pace: Pace::default(),
        motion: Motion::default(),
    };
    expire.run_once().await.unwrap();
    let undone = Box::pin(world.approve(&world.now(&asked).await)).await;
    assert_eq!(undone.state, ApprovalState::Executed, "{}", undone.because);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_asked_sees_which_services_and_ingresses_depend_on_the_pods() {
    let world = world(web()).await;
    let service = |name: &str, app: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
            "spec": {"selector": {"app": app}, "ports": [{"port": 80}]}})
    };
    let ingress = |name: &str, to: &str| {
        let backend = json!({"service": {"name": to, "port": {"number": 80}}});
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": name, "namespace": "shop"},
            "spec": {"rules": [{"host": "x.example", "http": {"paths": [{"path": "/", "backend": backend}]}}]}})
    };
    let on_node = Box::pin(self::world(n1())).await;
    for put in [service("web", "web"), service("other", "other"), ingress("shop", "web"), ingress("off", "other")] {
        world.cluster.put(put.clone()).unwrap();
        on_node.cluster.put(put).unwrap();
    }
    let named = |part: &Part<Few>| {
        let few = part.known().unwrap();
        (few.named.iter().map(|object| object.name().to_owned()).collect::<Vec<_>>(), few.more)
    };
    let scaled = world.ask(Proposal::Scale { object: web(), replicas: 1 }).await;
    let shown = scaled.preview.unwrap().dependents.unwrap();
    assert_eq!(named(&shown.services), (vec!["web".to_owned()], 0));
    assert_eq!(named(&shown.ingresses), (vec!["shop".to_owned()], 0));
    let drained = on_node.ask(Proposal::Drain { object: n1() }).await;
    assert_eq!(drained.preview.unwrap().dependents.unwrap(), shown, "of a drain those of the pods that move");
    let paused = world.ask(Proposal::PauseRollout { object: web() }).await;
    assert_eq!(paused.preview.unwrap().dependents, None, "no pod is touched");
    for nth in 0..500 {
        world.cluster.put(service(&format!("s{nth}"), "web")).unwrap();
    }
    let crowded = world.ask(Proposal::Scale { object: web(), replicas: 3 }).await.preview.unwrap().dependents.unwrap();
    assert!(crowded.services.missing().unwrap().as_str().contains("more than 500"), "half a list is no answer");
}
