//! `firstlook rbac`: accounts, roles, bindings and admission policies of exactly what is enabled, and why each verb is there.

mod explain;
mod write;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::Value;

use crate::act::rights::{RIGHTS, Right};
use crate::config;
use crate::config::Config;
use crate::govern::off::Off;
use crate::govern::policy::Policy;
use crate::mcp;
use crate::model::{Name, Tier};

/// Prints the ServiceAccounts, roles, bindings and admission policies that firstlook needs: apply them as they are.
///
/// They hold what the enabled actions use and nothing more: no verb on Secrets, no wildcard.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  firstlook rbac | kubectl apply -f -\n  \
                  firstlook rbac --config firstlook.yaml          without what is off, or the policy lets nobody do\n  \
                  firstlook rbac --namespaces shop,cart           changes there alone, by Roles\n  \
                  firstlook rbac --tools rollout_undo,scale\n  firstlook rbac explain")]
pub struct RbacArgs {
    #[command(subcommand)]
    pub command: Option<RbacCommand>,
    /// The configuration file: names of the accounts, whether changes are on, which tools are off, and the policy.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Only these actions.
    #[arg(long, value_name = "TOOL,...", value_delimiter = ',', global = true)]
    pub tools: Vec<String>,
    /// Changes in these namespaces alone. (What is read: `kubernetes.namespaces` of the configuration, else everything.)
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', global = true)]
    pub namespaces: Vec<String>,
}

/// What belongs to `firstlook rbac`.
#[derive(Debug, Subcommand)]
pub enum RbacCommand {
    /// Says of every verb of every account what it is for.
    #[command(after_help = "Example:\n  firstlook rbac explain")]
    Explain,
}

/// Runs it.
///
/// # Errors
/// When the configuration or its policy cannot be read, or a name is none.
pub fn run(args: RbacArgs) -> anyhow::Result<ExitCode> {
    let enabled = Enabled::of(&args)?;
    match args.command {
        None => print!("{}", write::manifests(&enabled)),
        Some(RbacCommand::Explain) => print!("{}", explain::table(&enabled)),
    }
    Ok(ExitCode::SUCCESS)
}

/// The accounts beside the daemon's that this configuration makes use of.
///
/// # Errors
/// When the configuration or its policy cannot be read.
pub(super) fn accounts(config: &Config) -> anyhow::Result<Vec<String>> {
    let enabled = Enabled::within(Some(config), &[], &[])?;
    Ok(enabled.accounts().into_iter().map(|(name, _)| name).collect())
}

/// The admission policies and bindings that this version needs, as objects, for accounts whose names begin with `account`.
pub(crate) fn admission(account: &str) -> Vec<Value> {
    let documents = write::admission(account);
    let documents = documents.split("\n---\n").filter_map(|one| serde_saphyr::from_str(one).ok());
    documents.collect()
}

/// What is to be granted.
#[derive(Debug)]
struct Enabled {
    /// `firstlook` gives `firstlook-preview`, `firstlook-write`.
    account: String,
    /// Where the accounts live.
    namespace: String,
    tools: BTreeSet<&'static str>,
    /// What the policy lets nobody do, each with the reason: nothing is granted for it.
    dropped: Vec<(&'static str, String)>,
    /// Empty: changes are possible everywhere.
    namespaces: Vec<Name>,
    /// Empty: everything is read.
    read: Vec<Name>,
}

impl Enabled {
    fn of(args: &RbacArgs) -> anyhow::Result<Self> {
        let load = |file: &PathBuf| Config::load(file, &config::environment());
        let config = args.config.as_ref().map(load).transpose()?;
        Self::within(config.as_ref(), &args.tools, &args.namespaces)
    }

    /// What this configuration enables; of that only these tools, in these namespaces, where any are listed.
    fn within(config: Option<&Config>, only: &[String], places: &[String]) -> anyhow::Result<Self> {
        let fresh = config::Kubernetes::default();
        let kubernetes = config.map_or(&fresh, |config| &config.kubernetes);
        let off = config.map_or(Ok(Off::default()), |config| Off::of(&config.tools.off)).map_err(anyhow::Error::msg)?;
        let policy_file = config.and_then(|config| config.policy_file.as_ref());
        let mut tools: BTreeSet<&'static str> = RIGHTS.iter().flat_map(|right| right.tools).copied().collect();
        for tool in only {
            anyhow::ensure!(tools.contains(tool.as_str()), "no action is called `{tool}`; there are: {}", list(&tools));
        }
        tools.retain(|tool| only.is_empty() || only.iter().any(|one| one == tool));
        tools.retain(|tool| !off.has(tool));
        if !kubernetes.writes {
            tools.clear();
        }
        let mut dropped = Vec::new();
        if let Some(file) = policy_file {
            let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
            let policy = Policy::parse(&text, &file.display().to_string())?;
            tools.retain(|tool| match never(&policy, tool) {
                Some(why) => {
                    dropped.push((*tool, why));
                    false
                }
                None => true,
            });
        }
        let namespaces =
            places.iter().map(|name| Name::parse(name).with_context(|| format!("`{name}` is no namespace's name")));
        let mut namespaces: Vec<Name> = namespaces.collect::<anyhow::Result<_>>()?;
        let config::Kubernetes { account, namespace, namespaces: read, .. } = kubernetes;
        let (account, namespace, read) = (account.clone(), namespace.clone(), read.clone());
        if namespaces.is_empty() {
            // What is not read is not changed either.
            namespaces.clone_from(&read);
        }
        Ok(Self { account, namespace, tools, dropped, namespaces, read })
    }

