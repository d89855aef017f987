//! The order in which signals arrive makes no difference to the incidents, through the webhook and the stages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::grouping::{four_names, in_trouble};
use super::shared::{of_deployment, with_twin};
use super::*;
use crate::correlate::{Change, Resolved, Rules, late, plan};
use crate::findings;
use crate::model::{ObjectRef, Scene, Severity, SignalId};

/// Orders of each world that are tried in an ordinary run: a hundred of all.
const ORDERS: u32 = 34;
/// `FIRSTLOOK_ORDERS=1000` tries so many instead.
const ORDERS_VARIABLE: &str = "FIRSTLOOK_ORDERS";

/// One thing that is heard.
#[derive(Clone)]
enum Heard {
    Body(Value),
    Watch(Box<Signal>),
}

/// All that is heard in a town.
type Hears = fn(&Town) -> Vec<Heard>;

/// What is open in the end: each subject, how bad it is, how many alerts it holds.
type Outcome = Vec<(String, Severity, u32)>;

/// Numbers that are the same in each run (xorshift, by Marsaglia).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn shuffle<T>(&mut self, all: &mut [T]) {
        for at in (1..all.len()).rev() {
            all.swap(at, self.below(at + 1));
        }
    }
}

/// What becomes of all that `heard` names, in an order by chance, with rests by chance between.
async fn outcome(
    scenario: &Scenario,
    heard: impl Fn(&Town) -> Vec<Heard>,
    chance: &mut Chance,
    mixed: bool,
) -> Outcome {
    let town = Town::of(scenario.clone()).await;
    let mut all = heard(&town);
    if mixed {
        chance.shuffle(&mut all);
    }
    for one in all {
        match one {
            Heard::Body(body) => town.post(&body).await,
            Heard::Watch(signal) => {
                town.store.commit(vec![Write::Signals(vec![*signal])], Durability::Durable, None).await.unwrap();
            }
        }
        if !mixed || chance.below(2) == 0 {
            town.settle().await;
        }
    }
    for _ in 0..3 {
        town.pass(20).await;
    }
    let mut outcome = Vec::new();
    for incident in town.open().await {
        let card = town.store.card(&incident.id).await.unwrap().unwrap();
        outcome.push((incident.subject.to_string(), incident.severity, card.heard.alerts));
    }
    outcome.sort();
    outcome
}

fn one_bad_image(town: &Town) -> Vec<Heard> {
    let waiting = super::grouping::WAITING;
    let alerts = four_names(town.now(), "shop", "checkout", &waiting).into_iter();
    let mut heard: Vec<Heard> = alerts.map(|alert| Heard::Body(body(&[alert]))).collect();
    heard.extend(waiting.map(|pod| Heard::Watch(Box::new(in_trouble(town, pod, "ImagePullBackOff")))));
    heard.push(Heard::Body(body(&[alert("Watchdog", town.now(), &[])])));
    heard
}

fn two_faults(town: &Town) -> Vec<Heard> {
    let each = |file: &str| -> Vec<Heard> {
        let body_of_file = town.body(file);
        let alerts = body_of_file["alerts"].as_array().unwrap();
        alerts.iter().map(|alert| Heard::Body(body(std::slice::from_ref(alert)))).collect()
    };
    ["alert.json", "alert-02.json"].into_iter().flat_map(each).collect()
}

fn two_victims(town: &Town) -> Vec<Heard> {
    let name = "KubeDeploymentReplicasMismatch";
    let victims = ["order-intake", "order-export", "session-cache"];
    victims.map(|victim| Heard::Body(body(&[of_deployment(name, town, "orders-eu", victim)]))).into()
}

/// Orders that are tried without the stages: pure, so a hundred take no time.
const PURE_ORDERS: usize = 100;

/// What a town has heard, each with its subject, and the scenes that it has read.
struct Known {
    heard: Vec<Resolved>,
    scenes: BTreeMap<ObjectRef, Arc<Scene>>,
}

