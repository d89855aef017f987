//! Whether the watches know the cluster's state, for `/readyz`.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::watch;

/// The state of each watch. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Health(watch::Sender<States>);

type States = BTreeMap<String, State>;

#[derive(Clone, Debug, Default)]
struct State {
    synced: bool,
    /// Whether firstlook is ready without it.
    needed: bool,
    /// The namespace that it watches; None for all.
    place: Option<String>,
    error: Option<String>,
    /// The API server says that it is not to be read, or is not there (403, 404).
    barred: bool,
    /// What is read beside a watch, once at first and again when it changes.
    read: bool,
}

impl State {
    fn is_ill(&self) -> bool {
        self.needed && (!self.synced || self.error.is_some())
    }
}

impl Health {
    pub(super) fn begins(&self, watch: &str, place: Option<&str>, needed: bool) {
        let place = place.map(str::to_owned);
        self.with(watch, |state| *state = State { needed, place, ..State::default() });
    }

    /// The same of what is read beside a watch: firstlook is ready without it.
    pub(super) fn begins_to_read(&self, what: &str, place: Option<&str>) {
        let place = place.map(str::to_owned);
        self.with(what, |state| *state = State { place, read: true, ..State::default() });
    }

    /// Returns whether it had failed before.
    pub(super) fn synced(&self, watch: &str) -> bool {
        let mut news = false;
        self.with(watch, |state| {
            news = state.error.take().is_some();
            (state.synced, state.barred) = (true, false);
        });
        news
    }

    /// A watch that was synced stays so while it is being taken up again: what it knows is only not of this second.
    /// Returns whether that is news.
    pub(super) fn failed(&self, watch: &str, error: String, barred: bool) -> bool {
        let mut news = false;
        self.with(watch, |state| {
            news = state.error.replace(error).is_none();
            state.barred = barred;
        });
        news
    }

    /// Whether every watch has read its first list.
    pub fn is_synced(&self) -> bool {
        all_synced(&self.0.borrow())
    }

    /// Returns when every watch has read its first list.
    pub(super) async fn until_synced(&self) {
        // The sender is this very value: it does not go away meanwhile.
        let _ = self.0.subscribe().wait_for(all_synced).await;
    }

    /// How many of the listed namespaces cannot be watched at all.
    pub(super) fn count_away(&self) -> usize {
        away(&self.0.borrow()).len()
    }

    /// Fine, or which of the listed namespaces cannot be watched at all, with what the API server says: a namespace that
    /// was deleted takes its Role along. The others are watched as before.
    pub fn places(&self) -> Result<(), String> {
        let states = self.0.borrow();
        let away = away(&states);
        let says = |place: &&str| {
            let of_it = states.values().find(|state| state.barred && state.place.as_deref() == Some(*place));
            format!("{place} is not watched: {}", of_it.and_then(|state| state.error.as_deref()).unwrap_or_default())
        };
        if away.is_empty() { Ok(()) } else { Err(away.iter().map(says).collect::<Vec<_>>().join("; ")) }
    }

    /// Fine, or which watches are not synced or have lost their connection, with the last error.
    pub fn state(&self) -> Result<(), String> {
        let states = self.0.borrow();
        if states.is_empty() {
            return Err("not started".to_owned());
        }
        let away = away(&states);
        told(&states, "not synced yet", |state| state.is_ill() && !is_in(state, &away))
    }

    /// Fine, or which ConfigMaps that workloads read were not all read once: an edit of one that was not is not heard.
    pub fn config_maps(&self) -> Result<(), String> {
        let states = self.0.borrow();
        let away = away(&states);
        told(&states, "not read yet", |state| state.read && !state.synced && !is_in(state, &away))
    }

    fn with(&self, watch: &str, change: impl FnOnce(&mut State)) {
        self.0.send_modify(|states| change(states.entry(watch.to_owned()).or_default()));
    }
}

/// Fine, or those that are `ill`, each with its error or what is to be said without one.
fn told(states: &States, says: &str, ill: impl Fn(&State) -> bool) -> Result<(), String> {
    let ill = states.iter().filter(|(_, state)| ill(state));
    let ill: Vec<String> =
        ill.map(|(watch, state)| format!("{watch}: {}", state.error.as_deref().unwrap_or(says))).collect();
    if ill.is_empty() { Ok(()) } else { Err(ill.join("; ")) }
}

fn all_synced(states: &States) -> bool {
    let away = away(states);
    !states.is_empty() && states.values().all(|state| state.synced || !state.needed || is_in(state, &away))
}

/// The namespaces of which nothing that is needed may be read, as long as there are others: with none firstlook is deaf.
fn away(states: &States) -> BTreeSet<&str> {
    let needed = || states.values().filter(|state| state.needed);
    let here: BTreeSet<Option<&str>> =
        needed().filter(|state| !(state.barred && state.is_ill())).map(|state| state.place.as_deref()).collect();
    let all: BTreeSet<Option<&str>> = needed().map(|state| state.place.as_deref()).collect();
    if here.is_empty() { BTreeSet::new() } else { all.difference(&here).flatten().copied().collect() }
}

fn is_in(state: &State, places: &BTreeSet<&str>) -> bool {
    state.place.as_deref().is_some_and(|place| places.contains(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_namespace_that_is_gone_is_a_warning_and_all_of_them_are_not() {
        let health = Health::default();
        for place in ["shop", "cart"] {
            for kind in ["pods", "jobs"] {
                health.begins(&format!("{kind} in {place}"), Some(place), true);
            }
            health.begins(&format!("cronjobs in {place}"), Some(place), false);
        }
        assert!(health.state().is_err() && health.places().is_ok());
        for watch in ["pods in shop", "jobs in shop"] {
            health.synced(watch);
        }
        health.failed("pods in cart", "forbidden (403)".into(), true);
        assert!(health.state().unwrap_err().contains("pods in cart"), "the rest of it may still be there");
        health.failed("jobs in cart", "forbidden (403)".into(), true);
        assert_eq!((health.state(), health.is_synced(), health.count_away()), (Ok(()), true, 1));
        assert_eq!(health.places(), Err("cart is not watched: forbidden (403)".to_owned()));

        health.failed("jobs in cart", "no answer in time".into(), false);
        assert!(health.state().is_err() && health.places().is_ok(), "an API server that does not answer says nothing");
        for watch in ["pods in shop", "jobs in shop", "jobs in cart"] {
            health.failed(watch, "forbidden (403)".into(), true);
        }
        assert!(health.state().is_err() && health.count_away() == 0, "where nothing is heard, nothing is ready");
        for watch in ["pods in shop", "jobs in shop", "pods in cart", "jobs in cart"] {
            assert!(health.synced(watch));
        }
        assert_eq!((health.state(), health.places()), (Ok(()), Ok(())));

        let whole = Health::default();
        whole.begins("pods", None, true);
        whole.begins("nodes", None, true);
        whole.synced("nodes");
        whole.failed("pods", "forbidden (403)".into(), true);
        assert!(whole.state().is_err(), "of the whole cluster nothing may be missing");
    }
}