    /// The rights that the enabled actions use. What lives in no namespace is left out where namespaces are listed.
    fn rights(&self, tiers: &[Tier]) -> Vec<&'static Right> {
        let used = |right: &&Right| {
            tiers.contains(&right.tier)
                && (self.namespaces.is_empty() || right.kind.is_namespaced())
                && right.tools.iter().any(|tool| self.tools.contains(tool))
        };
        RIGHTS.iter().filter(used).collect()
    }

    /// The accounts besides the daemon's, each with its tiers and rights; one without rights does not exist.
    fn accounts(&self) -> Vec<(String, Vec<&'static Right>)> {
        let all = [
            ("preview", &[Tier::Reversible, Tier::Destructive][..]),
            ("write", &[Tier::Reversible]),
            ("write-destructive", &[Tier::Destructive]),
        ];
        let named = all.map(|(suffix, tiers)| (format!("{}-{suffix}", self.account), self.rights(tiers)));
        named.into_iter().filter(|(_, rights)| !rights.is_empty()).collect()
    }

    /// Rights with what each is for; several of the same verb on the same resource are one.
    fn explained(&self, rights: &[&'static Right]) -> Vec<(&'static Right, String)> {
        let mut all: Vec<(&'static Right, String)> = Vec::new();
        for right in rights {
            let why = format!("{}: {}", right.why, self.named(right.tools));
            let same = |of: &Right| (of.kind, of.subresource, of.verb) == (right.kind, right.subresource, right.verb);
            match all.iter_mut().find(|(known, _)| same(known)) {
                Some((_, known)) => known.push_str(&format!("; {why}")),
                None => all.push((right, why)),
            }
        }
        all
    }

    /// The enabled actions among `tools`.
    fn named(&self, tools: &[&'static str]) -> String {
        let on: Vec<&str> = tools.iter().copied().filter(|tool| self.tools.contains(tool)).collect();
        on.join(", ")
    }
}

/// Why the policy lets nobody ever have this done, if so.
fn never(policy: &Policy, tool: &str) -> Option<String> {
    let (_, tier) = mcp::tool(tool)?;
    // An action on a node is judged for the node first.
    let on_cluster = matches!(tool, "cordon" | "uncordon" | "drain");
    policy.never(tool, tier, on_cluster)
}

fn list(tools: &BTreeSet<&'static str>) -> String {
    tools.iter().copied().collect::<Vec<_>>().join(", ")
}

/// `deployments`, `pods/log`.
fn resource(kind: crate::model::Kind, subresource: &str) -> String {
    let plural = kind.resource().2;
    if subresource.is_empty() { plural.to_owned() } else { format!("{plural}/{subresource}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::access::NEEDS;

    fn enabled(tools: &[&str], namespaces: &[&str]) -> Enabled {
        let text = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
        Enabled::of(&RbacArgs { command: None, config: None, tools: text(tools), namespaces: text(namespaces) })
            .unwrap()
    }

    #[test]
    fn the_manifests_of_deploy_are_what_is_printed() {
        let printed = write::manifests(&enabled(&[], &[]));
        assert!(
            printed == include_str!("../../deploy/base/access.yaml"),
            "deploy/base/access.yaml is not what `firstlook rbac` prints: write it again\n{printed}"
        );
    }

    #[test]
    fn every_action_is_granted_and_every_grant_belongs_to_an_action() {
        let granted: BTreeSet<&str> = RIGHTS.iter().flat_map(|right| right.tools).copied().collect();
        // A silence is made in Alertmanager: the API server grants nothing for it.
        let grants = |server: &str, tier: Tier| tier != Tier::ReadOnly && server != mcp::alertmanager::SERVER;
        let writing = mcp::TOOLS.iter().filter(|(_, server, tier)| grants(server, *tier));
        let tools: BTreeSet<&str> = writing.map(|(tool, ..)| *tool).collect();
        assert_eq!(granted, tools);
        for right in RIGHTS {
            assert!(["patch", "create"].contains(&right.verb), "{right:?}");
        }
    }

    #[test]
    fn what_the_policy_lets_nobody_do_is_not_granted_and_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let with = |policy: &str| {
            let (config, file) = (folder.path().join("firstlook.yaml"), folder.path().join("policy.yaml"));
            std::fs::write(&file, policy).unwrap();
            std::fs::write(&config, format!("cluster: a\npolicy_file: {}\n", file.display())).unwrap();
            let none = Vec::new;
            let args = RbacArgs { command: None, config: Some(config), tools: none(), namespaces: none() };
            Enabled::of(&args).unwrap()
        };
        let nobody = with("approvers: []");
        assert!(nobody.tools.is_empty() && nobody.accounts().is_empty());
        let text = write::manifests(&nobody);
        assert!(text.contains("# drain: no approvers for destructive") && !text.contains("firstlook-write"), "{text}");
        let some = with(
            "approvers: [{who: [U024BE7LH], tiers: [reversible], namespaces: ['*']}]\n\
             tiers: {scale: destructive}\nallow: [{namespaces: [shop], tools: [scale, rollout_undo, cordon]}]",
        );
        assert_eq!(some.tools.iter().copied().collect::<Vec<_>>(), ["rollout_undo"]);
        assert!(some.accounts().iter().all(|(name, _)| !name.ends_with("destructive")));
    }

    #[test]
    fn nothing_is_granted_on_secrets_or_on_everything() {
        let all = write::manifests(&enabled(&[], &[]));
        let grants = all.split("ValidatingAdmissionPolicy").next().unwrap();
        assert!(!grants.contains("secrets,") && !grants.contains("[secrets]") && !grants.contains("\"*\""), "{grants}");
        assert!(NEEDS.iter().all(|need| need.verbs.iter().all(|verb| ["get", "list", "watch"].contains(verb))));
    }

    #[test]
    fn what_is_not_enabled_is_not_granted() {
        let scale = write::manifests(&enabled(&["scale"], &[]));
        assert!(scale.contains("deployments") && !scale.contains("resources: [cronjobs]\n    verbs: [patch]"));
        let nothing = Enabled { tools: BTreeSet::new(), ..enabled(&[], &[]) };
        let nothing = write::manifests(&nothing);
        for gone in ["firstlook-preview", "firstlook-write", "patch", "serviceaccounts/token", "Validating"] {
            assert!(!nothing.contains(gone), "{gone}");
        }
    }

    #[test]
    fn what_the_configuration_switches_off_is_not_granted_and_a_slip_in_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("firstlook.yaml");
        let with = |off: &str| {
            std::fs::write(&file, format!("cluster: a\ntools: {{off: [{off}]}}\n")).unwrap();
            let args =
                RbacArgs { command: None, config: Some(file.clone()), tools: Vec::new(), namespaces: Vec::new() };
            Enabled::of(&args).map(|enabled| write::manifests(&enabled))
        };
        let none = with("").unwrap();
        assert!(none.contains("pods/eviction") && none.contains("firstlook-write-destructive"));
        let some = with("delete_pod, drain, k8s-safe-restart").unwrap();
        assert!(!some.contains("pods/eviction") && !some.contains("name: firstlook-write-destructive"), "{some}");
        assert!(some.contains("scale, pause_rollout") && !some.contains("rollout_restart"), "{some}");
        assert!(!with("k8s-safe-restart, k8s-safe-change").unwrap().contains("firstlook-preview"));
        assert!(with("dran").unwrap_err().to_string().contains("did you mean `drain`?"));
    }

    #[test]
    fn in_listed_namespaces_changes_are_granted_by_roles_there_alone() {
        let text = write::manifests(&enabled(&[], &["shop", "cart"]));
        for role in ["firstlook-preview", "firstlook-write"] {
            assert!(!text.contains(&format!("kind: ClusterRoleBinding\nmetadata:\n  name: {role}\n")), "{role}");
            for namespace in ["shop", "cart"] {
                let bound = format!("kind: RoleBinding\nmetadata:\n  name: {role}\n  namespace: {namespace}\n");
                assert!(text.contains(&bound), "{role} in {namespace}: {text}");
            }
        }
        assert!(!text.contains("resources: [nodes]\n    verbs: [patch]"), "a node is in no namespace");
    }

    #[test]
    fn where_only_some_namespaces_are_read_it_is_by_roles_there_alone() {
        let read: Vec<Name> = ["shop", "cart"].iter().filter_map(|name| Name::parse(name)).collect();
        let enabled = Enabled { read: read.clone(), namespaces: read, ..enabled(&[], &[]) };
        let text = write::manifests(&enabled);
        let of_cluster: Vec<&str> = text.split("---\n").filter(|one| one.contains("\nkind: ClusterRole\n")).collect();
        let [guards] = of_cluster[..] else { panic!("{of_cluster:?}") };
        assert!(guards.contains("resourceNames: [firstlook-preview, firstlook-write]"), "{guards}");
        let grants =
            |text: &str, what: &str| text.lines().any(|line| line.contains("resources: ") && line.contains(what));
        assert!(guards.matches("- apiGroups").count() == 1 && !grants(&text, "nodes"), "{text}");
        for namespace in ["shop", "cart"] {
            assert!(text.contains(&format!("kind: Role\nmetadata:\n  name: firstlook\n  namespace: {namespace}\n")));
        }
        let only_reads = write::manifests(&Enabled { tools: BTreeSet::new(), ..enabled });
        assert!(!only_reads.contains("Cluster"), "without changes nothing of the cluster is needed: {only_reads}");
        assert!(!grants(&only_reads, "nodes") && grants(&only_reads, "pods/log"), "{only_reads}");
    }

    #[test]
    fn every_verb_is_explained() {
        insta::assert_snapshot!(explain::table(&enabled(&[], &[])));
    }
}
