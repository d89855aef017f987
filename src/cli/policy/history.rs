//! `firstlook policy test`: what another policy would have said to the stored history, in lines for its author.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::govern::policy::{Covering, Policy, Rehearsed, rehearse};
use crate::model::{Approval, ApprovalState, Call, Finding, Incident, IncidentId, Role, Standing, Tier, Verdict};
use crate::store::Store;

/// Requests that one read of the store returns at most.
const REQUESTS_MAX: usize = 1_000;

/// The stored history.
struct History {
    approvals: Vec<Approval>,
    reads: Vec<Call>,
    incidents: BTreeMap<IncidentId, Incident>,
    findings: BTreeMap<IncidentId, Vec<Finding>>,
}

impl History {
    async fn read(store: &Store, since: Timestamp) -> anyhow::Result<Self> {
        let mut approvals = store.approvals_made_since(since).await?;
        approvals.reverse();
        let incidents: BTreeMap<IncidentId, Incident> =
            store.recent_incidents(since).await?.into_iter().map(|incident| (incident.id.clone(), incident)).collect();
        let (mut reads, mut findings) = (Vec::new(), BTreeMap::new());
        for id in incidents.keys() {
            reads.extend(store.calls_of(id).await?);
        }
        reads.retain(|call| call.called_at >= since && call.tier == Tier::ReadOnly && call.verdict == Verdict::Run);
        reads.sort_by_key(|call| call.called_at);
        for approval in &approvals {
            findings.insert(approval.incident.clone(), store.findings(&approval.incident).await?);
        }
        Ok(Self { approvals, reads, incidents, findings })
    }

    /// Whether a finding, and not the model alone, proposes the step.
    fn supports(&self, approval: &Approval) -> bool {
        let found = self.findings.get(&approval.incident).map(Vec::as_slice).unwrap_or_default();
        let proposed =
            found.iter().filter(|finding| finding.role != Role::RuledOut).filter_map(|f| f.proposal.as_ref());
        let step = &approval.proposal;
        proposed.into_iter().any(|proposal| proposal.tool() == step.tool() && proposal.object() == step.object())
    }
}

/// What this policy would have said to everything since then.
pub(super) async fn rehearsed(store: &Store, policy: &Policy, since: Timestamp) -> anyhow::Result<Vec<String>> {
    let history = History::read(store, since).await?;
    let supported = |approval: &Approval| history.supports(approval);
    let History { approvals, reads, incidents, .. } = &history;
    let past = rehearse::Past { approvals, reads, incidents, supported: &supported };
    let mut lines = changes(&rehearse::changes(policy, &past));
    if approvals.len() >= REQUESTS_MAX {
        lines.push(format!("only the newest {REQUESTS_MAX} changes are told: ask for fewer days"));
    }
    let refused = rehearse::reads(policy, &past);
    lines.push(format!("reads: {} would run, {} would be refused", reads.len() - refused.len(), refused.len()));
    let mut by_rule: BTreeMap<String, u32> = BTreeMap::new();
    for read in &refused {
        *by_rule.entry(format!("{}: {} ({})", read.call.tool, read.rule, read.why)).or_default() += 1;
    }
    lines.extend(by_rule.into_iter().map(|(rule, count)| format!("  {count:>4}  {rule}")));
    Ok(lines)
}

/// How a change was, or would have been, taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// By standing leave alone.
    Run,
    Asked,
    Refused,
}

