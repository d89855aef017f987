//! Late joining: what is learned after two incidents were opened may show that they are one; one then absorbs the other.

use jiff::Timestamp;

use crate::correlate::{ARRIVAL, Rules, fault, rank, root};
use crate::model::finding;
use crate::model::{
    ASKED, Cause, Certainty, Ending, Finding, Incident, IncidentId, IncidentState, InvestigationState, Kind, Merge,
    ObjectRef, Origin, Proposal, Report, Scene, Shared, Source,
};
use crate::redact::Redacted;
use crate::text;

/// Incidents that one incident names as absorbed; a storm has one cause, which the first of them tell.
const ABSORBED_MAX: usize = 50;

/// The object at fault where it is not the subject itself: by the scene's edges, else by a finding that is at least
/// likely. What is only possible merges nothing.
pub fn cause(scene: &Scene, findings: &[Finding]) -> Option<Cause> {
    if let Some(root) = root::of(scene) {
        return Some(Cause { object: root.object, because: root.because, by_model: false });
    }
    let found = finding::cause(findings)?;
    let elsewhere = is_elsewhere(&found.about, scene) && found.certainty >= Certainty::Likely;
    elsewhere.then(|| Cause { object: found.about.clone(), because: found.says.clone(), by_model: false })
}

/// What the subject has its cause in that others may have theirs in too, by its strongest finding. A finding that is only
/// possible counts here: that two subjects have one and the same is what makes it more.
pub fn shared(findings: &[Finding]) -> Option<Shared> {
    let strongest = finding::cause(findings)?;
    Some(Shared { what: strongest.shared.clone()?, because: strongest.says.clone() })
}

/// The object at fault as a model's report names it: at least likely, and seen by code: quoted in its proof, or joined
/// to the subject by an edge of the scene. What a log line says that it is merges nothing.
pub fn told(scene: &Scene, report: &Report) -> Option<Cause> {
    let sure = report.origin == Origin::Model && report.certainty >= Certainty::Likely;
    let object = report.culprit.as_ref().filter(|object| sure && is_elsewhere(object, scene))?;
    let quoted = report.citations.iter().any(|citation| match &citation.source {
        Some(
            Source::Object { object: seen } | Source::Event { object: seen, .. } | Source::Rollout { object: seen },
        ) => seen == object,
        _ => false,
    });
    let because = if report.cause.is_empty() { &report.headline } else { &report.cause };
    let because = text!("the model's report: {}", because.cut(200));
    (quoted || joins(scene, object)).then(|| Cause { object: object.clone(), because, by_model: true })
}

/// A pod or a template of the subject is the subject; a namespace holds what has nothing in common.
fn is_elsewhere(object: &ObjectRef, scene: &Scene) -> bool {
    let own = matches!(object.kind, Kind::Pod | Kind::ReplicaSet | Kind::ControllerRevision | Kind::Namespace);
    *object != scene.subject && !own
}

/// Whether the subject stands on the object, calls it or reads it.
fn joins(scene: &Scene, object: &ObjectRef) -> bool {
    let nodes = scene.nodes.items().iter().map(|node| &node.object);
    let services = scene.services.items().iter().map(|service| &service.object);
    let behind = scene.services.items().iter().filter_map(|service| Some(&service.behind.as_ref()?.object));
    let maps = scene.config_maps.items().iter().filter(|map| map.referenced).map(|map| &map.object);
    let claims = scene.claims.items().iter().map(|claim| &claim.object);
    nodes.chain(services).chain(behind).chain(maps).chain(claims).any(|seen| seen == object)
}

