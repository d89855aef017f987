//! The callers from outside: which token is whose, and what it reaches. A YAML file of hashes, checked at start and when it changes; pure.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::govern::policy;
use crate::govern::policy::pattern;
use crate::model::{Kind, Name, ObjectRef, Tier};
use crate::redact::{Redacted, Redactor};
use crate::text;

/// What a token begins with, so that a leak is found by its looks.
pub const TOKEN_PREFIX: &str = "flk_";
/// Letters and digits after it: 43 of 62 are 256 bits.
pub const TOKEN_CHARS: usize = 43;
/// Callers of one daemon: each has a connection of its own, and no team runs more agents.
const CALLERS_MAX: usize = 500;
/// Calls of a caller within a minute if its entry does not say: two a second is more than an agent makes.
const CALLS_PER_MINUTE: u32 = 120;
/// Changes that a caller may ask people for within an hour: each is a card that somebody reads.
const ASKS_PER_HOUR: u32 = 10;
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// One entry of the file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rights {
    /// What the audit and the card call it.
    pub name: String,
    /// SHA-256 of the token, hex.
    pub token_sha256: String,
    /// The person it stands for: a Slack user id.
    #[serde(rename = "for")]
    pub person: Option<String>,
    /// Tool servers by name; `*` is all of firstlook's own. Those of others are named one by one.
    #[serde(default = "all")]
    pub servers: Vec<String>,
    /// Names, or prefixes ending in `*`.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// What lives in no namespace: nodes, volumes, and whatever names none (metrics, on-call).
    #[serde(default)]
    pub cluster: bool,
    #[serde(default = "reads")]
    pub tiers: Vec<Tier>,
    #[serde(default = "calls_per_minute")]
    pub calls_per_minute: u32,
    #[serde(default = "asks_per_hour")]
    pub asks_per_hour: u32,
}

fn all() -> Vec<String> {
    vec!["*".to_owned()]
}

fn reads() -> Vec<Tier> {
    vec![Tier::ReadOnly]
}

fn calls_per_minute() -> u32 {
    CALLS_PER_MINUTE
}

fn asks_per_hour() -> u32 {
    ASKS_PER_HOUR
}

/// The file as it stands.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    callers: Vec<Rights>,
}

/// A callers file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {what}")]
pub struct CallersError {
    pub file: String,
    pub what: String,
}

/// Everybody who may call from outside. Clones are the same ones.
#[derive(Clone, Debug, Default)]
pub struct Callers(Arc<[Arc<Guest>]>);

impl Callers {
    /// Reads and checks a callers file's text; `file` is for the error, `servers` are the names that exist.
    ///
    /// # Errors
    /// The first thing that is wrong, with line and key.
    pub fn parse(yaml: &str, file: &str, servers: &[&str]) -> Result<Self, CallersError> {
        let fail = |what: String| CallersError { file: file.to_owned(), what };
        let read: File = serde_saphyr::from_str(yaml).map_err(|e| fail(e.to_string()))?;
        if read.callers.len() > CALLERS_MAX {
            return Err(fail(format!("callers: {} of at most {CALLERS_MAX}", read.callers.len())));
        }
        let (mut names, mut tokens) = (BTreeSet::new(), BTreeSet::new());
        for (i, rights) in read.callers.iter().enumerate() {
            rights.check(servers).map_err(|what| fail(format!("callers[{i}].{what}")))?;
            if !names.insert(rights.name.clone()) {
                return Err(fail(format!("callers[{i}].name: `{}` is taken", rights.name)));
            }
            if !tokens.insert(rights.token_sha256.to_ascii_lowercase()) {
                return Err(fail(format!("callers[{i}].token_sha256: another caller has this token")));
            }
        }
        Ok(Self(read.callers.into_iter().map(|rights| Arc::new(Guest::new(rights))).collect()))
    }

    /// Their names.
    pub fn list(&self) -> Vec<&str> {
        self.0.iter().map(|guest| guest.rights.name.as_str()).collect()
    }

