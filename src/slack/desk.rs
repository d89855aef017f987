//! Where clicks arrive, over HTTP or Socket Mode: parsed, handed on, and acknowledged only once they are on disk.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::model::Click;
use crate::slack::client::Slack;
use crate::slack::interact;
use crate::slack::interact::{Parsed, Place, Refusal};

/// Takes a click to disk; Slack is told that it arrived only when this has returned `Ok`.
pub type OnClick = Arc<dyn Fn(Click) -> BoxFuture<'static, anyhow::Result<()>> + Send + Sync>;

/// Slack's trigger lives three seconds; later the form does not open any more.
const OPEN_WITHIN: Duration = Duration::from_millis(2_500);

/// The one way of a click into firstlook. Clones are the same desk.
#[derive(Clone)]
pub struct Desk {
    pub place: Place,
    pub clock: Clock,
    pub slack: Slack,
    pub on_click: OnClick,
}

/// Why a payload was not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// It will never be understood: repeating it is useless.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be stored: it should come again.
    #[error("the click could not be stored")]
    NotStored(#[source] anyhow::Error),
}

impl Desk {
    /// Takes one payload (JSON, already verified). `Ok` means that it is on disk, or asks for nothing that must be.
    pub async fn take(&self, payload: &str) -> Result<(), NotTaken> {
        match interact::parse(payload, &self.place, self.clock.now())? {
            Parsed::Click(click) => (self.on_click)(click).await.map_err(NotTaken::NotStored),
            Parsed::OpenReason { of, trigger, response_url } => {
                let slack = self.slack.clone();
                // Apart, so that a slow Slack holds up no other click.
                tokio::spawn(async move {
                    let open = slack.open_reason(&trigger, &of, response_url.as_deref());
                    match timeout(OPEN_WITHIN, open).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => tracing::warn!(?of, %error, "the form for a reason did not open"),
                        Err(_) => tracing::warn!(?of, "the form for a reason did not open in time"),
                    }
                });
                Ok(())
            }
            Parsed::Nothing => Ok(()),
        }
    }
}
