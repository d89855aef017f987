//! The scene of a subject that is not there: what is said of it, and which names are near.

use tokio::time::{Instant, timeout_at};

use crate::model::scene::{At, Event, NotFound, Part, Scene, ScenePart};
use crate::model::{Kind, ObjectRef};
use crate::observe::ReadError;
use crate::observe::Reader;
use crate::observe::Selector;
use crate::observe::scene::named::near;
use crate::observe::scene::page::Page;
use crate::observe::scene::unread;
use crate::observe::typed::Typed;
use crate::redact::Redacted;
use crate::text;

/// Names that are compared.
const NAMES_MAX: u32 = 500;
/// Near names that are given to a person to choose from.
const NEAR_MAX: usize = 5;
/// Events about an object that is gone.
const EVENTS_MAX: usize = 50;

pub(super) async fn scene(reader: &Reader, subject: &ObjectRef, by: Instant) -> Result<Scene, ReadError> {
    if subject.kind == Kind::Alert {
        return Ok(unread(reader, subject, Redacted::literal("the alert names no object")));
    }
    let (not_found, events) =
        tokio::join!(timeout_at(by, not_found(reader, subject)), timeout_at(by, events(reader, subject)));
    let not_found = not_found.unwrap_or(Err(ReadError::TimedOut))?;
    let why = text!("{} does not exist", subject);
    let now = reader.clock().now();
    let mut scene = Scene::unread(subject.clone(), reader.clock().now(), &why);
    scene.not_found = Some(not_found);
    scene.workload = Part::Known(None);
    for part in ScenePart::ALL {
        let (page, missing) = match (part, &events) {
            (ScenePart::Events, Ok(Ok(found))) => {
                let mut page = Page::new(part);
                let mut found = found.clone();
                for event in &mut found {
                    event.at = page.event(event.object.clone(), event.reason.clone(), event.message.clone());
                }
                scene.events = Part::Known(found);
                (page, None)
            }
            _ => (Page::new(part), Some(why.clone())),
        };
        scene.evidence.push(page.finish(subject, now, missing.as_slice()));
    }
    Ok(scene)
}

/// Names that nearly match one that does not exist: its own kind's, or those of namespaces.
pub async fn not_found(reader: &Reader, subject: &ObjectRef) -> Result<NotFound, ReadError> {
    let Some(namespace) = &subject.namespace else {
        let names = reader.names(subject.kind, None, NAMES_MAX).await?;
        let close = names.iter().filter(|name| near(subject.name(), name.as_str()));
        let close = close.filter_map(|name| ObjectRef::new(subject.kind, None, name.as_str()));
        return Ok(NotFound { namespace_exists: true, near: close.take(NEAR_MAX).collect() });
    };
    let own = ObjectRef { kind: Kind::Namespace, namespace: None, name: namespace.clone() };
    // Where only some namespaces are read, none can be read itself; what is listed is there.
    let namespace_exists = reader.is_narrow() || reader.get(&own).await?.is_some();
    let mut found = Vec::new();
    if namespace_exists {
        let names = reader.names(subject.kind, Some(namespace.as_str()), NAMES_MAX).await?;
        let close = names.iter().filter(|name| near(subject.name(), name.as_str()));
        found.extend(close.filter_map(|name| ObjectRef::new(subject.kind, Some(namespace.as_str()), name.as_str())));
    } else {
        let names = reader.names(Kind::Namespace, None, NAMES_MAX).await?;
        for name in names.iter().filter(|name| near(namespace.as_str(), name.as_str())).take(NEAR_MAX) {
            // The same object there, if it is; else the namespace.
            let same = ObjectRef::new(subject.kind, Some(name.as_str()), subject.name());
            match same {
                Some(same) if reader.get(&same).await?.is_some() => found.push(same),
                _ => found.extend(ObjectRef::new(Kind::Namespace, None, name.as_str())),
            }
        }
    }
    found.truncate(NEAR_MAX);
    Ok(NotFound { namespace_exists, near: found })
}

async fn events(reader: &Reader, subject: &ObjectRef) -> Result<Vec<Event>, ReadError> {
    let ask = Selector::fields(format!("involvedObject.name={}", subject.name())).at_most(EVENTS_MAX);
    let namespace = subject.namespace.as_ref().map(|namespace| namespace.as_str());
    let listed = reader.list(Kind::Event, namespace, &ask).await?;
    let typed = Typed { redactor: reader.redactor() };
    let blank = At { evidence: ScenePart::Events.evidence(), segment: 0 };
    let mut events: Vec<Event> = listed.iter().filter_map(|value| typed.event(value, blank)).collect();
    events.retain(|event| event.object.kind == subject.kind);
    events.sort_by_key(|event| std::cmp::Reverse(event.last_at));
    Ok(events)
}
