//! What an exporter measured of the nodes' memory and disks, beside what the nodes say of themselves; only where
//! Prometheus is set.

use jiff::SignedDuration;
use serde_json::Value;

use crate::model::scene::{At, FIGURE_SECONDS, Figure, Measured, Node, Part, ScenePart};
use crate::model::{ObjectRef, Source};
use crate::observe::ReadError;
use crate::observe::answers::{Answered, Series};
use crate::observe::json;
use crate::observe::prometheus::Prometheus;
use crate::observe::scene::nodes::Nodes;
use crate::observe::scene::{Look, Told};
use crate::observe::typed::memory_bytes;
use crate::redact::{Redacted, Redactor};
use crate::text;

/// Nodes that are asked for: with two metrics of four mount points each they stay near what is kept of an answer.
const NODES_MAX: usize = 4;
/// Addresses of one node that its series may be named by.
const NAMES_MAX: usize = 4;
/// A sample a minute, the usual longest interval of scrapes.
const STEP_SECONDS: u32 = 60;
/// Fewer samples are a moment.
const SAMPLES_MIN: usize = 3;
/// A node's size as it says itself and as it is measured is one number, but for a rounding to Ki: a Prometheus of several
/// clusters knows other nodes of this name or address.
const SIZE_TOLERANCE: f64 = 0.001;

/// What holds a node's name or address: kube-prometheus and most others put it into the first, the Prometheus chart's
/// discovery into the second.
const LABELS: [&str; 2] = ["instance", "node"];

/// A measure of node-exporter: what is available, and how much there is.
struct Family {
    of: Measured,
    available: &'static str,
    total: &'static str,
    /// Further matchers.
    of_it: &'static str,
}

/// The disk is the file system with `/var/lib/kubelet`, wherever that is mounted.
const FAMILIES: [Family; 2] = [
    Family {
        of: Measured::Memory,
        available: "node_memory_MemAvailable_bytes",
        total: "node_memory_MemTotal_bytes",
        of_it: "",
    },
    Family {
        of: Measured::Disk,
        available: "node_filesystem_avail_bytes",
        total: "node_filesystem_size_bytes",
        of_it: r#",mountpoint=~"/|/var|/var/lib|/var/lib/kubelet""#,
    },
];

/// What tells a node's series from those of others.
pub(super) struct Known {
    object: ObjectRef,
    names: Vec<String>,
    memory_bytes: i64,
    disk_bytes: i64,
}

impl Known {
    pub(super) fn of(object: &ObjectRef, value: &Value) -> Self {
        let addresses = json::list(value, "/status/addresses").iter().map(|one| json::text(one, "/address"));
        // Into a regular expression only what needs no escape but the dot.
        let plain =
            |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c));
        let mut names: Vec<String> =
            std::iter::once(object.name()).chain(addresses).filter(plain).map(str::to_owned).collect();
        names.sort_unstable();
        names.dedup();
        names.truncate(NAMES_MAX);
        let capacity = value.pointer("/status/capacity").unwrap_or(&Value::Null);
        Self {
            object: object.clone(),
            names,
            memory_bytes: memory_bytes(json::text(capacity, "/memory")),
            disk_bytes: memory_bytes(json::text(capacity, "/ephemeral-storage")),
        }
    }

    fn is_named(&self, label: &str) -> bool {
        let bare = label.rsplit_once(':').map_or(label, |(bare, _)| bare);
        self.names.iter().any(|name| name == bare || name == label)
    }

    /// Whether a size is this node's own.
    fn is_sized(&self, of: Measured, bytes: f64) -> bool {
        let own = match of {
            Measured::Memory => self.memory_bytes,
            Measured::Disk => self.disk_bytes,
        };
        own > 0 && (bytes - own as f64).abs() <= own as f64 * SIZE_TOLERANCE
    }
}

/// A figure with the query that told it.
pub(super) type Measure = (Figure, Redacted);

