//! Stories of signals that become incidents.

use serde_json::json;

use super::*;
use crate::model;
use crate::model::scene::{At, Part};
use crate::model::{Ending, EvidenceId, Heard, Warning, WarningSource};
use crate::observe::typed::Typed;
use crate::redact::Redactor;

fn weight(severity: Severity) -> Weight {
    Weight { severity, why: "".into() }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn alert(name: &str, labels: &[(&str, &str)], status: AlertStatus, started: i64) -> Signal {
    let redact = |text: &str| Redactor::default().redact(text);
    let labels: BTreeMap<String, Redacted> = labels.iter().map(|(k, v)| ((*k).to_owned(), redact(v))).collect();
    Signal {
        id: SignalId::derive(&[name, &format!("{labels:?}{status:?}{started}")]),
        cluster: crate::model::ClusterName::parse("c").unwrap(),
        heard_at: at(started),
        body: SignalBody::Alert(Alert {
            receiver: "r".into(),
            group_key: "g".into(),
            fingerprint: "f".into(),
            name: redact(name),
            status,
            labels,
            annotations: BTreeMap::new(),
            starts_at: at(started),
            ends_at: None,
            generator_url: None,
            truncated: 0,
        }),
    }
}

fn warning(object: &ObjectRef, on_arrival: bool) -> Signal {
    Signal {
        id: SignalId::derive(&["w", &object.to_string()]),
        cluster: crate::model::ClusterName::parse("c").unwrap(),
        heard_at: at(0),
        body: SignalBody::Warning(Warning {
            object: object.clone(),
            source: WarningSource::PodState,
            reason: "CrashLoopBackOff".into(),
            message: "".into(),
            first_at: at(0),
            last_at: at(0),
            count: 1,
            on_arrival,
        }),
    }
}

fn workload(namespace: &str, name: &str) -> ObjectRef {
    ObjectRef::new(Kind::Deployment, Some(namespace), name).unwrap()
}

/// Plans signals one after the other and returns the incidents and how many signals were ignored.
fn run(signals: &[(Signal, Option<ObjectRef>)]) -> (Vec<Incident>, usize) {
    run_over(signals, &BTreeMap::new())
}

/// The same, with what was read around the subjects.
fn run_over(
    signals: &[(Signal, Option<ObjectRef>)],
    scenes: &BTreeMap<ObjectRef, Arc<Scene>>,
) -> (Vec<Incident>, usize) {
    let mut incidents: Vec<Incident> = Vec::new();
    let mut ignored = 0;
    for (signal, subject) in signals {
        let resolved = [Resolved { signal: signal.clone(), subject: subject.clone() }];
        let now = signal.heard_at;
        for change in plan(&incidents, &resolved, scenes, &|_| weight(Severity::Medium), &Rules::default(), now) {
            match change {
                Change::Ignore { .. } => ignored += 1,
                Change::Open { incident, .. } => incidents.push(*incident),
                Change::Join { incident, .. } => {
                    let place = incidents.iter().position(|known| known.id == incident.id).unwrap();
                    incidents[place] = *incident;
                }
            }
        }
    }
    (incidents, ignored)
}

#[test]
fn four_alert_names_of_one_workload_are_one_incident_and_its_neighbour_another() {
    let checkout = Some(workload("shop", "checkout"));
    let names =
        ["KubePodNotReady", "KubeDeploymentReplicasMismatch", "KubeDeploymentRolloutStuck", "KubePodCrashLooping"];
    let mut heard: Vec<_> = names
        .iter()
        .map(|name| (alert(name, &[("namespace", "shop")], AlertStatus::Firing, 0), checkout.clone()))
        .collect();
    heard.push((
        alert("KubePodNotReady", &[("namespace", "shop")], AlertStatus::Firing, 5),
        Some(workload("shop", "cart")),
    ));
    let (incidents, ignored) = run(&heard);
    assert_eq!((incidents.len(), ignored), (2, 0));
    assert_eq!(incidents[0].why.len(), 4);
    assert_eq!(
        incidents[0].why[1].sentence.as_str(),
        "alert KubeDeploymentReplicasMismatch: same Deployment shop/checkout, 0 s apart"
    );
}

#[test]
fn what_fires_always_opens_nothing() {
    let heard = [
        ("Watchdog", "critical"),
        ("InfoInhibitor", "warning"),
        ("Anything", "none"),
        ("watchdog", "critical"),
        ("Dead_Mans-Switch", "page"),
    ];
    let heard: Vec<_> = heard
        .iter()
        .map(|(name, severity)| (alert(name, &[("severity", severity)], AlertStatus::Firing, 0), None))
        .collect();
    assert_eq!(run(&heard), (Vec::new(), 5));
    let near = alert("WatchdogReset", &[("severity", "critical")], AlertStatus::Firing, 0);
    assert_eq!(run(&[(near, None)]).0.len(), 1, "a name that only begins so is another alert");
}

#[test]
fn a_house_has_its_own_alerts_that_fire_always() {
    let rules = Rules { always_firing: vec!["heartbeat-prod".into()], ..Rules::default() };
    let signal = alert("HeartbeatProd", &[], AlertStatus::Firing, 0);
    let changes = plan(
        &[],
        &[Resolved { signal, subject: None }],
        &BTreeMap::new(),
        &|_| weight(Severity::High),
        &rules,
        Timestamp::MIN,
    );
    assert!(matches!(&changes[..], [Change::Ignore { .. }]), "{changes:?}");
}

#[test]
fn an_alert_without_an_object_that_had_long_fired_when_it_was_heard_is_found_on_arrival() {
    let heard_late = |name: &str, hours: i64, subject| {
        let mut signal = alert(name, &[], AlertStatus::Firing, 0);
        signal.heard_at = at(hours * 3600 + 1);
        (signal, subject)
    };
    let (incidents, _) = run(&[heard_late("CPUThrottled", 24, None), heard_late("ClockSkew", 90, None)]);
    assert_eq!(incidents.iter().map(|one| one.fault.as_str()).collect::<Vec<_>>(), [ARRIVAL]);
    assert_eq!(run(&[heard_late("CPUThrottled", 23, None)]).0[0].fault, "alert", "it is news");
    let named = heard_late("CPUThrottled", 90, Some(workload("shop", "checkout")));
    assert_eq!(run(&[named]).0[0].fault, "workload", "what it is about can be looked at");
}

#[test]
fn same_names_in_two_namespaces_are_two_incidents() {
    let heard = ["shop", "shop-eu"].map(|ns| (alert("A", &[], AlertStatus::Firing, 0), Some(workload(ns, "checkout"))));
    assert_eq!(run(&heard).0.len(), 2);
}

#[test]
fn a_resolve_joins_what_it_ends_and_opens_nothing_by_itself() {
    let checkout = Some(workload("shop", "checkout"));
    let firing = (alert("A", &[], AlertStatus::Firing, 0), checkout.clone());
    let resolved = (alert("A", &[], AlertStatus::Resolved, 0), checkout);
    assert_eq!(run(std::slice::from_ref(&resolved)).1, 1);
    assert_eq!(run(&[firing, resolved]).0[0].why.len(), 2);
}

#[test]
fn an_alert_that_names_no_object_is_its_own_subject() {
    let (incidents, _) = run(&[
        (alert("Certificates Expiring!", &[("namespace", "edge")], AlertStatus::Firing, 0), None),
        (alert("Certificates Expiring!", &[("namespace", "edge")], AlertStatus::Firing, 60), None),
    ]);
    assert_eq!(incidents.len(), 1);
    assert_eq!(incidents[0].subject.to_string(), "Alert edge.Certificates-Expiring-");
}

#[test]
fn trouble_found_at_the_first_start_is_one_incident_and_news_about_it_another() {
    let objects = [workload("shop", "a"), workload("shop", "b"), workload("c", "c")];
    let mut heard: Vec<_> = objects.iter().map(|object| (warning(object, true), Some(object.clone()))).collect();
    heard.push((alert("A", &[], AlertStatus::Firing, 10), Some(objects[0].clone())));
    let (incidents, _) = run(&heard);
    assert_eq!(incidents.len(), 2);
    assert_eq!((incidents[0].fault.as_str(), incidents[0].also.len()), (ARRIVAL, 3));
}

#[test]
fn an_incident_ends_as_its_alerts_and_its_subject_tell() {
    let (incidents, _) = run(&[(alert("A", &[], AlertStatus::Firing, 0), Some(workload("shop", "checkout")))]);
    let heard = |firing| Heard { alerts: 1, alerts_firing: firing, ..Heard::default() };
    let mut incident = incidents[0].clone();
    assert_eq!(ending::of(&incident, &heard(1), at(60)), None);
    assert_eq!(ending::of(&incident, &heard(0), at(60)), Some(Ending::Resolved));
    ending::note_health(&mut incident, ending::Health::Unhealthy, at(10));
    assert_eq!(ending::of(&incident, &heard(0), at(60)), None, "the alert resolved, the subject is in trouble still");
    ending::note_health(&mut incident, ending::Health::Healthy, at(70));
    assert_eq!(ending::of(&incident, &heard(1), at(80)), None);
    assert_eq!(ending::of(&incident, &heard(1), at(70 + 15 * 60)), Some(Ending::Presumed));
    let never_unhealthy = incidents[0].clone();
    assert_eq!(ending::of(&never_unhealthy, &heard(1), at(16 * 60)), None);
    assert_eq!(ending::of(&never_unhealthy, &heard(1), at(24 * 3600)), Some(Ending::ResolveNotSeen));
}

#[test]
fn the_list_of_alerts_keeps_an_incident_open_and_ends_one_whose_subject_was_never_ill() {
    let (incidents, _) = run(&[(alert("A", &[], AlertStatus::Firing, 0), Some(workload("shop", "checkout")))]);
    let heard = Heard { alerts: 1, alerts_firing: 1, ..Heard::default() };
    let fresh = incidents[0].clone();
    assert!(ending::asks_list(&fresh, &heard));
    let mut elsewhere = fresh.clone();
    assert!(!ending::note_listed(&mut elsewhere, false, at(0)), "a rule of another server was never in this list");
    assert_eq!(ending::of(&elsewhere, &heard, at(3600)), None);

    let mut listed = fresh.clone();
    assert!(ending::note_listed(&mut listed, true, at(10)));
    assert_eq!(ending::of(&listed, &heard, at(25 * 3600)), None, "it fires still, however old it is");
    assert!(ending::note_listed(&mut listed, false, at(100)) && !ending::note_listed(&mut listed, false, at(130)));
    assert_eq!(ending::of(&listed, &heard, at(399)), None, "its resolve may be under way");
    assert_eq!(ending::of(&listed, &heard, at(400)), Some(Ending::Unlisted));

    let mut ill = fresh;
    ending::note_health(&mut ill, ending::Health::Unhealthy, at(10));
    assert!(!ending::asks_list(&ill, &heard), "its own state says that it is not over");
    ending::note_health(&mut ill, ending::Health::Healthy, at(70));
    ending::note_listed(&mut ill, true, at(71));
    assert_eq!(ending::of(&ill, &heard, at(70 + 3600)), None);
    ending::note_listed(&mut ill, false, at(3700));
    assert_eq!(ending::of(&ill, &heard, at(3701)), Some(Ending::Presumed));
}

#[test]
fn ten_thousand_repeats_of_one_alert_are_one_incident_of_bounded_size() {
    let mut incidents: Vec<Incident> = Vec::new();
    let checkout = workload("shop", "checkout");
    for repeat in 0..10_000 {
        let signal = alert("KubePodCrashLooping", &[("namespace", "shop")], AlertStatus::Firing, repeat);
        let resolved = [Resolved { signal, subject: Some(checkout.clone()) }];
        let changes =
            plan(&incidents, &resolved, &BTreeMap::new(), &|_| weight(Severity::High), &Rules::default(), at(repeat));
        match changes.into_iter().next() {
            Some(Change::Open { incident, .. } | Change::Join { incident, .. }) => incidents = vec![*incident],
            other => panic!("{other:?}"),
        }
        assert_eq!(incidents[0].opened_at, at(0), "never a second one");
    }
    assert!(incidents[0].why.len() <= Rules::default().listed_max);
}

/// A shuffle that is the same in each run.
fn shuffle<T>(items: &mut [T], mut seed: u64) {
    for i in (1..items.len()).rev() {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        items.swap(i, (seed % (i as u64 + 1)) as usize);
    }
}

#[test]
fn the_order_of_arrival_makes_no_other_incidents() {
    let node = ObjectRef::new(Kind::Node, None, "n1").unwrap();
    let objects = [workload("shop", "checkout"), workload("shop", "cart"), workload("shop-eu", "checkout"), node];
    let mut heard = Vec::new();
    for (nth, object) in objects.iter().enumerate() {
        for name in ["A", "B", "C"] {
            let place = format!("{nth}");
            let firing = alert(name, &[("nth", &place)], AlertStatus::Firing, nth as i64 * 20);
            heard.push((firing, Some(object.clone())));
        }
        heard.push((warning(object, false), Some(object.clone())));
    }
    heard.push((alert("Watchdog", &[], AlertStatus::Firing, 0), None));
    heard.push((alert("No object", &[("namespace", "shop")], AlertStatus::Firing, 0), None));
    let shape = |heard: &[(Signal, Option<ObjectRef>)]| {
        let (incidents, ignored) = run(heard);
        let mut shape: Vec<_> = incidents
            .iter()
            .map(|incident| {
                let mut signals: Vec<_> = incident.why.iter().map(|why| why.signal.clone()).collect();
                signals.sort();
                (incident.subject.clone(), incident.fault.clone(), incident.began_at, signals)
            })
            .collect();
        shape.sort();
        (shape, ignored)
    };
    let first = shape(&heard);
    assert_eq!((first.0.len(), first.1), (5, 1));
    for seed in 1..=100 {
        shuffle(&mut heard, 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed));
        assert_eq!(shape(&heard), first, "seed {seed}");
    }
}

