//! The attack corpus: every file of tests/attacks is an attempt to get around the gate, judged by what reached the world.

mod beside;
mod calls;
mod case;
mod doors;
mod judge;
mod patch;
mod siege;
mod world;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::sim::tests::attacks::case::Case;
use crate::sim::tests::attacks::siege::Siege;

/// The classes of attacks: the folders of tests/attacks.
const CLASSES: [&str; 11] = [
    "planted-instructions",
    "forged-approvals",
    "replayed-clicks",
    "path-and-name-tricks",
    "unicode-near-names",
    "oversized-and-nested",
    "other-incidents",
    "disabled-servers",
    "other-callers",
    "changed-meanwhile",
    "policy-typos",
];
/// Where an attack comes in: how its file's name begins.
const SURFACES: [&str; 7] = ["webhook", "cluster", "agent", "mcp", "slack", "file", "account"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/attacks")
}

/// The files of a class, in the order of their names.
fn files(class: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(class)).unwrap_or_else(|error| panic!("{class}: {error}"));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Where the attack of this file comes in.
fn surface(file: &Path) -> &'static str {
    let name = file.file_name().unwrap().to_str().unwrap();
    let found = SURFACES.iter().find(|surface| name.strip_prefix(**surface).is_some_and(|rest| rest.starts_with('-')));
    found.unwrap_or_else(|| panic!("{}: its name begins with none of {}", file.display(), SURFACES.join(", ")))
}

/// What came of an attack.
#[derive(Default)]
struct Outcome {
    /// What happened that must not.
    harm: Vec<String>,
    /// Steps that could not be taken at all, as a button that was not there: they prove nothing about a guard.
    unplayable: Vec<String>,
}

