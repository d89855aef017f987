//! PersistentVolumes that no claim gets: held for one that is gone, or failed when they were reclaimed.

use super::proof;
use super::say;
use crate::model::finding::{Certainty, Finding, Role};
use crate::model::scene::{Claim, PersistentVolume, Scene};
use crate::redact::Redacted;
use crate::text;

pub(super) fn find(scene: &Scene) -> Vec<Finding> {
    let held = scene.claims.items().iter().filter_map(|claim| Some((claim, kept_from(scene, claim)?)));
    let mut found: Vec<Finding> = held.map(|(claim, volume)| held_back(scene, claim, volume)).collect();
    let own = scene.volumes.items().iter().find(|volume| volume.object == scene.subject);
    found.extend(own.filter(|volume| has_failed(volume)).map(|volume| failed(scene, volume)));
    found
}

/// Whether its storage did not do what was asked for when its claim was deleted.
pub(super) fn has_failed(volume: &PersistentVolume) -> bool {
    volume.phase.as_str() == "Failed"
}

/// The volume that a claim asks for, or that is held for a claim of its name, and that it does not get for what the volume
/// is: one that is not held for this very claim is bound to no other.
pub(super) fn kept_from<'a>(scene: &'a Scene, claim: &Claim) -> Option<&'a PersistentVolume> {
    let named = |volume: &PersistentVolume| {
        let asked = claim.volume.as_ref().is_some_and(|name| name.as_str() == volume.object.name());
        asked || volume.claim.as_ref() == Some(&claim.object)
    };
    let released = |volume: &PersistentVolume| {
        volume.phase.as_str() == "Released" && !claim.uid.is_empty() && volume.claim_uid != claim.uid
    };
    let pending = claim.phase.as_str() == "Pending";
    scene.volumes.items().iter().find(|volume| pending && named(volume) && (released(volume) || has_failed(volume)))
}

fn held_back(scene: &Scene, claim: &Claim, volume: &PersistentVolume) -> Finding {
    let name = text!("{}", volume.object.name);
    let held = match &volume.claim {
        Some(old) if *old == claim.object => {
            text!("an earlier {} that was deleted, and cannot be bound to the one that has this name now", old,)
        }
        Some(old) => text!("{}, which was deleted, and cannot be bound to {}, which asks for it", old, claim.object),
        None => text!("a claim that was deleted, and cannot be bound to {}, which asks for it", claim.object),
    };
    let says = text!("PersistentVolume {} is {}: it is still held for {}.{}", name, volume.phase, held, why(volume));
    let brief = text!("PersistentVolume {} is {}, still held for a deleted claim", name, volume.phase);
    Finding {
        citations: cited(scene, volume),
        advice: Some(text!(
            "Ask who owns the data on {} whether this claim may have it; only then take spec.claimRef out of the volume by hand, else give the claim another volume. Deleting either may delete the data.",
            name,
        )),
        ..Finding::new("volume-held", Role::Cause, Certainty::Proved, &volume.object, says, brief.cut(90))
    }
}

fn failed(scene: &Scene, volume: &PersistentVolume) -> Finding {
    let name = text!("{}", volume.object.name);
    let of = volume.claim.as_ref().map_or_else(Redacted::default, |claim| text!(" after {} was deleted", claim));
    let says = text!(
        "PersistentVolume {} could not be reclaimed{} (its policy is {}).{}",
        name,
        of,
        volume.policy,
        why(volume)
    );
    Finding {
        citations: cited(scene, volume),
        advice: Some(text!(
            "Look at what its storage says of {}: nobody else removes what is left there. No pod waits for a volume that is Failed.",
            name,
        )),
        ..Finding::new(
            "volume-failed",
            Role::Cause,
            Certainty::Proved,
            &volume.object,
            says,
            "it could not be reclaimed".into(),
        )
    }
}

/// What its storage said, as a sentence to follow another, or nothing.
fn why(volume: &PersistentVolume) -> Redacted {
    match volume.message.is_empty() {
        true => Redacted::default(),
        false => text!(" Its storage said: {}.", say::line(&volume.message)),
    }
}

fn cited(scene: &Scene, volume: &PersistentVolume) -> Vec<crate::model::evidence::Citation> {
    let uid = say::key(&volume.claim_uid);
    let uid = proof::field(scene, volume.at, "uid", &uid).filter(|_| !volume.claim_uid.is_empty());
    proof::field(scene, volume.at, "phase", &volume.phase)
        .into_iter()
        .chain(proof::quote(scene, volume.at, &volume.message).filter(|_| !volume.message.is_empty()))
        .chain(uid)
        .collect()
}
