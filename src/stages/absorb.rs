//! Absorb: two open incidents that turn out to be one fault become one, in the transaction of the look that showed it.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use crate::correlate::Rules;
use crate::correlate::late;
use crate::findings;
use crate::govern::audit;
use crate::model::{
    Approval, ApprovalState, Carried, Incident, IncidentState, Investigation, InvestigationState, ObjectRef, Origin,
    Proposal, Report,
};
use crate::observe::{Reader, scene};
use crate::store::{AuditEntry, Store, Write};
use crate::text;

/// Subjects of incidents taken in that are looked at before the one that stays is over: the latest tell for the others.
const LOOKED_AT_MAX: usize = 5;
/// As for any look after the first card: completeness counts.
const SCENE_DEADLINE: Duration = Duration::from_secs(5);

/// Signals of one incident that move with it; more are repeats, which count nowhere.
const SIGNALS_MAX: u32 = 10_000;

/// The writes that make `looked_at` (as it is about to be stored) and another open incident one, if they are: the
/// merge on both, its signals moved, its requests for leave withdrawn, its investigation stopped. None if they are not,
/// or while an action of the one that would go is under way. The caller holds correlate's claim.
pub(super) async fn merge(
    store: &Store,
    looked_at: &Incident,
    rules: &Rules,
    now: Timestamp,
) -> anyhow::Result<Vec<Write>> {
    // The one with a cause elsewhere finds the other; so nothing is read for the many that have none.
    if looked_at.cause.is_none() && looked_at.shares.is_none() || looked_at.state != IncidentState::Open {
        return Ok(Vec::new());
    }
    let open = store.open_incidents().await?;
    let Some((mut stays, goes)) = late::merge(looked_at, &open, rules, now) else { return Ok(Vec::new()) };
    let mut approvals = store.approvals_of(&goes.id).await?;
    // What was asked for of the subject that it had is not asked for of the one that it gets.
    let before = open.iter().chain([looked_at]).find(|incident| incident.id == stays.id);
    if before.is_some_and(|before| before.subject != stays.subject) {
        approvals.extend(store.approvals_of(&stays.id).await?);
    }
    if approvals.iter().any(|a| matches!(a.state, ApprovalState::Approved | ApprovalState::Executing)) {
        return Ok(Vec::new());
    }
    if let Some(merge) = stays.absorbed.last_mut().filter(|merge| merge.incident == goes.id) {
        merge.carried = carried(&stays.subject, &goes, store.report(&goes.id).await?, &approvals);
    }
    let mut writes = vec![Write::Audit(AuditEntry {
        at: now,
        kind: "incident_absorbed",
        incident: Some(goes.id.clone()),
        body: json!({"into": stays.id, "because": goes.absorbed_by.as_ref().map(|merge| &merge.because)}),
    })];
    for approval in approvals {
        let was = approval.state;
        if matches!(was, ApprovalState::Proposed | ApprovalState::Pending) {
            let because = text!("its incident is part of that of {}", stays.subject);
            let ended = Approval { state: ApprovalState::Withdrawn, because, ..approval };
            writes.push(Write::Audit(audit::approval(now, &ended)));
            writes.push(Write::Approval { approval: Box::new(ended), was: Some(was) });
        }
    }
    for signal in store.signals_of(&goes.id, SIGNALS_MAX).await? {
        writes.push(Write::Place { signal: signal.id, incident: stays.id.clone() });
    }
    if matches!(goes.investigation.state, InvestigationState::Waiting | InvestigationState::Running) {
        let investigation = Investigation { state: InvestigationState::Off, ..goes.investigation.clone() };
        writes.push(Write::Investigation { incident: goes.id.clone(), investigation });
    }
    writes.push(Write::Incident(Box::new(stays)));
    writes.push(Write::Incident(Box::new(goes)));
    Ok(writes)
}

/// The first subject of an incident taken in that is seen to be in trouble still; nothing is read while the incident's
/// own is.
pub(super) async fn still_ill(reader: &Reader, incident: &Incident) -> Option<ObjectRef> {
    incident.healthy_since?;
    for subject in incident.took_in().rev().take(LOOKED_AT_MAX) {
        let scene = scene::read(reader, subject, &[], SCENE_DEADLINE).await;
        if matches!(findings::health(&scene), findings::Health::Unhealthy { .. }) {
            return Some(subject.clone());
        }
    }
    None
}

