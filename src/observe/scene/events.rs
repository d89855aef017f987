//! Events of the subject and of what belongs to it.

use std::collections::BTreeSet;

use futures::future::join_all;
use serde_json::Value;

use crate::model::Kind;
use crate::model::scene::{At, Change, Event, Revision, ScenePart};
use crate::observe::ReadError;
use crate::observe::Selector;
use crate::observe::json;
use crate::observe::scene::limits::Limits;
use crate::observe::scene::page::Page;
use crate::observe::scene::pods::{direct, is_troubled};
use crate::observe::scene::{Look, Shared, Told};
use crate::redact::Redacted;

/// Events that a scene holds.
const EVENTS_MAX: usize = 200;
/// Events of a namespace (for a node: of the cluster) that are looked through; a busy one has more, then the subject's
/// are asked for by name.
const SEARCHED_MAX: usize = 2_000;
/// The letters and digits that end a generated name (apimachinery, `utilrand`).
const SUFFIX_LENGTH: usize = 5;
/// Refusals that are searched for names: they say the same again and again.
const REFUSALS_MAX: usize = 5;

impl Look<'_> {
    /// Events that may concern the subject, as the API server has them.
    pub(super) async fn events(&self) -> Result<Vec<Value>, ReadError> {
        let namespace = match self.subject.kind {
            Kind::Namespace => Some(self.subject.name()),
            _ => self.namespace(),
        };
        let ask = Selector::all().at_most(SEARCHED_MAX);
        let mut listed = self.reader.page(Kind::Event, namespace, &ask).await?;
        if listed.more {
            let name = Selector::fields(format!("involvedObject.name={}", self.subject.name())).at_most(EVENTS_MAX);
            // Objects that the signals name are in trouble for sure.
            let hints = self
                .hints
                .iter()
                .filter(|hint| hint.kind == Kind::Pod)
                .take(5)
                .map(|hint| Selector::fields(format!("involvedObject.name={}", hint.name())).at_most(EVENTS_MAX));
            let asks: Vec<Selector> = std::iter::once(name).chain(hints).collect();
            for found in join_all(asks.iter().map(|ask| self.reader.list(Kind::Event, namespace, ask))).await {
                listed.items.extend(found?);
            }
        }
        Ok(listed.items)
    }

    /// What events say of pods that an admission webhook keeps from being made: they name its Service.
    pub(super) fn refusals(&self, events: &Result<Vec<Value>, Redacted>) -> Vec<String> {
        let refused = |event: &&Value| {
            json::text(event, "/reason") == "FailedCreate"
                && json::text(event, "/message").contains("webhook")
                && json::text(event, "/involvedObject/name").starts_with(self.subject.name())
        };
        let events = events.as_ref().map_or(&[][..], Vec::as_slice).iter();
        events.filter(refused).take(REFUSALS_MAX).map(|event| json::text(event, "/message").to_owned()).collect()
    }

    /// Those that do concern it, newest first.
    pub(super) fn told_events(
        &self,
        events: Result<Vec<Value>, Redacted>,
        pods: &Shared,
        revisions: &Result<(Told<Vec<Revision>>, Vec<Change>), Redacted>,
        limits: &Limits,
    ) -> Result<Told<Vec<Event>>, Redacted> {
        let mut mine: BTreeSet<&str> = BTreeSet::from([self.subject.name()]);
        // What happens to healthy pods of a node, or of a namespace, is no matter of it.
        let all = !matches!(self.subject.kind, Kind::Node | Kind::Namespace);
        mine.extend(
            pods.pods().iter().filter(|pod| all || is_troubled(pod) || pod.is_left_over()).map(|pod| pod.object.name()),
        );
        if let Ok((told, _)) = revisions {
            mine.extend(told.value.iter().map(|revision| revision.object.name()));
        }
        mine.extend(limits.autoscalers.items().iter().map(|autoscaler| autoscaler.object.name()));
        mine.extend(self.hints.iter().filter(|hint| hint.kind != Kind::Node).map(|hint| hint.name()));
        // A Job's CronJob says whether later runs wait for it.
        mine.extend(json::controller(&self.root).filter(|_| self.subject.kind == Kind::Job).map(|(_, name, _)| name));
        let sets: Vec<_> = pods.raw.iter().filter(|_| all).filter_map(direct).collect();
        mine.extend(sets.iter().map(|set| set.name()));
        let claims: BTreeSet<&str> = pods.raw.iter().filter(|_| all).flat_map(super::pods::claim_names).collect();
        mine.extend(claims);
        // A Job's pods may be gone with it, and their events tell why.
        let run = (self.subject.kind == Kind::Job).then(|| format!("{}-", self.subject.name()));
        let of_run = |value: &Value| {
            let name = json::text(value, "/involvedObject/name");
            json::text(value, "/involvedObject/kind") == "Pod" && run.as_ref().is_some_and(|run| made_for(run, name))
        };
        let blank = At { evidence: ScenePart::Events.evidence(), segment: 0 };
        let mut seen = BTreeSet::new();
        let mut found: Vec<Event> = Vec::new();
        for value in events? {
            let fresh = seen.insert(json::text(&value, "/metadata/uid").to_owned());
            let about = json::text(&value, "/involvedObject/name");
            if fresh && (mine.contains(about) || of_run(&value)) && !of_another(&value, &pods.raw) {
                found.extend(self.typed.event(&value, blank));
            }
        }
        // Warnings first where not all can be kept; then by time.
        found.sort_by_key(|event| (!event.warning, std::cmp::Reverse(event.last_at)));
        found.truncate(EVENTS_MAX);
        found.sort_by_key(|event| std::cmp::Reverse(event.last_at));
        let mut page = Page::new(ScenePart::Events);
        for event in &mut found {
            event.at = page.event(event.object.clone(), event.reason.clone(), event.message.clone());
        }
        Ok(Told { value: found, page })
    }
}

