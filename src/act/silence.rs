//! Silences: the one change outside of the cluster, made in Alertmanager for exactly the labels of one alert.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::Client;
use serde_json::{Value, json};

use crate::act::apply::{Applied, Done, Recovered};
use crate::act::{Actor, Refusal, Sight, change};
use crate::model::scene::DiffLine;
use crate::model::silence::{silence_comment, silenced_in};
use crate::model::{Action, Approval, Bound, Preview};
use crate::observe::alertmanager::{Alertmanager, Silence, matcher};
use crate::observe::web::few_words;
use crate::text;

/// One request: Alertmanager answers within milliseconds.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// The way to Alertmanager. Its API knows no rehearsal and no guard by version.
pub struct Silencer {
    alertmanager: Alertmanager,
    http: Client,
}

impl Silencer {
    /// A way to write where `alertmanager` reads.
    ///
    /// # Errors
    /// When the client cannot be built.
    pub fn new(alertmanager: Alertmanager) -> anyhow::Result<Self> {
        let http = alertmanager.options().web.client()?.timeout(REQUEST_TIMEOUT).build()?;
        Ok(Self { http, alertmanager })
    }

    /// Sends one request; what it answered, or what that means.
    async fn send(&self, method: reqwest::Method, path: &str, body: Option<&Value>) -> Result<Value, Applied> {
        let web = &self.alertmanager.options().web;
        let mut request = web.with_login(self.http.request(method, format!("{}{path}", web.url)));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) if error.is_connect() => return Err(Applied::NotSent("Alertmanager cannot be reached".into())),
            Err(_) => return Err(Applied::Unknown("Alertmanager did not answer".into())),
        };
        let status = answer.status().as_u16();
        let body = few_words(answer).await;
        let says = || self.alertmanager.redactor().redact(&body).one_line().cut(300);
        match status {
            200..=299 => Ok(serde_json::from_str(&body).unwrap_or_default()),
            500.. => Err(Applied::Unknown(text!("Alertmanager answered {}", status))),
            _ => Err(Applied::Failed(text!("Alertmanager refused ({}): {}", status, says()))),
        }
    }
}

/// What is shown before a silence is asked for: the labels that it matches.
pub(super) fn preview(action: &Action) -> Preview {
    let line = |before, after| DiffLine { container: None, field: "silence".into(), before, after };
    let diff = match action {
        Action::SilenceAlert { alert, .. } => {
            let labels = alert.labels.iter();
            labels.map(|(name, value)| line(None, Some(text!("{}={}", name, value)))).collect()
        }
        Action::ExpireSilence { silence, .. } => vec![line(Some(text!("{}", silence)), None)],
        _ => Vec::new(),
    };
    Preview { diff, note: Some("Alertmanager knows none".into()), ..Preview::default() }
}

/// The body that makes the silence of an approval, in the name of those who said yes.
pub fn body(action: &Action, approval: &Approval, at: Timestamp) -> Value {
    let Action::SilenceAlert { alert, hours, .. } = action else { return Value::Null };
    let matchers = alert.labels.iter().map(|(name, value)| matcher(name.as_str(), value.as_str()));
    let people: Vec<&str> =
        approval.presses.iter().filter(|press| press.yes).map(|press| press.user.as_str()).collect();
    let ends = at.checked_add(SignedDuration::from_hours(i64::from(*hours))).unwrap_or(at);
    json!({"matchers": matchers.collect::<Vec<_>>(), "startsAt": at.to_string(), "endsAt": ends.to_string(),
        "createdBy": people.join(" and "), "comment": silence_comment(&approval.id, &approval.incident, alert)})
}

impl Actor {
    fn silencer(&self) -> Result<&Silencer, Refusal> {
        let silencer = self.0.silencer.as_ref();
        silencer.ok_or_else(|| Refusal::Refused("no Alertmanager is configured (alertmanager.url)".into()))
    }

