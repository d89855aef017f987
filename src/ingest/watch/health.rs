//! Whether the watches know the cluster's state, for `/readyz`.

use std::collections::BTreeMap;

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
    error: Option<String>,
}

impl Health {
    pub(super) fn begins(&self, watch: &str, needed: bool) {
        self.with(watch, |state| *state = State { synced: false, needed, error: None });
    }

    pub(super) fn synced(&self, watch: &str) {
        self.with(watch, |state| (state.synced, state.error) = (true, None));
    }

    /// A watch that was synced stays so while it is being taken up again: what it knows is only not of this second.
    /// Returns whether that is news.
    pub(super) fn failed(&self, watch: &str, error: String) -> bool {
        let mut news = false;
        self.with(watch, |state| news = state.error.replace(error).is_none());
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

    /// Fine, or which watches are not synced or have lost their connection, with the last error.
    pub fn state(&self) -> Result<(), String> {
        let states = self.0.borrow();
        if states.is_empty() {
            return Err("not started".to_owned());
        }
        let ill: Vec<String> = states
            .iter()
            .filter(|(_, state)| state.needed && (!state.synced || state.error.is_some()))
            .map(|(watch, state)| match &state.error {
                Some(error) => format!("{watch}: {error}"),
                None => format!("{watch}: not synced yet"),
            })
            .collect();
        if ill.is_empty() { Ok(()) } else { Err(ill.join("; ")) }
    }

    fn with(&self, watch: &str, change: impl FnOnce(&mut State)) {
        self.0.send_modify(|states| change(states.entry(watch.to_owned()).or_default()));
    }
}

fn all_synced(states: &States) -> bool {
    !states.is_empty() && states.values().all(|state| state.synced || !state.needed)
}
