//! Text from outside becomes `Redacted` here; the store, prompts and cards accept no other text. Pure.

use std::fmt;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::LazyLock;

use regex::Captures;
use regex::Regex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// Text that went through a `Redactor`, or is composed of literals and other `Redacted`.
///
/// Deserialising runs the pattern rules, so no received bytes become `Redacted` unread; only the store may rebuild what
/// it was given without them (`as_stored`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Redacted(Arc<str>);

/// What `text!` may compose: literals, numbers, names that our own types checked, and other redacted text.
pub trait Safe: Display {}

impl Safe for Redacted {}
impl Safe for &'static str {}
impl Safe for u16 {}
impl Safe for u32 {}
impl Safe for u64 {}
impl Safe for usize {}
impl Safe for i32 {}
impl Safe for i64 {}
impl Safe for f64 {}
impl Safe for jiff::Timestamp {}
impl<T: Safe> Safe for &T {}
impl<T: Safe> Safe for Box<T> where Box<T>: Display {}

/// Composes a `Redacted` from a literal format and safe arguments: `text!("{} of {} pods", ready, wanted)`.
#[macro_export]
macro_rules! text {
    ($format:literal $(, $argument:expr)* $(,)?) => {
        {
            // Bound here, so that the arguments end with this block and no future has to hold them across an await.
            let text = $crate::redact::Redacted::compose(
                format_args!($format $(, $crate::redact::safe(&$argument))*)
            );
            text
        }
    };
}

/// Lets only a `Safe` value into `text!`.
#[doc(hidden)]
pub fn safe<T: Safe>(value: &T) -> &T {
    value
}

impl Redacted {
    /// A text written in our own source.
    pub fn literal(text: &'static str) -> Self {
        Self(text.into())
    }

    /// What `text!` expands to; its arguments have passed `safe`.
    #[doc(hidden)]
    pub fn compose(arguments: fmt::Arguments<'_>) -> Self {
        Self(arguments.to_string().into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A part of this text: `part` as redacted text if it occurs in it, else nothing.
    pub fn part(&self, part: &str) -> Option<Self> {
        self.0.contains(part).then(|| Self(part.into()))
    }

    /// At most `max_chars` characters; what was cut is shown by one `…` within them.
    pub fn cut(&self, max_chars: usize) -> Self {
        if self.0.len() <= max_chars || self.0.chars().count() <= max_chars {
            return self.clone();
        }
        let mut short: String = self.0.chars().take(max_chars.saturating_sub(1)).collect();
        short.push('…');
        Self(short.into())
    }

    /// The text on one line: runs of white space and control characters become one space.
    pub fn one_line(&self) -> Self {
        let words: Vec<&str> =
            self.0.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
        Self(words.join(" ").into())
    }

    /// The parts with `separator` between them.
    pub fn join<'a>(parts: impl IntoIterator<Item = &'a Redacted>, separator: &'static str) -> Self {
        let parts: Vec<&str> = parts.into_iter().map(Redacted::as_str).collect();
        Self(parts.join(separator).into())
    }

    /// Each character through `change`, which sees one character at a time and so cannot undo a redaction.
    pub fn map_chars<'a>(&self, change: impl Fn(char) -> Option<&'a str>) -> Self {
        let mut changed = String::with_capacity(self.0.len());
        for character in self.0.chars() {
            match change(character) {
                Some(other) => changed.push_str(other),
                None => changed.push(character),
            }
        }
        Self(changed.into())
    }
}

impl Default for Redacted {
    fn default() -> Self {
        Self::literal("")
    }
}

impl From<&'static str> for Redacted {
    fn from(text: &'static str) -> Self {
        Self::literal(text)
    }
}

impl Display for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for Redacted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Redacted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if AS_STORED.get() { Ok(Self(text.into())) } else { Ok(Redactor::default().redact(&text)) }
    }
}

thread_local! {
    /// Whether this thread is deserialising what the store was given as `Redacted`.
    static AS_STORED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Runs `read`, within which `Redacted` is rebuilt from its bytes as they are: they went through the rules before they
/// were stored. For the store alone (a test sees to it); scenes are large, and the rules cost more than the parsing.
pub fn as_stored<T>(read: impl FnOnce() -> T) -> T {
    /// Sets it back, also when `read` panics.
    struct Back(bool);
    impl Drop for Back {
        fn drop(&mut self) {
            AS_STORED.set(self.0);
        }
    }
    let _back = Back(AS_STORED.replace(true));
    read()
}

impl schemars::JsonSchema for Redacted {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Text".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string"})
    }
}

/// Replaces secrets by placeholders: pattern rules, and the exact values it was given. Clones are cheap.
#[derive(Clone, Default)]
pub struct Redactor {
    /// firstlook's own secrets and their base64, longest first.
    own: Arc<[String]>,
}

