//! The card in every state, as people read it, and every payload against Slack's limits.

mod states;
mod storm;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::*;
use crate::model::approval::{Dependents, Few};
use crate::model::scene::{Change, DiffLine, NotFound};
use crate::model::*;
use crate::redact::Redacted;

const SHA: &str = "4c1f3a5b6c7d8e9f00112233445566778899aabbccddeeff00112233445566e2";

fn at(minutes: i64) -> Timestamp {
    "2026-03-24T02:14:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minutes)
}

fn checkout() -> ObjectRef {
    ObjectRef::new(Kind::Deployment, Some("shop"), "checkout").unwrap()
}

fn citation(evidence: u32, quote: &'static str, source: Source) -> Citation {
    Citation { evidence: EvidenceId(evidence), segment: Some(0), quote: quote.into(), source: Some(source) }
}

fn log_of(pod: &str) -> Source {
    Source::Log {
        namespace: Name::parse("shop").unwrap(),
        pod: Name::parse(pod).unwrap(),
        container: Name::parse("app").unwrap(),
        previous: true,
    }
}

fn line(field: &'static str, before: Option<&'static str>, after: Option<&'static str>) -> DiffLine {
    DiffLine { container: None, field: field.into(), before: before.map(Into::into), after: after.map(Into::into) }
}

fn scene() -> Scene {
    Scene {
        workload: Part::Known(None),
        changes: Part::Known(vec![Change {
            object: checkout(),
            changed_at: at(-2),
            by: Some("helm".into()),
            from_revision: Some(6),
            to_revision: Some(7),
            lines: vec![
                line("image", Some("checkout:2.3.1"), Some("checkout:2.4.0")),
                line("env DB_POOL", None, Some("200")),
            ],
            at: scene::At { evidence: EvidenceId(2), segment: 0 },
        }]),
        ..Scene::unread(checkout(), at(0), &"not read yet".into())
    }
}

fn finding(role: Role, brief: &'static str, says: &'static str) -> Finding {
    Finding {
        rule: "crash-loop".into(),
        role,
        certainty: Certainty::Likely,
        about: checkout(),
        says: says.into(),
        brief: brief.into(),
        citations: Vec::new(),
        proposal: None,
        advice: None,
        shared: None,
        through: None,
        revision: None,
        ending: false,
    }
}

/// Within a second of the webhook: no model, no report.
fn first_card() -> Card {
    Card {
        incident: Incident {
            id: IncidentId::parse("i0001").unwrap(),
            severity: Severity::Critical,
            alert_severity: Some("warning".into()),
            began_at: at(0),
            unhealthy_at: Some(at(0)),
            why: vec![Why {
                signal: SignalId::derive(&["a"]),
                at: at(1),
                sentence: "same Deployment shop/checkout, 40 s apart, both after revision 7".into(),
                joined: None,
            }],
            investigation: Investigation { turns_max: 12, ..Investigation::unbegun(InvestigationState::Off) },
            ..Incident::opened(ClusterName::parse("prod-eu").unwrap(), checkout(), "workload", at(2))
        },
        heard: Heard {
            alerts: 4,
            alerts_firing: 4,
            alert_names: vec!["KubePodCrashLooping".into()],
            warnings: 11,
            rollouts: 1,
            resolved_at: None,
            says: Some("Pod shop/checkout is crash looping".into()),
            alert: None,
            labels: Vec::new(),
        },
        scene: Some(Arc::new(scene())),
        findings: vec![
            finding(Role::RuledOut, "", "the other Deployment that rolled out (`cart`, 02:09) is healthy"),
            finding(
                Role::Mechanism,
                "containers exit 1 since revision 7: too many database connections",
                "containers exit 1 after 3 s, \"FATAL: too many connections for role\" (61 times)",
            ),
            finding(
                Role::Symptom,
                "3 of 4 pods crash",
                "checkout is failing in shop: 3 of 4 pods crash since revision 7",
            ),
        ],
        report: None,
        approvals: Vec::new(),
        links: vec![Link { label: "Runbook".into(), url: "https://wiki.example/checkout?a=1&b=2".into() }],
        audit_head: Some((18_204, SHA.into())),
        past: Vec::new(),
        thumbs: Vec::new(),
        parked: Vec::new(),
        off: Vec::new(),
    }
}

