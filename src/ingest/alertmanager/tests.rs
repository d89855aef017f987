//! Tests of the webhook body: real captures, odd senders, wrong ones.

use super::*;

fn read(body: &[u8]) -> Result<Vec<Alert>, ParseError> {
    let cluster = ClusterName::parse("test-a").unwrap();
    let signals = parse(body, &cluster, &Redactor::default(), now())?;
    Ok(signals.into_iter().map(alert).collect())
}

fn now() -> Timestamp {
    "2026-11-22T14:00:00Z".parse().unwrap()
}

fn alert(signal: Signal) -> Alert {
    match signal.body {
        SignalBody::Alert(alert) => alert,
        other => panic!("{other:?}"),
    }
}

fn capture(name: &str) -> Vec<u8> {
    let file = format!("{}/fixtures/captures/alertmanager/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let whole: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    serde_json::to_vec(&whole["body"]).unwrap()
}

#[test]
fn every_captured_body_parses() {
    let names = [
        ("01-firing-1", 1),
        ("02-firing-3-grouped", 3),
        ("03-partly-resolved-group-status-firing", 3),
        ("04-resolved", 1),
        ("05-truncated-max_alerts-2", 2),
        ("06-basic-auth", 1),
        ("07-bearer-auth", 1),
    ];
    for (name, count) in names {
        let alerts = read(&capture(name)).unwrap();
        assert_eq!(alerts.len(), count, "{name}");
        assert!(alerts.iter().all(|alert| alert.name.as_str() == "PodRestarting" && !alert.fingerprint.is_empty()));
    }
}

#[test]
fn a_partly_resolved_group_keeps_each_alerts_own_status() {
    let alerts = read(&capture("03-partly-resolved-group-status-firing")).unwrap();
    let firing: Vec<bool> = alerts.iter().map(|alert| alert.status == AlertStatus::Firing).collect();
    assert_eq!(firing, [true, false, false]);
    assert_eq!(alerts[0].ends_at, None, "year 1 means that it fires");
    assert!(alerts[1].ends_at.is_some());
    assert_eq!(read(&capture("05-truncated-max_alerts-2")).unwrap()[0].truncated, 1);
}

#[test]
fn a_repeat_is_the_same_signal_and_a_resolve_is_another() {
    let cluster = ClusterName::parse("test-a").unwrap();
    let ids = |body: &[u8], now| -> Vec<SignalId> {
        parse(body, &cluster, &Redactor::default(), now).unwrap().into_iter().map(|signal| signal.id).collect()
    };
    let body = capture("02-firing-3-grouped");
    assert_eq!(ids(&body, now()), ids(&body, Timestamp::UNIX_EPOCH));
    let resolved = String::from_utf8(body.clone()).unwrap().replace("firing", "resolved");
    let sibling = String::from_utf8(body.clone()).unwrap().replace("\"ok\"", "\"ok-2\"");
    for other in [resolved, sibling] {
        assert!(ids(&body, now()).iter().all(|id| !ids(other.as_bytes(), now()).contains(id)));
    }
}

#[test]
fn an_alert_without_labels_or_times_is_still_an_alert() {
    let alerts = read(br#"{"alerts": [{}, {"labels": null, "startsAt": "0001-01-01T00:00:00Z"}]}"#).unwrap();
    assert_eq!(alerts.len(), 2);
    assert_eq!(alerts[0].name.as_str(), "unnamed alert");
    assert_eq!(alerts[1].starts_at, now());
    assert_eq!(alerts[0].fingerprint.as_str().len(), 16);
    assert!(read(br#"{"alerts": []}"#).unwrap().is_empty());
}

#[test]
fn what_is_wrong_is_named() {
    let error = |body: &[u8]| read(body).unwrap_err().to_string();
    let cases: [(&[u8], &str); 9] = [
        (br#"{"alerts": [{"labels": {"a": "#, "the body is not JSON: line 1 column 29"),
        (b"\xff\xfe", "the body is not JSON: line 1 column 1"),
        (b"[1]", "`body` should be an object"),
        (br#"{"receiver": "x"}"#, "`alerts` should be a list"),
        (br#"{"receiver": 7, "alerts": []}"#, "`receiver` should be a text"),
        (br#"{"alerts": [{}, {"labels": {"a b": 5}}]}"#, "`alerts[1].labels.a_b` should be a text"),
        (br#"{"alerts": [{"labels": []}]}"#, "`alerts[0].labels` should be an object"),
        (br#"{"alerts": [{"status": "on fire"}]}"#, "`alerts[0].status` should be `firing` or `resolved`"),
        (
            br#"{"alerts": [{"startsAt": "yesterday"}]}"#,
            "`alerts[0].startsAt` should be an instant such as 2026-03-24T16:40:00Z",
        ),
    ];
    for (body, says) in cases {
        assert_eq!(error(body), says);
    }
}

#[test]
fn sizes_are_bounded_and_secrets_are_gone() {
    let labels: Vec<String> = (0..100).map(|n| format!(r#""l{n:03}": "{}""#, "x".repeat(5_000))).collect();
    let body = format!(
        r#"{{"alerts": [{{"labels": {{{}}}, "annotations": {{"summary": "login postgres://app:hunter22@db failed"}}}}]}}"#,
        labels.join(",")
    );
    let alert = read(body.as_bytes()).unwrap().remove(0);
    assert_eq!(alert.labels.len(), PAIRS_MAX);
    assert!(alert.labels.values().all(|value| value.as_str().chars().count() == VALUE_MAX_CHARS));
    assert!(!alert.annotations["summary"].as_str().contains("hunter22"));
    let many = format!(r#"{{"alerts": [{}]}}"#, vec!["{}"; ALERTS_MAX + 1].join(","));
    assert_eq!(read(many.as_bytes()), Err(ParseError::TooMany(ALERTS_MAX + 1)));
}