/// Shorter values would redact ordinary words.
const OWN_SECRET_MIN_CHARS: usize = 6;

impl Redactor {
    /// A redactor that also knows firstlook's own secrets, whatever they look like.
    pub fn new(own: impl IntoIterator<Item = String>) -> Self {
        use base64::Engine as _;
        let mut all: Vec<String> = Vec::new();
        for secret in own.into_iter().filter(|secret| secret.len() >= OWN_SECRET_MIN_CHARS) {
            all.push(base64::engine::general_purpose::STANDARD.encode(&secret));
            all.push(secret);
        }
        all.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self { own: all.into() }
    }

    /// `text` with every secret that the rules know replaced by a placeholder that is equal for equal secrets.
    pub fn redact(&self, text: &str) -> Redacted {
        if text.len() < OWN_SECRET_MIN_CHARS {
            return Redacted(text.into());
        }
        let mut clean = std::borrow::Cow::Borrowed(text);
        for secret in self.own.iter() {
            if clean.contains(secret.as_str()) {
                clean = clean.replace(secret.as_str(), &placeholder("secret", secret)).into();
            }
        }
        if ANY.is_match(&clean) {
            for rule in RULES.iter() {
                if let std::borrow::Cow::Owned(changed) = rule.pattern.replace_all(&clean, rule.replace) {
                    clean = changed.into();
                }
            }
        }
        Redacted(clean.into())
    }

    /// The value stored under `key`: masked whole where the key's name says it is a secret, else by the rules.
    pub fn redact_value(&self, key: &str, value: &str) -> Redacted {
        if is_secret_key(key) && !value.is_empty() {
            Redacted(placeholder("value", value).into())
        } else {
            self.redact(value)
        }
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} own secrets)", self.own.len() / 2)
    }
}

/// Whether a field, variable or key with this name holds a secret, by the words in it.
pub fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let names_it = SECRET_WORDS.iter().any(|word| key.contains(word));
    names_it && !NOT_A_VALUE.iter().any(|end| key.ends_with(end))
}

const SECRET_WORDS: [&str; 14] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "access_key",
    "accesskey",
    "private_key",
    "privatekey",
    "credential",
    "dockerconfigjson",
];
/// Keys that speak of a secret without holding one: references, paths, lifetimes.
const NOT_A_VALUE: [&str; 14] = [
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
];

/// Four hex digits of the SHA-256: enough to tell the few secrets of one incident apart, too few to guess one from.
fn placeholder(what: &str, secret: &str) -> String {
    let digest = Sha256::digest(secret.as_bytes());
    format!("[redacted {what} {}]", hex::encode(&digest[..2]))
}

struct Rule {
    pattern: Regex,
    replace: fn(&Captures<'_>) -> String,
}

/// What any secret must contain; text without it is passed on untouched (nearly all text).
static ANY: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)-----BEGIN|eyJ|bearer|basic |://[^\s/]*@|passw|passphrase|secret|token|api.?key|access.?key|private.?key|credential|auth|xox|xapp-|gh[pousr]_|glpat-|AKIA|AIza|sk-|[A-Za-z0-9+/]{40}",
    )
});

static RULES: LazyLock<[Rule; 8]> = LazyLock::new(|| {
    let whole = |expression: &str| Rule { pattern: pattern(expression), replace: |c| placeholder("secret", &c[0]) };
    [
        Rule {
            pattern: pattern(
                r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)",
            ),
            replace: |c| placeholder("private key", &c[0]),
        },
        whole(r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
        Rule {
            pattern: pattern(r"(?i)\b(bearer|basic)(\s+)([A-Za-z0-9._~+/-]{8,}=*)"),
            replace: |c| format!("{}{}{}", &c[1], &c[2], placeholder("secret", &c[3])),
        },
        Rule {
            pattern: pattern(r"(://)([^\s/@:]*:[^\s/@]+)(@)"),
            replace: |c| format!("{}{}{}", &c[1], placeholder("login", &c[2]), &c[3]),
        },
        whole(
            r"xox[a-z]-[A-Za-z0-9-]{8,}|xapp-[A-Za-z0-9-]{8,}|gh[pousr]_[A-Za-z0-9]{20,}|glpat-[A-Za-z0-9_-]{16,}|AKIA[0-9A-Z]{16}|AIza[A-Za-z0-9_-]{30,}|\bsk-[A-Za-z0-9_-]{16,}",
        ),
        Rule { pattern: PAIR.clone(), replace: key_and_value },
        // The auth of a registry login: base64 of user:password.
        Rule {
            pattern: pattern(r#"("auth\\?"\s*:\s*\\?")([A-Za-z0-9+/=]{8,})"#),
            replace: |c| format!("{}{}", &c[1], placeholder("login", &c[2])),
        },
        Rule { pattern: pattern(r"[A-Za-z0-9+/_-]{40,}={0,2}"), replace: random_looking },
    ]
});

/// A key and its value, as in `KEY=value`, `key: value`, JSON, and JSON inside JSON.
static PAIR: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"([A-Za-z0-9_.-]*)(\\?"?\s*[:=]\s*\\?"?)([^\s"'\\,;&{}\[\]()]{3,})"#));

fn key_and_value(c: &Captures<'_>) -> String {
    let plain = matches!(&c[3], "true" | "false" | "null" | "none") || c[3].starts_with("[redacted");
    if plain {
        return c[0].to_owned();
    }
    if !is_secret_key(&c[1]) {
        // The value may be a pair itself: `"command": "password=..."`.
        return format!("{}{}{}", &c[1], &c[2], PAIR.replace_all(&c[3], key_and_value));
    }
    format!("{}{}{}", &c[1], &c[2], placeholder("value", &c[3]))
}

/// Long runs with upper case, lower case and digits mixed look random; digests (hex) and paths do not.
fn random_looking(c: &Captures<'_>) -> String {
    let run = &c[0];
    let has = |class: fn(&char) -> bool| run.chars().filter(class).count() >= 4;
    let mixed = has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase) && has(char::is_ascii_digit);
    let worded = run.split(['-', '_', '/']).filter(|word| word.len() >= 2).count() >= 4;
    if mixed && !worded { placeholder("secret", run) } else { run.to_owned() }
}