    /// Reads the alert that a silence would cover, or the silence that would end.
    pub(super) async fn look_at_alert(&self, action: &Action) -> Result<Sight, Refusal> {
        let from = &self.silencer()?.alertmanager;
        let bound = match action {
            Action::SilenceAlert { alert, .. } => {
                let held = from.alerts().await?;
                let print = alert.fingerprint.as_str();
                let held = held.iter().find(|held| held.fingerprint == print);
                let held = held.ok_or_else(|| Refusal::Refused(text!("{} no longer fires", alert.name)))?;
                let silenced = change::hash(&json!(held.silenced_by));
                Bound {
                    action: action.hash(),
                    uid: print.to_owned(),
                    fields: BTreeMap::from([("silences".to_owned(), silenced)]),
                }
            }
            Action::ExpireSilence { silence, .. } => {
                let standing = from.silences().await?;
                let standing = standing.iter().find(|one| one.id == silence.as_str());
                bound(action, standing.ok_or_else(|| Refusal::Refused("the silence has ended".into()))?)
            }
            _ => return Err(Refusal::Refused("it is no silence".into())),
        };
        Ok(Sight { object: Value::Null, target: None, bound })
    }

    /// Makes the silence, or ends it.
    pub(super) async fn mute(&self, action: &Action, body: &Value) -> Applied {
        let silencer = match self.silencer() {
            Ok(silencer) if self.0.accounts.writes => silencer,
            Ok(_) => return Applied::Failed("writes are off (kubernetes.writes: false)".into()),
            Err(Refusal::Refused(why) | Refusal::Later(why)) => return Applied::Failed(why),
        };
        let sent = match action {
            Action::ExpireSilence { silence, .. } => {
                silencer.send(reqwest::Method::DELETE, &format!("/api/v2/silence/{silence}"), None).await
            }
            _ => silencer.send(reqwest::Method::POST, "/api/v2/silences", Some(body)).await,
        };
        let answer = match sent {
            Ok(answer) => answer,
            Err(applied) => return applied,
        };
        // What is there now is what an Undo may end.
        let standing = silencer.alertmanager.silences().await.unwrap_or_default();
        let made = standing.iter().find(|one| answer["silenceID"] == one.id.as_str());
        Applied::Done(Done { generation: 0, left: made.map(|made| bound(action, made)) })
    }

    /// Reads what became of a silence whose answer was lost: it is found by the approval in its comment.
    pub(super) async fn recover_silence(&self, action: &Action, approval: &Approval) -> Result<Recovered, Refusal> {
        let all = self.silencer()?.alertmanager.all_silences().await?;
        let done = |left| Recovered::Done(Done { generation: 0, left });
        Ok(match action {
            Action::SilenceAlert { alert, .. } => {
                let labels = alert.labels.iter();
                let matchers: Vec<Value> = labels.map(|(name, value)| matcher(name.as_str(), value.as_str())).collect();
                let made = |one: &&Silence| {
                    silenced_in(&one.comment).is_some_and(|(id, _)| id == approval.id) && one.matchers == matchers
                };
                let made: Vec<&Silence> = all.iter().filter(made).collect();
                match made.iter().find(|one| !one.ended) {
                    Some(made) => done(Some(bound(action, made))),
                    None if made.is_empty() => Recovered::NotDone,
                    // The one leave there was is spent.
                    None => Recovered::Unclear("it was made, and somebody has ended it since".into()),
                }
            }
            Action::ExpireSilence { silence, .. } if all.iter().any(|one| !one.ended && one.id == silence.as_str()) => {
                Recovered::NotDone
            }
            _ => done(None),
        })
    }
}

/// A silence as it stands: its end and its matchers.
fn bound(action: &Action, silence: &Silence) -> Bound {
    let fields = [("ends", json!(silence.ends_at)), ("matchers", json!(silence.matchers))];
    Bound {
        action: action.hash(),
        uid: silence.id.clone(),
        fields: fields.map(|(name, value)| (name.to_owned(), change::hash(&value))).into(),
    }
}