/// The incident that `looked_at` now belongs with: the one that stays and the one that goes, each as it then is.
///
/// They belong together if one has its cause in the other's subject, or both have the same cause, or they are of the
/// same subject and fault. The one at the cause stays, since there the step is that helps; else the one that was paid
/// for; else the older. Where the cause of both is a node, the one that stays is the node's from then on.
pub fn merge(looked_at: &Incident, open: &[Incident], rules: &Rules, now: Timestamp) -> Option<(Incident, Incident)> {
    let others = || open.iter().filter(|other| other.id != looked_at.id && may(other) && may(looked_at));
    // Where the cause has an incident, that one is it, however many have the same cause.
    let at_cause = others().find_map(|other| Some((other, at_cause(looked_at, other)?)));
    let (other, why) = at_cause.or_else(|| others().find_map(|other| Some((other, together(looked_at, other)?))))?;
    let paid = |incident: &Incident| incident.investigation.turns > 0;
    let looked_at_stays = match why.at_cause {
        Some(at) => *at == looked_at.id,
        None if paid(looked_at) != paid(other) => paid(looked_at),
        None => (looked_at.opened_at, &looked_at.id) < (other.opened_at, &other.id),
    };
    let (stays, goes) = if looked_at_stays { (looked_at, other) } else { (other, looked_at) };
    Some(absorb(stays.clone(), goes.clone(), &why, rules, now))
}

fn may(incident: &Incident) -> bool {
    incident.state == IncidentState::Open && ![ARRIVAL, ASKED].contains(&incident.fault.as_str())
}

/// Whether a step of the one that went is still one in the one that stays: what mends the cause, or, where the two had
/// a cause in common, what mends each. A victim recovers by itself, and a model's word gives no new object to change.
pub fn carries(stays: &ObjectRef, goes: &Incident, step: &Proposal) -> bool {
    let Some(merge) = goes.absorbed_by.as_deref() else { return false };
    let is_victim = goes.cause.as_ref().is_some_and(|cause| cause.object == *stays);
    *step.object() == *stays || *step.object() == goes.subject && !is_victim && !merge.by_model
}

/// Whether an incident waits for no further turn of a model: it took in one that a model was paid for, and the rules know
/// its own cause.
pub fn is_settled(incident: &Incident, report: Option<&Report>) -> bool {
    let known = report.is_some_and(|report| report.certainty >= Certainty::Likely);
    known && incident.investigation.turns == 0 && incident.absorbed.iter().any(|merge| merge.paid)
}

/// Why two incidents are one.
struct Together<'a> {
    because: Redacted,
    by_model: bool,
    /// The one of them that is at the cause, if one is.
    at_cause: Option<&'a IncidentId>,
    /// The node that both have their cause in, of which there is no incident yet.
    node: Option<&'a ObjectRef>,
}

fn at_cause<'a>(a: &'a Incident, b: &'a Incident) -> Option<Together<'a>> {
    lies_in(a, b).or_else(|| lies_in(b, a))
}

fn together<'a>(a: &'a Incident, b: &'a Incident) -> Option<Together<'a>> {
    if a.subject == b.subject && a.fault == b.fault {
        return Some(Together { because: text!("same {}", a.subject), by_model: false, at_cause: None, node: None });
    }
    // The same image in two namespaces may be wrong in both and yet be two faults: of two teams, of two stages.
    if let (Some(one), Some(other)) = (&a.shares, &b.shares)
        && one.what == other.what
        && a.subject.namespace == b.subject.namespace
    {
        let because = text!("same cause, {}: {}", one.what, one.because);
        return Some(Together { because, by_model: false, at_cause: None, node: None });
    }
    let (cause, same) = (a.cause.as_ref()?, b.cause.as_ref()?);
    let by_model = cause.by_model || same.by_model;
    (cause.object == same.object).then(|| Together {
        because: text!("same cause, {}: {}", cause.object, cause.because),
        by_model,
        at_cause: None,
        // A model's word gives no new subject, which is an object to change.
        node: Some(&cause.object).filter(|object| object.kind == Kind::Node && !by_model),
    })
}

/// One has its cause in the other's subject, which a model's word alone does not make ill.
fn lies_in<'a>(victim: &Incident, other: &'a Incident) -> Option<Together<'a>> {
    let cause = victim.cause.as_ref().filter(|cause| cause.object == other.subject)?;
    let ill = !cause.by_model || other.unhealthy_at.is_some() && other.healthy_since.is_none();
    (ill && other.fault == fault(&cause.object)).then(|| Together {
        because: cause.because.clone(),
        by_model: cause.by_model,
        at_cause: Some(&other.id),
        node: None,
    })
}

