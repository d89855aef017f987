//! What a secret looks like: known shapes, and base64 of whatever holds one. Pure.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};
use sha2::{Digest, Sha256};

use crate::redact::keys::is_secret;
use crate::redact::pairs::{is_plain, is_prose, pairs};

/// Four hex digits of the SHA-256: enough to tell the few secrets of one incident apart, too few to guess one from.
pub(super) fn placeholder(what: &str, secret: &str) -> String {
    let digest = Sha256::digest(secret.as_bytes());
    format!("[redacted {what} {}]", hex::encode(&digest[..2]))
}

/// Whether a text may hold a secret at all; nearly all text does not, and is passed on untouched.
pub(super) fn may_hold(text: &str) -> bool {
    ANY.is_match(text)
}

/// The text with every secret of a known shape, and every value of a key that names one, replaced.
pub(super) fn known(text: &str) -> Cow<'_, str> {
    let clean = by(&SHAPES[..], Cow::Borrowed(text));
    let clean = match pairs(&clean) {
        Some(changed) => changed.into(),
        None => clean,
    };
    by(&FIELDS[..], clean)
}

/// The text without long runs that look random.
pub(super) fn looking_random(text: &str) -> Cow<'_, str> {
    RANDOM.replace_all(text, random_looking)
}

fn by<'a>(rules: &[Rule], mut clean: Cow<'a, str>) -> Cow<'a, str> {
    for rule in rules {
        if let Cow::Owned(changed) = rule.pattern.replace_all(&clean, rule.replace) {
            clean = changed.into();
        }
    }
    clean
}

/// The text with each run of base64 replaced whose content `holds` says to be secret.
pub(super) fn without_base64<'a>(text: &'a str, holds: impl Fn(&str) -> bool) -> Cow<'a, str> {
    BASE64.replace_all(text, |c: &Captures<'_>| match decoded(&c[0]) {
        Some(inner) if holds(&inner) => placeholder("secret", &c[0]),
        _ => c[0].to_owned(),
    })
}

/// What a run of base64 says, where that is text.
fn decoded(run: &str) -> Option<String> {
    use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
    use base64::engine::{DecodePaddingMode, Engine as _};
    let lenient = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let bytes = GeneralPurpose::new(&base64::alphabet::STANDARD, lenient).decode(run).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    text.chars().all(|c| !c.is_control() || c.is_ascii_whitespace()).then_some(text)
}

struct Rule {
    pattern: Regex,
    replace: fn(&Captures<'_>) -> String,
}

static ANY: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?i)-----BEGIN|eyJ|bearer|basic |://[^\s/]*@|@(?:tcp|unix)?\(|pass|pwd|psk|secret|token|",
        r"key|salt|sig=|signature|credential|auth|cookie|identified by|xox|xapp-|flk_|gh[pousr]_|github_pat|gl[a-z]{2,6}[-_]|",
        r"A[KS]IA|AIza|ya29\.|sk-|[rsp]k_|whsec|npm_|dckr_|hv[sb]\.|hf_|SG\.|pypi-|shp|dop_v1|ATATT|NRAK|AGE-SECRET|hooks\.slack|",
        r"[A-Za-z0-9+/]{16}|[A-Za-z0-9+/_-]{40}",
    ))
});