const STANDS: At = At { evidence: EvidenceId(1), segment: 0 };

/// A run that is controlled by an object of this kind, as the API server has it.
fn run_of(owner: &str, name: &str) -> (ObjectRef, Arc<Scene>) {
    let job = ObjectRef::new(Kind::Job, Some("shop"), name).unwrap();
    let owner = json!({"kind": owner, "name": "sync", "uid": "u", "controller": true});
    let value = json!({"apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": name, "namespace": "shop", "ownerReferences": [owner]}});
    let mut scene = Scene::unread(job.clone(), at(0), &"not read".into());
    scene.workload = Part::Known(Typed { redactor: &Redactor::default() }.workload(&value, STANDS));
    (job, Arc::new(scene))
}

/// A workload with a revision of this instant and a pod that is not ready.
fn revised(object: &ObjectRef, changed_at: Timestamp) -> Scene {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": object.namespace()},
        "status": {"phase": "Running"}});
    let pod = Typed { redactor: &Redactor::default() }.pod(&pod, Some(object.clone()), STANDS);
    let change = model::scene::Change {
        object: object.clone(),
        changed_at,
        by: None,
        from_revision: Some(1),
        to_revision: Some(2),
        lines: Vec::new(),
        at: STANDS,
    };
    let mut scene = Scene::unread(object.clone(), at(30), &"not read".into());
    (scene.pods, scene.changes) = (Part::Known(pod.into_iter().collect()), Part::Known(vec![change]));
    scene
}

