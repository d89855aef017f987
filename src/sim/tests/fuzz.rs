//! Every parser of outside input, tried with arbitrary bytes and with valid input that was damaged: an error or a value,
//! never a panic.

mod answers;
mod beside;
mod damage;
mod slack;

use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::folder;
use crate::config::Config;
use crate::govern::callers::{Callers, token_hash};
use crate::govern::gate::Gate;
use crate::govern::policy::Policy;
use crate::ingest::alertmanager;
use crate::model::scene::{At, ServiceLink};
use crate::model::schedule::Schedule;
use crate::model::{ApprovalId, ClusterName, EvidenceId, Kind, Name};
use crate::observe::queries::Bounds;
use crate::observe::typed::Typed;
use crate::observe::{fold, json as objects, queries};
use crate::redact::Redactor;
use crate::slack::interact;
use crate::slack::interact::Place;

pub(crate) use damage::try_hard;

fn now() -> Timestamp {
    "2026-03-24T16:40:00Z".parse().unwrap()
}

fn cluster() -> ClusterName {
    ClusterName::parse("test").unwrap()
}

/// The files below a folder of the package whose names end so.
fn files(at: &str, ending: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(at);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let wanted = paths.iter().filter(|path| path.to_str().unwrap().ends_with(ending));
    wanted.map(|path| std::fs::read(path).unwrap()).collect()
}

/// The objects of a scenario, one of each kind.
pub(crate) fn one_of_each_kind() -> Vec<Vec<u8>> {
    let mut kinds = std::collections::BTreeMap::new();
    for scenario in [
        "bad-image-rollout",
        "d06-node-lost-kubelet",
        "hpa-at-maximum",
        "cronjob-suspended",
        "pvc-storage-class-missing",
    ] {
        let snapshot = folder(scenario).json("cluster.json").unwrap();
        for item in snapshot["items"].as_array().unwrap() {
            kinds.entry(item["kind"].as_str().unwrap().to_owned()).or_insert_with(|| item.to_string().into_bytes());
        }
    }
    kinds.into_values().collect()
}

#[test]
fn webhook_bodies_are_read_or_refused() {
    let captured = files("fixtures/captures/alertmanager", ".json");
    let mut seeds: Vec<Vec<u8>> = captured
        .iter()
        .filter_map(|capture| serde_json::from_slice::<Value>(capture).ok())
        .map(|capture| if capture["alerts"].is_array() { capture } else { capture["body"].clone() })
        .map(|body| body.to_string().into_bytes())
        .collect();
    seeds.push(folder("bad-image-rollout").files["alert.json"].clone());
    try_hard("webhook body", &seeds, |bytes| {
        if let Ok(signals) = alertmanager::parse(bytes, &cluster(), &Redactor::default(), now()) {
            serde_json::to_string(&signals).unwrap();
        }
    });
}

#[test]
fn clicks_are_read_or_refused() {
    let place = Place { cluster: cluster(), redactor: Redactor::default() };
    let payloads = [
        json!({"type": "block_actions", "user": {"id": "U9", "username": "bob", "team_id": "T1"}, "trigger_id": "1.2.3",
            "container": {"type": "message", "message_ts": "1.1", "channel_id": "C1"}, "response_url": "https://hooks.slack.com/x",
            "actions": [{"type": "button", "action_id": "approve", "value": "a1", "action_ts": "1.1"}]}),
        json!({"type": "view_submission", "user": {"id": "U9", "name": "bob"}, "view": {"id": "V1", "callback_id": "reject_reason",
            "private_metadata": "{\"approval\": \"a1\"}",
            "state": {"values": {"reject_reason": {"reject_reason": {"value": "no"}}}}}}),
    ];
    let plain: Vec<Vec<u8>> = payloads.iter().map(|payload| payload.to_string().into_bytes()).collect();
    try_hard("click", &plain, |bytes| drop(interact::parse(&String::from_utf8_lossy(bytes), &place, now())));
    let forms: Vec<Vec<u8>> = payloads
        .iter()
        .map(|payload| crate::sim::slack::signed_with("s", &payload.to_string(), 1).body.into_bytes())
        .collect();
    let secret = "s".to_owned().into();
    try_hard("click's form", &forms, |bytes| {
        drop(interact::payload_of(bytes));
        let (timestamp, signature) = bytes.split_at(bytes.len() / 2);
        let text = |part| String::from_utf8_lossy(part).into_owned();
        let taken = interact::verify(&secret, &text(timestamp), &format!("v0={}", text(signature)), bytes, now());
        assert!(taken.is_err(), "nobody guesses a signature");
    });
}

