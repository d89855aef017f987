//! Pods in trouble: crash loops, images that cannot be pulled, kills for memory, configuration that is not there.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::core::Object;
use serde::Deserialize;

use crate::ingest::watch::Speaker;
use crate::ingest::watch::condition::Condition;
use crate::ingest::watch::follow::Happened;
use crate::ingest::watch::rollouts::Ignored;
use crate::model::{Kind, ObjectRef, Signal, SignalBody, SignalId, Warning, WarningSource};

/// A state must hold for this long: one failed pull or one missing ConfigMap during a deploy heals by itself in seconds.
const HOLDS: SignedDuration = SignedDuration::from_secs(30);
/// A cluster's autoscaler brings a node within about two minutes; a pod that waits longer gets none by itself.
const SCHEDULE_HOLDS: SignedDuration = SignedDuration::from_mins(3);
/// A container that was started again this often needs no further proof.
const RESTARTS_MIN: u32 = 2;
/// Trouble that was not seen for this long is over: twice the longest pause between two starts of a crash loop.
const QUIET: SignedDuration = SignedDuration::from_mins(10);
/// A kill for memory that is older than this is of the past.
const FRESH: SignedDuration = SignedDuration::from_mins(15);
/// Troubles that are remembered; a cluster with more has one cause that others tell.
const TROUBLES_MAX: usize = 20_000;

/// As much of a pod's status as is looked at.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    #[serde(default)]
    phase: String,
    #[serde(default)]
    conditions: Vec<Condition>,
    #[serde(default)]
    init_container_statuses: Vec<Container>,
    #[serde(default)]
    container_statuses: Vec<Container>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    name: String,
    restart_count: u32,
    state: State,
    last_state: State,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct State {
    waiting: Option<Waiting>,
    terminated: Option<Terminated>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Waiting {
    reason: String,
    message: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Terminated {
    reason: String,
    exit_code: i32,
    finished_at: Option<Timestamp>,
}

type Pod = Object<Ignored, Status>;

/// Classes of trouble: one signal each, whatever reason the kubelet gives at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Class {
    Crash,
    Memory,
    Image,
    Config,
    Schedule,
}

impl Class {
    fn as_str(self) -> &'static str {
        match self {
            Class::Crash => "crash",
            Class::Memory => "memory",
            Class::Image => "image",
            Class::Config => "config",
            Class::Schedule => "schedule",
        }
    }

    /// How long it must hold before it is said.
    fn holds(self) -> SignedDuration {
        if self == Class::Schedule { SCHEDULE_HOLDS } else { HOLDS }
    }

    fn of(reason: &str) -> Option<Self> {
        match reason {
            "CrashLoopBackOff" | "RunContainerError" | "StartError" => Some(Class::Crash),
            "ImagePullBackOff" | "ErrImagePull" | "InvalidImageName" | "ErrImageNeverPull" => Some(Class::Image),
            "CreateContainerConfigError" | "CreateContainerError" => Some(Class::Config),
            _ => None,
        }
    }
}

/// What is wrong with one container now.
struct Sight {
    class: Class,
    container: String,
    reason: String,
    message: String,
    restarts: u32,
    /// Needs no time to prove itself.
    sure: bool,
}

/// One class of trouble of one container.
struct Trouble {
    object: ObjectRef,
    sight: Sight,
    since: Timestamp,
    last_bad: Timestamp,
    /// Whether the pod showed it when it was last looked at.
    present: bool,
    /// It was over once since firstlook started: then its id must be a new one.
    again: bool,
    said: bool,
    on_arrival: bool,
}

impl Trouble {
    fn seen_again(&mut self, sight: Sight, now: Timestamp) {
        if !self.present && now.duration_since(self.last_bad) > QUIET {
            (self.since, self.said, self.again, self.on_arrival) = (now, false, true, false);
        } else if !self.present && !self.said {
            // It healed before it had held long enough.
            self.since = now;
        }
        (self.last_bad, self.present, self.sight) = (now, true, sight);
    }

    fn is_due(&self, now: Timestamp) -> bool {
        !self.said && self.present && (self.sight.sure || now.duration_since(self.since) >= self.sight.class.holds())
    }
}

type Key = (String, String, Class);

/// The pods in trouble.
pub(super) struct Pods {
    speaker: Speaker,
    troubles: HashMap<Key, Trouble>,
    /// uids of the list that is being read.
    listed: Option<HashSet<String>>,
    whole: bool,
}

impl Pods {
    pub(super) fn new(speaker: Speaker) -> Self {
        Self { speaker, troubles: HashMap::new(), listed: None, whole: false }
    }

    fn see(&mut self, pod: &Pod) {
        let Some(uid) = pod.uid() else { return };
        if let Some(listed) = &mut self.listed {
            listed.insert(uid.clone());
        }
        // A pod on its way out is nobody's trouble.
        if pod.metadata.deletion_timestamp.is_some() {
            self.forget(&uid);
            return;
        }
        let now = self.speaker.now();
        let sights = sights(pod, now);
        for ((of, container, class), trouble) in &mut self.troubles {
            if *of == uid {
                let seen = |sight: &Sight| sight.container == *container && sight.class == *class;
                if trouble.present && !sights.iter().any(seen) {
                    (trouble.present, trouble.last_bad) = (false, now);
                }
            }
        }
        for sight in sights {
            let key = (uid.clone(), sight.container.clone(), sight.class);
            let full = self.troubles.len() >= TROUBLES_MAX;
            match self.troubles.get_mut(&key) {
                Some(known) => known.seen_again(sight, now),
                None if full => {}
                None => {
                    let Some(trouble) = self.first_seen(pod, sight, now) else { continue };
                    self.troubles.insert(key, trouble);
                }
            }
        }
    }

