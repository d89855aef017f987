//! The listeners: webhook, slack, mcp, admin; each with its own address and credential.

pub mod admin;
pub mod mcp;
pub mod slack;
pub mod webhook;

use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A request that has not been answered after this long is cut off: well within Slack's 3 s for clicks to be retried,
/// and far below Alertmanager's flush deadline of 10 s, which would send the group again.
pub const REQUEST_TIMEOUT: Duration = Duration::from_millis(2_500);

/// Serves `router` until `stop`, then lets the requests under way finish.
///
/// # Errors
/// The listener's own failure.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> std::io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await }).await
}

/// What a caller must present.
#[derive(Clone, Debug, Default)]
pub struct Credential {
    pub bearer: Option<SecretString>,
    /// User and password.
    pub basic: Option<(String, SecretString)>,
}

impl Credential {
    /// Whether the `Authorization` header fits; without any credential configured everything does (the configuration
    /// allows that on loopback only).
    pub fn admits(&self, authorization: Option<&str>) -> bool {
        use base64::Engine as _;
        if self.bearer.is_none() && self.basic.is_none() {
            return true;
        }
        let Some((scheme, value)) = authorization.and_then(|header| header.split_once(' ')) else { return false };
        let value = value.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return self.bearer.as_ref().is_some_and(|token| same(token.expose_secret(), value));
        }
        let expected = |(user, password): &(String, SecretString)| {
            let pair = format!("{user}:{}", password.expose_secret());
            same(&base64::engine::general_purpose::STANDARD.encode(pair), value)
        };
        scheme.eq_ignore_ascii_case("basic") && self.basic.as_ref().is_some_and(expected)
    }
}

/// Equality whose time does not tell how much was right: digests are compared, not the secrets.
fn same(expected: &str, given: &str) -> bool {
    Sha256::digest(expected.as_bytes()) == Sha256::digest(given.as_bytes())
}

/// An answer that is not a success: one line of text, so that it reads well in Alertmanager's log.
#[derive(Debug)]
pub struct Error {
    pub status: StatusCode,
    pub says: String,
}

impl Error {
    fn new(status: StatusCode, says: impl Into<String>) -> Self {
        Self { status, says: says.into() }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        (self.status, format!("{}\n", self.says)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_credential_is_admitted() {
        let bearer = Credential { bearer: Some("s3cret-token".into()), basic: None };
        assert!(bearer.admits(Some("Bearer s3cret-token")) && bearer.admits(Some("bearer s3cret-token")));
        assert!(!bearer.admits(Some("Bearer s3cret")) && !bearer.admits(None) && !bearer.admits(Some("Basic czNj")));
        let basic = Credential { bearer: None, basic: Some(("am".into(), "pw".into())) };
        assert!(basic.admits(Some("Basic YW06cHc=")) && !basic.admits(Some("Basic YW06cHg=")));
        assert!(Credential::default().admits(None));
    }
}
