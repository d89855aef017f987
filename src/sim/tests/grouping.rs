//! Stories of what is one incident and what is not, through the webhook.

use super::*;
use crate::model::{ClusterName, Kind, ObjectRef, Rollout, SignalBody, SignalId};
use crate::model::{Warning, WarningSource};

pub(super) fn deployment(namespace: &str, name: &str) -> ObjectRef {
    ObjectRef::new(Kind::Deployment, Some(namespace), name).unwrap()
}

/// What the watch says of a rollout.
fn rolled_out(town: &Town, object: &ObjectRef) -> Signal {
    Signal {
        id: SignalId::derive(&["rollout", &object.to_string()]),
        cluster: ClusterName::parse("demo").unwrap(),
        heard_at: town.now(),
        body: SignalBody::Rollout(Rollout {
            object: object.clone(),
            revision: Some(4),
            template: "t".into(),
            at: town.now(),
            by: None,
            lines: Vec::new(),
        }),
    }
}

/// What the watch says of a pod that is in trouble.
pub(super) fn in_trouble(town: &Town, pod: &str, reason: &'static str) -> Signal {
    Signal {
        id: SignalId::derive(&["pod", pod, reason]),
        cluster: ClusterName::parse("demo").unwrap(),
        heard_at: town.now(),
        body: SignalBody::Warning(Warning {
            object: ObjectRef::new(Kind::Pod, Some("shop"), pod).unwrap(),
            source: WarningSource::PodState,
            reason: reason.into(),
            message: "".into(),
            first_at: town.now(),
            last_at: town.now(),
            count: 1,
            on_arrival: false,
        }),
    }
}

/// The pods that wait for their image in the scenario `bad-image-rollout`.
pub(super) const WAITING: [&str; 2] = ["checkout-tw2zzdljj6-jj7jf", "checkout-tw2zzdljj6-vxf2s"];

/// The four alert names that default rules fire for one image that does not exist.
pub(super) fn four_names(started: Timestamp, namespace: &str, workload: &str, pods: &[&str]) -> Vec<Value> {
    let of_pods = |name: &str| -> Vec<Value> {
        pods.iter().map(|pod| alert(name, started, &[("namespace", namespace), ("pod", pod)])).collect()
    };
    let of_workload = |name: &str| alert(name, started, &[("namespace", namespace), ("deployment", workload)]);
    let mut all = of_pods("KubePodNotReady");
    all.extend(of_pods("KubeContainerWaiting"));
    all.extend(["KubeDeploymentReplicasMismatch", "KubeDeploymentRolloutStuck"].map(of_workload));
    all
}

#[tokio::test]
async fn one_bad_image_that_fires_four_alert_names_is_one_incident_and_one_card() {
    let mut town = Town::of(without_model(folder("bad-image-rollout"))).await;
    for alert in four_names(town.now(), "shop", "checkout", &WAITING) {
        town.hear(&body(&[alert])).await;
    }
    // What the watch hears of the same fault belongs to it.
    let mut seen: Vec<Signal> = WAITING.map(|pod| in_trouble(&town, pod, "ImagePullBackOff")).into();
    seen.push(rolled_out(&town, &deployment("shop", "checkout")));
    town.notice(seen).await;
    let incidents = town.incidents().await;
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    assert_eq!(incidents[0].subject, deployment("shop", "checkout"));
    let card = town.store.card(&incidents[0].id).await.unwrap().unwrap();
    assert_eq!((card.heard.alerts, card.heard.warnings, card.heard.rollouts), (6, 2, 1));
    town.restart(30).await;
    assert_eq!((town.incidents().await.len(), town.channel().len()), (1, 1));
}

#[tokio::test]
async fn a_healthy_rollout_next_door_is_not_dragged_in() {
    let town = Town::of(without_model(folder("bad-image-rollout"))).await;
    let cart = deployment("shop", "cart");
    town.notice(vec![rolled_out(&town, &cart)]).await;
    assert!(town.incidents().await.is_empty(), "a rollout alone is no trouble");
    town.hear(&town.body("alert.json")).await;
    town.notice(vec![Signal { id: SignalId::derive(&["again"]), ..rolled_out(&town, &cart) }]).await;
    let incidents = town.incidents().await;
    assert_eq!(incidents.len(), 1);
    assert!(!incidents[0].also.contains(&cart) && incidents[0].cause.is_none(), "{:#?}", incidents[0]);
    let card = town.store.card(&incidents[0].id).await.unwrap().unwrap();
    assert_eq!(card.heard.rollouts, 0);
}