    fn first_seen(&self, pod: &Pod, sight: Sight, now: Timestamp) -> Option<Trouble> {
        Some(Trouble {
            object: ObjectRef::new(Kind::Pod, pod.namespace().as_deref(), &pod.name_any())?,
            sight,
            // What is in a list has been so for a while: since when is not known, so half the pod's life counts.
            since: if self.listed.is_some() { listed_since(pod, now) } else { now },
            last_bad: now,
            present: true,
            again: false,
            said: false,
            on_arrival: self.speaker.arrival && !self.whole,
        })
    }

    fn forget(&mut self, uid: &str) {
        self.troubles.retain(|(of, _, _), _| of != uid);
    }

    fn due(&mut self) -> Vec<Signal> {
        let (now, speaker) = (self.speaker.now(), &self.speaker);
        let due = self.troubles.iter_mut().filter(|(_, trouble)| trouble.is_due(now));
        let mut signals: Vec<Signal> = due
            .map(|((uid, container, class), trouble)| {
                trouble.said = true;
                // Unless it came back, the hour: a restart of firstlook within it repeats no signal.
                let period = if trouble.again { trouble.since.as_millisecond() } else { now.as_second() / 3600 };
                let id = SignalId::derive(&[
                    "pod",
                    speaker.cluster.as_str(),
                    uid,
                    container,
                    class.as_str(),
                    &period.to_string(),
                ]);
                let sight = &trouble.sight;
                let warning = Warning {
                    object: trouble.object.clone(),
                    source: WarningSource::PodState,
                    reason: speaker.redactor.redact(&sight.reason),
                    message: speaker.redactor.redact(&sight.message),
                    first_at: trouble.since,
                    last_at: trouble.last_bad,
                    count: sight.restarts.max(1),
                    on_arrival: trouble.on_arrival,
                };
                Signal { id, cluster: speaker.cluster.clone(), heard_at: now, body: SignalBody::Warning(warning) }
            })
            .collect();
        signals.sort_by(|a, b| a.id.cmp(&b.id));
        signals
    }

    /// Troubles that have gone quiet are dropped.
    fn sweep(&mut self) {
        let now = self.speaker.now();
        // What was said stays known for an hour more, to tell a relapse from the first time.
        let keep = |trouble: &Trouble| {
            let quiet = now.duration_since(trouble.last_bad);
            trouble.present || quiet < if trouble.said { QUIET * 6 } else { HOLDS * 2 }
        };
        self.troubles.retain(|_, trouble| keep(trouble));
    }
}

fn listed_since(pod: &Pod, now: Timestamp) -> Timestamp {
    let created = pod.creation_timestamp().map_or(now, |time| time.0);
    let half = now.duration_since(created).as_secs() / 2;
    now.checked_sub(SignedDuration::from_secs(half.max(0))).unwrap_or(now)
}

/// What is wrong with a pod's containers.
fn sights(pod: &Pod, now: Timestamp) -> Vec<Sight> {
    let Some(status) = pod.status.as_ref().filter(|status| status.phase != "Succeeded") else { return Vec::new() };
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses);
    let mut found = Vec::new();
    let waits = |c: &&Condition| c.kind == "PodScheduled" && c.status == "False" && c.reason == "Unschedulable";
    if let Some(condition) = status.conditions.iter().find(waits) {
        found.push(Sight {
            class: Class::Schedule,
            container: String::new(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
            restarts: 0,
            sure: false,
        });
    }
    for container in containers {
        let restarts = container.restart_count;
        let sight = |class, reason: &str, message: String, sure| Sight {
            class,
            container: container.name.clone(),
            reason: reason.to_owned(),
            message,
            restarts,
            sure,
        };
        if let Some(waiting) = &container.state.waiting
            && let Some(class) = Class::of(&waiting.reason)
        {
            let sure = class == Class::Crash && restarts >= RESTARTS_MIN;
            found.push(sight(class, &waiting.reason, waiting.message.clone(), sure));
        }
        let ended = [&container.state.terminated, &container.last_state.terminated].into_iter().flatten();
        let fresh = |end: &&Terminated| end.finished_at.is_some_and(|at| now.duration_since(at) <= FRESH);
        if let Some(end) = ended.filter(fresh).find(|end| end.reason == "OOMKilled") {
            let message = format!(
                "container {} was killed for memory (exit code {}), {restarts} restarts",
                container.name, end.exit_code
            );
            // Once may be a freak; a container that is not started again has had its only chance.
            let sure = restarts >= RESTARTS_MIN || container.state.terminated.is_some();
            if sure {
                found.push(sight(Class::Memory, "OOMKilled", message, true));
            }
        }
    }
    found
}

impl Pods {
    pub(super) fn hear(&mut self, happened: Happened<Pod>) -> Vec<Signal> {
        match happened {
            Happened::Begins => self.listed = Some(HashSet::new()),
            Happened::Listed(pod) => {
                self.see(&pod);
                return Vec::new();
            }
            Happened::Whole => {
                if let Some(listed) = self.listed.take() {
                    self.troubles.retain(|(uid, _, _), _| listed.contains(uid));
                }
                self.whole = true;
            }
            Happened::Changed(pod) => self.see(&pod),
            Happened::Gone(pod) => {
                if let Some(uid) = pod.uid() {
                    self.forget(&uid);
                }
            }
            Happened::Tick => self.sweep(),
        }
        if self.listed.is_some() { Vec::new() } else { self.due() }
    }
}
