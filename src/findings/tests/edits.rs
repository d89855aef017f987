//! Stories of edits around the subject: told where they made the cause what it is, and nowhere else.

use super::workloads::{fires, says, silent};
use super::*;

/// A pod of two is refused since twenty minutes ago, by the quota `team`.
fn refused() -> World {
    let message = r#"Error creating: pods "cart-h7-x" is forbidden: exceeded quota: team, requested: pods=1, used: pods=1, limited: pods=1"#;
    let mut world = World::cart(2, 1);
    world.revision(7, 9000, 1, template()).pod("cart-h7-a", 7, 9000, running());
    world.event(named(Kind::ReplicaSet, "cart-h7"), "FailedCreate", message, (20, 1));
    world
}

fn edited(mut world: World, quota: &str, field: &str, minutes: i64) -> World {
    let object = named(Kind::ResourceQuota, quota);
    let text = format!("- {field}: 10\n+ {field}: 1");
    let at = world.stands(ScenePart::Changes, Source::Object { object: object.clone() }, &text);
    let line = DiffLine { container: None, field: r(field), before: Some(r("10")), after: Some(r("1")) };
    let (from_revision, to_revision) = (None, None);
    let (changed_at, by, lines) = (ago(minutes), Some(r("kubectl-edit")), vec![line]);
    let Part::Known(changes) = &mut world.scene.changes else { panic!() };
    changes.push(Change { object, changed_at, by, from_revision, to_revision, lines, at });
    world
}

#[test]
fn a_quota_that_was_lowered_before_it_refused_pods_is_told_with_the_difference() {
    let world = edited(refused(), "team", "hard pods", 25);
    let found = fires(&world, "edit-behind");
    says(&found, &["ResourceQuota team was changed at", "by kubectl-edit: hard pods 10 → 1"]);
    assert_eq!((found.role, found.citations.len()), (Role::Change, 1));
    let cause = world.report().cause;
    assert!(cause.as_str().contains("exceeded quota: team") && cause.as_str().contains("hard pods 10 → 1"), "{cause}");
}

#[test]
fn an_edit_of_another_object_or_field_or_after_the_trouble_is_not_behind_it() {
    silent(&edited(refused(), "team-eu", "hard pods", 25), "edit-behind");
    // A word of the refusal is no name of a quota.
    silent(&edited(refused(), "pods", "hard pods", 25), "edit-behind");
    silent(&edited(refused(), "team", "scopes", 25), "edit-behind");
    silent(&edited(refused(), "team", "hard pods", 5), "edit-behind");
    let mut well = World::cart(1, 1);
    well.revision(7, 9000, 1, template()).pod("cart-h7-a", 7, 9000, running());
    silent(&edited(well, "team", "hard pods", 25), "edit-behind");
}
