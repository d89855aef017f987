//! Jobs, CronJobs, leases and Services: what must be said of them, and what must not.

use super::*;
use crate::ingest::watch::backing::{Asleep, Backings};
use crate::ingest::watch::leases::Leases;
use crate::ingest::watch::nodes::Nodes;

fn of<K: serde::de::DeserializeOwned>(kind: Kind, name: &str, more: Value) -> K {
    let (group, version, _) = kind.resource();
    let group = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let mut object = json!({"apiVersion": group, "kind": kind.as_str(),
        "metadata": {"name": name, "namespace": "shop", "uid": name}});
    for (key, value) in more.as_object().unwrap() {
        match key.as_str() {
            "metadata" => value.as_object().unwrap().iter().for_each(|(k, v)| object["metadata"][k] = v.clone()),
            _ => object[key] = value.clone(),
        }
    }
    serde_json::from_value(object).unwrap()
}

fn states(kind: Kind) -> (States, Clock) {
    let (speaker, clock) = speaker(false);
    let mut states = States::new(kind, speaker);
    states.hear(Happened::Whole);
    (states, clock)
}

fn cron_job<K: serde::de::DeserializeOwned>(spec: Value, status: Value) -> K {
    of(Kind::CronJob, "backup", json!({"spec": spec, "status": status}))
}

#[test]
fn a_cron_job_that_misses_its_run_speaks_once_until_it_has_run_and_missed_again() {
    let (mut states, clock) = states(Kind::CronJob);
    let every = |last: &str| cron_job(json!({"schedule": "*/10 * * * *"}), json!({"lastScheduleTime": last}));
    assert!(states.hear(Happened::Changed(every("2026-03-24T16:40:00Z"))).is_empty());
    pass(&clock, 1190);
    assert!(states.hear(Happened::Tick).is_empty(), "ten minutes late is not yet said");
    pass(&clock, 11);
    assert_eq!(said(states.hear(Happened::Tick)), ["CronJob shop/backup MissedSchedule"]);
    assert!(states.hear(Happened::Changed(every("2026-03-24T16:40:00Z"))).is_empty(), "once is enough");
    assert!(states.hear(Happened::Changed(every("2026-03-24T17:00:00Z"))).is_empty());
    pass(&clock, 1200);
    assert_eq!(states.hear(Happened::Tick).len(), 1);
}

#[test]
fn a_cron_job_that_is_suspended_or_never_ran_or_was_just_changed_says_nothing() {
    let last = json!({"lastScheduleTime": "2026-03-20T16:40:00Z"});
    let changed: Value = json!({"metadata": {"managedFields": [{"manager": "kubectl", "time": "2026-03-24T16:39:00Z"}]},
        "spec": {"schedule": "40 16 * * *"}, "status": last});
    let quiet = [
        cron_job(json!({"schedule": "40 16 * * *", "suspend": true}), last.clone()),
        cron_job(json!({"schedule": "40 16 * * *"}), json!({})),
        cron_job(json!({"schedule": "@every 5m"}), last.clone()),
        of(Kind::CronJob, "backup", changed),
    ];
    for seen in quiet {
        let (mut states, clock) = states(Kind::CronJob);
        states.hear(Happened::Changed(seen));
        pass(&clock, 300);
        assert!(states.hear(Happened::Tick).is_empty());
    }
    let (mut states, _) = states(Kind::CronJob);
    assert_eq!(states.hear(Happened::Changed(cron_job(json!({"schedule": "40 16 * * *"}), last))).len(), 1);
}

#[test]
fn a_schedule_in_another_time_zone_is_read_by_its_last_run() {
    let (mut states, clock) = states(Kind::CronJob);
    // Three o'clock in Paris is two in UTC.
    let seen = || {
        let spec = json!({"schedule": "0 3 * * *", "timeZone": "Europe/Paris"});
        cron_job(spec, json!({"lastScheduleTime": "2026-03-24T02:00:00Z"}))
    };
    states.hear(Happened::Changed(seen()));
    clock.set("2026-03-25T03:05:00Z".parse().unwrap());
    assert!(states.hear(Happened::Tick).is_empty(), "clocks may have been changed");
    clock.set("2026-03-25T03:11:00Z".parse().unwrap());
    assert_eq!(states.hear(Happened::Tick).len(), 1);
}

