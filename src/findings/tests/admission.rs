//! Stories of pods that are refused before they run: each rule where it fires, and one where it must not.

use super::workloads::{fires, says, silent, workload_behind};
use super::*;

fn refused(world: &mut World, message: &str) {
    world.event(named(Kind::ReplicaSet, "cart-h7"), "FailedCreate", message, (20, 1));
}

/// Revision 7 has no pod; all of revision 6 serve.
fn unborn(message: &str) -> World {
    let mut world = World::cart(2, 2);
    world.workload().updated = 0;
    world.revision(6, 9000, 2, template()).revision(7, 20, 0, template());
    world.changed(&[("image", "a:1", "a:2"), ("serviceAccount", "cart", "cart-next")]);
    world.pod("cart-h6-a", 6, 9000, running()).pod("cart-h6-b", 6, 9000, running());
    refused(&mut world, message);
    world
}

#[test]
fn refused_pods_are_told_by_what_refuses_them_and_the_image_is_not_to_blame() {
    for (message, rule, part) in [
        (
            r#"Error creating: pods "cart-h7-x" is forbidden: exceeded quota: team, requested: pods=1, used: pods=9, limited: pods=9"#,
            "quota",
            "exceeded quota: team",
        ),
        (
            r#"Error creating: pods "cart-h7-x" is forbidden: failed quota: team: must specify limits.cpu for: app"#,
            "quota",
            "must specify limits.cpu",
        ),
        (
            r#"Error creating: pods "cart-h7-x" is forbidden: maximum memory usage per Container is 1Gi, but limit is 4Gi"#,
            "limit-range",
            "maximum memory usage per Container is 1Gi, but limit is 4Gi",
        ),
        (
            r#"Error creating: pods "cart-h7-x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true (container "app" must set it)"#,
            "admission-denied",
            "Pod Security restricted:latest",
        ),
        (
            r#"Error creating: admission webhook "images.example" denied the request: image a:2 is not signed"#,
            "admission-denied",
            "image a:2 is not signed",
        ),
        ("Error creating: the server was out of ideas", "pods-refused", "out of ideas"),
    ] {
        let world = unborn(message);
        says(&fires(&world, rule), &[part]);
        says(&fires(&world, "revision-never-ran"), &["none of its pods was ever created"]);
        let report = world.report();
        assert!(report.proposals.is_empty(), "{message}");
        assert!(
            report.headline.as_str().contains("stuck at revision 7 (2 of 2 pods still serve)"),
            "{}",
            report.headline
        );
    }
    // A pod that was made after the refusal ends it.
    let mut world = unborn(r#"Error creating: pods "x" is forbidden: exceeded quota: team, requested: pods=1"#);
    world.pod("cart-h7-a", 7, 0, running());
    silent(&world, "quota");
    silent(&world, "revision-never-ran");
}

#[test]
fn a_service_account_that_a_revision_names_in_vain_is_undone() {
    let message = r#"Error creating: pods "cart-h7-" is forbidden: error looking up service account shop/cart-next: serviceaccount "cart-next" not found"#;
    let world = unborn(message);
    let report = world.report();
    assert!(
        report.cause.as_str().contains("Revision 7 brought it: serviceAccount cart → cart-next"),
        "{}",
        report.cause
    );
    assert_eq!(undo(&report), Some(6));
    silent(&world, "pods-refused");
}

#[test]
fn a_webhook_that_cannot_be_called_is_told_with_the_workload_behind_it() {
    let message = r#"Error creating: Internal error occurred: failed calling webhook "check.prices.example": failed to call webhook: Post "https://prices.shop.svc:443/check?timeout=10s": no endpoints available for service "prices""#;
    let mut world = unborn(message);
    service(&mut world, false, 0);
    let Part::Known(services) = &mut world.scene.services else { panic!() };
    services[0].behind = workload_behind("prices", 0, 0, services[0].at);
    services[0].link = ServiceLink::Refuses;
    let finding = fires(&world, "webhook-unreachable");
    says(
        &finding,
        &["check.prices.example", "Deployment shop/prices behind it is scaled to 0", "cart itself is not at fault"],
    );
    assert_eq!((finding.about.name(), finding.certainty), ("prices", Certainty::Proved));
    silent(&world, "service-selects-nothing");
    assert!(world.report().advice.unwrap().as_str().contains("Do not restart cart"));

    silent(
        &unborn(r#"Error creating: admission webhook "check.prices.example" denied the request: no"#),
        "webhook-unreachable",
    );
}

#[test]
fn a_missing_pull_secret_is_told_apart_from_a_missing_image() {
    let refused = r#"Failed to pull image "reg.example/shop/cart:1.0": failed to authorize: unexpected status from GET request to https://reg.example/token: 401 Unauthorized"#;
    let lost = "Unable to retrieve some image pull secrets (reg-login); attempting to pull the image may not succeed.";
    let mut world = World::cart(2, 1);
    world.revision(7, 9000, 1, template());
    world.pod("cart-h7-a", 7, 9000, running());
    world.pod("cart-h7-b", 7, 20, waits("ImagePullBackOff", refused));
    world.event(named(Kind::Pod, "cart-h7-b"), "Failed", refused, (20, 1));
    world.event(named(Kind::Pod, "cart-h7-b"), "FailedToRetrieveImagePullSecret", lost, (20, 1));
    let finding = fires(&world, "pull-secret-missing");
    says(&finding, &["Pull secret reg-login", "401 Unauthorized", "missing in shop"]);
    says(&fires(&world, "image-runs"), &["1 pod with it is ready"]);
    silent(&world, "image-pull");

    // A secret that cannot be had does not matter where the registry says that the image is not there.
    let gone = r#"Failed to pull image "reg.example/shop/cart:1.0": reg.example/shop/cart:1.0: not found"#;
    let mut world = World::cart(1, 0);
    world.pod("cart-h7-b", 7, 20, waits("ImagePullBackOff", gone));
    world.event(named(Kind::Pod, "cart-h7-b"), "Failed", gone, (20, 1));
    world.event(named(Kind::Pod, "cart-h7-b"), "FailedToRetrieveImagePullSecret", lost, (20, 1));
    silent(&world, "pull-secret-missing");
    fires(&world, "image-pull");
}

#[test]
fn a_refusal_that_no_pod_waits_for_any_more_is_over() {
    let mut world = World::cart(2, 2);
    world.revision(7, 9000, 2, template());
    world.pod("cart-h7-a", 7, 9000, running()).pod("cart-h7-b", 7, 9000, running());
    refused(&mut world, r#"Error creating: pods "x" is forbidden: exceeded quota: team, requested: pods=1"#);
    silent(&world, "quota");
    world.workload().wanted = 3;
    fires(&world, "quota");
}