/// Counts first, then each change whose answer would be another, or for which a leave is given that would not count.
fn changes(judged: &[Rehearsed<'_>]) -> Vec<String> {
    let (mut run, mut ask, mut refuse) = (0_u32, 0_u32, 0_u32);
    let mut lines = Vec::new();
    for one in judged {
        let approval = one.approval;
        let ((was, then), (is, now)) = (then(approval), now(one));
        *match is {
            Taken::Run => &mut run,
            Taken::Asked => &mut ask,
            Taken::Refused => &mut refuse,
        } += 1;
        if was != is || matches!(one.leave, Covering::NotNow { .. }) {
            let what = format!("{} of {}", approval.proposal.tool(), approval.proposal.object());
            lines.push(format!("  {}  {what}: was {then}; {now}", approval.created_at));
        }
    }
    lines.insert(0, format!("changes: {run} would run by standing leave, {ask} would ask, {refuse} would be refused"));
    lines
}

fn then(approval: &Approval) -> (Taken, String) {
    let state = approval.state.as_str().replace('_', " ");
    match (approval.state, &approval.standing) {
        (ApprovalState::Refused, _) if approval.rule.is_empty() => {
            (Taken::Refused, format!("refused ({})", approval.because))
        }
        (ApprovalState::Refused, _) => (Taken::Refused, format!("refused by {}", approval.rule)),
        (_, Some(Standing::Counted { by, .. })) if approval.people_needed == 1 => {
            (Taken::Run, format!("run by standing leave of {by} ({state})"))
        }
        _ => (Taken::Asked, format!("asked ({state})")),
    }
}

fn now(one: &Rehearsed<'_>) -> (Taken, String) {
    match (&one.verdict, &one.leave) {
        (Verdict::Ask { people: 1, .. }, Covering::Covers { by, rule, .. }) => {
            (Taken::Run, format!("would run by standing leave of {by}, {rule}"))
        }
        (Verdict::Ask { rule: by_rule, people, .. }, Covering::Covers { by, rule, .. }) => {
            let more = people - 1;
            (Taken::Asked, format!("would ask {more} beside the standing leave of {by}, {by_rule}, {rule}"))
        }
        (Verdict::Ask { rule, people, .. }, Covering::NotNow { rule: leave, why, .. }) => {
            (Taken::Asked, format!("would ask {people}, {rule}; {leave} would not count: {why}"))
        }
        (Verdict::Ask { rule, people, .. }, Covering::None) => (Taken::Asked, format!("would ask {people}, {rule}")),
        (Verdict::Deny { rule, why }, _) => (Taken::Refused, format!("would be refused, {rule}: {why}")),
        (Verdict::Nobody { missing }, _) => (Taken::Refused, format!("would be refused: {missing}")),
        // No change does: `decide` never says so.
        (Verdict::Run, _) => (Taken::Run, "would run".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Action, CallId, CallOutcome, Caller, Certainty, Kind, ObjectRef, Proposal, Verification};
    use crate::store::tests::world::{World, on_each_engine};
    use crate::store::{Durability, Write};

    /// Four eyes in `bank`, weekends that are frozen in `shop` by the clocks of Paris, leaves and limits.
    const POLICY: &str = r#"
approvers:
  - {who: [U024BE7LH], tiers: [reversible], namespaces: [shop]}
  - {who: [U024BE7LH, U0000000B], tiers: [reversible], namespaces: [bank], people: 2}
deny:
  - {tools: [pod_logs], namespaces: [hr]}
freeze:
  - {cron: "0 18 * * FRI", for: 60h, timezone: Europe/Paris, namespaces: [shop]}
standing_leave:
  - {by: U024BE7LH, tool: rollout_restart, namespace: shop, until: 2027-03-31, per_hour: 1}
  - {by: U024BE7LH, tool: rollout_restart, namespace: bank, until: 2027-03-31, per_hour: 1}
limits: {writes_per_hour: 2, writes_per_incident: 10}
"#;

    const SAID: &str = "
changes: 3 would run by standing leave, 5 would ask, 4 would be refused
  2026-10-23T15:30:00Z  rollout_restart of Deployment shop/checkout: was asked (executed); would run by standing leave of U024BE7LH, standing_leave[0] (line 10)
  2026-10-23T16:30:00Z  rollout_restart of Deployment shop/checkout: was asked (executed); would be refused, freeze[0] (line 8): changes are frozen until 2026-10-26T04:00:00Z
  2026-10-30T16:30:00Z  rollout_restart of Deployment shop/checkout: was asked (executed); would run by standing leave of U024BE7LH, standing_leave[0] (line 10)
  2026-10-30T16:40:00Z  rollout_restart of Deployment shop/checkout: was asked (executed); would ask 1, approvers[0] (line 3); standing_leave[0] (line 10) would not count: it was used 1 times within the last hour, its limit
  2026-10-30T16:50:00Z  rollout_restart of Deployment shop/checkout: was asked (pending); would be refused, limits.writes_per_hour (line 12): 2 changes were made within the last hour, which is the limit
  2026-10-30T17:30:00Z  rollout_restart of Deployment shop/checkout: was asked (pending); would be refused, freeze[0] (line 8): changes are frozen until 2026-11-02T05:00:00Z
  2026-11-03T12:00:00Z  rollout_restart of Deployment shop/checkout: was asked (executed); would run by standing leave of U024BE7LH, standing_leave[0] (line 10)
  2026-11-04T12:00:00Z  rollout_restart of Deployment shop/checkout: was asked (executed); would ask 1, approvers[0] (line 3); standing_leave[0] (line 10) would not count: it is suspended because rollout_restart of Deployment shop/checkout made it worse; to lift this, give it another `until` in the policy
  2026-11-05T12:00:00Z  rollout_restart of Deployment shop/checkout: was refused by approvers[0]; would ask 1, approvers[0] (line 3); standing_leave[0] (line 10) would not count: it is suspended because rollout_restart of Deployment shop/checkout made it worse; to lift this, give it another `until` in the policy
  2026-11-06T12:00:00Z  rollout_restart of Deployment bank/checkout: was run by standing leave of U0000000B (pending); would ask 1 beside the standing leave of U024BE7LH, approvers[1] (line 4), standing_leave[1] (line 11)
reads: 1 would run, 2 would be refused
     2  pod_logs: deny[0] (line 6) (the policy forbids this read)
";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn object(namespace: &str) -> ObjectRef {
        ObjectRef::new(Kind::Deployment, Some(namespace), "checkout").unwrap()
    }

    /// An incident of a namespace, whose finding proposes to restart its object.
    fn incident(world: &World, namespace: &str) -> Vec<Write> {
        let object = object(namespace);
        let incident = Incident { subject: object.clone(), ..world.incident(namespace) };
        let finding = Finding::new("crash", Role::Cause, Certainty::Likely, &object, "".into(), "".into());
        let findings = vec![Finding { proposal: Some(Proposal::RolloutRestart { object }), ..finding }];
        let id = incident.id.clone();
        vec![Write::Incident(Box::new(incident)), Write::Findings { incident: id, findings }]
    }

    /// A restart that was asked for at this time, and sent a minute later where it was executed.
    fn restart(world: &World, n: usize, (when, namespace, state): (&str, &str, ApprovalState)) -> Approval {
        let created_at = at(when);
        let object = object(namespace);
        let mut approval = world.approval(&format!("a{n}"), &world.incident(namespace).id, state);
        if let Some(sent) = &mut approval.execution {
            sent.started_at = created_at + jiff::SignedDuration::from_mins(1);
        }
        let proposal = Proposal::RolloutRestart { object: object.clone() };
        Approval { created_at, proposal, action: Some(Action::RolloutRestart { object }), ..approval }
    }

    fn read(world: &World, namespace: &str) -> Write {
        Write::Call(Call {
            id: CallId::fresh(),
            incident: world.incident("shop").id,
            caller: Caller::Agent,
            tool: "pod_logs".to_owned(),
            arguments: crate::redact::Redactor::default().redact(&format!("{{\"namespace\": \"{namespace}\"}}")),
            tier: Tier::ReadOnly,
            verdict: Verdict::Run,
            called_at: at("2026-10-23T15:30:00Z"),
            outcome: CallOutcome::NotRun,
        })
    }

    async fn put_history(world: &World, store: &Store) {
        use ApprovalState::{Executed, Pending, Refused};
        let mut writes: Vec<Write> =
            ["shop", "bank", "kube-system"].iter().flat_map(|ns| incident(world, ns)).collect();
        writes.extend(["shop", "hr", "hr"].map(|namespace| read(world, namespace)));
        let times = [
            // Friday, 17:30 and 18:30 in Paris, where it is summer; a week later it is 17:30 at the second hour.
            ("2026-10-23T15:30:00Z", "shop", Executed),
            ("2026-10-23T16:30:00Z", "shop", Executed),
            ("2026-10-30T16:30:00Z", "shop", Executed),
            ("2026-10-30T16:40:00Z", "shop", Executed),
            ("2026-10-30T16:50:00Z", "shop", Pending),
            ("2026-10-30T17:30:00Z", "shop", Pending),
            ("2026-11-02T12:00:00Z", "bank", Executed),
            ("2026-11-02T15:00:00Z", "kube-system", Refused),
            ("2026-11-03T12:00:00Z", "shop", Executed),
            ("2026-11-04T12:00:00Z", "shop", Executed),
            ("2026-11-05T12:00:00Z", "shop", Refused),
            ("2026-11-06T12:00:00Z", "bank", Pending),
        ];
        for (n, one) in times.into_iter().enumerate() {
            let mut approval = restart(world, n, one);
            if n == 8 {
                let at = approval.created_at + jiff::SignedDuration::from_mins(5);
                approval.verification = Verification::Worse { at, why: "".into(), before: 2, ready: 1 };
            }
            if n == 11 {
                // By a leave of the policy of then, of one person.
                let by = "U0000000B".into();
                let (rule, key) = ("standing_leave[0]".into(), "k".to_owned());
                approval.standing = Some(Standing::Counted { by, rule, key, at: approval.created_at });
            }
            writes.push(Write::Approval { approval: Box::new(approval), was: None });
        }
        store.commit(writes, Durability::Durable, None).await.unwrap();
    }

    #[tokio::test]
    async fn a_changed_file_is_tried_on_what_was_executed_asked_and_refused() {
        on_each_engine(async |world| {
            let store = world.open().await;
            put_history(world, &store).await;
            let policy = Policy::parse(POLICY, "policy.yaml").unwrap();
            let said = rehearsed(&store, &policy, at("2026-10-01T00:00:00Z")).await.unwrap().join("\n");
            assert_eq!(said, SAID.trim());
            // What lies before is no part of it, and the empty policy lets nobody do anything.
            let late = rehearsed(&store, &policy, at("2026-11-05T00:00:00Z")).await.unwrap();
            assert_eq!(late[0], "changes: 1 would run by standing leave, 1 would ask, 0 would be refused");
            let none = rehearsed(&store, &Policy::default(), at("2026-10-01T00:00:00Z")).await.unwrap();
            assert_eq!(none[0], "changes: 0 would run by standing leave, 0 would ask, 12 would be refused");
            store.close().await;
        })
        .await;
    }
}
