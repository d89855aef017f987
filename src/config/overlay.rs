//! What lies over the file: the environment, secret files, and what of a secret must not stand in the file itself.

use std::collections::BTreeMap;
use std::path::PathBuf;

use secrecy::SecretString;
use serde_json::Value;

use crate::config::{Config, ENVIRONMENT_PREFIX};

/// Keys that hold secrets: refused in the file, where backups and reviews would see them.
const SECRET_KEYS: [&str; 8] = [
    "bearer_token",
    "basic_password",
    "metrics_bearer_token",
    "bot_token",
    "app_token",
    "signing_secret",
    "api_key",
    "token",
];

/// The keys of the file's top level: `FIRSTLOOK_CLUSTER` is one of them, and any other name without `__` is none.
const TOP_LEVEL: [&str; 20] = [
    "cluster",
    "kubernetes",
    "store",
    "listeners",
    "slack",
    "model",
    "prometheus",
    "runbooks",
    "loki",
    "pagerduty",
    "alertmanager",
    "tools",
    "mcp_servers",
    "policy_file",
    "mcp_callers_file",
    "watch",
    "incidents",
    "links",
    "promotion",
    "audit",
];

/// Variables that are read elsewhere: by the command line, and by tests.
const ELSEWHERE: [&str; 8] =
    ["CONFIG", "MODEL_API_KEY", "MCP_TOKEN", "CACHE", "RUN_DIR", "FUZZ_SECONDS", "ATTACK", "TEST_POSTGRES_URL"];

/// The environment's variables with firstlook's prefix.
pub fn environment() -> Vec<(String, String)> {
    std::env::vars().filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX)).collect()
}

/// The key that a variable sets, as `slack.channel`; none if it sets none.
fn key_of(name: &str) -> Option<String> {
    let path = name.strip_prefix(ENVIRONMENT_PREFIX)?.to_lowercase();
    (path.contains("__") || TOP_LEVEL.contains(&path.as_str())).then(|| path.replace("__", "."))
}

/// The variables that somebody may have meant for a setting, and that set none. Those that Kubernetes gives every pod
/// beside a Service of this name (`FIRSTLOOK_SERVICE_HOST`, `FIRSTLOOK_PORT_8080_TCP`) are not meant so.
pub(super) fn unused(environment: &[(String, String)]) -> Vec<String> {
    let of_kubernetes = |rest: &str| {
        let rest = format!("_{rest}_");
        ["_SERVICE_HOST_", "_SERVICE_PORT_", "_PORT_"].iter().any(|part| rest.contains(part))
    };
    let unused = environment.iter().filter(|(name, _)| {
        let rest = name.strip_prefix(ENVIRONMENT_PREFIX).unwrap_or_default();
        key_of(name).is_none() && !ELSEWHERE.contains(&rest) && !of_kubernetes(rest)
    });
    unused.map(|(name, _)| name.clone()).collect()
}

/// The variable that sets this key, or what holds it; failing that, one that sets something within it.
pub(super) fn variable_of<'a>(environment: &'a [(String, String)], key: &str, is_missing: bool) -> Option<&'a str> {
    let holds =
        |outer: &str, inner: &str| inner == outer || inner.strip_prefix(outer).is_some_and(|it| it.starts_with('.'));
    let find = |sets: &dyn Fn(&str) -> bool| {
        let mut names = environment.iter().map(|(name, _)| name.as_str());
        names.find(|name| key_of(name).is_some_and(|set| sets(&set)))
    };
    find(&|set| holds(set, key)).or_else(|| find(&|set| is_missing && holds(key, set)))
}

pub(super) fn read_secret(key: &str, value: &mut Option<SecretString>, file: &Option<PathBuf>) -> Result<(), String> {
    let (None, Some(path)) = (&value, file) else { return Ok(()) };
    let text =
        std::fs::read_to_string(path).map_err(|e| format!("{key}_file: {} cannot be read ({e})", path.display()))?;
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        return Err(format!("{key}_file: {} is empty", path.display()));
    }
    *value = Some(text.into());
    Ok(())
}

pub(super) fn inline_secret(value: &Value, path: &str) -> Option<String> {
    if let Value::Array(items) = value {
        let mut each = items.iter().enumerate();
        return each.find_map(|(i, inner)| inline_secret(inner, &format!("{path}[{i}]")));
    }
    value.as_object()?.iter().find_map(|(key, inner)| {
        let here = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if SECRET_KEYS.contains(&key.as_str()) { Some(here) } else { inline_secret(inner, &here) }
    })
}

/// Sets each variable's key.
pub(super) fn overlay(value: &mut Value, environment: &[(String, String)]) {
    for (name, text) in environment {
        let Some(path) = key_of(name) else { continue };
        let mut place = &mut *value;
        for key in path.split('.') {
            if !place.is_object() {
                *place = Value::Object(serde_json::Map::new());
            }
            place = &mut place[key];
        }
        let last = path.rsplit('.').next().unwrap_or_default();
        *place = if SECRET_KEYS.contains(&last) { Value::String(text.clone()) } else { typed(text) };
    }
}

/// The value of a variable that is no secret, as YAML would have it: numbers, lists, maps; what is plain text there is
/// taken as it stands, with `#` and all, unless it is quoted.
fn typed(text: &str) -> Value {
    match serde_saphyr::from_str::<Value>(text) {
        Ok(value @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_))) => value,
        Ok(value @ Value::String(_)) if text.starts_with(['"', '\'']) => value,
        _ => Value::String(text.to_owned()),
    }
}

/// The variable without which the rest would be read.
pub(super) fn at_fault<'a>(bare: &Value, environment: &'a [(String, String)]) -> Option<&'a str> {
    environment.iter().map(|(name, _)| name.as_str()).find(|name| {
        let others: Vec<_> = environment.iter().filter(|(other, _)| other != name).cloned().collect();
        let mut value = bare.clone();
        overlay(&mut value, &others);
        serde_json::from_value::<Config>(value).is_ok()
    })
}

