//! Pods in trouble: what the status shows against them, once it has held long enough.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::ingest::watch::Speaker;
use crate::ingest::watch::follow::Happened;
use crate::ingest::watch::sights;
use crate::ingest::watch::sights::{Class, Pod, Sight};
use crate::model::patience::seconds;
use crate::model::{Kind, ObjectRef, Patience, Signal, SignalBody, SignalId, Warning, WarningSource};

/// A kubelet that does not take a pod makes its controller create another, which may go elsewhere: so many lately of one
/// controller are trouble. As controllers try three times within seconds.
const REFUSALS_MIN: usize = 3;
/// Pods in trouble that are remembered; a cluster with more has one cause that others tell.
const TROUBLED_MAX: usize = 20_000;

/// One class of trouble of one container.
struct Trouble {
    object: ObjectRef,
    /// The uid of its controller, else its own.
    owner: String,
    sight: Sight,
    /// When it began; a crash loop that runs for a moment does not begin anew.
    first: Timestamp,
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
    fn is(&self, sight: &Sight) -> bool {
        self.sight.class == sight.class && self.sight.container == sight.container
    }

    fn seen_again(&mut self, sight: Sight, patience: &Patience, now: Timestamp) {
        if !self.present && now.duration_since(self.last_bad) > seconds(patience.quiet_seconds) {
            (self.first, self.since, self.said, self.again, self.on_arrival) = (now, now, false, true, false);
        } else if !self.present && !self.said {
            // It healed before it had held long enough.
            self.since = now;
        }
        self.since = sight.since.unwrap_or(self.since);
        (self.last_bad, self.present, self.sight) = (now, true, sight);
    }

    fn is_due(&self, patience: &Patience, now: Timestamp) -> bool {
        let holds = seconds(self.sight.class.holds(patience));
        let since = if self.sight.repeated { self.first } else { self.since };
        !self.said && self.present && (self.sight.sure || now.duration_since(since) >= holds)
    }
}

/// The pods in trouble; of the others nothing is kept.
pub(super) struct Pods {
    speaker: Speaker,
    /// By uid.
    troubles: HashMap<String, Vec<Trouble>>,
    /// uids of those in trouble that are in the list that is being read.
    listed: Option<HashSet<String>>,
    whole: bool,
}

impl Pods {
    pub(super) fn new(speaker: Speaker) -> Self {
        Self { speaker, troubles: HashMap::new(), listed: None, whole: false }
    }

    fn see(&mut self, pod: &Pod) {
        let Some(uid) = pod.uid() else { return };
        let (now, patience) = (self.speaker.now(), self.speaker.patience);
        let sights = sights::all(pod, &patience, now);
        if let Some(known) = self.troubles.get_mut(&uid) {
            for trouble in known.iter_mut().filter(|trouble| trouble.present) {
                if !sights.iter().any(|sight| trouble.is(sight)) {
                    (trouble.present, trouble.last_bad) = (false, now);
                }
            }
        } else if sights.is_empty() || self.troubles.len() >= TROUBLED_MAX {
            return;
        }
        if let Some(listed) = &mut self.listed {
            listed.insert(uid.clone());
        }
        let object = ObjectRef::new(Kind::Pod, pod.namespace().as_deref(), &pod.name_any());
        let Some(object) = object else { return };
        let on_arrival = self.speaker.arrival && !self.whole;
        // What is in a list has been so for a while: since when is not known, so half the pod's life counts.
        let since = if self.listed.is_some() { listed_since(pod, now) } else { now };
        let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
        let owner = owner.map_or_else(|| uid.clone(), |owner| owner.uid.clone());
        let known = self.troubles.entry(uid).or_default();
        for sight in sights {
            if let Some(trouble) = known.iter_mut().find(|trouble| trouble.is(&sight)) {
                trouble.seen_again(sight, &patience, now);
                continue;
            }
            let (object, owner, since) = (object.clone(), owner.clone(), sight.since.unwrap_or(since));
            let (present, again, said) = (true, false, false);
            let (first, last_bad) = (since, now);
            known.push(Trouble { object, owner, sight, first, since, last_bad, present, again, said, on_arrival });
        }
    }

