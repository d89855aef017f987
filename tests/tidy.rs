//! The rules of the house, checked over the text of the repository: imports, sizes, first lines, names.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the repository should fail right there")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use regex::Regex;

/// Which modules of ours a module may import directly (design: the import table). `*` is everything.
const OURS: &[(&str, &str)] = &[
    ("redact", ""),
    ("model", "redact"),
    ("clock", "model redact"),
    ("config", "model redact"),
    ("telemetry", "model redact"),
    ("findings", "model redact"),
    ("correlate", "model redact"),
    ("store", "model clock redact telemetry"),
    ("observe", "model clock redact telemetry"),
    ("mcp", "model clock observe redact telemetry"),
    ("mcp::firstlook", "model clock observe redact telemetry store"),
    ("govern", "model clock mcp observe store redact telemetry"),
    ("agent", "model clock govern redact telemetry"),
    ("act", "model clock govern::permit observe redact telemetry"),
    ("ingest", "model redact"),
    ("ingest::watch", "model redact clock observe store telemetry"),
    ("slack", "model clock redact telemetry"),
    ("stages", "model clock redact store observe correlate findings agent govern act slack telemetry"),
    ("http", "model clock redact store ingest slack govern telemetry"),
    (
        "app",
        "act agent clock config correlate findings govern http ingest mcp model observe redact slack stages store telemetry",
    ),
    ("cli", "*"),
    ("sim", "*"),
    ("lib", "*"),
    ("main", "*"),
];

/// Outside crates that only these modules may name.
const CRATES: &[(&str, &str)] = &[
    ("sqlx", "store"),
    ("rusqlite", "store"),
    ("kube", "observe act sim app ingest::watch"),
    ("k8s_openapi", "observe act sim app ingest::watch"),
    ("reqwest", "observe act agent::llm sim app"),
    ("rmcp", "mcp govern agent http sim app"),
    ("async_openai", "agent::llm"),
    ("slack_morphism", "slack sim"),
    ("axum", "http sim app"),
];

/// Modules that take values and return values: no async crate, no clock.
const PURE: &[&str] = &["redact", "model", "findings", "correlate"];
const ASYNC_CRATES: &[&str] = &["tokio", "tokio_util", "futures", "reqwest", "kube", "axum"];

/// Code lines of one file, its tests not counted.
const FILE_MAX_LINES: usize = 400;
/// Lines of one function, from its name to its end: it fits a screen.
const FUNCTION_MAX_LINES: usize = 60;

struct Source {
    path: PathBuf,
    /// `ingest::watch` for `src/ingest/watch.rs` and everything below `src/ingest/watch/`.
    module: String,
    text: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let inner = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
        Self { path: path.into(), module: inner.replace('/', "::"), text: text.to_owned() }
    }

    /// The lines without the items under `#[cfg(test)]`; a file of tests has none.
    fn code(&self) -> Vec<&str> {
        let is_tests = self.path.file_stem().is_some_and(|name| name == "tests")
            || self.path.components().any(|part| part.as_os_str() == "tests");
        if is_tests {
            return Vec::new();
        }
        let (mut code, mut lines) = (Vec::new(), self.text.lines());
        while let Some(line) = lines.next() {
            if line.trim() != "#[cfg(test)]" {
                code.push(line);
                continue;
            }
            // The item is this line, or ends with the brace that stands as deep as the attribute.
            let indent = &line[..line.len() - line.trim_start().len()];
            let mut opens = lines.by_ref().skip_while(|line| line.trim_start().starts_with('#'));
            if opens.next().is_some_and(|first| !first.ends_with([';', '}'])) {
                let _ = lines.find(|line| *line == format!("{indent}}}"));
            }
        }
        code
    }

    /// What `super::` means here.
    fn parent(&self) -> &str {
        // `src/x/mod.rs` and `src/x.rs` are both the module `x`.
        self.module.rsplit_once("::").map_or("", |(parent, _)| parent)
    }

    fn is_in(&self, module: &str) -> bool {
        self.module == module || self.module.starts_with(&format!("{module}::"))
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                all.push(Source::new(path.strip_prefix(root).unwrap().to_str().unwrap(), &text));
            }
        }
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}

