//! The reads behind the tools of `k8s-workloads`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::clock::words;
use crate::mcp::answer::{Answer, ToolError};
use crate::mcp::arguments;
use crate::mcp::arguments::{Events, OneObject, OneWorkload, Workloads};
use crate::mcp::k8s_workloads::lines;
use crate::mcp::near;
use crate::mcp::revisions;
use crate::mcp::revisions::HERE;
use crate::model::scene::{Event, Pod};
use crate::model::{Kind, ObjectRef, Source};
use crate::observe::Reader;
use crate::observe::Selector;
use crate::observe::changes;
use crate::observe::json;
use crate::observe::tables;
use crate::observe::typed::Typed;
use crate::observe::typed::workload::selector;
use crate::redact::{Redacted, Redactor};
use crate::text;

/// Workloads of one list: a screen or two.
const WORKLOADS_MAX: usize = 60;
/// Pods that are read of one workload, and those that get a line.
const PODS_READ_MAX: usize = 200;
const PODS_SHOWN_MAX: usize = 15;
/// Pods in trouble whose whole state stands as evidence: the others say the same.
const PODS_QUOTED_MAX: usize = 3;
/// Events that are read of one namespace, and those that are shown.
const EVENTS_READ_MAX: usize = 2_000;
const EVENTS_SHOWN_MAX: usize = 40;
/// ConfigMaps of one workload that are looked at.
const CONFIG_MAPS_MAX: usize = 10;

const WORKLOADS: [Kind; 5] = [Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet, Kind::Job, Kind::CronJob];

pub(super) async fn list_workloads(reader: &Reader, ask: &Workloads) -> Result<Answer, ToolError> {
    let namespace = arguments::namespace(&ask.namespace)?;
    let wanted = ask.text.as_deref().map(str::trim).unwrap_or_default();
    let mut workloads: Vec<Line> = Vec::new();
    let mut remarks = Vec::new();
    let mut failed = None;
    // One kind after the other, and of each object only its line: lists of many megabytes are never held.
    for kind in WORKLOADS {
        match lines_of(reader, kind, &namespace, wanted, &mut workloads).await {
            Ok(more) => remarks.extend(more.then(|| text!("there are more {}s than were read", kind))),
            Err(error) => {
                remarks.push(text!("{}s could not be read: {}", kind, error.reason()));
                failed = Some(error);
            }
        }
    }
    if workloads.is_empty() {
        if let Some(error) = failed {
            return Err(error.into());
        }
        if reader.get(&namespace).await?.is_none() {
            return Err(near::not_found(reader, &namespace).await);
        }
        let such = if wanted.is_empty() { "" } else { " with this in its name" };
        remarks.push(text!("there is no workload{}", such));
    }
    workloads.sort_by(|a, b| (!a.in_trouble, &a.object).cmp(&(!b.in_trouble, &b.object)));
    let all = workloads.len();
    let rows = workloads.into_iter().take(WORKLOADS_MAX).map(|line| line.row);
    let mut shown = vec![tables::table(&lines::COLUMNS, rows)];
    shown.extend(remarks);
    let heading = match all > WORKLOADS_MAX {
        true => text!(
            "Workloads, {} of {}, those in trouble first ({} more: give `text`)",
            WORKLOADS_MAX,
            all,
            all - WORKLOADS_MAX
        ),
        false => "Workloads".into(),
    };
    let mut answer = Answer::new(namespace_text(&namespace));
    answer.say(heading, &shown);
    Ok(answer)
}

/// What a list holds of one workload.
struct Line {
    object: ObjectRef,
    in_trouble: bool,
    row: Vec<Redacted>,
}

async fn lines_of(
    reader: &Reader,
    kind: Kind,
    namespace: &ObjectRef,
    wanted: &str,
    lines: &mut Vec<Line>,
) -> Result<bool, crate::observe::ReadError> {
    let typed = Typed { redactor: reader.redactor() };
    let take = |value: Value| {
        let Some(workload) = typed.workload(&value, HERE) else { return };
        if workload.object.name().contains(wanted) {
            let (in_trouble, row) = (lines::in_trouble(&workload), lines::workload(&workload));
            lines.push(Line { object: workload.object, in_trouble, row });
        }
    };
    reader.each(kind, Some(namespace.name()), &Selector::all(), take).await
}

