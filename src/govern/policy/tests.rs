//! Decisions over a whole policy file.

mod files;
mod properties;

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::*;
use crate::mcp::Labelled;
use crate::model::{
    Approval, ApprovalId, ApprovalState, Caller, ClusterName, Execution, IncidentId, Kind, Name, ObjectRef, Proposal,
    Severity, Tier, Verdict, Verification,
};
use crate::redact::{Redacted, Redactor};

const POLICY: &str = r#"
approvers:
  - {who: [U024BE7LH, "group:S0614TZR7"], tiers: [reversible], namespaces: ["shop-*"]}
  - {who: ["group:S0614TZR7"], tiers: [reversible, destructive], namespaces: ["*"], people: 2}
  - {who: [U0000000A], tiers: [reversible], namespaces: [shop-eu]}
deny:
  - {namespaces: [kube-system, firstlook]}
  - {labels: {firstlook.dev/protected: "true"}}
  - {tools: [pod_logs], namespaces: [hr]}
freeze:
  - {cron: "0 18 * * FRI", for: 60h, timezone: Europe/Paris, except: {severity: critical}}
standing_leave:
  - {by: U024BE7LH, tool: rollout_restart, namespace: shop-staging, until: 2027-03-31, per_hour: 2}
limits:
  writes_per_hour: 2
  tools:
    rollout_undo: {per_incident: 1}
  callers: {"*": {calls_per_hour: 10}}
"#;

const MONDAY: &str = "2026-11-23T12:00:00Z";