/// Everything that breaks a rule, one line each.
fn violations(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        let here = source.path.display();
        let code = source.code();
        if !source.text.starts_with("//! ") {
            found.push(format!("{here}: does not open with //! and a sentence"));
        }
        if code.len() > FILE_MAX_LINES {
            found.push(format!("{here}: {} lines of code, at most {FILE_MAX_LINES}", code.len()));
        }
        found.extend(long_functions(&code).into_iter().map(|says| format!("{here}: {says}")));
        let code = without_comments(&code.join("\n"));
        found.extend(imports(source, &code));
        for (pattern, says) in [
            (r"super::super", "reaches over its parent"),
            (r"use crate::\{", "groups imports of several modules"),
            (r"#!?\[allow\(", "allows a lint without a reason"),
            (r"\.unwrap\(\)", "unwraps outside tests"),
            (r"\b(todo|unimplemented|dbg)!", "is not finished"),
            (r"cfg\(test\)", "forks on cfg(test)"),
        ] {
            if is_match(pattern, &code) {
                found.push(format!("{here}: {says}"));
            }
        }
    }
    found
}

/// The functions that are too long. A function ends with the brace that stands as deep as its name's line.
fn long_functions(code: &[&str]) -> Vec<String> {
    let name = Regex::new(r"^(\s*)(?:pub(?:\([^)]*\))? )?(?:const |async |unsafe )*fn (\w+)").unwrap();
    let mut found = Vec::new();
    for (at, line) in code.iter().enumerate() {
        let Some(names) = name.captures(line) else { continue };
        let end = format!("{}}}", &names[1]);
        let lines = 1 + code[at..].iter().position(|line| *line == end).unwrap_or(0);
        if lines > FUNCTION_MAX_LINES {
            found.push(format!("{} has {lines} lines, at most {FUNCTION_MAX_LINES}", &names[2]));
        }
    }
    found
}

/// The code with its text as it is: `//` in a string begins no comment.
fn without_comments(code: &str) -> String {
    let strings = r##"(?s)(?P<kept>\br#+".*?"#+|\br"[^"]*"|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\\n])')|//[^\n]*"##;
    Regex::new(strings).unwrap().replace_all(code, "$kept").into_owned()
}

fn is_match(pattern: &str, code: &str) -> bool {
    Regex::new(pattern).unwrap().is_match(code)
}

fn imports(source: &Source, code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let here = source.path.display();
    let mut code = code.to_owned();
    if !source.parent().is_empty() {
        code =
            Regex::new(r"\bsuper::").unwrap().replace_all(&code, format!("crate::{}::", source.parent())).into_owned();
    } else if is_match(r"\bsuper::", &code) {
        // The parent is the root: what follows is a module.
        code = Regex::new(r"\bsuper::").unwrap().replace_all(&code, "crate::").into_owned();
    }
    // The row that names this module most closely.
    let row = OURS.iter().filter(|(module, _)| source.is_in(module)).max_by_key(|(module, _)| module.len());
    let Some((_, allowed)) = row else {
        return vec![format!("{here}: its module has no row in the import table")];
    };
    let top = source.module.split("::").next().unwrap();
    for used in Regex::new(r"\bcrate::([a-z_]+)(?:::([a-z_]+))?").unwrap().captures_iter(&code) {
        let module = &used[1];
        let inner = used.get(2).map_or(String::new(), |part| format!("{module}::{}", part.as_str()));
        let fits = allowed.split_whitespace().any(|a| a == "*" || a == module || a == inner);
        if module != top && module != "text" && !fits {
            found.push(format!("{here}: {top} may not import {module}"));
        }
    }
    for (krate, owners) in CRATES {
        let named = is_match(&format!(r"\b{krate}::|\buse {krate}\b"), &code);
        if named && !owners.split(' ').any(|owner| source.is_in(owner)) {
            found.push(format!("{here}: only {owners} may name {krate}"));
        }
    }
    if code.contains("redact::as_stored") && !["redact", "store"].iter().any(|module| source.is_in(module)) {
        found.push(format!("{here}: only the store may rebuild redacted text as it was stored"));
    }
    if PURE.iter().any(|module| source.is_in(module)) {
        for krate in ASYNC_CRATES.iter().filter(|krate| code.contains(&format!("{krate}::"))) {
            found.push(format!("{here}: a pure module names {krate}"));
        }
    }
    found.sort();
    found.dedup();
    found
}

