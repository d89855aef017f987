//! Why a call to Slack did not succeed, by what to do about it.

use std::time::Duration;

use serde_json::Value;
use slack_morphism::errors::{SlackClientApiError, SlackClientError};

use crate::redact::{Redacted, Redactor};
use crate::text;

/// Why a call did not succeed, by remedy.
#[derive(Debug, thiserror::Error)]
pub enum SlackError {
    /// Nothing was done; try again no sooner than this.
    #[error("slack asks to wait {0:?}")]
    Wait(Duration),
    /// The answer was lost: a write may have happened or not. Look for it by its nonce before repeating it.
    #[error("slack's answer was lost: {0}")]
    Unknown(Redacted),
    /// Nothing was done, and no call will succeed until a person mends something: the token, a scope, the channel.
    #[error("slack refused: {0}")]
    Shut(Redacted),
    /// Nothing was done, and the same call will be refused again.
    #[error("slack refused: {0}")]
    Refused(Redacted),
    /// The message, form or response URL does not exist any more.
    #[error("gone from slack: {0}")]
    Gone(Redacted),
}

impl SlackError {
    /// The word used in metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Wait(_) => "wait",
            Self::Unknown(_) => "unknown",
            Self::Shut(_) => "shut",
            Self::Refused(_) => "refused",
            Self::Gone(_) => "gone",
        }
    }
}

/// When Slack does not say how long to wait, and when no connection came about.
const WAIT_DEFAULT: Duration = Duration::from_secs(5);
/// A longer wait than this would hide the card for too long; asking once more costs nothing.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// The remedy for what the client reports.
pub(super) fn remedy(error: SlackClientError, redactor: &Redactor) -> SlackError {
    match error {
        SlackClientError::RateLimitError(limit) => {
            SlackError::Wait(limit.retry_after.unwrap_or(WAIT_DEFAULT).clamp(Duration::from_secs(1), WAIT_MAX))
        }
        SlackClientError::ApiError(error) => of_code(&error, redactor),
        SlackClientError::HttpError(error) => {
            let status = error.status_code;
            let says = text!("http status {}", status.as_u16());
            match status.as_u16() {
                404 | 410 => SlackError::Gone(says),
                // A proxy on the way out says no.
                401 | 403 | 407 => SlackError::Shut(says),
                500.. => SlackError::Unknown(says),
                _ => SlackError::Refused(says),
            }
        }
        SlackClientError::HttpProtocolError(error) => match &error.cause {
            Some(cause) if never_connected(cause.as_ref()) => SlackError::Wait(WAIT_DEFAULT),
            _ => SlackError::Unknown(redactor.redact(&chain(&error.cause))),
        },
        SlackClientError::ProtocolError(_) => SlackError::Unknown("an answer that is not Slack's JSON".into()),
        other => SlackError::Unknown(redactor.redact(&other.to_string()).cut(300)),
    }
}

/// Whether the request cannot have reached Slack.
fn never_connected(cause: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    cause.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(hyper_util::client::legacy::Error::is_connect)
}

fn chain(cause: &Option<Box<dyn std::error::Error + Send + Sync>>) -> String {
    let Some(cause) = cause else {
        return "the connection broke".to_owned();
    };
    let mut text = cause.to_string();
    let mut source = cause.source();
    while let Some(inner) = source.filter(|_| text.len() < 300) {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

/// Codes: <https://docs.slack.dev/reference/methods/chat.postMessage#errors> and the pages of the other methods.
fn of_code(error: &SlackClientApiError, redactor: &Redactor) -> SlackError {
    let code = redactor.redact(&error.code).cut(80);
    match error.code.as_str() {
        "ratelimited" | "rate_limited" | "service_unavailable" | "request_timeout" | "team_added_to_org" => {
            SlackError::Wait(WAIT_DEFAULT)
        }
        // "It's possible some aspect of the operation succeeded."
        "fatal_error" | "internal_error" => SlackError::Unknown(code),
        "message_not_found"
        | "thread_not_found"
        | "cant_update_message"
        | "expired_trigger_id"
        | "trigger_expired"
        | "exchanged_trigger_id"
        | "expired_url"
        | "used_url" => SlackError::Gone(code),
        "not_in_channel" | "channel_not_found" => SlackError::Shut(text!("{}: invite the app to the channel", code)),
        "is_archived" => SlackError::Shut(text!("{}: unarchive the channel, or set another one", code)),
        "missing_scope" => {
            let needed = body(error).and_then(|body| body["needed"].as_str().map(str::to_owned)).unwrap_or_default();
            SlackError::Shut(text!("{}: the bot token lacks the scope {}", code, redactor.redact(&needed).cut(80)))
        }
        "invalid_auth"
        | "not_authed"
        | "account_inactive"
        | "token_revoked"
        | "token_expired"
        | "not_allowed_token_type" => SlackError::Shut(text!("{}: check the token", code)),
        // A setting of the workspace or the channel.
        "access_denied"
        | "accesslimited"
        | "ekm_access_denied"
        | "enterprise_is_restricted"
        | "no_permission"
        | "org_login_required"
        | "posting_to_general_channel_denied"
        | "restricted_action"
        | "restricted_action_non_threadable_channel"
        | "restricted_action_read_only_channel"
        | "restricted_action_thread_locked"
        | "restricted_action_thread_only_channel"
        | "team_access_not_granted"
        | "two_factor_setup_required"
        | "user_is_restricted" => SlackError::Shut(text!("{}: a setting of the workspace or channel", code)),
        _ => {
            let more = error.errors.clone().unwrap_or_default().join("; ");
            let more = redactor.redact(&more).cut(300);
            SlackError::Refused(if more.is_empty() { code } else { text!("{}: {}", code, more) })
        }
    }
}

fn body(error: &SlackClientApiError) -> Option<Value> {
    serde_json::from_str(error.http_response_body.as_deref()?).ok()
}
