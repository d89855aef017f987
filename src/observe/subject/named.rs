//! What an alert's labels name, in the order of preference. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::LazyLock;

use regex::Regex;

use crate::model::{Alert, Kind, ObjectRef, Signal, SignalBody};
use crate::observe::subject::Way;
use crate::redact::Redacted;

/// Labels that name an object, most telling first. Those of kube-state-metrics, kubelet and common relabelling rules.
const OBJECTS: [(&[&str], Kind); 12] = [
    (&["deployment"], Kind::Deployment),
    (&["statefulset"], Kind::StatefulSet),
    (&["daemonset"], Kind::DaemonSet),
    (&["job_name"], Kind::Job),
    (&["cronjob"], Kind::CronJob),
    (&["horizontalpodautoscaler", "hpa"], Kind::HorizontalPodAutoscaler),
    (&["persistentvolumeclaim", "pvc"], Kind::PersistentVolumeClaim),
    (&["persistentvolume"], Kind::PersistentVolume),
    (&["replicaset"], Kind::ReplicaSet),
    (&["poddisruptionbudget"], Kind::PodDisruptionBudget),
    (&["resourcequota"], Kind::ResourceQuota),
    (&["ingress"], Kind::Ingress),
];
const NAMESPACE: [&str; 2] = ["namespace", "kubernetes_namespace"];
const POD: [&str; 3] = ["pod", "pod_name", "kubernetes_pod_name"];
const NODE: [&str; 3] = ["node", "kubernetes_node", "nodename"];
/// Labels that may hold a host name or a URL.
const HOSTS: [&str; 8] = ["host", "hostname", "url", "target", "domain", "server_name", "upstream", "instance"];
/// Containers of exporters that report on the whole node they run on.
const NODE_EXPORTERS: [&str; 4] = ["node-exporter", "prometheus-node-exporter", "kubelet", "node-problem-detector"];
/// Containers of exporters that report on other objects: their own pod label says nothing.
const OBJECT_EXPORTERS: [&str; 3] = ["kube-state-metrics", "blackbox-exporter", "prometheus-blackbox-exporter"];

/// What an alert names.
pub(super) struct Named {
    pub(super) ways: Vec<Way>,
    pub(super) near: Vec<ObjectRef>,
}

impl Named {
    /// What a signal names. A rollout is known by itself: there is nothing to look for.
    pub(super) fn in_signal(signal: &Signal) -> Self {
        match &signal.body {
            SignalBody::Alert(alert) => Self::by(alert),
            SignalBody::Warning(warning) => Self { ways: vec![Way::Object(warning.object.clone())], near: Vec::new() },
            SignalBody::Rollout(_) => Self { ways: Vec::new(), near: Vec::new() },
        }
    }

    /// Reads the labels; values that are no names are passed over.
    pub(super) fn by(alert: &Alert) -> Self {
        let mut ways = Vec::new();
        let namespace = label(alert, &NAMESPACE);
        let object = |kind, name: Option<&str>| ObjectRef::new(kind, namespace, name?).map(Way::Object);
        for (labels, kind) in OBJECTS {
            ways.extend(object(kind, label(alert, labels)));
        }
        if let Some(kind) = label(alert, &["workload_type", "owner_kind"]).and_then(Kind::named) {
            ways.extend(object(kind, label(alert, &["workload", "owner_name"])));
        }
        let node = label(alert, &NODE).and_then(|name| ObjectRef::new(Kind::Node, None, name));
        let pod = label(alert, &POD).and_then(|name| ObjectRef::new(Kind::Pod, namespace, name));
        let exporter = Exporter::of(alert);
        let hosts = hosts(alert).into_iter().filter_map(|host| match service(&host) {
            Some(service) => Some(Way::Object(service)),
            None if !is_address(&host) => Some(Way::Host(host)),
            None => (exporter != Exporter::OfObjects).then_some(Way::Address(host)),
        });
        let hosts: Vec<Way> = hosts.collect();
        // A probe's series carries the prober's pod, if any.
        let probed = alert.label("instance").is_some_and(|instance| instance.contains("://"));
        if probed {
            ways.extend(hosts.clone());
        }
        match exporter {
            _ if POD.iter().any(|name| alert.label(&format!("exported_{name}")).is_some()) => {
                ways.extend(pod.map(Way::Object));
            }
            Exporter::OfObjects => {}
            Exporter::OfNodes => {
                ways.extend(node.clone().map(Way::Object));
                ways.extend(hosts.iter().filter(|way| matches!(way, Way::Address(_))).cloned());
                ways.extend(pod.map(Way::NodeOf));
            }
            Exporter::None => ways.extend(pod.map(Way::Object)),
        }
        ways.extend(node.map(Way::Object));
        if !probed {
            ways.extend(hosts);
        }
        // Scraping through a Service leaves its name in this label, so it is asked late, and not of exporters.
        if exporter == Exporter::None && alert.label("endpoint").is_none() {
            ways.extend(object(Kind::Service, label(alert, &["service", "kubernetes_name"])));
        }
        // Aggregated series often keep no more than the application's name.
        let app = label(alert, &["app", "app_kubernetes_io_name", "workload"]);
        for kind in [Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet] {
            ways.extend(app.and_then(|name| ObjectRef::new(kind, namespace, name)).map(Way::IfThere));
        }
        let near = services(alert);
        ways.dedup();
        Self { ways, near }
    }
}

