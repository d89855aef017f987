//! The order in which signals arrive makes no difference to the incidents, through the webhook and the stages.

use std::time::Instant;

use super::grouping::{four_names, in_trouble};
use super::shared::{of_deployment, with_twin};
use super::*;
use crate::model::Severity;

/// As long as the orders are tried, and how many must have been: far fewer than fit on a machine that does nothing else.
const FOR: Duration = Duration::from_secs(10);
const ORDERS_MIN: u64 = 6;

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
    let (began, mut orders) = (Instant::now(), 0);
    while began.elapsed() < FOR || orders < ORDERS_MIN {
        for ((scenario, heard, _), expected) in worlds.iter().zip(&expected) {
            let seed = chance.0;
            let outcome = Box::pin(outcome(scenario, heard, &mut chance, true)).await;
            assert_eq!(outcome, *expected, "in the order of seed {seed}");
            orders += 1;
        }
    }
}
