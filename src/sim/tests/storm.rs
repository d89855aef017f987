//! Stories of storms: many incidents within a minute, through the webhook to the channel, on each engine.

use std::collections::BTreeSet;

use super::*;
use crate::model::{ApprovalState, Severity};
use crate::sim::slack::Fault;
use crate::store::tests::world;
use crate::store::tests::world::on_each_engine;

/// A town over one of the engines.
struct Storm<'a> {
    town: Town,
    database: &'a world::World,
}

/// A Deployment of three pods, so many of which are ready while the others crash; `labels` stand on the Deployment.
pub(super) fn limping(name: &str, ready: usize, labels: &Value) -> Vec<Value> {
    let made = "2026-03-20T10:00:00Z";
    let of = |kind: &str, owner: &str| json!([{"apiVersion": "apps/v1", "kind": kind, "name": owner, "uid": format!("u-{kind}-{owner}"), "controller": true}]);
    let template = json!({"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "app", "image": "registry.example/app:1"}]}});
    let selector = json!({"matchLabels": {"app": name}});
    let status = json!({"replicas": 3, "readyReplicas": ready, "availableReplicas": ready, "updatedReplicas": 3, "observedGeneration": 1});
    let meta = |kind: &str, name: &str| json!({"name": name, "namespace": "depot", "uid": format!("u-{kind}-{name}"), "creationTimestamp": made, "generation": 1});
    let mut deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta("Deployment", name),
        "spec": {"replicas": 3, "selector": selector, "template": template}, "status": status});
    deployment["metadata"]["labels"] = labels.clone();
    deployment["metadata"]["annotations"] = json!({"deployment.kubernetes.io/revision": "1"});
    let set = format!("{name}-5f");
    let mut replica_set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": meta("ReplicaSet", &set),
        "spec": {"replicas": 3, "selector": selector, "template": template}, "status": {"replicas": 3, "readyReplicas": ready}});
    replica_set["metadata"]["ownerReferences"] = of("Deployment", name);
    replica_set["metadata"]["annotations"] = json!({"deployment.kubernetes.io/revision": "1"});
    let mut items = vec![deployment, replica_set];
    for nth in 0..3 {
        let ready = nth < ready;
        let waiting =
            json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container"}});
        let state = if ready { json!({"running": {"startedAt": made}}) } else { waiting };
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta("Pod", &format!("{set}-{nth}")),
            "spec": {"nodeName": "node-a", "containers": [{"name": "app", "image": "registry.example/app:1"}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
                "containerStatuses": [{"name": "app", "image": "registry.example/app:1", "imageID": "", "ready": ready,
                    "restartCount": if ready { 0 } else { 9 }, "state": state}]}});
        pod["metadata"]["labels"] = json!({"app": name});
        pod["metadata"]["ownerReferences"] = of("ReplicaSet", &set);
        items.push(pod);
    }
    items
}

fn name(nth: usize) -> String {
    format!("crane-{nth:02}")
}

/// The scenario `bad-image-rollout`, and beside it these Deployments that limp; those of `critical` have no pod left, and a label says how they matter.
fn depot(count: usize, critical: &[usize]) -> Scenario {
    let mut scenario = without_model(folder("bad-image-rollout"));
    edit(&mut scenario, |items| {
        items.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "depot", "uid": "u-depot"}}));
        for nth in 0..count {
            let (ready, labels) =
                if critical.contains(&nth) { (0, json!({"tier": "critical"})) } else { (2, json!({})) };
            items.extend(limping(&name(nth), ready, &labels));
        }
    });
    scenario
}

impl<'a> Storm<'a> {
    async fn over(scenario: Scenario, database: &'a world::World) -> Self {
        Self { town: Box::pin(Town::over(scenario, Some(&database.url), |_| {})).await, database }
    }