fn with_report() -> Card {
    let mut card = first_card();
    card.incident.investigation.state = InvestigationState::Done;
    card.incident.investigation.turns = 4;
    card.incident.investigation.tool_calls = 5;
    card.incident.investigation.input_tokens = 8_000;
    card.incident.investigation.output_tokens = 1_140;
    card.report = Some(Report {
        origin: Origin::Model,
        headline: "checkout is failing in shop: revision 7 opens more database connections than the role allows".into(),
        cause: "revision 7 sets `DB_POOL=200`; 4 pods × 200 exceed the role's limit, and every new pod exits.".into(),
        certainty: Certainty::Likely,
        culprit: Some(checkout()),
        citations: vec![
            citation(4, "FATAL: too many connections for role \"checkout\"", log_of("checkout-7f9c-x2lkq")),
            citation(2, "DB_POOL=200", Source::Rollout { object: checkout() }),
        ],
        ruled_out: vec!["node pressure".into(), "image pull".into(), "database down (`cart` uses it)".into()],
        advice: None,
        proposals: Vec::new(),
        reasoning: vec!["The log names the role's limit.".into(), "Only revision 7 raised the pool.".into()],
        struck: 0,
        review: Review::NotNeeded,
        about: None,
    });
    card
}

fn approval(state: ApprovalState) -> Approval {
    let proposal = Proposal::RolloutUndo { object: checkout(), to_revision: Some(6) };
    Approval {
        id: ApprovalId::parse("a0001").unwrap(),
        cluster: ClusterName::parse("prod-eu").unwrap(),
        incident: IncidentId::parse("i0001").unwrap(),
        asked_by: Caller::Agent,
        also_asked_by: Vec::new(),
        proposal,
        action: Some(undo()),
        tier: Tier::Reversible,
        state,
        because: "".into(),
        created_at: at(3),
        expires_at: at(33),
        rule: "approvers[0]".into(),
        people_needed: 1,
        approvers: vec!["U024BE7LH".into(), "group:S0614TZR7".into()],
        presses: Vec::new(),
        preview: Some(Preview {
            diff: vec![
                line("image", Some("checkout:2.4.0"), Some("checkout:2.3.1")),
                line("env DB_POOL", Some("200"), None),
            ],
            by_api_server: true,
            note: None,
            pods_touched: 4,
            down_at_worst: 1,
            disruptions_allowed: Some(1),
            pace: "one at a time".into(),
            autoscaler: None,
            gitops: None,
            dependents: Some(Dependents { services: few(&["checkout"], 0), ingresses: few(&["shop"], 0) }),
            ..Preview::default()
        }),
        bound: None,
        execution: None,
        verification: Verification::NotStarted,
        undoes: None,
        standing: None,
    }
}

fn few(names: &[&str], more: u32) -> Part<Few> {
    let named = names.iter().map(|name| ObjectRef::new(Kind::Service, Some("shop"), name).unwrap()).collect();
    Part::Known(Few { named, more })
}

fn undo() -> Action {
    Action::RolloutUndo {
        object: checkout(),
        target_uid: "uid".into(),
        target_hash: "6d9f".into(),
        to_revision: 6,
        from_revision: 7,
    }
}

fn press(yes: bool, reason: Option<&'static str>) -> Press {
    Press { user: "U024BE7LH".into(), yes, at: at(7), reason: reason.map(Into::into) }
}

/// A report with a step that waits for its answer.
pub(crate) fn with_button() -> Card {
    asked(|_| {})
}

fn asked(change: impl FnOnce(&mut Approval)) -> Card {
    let mut card = with_report();
    let mut approval = approval(ApprovalState::Pending);
    change(&mut approval);
    card.approvals.push(approval);
    card
}

fn executed(verification: Verification) -> Card {
    asked(|approval| {
        approval.state = ApprovalState::Executed;
        approval.presses.push(press(true, None));
        approval.verification = verification;
        approval.execution = Some(Execution {
            started_at: at(7),
            body: Value::Null,
            finished_at: Some(at(7)),
            generation: Some(9),
            left: None,
            ready_before: Some(1),
            astray: false,
        });
    })
}

/// Renders everything, checks it against Slack's limits, and gives the card as text.
#[track_caller]
fn render(state: &Card) -> String {
    let options = Options { now: at(11) };
    let message = card(state, &options);
    check(&message);
    for (_, reply) in replies(state, &options) {
        check(&reply);
    }
    flatten(&message)
}

#[track_caller]
fn see(name: &str, state: &Card) {
    let text = render(state);
    assert!(text.lines().count() <= 25, "too long for one phone screen and a half:\n{text}");
    insta::assert_snapshot!(name, text);
}

