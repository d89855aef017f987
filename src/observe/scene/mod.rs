//! The scene: everything that is worth knowing around a subject, read in parallel and in bounded time.

mod absent;
mod backing;
mod config;
mod elsewhere;
mod events;
mod figures;
pub(crate) mod limits;
mod logs;
mod named;
mod neighbours;
mod network;
mod nodes;
mod page;
mod pods;
mod policies;
mod revisions;
mod runs;
mod traffic;

pub use absent::not_found;

use std::future::Future;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::model::scene::{Change, Part, Scene, ScenePart, Template, Workload};
use crate::model::{Evidence, Kind, ObjectRef};
use crate::observe::ReadError;
use crate::observe::Reader;
use crate::observe::json;
use crate::observe::owner::Owners;
use crate::observe::scene::page::Page;
use crate::observe::typed::Typed;
use crate::redact::Redacted;

/// Changes that a scene holds.
const CHANGES_MAX: usize = 20;
/// Something that was written or made less than this many seconds ago (a day) counts as a change.
const RECENT_SECONDS: i64 = 86_400;

/// One value of a part with the evidence it was read from.
struct Told<T> {
    value: T,
    page: Page,
}

/// What every part's reader needs.
struct Look<'a> {
    reader: &'a Reader,
    typed: Typed<'a>,
    owners: Owners<'a>,
    subject: &'a ObjectRef,
    hints: &'a [ObjectRef],
    /// The subject, as the API server has it.
    root: Value,
    /// The template that the subject's pods are made from; empty for what makes none.
    template: Template,
    by: Instant,
}

/// Reads the scene around `subject`. `hints` are objects that the signals name beside it. What has not been read when
/// `deadline` has passed is `Part::Missing`, and its evidence too; evidence `e1` to `e11` is always there.
pub async fn read(reader: &Reader, subject: &ObjectRef, hints: &[ObjectRef], deadline: Duration) -> Scene {
    let read = attempt(reader, subject, hints, deadline).await;
    read.unwrap_or_else(|error| unread(reader, subject, error.reason()))
}

/// The same; an error where nothing of the subject itself can be read.
///
/// # Errors
/// By remedy.
pub async fn attempt(
    reader: &Reader,
    subject: &ObjectRef,
    hints: &[ObjectRef],
    deadline: Duration,
) -> Result<Scene, ReadError> {
    let by = Instant::now() + deadline;
    let root = timeout_at(by, reader.get(subject)).await.unwrap_or(Err(ReadError::TimedOut))?;
    let typed = Typed { redactor: reader.redactor() };
    let Some(root) = root else { return absent::scene(reader, subject, by).await };
    let template = match subject.kind {
        Kind::Pod => typed.template(&root),
        Kind::CronJob => typed.template(root.pointer("/spec/jobTemplate/spec/template").unwrap_or(&Value::Null)),
        _ => typed.template(root.pointer("/spec/template").unwrap_or(&Value::Null)),
    };
    let look = Look { reader, typed, owners: Owners::new(reader), subject, hints, root, template, by };
    Ok(look.scene().await)
}

