//! Stories of PersistentVolumes that no claim gets.

use super::workloads::{fires, says, silent};
use super::*;

/// The claim `shop/ledger` as a subject, not bound, asking for the volume `disk-7`, which is in this phase and held for the
/// claim of this name and uid.
fn waiting(phase: &str, claim: &str, uid: &str) -> World {
    let object = named(Kind::PersistentVolumeClaim, "ledger");
    let mut world = World::of(object.clone());
    let at = world.stands(ScenePart::Storage, Source::Object { object: object.clone() }, r#"{"phase": "Pending"}"#);
    world.scene.claims = Part::Known(vec![Claim {
        object: object.clone(),
        uid: "u-new".into(),
        phase: r("Pending"),
        storage_class: None,
        volume: Some(r("disk-7")),
        access_modes: Vec::new(),
        classes: None,
        at,
    }]);
    let volume = ObjectRef::new(Kind::PersistentVolume, None, "disk-7").unwrap();
    let text = format!(r#"{{"uid": "{uid}", "phase": "{phase}"}}"#);
    let at = world.stands(ScenePart::Storage, Source::Object { object: volume.clone() }, &text);
    world.scene.volumes = Part::Known(vec![PersistentVolume {
        object: volume,
        phase: r(phase),
        message: "".into(),
        claim: Some(named(Kind::PersistentVolumeClaim, claim)),
        claim_uid: uid.into(),
        policy: r("Retain"),
        at,
    }]);
    world.event(object, "FailedBinding", r#"volume "disk-7" already bound to a different claim."#, (20, 1));
    world
}

fn volume(world: &mut World) -> &mut PersistentVolume {
    let Part::Known(volumes) = &mut world.scene.volumes else { panic!() };
    &mut volumes[0]
}

#[test]
fn a_volume_that_is_held_for_a_claim_that_was_deleted_is_named_with_what_to_do() {
    let world = waiting("Released", "ledger", "u-old");
    let found = fires(&world, "volume-held");
    says(&found, &["disk-7 is Released", "an earlier PersistentVolumeClaim shop/ledger that was deleted"]);
    assert_eq!((found.role, found.certainty, found.citations.len()), (Role::Cause, Certainty::Proved, 2));
    assert_eq!(fires(&world, "claim-unbound").role, Role::Mechanism);
    let report = world.report();
    assert!(
        report.headline.as_str().contains("is not bound: PersistentVolume disk-7 is Released"),
        "{}",
        report.headline
    );
    assert_eq!(report.culprit.map(|volume| volume.to_string()).as_deref(), Some("PersistentVolume disk-7"));
    assert!(report.proposals.is_empty() && report.advice.unwrap().as_str().contains("spec.claimRef"));

    let other = waiting("Released", "ledger-2025", "u-old");
    says(&fires(&other, "volume-held"), &["shop/ledger-2025, which was deleted", "shop/ledger, which asks for it"]);
    let mut failed = waiting("Failed", "ledger", "u-old");
    volume(&mut failed).message = r("rpc error: volume is in use");
    says(&fires(&failed, "volume-held"), &["disk-7 is Failed", "Its storage said: rpc error: volume is in use."]);
}

#[test]
fn a_volume_that_is_this_claims_own_or_nobody_elses_or_of_another_keeps_nothing_back() {
    silent(&waiting("Released", "ledger", "u-new"), "volume-held");
    silent(&waiting("Available", "ledger", "u-old"), "volume-held");
    silent(&waiting("Bound", "ledger-2025", "u-old"), "volume-held");
    let mut unasked = waiting("Released", "ledger-2025", "u-old");
    let Part::Known(claims) = &mut unasked.scene.claims else { panic!() };
    claims[0].volume = None;
    silent(&unasked, "volume-held");
    assert_eq!(fires(&unasked, "claim-unbound").role, Role::Cause);
    let mut bound = waiting("Released", "ledger", "u-old");
    let Part::Known(claims) = &mut bound.scene.claims else { panic!() };
    claims[0].phase = r("Bound");
    silent(&bound, "volume-held");
    let mut unread = waiting("Released", "ledger", "u-old");
    unread.scene.volumes = Part::Missing("not allowed".into());
    silent(&unread, "volume-held");
}

#[test]
fn a_volume_that_could_not_be_reclaimed_is_the_subjects_own_fault_and_one_that_is_kept_is_none() {
    let own = |phase: &str| {
        let mut world = waiting(phase, "ledger", "u-old");
        world.scene.claims = Part::Known(Vec::new());
        world.scene.subject = ObjectRef::new(Kind::PersistentVolume, None, "disk-7").unwrap();
        volume(&mut world).message = r("rpc error: volume is in use");
        world
    };
    let failed = own("Failed");
    says(
        &fires(&failed, "volume-failed"),
        &["after PersistentVolumeClaim shop/ledger was deleted", "policy is Retain"],
    );
    assert_eq!(failed.report().headline.as_str(), "PersistentVolume disk-7 is Failed: it could not be reclaimed");
    assert_eq!(severity(&failed.scene, now()), Severity::Medium);
    silent(&own("Released"), "volume-failed");
    assert_eq!(health(&own("Released").scene), Health::Healthy, "a volume is kept on purpose");
    silent(&waiting("Failed", "ledger", "u-old"), "volume-failed");
}