fn absorb(
    mut stays: Incident,
    mut goes: Incident,
    why: &Together<'_>,
    rules: &Rules,
    now: Timestamp,
) -> (Incident, Incident) {
    if let Some(node) = why.node {
        become_of(&mut stays, node);
    }
    let merge = |other: &Incident| Merge {
        incident: other.id.clone(),
        subject: other.subject.clone(),
        at: now,
        because: why.because.clone(),
        by_model: why.by_model,
        carried: Vec::new(),
        paid: false,
    };
    if stays.absorbed.len() < ABSORBED_MAX {
        let answered = matches!(goes.investigation.state, InvestigationState::Done);
        let paid = answered && goes.investigation.turns > 0 && stays.investigation.turns == 0;
        stays.absorbed.push(Merge { paid, ..merge(&goes) });
    }
    goes.absorbed_by = Some(Box::new(merge(&stays)));
    let listed_max = rules.listed_max;
    let was = stays.was.clone();
    for object in was.iter().chain(std::iter::once(&goes.subject)).chain(&goes.also) {
        if *object != stays.subject && !stays.also.contains(object) && stays.also.len() < listed_max {
            stays.also.push(object.clone());
        }
    }
    let room = listed_max.saturating_sub(stays.why.len());
    stays.why.extend(goes.why.iter().take(room).cloned());
    stays.began_at = stays.began_at.min(goes.began_at);
    if goes.severity > stays.severity {
        (stays.severity, stays.severity_why) = (goes.severity, goes.severity_why.clone());
    }
    if goes.alert_severity.as_ref().map_or(0, rank) > stays.alert_severity.as_ref().map_or(0, rank) {
        stays.alert_severity.clone_from(&goes.alert_severity);
    }
    stays.waits_for = None;
    stays.listed = stays.listed.or(goes.listed);
    stays.updated_at = now;
    goes.state = IncidentState::Over { at: now, how: Ending::Absorbed };
    goes.updated_at = now;
    (stays, goes)
}

