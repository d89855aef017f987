//! Which keys hold a secret, by their names. Pure.

use std::sync::LazyLock;

use regex::Regex;

use crate::redact::rules::pattern;

/// Any of the words, in one pass: nearly all keys hold none.
static ANY_WORD: LazyLock<Regex> = LazyLock::new(|| {
    let words: Vec<&str> = SECRET_WORDS.into_iter().chain(SHORT_WORDS).chain(WEAK_WORDS).collect();
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

/// Whether this value is a secret under this key: the key says so, or it may and the value looks made by a machine.
pub(super) fn is_secret(key: &str, value: &str) -> bool {
    is_secret_key(key) || (is_weak_key(key) && is_opaque(value))
}

/// Whether the last word of a key may speak of a secret: `DATA_KEY`, `cookieSalt`, `X-Amz-Signature`, but not `turkey`.
fn is_weak_key(key: &str) -> bool {
    let lower = key.to_ascii_lowercase();
    WEAK_WORDS.iter().any(|word| {
        let Some(before) = lower.strip_suffix(word) else { return false };
        let at = before.len();
        let begins = key[at..].starts_with(|c: char| c.is_ascii_uppercase());
        !before.ends_with(|c: char| c.is_ascii_alphanumeric())
            || (begins && key[..at].ends_with(|c: char| c.is_ascii_lowercase()))
    })
}

/// Whether a value is hex, or letters of both cases and digits, without a space and too long for a name. A path is none.
fn is_opaque(value: &str) -> bool {
    let coded = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'_' | b'-' | b'%' | b'=');
    let has = |class: fn(&u8) -> bool| value.bytes().any(|byte| class(&byte));
    let hex = value.bytes().all(|byte| byte.is_ascii_hexdigit());
    value.len() >= OPAQUE_MIN_CHARS
        && !value.starts_with('/')
        && value.bytes().all(coded)
        && has(u8::is_ascii_digit)
        && (hex || (has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase)))
}

/// 64 bits in hex: what protects anything has as many.
const OPAQUE_MIN_CHARS: usize = 16;
/// Last words of keys that hold a secret, a name or a path: the value tells which.
const WEAK_WORDS: [&str; 4] = ["key", "salt", "sig", "signature"];
const SECRET_WORDS: [&str; 38] = [
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
    "master_key",
    "masterkey",
    "session_key",
    "sessionkey",
    "hmac_key",
    "hmackey",
    "shared_key",
    "sharedkey",
    "ssh_key",
    "sshkey",
    "license_key",
    "licensekey",
    "_salt",
    "x-amz-signature",
    "x-goog-signature",
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
