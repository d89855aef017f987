//! What lies over the file: the environment, secret files, and what of a secret must not stand in the file itself.

use std::path::PathBuf;

use secrecy::SecretString;
use serde_json::Value;

use crate::config::ENVIRONMENT_PREFIX;

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

/// The environment's variables that firstlook reads as an overlay.
pub fn environment() -> Vec<(String, String)> {
    std::env::vars().filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX) && name.contains("__")).collect()
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

/// Sets each variable's key; values are taken as YAML scalars where the key is no secret, so that numbers work.
pub(super) fn overlay(value: &mut Value, environment: &[(String, String)]) -> Vec<String> {
    let mut names = Vec::new();
    for (name, text) in environment {
        let Some(path) = name.strip_prefix(ENVIRONMENT_PREFIX).filter(|path| path.contains("__")) else { continue };
        let path = path.to_lowercase();
        let mut place = &mut *value;
        for key in path.split("__") {
            if !place.is_object() {
                *place = Value::Object(serde_json::Map::new());
            }
            place = &mut place[key];
        }
        let last = path.rsplit("__").next().unwrap_or_default();
        let typed = matches!(text.as_str(), "true" | "false") || text.parse::<u64>().is_ok();
        *place = if typed && !SECRET_KEYS.contains(&last) {
            serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()))
        } else {
            Value::String(text.clone())
        };
        names.push(name.clone());
    }
    names
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

/// The first line that sets `key`, from 1; 1 where it cannot be told (several keys in one line).
pub(super) fn line_of(text: &str, key: &str) -> usize {
    let sets = |line: &str| line.trim_start().trim_start_matches(['"', '\'', '{', ' ']).starts_with(key);
    text.lines().position(sets).map_or(1, |at| at + 1)
}