/// Runs every attack of a class: nothing that it must not do has happened, and with its guard taken away something has.
fn withstand(class: &str) {
    let only = std::env::var("FIRSTLOOK_ATTACK").unwrap_or_default();
    let mut broken = Vec::new();
    for file in files(class) {
        let name = format!("{class}/{}", file.file_stem().unwrap().to_str().unwrap());
        if !name.contains(&only) {
            continue;
        }
        let case = Case::read(&file);
        let began = std::time::Instant::now();
        let Outcome { harm, unplayable } = on_a_thread(&name, case.clone());
        if !only.is_empty() {
            println!("{name}: {:?}", began.elapsed());
        }
        broken.extend(harm.into_iter().chain(unplayable).map(|found| format!("{name}: {found}")));
        if let Some(unguarded) = case.unguarded() {
            let Outcome { harm, unplayable } = on_a_thread(&name, unguarded);
            broken.extend(unplayable.into_iter().map(|what| format!("{name}, unguarded, cannot be played: {what}")));
            if harm.is_empty() {
                broken.push(format!("{name}: without its guard it does no harm either, so it shows nothing"));
            } else if !only.is_empty() {
                println!("{name}, unguarded: {}", harm.join("; "));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

/// Runs one attack on a thread of its own, whose panics are counted: the stages together are more than a test's stack
/// holds.
fn on_a_thread(name: &str, case: Case) -> Outcome {
    let run = move || {
        if let Some(files) = case.files() {
            return Outcome { harm: files.iter().filter_map(doors::read).collect(), ..Outcome::default() };
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut siege = Siege::lay(case).await;
            let mut outcome = siege.run().await;
            outcome.harm.extend(siege.judge().await);
            outcome
        })
    };
    let panics = judge::panics_before(name);
    let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(16 << 20).spawn(run).unwrap();
    let mut outcome = thread.join().unwrap_or_default();
    // The siege itself panics where a step names what is not there.
    let (own, others): (Vec<_>, Vec<_>) =
        judge::panics_since(name, panics).into_iter().partition(|panic| panic.contains("sim/tests/attacks"));
    outcome.unplayable.extend(own);
    outcome.harm.extend(others);
    outcome
}

macro_rules! classes {
    ($($test:ident $class:literal,)*) => {
        $(#[test] fn $test() { withstand($class); })*

        #[test]
        fn every_class_is_run() {
            assert_eq!([$($class),*], CLASSES);
        }
    };
}

classes! {
    planted_instructions_change_nothing "planted-instructions",
    forged_and_altered_approvals_open_nothing "forged-approvals",
    replayed_clicks_count_once "replayed-clicks",
    paths_and_names_reach_what_they_name_and_nothing_else "path-and-name-tricks",
    names_that_only_look_right_are_not_right "unicode-near-names",
    oversized_and_nested_input_is_refused_and_nothing_falls "oversized-and-nested",
    ids_of_other_incidents_open_nothing "other-incidents",
    tools_that_are_not_offered_do_not_run "disabled-servers",
    tokens_of_others_reach_what_they_are_for "other-callers",
    what_changes_between_the_yes_and_the_deed_stops_it "changed-meanwhile",
    slips_in_files_are_refused_by_name "policy-typos",
}

/// Every class of attack comes in by every surface, or a line of reasons.yaml says why it cannot.
#[test]
fn every_cell_of_the_matrix_is_filled_or_says_why_not() {
    let text = std::fs::read_to_string(root().join("reasons.yaml")).unwrap();
    let reasons: BTreeMap<String, BTreeMap<String, String>> = serde_saphyr::from_str(&text).unwrap();
    let mut table = format!("{:24}{}\n", "", SURFACES.map(|surface| format!("{surface:>9}")).concat());
    let (mut wrong, mut count) = (Vec::new(), 0);
    for class in CLASSES {
        let surfaces: Vec<&str> = files(class).iter().map(|file| surface(file)).collect();
        count += surfaces.len();
        table.push_str(&format!("{class:24}"));
        for here in SURFACES {
            let cases = surfaces.iter().filter(|surface| **surface == here).count();
            let reason = reasons.get(class).and_then(|row| row.get(here));
            table.push_str(&format!("{:>9}", if cases == 0 { "-".to_owned() } else { cases.to_string() }));
            match (cases, reason) {
                (0, None) => wrong.push(format!("{class} by {here}: neither a case nor a reason")),
                (1.., Some(_)) => wrong.push(format!("{class} by {here}: a case and a reason why there is none")),
                _ => {}
            }
        }
        table.push('\n');
    }
    println!("{table}{count} attacks");
    assert!(wrong.is_empty(), "\n{table}\n{}\n", wrong.join("\n"));
    let folders = std::fs::read_dir(root()).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
    assert_eq!(folders, CLASSES.len(), "a folder of tests/attacks is no class");
    assert!(reasons.keys().all(|class| CLASSES.contains(&class.as_str())), "reasons.yaml names a class that is none");
}

/// Every guard that is listed has an attack that comes through without it, and every class shows some guard.
#[test]
fn every_guard_that_is_listed_is_shown_by_an_attack_that_comes_through_without_it() {
    let text = std::fs::read_to_string(root().join("guards.yaml")).unwrap();
    let guards: BTreeMap<String, Vec<String>> = serde_saphyr::from_str(&text).unwrap();
    let shows = |name: &String| {
        let file = root().join(format!("{name}.yaml"));
        file.is_file() && Case::read(&file).unguarded().is_some()
    };
    for (guard, cases) in &guards {
        let idle: Vec<&String> = cases.iter().filter(|name| !shows(name)).collect();
        assert!(!cases.is_empty() && idle.is_empty(), "{guard}: no run without it in {idle:?}");
    }
    // A switch of the attacks' own files that no guard is listed for would be shown by nothing.
    let patched = |key: &str| {
        guards.values().flatten().any(|name| {
            let text = std::fs::read_to_string(root().join(format!("{name}.yaml"))).unwrap();
            text.split("\nunguarded:").nth(1).is_some_and(|patch| patch.contains(key))
        })
    };
    for key in ["policy", "callers", "off", "plant", "as: ", "by: ", "server", "sent", "change", "pass", "send"] {
        assert!(patched(key), "no guard is listed that is taken away by `{key}`");
    }
}
