//! Who calls the simulated API server and what RBAC lets them do: firstlook's accounts as deploy/ grants them, and an admin.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use axum::http::{HeaderMap, header};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::act::rights::{RIGHTS, Right};
use crate::model::Tier;
use crate::sim::cluster::failure::{Failure, Outcome};
use crate::sim::cluster::kinds::Kind;
use crate::sim::cluster::objects::{random, stamp, uid_of};

/// The namespace of firstlook's accounts.
pub(crate) const NAMESPACE: &str = "firstlook";
/// The daemon's account, and the three whose tokens it may ask for.
pub(crate) const ACCOUNTS: [&str; 4] =
    ["firstlook", "firstlook-preview", "firstlook-write", "firstlook-write-destructive"];

/// The least lifetime that TokenRequest gives; less is refused as the real server refuses it.
const TOKEN_SECONDS_MIN: i64 = 600;
/// Minted tokens kept; the eldest make room.
const TOKENS_MAX: usize = 1024;

/// An authenticated caller.
#[derive(Clone, Debug)]
pub(crate) struct User {
    /// As it stands in messages: `system:serviceaccount:firstlook:firstlook`, or `kubernetes-admin`.
    pub(crate) name: String,
    uid: String,
    /// (namespace, name) of a ServiceAccount; `None` is the admin.
    account: Option<(String, String)>,
}

/// One question to RBAC.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ask<'a> {
    pub(crate) verb: &'a str,
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

struct Rule {
    verbs: Vec<&'static str>,
    groups: Vec<&'static str>,
    resources: Vec<String>,
    /// Empty: any.
    names: Vec<&'static str>,
}

/// What `system:basic-user` grants to everybody: to ask about oneself.
fn everybody() -> Rule {
    let reviews = ["selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"];
    Rule {
        verbs: vec!["create"],
        groups: vec!["authorization.k8s.io", "authentication.k8s.io"],
        resources: reviews.map(str::to_owned).to_vec(),
        names: Vec::new(),
    }
}

/// The daemon reads everything here, and asks for tokens of the others.
fn daemon() -> Vec<Rule> {
    let all = ["*", "*/log", "*/status", "*/scale"];
    let token = vec!["serviceaccounts/token".to_owned()];
    let [_, others @ ..] = ACCOUNTS;
    vec![
        Rule {
            verbs: vec!["get", "list", "watch"],
            groups: vec!["*"],
            resources: all.map(str::to_owned).to_vec(),
            names: Vec::new(),
        },
        Rule { verbs: vec!["create"], groups: vec![""], resources: token, names: others.to_vec() },
    ]
}

/// The rights of an account that rehearses (of both tiers) or changes (of one), as `firstlook rbac` prints them.
fn writes(tiers: &[Tier]) -> Vec<Rule> {
    let rule = |right: &Right| {
        let (group, _, plural) = right.kind.resource();
        let resource = match right.subresource {
            "" => plural.to_owned(),
            sub => format!("{plural}/{sub}"),
        };
        Rule { verbs: vec![right.verb], groups: vec![group], resources: vec![resource], names: Vec::new() }
    };
    RIGHTS.iter().filter(|right| tiers.contains(&right.tier)).map(rule).collect()
}

impl User {
    fn admin() -> Self {
        Self { name: "kubernetes-admin".into(), uid: String::new(), account: None }
    }

    fn account(namespace: &str, name: &str, uid: &str) -> Self {
        Self {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            uid: uid.into(),
            account: Some((namespace.into(), name.into())),
        }
    }