fn policy() -> Policy {
    Policy::parse(POLICY, "policy.yaml").unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn deployment(namespace: &str) -> ObjectRef {
    ObjectRef::new(Kind::Deployment, Some(namespace), "checkout").unwrap()
}

fn node() -> ObjectRef {
    ObjectRef::new(Kind::Node, None, "worker-1").unwrap()
}

fn ask<'a>(tool: &'a str, object: &'a ObjectRef) -> Ask<'a> {
    Ask {
        tool,
        tier: Tier::Reversible,
        object: Some(object),
        namespace: None,
        also: &[],
        labels: &[],
        severity: Severity::High,
        caller: &Caller::Agent,
        now: at(MONDAY),
    }
}

fn labelled(object: &ObjectRef, key: &str, value: &str) -> Labelled {
    let value = Redactor::default().redact_value(key, value);
    Labelled { object: object.clone(), labels: BTreeMap::from([(key.to_owned(), value)]) }
}

#[track_caller]
fn check(verdict: Verdict, word: &str, said: &str) {
    assert_eq!(verdict.as_str(), word, "{verdict:?}");
    assert!(format!("{verdict:?}").contains(said), "{verdict:?}");
}

fn decided(namespace: &str) -> Verdict {
    decide(&policy(), &ask("rollout_restart", &deployment(namespace)), &Usage::default())
}

#[test]
fn the_most_specific_rule_applies_alone_and_is_named_with_its_line() {
    check(decided("shop-de"), "ask", "approvers[0] (line 3)");
    check(decided("billing"), "ask", "people: 2");
    check(decided("shop-eu"), "ask", "approvers[2] (line 5)");
}

#[test]
fn a_deny_wins_however_general_the_leave() {
    check(decided("kube-system"), "deny", "deny[0] (line 7)");
    let object = deployment("shop-de");
    let labels = [labelled(&object, "firstlook.dev/protected", "true")];
    let protected = Ask { labels: &labels, ..ask("rollout_restart", &object) };
    check(decide(&policy(), &protected, &Usage::default()), "deny", "deny[1] (line 8)");
    let node = node();
    check(decide(&policy(), &ask("rollout_restart", &node), &Usage::default()), "nobody", "cluster: true");
}

#[test]
fn a_protecting_label_holds_on_whatever_is_touched_also_where_it_looks_like_a_secret() {
    let rules = "deny: [{labels: {example.com/holds-secret: \"true\"}}, {labels: {a: x, b: x}, namespaces: [shop]}]";
    let policy = Policy::parse(rules, "policy.yaml").unwrap();
    let (node, shop, cart) = (node(), deployment("shop"), deployment("cart"));
    let both: Vec<Name> = ["cart", "shop"].iter().filter_map(|name| Name::parse(name)).collect();
    let says = |labels: &[Labelled], rule: &str, whose: &str| {
        let drain = Ask { tier: Tier::Destructive, also: &both, labels, ..ask("drain", &node) };
        let verdict = decide(&policy, &drain, &Usage::default());
        check(verdict.clone(), if rule.is_empty() { "nobody" } else { "deny" }, rule);
        assert!(format!("{verdict:?}").contains(whose), "{verdict:?}");
    };
    let secret = labelled(&shop, "example.com/holds-secret", "true");
    assert!(secret.labels.values().all(|value| value.as_str() != "true"), "its key looks like a secret's: {secret:?}");
    says(&[labelled(&node, "x", "y"), secret], "deny[0]", "Deployment shop/checkout carries a label");
    says(&[labelled(&cart, "example.com/holds-secret", "false")], "", "");
    let of = |object: &ObjectRef| Labelled {
        object: object.clone(),
        labels: [("a", "x"), ("b", "x")].map(|(key, value)| (key.to_owned(), value.into())).into(),
    };
    says(&[of(&shop)], "deny[1]", "Deployment shop/checkout carries");
    says(&[of(&cart)], "", "");
    says(&[labelled(&shop, "a", "x"), labelled(&shop, "b", "x")], "", "");
}

#[test]
fn limits_are_named_with_their_line_or_as_defaults() {
    let object = deployment("shop-de");
    let restart = ask("rollout_restart", &object);
    let used = |usage: Usage, ask: &Ask<'_>| decide(&policy(), ask, &usage);
    check(
        used(Usage { writes_last_hour: 2, ..Usage::default() }, &restart),
        "deny",
        "limits.writes_per_hour (line 15)",
    );
    let incident = Usage { writes_of_incident: 4, ..Usage::default() };
    check(used(incident, &restart), "deny", "limits.writes_per_incident (default)");
    let undo = ask("rollout_undo", &object);
    check(used(Usage { tool_of_incident: 1, ..Usage::default() }, &undo), "deny", "limits.tools (line 16)");
    check(used(Usage { tool_of_incident: 1, ..Usage::default() }, &restart), "ask", "approvers");
    let client = Caller::Client { name: "ci".into(), person: None, program: None };
    let read = Ask { tier: Tier::ReadOnly, caller: &client, ..ask("get_workload", &object) };
    check(used(Usage { caller_last_hour: 10, ..Usage::default() }, &read), "deny", "limits.callers (line 18)");
    check(used(Usage { caller_last_hour: 9, ..Usage::default() }, &read), "run", "");
    check(used(Usage { calls_of_incident: 40, ..Usage::default() }, &read), "deny", "tool_calls_per_incident");
}

#[test]
fn a_read_is_denied_only_by_a_rule_that_names_its_tool() {
    let object = deployment("kube-system");
    let read = |tool| Ask { tier: Tier::ReadOnly, ..ask(tool, &object) };
    check(decide(&policy(), &read("pod_logs"), &Usage::default()), "run", "");
    let hr = Ask { object: None, namespace: Some("hr"), ..read("pod_logs") };
    check(decide(&policy(), &hr, &Usage::default()), "deny", "deny[2]");
    check(decide(&policy(), &Ask { tool: "list_events", ..hr }, &Usage::default()), "run", "");
}

#[test]
fn a_freeze_holds_all_but_what_it_excepts() {
    let object = deployment("shop-de");
    let weekend = Ask { now: at("2026-11-28T12:00:00Z"), ..ask("rollout_restart", &object) };
    check(decide(&policy(), &weekend, &Usage::default()), "deny", "freeze[0] (line 11)");
    let critical = Ask { severity: Severity::Critical, ..weekend };
    check(decide(&policy(), &critical, &Usage::default()), "ask", "approvers[0]");
}

#[test]
fn a_raised_tier_wants_the_approvers_of_that_tier() {
    let policy = Policy::parse(
        &format!(
            "tiers: {{rollout_restart: destructive}}\n{}",
            &POLICY.replace("  - {by: U024BE7LH, tool: rollout_restart", "  - {by: U024BE7LH, tool: rollout_undo")
        ),
        "p",
    )
    .unwrap();
    let object = deployment("shop-de");
    let verdict = decide(&policy, &ask("rollout_restart", &object), &Usage::default());
    check(verdict, "ask", "approvers[1]");
    // A read that was raised is refused: nobody is asked for a read.
    let raised = Policy::parse("tiers: {pod_logs: reversible}", "p").unwrap();
    let read = Ask { tier: Tier::ReadOnly, object: None, ..ask("pod_logs", &object) };
    check(decide(&raised, &read, &Usage::default()), "deny", "one exact object");
}

#[test]
fn a_drain_is_judged_for_the_node_and_each_namespace_of_its_pods() {
    let policy = Policy::parse(
        r#"
approvers:
  - {who: [U024BE7LH, U0000000B], tiers: [destructive], cluster: true}
  - {who: [U024BE7LH, U0000000C], tiers: [destructive], namespaces: [shop, billing], people: 2}
  - {who: [U0000000D], tiers: [destructive], namespaces: [hr]}
deny: [{namespaces: [kube-system]}]
"#,
        "p",
    )
    .unwrap();
    let node = node();
    let drained = |also: &[&str]| {
        let also: Vec<Name> = also.iter().map(|name| Name::parse(name).unwrap()).collect();
        let drain = Ask { tier: Tier::Destructive, also: &also, ..ask("drain", &node) };
        decide(&policy, &drain, &Usage::default())
    };
    check(drained(&[]), "ask", "U0000000B");
    let Verdict::Ask { people, approvers, .. } = drained(&["shop"]) else { panic!() };
    assert_eq!((people, approvers), (2, vec!["U024BE7LH".into()]));
    check(drained(&["shop", "kube-system"]), "deny", "would move pods of namespace kube-system");
    check(drained(&["shop", "hr"]), "nobody", "no one approver");
    check(drained(&["other"]), "nobody", "`other`");
}

#[test]
fn allow_narrows_where_anything_can_be_changed() {
    let policy = Policy::parse(
        "allow: [{namespaces: ['shop-*']}]\napprovers: [{who: [U024BE7LH], tiers: [reversible], namespaces: ['*'], cluster: true}]",
        "p",
    )
    .unwrap();
    let verdict = |object: &ObjectRef| decide(&policy, &ask("rollout_restart", object), &Usage::default());
    check(verdict(&deployment("shop-de")), "ask", "approvers[0]");
    check(verdict(&deployment("billing")), "deny", "allow");
    check(verdict(&node()), "deny", "cluster: true");
}

#[test]
fn without_a_policy_nobody_may_approve() {
    let object = deployment("shop");
    let verdict = decide(&Policy::default(), &ask("rollout_undo", &object), &Usage::default());
    check(verdict, "nobody", "shop");
}

fn covered(object: &ObjectRef, tool: &str, supported: bool, record: &LeaveRecord, now: &str) -> Covering {
    let ask = Ask { now: at(now), ..ask(tool, object) };
    covering(&policy(), &ask, supported, |_| record.clone())
}

#[test]
fn a_standing_leave_covers_one_tool_in_one_namespace_until_its_date() {
    let (staging, fresh) = (deployment("shop-staging"), LeaveRecord::default());
    let covers = covered(&staging, "rollout_restart", true, &fresh, MONDAY);
    assert!(
        matches!(&covers, Covering::Covers { by, rule, .. }
        if by.as_str() == "U024BE7LH" && rule.as_str() == "standing_leave[0] (line 13)"),
        "{covers:?}"
    );
    assert_eq!(covered(&deployment("shop-eu"), "rollout_restart", true, &fresh, MONDAY), Covering::None);
    assert_eq!(covered(&staging, "rollout_undo", true, &fresh, MONDAY), Covering::None);
    assert_eq!(covered(&node(), "rollout_restart", true, &fresh, MONDAY), Covering::None);
    let not_now = |supported, record, now, said: &str| {
        let covering = covered(&staging, "rollout_restart", supported, &record, now);
        assert!(matches!(&covering, Covering::NotNow { why, .. } if why.as_str().contains(said)), "{covering:?}");
    };
    not_now(false, LeaveRecord::default(), MONDAY, "no finding");
    not_now(true, LeaveRecord { used_last_hour: 2, suspended: None }, MONDAY, "used 2 times");
    not_now(true, LeaveRecord { used_last_hour: 0, suspended: Some("it made things worse".into()) }, MONDAY, "worse");
    not_now(true, LeaveRecord::default(), "2027-04-01T00:00:00Z", "ended");
    let last = covered(&staging, "rollout_restart", true, &fresh, "2027-03-31T23:59:59Z");
    assert!(matches!(last, Covering::Covers { .. }));
}

#[test]
fn a_tool_of_another_server_is_denied_by_its_name_and_one_that_there_is_not_is_told() {
    let rules = "deny:\n  - {tools: [wiki__search], namespaces: [vault]}\n  - {tools: [wiki__serach, get_object]}";
    let (policy, web) = (Policy::parse(rules, "policy.yaml").unwrap(), deployment("shop"));
    let reads =
        |tool, namespace| Ask { tier: Tier::ReadOnly, object: None, namespace: Some(namespace), ..ask(tool, &web) };
    let said = |tool, namespace| decide(&policy, &reads(tool, namespace), &Usage::default());
    check(said("wiki__search", "vault"), "deny", "deny[0] (line 2)");
    check(said("wiki__search", "shop"), "run", "");
    let told: Vec<String> = policy.unlisted(&["wiki__search".to_owned()]).iter().map(|it| format!("{it:?}")).collect();
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("wiki__serach") && told[0].contains("did you mean `wiki__search`"), "{told:?}");
    assert_eq!(policy.unlisted(&["wiki__search".to_owned(), "wiki__serach".to_owned()]), []);
}

