//! Which keys hold a secret, by their names. Pure.

use std::sync::LazyLock;

use regex::Regex;

use crate::redact::rules::pattern;

/// Any of the words, in one pass: nearly all keys hold none.
static ANY_WORD: LazyLock<Regex> = LazyLock::new(|| {
    let words: Vec<&str> = SECRET_WORDS.into_iter().chain(SHORT_WORDS).collect();
    pattern(&format!("(?i-u:{})", words.join("|")))
});

/// Whether a text can hold a key with a secret at all.
pub(super) fn may_name_secret(text: &str) -> bool {
    ANY_WORD.is_match(text)
}

/// Whether a field, variable or key with this name holds a secret, by the words in it.
pub fn is_secret_key(key: &str) -> bool {
    if !may_name_secret(key) {
        return false;
    }
    let lower = key.to_ascii_lowercase();
    let names_it = SECRET_WORDS.iter().any(|word| lower.contains(word)) || has_short_word(key);
    names_it && !NOT_A_VALUE.iter().any(|end| lower.ends_with(end))
}

const SECRET_WORDS: [&str; 23] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "access_key",
    "access-key",
    "accesskey",
    "private_key",
    "private-key",
    "privatekey",
    "account_key",
    "accountkey",
    "signing_key",
    "signingkey",
    "encryption_key",
    "encryptionkey",
    "credential",
    "dockerconfigjson",
    "authorization",
];
/// Words that are too short to be looked for within others: `DB_PASS`, `dbPwd`, not `bypass`, and not alone (`PWD`).
const SHORT_WORDS: [&str; 3] = ["pass", "pwd", "psk"];
/// Keys that speak of a secret without holding one: references, paths, lifetimes, counts.
const NOT_A_VALUE: [&str; 27] = [
    "name",
    "names",
    "ref",
    "refs",
    "seconds",
    "path",
    "file",
    "dir",
    "namespace",
    "secrets",
    "tokens",
    "kind",
    "mount",
    "type",
    "count",
    "used",
    "ttl",
    "url",
    "uri",
    "version",
    "length",
    "policy",
    "expiration",
    "issuer",
    "enabled",
    "required",
    "provider",
];

fn has_short_word(key: &str) -> bool {
    let mut words: Vec<String> = vec![String::new()];
    let mut before_lower = false;
    for c in key.chars() {
        let begins = !c.is_ascii_alphanumeric() || (c.is_ascii_uppercase() && before_lower);
        if begins && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| c.is_ascii_alphanumeric()) {
            word.push(c.to_ascii_lowercase());
        }
        before_lower = c.is_ascii_lowercase();
    }
    words.len() > 1 && words.iter().any(|word| SHORT_WORDS.contains(&word.as_str()))
}