    /// Their names, for the log.
    pub fn names(&self) -> String {
        let names = self.list();
        if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These after the file has changed: whoever's entry is as before keeps what it has used.
    pub fn renewed(&self, now: Self) -> Self {
        let keep =
            |guest: &Arc<Guest>| self.0.iter().find(|known| known.rights == guest.rights).unwrap_or(guest).clone();
        Self(now.0.iter().map(keep).collect())
    }

    /// Whether this very caller, with these very rights, is among them.
    pub fn has(&self, guest: &Arc<Guest>) -> bool {
        self.0.iter().any(|known| Arc::ptr_eq(known, guest))
    }

    /// Whose token this is. What is compared are hashes: the time it takes tells nothing of a token.
    pub fn find(&self, token: &str) -> Option<&Arc<Guest>> {
        let hash = token_hash(token);
        self.0.iter().find(|guest| guest.rights.token_sha256.eq_ignore_ascii_case(&hash))
    }
}

/// SHA-256 of a token, hex: what the file holds in its place.
pub fn token_hash(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

impl Rights {
    /// The rights of whoever sits at the machine itself: all that there is, each change with a person's leave.
    pub fn of_this_machine(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            token_sha256: String::new(),
            person: None,
            servers: all(),
            namespaces: all(),
            cluster: true,
            tiers: vec![Tier::ReadOnly, Tier::Reversible, Tier::Destructive],
            // A loopback client may be a benchmark or a test suite.
            calls_per_minute: u32::MAX,
            asks_per_hour: ASKS_PER_HOUR,
        }
    }

    fn check(&self, servers: &[&str]) -> Result<(), String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.name.is_empty() || self.name.len() > 60 || !self.name.chars().all(plain) {
            return Err("name: 1 to 60 letters, digits, `-`, `_`, `.`".into());
        }
        if self.token_sha256.len() != 64 || !self.token_sha256.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err("token_sha256: 64 hex digits, as `firstlook mcp token` prints them".into());
        }
        if let Some(person) = self.person.as_ref().filter(|person| !policy::is_user(person)) {
            return Err(format!("for: `{person}` is no Slack user id (U...)"));
        }
        if let Some(bad) = self.servers.iter().find(|server| *server != "*" && !servers.contains(&server.as_str())) {
            return Err(format!("servers: there is no `{bad}`; there are {}", servers.join(", ")));
        }
        for namespace in &self.namespaces {
            if let Some(problem) = pattern::problem(namespace) {
                return Err(format!("namespaces: `{namespace}` {problem}"));
            }
        }
        if self.namespaces.is_empty() && !self.cluster {
            return Err("namespaces: empty, and `cluster` is not set: it could reach nothing".into());
        }
        if self.servers.is_empty() || self.tiers.is_empty() {
            return Err("servers, tiers: may not be empty".into());
        }
        if self.tiers.iter().any(|tier| *tier != Tier::ReadOnly) && self.person.is_none() {
            return Err("for: who asks for changes stands for a person".into());
        }
        Ok(())
    }

    /// Whether it reaches this server.
    pub fn has_server(&self, server: &str) -> bool {
        self.servers.iter().any(|name| name == "*" || name == server)
    }

    /// Whether it reads by this server of others: none comes with `*`, and nothing holds what is read there to a namespace.
    pub fn reads_foreign(&self, server: &str) -> bool {
        self.cluster && self.tiers.contains(&Tier::ReadOnly) && self.servers.iter().any(|name| name == server)
    }

    /// Whether the arguments of a tool of others stay within, else why not: whatever they name, nothing holds what is read
    /// there to a namespace.
    pub fn allows_foreign(&self, arguments: &Map<String, Value>) -> Result<(), Redacted> {
        match self.cluster {
            true => self.allows(arguments),
            false => Err("what servers of others read is in no namespace, and this token has no `cluster`".into()),
        }
    }

    /// Whether it reaches this namespace.
    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.iter().any(|pattern| pattern::closeness(pattern, namespace).is_some())
    }

    /// Whether it reaches this object.
    pub fn has_object(&self, object: &ObjectRef) -> bool {
        match (&object.namespace, object.kind) {
            (Some(namespace), _) => self.has_namespace(namespace.as_str()),
            (None, Kind::Namespace) => self.has_namespace(object.name()),
            (None, _) => self.cluster,
        }
    }

    /// Whether the arguments of a call stay within, else why not.
    pub fn allows(&self, arguments: &Map<String, Value>) -> Result<(), Redacted> {
        match namespace_of(arguments) {
            Some(namespace) if self.has_namespace(namespace) => Ok(()),
            Some(namespace) => Err(match Name::parse(namespace) {
                Some(name) => text!("this token does not reach namespace {}", name),
                None => "that is no namespace".into(),
            }),
            None if self.cluster => Ok(()),
            None => Err("this token reaches only what lives in its namespaces: name one".into()),
        }
    }
}