/// An approval of a restart in this namespace, made at this instant.
pub(in crate::govern) fn approval(namespace: &str, state: ApprovalState, made: &str) -> Approval {
    let proposal = Proposal::RolloutRestart { object: deployment(namespace) };
    let body = serde_json::Value::Null;
    let sent = Execution {
        started_at: at(made),
        body,
        finished_at: None,
        generation: None,
        left: None,
        ready_before: None,
        astray: false,
    };
    Approval {
        id: ApprovalId::fresh(),
        cluster: ClusterName::parse("prod").unwrap(),
        incident: IncidentId::parse("i1").unwrap(),
        asked_by: Caller::Findings,
        also_asked_by: Vec::new(),
        proposal,
        action: None,
        tier: Tier::Reversible,
        state,
        because: Redacted::default(),
        created_at: at(made),
        expires_at: at(made),
        rule: "approvers[0] (line 3)".into(),
        people_needed: 1,
        approvers: vec!["U024BE7LH".into()],
        presses: Vec::new(),
        preview: None,
        bound: None,
        execution: (state == ApprovalState::Executed).then_some(sent),
        verification: Verification::NotStarted,
        undoes: None,
        standing: None,
    }
}

#[test]
fn a_rehearsal_says_what_a_changed_file_would_have_done() {
    let approvals = [
        approval("shop-staging", ApprovalState::Executed, "2026-11-23T10:00:00Z"),
        approval("shop-staging", ApprovalState::Executed, "2026-11-23T10:10:00Z"),
        approval("shop-staging", ApprovalState::Pending, "2026-11-23T10:20:00Z"),
        approval("shop-staging", ApprovalState::Pending, "2026-11-23T12:00:00Z"),
        approval("kube-system", ApprovalState::Refused, "2026-11-24T12:00:00Z"),
        approval("shop-de", ApprovalState::Executed, "2026-11-28T12:00:00Z"),
    ];
    let past = rehearse::Past { approvals: &approvals, reads: &[], incidents: &BTreeMap::new(), supported: &|_| true };
    let said = |policy: &Policy| -> Vec<String> {
        let judged = rehearse::changes(policy, &past);
        judged
            .iter()
            .map(|one| match (&one.verdict, &one.leave) {
                (_, Covering::Covers { rule, .. }) => rule.to_string(),
                (Verdict::Ask { rule, .. } | Verdict::Deny { rule, .. }, _) => rule.to_string(),
                (other, _) => other.as_str().to_owned(),
            })
            .collect()
    };
    let leave = "standing_leave[0] (line 13)";
    let limit = "limits.writes_per_hour (line 15)";
    assert_eq!(said(&policy()), [leave, leave, limit, leave, "deny[0] (line 7)", "freeze[0] (line 11)"]);
    assert_eq!(said(&Policy::default()), ["nobody"; 6]);
}