impl Look<'_> {
    /// The subject itself, as it was read already.
    fn own(&self, evidence: &mut Vec<Evidence>) -> Part<Option<Workload>> {
        let mut page = Page::new(ScenePart::Subject);
        let at = page.object(&self.root, self.typed.redactor);
        evidence.push(self.finish(page, &[]));
        Part::Known(self.typed.workload(&self.root, at))
    }

    async fn scene(&self) -> Scene {
        let (pods, revisions, events, services, ingresses, policies, limits, around) = tokio::join!(
            self.part(self.pods()),
            self.part(self.revisions()),
            self.part(self.events()),
            self.part(self.services()),
            self.part(self.ingresses()),
            self.part(self.policies(self.namespace())),
            self.limits(),
            self.part(self.around()),
        );
        let pods = Shared::of(pods);
        let before = revisions.as_ref().ok().and_then(|(told, _)| told.value.get(1)).map(|before| &before.template);
        let (logs, nodes, claims, config) = tokio::join!(
            self.logs(&pods),
            self.part(self.nodes(&pods)),
            self.part(self.claims(&pods)),
            self.part(self.config(before)),
        );
        let lines = logs.as_ref().ok().map_or(&[][..], |told| told.value.as_slice());
        let said = backing::Said { logs: lines, refusals: self.refusals(&events) };
        let workloads = around.as_ref().map_or(&[][..], Vec::as_slice);
        let (network, neighbours, figures) = tokio::join!(
            self.network(services, (ingresses, policies), &said, &pods, workloads),
            self.part(self.neighbours(&pods, &around, &nodes)),
            self.figures(&nodes),
        );
        let events = self.told_events(events, &pods, &revisions, &limits);
        let mut scene = Scene::unread(self.subject.clone(), self.reader.clock().now(), &Redacted::default());
        let mut evidence = Vec::new();
        scene.workload = self.own(&mut evidence);
        let mut changes = Vec::new();
        scene.revisions = self.keep(ScenePart::Changes, split(revisions, &mut changes), &mut evidence);
        scene.pods = self.keep(ScenePart::Pods, pods.told, &mut evidence);
        scene.logs = self.keep(ScenePart::Logs, logs, &mut evidence);
        scene.events = self.keep(ScenePart::Events, events, &mut evidence);
        scene.nodes = self.keep(ScenePart::Nodes, figures::told(nodes, figures, &mut scene.figures), &mut evidence);
        evidence.push(self.finish(network.page, &network.missing));
        scene.services = network.services;
        scene.ingresses = network.ingresses;
        scene.traffic = network.traffic;
        scene.ingress_classes = network.classes;
        scene.config_maps = self.keep(ScenePart::Config, split(config, &mut changes), &mut evidence);
        (scene.claims, scene.volumes) = match self.keep(ScenePart::Storage, claims, &mut evidence) {
            Part::Known(storage) => (Part::Known(storage.claims), storage.volumes),
            Part::Missing(why) => (Part::Missing(why.clone()), Part::Missing(why)),
        };
        evidence.push(self.finish(limits.page, &limits.missing));
        scene.autoscalers = limits.autoscalers;
        scene.budgets = limits.budgets;
        scene.quotas = limits.quotas;
        scene.neighbours = self.keep(ScenePart::Neighbours, neighbours, &mut evidence);
        changes.extend(network.changes);
        scene.changes = match &scene.revisions {
            Part::Missing(why) if changes.is_empty() => Part::Missing(why.clone()),
            _ => Part::Known(newest(changes)),
        };
        scene.evidence = evidence;
        scene
    }

    /// The outcome within the deadline.
    async fn part<T>(&self, read: impl Future<Output = Result<T, ReadError>>) -> Result<T, Redacted> {
        let read = timeout_at(self.by, read).await.unwrap_or(Err(ReadError::TimedOut));
        read.map_err(|error| error.reason())
    }

    fn keep<T>(&self, part: ScenePart, told: Result<Told<T>, Redacted>, evidence: &mut Vec<Evidence>) -> Part<T> {
        match told {
            Ok(told) => {
                evidence.push(self.finish(told.page, &[]));
                Part::Known(told.value)
            }
            Err(why) => {
                evidence.push(self.finish(Page::new(part), std::slice::from_ref(&why)));
                Part::Missing(why)
            }
        }
    }

    fn finish(&self, page: Page, missing: &[Redacted]) -> Evidence {
        page.finish(self.subject, self.reader.clock().now(), missing)
    }

    fn namespace(&self) -> Option<&str> {
        self.subject.namespace.as_ref().map(|namespace| namespace.as_str())
    }

    /// A change of an object that has no older state to compare with, if it was made or written lately.
    fn recent(&self, value: &Value, at: crate::model::scene::At) -> Option<Change> {
        let written = json::spec_written(value);
        let changed_at = written.map_or_else(|| json::created(value), |(at, _)| at);
        let age = self.reader.clock().now().as_second() - changed_at.as_second();
        (age <= RECENT_SECONDS).then_some(())?;
        Some(Change {
            object: json::reference(value)?,
            changed_at,
            by: written.map(|(_, by)| self.typed.redactor.redact(by)),
            from_revision: None,
            to_revision: None,
            lines: Vec::new(),
            at,
        })
    }
}

/// The pods, for the parts that need them as well as for the scene.
struct Shared {
    told: Result<Told<Vec<crate::model::scene::Pod>>, Redacted>,
    /// As the API server has them.
    raw: Vec<Value>,
}

impl Shared {
    fn of(pods: Result<(Told<Vec<crate::model::scene::Pod>>, Vec<Value>), Redacted>) -> Self {
        match pods {
            Ok((told, raw)) => Self { told: Ok(told), raw },
            Err(why) => Self { told: Err(why), raw: Vec::new() },
        }
    }

    fn pods(&self) -> &[crate::model::scene::Pod] {
        self.told.as_ref().ok().map_or(&[], |told| told.value.as_slice())
    }

    /// Why parts that follow from the pods cannot be read.
    fn missing(&self) -> Option<&Redacted> {
        self.told.as_ref().err()
    }
}

fn newest(mut changes: Vec<Change>) -> Vec<Change> {
    changes.sort_by_key(|change| std::cmp::Reverse(change.changed_at));
    changes.truncate(CHANGES_MAX);
    changes
}

/// A scene of which nothing could be read.
fn unread(reader: &Reader, subject: &ObjectRef, why: Redacted) -> Scene {
    let now = reader.clock().now();
    let mut scene = Scene::unread(subject.clone(), now, &why);
    let missing = [why];
    scene.evidence = ScenePart::ALL.map(|part| Page::new(part).finish(subject, now, &missing)).into();
    scene
}

/// Puts the changes that were read with a part to the others.
fn split<T>(read: Result<(T, Vec<Change>), Redacted>, changes: &mut Vec<Change>) -> Result<T, Redacted> {
    read.map(|(told, own)| {
        changes.extend(own);
        told
    })
}

#[cfg(test)]
mod tests;