/// Makes an incident that of the node that it has its cause in: how that one fares, and with what, is yet to be seen.
fn become_of(incident: &mut Incident, node: &ObjectRef) {
    let was = std::mem::replace(&mut incident.subject, node.clone());
    let because = incident.cause.take().map_or_else(Redacted::default, |cause| cause.because);
    for why in incident.why.iter_mut().filter(|why| why.joined.is_none()) {
        why.joined = Some(Cause { object: was.clone(), because: because.clone(), by_model: false });
    }
    (incident.was, incident.fault, incident.shares) = (Some(was), fault(node), None);
    (incident.unhealthy_at, incident.healthy_since) = (None, None);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::correlate::{Change, Resolved, plan};
    use crate::model::{ClusterName, Role, Severity, Signal, SignalBody, SignalId, Warning, WarningSource, Weight};

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
        plan(known, &signals, &BTreeMap::new(), &|_| high(), &Rules::default(), at(second))
    }

    fn high() -> Weight {
        Weight { severity: Severity::High, why: "".into() }
    }

    fn opened(object: &ObjectRef, second: i64) -> Incident {
        let Some(Change::Open { incident, .. }) = changes(&[], object, second).pop() else { panic!() };
        *incident
    }

    fn with_cause(incident: Incident, cause: &ObjectRef) -> Incident {
        let because = "it says so".into();
        Incident { cause: Some(Box::new(Cause { object: cause.clone(), because, by_model: false })), ..incident }
    }

    #[test]
    fn the_incident_at_the_cause_stays_and_no_fault_is_paid_for_twice() {
        let (node, cart) = (object(Kind::Node, None, "n1"), object(Kind::Deployment, Some("shop"), "cart"));
        let (of_node, of_cart) = (opened(&node, 60), with_cause(opened(&cart, 0), &node));
        let (stays, goes) = merge(&of_cart, std::slice::from_ref(&of_node), &Rules::default(), at(61)).unwrap();
        assert_eq!((&stays.id, &goes.id), (&of_node.id, &of_cart.id));
        assert_eq!((stays.began_at, stays.also.clone()), (at(0), vec![cart]));
        assert_eq!(stays.absorbed[0].because.as_str(), "it says so");
        let mut paid = of_cart;
        paid.investigation.turns = 3;
        paid.investigation.state = InvestigationState::Done;
        let (stays, goes) = merge(&paid, &[of_node], &Rules::default(), at(61)).unwrap();
        assert_eq!((&stays.subject, &goes.id), (&node, &paid.id));
        let known = |certainty| is_settled(&stays, Some(&report(certainty, Origin::Findings, &node)));
        assert!(known(Certainty::Likely) && !known(Certainty::Unknown), "what nobody knows is still looked for");
    }

    fn report(certainty: Certainty, origin: Origin, culprit: &ObjectRef) -> Report {
        Report {
            origin,
            headline: "".into(),
            cause: "it says so".into(),
            certainty,
            culprit: Some(culprit.clone()),
            citations: Vec::new(),
            ruled_out: Vec::new(),
            advice: None,
            proposals: Vec::new(),
            reasoning: Vec::new(),
            struck: 0,
            review: crate::model::report::Review::default(),
            about: None,
        }
    }

    #[test]
    fn a_models_word_merges_only_what_code_has_seen_and_what_is_ill() {
        let [cart, prices] = ["cart", "prices"].map(|name| object(Kind::Deployment, Some("shop"), name));
        let scene = Scene::unread(cart.clone(), at(0), &"not read yet".into());
        let mut said = report(Certainty::Likely, Origin::Model, &prices);
        assert_eq!(told(&scene, &said), None, "nothing that was read speaks of it");
        said.citations = vec![crate::model::Citation {
            evidence: crate::model::EvidenceId(12),
            segment: Some(0),
            quote: "revision 7".into(),
            source: Some(Source::Rollout { object: prices.clone() }),
        }];
        let cause = told(&scene, &said).unwrap();
        assert!(cause.by_model && cause.object == prices);
        assert_eq!(told(&scene, &Report { certainty: Certainty::Possible, ..said.clone() }), None);
        assert_eq!(told(&scene, &Report { origin: Origin::Findings, ..said }), None);

        let victim = Incident { cause: Some(Box::new(cause)), ..opened(&cart, 0) };
        let mut other = opened(&prices, 5);
        assert!(merge(&victim, std::slice::from_ref(&other), &Rules::default(), at(9)).is_none(), "it may be well");
        other.unhealthy_at = Some(at(6));
        let (stays, goes) = merge(&victim, &[other], &Rules::default(), at(9)).unwrap();
        assert_eq!((&stays.subject, &goes.subject, stays.absorbed[0].by_model), (&prices, &cart, true));
    }

    #[test]
    fn a_step_goes_along_where_it_still_helps() {
        let [a, b] = ["cart", "web"].map(|name| object(Kind::Deployment, Some("shop"), name));
        let config = object(Kind::ConfigMap, Some("shop"), "settings");
        let back = |object: &ObjectRef| Proposal::RolloutRestart { object: object.clone() };
        let one = |cause_of_b: &ObjectRef| {
            let (first, second) = (with_cause(opened(&a, 0), &config), with_cause(opened(&b, 9), cause_of_b));
            merge(&second, &[first], &Rules::default(), at(20)).unwrap()
        };
        let (stays, goes) = one(&config);
        assert!(carries(&stays.subject, &goes, &back(&b)), "what had a cause in common is mended each by itself");
        let (stays, goes) = one(&a);
        assert!(!carries(&stays.subject, &goes, &back(&b)), "a victim recovers by itself");
        assert!(carries(&stays.subject, &goes, &back(&a)));
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
    fn two_of_one_node_become_the_nodes_and_two_of_one_object_that_a_model_named_or_that_is_no_node_stay_their_own() {
        let node = object(Kind::Node, None, "n1");
        let [cart, web] = ["cart", "web"].map(|name| object(Kind::Deployment, Some("shop"), name));
        let of = |cause: &ObjectRef| (with_cause(opened(&cart, 0), cause), with_cause(opened(&web, 9), cause));
        let (first, second) = of(&node);
        let ill = Incident { unhealthy_at: Some(at(1)), ..first.clone() };
        let (stays, goes) = merge(&second, std::slice::from_ref(&ill), &Rules::default(), at(20)).unwrap();
        assert_eq!((&stays.id, &stays.subject, stays.fault.as_str()), (&first.id, &node, "node"));
        assert_eq!((&stays.was, stays.also.as_slice()), (&Some(cart.clone()), &[cart.clone(), web.clone()][..]));
        assert_eq!(goes.absorbed_by.as_ref().map(|merge| &merge.subject), Some(&node));
        let joined = stays.why[0].joined.as_ref().unwrap();
        assert_eq!(
            (&joined.object, joined.because.as_str()),
            (&cart, "it says so"),
            "its first signal speaks of a victim"
        );
        assert_eq!((stays.cause.clone(), stays.unhealthy_at), (None, None), "the node's own state is yet to be seen");
        assert!(!carries(&stays.subject, &goes, &Proposal::RolloutRestart { object: web.clone() }), "a victim");
        for (news, of) in [(&cart, 30), (&web, 40), (&node, 50)] {
            let known = [goes.clone(), stays.clone()];
            let changes = changes(&known, news, of);
            let [Change::Join { incident, .. }] = &changes[..] else { panic!("{changes:?}") };
            assert_eq!(incident.id, stays.id, "{news}");
        }

        let (first, second) = of(&object(Kind::Service, Some("shop"), "db"));
        let (stays, _) = merge(&second, &[first], &Rules::default(), at(20)).unwrap();
        assert_eq!((&stays.subject, &stays.was), (&cart, &None));
        let (first, second) = of(&node);
        let (stays, goes) = merge(&second, &[first, opened(&node, 12)], &Rules::default(), at(20)).unwrap();
        assert_eq!(
            (&stays.was, &stays.subject, &goes.subject),
            (&None, &node, &web),
            "the node has an incident already"
        );
        let (mut first, second) = of(&node);
        first.cause.as_mut().unwrap().by_model = true;
        let (stays, _) = merge(&second, &[first], &Rules::default(), at(20)).unwrap();
        assert_eq!((&stays.subject, &stays.was), (&cart, &None));
    }

    #[test]
    fn two_that_share_what_no_incident_is_of_are_one_and_like_names_are_not_the_same() {
        let shares = |name: &str, second: i64, what: &'static str| {
            let shared = Shared { what: what.into(), because: "it cannot be pulled".into() };
            let incident = opened(&object(Kind::Deployment, Some("shop"), name), second);
            Incident { shares: Some(Box::new(shared)), ..incident }
        };
        let (a, b) = (shares("cart", 0, "image r.example/app:2"), shares("web", 9, "image r.example/app:2"));
        let (stays, _) = merge(&b, std::slice::from_ref(&a), &Rules::default(), at(20)).unwrap();
        assert_eq!(stays.absorbed[0].because.as_str(), "same cause, image r.example/app:2: it cannot be pulled");
        let elsewhere = Incident { subject: object(Kind::Deployment, Some("shop-eu"), "web"), ..b };
        assert!(merge(&elsewhere, std::slice::from_ref(&a), &Rules::default(), at(20)).is_none());
        assert!(merge(&shares("web", 9, "image r.example/app:21"), &[a], &Rules::default(), at(20)).is_none());
    }

    #[test]
    fn what_is_shared_is_that_of_the_strongest_finding() {
        let cart = object(Kind::Deployment, Some("shop"), "cart");
        let finding = |certainty, shared: Option<&'static str>| Finding {
            shared: shared.map(Into::into),
            ..Finding::new("rule", Role::Cause, certainty, &cart, "it says so".into(), "".into())
        };
        let found = [finding(Certainty::Likely, None), finding(Certainty::Possible, Some("host db"))];
        assert_eq!(shared(&found), None, "a better cause is known");
        assert_eq!(shared(&found[1..]).unwrap().what.as_str(), "host db");
    }

    #[test]
    fn what_joins_incidents_is_the_cause_that_the_card_tells() {
        let cart = object(Kind::Deployment, Some("shop"), "cart");
        let (node, empty) = (object(Kind::Node, None, "n1"), object(Kind::Service, Some("shop"), "prices"));
        let of = |about: &ObjectRef| {
            Finding::new("rule", Role::Cause, Certainty::Proved, about, text!("{}", about), "".into())
        };
        let scene = Scene::unread(cart.clone(), at(0), &"not read yet".into());
        let joined = |found: &[Finding]| cause(&scene, found).map(|cause| cause.object);
        assert_eq!(joined(&[of(&node), of(&cart)]), Some(node), "a pod that waits beside a lost node");
        assert_eq!(joined(&[of(&cart), of(&empty)]), None, "a fault of its own, and a complaint beside it");
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