#[test]
fn files_of_settings_are_read_or_refused() {
    let policies = [
        files("deploy", "policy.yaml"),
        vec![
            br#"
tiers: {rollout_restart: destructive}
approvers: [{who: [U024BE7LH, "group:S0614TZR7"], tiers: [reversible], namespaces: ["shop-*"], people: 2}]
deny: [{labels: {a: "true"}, namespaces: [kube-system], tools: [rollout_undo]}]
freeze: [{cron: "0 18 * * FRI", for: 60h, timezone: Europe/Paris, except: {severity: critical}}]
limits: {writes_per_hour: 6, tools: {rollout_undo: {per_hour: 1}}, callers: {"*": {}}}
"#
            .to_vec(),
        ],
    ]
    .concat();
    try_hard("policy", &policies, |bytes| drop(Policy::parse(&String::from_utf8_lossy(bytes), "policy.yaml")));
    let callers = format!(
        "callers:\n  - {{name: kimi, for: U024BE7LH, token_sha256: {}, namespaces: [shop], tiers: [read-only]}}\n",
        token_hash("t")
    );
    let servers = Gate::servers();
    try_hard("callers", &[callers.into_bytes()], |bytes| {
        drop(Callers::parse(&String::from_utf8_lossy(bytes), "callers.yaml", &servers));
    });
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("firstlook.yaml");
    try_hard("configuration", &files("deploy", "firstlook.yaml"), |bytes| {
        std::fs::write(&path, bytes).unwrap();
        drop(Config::load(&path, &[]));
    });
}

#[test]
fn texts_are_redacted_folded_and_bounded() {
    let own = "own-credential-9f2";
    let redactor = Redactor::new([own.to_owned()]);
    let logs: Vec<Vec<u8>> = folder("bad-image-rollout")
        .files
        .iter()
        .filter(|(path, _)| path.ends_with(".log"))
        .map(|(_, log)| log.clone())
        .collect();
    let secrets = format!(
        "2026-03-24T16:40:00Z DB_PASSWORD=hunter22 Bearer abcdefgh12345678 {own} postgres://a:b@c/d xoxb-1-a eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc"
    );
    let seeds = [logs, vec![secrets.into_bytes()]].concat();
    try_hard("log", &seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        text.lines().for_each(|line| assert!(line.ends_with(fold::parted(line).1)));
        let joined = fold::fold(&text, &redactor).joined();
        assert!(!joined.as_str().contains(own), "{joined}");
    });
    try_hard("text", &seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let clean = redactor.redact(&text);
        assert!(!clean.as_str().contains(own), "{clean}");
        drop((clean.one_line(), clean.cut(7), redactor.redact_value("password", &text)));
    });
    let names = [
        b"checkout-7d9f".to_vec(),
        b"0 3 * * 1-5".to_vec(),
        b"e12".to_vec(),
        b"a0123".to_vec(),
        b"1500m".to_vec(),
        b"2Gi".to_vec(),
    ];
    try_hard("name", &names, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Some(name) = Name::parse(&text) {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
            assert!(name.as_str().chars().all(plain) && ![".", ".."].contains(&name.as_str()), "{name}");
        }
        drop((ApprovalId::parse(&text), Kind::named(&text), text.parse::<EvidenceId>(), text.parse::<Timestamp>()));
        if let Some(schedule) = Schedule::parse(&text) {
            schedule.next_after(now().to_zoned(jiff::tz::TimeZone::UTC).datetime());
        }
        crate::observe::typed::cpu_milli(&text);
        crate::observe::typed::memory_bytes(&text);
    });
    let queries = [
        br#"sum by (pod) (rate(http_requests_total{namespace="x", code=~"5.."}[5m] offset 1h)) / on(pod) group_left up"#.to_vec(),
        br#"histogram_quantile(0.9, sum(rate(a_bucket[5m])) by (le)) > bool 1 or vector(0) @ end()"#.to_vec(),
    ];
    try_hard("query", &queries, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        drop(queries::promql(&text, Bounds { label: "namespace", namespace: Some("shop"), cluster: true }));
        drop(queries::promql(&text, Bounds { label: "namespace", namespace: None, cluster: false }));
        drop(queries::logql(&text, "namespace", "shop"));
    });
}

#[test]
fn objects_of_the_cluster_are_read_as_far_as_they_go() {
    let redactor = Redactor::default();
    let typed = Typed { redactor: &redactor };
    let at = || At { evidence: EvidenceId(1), segment: 0 };
    try_hard("object", &one_of_each_kind(), |bytes| {
        let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return };
        drop((typed.pod(&value, None, at()), typed.event(&value, at()), typed.workload(&value, at())));
        drop((typed.revision(&value, at()), typed.neighbour(&value, at()), typed.node(&value, Some(&value), at())));
        drop((typed.config_map(&value, true, at()), typed.claim(&value, at()), typed.autoscaler(&value, at())));
        drop((typed.budget(&value, at()), typed.quota(&value, at()), typed.gitops(&value), typed.template(&value)));
        drop((
            typed.service(&value, std::slice::from_ref(&value), (ServiceLink::Itself, "".into()), at()),
            typed.ingress(&value, at()),
        ));
        drop((objects::reference(&value), objects::created(&value), objects::spec_written(&value)));
        drop(objects::evidence(&value, &redactor));
    });
}
