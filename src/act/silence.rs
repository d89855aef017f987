//! Silences: the one change outside of the cluster, made in Alertmanager for exactly the labels of one alert.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::Client;
use serde_json::{Value, json};

use crate::act::account::WRITES_OFF;
use crate::act::apply::{Applied, Done, Recovered};
use crate::act::{Actor, Refusal, Sight, change};
use crate::model::scene::DiffLine;
use crate::model::silence::{silence_comment, silenced_in};
use crate::model::{Action, Approval, Bound, Preview, Raised};
use crate::observe::alertmanager::{Alertmanager, Held, Silence, matchers};
use crate::observe::web::few_words;
use crate::text;

/// One request: Alertmanager answers within milliseconds.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// A silence that was made is looked for so often, at this distance: its replicas tell each other within a second.
const LOOKS: u32 = 3;
const LOOKS_APART: Duration = Duration::from_millis(500);

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

    /// The silence with this id, once it is listed.
    async fn listed(&self, id: &str) -> Option<Silence> {
        for look in 0..LOOKS {
            if look > 0 {
                tokio::time::sleep(LOOKS_APART).await;
            }
            let standing = self.alertmanager.silences().await.unwrap_or_default();
            if let Some(made) = standing.into_iter().find(|one| one.id == id) {
                return Some(made);
            }
        }
        None
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

/// The body that makes the silence of an approval, in the name of those who said yes.
pub fn body(action: &Action, approval: &Approval, at: Timestamp) -> Value {
    let Action::SilenceAlert { alert, hours, .. } = action else { return Value::Null };
    let people: Vec<&str> =
        approval.presses.iter().filter(|press| press.yes).map(|press| press.user.as_str()).collect();
    let ends = at.checked_add(SignedDuration::from_hours(i64::from(*hours))).unwrap_or(at);
    json!({"matchers": matchers(alert), "startsAt": at.to_string(), "endsAt": ends.to_string(),
        "createdBy": people.join(" and "), "comment": silence_comment(&approval.id, &approval.incident, alert)})
}

impl Actor {
    fn silencer(&self) -> Result<&Silencer, Refusal> {
        let silencer = self.0.silencer.as_ref();
        silencer.ok_or_else(|| Refusal::Refused("no Alertmanager is configured (alertmanager.url)".into()))
    }

    /// What is shown before a silence is asked for: what it matches, and what of that fires now.
    pub(super) async fn preview_silence(&self, action: &Action) -> Result<(Preview, Bound), Refusal> {
        let line = |before, after| DiffLine { container: None, field: "silence".into(), before, after };
        let shown =
            |diff, then| Preview { diff, then, note: Some("Alertmanager knows none".into()), ..Preview::default() };
        let Action::SilenceAlert { alert, .. } = action else {
            let bound = self.look_at_alert(action).await?.bound;
            let Action::ExpireSilence { silence, .. } = action else { return Ok((shown(Vec::new(), None), bound)) };
            return Ok((shown(vec![line(Some(text!("{}", silence)), None)], None), bound));
        };
        let from = &self.silencer()?.alertmanager;
        let held = from.alerts().await?;
        let covered: Vec<&Held> = held.iter().filter(|one| alert.covers(&one.labels)).collect();
        if let Some(other) = covered.iter().find(|one| one.fingerprint != alert.fingerprint.as_str()) {
            let other = from.redactor().redact(&other.fingerprint).one_line().cut(40);
            return Err(Refusal::Refused(text!("it would silence another alert too ({})", other)));
        }
        let alike = Raised { without: BTreeSet::new(), ..Raised::clone(alert) };
        let spared = held.iter().filter(|one| alike.covers(&one.labels)).count() - covered.len();
        let then = match spared {
            0 => text!("{} alert is silenced", covered.len()),
            _ => text!("{} alert is silenced, {} with its labels and more are heard as before", covered.len(), spared),
        };
        let labels = alert.labels.iter().map(|(name, value)| line(None, Some(text!("{}={}", name, value))));
        let without = alert.without.iter().map(|name| line(None, Some(text!("no {}", name))));
        Ok((shown(labels.chain(without).collect(), Some(then)), covered_now(action, alert, &held)?))
    }

    /// Reads the alert that a silence would cover, or the silence that would end.
    pub(super) async fn look_at_alert(&self, action: &Action) -> Result<Sight, Refusal> {
        let from = &self.silencer()?.alertmanager;
        let bound = match action {
            Action::SilenceAlert { alert, .. } => covered_now(action, alert, &from.alerts().await?)?,
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
            Ok(_) => return Applied::Failed(WRITES_OFF.into()),
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
        let Some(id) = answer["silenceID"].as_str() else {
            return Applied::Done(Done { generation: 0, left: None });
        };
        // What is there now is what an Undo may end. Unread, it is made all the same: looked for by its comment where a
        // replica has not heard of it, it would be made twice.
        let left = silencer.listed(id).await.map(|made| bound(action, &made));
        Applied::Done(Done { generation: 0, left })
    }

    /// Reads what became of a silence whose answer was lost: it is found by the approval in its comment.
    pub(super) async fn recover_silence(&self, action: &Action, approval: &Approval) -> Result<Recovered, Refusal> {
        let all = self.silencer()?.alertmanager.all_silences().await?;
        let done = |left| Recovered::Done(Done { generation: 0, left });
        Ok(match action {
            Action::SilenceAlert { alert, .. } => {
                let matchers = matchers(alert);
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

/// The alert as it stands: what silences it, and which alerts this silence would cover.
fn covered_now(action: &Action, alert: &Raised, held: &[Held]) -> Result<Bound, Refusal> {
    let print = alert.fingerprint.as_str();
    let fires = held.iter().find(|held| held.fingerprint == print);
    let fires = fires.ok_or_else(|| Refusal::Refused(text!("{} no longer fires", alert.name)))?;
    let covered = held.iter().filter(|one| alert.covers(&one.labels));
    let covered: BTreeSet<&str> = covered.map(|one| one.fingerprint.as_str()).collect();
    let fields = [("silences", json!(fires.silenced_by)), ("covers", json!(covered))];
    Ok(Bound { action: action.hash(), uid: print.to_owned(), fields: hashed(fields) })
}

/// A silence as it stands: its end and its matchers.
fn bound(action: &Action, silence: &Silence) -> Bound {
    let fields = [("ends", json!(silence.ends_at)), ("matchers", json!(silence.matchers))];
    Bound { action: action.hash(), uid: silence.id.clone(), fields: hashed(fields) }
}

fn hashed(fields: [(&str, Value); 2]) -> BTreeMap<String, String> {
    fields.map(|(name, value)| (name.to_owned(), change::hash(&value))).into()
}