    /// The alerts of these Deployments, each in a body of its own.
    async fn hear(&self, which: impl IntoIterator<Item = usize>) {
        for nth in which {
            let labels = [("namespace", "depot"), ("deployment", &name(nth))];
            self.town.post(&body(&[alert("KubeDeploymentReplicasMismatch", self.town.now(), &labels)])).await;
        }
        self.town.settle().await;
    }

    /// A second goes by, also on the clock of the database, and another process goes on.
    async fn restart(&mut self) {
        if !self.database.is_lite() {
            self.database.tamper("UPDATE claim SET until_ms = 0").await;
        }
        Box::pin(self.town.restart(1)).await;
    }

    /// The same until nothing is posted or edited any more.
    async fn calm(&mut self) {
        let mut before = Vec::new();
        loop {
            self.restart().await;
            self.restart().await;
            let shown: Vec<String> = self.town.world.slack.messages().iter().map(Message::plain).collect();
            if shown == before {
                return;
            }
            before = shown;
        }
    }

    /// Some of the Deployments whose incidents stand on the digest alone.
    fn on_digest(&self, count: usize) -> Vec<usize> {
        let thread = self.thread(&self.digests()[0]);
        let stands = |nth: &usize| thread.iter().any(|card| card.text.contains(&format!("{} in depot", name(*nth))));
        (0..20).filter(stands).take(count).collect()
    }

    /// The digests in the channel.
    fn digests(&self) -> Vec<Message> {
        self.town.channel().into_iter().filter(|message| message.plain().contains("more incident")).collect()
    }

    fn thread(&self, of: &Message) -> Vec<Message> {
        let all = self.town.world.slack.messages().into_iter();
        all.filter(|message| message.thread_ts.as_ref() == Some(&of.ts)).collect()
    }

    /// No message stands there twice: each has a mark of its own, which a second attempt bears too.
    fn assert_nothing_twice(&self) {
        let messages = self.town.world.slack.messages();
        let mark = |message: &Message| message.metadata.as_ref().unwrap()["event_payload"]["nonce"].to_string();
        assert_eq!(messages.iter().map(mark).collect::<BTreeSet<_>>().len(), messages.len());
    }
}

#[tokio::test]
async fn twenty_incidents_in_a_minute_are_five_cards_and_one_digest_that_lives_on() {
    on_each_engine(async |database| {
        let mut storm = Storm::over(depot(20, &[]), database).await;
        storm.hear(0..20).await;
        storm.calm().await;
        assert_eq!(storm.town.incidents().await.len(), 20);
        assert_eq!(storm.town.channel().len(), 6);
        let [digest] = &storm.digests()[..] else { panic!("one digest") };
        let shown = digest.plain();
        assert!(digest.text.contains("15 more incidents in 1 min; 15 are in namespace depot"), "{}", digest.text);
        assert!(shown.contains("15 open, 0 over"), "{shown}");
        let thread = storm.thread(digest);
        assert_eq!(thread.len(), 15, "a card for each, and nothing else");
        for card in &thread {
            let link = format!("p{}?thread_ts={}", card.ts.replace('.', ""), digest.ts);
            assert!(shown.contains(&link), "{link} in {shown}");
            assert!(card.plain().contains("crane-") && !card.plain().contains("details in the thread"));
        }
        storm.assert_nothing_twice();

        // Two get well: their alerts resolve.
        for nth in storm.on_digest(2) {
            for item in limping(&name(nth), 3, &json!({})) {
                storm.town.world.cluster.put(item).unwrap();
            }
            let labels = [("namespace", "depot"), ("deployment", &name(nth))];
            let firing = body(&[alert("KubeDeploymentReplicasMismatch", storm.town.now(), &labels)]);
            storm.town.post(&resolved(firing, storm.town.now())).await;
        }
        for _ in 0..4 {
            storm.town.pass(20).await;
        }
        storm.calm().await;
        let [digest] = &storm.digests()[..] else { panic!("one digest") };
        assert!(digest.plain().contains("13 open, 2 over"), "{}", digest.plain());
        assert_eq!(storm.town.channel().len(), 6, "what ends posts nothing");
        storm.assert_nothing_twice();
    })
    .await;
}

