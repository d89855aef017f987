//! Answers of a real API server, replayed: the same requests get the same answers here.

use std::path::Path;

use serde_json::{Value, json};

use super::World;

/// Captures of which only status and reason are compared, and why.
const ALIKE: &[(&str, &str)] = &[
    ("badrequest-400", "the parser has its own words"),
    ("strict-field-validation-422", "the message quotes the whole object"),
    ("version", "the version is the snapshot's"),
];

/// Captures whose difference is wanted, and why.
const DIFFERENT: &[(&str, &str)] = &[
    ("anonymous-403", "without a token the caller is the admin here"),
    ("ssa-conflict-409", "apply knows no field ownership here"),
    ("openapi-v3-root", "only what kubectl needs of OpenAPI is served"),
    ("watch-from-rv-410-in-stream", "the real server's history went back further"),
];

fn capture(name: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/captures/kubernetes/{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn names() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/captures/kubernetes");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// The cluster as the captures saw it.
async fn world() -> World {
    let mut items = vec![
        capture("deployment")["body"].clone(),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "firstlook", "namespace": "shop",
               "uid": "7d21a2a8-f41f-4cb9-bcce-e10e52628be6"}}),
    ];
    for (name, kind) in [("replicasets", "ReplicaSet"), ("pods-list", "Pod"), ("events-core-v1", "Event")] {
        let list = capture(name)["body"].clone();
        for mut item in list["items"].as_array().unwrap().clone() {
            item["apiVersion"] = list["apiVersion"].clone();
            item["kind"] = json!(kind);
            items.push(item);
        }
    }
    let world = World::start_at("2026-11-22T14:41:59Z", json!({"items": items}), &[]).await;
    let mut touched = world.cluster.get("Deployment", "shop", "checkout").unwrap();
    touched["metadata"]["labels"]["app"] = json!("checkout");
    world.cluster.put(touched).unwrap();
    world
}

/// Brings the cluster to where it was when the capture was taken.
async fn prepare(world: &World, name: &str, capture: &Value) {
    let put = |object: &Value| world.cluster.put(object.clone()).unwrap();
    let body = &capture["body"];
    match name {
        "event-create" => drop(world.cluster.remove("Event", "shop", "checkout-584689cb68-4k4zk.17e")),
        "lease-create-again-409" => drop(ask(world, name, capture).await),
        "continue-expired-410" => {
            for _ in 0..5000 {
                put(&world.cluster.get("Deployment", "shop", "checkout").unwrap());
            }
        }
        "limit-continue" => put(&self::capture("pod-crashloop-status-patch")["body"]),
        "watch-initial-events-bookmark" => {
            let objects = body.as_array().unwrap().iter().map(|event| &event["object"]);
            objects.filter(|object| object["metadata"]["name"].is_string()).for_each(put);
        }
        // Taken from a Deployment in a later state.
        "warn-field-validation" => put(body),
        "ssa-apply" => {
            let mut before = body.clone();
            before["spec"]["replicas"] = json!(3);
            before["metadata"]["generation"] = json!(3);
            put(&before);
        }
        _ => {}
    }
}

/// What our server says to a capture's request: status, body (a watch's lines as a list).
async fn ask(world: &World, name: &str, capture: &Value) -> (u64, Value) {
    let asked = &capture["request"];
    let http = reqwest::Client::builder().build().unwrap();
    let url = format!("{}{}", world.url, asked["path"].as_str().unwrap());
    let mut request = http.request(
        asked["method"].as_str().unwrap().parse().unwrap(),
        url.replace("timeoutSeconds=3", "timeoutSeconds=1").replace("timeoutSeconds=4", "timeoutSeconds=1"),
    );
    if name == "unauthorized-401" {
        request = request.bearer_auth("expired");
    } else if asked["auth"] == "serviceaccount" {
        request = request.bearer_auth(world.token("shop", "firstlook").await);
    }
    if let Some(kind) = asked["content_type"].as_str() {
        let body = asked["body"].as_str().map(str::to_owned).unwrap_or_else(|| asked["body"].to_string());
        request = request.header("content-type", kind).body(body);
    }
    let answer = request.send().await.unwrap();
    let status = u64::from(answer.status().as_u16());
    let text = answer.text().await.unwrap();
    let body = if capture["body"].is_array() {
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect()
    } else {
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    };
    (status, body)
}

/// Makes equal what differs between any two servers: versions, uids, times, and who owns which field.
fn settle(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.remove("managedFields");
            map.retain(|_, inner| !inner.is_null());
            for (field, inner) in map.iter_mut() {
                let volatile = field == "resourceVersion" || field == "uid" || field == "continue" || field == "token";
                let time = field.ends_with("Timestamp") || field.ends_with("Time");
                if inner.is_string() && (volatile || time) {
                    *inner = json!("settled");
                } else {
                    settle(inner);
                }
            }
            map.remove("extra");
        }
        Value::Array(list) => list.iter_mut().for_each(settle),
        Value::String(text) if text.contains("resource version") => {
            *text = regex::Regex::new("\\d+").unwrap().replace_all(text, "n").into_owned();
        }
        _ => {}
    }
}

#[tokio::test]
async fn a_real_servers_answers_are_given() {
    let same = async |name: String| {
        let capture = capture(&name);
        let world = world().await;
        prepare(&world, &name, &capture).await;
        let (status, mut body) = ask(&world, &name, &capture).await;
        let mut expected = capture["body"].clone();
        if ALIKE.iter().any(|(alike, _)| *alike == name) {
            (body, expected) = (body["reason"].clone(), expected["reason"].clone());
        }
        settle(&mut body);
        settle(&mut expected);
        (status != capture["status"].as_u64().unwrap() || body != expected)
            .then(|| format!("{name}\n  ours   {status} {body}\n  theirs {} {expected}", capture["status"]))
    };
    let replayed = names().into_iter().filter(|name| !DIFFERENT.iter().any(|(other, _)| other == name)).map(same);
    let wrong: Vec<String> = futures::future::join_all(replayed).await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
