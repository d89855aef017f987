//! From the API server's JSON to the scene's types: what is absent becomes empty, all text becomes `Redacted`.

pub mod around;
pub mod network;
pub mod pod;
mod rest;
pub mod template;
pub mod workload;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::scene::Condition;
use crate::observe::json;
use crate::redact::{Redacted, Redactor};

/// Converts objects of one cluster.
#[derive(Clone, Copy)]
pub struct Typed<'a> {
    pub redactor: &'a Redactor,
}

impl Typed<'_> {
    /// The text at a JSON pointer.
    pub fn text(&self, value: &Value, pointer: &str) -> Redacted {
        self.redactor.redact(json::text(value, pointer))
    }

    /// The text at a JSON pointer, unless it is absent or empty.
    pub fn some_text(&self, value: &Value, pointer: &str) -> Option<Redacted> {
        Some(self.text(value, pointer)).filter(|text| !text.is_empty())
    }

    /// The texts of the list at a JSON pointer.
    pub fn texts(&self, value: &Value, pointer: &str) -> Vec<Redacted> {
        json::list(value, pointer).iter().filter_map(Value::as_str).map(|text| self.redactor.redact(text)).collect()
    }

    /// The pairs at a JSON pointer, each value masked where its key says that it is a secret. Quantities may be numbers.
    pub fn map(&self, value: &Value, pointer: &str) -> BTreeMap<String, Redacted> {
        let one = |(key, value): (&String, &Value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (key.clone(), self.redactor.redact_value(key, &text))
        };
        json::pairs(value, pointer).map(one).collect()
    }

    /// The conditions of an object's status.
    pub fn conditions(&self, value: &Value) -> Vec<Condition> {
        let one = |condition: &Value| Condition {
            kind: self.text(condition, "/type"),
            status: self.text(condition, "/status"),
            reason: self.text(condition, "/reason"),
            message: self.text(condition, "/message"),
            changed_at: json::time(condition, "/lastTransitionTime"),
            heartbeat_at: json::time(condition, "/lastHeartbeatTime")
                .or_else(|| json::time(condition, "/lastUpdateTime")),
        };
        json::list(value, "/status/conditions").iter().map(one).collect()
    }

    /// Whom the object is managed by, where Argo CD or Flux have left their marks.
    pub fn gitops(&self, value: &Value) -> Option<Redacted> {
        let marks = [
            ("Argo CD application", "annotations", "argocd.argoproj.io/tracking-id"),
            ("Argo CD application", "labels", "argocd.argoproj.io/instance"),
            ("Flux Kustomization", "labels", "kustomize.toolkit.fluxcd.io/name"),
            ("Flux HelmRelease", "labels", "helm.toolkit.fluxcd.io/name"),
        ];
        marks.into_iter().find_map(|(by, place, key)| {
            let mark = value.pointer(&format!("/metadata/{place}"))?.get(key)?.as_str()?;
            // A tracking id is `application:group/kind:namespace/name`.
            let name = mark.split(':').next().unwrap_or(mark);
            Some(crate::text!("{} {}", by, self.redactor.redact(name).one_line().cut(80)))
        })
    }
}

/// Milli-cores of a CPU quantity (`500m`, `2`, `0.5`, `1500000000n`); what does not parse counts as zero.
pub fn cpu_milli(text: &str) -> i64 {
    (quantity(text) * 1000.0).round() as i64
}

/// Bytes of a memory quantity (`128Mi`, `1G`, `1e9`); what does not parse counts as zero.
pub fn memory_bytes(text: &str) -> i64 {
    quantity(text).round() as i64
}

/// A Kubernetes quantity as a number: decimal and binary suffixes, exponents.
fn quantity(text: &str) -> f64 {
    const SUFFIXES: [(&str, f64); 15] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    let text = text.trim();
    if let Ok(number) = text.parse::<f64>() {
        return number;
    }
    let scaled = SUFFIXES.iter().find_map(|(suffix, factor)| {
        let number: f64 = text.strip_suffix(suffix)?.parse().ok()?;
        Some(number * factor)
    });
    scaled.unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_in_every_notation() {
        let cpu: Vec<_> = ["500m", "2", "0.5", "1500000000n", "", "3920m"].into_iter().map(cpu_milli).collect();
        assert_eq!(cpu, [500, 2000, 500, 1500, 0, 3920]);
        let memory: Vec<_> = ["128Mi", "1Gi", "1G", "1e3", "32778240Ki"].into_iter().map(memory_bytes).collect();
        assert_eq!(memory, [134_217_728, 1_073_741_824, 1_000_000_000, 1000, 33_564_917_760]);
    }
}