fn namespace_text(namespace: &ObjectRef) -> Redacted {
    text!("namespace {}", namespace.name)
}

/// The workload's whole object, or the error that names near ones.
pub(crate) async fn workload_value(reader: &Reader, object: &ObjectRef) -> Result<Value, ToolError> {
    match reader.get(object).await? {
        Some(value) => Ok(value),
        None => Err(near::not_found(reader, object).await),
    }
}

pub(super) async fn get_workload(reader: &Reader, ask: &OneWorkload) -> Result<Answer, ToolError> {
    let object = arguments::workload(reader.redactor(), ask)?;
    let value = workload_value(reader, &object).await?;
    let now = reader.clock().now();
    let typed = Typed { redactor: reader.redactor() };
    let mut answer = Answer::new(text!("{}", object));
    let mut state: Vec<Redacted> = Vec::new();
    if let Some(workload) = typed.workload(&value, HERE) {
        state.push(tables::table(&lines::COLUMNS, [lines::workload(&workload)]));
        state.extend(workload.conditions.iter().map(lines::condition));
    }
    let pods = pods(reader, &value).await;
    let mut quoted = Vec::new();
    match &pods {
        Ok(values) => {
            let mut pods: Vec<(Pod, &Value)> =
                values.iter().filter_map(|value| Some((typed.pod(value, None, HERE)?, value))).collect();
            pods.sort_by_key(|(pod, _)| (pod.ready, std::cmp::Reverse(pod.created_at)));
            let rows = pods.iter().map(|(pod, _)| tables::pod_row(pod, now)).collect();
            state.push(tables::table_of(&tables::POD_COLUMNS, rows, PODS_SHOWN_MAX));
            let trouble = pods.into_iter().filter(|(pod, _)| !pod.ready).take(PODS_QUOTED_MAX);
            quoted.extend(trouble.map(|(pod, value)| (pod.object, value)));
        }
        Err(error) => state.push(text!("pods could not be read: {}", error.reason())),
    }
    answer.say("State".into(), &state);
    for (pod, value) in quoted {
        answer.quote(text!("{}, its status", pod), Source::Object { object: pod.clone() }, status(reader, value));
    }
    answer.quote(text!("{}, its status", object), Source::Object { object: object.clone() }, status(reader, &value));
    Ok(answer)
}

/// The pods that a workload selects.
async fn pods(reader: &Reader, workload: &Value) -> Result<Vec<Value>, crate::observe::ReadError> {
    let namespace = json::text(workload, "/metadata/namespace");
    match selector(workload) {
        Some(labels) => reader.list(Kind::Pod, Some(namespace), &Selector::labels(labels).at_most(PODS_READ_MAX)).await,
        None => Ok(Vec::new()),
    }
}

/// An object's status alone, as it stands in the object.
fn status(reader: &Reader, value: &Value) -> Redacted {
    let status = json!({"kind": value.get("kind"), "status": value.get("status")});
    json::evidence(&status, reader.redactor())
}

pub(super) async fn get_object(reader: &Reader, ask: &OneObject) -> Result<Answer, ToolError> {
    let object = arguments::object(reader.redactor(), &ask.kind, ask.namespace.as_deref(), &ask.name)?;
    let value = workload_value(reader, &object).await?;
    let mut answer = Answer::new(text!("{}", object));
    let (heading, part) = part(&object, &value, ask.part.as_deref(), reader.redactor())?;
    answer.quote(heading, Source::Object { object: object.clone() }, json::evidence(&part, reader.redactor()));
    Ok(answer)
}

