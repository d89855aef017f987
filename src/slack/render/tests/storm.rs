//! The digest of a storm: what stands on it, in which order, and the longest that it can get.

use super::*;
use crate::model::Digest;

use crate::slack::render;
use crate::text;

fn member(nth: i64, severity: Severity, is_open: bool, says: &str, bonds: Vec<Bond>) -> DigestLine {
    let incident = IncidentId::parse(&format!("i{nth:04}")).unwrap();
    let link = text!(
        "https://workspace.slack.com/archives/C0INCIDENT/p177431000000{}?thread_ts=1774310000.000100&cid=C0INCIDENT",
        nth
    );
    let member = Member { incident, opened_at: at(0), severity, is_open, says: says.to_owned(), bonds };
    DigestLine { member, link: Some(link), has_own_card: severity == Severity::Critical }
}

fn bond(kind: BondKind, what: &'static str, state: &'static str) -> Bond {
    Bond { kind, what: what.into(), state: state.into(), since: Some(at(-1)) }
}

fn storm(lines: Vec<DigestLine>) -> Message {
    let digest = Digest { cluster: ClusterName::parse("prod-eu").unwrap(), lines };
    let message = render::digest(&digest, &Options { now: at(11) });
    check(&message);
    message
}

#[test]
fn a_storm_is_told_by_what_most_of_it_have_in_common_the_worst_first() {
    let on_node = || {
        let node = bond(BondKind::Node, "node ip-10-0-3-7", "not ready");
        vec![node, bond(BondKind::Namespace, "namespace shop", "")]
    };
    let message = storm(vec![
        member(1, Severity::Medium, true, "🟠 cart in shop: 2 of 3 pods are ready", on_node()),
        member(2, Severity::Medium, false, "✅ Over. Was: orders in shop: 2 of 3 pods are ready", on_node()),
        member(3, Severity::Critical, true, "🔴 checkout in shop: no pod is ready", on_node()),
        member(4, Severity::Low, true, "🟡 mailer in post: a rollout is stuck", Vec::new()),
    ]);
    insta::assert_snapshot!("storm", flatten(&message));
    assert_eq!(message.text, "🔴 4 more incidents in 1 min; 3 share node ip-10-0-3-7 (not ready)");

    let alone = storm(vec![member(1, Severity::Low, false, "✅ Over. Was: cart", on_node())]);
    assert_eq!(alone.text, "✅ All over: 1 more incident in 1 min", "one has nothing in common with others");
}

#[test]
fn the_longest_digest_is_within_slacks_limits() {
    let says = format!("🔴 {}", "<&*W".repeat(40));
    let says = escape::prose(&escape::cut(&says, 150));
    let what: &'static str = Box::leak("n".repeat(253).into_boxed_str());
    let lines =
        (0..100).map(|nth| member(nth, Severity::Critical, true, &says, vec![bond(BondKind::Cause, what, what)]));
    let message = storm(lines.collect());
    assert!(flatten(&message).contains("and 80 more in the thread"));
}

#[test]
fn a_card_in_the_thread_of_a_digest_promises_no_thread_and_may_move() {
    let state = first_card();
    let entry = render::entry(&state, &Options { now: at(11) });
    check(&entry);
    assert!(!flatten(&entry).contains("details in the thread"));
    let link = "https://workspace.slack.com/archives/C0INCIDENT/p1".into();
    let moved = render::moved(&state, Some(&link));
    check(&moved);
    let says = format!("{}\nIt has a card of its own in the channel: card ({link})", states_header(&state));
    assert_eq!(flatten(&moved), says);
}

fn states_header(state: &Card) -> String {
    card(state, &Options { now: at(11) }).text
}
