//! What the subject's own Services are sent and how much of it fails, as exporters count it; only where Prometheus is set.

use futures::future::join_all;

use crate::model::scene::{Part, Service, ServiceLink, Traffic};
use crate::model::{ObjectRef, Source};
use crate::observe::ReadError;
use crate::observe::prometheus::Prometheus;
use crate::observe::scene::Look;
use crate::observe::scene::page::Page;
use crate::text;

/// Services of the subject that are asked for: a workload seldom has more.
const SERVICES_MAX: usize = 5;
/// Over how long the rate is taken: four scrapes at the usual longest interval.
const WINDOW: &str = "5m";

/// A counter of requests: its name, what selects those of some Services (`{namespace}` and `{services}`, a regular
/// expression), and the labels of which one holds the status. What several exporters count is told as the first counts it.
struct Counter {
    name: &'static str,
    of: &'static str,
    status: &'static [&'static str],
}

/// Those of Istio (as its callers see it, who also see that nobody answers), the nginx Ingress controller (whose own
/// labels a scrape may rename), Traefik, and of programs that count for themselves as client libraries suggest.
const COUNTERS: [Counter; 5] = [
    Counter {
        name: "istio_requests_total",
        of: r#"reporter="source",destination_service_namespace="{namespace}",destination_service_name=~"{services}""#,
        status: &["response_code"],
    },
    Counter {
        name: "nginx_ingress_controller_requests",
        of: r#"exported_namespace="{namespace}",exported_service=~"{services}""#,
        status: &["status"],
    },
    Counter {
        name: "nginx_ingress_controller_requests",
        of: r#"namespace="{namespace}",service=~"{services}""#,
        status: &["status"],
    },
    Counter {
        name: "traefik_service_requests_total",
        of: r#"service=~"{namespace}-(?:{services})-[^-]+@kubernetes.*""#,
        status: &["code"],
    },
    Counter {
        name: "http_requests_total",
        of: r#"{label}="{namespace}",service=~"{services}""#,
        status: &["code", "status", "status_code"],
    },
];

impl Look<'_> {
    /// How many requests the subject's own Services get; None where no exporter that is known counts them.
    pub(super) async fn traffic(&self, services: &Part<Vec<Service>>, page: &mut Page) -> Part<Option<Traffic>> {
        let Some(prometheus) = self.reader.prometheus() else {
            return Part::Missing("no Prometheus is set".into());
        };
        let own = |service: &&Service| matches!(service.link, ServiceLink::Selects | ServiceLink::Itself);
        let own: Vec<&ObjectRef> = services.items().iter().filter(own).map(|service| &service.object).collect();
        if let Some(why) = services.missing() {
            return Part::Missing(why.clone());
        }
        if own.is_empty() {
            return Part::Known(None);
        }
        let read = self.part(self.counted(prometheus, &own)).await;
        match read {
            Ok(Some((query, all, failed))) => {
                let redact = |text: &str| self.typed.redactor.redact(text);
                let query = redact(&query);
                // As `promtool query` writes them.
                let line = |(share, value)| format!("{{{SHARE}=\"{share}\"}} => {value}");
                let lines: Vec<String> =
                    std::iter::once((ALL, all)).chain(failed.map(|failed| (FAILED, failed))).map(line).collect();
                let said = redact(&lines.join("\n"));
                let failed = failed.unwrap_or(0.0);
                let at = page.quote(Source::Metric { query: query.clone() }, said);
                Part::Known(Some(Traffic { query, requests_milli: milli(all), failed_milli: milli(failed), at }))
            }
            Ok(None) => {
                page.summary("how many requests it gets is unknown: no counter that is known counts them".into());
                Part::Known(None)
            }
            Err(why) => {
                page.summary(text!("how many requests it gets is unknown: {}", why));
                Part::Missing(why)
            }
        }
    }

    async fn counted(
        &self,
        prometheus: &Prometheus,
        own: &[&ObjectRef],
    ) -> Result<Option<(String, f64, Option<f64>)>, ReadError> {
        let now = self.reader.clock().now();
        let queries = COUNTERS.iter().map(|counter| counter.query(prometheus.namespace_label(), own));
        let asked = join_all(queries.map(|query| async move {
            let answered = prometheus.query(&query, now).await?;
            let of = |what: &str| {
                let series = answered.series.iter().find(|series| series.labels.get(SHARE).is_some_and(|s| s == what));
                series.and_then(|series| series.track.last()).map(|(_, value)| value).filter(|value| value.is_finite())
            };
            Ok(of(ALL).map(|all| (query, all, of(FAILED))))
        }));
        // What one counter tells is told, though another could not be asked; that nobody counts only all of them tell.
        let (mut found, mut failed) = (None, None);
        for answer in asked.await {
            match answer {
                Ok(counted) => found = found.or(counted),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match (found, failed) {
            (None, Some(error)) => Err(error),
            (found, _) => Ok(found),
        }
    }
}

/// The label by which one query tells both numbers apart.
const SHARE: &str = "firstlook_share";
const ALL: &str = "all";
const FAILED: &str = "failed";

impl Counter {
    /// The rate of all requests, and of those that a server answered with an error.
    fn query(&self, label: &str, own: &[&ObjectRef]) -> String {
        let services: Vec<&str> = own.iter().take(SERVICES_MAX).map(|object| object.name()).collect();
        let services = services.join("|").replace('.', "[.]");
        let namespace = own.first().map_or("", |object| object.namespace());
        let of = self.of.replace("{label}", label).replace("{namespace}", namespace).replace("{services}", &services);
        let (name, status) = (self.name, self.status);
        let rate = |of: &str| format!("sum(rate({name}{{{of}}}[{WINDOW}]))");
        let share = |rate: &str, share: &str| format!(r#"label_replace({rate},"{SHARE}","{share}","","")"#);
        let failed: Vec<String> = status.iter().map(|status| rate(&format!(r#"{of},{status}=~"5..""#))).collect();
        format!("{} or {}", share(&rate(&of), ALL), share(&failed.join(" or "), FAILED))
    }
}

/// Thousandths, as stored: whole numbers compare equal.
fn milli(value: f64) -> u64 {
    (value.clamp(0.0, 1e12) * 1e3).round() as u64
}