/// The part of an object that is asked for, and its heading; a part that is not there is answered with those that are.
fn part(
    object: &ObjectRef,
    value: &Value,
    pointer: Option<&str>,
    redactor: &Redactor,
) -> Result<(Redacted, Value), ToolError> {
    let Some(pointer) = pointer.filter(|pointer| !pointer.is_empty() && *pointer != "/") else {
        return Ok((text!("{}", object), value.clone()));
    };
    // Values of keys that are masked by name must stay under that name, and a ConfigMap's are not read at all.
    let inside = matches!(pointer.split('/').nth(1), Some("spec" | "status" | "metadata"));
    match value.pointer(pointer).filter(|part| inside && (part.is_object() || part.is_array())) {
        Some(part) => {
            let shown = redactor.redact(pointer).one_line().cut(80);
            let key = pointer.rsplit('/').next().unwrap_or_default();
            Ok((text!("{}, its {}", object, shown), json!({ key: part })))
        }
        None => Err(ToolError::Refused(text!(
            "{} has no such object or list within /metadata, /spec or /status; give one such as /status/conditions",
            object
        ))),
    }
}

pub(super) async fn list_events(reader: &Reader, ask: &Events) -> Result<Answer, ToolError> {
    // Models give empty texts for what they leave out.
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let object = match (given(&ask.kind), given(&ask.name)) {
        (Some(kind), Some(name)) => Some(arguments::object(reader.redactor(), &kind, ask.namespace.as_deref(), &name)?),
        (None, None) => None,
        _ => return Err(ToolError::Refused("give kind and name together, or neither".into())),
    };
    let all = Selector::all().at_most(EVENTS_READ_MAX);
    let values = match &object {
        Some(object) if object.namespace.is_none() => {
            let fields = format!("involvedObject.kind={},involvedObject.name={}", object.kind, object.name);
            reader.list(Kind::Event, None, &Selector { fields: Some(fields), ..all }).await?
        }
        _ => {
            let namespace = arguments::namespace(ask.namespace.as_deref().unwrap_or_default())?;
            reader.list(Kind::Event, Some(namespace.name()), &all).await?
        }
    };
    let asked = match (&object, ask.namespace.as_deref().map(arguments::namespace)) {
        (Some(object), _) => text!("events of {}", object),
        (None, Some(Ok(namespace))) => text!("events of {}", namespace_text(&namespace)),
        (None, _) => "events".into(),
    };
    let typed = Typed { redactor: reader.redactor() };
    let mut events: Vec<Event> = values.iter().filter_map(|value| typed.event(value, HERE)).collect();
    if let Some(object) = &object {
        let names = family(reader, object).await?;
        events.retain(|event| names.holds(&event.object));
    }
    events.sort_by_key(|event| std::cmp::Reverse(event.last_at));
    let now = reader.clock().now();
    let mut answer = Answer::new(asked);
    for event in events.iter().take(EVENTS_SHOWN_MAX) {
        let source = Source::Event { object: event.object.clone(), reason: event.reason.clone() };
        answer.quote_unshown(source, event.message.clone());
    }
    if events.is_empty() {
        answer.say("Events".into(), &["there is none (events are kept for an hour)".into()]);
    } else {
        let rows = events.iter().map(|event| tables::event_row(event, now)).collect();
        answer.show("Events".into(), tables::table_of(&tables::EVENT_COLUMNS, rows, EVENTS_SHOWN_MAX));
    }
    Ok(answer)
}

/// An object, and what it owns down to the pods.
struct Family {
    object: ObjectRef,
    pods: BTreeSet<String>,
    /// ReplicaSets and Jobs: also what makes pods that are gone.
    makers: BTreeSet<String>,
}

impl Family {
    fn holds(&self, object: &ObjectRef) -> bool {
        let of_maker = |name: &str| name.rsplit_once('-').is_some_and(|(maker, _)| self.makers.contains(maker));
        *object == self.object
            || match object.kind {
                Kind::Pod => self.pods.contains(object.name()) || of_maker(object.name()),
                Kind::ReplicaSet | Kind::Job => self.makers.contains(object.name()),
                _ => false,
            }
    }
}

