//! Whether NetworkPolicies let the subject's pods connect to a Service's, and whether its ports lead anywhere. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::model::Kind;
use crate::model::scene::{Astray, Barred, Service};
use crate::observe::ReadError;
use crate::observe::Selector;
use crate::observe::json;
use crate::observe::scene::Look;
use crate::observe::scene::limits::matches;
use crate::observe::scene::page::Page;

/// NetworkPolicies of a namespace: where there are more, nothing is said of them.
const POLICIES_MAX: usize = 200;
/// Allowed labels that are told.
const ALLOWED_MAX: usize = 4;

/// Pods as a policy sees them.
pub(super) struct Side<'a> {
    pub(super) namespace: &'a str,
    pub(super) labels: &'a Value,
}

/// A policy that stands in the way, as the API server has it.
pub(super) struct Bar {
    policy: Value,
    egress: bool,
}

impl Look<'_> {
    /// The NetworkPolicies of a namespace; none where there are too many to look through.
    pub(super) async fn policies(&self, namespace: Option<&str>) -> Result<Vec<Value>, ReadError> {
        let Some(namespace) = namespace else { return Ok(Vec::new()) };
        let ask = Selector::all().at_most(POLICIES_MAX);
        let listed = self.reader.list(Kind::NetworkPolicy, Some(namespace), &ask).await?;
        Ok(if listed.len() < POLICIES_MAX { listed } else { Vec::new() })
    }

    /// What keeps the subject's pods from those of a Service, if that is certain from the policies alone.
    pub(super) fn bar(&self, service: &Value, pods: &[Value], own: &[Value], theirs: &[Value]) -> Option<Bar> {
        let labels = match self.subject.kind {
            Kind::Pod => self.root.pointer("/metadata/labels"),
            _ => self.root.pointer("/spec/template/metadata/labels"),
        };
        let caller = Side { namespace: self.namespace()?, labels: labels? };
        let namespace = json::text(service, "/metadata/namespace");
        let callee = Side { namespace, labels: pods.first()?.pointer("/metadata/labels")? };
        let ports = ports(service, pods);
        let ingress = barring(theirs, &callee, &caller, &ports, false);
        let found = ingress.map(|policy| Bar { policy: policy.clone(), egress: false });
        found.or_else(|| {
            let egress = barring(own, &caller, &callee, &ports, true)?;
            Some(Bar { policy: egress.clone(), egress: true })
        })
    }

    pub(super) fn tell_bar(&self, bar: Option<Bar>, service: &mut Service, page: &mut Page) {
        let Some(Bar { policy, egress }) = bar else { return };
        let at = page.object(&policy, self.typed.redactor);
        let Some(object) = json::reference(&policy) else { return };
        let written = json::spec_written(&policy);
        let (rules, peers) = sides(egress);
        let peers = json::list(&policy, rules).iter().flat_map(|rule| json::list(rule, peers));
        let labels = peers.flat_map(|peer| json::pairs(peer, "/podSelector/matchLabels"));
        let label = |(key, value): (&String, &Value)| format!("{key}={}", value.as_str().unwrap_or_default());
        service.barred = Some(Barred {
            policy: object,
            egress,
            allowed: labels.map(label).take(ALLOWED_MAX).map(|label| self.typed.redactor.redact(&label)).collect(),
            since: written.map_or_else(|| json::created(&policy), |(at, _)| at),
            by: written.map(|(_, by)| self.typed.redactor.redact(by)),
            at,
        });
    }

    /// The ports of a Service that lead to none that its pods declare. Containers need not declare what they listen
    /// on: where none declares any port, nothing is said.
    pub(super) fn astray(&self, service: &Value, pods: &[Value]) -> Vec<Astray> {
        let declared = declared(pods);
        if declared.is_empty() {
            return Vec::new();
        }
        let silent = |container: &Value| json::list(container, "/ports").is_empty();
        let all_declare = !pods.iter().flat_map(|pod| json::list(pod, "/spec/containers")).any(silent);
        let numbers: BTreeSet<u64> = declared.iter().map(|(number, _)| *number).collect();
        let astray = json::list(service, "/spec/ports").iter().filter_map(|port| {
            let target = target(port)?;
            let known = declared.iter().any(|(number, name)| *name == target || number.to_string() == target);
            (!known).then(|| Astray {
                port: json::count(port, "/port"),
                target: self.typed.redactor.redact(&target),
                declared: numbers.iter().map(|number| self.typed.redactor.redact(&number.to_string())).collect(),
                all_declare,
            })
        });
        astray.collect()
    }
}

