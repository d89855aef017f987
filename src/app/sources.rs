//! The clients of what is read beside the cluster, as configured.

use anyhow::Context as _;

use crate::config::{Config, QueryServer};
use crate::observe::alertmanager::AlertmanagerOptions;
use crate::observe::loki::LokiOptions;
use crate::observe::pagerduty::PagerDutyOptions;
use crate::observe::prometheus::PrometheusOptions;
use crate::observe::web::{Login, WebOptions};
use crate::observe::{Alertmanager, Loki, PagerDuty, Prometheus, Runbooks, Sources};
use crate::redact::Redactor;

/// Everything that the configuration names; nothing is asked yet.
///
/// # Errors
/// What cannot be built, and which key says so.
pub fn from(config: &Config, redactor: &Redactor) -> anyhow::Result<Sources> {
    let prometheus = config.prometheus.as_ref().map(|server| {
        let options = PrometheusOptions { web: web(server), namespace_label: server.namespace_label.clone() };
        Prometheus::new(options, redactor.clone()).context("prometheus")
    });
    let runbooks = match &config.runbooks {
        Some(settings) => Runbooks::load(&settings.folder, settings.url.as_deref(), redactor)
            .map_err(|why| anyhow::anyhow!("runbooks.folder: {why}"))?,
        None => Runbooks::default(),
    };
    let loki = config.loki.as_ref().map(|server| {
        let options = LokiOptions { web: web(server), namespace_label: server.namespace_label.clone() };
        Loki::new(options, redactor.clone()).context("loki")
    });
    let alertmanager = config.alertmanager.as_ref().map(|server| {
        let options = AlertmanagerOptions { web: web(server), namespace_label: server.namespace_label.clone() };
        Alertmanager::new(options, redactor.clone()).context("alertmanager")
    });
    let pagerduty = config.pagerduty.as_ref().map(|settings| {
        let web = WebOptions {
            url: settings.url.trim_end_matches('/').to_owned(),
            login: settings.token.clone().map_or(Login::None, Login::Token),
            ..WebOptions::default()
        };
        let options = PagerDutyOptions { web, services: settings.services.clone() };
        PagerDuty::new(options, redactor.clone()).context("pagerduty")
    });
    Ok(Sources {
        prometheus: prometheus.transpose()?,
        loki: loki.transpose()?,
        pagerduty: pagerduty.transpose()?,
        alertmanager: alertmanager.transpose()?,
        runbooks,
    })
}

fn web(server: &QueryServer) -> WebOptions {
    let login = match (&server.bearer_token, &server.basic_user, &server.basic_password) {
        (Some(token), ..) => Login::Bearer(token.clone()),
        (None, Some(user), Some(password)) => Login::Basic { user: user.clone(), password: password.clone() },
        _ => Login::None,
    };
    WebOptions {
        url: server.url.trim_end_matches('/').to_owned(),
        login,
        headers: server.tenant.iter().map(|tenant| ("X-Scope-OrgID", tenant.clone())).collect(),
        ca_file: server.ca_file.clone(),
    }
}