/// Secrets that show what they are.
static SHAPES: LazyLock<[Rule; 9]> = LazyLock::new(|| {
    let whole = |expression: &str| Rule { pattern: pattern(expression), replace: |c| placeholder("secret", &c[0]) };
    [
        Rule {
            pattern: pattern(
                r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----[\s\S]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\z)",
            ),
            replace: |c| placeholder("private key", &c[0]),
        },
        whole(r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
        Rule { pattern: pattern(r"(?i)\b(bearer|basic)(\s+)([A-Za-z0-9._~+/-]{8,}=*)"), replace: scheme },
        Rule {
            pattern: pattern(r#"(://)([^\s/@:"']*:[^\s/"']+)(@)"#),
            replace: |c| format!("{}{}{}", &c[1], placeholder("login", &c[2]), &c[3]),
        },
        // A token alone in place of user and password.
        Rule {
            pattern: pattern(r#"(://)([A-Za-z0-9_.~%-]{16,})(@)"#),
            replace: |c| match c[2].bytes().any(|byte| byte.is_ascii_digit()) {
                true => format!("{}{}{}", &c[1], placeholder("login", &c[2]), &c[3]),
                false => c[0].to_owned(),
            },
        },
        // Go's MySQL: `user:password@tcp(host:3306)/db`.
        Rule {
            pattern: pattern(r#"([A-Za-z0-9_.-]+:)([^\s/"']{3,})(@(?:tcp|unix)?\()"#),
            replace: |c| format!("{}{}{}", &c[1], placeholder("login", &c[2]), &c[3]),
        },
        whole(concat!(
            r"xox[a-z]-[A-Za-z0-9-]{8,}|xapp-[A-Za-z0-9-]{8,}|flk_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|",
            r"gl(?:pat|dt|rt|ft|soat|cbt|ptt|agent)-[A-Za-z0-9_-]{16,}|glsa_[A-Za-z0-9_]{30,}|A[KS]IA[0-9A-Z]{16}|AIza[A-Za-z0-9_-]{30,}|",
            r"ya29\.[A-Za-z0-9_-]{20,}|\bsk-[A-Za-z0-9_-]{16,}|\b[rsp]k_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/=]{16,}|",
            r"npm_[A-Za-z0-9]{30,}|dckr_[a-z]+_[A-Za-z0-9_-]{20,}|\bhv[sb]\.[A-Za-z0-9_-]{20,}|\bhf_[A-Za-z0-9]{30,}|",
            r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|pypi-[A-Za-z0-9_-]{30,}|shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{32}|dop_v1_[a-f0-9]{64}|",
            r"ATATT[A-Za-z0-9_=-]{30,}|NRAK-[A-Z0-9]{20,}|AGE-SECRET-KEY-1[0-9A-Z]{50,}|hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9/]+",
        )),
        Rule {
            pattern: pattern(r"(?i)\b(identified by|password)(\s+')([^']{3,})(')"),
            replace: |c| match is_plain(&c[3]) {
                true => c[0].to_owned(),
                false => format!("{}{}{}{}", &c[1], &c[2], placeholder("value", &c[3]), &c[4]),
            },
        },
        // An argument and its value apart, also in a list: `--password hunter`, `"--password", "hunter"`.
        Rule {
            pattern: pattern(
                r#"((?:^|[\s"'\[,(=])--?[A-Za-z][A-Za-z0-9_.-]*)(\\*["']?(?:,\s*|\s+)\\*["']?)([^\s"'\\,\]\[][^\s"'\\\]\[]{5,})"#,
            ),
            replace: argument,
        },
    ]
});

/// Fields of formats that are no pairs.
static FIELDS: LazyLock<[Rule; 2]> = LazyLock::new(|| {
    [
        // The auth of a registry login: base64 of user:password.
        Rule {
            pattern: pattern(r#"("auth\\?"\s*:\s*\\?")([A-Za-z0-9+/=]{8,})"#),
            replace: |c| format!("{}{}", &c[1], placeholder("login", &c[2])),
        },
        Rule {
            pattern: pattern(r"<([A-Za-z0-9_.:-]+)>([^<>]{3,})(</)"),
            replace: |c| match is_secret(&c[1], &c[2]) && !is_plain(&c[2]) {
                true => format!("<{}>{}{}", &c[1], placeholder("value", &c[2]), &c[3]),
                false => c[0].to_owned(),
            },
        },
    ]
});

static BASE64: LazyLock<Regex> = LazyLock::new(|| pattern(r"[A-Za-z0-9+/]{16,}={0,2}"));
static RANDOM: LazyLock<Regex> = LazyLock::new(|| pattern(r"[A-Za-z0-9+/_-]{40,}={0,2}"));

fn scheme(c: &Captures<'_>) -> String {
    // `basic authentication` is none: what encodes something has digits or letters of both cases.
    let word = &c[3];
    let bare = word.len() < 24 && word.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'-' | b'.'));
    if bare { c[0].to_owned() } else { format!("{}{}{}", &c[1], &c[2], placeholder("secret", word)) }
}

fn argument(c: &Captures<'_>) -> String {
    let value = &c[3];
    if !is_secret(&c[1], value) || value.starts_with('-') || is_plain(value) || is_prose(value) {
        return c[0].to_owned();
    }
    format!("{}{}{}", &c[1], &c[2], placeholder("value", value))
}

/// Long runs with upper case, lower case and digits mixed look random; digests (hex) and paths do not.
fn random_looking(c: &Captures<'_>) -> String {
    let run = &c[0];
    let mixed = |text: &str, least: usize| {
        let has = |class: fn(&char) -> bool| text.chars().filter(class).count() >= least;
        has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase) && has(char::is_ascii_digit)
    };
    let worded = run.split(['-', '_', '/']).filter(|word| word.len() >= 2).count() >= 4;
    // Base64 holds slashes by chance, but no path has such a part.
    let long_part = run.split(['-', '_', '/']).any(|part| part.len() >= 24 && mixed(part, 3));
    if mixed(run, 4) && (!worded || long_part) { placeholder("secret", run) } else { run.to_owned() }
}

pub(super) fn pattern(expression: &str) -> Regex {
    #[expect(clippy::expect_used, reason = "constant patterns, each compiled by a test")]
    Regex::new(expression).expect("a constant pattern compiles")
}