/// What kind of exporter the alert's series came from.
#[derive(Clone, Copy, PartialEq)]
enum Exporter {
    None,
    OfNodes,
    OfObjects,
}

impl Exporter {
    fn of(alert: &Alert) -> Self {
        let is = |names: &[&str]| {
            let labels = ["container", "job"].into_iter().filter_map(|name| alert.label(name));
            labels.into_iter().any(|value| names.contains(&value))
        };
        // Series about pods keep the pod's own container; those about anything else carry the exporter's.
        if alert.label("container").is_some_and(|name| OBJECT_EXPORTERS.contains(&name)) {
            Exporter::OfObjects
        } else if is(&NODE_EXPORTERS) && !(alert.label("job") == Some("kubelet") && alert.label("pod").is_some()) {
            Exporter::OfNodes
        } else {
            Exporter::None
        }
    }
}

/// The first of these labels that is there. Where the scraper overwrote a label, the true value is `exported_<name>`.
fn label<'a>(alert: &'a Alert, names: &[&str]) -> Option<&'a str> {
    let exported = names.iter().find_map(|name| alert.label(&format!("exported_{name}")));
    exported.or_else(|| names.iter().find_map(|name| alert.label(name)))
}

/// Hosts in the labels that may hold one, without scheme, path, port.
fn hosts(alert: &Alert) -> BTreeSet<String> {
    let texts = HOSTS.iter().filter_map(|name| label(alert, &[name]));
    texts.filter_map(host).collect()
}

fn host(text: &str) -> Option<String> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let rest = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let host = match rest.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => rest.rsplit_once(':').map_or(rest, |(host, _)| host),
    };
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let plain = host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':'));
    (plain && host.len() <= 253 && (host.contains('.') || host.contains(':'))).then_some(host)
}

fn is_address(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok()
}

/// `name.namespace.svc`, with or without the cluster's domain.
fn service(host: &str) -> Option<ObjectRef> {
    let mut labels = host.split('.');
    let (name, namespace, svc) = (labels.next()?, labels.next()?, labels.next()?);
    if svc != "svc" { None } else { ObjectRef::new(Kind::Service, Some(namespace), name) }
}

/// Services that the alert speaks of by their full name, anywhere.
fn services(alert: &Alert) -> Vec<ObjectRef> {
    static FULL: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\b([a-z0-9-]+\.[a-z0-9-]+\.svc)\b").ok());
    let Some(full) = FULL.as_ref() else { return Vec::new() };
    let texts = alert.labels.values().chain(alert.annotations.values()).map(Redacted::as_str);
    let found = texts.flat_map(|text| full.captures_iter(text)).filter_map(|c| service(c.get(1)?.as_str()));
    found.collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;

    use super::*;
    use crate::model::AlertStatus;

    fn ways(labels: &[(&str, &'static str)]) -> Vec<String> {
        let labels: BTreeMap<String, Redacted> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), Redacted::literal(value))).collect();
        let alert = Alert {
            receiver: "r".into(),
            group_key: "k".into(),
            fingerprint: "f".into(),
            name: "n".into(),
            status: AlertStatus::Firing,
            labels,
            annotations: BTreeMap::new(),
            starts_at: Timestamp::UNIX_EPOCH,
            ends_at: None,
            generator_url: None,
            truncated: 0,
        };
        let say = |way: Way| match way {
            Way::Object(object) => object.to_string(),
            Way::Host(host) => format!("host {host}"),
            Way::Address(address) => format!("address {address}"),
            Way::NodeOf(pod) => format!("node of {pod}"),
            Way::IfThere(object) => format!("{object}?"),
        };
        Named::by(&alert).ways.into_iter().map(say).collect()
    }

    #[test]
    fn the_exporters_own_pod_is_never_the_subject() {
        let exporter = [("namespace", "shop"), ("pod", "ksm-0"), ("container", "kube-state-metrics")];
        let with = |more: &[(&'static str, &'static str)]| ways(&[&exporter[..], more].concat());
        assert_eq!(with(&[("deployment", "web")]), ["Deployment shop/web"]);
        assert_eq!(with(&[("node", "n1")]), ["Node n1"]);
        assert_eq!(with(&[("persistentvolume", "pv-1")]), ["PersistentVolume pv-1"]);
        assert_eq!(with(&[("exported_pod", "web-1"), ("exported_namespace", "prod")]), ["Pod prod/web-1"]);
        assert!(with(&[("instance", "10.77.3.15:8080")]).is_empty());
    }

    #[test]
    fn labels_lead_to_objects_hosts_and_nodes() {
        assert_eq!(
            ways(&[("namespace", "shop"), ("pod", "web-1"), ("node", "n1"), ("container", "app")]),
            ["Pod shop/web-1", "Node n1"]
        );
        assert_eq!(ways(&[("namespace", "mon"), ("instance", "https://shop.example/healthz")]), ["host shop.example"]);
        assert_eq!(ways(&[("upstream", "cart.shop.svc:80")]), ["Service shop/cart"]);
        assert_eq!(
            ways(&[("job", "node-exporter"), ("instance", "10.0.3.7:9100"), ("pod", "ne-1"), ("namespace", "mon")])
                [..2],
            ["address 10.0.3.7", "node of Pod mon/ne-1"]
        );
        assert_eq!(ways(&[("namespace", "shop"), ("app", "web")])[0], "Deployment shop/web?");
        assert!(ways(&[("severity", "none")]).is_empty());
        assert!(ways(&[("namespace", "shop"), ("pod", "no such/name")]).is_empty());
    }
}
