//! Late joining: what is learned after two incidents were opened may show that they are one; one then absorbs the other.

use jiff::Timestamp;

use crate::correlate::{ARRIVAL, Rules, fault, rank, root};
use crate::model::{
    ASKED, Cause, Certainty, Ending, Finding, Incident, IncidentId, IncidentState, Kind, Merge, Role, Scene,
};
use crate::redact::Redacted;
use crate::text;

/// Incidents that one incident names as absorbed; a storm has one cause, which the first of them tell.
const ABSORBED_MAX: usize = 50;

/// The object at fault where it is not the subject itself: by the scene's edges, else by a finding that is at least
/// likely. What is only possible merges nothing.
pub fn cause(scene: &Scene, findings: &[Finding]) -> Option<Cause> {
    if let Some(root) = root::of(scene) {
        return Some(Cause { object: root.object, because: root.because });
    }
    let found = findings.iter().filter(|finding| finding.role == Role::Cause).max_by_key(|f| f.certainty)?;
    // A pod or a template of the subject is the subject; a namespace holds what has nothing in common.
    let own = matches!(found.about.kind, Kind::Pod | Kind::ReplicaSet | Kind::ControllerRevision | Kind::Namespace);
    let elsewhere = found.about != scene.subject && !own && found.certainty >= Certainty::Likely;
    elsewhere.then(|| Cause { object: found.about.clone(), because: found.says.clone() })
}

/// The incident that `looked_at` now belongs with: the one that stays and the one that goes, each as it then is.
///
/// They belong together if one has its cause in the other's subject, or both have the same cause, or they are of the
/// same subject and fault. The one at the cause stays, else the older; but the one that was paid for never goes for
/// one that was not, so that no fault is paid for twice.
pub fn merge(looked_at: &Incident, open: &[Incident], rules: &Rules, now: Timestamp) -> Option<(Incident, Incident)> {
    let candidate = |other: &&Incident| other.id != looked_at.id && may(other) && may(looked_at);
    let (other, because, at_cause) =
        open.iter().filter(candidate).find_map(|other| together(looked_at, other).map(|(why, at)| (other, why, at)))?;
    let paid = |incident: &Incident| incident.investigation.turns > 0;
    let looked_at_stays = match at_cause {
        _ if paid(looked_at) != paid(other) => paid(looked_at),
        Some(at) => *at == looked_at.id,
        None => (looked_at.opened_at, &looked_at.id) < (other.opened_at, &other.id),
    };
    let (stays, goes) = if looked_at_stays { (looked_at, other) } else { (other, looked_at) };
    Some(absorb(stays.clone(), goes.clone(), because, rules, now))
}

fn may(incident: &Incident) -> bool {
    incident.state == IncidentState::Open && ![ARRIVAL, ASKED].contains(&incident.fault.as_str())
}

/// Why two incidents are one, and which of them is at the cause, if one is.
fn together<'a>(a: &'a Incident, b: &'a Incident) -> Option<(Redacted, Option<&'a IncidentId>)> {
    let lies_in = |victim: &Incident, other: &Incident| {
        let cause = victim.cause.as_ref().filter(|cause| cause.object == other.subject)?;
        (other.fault == fault(&cause.object)).then(|| cause.because.clone())
    };
    if let Some(because) = lies_in(a, b) {
        return Some((because, Some(&b.id)));
    }
    if let Some(because) = lies_in(b, a) {
        return Some((because, Some(&a.id)));
    }
    if a.subject == b.subject && a.fault == b.fault {
        return Some((text!("same {}", a.subject), None));
    }
    let (cause, same) = (a.cause.as_ref()?, b.cause.as_ref()?);
    (cause.object == same.object).then(|| (text!("same cause, {}: {}", cause.object, cause.because), None))
}

