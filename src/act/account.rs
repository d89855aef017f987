//! The identities that may write: each token is asked for when a request needs it and dropped after that request.

use std::time::Duration;

use kube::core::Request;
use kube::core::params::{Patch, PatchParams, PostParams};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::act::guard::Guard;
use crate::model::{Action, Kind, Moved, ObjectRef, Tier};
use crate::redact::{Redacted, Redactor};
use crate::text;

/// The shortest life that the API server grants.
const TOKEN_SECONDS: u32 = 600;
/// One request; an API server with slow admission webhooks needs up to 10 s for each.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Why nothing is asked for and nothing is done where writes are off.
pub(super) const WRITES_OFF: &str = "writes are off (kubernetes.writes: false)";
/// Whose writes these are, in managedFields.
const FIELD_MANAGER: &str = "firstlook";

/// Which account speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// Has the write verbs, but an admission policy refuses it anything that is no dry run.
    Preview,
    /// May write, when the request itself sets the approval's annotation.
    Write(Tier),
}

/// The way to the writing accounts.
#[derive(Clone)]
pub struct Accounts {
    /// The daemon's own client: it may create tokens of these accounts, and nothing else that writes.
    pub daemon: kube::Client,
    /// How to reach the API server, without any credential.
    pub server: kube::Config,
    pub namespace: String,
    /// `firstlook` gives `firstlook-preview`, `firstlook-write`.
    pub prefix: String,
    /// Off: no token is ever asked for, and nothing is changed, in Alertmanager either.
    pub writes: bool,
    pub redactor: Redactor,
}

/// What a request came to when it did not succeed.
#[derive(Debug)]
pub enum Trouble {
    /// The object has another version: look again.
    Conflict,
    /// The API server said no, so nothing changed.
    Refused(Redacted),
    /// A disruption budget does not allow it now.
    Held(Redacted),
    /// Certainly nothing was sent, or the server was not able to take it: try again.
    NotSent(Redacted),
    /// It was sent and no answer came: it may or may not have happened.
    Unknown(Redacted),
}

impl Accounts {
    /// Whether an admission policy is bound to this account and refuses what it is there to refuse. Without it no token is
    /// asked for.
    ///
    /// # Errors
    /// Why it cannot be told.
    pub async fn is_guarded(&self, account: Account) -> Result<bool, Redacted> {
        Ok(self.guard(account).await?.loose().is_none())
    }

    /// The admission policy and its binding that this account needs, as the cluster has them.
    ///
    /// # Errors
    /// Why they cannot be read.
    pub async fn guard(&self, account: Account) -> Result<Guard, Redacted> {
        let name = match account {
            Account::Preview => format!("{}-preview", self.prefix),
            Account::Write(_) => format!("{}-write", self.prefix),
        };
        let policy = self.admission("validatingadmissionpolicies", &name).await?;
        // What is missing already needs no second look.
        let binding = match policy {
            Some(_) => self.admission("validatingadmissionpolicybindings", &name).await?,
            None => None,
        };
        Ok(Guard { name, policy, binding })
    }

