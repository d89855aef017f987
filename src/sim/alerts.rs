//! Alertmanager as the demo plays it: a scenario's webhook bodies, their times moved to now, firing and then resolved.

use std::time::Duration;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::sim::cluster::Cluster;
use crate::sim::world::{Living, Scenario};

/// Alertmanager's own timeout for a notification is of this order.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The alerts of a scenario.
pub struct Alerts {
    /// In the order of the trigger's sequence; each with its `startsAt` moved so that the snapshot's present is now.
    bodies: Vec<Value>,
    http: reqwest::Client,
}

impl Alerts {
    /// The bodies that the scenario's trigger names.
    ///
    /// # Errors
    /// When the scenario is not triggered by alerts, or one of its files is wrong.
    pub fn of(scenario: &Scenario, cluster: &Cluster) -> anyhow::Result<Self> {
        let trigger = match scenario.json("trigger.json") {
            Ok(trigger) => trigger,
            Err(_) => scenario.json("truth.json").context("neither trigger.json nor truth.json")?["trigger"].take(),
        };
        let steps = match trigger["sequence"].as_array() {
            Some(steps) => steps.clone(),
            None => vec![trigger.clone()],
        };
        let alerts = trigger["type"] == "alertmanager" && !steps.is_empty();
        anyhow::ensure!(alerts, "{}: its trigger is no alert, which is all that the demo plays", scenario.name);
        let snapshot = scenario.json("cluster.json")?["x-epoch"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
        let by = snapshot.map_or(SignedDuration::ZERO, |snapshot| cluster.epoch().duration_since(snapshot));
        let mut bodies = Vec::new();
        for step in steps {
            let mut body = scenario.json(step["file"].as_str().context("trigger: a step names no file")?)?;
            for alert in body["alerts"].as_array_mut().into_iter().flatten() {
                let starts = alert["startsAt"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
                if let Some(starts) = starts.and_then(|starts| starts.checked_add(by).ok()) {
                    alert["startsAt"] = json!(starts.to_string());
                }
            }
            bodies.push(body);
        }
        Ok(Self { bodies, http: reqwest::Client::builder().timeout(ANSWER_WITHIN).no_proxy().build()? })
    }

    /// How many bodies there are.
    pub fn count(&self) -> usize {
        self.bodies.len()
    }

    /// Sends body `index` as it fires; None where nothing of it is there any more (pods that a rollback removed). A new
    /// `since` is what a rule says that went quiet and fires again.
    ///
    /// # Errors
    /// When the webhook does not take it.
    pub async fn fire(
        &self,
        index: usize,
        cluster: &Cluster,
        since: Option<Timestamp>,
        living: &Living,
    ) -> anyhow::Result<Option<String>> {
        let mut body = self.bodies.get(index).cloned().unwrap_or_default();
        if let Some(alerts) = body["alerts"].as_array_mut() {
            alerts.retain(|alert| still_there(cluster, &alert["labels"]));
            for alert in alerts.iter_mut() {
                if let Some(since) = since {
                    alert["startsAt"] = json!(since.to_string());
                }
            }
            if alerts.is_empty() {
                return Ok(None);
            }
        }
        self.post(&body, living).await?;
        Ok(Some(named(&body)))
    }

    /// Sends body `index` as resolved at `now`.
    ///
    /// # Errors
    /// When the webhook does not take it.
    pub async fn resolve(&self, index: usize, now: Timestamp, living: &Living) -> anyhow::Result<String> {
        let mut body = self.bodies.get(index).cloned().unwrap_or_default();
        body["status"] = json!("resolved");
        for alert in body["alerts"].as_array_mut().into_iter().flatten() {
            alert["status"] = json!("resolved");
            alert["endsAt"] = json!(now.to_string());
        }
        self.post(&body, living).await?;
        Ok(named(&body))
    }

    async fn post(&self, body: &Value, living: &Living) -> anyhow::Result<()> {
        let post = self.http.post(&living.webhook_url).bearer_auth(living.webhook_token.expose_secret());
        let answer = post.json(body).send().await.context("the webhook")?;
        let status = answer.status();
        anyhow::ensure!(status.is_success(), "the webhook answered {status}: {}", answer.text().await?);
        Ok(())
    }
}

/// `KubePodNotReady`, with how many alerts of it where there are several.
fn named(body: &Value) -> String {
    let alerts = body["alerts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let name = alerts.first().and_then(|alert| alert["labels"]["alertname"].as_str()).unwrap_or("an alert");
    if alerts.len() > 1 { format!("{name} ({} alerts)", alerts.len()) } else { name.to_owned() }
}

fn still_there(cluster: &Cluster, labels: &Value) -> bool {
    let text = |label: &str| labels[label].as_str();
    text("pod").is_none_or(|pod| cluster.get("Pod", text("namespace").unwrap_or_default(), pod).is_some())
}