impl Look<'_> {
    /// What is measured of the first nodes of a scene.
    pub(super) async fn figures(&self, nodes: &Result<Nodes, Redacted>) -> Result<Vec<Measure>, Redacted> {
        let Some(prometheus) = self.reader.prometheus() else { return Err("no Prometheus is set".into()) };
        let nodes = nodes.as_ref().map_err(Redacted::clone)?;
        let known = &nodes.known[..nodes.known.len().min(NODES_MAX)];
        if known.is_empty() {
            return Ok(Vec::new());
        }
        let [memory, disk] = FAMILIES.each_ref().map(|family| self.part(self.family(prometheus, family, known)));
        match tokio::join!(memory, disk) {
            (Err(why), Err(_)) => Err(why),
            // What the one tells is told, though the other could not be asked.
            (memory, disk) => Ok(memory.into_iter().chain(disk).flatten().collect()),
        }
    }

    async fn family(
        &self,
        prometheus: &Prometheus,
        family: &Family,
        known: &[Known],
    ) -> Result<Vec<Measure>, ReadError> {
        let now = self.reader.clock().now();
        let start = now - SignedDuration::from_secs(FIGURE_SECONDS);
        for label in LABELS {
            let query = family.query(label, known);
            let answered = prometheus.query_range(&query, start, now, STEP_SECONDS).await?;
            let query = self.typed.redactor.redact(&query);
            // Of what was left out nobody knows whose it was.
            let whole = answered.total == answered.series.len();
            let of =
                |known: &Known| Some((family.figure(label, known, &answered, self.typed.redactor)?, query.clone()));
            let told: Vec<Measure> = known.iter().filter(|_| whole).filter_map(of).collect();
            if !told.is_empty() {
                return Ok(told);
            }
        }
        Ok(Vec::new())
    }
}

/// The nodes as they are told, with the figures in their evidence, as `promtool query` writes samples; and these in
/// `part`.
pub(super) fn told(
    nodes: Result<Nodes, Redacted>,
    figures: Result<Vec<Measure>, Redacted>,
    part: &mut Part<Vec<Figure>>,
) -> Result<Told<Vec<Node>>, Redacted> {
    let mut nodes = nodes.inspect_err(|why| *part = Part::Missing(why.clone()))?.told;
    let keep = |(figure, query): Measure| {
        let mut samples = vec![figure.sample(figure.least_bytes), figure.sample(figure.most_bytes)];
        samples.dedup();
        let at = nodes.page.quote(Source::Metric { query }, Redacted::join(&samples, "\n"));
        Figure { at, ..figure }
    };
    *part = figures.map_or_else(Part::Missing, |figures| Part::Known(figures.into_iter().map(keep).collect()));
    Ok(nodes)
}

impl Family {
    fn query(&self, label: &str, known: &[Known]) -> String {
        let names: Vec<&str> = known.iter().flat_map(|known| &known.names).map(String::as_str).collect();
        let names = names.join("|").replace('.', "[.]");
        let Family { available, total, of_it, .. } = self;
        format!(r#"{{__name__=~"{available}|{total}",{label}=~"(?:{names})(?::[0-9]+)?"{of_it}}}"#)
    }

    /// What a node has available of this, where its size is measured as the node says it; of several such the deepest
    /// mount point.
    fn figure(&self, label: &str, known: &Known, answered: &Answered, redactor: &Redactor) -> Option<Figure> {
        let text = |series: &Series, label: &str| series.labels.get(label).cloned().unwrap_or_default();
        let own: Vec<&Series> = answered.series.iter().filter(|series| known.is_named(&text(series, label))).collect();
        let named = |name: &'static str| own.iter().filter(move |series| text(series, "__name__") == name);
        let place = |series: &Series| (text(series, label), text(series, "mountpoint"));
        let total = named(self.total).filter_map(|series| Some((place(series), series.track.last()?.1)));
        let sized = total.filter(|(_, bytes)| known.is_sized(self.of, *bytes));
        let (place_, total) = sized.max_by_key(|((_, mount), _)| mount.len())?;
        let mut available = named(self.available).filter(|series| place(series) == place_);
        let series = available.next()?;
        let (least, most) = series.track.extremes().filter(|_| series.track.len() >= SAMPLES_MIN)?;
        // Two that measure the same place: which of them is right is not known here.
        available.next().is_none().then(|| {
            let mount = Some(&place_.1).filter(|mount| !mount.is_empty());
            let mount = mount.map_or_else(Redacted::default, |m| text!(",mountpoint=\"{}\"", redactor.redact(m)));
            let whose = redactor.redact(&place_.0);
            Figure {
                node: known.object.clone(),
                of: self.of,
                series: text!("{}{{{}=\"{}\"{}}}", self.available, redactor.redact(label), whose, mount),
                least_bytes: least.1 as i64,
                most_bytes: most.1 as i64,
                total_bytes: total as i64,
                at: At { evidence: ScenePart::Nodes.evidence(), segment: 0 },
            }
        })
    }
}
