//! What a wrong policy file is told, and one that can hardly be meant.

use super::*;

#[test]
fn a_wrong_policy_is_refused_with_line_key_and_remedy() {
    for (yaml, said) in [
        ("approvers:\n  - {who: [bob], tiers: [reversible], namespaces: [a]}", "2: approvers[0].who: `bob`"),
        ("approvers:\n  - {who: [u024be7lh], tiers: [reversible], namespaces: [a]}", "`u024be7lh`"),
        ("approvers:\n  - {who: [U024BE7LH], tiers: [reversible]}", "2: approvers[0]: give `namespaces`"),
        ("approvers:\n  - {who: [U024BE7LH], tiers: [read-only], namespaces: [a]}", "read-only"),
        (
            "approvers:\n  - who: [U024BE7LH]\n    tiers: [reversible]\n    namespaces: ['*-eu']",
            "4: approvers[0].namespaces: `*-eu`",
        ),
        ("approvers:\n  - {who: [U024BE7LH], tiers: [reversible], namespaces: [a], people: 2}", "people"),
        (
            "approvers:\n  - {who: [U024BE7LH, U024BE7LH], tiers: [reversible], namespaces: [a], people: 2}",
            "2 of 1 named",
        ),
        ("# a\nfreezes: []", "2: unknown field `freezes`"),
        ("deny: [{}]", "deny[0]"),
        ("deny:\n  - {tools: [rollout_restrat]}", "did you mean `rollout_restart`"),
        ("deny:\n  - {namespaces: [Kube-System]}", "lower-case"),
        ("tiers: {rollout_undo: read-only}", "1: tiers.rollout_undo: reversible cannot be lowered"),
        ("tiers: {rollout_undoo: destructive}", "no tool `rollout_undoo`"),
        (
            "standing_leave:\n  - {by: 'group:S1', tool: rollout_undo, namespace: a, until: 2027-01-01, per_hour: 1}",
            "one person's",
        ),
        (
            "standing_leave:\n  - {by: U024BE7LH, tool: rollout_undo, namespace: 'a*', until: 2027-01-01, per_hour: 1}",
            "whole name",
        ),
        ("standing_leave:\n  - {by: U024BE7LH, tool: rollout_undo, namespace: a, until: soon, per_hour: 1}", "2: "),
        (
            "standing_leave:\n  - {by: U024BE7LH, tool: get_object, namespace: a, until: 2027-01-01, per_hour: 1}",
            "only reversible",
        ),
        (
            "tiers: {rollout_undo: destructive}\nstanding_leave:\n  - {by: U024BE7LH, tool: rollout_undo, namespace: a, until: 2027-01-01, per_hour: 1}",
            "3: standing_leave[0].tool: `rollout_undo` is destructive",
        ),
        ("limits:\n  reserve_for_critical: 2", "2: limits.reserve_for_critical"),
        ("limits: {writes_per_hour: -1}", "1: "),
        ("limits: {money_per_year: 5}", "money_per_year"),
        ("limits:\n  money_per_day: -5", "2: limits.money_per_day"),
        ("limits:\n  tools: {pod_logs: {per_hour: 3}}", "only reads"),
        ("freeze:\n  - {cron: '0 18 * * FRI', for: 60h, timezone: Paris}", "2: freeze[0].timezone: `Paris`"),
    ] {
        let error = Policy::parse(yaml, "policy.yaml").unwrap_err().to_string();
        assert!(error.starts_with("policy.yaml:") && error.contains(said), "{yaml}\n{error}");
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let yaml = "approvers:\n  - {who: [bob], tiers: [reversible], namespaces: [A]}\ndeny:\n  - {}";
    let error = Policy::parse(yaml, "p").unwrap_err();
    let lines: Vec<u32> = error.problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [2, 2, 4], "{error}");
}

#[test]
fn what_can_hardly_be_meant_is_warned_of() {
    let yaml = r#"
approvers:
  - {who: [U024BE7LH], tiers: [reversible], namespaces: [shop]}
  - {who: [U024BE7LH, U0000000B], tiers: [reversible], namespaces: [shop], people: 2}
  - {who: [U024BE7LH], tiers: [reversible], namespaces: [kube-system, monitorng]}
deny:
  - {namespaces: ["kube-*", monitoring]}
  - {namespaces: ["kube-*", monitoring]}
freeze:
  - {from: 2025-12-24, until: 2025-12-26, timezone: UTC}
standing_leave:
  - {by: U0000000B, tool: rollout_undo, namespace: shop, until: 2026-01-01, per_hour: 1}
  - {by: U0000000C, tool: rollout_undo, namespace: monitoring, until: 2027-01-01, per_hour: 1}
"#;
    let policy = Policy::parse(yaml, "p").unwrap();
    let said: Vec<String> = policy.warnings(at(MONDAY)).iter().map(ToString::to_string).collect();
    for (line, part) in [
        (3, "never applies"),
        (5, "denied whole by deny[0]"),
        (5, "`monitorng` and `monitoring`"),
        (8, "says the same"),
        (10, "is over"),
        (12, "has ended"),
        (12, "1 more must press"),
        (13, "no approvers"),
    ] {
        assert!(said.iter().any(|s| s.starts_with(&format!("{line}: ")) && s.contains(part)), "{part}\n{said:#?}");
    }
    let shipped = include_str!("../../../../deploy/policy.yaml");
    assert_eq!(Policy::parse(shipped, "deploy/policy.yaml").unwrap().warnings(at(MONDAY)), []);
    assert_eq!(policy_warnings(POLICY), Vec::<String>::new());
}

fn policy_warnings(yaml: &str) -> Vec<String> {
    Policy::parse(yaml, "p").unwrap().warnings(at(MONDAY)).iter().map(ToString::to_string).collect()
}

#[test]
fn the_schema_knows_every_key_and_no_other() {
    let schema = Policy::schema();
    let keys: Vec<&str> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["allow", "approvers", "deny", "freeze", "limits", "standing_leave", "tiers"]);
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["$defs"]["Freeze"]["properties"]["for"]["type"][0], "string");
}