/// The password of a database's URL: between user and host, or as a parameter.
pub(super) fn password(url: &str) -> Option<String> {
    let rest = url.split_once("://")?.1;
    let parameter = rest.split_once('?').and_then(|(_, query)| {
        query.split('&').find_map(|pair| pair.strip_prefix("password=")).filter(|password| !password.is_empty())
    });
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let user = authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':')).map(|(_, password)| password);
    user.filter(|password| !password.is_empty()).or(parameter).map(str::to_owned)
}

/// The line, from 1, of the key at this path (`mcp_servers[0].tools[1].about`), or of what holds it, as far as that
/// stands in lines of its own.
pub(super) fn line_of(text: &str, path: &str) -> Option<usize> {
    let lines = lines(text);
    let mut path = path;
    loop {
        if let Some(line) = lines.get(path) {
            return Some(*line);
        }
        path = &path[..path.rfind(['.', '['])?];
    }
}

/// The lines of all keys and items that stand in lines of their own, by their paths.
fn lines(text: &str) -> BTreeMap<String, usize> {
    /// A key or an item that is open: what stands deeper is within.
    struct Open {
        indent: usize,
        path: String,
        is_item: bool,
        items: usize,
    }
    let mut all = BTreeMap::new();
    let mut open = vec![Open { indent: 0, path: String::new(), is_item: true, items: 0 }];
    for (at, line) in text.lines().enumerate() {
        let mut content = line.trim_start();
        let mut indent = line.len() - content.len();
        if content.starts_with('#') {
            continue;
        }
        while content == "-" || content.starts_with("- ") {
            // A list may stand as deep as its key.
            while open.len() > 1
                && open.last().is_some_and(|it| it.indent > indent || (it.indent == indent && it.is_item))
            {
                open.pop();
            }
            let Some(list) = open.last_mut() else { break };
            let path = format!("{}[{}]", list.path, list.items);
            list.items += 1;
            all.entry(path.clone()).or_insert(at + 1);
            open.push(Open { indent, path, is_item: true, items: 0 });
            let rest = content[1..].trim_start();
            indent += content.len() - rest.len();
            content = rest;
        }
        let Some((key, rest)) = content.split_once(':') else { continue };
        if !rest.is_empty() && !rest.starts_with(' ') {
            continue;
        }
        while open.len() > 1 && open.last().is_some_and(|it| it.indent >= indent) {
            open.pop();
        }
        let parent = open.last().map_or("", |it| it.path.as_str());
        let key = key.trim_matches(['"', '\'', ' ']);
        let path = if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") };
        all.entry(path.clone()).or_insert(at + 1);
        open.push(Open { indent, path, is_item: false, items: 0 });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_in_its_own_section_and_item() {
        let text = "cluster: a\n# url: no\nstore:\n  url: x\nloki:\n  # url: no\n  url: y\nmcp_servers:\n- name: a\n  tools:\n  \
                    - {name: q}\n  - name: r\n    about: s\n- name: b\nlinks: {dashboard: z}\n";
        for (path, line) in [
            ("store.url", 4),
            ("loki.url", 7),
            ("mcp_servers[0].name", 9),
            ("mcp_servers[0].tools[0].name", 11),
            ("mcp_servers[0].tools[1].about", 13),
            ("mcp_servers[1].name", 14),
            ("mcp_servers[1].url, command", 14),
            ("links.dashboard", 15),
        ] {
            assert_eq!(line_of(text, path), Some(line), "{path}");
        }
        assert_eq!(line_of(text, "slack.channel"), None);
    }

    #[test]
    fn variables_are_read_as_yaml_where_they_are_no_secret() {
        let mut value = serde_json::json!({"cluster": "a"});
        let environment = [
            ("FIRSTLOOK_CLUSTER", "prod"),
            ("FIRSTLOOK_KUBERNETES__NAMESPACES", "[shop, cart]"),
            ("FIRSTLOOK_PROMOTION", "{approved: 5}"),
            ("FIRSTLOOK_MODEL__PRICES__M__INPUT", "0.25"),
            ("FIRSTLOOK_MODEL__NAME", "'4'"),
            ("FIRSTLOOK_LINKS__DASHBOARD", "https://g/d #x"),
            ("FIRSTLOOK_SLACK__BOT_TOKEN", "[1]"),
            ("FIRSTLOOK_CLUSTR", "typo"),
            ("FIRSTLOOK_CONFIG", "f"),
            ("FIRSTLOOK_MODEL_API_KEY", "k"),
            ("FIRSTLOOK_SERVICE_HOST", "10.0.0.1"),
            ("FIRSTLOOK_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ];
        let environment: Vec<_> = environment.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        overlay(&mut value, &environment);
        assert_eq!(
            value,
            serde_json::json!({"cluster": "prod", "kubernetes": {"namespaces": ["shop", "cart"]},
                "promotion": {"approved": 5}, "model": {"prices": {"m": {"input": 0.25}}, "name": "4"},
                "links": {"dashboard": "https://g/d #x"}, "slack": {"bot_token": "[1]"}})
        );
        assert_eq!(unused(&environment), ["FIRSTLOOK_CLUSTR"]);
    }

    #[test]
    fn the_top_level_is_what_the_configuration_takes() {
        let unknown = serde_json::json!({"cluster": "a", "nonsense": 1});
        let error = serde_json::from_value::<crate::config::Config>(unknown).unwrap_err().to_string();
        let known: Vec<&str> = error.split('`').skip(3).step_by(2).collect();
        assert_eq!(known, TOP_LEVEL);
    }
}
