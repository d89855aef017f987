//! The way to Slack: TLS, connector, time limits, and the one function through which every call goes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::{ClientConfig, RootCertStore};
use secrecy::{ExposeSecret, SecretString};
use slack_morphism::prelude::*;

/// Where Slack's Web API is.
pub const API_URL: &str = "https://slack.com/api";

/// Slack answers within a second or two; longer means that the answer is lost.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that takes longer will not come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) type Connector = SlackClientHyperHttpsConnector;

/// TLS with the machine's own root certificates; none are read for an `http://` URL, which only a stand-in has.
pub(super) fn tls(api_url: &str) -> anyhow::Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = if api_url.starts_with("http://") {
        builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
    } else {
        let roots = builder.with_native_roots().context("reading the machine's root certificates")?;
        roots.with_no_client_auth()
    };
    Ok(Arc::new(config))
}

/// One connector for both schemes.
pub(super) fn connector(tls: &Arc<ClientConfig>) -> HttpsConnector<HttpConnector> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    HttpsConnectorBuilder::new().with_tls_config((**tls).clone()).https_or_http().enable_http1().wrap_connector(http)
}

pub(super) fn token(secret: &SecretString) -> SlackApiToken {
    SlackApiToken::new(secret.expose_secret().to_owned().into())
}