#[test]
fn a_run_that_makes_one_other_wait_is_what_forbid_is_for() {
    let (mut states, clock) = states(Kind::CronJob);
    let spec = json!({"schedule": "*/10 * * * *", "concurrencyPolicy": "Forbid"});
    let status = json!({"lastScheduleTime": "2026-03-24T16:40:00Z", "active": [{"name": "backup-1"}]});
    states.hear(Happened::Changed(cron_job(spec, status)));
    pass(&clock, 2390);
    assert!(states.hear(Happened::Tick).is_empty());
    pass(&clock, 11);
    let heard = states.hear(Happened::Tick);
    let SignalBody::Warning(warning) = &heard[0].body else { panic!() };
    assert!(warning.message.as_str().contains("still runs"), "{}", warning.message);
}

#[test]
fn a_job_that_does_not_end_speaks_unless_it_has_a_deadline_of_its_own() {
    let job = |spec: Value, status: Value| of(Kind::Job, "import", json!({"spec": spec, "status": status}));
    let running = json!({"startTime": "2026-03-24T04:39:00Z", "active": 1});
    let (mut states, _) = states(Kind::Job);
    assert!(states.hear(Happened::Changed(job(json!({"activeDeadlineSeconds": 90000}), running.clone()))).is_empty());
    assert!(states.hear(Happened::Changed(job(json!({"suspend": true}), running.clone()))).is_empty());
    let done = json!({"startTime": "2026-03-24T04:39:00Z", "completionTime": "2026-03-24T05:00:00Z"});
    assert!(states.hear(Happened::Changed(job(json!({}), done))).is_empty());
    assert_eq!(said(states.hear(Happened::Changed(job(json!({}), running)))), ["Job shop/import JobNotCompleted"]);
}

fn lease<K: serde::de::DeserializeOwned>(node: &str, at: Timestamp) -> K {
    of(Kind::Lease, node, json!({"spec": {"holderIdentity": node, "renewTime": at.to_string()}}))
}

#[test]
fn a_node_that_does_not_renew_its_lease_speaks_while_others_do() {
    let (speaker, clock) = speaker(true);
    let mut leases = Leases::new(speaker);
    let began = clock.now();
    leases.hear(Happened::Begins);
    for node in ["n1", "n2"] {
        leases.hear(Happened::Listed(lease(node, began)));
    }
    leases.hear(Happened::Whole);
    for _ in 0..6 {
        pass(&clock, 10);
        leases.hear(Happened::Changed(lease("n1", clock.now())));
        assert!(leases.hear(Happened::Tick).is_empty());
    }
    pass(&clock, 5);
    assert_eq!(said(leases.hear(Happened::Tick)), ["Node n2 LeaseNotRenewed on arrival"]);
    assert!(leases.hear(Happened::Tick).is_empty(), "once is enough");
    leases.hear(Happened::Changed(lease("n2", clock.now())));
    for _ in 0..7 {
        pass(&clock, 10);
        leases.hear(Happened::Changed(lease("n1", clock.now())));
    }
    assert_eq!(said(leases.hear(Happened::Tick)), ["Node n2 LeaseNotRenewed"], "again, and no longer on arrival");
}

#[test]
fn a_watch_that_is_behind_makes_no_node_dead() {
    let (speaker, clock) = speaker(false);
    let mut leases = Leases::new(speaker);
    for node in ["n1", "n2"] {
        leases.hear(Happened::Changed(lease(node, clock.now())));
    }
    leases.hear(Happened::Whole);
    pass(&clock, 10);
    for node in ["n1", "n2"] {
        leases.hear(Happened::Changed(lease(node, clock.now())));
    }
    pass(&clock, 600);
    assert!(leases.hear(Happened::Tick).is_empty(), "nobody's lease is renewed: it is the watch");
    // The list that takes the watch up again is not to be looked at half read.
    leases.hear(Happened::Begins);
    leases.hear(Happened::Listed(lease("n1", clock.now())));
    assert!(leases.hear(Happened::Tick).is_empty());
    leases.hear(Happened::Listed(lease("n2", clock.now())));
    leases.hear(Happened::Whole);
    assert!(leases.hear(Happened::Tick).is_empty());
}

