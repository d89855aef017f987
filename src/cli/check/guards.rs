//! Whether the cluster's admission policies are those that this version needs, and are in force.

use crate::act::account::{Account, Accounts};
use crate::act::guard::Guard;
use crate::cli::rbac;

const REMEDY: &str = "apply deploy/, or what `firstlook rbac` prints";

/// What is to be said of one account's guard: as an error what is wrong with it, and what to do.
pub(super) async fn told(accounts: &Accounts, account: Account) -> Result<String, String> {
    let guard = match accounts.guard(account).await {
        Ok(guard) => guard,
        Err(error) => return Err(format!("it cannot be read: {error}; {REMEDY}")),
    };
    match wrong(&guard, &accounts.prefix) {
        None => Ok(format!("{} is bound with Deny, and as this version prints it", guard.name)),
        Some(wrong) => Err(format!("{} {wrong}; {REMEDY}", guard.name)),
    }
}

fn wrong(guard: &Guard, prefix: &str) -> Option<String> {
    let differs = || {
        let is_wanted = |one: &&_| is(one, "ValidatingAdmissionPolicy", &guard.name);
        let wanted = rbac::admission(prefix);
        let parts = guard.differing(wanted.iter().find(is_wanted)?);
        (!parts.is_empty()).then(|| {
            format!(
                "has other {} than this version prints: it is of another version, or was edited by hand",
                parts.join(", ")
            )
        })
    };
    guard.loose().or_else(differs)
}

fn is(object: &serde_json::Value, kind: &str, name: &str) -> bool {
    object["kind"] == kind && object["metadata"]["name"] == name
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::app::clients;
    use crate::clock::Clock;
    use crate::model::Tier;
    use crate::redact::Redactor;
    use crate::sim::cluster::{Cluster, Shift};

    #[tokio::test]
    async fn each_way_in_which_a_cluster_is_not_guarded_is_told() {
        let empty = json!({"kind": "List", "apiVersion": "v1", "items": []});
        let cluster = Cluster::from_parts(empty, BTreeMap::new(), Clock::system(), Shift::Keep).unwrap();
        let stop = CancellationToken::new();
        let (daemon, server) = clients::tools(&cluster.at_hand(stop.clone()).await.unwrap()).unwrap();
        let accounts = Accounts {
            daemon,
            server,
            namespace: "firstlook".to_owned(),
            prefix: "firstlook".to_owned(),
            writes: true,
            redactor: Redactor::default(),
        };
        let write = Account::Write(Tier::Destructive);
        let (policy, binding) = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding");
        assert!(told(&accounts, Account::Preview).await.unwrap().contains("firstlook-preview is bound with Deny"));
        assert!(told(&accounts, write).await.is_ok() && accounts.is_guarded(write).await.unwrap());
        let edited = |kind: &str, at: &str, value: Value| {
            let mut object = Value::clone(&cluster.get(kind, "", "firstlook-write").unwrap());
            *object.pointer_mut(at).unwrap() = value;
            cluster.put(object).unwrap();
        };
        edited(policy, "/spec/validations", json!([{"expression": "true"}]));
        let older = told(&accounts, write).await.unwrap_err();
        assert!(older.starts_with("firstlook-write has other validations than this version prints"), "{older}");
        edited(binding, "/spec/validationActions", json!(["Audit", "Warn"]));
        let audited = told(&accounts, write).await.unwrap_err();
        assert!(audited.contains("is bound with Audit and Warn, not with Deny: it refuses nothing"), "{audited}");
        assert!(!accounts.is_guarded(write).await.unwrap(), "what refuses nothing is no guard");
        assert!(cluster.remove(binding, "", "firstlook-write"));
        assert!(told(&accounts, write).await.unwrap_err().contains("firstlook-write is not bound"));
        assert!(cluster.remove(policy, "", "firstlook-write"));
        let missing = told(&accounts, write).await.unwrap_err();
        assert!(missing.starts_with("firstlook-write is missing; apply deploy/"), "{missing}");
        assert!(told(&accounts, Account::Preview).await.is_ok(), "the other one stands");
        stop.cancel();
    }

    #[test]
    fn what_the_api_server_fills_in_and_what_is_only_said_makes_no_difference() {
        let all = rbac::admission("firstlook");
        assert_eq!(all.len(), 4, "two policies, each with its binding");
        let find = |kind: &str| all.iter().find(|one| is(one, kind, "firstlook-write")).unwrap().clone();
        let (policy, binding) = (find("ValidatingAdmissionPolicy"), find("ValidatingAdmissionPolicyBinding"));
        let guard = |policy: Value, binding: Value| {
            wrong(
                &Guard { name: "firstlook-write".to_owned(), policy: Some(policy), binding: Some(binding) },
                "firstlook",
            )
        };
        let mut filled = policy.clone();
        let constraints = &mut filled["spec"]["matchConstraints"];
        constraints["matchPolicy"] = json!("Equivalent");
        constraints["namespaceSelector"] = json!({});
        constraints["objectSelector"] = json!({});
        filled["spec"]["validations"][0]["message"] = json!("in other words");
        assert_eq!(guard(filled.clone(), binding.clone()), None);
        for (at, value, says) in [
            ("/spec/failurePolicy", json!("Ignore"), "has other failurePolicy than"),
            ("/spec/validations/1/expression", json!("true"), "has other validations than"),
            ("/spec/matchConditions/0/expression", json!("false"), "has other matchConditions than"),
            (
                "/spec/matchConstraints/objectSelector",
                json!({"matchLabels": {"a": "b"}}),
                "has other matchConstraints than",
            ),
            ("/spec/matchConstraints/resourceRules/0/operations", json!(["CREATE"]), "has other matchConstraints than"),
            ("/spec/variables/1/expression", json!("'x'"), "has other variables than"),
        ] {
            let mut edited = filled.clone();
            *edited.pointer_mut(at).unwrap() = value;
            assert!(guard(edited, binding.clone()).is_some_and(|wrong| wrong.contains(says)), "{at}");
        }
        let mut shut = binding.clone();
        shut["spec"]["matchResources"] = json!({"namespaceSelector": {"matchLabels": {"guarded": "yes"}}});
        assert!(guard(policy.clone(), shut).unwrap().contains("bound for some objects only"));
        let mut other = binding;
        other["spec"]["policyName"] = json!("firstlook-preview");
        assert!(guard(policy, other).unwrap().contains("binds another policy"));
    }
}
