//! Absorb: two open incidents that turn out to be one fault become one, in the transaction of the look that showed it.

use jiff::Timestamp;
use serde_json::json;

use crate::correlate::Rules;
use crate::correlate::late;
use crate::govern::audit;
use crate::model::{Approval, ApprovalState, Incident, IncidentState, Investigation, InvestigationState};
use crate::store::{AuditEntry, Store, Write};
use crate::text;

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
    if looked_at.cause.is_none() || looked_at.state != IncidentState::Open {
        return Ok(Vec::new());
    }
    let open = store.open_incidents().await?;
    let Some((stays, goes)) = late::merge(looked_at, &open, rules, now) else { return Ok(Vec::new()) };
    let approvals = store.approvals_of(&goes.id).await?;
    if approvals.iter().any(|a| matches!(a.state, ApprovalState::Approved | ApprovalState::Executing)) {
        return Ok(Vec::new());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, from_ms};
    use crate::correlate::{Change, Resolved, plan};
    use crate::model::{
        Cause, ClusterName, Ending, Kind, ObjectRef, Signal, SignalBody, SignalId, Warning, WarningSource,
    };
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
            let severity = |_: &crate::model::Scene| crate::model::Severity::High;
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
        let cause = Cause { object: node.subject.clone(), because: because.into() };
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
        let paid: Vec<_> = store.to_investigate(9).await.unwrap().into_iter().map(|incident| incident.id).collect();
        assert_eq!(paid, std::slice::from_ref(&node.id), "one paid investigation");
    }
}
