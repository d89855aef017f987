//! The tool server `alertmanager`: it checks what a silence would cover by reading, and proposes; it never writes.

use std::collections::{BTreeMap, BTreeSet};

use rmcp::ErrorData;
use rmcp::ServerHandler;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolResult, ServerConfig};
use rmcp::{tool, tool_handler, tool_router};

use crate::mcp::answer::ToolError;
use crate::mcp::arguments::{EndSilence, Silence};
use crate::mcp::checked::{Checked, refuse};
use crate::mcp::{arguments, checked, info, near};
use crate::model::silence::silenced_in;
use crate::model::{Action, Name, ObjectRef, Raised};
use crate::observe::alertmanager::Held;
use crate::observe::{Alertmanager, Reader};
use crate::redact::{Redacted, Redactor, is_secret_key};
use crate::text;

/// The server's name.
pub const SERVER: &str = "alertmanager";

/// Labels of one alert; Prometheus' own alerts have about ten.
const LABELS_MAX: usize = 64;
/// Alerts of one name that a refusal tells apart.
const NAMED_MAX: usize = 5;

/// The server.
#[derive(Clone)]
pub struct Silences {
    reader: Reader,
    alertmanager: Alertmanager,
    tool_router: ToolRouter<Self>,
}

#[tool_router]
impl Silences {
    /// A server over this Alertmanager; the reader tells whether the alert's object is there.
    pub fn new(reader: Reader, alertmanager: Alertmanager) -> Self {
        Self { reader, alertmanager, tool_router: Self::tool_router() }
    }

    #[tool(
        description = "Ask a person to silence one alert of an incident for some hours.",
        annotations(
            read_only_hint = false,
            destructive_hint = false,
            idempotent_hint = false,
            open_world_hint = false
        )
    )]
    async fn silence_alert(&self, Parameters(ask): Parameters<Silence>) -> Result<CallToolResult, ErrorData> {
        Ok(checked::answer(self.silence(&ask).await))
    }

    #[tool(
        description = "Ask a person to end a silence that silence_alert made.",
        annotations(read_only_hint = false, destructive_hint = false, idempotent_hint = true, open_world_hint = false)
    )]
    async fn expire_silence(&self, Parameters(ask): Parameters<EndSilence>) -> Result<CallToolResult, ErrorData> {
        Ok(checked::answer(self.expire(&ask).await))
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Silences {
    fn get_info(&self) -> ServerConfig {
        info(SERVER)
    }
}

impl Silences {
    async fn silence(&self, ask: &Silence) -> Result<Checked, ToolError> {
        let object = arguments::object(self.reader.redactor(), &ask.kind, ask.namespace.as_deref(), &ask.name)?;
        let value = self.reader.get(&object).await?;
        let Some(value) = value else { return Err(near::not_found(&self.reader, &object).await) };
        let held = self.alertmanager.alerts().await?;
        let alert = self.one(&held, &object, &ask.alert)?;
        if !alert.silenced_by.is_empty() {
            return refuse("a silence covers it already".into());
        }
        if !alert.active {
            return refuse("nobody is notified of it as it is: another alert inhibits it".into());
        }
        let alert = Box::new(raised(alert, &held, self.alertmanager.redactor())?);
        let place = alert.labels.iter().find(|(name, _)| name.as_str() == self.alertmanager.options().namespace_label);
        let also = also(&object, place.map(|(_, value)| value.as_str()))?;
        let labels = checked::labels(&self.reader, &object, &value);
        let action = Action::SilenceAlert { object, alert, hours: ask.hours };
        Ok(Checked::Proposal { action, labels, also })
    }

    /// The one alert that is meant: by fingerprint, or by its name among those of the object's namespace.
    fn one<'a>(&self, held: &'a [Held], object: &ObjectRef, named: &str) -> Result<&'a Held, ToolError> {
        let label = &self.alertmanager.options().namespace_label;
        let here = |alert: &&Held| {
            let namespace = object.namespace.as_ref().map(Name::as_str);
            namespace.is_none() || alert.labels.get(label).map(String::as_str) == namespace
        };
        if let Some(alert) = held.iter().find(|alert| alert.fingerprint == named) {
            // The people of the object's namespace answer for it; those of another are to be asked for theirs.
            return match here(&alert) {
                true => Ok(alert),
                false => refuse(text!("that alert is not of the namespace of {}", object)),
            };
        }
        let has_name = |alert: &&Held| alert.labels.get("alertname").is_some_and(|name| name == named);
        let found: Vec<&Held> = held.iter().filter(has_name).filter(here).collect();
        let redactor = self.alertmanager.redactor();
        match found[..] {
            [one] => Ok(one),
            [] => refuse(text!("Alertmanager holds no alert {} of {}", redactor.redact(named).cut(80), object)),
            _ => {
                let prints = found.iter().take(NAMED_MAX).map(|alert| redactor.redact(&alert.fingerprint).cut(40));
                let prints = Redacted::join(&prints.collect::<Vec<_>>(), ", ");
                refuse(text!("{} alerts have this name: give one by its fingerprint ({})", found.len(), prints))
            }
        }
    }

    async fn expire(&self, ask: &EndSilence) -> Result<Checked, ToolError> {
        let object = arguments::object(self.reader.redactor(), &ask.kind, ask.namespace.as_deref(), &ask.name)?;
        let standing = self.alertmanager.silences().await?;
        let ours = standing.iter().filter_map(|silence| Some((silence, silenced_in(&silence.comment)?)));
        let mut meant = ours.filter(|(_, (_, fingerprint))| fingerprint.as_str() == ask.alert);
        let Some((silence, (made_by, _))) = meant.next() else {
            return refuse("no silence of firstlook's covers it now".into());
        };
        let Some(id) = Name::parse(&silence.id) else { return refuse("that silence has no id".into()) };
        let matched = |label: &str| {
            let matcher = silence.matchers.iter().find(|one| one["name"] == label)?;
            matcher["value"].as_str().filter(|value| !value.is_empty())
        };
        let name = matched("alertname").unwrap_or("the alert");
        let alert = self.alertmanager.redactor().redact(name).one_line().cut(80);
        let also = also(&object, matched(&self.alertmanager.options().namespace_label))?;
        let action = Action::ExpireSilence { object, alert, silence: id, made_by };
        Ok(Checked::Proposal { action, labels: Vec::new(), also })
    }
}

