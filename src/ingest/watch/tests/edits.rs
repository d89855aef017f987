//! Edits: told once with their difference, in order, and never more than anybody can read.

use super::*;
use crate::ingest::watch::edits::{Edits, Room};
use crate::ingest::watch::seen::{Ignored, Seen};
use crate::model::Rollout;
use crate::observe::edits::Content;

type Plain = Seen<Value, Ignored>;

fn service(version: u32, port: u32) -> Plain {
    let written = json!([{"manager": "kubectl-edit", "operation": "Update", "time": "2026-03-24T16:39:58Z"}]);
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop", "resourceVersion": version.to_string(), "managedFields": written},
        "spec": {"clusterIP": "10.0.0.1", "ports": [{"name": "http", "targetPort": port}]}}))
    .unwrap()
}

fn edits(kind: Kind) -> (Edits, Clock) {
    let (speaker, clock) = speaker(false);
    (Edits::new(kind, speaker, Room::default()), clock)
}

fn hear(edits: &mut Edits, happened: Happened<Plain>) -> Vec<Signal> {
    edits.hear(&happened, |it| Content::of_spec(&it.spec, None, &Redactor::default()))
}

fn told(signals: &[Signal]) -> Vec<String> {
    let side = |text: &Option<crate::redact::Redacted>| text.as_ref().map_or("-".to_owned(), ToString::to_string);
    let one = |signal: &Signal| {
        let SignalBody::Rollout(Rollout { object, by, lines, .. }) = &signal.body else { panic!() };
        let lines = lines.iter().map(|l| format!(" {} {}>{}", l.field, side(&l.before), side(&l.after)));
        format!("{object} by {}:{}", side(by), lines.collect::<String>())
    };
    signals.iter().map(one).collect()
}

#[test]
fn an_edit_is_told_with_its_difference_and_who_made_it() {
    let (mut edits, _) = edits(Kind::Service);
    hear(&mut edits, Happened::Begins);
    assert!(hear(&mut edits, Happened::Listed(service(5, 80))).is_empty(), "the first list only says what there is");
    assert!(hear(&mut edits, Happened::Whole).is_empty());
    let heard = hear(&mut edits, Happened::Changed(service(7, 81)));
    assert_eq!(told(&heard), ["Service shop/web by kubectl-edit: ports.http.targetPort 80>81"]);
    let SignalBody::Rollout(rollout) = &heard[0].body else { panic!() };
    assert_eq!(rollout.at, "2026-03-24T16:39:58Z".parse().unwrap());
    assert!(hear(&mut edits, Happened::Changed(service(7, 81))).is_empty(), "the same again");
    assert!(hear(&mut edits, Happened::Changed(service(6, 80))).is_empty(), "out of order");
}

#[test]
fn what_changed_while_nobody_watched_is_told_at_the_next_list() {
    let (mut edits, _) = edits(Kind::Service);
    hear(&mut edits, Happened::Begins);
    hear(&mut edits, Happened::Listed(service(5, 80)));
    hear(&mut edits, Happened::Whole);
    hear(&mut edits, Happened::Begins);
    assert_eq!(told(&hear(&mut edits, Happened::Listed(service(9, 82)))).len(), 1);
    hear(&mut edits, Happened::Whole);
    hear(&mut edits, Happened::Begins);
    assert_eq!(told(&hear(&mut edits, Happened::Whole)), ["Service shop/web by -: Service web>-"]);
}

#[test]
fn an_object_that_changes_all_the_time_is_told_of_ever_more_seldom_and_whole() {
    let (mut edits, clock) = edits(Kind::Service);
    hear(&mut edits, Happened::Changed(service(1, 1)));
    let mut said = Vec::new();
    for second in 2..=600 {
        pass(&clock, 1);
        said.extend(told(&hear(&mut edits, Happened::Changed(service(second, second)))));
    }
    assert_eq!(said.len(), 5, "at 0, 30, 90, 210 and 450 s");
    assert!(said[1].ends_with("targetPort 2>32"), "what happened meanwhile is in one: {}", said[1]);
    pass(&clock, 3_600);
    assert_eq!(told(&hear(&mut edits, Happened::Tick)).len(), 1, "the last change is never lost");
}

#[test]
fn a_change_that_was_taken_back_at_once_is_none() {
    let (mut edits, clock) = edits(Kind::Service);
    for (version, port) in [(1, 80), (2, 81), (3, 82), (4, 81)] {
        hear(&mut edits, Happened::Changed(service(version, port)));
    }
    pass(&clock, 60);
    assert!(hear(&mut edits, Happened::Tick).is_empty());
}

#[test]
fn what_forbids_by_being_there_is_told_when_it_comes_and_an_object_that_was_replaced_with_its_difference() {
    let (mut edits, clock) = edits(Kind::NetworkPolicy);
    hear(&mut edits, Happened::Whole);
    let heard = hear(&mut edits, Happened::Changed(service(5, 80)));
    assert_eq!(told(&heard), ["NetworkPolicy shop/web by kubectl-edit: NetworkPolicy ->web"]);
    pass(&clock, 60);
    assert_eq!(hear(&mut edits, Happened::Gone(service(6, 80))).len(), 1);
    let heard = hear(&mut edits, Happened::Changed(service(8, 81)));
    let expected = "NetworkPolicy shop/web by kubectl-edit: NetworkPolicy ->web ports.http.targetPort 80>81";
    assert_eq!(told(&heard), [expected]);
    let (mut services, _) = self::edits(Kind::Service);
    hear(&mut services, Happened::Whole);
    assert!(hear(&mut services, Happened::Changed(service(5, 80))).is_empty(), "a new Service breaks nothing");
}