    fn due(&mut self) -> Vec<Signal> {
        let (now, speaker) = (self.speaker.now(), &self.speaker);
        let mut signals = Vec::new();
        let refused = self.refused_often();
        for (uid, troubles) in &mut self.troubles {
            for trouble in troubles.iter_mut().filter(|trouble| trouble.is_due(&speaker.patience, now)) {
                let is_news = match trouble.sight.class {
                    // One of them speaks for all.
                    Class::Refusal => refused.get(&trouble.owner).is_some_and(|newest| newest == uid),
                    _ => true,
                };
                if is_news {
                    trouble.said = true;
                    signals.push(signal(speaker, uid, trouble, now));
                }
            }
        }
        signals.sort_by(|a, b| a.id.cmp(&b.id));
        signals
    }

    /// Controllers whose pods were refused often lately and of which no such pod was told: the uid of one of them.
    fn refused_often(&self) -> HashMap<String, String> {
        let (now, fresh) = (self.speaker.now(), seconds(self.speaker.patience.fresh_seconds));
        let counts = |trouble: &&Trouble| {
            trouble.sight.class == Class::Refusal && trouble.present && now.duration_since(trouble.since) <= fresh
        };
        let mut refused: HashMap<&str, Vec<(&Trouble, &str)>> = HashMap::new();
        for (uid, troubles) in &self.troubles {
            for trouble in troubles.iter().filter(counts) {
                refused.entry(&trouble.owner).or_default().push((trouble, uid));
            }
        }
        refused.retain(|_, pods| pods.len() >= REFUSALS_MIN && pods.iter().all(|(trouble, _)| !trouble.said));
        let newest = |pods: Vec<(&Trouble, &str)>| {
            let newest = pods.into_iter().max_by_key(|(trouble, uid)| (trouble.since, *uid));
            newest.map(|(_, uid)| uid.to_owned()).unwrap_or_default()
        };
        refused.into_iter().map(|(owner, pods)| (owner.to_owned(), newest(pods))).collect()
    }

    /// Troubles that have gone quiet are dropped.
    fn sweep(&mut self) {
        let (now, patience) = (self.speaker.now(), &self.speaker.patience);
        // What was said stays known for an hour more, to tell a relapse from the first time.
        let keep = |trouble: &Trouble| {
            let quiet = now.duration_since(trouble.last_bad);
            let after = if trouble.said { patience.quiet_seconds * 6 } else { patience.pod_seconds * 2 };
            trouble.present || quiet < seconds(after)
        };
        self.troubles.retain(|_, troubles| {
            troubles.retain(keep);
            !troubles.is_empty()
        });
    }

    pub(super) fn hear(&mut self, happened: Happened<Pod>) -> Vec<Signal> {
        match happened {
            Happened::Begins => self.listed = Some(HashSet::new()),
            Happened::Listed(pod) => {
                self.see(&pod);
                return Vec::new();
            }
            Happened::Whole => {
                if let Some(listed) = self.listed.take() {
                    self.troubles.retain(|uid, _| listed.contains(uid));
                }
                self.whole = true;
            }
            Happened::Changed(pod) => self.see(&pod),
            Happened::Gone(pod) => {
                if let Some(uid) = pod.uid() {
                    self.troubles.remove(&uid);
                }
            }
            Happened::Tick => self.sweep(),
        }
        if self.listed.is_some() { Vec::new() } else { self.due() }
    }
}

fn signal(speaker: &Speaker, uid: &str, trouble: &Trouble, now: Timestamp) -> Signal {
    let sight = &trouble.sight;
    // Unless it came back, the hour: a restart of firstlook within it repeats no signal.
    let period = if trouble.again { trouble.since.as_millisecond() } else { now.as_second() / 3600 };
    let (cluster, class, period) = (&speaker.cluster, sight.class.as_str(), period.to_string());
    let id = SignalId::derive(&["pod", cluster.as_str(), uid, &sight.container, class, &period]);
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
    Signal { id, cluster: cluster.clone(), heard_at: now, body: SignalBody::Warning(warning) }
}

fn listed_since(pod: &Pod, now: Timestamp) -> Timestamp {
    let created = pod.creation_timestamp().map_or(now, |time| time.0);
    let half = now.duration_since(created).as_secs() / 2;
    now.checked_sub(SignedDuration::from_secs(half.max(0))).unwrap_or(now)
}
