//! Whether the rules that raised an incident's alerts still raise them, where Prometheus can be asked.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::model::{Alert, AlertStatus, IncidentId, SignalBody};
use crate::observe::Prometheus;
use crate::observe::prometheus::{RuleAlert, Rules};
use crate::store::Store;

/// The list is asked for this often at most, however many incidents wait for it: rules are evaluated as often.
const FRESH: SignedDuration = SignedDuration::from_secs(30);
/// The newest signals of an incident among which its alerts are looked for; more are repeats.
const SIGNALS_MAX: u32 = 500;

/// The list of alerts as it was last read.
#[derive(Default)]
pub struct Listed {
    prometheus: Option<Prometheus>,
    last: Mutex<Option<(Timestamp, Arc<Rules>)>>,
}

impl Listed {
    /// Nothing is asked yet.
    pub fn new(prometheus: Option<Prometheus>) -> Self {
        Self { prometheus, last: Mutex::default() }
    }

    /// Whether any alert of this incident that was not resolved is raised now; None where nobody can tell.
    ///
    /// # Errors
    /// The store's. A Prometheus that does not answer is one that cannot tell.
    pub async fn of(&self, store: &Store, incident: &IncidentId, now: Timestamp) -> anyhow::Result<Option<bool>> {
        let Some(list) = self.list(now).await else { return Ok(None) };
        let signals = store.signals_of(incident, SIGNALS_MAX).await?;
        let alerts = signals.iter().filter_map(|signal| match &signal.body {
            SignalBody::Alert(alert) => Some(alert),
            SignalBody::Warning(_) | SignalBody::Rollout(_) => None,
        });
        Ok(is_raised(&unresolved(alerts), &list))
    }

    async fn list(&self, now: Timestamp) -> Option<Arc<Rules>> {
        let prometheus = self.prometheus.as_ref()?;
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, list)) = last.filter(|(at, _)| now.duration_since(*at) < FRESH) {
            return Some(list);
        }
        match prometheus.rules().await {
            Ok(rules) => {
                let list = Arc::new(rules);
                *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, Arc::clone(&list)));
                Some(list)
            }
            Err(error) => {
                tracing::debug!("the list of alerts could not be read: {error}");
                None
            }
        }
    }
}

/// Of each alert the latest start, unless that is resolved.
fn unresolved<'a>(alerts: impl Iterator<Item = &'a Alert>) -> Vec<&'a Alert> {
    let mut latest: Vec<&Alert> = Vec::new();
    for alert in alerts {
        match latest.iter_mut().find(|known| known.fingerprint == alert.fingerprint) {
            Some(known) => {
                let resolves = alert.starts_at == known.starts_at && alert.status == AlertStatus::Resolved;
                if alert.starts_at > known.starts_at || resolves {
                    *known = alert;
                }
            }
            None => latest.push(alert),
        }
    }
    latest.retain(|alert| alert.status == AlertStatus::Firing);
    latest
}

fn is_raised(alerts: &[&Alert], list: &Rules) -> Option<bool> {
    if alerts.is_empty() {
        return None;
    }
    if alerts.iter().any(|alert| list.raised.iter().any(|raised| is_same(alert, raised))) {
        return Some(true);
    }
    // What cannot be evaluated raises nothing, whatever is the matter.
    let fails = |alert: &&Alert| list.failing.iter().any(|(name, _)| *name == alert.name);
    (!alerts.iter().any(fails)).then_some(false)
}

/// Alertmanager hears a rule's labels and adds its own; one that the rule still waits for counts as raised.
fn is_same(alert: &Alert, raised: &RuleAlert) -> bool {
    let labels = raised.labels.iter().all(|(name, value)| {
        let own = alert.labels.get(name).map(|own| own.one_line().cut(120));
        own.is_some_and(|own| own == *value)
    });
    alert.name == raised.name && alert.label("namespace") == raised.namespace.as_deref() && labels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(name: &'static str, pod: &'static str, status: AlertStatus, started: i64) -> Alert {
        let labels = [("alertname", name), ("namespace", "shop"), ("pod", pod), ("cluster", "eu")];
        Alert {
            receiver: "r".into(),
            group_key: "g".into(),
            fingerprint: pod.into(),
            name: name.into(),
            status,
            labels: labels.map(|(name, value)| (name.to_owned(), value.into())).into(),
            annotations: Default::default(),
            starts_at: Timestamp::from_second(started).unwrap(),
            ends_at: None,
            generator_url: None,
            truncated: 0,
        }
    }

    fn raised(name: &'static str, pod: &'static str) -> RuleAlert {
        RuleAlert {
            name: name.into(),
            firing: true,
            active_at: None,
            labels: vec![("pod".to_owned(), pod.into())],
            namespace: Some("shop".to_owned()),
            says: "".into(),
            value: "".into(),
            query: "".into(),
        }
    }

    #[test]
    fn an_alert_is_raised_when_a_rule_says_so_of_its_own_labels() {
        let alerts = [alert("Slow", "cart-1", AlertStatus::Firing, 1)];
        let told = |raised: Vec<RuleAlert>, failing: Vec<&'static str>| {
            let failing = failing.into_iter().map(|name| (name.into(), "parse error".into())).collect();
            is_raised(&unresolved(alerts.iter()), &Rules { raised, failing, ..Rules::default() })
        };
        assert_eq!(told(vec![raised("Slow", "cart-1")], Vec::new()), Some(true));
        assert_eq!(told(vec![raised("Slow", "cart-2"), raised("Slower", "cart-1")], Vec::new()), Some(false));
        assert_eq!(told(Vec::new(), vec!["Slow"]), None, "a rule that fails tells nothing");
        assert_eq!(told(Vec::new(), vec!["Slower", "Slow: also"]), Some(false));
    }

    #[test]
    fn only_the_latest_start_counts_and_its_resolve_is_final() {
        let of = |alerts: &[Alert]| unresolved(alerts.iter()).len();
        let (firing, resolved) = (AlertStatus::Firing, AlertStatus::Resolved);
        assert_eq!(of(&[alert("A", "p", firing, 1), alert("A", "p", resolved, 1), alert("A", "p", firing, 1)]), 0);
        assert_eq!(of(&[alert("A", "p", firing, 1), alert("A", "p", resolved, 1), alert("A", "p", firing, 9)]), 1);
        assert_eq!(of(&[alert("A", "p", firing, 1), alert("A", "q", resolved, 1)]), 1);
    }
}