#[test]
fn the_runs_of_a_cron_job_that_fail_one_after_the_other_are_one_incident_about_the_newest() {
    let job = |name: &str| ObjectRef::new(Kind::Job, Some("shop"), name).unwrap();
    let scenes = |owner: &str| ["sync-1", "sync-2", "sync-3", "sync-4"].map(|name| run_of(owner, name)).into();
    let failed = |name: &str, second: i64| {
        (alert("KubeJobFailed", &[("job_name", name)], AlertStatus::Firing, second), Some(job(name)))
    };
    let heard = [
        failed("sync-1", 0),
        failed("sync-2", 300),
        failed("sync-3", 600),
        failed("sync-1", 620),
        failed("sync-4", 4_000),
    ];
    let (incidents, ignored) = run_over(&heard, &scenes("CronJob"));
    assert_eq!((incidents.len(), ignored), (2, 0), "what fails again much later is news");
    assert_eq!(incidents[0].subject, job("sync-3"));
    let cron_job = ObjectRef::new(Kind::CronJob, Some("shop"), "sync").unwrap();
    assert_eq!(incidents[0].also, [cron_job, job("sync-1"), job("sync-2")]);
    assert_eq!(
        incidents[0].why[1].sentence.as_str(),
        "alert KubeJobFailed: another run of CronJob shop/sync, as Job shop/sync-1"
    );
    assert_eq!(incidents[1].subject, job("sync-4"));
    assert_eq!(run_over(&heard, &scenes("Workflow")).0.len(), 4, "Jobs of something else have nothing in common");
}

