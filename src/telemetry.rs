//! What firstlook says of itself: JSON logs through tracing, and the metrics of `/metrics`.

use std::io::IsTerminal;
use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::model::IncidentId;

/// Every metric; clones share the same values. Names follow Prometheus' rules: base units, `_total` for counters.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    pub signals: Family<SignalLabels, Counter>,
    pub webhooks: Family<WebhookLabels, Counter>,
    pub incidents: Family<IncidentLabels, Counter>,
    pub calls: Family<CallLabels, Counter>,
    pub model_turns: Family<ModelLabels, Counter>,
    pub model_tokens: Family<TokenLabels, Counter>,
    pub clicks: Family<ClickLabels, Counter>,
    pub actions: Family<ActionLabels, Counter>,
    pub first_card_seconds: Histogram,
    pub queue_depth: Family<StageLabels, Gauge>,
    pub stage_errors: Family<StageLabels, Counter>,
    pub slack_errors: Family<SlackLabels, Counter>,
    pub slack_seconds: Family<MethodLabels, Histogram, fn() -> Histogram>,
    pub store_bytes: Gauge<i64, std::sync::atomic::AtomicI64>,
    pub store_bytes_max: Gauge<i64, std::sync::atomic::AtomicI64>,
    pub parked: Gauge<i64, std::sync::atomic::AtomicI64>,
    pub namespaces_away: Gauge<i64, std::sync::atomic::AtomicI64>,
}

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident { $($field:ident),* })*) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub struct $name { $(pub $field: &'static str),* }
    )* };
}

labels! {
    /// `kind`: alert, warning, rollout.
    SignalLabels { kind }
    /// `outcome`: stored, unauthorized, bad_request, too_large, not_found, wrong_method, not_stored.
    WebhookLabels { outcome }
    /// `event`: opened, over.
    IncidentLabels { event }
    /// `tool` is one of ours or `unknown`; `verdict`: run, ask, nobody, deny.
    CallLabels { tool, verdict }
    /// `outcome`: reply, wait, too_long, refused, unavailable.
    ModelLabels { outcome }
    /// `direction`: input, output.
    TokenLabels { direction }
    /// `outcome`: counted, not_allowed, stale, twice, unread, unknown, forged.
    ClickLabels { outcome }
    /// `tool` and the approval's final `state`.
    ActionLabels { tool, state }
    /// The stage's name.
    StageLabels { stage }
    /// `method`: Slack's own name, `response_url` or `socket`; `kind`: wait, unknown, shut, refused, gone, unparsed.
    SlackLabels { method, kind }
    /// As above.
    MethodLabels { method }
}

/// Bounds of the time to the first card, in seconds: from the target (30 ms) to what nobody would wait for.
const FIRST_CARD_BUCKETS: [f64; 10] = [0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Bounds of one call to Slack, in seconds: from the stand-in's to the client's own time limit, 10 s.
const SLACK_BUCKETS: [f64; 7] = [0.01, 0.05, 0.1, 0.25, 1.0, 3.0, 10.0];

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers every metric under the prefix `firstlook`.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("firstlook");
        Self {
            signals: counted(&mut registry, "signals", "Signals put on disk, repeats among them"),
            webhooks: counted(&mut registry, "webhook_requests", "Webhook requests by what became of them"),
            incidents: counted(&mut registry, "incidents", "Incidents opened and over"),
            calls: counted(&mut registry, "calls", "Tool calls by tool and verdict"),
            model_turns: counted(&mut registry, "model_turns", "Turns asked of the model"),
            model_tokens: counted(&mut registry, "model_tokens", "Tokens as the model's server counts them"),
            clicks: counted(&mut registry, "clicks", "Clicks from Slack"),
            actions: counted(&mut registry, "actions", "Approvals by tool and final state"),
            first_card_seconds: registered(
                &mut registry,
                "first_card_seconds",
                "From hearing a signal to its first card",
                Histogram::new(FIRST_CARD_BUCKETS),
            ),
            queue_depth: counted(&mut registry, "queue_depth", "Units that wait for a stage"),
            stage_errors: counted(&mut registry, "stage_errors", "Units of a stage that failed and are tried again"),
            slack_errors: counted(
                &mut registry,
                "slack_errors",
                "Calls to Slack that did not succeed, by method and remedy",
            ),
            slack_seconds: registered(
                &mut registry,
                "slack_seconds",
                "Calls to Slack until their answer or their end",
                Family::new_with_constructor(|| Histogram::new(SLACK_BUCKETS)),
            ),
            store_bytes: counted(&mut registry, "store_bytes", "Size of the store"),
            store_bytes_max: counted(&mut registry, "store_bytes_max", "What the store may take; 0 without a bound"),
            parked: counted(&mut registry, "parked_units", "Units given up after five failures"),
            namespaces_away: counted(
                &mut registry,
                "namespaces_away",
                "Listed namespaces that are not there or may not be watched",
            ),
            registry: Arc::new(registry),
        }
    }

    /// All metrics as OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// The span of all work on one incident: every line within carries its id, whoever writes it. On the level of errors,
