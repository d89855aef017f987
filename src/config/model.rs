//! Settings of the language model: where it is, and how much it takes in at once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;

use crate::config::record::Price;
use crate::model::Room;

/// Any OpenAI-compatible server.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// With `/v1`: `https://api.openai.com/v1`, `http://ollama:11434/v1`.
    pub base_url: String,
    pub name: String,
    pub api_key: Option<SecretString>,
    pub api_key_file: Option<PathBuf>,
    /// Seconds for one answer, retries within included.
    #[serde(default = "turn_timeout_seconds")]
    pub turn_timeout_seconds: u64,
    /// What a million tokens cost, by the model's name: for `limits.money_per_day` in the policy, and for `report`.
    #[serde(default)]
    pub prices: BTreeMap<String, Price>,
    /// What the server gives the model, prompt and answer together. Readings that do not fit are left out of the prompt,
    /// oldest first; the model can ask for each again.
    #[serde(default = "context_tokens")]
    pub context_tokens: u64,
    /// Offers only so many tools, the most useful ones, for a small model that chooses badly among many.
    pub tools_at_once: Option<usize>,
}

fn context_tokens() -> u64 {
    Room::default().context_tokens
}

/// The first request and an answer, at their greatest.
const CONTEXT_MIN_TOKENS: u64 = 8_000;
/// With fewer there is no telling what changed, what a log says and how a workload stands.
const TOOLS_MIN: usize = 3;

/// A slow local model needs about half a minute for a turn; a minute gives it room.
fn turn_timeout_seconds() -> u64 {
    60
}

impl Model {
    /// Whether the room it is said to have is enough.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.context_tokens < CONTEXT_MIN_TOKENS {
            return Err(format!("model.context_tokens: at least {CONTEXT_MIN_TOKENS}; raise the server's context"));
        }
        if self.tools_at_once.is_some_and(|count| count < TOOLS_MIN) {
            return Err(format!("model.tools_at_once: at least {TOOLS_MIN}; leave it out for all of them"));
        }
        Ok(())
    }

    /// The time for one answer.
    pub fn turn_timeout(&self) -> Duration {
        Duration::from_secs(self.turn_timeout_seconds)
    }
}