/// What the one that goes asked for, or was about to, as far as the one of `subject` is to ask for it in its place. What
/// people have answered is not asked again.
fn carried(subject: &ObjectRef, goes: &Incident, report: Option<Report>, approvals: &[Approval]) -> Vec<Carried> {
    let Some(report) = report else { return Vec::new() };
    let answered = |step: &Proposal| approvals.iter().any(|a| a.state.is_final() && a.proposal == *step);
    let by_model = report.origin == Origin::Model;
    let steps = report.proposals.into_iter().filter(|step| !answered(step) && late::carries(subject, goes, step));
    steps.map(|proposal| Carried { proposal, by_model }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, from_ms};
    use crate::correlate::{Change, Resolved, plan};
    use crate::model::{Cause, ClusterName, Ending, Kind, Signal, SignalBody, SignalId, Warning, WarningSource};
    use crate::store::{Durability, Options};

    fn warning(object: &ObjectRef) -> Signal {
        let at = from_ms(1_800_000_000_000);
        let warning = Warning {
            object: object.clone(),
            source: WarningSource::PodState,
            reason: "CrashLoopBackOff".into(),
            message: "".into(),
            first_at: at,
            last_at: at,
            count: 1,
            on_arrival: false,
        };
        Signal {
            id: SignalId::derive(&[&object.to_string()]),
            cluster: ClusterName::parse("c").unwrap(),
            heard_at: at,
            body: SignalBody::Warning(warning),
        }
    }

    fn approval(incident: &Incident, proposal: &Proposal, state: ApprovalState, now: Timestamp) -> Write {
        let approval = Approval {
            id: crate::model::ApprovalId::fresh(),
            cluster: incident.cluster.clone(),
            incident: incident.id.clone(),
            asked_by: crate::model::Caller::Findings,
            also_asked_by: Vec::new(),
            proposal: proposal.clone(),
            action: None,
            tier: crate::model::Tier::Reversible,
            state,
            because: "".into(),
            created_at: now,
            expires_at: now,
            rule: "".into(),
            people_needed: 1,
            approvers: Vec::new(),
            presses: Vec::new(),
            preview: None,
            bound: None,
            execution: None,
            verification: crate::model::Verification::NotStarted,
            undoes: None,
            standing: None,
        };
        Write::Approval { approval: Box::new(approval), was: None }
    }

    #[tokio::test]
    async fn what_was_asked_for_is_withdrawn_with_the_reason_and_goes_along_unless_people_have_answered() {
        let clock = Clock::manual(from_ms(1_800_000_000_000));
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("firstlook.db").display());
        let options = Options::new(ClusterName::parse("c").unwrap());
        let store = Store::open(&url, clock.clone(), options).await.unwrap();
        let objects = ["cart", "web"].map(|name| ObjectRef::new(Kind::Deployment, Some("shop"), name).unwrap());
        let config = ObjectRef::new(Kind::ConfigMap, Some("shop"), "settings").unwrap();
        let incidents = objects.clone().map(|object| {
            let cause = Cause { object: config.clone(), because: "it was changed".into(), by_model: false };
            let opened = Incident::opened(ClusterName::parse("c").unwrap(), object, "workload", clock.now());
            Incident { cause: Some(Box::new(cause)), ..opened }
        });
        let [cart, mut web] = incidents;
        web.opened_at = clock.now().checked_add(jiff::SignedDuration::from_secs(9)).unwrap();
        let restart = Proposal::RolloutRestart { object: objects[1].clone() };
        let undo = Proposal::RolloutUndo { object: objects[1].clone(), to_revision: None };
        let report = Report {
            origin: Origin::Findings,
            headline: "".into(),
            cause: "".into(),
            certainty: crate::model::Certainty::Likely,
            culprit: None,
            citations: Vec::new(),
            ruled_out: Vec::new(),
            advice: None,
            proposals: vec![restart.clone(), undo.clone()],
            reasoning: Vec::new(),
            struck: 0,
            review: crate::model::report::Review::default(),
            about: None,
        };
        let writes = vec![
            Write::Incident(Box::new(cart.clone())),
            Write::Incident(Box::new(web.clone())),
            Write::Report { incident: web.id.clone(), report: Box::new(report) },
            approval(&web, &restart, ApprovalState::Pending, clock.now()),
            approval(&web, &undo, ApprovalState::Rejected, clock.now()),
        ];
        store.commit(writes, Durability::Durable, None).await.unwrap();
        let writes = merge(&store, &web, &Rules::default(), clock.now()).await.unwrap();
        store.commit(writes, Durability::Durable, None).await.unwrap();
        let gone = store.approvals_of(&web.id).await.unwrap();
        let withdrawn = gone.iter().find(|approval| approval.proposal == restart).unwrap();
        assert_eq!(withdrawn.state, ApprovalState::Withdrawn);
        assert_eq!(withdrawn.because.as_str(), "its incident is part of that of Deployment shop/cart");
        let stays = store.incident(&cart.id).await.unwrap().unwrap();
        assert_eq!(stays.absorbed[0].carried, [Carried { proposal: restart, by_model: false }]);
    }

    #[tokio::test]
    async fn what_was_asked_for_of_victims_is_withdrawn_where_their_incident_becomes_the_nodes() {
        let clock = Clock::manual(from_ms(1_800_000_000_000));
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("firstlook.db").display());
        let options = Options::new(ClusterName::parse("c").unwrap());
        let store = Store::open(&url, clock.clone(), options).await.unwrap();
        let node = ObjectRef::new(Kind::Node, None, "n1").unwrap();
        let [cart, web] = ["cart", "web"].map(|name| {
            let object = ObjectRef::new(Kind::Deployment, Some("shop"), name).unwrap();
            let cause = Cause { object: node.clone(), because: "it is not ready".into(), by_model: false };
            let opened = Incident::opened(ClusterName::parse("c").unwrap(), object, "workload", clock.now());
            Incident { cause: Some(Box::new(cause)), ..opened }
        });
        let web = Incident { opened_at: clock.now().checked_add(jiff::SignedDuration::from_secs(9)).unwrap(), ..web };
        let restart = Proposal::RolloutRestart { object: cart.subject.clone() };
        let busy = approval(&cart, &restart, ApprovalState::Executing, clock.now());
        let writes = vec![Write::Incident(Box::new(cart.clone())), Write::Incident(Box::new(web.clone())), busy];
        store.commit(writes, Durability::Durable, None).await.unwrap();
        let rules = Rules::default();
        assert!(merge(&store, &web, &rules, clock.now()).await.unwrap().is_empty(), "an action is under way");

        let mut done = store.approvals_of(&cart.id).await.unwrap().remove(0);
        done.state = ApprovalState::Failed;
        let was = Some(ApprovalState::Executing);
        let asked = approval(&cart, &restart, ApprovalState::Pending, clock.now());
        let writes = vec![Write::Approval { approval: Box::new(done), was }, asked];
        store.commit(writes, Durability::Durable, None).await.unwrap();
        let writes = merge(&store, &web, &rules, clock.now()).await.unwrap();
        store.commit(writes, Durability::Durable, None).await.unwrap();
        let stays = store.incident(&cart.id).await.unwrap().unwrap();
        assert_eq!((&stays.subject, stays.was.as_ref()), (&node, Some(&cart.subject)));
        let said: Vec<_> = store.approvals_of(&cart.id).await.unwrap().into_iter().map(|a| a.because).collect();
        assert!(said.iter().any(|because| because.as_str() == "its incident is part of that of Node n1"), "{said:?}");
        let open = store.open_incidents().await.unwrap();
        assert_eq!(open.iter().map(|incident| &incident.id).collect::<Vec<_>>(), [&cart.id]);
    }

    #[tokio::test]
    async fn an_incident_whose_cause_is_anothers_subject_goes_into_it_with_its_signals() {
        let clock = Clock::manual(from_ms(1_800_000_000_000));
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("firstlook.db").display());
        let options = Options::new(ClusterName::parse("c").unwrap());
        let store = Store::open(&url, clock.clone(), options).await.unwrap();
        let objects = [ObjectRef::new(Kind::Node, None, "n1"), ObjectRef::new(Kind::Deployment, Some("shop"), "cart")];
        let mut opened = Vec::new();
        for object in objects.into_iter().flatten() {
            let signal = warning(&object);
            let resolved = [Resolved { signal: signal.clone(), subject: Some(object) }];
            let severity = |_: &crate::model::Scene| crate::model::Weight {
                severity: crate::model::Severity::High,
                why: "".into(),
            };
            let changes = plan(&opened, &resolved, &Default::default(), &severity, &Rules::default(), clock.now());
            let [Change::Open { incident, .. }] = &changes[..] else { panic!("{changes:?}") };
            let place = Write::Place { signal: signal.id.clone(), incident: incident.id.clone() };
            let writes = vec![Write::Signals(vec![signal]), Write::Incident(incident.clone()), place];
            store.commit(writes, Durability::Durable, None).await.unwrap();
            opened.push((**incident).clone());
        }
        let [node, cart] = &opened[..] else { panic!() };
        let rules = Rules { listed_max: 1, ..Rules::default() };
        assert!(merge(&store, cart, &rules, clock.now()).await.unwrap().is_empty(), "nothing shows that they are one");

        let because = "its pods all stand on node n1, which is not ready";
        let cause = Cause { object: node.subject.clone(), because: because.into(), by_model: false };
        let looked_at = Incident { cause: Some(Box::new(cause)), ..cart.clone() };
        let writes = merge(&store, &looked_at, &rules, clock.now()).await.unwrap();
        store.commit(writes, Durability::Durable, None).await.unwrap();
        let gone = store.card(&cart.id).await.unwrap().unwrap();
        assert_eq!(gone.incident.state, IncidentState::Over { at: clock.now(), how: Ending::Absorbed });
        assert_eq!(gone.incident.absorbed_by.unwrap().because.as_str(), because);
        let stays = store.card(&node.id).await.unwrap().unwrap();
        assert_eq!((gone.heard.warnings, stays.heard.warnings), (0, 2));
        assert_eq!(stays.incident.absorbed[0].subject, cart.subject);
        assert_eq!(stays.incident.also, std::slice::from_ref(&cart.subject));
        assert_eq!(stays.incident.why.len(), 1, "no more are listed than the rules say");
        let paid = store.to_investigate(9).await.unwrap();
        assert_eq!(paid, std::slice::from_ref(&node.id), "one paid investigation");
    }
}