/// so that no `RUST_LOG` takes the id off the lines that are left.
pub fn incident(id: &IncidentId) -> tracing::Span {
    tracing::error_span!("incident", incident = %id)
}

/// Starts logging to stderr: JSON lines with the spans' fields (so the incident's id is on every line), or plain text
/// for a person, coloured on a terminal. `RUST_LOG` chooses; `async_openai` stays off, since it logs whole response
/// bodies, and so does kube's own line of each request that failed, which whoever asked tells with what it means.
pub fn start_logging(json: bool, default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    const QUIET: [&str; 6] = [
        "async_openai=off",
        "sqlx=warn",
        "hyper=warn",
        "kube_client=error",
        "kube_client::client::builder=off",
        "rmcp=warn",
    ];
    let filter = QUIET.into_iter().fold(filter, |f, d| match d.parse() {
        Ok(directive) => f.add_directive(directive),
        Err(_) => f,
    });
    // A second start (tests) keeps the first.
    if json {
        let _ = json_lines(filter, std::io::stderr).try_init();
    } else {
        let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
        let _ = builder.with_span_events(FmtSpan::NONE).compact().try_init();
    }
}

/// One JSON object a line, with the list of its spans, outermost first: a library's own span within does not hide ours.
pub fn json_lines<W>(filter: EnvFilter, writer: W) -> impl tracing::Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_target(true);
    builder.json().flatten_event(true).with_current_span(false).with_span_list(true).finish()
}

fn counted<M: prometheus_client::registry::Metric + Clone + Default>(to: &mut Registry, name: &str, help: &str) -> M {
    registered(to, name, help, M::default())
}

fn registered<M: prometheus_client::registry::Metric + Clone>(
    to: &mut Registry,
    name: &str,
    help: &str,
    metric: M,
) -> M {
    to.register(name, help, metric.clone());
    metric
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io;
    use std::sync::{Mutex, PoisonError};

    use super::*;

    /// The JSON lines of this thread, from `listen` on.
    #[derive(Clone, Default)]
    pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        /// Catches the lines of this thread while the guard lives, as `start_logging` would write them.
        pub(crate) fn listen(&self) -> tracing::subscriber::DefaultGuard {
            let lines = self.clone();
            tracing::subscriber::set_default(json_lines(EnvFilter::new("info,rmcp=warn"), move || lines.clone()))
        }

        pub(crate) fn all(&self) -> Vec<serde_json::Value> {
            let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let text = String::from_utf8(bytes.clone()).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        }
    }

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The incident of a line's spans.
    pub(crate) fn incident_of(line: &serde_json::Value) -> Option<&str> {
        line["spans"].as_array()?.iter().find_map(|span| span["incident"].as_str())
    }

    #[test]
    fn a_line_of_a_library_within_its_own_span_carries_the_incident() {
        let lines = Lines::default();
        {
            let _guard = lines.listen();
            let _incident = incident(&IncidentId::parse("i1").unwrap()).entered();
            let _library = tracing::info_span!("request", peer = "x").entered();
            tracing::warn!(target: "some_library", "it said something");
        }
        let all = lines.all();
        assert_eq!((all.len(), incident_of(&all[0])), (1, Some("i1")), "{all:?}");
    }

    #[test]
    fn metrics_carry_the_prefix_and_the_unit() {
        let metrics = Metrics::new();
        metrics.signals.get_or_create(&SignalLabels { kind: "alert" }).inc();
        metrics.first_card_seconds.observe(0.02);
        let text = metrics.text();
        assert!(text.contains("firstlook_signals_total{kind=\"alert\"} 1"), "{text}");
        assert!(text.contains("firstlook_first_card_seconds_bucket{le=\"0.03\"} 1"), "{text}");
    }
}
