//! Jobs whose work is done and that do not end, since another container of the pod runs on.

use jiff::Timestamp;

use super::jobs;
use super::proof;
use super::say;
use super::view;
use crate::model::evidence::Citation;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::object::Kind;
use crate::model::scene::{ContainerState, Pod, Scene, State, Terminated, Workload};
use crate::redact::Redacted;
use crate::text;

/// A helper that ends with the work does so within its grace period (30 s unless set): ten times that.
const LINGERS_SECONDS: i64 = 300;

/// A pod of a Job of which one container ended well and others run on. Native sidecars are init containers: the kubelet
/// ends them with the last of the others.
pub(super) struct Held<'a> {
    pod: &'a Pod,
    /// What ended last.
    done: &'a ContainerState,
    ended_at: Timestamp,
    runs: Vec<&'a ContainerState>,
    /// Whether what runs on is made to serve (it has ports or probes) and what ended is not: then it waits for nothing.
    pub(super) serves: bool,
}

/// What keeps a Job from ending, if it is this.
pub(super) fn held<'a>(scene: &'a Scene, job: &'a Workload) -> Option<Held<'a>> {
    if job.object.kind != Kind::Job || jobs::is_over(job) {
        return None;
    }
    let own = |pod: &&Pod| pod.owner.as_ref() == Some(&job.object) && !pod.is_finished() && !pod.deleting;
    scene.pods.items().iter().filter(own).find_map(|pod| of_pod(scene, job, pod))
}

fn of_pod<'a>(scene: &'a Scene, job: &Workload, pod: &'a Pod) -> Option<Held<'a>> {
    let main = || pod.containers.iter().filter(|container| !container.init);
    let runs: Vec<&ContainerState> = main().filter(|c| matches!(c.state, State::Running { .. })).collect();
    let done: Vec<(Timestamp, &ContainerState)> = main().filter_map(|c| Some((ended_well(c)?, c))).collect();
    // What waits, or ended badly, has another story.
    if runs.is_empty() || runs.len() + done.len() < main().count() {
        return None;
    }
    let (ended_at, last) = *done.iter().max_by_key(|(at, _)| *at)?;
    let serves = |container: &ContainerState| {
        let told = view::container(&job.template, &container.name);
        told.is_some_and(|told| !told.ports.is_empty() || !told.probes.is_empty())
    };
    (say::seconds(ended_at, scene.read_at) >= LINGERS_SECONDS).then(|| Held {
        pod,
        done: last,
        ended_at,
        serves: runs.iter().all(|c| serves(c)) && !done.iter().any(|(_, c)| serves(c)),
        runs,
    })
}

fn ended_well(container: &ContainerState) -> Option<Timestamp> {
    match &container.state {
        State::Terminated(Terminated { exit_code: 0, finished_at, .. }) => *finished_at,
        _ => None,
    }
}

pub(super) fn find(scene: &Scene, now: Timestamp) -> Option<Finding> {
    let job = view::workload(scene)?;
    let held = held(scene, job)?;
    let (pod, name) = (&held.pod.object.name, &job.object.name);
    let others: Vec<Redacted> = held.runs.iter().map(|container| container.name.clone()).collect();
    let others = say::list(&others, 3);
    let runs = if held.runs.len() == 1 { "runs" } else { "run" };
    let (why, sure) = match held.serves {
        true => (" (made to serve, by its ports or probes: nothing ends it)", Certainty::Likely),
        false => ("", Certainty::Possible),
    };
    let skipped = jobs::waited_for(scene, job).map(|event| {
        let runs = say::count(event.count, "run", "runs");
        text!(" {} skipped {} meanwhile.", event.object, runs)
    });
    let says = text!(
        "Container {} of pod {} ended with exit code 0 at {}, but {} {} on{}: a pod completes only when all its containers have ended, so Job {} does not.{}",
        held.done.name,
        pod,
        say::at(held.ended_at, now),
        others,
        runs,
        why,
        name,
        skipped.unwrap_or_default(),
    );
    let started = held.runs.iter().filter_map(|container| match &container.state {
        State::Running { since } => proof::quote(scene, held.pod.at, &text!("\"startedAt\": \"{}\"", (*since)?)),
        _ => None,
    });
    let citations: Vec<Citation> = proof::exit_code(scene, held.pod, 0).into_iter().chain(started.take(1)).collect();
    Some(Finding {
        citations,
        advice: Some(text!(
            "Let {} end with the work: as an init container with restartPolicy Always (a native sidecar, which is ended after the others), or told to stop by {}. Deleting pod {} makes the Job do its work again.",
            others,
            held.done.name,
            pod,
        )),
        ..Finding::new(
            "job-held-by-sidecar",
            if held.serves { Role::Cause } else { Role::Mechanism },
            sure,
            &job.object,
            says,
            text!("{} has ended well, but {} {} on", held.done.name, others, runs).cut(90),
        )
    })
}