    fn rules(&self) -> Vec<Rule> {
        match &self.account {
            Some((ns, name)) if ns == NAMESPACE => match name.as_str() {
                "firstlook" => daemon(),
                "firstlook-preview" => writes(&[Tier::Reversible, Tier::Destructive]),
                "firstlook-write" => writes(&[Tier::Reversible]),
                "firstlook-write-destructive" => writes(&[Tier::Destructive]),
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    /// Whether RBAC allows it. Nobody, not even the admin, has any verb on Secrets here.
    pub(crate) fn may(&self, ask: Ask<'_>) -> bool {
        if ask.resource == "secrets" {
            return false;
        }
        self.account.is_none() || everybody().allows(ask) || self.rules().iter().any(|rule| rule.allows(ask))
    }

    /// Refuses with the server's words what RBAC does not allow.
    pub(crate) fn must(&self, kind: &Kind, ask: Ask<'_>) -> Outcome<()> {
        if self.may(ask) {
            return Ok(());
        }
        let scope = match ask.namespace {
            "" => "at the cluster scope".to_owned(),
            ns => format!("in the namespace \"{ns}\""),
        };
        let sub = if ask.subresource.is_empty() { String::new() } else { format!("/{}", ask.subresource) };
        let why = format!(
            "User \"{}\" cannot {} resource \"{}{sub}\" in API group \"{}\" {scope}",
            self.name, ask.verb, ask.resource, ask.group
        );
        Err(Failure::forbidden(kind, ask.name, &why))
    }

    fn groups(&self) -> Vec<String> {
        match &self.account {
            None => vec!["system:masters".into(), "system:authenticated".into()],
            Some((ns, _)) => vec![
                "system:serviceaccounts".into(),
                format!("system:serviceaccounts:{ns}"),
                "system:authenticated".into(),
            ],
        }
    }

    /// The `status.userInfo` of a SelfSubjectReview.
    pub(crate) fn info(&self) -> Value {
        let mut info = json!({"username": self.name, "groups": self.groups()});
        if !self.uid.is_empty() {
            info["uid"] = json!(self.uid);
        }
        info
    }

    /// The `status` of a SelfSubjectRulesReview.
    pub(crate) fn rules_review(&self) -> Value {
        let everything =
            || Rule { verbs: vec!["*"], groups: vec!["*"], resources: vec!["*".to_owned()], names: Vec::new() };
        let own = if self.account.is_none() { vec![everything()] } else { self.rules() };
        let rules: Vec<Value> = own
            .into_iter()
            .chain([everybody()])
            .map(|r| {
                let mut rule = json!({"verbs": r.verbs, "apiGroups": r.groups, "resources": r.resources});
                if !r.names.is_empty() {
                    rule["resourceNames"] = json!(r.names);
                }
                rule
            })
            .collect();
        json!({"resourceRules": rules, "nonResourceRules": [], "incomplete": false})
    }
}

impl Rule {
    fn allows(&self, ask: Ask<'_>) -> bool {
        let has = |list: &[&str], what: &str| list.iter().any(|entry| *entry == "*" || *entry == what);
        let resource = self.resources.iter().any(|entry| match entry.split_once('/') {
            Some((of, sub)) => {
                !ask.subresource.is_empty() && sub == ask.subresource && (of == "*" || of == ask.resource)
            }
            None => ask.subresource.is_empty() && (entry == "*" || entry == ask.resource),
        });
        has(&self.verbs, ask.verb)
            && has(&self.groups, ask.group)
            && resource
            && (self.names.is_empty() || self.names.contains(&ask.name))
    }
}

/// Bearer tokens that the server accepts.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Mutex<BTreeMap<String, Token>>);

#[derive(Debug, Clone)]
struct Token {
    user: User,
    /// `None`: for as long as the server runs.
    expires: Option<Timestamp>,
}

impl Tokens {
    /// A token of one of firstlook's accounts that never expires: `sim-daemon` for the daemon.
    pub(crate) fn lasting(&self, account: &str) -> String {
        let token = if account == "firstlook" { "sim-daemon".to_owned() } else { format!("sim-{account}") };
        let user = User::account(NAMESPACE, account, "");
        self.keep(token.clone(), Token { user, expires: None });
        token
    }

    /// Who sends these headers. Without a token it is the admin: kubectl and tests need no kubeconfig.
    pub(crate) fn identify(&self, headers: &HeaderMap, now: Timestamp) -> Outcome<User> {
        let Some(sent) = headers.get(header::AUTHORIZATION) else { return Ok(User::admin()) };
        let token = sent.to_str().ok().and_then(|text| text.strip_prefix("Bearer ")).map(str::trim);
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = token.and_then(|token| all.get(token)).filter(|t| t.expires.is_none_or(|end| end > now));
        known.map(|t| t.user.clone()).ok_or_else(Failure::unauthorized)
    }

    /// Answers a TokenRequest for `account` (the ServiceAccount object); a dry run mints nothing that works.
    pub(crate) fn mint(
        &self,
        kind: &Kind,
        account: &Value,
        request: &Value,
        now: Timestamp,
        dry: bool,
    ) -> Outcome<Value> {
        let (ns, name) = (&account["metadata"]["namespace"], &account["metadata"]["name"]);
        let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(3600);
        if seconds < TOKEN_SECONDS_MIN {
            let why = format!("Invalid value: {seconds}: may not specify a duration less than 10 minutes");
            let mut asked = kind.clone();
            (asked.group, asked.kind) = ("authentication.k8s.io".into(), "TokenRequest".into());
            return Err(Failure::invalid(&asked, "", "FieldValueInvalid", "spec.expirationSeconds", &why));
        }
        let user = User::account(ns.as_str().unwrap_or(""), name.as_str().unwrap_or(""), uid_of(account));
        let expires = now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
        let token = format!("sim-token-{:016x}{:016x}", random(), random());
        if !dry {
            self.keep(token.clone(), Token { user, expires: Some(expires) });
        }
        let audiences = match &request["spec"]["audiences"] {
            Value::Array(all) if !all.is_empty() => json!(all),
            _ => json!(["https://kubernetes.default.svc"]),
        };
        Ok(json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": name, "namespace": ns, "uid": uid_of(account), "creationTimestamp": stamp(now)},
            "spec": {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": null},
            "status": {"token": token, "expirationTimestamp": stamp(expires)}}))
    }

    fn keep(&self, token: String, is: Token) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= TOKENS_MAX {
            let eldest = all.iter().filter(|(_, t)| t.expires.is_some()).min_by_key(|(_, t)| t.expires);
            if let Some(eldest) = eldest.map(|(token, _)| token.clone()) {
                all.remove(&eldest);
            }
        }
        all.insert(token, is);
    }
}