#[tokio::test]
async fn a_storm_posts_nothing_twice_when_answers_are_lost_and_the_process_ends_at_each_point() {
    on_each_engine(async |database| {
        let mut storm = Storm::over(depot(12, &[]), database).await;
        // Each process loses the answer to its first post: a card, then the digest, then cards in its thread.
        storm.town.world.slack.fail_next("chat.postMessage", Fault::DropAfterAccept);
        storm.hear(0..12).await;
        for _ in 0..12 {
            storm.town.world.slack.fail_next("chat.postMessage", Fault::DropAfterAccept);
            storm.restart().await;
            storm.restart().await;
        }
        storm.calm().await;
        assert_eq!((storm.town.channel().len(), storm.digests().len()), (6, 1));
        assert_eq!(storm.thread(&storm.digests()[0]).len(), 7);
        storm.assert_nothing_twice();
    })
    .await;
}

#[tokio::test]
async fn what_is_critical_or_asks_for_leave_has_a_card_in_the_channel_however_many_come() {
    on_each_engine(async |database| {
        let mut storm = Storm::over(depot(12, &[9]), database).await;
        storm.hear(0..12).await;
        let rollout =
            alert("KubeDeploymentRolloutStuck", storm.town.now(), &[("namespace", "shop"), ("deployment", "checkout")]);
        storm.town.hear(&body(&[rollout])).await;
        storm.calm().await;
        let all = storm.town.incidents().await;
        let critical = all.iter().find(|incident| incident.subject.name() == name(9)).unwrap();
        assert_eq!((critical.severity, critical.subject.name()), (Severity::Critical, "crane-09"));
        let alone = storm.town.channel().iter().any(|message| message.text.contains("crane-09 in depot"));
        assert!(alone, "it stands in the channel");
        let asked = all.iter().find(|incident| incident.subject.name() == "checkout").unwrap();
        let approvals = storm.town.store.approvals_of(&asked.id).await.unwrap();
        assert!(approvals.iter().any(|approval| approval.state == ApprovalState::Pending), "{approvals:?}");
        let in_channel = storm.town.channel();
        let button = in_channel.iter().find(|message| message.text.contains("checkout in shop")).unwrap();
        assert!(button.buttons().iter().any(|button| button["action_id"] == "approve"), "{:?}", button.buttons());
        let [digest] = &storm.digests()[..] else { panic!("one digest") };
        let thread = storm.thread(digest);
        assert!(thread.iter().all(|message| message.buttons().iter().all(|b| b["action_id"] != "approve")));
        storm.assert_nothing_twice();
    })
    .await;
}

/// What Slack refuses of a digest leaves the card of one on it in the channel.
async fn hides_nothing(refused: &str) {
    on_each_engine(async |database| {
        let mut storm = Storm::over(depot(8, &[]), database).await;
        storm.hear(0..8).await;
        storm.calm().await;
        assert_eq!((storm.town.channel().len(), storm.digests().len()), (6, 1));
        let nth = storm.on_digest(1)[0];
        storm.town.world.slack.fail_next("chat.update", Fault::Error(refused.into()));
        let again =
            alert("KubePodCrashLooping", storm.town.now(), &[("namespace", "depot"), ("deployment", &name(nth))]);
        storm.town.hear(&body(&[again])).await;
        storm.calm().await;
        let own = format!("{} in depot", name(nth));
        assert!(storm.town.channel().iter().any(|card| card.text.contains(&own)), "{:#?}", storm.town.channel());
    })
    .await;
}

#[tokio::test]
async fn a_digest_whose_thread_is_locked_hides_nothing() {
    hides_nothing("restricted_action_thread_locked").await;
}

#[tokio::test]
async fn a_digest_that_somebody_deleted_hides_nothing() {
    hides_nothing("message_not_found").await;
}
