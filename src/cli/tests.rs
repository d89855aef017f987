//! What ships beside the code says what the code does: the configuration, its table, the Slack app, the commands' help.

use std::collections::BTreeSet;
use std::path::Path;

use clap::CommandFactory as _;
use regex::Regex;
use serde_json::{Value, json};

use super::Cli;
use super::check::{PRIVATE_HISTORY, SCOPES};
use crate::config::Config;

fn shipped(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// deploy/firstlook.yaml with every key that it shows behind `#`.
fn uncommented() -> String {
    let key = Regex::new(r"(?m)^( *)# ( *(?:- )?(?:[a-z_]+:(?: |$)|\{name:).*)$").unwrap();
    key.replace_all(&shipped("deploy/firstlook.yaml"), "$1$2").replace("links: {}", "links:")
}

/// Loads a text whose files of secrets are there.
fn load(text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let secrets = format!("{}/", folder.path().display());
    let text = text.replace("/etc/firstlook-secrets/", &secrets);
    for file in Regex::new(&format!(r"{secrets}([a-z-]+)")).unwrap().captures_iter(&text) {
        std::fs::write(folder.path().join(&file[1]), "a-secret-of-a-test\n").unwrap();
    }
    let file = folder.path().join("firstlook.yaml");
    std::fs::write(&file, text).unwrap();
    Config::load(&file, &[]).unwrap()
}

#[test]
fn the_shipped_configuration_works_as_it_is_and_with_every_key_that_it_shows() {
    let plain = load(&shipped("deploy/firstlook.yaml"));
    assert!(plain.slack.is_some() && plain.model.is_none() && plain.policy_file.is_some());
    let full = load(&uncommented());
    assert!(full.model.is_some() && full.pagerduty.is_some() && full.loki.is_some() && full.alertmanager.is_some());
    assert!(full.listeners.slack.is_some() && full.listeners.mcp.is_some() && full.runbooks.is_some());
    assert_eq!((full.mcp_servers.len(), full.kubernetes.namespaces.len()), (1, 2));
    assert!(full.links.dashboard.is_some() && full.audit.anchors.is_some());
}

/// The keys of one section, as the code would take them: it names them where it is given another.
fn known(value: &Value, section: &str) -> BTreeSet<String> {
    let mut value = value.clone();
    let pointer =
        if section.is_empty() { String::new() } else { format!("/{}", section.replace('.', "/").replace("[]", "/0")) };
    value.pointer_mut(&pointer).unwrap_or_else(|| panic!("{section}"))["nonsense"] = json!(1);
    let error = serde_json::from_value::<Config>(value).unwrap_err().to_string();
    let (_, expected) = error.split_once("expected").unwrap_or_else(|| panic!("{section}: {error}"));
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The keys that the README's table names, `*secret*` ones without `_file`.
fn tabled() -> BTreeSet<String> {
    let readme = shipped("README.md");
    let (_, section) = readme.split_once("## Configuration").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let mut keys = BTreeSet::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let mut parent = String::new();
        for name in row.split(" | ").next().unwrap().split('`').skip(1).step_by(2) {
            let whole = if name.starts_with('.') { format!("{parent}{name}") } else { name.to_owned() };
            parent =
                whole.split(".tools[]").next().unwrap().rsplit_once('.').map_or(String::new(), |(p, _)| p.to_owned());
            if whole.contains(".tools[]") {
                parent = whole.split(".tools[]").next().unwrap().to_owned();
            }
            keys.insert(whole);
        }
    }
    keys
}

#[test]
fn the_table_and_the_shipped_file_have_every_key_that_the_code_knows_and_no_other() {
    let value: Value = serde_saphyr::from_str(&uncommented()).unwrap();
    let (file, tabled) = (shipped("deploy/firstlook.yaml"), tabled());
    let sections = [
        "",
        "kubernetes",
        "store",
        "listeners",
        "listeners.webhook",
        "listeners.slack",
        "listeners.mcp",
        "listeners.admin",
        "slack",
        "model",
        "prometheus",
        "runbooks",
        "pagerduty",
        "tools",
        "mcp_servers[]",
        "mcp_servers[].tools[]",
        "watch",
        "incidents",
        "links",
        "promotion",
        "audit",
    ];
    let mut all = BTreeSet::new();
    let mut missing = Vec::new();
    for section in sections {
        let known = known(&value, section);
        for key in known.iter().filter(|key| !key.strip_suffix("_file").is_some_and(|secret| known.contains(secret))) {
            let path = if section.is_empty() { key.clone() } else { format!("{section}.{key}") };
            let shown = Regex::new(&format!(r"\b{key}(_file)?(:|`)")).unwrap();
            if !shown.is_match(&file) {
                missing.push(format!("{path} in deploy/firstlook.yaml"));
            }
            let is_section =
                sections.iter().any(|section| *section == path || section.starts_with(&format!("{path}[]")));
            let within =
                tabled.iter().any(|row| row.starts_with(&format!("{path}.")) || row.starts_with(&format!("{path}[")));
            // Loki and Alertmanager take the keys of Prometheus.
            let is_told = tabled.contains(&path) || (is_section && within);
            if !is_told {
                missing.push(format!("{path} in README.md"));
            }
            all.insert(path);
        }
    }
    let of_prometheus = |row: &String| row.replace("loki.", "prometheus.").replace("alertmanager.", "prometheus.");
    let beside = |row: &&String| !all.contains(*row) && !all.contains(&of_prometheus(row)) && *row != "store.url_file";
    missing.extend(tabled.iter().filter(beside).map(|row| format!("{row}, a key that the code does not know")));
    assert!(missing.is_empty(), "\n{}\n", missing.join("\n"));
}

#[test]
fn the_slack_app_asks_for_what_is_used_and_nothing_else() {
    let manifest: Value = serde_saphyr::from_str(&shipped("deploy/slack-app-manifest.yaml")).unwrap();
    let asked = manifest["oauth_config"]["scopes"]["bot"].as_array().unwrap().iter();
    let asked: BTreeSet<&str> = asked.map(|scope| scope.as_str().unwrap()).collect();
    let used: BTreeSet<&str> = SCOPES.iter().map(|(scope, _)| *scope).chain([PRIVATE_HISTORY]).collect();
    assert_eq!(asked, used);
    assert!(manifest["oauth_config"]["scopes"].get("user").is_none());
}

#[test]
fn every_command_has_an_example_in_its_help() {
    fn walk(command: &clap::Command, path: &str, without: &mut Vec<String>) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        if !help.contains("Example") || !help.contains("firstlook ") {
            without.push(path.to_owned());
        }
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            walk(inner, &format!("{path} {}", inner.get_name()), without);
        }
    }
    let mut without = Vec::new();
    walk(&Cli::command(), "firstlook", &mut without);
    assert_eq!(without, Vec::<String>::new());
}