/// Everything that is stored once all has been heard and has settled.
async fn known(scenario: &Scenario, heard: Hears) -> Known {
    let town = Town::of(scenario.clone()).await;
    for one in heard(&town) {
        match one {
            Heard::Body(body) => town.post(&body).await,
            Heard::Watch(signal) => {
                town.store.commit(vec![Write::Signals(vec![*signal])], Durability::Durable, None).await.unwrap();
            }
        }
    }
    for _ in 0..3 {
        town.pass(20).await;
    }
    let mut incidents = town.store.recent_incidents(town.now() - SignedDuration::from_hours(24)).await.unwrap();
    // One that was taken in knows best what its signals are about.
    incidents.sort_by_key(|incident| incident.absorbed_by.is_none());
    let (mut signals, mut scenes) = (BTreeMap::new(), BTreeMap::new());
    let mut subjects: BTreeMap<SignalId, ObjectRef> = BTreeMap::new();
    for incident in &incidents {
        for signal in town.store.signals_of(&incident.id, 1000).await.unwrap() {
            signals.insert(signal.id.clone(), signal);
        }
        for why in &incident.why {
            let subject = why.joined.as_ref().map_or(&incident.subject, |joined| &joined.object);
            subjects.entry(why.signal.clone()).or_insert_with(|| subject.clone());
        }
    }
    let all: BTreeSet<&ObjectRef> = subjects.values().chain(incidents.iter().map(|one| &one.subject)).collect();
    for subject in all {
        if let Some(scene) = town.store.scene(subject).await.unwrap() {
            scenes.insert(subject.clone(), scene);
        }
    }
    let resolved = |(id, signal)| Resolved { signal, subject: subjects.get(&id).cloned() };
    Known { heard: signals.into_iter().map(resolved).collect(), scenes }
}

/// What `correlate` alone makes of it, signal by signal: the subjects of what is open in the end.
fn placed(known: &Known, heard: &[Resolved], now: Timestamp) -> Vec<String> {
    let rules = Rules::default();
    let mut incidents: Vec<Incident> = Vec::new();
    let put = |incidents: &mut Vec<Incident>, incident: Incident| match incidents
        .iter_mut()
        .find(|one| one.id == incident.id)
    {
        Some(one) => *one = incident,
        None => incidents.push(incident),
    };
    for one in heard {
        let weigh = |scene: &Scene| findings::weight(scene, now);
        for change in plan(&incidents, std::slice::from_ref(one), &known.scenes, &weigh, &rules, now) {
            if let Change::Open { mut incident, .. } | Change::Join { mut incident, .. } = change {
                if let Some(scene) = known.scenes.get(&incident.subject) {
                    let found = findings::find(scene, now);
                    incident.cause = late::cause(scene, &found).map(Box::new);
                    incident.shares = late::shared(&found).map(Box::new);
                }
                put(&mut incidents, *incident);
            }
        }
        while let Some((stays, goes)) = incidents.iter().find_map(|one| late::merge(one, &incidents, &rules, now)) {
            put(&mut incidents, stays);
            put(&mut incidents, goes);
        }
    }
    let open = incidents.iter().filter(|incident| incident.state == IncidentState::Open);
    let mut open: Vec<String> = open.map(|incident| incident.subject.to_string()).collect();
    open.sort();
    open
}

#[tokio::test]
async fn no_order_of_a_hundred_makes_a_difference_to_what_is_placed_and_merged() {
    let twins = with_twin("dependency-down-innocent-rollout", "order-intake", "order-export", &[]);
    let worlds: [(Scenario, Hears, usize); 3] = [
        (without_model(folder("bad-image-rollout")), one_bad_image, 1),
        (without_model(folder("two-faults-one-namespace")), two_faults, 2),
        (twins, two_victims, 1),
    ];
    for (scenario, heard, incidents) in worlds {
        let known = Box::pin(known(&scenario, heard)).await;
        let now = known.scenes.values().map(|scene| scene.read_at).max().unwrap();
        let expected = placed(&known, &known.heard, now);
        assert_eq!(expected.len(), incidents, "{expected:?}");
        for seed in 1..=PURE_ORDERS {
            let mut mixed = known.heard.clone();
            Chance((seed as u64 * 88_172_645_463_325_252) | 1).shuffle(&mut mixed);
            assert_eq!(placed(&known, &mixed, now), expected, "in the order of seed {seed}");
        }
    }
}

#[tokio::test]
async fn the_order_of_arrival_makes_no_difference_to_the_incidents() {
    let worlds: [(Scenario, Hears, usize); 3] = [
        (without_model(folder("bad-image-rollout")), one_bad_image, 1),
        (without_model(folder("two-faults-one-namespace")), two_faults, 2),
        (with_twin("dependency-down-innocent-rollout", "order-intake", "order-export", &[]), two_victims, 1),
    ];
    let mut chance = Chance(88_172_645_463_325_252);
    let mut expected = Vec::new();
    for (scenario, heard, incidents) in &worlds {
        let outcome = Box::pin(outcome(scenario, heard, &mut chance, false)).await;
        assert_eq!(outcome.len(), *incidents, "{outcome:?}");
        expected.push(outcome);
    }
    let orders = std::env::var(ORDERS_VARIABLE).ok().and_then(|orders| orders.parse().ok());
    for _ in 0..orders.unwrap_or(ORDERS) {
        for ((scenario, heard, _), expected) in worlds.iter().zip(&expected) {
            let seed = chance.0;
            let outcome = Box::pin(outcome(scenario, heard, &mut chance, true)).await;
            assert_eq!(outcome, *expected, "in the order of seed {seed}");
        }
    }
}
