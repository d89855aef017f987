//! The manifests as text: every rule with its reason beside it.

use crate::act::rights::Right;
use crate::cli::rbac::{Enabled, resource};
use crate::observe::access::NEEDS;

/// The admission policies as deploy/ has them, of the accounts `firstlook-preview` and `firstlook-write`.
const ADMISSION: &str = include_str!("admission.yaml");

const HEAD: &str = "\
# What `firstlook rbac` prints: who firstlook is in the cluster, and what each of its accounts may do. `firstlook rbac explain` says why.
# Separate identities, so that a mistake in one place cannot become a change in the cluster, and so that the API server's own audit log
# tells the reads, the rehearsals and the changes apart.
";
const READS: &str = "\
# What the daemon may read. Only get, list and watch; no wildcard anywhere; no verb on `secrets`, not even for metadata. A rule that is
# taken away makes the cards poorer (\"could not read X\"), not wrong. Asking what one may (SelfSubjectAccessReview) needs no rule:
# `system:basic-user` grants it to every account.
";
const TOKENS: &str = "\
# The daemon's only write verb: to ask for a short token of the other accounts, by name. A token of any other account of this namespace,
# of one that somebody adds later too, stays out of reach. Without this Role firstlook can only read.
";
const CHANGES: &str = "\
# What may be changed: exactly what the enabled actions need. RBAC cannot say \"only the pod template, only to a template that ran before\":
# whoever holds a token of these accounts could start any image in any workload that they reach. That is why the tokens live for one request,
# why the admission policies stand before them, and why it is worth binding them to the namespaces that they are meant for
# (`firstlook rbac --namespaces ...`). A dry run is authorised like the change itself, so the account that rehearses has the same verbs.
";

/// All documents.
pub(super) fn manifests(enabled: &Enabled) -> String {
    let mut documents = vec![format!("{HEAD}{}", account(enabled, &enabled.account, DAEMON))];
    let accounts = enabled.accounts();
    for (name, _) in &accounts {
        documents.push(account(enabled, name, if name.ends_with("-preview") { REHEARSES } else { CARRIES_OUT }));
    }
    documents.push(reads(enabled, &accounts));
    documents.push(binding("ClusterRole", None, &enabled.account, enabled));
    if accounts.is_empty() {
        return join(documents);
    }
    documents.push(tokens(enabled, &accounts));
    documents.push(binding("Role", Some(&enabled.namespace), &format!("{}-tokens", enabled.account), enabled));
    let mut head = CHANGES;
    for (name, rights) in &accounts {
        let places = enabled.namespaces.iter().map(|name| Some(name.as_str()));
        let places: Vec<Option<&str>> = if enabled.namespaces.is_empty() { vec![None] } else { places.collect() };
        for place in places {
            let kind = if place.is_some() { "Role" } else { "ClusterRole" };
            documents.push(format!("{head}{}{}", role(kind, place, name), rules(enabled, rights)));
            documents.push(binding(kind, place, name, enabled));
            head = "";
        }
    }
    let named = ADMISSION.replace("firstlook-preview", &format!("{}-preview", enabled.account));
    documents.push(named.replace("firstlook-write", &format!("{}-write", enabled.account)));
    join(documents)
}

fn join(documents: Vec<String>) -> String {
    documents.join("---\n")
}

const DAEMON: &str =
    "# The pod's own. It reads and may ask for short tokens of the others; it has no other write verb.\n";
const REHEARSES: &str = "# It rehearses: its admission policy refuses it everything that is not a dry run.\n";
const CARRIES_OUT: &str = "# It carries out what a person approved: its admission policy refuses it every request that does not name the approval.\n";

fn account(enabled: &Enabled, name: &str, is: &str) -> String {
    format!(
        "{is}apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: {name}\n  namespace: {}\n\
         automountServiceAccountToken: false          # who needs it asks for it; nothing else that runs here gets it\n",
        enabled.namespace
    )
}

fn role(kind: &str, namespace: Option<&str>, name: &str) -> String {
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata:\n  name: {name}\n{}rules:\n",
        within(namespace)
    )
}

fn within(namespace: Option<&str>) -> String {
    namespace.map(|namespace| format!("  namespace: {namespace}\n")).unwrap_or_default()
}

/// The binding of a role to the account that it is named after; `NAME-tokens` belongs to the daemon's.
fn binding(kind: &str, namespace: Option<&str>, role: &str, enabled: &Enabled) -> String {
    let account = role.strip_suffix("-tokens").unwrap_or(role);
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}Binding\nmetadata:\n  name: {role}\n{}roleRef:\n  \
         apiGroup: rbac.authorization.k8s.io\n  kind: {kind}\n  name: {role}\nsubjects:\n  - kind: ServiceAccount\n    \
         name: {account}\n    namespace: {}\n",
        within(namespace),
        enabled.namespace
    )
}

fn rule(why: &str, group: &str, resources: &[String], names: &[String], verbs: &[&str]) -> String {
    let group = if group.is_empty() { "\"\"" } else { group };
    let names = if names.is_empty() { String::new() } else { format!("    resourceNames: [{}]\n", names.join(", ")) };
    format!(
        "  # {why}\n  - apiGroups: [{group}]\n    resources: [{}]\n{names}    verbs: [{}]\n",
        resources.join(", "),
        verbs.join(", ")
    )
}

/// The daemon's reading. Neighbours of one group with the same verbs and reason are one rule.
fn reads(enabled: &Enabled, accounts: &[(String, Vec<&'static Right>)]) -> String {
    let mut text = format!("{READS}{}", role("ClusterRole", None, &enabled.account));
    let key = |need: &crate::observe::access::Need| (need.why, need.kind.resource().0, need.verbs);
    for needs in NEEDS.chunk_by(|a, b| key(a) == key(b)) {
        let (why, group, verbs) = key(&needs[0]);
        let resources: Vec<String> =
            needs.iter().map(|need| resource(need.kind, need.subresource.unwrap_or_default())).collect();
        text.push_str(&rule(why, group, &resources, &[], verbs));
    }
    if !accounts.is_empty() {
        let policies = ["validatingadmissionpolicies", "validatingadmissionpolicybindings"].map(str::to_owned);
        let names = ["preview", "write"].map(|suffix| format!("{}-{suffix}", enabled.account));
        let why = "whether the policies that tame the other accounts are in force, before a token of one is asked for";
        text.push_str(&rule(why, "admissionregistration.k8s.io", &policies, &names, &["get"]));
    }
    text
}

fn tokens(enabled: &Enabled, accounts: &[(String, Vec<&'static Right>)]) -> String {
    let names: Vec<String> = accounts.iter().map(|(name, _)| name.clone()).collect();
    let role = role("Role", Some(&enabled.namespace), &format!("{}-tokens", enabled.account));
    let token = ["serviceaccounts/token".to_owned()];
    format!("{TOKENS}{role}{}", rule("one token for one request", "", &token, &names, &["create"]))
}

fn rules(enabled: &Enabled, rights: &[&'static Right]) -> String {
    let one = |(right, why): &(&Right, String)| {
        let what = [resource(right.kind, right.subresource)];
        rule(why, right.kind.resource().0, &what, &[], &[right.verb])
    };
    enabled.explained(rights).iter().map(one).collect()
}