#[tokio::test]
async fn the_alerts_of_one_dead_node_are_one_incident_of_the_node() {
    let town = Town::of(folder("d06-node-lost-kubelet")).await;
    let mut heard = 0;
    for file in std::iter::once("alert.json".to_owned()).chain((2..=9).map(|n| format!("alert-0{n}.json"))) {
        let body = town.body(&file);
        heard += body["alerts"].as_array().unwrap().len();
        town.hear(&body).await;
    }
    assert_eq!(heard, 48);
    let incidents = town.incidents().await;
    assert_eq!(incidents.len(), 1, "{:#?}", incidents.iter().map(|i| &i.subject).collect::<Vec<_>>());
    assert_eq!(incidents[0].subject.kind, Kind::Node);
    let card = town.store.card(&incidents[0].id).await.unwrap().unwrap();
    assert_eq!(card.heard.alerts, 48);
    assert_eq!(town.channel().len(), 1);
}

#[tokio::test]
async fn ten_thousand_repeats_are_one_incident_and_one_paid_investigation() {
    let town = Town::of(folder("bad-image-rollout")).await;
    let pod = |nth: usize| alert("KubePodNotReady", started(nth), &[("namespace", "shop"), ("pod", WAITING[nth % 2])]);
    // A repeat of the same start is the same signal; every tenth here is a new one, as of a rule that flaps.
    fn started(nth: usize) -> Timestamp {
        Timestamp::from_second(1_774_300_000 + (nth as i64 / 20) * 2).unwrap()
    }
    for batch in 0..10 {
        let alerts: Vec<Value> = (0..1_000).map(|nth| pod(batch * 1_000 + nth)).collect();
        town.hear(&body(&alerts)).await;
        assert_eq!(town.incidents().await.len(), 1, "after batch {batch}");
    }
    assert_eq!(town.paid_turns(), 3, "one investigation of three turns");
    assert_eq!(town.world.model.missing(), Vec::<String>::new());
    assert_eq!(town.channel().len(), 1);
    let incident = &town.incidents().await[0];
    assert!(incident.why.len() <= 200 && incident.also.len() <= 200);
}

#[tokio::test]
async fn alerts_that_fire_always_open_nothing() {
    let town = Town::of(folder("d07-watchdog")).await;
    town.hear(&town.body("alert.json")).await;
    let started = town.now();
    town.hear(&body(&["InfoInhibitor", "DeadMansSwitch"].map(|name| alert(name, started, &[])))).await;
    assert!(town.incidents().await.is_empty());
    assert!(town.world.slack.messages().is_empty());
}

#[tokio::test]
async fn two_unrelated_faults_of_one_namespace_are_two_incidents() {
    let town = Town::of(folder("two-faults-one-namespace")).await;
    for file in ["alert.json", "alert-02.json"] {
        town.hear(&town.body(file)).await;
    }
    town.pass(20).await;
    let subjects: Vec<String> = town.open().await.iter().map(|incident| incident.subject.to_string()).collect();
    assert_eq!(subjects.len(), 2, "{subjects:?}");
    assert_eq!(town.channel().len(), 2);
}

/// The scenario `bad-image-rollout` with a second set of the objects of its namespace, in which `from` reads `to`.
fn doubled(from: &str, to: &str) -> Scenario {
    let mut scenario = without_model(folder("bad-image-rollout"));
    edit(&mut scenario, |items| {
        let copies: Vec<Value> = items
            .iter()
            .filter(|item| item["metadata"]["namespace"] == "shop" || item["metadata"]["name"] == "shop")
            .map(|item| serde_json::from_str(&item.to_string().replace(from, to)).unwrap())
            .filter(|copy| !items.contains(copy))
            .collect();
        items.extend(copies);
    });
    scenario
}

#[tokio::test]
async fn the_same_names_in_two_namespaces_are_two_incidents() {
    let town = Town::of(doubled("\"shop\"", "\"shop-eu\"")).await;
    for namespace in ["shop", "shop-eu"] {
        town.hear(&body(&four_names(town.now(), namespace, "checkout", &WAITING))).await;
    }
    town.pass(20).await;
    let mut subjects: Vec<ObjectRef> = town.open().await.into_iter().map(|incident| incident.subject).collect();
    subjects.sort();
    assert_eq!(subjects, [deployment("shop", "checkout"), deployment("shop-eu", "checkout")]);
}

#[tokio::test]
async fn near_names_are_not_merged() {
    let town = Town::of(folder("near-names")).await;
    town.hear(&town.body("alert.json")).await;
    let first = town.incidents().await;
    assert_eq!(first.len(), 1);
    let near = format!("{}s", first[0].subject.name());
    let namespace = first[0].subject.namespace().to_owned();
    let labels = [("namespace", namespace.as_str()), ("deployment", near.as_str())];
    town.hear(&body(&[alert("KubeDeploymentReplicasMismatch", town.now(), &labels)])).await;
    town.pass(20).await;
    assert_eq!(town.open().await.len(), 2, "a name that does not exist is no part of one that does");
}

/// A turn of a scripted model: calls of these tools.
fn turn(calls: &[(&str, Value)]) -> Vec<u8> {
    let calls: Vec<Value> = calls.iter().map(|(name, args)| json!({"name": name, "arguments": args})).collect();
    serde_json::to_vec(&json!({"tool_calls": calls})).unwrap()
}