/// The number or the name of the port to which a Service's port leads.
fn target(port: &Value) -> Option<String> {
    match port.get("targetPort") {
        Some(Value::String(name)) => Some(name.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => port.get("port").map(Value::to_string),
    }
}

/// The ports that containers declare: number and name.
fn declared(pods: &[Value]) -> BTreeSet<(u64, String)> {
    let kinds = ["/spec/containers", "/spec/initContainers"];
    let containers = pods.iter().flat_map(|pod| kinds.map(|kind| json::list(pod, kind)).concat());
    let ports = containers.flat_map(|container| json::list(&container, "/ports").to_vec());
    ports
        .filter_map(|port| {
            let number = port.get("containerPort")?.as_u64()?;
            Some((number, json::text(&port, "/name").to_owned()))
        })
        .collect()
}

/// Every way to write the ports of the pods behind a Service.
fn ports(service: &Value, pods: &[Value]) -> BTreeSet<String> {
    let mut found: BTreeSet<String> = json::list(service, "/spec/ports").iter().filter_map(target).collect();
    for (number, name) in declared(pods) {
        if found.contains(&name) || found.contains(&number.to_string()) {
            found.insert(number.to_string());
            found.insert(name);
        }
    }
    found
}

fn sides(egress: bool) -> (&'static str, &'static str) {
    if egress { ("/spec/egress", "/to") } else { ("/spec/ingress", "/from") }
}

/// The newest policy that selects the pods of `here`, if some do and none of them could let them talk to `there`.
/// A rule that cannot be judged from here (addresses, labels of namespaces) counts as one that allows.
fn barring<'a>(
    policies: &'a [Value],
    here: &Side<'_>,
    there: &Side<'_>,
    ports: &BTreeSet<String>,
    egress: bool,
) -> Option<&'a Value> {
    let selecting: Vec<&Value> = policies
        .iter()
        .filter(|policy| {
            is_of(policy, egress)
                && json::text(policy, "/metadata/namespace") == here.namespace
                && fits(policy.pointer("/spec/podSelector"), here.labels)
        })
        .collect();
    let (rules, peers) = sides(egress);
    let allows = |policy: &&Value| {
        json::list(policy, rules).iter().any(|rule| {
            let to = json::list(rule, peers);
            let peer = to.is_empty() || to.iter().any(|peer| may_be(peer, there, here.namespace));
            let open = json::list(rule, "/ports");
            peer && (open.is_empty() || open.iter().any(|port| opens(port, ports)))
        })
    };
    if selecting.iter().any(allows) {
        return None;
    }
    let written = |policy: &&Value| json::spec_written(policy).map_or_else(|| json::created(policy), |(at, _)| at);
    selecting.into_iter().max_by_key(written)
}

/// Whether a policy limits this direction: ingress unless it says otherwise, egress only if it says so or has rules.
fn is_of(policy: &Value, egress: bool) -> bool {
    let types = json::list(policy, "/spec/policyTypes");
    match (types.is_empty(), egress) {
        (true, false) => true,
        (true, true) => policy.pointer("/spec/egress").is_some(),
        (false, _) => types.iter().any(|kind| kind.as_str() == Some(if egress { "Egress" } else { "Ingress" })),
    }
}

/// Whether a label selector of a policy holds: an empty one does for all.
fn fits(selector: Option<&Value>, labels: &Value) -> bool {
    match selector {
        Some(Value::Object(fields)) if fields.is_empty() => true,
        Some(selector) => matches(selector, labels),
        None => false,
    }
}

/// Whether a peer of a rule is, or may be, these pods.
fn may_be(peer: &Value, pods: &Side<'_>, home: &str) -> bool {
    if peer.get("ipBlock").is_some() {
        return true;
    }
    let place = match peer.get("namespaceSelector") {
        None => pods.namespace == home,
        Some(selector) => match selector.pointer("/matchLabels/kubernetes.io~1metadata.name").and_then(Value::as_str) {
            // The one label of a namespace that is always its name.
            Some(name) => name == pods.namespace,
            None => true,
        },
    };
    place && peer.get("podSelector").is_none_or(|selector| fits(Some(selector), pods.labels))
}

fn opens(port: &Value, ports: &BTreeSet<String>) -> bool {
    match port.get("port") {
        Some(Value::String(name)) => ports.contains(name),
        Some(number) => port.get("endPort").is_some() || ports.contains(&number.to_string()),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn policy(spec: Value) -> Value {
        json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": spec})
    }

    fn barred(spec: Value) -> bool {
        let (db, web) = (json!({"app": "db"}), json!({"app": "web"}));
        let here = Side { namespace: "shop", labels: &db };
        let there = Side { namespace: "shop", labels: &web };
        let ports = BTreeSet::from(["5432".to_owned()]);
        barring(&[policy(spec)], &here, &there, &ports, false).is_some()
    }

    #[test]
    fn a_policy_bars_only_whom_no_rule_could_allow() {
        let of = |rules: Value| json!({"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"], "ingress": rules});
        assert!(barred(of(json!([]))));
        assert!(barred(of(json!([{"from": [{"podSelector": {"matchLabels": {"app": "admin"}}}]}]))));
        assert!(barred(of(
            json!([{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 80}]}])
        )));
        assert!(barred(json!({"podSelector": {}})));
        for open in [
            json!([{}]),
            json!([{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 5432}]}]),
            json!([{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]),
            json!([{"from": [{"namespaceSelector": {"matchLabels": {"team": "a"}}}]}]),
            json!([{"ports": [{"port": 5000, "endPort": 6000}]}]),
        ] {
            assert!(!barred(of(open.clone())), "{open}");
        }
        assert!(!barred(json!({"podSelector": {"matchLabels": {"app": "cache"}}})));
        assert!(!barred(json!({"podSelector": {}, "policyTypes": ["Egress"]})));
    }
}