/// The namespace that the arguments of a read are about: the one that they name, or the one that is the object.
pub(in crate::govern) fn namespace_of(arguments: &Map<String, Value>) -> Option<&str> {
    let text = |key: &str| arguments.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    match (text("kind").and_then(Kind::named), text("namespace"), text("name")) {
        (Some(Kind::Namespace), _, Some(name)) => Some(name),
        (Some(kind), _, _) if !kind.is_namespaced() => None,
        (_, namespace, _) => namespace,
    }
}

/// A call that came when its minute's were used.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::govern) struct Limited {
    pub(in crate::govern) why: Redacted,
    /// Which of the minute's such calls it is, from 1.
    pub(in crate::govern) nth: u32,
}

/// A caller with what it has used since the daemon began. Reads are counted here alone: a row for each would cost more than
/// they do. Requests for a change are counted in the store as well, and a restart forgets none of them.
#[derive(Debug)]
pub struct Guest {
    pub rights: Rights,
    /// Of this minute, and of this hour.
    calls: Mutex<(Window, Window)>,
    asks: Mutex<Window>,
}

/// Uses since `from_ms`, counted anew when the window is over.
#[derive(Debug, Default)]
struct Window {
    from_ms: i64,
    used: u32,
    /// Asked for beyond that.
    refused: u32,
}

impl Window {
    /// Takes one, unless all are used; then after how many seconds there is one.
    fn take(&mut self, max: u32, length_ms: i64, now_ms: i64) -> Result<(), u64> {
        if now_ms - self.from_ms >= length_ms {
            *self = Self { from_ms: now_ms, ..Self::default() };
        }
        if self.used >= max {
            self.refused = self.refused.saturating_add(1);
            return Err(((self.from_ms + length_ms - now_ms).max(0) as u64).div_ceil(1_000));
        }
        self.used += 1;
        Ok(())
    }
}

impl Guest {
    /// A caller that has used nothing yet.
    pub fn new(rights: Rights) -> Self {
        Self { rights, calls: Mutex::default(), asks: Mutex::default() }
    }

    /// What the audit and the card call it; its shape was checked when the file was read.
    pub fn name(&self) -> Redacted {
        Redactor::default().redact(&self.rights.name)
    }

    /// The person that it stands for.
    pub fn person(&self) -> Option<Redacted> {
        self.rights.person.as_ref().map(|person| Redactor::default().redact(person))
    }

    /// Counts one call and says how many came before it in this hour, unless the minute's are used; then why not.
    pub(in crate::govern) fn take_call(&self, now: Timestamp) -> Result<u32, Limited> {
        let (max, now_ms) = (self.rights.calls_per_minute, now.as_millisecond());
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let (minute, hour) = &mut *calls;
        minute.take(max, MINUTE_MS, now_ms).map_err(|wait| Limited {
            why: text!("all {} calls of this minute are used; try again in {} s", max, wait),
            nth: minute.refused,
        })?;
        // The policy bounds the hour, if it does.
        let _ = hour.take(u32::MAX, HOUR_MS, now_ms);
        Ok(hour.used - 1)
    }

