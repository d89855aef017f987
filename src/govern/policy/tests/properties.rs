//! What holds of every policy and every question: tiers only ever rise, each question has its answer, nothing runs unasked.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::govern::policy::*;
use crate::mcp;
use crate::mcp::Labelled;
use crate::model::{Caller, Kind, Name, ObjectRef, Severity, Tier, Verdict};

const NAMESPACES: [&str; 4] = ["shop", "shop-eu", "billing", "kube-system"];
const PATTERNS: [&str; 5] = ["*", "shop*", "shop", "billing", "kube-system"];
const PEOPLE: [&str; 3] = ["U024BE7LH", "U0000000B", "group:S0614TZR7"];
const TIERS: [Tier; 3] = [Tier::ReadOnly, Tier::Reversible, Tier::Destructive];

fn tool() -> impl Strategy<Value = &'static str> {
    select(mcp::TOOLS.iter().map(|(name, ..)| *name).collect::<Vec<_>>())
}

fn one_of(all: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(all.to_vec()).prop_map(|one| format!("\"{one}\""))
}

fn list(all: &'static [&'static str]) -> impl Strategy<Value = String> {
    vec(one_of(all), 1..3).prop_map(|many| many.join(", "))
}

/// One rule of a policy file, under its key. Not every file that comes of it is a good one: those are refused.
fn rule() -> impl Strategy<Value = (&'static str, String)> {
    let approvers = (list(&PEOPLE), list(&["reversible", "destructive"]), list(&PATTERNS), any::<bool>(), 1_u32..3)
        .prop_map(|(who, tiers, namespaces, cluster, people)| {
            let rule = format!(
                "{{who: [{who}], tiers: [{tiers}], namespaces: [{namespaces}], cluster: {cluster}, people: {people}}}"
            );
            ("approvers", rule)
        });
    let deny = (list(&PATTERNS), option::of(tool())).prop_map(|(namespaces, tool)| {
        let tools = tool.map_or(String::new(), |tool| format!(", tools: [{tool}]"));
        ("deny", format!("{{namespaces: [{namespaces}]{tools}}}"))
    });
    let labels = Just(("deny", "{labels: {protected: \"true\"}}".to_owned()));
    let allow = (list(&PATTERNS), any::<bool>())
        .prop_map(|(namespaces, cluster)| ("allow", format!("{{namespaces: [{namespaces}], cluster: {cluster}}}")));
    let freeze = (0_u32..24, 1_u32..72).prop_map(|(hour, hours)| {
        ("freeze", format!("{{cron: \"0 {hour} * * FRI\", for: {hours}h, timezone: Europe/Paris}}"))
    });
    let reversible = select(vec!["rollout_restart", "rollout_undo"]);
    let leave = (one_of(&PEOPLE[..2]), reversible, one_of(&NAMESPACES), 1_u32..4).prop_map(
        |(by, tool, namespace, per_hour)| {
            (
                "standing_leave",
                format!("{{by: {by}, tool: {tool}, namespace: {namespace}, until: 2026-12-31, per_hour: {per_hour}}}"),
            )
        },
    );
    prop_oneof![4 => approvers, 2 => deny, 1 => labels, 1 => allow, 1 => freeze, 3 => leave]
}

/// Policies as files hold them: every good file of these rules.
fn policy() -> impl Strategy<Value = Policy> {
    let tiers = vec((tool(), select(vec!["reversible", "destructive"])), 0..2);
    (vec(rule(), 0..8), tiers, 0_u32..4).prop_filter_map("a good file", |(rules, tiers, writes)| {
        let mut by_key: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (key, rule) in rules {
            by_key.entry(key).or_default().push(format!("  - {rule}\n"));
        }
        let mut text: String = by_key.iter().map(|(key, rules)| format!("{key}:\n{}", rules.concat())).collect();
        let tiers: BTreeMap<&str, &str> = tiers.into_iter().collect();
        let tiers: Vec<String> = tiers.iter().map(|(tool, tier)| format!("{tool}: {tier}")).collect();
        text.push_str(&format!("tiers: {{{}}}\nlimits: {{writes_per_hour: {writes}}}\n", tiers.join(", ")));
        Policy::parse(&text, "policy.yaml").ok()
    })
}

/// A question, as values of its own.
#[derive(Clone, Debug)]
struct Question {
    tool: String,
    tier: Tier,
    object: Option<ObjectRef>,
    also: Vec<Name>,
    labels: Vec<Labelled>,
    severity: Severity,
    caller: Caller,
    now: jiff::Timestamp,
}

impl Question {
    fn ask(&self) -> Ask<'_> {
        Ask {
            tool: &self.tool,
            tier: self.tier,
            object: self.object.as_ref(),
            namespace: None,
            also: &self.also,
            labels: &self.labels,
            severity: self.severity,
            caller: &self.caller,
            now: self.now,
        }
    }
}

