//! Edits: what changed on an object that keeps no earlier state of itself (a ConfigMap, a Service), field by field. Pure.

mod fields;
mod lines;

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::model::Kind;
use crate::model::scene::DiffLine;
use crate::observe::edits::fields::Fields;
use crate::redact::{Redacted, Redactor};
use crate::text;

/// Differences of one edit; more are no longer read, only counted.
const LINES_MAX: usize = 40;
/// Between a field's container, its name and its value, and after it.
const UNIT: char = '\u{1f}';
const RECORD: char = '\u{1e}';
/// What is said of a value of which only a hash is kept.
const NOT_KEPT: &str = "(not kept)";
/// Before such a hash.
const HASHED: char = '\u{1a}';

/// What people mean when they say that an object changed: its fields and their values, redacted. A watch holds one for
/// each object, so it is one compact text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content(Box<str>);

impl Content {
    /// That of a ConfigMap: each key.
    pub fn of_data<'a>(
        data: impl IntoIterator<Item = (&'a String, &'a String)>,
        binary: impl IntoIterator<Item = (&'a String, &'a String)>,
        redactor: &Redactor,
    ) -> Self {
        fields::of_data(data.into_iter(), binary.into_iter(), redactor).into()
    }

    /// That of any other object: each field of its spec, and `annotations` where its controllers obey them.
    pub fn of_spec(spec: &Value, annotations: Option<&BTreeMap<String, String>>, redactor: &Redactor) -> Self {
        fields::of_spec(spec, annotations, redactor).into()
    }

    /// How much it holds.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    /// The same with hashes in the place of values: which fields changed can still be told, and what they are now.
    pub fn hashed(&self) -> Self {
        let hash = |value: &str| format!("{HASHED}{}", hex::encode(&Sha256::digest(value)[..6]));
        let records = self.records().map(|(container, field, value)| {
            let value = if value.starts_with(HASHED) { value.to_owned() } else { hash(value) };
            record(container, field, &value)
        });
        Self(records.collect::<String>().into())
    }

    /// What differs from this content to `after`, in the order of the fields.
    pub fn difference(&self, after: &Self, redactor: &Redactor) -> Vec<DiffLine> {
        let hashed = self.0.contains(HASHED);
        let compared = if hashed { after.hashed() } else { after.clone() };
        let index = |content: &'_ Self| -> BTreeMap<(String, String), String> {
            content
                .records()
                .map(|(container, field, value)| ((container.into(), field.into()), value.into()))
                .collect()
        };
        let (old, new, shown) = (index(self), index(&compared), index(after));
        let mut found = Vec::new();
        for (key, value) in &old {
            if new.get(key) != Some(value) {
                let before = if hashed { NOT_KEPT } else { value };
                difference(key, Some(before), shown.get(key).map(String::as_str), redactor, &mut found);
            }
        }
        for (key, value) in shown.iter().filter(|(key, _)| !old.contains_key(*key)) {
            difference(key, None, Some(value), redactor, &mut found);
        }
        if found.len() > LINES_MAX {
            let more = found.len() - LINES_MAX;
            found.truncate(LINES_MAX);
            found.push(DiffLine { container: None, field: text!("{} more", more), before: None, after: None });
        }
        found
    }

    fn records(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.0.split_terminator(RECORD).filter_map(|record| {
            let mut parts = record.splitn(3, UNIT);
            Some((parts.next()?, parts.next()?, parts.next()?))
        })
    }
}

impl From<Fields> for Content {
    fn from(fields: Fields) -> Self {
        Self(
            fields.iter().map(|((container, field), value)| record(container, field, value)).collect::<String>().into(),
        )
    }
}

fn record(container: &str, field: &str, value: &str) -> String {
    format!("{container}{UNIT}{field}{UNIT}{value}{RECORD}")
}