fn slice<K: serde::de::DeserializeOwned>(ready: &[bool]) -> K {
    let endpoint = |ready: &bool| json!({"conditions": {"ready": ready}, "targetRef": {"name": "web-5c9d-x7x7x"}});
    of(
        Kind::EndpointSlice,
        "web-abc",
        json!({"metadata": {"labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4",
            "endpoints": ready.iter().map(endpoint).collect::<Vec<_>>()}),
    )
}

fn backings() -> (Backings, Asleep, Clock) {
    let (speaker, clock) = speaker(false);
    let asleep = Asleep::default();
    (Backings::new(speaker, asleep.clone()), asleep, clock)
}

#[test]
fn a_service_speaks_when_it_loses_its_last_endpoint_for_good() {
    let (mut backings, _, clock) = backings();
    backings.hear(Happened::Changed(slice(&[false])));
    pass(&clock, 600);
    assert!(backings.hear(Happened::Tick).is_empty(), "it never had one");
    backings.hear(Happened::Changed(slice(&[true, false])));
    backings.hear(Happened::Changed(slice(&[false, false])));
    pass(&clock, 100);
    assert!(backings.hear(Happened::Tick).is_empty());
    backings.hear(Happened::Changed(slice(&[true, false])));
    pass(&clock, 100);
    assert!(backings.hear(Happened::Tick).is_empty(), "it came back in time");
    backings.hear(Happened::Changed(slice(&[false, false])));
    pass(&clock, 120);
    assert_eq!(said(backings.hear(Happened::Tick)), ["Service shop/web NoReadyEndpoints"]);
    assert!(backings.hear(Happened::Tick).is_empty(), "once is enough");
}

#[test]
fn a_service_whose_workload_was_scaled_to_nothing_is_meant_to_be_empty() {
    let (mut backings, asleep, clock) = backings();
    let scaled = |replicas: i64| of(Kind::Deployment, "web", json!({"spec": {"replicas": replicas}}));
    let note = |happened: Happened<crate::ingest::watch::judge::Watched>| asleep.hear(&happened, |d| d.spec.replicas);
    backings.hear(Happened::Changed(slice(&[true])));
    note(Happened::Changed(scaled(0)));
    backings.hear(Happened::Changed(slice(&[])));
    pass(&clock, 6000);
    assert!(backings.hear(Happened::Tick).is_empty());
    note(Happened::Changed(scaled(2)));
    pass(&clock, 100);
    assert!(backings.hear(Happened::Tick).is_empty(), "it starts");
    pass(&clock, 20);
    assert_eq!(said(backings.hear(Happened::Tick)), ["Service shop/web NoReadyEndpoints"]);
}

/// A slice of a Service with a selector, made at the epoch.
fn selected<K: serde::de::DeserializeOwned>(ready: &[bool]) -> K {
    let endpoint = |ready: &bool| json!({"conditions": {"ready": ready}, "targetRef": {"name": "web-5c9d-x7x7x"}});
    let labels = json!({"kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"});
    let endpoints = ready.iter().map(endpoint).collect::<Vec<_>>();
    of(Kind::EndpointSlice, "web-abc", json!({"metadata": {"labels": labels}, "endpoints": endpoints}))
}

#[test]
fn a_service_whose_selector_meets_no_pod_speaks_once_its_workload_had_its_time() {
    let (mut backings, _, clock) = backings();
    backings.hear(Happened::Changed(selected(&[])));
    pass(&clock, 899);
    assert!(backings.hear(Happened::Tick).is_empty(), "its workload may still be installed");
    pass(&clock, 1);
    let heard = backings.hear(Happened::Tick);
    assert_eq!(said(heard.clone()), ["Service shop/web NoReadyEndpoints"]);
    assert!(backings.hear(Happened::Tick).is_empty(), "once is enough");
    backings.hear(Happened::Changed(selected(&[true])));
    backings.hear(Happened::Changed(selected(&[])));
    pass(&clock, 120);
    let again = backings.hear(Happened::Tick);
    assert!(again.len() == 1 && again[0].id != heard[0].id, "what it lost is another trouble");
}

#[test]
fn an_empty_service_of_the_first_list_is_marked_and_told_once_for_all_starts() {
    let start = || {
        let (speaker, clock) = speaker(true);
        let mut backings = Backings::new(speaker, Asleep::default());
        backings.hear(Happened::Begins);
        backings.hear(Happened::Listed(selected(&[])));
        backings.hear(Happened::Whole);
        pass(&clock, 900);
        backings.hear(Happened::Tick)
    };
    let (first, second) = (start(), start());
    assert_eq!(said(first.clone()), ["Service shop/web NoReadyEndpoints on arrival"]);
    assert_eq!(first[0].id, second[0].id);
}

#[test]
fn a_service_that_starts_in_time_says_nothing() {
    let (mut backings, _, clock) = backings();
    backings.hear(Happened::Changed(selected(&[false])));
    pass(&clock, 600);
    backings.hear(Happened::Changed(selected(&[true])));
    pass(&clock, 6000);
    assert!(backings.hear(Happened::Tick).is_empty());
}

#[test]
fn an_empty_service_of_the_first_list_waits_while_a_workload_beside_it_rests() {
    let (speaker, clock) = speaker(true);
    let asleep = Asleep::default();
    let mut backings = Backings::new(speaker, asleep.clone());
    let rests: crate::ingest::watch::judge::Watched = of(Kind::Deployment, "api", json!({"spec": {"replicas": 0}}));
    asleep.hear(&Happened::Changed(rests), |d| d.spec.replicas);
    backings.hear(Happened::Begins);
    backings.hear(Happened::Listed(selected(&[])));
    backings.hear(Happened::Whole);
    pass(&clock, 6000);
    assert!(backings.hear(Happened::Tick).is_empty(), "what it selects is not read then");
    // Of one that came later the scene tells.
    let (mut backings, asleep, clock) = self::backings();
    let rests: crate::ingest::watch::judge::Watched = of(Kind::Deployment, "api", json!({"spec": {"replicas": 0}}));
    asleep.hear(&Happened::Changed(rests), |d| d.spec.replicas);
    backings.hear(Happened::Changed(selected(&[])));
    pass(&clock, 900);
    assert_eq!(said(backings.hear(Happened::Tick)), ["Service shop/web NoReadyEndpoints"]);
}

/// The node `n1` with these conditions, each since so many seconds.
fn node<K: serde::de::DeserializeOwned>(clock: &Clock, conditions: &[(&str, &str, i64)]) -> K {
    let condition = |(kind, status, ago): &(&str, &str, i64)| {
        let since = from_ms(clock.now_ms() - ago * 1000).to_string();
        json!({"type": kind, "status": status, "reason": format!("Says{kind}"), "lastTransitionTime": since})
    };
    let conditions: Vec<Value> = conditions.iter().map(condition).collect();
    of(Kind::Node, "n1", json!({"status": {"conditions": conditions}}))
}

#[test]
fn a_node_that_is_short_of_something_speaks_when_it_stays_so() {
    let (speaker, clock) = speaker(false);
    let mut nodes = Nodes::new(speaker);
    nodes.hear(Happened::Whole);
    for kind in ["MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"] {
        assert!(nodes.hear(Happened::Changed(node(&clock, &[("Ready", "True", 900), (kind, "True", 59)]))).is_empty());
        pass(&clock, 1);
        let object = nodes.hear(Happened::Tick);
        assert_eq!(object.len(), 1, "{kind}");
        assert!(said(object)[0].ends_with(&format!("n1 {kind}")), "{kind}");
        assert!(nodes.hear(Happened::Tick).is_empty(), "once is enough");
        assert!(nodes.hear(Happened::Changed(node(&clock, &[("Ready", "True", 900), (kind, "False", 0)]))).is_empty());
    }
}

#[test]
fn a_node_whose_pressure_passes_or_that_says_something_else_is_well() {
    let (speaker, clock) = speaker(false);
    let mut nodes = Nodes::new(speaker);
    nodes.hear(Happened::Whole);
    nodes.hear(Happened::Changed(node(&clock, &[("Ready", "True", 900), ("DiskPressure", "True", 30)])));
    nodes.hear(Happened::Changed(node(&clock, &[("Ready", "True", 900), ("DiskPressure", "False", 0)])));
    pass(&clock, 600);
    assert!(nodes.hear(Happened::Tick).is_empty());
    nodes.hear(Happened::Changed(node(&clock, &[("Ready", "True", 900), ("KernelDeadlock", "Unknown", 900)])));
    assert!(nodes.hear(Happened::Tick).is_empty());
}
