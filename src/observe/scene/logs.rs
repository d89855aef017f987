//! Logs of the containers that matter: those in trouble, or, when none is, those of the subject that may know more.

use std::collections::BTreeSet;

use futures::future::join_all;

use crate::model::scene::{At, ContainerState, LogTail, Pod, ScenePart, State, Terminated};
use crate::model::{Kind, Name, ObjectRef, Source};
use crate::observe::LogAsk;
use crate::observe::Selector;
use crate::observe::fold::{Fold, joined};
use crate::observe::reader::LOG_TIMEOUT;
use crate::observe::scene::page::Page;
use crate::observe::scene::pods::is_troubled;
use crate::observe::scene::{Look, Shared, Told};
use crate::observe::typed::workload::selector;
use crate::redact::Redacted;

/// Logs of one scene.
const LOGS_MAX: usize = 6;
/// Lines of each.
const TAIL_LINES: u32 = 200;
/// Healthy pods whose logs are read when no pod is in trouble.
const HEALTHY_MAX: usize = 2;
/// Containers of each of those.
const CONTAINERS_MAX: usize = 2;
/// Callers of a Service whose logs are read.
const CALLERS_MAX: usize = 2;
/// A container that ended this many seconds ago (an hour) and came back still tells something.
const RECENT_SECONDS: i64 = 3_600;

/// A log to read, or why there is none.
#[derive(Debug, PartialEq)]
struct Pick {
    pod: ObjectRef,
    container: Redacted,
    previous: bool,
    never: bool,
}

impl Look<'_> {
    pub(super) async fn logs(&self, pods: &Shared) -> Result<Told<Vec<LogTail>>, Redacted> {
        if let Some(why) = pods.missing() {
            return Err(why.clone());
        }
        let mut page = Page::new(ScenePart::Logs);
        let now = self.reader.clock().now().as_second();
        let mut picks = match self.subject.kind {
            // Its pods' faults are its own, and a node that is lost gives no logs.
            Kind::Node => Vec::new(),
            _ => pick(pods.pods(), now),
        };
        if matches!(self.subject.kind, Kind::Service | Kind::Ingress) {
            picks.splice(0..0, pick(&self.callers().await, now));
            picks.truncate(LOGS_MAX);
        }
        let read = picks.iter().map(|pick| async {
            if pick.never {
                return Err(Redacted::literal("the container never started"));
            }
            let ask = LogAsk {
                pod: &pick.pod,
                container: Some(pick.container.as_str()),
                previous: pick.previous,
                tail_lines: Some(TAIL_LINES),
                since_seconds: None,
            };
            let read = async {
                let mut fold = Fold::new(self.typed.redactor);
                self.reader.log(&ask, LOG_TIMEOUT, |line| fold.push(line)).await?;
                Ok(fold.finish().into_lines())
            };
            self.part(read).await
        });
        let mut tails = Vec::new();
        for (pick, log) in picks.iter().zip(join_all(read).await) {
            let (lines, missing) = match log {
                Ok(lines) => (lines, None),
                Err(why) => (Vec::new(), Some(why)),
            };
            // A previous run whose log is no longer kept is not worth a word.
            if pick.previous && lines.is_empty() {
                continue;
            }
            let at = match source(pick) {
                Some(source) if missing.is_none() => page.quote(source, joined(&lines)),
                _ => page.summary(crate::text!(
                    "no log of container {} of {}: {}",
                    pick.container,
                    pick.pod,
                    missing.clone().unwrap_or_default()
                )),
            };
            let (pod, container, previous) = (pick.pod.clone(), pick.container.clone(), pick.previous);
            tails.push(LogTail { pod, container, previous, lines, missing, at });
        }
        Ok(Told { value: tails, page })
    }
}