/// Text of several lines is compared line by line.
fn difference(
    (container, field): &(String, String),
    before: Option<&str>,
    after: Option<&str>,
    redactor: &Redactor,
    found: &mut Vec<DiffLine>,
) {
    // It was redacted when it was kept; the rules leave what they made alone.
    let text = |text: &str| redactor.redact(text);
    let container = Some(container.as_str()).filter(|container| !container.is_empty()).map(text);
    let mut line = |before: Option<Redacted>, after: Option<Redacted>| {
        let (container, field) = (container.clone(), text(field));
        found.push(DiffLine { container, field, before, after });
    };
    match (before, after) {
        (Some(before), Some(after)) if before != NOT_KEPT && (before.contains('\n') || after.contains('\n')) => {
            for (before, after) in lines::changed(before, after) {
                line(before.map(|line| text(line.trim())), after.map(|line| text(line.trim())));
            }
        }
        (before, after) => {
            let short = |value: &str| match value.lines().count() {
                0 | 1 => text(value),
                count => text!("{} lines", count),
            };
            line(before.map(short), after.map(short));
        }
    }
}

/// What is told of an object that came or went whole.
pub fn whole(kind: Kind, name: &str, came: bool, redactor: &Redactor) -> DiffLine {
    let name = Some(redactor.redact(name));
    let (before, after) = if came { (None, name) } else { (name, None) };
    DiffLine { container: None, field: Redacted::literal(kind.as_str()), before, after }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(kind: Kind, before: Value, after: Value, expected: &[&str]) {
        let redactor = Redactor::default();
        let content = |value: &Value| content(kind, value, &redactor);
        assert_eq!(told(content(&before).difference(&content(&after), &redactor)), expected);
        assert!(content(&after).difference(&content(&after), &redactor).is_empty());
    }

    fn content(kind: Kind, value: &Value, redactor: &Redactor) -> Content {
        let map = |at: &str| -> BTreeMap<String, String> {
            serde_json::from_value(value.pointer(at).cloned().unwrap_or_else(|| json!({}))).unwrap()
        };
        match kind {
            Kind::ConfigMap => Content::of_data(&map("/data"), &map("/binaryData"), redactor),
            Kind::Ingress => Content::of_spec(&value["spec"], Some(&map("/metadata/annotations")), redactor),
            _ => Content::of_spec(&value["spec"], None, redactor),
        }
    }

    fn told(lines: Vec<DiffLine>) -> Vec<String> {
        let side = |text: &Option<Redacted>| text.as_ref().map_or("-".to_owned(), Redacted::to_string);
        let container = |line: &DiffLine| line.container.as_ref().map_or(String::new(), |name| format!("{name} "));
        lines.iter().map(|l| format!("{}{}: {} > {}", container(l), l.field, side(&l.before), side(&l.after))).collect()
    }

    #[test]
    fn a_config_map_is_told_key_by_key_and_its_files_line_by_line() {
        let file = |pool: u32| format!("server:\n  port: 8080\ndb:\n  pool: {pool}\n  host: db\n");
        check(
            Kind::ConfigMap,
            json!({"data": {"LEVEL": "info", "OLD": "x", "app.yaml": file(20)}, "binaryData": {"logo": "AAAA"}}),
            json!({"data": {"LEVEL": "info", "NEW": "y", "app.yaml": file(200)}, "binaryData": {"logo": "AAAB"}}),
            &[
                "key OLD: x > -",
                "key app.yaml: pool: 20 > pool: 200",
                "key logo: 4 bytes of base64, sha256 63c1dd951ffe > 4 bytes of base64, sha256 5e01d7a18db0",
                "key NEW: - > y",
            ],
        );
    }

    #[test]
    fn values_that_look_secret_are_masked_and_still_differ() {
        let redactor = Redactor::default();
        let content = |password: &str, url: &str| {
            let value =
                json!({"data": {"DB_PASSWORD": password, "conf": format!("a: 1\nurl: postgres://app:{url}@db/x\n")}});
            self::content(Kind::ConfigMap, &value, &redactor)
        };
        let (before, after) = (content("hunter22", "first123"), content("hunter33", "second456"));
        let told = told(before.difference(&after, &redactor));
        assert_eq!(told.len(), 2, "{told:?}");
        for secret in ["hunter22", "hunter33", "first123", "second456"] {
            assert!(!before.0.contains(secret) && !told.concat().contains(secret), "{told:?}");
        }
    }

    #[test]
    fn status_and_what_the_api_server_fills_in_are_no_change() {
        let service = |ip: &str, port: u32| {
            json!({"metadata": {"labels": {"a": ip}, "annotations": {"x": ip}, "resourceVersion": ip}, "status": {"a": ip},
                "spec": {"clusterIP": ip, "clusterIPs": [ip], "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": port}]}})
        };
        check(Kind::Service, service("10.0.0.1", 8080), service("10.0.0.2", 8080), &[]);
        check(
            Kind::Service,
            service("10.0.0.1", 8080),
            service("10.0.0.1", 9090),
            &["ports.http.targetPort: 8080 > 9090"],
        );
        let quota = |hard: &str, used: &str| json!({"spec": {"hard": {"limits.memory": hard}}, "status": {"used": {"limits.memory": used}}});
        check(Kind::ResourceQuota, quota("8Gi", "1Gi"), quota("2Gi", "2Gi"), &["hard limits.memory: 8Gi > 2Gi"]);
    }

    #[test]
    fn each_kind_is_told_in_the_words_of_its_manifest() {
        let scaler = |max: u32, target: u32| {
            json!({"spec": {"minReplicas": 2, "maxReplicas": max, "metrics": [{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": target}}}]}})
        };
        let expected = ["maxReplicas: 10 > 3", "metrics.0.resource.target.averageUtilization: 70 > 40"];
        check(Kind::HorizontalPodAutoscaler, scaler(10, 70), scaler(3, 40), &expected);
        let ingress = |host: &str, service: &str| {
            json!({"metadata": {"annotations": {"nginx.ingress.kubernetes.io/rewrite-target": "/"}}, "spec": {"ingressClassName": "nginx", "rules": [
                {"host": host, "http": {"paths": [{"path": "/api", "backend": {"service": {"name": service, "port": {"number": 80}}}}]}}]}})
        };
        let expected = ["rules.shop.example.http.paths./api.backend.service.name: web > webb"];
        check(Kind::Ingress, ingress("shop.example", "web"), ingress("shop.example", "webb"), &expected);
        let policy = |app: &str| {
            json!({"spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{"from": [
                {"podSelector": {"matchLabels": {"app": app}}}]}]}})
        };
        let expected = ["ingress.0.from.0.podSelector.matchLabels.app: web > admin"];
        check(Kind::NetworkPolicy, policy("web"), policy("admin"), &expected);
        let cron = |schedule: &str, image: &str, level: &str| {
            json!({"spec": {"schedule": schedule, "jobTemplate": {"spec": {"template": {"spec": {"containers": [
                {"name": "app", "image": image, "args": ["--all"], "env": [{"name": "LEVEL", "value": level}],
                 "resources": {"limits": {"memory": "1Gi"}}}]}}}}}})
        };
        let expected = ["schedule: 0 2 * * * > 0 3 * * *", "app env LEVEL: info > debug", "app image: job:1 > job:2"];
        check(Kind::CronJob, cron("0 2 * * *", "job:1", "info"), cron("0 3 * * *", "job:2", "debug"), &expected);
    }

    #[test]
    fn without_room_for_values_it_is_still_told_which_key_changed_and_to_what() {
        let redactor = Redactor::default();
        let content = |pool: &str| {
            let value = json!({"data": {"POOL": pool, "LEVEL": "a long value that takes its room"}});
            self::content(Kind::ConfigMap, &value, &redactor)
        };
        let kept = content("20").hashed();
        assert_eq!(told(kept.difference(&content("200"), &redactor)), ["key POOL: (not kept) > 200"]);
        assert!(kept.difference(&content("20"), &redactor).is_empty());
        assert_eq!(kept.hashed(), kept);
    }
}