    /// Counts one request for a change, unless the hour's are used, as counted here (the refused ones too) or `before` in
    /// the store; then why not.
    pub(in crate::govern) fn take_ask(&self, now: Timestamp, before: u32) -> Result<(), Redacted> {
        let max = self.rights.asks_per_hour;
        if before >= max {
            return Err(text!("all {} requests of this hour are used; try again later", max));
        }
        let mut asks = self.asks.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = asks.take(max, HOUR_MS, now.as_millisecond());
        taken.map_err(|wait| text!("all {} requests of this hour are used; try again in {} s", max, wait))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::clock::from_ms;

    const SERVERS: [&str; 2] = ["k8s-logs", "k8s-workloads"];

    fn file(rest: &str) -> String {
        format!("callers:\n  - {{name: kimi, token_sha256: {}, {rest}}}\n", token_hash("flk_secret"))
    }

    #[track_caller]
    fn refused(rest: &str, says: &str) {
        let error = Callers::parse(&file(rest), "callers.yaml", &SERVERS).unwrap_err().to_string();
        assert!(error.starts_with("callers.yaml: ") && error.contains(says), "{error}");
    }

    #[test]
    fn a_file_with_a_slip_in_it_is_refused_by_name() {
        refused("namespace: [shop]", "namespace");
        refused("namespaces: ['*shop']", "only at the end");
        refused("namespaces: [shop], servers: [k8s-log]", "there is no `k8s-log`");
        refused("namespaces: [shop], for: anna", "Slack user id");
        refused("namespaces: [shop], tiers: [reversible]", "stands for a person");
        refused("calls_per_minute: 5", "could reach nothing");
        let twice = file("namespaces: [shop]") + &file("namespaces: [shop]").replace("callers:\n", "");
        assert!(Callers::parse(&twice, "x", &SERVERS).unwrap_err().to_string().contains("`kimi` is taken"));
    }

    #[test]
    fn only_the_token_itself_finds_its_caller() {
        let callers = Callers::parse(&file("namespaces: [shop]"), "x", &SERVERS).unwrap();
        assert_eq!(callers.find("flk_secret").unwrap().rights.name, "kimi");
        assert!(callers.find("flk_secreT").is_none() && callers.find("").is_none());
        assert!(callers.find(&token_hash("flk_secret")).is_none(), "the file's text opens nothing");
    }

    #[test]
    fn a_token_reaches_its_namespaces_and_nothing_beside_them() {
        let callers = Callers::parse(&file("namespaces: [shop, 'team-*']"), "x", &SERVERS).unwrap();
        let rights = &callers.find("flk_secret").unwrap().rights;
        let allows = |arguments: Value| rights.allows(arguments.as_object().unwrap()).is_ok();
        assert!(allows(json!({"namespace": "shop"})) && allows(json!({"namespace": "team-a", "kind": "Pod"})));
        assert!(allows(json!({"kind": "Namespace", "name": "shop"})));
        assert!(!allows(json!({"namespace": "shop2"})) && !allows(json!({"namespace": "team"})));
        assert!(!allows(json!({})) && !allows(json!({"kind": "Node", "name": "n1", "namespace": "shop"})));
        assert!(!allows(json!({"kind": "Namespace", "name": "kube-system", "namespace": "shop"})));
    }

    #[test]
    fn calls_beyond_the_minute_wait_for_the_next() {
        let callers = Callers::parse(&file("namespaces: [shop], calls_per_minute: 2"), "x", &SERVERS).unwrap();
        let guest = callers.find("flk_secret").unwrap();
        let at = |ms: i64| from_ms(1_800_000_000_000 + ms);
        assert!(guest.take_call(at(0)).is_ok() && guest.take_call(at(10)).is_ok());
        let limited = guest.take_call(at(30_000)).unwrap_err();
        assert!(limited.why.as_str().contains("in 30 s") && limited.nth == 1, "{limited:?}");
        assert_eq!(guest.take_call(at(40_000)).unwrap_err().nth, 2);
        assert!(guest.take_call(at(60_000)).is_ok());
    }
}