#[test]
fn a_read_of_a_namespace_itself_is_a_read_of_it() {
    let (kinds, reads) = (serde_json::json!({"kind": "Namespace", "name": "hr"}), ["get_object", "list_events"]);
    let policy = Policy::parse("deny: [{tools: [get_object, list_events], namespaces: [hr]}]", "p").unwrap();
    for tool in reads {
        let namespace = crate::govern::callers::namespace_of(kinds.as_object().unwrap());
        let object = node();
        let read = Ask { tier: Tier::ReadOnly, object: None, namespace, ..ask(tool, &object) };
        check(decide(&policy, &read, &Usage::default()), "deny", "deny[0]");
    }
}

#[test]
fn a_callers_row_says_no_more_than_it_says_and_a_row_of_nobody_is_told() {
    let rules =
        "limits: {callers: {'*': {calls_per_hour: 10, writes_per_hour: 3}, kimi: {writes_per_hour: 5}, kimmi: {}}}";
    let policy = Policy::parse(rules, "p").unwrap();
    let kimi = policy.limits.of_caller("kimi");
    assert_eq!((kimi.calls_per_hour, kimi.writes_per_hour), (Some(10), Some(5)));
    assert_eq!(policy.limits.of_caller("other").writes_per_hour, Some(3));
    let told: Vec<String> = policy.uncalled(&["kimi", "other"]).iter().map(ToString::to_string).collect();
    assert!(told.len() == 1 && told[0].contains("limits.callers.kimmi") && told[0].contains("`kimi`"), "{told:?}");
}

#[test]
fn near_names_are_told_of_freezes_too() {
    let rules = "approvers: [{who: [U024BE7LH], tiers: [reversible], namespaces: [monitoring]}]\n\
                 freeze: [{from: 2026-12-24, until: 2026-12-26, timezone: UTC, namespaces: [monitorng]}]";
    let told: Vec<String> =
        Policy::parse(rules, "p").unwrap().warnings(at(MONDAY)).iter().map(ToString::to_string).collect();
    assert!(told.iter().any(|told| told.contains("freeze[0].namespaces")), "{told:?}");
}