    async fn admission(&self, plural: &str, name: &str) -> Result<Option<Value>, Redacted> {
        let path = format!("/apis/admissionregistration.k8s.io/v1/{plural}");
        let request = Request::new(path).get(name, &Default::default()).map_err(|e| self.says(&e.to_string()))?;
        match self.daemon.request::<Value>(request).await {
            Ok(object) => Ok(Some(object)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(self.says(&error.to_string())),
        }
    }

    /// Whether a token of this account can be had; it is dropped at once.
    ///
    /// # Errors
    /// Why not.
    pub async fn can_speak_as(&self, account: Account) -> Result<(), Redacted> {
        match self.token(account).await {
            Ok(_) => Ok(()),
            Err(Trouble::Refused(why) | Trouble::Held(why) | Trouble::NotSent(why) | Trouble::Unknown(why)) => Err(why),
            Err(Trouble::Conflict) => Err(Redacted::literal("the token request met a conflict")),
        }
    }

    /// Evicts one pod of a drain.
    pub(crate) async fn evict(&self, account: Account, moved: &Moved, body: &Value) -> Result<Value, Trouble> {
        let Moved { pod, uid } = moved.clone();
        self.send(account, &Action::DeletePod { owner: pod.clone(), object: pod, uid }, body, false).await
    }

    /// Sends the request of `action` as `account`, with a token made for this one request.
    pub(crate) async fn send(
        &self,
        account: Account,
        action: &Action,
        body: &Value,
        dry_run: bool,
    ) -> Result<Value, Trouble> {
        if !self.writes {
            return Err(Trouble::Refused(Redacted::literal(WRITES_OFF)));
        }
        let token = self.token(account).await?;
        let mut config = self.server.clone();
        config.auth_info.token = Some(token);
        config.default_retry = false;
        config.read_timeout = Some(REQUEST_TIMEOUT);
        let client = kube::Client::try_from(config).map_err(|e| Trouble::NotSent(self.says(&e.to_string())))?;
        let object = action.object();
        let field_manager = Some(FIELD_MANAGER.to_owned());
        let made = PostParams { dry_run, field_manager: field_manager.clone() };
        let request = match action {
            Action::RerunJob { .. } => {
                Request::new(objects(Kind::Job, object)).create(&made, body.to_string().into_bytes())
            }
            Action::DeletePod { .. } => {
                let body = body.to_string().into_bytes();
                Request::new(objects(Kind::Pod, object)).create_subresource("eviction", object.name(), &made, body)
            }
            _ => {
                let parameters = PatchParams { dry_run, field_manager, ..PatchParams::default() };
                Request::new(objects(object.kind, object)).patch(object.name(), &parameters, &Patch::Merge(body))
            }
        };
        let mut request = request.map_err(|e| Trouble::NotSent(self.says(&e.to_string())))?;
        // kube knows JSON patches only behind a feature of its own; the body is the same, the type is set here.
        if request.method() == "PATCH"
            && let Ok(kind) = "application/json-patch+json".parse()
        {
            request.headers_mut().insert("content-type", kind);
        }
        match tokio::time::timeout(REQUEST_TIMEOUT, client.request::<Value>(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.trouble(error)),
            Err(_) => Err(Trouble::Unknown(text!("no answer within {} s", REQUEST_TIMEOUT.as_secs()))),
        }
    }

    async fn token(&self, account: Account) -> Result<SecretString, Trouble> {
        let name = match account {
            Account::Preview => format!("{}-preview", self.prefix),
            Account::Write(Tier::Destructive) => format!("{}-write-destructive", self.prefix),
            Account::Write(_) => format!("{}-write", self.prefix),
        };
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": TOKEN_SECONDS},
        });
        let path = format!("/api/v1/namespaces/{}/serviceaccounts", self.namespace);
        let request = Request::new(path)
            .create_subresource("token", &name, &PostParams::default(), body.to_string().into_bytes())
            .map_err(|e| Trouble::NotSent(self.says(&e.to_string())))?;
        let asked = tokio::time::timeout(REQUEST_TIMEOUT, self.daemon.request::<Value>(request)).await;
        let answer = match asked {
            Ok(Ok(answer)) => answer,
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => {
                return Err(Trouble::Refused(self.says(&status.message)));
            }
            // Nothing of the action itself was sent yet, whatever went wrong here.
            Ok(Err(error)) => {
                return Err(match self.trouble(error) {
                    Trouble::Unknown(why) => Trouble::NotSent(why),
                    Trouble::Conflict => Trouble::NotSent(Redacted::literal("the token request met a conflict")),
                    other => other,
                });
            }
            Err(_) => return Err(Trouble::NotSent(Redacted::literal("no token in time"))),
        };
        let token = answer["status"]["token"].as_str().filter(|token| !token.is_empty());
        let token =
            token.ok_or_else(|| Trouble::NotSent(Redacted::literal("the token request was answered without one")))?;
        Ok(SecretString::from(token))
    }

    fn trouble(&self, error: kube::Error) -> Trouble {
        match error {
            // What is gone is looked for again, as what has changed is.
            kube::Error::Api(status) if matches!(status.code, 404 | 409) => Trouble::Conflict,
            // 429, 502-504 and 500 come also after the work was done (a proxy's timeout, an etcd error).
            kube::Error::Api(status) if is_budget(&status) => Trouble::Held(self.says(&status.message)),
            kube::Error::Api(status) if status.code == 429 => Trouble::NotSent(self.says(&status.message)),
            kube::Error::Api(status) if status.code >= 500 => Trouble::Unknown(self.says(&status.message)),
            kube::Error::Api(status) => Trouble::Refused(self.says(&status.message)),
            other => Trouble::Unknown(self.says(&other.to_string())),
        }
    }

    fn says(&self, text: &str) -> Redacted {
        self.redactor.redact(text).one_line().cut(300)
    }
}

/// Whether a disruption budget said no: the API server's 429 is also its word for too many requests.
fn is_budget(status: &kube::core::Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 429 && causes.into_iter().any(|cause| cause.reason == "DisruptionBudget")
}

/// The path of a kind's objects, beside `object`.
fn objects(kind: Kind, object: &ObjectRef) -> String {
    let (group, version, plural) = kind.resource();
    let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
    match &object.namespace {
        Some(namespace) => format!("{root}/namespaces/{namespace}/{plural}"),
        None => format!("{root}/{plural}"),
    }
}