/// Whether a pod has the name that a Job's controller gives: `<job>-xxxxx`, `<job>-<index>-xxxxx`.
fn made_for(run: &str, pod: &str) -> bool {
    let Some(rest) = pod.strip_prefix(run) else { return false };
    let (index, suffix) = rest.rsplit_once('-').unwrap_or(("", rest));
    suffix.len() == SUFFIX_LENGTH && index.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether an event is of an earlier pod of the same name: a StatefulSet's pod that was made again. Kubelets give another
/// uid for the pods of their own files than the API server has.
fn of_another(event: &Value, pods: &[Value]) -> bool {
    let about = |pointer| json::text(event, pointer);
    let uid = about("/involvedObject/uid");
    if about("/involvedObject/kind") != "Pod" || uid.is_empty() {
        return false;
    }
    let pod = pods.iter().find(|pod| {
        json::text(pod, "/metadata/name") == about("/involvedObject/name")
            && json::text(pod, "/metadata/namespace") == about("/involvedObject/namespace")
    });
    let mirror = |pod: &Value| {
        pod.pointer("/metadata/annotations").is_some_and(|notes| notes.get("kubernetes.io/config.mirror").is_some())
    };
    pod.is_some_and(|pod| json::text(pod, "/metadata/uid") != uid && !mirror(pod))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_of_an_earlier_pod_of_the_same_name_are_not_those_of_the_present_one() {
        let pod = json!({"metadata": {"name": "db-0", "namespace": "a", "uid": "2"}});
        let event =
            |uid: &str| json!({"involvedObject": {"kind": "Pod", "name": "db-0", "namespace": "a", "uid": uid}});
        let pods = [pod];
        assert!(of_another(&event("1"), &pods));
        assert!(!of_another(&event("2"), &pods) && !of_another(&event(""), &pods));
        let mirror = json!({"metadata": {"name": "db-0", "namespace": "a", "uid": "2",
            "annotations": {"kubernetes.io/config.mirror": "1"}}});
        assert!(!of_another(&event("1"), &[mirror]), "a static pod's events bear the uid of its file");
    }

    #[test]
    fn a_jobs_pods_are_known_by_their_names_after_they_are_gone() {
        assert!(made_for("load-", "load-x7k2p") && made_for("load-", "load-3-x7k2p"));
        assert!(!made_for("load-", "load-prices-x7k2p") && !made_for("load-", "load-29572770"));
    }
}
