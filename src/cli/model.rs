//! `--model` and what belongs to it, the same for every command that may ask one.

use std::time::Duration;

use clap::Args;

use crate::agent::llm::LlmOptions;
use crate::model::Room;
use crate::sim::replay::Mind;

/// Where the key of `--model URL` comes from.
const KEY_VARIABLE: &str = "FIRSTLOOK_MODEL_API_KEY";

/// Who thinks, and for how long.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// `none`, or the base URL, with /v1, of an OpenAI-compatible server, whose key comes from FIRSTLOOK_MODEL_API_KEY;
    /// for eval also `scripted`, the folder's own answers.
    #[arg(long, value_name = "none|URL", default_value = "none", value_parser = known)]
    pub model: String,
    /// The model's name on that server.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub model_name: String,
    /// Time for one answer of the model.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = seconds)]
    pub turn_timeout: Duration,
}

impl ModelArgs {
    /// Who that is.
    pub fn mind(&self) -> Mind {
        match self.model.as_str() {
            "none" => Mind::None,
            "scripted" => Mind::Scripted,
            url => Mind::Server(LlmOptions {
                base_url: url.to_owned(),
                model: self.model_name.clone(),
                api_key: std::env::var(KEY_VARIABLE).ok().map(Into::into),
                turn_timeout: self.turn_timeout,
                room: Room::default(),
            }),
        }
    }
}

/// The host of a model's URL, with its port.
pub fn host(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    // What stands before an at sign is a login.
    let host = rest.split(['/', '?', '#']).next()?.rsplit('@').next()?;
    (!host.is_empty() && !host.contains(char::is_whitespace)).then_some(host)
}

/// About how many tokens that many bytes are. It depends on the model: three and a half bytes each is what such text takes
/// with most.
pub fn tokens(bytes: usize) -> usize {
    bytes * 2 / 7
}

fn known(text: &str) -> Result<String, String> {
    match text {
        "none" | "scripted" => Ok(text.to_owned()),
        url if host(url).is_some() => Ok(text.to_owned()),
        _ => Err("write none, or a URL such as http://127.0.0.1:11434/v1".into()),
    }
}

/// `60s`, `2m`, or plain seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    let (digits, unit) = match text.strip_suffix('m') {
        Some(digits) => (digits, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(unit))
        .map(Duration::from_secs)
        .ok_or_else(|| "write a duration such as 60s or 2m".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_none_scripted_or_a_url_and_its_login_is_no_part_of_its_host() {
        assert_eq!(host("https://ada:s3cret@models.example:8443/v1"), Some("models.example:8443"));
        for wrong in ["nonsense", "http://", "ftp://models.example", "http://two words/v1", ""] {
            assert!(known(wrong).is_err(), "{wrong}");
        }
        for right in ["none", "scripted", "http://127.0.0.1:11434/v1"] {
            assert_eq!(known(right).as_deref(), Ok(right));
        }
    }
}