fn question() -> impl Strategy<Value = Question> {
    let tool = prop_oneof![9 => tool().prop_map(str::to_owned), 1 => "\\PC{0,12}"];
    let namespaced = select(NAMESPACES.to_vec()).prop_map(|ns| ObjectRef::new(Kind::Deployment, Some(ns), "checkout"));
    let object = prop_oneof![6 => namespaced, 1 => Just(ObjectRef::new(Kind::Node, None, "n1")), 1 => Just(None)];
    let also = vec(select(NAMESPACES.to_vec()).prop_map(|ns| Name::parse(ns).unwrap()), 0..2);
    let client = Caller::Client { name: "ci".into(), person: None, program: None };
    let caller = select(vec![Caller::Agent, Caller::Findings, Caller::Person { user: "U1".into() }, client]);
    let severity = select(vec![Severity::None, Severity::Low, Severity::Medium, Severity::High, Severity::Critical]);
    (tool, select(TIERS.to_vec()), object, also, any::<bool>(), severity, caller, 1_790_000_000_i64..1_800_000_000)
        .prop_map(|(tool, tier, object, also, protected, severity, caller, second)| Question {
            tier: mcp::tool(&tool).map_or(tier, |(_, compiled)| compiled),
            tool,
            also,
            labels: protected
                .then(|| Labelled {
                    object: object.clone().unwrap_or_else(|| ObjectRef::new(Kind::Node, None, "n1").unwrap()),
                    labels: BTreeMap::from([("protected".to_owned(), "true".into())]),
                })
                .into_iter()
                .collect(),
            object,
            severity,
            caller,
            now: jiff::Timestamp::from_second(second).unwrap(),
        })
}

fn usage() -> impl Strategy<Value = Usage> {
    (0_u32..8, 0_u32..8, 0_u32..60).prop_map(|(writes, tool, calls)| Usage {
        writes_last_hour: writes,
        tool_last_hour: tool,
        writes_of_incident: writes,
        tool_of_incident: tool,
        calls_of_incident: calls,
        caller_last_hour: calls,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_global_rejects: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn a_tier_only_ever_rises_whatever_a_file_says(
        raised in vec((tool(), select(TIERS.to_vec())), 0..6), asked in tool(), policy in policy(),
    ) {
        let compiled = mcp::tool(asked).unwrap().1;
        prop_assert!(policy.tier_of(asked, compiled) >= compiled);
        // Also where something lower came in some other way than by a file, which is refused.
        let tiers = raised.into_iter().map(|(tool, rule)| (tool.to_owned(), Placed { line: 1, rule })).collect();
        let policy = Policy { tiers, ..policy };
        prop_assert!(policy.tier_of(asked, compiled) >= compiled);
    }

    #[test]
    fn every_question_has_its_answer_and_no_change_runs_unasked(policy in policy(), question in question(), usage in usage()) {
        let tier = policy.tier_of(&question.tool, question.tier);
        match decide(&policy, &question.ask(), &usage) {
            Verdict::Run => prop_assert_eq!(tier, Tier::ReadOnly),
            Verdict::Ask { rule, people, approvers } => {
                prop_assert!(tier > Tier::ReadOnly && people >= 1 && !approvers.is_empty() && !rule.is_empty());
            }
            Verdict::Deny { rule, why } => prop_assert!(!rule.is_empty() && !why.is_empty()),
            Verdict::Nobody { missing } => prop_assert!(tier > Tier::ReadOnly && !missing.is_empty()),
        }
    }

    #[test]
    fn a_deny_more_or_more_usage_never_opens_anything(
        policy in policy(), question in question(), usage in usage(), more in usage(), pattern in select(PATTERNS.to_vec()),
    ) {
        let open = |verdict: &Verdict| matches!(verdict, Verdict::Run | Verdict::Ask { .. });
        let before = decide(&policy, &question.ask(), &usage);
        let rule = Deny { namespaces: vec![pattern.to_owned()], labels: BTreeMap::new(), tools: Vec::new() };
        let mut stricter = policy.clone();
        stricter.deny.push(Placed { line: 0, rule });
        prop_assert!(open(&before) || !open(&decide(&stricter, &question.ask(), &usage)));
        let used = Usage {
            writes_last_hour: usage.writes_last_hour + more.writes_last_hour,
            tool_last_hour: usage.tool_last_hour + more.tool_last_hour,
            writes_of_incident: usage.writes_of_incident + more.writes_of_incident,
            tool_of_incident: usage.tool_of_incident + more.tool_of_incident,
            calls_of_incident: usage.calls_of_incident + more.calls_of_incident,
            caller_last_hour: usage.caller_last_hour + more.caller_last_hour,
        };
        prop_assert!(open(&before) || !open(&decide(&policy, &question.ask(), &used)));
    }

    #[test]
    fn a_leave_counts_for_nothing_but_what_was_given(
        policy in policy(), question in question(), supported: bool, used in 0_u32..4, suspended: bool,
    ) {
        let record = LeaveRecord { used_last_hour: used, suspended: suspended.then(|| "it went badly".into()) };
        let covers = covering(&policy, &question.ask(), supported, |_| record.clone());
        if let Covering::Covers { by, key, .. } = covers {
            let namespace = question.object.as_ref().unwrap().namespace().to_owned();
            let given = policy.standing_leave.iter().find(|leave| leave.key() == key).unwrap();
            prop_assert!(given.is_for(&question.tool, &namespace) && given.by == by.as_str());
            prop_assert!(used < given.per_hour && question.now < given.ends_at().unwrap());
            let from_outside = matches!(question.caller, Caller::Client { .. });
            prop_assert!(supported && !suspended && !from_outside);
            prop_assert_eq!(policy.tier_of(&question.tool, question.tier), Tier::Reversible);
        }
    }

    #[test]
    fn no_text_is_too_odd_to_be_read_or_refused(text in "\\PC{0,200}", lines in vec("(approvers|deny|freeze|standing_leave|limits|tiers|allow)?:? ?[-{}\\[\\]a-zA-Z0-9:, \"*.]{0,60}", 0..6)) {
        for text in [text, lines.join("\n")] {
            if let Err(error) = Policy::parse(&text, "policy.yaml") {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
