//! The manifests as text: every rule with its reason beside it.

use crate::act::rights::Right;
use crate::cli::rbac::{Enabled, resource};
use crate::observe::access;
use crate::observe::access::{NEEDS, Need};

/// The admission policies as deploy/ has them, of the accounts `firstlook-preview` and `firstlook-write`.
const ADMISSION: &str = include_str!("admission.yaml");

/// The admission policies and bindings for accounts whose names begin with `account`.
pub(super) fn admission(account: &str) -> String {
    let named = ADMISSION.replace("firstlook-preview", &format!("{account}-preview"));
    named.replace("firstlook-write", &format!("{account}-write"))
}

const HEAD: &str = "\
# What `firstlook rbac` prints: who firstlook is in the cluster, and what each of its accounts may do. `firstlook rbac explain` says why.
# Separate identities, so that a mistake in one place cannot become a change in the cluster, and so that the API server's own audit log
# tells the reads, the rehearsals and the changes apart.
";
const DROPPED: &str = "\
# The policy lets nobody do these, so nothing is granted for them; print this anew when it does:
";
const READS: &str = "\
# What the daemon may read. Only get, list and watch; no wildcard anywhere; no verb on `secrets`, not even for metadata. A rule that is
# taken away makes the cards poorer (\"could not read X\"), not wrong. Asking what one may (SelfSubjectAccessReview) needs no rule:
# `system:basic-user` grants it to every account.
";
const GUARDS: &str = "\
# Nothing else of the cluster is read. Without this ClusterRole firstlook can only look: it does not change anything where it cannot see
# that the admission policies of its other accounts are in force.
";
const TOKENS: &str = "\
# The daemon's only write verb: to ask for a short token of the other accounts, by name. A token of any other account of this namespace,
# of one that somebody adds later too, stays out of reach. Without this Role firstlook can only read.
";
const CHANGES: &str = "\
# What may be changed: exactly what the enabled actions need. RBAC cannot say \"only the pod template, only to a template that ran before\":
# whoever holds a token of these accounts could start any image in any workload that they reach. That is why each token is used for one request and expires after ten minutes,
# why the admission policies stand before them, and why it is worth binding them to the namespaces that they are meant for
# (`firstlook rbac --namespaces ...`). A dry run is authorised like the change itself, so the account that rehearses has the same verbs.
";

/// All documents.
pub(super) fn manifests(enabled: &Enabled) -> String {
    let dropped: String = enabled.dropped.iter().map(|(tool, why)| format!("# {tool}: {why}\n")).collect();
    let dropped = if dropped.is_empty() { dropped } else { format!("{DROPPED}{dropped}") };
    let mut documents = vec![format!("{HEAD}{dropped}{}", account(enabled, &enabled.account, DAEMON))];
    let accounts = enabled.accounts();
    for (name, _) in &accounts {
        documents.push(account(enabled, name, if name.ends_with("-preview") { REHEARSES } else { CARRIES_OUT }));
    }
    documents.extend(reading(enabled, &accounts));
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
    documents.push(admission(&enabled.account));
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

/// The daemon's reading: of the whole cluster, or by a Role in each namespace that is read.
fn reading(enabled: &Enabled, accounts: &[(String, Vec<&'static Right>)]) -> Vec<String> {
    let (name, guards) = (&enabled.account, guards(enabled, accounts));
    if enabled.read.is_empty() {
        let role = format!("{READS}{}{}{guards}", role("ClusterRole", None, name), needs(NEEDS.iter()));
        return vec![role, binding("ClusterRole", None, name, enabled)];
    }
    let mut documents = Vec::new();
    let mut head = READS;
    for place in enabled.read.iter().map(|name| Some(name.as_str())) {
        documents.push(format!("{head}{}{}", role("Role", place, name), needs(access::within())));
        documents.push(binding("Role", place, name, enabled));
        head = "";
    }
    if !guards.is_empty() {
        documents.push(format!("{GUARDS}{}{guards}", role("ClusterRole", None, name)));
        documents.push(binding("ClusterRole", None, name, enabled));
    }
    documents
}

/// Neighbours of one group with the same verbs and reason are one rule.
fn needs(needs: impl Iterator<Item = &'static Need>) -> String {
    let needs: Vec<&Need> = needs.collect();
    let key = |need: &Need| (need.why, need.kind.resource().0, need.verbs);
    let one = |needs: &[&Need]| {
        let (why, group, verbs) = key(needs[0]);
        let resources: Vec<String> =
            needs.iter().map(|need| resource(need.kind, need.subresource.unwrap_or_default())).collect();
        rule(why, group, &resources, &[], verbs)
    };
    needs.chunk_by(|a, b| key(a) == key(b)).map(one).collect()
}

/// The reading of the admission policies, where there are accounts that they tame.
fn guards(enabled: &Enabled, accounts: &[(String, Vec<&'static Right>)]) -> String {
    if accounts.is_empty() {
        return String::new();
    }
    let policies = ["validatingadmissionpolicies", "validatingadmissionpolicybindings"].map(str::to_owned);
    let names = ["preview", "write"].map(|suffix| format!("{}-{suffix}", enabled.account));
    let why = "whether the policies that tame the other accounts are in force, before a token of one is asked for";
    rule(why, "admissionregistration.k8s.io", &policies, &names, &["get"])
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
