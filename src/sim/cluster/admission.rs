//! firstlook's two admission policies, as deploy/ installs them: what RBAC cannot say about its accounts.

use serde_json::{Value, json};

use crate::cli::rbac;
use crate::sim::cluster::access::{ACCOUNTS, NAMESPACE, User};
use crate::sim::cluster::failure::{Failure, Outcome};
use crate::sim::cluster::kinds::Kind;
use crate::sim::cluster::objects::World;

/// The annotation that binds a change to an approval.
const APPROVAL: &str = "firstlook.dev/approval";

/// A write as admission sees it.
#[derive(Clone, Copy)]
pub(crate) struct Attempt<'a> {
    pub(crate) user: &'a User,
    /// CREATE, UPDATE or DELETE.
    pub(crate) operation: &'static str,
    pub(crate) kind: &'a Kind,
    pub(crate) subresource: &'a str,
    pub(crate) name: &'a str,
    /// `null` for a creation.
    pub(crate) before: &'a Value,
    /// `null` for a deletion.
    pub(crate) after: &'a Value,
    pub(crate) dry_run: bool,
}

/// Asks both policies; one that was removed from the cluster, or lost its binding, is silent.
pub(crate) fn admit(world: &World, attempt: Attempt<'_>) -> Outcome<()> {
    let (denied, policy) = if attempt.user.name.ends_with(":firstlook-preview") {
        (rehearsal(attempt), "firstlook-preview")
    } else if is_writer(&attempt.user.name) {
        (approved(attempt), "firstlook-write")
    } else {
        return Ok(());
    };
    match denied {
        Some(message) if in_force(world, policy) => {
            let why = format!("ValidatingAdmissionPolicy '{policy}' with binding '{policy}' denied request: {message}");
            let refused = Failure::forbidden(attempt.kind, attempt.name, &why);
            Err(refused.because(json!([{"message": message}])))
        }
        _ => Ok(()),
    }
}

fn is_writer(user: &str) -> bool {
    let account =
        user.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':')).map(|(_, name)| name);
    account.is_some_and(|name| name == "firstlook-write" || name.starts_with("firstlook-write-"))
}

fn rehearsal(attempt: Attempt<'_>) -> Option<String> {
    (!attempt.dry_run).then(|| {
        format!(
            "firstlook-preview may only rehearse: this {} of {} is not a dry run (dryRun=All)",
            attempt.operation,
            what(attempt)
        )
    })
}

fn approved(attempt: Attempt<'_>) -> Option<String> {
    let annotation = |object: &Value| object["metadata"]["annotations"][APPROVAL].as_str().unwrap_or("").to_owned();
    let (before, after) = (annotation(attempt.before), annotation(attempt.after));
    if after.is_empty() {
        let (operation, what) = (attempt.operation, what(attempt));
        Some(format!(
            "firstlook changes nothing without an approval: this {operation} of {what} carries no annotation {APPROVAL}"
        ))
    } else if after == before {
        let (what, name) = (what(attempt), attempt.name);
        Some(format!("an approval is spent by one change: {what} {name} already carries {APPROVAL} {after}"))
    } else {
        None
    }
}

fn what(attempt: Attempt<'_>) -> String {
    match attempt.subresource {
        "" => attempt.kind.plural.to_string(),
        sub => format!("{}/{sub}", attempt.kind.plural),
    }
}

fn in_force(world: &World, policy: &str) -> bool {
    let there = |kind| world.key_of(kind, "", policy).and_then(|key| world.get(&key));
    let denies = |binding: &Value| {
        let actions = binding["spec"]["validationActions"].as_array();
        actions.is_some_and(|actions| actions.iter().any(|action| action == "Deny"))
    };
    there("ValidatingAdmissionPolicy").is_some()
        && there("ValidatingAdmissionPolicyBinding").is_some_and(|binding| denies(&binding))
}

/// What an installed firstlook adds to a cluster: its namespace, its accounts, its policies and their bindings.
pub(crate) fn installed() -> Vec<Value> {
    let mut all = vec![json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE},
        "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}})];
    all.extend(ACCOUNTS.map(|name| {
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": NAMESPACE}})
    }));
    all.extend(rbac::admission("firstlook").into_iter().map(|mut one| {
        one["metadata"]["generation"] = json!(1);
        if one["kind"] == "ValidatingAdmissionPolicy" {
            // What the API server fills in.
            let constraints = &mut one["spec"]["matchConstraints"];
            constraints["matchPolicy"] = json!("Equivalent");
            constraints["namespaceSelector"] = json!({});
            constraints["objectSelector"] = json!({});
            one["status"] = json!({"observedGeneration": 1});
        }
        one
    }));
    all
}
