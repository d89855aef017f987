//! What each verb of each account is for, as lines for a person.

use crate::cli::rbac::{Enabled, resource};
use crate::observe::access;
use crate::observe::access::{NEEDS, Need};

/// One block for each account, one line for each resource.
pub(super) fn table(enabled: &Enabled) -> String {
    let mut text = format!("{} (the daemon's own account: it only reads, and asks for tokens)\n", enabled.account);
    let mut line = |verbs: &str, what: &str, why: &str| text.push_str(&format!("  {verbs:<15} {what:<42} {why}\n"));
    let within: Vec<&Need> = access::within().collect();
    let needs: Vec<&Need> = if enabled.read.is_empty() { NEEDS.iter().collect() } else { within };
    for need in needs {
        let what = grouped(need.kind, need.subresource.unwrap_or_default());
        line(&need.verbs.join(" "), &what, need.why);
    }
    let accounts = enabled.accounts();
    if !accounts.is_empty() {
        let policies = "validatingadmissionpolicies (and bindings)";
        line("get", policies, "whether the policies that tame the other accounts are in force; those alone, by name");
        line(
            "create",
            "serviceaccounts/token",
            "a short token of the other accounts, for one request; those alone, by name",
        );
    }
    for (name, rights) in accounts {
        let is = if name.ends_with("-preview") {
            "rehearses: its admission policy refuses what is no dry run"
        } else {
            "changes: its admission policy refuses what names no approval"
        };
        text.push_str(&format!("\n{name} ({is})\n"));
        for (right, why) in enabled.explained(&rights) {
            let what = grouped(right.kind, right.subresource);
            text.push_str(&format!("  {:<15} {what:<42} {why}\n", right.verb));
        }
    }
    text
}

/// `deployments.apps`, `pods/log`.
fn grouped(kind: crate::model::Kind, subresource: &str) -> String {
    let what = resource(kind, subresource);
    match kind.resource().0 {
        "" => what,
        group => format!("{what}.{group}"),
    }
}
