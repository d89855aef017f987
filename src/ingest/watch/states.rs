//! Objects whose own status says that they are in trouble, of any kind that has one trouble at a time.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use kube::ResourceExt;

use crate::ingest::watch::Speaker;
use crate::ingest::watch::follow::Happened;
use crate::ingest::watch::judge::{Sight, Watched, sight};
use crate::model::patience::seconds;
use crate::model::{Kind, ObjectRef, Signal, SignalBody, SignalId, Warning, WarningSource};

/// Troubles that are remembered; a cluster with more has one cause that others tell.
const TROUBLES_MAX: usize = 5_000;
struct Trouble {
    object: ObjectRef,
    sight: Sight,
    since: Timestamp,
    said: bool,
    on_arrival: bool,
}

impl Trouble {
    /// The same trouble still; one that began anew is another.
    fn is(&self, sight: &Sight) -> bool {
        self.sight.reason == sight.reason && sight.since.is_none_or(|since| since == self.since)
    }
}

/// The objects of one kind that are in trouble.
pub(super) struct States {
    speaker: Speaker,
    kind: Kind,
    /// By uid.
    troubles: HashMap<String, Trouble>,
    /// uids of the list that is being read.
    listed: Option<HashSet<String>>,
    whole: bool,
}

impl States {
    pub(super) fn new(kind: Kind, speaker: Speaker) -> Self {
        Self { speaker, kind, troubles: HashMap::new(), listed: None, whole: false }
    }

    fn see(&mut self, seen: &Watched) {
        let Some(uid) = seen.uid() else { return };
        let now = self.speaker.now();
        let sight = if seen.metadata.deletion_timestamp.is_some() {
            None
        } else {
            sight(self.kind, seen, &self.speaker.patience)
        };
        let fresh = seconds(self.speaker.patience.fresh_seconds);
        let old = |sight: &Sight| sight.ends && sight.since.is_some_and(|since| now.duration_since(since) > fresh);
        let known = self.troubles.contains_key(&uid);
        let Some(sight) = sight.filter(|sight| known || !old(sight)) else {
            self.troubles.remove(&uid);
            return;
        };
        if let Some(listed) = &mut self.listed {
            listed.insert(uid.clone());
        }
        if let Some(trouble) = self.troubles.get_mut(&uid).filter(|trouble| trouble.is(&sight)) {
            trouble.sight = sight;
            return;
        }
        let object = ObjectRef::new(self.kind, seen.namespace().as_deref(), &seen.name_any());
        if let Some(object) = object.filter(|_| known || self.troubles.len() < TROUBLES_MAX) {
            let since = sight.since.unwrap_or(now);
            let on_arrival = self.speaker.arrival && !self.whole && since <= now;
            self.troubles.insert(uid, Trouble { object, sight, since, said: false, on_arrival });
        }
    }

    fn due(&mut self) -> Vec<Signal> {
        let (now, speaker) = (self.speaker.now(), &self.speaker);
        let due = |trouble: &Trouble| !trouble.said && now.duration_since(trouble.since) >= trouble.sight.holds;
        let mut signals: Vec<Signal> = Vec::new();
        for (uid, trouble) in self.troubles.iter_mut().filter(|(_, trouble)| due(trouble)) {
            trouble.said = true;
            let (sight, since) = (&trouble.sight, trouble.since.as_millisecond().to_string());
            // By when it began, which the object itself says: a restart of firstlook repeats nothing.
            let id = SignalId::derive(&["state", speaker.cluster.as_str(), uid, &sight.reason, &since]);
            let warning = Warning {
                object: trouble.object.clone(),
                source: WarningSource::ObjectState,
                reason: speaker.redactor.redact(&sight.reason),
                message: speaker.redactor.redact(&sight.message),
                first_at: trouble.since,
                last_at: now,
                count: 1,
                on_arrival: trouble.on_arrival,
            };
            let body = SignalBody::Warning(warning);
            signals.push(Signal { id, cluster: speaker.cluster.clone(), heard_at: now, body });
        }
        signals.sort_by(|a, b| a.id.cmp(&b.id));
        signals
    }

    pub(super) fn hear(&mut self, happened: Happened<Watched>) -> Vec<Signal> {
        match happened {
            Happened::Begins => self.listed = Some(HashSet::new()),
            Happened::Listed(seen) | Happened::Changed(seen) => self.see(&seen),
            Happened::Whole => {
                if let Some(listed) = self.listed.take() {
                    self.troubles.retain(|uid, _| listed.contains(uid));
                }
                self.whole = true;
            }
            Happened::Gone(seen) => {
                if let Some(uid) = seen.uid() {
                    self.troubles.remove(&uid);
                }
            }
            Happened::Tick => {}
        }
        // A list may end what it has begun to say.
        if self.listed.is_some() { Vec::new() } else { self.due() }
    }
}