#[test]
fn the_house_is_tidy() {
    let found = violations(&sources());
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn planted_violations_are_found() {
    let opening = "//! A file.\n";
    let planted = [
        ("src/model/x.rs", "use crate::act::apply;", "model may not import act"),
        ("src/act/x.rs", "use crate::govern::gate::Gate;", "act may not import govern"),
        ("src/ingest/x.rs", "use crate::store::Store;", "ingest may not import store"),
        ("src/findings/x.rs", "let t = crate::clock::Clock::system();", "findings may not import clock"),
        ("src/correlate/x.rs", "use tokio::sync::mpsc;", "a pure module names tokio"),
        ("src/slack/x.rs", "use kube::Client;", "may name kube"),
        ("src/agent/x.rs", "use async_openai::Client;", "may name async_openai"),
        ("src/http/x.rs", "use sqlx::Pool;", "may name sqlx"),
        ("src/stages/x.rs", "use k8s_openapi::api::core::v1::Pod;", "may name k8s_openapi"),
        ("src/slack/x.rs", "let c = reqwest::Client::new();", "may name reqwest"),
        ("src/agent/turn.rs", "use reqwest::Client;", "may name reqwest"),
        ("src/stages/x.rs", "use rmcp::RoleClient;", "may name rmcp"),
        ("src/stages/x.rs", "use slack_morphism::prelude::*;", "may name slack_morphism"),
        ("src/slack/x.rs", "use axum::Router;", "may name axum"),
        ("src/model.rs", "use super::act::apply;", "model may not import act"),
        ("src/http/x.rs", "#[cfg(test)]\nuse a::b;\nuse sqlx::Pool;", "may name sqlx"),
        ("src/http/x.rs", "#[cfg(test)]\nmod tests {\n    fn x() {}\n}\nx.unwrap();", "unwraps"),
        ("src/observe/x.rs", "let text = crate::redact::as_stored(read);", "only the store may rebuild"),
        ("src/http/x.rs", "use crate::{model, store};", "groups imports"),
        ("src/http/x.rs", "use super::super::store;", "reaches over its parent"),
        ("src/http/x.rs", "#[allow(dead_code)]", "without a reason"),
        ("src/http/x.rs", "x.unwrap();", "unwraps"),
        ("src/http/x.rs", "let url = \"https://x\"; x.unwrap();", "unwraps"),
        ("src/http/x.rs", "let quote = '\"'; // it's\nlet url = \"//\"; x.unwrap();", "unwraps"),
        ("src/http/x.rs", "let text = r#\"a \" // b\"#; x.unwrap();", "unwraps"),
        ("src/nowhere.rs", "", "no row in the import table"),
    ];
    for (path, text, says) in planted {
        let found = violations(&[Source::new(path, &format!("{opening}{text}\n"))]);
        assert!(found.iter().any(|line| line.contains(says)), "{path}: {text}: {found:?}");
    }
    let long = format!("{opening}{}", "fn x() {}\n".repeat(FILE_MAX_LINES));
    assert!(violations(&[Source::new("src/http/x.rs", &long)])[0].contains("401 lines"));
    let long = format!("{opening}impl X {{\n    async fn long() {{\n{}    }}\n}}\n", "        x();\n".repeat(59));
    assert!(violations(&[Source::new("src/http/x.rs", &long)])[0].contains("long has 61 lines, at most 60"));
    assert!(violations(&[Source::new("src/http/x.rs", "fn x() {}\n")])[0].contains("//!"));
    let fine = format!(
        "{opening}use crate::govern::permit::Permit; // x.unwrap()\n#[cfg(test)]\nmod tests {{ fn x() {{ y.unwrap() }} }}"
    );
    assert_eq!(violations(&[Source::new("src/act/x.rs", &fine)]), Vec::<String>::new());
}

#[test]
fn the_map_names_every_module() {
    let sources = sources();
    let lib = sources.iter().find(|source| source.module == "lib").unwrap();
    let mut modules: BTreeMap<&str, bool> = BTreeMap::new();
    for source in &sources {
        let top = source.module.split("::").next().unwrap();
        if !matches!(top, "lib" | "main") {
            modules.insert(top, lib.text.contains(&format!("pub mod {top};")));
        }
    }
    let missing: Vec<_> = modules.iter().filter(|(_, there)| !**there).collect();
    assert!(missing.is_empty(), "lib.rs does not name {missing:?}");
}

/// General rules only: no name of a scenario's object stands in the code.
#[test]
fn no_scenario_is_known_by_name() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/scenarios");
    let mut names = std::collections::BTreeSet::new();
    for folder in std::fs::read_dir(root).unwrap() {
        let file = folder.unwrap().path().join("cluster.json");
        let Ok(text) = std::fs::read_to_string(file) else { continue };
        let cluster: serde_json::Value = serde_json::from_str(&text).unwrap();
        for object in cluster["items"].as_array().unwrap() {
            let metadata = &object["metadata"];
            for name in [&metadata["name"], &metadata["namespace"]].into_iter().filter_map(|name| name.as_str()) {
                // Shorter or common names are words, not objects of a scenario.
                if name.len() > 5 && name.contains('-') && !name.starts_with("kube-") {
                    names.insert(name.to_owned());
                }
            }
        }
    }
    assert!(names.len() > 100, "the scenarios were read");
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !source.is_in("sim") && !source.is_in("cli")) {
        let code = source.code().join("\n");
        found.extend(
            names.iter().filter(|name| code.contains(*name)).map(|name| format!("{}: {name}", source.path.display())),
        );
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}
