//! Incidents of before are found by their subject and by the kind of their fault, within a namespace.

use super::world::{checkout, on_each_engine, put};
use crate::model::{
    ApprovalState, Certainty, Ending, Finding, Incident, IncidentId, IncidentState, Kind, ObjectRef, Role,
};
use crate::store::Write;

fn found(id: &IncidentId, rule: &str) -> Write {
    let finding = |rule, role| Finding::new(rule, role, Certainty::Likely, &checkout(), "".into(), "".into());
    let findings = vec![finding(rule, Role::Cause), finding("pods-crash", Role::Symptom)];
    Write::Findings { incident: id.clone(), findings }
}

#[tokio::test]
async fn incidents_like_a_present_one_are_its_subjects_own_and_those_of_the_same_fault_next_door() {
    on_each_engine(async |world| {
        let store = world.open().await;
        let object = |namespace, name| ObjectRef::new(Kind::Deployment, Some(namespace), name).unwrap();
        for (id, subject, rule, how) in [
            ("other-fault", checkout(), "image-pull", Ending::Resolved),
            ("next-door", object("shop", "cart"), "oom-killed", Ending::Healthy),
            ("not-alike", object("shop", "cart"), "image-pull", Ending::Healthy),
            ("elsewhere", object("bank", "cart"), "oom-killed", Ending::Healthy),
            ("taken-in", checkout(), "oom-killed", Ending::Absorbed),
        ] {
            world.pass_ms(1_000);
            let state = IncidentState::Over { at: world.now(), how };
            let incident = Incident { subject, state, ..world.incident(id) };
            put(&store, [Write::Incident(Box::new(incident.clone())), found(&incident.id, rule)]).await;
        }
        let done = world.approval("a1", &IncidentId::parse("other-fault").unwrap(), ApprovalState::Executed);
        put(&store, [Write::Approval { approval: Box::new(done.clone()), was: None }]).await;
        let present = world.incident("present");
        put(&store, [Write::Incident(Box::new(present.clone()))]).await;
        let ids = async || -> Vec<String> {
            let card = store.card(&present.id).await.unwrap().unwrap();
            assert_eq!(card.past, store.past(&present.id).await.unwrap());
            card.past.iter().map(|past| past.incident.id.to_string()).collect()
        };
        assert_eq!(ids().await, ["other-fault"], "nothing was found yet");
        put(&store, [found(&present.id, "oom-killed")]).await;
        assert_eq!(ids().await, ["other-fault", "next-door"]);
        let past = store.past(&present.id).await.unwrap().remove(0);
        assert_eq!(past.action.map(|(action, _)| action), done.action);
        store.close().await;
    })
    .await;
}