impl Look<'_> {
    /// Pods of the workloads that the signals name beside a Service: they called it.
    async fn callers(&self) -> Vec<Pod> {
        let mut pods = Vec::new();
        for caller in self.hints.iter().filter(|hint| hint.kind.is_workload()).take(CALLERS_MAX) {
            let read = async {
                let Some(selector) = self.reader.get(caller).await?.as_ref().and_then(selector) else {
                    return Ok(Vec::new());
                };
                let ask = Selector::labels(selector).at_most(HEALTHY_MAX);
                self.reader.list(Kind::Pod, Some(caller.namespace()), &ask).await
            };
            // What callers say helps, but nothing hangs on it.
            let found = self.part(read).await.unwrap_or_default();
            let blank = At { evidence: ScenePart::Logs.evidence(), segment: 0 };
            pods.extend(found.iter().filter_map(|pod| self.typed.pod(pod, Some(caller.clone()), blank)));
        }
        pods
    }
}

fn source(pick: &Pick) -> Option<Source> {
    Some(Source::Log {
        namespace: pick.pod.namespace.clone()?,
        pod: pick.pod.name.clone(),
        container: Name::parse(pick.container.as_str())?,
        previous: pick.previous,
    })
}

/// Which logs: one pod for each kind of trouble, the present and the previous run of its container. `pods` come with
/// those in trouble first, newest first.
fn pick(pods: &[Pod], now: i64) -> Vec<Pick> {
    let mut picks = Vec::new();
    let mut seen = BTreeSet::new();
    for pod in pods {
        for container in pod.containers.iter().filter(|container| is_telling(pod, container, now)) {
            let kind = (pod.template.clone(), container.name.clone(), trouble(container));
            if !seen.insert(kind) {
                continue;
            }
            let pick =
                |previous, never| Pick { pod: pod.object.clone(), container: container.name.clone(), previous, never };
            if !has_run(container) {
                picks.push(pick(false, true));
                continue;
            }
            picks.push(pick(false, false));
            // A container that waits after a crash shows its last run as the present one.
            if container.restarts > 0 {
                picks.push(pick(true, false));
            }
        }
    }
    if picks.is_empty() && !pods.iter().any(is_troubled) {
        for pod in pods.iter().take(HEALTHY_MAX) {
            for container in pod.containers.iter().filter(|container| !container.init).take(CONTAINERS_MAX) {
                let (pod, container) = (pod.object.clone(), container.name.clone());
                picks.push(Pick { pod, container, previous: false, never: false });
            }
        }
    }
    picks.truncate(LOGS_MAX);
    picks
}

fn is_telling(pod: &Pod, container: &ContainerState, now: i64) -> bool {
    let recent = |end: &Terminated| end.finished_at.is_some_and(|at| now - at.as_second() <= RECENT_SECONDS);
    let crashed_lately = container.restarts > 0 && container.last.as_ref().is_some_and(recent);
    match &container.state {
        // Creating, pulling, waiting for others: nothing has run yet, unless it ran before.
        State::Waiting { .. } => container.last.is_some(),
        State::Terminated(end) if container.init => end.exit_code != 0,
        State::Terminated(_) => pod.phase.as_str() != "Succeeded",
        State::Running { .. } => (!container.ready && !container.init && !pod.deleting) || crashed_lately,
        State::Unknown => false,
    }
}

/// What was never started has no log: the runtime could not even begin.
fn has_run(container: &ContainerState) -> bool {
    let began = |end: &Terminated| !matches!(end.reason.as_str(), "StartError" | "ContainerCannotRun");
    match (&container.state, &container.last) {
        (State::Running { .. }, _) => true,
        (State::Terminated(end), _) => began(end),
        (_, Some(end)) => began(end),
        _ => false,
    }
}

fn trouble(container: &ContainerState) -> Redacted {
    match &container.state {
        State::Waiting { reason, .. } => reason.clone(),
        State::Terminated(end) => end.reason.clone(),
        State::Running { .. } => Redacted::literal("running"),
        State::Unknown => Redacted::default(),
    }
}