/// Slack's limits, and what its own libraries do not check: duplicate ids, empty texts.
#[track_caller]
fn check(message: &Message) {
    let payload = serde_json::to_value(message).unwrap();
    let blocks = payload["blocks"].as_array().unwrap();
    assert!((1..=50).contains(&blocks.len()), "{} blocks", blocks.len());
    assert!(!message.text.is_empty() && message.text.chars().count() <= 4_000);
    let mut ids = Vec::new();
    for block in blocks {
        match block["type"].as_str().unwrap() {
            "header" => within(&block["text"], 150),
            "section" => within(&block["text"], 3_000),
            "context" => {
                let elements = block["elements"].as_array().unwrap();
                assert!((1..=10).contains(&elements.len()));
                elements.iter().for_each(|element| within(element, 3_000));
            }
            "actions" => {
                let elements = block["elements"].as_array().unwrap();
                assert!((1..=25).contains(&elements.len()));
                for button in elements {
                    within(&button["text"], 75);
                    assert!(ApprovalId::parse(button["value"].as_str().unwrap()).is_some());
                    ids.push(button["action_id"].as_str().unwrap().to_owned());
                    if let Some(confirm) = button.get("confirm") {
                        within(&confirm["title"], 100);
                        within(&confirm["text"], 300);
                        within(&confirm["confirm"], 30);
                        within(&confirm["deny"], 30);
                    }
                }
            }
            other => panic!("unexpected block {other}"),
        }
    }
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "duplicate action ids: {ids:?}");
}

#[track_caller]
fn within(text: &Value, max: usize) {
    let text = text["text"].as_str().unwrap();
    assert!(!text.trim().is_empty(), "empty text");
    assert!(escape::length(text) <= max, "{} of {max}: {text}", escape::length(text));
}

#[test]
fn the_first_card_says_what_fired_what_changed_and_what_the_rules_found() {
    see("first-card-no-model", &first_card());
    let mut card = first_card();
    card.incident.investigation.state = InvestigationState::Running;
    card.incident.investigation.turns = 2;
    see("looking-further", &card);
    card.scene = None;
    card.findings.clear();
    see("nothing-read-yet", &card);
}

#[test]
fn an_alerts_own_words_are_quoted_while_no_cause_is_known_and_its_severity_has_no_reason_of_ours() {
    let mut card = first_card();
    let words = "Pod is crash looping. · <!channel> see *this* `now`";
    card.heard.alert = Some(("KubePodCrashLooping".into(), words.into()));
    card.incident.severity_why = "1 of 4 endpoints is left".into();
    let shown = flatten(&super::card(&card, &Options { now: at(11) }));
    assert!(shown.contains("critical: 1 of 4 endpoints is left (alert says warning)"), "{shown}");
    assert!(shown.contains("*Alert says*  `Pod is crash looping. ·"), "{shown}");
    assert!(shown.contains("(KubePodCrashLooping)"), "{shown}");
    let payload = serde_json::to_string(&super::card(&card, &Options { now: at(11) })).unwrap();
    assert!(!payload.contains("<!channel>"), "{payload}");

    let known = Card { heard: card.heard.clone(), ..asked(|_| {}) };
    assert!(!flatten(&super::card(&known, &Options { now: at(11) })).contains("Alert says"), "the cause says more");
    let thread = flatten(&replies(&known, &Options { now: at(11) })[0].1);
    assert!(thread.contains("*Alert says*  `Pod is crash looping."), "{thread}");
}

#[test]
fn a_part_that_could_not_be_read_says_so() {
    let mut card = first_card();
    let scene = Arc::make_mut(card.scene.as_mut().unwrap());
    scene.logs = Part::Missing("the kubelet of `node-3` did not answer".into());
    scene.pods = Part::Missing("forbidden".into());
    scene.events = Part::Missing("forbidden".into());
    see("could-not-read", &card);
}

#[test]
fn the_report_says_the_cause_once_with_its_proof_and_the_step_with_its_effect() {
    let card = asked(|_| {});
    see("report-with-a-button", &card);
    insta::assert_json_snapshot!("report-payload", super::card(&card, &Options { now: at(11) }));
    let replies = replies(&card, &Options { now: at(11) });
    insta::assert_snapshot!("thread-of-the-report", flatten(&replies[0].1));
}

#[test]
fn the_notification_is_the_first_line() {
    let message = card(&with_report(), &Options { now: at(11) });
    assert_eq!(flatten(&message).lines().next().unwrap(), message.text);
    assert!(message.text.starts_with("🔴 checkout is failing in shop"));
}

#[test]
fn two_people_are_counted_and_two_proposals_have_ids_of_their_own() {
    let mut card = asked(|approval| {
        approval.people_needed = 2;
        approval.tier = Tier::Destructive;
        approval.presses.push(press(true, None));
    });
    let other = ObjectRef::new(Kind::Deployment, Some("shop"), "cart").unwrap();
    card.approvals.push(Approval {
        id: ApprovalId::parse("a0002").unwrap(),
        proposal: Proposal::RolloutRestart { object: other.clone() },
        action: Some(Action::RolloutRestart { object: other }),
        ..approval(ApprovalState::Pending)
    });
    see("two-proposals-four-eyes", &card);
}
