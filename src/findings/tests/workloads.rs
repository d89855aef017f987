//! Stories of workload and configuration faults: each rule where it fires, and one where it must not.

use super::*;

pub(super) fn fires(world: &World, rule: &str) -> Finding {
    let found = find(&world.scene, now());
    let rules: Vec<String> = found.iter().map(|finding| finding.rule.clone()).collect();
    found.into_iter().find(|finding| finding.rule == rule).unwrap_or_else(|| panic!("no {rule} in {rules:?}"))
}

pub(super) fn silent(world: &World, rule: &str) {
    let found = find(&world.scene, now());
    assert!(found.iter().all(|finding| finding.rule != rule), "{rule} fired: {found:?}");
}

pub(super) fn says(finding: &Finding, parts: &[&str]) {
    for part in parts {
        assert!(finding.says.as_str().contains(part), "{part:?} is not in {:?}", finding.says);
    }
}

pub(super) fn workload_behind(name: &str, wanted: u32, ready: u32, at: At) -> Option<Neighbour> {
    let object = ObjectRef::new(Kind::Deployment, Some("shop"), name).unwrap();
    Some(Neighbour { object, wanted, ready, rolled_out_at: Some(ago(15)), images: Vec::new(), cpu_milli: 0, at })
}

fn config_map(world: &mut World, name: &str, keys: &[&str]) {
    let object = named(Kind::ConfigMap, name);
    let text = format!(r#"{{"name": "{name}"}}"#);
    let at = world.stands(ScenePart::Config, Source::Object { object: object.clone() }, &text);
    let keys = keys.iter().map(|key| r(key)).collect();
    let Part::Known(maps) = &mut world.scene.config_maps else { panic!() };
    maps.push(ConfigMap { object, created_at: ago(90_000), keys, referenced: true, at });
}

fn edited(world: &mut World, name: &str, minutes: i64) {
    let at = world.scene.config_maps.items()[0].at;
    let change = Change {
        object: named(Kind::ConfigMap, name),
        changed_at: ago(minutes),
        by: Some(r("kubectl-edit")),
        from_revision: None,
        to_revision: None,
        lines: Vec::new(),
        at,
    };
    let Part::Known(changes) = &mut world.scene.changes else { panic!() };
    changes.push(change);
}

/// The cart has run for days with one revision and crashes since 12 minutes ago; `line` is the last of its log.
fn crashing_without_a_rollout(line: &str) -> World {
    let mut world = World::cart(1, 0);
    world.revision(6, 20_000, 0, template()).revision(7, 9000, 0, template());
    world.changed(&[("image", "a:1", "a:2")]);
    world.pod("cart-h7-a", 7, 9000, crashes("Error", 1));
    world.log("cart-h7-a", &[("cart starts", 2), (line, 1)]);
    world.event(named(Kind::Pod, "cart-h7-a"), "BackOff", "Back-off restarting failed container app", (12, 1));
    world
}

#[test]
fn an_argument_that_the_program_rejects_is_told_with_the_revision_that_passed_it() {
    let mut world = after_a_rollout(3, ("args", "serve --port=80", "serve --prot=80"), crashes("Error", 2));
    let args = |word: &str| {
        let mut template = template();
        template.containers[0].args = vec![r("serve"), r(word)];
        template
    };
    let Part::Known(revisions) = &mut world.scene.revisions else { panic!() };
    (revisions[0].template, revisions[1].template) = (args("--prot=80"), args("--port=80"));
    world.workload().template = args("--prot=80");
    world.log("cart-h7-a", &[("error: unexpected argument '--prot' found", 1)]);
    let finding = fires(&world, "unknown-argument");
    says(&finding, &["exits 2", "--prot", "Revision 7", "serve --port=80"]);
    assert_eq!(finding.brief.as_str(), "unknown argument --prot (was --port=80)");
    assert_eq!((finding.certainty, undo(&world.report())), (Certainty::Proved, Some(6)));

    // A complaint that the program lived on after is none.
    let mut world = World::cart(1, 1);
    world.revision(7, 9000, 1, template());
    world.pod("cart-h7-a", 7, 9000, running());
    world.log("cart-h7-a", &[("client sent unknown flag: --colour", 1)]);
    silent(&world, "unknown-argument");
}

#[test]
fn a_program_for_another_processor_is_told_with_the_nodes_own() {
    let mut world = after_a_rollout(3, ("image", "a:1", "reg.example/shop/cart:1.0"), crashes("Error", 255));
    world.node("n1", true, &[("kubernetes.io/arch", "arm64")], (4000, 0));
    world.log("cart-h7-a", &[("exec /bin/cart: exec format error", 1)]);
    let finding = fires(&world, "wrong-architecture");
    says(&finding, &["Revision 7", "(arm64)", "exit code 255", "3 pods of revision 6 still serve"]);
    assert_eq!((finding.certainty, undo(&world.report())), (Certainty::Likely, Some(6)));

    silent(&crashing_without_a_rollout("FATAL: no such format: yaml"), "wrong-architecture");
}

#[test]
fn a_refusal_of_the_api_server_is_told_with_the_account_and_what_it_may_not() {
    let refusal = r#"FATAL pods is forbidden: User "system:serviceaccount:shop:sweeper" cannot delete resource "pods" in API group "" in the namespace "shop""#;
    let world = crashing_without_a_rollout(refusal);
    let finding = fires(&world, "api-forbidden");
    says(
        &finding,
        &[
            "service account shop/sweeper",
            "may not delete pods in namespace shop",
            "was probably changed or taken away",
        ],
    );
    assert!(finding.certainty == Certainty::Likely && finding.proposal.is_none());

    silent(&crashing_without_a_rollout("FATAL login of user sweeper is forbidden"), "api-forbidden");
}

#[test]
fn an_edited_config_map_is_the_cause_when_the_log_names_its_key() {
    let mut world = crashing_without_a_rollout("FATAL tariffs.toml: rate is not a number");
    config_map(&mut world, "tariffs", &["tariffs.toml"]);
    edited(&mut world, "tariffs", 14);
    let finding = fires(&world, "config-edited");
    says(&finding, &["ConfigMap tariffs", "by kubectl-edit", "tariffs.toml", "is not a number"]);
    assert_eq!((finding.certainty, finding.about.kind), (Certainty::Likely, Kind::ConfigMap));
    assert!(world.report().proposals.is_empty(), "a rollback does not touch a ConfigMap");
}

#[test]
fn an_edit_that_nothing_names_is_a_possible_cause_at_most_and_a_later_one_is_none() {
    let mut world = crashing_without_a_rollout("FATAL: connection pool exhausted");
    config_map(&mut world, "tariffs", &["tariffs.toml"]);
    edited(&mut world, "tariffs", 14);
    assert_eq!(fires(&world, "config-edited").certainty, Certainty::Possible);

    let mut world = crashing_without_a_rollout("FATAL tariffs.toml: rate is not a number");
    config_map(&mut world, "tariffs", &["tariffs.toml"]);
    edited(&mut world, "tariffs", 3);
    silent(&world, "config-edited");
}

/// The edit with its difference, as the watch heard it.
fn edited_line(world: &mut World, name: &str, field: &str, before: &str, after: &str) {
    edited(world, name, 14);
    let object = named(Kind::ConfigMap, name);
    let lines = vec![DiffLine { container: None, field: r(field), before: Some(r(before)), after: Some(r(after)) }];
    let text = format!("- {field}: {before}\n+ {field}: {after}");
    let at = world.stands(ScenePart::Changes, Source::Object { object }, &text);
    let Part::Known(changes) = &mut world.scene.changes else { panic!() };
    let change = changes.last_mut().unwrap();
    (change.lines, change.at) = (lines, at);
}

#[test]
fn an_edit_is_told_with_its_difference_and_blamed_only_where_the_log_speaks_of_what_changed() {
    let mut world = crashing_without_a_rollout("FATAL: pool_size 200 exceeds what the role allows");
    config_map(&mut world, "settings", &["LEVEL", "app.yaml"]);
    edited_line(&mut world, "settings", "key app.yaml", "pool_size: 20", "pool_size: 200");
    let finding = fires(&world, "config-edited");
    says(&finding, &["(key app.yaml pool_size: 20 → pool_size: 200)", "the log names pool_size"]);
    assert_eq!(finding.certainty, Certainty::Likely);
    assert!(finding.citations.iter().any(|quoted| quoted.quote.as_str() == "+ key app.yaml: pool_size: 200"));
    world.report();

    // The log names a key of it, but another one changed.
    let mut world = crashing_without_a_rollout("FATAL: app.yaml cannot be parsed");
    config_map(&mut world, "settings", &["LEVEL", "app.yaml"]);
    edited_line(&mut world, "settings", "key LEVEL", "info", "debug");
    let finding = fires(&world, "config-edited");
    assert_eq!(finding.certainty, Certainty::Possible);
    assert!(!finding.says.as_str().contains("the log names"), "{}", finding.says);
}

/// `exec` of a liveness probe that refuses at 9000, as the kubelet tells it, and the kill that follows.
fn killed_by_its_probe(world: &mut World, pod: &str) {
    let failed = r#"Liveness probe failed: Get "http://10.0.0.9:9000/live": dial tcp 10.0.0.9:9000: connect: connection refused"#;
    world.event(named(Kind::Pod, pod), "Unhealthy", failed, (12, 1));
    world.event(named(Kind::Pod, pod), "Killing", "Container app failed liveness probe, will be restarted", (12, 1));
}

#[test]
fn a_container_killed_while_it_starts_is_no_crash_and_no_rollout() {
    let mut world = World::cart(1, 0);
    let mut slow = template();
    let probe = r#"{"initialDelaySeconds": 10, "periodSeconds": 5, "failureThreshold": 4}"#;
    slow.containers[0].probes = map(&[("liveness", probe)]);
    world.revision(6, 20_000, 0, slow.clone()).revision(7, 9000, 0, slow);
    world.pod("cart-h7-a", 7, 9000, crashes("Error", 137));
    killed_by_its_probe(&mut world, "cart-h7-a");
    assert_eq!(fires(&world, "probe-kills").certainty, Certainty::Possible, "no log, no proof of slowness");
    world.log("cart-h7-a", &[("warming the cache, 40 of 90", 1)]);
    let finding = fires(&world, "probe-kills");
    says(&finding, &["liveness probe", "within the 30 s", "no startup probe", "warming the cache", "SIGKILL"]);
    assert!(finding.certainty == Certainty::Likely && finding.proposal.is_none());
    assert!(!world.report().cause.as_str().contains("OOM"));

    // With an error in its log, slowness is a guess.
    world.log("cart-h7-a", &[("ERROR cannot open the cache", 1)]);
    assert_eq!(fires(&world, "probe-kills").certainty, Certainty::Possible);
}

#[test]
fn a_probe_at_another_port_than_the_log_names_is_told_with_both() {
    let mut world = crashing_without_a_rollout("listening on :8080");
    killed_by_its_probe(&mut world, "cart-h7-a");
    says(&fires(&world, "probe-kills"), &["asks port 9000", "listens on 8080"]);

    // Killed long ago, but well now: nothing to say.
    let mut world = World::cart(1, 1);
    world.revision(7, 9000, 1, template());
    world.pod("cart-h7-a", 7, 9000, running());
    killed_by_its_probe(&mut world, "cart-h7-a");
    silent(&world, "probe-kills");
}

#[test]
fn a_probe_that_a_revision_moved_is_told_by_the_field_that_differs() {
    let (before, after) =
        (r#"{"httpGet": {"path": "/up", "port": 80}}"#, r#"{"httpGet": {"path": "/up", "port": 9000}}"#);
    let mut world = after_a_rollout(0, ("probe liveness", before, after), crashes("Error", 143));
    killed_by_its_probe(&mut world, "cart-h7-a");
    let finding = fires(&world, "probe-fails");
    says(&finding, &["Revision 7 changed its httpGet.port 80 → 9000"]);
    assert_eq!(undo(&world.report()), Some(6));
}

#[test]
fn a_dependency_that_is_down_is_the_culprit_and_not_the_caller_that_rolled_out_lately() {
    let mut waiting = running();
    waiting.ready = false;
    let mut world = after_a_rollout(0, ("image", "a:1", "a:2"), waiting);
    world.log("cart-h7-a", &[("dial tcp 10.0.0.4:80: connect: connection refused (prices:80)", 9)]);
    service(&mut world, false, 1);
    let Part::Known(services) = &mut world.scene.services else { panic!() };
    (services[0].ready_endpoints, services[0].pods_selected) = (0, 1);
    services[0].behind = workload_behind("prices", 1, 0, services[0].at);
    let finding = fires(&world, "dependency-down");
    says(&finding, &["cart cannot reach Service shop/prices", "0 of 1 pods ready", "connection refused"]);
    assert_eq!((finding.about.name(), finding.certainty), ("prices", Certainty::Likely));
    assert!(world.report().proposals.is_empty());

    // Known by its address alone it is a guess, and a line about something else is none.
    let Part::Known(logs) = &mut world.scene.logs else { panic!() };
    logs.clear();
    world.log("cart-h7-a", &[("using prices:80", 20), ("dial tcp 10.0.0.4:80: connect: connection refused", 9)]);
    assert_eq!(fires(&world, "dependency-down").certainty, Certainty::Possible);
    let Part::Known(logs) = &mut world.scene.logs else { panic!() };
    logs.clear();
    world.log("cart-h7-a", &[("using prices:80", 20), ("login of anna refused", 9)]);
    silent(&world, "dependency-down");
    world.log("cart-h7-a", &[("prices:80 timed out", 9)]);
    fires(&world, "dependency-down");

    // One that answers is not to blame, whatever the log said before.
    let Part::Known(services) = &mut world.scene.services else { panic!() };
    services[0].ready_endpoints = 1;
    silent(&world, "dependency-down");
}

#[test]
fn a_rollout_that_changed_a_label_alone_is_ruled_out_by_what_it_changed() {
    let mut world = World::cart(1, 0);
    world.revision(6, 20_000, 0, template()).revision(7, 200, 0, template());
    world.changed(&[("label team", "", "north")]);
    world.pod("cart-h7-a", 7, 200, crashes("OOMKilled", 137));
    world.event(named(Kind::Pod, "cart-h7-a"), "BackOff", "Back-off restarting failed container app", (12, 1));
    let report = world.report();
    let ruled_out = report.ruled_out.iter().any(|line| line.as_str().contains("revision 7 changed only label team"));
    assert!(ruled_out, "{:?}", report.ruled_out);
    assert!(report.proposals.is_empty());
}

#[test]
fn a_command_that_a_shell_does_not_find_is_told_by_its_name() {
    let mut world = after_a_rollout(3, ("args", "serve", "migrate-db && serve"), crashes("Error", 127));
    world.log("cart-h7-a", &[("sh: 1: migrate-db: not found", 1)]);
    says(&fires(&world, "command-not-found"), &["exits 127", "does not find migrate-db", "Revision 7"]);
    assert_eq!(undo(&world.report()), Some(6));

    let mut world = after_a_rollout(3, ("args", "serve", "serve -v"), crashes("Error", 1));
    world.log("cart-h7-a", &[("lookup: basket 17: not found", 1)]);
    silent(&world, "command-not-found");
}

#[test]
fn a_service_whose_workload_is_scaled_to_zero_has_a_right_selector() {
    let mut world = World::of(named(Kind::Service, "prices"));
    service(&mut world, false, 0);
    let Part::Known(services) = &mut world.scene.services else { panic!() };
    services[0].behind = workload_behind("prices", 0, 0, services[0].at);
    let finding = fires(&world, "no-pods-behind");
    says(&finding, &["Deployment shop/prices behind Service prices is scaled to 0"]);
    assert_eq!(finding.certainty, Certainty::Proved);
    silent(&world, "service-selects-nothing");

    let mut world = World::of(named(Kind::Service, "prices"));
    service(&mut world, true, 0);
    silent(&world, "no-pods-behind");
}

#[test]
fn a_change_by_hand_past_gitops_is_synced_and_not_reverted_in_git() {
    let mut world = after_a_rollout(3, ("env QUEUE", "a", "b"), crashes("Error", 1));
    world.workload().gitops = Some(r("Argo CD"));
    let advice = |world: &World| world.report().advice.unwrap().as_str().to_owned();
    assert!(advice(&world).contains("revert the change in Git"));
    let Part::Known(changes) = &mut world.scene.changes else { panic!() };
    changes[0].by = Some(r("kubectl-edit"));
    assert!(advice(&world).contains("kubectl-edit made the change: Git still has what was there before"));
    assert!(world.report().proposals.is_empty());
}

#[test]
fn what_a_program_lived_on_after_is_a_possible_cause_at_most() {
    let refusal = r#"pods is forbidden: User "system:serviceaccount:shop:sweeper" cannot list resource "pods" in API group "" at the cluster scope"#;
    let mut world = crashing_without_a_rollout(refusal);
    let Part::Known(logs) = &mut world.scene.logs else { panic!() };
    logs.clear();
    world.log("cart-h7-a", &[(refusal, 3), ("FATAL disk is full", 1)]);
    assert_eq!(fires(&world, "api-forbidden").certainty, Certainty::Possible);

    // What the kernel killed for its memory did not end for what it logged.
    let mut world = crashing_without_a_rollout(refusal);
    world.last_pod().containers[0] = crashes("OOMKilled", 137);
    silent(&world, "api-forbidden");
}

#[test]
fn a_container_that_ran_for_hours_before_its_probe_failed_is_not_slow_to_start() {
    let mut world = crashing_without_a_rollout("GET /basket 200");
    if let Some(last) = &mut world.last_pod().containers[0].last {
        last.started_at = Some(ago(300));
    }
    killed_by_its_probe(&mut world, "cart-h7-a");
    let finding = fires(&world, "probe-kills");
    assert!(!finding.says.as_str().contains("not up within"), "{}", finding.says);
    assert_eq!(finding.certainty, Certainty::Possible);

    // A kill of long ago says nothing about an end of now.
    let mut world = crashing_without_a_rollout("FATAL disk is full");
    world.event(
        named(Kind::Pod, "cart-h7-a"),
        "Killing",
        "Container app failed liveness probe, will be restarted",
        (50, 40),
    );
    silent(&world, "probe-kills");
}

#[test]
fn memory_that_grew_is_told_apart_from_memory_that_never_sufficed() {
    let mut world = World::cart(1, 0);
    world.revision(7, 9000, 0, template());
    world.pod("cart-h7-a", 7, 9000, crashes("OOMKilled", 137));
    assert!(!fires(&world, "memory-limit").says.as_str().contains("of running"));
    if let Some(last) = &mut world.last_pod().containers[0].last {
        last.started_at = Some(ago(49));
    }
    says(&fires(&world, "memory-limit"), &["after 48 min of running", "more load, or a leak"]);
}

#[test]
fn an_argument_that_is_called_revision_blames_no_revision() {
    let mut world = World::cart(1, 0);
    let args = vec![r("--revision-history=3")];
    let template =
        Template { containers: vec![Container { args, ..container("reg.example/shop/cart:1.0") }], ..template() };
    world.revision(7, 9000, 0, template).pod("cart-h7-a", 7, 9000, crashes("Error", 2));
    world.log("cart-h7-a", &[("error: unknown flag: --revision-history", 1)]);
    world.workload().gitops = Some("Argo CD".into());
    let found = fires(&world, "unknown-argument");
    assert_eq!((found.revision, found.ending), (None, true));
    let advice = world.report().advice.unwrap();
    assert!(!advice.as_str().contains("in Git"), "nothing there is known to be wrong: {advice}");
}

/// A cart that says that it lacks `asked`, and reads a ConfigMap with the key `REGION_NAME` under this prefix.
fn prefixed(prefix: &str, asked: &str) -> World {
    let mut world = crashing_without_a_rollout(&format!("FATAL: {asked} is not set"));
    config_map(&mut world, "cart-env", &["REGION_NAME"]);
    let source = Reference { kind: "ConfigMap".into(), name: r("cart-env"), optional: false, prefix: r(prefix) };
    let Part::Known(revisions) = &mut world.scene.revisions else { panic!() };
    for revision in revisions {
        revision.template.containers[0].env_from = vec![source.clone()];
    }
    world
}

#[test]
fn a_variable_of_a_source_with_a_prefix_is_looked_for_under_its_prefixed_name() {
    silent(&prefixed("", "REGION_NAME"), "env-missing");
    silent(&prefixed("CART_", "CART_REGION_NAME"), "env-missing");
    let found = fires(&prefixed("CART_", "REGION_NAME"), "env-missing");
    says(
        &found,
        &[
            "its template does not set REGION_NAME.",
            "ConfigMap cart-env holds it, but envFrom gives it as CART_REGION_NAME (prefix CART_).",
        ],
    );
    assert_eq!(found.certainty, Certainty::Likely, "the keys are known");
    let other = fires(&prefixed("CART_", "CART_CART_REGION"), "env-missing");
    assert!(!other.says.as_str().contains("holds it"), "{}", other.says);
}

#[test]
fn a_prefix_that_a_revision_brought_is_told_as_what_took_the_variable_away() {
    let line = ("envFrom", "ConfigMap cart-env", "ConfigMap cart-env (prefix CART_)");
    let mut world = after_a_rollout(2, line, crashes("Error", 1));
    config_map(&mut world, "cart-env", &["REGION_NAME"]);
    let source =
        |prefix: &str| Reference { kind: "ConfigMap".into(), name: r("cart-env"), optional: false, prefix: r(prefix) };
    let Part::Known(revisions) = &mut world.scene.revisions else { panic!() };
    revisions[0].template.containers[0].env_from = vec![source("CART_")];
    revisions[1].template.containers[0].env_from = vec![source("")];
    world.log("cart-h7-a", &[("FATAL: REGION_NAME is not set", 1)]);
    let found = fires(&world, "env-missing");
    says(&found, &["removed envFrom ConfigMap cart-env (without a prefix), which holds REGION_NAME"]);
    assert_eq!((found.certainty, undo(&world.report())), (Certainty::Proved, Some(6)));
}

#[test]
fn an_edit_of_a_key_that_is_read_under_a_prefix_is_known_by_the_variable_that_the_log_names() {
    let with = |prefix: &str| {
        let mut world = crashing_without_a_rollout("FATAL invalid CART_POOL_SIZE");
        config_map(&mut world, "cart-env", &["POOL_SIZE"]);
        edited(&mut world, "cart-env", 14);
        let source = Reference { kind: "ConfigMap".into(), name: r("cart-env"), optional: false, prefix: r(prefix) };
        world.workload().template.containers[0].env_from = vec![source];
        fires(&world, "config-edited")
    };
    let found = with("CART_");
    says(&found, &["the log names CART_POOL_SIZE: \"FATAL invalid CART_POOL_SIZE\""]);
    assert_eq!(found.certainty, Certainty::Likely);
    assert_eq!(with("SHOP_").certainty, Certainty::Possible, "the log names another variable");
}