/// The namespace that an alert's label names, where it is not the object's: its people have their say too.
fn also(object: &ObjectRef, label: Option<&str>) -> Result<Vec<Name>, ToolError> {
    match label {
        Some(namespace) if object.namespace.as_ref().map(Name::as_str) != Some(namespace) => {
            match Name::parse(namespace) {
                Some(name) => Ok(vec![name]),
                None => refuse("its namespace label names no namespace".into()),
            }
        }
        _ => Ok(Vec::new()),
    }
}

/// The alert with each of its labels, and without those that tell it from others which have all of these too. A silence
/// must match exactly: what would have to be masked cannot be told exactly.
fn raised(alert: &Held, held: &[Held], redactor: &Redactor) -> Result<Raised, ToolError> {
    let labels: BTreeMap<_, _> = (alert.labels.iter().filter(|(_, value)| !value.is_empty()))
        .filter_map(|(name, value)| Some((Name::parse(name)?, redactor.redact(value))))
        .collect();
    let whole = labels.iter().all(|(name, value)| {
        alert.labels.get(name.as_str()).is_some_and(|raw| raw == value.as_str()) && !is_secret_key(name.as_str())
    });
    if labels.is_empty() || labels.len() > LABELS_MAX || labels.len() != alert.labels.len() || !whole {
        return refuse("its labels cannot be matched exactly: silence it in Alertmanager".into());
    }
    let Some(fingerprint) = Name::parse(&alert.fingerprint) else { return refuse("it has no fingerprint".into()) };
    let name = redactor.redact(alert.labels.get("alertname").map_or("unnamed alert", String::as_str));
    let mut raised = Raised { name: name.one_line().cut(80), fingerprint, labels, without: BTreeSet::new() };
    let mut alike = Vec::new();
    let mut others: Vec<&Held> = held.iter().filter(|other| other.fingerprint != alert.fingerprint).collect();
    // The same alerts always lead to the same silence.
    others.sort_by(|a, b| a.fingerprint.cmp(&b.fingerprint));
    for other in others {
        if !raised.covers(&other.labels) {
            continue;
        }
        let more = other.labels.iter().filter(|(name, value)| !value.is_empty() && !alert.labels.contains_key(*name));
        match more.filter_map(|(name, _)| Name::parse(name)).next() {
            Some(name) if raised.labels.len() + raised.without.len() < LABELS_MAX => drop(raised.without.insert(name)),
            _ => alike.push(redactor.redact(&other.fingerprint).one_line().cut(40)),
        }
    }
    if !alike.is_empty() {
        let named = Redacted::join(&alike.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>(), ", ");
        return refuse(text!(
            "it would silence {} more as well, which no label tells apart ({}): silence it in Alertmanager",
            alike.len(),
            named
        ));
    }
    Ok(raised)
}