#[tokio::test]
async fn what_the_model_learns_of_a_victim_brings_it_to_the_incident_at_the_cause() {
    let mut scenario = folder("bad-image-rollout");
    let answers: Vec<(String, Vec<u8>)> = scenario
        .files
        .iter()
        .filter(|(path, _)| path.starts_with("model/1/"))
        .map(|(path, bytes)| (path.replacen("model/1/", "model/2/", 1), bytes.clone()))
        .collect();
    scenario.files.retain(|path, _| !path.starts_with("model/1/"));
    scenario.files.extend(answers);
    let checkout = json!({"namespace": "shop", "kind": "Deployment", "name": "checkout"});
    scenario.files.insert("model/1/0001.json".into(), turn(&[("what_changed", checkout.clone())]));
    let report = json!({
        "headline": "storefront in shop answers errors since checkout's revision 7 does not start",
        "cause": "checkout cannot pull the image of its revision 7.", "certainty": "likely", "culprit": checkout,
        "citations": [{"evidence": "e12", "quote": "image: registry.harbour.example/shop/checkout:v2.4.0"}],
        "ruled_out": [], "next_step": "See checkout.", "proposals": [], "reasoning": [],
    });
    scenario.files.insert("model/1/0002.json".into(), turn(&[("submit_report", report)]));
    let town = Town::of(scenario).await;
    let labels = [("namespace", "shop"), ("deployment", "storefront")];
    town.hear(&body(&[alert("StorefrontErrors", town.now(), &labels)])).await;
    assert_eq!(town.open().await.len(), 1, "nothing is known of checkout yet");
    town.hear(&town.body("alert.json")).await;
    town.pass(20).await;
    let [incident] = &town.open().await[..] else { panic!("{:#?}", town.open().await) };
    assert_eq!(incident.subject, deployment("shop", "checkout"));
    assert_eq!(town.world.model.missing(), Vec::<String>::new());
    let channel = town.channel();
    let card = |what: &str| channel.iter().find(|message| message.plain().contains(what)).map(Message::plain);
    assert!(card("Took in 1 incident").is_some_and(|card| card.contains("the model's report")), "{channel:#?}");
    assert!(card("Taken in").is_some_and(|card| card.contains("storefront")), "{channel:#?}");
    let buttons: usize = channel.iter().map(|message| message.buttons().len()).sum();
    assert!(buttons > 0, "the step that helps is still asked for: {channel:#?}");
}

#[tokio::test]
async fn an_alert_that_its_rules_still_raise_stays_open_however_old_it_is() {
    let mut scenario = without_model(folder("bad-image-rollout"));
    scenario.files.insert("metrics.json".into(), br#"{"series": []}"#.to_vec());
    let snapshot = scenario.json("cluster.json").unwrap();
    let now: Timestamp = snapshot["x-epoch"].as_str().unwrap().parse().unwrap();
    let firing = body(&[alert("CartErrorsHigh", now, &[("namespace", "shop"), ("deployment", "cart")])]);
    scenario.files.insert("alert.json".into(), serde_json::to_vec(&firing).unwrap());
    let town = Town::of(scenario).await;
    town.hear(&firing).await;
    town.pass(26 * 3600).await;
    assert_eq!(town.open().await.len(), 1, "Prometheus says that it fires still");
}

#[tokio::test]
async fn a_stale_alert_whose_fault_is_gone_says_why_it_is_taken_for_recovered() {
    let town = Town::of(folder("stale-alert-recovered")).await;
    town.hear(&town.body("alert.json")).await;
    let [card] = &town.channel()[..] else { panic!("{:#?}", town.channel()) };
    let plain = card.plain();
    assert!(plain.contains("Already recovered"), "{plain}");
    assert!(plain.contains("revision 10") && plain.contains("4.4.0"), "with what mended it: {plain}");
    assert!(card.buttons().is_empty());
}

#[tokio::test]
async fn what_flaps_reopens_its_incident_within_the_window_and_opens_another_after_it() {
    let town = Town::of(without_model(folder("bad-image-rollout"))).await;
    let fires = |town: &Town| {
        let labels = [("namespace", "shop"), ("deployment", "cart")];
        body(&[alert("CartErrorsHigh", town.now(), &labels)])
    };
    for flap in 0..3 {
        let firing = fires(&town);
        town.hear(&firing).await;
        town.pass(60).await;
        town.hear(&resolved(firing, town.now())).await;
        assert_eq!(town.open().await.len(), 0, "flap {flap}");
        town.pass(60).await;
    }
    assert_eq!((town.incidents().await.len(), town.channel().len()), (1, 1));
    town.pass(40 * 60).await;
    town.hear(&fires(&town)).await;
    assert_eq!(town.incidents().await.len(), 2, "half an hour of silence ends it");
}