fn pattern(expression: &str) -> Regex {
    #[expect(clippy::expect_used, reason = "constant patterns, each compiled by a test")]
    Regex::new(expression).expect("a constant pattern compiles")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, gone: &str) {
        let clean = Redactor::default().redact(text);
        assert!(!clean.as_str().contains(gone), "{clean}");
        assert_eq!(Redactor::default().redact(clean.as_str()), clean, "redacting twice changes nothing");
    }

    #[test]
    fn secrets_of_every_shape_are_replaced() {
        check("-----BEGIN RSA PRIVATE KEY-----\\nMIIabc\\n-----END RSA PRIVATE KEY-----", "MIIabc");
        check("key: -----BEGIN PRIVATE KEY-----\nMIIabcdef cut off", "MIIabcdef");
        check("authorization: Bearer abcdefgh12345678", "abcdefgh12345678");
        check("dial postgres://app:hunter22@db:5432/app failed", "hunter22");
        check("DB_PASSWORD=hunter22 starting", "hunter22");
        check(r#"{"command": "password=hunter22"}"#, "hunter22");
        check("args: --db-url=host:5432 --opts=user:app,password:hunter22", "hunter22");
        check(r#"{"apiKey": "k-3f9a88"}"#, "k-3f9a88");
        check(r#"{\"password\":\"hunter22\"}"#, "hunter22");
        check("token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc", "eyJzdWIi");
        check("xoxb-1234567890-abcdefgh", "1234567890");
        check("7xBEM1m9hD2ZDvr42rqf0WOz6mzaqTzP6HQQ3sk1GJ5MNQMB5i1nSppGn6M9lJ5G", "7xBEM1m9");
    }

    #[test]
    fn what_is_no_secret_stays_readable() {
        for text in [
            "secretName: checkout-tls",
            r#"MountVolume.SetUp failed for volume "certs" : secret "checkout-tls" not found"#,
            "sha256:9b2cf54b3a1c6b1e0e1de7d2d3a5a0c4f7a9f0aa1b2c3d4e5f60718293a4b5c6",
            "tokenExpirationSeconds: 3607",
            "/var/log/pods/kube-system_coredns-674b8bbfcf-x2lkq_0f1e2d3c/coredns/0.log",
            "image: registry.example/fleet/dispatch-api:4.17.3",
        ] {
            assert_eq!(Redactor::default().redact(text).as_str(), text);
        }
    }

    #[test]
    fn only_what_was_stored_is_rebuilt_without_the_rules() {
        let written = r#""password=hunter22""#;
        let read = || serde_json::from_str::<Redacted>(written).unwrap();
        assert_eq!(as_stored(read).as_str(), "password=hunter22");
        assert!(!read().as_str().contains("hunter22"), "outside of it the rules stand");
    }

    #[test]
    fn two_secrets_can_be_told_apart_and_own_secrets_go_whatever_they_look_like() {
        let redactor = Redactor::new(["plainwords".to_owned()]);
        assert_eq!(redactor.redact("a plainwords b").as_str(), "a [redacted secret 0c8a] b");
        let twice = redactor.redact("password=first1 password=second2 password=first1");
        let masks: Vec<_> = twice.as_str().split(' ').map(|part| part.trim_start_matches("password=")).collect();
        assert_eq!(masks[..3], masks[6..]);
        assert_ne!(masks[2], masks[5]);
    }
}