async fn family(reader: &Reader, object: &ObjectRef) -> Result<Family, ToolError> {
    let mut family = Family { object: object.clone(), pods: BTreeSet::new(), makers: BTreeSet::new() };
    if !object.kind.is_workload() && object.kind != Kind::ReplicaSet {
        return Ok(family);
    }
    // Events outlive their object: without it they are found by its own name alone.
    let Some(value) = reader.get(object).await? else { return Ok(family) };
    let name = |value: &Value| json::text(value, "/metadata/name").to_owned();
    family.pods.extend(pods(reader, &value).await?.iter().map(name));
    match object.kind {
        Kind::Deployment => {
            let revisions = revisions::of(reader, &value).await?;
            family.makers.extend(revisions.into_iter().map(|revision| revision.object.name().to_owned()));
        }
        Kind::CronJob => {
            let uid = json::text(&value, "/metadata/uid");
            let jobs = reader.list(Kind::Job, Some(object.namespace()), &Selector::all()).await?;
            let own = |job: &&Value| json::controller(job).is_some_and(|(_, _, owner)| owner == uid);
            family.makers.extend(jobs.iter().filter(own).map(name));
        }
        _ => {
            family.makers.insert(object.name().to_owned());
        }
    }
    Ok(family)
}

pub(super) async fn what_changed(reader: &Reader, ask: &OneWorkload) -> Result<Answer, ToolError> {
    let object = arguments::workload(reader.redactor(), ask)?;
    let value = workload_value(reader, &object).await?;
    let now = reader.clock().now();
    let typed = Typed { redactor: reader.redactor() };
    let revisions = revisions::of(reader, &value).await?;
    let changes = changes::of_revisions(&value, &revisions, typed, HERE);
    let mut answer = Answer::new(text!("{}", object));
    let mut state: Vec<Redacted> = Vec::new();
    for change in &changes {
        let by = change.by.as_ref().map(|by| text!(" by {}", by)).unwrap_or_default();
        let to = change.to_revision.unwrap_or_default();
        state.push(text!("revision {}: {}{}", to, ago(now, change.changed_at), by));
    }
    if changes.is_empty() {
        state.push("there is no other revision to compare with".into());
    }
    if let Some(workload) = typed.workload(&value, HERE) {
        let names = workload.template.config_maps();
        let namespace = object.namespace();
        for (name, optional) in names.iter().take(CONFIG_MAPS_MAX) {
            let Some(map) = ObjectRef::new(Kind::ConfigMap, Some(namespace), name) else { continue };
            state.push(match reader.get(&map).await {
                Ok(Some(value)) => config_map(&map, &value, typed, now),
                Ok(None) if *optional => text!("{} does not exist (it is optional)", map),
                Ok(None) => text!("{} does not exist", map),
                Err(error) => text!("{} could not be read: {}", map, error.reason()),
            });
        }
    }
    answer.say("Changes".into(), &state);
    if !changes.is_empty() {
        answer.quote("Diff".into(), Source::Rollout { object: object.clone() }, changes::as_text(&changes));
    }
    Ok(answer)
}

/// How long ago, in words of ours.
fn ago(now: jiff::Timestamp, at: jiff::Timestamp) -> Redacted {
    Redactor::default().redact(&format!("{} ago", words(now.duration_since(at).as_secs())))
}

fn config_map(map: &ObjectRef, value: &Value, typed: Typed<'_>, now: jiff::Timestamp) -> Redacted {
    match json::spec_written(value) {
        Some((at, by)) => text!("{}: written {} by {}", map, ago(now, at), typed.redactor.redact(by)),
        None => text!("{}: made {}", map, ago(now, json::created(value))),
    }
}

pub(super) async fn rollout_history(reader: &Reader, ask: &OneWorkload) -> Result<Answer, ToolError> {
    let object = arguments::workload(reader.redactor(), ask)?;
    let value = workload_value(reader, &object).await?;
    let now = reader.clock().now();
    let revisions = revisions::of(reader, &value).await?;
    let mut answer = Answer::new(text!("{}", object));
    let rows = revisions.iter().map(|revision| tables::revision_row(revision, now));
    let shown = match revisions.is_empty() {
        true => text!("no revision of {} is kept", object),
        false => tables::table(&tables::REVISION_COLUMNS, rows),
    };
    answer.say("Revisions".into(), &[shown]);
    Ok(answer)
}