fn absorb(
    mut stays: Incident,
    mut goes: Incident,
    because: Redacted,
    rules: &Rules,
    now: Timestamp,
) -> (Incident, Incident) {
    let merge = |other: &Incident| Merge {
        incident: other.id.clone(),
        subject: other.subject.clone(),
        at: now,
        because: because.clone(),
    };
    if stays.absorbed.len() < ABSORBED_MAX {
        stays.absorbed.push(merge(&goes));
    }
    goes.absorbed_by = Some(Box::new(merge(&stays)));
    let listed_max = rules.listed_max;
    for object in std::iter::once(&goes.subject).chain(&goes.also) {
        if *object != stays.subject && !stays.also.contains(object) && stays.also.len() < listed_max {
            stays.also.push(object.clone());
        }
    }
    let room = listed_max.saturating_sub(stays.why.len());
    stays.why.extend(goes.why.iter().take(room).cloned());
    stays.began_at = stays.began_at.min(goes.began_at);
    stays.severity = stays.severity.max(goes.severity);
    if goes.alert_severity.as_ref().map_or(0, rank) > stays.alert_severity.as_ref().map_or(0, rank) {
        stays.alert_severity.clone_from(&goes.alert_severity);
    }
    stays.updated_at = now;
    goes.state = IncidentState::Over { at: now, how: Ending::Absorbed };
    goes.updated_at = now;
    (stays, goes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::correlate::{Change, Resolved, plan};
    use crate::model::{ClusterName, ObjectRef, Severity, Signal, SignalBody, SignalId, Warning, WarningSource};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn object(kind: Kind, namespace: Option<&str>, name: &str) -> ObjectRef {
        ObjectRef::new(kind, namespace, name).unwrap()
    }

    fn heard(object: &ObjectRef, second: i64) -> Resolved {
        let warning = Warning {
            object: object.clone(),
            source: WarningSource::PodState,
            reason: "CrashLoopBackOff".into(),
            message: "".into(),
            first_at: at(second),
            last_at: at(second),
            count: 1,
            on_arrival: false,
        };
        let signal = Signal {
            id: SignalId::derive(&[&object.to_string(), &second.to_string()]),
            cluster: ClusterName::parse("c").unwrap(),
            heard_at: at(second),
            body: SignalBody::Warning(warning),
        };
        Resolved { signal, subject: Some(object.clone()) }
    }

    fn changes(known: &[Incident], object: &ObjectRef, second: i64) -> Vec<Change> {
        let signals = [heard(object, second)];
        plan(known, &signals, &BTreeMap::new(), &|_| Severity::High, &Rules::default(), at(second))
    }

    fn opened(object: &ObjectRef, second: i64) -> Incident {
        let Some(Change::Open { incident, .. }) = changes(&[], object, second).pop() else { panic!() };
        *incident
    }

    fn with_cause(incident: Incident, cause: &ObjectRef) -> Incident {
        let because = "it says so".into();
        Incident { cause: Some(Box::new(Cause { object: cause.clone(), because })), ..incident }
    }

    #[test]
    fn the_incident_at_the_cause_stays_unless_only_the_other_was_paid_for() {
        let (node, cart) = (object(Kind::Node, None, "n1"), object(Kind::Deployment, Some("shop"), "cart"));
        let (of_node, of_cart) = (opened(&node, 60), with_cause(opened(&cart, 0), &node));
        let (stays, goes) = merge(&of_cart, std::slice::from_ref(&of_node), &Rules::default(), at(61)).unwrap();
        assert_eq!((&stays.id, &goes.id), (&of_node.id, &of_cart.id));
        assert_eq!((stays.began_at, stays.also.clone()), (at(0), vec![cart]));
        assert_eq!(stays.absorbed[0].because.as_str(), "it says so");
        let mut paid = of_cart;
        paid.investigation.turns = 3;
        let (stays, goes) = merge(&paid, &[of_node], &Rules::default(), at(61)).unwrap();
        assert_eq!((stays.id, goes.subject), (paid.id, node));
    }

    #[test]
    fn two_of_one_cause_are_one_and_the_younger_goes() {
        let config = object(Kind::ConfigMap, Some("shop"), "settings");
        let [a, b] = [("cart", 0), ("web", 9)]
            .map(|(name, second)| with_cause(opened(&object(Kind::Deployment, Some("shop"), name), second), &config));
        let (stays, goes) = merge(&b, std::slice::from_ref(&a), &Rules::default(), at(20)).unwrap();
        assert_eq!((stays.id, goes.id), (a.id, b.id));
        let said = stays.absorbed[0].because.as_str();
        assert!(said.starts_with("same cause, ConfigMap shop/settings"), "{said}");
    }

    #[test]
    fn unrelated_faults_and_same_names_elsewhere_stay_apart() {
        let [here, there] = ["shop", "shop-eu"].map(|namespace| object(Kind::ConfigMap, Some(namespace), "settings"));
        let cart = opened(&object(Kind::Deployment, Some("shop"), "cart"), 0);
        let web = opened(&object(Kind::Deployment, Some("shop"), "web"), 1);
        assert!(
            merge(&cart, std::slice::from_ref(&web), &Rules::default(), at(2)).is_none(),
            "one namespace is no reason"
        );
        let (cart, web) = (with_cause(cart, &here), with_cause(web, &there));
        assert!(merge(&cart, std::slice::from_ref(&web), &Rules::default(), at(2)).is_none());
        let over =
            Incident { state: IncidentState::Over { at: at(1), how: Ending::Healthy }, ..with_cause(web, &here) };
        assert!(merge(&cart, &[over], &Rules::default(), at(2)).is_none(), "what is over is left alone");
    }

    #[test]
    fn news_of_what_was_taken_in_go_where_it_went_and_reopen_it() {
        let (node, cart) = (object(Kind::Node, None, "n1"), object(Kind::Deployment, Some("shop"), "cart"));
        let (mut stays, goes) =
            merge(&with_cause(opened(&cart, 0), &node), &[opened(&node, 5)], &Rules::default(), at(6)).unwrap();
        for ended in [false, true] {
            if ended {
                stays.state = IncidentState::Over { at: at(60), how: Ending::Healthy };
            }
            let changes = changes(&[goes.clone(), stays.clone()], &cart, 90);
            let [Change::Join { incident, .. }] = &changes[..] else { panic!("{changes:?}") };
            assert_eq!((&incident.id, &incident.state), (&stays.id, &IncidentState::Open));
        }
    }
}
