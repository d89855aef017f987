//! Volumes that cannot be mounted, disks that are full, certificates that are refused.

use super::workloads::{fires, silent};
use super::*;

fn waits_for_its_volume(message: &str) -> World {
    let mut world = World::cart(1, 0);
    world.revision(3, 9000, 0, template());
    world.pod("cart-h3-a", 3, 9, waits("ContainerCreating", ""));
    world.event(named(Kind::Pod, "cart-h3-a"), "FailedMount", message, (8, 1));
    world
}

#[test]
fn a_volume_that_cannot_be_mounted_is_told_with_what_the_mount_answered() {
    for (message, why) in [
        (
            "MountVolume.SetUp failed for volume \"pv-7\" : mount failed: exit status 32\nmount.nfs: access denied by server while mounting nas:/data",
            "the file server denies this node",
        ),
        (
            "MountVolume.MountDevice failed for volume \"pv-7\" : 'fsck' found errors on device /dev/sdb but could not correct them",
            "its file system is damaged",
        ),
        (
            "MountVolume.MountDevice failed for volume \"pv-7\" : rpc error: code = DeadlineExceeded desc = context deadline exceeded",
            "the storage driver does not answer",
        ),
        (
            "MountVolume.MountDevice failed for volume \"pv-7\" : kubernetes.io/csi: attacher.MountDevice failed to create newCsiDriverClient: driver name disk.csi.example not found in the list of registered CSI drivers",
            "the storage driver is not registered on the node",
        ),
    ] {
        let world = waits_for_its_volume(message);
        fires(&world, "volume-mount");
        let report = world.report();
        assert!(report.cause.as_str().contains(why), "{}", report.cause);
        assert!(report.headline.as_str().contains("volume pv-7 cannot be mounted"), "{}", report.headline);
        assert!(report.proposals.is_empty() && report.certainty == Certainty::Proved);
    }
}

#[test]
fn a_mount_of_something_that_is_missing_is_told_by_what_is_missing() {
    let message = "MountVolume.SetUp failed for volume \"conf\" : configmap \"cart-conf\" not found";
    assert_eq!(waits_for_its_volume(message).causes(), ["config-missing"]);
    let mut world = waits_for_its_volume("MountVolume.SetUp failed for volume \"pv-7\" : Permission denied");
    world.last_pod().containers[0] = crashes("Error", 1);
    // It has run since.
    silent(&world, "volume-mount");
}

#[test]
fn a_full_disk_and_a_refused_certificate_are_told_by_the_last_words() {
    for (line, rule, says) in [
        ("FATAL: could not write file: No space left on device", "disk-full", "no space is left on its disk"),
        ("x509: certificate signed by unknown authority", "certificate-refused", "its authority is not trusted"),
        ("Error: unable to get local issuer certificate", "certificate-refused", "its authority is not trusted"),
        (
            "TLS client: generated CLIENT ALERT: Fatal - Unknown CA",
            "certificate-refused",
            "its authority is not trusted",
        ),
        (
            "error:0A000418:SSL routines::tlsv1 alert unknown ca:SSL alert number 48",
            "certificate-refused",
            "the other side does not trust its certificate",
        ),
        (
            "x509: certificate is valid for a.example, not b.example",
            "certificate-refused",
            "it is made out for another name",
        ),
        ("ssl: certificate is not yet valid", "certificate-refused", "it is not valid yet"),
        (
            "x509: certificate has expired or is not yet valid: current time 2026-05-04T09:59:00Z is before 2026-05-05T00:00:00Z",
            "certificate-refused",
            "it is not valid yet",
        ),
    ] {
        let world = ends_with(line);
        assert_eq!(world.causes().first(), Some(&fires(&world, rule).rule), "{line}");
        let report = world.report();
        assert!(report.headline.as_str().contains(says), "{}", report.headline);
        assert!(report.certainty == Certainty::Likely && report.proposals.is_empty());
    }
}

#[test]
fn a_certificate_and_a_disk_that_are_well_are_not_blamed() {
    for line in [
        "loaded 12 certificates, error rate 0",
        "space left on device: 40 GiB, fatal: bad flag",
        "Error: ENOSPC: System limit for number of file watchers reached",
        "inotify_add_watch: No space left on device",
        "FATAL: could not create shared memory segment: No space left on device",
        "FATAL: could not create semaphores: No space left on device",
    ] {
        let world = ends_with(line);
        for rule in ["certificate-refused", "disk-full"] {
            silent(&world, rule);
        }
    }
}