#[test]
fn an_object_of_an_incident_that_was_given_a_bad_revision_since_has_an_incident_of_its_own() {
    let (node, cart) = (ObjectRef::new(Kind::Node, None, "n1").unwrap(), workload("shop", "cart"));
    let lost = (alert("KubeNodeNotReady", &[("node", "n1")], AlertStatus::Firing, 0), Some(node.clone()));
    let of_cart = (alert("KubePodNotReady", &[("namespace", "shop")], AlertStatus::Firing, 30), Some(cart.clone()));
    let (mut incidents, _) = run(&[lost]);
    incidents[0].also.push(cart.clone());
    let after = |scene: Option<Scene>| {
        let scenes = scene.map(|scene| (cart.clone(), Arc::new(scene))).into_iter().collect();
        let resolved = [Resolved { signal: of_cart.0.clone(), subject: of_cart.1.clone() }];
        plan(&incidents, &resolved, &scenes, &|_| weight(Severity::Medium), &Rules::default(), at(40))
    };
    let opens = |scene: Option<Scene>| matches!(after(scene)[..], [Change::Open { .. }]);
    assert!(!opens(None), "nothing was read that tells otherwise");
    assert!(opens(Some(revised(&cart, at(20)))));
    assert!(!opens(Some(revised(&cart, at(-20)))), "the revision was there before");
}

