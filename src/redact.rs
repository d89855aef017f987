//! Text from outside becomes `Redacted` here; the store, prompts and cards accept no other text. Pure.

mod keys;
mod pairs;
mod rules;

use std::borrow::Cow;
use std::fmt;
use std::fmt::Display;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use keys::is_secret_key;

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
    /// firstlook's own secrets and how they are encoded, longest first.
    own: Arc<[String]>,
}

/// Shorter values would redact ordinary words.
const OWN_SECRET_MIN_CHARS: usize = 6;
/// How often something may be encoded before it is looked at: a registry's login lies in base64 within base64.
const BASE64_DEPTH: u8 = 2;

impl Redactor {
    /// A redactor that also knows firstlook's own secrets, whatever they look like.
    pub fn new(own: impl IntoIterator<Item = String>) -> Self {
        use base64::Engine as _;
        let mut all: Vec<String> = Vec::new();
        for secret in own.into_iter().filter(|secret| secret.len() >= OWN_SECRET_MIN_CHARS) {
            let json = serde_json::Value::from(secret.as_str()).to_string();
            let mut forms = vec![
                base64::engine::general_purpose::STANDARD.encode(&secret),
                percent_encoding::utf8_percent_encode(&secret, percent_encoding::NON_ALPHANUMERIC).to_string(),
                json[1..json.len() - 1].to_owned(),
            ];
            forms.retain(|form| *form != secret);
            all.push(secret);
            all.extend(forms);
        }
        all.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self { own: all.into() }
    }

    /// `text` with every secret that the rules know replaced by a placeholder that is equal for equal secrets.
    pub fn redact(&self, text: &str) -> Redacted {
        Redacted(self.clean(text, BASE64_DEPTH).into())
    }

    fn clean<'a>(&self, text: &'a str, depth: u8) -> Cow<'a, str> {
        let mut clean = Cow::Borrowed(text);
        if text.len() < OWN_SECRET_MIN_CHARS {
            return clean;
        }
        for secret in self.own.iter() {
            if clean.contains(secret.as_str()) {
                clean = clean.replace(secret.as_str(), &rules::placeholder("secret", secret)).into();
            }
        }
        if !rules::may_hold(&clean) {
            return clean;
        }
        if let Cow::Owned(changed) = rules::known(&clean) {
            clean = changed.into();
        }
        // After the known shapes: parts of a token decode too.
        let holds = |inner: &str| depth > 0 && self.clean(inner, depth - 1) != inner;
        if let Cow::Owned(changed) = rules::without_base64(&clean, holds) {
            clean = changed.into();
        }
        if let Cow::Owned(changed) = rules::looking_random(&clean) {
            clean = changed.into();
        }
        clean
    }

    /// The value stored under `key`: masked whole where the key's name says it is a secret, else by the rules.
    pub fn redact_value(&self, key: &str, value: &str) -> Redacted {
        if keys::is_secret(key, value) && !value.is_empty() {
            Redacted(rules::placeholder("value", value).into())
        } else {
            self.redact(value)
        }
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} forms of own secrets)", self.own.len())
    }
}

#[cfg(test)]
mod tests;
