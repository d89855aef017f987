//! Claims about every scenario that ships: what a model would be sent first, what recorded ones come to.

use std::path::Path;

use serde_json::Value;

use super::*;

/// Every scenario's folder, by name.
fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/scenarios");
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join(CLUSTER_FILE).is_file());
    folders.sort();
    folders
}

/// Does `work` for each folder, on two threads with the stack of a main thread: unoptimised, a whole pipeline in one
/// future is deep.
fn for_each<T, F>(folders: &[PathBuf], work: impl Fn(PathBuf) -> F + Sync) -> Vec<(String, T)>
where
    T: Send,
    F: Future<Output = T>,
{
    let _ = rustls::crypto::ring::default_provider().install_default();
    let run = |half: &[PathBuf]| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let done = half.iter().map(|folder| {
            let name = folder.file_name().unwrap().to_string_lossy().into_owned();
            (name, runtime.block_on(work(folder.clone())))
        });
        done.collect::<Vec<_>>()
    };
    let halves = folders.split_at(folders.len() / 2);
    std::thread::scope(|scope| {
        let deep = || std::thread::Builder::new().stack_size(16 << 20);
        let first = deep().spawn_scoped(scope, || run(halves.0)).unwrap();
        let second = deep().spawn_scoped(scope, || run(halves.1)).unwrap();
        first.join().unwrap().into_iter().chain(second.join().unwrap()).collect()
    })
}

/// What a request weighs, in tokens.
fn tokens(request: &Value) -> usize {
    let tokens = tiktoken_rs::o200k_base_singleton();
    let count = |text: String| tokens.encode_ordinary(&text).len();
    let tools = count(request["tools"].to_string());
    assert!(tools <= 1_800, "{tools} tokens of tools");
    count(request["messages"].to_string()) + tools
}

#[test]
fn the_first_request_of_every_scenario_stays_small() {
    let folders = folders();
    assert!(folders.len() >= 48, "{} scenarios", folders.len());
    let asked = for_each(&folders, |folder| async move { Replay { folder, mind: Mind::None }.first_requests().await });
    let mut sizes = Vec::new();
    for (name, requests) in asked {
        sizes.extend(requests.unwrap().iter().map(|request| (tokens(request), name.clone())));
    }
    sizes.sort();
    let all = || sizes.iter().map(|(count, name)| format!("{count} {name}")).collect::<Vec<_>>().join("\n");
    assert!(sizes.last().unwrap().0 <= 3_500, "{}", all());
    println!("{}", all());
}

#[test]
fn a_recorded_model_names_the_culprit_and_offers_only_what_helps() {
    let mut folders = folders();
    folders.retain(|folder| folder.join("model").is_dir());
    assert!(folders.len() >= 6, "{} scenarios with a recorded model", folders.len());
    let truth = |folder: &Path| -> Value {
        serde_json::from_slice(&std::fs::read(folder.join("truth.json")).unwrap()).unwrap()
    };
    let ran = for_each(&folders, |folder| async move {
        let truth = truth(&folder);
        (truth, Replay { folder, mind: Mind::Scripted }.run().await)
    });
    for (name, (truth, result)) in ran {
        let result = result.unwrap();
        let message = result["message"].as_str().unwrap();
        assert!(result["usage"]["input_tokens"].as_u64() > Some(0), "{name}: no model was asked: {message}");
        assert!(!message.contains("from rules alone"), "{name}: its report did not stand: {message}");
        let mut culprits = truth["also_acceptable_culprits"].as_array().cloned().unwrap_or_default();
        culprits.push(truth["culprit"].clone());
        assert!(culprits.contains(&result["culprit"]), "{name}: {}", result["culprit"]);
        assert!(!result["citations"].as_array().unwrap().is_empty(), "{name}: nothing is cited");
        let mut right: Vec<&Value> = truth["acceptable_actions"].as_array().into_iter().flatten().collect();
        right.push(&truth["right_action"]);
        let right: Vec<&str> = right.iter().filter_map(|action| action["tool"].as_str()).collect();
        let offered: Vec<&str> =
            result["actions"].as_array().unwrap().iter().filter_map(|action| action["tool"].as_str()).collect();
        assert!(offered.iter().all(|tool| right.contains(tool)), "{name}: {offered:?}, not of {right:?}");
        assert!(!offered.is_empty() || right.contains(&"none"), "{name}: nothing is offered of {right:?}");
    }
}