#[test]
fn a_service_whose_workload_rests_opens_nothing_and_one_that_selects_nothing_does() {
    let service = ObjectRef::new(Kind::Service, Some("shop"), "web").unwrap();
    let mut empty = warning(&service, false);
    let SignalBody::Warning(body) = &mut empty.body else { panic!() };
    (body.source, body.reason) = (WarningSource::ObjectState, "NoReadyEndpoints".into());
    let scene = |behind: Option<u32>| {
        let value = json!({"apiVersion": "v1", "kind": "Service", "spec": {"selector": {"app": "web"}},
            "metadata": {"name": "web", "namespace": "shop"}});
        let typed = Typed { redactor: &Redactor::default() };
        let mut read = typed.service(&value, &[], (model::scene::ServiceLink::Selects, "".into()), STANDS).unwrap();
        read.behind = behind.map(|wanted| model::scene::Neighbour {
            object: workload("shop", "web"),
            wanted,
            ready: 0,
            rolled_out_at: None,
            images: Vec::new(),
            cpu_milli: 0,
            at: STANDS,
        });
        let mut scene = Scene::unread(service.clone(), at(0), &"not read".into());
        scene.services = Part::Known(vec![read]);
        BTreeMap::from([(service.clone(), Arc::new(scene))])
    };
    let heard = [(empty, Some(service.clone()))];
    let opened = |behind| run_over(&heard, &scene(behind)).0.len();
    assert_eq!((opened(Some(0)), opened(Some(2)), opened(None)), (0, 1, 1));
}
