//! Pulls that fail, and containers that may not start: what is blamed follows what was answered.

use super::*;

/// A revision that changed the image, and what the pull of the new one was answered.
fn pull(before: &str, after: &str, answer: &str) -> World {
    let message = format!(r#"Failed to pull image "{after}": rpc error: code = Unknown desc = {answer}"#);
    let mut waiting = waits("ImagePullBackOff", &format!(r#"Back-off pulling image "{after}""#));
    waiting.image = r(after);
    let mut world = after_a_rollout(3, ("image", before, after), waiting);
    world.event(named(Kind::Pod, "cart-h7-a"), "Failed", &message, (20, 1));
    world
}

const OLD: &str = "hub.example/shop/cart:3.1";
const NEW: &str = "hub.example/shop/cart:3.2";

#[test]
fn a_tag_is_called_missing_only_where_the_registry_says_so() {
    let report = pull(OLD, NEW, "hub.example/shop/cart:3.2: not found").report();
    assert!(report.headline.as_str().ends_with("cannot pull image shop/cart, no tag 3.2"), "{}", report.headline);
    assert_eq!((report.certainty, undo(&report)), (Certainty::Proved, Some(6)));
}

#[test]
fn a_registry_that_does_not_answer_is_no_fault_of_the_revision() {
    for answer in [
        r#"failed to do request: Head "https://hub.example/v2/": dial tcp 10.4.4.4:443: i/o timeout"#,
        r#"Get "https://hub.example/v2/": net/http: TLS handshake timeout"#,
        r#"unexpected status code: 503 Service Unavailable"#,
        "toomanyrequests: You have reached your pull rate limit",
        "429 Too Many Requests",
        "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        "write /var/lib/containerd/x: no space left on device",
    ] {
        let report = pull(OLD, NEW, answer).report();
        assert!(!report.headline.as_str().contains("no tag"), "{answer}: {}", report.headline);
        assert!(report.certainty <= Certainty::Likely && report.proposals.is_empty(), "{answer}: {report:?}");
        assert!(report.advice.is_some(), "{answer}");
        assert!(!report.cause.as_str().starts_with("Revision"), "{answer}: {}", report.cause);
    }
    let report = pull(OLD, NEW, "i/o timeout").report();
    assert!(report.headline.as_str().contains("registry hub.example does not answer"), "{}", report.headline);
}

#[test]
fn a_registry_that_the_revision_brought_and_that_does_not_answer_is_taken_back() {
    let report = pull(OLD, "hub2.example/shop/cart:3.1", "dial tcp: lookup hub2.example: no such host").report();
    assert_eq!((report.certainty, undo(&report)), (Certainty::Likely, Some(6)));
}

#[test]
fn a_refused_login_is_about_the_login() {
    for answer in ["failed to authorize: unexpected status: 401 Unauthorized", "no basic auth credentials"] {
        let report = pull(OLD, NEW, answer).report();
        assert!(report.headline.as_str().contains("login refused"), "{}", report.headline);
        assert!(report.proposals.is_empty() && report.certainty == Certainty::Likely);
        assert!(report.advice.unwrap().as_str().contains("pull secret"));
    }
}

#[test]
fn an_image_without_a_build_for_the_platform_is_not_called_missing() {
    let report = pull(OLD, NEW, "no match for platform in manifest: not found").report();
    assert!(report.headline.as_str().contains("none for the node's platform"), "{}", report.headline);
    assert_eq!(undo(&report), Some(6));
}

#[test]
fn an_answer_that_nobody_understands_is_not_proved() {
    let report = pull(OLD, NEW, "manifest blob 7 is odd").report();
    assert!(!report.headline.as_str().contains("no tag"), "{}", report.headline);
    assert_eq!(report.certainty, Certainty::Likely);
}

#[test]
fn what_a_probe_of_the_pod_complains_of_is_no_answer_of_a_registry() {
    let mut world = pull(OLD, NEW, "hub.example/shop/cart:3.2: not found");
    world.event(named(Kind::Pod, "cart-h7-a"), "Unhealthy", "Readiness probe failed: connection refused", (20, 1));
    assert!(world.report().headline.as_str().contains("no tag 3.2"));
}

#[test]
fn a_container_that_may_not_run_as_root_is_told_with_what_demands_it() {
    let message = r#"container has runAsNonRoot and image will run as root (pod: "cart-h7-a", container: app)"#;
    let line = ("securityContext.runAsNonRoot", "", "true");
    let report = after_a_rollout(3, line, waits("CreateContainerConfigError", message)).report();
    assert!(report.headline.as_str().ends_with("the image runs as root"), "{}", report.headline);
    assert_eq!((report.certainty, undo(&report)), (Certainty::Proved, Some(6)));

    let message = "container has runAsNonRoot and image has non-numeric user (nginx), cannot verify user is non-root";
    let line = ("label team", "a", "b");
    let report = after_a_rollout(3, line, waits("CreateContainerConfigError", message)).report();
    assert!(report.headline.as_str().ends_with("the image's user is nginx"), "{}", report.headline);
    assert!(report.proposals.is_empty() && report.advice.is_some(), "no revision brought it");

    let other = waits("CreateContainerConfigError", "failed to sync configmap cache: timed out");
    assert!(!after_a_rollout(3, line, other).causes().contains(&"runs-as-root".to_owned()));
}
